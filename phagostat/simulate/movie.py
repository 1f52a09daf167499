"""A whole simulated acquisition: as a CZI with its truth beside it, or frame by frame without any file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.model.errors import SettingsError, SourceError
from phagostat.simulate.czi import CziMovie, TimesForm
from phagostat.simulate.life import NEVER
from phagostat.simulate.scenarios import Scenario
from phagostat.simulate.scene import AreaRows, Counts, SceneSimulation
from phagostat.simulate.spec import CHANNEL_NAMES, Mode, SimulationSpec
from phagostat.simulate.truth import (
    AGGREGATE_COLUMNS,
    AREA_COLUMNS,
    FRAME_COLUMNS,
    TRACK_COLUMNS,
    Columns,
    LabelWriter,
    Table,
    write_truth,
)

Progress = Callable[[int, int, str], None]
Row = tuple[Any, ...]

_THRESHOLD_PERCENTILE = 99.5


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame with its truth.

    Parameters
    ----------
    scene, frame
        Which one.
    planes
        (aggregates, cells), uint16 (y, x); None where the plane is missing.
    frame_row, area_rows, track_rows
        Rows of the truth's tables, in the order of their columns.
    labels
        Cell label image on the analysis grid.
    """

    scene: int
    frame: int
    planes: tuple[Counts | None, Counts | None]
    frame_row: Row
    area_rows: list[Row]
    track_rows: list[Row]
    labels: NDArray[np.uint16]


@dataclass(frozen=True)
class SimulationReport:
    """What was written."""

    path: Path
    truth: Path
    n_scenes: int
    n_planes: int
    n_bytes: int
    seconds: float
    area_threshold_counts: float


class Simulation:
    """An acquisition whose frames are rendered on demand.

    Parameters
    ----------
    spec
        What is to be simulated.
    """

    def __init__(self, spec: SimulationSpec) -> None:
        self.spec = spec
        self._scenes: dict[int, SceneSimulation] = {}
        self._reference_areas: dict[int, AreaRows] = {}

    def scene(self, scene: int) -> SceneSimulation:
        """Give one scene."""
        if scene not in self._scenes:
            self._scenes[scene] = SceneSimulation(self.spec, scene)
        return self._scenes[scene]

    @cached_property
    def area_threshold_counts(self) -> float:
        """Threshold of the true footprints, in counts above background.

        Half of the 99.5 percentile of the ideal renderings of all scenes' first frames, pooled.
        """
        pooled = [self.scene(scene).reference_rendering().ravel() for scene in range(self.spec.scenes)]
        return float(np.percentile(np.concatenate(pooled), _THRESHOLD_PERCENTILE)) / 2

    def areas(self, scene: int, frame: int) -> AreaRows:
        """Give the true footprints in one frame."""
        return self.scene(scene).true_areas(frame, threshold_counts=self.area_threshold_counts)

    def reference_areas(self, scene: int) -> AreaRows:
        """Give the true footprints in frame 0."""
        if scene not in self._reference_areas:
            self._reference_areas[scene] = self.areas(scene, 0)
        return self._reference_areas[scene]

    def frame(self, scene: int, frame: int) -> SimulatedFrame:
        """Render one frame with its truth."""
        stage = self.scene(scene)
        missing = {channel for number, channel in stage.overrides.missing_planes if number == frame}
        planes = stage.render(frame)
        return SimulatedFrame(
            scene, frame,
            (None if 0 in missing else planes[0], None if 1 in missing else planes[1]),
            self._frame_row(scene, frame, missing),
            self._area_rows(scene, frame),
            *self._tracks(scene, frame),
        )  # fmt: skip

    def _frame_row(self, scene: int, frame: int, missing: set[int]) -> Row:
        stage = self.scene(scene)
        overrides, conditions = stage.overrides, stage.conditions
        state = "normal"
        for name in ("black", "constant", "saturated"):
            if frame in getattr(overrides, f"{name}_frames"):
                state = name
        if len(missing) == len(CHANNEL_NAMES):
            state = "missing"
        shift = conditions.shift_yx_px[frame]
        return (
            scene, frame, float(conditions.time_s[frame]), float(shift[0]), float(shift[1]),
            float(conditions.defocus_px[frame]), float(conditions.bleaching[frame]),
            float(conditions.illumination[frame, 0]), float(conditions.illumination[frame, 1]), state,
            " ".join(map(str, sorted(missing))),
        )  # fmt: skip

    def _area_rows(self, scene: int, frame: int) -> list[Row]:
        stage = self.scene(scene)
        areas, first = self.areas(scene, frame), self.reference_areas(scene)
        seen = areas.centroid_yx_px + stage.conditions.shift_yx_px[frame]
        in_view = np.all((seen >= 0) & (seen <= np.array(stage.shape_yx) - 1), axis=1)
        taken = (stage.aggregates.eaten_from <= frame) & (stage.aggregates.eater >= 0)
        eaten = np.where(taken, first.area_um2 - areas.area_um2, 0.0)
        n = len(in_view)
        columns = (
            areas.area_um2.tolist(), areas.centroid_yx_px[:, 0].tolist(), areas.centroid_yx_px[:, 1].tolist(),
            in_view.tolist(), eaten.tolist(),
        )  # fmt: skip
        return list(zip([scene] * n, [frame] * n, range(n), *columns, strict=True))

    def _tracks(self, scene: int, frame: int) -> tuple[list[Row], NDArray[np.uint16]]:
        stage = self.scene(scene)
        labels = stage.label_image(frame)
        step = self.spec.reduction
        rows, columns = np.nonzero(labels)
        owners = labels[rows, columns].astype(np.int64) - 1
        n_px = np.bincount(owners, minlength=len(stage.cells.radius))
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        shift = stage.conditions.shift_yx_px[frame]
        means = [np.bincount(owners, weights=index, minlength=len(n_px)) for index in (rows, columns)]
        table = []
        for cell in np.flatnonzero(n_px).tolist():
            y, x = (
                float(mean[cell]) / n_px[cell] * step + (step - 1) / 2 - offset
                for mean, offset in zip(means, shift, strict=True)
            )
            area = float(n_px[cell] * (step * self.spec.pixel_size_um) ** 2)
            alive = stage.cells.is_alive(cell, frame)
            table.append((scene, frame, cell, float(y), float(x), area, alive, bool(np.isin(cell + 1, border))))
        return table, labels

    def aggregate_rows(self, scene: int) -> list[Row]:
        """Give the truth of every aggregate over the whole movie."""
        stage = self.scene(scene)
        aggregates = stage.aggregates
        first, last = self.reference_areas(scene).area_um2, self.areas(scene, stage.n_frames - 1).area_um2
        defocused = np.any(aggregates.defocus_px > 0, axis=0)
        rows: list[Row] = []
        for aggregate in range(len(aggregates.gone)):
            eaten = aggregates.eater[aggregate] >= 0
            fate = "kept"
            if eaten:
                whole = np.all(aggregates.elements.captured[aggregates.elements.aggregate == aggregate] != NEVER)
                fate = "carried" if aggregates.carried[aggregate] else "eaten" if whole else "partly eaten"
            elif aggregates.gone[aggregate] != NEVER:
                fate = "detached"
            decoys = [
                name
                for name, is_so in (
                    ("pushed", aggregates.was_pushed[aggregate]),
                    ("merging", aggregates.merges_with[aggregate] >= 0),
                    ("unfocused", defocused[aggregate]),
                    ("crossed", aggregates.crossed[aggregate]),
                )
                if is_so
            ]
            rows.append((
                scene, aggregate, fate, int(aggregates.eater[aggregate]),
                int(aggregates.eaten_from[aggregate]) if eaten else -1,
                int(aggregates.eaten_to[aggregate]) if eaten else -1,
                " ".join(decoys), int(aggregates.merges_with[aggregate]), float(first[aggregate]),
                float(last[aggregate]),
            ))  # fmt: skip
        return rows

    def document(self) -> dict[str, Any]:
        """Give what ``truth.json`` says of this acquisition."""
        spec = self.spec
        return {
            "generator": "phagostat.simulate", "seed": spec.seed, "preset": spec.preset, "mode": str(spec.mode),
            "pixel_size_um": spec.pixel_size_um, "reduction": spec.reduction, "interval_s": spec.interval_s,
            "channels": {"aggregates": 0, "cells": 1}, "area_threshold_counts": self.area_threshold_counts,
            "scenes": [
                {
                    "name": f"scene-{scene:02d}", "n_frames": self.scene(scene).n_frames,
                    "shape_yx": list(self.scene(scene).shape_yx), "parameters": dict(self.scene(scene).parameters),
                }
                for scene in range(spec.scenes)
            ],
        }  # fmt: skip


def iter_frames(
    spec: SimulationSpec, scene: int = 0, *, frames: Iterable[int] | None = None
) -> Iterator[SimulatedFrame]:
    """Render the frames of one scene without any file.

    Parameters
    ----------
    spec
        The acquisition.
    scene
        Index of the scene.
    frames
        Only these, in this order; each is the same as in the whole movie.

    Yields
    ------
    SimulatedFrame
        Planes and truth.
    """
    simulation = Simulation(spec)
    for frame in range(spec.n_frames(scene)) if frames is None else frames:
        yield simulation.frame(scene, frame)


def simulate(
    path: str | Path,
    *,
    preset: str = "default",
    mode: str = "synthetic",
    seed: int = 0,
    scenes: int = 2,
    frames: int = 20,
    shape_yx: tuple[int, int] = (512, 512),
    pixel_size_um: float = 0.103,
    reduction: int = 2,
    interval_s: float = 120.0,
    scenario: Scenario | None = None,
    data: str | Path | None = None,
    compression: str | None = None,
    times_form: str = "offsets",
    write_pixel_size: bool = True,
    pace_s: float | None = None,
    progress: Progress | None = None,
) -> SimulationReport:
    """Write a simulated acquisition as a CZI, and its truth into the folder ``<name>.truth`` beside it.

    Planes are written as a microscope records them: time point by time point, all scenes of each.

    Parameters
    ----------
    path
        The CZI to create.
    preset, mode, seed, scenes, frames, shape_yx, pixel_size_um, reduction, interval_s, scenario, data
        As in :class:`~phagostat.simulate.spec.SimulationSpec`.
    compression
        None (uncompressed) or ``"zstd"``.
    times_form
        How the file states its times: ``offsets``, ``interval``, ``attachment`` or ``none``.
    write_pixel_size
        Whether the file states its pixel size.
    pace_s
        Seconds between two frame pairs, as if it was recorded now; None writes as fast as possible.
    progress
        Called with (frame pairs done, frame pairs in all, what is being done).

    Returns
    -------
    SimulationReport
        Paths, counts and time.

    Raises
    ------
    SettingsError
        If a value makes no sense.
    SourceError
        If the file exists, cannot be created, or real microscopy is needed and absent.
    """
    begun = time.perf_counter()
    spec = SimulationSpec(
        preset=preset, mode=Mode(mode) if mode in tuple(Mode) else mode, seed=seed,  # type: ignore[arg-type]
        scenes=scenes, frames=frames, shape_yx=shape_yx, pixel_size_um=pixel_size_um, reduction=reduction,
        interval_s=interval_s, scenario=scenario, data=None if data is None else Path(data),
    )  # fmt: skip
    if times_form not in tuple(TimesForm):
        raise SettingsError(
            "times cannot be stated in this form", found=times_form, remedy=f"choose one of {', '.join(TimesForm)}"
        )
    target = Path(path)
    truth = target.with_suffix(".truth")
    for wanted in (target, truth):
        if wanted.exists():
            raise SourceError("the output exists already", where=wanted, remedy="choose another name or remove it")
    simulation = Simulation(spec)
    try:
        report = _write(
            simulation, target, truth, compression=compression, times_form=TimesForm(times_form),
            write_pixel_size=write_pixel_size, pace_s=pace_s, progress=progress,
        )  # fmt: skip
    except BaseException:
        # a movie cut short is a valid file that looks complete: do not leave it behind
        target.unlink(missing_ok=True)
        shutil.rmtree(truth, ignore_errors=True)
        raise
    return SimulationReport(**{**report, "seconds": time.perf_counter() - begun})


def _write(
    simulation: Simulation, target: Path, truth: Path, *, compression: str | None, times_form: TimesForm,
    write_pixel_size: bool, pace_s: float | None, progress: Progress | None,
) -> dict[str, Any]:  # fmt: skip
    spec = simulation.spec
    lengths = [spec.n_frames(scene) for scene in range(spec.scenes)]
    order = [(frame, scene) for frame in range(max(lengths)) for scene in range(spec.scenes) if frame < lengths[scene]]
    tell = progress or _say_nothing
    tell(0, len(order), "drawing scenes")
    threshold = simulation.area_threshold_counts
    collected: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    n_planes = 0
    writer = CziMovie(
        target, shapes_yx=[spec.scene_shape_yx(scene) for scene in range(spec.scenes)],
        pixel_size_um=spec.pixel_size_um if write_pixel_size else None,
        times_s=[frame * spec.interval_s for frame in range(max(lengths))], times_form=times_form,
        compression=compression,
    )  # fmt: skip
    labels = LabelWriter(truth, spec.scenes)
    start = time.perf_counter()
    try:
        with writer:
            for done, (frame, scene) in enumerate(order):
                simulated = simulation.frame(scene, frame)
                if pace_s is not None:
                    time.sleep(max(0.0, start + done * pace_s - time.perf_counter()))
                for channel, plane in enumerate(simulated.planes):
                    if plane is not None:
                        writer.write(scene=scene, frame=frame, channel=channel, plane=plane)
                        n_planes += 1
                labels.write(scene, simulated.labels)
                collected[0].append(simulated.frame_row)
                collected[1].extend(simulated.area_rows)
                collected[2].extend(simulated.track_rows)
                tell(done + 1, len(order), "rendering frames")
    finally:
        labels.close()
    fates = [row for scene in range(spec.scenes) for row in simulation.aggregate_rows(scene)]
    write_truth(
        truth, document=simulation.document(), frames=_table(collected[0], FRAME_COLUMNS),
        aggregates=_table(fates, AGGREGATE_COLUMNS), areas=_table(collected[1], AREA_COLUMNS),
        tracks=_table(collected[2], TRACK_COLUMNS),
    )  # fmt: skip
    return asdict(SimulationReport(target, truth, spec.scenes, n_planes, target.stat().st_size, 0.0, threshold))


def _say_nothing(done: int, total: int, label: str) -> None:
    del done, total, label


def _table(rows: list[Row], columns: Columns) -> Table:
    by_column = list(zip(*sorted(rows, key=lambda row: row[:3]), strict=True)) if rows else [()] * len(columns)
    kinds = {int: np.int64, float: np.float64, bool: np.bool_, str: object}
    return {
        name: np.array(values, dtype=kinds[kind])
        for (name, kind), values in zip(columns.items(), by_column, strict=True)
    }
