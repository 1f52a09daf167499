"""Threshold, labels and features of aggregates: against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label as sk_label
from skimage.measure import regionprops_table

from phagostat.kernels.aggregates import (
    FEATURES,
    aggregate_features,
    deviating_scenes,
    label_aggregates,
    scene_threshold,
    threshold_from_references,
)
from phagostat.kernels.intensity import intensity_histogram
from phagostat.kernels.normalisation import reduce_area
from phagostat.model.errors import PhagostatError

from .aggregate_scenes import aggregate_scene

PIXEL_UM = 0.206
MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


def slow_labels(frame: np.ndarray, cut: float, connectivity: int, smallest: float, largest: float) -> np.ndarray:
    """One component at a time, numbered in raster order of first pixels."""
    components = sk_label(frame > cut, connectivity=connectivity)
    labels = np.zeros(frame.shape, np.uint16)
    number = 0
    for pixel in np.ndindex(*frame.shape):
        component = components[pixel]
        if component and labels[pixel] == 0 and smallest < (components == component).sum() < largest:
            number += 1
            labels[components == component] = number
    return labels


@given(MASKS, st.sampled_from([4, 8]), st.integers(0, 4), st.integers(2, 40), st.sampled_from([np.uint8, np.uint16]))
def test_labels_equal_the_plain_way(mask: np.ndarray, connectivity: int, smallest: int, largest: int, dtype) -> None:
    frame = np.where(mask, 200, 10).astype(dtype)
    result = label_aggregates(
        frame,
        background=10,
        threshold_counts=80,
        pixel_size_um=1.0,
        min_area_um2=smallest,
        max_area_um2=largest,
        connectivity=connectivity,
    )
    expected = slow_labels(frame, 90, 1 if connectivity == 4 else 2, smallest, largest)
    np.testing.assert_array_equal(result.labels, expected)
    assert result.labels.dtype == np.uint16
    components = sk_label(mask, connectivity=1 if connectivity == 4 else 2)
    areas = np.bincount(components.ravel())[1:]
    assert result.n_aggregates == expected.max(initial=0)
    assert result.n_too_small == (areas <= smallest).sum()
    assert result.n_too_large == ((areas >= largest) & (areas > smallest)).sum()


@pytest.mark.parametrize("background", [99.6, 100.0, 100.4])
@pytest.mark.parametrize("factor", [1.0, 0.8, 0.33])
def test_pixels_above_the_faded_threshold_are_foreground(background: float, factor: float) -> None:
    frame = np.arange(400, dtype=np.uint16).reshape(20, 20)
    labels = label_aggregates(
        frame, background=background, threshold_counts=120.3, bleaching_factor=factor, pixel_size_um=PIXEL_UM
    ).labels
    np.testing.assert_array_equal(labels > 0, (frame - background) / factor > 120.3)


def test_dividing_the_frame_by_its_bleaching_keeps_the_area() -> None:
    scene = aggregate_scene(40)
    areas = []
    for fading in (1.0, 0.8):
        frame = scene.frame(fading=fading)
        for factor in (1.0, fading):
            labelled = label_aggregates(
                frame, background=400, threshold_counts=1500, bleaching_factor=factor, pixel_size_um=PIXEL_UM
            )
            areas.append(np.count_nonzero(labelled.labels))
    full, _, uncorrected, corrected = areas
    assert corrected == pytest.approx(full, rel=0.01)
    assert uncorrected < 0.95 * full


def test_area_gate_is_the_published_one() -> None:
    frame = np.zeros((90, 90), np.uint16)
    frame[2, 2:12] = 500  # 10 px: out
    frame[5, 2:13] = 500  # 11 px: in
    frame[10:50, 2:62] = 500  # 2400 px: out
    frame[52:84, 2:76] = 500  # 2368 px: in
    square = PIXEL_UM**2
    result = label_aggregates(
        frame,
        background=0,
        threshold_counts=100,
        pixel_size_um=PIXEL_UM,
        min_area_um2=10 * square,
        max_area_um2=2400 * square,
    )
    assert np.bincount(result.labels.ravel())[1:].tolist() == [11, 2368]
    assert (result.n_too_small, result.n_too_large) == (1, 1)


@pytest.mark.parametrize("value", [0, 40, 65535])
def test_empty_constant_and_saturated_frames(value: int) -> None:
    frame = np.full((33, 21), value, np.uint16)
    result = label_aggregates(frame, background=10, threshold_counts=100, pixel_size_um=PIXEL_UM)
    assert result.n_aggregates == (1 if value == 65535 else 0)
    features = aggregate_features(result.labels, frame, background=10, pixel_size_um=PIXEL_UM, factor=2)
    assert features.size == result.n_aggregates
    if value == 65535:
        assert features["n_saturated_px"][0] == frame.size
        assert features["touches_border"][0]


def test_thresholds_beyond_the_pixel_type() -> None:
    frame = np.full((5, 5), 255, np.uint8)
    above = label_aggregates(frame, background=200, threshold_counts=300, pixel_size_um=1)
    below = label_aggregates(frame, background=-50, threshold_counts=10, pixel_size_um=1)
    assert (above.n_aggregates, below.n_aggregates) == (0, 1)
    for bad in ({"threshold_counts": np.nan}, {"bleaching_factor": np.nan}, {"bleaching_factor": 0.0}):
        options = {"background": 1.0, "threshold_counts": 2.0, "pixel_size_um": 1.0} | bad
        with pytest.raises(ValueError, match="finite"):
            label_aggregates(frame, **options)


def test_more_components_than_labels_is_an_error_unless_the_area_limit_removes_them() -> None:
    frame = np.zeros((520, 520), np.uint16)
    frame[::2, ::2] = 1000  # 67,600 single pixels
    with pytest.raises(PhagostatError, match=r"67600.*min_area_um2"):
        label_aggregates(frame, background=0, threshold_counts=100, pixel_size_um=1)
    frame[100:104, 100:104] = 1000
    few = label_aggregates(frame, background=0, threshold_counts=100, pixel_size_um=1, min_area_um2=2)
    assert few.n_aggregates == 1
    assert few.n_too_small > 65535


def test_labelling_is_deterministic_and_leaves_its_input() -> None:
    frame = aggregate_scene(50, seed=4).frame()
    before = frame.copy()
    results = [
        label_aggregates(frame, background=400, threshold_counts=900, pixel_size_um=PIXEL_UM).labels for _ in "ab"
    ]
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(frame, before)
    first = [np.flatnonzero(results[0].ravel() == k)[0] for k in range(1, results[0].max() + 1)]
    assert first == sorted(first)


def check_against_regionprops(labels: np.ndarray, frame: np.ndarray, background: float, factor: int) -> None:
    table = aggregate_features(labels, frame, background=background, pixel_size_um=PIXEL_UM, factor=factor)
    assert table.dtype == FEATURES
    oracle = regionprops_table(
        labels,
        frame - background,
        properties=(
            "label",
            "area",
            "bbox",
            "centroid",
            "axis_major_length",
            "axis_minor_length",
            "eccentricity",
            "orientation",
            "intensity_mean",
            "intensity_max",
        ),
    )
    np.testing.assert_array_equal(table["label"], oracle["label"])
    np.testing.assert_array_equal(table["area_px"], oracle["area"])
    np.testing.assert_allclose(table["area_um2"], oracle["area"] * PIXEL_UM**2)
    for name, column in zip(("top_px", "left_px", "bottom_px", "right_px"), range(4), strict=True):
        np.testing.assert_array_equal(table[name], oracle[f"bbox-{column}"])
    np.testing.assert_allclose(table["y_px"], (oracle["centroid-0"] + 0.5) * factor - 0.5)
    np.testing.assert_allclose(table["x_px"], (oracle["centroid-1"] + 0.5) * factor - 0.5)
    np.testing.assert_allclose(table["mean_counts"], oracle["intensity_mean"], atol=1e-9)
    np.testing.assert_allclose(table["max_counts"], oracle["intensity_max"], atol=1e-9)
    np.testing.assert_allclose(table["integrated_counts"], oracle["intensity_mean"] * oracle["area"], atol=1e-7)
    np.testing.assert_allclose(table["major_axis_um"], oracle["axis_major_length"] * PIXEL_UM, rtol=1e-7)
    np.testing.assert_allclose(table["minor_axis_um"], oracle["axis_minor_length"] * PIXEL_UM, rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(table["eccentricity"], oracle["eccentricity"], atol=1e-6)
    # Axes of equal length have no direction; an angle and the one half a turn further are the same.
    elongated = table["eccentricity"] > 1e-3
    turn = np.sin(table["orientation_rad"] - oracle["orientation"])[elongated]
    np.testing.assert_allclose(turn, 0, atol=1e-6)


@given(MASKS, st.integers(1, 3), st.integers(0, 2**31))
def test_features_equal_scikit_images_on_any_mask(mask: np.ndarray, factor: int, seed: int) -> None:
    frame = np.random.default_rng(seed).integers(500, 65535, mask.shape).astype(np.uint16)
    frame[~mask] = 20
    labels = label_aggregates(frame, background=20, threshold_counts=100, pixel_size_um=PIXEL_UM).labels
    if labels.any():
        check_against_regionprops(labels, frame, 20.0, factor)


def test_features_equal_scikit_images_on_a_frame() -> None:
    frame = aggregate_scene(60, shape_yx=(301, 433)).frame()
    labels = label_aggregates(
        frame, background=400, threshold_counts=800, pixel_size_um=PIXEL_UM, min_area_um2=0.42
    ).labels
    assert labels.max() > 40
    check_against_regionprops(labels, frame, 400.3, 2)


def test_weighted_centroid_equals_scikit_images_and_stays_inside_for_dark_labels() -> None:
    frame = aggregate_scene(20, shape_yx=(200, 200)).frame()
    labels = label_aggregates(frame, background=400, threshold_counts=800, pixel_size_um=PIXEL_UM).labels
    table = aggregate_features(labels, frame, background=400, pixel_size_um=PIXEL_UM, factor=2)
    oracle = regionprops_table(labels, frame - 400.0, properties=("centroid_weighted",))
    np.testing.assert_allclose(table["weighted_y_px"], (oracle["centroid_weighted-0"] + 0.5) * 2 - 0.5)
    np.testing.assert_allclose(table["weighted_x_px"], (oracle["centroid_weighted-1"] + 0.5) * 2 - 0.5)
    dark = aggregate_features(labels, np.zeros_like(frame), background=400, pixel_size_um=PIXEL_UM, factor=2)
    np.testing.assert_allclose(dark["weighted_y_px"], dark["y_px"])


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_centroids_are_native(factor: int) -> None:
    """A spot drawn at a native place is found there, whatever the analysis grid."""
    shape, place = (240, 300), (101.3, 187.8)
    y, x = np.mgrid[: shape[0], : shape[1]]
    spot = 20000 * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / (2 * 6.0**2))
    frame = reduce_area(np.rint(100 + spot).astype(np.uint16), factor=factor)
    labels = label_aggregates(frame, background=100, threshold_counts=400, pixel_size_um=PIXEL_UM).labels
    table = aggregate_features(labels, frame, background=100, pixel_size_um=PIXEL_UM, factor=factor)
    assert table.size == 1
    assert (table["weighted_y_px"][0], table["weighted_x_px"][0]) == pytest.approx(place, abs=0.05)
    assert (table["y_px"][0], table["x_px"][0]) == pytest.approx(place, abs=0.2 * factor)
    assert table["area_um2"][0] == table["area_px"][0] * PIXEL_UM**2


def test_border_and_saturation() -> None:
    frame = np.full((30, 40), 10, np.uint16)
    for rows, columns in (
        ((0, 3), (5, 9)),
        ((10, 14), (0, 3)),
        ((27, 30), (20, 24)),
        ((12, 16), (36, 40)),
        ((12, 16), (15, 20)),
    ):
        frame[slice(*rows), slice(*columns)] = 4095
    labels = label_aggregates(frame, background=10, threshold_counts=100, pixel_size_um=1).labels
    table = aggregate_features(labels, frame, background=10, pixel_size_um=1, factor=1, white_level_counts=4095)
    assert (
        table["touches_border"].tolist() == [True, True, True, False, True]
        or sorted(table["touches_border"]) == [False] + [True] * 4
    )
    np.testing.assert_array_equal(table["n_saturated_px"], table["area_px"])


def test_labels_with_gaps_are_refused() -> None:
    labels = np.array([[1, 0, 3]], np.uint16)
    with pytest.raises(ValueError, match="without gaps"):
        aggregate_features(labels, labels, background=0, pixel_size_um=1, factor=1)


def test_threshold_pools_background_subtracted_references() -> None:
    random = np.random.default_rng(0)
    frames, backgrounds = [], [100.0, 240.0, 180.0]
    for scale, background in zip((800, 1500, 2500), backgrounds, strict=True):
        signal = np.where(random.random((200, 210)) < 0.03, random.exponential(scale, (200, 210)), 0)
        frames.append(np.rint(background + signal + random.normal(0, 5, signal.shape)).astype(np.uint16))
    pooled = np.concatenate([f.ravel() - b for f, b in zip(frames, backgrounds, strict=True)])
    histograms = [intensity_histogram(f) for f in frames]
    result = threshold_from_references(histograms, backgrounds, percentile=99.5, fraction=0.5)
    assert result == pytest.approx(0.5 * np.percentile(pooled, 99.5), abs=1e-9)
    assert threshold_from_references(histograms[:1], [100.4]) == pytest.approx(
        0.5 * (np.percentile(frames[0], 99.5) - 100), abs=1e-9
    )
    assert scene_threshold(histograms[0], 100.4) == pytest.approx(0.5 * (np.percentile(frames[0], 99.5) - 100.4))


def test_threshold_refuses_nothing_and_nan() -> None:
    histogram = intensity_histogram(np.ones((3, 3), np.uint16))
    with pytest.raises(ValueError, match="one background"):
        threshold_from_references([], [])
    with pytest.raises(ValueError, match="finite"):
        threshold_from_references([histogram], [np.nan])


def test_scenes_far_from_the_median_are_flagged() -> None:
    flags = deviating_scenes([100, 110, 90, 126, 74, 200, np.nan])
    assert flags.tolist() == [False, False, False, False, True, True, True]
    assert deviating_scenes([100.0, 125.0, 75.0]).tolist() == [False, False, False]
    assert deviating_scenes([np.nan]).tolist() == [True]


@pytest.mark.real
def test_real_aggregates_and_what_a_fade_takes_without_correction(shared_data) -> None:
    import cv2

    real = cv2.imread(str(shared_data / "microglia" / "aggregates.png"), cv2.IMREAD_UNCHANGED).astype(float)
    areas = {}
    for fading in (1.0, 0.8):
        frame = np.rint(500 + 60 * fading * real).astype(np.uint16)
        for factor in (1.0, fading):
            result = label_aggregates(
                frame,
                background=500,
                threshold_counts=60 * 127.0,
                bleaching_factor=factor,
                pixel_size_um=PIXEL_UM,
                min_area_um2=0.42436,
            )
            areas[fading, factor] = np.count_nonzero(result.labels)
    assert 100 < result.n_aggregates < 250
    assert areas[0.8, 0.8] == pytest.approx(areas[1.0, 1.0], rel=0.005)
    assert 1 - areas[0.8, 1.0] / areas[1.0, 1.0] > 0.15
