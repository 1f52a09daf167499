"""A method to compare with: scale-invariant key points, matched and brought together by RANSAC."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_baselines import error_reason
from phagostat.kernels.translation_reference import TranslationReference
from phagostat.model.records import TranslationEstimate

_NAME = "sift"


def translation_by_sift(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float = 400.0,
    max_features: int = 0,
    max_ratio: float = 0.75,
    max_residual_px: float = 3.0,
    min_matches: int = 4,
) -> TranslationEstimate:
    """Estimate a translation from SIFT key points, Lowe's ratio test and RANSAC.

    Parameters
    ----------
    reference, moving
        As for :func:`phagostat.kernels.translation.estimate_translation`.
    search_radius_px
        A larger result is a stated failure.
    max_features
        Key points kept per frame, the strongest; 0 keeps all.
    max_ratio
        A match counts if its distance is less than this share of that to the second best candidate.
    max_residual_px
        A match agrees with a shift if it lies within this distance of it, native pixels.
    min_matches
        Fewest matches that must agree; below, the failure is stated.

    Returns
    -------
    TranslationEstimate
        `evidence` holds `n_features` (of the frame), `n_matches` (that passed the ratio test) and `n_inliers`;
        `confidence` is the share of the matches that agree. It decides nothing.

    Notes
    -----
    Key points and descriptors after Lowe [1]_, matched by all distances; RANSAC [2]_ over translations, whose random
    numbers OpenCV draws from a fixed seed; then the least squares of the matches that agree (their mean). Both frames
    are brought to 8 bit by the 0.1 and 99.9 percentiles of the reference, as OpenCV's detector needs. The key points
    of the reference are found anew for every frame.

    References
    ----------
    .. [1] D. G. Lowe, "Distinctive image features from scale-invariant keypoints", Int. J. Comput. Vis. 60 (2004)
       91-110, :DOI:`10.1023/B:VISI.0000029664.99615.94`
    .. [2] M. A. Fischler, R. C. Bolles, "Random sample consensus", Commun. ACM 24 (1981) 381-395,
       :DOI:`10.1145/358669.358692`
    """
    low, high = (float(level) for level in np.percentile(reference.frame, (0.1, 99.9)))
    if not high > low:
        low, high = float(reference.frame.min()), float(reference.frame.max())
    if not high > low:
        return TranslationEstimate.failure("the reference has no structure to register", method=_NAME)
    if int(np.ptp(moving)) == 0:
        return TranslationEstimate.failure("the frame is constant", method=_NAME)
    try:
        detector = cv2.SIFT.create(nfeatures=max_features)
        fixed_points, fixed_descriptors = _features(detector, _eight_bit(reference.frame, low=low, high=high))
        points, descriptors = _features(detector, _eight_bit(moving, low=low, high=high))
        if min(len(fixed_points), len(points)) < 2:
            return TranslationEstimate.failure("no key points", method=_NAME, n_features=float(len(points)))
        pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(fixed_descriptors, descriptors, k=2)
        good = [best for best, second in pairs if best.distance < max_ratio * second.distance]
        found = {"n_features": float(len(points)), "n_matches": float(len(good))}
        if len(good) < min_matches:
            return TranslationEstimate.failure(f"too few key points match ({len(good)})", method=_NAME, **found)
        there = fixed_points[[match.queryIdx for match in good]]
        here = points[[match.trainIdx for match in good]]
        _, mask = cv2.estimateTranslation2D(there, here, ransacReprojThreshold=max_residual_px)
    except cv2.error as error:
        return TranslationEstimate.failure(f"key points cannot be compared: {error_reason(error)}", method=_NAME)
    agree = np.zeros(len(good), bool) if mask is None else np.asarray(mask).ravel() > 0
    n_inliers = int(agree.sum())
    found["n_inliers"] = float(n_inliers)
    if n_inliers < min_matches:
        return TranslationEstimate.failure(
            f"too few matches agree on a shift ({n_inliers} of {len(good)})", method=_NAME, **found
        )
    apart = (here - there)[agree].astype(np.float64)
    shift_x, shift_y = (float(s) for s in apart.mean(axis=0))
    if max(abs(shift_y), abs(shift_x)) > search_radius_px:
        return TranslationEstimate.failure(
            f"the shift lies outside the search radius of {search_radius_px:g} px", method=_NAME, **found
        )
    return TranslationEstimate((shift_y, shift_x), confidence=n_inliers / len(good), method=_NAME, evidence=found)


def _eight_bit(frame: NDArray[np.uint8] | NDArray[np.uint16], *, low: float, high: float) -> NDArray[np.uint8]:
    scaled = (frame.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _features(detector: cv2.SIFT, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Key points, (n, 2) as x and y, and their descriptors, (n, 128)."""
    key_points, descriptors = detector.detectAndCompute(image, None)
    places = np.array([point.pt for point in key_points], np.float32).reshape(-1, 2)
    return places, np.empty((0, 128), np.float32) if descriptors is None else np.asarray(descriptors, np.float32)
