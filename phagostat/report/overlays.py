"""A frame as a picture to look at: phase contrast, cells, aggregates, scale, time and verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import SettingsError
from phagostat.report.finished import FinishedOutput, FrameFacts, SceneFacts, covered, moved

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

# Okabe and Ito's palette, told apart with every kind of colour vision: https://jfly.uni-koeln.de/color/
CELLS: Final[Colour] = (86, 180, 233)
AGGREGATES: Final[Colour] = (230, 159, 0)
REJECTED: Final[Colour] = (213, 94, 0)
WHITE: Final[Colour] = (255, 255, 255)
BLACK: Final[Colour] = (0, 0, 0)
GROUND: Final[Colour] = (38, 38, 38)
"""Of placeholders, and of what a registered frame does not show."""
HATCH: Final[Colour] = (78, 78, 78)

MIN_WIDTH_PX: Final = 16
MAX_WIDTH_PX: Final = 16_384
FILL: Final = 0.45
"""Opacity of an aggregate's inside."""
SCALE_BAR_SHARE: Final = 0.22
"""A scale bar is the longest round length up to this share of the picture's width."""
_FRACTION_BITS: Final = 4  # of the coordinates of lines


def overlay_frame(
    output: FinishedOutput,
    scene: int,
    frame: int,
    *,
    registered: bool = True,
    width_px: int | None = None,
    scale_bar: bool = True,
    time_stamp: bool = True,
    verdict: bool = True,
    legend: bool = False,
) -> Picture:
    """Give a frame as a colour picture with its cells and aggregates drawn in.

    Parameters
    ----------
    output
        The analysis.
    scene, frame
        Their indices.
    registered
        Move the frame by its shift, in whole analysis pixels, so that the glass stands still; the border that this
        uncovers is hatched. A frame without a shift is shown where it is.
    width_px
        Width of the picture; the analysis grid's where None. The height keeps the shape.
    scale_bar, time_stamp, legend
        What is written into the picture.
    verdict
        Mark a frame that is not usable by a red frame and the reason in a word.

    Returns
    -------
    (y, x, 3) uint8
        Red, green, blue. A frame without any picture is a dark placeholder that says so.

    Raises
    ------
    StoreError
        If there is no such scene or frame, or a chunk is damaged.
    SettingsError
        If the width is out of range.

    Notes
    -----
    Cells are outlined in blue, aggregates outlined and filled in orange; lines are drawn at the picture's own
    resolution, so that they stay thin in a large picture and visible in a small one.
    """
    about, facts = output.scene(scene), output.frame(scene, frame)
    canvas = _Canvas.of(about.shape_yx, width_px)
    shift = output.shift_px(scene, frame) if registered else None
    grey = output.image(scene, frame, ChannelRole.CELLS)
    cells, aggregates = (output.labels(scene, frame, name) for name in ("cells", "aggregates"))
    if shift is not None:
        grey, cells, aggregates = (
            None if plane is None else moved(plane, shift) for plane in (grey, cells, aggregates)
        )
    picture = _ground(canvas, grey)
    if aggregates is not None:
        _draw_aggregates(picture, canvas, aggregates)
    if cells is not None:
        _draw_cells(picture, canvas, cells)
    if shift is not None:
        _mark_uncovered(picture, canvas, about.shape_yx, shift)
    if grey is None:
        _say_placeholder(picture, facts, none_at_all=aggregates is None)
    if verdict and not facts.usable:
        _mark_rejected(picture, facts)
    if time_stamp:
        _write(picture, time_text(facts, about), at="top left")
    if scale_bar:
        _draw_scale_bar(picture, canvas.scale / output.pixel_size_um)
    if legend:
        shown = ((ChannelRole.CELLS, CELLS), (ChannelRole.AGGREGATES, AGGREGATES))
        _draw_legend(picture, [(role.value, colour) for role, colour in shown if role in output.roles])
    return picture


def time_text(facts: FrameFacts, scene: SceneFacts) -> str:
    """Give a frame's time as it is written into pictures: ``1:24 h``, ``24 min`` or ``45 s`` by the scene's length."""
    if not math.isfinite(facts.time_s):
        return f"frame {facts.frame}"
    sign, seconds = ("-" if round(facts.time_s) < 0 else ""), abs(round(facts.time_s))
    if scene.duration_s >= 3600:
        minutes = round(abs(facts.time_s) / 60)
        return f"{sign}{minutes // 60}:{minutes % 60:02} h"
    if scene.duration_s < 120:
        return f"{sign}{seconds} s"
    if all(round(other.time_s) % 60 == 0 for other in scene.frames if math.isfinite(other.time_s)):
        return f"{sign}{seconds // 60} min"
    return f"{sign}{seconds // 60}:{seconds % 60:02} min"


def round_length_um(longest_um: float) -> float:
    """Give the longest of 1, 2 and 5 times a power of ten that is not longer than this."""
    power = 10.0 ** math.floor(math.log10(longest_um) + 1e-9)
    return max(step * power for step in (1, 2, 5) if step * power <= longest_um * (1 + 1e-9))


def check_width(width_px: int | None) -> None:
    """Check that a picture can have this width; None is the analysis grid's.

    Raises
    ------
    SettingsError
        If it cannot.
    """
    if width_px is not None and not MIN_WIDTH_PX <= width_px <= MAX_WIDTH_PX:
        raise SettingsError(
            "a picture cannot have this width",
            where="width_px",
            found=width_px,
            remedy=f"choose {MIN_WIDTH_PX} to {MAX_WIDTH_PX}",
        )


class _Canvas(NamedTuple):
    """Size of the picture, and how many of its pixels an analysis pixel takes."""

    shape_yx: tuple[int, int]
    scale: float

    @classmethod
    def of(cls, shape_yx: tuple[int, int], width_px: int | None) -> _Canvas:
        height, width = shape_yx
        if width_px is None:
            return cls(shape_yx, 1.0)
        check_width(width_px)
        return cls((max(1, round(height * width_px / width)), width_px), width_px / width)

    def points(self, points_xy: NDArray[np.floating]) -> NDArray[np.int32]:
        """Pixel centres of the analysis grid in fixed-point coordinates of the picture."""
        inside = (points_xy + 0.5) * self.scale - 0.5
        fixed: NDArray[np.int32] = np.rint(inside * (1 << _FRACTION_BITS)).astype(np.int32)
        return fixed

    @property
    def line_px(self) -> int:
        """Width of outlines."""
        return max(1, round(min(self.shape_yx) / 600))


def _ground(canvas: _Canvas, grey: NDArray[np.uint8] | None) -> Picture:
    height, width = canvas.shape_yx
    if grey is None:
        return np.full((height, width, 3), GROUND, np.uint8)
    if grey.shape != canvas.shape_yx:
        method = cv2.INTER_AREA if canvas.scale < 1 else cv2.INTER_CUBIC
        grey = cv2.resize(grey, (width, height), interpolation=method)
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))


def _contours(mask: NDArray[np.uint8], corner_xy: tuple[int, int] = (0, 0)) -> list[NDArray[np.float64]]:
    """Outlines of a mask through the centres of its outermost pixels, holes included, as (n, 2) x and y."""
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [contour.reshape(-1, 2) + np.asarray(corner_xy, np.float64) for contour in found]


def _outlines(labels: NDArray[np.uint16]) -> Iterator[NDArray[np.float64]]:
    for label, place in enumerate(find_objects(labels), start=1):
        if place is not None:
            mask = np.asarray(labels[place] == label, np.uint8)
            yield from _contours(mask, (place[1].start, place[0].start))


def _smoothed(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """An outline without the stairs of its pixels: each point the mean of itself and its neighbours."""
    if len(outline) < 8:
        return outline
    around = [np.roll(outline, step, axis=0) for step in (-2, -1, 0, 1, 2)]
    return np.asarray(np.mean(around, axis=0))


def _draw_cells(picture: Picture, canvas: _Canvas, labels: NDArray[np.uint16]) -> None:
    lines = [canvas.points(_smoothed(outline)) for outline in _outlines(labels)]
    if lines:
        cv2.polylines(picture, lines, True, CELLS, canvas.line_px, cv2.LINE_AA, _FRACTION_BITS)


def _draw_aggregates(picture: Picture, canvas: _Canvas, labels: NDArray[np.uint16]) -> None:
    # thousands are possible, so all at once; those that touch share an outline
    found = _contours(np.asarray(labels > 0, np.uint8))
    if not found:
        return
    lines = [canvas.points(outline) for outline in found]
    filled = picture.copy()
    cv2.fillPoly(filled, lines, AGGREGATES, cv2.LINE_AA, _FRACTION_BITS)
    cv2.addWeighted(filled, FILL, picture, 1 - FILL, 0.0, dst=picture)
    cv2.polylines(picture, lines, True, AGGREGATES, canvas.line_px, cv2.LINE_AA, _FRACTION_BITS)


def _mark_uncovered(picture: Picture, canvas: _Canvas, shape_yx: tuple[int, int], shift: tuple[int, int]) -> None:
    height, width = canvas.shape_yx
    spans = [covered(n, s) for n, s in zip(shape_yx, shift, strict=True)]
    (top, bottom), (left, right) = (tuple(round(edge * canvas.scale) for edge in span) for span in spans)
    outside = np.ones((height, width), np.bool_)
    outside[top:bottom, left:right] = False
    if not outside.any():
        return
    picture[outside] = GROUND
    step = max(6, width // 80)
    across = (np.arange(height)[:, None] + np.arange(width)[None, :]) % step < max(1, step // 6)
    picture[outside & across] = HATCH


def _mark_rejected(picture: Picture, facts: FrameFacts) -> None:
    height, width = picture.shape[:2]
    thick = max(2, round(min(height, width) / 128))
    cv2.rectangle(picture, (0, 0), (width - 1, height - 1), REJECTED, 2 * thick - 1)
    _write(picture, f"not used: {facts.state_text}", at="top right", background=REJECTED)


def _say_placeholder(picture: Picture, facts: FrameFacts, *, none_at_all: bool) -> None:
    said = f"no picture: {facts.state_text}" if none_at_all and not facts.usable else "no phase contrast"
    _write(picture, said, at="centre", background=None)


# ---- letters and bars ------------------------------------------------------------------------------------------------


def _font_px(picture: Picture) -> int:
    shorter: int = min(picture.shape[0], picture.shape[1])
    return max(9, (shorter + 13) // 26)


class _Text(NamedTuple):
    """A line of text: its font and size, and the box of letters with and without ascenders and descenders."""

    face: Any
    size: int
    width: int
    height: int

    @classmethod
    def of(cls, text: str, size: int) -> _Text:
        face = cv2.FontFace("sans")
        _, _, width, _ = cv2.getTextSize((1, 1), text, (0, 0), face, size, 600)
        return cls(face, size, int(width), round(size * 0.72))


def _fitting(text: str, size: int, room_px: int) -> _Text | None:
    """The text at the largest size, down to 7 px, that fits; None where none does."""
    for smaller in range(size, 6, -1):
        line = _Text.of(text, smaller)
        if line.width <= room_px:
            return line
    return None


def _write(picture: Picture, text: str, *, at: str, background: Colour | None = BLACK) -> None:
    """Write a line of white text on a plate in a corner or the middle; nothing where it does not fit."""
    height, width = picture.shape[:2]
    size = _font_px(picture)
    margin, pad = size // 2, size // 3
    room = width - 2 * (margin + pad)
    if at.startswith("top"):  # time on the left, verdict on the right
        room = round(room * (0.3 if at == "top left" else 0.66))
    line = _fitting(text, size, room)
    if line is None or line.height + 2 * (margin + pad) > height:
        return
    if at == "centre":
        x, y = (width - line.width) // 2, (height + line.height) // 2
    else:
        x = margin + pad if at == "top left" else width - margin - pad - line.width
        y = margin + pad + line.height
    if background is not None:
        _plate(picture, (x - pad, y - line.height - pad, x + line.width + pad, y + pad), background)
    cv2.putText(picture, text, (x, y), WHITE, line.face, line.size, 600)


def _plate(picture: Picture, box_xyxy: tuple[int, int, int, int], colour: Colour) -> None:
    """Darken (or colour) a box so that what is written on it can be read on any ground."""
    left, top, right, bottom = box_xyxy
    part = picture[max(0, top) : bottom, max(0, left) : right]
    opacity = 0.55 if colour == BLACK else 0.9
    part[:] = np.rint(part * (1 - opacity) + np.asarray(colour) * opacity).astype(np.uint8)


def _draw_scale_bar(picture: Picture, px_per_um: float) -> None:
    height, width = picture.shape[:2]
    length_um = round_length_um(SCALE_BAR_SHARE * width / px_per_um)
    length_px = max(1, round(length_um * px_per_um))
    size = _font_px(picture)
    margin, pad, thick = size // 2, size // 3, max(2, size // 5)
    line = _fitting(f"{length_um:g} µm", size, width - 2 * (margin + pad))
    if line is None or line.height + thick + 3 * pad + 2 * margin > height // 2:
        return
    room = max(length_px, line.width)
    right, bottom = width - margin - pad, height - margin - pad
    top = bottom - thick - pad - line.height
    _plate(picture, (right - room - pad, top - pad, right + pad, bottom + pad), BLACK)
    middle = right - room // 2
    left = middle - length_px // 2
    picture[bottom - thick : bottom, left : left + length_px] = WHITE
    cv2.putText(
        picture, f"{length_um:g} µm", (middle - line.width // 2, top + line.height), WHITE, line.face, line.size, 600
    )


def _draw_legend(picture: Picture, entries: Sequence[tuple[str, Colour]]) -> None:
    height, width = picture.shape[:2]
    size = _font_px(picture)
    margin, pad, swatch = size // 2, size // 3, round(size * 0.72)
    lines = [_fitting(name, size, width // 3) for name, _ in entries]
    known = [line for line in lines if line is not None]
    room = sum(line.width + swatch + 3 * pad for line in known) - pad
    if len(known) < len(lines) or room + 2 * (margin + pad) > 0.7 * width or swatch + 2 * (margin + pad) > height // 2:
        return
    left, bottom = margin + pad, height - margin - pad
    _plate(picture, (left - pad, bottom - swatch - pad, left + room + pad, bottom + pad), BLACK)
    for line, (name, colour) in zip(known, entries, strict=True):
        cv2.rectangle(picture, (left, bottom - swatch), (left + swatch - 1, bottom - 1), colour, max(1, size // 10))
        cv2.putText(picture, name, (left + swatch + pad, bottom), WHITE, line.face, line.size, 600)
        left += swatch + line.width + 3 * pad
