"""Files that grow as microscopes' programs write them, byte by byte if need be."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.sources.czi_bytes import Block, CziBytes, metadata_xml, taken_at

HEADER_POSITIONS = slice(32 + 36 + 16, 32 + 36 + 16 + 40)
"""Bytes of a CZI's header that say where directory, metadata and attachments stand, and what lies between."""


def planes(
    *, scenes: int = 2, frames: int = 4, channels: int = 2, seed: int = 0
) -> dict[tuple[int, int, int], np.ndarray]:
    """A plane for each (scene, frame, channel)."""
    generator = np.random.default_rng(seed)
    return {
        (s, t, c): generator.integers(1, 65535, (9 + s, 11)).astype(np.uint16)
        for t in range(frames)
        for s in range(scenes)
        for c in range(channels)
    }


def czi_of(
    pixels: dict[tuple[int, int, int], np.ndarray], *, compression: int = 0, directory_first: bool = False
) -> CziBytes:
    """A CZI with these planes in their order."""
    blocks = [
        Block(
            plane,
            {"S": s, "T": t, "C": c},
            taken_at(f"2024-05-06T07:{t:02d}:{s:02d}.5Z"),
            compression=compression,
            data=_packed(plane, compression),
        )
        for (s, t, c), plane in pixels.items()
    ]
    return CziBytes(blocks, metadata_xml(), {}, directory_first)


def _packed(plane: np.ndarray, compression: int) -> bytes | None:
    if compression == 0:
        return None
    from numcodecs.zstd import compress

    if compression == 5:
        return bytes(compress(plane.tobytes(), 1))
    low, high = plane.view(np.uint8).reshape(-1, 2).T
    return b"\3\1\1" + bytes(compress(np.concatenate([low, high]).tobytes(), 1))


@dataclass
class Grower:
    """Writes a finished CZI's bytes as a program that has not finished it would.

    ``how`` is ``"appended"`` (positions in the header are written last), ``"reserved"`` (as well, with the directory's
    place kept in front and filled last) or ``"prefix"`` (the finished bytes, cut).
    """

    path: Path
    whole: bytes
    how: str
    preallocated: bool = False

    def __post_init__(self) -> None:
        body = bytearray(self.whole)
        if self.how != "prefix":
            body[HEADER_POSITIONS] = bytes(40)
        if self.how == "reserved":
            (at,) = struct.unpack_from("<q", self.whole, 32 + 36 + 16)
            assert self.whole[at : at + 15] == b"ZISRAWDIRECTORY"
            (allocated,) = struct.unpack_from("<q", self.whole, at + 16)
            body[at + 32 : at + 32 + allocated] = bytes(allocated)
        self.body = bytes(body)
        self.path.write_bytes(bytes(len(body)) if self.preallocated else b"")

    def write(self, start: int, stop: int) -> None:
        """Bytes ``start`` to ``stop`` of what is written before the end."""
        with self.path.open("r+b") as file:
            file.seek(start)
            file.write(self.body[start:stop])

    def pieces(self, cuts: list[int]) -> Iterator[int]:
        """Write up to one cut after another; give how much is there."""
        at = 0
        for cut in [*sorted({min(c, len(self.body)) for c in cuts}), len(self.body)]:
            self.write(at, cut)
            at = cut
            yield at

    def close(self) -> None:
        """Write what stands in the finished file."""
        with self.path.open("r+b") as file:
            file.write(self.whole)
