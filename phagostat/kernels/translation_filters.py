"""Small filters that the reference, its tiles and its blocks share."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation_loops import TILE_MARGIN_PX

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SMOOTHING_SIGMA_PX = 1.0
"""Both frames are compared after a Gaussian of this sigma: a sampled Gaussian moved by a fraction of a pixel is an
interpolator without visible error from sigma 1 px on (its response at the first alias of half the Nyquist frequency
is 1e-5), and it costs little precision, since an optical point spread function is no narrower."""

KERNEL_RADIUS_PX = TILE_MARGIN_PX
"""Radius of the sampled Gaussian: more than 4 sigma are left when it is moved by 0.7 px."""

TEMPLATE_SIGMA_PX = 1.4
"""Templates for displacements are smoothed a little more, since they carry the reference's own noise."""

_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def gaussian_taps(
    offset_px: float, *, sigma_px: float = SMOOTHING_SIGMA_PX, radius_px: int = KERNEL_RADIUS_PX
) -> Float64:
    """Sample the smoothing Gaussian, moved by `offset_px`, at -`radius_px` .. `radius_px`, with sum 1."""
    j = np.arange(-radius_px, radius_px + 1)
    gauss = np.exp(-((j - offset_px) ** 2) / (2 * sigma_px**2))
    return np.asarray(gauss / gauss.sum())


def taps(sigma_px: float) -> tuple[Float64, Float64]:
    """Gaussian with sum 1, and its derivative for correlation: a ramp of slope 1 gives 1."""
    radius = int(np.ceil(5 * sigma_px))
    j = np.arange(-radius, radius + 1)
    gauss = np.exp(-(j**2) / (2 * sigma_px**2))
    gauss /= gauss.sum()
    slope = j * gauss
    return gauss, slope / (slope @ j)


def smooth(image: NDArray[np.floating[Any]], sigma_px: float, *, border: int = cv2.BORDER_REFLECT_101) -> Float64:
    """Smooth by a sampled Gaussian; the type of `image` is kept."""
    gauss, _ = taps(sigma_px)
    return np.asarray(cv2.sepFilter2D(image, -1, gauss, gauss, borderType=border))


def gradient(image: Float32, sigma_px: float) -> tuple[Float32, Float32]:
    """Derivatives of the smoothed image along y and x."""
    gauss, slope = taps(sigma_px)
    along_y = cv2.sepFilter2D(image, cv2.CV_32F, gauss, slope, borderType=cv2.BORDER_REFLECT_101)
    along_x = cv2.sepFilter2D(image, cv2.CV_32F, slope, gauss, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(along_y, np.float32), np.asarray(along_x, np.float32)


def squared_gradient(image: Float32, sigma_px: float) -> Float32:
    """Squared length of the smoothed image's gradient."""
    along_y, along_x = gradient(image, sigma_px)
    return along_y**2 + along_x**2


def area_reduced(image: Float32, factor: int) -> Float32:
    """Average blocks of `factor` x `factor` pixels; the sides must be multiples of it."""
    if factor == 1 or image.size == 0:
        return image
    size = (image.shape[1] // factor, image.shape[0] // factor)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def middle(values: NDArray[np.floating[Any]], *, share: float = 0.5) -> float:
    """Give the value that this share of all others lies below: the upper median, without numpy's search for NaN."""
    place = int(share * values.size)
    return float(np.partition(values, place, axis=None)[place])


def noise_sd(image: Float32, *, every: int = 1) -> float:
    """Sd of the camera noise of the background: the median of a mask's response that structure hardly has [1]_.

    The median is taken of each `every`-th pixel along both axes.

    References
    ----------
    .. [1] J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64 (1996) 300-302,
       :DOI:`10.1006/cviu.1996.0060`
    """
    response = cv2.filter2D(image, cv2.CV_32F, _LAPLACIAN, borderType=cv2.BORDER_REFLECT_101)
    return middle(np.abs(response[::every, ::every])) / 0.6745 / 6.0


def noise_gradient_energy(noise_sd_counts: float, sigma_px: float) -> float:
    """Squared gradient that camera noise alone has after smoothing."""
    gauss, slope = taps(sigma_px)
    return 2.0 * noise_sd_counts**2 * float((gauss**2).sum() * (slope**2).sum())


def relative_noise_precision(image: Float32) -> Float32:
    """Inverse sd of the noise relative to the background's, as if all of it were shot noise.

    This also makes little of saturated plateaus, which have no gradient but the camera's.
    """
    bright = np.asarray(smooth(image, TEMPLATE_SIGMA_PX), np.float32)
    background = max(float(np.median(bright[::4, ::4])), 1.0)
    return np.asarray(np.sqrt(background / np.maximum(bright, background)), np.float32)


def cut_around(
    moving: NDArray[np.uint8] | NDArray[np.uint16] | Float32, corner: NDArray[np.int64], *, side: int, margin: int
) -> Float32:
    """(n, side + 2 * margin, side + 2 * margin) float32 patches; beyond the field its last rows are repeated."""
    full = side + 2 * margin
    stack = np.empty((len(corner), full, full), np.float32)
    height, width = moving.shape
    for patch, (top, left) in zip(stack, (corner - margin).tolist(), strict=True):
        if top >= 0 and left >= 0 and top + full <= height and left + full <= width:
            patch[...] = moving[top : top + full, left : left + full]
        else:
            rows = np.arange(top, top + full).clip(0, height - 1)
            patch[...] = moving[np.ix_(rows, np.arange(left, left + full).clip(0, width - 1))]
    return stack


def moved_patches(
    patches: Float32,
    fraction_px: Float64,
    *,
    sigma_px: float = SMOOTHING_SIGMA_PX,
    margin: int = KERNEL_RADIUS_PX,
) -> Float32:
    """Smooth the patches and read them `fraction_px` further, without their margin; (n, side**2)."""
    n, full, _ = patches.shape
    taps_y, taps_x = (gaussian_taps(float(f), sigma_px=sigma_px, radius_px=margin) for f in fraction_px)
    # one broad image of all tiles side by side, which is filtered faster than tile by tile: columns next to a seam
    # mix two tiles, and are the margin that is cut off
    broad = np.ascontiguousarray(patches.transpose(1, 0, 2)).reshape(full, n * full)
    smoothed = cv2.sepFilter2D(broad, cv2.CV_32F, taps_x, taps_y).reshape(full, n, full)
    inner = smoothed[margin:-margin, :, margin:-margin]
    return np.ascontiguousarray(inner.transpose(1, 0, 2)).reshape(n, -1)
