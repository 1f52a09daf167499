"""Which sub-blocks of a CZI make up which plane.

A plane is one (scene, frame, channel). It may consist of several sub-blocks: the steps of a Z stack, the tiles of a
mosaic. Scenes are numbered in the order of their S index, channels in the order of their C index, and frames from the
smallest T index of the whole file, so that frame k means the same round of the acquisition in every scene.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from phagostat.model.errors import SourceError
from phagostat.sources.czi_directory import Directory
from phagostat.sources.czi_segments import COMPRESSIONS, PIXEL_TYPES

PIXEL_DTYPES: Final = {0: "uint8", 1: "uint16"}
READABLE_COMPRESSIONS: Final = frozenset({0, 4, 5, 6})
MAX_FRAMES: Final = 1_000_000
"""No acquisition is longer; a damaged directory may say so."""
MAX_PLANE_PIXELS: Final = 2**30
"""No field of view is larger; tiles scattered over more are not one field."""

_USED_DIMENSIONS: Final = frozenset("XYSTCZM")


@dataclass(frozen=True)
class SceneLayout:
    """Shape of one scene: its S index in the file, frames, (y, x) shape and origin in file pixels."""

    s_index: int
    n_frames: int
    shape_yx: tuple[int, int]
    origin_yx: tuple[int, int]
    dtype: str
    is_mosaic: bool


@dataclass(frozen=True)
class PlaneIndex:
    """Sub-blocks of every plane.

    Parameters
    ----------
    scenes
        In scene order.
    channels
        C index in the file of each channel.
    first_t
        T index in the file of frame 0.
    rows
        For (scene, frame, channel) the directory rows of its sub-blocks, ordered by Z, then by tile.
    z, m
        Z index and tile number of each directory row, int64 arrays.
    z_planes
        For (scene, channel) the Z indices in the file.
    expected
        For (scene, channel) the (Z, tile) pairs that a whole plane has.
    misfits
        Rows whose size is not their scene's.
    notes
        What a user should know.
    """

    scenes: tuple[SceneLayout, ...]
    channels: tuple[int, ...]
    first_t: int
    rows: dict[tuple[int, int, int], tuple[int, ...]]
    z: NDArray[np.int64]
    m: NDArray[np.int64]
    z_planes: dict[tuple[int, int], tuple[int, ...]]
    expected: dict[tuple[int, int], frozenset[tuple[int, int]]]
    misfits: frozenset[int]
    notes: tuple[str, ...]

    def chosen_z(self, scene: int, channel: int, z: str | int) -> tuple[int, ...]:
        """Z indices in the file that make up a plane: all for ``"max"``, else the ``z``-th.

        A channel that was recorded in one Z plane only, beside others with a stack, gives that plane.
        """
        available = self.z_planes[scene, channel]
        if z == "max" or len(available) == 1:
            return available
        return (available[int(z)],)

    def plane_rows(self, scene: int, frame: int, channel: int, z: str | int) -> tuple[int, ...]:
        """Directory rows that are needed for a plane, empty where it is missing or lacks a part."""
        rows = self.rows.get((scene, frame, channel), ())
        if not rows:
            return ()
        wanted = self.chosen_z(scene, channel, z)
        needed = {pair for pair in self.expected[scene, channel] if pair[0] in wanted}
        chosen = tuple(row for row in rows if self.z[row] in wanted and row not in self.misfits)
        return chosen if {(int(self.z[r]), int(self.m[r])) for r in chosen} == needed else ()


def build_plane_index(directory: Directory, *, path: object) -> PlaneIndex:
    """Sort a CZI's directory into planes.

    Raises
    ------
    SourceError
        If the file holds pixels, dimensions or compressions that phagostat does not take.
    """
    rows = np.flatnonzero(~directory.is_pyramid)
    if not len(rows):
        raise SourceError("the CZI holds no images", where=path, found=f"{len(directory)} sub-blocks")
    _refuse_unsupported(directory, rows, path=path)
    n = len(directory)
    zeros = np.zeros(n, dtype=np.int64)
    notes: list[str] = []
    in_scene = directory.has["S"][rows] if "S" in directory.has else np.zeros(len(rows), dtype=np.bool_)
    if in_scene.any() and not in_scene.all():
        notes.append(f"{int((~in_scene).sum())} sub-blocks belong to no scene and are left out")
        rows = rows[in_scene]
    once = _latest(directory, rows)
    if len(once) < len(rows):
        notes.append(f"{len(rows) - len(once)} images were written anew later in the file: the later ones are used")
        rows = once
    s, t, c, z = (directory.start.get(letter, zeros) for letter in "STCZ")
    s_values, channels = np.unique(s[rows]), tuple(int(v) for v in np.unique(c[rows]))
    first_t = int(t[rows].min())
    if int(t[rows].max()) - first_t >= MAX_FRAMES:
        raise SourceError(
            "the CZI's directory names more frames than an acquisition can have",
            where=path,
            found=int(t[rows].max()) - first_t + 1,
            remedy="copy the file again from the microscope's computer",
        )
    order = rows[np.lexsort((directory.start.get("M", zeros)[rows], z[rows]))]
    scene_of = np.searchsorted(s_values, s)
    channel_of = np.searchsorted(np.asarray(channels), c)
    grouped: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for row in order.tolist():
        grouped[int(scene_of[row]), int(t[row]) - first_t, int(channel_of[row])].append(row)
    m = _tile_numbers(directory, grouped, z)
    expected: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
    for (scene, _, channel), members in grouped.items():
        expected[scene, channel].update((int(z[row]), int(m[row])) for row in members)
    scenes = []
    misfits: set[int] = set()
    for k, s_value in enumerate(s_values.tolist()):
        members = rows[scene_of[rows] == k]
        is_mosaic = any(len({number for _, number in pairs}) > 1 for key, pairs in expected.items() if key[0] == k)
        if is_mosaic:
            shape, origin = _mosaic_box(directory, members)
        else:
            shape, origin = _common_shape(directory, members), (0, 0)
            wrong = _misfits(directory, members, channel_of, shape_yx=shape, scene=k, path=path)
            if wrong:
                misfits.update(wrong)
                notes.append(f"{len(wrong)} images of scene {k} are not {shape[0]} x {shape[1]} and count as missing")
        if not 0 < shape[0] * shape[1] <= MAX_PLANE_PIXELS:
            raise SourceError(f"scene {k} is not one field of view", where=path, found=f"{shape[0]} x {shape[1]} px")
        pixel_types = np.unique(directory.pixel_type[members])
        dtype = PIXEL_DTYPES[int(pixel_types.max())]
        if len(pixel_types) > 1:
            notes.append(f"channels of scene {k} have 8 and 16 bit; all are given as {dtype}, values unchanged")
        n_frames = int(t[members].max()) - first_t + 1
        scenes.append(SceneLayout(s_value, n_frames, shape, origin, dtype, is_mosaic))
    z_planes = {key: tuple(sorted({pair[0] for pair in pairs})) for key, pairs in expected.items()}
    return PlaneIndex(
        tuple(scenes),
        channels,
        first_t,
        {key: tuple(members) for key, members in grouped.items()},
        z,
        m,
        z_planes,
        {key: frozenset(pairs) for key, pairs in expected.items()},
        frozenset(misfits),
        tuple(notes),
    )


def _refuse_unsupported(directory: Directory, rows: NDArray[np.int64], *, path: object) -> None:
    if (directory.file_part[rows] != 0).any():
        raise SourceError(
            "the CZI is split over several files", where=path, remedy="save it as one file in ZEN (Save As)"
        )
    for value in np.unique(directory.pixel_type[rows]).tolist():
        if value not in PIXEL_DTYPES:
            raise SourceError(
                "the CZI's pixels are neither 8 nor 16 bit grey values",
                where=path,
                found=PIXEL_TYPES.get(value, f"pixel type {value}"),
                remedy="export the camera's grey values, not colours or processed images",
            )
    for value in np.unique(directory.compression[rows]).tolist():
        if value not in READABLE_COMPRESSIONS:
            raise SourceError(
                "the CZI is compressed in a way that cannot be read",
                where=path,
                found=COMPRESSIONS.get(value, f"compression {value}"),
                remedy="save it uncompressed, with zstd or with JPEG XR",
            )
    for letter, has in directory.has.items():
        present = rows[has[rows]]
        if not len(present):
            continue
        starts = np.unique(directory.start[letter][present])
        if letter not in _USED_DIMENSIONS and len(starts) > 1:
            raise SourceError(
                f"the CZI has a dimension {letter} that phagostat does not know how to use",
                where=path,
                found=f"{len(starts)} positions along {letter}",
                remedy=f"split the file along {letter} in ZEN",
            )
        if letter in "STCZM" and (directory.size[letter][present] > 1).any():
            raise SourceError(
                f"the CZI has sub-blocks of more than one {letter} position",
                where=path,
                found=int(directory.size[letter][present].max()),
                remedy="save it again in ZEN",
            )
    if (directory.size["Y"][rows] <= 0).any() or (directory.size["X"][rows] <= 0).any():
        raise SourceError("the CZI has images without pixels", where=path)


def _latest(directory: Directory, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows without those that another one, further on in the file, repeats: the same indices, place and size."""
    zeros = np.zeros(len(directory), dtype=np.int64)
    columns = [directory.start.get(letter, zeros)[rows] for letter in "STCZMYX"]
    columns += [directory.size[letter][rows] for letter in "YX"]
    order = np.lexsort((directory.position[rows], *columns))
    keys = np.stack(columns)[:, order]
    last = np.append((keys[:, 1:] != keys[:, :-1]).any(axis=0), True)
    return np.sort(rows[order[last]])


def _tile_numbers(
    directory: Directory, grouped: dict[tuple[int, int, int], list[int]], z: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Tile number of each row: its M index, or its turn where several sub-blocks share one position without it."""
    zeros = np.zeros(len(directory), dtype=np.int64)
    numbers = directory.start.get("M", zeros).copy()
    for members in grouped.values():
        seen: set[tuple[int, int]] = set()
        top: dict[int, int] = {}
        for row in members:
            depth, number = int(z[row]), int(numbers[row])
            if (depth, number) in seen:
                number = top[depth] + 1
                numbers[row] = number
            seen.add((depth, number))
            top[depth] = max(number, top.get(depth, number))
    return numbers


def _mosaic_box(directory: Directory, rows: NDArray[np.int64]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(y, x) shape and origin of the box around all tiles."""
    y, x = directory.start["Y"][rows], directory.start["X"][rows]
    bottom, right = (y + directory.size["Y"][rows]).max(), (x + directory.size["X"][rows]).max()
    origin = int(y.min()), int(x.min())
    return (int(bottom) - origin[0], int(right) - origin[1]), origin


def _common_shape(directory: Directory, rows: NDArray[np.int64]) -> tuple[int, int]:
    """Most frequent (y, x) shape."""
    shapes, counts = np.unique(
        np.stack([directory.size["Y"][rows], directory.size["X"][rows]], axis=1), axis=0, return_counts=True
    )
    height, width = shapes[int(counts.argmax())].tolist()
    return int(height), int(width)


def _misfits(
    directory: Directory,
    rows: NDArray[np.int64],
    channel_of: NDArray[np.int64],
    *,
    shape_yx: tuple[int, int],
    scene: int,
    path: object,
) -> list[int]:
    """Rows of another shape than their scene's; a whole channel of them is refused."""
    height, width = directory.size["Y"], directory.size["X"]
    wrong = rows[(height[rows] != shape_yx[0]) | (width[rows] != shape_yx[1])]
    for channel in np.unique(channel_of[wrong]).tolist():
        of_channel = rows[channel_of[rows] == channel]
        if np.isin(of_channel, wrong).all():
            raise SourceError(
                f"channel {channel} of scene {scene} is not {shape_yx[0]} x {shape_yx[1]} as the others are",
                where=path,
                found=f"{height[of_channel[0]]} x {width[of_channel[0]]}",
                remedy="export the channels at equal size",
            )
    return [int(row) for row in wrong]
