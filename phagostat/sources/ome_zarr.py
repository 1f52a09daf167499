"""The OME-Zarr source: version 0.5 (and 0.4) images with time and channel axes, such as ``phagostat convert`` writes.

One image is one scene; a group of images (``bioformats2raw.layout`` or plainly numbered) is one acquisition. A frame
that has no chunk is a frame that is missing, which is why ``convert`` writes every chunk, empty ones too.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash

from phagostat.model.acquisition import AcquisitionMetadata, Channel, Scene, TimesOrigin
from phagostat.model.errors import MetadataError, PhagostatError, PlaneError, SourceError
from phagostat.sources.channel_light import is_fluorescent
from phagostat.sources.ome_zarr_nodes import is_node, node_files, read_node
from phagostat.sources.protocol import Availability, Plane
from phagostat.sources.z_planes import check_z, chosen_z

KIND: Final = "ome-zarr"
UM_PER: Final = {
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "millimeter": 1e3,
    "meter": 1e6,
    "angstrom": 1e-4,
    "centimeter": 1e4,
}
SECONDS_PER: Final = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "minute": 60.0, "hour": 3600.0}
SQUARE_TOLERANCE: Final = 1e-3
DTYPES: Final = ("uint8", "uint16")
MAX_PLANES: Final = 1 << 24
MAX_SIDE_PX: Final = 1 << 16


@dataclass(frozen=True)
class _Image:
    """One multiscales image: its array and what its attributes say."""

    group: Path
    array: Path
    node: Mapping[str, Any]
    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    scale: tuple[float, ...] | None
    labels: tuple[str, ...]
    own: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.node["shape"])

    def length(self, axis: str) -> int:
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    def step(self, axis: str, factors: Mapping[str, float]) -> float | None:
        """Step along an axis in um or s; None where the unit or the scale is not given."""
        if axis not in self.axes or self.scale is None:
            return None
        k = self.axes.index(axis)
        factor = factors.get(self.units[k] or "")
        step = self.scale[k]
        return step * factor if factor is not None and math.isfinite(step) and step > 0 else None


class OmeZarrSource:
    """An OME-Zarr 0.4 or 0.5 image, or group of images, as a source of planes.

    Parameters
    ----------
    path
        The folder with the ``zarr.json`` (0.5) or ``.zattrs`` (0.4) of the image or group.
    z
        What a plane of a Z stack is: ``"max"``, its maximum projection, or the number of one Z plane, from 0.

    Raises
    ------
    SourceError
        On the first use, if it is no OME-Zarr or has axes, pixel types or chunks that phagostat does not take.
    """

    def __init__(self, path: str | os.PathLike[str], *, z: str | int = "max") -> None:
        self._path = os.fspath(path)
        self._z = check_z(z)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._path, self._z)

    def __repr__(self) -> str:
        return f"OmeZarrSource({self._path!r}, z={self._z!r})"

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
        """What the group and its images say of themselves."""
        images = self._images
        channels = _channels(images[0])
        for k, image in enumerate(images):
            if image.length("c") != len(channels):
                raise SourceError(
                    f"image {k} has another number of channels than the first",
                    where=self._path,
                    found=f"{image.length('c')} and {len(channels)}",
                )
        notes: list[str] = []
        times, origin = _times(images, notes)
        sizes = [_pixel_size_um(image, path=self._path) for image in images]
        if len({round(size, 9) for size in sizes if size is not None}) > 1:
            raise MetadataError("images have different pixel sizes", where=self._path, found=sizes)
        scenes = tuple(
            Scene(
                k,
                str(
                    image.own.get("scene_name")
                    or image.node.get("name")
                    or (image.group.name if k or len(images) > 1 else "image")
                ),
                image.length("t"),
                (image.length("y"), image.length("x")),
                str(image.node["data_type"]),
                times[k],
            )
            for k, image in enumerate(images)
        )
        scenes = _unique_names(scenes)
        return AcquisitionMetadata(self._path, KIND, self._identity(), channels, scenes, sizes[0], origin, tuple(notes))

    def poll(self) -> Availability:
        """Tell which planes have all their chunks, by listing folders; the images are taken as closed."""
        complete: dict[tuple[int, int], tuple[int, ...]] = {}
        for scene, image in enumerate(self._images):
            present = _present_planes(image)
            for channel in range(image.length("c")):
                complete[scene, channel] = tuple(
                    frame
                    for frame in range(image.length("t"))
                    if all((frame, channel, z) in present for z in self._chosen_z(image))
                )
        return Availability(complete, closed=True)

    def read(self, scene: int, frame: int, channel: int) -> Plane:
        """Give one plane as a (y, x) array.

        Raises
        ------
        PlaneError
            If the plane is missing or cannot be decoded.
        """
        where = f"{self._path} scene {scene} frame {frame} channel {channel}"
        try:
            return self._read(scene, frame, channel)
        except PhagostatError as error:
            raise PlaneError(error.what, where=where, found=error.found) from error
        except Exception as error:  # codecs and checksums raise what they like
            raise PlaneError("the plane cannot be decoded", where=where, found=error) from error

    def _read(self, scene: int, frame: int, channel: int) -> Plane:
        import zarr  # noqa: PLC0415 - needed for this kind of source only

        if not 0 <= scene < len(self._images):
            raise SourceError("there is no such scene")
        image = self._images[scene]
        if not (0 <= frame < image.length("t") and 0 <= channel < image.length("c")):
            raise SourceError("there is no such plane")
        result: Plane | None = None
        for z in self._chosen_z(image):
            if not _plane_is_there(image, frame, channel, z):
                raise SourceError("the plane was not written")
            # opened anew every time: a handle from before a resize clips silently
            array = zarr.open_array(store=str(image.array), mode="r", zarr_format=image.node["zarr_format"])
            position = {"t": frame, "c": channel, "z": z}
            pixels = np.asarray(array[tuple(position.get(axis, slice(None)) for axis in image.axes)])
            plane: Plane = pixels.astype(str(image.node["data_type"]), copy=False)
            result = plane if result is None else np.maximum(result, plane)
        if result is None:
            raise SourceError("the image has no Z plane")
        return result

    def _chosen_z(self, image: _Image) -> Sequence[int]:
        depth = image.length("z")
        # what was converted from one Z plane has no Z any more, and is read with the same settings
        return chosen_z(self._z, depth, path=self._path) if depth > 1 else range(1)

    @cached_property
    def _images(self) -> tuple[_Image, ...]:
        root = Path(self._path)
        attributes = read_node(root).get("attributes", {})
        ome = attributes.get("ome")
        ome = ome if isinstance(ome, Mapping) else {}
        if "plate" in ome or "well" in ome:
            raise SourceError(
                "a plate or well, not an image or group of images",
                where=root,
                remedy="give one well's field, the folder that holds 'multiscales'",
            )
        if "multiscales" in ome:
            return (_image(root),)
        groups = sorted(
            (folder for folder in root.iterdir() if folder.name.isdigit() and is_node(folder)),
            key=lambda folder: int(folder.name),
        )
        if not groups:
            raise SourceError(
                "not an OME-Zarr 0.4 or 0.5 image nor a group of such images",
                where=root,
                found=f"attributes {sorted(attributes)}",
                remedy="give the folder that holds 'multiscales', or numbered images",
            )
        return tuple(_image(group) for group in groups)

    def _identity(self) -> str:
        """Digest of the attributes and array descriptions, and of one chunk of each image."""
        digest = xxhash.xxh3_128()
        root = Path(self._path)
        for folder in (root, *(p for image in self._images for p in (image.group, image.array))):
            for file in node_files(folder):
                raw = file.read_bytes()
                digest.update(len(raw).to_bytes(8, "little"))
                digest.update(raw)
        for image in self._images:
            first = _chunk_path(image, 0, 0, 0)
            if first.is_file():
                digest.update(first.read_bytes())
        return digest.hexdigest()


def _rebuild(path: str, z: str | int) -> OmeZarrSource:
    return OmeZarrSource(path, z=z)


def _image(group: Path) -> _Image:
    try:
        attributes = read_node(group).get("attributes", {})
        ome, own = attributes["ome"], attributes.get("phagostat", {})
        multiscale = ome["multiscales"][0]
        axes = tuple(axis["name"] for axis in multiscale["axes"])
        units = tuple(axis.get("unit") for axis in multiscale["axes"])
        level = multiscale["datasets"][0]
        array = group / level["path"]
        scale = _scale(level.get("coordinateTransformations", ()), multiscale.get("coordinateTransformations", ()))
        labels = tuple(str(channel.get("label", "")) for channel in ome.get("omero", {}).get("channels", ()))
        node = read_node(array)
        image = _Image(group, array, node, axes, units, scale, labels, own)
        shape = image.shape
        chunk = image.node["chunk_grid"]["configuration"]["chunk_shape"]
        sound = (
            len(shape) == len(chunk) == len(axes)
            and {"y", "x"} <= set(axes) <= set("tczyx")
            and axes[-2:] == ("y", "x")
            and len(set(axes)) == len(axes)
            and all(type(n) is int and n > 0 for n in (*shape, *chunk))
            and math.prod(shape[:-2]) <= MAX_PLANES
            and max(shape[-2:]) <= MAX_SIDE_PX
            and (scale is None or len(scale) == len(axes))
        )
        # everything used later is looked up once here, so that what is absent is said here
        if _separator(image)[0] not in (".", "/") or not isinstance(node["data_type"], str):
            raise TypeError("chunk keys or pixel type")  # noqa: TRY301 - said as for all else that is absent
        if not all(unit is None or isinstance(unit, str) for unit in units) or not isinstance(own, Mapping):
            raise TypeError("units or attributes")  # noqa: TRY301
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise SourceError("not an OME-Zarr 0.4 or 0.5 image", where=group, found=repr(error)) from error
    if not sound:
        raise SourceError(
            "the image's axes are not among t, c, z, y, x, ending with y, x", where=group, found=f"{axes} for {shape}"
        )
    if node["data_type"] not in DTYPES:
        raise SourceError("pixels are neither uint8 nor uint16", where=group, found=node["data_type"])
    return image


def _scale(*transformations: Any) -> tuple[float, ...] | None:
    """Product of the scales of a dataset's and its image's transformations."""
    product: tuple[float, ...] | None = None
    for group in transformations:
        for transformation in group:
            if transformation.get("type") == "scale":
                factors = tuple(float(value) for value in transformation["scale"])
                product = factors if product is None else tuple(a * b for a, b in zip(product, factors, strict=True))
    return product


def _pixel_size_um(image: _Image, *, path: str) -> float | None:
    y, x = image.step("y", UM_PER), image.step("x", UM_PER)
    if x is None or y is None:
        return None
    if abs(x - y) > SQUARE_TOLERANCE * max(x, y):
        raise MetadataError("pixels are not square", where=path, found=f"{x:g} um wide, {y:g} um high")
    return x


def _channels(image: _Image) -> tuple[Channel, ...]:
    own = image.own.get("channels", ())
    channels = []
    for index in range(image.length("c")):
        mine = own[index] if index < len(own) and isinstance(own[index], Mapping) else {}
        label = image.labels[index] if index < len(image.labels) else ""
        name = str(mine.get("name") or label or f"channel {index}")
        known = mine.get("fluorescent")
        fluorescent = known if isinstance(known, bool) else is_fluorescent(name=name, facts={})
        channels.append(Channel(index, name, fluorescent))
    return tuple(channels)


def _times(images: Sequence[_Image], notes: list[str]) -> tuple[list[tuple[float, ...] | None], TimesOrigin]:
    """Times per image: our own list where every image has one, else the step of the time axis."""
    own: list[tuple[float, ...] | None] = []
    for image in images:
        listed = image.own.get("times_s")
        sound = isinstance(listed, list) and len(listed) == image.length("t") and all(map(_is_time, listed))
        own.append(tuple(math.nan if v is None else float(v) for v in listed) if sound and listed is not None else None)
    if all(times is not None for times in own):
        said = images[0].own.get("times_origin")
        origins = {origin.value: origin for origin in TimesOrigin}
        return own, origins.get(str(said), TimesOrigin.OFFSETS)
    steps = [image.step("t", SECONDS_PER) for image in images]
    if any(step is None for step in steps):
        return [None] * len(images), TimesOrigin.NONE
    notes.append("times are a constant interval as planned, not as measured")
    return [
        tuple(frame * (step or 0.0) for frame in range(image.length("t")))
        for image, step in zip(images, steps, strict=True)
    ], TimesOrigin.INTERVAL


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))


def _unique_names(scenes: tuple[Scene, ...]) -> tuple[Scene, ...]:
    if len({scene.name for scene in scenes}) == len(scenes):
        return scenes
    return tuple(Scene(s.index, f"{s.name} ({s.index})", s.n_frames, s.shape_yx, s.dtype, s.times_s) for s in scenes)


def _chunk_shape(image: _Image) -> tuple[int, ...]:
    """Shape of what one file of the array holds: a chunk, or a shard of chunks."""
    return tuple(int(n) for n in image.node["chunk_grid"]["configuration"]["chunk_shape"])


def _separator(image: _Image) -> tuple[str, bool]:
    """Separator in chunk keys, and whether they begin with ``c``."""
    encoding = image.node.get("chunk_key_encoding", {})
    default = encoding.get("name", "default") == "default"
    return encoding.get("configuration", {}).get("separator", "/" if default else "."), default


def _chunk_numbers(image: _Image, frame: int, channel: int, z: int) -> list[int]:
    position = {"t": frame, "c": channel, "z": z}
    return [position.get(axis, 0) // n for axis, n in zip(image.axes, _chunk_shape(image), strict=True)]


def _chunk_path(image: _Image, frame: int, channel: int, z: int) -> Path:
    """File of the chunk with a plane's first pixel."""
    separator, prefixed = _separator(image)
    keys = [*(["c"] if prefixed else []), *map(str, _chunk_numbers(image, frame, channel, z))]
    return image.array / separator.join(keys)


def _chunks_per_plane(image: _Image) -> int:
    chunk = _chunk_shape(image)
    return math.prod(-(-n // c) for n, c in zip(image.shape[-2:], chunk[-2:], strict=True))


def _chunks_needed(image: _Image) -> int:
    """How many of a plane's chunks must have files for the plane to be there.

    What ``phagostat convert`` writes has all of them, so that one which is absent is one that is lost. Other programs
    leave out chunks of zeros, as Zarr allows: there a plane is missing only where it has none at all.
    """
    return _chunks_per_plane(image) if image.own else 1


def _plane_is_there(image: _Image, frame: int, channel: int, z: int) -> bool:
    """Whether as many of a plane's chunks have files as it needs."""
    separator, prefixed = _separator(image)
    leading = _chunk_numbers(image, frame, channel, z)[:-2]
    chunk, missing_allowed = _chunk_shape(image), _chunks_per_plane(image) - _chunks_needed(image)
    for position in np.ndindex(*(-(-n // c) for n, c in zip(image.shape[-2:], chunk[-2:], strict=True))):
        keys = [*(["c"] if prefixed else []), *map(str, (*leading, *position))]
        if (image.array / separator.join(keys)).is_file():
            if image.own:
                continue
            return True
        missing_allowed -= 1
        if missing_allowed < 0:
            return False
    return True


def _present_planes(image: _Image) -> set[tuple[int, int, int]]:
    """Find (frame, channel, z) that are there: one listing of the array's folder."""
    separator, prefixed = _separator(image)
    chunk, n_axes = _chunk_shape(image), len(image.axes)
    base = image.array / "c" if prefixed and separator == "/" else image.array
    pattern = re.compile(("c\\." if prefixed and separator == "." else "") + r"\.".join([r"(\d+)"] * n_axes) + "$")
    counts: dict[tuple[int, ...], int] = {}
    for folder, _, names in os.walk(base):
        inner = os.path.relpath(folder, base)
        for name in names:
            key = (name if inner == "." else f"{inner}/{name}").replace(os.sep, "/").replace("/", ".")
            match = pattern.fullmatch(key)
            if match:
                leading = tuple(int(n) for n in match.groups()[:-2])
                counts[leading] = counts.get(leading, 0) + 1
    whole = {leading for leading, count in counts.items() if count >= _chunks_needed(image)}
    present: set[tuple[int, int, int]] = set()
    for leading in whole:
        spans = {
            axis: range(k * n, min((k + 1) * n, size))
            for axis, k, n, size in zip(image.axes[:-2], leading, chunk[:-2], image.shape[:-2], strict=True)
        }
        present.update(
            (t, c, z)
            for t in spans.get("t", range(1))
            for c in spans.get("c", range(1))
            for z in spans.get("z", range(1))
        )
    return present
