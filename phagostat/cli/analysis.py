"""Commands that compute: ``run`` and ``convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from phagostat.cli.ending import EXIT_NO_USABLE_FRAME, check_stop
from phagostat.cli.options import (
    PATH,
    acquisition_options,
    plane_options,
    print_json,
    settings_from,
    settings_options,
    voice_options,
)


@click.command()
@click.argument("sources", nargs=-1, required=True, type=PATH, metavar="SOURCE...")
@click.option("-o", "--output", required=True, type=PATH, help="Folder of the results, one subfolder a source.")
@click.option("--workers", type=click.IntRange(min=0), help="Worker processes (default: one a core; 0: none).")
@click.option("--upgrade", is_flag=True, help="Go on with an output of another version of phagostat.")
@acquisition_options
@settings_options
@voice_options
def run(
    sources: tuple[Path, ...],
    output: Path,
    workers: int | None,
    upgrade: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Analyse acquisitions: shifts, verdicts on frames, aggregates, eaten area, cells and their tracks.

    Run it again after an interruption, and it goes on; after a change of settings, and it computes again what depends
    on them and nothing else.
    """
    from phagostat import terminal
    from phagostat.cluster.local import local_executor
    from phagostat.engine.outputs import analysis_job, run_job
    from phagostat.model.errors import PhagostatError

    settings = settings_from(**options)
    jobs, code = terminal.open_jobs(sources, settings, output, analysis_job)
    summaries = []
    if jobs:
        with local_executor(settings.execution.workers if workers is None else workers) as executor:
            for job in jobs:
                sentence = terminal.left_out(job.acquisition)
                if sentence is not None and not quiet:
                    click.echo(f"phagostat: {job.source.metadata.path}: {sentence}", err=True)
                try:
                    with terminal.ProgressLine(job.layout.root.name, quiet=quiet, check=check_stop) as progress:
                        report = run_job(job, executor, progress=progress, upgrade=upgrade)
                except PhagostatError as error:  # of this output: the others go on
                    click.echo(f"phagostat: {error}", err=True)
                    code = max(code, error.exit_code)
                    continue
                summary = terminal.summarise(job, report)
                summaries.append(summary)
                if not (quiet or as_json):
                    click.echo(terminal.summary_text(summary))
                if summary["scenes_without_usable_frame"]:
                    code = max(code, EXIT_NO_USABLE_FRAME)
                    for name, reason in summary["scenes_without_usable_frame"].items():
                        click.echo(f"phagostat: {job.source.metadata.path}: {name}: {reason}", err=True)
    if as_json:
        print_json(summaries)
    return code


@click.command()
@click.argument("source", type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help="Folder of the results.")
@click.option("--like", type=PATH, help="Finished file of the same kind, for all that is not given.")
@click.option("--frames", type=click.IntRange(min=1), help="Time points that will be recorded.")
@click.option("--scenes", type=click.IntRange(min=1), help="Scenes that will be recorded.")
@click.option("--idle-min", type=click.FloatRange(min=0, min_open=True), help="End when nothing came for so long, min.")
@click.option(
    "--settle-s",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="How long the last bytes must rest, s.",
)
@click.option(
    "--poll-s", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Time between two looks, s."
)
@click.option("--workers", type=click.IntRange(min=0), help="Worker processes (default: one a core; 0: none).")
@acquisition_options
@settings_options
@voice_options
def watch(
    source: Path,
    output: Path,
    like: Path | None,
    frames: int | None,
    scenes: int | None,
    idle_min: float | None,
    settle_s: float,
    poll_s: float,
    workers: int | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Analyse a CZI while the microscope is writing it; what comes out is what 'run' gives on the finished file.

    A growing file does not say its pixel size, interval, channels or length: give them, or --like FINISHED.czi.
    Once it is closed, what it says itself goes before what was given. Stop it at any time: the same command goes on.
    """
    from phagostat import terminal
    from phagostat.cli.recording import recording_of
    from phagostat.cluster.local import local_executor
    from phagostat.engine.watch import watch_czi

    settings = settings_from(**options)
    promise, told = recording_of(settings, path=source, like=like, n_frames=frames, n_scenes=scenes)
    root = output / terminal.output_name(source)
    with (
        local_executor(settings.execution.workers if workers is None else workers) as executor,
        terminal.ProgressLine(source.stem, quiet=quiet, check=check_stop) as progress,
    ):
        watched = watch_czi(
            source,
            promise,
            told,
            root,
            executor,
            acquire=terminal.acquisition_of,
            progress=progress,
            settle_s=settle_s,
            idle_s=None if idle_min is None else 60 * idle_min,
            poll_s=poll_s,
        )
    summary = terminal.summarise(watched.job, watched.report) | {
        "ended": watched.ended,
        "corrections": list(watched.corrections),
    }
    for correction in watched.corrections:
        click.echo(
            f"phagostat: {source}: the closed file says {correction}: what rests on it was computed anew", err=True
        )
    if as_json:
        print_json(summary)
    elif not quiet:
        click.echo(terminal.summary_text(summary))
    for name, reason in summary["scenes_without_usable_frame"].items():
        click.echo(f"phagostat: {source}: {name}: {reason}", err=True)
    return EXIT_NO_USABLE_FRAME if summary["scenes_without_usable_frame"] else 0


@click.command()
@click.argument("source", type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help="OME-Zarr folder to write (OUT.zarr).")
@click.option("--workers", type=click.IntRange(min=0), help="Worker processes (default: one a core; 0: none).")
@click.option("--upgrade", is_flag=True, help="Go on with an output of another version of phagostat.")
@plane_options
@settings_options
@voice_options
def convert(
    source: Path, output: Path, workers: int | None, upgrade: bool, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Convert an acquisition to OME-Zarr: raw pixels, one chunk a plane; itself usable as SOURCE."""
    from phagostat import terminal
    from phagostat.cluster.local import local_executor
    from phagostat.engine.outputs import conversion_job, run_job

    settings = settings_from(**options)
    job = conversion_job(terminal.open_as_told(source, settings), settings, output)
    with (
        local_executor(settings.execution.workers if workers is None else workers) as executor,
        terminal.ProgressLine(output.name, quiet=quiet, check=check_stop) as progress,
    ):
        report = run_job(job, executor, progress=progress, upgrade=upgrade)
    summary = terminal.summarise_conversion(job, report)
    if as_json:
        print_json(summary)
    elif not quiet:
        click.echo(terminal.conversion_text(summary))
    return 0
