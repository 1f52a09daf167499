"""Aggregates of every frame: bleaching, labels, features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.compute.scene import SceneReference
from phagostat.engine.preparation import labels_path
from phagostat.engine.work import FramePlanes, Result, TaskContext, each_frame, json_number
from phagostat.kernels.aggregates import FEATURES, aggregate_features, label_aggregates
from phagostat.kernels.bleaching import bleaching_factor
from phagostat.kernels.intensity import background_level, intensity_histogram
from phagostat.model.acquisition import ChannelRole
from phagostat.store.commits import WHOLE

_ROWS = 2  # every second row tells the background to a tenth of a count


@dataclass(frozen=True)
class _Cut:
    """Where aggregates begin in one frame: the threshold above a background, and how both were come by."""

    background_counts: float
    threshold_counts: float
    factor: float
    record: dict[str, Any]
    reason: str | None = None


def measure_aggregates(
    context: TaskContext, frames: Sequence[FramePlanes], earlier: Mapping[str, Sequence[Result]]
) -> list[Result]:
    """Label and measure the aggregates of every registered frame."""
    reference = SceneReference(context)
    measured = earlier.get("measures")

    def compute(position: int, frame: FramePlanes) -> Result:
        if measured is not None:
            verdict, record = measured[position].verdict, measured[position].record
        else:
            need = context.needs["measures"][frame.frame]
            verdict, record = need.verdict, dict(need.record)
        return _measure(context, reference, frame, verdict, record)

    return each_frame(frames, compute)


def _measure(
    context: TaskContext, reference: SceneReference, frame: FramePlanes, verdict: str, measures: Mapping[str, Any]
) -> Result:
    if verdict != "ok":
        return Result(verdict, {"reason": measures.get("reason")})
    threshold = context.needs["threshold"][WHOLE]
    if threshold.verdict != "ok":
        return Result("no_threshold", {"reason": threshold.record["reason"]})
    known, settings = context.job.known, context.job.settings.aggregates
    plane = frame.reduced(known.roles[ChannelRole.AGGREGATES], known.reduction)
    if plane is None:
        return Result("unreadable", {"reason": "the plane could be read before"})
    plane = reference.even(frame, plane)
    shift = float(measures["shift_y_px"]), float(measures["shift_x_px"])
    cut = _cut(reference, plane, threshold.record, shift)
    found = label_aggregates(
        plane,
        background=cut.background_counts,
        threshold_counts=cut.threshold_counts,
        bleaching_factor=cut.factor,
        pixel_size_um=known.analysis_pixel_size_um,
        min_area_um2=settings.min_area_um2,
        max_area_um2=settings.max_area_um2,
    )
    frame.once("aggregate labels", lambda: found.labels)
    features = aggregate_features(
        found.labels,
        plane,
        background=cut.background_counts,
        pixel_size_um=known.analysis_pixel_size_um,
        factor=known.reduction,
        white_level_counts=reference.white_level,
    )
    chunks = context.write_levels(
        labels_path(context.scene_index, "aggregates"), (frame.frame, 0), found.labels, labels=True
    )
    record = cut.record | {
        "aggregate_count": found.n_aggregates,
        "aggregate_area_um2": float(features["area_um2"].sum()),
        "too_small_count": found.n_too_small,
        "too_large_count": found.n_too_large,
    }
    if cut.reason is not None:
        return Result("bleaching_undetermined", record | {"reason": cut.reason}, chunks, _columns(features, shift))
    return Result("ok", record, chunks, _columns(features, shift))


def _cut(
    reference: SceneReference,
    plane: NDArray[np.integer],
    threshold: Mapping[str, Any],
    shift: tuple[float, float],
) -> _Cut:
    if threshold["rule"] == "normalised":
        frozen = reference.aggregates()
        fraction = reference.settings.aggregates.threshold_fraction
        level = frozen.low_counts + fraction * (frozen.high_counts - frozen.low_counts)
        return _Cut(0.0, level, 1.0, {"threshold_counts": level, "background_counts": 0.0, "bleaching_factor": None})
    counts = float(threshold["threshold_counts"])
    background = background_level(intensity_histogram(plane[::_ROWS]))
    estimate = bleaching_factor(
        plane,
        reference.footprints(counts),
        shift_yx_px=shift,
        factor=reference.reduction,
        white_level_counts=reference.white_level,
    )
    # an undetermined factor is said, not replaced: the frame is measured at the unfaded threshold under its own verdict
    factor = estimate.factor if estimate.reason is None else 1.0
    return _Cut(
        background,
        counts,
        factor,
        {
            "background_counts": background,
            "threshold_counts": counts * factor,
            "bleaching_factor": json_number(estimate.factor),
            "bleaching_aggregates": estimate.n_aggregates,
            "bleaching_spread": json_number(estimate.spread),
        },
        estimate.reason,
    )


def _columns(features: NDArray[np.void], shift_yx_px: tuple[float, float]) -> dict[str, NDArray[Any]]:
    """Columns of the row file: the features, and where each aggregate lies on the glass (the reference's grid)."""
    columns = {name: np.ascontiguousarray(features[name]) for name in FEATURES.names or ()}
    return columns | {
        "glass_y_px": columns["y_px"] - shift_yx_px[0],
        "glass_x_px": columns["x_px"] - shift_yx_px[1],
    }
