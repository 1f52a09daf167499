"""What became of every aggregate of the reference frame, told from all frames recorded so far."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from phagostat.folds.fate_options import FateOptions
from phagostat.folds.ledger import LedgerState
from phagostat.folds.movement import SLACK_FRAMES, Movement, find_movement

Floats = NDArray[np.float64]

_SCATTER = 0.05  # of its area: what an aggregate that nobody touches differs from frame to frame is less
_LEAST_DIP_UM2 = 0.1
_ALONE = 1.08  # share of its light: with more, another one's is there as well
_MOST_OF_IT = 0.45  # share of its light: with less, it is not all there and out of focus
_AROUND = 0.03  # light that what is around an aggregate may add, of its own
_OUT_OF_FOCUS = 0.1  # of its area: by how much light must say more than pixels do
_AT_ONCE = 0.12  # of what went in one frame: less than this went in those before and after


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
    washed_um2 : (u, n) float64
        What of it was washed away so far: all, or a part.
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
    washed_um2: Floats
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
        return Fates(frames, whole, empty, empty, empty > 0, fate, none, empty, none, none)
    seen = np.stack([entry.area_um2 for entry in used])
    in_view = np.isfinite(seen)
    light = _relative_light(state)
    above = np.stack([entry.above_um2 for entry in used])
    spread = _spread(whole, light)
    seen = np.where(spread > np.maximum(seen, above) + _OUT_OF_FOCUS * whole, spread, seen)
    above = np.where(spread > above + _OUT_OF_FOCUS * whole, spread, above)
    home = _without_dips(_carried_forward(seen, whole), whole, limits)
    above = _carried_forward(above, whole)
    movement = find_movement(state, home, above, limits)
    elsewhere = movement.elsewhere_um2
    dimmed = np.stack([entry.dimmed_um2 for entry in used])
    outside = np.stack([entry.outside_um2 for entry in used])
    went = light[-2:].max(axis=0) - light[-1]
    total = above + np.minimum(elsewhere, np.maximum(whole - above, 0))
    lying = _before_it_faded(
        total, dimmed, whole, went=np.where(outside[-1] - outside[-2:].min(axis=0) < limits.min_moved_um2, went, 0.0)
    )
    area = _carried_off(_without_dips(lying, whole, limits), movement)
    area = _carried_forward(np.where(in_view, area, np.nan), whole)
    elsewhere = np.minimum(elsewhere, area)
    passing = _passing(state, seen, limits) | _leaving(state, movement, limits)
    washed = np.where(passing, 0.0, _washed_away(state, area, movement, limits))
    left = area / np.maximum(whole, 1e-9)
    gone = _for_good(left < limits.gone_fraction)
    changed = _for_good(left < limits.whole_fraction)
    moved = elsewhere[-1] > 0.2 * whole
    detached = np.where(gone >= 0, _for_good(washed >= 0.5 * whole), -1)
    fate = np.full(n, Fate.KEPT, object)
    fate[moved] = Fate.MOVED
    fate[changed >= 0] = Fate.PARTLY_EATEN
    fate[gone >= 0] = Fate.EATEN
    fate[detached >= 0] = Fate.DETACHED
    fate[~in_view[-1] & (gone < 0)] = Fate.CENSORED
    fate[passing] = Fate.PASSING
    fate[state.reference.censored] = Fate.CENSORED
    name = np.append(frames, -1)
    return Fates(frames, whole, area, elsewhere, in_view, fate, name[detached], washed, name[gone], name[changed])


def _before_it_faded(above: Floats, dimmed: Floats, whole: Floats, *, went: Floats) -> Floats:
    """Areas above the threshold, without what is about to go: what was taken glows for a moment in its place.

    Pixels that are dimmer than they were, and are gone in the next frame that is used, are in a cell by now.
    """
    lost = np.maximum(above[:-1] - above[1:], 0)
    lying = above.copy()
    lying[:-1] -= np.nan_to_num(np.minimum(dimmed[:-1], lost))
    if len(above) > 1:  # nothing is known of what comes after the last frame: what has just become dim counts
        before = np.maximum(dimmed[-2] - lost[-1], 0)
        new = np.maximum(dimmed[-1] - before, 0)
        lying[-1] -= np.nan_to_num(
            np.where((went * whole > 0.1 * new) & (new > np.maximum(_SCATTER * whole, _LEAST_DIP_UM2)), new, 0)
        )
    return lying


def _relative_light(state: LedgerState) -> Floats:
    """Light in each territory in the used frames, relative to the reference frame."""
    light = np.stack([entry.light for entry in state.entries if entry.used])
    return np.asarray(light / np.maximum(state.reference.light, 1e-9))


def _spread(whole: Floats, light: Floats) -> Floats:
    """Area that the light around each place stands for: what is out of focus has darker pixels and the same light.

    Light of what was taken stays for a moment as well; only what lasts over three frames counts, and only where it is
    not another one's.
    """
    lasting = light.copy()
    lasting[1:] = np.fmin(lasting[1:], light[:-1])
    lasting[:-1] = np.fmin(lasting[:-1], light[1:])
    # light of others that came over it hides what is gone
    brightest = light.copy()
    for k in range(1, min(SLACK_FRAMES + 1, len(light))):
        brightest[k:] = np.fmax(brightest[k:], light[:-k])
        brightest[:-k] = np.fmax(brightest[:-k], light[k:])
    alone = (brightest <= _ALONE) & (lasting >= _MOST_OF_IT)
    return np.asarray(np.where(alone, np.clip(lasting - _AROUND, 0, 1), 0) * whole)


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


def _leaving(state: LedgerState, movement: Movement, limits: FateOptions) -> NDArray[np.bool_]:
    """Whether each had left the glass by the reference frame: it moves off, or is gone at once, in the next frame.

    What a cell takes after the reference frame is still in its place in the frame in which it is taken.
    """
    used = [entry for entry in state.entries if entry.used]
    frames = [entry.frame for entry in used]
    leaving = np.zeros(len(movement.carried_from), np.bool_)
    if state.reference.frame not in frames[:-1]:
        return leaving
    now = frames.index(state.reference.frame)
    leaving |= movement.carried_from == now
    soon, whole = used[now + 1], state.reference.area_um2
    if soon.frame - state.reference.frame == 1:
        dark = soon.light < 0.4 * state.reference.light
        elsewhere = np.maximum(soon.moved_um2, soon.outside_um2) >= 0.3 * whole
        gone = soon.area_um2 < limits.gone_fraction * whole
        leaving |= gone & (dark | elsewhere) & (movement.elsewhere_um2[-1] < 0.2 * whole)
    return leaving


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


def _washed_away(state: LedgerState, area: Floats, movement: Movement, limits: FateOptions) -> Floats:
    """Area of each that was washed away by each used frame: it went at once, left no light, and shows nowhere near.

    What is eaten dims in its place, or moves off with the cell. So does light of cells that happened to lie over an
    aggregate in the reference frame, which was no part of it: neither was eaten.
    """
    used = [entry for entry in state.entries if entry.used]
    frames = np.array([entry.frame for entry in used])
    around = np.stack([entry.around_um2 for entry in used])
    moved = np.stack([entry.moved_um2 for entry in used])
    dimmed = np.stack([entry.dimmed_um2 for entry in used])
    light = _relative_light(state)
    whole = state.reference.area_um2
    washed = np.zeros_like(area)
    for now in range(1, len(used)):
        lost, went = area[now - 1] - area[now], light[now - 1] - light[now]
        gap = frames[now] - frames[now - 1]
        after = light[now + 1 : now + 3]
        later = np.fmin.reduce(after, axis=0) if len(after) else light[now]
        sudden = (lost >= np.maximum(0.1 * whole, limits.least_washed_um2)) & (
            went >= 0.5 * lost / np.maximum(whole, 1e-9)
        )
        earlier = light[max(now - 1 - SLACK_FRAMES, 0) : now].max(axis=0)
        sudden &= earlier - light[now - 1] <= _AT_ONCE * went + 0.02  # no meal was going on
        sudden &= (light[now] - later <= _AT_ONCE * went + 0.02) & (
            dimmed[now - 1] - dimmed[max(now - 1 - SLACK_FRAMES, 0)] <= 0.25 * lost
        )
        sudden &= around[now - 1] - around[now] >= 0.6 * lost
        sudden &= moved[now : now + 3].max(axis=0) < 0.5 * lost
        sudden &= (movement.carried_from < 0) & (movement.elsewhere_um2[-1] == 0)
        if gap > 1:  # a small one may have been eaten, a large one carried away in between
            sudden &= (lost >= 2.0) & (gap <= 2)
        if len(after) == 0:
            sudden &= light[now] < limits.trace_fraction
        for i in np.flatnonzero(sudden).tolist():
            washed[now:, i] += lost[i]
    return np.minimum(washed, np.maximum(whole - area, 0))


def _for_good(state: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First index from which on a condition holds to the end, -1 if it does not hold there."""
    held = np.logical_and.accumulate(state[::-1], axis=0)[::-1]
    return np.where(held[-1], np.argmax(held, axis=0), -1).astype(np.int64)
