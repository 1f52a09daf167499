"""The channels in 8 bit on the analysis grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.compute.scene import SceneReference
from phagostat.engine.preparation import image_path, image_roles
from phagostat.engine.work import FramePlanes, Result, TaskContext, each_frame
from phagostat.kernels.intensity import intensity_histogram
from phagostat.kernels.normalisation import (
    apply_table,
    frame_matching_table,
    gaussian_template,
    normalise_aggregates,
    normalise_cells,
)
from phagostat.model.acquisition import ChannelRole


def normalise_frames(
    context: TaskContext, frames: Sequence[FramePlanes], earlier: Mapping[str, Sequence[Result]]
) -> list[Result]:
    """Write the normalised planes of every frame; a frame with one channel only is written for that channel."""
    del earlier
    reference = SceneReference(context)
    return each_frame(frames, lambda _, frame: _normalise(context, reference, frame))


def _normalise(context: TaskContext, reference: SceneReference, frame: FramePlanes) -> Result:
    if not reference.usable:
        return Result("no_reference")
    known = context.job.known
    chunks: dict[str, str] = {}
    problems: list[str] = []
    for position, role in enumerate(image_roles(known)):
        channel = known.roles[role]
        plane = frame.reduced(channel, known.reduction)
        if plane is None:
            problems.append(frame.problem(channel) or "missing")
            continue
        if role is ChannelRole.AGGREGATES:
            grey = normalise_aggregates(plane, table=reference.aggregates().table, factor=1)
        else:
            grey = normalised_cells(reference, frame, plane)
        chunks |= context.write_levels(image_path(context.scene_index), (frame.frame, position), grey)
    if not problems:
        return Result("ok", chunks=chunks)
    return Result("partial" if chunks else problems[0], {"problems": problems}, chunks)


def normalised_cells(reference: SceneReference, frame: FramePlanes, plane: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The cell channel of a frame in 8 bit, made once for all steps of a block.

    Parameters
    ----------
    reference
        Of the scene.
    frame
        The frame.
    plane : (y, x)
        Its cell plane on the analysis grid.
    """
    return frame.once("normalised cells", lambda: _cells(reference, plane))


def _cells(reference: SceneReference, plane: NDArray[np.integer]) -> NDArray[np.uint8]:
    settings = reference.settings.normalisation
    if settings.cells_rule == "reference":
        frozen = reference.cells()
        return normalise_cells(plane, table=frozen.table, gain=frozen.gain, factor=1)
    table = frame_matching_table(
        intensity_histogram(plane),
        template=gaussian_template(mean=settings.cells_grey_mean, sd=settings.cells_grey_sd),
        low_percentile=settings.cells_low_percentile,
        high_percentile=settings.cells_high_percentile,
    )
    return apply_table(plane, table)
