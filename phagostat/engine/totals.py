"""What the frames and tracks of a scene come to, and the scenes of an acquisition."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Record = Mapping[str, Any]


def scene_totals(frames: Sequence[Record], tracks: pa.Table) -> dict[str, float | None]:
    """Number, size and speed of a scene's cells.

    Parameters
    ----------
    frames
        Its records of the table ``frames``.
    tracks
        Its rows of the table ``tracks``.

    Returns
    -------
    dict
        ``mean_cell_count`` over frames whose cells were segmented, ``mean_cell_area_um2`` over all their cells,
        ``mean_speed_um_per_min``, ``mean_lag_speed_um_per_min`` and ``mean_movement_um`` over kept tracks; NaN where
        there is nothing to take a mean of.
    """
    segmented = [frame for frame in frames if frame["segmentation_verdict"] == "ok"]
    n_cells = sum(frame["cell_count"] for frame in segmented)
    kept = tracks.filter(pc.field("kept"))
    return {
        "mean_cell_count": _mean(frame["cell_count"] for frame in segmented),
        "mean_cell_area_um2": sum(f["cell_area_um2"] for f in segmented) / n_cells if n_cells else math.nan,
        **{f"mean_{name}": _mean(kept[column].to_pylist()) for name, column in _OF_TRACKS.items()},
    }


_OF_TRACKS = {
    "speed_um_per_min": "mean_speed_um_per_min",
    "lag_speed_um_per_min": "lag_speed_um_per_min",
    "movement_um": "movement_um",
}
_MEANS = ("mean_cell_count", "mean_cell_area_um2", *(f"mean_{name}" for name in _OF_TRACKS))
_SUMS = ("reference_aggregates", "reference_area_um2", "eaten_area_um2", "tracks", "tracks_kept")


def acquisition_totals(scenes: Sequence[Record], *, pixel_size_um: float, has_aggregates: bool) -> dict[str, Any]:
    """The one row of the table ``acquisition``.

    Parameters
    ----------
    scenes
        All records of the table ``scenes``.
    pixel_size_um
        Native pixel size.
    has_aggregates
        Whether a channel shows aggregates; without one nothing accepts or rejects a scene, and all are counted.

    Notes
    -----
    Sums and means are of the scenes that are counted: the accepted ones. A mean is that of the scenes' values, each
    scene weighing the same, as in the published report; a scene that has none is left out of it.
    """
    counted = [scene for scene in scenes if scene["accepted"] or not has_aggregates]
    sums = {name: _sum(scene.get(name) for scene in counted) for name in _SUMS}
    followed = [scene for scene in counted if _present([scene["reference_area_um2"], scene["eaten_area_um2"]])[1:]]
    whole, eaten = (_sum(scene[name] for scene in followed) for name in ("reference_area_um2", "eaten_area_um2"))
    return {
        "scenes": len(scenes),
        "scenes_accepted": sum(bool(scene["accepted"]) for scene in scenes) if has_aggregates else None,
        "scenes_counted": len(counted),
        "frames": sum(scene["frames"] for scene in scenes),
        "frames_missing": sum(scene["frames_missing"] for scene in scenes),
        "frames_usable": sum(scene["frames_usable"] for scene in scenes),
        "pixel_size_um": pixel_size_um,
        "threshold_counts": scenes[0]["threshold_counts"] if scenes else None,
        **sums,
        "eaten_fraction": eaten / whole if whole is not None and eaten is not None and whole > 0 else None,
        **{name: _mean(scene[name] for scene in counted) for name in _MEANS},
    }


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and not math.isnan(value)]


def _mean(values: Iterable[float | None]) -> float:
    present = _present(values)
    return float(np.mean(present)) if present else math.nan


def _sum(values: Iterable[float | None]) -> float | None:
    """Sum of what is known; None where nothing is."""
    present = _present(values)
    return sum(present) if present else None
