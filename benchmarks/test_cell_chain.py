"""From five stored cell probabilities to the labelled and measured cells of one frame, 1024 x 1024.

The published way in its own library calls and order (sum of the window, components, centroids of the large ones as
markers, watershed, region properties), the same libraries with our rules (whole seeds as markers, so that a centroid
beside a crescent seeds no other cell), and ours, which gives the same cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops, regionprops_table
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed

from phagostat.kernels.cell_markers import cell_markers, mean_probability
from phagostat.kernels.cells import cell_features
from phagostat.kernels.coherence import align_window, coherent_pixels
from phagostat.kernels.watershed import CellInstances, cell_instances, grey_cut, label_seeds

PIXEL_UM = 0.206
MIN_SEED_PX = 1000
WINDOW = 5
PROPERTIES = ("area", "centroid", "bbox", "perimeter", "axis_major_length", "eccentricity", "intensity_mean")

Maps = NDArray[np.uint8]
Cells = tuple[NDArray[np.integer], NDArray[np.float64]]


@pytest.fixture(scope="module")
def maps() -> Maps:
    """Like a network's maps of cells that hardly move: saturated inside, soft edges, noise of each frame's own."""
    random = np.random.default_rng(1)
    field = gaussian_filter(random.normal(size=(1024, 1024)), 22)
    field /= field.std()
    drift = gaussian_filter(random.normal(size=field.shape), 22)
    noise = [gaussian_filter(random.normal(size=field.shape), 1) for _ in range(WINDOW)]
    logits = [4 * (field - 0.1) + t * drift / drift.std() * 0.05 - 0.5 * noise[t] for t in range(WINDOW)]
    return np.stack([np.rint(255 / (1 + np.exp(-logit))).astype(np.uint8) for logit in logits])


def published(maps: NDArray[np.float32]) -> Cells:
    seeds = regionprops(label(np.sum(maps, axis=0) > 0.9 * WINDOW, connectivity=2))
    points = np.zeros(maps.shape[1:], np.bool_)
    for seed in seeds:
        if seed.area >= MIN_SEED_PX:
            points[int(seed.centroid[0]), int(seed.centroid[1])] = True
    markers, _ = ndimage.label(points)
    labels = watershed(-maps[0], markers, mask=maps[0] > 0.5)
    return labels, np.array([region.area for region in regionprops(labels)])


def by_libraries(maps: Maps) -> Cells:
    certain = remove_small_objects(maps.mean(axis=0) > 0.9 * 255, max_size=MIN_SEED_PX - 1, connectivity=2)
    markers = label(certain, connectivity=2)
    labels = watershed(-maps[0].astype(np.int16), markers, connectivity=2, mask=maps[0] > 127)
    return labels, np.asarray(regionprops_table(labels, maps[0], properties=PROPERTIES)["area"])


def ours(maps: Maps) -> tuple[CellInstances, NDArray[np.void]]:
    coherence = coherent_pixels(
        maps, shifts_yx_px=np.zeros((WINDOW, 2)), usable=np.ones(WINDOW, np.bool_), factor=2, window=WINDOW
    )
    min_area_um2 = MIN_SEED_PX * PIXEL_UM**2
    seeds = label_seeds(coherence.certain, pixel_size_um=PIXEL_UM, min_area_um2=min_area_um2)
    found = cell_instances(maps[0], seeds.labels, pixel_size_um=PIXEL_UM, min_seed_area_um2=min_area_um2)
    features = cell_features(
        found.labels, maps[0], pixel_size_um=PIXEL_UM, factor=2, shift_yx_px=(0.0, 0.0), incoherent=found.incoherent
    )
    return found, features


def by_shape(maps: Maps) -> tuple[CellInstances, NDArray[np.void]]:
    window = align_window(
        maps.shape[1:], shifts_yx_px=np.zeros((WINDOW, 2)), usable=np.ones(WINDOW, np.bool_), factor=2, window=WINDOW
    )
    markers = cell_markers(mean_probability(maps, window), maps[0] > grey_cut(0.5), pixel_size_um=PIXEL_UM)
    found = cell_instances(maps[0], markers.labels, pixel_size_um=PIXEL_UM, min_seed_area_um2=MIN_SEED_PX * PIXEL_UM**2)
    features = cell_features(
        found.labels, maps[0], pixel_size_um=PIXEL_UM, factor=2, shift_yx_px=(0.0, 0.0), incoherent=found.incoherent
    )
    return found, features


def numbered(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Labels in raster order of their first pixels."""
    values, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(np.where(values == 0, -1, first))] = np.arange(first.size)
    return rank[inverse].reshape(labels.shape)


@pytest.mark.benchmark(group="cells of a frame from a window of five: seeds, instances, features")
class TestCellsOfAFrame:
    def test_published(self, benchmark: Any, maps: Maps) -> None:
        probabilities = (maps / 255).astype(np.float32)
        _, areas = benchmark.pedantic(published, (probabilities,), rounds=5, warmup_rounds=1)
        benchmark.extra_info["cells"] = len(areas)

    def test_by_libraries(self, benchmark: Any, maps: Maps) -> None:
        _, areas = benchmark.pedantic(by_libraries, (maps,), rounds=5, warmup_rounds=1)
        benchmark.extra_info["cells"] = len(areas)

    def test_ours(self, benchmark: Any, maps: Maps) -> None:
        ours(maps)
        found, features = benchmark(ours, maps)
        coherent = np.concatenate([[False], ~found.incoherent])
        labels, areas = np.where(coherent[found.labels], found.labels, 0), features["area_px"][~found.incoherent]
        expected, expected_areas = by_libraries(maps)
        labels, expected = numbered(labels), numbered(expected)
        # which of two equal fronts comes first is left open
        assert np.mean(labels != expected) < 1e-3
        assert len(areas) == len(expected_areas) > 20
        benchmark.extra_info["cells"] = len(areas)
        benchmark.extra_info["differing_px"] = int(np.count_nonzero(labels != expected))

    def test_ours_by_shape(self, benchmark: Any, maps: Maps) -> None:
        """As a run does it by default: bodies told apart by their shape over the window."""
        by_shape(maps)
        found, features = benchmark(by_shape, maps)
        assert found.n_cells == len(features) > 1
