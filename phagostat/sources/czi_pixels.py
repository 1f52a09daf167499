"""From a sub-block's bytes to pixels, for what can be decoded without a CZI library: raw and zstd.

The zstd forms are those of the format's description: number 5 is one zstd frame; number 6 has a header in front (its
own length, then chunks of which the only known one, 1, says in bit 0 whether low and high bytes of 16-bit pixels were
stored apart, all low bytes first).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from phagostat.model.errors import SourceError
from phagostat.sources.czi_segments import SubBlock, read_bytes, read_into
from phagostat.sources.protocol import Plane

UNCOMPRESSED: Final = 0
ZSTD: Final = 5
ZSTD_PACKED: Final = 6
DECODED_HERE: Final = frozenset({UNCOMPRESSED, ZSTD, ZSTD_PACKED})

_PACKING_CHUNK: Final = 1


def decode_zstd(payload: bytes, *, compression: int, shape_yx: tuple[int, int], dtype: str) -> Plane:
    """Decode the zstd-compressed pixels of one sub-block.

    Parameters
    ----------
    payload
        The sub-block's data.
    compression
        ``ZSTD`` or ``ZSTD_PACKED``.
    shape_yx
        Stored height and width in pixels.
    dtype
        ``uint8`` or ``uint16``.

    Returns
    -------
    ndarray
        The pixels, of shape ``shape_yx``.

    Raises
    ------
    SourceError
        If the data do not decode to exactly that many pixels.
    """
    from numcodecs.zstd import decompress  # noqa: PLC0415 - for zstd files only

    start, bytes_apart = _packing(payload) if compression == ZSTD_PACKED else (0, False)
    pixels = np.empty(shape_yx, dtype=np.dtype(dtype).newbyteorder("<"))
    target = np.empty(pixels.nbytes, dtype=np.uint8) if bytes_apart else pixels
    frame = memoryview(payload)[start:]
    said = _content_bytes(frame)
    if said is not None and said != pixels.nbytes:
        raise SourceError("the plane's zstd data have another size", found=f"{said} bytes for {pixels.nbytes}")
    try:
        if said is None:
            decoded = np.frombuffer(decompress(frame), dtype=np.uint8)
            if decoded.size != pixels.nbytes:
                raise SourceError("the plane's zstd data have another size", found=f"{decoded.size} bytes")
            target.reshape(-1).view(np.uint8)[:] = decoded
        else:
            decompress(frame, target)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise SourceError("the plane's zstd data do not decode", found=error) from error
    if bytes_apart:
        if pixels.dtype.itemsize != 2:
            raise SourceError("8-bit pixels cannot have their bytes stored apart")
        # twice as fast as writing every second byte
        flat = target.reshape(2, -1)
        pixels = flat[1].astype(pixels.dtype).reshape(shape_yx)
        pixels <<= 8
        pixels |= flat[0].reshape(shape_yx)
    return pixels


def read_pixels(fd: int, block: SubBlock, *, dtype: str, path: object) -> Plane:
    """Read the pixels of a raw or zstd sub-block, as its own entry describes them.

    Parameters
    ----------
    fd
        The open file.
    block
        The sub-block.
    dtype
        ``uint8`` or ``uint16``.
    path
        For messages.

    Raises
    ------
    SourceError
        If they are cut off or do not decode.
    """
    entry = block.entry
    if min(entry.stored_yx) <= 0:
        raise SourceError("the sub-block has no pixels", found=entry.stored_yx)
    if entry.compression != UNCOMPRESSED:
        payload = read_bytes(fd, block.data_bytes, block.data_offset, path=path)
        return decode_zstd(payload, compression=entry.compression, shape_yx=entry.stored_yx, dtype=dtype)
    pixels: Plane = np.empty(entry.stored_yx, dtype=np.dtype(dtype).newbyteorder("<"))
    if block.data_bytes < pixels.nbytes:
        raise SourceError("the plane is cut off", found=f"{block.data_bytes} of {pixels.nbytes} bytes")
    read_into(fd, pixels.data.cast("B"), block.data_offset, path=path)
    return pixels


def _packing(payload: bytes) -> tuple[int, bool]:
    """Where the zstd frame begins, and whether low and high bytes stand apart."""
    header = payload[:3]
    if header[:1] == b"\x01":
        return 1, False
    if len(header) == 3 and header[0] == 3 and header[1] == _PACKING_CHUNK:
        return 3, bool(header[2] & 1)
    raise SourceError("the plane's zstd header is not known", found=header)


def _content_bytes(frame: memoryview) -> int | None:
    """Decoded size that a zstd frame's header states (RFC 8878, 3.1.1.1); None where it states none.

    The decoder leaves the rest of a buffer that is too large as it was, so the size is checked beforehand.
    """
    if len(frame) < 5:
        raise SourceError("the plane's zstd data are cut off", found=f"{len(frame)} bytes")
    descriptor = frame[4]
    single_segment = bool(descriptor & 0x20)
    width = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    offset = 5 + (0 if single_segment else 1) + (0, 1, 2, 4)[descriptor & 3]
    if width == 0:
        return None
    if len(frame) < offset + width:
        raise SourceError("the plane's zstd data are cut off", found=f"{len(frame)} bytes")
    return int.from_bytes(frame[offset : offset + width], "little") + (256 if width == 2 else 0)
