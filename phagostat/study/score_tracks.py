"""How well cells are followed over time, and what is read off their tracks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.truth import Table, Truth
from phagostat.study.figures import NAN, Floats, floats, of, ratio
from phagostat.study.score_cells import LINK_IOU, MATCH_IOU, FrameMatch

TRACK_COLUMNS = ("scene", "frame", "cell", "track", "registered_y_um", "registered_x_um", "touches_border")
"""Columns of the table of cells that this rests on."""

LAG_MIN = 10.0
KEPT_MIN = 100.0


@dataclass(frozen=True)
class TrackScore:
    """Tracks of one scene, over the used frames.

    Speeds and movement are of cells off the border, on both sides.

    Parameters
    ----------
    true_tracks
        True cells that the used frames show.
    track_count_error
        Signed relative difference of the numbers of tracks.
    track_length_error
        Signed relative difference of the mean times from a track's first sight to its last. NaN if every true cell
        shows in one frame only.
    track_longest_share
        Share of the true cells' time (frames, all cells together) that each spends in the one found track that holds
        most of it.
    track_fragments
        Mean number of found tracks of a true cell, of those that are found at all.
    track_switches
        How often the found track that holds a true cell changes from one sight of it to the next.
    track_switch_share
        Those among all steps from one sight to the next.
    track_mixed_share
        Share of the found tracks that hold more than one true cell.
    true_kept_share
        Share of the true cells' time that belongs to cells which the used frames show over at least 100 min.
    track_kept_share
        Share of the true cells' time that found tracks of at least 100 min hold.
    mean_speed_error
        Signed relative difference of the mean speeds from one sight to the next: all steps over all time.
    lag_speed_error
        Signed relative difference of the mean speeds over 10 min, over all pairs of sights of a track that far apart.
        NaN where no frames are 10 min apart.
    lag_speed_outlined_share
        Share of the found pairs whose two sights outline the same true cell, each with an IoU of at least 0.5.
    lag_speed_outlined_error
        The same error over these pairs alone, against the true ways of their cells between the same frames: what
        outlines that are not exact add. What ``lag_speed_error`` has beyond it comes of cells that are joined, cut
        apart or mistaken for one another.
    movement_error
        Signed relative difference of the total movement, the sum of all steps of all tracks.
    true_mean_speed_um_per_min, true_lag_speed_um_per_min
        What the errors of the speeds are relative to: speeds of the centroids of the true outlines.
    """

    true_tracks: int
    track_count_error: float
    track_length_error: float
    track_longest_share: float
    track_fragments: float
    track_switches: int
    track_switch_share: float
    track_mixed_share: float
    true_kept_share: float
    track_kept_share: float
    mean_speed_error: float
    lag_speed_error: float
    lag_speed_outlined_share: float
    lag_speed_outlined_error: float
    movement_error: float
    true_mean_speed_um_per_min: float
    true_lag_speed_um_per_min: float


@dataclass(frozen=True)
class _Sights:
    """Sights of cells, sorted by who is seen and when; (n,) each."""

    who: NDArray[np.int64]
    frame: NDArray[np.int64]
    place_um: Floats
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class _Links:
    """Sights that a true cell (its label) and a found track have in common, sorted by cell and frame; (n,) each."""

    cell: NDArray[np.int64]
    frame: NDArray[np.int64]
    track: NDArray[np.int64]
    outlined: NDArray[np.bool_]


def score_tracks(cells: Table, matches: list[FrameMatch], truth: Truth, scene: int) -> TrackScore:
    """Compare a scene's tracks with the truth.

    Parameters
    ----------
    cells
        The scene's rows of the table of cells.
    matches
        True and found cells of the used frames. Those with an IoU of at least 0.2 count as the same cell here: to
        follow a cell it need not be outlined well.
    truth
        The movie's truth.
    scene
        Which scene.
    """
    rows = truth.scene(truth.frames, scene)
    minutes = np.full(int(rows["frame"].max(initial=-1)) + 1, NAN)
    minutes[rows["frame"]] = rows["time_s"] / 60
    frames = [match.frame for match in matches]
    true = truth.scene(truth.tracks, scene)
    true_um = np.stack([true["y_px"], true["x_px"]], axis=-1) * truth.pixel_size_um
    found_um = np.stack([floats(cells["registered_y_um"]), floats(cells["registered_x_um"])], axis=-1)
    right = _sights(true["cell"], true["frame"], true_um, true["touches_border"], frames)
    found = _sights(cells["track"], cells["frame"], found_um, cells["touches_border"], frames)

    seen = Counter(np.concatenate([match.true for match in matches]).tolist() if matches else ())
    n_seen = sum(seen.values())
    linked = _linked(cells, matches)
    cell, track = linked.cell, linked.track
    pairs = Counter(zip(cell.tolist(), track.tolist(), strict=True))
    longest = {number: max(n for (one, _), n in pairs.items() if one == number) for number in set(cell.tolist())}
    held = Counter(number for _, number in pairs)
    same = np.diff(cell) == 0
    switches = int((np.diff(track)[same] != 0).sum())
    lasting = _durations(found, minutes)
    kept = [number for number, duration in lasting.items() if duration >= KEPT_MIN]
    true_lasting = _durations(_of_matches(matches), minutes)
    n_kept = sum(seen[number] for number, duration in true_lasting.items() if duration >= KEPT_MIN)
    found_way, found_time = _steps(found, minutes)
    true_way, true_time = _steps(right, minutes)
    true_speed, true_lag_speed = ratio(true_way, true_time), _lag_speed(right, minutes)
    outlined_share, outlined_error = _outlined(found, true_um, true, linked, minutes)
    return TrackScore(
        true_tracks=len(seen),
        track_count_error=ratio(len(lasting) - len(seen), len(seen)),
        track_length_error=_relative(_mean(lasting.values()), _mean(true_lasting.values())),
        track_longest_share=ratio(sum(longest.values()), n_seen),
        track_fragments=ratio(len(pairs), len(longest)),
        track_switches=switches,
        track_switch_share=ratio(switches, int(same.sum())),
        track_mixed_share=ratio(sum(n > 1 for n in held.values()), len(held)),
        true_kept_share=ratio(n_kept, n_seen),
        track_kept_share=ratio(int(np.isin(track, kept).sum()), n_seen),
        mean_speed_error=_relative(ratio(found_way, found_time), true_speed),
        lag_speed_error=_relative(_lag_speed(found, minutes), true_lag_speed),
        lag_speed_outlined_share=outlined_share,
        lag_speed_outlined_error=outlined_error,
        movement_error=_relative(found_way, true_way),
        true_mean_speed_um_per_min=true_speed,
        true_lag_speed_um_per_min=true_lag_speed,
    )


def _linked(cells: Table, matches: list[FrameMatch]) -> _Links:
    """All sights that a true cell and a found track have in common."""
    track_of = {
        (int(frame), int(cell)): int(track)
        for frame, cell, track in zip(cells["frame"], cells["cell"], cells["track"], strict=True)
    }
    links: list[tuple[int, int, int, bool]] = []
    for match in matches:
        for (row, column), iou in zip(match.pairs.tolist(), match.iou.tolist(), strict=True):
            track = track_of.get((match.frame, int(match.found[column])))
            if track is not None and iou >= LINK_IOU:
                links.append((int(match.true[row]), match.frame, track, iou >= MATCH_IOU))
    table = np.array(sorted(links), np.int64).reshape(-1, 4)
    return _Links(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.bool_))


def _sights(
    who: NDArray[Any], frame: NDArray[Any], place_um: Floats, border: NDArray[Any], frames: list[int]
) -> _Sights:
    chosen = np.flatnonzero(np.isin(frame, frames) & np.isfinite(place_um).all(axis=1))
    chosen = chosen[np.lexsort((frame[chosen], who[chosen]))]
    return _Sights(
        who[chosen].astype(np.int64), frame[chosen].astype(np.int64), place_um[chosen], ~border[chosen].astype(bool)
    )


def _of_matches(matches: list[FrameMatch]) -> _Sights:
    """True cells as the label images show them, without places."""
    who = np.concatenate([match.true for match in matches]) if matches else np.empty(0, np.int64)
    frame = np.repeat([match.frame for match in matches], [len(match.true) for match in matches])
    nowhere = np.zeros((len(who), 2))
    return _sights(who, frame, nowhere, np.zeros(len(who), np.bool_), [match.frame for match in matches])


def _durations(sights: _Sights, minutes: Floats) -> dict[int, float]:
    """Minutes from the first sight of each one to the last."""
    numbers, first = np.unique(sights.who, return_index=True)
    last = np.append(first, len(sights.who))[1:] - 1
    times = minutes[sights.frame]
    return dict(zip(numbers.tolist(), (times[last] - times[first]).tolist(), strict=True))


def _steps(sights: _Sights, minutes: Floats) -> tuple[float, float]:
    """Way in um and time in min of all steps from one sight to the next, both off the border."""
    step = (np.diff(sights.who) == 0) & sights.inside[1:] & sights.inside[:-1]
    way = _ways(sights.place_um[:-1], sights.place_um[1:])[step]
    return float(way.sum()), float(np.diff(minutes[sights.frame])[step].sum())


def _lag_pairs(sights: _Sights, minutes: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Earlier and later of all sights of the same one that lie the lag apart."""
    steps = np.diff(minutes[np.isfinite(minutes)])
    tolerance = 0.25 * float(np.median(steps)) if steps.size else 0.0
    pairs = [np.empty((2, 0), np.int64)]
    for one in np.unique(sights.who).tolist():
        mine = np.flatnonzero((sights.who == one) & sights.inside)
        at = minutes[sights.frame[mine]]
        pairs.append(mine[np.stack(np.nonzero(np.abs(at[None] - at[:, None] - LAG_MIN) <= tolerance))])
    earlier, later = np.concatenate(pairs, axis=1)
    return earlier, later


def _lag_speed(sights: _Sights, minutes: Floats) -> float:
    """Mean distance between sights of the same one that lie the lag apart, over the lag; um/min."""
    earlier, later = _lag_pairs(sights, minutes)
    return _mean(_ways(sights.place_um[earlier], sights.place_um[later])) / LAG_MIN


def _outlined(found: _Sights, true_um: Floats, true: Table, linked: _Links, minutes: Floats) -> tuple[float, float]:
    """Share of the lag's pairs that outline one true cell, and the error of their mean speed."""
    earlier, later = _lag_pairs(found, minutes)
    # a label is its cell's number plus one
    place = {
        (int(cell) + 1, int(frame)): row
        for row, (cell, frame) in enumerate(zip(true["cell"], true["frame"], strict=True))
    }
    sure = linked.outlined
    links = zip(linked.track[sure], linked.frame[sure], linked.cell[sure], strict=True)
    cell_of = {(int(track), int(frame)): int(cell) for track, frame, cell in links}
    cells = [cell_of.get(key, -1) for key in zip(found.who.tolist(), found.frame.tolist(), strict=True)]
    rows = np.array([place.get(key, -1) for key in zip(cells, found.frame.tolist(), strict=True)], np.int64)
    cell = np.array(cells, np.int64)
    same = (cell[earlier] == cell[later]) & (rows[earlier] >= 0) & (rows[later] >= 0)
    earlier, later, n_pairs = earlier[same], later[same], len(same)
    said = _mean(_ways(found.place_um[earlier], found.place_um[later]))
    right = _mean(_ways(true_um[rows[earlier]], true_um[rows[later]]))
    return ratio(len(earlier), n_pairs), _relative(said, right)


def _ways(start_um: Floats, end_um: Floats) -> Floats:
    return np.asarray(np.hypot(*(end_um - start_um).T))


def _mean(values: Any) -> float:
    return of(np.mean, np.array([*values], np.float64))


def _relative(found: float, right: float) -> float:
    return ratio(found - right, right)
