"""Energy of a band of a frame, block by block, in one pass over the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

# Taps beyond the middle that the compiled loop takes in one go; a narrower Gaussian is filled up with zeros.
_AT_ONCE = 4


@dataclass(frozen=True)
class Band:
    """What the Laplacian of a smoothed frame holds, and the smoothed frame on a grid of half as many pixels a side.

    Parameters
    ----------
    energy : (y // block, x // block) float32
        Mean square of the band in each block.
    noise_variance : float
        Variance of the band where only noise is: that of a Gaussian with the median magnitude of a lattice of pixels,
        one in each block.
    half : (y // 2, x // 2) float32
        Means over 2 x 2 of the smoothed frame; without pixels if it was not asked for.
    """

    energy: NDArray[np.float32]
    noise_variance: float
    half: NDArray[np.float32]


def laplacian_band(
    image: NDArray[np.integer] | NDArray[np.float32],
    *,
    sigma_px: float,
    block_px: int,
    scale: float = 1.0,
    halve: bool = False,
) -> Band:
    """Laplacian of a Gaussian, squared and averaged over blocks.

    Parameters
    ----------
    image : (y, x) uint8, uint16 or float32
        At least one block, two pixels a side.
    sigma_px : float
        Width of the Gaussian.
    block_px : int
        Side of the blocks.
    scale : float
        The Laplacian (four neighbours less four times the pixel) is multiplied by it.
    halve : bool
        Whether to give the smoothed frame at half its size.

    Returns
    -------
    Band
        Rows and columns beyond the last whole block are in no block.

    Raises
    ------
    ValueError
        If the image is smaller than a block.

    Notes
    -----
    Beyond its border the image is mirrored without its outermost pixels. A row is smoothed, differentiated, squared and
    summed while it is in the nearest cache; single-precision sums are taken in a fixed order.
    """
    height, width = image.shape
    if min(height, width) < max(block_px, 2):
        raise ValueError(f"an image of {image.shape} holds no block of {block_px} x {block_px} pixels")
    taps = gaussian_taps(sigma_px)
    reach = taps.size - 1
    energy = np.empty((height // block_px, width // block_px), np.float32)
    lattice = np.empty_like(energy)
    half = np.empty((height // 2, width // 2) if halve else (0, 0), np.float32)
    _band(
        image,
        (_mirrored(height, reach + 1), _mirrored(width, reach)),
        taps,
        np.float32(scale),
        block_px,
        energy,
        lattice,
        half,
    )
    return Band(energy, (_median(lattice.ravel()) / 0.6745) ** 2, half)


@lru_cache(maxsize=16)
def gaussian_taps(sigma_px: float) -> NDArray[np.float32]:
    """Weights of the middle pixel and of those beside it, out to 2.6 sigma and at least four pixels.

    Parameters
    ----------
    sigma_px : float
        Width of the Gaussian.

    Returns
    -------
    (reach + 1,) float32
        From the middle outwards; what lies beyond 2.6 sigma is 0. All of them sum to 1.
    """
    reach = int(np.ceil(2.6 * sigma_px))
    taps = np.zeros(max(reach, _AT_ONCE) + 1, np.float32)
    taps[: reach + 1] = cv2.getGaussianKernel(2 * reach + 1, sigma_px, cv2.CV_64F).ravel()[reach:]
    taps.flags.writeable = False
    return taps


@lru_cache(maxsize=16)
def laplacian_noise_gain(sigma_px: float) -> float:
    """Factor from the standard deviation of white noise to that of its smoothed Laplacian."""
    taps = gaussian_taps(sigma_px).astype(np.float64)
    row = np.concatenate([taps[:0:-1], taps])
    smooth = np.pad(np.outer(row, row), 2)
    beside = smooth[:-2, 1:-1] + smooth[2:, 1:-1] + smooth[1:-1, :-2] + smooth[1:-1, 2:]
    return float(np.linalg.norm(beside - 4 * smooth[1:-1, 1:-1]))


def _mirrored(n: int, margin: int) -> NDArray[np.int64]:
    """Indices of 0..n-1 with a margin on both sides, mirrored without the outermost ones."""
    period = 2 * (n - 1)
    return np.abs((np.arange(-margin, n + margin) + n - 1) % period - (n - 1))


def _median(values: NDArray[np.float32]) -> float:
    """The median; numpy's own looks for NaN as well, at twice the time."""
    middle = values.size // 2
    parted = np.partition(values, middle)
    above = float(parted[middle])
    return above if values.size % 2 else (above + float(parted[:middle].max())) / 2


@compiled
def _band(  # noqa: PLR0912, PLR0915, PLR0917 - compiled functions call no others
    image: NDArray[np.generic],
    mirror: tuple[NDArray[np.int64], NDArray[np.int64]],
    taps: NDArray[np.float32],
    scale: np.float32,
    block: int,
    energy: NDArray[np.float32],
    lattice: NDArray[np.float32],
    half: NDArray[np.float32],
) -> None:
    """Row by row: smooth along x, along y, take the Laplacian, sum its squares.

    ``mirror`` gives for each row, from ``reach + 1`` above the image on, and for each column, from ``reach`` left of it
    on, the one that is read.
    """
    width = image.shape[1]
    reach = taps.size - 1
    n_ring = 2 * reach + 1
    t0, t1, t2, t3, t4 = taps[0], taps[1], taps[2], taps[3], taps[4]
    rows, columns = mirror
    padded = np.empty(width + 2 * reach, np.float32)
    ring = np.empty((n_ring, width), np.float32)
    smooth = np.empty((3, width + 2), np.float32)
    squares = np.zeros(width, np.float32)
    middle = block // 2
    for k in range(rows.size):  # row k - reach - 1 of the image
        source, inner = image[rows[k]], padded[reach : reach + width]
        for x in range(inner.size):
            inner[x] = source[x]
        for x in range(reach):
            padded[x] = source[columns[x]]
            padded[reach + width + x] = source[columns[reach + width + x]]
        along = ring[k % n_ring]
        l1, r1 = padded[reach - 1 : reach - 1 + width], padded[reach + 1 : reach + 1 + width]
        l2, r2 = padded[reach - 2 : reach - 2 + width], padded[reach + 2 : reach + 2 + width]
        l3, r3 = padded[reach - 3 : reach - 3 + width], padded[reach + 3 : reach + 3 + width]
        l4, r4 = padded[reach - 4 : reach - 4 + width], padded[reach + 4 : reach + 4 + width]
        for x in range(along.size):
            near = (t0 * inner[x] + t1 * (l1[x] + r1[x])) + (t2 * (l2[x] + r2[x]) + t3 * (l3[x] + r3[x]))
            along[x] = near + t4 * (l4[x] + r4[x])
        for i in range(5, reach + 1):
            tap, left, right = taps[i], padded[reach - i : reach - i + width], padded[reach + i : reach + i + width]
            for x in range(along.size):
                along[x] += tap * (left[x] + right[x])
        if k < 2 * reach:
            continue
        # The row that all neighbours along y are there for now, with a pixel more on both sides.
        here, whole = k - reach, smooth[k % 3]
        across, centre = whole[1 : 1 + width], ring[here % n_ring]
        l1, r1 = ring[(here - 1) % n_ring], ring[(here + 1) % n_ring]
        l2, r2 = ring[(here - 2) % n_ring], ring[(here + 2) % n_ring]
        l3, r3 = ring[(here - 3) % n_ring], ring[(here + 3) % n_ring]
        l4, r4 = ring[(here - 4) % n_ring], ring[(here + 4) % n_ring]
        for x in range(across.size):
            near = (t0 * centre[x] + t1 * (l1[x] + r1[x])) + (t2 * (l2[x] + r2[x]) + t3 * (l3[x] + r3[x]))
            across[x] = near + t4 * (l4[x] + r4[x])
        for i in range(5, reach + 1):
            tap, left, right = taps[i], ring[(here - i) % n_ring], ring[(here + i) % n_ring]
            for x in range(across.size):
                across[x] += tap * (left[x] + right[x])
        whole[0], whole[width + 1] = whole[2], whole[width - 1]
        y = k - 2 * reach - 2
        if y < 0:
            continue
        up, row, down = smooth[(k - 2) % 3], smooth[(k - 1) % 3], smooth[k % 3]
        if y % 2 == 0 and y // 2 < half.shape[0]:
            to = half[y // 2]
            for x in range(to.size):
                pair = (row[2 * x + 1] + row[2 * x + 2]) + (down[2 * x + 1] + down[2 * x + 2])
                to[x] = np.float32(0.25) * pair
        if y // block >= energy.shape[0]:
            continue
        above, below, left, right = up[1 : 1 + width], down[1 : 1 + width], row[:width], row[2 : 2 + width]
        centre = row[1 : 1 + width]
        if y % block == middle:
            marks = lattice[y // block]
            for b in range(marks.size):
                x = b * block + middle
                beside = (above[x] + below[x]) + (left[x] + right[x])
                marks[b] = abs((beside - np.float32(4) * centre[x]) * scale)
        for x in range(squares.size):
            value = ((above[x] + below[x]) + (left[x] + right[x]) - np.float32(4) * centre[x]) * scale
            squares[x] += value * value
        if y % block == block - 1:
            to = energy[y // block]
            for b in range(to.size):
                total = np.float32(0)
                for x in range(b * block, (b + 1) * block):
                    total += squares[x]
                to[b] = total / np.float32(block * block)
            squares[:] = 0
