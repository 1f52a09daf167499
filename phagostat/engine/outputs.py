"""One acquisition into one output: checks, lease, loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phagostat.engine.executor import Executor
from phagostat.engine.loop import Loop
from phagostat.engine.preparation import prepare_analysis, prepare_conversion
from phagostat.engine.progress import Progress, Report
from phagostat.engine.steps import CONVERSION_STEPS, analysis_steps
from phagostat.engine.tables import TABLE_SETTINGS, write_tables
from phagostat.engine.work import Job, json_number
from phagostat.model.acquisition import Acquisition
from phagostat.model.errors import StoreError
from phagostat.settings import Settings
from phagostat.sources.protocol import Source
from phagostat.store.commits import CommitLog
from phagostat.store.layout import Layout
from phagostat.store.lease import hold_lease
from phagostat.store.manifest import Manifest, check_manifest, new_manifest, read_manifest, write_manifest


@dataclass(frozen=True)
class Survey:
    """What an output holds, and what a run would do to it.

    Parameters
    ----------
    held
        Results that hold, by step.
    stale
        Committed results that would be computed anew, since a setting or an input changed, by step.
    missing
        Results that are not there, by step.
    uncertain
        Results that are there and read something that would be computed anew: whether they hold shows then.
    """

    held: Mapping[str, int]
    stale: Mapping[str, int]
    missing: Mapping[str, int]
    uncertain: Mapping[str, int]


def analysis_job(source: Source, acquisition: Acquisition, settings: Settings, root: Path) -> Job:
    """The job of an analysis."""
    return Job(source, Layout.analysis(root), settings, acquisition.scenes, acquisition)


def conversion_job(source: Source, settings: Settings, root: Path) -> Job:
    """The job of a conversion."""
    return Job(source, Layout.conversion(root), settings, source.metadata.scenes)


def run_job(
    job: Job,
    executor: Executor,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    upgrade: bool = False,
    handover: Callable[[], bool] = lambda: False,
    poll_s: float = 1.0,
) -> Report:
    """Bring an output to its seal: from nothing, from where an interrupted run left it, or after a change of settings.

    A source that grows is looked at every `poll_s` seconds; once `handover` says so, what is out is committed and the
    run ends without a seal.

    Raises
    ------
    StoreError
        If the output belongs to something else, or cannot be written.
    LeaseError
        If another run is at work on it.
    """
    wanted = manifest_of(job)
    found = read_manifest(job.layout)  # before the lease: nothing is written into a folder that is not ours
    if found is not None:
        check_manifest(job.layout, found, wanted, upgrade=upgrade)
    with hold_lease(job.layout.lease) as lease:
        found = read_manifest(job.layout)
        manifest = wanted if found is None else check_manifest(job.layout, found, wanted, upgrade=upgrade)
        if manifest != found:
            write_manifest(job.layout, manifest)
        return loop_of(job).run(executor, lease, progress=progress, handover=handover, poll_s=poll_s)


def loop_of(job: Job) -> Loop:
    """The loop of a job."""
    if job.acquisition is None:
        return Loop(job, CONVERSION_STEPS, prepare=prepare_conversion)
    steps = analysis_steps(job.acquisition, job.settings)
    return Loop(job, steps, prepare=prepare_analysis, tabulate=write_tables, table_settings=TABLE_SETTINGS)


def survey_job(job: Job) -> Survey:
    """What a run would do, without doing it."""
    loop = loop_of(job)
    facts = loop.facts(job.source.poll())
    plan = loop.plan(facts)
    names = [step.name for step in loop.committed_steps]
    committed = {name: sum(len(loop.log.entries(name, s)) for s in _scenes(job)) for name in names}
    stale = {name: sum(place[0] == name for place in plan.stale) for name in names}
    expected = loop.expected(facts)
    return Survey(
        held={n: committed[n] - stale[n] - plan.uncertain[n] for n in names},
        stale=stale,
        missing={n: expected[n] - committed[n] for n in names},
        uncertain={n: plan.uncertain[n] for n in names},
    )


def manifest_of(job: Job) -> Manifest:
    """The manifest that this job's output should have."""
    metadata = job.source.metadata
    return new_manifest(
        "conversion" if job.acquisition is None else "analysis",
        source={
            "path": str(Path(metadata.path).absolute()),
            "kind": metadata.kind,
            "identity": metadata.identity,
            **({"growing_identity": metadata.growing_identity} if metadata.growing_identity else {}),
        },
        settings=job.settings.dict(),
        acquisition=_acquisition(job),
    )


def open_output(path: Path) -> tuple[Layout, Manifest]:
    """An existing output, analysed or converted.

    Raises
    ------
    StoreError
        If there is none.
    """
    for layout in (Layout.analysis(path), Layout.conversion(path)):
        if layout.manifest.is_file():
            manifest = read_manifest(layout)
            if manifest is not None:
                return layout, manifest
    raise StoreError(
        "no output of phagostat is there",
        where=path,
        found="nothing" if not path.exists() else "a file" if path.is_file() else "a folder without output.json",
        remedy="give the folder that was given to -o",
    )


def find_outputs(path: Path) -> list[Path]:
    """The outputs at a path: itself, or those of the acquisitions in it, by name."""
    if Layout.analysis(path).manifest.is_file() or Layout.conversion(path).manifest.is_file():
        return [path]
    inside = sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
    return [child for child in inside if Layout.analysis(child).manifest.is_file()]


def read_log(layout: Layout) -> CommitLog:
    """The commit log of an output."""
    return CommitLog(layout.commits)


def _scenes(job: Job) -> list[int | None]:
    return [None, *(scene.index for scene in job.scenes)]


def _acquisition(job: Job) -> dict[str, Any]:
    known = job.acquisition
    about: dict[str, Any] = {
        "scenes": [dataclasses.asdict(scene) for scene in job.scenes],
        "channels": [dataclasses.asdict(channel) for channel in job.source.metadata.channels],
        "pixel_size_um": known.pixel_size_um if known else job.source.metadata.pixel_size_um,
        "times_origin": (known.times_origin if known else job.source.metadata.times_origin).value,
    }
    if known is not None:
        about["roles"] = {role.value: channel for role, channel in known.roles.items()}
        about["reduction"] = known.reduction
    plain: dict[str, Any] = _plain(about)
    return plain


def _plain(value: Any) -> Any:
    """A value as JSON reads it back, so that a manifest compares equal with its file."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return json_number(value)
    return value
