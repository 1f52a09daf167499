"""A CZI that the microscope is still writing, as a source of planes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from phagostat.model.acquisition import AcquisitionMetadata, Channel, Scene, TimesOrigin
from phagostat.model.errors import PhagostatError, PlaneError, SourceError
from phagostat.sources.czi_file import OpenCzi, open_czi
from phagostat.sources.czi_follower import CziFollower, Followed, growing_identity
from phagostat.sources.czi_index import PIXEL_DTYPES
from phagostat.sources.czi_pixels import DECODED_HERE, read_pixels
from phagostat.sources.czi_segments import SubBlock
from phagostat.sources.protocol import Availability, Plane

KIND: Final = "growing czi"
CLOSING_SETTLES: Final = 5
"""A file in which all planes are there is given so many times `settle_s` to be closed."""

_Key = tuple[int, int, int]  # S, T and C index in the file


@dataclass(frozen=True)
class Promise:
    """What a file that is being written does not tell of itself.

    Parameters
    ----------
    n_frames
        Time points that it will have.
    n_scenes
        Scenes that it will have.
    n_channels
        Channels that it will have.
    """

    n_frames: int
    n_scenes: int
    n_channels: int = 2


@dataclass(frozen=True)
class _Numbers:
    """S and C index in the file of each scene and channel, and the T index of frame 0."""

    scenes: tuple[int, ...]
    channels: tuple[int, ...]
    first_t: int

    def place(self, key: _Key) -> tuple[int, int, int] | None:
        """(scene, frame, channel) of a plane of the file; None if it is of no scene or channel that was promised."""
        s, t, c = key
        if s not in self.scenes or c not in self.channels or t < self.first_t:
            return None
        return self.scenes.index(s), t - self.first_t, self.channels.index(c)


class GrowingCziSource:
    """A CZI while it is being written, as far as it is there.

    Parameters
    ----------
    path
        The file.
    promise
        How much of it there will be.
    settle_s
        How long the bytes of the last plane, and a file that seems closed, must stay as they are to be believed.
    idle_s
        The recording counts as ended when nothing has come for so long; None waits for ever.
    clock
        Gives seconds that never go back.

    Notes
    -----
    It ends in one of three ways, told by `ended`: ``"closed"``, the writer has closed the file (then
    :class:`~phagostat.sources.czi.CziSource` reads it, metadata included); ``"complete"``, every promised plane is
    there, and the file has not been touched for a while; ``"idle"``.

    One plane a scene, time point and channel is followed: Z stacks and mosaics are read when the file is closed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        promise: Promise,
        settle_s: float = 2.0,
        idle_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._promise = os.fspath(path), promise
        self._settle_s, self._idle_s, self._clock = settle_s, idle_s, clock
        self._heard: float | None = None
        self._complete: dict[tuple[int, int], tuple[int, ...]] = {}
        self._n_known = 0
        self._shape: tuple[int, int, float] = (0, 0, 0.0)
        self._process = os.getpid()
        self.ended = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._path, self._promise, self._settle_s, self._numbers, self.metadata)

    def __repr__(self) -> str:
        return f"GrowingCziSource({self._path!r}, promise={self._promise!r})"

    @property
    def path(self) -> str:
        """Path of the file as it was given."""
        return self._path

    @property
    def options(self) -> dict[str, str | int]:
        """Options that decide what the planes contain."""
        return {}

    @cached_property
    def _following(self) -> _Following:
        return _Following(self._path, settle_s=self._settle_s, clock=self._clock)

    def begun(self) -> bool:
        """Whether a first plane of every scene and channel is there, so that `metadata` can be told."""
        self._following.advance()
        found = self._following.blocks
        return (
            len({s for s, _, _ in found}) >= self._promise.n_scenes
            and len({c for _, _, c in found}) >= self._promise.n_channels
        )

    @cached_property
    def _numbers(self) -> _Numbers:
        if not self.begun():
            raise SourceError("not every scene of the growing CZI has begun", where=self._path)
        found = self._following.blocks
        scenes, channels = (tuple(sorted({key[axis] for key in found})) for axis in (0, 2))
        first_t = min(t for _, t, _ in found)
        return _Numbers(scenes[: self._promise.n_scenes], channels[: self._promise.n_channels], first_t)

    @cached_property
    def metadata(self) -> AcquisitionMetadata:
        """What is known of the acquisition: sizes from the first planes, lengths as promised, no times.

        Raises
        ------
        SourceError
            If not every scene has begun, or what is there cannot be followed.
        """
        numbers, blocks = self._numbers, self._following.blocks
        scenes = []
        for index, s in enumerate(numbers.scenes):
            entry = blocks[min(key for key in blocks if key[0] == s)].entry
            dtype = PIXEL_DTYPES[entry.pixel_type]
            scenes.append(Scene(index, f"scene {index}", self._promise.n_frames, entry.stored_yx, dtype))
        return AcquisitionMetadata(
            path=self._path,
            kind=KIND,
            identity=self._following.identity,
            channels=tuple(Channel(index, f"channel {index}") for index in range(len(numbers.channels))),
            scenes=tuple(scenes),
            pixel_size_um=None,
            times_origin=TimesOrigin.NONE,
            growing_identity=self._following.identity,
        )

    def poll(self) -> Availability:
        """Look what has come; `ended` tells whether, and why, nothing more will."""
        now = self._clock()
        self._following.advance()
        if self._heard is None or len(self._following.blocks) != self._n_known:
            self._heard, self._complete, self._n_known = now, self._found(), len(self._following.blocks)
        complete = self._complete
        if self._is_closed(now):
            self.ended = "closed"
        elif self._rested(now, CLOSING_SETTLES) and all(len(f) == self._promise.n_frames for f in complete.values()):
            self.ended = "complete"
        elif self._idle_s is not None and now - self._heard >= self._idle_s:
            self.ended = "idle"
        return Availability(complete, closed=self.ended in {"complete", "idle"})

    def _found(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """Frames that are there, by scene and channel."""
        n_scenes, n_channels = len(self._numbers.scenes), len(self._numbers.channels)
        frames: dict[tuple[int, int], list[int]] = {(s, c): [] for s in range(n_scenes) for c in range(n_channels)}
        for key in self._following.blocks:
            place = self._numbers.place(key)
            if place is not None and place[1] < self._promise.n_frames:
                frames[place[0], place[2]].append(place[1])
        return {pair: tuple(sorted(found)) for pair, found in frames.items()}

    def read(self, scene: int, frame: int, channel: int) -> Plane:
        """Give one plane as a (y, x) array.

        Raises
        ------
        PlaneError
            If the plane has not come yet, or cannot be decoded.
        """
        where = f"{self._path} scene {scene} frame {frame} channel {channel}"
        numbers = self._numbers
        try:
            block = self._following.find((numbers.scenes[scene], frame + numbers.first_t, numbers.channels[channel]))
            if block is None:
                raise PlaneError("the file does not hold this plane yet", where=where)
            return self._following.pixels(block)
        except SourceError as error:
            raise PlaneError(error.what, where=where, found=error.found) from error

    def changed(self) -> tuple[tuple[int, int, int], ...]:
        """(scene, frame, channel) of planes that were taken before they were whole, as is seen now."""
        self._following.recheck()
        return tuple(place for key in self._following.changed if (place := self._numbers.place(key)) is not None)

    def _is_closed(self, now: float) -> bool:
        """Whether the writer has closed the file: header and directory are there and name all that was followed."""
        status = os.stat(self._path)  # noqa: PTH116 - size and time of one moment
        if (status.st_size, status.st_mtime_ns) != self._shape[:2]:
            self._shape = status.st_size, status.st_mtime_ns, now
        opened = closed_czi(self._path) if self._rested(now, 1) else None
        return opened is not None and self._following.positions() <= frozenset(opened.directory.position.tolist())

    def _rested(self, now: float, settles: int) -> bool:
        """Whether the file has stayed as it is for so many times the time that bytes need to be believed."""
        return now - self._shape[2] >= settles * self._settle_s


def closed_czi(path: str) -> OpenCzi | None:
    """The file opened by its directory if everything that it and the header name is whole, else None."""
    try:
        opened = open_czi(path)
        _ = opened.xml_bytes, opened.attachments  # raise where they are not whole
        inside = bool(opened.inside().all())
    except PhagostatError:
        return None
    return opened if inside else None


class _Following:
    """The planes of a growing file by their place in it, kept up to date by a follower."""

    def __init__(self, path: str, *, settle_s: float, clock: Callable[[], float]) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._follower = CziFollower(path, settle_s=settle_s, clock=clock)
        self.blocks: dict[_Key, SubBlock] = {}
        self._first: SubBlock | None = None

    @property
    def identity(self) -> str:
        """Digest by which the file is known before and after it is closed."""
        if self._first is None:
            raise SourceError("the growing CZI holds no image yet", where=self._path)
        return growing_identity(self._follower.fd, self._first, path=self._path)

    @property
    def changed(self) -> tuple[_Key, ...]:
        """Places of what was taken too early."""
        return tuple(_key(block) for block in self._follower.changed)

    def positions(self) -> frozenset[int]:
        """Where the sub-blocks begin that were followed."""
        return frozenset(block.segment.position for block in self.blocks.values())

    def advance(self) -> None:
        """Take in what has come."""
        with self._lock:
            for followed in self._follower.advance():
                self._keep(followed)

    def find(self, key: _Key) -> SubBlock | None:
        """A plane's sub-block; looks again if it is not known yet, the last of the file included."""
        if key not in self.blocks:
            self.advance()
        if key not in self.blocks:
            with self._lock:
                tail = self._follower.tail()
            return tail if tail is not None and _key(tail) == key else None
        return self.blocks[key]

    def recheck(self) -> None:
        """Look again at what was taken without a successor."""
        with self._lock:
            self._follower.recheck_early()

    def pixels(self, block: SubBlock) -> Plane:
        """The pixels of a sub-block."""
        return read_pixels(self._follower.fd, block, dtype=PIXEL_DTYPES[block.entry.pixel_type], path=self._path)

    def _keep(self, followed: Followed) -> None:
        block = followed.block
        entry = block.entry
        if self._first is None:
            self._first = block
        if entry.stored_yx != (entry.sizes.get("Y"), entry.sizes.get("X")):
            return  # a reduced copy
        if entry.pixel_type not in PIXEL_DTYPES or entry.compression not in DECODED_HERE:
            raise SourceError(
                "a growing CZI can be followed with grey values of 8 or 16 bit, raw or zstd, only",
                where=self._path,
                found=f"pixel type {entry.pixel_type}, compression {entry.compression}",
                remedy="run phagostat on the closed file",
            )
        key, before = _key(block), self.blocks.get(_key(block))
        if before is not None and any(before.entry.starts.get(k) != entry.starts.get(k) for k in "ZM"):
            raise SourceError(
                "a growing CZI with several Z planes or tiles cannot be followed",
                where=self._path,
                remedy="run phagostat on the closed file",
            )
        self.blocks[key] = block


def _key(block: SubBlock) -> _Key:
    starts = block.entry.starts
    return starts.get("S", 0), starts.get("T", 0), starts.get("C", 0)


def _rebuild(
    path: str, promise: Promise, settle_s: float, numbers: _Numbers, metadata: AcquisitionMetadata
) -> GrowingCziSource:
    """The source in a task: one a process and file, so that it is followed once there."""
    key = path, metadata.identity
    with _lock:
        source = _in_process.get(key)
        if source is None or source._process != os.getpid():
            _in_process.clear()  # one file is watched at a time
            source = _in_process[key] = GrowingCziSource(path, promise=promise, settle_s=settle_s)
            source.__dict__.update(_numbers=numbers, metadata=metadata)
        return source


_in_process: dict[tuple[str, str], GrowingCziSource] = {}
_lock = threading.Lock()
