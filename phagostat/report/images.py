"""Pictures for other programs: OME-TIFF stacks and PNG files of images, labels and probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import StoreError
from phagostat.report.finished import FinishedOutput, Objects, PlaneSeries, SceneFacts, labels_of, probability_of
from phagostat.store.digests import value_digest
from phagostat.store.manifest import package_version

BIG_BYTES: Final = 3_900_000_000
"""Stacks from here on are BigTIFF: older readers open smaller ones only as classic TIFF."""

Progress = Callable[[int, int], None]


class Stack(NamedTuple):
    """A kind of picture: its name and pixel type, and its channels by name."""

    name: str
    dtype: str
    channels: dict[str, PlaneSeries]


def stacks_of(output: FinishedOutput, scene: int) -> tuple[Stack, ...]:
    """Give all kinds of pictures of a scene: normalised channels, label images, cell probability."""
    objects: tuple[tuple[ChannelRole, Objects], ...] = (
        (ChannelRole.CELLS, "cells"),
        (ChannelRole.AGGREGATES, "aggregates"),
    )
    return (
        Stack("image", "uint8", {role.value: output.image_series(scene, role) for role in output.roles}),
        *(
            Stack(f"labels_{name}", "uint16", {name: labels_of(scene, name)})
            for role, name in objects
            if role in output.roles
        ),
        Stack("probability", "uint8", {"cell probability": probability_of(scene)}),
    )


def write_tiffs(
    output: FinishedOutput,
    scene: int,
    folder: Path,
    *,
    frames: Sequence[int] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> list[Path]:
    """Write a scene as OME-TIFF stacks, axes t, c, y, x; give their paths.

    Parameters
    ----------
    output
        The analysis.
    scene
        Index of the scene.
    folder
        Where ``scene_<k>_image.ome.tif`` and the others come; files that are there are replaced.
    frames
        Those of these frames; all where None.
    progress
        Told after each frame of each stack how many are done, and of how many.

    Notes
    -----
    Pixel size, time of every plane and names of channels stand in the OME-XML. A stack has no gaps: a plane that is
    not there is 0, and the OME-XML's map annotation names the frames of which planes are missing.
    """
    about = output.scene(scene)
    chosen = list(range(len(about.frames)) if frames is None else frames)
    written = []
    kinds = stacks_of(output, scene)
    folder.mkdir(parents=True, exist_ok=True)
    for position, stack in enumerate(kinds):
        path = folder / f"scene_{scene}_{stack.name}.ome.tif"
        start = position * len(chosen)

        def told(done: int, start: int = start) -> None:
            progress(start + done, len(kinds) * len(chosen))

        _write_stack(output, about, stack, path, frames=chosen, told=told)
        written.append(path)
    return written


def write_pngs(
    output: FinishedOutput,
    scene: int,
    folder: Path,
    *,
    frames: Sequence[int] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> int:
    """Write every picture of a scene as a PNG; give the number of files.

    Parameters
    ----------
    output
        The analysis.
    scene
        Index of the scene.
    folder
        Folder of the scene; in it one folder a kind of picture, in that one file a frame, named by its number.
    frames
        Those of these frames; all where None.
    progress
        Told after each frame how many are done, and of how many.

    Notes
    -----
    A picture that is not there has no file. Images and probability have 8 bits, labels 16.
    """
    about = output.scene(scene)
    chosen = range(len(about.frames)) if frames is None else frames
    digits = max(4, len(str(len(about.frames) - 1)))
    count = 0
    for done, frame in enumerate(chosen, start=1):
        for stack in stacks_of(output, scene):
            for name, series in stack.channels.items():
                plane = output.plane(series, frame)
                if plane is not None:
                    place = folder / (name if stack.name == "image" else stack.name)
                    place.mkdir(parents=True, exist_ok=True)
                    (place / f"{frame:0{digits}}.png").write_bytes(png_bytes(plane))
                    count += 1
        progress(done, len(chosen))
    return count


def png_bytes(plane: NDArray[Any]) -> bytes:
    """Encode a grey plane of 8 or 16 bits as PNG."""
    done, data = cv2.imencode(".png", plane)
    if not done:
        raise StoreError("a picture cannot be encoded as PNG", found=f"{plane.dtype} {plane.shape}")
    return bytes(data)


def _write_stack(
    output: FinishedOutput,
    about: SceneFacts,
    stack: Stack,
    path: Path,
    *,
    frames: Sequence[int],
    told: Callable[[int], None],
) -> None:
    height, width = about.shape_yx
    empty = np.zeros(about.shape_yx, stack.dtype)
    shape = (len(frames), len(stack.channels), height, width)

    def planes() -> Iterator[NDArray[Any]]:
        for done, frame in enumerate(frames, start=1):
            for series in stack.channels.values():
                plane = output.plane(series, frame)
                yield empty if plane is None else plane
            told(done)

    metadata = _ome(output, about, stack, frames)
    big = int(np.prod(shape)) * np.dtype(stack.dtype).itemsize > BIG_BYTES
    with tifffile.TiffWriter(path, bigtiff=big, ome=True) as writer:
        writer.write(
            planes(),
            shape=shape,
            dtype=stack.dtype,
            photometric="minisblack",
            compression="zlib",
            maxworkers=1,
            software=metadata["Creator"],
            resolution=(1e4 / output.pixel_size_um,) * 2,  # for what does not read the OME-XML
            resolutionunit="CENTIMETER",
            metadata=metadata,
        )


def _ome(output: FinishedOutput, about: SceneFacts, stack: Stack, frames: Sequence[int]) -> dict[str, Any]:
    times = [about.frames[frame].time_s for frame in frames]
    steps = [b - a for a, b in itertools.pairwise(times) if math.isfinite(b - a)]
    missing = {
        name: " ".join(str(frame) for frame in frames if not output.has_plane(series, frame))
        for name, series in stack.channels.items()
    }
    found: dict[str, Any] = {
        "axes": "TCYX",
        "Name": f"{output.name} {about.name} {stack.name}",
        "Creator": f"phagostat {package_version()}",
        # by the contents, where a random one would make every file another
        "UUID": _uuid(output, about, stack, frames),
        "Channel": {"Name": list(stack.channels)},
        "PhysicalSizeX": output.pixel_size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": output.pixel_size_um,
        "PhysicalSizeYUnit": "µm",
        "MapAnnotation": {f"frames without {name}": said or "none" for name, said in missing.items()},
    }
    if steps and float(np.median(steps)) > 0:
        found |= {"TimeIncrement": float(np.median(steps)), "TimeIncrementUnit": "s"}
    if all(math.isfinite(time) for time in times):
        each = [time for time in times for _ in stack.channels]
        found["Plane"] = {"DeltaT": each, "DeltaTUnit": ["s"] * len(each)}
    return found


def _uuid(output: FinishedOutput, about: SceneFacts, stack: Stack, frames: Sequence[int]) -> str:
    log = output.seal.log if output.seal is not None else ""
    digest = value_digest([output.name, log, about.index, stack.name, list(frames)])[:32].ljust(32, "0")
    return "-".join(digest[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
