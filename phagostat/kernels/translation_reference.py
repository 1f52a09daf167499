"""What a reference frame is boiled down to before frames are registered against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_blocks import BlockReference, prepare_blocks
from phagostat.kernels.translation_coarse import CoarseFrame, coarse_frame
from phagostat.kernels.translation_filters import (
    KERNEL_RADIUS_PX,
    SMOOTHING_SIGMA_PX,
    TEMPLATE_SIGMA_PX,
    Float32,
    Float64,
    area_reduced,
    gaussian_taps,
    gradient,
    noise_gradient_energy,
    noise_sd,
    relative_noise_precision,
    smooth,
    squared_gradient,
)
from phagostat.kernels.translation_glass import GlassReference, prepare_glass_reference
from phagostat.kernels.translation_loops import LANE_PX

_SUPPORT_TO_NOISE = 8.0
_SUPPORT_MARGIN_PX = 5
_FEWEST_PIXELS = 60
_MIN_GRADIENT_TO_NOISE = 1.5


@dataclass(frozen=True)
class TranslationReference:
    """A reference frame prepared for registration; holds numpy arrays and numbers only, so it can be pickled.

    Parameters
    ----------
    frame
        The frame itself, (y, x), uint8 or uint16, native pixels.
    coarse
        The reduced, high-passed frame for the search.
    tile_px
        Side of a tile in native pixels.
    tile_origin_yx_px
        (n, 2) int, upper left corner of each tile, strongest tile first.
    patterns
        (n, 3, tile_px, width) float32, rows filled up by 0: the smoothed tile without mean and plane, then its
        derivatives along y and x, orthogonal to mean, plane and to the tile itself; all 0 where `weight` is.
    weight
        (n, tile_px, width) float32: 0 where the tile shows background, elsewhere the inverse of the noise's sd
        relative to the background's; templates are made of weighted pixels and meet weighted pixels.
    n_pixels
        (n,) number of pixels with a weight.
    pattern_energy
        (n,) sum of squares of the tile's own pattern.
    response_inverse
        (n, 2, 2): gives the displacement from the projections on the derivatives (for a gain of 1, with a minus).
    vote_pattern
        (n, side, side) float32: the whole smoothed tile without its mean, reduced for the vote.
    unit_covariance_px2
        (n, 2, 2) covariance of a tile's displacement for residuals of variance 1 and a gain of 1, the noise being
        white before smoothing.
    blocks
        The blocks of pixels that settle the last hundredths of a pixel.
    """

    frame: NDArray[np.uint8] | NDArray[np.uint16]
    coarse: CoarseFrame
    tile_px: int
    tile_origin_yx_px: NDArray[np.int64]
    patterns: Float32
    weight: Float32
    n_pixels: Float64
    pattern_energy: Float64
    response_inverse: Float64
    unit_covariance_px2: Float64
    vote_pattern: Float32
    blocks: BlockReference

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in native pixels."""
        return int(self.frame.shape[0]), int(self.frame.shape[1])

    @cached_property
    def glass(self) -> GlassReference:
        """What is fixed on the glass, for frames in which cells move; made when it is first asked for."""
        return prepare_glass_reference(self.frame)

    @property
    def n_tiles(self) -> int:
        """Number of tiles that carry enough structure to be located."""
        return len(self.tile_origin_yx_px)


def vote_reduction(coarse_reduction: int) -> int:
    """Give the reduction at which tiles vote: 2 where the coarse grid is much coarser than a pixel, else 1."""
    return 2 if coarse_reduction >= 4 else 1


def default_tile_px(shape_yx: tuple[int, int]) -> int:
    """Choose the side of a tile by the size of the field, so that a small field still has several tiles."""
    side = min(shape_yx)
    return 56 if side >= 2048 else 48 if side >= 1024 else 40 if side >= 512 else 32 if side >= 256 else 24


def prepare_reference(
    frame: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    tile_px: int | None = None,
    max_tiles: int = 96,
    search_radius_px: float = 400.0,
) -> TranslationReference:
    """Prepare a reference frame once, to estimate the shifts of many frames against it.

    Parameters
    ----------
    frame
        (y, x) image, uint8 or uint16, native pixels; for aggregates the fluorescent channel.
    tile_px
        Side of a tile in native pixels, a multiple of 2; chosen by the size of the field if None (24 to 56).
    max_tiles
        Number of tiles to keep. More than are used for one frame, since a shift moves some out of the field.
    search_radius_px
        Largest shift per axis that is searched for; only the padding of the stored spectrum depends on it.

    Returns
    -------
    TranslationReference
        With no tiles where the frame has no structure: every estimate against it is then a stated failure.

    Raises
    ------
    ValueError
        If `frame` is not a (y, x) image of uint8 or uint16.

    Notes
    -----
    Tiles are centred on maxima of the gradient energy under a Gaussian window and do not overlap, so that they are
    independent witnesses. Within a tile only what has structure counts. A tile is kept where its gradient energy is
    well above that of the camera noise (noise after Immerkaer [1]_, as a median, so that structure does not count as
    noise).

    References
    ----------
    .. [1] J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64 (1996) 300-302,
       :DOI:`10.1006/cviu.1996.0060`
    """
    check_frame(frame, name="reference")
    shape = int(frame.shape[0]), int(frame.shape[1])
    side = default_tile_px(shape) if tile_px is None else int(tile_px)
    if side < 8 or side % 2:
        msg = f"tile_px must be an even number of at least 8 (found {side})"
        raise ValueError(msg)
    image = frame.astype(np.float32)
    noise_counts = noise_sd(image)
    # hot pixels are no landmarks: they stay where they are while the field moves
    calm = cv2.medianBlur(frame, 3).astype(np.float32)
    origins = _tile_origins(
        squared_gradient(calm, SMOOTHING_SIGMA_PX),
        noise=noise_gradient_energy(noise_counts, SMOOTHING_SIGMA_PX),
        tile_px=side,
        max_tiles=max_tiles,
    )
    energy = squared_gradient(calm, TEMPLATE_SIGMA_PX)
    weight = _support(energy, noise_counts) * relative_noise_precision(image)
    near = (smooth(image, SMOOTHING_SIGMA_PX).astype(np.float32), *gradient(image, SMOOTHING_SIGMA_PX))
    far = gradient(image, TEMPLATE_SIGMA_PX)
    tiles = np.stack([_cut(layer, origins, side) for layer in (weight, *near, *far)], axis=1)
    usable = np.count_nonzero(tiles[:, 0], axis=1) >= _FEWEST_PIXELS
    tiles, origins = tiles[usable], origins[usable]
    pattern, steepest, response = _steepest_patterns(tiles, side)
    usable = np.abs(np.linalg.det(response)) > 1e-9 * np.maximum(np.trace(response, axis1=1, axis2=2), 1e-12) ** 2
    tiles, origins = tiles[usable], origins[usable]
    pattern, steepest, inverse = pattern[usable], steepest[usable], np.linalg.inv(response[usable])
    # white noise that was smoothed is correlated: its variance along a pattern is that of the pattern smoothed again
    again = np.zeros((len(origins), 2, side * side))
    for i, pair in enumerate(steepest.reshape(-1, 2, side, side)):
        for axis in range(2):
            again[i, axis] = smooth(pair[axis], SMOOTHING_SIGMA_PX, border=cv2.BORDER_CONSTANT).ravel()
    smoothed_noise_variance = float((gaussian_taps(0.0) ** 2).sum() ** 2)
    projected = np.einsum("nip,njp->nij", again, again) / smoothed_noise_variance
    whole = tiles[:, 1] - tiles[:, 1].mean(axis=1, keepdims=True)
    coarse = coarse_frame(frame, search_radius_px=search_radius_px)
    step = vote_reduction(coarse.reduction)
    tall = whole.astype(np.float32).reshape(len(origins) * side, side)
    return TranslationReference(
        frame=frame,
        coarse=coarse,
        tile_px=side,
        tile_origin_yx_px=origins,
        patterns=_filled_up(np.concatenate([pattern[:, None], steepest], axis=1).reshape(-1, 3, side, side)),
        weight=_filled_up(tiles[:, 0].reshape(-1, side, side)),
        n_pixels=np.count_nonzero(tiles[:, 0], axis=1).astype(np.float64),
        pattern_energy=np.einsum("np,np->n", pattern, pattern),
        response_inverse=inverse,
        unit_covariance_px2=np.einsum("nij,njk,nlk->nil", inverse, projected, inverse),
        vote_pattern=area_reduced(tall, step).reshape(len(origins), side // step, side // step),
        blocks=prepare_blocks(image, calm, energy, noise_counts=noise_counts),
    )


def _filled_up(rows: Float64) -> Float32:
    """Rows, the last axis, filled up by 0 to a multiple of what the compiled loops want."""
    missing = -rows.shape[-1] % LANE_PX
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)]).astype(np.float32)


def check_frame(frame: NDArray[np.generic], *, name: str) -> None:
    """Raise ValueError unless `frame` is a (y, x) image of uint8 or uint16 that is large enough for tiles."""
    if frame.ndim != 2 or frame.dtype not in (np.uint8, np.uint16):
        msg = f"{name} must be a (y, x) image of uint8 or uint16 (found shape {frame.shape}, {frame.dtype})"
        raise ValueError(msg)
    if min(frame.shape) < 64:
        msg = f"{name} must have at least 64 pixels along each axis (found shape {frame.shape})"
        raise ValueError(msg)


def _support(energy: Float32, noise_counts: float) -> Float32:
    """1 where there is structure, and a little around it; 0 elsewhere.

    Background that is left out adds no noise to a template, and what passes there does not pull at it.
    """
    least = max(_SUPPORT_TO_NOISE * noise_gradient_energy(noise_counts, TEMPLATE_SIGMA_PX), 1e-6)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _SUPPORT_MARGIN_PX + 1,) * 2)
    return np.asarray(cv2.dilate((energy > least).astype(np.uint8), around), np.float32)


def _tile_origins(energy: Float32, *, noise: float, tile_px: int, max_tiles: int) -> NDArray[np.int64]:
    """Corners of disjoint tiles on the maxima of the windowed gradient energy, strongest first."""
    step = 4 if tile_px >= 32 else 2
    height, width = energy.shape
    rows, columns = height // step, width // step
    small = cv2.resize(energy[: rows * step, : columns * step], (columns, rows), interpolation=cv2.INTER_AREA)
    window = cv2.GaussianBlur(small, (0, 0), tile_px / 5 / step, borderType=cv2.BORDER_CONSTANT)
    margin = tile_px // 2 + KERNEL_RADIUS_PX
    centre_y = (np.arange(rows) + 0.5) * step
    centre_x = (np.arange(columns) + 0.5) * step
    window[(centre_y < margin) | (centre_y > height - margin)] = 0
    window[:, (centre_x < margin) | (centre_x > width - margin)] = 0
    reach = -(-tile_px // step)
    least = max(_MIN_GRADIENT_TO_NOISE * noise, 1e-6)
    origins: list[tuple[int, int]] = []
    while len(origins) < max_tiles:
        row, column = divmod(int(np.argmax(window)), columns)
        if window[row, column] <= least:
            break
        window[max(0, row - reach + 1) : row + reach, max(0, column - reach + 1) : column + reach] = 0
        top = min(max(int(centre_y[row]) - tile_px // 2, KERNEL_RADIUS_PX), height - tile_px - KERNEL_RADIUS_PX)
        left = min(max(int(centre_x[column]) - tile_px // 2, KERNEL_RADIUS_PX), width - tile_px - KERNEL_RADIUS_PX)
        origins.append((top, left))
    return np.array(origins, np.int64).reshape(-1, 2)


def _cut(image: Float32, origins: NDArray[np.int64], side: int) -> Float64:
    """(n, side**2) tiles of `image`."""
    tiles = [image[top : top + side, left : left + side].ravel() for top, left in origins]
    return np.array(tiles, np.float64).reshape(len(origins), side * side)


def _steepest_patterns(tiles: Float64, side: int) -> tuple[Float64, Float64, Float64]:
    """Make templates for gain and displacement from (n, 6, side**2) layers.

    The layers are: weight, smoothed tile, its two derivatives, and the derivatives of the tile smoothed more widely.
    The latter, weighted and orthogonal to mean, plane and tile, are the templates for the displacement; what a
    displacement of 1 px adds to their projections is the response, (n, 2, 2).
    """
    line = np.linspace(-1, 1, side)
    plane = np.stack([np.ones((side, side)), *np.broadcast_arrays(line[:, None], line[None, :])]).reshape(3, -1)
    n = len(tiles)
    pattern, steepest = np.zeros((n, side * side)), np.zeros((n, 2, side * side))
    for i, (weight, tile, _, _, *wide) in enumerate(tiles):
        inside = weight > 0
        strength = weight[inside]
        basis, _ = np.linalg.qr((strength * plane[:, inside]).T)
        own = strength * tile[inside]
        own -= basis @ (basis.T @ own)
        pattern[i, inside] = own
        own = own / max(float(np.linalg.norm(own)), 1e-12)
        for axis in range(2):
            template = strength * wide[axis][inside]
            template -= basis @ (basis.T @ template)
            steepest[i, axis, inside] = template - own * (own @ template)
    response = np.einsum("nip,njp->nij", steepest, tiles[:, :1] * tiles[:, 2:4])
    return pattern, steepest, response
