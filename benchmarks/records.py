"""Records of a long benchmark, one file each: a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import phagostat

Record = dict[str, Any]


def package_digest() -> str:
    """What the package's code is, whether it is committed or not."""
    top = Path(phagostat.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(top.rglob("*")):
        if path.suffix in {".py", ".toml"}:
            digest.update(f"{path.relative_to(top)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Records:
    """Keeps what a benchmark has found in a folder, or in memory without one.

    A folder belongs to one set of options and one state of the package: records of others would be mixed into one
    table.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.about = json.loads(json.dumps({"package": package_digest(), **about}, default=str))
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / "about.json"
        if note.is_file():
            known = json.loads(note.read_text("utf-8"))
            other = [name for name in {*known, *self.about} if known.get(name) != self.about.get(name)]
            if other:
                pairs = "; ".join(f"{n}: {known.get(n)}, now {self.about.get(n)}" for n in sorted(other))
                raise SystemExit(f"{folder} holds records of something else ({pairs}): name another folder")
        else:
            _write(note, self.about)

    def of(self, key: str, make: Callable[[], list[Record]]) -> list[Record]:
        """Give the records of a key: read if they are there, else made and written."""
        if self.folder is None:
            return make()
        path = self.folder / f"{key}.json"
        if not path.is_file():
            _write(path, make())
        found: list[Record] = json.loads(path.read_text("utf-8"))
        return found


def read_records(folder: Path) -> tuple[Record, list[Record]]:
    """What a folder's records belong to, and all of them that there are."""
    about: Record = json.loads((folder / "about.json").read_text("utf-8"))
    found: list[Record] = []
    for path in sorted(folder.glob("*.json")):
        if path.name != "about.json":
            found += json.loads(path.read_text("utf-8"))
    return about, found


def _write(path: Path, content: Any) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1), "utf-8")
    partial.replace(path)
