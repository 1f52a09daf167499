"""Folds over committed records: what crosses frames without touching a pixel, replayed whenever it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from phagostat.engine.planner import Folded, FrameEntries, Replay
from phagostat.engine.steps import Scope, Step
from phagostat.engine.work import Job
from phagostat.folds.blur import BlurOptions, BlurRecord, Focus, fold
from phagostat.store.commits import Entry

FoldFunction = Callable[[Job, int, Sequence[FrameEntries], Mapping[str, Entry]], Sequence[Folded]]
"""From the job, the scene, what is known of its first frames in order and the scene's entries, one result a frame."""


def blur_verdicts(job: Job, scene: int, frames: Sequence[FrameEntries], about: Mapping[str, Entry]) -> list[Folded]:
    """Which frames may be used, and what that rests on; the verdict is ``usable`` or ``unusable``."""
    if not job.known.has_aggregates:
        return [_unjudged(entries["measures"].verdict) for entries in frames]
    settings = job.settings.blur
    options = BlurOptions(
        rule=settings.rule,
        suspect_ratio=settings.suspect_ratio,
        certain_ratio=settings.certain_ratio,
        matched_ratio=settings.matched_ratio,
        baseline_frames=settings.baseline_frames,
        ramp_window_s=60 * settings.ramp_window_min,
        max_drop=settings.max_drop,
        search_frames=settings.search_frames,
    )
    times = job.scenes[scene].times_s
    asked = settings.rule == "corrected"  # the published rule knows nothing of aggregates
    records = [
        BlurRecord(
            frame=frame,
            time_s=float(frame) if times is None else times[frame],
            verdict=entries["measures"].verdict,
            sharpness=entries["measures"].record.get("sharpness"),
            matched_aggregates=entries["territories"].record.get("aggregates_shown") if asked else None,
            expected_aggregates=entries["territories"].record.get("aggregates_expected") if asked else None,
        )
        for frame, entries in enumerate(frames)
    ]
    chosen = about["reference"].record.get("frame")
    reference_sharpness = _candidate_sharpness(about["reference"], chosen)
    if asked and job.settings.sharpness.method != "scaled" and chosen is not None:
        if chosen >= len(records):
            return []  # until its sharpness is known: no verdict may depend on which frames were computed first
        reference_sharpness = records[chosen].sharpness
    _, verdicts = fold(records, reference_sharpness=reference_sharpness, options=options)
    return [
        Folded(
            "usable" if verdict.usable else "unusable",
            {"focus": verdict.focus.value, "reason": verdict.reason, **verdict.evidence},
        )
        for verdict in verdicts
    ]


def _unjudged(verdict: str) -> Folded:
    """What is said of a frame without sharpness: it is used if its cells can be seen."""
    usable = verdict == "ok"
    evidence = dict.fromkeys(("sharpness_ratio", "ramp_ratio", "matched_ratio"))
    reason = None if usable else verdict
    return Folded("usable" if usable else "unusable", {"focus": Focus.UNKNOWN.value, "reason": reason, **evidence})


def usable_frames(job: Job, scene: int, frames: Sequence[FrameEntries], about: Mapping[str, Entry]) -> list[Folded]:
    """Whether a frame may be used and where it lies, without the evidence.

    What reads this is not computed again because some figure behind an equal verdict has changed.
    """
    del job, scene, about
    return [
        Folded(
            entries["verdicts"].verdict,
            {
                "reason": None if entries["verdicts"].verdict == "usable" else _why_not(entries),
                "shift_y_px": entries["measures"].record.get("shift_y_px"),
                "shift_x_px": entries["measures"].record.get("shift_x_px"),
            },
        )
        for entries in frames
    ]


def _why_not(entries: FrameEntries) -> str:
    return entries["measures"].verdict if entries["measures"].verdict != "ok" else "blurred"


def _candidate_sharpness(reference: Entry, chosen: int | None) -> float | None:
    """Sharpness that the reference frame was chosen by: the scaled measure."""
    found = [c["sharpness"] for c in reference.record.get("candidates", ()) if c["frame"] == chosen]
    return found[0] if found else None


FOLD_FUNCTIONS: dict[str, FoldFunction] = {"verdicts": blur_verdicts, "usable": usable_frames}
"""For each fold the function that replays it."""


def replays(job: Job, steps: tuple[Step, ...]) -> dict[str, Replay]:
    """The folds of a step table, bound to a job."""
    return {step.name: functools.partial(FOLD_FUNCTIONS[step.name], job) for step in steps if step.scope is Scope.FOLD}
