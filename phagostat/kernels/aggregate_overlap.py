"""What the reference's aggregates have become in a frame: overlaps, area and light in their place."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.territory_sums import sum_above, sum_territories

OVERLAPS = np.dtype([("reference", np.uint16), ("label", np.uint16), ("area_px", np.float64), ("n_px", np.int32)])
"""Columns of :attr:`TerritoryMeasures.overlaps`."""

PLACES = np.dtype(
    [
        ("reference", np.uint16),
        ("area_px", np.float64),
        ("glass_y_px", np.float64),
        ("glass_x_px", np.float64),
        ("light_counts", np.float64),
        ("valid_fraction", np.float64),
    ]
)
"""Columns of :attr:`TerritoryMeasures.places`."""


@dataclass(frozen=True)
class Territories:
    """The part of the glass that belongs to each reference aggregate; made once a scene.

    Parameters
    ----------
    image : (y, x) uint16
        Territory of each reference aggregate on the reference's analysis grid: its footprint and a margin; 0: nobody's.
    y_px, x_px : (n_pixels,) int32
        Pixels of all territories, in raster order.
    index : (n_pixels,) intp
        Aggregate of each of those pixels, label minus 1.
    size_px : (n,) int64
        Number of pixels of each territory.
    area_px : (n,) int64
        Number of pixels of each aggregate's footprint.
    touches_border : (n,) bool
        Whether the territory reaches the edge of the reference frame: part of the aggregate may lie beyond.
    """

    image: NDArray[np.uint16]
    light: NDArray[np.float32]
    y_px: NDArray[np.int32]
    x_px: NDArray[np.int32]
    index: NDArray[np.intp]
    size_px: NDArray[np.int64]
    area_px: NDArray[np.int64]
    touches_border: NDArray[np.bool_]


@dataclass(frozen=True)
class TerritoryMeasures:
    """A frame's small tables; see :func:`measure_territories`."""

    overlaps: NDArray[np.void]
    places: NDArray[np.void]


def prepare_territories(
    labels: NDArray[np.uint16], reference_frame: NDArray[np.integer], *, background: float, margin_px: int = 3
) -> Territories:
    """Territories of the reference aggregates.

    Parameters
    ----------
    labels : (y, x) uint16
        Label image of the reference frame, 1..n without gaps, analysis grid. Aggregates too small to be counted
        should be in it as well (label with ``min_area_um2=0``), since what is eaten of them is eaten.
    margin_px : int
        Width of the margin in analysis pixels, for sub-pixel shifts, slight defocus and the light around the
        footprint; between two aggregates the border runs half way.

    Returns
    -------
    Territories
        Possibly of no aggregate.
    """
    image = labels.copy()
    kernel = np.ones((3, 3), np.uint8)
    for _ in range(margin_px):
        grown = cv2.dilate(image, kernel)
        np.copyto(image, grown, where=image == 0)
    flat = np.flatnonzero(image.ravel() != 0)
    index = image.ravel()[flat].astype(np.intp) - 1
    y, x = np.divmod(flat, image.shape[1])
    n = int(labels.max(initial=0))
    edge = np.zeros(n + 1, np.bool_)
    for line in (image[0], image[-1], image[:, 0], image[:, -1]):
        edge[line] = True
    light = reference_frame.astype(np.float32) - np.float32(background)
    return Territories(
        image,
        light,
        y.astype(np.int32),
        x.astype(np.int32),
        index,
        np.bincount(index, minlength=n),
        np.bincount(labels.ravel(), minlength=n + 1)[1:],
        edge[1:],
    )


def measure_territories(
    frame: NDArray[np.integer],
    labels: NDArray[np.uint16],
    territories: Territories,
    *,
    shift_yx_px: tuple[float, float],
    factor: int,
    background: float,
    threshold_counts: float,
    bleaching_factor: float = 1.0,
    kept_ratio: float = 0.5,
    halo_fraction: float = 0.5,
) -> TerritoryMeasures:
    """Where this frame's aggregates lie in the territories of the reference's, and what is left in those.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the analysis grid, the territories' shape.
    labels : (y, x) uint16
        Label image of this frame, same grid.
    territories : Territories
        Of the scene's reference frame.
    shift_yx_px : (float, float)
        Shift of this frame against the reference in native pixels, as registration reports it.
    factor : int
        Native pixels per analysis pixel.
    background, threshold_counts, bleaching_factor
        As for :func:`~phagostat.kernels.aggregates.label_aggregates`.

    Returns
    -------
    TerritoryMeasures
        ``overlaps``: for every pair of territory and label that meet, the area in analysis pixels above the threshold
        with pixels on the outline counted in part, and the number of labelled pixels. ``reference`` 0 is what lies in
        no territory, ``label`` 0 what is above the threshold but in no label (too small). Sorted by both.
        ``places``: for every reference aggregate the area above the threshold in its territory (sum of its overlaps),
        that area's centroid in the reference's native pixels (NaN where there is none), the light in the territory
        above the background, divided by the bleaching factor, in counts x analysis pixels, and the part of the
        territory that lies inside this frame, 0 to 1. Where that is below 1, all are those of the visible part.

    Raises
    ------
    ValueError
        If shapes differ or the shift is not finite.

    Notes
    -----
    Pixels on an outline count by the part of them that a plane through their neighbours has above the threshold:
    ``0.5 + (value - threshold) / (|gradient_y| + |gradient_x|)``, clipped to 0..1. An aggregate of 25 pixels that is
    moved by fractions of a pixel scatters three times less than by whole pixels, and its mean stays.

    Territories are moved by whole pixels: the margin covers the rest.
    """
    if frame.shape != labels.shape or frame.shape != territories.image.shape:
        raise ValueError(
            "frame, labels and territories must have one shape "
            f"(found: {frame.shape}, {labels.shape}, {territories.image.shape})"
        )
    if not np.all(np.isfinite(shift_yx_px)):
        raise ValueError(f"the shift must be finite (found: {shift_yx_px})")
    move = round(shift_yx_px[0] / factor), round(shift_yx_px[1] / factor)
    by_territory, pairs, areas, n_labelled = sum_above(
        frame,
        labels,
        territories.image,
        territories.light,
        cut=background + threshold_counts * bleaching_factor,
        moved_yx_px=(shift_yx_px[0] / factor, shift_yx_px[1] / factor),
        background=background,
        bleaching_factor=bleaching_factor,
        kept_ratio=kept_ratio,
        least_light=halo_fraction * threshold_counts,
    )
    n = territories.size_px.size
    places = np.zeros(n, PLACES)
    places["reference"] = np.arange(1, n + 1)
    area, total_y, total_x = by_territory[1:].T
    places["area_px"] = area
    for name, total, shift in (("glass_y_px", total_y, shift_yx_px[0]), ("glass_x_px", total_x, shift_yx_px[1])):
        mean = np.divide(total, area, out=np.full(n, np.nan), where=area > 0)
        places[name] = (mean + 0.5) * factor - 0.5 - shift
    counts, inside = sum_territories(frame, territories.y_px, territories.x_px, territories.index, n=n, move_yx_px=move)
    places["light_counts"] = (counts - background * inside) / bleaching_factor
    places["valid_fraction"] = inside / np.maximum(territories.size_px, 1)
    overlaps = np.zeros(pairs.size, OVERLAPS)
    overlaps["reference"], overlaps["label"] = pairs >> 16, pairs & 0xFFFF
    overlaps["area_px"], overlaps["n_px"] = areas, n_labelled
    return TerritoryMeasures(overlaps, places)


def parts_above(frame: NDArray[np.integer], cut: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Flat indices of the pixels above the cut or on an outline, and the part of each that is above."""
    height, width = frame.shape
    mask = (frame > int(np.floor(cut))).view(np.uint8)
    flat = np.flatnonzero(cv2.dilate(mask, np.ones((3, 3), np.uint8)).view(np.bool_).ravel())
    raw = frame.ravel()
    y, x = np.divmod(flat, width)
    up, down = raw[flat - width * (y > 0)], raw[flat + width * (y < height - 1)]
    left, right = raw[flat - (x > 0)], raw[flat + (x < width - 1)]
    slope = np.abs(down.astype(np.float64) - up) / 2 + np.abs(right.astype(np.float64) - left) / 2
    part = np.clip(0.5 + (raw[flat] - cut) / np.maximum(slope, 1.0), 0.0, 1.0)
    some = part > 0
    return flat[some], part[some]
