"""Whether a scene is good enough to be counted, and the figures that say so."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from phagostat.folds.blur import Focus

MISSING = "missing"
"""Verdict of a frame that the source does not have."""


@dataclass(frozen=True)
class QualityOptions:
    """What a scene must keep to.

    Parameters
    ----------
    max_shift_px
        Largest shift along an axis against the reference, native pixels.
    max_blurred_fraction
        Largest share of blurred frames among those that were acquired.
    max_unusable_fraction
        Largest share of frames that cannot be used for any reason (missing, black, unregistered, blurred ...) among
        all frames; 1 to leave it out.
    """

    max_shift_px: float = 50.0
    max_blurred_fraction: float = 0.05
    max_unusable_fraction: float = 0.25


@dataclass(frozen=True)
class QualityRecord:
    """What is needed of a frame.

    Parameters
    ----------
    frame
        Index in the scene; records come in ascending order.
    verdict
        Of the measures: ``ok``, or why the frame has no shift.
    focus
        Of the blur fold.
    shift_yx_px
        Against the reference, native pixels; None or NaN where there is none.
    usable
        Whether later steps use it; a registered frame whose focus cannot be told is none that they do.
    """

    frame: int
    verdict: str
    focus: Focus
    shift_yx_px: tuple[float, float] | None = None
    usable: bool = True


@dataclass(frozen=True)
class SceneQuality:
    """Figures of a scene so far.

    Parameters
    ----------
    n_frames, n_missing
        Frames asked for, and those of them that the source does not have.
    n_blurred
        Acquired frames out of focus, registered or not.
    n_unusable
        Acquired frames that cannot be used and are not blurred (black, saturated, unregistered ...).
    max_shift_px
        Largest shift along an axis of the frames that are used; NaN if there is none.
    max_shift_frame
        The first frame that has it; -1 if there is none.
    """

    n_frames: int = 0
    n_missing: int = 0
    n_blurred: int = 0
    n_unusable: int = 0
    max_shift_px: float = float("nan")
    max_shift_frame: int = -1

    @property
    def blurred_fraction(self) -> float:
        """Share of blurred frames among the acquired ones; NaN without any."""
        acquired = self.n_frames - self.n_missing
        return self.n_blurred / acquired if acquired else float("nan")

    @property
    def unusable_fraction(self) -> float:
        """Share of frames that cannot be used for any reason; NaN without frames."""
        lost = self.n_missing + self.n_blurred + self.n_unusable
        return lost / self.n_frames if self.n_frames else float("nan")


def step(state: SceneQuality, record: QualityRecord) -> SceneQuality:
    """Count one frame more."""
    state = replace(state, n_frames=state.n_frames + 1)
    if record.verdict == MISSING:
        return replace(state, n_missing=state.n_missing + 1)
    if record.focus is Focus.BLURRED:
        return replace(state, n_blurred=state.n_blurred + 1)
    if record.verdict != "ok" or record.shift_yx_px is None or not record.usable:
        return replace(state, n_unusable=state.n_unusable + 1)
    largest = max(abs(record.shift_yx_px[0]), abs(record.shift_yx_px[1]))
    if largest > state.max_shift_px or (math.isnan(state.max_shift_px) and math.isfinite(largest)):
        return replace(state, max_shift_px=float(largest), max_shift_frame=record.frame)
    return state


def fold(records: Iterable[QualityRecord]) -> SceneQuality:
    """Count many frames from the beginning."""
    state = SceneQuality()
    for record in records:
        state = step(state, record)
    return state


def judge(quality: SceneQuality, options: QualityOptions | None = None) -> tuple[bool, str]:
    """Accept or reject a scene.

    Parameters
    ----------
    quality : SceneQuality
        Of all its frames.
    options : QualityOptions, optional
        Limits.

    Returns
    -------
    tuple of (bool, str)
        Whether it is accepted, and the figures in words.
    """
    limits = options or QualityOptions()
    if quality.max_shift_frame < 0:
        return False, f"none of {quality.n_frames} frames is registered and sharp"
    shift = (
        f"shift of up to {quality.max_shift_px:.1f} px (frame {quality.max_shift_frame}, limit {limits.max_shift_px:g})"
    )
    blurred = (
        f"{100 * quality.blurred_fraction:.1f} % of the frames blurred (limit {100 * limits.max_blurred_fraction:g} %)"
    )
    lost = (
        f"{100 * quality.unusable_fraction:.1f} % of all frames unusable "
        f"(limit {100 * limits.max_unusable_fraction:g} %)"
    )
    broken = []
    if quality.max_shift_px > limits.max_shift_px:
        broken.append(shift)
    if quality.blurred_fraction > limits.max_blurred_fraction:
        broken.append(blurred)
    if quality.unusable_fraction > limits.max_unusable_fraction:
        broken.append(lost)
    return not broken, "; ".join(broken or (shift, blurred, lost))
