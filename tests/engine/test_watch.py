"""Watching a file that grows comes to what a run on the finished file gives, whatever happens on the way."""

from __future__ import annotations

import random
import struct
import threading
import time
from pathlib import Path

import pytest

from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, run_job
from phagostat.engine.watch import Watched, watch_czi
from phagostat.model.errors import SourceError
from phagostat.settings import profile_settings
from phagostat.simulate import SceneOverrides, simulate
from phagostat.simulate import scenarios as say
from phagostat.sources import open_source
from phagostat.sources.czi_growing import GrowingCziSource, Promise
from phagostat.store.integrity import read_contents
from phagostat.store.layout import Layout
from phagostat.terminal import acquisition_of
from tests.sources.growing import Grower

FRAMES, SCENES = 5, 2
PROMISE = Promise(FRAMES, SCENES)
TOLD = {
    "pixel_size_um": 0.103,
    "interval_s": 120.0,
    "aggregates": 0,
    "cells": 1,
}


@pytest.fixture(scope="module")
def movie(tmp_path_factory) -> bytes:
    """A finished CZI; frame 2 of its first scene is blurred, a plane is missing in the second."""
    path = tmp_path_factory.mktemp("movie") / "movie.czi"
    many = SceneOverrides(parameters={"clump_density_per_mm2": 30_000.0})
    base = say.calm() | say.no_uptake() | many
    scenario = {0: base | say.blurred_burst(2, 1, sigma_px=6.0), 1: base | say.missing_plane(3, 1)}
    simulate(path, preset="easy", seed=4, scenes=SCENES, frames=FRAMES, shape_yx=(256, 256), scenario=scenario)
    return path.read_bytes()


@pytest.fixture(scope="module")
def batch(movie, tmp_path_factory) -> str:
    """Hash of what a run gives."""
    folder = tmp_path_factory.mktemp("batch")
    path = folder / "movie.czi"
    path.write_bytes(movie)
    settings = profile_settings()
    source = open_source(path)
    run_job(analysis_job(source, acquisition_of(source, settings), settings, folder / "out"), SynchronousExecutor())
    return read_contents(Layout.analysis(folder / "out")).hash


def watch(path: Path, root: Path, promise: Promise = PROMISE, **options) -> Watched:
    told = TOLD | options.pop("told", {})
    return watch_czi(
        path,
        promise,
        profile_settings(values={"acquisition": told}),
        root,
        SynchronousExecutor(),
        acquire=acquisition_of,
        **{"settle_s": 0.3, "poll_s": 0.01, "idle_s": 60.0} | options,
    )


class Writing(threading.Thread):
    """Writes a file in pieces, with pauses, as a microscope's program does; then closes it, if it is to."""

    def __init__(
        self, path: Path, whole: bytes, how: str, *, seed: int, closes: bool = True, part: float = 1.0
    ) -> None:
        super().__init__()
        self.grower, self.closes = Grower(path, whole, how), closes
        chance = random.Random(seed)
        stop = int(part * len(self.grower.body))
        self.cuts = [*sorted(chance.sample(range(1, stop), 25)), stop]
        self.pauses = [chance.choice((0.0, 0.01, 0.05, 0.2)) for _ in self.cuts]

    def run(self) -> None:
        at = 0
        for cut, pause in zip(self.cuts, self.pauses, strict=True):
            self.grower.write(at, cut)
            at = cut
            time.sleep(pause)
        if self.closes:
            self.grower.close()


def digest(root: Path) -> str:
    return read_contents(Layout.analysis(root)).hash


@pytest.mark.parametrize(("how", "seed"), [("appended", 1), ("prefix", 2)])
def test_watching_comes_to_what_a_run_gives(movie, batch, tmp_path, how, seed):
    path = tmp_path / "movie.czi"
    writing = Writing(path, movie, how, seed=seed)
    writing.start()
    watched = watch(path, tmp_path / "out")
    writing.join()
    assert watched.ended == "closed"
    assert watched.report.sealed
    assert watched.corrections == ()
    assert digest(tmp_path / "out") == batch


def test_a_watcher_that_was_stopped_goes_on(movie, batch, tmp_path):
    path = tmp_path / "movie.czi"
    writing = Writing(path, movie, "appended", seed=3)
    writing.start()

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.computed >= 12:
            raise StopError

    with pytest.raises(StopError):
        watch(path, tmp_path / "out", progress=stop)
    watched = watch(path, tmp_path / "out")
    writing.join()
    assert watched.ended == "closed"
    assert digest(tmp_path / "out") == batch


def test_what_the_closed_file_says_otherwise_is_named_and_computed_anew(movie, batch, tmp_path):
    path = tmp_path / "movie.czi"
    writing = Writing(path, movie, "appended", seed=5)
    writing.start()
    told = {"pixel_size_um": 0.11, "interval_s": 60.0}
    watched = watch(path, tmp_path / "out", told=told)
    writing.join()
    assert [
        word in " ".join(watched.corrections) for word in ("pixel size 0.103 um, told 0.11", "scene 0: times up to")
    ]
    assert len(watched.corrections) == 1 + SCENES
    assert digest(tmp_path / "out") == batch


@pytest.mark.parametrize("n_frames", [FRAMES - 2, FRAMES + 3])
def test_a_length_that_was_told_wrong_is_put_right(movie, batch, tmp_path, n_frames):
    path = tmp_path / "movie.czi"
    writing = Writing(path, movie, "appended", seed=6, closes=False)
    writing.start()
    idle = 1.5 if n_frames > FRAMES else 60.0
    first = watch(path, tmp_path / "out", Promise(n_frames, SCENES), idle_s=idle)
    assert first.ended == ("complete" if n_frames < FRAMES else "idle")
    writing.join()
    writing.grower.close()
    watched = watch(path, tmp_path / "out", Promise(n_frames, SCENES))
    assert watched.ended == "closed"
    if n_frames > FRAMES:  # the reference is chosen among the first 5: a shorter length may have chosen another
        assert "images" not in watched.report.computed
    assert digest(tmp_path / "out") == batch


def test_an_end_without_a_closed_file_is_sealed_as_it_was_told(movie, tmp_path):
    path = tmp_path / "movie.czi"
    writing = Writing(path, movie, "appended", seed=7, closes=False, part=0.7)
    writing.start()
    watched = watch(path, tmp_path / "out", idle_s=1.5)
    writing.join()
    assert watched.ended == "idle"
    assert watched.report.sealed
    again = watch(path, tmp_path / "out", idle_s=0.5)
    assert again.report.computed == {}


@pytest.mark.parametrize("looked_again", [True, False])
def test_a_plane_that_was_read_too_early_is_computed_again(tmp_path, monkeypatch, looked_again):
    if not looked_again:  # so that the test is known to see it
        monkeypatch.setattr(GrowingCziSource, "changed", lambda _: ())
    path = tmp_path / "movie.czi"
    many = SceneOverrides(parameters={"clump_density_per_mm2": 30_000.0})
    calm = {0: say.calm() | say.no_uptake() | many}
    simulate(path, preset="easy", seed=8, scenes=1, frames=FRAMES, shape_yx=(256, 256), scenario=calm)
    movie = path.read_bytes()
    grower = Grower(path, movie, "appended")
    last = movie.rindex(b"ZISRAWSUBBLOCK")
    grower.write(0, last + 32 + struct.unpack_from("<q", movie, last + 16)[0])
    with path.open("r+b") as file:
        file.seek(last + 32 + 256 + 60_000)
        file.write(bytes(4000))

    def finish(progress):
        # the reference, the threshold, and six steps for each frame: the last plane has been taken
        if progress.computed >= 2 + 6 * FRAMES and not finished:
            grower.write(0, len(grower.body))
            grower.close()
            finished.append(time.monotonic() - began)

    finished: list[float] = []
    began = time.monotonic()
    watched = watch(path, tmp_path / "out", Promise(FRAMES + 1, 1), progress=finish, settle_s=0.1)
    assert finished[0] < 60, "not only when it was idle"
    assert watched.ended == "closed"
    source, settings = open_source(path), profile_settings()
    job = analysis_job(source, acquisition_of(source, settings), settings, tmp_path / "run")
    run_job(job, SynchronousExecutor())
    assert (digest(tmp_path / "out") == digest(tmp_path / "run")) is looked_again


def test_a_recording_that_does_not_begin_is_said(tmp_path):
    with pytest.raises(SourceError, match="has not begun"):
        watch(tmp_path / "movie.czi", tmp_path / "out", idle_s=0.1)


def test_another_file_does_not_go_into_the_output(movie, tmp_path):
    path = tmp_path / "movie.czi"
    path.write_bytes(movie)
    watch(path, tmp_path / "out")
    simulate(tmp_path / "other.czi", preset="easy", seed=9, scenes=1, frames=3, shape_yx=(256, 256))
    with pytest.raises(Exception, match="another source"):
        watch(tmp_path / "other.czi", tmp_path / "out", Promise(3, 1))
