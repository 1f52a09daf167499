"""The TIFF source: OME-TIFF of one or several files, ImageJ hyperstacks, and plain stacks of pages over time."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Final

import numpy as np
import xxhash

from phagostat.model.acquisition import AcquisitionMetadata, Scene, TimesOrigin
from phagostat.model.errors import PhagostatError, PlaneError, SourceError
from phagostat.sources.protocol import Availability, Plane
from phagostat.sources.tiff_file import OpenTiff, open_tiff
from phagostat.sources.tiff_layout import PlaneKey, TiffLayout, stack_layout
from phagostat.sources.tiff_ome import ome_layout, read_ome_xml
from phagostat.sources.times import choose_times
from phagostat.sources.z_planes import ZChoice, check_z, chosen_z

KIND: Final = "tiff"


class TiffSource:
    """A TIFF, or the set of TIFFs that an OME-TIFF names, as a source of planes.

    Parameters
    ----------
    path
        The file; of a set, any of its files.
    z
        What a plane of a Z stack is: ``"max"``, its maximum projection, or the number of one Z plane, from 0.
    axes
        Order of the pages, slowest first, in place of what the file says: letters of T, C and Z, at most one of them
        without its length, then YX; such as ``"TYX"`` or ``"TC2YX"``.

    Raises
    ------
    SourceError
        On the first use, if the file is no TIFF, holds what phagostat does not take (colours, other pixels than uint8
        and uint16), or its axes cannot be told.

    Examples
    --------
    >>> source = TiffSource("movie.ome.tif")  # doctest: +SKIP
    >>> source.read(0, 12, 1).shape  # doctest: +SKIP
    (1024, 1024)
    """

    def __init__(self, path: str | os.PathLike[str], *, z: ZChoice = "max", axes: str | None = None) -> None:
        self._path = os.fspath(path)
        self._z = check_z(z)
        self._axes = axes
        self._checked: OpenTiff | None = None
        self._availability: tuple[TiffLayout, Availability] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._path, self._z, self._axes)

    def __repr__(self) -> str:
        return f"TiffSource({self._path!r}, z={self._z!r}, axes={self._axes!r})"

    @property
    def path(self) -> str:
        """Path of the file as it was given."""
        return self._path

    @property
    def options(self) -> dict[str, str | int]:
        """Options that decide what the planes contain."""
        return {"z": self._z} | ({"axes": self._axes} if self._axes is not None else {})

    @cached_property
    def metadata(self) -> AcquisitionMetadata:
        """What the file says of itself."""
        layout = self._layout
        candidates = {
            origin: {k: scene.times[origin] for k, scene in enumerate(layout.scenes) if origin in scene.times}
            for origin in (TimesOrigin.OFFSETS, TimesOrigin.INTERVAL)
            if any(origin in scene.times for scene in layout.scenes)
        }
        origin, times, notes = choose_times(candidates, n_frames=[scene.n_frames for scene in layout.scenes])
        scenes = tuple(
            Scene(k, scene.name, scene.n_frames, scene.form.shape_yx, scene.form.dtype, times.get(k))
            for k, scene in enumerate(layout.scenes)
        )
        return AcquisitionMetadata(
            self._path,
            KIND,
            self._identity(),
            layout.channels,
            scenes,
            layout.pixel_size_um,
            origin,
            (f"read as {layout.dialect}", *layout.notes, *notes),
        )

    def poll(self) -> Availability:
        """Tell which planes have their pages; a TIFF is taken as closed."""
        layout = self._layout
        if self._availability is not None and self._availability[0] is layout:
            return self._availability[1]
        complete = {}
        for scene, known in enumerate(layout.scenes):
            chosen = chosen_z(self._z, known.n_z, path=self._path)
            for channel in range(len(layout.channels)):
                complete[scene, channel] = tuple(
                    frame
                    for frame in range(known.n_frames)
                    if all((scene, frame, channel, z) in layout.places for z in chosen)
                )
        self._availability = layout, Availability(complete, closed=True)
        return self._availability[1]

    def read(self, scene: int, frame: int, channel: int) -> Plane:
        """Give one plane as a (y, x) array.

        Raises
        ------
        PlaneError
            If the plane is missing from the file, cut off, of another size than the others, or damaged.
        """
        where = f"{self._path} scene {scene} frame {frame} channel {channel}"
        try:
            layout = self._layout
            self._check_same()
            if not 0 <= scene < len(layout.scenes):
                raise SourceError("there is no such scene")
            result: Plane | None = None
            for z in chosen_z(self._z, layout.scenes[scene].n_z, path=self._path):
                plane = self._read((scene, frame, channel, z))
                result = plane if result is None else np.maximum(result, plane, out=result)
        except PhagostatError as error:
            raise PlaneError(error.what, where=where, found=error.found, remedy=error.remedy) from error
        except MemoryError as error:
            raise PlaneError("not enough memory for this plane", where=where) from error
        if result is None:
            raise PlaneError("there is no Z plane", where=where)
        return result

    def _read(self, key: PlaneKey) -> Plane:
        place, form = self._layout.places.get(key), self._layout.scenes[key[0]].form
        if place is None:
            raise SourceError("the file does not hold this plane")
        opened = open_tiff(place.path)
        if place.offset is not None:
            return opened.read_at(place.offset, form)
        found = opened.page_format(place.page)
        if found != form:
            raise SourceError("the page is not like the others", found=f"{found}; the others: {form}")
        return opened.read_page(place.page)

    @property
    def _layout(self) -> TiffLayout:
        """Layout of the file; kept with the opened file, so that each task of a process finds it again."""
        opened = open_tiff(self._path)
        layout = opened.kept.get(self._axes)
        if not isinstance(layout, TiffLayout):
            root = read_ome_xml(opened) if self._axes is None else None
            layout = ome_layout(opened, root) if root is not None else stack_layout(opened, axes=self._axes)
            opened.kept[self._axes] = layout
        for scene in layout.scenes:
            chosen_z(self._z, scene.n_z, path=self._path)
        return layout

    def _check_same(self) -> None:
        """Refuse another file that came to stand at the path since the metadata were read."""
        opened, known = open_tiff(self._path), self.__dict__.get("metadata")
        if known is not None and self._checked is not opened and self._identity() != known.identity:
            raise SourceError(
                "the file was replaced by another one while it was in use",
                where=self._path,
                remedy="start again with the new file",
            )
        self._checked = opened

    def _identity(self) -> str:
        """Digest of the description and of pixels sampled all over each file."""
        digest = xxhash.xxh3_128()
        digest.update(open_tiff(self._path).description.encode("utf-8", errors="replace"))
        for path in sorted({place.path for place in self._layout.places.values()}):
            open_tiff(path).sample(digest)
        return digest.hexdigest()


def _rebuild(path: str, z: ZChoice, axes: str | None) -> TiffSource:
    return TiffSource(path, z=z, axes=axes)
