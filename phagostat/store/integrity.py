"""Whether what the commits promise is there, and whether two outputs are equal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import zarr

from phagostat.model.errors import StoreError
from phagostat.store.arrays import PlaneReader, chunk_path, read_plane, split_chunk_path
from phagostat.store.digests import array_digest, bytes_digest, value_digest
from phagostat.store.layout import Layout
from phagostat.store.tables import table_digest


def missing_chunks(root: Path, chunks: Iterable[str]) -> list[str]:
    """Those of the promised chunks that are not there as files."""
    return [chunk for chunk in chunks if not (root / chunk).is_file()]


def damaged_chunks(root: Path, chunks: Mapping[str, str], *, stored: Mapping[str, str] | None = None) -> list[str]:
    """Those of the promised chunks that are gone or whose decoded content has another digest.

    Parameters
    ----------
    root
        Image root.
    chunks
        Path of each chunk, relative to the root, and the digest of its decoded content.
    stored
        Digests of the bytes that were written. A chunk whose file still has these bytes is whole and is not decoded,
        which takes a tenth of the time; any other is decoded (an equal plane may have been compressed anew).
    """
    bad = []
    readers: dict[str, PlaneReader] = {}
    for chunk, digest in chunks.items():
        if stored is not None and chunk in stored and _file_digest(root / chunk) == stored[chunk]:
            continue
        path, index = split_chunk_path(chunk)
        try:
            if path not in readers:
                readers[path] = PlaneReader(root, path)
            whole = array_digest(readers[path].read(index)) == digest
        except StoreError:
            whole = False
        if not whole:
            bad.append(chunk)
    return bad


def _file_digest(path: Path) -> str | None:
    try:
        return bytes_digest(path.read_bytes())
    except OSError:
        return None


@dataclass(frozen=True)
class Contents:
    """Digests of everything in an output that is a result: array metadata, chunks, tables."""

    arrays: Mapping[str, str] = field(default_factory=dict)
    chunks: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """One hash of it all: equal for equal results, however they were computed."""
        return value_digest([dict(self.arrays), dict(self.chunks), dict(self.tables)])


def read_contents(layout: Layout) -> Contents:
    """Digests of an output's array metadata, decoded chunks and final tables, read from disk.

    Raises
    ------
    StoreError
        If a chunk cannot be decoded.
    """
    arrays: dict[str, str] = {}
    chunks: dict[str, str] = {}
    for path, document in _nodes(layout.images):
        arrays[path] = value_digest(document)
        if document.get("node_type") == "array":
            array = zarr.open_array(layout.images / path, mode="r", zarr_format=3)
            reader = PlaneReader(layout.images, path)
            for index in np.ndindex(*array.shape[:-2]):
                chunk = chunk_path(path, index)
                if (layout.images / chunk).is_file():
                    chunks[chunk] = array_digest(reader.read(index))
    tables = {
        file.stem: table_digest(pq.read_table(file)) for file in sorted(layout.tables.glob("*.parquet"))
    }  # CSV exports repeat them
    return Contents(arrays, chunks, tables)


def differences(a: Layout, b: Layout) -> list[str]:
    """Where two outputs differ, one line each; an empty list says that they are equal.

    Raises
    ------
    StoreError
        If a chunk cannot be decoded.
    """
    left, right = read_contents(a), read_contents(b)
    lines = []
    for kind in ("arrays", "chunks", "tables"):
        ours, theirs = getattr(left, kind), getattr(right, kind)
        for name in sorted({*ours, *theirs}):
            if name not in theirs:
                lines.append(f"{kind[:-1]} {name}: only in {a.root}")
            elif name not in ours:
                lines.append(f"{kind[:-1]} {name}: only in {b.root}")
            elif ours[name] != theirs[name]:
                lines.append(f"{kind[:-1]} {name}: {_detail(kind, name, a, b)}")
    return lines


def _detail(kind: str, name: str, a: Layout, b: Layout) -> str:
    if kind == "chunks":
        path, index = split_chunk_path(name)
        x, y = (np.asarray(read_plane(side.images, path, index)) for side in (a, b))
        if x.shape != y.shape:
            return f"shapes {x.shape} and {y.shape}"
        apart = x.astype(np.int64) - y.astype(np.int64)
        return f"{np.count_nonzero(apart)} of {x.size} pixels differ, by at most {np.abs(apart).max()}"
    if kind == "tables":
        x, y = (pq.read_table(side.tables / f"{name}.parquet") for side in (a, b))
        if x.column_names != y.column_names:
            return f"columns differ: {sorted({*x.column_names} ^ {*y.column_names})}"
        if x.num_rows != y.num_rows:
            return f"{x.num_rows} and {y.num_rows} rows"
        columns = [c for c in x.column_names if table_digest(x.select([c])) != table_digest(y.select([c]))]
        return f"values differ in {', '.join(columns)}"
    return "metadata differ"


def _nodes(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every group and array below a root with its metadata, in sorted order, without a look at chunks."""
    queue = [root]
    while queue:
        folder = queue.pop()
        file = folder / "zarr.json"
        if not file.is_file():
            continue
        document = json.loads(file.read_text("utf-8"))
        yield str(folder.relative_to(root)), document
        if document.get("node_type") == "group":
            queue.extend(sorted((child for child in folder.iterdir() if child.is_dir()), reverse=True))
