"""Rows per object: one Parquet file a committed range, named after its content and checksummed in its commit."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from phagostat.model.errors import StoreError
from phagostat.store.digests import bytes_digest
from phagostat.store.files import write_whole


def write_row_file(
    folder: Path, stem: str, columns: Mapping[str, NDArray[Any]], *, fsync: bool = False
) -> tuple[str, str]:
    """Write columns as a Parquet file ``<stem>.<digest>.parquet``; give its relative path and the digest of its bytes.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    # figures that hardly repeat, in small files that are read once: no dictionaries, no statistics, a fast codec
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    data = parquet_bytes(table, compression="lz4", use_dictionary=False, write_statistics=False)
    digest = bytes_digest(data)
    path = f"{stem}.{digest[:16]}.parquet"
    write_whole(folder / path, data, fsync=fsync)
    return path, digest


def read_row_file(folder: Path, path: str, digest: str) -> dict[str, NDArray[Any]]:
    """Columns of a row file.

    Raises
    ------
    StoreError
        If the file is gone or is not what its commit promised.
    """
    try:
        data = (folder / path).read_bytes()
    except OSError as error:
        raise StoreError("a row file is gone", where=folder / path, found=error.strerror) from None
    if bytes_digest(data) != digest:
        raise StoreError("a row file is damaged", where=folder / path, found=bytes_digest(data))
    table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)  # read_table would plan a data set's scan
    return {name: np.asarray(table.column(name).to_numpy()) for name in table.column_names}


def parquet_bytes(table: pa.Table, *, compression: str = "zstd", **options: Any) -> bytes:
    """A table as Parquet; ``options`` are those of :func:`pyarrow.parquet.write_table`."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression=compression, **options)
    return sink.getvalue()
