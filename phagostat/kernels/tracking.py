"""Cells linked over time, and what each track measures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRACK_FEATURES = np.dtype(
    [
        ("track", np.int32),
        ("first_frame", np.int32),
        ("last_frame", np.int32),
        ("n_frames", np.int32),
        ("duration_min", np.float64),
        ("mean_area_um2", np.float64),
        ("displacement_um", np.float64),
        ("movement_um", np.float64),
        ("mean_speed_um_per_min", np.float64),
        ("lag_speed_um_per_min", np.float64),
        ("msd_um2", np.float64),
        ("jitter_um2", np.float64),
        ("corrected_msd_um2", np.float64),
        ("kept", np.bool_),
    ]
)
"""Columns of :func:`track_features`; see there."""

# Published, and no options: with a wider interval probabilities become exactly 1, and btrack ends the process.
_ACCURACY = 10.0
_POSITION_VARIANCE, _PROCESS_SD, _MEASUREMENT_VARIANCE = 150.0, 15.0, 5.0
# Frames are whole numbers of a common clock; two lags are the same if they differ by less than this part.
_LAG_TOLERANCE = 0.25


@dataclass(frozen=True)
class TrackingOptions:
    """Motion model and hypotheses of the Bayesian tracker; the defaults are the published ones.

    Parameters
    ----------
    length_unit_um
        Lengths below without another unit are in this one (published: analysis pixels of 0.206 um).
    max_lost
        Frames in a row without the cell after which a track ends.
    prob_not_assign
        Prior probability that a cell is not found in the next frame.
    search_radius
        Longest step between two frames.
    link_radius, link_frames
        How far apart in space and time the end of one track and the start of another may be to be joined afterwards.
    scale
        Over which time (frames) and length probabilities of starts, ends and joins fall to 1/e.
    max_objects
        Cells of all frames that are tracked at once. More are cut into equal stretches of time, each tracked by
        itself: a rule by number, since one by computing time would make results depend on the machine.
    """

    length_unit_um: float = 0.206
    max_lost: int = 10
    prob_not_assign: float = 1e-5
    search_radius: float = 100.0
    link_radius: float = 20.0
    link_frames: float = 3.0
    scale: float = 20.0
    max_objects: int = 50_000


DEFAULTS = TrackingOptions()


@dataclass(frozen=True)
class Tracks:
    """Which track each cell of each frame belongs to.

    Parameters
    ----------
    track : (n,) int32
        Track of each row that was given; 1, 2, ... in the order of the tracks' first cells by frame and label.
    n_stretches
        Stretches of time that were tracked by themselves (1: all at once).
    n_unsolved
        Stretches whose joins the solver did not find the best choice of; tracks are then as the first pass left them.
    """

    track: NDArray[np.int32]
    n_stretches: int
    n_unsolved: int

    @property
    def n_tracks(self) -> int:
        """Number of tracks."""
        return int(self.track.max(initial=0))


def link_cells(
    frame: NDArray[np.integer],
    label: NDArray[np.integer],
    *,
    y_um: NDArray[np.floating],
    x_um: NDArray[np.floating],
    field_um: tuple[float, float],
    options: TrackingOptions = DEFAULTS,
) -> Tracks:
    """Link the cells of all frames of a scene into tracks.

    Parameters
    ----------
    frame, label : (n,) integer
        Frame and label of each cell, in any order; no pair twice.
    y_um, x_um : (n,) float
        Centroids in the reference's frame (shift-corrected), none of them NaN: what has no shift cannot be tracked.
    field_um : (float, float)
        Height and width of the reference's field; tracks may begin and end near the border of what was seen.
    options : TrackingOptions
        Motion model and hypotheses.

    Returns
    -------
    Tracks
        A track for every cell; cells that could be linked to none are tracks of one frame.

    Raises
    ------
    ValueError
        If a position is not finite, or a cell is listed twice.

    Notes
    -----
    The tracker is btrack (exact updates; hypotheses false positive, start, end, join and death, no branching) with the
    published configuration. Cells are sorted by frame and label first, so their order does not matter. Without
    branching every constraint of the optimiser concerns one end of one track: a matching, which its solver finishes
    without search, so it runs without the library's limit of 60 s and the machine's speed cannot change the result.
    Areas are not used: btrack compares features by the cosine between their vectors, and that of two positive numbers
    is always 1.

    References
    ----------
    .. [1] K. Ulicna et al., "Automated deep lineage tree analysis using a Bayesian single cell tracking approach",
       Frontiers in Computer Science 3, 2021, :doi:`10.3389/fcomp.2021.734559`
    """
    n = frame.size
    if not label.size == y_um.size == x_um.size == n:
        raise ValueError(f"columns must be equally long (found: {n}, {label.size}, {y_um.size}, {x_um.size})")
    if not (np.isfinite(y_um).all() and np.isfinite(x_um).all()):
        unregistered = np.unique(frame[~(np.isfinite(y_um) & np.isfinite(x_um))])
        raise ValueError(f"cells of frames without a shift cannot be tracked: leave out frames {unregistered.tolist()}")
    order = np.lexsort((label, frame))
    frames, labels = frame[order].astype(np.int64), label[order]
    twice = (np.diff(frames) == 0) & (np.diff(labels) == 0)
    if twice.any():
        at = int(np.flatnonzero(twice)[0])
        raise ValueError(f"a cell is listed twice (frame {frames[at]}, label {labels[at]})")
    positions = np.column_stack([y_um[order], x_um[order]]) / options.length_unit_um
    field = (field_um[0] / options.length_unit_um, field_um[1] / options.length_unit_um)
    sorted_track = np.zeros(n, np.int32)
    stretches = _stretches(frames, options.max_objects)
    n_unsolved = 0
    for begin, end in stretches:
        tracks, solved = _track(frames[begin:end], positions[begin:end], field, options)
        sorted_track[begin:end] = tracks + sorted_track.max(initial=0)
        n_unsolved += not solved
    track = np.empty(n, np.int32)
    track[order] = sorted_track
    return Tracks(track, max(1, len(stretches)), n_unsolved)


def track_steps(
    track: NDArray[np.integer],
    frame: NDArray[np.integer],
    *,
    time_min: NDArray[np.floating],
    y_um: NDArray[np.floating],
    x_um: NDArray[np.floating],
) -> NDArray[np.float64]:
    """How far and how fast each cell came from where its track saw it last.

    Parameters
    ----------
    track, frame : (n,) integer
        Of each cell, in any order.
    time_min : (n,) float
        Time of its frame.
    y_um, x_um : (n,) float
        Registered centroids.

    Returns
    -------
    (n, 2) float64
        Step in um and speed in um/min; NaN for the first cell of a track. 0 is a value: the cell did not move. Across
        frames without the cell the step is the whole way and the speed is over the whole time.
    """
    steps = np.full((track.size, 2), np.nan)
    order = np.lexsort((frame, track))
    if order.size:
        follows = np.flatnonzero(np.diff(track[order]) == 0) + 1
        here, before = order[follows], order[follows - 1]
        steps[here, 0] = np.hypot(y_um[here] - y_um[before], x_um[here] - x_um[before])
        steps[here, 1] = steps[here, 0] / (time_min[here] - time_min[before])
    return steps


def track_features(
    track: NDArray[np.integer],
    frame: NDArray[np.integer],
    *,
    time_min: NDArray[np.floating],
    y_um: NDArray[np.floating],
    x_um: NDArray[np.floating],
    area_um2: NDArray[np.floating],
    min_duration_min: float = 100.0,
    lag_min: float = 10.0,
) -> NDArray[np.void]:
    """Measure every track.

    Parameters
    ----------
    track, frame : (n,) integer
        Of each cell, in any order.
    time_min : (n,) float
        Time of its frame.
    y_um, x_um : (n,) float
        Registered centroids.
    area_um2 : (n,) float
        Area of each cell.
    min_duration_min : float
        Shortest track that is kept.
    lag_min : float
        Lag at which speed and mean squared displacement are taken: the whole number of typical steps nearest to it, at
        least one.

    Returns
    -------
    (n_tracks,) structured array of type :data:`TRACK_FEATURES`
        ``track``; ``first_frame, last_frame``; ``n_frames`` in which the cell was seen; ``duration_min`` from the
        first to the last; ``mean_area_um2``; ``displacement_um`` from the first to the last; ``movement_um``, the sum
        of all steps; ``mean_speed_um_per_min``, movement over duration; ``lag_speed_um_per_min``, the mean distance
        between sights ``lag_min`` apart, over the lag; ``msd_um2``, the mean of its square; ``jitter_um2``, the
        part of it that does not grow with time; ``corrected_msd_um2`` without that part; ``kept``. What cannot be
        told (no second sight, none at the lag) is NaN.

    Notes
    -----
    Positions jitter with the outline: at steps of 2 min most of a slow cell's movement is jitter, which adds a
    constant to the mean squared displacement at every lag. It is what a line through the values at the two shortest
    lags (one and two typical steps) leaves at lag 0, or 0 if that is negative, as for steady motion.

    References
    ----------
    .. [1] X. Michalet, "Mean square displacement analysis of single-particle trajectories with localization error",
       Physical Review E 82, 041914, 2010, :doi:`10.1103/PhysRevE.82.041914`
    """
    order = np.lexsort((frame, track))
    numbers, starts = np.unique(track[order], return_index=True)
    ends = np.append(starts, order.size)[1:]
    table = np.zeros(numbers.size, TRACK_FEATURES)
    step_min = _typical_step(track[order], time_min[order])
    lag_min = max(round(lag_min / step_min), 1) * step_min if np.isfinite(step_min) else lag_min
    for row, number, begin, end in zip(table, numbers, starts, ends, strict=True):
        rows = order[begin:end]
        times = time_min[rows]
        at = np.column_stack([y_um[rows], x_um[rows]])
        row["track"] = number
        row["first_frame"], row["last_frame"] = frame[rows[0]], frame[rows[-1]]
        row["n_frames"] = rows.size
        row["mean_area_um2"] = area_um2[rows].mean()
        duration = row["duration_min"] = times[-1] - times[0]
        row["kept"] = duration >= min_duration_min
        row["displacement_um"] = row["movement_um"] = row["mean_speed_um_per_min"] = np.nan
        if rows.size > 1:
            row["displacement_um"] = np.hypot(*(at[-1] - at[0]))
            row["movement_um"] = np.hypot(*np.diff(at, axis=0).T).sum()
            row["mean_speed_um_per_min"] = row["movement_um"] / duration
        distances = _distances_at(times, at, lag_min, step_min)
        row["lag_speed_um_per_min"] = _mean(distances) / lag_min
        row["msd_um2"] = _mean(distances**2)
        once = _mean(_distances_at(times, at, step_min, step_min) ** 2)
        twice = _mean(_distances_at(times, at, 2 * step_min, step_min) ** 2)
        row["jitter_um2"] = np.maximum(0, 2 * once - twice)
        row["corrected_msd_um2"] = np.maximum(0, row["msd_um2"] - row["jitter_um2"])
    return table


def kept_share(table: NDArray[np.void]) -> float:
    """Share of all sights of cells that belong to kept tracks; NaN without cells.

    Parameters
    ----------
    table : (n_tracks,) structured array
        :func:`track_features`.
    """
    total = int(table["n_frames"].sum())
    return float(table["n_frames"][table["kept"]].sum() / total) if total else float("nan")


def _typical_step(track: NDArray[np.integer], time_min: NDArray[np.floating]) -> float:
    """Median time between two sights of a track; NaN without any."""
    gaps = np.diff(time_min)[np.diff(track) == 0]
    return float(np.median(gaps)) if gaps.size else float("nan")


def _distances_at(
    times: NDArray[np.floating], at: NDArray[np.floating], lag_min: float, step_min: float
) -> NDArray[np.float64]:
    """Distances between all sights that lie a lag apart, to a quarter of a step."""
    if not np.isfinite(step_min):
        return np.empty(0)
    tolerance = _LAG_TOLERANCE * step_min
    begin = np.searchsorted(times, times + lag_min - tolerance)
    end = np.searchsorted(times, times + lag_min + tolerance, side="right")
    first = np.flatnonzero((end > begin) & (begin < times.size))
    distances: NDArray[np.float64] = np.hypot(*(at[begin[first]] - at[first]).T)
    return distances


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _stretches(frames: NDArray[np.int64], max_objects: int) -> list[tuple[int, int]]:
    """Ranges of sorted rows: equal numbers of frames, as few ranges as keep within the limit."""
    if frames.size == 0:
        return []
    first, span = int(frames[0]), int(frames[-1] - frames[0]) + 1
    for n in range(1, span + 1):
        edges = first + np.arange(n + 1) * span // n
        cuts = np.searchsorted(frames, edges)
        if np.diff(cuts).max() <= max_objects:
            break
    return [(a, b) for a, b in pairwise(cuts.tolist()) if b > a]


def _track(
    frames: NDArray[np.int64], positions: NDArray[np.float64], field: tuple[float, float], options: TrackingOptions
) -> tuple[NDArray[np.int32], bool]:
    """Tracks of sorted cells, numbered by first appearance, and whether the optimiser found the best joins."""
    members: list[list[int]] = []
    solved = True
    # The tracker refuses what has nothing to link: one frame, or frames further apart than a track survives.
    gaps = np.diff(np.unique(frames))
    if gaps.size and gaps.min() <= options.max_lost:
        members, solved = _btrack(frames - frames[0], positions, field, options)
    track = np.zeros(frames.size, np.int32)
    for number, rows in enumerate(members, 1):
        track[rows] = number
    alone = np.flatnonzero(track == 0)
    track[alone] = len(members) + 1 + np.arange(alone.size)
    # A row's number is that of the earliest row of its track, counted.
    _, first, inverse = np.unique(track, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int32)
    rank[np.argsort(first)] = np.arange(1, first.size + 1)
    return rank[inverse], solved


def _btrack(
    frames: NDArray[np.int64], positions: NDArray[np.float64], field: tuple[float, float], options: TrackingOptions
) -> tuple[list[list[int]], bool]:
    """Rows of each track that btrack makes."""
    from btrack import BayesianTracker  # noqa: PLC0415 - its import takes a second, and sets up logging
    from btrack.btypes import PyTrackObject  # noqa: PLC0415

    with _quiet():
        objects = []
        for frame, (y, x) in zip(frames.tolist(), positions.tolist(), strict=True):
            cell = PyTrackObject()
            cell.t, cell.x, cell.y, cell.z = frame, x, y, 0.0
            objects.append(cell)
        with BayesianTracker(verbose=False) as tracker:
            tracker.configure(_configuration(options))
            tracker.append(objects)
            # A drifting stage shows glass beyond the reference's field, and the tracker drops what leaves its volume.
            low = np.minimum(0, positions.min(axis=0))
            high = np.maximum(field, positions.max(axis=0))
            tracker.volume = ((low[1], high[1]), (low[0], high[0]), (-1e25, 1e25))
            tracker.track(step_size=int(frames[-1]) + 1)
            # No time limit: see link_cells. Messages of the solver would go to the process's standard output.
            chosen = tracker.optimise(options={"msg_lev": "GLP_MSG_OFF"})
            solved = bool(chosen) or tracker.n_tracks == 0
            # Negative references are positions that the tracker made up for frames without the cell.
            members = [[row for row in rows if row >= 0] for rows in tracker.refs]
    return [rows for rows in members if rows], solved


def _configuration(options: TrackingOptions) -> dict[str, Any]:
    """Constant velocity in three dimensions (depth is 0 throughout), and which ends of tracks are explained how."""
    position, velocity = np.eye(6)[:3], np.eye(6)[3:]
    motion = {
        "name": "cells",
        "dt": 1.0,
        "measurements": 3,
        "states": 6,
        "accuracy": _ACCURACY,
        "prob_not_assign": options.prob_not_assign,
        "max_lost": options.max_lost,
        "A": np.vstack([position + velocity, velocity]),
        "H": position,
        "P": _POSITION_VARIANCE * np.diag([0.1] * 3 + [1.0] * 3),
        "G": _PROCESS_SD * np.array([0.5] * 3 + [1.0] * 3),
        "R": _MEASUREMENT_VARIANCE * np.eye(3),
    }
    hypotheses = {
        "name": "cells",
        "hypotheses": ["P_FP", "P_init", "P_term", "P_link", "P_dead"],
        "lambda_time": options.scale,
        "lambda_dist": options.scale,
        "lambda_link": options.scale,
        "lambda_branch": options.scale,
        "eta": 1e-150,
        "theta_dist": options.scale,
        "theta_time": options.scale,
        "dist_thresh": options.link_radius,
        "time_thresh": options.link_frames,
        "apop_thresh": 2,
        "segmentation_miss_rate": 0.001,
        "apoptosis_rate": 0.1,
        "relax": False,
    }
    return {"motion_model": motion, "hypothesis_model": hypotheses, "max_search_radius": options.search_radius}


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave the library's own log handler without work: what matters is in the result."""
    library, tracker = logging.getLogger("btrack"), logging.getLogger("btrack.core")

    def none(_: logging.LogRecord) -> bool:
        return False

    level = library.level
    library.setLevel(logging.CRITICAL + 1)
    # It sets a level of its own when it is made, so only a filter keeps it silent.
    tracker.addFilter(none)
    try:
        yield
    finally:
        library.setLevel(level)
        tracker.removeFilter(none)
