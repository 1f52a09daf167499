"""CZI files written byte by byte, for what no writing library offers: times, attachments, pyramids, odd orders."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Block:
    """One sub-block: pixels (y, x), start index per dimension letter, metadata XML."""

    pixels: np.ndarray
    start: dict[str, int]
    metadata: bytes = b""
    compression: int = 0
    data: bytes | None = None
    covers_yx: tuple[int, int] | None = None
    pixel_type: int | None = None
    file_part: int = 0


@dataclass
class CziBytes:
    """Contents of a CZI and where its parts stand."""

    blocks: list[Block]
    xml: bytes = b"<ImageDocument/>"
    attachments: dict[str, bytes] = field(default_factory=dict)
    directory_first: bool = False

    def write(self, path: Path) -> Path:
        path.write_bytes(self.build())
        return path

    def build(self) -> bytes:
        entries_size = sum(len(_entry(block, 0)) for block in self.blocks)
        directory_size = _padded(128 + entries_size)
        blocks = [_subblock_body(block) for block in self.blocks]
        at = 544
        directory_at = at if self.directory_first else 0
        if self.directory_first:
            at += 32 + directory_size
        positions = []
        for body in blocks:
            positions.append(at)
            at += 32 + _padded(len(body))
        metadata_at, metadata = at, struct.pack("<ii248x", len(self.xml), 0) + self.xml
        at += 32 + _padded(len(metadata))
        attachment_positions = []
        bodies = [
            struct.pack("<i12x", len(content)) + _attachment_entry(name, 0) + bytes(112) + content
            for name, content in self.attachments.items()
        ]
        for body in bodies:
            attachment_positions.append(at)
            at += 32 + _padded(len(body))
        attachment_directory_at = 0
        attachment_directory = b""
        if self.attachments:
            attachment_directory_at = at
            attachment_directory = struct.pack("<i252x", len(bodies)) + b"".join(
                _attachment_entry(name, position)
                for name, position in zip(self.attachments, attachment_positions, strict=True)
            )
            at += 32 + _padded(len(attachment_directory))
        if not self.directory_first:
            directory_at = at
        directory = struct.pack("<i124x", len(self.blocks)) + b"".join(
            _entry(block, position) for block, position in zip(self.blocks, positions, strict=True)
        )
        header = struct.pack(
            "<iiii16s16siqqiq",
            1,
            0,
            0,
            0,
            b"p" * 16,
            b"q" * 16,
            0,
            directory_at,
            metadata_at,
            0,
            attachment_directory_at,
        )
        out = _segment(b"ZISRAWFILE", header, allocated=512)
        if self.directory_first:
            out += _segment(b"ZISRAWDIRECTORY", directory)
        for block, position, body in zip(self.blocks, positions, blocks, strict=True):
            assert len(out) == position
            entry = _entry(block, position)
            out += _segment(b"ZISRAWSUBBLOCK", body[:16] + entry + body[16 + len(entry) :])
        out += _segment(b"ZISRAWMETADATA", metadata)
        for body in bodies:
            out += _segment(b"ZISRAWATTACH", body)
        if self.attachments:
            out += _segment(b"ZISRAWATTDIR", attachment_directory)
        if not self.directory_first:
            out += _segment(b"ZISRAWDIRECTORY", directory)
        return out


def metadata_xml(
    *,
    size_um: float | tuple[float, float] | None = 0.103,
    channels: str = '<Channel Id="Channel:0" Name="AF568"/><Channel Id="Channel:1" Name="PhC"/>',
    t: str = "",
    scenes: str = "",
) -> bytes:
    """Metadata XML with what the reader looks at."""
    x, y = size_um if isinstance(size_um, tuple) else (size_um, size_um)
    scaling = "".join(
        f'<Distance Id="{axis}"><Value>{value * 1e-6!r}</Value></Distance>'
        for axis, value in (("X", x), ("Y", y))
        if value is not None
    )
    return (
        f"<ImageDocument><Metadata><Information><Image><Dimensions><Channels>{channels}</Channels><T>{t}</T>"
        f"<S><Scenes>{scenes}</Scenes></S></Dimensions></Image></Information>"
        f"<Scaling><Items>{scaling}</Items></Scaling></Metadata></ImageDocument>"
    ).encode()


def time_stamps(seconds: list[float]) -> bytes:
    """Content of a time stamp attachment."""
    return struct.pack(f"<ii{len(seconds)}d", 8 * len(seconds), len(seconds), *seconds)


def taken_at(iso: str) -> bytes:
    """Sub-block metadata with an acquisition time."""
    return f"<METADATA><Tags><AcquisitionTime>{iso}</AcquisitionTime></Tags></METADATA>".encode()


def _entry(block: Block, position: int) -> bytes:
    height, width = block.pixels.shape
    covers = block.covers_yx or (height, width)
    pixel_type = {1: 0, 2: 1}[block.pixels.dtype.itemsize] if block.pixel_type is None else block.pixel_type
    dimensions = [
        ("X", block.start.get("X", 0), covers[1], width),
        ("Y", block.start.get("Y", 0), covers[0], height),
        *((letter, start, 1, 1) for letter, start in block.start.items() if letter not in "XY"),
    ]
    return struct.pack(
        "<2siqiiB5si", b"DV", pixel_type, position, block.file_part, block.compression, 0, b"", len(dimensions)
    ) + b"".join(
        struct.pack("<4siifi", letter.encode(), start, size, 0.0, stored) for letter, start, size, stored in dimensions
    )


def _subblock_body(block: Block) -> bytes:
    data = block.pixels.tobytes() if block.data is None else block.data
    head = struct.pack("<iiq", len(block.metadata), 0, len(data)) + _entry(block, 0)
    return head.ljust(256, b"\0") + block.metadata + data


def _attachment_entry(name: str, position: int) -> bytes:
    return struct.pack("<2s10xqi16s8s80s", b"A1", position, 0, b"g" * 16, b"CZTIMS", name.encode())


def _padded(n: int) -> int:
    return -(-n // 32) * 32


def _segment(name: bytes, body: bytes, *, allocated: int | None = None) -> bytes:
    allocated = _padded(len(body)) if allocated is None else allocated
    return struct.pack("<16sqq", name, allocated, len(body)) + body.ljust(allocated, b"\0")


@contextmanager
def aicspylibczi_file(path: Path) -> Iterator[Any]:
    """Open a CZI by aicspylibczi, which would leave it open."""
    from aicspylibczi import CziFile

    with path.open("rb") as file:
        yield CziFile(file)
