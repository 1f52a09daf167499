"""What is left of the reference's aggregates in a frame, pixel by pixel, and where what is gone shows up instead."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.aggregate_displacement import found_elsewhere, light_that_came
from phagostat.kernels.aggregate_overlap import Territories, parts_above
from phagostat.kernels.compilation import compiled
from phagostat.kernels.vignette import without_glow

SURVIVAL = np.dtype(
    [
        ("reference", np.uint16),
        ("left_px", np.float64),
        ("above_px", np.float64),
        ("dimmed_px", np.float64),
        ("seen_fraction", np.float64),
        ("moved_px", np.float64),
        ("moved_y_px", np.float64),
        ("moved_x_px", np.float64),
        ("moved_light", np.float64),
        ("moved_all", np.float64),
    ]
)
"""Columns of :func:`measure_survival`."""

_MOST_PIXELS = 20_000  # that the focus of a frame is told from
_ROUNDS = 5
_LOSSY = 0.85  # of which less than this share is left, the rest is looked for
_DARK, _LIT = 0.8, 1.2  # of the threshold: from the one to the other a pixel counts in part
_DIM, _SAME = 0.89, 0.95  # shares of its light between which a pixel is dimmed in part
_LEAST_AREA_PX = 4.0  # smaller ones have no shape


@dataclass(frozen=True)
class SurvivalReference:
    """The pixels of the reference's aggregates; made once a scene by :func:`prepare_survival`.

    Parameters
    ----------
    flat : (n_pixels,) int64
        Flat indices of the pixels of all footprints on the analysis grid, aggregate by aggregate.
    start : (n + 1,) int64
        Where each aggregate's pixels begin in ``flat``; the last is their number.
    weight : (n_pixels,) float64
        Part of each pixel that lies above the threshold.
    light : (n_pixels,) float64
        Counts above background, under an even lamp and without the uneven part of the glow.
    local : (n_pixels,) float64
        That uneven part, in counts.
    bend_yy, bend_xx, bend : (n_pixels,) float64
        Second differences of the light along y and x, and the Laplacian of the slightly smoothed light: what a frame
        shows that lies between the pixels, or that is not as sharp.
    plane : (y, x) float32
        The reference frame above background, under an even lamp.
    territory : (y, x) uint16
        Whose part of the glass each pixel is, 0: nobody's.
    place : (y, x) int32
        Where each pixel is in ``flat``; -1: in no footprint.
    touches_border : (n,) bool
        Whether a footprint reaches the edge of the reference frame.
    loss : float
        Of the lamp, as :func:`~phagostat.kernels.vignette.vignette_loss` gives it.
    threshold_counts : float
        Threshold above background.
    """

    flat: NDArray[np.int64]
    start: NDArray[np.int64]
    weight: NDArray[np.float64]
    light: NDArray[np.float64]
    local: NDArray[np.float64]
    bend_yy: NDArray[np.float64]
    bend_xx: NDArray[np.float64]
    bend: NDArray[np.float64]
    plane: NDArray[np.float32]
    territory: NDArray[np.uint16]
    place: NDArray[np.int32]
    touches_border: NDArray[np.bool_]
    loss: float
    threshold_counts: float

    @property
    def area_px(self) -> NDArray[np.float64]:
        """(n,) area of each footprint, pixels on the outline counted in part."""
        return _sums(self.weight, self.start)


def _sums(values: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of the values of each aggregate."""
    if len(start) < 2:
        return np.zeros(0)
    sums = np.add.reduceat(np.append(values, 0.0), start[:-1])
    return np.where(start[1:] > start[:-1], sums, 0.0)


def prepare_survival(
    frame: NDArray[np.integer],
    labels: NDArray[np.uint16],
    territories: Territories,
    *,
    background: float,
    threshold_counts: float,
    loss: float,
    unevenness: NDArray[np.float32] | None = None,
) -> SurvivalReference:
    """Take the aggregates of the reference frame apart into pixels.

    Parameters
    ----------
    frame : (y, x) uint16
        The reference frame on the analysis grid under an even lamp
        (:func:`~phagostat.kernels.vignette.without_vignette`).
    labels : (y, x) uint16
        Its label image, the smallest aggregates included.
    territories : Territories
        Of these labels.
    background, threshold_counts : float
        Its background level and the threshold above it, in counts.
    loss : float
        What the lamp was evened with.
    unevenness : (y, x) float32, optional
        How much brighter than usual the glow is (:func:`~phagostat.kernels.vignette.uneven_glow`); it lies on the
        glass and moves with it.

    Returns
    -------
    SurvivalReference
        Possibly of no aggregate.
    """
    glow = np.zeros(frame.shape, np.float32) if unevenness is None else unevenness
    flat, part = parts_above(without_glow(frame, glow), background + threshold_counts)
    owner = territories.image.ravel()[flat]
    order = np.flatnonzero(owner)
    order = order[np.argsort(owner[order], kind="stable")]
    flat, part, owner = flat[order].astype(np.int64), part[order], owner[order]
    n = territories.size_px.size
    start = np.searchsorted(owner, np.arange(1, n + 2)).astype(np.int64)
    plane = frame.astype(np.float32) - np.float32(background)
    edged = np.pad(plane, 1, mode="edge")
    bend_yy = edged[2:, 1:-1] + edged[:-2, 1:-1] - 2 * plane
    bend_xx = edged[1:-1, 2:] + edged[1:-1, :-2] - 2 * plane
    bend = cv2.Laplacian(cv2.GaussianBlur(plane, (0, 0), 0.8), cv2.CV_32F, ksize=1)
    touches = np.zeros(n + 1, np.bool_)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touches[line] = True
    place = np.full(frame.shape, -1, np.int32)
    place.ravel()[flat] = np.arange(flat.size)

    def at(image: NDArray[np.float32]) -> NDArray[np.float64]:
        return image.ravel()[flat].astype(np.float64)

    local = at(glow)

    return SurvivalReference(
        flat=flat,
        start=start,
        weight=part,
        light=at(plane) - local,
        local=local,
        bend_yy=at(bend_yy),
        bend_xx=at(bend_xx),
        bend=at(np.asarray(bend, np.float32)),
        plane=plane,
        territory=territories.image,
        place=place,
        touches_border=touches[1:],
        loss=float(loss),
        threshold_counts=float(threshold_counts),
    )


def measure_survival(
    frame: NDArray[np.integer],
    reference: SurvivalReference,
    *,
    shift_yx_px: tuple[float, float],
    factor: int,
    background: float,
    bleaching_factor: float = 1.0,
    gone_ratio: float = 0.62,
    whole_ratio: float = 0.88,
    search_px: int = 44,
    least_step_px: int = 2,
) -> NDArray[np.void]:
    """What is left of each reference aggregate in this frame.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the analysis grid, as recorded (under the uneven lamp).
    reference : SurvivalReference
        Of the scene.
    shift_yx_px : (float, float)
        Shift of this frame against the reference in native pixels, as registration reports it.
    factor : int
        Native pixels per analysis pixel.
    background : float
        Background level of this frame under an even lamp, in counts.
    bleaching_factor : float
        By how much the aggregates of this frame have faded against the reference.
    gone_ratio, whole_ratio : float
        A pixel with less than the one share of its light is gone, with more than the other it is there; between them
        in part.
    search_px : int
        How far away, in analysis pixels, that which is gone from its place is looked for.
    least_step_px : int
        Shorter ways are no movement.

    Returns
    -------
    (n,) structured array of type :data:`SURVIVAL`
        ``left_px``: area of the footprint that is still there, in analysis pixels; where part of the footprint is out
        of the frame, of the part that is not. ``above_px``: the area of it that is above the threshold, pixels that
        keep their light included; ``dimmed_px``: the part of that which is dimmer than it was. ``seen_fraction``: the
        share of the footprint inside the frame.
        ``moved_px``: area of what is gone from the footprint and shows, in the same shape and about the same
        brightness, at one other place where the reference frame had nothing; ``moved_y_px, moved_x_px``: how far away
        that is, in native pixels; ``moved_light``: its light relative to the reference frame's; 0 where there is no
        such place. ``moved_all``: above 0 where all of the aggregate, and not only what is gone, shows there.

    Notes
    -----
    Of a bright aggregate in which a cell leaves a piece, that piece is darker and still above the threshold: it lies
    where it was, and ``left_px`` says too little. What a cell has just taken is dimmer as well, and above the threshold
    for a frame or two. Which of the two it was, the next frame tells: so both areas are given.

    Comparing a pixel with itself asks neither how bright the aggregate is against the threshold nor how large it is:
    an aggregate that nobody touches keeps all of its area, in every frame, whatever its light does near the outline.
    What a cell has taken up is quenched, or moves: its pixels fall below their share before they fall below any
    threshold.

    Two things change pixels without anything being eaten. A shift by parts of a pixel: the frame is interpolated
    linearly, which blurs by ``f * (1 - f)`` px2 along each axis, f being the part; the reference is bent by as much.
    Another focus: to first order a blur adds the Laplacian of the light times half of its variance. That variance is
    fitted per frame to all pixels at once, robustly, since eaten ones agree on nothing.
    """
    n = len(reference.start) - 1
    table = np.zeros(n, SURVIVAL)
    table["reference"] = np.arange(1, n + 1)
    if n == 0:
        return table
    shift_y, shift_x = shift_yx_px[0] / factor, shift_yx_px[1] / factor
    now, before, seen = _sampled(
        frame, reference.flat, reference.light, reference.local, reference.bend_yy, reference.bend_xx,
        shift_y, shift_x, background, 1 / bleaching_factor, reference.loss,
    )  # fmt: skip
    expected = np.maximum(
        before + _defocus(now, before, seen, reference) * reference.bend, 0.25 * reference.threshold_counts
    )
    ratio = now / expected
    there = np.where(seen, np.clip((ratio - gone_ratio) / (whole_ratio - gone_ratio), 0.0, 1.0), 0.0)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return _sums(values, reference.start)

    area = total(reference.weight)
    left = total(reference.weight * there)
    shown = total(reference.weight * seen) / np.maximum(area, 1e-9)
    table["seen_fraction"] = np.where(shown > 1 - 1e-9, 1.0, shown)
    table["left_px"] = left
    # continuous in both: noise of what is hardly dimmer takes nothing
    lit = np.clip((now / reference.threshold_counts - _DARK) / (_LIT - _DARK), 0.0, 1.0)
    above = np.where(seen, np.maximum(lit, there), 0.0)
    table["above_px"] = total(reference.weight * above)
    dimmed = np.clip((_SAME - ratio) / (_SAME - _DIM), 0.0, 1.0)
    table["dimmed_px"] = total(reference.weight * above * dimmed)
    lossy = np.flatnonzero((left < _LOSSY * area) & (shown > 0.9) & (area >= _LEAST_AREA_PX))
    if lossy.size:
        come, peaks = light_that_came(
            frame, reference.plane, reference.territory, reference.place, expected * there + reference.local,
            left / np.maximum(area * shown, 1e-9), shift_y, shift_x, background, 1 / bleaching_factor, reference.loss,
            reference.threshold_counts,
        )  # fmt: skip
        moved = found_elsewhere(
            come, peaks, reference.flat, reference.start, reference.weight, expected, there, lossy,
            reference.plane, reference.territory, reference.place, left / np.maximum(area * shown, 1e-9),
            shift_y, shift_x, search_px, least_step_px,
        )  # fmt: skip
        table["moved_px"][lossy] = moved[:, 0]
        table["moved_y_px"][lossy] = moved[:, 1] * factor
        table["moved_x_px"][lossy] = moved[:, 2] * factor
        table["moved_light"][lossy] = moved[:, 3]
        table["moved_all"][lossy] = moved[:, 4]
    return table


def _defocus(
    now: NDArray[np.float64], before: NDArray[np.float64], seen: NDArray[np.bool_], reference: SurvivalReference
) -> float:
    """Half of the variance in px2 by which this frame is blurrier than the reference."""
    step = max(1, now.size // _MOST_PIXELS)
    now, before, bend = now[::step], before[::step], reference.bend[::step]
    usable = seen[::step] & (now > 0.5 * before) & (before > 0.5 * reference.threshold_counts)
    if np.count_nonzero(usable) < 20:
        return 0.0
    change, bend = (now - before)[usable], bend[usable]
    weight, half = np.ones(change.size), 0.0
    for _ in range(_ROUNDS):
        half = float((weight * change * bend).sum() / max((weight * bend * bend).sum(), 1e-9))
        residual = np.abs(change - half * bend)
        weight = 1 / (1 + (residual / max(3 * float(np.median(residual)), 1e-9)) ** 2)
    return half


@compiled
def _sampled(  # noqa: PLR0917 - compiled loops take arrays and numbers
    frame: NDArray[np.integer],
    flat: NDArray[np.int64],
    light: NDArray[np.float64],
    local: NDArray[np.float64],
    bend_yy: NDArray[np.float64],
    bend_xx: NDArray[np.float64],
    shift_y: float,
    shift_x: float,
    background: float,
    gain: float,
    loss: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Light of the frame at the footprints' pixels, what the reference would show there, and what is inside."""
    height, width = frame.shape
    now = np.zeros(flat.size)
    before = np.empty(flat.size)
    seen = np.zeros(flat.size, np.bool_)
    whole_y, whole_x = int(np.floor(shift_y)), int(np.floor(shift_x))
    part_y, part_x = shift_y - whole_y, shift_x - whole_x
    blur_y, blur_x = 0.5 * part_y * (1 - part_y), 0.5 * part_x * (1 - part_x)
    for i in range(flat.size):
        before[i] = light[i] + blur_y * bend_yy[i] + blur_x * bend_xx[i]
        y, x = flat[i] // width + whole_y, flat[i] % width + whole_x
        if y < 0 or x < 0 or y >= height or x >= width:
            continue
        # the last row and column have no neighbour to go half way to: they stand for it
        below, right = min(y + 1, height - 1), min(x + 1, width - 1)
        value = (1 - part_y) * ((1 - part_x) * frame[y, x] + part_x * frame[y, right])
        value += part_y * ((1 - part_x) * frame[below, x] + part_x * frame[below, right])
        v, u = 2 * (y + part_y) / max(height - 1, 1) - 1, 2 * (x + part_x) / max(width - 1, 1) - 1
        now[i] = (value / (1 - loss * (v * v + u * u)) - background - local[i]) * gain
        seen[i] = True
    return now, before, seen
