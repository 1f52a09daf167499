"""Commands that look and change nothing: ``info``, ``status``, ``compare``, ``score``, ``settings``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from phagostat.cli.ending import EXIT_DIFFERENT
from phagostat.cli.options import PATH, acquisition_options, print_json, settings_from, settings_options
from phagostat.model.errors import SettingsError, StoreError
from phagostat.settings_text import settings_table, settings_toml


@click.command()
@click.argument("source", type=PATH)
@acquisition_options
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(source: Path, as_json: bool, **options: Any) -> int:
    """Say what an acquisition holds, and what 'run' would take it for."""
    from phagostat import terminal

    settings = settings_from(**options)
    document = terminal.describe_source(terminal.open_as_told(source, settings), settings)
    if as_json:
        print_json(document)
    else:
        click.echo(terminal.description_text(document))
    return 0


@click.command()
@click.argument("output", type=PATH)
@click.option("--check", is_flag=True, help="Read every chunk and compare it with its commit.")
@acquisition_options
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(output: Path, check: bool, as_json: bool, **options: Any) -> int:
    """Say how far an output is, and what 'run' with these settings would compute again."""
    from phagostat import terminal
    from phagostat.engine.outputs import find_outputs, open_output

    roots = find_outputs(output) or [output]
    given = any(value not in (None, ()) for value in options.values())
    documents = []
    for root in roots:
        layout, manifest = open_output(root)
        settings = settings_from(**options) if given else None
        documents.append(terminal.describe_output(layout, manifest, settings, check=check))
    if as_json:
        print_json(documents)
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


@click.command()
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def compare(a: Path, b: Path, as_json: bool) -> int:
    """Say whether two outputs are equal, and where they are not (exit code 1)."""
    from phagostat import terminal
    from phagostat.store.integrity import differences, read_contents

    pairs = terminal.paired_outputs(a, b)
    lines = [f"{name}: {line}" if name else line for name, x, y in pairs for line in differences(x, y)]
    if as_json:
        hashes = [{"name": n, "a": read_contents(x).hash, "b": read_contents(y).hash} for n, x, y in pairs]
        print_json({"equal": not lines, "differences": lines, "hashes": hashes})
    else:
        for line in lines:
            click.echo(line)
        if not lines:
            for name, x, _ in pairs:
                click.echo(f"equal{f' ({name})' if name else ''}: {read_contents(x).hash}")
    return EXIT_DIFFERENT if lines else 0


@click.command()
@click.argument("output", type=PATH)
@click.argument("truth", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print all figures, scene by scene, as JSON.")
def score(output: Path, truth: Path, as_json: bool) -> int:
    """Say how far an output's numbers are from a simulation's TRUTH folder."""
    from phagostat import terminal
    from phagostat.engine.outputs import find_outputs
    from phagostat.report.finished import FinishedOutput
    from phagostat.simulate.truth import read_truth
    from phagostat.study.run import read_run
    from phagostat.study.score import score as score_of

    roots = find_outputs(output)
    if len(roots) > 1:
        raise StoreError(
            "there is more than one output", where=output, found=[r.name for r in roots], remedy="name one of them"
        )
    whole = FinishedOutput(roots[0] if roots else output)  # tables of half a run are those of an earlier one
    found = score_of(read_run(whole.path), read_truth(truth))
    if as_json:
        print_json(found.as_dict())
    else:
        click.echo(terminal.score_text(found.as_dict()))
    return 0


@click.command("settings")
@settings_options
@click.option("-o", "--output", type=PATH, help="Write to a file instead of the terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def settings_command(output: Path | None, as_json: bool, **options: Any) -> int:
    """Print every parameter with its unit, default and source, as TOML that --settings reads back."""
    settings = settings_from(**options)
    if as_json:
        print_json(settings_table(settings))
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
