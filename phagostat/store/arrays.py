"""OME-Zarr 0.5 images and labels: created and resized by the driver, written a frame at a time by tasks.

One chunk is one plane of one frame, checksummed (crc32c). A task opens the array itself and asserts that its frame lies
inside: a handle opened before a resize would clip a write silently.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec, ZstdCodec

from phagostat.model.errors import StoreError
from phagostat.store.chunks import ChunkCodec, write_chunk
from phagostat.store.digests import array_digest, bytes_digest
from phagostat.store.files import storage_error, sync_file

OME_VERSION = "0.5"
Kind = Literal["intensity", "probability", "labels"]
"""What an image shows: intensities are noisy, probabilities and labels smooth."""
WIDE_PX = 2048
"""Images wider than this get a second pyramid level."""


@dataclass(frozen=True)
class ImageSpec:
    """An image of a scene, axes (t, c, y, x), one chunk a plane.

    Parameters
    ----------
    path
        Group of the image, relative to the image root.
    shape_tcyx
        Frames, channels, height, width.
    dtype
        numpy name of the pixel type.
    pixel_size_um, interval_s
        Scale of the axes; None is written as 1 without a unit.
    channels
        Name of each channel.
    kind
        Chooses compression and metadata.
    attributes
        What else the image says of itself, under ``phagostat``.
    """

    path: str
    shape_tcyx: tuple[int, int, int, int]
    dtype: str
    pixel_size_um: float | None
    interval_s: float | None
    channels: tuple[str, ...]
    kind: Kind = "intensity"
    attributes: Mapping[str, Any] | None = None

    @property
    def n_levels(self) -> int:
        """One, or two for images wider than :data:`WIDE_PX`."""
        return 2 if max(self.shape_tcyx[2:]) > WIDE_PX else 1

    def level_shape(self, level: int) -> tuple[int, int, int, int]:
        """Shape of a pyramid level."""
        frames, channels, height, width = self.shape_tcyx
        return frames, channels, height // 2**level, width // 2**level


def create_root(root: Path, *, attributes: Mapping[str, Any]) -> None:
    """Create or update the root group of a hierarchy of scenes (``bioformats2raw.layout``)."""
    try:
        group = zarr.open_group(root, mode="a", zarr_format=3)
        group.update_attributes(
            {"ome": {"version": OME_VERSION, "bioformats2raw.layout": 3}, "phagostat": dict(attributes)}
        )
    except OSError as error:
        raise storage_error(error, root) from error


def ensure_image(root: Path, spec: ImageSpec) -> None:
    """Create an image, or make it longer or shorter along t; what is there stays, unless its planes are others.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    try:
        group = zarr.open_group(root / spec.path, mode="a", zarr_format=3)
        keep = fits(root, spec)
        for level in range(spec.n_levels):
            shape = spec.level_shape(level)
            existing = group.get(str(level)) if keep else None
            if not isinstance(existing, zarr.Array):
                _create_array(group, str(level), shape, spec.dtype, spec.kind)
            elif existing.shape[0] != shape[0]:
                existing.resize(shape)
        beyond = root / spec.path / str(spec.n_levels)
        if beyond.is_dir():  # it was wider
            shutil.rmtree(beyond)
        attributes = _image_attributes(spec)
        if dict(group.attrs) != attributes:
            group.update_attributes(attributes)
    except OSError as error:
        raise storage_error(error, root / spec.path) from error


def fits(root: Path, spec: ImageSpec) -> bool:
    """Whether no image stands there, or one that differs in length alone."""
    group = zarr.open_group(root / spec.path, mode="a", zarr_format=3)
    for level in range(spec.n_levels):
        existing = group.get(str(level))
        if isinstance(existing, zarr.Array):
            same = existing.shape[1:] == spec.level_shape(level)[1:] and existing.dtype == np.dtype(spec.dtype)
            if not same:
                return False
    return True


def ensure_labels(root: Path, image_path: str, names: Sequence[str]) -> None:
    """Say which label images an image has."""
    try:
        group = zarr.open_group(root / image_path / "labels", mode="a", zarr_format=3)
        attributes = {"ome": {"version": OME_VERSION, "labels": list(names)}}
        if dict(group.attrs) != attributes:
            group.update_attributes(attributes)
    except OSError as error:
        raise storage_error(error, root / image_path) from error


def ensure_planes(root: Path, path: str, shape_cyx: tuple[int, int, int], dtype: str) -> None:
    """Create a plain (c, y, x) array, one chunk a plane, such as a scene's reference frame."""
    try:
        group = zarr.open_group(root / Path(path).parent, mode="a", zarr_format=3)
        if Path(path).name not in group:
            _create_array(group, Path(path).name, shape_cyx, dtype, "intensity")
    except OSError as error:
        raise storage_error(error, root / path) from error


class WrittenChunk(NamedTuple):
    """A chunk that was written.

    Parameters
    ----------
    path
        Relative to the image root.
    content
        Digest of the decoded plane: its identity.
    stored
        Digest of the file's bytes, which can be checked without decoding them.
    """

    path: str
    content: str
    stored: str


class PlaneWriter:
    """Writes planes into one array, opened here and now; used within one task and not kept.

    Parameters
    ----------
    root
        Image root.
    path
        The array, relative to the root.
    fsync
        Whether each chunk is forced to disk.

    Raises
    ------
    StoreError
        If the array is not there.
    """

    def __init__(self, root: Path, path: str, *, fsync: bool = False) -> None:
        self.root, self.path, self.fsync = root, path, fsync
        self._array = _open(root, path, mode="r+")
        self._codec = ChunkCodec(self._array)

    def write(self, index: tuple[int, ...], plane: NDArray[Any]) -> WrittenChunk:
        """Write one plane, one whole chunk.

        Raises
        ------
        StoreError
            If the array has no such plane, or it cannot be written.
        """
        shape = self._array.shape
        if plane.shape != shape[-2:] or plane.dtype != self._array.dtype:
            raise StoreError(
                "a plane does not fit its array",
                where=self.root / self.path,
                found=f"{plane.dtype} {plane.shape} for {self._array.dtype} {shape}",
            )
        # a handle opened before a resize would clip the write without a word
        if any(not 0 <= i < n for i, n in zip(index, shape[:-2], strict=True)):
            raise StoreError("a plane lies outside its array", where=self.root / self.path, found=f"{index} of {shape}")
        chunk = chunk_path(self.path, index)
        try:
            data = self._codec.encode(plane)
            write_chunk(self.root / chunk, data)
            if self.fsync:
                sync_file(self.root / chunk)
        except OSError as error:
            raise storage_error(error, self.root / chunk) from error
        return WrittenChunk(chunk, array_digest(plane), bytes_digest(data))


class PlaneReader:
    """Reads planes of one array, with their checksums.

    Parameters
    ----------
    root
        Image root.
    path
        The array, relative to the root.

    Raises
    ------
    StoreError
        If the array is not there.
    """

    def __init__(self, root: Path, path: str) -> None:
        self.root, self.path = root, path
        self._codec = ChunkCodec(_open(root, path, mode="r"))

    def read(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Read one plane.

        Raises
        ------
        StoreError
            If it is not there, cannot be decoded, or does not match its checksum.
        """
        chunk = self.root / chunk_path(self.path, index)
        try:
            return self._codec.decode(chunk.read_bytes())
        except (OSError, ValueError) as error:
            raise StoreError("a chunk is damaged", where=chunk, found=error) from error


def read_plane(root: Path, path: str, index: tuple[int, ...]) -> NDArray[Any]:
    """Read one plane: for many of an array, keep a :class:`PlaneReader`."""
    return PlaneReader(root, path).read(index)


def _open(root: Path, path: str, *, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
    try:
        # this option is no part of an array's metadata: without it an all-zero plane would leave no chunk
        return zarr.open_array(root / path, mode=mode, zarr_format=3).with_config({"write_empty_chunks": True})
    except FileNotFoundError as error:
        raise StoreError("an array is gone", where=root / path, remedy="choose a new output") from error
    except OSError as error:
        raise storage_error(error, root / path) from error


def halved(plane: NDArray[Any]) -> NDArray[Any]:
    """A plane of half the size, each pixel the rounded mean of four; an odd last row or column is left out."""
    height, width = (n // 2 * 2 for n in plane.shape)
    even = plane[:height, :width].astype(np.uint32)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(plane.dtype)


def halved_labels(plane: NDArray[Any]) -> NDArray[Any]:
    """A label image of half the size, of two times two pixels the first: a mean of labels would be a third one."""
    height, width = (n // 2 * 2 for n in plane.shape)
    return np.ascontiguousarray(plane[:height:2, :width:2])


def chunk_path(path: str, index: tuple[int, ...]) -> str:
    """Where the chunk of a plane lies, relative to the image root."""
    return "/".join([path, "c", *map(str, index), "0", "0"])


def split_chunk_path(chunk: str) -> tuple[str, tuple[int, ...]]:
    """The array and the plane that a chunk belongs to: the inverse of :func:`chunk_path`."""
    path, _, indices = chunk.rpartition("/c/")
    return path, tuple(int(i) for i in indices.split("/")[:-2])


def _create_array(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: str, kind: Kind) -> None:
    compressor: Any = ZstdCodec(level=1)
    if kind == "intensity":  # noise, which zstd takes three times as long for and packs a sixth better
        compressor = BloscCodec(
            cname="lz4", clevel=5, shuffle=BloscShuffle.bitshuffle, typesize=np.dtype(dtype).itemsize
        )
    group.create_array(
        name,
        overwrite=True,
        shape=shape,
        chunks=(*(1 for _ in shape[:-2]), *shape[-2:]),
        dtype=dtype,
        compressors=[compressor, Crc32cCodec()],
        fill_value=0,
        dimension_names=["t", "c", "y", "x"][-len(shape) :],
        config={"write_empty_chunks": True},
    )


def _image_attributes(spec: ImageSpec) -> dict[str, Any]:
    time = {"name": "t", "type": "time"} | ({"unit": "second"} if spec.interval_s is not None else {})
    length = {"unit": "micrometer"} if spec.pixel_size_um is not None else {}
    axes = [
        time,
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space"} | length,
        {"name": "x", "type": "space"} | length,
    ]
    pixel = spec.pixel_size_um or 1.0
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [spec.interval_s or 1.0, 1.0, *(2 * [pixel * 2**level])]}
            ]
            # a pixel's centre is its coordinate: the first averaged pixel's lies half a native pixel further
            + (
                [{"type": "translation", "translation": [0.0, 0.0, *(2 * [pixel * (2**level - 1) / 2])]}]
                if level
                else []
            ),
        }
        for level in range(spec.n_levels)
    ]
    ome: dict[str, Any] = {
        "version": OME_VERSION,
        "multiscales": [{"name": spec.path, "axes": axes, "datasets": datasets}],
    }
    if spec.kind == "labels":
        ome["image-label"] = {"source": {"image": "../../"}}
    else:
        top = float(np.iinfo(spec.dtype).max)
        colours = ["FF00FF", "FFFFFF", "00FFFF", "FFFF00"]
        ome["omero"] = {
            "channels": [
                {
                    "label": name,
                    "color": colours[i % len(colours)],
                    "active": True,
                    "window": {"min": 0.0, "max": top, "start": 0.0, "end": top},
                }
                for i, name in enumerate(spec.channels)
            ]
        }
    return {"ome": ome, "phagostat": dict(spec.attributes or {})}
