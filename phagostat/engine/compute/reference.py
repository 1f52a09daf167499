"""The reference frame of a scene: chosen once, its raw planes kept in the store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.preparation import image_roles, reference_path
from phagostat.engine.work import UNDETERMINED, FramePlanes, Job, Present, Result, TaskContext, json_number, read_frame
from phagostat.kernels.intensity import background_level, intensity_histogram, white_level
from phagostat.kernels.normalisation import reduce_area
from phagostat.kernels.reference import ReferenceCandidate, choose_reference, reference_candidate
from phagostat.kernels.vignette import vignette_loss, without_vignette
from phagostat.model.acquisition import ChannelRole


def find_reference(context: TaskContext, present: Present, frames_final: int) -> Result:
    """Look at the first frames, and at the next ones where none of those can be used, and keep the chosen one.

    Where the best of them may be out of focus, the next ones are looked at too, up to a limit, and the sharpest of all
    is taken: a scene may begin with a blur. Candidates are taken a fixed number at a time, so that the choice depends
    on the scene alone and not on how many frames had come when it was asked for.
    """
    job, scene = context.job, context.scene_index
    n_frames = job.scenes[scene].n_frames
    size = job.settings.reference.candidates
    patience = min(job.settings.reference.patience_frames, n_frames)
    seen: list[ReferenceCandidate] = []
    reason = "there are none"
    while len(seen) < n_frames:
        stop = min(len(seen) + size, n_frames)
        if stop > frames_final:
            return Result(UNDETERMINED, {"frames_searched": len(seen)})
        seen += [_candidate(job, scene, frame, present) for frame in range(len(seen), stop)]
        chosen, reason, clear = _choose(job, seen, last=stop == n_frames)
        if chosen is not None and (clear or len(seen) >= patience):
            return _keep(context, chosen, present, {"reason": reason, **_described(seen)})
    return Result("unusable", {"reason": f"none of {n_frames} frames can be used: {reason}", **_described(seen)})


def _candidate(job: Job, scene: int, frame: int, present: Present) -> ReferenceCandidate:
    planes = read_frame(job, scene, frame, present[scene])
    reduced = {role: planes.reduced(channel, job.known.reduction) for role, channel in job.known.roles.items()}
    return reference_candidate(
        frame, aggregates=reduced.get(ChannelRole.AGGREGATES), cells=reduced.get(ChannelRole.CELLS)
    )


def _choose(job: Job, seen: list[ReferenceCandidate], *, last: bool) -> tuple[int | None, str, bool]:
    """The chosen frame or None, the reason, and whether there is no doubt about its focus.

    Where cells can be seen in no frame of a scene, as the ``last`` of them tells, aggregates are measured all the same.
    """
    if job.settings.reference.rule == "sharpest" and not job.known.has_aggregates:
        seeing = [c.frame for c in seen if c.cells is not None and c.cells.ok]
        if not seeing:
            return None, "no frame shows cells", False
        return (
            seeing[0],
            "first frame whose cells can be seen: there is no aggregate channel to compare sharpness",
            True,
        )
    if job.settings.reference.rule == "sharpest":
        choice = choose_reference(seen)
        if choice.frame is None and last:
            blind = choose_reference([c for c in seen if c.cells is not None], cells_needed=False)
            choice = blind if blind.frame is not None else choice
        if choice.frame is None and choice.rejected:  # one stands for all: there may be hundreds
            frame, problem = choice.rejected[0]
            return None, f"frame {frame}: {problem}", False
        return choice.frame, choice.reason, choice.clear
    alone = not job.known.has_aggregates
    there = [c.frame for c in seen if (alone or c.aggregates is not None) and c.cells is not None]
    return (there[0], "first frame that is there", True) if there else (None, "no frame is there", False)


def _keep(context: TaskContext, frame: int, present: Present, record: dict[str, Any]) -> Result:
    job, scene = context.job, context.scene_index
    planes: FramePlanes = read_frame(job, scene, frame, present[scene])
    chunks: dict[str, str] = {}
    for position, role in enumerate(image_roles(job.known)):
        plane = planes.plane(job.known.roles[role])
        if plane is None:
            raise RuntimeError(f"frame {frame} could be read a moment ago")
        chunks |= context.write(reference_path(scene), (position,), plane)
    record |= {"frame": frame}
    if not job.known.has_aggregates:
        return Result("ok", record, chunks, inputs=planes.digests())
    aggregates = planes.planes[job.known.roles[ChannelRole.AGGREGATES]]
    if not isinstance(aggregates, np.ndarray):
        raise TypeError(f"frame {frame} could be read a moment ago")
    reduced = reduce_area(aggregates, factor=job.known.reduction)
    loss = vignette_loss(reduced)
    histogram = intensity_histogram(without_vignette(reduced, loss=loss))
    levels = np.flatnonzero(histogram)
    record |= {
        "white_level_counts": white_level(intensity_histogram(aggregates), aggregates.dtype),
        "background_counts": json_number(background_level(histogram)),
        "vignette_loss": loss,
    }
    columns: dict[str, NDArray[Any]] = {"level": levels.astype(np.int32), "pixels": histogram[levels]}
    return Result("ok", record, chunks, columns, planes.digests())


def _described(seen: list[ReferenceCandidate]) -> dict[str, Any]:
    candidates = [
        {
            "frame": candidate.frame,
            "aggregates": candidate.aggregates.verdict if candidate.aggregates else "absent",
            "cells": candidate.cells.verdict if candidate.cells else "absent",
            "sharpness": json_number(candidate.sharpness.value),
            "focus": json_number(candidate.focus.value),
        }
        for candidate in seen
    ]
    return {"candidates": candidates, "frames_searched": len(seen)}
