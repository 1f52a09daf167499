"""The commit log: a result is done when its commit says so.

A commit covers a range of indices (frames; or the single index 0 of a step that takes a whole scene or acquisition)
of one step. It names the step and its version, and for every index its key (what the result depends on), its verdict,
the digests of the contents that were read, of each chunk that it guarantees, and of its rows.

Only the driver writes the log. The order is: retract the old commit, write chunks, check that every promised chunk is
there, commit by rename. A kill between any two of these leaves either the old commit, or none: never a commit that
promises what is not there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from phagostat.model.errors import StoreError
from phagostat.store.digests import bytes_digest, value_digest
from phagostat.store.files import remove_file, write_whole

WHOLE = 0
"""Index of the only entry of a step that takes a whole scene or acquisition."""


@dataclass(frozen=True)
class Entry:
    """The result of one step for one index.

    Parameters
    ----------
    index
        Frame number, or :data:`WHOLE`.
    key
        Digest of everything that the result depends on.
    verdict
        ``"ok"``, or why this frame has no (full) result.
    record
        Small figures, as JSON-like values; a missing figure is None.
    chunks
        Path of each guaranteed chunk, relative to the image root, and the digest of its decoded content.
    rows
        Digest of this index's rows, if the step gives any.
    row_file
        The row file that holds them, relative to the rows folder.
    inputs
        Digests of the contents that were read.
    stored
        Digest of the bytes of each guaranteed chunk's file as it was written: no part of the result.
    """

    index: int
    key: str
    verdict: str
    record: Mapping[str, Any] = field(default_factory=dict)
    chunks: Mapping[str, str] = field(default_factory=dict)
    rows: str | None = None
    row_file: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def content(self) -> str:
        """Digest of the result itself: what depends on it depends on nothing else of it."""
        return value_digest([self.verdict, dict(self.record), dict(self.chunks), self.rows])


@dataclass(frozen=True)
class Commit:
    """A committed range ``[start, stop)`` of one step; ``scene`` is None for a step of the whole acquisition.

    After a retraction some indices of the range may be gone; those in ``entries`` hold. ``row_files`` gives the digest
    of the bytes of each row file, by its path relative to the rows folder.
    """

    step: str
    version: int
    scene: int | None
    start: int
    stop: int
    entries: tuple[Entry, ...]
    row_files: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Name of the commit file, relative to the log."""
        scene = "acquisition" if self.scene is None else f"scene-{self.scene:03d}"
        return f"{self.step}/{scene}/{self.start:07d}-{self.stop:07d}.json"


class CommitLog:
    """All commits of an output, on disk and in memory.

    Parameters
    ----------
    folder
        Where the commit files lie.
    fsync
        Whether commits are forced to disk.
    """

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self.folder = folder
        self.fsync = fsync
        self.damaged: list[str] = []
        self._commits: dict[str, Commit] = {}
        self._owner: dict[tuple[str, int | None], dict[int, str]] = {}
        self._entries: dict[tuple[str, int | None], dict[int, Entry]] = {}
        for path in sorted(folder.glob("*/*/*.json")):
            commit = _read(path)
            if commit is None:
                self.damaged.append(str(path.relative_to(folder)))
            else:
                self._add(commit)

    def __iter__(self) -> Iterator[Commit]:
        return iter(sorted(self._commits.values(), key=lambda c: c.path))

    def entries(self, step: str, scene: int | None) -> dict[int, Entry]:
        """The committed entries of a step in a scene, by index."""
        return dict(sorted(self._entries.get((step, scene), {}).items()))

    def entry(self, step: str, scene: int | None, index: int = WHOLE) -> Entry | None:
        """One committed entry, or None."""
        return self._entries.get((step, scene), {}).get(index)

    def __len__(self) -> int:
        """Number of committed entries."""
        return sum(len(owner) for owner in self._owner.values())

    def digest(self, steps: Iterable[str]) -> str:
        """Digest of the keys and contents of all entries of these steps, whatever their ranges."""
        wanted = set(steps)
        found = {
            f"{commit.step}/{commit.scene}/{entry.index}": [entry.key, entry.content]
            for commit in self._commits.values()
            if commit.step in wanted
            for entry in commit.entries
        }
        return value_digest(found)

    def row_file_digest(self, step: str, scene: int | None, index: int = WHOLE) -> str | None:
        """Digest of the bytes of the row file that holds an entry's rows."""
        path = self._owner.get((step, scene), {}).get(index)
        entry = self.entry(step, scene, index)
        if path is None or entry is None or entry.row_file is None:
            return None
        return self._commits[path].row_files[entry.row_file]

    def damaged_row_files(self, folder: Path) -> dict[str, list[tuple[str, int | None, int]]]:
        """Row files that are gone or not what was promised, with the places whose rows they held."""
        damaged: dict[str, list[tuple[str, int | None, int]]] = {}
        for commit in self:
            for file, digest in commit.row_files.items():
                try:
                    whole = bytes_digest((folder / file).read_bytes()) == digest
                except OSError:
                    whole = False
                if not whole:
                    damaged[file] = [(commit.step, commit.scene, e.index) for e in commit.entries if e.row_file == file]
        return damaged

    def commit(self, commit: Commit) -> None:
        """Write a commit; its indices must not be committed.

        Raises
        ------
        StoreError
            If it cannot be written, or one of its indices is committed already.
        """
        owner = self._owner.get((commit.step, commit.scene), {})
        twice = [entry.index for entry in commit.entries if entry.index in owner]
        if twice or commit.path in self._commits:
            raise StoreError("committed twice", where=self.folder / commit.path, found=f"indices {twice}")
        self._write(commit)
        self._add(commit)

    def retract(self, step: str, scene: int | None, indices: Iterable[int]) -> None:
        """Take back the entries of these indices, before what they guarantee is written anew."""
        gone = set(indices)
        owner = self._owner.get((step, scene), {})
        for path in {owner[index] for index in gone if index in owner}:
            commit = self._commits[path]
            kept = tuple(entry for entry in commit.entries if entry.index not in gone)
            narrowed = replace(commit, entries=kept)
            if kept:
                self._write(narrowed)
            else:
                remove_file(self.folder / path)
            del self._commits[path]
            for entry in commit.entries:
                owner.pop(entry.index, None)
                self._entries[step, scene].pop(entry.index, None)
            if kept:
                self._add(narrowed)

    def remove_damaged(self) -> None:
        """Remove commit files that could not be read: their ranges may be committed anew under other names."""
        for path in self.damaged:
            remove_file(self.folder / path)
        self.damaged = []

    def _add(self, commit: Commit) -> None:
        self._commits[commit.path] = commit
        owner = self._owner.setdefault((commit.step, commit.scene), {})
        path = commit.path
        owner.update({entry.index: path for entry in commit.entries})
        self._entries.setdefault((commit.step, commit.scene), {}).update({e.index: e for e in commit.entries})

    def _write(self, commit: Commit) -> None:
        body = _plain(commit) | {"entries": [_plain(entry) for entry in commit.entries]}
        # as value_digest has it: what is written is what is digested
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        whole = b'{"commit":' + text + b',"digest":"' + bytes_digest(text).encode() + b'"}'
        write_whole(self.folder / commit.path, whole, fsync=self.fsync)


def _plain(record: Commit | Entry) -> dict[str, Any]:
    """Fields by name, as they are: ``asdict`` would copy every figure."""
    return {item.name: getattr(record, item.name) for item in fields(record)}


def _read(path: Path) -> Commit | None:
    """A commit from its file; None where the file is damaged (its range counts as not committed)."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(path.read_text("utf-8"))
        body = document["commit"]
        if document["digest"] == value_digest(body):
            entries = tuple(Entry(**entry) for entry in body.pop("entries"))
            return Commit(**body, entries=entries)
    return None
