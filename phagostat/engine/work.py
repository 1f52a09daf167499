"""What goes to a task and what comes back: never pixels."""

from __future__ import annotations

import functools
import pickle
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.intensity import intensity_histogram
from phagostat.kernels.normalisation import reduce_area
from phagostat.model.acquisition import Acquisition, Scene
from phagostat.model.errors import PhagostatError, PlaneError, SourceError
from phagostat.settings import Settings
from phagostat.sources.protocol import Plane, Source
from phagostat.store.arrays import WIDE_PX, PlaneReader, PlaneWriter, halved, halved_labels
from phagostat.store.commits import Entry
from phagostat.store.digests import array_digest
from phagostat.store.layout import Layout
from phagostat.store.rows import read_row_file

_Made = TypeVar("_Made")

UNDETERMINED = "undetermined"
"""Verdict of a result that needs more frames than there are yet: not committed."""


@dataclass(frozen=True)
class Job:
    """One acquisition on its way into one output; picklable, since every task gets it.

    Parameters
    ----------
    source
        Where planes are read from, by path.
    layout
        Where results go.
    settings
        All settings.
    scenes
        The scenes, in order.
    acquisition
        Roles, sizes and times; None for a conversion, which needs none.
    """

    source: Source
    layout: Layout
    settings: Settings
    scenes: tuple[Scene, ...]
    acquisition: Acquisition | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # every task carries the job, thousands of frame times included: it is packed once, and unpacked once a process
        return _unpacked_job, (self._packed,)

    @functools.cached_property
    def _packed(self) -> bytes:
        return pickle.dumps((self.source, self.layout, self.settings, self.scenes, self.acquisition))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels that are read: those with a role, or all."""
        if self.acquisition is None:
            return tuple(channel.index for channel in self.source.metadata.channels)
        return tuple(sorted(self.acquisition.roles.values()))

    @property
    def known(self) -> Acquisition:
        """The acquisition of an analysis."""
        if self.acquisition is None:
            raise TypeError("a conversion has no acquisition")
        return self.acquisition

    def block_frames(self, scene: int) -> int:
        """Frames of a scene that are computed together: no more than the settings say, and than fit into a block."""
        height, width = self.scenes[scene].shape_yx
        plane_bytes = height * width * np.dtype(self.scenes[scene].dtype).itemsize
        fitting = self.settings.execution.block_bytes // max(plane_bytes * max(len(self.channels), 1), 1)
        return max(1, min(self.settings.execution.block_frames, fitting))


@functools.lru_cache(maxsize=4)
def _unpacked_job(packed: bytes) -> Job:
    return Job(*pickle.loads(packed))


@dataclass(frozen=True)
class FramePlanes:
    """The planes of one frame: by channel an array, None where it is missing, or why it cannot be read.

    ``seconds`` is the CPU time that reading took.
    """

    frame: int
    planes: Mapping[int, Plane | PlaneError | None]
    seconds: float = field(default=0.0, compare=False)
    _reduced: dict[tuple[int, int], Plane] = field(default_factory=dict, compare=False, repr=False)
    _histograms: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)
    _digests: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    _made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, name: str, make: Callable[[], _Made]) -> _Made:
        """Give what several steps of a block make of this frame, made by the first of them."""
        if name not in self._made:
            self._made[name] = make()
        made: _Made = self._made[name]
        return made

    def reduced(self, channel: int, reduction: int) -> Plane | None:
        """A channel's plane on the analysis grid, averaged once for all steps, or None."""
        plane = self.plane(channel)
        if plane is not None and (channel, reduction) not in self._reduced:
            self._reduced[channel, reduction] = cast(Plane, reduce_area(plane, factor=reduction))
        return self._reduced.get((channel, reduction))

    def histogram(self, channel: int, reduction: int) -> NDArray[np.int64] | None:
        """Grey levels of a channel's plane on the analysis grid, counted once for all steps, or None."""
        plane = self.reduced(channel, reduction)
        if plane is not None and (channel, reduction) not in self._histograms:
            self._histograms[channel, reduction] = intensity_histogram(plane)
        return self._histograms.get((channel, reduction))

    def plane(self, channel: int) -> Plane | None:
        """A channel's plane, or None."""
        plane = self.planes[channel]
        return None if isinstance(plane, PlaneError) else plane

    def problem(self, channel: int) -> str | None:
        """``"missing"`` or ``"unreadable"``, or None where the plane is there."""
        plane = self.planes[channel]
        if plane is None:
            return "missing"
        return "unreadable" if isinstance(plane, PlaneError) else None

    def explanation(self, channel: int) -> str | None:
        """Why a plane cannot be read, in a sentence."""
        plane = self.planes[channel]
        return str(plane) if isinstance(plane, PlaneError) else None

    def digests(self) -> dict[str, str]:
        """Digests of the planes that are there, by channel."""
        for channel in self.planes:
            plane = self.plane(channel)
            if plane is not None and f"plane/{channel}" not in self._digests:
                self._digests[f"plane/{channel}"] = array_digest(plane)
        return dict(self._digests)


@dataclass(frozen=True)
class Result:
    """What a step gives for one index.

    ``columns`` are its rows, all of one length; ``stored`` the digests of its chunks' bytes on disk.
    """

    verdict: str
    record: dict[str, Any] = field(default_factory=dict)
    chunks: dict[str, str] = field(default_factory=dict)
    columns: dict[str, NDArray[Any]] | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """What a task returns to the driver: under 64 KB for a block, whatever the size of a frame.

    Parameters
    ----------
    results
        For each step its results in order of index, without rows.
    rows
        For each step and index the digest of its rows.
    row_files
        For each step the path and digest of the row file that was written.
    seconds
        Time spent, by step and for reading: for the journal.
    """

    results: dict[str, tuple[Result, ...]]
    rows: dict[str, dict[int, str]]
    row_files: dict[str, tuple[str, str]]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Needed:
    """A committed result that another step reads.

    ``content`` is its digest, by which what was made of it is known again; empty for a fold's.
    """

    verdict: str
    record: Mapping[str, Any]
    row_file: str | None = None
    row_file_digest: str | None = None
    content: str = ""

    @classmethod
    def of(cls, entry: Entry, row_file_digest: str | None) -> Needed:
        """What a task needs of a committed entry."""
        return cls(entry.verdict, entry.record, entry.row_file, row_file_digest, entry.content)


Needs = Mapping[str, Mapping[int, Needed]]
"""Committed results by step, and by frame (a frame's), scene (a scene's, read by the acquisition) or 0."""

Present = Mapping[int, Mapping[int, frozenset[int]]]
"""For each scene and channel the frames whose planes can be read, as the driver saw it."""


class TaskContext:
    """What a step's function sees while its task runs: the job, its scene, and what it needs.

    Parameters
    ----------
    job
        The acquisition and its output.
    scene
        Index of the scene; None for a step of the acquisition.
    needs
        Committed results that the steps read.
    """

    def __init__(self, job: Job, scene: int | None, needs: Needs) -> None:
        self.job = job
        self.scene = scene
        self.needs = needs
        self.stored: dict[str, str] = {}
        self._made: dict[str, Any] = {}
        self._rows: dict[str, dict[str, NDArray[Any]]] = {}
        self._readers: dict[str, PlaneReader] = {}
        self._writers: dict[str, PlaneWriter] = {}

    @property
    def scene_index(self) -> int:
        """Index of the scene."""
        if self.scene is None:
            raise TypeError("a step of the acquisition has no scene")
        return self.scene

    def once(self, name: str, make: Callable[[], _Made]) -> _Made:
        """Give what several steps of this task make of the same, made by the first of them."""
        if name not in self._made:
            self._made[name] = make()
        made: _Made = self._made[name]
        return made

    def rows(self, step: str, index: int) -> dict[str, NDArray[Any]]:
        """Rows of a committed result that this task reads: of a frame, or of the scene.

        A file holds the rows of a range of frames; it is read once.

        Raises
        ------
        StoreError
            If the file is gone or damaged.
        """
        need = self.needs[step][index]
        if need.row_file is None or need.row_file_digest is None:
            raise KeyError(f"{step} has no rows of {index}")
        if need.row_file not in self._rows:
            self._rows[need.row_file] = read_row_file(self.job.layout.rows, need.row_file, need.row_file_digest)
        columns = self._rows[need.row_file]
        mine = columns["index"] == index
        return {name: column[mine] for name, column in columns.items() if name != "index"}

    def reader(self, path: str) -> PlaneReader:
        """A reader of one array of the output, kept for this task."""
        if path not in self._readers:
            self._readers[path] = PlaneReader(self.job.layout.images, path)
        return self._readers[path]

    def write_levels(
        self, image: str, index: tuple[int, ...], plane: NDArray[Any], *, labels: bool = False
    ) -> dict[str, str]:
        """Write one plane of an image and of its pyramid level, if it has one; give chunks and digests."""
        written = self.write(f"{image}/0", index, plane)
        if max(plane.shape) > WIDE_PX:
            written |= self.write(f"{image}/1", index, halved_labels(plane) if labels else halved(plane))
        return written

    def write(self, path: str, index: tuple[int, ...], plane: NDArray[Any]) -> dict[str, str]:
        """Write one plane; give its chunk and digest, and note that of its bytes in ``stored``."""
        if path not in self._writers:
            self._writers[path] = PlaneWriter(self.job.layout.images, path, fsync=self.job.settings.execution.fsync)
        written = self._writers[path].write(index, plane)
        self.stored[written.path] = written.stored
        return {written.path: written.content}


@dataclass(frozen=True)
class StoredFrame:
    """A plane that an earlier step has stored; None where it stored none, or the movie has no such frame."""

    frame: int
    plane: NDArray[Any] | None


@dataclass(frozen=True)
class WindowFunction:
    """Computes a step that reads stored planes of its own frame and of some that follow.

    Parameters
    ----------
    load
        Reads what is stored of a frame.
    compute
        Given the stored frames of a block and of those that follow it, and the number of frames of the block, gives
        the results of the block's frames.
    """

    load: Callable[[TaskContext, int], NDArray[Any] | None]
    compute: Callable[[TaskContext, Sequence[StoredFrame], int], list[Result]]


StepFunction = Callable[[TaskContext, Sequence[FramePlanes], Mapping[str, Sequence[Result]]], list[Result]]
"""Computes a step for the frames of a block, given the results of the block's earlier steps."""


SceneFunction = Callable[[TaskContext, Present, int], Result]
"""Computes a step of a whole scene or acquisition, given what can be read and how many first frames are final."""


def read_frame(job: Job, scene: int, frame: int, present: Mapping[int, Collection[int]]) -> FramePlanes:
    """Read the planes of a frame; a plane that cannot be read is recorded, the others go on.

    ``present`` gives for each channel the frames whose planes are complete, as the driver saw it.

    Raises
    ------
    SourceError
        If the source itself is gone, such as a drive that was unplugged: that is no frame's fault.
    """
    started = time.process_time()
    planes: dict[int, Plane | PlaneError | None] = {}
    found = FramePlanes(frame, planes)
    for channel in job.channels:
        try:
            planes[channel] = job.source.read(scene, frame, channel) if frame in present[channel] else None
        except PlaneError as error:
            planes[channel] = error
        except OSError as error:  # of the source: the output's errors are the store's
            where = f"{job.source.metadata.path} scene {scene} frame {frame} channel {channel}"
            planes[channel] = PlaneError("the plane cannot be read", where=where, found=error.strerror or error)
        if isinstance(planes[channel], PlaneError):
            _require_source(job)
        # while the pixels are still in the processor's cache: not even a frame fits
        found.digests()
        if job.acquisition is not None:
            found.reduced(channel, job.acquisition.reduction)
    return replace(found, seconds=time.process_time() - started)


def _require_source(job: Job) -> None:
    place = getattr(job.source, "path", None)  # of a source that has one
    if place is not None and not Path(place).exists():
        raise SourceError(
            "the source is gone",
            where=place,
            remedy="bring it back to where it was and run again: what is committed is kept",
        )


def json_number(value: float | None) -> float | None:
    """A float for a record; NaN and infinity become None, since a missing figure is not a number."""
    return float(value) if value is not None and np.isfinite(value) else None


def each_frame(frames: Sequence[FramePlanes], compute: Callable[[int, FramePlanes], Result]) -> list[Result]:
    """Compute frame by frame: what goes wrong with one frame's content is recorded, the others go on.

    Troubles of the output or of the machine (an error of the store, a full disk, no memory) are no frame's fault and
    end the task.
    """
    results = []
    for position, frame in enumerate(frames):
        try:
            results.append(compute(position, frame))
        except (OSError, MemoryError, PhagostatError):
            raise
        except Exception as error:
            results.append(Result("failed", {"reason": f"{type(error).__name__}: {error}"}))
    return results
