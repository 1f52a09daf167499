"""Which blocks of pixels to trust, and the shift that these share.

Every square of blocks has an offset, a slope of the background and a small change of gain of its own; all of them
share a displacement, a change of focus and a tilt of the gain over the field. What is needed of the pixels are sums
per block (:mod:`phagostat.kernels.translation_blocks`): regressors 0 to 4 are 1, the pattern, its derivatives along y
and x, and the Laplacian. Coordinates within a square count by the middle of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_filters import TEMPLATE_SIGMA_PX, Float32, Float64

BLOCK_PX = 4
"""Side of a block: its pixels, smoothed, hold little more than one independent value."""

SQUARE_PX = 32
"""Side of a square, which has an offset, a slope and a gain of its own."""

SIDE_BLOCKS = SQUARE_PX // BLOCK_PX
N_PRODUCTS = 15
"""Products of two of the five regressors."""

FOCUS_SIGMA_PX = 2.0
"""The Laplacian is that of the frame smoothed by this."""

_FEWEST_BLOCKS = 8
_GAIN_SPREAD = 0.05
_TILT_SPREAD = 0.1
_LARGEST_SCALE = 4.0
_LARGEST_GAIN_CHANGE = 0.25
_FOCUS_RIDGE = 1e-3
_CUTOFF = 25.0
_GROUP_CUTOFF = 25.0
_ROUNDS = 12
_SETTLED_PX = 2e-3
_LEAST_SHARE = 0.05
# quantile of a block's mean square residual, of noise alone, relative to its expectation
_CALM_QUANTILE = 0.15
_NOISE_AT_QUANTILE = 0.385
_MEDIAN_OF_TWO = 1.386  # of the sum of two squared normal variates
_UNIT_SMOOTHED = 1 / (4 * np.pi * TEMPLATE_SIGMA_PX**2)
# of white noise of variance 1: the energy of a derivative of the smoothed, that of the Laplacian of the more widely
# smoothed, and what the latter has in common with the smoothed
_NOISE_IN_SLOPE = 1 / (8 * np.pi * TEMPLATE_SIGMA_PX**4)
_NOISE_IN_FOCUS = 1 / (2 * np.pi * FOCUS_SIGMA_PX**6)
_NOISE_ACROSS = -1 / (np.pi * (TEMPLATE_SIGMA_PX**2 + FOCUS_SIGMA_PX**2) ** 2)

# coordinates of the blocks of a square, -1 .. 1, and their products
_LINE = (np.arange(SIDE_BLOCKS) + 0.5) * (2 / SIDE_BLOCKS) - 1
_Y, _X = np.repeat(_LINE, SIDE_BLOCKS), np.tile(_LINE, SIDE_BLOCKS)
_PLACES = np.stack([_Y, _X]).astype(np.float32)
_MOMENTS = np.stack([np.ones(SIDE_BLOCKS**2), _Y, _X, _Y * _Y, _Y * _X, _X * _X]).astype(np.float32)
_MOMENT_OF = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 1): 3, (1, 2): 4, (2, 2): 5}
_PRODUCT_OF = {pair: k for k, pair in enumerate((i, j) for i in range(5) for j in range(i, 5))}
# what a squared residual takes of the products, and what a sum along regressor 0 to 3 takes: (row, product, regressor)
_FIRST, _SECOND = np.triu_indices(5)
_TIMES = np.where(_FIRST == _SECOND, 1, 2)
_TO = np.array([(1 + r, _PRODUCT_OF[min(r, q), max(r, q)], q) for r in range(4) for q in range(5)]).T
# (regressor, coordinate it is multiplied by: 0 none, 1 y, 2 x): four of each square, then five of all
_UNKNOWNS = ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0), (4, 0), (1, 1), (1, 2))
_N_LOCAL = 4
_N_COMMON = len(_UNKNOWNS) - _N_LOCAL
_GAIN, _FOCUS, _TILT = 3, 6, (7, 8)
_ROWS = np.array(
    [[_PRODUCT_OF[min(r, q), max(r, q)] for q, _ in _UNKNOWNS] + [N_PRODUCTS + r] for r, _ in _UNKNOWNS], np.int64
)
_COLUMNS = np.array(
    [[_MOMENT_OF[min(c, d), max(c, d)] for _, d in _UNKNOWNS] + [_MOMENT_OF[0, c]] for _, c in _UNKNOWNS], np.int64
)


@dataclass(frozen=True)
class BlockSums:
    """What is known of the blocks of the squares that lie in a frame.

    Parameters
    ----------
    features
        (n, 21, blocks) float32: sums of weighted products of two regressors, of regressors times residual, and of the
        squared residual.
    there
        (n, blocks) bool: blocks within the field.
    structured
        (n, blocks) bool: those that know most of the shift.
    information
        (n, blocks) float32: squared gradient over noise variance.
    place
        (n, 2) middle of each square in the field, -1 .. 1 along the longer side.
    unit
        Half of a square's side in the unit of `place`.
    """

    features: Float32
    there: NDArray[np.bool_]
    structured: NDArray[np.bool_]
    information: Float32
    place: Float64
    unit: float


@dataclass(frozen=True)
class CommonSolution:
    """The displacement that the blocks share.

    Parameters
    ----------
    displacement_px
        (2,) displacement.
    covariance_px2
        (2, 2) its covariance.
    information
        Sum of the information of the blocks, each as far as it was trusted.
    gain
        Median gain of the strongest squares.
    """

    displacement_px: Float64
    covariance_px2: Float64
    information: float
    gain: float


def solve_blocks(sums: BlockSums, *, gain: float, expected: float) -> CommonSolution | None:
    """Re-weight and solve until the weights settle.

    Parameters
    ----------
    sums
        The blocks.
    gain
        Gain of the frame against the reference, nearly.
    expected
        Variance of a residual relative to that of the reference's noise.
    """
    features, there = sums.features, sums.there
    n = len(features)
    structured = sums.structured & there
    if np.count_nonzero(structured) < _FEWEST_BLOCKS:
        return None
    local, step = np.zeros((n, _N_LOCAL)), np.zeros(_N_COMMON)
    local[:, 0] = _middle(features[:, N_PRODUCTS] / np.maximum(features[:, 0], np.float32(1e-30)))
    for count in range(_ROUNDS):
        square, pulls = _residuals(sums, local, step)
        mean_square = square / np.float32(_UNIT_SMOOTHED * expected)
        scale = _scale(mean_square, there, structured)
        weight = _block_weights(mean_square, there, _CUTOFF * scale)
        if count:
            weight *= _group_weights(features, pulls, weight, structured, expected=expected)
        spread = np.maximum(1.4826 * _middle(np.abs(local[:, 1:3]).T), 1e-6) if count else np.full(2, np.inf)
        solved = _normal_solution(sums, weight, noise=expected * scale, gain=gain, slope_spread=spread)
        if solved is None:
            return None
        before = step
        local, step, bread, scores = solved
        if count > 1 and np.abs((step - before)[:2]).max() < _SETTLED_PX * gain:
            break
    # white noise that was smoothed, under templates wider than the smoothing, counts as if it was still white
    implied = bread[:2, :2] * (expected * scale)
    pull = (bread @ scores.T)[:2]
    strong = slice(0, max(5, n // 4))
    return CommonSolution(
        displacement_px=-step[:2] / gain,
        covariance_px2=np.asarray((implied + pull @ pull.T * (n / (n - 1))) / 2 / gain**2),
        information=float((sums.information * weight).sum()),
        gain=gain + float(np.median(local[strong, _GAIN])),
    )


def _middle(values: NDArray[np.floating[Any]]) -> Float64:
    """Upper median along the last axis."""
    half = values.shape[-1] // 2
    return np.asarray(np.partition(values, half, axis=-1)[..., half], np.float64)


def _residuals(sums: BlockSums, local: Float64, step: Float64) -> tuple[Float32, Float32]:
    """What the model leaves in each block.

    Gives (n, blocks), the mean square in units of the reference's noise variance, and (n, 2, blocks), its sum along
    the derivatives in y and x.
    """
    features = sums.features
    n = len(features)
    beta = np.empty((n, 5))
    beta[:, 0], beta[:, 1], beta[:, 2:] = local[:, 0], local[:, _GAIN] + sums.place @ step[3:], step[:3]
    factors = np.zeros((n, 5, N_PRODUCTS + 6), np.float32)
    factors[:, 0, :N_PRODUCTS] = beta[:, _FIRST] * beta[:, _SECOND] * _TIMES
    factors[:, _TO[0], _TO[1]] = -beta[:, _TO[2]]
    factors[:, 0, N_PRODUCTS : N_PRODUCTS + 5] = -2 * beta
    factors[:, 0, -1] = 1
    factors[:, 1:, N_PRODUCTS : N_PRODUCTS + 4] = np.eye(4)
    left = np.matmul(factors, features)
    # slope of the background and tilt of the gain within a square
    slope = local[:, 1:3].astype(np.float32) @ _PLACES
    tilt = np.float32(sums.unit) * (step[3:].astype(np.float32) @ _PLACES)
    square = left[:, 0] - slope * (2 * left[:, 1] - slope * features[:, 0])
    square -= tilt * (2 * left[:, 2] - 2 * slope * features[:, 1] - tilt * features[:, _PRODUCT_OF[1, 1]])
    pulls = left[:, 3:]
    for axis in (2, 3):
        pulls[:, axis - 2] -= slope * features[:, axis] + tilt * features[:, _PRODUCT_OF[1, axis]]
    return np.asarray(np.maximum(square, 0) / np.float32(BLOCK_PX**2), np.float32), pulls


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
    n, side = len(mean_square), SIDE_BLOCKS
    padded = np.zeros((n, side + 2, side + 2), np.float32)
    padded[:, 1:-1, 1:-1] = np.where(there, mean_square, 0).reshape(n, side, side)
    tall = padded.reshape(-1, side + 2)
    around = np.maximum(cv2.blur(tall, (3, 3)), 0.5 * cv2.dilate(tall, np.ones((3, 3), np.uint8)))
    worst = np.maximum(padded, around.reshape(padded.shape))[:, 1:-1, 1:-1].reshape(n, -1)
    weight = np.maximum(1 - worst / np.float32(cutoff), 0) ** 2
    return np.asarray(weight * there, np.float32)


def _group_weights(
    features: Float32, pulls: Float32, weight: Float32, structured: NDArray[np.bool_], *, expected: float
) -> Float32:
    """Tukey weights of neighbouring blocks by what they pull together.

    An aggregate that moved by a fraction of a pixel, or the edge of one next to what was eaten, leaves little in any
    single block, but the same in all of them. Pulls count against their expected noise, or against the median pull
    where all are larger, as they are before the shift is found.
    """
    n = len(features)
    parts = np.empty((4, n, SIDE_BLOCKS**2), np.float32)
    for k in range(2):
        np.multiply(weight, pulls[:, k], out=parts[k])
        np.multiply(weight * weight, features[:, _PRODUCT_OF[2 + k, 2 + k]], out=parts[2 + k])
    near = _with_neighbours(parts)
    size = (near[:2] ** 2 / np.maximum(near[2:] * np.float32(expected), np.float32(1e-20))).sum(axis=0)
    used = size[structured & (weight > 0.1)]
    scale = max(1.0, float(np.median(used)) / _MEDIAN_OF_TWO) if len(used) else 1.0
    return np.asarray(np.maximum(1 - size / np.float32(_GROUP_CUTOFF * scale), 0) ** 2, np.float32)


def _with_neighbours(values: Float32) -> Float32:
    """Sum over 3 x 3 blocks, in an order that no number of threads can change."""
    shape = values.shape
    for axis in (-1, -2):
        square = values.reshape(*shape[:-1], SIDE_BLOCKS, SIDE_BLOCKS)
        along = np.moveaxis(square, axis, 0)
        total = along.copy()
        total[1:] += along[:-1]
        total[:-1] += along[1:]
        values = np.ascontiguousarray(np.moveaxis(total, 0, axis)).reshape(shape)
    return values


def _normal_solution(
    sums: BlockSums, weight: Float32, *, noise: float, gain: float, slope_spread: Float64
) -> tuple[Float64, Float64, Float64, Float64] | None:
    """Solve the weighted normal equations, what each square has of its own eliminated.

    Returns each square's offset, slopes and change of gain, (n, 4); the common coefficients of the derivatives, the
    focus and the tilts, (5,); the inverse of the common normal matrix; and the squares' pulls at the solution, (n, 5).
    """
    moments = np.matmul(sums.features[:, : N_PRODUCTS + 5], (weight[:, None] * _MOMENTS).transpose(0, 2, 1))
    normal = moments.astype(np.float64)[:, _ROWS, _COLUMNS]
    n_pixels = BLOCK_PX**2 * weight.sum(axis=1).astype(np.float64)
    # the reference's own noise looks like a change of focus: its part is known, and taken off
    normal[:, _FOCUS, _FOCUS] = np.maximum(normal[:, _FOCUS, _FOCUS] - _NOISE_IN_FOCUS * n_pixels, 0.0)
    normal[:, _FOCUS, -1] += gain * _NOISE_ACROSS * n_pixels
    # a tilt is the same over the whole field: what it makes of a square's gain, and of the gain within it
    for tilt, place in zip(_TILT, sums.place.T, strict=True):
        normal[:, :, tilt] = sums.unit * normal[:, :, tilt] + place[:, None] * normal[:, :, _GAIN]
    for tilt, place in zip(_TILT, sums.place.T, strict=True):
        normal[:, tilt] = sums.unit * normal[:, tilt] + place[:, None] * normal[:, _GAIN]
    normal[:, range(3), range(3)] += 1e-9
    # slopes are as likely as those of the other squares are large: aggregates keep what speaks against a slope
    normal[:, (1, 2), (1, 2)] += noise / slope_spread**2
    normal[:, _GAIN, _GAIN] += noise / (_GAIN_SPREAD * gain) ** 2
    # squares' own unknowns as linear functions of the common ones and of the residual
    inner = np.linalg.solve(normal[:, :_N_LOCAL, :_N_LOCAL], normal[:, :_N_LOCAL, _N_LOCAL:])
    left = normal[:, _N_LOCAL:, _N_LOCAL:] - np.matmul(normal[:, _N_LOCAL:, :_N_LOCAL], inner)
    whole = left.sum(axis=0)
    # nor does its noise move when the frame does: steps would be too short
    for axis in range(2):
        whole[axis, axis] = max(whole[axis, axis] - _NOISE_IN_SLOPE * n_pixels.sum(), 0.2 * whole[axis, axis])
    whole[2, 2] += _FOCUS_RIDGE * max(whole[2, 2], 0.0) + 1e-12
    whole[(3, 4), (3, 4)] += noise / (_TILT_SPREAD * gain) ** 2
    if not whole[0, 0] * whole[1, 1] - whole[0, 1] ** 2 > 1e-9 * (whole[0, 0] + whole[1, 1]) ** 2:
        return None
    bread = np.linalg.inv(whole[:, :_N_COMMON])
    step = bread @ whole[:, _N_COMMON]
    local = inner[:, :, -1] - inner[:, :, :-1] @ step
    # what was eaten is no change of gain: it keeps the gain of the others, and its residual tells
    largest = _LARGEST_GAIN_CHANGE * gain
    beyond = np.abs(local[:, _GAIN]) > largest
    if beyond.any():
        few = normal[beyond]
        kept = np.clip(local[beyond, _GAIN], -largest, largest)
        known = few[:, :3, -1] - few[:, :3, _N_LOCAL:-1] @ step - few[:, :3, _GAIN] * kept[:, None]
        local[beyond, :3] = np.linalg.solve(few[:, :3, :3], known[:, :, None])[:, :, 0]
        local[beyond, _GAIN] = kept
    scores = left[:, :, -1] - left[:, :, :-1] @ step
    return local, step, bread, scores
