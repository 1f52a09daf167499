"""Which of the acquisition times that a source has are used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from phagostat.model.acquisition import TimesOrigin

TimesTable = Mapping[int, tuple[float, ...]]
"""Times in seconds since its first frame, for each scene."""


def choose_times(
    candidates: Mapping[TimesOrigin, TimesTable], *, n_frames: Sequence[int]
) -> tuple[TimesOrigin, TimesTable, tuple[str, ...]]:
    """Choose the most specific times that cover every scene, and say where the others disagree.

    Parameters
    ----------
    candidates
        For each form of times that the file has, times per scene in seconds since the scene's first frame (NaN for
        a frame that the file lacks).
    n_frames
        Number of frames of each scene.

    Returns
    -------
    origin
        Which form was chosen, ``TimesOrigin.NONE`` where none is sound.
    times
        Its times; empty with ``NONE``.
    notes
        Forms that were set aside, disagreements, and the warning that a constant interval is an assumption.
    """
    notes: list[str] = []
    sound: dict[TimesOrigin, TimesTable] = {}
    for origin in (TimesOrigin.SUBBLOCK, TimesOrigin.ATTACHMENT, TimesOrigin.OFFSETS, TimesOrigin.INTERVAL):
        table = candidates.get(origin)
        if table is None:
            continue
        if any(len(table.get(scene, ())) != n for scene, n in enumerate(n_frames)):
            notes.append(f"times ({origin.value}) do not cover every frame and are set aside")
        elif not all(_rises(table[scene]) for scene in range(len(n_frames))):
            notes.append(f"times ({origin.value}) do not rise from frame to frame and are set aside")
        else:
            sound[origin] = table
    if not sound:
        return TimesOrigin.NONE, {}, tuple(notes)
    chosen = next(iter(sound))
    for other in list(sound)[1:]:
        largest, step = 0.0, math.inf
        for scene in range(len(n_frames)):
            ours, theirs = sound[chosen][scene], sound[other][scene]
            largest = max(
                [
                    largest,
                    *(abs(a - b) for a, b in zip(ours, theirs, strict=True) if not (math.isnan(a) or math.isnan(b))),
                ]
            )
            known = [value for value in ours if not math.isnan(value)]
            if len(known) > 1:
                step = min(step, (known[-1] - known[0]) / (len(known) - 1))
        if largest > 0.05 * step:
            notes.append(f"times: {chosen.value} used; {other.value} differs from it by up to {largest:.3g} s")
    if chosen is TimesOrigin.INTERVAL and max(n_frames) > 1:
        notes.append("times are a constant interval as planned, not as measured")
    return chosen, sound[chosen], tuple(notes)


def since_first(times: Sequence[float | None]) -> tuple[float, ...]:
    """Times relative to the first one that is known; NaN where unknown."""
    first = next((value for value in times if value is not None), 0.0)
    # whole microseconds: the stamps have no more, and subtraction leaves crumbs
    return tuple(math.nan if value is None else round(value - first, 6) for value in times)


def _rises(times: Sequence[float]) -> bool:
    known = [value for value in times if not math.isnan(value)]
    return bool(known) and all(a < b for a, b in pairwise(known))
