"""How well cells are followed over time."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.truth import Table, Truth
from phagostat.study.figures import NAN, Floats, floats, ratio
from phagostat.study.score_cells import LINK_IOU, FrameMatch

TRACK_COLUMNS = ("scene", "frame", "cell", "track", "registered_y_um", "registered_x_um", "touches_border")
"""Columns of the table of cells that this rests on."""

LAG_MIN = 10.0


@dataclass(frozen=True)
class TrackScore:
    """Tracks of one scene, over the used frames.

    Parameters
    ----------
    true_tracks
        True cells that the used frames show.
    track_longest_share
        Share of the true cells' time (frames, all cells together) that each spends in the one found track that holds
        most of it.
    track_fragments
        Mean number of found tracks of a true cell, of those that are found at all.
    track_mixed_share
        Share of the found tracks that hold more than one true cell.
    lag_speed_error
        Signed relative difference of the mean speeds over 10 min, over all pairs of sights of a track that far apart
        and off the border. NaN where no frames are 10 min apart.
    """

    true_tracks: int
    track_longest_share: float
    track_fragments: float
    track_mixed_share: float
    lag_speed_error: float


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
    track_of = {
        (int(frame), int(cell)): int(track)
        for frame, cell, track in zip(cells["frame"], cells["cell"], cells["track"], strict=True)
    }
    seen: Counter[int] = Counter()
    tracks: defaultdict[int, Counter[int]] = defaultdict(Counter)
    held: defaultdict[int, set[int]] = defaultdict(set)
    for match in matches:
        seen.update(match.true.tolist())
        for row, column in match.pairs[match.iou >= LINK_IOU].tolist():
            track = track_of.get((match.frame, int(match.found[column])))
            if track is not None:
                tracks[int(match.true[row])][track] += 1
                held[track].add(int(match.true[row]))
    longest = sum(max(counts.values()) for counts in tracks.values())
    return TrackScore(
        true_tracks=len(seen),
        track_longest_share=ratio(longest, sum(seen.values())),
        track_fragments=ratio(sum(len(counts) for counts in tracks.values()), len(tracks)),
        track_mixed_share=ratio(sum(len(cells) > 1 for cells in held.values()), len(held)),
        lag_speed_error=_speed_error(cells, [match.frame for match in matches], truth, scene),
    )


def _speed_error(cells: Table, frames: list[int], truth: Truth, scene: int) -> float:
    rows = truth.scene(truth.frames, scene)
    minutes = np.full(int(rows["frame"].max(initial=-1)) + 1, NAN)
    minutes[rows["frame"]] = rows["time_s"] / 60
    true = truth.scene(truth.tracks, scene)
    place = np.stack([true["y_px"], true["x_px"]], axis=-1) * truth.pixel_size_um
    inside = ~true["touches_border"] & np.isin(true["frame"], frames)
    right = _lag_speed(true["cell"][inside], true["frame"][inside], place[inside], minutes)
    place = np.stack([floats(cells["registered_y_um"]), floats(cells["registered_x_um"])], axis=-1)
    inside = ~cells["touches_border"].astype(bool) & np.isin(cells["frame"], frames) & np.isfinite(place).all(axis=1)
    found = _lag_speed(cells["track"][inside], cells["frame"][inside], place[inside], minutes)
    return ratio(found - right, right)


def _lag_speed(who: NDArray[Any], frame: NDArray[Any], place_um: Floats, minutes: Floats) -> float:
    """Mean distance between sights of the same one that lie the lag apart, over the lag; um/min."""
    steps = np.diff(minutes[np.isfinite(minutes)])
    tolerance = 0.25 * float(np.median(steps)) if steps.size else 0.0
    total, number = 0.0, 0
    for one in np.unique(who).tolist():
        mine = np.flatnonzero(who == one)
        at = minutes[frame[mine].astype(np.int64)]
        earlier, later = np.nonzero(np.abs(at[None] - at[:, None] - LAG_MIN) <= tolerance)
        apart = place_um[mine[later]] - place_um[mine[earlier]]
        total += float(np.hypot(apart[:, 0], apart[:, 1]).sum())
        number += len(apart)
    return total / number / LAG_MIN if number else NAN
