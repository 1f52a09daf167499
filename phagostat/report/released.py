"""Results in the layout of the released data set: its folders, its files, its column names.

The published pipeline leaves, for every scene, a folder ``scene_<k>`` with pictures named by frame and tables under
``CSVs``; scripts written for that data set (Zenodo 10803492) read what is written here.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile
from numpy.typing import NDArray

from phagostat.kernels.correction import corrected_frame
from phagostat.model.acquisition import ChannelRole
from phagostat.report.finished import FinishedOutput, FrameFacts, SceneFacts, moved
from phagostat.report.images import png_bytes

TABLE_FOLDER: Final = "CSVs"

SHIFTS: Final = ("frame_name", "x", "y", "x(microns)", "y(microns)")
EVOLUTION: Final = ("time (min)", "Aggregates count (n)", "Aggregates total area (micro-meters-square)")
REJECTED: Final = ("Name of rejected blurry frames",)
CELLS: Final = ("frame_name", "x (px)", "y (px)", "area (px^2)")
CELL_TOTALS: Final = ("frame_name", "cell count", "mean area (microns^2)", "total area (microns^2)")
TRACKING: Final = (
    "time (min)",
    "mean speed tracking (microns/min)",
    "mean area tracking (microns^2)",
    "mean area (microns^2)",
    "total area (microns^2)",
    "cell count (n)",
    "total movement tracking (microns)",
)

Progress = Callable[[int, int], None]
Row = Sequence[object]


def write_released_tables(output: FinishedOutput, scene: int, folder: Path) -> list[Path]:
    """Write a scene's tables with the released data set's names; give their paths.

    Parameters
    ----------
    output
        The analysis.
    scene
        Index of the scene.
    folder
        Folder of the scene; the tables come into ``CSVs`` in it, and replace what is there.

    Notes
    -----
    ``x`` and ``y`` have the published sign: what stands at p in the reference stands at p + (x, y) in the frame, which
    is this project's sign too. They are in pixels of the pictures (the analysis grid). A frame without a shift has no
    row there; one that is not usable has a row in ``blurry_frames_rejection_details.csv`` alone. Where a published
    number is wrong, the right one is written: docs/export.md says where.
    """
    about = output.scene(scene)
    tables: dict[str, tuple[Sequence[str], Iterable[Row]]] = {
        "blurry_frames_rejection_details": (REJECTED, _rejected_rows(output, about)),
        "cells_centroid_features": (CELLS, _cell_rows(output, scene)),
        "cell_count_and_total_area": (CELL_TOTALS, _total_rows(output, scene)),
    }
    if ChannelRole.AGGREGATES in output.roles:
        tables["frames_registration_params"] = (SHIFTS, _shift_rows(output, about))
        tables["phagocytosis_evolution"] = (EVOLUTION, _evolution_rows(output, about))
    if has_tracks(output):
        tables["cell_tracking_report"] = (TRACKING, _tracking_rows(output, about))
    target = folder / TABLE_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (columns, rows) in tables.items():
        written.append(target / f"{name}.csv")
        with written[-1].open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_cell(value) for value in row] for row in rows)
    return written


def write_released_images(
    output: FinishedOutput,
    scene: int,
    folder: Path,
    *,
    frames: Sequence[int] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> int:
    """Write a scene's pictures in the released data set's folders; give the number of files.

    Parameters
    ----------
    output
        The analysis.
    scene
        Index of the scene.
    folder
        Folder of the scene.
    frames
        Those of these frames; all where None.
    progress
        Told after each frame how many are done, and of how many.

    Notes
    -----
    ``normalized_cell`` and ``normalized_aggregate`` are the stored pictures. ``registered_aggregate`` is moved by the
    shift, bilinearly as published. ``labeled_aggregate`` is moved by the shift in whole pixels, so that it lies on
    it; ``labeled_cell`` is not, as published. Labels are grey of 16 bits, one number an object (published: colours).
    ``cell_semantic_maps`` is the cell probability, 255 for certainty. What a frame does not have has no file.
    """
    about = output.scene(scene)
    chosen = range(len(about.frames)) if frames is None else frames
    count = 0
    for done, frame in enumerate(chosen, start=1):
        for name, picture in _pictures(output, about, frame).items():
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            if name == "cell_semantic_maps":
                tifffile.imwrite(place / f"{frame}.tif", picture, compression="zlib", metadata=None, maxworkers=1)
            else:
                (place / f"{frame}.png").write_bytes(png_bytes(picture))
            count += 1
        progress(done, len(chosen))
    return count


def has_tracks(output: FinishedOutput) -> bool:
    """Whether the cells of this output have been linked over time."""
    return output.has_table("tracks") and "track" in output.table("cells").column_names


def _pictures(output: FinishedOutput, about: SceneFacts, frame: int) -> dict[str, NDArray[Any]]:
    scene, facts, shift_px = about.index, about.frames[frame], output.shift_px(about.index, frame)
    aggregate = output.image(scene, frame, ChannelRole.AGGREGATES)
    labels = output.labels(scene, frame, "aggregates")
    found: dict[str, NDArray[Any] | None] = {
        "normalized_cell": output.image(scene, frame, ChannelRole.CELLS),
        "normalized_aggregate": aggregate,
        "labeled_cell": output.labels(scene, frame, "cells"),
        "cell_semantic_maps": output.probability(scene, frame),
    }
    if shift_px is not None and facts.shift_yx_px is not None:
        if aggregate is not None:
            y, x = (component / output.reduction for component in facts.shift_yx_px)
            found["registered_aggregate"], _ = corrected_frame(aggregate, shift_yx_px=(y, x))
        if labels is not None:
            found["labeled_aggregate"] = moved(labels, shift_px)
    return {name: picture for name, picture in found.items() if picture is not None}


# ---- tables ----------------------------------------------------------------------------------------------------------


def _cell(value: object) -> object:
    """A value as it stands in a table: missing numbers are empty, floats are as short as they can be read back."""
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return ""
    return repr(float(value)) if isinstance(value, float | np.floating) else value


def times_min(frames: Sequence[FrameFacts]) -> list[float]:
    """Time of each frame in minutes as the published tables have it: its number times the interval.

    Where the movie had a pause, so that this would be off by half an interval or more, times are as acquired.
    """
    times = [frame.time_s / 60 for frame in frames]
    known = [(frame.frame, time) for frame, time in zip(frames, times, strict=True) if math.isfinite(time)]
    if len(known) < 2:
        return times
    (first, begin), (last, end) = known[0], known[-1]
    interval = (end - begin) / (last - first)
    if not all(abs(time - frame * interval) < interval / 2 for frame, time in known):
        return [round(time, 6) for time in times]
    return [round(frame.frame * interval, 6) for frame in frames]


def _shift_rows(output: FinishedOutput, about: SceneFacts) -> Iterable[Row]:
    for facts in about.frames:
        if facts.shift_yx_px is not None:
            y, x = (component / output.reduction for component in facts.shift_yx_px)
            yield facts.frame, x, y, x * output.pixel_size_um, y * output.pixel_size_um


def _evolution_rows(output: FinishedOutput, about: SceneFacts) -> Iterable[Row]:
    times = times_min(about.frames)
    if output.has_table("eaten"):
        names = ("frame", "reference_aggregates_left", "eaten_area_um2")
        frames, count, eaten = output.columns("eaten", about.index, *names).values()
        for frame, left, area in zip(frames.tolist(), count.tolist(), eaten.tolist(), strict=True):
            yield times[frame], left, area
        return
    counted = output.columns("frames", about.index, "frame", "usable", "aggregate_count")
    for frame, usable, n in zip(*(column.tolist() for column in counted.values()), strict=True):
        if usable and n is not None and math.isfinite(n):
            yield times[frame], int(n), None


def _rejected_rows(output: FinishedOutput, about: SceneFacts) -> Iterable[Row]:
    shown = [output.image_series(about.index, role) for role in output.roles]
    for facts in about.frames:
        if not facts.usable and any(output.has_plane(series, facts.frame) for series in shown):
            yield (facts.frame,)


def _cell_rows(output: FinishedOutput, scene: int) -> Iterable[Row]:
    cells = output.columns("cells", scene, "frame", "x_px", "y_px", "area_px")
    x, y = (np.round((cells[name] + 0.5) / output.reduction - 0.5, 3) for name in ("x_px", "y_px"))
    yield from zip(cells["frame"].tolist(), x.tolist(), y.tolist(), cells["area_px"].tolist(), strict=True)


def _segmented(output: FinishedOutput, scene: int) -> Mapping[int, tuple[int, float]]:
    """Number of cells and their total area in um2 of each frame whose cells were told."""
    table = output.columns("frames", scene, "frame", "segmentation_verdict", "cell_count", "cell_area_um2")
    return {
        frame: (int(n), float(area))
        for frame, verdict, n, area in zip(*(column.tolist() for column in table.values()), strict=True)
        if verdict == "ok"
    }


def _total_rows(output: FinishedOutput, scene: int) -> Iterable[Row]:
    for frame, (n, area) in _segmented(output, scene).items():
        yield frame, n, area / n if n else None, area


def _tracking_rows(output: FinishedOutput, about: SceneFacts) -> Iterable[Row]:
    names = ("frame", "track", "area_um2", "step_um", "speed_um_per_min")
    cells = output.columns("cells", about.index, *names)
    tracks = output.columns("tracks", about.index, "track", "kept")
    kept = np.isin(cells["track"], tracks["track"][tracks["kept"].astype(np.bool_)])
    times = times_min(about.frames)
    for frame, (n, area) in _segmented(output, about.index).items():
        here = kept & (cells["frame"] == frame)
        step, speed = cells["step_um"][here], cells["speed_um_per_min"][here]
        yield (
            times[frame],
            _mean(speed),
            _mean(cells["area_um2"][here]),
            area / n if n else None,
            area,
            n,
            float(np.nansum(step)) if np.isfinite(step).any() else None,
        )


def _mean(values: NDArray[Any]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
