"""What has become of the reference's aggregates in each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.compute.scene import SceneReference
from phagostat.engine.preparation import labels_path
from phagostat.engine.work import FramePlanes, Result, StepFunction, TaskContext, each_frame
from phagostat.kernels.aggregate_overlap import Territories, TerritoryMeasures, measure_territories
from phagostat.kernels.aggregate_survival import SurvivalReference, measure_survival
from phagostat.model.acquisition import ChannelRole
from phagostat.store.commits import WHOLE

SHOWN_SHARE = 0.5
"""Share of its area in the reference frame from which on an aggregate shows in a frame: blur takes the small ones."""

Earlier = Mapping[str, Sequence[Result]]


def _step(table: str) -> StepFunction:
    """A step that keeps one of the tables of :class:`TerritoryMeasures`; they are measured once for all of them."""

    def compute_frames(context: TaskContext, frames: Sequence[FramePlanes], earlier: Earlier) -> list[Result]:
        reference = SceneReference(context)

        def compute(position: int, frame: FramePlanes) -> Result:
            verdict, record = _of("aggregates", context, earlier, position, frame)
            if verdict != "ok":  # where the bleaching factor is not known, what is left cannot be compared either
                return Result(verdict, {"reason": record.get("reason")})
            _, measured = _of("measures", context, earlier, position, frame)
            shift = float(measured["shift_y_px"]), float(measured["shift_x_px"])
            found, survival = frame.once("territories", lambda: _measure(context, reference, frame, record, shift))
            rows: NDArray[np.void] = getattr(found, table)
            if table == "overlaps":
                return Result("ok", columns=_columns(rows))
            territories, of_reference = _territories(context, reference, record)
            columns = _columns(rows) | _columns(survival) | {"touches_border": of_reference.touches_border}
            return Result("ok", _shown(context, rows, territories), columns=columns)

        return each_frame(frames, compute)

    return compute_frames


measure_places = _step("places")
"""For each reference aggregate what is left in its territory."""

measure_overlaps = _step("overlaps")
"""Which labels lie in which territories."""


def _shown(context: TaskContext, places: NDArray[np.void], territories: Territories) -> dict[str, Any]:
    """How many of the reference aggregates inside this frame show in it: what the blur verdict asks for.

    Those that are too small to be counted are left out: they lie at the threshold, and noise alone takes them.
    """
    smallest_px = context.job.settings.aggregates.min_area_um2 / context.job.known.analysis_pixel_size_um**2
    inside = (places["valid_fraction"] == 1.0) & (territories.area_px >= smallest_px)
    shown = places["area_px"] >= SHOWN_SHARE * territories.area_px
    return {"aggregates_expected": int(inside.sum()), "aggregates_shown": int((inside & shown).sum())}


def _columns(rows: NDArray[np.void]) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()}


def _of(
    step: str, context: TaskContext, earlier: Earlier, position: int, frame: FramePlanes
) -> tuple[str, Mapping[str, Any]]:
    if step in earlier:
        return earlier[step][position].verdict, earlier[step][position].record
    need = context.needs[step][frame.frame]
    return need.verdict, need.record


def _measure(
    context: TaskContext,
    reference: SceneReference,
    frame: FramePlanes,
    record: Mapping[str, Any],
    shift_yx_px: tuple[float, float],
) -> tuple[TerritoryMeasures, NDArray[np.void]]:
    known = context.job.known
    plane = frame.reduced(known.roles[ChannelRole.AGGREGATES], known.reduction)
    if plane is None:
        raise RuntimeError("the plane could be read before")
    factor = _bleaching(record)
    labels = frame.once("aggregate labels", lambda: _stored_labels(context, frame.frame))
    territories, survival = _territories(context, reference, record)
    background = float(record["background_counts"])
    shift: dict[str, Any] = {"shift_yx_px": shift_yx_px, "factor": known.reduction}
    measured = measure_territories(
        reference.even(frame, plane),
        labels,
        territories,
        background=background,
        threshold_counts=float(record["threshold_counts"]) / factor,
        bleaching_factor=factor,
        **shift,
    )
    return measured, measure_survival(plane, survival, background=background, bleaching_factor=factor, **shift)


def _bleaching(record: Mapping[str, Any]) -> float:
    factor = record["bleaching_factor"]
    return 1.0 if factor is None else float(factor)


def _stored_labels(context: TaskContext, frame: int) -> NDArray[np.uint16]:
    return context.reader(f"{labels_path(context.scene_index, 'aggregates')}/0").read((frame, 0))


def _territories(
    context: TaskContext, reference: SceneReference, record: Mapping[str, Any]
) -> tuple[Territories, SurvivalReference]:
    threshold = context.needs["threshold"][WHOLE].record
    if threshold["rule"] == "normalised":  # of the scene's own range: the same in all its frames
        return reference.territories(float(record["threshold_counts"]))
    return reference.territories(float(threshold["threshold_counts"]))
