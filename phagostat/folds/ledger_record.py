"""What the ledger needs of a frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LedgerRecord:
    """What the fold needs of a frame; n reference aggregates, m labels.

    Parameters
    ----------
    frame
        Index in the scene; records come in ascending order, gaps are allowed.
    time_s
        Acquisition time.
    usable
        Whether the frame is registered, sharp, and its aggregates measured at a known bleaching factor.
    area_um2
        (n,) what is left of each reference aggregate in its place: of pixels that keep their light.
    above_um2, dimmed_um2
        (n,) what is above the threshold there, and the part of that which is dimmer than it was.
    light
        (n,) light in its territory.
    seen_fraction
        (n,) part of each footprint that lies inside the frame.
    moved_um2, moved_by_um
        (n,) what of it shows elsewhere, and (n, 2) how far away, y before x.
    moved_light
        (n,) light of that, relative to the reference frame's.
    moved_all
        (n,) above 0 where all of it, not only what is gone, was recognised there.
    position_um
        (m, 2) where each label's centroid lies on the glass, y before x.
    label_area_um2, outside_um2
        (m,) area of each label, and the part of it that lies in no territory.
    cut_off
        (m,) whether the label reaches the edge of the frame: part of it may lie beyond.
    home_label
        (n,) index of the label that has most of what is left in each territory; -1 for none.
    """

    frame: int
    time_s: float
    usable: bool
    area_um2: Floats
    above_um2: Floats
    dimmed_um2: Floats
    light: Floats
    seen_fraction: Floats
    moved_um2: Floats
    moved_by_um: Floats
    moved_light: Floats
    moved_all: Floats
    position_um: Floats
    label_area_um2: Floats
    outside_um2: Floats
    cut_off: NDArray[np.bool_]
    home_label: NDArray[np.intp]


def ledger_record(
    frame: int,
    time_s: float,
    *,
    usable: bool,
    places: Mapping[str, NDArray[Any]] | NDArray[np.void],
    overlaps: Mapping[str, NDArray[Any]] | NDArray[np.void],
    aggregates: Mapping[str, NDArray[Any]] | NDArray[np.void],
    pixel_size_um: float,
    analysis_pixel_size_um: float,
) -> LedgerRecord:
    """Make a record from what the frame's aggregate step commits.

    Parameters
    ----------
    frame, time_s, usable
        As in :class:`LedgerRecord`.
    places, overlaps
        Columns of :data:`~phagostat.kernels.aggregate_overlap.PLACES` and ``OVERLAPS``.
    aggregates
        Columns ``label`` (or ``aggregate``), ``glass_y_px``, ``glass_x_px`` and ``touches_border`` of the frame's
        aggregates.
    pixel_size_um, analysis_pixel_size_um
        Native and analysis pixel size.
    """
    square = analysis_pixel_size_um**2
    names = aggregates.dtype.names or () if isinstance(aggregates, np.ndarray) else tuple(aggregates)
    label = np.asarray(aggregates["label" if "label" in names else "aggregate"]).astype(np.intp)
    place = np.full(int(max(label.max(initial=0), overlaps["label"].max(initial=0))) + 1, -1, np.intp)
    place[label] = np.arange(len(label))
    row = place[overlaps["label"].astype(np.intp)]
    inside = np.asarray(overlaps["reference"]) > 0
    of_labels = row >= 0
    total, outside = (
        np.bincount(row[chosen], np.asarray(overlaps["area_px"][chosen], np.float64) * square, len(label)).astype(float)
        for chosen in (of_labels, of_labels & ~inside)
    )
    position = np.stack([aggregates["glass_y_px"], aggregates["glass_x_px"]], axis=1) * pixel_size_um
    return LedgerRecord(
        frame,
        time_s,
        usable,
        np.asarray(places["left_px"], np.float64) * square,
        np.asarray(places["above_px"], np.float64) * square,
        np.asarray(places["dimmed_px"], np.float64) * square,
        np.asarray(places["light_counts"], np.float64),
        np.asarray(places["seen_fraction"], np.float64),
        np.asarray(places["moved_px"], np.float64) * square,
        np.stack([places["moved_y_px"], places["moved_x_px"]], axis=1).astype(np.float64) * pixel_size_um,
        np.asarray(places["moved_light"], np.float64),
        np.asarray(places["moved_all"], np.float64),
        np.asarray(position, np.float64).reshape(-1, 2),
        total,
        outside,
        np.asarray(aggregates["touches_border"], np.bool_),
        _home_labels(np.asarray(overlaps["reference"]), row, np.asarray(overlaps["area_px"]), len(places["area_px"])),
    )


def unusable_record(frame: int, time_s: float) -> LedgerRecord:
    """Make the record of a frame that cannot be used: it has nothing but its place and time."""
    none = np.empty(0)
    return LedgerRecord(
        frame,
        time_s,
        False,
        none,
        none,
        none,
        none,
        none,
        none,
        np.empty((0, 2)),
        none,
        none,
        np.empty((0, 2)),
        none,
        none,
        none > 0,
        none.astype(np.intp),
    )


def _home_labels(reference: NDArray[Any], row: NDArray[np.intp], area: NDArray[Any], n: int) -> NDArray[np.intp]:
    best = np.full(n, -1, np.intp)
    chosen = np.flatnonzero((reference > 0) & (row >= 0))
    # Of repeated indices the last assignment stays: the largest area, of equals the first label.
    chosen = chosen[np.lexsort((-row[chosen], area[chosen]))]
    best[reference[chosen].astype(np.intp) - 1] = row[chosen]
    return best
