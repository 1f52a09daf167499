"""The aggregate threshold: once per acquisition, from all scenes' reference frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.work import Needed, Present, Result, TaskContext, json_number
from phagostat.kernels.aggregates import deviating_scenes, scene_threshold, threshold_from_references
from phagostat.kernels.intensity import N_LEVELS
from phagostat.store.rows import read_row_file


def find_threshold(context: TaskContext, present: Present, frames_final: int) -> Result:
    """Pool the reference frames' grey levels; scenes without a reference take no part."""
    del present, frames_final
    settings = context.job.settings.aggregates
    if settings.threshold_rule == "normalised":
        return Result("ok", {"rule": "normalised"})
    references = {scene: need for scene, need in sorted(context.needs["reference"].items()) if need.verdict == "ok"}
    if not references:
        return Result("unusable", {"reason": "no scene has a usable reference frame"})
    histograms = [_histogram(context, need) for need in references.values()]
    backgrounds = [float(need.record["background_counts"]) for need in references.values()]
    options = {"percentile": settings.threshold_percentile, "fraction": settings.threshold_fraction}
    threshold = threshold_from_references(histograms, backgrounds, **options)
    if not threshold > 0:
        return Result("unusable", {"reason": f"the threshold would be {threshold:g} counts above background"})
    own = [scene_threshold(h, b, **options) for h, b in zip(histograms, backgrounds, strict=True)]
    return Result(
        "ok",
        {
            "rule": "acquisition",
            "threshold_counts": threshold,
            "scene_threshold_counts": {
                str(scene): json_number(value) for scene, value in zip(references, own, strict=True)
            },
            "deviating_scenes": [
                scene for scene, deviates in zip(references, deviating_scenes(own), strict=True) if deviates
            ],
        },
    )


def _histogram(context: TaskContext, need: Needed) -> NDArray[np.int64]:
    if need.row_file is None or need.row_file_digest is None:
        raise RuntimeError("a reference without its grey levels")
    rows = read_row_file(context.job.layout.rows, need.row_file, need.row_file_digest)
    histogram = np.zeros(N_LEVELS, np.int64)
    histogram[rows["level"]] = rows["pixels"]
    return histogram
