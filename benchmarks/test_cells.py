"""Features of about 300 cells of a 1024 x 1024 frame against scikit-image's, and the probability from texture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops_table

from phagostat.kernels.cell_texture import texture_probability
from phagostat.kernels.cells import cell_features
from phagostat.kernels.tracking import link_cells

PIXEL_UM = 0.206
PROPERTIES = ("area", "centroid", "bbox", "perimeter", "axis_major_length", "eccentricity", "intensity_mean")


@pytest.fixture(scope="module")
def field() -> NDArray[np.float64]:
    smooth = gaussian_filter(np.random.default_rng(1).normal(size=(1024, 1024)), 12)
    scaled: NDArray[np.float64] = smooth / smooth.std()
    return scaled


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="module")
def frame(field: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grains of 0.4 um in patches on noisy glass."""
    random = np.random.default_rng(2)
    grains = gaussian_filter(random.normal(size=field.shape), 2)
    grey = 115 + 30 * np.clip(field, 0, 1) * grains / grains.std() + random.normal(0, 3, field.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


@pytest.mark.benchmark(group="features of cells")
class TestFeatures:
    def test_regionprops(self, benchmark: Any, field: NDArray[np.float64]) -> None:
        labels = label(field > 0.3).astype(np.uint16)
        probability = np.clip(128 + 60 * field, 0, 255).astype(np.uint8)
        benchmark(regionprops_table, labels, probability, properties=PROPERTIES)

    def test_cell_features(self, benchmark: Any, field: NDArray[np.float64]) -> None:
        labels = label(field > 0.3).astype(np.uint16)
        probability = np.clip(128 + 60 * field, 0, 255).astype(np.uint8)
        cell_features(labels, probability, pixel_size_um=PIXEL_UM, factor=2)
        table = benchmark(cell_features, labels, probability, pixel_size_um=PIXEL_UM, factor=2)
        assert table["area_px"].sum() == np.count_nonzero(labels)


@pytest.mark.benchmark(group="probability from texture")
class TestTexture:
    def test_blur_alone(self, benchmark: Any, frame: NDArray[np.uint8]) -> None:
        """One wide Gaussian of the frame: what the smallest part of any texture measure costs."""
        benchmark(cv2.GaussianBlur, frame.astype(np.float32), (0, 0), 4.0)

    def test_texture(self, benchmark: Any, frame: NDArray[np.uint8]) -> None:
        texture_probability(frame, pixel_size_um=PIXEL_UM)
        probability = benchmark(texture_probability, frame, pixel_size_um=PIXEL_UM)
        assert 0.1 < np.mean(probability > 127) < 0.9


@pytest.mark.benchmark(group="tracks of 40 cells over 210 frames")
def test_tracks(benchmark: Any) -> None:
    random = np.random.default_rng(3)
    start = np.stack(np.meshgrid(np.arange(20.0, 200, 27), np.arange(20.0, 200, 32)), -1).reshape(-1, 2)[:40]
    places = start + np.cumsum(random.normal(0, 0.3, (210, len(start), 2)), axis=0)
    frame, number = (grid.ravel() for grid in np.indices(places.shape[:2]))
    y, x = places.reshape(-1, 2).T
    tracks = benchmark.pedantic(
        link_cells, (frame, number), {"y_um": y, "x_um": x, "field_um": (211.0, 211.0)}, rounds=5, warmup_rounds=1
    )
    assert tracks.n_unsolved == 0
