"""Cells of a whole scene linked over time, and what each track measures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.work import Present, Result, TaskContext, json_number
from phagostat.kernels.tracking import (
    TRACK_FEATURES,
    TrackingOptions,
    kept_share,
    link_cells,
    track_features,
    track_steps,
)
from phagostat.store.commits import WHOLE


def link_scene(context: TaskContext, present: Present, frames_final: int) -> Result:
    """Give every cell of a scene its track, and how far it came since it was seen before."""
    del present, frames_final
    cells = _cells(context)
    settings, known = context.job.settings.tracking, context.job.known
    height, width = context.job.scenes[context.scene_index].shape_yx
    options = TrackingOptions()
    options = TrackingOptions(
        max_lost=settings.max_lost_frames,
        prob_not_assign=settings.probability_not_assigned,
        search_radius=settings.search_radius_um / options.length_unit_um,
        max_objects=settings.max_cells_at_once,
    )
    found = link_cells(
        cells["frame"],
        cells["label"],
        y_um=cells["registered_y_um"],
        x_um=cells["registered_x_um"],
        field_um=(height * known.pixel_size_um, width * known.pixel_size_um),
        options=options,
    )
    steps = track_steps(
        found.track,
        cells["frame"],
        time_min=_times_min(context, cells["frame"]),
        y_um=cells["registered_y_um"],
        x_um=cells["registered_x_um"],
    )
    columns = {
        "frame": cells["frame"].astype(np.int32),
        "label": cells["label"],
        "track": found.track,
        "step_um": steps[:, 0].copy(),
        "speed_um_per_min": steps[:, 1].copy(),
    }
    record = {"tracks": found.n_tracks, "stretches": found.n_stretches, "unsolved_stretches": found.n_unsolved}
    return Result("ok" if found.n_unsolved == 0 else "not_optimal", record, columns=columns)


def measure_tracks(context: TaskContext, present: Present, frames_final: int) -> Result:
    """Measure every track of a scene."""
    del present, frames_final
    cells, settings = _cells(context), context.job.settings.tracking
    links = context.rows("tracks", WHOLE)
    order = np.lexsort((links["label"], links["frame"]))
    if not np.array_equal(links["frame"][order], cells["frame"]):
        raise RuntimeError("tracks and cells are not of one scene")
    table = track_features(
        links["track"][order],
        cells["frame"],
        time_min=_times_min(context, cells["frame"]),
        y_um=cells["registered_y_um"],
        x_um=cells["registered_x_um"],
        area_um2=cells["area_um2"],
        min_duration_min=settings.min_duration_min,
        lag_min=settings.lag_min,
    )
    record: dict[str, Any] = {
        "tracks": len(table),
        "tracks_kept": int(np.count_nonzero(table["kept"])),
        "kept_share": json_number(kept_share(table)),
    }
    columns = {name: np.ascontiguousarray(table[name]) for name in TRACK_FEATURES.names or ()}
    return Result("ok", record, columns=columns)


def _cells(context: TaskContext) -> dict[str, NDArray[Any]]:
    """The cells of all frames, sorted by frame and label."""
    names = ("label", "registered_y_um", "registered_x_um", "area_um2")
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("frame", *names)}
    for frame, need in sorted(context.needs["cells"].items()):
        if need.row_file is None:
            continue
        rows = context.rows("cells", frame)
        parts["frame"].append(np.full(rows["label"].size, frame, np.int64))
        for name in names:
            parts[name].append(rows[name])
    kinds = {"frame": np.int64, "label": np.uint16}
    return {
        name: np.concatenate(columns) if columns else np.empty(0, kinds.get(name, np.float64))
        for name, columns in parts.items()
    }


def _times_min(context: TaskContext, frames: NDArray[np.int64]) -> NDArray[np.float64]:
    times = context.job.scenes[context.scene_index].times_s
    if times is None:
        raise RuntimeError("an analysed acquisition has times")
    return np.asarray(times, np.float64)[frames] / 60
