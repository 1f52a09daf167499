"""Pictures inside a page: which frames they show, and how many bytes they may take."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phagostat.report import pictures
from phagostat.report.finished import FinishedOutput
from phagostat.report.pictures import Shown, scene_pictures, spread_frames, still_frames

from .written import WrittenScene, write_output


def opened(shown: Shown) -> Image.Image:
    kind, data = shown.uri.split(",", 1)
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def n_bytes(shown: Shown) -> int:
    return len(base64.b64decode(shown.uri.split(",", 1)[1]))


def test_stills_are_the_first_and_last_usable_frames(output: FinishedOutput) -> None:
    usable = [frame.frame for frame in output.scene(0).frames if frame.usable]
    assert still_frames(output.scene(0)) == (usable[0], usable[-1])


def test_a_movie_shows_every_frame_where_there_is_room(output: FinishedOutput) -> None:
    found = scene_pictures(output, 0, n_scenes=2)
    assert found.movie is not None
    movie = opened(found.movie)
    assert movie.n_frames == len(found.movie.frames) == len(output.scene(0).frames)
    assert movie.size == (found.movie.width_px, found.movie.height_px) == opened(found.stills[0]).size
    assert scene_pictures(output, 0, n_scenes=2, movies=False).movie is None


def test_there_is_no_movie_of_frames_without_a_picture(tmp_path: Path) -> None:
    scene = WrittenScene(6, states=dict.fromkeys(range(6), "black"))
    found = scene_pictures(FinishedOutput(write_output(tmp_path / "movie", [scene])), 0, n_scenes=1)
    assert (len(found.stills), found.movie) == (1, None)


@pytest.mark.parametrize(("n", "shown"), [(1, 60), (2, 60), (60, 60), (61, 60), (210, 60), (210, 8), (5, 0)])
def test_frames_of_a_movie_are_spread_from_first_to_last(n: int, shown: int) -> None:
    frames = spread_frames(n, shown)
    assert len(frames) == min(n, shown)
    assert sorted(set(frames)) == list(frames)
    if shown:
        assert (frames[0], frames[-1]) == (0, n - 1)


@pytest.mark.parametrize("grain", [0, 90], ids=["smooth", "noisy"])
def test_the_share_of_the_budget_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grain: int) -> None:
    """Pictures that become busier with time, so that what stills promise is not what a movie takes."""
    output = FinishedOutput(write_output(tmp_path / "movie", [WrittenScene(30)]))

    def draw(_output: FinishedOutput, _scene: int, frame: int, *, width_px: int) -> np.ndarray:
        noise = np.random.default_rng(frame).normal(0, grain * (0 < frame < 29), (width_px, width_px, 3))
        return np.clip(128 + noise, 0, 255).astype(np.uint8)

    monkeypatch.setattr(pictures, "overlay_frame", draw)
    monkeypatch.setattr(pictures, "BUDGET_BYTES", 400_000)
    found = scene_pictures(output, 0, n_scenes=1)
    total = sum(n_bytes(shown) for shown in (*found.stills, *([found.movie] if found.movie else [])))
    assert total <= 400_000
    if not grain:
        assert found.movie is not None
        assert len(found.movie.frames) == 30
