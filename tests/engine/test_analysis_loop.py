"""The analysis by the one loop: one result whatever happens on the way, and never more work than needed."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phagostat.cluster.local import local_executor
from phagostat.engine import work
from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, loop_of, run_job, survey_job
from phagostat.engine.steps import ANALYSIS_STEPS, Scope
from phagostat.engine.work import Job
from phagostat.settings import profile_settings
from phagostat.sources.channel_roles import resolve
from phagostat.store import arrays
from phagostat.store.integrity import differences, read_contents
from phagostat.store.layout import Layout
from phagostat.store.tables import read_table

from .scenes import LENGTHS, PATH, SIDE_PX, Movie, everything

N_FRAMES = sum(LENGTHS)
N_MEASURED = N_FRAMES - 3  # a blurred one, a black one and a missing one are not
ALL = {"reference": 2, "threshold": 1, "tracks": 2, "track_features": 2, "eaten": 2, "fates": 2} | dict.fromkeys(
    ("images", "measures", "aggregates", "probability", "territories", "overlaps", "cells"), N_FRAMES
)


def job(movie: Movie, root: Path, **values) -> Job:
    chosen = profile_settings(values=values)
    return analysis_job(movie, resolve(movie.metadata), chosen, root)


def analyse(movie: Movie, root: Path, executor=None, **values):
    """Run the loop to its end without waiting between looks at a growing source."""
    made = job(movie, root, **values)
    report = loop_of(made).run(executor or SynchronousExecutor(), poll_s=0.0)
    assert report.sealed
    return report, made.layout


def files(layout: Layout) -> dict[str, int]:
    """Modification time of each chunk."""
    chunks = (path for path in layout.images.glob("**/c/**/*") if path.is_file())
    return {str(path.relative_to(layout.images)): path.stat().st_mtime_ns for path in chunks}


def commit_files(layout: Layout) -> dict[str, int]:
    return {str(p.relative_to(layout.commits)): p.stat().st_mtime_ns for p in layout.commits.glob("*/*/*.json")}


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Layout:
    """The troubled movie, analysed in one go."""
    report, layout = analyse(Movie(), tmp_path_factory.mktemp("batch"))
    assert report.computed == ALL
    return layout


def frames_of(layout: Layout) -> list[dict]:
    return read_table(layout.tables, "frames").to_pylist()


def test_every_frame_is_in_the_tables_with_its_verdict(batch):
    verdicts = {(row["scene"], row["frame"]): (row["verdict"], row["cells_verdict"]) for row in frames_of(batch)}
    assert len(verdicts) == N_FRAMES
    assert verdicts[0, 4][0] == "black"
    assert verdicts[0, 5] == ("ok", "missing")
    assert verdicts[1, 2] == ("missing", "missing")
    sharp = [place for place in verdicts if place not in {(0, 2), (0, 4), (1, 2)}]
    assert {verdicts[place][0] for place in sharp} == {"ok"}
    for row in frames_of(batch):
        has_shift = row["verdict"] == "ok"
        assert np.isfinite(row["shift_y_px"]) == has_shift
        assert (row["valid_top_px"] is not None) == has_shift
        if has_shift:  # what stands at p in the reference stands at p + shift here
            for first, stop, shift in (("top", "bottom", row["shift_y_px"]), ("left", "right", row["shift_x_px"])):
                seen = [p for p in range(SIDE_PX) if 0 <= p + shift <= SIDE_PX - 1]
                assert (row[f"valid_{first}_px"], row[f"valid_{stop}_px"]) == (seen[0], seen[-1] + 1)
        assert np.isfinite(row["shift_x_px"]) == has_shift
        assert has_shift or row["reason"]


def _order(seed: int) -> tuple[tuple[int, int], ...]:
    order = everything()
    random.Random(seed).shuffle(order)
    return tuple(order)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    block=st.integers(1, 9),
    capacity=st.integers(1, 4),
    seed=st.integers(0, 2**16),
    growing=st.booleans(),
    paces=st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any),
    restarts=st.lists(st.integers(0, 5), max_size=3),
)
def test_one_hash_whatever_order_pace_block_size_and_restarts(batch, block, capacity, seed, growing, paces, restarts):
    generator = random.Random(seed)
    movie = Movie(arrivals=_order(seed), steps=tuple(paces)) if growing else Movie()
    execution = {"execution": {"block_frames": block, "in_flight_per_worker": 1 + seed % 3}}
    with tempfile.TemporaryDirectory() as folder:
        for stop_after in restarts:
            executor = SynchronousExecutor(capacity=capacity, shuffle=generator)
            _die_after(executor, stop_after)
            try:
                analyse(replace(movie, shown=0, polls=0), Path(folder), executor, **execution)
            except KeyboardInterrupt:
                pass
        executor = SynchronousExecutor(capacity=capacity, shuffle=generator)
        _, layout = analyse(replace(movie, shown=0, polls=0), Path(folder), executor, **execution)
        assert differences(batch, layout) == []
        assert read_contents(batch).hash == read_contents(layout).hash


def _die_after(executor: SynchronousExecutor, n: int) -> None:
    wait, count = executor.wait, iter(range(n))

    def dying(timeout_s=None):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return wait(timeout_s)

    executor.wait = dying  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("growing", [False, True])
def test_worker_processes_give_the_same_hash(batch, tmp_path, growing):
    movie = Movie(arrivals=_order(3), steps=(3, 1)) if growing else Movie()
    with local_executor(2) as executor:
        _, layout = analyse(movie, tmp_path, executor, execution={"block_frames": 2})
    assert differences(batch, layout) == []
    assert read_contents(batch).hash == read_contents(layout).hash


def test_what_is_committed_is_not_done_again_after_a_restart(batch, tmp_path):
    executor = SynchronousExecutor()
    _die_after(executor, 4)
    with pytest.raises(KeyboardInterrupt):
        analyse(Movie(), tmp_path, executor, execution={"block_frames": 2})
    layout = Layout.analysis(tmp_path)
    done, chunks = commit_files(layout), files(layout)
    assert done
    report, _ = analyse(Movie(), tmp_path, execution={"block_frames": 3})
    assert sum(report.computed.values()) < sum(ALL.values())
    assert done.items() <= commit_files(layout).items()
    assert chunks.items() <= files(layout).items()
    assert differences(batch, layout) == []


# ---- a changed setting -----------------------------------------------------------------------------------------------


def _surveyed(movie: Movie, root: Path, **values) -> dict[str, tuple[int, int]]:
    """For each step the least and the largest number of results that a run is said to compute."""
    survey = survey_job(job(movie, root, **values))
    least = {name: survey.stale[name] + survey.missing[name] for name in survey.held}
    return {name: (count, count + survey.uncertain[name]) for name, count in least.items()}


CHANGES = {
    "larger aggregates only": (
        {"aggregates": {"min_area_um2": 3.0}},
        # of frames without aggregates nothing has changed, and so nothing that reads them; territories read the
        # setting themselves
        {"aggregates": N_FRAMES, "territories": N_FRAMES, "overlaps": N_MEASURED, "eaten": 2, "fates": 2},
    ),
    "another grey level": ({"normalisation": {"aggregates_high_percentile": 99.0}}, {"images": N_FRAMES}),
    "another search radius": (
        {"registration": {"search_radius_px": 380.0}},
        {"measures": N_FRAMES},  # the same shifts: the aggregates keep
    ),
    "how the work is done": ({"execution": {"block_frames": 1}}, {}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_redoes_what_depends_on_it_and_nothing_else(batch, tmp_path, name):
    values, expected = CHANGES[name]
    _, layout = analyse(Movie(), tmp_path)
    chunks, kept = files(layout), commit_files(layout)
    foreseen = _surveyed(Movie(), tmp_path, **values)
    report, _ = analyse(Movie(), tmp_path, **values)
    assert report.computed == expected
    assert report.retracted == expected
    for step in ALL:
        least, most = foreseen[step]
        assert least <= expected.get(step, 0) <= most, step
    for step in list(expected)[:1]:  # what the setting is of; whether the others follow shows when that is there
        assert foreseen[step][0] == expected[step]
    redone = {
        "aggregates": lambda chunk: "/labels/aggregates/" in chunk,
        "images": lambda chunk: chunk[1:].startswith("/0/c/"),
    }
    for chunk, written in files(layout).items():
        if not any(step in expected and wrote(chunk) for step, wrote in redone.items()):
            assert chunks[chunk] == written, chunk
    untouched = {n: t for n, t in kept.items() if n.partition("/")[0] not in expected}
    assert untouched.items() <= commit_files(layout).items()
    assert (differences(batch, layout) == []) == (name in {"how the work is done", "another search radius"})

    analyse(Movie(), tmp_path)  # and back
    assert differences(batch, layout) == []


def test_another_reference_frame_redoes_what_reads_it(batch, tmp_path):
    _, layout = analyse(Movie(), tmp_path)
    before = {row["scene"]: row["reference_frame"] for row in read_table(layout.tables, "scenes").to_pylist()}
    foreseen = _surveyed(Movie(), tmp_path, reference={"candidates": 1, "patience_frames": 1})
    report, _ = analyse(Movie(), tmp_path, reference={"candidates": 1, "patience_frames": 1})
    after = {row["scene"]: row["reference_frame"] for row in read_table(layout.tables, "scenes").to_pylist()}
    assert after == {0: 0, 1: 0}
    assert report.computed == ALL
    assert foreseen["reference"] == (2, 2)
    assert all(least <= report.computed.get(step, 0) <= most for step, (least, most) in foreseen.items())
    fresh, other = analyse(Movie(), tmp_path / "fresh", reference={"candidates": 1, "patience_frames": 1})
    assert fresh.computed == ALL
    assert differences(layout, other) == []
    assert before != after
    analyse(Movie(), tmp_path)
    assert differences(batch, layout) == []


def test_a_sealed_output_is_left_alone_and_a_lost_table_written_anew(batch, tmp_path):
    _, layout = analyse(Movie(), tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and p != layout.journal}
    report, _ = analyse(Movie(), tmp_path)
    assert report.computed == {}
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and p != layout.journal}
    (layout.tables / "frames.parquet").unlink()
    (layout.tables / "scenes.parquet").write_bytes(b"PAR1")
    report, _ = analyse(Movie(), tmp_path)
    assert report.computed == {}
    assert differences(batch, layout) == []


def test_a_damaged_commit_is_said_and_its_range_done_again(batch, tmp_path):
    _, layout = analyse(Movie(), tmp_path, execution={"block_frames": 4})
    victim = layout.commits / "measures/scene-000/0000000-0000004.json"
    victim.write_text(victim.read_text()[:100])
    said = []
    made = job(Movie(), tmp_path, execution={"block_frames": 2})
    report = loop_of(made).run(SynchronousExecutor(), poll_s=0.0, progress=lambda p: said.append(p.message))
    assert report.sealed
    assert report.computed == {"measures": 4}
    assert any("measures/scene-000/0000000-0000004.json is damaged" in message for message in said)
    assert differences(batch, layout) == []
    assert loop_of(made).log.damaged == []


@pytest.mark.parametrize(
    "pattern", ["images.zarr/0/0/c/1/0/0/0", "images.zarr/1/reference/c/0/0/0", "rows/reference/scene-000/*"]
)
def test_what_was_damaged_before_the_seal_is_found_and_done_again(batch, tmp_path, pattern):
    _, layout = analyse(Movie(), tmp_path)
    layout.seal.unlink()
    (victim,) = tmp_path.glob(pattern)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 16
    victim.write_bytes(data)
    report, _ = analyse(Movie(), tmp_path)
    assert len(report.damaged) == 1
    assert report.damaged[0] in str(victim)
    assert differences(batch, layout) == []


# ---- frames that fail ------------------------------------------------------------------------------------------------


def test_a_frame_that_fails_is_recorded_and_the_others_go_on(batch, tmp_path, monkeypatch):
    from phagostat.engine.compute import aggregates

    real, calls = aggregates.aggregate_features, []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("made to fail")
        return real(*arguments, **options)

    monkeypatch.setattr(aggregates, "aggregate_features", failing)
    report, layout = analyse(Movie(), tmp_path)
    assert report.computed == ALL
    rows = frames_of(layout)
    failed = [row for row in rows if row["aggregates_verdict"] == "failed"]
    assert [(row["scene"], row["frame"]) for row in failed] == [(0, 1)]
    assert failed[0]["reason"] == "ZeroDivisionError: made to fail"
    assert failed[0]["aggregate_count"] is None
    others = [row for row in rows if row is not failed[0]]
    wanted = [row for row in frames_of(batch) if (row["scene"], row["frame"]) != (0, 1)]
    for row in (*others, *wanted):
        row.pop("matched_ratio")  # relative to the last accepted frames, of which the failed one shows no aggregates
    assert repr(others) == repr(wanted)  # NaN equals NaN


SHARP_LIMIT_PX = 0.05


@pytest.mark.parametrize(
    ("scenario", "verdict"),
    [
        ("first frame blurred", None),
        ("first frame black", "black"),
        ("first frame constant", "constant"),
        ("first frame missing", "missing"),
        ("first frame without cells", "ok"),
    ],
)
def test_a_bad_first_frame_does_not_spoil_the_scene(tmp_path, scenario, verdict):
    _, layout = analyse(Movie(scenario), tmp_path)
    scene = read_table(layout.tables, "scenes").to_pylist()[0]
    chosen = scene["reference_frame"]
    assert chosen is not None
    assert chosen != 0
    rows = [row for row in frames_of(layout) if row["scene"] == 0]
    if verdict is not None:
        assert rows[0]["verdict"] == verdict
    for row in rows[1:]:
        assert row["verdict"] == "ok", row
        truth = np.subtract(PATH[row["frame"]], PATH[chosen])
        error = np.abs([row["shift_y_px"] - truth[0], row["shift_x_px"] - truth[1]])
        assert error.max() < SHARP_LIMIT_PX, (row["frame"], error)


def test_a_reference_is_looked_for_in_the_next_window(tmp_path):
    _, layout = analyse(Movie("first window unusable"), tmp_path)
    scene = read_table(layout.tables, "scenes").to_pylist()[0]
    assert scene["reference_frame"] in {5, 6}
    growing = Movie("first window unusable", arrivals=tuple(everything()), steps=(1,))
    _, grown = analyse(growing, tmp_path / "grown")
    assert differences(layout, grown) == []


def test_a_scene_without_a_usable_frame_is_said_and_the_other_one_measured(tmp_path):
    _, layout = analyse(Movie("nothing usable"), tmp_path)
    scenes = read_table(layout.tables, "scenes").to_pylist()
    assert scenes[0]["verdict"] == "unusable"
    assert scenes[0]["reference_frame"] is None
    assert scenes[0]["frames_ok"] == 0
    assert scenes[1]["verdict"] == "ok"
    assert scenes[1]["frames_ok"] == LENGTHS[1]
    verdicts = {row["verdict"] for row in frames_of(layout) if row["scene"] == 0}
    assert verdicts == {"black"}


def test_blur_is_judged_from_committed_figures_and_nothing_else_is_done_for_it(batch, tmp_path):
    rows = {(row["scene"], row["frame"]): row for row in frames_of(batch)}
    assert rows[0, 2]["focus"] == "blurred"
    assert not rows[0, 2]["usable"]
    sharp = [row for row in rows.values() if row["verdict"] == "ok" and (row["scene"], row["frame"]) != (0, 2)]
    assert all(row["focus"] == "sharp" and row["usable"] for row in sharp)
    assert rows[0, 4]["focus"] == "unknown"
    assert not rows[0, 4]["usable"]
    assert all(row["matched_ratio"] > 0.9 for row in sharp if row["frame"] > 0)
    # a limit that no frame can miss: verdicts change, no result of a frame is computed again
    _, layout = analyse(Movie(), tmp_path)
    assert differences(batch, layout) == []
    report, _ = analyse(Movie(), tmp_path, blur={"certain_ratio": 0.01, "suspect_ratio": 0.01})
    assert report.computed == {}
    again = {(row["scene"], row["frame"]): row for row in frames_of(layout)}
    assert again[0, 2]["focus"] == "sharp"


def test_a_doubtful_frame_is_judged_by_the_aggregates_that_it_lost(tmp_path):
    movie, doubtful = Movie("slightly blurred"), {"certain_ratio": 0.1, "suspect_ratio": 0.9, "ramp_window_min": 0.0}

    def judged(**groups):
        _, layout = analyse(movie, tmp_path, blur=doubtful, **groups)
        return {(row["scene"], row["frame"]): row for row in frames_of(layout)}[0, 2]

    kept = judged()  # those large enough to be counted all show
    assert kept["focus"] == "sharp"
    assert kept["matched_ratio"] == 1.0
    lost = judged(aggregates={"min_area_um2": 0.0})  # of the smallest many do not
    assert lost["focus"] == "blurred"
    assert lost["matched_ratio"] < 0.9
    assert "of their aggregates show" in lost["focus_reason"]


@pytest.mark.parametrize("block", [1, 8])
def test_the_plain_laplacian_can_be_judged_by_the_corrected_rule(tmp_path, block):
    """The reference frame, which is not the first one, is what the first frames are compared with."""
    values = {"sharpness": {"method": "laplacian"}, "execution": {"block_frames": block}}
    _, layout = analyse(Movie(), tmp_path, **values)
    rows = {(row["scene"], row["frame"]): row for row in frames_of(layout)}
    assert [row["frame"] for row in rows.values() if row["is_reference"]] == [1, 1]
    assert rows[0, 1]["sharpness_ratio"] == pytest.approx(1.0, abs=0.2)
    assert rows[0, 2]["focus"] == "blurred"
    assert all(rows[place]["usable"] for place in [(0, 1), (0, 3), (0, 6), (1, 1), (1, 3)])


def test_the_published_blur_rule_asks_for_no_aggregates(tmp_path):
    made = job(Movie(), tmp_path, blur={"rule": "paper"})
    loop = loop_of(made)
    (verdicts,) = (step for step in loop.steps if step.name == "verdicts")
    assert "territories" not in verdicts.needs
    assert loop.run(SynchronousExecutor()).sealed
    assert {row["focus"] for row in frames_of(made.layout)} >= {"sharp", "blurred"}


def test_criteria_of_quality_are_stated_and_changing_them_writes_tables_alone(tmp_path):
    _, layout = analyse(Movie(), tmp_path)
    scenes = read_table(layout.tables, "scenes").to_pylist()
    assert [row["accepted"] for row in scenes] == [False, True]
    assert scenes[0]["frames_blurred"] == 1
    assert scenes[0]["blurred_fraction"] == pytest.approx(1 / LENGTHS[0])
    assert "blurred" in scenes[0]["quality_reason"]
    assert scenes[1]["frames_missing"] == 1
    report, _ = analyse(Movie(), tmp_path, quality={"max_blurred_percent": 50.0, "max_shift_px": 3.0})
    assert report.computed == {}
    again = read_table(layout.tables, "scenes").to_pylist()
    assert not any(row["accepted"] for row in again)
    assert "shift" in again[1]["quality_reason"]


# ---- what belongs together -------------------------------------------------------------------------------------------


def test_smaller_copies_of_label_images_hold_labels_not_their_means(tmp_path, monkeypatch):
    for module in (arrays, work):
        monkeypatch.setattr(module, "WIDE_PX", 100)
    _, layout = analyse(Movie(), tmp_path)
    for name in ("cells", "aggregates"):
        whole = zarr.open_array(layout.images / f"0/labels/{name}/0", mode="r")[:]
        half = zarr.open_array(layout.images / f"0/labels/{name}/1", mode="r")[:]
        np.testing.assert_array_equal(half, whole[..., ::2, ::2])
    assert half.max() > 1


def test_a_run_holds_its_lease_and_checks_its_manifest(batch, tmp_path):
    report = run_job(job(Movie(), tmp_path), SynchronousExecutor())
    assert report.computed == ALL
    layout = Layout.analysis(tmp_path)
    assert not layout.lease.exists()
    assert differences(batch, layout) == []
    assert {step.name for step in ANALYSIS_STEPS if step.scope is not Scope.FOLD} == set(ALL)
