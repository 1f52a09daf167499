"""The sub-blocks of a CZI that is still being written, followed from where they were last known.

No ready-made reader opens such a file. Its segments stand one behind the other and each says where the next begins, so
they can be followed as they come: a look at 300 bytes for each, and one at 32 while nothing new is there.
"""

from __future__ import annotations

import os
import struct
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import xxhash

from phagostat.model.errors import SourceError
from phagostat.sources.czi_index import PIXEL_DTYPES
from phagostat.sources.czi_pixels import DECODED_HERE, read_pixels
from phagostat.sources.czi_segments import (
    ATTACHMENT_DIRECTORY_ID,
    ATTACHMENT_ID,
    DELETED_ID,
    DIRECTORY_ID,
    FILE_ID,
    METADATA_ID,
    SEGMENT_HEADER_BYTES,
    SUBBLOCK_ID,
    SubBlock,
    read_bytes,
    read_subblock,
)
from phagostat.sources.open_files import open_descriptor

TAIL_BYTES: Final = 64
"""So many zeros at the end of a plane are space that was reserved and not yet written."""
IDENTIFYING_BYTES: Final = 65_536

_HEADER = struct.Struct("<16sqq")
_SEGMENTS = frozenset(
    {
        FILE_ID,
        SUBBLOCK_ID,
        DIRECTORY_ID,
        METADATA_ID,
        ATTACHMENT_ID,
        ATTACHMENT_DIRECTORY_ID,
        DELETED_ID,
    }
)


@dataclass(frozen=True)
class Followed:
    """A sub-block that is whole.

    Parameters
    ----------
    block
        Where it stands, and what it says of itself.
    early_digest
        Of its bytes, if it was taken because they did not change any more and not because something followed it;
        else empty.
    """

    block: SubBlock
    early_digest: str = ""


class CziFollower:
    """Follows the segments of one CZI.

    Parameters
    ----------
    path
        The file, which may be longer at each look.
    settle_s
        How long the bytes of the last sub-block must stay as they are before it is taken without a successor.
    clock
        Gives seconds that never go back.

    Raises
    ------
    SourceError
        If the file cannot be opened, or is no CZI.

    Notes
    -----
    A segment is believed once the header of the next one is sound: writers go forward. The last one is taken when its
    bytes have settled, it decodes, and it does not end in zeros, as reserved space does; it is looked at again when a
    successor comes or the file is closed.
    """

    def __init__(self, path: str, *, settle_s: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.fd = open_descriptor(path, kind="CZI file")
        weakref.finalize(self, os.close, self.fd)
        self._inode = os.fstat(self.fd).st_ino
        self._settle_s, self._clock = settle_s, clock
        self._next = 0
        self._early: Followed | None = None
        self._candidate: tuple[int, str, float] = (-1, "", 0.0)
        self._longest = 0
        self.followed: list[Followed] = []
        self.changed: list[SubBlock] = []

    def advance(self) -> tuple[Followed, ...]:
        """Look for sub-blocks that have become whole since the last look, in the order of the file.

        Raises
        ------
        SourceError
            If the file has become shorter, was replaced by another, or begins as no CZI does.
        """
        size = self._checked_size()
        new: list[Followed] = []
        while True:
            header = self._header(self._next, size)
            if header is None:
                break
            name, length = header
            end = self._next + SEGMENT_HEADER_BYTES + length
            believed = self._header(end, size) is not None
            if name == SUBBLOCK_ID:
                taken = self._take(believed=believed, size=size)
                if taken is not None:
                    new.append(taken)
            if not believed:
                break
            self._next = end
        self.followed += new
        return tuple(new)

    def tail(self) -> SubBlock | None:
        """The last sub-block if all its bytes are there, whether or not they have settled."""
        size = self._checked_size()
        header = self._header(self._next, size)
        return self._whole(self._next, size) if header is not None and header[0] == SUBBLOCK_ID else None

    def recheck_early(self) -> None:
        """Compare what was taken early with what stands there now; what differs is added to `changed`."""
        if self._early is not None and _digest(self.fd, self._early.block, path=self.path) != self._early.early_digest:
            self.changed.append(self._early.block)
        self._early = None

    def _checked_size(self) -> int:
        status = os.fstat(self.fd)
        try:
            now = os.stat(self.path)  # noqa: PTH116 - beside fstat
        except OSError as error:
            raise SourceError(
                "the file is gone while it was being followed", where=self.path, found=error.strerror
            ) from None
        if now.st_ino != self._inode:
            raise SourceError(
                "the file was replaced by another one while it was being followed",
                where=self.path,
                remedy="start again with the new file",
            )
        if status.st_size < self._longest:
            raise SourceError(
                "the file has become shorter while it was being followed",
                where=self.path,
                found=f"{status.st_size} bytes, {self._longest} before",
            )
        self._longest = status.st_size
        return status.st_size

    def _header(self, position: int, size: int) -> tuple[bytes, int] | None:
        """Name and length of the segment at `position`, or None where no sound one stands (yet)."""
        if position + SEGMENT_HEADER_BYTES > size:
            return None
        name, allocated, used = _HEADER.unpack(read_bytes(self.fd, SEGMENT_HEADER_BYTES, position, path=self.path))
        name = name.rstrip(b"\0")
        if position == 0 and not FILE_ID.startswith(name):  # a part of it is on its way
            raise SourceError(
                "not a CZI", where=self.path, found=f"first bytes {name[:10]!r}", remedy="give a file that ZEN wrote"
            )
        sound = name in _SEGMENTS and allocated >= 0 and used >= 0
        return (name, max(allocated, used)) if sound else None

    def _whole(self, position: int, size: int) -> SubBlock | None:
        try:
            block = read_subblock(self.fd, position, path=self.path)
        except SourceError:
            return None
        return block if block.data_end <= size else None

    def _take(self, *, believed: bool, size: int) -> Followed | None:
        """The sub-block at the front if it is whole and new."""
        block = self._whole(self._next, size)
        if block is None:
            return None
        if self._early is not None and self._early.block.segment.position == self._next:
            if believed:
                self.recheck_early()
            return None
        if believed:
            return Followed(block)
        digest = _digest(self.fd, block, path=self.path)
        position, before, since = self._candidate
        if (position, before) != (self._next, digest):
            self._candidate = self._next, digest, self._clock()
            return None
        if self._clock() - since < self._settle_s or not _decodes(self.fd, block, path=self.path):
            return None
        self._early = Followed(block, digest)
        return self._early


def growing_identity(fd: int, block: SubBlock, *, path: object) -> str:
    """Digest by which a file is known while it grows and when it is closed: of its first sub-block."""
    digest = xxhash.xxh3_128()
    entry = sorted(block.entry.starts.items()), sorted(block.entry.sizes.items()), block.entry.pixel_type
    digest.update(repr((block.segment.position, block.data_bytes, entry)).encode())
    digest.update(read_bytes(fd, min(block.data_bytes, IDENTIFYING_BYTES), block.data_offset, path=path))
    return digest.hexdigest()


def _digest(fd: int, block: SubBlock, *, path: object) -> str:
    start = block.segment.position
    return xxhash.xxh3_128_hexdigest(read_bytes(fd, block.data_end - start, start, path=path))


def _decodes(fd: int, block: SubBlock, *, path: object) -> bool:
    """Whether the pixels are all there, as far as can be told from them."""
    entry, dtype = block.entry, PIXEL_DTYPES.get(block.entry.pixel_type)
    if dtype is None or entry.compression not in DECODED_HERE:
        return False
    tail = min(block.data_bytes, TAIL_BYTES)
    if not read_bytes(fd, tail, block.data_end - tail, path=path).strip(b"\0"):
        return False
    try:
        read_pixels(fd, block, dtype=dtype, path=path)
    except SourceError:
        return False
    return True
