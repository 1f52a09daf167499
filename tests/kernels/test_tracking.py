"""Links between cells of known paths, and the measures of tracks against arithmetic."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phagostat.kernels.tracking import (
    DEFAULTS,
    TRACK_FEATURES,
    Tracks,
    kept_share,
    link_cells,
    track_features,
    track_steps,
)

FIELD_UM = (210.0, 210.0)
Path2D = list[tuple[float, float] | None]


def linked(paths: list[Path2D], *, shuffle: int | None = None, **options) -> tuple[Tracks, np.ndarray]:
    """Tracks of paths (one place a frame in um, None where the cell is not seen), and the path of every row."""
    rows = [
        (t, number + 1, *place)
        for number, path in enumerate(paths)
        for t, place in enumerate(path)
        if place is not None
    ]
    table = np.array(rows, np.float64).reshape(-1, 4)
    if shuffle is not None:
        table = table[np.random.default_rng(shuffle).permutation(len(table))]
    tracks = link_cells(
        table[:, 0].astype(np.int32),
        table[:, 1].astype(np.uint16),
        y_um=table[:, 2],
        x_um=table[:, 3],
        field_um=FIELD_UM,
        options=replace(DEFAULTS, **options),
    )
    return tracks, table


def walk(seed: int, n: int, start: tuple[float, float], step: float = 0.5) -> Path2D:
    steps = np.random.default_rng(seed).normal(0, step, (n, 2))
    return [tuple(place) for place in start + np.cumsum(steps, axis=0)]


def tracks_of(tracks: Tracks, table: np.ndarray, path: int) -> list[int]:
    rows = table[table[:, 1] == path + 1]
    order = np.argsort(rows[:, 0])
    return tracks.track[table[:, 1] == path + 1][order].tolist()


def test_every_path_is_one_track() -> None:
    paths = [walk(k, 60, (30.0 + 50 * (k // 4), 30.0 + 50 * (k % 4))) for k in range(12)]
    tracks, table = linked(paths)
    assert tracks.n_tracks == 12
    for path in range(12):
        assert set(tracks_of(tracks, table, path)) == {path + 1}
    assert (tracks.n_stretches, tracks.n_unsolved) == (1, 0)


def test_cells_that_stand_still_are_tracked() -> None:
    tracks, _ = linked([[(50.0, 50.0)] * 40, [(90.0, 120.0)] * 40])
    assert tracks.n_tracks == 2


@pytest.mark.parametrize("gap", [1, 3, 5])
def test_a_gap_does_not_end_a_track(gap: int) -> None:
    path = walk(1, 60, (100.0, 100.0), step=0.2)
    path[20 : 20 + gap] = [None] * gap
    tracks, _ = linked([path, walk(2, 60, (30.0, 30.0))])
    assert tracks.n_tracks == 2


def test_a_long_absence_ends_a_track() -> None:
    path = walk(1, 60, (100.0, 100.0), step=0.2)
    path[20:45] = [None] * 25
    tracks, table = linked([path, walk(2, 60, (30.0, 30.0))])
    before, after = tracks_of(tracks, table, 0)[:20], tracks_of(tracks, table, 0)[20:]
    assert len(set(before)) == 1
    assert len(set(after)) == 1
    assert before[0] != after[0]


def test_frames_without_any_cell_are_gaps() -> None:
    path = [(50.0, 50.0 + 0.3 * t) if t % 7 < 3 else None for t in range(60)]
    tracks, _ = linked([path])
    assert tracks.n_tracks == 1


def test_steady_cells_that_cross_keep_their_way() -> None:
    """They pass each other at 6 um; the velocity of each tells which is which."""
    n = 60
    right = [(100.0, 40.0 + 2 * t) for t in range(n)]
    left = [(106.0, 160.0 - 2 * t) for t in range(n)]
    tracks, table = linked([right, left])
    assert set(tracks_of(tracks, table, 0)) == {1}
    assert set(tracks_of(tracks, table, 1)) == {2}


def test_cells_that_come_and_go() -> None:
    comes: Path2D = [None] * 25 + walk(1, 35, (150.0, 60.0))
    goes: Path2D = walk(2, 30, (60.0, 150.0)) + [None] * 30
    tracks, table = linked([walk(3, 60, (60.0, 60.0)), comes, goes])
    assert tracks.n_tracks == 3
    for path in range(3):
        assert len(set(tracks_of(tracks, table, path))) == 1


def test_cells_beyond_the_references_field_are_tracked() -> None:
    """A drifting stage shows glass that the reference does not."""
    tracks, _ = linked([[(-30.0 - t, 50.0) for t in range(30)], [(300.0, 150.0)] * 30])
    assert tracks.n_tracks == 2


def test_distant_places_are_different_cells() -> None:
    tracks, _ = linked([[(20.0, 20.0) if t % 2 else (180.0, 180.0) for t in range(20)]], max_lost=1)
    assert tracks.n_tracks >= 2


@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=8)
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    paths = [walk(seed + k, 25, (40.0 + 15 * k, 90.0), step=1.5) for k in range(8)]
    sorted_tracks, table = linked(paths)
    shuffled_tracks, shuffled = linked(paths, shuffle=seed)
    expected = {(row[0], row[1]): track for row, track in zip(table, sorted_tracks.track, strict=True)}
    assert expected == {(row[0], row[1]): track for row, track in zip(shuffled, shuffled_tracks.track, strict=True)}


def test_the_same_bytes_in_other_processes() -> None:
    program = (
        "import sys, numpy as np\n"
        "from phagostat.kernels.tracking import link_cells\n"
        "random = np.random.default_rng(3)\n"
        "at = random.uniform(0, 210, (60, 2)) + np.cumsum(random.normal(0, 1.5, (30, 60, 2)), axis=0)\n"
        "frame, label = (grid.ravel() for grid in np.indices((30, 60)))\n"
        "y, x = at.reshape(-1, 2).T\n"
        "tracks = link_cells(frame, label, y_um=y, x_um=x, field_um=(210.0, 210.0))\n"
        "sys.stdout.buffer.write(tracks.track.tobytes())\n"
    )
    runs = [
        subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True)
        for _ in range(2)
    ]
    # The solver and the library's logger are silent, or there would be more bytes.
    assert len(runs[0].stdout) == 4 * 60 * 30
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stderr == b""


def test_a_large_scene_is_cut_by_number() -> None:
    paths = [walk(k, 40, (40.0 + 60 * k, 90.0)) for k in range(3)]
    tracks, table = linked(paths, max_objects=60)
    assert tracks.n_stretches == 2
    assert tracks.n_tracks == 6
    for path in range(3):
        found = tracks_of(tracks, table, path)
        assert len(set(found[:20])) == len(set(found[20:])) == 1
        assert found[19] != found[20]
    assert linked(paths, max_objects=120)[0].n_stretches == 1


def test_joins_that_are_not_solved_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from btrack.optimise.optimiser import TrackOptimiser

    monkeypatch.setattr(TrackOptimiser, "optimise", lambda self: [])
    tracks, _ = linked([walk(k, 20, (40.0 + 60 * k, 90.0)) for k in range(3)])
    assert tracks.n_unsolved == 1
    assert tracks.n_tracks == 3


def test_few_cells() -> None:
    assert linked([])[0].n_tracks == 0
    assert linked([[(5.0, 5.0)]])[0].track.tolist() == [1]
    tracks, _ = linked([[(5.0, 5.0)], [(50.0, 5.0)]])
    assert tracks.track.tolist() == [1, 2]


def test_wrong_input_is_said() -> None:
    one, place = np.array([1, 1]), np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="listed twice"):
        link_cells(one, one, y_um=place, x_um=place, field_um=FIELD_UM)
    with pytest.raises(ValueError, match=r"leave out frames \[1\]"):
        link_cells(one, np.array([1, 2]), y_um=np.array([1.0, np.nan]), x_um=place, field_um=FIELD_UM)
    with pytest.raises(ValueError, match="equally long"):
        link_cells(one, one, y_um=place[:1], x_um=place, field_um=FIELD_UM)


def features(path: Path2D, *, minutes: float = 2.0, **options) -> np.void:
    seen = [t for t, place in enumerate(path) if place is not None]
    at = np.array([path[t] for t in seen])
    frame = np.array(seen)
    order = np.random.default_rng(0).permutation(len(seen))
    (row,) = track_features(
        np.ones(len(seen), np.int32),
        frame[order],
        time_min=frame[order] * minutes,
        y_um=at[order, 0],
        x_um=at[order, 1],
        area_um2=10.0 + frame[order],
        **options,
    )
    assert row.dtype == TRACK_FEATURES
    return row


def test_measures_of_a_steady_cell() -> None:
    row = features([(10.0 + 0.6 * t, 20.0 + 0.8 * t) for t in range(51)])
    assert (row["first_frame"], row["last_frame"], row["n_frames"]) == (0, 50, 51)
    assert row["duration_min"] == 100.0
    assert row["kept"]
    assert row["displacement_um"] == pytest.approx(50)
    assert row["movement_um"] == pytest.approx(50)
    assert row["mean_speed_um_per_min"] == pytest.approx(0.5)
    assert row["lag_speed_um_per_min"] == pytest.approx(0.5)
    assert row["msd_um2"] == pytest.approx(25)
    assert row["jitter_um2"] == 0
    assert row["corrected_msd_um2"] == pytest.approx(25)
    assert row["mean_area_um2"] == 35
    assert not features([(10.0 + 0.6 * t, 20.0) for t in range(50)])["kept"]


@pytest.mark.parametrize("minutes", [3.0, 4.0, 7.5, 30.0])
def test_the_lag_is_a_whole_number_of_intervals(minutes) -> None:
    row = features([(0.0, 0.5 * minutes * t) for t in range(30)], minutes=minutes)
    assert row["lag_speed_um_per_min"] == pytest.approx(0.5)
    assert row["msd_um2"] == pytest.approx((0.5 * minutes * max(round(10 / minutes), 1)) ** 2)


def test_a_cell_that_does_not_move_has_speed_zero() -> None:
    row = features([(10.0, 20.0)] * 60)
    for name in ("displacement_um", "movement_um", "mean_speed_um_per_min", "lag_speed_um_per_min", "msd_um2"):
        assert row[name] == 0


def test_what_was_not_seen_is_missing() -> None:
    row = features([(10.0, 20.0)])
    for name in ("displacement_um", "movement_um", "mean_speed_um_per_min", "lag_speed_um_per_min", "msd_um2"):
        assert np.isnan(row[name])
    short = features([(10.0, 20.0 + t) for t in range(3)])
    assert short["mean_speed_um_per_min"] == pytest.approx(0.5)
    assert np.isnan(short["lag_speed_um_per_min"])


def test_gaps_count_with_their_time() -> None:
    path: Path2D = [(0.0, 1.0 * t) for t in range(40)]
    path[10:13] = [None] * 3
    row = features(path)
    assert row["n_frames"] == 37
    assert row["mean_speed_um_per_min"] == pytest.approx(0.5)
    assert row["lag_speed_um_per_min"] == pytest.approx(0.5)


def test_jitter_is_told_from_movement() -> None:
    """A random walk of 0.2 um2 per axis and step, seen with 0.5 um2 of jitter per axis."""
    random = np.random.default_rng(5)
    way = np.cumsum(random.normal(0, np.sqrt(0.2), (20_000, 2)), axis=0)
    seen = way + random.normal(0, np.sqrt(0.5), way.shape)
    row = features([tuple(place) for place in seen])
    assert row["jitter_um2"] == pytest.approx(4 * 0.5, rel=0.1)
    assert row["corrected_msd_um2"] == pytest.approx(2 * 5 * 0.2, rel=0.1)
    assert row["msd_um2"] > 1.8 * row["corrected_msd_um2"]


def test_steps_belong_to_cells() -> None:
    track, frame = np.array([2, 1, 1, 2, 1]), np.array([0, 3, 0, 1, 1])
    y, x = np.array([0.0, 3.0, 0.0, 0.0, 0.0]), np.array([5.0, 4.0, 0.0, 5.0, 0.0])
    steps = track_steps(track, frame, time_min=2.0 * frame, y_um=y, x_um=x)
    np.testing.assert_allclose(steps[:, 0], [np.nan, 5, np.nan, 0, 0])
    np.testing.assert_allclose(steps[:, 1], [np.nan, 1.25, np.nan, 0, 0])
    empty = np.empty(0)
    assert track_steps(empty.astype(int), empty.astype(int), time_min=empty, y_um=empty, x_um=empty).shape == (0, 2)


def test_share_of_cell_time_that_is_kept() -> None:
    track = np.repeat([1, 2], [60, 20])
    frame = np.concatenate([np.arange(60), np.arange(20)])
    zero = np.zeros(80)
    table = track_features(track, frame, time_min=2.0 * frame, y_um=zero, x_um=zero, area_um2=zero)
    np.testing.assert_array_equal(table["kept"], [True, False])
    assert kept_share(table) == 0.75
    assert np.isnan(kept_share(table[:0]))
    none = zero[:0]
    assert track_features(track[:0], frame[:0], time_min=none, y_um=none, x_um=none, area_um2=none).size == 0
