"""How far the eaten area over time is from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phagostat.simulate.truth import Table
from phagostat.study.figures import NAN, floats, of, ratio
from phagostat.study.true_aggregates import TrueAggregates

EATEN_COLUMNS = ("scene", "frame", "eaten_area_um2")
"""Columns of the table of eaten areas that this rests on."""


@dataclass(frozen=True)
class EatenScore:
    """Eaten area of one scene, at each tenth of the movie from the reference frame on.

    Parameters
    ----------
    eaten_frames_share
        Share of all frames for which the run has a value.
    eaten_true_share
        What cells truly took between the reference frame and the last used one, of the reference area.
    eaten_compared_share
        Area that is compared, of the true area in the reference frame: without what its border cuts.
    reference_area_error
        Signed relative difference of the reference areas.
    eaten_error_max
        Largest absolute error over the tenths, as a share of the true eaten area at the last used frame. A tenth is
        compared at the last used frame up to it; tenths before the reference frame are not. NaN without uptake.
    eaten_error_final
        Signed error at the last used frame, as a share of the same.
    eaten_error_held_max
        As ``eaten_error_max``, against the truth of the tenth itself: with what was eaten in frames that are not used.
    eaten_without_uptake
        Of a scene in which nothing is taken after the reference frame: largest absolute eaten area that is reported
        at a tenth, as a share of the true reference area. NaN with uptake.
    eaten_within_5pct, eaten_within_10pct, eaten_within_20pct
        1 if ``eaten_error_max`` is at most that, else 0 (so also without any value): their means are shares of
        scenes. NaN without uptake.
    """

    eaten_frames_share: float
    eaten_true_share: float
    eaten_compared_share: float
    reference_area_error: float
    eaten_error_max: float
    eaten_error_final: float
    eaten_error_held_max: float
    eaten_without_uptake: float
    eaten_within_5pct: float
    eaten_within_10pct: float
    eaten_within_20pct: float


def tenths(n_frames: int) -> tuple[int, ...]:
    """Give the frames at 1/10, 2/10, ... of the movie, the last frame included."""
    return tuple(round(part * (n_frames - 1) / 10) for part in range(1, 11))


def score_eaten(eaten: Table, true: TrueAggregates, *, reference: int, reference_area_um2: float = NAN) -> EatenScore:
    """Compare a scene's eaten area with the truth.

    Parameters
    ----------
    eaten
        The scene's rows of the table of eaten areas; none if the run could follow nothing.
    true
        The aggregates that the run is held to.
    reference
        Its reference frame.
    reference_area_um2
        Area that the run says it follows.
    """
    compared = true.comparable
    whole = float(true.area_um2[reference, compared].sum())
    taken = true.eaten_um2[:, compared].sum(axis=1)
    order = np.argsort(eaten["frame"])
    used = eaten["frame"][order].astype(np.int64)
    reported = floats(eaten["eaten_area_um2"][order])
    last = int(used.max(initial=-1))
    last = last if last >= reference else len(taken) - 1
    final = float(taken[last])
    uptake = final > 0

    asked = np.array([frame for frame in tenths(len(taken)) if frame >= reference], np.int64)
    since = used >= reference
    used, reported = used[since], reported[since]
    number = np.searchsorted(used, asked, side="right") - 1
    asked, number = asked[number >= 0], number[number >= 0]
    said = reported[number]
    error = said - taken[used[number]]
    held = said - taken[asked]
    largest = of(np.max, np.abs(error))
    share = ratio(largest, final) if uptake else NAN
    return EatenScore(
        eaten_frames_share=ratio(int(np.isfinite(floats(eaten["eaten_area_um2"])).sum()), len(taken)),
        eaten_true_share=ratio(final, whole),
        eaten_compared_share=ratio(whole, float(true.area_um2[reference].sum())),
        reference_area_error=ratio(reference_area_um2 - whole, whole),
        eaten_error_max=share,
        eaten_error_final=ratio(float(error[-1]), final) if uptake and len(error) else NAN,
        eaten_error_held_max=ratio(of(np.max, np.abs(held)), final) if uptake else NAN,
        eaten_without_uptake=NAN if uptake else ratio(of(np.max, np.abs(said)), whole),
        eaten_within_5pct=_within(share, 0.05, uptake=uptake),
        eaten_within_10pct=_within(share, 0.10, uptake=uptake),
        eaten_within_20pct=_within(share, 0.20, uptake=uptake),
    )


def unscored_eaten(*, uptake: bool) -> EatenScore:
    """Score a scene that the run gave up: without a value, it is within no limit."""
    no = _within(NAN, 0.0, uptake=uptake)
    return EatenScore(0.0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, no, no, no)


def _within(share: float, limit: float, *, uptake: bool) -> float:
    return float(share <= limit) if uptake else NAN
