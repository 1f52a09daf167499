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
    """Analyse acquisitions: per scene and frame shift, sharpness and aggregates.

    Run it again after an interruption, and it goes on; after a change of settings, and it computes again what depends
    on them and nothing else.
    """
    from phagostat import terminal
    from phagostat.cluster.local import local_executor
    from phagostat.engine.outputs import analysis_job, run_job

    settings = settings_from(**options)
    jobs, code = terminal.open_jobs(sources, settings, output, analysis_job)
    summaries = []
    if jobs:
        with local_executor(settings.execution.workers if workers is None else workers) as executor:
            for job in jobs:
                sentence = terminal.left_out(job.acquisition)
                if sentence is not None and not quiet:
                    click.echo(f"phagostat: {job.source.metadata.path}: {sentence}", err=True)
                with terminal.ProgressLine(job.layout.root.name, quiet=quiet, check=check_stop) as progress:
                    report = run_job(job, executor, progress=progress, upgrade=upgrade)
                summary = terminal.summarise(job, report)
                summaries.append(summary)
                if not (quiet or as_json):
                    click.echo(terminal.summary_text(summary))
                if summary["scenes_without_usable_frame"]:
                    code = code or EXIT_NO_USABLE_FRAME
                    for name, reason in summary["scenes_without_usable_frame"].items():
                        click.echo(f"phagostat: {job.source.metadata.path}: {name}: {reason}", err=True)
    if as_json:
        print_json(summaries)
    return code


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
