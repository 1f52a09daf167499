"""Digests of contents: the same for the same values, wherever and however they are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode  # made once: it is asked thousands of times


def array_digest(array: NDArray[Any]) -> str:
    """XXH3-128 (hex) of an array's dtype, shape and values in C order."""
    digest = xxhash.xxh3_128(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return str(digest.hexdigest())


def bytes_digest(data: bytes) -> str:
    """XXH3-128 (hex) of bytes."""
    return str(xxhash.xxh3_128_hexdigest(data))


def value_digest(value: object) -> str:
    """XXH3-128 (hex) of a JSON-like value; mappings are taken in sorted order, NaN is a value."""
    return bytes_digest(_encode(value).encode())


def rows_digest(rows: NDArray[Any] | Mapping[str, NDArray[Any]]) -> str:
    """XXH3-128 (hex) of a structured array or of columns by name: names, types and values in order."""
    names = rows.dtype.names or () if isinstance(rows, np.ndarray) else tuple(rows)
    digest = xxhash.xxh3_128()
    for name in names:
        column = np.ascontiguousarray(rows[name])
        if column.dtype.kind in "OU":
            digest.update(f"{name}words{column.shape}".encode())
            digest.update(json.dumps([str(value) for value in column.ravel()]).encode())
        else:
            digest.update(f"{name}{column.dtype.str}{column.shape}".encode())
            digest.update(column.tobytes())
    return str(digest.hexdigest())
