"""A shift from what is fixed on the glass: specks between the cells of a phase-contrast frame.

Cells fill much of such a frame, show far more contrast than anything else, and move, many of them one way for a while:
a method that follows contrast follows them. Here both frames are reduced to their *landmarks*: fine structure in calm
surroundings, of limited height, so that a speck counts as much as the edge of a cell, and next to nothing where all
around is structure, as inside a cell. Small tiles around the landmarks then vote as in
:mod:`phagostat.kernels.translation_tiles`, but what counts is in how many *parts of the field* they agree: one cell
that crawls on lies in one part, or on the border of a few, the glass lies everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from phagostat.kernels.translation_coarse import padded_shape
from phagostat.kernels.translation_filters import Float32, Float64, cut_around, gradient, moved_patches, smooth
from phagostat.model.records import TranslationEstimate

Frame = NDArray[np.uint8] | NDArray[np.uint16]

_NAME = "glass"
_WORKING_SIDE_PX = 768  # the longest side that is never reduced: landmarks are as sharp as the optics draw them
_FINE_SIGMA_PX, _COARSE_SIGMA_PX = 1.0, 4.0
_SURROUNDINGS_PX = 33
_CALM_QUANTILE = 0.1
_CALM_TO_LIVELY = 2.0
_HIGHEST = 6.0
_LEAST_STRUCTURE = 2e-6  # of the brightest pixel: the rounding of single precision is no structure
_TILE_PX = 28
_REACH_PX = 5
_MAX_TILES = 160
_PARTS = 4
_MOST_PARTS = 6
_SPEAKING_CORRELATION = 0.4
_AGREEMENT_PX = 0.6
_SCATTERS_PX = (0.05, 0.1, 0.2)
_TUKEY = 4.685
_MARGIN_PX = 5
_APART_PX = 2.0
_LARGEST_RUNNER_UP = 0.6
_STEPS = 3


@dataclass(frozen=True)
class GlassReference:
    """The landmarks of a reference frame; holds numpy arrays and numbers only, so it can be pickled.

    Parameters
    ----------
    shape_yx
        Height and width of the frame in native pixels.
    reduction
        Native pixels per working pixel.
    landmarks
        (y, x) float32, working pixels: fine structure in calm surroundings.
    padded_yx
        Shape that it is transformed in.
    spectrum
        Real FFT of the zero-padded landmarks.
    tile_origin_yx_px
        (n, 2) upper left corners of the tiles in working pixels, the one with most structure first.
    templates
        (n, 3, _TILE_PX**2) float32: the smoothed tile and its derivatives along y and x, each without its mean.
    """

    shape_yx: tuple[int, int]
    reduction: int
    landmarks: Float32
    padded_yx: tuple[int, int]
    spectrum: NDArray[np.complex64]
    tile_origin_yx_px: NDArray[np.int64]
    templates: Float32


@dataclass(frozen=True)
class _Votes:
    """Where tiles find themselves: (n, 2) displacements, (n,) correlations, (n,) tiles and parts of the field."""

    displacement_px: Float64
    strength: Float64
    tile: NDArray[np.int64]
    part: NDArray[np.int64]


@dataclass(frozen=True)
class _Consensus:
    """What the votes share, working pixels."""

    displacement_px: Float64
    standard_error_px: Float64
    scatter_px: float
    evidence_nats: float
    n_tiles: int
    n_inliers: int
    n_parts: int
    n_parts_agreeing: int


def prepare_glass_reference(frame: Frame, *, search_radius_px: float = 400.0) -> GlassReference:
    """Prepare a reference frame once, to estimate the shifts of many frames against it.

    Parameters
    ----------
    frame
        (y, x) phase-contrast image, uint8 or uint16, native pixels.
    search_radius_px
        Largest shift per axis that is searched for; only the padding of the stored spectrum depends on it.
    """
    shape = int(frame.shape[0]), int(frame.shape[1])
    reduction = 1
    while max(shape) > 2 * _WORKING_SIDE_PX * reduction:
        reduction *= 2
    image = landmarks(frame, reduction=reduction)
    padded = padded_shape(image.shape, search_radius_px / reduction)
    origins = _tile_origins(image)
    soft = np.asarray(smooth(image, 1.0), np.float32)
    layers = [cut_around(layer, origins, side=_TILE_PX, margin=0) for layer in (soft, *gradient(image, 1.0))]
    templates = np.stack(layers, axis=1).reshape(len(origins), 3, _TILE_PX**2)
    return GlassReference(
        shape_yx=shape,
        reduction=reduction,
        landmarks=image,
        padded_yx=padded,
        spectrum=np.asarray(scipy.fft.rfft2(image, padded), np.complex64),
        tile_origin_yx_px=origins,
        templates=templates - templates.mean(axis=2, keepdims=True),
    )


def landmarks(frame: Frame, *, reduction: int, reduced: Frame | None = None) -> Float32:
    """Fine structure in calm surroundings, in units of what is usual where it is calm.

    Parameters
    ----------
    frame
        (y, x) image.
    reduction
        Native pixels per working pixel.
    reduced
        The frame averaged over squares of `reduction` pixels, if that is at hand.

    Returns
    -------
    (y, x) float32
        All 0 where the frame shows no structure.
    """
    rows, columns = frame.shape[0] // reduction, frame.shape[1] // reduction
    if reduction == 1:
        image = frame.astype(np.float32)
    elif reduced is not None and reduced.shape == (rows, columns) and reduced.dtype == np.uint16:
        image = reduced.astype(np.float32)
    else:
        whole = frame[: rows * reduction, : columns * reduction]
        image = np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    fine = np.asarray(smooth(image, _FINE_SIGMA_PX) - smooth(image, _COARSE_SIGMA_PX), np.float32)
    # twice: what stands out must not make its own surroundings lively
    calm = _calm_level(_liveliness(fine))
    lively = _liveliness(np.clip(fine, -4 * calm, 4 * calm))
    calm = _calm_level(lively)
    if not calm > _LEAST_STRUCTURE * float(image.max()):
        return np.zeros_like(fine)
    weight = 1 / (1 + (lively / np.float32(_CALM_TO_LIVELY * calm)) ** 4)
    return np.asarray(np.clip(fine / np.float32(calm), -_HIGHEST, _HIGHEST) * weight, np.float32)


def _liveliness(fine: Float32) -> Float32:
    """Local root mean square."""
    return np.asarray(np.sqrt(cv2.blur(fine * fine, (_SURROUNDINGS_PX,) * 2)), np.float32)


def _calm_level(lively: Float32) -> float:
    sample = lively[::5, ::5].ravel()
    return float(np.partition(sample, int(_CALM_QUANTILE * sample.size))[int(_CALM_QUANTILE * sample.size)])


def _tile_origins(image: Float32) -> NDArray[np.int64]:
    """Corners of disjoint tiles around the landmarks, the strongest first."""
    half, margin = _TILE_PX // 2, _TILE_PX // 2 + _MARGIN_PX
    energy = cv2.blur(image * image, (half, half))
    energy[:margin], energy[-margin:], energy[:, :margin], energy[:, -margin:] = 0, 0, 0, 0
    energy = energy[::2, ::2].copy()
    origins: list[tuple[int, int]] = []
    while len(origins) < _MAX_TILES:
        row, column = divmod(int(np.argmax(energy)), energy.shape[1])
        if not energy[row, column] > 0:
            break
        energy[max(0, row - half + 1) : row + half, max(0, column - half + 1) : column + half] = 0
        origins.append((2 * row - half, 2 * column - half))
    return np.array(origins, np.int64).reshape(-1, 2)


def translation_by_glass(
    reference: GlassReference,
    moving: Frame,
    *,
    search_radius_px: float = 400.0,
    min_overlap: float = 0.4,
    n_candidates: int = 4,
    min_evidence_nats: float = 25.0,
    max_standard_error_px: float = 0.25,
    min_parts: int = 6,
    cell_px: float | None = None,
    reduced: Frame | None = None,
) -> TranslationEstimate:
    """Estimate a translation by the landmarks on the glass that a phase-contrast frame shows between its cells.

    Parameters
    ----------
    reference
        What :func:`prepare_glass_reference` made of the reference frame.
    moving
        (y, x) frame of the reference's shape, uint8 or uint16.
    search_radius_px
        Largest shift per axis, native pixels.
    min_overlap
        Smallest share of each axis that both frames must have in common.
    n_candidates
        Number of peaks of the correlation that are worked out.
    min_evidence_nats
        Smallest log likelihood ratio of "many parts of the field share one shift" against "each found what it found
        by chance". Any other shift may have 0.6 of what the best one has.
    max_standard_error_px
        Largest standard error per axis that counts as an estimate, native pixels.
    min_parts
        Fewest parts of the field in which tiles must agree.
    cell_px
        Diameter of a cell, native pixels: the parts are as large, though at least 2 and at most 6 lie along the
        shorter axis. None for 4 along each.
    reduced
        The frame averaged over squares of a few pixels (as on the analysis grid), if that is at hand.

    Returns
    -------
    TranslationEstimate
        `evidence` holds `n_tiles` (that found a partner), `n_inliers`, `n_parts`, `n_parts_agreeing`, `scatter_px`
        (native pixels), `coarse_height_sigma`, `evidence_nats` and `runner_up_nats`. `confidence` is
        ``1 - exp(-evidence_nats / min_evidence_nats)``, 0 on failure.

    Notes
    -----
    The model is that of the tiles' evidence: a share of the parts (the most likely one) has its tiles at the common
    shift with a scatter that is the same for all, the others anywhere within reach. Within a part the likelihood is the
    mean over its tiles, so that a part counts once however many tiles it has. Tiles that find no partner at all (as
    where a cell has covered the glass) say nothing.

    What is fixed to the camera (dirt, a pattern of its pixels) stands still while the glass moves: such a frame may
    have two shifts, and is refused where neither clearly leads.
    """
    reduction = reference.reduction
    if len(reference.tile_origin_yx_px) < min_parts:
        return TranslationEstimate.failure("the reference shows too little that is fixed on the glass", method=_NAME)
    n_parts = _PARTS if cell_px is None else int(np.clip(round(min(moving.shape) / cell_px), 2, _MOST_PARTS))
    image = landmarks(moving, reduction=reduction, reduced=reduced)
    if not image.any():
        return TranslationEstimate.failure("the frame is constant", method=_NAME)
    peaks = _peaks(reference, image, search_radius_px=search_radius_px, min_overlap=min_overlap, n_peaks=n_candidates)
    found: list[tuple[_Consensus, Float64, float]] = []
    for start, height in peaks:
        solution = _worked_out(reference, image, start, n_parts=n_parts)
        if solution is not None:
            found.append((solution[0], solution[1], height))
    if not found:
        return TranslationEstimate.failure("nothing fixed on the glass is found again", method=_NAME)
    found.sort(key=lambda candidate: -candidate[0].evidence_nats)
    best, shift, height = found[0]
    others = [c.evidence_nats for c, s, _ in found[1:] if np.abs(s - shift).max() > _APART_PX]
    runner_up = max(0.0, *others) if others else 0.0
    error_y, error_x = (float(e) * reduction for e in best.standard_error_px)
    evidence = {
        "n_tiles": float(best.n_tiles),
        "n_inliers": float(best.n_inliers),
        "n_parts": float(best.n_parts),
        "n_parts_agreeing": float(best.n_parts_agreeing),
        "scatter_px": best.scatter_px * reduction,
        "coarse_height_sigma": height,
        "evidence_nats": best.evidence_nats,
        "runner_up_nats": runner_up,
    }
    where = float(shift[0]) * reduction, float(shift[1]) * reduction
    reason = None
    if best.evidence_nats < min_evidence_nats or best.n_parts_agreeing < min_parts:
        reason = f"the glass is found again in too few parts of the field ({best.n_parts_agreeing} of {best.n_parts})"
    elif runner_up > _LARGEST_RUNNER_UP * best.evidence_nats:
        reason = "two shifts explain what is fixed, on the glass or in the camera, nearly equally well"
    elif not max(error_y, error_x) <= max_standard_error_px:
        reason = f"what is fixed on the glass scatters too much (standard error {max(error_y, error_x):.2f} px)"
    elif max(abs(where[0]), abs(where[1])) > search_radius_px:
        reason = f"the shift lies outside the search radius of {search_radius_px:g} px"
    if reason is not None:
        return TranslationEstimate.failure(reason, method=_NAME, **evidence)
    return TranslationEstimate(
        where,
        standard_error_yx_px=(error_y, error_x),
        confidence=float(1 - np.exp(-best.evidence_nats / min_evidence_nats)),
        method=_NAME,
        evidence=evidence,
    )


def _peaks(
    reference: GlassReference, image: Float32, *, search_radius_px: float, min_overlap: float, n_peaks: int
) -> list[tuple[NDArray[np.int64], float]]:
    """Shifts at which the landmarks correlate best, working pixels, and their heights over the robust sd of all."""
    height, width = image.shape
    reach = int(np.ceil(search_radius_px / reference.reduction)) + 1
    padded = padded_shape(image.shape, search_radius_px / reference.reduction)
    spectrum = reference.spectrum
    if padded != reference.padded_yx:
        spectrum = np.asarray(scipy.fft.rfft2(reference.landmarks, padded), np.complex64)
    cyclic = scipy.fft.irfft2(np.conj(spectrum) * scipy.fft.rfft2(image, padded), padded)
    rows, columns = (
        np.arange(-r, r + 1) for r in (min(reach, int((1 - min_overlap) * side)) for side in (height, width))
    )
    overlap = (height - np.abs(rows))[:, None] * (width - np.abs(columns))[None]
    score = cyclic[np.ix_(rows, columns)] / np.sqrt(overlap)
    sample = score[::3, ::3]
    middle = float(np.median(sample))
    sigma = 1.4826 * float(np.median(np.abs(sample - middle))) + 1e-12
    peaks = []
    for _ in range(n_peaks):
        row, column = divmod(int(np.argmax(score)), score.shape[1])
        if not score[row, column] > middle:
            break
        peaks.append((np.array((rows[row], columns[column])), float((score[row, column] - middle) / sigma)))
        score[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5] = -np.inf
    return peaks


def _worked_out(
    reference: GlassReference, image: Float32, start: NDArray[np.int64], *, n_parts: int
) -> tuple[_Consensus, Float64] | None:
    """Let the tiles vote around a candidate, then solve for what those that agree share."""
    votes = _votes(reference, image, start, n_parts=n_parts)
    consensus = _consensus(votes)
    if consensus is None:
        return None
    shift = start + consensus.displacement_px
    for _ in range(_STEPS):
        near = np.hypot(*(start + votes.displacement_px - shift).T) < _AGREEMENT_PX + _TUKEY * consensus.scatter_px
        near &= _inside(reference, image, votes.tile, np.rint(shift).astype(np.int64))
        if not near.any():
            return None
        # rounded, so that the last bits of a correlation can never reach the result
        shift = np.rint(shift * 64) / 64
        kept = votes.tile[near]
        fitted = _fitted(reference, image, kept, shift)
        # tiles that do not agree keep their votes
        displacement = start + votes.displacement_px - shift
        displacement[near] = fitted
        refined = _Votes(displacement, votes.strength, votes.tile, votes.part)
        better = _consensus(refined)
        if better is None:
            return None
        consensus = better
        shift = shift + consensus.displacement_px
        if np.abs(consensus.displacement_px).max() < 0.01:
            break
    return consensus, shift


def _inside(
    reference: GlassReference, image: Float32, tiles: NDArray[np.int64], whole: NDArray[np.int64]
) -> NDArray[np.bool_]:
    corner = reference.tile_origin_yx_px[tiles] + whole - _MARGIN_PX
    limit = np.array(image.shape) - _TILE_PX - 2 * _MARGIN_PX
    return np.asarray(((corner >= 0) & (corner <= limit)).all(axis=1))


def _votes(reference: GlassReference, image: Float32, start: NDArray[np.int64], *, n_parts: int) -> _Votes:
    """Let each tile find itself within a few pixels by its correlation coefficient."""
    corner = reference.tile_origin_yx_px + start - _REACH_PX
    full = _TILE_PX + 2 * _REACH_PX
    limit = np.array(image.shape) - full
    inside = np.flatnonzero(((corner >= 0) & (corner <= limit)).all(axis=1))
    displacement, strength, tiles = [], [], []
    for tile in inside.tolist():
        top, left = (int(v) for v in corner[tile])
        own_top, own_left = (int(v) for v in reference.tile_origin_yx_px[tile])
        score = cv2.matchTemplate(
            image[top : top + full, left : left + full],
            reference.landmarks[own_top : own_top + _TILE_PX, own_left : own_left + _TILE_PX],
            cv2.TM_CCOEFF_NORMED,
        )
        row, column = divmod(int(score.argmax()), score.shape[1])
        if not score[row, column] >= _SPEAKING_CORRELATION:
            continue
        if not (0 < row < 2 * _REACH_PX and 0 < column < 2 * _REACH_PX):
            continue
        displacement.append(
            (
                row - _REACH_PX + _vertex(*score[row - 1 : row + 2, column].tolist()),
                column - _REACH_PX + _vertex(*score[row, column - 1 : column + 2].tolist()),
            )
        )
        strength.append(float(score[row, column]))
        tiles.append(tile)
    chosen = np.array(tiles, np.int64)
    middle = reference.tile_origin_yx_px[chosen] + _TILE_PX // 2
    place = middle * n_parts // np.array(image.shape)
    return _Votes(
        np.array(displacement).reshape(-1, 2), np.array(strength), chosen, place[:, 0] * n_parts + place[:, 1]
    )


def _vertex(before: float, at: float, after: float) -> float:
    curvature = before - 2 * at + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


def _consensus(votes: _Votes) -> _Consensus | None:
    """Find the displacement that most parts of the field share, and what speaks for it."""
    places = votes.displacement_px
    if len(places) < 4:
        return None
    parts, part, size = np.unique(votes.part, return_inverse=True, return_counts=True)
    # many tiles of one part weigh less each
    worth = votes.strength / np.sqrt(size[part])
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    support = np.where(distance < _AGREEMENT_PX, 1 - (distance / _AGREEMENT_PX) ** 2, 0.0) @ worth
    start = places[int(np.argmax(np.round(support, 6)))]
    area = (2 * _REACH_PX - 1) ** 2
    shares = np.linspace(0.02, 0.98, 49)
    best: _Consensus | None = None
    for scatter in _SCATTERS_PX:
        middle, weight = start, worth
        for _ in range(5):
            length = np.hypot(*(places - middle).T) / scatter
            weight = np.where(length < _TUKEY, (1 - (length / _TUKEY) ** 2) ** 2, 0.0) * worth
            if not weight.sum() > 0:
                break
            middle = (weight[:, None] * places).sum(axis=0) / weight.sum()
        if not weight.sum() > 0:
            continue
        apart = places - middle
        near = np.exp(-(apart**2).sum(axis=1) / (2 * scatter**2)) / (2 * np.pi * scatter**2) * area
        ratio = np.bincount(part, near) / size
        likely = np.log(shares[:, None] * ratio[None] + 1 - shares[:, None]).sum(axis=1)
        # the common displacement was chosen to suit the tiles: what the best part alone could say is not counted
        evidence = float(likely.max() - np.log(max(float(ratio.max()), 1.0)))
        if best is not None and evidence <= best.evidence_nats:
            continue
        n = int(np.count_nonzero(weight))
        pull = np.stack([np.bincount(part, weight * apart[:, axis]) for axis in range(2)])
        n_agreeing = len(np.unique(part[weight > 0]))
        # parts are the independent witnesses: tiles of one may share what pulls at them
        variance = (pull**2).sum(axis=1) / weight.sum() ** 2 * n_agreeing / max(n_agreeing - 1, 1)
        least = scatter**2 * (weight**2).sum() / weight.sum() ** 2
        best = _Consensus(
            displacement_px=np.asarray(middle),
            standard_error_px=np.sqrt((n_agreeing * variance + 4 * least) / (n_agreeing + 4)),
            scatter_px=scatter,
            evidence_nats=evidence,
            n_tiles=len(places),
            n_inliers=n,
            n_parts=len(parts),
            n_parts_agreeing=n_agreeing,
        )
    return best


def _fitted(reference: GlassReference, image: Float32, tiles: NDArray[np.int64], shift: Float64) -> Float64:
    """(n, 2) displacement of each tile from a shift that is nearly right, by its gradient."""
    whole = np.rint(shift).astype(np.int64)
    patches = cut_around(image, reference.tile_origin_yx_px[tiles] + whole, side=_TILE_PX, margin=_MARGIN_PX)
    moved = moved_patches(patches, shift - whole)
    moved -= moved.mean(axis=1, keepdims=True)
    templates = reference.templates[tiles].astype(np.float64)
    normal = np.einsum("nip,njp->nij", templates, templates) + 1e-9 * np.eye(3)
    right = np.einsum("nip,np->ni", templates, moved.astype(np.float64))
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    # moving(x + shift + d) = gain * reference(x) reads at x + shift as gain * (reference - d . gradient)
    gain = np.maximum(solution[:, :1], 0.1)
    return np.asarray(np.clip(-solution[:, 1:] / gain, -2.0, 2.0))
