"""From camera counts to 8 bit on the analysis grid: area averaging, lookup tables, flat field."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.special import ndtr, ndtri

from phagostat.kernels.compilation import compiled
from phagostat.kernels.intensity import N_LEVELS, intensity_histogram, percentiles

CELL_GREY_MEAN = 115.0
"""Mean grey of the published normalised phase-contrast frame (cell.png: 115.23)."""

CELL_GREY_SD = 34.0
"""Standard deviation of its greys (cell.png: 33.86)."""

Table = NDArray[np.uint8]


def reduce_area(frame: NDArray[np.integer], *, factor: int) -> NDArray[np.integer]:
    """Average ``factor`` x ``factor`` pixels into one: from the native to the analysis grid.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the native grid.
    factor : int
        Native pixels per analysis pixel along an axis.

    Returns
    -------
    (y // factor, x // factor), dtype of ``frame``
        Means, rounded to the nearest integer (an exact half upwards for factor 2, else to the even neighbour or as
        float32 arithmetic falls). Rows and columns beyond the last whole block, at the bottom and the right, are left
        out. With ``factor`` 1 the frame itself.

    Notes
    -----
    The centre of analysis pixel ``i`` lies at native coordinate ``(i + 0.5) * factor - 0.5``. Rounding costs 0.3
    counts of standard deviation, far below camera noise.
    """
    if factor < 1:
        raise ValueError(f"the reduction must be at least 1 (found: {factor})")
    if factor == 1:
        return frame
    height, width = frame.shape[0] // factor, frame.shape[1] // factor
    if height == 0 or width == 0:
        raise ValueError(f"a frame of {frame.shape} holds no block of {factor} x {factor} pixels")
    reduced: NDArray[np.integer] = cv2.resize(
        frame[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA
    )
    return reduced


def stretch_table(low: float, high: float) -> Table:
    """Lookup table that spreads ``low``..``high`` counts over 0..255.

    Parameters
    ----------
    low, high : float
        Counts that become 0 and 255; what lies outside is clipped.

    Returns
    -------
    (65536,) uint8
        Grey level of every count.

    Notes
    -----
    The bytes are those of the published way, ``img_as_ubyte(rescale_intensity(frame, in_range=(low, high),
    out_range=uint16))``: through 16 bit, truncating twice. Where ``low`` equals ``high`` (a constant reference frame)
    the published way stretches nothing and keeps the upper byte of the clipped count; so does this.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"a stretch needs finite low <= high (found: {low}, {high})")
    counts = np.clip(np.arange(N_LEVELS, dtype=np.float64), low, high)
    if low != high:
        counts = (counts - low) / (high - low) * float(N_LEVELS - 1)
    return (counts.astype(np.uint16) >> 8).astype(np.uint8)


def apply_table(frame: NDArray[np.integer], table: Table) -> NDArray[np.uint8]:
    """Grey levels of a frame by table.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts.
    table : (65536,) uint8
        Grey level of every count.
    """
    entries = table[:256] if frame.dtype == np.uint8 else table
    greys: NDArray[np.uint8] = cv2.LUT(frame, entries)
    return greys


def normalise_aggregates(frame: NDArray[np.integer], *, table: Table, factor: int) -> NDArray[np.uint8]:
    """Aggregate channel in 8 bit on the analysis grid.

    Averaged first and looked up after, so that clipping bright pixels does not darken the blocks they lie in.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the native grid.
    table : (65536,) uint8
        :func:`stretch_table` of the scene's reference frame.
    factor : int
        Native pixels per analysis pixel; 1 for a frame that is reduced already.
    """
    return apply_table(reduce_area(frame, factor=factor), table)


def flat_field(frame: NDArray[np.integer], *, sigma_px: float) -> NDArray[np.float32]:
    """Gain that evens the illumination of a phase-contrast frame.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts, on the grid that the gain will be applied to.
    sigma_px : float
        Width of the Gaussian in pixels of that grid; several cells wide.

    Returns
    -------
    (y, x) float32
        Gain map of median 1, to be multiplied with frames.

    Notes
    -----
    Medians of blocks (a quarter of sigma wide), limited to three robust standard deviations about their median, keep
    halos and bright round cells from pulling the illumination; the Gaussian runs on that coarse grid, mirrored at the
    border.
    """
    if not sigma_px > 0:
        raise ValueError(f"the width of a flat field must be positive (found: {sigma_px} px)")
    height, width = frame.shape
    block = max(1, int(sigma_px / 4))
    n_y, n_x = max(1, round(height / block)), max(1, round(width / block))
    rows, columns = np.linspace(0, height, n_y + 1).astype(int), np.linspace(0, width, n_x + 1).astype(int)
    coarse = np.empty((n_y, n_x))
    for i in range(n_y):
        for j in range(n_x):
            coarse[i, j] = np.median(frame[rows[i] : rows[i + 1], columns[j] : columns[j + 1]])
    middle = float(np.median(coarse))
    reach = 3 * 1.4826 * float(np.median(np.abs(coarse - middle)))
    smooth = gaussian_filter(
        np.clip(coarse, middle - reach, middle + reach),
        (sigma_px * n_y / height, sigma_px * n_x / width),
        mode="reflect",
    )
    centre = float(np.median(smooth))
    # A field without light anywhere cannot be evened; a gain of 1 leaves it as it is.
    gain = np.ones_like(smooth) if centre <= 0 else centre / np.maximum(smooth, 0.05 * centre)
    full: NDArray[np.float32] = zoom(gain, (height / n_y, width / n_x), order=1, mode="nearest", grid_mode=True).astype(
        np.float32
    )
    return full


def even_illumination(frame: NDArray[np.integer], gain: NDArray[np.float32]) -> NDArray[np.integer]:
    """A frame multiplied by a gain map, rounded and clipped to its own type.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts.
    gain : (y, x) float32
        :func:`flat_field` on the same grid.
    """
    evened: NDArray[np.integer] = cv2.multiply(frame, gain, dtype=cv2.CV_8U if frame.dtype == np.uint8 else cv2.CV_16U)
    return evened


def gaussian_matching_table(
    histogram: NDArray[np.int64],
    *,
    mean: float = CELL_GREY_MEAN,
    sd: float = CELL_GREY_SD,
    low_percentile: float = 0.1,
    high_percentile: float = 99.9,
) -> Table:
    """Lookup table that gives the counted pixels the grey levels of a Gaussian.

    Parameters
    ----------
    histogram : (65536,) int64
        Of the scene's reference frame, illumination evened.
    mean, sd : float
        Of the Gaussian, in grey levels.
    low_percentile, high_percentile : float
        Counts outside these percentiles get the grey of the percentile: one hot pixel decides nothing.

    Returns
    -------
    (65536,) uint8
        Monotone grey level of every count.

    Notes
    -----
    A count gets the grey at its mid-rank: half of its own pixels count as darker. Between counts that do not occur
    the rank stays as it is.
    """
    total = int(histogram.sum())
    if total == 0:
        raise ValueError("no pixels to match: the histogram is empty")
    cumulative = np.cumsum(histogram, dtype=np.float64)
    rank = (cumulative - 0.5 * histogram) / total
    low, high = percentiles(histogram, (low_percentile, high_percentile))
    counts = np.clip(np.arange(histogram.size), int(np.ceil(low)), int(np.floor(max(high, np.ceil(low)))))
    greys = mean + sd * ndtri(np.clip(rank[counts], 0.5 / total, 1 - 0.5 / total))
    table: Table = np.rint(np.clip(greys, 0, 255)).astype(np.uint8)
    return table


def normalise_cells(
    frame: NDArray[np.integer], *, table: Table, gain: NDArray[np.float32] | None, factor: int
) -> NDArray[np.uint8]:
    """Cell channel in 8 bit on the analysis grid.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the native grid.
    table : (65536,) uint8
        :func:`gaussian_matching_table` of the scene's reference frame.
    gain : (y // factor, x // factor) float32 or None
        :func:`flat_field` on the analysis grid; None to leave the illumination as it is.
    factor : int
        Native pixels per analysis pixel; 1 for a frame that is reduced already.
    """
    reduced = reduce_area(frame, factor=factor)
    if gain is None:
        return apply_table(reduced, table)
    greys = np.empty(reduced.shape, np.uint8)
    _even_greys(reduced, gain, table, np.float32(np.iinfo(reduced.dtype).max), greys)
    return greys


@compiled
def _even_greys(
    frame: NDArray[np.integer],
    gain: NDArray[np.float32],
    table: Table,
    largest: np.float32,
    greys: NDArray[np.uint8],
) -> None:
    """What :func:`even_illumination` and :func:`apply_table` make, without a frame in between."""
    counts = np.empty(frame.shape[1], np.uint16)  # whatever comes out, it is in the table
    for y in range(frame.shape[0]):
        row, factors, to = frame[y], gain[y], greys[y]
        for x in range(counts.size):
            counts[x] = np.uint16(np.int32(np.rint(min(np.float32(row[x]) * factors[x], largest))))
        for x in range(to.size):
            to[x] = table[counts[x]]


def gaussian_template(
    *, mean: float = CELL_GREY_MEAN, sd: float = CELL_GREY_SD, n_px: int = 2**20
) -> NDArray[np.int64]:
    """Histogram of an 8-bit image whose greys follow a Gaussian: the template of the published matching.

    Parameters
    ----------
    mean, sd : float
        Of the Gaussian, in grey levels; its tails gather in 0 and 255.
    n_px : int
        Pixels of the image.

    Returns
    -------
    (256,) int64
        Pixels of each grey level, ``n_px`` in all.
    """
    edges = ndtr((np.arange(1, 256) - 0.5 - mean) / sd)
    cumulative = np.rint(np.concatenate(([0.0], edges, [1.0])) * n_px).astype(np.int64)
    histogram: NDArray[np.int64] = np.diff(cumulative)
    return histogram


def histogram_matching_table(histogram: NDArray[np.int64], template: NDArray[np.int64]) -> Table:
    """Lookup table from one 8-bit histogram to another, with the bytes of the published way.

    Parameters
    ----------
    histogram : (256,) int64
        Of the image to change.
    template : (256,) int64
        Of the image to be like.

    Returns
    -------
    (256,) uint8
        Grey levels; those of ``skimage.exposure.match_histograms(image, template_image).astype(uint8)``, which
        truncates.
    """
    source_rank = np.cumsum(histogram) / int(histogram.sum())
    levels = np.flatnonzero(template)
    template_rank = np.cumsum(template[levels]) / int(template.sum())
    return np.interp(source_rank, template_rank, levels).astype(np.uint8)


def frame_matching_table(
    histogram: NDArray[np.int64],
    *,
    template: NDArray[np.int64] | None = None,
    low_percentile: float = 0.0,
    high_percentile: float = 100.0,
) -> Table:
    """Lookup table that normalises a frame by itself, as the profile ``paper`` does.

    Stretched to 8 bit between its own percentiles (published: 0 and 100), then matched to a template histogram.

    Parameters
    ----------
    histogram : (65536,) int64
        Of this frame.
    template : (256,) int64, optional
        Histogram to be like; by default the Gaussian of :func:`gaussian_template`.
    low_percentile, high_percentile : float
        Of the frame, that become 0 and 255 before matching.

    Returns
    -------
    (65536,) uint8
        Grey level of every count of this frame.

    Notes
    -----
    The background's grey then depends on how much of the field cells cover, and a field without cells shows its noise
    at full contrast: reasons why the profile ``corrected`` freezes one table a scene.
    """
    low, high = percentiles(histogram, (low_percentile, high_percentile))
    stretched = stretch_table(float(low), float(high))
    grey_histogram = np.bincount(stretched, weights=histogram, minlength=256).astype(np.int64)
    target = gaussian_template() if template is None else template
    return histogram_matching_table(grey_histogram, target)[stretched]


def match_to_gaussian(
    frame: NDArray[np.integer], *, mean: float = CELL_GREY_MEAN, sd: float = CELL_GREY_SD, factor: int = 1
) -> NDArray[np.uint8]:
    """Cell channel in 8 bit, each frame matched to a Gaussian by itself (profile ``paper``).

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the native grid.
    mean, sd : float
        Of the Gaussian, in grey levels.
    factor : int
        Native pixels per analysis pixel; matched on the native grid first, averaged after, as published.
    """
    table = frame_matching_table(intensity_histogram(frame), template=gaussian_template(mean=mean, sd=sd))
    return reduce_area(apply_table(frame, table), factor=factor).astype(np.uint8, copy=False)
