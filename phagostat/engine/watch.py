"""An acquisition that is still being recorded into one output: the same loop, on a file that grows.

While it grows, the file does not say its pixel size, times or length: they are given, and what is computed then rests
on them. Once it is closed, the loop goes on with what the file itself says; what had been told otherwise is computed
anew, and nothing else is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phagostat.engine.executor import Executor
from phagostat.engine.outputs import analysis_job, read_log, run_job
from phagostat.engine.progress import Progress, Report
from phagostat.engine.work import Job
from phagostat.model.acquisition import Acquisition, TimesOrigin
from phagostat.model.errors import SourceError
from phagostat.settings import Settings
from phagostat.sources import open_source
from phagostat.sources.czi_growing import GrowingCziSource, Promise, closed_czi
from phagostat.sources.protocol import Source
from phagostat.store.lease import hold_lease

CHANGED_UM = 1e-4
"""Relative difference of pixel sizes that counts."""
CHANGED_S = 0.5
"""Difference of a frame's time that counts, s."""

Acquire = Callable[[Source, Settings], Acquisition]


@dataclass(frozen=True)
class Watched:
    """How watching ended.

    Parameters
    ----------
    job
        The last one: of the closed file, or of what was there when the recording ended otherwise.
    report
        What it did.
    ended
        ``"closed"``, ``"complete"`` (all promised planes are there) or ``"idle"``.
    corrections
        Where the closed file says something else than was told, in words.
    """

    job: Job
    report: Report
    ended: str
    corrections: tuple[str, ...] = ()


def watch_czi(
    path: Path,
    promise: Promise,
    settings: Settings,
    root: Path,
    executor: Executor,
    *,
    acquire: Acquire,
    progress: Callable[[Progress], None] = lambda _: None,
    settle_s: float = 2.0,
    idle_s: float | None = None,
    poll_s: float = 1.0,
) -> Watched:
    """Analyse a CZI while it is being written, until it is closed, complete or idle; then to its seal.

    Parameters
    ----------
    path
        The file; it may not be there yet.
    promise
        What it will hold.
    settings
        With pixel size, interval and channel roles.
    root
        Folder of the output; one that was begun earlier is gone on with.
    executor
        Who computes.
    acquire
        Resolves a source and settings to an acquisition.
    progress
        Is told how far it is.
    settle_s, idle_s, poll_s
        How long bytes must rest to be believed; how long without a new plane ends the recording (None: never); how
        long between two looks.

    Raises
    ------
    SourceError
        If the file is no CZI, cannot be followed, was replaced or became shorter.
    StoreError
        If the output cannot be written or belongs to something else.
    """
    corrections: tuple[str, ...] = ()
    if closed_czi(str(path)) is None:
        source = _begun(path, promise, settle_s=settle_s, idle_s=idle_s, poll_s=poll_s, progress=progress)
        job = analysis_job(source, acquire(source, settings), settings, root)
        report = run_job(job, executor, progress=progress, handover=lambda: source.ended == "closed", poll_s=poll_s)
        if source.ended != "closed":
            return Watched(job, report, source.ended)
        _take_back(job, source)
        told = job.known
        job = _closed_job(path, settings, root, acquire)
        corrections = _corrections(told, job.known)
    else:
        job = _closed_job(path, settings, root, acquire)
    return Watched(job, run_job(job, executor, progress=progress), "closed", corrections)


def _begun(
    path: Path,
    promise: Promise,
    *,
    settle_s: float,
    idle_s: float | None,
    poll_s: float,
    progress: Callable[[Progress], None],
) -> GrowingCziSource:
    """The source, once the file is there and a first plane of every scene and channel in it."""
    began = time.monotonic()
    source: GrowingCziSource | None = None
    message = "waiting for a first frame of every scene and channel"
    while True:
        if source is None and path.is_file() and path.stat().st_size > 0:
            source = GrowingCziSource(path, promise=promise, settle_s=settle_s, idle_s=idle_s)
        if source is not None and source.begun():
            return source
        if idle_s is not None and time.monotonic() - began >= idle_s:
            raise SourceError(
                "the recording has not begun",
                where=path,
                found="no file" if source is None else "not every scene and channel has a first frame",
                remedy="check the path, and that scenes and channels are as many as were given",
            )
        progress(Progress("wait", 0, 0, 0, message))
        message = ""
        time.sleep(poll_s)


def _closed_job(path: Path, settings: Settings, root: Path, acquire: Acquire) -> Job:
    """The job of the closed file: what it says itself goes before what was given."""
    source = open_source(path)
    given = settings.acquisition
    without = given.copy(
        update={
            "pixel_size_um": None if source.metadata.pixel_size_um is not None else given.pixel_size_um,
            "interval_s": None if source.metadata.times_origin is not TimesOrigin.NONE else given.interval_s,
        }
    )
    own = settings.copy(update={"acquisition": without})
    return analysis_job(source, acquire(source, own), own, root)


def _take_back(job: Job, source: GrowingCziSource) -> None:
    """Retract what was computed from planes that were read before they were whole."""
    changed = source.changed()
    if not changed:
        return
    with hold_lease(job.layout.lease):
        log = read_log(job.layout)
        for scene, frame, _ in changed:
            for commit in list(log):
                if commit.scene == scene and commit.start <= frame < commit.stop:
                    log.retract(commit.step, scene, [frame])


def _corrections(told: Acquisition, own: Acquisition) -> tuple[str, ...]:
    """What the closed file says otherwise than it was told while it grew."""
    found = []
    if abs(own.pixel_size_um - told.pixel_size_um) > CHANGED_UM * own.pixel_size_um:
        found.append(f"pixel size {own.pixel_size_um:g} um, told {told.pixel_size_um:g}")
    if len(own.scenes) != len(told.scenes):
        found.append(f"{len(own.scenes)} scenes, told {len(told.scenes)}")
    for mine, theirs in zip(own.scenes, told.scenes, strict=False):
        if mine.n_frames != theirs.n_frames:
            found.append(f"{mine.name}: {mine.n_frames} frames, told {theirs.n_frames}")
        elif mine.times_s and theirs.times_s and _apart(mine.times_s, theirs.times_s) > CHANGED_S:
            apart = _apart(mine.times_s, theirs.times_s)
            found.append(f"{mine.name}: times up to {apart:.1f} s from the interval that was told")
    return tuple(found)


def _apart(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max((d for x, y in zip(a, b, strict=True) if not math.isnan(d := abs(x - y))), default=0.0)
