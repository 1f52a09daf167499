"""Where a frame lies to within a few pixels: correlation of reduced frames, normalised by their overlap."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

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
    spread
        Robust sd of the high-passed image in grey levels; 0 for a frame without structure.
    """

    reduction: int
    image: Float32
    spectrum: NDArray[np.complex64]
    padded_yx: tuple[int, int]
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
        cropped = given[: rows * step // done, : columns * step // done]
        # the blocks of an integer factor are averaged before rounding to the frame's type: the rounding is noise of
        # 0.3 grey levels, below that of any camera after averaging 4 to 64 of its pixels, but not for a dim uint8
        source = cropped if cropped.dtype == np.uint16 else cropped.astype(np.uint16) * np.uint16(256)
        small = cv2.resize(source, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    if step < 4:
        small = cv2.GaussianBlur(small, (0, 0), 1.5 / step, borderType=cv2.BORDER_REFLECT_101)
    wide = cv2.GaussianBlur(small, (0, 0), max(3.0, 16.0 / step), borderType=cv2.BORDER_REFLECT_101)
    high = np.asarray(small - wide, np.float32)
    spread = _spread(high)
    if spread <= _LEAST_STRUCTURE * float(small.max()):
        spread = 0.0
    image = np.arcsinh(high / np.float32(3 * spread)) if spread > 0 else np.zeros_like(high)
    padded = padded_shape(image.shape, search_radius_px / step)
    spectrum = scipy.fft.rfft2(image, padded)
    return CoarseFrame(step, image, np.asarray(spectrum, np.complex64), padded, spread)


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
    spread = 1.4826 * float(np.median(sample))
    return spread if spread > 0 else 0.1 * float(high.std())


def padded_shape(shape_yx: tuple[int, ...], radius_px: float) -> tuple[int, int]:
    """Choose the FFT's shape such that no shift within the radius wraps around."""
    sides = [scipy.fft.next_fast_len(side + min(int(np.ceil(radius_px)) + 2, side), real=True) for side in shape_yx]
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
    product = cyclic[np.ix_(shifts_y, shifts_x)].astype(np.float64)
    n = (height - np.abs(shifts_y))[:, None] * (width - np.abs(shifts_x))[None, :]
    ref_sum, ref_square = _overlap_sums(reference.image, shifts_y, shifts_x)
    mov_sum, mov_square = _overlap_sums(moving.image, -shifts_y, -shifts_x)
    covariance = product - ref_sum * mov_sum / n
    variances = (ref_square - ref_sum**2 / n) * (mov_square - mov_sum**2 / n)
    correlation = covariance / np.sqrt(np.maximum(variances, 1e-6 * float(variances.max()) + 1e-30))
    score = correlation * np.sqrt(n / (height * width))
    sample = score[::2, ::2]
    middle = float(np.median(sample))
    sigma = 1.4826 * float(np.median(np.abs(sample - middle))) + 1e-12
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
                float((score[row, column] - middle) / sigma),
            )
        )
        open_score[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = -np.inf
    return peaks


def _overlap_sums(image: Float32, shifts_y: NDArray[np.int64], shifts_x: NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Sum and sum of squares of the part of `image` that overlaps one moved by each shift."""
    total, squares = cv2.integral2(image, sdepth=cv2.CV_64F)
    height, width = image.shape
    top, bottom = np.maximum(0, -shifts_y), height - np.maximum(0, shifts_y)
    left, right = np.maximum(0, -shifts_x), width - np.maximum(0, shifts_x)

    def over(table: Float64) -> Float64:
        rows = table[bottom] - table[top]
        return np.asarray(rows[:, right] - rows[:, left])

    return over(total), over(squares)


def _parabola(line: Float64, peak: int) -> float:
    """Offset of a maximum from its sample by a parabola through three samples."""
    if peak in (0, len(line) - 1):
        return 0.0
    before, at, after = line[peak - 1 : peak + 2]
    curvature = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0
