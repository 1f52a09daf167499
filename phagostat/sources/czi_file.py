"""CZI files opened in this process, and pixels read from them."""

from __future__ import annotations

import os
import threading
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from phagostat.model.errors import SourceError
from phagostat.sources.czi_directory import Directory, read_directory, rows_inside
from phagostat.sources.czi_index import PIXEL_DTYPES, PlaneIndex, build_plane_index
from phagostat.sources.czi_pixels import DECODED_HERE, read_pixels
from phagostat.sources.czi_segments import (
    Attachment,
    FileHeader,
    read_attachments,
    read_bytes,
    read_file_header,
    read_metadata_xml,
    read_subblock,
)
from phagostat.sources.metadata_xml import parse_xml
from phagostat.sources.open_files import OpenFiles, open_descriptor
from phagostat.sources.protocol import Plane

SAMPLED_SUBBLOCKS: Final = 8
SAMPLED_BYTES: Final = 4096

Reader = Literal["auto", "library"]


class OpenCzi:
    """One CZI opened in this process: descriptor, directory, and aicspylibczi's reader once it is needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = open_descriptor(path, kind="CZI file")
        weakref.finalize(self, os.close, self.fd)
        self._lock = threading.Lock()
        self.size = os.fstat(self.fd).st_size
        try:
            self.header: FileHeader = read_file_header(self.fd, path=path)
            if self.header.file_part != 0:
                raise SourceError(
                    "only a part of a CZI that is split over several files", where=path, remedy="give the first part"
                )
            self.directory: Directory = read_directory(self.fd, self.header, path=path)
        except IsADirectoryError as error:
            raise SourceError("a folder, not a CZI file", where=path) from error
        self.index: PlaneIndex = build_plane_index(self.directory, path=path)
        if not self.inside().any():
            raise SourceError(
                "the CZI is truncated: none of its images is there",
                where=path,
                found=f"{self.size} bytes",
                remedy="copy the file again from the microscope's computer",
            )

    def inside(self) -> NDArray[np.bool_]:
        """Which sub-blocks lie whole inside the file."""
        return rows_inside(self.fd, self.directory, self.size, path=self.path)

    @cached_property
    def xml_bytes(self) -> bytes:
        """The metadata XML."""
        return read_metadata_xml(self.fd, self.header, path=self.path)

    @cached_property
    def xml(self) -> Any:
        """Root of the parsed metadata XML, None where there is none or it does not parse."""
        return parse_xml(self.xml_bytes) if self.xml_bytes else None

    @cached_property
    def attachments(self) -> tuple[Attachment, ...]:
        """The attachment directory."""
        return read_attachments(self.fd, self.header, path=self.path)

    @cached_property
    def identity(self) -> str:
        """Digest of header, size, directory, metadata and some pixels.

        The pixels tell apart movies that a program wrote with equal headers. A copy of the file has the same digest.
        """
        digest = xxhash.xxh3_128()
        for piece in (self.header.raw, str(self.size).encode(), self.directory.raw, self.xml_bytes):
            digest.update(len(piece).to_bytes(8, "little"))
            digest.update(piece)
        rows = np.flatnonzero(self.inside())
        for row in rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLED_SUBBLOCKS).astype(int))] if len(rows) else ():
            try:
                block = read_subblock(self.fd, int(self.directory.position[row]), path=self.path)
                n_bytes = min(SAMPLED_BYTES, block.data_bytes)
                offset = block.data_offset + (block.data_bytes - n_bytes) // 2
                digest.update(read_bytes(self.fd, n_bytes, offset, path=self.path))
            except SourceError:
                digest.update(b"damaged")
        return digest.hexdigest()

    def read_row(self, row: int, reader: Reader) -> Plane:
        """Give the pixels of one sub-block as a (y, x) array."""
        if reader == "auto" and int(self.directory.compression[row]) in DECODED_HERE:
            return self._read_by_offset(row)
        return self._read_by_library(row)

    def _read_by_offset(self, row: int) -> Plane:
        directory = self.directory
        block = read_subblock(self.fd, int(directory.position[row]), path=self.path)
        compression = int(directory.compression[row])
        shape = int(directory.size["Y"][row]), int(directory.size["X"][row])
        promised = {letter: int(directory.start[letter][row]) for letter in "STCZM" if self._has(letter, row)}
        told = {letter: block.entry.starts.get(letter) for letter in promised}
        if (
            told != promised
            or block.entry.pixel_type != directory.pixel_type[row]
            or block.entry.compression != compression
            or block.entry.stored_yx != shape
        ):
            raise SourceError("a sub-block is not what the directory says", found=f"{told}; directory: {promised}")
        return read_pixels(self.fd, block, dtype=PIXEL_DTYPES[int(directory.pixel_type[row])], path=self.path)

    def _read_by_library(self, row: int) -> Plane:
        directory, shape = self.directory, (int(self.directory.size["Y"][row]), int(self.directory.size["X"][row]))
        index = {letter: int(directory.start[letter][row]) for letter in "STCZ" if self._has(letter, row)}
        corner = int(directory.start["X"][row]), int(directory.start["Y"][row])
        try:
            with self._lock:
                library = self._library
                if self._aicspylibczi_is_safe:
                    pixels, _ = library.read_image(**{k: v for k, v in index.items() if k in library.dims})
                else:
                    scene = index.pop("S", None)
                    # a copy: the library's array goes with its buffer
                    pixels = np.array(
                        library.read(
                            roi=(*corner, shape[1], shape[0]), plane={"T": 0, "C": 0, "Z": 0} | index, scene=scene
                        )
                    )
        except Exception as error:  # both libraries raise plain Exceptions of their own kinds
            raise SourceError("the plane cannot be decoded", found=str(error).strip()) from error
        if pixels.size != shape[0] * shape[1]:
            raise SourceError("the plane has another size than the directory says", found=f"{pixels.shape}, {shape}")
        plane: Plane = pixels.reshape(shape)
        return plane

    @cached_property
    def _aicspylibczi_is_safe(self) -> bool:
        """Whether all images have one size and stand alone.

        With scenes of unequal shape aicspylibczi 4.0.1 writes beyond its buffer and brings the process down, and its
        tile numbers are not the file's where tiles are missing.
        """
        rows = ~self.directory.is_pyramid
        sizes = np.stack([self.directory.size["Y"][rows], self.directory.size["X"][rows]])
        return bool((sizes == sizes[:, :1]).all()) and not any(scene.is_mosaic for scene in self.index.scenes)

    @cached_property
    def _library(self) -> Any:
        """Opened aicspylibczi or, where that is not safe, pylibCZIrw; imported for files that need them only."""
        if self._aicspylibczi_is_safe:
            from aicspylibczi import CziFile  # noqa: PLC0415

            file = Path(self.path).open("rb")  # noqa: SIM115 - the library reads from it as long as this object lives
            weakref.finalize(self, file.close)
            return CziFile(file)
        from pylibCZIrw.czi import CziReader  # noqa: PLC0415

        return CziReader(self.path)

    def _has(self, letter: str, row: int) -> bool:
        return letter in self.directory.has and bool(self.directory.has[letter][row])


_open_files = OpenFiles(OpenCzi)


def open_czi(path: str) -> OpenCzi:
    """Give the file opened in this process; another process, or another file at this path, opens anew."""
    return _open_files.get(path)
