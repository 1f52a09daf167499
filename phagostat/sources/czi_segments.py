"""The segments that a CZI file is made of, read without trusting a single byte of them.

A CZI is a sequence of segments, each with a 32-byte header (id, bytes allocated, bytes used; the next one begins at
``position + 32 + allocated``), in any order: the directory may stand before the first sub-block or after the last.
The file header says where directory, metadata and attachment directory begin. Everything is little-endian.

Every function takes an open file descriptor and reads by offset, so that it may be shared by threads. Whatever does
not parse raises :class:`~phagostat.model.errors.SourceError`; nothing here loops longer than the file is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from phagostat.model.errors import SourceError

FILE_ID: Final = b"ZISRAWFILE"
SUBBLOCK_ID: Final = b"ZISRAWSUBBLOCK"
DIRECTORY_ID: Final = b"ZISRAWDIRECTORY"
METADATA_ID: Final = b"ZISRAWMETADATA"
ATTACHMENT_ID: Final = b"ZISRAWATTACH"
ATTACHMENT_DIRECTORY_ID: Final = b"ZISRAWATTDIR"
DELETED_ID: Final = b"DELETED"

SEGMENT_HEADER_BYTES: Final = 32
FILE_HEADER_BYTES: Final = SEGMENT_HEADER_BYTES + 80
DIRECTORY_PREFIX_BYTES: Final = 128
METADATA_PREFIX_BYTES: Final = 256
ATTACHMENT_PREFIX_BYTES: Final = 256
ATTACHMENT_ENTRY_BYTES: Final = 128
SUBBLOCK_PREFIX_BYTES: Final = 256
ENTRY_PREFIX_BYTES: Final = 32
DIMENSION_BYTES: Final = 20
MAX_DIMENSIONS: Final = 40
"""The format's own limit on the dimension entries of one sub-block."""

PIXEL_TYPES: Final = {
    0: "Gray8",
    1: "Gray16",
    2: "Gray32Float",
    3: "Bgr24",
    4: "Bgr48",
    8: "Bgr96Float",
    9: "Bgra32",
    10: "Gray64ComplexFloat",
    11: "Bgr192ComplexFloat",
    12: "Gray32",
    13: "Gray64",
}
COMPRESSIONS: Final = {0: "uncompressed", 1: "JPEG", 2: "LZW", 4: "JPEG XR", 5: "zstd", 6: "zstd (packed)"}

_SEGMENT = struct.Struct("<16sqq")
_FILE_HEADER = struct.Struct("<iiii16s16siqqiq")
_SUBBLOCK = struct.Struct("<iiq")
_ENTRY = struct.Struct("<2siqiiB5si")
_DIMENSION = struct.Struct("<4siifi")
_ATTACHMENT_ENTRY = struct.Struct("<2s10sqi16s8s80s")

DAMAGED: Final = "copy the file again from the microscope's computer"


@dataclass(frozen=True)
class Segment:
    """Header of one segment: its id, where it begins, bytes allocated and used after the 32-byte header."""

    id: bytes
    position: int
    allocated: int
    used: int

    @property
    def body(self) -> int:
        """Offset of the first byte after the header."""
        return self.position + SEGMENT_HEADER_BYTES

    @property
    def end(self) -> int:
        """Offset of the next segment."""
        return self.body + self.allocated


@dataclass(frozen=True)
class FileHeader:
    """What the first segment says: offsets of directory, metadata and attachment directory (0: not there yet)."""

    version: tuple[int, int]
    file_part: int
    directory_position: int
    metadata_position: int
    attachment_directory_position: int
    raw: bytes


@dataclass(frozen=True)
class Entry:
    """One sub-block as a directory entry, or the sub-block itself, describes it.

    ``starts`` and ``sizes`` are per dimension letter; ``stored`` is (height, width) of the stored pixels, which is
    smaller than ``sizes`` where the sub-block is a pyramid level.
    """

    pixel_type: int
    position: int
    compression: int
    file_part: int
    starts: dict[str, int]
    sizes: dict[str, int]
    stored_yx: tuple[int, int]
    n_bytes: int


@dataclass(frozen=True)
class SubBlock:
    """A sub-block's own header: where its metadata and pixels lie in the file, and its entry."""

    segment: Segment
    entry: Entry
    metadata_offset: int
    metadata_bytes: int
    data_offset: int
    data_bytes: int

    @property
    def data_end(self) -> int:
        """Offset after the last byte of pixels."""
        return self.data_offset + self.data_bytes


@dataclass(frozen=True)
class Attachment:
    """One entry of the attachment directory."""

    name: str
    content_type: str
    position: int


def read_bytes(fd: int, count: int, offset: int, *, path: object) -> bytes:
    """Read exactly ``count`` bytes at ``offset``.

    Raises
    ------
    SourceError
        If the file ends before.
    """
    if offset < 0 or count < 0:
        raise SourceError("not a sound CZI", where=path, found=f"{count} bytes at offset {offset}", remedy=DAMAGED)
    pieces = []
    missing, at = count, offset
    while missing:
        try:
            piece = os.pread(fd, missing, at)
        except (OSError, OverflowError) as error:
            raise SourceError("cannot be read", where=path, found=error, remedy=DAMAGED) from error
        if not piece:
            raise SourceError(
                "the CZI ends in the middle of a segment",
                where=path,
                found=f"{count} bytes expected at offset {offset}, {count - missing} there",
                remedy=DAMAGED,
            )
        pieces.append(piece)
        missing -= len(piece)
        at += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_into(fd: int, target: memoryview, offset: int, *, path: object) -> None:
    """Fill ``target`` (bytes) from ``offset`` on, without an intermediate copy.

    Raises
    ------
    SourceError
        If the file ends before.
    """
    at = 0
    while at < len(target):
        try:
            count = os.preadv(fd, [target[at:]], offset + at)
        except (OSError, OverflowError) as error:
            raise SourceError("cannot be read", where=path, found=error, remedy=DAMAGED) from error
        if not count:
            raise SourceError(
                "the CZI ends in the middle of a plane",
                where=path,
                found=f"{at} of {len(target)} bytes at offset {offset}",
                remedy=DAMAGED,
            )
        at += count


def read_segment(fd: int, position: int, *, path: object) -> Segment:
    """Read the header of the segment at ``position`` (bytes from the beginning of the file)."""
    name, allocated, used = _SEGMENT.unpack(read_bytes(fd, SEGMENT_HEADER_BYTES, position, path=path))
    name = name.rstrip(b"\0")
    if not (name.startswith(b"ZISRAW") or name == DELETED_ID) or allocated < 0 or used < 0:
        raise SourceError(
            "the CZI has no sound segment where one should begin",
            where=path,
            found=f"{name!r} at offset {position}",
            remedy=DAMAGED,
        )
    # writers may leave `used` 0, which says "all that is allocated"
    return Segment(name, position, max(allocated, used), used or allocated)


def iterate_segments(fd: int, *, start: int = 0, path: object) -> Iterator[Segment]:
    """Give the segments from ``start`` on, in file order, as far as their headers are whole."""
    size = os.fstat(fd).st_size
    position = start
    while position + SEGMENT_HEADER_BYTES <= size:
        segment = read_segment(fd, position, path=path)
        yield segment
        position = segment.end


def expect_segment(fd: int, position: int, expected: bytes, *, what: str, path: object) -> Segment:
    """Read the header of the segment at ``position``, which the file header says is ``what``."""
    size = os.fstat(fd).st_size
    if position + SEGMENT_HEADER_BYTES > size:
        raise SourceError(
            f"the CZI is truncated: its {what} should be at offset {position}",
            where=path,
            found=f"{size} bytes in all",
            remedy=DAMAGED,
        )
    segment = read_segment(fd, position, path=path)
    if segment.id != expected:
        raise SourceError(
            f"the CZI has no {what} where its header says",
            where=path,
            found=f"{segment.id!r} at offset {position}",
            remedy=DAMAGED,
        )
    return segment


def read_file_header(fd: int, *, path: object) -> FileHeader:
    """Read the first segment of a CZI."""
    size = os.fstat(fd).st_size
    if size < FILE_HEADER_BYTES:
        raise SourceError("too short to be a CZI", where=path, found=f"{size} bytes", remedy=DAMAGED)
    raw = read_bytes(fd, FILE_HEADER_BYTES, 0, path=path)
    if raw[:16].rstrip(b"\0") != FILE_ID:
        raise SourceError(
            "not a CZI", where=path, found=f"first bytes {raw[:10]!r}", remedy="give a file that ZEN wrote"
        )
    major, minor, _, _, _, _, part, directory, metadata, _, attachments = _FILE_HEADER.unpack_from(
        raw, SEGMENT_HEADER_BYTES
    )
    return FileHeader((major, minor), part, directory, metadata, attachments, raw)


def parse_entry(buffer: bytes, offset: int = 0, *, path: object) -> Entry:
    """Parse one directory entry (schema DV) that begins at ``offset`` of ``buffer``."""
    if len(buffer) < offset + ENTRY_PREFIX_BYTES:
        raise SourceError("a CZI directory entry is cut off", where=path, remedy=DAMAGED)
    schema, pixel_type, position, part, compression, _, _, n_dimensions = _ENTRY.unpack_from(buffer, offset)
    n_bytes = ENTRY_PREFIX_BYTES + DIMENSION_BYTES * n_dimensions
    if schema != b"DV" or not 0 <= n_dimensions <= MAX_DIMENSIONS or len(buffer) < offset + n_bytes:
        raise SourceError(
            "a CZI directory entry does not parse",
            where=path,
            found=f"schema {schema!r} with {n_dimensions} dimensions",
            remedy=DAMAGED,
        )
    starts, sizes, stored = {}, {}, {"Y": 0, "X": 0}
    for k in range(n_dimensions):
        letter, start, size, _, stored_size = _DIMENSION.unpack_from(
            buffer, offset + ENTRY_PREFIX_BYTES + DIMENSION_BYTES * k
        )
        name = letter.rstrip(b"\0").decode("latin-1")
        starts[name], sizes[name] = start, size
        if name in stored:
            stored[name] = stored_size or size
    return Entry(pixel_type, position, compression, part, starts, sizes, (stored["Y"], stored["X"]), n_bytes)


def read_subblock(fd: int, position: int, *, path: object) -> SubBlock:
    """Read the header of the sub-block at ``position``; its pixels are not touched."""
    size = os.fstat(fd).st_size
    head = read_bytes(
        fd,
        min(SEGMENT_HEADER_BYTES + SUBBLOCK_PREFIX_BYTES, max(size - position, SEGMENT_HEADER_BYTES + 48)),
        position,
        path=path,
    )
    name, allocated, used = _SEGMENT.unpack_from(head)
    if name.rstrip(b"\0") != SUBBLOCK_ID:
        raise SourceError(
            "the CZI has no sub-block where its directory says",
            where=path,
            found=f"{name[:14]!r} at offset {position}",
            remedy=DAMAGED,
        )
    metadata_bytes, attachment_bytes, data_bytes = _SUBBLOCK.unpack_from(head, SEGMENT_HEADER_BYTES)
    n_dimensions = _ENTRY.unpack_from(head, SEGMENT_HEADER_BYTES + 16)[-1]
    prefix = max(SUBBLOCK_PREFIX_BYTES, 16 + ENTRY_PREFIX_BYTES + DIMENSION_BYTES * min(n_dimensions, MAX_DIMENSIONS))
    if SEGMENT_HEADER_BYTES + prefix > len(head) and prefix > SUBBLOCK_PREFIX_BYTES:
        head = read_bytes(fd, SEGMENT_HEADER_BYTES + prefix, position, path=path)
    entry = parse_entry(head, SEGMENT_HEADER_BYTES + 16, path=path)
    if min(metadata_bytes, attachment_bytes, data_bytes) < 0 or prefix + metadata_bytes + data_bytes > max(
        allocated, used
    ):
        raise SourceError(
            "a CZI sub-block is larger than its segment",
            where=path,
            found=f"{metadata_bytes} + {data_bytes} bytes at offset {position}",
            remedy=DAMAGED,
        )
    metadata_offset = position + SEGMENT_HEADER_BYTES + prefix
    return SubBlock(
        Segment(SUBBLOCK_ID, position, allocated, used),
        entry,
        metadata_offset,
        metadata_bytes,
        metadata_offset + metadata_bytes,
        data_bytes,
    )


def read_metadata_xml(fd: int, header: FileHeader, *, path: object) -> bytes:
    """Give the metadata XML of a CZI as bytes; empty where the file has none."""
    if header.metadata_position <= 0:
        return b""
    segment = expect_segment(fd, header.metadata_position, METADATA_ID, what="metadata", path=path)
    (n_bytes,) = struct.unpack("<i", read_bytes(fd, 4, segment.body, path=path))
    if not 0 <= n_bytes <= segment.used:
        raise SourceError(
            "the CZI's metadata are larger than their segment", where=path, found=f"{n_bytes} bytes", remedy=DAMAGED
        )
    _require_inside(fd, segment.body + METADATA_PREFIX_BYTES + n_bytes, what="metadata", path=path)
    return read_bytes(fd, n_bytes, segment.body + METADATA_PREFIX_BYTES, path=path)


def read_attachments(fd: int, header: FileHeader, *, path: object) -> tuple[Attachment, ...]:
    """List the attachments of a CZI; empty where it has none."""
    if header.attachment_directory_position <= 0:
        return ()
    position = header.attachment_directory_position
    segment = expect_segment(fd, position, ATTACHMENT_DIRECTORY_ID, what="attachment directory", path=path)
    (count,) = struct.unpack("<i", read_bytes(fd, 4, segment.body, path=path))
    if not 0 <= count * ATTACHMENT_ENTRY_BYTES <= segment.allocated:
        raise SourceError(
            "the CZI's attachment directory cannot hold as many entries as it says",
            where=path,
            found=f"{count} entries",
            remedy=DAMAGED,
        )
    _require_inside(
        fd,
        segment.body + ATTACHMENT_PREFIX_BYTES + count * ATTACHMENT_ENTRY_BYTES,
        what="attachment directory",
        path=path,
    )
    raw = read_bytes(fd, count * ATTACHMENT_ENTRY_BYTES, segment.body + ATTACHMENT_PREFIX_BYTES, path=path)
    attachments = []
    for k in range(count):
        schema, _, file_position, _, _, kind, name = _ATTACHMENT_ENTRY.unpack_from(raw, k * ATTACHMENT_ENTRY_BYTES)
        if schema == b"A1":
            attachments.append(Attachment(_text(name), _text(kind), file_position))
    return tuple(attachments)


def read_attachment(fd: int, attachment: Attachment, *, path: object) -> bytes:
    """Give an attachment's content as bytes."""
    segment = expect_segment(fd, attachment.position, ATTACHMENT_ID, what=f"attachment {attachment.name}", path=path)
    (n_bytes,) = struct.unpack("<i", read_bytes(fd, 4, segment.body, path=path))
    offset = segment.body + ATTACHMENT_PREFIX_BYTES
    if not 0 <= n_bytes <= segment.allocated:
        raise SourceError(
            "a CZI attachment is larger than its segment", where=path, found=f"{n_bytes} bytes", remedy=DAMAGED
        )
    _require_inside(fd, offset + n_bytes, what=f"attachment {attachment.name}", path=path)
    return read_bytes(fd, n_bytes, offset, path=path)


def _require_inside(fd: int, end: int, *, what: str, path: object) -> None:
    size = os.fstat(fd).st_size
    if end > size:
        raise SourceError(
            f"the CZI is truncated: its {what} should end at offset {end}",
            where=path,
            found=f"{size} bytes in all",
            remedy=DAMAGED,
        )


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", errors="replace")
