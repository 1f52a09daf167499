"""How many aggregates were given the fate that they had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.truth import Table, Truth
from phagostat.study.figures import floats, ratio
from phagostat.study.true_aggregates import TrueAggregates

FATE_COLUMNS = ("scene", "glass_y_um", "glass_x_um", "reference_area_um2", "area_left_um2", "fate")
"""Columns of the table of fates that this rests on."""

FATES = ("kept", "moved", "eaten", "detached")
_LOST = 0.5  # share of an aggregate from which on it counts as eaten
_SLACK_UM = 1.0
_TAKEN = ("eaten", "partly eaten", "carried")


@dataclass(frozen=True)
class FateScore:
    """Fates of one scene's reference aggregates, by the last used frame.

    Parameters
    ----------
    fates_compared
        Aggregates of the run that lie on true ones and were given a fate.
    fates_right_share
        Share of them that was given the right one.
    kept_found_share, moved_found_share, eaten_found_share, detached_found_share
        Share of the aggregates of each true fate that was given it.
    kept_called_eaten_share
        Share of the kept ones that was called eaten.
    fates_missed_share
        Share of the comparable true aggregates, large enough to be measured, on which none of the run's lies.
    fates_without_truth
        Aggregates of the run on which no true one lies.
    confusion
        Number of aggregates by true fate, then by the fate given (or ``other``).
    """

    fates_compared: int
    fates_right_share: float
    kept_found_share: float
    moved_found_share: float
    eaten_found_share: float
    detached_found_share: float
    kept_called_eaten_share: float
    fates_missed_share: float
    fates_without_truth: int
    confusion: Mapping[str, Mapping[str, int]]


def score_fates(
    fates: Table, true: TrueAggregates, truth: Truth, scene: int, *, reference: int, last: int, smallest_um2: float
) -> FateScore:
    """Compare a scene's fates with the truth.

    Parameters
    ----------
    fates
        The scene's rows of the table of fates.
    true
        The true aggregates.
    truth
        The movie's truth.
    scene
        Which scene.
    reference, last
        The run's reference frame and its last used one.
    smallest_um2
        Smaller true aggregates need not be found.

    Notes
    -----
    A true aggregate belongs to the run's aggregate whose label it lies in, else to the one whose disc of equal area it
    lies in or nearest to, within 1 um: one of the run's may hold several that touch. Their areas decide the true fate:
    half of it washed away, ``detached``; half of it taken by cells, ``eaten``; half of it farther from its place than
    the radius of its disc, ``moved``; else ``kept``. With the run's, ``eaten`` and ``partly eaten`` are ``eaten`` if
    less than half is left. Aggregates that the border cuts (true or found) and those of which the run says that they
    left the view are left out.
    """
    n = len(fates["fate"])
    place = np.stack([floats(fates["glass_y_um"]), floats(fates["glass_x_um"])], axis=-1)
    whole = floats(fates["reference_area_um2"])
    pixel = truth.pixel_size_um
    owner = _owners(true.label_yx_px * pixel, place, np.zeros(n))
    alone = owner < 0
    owner[alone] = _owners(true.yx_px[alone] * pixel, place, np.sqrt(np.maximum(whole, 0.0) / np.pi))
    given = _given(fates["fate"], floats(fates["area_left_um2"]), whole)

    first = true.area_um2[reference]
    about = truth.scene(truth.aggregates, scene)
    said = dict(zip(about["aggregate"].tolist(), about["fate"].tolist(), strict=True))
    name = np.array([said.get(number, "") for number in true.aggregate.tolist()], object)
    parts = {
        "detached": np.where(name == "detached", first - true.area_um2[last], 0.0),
        "eaten": np.where(np.isin(name, _TAKEN), true.eaten_um2[last], 0.0),
        "moved": np.where(true.moved_um[last] > np.sqrt(first / np.pi), true.area_um2[last], 0.0),
    }
    held = owner >= 0
    size = np.bincount(owner[held], weights=first[held], minlength=n)
    fate = np.full(n, "kept", object)
    for kind in ("moved", "eaten", "detached"):  # the later ones leave nothing to move
        lost = np.bincount(owner[held], weights=parts[kind][held], minlength=n)
        fate[lost > _LOST * size] = kind
    on_cut = np.bincount(owner[held], weights=~true.comparable[held], minlength=n) > 0
    compared = (size > 0) & ~on_cut & (given != "censored")
    confusion = {
        was: {
            called: int((compared & (fate == was) & (given == called)).sum()) for called in (*FATES, "other")
        } for was in FATES
    }  # fmt: skip
    wanted = true.comparable & (first > smallest_um2)
    n_compared = int(compared.sum())
    return FateScore(
        fates_compared=n_compared,
        fates_right_share=ratio(sum(confusion[was][was] for was in FATES), n_compared),
        kept_found_share=_share(confusion, "kept", "kept"),
        moved_found_share=_share(confusion, "moved", "moved"),
        eaten_found_share=_share(confusion, "eaten", "eaten"),
        detached_found_share=_share(confusion, "detached", "detached"),
        kept_called_eaten_share=_share(confusion, "kept", "eaten"),
        fates_missed_share=ratio(int((wanted & ~held).sum()), int(wanted.sum())),
        fates_without_truth=int(((size == 0) & (given != "censored")).sum()),
        confusion=confusion,
    )


def _share(confusion: Mapping[str, Mapping[str, int]], was: str, called: str) -> float:
    return ratio(confusion[was][called], sum(confusion[was].values()))


def _given(
    fate: NDArray[np.object_], left_um2: NDArray[np.float64], whole_um2: NDArray[np.float64]
) -> NDArray[np.object_]:
    """The fates given, as those of the truth: what is half left counts as kept."""
    given = np.array([name if name in (*FATES, "censored") else "other" for name in fate.tolist()], object)
    taken = np.isin(fate.astype(object), ("eaten", "partly eaten"))
    given[taken] = np.where(left_um2[taken] < (1 - _LOST) * whole_um2[taken], "eaten", "kept")
    return given


def _owners(
    true_um: NDArray[np.float64], found_um: NDArray[np.float64], radius_um: NDArray[np.float64]
) -> NDArray[np.int64]:
    """For each true aggregate the found one whose disc it lies in or nearest to; -1 if none is within reach."""
    if not len(found_um):
        return np.full(len(true_um), -1, np.int64)
    distance = np.hypot(*np.moveaxis(true_um[:, None] - found_um[None], -1, 0)) - radius_um
    distance = np.where(np.isfinite(distance), distance, np.inf)
    nearest = distance.argmin(axis=1)
    near = distance[np.arange(len(true_um)), nearest] <= _SLACK_UM
    return np.where(near, nearest, -1)
