"""The CZI source: what ZEISS microscopes write.

Planes are read one a call, through the file's own directory: uncompressed ones by offset, compressed ones by
aicspylibczi. Open files are kept per process and never cross a fork, where aicspylibczi would silently give wrong
planes.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from phagostat.model.acquisition import AcquisitionMetadata, Scene, TimesOrigin
from phagostat.model.errors import PhagostatError, PlaneError, SourceError
from phagostat.sources import czi_metadata
from phagostat.sources.czi_index import PIXEL_DTYPES, PlaneIndex, build_plane_index, rows_inside
from phagostat.sources.czi_segments import (
    UNCOMPRESSED,
    Attachment,
    Directory,
    FileHeader,
    read_attachment,
    read_attachments,
    read_bytes,
    read_directory,
    read_file_header,
    read_metadata_xml,
    read_subblock,
)
from phagostat.sources.protocol import Availability, Plane

KIND: Final = "czi"
MAX_OPEN_FILES: Final = 8
SAMPLED_SUBBLOCKS: Final = 8
SAMPLED_BYTES: Final = 4096

Reader = Literal["auto", "aicspylibczi"]


class CziSource:
    """A closed CZI file as a source of planes.

    Parameters
    ----------
    path
        The file.
    z
        What a plane of a Z stack is: ``"max"``, its maximum projection, or the number of one Z plane, from 0.
    reader
        ``"auto"`` reads uncompressed pixels by their offset in the file and all others by aicspylibczi;
        ``"aicspylibczi"`` reads everything by aicspylibczi, which looks a plane up in a time proportional to the
        length of the movie.

    Raises
    ------
    SourceError
        On the first use, if the file is no CZI, is truncated, still being written, or holds what phagostat does not
        take (colours, several files, dimensions beyond scene, time, channel, Z and tile).

    Notes
    -----
    Tiles of a mosaic are put side by side at the positions that the microscope recorded, later tiles over earlier
    ones, 0 where there is none; they are not registered against each other. Reduced copies (pyramids) are ignored.

    Examples
    --------
    >>> source = CziSource("movie.czi")  # doctest: +SKIP
    >>> source.read(0, 12, 1).shape  # doctest: +SKIP
    (2048, 2048)
    """

    def __init__(self, path: str | os.PathLike[str], *, z: str | int = "max", reader: Reader = "auto") -> None:
        self._path = os.fspath(path)
        if z != "max" and (not isinstance(z, int) or isinstance(z, bool) or z < 0):
            raise SourceError("a Z plane is 'max' or a number from 0", found=repr(z), remedy="give z='max' or z=0")
        self._z = z
        self._reader: Reader = reader
        self._availability: tuple[int, Availability] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._path, self._z, self._reader)

    def __repr__(self) -> str:
        return f"CziSource({self._path!r}, z={self._z!r}, reader={self._reader!r})"

    @property
    def path(self) -> str:
        """Path of the file as it was given."""
        return self._path

    @property
    def options(self) -> dict[str, str | int]:
        """Options that decide what the planes contain."""
        return {"z": self._z}

    @cached_property
    def metadata(self) -> AcquisitionMetadata:
        """What the file says of itself; times come from the most specific of its records."""
        opened = self._open()
        index, root, notes = opened.index, opened.xml, list(opened.index.notes)
        if root is None and opened.xml_bytes:
            notes.append("the metadata XML does not parse and is ignored")
        n_frames = [scene.n_frames for scene in index.scenes]
        candidates, time_notes = _time_candidates(opened)
        notes.extend(time_notes)
        origin, times, time_notes = czi_metadata.choose_times(candidates, n_frames=n_frames)
        notes.extend(time_notes)
        names = czi_metadata.read_scene_names(root, [scene.s_index for scene in index.scenes])
        beyond = int((~opened.inside()).sum())
        if beyond:
            notes.append(f"{beyond} of {len(opened.directory)} sub-blocks lie beyond the end of the file: it is truncated")
        scenes = tuple(
            Scene(k, names[k], layout.n_frames, layout.shape_yx, layout.dtype, times.get(k))
            for k, layout in enumerate(index.scenes)
        )
        return AcquisitionMetadata(
            path=self._path,
            kind=KIND,
            identity=opened.identity,
            channels=czi_metadata.read_channels(root, index.channels),
            scenes=scenes,
            pixel_size_um=czi_metadata.read_pixel_size_um(root, path=self._path),
            times_origin=origin,
            notes=tuple(notes),
        )

    def poll(self) -> Availability:
        """Tell which planes are whole; a CZI with a directory is closed, so this changes only with the file."""
        opened = self._open()
        if self._availability is None or self._availability[0] != id(opened):
            inside = opened.inside()
            complete = {}
            for scene, layout in enumerate(opened.index.scenes):
                for channel in range(len(opened.index.channels)):
                    frames = []
                    for frame in range(layout.n_frames):
                        rows = opened.index.plane_rows(scene, frame, channel, self._z)
                        if rows and inside[list(rows)].all():
                            frames.append(frame)
                    complete[scene, channel] = tuple(frames)
            self._availability = id(opened), Availability(complete, closed=True)
        return self._availability[1]

    def read(self, scene: int, frame: int, channel: int) -> Plane:
        """Give one plane as a (y, x) array.

        Raises
        ------
        PlaneError
            If the plane is missing from the file, cut off or damaged.
        """
        where = f"{self._path} scene {scene} frame {frame} channel {channel}"
        try:
            opened = self._open()
        except PhagostatError as error:
            raise PlaneError("the file cannot be opened any more", where=where, found=error) from error
        rows = opened.index.plane_rows(scene, frame, channel, self._z)
        if not rows:
            raise PlaneError("the file does not hold this plane whole", where=where)
        layout = opened.index.scenes[scene]
        try:
            if len(rows) == 1 and not layout.is_mosaic:
                return opened.read_row(rows[0], self._reader).astype(layout.dtype, copy=False)
            return self._assemble(opened, scene, rows)
        except SourceError as error:
            raise PlaneError(error.what, where=where, found=error.found) from error
        except MemoryError as error:
            raise PlaneError("not enough memory for this plane", where=where, found=layout.shape_yx) from error

    def _assemble(self, opened: _OpenFile, scene: int, rows: tuple[int, ...]) -> Plane:
        """Put the tiles of each Z plane side by side and take the maximum over Z."""
        layout, index, directory = opened.index.scenes[scene], opened.index, opened.directory
        height, width = layout.shape_yx
        result: Plane | None = None
        for z in dict.fromkeys(int(index.z[row]) for row in rows):
            tiles = [row for row in rows if index.z[row] == z]
            if layout.is_mosaic:
                plane = np.zeros((height, width), dtype=layout.dtype)
                for row in tiles:
                    tile = opened.read_row(row, self._reader)
                    y = int(directory.start["Y"][row]) - layout.origin_yx[0]
                    x = int(directory.start["X"][row]) - layout.origin_yx[1]
                    plane[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
            else:
                plane = opened.read_row(tiles[-1], self._reader).astype(layout.dtype, copy=False)
            result = plane if result is None else np.maximum(result, plane, out=result)
        if result is None:
            raise SourceError("the plane has no sub-blocks", where=self._path)
        return result

    def _open(self) -> _OpenFile:
        opened = _opened(self._path)
        known = self.__dict__.get("metadata")
        if known is not None and known.identity != opened.identity:
            raise SourceError(
                "the file was replaced by another one while it was in use",
                where=self._path,
                remedy="start again with the new file",
            )
        if isinstance(self._z, int):
            depth = max(len(planes) for planes in opened.index.z_planes.values())
            if self._z >= depth:
                raise SourceError(
                    "the file has no such Z plane", where=self._path, found=f"z {self._z} of {depth}", remedy="lower z"
                )
        return opened


class _OpenFile:
    """One CZI opened in this process: descriptor, directory, and aicspylibczi's reader once it is needed."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except IsADirectoryError as error:
            raise SourceError("a folder, not a CZI file", where=path) from error
        except FileNotFoundError as error:
            raise SourceError("there is no such file", where=path, remedy="check the path") from error
        except PermissionError as error:
            raise SourceError("no permission to read it", where=path, remedy="change its permissions") from error
        except (OSError, ValueError) as error:
            raise SourceError("cannot be opened", where=path, found=error) from error
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
        return czi_metadata.parse_xml(self.xml_bytes) if self.xml_bytes else None

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

    @cached_property
    def _czi(self) -> Any:
        from aicspylibczi import CziFile  # noqa: PLC0415 - needed for compressed files only

        try:
            return CziFile(self.path)
        except Exception as error:  # the library raises its own kinds, all plain Exceptions
            raise SourceError("aicspylibczi cannot open it", where=self.path, found=error) from error

    def read_row(self, row: int, reader: Reader) -> Plane:
        """Give the pixels of one sub-block as a (y, x) array."""
        if reader == "auto" and self.directory.compression[row] == UNCOMPRESSED:
            return self._read_by_offset(row)
        return self._read_by_library(row)

    def _read_by_offset(self, row: int) -> Plane:
        directory = self.directory
        block = read_subblock(self.fd, int(directory.position[row]), path=self.path)
        shape = int(directory.size["Y"][row]), int(directory.size["X"][row])
        dtype = np.dtype(PIXEL_DTYPES[int(directory.pixel_type[row])]).newbyteorder("<")
        n_bytes = shape[0] * shape[1] * dtype.itemsize
        promised = {letter: int(directory.start[letter][row]) for letter in "STCZM" if self._has(letter, row)}
        told = {letter: block.entry.starts.get(letter) for letter in promised}
        if (
            told != promised
            or block.entry.pixel_type != directory.pixel_type[row]
            or block.entry.compression != UNCOMPRESSED
            or block.data_bytes < n_bytes
        ):
            raise SourceError(
                "a sub-block is not what the directory says",
                where=self.path,
                found=f"{told}, {block.data_bytes} bytes; directory: {promised}, {n_bytes} bytes",
            )
        pixels = np.empty(shape, dtype=dtype)
        target, at = memoryview(pixels).cast("B"), 0
        while at < n_bytes:
            try:
                count = os.preadv(self.fd, [target[at:]], block.data_offset + at)
            except OSError as error:
                raise SourceError("cannot be read", where=self.path, found=error) from error
            if not count:
                raise SourceError("the plane is cut off", where=self.path, found=f"{at} of {n_bytes} bytes")
            at += count
        return pixels

    def _read_by_library(self, row: int) -> Plane:
        directory = self.directory
        with self._lock:
            czi = self._czi
        wanted = {
            letter: int(directory.start[letter][row])
            for letter in "STCZM"
            if self._has(letter, row) and letter in czi.dims
        }
        try:
            pixels, _ = czi.read_image(**wanted)
        except Exception as error:  # as above; nothing but a message tells them apart
            raise SourceError("the plane cannot be decoded", where=self.path, found=str(error).strip()) from error
        shape = int(directory.size["Y"][row]), int(directory.size["X"][row])
        if pixels.size != shape[0] * shape[1]:
            raise SourceError(
                "the plane has another size than the directory says", where=self.path, found=f"{pixels.shape}, {shape}"
            )
        plane: Plane = pixels.reshape(shape)
        return plane

    def _has(self, letter: str, row: int) -> bool:
        return letter in self.directory.has and bool(self.directory.has[letter][row])


_open_files: OrderedDict[tuple[int, str, int, int, int], _OpenFile] = OrderedDict()
_open_files_lock = threading.Lock()


def _opened(path: str) -> _OpenFile:
    """Give the file opened in this process; another process, or another file at this path, opens anew."""
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise SourceError("there is no such file", where=path, remedy="check the path") from error
    except (OSError, ValueError) as error:
        raise SourceError("cannot be opened", where=path, found=error) from error
    key = os.getpid(), path, status.st_ino, status.st_size, status.st_mtime_ns
    with _open_files_lock:
        opened = _open_files.get(key)
        if opened is not None:
            _open_files.move_to_end(key)
            return opened
    opened = _OpenFile(path)
    with _open_files_lock:
        opened = _open_files.setdefault(key, opened)
        while len(_open_files) > MAX_OPEN_FILES:
            _open_files.popitem(last=False)
    return opened


def _forget_open_files() -> None:
    """Drop in a forked child what its parent had opened, with a lock that no lost thread holds."""
    global _open_files_lock  # noqa: PLW0603 - a lock held by a thread that the fork did not copy is never released
    _open_files_lock = threading.Lock()
    _open_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_open_files)


def _rebuild(path: str, z: str | int, reader: Reader) -> CziSource:
    return CziSource(path, z=z, reader=reader)


def _time_candidates(
    opened: _OpenFile,
) -> tuple[dict[TimesOrigin, dict[int, tuple[float, ...]]], list[str]]:
    """Collect every form of acquisition times that the file has, per scene."""
    n_frames = [scene.n_frames for scene in opened.index.scenes]
    n_rounds = max(n_frames)
    interval_s, offsets_s, attachment_name = czi_metadata.read_time_positions(opened.xml)
    found: dict[TimesOrigin, dict[int, tuple[float, ...]]] = {}
    notes: list[str] = []
    by_subblock = _subblock_times(opened)
    if by_subblock is not None:
        found[TimesOrigin.SUBBLOCK] = by_subblock
    stamps = _stamps(opened, attachment_name or "TimeStamps", notes)
    for origin, series in ((TimesOrigin.ATTACHMENT, stamps), (TimesOrigin.OFFSETS, offsets_s)):
        if series is None:
            continue
        if len(series) < n_rounds:
            notes.append(f"times ({origin.value}) are {len(series)} for {n_rounds} frames and are set aside")
            continue
        if len(series) > n_rounds:
            notes.append(f"times ({origin.value}) are {len(series)} for {n_rounds} frames; the first {n_rounds} are used")
        found[origin] = {k: czi_metadata.since_first(series[:n]) for k, n in enumerate(n_frames)}
    if interval_s is not None:
        found[TimesOrigin.INTERVAL] = {k: tuple(i * interval_s for i in range(n)) for k, n in enumerate(n_frames)}
    return found, notes


def _stamps(opened: _OpenFile, name: str, notes: list[str]) -> tuple[float, ...] | None:
    try:
        for attachment in opened.attachments:
            if attachment.name == name:
                return czi_metadata.parse_time_stamps(read_attachment(opened.fd, attachment, path=opened.path))
    except SourceError as error:
        notes.append(f"the attachment with time stamps cannot be read ({error.what})")
    return None


def _subblock_times(opened: _OpenFile) -> dict[int, tuple[float, ...]] | None:
    """Times in the sub-blocks' own metadata: of the first channel, Z plane and tile that each frame has."""
    index, inside = opened.index, opened.inside()

    def first_rows(scene: int, frame: int) -> Iterator[int]:
        for channel in range(len(index.channels)):
            yield from (row for row in index.rows.get((scene, frame, channel), ())[:1] if inside[row])

    times: dict[int, tuple[float, ...]] = {}
    for scene, layout in enumerate(index.scenes):
        of_scene: list[float | None] = []
        for frame in range(layout.n_frames):
            row = next(first_rows(scene, frame), None)
            if row is None:
                of_scene.append(None)
                continue
            try:
                block = read_subblock(opened.fd, int(opened.directory.position[row]), path=opened.path)
                raw = read_bytes(opened.fd, block.metadata_bytes, block.metadata_offset, path=opened.path)
            except SourceError:
                of_scene.append(None)
                continue
            value = czi_metadata.parse_subblock_time(raw)
            if value is None:
                return None
            of_scene.append(value)
        times[scene] = czi_metadata.since_first(of_scene)
    return times if any(value == value for of_scene in times.values() for value in of_scene) else None
