"""The seal of a complete, checked output."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

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
    orphans = [
        *(layout.images / file for file in _files(layout.images) if "/c/" in file and file not in promised),
        *(layout.rows / file for file in _files(layout.rows) if file.endswith(".parquet") and file not in kept),
    ]
    for orphan in orphans:
        remove_file(orphan)
    return len(orphans)


def _files(root: Path) -> Iterator[str]:
    """Every file below a folder, as its path relative to it; one look at each folder, since chunks are many."""
    top = len(str(root)) + 1
    for parent, _, names in os.walk(root):
        below = Path(parent).as_posix()[top:]
        yield from (f"{below}/{name}" if below else name for name in names)
