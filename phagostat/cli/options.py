"""Options that several commands have, and the settings that they make."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from phagostat.settings import PROFILES, Settings
from phagostat.settings_text import read_settings

PATH = click.Path(path_type=Path, readable=False)  # what cannot be read is said as any other problem

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add options for settings of any kind."""
    for option in (
        click.option("--settings", "settings_file", type=PATH, help="TOML file, as 'phagostat settings' prints it."),
        click.option("--set", "assignments", multiple=True, metavar="GROUP.NAME=VALUE", help="Set one parameter."),
        click.option("--profile", type=click.Choice(PROFILES), help="Set of defaults (default: corrected)."),
    ):
        function = option(function)
    return function


_PLANE_OPTIONS = (
    click.option("-z", "--z", "z", metavar="PLANE|max", help="Plane of a Z stack, or its maximum projection."),
    click.option("--axes", metavar="AXES", help="Order of a TIFF's pages, slowest first, such as TYX or TC2YX."),
)


def plane_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add options that say how planes are found in a file."""
    for option in _PLANE_OPTIONS:
        function = option(function)
    return function


def acquisition_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add options for what a file may not tell of an acquisition."""
    for option in (
        click.option("--aggregates", type=int, metavar="CHANNEL", help="Channel of the aggregates, from 0."),
        click.option("--cells", type=int, metavar="CHANNEL", help="Channel of the cells, from 0."),
        click.option("--pixel-size-um", type=float, help="Size of a camera pixel in the sample, um."),
        click.option("--interval-s", type=float, help="Time between frames, s."),
        *_PLANE_OPTIONS,
    ):
        function = option(function)
    return function


def voice_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add options for how much is said, and how."""
    function = click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def settings_from(
    settings_file: Path | None, assignments: Sequence[str], profile: str | None, **acquisition: object
) -> Settings:
    """Settings of a file, of assignments and of what was told of the acquisition, the later ones prevailing."""
    given = [f"acquisition.{name}={value}" for name, value in acquisition.items() if value is not None]
    return read_settings(settings_file, [*assignments, *given], profile=profile)


def print_json(document: object) -> None:
    """Print a result for another program."""
    click.echo(json.dumps(document, indent=1, sort_keys=True, default=str))
