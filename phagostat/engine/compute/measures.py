"""Whether a frame can be used, how sharp it is, and how far it lies from the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.compute.scene import SceneReference
from phagostat.engine.work import FramePlanes, Result, TaskContext, each_frame, json_number
from phagostat.kernels.intensity import frame_verdict, intensity_histogram, intensity_statistics
from phagostat.kernels.normalisation import normalise_aggregates
from phagostat.kernels.reference import MIN_EVEN_LIGHT
from phagostat.kernels.sharpness import laplacian_variance, sharpness
from phagostat.kernels.translation import estimate_translation, translation_by_glass
from phagostat.model.acquisition import ChannelRole
from phagostat.model.records import TranslationEstimate

CELL_DIAMETER_UM = 40.0
"""What a cell covers: landmarks must agree over more than that, since a cell is full of others, which move."""

SEEN = ("ok", "empty")
"""Verdicts on a cell channel that shows what cells there are, though it be none."""

ASSUMED = "none"
"""Method of a shift that was not estimated."""
ASSUMED_WHY = "no aggregate channel: the stage is assumed to have stood still"


def measure_frames(
    context: TaskContext, frames: Sequence[FramePlanes], earlier: Mapping[str, Sequence[Result]]
) -> list[Result]:
    """Measure every frame; each figure is a function of the frame, the reference and the settings alone."""
    del earlier
    if not context.job.known.has_aggregates:
        return each_frame(frames, lambda _, frame: _look(context, frame))
    reference = SceneReference(context)
    return each_frame(frames, lambda _, frame: _measure(context, reference, frame))


def _measure(context: TaskContext, reference: SceneReference, frame: FramePlanes) -> Result:
    known = context.job.known
    aggregates, cells = known.roles[ChannelRole.AGGREGATES], known.roles[ChannelRole.CELLS]
    record: dict[str, Any] = {"cells_verdict": cells_verdict(frame, cells, known.reduction)}
    plane, reduced = frame.plane(aggregates), frame.reduced(aggregates, known.reduction)
    if plane is None or reduced is None:
        reason = frame.explanation(aggregates) or "the source has no aggregate plane for this frame"
        return Result(frame.problem(aggregates) or "missing", record | {"reason": reason})
    frozen = reference.aggregates() if reference.usable else None
    statistics = intensity_statistics(
        reduced,
        histogram=frame.histogram(aggregates, known.reduction),
        white_level_counts=reference.white_level if frozen else None,
    )
    seen = frame_verdict(statistics, reference=frozen.statistics if frozen else None)
    record |= {
        "median_counts": json_number(statistics.median),
        "high_counts": json_number(statistics.high),
        "saturated_fraction": json_number(statistics.saturated_fraction),
        "evidence": seen.evidence,
    }
    record |= _sharpness(context, reference, reduced)
    if not seen.ok:
        return Result(seen.verdict, record | {"reason": seen.evidence})
    if not reference.usable:
        return Result("no_reference", record | {"reason": "the scene has no usable reference frame"})
    estimate = _shift(context, reference, frame, plane, reduced)
    record |= _described(estimate)
    return Result("ok" if estimate.ok else "unregistered", record)


def _look(context: TaskContext, frame: FramePlanes) -> Result:
    """What can be said of a frame without an aggregate channel: whether its cells can be seen.

    Cells move, so that no shift can be told from them (the drift that they seem to show is their own).
    """
    known = context.job.known
    channel = known.roles[ChannelRole.CELLS]
    verdict = cells_verdict(frame, channel, known.reduction)
    if verdict not in SEEN:
        reason = frame.explanation(channel) or f"the cell channel is {verdict}"
        return Result(verdict, {"cells_verdict": verdict, "reason": reason})
    still = TranslationEstimate((0.0, 0.0), method=ASSUMED)
    return Result("ok", {"cells_verdict": verdict, **_described(still), "reason": ASSUMED_WHY})


def cells_verdict(frame: FramePlanes, channel: int, reduction: int) -> str:
    """Whether cells can be seen in a frame: ``ok``, ``empty`` (there are none), or what is wrong with the channel."""
    plane = frame.reduced(channel, reduction)
    if plane is None:
        return frame.problem(channel) or "missing"
    # every fourth row tells
    statistics = frame.once(
        f"statistics/{channel}", lambda: intensity_statistics(plane, histogram=intensity_histogram(plane[::4]))
    )
    return frame_verdict(statistics, min_even_light=MIN_EVEN_LIGHT).verdict


def _sharpness(context: TaskContext, reference: SceneReference, plane: NDArray[np.integer]) -> dict[str, Any]:
    if context.job.settings.sharpness.method == "scaled":
        found = sharpness(plane)
        return {
            "sharpness": json_number(found.value),
            "sharpness_windows": found.n_windows,
            "noise_counts": json_number(found.noise_counts),
        }
    if not reference.usable:
        return {"sharpness": None}
    grey = normalise_aggregates(plane, table=reference.aggregates().table, factor=1)
    return {"sharpness": laplacian_variance(grey)}


def _shift(
    context: TaskContext, reference: SceneReference, frame: FramePlanes, plane: NDArray[Any], reduced: NDArray[Any]
) -> TranslationEstimate:
    settings = context.job.settings.registration
    if frame.frame == reference.frame:
        return TranslationEstimate((0.0, 0.0), (0.0, 0.0), 1.0, method="reference")
    options = {"reduced": reduced} if settings.method == "tiles" else {}
    return estimate_translation(
        reference.translation(),
        plane,
        search_radius_px=settings.search_radius_px,
        method=settings.method,
        fallback=lambda: _shift_of_the_glass(context, reference, frame),
        **options,
    )


def _shift_of_the_glass(context: TaskContext, reference: SceneReference, frame: FramePlanes) -> TranslationEstimate:
    """Shift of the phase channel, for frames in which too few aggregates are left."""
    known = context.job.known
    channel = known.roles[ChannelRole.CELLS]
    plane, verdict = frame.plane(channel), cells_verdict(frame, channel, known.reduction)
    if plane is None or verdict != "ok":
        return TranslationEstimate.failure(f"the cell channel is {verdict}", method="glass")
    return translation_by_glass(
        reference.glass(),
        plane,
        search_radius_px=context.job.settings.registration.search_radius_px,
        cell_px=CELL_DIAMETER_UM / known.pixel_size_um,
        reduced=frame.reduced(channel, known.reduction),
    )


def _described(estimate: TranslationEstimate) -> dict[str, Any]:
    shift, error = estimate.shift_yx_px, estimate.standard_error_yx_px
    return {
        "shift_y_px": json_number(shift[0]),
        "shift_x_px": json_number(shift[1]),
        "shift_error_y_px": json_number(error[0]),
        "shift_error_x_px": json_number(error[1]),
        "shift_confidence": json_number(estimate.confidence),
        "shift_method": estimate.method,
        "shift_evidence": {name: json_number(value) for name, value in estimate.evidence.items()},
        **({"reason": estimate.reason} if estimate.reason else {}),
    }
