"""Final tables, from the commit log and its row files: docs/tables.md says what each column is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from phagostat.engine.columns import (
    ACQUISITION_COLUMNS,
    AGGREGATE_COLUMNS,
    CELL_COLUMNS,
    EATEN_COLUMNS,
    FATE_COLUMNS,
    FRAME_COLUMNS,
    SCENE_COLUMNS,
    TRACK_COLUMNS,
    TRACKED_COLUMNS,
    Column,
)
from phagostat.engine.compute.measures import ASSUMED
from phagostat.engine.planner import Folded, Place
from phagostat.engine.totals import acquisition_totals, scene_totals
from phagostat.engine.work import Job, json_number
from phagostat.folds.blur import Focus
from phagostat.folds.quality import QualityOptions, QualityRecord, fold, judge
from phagostat.kernels.correction import valid_area
from phagostat.model.errors import StoreError
from phagostat.store.commits import WHOLE, CommitLog, Entry
from phagostat.store.rows import read_row_file
from phagostat.store.tables import sort_table, table_from_records, write_table

NO_CHANNEL = "no_channel"
"""Verdict on what would need a channel that the acquisition does not have."""

TABLE_SETTINGS = ("quality",)
"""Settings that the tables read beside what the steps have made."""


def write_tables(job: Job, log: CommitLog, folded: Mapping[Place, Folded]) -> dict[str, str]:
    """Write the tables of :data:`TABLES`; give the digest of each."""
    frames = [record for scene in job.scenes for record in _frame_records(job, log, folded, scene.index)]
    tracks = row_table(job, log, "track_features", TRACK_COLUMNS, keys=("scene", "track"))
    scenes = [_scene_record(job, log, s.index, frames, tracks) for s in job.scenes]
    whole = acquisition_totals(scenes, pixel_size_um=job.known.pixel_size_um, has_aggregates=job.known.has_aggregates)
    tables = {
        "acquisition": table_from_records([whole], _types(ACQUISITION_COLUMNS)),
        "frames": table_from_records(frames, _types(FRAME_COLUMNS)),
        "scenes": table_from_records(scenes, _types(SCENE_COLUMNS)),
        "aggregates": row_table(job, log, "aggregates", AGGREGATE_COLUMNS, keys=("scene", "frame", "aggregate")),
        "cells": cell_table(job, log),
        "eaten": row_table(job, log, "eaten", EATEN_COLUMNS, keys=("scene", "frame")),
        "fates": row_table(job, log, "fates", FATE_COLUMNS, keys=("scene", "reference_aggregate")),
        "tracks": tracks,
    }
    return {name: write_table(job.layout.tables, name, table) for name, table in tables.items()}


def row_table(job: Job, log: CommitLog, step: str, columns: Sequence[Column], *, keys: Sequence[str]) -> pa.Table:
    """Rows of a step, from the row files of the commits that hold.

    Parameters
    ----------
    job, log
        The output.
    step
        Whose rows they are. ``scene`` and, where the rows do not say it themselves, ``frame`` are added; ``label`` is
        called as the last key is.
    columns
        Of the table.
    keys
        Columns that the rows are sorted by.
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
            named = {} if keys[-1] in rows or "label" not in rows else {keys[-1]: rows["label"]}
            rows = {"frame": index} | rows | named
            rows["scene"] = np.full(index.shape, commit.scene)
            parts.append(pa.table({c.name: pa.array(rows[c.name][chosen], c.kind) for c in columns}))
    if not parts:
        return pa.table({column.name: pa.array([], column.kind) for column in columns})
    return sort_table(pa.concat_tables(parts), keys)


def cell_table(job: Job, log: CommitLog) -> pa.Table:
    """One row per cell and frame, with its track."""
    keys = ("scene", "frame", "cell")
    cells = row_table(job, log, "cells", CELL_COLUMNS, keys=keys)
    own = [column for column in CELL_COLUMNS if column.name in keys]
    links = row_table(job, log, "tracks", (*own, *TRACKED_COLUMNS), keys=keys)
    if not all(cells[key].equals(links[key]) for key in keys):
        raise StoreError(
            "tracks and cells do not belong together",
            where=job.layout.rows,
            remedy="this is a mistake of phagostat: please report it",
        )
    for column in TRACKED_COLUMNS:
        cells = cells.append_column(column.name, links[column.name])
    return cells


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
                "aggregates_verdict": _verdict(counted) if job.known.has_aggregates else NO_CHANNEL,
                "reason": (measured.record.get("reason") if measured else None) or found.get("reason"),
                "is_reference": frame == chosen,
                **_valid_area(measured, about.shape_yx),
                "focus": judged.get("focus"),
                "usable": verdict is not None and verdict.verdict == "usable",
                "focus_reason": judged.get("reason"),
                **{name: judged.get(name) for name in ("sharpness_ratio", "ramp_ratio", "matched_ratio")},
            }
        )
    return records


def _valid_area(measured: Entry | None, shape_yx: tuple[int, int]) -> dict[str, int]:
    """What a frame with a shift shows of the reference's grid."""
    if measured is None or measured.verdict != "ok" or measured.record["shift_method"] == ASSUMED:
        return {}
    valid = valid_area(shape_yx, shift_yx_px=(measured.record["shift_y_px"], measured.record["shift_x_px"]))
    return {f"valid_{side}_px": getattr(valid, side) for side in ("top", "bottom", "left", "right")}


def _quality_shift(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """The shift that a scene is judged by; NaN where it was only assumed."""
    if record["verdict"] != "ok":
        return None
    if record["shift_method"] == ASSUMED:
        return float("nan"), float("nan")
    return record["shift_y_px"], record["shift_x_px"]


def _verdict(entry: Entry | None) -> str:
    return "not computed" if entry is None else entry.verdict


def _scene_record(
    job: Job, log: CommitLog, scene: int, frames: Sequence[Mapping[str, Any]], tracks: pa.Table
) -> dict[str, Any]:
    reference, threshold = log.entry("reference", scene, WHOLE), log.entry("threshold", None, WHOLE)
    about: Mapping[str, Any] = {} if reference is None else reference.record
    cut: Mapping[str, Any] = {} if threshold is None else threshold.record
    eaten = log.entry("eaten", scene, WHOLE)
    tracked = log.entry("track_features", scene, WHOLE)
    measured: Mapping[str, Any] = {} if tracked is None else tracked.record
    mine = [record for record in frames if record["scene"] == scene]
    quality = fold(
        QualityRecord(
            record["frame"],
            record["verdict"],
            Focus(record["focus"] or "unknown"),
            _quality_shift(record),
            usable=record["usable"],
        )
        for record in mine
    )
    limits = job.settings.quality
    accepted: bool | None
    accepted, why = judge(
        quality,
        QualityOptions(
            max_shift_px=limits.max_shift_px,
            max_blurred_fraction=limits.max_blurred_percent / 100,
            max_unusable_fraction=limits.max_unusable_percent / 100,
        ),
    )
    known = job.known.has_aggregates
    if not known:
        accepted, why = None, "there is no aggregate channel: neither shift nor focus is known"
    return {
        "scene": scene,
        "scene_name": job.scenes[scene].name,
        "frames": len(mine),
        "frames_ok": sum(record["verdict"] == "ok" for record in mine),
        "frames_usable": sum(record["usable"] for record in mine),
        "verdict": _verdict(reference),
        "reason": about.get("reason"),
        "reference_frame": about.get("frame"),
        "threshold_counts": cut.get("threshold_counts"),
        "scene_threshold_counts": cut.get("scene_threshold_counts", {}).get(str(scene)),
        "threshold_deviates": scene in cut.get("deviating_scenes", ()) if known else None,
        "max_shift_px": json_number(quality.max_shift_px),
        "frames_missing": quality.n_missing,
        "frames_blurred": quality.n_blurred if known else None,
        "frames_unusable": quality.n_unusable,
        "blurred_fraction": json_number(quality.blurred_fraction) if known else None,
        "unusable_fraction": json_number(quality.unusable_fraction),
        "ledger_verdict": _verdict(eaten) if known else NO_CHANNEL,
        **{
            name: None if eaten is None else eaten.record.get(name)
            for name in ("reference_aggregates", "reference_area_um2", "eaten_area_um2")
        },
        "tracks": measured.get("tracks"),
        "tracks_kept": measured.get("tracks_kept"),
        "kept_share": measured.get("kept_share"),
        **scene_totals(mine, tracks.filter(pc.field("scene") == scene)),
        "tracking_verdict": _verdict(log.entry("tracks", scene, WHOLE)),
        "accepted": accepted,
        "quality_reason": why,
    }
