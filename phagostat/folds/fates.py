"""What became of every aggregate of the reference frame, told from all frames recorded so far."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from phagostat.folds.fate_options import FateOptions
from phagostat.folds.ledger import LedgerState
from phagostat.folds.movement import Movement, find_movement

Floats = NDArray[np.float64]

_SCATTER = 0.05  # of its area: what an aggregate that nobody touches differs from frame to frame is less
_LEAST_DIP_UM2 = 0.1


class Fate(StrEnum):
    """What became of an aggregate by the last used frame."""

    KEPT = "kept"
    MOVED = "moved"
    EATEN = "eaten"
    PARTLY_EATEN = "partly eaten"
    DETACHED = "detached"
    CENSORED = "censored"
    PASSING = "passing"


@dataclass(frozen=True)
class Fates:
    """History of n reference aggregates over u used frames.

    Parameters
    ----------
    frames : (u,) int64
        Used frames.
    reference_area_um2 : (n,) float64
        Area of each in the reference frame.
    area_um2 : (u, n) float64
        What is left of each: in its place, elsewhere, and through passing disturbances. Of an aggregate that is not
        all in view, what was left when it last was.
    elsewhere_um2 : (u, n) float64
        The part of it that lies outside all territories, at a place that it was moved to.
    in_view : (u, n) bool
        Whether the territory lies inside the frame.
    fate : (n,) Fate
        By the last used frame.
    detached_from : (n,) int64
        First frame without it, for what was washed away; -1.
    gone_from, changed_from : (n,) int64
        First frame in which less than ``gone_fraction`` is left to the end, and in which less than
        ``whole_fraction`` is; -1.
    """

    frames: NDArray[np.int64]
    reference_area_um2: Floats
    area_um2: Floats
    elsewhere_um2: Floats
    in_view: NDArray[np.bool_]
    fate: NDArray[np.object_]
    detached_from: NDArray[np.int64]
    gone_from: NDArray[np.int64]
    changed_from: NDArray[np.int64]


def aggregate_fates(state: LedgerState, options: FateOptions | None = None) -> Fates:
    """Tell what became of the reference aggregates.

    Parameters
    ----------
    state : LedgerState
        Of all frames so far: provisional while the scene grows, final once it is sealed.
    options : FateOptions, optional
        Limits.

    Returns
    -------
    Fates
        Histories and fates.
    """
    limits = options or FateOptions()
    used = [entry for entry in state.entries if entry.used]
    whole = state.reference.area_um2
    n = len(whole)
    frames = np.array([entry.frame for entry in used], np.int64)
    if not used or not n:
        none = np.full(n, -1, np.int64)
        empty = np.zeros((len(used), n))
        fate = np.array([Fate.CENSORED if c else Fate.KEPT for c in state.reference.censored], object)
        return Fates(frames, whole, empty, empty, empty > 0, fate, none, none, none)
    seen = np.stack([entry.area_um2 for entry in used])
    in_view = np.isfinite(seen)
    light = np.stack([entry.light for entry in used]) / np.maximum(state.reference.light, 1e-9)
    seen = _with_spread(seen, whole, light)
    home = _without_dips(_carried_forward(seen, whole), whole, limits)
    movement = find_movement(state, home, limits)
    elsewhere = movement.elsewhere_um2
    area = _carried_off(home + elsewhere, movement)
    area = _carried_forward(np.where(in_view, area, np.nan), whole)
    elsewhere = np.minimum(elsewhere, area)
    passing = _passing(state, seen, limits)
    detached = np.where(passing | (movement.carried_from >= 0), -1, _detached(state, area, limits))
    left = area / np.maximum(whole, 1e-9)
    gone = _for_good(left < limits.gone_fraction)
    changed = _for_good(left < limits.whole_fraction)
    moved = elsewhere[-1] > 0.2 * whole
    fate = np.full(n, Fate.KEPT, object)
    fate[moved] = Fate.MOVED
    fate[changed >= 0] = Fate.PARTLY_EATEN
    fate[gone >= 0] = Fate.EATEN
    fate[detached >= 0] = Fate.DETACHED
    fate[~in_view[-1] & (gone < 0)] = Fate.CENSORED
    fate[passing] = Fate.PASSING
    fate[state.reference.censored] = Fate.CENSORED
    name = np.append(frames, -1)
    return Fates(frames, whole, area, elsewhere, in_view, fate, name[detached], name[gone], name[changed])


def _with_spread(left: Floats, whole: Floats, light: Floats) -> Floats:
    """Areas with what is out of focus: its pixels are darker, but its light is still around its place.

    Light of what was taken stays for a moment as well; only what lasts over three frames counts.
    """
    lasting = light.copy()
    lasting[1:] = np.fmin(lasting[1:], light[:-1])
    lasting[:-1] = np.fmin(lasting[:-1], light[1:])
    spread = np.clip(lasting - 0.05, 0, 1) * whole
    return np.where(spread > left + 0.1 * whole, spread, left)


def _passing(state: LedgerState, area: Floats, limits: FateOptions) -> NDArray[np.bool_]:
    """Whether each came to its place, was seen there in the reference frame, and left: light in a cell on its way."""
    frames = [entry.frame for entry in state.entries if entry.used]
    whole = state.reference.area_um2
    found = np.zeros(len(whole), np.bool_)
    if state.reference.frame not in frames:
        return found
    now = frames.index(state.reference.frame)
    there = ~(area < 0.5 * whole)  # out of view is not away
    for i in range(len(whole)):
        away = np.flatnonzero(~there[:, i])
        before, after = away[away < now], away[away > now]
        if len(before) and len(after):
            found[i] = after[0] - before[-1] - 1 <= limits.passing_frames
    return found


def _carried_forward(values: Floats, first: Floats) -> Floats:
    """Last known value where there is none."""
    filled = values.copy()
    last = first
    for row in filled:
        unknown = np.isnan(row)
        row[unknown] = last[unknown]
        last = row
    return filled


def _carried_off(area: Floats, movement: Movement) -> Floats:
    """Areas without what moves off, from the last frame on that shows it in its place: the cell has hold of it."""
    taken = area.copy()
    for i in np.flatnonzero(movement.carried_from >= 0).tolist():
        start = int(movement.carried_from[i])
        taken[start:, i] = np.minimum(area[start:, i], movement.carried_level_um2[i])
    return taken


def _without_dips(area: Floats, whole: Floats, limits: FateOptions) -> Floats:
    """Areas with passing losses undone: what comes back and stays was not eaten.

    The level to which an aggregate comes back at any later time is the largest that it keeps for some frames.
    """
    length = limits.return_frames
    if len(area) < length + 2:
        return area
    kept = np.lib.stride_tricks.sliding_window_view(area, length, axis=0).min(axis=2)
    later = np.maximum.accumulate(kept[::-1], axis=0)[::-1]
    level = np.concatenate([later, np.full((length - 1, area.shape[1]), -np.inf)])
    low = level - area > np.maximum(_SCATTER * whole, _LEAST_DIP_UM2)
    mended = area.copy()
    for column in np.flatnonzero(low.any(axis=0)):
        borders = np.flatnonzero(np.diff(np.concatenate([[0], low[:, column], [0]])))
        for start, stop in borders.reshape(-1, 2):
            before = area[max(0, start - length) : start, column]
            reached = before.max() if len(before) else whole[column]
            if level[start, column] >= 0.8 * reached:
                mended[start:stop, column] = level[start:stop, column]
    return mended


def _detached(state: LedgerState, area: Floats, limits: FateOptions) -> NDArray[np.int64]:
    """Number of the first used frame without each aggregate that was washed away, else -1."""
    used = [number for number, entry in enumerate(state.entries) if entry.used]
    reference = state.reference
    whole = reference.area_um2
    found = np.full(area.shape[1], -1, np.int64)
    left = area / np.maximum(whole, 1e-9)
    gone = _for_good(left < limits.gone_fraction)
    for i in np.flatnonzero((gone > 0) & (whole >= limits.min_traced_um2)).tolist():
        now = int(gone[i])
        entry, before = state.entries[used[now]], state.entries[used[now - 1]]
        traceless = (
            left[now - 1, i] >= limits.whole_fraction
            and used[now] - used[now - 1] == 1
            and np.isfinite(before.area_um2[i])
            and entry.light[i] < limits.trace_fraction * reference.light[i]
            and before.around_um2[i] - entry.around_um2[i] >= 0.6 * whole[i]
        )
        if traceless:
            found[i] = now
    return found


def _for_good(state: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First index from which on a condition holds to the end, -1 if it does not hold there."""
    held = np.logical_and.accumulate(state[::-1], axis=0)[::-1]
    return np.where(held[-1], np.argmax(held, axis=0), -1).astype(np.int64)
