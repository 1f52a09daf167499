"""Chunks encoded and decoded in the calling thread, with the bytes that zarr writes.

zarr hands every codec and every file to another thread through an event loop: 2 to 3 ms of CPU a chunk of a megabyte
beside 1 ms of compression (benchmarks/test_store.py), a good part of what all kernels of a frame cost. A task writes
whole chunks, one after the other, and needs none of that. The arrays are zarr's in every other way: it makes them, it
reads them, and tests compare the bytes.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numcodecs.blosc
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ZstdCodec

from phagostat.model.errors import StoreError
from phagostat.store.files import write_pieces

_CHECKSUM_BYTES = 4
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class ChunkCodec:
    """Encodes and decodes the chunks of one array, one plane a chunk.

    Parameters
    ----------
    array
        An array made by :mod:`phagostat.store.arrays`.

    Raises
    ------
    StoreError
        If the array was not written by phagostat: its chunks are more than a plane, or its codecs others.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.plane_shape: tuple[int, ...] = tuple(array.shape[-2:])
        self.dtype = np.dtype(array.dtype)
        codecs = tuple(getattr(array.metadata, "codecs", ()))
        whole_planes = tuple(array.chunks) == (*(1 for _ in array.shape[:-2]), *self.plane_shape)
        compressor = _compressor(codecs) if whole_planes else None
        if compressor is None:
            raise StoreError(
                "an array was not written by phagostat",
                where=array.store_path,
                found=f"chunks {array.chunks}, codecs {[type(codec).__name__ for codec in codecs]}",
                remedy="choose another output",
            )
        self._compressor: Any = compressor

    def encode(self, plane: NDArray[Any]) -> bytes:
        """Bytes of a chunk: compressed, then its CRC-32C."""
        values = np.ascontiguousarray(plane, dtype=self.dtype.newbyteorder("<"))
        data = bytes(self._compressor.encode(values))
        return data + int(google_crc32c.value(data)).to_bytes(_CHECKSUM_BYTES, "little")

    def decode(self, chunk: bytes) -> NDArray[Any]:
        """A plane from the bytes of its chunk.

        Raises
        ------
        ValueError
            If the checksum does not match, or the bytes do not hold a plane.
        """
        data, checksum = chunk[:-_CHECKSUM_BYTES], chunk[-_CHECKSUM_BYTES:]
        if int(google_crc32c.value(data)).to_bytes(_CHECKSUM_BYTES, "little") != checksum:
            raise ValueError("the checksum does not match")
        try:
            values = np.frombuffer(self._compressor.decode(data), dtype=self.dtype.newbyteorder("<"))
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        return values.reshape(self.plane_shape).astype(self.dtype, copy=False)


def write_chunk(path: Path, data: bytes) -> None:
    """Write a chunk under a temporary name, as zarr does, and rename it into place."""
    # plain calls of the system: with paths as objects, names and folders cost as much as a small chunk
    final = os.fspath(path)
    partial = f"{final}.{uuid.uuid4().hex}.partial"
    try:
        try:
            descriptor = os.open(partial, _NEW_FILE, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(final), exist_ok=True)  # noqa: PTH103, PTH120
            descriptor = os.open(partial, _NEW_FILE, 0o666)
        try:
            write_pieces(descriptor, data)
        finally:
            os.close(descriptor)
        os.replace(partial, final)  # noqa: PTH105
    except BaseException:
        path.with_name(os.path.basename(partial)).unlink(missing_ok=True)  # noqa: PTH119
        raise


def _compressor(codecs: tuple[Any, ...]) -> Any:
    if len(codecs) != 3 or not isinstance(codecs[0], BytesCodec) or not isinstance(codecs[2], Crc32cCodec):
        return None
    if isinstance(codecs[1], ZstdCodec):
        return numcodecs.Zstd(level=codecs[1].level, checksum=codecs[1].checksum)
    if isinstance(codecs[1], BloscCodec):
        numcodecs.blosc.use_threads = False  # bytes and times must not depend on how many there are
        configuration: Any = codecs[1].to_dict()["configuration"]
        shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[configuration["shuffle"]]
        return numcodecs.Blosc(configuration["cname"], configuration["clevel"], shuffle, configuration["blocksize"])
    return None
