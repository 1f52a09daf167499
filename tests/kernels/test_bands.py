"""The band kernel against plain filters in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from phagostat.kernels.bands import gaussian_taps, laplacian_band, laplacian_noise_gain


def _mirrored_filter(image: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    reach = int(np.ceil(2.6 * sigma_px))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    weights /= weights.sum()
    return convolve1d(convolve1d(image, weights, axis=0, mode="mirror"), weights, axis=1, mode="mirror")


def _laplacian(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return sum(convolve1d(image, [1.0, -2.0, 1.0], axis=axis, mode="mirror") for axis in (0, 1))


def _block_means(image: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    n_y, n_x = image.shape[0] // block, image.shape[1] // block
    return image[: n_y * block, : n_x * block].reshape(n_y, block, n_x, block).mean(axis=(1, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(24, 24), (67, 41), (32, 131)])
@pytest.mark.parametrize(("sigma_px", "block"), [(0.7, 8), (1.27, 4), (1.5, 8), (4.0, 5), (12.0, 8)])
def test_agrees_with_plain_filters(
    dtype: type[np.generic], shape: tuple[int, int], sigma_px: float, block: int
) -> None:
    image = np.random.default_rng(5).integers(0, 250, shape).astype(dtype)
    found = laplacian_band(image, sigma_px=sigma_px, block_px=block, scale=0.5, halve=True)
    smooth = _mirrored_filter(image.astype(np.float64), sigma_px)
    band = 0.5 * _laplacian(smooth)
    lattice = np.abs(band[block // 2 :: block, block // 2 :: block][: shape[0] // block, : shape[1] // block])
    # smoothing so widely leaves little more of a band than what single precision drops
    np.testing.assert_allclose(found.energy, _block_means(band**2, block), rtol=1e-3, atol=2e-6)
    assert found.noise_variance == pytest.approx((np.median(lattice) / 0.6745) ** 2, rel=5e-3, abs=2e-6)
    np.testing.assert_allclose(found.half, _block_means(smooth, 2), rtol=1e-5)


def test_reads_strided_frames_alike() -> None:
    image = np.random.default_rng(6).integers(0, 4000, (80, 96)).astype(np.uint16)
    there = laplacian_band(image[5:69, 7:90], sigma_px=1.5, block_px=8)
    copied = laplacian_band(image[5:69, 7:90].copy(), sigma_px=1.5, block_px=8)
    np.testing.assert_array_equal(there.energy, copied.energy)
    assert there.noise_variance == copied.noise_variance
    assert there.half.size == 0


@pytest.mark.parametrize("sigma_px", [0.7, 1.5, 3.0])
def test_noise_gain_is_that_of_white_noise(sigma_px: float) -> None:
    noise = np.random.default_rng(7).normal(0, 1, (600, 600)).astype(np.float32)
    found = laplacian_band(noise, sigma_px=sigma_px, block_px=600)
    assert np.sqrt(found.energy[0, 0]) == pytest.approx(laplacian_noise_gain(sigma_px), rel=0.02)


@pytest.mark.parametrize("sigma_px", [0.4, 1.5, 6.0])
def test_taps_sum_to_one(sigma_px: float) -> None:
    taps = gaussian_taps(sigma_px)
    assert taps[0] + 2 * taps[1:].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("shape", [(7, 40), (40, 1)])
def test_an_image_without_a_block_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no block"):
        laplacian_band(np.zeros(shape, np.float32), sigma_px=1.0, block_px=8)
