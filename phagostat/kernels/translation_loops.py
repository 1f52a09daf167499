"""The loops over pixels that estimating a shift spends its time in, compiled.

Sums run in a fixed order, whatever the number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Counts = NDArray[np.uint8] | NDArray[np.uint16]

BLOCK_PX = 4
"""Side of a block: its pixels, smoothed, hold little more than one independent value."""

SQUARE_PX = 32
"""Side of a square, which has an offset, a slope and a gain of its own."""

MARGIN_PX = 7
"""Half of what a square's kernel is long, less its middle; known beforehand, so that its sums become one instruction
for many pixels."""

LANE_PX = 32
"""Rows whose length is a multiple of this are worked off by vector instructions alone; others are filled up by 0."""

TILE_MARGIN_PX = 5
"""The same of a tile's kernel."""

_TAPS = 2 * MARGIN_PX + 1
_TILE_TAPS = 2 * TILE_MARGIN_PX + 1
_FULL = SQUARE_PX + 2 * MARGIN_PX
_SIDE = SQUARE_PX // BLOCK_PX


@compiled
def sum_residuals(  # noqa: PLR0912, PLR0917 - compiled functions call no others, and take no keywords
    frame: Counts,
    corner: NDArray[np.int64],
    chosen: NDArray[np.int64],
    taps_y: Float32,
    taps_x: Float32,
    pattern: Float32,
    gain: np.float32,
    offset: np.float32,
    weighted: Float32,
    features: Float32,
) -> None:
    """Read squares out of a frame, smoothed and between its pixels, and sum what a pattern leaves of them.

    Parameters
    ----------
    frame
        (y, x) counts; beyond the field its last rows and columns are repeated.
    corner
        (n, 2) upper left corners of squares.
    chosen
        (n,) which of all squares these are.
    taps_y, taps_x
        Kernel along each axis, of 2 * MARGIN_PX + 1 weights.
    pattern
        (all, SQUARE_PX, SQUARE_PX), what is taken off `gain` times, besides `offset`.
    gain, offset
        See `pattern`.
    weighted
        (all, 5, SQUARE_PX, SQUARE_PX): weighted regressors.
    features
        (n, 21, blocks): of the last six rows each gets the sums over blocks of a weighted regressor times what is
        left, the last one those of the first weighted regressor times its square.
    """
    height, width = frame.shape
    cut = np.empty((_FULL, _FULL), np.float32)
    across = np.empty((_FULL, SQUARE_PX), np.float32)
    left = np.empty((SQUARE_PX, SQUARE_PX), np.float32)
    line = np.empty(SQUARE_PX, np.float32)
    for n in range(len(corner)):
        own, regressors = pattern[chosen[n]], weighted[chosen[n]]
        top, start = corner[n, 0] - MARGIN_PX, corner[n, 1] - MARGIN_PX
        if top >= 0 and start >= 0 and top + _FULL <= height and start + _FULL <= width:
            for y in range(_FULL):
                for x in range(_FULL):
                    cut[y, x] = frame[top + y, start + x]
        else:
            for y in range(_FULL):
                row = min(max(top + y, 0), height - 1)
                for x in range(_FULL):
                    cut[y, x] = frame[row, min(max(start + x, 0), width - 1)]
        for y in range(_FULL):
            for x in range(SQUARE_PX):
                total = taps_x[0] * cut[y, x]
                for j in range(1, _TAPS):
                    total += taps_x[j] * cut[y, x + j]
                across[y, x] = total
        for y in range(SQUARE_PX):
            for x in range(SQUARE_PX):
                total = taps_y[0] * across[y, x]
                for j in range(1, _TAPS):
                    total += taps_y[j] * across[y + j, x]
                left[y, x] = total - offset - gain * own[y, x]
        for k in range(6):
            for row in range(_SIDE):
                for x in range(SQUARE_PX):
                    line[x] = 0
                for y in range(row * BLOCK_PX, (row + 1) * BLOCK_PX):
                    if k < 5:
                        for x in range(SQUARE_PX):
                            line[x] += regressors[k, y, x] * left[y, x]
                    else:
                        for x in range(SQUARE_PX):
                            line[x] += regressors[0, y, x] * left[y, x] * left[y, x]
                for column in range(_SIDE):
                    x = column * BLOCK_PX
                    features[n, 15 + k, row * _SIDE + column] = (line[x] + line[x + 1]) + (line[x + 2] + line[x + 3])


@compiled
def sum_areas(frame: Counts, factor: int, sums: NDArray[np.uint32]) -> None:
    """Sum a frame over squares of `factor` pixels: `sums` is (y // factor, x // factor)."""
    rows, columns = sums.shape
    line = np.empty(columns * factor, np.uint32)
    for row in range(rows):
        for x in range(columns * factor):
            line[x] = frame[row * factor, x]
        for y in range(row * factor + 1, (row + 1) * factor):
            for x in range(columns * factor):
                line[x] += frame[y, x]
        for column in range(columns):
            total = np.uint32(0)
            for x in range(column * factor, (column + 1) * factor):
                total += line[x]
            sums[row, column] = total


@compiled
def correlate_overlaps(  # noqa: PLR0917 - compiled functions take no keywords
    product: Float32,
    fixed_sum: Float64,
    fixed_square: Float64,
    moving_sum: Float64,
    moving_square: Float64,
    correlation: Float64,
    least: float,
) -> None:
    """Correlation coefficients over the overlap of two frames at every shift.

    Parameters
    ----------
    product
        (padded y, padded x) cyclic sums of products of the two frames, by shift.
    fixed_sum, fixed_square, moving_sum, moving_square
        (y + 1, x + 1) tables of the cumulative sums of each frame and of its square.
    correlation
        (2 * reach_y + 1, 2 * reach_x + 1), gets the coefficients, shift (0, 0) in the middle.
    least
        Smallest product of the two variances, as a share of that without a shift.
    """
    height, width = fixed_sum.shape[0] - 1, fixed_sum.shape[1] - 1
    reach_y, reach_x = correlation.shape[0] // 2, correlation.shape[1] // 2
    n = height * width
    whole = fixed_square[height, width] - fixed_sum[height, width] ** 2 / n
    whole *= moving_square[height, width] - moving_sum[height, width] ** 2 / n
    for row in range(correlation.shape[0]):
        down = row - reach_y
        top, bottom = max(0, -down), height - max(0, down)
        to_top, to_bottom = max(0, down), height - max(0, -down)
        for column in range(correlation.shape[1]):
            across = column - reach_x
            left, right = max(0, -across), width - max(0, across)
            to_left, to_right = max(0, across), width - max(0, -across)
            n = (bottom - top) * (right - left)
            a = fixed_sum[bottom, right] - fixed_sum[top, right] - fixed_sum[bottom, left] + fixed_sum[top, left]
            aa = fixed_square[bottom, right] - fixed_square[top, right]
            aa += fixed_square[top, left] - fixed_square[bottom, left]
            b = moving_sum[to_bottom, to_right] - moving_sum[to_top, to_right]
            b += moving_sum[to_top, to_left] - moving_sum[to_bottom, to_left]
            bb = moving_square[to_bottom, to_right] - moving_square[to_top, to_right]
            bb += moving_square[to_top, to_left] - moving_square[to_bottom, to_left]
            variances = (aa - a * a / n) * (bb - b * b / n)
            found = product[down % product.shape[0], across % product.shape[1]] - a * b / n
            correlation[row, column] = found / np.sqrt(max(variances, least * whole + 1e-30))


@compiled
def cut_reduced(frame: Counts, corner: NDArray[np.int64], step: int, patches: Float32) -> None:
    """Cut patches out of a frame and average them over squares of `step` pixels.

    Parameters
    ----------
    frame
        (y, x) counts; beyond the field its last rows and columns are repeated.
    corner
        (n, 2) upper left corners.
    step
        Side of the squares.
    patches
        (n, side, side), gets the patches.
    """
    height, width = frame.shape
    side = patches.shape[1]
    full = side * step
    share = np.float32(1.0 / (step * step))
    line = np.empty(full, np.float32)
    for n in range(len(corner)):
        top, start = corner[n, 0], corner[n, 1]
        inside = top >= 0 and start >= 0 and top + full <= height and start + full <= width
        for y in range(side):
            for x in range(full):
                line[x] = 0
            for down in range(y * step, (y + 1) * step):
                if inside:
                    for x in range(full):
                        line[x] += np.float32(frame[top + down, start + x])
                else:
                    row = min(max(top + down, 0), height - 1)
                    for x in range(full):
                        line[x] += np.float32(frame[row, min(max(start + x, 0), width - 1)])
            for x in range(side):
                total = np.float32(0.0)
                for across in range(x * step, (x + 1) * step):
                    total += line[across]
                patches[n, y, x] = total * share


@compiled
def find_templates(  # noqa: PLR0912, PLR0915 - compiled functions call no others
    patches: Float32, chosen: NDArray[np.int64], templates: Float32, place: Float64, strength: Float64
) -> None:
    """Find each template in its patch by the zero-mean correlation coefficient.

    Parameters
    ----------
    patches
        (n, side + 2 * reach, side + 2 * reach).
    chosen
        (n,) the template of each.
    templates
        (all, side, side), each without its mean.
    place
        (n, 2), gets the place of the best match from the middle, between the pixels by parabolas.
    strength
        (n,), gets its coefficient; 0 where it lies at the edge.
    """
    side, full = templates.shape[1], patches.shape[1]
    size = full - side + 1
    width = (side + LANE_PX - 1) // LANE_PX * LANE_PX
    score = np.empty((size, size))
    line = np.empty(width, np.float32)
    # four rows at a time: else each waits for the one before
    n_fours = (side + 3) // 4
    template = np.zeros((4 * n_fours, width), np.float32)
    patch = np.zeros((full + 3, full + width - side), np.float32)
    sums, squares = np.zeros((full + 1, full + 1)), np.zeros((full + 1, full + 1))
    for n in range(len(patches)):
        # around its mean, so that single precision is enough
        mean = 0.0
        for y in range(full):
            for x in range(full):
                mean += patches[n, y, x]
        mean /= full**2
        for y in range(full):
            total, square = 0.0, 0.0
            for x in range(full):
                value = patches[n, y, x] - mean
                patch[y, x] = value
                total += value
                square += value * value
                sums[y + 1, x + 1] = sums[y, x + 1] + total
                squares[y + 1, x + 1] = squares[y, x + 1] + square
        energy = 0.0
        for y in range(side):
            for x in range(side):
                template[y, x] = templates[chosen[n], y, x]
                energy += template[y, x] * template[y, x]
        best, best_row, best_column = -2.0, 0, 0
        for row in range(size):
            for column in range(size):
                for x in range(width):
                    line[x] = 0
                for four in range(n_fours):
                    y = 4 * four
                    at = row + y
                    for x in range(width):
                        first = template[y, x] * patch[at, column + x]
                        second = template[y + 1, x] * patch[at + 1, column + x]
                        third = template[y + 2, x] * patch[at + 2, column + x]
                        fourth = template[y + 3, x] * patch[at + 3, column + x]
                        line[x] += (first + second) + (third + fourth)
                product = 0.0
                for x in range(side):
                    product += line[x]
                last_row, last = row + side, column + side
                total = sums[last_row, last] - sums[row, last] - sums[last_row, column] + sums[row, column]
                square = squares[last_row, last] - squares[row, last] - squares[last_row, column] + squares[row, column]
                variance = (square - total * total / side**2) * energy
                score[row, column] = product / np.sqrt(variance) if variance > 1e-12 else 0.0
                if score[row, column] > best:
                    best, best_row, best_column = score[row, column], row, column
        place[n, 0], place[n, 1], strength[n] = best_row - size // 2, best_column - size // 2, best
        if 0 < best_row < size - 1 and 0 < best_column < size - 1:
            before, after = score[best_row - 1, best_column], score[best_row + 1, best_column]
            curvature = before - 2 * best + after
            if curvature < 0:
                place[n, 0] += 0.5 * (before - after) / curvature
            before, after = score[best_row, best_column - 1], score[best_row, best_column + 1]
            curvature = before - 2 * best + after
            if curvature < 0:
                place[n, 1] += 0.5 * (before - after) / curvature
        else:
            strength[n] = 0.0


@compiled
def project_tiles(  # noqa: PLR0912, PLR0917 - compiled functions call no others, and take no keywords
    frame: Counts,
    corner: NDArray[np.int64],
    chosen: NDArray[np.int64],
    taps_y: Float32,
    taps_x: Float32,
    weight: Float32,
    patterns: Float32,
    centred: Float32,
    sums: Float64,
) -> None:
    """Read tiles out of a frame, smoothed and between its pixels, weighted and without their mean; project them.

    Parameters
    ----------
    frame
        (y, x) counts.
    corner
        (n, 2) upper left corners of tiles that lie within the frame with their margins.
    chosen
        (n,) which of all tiles these are.
    taps_y, taps_x
        Kernel along each axis, of 2 * TILE_MARGIN_PX + 1 weights.
    weight
        (all, side, width) weights of the pixels; rows are filled up by 0 to a multiple of LANE_PX.
    patterns
        (all, 3, side, width).
    centred
        (n, side, width), gets the tiles.
    sums
        (n, 5), gets the mean, the sums of products with the three patterns, and the sum of squares.
    """
    side, width = weight.shape[1], weight.shape[2]
    full = side + 2 * TILE_MARGIN_PX
    cut = np.zeros((full, width + 2 * TILE_MARGIN_PX), np.float32)
    across = np.empty((full, width), np.float32)
    read = np.empty((side, width), np.float32)
    line, other = np.empty(width, np.float32), np.empty(width, np.float32)
    for n in range(len(corner)):
        own, templates = weight[chosen[n]], patterns[chosen[n]]
        top, start = corner[n, 0] - TILE_MARGIN_PX, corner[n, 1] - TILE_MARGIN_PX
        for y in range(full):
            for x in range(full):
                cut[y, x] = frame[top + y, start + x]
        for y in range(full):
            for x in range(width):
                total = taps_x[0] * cut[y, x]
                for j in range(1, _TILE_TAPS):
                    total += taps_x[j] * cut[y, x + j]
                across[y, x] = total
        for y in range(side):
            for x in range(width):
                total = taps_y[0] * across[y, x]
                for j in range(1, _TILE_TAPS):
                    total += taps_y[j] * across[y + j, x]
                read[y, x] = total * own[y, x]
        for x in range(width):
            line[x] = other[x] = 0
        for y in range(side):
            for x in range(width):
                line[x] += read[y, x] * own[y, x]
                other[x] += own[y, x] * own[y, x]
        along, known = 0.0, 0.0
        for x in range(width):
            along += line[x]
            known += other[x]
        sums[n, 0] = along / known
        mean = np.float32(sums[n, 0])
        for y in range(side):
            for x in range(width):
                read[y, x] -= mean * own[y, x]
        for k in range(3):
            for x in range(width):
                line[x] = 0
            for y in range(side):
                for x in range(width):
                    line[x] += templates[k, y, x] * read[y, x]
            along = 0.0
            for x in range(width):
                along += line[x]
            sums[n, 1 + k] = along
        for x in range(width):
            line[x] = 0
        for y in range(side):
            for x in range(width):
                line[x] += read[y, x] * read[y, x]
                centred[n, y, x] = read[y, x]
        along = 0.0
        for x in range(width):
            along += line[x]
        sums[n, 4] = along


@compiled
def compare_tiles(
    centred: Float32, chosen: NDArray[np.int64], patterns: Float32, gain: Float64, energies: Float64
) -> None:
    """Compare tiles with their patterns, pixel by pixel and after averaging over 4 x 4 pixels.

    Parameters
    ----------
    centred
        (n, side, width) tiles.
    chosen
        (n,) which of all tiles these are.
    patterns
        (all, 3, side, width), of which the first counts.
    gain
        (n,) how often.
    energies
        (n, 3), gets the sum of squares of what is left, that of its averages, and that of the pattern's averages.
    """
    width = centred.shape[2]
    n_rows, n_columns = centred.shape[1] // BLOCK_PX, width // BLOCK_PX
    line = np.empty(width, np.float32)
    left_line, fitted_line = np.empty(width, np.float32), np.empty(width, np.float32)
    share = np.float32(1.0 / BLOCK_PX**2)
    for n in range(len(centred)):
        pattern, depth = patterns[chosen[n], 0], np.float32(gain[n])
        for x in range(width):
            line[x] = 0
        left_energy, fitted_energy = 0.0, 0.0
        for row in range(n_rows):
            for x in range(width):
                left_line[x] = fitted_line[x] = 0
            for y in range(row * BLOCK_PX, (row + 1) * BLOCK_PX):
                for x in range(width):
                    fitted = depth * pattern[y, x]
                    left = centred[n, y, x] - fitted
                    line[x] += left * left
                    left_line[x] += left
                    fitted_line[x] += fitted
            for column in range(n_columns):
                left, fitted = np.float32(0.0), np.float32(0.0)
                for x in range(column * BLOCK_PX, (column + 1) * BLOCK_PX):
                    left += left_line[x]
                    fitted += fitted_line[x]
                left_energy += (left * share) * (left * share)
                fitted_energy += (fitted * share) * (fitted * share)
        whole = 0.0
        for x in range(width):
            whole += line[x]
        energies[n, 0], energies[n, 1], energies[n, 2] = whole, left_energy, fitted_energy


@compiled
def weigh_tiles(displacement: Float64, covariance: Float64, scatters: Float64, cutoff: float, weight: Float64) -> None:
    """Tukey weights of displacements, (n,), around their common one, for one scatter after the other."""
    n = len(displacement)
    precision = np.empty((n, 3))
    for i in range(n):
        weight[i] = 1.0
    for scatter in scatters:
        yy, yx, xx, pull_y, pull_x = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            a, c = covariance[i, 0, 0] + scatter**2, covariance[i, 1, 1] + scatter**2
            b = covariance[i, 0, 1]
            determinant = max(a * c - b * b, 1e-300)
            precision[i, 0], precision[i, 1], precision[i, 2] = c / determinant, -b / determinant, a / determinant
            yy += weight[i] * precision[i, 0]
            yx += weight[i] * precision[i, 1]
            xx += weight[i] * precision[i, 2]
            pull_y += weight[i] * (precision[i, 0] * displacement[i, 0] + precision[i, 1] * displacement[i, 1])
            pull_x += weight[i] * (precision[i, 1] * displacement[i, 0] + precision[i, 2] * displacement[i, 1])
        determinant = max(yy * xx - yx * yx, 1e-300)
        common_y, common_x = (xx * pull_y - yx * pull_x) / determinant, (yy * pull_x - yx * pull_y) / determinant
        total = 0.0
        for i in range(n):
            y, x = displacement[i, 0] - common_y, displacement[i, 1] - common_x
            length = precision[i, 0] * y * y + 2 * precision[i, 1] * y * x + precision[i, 2] * x * x
            share = 1 - length / 2 / cutoff**2
            weight[i] = share * share if share > 0 else 0.0
            total += weight[i]
        if total <= 0:
            for i in range(n):
                weight[i] = 1.0
