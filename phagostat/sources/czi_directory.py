"""The directory of a CZI: all its sub-blocks, as columns."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.model.errors import SourceError
from phagostat.sources.czi_segments import (
    DAMAGED,
    DIMENSION_BYTES,
    DIRECTORY_ID,
    DIRECTORY_PREFIX_BYTES,
    ENTRY_PREFIX_BYTES,
    MAX_DIMENSIONS,
    FileHeader,
    expect_segment,
    read_bytes,
    read_subblock,
)


@dataclass(frozen=True)
class Directory:
    """All sub-blocks of a file, one array element each, in directory order.

    Parameters
    ----------
    position, pixel_type, compression, file_part
        int64 arrays of shape (n,).
    start, size
        Per dimension letter, int64 arrays of shape (n,): start index and extent (pixels for X and Y).
    has
        Per dimension letter, bool arrays of shape (n,): whether the sub-block has this dimension.
    stored_y, stored_x
        Stored height and width in pixels.
    raw
        The segment's entries as bytes.
    """

    position: NDArray[np.int64]
    pixel_type: NDArray[np.int64]
    compression: NDArray[np.int64]
    file_part: NDArray[np.int64]
    start: dict[str, NDArray[np.int64]]
    size: dict[str, NDArray[np.int64]]
    has: dict[str, NDArray[np.bool_]]
    stored_y: NDArray[np.int64]
    stored_x: NDArray[np.int64]
    raw: bytes

    def __len__(self) -> int:
        """Number of sub-blocks."""
        return len(self.position)

    @property
    def is_pyramid(self) -> NDArray[np.bool_]:
        """Which sub-blocks are reduced copies (stored smaller than the area they cover)."""
        pyramid: NDArray[np.bool_] = (self.stored_y != self.size["Y"]) | (self.stored_x != self.size["X"])
        return pyramid


def read_directory(fd: int, header: FileHeader, *, path: object) -> Directory:
    """Read the directory of a closed CZI.

    Raises
    ------
    SourceError
        If there is none yet (the file is still being written, or writing was interrupted), or it does not parse.
    """
    if header.directory_position <= 0:
        raise SourceError(
            "the CZI has no directory: it is still being written, or writing was interrupted",
            where=path,
            remedy="wait until the acquisition ends, or open and save the file again in ZEN",
        )
    segment = expect_segment(fd, header.directory_position, DIRECTORY_ID, what="directory", path=path)
    (count,) = struct.unpack("<i", read_bytes(fd, 4, segment.body, path=path))
    available = min(segment.used, os.fstat(fd).st_size - segment.body) - DIRECTORY_PREFIX_BYTES
    if not 0 <= count * ENTRY_PREFIX_BYTES <= max(available, 0):
        raise SourceError(
            "the CZI's directory cannot hold as many entries as it says",
            where=path,
            found=f"{count} entries in {available} bytes",
            remedy=DAMAGED,
        )
    raw = read_bytes(fd, available, segment.body + DIRECTORY_PREFIX_BYTES, path=path) if count else b""
    return parse_directory(raw, count, path=path)


def parse_directory(raw: bytes, count: int, *, path: object) -> Directory:
    """Parse ``count`` directory entries that stand one behind the other in ``raw``."""
    offsets = np.empty(count, dtype=np.int64)
    n_dimensions = np.empty(count, dtype=np.int64)
    at = 0
    dimension_count = struct.Struct("<i")
    for k in range(count):
        if at + ENTRY_PREFIX_BYTES > len(raw) or raw[at : at + 2] != b"DV":
            raise SourceError("a CZI directory entry does not parse", where=path, found=f"entry {k}", remedy=DAMAGED)
        (n,) = dimension_count.unpack_from(raw, at + 28)
        if not 0 <= n <= MAX_DIMENSIONS:
            raise SourceError(
                "a CZI directory entry does not parse", where=path, found=f"entry {k}: {n} dimensions", remedy=DAMAGED
            )
        offsets[k], n_dimensions[k] = at, n
        at += ENTRY_PREFIX_BYTES + DIMENSION_BYTES * n
    if at > len(raw):
        raise SourceError("the CZI's directory is cut off", where=path, found=f"{len(raw)} bytes", remedy=DAMAGED)
    data = np.frombuffer(raw, dtype=np.uint8)

    def gather(where: NDArray[np.int64], dtype: str) -> NDArray[Any]:
        width = np.dtype(dtype).itemsize
        picked = data[where[:, None] + np.arange(width)]
        return np.ascontiguousarray(picked).view(dtype)[:, 0]

    def column(offset: int, dtype: str) -> NDArray[np.int64]:
        return gather(offsets + offset, dtype).astype(np.int64)

    start: dict[str, NDArray[np.int64]] = {}
    size: dict[str, NDArray[np.int64]] = {}
    stored: dict[str, NDArray[np.int64]] = {}
    has: dict[str, NDArray[np.bool_]] = {}
    for k in range(int(n_dimensions.max(initial=0))):
        rows = np.flatnonzero(n_dimensions > k)
        base = offsets[rows] + ENTRY_PREFIX_BYTES + DIMENSION_BYTES * k
        letters = gather(base, "S4")
        for letter in np.unique(letters):
            name = bytes(letter).decode("latin-1")
            for table in (start, size, stored):
                table.setdefault(name, np.zeros(count, dtype=np.int64))
            has.setdefault(name, np.zeros(count, dtype=np.bool_))
            chosen = letters == letter
            target, source = rows[chosen], base[chosen]
            start[name][target] = gather(source + 4, "<i4")
            size[name][target] = gather(source + 8, "<i4")
            stored[name][target] = gather(source + 16, "<i4")
            has[name][target] = True
    for name in ("Y", "X"):
        if count and (name not in has or not has[name].all()):
            raise SourceError(f"a CZI sub-block has no {name} dimension", where=path, remedy=DAMAGED)
        for table in (start, size, stored):
            table.setdefault(name, np.zeros(count, dtype=np.int64))
    # a stored size of 0 means "as large as the area it covers"
    stored_y = np.where(stored["Y"] == 0, size["Y"], stored["Y"])
    stored_x = np.where(stored["X"] == 0, size["X"], stored["X"])
    return Directory(
        column(6, "<i8"),
        column(2, "<i4"),
        column(18, "<i4"),
        column(14, "<i4"),
        start,
        size,
        has,
        stored_y,
        stored_x,
        raw[:at],
    )


def rows_inside(fd: int, directory: Directory, file_size: int, *, path: object) -> NDArray[np.bool_]:
    """Tell which sub-blocks lie whole inside the file, as a bool array of shape (n,).

    Notes
    -----
    Sub-blocks do not overlap, so one that begins before another that begins inside the file ends inside it. Only the
    last one that begins inside needs a look at its own header: one read, however long the movie.
    """
    inside = (directory.position >= 0) & (directory.position < file_size)
    if inside.any():
        last = int(directory.position[inside].max())
        try:
            whole = read_subblock(fd, last, path=path).data_end <= file_size
        except SourceError:
            whole = False
        inside &= whole | (directory.position != last)
    return inside
