from __future__ import annotations

import json
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phagostat.engine.executor import Outcome, SynchronousExecutor, WorkerLostError
from phagostat.engine.loop import Loop
from phagostat.engine.outputs import conversion_job, run_job
from phagostat.engine.preparation import prepare_conversion
from phagostat.engine.steps import CONVERSION_STEPS
from phagostat.engine.work import Job
from phagostat.model.errors import SourceError, StoreError
from phagostat.settings import profile_settings
from phagostat.sources import open_source
from phagostat.sources.ome_zarr import OmeZarrSource
from phagostat.store.integrity import differences, read_contents
from phagostat.store.layout import Layout
from tests.sources.czi_bytes import Block, CziBytes

from .film import Film


def convert(film: Film, root: Path, *, block: int = 8, executor: SynchronousExecutor | None = None):
    layout = Layout.conversion(root)
    job = Job(film, layout, profile_settings(values={"execution": {"block_frames": block}}), film.metadata.scenes)
    loop = Loop(job, CONVERSION_STEPS, prepare=prepare_conversion)
    return loop.run(executor or SynchronousExecutor(), poll_s=0.0), layout


def test_every_plane_arrives_as_it_is(tmp_path):
    film = Film()
    report, layout = convert(film, tmp_path / "a.zarr")
    assert report.sealed
    assert report.computed == {"planes": 8}
    for scene, n in enumerate(film.frames):
        array = zarr.open_array(layout.images / f"{scene}/0", mode="r")
        assert array.shape == (n, 2, *film.shape_yx)
        assert array.chunks == (1, 1, *film.shape_yx)
        for t in range(n):
            for c in (0, 1):
                np.testing.assert_array_equal(array[t, c], film.read(scene, t, c))


class Gappy(Film):
    """A film of which the time of a missing frame is not known."""

    @property
    def metadata(self):
        both = super().metadata
        times = (0.0, float("nan"), 240.0, 360.0, 480.0)
        return replace(both, scenes=(replace(both.scenes[0], times_s=times), *both.scenes[1:]))


def test_a_time_that_is_not_known_is_said_in_json_and_changes_nothing_the_second_time(tmp_path):
    job = conversion_job(Gappy(missing=frozenset({(0, 1, 0), (0, 1, 1)})), profile_settings(), tmp_path / "a.zarr")
    assert run_job(job, SynchronousExecutor()).sealed

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    for file in (*job.layout.books.glob("*.json"), *job.layout.images.glob("**/zarr.json")):
        json.loads(file.read_text("utf-8"), parse_constant=refuse)
    assert json.loads(job.layout.manifest.read_text())["acquisition"]["scenes"][0]["times_s"][1] is None
    before = job.layout.manifest.stat().st_mtime_ns
    assert run_job(job, SynchronousExecutor()).computed == {}
    assert job.layout.manifest.stat().st_mtime_ns == before


def test_a_converted_movie_says_where_its_times_are_from(tmp_path):
    film = Film()
    convert(film, tmp_path / "a.zarr")
    metadata = OmeZarrSource(tmp_path / "a.zarr").metadata
    assert metadata.times_origin is film.metadata.times_origin
    assert [scene.times_s for scene in metadata.scenes] == [scene.times_s for scene in film.metadata.scenes]


def test_a_second_run_does_nothing(tmp_path):
    convert(Film(), tmp_path / "a.zarr")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()}
    report, layout = convert(Film(), tmp_path / "a.zarr")
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()}
    assert report.sealed
    assert report.computed == {}
    del before[layout.journal], after[layout.journal]
    assert after == before


def test_missing_and_broken_planes_are_recorded_and_the_rest_goes_on(tmp_path):
    film = Film(missing=frozenset({(0, 1, 0), (0, 1, 1), (1, 2, 1)}), broken=frozenset({(0, 3, 0)}))
    report, layout = convert(film, tmp_path / "a.zarr")
    assert report.sealed
    loop = Loop(Job(film, layout, profile_settings(), film.metadata.scenes), CONVERSION_STEPS)
    verdicts = {s: [e.verdict for e in loop.log.entries("planes", s).values()] for s in (0, 1)}
    assert verdicts == {0: ["ok", "missing", "ok", "partial", "ok"], 1: ["ok", "ok", "partial"]}
    problems = loop.log.entry("planes", 0, 3).record["problems"]
    assert "broken" in problems[0]["reason"]
    assert not (layout.images / "0/0/c/1/0/0/0").exists()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    block=st.integers(1, 9),
    capacity=st.integers(1, 4),
    seed=st.integers(0, 2**16),
    growing=st.booleans(),
    paces=st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any),
    restarts=st.lists(st.integers(1, 6), max_size=3),
)
def test_one_hash_whatever_order_pace_block_size_and_restarts(block, capacity, seed, growing, paces, restarts):
    film = Film(missing=frozenset({(0, 2, 1)}))
    with tempfile.TemporaryDirectory() as folder:
        _, batch = convert(film, Path(folder) / "batch.zarr")
        order = [(s, t) for s, n in enumerate(film.frames) for t in range(n)]
        generator = random.Random(seed)
        generator.shuffle(order)
        grown = film.with_(arrivals=tuple(order), steps=tuple(paces)) if growing else film
        other = Path(folder) / "other.zarr"
        for stop_after in restarts:
            executor = SynchronousExecutor(capacity=capacity, shuffle=generator)
            with pytest.MonkeyPatch.context() as patch:
                _die_after(patch, executor, stop_after)
                try:
                    convert(replace(grown, polls=0, shown=0), other, block=block, executor=executor)
                except KeyboardInterrupt:
                    pass
        executor = SynchronousExecutor(capacity=capacity, shuffle=generator)
        report, layout = convert(grown, other, block=block, executor=executor)
        assert report.sealed
        assert differences(batch, layout) == []
        assert read_contents(batch).hash == read_contents(layout).hash


def _die_after(patch, executor, n):
    wait, count = executor.wait, iter(range(n))

    def dying(timeout_s=None):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return wait(timeout_s)

    patch.setattr(executor, "wait", dying)


def test_a_flipped_bit_is_found_named_and_computed_again(tmp_path):
    film = Film()
    _, clean = convert(film, tmp_path / "clean.zarr")
    executor = SynchronousExecutor()
    seen = []
    wait = executor.wait

    def flipping(timeout_s=None):
        outcomes = wait(timeout_s)
        chunk = tmp_path / "a.zarr/1/0/c/2/1/0/0"
        if chunk.exists() and not seen:
            data = bytearray(chunk.read_bytes())
            data[len(data) // 2] ^= 4
            chunk.write_bytes(data)
            seen.append(True)
        return outcomes

    executor.wait = flipping
    report, layout = convert(film, tmp_path / "a.zarr", executor=executor)
    assert report.damaged == ["1/0/c/2/1/0/0"]
    assert report.computed == {"planes": 9}
    assert differences(clean, layout) == []


def _czi(path: Path) -> Path:
    return CziBytes([Block(np.full((8, 9), t, np.uint16), {"T": t, "C": 0}) for t in range(4)]).write(path / "m.czi")


def _folder(path: Path) -> Path:
    (path / "frames").mkdir()
    for t in range(4):
        cv2.imwrite(str(path / f"frames/t{t}.png"), np.full((8, 9), t, np.uint16))
    return path / "frames"


@pytest.mark.parametrize("make", [_czi, _folder])
def test_a_source_that_goes_away_ends_the_run_and_the_next_goes_on(tmp_path, make):
    place, away = make(tmp_path), tmp_path / "away"
    convert(open_source(place), tmp_path / "whole.zarr", block=1)
    executor = SynchronousExecutor()
    real = executor.wait

    def unplugged(timeout_s=None):
        done = real(timeout_s)
        if place.exists():
            place.rename(away)
        return done

    executor.wait = unplugged
    with pytest.raises(SourceError, match="the source is gone") as caught:
        convert(open_source(place), tmp_path / "a.zarr", block=1, executor=executor)
    assert str(place) in str(caught.value)
    away.rename(place)
    report, layout = convert(open_source(place), tmp_path / "a.zarr", block=1)
    assert report.computed == {"planes": 3}
    assert differences(Layout.conversion(tmp_path / "whole.zarr"), layout) == []


class Losing(SynchronousExecutor):
    """Loses the workers of the first few graphs that compare chunks with their digests."""

    def __init__(self, losses: int) -> None:
        super().__init__(capacity=2)
        self.losses = losses

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        checks = [ticket for ticket, graph in self._out.items() if graph.name.startswith("check-")]
        if checks and self.losses:
            self.losses -= 1
            del self._out[checks[0]]
            return [Outcome(checks[0], error=WorkerLostError("killed"))]
        return super().wait(timeout_s)


def test_a_worker_that_dies_while_it_checks_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("phagostat.engine.loop.CHECKED_TOGETHER", 3)
    report, layout = convert(Film(), tmp_path / "a.zarr", executor=Losing(2))
    assert report.sealed
    assert report.damaged == []
    _, undisturbed = convert(Film(), tmp_path / "b.zarr")
    assert differences(layout, undisturbed) == []


def test_workers_that_die_again_and_again_while_they_check_end_the_run(tmp_path):
    with pytest.raises(StoreError, match="workers died 3 times"):
        convert(Film(), tmp_path / "a.zarr", executor=Losing(9))


def test_a_receipt_stays_small(tmp_path):
    import pickle

    film = Film(frames=(8,), shape_yx=(256, 256))
    executor = SynchronousExecutor()
    sizes = []
    wait = executor.wait

    def weighing(timeout_s=None):
        outcomes = wait(timeout_s)
        sizes.extend(len(pickle.dumps(o.value)) for o in outcomes)
        return outcomes

    executor.wait = weighing
    convert(film, tmp_path / "a.zarr", executor=executor)
    assert max(sizes) < 64 * 1024
