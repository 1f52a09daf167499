"""Final tables: written once, at seal, with rows sorted by key; never a provisional value in them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from phagostat.store.files import write_whole
from phagostat.store.rows import parquet_bytes


def table_from_records(records: Sequence[Mapping[str, Any]], columns: Mapping[str, pa.DataType]) -> pa.Table:
    """A table with the given columns and types; a missing value is null (for floats NaN)."""
    arrays = []
    for name, kind in columns.items():
        values = [record.get(name) for record in records]
        if pa.types.is_floating(kind):
            values = [float("nan") if value is None else value for value in values]
        arrays.append(pa.array(values, type=kind))
    return pa.table(arrays, names=list(columns))


def table_from_columns(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """A table from numpy columns."""
    return pa.table({name: pa.array(column) for name, column in columns.items()})


def sort_table(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Rows in order of the keys."""
    return table.sort_by([(key, "ascending") for key in keys]) if table.num_rows else table


def write_table(folder: Path, name: str, table: pa.Table) -> str:
    """Write ``<name>.parquet``; give the digest of the table's contents."""
    write_whole(folder / f"{name}.parquet", parquet_bytes(table))
    return table_digest(table)


def read_table(folder: Path, name: str) -> pa.Table:
    """Read a final table."""
    return pq.read_table(folder / f"{name}.parquet")


def table_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Digests of those of the named final tables that are there and can be read."""
    found = {}
    for name in names:
        with contextlib.suppress(OSError, pa.ArrowException):
            found[name] = table_digest(read_table(folder, name))
    return found


def table_digest(table: pa.Table) -> str:
    """XXH3-128 (hex) of column names, types and values; the same however the file was written."""
    digest = xxhash.xxh3_128()
    for name in table.column_names:
        column = table.column(name)
        digest.update(f"{name}:{column.type}:{len(column)}".encode())
        digest.update(np.asarray(column.is_null().to_numpy()).tobytes())
        if pa.types.is_string(column.type):
            digest.update(json.dumps(column.to_pylist()).encode())
        else:
            filled = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
            digest.update(np.ascontiguousarray(filled.to_numpy()).tobytes())
    return str(digest.hexdigest())
