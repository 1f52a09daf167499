"""Where a frame lies to within a few pixels: correlation of reduced frames, normalised by their overlap."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from phagostat.kernels.translation_filters import Float32, Float64, middle
from phagostat.kernels.translation_loops import correlate_overlaps, sum_areas

_LEAST_VARIANCE = 1e-6
_LEAST_STRUCTURE = 2e-6  # of the brightest pixel: the rounding of single precision is no structure


@dataclass(frozen=True)
class CoarseFrame:
    """A frame reduced for the search.

    Parameters
    ----------
    reduction
        Native pixels per coarse pixel.
    image
        (y, x) float32: area-reduced, high-passed, compressed by asinh in units of its own spread.
    spectrum
        Real FFT of the zero-padded image, complex64, of the padded shape (`padded_yx`).
    padded_yx
        Padded height and width.
    sums, squares
        (y + 1, x + 1) float64 tables of the cumulative sums of the image and of its square.
    spread
        Robust sd of the high-passed image in grey levels; 0 for a frame without structure.
    """

    reduction: int
    image: Float32
    spectrum: NDArray[np.complex64]
    padded_yx: tuple[int, int]
    sums: Float64
    squares: Float64
    spread: float


@dataclass(frozen=True)
class CoarsePeak:
    """One candidate of the search: its shift, its correlation, and how far it stands out."""

    shift_yx_px: tuple[float, float]
    correlation: float
    height_in_sigma: float


def default_reduction(shape_yx: tuple[int, int]) -> int:
    """Choose the power of two, at most 8, that leaves at least 192 coarse pixels along the shorter axis."""
    reduction = 1
    while reduction < 8 and min(shape_yx) // (2 * reduction) >= 192:
        reduction *= 2
    return reduction


def coarse_frame(
    frame: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float,
    reduction: int | None = None,
    reduced: NDArray[np.uint8] | NDArray[np.uint16] | None = None,
) -> CoarseFrame:
    """Reduce, high-pass and compress a frame, and transform it.

    `reduced` may hold the frame averaged over squares of a few pixels already: where their side divides the reduction,
    the averaging goes on from there.

    The compression (asinh of grey levels over three robust sd) makes an aggregate of a thousand grey levels weigh
    hardly more than one of a hundred, so that the few brightest, which may be carried off, do not decide alone, and
    makes the result independent of gain and offset.
    """
    shape = int(frame.shape[0]), int(frame.shape[1])
    step = default_reduction(shape) if reduction is None else reduction
    rows, columns = shape[0] // step, shape[1] // step
    if step == 1:
        small = frame.astype(np.float32)
    else:
        done = _averaged_over(shape, reduced, step)
        given = frame if done == 1 or reduced is None else reduced
        factor = step // done
        total = np.empty((rows, columns), np.uint32)
        sum_areas(given, factor, total)
        small = total.astype(np.float32) * np.float32(1 / factor**2)
    if step < 4:
        small = cv2.GaussianBlur(small, (0, 0), 1.5 / step, borderType=cv2.BORDER_REFLECT_101)
    wide = cv2.GaussianBlur(small, (0, 0), max(3.0, 16.0 / step), borderType=cv2.BORDER_REFLECT_101)
    high = np.asarray(small - wide, np.float32)
    spread = _spread(high)
    if spread <= _LEAST_STRUCTURE * float(small.max()):
        spread = 0.0
    image = _compressed(high, 3 * spread) if spread > 0 else np.zeros_like(high)
    padded = padded_shape(image.shape, search_radius_px / step)
    spectrum = scipy.fft.rfft2(image, padded)
    sums, squares = cv2.integral2(image, sdepth=cv2.CV_64F)
    return CoarseFrame(step, image, np.asarray(spectrum, np.complex64), padded, sums, squares, spread)


def _compressed(high: Float32, unit: float) -> Float32:
    """Inverse hyperbolic sine; by the logarithm, which numpy computes ten times as fast."""
    size = np.abs(high) * np.float32(1 / unit)
    return np.asarray(np.copysign(np.log(size + np.sqrt(size * size + np.float32(1))), high), np.float32)


def _averaged_over(shape_yx: tuple[int, int], reduced: NDArray[np.generic] | None, step: int) -> int:
    """Side of the squares that `reduced` averages, if averaging can go on from there; else 1."""
    if reduced is None or reduced.dtype != np.uint16:  # a dim uint8 was rounded too coarsely
        return 1
    side = shape_yx[0] // max(reduced.shape[0], 1)
    fits = side > 0 and reduced.shape == (shape_yx[0] // side, shape_yx[1] // side)
    return side if fits and step % side == 0 else 1


def _spread(high: Float32) -> float:
    """Robust sd of a high-passed image; of its few bright pixels where the rest is flat."""
    every = 1 if high.size < 40_000 else 3
    sample = np.abs(high[::every, ::every])
    spread = 1.4826 * middle(sample)
    return spread if spread > 0 else 0.1 * float(high.std())


def padded_shape(shape_yx: tuple[int, ...], radius_px: float) -> tuple[int, int]:
    """Choose the FFT's shape such that no shift within the radius wraps around."""
    least = [side + min(int(np.ceil(radius_px)) + 2, side) for side in shape_yx]
    # multiples of 16: 320 takes four fifths of the time of 308
    sides = [16 * scipy.fft.next_fast_len(-(-side // 16), real=True) for side in least]
    return sides[0], sides[1]


def coarse_peaks(
    reference: CoarseFrame, moving: CoarseFrame, *, search_radius_px: float, min_overlap: float, n_peaks: int
) -> list[CoarsePeak]:
    """Find the shifts at which two coarse frames correlate best, best first.

    Parameters
    ----------
    reference, moving
        Frames of equal reduction and padding.
    search_radius_px
        Largest shift per axis in native pixels.
    min_overlap
        Smallest share of each axis that must overlap.
    n_peaks
        Number of candidates.

    Returns
    -------
    list of CoarsePeak
        `height_in_sigma` is the height above the median of all scores in units of their robust sd.

    Notes
    -----
    Zero-mean correlation coefficient over the overlap of each shift (sums from cumulative tables), times the square
    root of the overlap's share: a coefficient from few pixels is large by chance more often.
    """
    step = reference.reduction
    height, width = reference.image.shape
    reach_y = min(int(np.ceil(search_radius_px / step)) + 1, int((1 - min_overlap) * height), height - 8)
    reach_x = min(int(np.ceil(search_radius_px / step)) + 1, int((1 - min_overlap) * width), width - 8)
    # what stands at p in the reference stands at p + d in moving: sum over p of ref(p) * mov(p + d)
    cyclic = scipy.fft.irfft2(np.conj(reference.spectrum) * moving.spectrum, reference.padded_yx)
    shifts_y, shifts_x = np.arange(-reach_y, reach_y + 1), np.arange(-reach_x, reach_x + 1)
    correlation = np.empty((2 * reach_y + 1, 2 * reach_x + 1))
    correlate_overlaps(
        cyclic, reference.sums, reference.squares, moving.sums, moving.squares, correlation, _LEAST_VARIANCE
    )
    n = (height - np.abs(shifts_y))[:, None] * (width - np.abs(shifts_x))[None, :]
    score = correlation * np.sqrt(n / (height * width))
    sample = score[::2, ::2]
    usual = middle(sample)
    sigma = 1.4826 * middle(np.abs(sample - usual)) + 1e-12
    peaks = []
    open_score = score.copy()
    for _ in range(n_peaks):
        row, column = divmod(int(np.argmax(open_score)), score.shape[1])
        if not open_score[row, column] > 0:
            break
        offset = _parabola(score[:, column], row), _parabola(score[row], column)
        shift = (shifts_y[row] + offset[0]) * step, (shifts_x[column] + offset[1]) * step
        peaks.append(
            CoarsePeak(
                (float(shift[0]), float(shift[1])),
                float(correlation[row, column]),
                float((score[row, column] - usual) / sigma),
            )
        )
        open_score[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = -np.inf
    return peaks


def _parabola(line: Float64, peak: int) -> float:
    """Offset of a maximum from its sample by a parabola through three samples."""
    if peak in (0, len(line) - 1):
        return 0.0
    before, at, after = line[peak - 1 : peak + 2]
    curvature = before - 2 * at + after
    return min(max(float(0.5 * (before - after) / curvature), -0.5), 0.5) if curvature < 0 else 0.0
