"""A complete analysis, opened for reading: its frames and their verdicts, its pictures, its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from phagostat.engine.outputs import open_output
from phagostat.engine.preparation import ROLES, analysis_shape, image_path, labels_path, probability_path
from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import StoreError
from phagostat.store.arrays import PlaneReader, chunk_path
from phagostat.store.seal import read_seal
from phagostat.store.tables import read_table

Objects = Literal["cells", "aggregates"]

OK: Final = "ok"


class PlaneSeries(NamedTuple):
    """Planes of one kind of a scene: an array of the store, and a channel of it."""

    array: str
    channel: int


@dataclass(frozen=True)
class FrameFacts:
    """What is known of one frame.

    Parameters
    ----------
    frame
        Its index.
    time_s
        Acquisition time since the scene's first frame; NaN where it is not known.
    usable
        Whether it is registered and sharp: what later steps rest on.
    state
        ``"ok"``, or in one word why it is not usable: ``"missing"``, ``"blurred"``, ``"unregistered"``, ...
    reason
        What that rests on, in words.
    shift_yx_px
        Where what stands at the origin of the reference stands here, native pixels; None where there is no shift.
    is_reference
        Whether the scene's other frames are registered to this one.
    """

    frame: int
    time_s: float
    usable: bool
    state: str
    reason: str
    shift_yx_px: tuple[float, float] | None
    is_reference: bool

    @property
    def state_text(self) -> str:
        """The state as it is written for people."""
        return self.state.replace("_", " ")


@dataclass(frozen=True)
class SceneFacts:
    """One scene: index, name, and its frames in order; ``shape_yx`` is on the analysis grid."""

    index: int
    name: str
    shape_yx: tuple[int, int]
    frames: tuple[FrameFacts, ...]

    @property
    def duration_s(self) -> float:
        """Time of the last frame whose time is known; NaN where none is."""
        return max((f.time_s for f in self.frames if math.isfinite(f.time_s)), default=math.nan)


class FinishedOutput:
    """An analysed, complete output; nothing is ever written into it.

    Parameters
    ----------
    path
        Folder of one acquisition: ``results/<acquisition>``.

    Raises
    ------
    StoreError
        If there is no output, it holds a conversion, or its analysis is not complete.
    """

    def __init__(self, path: Path) -> None:
        self.layout, self.manifest = open_output(path)
        self.path = path
        if self.manifest.kind != "analysis":
            raise StoreError(
                "only an analysis has results to show",
                where=path,
                found=f"a {self.manifest.kind}",
                remedy="analyse it first: phagostat run",
            )
        self.seal = read_seal(self.layout)
        if self.seal is None or not (self.layout.tables / "frames.parquet").is_file():
            raise StoreError(
                "the analysis is not complete",
                where=path,
                found="no seal",
                remedy="bring it to its end with the same phagostat run, then try again",
            )
        self._readers: dict[str, PlaneReader] = {}

    @property
    def name(self) -> str:
        """Name of the acquisition."""
        return self.path.resolve().name

    @property
    def pixel_size_um(self) -> float:
        """Pixel size of the analysis grid, on which images and labels lie."""
        return float(self.manifest.acquisition["pixel_size_um"]) * self.reduction

    @property
    def reduction(self) -> int:
        """Native pixels along the side of an analysis pixel."""
        return int(self.manifest.acquisition["reduction"])

    @property
    def roles(self) -> tuple[ChannelRole, ...]:
        """What the channels of its images show, in their order: cells, and mostly aggregates."""
        return tuple(role for role in ROLES if role.value in self.manifest.acquisition["roles"])

    @cached_property
    def scenes(self) -> tuple[SceneFacts, ...]:
        """All scenes, in order."""
        rows: dict[int, list[FrameFacts]] = {}
        for row in self.table("frames").to_pylist():
            rows.setdefault(row["scene"], []).append(_facts(row))
        return tuple(
            SceneFacts(
                scene["index"],
                scene["name"],
                analysis_shape(tuple(scene["shape_yx"]), self.reduction),
                tuple(rows.get(scene["index"], ())),
            )
            for scene in self.manifest.acquisition["scenes"]
        )

    def scene(self, index: int) -> SceneFacts:
        """One scene.

        Raises
        ------
        StoreError
            If there is none of this index.
        """
        if not 0 <= index < len(self.scenes):
            raise StoreError(
                "there is no such scene", where=self.path, found=index, remedy=f"scenes are 0 to {len(self.scenes) - 1}"
            )
        return self.scenes[index]

    def frame(self, scene: int, frame: int) -> FrameFacts:
        """One frame of a scene.

        Raises
        ------
        StoreError
            If there is none of this index.
        """
        frames = self.scene(scene).frames
        if not 0 <= frame < len(frames):
            raise StoreError(
                "there is no such frame",
                where=f"{self.path} scene {scene}",
                found=frame,
                remedy=f"frames are 0 to {len(frames) - 1}",
            )
        return frames[frame]

    def has_table(self, name: str) -> bool:
        """Whether a final table of this name is there."""
        return (self.layout.tables / f"{name}.parquet").is_file()

    @property
    def table_names(self) -> tuple[str, ...]:
        """Names of the final tables, by the alphabet."""
        return tuple(sorted(path.stem for path in self.layout.tables.glob("*.parquet")))

    def table(self, name: str) -> pa.Table:
        """A final table.

        Raises
        ------
        StoreError
            If it is not there or cannot be read.
        """
        try:
            return read_table(self.layout.tables, name)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                "a table cannot be read",
                where=self.layout.tables / f"{name}.parquet",
                found=error,
                remedy="remove seal.json and run again: tables are written anew",
            ) from error

    def columns(self, name: str, scene: int, *columns: str) -> Mapping[str, NDArray[Any]]:
        """Columns of one scene's rows of a table; null is NaN."""
        table = self.table(name)
        rows = table.filter(pc.equal(table.column("scene"), scene))
        return {column: rows.column(column).to_numpy() for column in columns}

    def image(self, scene: int, frame: int, role: ChannelRole) -> NDArray[np.uint8] | None:
        """The normalised plane of a channel, (y, x); None where the frame has none."""
        if role not in self.roles:
            return None
        grey: NDArray[np.uint8] | None = self.plane(self.image_series(scene, role), frame)
        return grey

    def image_series(self, scene: int, role: ChannelRole) -> PlaneSeries:
        """Where the normalised planes of a channel are, which the acquisition must have."""
        return PlaneSeries(f"{image_path(scene)}/0", self.roles.index(role))

    def labels(self, scene: int, frame: int, objects: Objects) -> NDArray[np.uint16] | None:
        """The label image of cells or aggregates, (y, x); None where they were not measured."""
        labels: NDArray[np.uint16] | None = self.plane(labels_of(scene, objects), frame)
        return labels

    def probability(self, scene: int, frame: int) -> NDArray[np.uint8] | None:
        """The cell probability, (y, x), 255 for certainty; None where there is none."""
        probability: NDArray[np.uint8] | None = self.plane(probability_of(scene), frame)
        return probability

    def has_plane(self, series: PlaneSeries, frame: int) -> bool:
        """Whether a frame has a plane of a series: one that was not computed has no chunk, and is no black one."""
        return (self.layout.images / chunk_path(series.array, (frame, series.channel))).is_file()

    def plane(self, series: PlaneSeries, frame: int) -> NDArray[Any] | None:
        """A frame's plane of a series, (y, x); None where there is none.

        Raises
        ------
        StoreError
            If its chunk is damaged.
        """
        if not self.has_plane(series, frame):
            return None
        if series.array not in self._readers:
            self._readers[series.array] = PlaneReader(self.layout.images, series.array)
        return self._readers[series.array].read((frame, series.channel))

    def shift_px(self, scene: int, frame: int) -> tuple[int, int] | None:
        """Shift of a frame in whole analysis pixels, y before x; None where there is none."""
        shift = self.frame(scene, frame).shift_yx_px
        return None if shift is None else (round(shift[0] / self.reduction), round(shift[1] / self.reduction))


def labels_of(scene: int, objects: Objects) -> PlaneSeries:
    """Where the label images of cells or aggregates are."""
    return PlaneSeries(f"{labels_path(scene, objects)}/0", 0)


def probability_of(scene: int) -> PlaneSeries:
    """Where the cell probability is."""
    return PlaneSeries(f"{probability_path(scene)}/0", 0)


def _facts(row: Mapping[str, Any]) -> FrameFacts:
    y, x = row["shift_y_px"], row["shift_x_px"]
    known = row["verdict"] == OK and y is not None and x is not None and math.isfinite(y) and math.isfinite(x)
    usable = bool(row["usable"])
    state = OK if usable else "blurred" if row["focus"] == "blurred" else str(row["verdict"])
    if state == OK and not usable:
        state = "unusable"
    return FrameFacts(
        frame=row["frame"],
        time_s=math.nan if row["time_s"] is None else float(row["time_s"]),
        usable=usable,
        state=state,
        reason=row["focus_reason"] or row["reason"] or "",
        shift_yx_px=(float(y), float(x)) if known else None,
        is_reference=bool(row["is_reference"]),
    )


def moved(plane: NDArray[Any], shift_yx: tuple[int, int]) -> NDArray[Any]:
    """A plane in the reference's grid: what stands at p + shift comes to p; what it does not show is 0.

    Parameters
    ----------
    plane : (y, x)
        Of the frame.
    shift_yx
        Whole pixels.
    """
    result = np.zeros_like(plane)
    (top, bottom), (left, right) = (covered(n, s) for n, s in zip(plane.shape, shift_yx, strict=True))
    y, x = shift_yx
    result[top:bottom, left:right] = plane[top + y : bottom + y, left + x : right + x]
    return result


def covered(length: int, shift: int) -> tuple[int, int]:
    """Rows (or columns) of the reference that a shifted frame shows: first, and after the last."""
    first, last = max(0, -shift), min(length, length - shift)
    return (first, last) if last > first else (0, 0)
