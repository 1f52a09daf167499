"""The commands: one per use. The only place that prints.

Exit codes: 0 done; 1 ``compare`` found differences; 2 bad usage or input; 3 the output cannot be used or written;
4 done, but a scene has no usable frame; 70 a mistake of phagostat's own; 130 interrupted (143: terminated).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click

from phagostat.model.errors import PhagostatError, SettingsError, SourceError, StoreError
from phagostat.report.selection import KINDS, MOVIE_KINDS
from phagostat.settings import PROFILES, Settings
from phagostat.settings_text import read_settings, settings_table, settings_toml

EXIT_DIFFERENT, EXIT_NO_USABLE_FRAME, EXIT_OWN_MISTAKE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 4, 70, 130, 143

_PATH = click.Path(path_type=Path, readable=False)  # what cannot be read is said as any other problem


class Stopped(BaseException):
    """The process was asked to end (Ctrl-C or SIGTERM); no KeyboardInterrupt, which click would turn into its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.word, self.exit_code = {
            signal.SIGINT: ("interrupted", EXIT_INTERRUPTED),
            signal.SIGTERM: ("terminated", EXIT_TERMINATED),
        }[signal.Signals(number)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code; a problem is one sentence, never a traceback."""
    _asked.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    code = EXIT_OWN_MISTAKE
    try:
        code = cli.main(args=arguments, prog_name="phagostat", standalone_mode=False) or 0
    except PhagostatError as error:
        code = _say(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        code = _say(error.format_message(), 2, prefix="")
    except click.ClickException as error:
        hint = f"; see '{error.ctx.command_path} --help'" if isinstance(error, click.UsageError) and error.ctx else ""
        code = _say(error.format_message().rstrip(".") + hint, 2)
    except Stopped as stopped:
        code = _say(
            f"{stopped.word}: what is committed is kept, the same command goes on from there", stopped.exit_code
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except MemoryError:
        code = _say("not enough memory; give a smaller execution.block_frames or fewer workers", 3)
    except Exception as error:  # the last net: a mistake of ours is one sentence too, its traceback on request
        if os.environ.get("PHAGOSTAT_TRACEBACK"):
            traceback.print_exc()
        where = "PHAGOSTAT_TRACEBACK=1 shows where"
        code = _say(f"a mistake of phagostat itself: {type(error).__name__}: {error} ({where})", EXIT_OWN_MISTAKE)
    sys.exit(code)


_SWALLOWING = frozenset({"__del__", "_gc_callback", "_exitfunc"})
"""Functions that the interpreter calls in passing, where an exception goes nowhere."""
_asked: list[Stopped] = []


def _stop(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)  # once is enough: clean up in peace
    _asked.append(Stopped(number))
    while frame is not None:
        if frame.f_code.co_name in _SWALLOWING:
            return  # what is raised there is printed and lost: the next progress raises it
        frame = frame.f_back
    raise _asked[-1]


def _check_stop() -> None:
    """Raise what was asked for, should it have been lost where it was raised."""
    if _asked:
        raise _asked[-1]


def _say(sentence: str, code: int, *, prefix: str = "phagostat: ") -> int:
    click.echo(prefix + sentence, err=True)
    return code


# ---- options that several commands have ------------------------------------------------------------------------------

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--settings", "settings_file", type=_PATH, help="TOML file, as 'phagostat settings' prints it."),
        click.option("--set", "assignments", multiple=True, metavar="GROUP.NAME=VALUE", help="Set one parameter."),
        click.option("--profile", type=click.Choice(PROFILES), help="Set of defaults (default: corrected)."),
    ):
        function = option(function)
    return function


_PLANE_OPTIONS = (
    click.option("-z", "--z", "z", metavar="PLANE|max", help="Plane of a Z stack, or its maximum projection."),
    click.option("--axes", metavar="AXES", help="Order of a TIFF's pages, slowest first, such as TYX or TC2YX."),
)


def _plane_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in _PLANE_OPTIONS:
        function = option(function)
    return function


def _acquisition_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--aggregates", type=int, metavar="CHANNEL", help="Channel of the aggregates, from 0."),
        click.option("--cells", type=int, metavar="CHANNEL", help="Channel of the cells, from 0."),
        click.option("--pixel-size-um", type=float, help="Size of a camera pixel in the sample, um."),
        click.option("--interval-s", type=float, help="Time between frames, s."),
        *_PLANE_OPTIONS,
    ):
        function = option(function)
    return function


def _voice_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def _settings(
    settings_file: Path | None, assignments: Sequence[str], profile: str | None, **acquisition: object
) -> Settings:
    given = [f"acquisition.{name}={value}" for name, value in acquisition.items() if value is not None]
    return read_settings(settings_file, [*assignments, *given], profile=profile)


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=1, sort_keys=True, default=str))


# ---- commands --------------------------------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="phagostat")
def cli() -> None:
    """Numbers that can be trusted from time-lapses of cells eating fluorescent aggregates."""


@cli.command()
@click.argument("sources", nargs=-1, required=True, type=_PATH, metavar="SOURCE...")
@click.option("-o", "--output", required=True, type=_PATH, help="Folder of the results, one subfolder a source.")
@click.option("--workers", type=click.IntRange(min=0), help="Worker processes (default: one a core; 0: none).")
@click.option("--upgrade", is_flag=True, help="Go on with an output of another version of phagostat.")
@_acquisition_options
@_settings_options
@_voice_options
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

    settings = _settings(**options)
    jobs, code = terminal.open_jobs(sources, settings, output, analysis_job)
    summaries = []
    if jobs:
        with local_executor(settings.execution.workers if workers is None else workers) as executor:
            for job in jobs:
                sentence = terminal.left_out(job.acquisition)
                if sentence is not None and not quiet:
                    click.echo(f"phagostat: {job.source.metadata.path}: {sentence}", err=True)
                with terminal.ProgressLine(job.layout.root.name, quiet=quiet, check=_check_stop) as progress:
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
        _print_json(summaries)
    return code


@cli.command()
@click.argument("source", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, help="OME-Zarr folder to write (OUT.zarr).")
@click.option("--workers", type=click.IntRange(min=0), help="Worker processes (default: one a core; 0: none).")
@click.option("--upgrade", is_flag=True, help="Go on with an output of another version of phagostat.")
@_plane_options
@_settings_options
@_voice_options
def convert(
    source: Path, output: Path, workers: int | None, upgrade: bool, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Convert an acquisition to OME-Zarr: raw pixels, one chunk a plane; itself usable as SOURCE."""
    from phagostat import terminal
    from phagostat.cluster.local import local_executor
    from phagostat.engine.outputs import conversion_job, run_job

    settings = _settings(**options)
    job = conversion_job(terminal.open_as_told(source, settings), settings, output)
    with (
        local_executor(settings.execution.workers if workers is None else workers) as executor,
        terminal.ProgressLine(output.name, quiet=quiet, check=_check_stop) as progress,
    ):
        report = run_job(job, executor, progress=progress, upgrade=upgrade)
    summary = terminal.summarise_conversion(job, report)
    if as_json:
        _print_json(summary)
    elif not quiet:
        click.echo(terminal.conversion_text(summary))
    return 0


@cli.command()
@click.argument("source", type=_PATH)
@_acquisition_options
@_settings_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(source: Path, as_json: bool, **options: Any) -> int:
    """Say what an acquisition holds, and what 'run' would take it for."""
    from phagostat import terminal

    settings = _settings(**options)
    document = terminal.describe_source(terminal.open_as_told(source, settings), settings)
    if as_json:
        _print_json(document)
    else:
        click.echo(terminal.description_text(document))
    return 0


@cli.command()
@click.argument("output", type=_PATH)
@click.option("--check", is_flag=True, help="Read every chunk and compare it with its commit.")
@_settings_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(output: Path, check: bool, as_json: bool, **options: Any) -> int:
    """Say how far an output is, and what 'run' with these settings would compute again."""
    from phagostat import terminal
    from phagostat.engine.outputs import find_outputs, open_output

    roots = find_outputs(output) or [output]
    given = any(options.values())
    documents = []
    for root in roots:
        layout, manifest = open_output(root)
        settings = _settings(**options) if given else None
        documents.append(terminal.describe_output(layout, manifest, settings, check=check))
    if as_json:
        _print_json(documents)
    else:
        click.echo("\n\n".join(terminal.status_text(document) for document in documents))
    if any(document["damaged"] for document in documents):
        raise StoreError(
            "chunks do not match their commits",
            where=output,
            found=", ".join(name for document in documents for name in document["damaged"][:3]),
            remedy="remove seal.json and run again: they are computed anew",
        )
    return 0


@cli.command()
@click.argument("a", type=_PATH)
@click.argument("b", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def compare(a: Path, b: Path, as_json: bool) -> int:
    """Say whether two outputs are equal, and where they are not (exit code 1)."""
    from phagostat import terminal
    from phagostat.store.integrity import differences, read_contents

    pairs = terminal.paired_outputs(a, b)
    lines = [f"{name}: {line}" if name else line for name, x, y in pairs for line in differences(x, y)]
    if as_json:
        hashes = [{"name": n, "a": read_contents(x).hash, "b": read_contents(y).hash} for n, x, y in pairs]
        _print_json({"equal": not lines, "differences": lines, "hashes": hashes})
    else:
        for line in lines:
            click.echo(line)
        if not lines:
            for name, x, _ in pairs:
                click.echo(f"equal{f' ({name})' if name else ''}: {read_contents(x).hash}")
    return EXIT_DIFFERENT if lines else 0


@cli.command()
@click.argument("output", type=_PATH)
@click.argument("truth", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print all figures, scene by scene, as JSON.")
def score(output: Path, truth: Path, as_json: bool) -> int:
    """Say how far an output's numbers are from a simulation's TRUTH folder."""
    from phagostat import terminal
    from phagostat.engine.outputs import find_outputs
    from phagostat.simulate.truth import read_truth
    from phagostat.study.run import read_run
    from phagostat.study.score import score as score_of

    roots = find_outputs(output)
    if len(roots) > 1:
        raise StoreError(
            "there is more than one output", where=output, found=[r.name for r in roots], remedy="name one of them"
        )
    found = score_of(read_run(roots[0] if roots else output), read_truth(truth))
    if as_json:
        _print_json(found.as_dict())
    else:
        click.echo(terminal.score_text(found.as_dict()))
    return 0


@cli.command()
@click.argument("output", type=_PATH)
@click.option("-o", "--destination", type=_PATH, help="Where to write (default: report.html inside the output).")
@click.option("--movies/--no-movies", default=True, show_default=True, help="Whether scenes have movies.")
@_voice_options
def report(output: Path, destination: Path | None, movies: bool, quiet: bool, as_json: bool) -> int:
    """Write an analysis as one HTML page: curves, verdicts, overlays, settings; of several, with an index."""
    from phagostat import terminal
    from phagostat.report.page import write_report

    with terminal.ProgressLine(output.name, quiet=quiet, check=_check_stop) as line:
        page = write_report(
            output, destination=destination, movies=movies, progress=lambda done, of: line.simple(done, of, "scenes")
        )
    if as_json:
        _print_json({"report": str(page)})
    elif not quiet:
        click.echo(f"report  {page}")
    return 0


@cli.command()
@click.argument("output", type=_PATH)
@click.option("-o", "--destination", required=True, type=_PATH, help="Folder to write into.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    default=("csv",),
    show_default=True,
    type=click.Choice(KINDS),
    help="What to write; may be given several times.",
)
@click.option("--scenes", help="Scenes, such as 0,2,5-7 (default: all).")
@click.option("--frames", help="Frames, such as 0-49 (default: all).")
@click.option("--force", is_flag=True, help="Replace what an earlier export wrote there.")
@click.option(
    "--movie",
    "movie_kinds",
    multiple=True,
    default=MOVIE_KINDS[:1],
    show_default=True,
    type=click.Choice(MOVIE_KINDS),
    help="What movies are written as; may be given several times.",
)
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True)
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Movies: every n-th frame.")
@click.option("--width-px", type=click.IntRange(min=16), help="Movies: width (default: the image's; GIF: at most 480).")
@click.option("--ctc", "ctc_layout", type=click.Choice(("results", "truth")), default="results", show_default=True)
@click.option("--images/--no-images", default=True, show_default=True, help="Released layout: pictures as well.")
@_voice_options
def export(
    output: Path,
    destination: Path,
    kinds: tuple[str, ...],
    scenes: str | None,
    frames: str | None,
    force: bool,
    movie_kinds: tuple[str, ...],
    fps: float,
    every: int,
    width_px: int | None,
    ctc_layout: Any,
    images: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Write an analysis for other programs: CSV, the released data set's layout, TIFF, PNG, movies, CTC folders."""
    from phagostat import terminal
    from phagostat.report.export import ExportOptions, export_output
    from phagostat.report.selection import parse_numbers

    options = ExportOptions(
        released_images=images,
        movie_suffixes=tuple(f".{kind}" for kind in dict.fromkeys(movie_kinds)),
        fps=fps,
        every=every,
        width_px=width_px,
        ctc_layout=ctc_layout,
    )
    with terminal.ProgressLine(output.name, quiet=quiet, check=_check_stop) as line:
        written = export_output(
            output,
            destination,
            kinds=tuple(dict.fromkeys(kinds)),
            scenes=parse_numbers(scenes, "--scenes"),
            frames=parse_numbers(frames, "--frames"),
            options=options,
            overwrite=force,
            progress=line.simple,
        )
    for one in written:
        for note in one.notes:
            click.echo(f"phagostat: {one.acquisition}: {note}", err=True)
    if as_json:
        _print_json([one.as_dict() for one in written])
    elif not quiet:
        for one in written:
            click.echo(f"{one.kind:<8} {one.path}  ({one.n_files} files, {one.n_bytes / 1e6:.1f} MB)")
    return 0


@cli.command("settings")
@_settings_options
@click.option("-o", "--output", type=_PATH, help="Write to a file instead of the terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def settings_command(output: Path | None, as_json: bool, **options: Any) -> int:
    """Print every parameter with its unit, default and source, as TOML that --settings reads back."""
    settings = _settings(**options)
    if as_json:
        _print_json(settings_table(settings))
        return 0
    text = settings_toml(settings)
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise SettingsError("settings cannot be written", where=output, found=error.strerror) from None
    return 0


@cli.command()
@click.argument("path", type=_PATH, metavar="OUT.czi")
@click.option("--preset", type=click.Choice(["easy", "default", "hard"]), default="default", show_default=True)
@click.option("--mode", type=click.Choice(["synthetic", "semi"]), default="synthetic", show_default=True)
@click.option("--data", type=_PATH, help="Folder of real images for --mode semi.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--scenes", type=click.IntRange(1, 1000), default=2, show_default=True)
@click.option("--frames", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option("--size", type=click.IntRange(128, 8192), default=512, show_default=True, help="Side of a frame, px.")
@click.option("--pixel-size-um", type=float, default=0.103, show_default=True)
@click.option("--interval-s", type=float, default=120.0, show_default=True)
@click.option("--compression", type=click.Choice(["none", "zstd"]), default="none", show_default=True)
@click.option("--pace-s", type=float, help="Write a frame pair each so many seconds, as a microscope does.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@_voice_options
def simulate(path: Path, size: int, compression: str, force: bool, quiet: bool, as_json: bool, **options: Any) -> int:
    """Simulate an acquisition: a genuine CZI, and beside it the whole truth (OUT.truth/)."""
    from phagostat import terminal
    from phagostat.simulate.movie import simulate as make

    if path.exists() and not force:
        raise SourceError("a file stands there already", where=path, remedy="choose another name, or add --force")
    if path.is_file():
        path.unlink()
        truth = path.with_suffix(".truth")
        if (truth / "truth.json").is_file():  # a folder of ours and nothing else
            shutil.rmtree(truth)
    with terminal.ProgressLine(path.name, quiet=quiet, check=_check_stop) as progress:
        report = make(
            path,
            shape_yx=(size, size),
            compression=None if compression == "none" else compression,
            progress=progress.simple,
            **options,
        )
    document = terminal.describe_simulation(path, report)
    if as_json:
        _print_json(document)
    elif not quiet:
        click.echo(f"{path}: written, truth in {document['truth']}")
    return 0


if __name__ == "__main__":
    main()
