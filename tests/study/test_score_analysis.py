"""Scores of the analysis against a truth made by hand: every figure is known exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, run_job
from phagostat.settings import profile_settings
from phagostat.simulate import Truth, read_truth, simulate
from phagostat.simulate.scenarios import blurred_burst, calm
from phagostat.sources import open_source
from phagostat.study.score import Run, SceneScore, read_run, score
from phagostat.study.score_cells import CellScore, match_frame, on_grid, score_cells
from phagostat.study.score_eaten import tenths
from phagostat.terminal import acquisition_of
from tests.study.hand_made import (
    EATEN,
    KEPT,
    LEAVING,
    N_FRAMES,
    PUSHED,
    label_image,
    matching_run,
    write_hand_made,
)

FOLLOWED_UM2 = 2.0 + 4.0 + 1.5 + 2.5 + 0.5
FINAL_UM2 = 4.0


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    return write_hand_made(tmp_path / "movie.truth")


def only(run: Run, truth: Truth) -> SceneScore:
    (scene,) = score(run, truth).scenes
    return scene


def relabelled(run: Run, change: Callable[[np.ndarray], None]) -> Run:
    def read(scene: int, frame: int) -> np.ndarray:
        image = label_image(frame)
        change(image)
        return image

    return replace(run, cell_labels=read)


def lost(cells: CellScore) -> tuple[float, ...]:
    """Shares of the true cells that are missed, merged, split, and outlined too differently."""
    return (
        cells.cell_lost_missed_share,
        cells.cell_lost_merged_share,
        cells.cell_lost_split_share,
        cells.cell_lost_outline_share,
    )


def parts(scene: SceneScore) -> tuple[Any, ...]:
    found = (scene.blur, scene.eaten, scene.fates, scene.cells, scene.tracks)
    assert all(part is not None for part in found)
    return found


def test_run_without_error_has_a_perfect_score(truth: Truth) -> None:
    result = score(matching_run(truth), truth)
    assert result.absent == {}
    blur, eaten, fates, cells, tracks = parts(result.scenes[0])
    assert (blur.blurred_frames, blur.sharp_rejected, blur.sharp_unused_share) == (0, 0, 0.0)
    assert eaten.eaten_true_share == pytest.approx(FINAL_UM2 / FOLLOWED_UM2)
    assert eaten.eaten_compared_share == pytest.approx(FOLLOWED_UM2 / (FOLLOWED_UM2 + 8.0))
    assert eaten.eaten_frames_share == 1.0
    assert eaten.reference_area_error == eaten.eaten_error_max == eaten.eaten_error_held_max == pytest.approx(0.0)
    assert eaten.eaten_within_5pct == eaten.eaten_within_20pct == 1.0
    assert np.isnan(eaten.eaten_without_uptake)
    assert (fates.fates_compared, fates.fates_right_share, fates.fates_missed_share) == (4, 1.0, 0.0)
    assert {was: row[was] for was, row in fates.confusion.items()} == dict.fromkeys(fates.confusion, 1)
    assert (cells.cell_frames, cells.cell_count_error, cells.cell_area_error) == (N_FRAMES, 0.0, 0.0)
    assert cells.cell_dice == cells.cell_f1 == cells.cell_miou == 1.0
    assert cells.cell_split_share == cells.cell_merge_share == 0.0
    assert lost(cells) == (0.0, 0.0, 0.0, 0.0)
    assert (cells.cell_found_share, cells.cell_inside_found_share, cells.cell_spurious_share) == (1.0, 1.0, 0.0)
    assert (tracks.true_tracks, tracks.track_longest_share, tracks.track_fragments) == (2, 1.0, 1.0)
    assert (tracks.track_mixed_share, tracks.track_switches, tracks.track_switch_share) == (0.0, 0, 0.0)
    assert (tracks.track_count_error, tracks.track_length_error) == (0.0, 0.0)
    assert tracks.lag_speed_error == pytest.approx(0.0)
    assert tracks.mean_speed_error == tracks.movement_error == pytest.approx(0.0)
    # one lies still, the other moves by 0.2 um in 2 min
    assert tracks.true_mean_speed_um_per_min == tracks.true_lag_speed_um_per_min == pytest.approx(0.05)


def test_figures_are_flat_in_the_document(truth: Truth) -> None:
    document = score(matching_run(truth), truth).as_dict()
    json.dumps(document, allow_nan=False)
    assert document["mean"]["cell_miou"] == document["worst"]["cell_miou"] == 1.0
    assert document["scenes"][0]["eaten_within_5pct"] == 1.0
    assert document["scenes"][0]["confusion"]["eaten"]["eaten"] == 1
    assert all(value is None or isinstance(value, (int, float)) for value in document["mean"].values())


def test_blurred_frames_used_and_sharp_ones_rejected(tmp_path: Path) -> None:
    truth = write_hand_made(tmp_path / "movie.truth", defocus_px={4: 2.0, 5: 3.0, 6: 1.0, 7: 0.5})
    run = matching_run(truth)
    assert parts(only(run, truth))[0].blurred_accepted == 0
    run.frames["usable"][4] = True
    run.frames["focus"][7] = "blurred"
    run.frames["usable"][[7, 8]] = False  # the second one for another reason
    blur = parts(only(run, truth))[0]
    assert (blur.blurred_frames, blur.blurred_accepted, blur.blurred_accepted_share) == (2, 1, 0.5)
    assert (blur.sharp_rejected, blur.sharp_rejected_share, blur.sharp_unused_share) == (1, 1 / 8, 2 / 8)
    assert (blur.between_frames, blur.between_accepted_share) == (1, 1.0)


def test_tenths_end_with_the_movie() -> None:
    assert tenths(11) == tuple(range(1, 11))
    assert tenths(60)[-1] == 59


def test_error_of_the_eaten_area_is_a_share_of_the_final_one(truth: Truth) -> None:
    run = matching_run(truth)
    run.tables["eaten"]["eaten_area_um2"][4] += 0.07 * FINAL_UM2
    run.tables["eaten"]["eaten_area_um2"][10] -= 0.03 * FINAL_UM2
    run.tables["scenes"]["reference_area_um2"] *= 1.1
    eaten = parts(only(run, truth))[1]
    assert eaten.eaten_error_max == pytest.approx(0.07)
    assert eaten.eaten_error_final == pytest.approx(-0.03)
    assert (eaten.eaten_within_5pct, eaten.eaten_within_10pct) == (0.0, 1.0)
    assert eaten.reference_area_error == pytest.approx(0.1)


def test_error_before_the_reference_frame_is_none(truth: Truth) -> None:
    run = matching_run(truth)
    run.tables["eaten"]["eaten_area_um2"][:2] += 100.0
    assert parts(only(run, truth))[1].eaten_error_max == pytest.approx(0.0)


def test_tenth_without_a_value_is_compared_at_the_last_used_frame(truth: Truth) -> None:
    run = matching_run(truth)
    used = ~np.isin(np.arange(N_FRAMES), (4, 5, 6))
    tables = {**run.tables, "eaten": {name: column[used] for name, column in run.tables["eaten"].items()}}
    eaten = parts(only(replace(run, tables=tables), truth))[1]
    assert eaten.eaten_error_max == pytest.approx(0.0)
    # frame 3 said 1 um2; in frame 6 all 4 were eaten
    assert eaten.eaten_error_held_max == pytest.approx(3.0 / FINAL_UM2)
    assert eaten.eaten_frames_share == pytest.approx(8 / 11)


def test_scene_without_uptake_is_held_to_the_reference_area(tmp_path: Path) -> None:
    truth = write_hand_made(tmp_path / "movie.truth", uptake=False)
    run = matching_run(truth)
    run.tables["eaten"]["eaten_area_um2"][5] = -0.125
    eaten = parts(only(run, truth))[1]
    assert eaten.eaten_without_uptake == pytest.approx(0.125 / (FOLLOWED_UM2 + 2.0))
    assert np.isnan(eaten.eaten_error_max)
    assert np.isnan(eaten.eaten_within_10pct)


def test_scene_that_the_ledger_gave_up_is_within_no_limit(truth: Truth) -> None:
    run = matching_run(truth)
    none = {name: column[:0] for name, column in run.tables["eaten"].items()}
    for given_up in (replace(run, tables={**run.tables, "eaten": none}), run):
        if given_up is run:
            run.frames["is_reference"][:] = False
        scene = only(given_up, truth)
        assert scene.eaten is not None
        assert scene.fates is None
        assert (scene.eaten.eaten_frames_share, scene.eaten.eaten_within_20pct) == (0.0, 0.0)


def test_without_labels_a_disc_tells_what_the_border_cuts(truth: Truth) -> None:
    run = matching_run(truth)
    tables = {name: table for name, table in run.tables.items() if name != "aggregates"}
    _, eaten, fates, *_ = parts(only(replace(run, tables=tables), truth))
    assert eaten.eaten_error_max == pytest.approx(0.0)
    assert eaten.eaten_compared_share == pytest.approx(FOLLOWED_UM2 / (FOLLOWED_UM2 + 8.0))
    assert fates.fates_right_share == 1.0


def test_wrong_fates_are_confused_missed_or_without_truth(truth: Truth) -> None:
    run = matching_run(truth)
    fates = run.tables["fates"]
    fates["fate"][KEPT], fates["area_left_um2"][KEPT] = "partly eaten", 0.5
    fates["fate"][PUSHED] = "passing"
    fates["glass_y_um"][EATEN] += 3.0
    found = parts(only(run, truth))[2]
    assert found.confusion["kept"]["eaten"] == found.confusion["moved"]["other"] == 1
    assert found.confusion["detached"]["detached"] == 1
    assert sum(found.confusion["eaten"].values()) == 0
    assert (found.fates_compared, found.fates_right_share) == (3, pytest.approx(1 / 3))
    assert found.kept_called_eaten_share == 1.0
    # of the five that the border does not cut, LEAVING is found though its fate is not compared
    assert found.fates_missed_share == pytest.approx(1 / 5)
    assert found.fates_without_truth == 1


def test_what_is_more_than_half_left_counts_as_kept(truth: Truth) -> None:
    run = matching_run(truth)
    fates = run.tables["fates"]
    fates["fate"][KEPT], fates["area_left_um2"][KEPT] = "partly eaten", 1.5
    assert parts(only(run, truth))[2].fates_right_share == 1.0


def test_aggregate_that_left_the_view_stays_as_it_was_last_seen(truth: Truth) -> None:
    rows = truth.areas["aggregate"] == LEAVING
    assert truth.areas["eaten_area_um2"][rows].max() == 0.5  # the truth knows, no frame shows it
    assert parts(only(matching_run(truth), truth))[1].eaten_error_final == pytest.approx(0.0)


def test_shifted_cells_overlap_less(truth: Truth) -> None:
    def shift(image: np.ndarray) -> None:
        image[:] = np.roll(image, 2, axis=0)

    *_, cells, tracks = parts(only(relabelled(matching_run(truth), shift), truth))
    assert cells.cell_dice == pytest.approx(0.8)
    assert cells.cell_miou == pytest.approx(80 / 120)
    assert (cells.cell_f1, cells.cell_count_error) == (1.0, 0.0)
    assert tracks.track_longest_share == 1.0


def test_missing_cell_lowers_every_figure(truth: Truth) -> None:
    def erase(image: np.ndarray) -> None:
        image[image == 2] = 0

    *_, cells, tracks = parts(only(relabelled(matching_run(truth), erase), truth))
    assert (cells.cell_count_error, cells.cell_count_error_abs, cells.cell_area_error) == (-0.5, 0.5, 0.0)
    assert cells.cell_dice == pytest.approx(2 / 3)
    assert (cells.cell_f1, cells.cell_miou) == (pytest.approx(2 / 3), 0.5)
    assert lost(cells) == (0.5, 0.0, 0.0, 0.0)
    assert cells.cell_found_share == 0.5
    assert tracks.track_longest_share == 0.5


def test_split_cell(truth: Truth) -> None:
    def split(image: np.ndarray) -> None:
        image[31:35][image[31:35] == 2] = 3  # 6 and 4 of 10 rows

    *_, cells, _ = parts(only(relabelled(matching_run(truth), split), truth))
    assert (cells.cell_split_share, cells.cell_merge_share) == (0.5, 0.0)
    assert cells.cell_dice == 1.0
    assert cells.cell_miou == pytest.approx((1.0 + 0.6) / 2)
    assert cells.cell_f1 == pytest.approx(2 * 2 / 5)
    assert cells.cell_area_error == pytest.approx(-1 / 3)


def test_merged_cells(truth: Truth) -> None:
    def merge(image: np.ndarray) -> None:
        image[image == 2] = 1

    *_, cells, tracks = parts(only(relabelled(matching_run(truth), merge), truth))
    assert (cells.cell_split_share, cells.cell_merge_share) == (0.0, 1.0)
    assert (cells.cell_f1, cells.cell_miou) == (pytest.approx(2 / 3), 0.25)
    assert lost(cells) == (0.0, 0.5, 0.0, 0.0)  # the other one, half of the two, is found
    assert tracks.track_longest_share == 0.5


def square_cells(*corners_and_labels: tuple[int, int, int, int]) -> np.ndarray:
    """Squares of 10 px at (y, x), of which the given columns are labelled: (y, x, width, label)."""
    image = np.zeros((40, 60), np.uint16)
    for y, x, width, label in corners_and_labels:
        image[y : y + 10, x : x + width] = label
    return image


def test_every_true_cell_is_found_or_lost_for_one_reason() -> None:
    """Two are missed, of them one at the border; two are merged, one is split, one is found; and debris."""
    true = square_cells((0, 0, 10, 1), (5, 20, 10, 2), (5, 30, 10, 3), (25, 5, 10, 4), (25, 25, 10, 5), (25, 45, 10, 6))
    found = square_cells(
        (0, 0, 4, 1), (5, 18, 24, 2), (25, 5, 4, 3), (25, 10, 4, 4), (25, 20, 8, 5), (25, 45, 10, 6), (14, 50, 5, 7)
    )  # fmt: skip
    score = score_cells([match_frame(0, true, found)])
    assert score.cell_found_share == pytest.approx(1 / 6)
    assert lost(score) == tuple(pytest.approx(share / 6) for share in (2, 2, 1, 0))
    assert sum(lost(score)) + score.cell_found_share == pytest.approx(1.0)
    assert score.cell_inside_found_share == pytest.approx(1 / 5)
    assert score.cell_spurious_share == pytest.approx(2 / 7)


def test_a_found_cell_of_another_outline() -> None:
    score = score_cells([match_frame(0, square_cells((10, 20, 10, 1)), square_cells((10, 14, 30, 9)))])
    assert lost(score) == (0.0, 0.0, 0.0, 1.0)


def test_only_used_frames_are_compared(truth: Truth) -> None:
    run = matching_run(truth)
    run.frames["usable"][3:] = False

    def read(scene: int, frame: int) -> np.ndarray:
        assert frame < 3
        return label_image(frame)

    *_, cells, tracks = parts(only(replace(run, cell_labels=read), truth))
    assert (cells.cell_frames, cells.cell_miou) == (3, 1.0)
    assert np.isnan(tracks.lag_speed_error)  # no two of them lie 10 min apart


def test_frame_whose_cells_were_not_looked_for_is_missed_unless_there_is_no_plane(truth: Truth) -> None:
    run = matching_run(truth)
    run.frames["segmentation_verdict"] = np.full(N_FRAMES, "ok", object)
    run.frames["segmentation_verdict"][[3, 4]] = "black"
    truth.frames["missing_channels"][4] = "1"

    def read(scene: int, frame: int) -> np.ndarray:
        assert frame not in (3, 4)
        return label_image(frame)

    *_, cells, tracks = parts(only(replace(run, cell_labels=read), truth))
    assert (cells.cell_frames, cells.cell_miou) == (10, pytest.approx(0.9))
    assert tracks.track_longest_share == pytest.approx(0.9)


def test_broken_and_swapped_tracks(truth: Truth) -> None:
    run = matching_run(truth)
    cells = run.tables["cells"]
    cells["track"][(cells["cell"] == 2) & (cells["frame"] >= 8)] = 3
    tracks = parts(only(run, truth))[4]
    assert tracks.track_longest_share == pytest.approx((11 + 8) / 22)
    assert (tracks.track_fragments, tracks.track_mixed_share) == (1.5, 0.0)
    assert (tracks.track_switches, tracks.track_switch_share) == (1, 1 / 20)
    assert tracks.track_count_error == 0.5
    assert tracks.track_length_error == pytest.approx((20 + 14 + 4) / 3 / 20 - 1)
    # one of the ten steps of the cell that moves, and of the twenty of both, is in no track
    assert tracks.movement_error == pytest.approx(-0.1)
    assert tracks.mean_speed_error == pytest.approx(0.9 / 0.95 - 1)
    late = cells["frame"] >= 8
    cells["track"][late] = 3 - cells["cell"][late]
    tracks = parts(only(run, truth))[4]
    assert tracks.track_longest_share == pytest.approx(16 / 22)
    assert (tracks.track_fragments, tracks.track_mixed_share) == (2.0, 1.0)
    assert (tracks.track_switches, tracks.track_switch_share) == (2, 2 / 20)
    assert tracks.track_count_error == 0.0


def test_kept_time_is_that_of_tracks_of_100_min(tmp_path: Path) -> None:
    truth = write_hand_made(tmp_path / "movie.truth")
    truth.frames["time_s"][:] *= 5  # 100 min in all
    run = matching_run(truth)
    tracks = parts(only(run, truth))[4]
    assert tracks.true_kept_share == tracks.track_kept_share == 1.0
    cells = run.tables["cells"]
    cells["track"][(cells["cell"] == 2) & (cells["frame"] == 10)] = 3
    tracks = parts(only(run, truth))[4]
    assert (tracks.true_kept_share, tracks.track_kept_share) == (1.0, 0.5)
    truth.frames["time_s"][:] *= 0.99
    tracks = parts(only(run, truth))[4]
    assert (tracks.true_kept_share, tracks.track_kept_share) == (0.0, 0.0)


def test_speeds_are_of_cells_off_the_border_and_bridge_unused_frames(truth: Truth) -> None:
    run = matching_run(truth)
    run.tables["cells"]["touches_border"][:N_FRAMES] = True  # the one that lies still
    tracks = parts(only(run, truth))[4]
    assert tracks.mean_speed_error == tracks.lag_speed_error == pytest.approx(1.0)
    assert tracks.movement_error == pytest.approx(0.0)
    run.tables["cells"]["touches_border"][:] = False
    run.frames["usable"][4] = False
    tracks = parts(only(run, truth))[4]
    assert (tracks.mean_speed_error, tracks.movement_error) == pytest.approx((0.0, 0.0))
    assert tracks.track_switch_share == 0.0


def test_run_without_any_cell_has_no_speed_and_no_movement(truth: Truth) -> None:
    run = matching_run(truth)
    tables = {**run.tables, "cells": {name: column[:0] for name, column in run.tables["cells"].items()}}
    blank = replace(relabelled(run, lambda image: image.fill(0)), tables=tables)
    tracks = parts(only(blank, truth))[4]
    assert (tracks.track_count_error, tracks.track_longest_share, tracks.movement_error) == (-1.0, 0.0, -1.0)
    assert np.isnan([tracks.track_length_error, tracks.track_switch_share, tracks.mean_speed_error]).all()


def test_speed_is_compared_over_ten_minutes(truth: Truth) -> None:
    run = matching_run(truth)
    cells = run.tables["cells"]
    cells["registered_x_um"][cells["cell"] == 2] = 6.0 - 0.3 * np.arange(N_FRAMES)
    tracks = parts(only(run, truth))[4]
    assert [tracks.lag_speed_error, tracks.lag_speed_outlined_error] == pytest.approx([0.5, 0.5])
    assert tracks.lag_speed_outlined_share == 1.0


def test_speed_of_confused_cells_is_told_from_that_of_their_outlines(truth: Truth) -> None:
    run = matching_run(truth)
    cells = run.tables["cells"]
    late = cells["frame"] >= 8
    cells["track"][late] = 3 - cells["cell"][late]
    # of six pairs of sights a track, five frames apart, those from frame 3 on end in the other cell
    tracks = parts(only(run, truth))[4]
    assert tracks.lag_speed_outlined_share == pytest.approx(3 / 6)
    assert tracks.lag_speed_outlined_error == pytest.approx(0.0)
    assert tracks.lag_speed_error > 1.0


def test_labels_of_another_grid_are_read_at_its_pixels() -> None:
    image = np.arange(16, dtype=np.uint16).reshape(4, 4)
    twice = on_grid(image, (8, 8), native_yx=(8, 8), reduction=2)
    np.testing.assert_array_equal(twice, image.repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(on_grid(image, (2, 2), native_yx=(8, 8), reduction=2), image[1::2, 1::2])


def test_frames_without_cells_have_no_shares() -> None:
    empty = np.zeros((4, 4), np.uint16)
    found = score_cells([match_frame(0, empty, empty)])
    assert found.cell_frames == 1
    assert np.isnan([found.cell_dice, found.cell_f1, found.cell_miou, found.cell_count_error]).all()
    assert score_cells([]).cell_frames == 0


def test_what_a_run_lacks_is_absent_and_said(truth: Truth) -> None:
    run = matching_run(truth)
    tables = {name: table for name, table in run.tables.items() if name not in ("eaten", "cells")}
    result = score(replace(run, tables=tables, cell_labels=None), truth)
    assert set(result.absent) == {"eaten", "fates", "cells", "tracks"}
    assert result.absent["eaten"] == "there is no table eaten"
    assert "label images" in result.absent["cells"]
    assert "cell_dice" not in result.as_dict()["mean"]
    assert result.as_dict()["mean"]["blurred_accepted"] == 0
    frames = {name: column for name, column in run.frames.items() if name not in ("usable", "focus")}
    older = score(frames, truth)
    assert older.absent["blur"] == "the table frames has no usable, focus"
    assert older.scenes[0].blur is older.scenes[0].cells is None
    assert older.scenes[0].shift_error_max_px == pytest.approx(0.0)


def test_channel_that_was_not_recorded_is_no_failure(truth: Truth) -> None:
    run = matching_run(truth)
    run.frames["aggregates_verdict"] = np.full(N_FRAMES, "no_channel", object)
    run.frames["shift_x_px"][:] = 0.0
    result = score(run, truth)
    assert set(result.absent) == {"shifts", "blur", "eaten", "fates"}
    assert "no channel of aggregates" in result.absent["eaten"]
    assert np.isnan([result.mean["shift_error_max_px"], result.mean["share_over_tolerance"]]).all()
    assert result.mean["cell_miou"] == 1.0
    run.frames["cells_verdict"], run.frames["aggregates_verdict"] = (
        run.frames["aggregates_verdict"],
        run.frames["verdict"],
    )
    assert set(score(run, truth).absent) == {"cells", "tracks"}


def test_tables_are_read_from_an_output(truth: Truth, tmp_path: Path) -> None:
    run = matching_run(truth)
    folder = tmp_path / "output" / "tables"
    folder.mkdir(parents=True)
    for name, table in {"frames": run.frames, **run.tables}.items():
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    read = read_run(tmp_path / "output")
    assert read.cell_labels is None
    result = score(read, truth)
    assert set(result.absent) == {"cells", "tracks"}
    assert result.scenes[0].fates == parts(only(run, truth))[2]
    (folder / "fates.parquet").write_bytes(b"broken")
    assert set(score(read_run(tmp_path / "output"), truth).absent) == {"fates", "cells", "tracks"}


def test_finished_output_is_scored_in_all_parts(tmp_path: Path) -> None:
    movie = tmp_path / "movie.czi"
    simulate(movie, scenes=1, frames=6, shape_yx=(256, 256), seed=3, scenario=calm() | blurred_burst(4, 1))
    settings = profile_settings()
    source = open_source(movie)
    output = tmp_path / "output"
    run_job(analysis_job(source, acquisition_of(source, settings), settings, output), SynchronousExecutor())
    result = score(read_run(output), read_truth(movie))
    assert result.absent == {}
    blur, eaten, _, cells, tracks = parts(result.scenes[0])
    assert (blur.blurred_frames, blur.blurred_accepted, blur.sharp_rejected) == (1, 0, 0)
    assert cells.cell_frames == 5
    assert 0.5 < cells.cell_dice <= 1.0
    assert abs(eaten.reference_area_error) < 0.2
    assert tracks.track_longest_share > 0.0
