"""An acquisition as lazy dask arrays, for use as a library.

Arrays are built by arithmetic on shapes, one chunk a plane; a plane is read inside the task that needs it, by a copy
of the source that the task's process opens itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phagostat import sources
from phagostat.model.acquisition import AcquisitionMetadata, Scene
from phagostat.model.errors import PlaneError, SourceError
from phagostat.sources.protocol import Availability, Plane, Source

if TYPE_CHECKING:
    import dask.array as da


class LazyAcquisition:
    """A source with its scenes as lazy (t, c, y, x) arrays.

    Parameters
    ----------
    source
        Any :class:`~phagostat.sources.protocol.Source`.

    Examples
    --------
    >>> movie = phagostat.open_source("movie.czi")  # doctest: +SKIP
    >>> movie["A3"].map_blocks(np.sqrt)[0, 0].compute()  # doctest: +SKIP
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def __repr__(self) -> str:
        return f"LazyAcquisition({self.source!r})"

    @property
    def metadata(self) -> AcquisitionMetadata:
        """What the source says of itself."""
        return self.source.metadata

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The fields of view, in order."""
        return self.source.metadata.scenes

    def poll(self) -> Availability:
        """Tell which planes are complete now."""
        return self.source.poll()

    def read(self, scene: int, frame: int, channel: int) -> Plane:
        """Give one plane as a (y, x) array, now."""
        return self.source.read(scene, frame, channel)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.scenes)

    def __iter__(self) -> Iterator[da.Array]:
        return (self.array(scene.index) for scene in self.scenes)

    def __getitem__(self, scene: int | str) -> da.Array:
        return self.array(scene)

    def array(self, scene: int | str) -> da.Array:
        """Give a scene as a lazy array.

        Parameters
        ----------
        scene
            Its index, or its name.

        Returns
        -------
        dask.array.Array
            Of shape (t, c, y, x) in native pixels and camera counts, one chunk a plane. Computing a plane that the
            source lacks raises :class:`~phagostat.model.errors.PlaneError`.
        """
        import dask.array as da  # noqa: PLC0415 - importing phagostat stays cheap

        found = self._scene(scene)
        n_channels = len(self.metadata.channels)
        height, width = found.shape_yx
        options = tuple(sorted(getattr(self.source, "options", {}).items()))
        token = f"{self.metadata.identity}-{found.index}-" + "-".join(f"{key}={value}" for key, value in options)
        return da.map_blocks(
            read_block,
            source=self.source,
            scene=found.index,
            chunks=((1,) * found.n_frames, (1,) * n_channels, (height,), (width,)),
            dtype=np.dtype(found.dtype),
            meta=np.empty((0, 0, 0, 0), dtype=found.dtype),
            name=f"read-plane-{token}",
        )

    def _scene(self, scene: int | str) -> Scene:
        if isinstance(scene, str):
            for candidate in self.scenes:
                if candidate.name == scene:
                    return candidate
        elif -len(self.scenes) <= scene < len(self.scenes):
            return self.scenes[scene]
        raise SourceError(
            "there is no such scene",
            where=self.metadata.path,
            found=scene,
            remedy="choose from " + ", ".join(f"{s.index} = {s.name}" for s in self.scenes),
        )


def read_block(*, source: Source, scene: int, block_info: dict[Any, Any] | None = None) -> NDArray[Any]:
    """Read the plane that a chunk stands for, as an array of shape (1, 1, y, x).

    ``block_info`` comes from dask and tells the chunk's position.
    """
    if block_info is None:
        raise PlaneError("the chunk's position is unknown", where=f"scene {scene}")
    frame, channel = block_info[None]["chunk-location"][:2]
    return source.read(scene, int(frame), int(channel))[np.newaxis, np.newaxis]


def open_source(path: str | os.PathLike[str], **options: Any) -> LazyAcquisition:
    """Open an acquisition of any supported kind as lazy arrays.

    Parameters
    ----------
    path
        A CZI, TIFF or OME-TIFF file, an OME-Zarr folder, or a folder of frames.
    **options
        What the reader of that kind takes, such as ``z``, or ``axes`` for TIFF.

    Returns
    -------
    LazyAcquisition
        With ``metadata``, ``scenes``, and ``[scene]`` giving lazy (t, c, y, x) arrays.
    """
    return LazyAcquisition(sources.open_source(path, **options))
