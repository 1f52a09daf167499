"""Aggregates of a 2048 x 2048 frame: the published labels and regions against labels and features in um.

The baseline makes the published calls in their order: a threshold at half of the 8-bit range, skimage.measure.label,
regionprops, the area gate, total area, and the centroids that its matching reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import label, regionprops

from phagostat.kernels.aggregates import aggregate_features, label_aggregates
from phagostat.kernels.bleaching import bleaching_factor, prepare_footprints
from phagostat.kernels.normalisation import apply_table
from phagostat.kernels.reference import AggregateReference, aggregate_reference

Frame = NDArray[np.uint16]
SPOT_SIGMA_PX = 5.0
PIXEL_UM = 0.206
GATE_UM2 = (10 * PIXEL_UM**2, 2400 * PIXEL_UM**2)


@pytest.fixture(scope="module")
def frozen(reduced: Frame) -> AggregateReference:
    return aggregate_reference(reduced, factor=1)


def published(grey: NDArray[np.uint8]) -> tuple[float, list[tuple[float, ...]]]:
    labels = label((grey > int(0.5 * 255)).astype(np.uint8) * 255)
    regions = [region for region in regionprops(labels) if region.area < 2400 and region.area > 10]
    return sum(region.area for region in regions), [region.centroid for region in regions]


def corrected(frame: Frame, background: float, threshold_counts: float) -> NDArray[np.void]:
    labelled = label_aggregates(
        frame,
        background=background,
        threshold_counts=threshold_counts,
        pixel_size_um=PIXEL_UM,
        min_area_um2=GATE_UM2[0],
        max_area_um2=GATE_UM2[1],
    )
    return aggregate_features(labelled.labels, frame, background=background, pixel_size_um=PIXEL_UM, factor=2)


@pytest.mark.benchmark(group="labels and features of aggregates")
class TestAggregates:
    def test_published(self, benchmark: Any, reduced: Frame, frozen: AggregateReference) -> None:
        benchmark(published, apply_table(reduced, frozen.table))

    def test_labels_and_features(self, benchmark: Any, reduced: Frame, frozen: AggregateReference) -> None:
        # The counts at which the published table passes grey level 127: the same pixels in both.
        cut = float(np.flatnonzero(frozen.table > 127)[0]) - 0.5
        background = frozen.background_counts
        table = benchmark(corrected, reduced, background, cut - background)
        area, centroids = published(apply_table(reduced, frozen.table))
        assert table["area_px"].sum() == area
        native = (np.array(centroids) + 0.5) * 2 - 0.5
        found = np.column_stack([table["y_px"], table["x_px"]])
        np.testing.assert_allclose(found[np.lexsort(found.T)], native[np.lexsort(native.T)])


@pytest.mark.benchmark(group="bleaching factor (no published counterpart)")
def test_bleaching(benchmark: Any, reduced: Frame, frozen: AggregateReference) -> None:
    background = frozen.background_counts
    labels = label_aggregates(
        reduced, background=background, threshold_counts=0.5 * (frozen.high_counts - background), pixel_size_um=PIXEL_UM
    ).labels
    footprints = prepare_footprints(labels, reduced, noise_counts=frozen.noise_counts)
    faded = np.rint(background + 0.8 * (reduced - background)).clip(0).astype(np.uint16)
    estimate = benchmark(bleaching_factor, faded, footprints, shift_yx_px=(0.6, -0.4), factor=2)
    assert estimate.factor == pytest.approx(0.8, abs=0.02)
