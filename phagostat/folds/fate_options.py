"""Limits by which the ledger tells what became of an aggregate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FateOptions:
    """Limits of what counts as what in the ledger.

    Parameters
    ----------
    gone_fraction
        Less than this share of the reference area: absent.
    whole_fraction
        At least this share: nothing was taken.
    return_frames
        An aggregate that is back for this many used frames had not been eaten in between.
    rest_um, rest_frames
        What moves no further than this from its mean place over this many used frames lies on the glass.
    unfaded_fraction
        ... and keeps at least this share of its area over twice as many.
    moved_um
        Displacements below are no movement.
    search_um
        How far away an aggregate is looked for that vanished from its place.
    min_moved_um2
        Smaller areas in no territory are left out.
    passing_frames
        What was not in its place before, and leaves it again after no more than this many used frames around the
        reference frame, never lay on the glass.
    trace_fraction, least_washed_um2
        At least this area that vanishes from one used frame to the next, neither dimmed before nor after and with
        nothing like it nearby, was washed away: what is eaten dims, or moves off with the cell. In the last frame,
        where it cannot be seen to dim further, it must leave less than this share of its light.
    shape_um, way_frames
        What shows elsewhere in an aggregate's shape is the aggregate if it shows no more than this many used frames
        after leaving its place; sights this close to each other are of something that rests.
    far_um
        What shows in its shape no further away than this may be what a bite left of it.
    """

    gone_fraction: float = 0.15
    whole_fraction: float = 0.85
    return_frames: int = 5
    rest_um: float = 0.15
    rest_frames: int = 8
    unfaded_fraction: float = 0.95
    moved_um: float = 0.4
    search_um: float = 9.0
    min_moved_um2: float = 0.25
    passing_frames: int = 10
    trace_fraction: float = 0.25
    least_washed_um2: float = 0.3
    way_frames: int = 4
    shape_um: float = 0.35
    far_um: float = 1.0
