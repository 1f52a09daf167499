"""The CZI source: what ZEISS microscopes write.

Planes are read one a call, by the offsets in the file's own directory, whatever the length of the movie. What is
compressed other than by zstd goes through a CZI library. Open files are kept per process and never cross a fork, where
aicspylibczi would silently give wrong planes.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Final

import numpy as np

from phagostat.model.acquisition import AcquisitionMetadata, Scene
from phagostat.model.errors import PhagostatError, PlaneError, SourceError
from phagostat.sources.czi_file import OpenCzi, Reader, open_czi
from phagostat.sources.czi_follower import growing_identity
from phagostat.sources.czi_metadata import read_channels, read_pixel_size_um, read_scene_names
from phagostat.sources.czi_segments import read_subblock
from phagostat.sources.czi_times import read_times
from phagostat.sources.protocol import Availability, Plane
from phagostat.sources.z_planes import check_z, chosen_z

KIND: Final = "czi"


class CziSource:
    """A closed CZI file as a source of planes.

    Parameters
    ----------
    path
        The file.
    z
        What a plane of a Z stack is: ``"max"``, its maximum projection, or the number of one Z plane, from 0.
    reader
        ``"auto"`` reads raw and zstd pixels by their offset in the file and others (JPEG XR) by a library;
        ``"library"`` reads everything by a library: slower by the length of the movie, of use as a second opinion.

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
        self._z = check_z(z)
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
        origin, times, time_notes = read_times(opened)
        notes.extend(time_notes)
        names = read_scene_names(root, [scene.s_index for scene in index.scenes])
        beyond = int((~opened.inside()).sum())
        if beyond:
            notes.append(
                f"{beyond} of {len(opened.directory)} sub-blocks lie beyond the end of the file: it is truncated"
            )
        scenes = tuple(
            Scene(k, names[k], layout.n_frames, layout.shape_yx, layout.dtype, times.get(k))
            for k, layout in enumerate(index.scenes)
        )
        return AcquisitionMetadata(
            path=self._path,
            kind=KIND,
            identity=opened.identity,
            channels=read_channels(root, index.channels),
            scenes=scenes,
            pixel_size_um=read_pixel_size_um(root, path=self._path),
            times_origin=origin,
            notes=tuple(notes),
            growing_identity=_beginning(opened),
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

    def _assemble(self, opened: OpenCzi, scene: int, rows: tuple[int, ...]) -> Plane:
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

    def _open(self) -> OpenCzi:
        opened = open_czi(self._path)
        known = self.__dict__.get("metadata")
        if known is not None and known.identity != opened.identity:
            raise SourceError(
                "the file was replaced by another one while it was in use",
                where=self._path,
                remedy="start again with the new file",
            )
        chosen_z(self._z, max(len(planes) for planes in opened.index.z_planes.values()), path=self._path)
        return opened


def _beginning(opened: OpenCzi) -> str | None:
    """Digest by which the file was known while it was being written."""
    try:
        block = read_subblock(opened.fd, int(opened.directory.position.min()), path=opened.path)
        return growing_identity(opened.fd, block, path=opened.path)
    except SourceError:
        return None


def _rebuild(path: str, z: str | int, reader: Reader) -> CziSource:
    return CziSource(path, z=z, reader=reader)
