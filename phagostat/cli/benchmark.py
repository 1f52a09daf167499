"""The commands that judge the kernels: ``bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from phagostat.cli.ending import check_stop


@click.group()
def bench() -> None:
    """Judge the kernels against exact truths, beside the methods that they replace."""


@bench.command()
@click.option("--n", type=int, default=1000, show_default=True, help="Pairs of the paper's test.")
@click.option("--n-slow", type=int, help="Pairs for the methods to compare with (default: 50, at most n).")
@click.option("--methods", metavar="NAME,...", help="Methods (default: all), such as tiles,cecc.")
@click.option("--tables", metavar="NAME,...", help="Of shifts, noise, robustness, impossible, movie (default: all).")
@click.option("--noise", metavar="LIGHT,...", help="Levels of light of the noise table (default: 1,0.25,0.0625).")
@click.option("--reference", metavar="PNG", help="Picture of aggregates, 8-bit grey, or the word simulated.")
@click.option("--movie", metavar="FOLDER", help="Folder of TIFF frames for the movie table.")
@click.option("--size", type=int, default=2048, show_default=True, help="Side of a frame, px.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same pairs.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - prints it instead of tables.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def registration(json_path: str | None, quiet: bool, **options: Any) -> int:
    """How exact, how fast and how honest the estimate of shifts is, beside the published methods."""
    from phagostat import terminal
    from phagostat.bench.command import as_json, check_destination, plan_of, run_registration, write_json
    from phagostat.bench.text import registration_text

    plan = plan_of(**options)
    if json_path is not None and json_path != "-":
        check_destination(Path(json_path))
    with terminal.ProgressLine("bench registration", quiet=quiet, check=check_stop) as line:
        document = run_registration(plan, line.simple)
    if json_path == "-":
        click.echo(as_json(document))
        return 0
    click.echo(registration_text(document))
    if json_path is not None:
        write_json(document, Path(json_path))
    return 0
