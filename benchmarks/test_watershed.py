"""Watershed of a 1024 x 1024 cell probability: scikit-image's heap against the same heap packed, and against queues."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label
from skimage.segmentation import watershed as sk_watershed

from phagostat.kernels.watershed import cell_instances, watershed

PIXEL_UM = 0.206


@pytest.fixture(scope="module")
def probability() -> NDArray[np.uint8]:
    """Like a network's map: 45 % foreground, two fifths of it nearly certain."""
    random = np.random.default_rng(1)
    field = gaussian_filter(random.normal(size=(1024, 1024)), 18)
    field /= field.std()
    noise = gaussian_filter(random.normal(size=field.shape), 1)
    return np.rint(255 / (1 + np.exp(-3 * (field - 0.1) - 0.5 * noise))).astype(np.uint8)


@pytest.fixture(scope="module")
def seeds(probability: NDArray[np.uint8]) -> NDArray[np.int32]:
    labels: NDArray[np.int32] = label(probability > 229, np.ones((3, 3)))[0]
    return labels


@pytest.mark.benchmark(group="watershed")
class TestWatershed:
    def test_scikit_image(self, benchmark: Any, probability: NDArray[np.uint8], seeds: NDArray[np.int32]) -> None:
        benchmark(sk_watershed, -probability.astype(np.int16), seeds, connectivity=2, mask=probability > 127)

    def test_heap(self, benchmark: Any, probability: NDArray[np.uint8], seeds: NDArray[np.int32]) -> None:
        watershed(probability, seeds, ties="heap")
        found = benchmark(watershed, probability, seeds, ties="heap")
        expected = sk_watershed(-probability.astype(np.int16), seeds, connectivity=2, mask=probability > 127)
        np.testing.assert_array_equal(found, expected)

    def test_queues(self, benchmark: Any, probability: NDArray[np.uint8], seeds: NDArray[np.int32]) -> None:
        watershed(probability, seeds)
        found = benchmark(watershed, probability, seeds)
        expected = sk_watershed(-probability.astype(np.int16), seeds, connectivity=2, mask=probability > 127)
        benchmark.extra_info["differing_px"] = int(np.count_nonzero(found != expected))
        assert np.mean(found != expected) < 1e-3

    def test_instances(self, benchmark: Any, probability: NDArray[np.uint8], seeds: NDArray[np.int32]) -> None:
        """Queues, and cells that no seed of the window stands for."""
        fewer = np.where(seeds % 8 == 0, 0, seeds)
        cells = benchmark(cell_instances, probability, fewer, pixel_size_um=PIXEL_UM, min_seed_area_um2=42.4)
        assert cells.incoherent.any()
