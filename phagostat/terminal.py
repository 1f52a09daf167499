"""What the commands say: progress, summaries, descriptions. Documents first, their text after."""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click

from phagostat.engine.outputs import analysis_job, find_outputs, open_output, read_log, survey_job
from phagostat.engine.progress import Progress, Report
from phagostat.engine.work import Job
from phagostat.model.acquisition import Acquisition
from phagostat.model.errors import PhagostatError, StoreError
from phagostat.settings import Settings, profile_settings
from phagostat.settings_text import settings_table
from phagostat.simulate.movie import SimulationReport
from phagostat.sources import open_source
from phagostat.sources.channel_roles import resolve
from phagostat.sources.protocol import Source
from phagostat.store.integrity import damaged_chunks
from phagostat.store.layout import Layout
from phagostat.store.lease import Holder, read_holder
from phagostat.store.manifest import Manifest
from phagostat.store.seal import read_seal
from phagostat.store.tables import read_table

_PHASES = {"compute": "computing", "check": "checking", "seal": "sealing"}


class ProgressLine:
    """Progress with the time left, on standard error: one line rewritten on a terminal, else a line now and then.

    Parameters
    ----------
    name
        What is being worked on.
    quiet
        Say nothing but what went wrong.
    check
        Called each time; may raise, to end the work.
    """

    def __init__(self, name: str, *, quiet: bool = False, check: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.quiet = quiet
        self.check = check
        self.live = sys.stderr.isatty()
        self._phase = ""
        self._start = (0.0, 0)
        self._said = 0.0
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_line()

    def __call__(self, progress: Progress) -> None:
        """Say how far a run is."""
        self.check()
        if progress.message:
            self._end_line()
            click.echo(f"phagostat: {self.name}: {progress.message}", err=True)
        self._show(_PHASES.get(progress.phase, progress.phase), progress.done, progress.total)

    def simple(self, done: int, total: int, label: str) -> None:
        """Say how far something is that only counts."""
        self.check()
        self._show(label, done, total)

    def _show(self, phase: str, done: int, total: int) -> None:
        if self.quiet or total <= 0:
            return
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._start = phase, (now, done)
            self._said = 0.0 if self.live else now
        if now - self._said < (0.2 if self.live else 10.0) and done < total:
            return
        if not self.live and done >= total and now - self._start[0] < 10.0:
            return  # over before anyone could wonder
        self._said = now
        text = f"{self.name}: {phase} {done}/{total} ({100 * done // total} %){self._left(now, done, total)}"
        if self.live:
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)
            self._open = True
        else:
            click.echo(text, err=True)

    def _left(self, now: float, done: int, total: int) -> str:
        began, at = self._start
        if done < at + 5 or done >= total or now - began < 1.0:
            return ""
        return f", {duration(round((now - began) * (total - done) / (done - at)))} left"

    def _end_line(self) -> None:
        if self._open:
            click.echo("", err=True)
            self._open = False


def duration(seconds: int) -> str:
    """A duration in words: 45 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


# ---- sources ---------------------------------------------------------------------------------------------------------


LEFT_OUT = (
    "no aggregate channel: shifts, sharpness, aggregates and eaten area are left out; cells are segmented and tracked "
    "on the assumption that the stage stood still"
)
"""What is said of an acquisition of cells alone."""

_DOUBLE_ENDING = re.compile(r"(?i)\.ome\.(tiff?|tf[28]|btf|zarr)$")


def open_as_told(path: str | Path, settings: Settings) -> Source:
    """Open a source with the options that the settings give."""
    s = settings.acquisition
    return open_source(path, z=s.z, **({} if s.axes is None else {"axes": s.axes}))


def output_name(path: Path) -> str:
    """What the output of a source is called: as the source is, without the ending that says its format."""
    whole = path.resolve() if path.name in {"", ".."} else path
    name = _DOUBLE_ENDING.sub("", whole.name)
    if name == whole.name and (not whole.is_dir() or whole.suffix.lower() == ".zarr"):
        name = whole.stem
    return name or "acquisition"


def left_out(acquisition: Acquisition | None) -> str | None:
    """What an analysis leaves out for want of a channel, in a sentence; None if nothing."""
    return None if acquisition is None or acquisition.has_aggregates else LEFT_OUT


def acquisition_of(source: Source, settings: Settings) -> Acquisition:
    """An acquisition with the settings' overrides applied."""
    s = settings.acquisition
    return resolve(
        source.metadata,
        aggregates=s.aggregates,
        cells=s.cells,
        pixel_size_um=s.pixel_size_um,
        interval_s=s.interval_s,
        analysis_pixel_size_um=s.analysis_pixel_size_um,
        min_frames=s.min_frames,
    )


def open_jobs(
    sources: Sequence[Path],
    settings: Settings,
    output: Path,
    make: Callable[[Source, Acquisition, Settings, Path], Job],
) -> tuple[list[Job], int]:
    """The jobs of all sources that can be used; each other one is said, and gives the exit code."""
    jobs: list[Job] = []
    code = 0
    taken: dict[str, Path] = {}
    if output.is_file():
        raise StoreError("the output is a file", where=output, remedy="give a folder")
    for path in sources:
        try:
            name = output_name(path)
            if name in taken:
                raise StoreError(
                    "two sources have the same name",
                    where=path,
                    found=taken[name],
                    remedy="run them with different outputs",
                )
            taken[name] = path
            source = open_as_told(path, settings)
            jobs.append(make(source, acquisition_of(source, settings), settings, output / name))
        except PhagostatError as error:
            click.echo(f"phagostat: {error}", err=True)
            code = max(code, error.exit_code)
    return jobs, code


def describe_source(source: Source, settings: Settings) -> dict[str, Any]:
    """What a source holds, and what it would be taken for."""
    metadata = source.metadata
    complete = source.poll().complete
    document: dict[str, Any] = {
        "path": metadata.path,
        "kind": metadata.kind,
        "identity": metadata.identity,
        "pixel_size_um": metadata.pixel_size_um,
        "times": metadata.times_origin.value,
        "channels": [
            {"index": c.index, "name": c.name, "fluorescent": c.fluorescent, "description": c.description}
            for c in metadata.channels
        ],
        "scenes": [
            {
                "index": s.index,
                "name": s.name,
                "frames": s.n_frames,
                "height_px": s.shape_yx[0],
                "width_px": s.shape_yx[1],
                "dtype": s.dtype,
                "duration_s": max((t for t in s.times_s or () if math.isfinite(t)), default=None),
                "missing_planes": sum(
                    s.n_frames - len(complete.get((s.index, c.index), ())) for c in metadata.channels
                ),
            }
            for s in metadata.scenes
        ],
        "notes": list(metadata.notes),
    }
    try:
        known = acquisition_of(source, settings)
    except PhagostatError as error:
        document["run"] = {"possible": False, "why": str(error)}
    else:
        document["run"] = {
            "possible": True,
            "roles": {role.value: channel for role, channel in known.roles.items()},
            "pixel_size_um": known.pixel_size_um,
            "analysis_pixel_size_um": known.analysis_pixel_size_um,
            "reduction": known.reduction,
            "left_out": left_out(known),
        }
    return document


def description_text(document: Mapping[str, Any]) -> str:
    """The description of a source as text."""
    pixel = document["pixel_size_um"]
    lines = [
        f"{document['path']}: {document['kind']}",
        f"pixel size  {f'{pixel:g} um' if pixel else 'not given'}",
        f"times       {document['times']}",
    ]
    for channel in document["channels"]:
        kind = {True: "fluorescent", False: "transmitted", None: "kind not given"}[channel["fluorescent"]]
        lines.append(f"channel {channel['index']}   {channel['name'] or '(no name)'}, {kind}")
    for scene in document["scenes"]:
        length = f", {duration(round(scene['duration_s']))}" if scene["duration_s"] else ""
        gaps = f", {scene['missing_planes']} planes missing" if scene["missing_planes"] else ""
        lines.append(
            f"scene {scene['index']:<4} {scene['name']}: {scene['frames']} frames of {scene['height_px']} x "
            f"{scene['width_px']} {scene['dtype']}{length}{gaps}"
        )
    lines += [f"note        {note}" for note in document["notes"]]
    run = document["run"]
    if run["possible"]:
        roles = ", ".join(f"{role} = channel {channel}" for role, channel in run["roles"].items())
        lines.append(f"run         {roles}; analysis grid {run['analysis_pixel_size_um']:g} um (1/{run['reduction']})")
        if run["left_out"]:
            lines.append(f"left out    {run['left_out']}")
    else:
        lines.append(f"run         not as it is: {run['why']}")
    return "\n".join(lines)


# ---- outputs ---------------------------------------------------------------------------------------------------------


def summarise(job: Job, report: Report) -> dict[str, Any]:
    """What a run gave."""
    frames = read_table(job.layout.tables, "frames")
    scenes = read_table(job.layout.tables, "scenes").to_pylist()
    verdicts = Counter(frames.column("verdict").to_pylist())
    rows = frames.select(["verdict", "focus", "usable"]).to_pylist()
    unused = Counter("blurred" if row["focus"] == "blurred" else row["verdict"] for row in rows if not row["usable"])
    return {
        "source": job.source.metadata.path,
        "output": str(job.layout.root),
        "left_out": left_out(job.acquisition),
        "tables": str(job.layout.tables),
        "images": str(job.layout.images),
        "scenes": len(job.scenes),
        "frames": frames.num_rows,
        "verdicts": dict(sorted(verdicts.items())),
        "frames_used": frames.num_rows - unused.total(),
        "frames_not_used": dict(sorted(unused.items())),
        "computed": dict(report.computed),
        "retracted": dict(report.retracted),
        "damaged": list(report.damaged),
        "scenes_without_usable_frame": {s["scene_name"]: s["reason"] for s in scenes if s["verdict"] != "ok"},
        "scenes_with_deviating_threshold": [s["scene_name"] for s in scenes if s["threshold_deviates"]],
    }


def summary_text(summary: Mapping[str, Any]) -> str:
    """The summary of a run as text."""
    unused = "".join(f", {count} {state.replace('_', ' ')}" for state, count in summary["frames_not_used"].items())
    computed = sum(summary["computed"].values())
    lines = [
        f"{summary['source']}: {_scenes_text(summary)} ({summary['frames_used']} used{unused})",
        f"  {f'{computed} results computed' if computed else 'nothing to do'}, every chunk checked",
        f"  tables  {summary['tables']}",
        f"  images  {summary['images']}",
    ]
    if summary["scenes_with_deviating_threshold"]:
        names = ", ".join(summary["scenes_with_deviating_threshold"])
        lines.append(f"  look at {names}: their own aggregate threshold is more than 25 % off the acquisition's median")
    return "\n".join(lines)


def summarise_conversion(job: Job, report: Report) -> dict[str, Any]:
    """What a conversion gave."""
    log = read_log(job.layout)
    verdicts = Counter(entry.verdict for scene in job.scenes for entry in log.entries("planes", scene.index).values())
    return {
        "source": job.source.metadata.path,
        "output": str(job.layout.root),
        "scenes": len(job.scenes),
        "frames": sum(scene.n_frames for scene in job.scenes),
        "verdicts": dict(sorted(verdicts.items())),
        "computed": dict(report.computed),
        "damaged": list(report.damaged),
    }


def conversion_text(summary: Mapping[str, Any]) -> str:
    """The summary of a conversion as text."""
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in summary["verdicts"].items())
    return f"{summary['source']}: {_scenes_text(summary)} ({verdicts})\n  images  " + str(summary["output"])


def _scenes_text(summary: Mapping[str, Any]) -> str:
    numbers = (summary[what] for what in ("scenes", "frames"))
    return ", ".join(f"{n} {what}{'s' if n != 1 else ''}" for n, what in zip(numbers, ("scene", "frame"), strict=True))


def describe_output(layout: Layout, manifest: Manifest, settings: Settings | None, *, check: bool) -> dict[str, Any]:
    """How far an output is, and what a run with these settings (None: its own) would compute again."""
    log = read_log(layout)
    steps = sorted({commit.step for commit in log})
    seal = read_seal(layout)
    holder = read_holder(layout.lease)
    document: dict[str, Any] = {
        "output": str(layout.root),
        "kind": manifest.kind,
        "source": manifest.source["path"],
        "version": manifest.version,
        "profile": manifest.settings["profile"],
        "sealed": seal is not None,
        "at_work": _worker_of(holder, layout),
        "damaged_commits": list(log.damaged),
        "committed": {step: sum(len(commit.entries) for commit in log if commit.step == step) for step in steps},
        "verdicts": {
            step: dict(
                sorted(Counter(e.verdict for commit in log if commit.step == step for e in commit.entries).items())
            )
            for step in steps
        },
        "damaged": [],
    }
    if check:
        promised = {c: d for commit in log for entry in commit.entries for c, d in entry.chunks.items()}
        document["damaged"] = damaged_chunks(layout.images, promised) + list(log.damaged_row_files(layout.rows))
        document["checked"] = len(promised)
    if manifest.kind == "analysis":
        document["run"] = _foresee(layout, manifest, settings)
    return document


def _worker_of(holder: Holder | None, layout: Layout) -> str | None:
    if holder is None or not holder.alive(layout.lease):
        return None
    return f"process {holder.pid} on {holder.host}"


def _foresee(layout: Layout, manifest: Manifest, settings: Settings | None) -> dict[str, Any]:
    stored = profile_settings(
        manifest.settings["profile"], {k: v for k, v in manifest.settings.items() if k != "profile"}
    )
    wanted = settings or stored
    before = {(row["group"], row["name"]): row["value"] for row in settings_table(stored)}
    changed = {
        f"{row['group']}.{row['name']}": [before[row["group"], row["name"]], row["value"]]
        for row in settings_table(wanted)
        if row["group"] != "execution" and before[row["group"], row["name"]] != row["value"]
    }
    try:
        source = open_as_told(manifest.source["path"], wanted)
        if source.metadata.identity != manifest.source["identity"]:
            return {"changed": changed, "why_not": "the source is another file now"}
        survey = survey_job(analysis_job(source, acquisition_of(source, wanted), wanted, layout.root))
    except PhagostatError as error:
        return {"changed": changed, "why_not": str(error)}
    return {
        "changed": changed,
        "held": dict(survey.held),
        "stale": dict(survey.stale),
        "missing": dict(survey.missing),
        "uncertain": dict(survey.uncertain),
    }


def status_text(document: Mapping[str, Any]) -> str:
    """The state of an output as text."""
    if document["sealed"]:
        state = "complete, checked and sealed"
    else:
        state = f"at work: {document['at_work']}" if document["at_work"] else "not complete: run goes on with it"
    lines = [
        f"{document['output']}: {document['kind']} of {document['source']}",
        f"  {state}; profile {document['profile']}, phagostat {document['version']}",
    ]
    for step, count in document["committed"].items():
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in document["verdicts"][step].items())
        lines.append(f"  {step:<14} {count} committed ({verdicts})")
    lines += [f"  damaged commit {name}: its range is computed again" for name in document["damaged_commits"]]
    if "checked" in document:
        lines.append(f"  {document['checked']} chunks checked, {len(document['damaged'])} do not match")
        lines += [f"    {name}" for name in document["damaged"]]
    run = document.get("run")
    if run is not None:
        lines += [f"  changed: {name} from {a} to {b}" for name, (a, b) in run["changed"].items()]
        lines += _foreseen_text(run)
    return "\n".join(lines)


def _foreseen_text(run: Mapping[str, Any]) -> list[str]:
    if "why_not" in run:
        return [f"  what a run would do cannot be said: {run['why_not']}"]
    lines = []
    for step in run["held"]:
        parts = [
            f"{run[kind][step]} {words}"
            for kind, words in (
                ("missing", "to compute"),
                ("stale", "to compute again"),
                ("uncertain", "to compute again if what they read changes"),
            )
            if run[kind][step]
        ]
        if parts:
            lines.append(f"  run would   {step}: {', '.join(parts)}")
    return lines or ["  run would   do nothing"]


def paired_outputs(a: Path, b: Path) -> list[tuple[str, Layout, Layout]]:
    """The outputs to compare: two, or those of two folders of outputs, by name."""
    left, right = find_outputs(a), find_outputs(b)
    if left in ([], [a]) or right in ([], [b]):
        if len(left) == 1 and len(right) == 1:
            return [("", open_output(left[0])[0], open_output(right[0])[0])]
        return [("", open_output(a)[0], open_output(b)[0])]
    names = {path.name for path in left} ^ {path.name for path in right}
    if names:
        raise StoreError("only one of the folders holds", where=f"{a} and {b}", found=", ".join(sorted(names)))
    return [(path.name, open_output(path)[0], open_output(b / path.name)[0]) for path in left]


def describe_simulation(path: Path, report: SimulationReport) -> dict[str, Any]:
    """What was simulated."""
    return {
        "path": str(path),
        "truth": str(report.truth),
        "scenes": report.n_scenes,
        "planes": report.n_planes,
        "bytes": report.n_bytes,
        "seconds": round(report.seconds, 3),
    }


def score_text(document: Mapping[str, Any]) -> str:
    """The score of an output: mean and worst scene of every figure."""
    lines = [f"{'figure':<28}{'mean of scenes':>16}{'worst scene':>16}"]
    for name, mean in document["mean"].items():
        figures = [mean, document["worst"][name]]
        lines.append(f"{name:<28}" + "".join(f"{'-' if v is None else f'{v:.4g}':>16}" for v in figures))
    lines += [f"{part} not scored: {why}" for part, why in document["absent"].items()]
    return "\n".join(lines)
