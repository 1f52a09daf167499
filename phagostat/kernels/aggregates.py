"""Aggregates of one frame: the threshold in camera counts, label images, and what each aggregate measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.components import label_components
from phagostat.kernels.ellipses import fill_ellipses
from phagostat.kernels.intensity import percentiles
from phagostat.kernels.label_sums import sum_labels, sum_squares

FEATURES = np.dtype(
    [
        ("label", np.uint16),
        ("area_px", np.int64),
        ("area_um2", np.float64),
        ("y_px", np.float64),
        ("x_px", np.float64),
        ("weighted_y_px", np.float64),
        ("weighted_x_px", np.float64),
        ("mean_counts", np.float64),
        ("max_counts", np.float64),
        ("integrated_counts", np.float64),
        ("top_px", np.int32),
        ("left_px", np.int32),
        ("bottom_px", np.int32),
        ("right_px", np.int32),
        ("major_axis_um", np.float64),
        ("minor_axis_um", np.float64),
        ("eccentricity", np.float64),
        ("orientation_rad", np.float64),
        ("n_saturated_px", np.int64),
        ("touches_border", np.bool_),
    ]
)
"""Columns of :func:`aggregate_features`; see there."""


@dataclass(frozen=True)
class LabelledAggregates:
    """Aggregates of one frame.

    Parameters
    ----------
    labels : (y, x) uint16
        0 for background, else 1, 2, ... in raster order of each aggregate's first pixel (analysis grid).
    n_too_small, n_too_large
        Connected components left out by the area limits.
    """

    labels: NDArray[np.uint16]
    n_too_small: int
    n_too_large: int

    @property
    def n_aggregates(self) -> int:
        """Number of labels."""
        return int(self.labels.max(initial=0))


def scene_threshold(
    histogram: NDArray[np.int64], background: float, *, percentile: float = 99.5, fraction: float = 0.5
) -> float:
    """Threshold that one reference frame alone would give, in background-subtracted counts.

    Parameters
    ----------
    histogram : (65536,) int64
        Of the scene's aggregate reference frame, on the analysis grid.
    background : float
        Its background level in counts.
    percentile, fraction
        The threshold is this fraction of this percentile.
    """
    return fraction * (float(percentiles(histogram, percentile)) - background)


def threshold_from_references(
    histograms: Sequence[NDArray[np.int64]],
    backgrounds: Sequence[float],
    *,
    percentile: float = 99.5,
    fraction: float = 0.5,
) -> float:
    """Threshold for a whole acquisition, in background-subtracted counts.

    Parameters
    ----------
    histograms : sequence of (65536,) int64
        Of the aggregate reference frame of every scene, on the analysis grid.
    backgrounds : sequence of float
        Background level of each, in counts.
    percentile, fraction
        The threshold is this fraction of this percentile of all frames' pixels, pooled after subtraction of each
        frame's own background (rounded to a count).

    Returns
    -------
    float
        Counts above background.

    Raises
    ------
    ValueError
        If there is no frame, or a background is not finite.
    """
    if len(histograms) == 0 or len(histograms) != len(backgrounds):
        raise ValueError(f"one background a histogram is needed (found: {len(histograms)} and {len(backgrounds)})")
    if not np.all(np.isfinite(backgrounds)):
        raise ValueError(f"every background must be finite (found: {list(backgrounds)})")
    offsets = [round(background) for background in backgrounds]
    lowest = max(offsets)
    pooled = np.zeros(max(h.size for h in histograms) + lowest - min(offsets), np.int64)
    for histogram, offset in zip(histograms, offsets, strict=True):
        begin = lowest - offset
        pooled[begin : begin + histogram.size] += histogram
    return fraction * (float(percentiles(pooled, percentile)) - lowest)


def deviating_scenes(thresholds: Sequence[float], *, max_deviation: float = 0.25) -> NDArray[np.bool_]:
    """Scenes whose own threshold is far from the acquisition's median.

    Parameters
    ----------
    thresholds : sequence of float
        :func:`scene_threshold` of every scene.
    max_deviation : float
        Largest relative difference from the median that is not flagged.

    Returns
    -------
    (n_scenes,) bool
        True where the scene deviates, or has no finite threshold.
    """
    values = np.asarray(thresholds, np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.ones(values.shape, np.bool_)
    median = float(np.median(values[finite]))
    deviates: NDArray[np.bool_] = ~(np.abs(values - median) <= max_deviation * abs(median))
    return deviates


def label_aggregates(
    frame: NDArray[np.integer],
    *,
    background: float,
    threshold_counts: float,
    bleaching_factor: float = 1.0,
    pixel_size_um: float,
    min_area_um2: float = 0.0,
    max_area_um2: float | None = None,
    connectivity: Literal[4, 8] = 8,
) -> LabelledAggregates:
    """Label the aggregates of a frame.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the analysis grid.
    background : float
        Background level of this frame, in counts.
    threshold_counts : float
        An aggregate's pixels exceed this after background subtraction and division by ``bleaching_factor``.
    bleaching_factor : float
        By how much this frame's aggregates have faded against the reference (0.8: 20 % darker).
    pixel_size_um : float
        Of the analysis grid.
    min_area_um2, max_area_um2 : float
        Aggregates must be larger than the one and smaller than the other (both strictly, as published; None: no
        limit).
    connectivity : 4 or 8
        Whether diagonal neighbours belong together (8: published).

    Returns
    -------
    LabelledAggregates
        Label image and how many components the area limits left out.

    Raises
    ------
    PhagostatError
        If more aggregates are left than a label image can number.
    ValueError
        If threshold, background or bleaching factor is not a finite number, or the factor is not positive.

    Notes
    -----
    One background a frame is subtracted, not a local one. On the real frame the local background (medians of 13 um
    blocks) differs from it by up to 6 % of the threshold in nine tenths of the field and 10 % at most, while a
    background narrow enough to follow haze dips into large aggregates and depends on how many there are, which would
    count as eaten area.

    The published rule (profile ``paper``) is the same call on the normalised 8-bit frame with ``background=0`` and
    ``threshold_counts=int(0.5 * 255)``.
    """
    cut = background + threshold_counts * bleaching_factor
    if not (np.isfinite(cut) and bleaching_factor > 0):
        raise ValueError(
            "background, threshold and bleaching factor must be finite, the factor positive "
            f"(found: {background}, {threshold_counts}, {bleaching_factor})"
        )
    # Counts are whole numbers: above the cut is above its floor, and whole numbers compare four times faster.
    mask = (frame > int(np.floor(cut))).view(np.uint8)
    square_um2 = pixel_size_um**2
    # Rounded, since 10 px2 of 0.206 um are 0.42436 um2 on paper and a hair more or less in binary.
    components = label_components(
        mask,
        above_px=round(min_area_um2 / square_um2, 6),
        below_px=round(max_area_um2 / square_um2, 6) if max_area_um2 is not None else np.inf,
        connectivity=connectivity,
        what="aggregates",
        remedy="raise aggregates.min_area_um2 or the threshold: this is noise or a frame without background",
    )
    return LabelledAggregates(components.labels, components.n_too_small, components.n_too_large)


def aggregate_features(
    labels: NDArray[np.uint16],
    frame: NDArray[np.integer],
    *,
    background: float,
    pixel_size_um: float,
    factor: int,
    white_level_counts: int | None = None,
) -> NDArray[np.void]:
    """Measure every labelled aggregate.

    Parameters
    ----------
    labels : (y, x) uint16
        Label image 1..n without gaps, analysis grid.
    frame : (y, x) uint8 or uint16
        Camera counts, same grid.
    background : float
        Background level of this frame in counts; subtracted from all intensities.
    pixel_size_um : float
        Of the analysis grid.
    factor : int
        Native pixels per analysis pixel.
    white_level_counts : int, optional
        Where the camera saturates; by default the largest value of the frame's type.

    Returns
    -------
    (n,) structured array of type :data:`FEATURES`
        ``label``; ``area_px`` in analysis pixels and ``area_um2``; ``y_px, x_px`` the centroid and ``weighted_y_px,
        weighted_x_px`` the intensity-weighted centroid in **native** pixels (the centre of analysis pixel ``i`` is
        native ``(i + 0.5) * factor - 0.5``); ``mean_counts, max_counts, integrated_counts`` above background, not
        divided by any bleaching factor (integrated: counts x analysis pixels); ``top_px, left_px, bottom_px,
        right_px`` the bounding box in analysis pixels, bottom and right excluded; ``major_axis_um, minor_axis_um,
        eccentricity, orientation_rad`` of the ellipse of equal second moments, as scikit-image defines them (angle
        between the y axis and the major axis, counter-clockwise); ``n_saturated_px``; ``touches_border`` of the
        label image.

    Notes
    -----
    Only foreground pixels are visited. Centroids and moments equal those of ``skimage.measure.regionprops``.
    """
    height, width = labels.shape
    white = int(np.iinfo(frame.dtype).max) if white_level_counts is None else white_level_counts
    sums = sum_labels(labels, frame, background=background, white_level_counts=white)
    area, n = sums.area, sums.area.size
    table = np.zeros(n, FEATURES)
    if n == 0:
        return table
    if not area.all():
        raise ValueError(f"labels must be numbered without gaps (found: {np.count_nonzero(area)} labels up to {n})")
    mean_y, mean_x = sums.sum_y / area, sums.sum_x / area
    # Weights below zero (a label over background) would throw the weighted centroid out of the aggregate.
    with np.errstate(invalid="ignore", divide="ignore"):
        weighted_y = np.where(sums.weight > 0, sums.weight_y / sums.weight, mean_y)
        weighted_x = np.where(sums.weight > 0, sums.weight_x / sums.weight, mean_x)
    table["label"] = np.arange(1, n + 1)
    table["area_px"] = area
    table["area_um2"] = area * pixel_size_um**2
    for name, value in (
        ("y_px", mean_y),
        ("x_px", mean_x),
        ("weighted_y_px", weighted_y),
        ("weighted_x_px", weighted_x),
    ):
        table[name] = (value + 0.5) * factor - 0.5
    table["integrated_counts"] = sums.total
    table["mean_counts"] = sums.total / area
    table["max_counts"] = sums.maximum
    table["top_px"], table["left_px"], table["bottom_px"], table["right_px"] = (
        sums.top,
        sums.left,
        sums.bottom,
        sums.right,
    )
    table["touches_border"] = (
        (table["top_px"] == 0) | (table["left_px"] == 0) | (table["bottom_px"] == height) | (table["right_px"] == width)
    )
    table["n_saturated_px"] = sums.n_saturated
    yy, xx, xy = sum_squares(labels, mean_y, mean_x, sums) / area
    fill_ellipses(table, yy=yy, xx=xx, xy=xy, pixel_size_um=pixel_size_um)
    return table
