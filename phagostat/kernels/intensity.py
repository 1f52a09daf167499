"""What the grey levels of a frame tell: exact percentiles, background, saturation, and frames without a signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phagostat.kernels.compilation import compiled
from phagostat.kernels.structure import block_structure

N_LEVELS = 65536
"""Length of every histogram here: all values of a uint16, of which a uint8 frame uses the first 256."""

Verdict = Literal["ok", "empty", "black", "constant", "saturated"]

MAX_EVEN_SPREAD = 0.3
"""Light that is even but for its shot noise: 99.8 % of the pixels lie within this share of the median."""


@dataclass(frozen=True)
class IntensityStatistics:
    """Grey levels of one frame of one channel, in camera counts.

    Parameters
    ----------
    minimum, maximum, mean, median
        Of all pixels.
    low, high
        The 0.1 and 99.9 percentiles: the range without single hot or dead pixels.
    structure
        Variance of block means over the variance that white noise of the frame's own local strength would leave in
        them: about 1 where there is nothing but camera noise, 10 to 100,000 where there is an image; NaN where the
        frame is too small for blocks or has no local variation at all.
    structure_counts
        Standard deviation of the block means that noise does not explain.
    neighbour_correlation
        Correlation of pixels with their right neighbours: near 0 where there is nothing but camera noise; NaN where the
        frame is too small for blocks.
    saturated_fraction
        Share of pixels at or above ``white_level``.
    white_level
        Value at which the camera saturates.
    """

    minimum: float
    maximum: float
    mean: float
    median: float
    low: float
    high: float
    structure: float
    structure_counts: float
    neighbour_correlation: float
    saturated_fraction: float
    white_level: int


@dataclass(frozen=True)
class FrameVerdict:
    """Whether a frame shows anything, and why that is believed."""

    verdict: Verdict
    evidence: str

    @property
    def ok(self) -> bool:
        """Whether the frame can be measured."""
        return self.verdict in ("ok", "empty")


def intensity_histogram(frame: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count how often every grey level occurs.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on any grid.

    Returns
    -------
    (65536,) int64
        Number of pixels of each value.

    Raises
    ------
    TypeError
        If the frame is of another type.
    """
    if frame.dtype not in (np.uint8, np.uint16) or frame.ndim != 2:
        raise TypeError(f"a frame must be two-dimensional, uint8 or uint16, not {frame.ndim}-d {frame.dtype}")
    histogram = np.zeros(N_LEVELS, np.int64)
    _count(frame, histogram)
    return histogram


@compiled
def _count(frame: NDArray[np.integer], histogram: NDArray[np.int64]) -> None:
    height, width = frame.shape
    for y in range(height):
        for x in range(width):
            histogram[frame[y, x]] += 1


def percentiles(histogram: NDArray[np.int64], q: ArrayLike) -> NDArray[np.float64]:
    """Percentiles of the counted pixels, equal to the last bit to ``numpy.percentile`` of the pixels themselves.

    Parameters
    ----------
    histogram : (n,) int64
        Number of pixels of each value.
    q : float or (k,) float
        Percentiles, 0 to 100.

    Returns
    -------
    float64, shape of ``q``
        Linearly interpolated percentiles; NaN where nothing was counted.
    """
    wanted = np.asarray(q, np.float64)
    if np.any((wanted < 0) | (wanted > 100)):
        raise ValueError(f"percentiles must lie in 0..100 (found: {wanted})")
    cumulative = np.cumsum(histogram)
    n = int(cumulative[-1])
    if n == 0:
        return np.full(wanted.shape, np.nan)
    position = (n - 1) * (wanted / 100)
    below = np.floor(position)
    low = np.searchsorted(cumulative, below.astype(np.int64), side="right")
    high = np.searchsorted(cumulative, np.minimum(below.astype(np.int64) + 1, n - 1), side="right")
    weight = position - below
    step = (high - low).astype(np.float64)
    # numpy interpolates from the nearer side, which decides the last bit.
    result: NDArray[np.float64] = np.where(weight >= 0.5, high - step * (1 - weight), low + step * weight)
    return result


def background_level(histogram: NDArray[np.int64]) -> float:
    """Camera offset and even glow of a frame: the mode of its histogram, in counts.

    The histogram is smoothed by a Gaussian that is narrow against the peak (a fifth of the shortest interval that
    holds half of the pixels) and the top is found by a parabola through three levels, so that the estimate is far
    finer than the noise and no tail of bright pixels moves it.

    Parameters
    ----------
    histogram : (65536,) int64
        Of a frame in which less than half of the pixels carry signal.

    Returns
    -------
    float
        Counts; NaN for an empty histogram.
    """
    n = int(histogram.sum())
    if n == 0:
        return float("nan")
    first, last = _shortest_half(histogram)
    sigma = max(0.5, (last - first + 1) / 5)
    margin = int(np.ceil(4 * sigma)) + 1
    window = np.zeros(last - first + 1 + 2 * margin)
    begin = first - margin
    cut_low, cut_high = max(begin, 0), min(last + margin + 1, histogram.size)
    window[cut_low - begin : cut_high - begin] = histogram[cut_low:cut_high]
    offsets = np.arange(-margin, margin + 1)
    smooth = np.convolve(window, np.exp(-0.5 * (offsets / sigma) ** 2), mode="same")
    top = int(np.argmax(smooth))
    if not 0 < top < smooth.size - 1:
        return float(begin + top)
    left, centre, right = smooth[top - 1 : top + 2]
    curvature = left - 2 * centre + right
    shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float(begin + top + shift)


def background_noise(histogram: NDArray[np.int64], background: float) -> float:
    """Standard deviation of the background pixels in counts, from the side of the peak that no signal reaches.

    Parameters
    ----------
    histogram : (65536,) int64
        Of the frame.
    background : float
        Its :func:`background_level`.

    Returns
    -------
    float
        Counts; too small where whole counts are coarser than the noise. NaN for an empty histogram.
    """
    levels = np.arange(histogram.size, dtype=np.float64)
    below = int(np.floor(background)) + 1
    n = int(histogram[:below].sum())
    if n == 0:
        return float("nan")
    return float(np.sqrt(np.dot(histogram[:below], (levels[:below] - background) ** 2) / n))


def white_level(histogram: NDArray[np.int64], dtype: np.dtype[np.integer] | type[np.integer]) -> int:
    """Value at which the camera saturates.

    A camera of fewer bits than its file (12 in 16) saturates below the largest value of the type; such a level shows
    as a pile of pixels at the very maximum, at least three times as many as in the whole percent of the range below.

    Parameters
    ----------
    histogram : (65536,) int64
        Of a frame.
    dtype : dtype
        Pixel type of the frame.

    Returns
    -------
    int
        The piled-up maximum, else the largest value of ``dtype``.
    """
    largest = int(np.iinfo(dtype).max)
    occupied = np.flatnonzero(histogram)
    if occupied.size < 2:
        return largest
    top = int(occupied[-1])
    width = max(1, (top - int(occupied[0])) // 100)
    pile, slope = int(histogram[top]), int(histogram[max(0, top - width) : top].sum())
    return top if pile >= 10 and pile > 3 * slope else largest


def intensity_statistics(
    frame: NDArray[np.integer],
    *,
    histogram: NDArray[np.int64] | None = None,
    white_level_counts: int | None = None,
    block_px: int = 32,
) -> IntensityStatistics:
    """Grey-level statistics of a frame.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts.
    histogram : (65536,) int64, optional
        :func:`intensity_histogram` of the same frame, if there already.
    white_level_counts : int, optional
        Where the camera saturates; by default the :func:`white_level` of this very frame, which only a frame with
        saturated pixels can tell.
    block_px : int
        Side of the blocks whose means show structure.
    """
    counts = intensity_histogram(frame) if histogram is None else histogram
    white = white_level(counts, frame.dtype) if white_level_counts is None else white_level_counts
    n = int(counts.sum())
    if n == 0:
        nan = float("nan")
        return IntensityStatistics(nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, white)
    minimum, low, median, high, maximum = (float(v) for v in percentiles(counts, (0, 0.1, 50, 99.9, 100)))
    occupied = counts[: int(maximum) + 1]
    mean = float(np.dot(occupied, np.arange(occupied.size, dtype=np.float64)) / n)
    structure = block_structure(frame, block_px=block_px)
    saturated = float(counts[white:].sum() / n) if white < counts.size else 0.0
    return IntensityStatistics(
        minimum=minimum,
        maximum=maximum,
        mean=mean,
        median=median,
        low=low,
        high=high,
        structure=structure.ratio,
        structure_counts=structure.counts,
        neighbour_correlation=structure.neighbour_correlation,
        saturated_fraction=saturated,
        white_level=white,
    )


def frame_verdict(
    statistics: IntensityStatistics,
    *,
    reference: IntensityStatistics | None = None,
    min_structure: float = 4.0,
    min_correlation: float = 0.1,
    min_structure_share: float = 0.02,
    max_saturated_fraction: float = 0.2,
    min_even_light: float | None = None,
) -> FrameVerdict:
    """Judge whether a frame shows anything at all.

    Parameters
    ----------
    statistics : IntensityStatistics
        Of the frame.
    reference : IntensityStatistics, optional
        Of the scene's reference frame, same channel; sharpens the judgement on frames whose light failed but leaked.
    min_structure : float
        Least :attr:`IntensityStatistics.structure`.
    min_correlation : float
        Least :attr:`IntensityStatistics.neighbour_correlation`; a frame that is below both is camera noise.
    min_structure_share : float
        Least ``structure_counts`` relative to the reference frame's.
    max_saturated_fraction : float
        Largest share of saturated pixels.
    min_even_light : float, optional
        Least median, as a share of the camera's white level, of a frame that shows nothing but is lit: transmitted
        light with nothing in its way. By default nothing is taken for that.

    Returns
    -------
    FrameVerdict
        ``constant`` if 99.8 % of the pixels have one value, ``saturated`` if too many pixels are, ``black`` if there
        is nothing but the camera's offset and noise, ``empty`` if there is nothing but even light, else ``ok``; with
        the figures that decided.

    Notes
    -----
    No camera offset is needed: what tells an image from noise is that neighbours belong together. Averaged over
    blocks, white noise falls by the number of pixels, an image does not; fine texture that is even over the field, such
    as that of spread cells, falls too, but its neighbouring pixels are alike.
    """
    s = statistics
    if np.isnan(s.minimum):
        return FrameVerdict("constant", "the frame has no pixels")
    if s.saturated_fraction > max_saturated_fraction:
        return FrameVerdict(
            "saturated",
            f"{s.saturated_fraction:.1%} of the pixels at {s.white_level} (limit {max_saturated_fraction:.0%})",
        )
    if s.low == s.high:
        return FrameVerdict("constant", f"99.8 % of the pixels are {s.median:g}")
    if s.structure < min_structure and s.neighbour_correlation < min_correlation:
        if min_even_light is not None and s.median >= min_even_light * s.white_level and _is_even(s):
            return FrameVerdict(
                "empty",
                f"even light of {s.median:g} counts (at least {min_even_light:.0%} of {s.white_level}) and its noise",
            )
        return FrameVerdict(
            "black",
            f"structure {s.structure:.2g} of noise alone (limit {min_structure:g}), neighbours correlated by "
            f"{s.neighbour_correlation:.2f} (limit {min_correlation:g})",
        )
    if reference is not None and s.structure_counts < min_structure_share * reference.structure_counts:
        return FrameVerdict(
            "black",
            f"structure of {s.structure_counts:.3g} counts against {reference.structure_counts:.3g} in the reference "
            f"frame (limit {min_structure_share:.0%})",
        )
    return FrameVerdict("ok", f"structure {s.structure:.3g} times that of noise")


def _is_even(statistics: IntensityStatistics) -> bool:
    return statistics.high - statistics.low <= MAX_EVEN_SPREAD * statistics.median


def _shortest_half(histogram: NDArray[np.int64]) -> tuple[int, int]:
    """First and last level of the shortest interval that holds half of the pixels; the lowest of equals."""
    levels = np.flatnonzero(histogram)
    cumulative = np.cumsum(histogram[levels])
    before = cumulative - histogram[levels]
    ends = np.searchsorted(cumulative, before + (int(cumulative[-1]) + 1) // 2, side="left")
    starts = np.flatnonzero(ends < levels.size)
    widths = levels[ends[starts]] - levels[starts]
    best = int(starts[int(np.argmin(widths))])
    return int(levels[best]), int(levels[ends[best]])
