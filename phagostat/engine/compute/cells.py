"""Cells: their probability frame by frame, and the instances that hold over a window of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.compute.images import normalised_cells
from phagostat.engine.compute.measures import SEEN, cells_verdict
from phagostat.engine.compute.scene import SceneReference
from phagostat.engine.preparation import labels_path, probability_path
from phagostat.engine.work import FramePlanes, Result, StoredFrame, TaskContext, WindowFunction, each_frame, json_number
from phagostat.kernels.cell_markers import cell_markers, mean_probability
from phagostat.kernels.cell_texture import texture_probability
from phagostat.kernels.cells import CELL_FEATURES, cell_features
from phagostat.kernels.coherence import Window, align_window, certain_pixels
from phagostat.kernels.watershed import cell_instances, grey_cut, label_seeds
from phagostat.model.acquisition import ChannelRole

Route = Callable[..., NDArray[np.uint8]]

ROUTES: dict[str, Route] = {"texture": texture_probability}
"""For each route its function: a normalised frame (y, x) uint8 and ``pixel_size_um`` to a probability (y, x) uint8."""


def map_cells(
    context: TaskContext, frames: Sequence[FramePlanes], earlier: Mapping[str, Sequence[Result]]
) -> list[Result]:
    """Write the cell probability of every frame whose cells can be seen."""
    del earlier
    reference = SceneReference(context)
    return each_frame(frames, lambda _, frame: _probability(context, reference, frame))


def _probability(context: TaskContext, reference: SceneReference, frame: FramePlanes) -> Result:
    if not reference.usable:
        return Result("no_reference")
    known = context.job.known
    channel = known.roles[ChannelRole.CELLS]
    plane = frame.reduced(channel, known.reduction)
    verdict = cells_verdict(frame, channel, known.reduction)
    if plane is None or verdict not in SEEN:
        return Result(verdict, {"reason": frame.explanation(channel)})
    if verdict == "empty":
        probability = np.zeros(plane.shape, np.uint8)
    else:
        route = ROUTES[context.job.settings.cells.route]
        probability = route(normalised_cells(reference, frame, plane), pixel_size_um=known.analysis_pixel_size_um)
    chunks = context.write_levels(probability_path(context.scene_index), (frame.frame, 0), probability)
    return Result("ok", chunks=chunks)


def _load(context: TaskContext, frame: int) -> NDArray[np.uint8] | None:
    """The stored probability of a frame, or None where none was stored."""
    need = context.needs["probability"].get(frame)
    if need is None or need.verdict != "ok":
        return None
    return context.reader(f"{probability_path(context.scene_index)}/0").read((frame, 0))


def _segment(context: TaskContext, stored: Sequence[StoredFrame], n_frames: int) -> list[Result]:
    """Cells of the first ``n_frames`` frames, each from the window that begins with it."""
    length = context.job.settings.coherence.window_frames
    last = context.job.scenes[context.scene_index].n_frames
    there = [frame for frame in stored if frame.frame < last]
    shape = next((frame.plane.shape for frame in there if frame.plane is not None), (0, 0))
    # once for all windows, which are slices of it
    planes = np.zeros((len(there), *shape), np.uint8)
    for i, frame in enumerate(there):
        if frame.plane is not None:
            planes[i] = frame.plane
    return [_cells(context, there[i : i + length], planes[i : i + length]) for i in range(n_frames)]


def _cells(context: TaskContext, window: Sequence[StoredFrame], planes: NDArray[np.uint8]) -> Result:
    frame, probability = window[0].frame, window[0].plane
    own = context.needs["usable"][frame]
    if own.verdict != "usable":
        return Result("unusable", {"reason": own.record["reason"]})
    if probability is None:
        return Result(context.needs["probability"][frame].verdict)
    known, settings = context.job.known, context.job.settings
    shifts, usable = zip(*(_shift(context, stored) for stored in window), strict=True)
    aligned = align_window(
        probability.shape,
        shifts_yx_px=np.array(shifts, np.float64),
        usable=np.array(usable, np.bool_),
        factor=known.reduction,
        window=settings.coherence.window_frames,
    )
    pixel_size_um = known.analysis_pixel_size_um
    found = cell_instances(
        probability,
        _markers(context, planes, probability, aligned),
        pixel_size_um=pixel_size_um,
        min_probability=settings.cells.min_probability,
        seed_probability=settings.coherence.seed_probability,
        min_seed_area_um2=settings.coherence.min_seed_area_um2,
    )
    features = cell_features(
        found.labels,
        probability,
        pixel_size_um=pixel_size_um,
        factor=known.reduction,
        shift_yx_px=shifts[0],
        incoherent=found.incoherent,
    )
    chunks = context.write_levels(labels_path(context.scene_index, "cells"), (frame, 0), found.labels, labels=True)
    record: dict[str, Any] = {
        "cell_count": found.n_cells,
        "cell_area_um2": json_number(float(features["area_um2"].sum())),
        "incoherent_count": int(np.count_nonzero(found.incoherent)),
        "lost_seed_count": found.n_lost_seeds,
        "window_frames": aligned.n_used,
        "window_short": aligned.is_short,
    }
    columns = {name: np.ascontiguousarray(features[name]) for name in CELL_FEATURES.names or ()}
    return Result("ok", record, chunks, columns)


def _markers(
    context: TaskContext, planes: NDArray[np.uint8], probability: NDArray[np.uint8], aligned: Window
) -> NDArray[np.integer]:
    """Labels of what cells grow from: bodies told apart by their shape, or the regions that are nearly certain."""
    known, settings = context.job.known, context.job.settings
    pixel_size_um = known.analysis_pixel_size_um
    if settings.cells.markers == "shape":
        return cell_markers(
            mean_probability(planes, aligned),
            probability > grey_cut(settings.cells.min_probability),
            pixel_size_um=pixel_size_um,
            max_neck=settings.cells.max_neck,
            min_cell_um2=settings.cells.min_cell_area_um2,
            certain_probability=settings.coherence.seed_probability,
        ).labels
    certain = certain_pixels(planes, aligned, seed_probability=settings.coherence.seed_probability)
    return label_seeds(certain, pixel_size_um=pixel_size_um, min_area_um2=settings.coherence.min_seed_area_um2).labels


def _shift(context: TaskContext, stored: StoredFrame) -> tuple[tuple[float, float], bool]:
    need = context.needs["usable"][stored.frame]
    y, x = need.record["shift_y_px"], need.record["shift_x_px"]
    shift = (np.nan, np.nan) if y is None or x is None else (float(y), float(x))
    return shift, need.verdict == "usable" and stored.plane is not None


SEGMENTATION = WindowFunction(_load, _segment)
"""Cells over windows of stored probabilities."""
