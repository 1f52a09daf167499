"""The frame folder source: one picture a file, PNG or TIFF, told apart by folders and names."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash

from phagostat.model.acquisition import AcquisitionMetadata, Scene, TimesOrigin
from phagostat.model.errors import MetadataError, PhagostatError, PlaneError, SourceError
from phagostat.sources import released_tables
from phagostat.sources.frame_files import OpenFolder, open_folder
from phagostat.sources.frame_layouts import FolderLayout
from phagostat.sources.pictures import picture_pixel_size_um, read_picture
from phagostat.sources.protocol import Availability, Plane
from phagostat.sources.tiff_file import PlaneFormat
from phagostat.sources.z_planes import ZChoice, check_z, chosen_z

KIND: Final = "frame-folder"
SAMPLED_BYTES: Final = 1 << 16
DIGESTED_FILES: Final = 8


class FrameFolderSource:
    """A folder of frames as a source of planes: the released data set's layout, or pictures named by frame.

    Parameters
    ----------
    path
        Folder of one acquisition (``scene_<k>`` folders), of one scene, or of one channel.
    z
        What a plane is where names say Z planes: ``"max"``, their maximum projection, or the number of one, from 0.

    Raises
    ------
    SourceError
        On the first use, if it cannot be told which picture is which frame, or the frames have no size in common.

    Notes
    -----
    In the released layout frame k is the picture called k. Elsewhere frames count from the lowest number of all the
    names. Numbers without a picture are frames that are missing. A picture of another size or pixel type than most
    of its scene, or one that is damaged, is a plane that cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], *, z: ZChoice = "max") -> None:
        self._path = os.fspath(path)
        self._z = check_z(z)
        self._availability: tuple[FolderLayout, Availability] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._path, self._z)

    def __repr__(self) -> str:
        return f"FrameFolderSource({self._path!r}, z={self._z!r})"

    @property
    def path(self) -> str:
        """Path of the folder as it was given."""
        return self._path

    @property
    def options(self) -> dict[str, str | int]:
        """Options that decide what the planes contain."""
        return {"z": self._z}

    @cached_property
    def metadata(self) -> AcquisitionMetadata:
        """What folders, names and pictures say."""
        layout, first = self._folder.layout, self._folder.first_number
        notes = [f"read as {layout.dialect}", *layout.notes]
        if first and not layout.released:
            notes.append(f"names count from {first}, which is frame 0")
        interval_s, pixel_size_um = self._tables(notes)
        if pixel_size_um is None:
            pixel_size_um = self._pixel_size_of_pictures()
        scenes = []
        for k, scene in enumerate(layout.scenes):
            form = self._folder.forms[k]
            n_frames = max(number for number, _, _ in scene.files) - first + 1
            times = tuple(frame * interval_s for frame in range(n_frames)) if interval_s is not None else None
            scenes.append(Scene(k, scene.name, n_frames, form.shape_yx, form.dtype, times))
        origin = TimesOrigin.INTERVAL if interval_s is not None else TimesOrigin.NONE
        return AcquisitionMetadata(
            self._path, KIND, self._identity(), layout.channels, tuple(scenes), pixel_size_um, origin, tuple(notes)
        )

    def poll(self) -> Availability:
        """Tell which pictures are there, by listing the folders again where they have changed.

        The folder is taken as closed. What has come since the first look is told as far as the metadata, which do not
        change, have a place for it.
        """
        now = open_folder(self._path).layout
        if self._availability is not None and self._availability[0] is now:
            return self._availability[1]
        files = {scene.name: scene.files for scene in now.scenes}
        index = {channel.name: channel.index for channel in now.channels}
        planes = chosen_z(self._z, self._folder.depth, path=self._path)
        first = self._folder.first_number
        complete = {
            (scene.index, channel.index): tuple(
                frame
                for frame in range(scene.n_frames)
                if all((frame + first, index.get(channel.name), z) in files.get(scene.name, {}) for z in planes)
            )
            for scene in self.metadata.scenes
            for channel in self.metadata.channels
        }
        self._availability = now, Availability(complete, closed=True)
        return self._availability[1]

    def read(self, scene: int, frame: int, channel: int) -> Plane:
        """Give one plane as a (y, x) array.

        Raises
        ------
        PlaneError
            If its picture is not there, damaged, or of another size or pixel type than those of its scene.
        """
        where = f"{self._path} scene {scene} frame {frame} channel {channel}"
        try:
            if not 0 <= scene < len(self._folder.layout.scenes) or frame < 0:
                raise SourceError("there is no such plane")
            result: Plane | None = None
            for z in chosen_z(self._z, self._folder.depth, path=self._path):
                plane = self._read(scene, frame, channel, z)
                result = plane if result is None else np.maximum(result, plane)
        except PhagostatError as error:
            raise PlaneError(error.what, where=where, found=error.found, remedy=error.remedy) from error
        except MemoryError as error:
            raise PlaneError("not enough memory for this plane", where=where) from error
        if result is None:
            raise PlaneError("there is no Z plane", where=where)
        return result

    def _read(self, scene: int, frame: int, channel: int, z: int) -> Plane:
        files = self._folder.layout.scenes[scene].files
        file = files.get((frame + self._folder.first_number, channel, z))
        if file is None:
            raise SourceError("no picture has this frame's number")
        plane = read_picture(file)
        found = PlaneFormat((plane.shape[0], plane.shape[1]), plane.dtype.name)
        expected = self._folder.channel_forms.get((scene, channel), found)
        if found != expected:
            raise SourceError(f"{file.name} is not like the others", found=f"{found}; the others: {expected}")
        widened: Plane = plane.astype(self._folder.forms[scene].dtype, copy=False)
        return widened

    @cached_property
    def _folder(self) -> OpenFolder:
        folder = open_folder(self._path)
        chosen_z(self._z, folder.depth, path=self._path)
        return folder

    def _tables(self, notes: list[str]) -> tuple[float | None, float | None]:
        """Interval in s and pixel size in um by the tables of the published pipeline, where they stand beside."""
        if not self._folder.layout.released:
            return None, None
        root = Path(self._path)
        folders = [root / scene.name for scene in self._folder.layout.scenes]
        folders = [folder if folder.is_dir() else root for folder in folders]
        said = {
            "pixel size": {v for folder in folders if (v := released_tables.pixel_size_um(folder)) is not None},
            "interval": {v for folder in folders if (v := released_tables.interval_s(folder)) is not None},
        }
        common = released_tables.common_interval_s(said["interval"])
        said["interval"] = said["interval"] if common is None else {common}
        values: dict[str, float | None] = {}
        for what, found in said.items():
            values[what] = next(iter(found)) if len(found) == 1 else None
            if len(found) == 1:
                notes.append(f"the {what} is by the tables in CSVs")
            elif found:
                notes.append(f"the {what} differs between the tables in CSVs and is not taken: {sorted(found)}")
        if None in values.values():
            notes.append(
                "pictures of this layout carry neither pixel size nor times; for the released data set itself these "
                "are --pixel-size-um 0.206 --interval-s 120"
            )
        return values["interval"], values["pixel size"]

    def _pixel_size_of_pictures(self) -> float | None:
        """Pixel size that the first picture of every scene says."""
        sizes = {picture_pixel_size_um(scene.files[min(scene.files)]) for scene in self._folder.layout.scenes}
        if len(sizes) > 1:
            raise MetadataError("scenes have different pixel sizes", where=self._path, found=sorted(map(str, sizes)))
        return sizes.pop()

    def _identity(self) -> str:
        """Digest of the pictures' places and sizes, and of some of their contents."""
        digest = xxhash.xxh3_128()
        files = [
            ((scene.name, *key), file)
            for scene in self._folder.layout.scenes
            for key, file in sorted(scene.files.items())
        ]
        for place, file in files:
            digest.update(f"{place} {_size(file)}\n".encode("utf-8", errors="surrogateescape"))
        for k in np.unique(np.linspace(0, len(files) - 1, DIGESTED_FILES).astype(int)):
            digest.update(_head(files[k][1]))
        return digest.hexdigest()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(SAMPLED_BYTES)
    except OSError:
        return b""


def _rebuild(path: str, z: ZChoice) -> FrameFolderSource:
    return FrameFolderSource(path, z=z)
