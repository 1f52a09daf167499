"""Outputs whose tables are written by hand: any number of scenes and frames, without a pixel behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from phagostat.engine.columns import (
    ACQUISITION_COLUMNS,
    EATEN_COLUMNS,
    FRAME_COLUMNS,
    SCENE_COLUMNS,
    TRACK_COLUMNS,
    Column,
)
from phagostat.settings import Settings, profile_settings
from phagostat.store.layout import Layout
from phagostat.store.manifest import new_manifest, write_manifest
from phagostat.store.seal import Seal, write_seal
from phagostat.store.tables import table_from_records, write_table


@dataclass
class WrittenScene:
    """A scene of n frames with smooth figures, where ``states`` says which frames are not used and why."""

    n_frames: int = 24
    name: str = "scene"
    states: Mapping[int, str] = field(default_factory=dict)
    frames: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    scene: Mapping[str, Any] = field(default_factory=dict)
    times_s: bool = True
    eaten: bool = True


def write_output(
    root: Path,
    scenes: Sequence[WrittenScene],
    *,
    settings: Settings | None = None,
    sealed: bool = True,
    source: str = "/data/movie.czi",
    channels: Sequence[Mapping[str, Any]] | None = None,
    roles: Mapping[str, int] | None = None,
    totals: Mapping[str, Any] | None = None,
) -> Path:
    """An output with these scenes; give its folder."""
    layout = Layout.analysis(root)
    layout.tables.mkdir(parents=True)
    acquisition = {
        "scenes": [
            {
                "index": i,
                "name": s.name,
                "n_frames": s.n_frames,
                "shape_yx": [512, 512],
                "dtype": "uint16",
                "times_s": [120.0 * f for f in range(s.n_frames)] if s.times_s else None,
            }
            for i, s in enumerate(scenes)
        ],
        "channels": channels
        or [
            {"index": 0, "name": "mCherry", "fluorescent": True, "description": "EmissionWavelength 610"},
            {"index": 1, "name": "PhC", "fluorescent": False, "description": ""},
        ],
        "pixel_size_um": 0.103,
        "times_origin": "list of offsets" if all(s.times_s for s in scenes) else "none",
        "roles": roles or {"aggregates": 0, "cells": 1},
        "reduction": 2,
    }
    manifest = new_manifest(
        "analysis",
        source={"path": source, "kind": "czi", "identity": "0123abcd"},
        settings=(settings or profile_settings()).dict(),
        acquisition=acquisition,
    )
    write_manifest(layout, manifest)
    tables = {
        "frames": ([row for i, s in enumerate(scenes) for row in _frames(i, s)], FRAME_COLUMNS),
        "scenes": ([_scene(i, s) for i, s in enumerate(scenes)], SCENE_COLUMNS),
        "eaten": ([row for i, s in enumerate(scenes) for row in _eaten(i, s)], EATEN_COLUMNS),
        "tracks": (
            [
                {"scene": i, "track": t + 1, "kept": t > 0, "lag_speed_um_per_min": 0.25 * t}
                for i in range(len(scenes))
                for t in range(4)
            ],
            TRACK_COLUMNS,
        ),
    }
    if totals is not None:
        tables["acquisition"] = ([dict(totals)], ACQUISITION_COLUMNS)
    digests = {name: write_table(layout.tables, name, _table(*content)) for name, content in tables.items()}
    if sealed:
        write_seal(layout, Seal("5ea1" * 8, digests))
    return root


def _table(records: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Any:
    return table_from_records(records, {column.name: column.kind for column in columns})


def _frames(index: int, scene: WrittenScene) -> list[dict[str, Any]]:
    noise = np.random.default_rng(index).normal(size=scene.n_frames)
    rows = []
    for frame in range(scene.n_frames):
        state = scene.states.get(frame, "ok")
        registered, usable = state in ("ok", "blurred"), state == "ok"
        rows.append(
            {
                "scene": index,
                "scene_name": scene.name,
                "frame": frame,
                "time_s": 120.0 * frame if scene.times_s else None,
                "verdict": "ok" if registered else state,
                "cells_verdict": "ok" if registered else state,
                "aggregates_verdict": "ok" if registered else state,
                "segmentation_verdict": "ok" if usable else "unusable",
                "reason": None if registered else f"it is {state}",
                "is_reference": frame == scene.scene.get("reference_frame", 0),
                "shift_y_px": 0.1 * frame if registered else None,
                "shift_x_px": -0.2 * frame if registered else None,
                "sharpness": None if state == "missing" else 10.0 + noise[frame] - 6 * (state == "blurred"),
                "focus": "blurred" if state == "blurred" else "sharp",
                "usable": usable,
                "focus_reason": None if usable else f"sharpness says {state}",
                "bleaching_factor": 1.0 - 0.001 * frame,
                "aggregate_count": 40 - frame // 8,
                "aggregate_area_um2": 400.0 - frame + noise[frame],
                "cell_count": 12,
                "cell_area_um2": 12 * 310.0 + 20 * noise[frame],
                **{name: values[frame] for name, values in scene.frames.items()},
            }
        )
    return rows


def _scene(index: int, scene: WrittenScene) -> dict[str, Any]:
    blurred = sum(state == "blurred" for state in scene.states.values())
    return {
        "scene": index,
        "scene_name": scene.name,
        "frames": scene.n_frames,
        "frames_ok": scene.n_frames - len(scene.states),
        "verdict": "ok",
        "reason": "sharpest of 5 usable frames",
        "reference_frame": 0,
        "threshold_counts": 300.0,
        "scene_threshold_counts": 310.0,
        "threshold_deviates": False,
        "max_shift_px": 0.2 * scene.n_frames,
        "frames_missing": sum(state == "missing" for state in scene.states.values()),
        "frames_blurred": blurred,
        "blurred_fraction": blurred / scene.n_frames if scene.n_frames else None,
        "ledger_verdict": "ok",
        "reference_area_um2": 400.0,
        "tracks": 4,
        "tracks_kept": 3,
        "tracking_verdict": "ok",
        "accepted": True,
        "quality_reason": "it keeps to them",
        **scene.scene,
    }


def _eaten(index: int, scene: WrittenScene) -> list[dict[str, Any]]:
    return [
        {
            "scene": index,
            "frame": frame,
            "eaten_area_um2": 0.5 * frame + 0.25 * (-1) ** frame,
            "eaten_area_isotonic_um2": 0.5 * frame,
            "in_view_fraction": 0.75,
        }
        for frame in range(scene.n_frames)
        if scene.eaten and scene.states.get(frame, "ok") == "ok"
    ]
