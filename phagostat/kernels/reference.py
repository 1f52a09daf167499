"""The reference frame of a scene: which one it is, and what is frozen from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.intensity import (
    FrameVerdict,
    IntensityStatistics,
    background_level,
    background_noise,
    frame_verdict,
    intensity_histogram,
    intensity_statistics,
    percentiles,
)
from phagostat.kernels.normalisation import (
    CELL_GREY_MEAN,
    CELL_GREY_SD,
    even_illumination,
    flat_field,
    gaussian_matching_table,
    reduce_area,
    stretch_table,
)
from phagostat.kernels.sharpness import Sharpness, focus, sharpness

MIN_FOCUS = 2.4
"""Least :func:`~phagostat.kernels.sharpness.focus` of a frame in focus.

On the real frame, on synthetic aggregates of 0.1 to 1.6 um and on 24 simulated scenes, frames with up to 0.5 px
(analysis grid) of Gaussian defocus gave 2.7 or more, frames with 2 px and beyond at most 2.2, or no value.
"""


AS_SHARP = 0.9
"""Share of the best sharpness from which on a frame will do as the reference: sharper by less is chance."""


MIN_EVEN_LIGHT = 0.05
"""Share of the white level from which on a cell channel that shows nothing is lit, and so has no cells: cameras' own
offsets are below 0.03."""


CLEAR_FOCUS = 3.0
"""Focus beyond doubt: a blurred frame full of fine detail was seen at 2.42; up to here it is worth looking on."""


@dataclass(frozen=True)
class ReferenceCandidate:
    """What is known of a frame that may become the reference.

    Parameters
    ----------
    frame
        Index in the scene.
    aggregates, cells
        Verdict on each channel; None where the channel's frame is missing or unreadable.
    sharpness
        Of the aggregate channel.
    focus
        Of the aggregate channel, absolute.
    """

    frame: int
    aggregates: FrameVerdict | None
    cells: FrameVerdict | None
    sharpness: Sharpness
    focus: Sharpness


@dataclass(frozen=True)
class ReferenceChoice:
    """Which candidate is the reference.

    Parameters
    ----------
    frame
        Index of the frame in the scene; None if no candidate can be used.
    reason
        Why this one, or why none.
    rejected
        For every unusable candidate its frame index and what is wrong with it.
    clear
        Whether the sharpest frame is in focus beyond doubt (:data:`CLEAR_FOCUS`).
    """

    frame: int | None
    reason: str
    rejected: tuple[tuple[int, str], ...] = ()
    clear: bool = False


@dataclass(frozen=True)
class AggregateReference:
    """What is frozen from the aggregate channel of the reference frame; counts on the analysis grid.

    Parameters
    ----------
    histogram : (65536,) int64
        Of the area-averaged frame.
    statistics
        Its grey levels.
    background_counts, noise_counts
        Background level and standard deviation of background pixels.
    low_counts, high_counts
        Percentiles that become 0 and 255.
    table : (65536,) uint8
        Lookup table to 8 bit.
    """

    histogram: NDArray[np.int64]
    statistics: IntensityStatistics
    background_counts: float
    noise_counts: float
    low_counts: float
    high_counts: float
    table: NDArray[np.uint8]


@dataclass(frozen=True)
class CellReference:
    """What is frozen from the cell channel of the reference frame; analysis grid.

    Parameters
    ----------
    statistics
        Its grey levels.
    gain : (y, x) float32 or None
        Flat field, None where illumination is left as it is.
    table : (65536,) uint8
        Lookup table to 8 bit.
    """

    statistics: IntensityStatistics
    gain: NDArray[np.float32] | None
    table: NDArray[np.uint8]


def reference_candidate(
    frame: int,
    *,
    aggregates: NDArray[np.integer] | None,
    cells: NDArray[np.integer] | None,
) -> ReferenceCandidate:
    """Measure a frame for the choice of the reference.

    Parameters
    ----------
    frame : int
        Index in the scene.
    aggregates, cells : (y, x) uint8 or uint16, or None
        Camera counts on the analysis grid; None where that channel's frame is missing or unreadable.
    """
    nothing = Sharpness(float("nan"), 0, float("nan"), float("nan"), "no aggregate channel")
    return ReferenceCandidate(
        frame,
        None if aggregates is None else frame_verdict(intensity_statistics(aggregates)),
        None if cells is None else frame_verdict(intensity_statistics(cells), min_even_light=MIN_EVEN_LIGHT),
        nothing if aggregates is None else sharpness(aggregates),
        nothing if aggregates is None else focus(aggregates),
    )


def choose_reference(
    candidates: Sequence[ReferenceCandidate], *, min_focus: float = MIN_FOCUS, cells_needed: bool = True
) -> ReferenceChoice:
    """Choose the first of the usable frames that are about as sharp as the sharpest.

    Parameters
    ----------
    candidates : sequence of ReferenceCandidate
        The first frames of a scene, or the next ones where none of those could be used.
    min_focus : float
        Least absolute focus: tells a scene that starts with blurred frames only.
    cells_needed : bool
        Whether a frame without its cell channel is unusable (an acquisition without cells: no).

    Returns
    -------
    ReferenceChoice
        The earliest usable candidate with at least :data:`AS_SHARP` of the best sharpness; no frame if none is usable.

    Notes
    -----
    Usable means: both channels are there, neither is black, constant or saturated, the aggregate channel holds
    structure above the noise, and it is in focus.

    What was eaten before the reference frame is lost to the ledger, so that an early frame is worth more than the last
    tenth of sharpness.
    """
    rejected: list[tuple[int, str]] = []
    usable: list[ReferenceCandidate] = []
    for candidate in candidates:
        problem = _problem(candidate, min_focus=min_focus, cells_needed=cells_needed)
        if problem is None:
            usable.append(candidate)
        else:
            rejected.append((candidate.frame, problem))
    if not usable:
        listed = "; ".join(f"frame {frame}: {problem}" for frame, problem in rejected) or "no candidates"
        return ReferenceChoice(None, f"no usable frame ({listed})", tuple(rejected))
    sharpest = max(usable, key=lambda c: c.sharpness.value)
    best = min((c for c in usable if c.sharpness.value >= AS_SHARP * sharpest.sharpness.value), key=lambda c: c.frame)
    return ReferenceChoice(
        best.frame,
        f"first of {len(usable)} usable frames with at least {AS_SHARP:.0%} of the best sharpness "
        f"(sharpness {best.sharpness.value:.3g}, focus {best.focus.value:.3g})",
        tuple(rejected),
        sharpest.focus.value >= CLEAR_FOCUS,
    )


def aggregate_reference(
    frame: NDArray[np.integer],
    *,
    factor: int,
    low_percentile: float = 0.5,
    high_percentile: float = 99.5,
) -> AggregateReference:
    """Freeze what later frames' aggregate channels are normalised by.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the native grid.
    factor : int
        Native pixels per analysis pixel; 1 for a frame that is reduced already.
    low_percentile, high_percentile : float
        Percentiles that become 0 and 255.
    """
    reduced = reduce_area(frame, factor=factor)
    histogram = intensity_histogram(reduced)
    background = background_level(histogram)
    low, high = (float(v) for v in percentiles(histogram, (low_percentile, high_percentile)))
    return AggregateReference(
        histogram,
        intensity_statistics(reduced, histogram=histogram),
        background,
        background_noise(histogram, background),
        low,
        high,
        stretch_table(low, high),
    )


def cell_reference(
    frame: NDArray[np.integer],
    *,
    factor: int,
    flat_field_sigma_px: float | None,
    mean: float = CELL_GREY_MEAN,
    sd: float = CELL_GREY_SD,
    low_percentile: float = 0.1,
    high_percentile: float = 99.9,
) -> CellReference:
    """Freeze what later frames' cell channels are normalised by.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the native grid.
    factor : int
        Native pixels per analysis pixel; 1 for a frame that is reduced already.
    flat_field_sigma_px : float or None
        Width of the flat field's Gaussian in analysis pixels; None or 0 to leave the illumination as it is.
    mean, sd, low_percentile, high_percentile : float
        As for :func:`~phagostat.kernels.normalisation.gaussian_matching_table`.
    """
    reduced = reduce_area(frame, factor=factor)
    gain = flat_field(reduced, sigma_px=flat_field_sigma_px) if flat_field_sigma_px else None
    evened = reduced if gain is None else even_illumination(reduced, gain)
    table = gaussian_matching_table(
        intensity_histogram(evened),
        mean=mean,
        sd=sd,
        low_percentile=low_percentile,
        high_percentile=high_percentile,
    )
    return CellReference(intensity_statistics(reduced), gain, table)


def _problem(candidate: ReferenceCandidate, *, min_focus: float, cells_needed: bool) -> str | None:
    channels = [("aggregate", candidate.aggregates)]
    if cells_needed:
        channels.append(("cell", candidate.cells))
    for name, verdict in channels:
        if verdict is None:
            return f"no {name} channel"
        if not verdict.ok:
            return f"{name} channel {verdict.verdict}: {verdict.evidence}"
    if not candidate.sharpness.ok:
        return f"no aggregates: {candidate.sharpness.reason}"
    if not candidate.focus.ok:
        return f"focus cannot be told: {candidate.focus.reason}"
    if candidate.focus.value < min_focus:
        return f"out of focus: {candidate.focus.value:.2f} (limit {min_focus:g})"
    return None
