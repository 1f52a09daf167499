"""Camera counts to 8 bit, 2048 x 2048: the published way against tables with its bytes and against area averaging.

The baselines make the published pipeline's library calls in its order (scikit-image's rescale_intensity, img_as_ubyte,
match_histograms; Pillow's bicubic resize); that the tables give the same bytes is asserted in the same run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.exposure import match_histograms, rescale_intensity
from skimage.util import img_as_ubyte

from phagostat.kernels.intensity import intensity_histogram, intensity_statistics, percentiles
from phagostat.kernels.normalisation import (
    apply_table,
    gaussian_template,
    match_to_gaussian,
    normalise_aggregates,
    normalise_cells,
    stretch_table,
)
from phagostat.kernels.reference import cell_reference

Frame = NDArray[np.uint16]
SIZE = 2048
HALF = (SIZE // 2, SIZE // 2)


@pytest.fixture(scope="module")
def aggregates() -> Frame:
    random = np.random.default_rng(0)
    spots = np.zeros((SIZE, SIZE), np.float32)
    spots.ravel()[random.choice(SIZE * SIZE, 400, replace=False)] = random.uniform(2e5, 2e6, 400)
    image = 500 + gaussian_filter(spots, 4.0) + random.normal(0, 30, spots.shape)
    return np.rint(image).clip(0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def cells() -> Frame:
    random = np.random.default_rng(1)
    texture = gaussian_filter(random.standard_normal((SIZE, SIZE)).astype(np.float32), 3.0)
    return np.rint(9000 + 15000 * texture + random.normal(0, 60, texture.shape)).clip(0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def template() -> NDArray[np.uint8]:
    return np.repeat(np.arange(256), gaussian_template()).astype(np.uint8).reshape(1024, 1024)


def published_aggregates(frame: Frame, low: float, high: float) -> NDArray[np.uint8]:
    rescaled = rescale_intensity(frame, in_range=(low, high), out_range=np.uint16)
    return img_as_ubyte(rescaled)


def published_cells(frame: Frame, reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rescaled = img_as_ubyte(rescale_intensity(frame, out_range=np.uint16))
    return match_histograms(rescaled, reference).astype(np.uint8)


def bicubic(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize(HALF, Image.Resampling.BICUBIC))


@pytest.mark.benchmark(group="aggregates to 8 bit")
class TestAggregates:
    def test_published(self, benchmark: Any, aggregates: Frame) -> None:
        low, high = np.percentile(aggregates, q=(0.5, 99.5))
        benchmark(lambda: bicubic(published_aggregates(aggregates, low, high)))

    def test_identical_bytes(self, benchmark: Any, aggregates: Frame) -> None:
        low, high = np.percentile(aggregates, q=(0.5, 99.5))
        table = stretch_table(low, high)
        result = benchmark(lambda: bicubic(apply_table(aggregates, table)))
        np.testing.assert_array_equal(result, bicubic(published_aggregates(aggregates, low, high)))

    def test_area_averaging(self, benchmark: Any, aggregates: Frame) -> None:
        low, high = np.percentile(aggregates, q=(0.5, 99.5))
        table = stretch_table(low, high)
        result = benchmark(normalise_aggregates, aggregates, table=table, factor=2)
        published = bicubic(published_aggregates(aggregates, low, high)).astype(int)
        assert np.abs(result.astype(int) - published).mean() < 2


@pytest.mark.benchmark(group="cells to 8 bit")
class TestCells:
    def test_published(self, benchmark: Any, cells: Frame, template: NDArray[np.uint8]) -> None:
        benchmark(lambda: bicubic(published_cells(cells, template)))

    def test_identical_bytes(self, benchmark: Any, cells: Frame, template: NDArray[np.uint8]) -> None:
        result = benchmark(lambda: bicubic(match_to_gaussian(cells)))
        np.testing.assert_array_equal(result, bicubic(published_cells(cells, template)))

    def test_frozen_table(self, benchmark: Any, cells: Frame) -> None:
        frozen = cell_reference(cells, factor=2, flat_field_sigma_px=97)
        result = benchmark(normalise_cells, cells, table=frozen.table, gain=frozen.gain, factor=2)
        assert result.shape == HALF


@pytest.mark.benchmark(group="percentiles")
class TestPercentiles:
    Q = (0.5, 99.5)

    def test_published(self, benchmark: Any, aggregates: Frame) -> None:
        benchmark(np.percentile, aggregates, self.Q)

    def test_histogram(self, benchmark: Any, aggregates: Frame) -> None:
        result = benchmark(lambda: percentiles(intensity_histogram(aggregates), self.Q))
        np.testing.assert_array_equal(result, np.percentile(aggregates, self.Q))


@pytest.mark.benchmark(group="grey-level statistics (no published counterpart)")
def test_statistics_on_the_analysis_grid(benchmark: Any, aggregates: Frame) -> None:
    reduced = np.ascontiguousarray(aggregates[::2, ::2])
    assert benchmark(intensity_statistics, reduced).structure > 10
