"""Where every aggregate of the reference frame is in each later frame: followed in frame order.

The state is what was recorded so far. It is rebuilt by folding the committed records again; folding some, then the
rest, is folding all. What became of the aggregates is told from it by :func:`phagostat.folds.fates.aggregate_fates`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from phagostat.folds.ledger_record import LedgerRecord
from phagostat.folds.matching import match_within_gate

Floats = NDArray[np.float64]

_UNTOUCHED = 0.15  # relative change of area within which an aggregate may be whole
_IN_VIEW = 0.97  # share of a footprint from which on it is seen: what is missing is taken to be as the rest
_FEWEST = 5  # aggregates that a scale rests on


@dataclass(frozen=True)
class LedgerOptions:
    """Limits of following.

    Parameters
    ----------
    gate_um
        An aggregate is followed to a place at most this far from its last usable position.
    max_scale_error
        A frame whose untouched aggregates have, in the median, areas further than this from the reference's is not
        used (its focus or its bleaching factor is wrong).
    around_um
        How far around an aggregate's place it is looked for once it is gone.
    patience_frames
        What belongs to no reference aggregate is looked for in this many usable frames before it is given up.
    """

    gate_um: float = 1.44
    max_scale_error: float = 0.04
    around_um: float = 12.0
    patience_frames: int = 3


@dataclass(frozen=True)
class ReferenceAggregates:
    """The aggregates of the reference frame (n), which are followed.

    Parameters
    ----------
    frame
        Index of the reference frame.
    area_um2, light
        (n,) as measured in the reference frame.
    position_um
        (n, 2) their centroids on the glass.
    censored
        (n,) whether the territory reaches the edge of the reference frame: not followed.
    """

    frame: int
    area_um2: Floats
    light: Floats
    position_um: Floats
    censored: NDArray[np.bool_]


@dataclass(frozen=True)
class Stranger:
    """What belongs to no reference aggregate, and where it was seen.

    Parameters
    ----------
    entries
        Indices into the history of the frames that it was seen in.
    position_um
        Positions in those.
    area_um2, outside_um2
        Area in those, and the part in no territory.
    """

    entries: tuple[int, ...]
    position_um: tuple[tuple[float, float], ...]
    area_um2: tuple[float, ...]
    outside_um2: tuple[float, ...]


@dataclass(frozen=True)
class LedgerEntry:
    """What is kept of a frame.

    Parameters
    ----------
    frame, time_s
        Which one.
    used
        Whether it is used.
    reason
        Why it is not, or None.
    scale
        Median ratio of untouched aggregates' areas to the reference's; NaN where it cannot be told.
    area_um2, light
        (n,) what is left in their places, and light there; NaN where a footprint is not inside the frame.
    above_um2, dimmed_um2
        (n,) as recorded, likewise.
    moved_um2, moved_by_um, moved_light, moved_all
        (n,), (n, 2), (n,) and (n,) as recorded.
    position_um, label_area_um2, outside_um2
        (n, 2), (n,), (n,) of the label that each reference aggregate was followed to: where, its area, and the part of
        that in no territory; NaN and 0 where to none.
    cut_off
        (n,) whether that label reaches the edge of the frame: its place and area are those of the visible part.
    around_um2
        (n,) area of all labels around each reference aggregate, within ``around_um`` of its place.
    appeared
        Number of labels that belong to no reference aggregate.
    """

    frame: int
    time_s: float
    used: bool
    reason: str | None
    scale: float
    area_um2: Floats
    above_um2: Floats
    dimmed_um2: Floats
    light: Floats
    moved_um2: Floats
    moved_by_um: Floats
    moved_light: Floats
    moved_all: Floats
    position_um: Floats
    label_area_um2: Floats
    outside_um2: Floats
    cut_off: NDArray[np.bool_]
    around_um2: Floats
    appeared: int


@dataclass(frozen=True)
class LedgerState:
    """What was recorded so far.

    Parameters
    ----------
    reference
        What is followed.
    entries
        One for each record.
    last_um
        (n, 2) last usable positions.
    strangers
        Everything else that was seen.
    watched
        Those that are still looked for: index into ``strangers``, and used frames since it was seen.
    """

    reference: ReferenceAggregates
    entries: tuple[LedgerEntry, ...]
    last_um: Floats
    strangers: tuple[Stranger, ...]
    watched: tuple[tuple[int, int], ...] = ()


def reference_aggregates(
    record: LedgerRecord, *, position_um: Floats, touches_border: NDArray[np.bool_]
) -> ReferenceAggregates:
    """Take the reference's aggregates from the reference frame's own record.

    Parameters
    ----------
    record : LedgerRecord
        Of the reference frame.
    position_um : (n, 2) float64
        Centroids of what lies in the territories of that frame (``places``), in um.
    touches_border : (n,) bool
        From :class:`~phagostat.kernels.aggregate_overlap.Territories`.
    """
    return ReferenceAggregates(
        record.frame, record.area_um2, record.light, np.asarray(position_um, np.float64), np.asarray(touches_border)
    )


def initial_ledger_state(reference: ReferenceAggregates) -> LedgerState:
    """State before the first frame."""
    return LedgerState(reference, (), reference.position_um, ())


def step(state: LedgerState, record: LedgerRecord, options: LedgerOptions | None = None) -> LedgerState:
    """Fold one frame.

    Parameters
    ----------
    state : LedgerState
        After all earlier frames.
    record : LedgerRecord
        Of the next frame.
    options : LedgerOptions, optional
        The same for the whole scene.

    Returns
    -------
    LedgerState
        After this frame.

    Raises
    ------
    ValueError
        If the record's frame is not later than the last one, or has another number of reference aggregates.

    Notes
    -----
    Reference aggregates and strangers are matched to the frame's labels by
    :func:`~phagostat.folds.matching.match_within_gate`, from their last usable positions. What is matched to no
    reference aggregate and lies for the larger part in no territory is a stranger: detached from elsewhere, glowing
    in a cell, or a part that broke off. It is followed too, since it may be a reference aggregate that was moved in
    a step too large for the gate.
    """
    limits = options or LedgerOptions()
    n = len(state.reference.area_um2)
    if state.entries and record.frame <= state.entries[-1].frame:
        raise ValueError(f"frames must come in order (found: frame {record.frame} after {state.entries[-1].frame})")
    if record.usable and len(record.area_um2) != n:
        raise ValueError(f"frame {record.frame} must have {n} reference aggregates (found: {len(record.area_um2)})")
    if not record.usable:
        return _unused(state, record, "not usable", float("nan"))
    seen = record.seen_fraction >= _IN_VIEW
    area, above, dimmed = (
        np.where(seen, measured / np.maximum(record.seen_fraction, _IN_VIEW), np.nan)
        for measured in (record.area_um2, record.above_um2, record.dimmed_um2)
    )
    scale = _scale(state, area)
    if abs(scale - 1) > limits.max_scale_error:
        return _unused(state, record, f"untouched aggregates have {scale:.2f} of their area", scale)

    now = len(state.entries)
    recent = [index for index, _ in state.watched]
    known = np.concatenate(
        [state.last_um, np.array([state.strangers[i].position_um[-1] for i in recent]).reshape(-1, 2)]
    )
    matched = match_within_gate(known, record.position_um, gate_um=limits.gate_um)
    own, others = matched[:n], matched[n:]
    free = np.ones(len(record.position_um), np.bool_)
    free[matched[matched >= 0]] = False
    # A step too large for the gate, but part of it is still there.
    for i in np.flatnonzero((own < 0) & (record.home_label >= 0)).tolist():
        if free[record.home_label[i]]:
            own[i] = record.home_label[i]
            free[own[i]] = False
    there = own >= 0
    label = own[there]
    position = np.full((n, 2), np.nan)
    label_area, outside, cut_off = np.zeros(n), np.zeros(n), np.zeros(n, np.bool_)
    position[there] = record.position_um[label]
    label_area[there], outside[there] = record.label_area_um2[label], record.outside_um2[label]
    cut_off[there] = record.cut_off[label]
    strangers = list(state.strangers)
    strange = (4 * record.outside_um2 > record.label_area_um2) & ~record.cut_off
    strange[label] = False
    watched = []
    for (index, absent), found in zip(state.watched, others.tolist(), strict=True):
        if found >= 0 and strange[found]:
            strangers[index] = _seen(strangers[index], now, record, found)
            strange[found] = False
            watched.append((index, 0))
        elif absent + 1 < limits.patience_frames:
            watched.append((index, absent + 1))
    appeared = np.flatnonzero(strange).tolist()
    watched.extend((len(strangers) + k, 0) for k in range(len(appeared)))
    strangers.extend(_seen(Stranger((), (), (), ()), now, record, found) for found in appeared)
    entry = LedgerEntry(
        record.frame,
        record.time_s,
        True,
        None,
        scale,
        area,
        above,
        dimmed,
        np.where(seen, record.light, np.nan),
        record.moved_um2,
        record.moved_by_um,
        record.moved_light,
        record.moved_all,
        position,
        label_area,
        outside,
        cut_off,
        _area_around(state.reference.position_um, record, limits.around_um),
        len(appeared),
    )
    last = np.where((there & ~cut_off)[:, None], position, state.last_um)
    return replace(
        state, entries=(*state.entries, entry), last_um=last, strangers=tuple(strangers), watched=tuple(watched)
    )


def fold(
    records: Iterable[LedgerRecord], reference: ReferenceAggregates, options: LedgerOptions | None = None
) -> LedgerState:
    """Fold many frames from the beginning; see :func:`step`."""
    state = initial_ledger_state(reference)
    for record in records:
        state = step(state, record, options)
    return state


def _unused(state: LedgerState, record: LedgerRecord, reason: str, scale: float) -> LedgerState:
    n = len(state.reference.area_um2)
    nothing = np.full(n, np.nan)
    entry = LedgerEntry(
        record.frame,
        record.time_s,
        False,
        reason,
        scale,
        nothing,
        nothing,
        nothing,
        nothing,
        np.zeros(n),
        np.zeros((n, 2)),
        np.zeros(n),
        np.zeros(n),
        np.full((n, 2), np.nan),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n, np.bool_),
        np.zeros(n),
        0,
    )
    return replace(state, entries=(*state.entries, entry))


def _scale(state: LedgerState, area_um2: Floats) -> float:
    """Median of area over reference area, of what was whole in the last used frame; 1 if that is too little to tell."""
    whole = state.reference.area_um2
    before = next((entry.area_um2 for entry in reversed(state.entries) if entry.used), whole)
    known = np.isfinite(area_um2) & np.isfinite(before) & (whole > 0)
    ratio = np.divide(area_um2, whole, out=np.full(len(whole), np.nan), where=known)
    earlier = np.divide(before, whole, out=np.full(len(whole), np.nan), where=known)
    untouched = (np.abs(earlier - 1) <= _UNTOUCHED) & (np.abs(ratio - 1) <= 3 * _UNTOUCHED)
    return float(np.median(ratio[untouched])) if untouched.sum() >= _FEWEST else 1.0


def _area_around(position_um: Floats, record: LedgerRecord, radius_um: float) -> Floats:
    known = np.flatnonzero(np.isfinite(position_um).all(axis=1))
    around = np.zeros(len(position_um))
    if len(known) and len(record.position_um):
        near = cKDTree(position_um[known]).sparse_distance_matrix(
            cKDTree(record.position_um), radius_um, output_type="ndarray"
        )
        around[known] = np.bincount(near["i"], record.label_area_um2[near["j"]], len(known))
    return around


def _seen(stranger: Stranger, entry: int, record: LedgerRecord, label: int) -> Stranger:
    y, x = record.position_um[label].tolist()
    return Stranger(
        (*stranger.entries, entry),
        (*stranger.position_um, (y, x)),
        (*stranger.area_um2, float(record.label_area_um2[label])),
        (*stranger.outside_um2, float(record.outside_um2[label])),
    )
