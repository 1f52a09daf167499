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
    comparable : (n,) bool
        Not cut by the border of the reference frame: a run cannot tell how much of those is eaten.
    """

    aggregate: NDArray[np.int64]
    yx_px: Floats
    area_um2: Floats
    eaten_um2: Floats
    moved_um: Floats
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
    The truth lists footprints as areas and centroids, not as shapes. Whether the border cuts one is told by the run's
    own label there: the true centroid lies in the box of a label that reaches the border. Without such a table it is
    told by the disc of the same area, which also tells what of an aggregate later frames show.
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
    radius = np.sqrt(area[reference] / np.pi) / truth.pixel_size_um
    edge = np.array(truth.document["scenes"][scene]["shape_yx"], np.float64) - 1
    room = np.minimum(at, edge - at).min(axis=-1)
    cut = room[reference] < radius if found is None else _in_cut_label(at[reference], found, truth.reduction)
    # what lies along the border has less room than a disc, and is in view as long as it keeps it
    whole = room >= np.minimum(radius, room[reference] - truth.reduction)

    since = np.zeros_like(eaten)
    for frame in range(reference + 1, n_frames):
        since[frame] = np.where(whole[frame], eaten[frame] - eaten[reference], since[frame - 1])
    moved = np.hypot(*np.moveaxis(place - place[reference], -1, 0)) * truth.pixel_size_um
    return TrueAggregates(names, at[reference], area, since, moved, ~cut)


def _in_cut_label(yx_px: Floats, found: Table, reduction: int) -> NDArray[np.bool_]:
    """Whether each point lies in the box of a label that reaches the border."""
    cut = found["touches_border"].astype(bool)
    low = np.stack([found["top_px"][cut], found["left_px"][cut]], axis=-1) - _BOX_MARGIN_PX
    high = np.stack([found["bottom_px"][cut], found["right_px"][cut]], axis=-1) + _BOX_MARGIN_PX
    point = ((yx_px + 0.5) / reduction)[:, None, :]
    return np.asarray(np.any(np.all((point >= low) & (point <= high), axis=-1), axis=-1), np.bool_)
