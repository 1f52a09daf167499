"""Acquisitions of cells alone: what needs aggregates is left out, everything else is as it would be."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from phagostat.engine.columns import TABLES
from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, loop_of, survey_job
from phagostat.engine.steps import ANALYSIS_STEPS, CELL_STEPS, FROZEN, Scope, analysis_steps
from phagostat.engine.work import Job
from phagostat.model.acquisition import ChannelRole
from phagostat.settings import profile_settings
from phagostat.sources.channel_roles import resolve
from phagostat.sources.protocol import Availability
from phagostat.store.integrity import differences, read_contents
from phagostat.store.layout import Layout
from phagostat.store.tables import read_table

from .scenes import LENGTHS, SIDE_PX, Movie, everything

N_FRAMES = sum(LENGTHS)
ALL = {"reference": 2, "tracks": 2, "track_features": 2} | dict.fromkeys(
    ("images", "measures", "probability", "cells"), N_FRAMES
)
UNSEEN = {(0, 4): "black", (0, 5): "missing", (1, 2): "missing"}
"""Frames of the troubled movie whose cells cannot be seen; that one is out of focus nobody can tell."""


@dataclass
class Phase(Movie):
    """The cell channel of a movie, as if it alone had been recorded."""

    @property
    def metadata(self):
        both = super().metadata
        (cells,) = (channel for channel in both.channels if not channel.fluorescent)
        return replace(both, identity=f"phase {self.scenario}", channels=(replace(cells, index=0),))

    def poll(self) -> Availability:
        both = super().poll()
        return Availability({(s, 0): there for (s, c), there in both.complete.items() if c == 1}, both.closed)

    def read(self, scene: int, frame: int, channel: int) -> np.ndarray:
        assert channel == 0
        return super().read(scene, frame, 1)


def job(movie: Movie, root: Path, **values) -> Job:
    return analysis_job(movie, resolve(movie.metadata), profile_settings(values=values), root)


def finish(made: Job, executor: SynchronousExecutor | None = None) -> tuple[Mapping[str, int], Layout]:
    report = loop_of(made).run(executor or SynchronousExecutor(), poll_s=0.0)
    assert report.sealed
    return report.computed, made.layout


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    computed, layout = finish(job(Phase(), tmp_path_factory.mktemp("phase")))
    assert computed == ALL
    return layout


def rows(layout: Layout, name: str) -> list[dict]:
    return read_table(layout.tables, name).to_pylist()


def array(layout: Layout, path: str) -> np.ndarray:
    return zarr.open_array(layout.images / path, mode="r")[:]


def missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


# ---- the step table --------------------------------------------------------------------------------------------------


def test_the_table_is_a_part_of_the_whole_one_and_needs_nothing_beyond_itself(tmp_path):
    names = {step.name for step in CELL_STEPS}
    assert analysis_steps(job(Phase(), tmp_path).known, profile_settings()) is CELL_STEPS
    assert analysis_steps(job(Movie(), tmp_path).known, profile_settings()) is ANALYSIS_STEPS
    assert {step.name for step in ANALYSIS_STEPS} - names == {
        "threshold", "aggregates", "territories", "overlaps", "eaten", "fates",
    }  # fmt: skip
    for step in CELL_STEPS:
        assert set(step.needs) <= names, step.name
    assert [step.name for step in CELL_STEPS if step.scope in FROZEN] == ["reference"]


# ---- what there is, and what is left out -----------------------------------------------------------------------------


def test_images_have_the_one_channel_and_the_labels_of_cells(batch):
    side = SIDE_PX // 2
    for scene, n_frames in enumerate(LENGTHS):
        assert array(batch, f"{scene}/0").shape == (n_frames, 1, side, side)
        assert array(batch, f"{scene}/reference").shape == (1, SIDE_PX, SIDE_PX)
        assert [path.name for path in (batch.images / f"{scene}/labels").iterdir() if path.is_dir()] == ["cells"]
        for frame in range(n_frames):
            written = array(batch, f"{scene}/0")[frame].any()
            assert written == (UNSEEN.get((scene, frame)) != "missing")


def test_tables_have_all_columns_and_nothing_of_aggregates(batch):
    for name, columns in TABLES.items():
        table = read_table(batch.tables, name)
        assert table.column_names == [column.name for column in columns]
        assert [field.type for field in table.schema] == [column.kind for column in columns]
        assert (table.num_rows == 0) == (name in {"aggregates", "eaten", "fates"}), name
    for row in rows(batch, "frames"):
        verdict = UNSEEN.get((row["scene"], row["frame"]), "ok")
        assert (row["verdict"], row["cells_verdict"], row["segmentation_verdict"]) == (
            verdict,
            verdict,
            "ok" if verdict == "ok" else "unusable",
        )
        assert row["usable"] == (verdict == "ok")
        assert (row["aggregates_verdict"], row["focus"]) == ("no_channel", "unknown")
        assert row["reason"]
        if verdict == "ok":
            assert (row["shift_y_px"], row["shift_x_px"], row["shift_method"]) == (0.0, 0.0, "none")
        else:
            assert all(missing(row[name]) for name in ("shift_y_px", "shift_x_px", "shift_method"))
        for name in (
            "shift_error_y_px", "shift_confidence", "sharpness", "sharpness_ratio", "median_counts",
            "bleaching_factor", "threshold_counts", "aggregate_count", "aggregate_area_um2",
        ):  # fmt: skip
            assert missing(row[name]), name
        assert (row["cell_count"] is None) == (verdict != "ok")
    for row in rows(batch, "scenes"):
        assert (row["verdict"], row["reference_frame"], row["ledger_verdict"]) == ("ok", 0, "no_channel")
        for name in ("max_shift_px", "threshold_counts", "threshold_deviates", "frames_blurred", "accepted",
                     "reference_area_um2", "eaten_area_um2"):  # fmt: skip
            assert missing(row[name]), name
        assert "no aggregate channel" in row["quality_reason"]
        assert row["tracks"] > 0
    assert [row["frames_missing"] for row in rows(batch, "scenes")] == [1, 1]
    assert [row["frames_unusable"] for row in rows(batch, "scenes")] == [1, 0]


def test_where_the_stage_stood_still_cells_are_those_of_the_analysis_with_aggregates(tmp_path):
    first = {"reference": {"rule": "first"}}
    _, whole = finish(job(Movie("still"), tmp_path / "both", **first))
    _, alone = finish(job(Phase("still"), tmp_path / "alone", **first))
    shifts = [(row["shift_y_px"], row["shift_x_px"]) for row in rows(whole, "frames")]
    assert np.abs(shifts).max() < 0.5  # so that windows are laid over each other alike
    for scene in range(len(LENGTHS)):
        assert array(alone, f"{scene}/labels/cells/0").any()
        for path in (f"{scene}/labels/cells/0", f"{scene}/probability/0"):
            np.testing.assert_array_equal(array(alone, path), array(whole, path))
        np.testing.assert_array_equal(array(alone, f"{scene}/0")[:, 0], array(whole, f"{scene}/0")[:, 1])


# ---- the reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "frame"),
    [
        ("first frame blurred", 0),  # without aggregates nothing tells
        ("first frame black", 1),
        ("first frame missing", 1),
        ("first frame without cells", 1),
        ("first window unusable", 5),
    ],
)
def test_the_reference_is_the_first_frame_whose_cells_can_be_seen(tmp_path, scenario, frame):
    _, layout = finish(job(Phase(scenario), tmp_path))
    scene = rows(layout, "scenes")[0]
    assert (scene["verdict"], scene["reference_frame"]) == ("ok", frame)
    assert "first frame whose cells can be seen" in scene["reason"]
    assert [row["frame"] for row in rows(layout, "frames") if row["is_reference"] and row["scene"] == 0] == [frame]


def test_a_scene_without_a_usable_frame_is_finished_and_said(tmp_path):
    computed, layout = finish(job(Phase("nothing usable"), tmp_path))
    assert computed == ALL
    scene = rows(layout, "scenes")[0]
    assert (scene["verdict"], scene["reason"], scene["frames_ok"]) == (
        "unusable",
        f"none of {LENGTHS[0]} frames can be used: no frame shows cells",
        0,
    )
    assert all(row["scene"] == 1 for row in rows(layout, "cells"))


# ---- one result, whatever happens on the way -------------------------------------------------------------------------


def _stop_after(executor: SynchronousExecutor, n: int) -> SynchronousExecutor:
    wait, count = executor.wait, iter(range(n))

    def stopping(timeout_s=None):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return wait(timeout_s)

    executor.wait = stopping  # type: ignore[method-assign]
    return executor


class Dimmed(Phase):
    """The same movie under a weaker lamp: what is said of its frames is equal, their pixels are not."""

    @property
    def metadata(self):
        return replace(super().metadata, identity=f"dimmed {self.scenario}")

    def read(self, scene: int, frame: int, channel: int) -> np.ndarray:
        return super().read(scene, frame, channel) // 2


def test_nothing_is_kept_of_another_movie_that_was_at_the_same_place(tmp_path):
    finish(job(Phase(), tmp_path / "out"))
    shutil.rmtree(tmp_path / "out")
    _, again = finish(job(Dimmed(), tmp_path / "out"))
    _, elsewhere = finish(job(Dimmed(), tmp_path / "elsewhere"))
    assert differences(again, elsewhere) == []


@pytest.mark.parametrize("block", [1, 2, 9])
@pytest.mark.parametrize("growing", [False, True])
def test_one_hash_whatever_block_size_order_and_restarts(batch, tmp_path, block, growing):
    order = everything()
    random.Random(block).shuffle(order)
    movie = Phase(arrivals=tuple(order), steps=(2, 1)) if growing else Phase()
    execution = {"execution": {"block_frames": block}}
    for stop_after in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            finish(job(replace(movie), tmp_path, **execution), _stop_after(SynchronousExecutor(), stop_after))
    computed, layout = finish(job(replace(movie), tmp_path, **execution), SynchronousExecutor(capacity=2))
    assert sum(computed.values()) < sum(ALL.values())  # what was committed is not done again
    assert differences(batch, layout) == []
    assert read_contents(batch).hash == read_contents(layout).hash


@pytest.mark.parametrize(
    ("values", "redone"),
    [
        ({"registration": {"search_radius_px": 100.0}}, {}),
        ({"sharpness": {"method": "laplacian"}}, {}),
        ({"blur": {"rule": "paper"}}, {}),
        ({"aggregates": {"min_area_um2": 3.0}}, {}),
        ({"ledger": {"gone_fraction": 0.01}}, {}),
        ({"normalisation": {"aggregates_high_percentile": 99.0}}, {}),
        ({"tracking": {"min_duration_min": 1.0}}, {"track_features": 2}),
    ],
)
def test_settings_of_what_is_left_out_are_read_by_nothing(batch, tmp_path, values, redone):
    finish(job(Phase(), tmp_path))
    changed = job(Phase(), tmp_path, **values)
    assert {name: n for name, n in survey_job(changed).stale.items() if n} == redone
    computed, layout = finish(changed)
    assert computed == redone
    assert redone or differences(batch, layout) == []


def test_results_of_a_channel_that_is_no_longer_taken_are_removed(tmp_path):
    """The same file, first taken for both channels, then for cells alone."""
    both = job(Movie(), tmp_path / "changed")
    finish(both)
    of_cells = replace(both.known, roles={ChannelRole.CELLS: 1})
    changed = replace(both, acquisition=of_cells)
    computed, layout = finish(changed)
    assert computed == ALL
    _, fresh = finish(replace(changed, layout=Layout.analysis(tmp_path / "fresh")))
    assert differences(fresh, layout) == []
    for name in ("aggregates", "eaten", "fates"):
        assert read_table(layout.tables, name).num_rows == 0
    finish(both)  # and back again
    _, whole = finish(replace(both, layout=Layout.analysis(tmp_path / "whole")))
    assert differences(whole, layout) == []


def test_every_step_that_is_committed_is_expected(batch):
    names = {step.name for step in CELL_STEPS if step.scope is not Scope.FOLD}
    assert {path.name for path in batch.commits.iterdir() if path.is_dir()} == names
