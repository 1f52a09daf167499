"""The commands: one per use. The only place that prints."""

from __future__ import annotations

from collections.abc import Sequence

import click

from phagostat.cli.analysis import convert, run, watch
from phagostat.cli.benchmark import bench
from phagostat.cli.ending import run_command
from phagostat.cli.inspection import compare, info, score, settings_command, status
from phagostat.cli.presentation import export, report
from phagostat.cli.simulation import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="phagostat")
def cli() -> None:
    """Numbers that can be trusted from time-lapses of cells eating fluorescent aggregates."""


for _command in (run, watch, convert, info, status, compare, score, report, export, settings_command, simulate, bench):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code."""
    run_command(cli, arguments)
