"""The true aggregates that a run can be held to, given its reference frame and the frames it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.truth import Table, Truth
from phagostat.study.figures import Floats

_BOX_MARGIN_PX = 2  # analysis px by which a label may be smaller than the true footprint


@dataclass(frozen=True)
class TrueAggregates:
    """A scene's n true aggregates that show in the run's reference frame, over its t frames.

    Parameters
    ----------
    aggregate : (n,) int64
        Their numbers in the truth.
    yx_px : (n, 2) float64
        Where they lie in the reference frame, native px.
    area_um2 : (t, n) float64
        True footprints.
    eaten_um2 : (t, n) float64
        What cells have taken since the reference frame, as far as frames show it: what is not in view counts as it
        last was. Zero before the reference frame.
    moved_um : (t, n) float64
        Distance of the footprint's centroid from where it was in the reference frame.
    label_yx_px : (n, 2) float64
        Centroid, in the reference frame, of the run's label that each lies in; NaN if in none.
    comparable : (n,) bool
        Not cut by the border of the reference frame: a run cannot tell how much of those is eaten.
    """

    aggregate: NDArray[np.int64]
    yx_px: Floats
    area_um2: Floats
    eaten_um2: Floats
    moved_um: Floats
    label_yx_px: Floats
    comparable: NDArray[np.bool_]


def true_aggregates(
    truth: Truth, scene: int, *, reference: int, shift_yx_px: Floats, found: Table | None
) -> TrueAggregates:
    """Choose the aggregates that a run can be held to.

    Parameters
    ----------
    truth
        The movie's truth.
    scene
        Which scene.
    reference
        The run's reference frame.
    shift_yx_px : (t, 2) float64
        True absolute shifts of all frames.
    found
        The run's labels in the reference frame (rows of its aggregates table), or None.

    Returns
    -------
    TrueAggregates
        Of all whose centroid shows in the reference frame.

    Notes
    -----
    The truth lists footprints as areas and centroids, not as shapes, and a run cannot tell apart what touches. So the
    boxes of the run's own labels tell what is cut by the border, in the reference frame and, moved by the true shifts,
    in the others: a true aggregate shares the box of the smallest label whose box its centroid lies in. For those in
    none, and without such a table, the disc of the same area takes the place of the box. What that leaves out is said
    by the share of the area that is compared.
    """
    rows = truth.scene(truth.areas, scene)
    n_frames = len(shift_yx_px)
    names, column = np.unique(rows["aggregate"].astype(np.int64), return_inverse=True)
    row = rows["frame"].astype(np.int64)

    def grid(values: NDArray[Any]) -> Floats:
        table = np.zeros((n_frames, len(names)))
        table[row, column] = values
        return table

    area, eaten = grid(rows["area_um2"]), grid(rows["eaten_area_um2"])
    place = np.stack([grid(rows["y_px"]), grid(rows["x_px"])], axis=-1)
    seen = grid(rows["in_view"]) > 0
    shown = seen[reference] & (area[reference] > 0)
    names, area, eaten, place = names[shown], area[:, shown], eaten[:, shown], place[:, shown]

    at = place + shift_yx_px[:, None, :]
    edge = np.array(truth.document["scenes"][scene]["shape_yx"], np.float64)
    point = at[reference]
    radius = np.sqrt(area[reference] / np.pi)[:, None] / truth.pixel_size_um
    low, high, cut = point - radius, point + radius, np.zeros(len(point), np.bool_)
    label_at = np.full(point.shape, np.nan)
    if found is not None:
        label = _labels_of(point, found, truth.reduction)
        in_label = label >= 0
        mine = label[in_label]
        low[in_label] = np.stack([found["top_px"][mine], found["left_px"][mine]], axis=-1) * truth.reduction
        high[in_label] = np.stack([found["bottom_px"][mine], found["right_px"][mine]], axis=-1) * truth.reduction - 1
        cut[in_label] = found["touches_border"][mine]
        label_at[in_label] = np.stack([found["y_px"][mine], found["x_px"][mine]], axis=-1)
    moved_by = (shift_yx_px - shift_yx_px[reference])[:, None, :]
    # half a px on either side: coordinates are those of px centres
    whole = np.all((low + moved_by >= -0.5) & (high + moved_by <= edge - 0.5), axis=-1)
    cut |= ~whole[reference]

    since = np.zeros_like(eaten)
    for frame in range(reference + 1, n_frames):
        since[frame] = np.where(whole[frame], eaten[frame] - eaten[reference], since[frame - 1])
    moved = np.hypot(*np.moveaxis(place - place[reference], -1, 0)) * truth.pixel_size_um
    return TrueAggregates(names, point, area, since, moved, label_at, ~cut)


def _labels_of(yx_px: Floats, found: Table, reduction: int) -> NDArray[np.int64]:
    """For each point the number of the smallest of the labels whose boxes it lies in; -1 if it lies in none."""
    low = np.stack([found["top_px"], found["left_px"]], axis=-1) - _BOX_MARGIN_PX
    high = np.stack([found["bottom_px"], found["right_px"]], axis=-1) + _BOX_MARGIN_PX
    if not len(low):
        return np.full(len(yx_px), -1, np.int64)
    point = ((yx_px + 0.5) / reduction)[:, None, :]
    inside = np.all((point >= low) & (point <= high), axis=-1)
    size = np.where(inside, np.prod(high - low, axis=-1, dtype=np.float64), np.inf)
    nearest = size.argmin(axis=1)
    return np.where(inside.any(axis=1), nearest, -1)
