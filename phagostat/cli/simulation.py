"""The command that makes an acquisition: ``simulate``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from phagostat.cli.ending import check_stop
from phagostat.cli.options import PATH, print_json, voice_options
from phagostat.model.errors import SourceError


@click.command()
@click.argument("path", type=PATH, metavar="OUT.czi")
@click.option("--preset", type=click.Choice(["easy", "default", "hard"]), default="default", show_default=True)
@click.option("--mode", type=click.Choice(["synthetic", "semi"]), default="synthetic", show_default=True)
@click.option("--data", type=PATH, help="Folder of real images for --mode semi.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--scenes", type=click.IntRange(1, 1000), default=2, show_default=True)
@click.option("--frames", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option("--size", type=click.IntRange(128, 8192), default=512, show_default=True, help="Side of a frame, px.")
@click.option("--pixel-size-um", type=float, default=0.103, show_default=True)
@click.option("--interval-s", type=float, default=120.0, show_default=True)
@click.option("--compression", type=click.Choice(["none", "zstd"]), default="none", show_default=True)
@click.option("--pace-s", type=float, help="Write a frame pair each so many seconds, as a microscope does.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@voice_options
def simulate(path: Path, size: int, compression: str, force: bool, quiet: bool, as_json: bool, **options: Any) -> int:
    """Simulate an acquisition: a genuine CZI, and beside it the whole truth (OUT.truth/)."""
    from phagostat import terminal
    from phagostat.simulate.movie import simulate as make

    if options["mode"] == "semi" and options["data"] is None:
        raise click.UsageError("--mode semi needs the folder of real images: --data FOLDER")
    if path.exists() and not force:
        raise SourceError("a file stands there already", where=path, remedy="choose another name, or add --force")
    with _set_aside(path), terminal.ProgressLine(path.name, quiet=quiet, check=check_stop) as progress:
        report = make(
            path,
            shape_yx=(size, size),
            compression=None if compression == "none" else compression,
            progress=progress.simple,
            **options,
        )
    document = terminal.describe_simulation(path, report)
    if as_json:
        print_json(document)
    elif not quiet:
        click.echo(f"{path}: written, truth in {document['truth']}")
    return 0


@contextlib.contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Make room for a simulation and its truth; what was there goes once the new one is there, and else comes back."""
    truth = path.with_suffix(".truth")
    ours = [path] if path.is_file() else []
    if (truth / "truth.json").is_file():  # a folder of ours and nothing else
        ours.append(truth)
    aside = {there: there.with_name(f".{there.name}.old") for there in ours}
    for there, old in aside.items():
        there.rename(old)
    try:
        yield
    except BaseException:
        for there, old in aside.items():
            old.rename(there)
        raise
    for old in aside.values():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
