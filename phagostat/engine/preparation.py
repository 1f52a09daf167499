"""Groups and arrays of an output: made, and made longer or shorter, by the driver alone."""

from __future__ import annotations

import itertools
import math
import shutil
import statistics
from typing import Any

from phagostat.engine.work import Job, json_number
from phagostat.model.acquisition import Acquisition, ChannelRole, Scene
from phagostat.store.arrays import ImageSpec, create_root, ensure_image, ensure_labels, ensure_planes, fits
from phagostat.store.commits import CommitLog
from phagostat.store.files import storage_error
from phagostat.store.manifest import package_version

ROLES = (ChannelRole.AGGREGATES, ChannelRole.CELLS)
"""Order of the channels in an analysed image, of those that the acquisition has."""


LABELS = ("aggregates", "cells")
"""Label images of an analysed scene, of those that its acquisition has."""


def image_roles(acquisition: Acquisition) -> tuple[ChannelRole, ...]:
    """The channels of an analysed image, in order."""
    return tuple(role for role in ROLES if role in acquisition.roles)


def image_path(scene: int) -> str:
    """The image of a scene; its full-resolution array is ``/0`` below."""
    return f"{scene}"


def labels_path(scene: int, name: str) -> str:
    """A label image of a scene; its full-resolution array is ``/0`` below."""
    return f"{scene}/labels/{name}"


def probability_path(scene: int) -> str:
    """The cell probability of a scene, an image of one channel; its full-resolution array is ``/0`` below."""
    return f"{scene}/probability"


def reference_path(scene: int) -> str:
    """The raw planes of a scene's reference frame, (c, y, x) in the order of :func:`image_roles`."""
    return f"{scene}/reference"


def analysis_shape(shape_yx: tuple[int, int], reduction: int) -> tuple[int, int]:
    """Shape of the analysis grid; rows and columns that do not fill a whole pixel are left out."""
    return shape_yx[0] // reduction, shape_yx[1] // reduction


def prepare_analysis(job: Job, log: CommitLog) -> None:
    """Make the arrays of an analysis; results in arrays of another shape are retracted first."""
    known = job.known
    roles = image_roles(known)
    names = tuple(name for name in LABELS if name in {role.value for role in roles})
    create_root(job.layout.images, attributes=_about(job))
    for scene in job.scenes:
        height, width = analysis_shape(scene.shape_yx, known.reduction)
        interval = interval_s(scene)
        shared: dict[str, Any] = {"pixel_size_um": known.analysis_pixel_size_um, "interval_s": interval}
        image = ImageSpec(
            path=image_path(scene.index),
            shape_tcyx=(scene.n_frames, len(roles), height, width),
            dtype="uint8",
            channels=tuple(role.value for role in roles),
            attributes=_scene_attributes(job, scene),
            **shared,
        )
        probability = ImageSpec(
            path=probability_path(scene.index),
            shape_tcyx=(scene.n_frames, 1, height, width),
            dtype="uint8",
            channels=("cell probability",),
            kind="probability",
            **shared,
        )
        labels = [
            ImageSpec(
                path=labels_path(scene.index, name),
                shape_tcyx=(scene.n_frames, 1, height, width),
                dtype="uint16",
                channels=(name,),
                kind="labels",
                **shared,
            )
            for name in names
        ]
        if not fits(job.layout.images, image):  # it had other channels: so had the reference
            _remove(job, log, reference_path(scene.index))
        for name in LABELS:
            if name not in names:
                _remove(job, log, labels_path(scene.index, name))
        for spec in (image, probability, *labels):
            _make(job, log, spec)
        ensure_labels(job.layout.images, image.path, names)
        ensure_planes(job.layout.images, reference_path(scene.index), (len(roles), *scene.shape_yx), dtype=scene.dtype)


def prepare_conversion(job: Job, log: CommitLog) -> None:
    """Make the arrays of a conversion: every channel, raw."""
    metadata = job.source.metadata
    create_root(job.layout.images, attributes=_about(job))
    for scene in job.scenes:
        spec = ImageSpec(
            path=image_path(scene.index),
            shape_tcyx=(scene.n_frames, len(metadata.channels), *scene.shape_yx),
            dtype=scene.dtype,
            pixel_size_um=metadata.pixel_size_um,
            interval_s=interval_s(scene),
            channels=tuple(channel.name for channel in metadata.channels),
            attributes=_scene_attributes(job, scene)
            | {
                "channels": [{"name": c.name, "fluorescent": c.fluorescent} for c in metadata.channels],
                "pixel_size_um": metadata.pixel_size_um,
            },
        )
        _make(job, log, spec)


def interval_s(scene: Scene) -> float | None:
    """Median time between frames in s; None where the source has no times, or one frame."""
    if scene.times_s is None or len(scene.times_s) < 2:
        return None
    steps = [b - a for a, b in itertools.pairwise(scene.times_s) if math.isfinite(b - a)]
    return round(statistics.median(steps), 6) if steps else None


def _make(job: Job, log: CommitLog, spec: ImageSpec) -> None:
    if not fits(job.layout.images, spec):
        _retract(log, f"{spec.path}/0/c/")
    ensure_image(job.layout.images, spec)


def _remove(job: Job, log: CommitLog, path: str) -> None:
    """Remove a group or array with its results, if it is there."""
    folder = job.layout.images / path
    if not folder.is_dir():
        return
    _retract(log, f"{path}/")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise storage_error(error, folder) from error


def _retract(log: CommitLog, prefix: str) -> None:
    """Take back all results whose chunks lie below a path."""
    for commit in list(log):
        lost = [e.index for e in commit.entries if any(chunk.startswith(prefix) for chunk in e.chunks)]
        log.retract(commit.step, commit.scene, lost)


def _about(job: Job) -> dict[str, Any]:
    return {
        "version": package_version(),
        "profile": job.settings.profile,
        "scenes": [scene.name for scene in job.scenes],
    }


def _scene_attributes(job: Job, scene: Scene) -> dict[str, Any]:
    known = job.acquisition
    return {
        "scene_name": scene.name,
        "times_s": [json_number(t) for t in scene.times_s] if scene.times_s is not None else None,
        "times_origin": (known.times_origin if known else job.source.metadata.times_origin).value,
        "frames": scene.n_frames,
    }
