"""By how much the aggregates of a frame have faded, from those that are still as they were in the reference frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled
from phagostat.model.records import NAN, BleachingEstimate

# Kernel width of the density of log ratios: the spread that focus jitter and noise leave between aggregates.
_BANDWIDTH = 0.03
# It is looked at in so many places a width.
_GRID_STEPS = 4
# A peak of the density counts as one from this share of the highest on.
_PEAK_SHARE = 0.5


@dataclass(frozen=True)
class Footprints:
    """Where the reference frame's aggregates are, ready for comparison with other frames.

    Made once a scene by :func:`prepare_footprints`.

    Parameters
    ----------
    y_px, x_px : (n_pixels,) int32
        Pixels of all footprints, widened by a margin, analysis grid.
    index : (n_pixels,) intp
        Position of each pixel's aggregate in ``labels``.
    ring_y_px, ring_x_px, ring_index : (n_ring_pixels,)
        The same for the pixels around each footprint that give its local background.
    labels : (n,) uint16
        Label of each aggregate in the reference label image.
    integrated_counts : (n,) float64
        Counts of each footprint in the reference frame above its local background.
    """

    y_px: NDArray[np.int32]
    x_px: NDArray[np.int32]
    index: NDArray[np.intp]
    ring_y_px: NDArray[np.int32]
    ring_x_px: NDArray[np.int32]
    ring_index: NDArray[np.intp]
    labels: NDArray[np.uint16]
    integrated_counts: NDArray[np.float64]


def prepare_footprints(
    labels: NDArray[np.uint16],
    reference_frame: NDArray[np.integer],
    *,
    noise_counts: float,
    white_level_counts: int | None = None,
    margin_px: int = 3,
    gap_px: int = 2,
    ring_px: int = 4,
    min_signal_to_noise: float = 20.0,
) -> Footprints:
    """Footprints of the reference aggregates.

    Parameters
    ----------
    labels : (y, x) uint16
        Reference label image, analysis grid.
    reference_frame : (y, x) uint8 or uint16
        Reference frame in camera counts, same grid.
    noise_counts : float
        Standard deviation of its background pixels, in counts.
    white_level_counts : int, optional
        Footprints with pixels at or above are left out: clipped light does not fade. By default the largest value of
        the type.
    margin_px : int
        By how much footprints are widened, so that the light of an aggregate stays in its footprint whatever the
        sub-pixel position and slight focus jitter; pixels between two aggregates go to one of them.
    gap_px, ring_px : int
        The local background is the mean over a ring of this width, this far from the footprint, without the
        surroundings of other aggregates.
    min_signal_to_noise : float
        Fainter footprints are left out.

    Returns
    -------
    Footprints
        Possibly of no aggregate.

    Notes
    -----
    Uneven glow of the medium does not fade with the aggregates. With one background a frame it biased the factor by
    up to 4 % on simulated scenes, the more the wider the footprints.
    """
    white = int(np.iinfo(reference_frame.dtype).max) if white_level_counts is None else white_level_counts
    wide = _widened(labels, margin_px)
    clear = _widened(wide, gap_px)
    around = _widened(clear, ring_px)
    around[clear != 0] = 0
    flat, label_of = _listed(wide)
    ring_flat, ring_label_of = _listed(around)
    size = int(labels.max(initial=0)) + 1
    raw = reference_frame.ravel()
    n_pixels, n_ring = np.bincount(label_of, minlength=size), np.bincount(ring_label_of, minlength=size)
    light = np.bincount(label_of, raw[flat], size)
    ring_mean = np.bincount(ring_label_of, raw[ring_flat], size) / np.maximum(n_ring, 1)
    total = light - ring_mean * n_pixels
    clipped = np.bincount(label_of, raw[flat] >= white, size) > 0
    # A ring of few pixels (in a crowd) is no background.
    usable = (n_pixels > 0) & (n_ring >= np.sqrt(n_pixels)) & ~clipped
    usable &= total > min_signal_to_noise * noise_counts * np.sqrt(np.maximum(n_pixels, 1))
    position = np.cumsum(usable) - 1
    kept = np.flatnonzero(usable)
    width = labels.shape[1]
    y, x, index = _by_aggregate(flat, label_of, usable, position, width)
    ring_y, ring_x, ring_index = _by_aggregate(ring_flat, ring_label_of, usable, position, width)
    return Footprints(y, x, index, ring_y, ring_x, ring_index, kept.astype(np.uint16), total[kept])


def footprint_ratios(
    frame: NDArray[np.integer],
    footprints: Footprints,
    *,
    shift_yx_px: tuple[float, float],
    factor: int,
    white_level_counts: int | None = None,
) -> NDArray[np.float64]:
    """Light that every reference footprint still holds, relative to the reference frame.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the analysis grid.
    footprints : Footprints
        Of the scene's reference frame.
    shift_yx_px : (float, float)
        Shift of this frame against the reference in native pixels, as registration reports it.
    factor : int
        Native pixels per analysis pixel.
    white_level_counts : int, optional
        Where the camera saturates; by default the largest value of the type.

    Returns
    -------
    (n,) float64
        Ratio for each aggregate of ``footprints``; NaN where the moved footprint or its ring leaves the frame, even in
        part, or a pixel of it is saturated.
    """
    n = footprints.labels.size
    ratios = np.full(n, np.nan)
    if n == 0 or not np.all(np.isfinite(shift_yx_px)):
        return ratios
    white = int(np.iinfo(frame.dtype).max) if white_level_counts is None else white_level_counts
    shift_y, shift_x = shift_yx_px[0] / factor, shift_yx_px[1] / factor
    whole = np.array([np.floor(shift_y), np.floor(shift_x)], np.int64)
    # The background is smooth: the nearest pixel will do.
    nearest = np.array([round(shift_y), round(shift_x)], np.int64)
    light, n_pixels = np.zeros(n), np.zeros(n, np.int64)
    ring_light, n_ring = np.zeros(n), np.zeros(n, np.int64)
    usable = np.ones(n, np.bool_)
    plane = np.ascontiguousarray(frame)
    parts = np.array([shift_y - whole[0], shift_x - whole[1]])
    _sum_footprints(
        plane, footprints.y_px, footprints.x_px, footprints.index, whole, parts, white, light, n_pixels, usable
    )
    _sum_rings(
        plane, footprints.ring_y_px, footprints.ring_x_px, footprints.ring_index, nearest, ring_light, n_ring, usable
    )
    used = np.flatnonzero(usable)
    total = light[used] - ring_light[used] / n_ring[used] * n_pixels[used]
    ratios[used] = total / footprints.integrated_counts[used]
    return ratios


@compiled
def _sum_footprints(  # noqa: PLR0917 - compiled loops take arrays and numbers
    frame: NDArray[np.integer],
    y_px: NDArray[np.int32],
    x_px: NDArray[np.int32],
    index: NDArray[np.intp],
    whole: NDArray[np.int64],
    part: NDArray[np.float64],
    white: int,
    light: NDArray[np.float64],
    n_pixels: NDArray[np.int64],
    usable: NDArray[np.bool_],
) -> None:
    """Light in each moved footprint, bilinear between pixels; none is usable that leaves the frame or is saturated."""
    height, width = frame.shape
    # a shift by whole pixels needs no neighbour on the far side
    far_y, far_x = int(part[0] > 0), int(part[1] > 0)
    for k in range(index.size):
        i = index[k]
        y, x = y_px[k] + whole[0], x_px[k] + whole[1]
        if y < 0 or x < 0 or y + far_y >= height or x + far_x >= width:
            usable[i] = False
            continue
        value = 0.0
        for dy in range(far_y + 1):
            weight_y = part[0] if dy else 1 - part[0]
            for dx in range(far_x + 1):
                raw = frame[y + dy, x + dx]
                if raw >= white:
                    usable[i] = False
                value += weight_y * (part[1] if dx else 1 - part[1]) * raw
        light[i] += value
        n_pixels[i] += 1


@compiled
def _sum_rings(  # noqa: PLR0917 - compiled loops take arrays and numbers
    frame: NDArray[np.integer],
    y_px: NDArray[np.int32],
    x_px: NDArray[np.int32],
    index: NDArray[np.intp],
    whole: NDArray[np.int64],
    light: NDArray[np.float64],
    n_pixels: NDArray[np.int64],
    usable: NDArray[np.bool_],
) -> None:
    """Light in the ring around each footprint; none is usable whose ring leaves the frame."""
    height, width = frame.shape
    for k in range(index.size):
        y, x = y_px[k] + whole[0], x_px[k] + whole[1]
        if y < 0 or x < 0 or y >= height or x >= width:
            usable[index[k]] = False
        else:
            light[index[k]] += frame[y, x]
            n_pixels[index[k]] += 1


def bleaching_factor(
    frame: NDArray[np.integer],
    footprints: Footprints,
    *,
    shift_yx_px: tuple[float, float],
    factor: int,
    white_level_counts: int | None = None,
    min_aggregates: int = 5,
) -> BleachingEstimate:
    """Fading of a frame against its scene's reference, from the two frames alone.

    Parameters
    ----------
    frame, footprints, shift_yx_px, factor, white_level_counts
        As for :func:`footprint_ratios`.
    min_aggregates : int
        Fewer aggregates that agree leave the factor undetermined.

    Returns
    -------
    BleachingEstimate
        The factor (1: not faded), the number of aggregates that agree on it and their relative spread; NaN with a
        reason where it cannot be told.

    Notes
    -----
    The factor is the robust mode of the aggregates' intensity ratios (see :func:`robust_ratio_mode`): what has been
    eaten, bitten or carried off is darker by any amount and agrees on nothing.
    """
    if not np.all(np.isfinite(shift_yx_px)):
        return BleachingEstimate(NAN, 0, reason="the frame is unregistered")
    ratios = footprint_ratios(
        frame,
        footprints,
        shift_yx_px=shift_yx_px,
        factor=factor,
        white_level_counts=white_level_counts,
    )
    return robust_ratio_mode(ratios, min_aggregates=min_aggregates)


def robust_ratio_mode(
    ratios: NDArray[np.float64], *, min_aggregates: int = 5, min_ratio: float = 0.1
) -> BleachingEstimate:
    """The ratio that most untouched aggregates share.

    Parameters
    ----------
    ratios : (n,) float64
        Light of each aggregate relative to the reference; NaN where unknown.
    min_aggregates : int
        Least number that must agree.
    min_ratio : float
        Ratios below are gone aggregates, not faded ones: they gather at 0 and would make the highest peak.

    Returns
    -------
    BleachingEstimate
        The factor, how many agree and the spread (1.48 times the median absolute deviation over the factor).

    Notes
    -----
    The density of log ratios is estimated with a Gaussian kernel of 3 %. Of its peaks at least half as high as the
    highest, the one at the largest ratio is taken: eating removes light and never adds it. The median of the ratios
    within three spreads of that peak is the factor.
    """
    known = np.sort(ratios[np.isfinite(ratios)])
    present = known[known > min_ratio]
    if present.size < min_aggregates:
        return BleachingEstimate(
            NAN,
            int(present.size),
            reason=f"{present.size} of {known.size} reference aggregates are left, {min_aggregates} are needed",
        )
    logs = np.log(present)
    grid = np.arange(logs[0] - 3 * _BANDWIDTH, logs[-1] + 3 * _BANDWIDTH, _BANDWIDTH / _GRID_STEPS)
    density = _density(logs, grid)
    rises = np.concatenate(([True], density[1:] > density[:-1]))
    falls = np.concatenate((density[:-1] >= density[1:], [True]))
    peaks = np.flatnonzero(rises & falls & (density >= _PEAK_SHARE * density.max()))
    centre = float(np.exp(grid[peaks[-1]]))
    reach = 3 * _BANDWIDTH
    agreeing = present
    for _ in range(5):
        agreeing = present[np.abs(np.log(present / centre)) <= reach]
        if agreeing.size < min_aggregates:
            return BleachingEstimate(
                NAN,
                int(agreeing.size),
                reason=f"only {agreeing.size} of {known.size} reference aggregates agree, {min_aggregates} are needed",
            )
        updated = float(np.median(agreeing))
        spread = 1.4826 * float(np.median(np.abs(agreeing - updated))) / updated
        reach = min(3 * _BANDWIDTH, max(3 * spread, 0.01))
        if updated == centre:
            break
        centre = updated
    return BleachingEstimate(centre, int(agreeing.size), spread)


def _density(logs: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of Gaussians about each of the logarithms, out to where they are 1e-14, at places of a grid."""
    near = np.searchsorted(grid, logs - 8 * _BANDWIDTH)[:, None] + np.arange(16 * _GRID_STEPS + 1)
    inside = near < grid.size
    z = (grid[np.minimum(near, grid.size - 1)] - logs[:, None]) / _BANDWIDTH
    return np.asarray(np.bincount(near[inside], np.exp(-0.5 * z * z)[inside], grid.size), np.float64)


def _widened(labels: NDArray[np.uint16], margin_px: int) -> NDArray[np.uint16]:
    """Labels grown by ``margin_px`` into the background, one pixel at a time; where two meet, the larger number."""
    wide = labels.copy()
    kernel = np.ones((3, 3), np.uint8)
    for _ in range(margin_px):
        grown = cv2.dilate(wide, kernel)
        np.copyto(wide, grown, where=wide == 0)
    return wide


def _listed(labels: NDArray[np.uint16]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat indices of the labelled pixels, and the label of each."""
    flat = np.flatnonzero(labels.ravel() != 0)
    return flat, labels.ravel()[flat].astype(np.intp)


def _by_aggregate(
    flat: NDArray[np.intp],
    label_of: NDArray[np.intp],
    usable: NDArray[np.bool_],
    position: NDArray[np.intp],
    width: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.intp]]:
    """Rows, columns and aggregates of the pixels of usable aggregates."""
    chosen = usable[label_of]
    y, x = np.divmod(flat[chosen], width)
    return y.astype(np.int32), x.astype(np.int32), position[label_of[chosen]].astype(np.intp)
