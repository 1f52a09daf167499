"""Aggregates that are somewhere else: moved along the glass, or carried by a cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.folds.fate_options import FateOptions
from phagostat.folds.ledger import LedgerState

Floats = NDArray[np.float64]
Times = NDArray[np.intp]

SLACK_FRAMES = 3
"""Used frames between losing sight of something and seeing it again."""


@dataclass(frozen=True)
class Movement:
    """Movement of n reference aggregates over u used frames.

    Parameters
    ----------
    elsewhere_um2 : (u, n) float64
        Area at places on the glass that it was moved to, or on its way there.
    carried_from : (n,) int64
        Number of the last used frame that shows it in its place, if it, or a large part of it, moves off in one piece
        and does not come to rest; -1.
    carried_level_um2 : (n,) float64
        What it leaves behind.
    """

    elsewhere_um2: Floats
    carried_from: NDArray[np.int64]
    carried_level_um2: Floats


@dataclass(frozen=True)
class _Following:
    """Where the labels lie that n reference aggregates were followed to, in u used frames.

    Parameters
    ----------
    position_um : (u, n, 2) float64
    label_area_um2, outside_um2 : (u, n) float64
    distance_um : (u, n) float64
        From the place in the reference frame.
    cut_off : (u, n) bool
        Whether the label reaches the edge of the frame.
    """

    position_um: Floats
    label_area_um2: Floats
    outside_um2: Floats
    distance_um: Floats
    cut_off: NDArray[np.bool_]


@dataclass(frozen=True)
class _Sighting:
    """Something followed: when, where, area in no reference aggregate's place, and the last time it rests or -1."""

    times: Times
    position_um: Floats
    area_um2: Floats
    end: int


def find_movement(state: LedgerState, home: Floats, above: Floats, limits: FateOptions) -> Movement:
    """Tell what was moved along the glass from what is carried.

    Parameters
    ----------
    state : LedgerState
        Of all frames so far.
    home, above : (u, n) float64
        What is left in each place of pixels that keep their light, and what is above the threshold there, in um2.
    limits
        See :class:`~phagostat.folds.fates.FateOptions`.

    Returns
    -------
    Movement
        Of all reference aggregates.

    Notes
    -----
    What a crossing cell pushes, or what creeps up to a neighbour, comes to rest at a new place and stays on the glass:
    it was not eaten, neither there nor on its way. What a cell has taken moves with it and never rests, or fades where
    it stays. Where
    the way was followed, the place belongs to the aggregate that was followed; something at rest that came out of
    nothing belongs to the aggregate that was lost nearby at that time.
    """
    follow = _following(state)
    position, outside = follow.position_um, follow.outside_um2
    n_times = len(home)
    dimmed = np.nan_to_num([entry.dimmed_um2 for entry in state.entries if entry.used])
    displaced, left_at, level_at = _shapes(state, home, above, limits)
    elsewhere = displaced.copy()
    missing = np.maximum(state.reference.area_um2 - home - displaced, 0)
    arrivals: list[tuple[int, _Sighting]] = []
    for i in np.flatnonzero((outside >= limits.min_moved_um2).any(axis=0)).tolist():
        if left_at[i] >= 0:
            continue
        times = np.flatnonzero(outside[:, i] >= limits.min_moved_um2)
        end = rest_ends(times, position[times, i], outside[times, i], n_times=n_times, limits=limits)
        if end < 0:
            continue
        chosen = times[times <= end]
        # What it lacks in its place when this shows up beside it: else another one came by long after it was eaten.
        first = int(times[0])
        itself = home[max(first - SLACK_FRAMES, 0) : first + 1, i].max() >= 0.5 * outside[first, i]
        # bites from one side move the middle of what is left
        bitten = np.median(dimmed[chosen, i] / np.maximum(missing[chosen, i], 0.1)) > 0.6
        moved = itself & ~bitten & (follow.distance_um[chosen, i] > limits.moved_um)
        own = np.where(moved, np.minimum(outside[chosen, i], missing[chosen, i]), 0)
        elsewhere[chosen, i] += own
        # What is more than the aggregate itself lacks came from another one.
        rest = outside[chosen, i] - own
        some = rest >= limits.min_moved_um2
        if some.sum() >= limits.rest_frames // 2:
            arrivals.append((i, _Sighting(chosen[some], position[chosen[some], i], rest[some], end)))
    strangers = _strangers(state, n_times, limits)
    arrivals += [(-1, sighting) for sighting in strangers if sighting.end >= 0]
    elsewhere += _settled(state, arrivals, home=home, elsewhere=elsewhere, follow=follow, limits=limits)
    carried, level = _carried(state, home + elsewhere, strangers, follow=follow, limits=limits)
    shaped = left_at >= 0
    carried[shaped], level[shaped] = left_at[shaped], level_at[shaped]
    # Taken in a frame that nobody saw: in the last one seen it may not have been.
    frames = np.array([entry.frame for entry in state.entries if entry.used])
    gap = (carried >= 0) & (carried < len(frames) - 1)
    gap[gap] = frames[carried[gap] + 1] - frames[carried[gap]] > 1
    carried[gap] += 1
    return Movement(elsewhere, carried, level)


def _shapes(
    state: LedgerState, home: Floats, above: Floats, limits: FateOptions
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Tell by shape and light what was moved, and what left with a cell.

    Given are the area of what shows in the same shape at another place and keeps its light, and of what does not keep
    it the last times before it left, and what it left behind. What was pushed, or creeps up to a neighbour, keeps its
    light; what a cell has taken up is quenched as it is carried about. Which of the two explains the light of all
    sights better decides, at rest or not.
    """
    used = [entry for entry in state.entries if entry.used]
    area = np.stack([entry.moved_um2 for entry in used])
    by = np.stack([entry.moved_by_um for entry in used])
    light = np.stack([entry.moved_light for entry in used])
    minutes = np.array([entry.time_s for entry in used]) / 60
    whole = state.reference.area_um2
    found, left_at, level = np.zeros_like(area), np.full(len(whole), -1, np.int64), np.zeros(len(whole))
    in_one = np.stack([entry.moved_all for entry in used])
    dimmed = np.stack([entry.dimmed_um2 for entry in used])
    there = np.stack([entry.light for entry in used]) / np.maximum(state.reference.light, 1e-9)
    lost = np.maximum(whole - home, 0)
    dark = np.fmax(lost, whole - np.stack([entry.area_um2 for entry in used]))
    enough = np.where(in_one > 0, 0.0, 0.3) * whole
    sighted = (area >= 0.7 * lost) & (area >= np.maximum(enough, limits.min_moved_um2))
    for i in np.flatnonzero(sighted.any(axis=0)).tolist():
        times = np.flatnonzero(sighted[:, i])
        # it left its place just before: else another one like it came by
        before = last_whole(home[:, i], whole[i], int(times[0]) - 1, 0.7) if times[0] > 0 else -1
        if before < 0 or times[0] - before > limits.way_frames:
            continue
        times = _one_way(times, by[:, i], light[:, i])
        first, last = int(times[0]), int(times[-1])
        # far away from the first on, while more and more goes from its place: another one that happens to lie there
        far = np.hypot(*by[times, i].T) > limits.far_um
        part = far & (in_one[times, i] == 0)
        if part.any() and dark[times, i][part].min() < 0.6 * dark[times, i].max():
            continue
        # dim in its place before it is gone from there: eaten, whatever shows elsewhere
        dims = (dimmed[before:first, i] >= 0.5 * above[before:first, i]) & (above[before:first, i] > 0)
        if (dims & (there[before:first, i] < 0.93)).any():
            continue
        # neither in its place nor anywhere else: it was on no way
        between = np.arange(before + 1, first)
        if (lost[between, i] - area[between, i] > 0.3 * whole[i]).any():
            continue
        share = np.minimum(area[times, i] / np.maximum(whole[i] - home[times, i], 1e-9), 1.0)
        resting = len(times) >= SLACK_FRAMES and float(np.ptp(by[times[-4:], i], axis=0).max()) <= limits.shape_um
        odds = 10.0 if resting else 1.0
        # another one's light that lay over it may go with it
        relative = light[times, i] / np.clip(there[before, i], 1.0, 1.2)
        age = minutes[times] - minutes[before]
        if is_quenched(age, relative, share, whole[i], odds=odds):
            # less than that far, and bites from one side look like it
            if far.any():
                reached = home[max(before - SLACK_FRAMES + 1, 0) : before + 1, i].max()
                left_at[i] = last_whole(home[:, i], reached, first, limits.whole_fraction)
                level[i] = 0.0 if (in_one[times, i] > 0)[far].any() else above[times, i].min()
            continue
        # lost sight of on its way
        sure = not resting and not is_quenched(age, relative, share, whole[i], odds=1 / 3)
        lasts = last == len(home) - 1 or sure or (len(times) > 1 and last >= len(home) - 1 - SLACK_FRAMES)
        end = len(home) - 1 if lasts else last
        span = np.arange(before + 1, end + 1)
        known = np.interp(span, times, area[times, i])
        found[span, i] = np.minimum(known, np.maximum(whole[i] - home[span, i], 0))
    return found, left_at, level


def _one_way(times: Times, by_um: Floats, light: Floats) -> Times:
    """Sights that are of one thing: it moves a few um a frame, is not long out of sight, and never lights up."""
    way = [int(times[0])]
    for time in times[1:].tolist():
        if time - way[-1] > 2 * SLACK_FRAMES:
            break
        step = float(np.hypot(*(by_um[time] - by_um[way[-1]])))
        lit = len(way) > SLACK_FRAMES and light[time] > 1.12 * np.median(light[way[-SLACK_FRAMES:]])
        if step <= 2.5 * (time - way[-1]) and not lit:
            way.append(time)
    return np.array(way, np.intp)


def is_quenched(age_min: Floats, light: Floats, share: Floats, area_um2: float, *, odds: float = 1.0) -> bool:
    """Whether light that is seen elsewhere fades as in a cell rather than stays as on the glass.

    Parameters
    ----------
    age_min : (k,) float64
        Time since it was last seen in its place.
    light : (k,) float64
        Relative to the reference frame.
    share : (k,) float64
        Of what is gone from its place, the part that was recognised: what is not is hidden or blends with others, and
        the light of the rest is less certain.
    area_um2 : float
        Of the aggregate: the light of small ones is less certain.
    odds : float
        By how much fading must be the better explanation.

    Notes
    -----
    Likelihood ratio of no fading against half-lives of 30 to 90 min, with an unknown factor common to all sights
    (bleaching, focus, neighbours) and independent scatter.
    """
    y = np.log(np.maximum(light, 0.05))
    small = 0.01 / max(area_um2, 0.1)
    common = 0.02 + small + 0.3 * (1 - float(np.median(share)))
    scatter = 0.015 + 2 * small + 0.1 * (1 - share)
    covariance = np.diag(scatter**2) + common**2
    inverse = np.linalg.inv(covariance)
    kept = float(y @ inverse @ y)
    fading = [y + np.log(2) / half * age_min for half in (30.0, 45.0, 60.0, 90.0)]
    return min(float(r @ inverse @ r) for r in fading) < kept - 2 * float(np.log(odds))


def _following(state: LedgerState) -> _Following:
    used = [entry for entry in state.entries if entry.used]
    position = np.stack([entry.position_um for entry in used])
    cut_off = np.stack([entry.cut_off for entry in used])
    outside = np.stack([entry.outside_um2 for entry in used])
    # Of what reaches over the edge of the frame nothing is seen to have changed.
    for before, now in zip(range(len(used) - 1), range(1, len(used)), strict=True):
        held = cut_off[now] & (outside[before] > 0)
        outside[now, held] = outside[before, held]
        position[now, held] = position[before, held]
        outside[now, cut_off[now] & ~held] = 0
    return _Following(
        position,
        np.stack([entry.label_area_um2 for entry in used]),
        outside,
        np.hypot(*np.moveaxis(position - state.reference.position_um, 2, 0)),
        cut_off,
    )


def rest_ends(
    times: Times,
    position_um: Floats,
    area_um2: Floats,
    *,
    n_times: int,
    limits: FateOptions,
    rest_um: float | None = None,
) -> int:
    """Last time at which something rests, -1 if it never does.

    Parameters
    ----------
    times : (k,) intp
        Ascending numbers of the used frames that it was seen in.
    position_um : (k, 2) float64
        Where.
    area_um2 : (k,) float64
        How large. What fades while it stays is in a cell that stays.
    n_times : int
        Number of used frames.
    limits
        ``rest_um``: largest distance from the mean place of the frames so far; ``rest_frames``: least number of
        frames, half of it where they last to the end.
    """
    end = -1
    start = 0
    reach = limits.rest_um if rest_um is None else rest_um
    while start < len(times):
        resting = [start]
        for later in range(start + 1, len(times)):
            middle = position_um[resting].mean(axis=0)
            if np.hypot(*(position_um[later] - middle)) <= reach:
                resting.append(later)
            elif later - resting[-1] > SLACK_FRAMES:
                break
        last = resting[-1]
        to_the_end = times[last] == n_times - 1
        enough = limits.rest_frames // 2 if to_the_end else limits.rest_frames
        beginning = area_um2[resting[: 2 * limits.rest_frames]]
        # Few frames tell less of how it fades.
        span = max((len(beginning) - 3) / (2 * limits.rest_frames - 3), 0.6)
        least = 1 - (1 - limits.unfaded_fraction) * span
        fades = np.median(beginning[-3:]) < least * np.median(beginning[:3])
        if len(resting) >= enough and not fades:
            end = int(times[last])
            start = last + 1
        else:
            start += 1
    return end


def last_whole(area: Floats, whole: float, before: int, fraction: float) -> int:
    """Last time up to ``before`` at which at least this fraction of an aggregate was there; -1 if never."""
    there = np.flatnonzero(area[: before + 1] >= fraction * whole)
    return int(there[-1]) if len(there) else -1


def _strangers(state: LedgerState, n_times: int, limits: FateOptions) -> list[_Sighting]:
    number = np.cumsum([entry.used for entry in state.entries]) - 1
    found = []
    for stranger in state.strangers:
        times = number[list(stranger.entries)].astype(np.intp)
        position, area = np.array(stranger.position_um), np.array(stranger.outside_um2)
        end = rest_ends(times, position, area, n_times=n_times, limits=limits)
        found.append(_Sighting(times, position, area, end))
    return found


def _settled(
    state: LedgerState,
    arrivals: list[tuple[int, _Sighting]],
    *,
    home: Floats,
    elsewhere: Floats,
    follow: _Following,
    limits: FateOptions,
) -> Floats:
    """Area of what came to rest where nothing was, given to the aggregate that was lost nearby at that time.

    One that was torn apart may have come to rest in several places.
    """
    reference = state.reference
    whole = reference.area_um2
    present = home + follow.outside_um2
    dimmed = np.stack([entry.dimmed_um2 for entry in state.entries if entry.used])
    given = np.zeros_like(home)
    for owner, arrival in sorted(arrivals, key=lambda pair: (int(pair[1].times[0]), -pair[1].area_um2.max(), pair[0])):
        start = int(arrival.times[0])
        size = float(np.median(arrival.area_um2))
        after = min(start + 1, len(home) - 1)
        lacking = whole - home[after] - elsewhere[after] - given[after]
        best, least = -1, np.inf
        # what is left of a bite is dimmer, what is left of a push is not
        torn = np.nan_to_num(dimmed[start : after + 1].max(axis=0)) < 0.3 * lacking
        for i in np.flatnonzero((lacking >= 0.5 * size) & (size <= 1.8 * whole) & torn).tolist():
            if i == owner:
                continue
            with_it = np.flatnonzero(present[: start + 1, i] >= whole[i] - lacking[i] + 0.7 * size)
            followed = np.flatnonzero(np.isfinite(follow.position_um[: start + 1, i, 0]))
            place = follow.position_um[followed[-1], i] if len(followed) else reference.position_um[i]
            distance = float(np.hypot(*(place - arrival.position_um[0])))
            if not len(with_it) or start - int(with_it[-1]) > SLACK_FRAMES or distance > limits.search_um:
                continue
            cost = distance + 2 * abs(np.log(lacking[i] / size))
            if cost < least:
                best, least = i, cost
        if best < 0:
            continue
        known = np.zeros(len(home))
        span = np.arange(start, arrival.end + 1)
        known[span] = np.interp(span, arrival.times, arrival.area_um2)
        known[last_whole(home[:, best], whole[best], start, 0.7) + 1 : start] = arrival.area_um2[0]
        room = whole[best] - home[:, best] - elsewhere[:, best] - given[:, best]
        given[:, best] += np.minimum(known, np.maximum(room, 0))
    return given


def _carried(
    state: LedgerState, left: Floats, strangers: list[_Sighting], *, follow: _Following, limits: FateOptions
) -> tuple[NDArray[np.int64], Floats]:
    """Last used frame before each, or a large part of it, was carried off whole (-1: it was not), and what it left."""
    whole = state.reference.area_um2
    found, level = np.full(len(whole), -1, np.int64), np.zeros(len(whole))
    if len(left) <= SLACK_FRAMES:
        return found, level
    drop = left[:-SLACK_FRAMES] - left[SLACK_FRAMES:]
    steepest = drop.argmax(axis=0)
    size = drop.max(axis=0)
    begun: dict[int, list[_Sighting]] = {}
    for sighting in strangers:
        begun.setdefault(int(sighting.times[0]), []).append(sighting)
    for i in np.flatnonzero((size >= 0.3 * whole) & (whole > 0)).tolist():
        window = left[steepest[i] : steepest[i] + SLACK_FRAMES, i]
        start = int(steepest[i]) + last_whole(window, window[0] - 0.15 * size[i], SLACK_FRAMES, 1.0)
        soon = slice(start + 1, start + 1 + SLACK_FRAMES)
        area = follow.label_area_um2[soon, i]
        alike = _alike(area, whole[i]) | (follow.cut_off[soon, i] & (area >= 0.5 * whole[i]))
        if (alike & (follow.distance_um[soon, i] > 2.5 * limits.moved_um)).any():
            # Large ones take some time to leave their place.
            found[i], level[i] = start, left[start + 1 : start + 1 + 3 * SLACK_FRAMES, i].min()
        elif any(
            _alike(s.area_um2[:1], size[i])[0]
            and np.hypot(*(s.position_um[0] - state.reference.position_um[i])) <= limits.search_um
            for time in range(start + 1, start + 1 + SLACK_FRAMES)
            for s in begun.get(time, ())
        ):
            found[i], level[i] = start, left[min(start + SLACK_FRAMES, len(left) - 1), i]
    return found, level


def _alike(area: Floats, size: float) -> NDArray[np.bool_]:
    return np.asarray((area >= 0.85 * size) & (area <= 1.2 * size))
