"""The last hundredths of a pixel: all structured pixels at once, each small block of them trusted or not.

Tiles find the shift even where half of them are wrong, but a tile is right or wrong as a whole: one that a cell has
bitten into still pulls a little, or is lost with all that is left of it. Here squares of 32 px are modelled as

    moving(x + t + d) = (g + g_i + u . x) * reference(x) + b_i + v_i . x - g * (d . gradient) + s * laplacian

with one displacement ``d``, one change of focus ``s`` and one tilt ``u`` of the gain for all (the lamp stays where it
is when the stage moves), and a small change of gain ``g_i``, an offset ``b_i`` and a slope ``v_i`` of the background
for each square: it fades less than what lies on it, and 1 count per px would pull an aggregate by hundredths of a
pixel. The residuals of every block of 4 x 4 px, and what neighbouring blocks pull together, decide, against the noise
of the two frames, how much a block counts (:mod:`phagostat.kernels.translation_solution`). All sums are kept per
block, so that a round of re-weighting touches no pixel.
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
    gaussian_taps,
    gradient,
    middle,
    noise_gradient_energy,
    noise_sd,
    smooth,
)
from phagostat.kernels.translation_loops import BLOCK_PX, MARGIN_PX, SQUARE_PX, sum_residuals
from phagostat.kernels.translation_solution import FOCUS_SIGMA_PX, BlockSums, solve_blocks

_SIGMA_PX = TEMPLATE_SIGMA_PX  # more than for tiles: what is left of the reference's noise in its slopes counts here
_MAX_SQUARES = 144
_LEAST_NOISE_COUNTS = 0.29  # rounding to whole counts
_HOT_SHARE = 0.5
_PASSES = 3
_LINEAR_PX = 0.05
_NOISE_SQUARES = 8
_MAX_STEP_PX = 0.3
_LEAST_SHARE = 0.05


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
        (n, SQUARE_PX, SQUARE_PX) float32: smoothed frame less its background.
    weighted
        (n, 5, SQUARE_PX, SQUARE_PX) float32: the regressors times ``w``.
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
    rows, columns = ((side - 2 * MARGIN_PX) // SQUARE_PX for side in image.shape)
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
        pattern=np.ascontiguousarray(regressors[:, 1]).reshape(-1, SQUARE_PX, SQUARE_PX),
        weighted=weighted.reshape(-1, 5, SQUARE_PX, SQUARE_PX),
        products=block_sums(np.stack(pairs, axis=1)),
        structured=information >= (np.quantile(information, 0.95) if information.size else 0),
        information=information,
        noise_counts=noise,
    )


def _regressors(
    image: Float32, calm: Float32, origins: NDArray[np.int64], *, background: float, noise: float
) -> tuple[Float32, Float32]:
    """(n, 5, SQUARE_PX**2) regressors and (n, SQUARE_PX**2) inverse variances of the noise, 0 beside hot pixels."""
    margin = int(np.ceil(5 * FOCUS_SIGMA_PX)) + 1
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
        weight[cv2.dilate(hot.astype(np.uint8), np.ones((2 * MARGIN_PX + 1,) * 2)) > 0] = 0
    focus = cv2.Laplacian(np.asarray(smooth(tall, FOCUS_SIGMA_PX), np.float32), cv2.CV_32F)
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
    few = slice(None, None, -(-len(chosen) // _NOISE_SQUARES))
    patches = cut_around(moving, corner[chosen[few]], side=SQUARE_PX, margin=MARGIN_PX)
    # variance of a residual relative to the reference's noise: that of the frame, and the reference's times gain
    own = max(noise_sd(patches.reshape(-1, patches.shape[-1]), every=2), _LEAST_NOISE_COUNTS)
    expected = (own**2 + (gain * reference.noise_counts) ** 2) / reference.noise_counts**2
    # without a copy where no square has left the field
    kept = slice(None) if len(chosen) == len(inside) else chosen
    products = reference.products[kept]
    blocks = BlockSums(
        features=np.empty((len(products), 21, products.shape[-1]), np.float32),
        there=inside[kept] & (products[:, 0] > 0),
        structured=reference.structured[kept],
        information=reference.information[kept],
        place=(corner[chosen] + SQUARE_PX / 2 - np.array(moving.shape) / 2) / (max(moving.shape) / 2),
        unit=SQUARE_PX / max(moving.shape),
    )
    blocks.features[:, :15] = products
    known = max(float(reference.information.sum()), 1e-30)
    shift, solution = shift_yx_px, None
    # what is left is small beside the counts: each square has an offset of its own, this one is for the sums' sake
    inner = patches[:, MARGIN_PX:-MARGIN_PX:4, MARGIN_PX:-MARGIN_PX:4]
    offset = np.float32(middle(inner) - gain * middle(reference.pattern[chosen[few], ::4, ::4]))
    for _ in range(_PASSES):
        taps_y, taps_x = (
            gaussian_taps(float(f), sigma_px=_SIGMA_PX, radius_px=MARGIN_PX).astype(np.float32) for f in shift - whole
        )
        sum_residuals(
            moving,
            corner[chosen],
            chosen,
            taps_y,
            taps_x,
            reference.pattern,
            np.float32(gain),
            offset,
            reference.weighted,
            blocks.features,
        )
        found = solve_blocks(blocks, gain=gain, expected=expected)
        if found is None or found.information < _LEAST_SHARE * known:
            return None
        shift, gain = shift + found.displacement_px, found.gain
        if not np.abs(shift - shift_yx_px).max() <= _MAX_STEP_PX:
            return None
        solution = BlockSolution(shift, found.covariance_px2, found.information / known)
        # the model is linear in the displacement: what is left of a small one needs no second look
        if np.abs(found.displacement_px).max() < _LINEAR_PX:
            break
    return solution


def _blocks_inside(corner: NDArray[np.int64], shape_yx: tuple[int, ...]) -> NDArray[np.bool_]:
    """(n, blocks) whether a block lies in the field, with the margin that smoothing needs."""
    offsets = np.arange(0, SQUARE_PX, BLOCK_PX)
    rows, columns = (
        (corner[:, axis, None] + offsets >= MARGIN_PX)
        & (corner[:, axis, None] + offsets <= shape_yx[axis] - BLOCK_PX - MARGIN_PX)
        for axis in range(2)
    )
    return np.asarray((rows[:, :, None] & columns[:, None, :]).reshape(len(corner), len(offsets) ** 2))
