"""Stills and movies that stand in a page itself, as data URIs, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from phagostat.report.finished import FinishedOutput, SceneFacts
from phagostat.report.overlays import Picture, overlay_frame

BUDGET_BYTES: Final = 13_000_000
"""Of all pictures of a page, encoded; as text in the page they take a third more."""
STILL_QUALITY: Final = 72
MOVIE_QUALITY: Final = 50
MAX_MOVIE_FRAMES: Final = 60
MIN_MOVIE_FRAMES: Final = 8
FRAME_MS: Final = 150


@dataclass(frozen=True)
class Shown:
    """A picture in a page.

    Parameters
    ----------
    uri
        Its data URI.
    width_px, height_px
        Its size.
    frames
        Indices of the frames that it shows, one for a still.
    """

    uri: str
    width_px: int
    height_px: int
    frames: tuple[int, ...]


@dataclass(frozen=True)
class ScenePictures:
    """Pictures of a scene: a few stills and, where there is room, a movie."""

    stills: tuple[Shown, ...]
    movie: Shown | None


def picture_width_px(n_scenes: int) -> int:
    """Width of a page's pictures: the more scenes, the smaller."""
    return 440 if n_scenes <= 24 else 320 if n_scenes <= 100 else 200 if n_scenes <= 300 else 120


def movie_width_px(n_scenes: int) -> int:
    """Width of a page's movies: of many scenes smaller than stills, so that they have enough frames."""
    return 440 if n_scenes <= 6 else 280 if n_scenes <= 24 else min(200, picture_width_px(n_scenes))


def still_frames(scene: SceneFacts) -> tuple[int, ...]:
    """Frames that are shown as stills: the first and the last usable ones, or the first where none is usable."""
    usable = [frame.frame for frame in scene.frames if frame.usable]
    if not usable:
        return (scene.frames[0].frame,) if scene.frames else ()
    return (usable[0],) if len(usable) == 1 else (usable[0], usable[-1])


def spread_frames(n_frames: int, n_shown: int) -> tuple[int, ...]:
    """Frames of a movie: at most ``n_shown``, evenly spread, the first and the last among them."""
    chosen = np.linspace(0, n_frames - 1, min(n_frames, n_shown)).round().astype(int)
    return tuple(int(i) for i in np.unique(chosen))


def scene_pictures(output: FinishedOutput, scene: int, *, n_scenes: int, movies: bool = True) -> ScenePictures:
    """Draw a scene's pictures within its share of the page's budget.

    Parameters
    ----------
    output
        The analysis.
    scene
        Index of the scene.
    n_scenes
        How many scenes share the page.
    movies
        Whether there are movies.

    Raises
    ------
    StoreError
        If a chunk cannot be read.
    """
    about = output.scene(scene)
    width, budget = picture_width_px(n_scenes), BUDGET_BYTES // max(n_scenes, 1)
    movie_width = movie_width_px(n_scenes)

    def draw(frame: int, width_px: int = movie_width) -> Picture:
        return overlay_frame(output, scene, frame, width_px=width_px)

    stills, sizes = [], []
    for frame in still_frames(about):
        picture = draw(frame, width)
        data = _still(picture)
        sizes.append(len(data))
        stills.append(Shown(_uri(data), picture.shape[1], picture.shape[0], (frame,)))
    movie = None
    shown = [output.image_series(scene, role) for role in output.roles]
    seen = any(f.usable or any(output.has_plane(series, f.frame) for series in shown) for f in about.frames)
    if movies and stills and seen:
        # frames of a movie are coarser than stills and are coded as differences where they are alike
        left = budget - sum(sizes)
        expected = 0.9 * max(sizes) * (movie_width / width) ** 2
        affordable = min(MAX_MOVIE_FRAMES, int(left / expected))
        movie = _fitting_movie(draw, len(about.frames), affordable, left)
    return ScenePictures(tuple(stills), movie)


def _fitting_movie(draw: Callable[[int], Picture], n_frames: int, n_shown: int, budget: int) -> Shown | None:
    """A movie of at most this many frames and bytes, with fewer frames where it is too large; None if too few fit."""
    while n_shown >= min(MIN_MOVIE_FRAMES, n_frames) and n_shown > 1 and n_frames > 1:
        chosen = spread_frames(n_frames, n_shown)
        drawn = [draw(frame) for frame in chosen]
        data = _movie(drawn)
        if len(data) <= budget:
            return Shown(_uri(data), drawn[0].shape[1], drawn[0].shape[0], chosen)
        n_shown = min(n_shown - 1, int(0.9 * len(chosen) * budget / len(data)))
    return None


def _still(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=STILL_QUALITY, method=4)
    return buffer.getvalue()


def _movie(pictures: Sequence[Picture]) -> bytes:
    first, *others = [Image.fromarray(picture) for picture in pictures]
    buffer = io.BytesIO()
    first.save(
        buffer, "WEBP", save_all=True, append_images=others, duration=FRAME_MS, loop=0,
        quality=MOVIE_QUALITY, method=3,
    )  # fmt: skip
    return buffer.getvalue()


def _uri(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
