"""Movies, read back by decoders that had no part in writing them."""

from __future__ import annotations

import sys
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from phagostat.model.errors import SettingsError, StoreError
from phagostat.report import gif
from phagostat.report.movies import SUFFIXES, write_movie
from phagostat.report.overlays import AGGREGATES, CELLS, overlay_frame

WIDTH = 161  # odd, and so is its height


@pytest.fixture(params=SUFFIXES)
def suffix(request):
    if request.param == ".mp4":
        pytest.importorskip("av")
    return request.param


def frames_of(path) -> tuple[list[np.ndarray], float]:
    """All frames in RGB, and frames a second."""
    if path.suffix == ".webp":
        with Image.open(path) as opened:
            shown = []
            for k in range(opened.n_frames):
                opened.seek(k)
                shown.append(np.asarray(opened.convert("RGB")))
            return shown, 1000 / opened.info["duration"]
    capture = cv2.VideoCapture(str(path))  # FFmpeg: Pillow writes the GIFs
    shown = []
    while True:
        there, frame = capture.read()
        if not there:
            return shown, capture.get(cv2.CAP_PROP_FPS)
        shown.append(frame[..., ::-1])


def test_a_movie_shows_the_overlays(output, tmp_path, suffix):
    path = tmp_path / f"movie{suffix}"
    told = []
    assert write_movie(output, 0, path, fps=5, width_px=WIDTH, progress=lambda *at: told.append(at)) == 7
    assert told == [(k, 7) for k in range(1, 8)]
    shown, fps = frames_of(path)
    assert fps == pytest.approx(5)
    assert len(shown) == 7
    for k, frame in enumerate(shown):
        expected = overlay_frame(output, 0, k, width_px=WIDTH, legend=True)
        height, width = expected.shape[:2]
        even = suffix == ".mp4"
        assert frame.shape == (height + (height % 2) * even, width + (width % 2) * even, 3)
        difference = np.abs(frame[:height, :width].astype(int) - expected)
        assert difference.mean() < 8, k
        others = [
            np.abs(other[:height, :width].astype(int) - expected).mean() for i, other in enumerate(shown) if i != k
        ]
        assert difference.mean() < min(others), k  # it is this frame and no other
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_every_nth_of_chosen_frames(output, tmp_path, suffix):
    path = tmp_path / f"movie{suffix}"
    assert write_movie(output, 0, path, every=2, frames=range(1, 6), width_px=WIDTH) == 3
    shown, _ = frames_of(path)
    assert len(shown) == 3
    for frame, k in zip(shown, (1, 3, 5), strict=True):
        expected = overlay_frame(output, 0, k, width_px=WIDTH, legend=True)
        assert np.abs(frame[: expected.shape[0], :WIDTH].astype(int) - expected).mean() < 8


def test_a_movie_of_one_frame(output, tmp_path, suffix):
    path = tmp_path / f"movie{suffix}"
    assert write_movie(output, 1, path, frames=[1], width_px=WIDTH) == 1
    frame = frames_of(path)[0][0] if suffix == ".mp4" else cv2.imread(str(path))[..., ::-1]
    expected = overlay_frame(output, 1, 1, width_px=WIDTH, legend=True)
    assert np.abs(frame[: expected.shape[0], :WIDTH].astype(int) - expected).mean() < 8


def test_the_same_bytes_every_time(output, tmp_path, suffix):
    for name in "ab":
        write_movie(output, 0, tmp_path / f"{name}{suffix}", width_px=WIDTH)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_frames_are_forgotten_once_they_are_written(output, tmp_path, suffix):
    """The peak of what Python holds is that of a few frames, however many there are."""
    peaks = []
    for n_frames in (6, 36):
        tracemalloc.start()
        write_movie(output, 0, tmp_path / f"m{suffix}", frames=[0, 1, 3] * (n_frames // 3), width_px=WIDTH * 2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_pixels_are_those_that_every_player_takes(output, tmp_path):
    av = pytest.importorskip("av")
    write_movie(output, 0, tmp_path / "m.mp4", width_px=WIDTH)
    with av.open(str(tmp_path / "m.mp4")) as opened:
        context = opened.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert context.colorspace == 1
    data = (tmp_path / "m.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it begins to play before it is all there


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fps": 0}, r"fps: .*\(found: 0\)"),
        ({"fps": 1e-4}, r"fps: .*\(found: 0.0001\)"),
        ({"every": 0}, r"every: .*\(found: 0\)"),
        ({"frames": []}, "no frames are left"),
        ({"width_px": 2}, r"width_px: .*\(found: 2\)"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_nothing(output, tmp_path, options, sentence):
    with pytest.raises(SettingsError, match=sentence):
        write_movie(output, 0, tmp_path / "m.webp", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_gif_has_its_own_limits(output, tmp_path):
    for options, sentence in (({"fps": 60}, r"choose 0\.1 to 50"), ({"width_px": 1025}, "at most 1024")):
        with pytest.raises(SettingsError, match=sentence):
            write_movie(output, 0, tmp_path / "m.gif", **options)
    assert list(tmp_path.iterdir()) == []
    write_movie(output, 0, tmp_path / "m.gif", frames=[0, 1, 3], fps=30)
    with Image.open(tmp_path / "m.gif") as opened:
        assert opened.width == min(gif.DEFAULT_WIDTH_PX, output.scene(0).shape_yx[1])
        assert opened.info["loop"] == 0
        lasting = []
        for k in range(3):
            opened.seek(k)
            lasting.append(opened.info["duration"])
        assert set(lasting) == {30, 40}  # ms: 33 cannot be said
        assert sum(lasting) == 100
    assert gif.default_width_px((1024, 1024), 10) == 480
    assert 300 < gif.default_width_px((1024, 1024), 210) < 400
    assert gif.default_width_px((1024, 1024), 5000) == gif.LEAST_DEFAULT_WIDTH_PX


def test_a_gif_keeps_to_its_greys_and_marks_however_long_it_runs(tmp_path):
    """What is left as it is never drifts from what should be shown, and what has changed is shown."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 40 * 50).reshape(40, 50)
    pictures = []
    for k in range(30):  # greys that creep up and jitter, and a mark that wanders
        grey = np.clip(ramp + k / 2 + rng.normal(0, 3, ramp.shape), 0, 255).round().astype(np.uint8)
        picture = np.repeat(grey[..., None], 3, axis=2)
        picture[5:9, k : k + 6] = CELLS
        picture[20:24, 40 - k : 46 - k] = AGGREGATES
        pictures.append(picture)
    pictures.append(pictures[-1])
    gif.write_gif(tmp_path / "m.gif", lambda k: pictures[k], len(pictures), 10)
    shown, fps = frames_of(tmp_path / "m.gif")
    assert (len(shown), fps) == (31, pytest.approx(10))
    for frame, picture in zip(shown, pictures, strict=True):
        assert np.abs(frame.astype(int) - picture).max() <= 2 * 255 / 63 + 3  # a step kept, and one of rounding
    plain = sum(len(gif._coded(gif._indices(p), 100)) for p in pictures)
    assert (tmp_path / "m.gif").stat().st_size < 0.8 * plain


def test_unknown_kinds_and_missing_encoders_are_said(output, tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"\(found: \.avi\); choose \.mp4 or \.webp or \.gif"):
        write_movie(output, 0, tmp_path / "m.avi")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SettingsError, match=r"MP4 needs PyAV .*install it with pip"):
        write_movie(output, 0, tmp_path / "m.mp4")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        write_movie(output, 0, tmp_path / "file" / "m.webp", width_px=WIDTH)
