"""The last hundredths of a pixel: all structured pixels at once, each small block of them trusted or not.

Tiles find the shift even where half of them are wrong, but a tile is right or wrong as a whole: one that a cell has
bitten into still pulls a little, or is lost with all that is left of it. Here squares of 32 px are modelled as

    moving(x + t + d) = (g + g_i) * reference(x) + b_i - g * (d . gradient) + s * laplacian

with one displacement ``d`` and one change of focus ``s`` for all, a small change of gain ``g_i`` and an offset ``b_i``
for each square, and the residuals of every block of 4 x 4 px decide, against the noise of the two frames, how much
that block counts. All sums are kept per block, so that a round of re-weighting touches no pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_filters import (
    TEMPLATE_SIGMA_PX,
    Float32,
    Float64,
    area_reduced,
    cut_around,
    gradient,
    moved_patches,
    noise_gradient_energy,
    noise_sd,
    smooth,
)

BLOCK_PX = 4
"""Side of a block: its pixels, smoothed, hold little more than one independent value."""

SQUARE_PX = 32
"""Side of a square, which has an offset and a gain of its own."""

_SIGMA_PX = TEMPLATE_SIGMA_PX  # more than for tiles: what is left of the reference's noise in its slopes counts here
_MARGIN_PX = 7
_MAX_SQUARES = 96
_LEAST_NOISE_COUNTS = 0.29  # rounding to whole counts
_HOT_SHARE = 0.5
_GAIN_SPREAD = 0.05
_LARGEST_SCALE = 4.0
_LARGEST_GAIN_CHANGE = 0.25
_FOCUS_SIGMA_PX = 2.0
_FOCUS_RIDGE = 1e-3
_CUTOFF = 25.0
_ROUNDS = 12
_PASSES = 3
_LINEAR_PX = 0.05
_SETTLED_PX = 2e-3
_FEWEST_BLOCKS = 8
_NOISE_SQUARES = 8
_MAX_STEP_PX = 0.3
_LEAST_SHARE = 0.05
# quantile of a block's mean square residual, of noise alone, relative to its expectation
_CALM_QUANTILE = 0.15
_NOISE_AT_QUANTILE = 0.385
_UNIT_SMOOTHED = 1 / (4 * np.pi * _SIGMA_PX**2)
# of white noise of variance 1: the energy of a derivative of the smoothed, that of the Laplacian of the more widely
# smoothed, and what the latter has in common with the smoothed
_NOISE_IN_SLOPE = 1 / (8 * np.pi * _SIGMA_PX**4)
_NOISE_IN_FOCUS = 1 / (2 * np.pi * _FOCUS_SIGMA_PX**6)
_NOISE_ACROSS = -1 / (np.pi * (_SIGMA_PX**2 + _FOCUS_SIGMA_PX**2) ** 2)


@dataclass(frozen=True)
class BlockReference:
    """The structured squares of a reference frame, with their sums per block.

    Regressors are 1, the smoothed frame less its background, its derivatives along y and x, and the Laplacian of a
    more widely smoothed frame; ``w`` is the inverse variance of a pixel's noise.

    Parameters
    ----------
    origin_yx_px
        (n, 2) int, upper left corner of each square, the one with most information on the shift first.
    pattern
        (n, SQUARE_PX**2) float32: smoothed frame less its background.
    weighted
        (n, 5, SQUARE_PX**2) float32: the regressors times ``w``.
    products
        (n, 15, blocks) float32: sums of products of weighted regressors, the upper triangle row by row.
    structured
        (n, blocks) bool: the blocks that know most of the shift.
    information
        (n, blocks) float32: squared gradient over noise variance.
    noise_counts
        Sd of the background's noise.
    """

    origin_yx_px: NDArray[np.int64]
    pattern: Float32
    weighted: Float32
    products: Float32
    structured: NDArray[np.bool_]
    information: Float32
    noise_counts: float


@dataclass(frozen=True)
class BlockSolution:
    """Where the blocks put the frame.

    Parameters
    ----------
    shift_yx_px
        The shift.
    covariance_px2
        (2, 2) its covariance.
    share
        Share of the reference's information on the shift that the frame still shows.
    """

    shift_yx_px: Float64
    covariance_px2: Float64
    share: float


def prepare_blocks(image: Float32, calm: Float32, energy: Float32, *, noise_counts: float) -> BlockReference:
    """Choose the squares of a reference frame that tell most of the shift.

    Parameters
    ----------
    image
        (y, x) reference frame in counts.
    calm
        The same without hot pixels.
    energy
        Squared gradient of `calm` after the templates' smoothing.
    noise_counts
        Sd of the background's noise.
    """
    noise = max(noise_counts, _LEAST_NOISE_COUNTS)
    height, width = image.shape
    rows, columns = ((side - 2 * _MARGIN_PX) // SQUARE_PX for side in image.shape)
    # squares lie in the middle of the field: a few pixels at the border belong to none
    top, left = (height - rows * SQUARE_PX) // 2, (width - columns * SQUARE_PX) // 2
    frame = slice(top, top + rows * SQUARE_PX), slice(left, left + columns * SQUARE_PX)
    background = max(float(np.median(calm[::4, ::4])), 1.0)
    # shot noise: the variance grows with the counts
    bright = np.maximum(area_reduced(np.ascontiguousarray(calm[frame]), BLOCK_PX), background)
    slopes = area_reduced(np.ascontiguousarray(energy[frame]), BLOCK_PX) - noise_gradient_energy(noise, _SIGMA_PX)
    by_block = np.asarray(BLOCK_PX**2 * np.maximum(slopes, 0) * (background / noise**2) / bright, np.float32)
    by_square = area_reduced(by_block, SQUARE_PX // BLOCK_PX)
    order = np.argsort(-by_square, axis=None, kind="stable")[:_MAX_SQUARES]
    order = order[by_square.ravel()[order] > 0]
    places = np.stack(np.divmod(order, columns), axis=1)
    origins = places * SQUARE_PX + np.array((top, left))
    regressors, weight = _regressors(image, calm, origins, background=background, noise=noise)
    weighted = np.asarray(regressors * weight[:, None], np.float32)
    pairs = [weighted[:, i] * regressors[:, j] for i in range(5) for j in range(i, 5)]
    side = SQUARE_PX // BLOCK_PX
    information = by_block.reshape(rows, side, columns, side)[places[:, 0], :, places[:, 1]].reshape(-1, side**2)
    return BlockReference(
        origin_yx_px=origins,
        pattern=np.ascontiguousarray(regressors[:, 1]),
        weighted=weighted,
        products=block_sums(np.stack(pairs, axis=1)),
        structured=information >= (np.quantile(information, 0.95) if information.size else 0),
        information=information,
        noise_counts=noise,
    )


def _regressors(
    image: Float32, calm: Float32, origins: NDArray[np.int64], *, background: float, noise: float
) -> tuple[Float32, Float32]:
    """(n, 5, SQUARE_PX**2) regressors and (n, SQUARE_PX**2) inverse variances of the noise, 0 beside hot pixels."""
    margin = int(np.ceil(5 * _FOCUS_SIGMA_PX)) + 1
    size = SQUARE_PX + 2 * margin
    n = len(origins)
    # each square with its surroundings, one below the other
    tall = cut_around(image, origins, side=SQUARE_PX, margin=margin).reshape(n * size, size)
    quiet = cut_around(calm, origins, side=SQUARE_PX, margin=margin).reshape(n * size, size)
    if not n:
        return np.empty((0, 5, SQUARE_PX**2), np.float32), np.empty((0, SQUARE_PX**2), np.float32)
    weight = background / noise**2 / np.maximum(smooth(quiet, TEMPLATE_SIGMA_PX), background)
    excess = tall - quiet
    hot = (excess > _HOT_SHARE * (tall - background)) & (excess > 8 * noise)
    if hot.any():
        weight[cv2.dilate(hot.astype(np.uint8), np.ones((2 * _MARGIN_PX + 1,) * 2)) > 0] = 0
    focus = cv2.Laplacian(np.asarray(smooth(tall, _FOCUS_SIGMA_PX), np.float32), cv2.CV_32F)
    layers = (np.ones_like(tall), smooth(tall, _SIGMA_PX) - background, *gradient(tall, _SIGMA_PX), focus, weight)
    stack = np.stack([np.asarray(layer, np.float32).reshape(n, size, size) for layer in layers], axis=1)
    inner = stack[:, :, margin:-margin, margin:-margin].reshape(n, 6, SQUARE_PX**2)
    return np.ascontiguousarray(inner[:, :5]), np.ascontiguousarray(inner[:, 5])


def block_sums(pixels: Float32) -> Float32:
    """Sum (..., SQUARE_PX**2) pixels over blocks: (..., (SQUARE_PX / BLOCK_PX)**2)."""
    tall = pixels.reshape(-1, SQUARE_PX)
    return (area_reduced(tall, BLOCK_PX) * np.float32(BLOCK_PX**2)).reshape(
        *pixels.shape[:-1], (SQUARE_PX // BLOCK_PX) ** 2
    )


def settle_by_blocks(
    reference: BlockReference, moving: NDArray[np.uint8] | NDArray[np.uint16], *, shift_yx_px: Float64, gain: float
) -> BlockSolution | None:
    """Improve a shift that is right to a tenth of a pixel.

    Parameters
    ----------
    reference
        The reference's blocks.
    moving
        The frame.
    shift_yx_px, gain
        Where it lies and how bright it is against the reference, nearly.

    Returns
    -------
    BlockSolution or None
        None where the blocks cannot tell, or lead further away than a nearly right start allows.
    """
    whole = np.rint(shift_yx_px).astype(np.int64)
    corner = reference.origin_yx_px + whole
    inside = _blocks_inside(corner, moving.shape)
    chosen = np.flatnonzero(inside.any(axis=1))
    if len(chosen) < 2 or not gain > 0:
        return None
    patches = cut_around(moving, corner[chosen], side=SQUARE_PX, margin=_MARGIN_PX)
    # variance of a residual relative to the reference's noise: that of the frame, and the reference's times gain
    few = patches[:: -(-len(patches) // _NOISE_SQUARES)].reshape(-1, patches.shape[-1])
    own = max(noise_sd(few), _LEAST_NOISE_COUNTS)
    expected = (own**2 + (gain * reference.noise_counts) ** 2) / reference.noise_counts**2
    # without a copy where no square has left the field
    kept = slice(None) if len(chosen) == len(inside) else chosen
    pattern, weighted, products = (a[kept] for a in (reference.pattern, reference.weighted, reference.products))
    there = inside[kept] & (products[:, 0] > 0)
    shift, solution = shift_yx_px, None
    for _ in range(_PASSES):
        residual = moved_patches(patches, shift - whole, sigma_px=_SIGMA_PX, margin=_MARGIN_PX)
        residual -= np.float32(gain) * pattern
        residual -= np.float32(np.median(residual[::2, ::32]))
        sums = _residual_sums(weighted, residual)
        found = _solve(reference, chosen, there, sums, gain=gain, expected=expected)
        if found is None:
            return None
        displacement, covariance, share, gain = found
        shift = shift + displacement
        if not np.abs(shift - shift_yx_px).max() <= _MAX_STEP_PX:
            return None
        solution = BlockSolution(shift, covariance, share)
        # the model is linear in the displacement: what is left of a small one needs no second look
        if np.abs(displacement).max() < _LINEAR_PX:
            break
    return solution


def _blocks_inside(corner: NDArray[np.int64], shape_yx: tuple[int, ...]) -> NDArray[np.bool_]:
    """(n, blocks) whether a block lies in the field, with the margin that smoothing needs."""
    offsets = np.arange(0, SQUARE_PX, BLOCK_PX)
    rows, columns = (
        (corner[:, axis, None] + offsets >= _MARGIN_PX)
        & (corner[:, axis, None] + offsets <= shape_yx[axis] - BLOCK_PX - _MARGIN_PX)
        for axis in range(2)
    )
    return np.asarray((rows[:, :, None] & columns[:, None, :]).reshape(len(corner), len(offsets) ** 2))


def _residual_sums(weighted: Float32, residual: Float32) -> Float32:
    """(n, 6, blocks) sums of the weighted regressors times the residual, and of its weighted square."""
    terms = np.empty((len(residual), 6, residual.shape[1]), np.float32)
    np.multiply(weighted, residual[:, None], out=terms[:, :5])
    np.multiply(terms[:, 0], residual, out=terms[:, 5])
    return block_sums(terms)


def _solve(
    reference: BlockReference,
    chosen: NDArray[np.int64],
    there: NDArray[np.bool_],
    sums: Float32,
    *,
    gain: float,
    expected: float,
) -> tuple[Float64, Float64, float, float] | None:
    """Re-weight and solve until the weights settle: displacement, its covariance, share of information, gain."""
    n = len(chosen)
    # per block: 15 products of regressors, 5 with the residual, its square
    features = np.concatenate([reference.products[chosen], sums], axis=1)
    structured = reference.structured[chosen] & there
    if np.count_nonzero(structured) < _FEWEST_BLOCKS:
        return None
    local, step = np.zeros((n, 2)), np.zeros(3)
    local[:, 0] = _middle(sums[:, 0] / np.maximum(features[:, 0], np.float32(1e-30)))
    for count in range(_ROUNDS):
        mean_square = _mean_squares(features, local, step) / np.float32(_UNIT_SMOOTHED * expected)
        scale = _scale(mean_square, there, structured)
        weight = _block_weights(mean_square, there, _CUTOFF * scale)
        solved = _normal_solution(features, weight, ridge=expected * scale / (_GAIN_SPREAD * gain) ** 2, gain=gain)
        if solved is None:
            return None
        before = step
        local, step, bread, scores = solved
        if count > 1 and np.abs((step - before)[:2]).max() < _SETTLED_PX * gain:
            break
    information = reference.information[chosen]
    share = float((information * weight).sum() / max(float(reference.information.sum()), 1e-30))
    if share < _LEAST_SHARE:
        return None
    # white noise that was smoothed, under templates wider than the smoothing, counts as if it was still white
    implied = bread[:2, :2] * (expected * scale)
    pull = (bread @ scores.T)[:2]
    covariance = np.asarray((implied + pull @ pull.T * (n / (n - 1))) / 2 / gain**2)
    strong = slice(0, max(5, n // 4))
    return -step[:2] / gain, covariance, share, gain + float(np.median(local[strong, 1]))


def _middle(values: Float32) -> Float32:
    """Upper median along the last axis."""
    half = values.shape[-1] // 2
    return np.asarray(np.partition(values, half, axis=-1)[..., half])


def _mean_squares(features: Float32, local: Float64, step: Float64) -> Float32:
    """(n, blocks) mean of the squared residual of each block, in units of the reference's noise variance."""
    n = len(features)
    beta = np.concatenate([local, np.broadcast_to(step, (n, 3))], axis=1)
    terms = [beta[:, i] * beta[:, j] * (1 if i == j else 2) for i in range(5) for j in range(i, 5)]
    factors = np.concatenate([np.stack(terms, axis=1), -2 * beta, np.ones((n, 1))], axis=1).astype(np.float32)
    squares = np.matmul(factors[:, None], features)[:, 0]
    return np.asarray(np.maximum(squares, 0) / np.float32(BLOCK_PX**2), np.float32)


def _scale(mean_square: Float32, there: NDArray[np.bool_], structured: NDArray[np.bool_]) -> float:
    """How much larger residuals are than expected, from the better part of all blocks and of the structured ones."""
    scale = 1.0
    for values in (mean_square[::4][there[::4]], mean_square[structured]):
        if not len(values):
            continue
        position = int(_CALM_QUANTILE * len(values))
        scale = max(scale, float(np.partition(values, position)[position]) / _NOISE_AT_QUANTILE)
    return min(scale, _LARGEST_SCALE)


def _block_weights(mean_square: Float32, there: NDArray[np.bool_], cutoff: float) -> Float32:
    """Tukey weights; a block beside one that is wrong is wrong as well."""
    n, side = len(mean_square), SQUARE_PX // BLOCK_PX
    padded = np.zeros((n, side + 2, side + 2), np.float32)
    padded[:, 1:-1, 1:-1] = np.where(there, mean_square, 0).reshape(n, side, side)
    tall = padded.reshape(-1, side + 2)
    around = np.maximum(cv2.blur(tall, (3, 3)), 0.5 * cv2.dilate(tall, np.ones((3, 3), np.uint8)))
    worst = np.maximum(padded, around.reshape(padded.shape))[:, 1:-1, 1:-1].reshape(n, -1)
    weight = np.maximum(1 - worst / np.float32(cutoff), 0) ** 2
    return np.asarray(weight * there, np.float32)


def _normal_solution(
    features: Float32, weight: Float32, *, ridge: float, gain: float
) -> tuple[Float64, Float64, Float64, Float64] | None:
    """Solve the weighted normal equations, the offset and gain of each square eliminated.

    Returns the squares' offset and change of gain, (n, 2); the common coefficients of the derivatives and of the
    focus, (3,); the inverse of the derivatives' normal matrix; and the squares' pulls at the solution, (n, 2).
    """
    total = np.matmul(features[:, :20], weight[:, :, None])[:, :, 0].astype(np.float64)
    n_pixels = BLOCK_PX**2 * weight.sum(axis=1).astype(np.float64)
    normal = np.empty((len(total), 5, 6))
    rows, columns = np.triu_indices(5)
    normal[:, rows, columns] = normal[:, columns, rows] = total[:, :15]
    normal[:, :, 5] = total[:, 15:]
    # the reference's own noise looks like a change of focus: its part is known, and taken off
    normal[:, 4, 4] = np.maximum(normal[:, 4, 4] - _NOISE_IN_FOCUS * n_pixels, 0.0)
    normal[:, 4, 5] += gain * _NOISE_ACROSS * n_pixels
    normal[:, 0, 0] += 1e-12
    normal[:, 1, 1] += ridge
    s11, s1r, srr = normal[:, 0, 0], normal[:, 0, 1], normal[:, 1, 1]
    determinant = (s11 * srr - s1r**2)[:, None]
    # offset and gain as linear functions of the common coefficients and of the residual
    upper, lower = normal[:, 0, 2:], normal[:, 1, 2:]
    offset = (srr[:, None] * upper - s1r[:, None] * lower) / determinant
    change = (s11[:, None] * lower - s1r[:, None] * upper) / determinant
    left = normal[:, 2:, 2:]
    left -= normal[:, 2:5, 0, None] * offset[:, None] + normal[:, 2:5, 1, None] * change[:, None]
    whole = left.sum(axis=0)
    # nor does its noise move when the frame does: steps would be too short
    for axis in range(2):
        whole[axis, axis] = max(whole[axis, axis] - _NOISE_IN_SLOPE * n_pixels.sum(), 0.2 * whole[axis, axis])
    whole[2, 2] += _FOCUS_RIDGE * max(whole[2, 2], 0.0) + 1e-12
    if not whole[0, 0] * whole[1, 1] - whole[0, 1] ** 2 > 1e-9 * (whole[0, 0] + whole[1, 1]) ** 2:
        return None
    bread = np.linalg.inv(whole[:, :3])
    step = bread @ whole[:, 3]
    # what was eaten is no change of gain: it keeps the gain of the others, and its residual tells
    own = np.clip(change[:, 3] - change[:, :3] @ step, -_LARGEST_GAIN_CHANGE * gain, _LARGEST_GAIN_CHANGE * gain)
    local = np.stack([(upper[:, 3] - upper[:, :3] @ step - s1r * own) / s11, own], axis=1)
    scores = left[:, :, 3] - left[:, :, :3] @ step
    return local, step, bread, scores
