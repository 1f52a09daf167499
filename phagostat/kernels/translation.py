"""How far a frame has moved against the reference frame of its scene.

Methods are entries of `METHODS`; a new one is a function with the signature of `TranslationMethod` and one line there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_baselines import (
    translation_by_cascade,
    translation_by_correlation,
    translation_by_phase,
)
from phagostat.kernels.translation_features import translation_by_sift
from phagostat.kernels.translation_glass import GlassReference, prepare_glass_reference, translation_by_glass
from phagostat.kernels.translation_reference import TranslationReference, check_frame, prepare_reference
from phagostat.kernels.translation_tiles import TOO_FEW_TILES, translation_by_tiles
from phagostat.model.records import TranslationEstimate

__all__ = [
    "METHODS",
    "GlassReference",
    "TranslationMethod",
    "TranslationReference",
    "estimate_translation",
    "prepare_glass_reference",
    "prepare_reference",
    "translation_by_glass",
]


class TranslationMethod(Protocol):
    """A way to estimate a translation: function of reference, frame and options alone."""

    def __call__(
        self,
        reference: TranslationReference,
        moving: NDArray[np.uint8] | NDArray[np.uint16],
        *,
        search_radius_px: float = ...,
    ) -> TranslationEstimate:
        """Estimate the shift of `moving` against `reference`, or state why there is none."""
        ...


def _glass_of_one_channel(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float = 400.0,
    **options: Any,
) -> TranslationEstimate:
    return translation_by_glass(reference.glass, moving, search_radius_px=search_radius_px, **options)


METHODS: dict[str, TranslationMethod] = {
    "tiles": translation_by_tiles,
    "glass": _glass_of_one_channel,
    "cecc": translation_by_cascade,
    "ecc": translation_by_correlation,
    "sift": translation_by_sift,
    "phase": translation_by_phase,
}


def estimate_translation(
    reference: TranslationReference | NDArray[np.uint8] | NDArray[np.uint16],
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float = 400.0,
    method: str = "tiles",
    fallback: Callable[[], TranslationEstimate] | None = None,
    **options: Any,
) -> TranslationEstimate:
    """Estimate how far the content of a frame lies from that of the reference frame.

    Parameters
    ----------
    reference
        Reference frame, (y, x), uint8 or uint16; or, better, what :func:`prepare_reference` made of it.
    moving
        Frame of the same shape, uint8 or uint16, native pixels.
    search_radius_px
        Largest shift per axis that is searched for, native pixels; a larger one is a stated failure.
    method
        A name in `METHODS`: ``tiles`` (default) for bright things on a dark ground, ``glass`` for phase-contrast frames
        in which cells move; to compare with, ``cecc`` (the published cascade), ``ecc`` (one level of it), ``sift`` (key
        points) and ``phase`` (phase correlation).
    fallback
        Asked where ``tiles`` refuses because too few of the reference's tiles are left to agree on a shift, as when
        most aggregates have been eaten: another estimate of the same shift, as from the other channel. It is not asked
        where the frame is constant or looks blurred, or the shift is too large. `method` says whose estimate it is.
    **options
        Keyword options of the method.

    Returns
    -------
    TranslationEstimate
        What stands at ``p`` in the reference stands at ``p + shift_yx_px`` in `moving`. Where there is no reliable
        shift, `reason` says why and the shift is NaN.

    Raises
    ------
    ValueError
        If the shapes differ, a frame is not a (y, x) image of uint8 or uint16, or the method is unknown.

    Notes
    -----
    ``tiles`` refuses what it cannot prove: frames that are black, constant, noise, turned, mirrored, from another
    field or badly blurred. The others return a shift for most of these; they are here to compare with.

    The estimate is a function of the two frames and the options: no hint from the frame before, no random numbers,
    nothing that depends on the number of threads.

    From an acquisition of two channels, each with its own prepared reference (made when it is first asked for)::

        estimate_translation(
            of_aggregates, aggregates,
            fallback=lambda: translation_by_glass(prepare_glass_reference(reference_cells), cells),
        )

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:256, :256]
    >>> blobs = [(40, 60), (200, 50), (120, 130), (60, 190), (180, 200), (130, 40)]
    >>> scene = sum(900 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18) for a, b in blobs)
    >>> frame = (100 + scene).astype(np.uint16)
    >>> reference = prepare_reference(frame[10:210, 10:210])
    >>> estimate = estimate_translation(reference, frame[13:213, 5:205])
    >>> [round(float(s), 2) + 0.0 for s in estimate.shift_yx_px]
    [-3.0, 5.0]
    """
    if method not in METHODS:
        msg = f"unknown method {method!r} (choose from {', '.join(METHODS)})"
        raise ValueError(msg)
    check_frame(moving, name="moving")
    prepared = (
        reference
        if isinstance(reference, TranslationReference)
        else prepare_reference(reference, search_radius_px=search_radius_px)
    )
    if prepared.shape_yx != moving.shape:
        msg = f"reference and moving must have the same shape (found {prepared.shape_yx} and {moving.shape})"
        raise ValueError(msg)
    estimate = METHODS[method](prepared, moving, search_radius_px=search_radius_px, **options)
    if fallback is None or not estimate.evidence.get(TOO_FEW_TILES):
        return estimate
    other = fallback()
    if other.ok:
        return other
    return replace(estimate, reason=f"{estimate.reason}; {other.reason}")
