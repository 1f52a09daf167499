"""Markers of cells: one for each body of the foreground, told apart by what parts them over a window of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.bodies import split_bodies
from phagostat.kernels.coherence import Window
from phagostat.kernels.compilation import compiled

_Label = TypeVar("_Label", np.uint16, np.int32, np.uint16 | np.int32)

# Cells are parted on a grid of this width: a tenth of the smallest body.
_GRID_UM = 0.8
# Evidence rises from a little below the edge of the foreground, where its logarithm would not be finite.
_NO_EVIDENCE, _LEAST_EVIDENCE = 0.43, 0.02
_EVIDENCE_BLUR_UM, _DEPTH_BLUR_UM = 0.5, 1.0
# A Gaussian narrower than this is none on a grid.
_MIN_SIGMA_PX = 0.4
# Sums of so many bytes fit 16 bit.
_MAX_BLOCK_PX = 257
# So many labels do.
_MAX_SMALL_LABEL = 65535


@dataclass(frozen=True)
class CellMarkers:
    """Markers of the cells of one frame.

    Parameters
    ----------
    labels : (y, x) uint16 or int32
        0, or the marker 1..n that the pixel belongs to. A marker need not be in one piece.
    neck : (n,) float64
        As in :class:`~phagostat.kernels.bodies.Bodies`.
    n_uncertain
        Bodies that got no marker, since none of their pixels is nearly certain over the window.
    """

    labels: NDArray[np.uint16 | np.int32]
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
    markers: NDArray[np.uint16 | np.int32] = np.take(number, bodies.tops)
    if bodies.n <= _MAX_SMALL_LABEL:  # enlarged and flooded in half of the time
        markers = markers.astype(np.uint16)
    return CellMarkers(enlarged_labels(markers, foreground.shape), bodies.neck[kept], int(np.count_nonzero(~kept)))


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


def enlarged_labels(labels: NDArray[_Label], shape: tuple[int, ...]) -> NDArray[_Label]:
    """Labels on a finer grid.

    Parameters
    ----------
    labels : (y, x) uint16 or int32
        On the coarser one.
    shape : (int, int)
        Of that grid.
    """
    if labels.shape == shape:
        return labels
    factor = shape[1] // max(labels.shape[1], 1)
    if shape == (labels.shape[0] * factor, labels.shape[1] * factor):
        repeated = np.empty(shape, labels.dtype)
        _repeat(labels, factor, repeated)
        return repeated
    larger: NDArray[_Label] = cv2.resize(labels, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return larger


def _reduced(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Means over blocks, with the bytes that OpenCV gives, which takes eight times as long for whole blocks."""
    height, width = max(1, image.shape[0] // factor), max(1, image.shape[1] // factor)
    if factor == 1 or factor > _MAX_BLOCK_PX or image.shape != (height * factor, width * factor):
        stretched: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return stretched
    smaller = np.empty((height, width), np.uint8)
    _average_blocks(image, factor, smaller)
    return smaller


def _blur(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    if sigma_px < _MIN_SIGMA_PX:
        return image
    blurred: NDArray[np.float32] = cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
    return blurred


@compiled
def _repeat(labels: NDArray[_Label], factor: int, repeated: NDArray[_Label]) -> None:
    """Each pixel as a block of pixels: what the nearest one is where the grids fit."""
    for y in range(labels.shape[0]):
        row, first = labels[y], repeated[y * factor]
        for x in range(row.size):
            for i in range(x * factor, (x + 1) * factor):
                first[i] = row[x]
        for i in range(y * factor + 1, (y + 1) * factor):
            to = repeated[i]
            for x in range(to.size):
                to[x] = first[x]


@compiled
def _average_blocks(image: NDArray[np.uint8], factor: int, means: NDArray[np.uint8]) -> None:
    """Means over whole blocks: of four pixels halves are rounded up, else to even."""
    inverse = np.float32(1) / np.float32(factor * factor)
    total = np.empty(means.shape[1] * factor, np.uint16)
    for y in range(means.shape[0]):
        total[:] = 0
        for i in range(y * factor, (y + 1) * factor):
            row = image[i, : total.size]
            for x in range(total.size):
                total[x] += np.uint16(row[x])
        to = means[y]
        if factor == 2:
            for x in range(to.size):
                to[x] = (np.uint32(total[2 * x]) + total[2 * x + 1] + 2) >> 2
        elif factor == 4:  # vectors
            for x in range(to.size):
                left, right = np.uint32(total[4 * x]) + total[4 * x + 1], np.uint32(total[4 * x + 2]) + total[4 * x + 3]
                to[x] = np.uint8(np.rint(np.float32(left + right) * inverse))
        else:
            for x in range(to.size):
                block = np.uint32(0)
                for i in range(x * factor, (x + 1) * factor):
                    block += total[i]
                to[x] = np.uint8(np.rint(np.float32(block) * inverse))


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
