"""The default method: bright tiles of the reference are found again one by one, and their votes must agree.

A frame is searched coarsely (:mod:`phagostat.kernels.translation_coarse`); around the best candidates every tile
looks for itself, within a few pixels, by its own zero-mean correlation; the place where most votes meet starts a
Gauss-Newton solution of ``moving(x + t) = a_i * reference(x) + b_i`` with one shift ``t`` for all tiles, a gain and
an offset (and a plane) for each, and Tukey weights on whole tiles, so that what a cell has eaten or carried off does
not count. The last hundredths come from small blocks (:mod:`phagostat.kernels.translation_blocks`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_blocks import settle_by_blocks
from phagostat.kernels.translation_coarse import CoarsePeak, coarse_frame, coarse_peaks
from phagostat.kernels.translation_consensus import (
    TileFit,
    common_displacement,
    inverse_2x2,
    sandwich_covariance,
    settled,
    tile_weights,
)
from phagostat.kernels.translation_filters import (
    KERNEL_RADIUS_PX,
    SMOOTHING_SIGMA_PX,
    Float32,
    Float64,
    gaussian_taps,
    middle,
)
from phagostat.kernels.translation_loops import BLOCK_PX, compare_tiles, cut_reduced, find_templates, project_tiles
from phagostat.kernels.translation_reference import TranslationReference, vote_reduction
from phagostat.model.records import NAN, TranslationEstimate

TOO_FEW_TILES = "too_few_tiles"
"""In the evidence of a refusal: 1 where too few tiles are left to agree, so that another channel may know more."""

_AGREEMENT_PX = 1.5
_STEP_SCATTER_PX = 0.03
_FEWEST_TILES = 3
_LEAST_UNCHANGED, _MOSTLY_CHANGED = 0.02, 0.1
_PARTNER_CORRELATION = 0.3
_CONVERGED_PX = 0.03


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
    misfit: float
    n_iterations: int
    unchanged: float


def translation_by_tiles(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    search_radius_px: float = 400.0,
    min_overlap: float = 0.4,
    max_tiles: int = 40,
    n_candidates: int = 3,
    min_evidence_nats: float = 12.0,
    max_standard_error_px: float = 0.1,
    max_misfit: float = 0.25,
    reduced: NDArray[np.uint8] | NDArray[np.uint16] | None = None,
    start_yx_px: tuple[float, float] | None = None,
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
    max_misfit
        Largest energy of what the reference's tiles leave unexplained, relative to what they explain, noise averaged
        out (lower quartile over the tiles that agree: in a sharp frame some are whole, in a blurred one none). A sharp
        frame has 0.01, one blurred by 3 px 0.1, by 8 px 0.4 to 1.
    reduced
        The frame averaged over squares of a few pixels (as on the analysis grid), if that is at hand: it saves a pass
        over the frame.
    start_yx_px
        Where the shift may be, to within a few pixels: tried first, without a search, and searched for as ever where
        that is refused. Saves half of the time. With it the estimate is no longer a function of the two frames alone.

    Returns
    -------
    TranslationEstimate
        `evidence` holds `n_tiles`, `n_inliers`, `coarse_correlation`, `coarse_height_sigma`, `correlation` (median
        over the tiles that agree), `gain`, `offset` (grey levels, median), `scatter_px`, `misfit`, `evidence_nats`,
        `n_iterations`, and `unchanged`: the share of the reference's information on the shift that the frame still
        shows (0 where only the tiles gave the shift). A refusal for want of tiles has `too_few_tiles`, 1.
        `confidence` is ``1 - exp(-evidence_nats / min_evidence_nats)``, 0 on failure.

    Notes
    -----
    The standard error is the sandwich estimate from the scatter of the tiles' own displacements, shrunk towards what
    the residuals within the tiles imply.

    The evidence compares two explanations of the tiles' displacements: a share of them (the most likely share) lies
    at the common shift with the precision that its residuals allow, the rest anywhere; or all lie anywhere within the
    few pixels to which the coarse search brings chance partners. The logarithm of a tile's gain counts likewise: equal
    within 25 % in one frame, anything within a factor e by chance. The search for the best common shift is paid for.
    Tiles that find no partner at all, such as those whose aggregate was eaten, speak for neither.
    """
    name = "tiles"
    if reference.n_tiles == 0:
        reason = "the reference has no structure to register"
        return TranslationEstimate.failure(reason, method=name, **{TOO_FEW_TILES: 1.0})
    verdict = partial(
        _verdict,
        search_radius_px=search_radius_px,
        min_evidence_nats=min_evidence_nats,
        max_standard_error_px=max_standard_error_px,
        max_misfit=max_misfit,
    )
    if start_yx_px is not None:
        near = CoarsePeak((float(start_yx_px[0]), float(start_yx_px[1])), NAN, NAN)
        solution = _solve(reference, moving, near, max_tiles=max_tiles, max_misfit=max_misfit)
        if solution is not None:
            estimate = verdict(solution, near)
            if estimate.ok:
                return estimate
    coarse = coarse_frame(
        moving,
        reduction=reference.coarse.reduction,
        search_radius_px=search_radius_px,
        reduced=reduced,
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
        solution = _solve(reference, moving, peak, max_tiles=max_tiles, max_misfit=max_misfit)
        if solution is None:
            continue
        if best is None or solution.evidence_nats > best[0].evidence_nats:
            best = solution, peak
        if solution.evidence_nats >= min_evidence_nats:
            break
    if best is None:
        return TranslationEstimate.failure("no tiles agree on a shift", method=name, **{TOO_FEW_TILES: 1.0})
    return verdict(*best)


def _verdict(
    solution: _Solution,
    peak: CoarsePeak,
    *,
    search_radius_px: float,
    min_evidence_nats: float,
    max_standard_error_px: float,
    max_misfit: float,
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
        "misfit": solution.misfit,
        "evidence_nats": solution.evidence_nats,
        "n_iterations": float(solution.n_iterations),
        "unchanged": solution.unchanged,
    }
    reason = None
    # what the blocks do not find unchanged as well may be a few aggregates that meet others by chance, or a blur
    enough_nats = min_evidence_nats * (1.0 if solution.unchanged > _LEAST_UNCHANGED else 2.0)
    doubted = solution.unchanged < _MOSTLY_CHANGED and solution.evidence_nats < 4 * min_evidence_nats
    if solution.evidence_nats < enough_nats or solution.n_inliers < _FEWEST_TILES:
        reason = f"too few tiles agree on a shift ({solution.n_inliers} of {solution.n_tiles})"
        evidence[TOO_FEW_TILES] = 1.0
    elif max(error_y, error_x) > max_standard_error_px:
        reason = f"the tiles scatter too much (standard error {max(error_y, error_x):.2f} px)"
        evidence[TOO_FEW_TILES] = 1.0
    elif solution.misfit > max_misfit * (0.6 if doubted else 1.0):
        reason = f"the tiles look too different, as in a blurred frame (misfit {solution.misfit:.2f})"
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
    max_misfit: float,
) -> _Solution | None:
    """Work one candidate out: votes, consensus, Gauss-Newton."""
    start = np.rint(np.array(peak.shift_yx_px)).astype(np.int64)
    reach = max(4, reference.coarse.reduction)
    chosen = _inside(reference, start)[:max_tiles]
    if len(chosen) < _FEWEST_TILES:
        return None
    votes, strength = _votes(reference, moving, chosen, start, reach=reach)
    consensus = _consensus(votes, strength)
    if consensus is None:
        return None
    # rounded, so that the last bits of a correlation can never reach the result
    shift = np.rint((start + consensus) * 8) / 8
    near = np.hypot(*(start + votes - shift).T) <= _AGREEMENT_PX
    whole = np.rint(shift).astype(np.int64)
    near &= np.isin(chosen, _inside(reference, whole))
    fit, shift, n_iterations = _gauss_newton(reference, moving, chosen[near], shift)
    if fit is None:
        return None
    n_partners = int(np.count_nonzero(near | (strength > _PARTNER_CORRELATION)))
    fit, weight, scatter, step, evidence = settled(fit, n_tiles=n_partners)
    shift = shift + step
    covariance = sandwich_covariance(fit, weight, scatter)
    if covariance is None:
        return None
    gain = middle(fit.gain[weight > 0.1]) if (weight > 0.1).any() else 0.0
    inlier = weight > 0.1
    if np.count_nonzero(inlier) < 2:
        return None
    misfit = middle(fit.misfit[inlier], share=0.25)
    # a frame that will be refused is not worth the last hundredths
    blocks = None
    if misfit <= max_misfit:
        blocks = settle_by_blocks(reference.blocks, moving, shift_yx_px=shift, gain=gain)
    if blocks is not None:
        shift, covariance = blocks.shift_yx_px, blocks.covariance_px2
    return _Solution(
        shift_yx_px=shift,
        covariance_px2=covariance,
        evidence_nats=evidence,
        n_tiles=len(chosen),
        n_inliers=int(inlier.sum()),
        correlation=middle(fit.correlation[inlier]),
        gain=middle(fit.gain[inlier]),
        offset=middle(fit.offset[inlier]),
        scatter_px=scatter,
        misfit=misfit,
        n_iterations=n_iterations,
        unchanged=0.0 if blocks is None else blocks.share,
    )


def _inside(reference: TranslationReference, whole_shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tiles that lie within the field after the shift, with the margin that smoothing needs; strongest first."""
    corner = reference.tile_origin_yx_px + whole_shift
    limit = np.array(reference.shape_yx) - reference.tile_px - KERNEL_RADIUS_PX
    return np.flatnonzero(((corner >= KERNEL_RADIUS_PX) & (corner <= limit)).all(axis=1))


def _votes(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    chosen: NDArray[np.int64],
    start: NDArray[np.int64],
    *,
    reach: int,
) -> tuple[Float64, Float64]:
    """Let each tile find itself within `reach` px: (n, 2) displacements and (n,) correlation coefficients."""
    step = vote_reduction(reference.coarse.reduction)
    n, side = len(chosen), (reference.tile_px + 2 * reach) // step
    patches = np.empty((n, side, side), np.float32)
    cut_reduced(moving, reference.tile_origin_yx_px[chosen] + start - reach, step, patches)
    votes, strength = np.empty((n, 2)), np.empty(n)
    find_templates(patches, chosen, reference.vote_pattern, votes, strength)
    return votes * step, strength


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
    n_pilots: int = 12,
) -> tuple[TileFit | None, Float64, int]:
    """Solve for the shift that the chosen tiles share; None where it does not converge.

    The first step is made with the strongest tiles alone: it only has to come near.
    """
    if len(chosen) < 2:
        return None, shift, 0
    for iteration in range(1, max_iterations + 1):
        n = n_pilots if iteration == 1 else len(chosen)
        fit, centred = _fit_tiles(reference, moving, chosen[:n], shift)
        weight = tile_weights(fit, scatter=_STEP_SCATTER_PX, rounds=3)
        step = common_displacement(inverse_2x2(fit.covariance_px2, _STEP_SCATTER_PX), weight, fit.displacement_px)
        length = float(np.hypot(*step))
        shift = shift + step * min(1.0, 1.0 / max(length, 1e-12))
        if length < _CONVERGED_PX and n >= len(chosen):
            return _with_structured_residual(fit, reference, chosen, centred), shift, iteration
    return None, shift, max_iterations


def _fit_tiles(
    reference: TranslationReference,
    moving: NDArray[np.uint8] | NDArray[np.uint16],
    chosen: NDArray[np.int64],
    shift: Float64,
) -> tuple[TileFit, Float32]:
    """Fit ``moving(x + shift) = a * (reference - d . gradient) + b + plane`` in each tile.

    Gives the tiles as well, (n, side, width), weighted and without their mean.
    """
    whole = np.rint(shift).astype(np.int64)
    corner = reference.tile_origin_yx_px[chosen] + whole
    side = reference.tile_px
    # a solution that ran away may ask for what lies outside the field
    corner = np.clip(corner, KERNEL_RADIUS_PX, np.array(moving.shape) - side - KERNEL_RADIUS_PX)
    taps_y, taps_x = (gaussian_taps(float(f)).astype(np.float32) for f in shift - whole)
    centred, sums = np.empty((len(chosen), *reference.weight.shape[1:]), np.float32), np.empty((len(chosen), 5))
    project_tiles(moving, corner, chosen, taps_y, taps_x, reference.weight, reference.patterns, centred, sums)
    energy = np.maximum(reference.pattern_energy[chosen], 1e-12)
    along_pattern, along_steepest, total = sums[:, 1], sums[:, 2:4], sums[:, 4]
    gain = along_pattern / energy
    response = np.einsum("nij,nj->ni", reference.response_inverse[chosen], along_steepest)
    explained = along_pattern**2 / energy + np.einsum("ni,ni->n", along_steepest, response)
    # 1e-12 of the energy: exact copies have no residual, and need a finite weight
    variance = np.maximum(total - explained, 1e-12 * np.maximum(total, 1.0)) / (reference.n_pixels[chosen] - 6)
    # a tile whose pattern is absent or inverted says nothing about the shift
    found = along_pattern > 3 * np.sqrt(variance * energy)
    safe_gain = np.where(found, gain, 1.0)
    scale = np.where(found, variance / safe_gain**2, 1e12)
    fit = TileFit(
        displacement_px=np.where(found[:, None], -response / safe_gain[:, None], 0.0),
        covariance_px2=reference.unit_covariance_px2[chosen] * scale[:, None, None] + 1e-12 * np.eye(2),
        gain=gain,
        offset=sums[:, 0],
        correlation=along_pattern / np.sqrt(energy * np.maximum(total, 1e-12)),
        misfit=np.empty(0),
    )
    return fit, centred


def _with_structured_residual(
    fit: TileFit, reference: TranslationReference, chosen: NDArray[np.int64], centred: Float32
) -> TileFit:
    """Add the misfit, and count a residual that is no white noise for what it is.

    Averages over blocks let noise drop out: what is left relative to the fitted pattern is the misfit, which noise and
    fading leave small and a frame of another sharpness does not. Where blocks vary more than smoothed white noise
    would, as where half of an aggregate was eaten, the tile's displacement is less certain by that factor.
    """
    energies = np.empty((len(chosen), 3))
    compare_tiles(centred, chosen, reference.patterns, fit.gain, energies)
    own, left, fitted = energies.T
    # power at low frequency: of blocks, their energy times their area squared; of white noise after a Gaussian, its
    # variance times 4 pi sigma squared
    excess = left * BLOCK_PX**4 / np.maximum(own * 4 * np.pi * SMOOTHING_SIGMA_PX**2, 1e-30)
    return replace(
        fit,
        covariance_px2=fit.covariance_px2 * np.maximum(excess, 1.0)[:, None, None],
        misfit=left / np.maximum(fitted, 1e-30),
    )
