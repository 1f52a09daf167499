"""The seal of a complete, checked output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from phagostat.store.commits import CommitLog
from phagostat.store.files import remove_file, write_whole
from phagostat.store.layout import Layout


@dataclass(frozen=True)
class Seal:
    """That everything is there: digest of the commit log, and of each final table."""

    log: str
    tables: Mapping[str, str]


def read_seal(layout: Layout) -> Seal | None:
    """The seal, or None while the output is not complete."""
    try:
        return Seal(**json.loads(layout.seal.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_seal(layout: Layout, seal: Seal) -> None:
    """Seal an output."""
    write_whole(layout.seal, (json.dumps(asdict(seal), indent=1, sort_keys=True) + "\n").encode())


def remove_seal(layout: Layout) -> None:
    """Break the seal, before anything under it changes; final tables go with it, and the report made from them."""
    remove_file(layout.seal)
    remove_file(layout.report)
    for table in layout.tables.glob("*.parquet"):
        remove_file(table)


def sweep_orphans(layout: Layout, log: CommitLog) -> int:
    """Remove chunks and row files that no commit promises; give their number."""
    promised = {chunk for commit in log for entry in commit.entries for chunk in entry.chunks}
    kept = {file for commit in log for file in commit.row_files}
    removed = 0
    for chunk in layout.images.glob("**/c/**/*"):
        if chunk.is_file() and str(chunk.relative_to(layout.images)) not in promised:
            remove_file(chunk)
            removed += 1
    for file in layout.rows.glob("**/*.parquet"):
        if str(file.relative_to(layout.rows)) not in kept:
            remove_file(file)
            removed += 1
    return removed
