"""Final tables, from the commit log and its row files: docs/tables.md says what each column is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from phagostat.engine.planner import Folded, Place
from phagostat.engine.work import Job, json_number
from phagostat.folds.blur import Focus
from phagostat.folds.quality import QualityOptions, QualityRecord, fold, judge
from phagostat.store.commits import WHOLE, CommitLog, Entry
from phagostat.store.rows import read_row_file
from phagostat.store.tables import sort_table, table_from_records, write_table


@dataclass(frozen=True)
class Column:
    """One column of a final table: name, type, unit and meaning."""

    name: str
    kind: pa.DataType
    unit: str
    meaning: str


_INT, _FLOAT, _TEXT, _BOOL = pa.int32(), pa.float64(), pa.string(), pa.bool_()

FRAME_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("scene_name", _TEXT, "", "name of the scene in the source"),
    Column("frame", _INT, "", "index of the frame, from 0"),
    Column("time_s", _FLOAT, "s", "acquisition time since the scene's first frame"),
    Column("verdict", _TEXT, "", "ok, or why the frame has no shift: missing, unreadable, black, constant, saturated, "
           "unregistered, no_reference, failed"),
    Column("cells_verdict", _TEXT, "", "ok, or what is wrong with the cell channel"),
    Column("aggregates_verdict", _TEXT, "", "ok, or why aggregates were not measured; bleaching_undetermined: measured "
           "at the unfaded threshold, since too few reference aggregates are left to tell the fading"),
    Column("reason", _TEXT, "", "what the verdict rests on, in words"),
    Column("is_reference", _BOOL, "", "whether this is the scene's reference frame"),
    Column("shift_y_px", _FLOAT, "px (native)", "what stands at p in the reference stands at p + shift here"),
    Column("shift_x_px", _FLOAT, "px (native)", "same, along x"),
    Column("shift_error_y_px", _FLOAT, "px (native)", "standard error of the shift"),
    Column("shift_error_x_px", _FLOAT, "px (native)", "same, along x"),
    Column("shift_confidence", _FLOAT, "", "0 to 1, as the method defines it"),
    Column("shift_method", _TEXT, "", "how the shift was estimated"),
    Column("sharpness", _FLOAT, "", "sharpness of the aggregate channel; compare within a scene"),
    Column("focus", _TEXT, "", "sharp, blurred, or unknown where sharpness cannot be told"),
    Column("usable", _BOOL, "", "whether later steps use the frame: registered and sharp"),
    Column("focus_reason", _TEXT, "", "why the frame is not usable, in words"),
    Column("sharpness_ratio", _FLOAT, "", "sharpness relative to the last accepted frames"),
    Column("ramp_ratio", _FLOAT, "", "sharpness relative to the best accepted frame of the last half hour"),
    Column("median_counts", _FLOAT, "counts", "median of the aggregate channel"),
    Column("high_counts", _FLOAT, "counts", "99.9 percentile of the aggregate channel"),
    Column("saturated_fraction", _FLOAT, "", "share of saturated pixels of the aggregate channel"),
    Column("background_counts", _FLOAT, "counts", "background level of the aggregate channel"),
    Column("bleaching_factor", _FLOAT, "", "brightness of untouched aggregates against the reference frame"),
    Column("bleaching_aggregates", _INT, "", "number of aggregates that agree on it"),
    Column("threshold_counts", _FLOAT, "counts", "threshold above background that was used in this frame"),
    Column("aggregate_count", _INT, "", "number of aggregates"),
    Column("aggregate_area_um2", _FLOAT, "um2", "their total area"),
    Column("segmentation_verdict", _TEXT, "", "ok, or why there are no cells: unusable, or what is wrong with the cell "
           "channel"),
    Column("cell_count", _INT, "", "number of cells"),
    Column("cell_area_um2", _FLOAT, "um2", "their total area"),
    Column("incoherent_count", _INT, "", "cells that no seed of the window lies in: seeded from this frame alone"),
    Column("lost_seed_count", _INT, "", "seeds of the window without foreground in this frame"),
    Column("window_frames", _INT, "", "frames of the window that had any weight"),
    Column("window_short", _BOOL, "", "whether the movie's end cut the window"),
)  # fmt: skip
"""Columns of ``frames``."""

SCENE_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("scene_name", _TEXT, "", "name of the scene in the source"),
    Column("frames", _INT, "", "number of frames"),
    Column("frames_ok", _INT, "", "number of registered frames"),
    Column("verdict", _TEXT, "", "ok, or unusable where no frame can be the reference"),
    Column("reason", _TEXT, "", "why this reference frame, or why none"),
    Column("reference_frame", _INT, "", "index of the reference frame"),
    Column("threshold_counts", _FLOAT, "counts", "aggregate threshold of the acquisition, above background"),
    Column("scene_threshold_counts", _FLOAT, "counts", "what this scene's reference alone would give"),
    Column("threshold_deviates", _BOOL, "", "whether that is more than 25 % off the median of all scenes"),
    Column("max_shift_px", _FLOAT, "px (native)", "largest shift along an axis of the usable frames"),
    Column("frames_missing", _INT, "", "number of frames that the source does not have"),
    Column("frames_blurred", _INT, "", "number of acquired frames that are out of focus"),
    Column("frames_unusable", _INT, "", "number of acquired frames that have no shift and are not blurred"),
    Column("blurred_fraction", _FLOAT, "", "share of blurred frames among the acquired ones"),
    Column("accepted", _BOOL, "", "whether the scene keeps to the criteria of quality"),
    Column("quality_reason", _TEXT, "", "the figures that this rests on"),
)
"""Columns of ``scenes``."""


AGGREGATE_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("frame", _INT, "", "index of the frame, from 0"),
    Column("aggregate", pa.uint16(), "", "label in this frame's label image; numbered anew in every frame"),
    Column("area_px", pa.int64(), "px (analysis)", "number of pixels"),
    Column("area_um2", _FLOAT, "um2", "area"),
    Column("y_px", _FLOAT, "px (native)", "centroid in this frame"),
    Column("x_px", _FLOAT, "px (native)", "same, along x"),
    Column("weighted_y_px", _FLOAT, "px (native)", "centroid weighted by intensity"),
    Column("weighted_x_px", _FLOAT, "px (native)", "same, along x"),
    Column("mean_counts", _FLOAT, "counts", "mean above background, not corrected for bleaching"),
    Column("max_counts", _FLOAT, "counts", "maximum above background"),
    Column("integrated_counts", _FLOAT, "counts x px (analysis)", "sum above background"),
    Column("top_px", _INT, "px (analysis)", "bounding box, first row"),
    Column("left_px", _INT, "px (analysis)", "bounding box, first column"),
    Column("bottom_px", _INT, "px (analysis)", "bounding box, row after the last"),
    Column("right_px", _INT, "px (analysis)", "bounding box, column after the last"),
    Column("major_axis_um", _FLOAT, "um", "long axis of the ellipse of equal second moments"),
    Column("minor_axis_um", _FLOAT, "um", "its short axis"),
    Column("eccentricity", _FLOAT, "", "0 for a circle, towards 1 for a line"),
    Column("orientation_rad", _FLOAT, "rad", "angle between the y axis and the long axis, counter-clockwise"),
    Column("n_saturated_px", pa.int64(), "px (analysis)", "pixels at the camera's white level"),
    Column("touches_border", _BOOL, "", "whether it reaches the edge of the frame"),
    Column("glass_y_px", _FLOAT, "px (native)", "centroid where it lies in the reference frame: y_px minus the shift"),
    Column("glass_x_px", _FLOAT, "px (native)", "same, along x"),
)  # fmt: skip
"""Columns of ``aggregates``."""

CELL_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("frame", _INT, "", "index of the frame, from 0"),
    Column("cell", pa.uint16(), "", "label in this frame's label image; numbered anew in every frame"),
    Column("area_px", pa.int64(), "px (analysis)", "number of pixels"),
    Column("area_um2", _FLOAT, "um2", "area"),
    Column("y_px", _FLOAT, "px (native)", "centroid in this frame"),
    Column("x_px", _FLOAT, "px (native)", "same, along x"),
    Column("registered_y_um", _FLOAT, "um", "centroid where it lies in the reference frame"),
    Column("registered_x_um", _FLOAT, "um", "same, along x"),
    Column("top_px", _INT, "px (analysis)", "bounding box, first row"),
    Column("left_px", _INT, "px (analysis)", "bounding box, first column"),
    Column("bottom_px", _INT, "px (analysis)", "bounding box, row after the last"),
    Column("right_px", _INT, "px (analysis)", "bounding box, column after the last"),
    Column("perimeter_um", _FLOAT, "um", "length of the outline"),
    Column("major_axis_um", _FLOAT, "um", "long axis of the ellipse of equal second moments"),
    Column("minor_axis_um", _FLOAT, "um", "its short axis"),
    Column("eccentricity", _FLOAT, "", "0 for a circle, towards 1 for a line"),
    Column("orientation_rad", _FLOAT, "rad", "angle between the y axis and the long axis, counter-clockwise"),
    Column("mean_probability", _FLOAT, "", "mean cell probability of its pixels"),
    Column("certain_area_um2", _FLOAT, "um2", "area of its pixels above 0.98, which the published code counts"),
    Column("touches_border", _BOOL, "", "whether it reaches the edge of the frame"),
    Column("n_touching", _INT, "", "number of other cells that it touches"),
    Column("incoherent", _BOOL, "", "whether it grew from a seed of this frame alone: none of the window lay in it"),
)  # fmt: skip
"""Columns of ``cells``."""

TABLES: dict[str, tuple[Column, ...]] = {
    "frames": FRAME_COLUMNS,
    "cells": CELL_COLUMNS,
    "aggregates": AGGREGATE_COLUMNS,
    "scenes": SCENE_COLUMNS,
}
"""Every final table."""


TABLE_SETTINGS = ("quality",)
"""Settings that the tables read beside what the steps have made."""


def write_tables(job: Job, log: CommitLog, folded: Mapping[Place, Folded]) -> dict[str, str]:
    """Write the tables of :data:`TABLES`; give the digest of each."""
    frames = [record for scene in job.scenes for record in _frame_records(job, log, folded, scene.index)]
    tables = {
        "frames": table_from_records(frames, _types(FRAME_COLUMNS)),
        "scenes": table_from_records(
            [_scene_record(job, log, s.index, frames) for s in job.scenes], _types(SCENE_COLUMNS)
        ),
        "aggregates": object_table(job, log, "aggregates", "aggregate", AGGREGATE_COLUMNS),
        "cells": object_table(job, log, "cells", "cell", CELL_COLUMNS),
    }
    return {name: write_table(job.layout.tables, name, table) for name, table in tables.items()}


def object_table(job: Job, log: CommitLog, step: str, key: str, columns: Sequence[Column]) -> pa.Table:
    """One row per object and frame, from the row files of the commits that hold.

    Parameters
    ----------
    job, log
        The output.
    step
        Whose rows they are.
    key
        What the table calls an object's label.
    columns
        Of the table.
    """
    parts: list[pa.Table] = []
    for commit in log:
        if commit.step != step or commit.scene is None:
            continue
        for file, digest in commit.row_files.items():
            held = [e.index for e in commit.entries if e.row_file == file]
            rows = read_row_file(job.layout.rows, file, digest)
            index = rows.pop("index")
            chosen = np.isin(index, held)
            rows |= {"scene": np.full(index.shape, commit.scene), "frame": index, key: rows["label"]}
            parts.append(pa.table({c.name: pa.array(rows[c.name][chosen], c.kind) for c in columns}))
    if not parts:
        return pa.table({column.name: pa.array([], column.kind) for column in columns})
    return sort_table(pa.concat_tables(parts), ["scene", "frame", key])


def _types(columns: Sequence[Column]) -> dict[str, pa.DataType]:
    return {column.name: column.kind for column in columns}


def _frame_records(job: Job, log: CommitLog, folded: Mapping[Place, Folded], scene: int) -> list[dict[str, Any]]:
    about = job.scenes[scene]
    reference = log.entry("reference", scene, WHOLE)
    chosen = reference.record.get("frame") if reference is not None else None
    measures, aggregates = log.entries("measures", scene), log.entries("aggregates", scene)
    cells = log.entries("cells", scene)
    records = []
    for frame in range(about.n_frames):
        measured, counted = measures.get(frame), aggregates.get(frame)
        found: Mapping[str, Any] = {} if counted is None else counted.record
        segmented = cells.get(frame)
        verdict = folded.get(("verdicts", scene, frame))
        judged: Mapping[str, Any] = {} if verdict is None else verdict.record
        records.append(
            {
                **({} if measured is None else measured.record),
                **{name: value for name, value in found.items() if name != "reason"},
                **({} if segmented is None else {k: v for k, v in segmented.record.items() if k != "reason"}),
                "scene": scene,
                "scene_name": about.name,
                "frame": frame,
                "segmentation_verdict": _verdict(segmented),
                "time_s": about.times_s[frame] if about.times_s is not None else None,
                "verdict": _verdict(measured),
                "aggregates_verdict": _verdict(counted),
                "reason": (measured.record.get("reason") if measured else None) or found.get("reason"),
                "is_reference": frame == chosen,
                "focus": judged.get("focus"),
                "usable": verdict is not None and verdict.verdict == "usable",
                "focus_reason": judged.get("reason"),
                **{name: judged.get(name) for name in ("sharpness_ratio", "ramp_ratio")},
            }
        )
    return records


def _verdict(entry: Entry | None) -> str:
    return "not computed" if entry is None else entry.verdict


def _scene_record(job: Job, log: CommitLog, scene: int, frames: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    reference, threshold = log.entry("reference", scene, WHOLE), log.entry("threshold", None, WHOLE)
    about: Mapping[str, Any] = {} if reference is None else reference.record
    cut: Mapping[str, Any] = {} if threshold is None else threshold.record
    mine = [record for record in frames if record["scene"] == scene]
    quality = fold(
        QualityRecord(
            record["frame"],
            record["verdict"],
            Focus(record["focus"] or "unknown"),
            (record["shift_y_px"], record["shift_x_px"]) if record["verdict"] == "ok" else None,
        )
        for record in mine
    )
    limits = job.settings.quality
    accepted, why = judge(
        quality,
        QualityOptions(max_shift_px=limits.max_shift_px, max_blurred_fraction=limits.max_blurred_percent / 100),
    )
    return {
        "scene": scene,
        "scene_name": job.scenes[scene].name,
        "frames": len(mine),
        "frames_ok": sum(record["verdict"] == "ok" for record in mine),
        "verdict": _verdict(reference),
        "reason": about.get("reason"),
        "reference_frame": about.get("frame"),
        "threshold_counts": cut.get("threshold_counts"),
        "scene_threshold_counts": cut.get("scene_threshold_counts", {}).get(str(scene)),
        "threshold_deviates": scene in cut.get("deviating_scenes", ()),
        "max_shift_px": json_number(quality.max_shift_px),
        "frames_missing": quality.n_missing,
        "frames_blurred": quality.n_blurred,
        "frames_unusable": quality.n_unusable,
        "blurred_fraction": json_number(quality.blurred_fraction),
        "accepted": accepted,
        "quality_reason": why,
    }
