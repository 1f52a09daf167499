"""Raw planes into an OME-Zarr image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phagostat.engine.preparation import image_path
from phagostat.engine.work import FramePlanes, Result, TaskContext


def convert_frames(
    context: TaskContext, frames: Sequence[FramePlanes], earlier: Mapping[str, Sequence[Result]]
) -> list[Result]:
    """Write every plane that is there as it is; what is not there is recorded."""
    del earlier
    return [_convert(context, frame) for frame in frames]


def _convert(context: TaskContext, frame: FramePlanes) -> Result:
    chunks: dict[str, str] = {}
    problems = []
    for position, channel in enumerate(context.job.channels):
        plane = frame.plane(channel)
        if plane is None:
            problem = frame.problem(channel)
            problems.append({"channel": channel, "verdict": problem, "reason": frame.explanation(channel)})
        else:
            chunks |= context.write_levels(image_path(context.scene_index), (frame.frame, position), plane)
    verdict = "ok" if not problems else ("partial" if chunks else str(problems[0]["verdict"]))
    return Result(verdict, {"problems": problems} if problems else {}, chunks)
