"""Markers of cells: one for each body of the foreground, told apart by what parts them over a window of frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.coherence import Window
from phagostat.kernels.compilation import compiled

# Heights are compared as ratios: a logarithmic scale of 16 bit down to a millionth, in steps of 0.02 %.
_LEVELS = 65535
_PER_LEVEL = float(np.log(1e6)) / _LEVELS
# Cells are parted on a grid of this width: a tenth of the smallest body.
_GRID_UM = 0.8
# Evidence rises from a little below the edge of the foreground, where its logarithm would not be finite.
_NO_EVIDENCE, _LEAST_EVIDENCE = 0.43, 0.02
_EVIDENCE_BLUR_UM, _DEPTH_BLUR_UM = 0.5, 1.0
# A Gaussian narrower than this is none on a grid.
_MIN_SIGMA_PX = 0.4


@dataclass(frozen=True)
class Bodies:
    """Bodies that a foreground consists of.

    Parameters
    ----------
    labels : (y, x) int32
        Body of each pixel of the foreground, 1..n; 0 elsewhere.
    tops : (y, x) int32
        The same for those pixels only that are higher than any neck by which a body could be left.
    neck : (n,) float64
        Height of the highest neck between body ``label - 1`` and one that touches it, as a fraction of the lesser
        peak of the two: the evidence that they are two is 1 - neck. 0 where no other body touches it.
    """

    labels: NDArray[np.int32]
    tops: NDArray[np.int32]
    neck: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Number of bodies."""
        return int(self.neck.size)


@dataclass(frozen=True)
class CellMarkers:
    """Markers of the cells of one frame.

    Parameters
    ----------
    labels : (y, x) int32
        0, or the marker 1..n that the pixel belongs to. A marker need not be in one piece.
    neck : (n,) float64
        As in :class:`Bodies`.
    n_uncertain
        Bodies that got no marker, since none of their pixels is nearly certain over the window.
    """

    labels: NDArray[np.int32]
    neck: NDArray[np.float64]
    n_uncertain: int

    @property
    def n(self) -> int:
        """Number of markers."""
        return int(self.neck.size)


def mean_probability(probabilities: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """Mean cell probability of a window, in the grid of its first frame.

    Parameters
    ----------
    probabilities : (w, y, x) uint8
        As for :func:`phagostat.kernels.coherence.coherent_pixels`.
    window : Window
        Which frames count, and by how much they are moved.

    Returns
    -------
    (y, x) uint8
        0..255 for 0..1, rounded down; the mean over the used frames in whose field a pixel lies, 0 where there is none.
    """
    mean = np.zeros(probabilities.shape[1:], np.uint8)
    chosen = np.flatnonzero(window.used)
    if chosen.size:
        _average(np.ascontiguousarray(probabilities), chosen, window.moved_yx_px, mean)
    return mean


def cell_markers(
    coherent_probability: NDArray[np.uint8],
    foreground: NDArray[np.bool_],
    *,
    pixel_size_um: float,
    max_neck: float = 0.8,
    depth_power: float = 0.25,
    min_cell_um2: float = 80.0,
    min_cell_px: float = 500.0,
    certain_probability: float = 0.9,
) -> CellMarkers:
    """Markers from which a watershed grows the cells of a frame.

    Parameters
    ----------
    coherent_probability : (y, x) uint8
        Mean cell probability of a window (:func:`mean_probability`), 0..255 for 0..1, in this frame's grid.
    foreground : (y, x) bool
        Cells of this frame.
    pixel_size_um : float
        Of that grid.
    max_neck : float
        Two bodies are two cells if the neck between them is lower than this fraction of the lesser one's peak.
    depth_power : float
        Power of the distance from the foreground's edge in the height that is compared; its other factor is the
        evidence that the pixel lies within one cell, which grows with the mean probability. 0: no shape at all.
    min_cell_um2, min_cell_px : float
        Both parts of a cell that is split have at least this area, counted down to the neck, and as many pixels.
    certain_probability : float
        A marker has a pixel (of the grid of 0.8 um) whose mean probability is above it.

    Returns
    -------
    CellMarkers
        One marker a body, numbered in raster order of their first pixels.

    Notes
    -----
    The probability dips at the lines by which each frame was divided. A line that is there in most frames leaves a
    valley in their mean, one that comes and goes does not: so a split needs a majority of the window, a change of
    width alone (a process, the waist of a long cell) parts nothing unless it is as thin as a sixth of the body
    (0.8 ** 4 is 0.4; the probability dips as well where a neck is narrower than its edges). Heights are flooded from
    their peaks down [1]_; where two bodies meet they are joined if the neck is high or either is small. On pixels of
    0.2 um it works on means over 4 x 4.

    References
    ----------
    .. [1] L. Najman, M. Couprie, "Building the component tree in quasi-linear time", IEEE Transactions on Image
       Processing 15, 3531-3539, 2006, :doi:`10.1109/TIP.2006.877518`
    """
    if coherent_probability.shape != foreground.shape or foreground.ndim != 2:
        raise ValueError(
            f"mean probability and foreground are two images of one shape: {coherent_probability.shape}, "
            f"{foreground.shape}"
        )
    if coherent_probability.dtype != np.uint8:
        raise TypeError(f"a probability map has 8 bit (found: {coherent_probability.dtype})")
    if not pixel_size_um > 0:
        raise ValueError(f"the pixel size must be positive (found: {pixel_size_um} um)")
    if not 0 < max_neck <= 1:
        raise ValueError(f"the highest neck is a fraction of a peak, 0 to 1 (found: {max_neck})")
    if not foreground.any():
        return CellMarkers(np.zeros(foreground.shape, np.int32), np.zeros(0), 0)
    factor = min(max(1, round(_GRID_UM / pixel_size_um)), *foreground.shape)
    grid_um = factor * pixel_size_um
    # Any pixel of the foreground counts, so that thin cells are whole.
    mask = (_reduced(foreground.view(np.uint8) * np.uint8(255), factor) > 0).astype(np.uint8)
    probability = _reduced(coherent_probability, factor)
    evidence = probability.astype(np.float32) / np.float32(255)
    evidence = np.maximum((evidence - np.float32(_NO_EVIDENCE)) / np.float32(1 - _NO_EVIDENCE), _LEAST_EVIDENCE)
    height = np.log(_blur(evidence, _EVIDENCE_BLUR_UM / grid_um))
    if depth_power > 0:
        depth = np.maximum(_blur(distance_inside(mask), _DEPTH_BLUR_UM / grid_um), np.float32(1e-3))
        height += np.float32(depth_power) * np.log(depth)
    smallest_um2 = max(min_cell_um2, min_cell_px * pixel_size_um**2)
    bodies = split_bodies(height, mask, max_neck=max_neck, smallest_px=smallest_um2 / grid_um**2)
    certain = np.zeros(bodies.n + 1, np.bool_)
    # Rounded, since 0.2 * 255 is 51 on paper and a hair more in binary.
    certain[bodies.tops[probability > round(certain_probability * 255, 6)]] = True
    certain[0] = False
    number = np.cumsum(certain, dtype=np.int32) * certain
    kept = certain[1:]
    labels = enlarged_labels(np.take(number, bodies.tops), foreground.shape)
    return CellMarkers(labels, bodies.neck[kept], int(np.count_nonzero(~kept)))


def split_bodies(
    height: NDArray[np.float32], mask: NDArray[np.uint8], *, max_neck: float, smallest_px: float
) -> Bodies:
    """Divide a foreground at the necks of a height.

    Parameters
    ----------
    height : (y, x) float32
        Natural logarithm of what is compared; differences beyond a factor of a million count as that.
    mask : (y, x) uint8
        0 or 1: the foreground.
    max_neck : float
        Two bodies that meet are joined if the neck is at least this fraction of the lesser peak.
    smallest_px : float
        Or if one of them has fewer pixels above the neck.

    Returns
    -------
    Bodies
        Numbered in raster order of their first top pixels. Of equal heights the first in raster order is flooded
        first, so the same arrays give the same labels.
    """
    shape = mask.shape
    flat = np.flatnonzero(mask.ravel())
    if flat.size == 0:
        return Bodies(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(0))
    values = height.ravel()[flat]
    descent = np.rint(np.minimum((values.max() - values) / np.float32(_PER_LEVEL), _LEVELS)).astype(np.uint16)
    order = np.argsort(descent, kind="stable")
    descent, flat = descent[order], flat[order]
    stride = shape[1] + 2
    y, x = np.divmod(flat, shape[1])
    at = (y + 1) * stride + x + 1
    # As exact as the levels are: a neck of 1 joins what has no dip.
    neck_levels = round(-np.log(max_neck) / _PER_LEVEL)
    labels = np.zeros((shape[0] + 2) * stride, np.int32)
    peak, rise = _flood(descent, at, labels, (stride, neck_levels, smallest_px))
    body = labels[at]
    top = descent <= peak[body] + neck_levels
    # Of repeated indices the last assignment stays: backwards in raster order, that is the first pixel.
    first = np.full(peak.size, mask.size, np.intp)
    tops = np.zeros(mask.size, np.int32)
    tops[flat[top]] = body[top]
    raster = np.flatnonzero(tops)
    first[tops[raster][::-1]] = raster[::-1]
    roots = np.argsort(first, kind="stable")[: np.count_nonzero(first < mask.size)]
    number = np.zeros(peak.size, np.int32)
    number[roots] = np.arange(1, roots.size + 1)
    neck = np.where(rise[roots] <= _LEVELS, np.exp(-_PER_LEVEL * rise[roots]), 0.0)
    found = np.ascontiguousarray(np.take(number, labels).reshape(shape[0] + 2, stride)[1:-1, 1:-1])
    return Bodies(found, np.take(number, tops).reshape(shape), neck)


def distance_inside(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Distance in px to the nearest pixel outside of a mask; without one, as far as the frame is wide.

    Parameters
    ----------
    mask : (y, x) uint8
        0 or 1.
    """
    if mask.all():
        return np.full(mask.shape, max(mask.shape), np.float32)
    distance: NDArray[np.float32] = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    return distance


def enlarged_labels(labels: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Labels on a finer grid.

    Parameters
    ----------
    labels : (y, x) int32
        On the coarser one.
    shape : (int, int)
        Of that grid.
    """
    if labels.shape == shape:
        return labels
    larger: NDArray[np.int32] = cv2.resize(labels, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return larger


def _reduced(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    size = (max(1, image.shape[1] // factor), max(1, image.shape[0] // factor))
    smaller: NDArray[np.uint8] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return smaller


def _blur(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    if sigma_px < _MIN_SIGMA_PX:
        return image
    blurred: NDArray[np.float32] = cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
    return blurred


@compiled
def _average(
    probabilities: NDArray[np.uint8], chosen: NDArray[np.int64], moves: NDArray[np.int64], mean: NDArray[np.uint8]
) -> None:
    """Sum row by row, so that sums stay in the nearest cache."""
    _, height, width = probabilities.shape
    # Columns in which every chosen frame has pixels: one count a row holds for all of them.
    begin, end = 0, width
    for k in chosen:
        begin = max(begin, -moves[k, 1])
        end = min(end, width - moves[k, 1])
    begin = min(begin, width)
    end = max(begin, end)
    total = np.empty(width, np.uint16)
    for y in range(height):
        total[:] = 0
        n_rows = 0
        for k in chosen:
            row = y + moves[k, 0]
            if 0 <= row < height:
                n_rows += 1
                shift = moves[k, 1]
                first, last = max(0, -shift), min(width, width - shift)
                source = probabilities[k, row, first + shift : last + shift]
                part = total[first:last]
                for x in range(source.size):
                    part[x] += np.uint16(source[x])
        if n_rows == 0:
            continue
        # Half a level more than a whole quotient: no rounding error reaches over that, so this is whole division.
        inverse = np.float32(1) / np.float32(n_rows)
        inner, result = total[begin:end], mean[y, begin:end]
        for x in range(inner.size):
            result[x] = np.uint8((np.float32(inner[x]) + np.float32(0.5)) * inverse)
        for side in range(2):
            outer_begin, outer_end = (0, begin) if side == 0 else (end, width)
            for x in range(outer_begin, outer_end):
                n = 0
                for k in chosen:
                    if 0 <= y + moves[k, 0] < height and 0 <= x + moves[k, 1] < width:
                        n += 1
                if n > 0:
                    mean[y, x] = total[x] // n


@compiled
def _flood(
    descent: NDArray[np.uint16],
    at: NDArray[np.int64],
    labels: NDArray[np.int32],
    limits: tuple[int, int, float],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flood from the peaks down; where two bodies meet, join them or keep them apart for good.

    They are joined if the neck lies less than ``max_rise`` below the lower peak, or one of them is still smaller than
    ``smallest_px``. ``at`` are positions in ``labels``, which has a margin; ``descent`` is 0 at the top. Gives for each
    label the level of its peak and how far below the lower peak its highest neck lies (65536: it has none).
    """
    stride, max_rise, smallest_px = limits
    parent = np.zeros(at.size + 1, np.int32)
    peak = np.zeros(at.size + 1, np.int64)
    size = np.zeros(at.size + 1, np.int64)
    nearest = np.full(at.size + 1, 65536, np.int64)
    n_bodies = 0
    for k in range(at.size):
        level = np.int64(descent[k])
        here = at[k]
        mine, seen = np.int32(0), np.int32(0)
        for offset in (-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1):
            other = labels[here + offset]
            # Most neighbours belong to one body.
            if other == 0 or other == seen:  # noqa: PLR1714 - compiled
                continue
            seen = other
            while parent[other] != other:
                parent[other] = parent[parent[other]]
                other = parent[other]
            if mine == 0:
                mine = other
            elif mine != other:
                rise = level - max(peak[mine], peak[other])
                if rise <= max_rise or min(size[mine], size[other]) < smallest_px:
                    lower = other if peak[mine] <= peak[other] else mine
                    mine = mine + other - lower
                    parent[lower] = mine
                    size[mine] += size[lower]
                    nearest[mine] = min(nearest[mine], nearest[lower])
                else:
                    nearest[mine] = min(nearest[mine], rise)
                    nearest[other] = min(nearest[other], rise)
        if mine == 0:
            n_bodies += 1
            mine = np.int32(n_bodies)
            parent[mine] = mine
            peak[mine] = level
        labels[here] = mine
        size[mine] += 1
    for body in range(1, n_bodies + 1):
        root = body
        while parent[root] != root:
            root = parent[root]
        parent[body] = root
    for here in at:
        labels[here] = parent[labels[here]]
    return peak[: n_bodies + 1].copy(), nearest[: n_bodies + 1].copy()
