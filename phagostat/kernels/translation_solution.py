"""Which blocks of pixels to trust, and the shift that these share.

Every square of blocks has an offset, a slope of the background and a small change of gain of its own; all of them
share a displacement, a change of focus and a tilt of the gain over the field. What is needed of the pixels are sums
per block (:mod:`phagostat.kernels.translation_blocks`): regressors 0 to 4 are 1, the pattern, its derivatives along y
and x, and the Laplacian. Coordinates within a square count by the middle of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_filters import TEMPLATE_SIGMA_PX, Float32, Float64, middle
from phagostat.kernels.translation_loops import BLOCK_PX, SQUARE_PX
from phagostat.kernels.translation_sums import (
    eliminate_own,
    find_group_pulls,
    find_residuals,
    sum_normal,
    weigh_blocks,
)

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
_SETTLED_AT_ONCE_PX = 5e-4
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

# products of the coordinates y and x (1 and 2) of the blocks of a square, -1 .. 1, by their place in the moments
_MOMENT_OF = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 1): 3, (1, 2): 4, (2, 2): 5}
_PRODUCT_OF = {pair: k for k, pair in enumerate((i, j) for i in range(5) for j in range(i, 5))}
# (regressor, coordinate it is multiplied by: 0 none, 1 y, 2 x): four of each square, then five of all
_UNKNOWNS = ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0), (4, 0), (1, 1), (1, 2))
_N_LOCAL = 4
_N_COMMON = len(_UNKNOWNS) - _N_LOCAL
_GAIN = 3
_ROLES = np.array([_GAIN, 6, 7, 8], np.int64)  # gain, focus, tilts
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
    mean_square, weight = (np.empty((n, SIDE_BLOCKS**2), np.float32) for _ in range(2))
    pulls = np.empty((n, 2, SIDE_BLOCKS**2), np.float32)
    for count in range(_ROUNDS):
        find_residuals(features, local, step, sums.place, sums.unit, mean_square, pulls)
        mean_square /= np.float32(_UNIT_SMOOTHED * expected)
        scale = _scale(mean_square, there, structured)
        # a block beside one that is wrong is wrong as well
        weigh_blocks(mean_square, there, _CUTOFF * scale, weight)
        if count:
            weight *= _group_weights(features, pulls, weight, structured, expected=expected)
        spread = np.maximum(1.4826 * _middle(np.abs(local[:, 1:3]).T), 1e-6) if count else np.full(2, np.inf)
        solved = _normal_solution(sums, weight, noise=expected * scale, gain=gain, slope_spread=spread)
        if solved is None:
            return None
        before = step
        local, step, bread, scores = solved
        change = np.abs((step - before)[:2]).max() / gain
        if (count > 1 and change < _SETTLED_PX) or (count == 1 and change < _SETTLED_AT_ONCE_PX):
            break
    # white noise that was smoothed, under templates wider than the smoothing, counts as if it was still white
    implied = bread[:2, :2] * (expected * scale)
    pull = (bread @ scores.T)[:2]
    strong = slice(0, max(5, n // 4))
    return CommonSolution(
        displacement_px=-step[:2] / gain,
        covariance_px2=np.asarray((implied + pull @ pull.T * (n / (n - 1))) / 2 / gain**2),
        information=float((sums.information * weight).sum()),
        gain=gain + middle(local[strong, _GAIN]),
    )


def _middle(values: NDArray[np.floating[Any]]) -> Float64:
    """Upper median along the last axis."""
    half = values.shape[-1] // 2
    return np.asarray(np.partition(values, half, axis=-1)[..., half], np.float64)


def _scale(mean_square: Float32, there: NDArray[np.bool_], structured: NDArray[np.bool_]) -> float:
    """How much larger residuals are than expected, from the better part of all blocks and of the structured ones."""
    scale = 1.0
    for values in (mean_square[::4][there[::4]], mean_square[structured]):
        if not len(values):
            continue
        position = int(_CALM_QUANTILE * len(values))
        scale = max(scale, float(np.partition(values, position)[position]) / _NOISE_AT_QUANTILE)
    return min(scale, _LARGEST_SCALE)


def _group_weights(
    features: Float32, pulls: Float32, weight: Float32, structured: NDArray[np.bool_], *, expected: float
) -> Float32:
    """Tukey weights of neighbouring blocks by what they pull together.

    An aggregate that moved by a fraction of a pixel, or the edge of one next to what was eaten, leaves little in any
    single block, but the same in all of them. Pulls count against their expected noise, or against the median pull
    where all are larger, as they are before the shift is found.
    """
    size = np.empty_like(weight)
    find_group_pulls(features, pulls, weight, expected, size)
    used = size[structured & (weight > 0.1)]
    scale = max(1.0, float(_middle(used)) / _MEDIAN_OF_TWO) if len(used) else 1.0
    return np.asarray(np.maximum(1 - size / np.float32(_GROUP_CUTOFF * scale), 0) ** 2, np.float32)


def _normal_solution(
    sums: BlockSums, weight: Float32, *, noise: float, gain: float, slope_spread: Float64
) -> tuple[Float64, Float64, Float64, Float64] | None:
    """Solve the weighted normal equations, what each square has of its own eliminated.

    Returns each square's offset, slopes and change of gain, (n, 4); the common coefficients of the derivatives, the
    focus and the tilts, (5,); the inverse of the common normal matrix; and the squares' pulls at the solution, (n, 5).
    """
    ridge = np.zeros(len(_UNKNOWNS))
    ridge[:3] = 1e-9
    # slopes are as likely as those of the other squares are large: aggregates keep what speaks against a slope
    ridge[1:3] += noise / slope_spread**2
    ridge[_GAIN] = noise / (_GAIN_SPREAD * gain) ** 2
    # the reference's own noise looks like a change of focus: its part is known, and taken off
    alike = np.array([_NOISE_IN_FOCUS, -gain * _NOISE_ACROSS])
    normal = np.empty((len(weight), *_ROWS.shape))
    sum_normal(sums.features, weight, _ROWS, _COLUMNS, _ROLES, sums.place, sums.unit, ridge, alike, normal)
    # squares' own unknowns as linear functions of the common ones and of the residual
    inner = np.empty((len(normal), _N_LOCAL, _N_COMMON + 1))
    left = np.empty((len(normal), _N_COMMON, _N_COMMON + 1))
    eliminate_own(normal, _N_LOCAL, inner, left)
    whole = left.sum(axis=0)
    n_pixels = BLOCK_PX**2 * float(weight.sum(dtype=np.float64))
    # nor does its noise move when the frame does: steps would be too short
    for axis in range(2):
        whole[axis, axis] = max(whole[axis, axis] - _NOISE_IN_SLOPE * n_pixels, 0.2 * whole[axis, axis])
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
