"""The default method: bright tiles of the reference are found again one by one, and their votes must agree.

A frame is searched coarsely (:mod:`phagostat.kernels.translation_coarse`); around the best candidates every tile
looks for itself, within a few pixels, by its own zero-mean correlation; the place where most votes meet starts a
Gauss-Newton solution of ``moving(x + t) = a_i * reference(x) + b_i`` with one shift ``t`` for all tiles, a gain and
an offset (and a plane) for each, and Tukey weights on whole tiles, so that what a cell has eaten or carried off does
not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_coarse import CoarsePeak, coarse_frame, coarse_peaks
from phagostat.kernels.translation_reference import (
    KERNEL_RADIUS_PX,
    Float32,
    Float64,
    TranslationReference,
    area_reduced,
    gaussian_taps,
    vote_reduction,
)
from phagostat.model.records import TranslationEstimate

_AGREEMENT_PX = 1.5
_CHANCE_AREA_PX2 = 28.0
_SCATTER_RANGE_PX = (0.01, 0.35)
_TUKEY = 4.685
_CONVERGED_PX = 1e-4
_MAX_FRACTION_PX = 1.5


@dataclass(frozen=True)
class _Solution:
    """One candidate worked out: where it ended, and what speaks for it."""

    shift_yx_px: Float64
    covariance_px2: Float64
    evidence_nats: float
    n_tiles: int
    n_inliers: int
    correlation: float
    gain: float
    offset: float
    scatter_px: float
    n_iterations: int


@dataclass(frozen=True)
class _TileFit:
    """Every tile fitted on its own around a common shift."""

    displacement_px: Float64
    covariance_px2: Float64
    gain: Float64
    offset: Float64
    correlation: Float64


def translation_by_tiles(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float = 400.0,
    min_overlap: float = 0.4,
    max_tiles: int = 64,
    n_candidates: int = 3,
    min_evidence_nats: float = 12.0,
    max_standard_error_px: float = 0.1,
) -> TranslationEstimate:
    """Estimate a translation by the votes of many small tiles.

    Parameters
    ----------
    reference
        The prepared reference.
    moving
        (y, x) frame of the reference's shape, uint8 or uint16.
    search_radius_px
        Largest shift per axis, native pixels.
    min_overlap
        Smallest share of each axis that both frames must have in common.
    max_tiles
        Number of tiles that are used for one frame.
    n_candidates
        Number of coarse candidates that are worked out before the frame is given up.
    min_evidence_nats
        Smallest log likelihood ratio of "the tiles share one shift" against "each found what it found by chance".
    max_standard_error_px
        Largest standard error per axis that counts as an estimate.

    Returns
    -------
    TranslationEstimate
        `evidence` holds `n_tiles`, `n_inliers`, `coarse_correlation`, `coarse_height_sigma`, `correlation` (median
        over the tiles that agree), `gain`, `offset` (grey levels, median), `scatter_px`, `evidence_nats`.
        `confidence` is ``1 - exp(-evidence_nats / min_evidence_nats)``, 0 on failure.

    Notes
    -----
    The standard error is the sandwich estimate from the scatter of the tiles' own displacements, not less than what
    the residuals within the tiles imply.

    The evidence compares two explanations of the tiles' displacements: a share of them (the most likely share) lies
    at the common shift with the precision that its residuals allow, the rest anywhere; or all lie anywhere within the
    few pixels to which the coarse search brings chance partners. The search for the best common shift is paid for.
    """
    name = "tiles"
    if reference.n_tiles == 0:
        return TranslationEstimate.failure("the reference has no structure to register", method=name)
    coarse = coarse_frame(
        moving,
        reduction=reference.coarse.reduction,
        search_radius_px=search_radius_px,
    )
    if coarse.spread == 0:
        return TranslationEstimate.failure("the frame is constant", method=name)
    fixed = reference.coarse
    if fixed.padded_yx != coarse.padded_yx:
        fixed = coarse_frame(reference.frame, reduction=fixed.reduction, search_radius_px=search_radius_px)
    peaks = coarse_peaks(
        fixed, coarse, search_radius_px=search_radius_px, min_overlap=min_overlap, n_peaks=n_candidates
    )
    best: tuple[_Solution, CoarsePeak] | None = None
    for peak in peaks:
        solution = _solve(reference, moving, peak, max_tiles=max_tiles)
        if solution is None:
            continue
        if best is None or solution.evidence_nats > best[0].evidence_nats:
            best = solution, peak
        if solution.evidence_nats >= min_evidence_nats:
            break
    if best is None:
        return TranslationEstimate.failure("no tiles agree on a shift", method=name)
    return _verdict(
        *best,
        search_radius_px=search_radius_px,
        min_evidence_nats=min_evidence_nats,
        max_standard_error_px=max_standard_error_px,
    )


def _verdict(
    solution: _Solution,
    peak: CoarsePeak,
    *,
    search_radius_px: float,
    min_evidence_nats: float,
    max_standard_error_px: float,
) -> TranslationEstimate:
    """Accept or refuse the best candidate."""
    error_y, error_x = (float(e) for e in np.sqrt(np.diag(solution.covariance_px2)))
    evidence = {
        "n_tiles": float(solution.n_tiles),
        "n_inliers": float(solution.n_inliers),
        "coarse_correlation": peak.correlation,
        "coarse_height_sigma": peak.height_in_sigma,
        "correlation": solution.correlation,
        "gain": solution.gain,
        "offset": solution.offset,
        "scatter_px": solution.scatter_px,
        "evidence_nats": solution.evidence_nats,
        "n_iterations": float(solution.n_iterations),
    }
    reason = None
    if solution.evidence_nats < min_evidence_nats:
        reason = f"too few tiles agree on a shift ({solution.n_inliers} of {solution.n_tiles})"
    elif max(error_y, error_x) > max_standard_error_px:
        reason = f"the tiles scatter too much (standard error {max(error_y, error_x):.2f} px)"
    elif float(np.abs(solution.shift_yx_px).max()) > search_radius_px:
        reason = f"the shift lies outside the search radius of {search_radius_px:g} px"
    if reason is not None:
        return TranslationEstimate.failure(reason, method="tiles", **evidence)
    return TranslationEstimate(
        (float(solution.shift_yx_px[0]), float(solution.shift_yx_px[1])),
        standard_error_yx_px=(error_y, error_x),
        confidence=float(1 - np.exp(-solution.evidence_nats / min_evidence_nats)),
        method="tiles",
        evidence=evidence,
    )


def _solve(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    peak: CoarsePeak,
    *,
    max_tiles: int,
) -> _Solution | None:
    """Work one candidate out: votes, consensus, Gauss-Newton."""
    start = np.rint(np.array(peak.shift_yx_px)).astype(np.int64)
    reach = max(4, reference.coarse.reduction)
    margin = reach + KERNEL_RADIUS_PX
    side = reference.tile_px
    corner = reference.tile_origin_yx_px + start
    inside = (corner >= margin).all(axis=1) & (corner + side + margin <= np.array(moving.shape)).all(axis=1)
    chosen = np.flatnonzero(inside)[:max_tiles]
    if len(chosen) < 3:
        return None
    stack = _cut_around(moving, corner[chosen], side=side, margin=margin)
    votes, strength = _votes(reference, stack, chosen, reach=reach)
    consensus = _consensus(votes, strength)
    if consensus is None:
        return None
    # rounded, so that the last bits of a correlation can never reach the result
    shift = np.rint((start + consensus) * 8) / 8
    near = np.hypot(*(start + votes - shift).T) <= _AGREEMENT_PX
    fit, shift, n_iterations = _gauss_newton(reference, moving, chosen[near], shift)
    if fit is None:
        return None
    weight, scatter = _tile_weights(fit)
    covariance = _sandwich(fit, weight, scatter)
    if covariance is None:
        return None
    inlier = weight > 0.1
    return _Solution(
        shift_yx_px=shift,
        covariance_px2=covariance,
        evidence_nats=_evidence(fit, scatter, n_tiles=len(chosen)),
        n_tiles=len(chosen),
        n_inliers=int(inlier.sum()),
        correlation=float(np.median(fit.correlation[inlier])),
        gain=float(np.median(fit.gain[inlier])),
        offset=float(np.median(fit.offset[inlier])),
        scatter_px=scatter,
        n_iterations=n_iterations,
    )


def _cut_around(
    moving: NDArray[np.uint8] | NDArray[np.uint16], corner: NDArray[np.int64], *, side: int, margin: int
) -> Float32:
    """(n, side + 2 * margin, side + 2 * margin) float32 patches."""
    full = side + 2 * margin
    stack = np.empty((len(corner), full, full), np.float32)
    for patch, (top, left) in zip(stack, corner - margin, strict=True):
        patch[...] = moving[top : top + full, left : left + full]
    return stack


def _votes(
    reference: TranslationReference, stack: Float32, chosen: NDArray[np.int64], *, reach: int
) -> tuple[Float64, Float64]:
    """Let each tile find itself within `reach` px: (n, 2) displacements and (n,) correlation coefficients."""
    step = vote_reduction(reference.coarse.reduction)
    trim = KERNEL_RADIUS_PX
    n, full = len(stack), reference.tile_px + 2 * reach
    patches = np.ascontiguousarray(stack[:, trim:-trim, trim:-trim]).reshape(n * full, full)
    patches = area_reduced(patches, step).reshape(n, full // step, full // step)
    votes, strength = np.zeros((n, 2)), np.zeros(n)
    centre = reach // step
    for i, (patch, tile) in enumerate(zip(patches, reference.vote_pattern[chosen], strict=True)):
        score = cv2.matchTemplate(patch, tile, cv2.TM_CCOEFF_NORMED)
        row, column = divmod(int(score.argmax()), score.shape[1])
        strength[i] = score[row, column]
        votes[i] = row - centre, column - centre
        if 0 < row < score.shape[0] - 1 and 0 < column < score.shape[1] - 1:
            votes[i, 0] += _vertex(score[row - 1, column], score[row, column], score[row + 1, column])
            votes[i, 1] += _vertex(score[row, column - 1], score[row, column], score[row, column + 1])
        else:
            strength[i] = 0.0
    return votes * step, strength


def _vertex(before: float, at: float, after: float) -> float:
    curvature = float(before) - 2 * float(at) + float(after)
    return 0.5 * (float(before) - float(after)) / curvature if curvature < 0 else 0.0


def _consensus(votes: Float64, strength: Float64) -> Float64 | None:
    """Mean of the votes around the vote that most others meet."""
    voters = np.flatnonzero(strength > 0.2)
    if len(voters) < 2:
        return None
    places, weight = votes[voters], strength[voters]
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    support = np.where(distance < _AGREEMENT_PX, 1 - (distance / _AGREEMENT_PX) ** 2, 0.0) * weight[None]
    row = support[int(np.argmax(np.round(support.sum(axis=1), 6)))]
    return np.asarray((row[:, None] * places).sum(axis=0) / row.sum())


def _gauss_newton(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    chosen: NDArray[np.int64],
    shift: Float64,
    *,
    max_iterations: int = 12,
) -> tuple[_TileFit | None, Float64, int]:
    """Solve for the shift that the chosen tiles share; None where they leave the field or do not converge."""
    whole: NDArray[np.int64] | None = None
    patches = np.empty((0, 0, 0), np.float32)
    side = reference.tile_px
    pattern, steepest = reference.pattern[chosen], reference.steepest[chosen]
    origin = reference.tile_origin_yx_px[chosen]
    if len(chosen) < 2:
        return None, shift, 0
    for iteration in range(1, max_iterations + 1):
        if whole is None or np.abs(shift - whole).max() > _MAX_FRACTION_PX:
            whole = np.rint(shift).astype(np.int64)
            corner = origin + whole
            limit = np.array(moving.shape) - side - KERNEL_RADIUS_PX
            if not ((corner >= KERNEL_RADIUS_PX).all() and (corner <= limit).all()):
                return None, shift, iteration
            patches = _cut_around(moving, corner, side=side, margin=KERNEL_RADIUS_PX)
        fit = _fit_tiles(reference, chosen, pattern, steepest, _moved(patches, shift - whole, side))
        weight, scatter = _tile_weights(fit, about=None)
        information = weight[:, None, None] * np.linalg.inv(fit.covariance_px2 + scatter**2 * np.eye(2))
        total = information.sum(axis=0)
        if not np.linalg.det(total) > 0:
            return None, shift, iteration
        step = np.linalg.solve(total, np.einsum("nij,nj->i", information, fit.displacement_px))
        length = float(np.hypot(*step))
        shift = shift + step * min(1.0, 1.0 / max(length, 1e-12))
        if length < _CONVERGED_PX:
            moved = fit.displacement_px - step
            return (
                _TileFit(moved, fit.covariance_px2, fit.gain, fit.offset, fit.correlation),
                shift,
                iteration,
            )
    return None, shift, max_iterations


def _moved(patches: Float32, fraction: Float64, side: int) -> Float32:
    """Smooth the patches and read them `fraction` px further; (n, side**2)."""
    n, full, _ = patches.shape
    taps_y, taps_x = gaussian_taps(float(fraction[0])), gaussian_taps(float(fraction[1]))
    # one tall image for all tiles: rows next to a seam mix two tiles, and are the margin that is cut off
    smooth = cv2.sepFilter2D(patches.reshape(n * full, full), cv2.CV_32F, taps_x, taps_y)
    inner = smooth.reshape(n, full, full)[:, KERNEL_RADIUS_PX:-KERNEL_RADIUS_PX, KERNEL_RADIUS_PX:-KERNEL_RADIUS_PX]
    return np.ascontiguousarray(inner).reshape(n, side * side)


def _fit_tiles(
    reference: TranslationReference,
    chosen: NDArray[np.int64],
    pattern: Float32,
    steepest: Float32,
    moved: Float32,
) -> _TileFit:
    """Fit ``moved = a * (reference - d . gradient) + b + plane`` in each tile."""
    pixels = moved.shape[1]
    mean = moved.mean(axis=1, dtype=np.float64)
    centred = moved - mean[:, None].astype(np.float32)
    energy = np.maximum(reference.pattern_energy[chosen], 1e-12)
    along_pattern = np.einsum("np,np->n", pattern, centred).astype(np.float64)
    along_steepest = np.einsum("nip,np->ni", steepest, centred).astype(np.float64)
    total = np.einsum("np,np->n", centred, centred).astype(np.float64)
    inverse = reference.steepest_gram_inverse[chosen]
    gain = along_pattern / energy
    response = np.einsum("nij,nj->ni", inverse, along_steepest)
    explained = along_pattern**2 / energy + np.einsum("ni,ni->n", along_steepest, response)
    # 1e-12 of the energy: exact copies have no residual, and need a finite weight
    variance = np.maximum(total - explained, 1e-12 * np.maximum(total, 1.0)) / (pixels - 6)
    # a tile whose pattern is absent or inverted says nothing about the shift
    found = along_pattern > 3 * np.sqrt(variance * energy)
    safe_gain = np.where(found, gain, 1.0)
    displacement = np.where(found[:, None], -response / safe_gain[:, None], 0.0)
    scale = np.where(found, variance / safe_gain**2, 1e12)
    covariance = reference.unit_covariance_px2[chosen] * scale[:, None, None] + 1e-12 * np.eye(2)
    return _TileFit(
        displacement_px=displacement,
        covariance_px2=covariance,
        gain=gain,
        offset=mean,
        correlation=along_pattern / np.sqrt(energy * np.maximum(total, 1e-12)),
    )


def _tile_weights(fit: _TileFit, about: Float64 | None = None) -> tuple[Float64, float]:
    """Tukey weights of the tiles around their common displacement, and the scatter beyond their own precision."""
    centre = np.zeros(2) if about is None else about
    scatter = _SCATTER_RANGE_PX[1]
    weight = np.ones(len(fit.gain))
    for _ in range(6):
        information = weight[:, None, None] * np.linalg.inv(fit.covariance_px2 + scatter**2 * np.eye(2))
        centre = np.linalg.solve(
            information.sum(axis=0) + 1e-12 * np.eye(2), np.einsum("nij,nj->i", information, fit.displacement_px)
        )
        residual = fit.displacement_px - centre
        own = np.trace(fit.covariance_px2, axis1=1, axis2=2) / 2
        precise = (own < _SCATTER_RANGE_PX[1] ** 2) & (weight > 0)
        if precise.sum() >= 2:
            squared = (residual[precise] ** 2).sum(axis=1)
            # median of squared lengths of a round Gaussian: 2 ln 2 times its variance per axis
            excess = float(np.median(squared)) / (2 * np.log(2)) - float(np.median(own[precise]))
            scatter = float(np.clip(np.sqrt(max(excess, 0.0)), *_SCATTER_RANGE_PX))
        precision = np.linalg.inv(fit.covariance_px2 + scatter**2 * np.eye(2))
        length = np.sqrt(np.einsum("ni,nij,nj->n", residual, precision, residual) / 2)
        weight = np.where(length < _TUKEY, (1 - (length / _TUKEY) ** 2) ** 2, 0.0)
        if weight.sum() <= 0:
            weight = np.ones(len(fit.gain))
    return weight, scatter


def _sandwich(fit: _TileFit, weight: Float64, scatter: float) -> Float64 | None:
    """Covariance of the shift from the scatter of the tiles, not below what their residuals imply."""
    information = weight[:, None, None] * np.linalg.inv(fit.covariance_px2 + scatter**2 * np.eye(2))
    total = information.sum(axis=0)
    n = float(weight.sum())
    if n <= 1 or not np.linalg.det(total) > 0:
        return None
    bread = np.linalg.inv(total)
    pull = np.einsum("nij,nj->ni", information, fit.displacement_px)
    covariance = bread @ np.einsum("ni,nj->ij", pull, pull) @ bread * (n / (n - 1))
    own = np.linalg.inv((weight[:, None, None] * np.linalg.inv(fit.covariance_px2)).sum(axis=0))
    diagonal = np.maximum(np.diag(covariance), np.diag(own))
    covariance[np.diag_indices(2)] = diagonal
    return np.asarray(covariance)


def _evidence(fit: _TileFit, scatter: float, *, n_tiles: int) -> float:
    """Log likelihood ratio of a common shift against chance; see `translation_by_tiles`."""
    spread = fit.covariance_px2 + scatter**2 * np.eye(2)
    precision = np.linalg.inv(spread)
    squared = np.einsum("ni,nij,nj->n", fit.displacement_px, precision, fit.displacement_px)
    likelihood = np.exp(-squared / 2) * np.sqrt(np.linalg.det(precision)) / (2 * np.pi) * _CHANCE_AREA_PX2
    ratio = np.zeros(n_tiles)
    ratio[: len(likelihood)] = likelihood
    shares = np.linspace(0.02, 0.98, 49)
    best = float(np.log(shares[:, None] * ratio[None] + 1 - shares[:, None]).sum(axis=1).max())
    # the common shift was chosen to suit the tiles: as much as the best of them alone could say is not counted
    return best - float(np.log(max(float(ratio.max()), 1.0)))
