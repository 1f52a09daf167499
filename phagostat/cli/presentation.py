"""Commands that show results: ``report`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from phagostat.cli.ending import check_stop
from phagostat.cli.options import PATH, print_json, voice_options
from phagostat.report.selection import KINDS, MOVIE_KINDS


@click.command()
@click.argument("output", type=PATH)
@click.option("-o", "--destination", type=PATH, help="Where to write (default: report.html inside the output).")
@click.option("--movies/--no-movies", default=True, show_default=True, help="Whether scenes have movies.")
@voice_options
def report(output: Path, destination: Path | None, movies: bool, quiet: bool, as_json: bool) -> int:
    """Write an analysis as one HTML page: curves, verdicts, overlays, settings; of several, with an index."""
    from phagostat import terminal
    from phagostat.report.page import write_report

    with terminal.ProgressLine(output.name, quiet=quiet, check=check_stop) as line:
        page = write_report(
            output, destination=destination, movies=movies, progress=lambda done, of: line.simple(done, of, "scenes")
        )
    if as_json:
        print_json({"report": str(page)})
    elif not quiet:
        click.echo(f"report  {page}")
    return 0


@click.command()
@click.argument("output", type=PATH)
@click.option("-o", "--destination", required=True, type=PATH, help="Folder to write into.")
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
@voice_options
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
    with terminal.ProgressLine(output.name, quiet=quiet, check=check_stop) as line:
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
        print_json([one.as_dict() for one in written])
    elif not quiet:
        for one in written:
            click.echo(f"{one.kind:<8} {one.path}  ({one.n_files} files, {one.n_bytes / 1e6:.1f} MB)")
    return 0
