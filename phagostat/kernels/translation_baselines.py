"""Methods to compare with: enhanced correlation maximised once or in the published cascade, and phase correlation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from phagostat.kernels.translation_reference import TranslationReference
from phagostat.model.records import NAN, TranslationEstimate


def translation_by_cascade(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float = 400.0,
    n_kernels: int = 5,
    largest_kernel_px: int = 513,
    max_iterations: int = 1000,
    min_increment: float = 1e-4,
) -> TranslationEstimate:
    """Estimate a translation by the published cascade (CECC).

    Parameters
    ----------
    reference, moving
        As for :func:`phagostat.kernels.translation.estimate_translation`.
    search_radius_px
        A larger result is a stated failure; the search itself has no bound.
    n_kernels
        Number of Gaussian kernels, each about half as wide as the one before (513, 257, 129, 65, 33 px); a last level
        without smoothing follows.
    largest_kernel_px
        Width of the first kernel in native pixels, odd.
    max_iterations
        Iterations per level.
    min_increment
        A level ends when the correlation grows by less.

    Returns
    -------
    TranslationEstimate
        `evidence["correlation"]` is the correlation coefficient of the last level: near 1 for a true match and below
        0.1 for an impossible pair. As published, it decides nothing. `confidence` is that value, clipped to [0, 1].

    Notes
    -----
    Enhanced correlation coefficient maximisation [1]_ over frames smoothed less and less, each level starting where
    the one before ended [2]_. The released code goes on when a level fails, and reuses the previous frame's shift
    when the first one does; here a level that fails ends the estimate with the reason.

    References
    ----------
    .. [1] G. D. Evangelidis, E. Z. Psarakis, IEEE Trans. Pattern Anal. Mach. Intell. 30 (2008) 1858-1865,
       :DOI:`10.1109/TPAMI.2008.113`
    .. [2] M. Ounissi, M. Latouche, D. Racoceanu, "PhagoStat a scalable and interpretable end to end framework for
       efficient quantification of cell phagocytosis in neurodegenerative disease studies", Sci. Rep. 14 (2024) 6482,
       :DOI:`10.1038/s41598-024-56081-7`
    """
    if largest_kernel_px < 3 or largest_kernel_px % 2 == 0:
        msg = f"largest_kernel_px must be odd and at least 3 (found {largest_kernel_px})"
        raise ValueError(msg)
    kernels = [max((largest_kernel_px - 1 >> level) + 1 | 1, 3) for level in range(n_kernels)]
    return _maximised(
        reference,
        moving,
        kernels_px=[*kernels, 1],
        search_radius_px=search_radius_px,
        max_iterations=max_iterations,
        min_increment=min_increment,
        name="cecc",
    )


def translation_by_correlation(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float = 400.0,
    kernel_px: int = 5,
    max_iterations: int = 1000,
    min_increment: float = 1e-4,
) -> TranslationEstimate:
    """Estimate a translation by maximising the enhanced correlation coefficient once, from no shift at all.

    Parameters
    ----------
    reference, moving
        As for :func:`phagostat.kernels.translation.estimate_translation`.
    search_radius_px
        A larger result is a stated failure; the search itself has no bound.
    kernel_px
        Width of the Gaussian kernel that both frames are smoothed by, odd, native pixels; 1 for none.
    max_iterations
        Iterations.
    min_increment
        The search ends when the correlation grows by less.

    Returns
    -------
    TranslationEstimate
        As :func:`translation_by_cascade` gives it.

    Notes
    -----
    One level of the cascade, as OpenCV offers it: it climbs the hill that it stands on, and finds shifts of a few
    pixels only.
    """
    if kernel_px < 1 or kernel_px % 2 == 0:
        msg = f"kernel_px must be odd and at least 1 (found {kernel_px})"
        raise ValueError(msg)
    return _maximised(
        reference,
        moving,
        kernels_px=[kernel_px],
        search_radius_px=search_radius_px,
        max_iterations=max_iterations,
        min_increment=min_increment,
        name="ecc",
    )


def _maximised(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    kernels_px: list[int],
    search_radius_px: float,
    max_iterations: int,
    min_increment: float,
    name: str,
) -> TranslationEstimate:
    """Maximise the correlation level by level, each starting where the one before ended."""
    warp = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, max_iterations, min_increment)
    template, image = reference.frame.astype(np.float32), moving.astype(np.float32)
    if float(np.ptp(template)) == 0:
        return TranslationEstimate.failure("the reference has no structure to register", method=name)
    if float(np.ptp(image)) == 0:
        return TranslationEstimate.failure("the frame is constant", method=name)
    mask = np.full(image.shape, 255, np.uint8)
    correlation = NAN
    for kernel in kernels_px:
        try:
            correlation, warp = cv2.findTransformECC(
                template, image, warp, cv2.MOTION_TRANSLATION, criteria, mask, kernel
            )
        except cv2.error as error:
            return TranslationEstimate.failure(
                f"the correlation could not be maximised at kernel {kernel} px: {error_reason(error)}",
                method=name,
                kernel_px=float(kernel),
            )
    shift = float(warp[1, 2]), float(warp[0, 2])
    if not np.isfinite([*shift, correlation]).all():
        return TranslationEstimate.failure("the search for the largest correlation diverged", method=name)
    if max(abs(shift[0]), abs(shift[1])) > search_radius_px:
        return TranslationEstimate.failure(
            f"the shift lies outside the search radius of {search_radius_px:g} px", method=name, correlation=correlation
        )
    return TranslationEstimate(
        shift,
        confidence=float(np.clip(correlation, 0, 1)),
        method=name,
        evidence={"correlation": float(correlation)},
    )


def error_reason(error: cv2.error) -> str:
    """Give what OpenCV says went wrong, in one line."""
    lines = str(getattr(error, "err", "") or error).strip().splitlines()
    return lines[0] if lines else "no reason given"


def translation_by_phase(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float = 400.0,
    upsample_factor: int = 100,
) -> TranslationEstimate:
    """Estimate a translation by phase correlation with an upsampled Fourier transform around the peak.

    Parameters
    ----------
    reference, moving
        As for :func:`phagostat.kernels.translation.estimate_translation`.
    search_radius_px
        A larger result is a stated failure.
    upsample_factor
        The shift is found to within 1 / `upsample_factor` px.

    Returns
    -------
    TranslationEstimate
        `evidence["error"]` is scikit-image's normalised error; it decides nothing. `confidence` is 1 minus it.

    Notes
    -----
    :func:`skimage.registration.phase_cross_correlation`, which assumes a periodic scene; a comparison, not a choice.
    """
    name = "phase"
    if int(np.ptp(reference.frame)) == 0:
        return TranslationEstimate.failure("the reference has no structure to register", method=name)
    if int(np.ptp(moving)) == 0:
        return TranslationEstimate.failure("the frame is constant", method=name)
    back, error, _ = phase_cross_correlation(
        reference.frame.astype(np.float32), moving.astype(np.float32), upsample_factor=upsample_factor
    )
    # skimage gives the shift that brings moving back to the reference
    shift = -float(back[0]), -float(back[1])
    if max(abs(shift[0]), abs(shift[1])) > search_radius_px:
        return TranslationEstimate.failure(
            f"the shift lies outside the search radius of {search_radius_px:g} px", method=name, error=float(error)
        )
    return TranslationEstimate(
        shift, confidence=float(np.clip(1 - error, 0, 1)), method=name, evidence={"error": float(error)}
    )
