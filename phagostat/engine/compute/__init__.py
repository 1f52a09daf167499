"""What each step does inside a task: planes in, chunks written, small results out."""

from __future__ import annotations

from phagostat.engine.compute.aggregates import measure_aggregates
from phagostat.engine.compute.cells import SEGMENTATION, map_cells
from phagostat.engine.compute.images import normalise_frames
from phagostat.engine.compute.ledger import sum_up, tell_fates
from phagostat.engine.compute.measures import measure_frames
from phagostat.engine.compute.planes import convert_frames
from phagostat.engine.compute.reference import find_reference
from phagostat.engine.compute.territories import measure_overlaps, measure_places
from phagostat.engine.compute.threshold import find_threshold
from phagostat.engine.compute.tracks import link_scene, measure_tracks
from phagostat.engine.work import SceneFunction, StepFunction, WindowFunction

FRAME_FUNCTIONS: dict[str, StepFunction] = {
    "images": normalise_frames,
    "measures": measure_frames,
    "aggregates": measure_aggregates,
    "probability": map_cells,
    "territories": measure_places,
    "overlaps": measure_overlaps,
    "planes": convert_frames,
}
"""For each step of frames the function that computes it."""

WINDOW_FUNCTIONS: dict[str, WindowFunction] = {"cells": SEGMENTATION}
"""For each step over a window of frames what loads and computes it."""

WHOLE_FUNCTIONS: dict[str, SceneFunction] = {
    "reference": find_reference,
    "threshold": find_threshold,
    "tracks": link_scene,
    "track_features": measure_tracks,
    "eaten": sum_up,
    "fates": tell_fates,
}
"""For each step of a scene, of its whole movie or of the acquisition the function that computes it."""
