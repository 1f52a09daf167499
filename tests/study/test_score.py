"""Scores against truths whose answers are known by construction."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phagostat.model.errors import PhagostatError, StoreError
from phagostat.simulate import Truth, TruthError, read_truth, simulate
from phagostat.simulate.scenarios import black_frame, blurred_burst, calm, missing_frame, stage_jump
from phagostat.simulate.truth import Table
from phagostat.study.score import read_frames_table, score, seeds_from_commit

REFERENCE = 1
BLACK, MISSING = 4, 5
BLURRED = (6, 7)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    path = tmp_path_factory.mktemp("score") / "movie.czi"
    scenario = calm() | blurred_burst(6, 2, sigma_px=3.0) | stage_jump(3, (12.25, -7.5)) | black_frame(BLACK)
    simulate(path, scenes=2, frames=8, shape_yx=(192, 192), seed=5, scenario=scenario | missing_frame(MISSING))
    return read_truth(path)


def perfect(truth: Truth) -> Table:
    """The table that a run without any error would write."""
    frames = truth.frames
    reference = {scene: truth.scene(frames, scene) for scene in range(truth.n_scenes)}
    n = len(frames["scene"])
    run: Table = {
        "scene": frames["scene"].copy(), "frame": frames["frame"].copy(), "is_reference": frames["frame"] == REFERENCE,
        "verdict": np.array(["ok" if state == "normal" else state for state in frames["state"]], dtype=object),
        "sharpness": 1.0 / (1.0 + frames["defocus_sigma_px"]), "bleaching_factor": np.ones(n),
        "aggregate_count": np.zeros(n), "aggregate_area_um2": np.zeros(n),
    }  # fmt: skip
    for axis in "yx":
        name = f"shift_{axis}_px"
        run[name] = np.array([
            frames[name][row] - reference[int(frames["scene"][row])][name][REFERENCE] for row in range(n)
        ])  # fmt: skip
    for row in range(n):
        here = (truth.areas["scene"] == frames["scene"][row]) & (truth.areas["frame"] == frames["frame"][row])
        counted = here & truth.areas["in_view"] & (truth.areas["area_um2"] > 10 * 0.206**2)
        run["aggregate_count"][row] = counted.sum()
        run["aggregate_area_um2"][row] = truth.areas["area_um2"][counted].sum()
    unusable = frames["state"] != "normal"
    for name in ("shift_y_px", "shift_x_px", "sharpness", "bleaching_factor"):
        run[name][unusable] = np.nan
    return run


def test_a_perfect_run_has_no_error(truth: Truth) -> None:
    result = score(perfect(truth), truth)
    for scene in result.scenes:
        assert (scene.n_frames, scene.n_sharp_frames, scene.n_compared_frames) == (8, 4, 4)
        assert scene.shift_error_max_px == pytest.approx(0.0, abs=1e-12)
        assert scene.share_over_tolerance == scene.unregistered_share == 0.0
        assert scene.bleaching_error_max == pytest.approx(0.0)
        assert scene.aggregate_count_error == scene.aggregate_area_error_max == 0.0
        assert scene.sharpness_auc == 1.0
        assert scene.unusable_accepted == 0


def test_one_wrong_shift_is_seen_in_its_scene(truth: Truth) -> None:
    run = perfect(truth)
    row = np.flatnonzero((run["scene"] == 1) & (run["frame"] == 3))[0]
    run["shift_y_px"][row] += 0.3
    run["shift_x_px"][row] -= 0.4
    result = score(run, truth)
    assert result.scenes[0].shift_error_max_px == pytest.approx(0.0, abs=1e-12)
    assert result.scenes[1].shift_error_max_px == pytest.approx(0.5)
    assert result.scenes[1].shift_error_max_axis_px == pytest.approx(0.4)
    assert result.scenes[1].shift_error_mean_px == pytest.approx(0.125)
    assert result.scenes[1].share_over_tolerance == 0.25
    assert result.worst["shift_error_max_px"] == pytest.approx(0.5)
    assert result.mean["shift_error_max_px"] == pytest.approx(0.25)


def test_blurred_and_unusable_frames_are_no_shift_errors(truth: Truth) -> None:
    run = perfect(truth)
    run["shift_y_px"][np.isin(run["frame"], [*BLURRED, BLACK, MISSING])] = 50.0
    assert score(run, truth).worst["shift_error_max_px"] == pytest.approx(0.0, abs=1e-12)


def test_unregistered_sharp_frame_counts_as_a_failure(truth: Truth) -> None:
    run = perfect(truth)
    run["shift_y_px"][(run["frame"] == 2) & (run["scene"] == 0)] = np.nan
    first = score(run, truth).scenes[0]
    assert (first.unregistered_share, first.share_over_tolerance, first.n_compared_frames) == (0.25, 0.25, 3)


def test_scene_without_a_reference_has_no_registered_frame(truth: Truth) -> None:
    run = perfect(truth)
    run["is_reference"][run["scene"] == 0] = False
    result = score(run, truth)
    assert result.scenes[0].unregistered_share == 1.0
    assert np.isnan(result.scenes[0].shift_error_max_px)
    assert result.as_dict()["scenes"][0]["shift_error_max_px"] is None
    json.dumps(result.as_dict(), allow_nan=False)


def test_black_frame_called_ok_is_told(truth: Truth) -> None:
    run = perfect(truth)
    run["verdict"][run["frame"] == BLACK] = "ok"
    assert score(run, truth).worst["unusable_accepted"] == 1


def test_bleaching_area_count_and_sharpness_errors(truth: Truth) -> None:
    run = perfect(truth)
    run["bleaching_factor"][run["frame"] == 2] -= 0.1
    run["aggregate_area_um2"] *= 0.9
    run["aggregate_count"] *= 2
    run["sharpness"] = 1.0 - run["sharpness"]
    result = score(run, truth)
    assert result.worst["bleaching_error_max"] == pytest.approx(0.1)
    assert result.mean["bleaching_error_mean"] == pytest.approx(0.025)
    assert result.mean["aggregate_area_error"] == pytest.approx(-0.1)
    assert result.worst["aggregate_area_error"] == pytest.approx(-0.1)
    assert result.mean["aggregate_count_error"] == pytest.approx(1.0)
    assert result.worst["sharpness_auc"] == 0.0


def test_order_of_the_rows_does_not_matter(truth: Truth) -> None:
    run = perfect(truth)
    run["shift_y_px"] += np.linspace(0.0, 1.0, len(run["scene"]))
    shuffled = np.random.default_rng(0).permutation(len(run["scene"]))
    mixed = {name: column[shuffled] for name, column in run.items()}
    assert score(mixed, truth).as_dict() == score(run, truth).as_dict()


def test_run_of_another_movie_is_refused(truth: Truth) -> None:
    run = perfect(truth)
    one_scene = {name: column[run["scene"] == 0] for name, column in run.items()}
    with pytest.raises(TruthError, match="scenes"):
        score(one_scene, truth)
    short = {name: column[run["frame"] < 7] for name, column in run.items()}
    with pytest.raises(TruthError, match="frames"):
        score(short, truth)


def test_table_is_read_from_an_output(truth: Truth, tmp_path: Path) -> None:
    run = perfect(truth)
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.table(run), tmp_path / "tables" / "frames.parquet")
    assert score(read_frames_table(tmp_path), truth).as_dict() == score(run, truth).as_dict()
    pq.write_table(pa.table({"scene": [0]}), tmp_path / "tables" / "frames.parquet")
    with pytest.raises(StoreError, match="lacks columns"):
        read_frames_table(tmp_path)
    with pytest.raises(PhagostatError, match="cannot be read"):
        read_frames_table(tmp_path / "nowhere")


def test_seeds_follow_from_the_commit_as_documented() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    seeds = seeds_from_commit(commit)
    assert len(set(seeds)) == 20
    assert seeds[3] == int(hashlib.sha256(f"{commit}:3".encode()).hexdigest()[:8], 16)
    assert seeds_from_commit(commit.upper() + "\n", n=5) == seeds[:5]
    with pytest.raises(ValueError, match="full commit id"):
        seeds_from_commit("0123456")
