"""How much of a frame is image and how much is noise: sums over a quarter of its rows, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled


@dataclass(frozen=True)
class Structure:
    """What neighbouring pixels have in common.

    Parameters
    ----------
    ratio
        Variance of block means over the variance that white noise of the frame's own local strength would leave in
        them; infinite for blocks that differ without any noise, NaN where there is neither.
    counts
        Standard deviation of the block means that noise does not explain.
    neighbour_correlation
        Correlation of pixels with their right neighbours; 0 for a constant frame.
    """

    ratio: float
    counts: float
    neighbour_correlation: float


def block_structure(frame: NDArray[np.integer], *, block_px: int) -> Structure:
    """Variance of block means against that of white noise, and correlation of neighbours.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts.
    block_px : int
        Side of the blocks.

    Returns
    -------
    Structure
        NaN in a frame of fewer than 2 x 2 blocks.

    Notes
    -----
    A quarter of the rows is used, each as the median of three neighbours so that single hot or dead pixels are out.

    Differences between pixels two columns apart hold all of the noise and little of the image. Mean squares in blocks,
    unlike the median magnitude, do not vanish on coarse grey levels; their median leaves objects out.
    """
    height, width = frame.shape
    rows_per_block = max(1, block_px // 4)
    n_y, n_x = ((height - 2) // 4) // rows_per_block, width // block_px
    if n_y < 2 or n_x < 2:
        return Structure(float("nan"), float("nan"), float("nan"))
    sums = np.zeros((n_y, n_x), np.uint64)
    squares = np.zeros((n_y, (n_x * block_px - 2) // block_px), np.uint64)
    n_px = n_y * rows_per_block * n_x * block_px
    total, power, products, ends = (int(value) for value in _sum(frame, rows_per_block, block_px, sums, squares))
    area = rows_per_block * block_px
    # whole numbers of any length: nothing cancels
    spread = n_px * power - total * total
    # pairs across the end of a row are one in a width and do not matter
    shared = n_px * n_px * products - n_px * total * (2 * total - ends) + (n_px - 1) * total * total
    correlation = shared / (n_px * spread) if spread > 0 else 0.0
    noise_variance = float(np.median(squares / area)) / 2
    expected = noise_variance / area
    variance = float((sums / area).var())
    if expected == 0:
        # Without noise any variation between blocks is image, and none is none.
        return Structure(float("inf") if variance > 0 else float("nan"), float(np.sqrt(variance)), correlation)
    return Structure(variance / expected, float(np.sqrt(max(0.0, variance - expected))), correlation)


@compiled
def _sum(
    frame: NDArray[np.integer],
    rows_per_block: int,
    block_px: int,
    sums: NDArray[np.uint64],
    squares: NDArray[np.uint64],
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Sums of values and of squared differences in blocks; of all values, their squares, products of neighbours.

    The last number is the first value and the last, together.
    """
    n_y, n_x = sums.shape
    width = n_x * block_px
    row = np.empty(width, np.uint32)
    before = np.uint64(0)
    along, apart = np.empty(width, np.uint32), np.empty(width, np.uint64)
    total = power = products = ends = np.uint64(0)
    for by in range(n_y):
        along[:] = 0
        apart[:] = 0
        for y in range(by * rows_per_block, (by + 1) * rows_per_block):
            above, middle, below = frame[4 * y, :width], frame[4 * y + 1, :width], frame[4 * y + 2, :width]
            for x in range(row.size):
                a, b, c = np.uint32(above[x]), np.uint32(middle[x]), np.uint32(below[x])
                row[x] = max(min(a, b), min(max(a, b), c))
            for x in range(row.size):
                along[x] += row[x]
            own = beside = np.uint64(0)
            for x in range(row.size):
                own += np.uint64(row[x]) * np.uint64(row[x])
            left, right = row[:-1], row[1:]
            for x in range(left.size):
                beside += np.uint64(left[x]) * np.uint64(right[x])
            power += own
            products += beside
            products += before * np.uint64(row[0])
            before = np.uint64(row[width - 1])
            if y == 0:
                ends += np.uint64(row[0])
            left, right, to = row[:-2], row[2:], apart[: width - 2]
            for x in range(to.size):
                difference = max(left[x], right[x]) - min(left[x], right[x])
                to[x] += np.uint64(difference) * np.uint64(difference)
        for bx in range(n_x):
            block = np.uint64(0)
            for x in range(bx * block_px, (bx + 1) * block_px):
                block += along[x]
            sums[by, bx] = block
            total += block
        for bx in range(squares.shape[1]):
            block = np.uint64(0)
            for x in range(bx * block_px, (bx + 1) * block_px):
                block += apart[x]
            squares[by, bx] = block
    ends += before
    return total, power, products, ends
