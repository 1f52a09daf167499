"""The loops over blocks of pixels that settling a shift spends its time in, compiled.

They work on the sums of :class:`phagostat.kernels.translation_solution.BlockSums`, in a fixed order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled
from phagostat.kernels.translation_loops import BLOCK_PX, SQUARE_PX

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_SIDE = SQUARE_PX // BLOCK_PX
assert _SIDE == 8, "moments are written out for eight rows of blocks"


@compiled
def find_residuals(  # noqa: PLR0917 - compiled functions take no keywords
    features: Float32,
    local: Float64,
    step: Float64,
    place: Float64,
    unit: float,
    mean_square: Float32,
    pulls: Float32,
) -> None:
    """Find what a model leaves in each block.

    Parameters
    ----------
    features
        (n, 21, blocks) sums over blocks.
    local
        (n, 4): offset, slopes along y and x, change of gain of each square.
    step
        (5,): coefficients of the derivatives along y and x and of the Laplacian, and tilts of the gain.
    place
        (n, 2) middle of each square.
    unit
        Half of a square's side in the unit of `place`.
    mean_square
        (n, blocks), gets the mean square of what is left.
    pulls
        (n, 2, blocks), gets its sums along the derivatives.
    """
    one = np.float32(1.0)
    two = np.float32(2.0)
    share = np.float32(1.0 / (BLOCK_PX * BLOCK_PX))
    d_y, d_x, focus = np.float32(step[0]), np.float32(step[1]), np.float32(step[2])
    for n in range(len(features)):
        offset = np.float32(local[n, 0])
        gain = np.float32(local[n, 3] + place[n, 0] * step[3] + place[n, 1] * step[4])
        for row in range(_SIDE):
            along = np.float32((2 * row + 1) / _SIDE - 1)
            slope_y = np.float32(local[n, 1]) * along
            tilt_y = np.float32(unit * step[3]) * along
            for column in range(_SIDE):
                b = row * _SIDE + column
                across = np.float32((2 * column + 1) / _SIDE) - one
                slope = slope_y + np.float32(local[n, 2]) * across
                tilt = tilt_y + np.float32(unit * step[4]) * across
                p00, p01, p02 = features[n, 0, b], features[n, 1, b], features[n, 2, b]
                p03, p04, p11 = features[n, 3, b], features[n, 4, b], features[n, 5, b]
                p12, p13, p14 = features[n, 6, b], features[n, 7, b], features[n, 8, b]
                p22, p23, p24 = features[n, 9, b], features[n, 10, b], features[n, 11, b]
                p33, p34, p44 = features[n, 12, b], features[n, 13, b], features[n, 14, b]
                m0 = offset * p00 + gain * p01 + d_y * p02 + d_x * p03 + focus * p04
                m1 = offset * p01 + gain * p11 + d_y * p12 + d_x * p13 + focus * p14
                m2 = offset * p02 + gain * p12 + d_y * p22 + d_x * p23 + focus * p24
                m3 = offset * p03 + gain * p13 + d_y * p23 + d_x * p33 + focus * p34
                m4 = offset * p04 + gain * p14 + d_y * p24 + d_x * p34 + focus * p44
                r0, r1, r2 = features[n, 15, b], features[n, 16, b], features[n, 17, b]
                r3, r4 = features[n, 18, b], features[n, 19, b]
                square = features[n, 20, b] - two * (offset * r0 + gain * r1 + d_y * r2 + d_x * r3 + focus * r4)
                square += offset * m0 + gain * m1 + d_y * m2 + d_x * m3 + focus * m4
                square -= slope * (two * (r0 - m0) - slope * p00)
                square -= tilt * (two * (r1 - m1) - two * slope * p01 - tilt * p11)
                mean_square[n, b] = max(square, np.float32(0.0)) * share
                pulls[n, 0, b] = r2 - m2 - slope * p02 - tilt * p12
                pulls[n, 1, b] = r3 - m3 - slope * p03 - tilt * p13


@compiled
def weigh_blocks(mean_square: Float32, there: NDArray[np.bool_], cutoff: float, weight: Float32) -> None:
    """Tukey weights of blocks, (n, blocks), by the largest of a block, half of a neighbour, and the mean around it."""
    padded = np.zeros((_SIDE + 2, _SIDE + 2), np.float32)
    half, ninth, limit = np.float32(0.5), np.float32(1 / 9), np.float32(1.0 / cutoff)
    for n in range(len(mean_square)):
        for row in range(_SIDE):
            for column in range(_SIDE):
                b = row * _SIDE + column
                padded[row + 1, column + 1] = mean_square[n, b] if there[n, b] else np.float32(0.0)
        for row in range(_SIDE):
            for column in range(_SIDE):
                total, largest = np.float32(0.0), np.float32(0.0)
                for y in range(3):
                    for x in range(3):
                        total += padded[row + y, column + x]
                        largest = max(largest, padded[row + y, column + x])
                worst = max(padded[row + 1, column + 1], total * ninth, half * largest)
                left = max(np.float32(1.0) - worst * limit, np.float32(0.0))
                b = row * _SIDE + column
                weight[n, b] = left * left if there[n, b] else np.float32(0.0)


@compiled
def find_group_pulls(features: Float32, pulls: Float32, weight: Float32, expected: float, size: Float32) -> None:
    """Squared length of what 3 x 3 blocks pull together along both axes, over its expectation; (n, blocks)."""
    parts = np.zeros((4, _SIDE + 2, _SIDE + 2), np.float32)
    scale, least = np.float32(expected), np.float32(1e-20)
    for n in range(len(features)):
        for row in range(_SIDE):
            for column in range(_SIDE):
                b = row * _SIDE + column
                w = weight[n, b]
                parts[0, row + 1, column + 1] = w * pulls[n, 0, b]
                parts[1, row + 1, column + 1] = w * pulls[n, 1, b]
                parts[2, row + 1, column + 1] = w * w * features[n, 9, b]
                parts[3, row + 1, column + 1] = w * w * features[n, 12, b]
        for row in range(_SIDE):
            for column in range(_SIDE):
                total = np.float32(0.0)
                for axis in range(2):
                    pull, known = np.float32(0.0), np.float32(0.0)
                    for y in range(3):
                        for x in range(3):
                            pull += parts[axis, row + y, column + x]
                            known += parts[2 + axis, row + y, column + x]
                    total += pull * pull / max(known * scale, least)
                size[n, row * _SIDE + column] = total


@compiled
def sum_normal(  # noqa: PLR0912, PLR0917 - compiled functions call no others, and take no keywords
    features: Float32,
    weight: Float32,
    product_of: NDArray[np.int64],
    moment_of: NDArray[np.int64],
    roles: NDArray[np.int64],
    place: Float64,
    unit: float,
    ridge: Float64,
    noise: Float64,
    normal: Float64,
) -> None:
    """Sum the normal equations of each square: weighted features times 1, y, x, y * y, y * x or x * x.

    Parameters
    ----------
    features
        (n, 21, blocks), of which the first 20 count.
    weight
        (n, blocks).
    product_of, moment_of
        (u, u + 1) which feature and which of the six is wanted where.
    roles
        Which unknowns are the gain of a square, the focus, and the tilts of the gain along y and x. A tilt is the same
        over the whole field: it makes something of a square's gain, and of the gain within it.
    place, unit
        (n, 2) middle of each square, and half of its side in the same unit.
    ridge
        (u,) added to the diagonal.
    noise
        (2,): what noise adds, per pixel, to the normal matrix and to the right side of the focus; it is taken off.
    normal
        (n, u, u + 1), gets normal matrices, and right sides as their last columns.
    """
    value = np.empty(_SIDE * _SIDE, np.float32)
    plain, along, twice = np.empty(_SIDE, np.float32), np.empty(_SIDE, np.float32), np.empty(_SIDE, np.float32)
    moments = np.empty((20, 6))
    y_1, y_2, y_3, y_4 = np.float32(7 / 8), np.float32(5 / 8), np.float32(3 / 8), np.float32(1 / 8)
    for n in range(len(features)):
        for k in range(20):
            for b in range(_SIDE * _SIDE):
                value[b] = features[n, k, b] * weight[n, b]
            # rows in pairs, at y and -y: 7/8, 5/8, 3/8 and 1/8
            for x in range(8):
                outer, outer_apart = value[56 + x] + value[x], value[56 + x] - value[x]
                second, second_apart = value[48 + x] + value[8 + x], value[48 + x] - value[8 + x]
                third, third_apart = value[40 + x] + value[16 + x], value[40 + x] - value[16 + x]
                inner, inner_apart = value[32 + x] + value[24 + x], value[32 + x] - value[24 + x]
                plain[x] = (outer + second) + (third + inner)
                along[x] = (y_1 * outer_apart + y_2 * second_apart) + (y_3 * third_apart + y_4 * inner_apart)
                twice[x] = (y_1 * y_1 * outer + y_2 * y_2 * second) + (y_3 * y_3 * third + y_4 * y_4 * inner)
            for m in range(6):
                moments[k, m] = 0
            for x in range(_SIDE):
                at = (2 * x + 1) / _SIDE - 1
                moments[k, 0] += plain[x]
                moments[k, 1] += along[x]
                moments[k, 2] += at * plain[x]
                moments[k, 3] += twice[x]
                moments[k, 4] += at * along[x]
                moments[k, 5] += at * at * plain[x]
        for u in range(product_of.shape[0]):
            for v in range(product_of.shape[1]):
                normal[n, u, v] = moments[product_of[u, v], moment_of[u, v]]
        n_pixels = 0.0
        for b in range(_SIDE * _SIDE):
            n_pixels += weight[n, b]
        n_pixels *= BLOCK_PX * BLOCK_PX
        gain, focus = roles[0], roles[1]
        normal[n, focus, focus] = max(normal[n, focus, focus] - noise[0] * n_pixels, 0.0)
        normal[n, focus, -1] -= noise[1] * n_pixels
        for axis in range(2):
            tilt = roles[2 + axis]
            for u in range(product_of.shape[0]):
                normal[n, u, tilt] = unit * normal[n, u, tilt] + place[n, axis] * normal[n, u, gain]
        for axis in range(2):
            tilt = roles[2 + axis]
            for v in range(product_of.shape[1]):
                normal[n, tilt, v] = unit * normal[n, tilt, v] + place[n, axis] * normal[n, gain, v]
        for u in range(product_of.shape[0]):
            normal[n, u, u] += ridge[u]


@compiled
def eliminate_own(normal: Float64, n_own: int, inner: Float64, left: Float64) -> None:
    """Eliminate the first unknowns of many small symmetric systems.

    Parameters
    ----------
    normal
        (n, u, u + 1): normal matrices, and right sides as their last columns.
    n_own
        How many unknowns to eliminate.
    inner
        (n, n_own, u + 1 - n_own), gets them as linear functions of the others (with a minus) and of the right side.
    left
        (n, u - n_own, u + 1 - n_own), gets the systems of the others.
    """
    n_unknown = normal.shape[1]
    work = np.empty((n_unknown, n_unknown + 1))
    for n in range(len(normal)):
        for i in range(n_unknown):
            for j in range(n_unknown + 1):
                work[i, j] = normal[n, i, j]
        for pivot in range(n_own):
            inverse = 1.0 / work[pivot, pivot]
            for j in range(pivot, n_unknown + 1):
                work[pivot, j] *= inverse
            for i in range(n_unknown):
                if i == pivot:
                    continue
                factor = work[i, pivot]
                for j in range(pivot, n_unknown + 1):
                    work[i, j] -= factor * work[pivot, j]
        for i in range(n_own):
            for j in range(n_own, n_unknown + 1):
                inner[n, i, j - n_own] = work[i, j]
        for i in range(n_own, n_unknown):
            for j in range(n_own, n_unknown + 1):
                left[n, i - n_own, j - n_own] = work[i, j]
