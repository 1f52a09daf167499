"""What each step does inside a task: planes in, chunks written, small results out."""

from __future__ import annotations

from phagostat.engine.compute.planes import convert_frames
from phagostat.engine.work import SceneFunction, StepFunction

FRAME_FUNCTIONS: dict[str, StepFunction] = {
    "planes": convert_frames,
}
"""For each step of frames the function that computes it."""

WHOLE_FUNCTIONS: dict[str, SceneFunction] = {}
"""For each step of a scene or of the acquisition the function that computes it."""
