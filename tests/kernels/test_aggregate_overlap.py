from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from phagostat.kernels.aggregate_overlap import measure_territories, prepare_territories
from phagostat.kernels.aggregates import label_aggregates
from tests.kernels.aggregate_scenes import AggregateScene

BACKGROUND, THRESHOLD, PIXEL_UM = 400.0, 600.0, 0.206


def scene(seed: int = 0, n: int = 12, size: int = 160) -> AggregateScene:
    random = np.random.default_rng(seed)
    places, sigmas, amplitudes, clumps = [], [], [], []
    for clump, (row, column) in enumerate(np.ndindex(4, 3)):
        if clump >= n:
            break
        middle = np.array([20 + row * 40, 25 + column * 50]) + random.uniform(-6, 6, 2)
        for _ in range(random.integers(1, 5)):
            places.append(middle + random.normal(0, 2.5, 2))
            sigmas.append(random.uniform(1.3, 1.8))
            amplitudes.append(random.uniform(1500, 3000))
            clumps.append(clump)
    return AggregateScene((size, size), np.array(places), np.array(sigmas), np.array(amplitudes), np.array(clumps))


def labelled(frame, fading=1.0):
    return label_aggregates(
        frame, background=BACKGROUND, threshold_counts=THRESHOLD, bleaching_factor=fading, pixel_size_um=PIXEL_UM
    ).labels


def territories_of(frame, **options):
    return prepare_territories(labelled(frame), frame, background=BACKGROUND, **options)


def measured(frame, territories, shift=(0.0, 0.0), fading=1.0, **options):
    return measure_territories(
        frame,
        labelled(frame, fading),
        territories,
        shift_yx_px=shift,
        factor=2,
        background=BACKGROUND,
        threshold_counts=THRESHOLD,
        bleaching_factor=fading,
        **options,
    )


def test_territories_are_footprints_with_a_margin():
    frame = scene().frame()
    labels = labelled(frame)
    territories = territories_of(frame)
    assert (territories.image[labels > 0] == labels[labels > 0]).all()
    distance = ndimage.distance_transform_cdt(labels == 0, "chessboard")
    np.testing.assert_array_equal(territories.image > 0, distance <= 3)
    np.testing.assert_array_equal(territories.size_px, np.bincount(territories.image.ravel())[1:])
    assert not territories.touches_border.any()


def test_touching_the_border_is_said():
    frame = scene().frame()
    cut = np.ascontiguousarray(frame[12:])
    territories = territories_of(cut)
    touching = set(np.unique(territories.image[0])) - {0}
    assert set(np.flatnonzero(territories.touches_border) + 1) == touching != set()


def test_against_a_slow_count_of_finely_drawn_aggregates():
    drawn = scene(3)
    frame = drawn.frame(noise_counts=0.0)
    territories = territories_of(frame)
    found = measured(frame, territories)
    # the same light averaged over the pixel is known between pixels by cubic interpolation
    fine = ndimage.zoom(frame.astype(float), 8, order=3, grid_mode=True, mode="nearest") > BACKGROUND + THRESHOLD
    owner = np.kron(territories.image, np.ones((8, 8), np.uint16))
    oracle = np.bincount(owner[fine], minlength=territories.size_px.size + 1)[1:] / 64
    np.testing.assert_allclose(found.places["area_px"], oracle, rtol=0.02, atol=0.3)
    assert abs(found.places["area_px"].sum() / oracle.sum() - 1) < 0.015


@pytest.mark.parametrize("fading", [1.0, 0.8])
def test_moved_by_parts_of_a_pixel_area_stays_and_scatters_less_than_by_whole_pixels(fading):
    drawn = scene(1)
    reference = drawn.frame()
    territories = territories_of(reference)
    before = measured(reference, territories).places["area_px"]
    random = np.random.default_rng(2)
    parts, wholes, places = [], [], []
    for k in range(30):
        shift = random.uniform(-8, 8, 2)
        frame = drawn.frame(seed=k, shift_yx_px=tuple(shift / 2), fading=fading)
        found = measured(frame, territories, tuple(shift), fading)
        home = found.overlaps[found.overlaps["reference"] > 0]
        parts.append(found.places["area_px"] - before)
        places.append(np.stack([found.places["glass_y_px"], found.places["glass_x_px"]]))
        wholes.append(np.bincount(home["reference"] - 1, home["n_px"], before.size))
    assert abs(np.mean(parts)) < 0.2
    assert np.mean(np.std(parts, axis=0)) < 0.5 * np.mean(np.std(wholes, axis=0))
    assert np.std(places, axis=0).max() < 0.2  # centroids stay on the glass, in native px


def test_light_fades_with_the_aggregates_and_comes_back_by_the_factor():
    drawn = scene(1)
    territories = territories_of(drawn.frame())
    before = measured(drawn.frame(), territories).places["light_counts"]
    faded = measured(drawn.frame(seed=5, fading=0.7), territories, fading=0.7).places["light_counts"]
    np.testing.assert_allclose(faded, before, rtol=0.03)


def test_what_is_eaten_leaves_nothing_and_the_others_as_they_were():
    drawn = scene(4)
    territories = territories_of(drawn.frame())
    before = measured(drawn.frame(), territories).places
    labels = labelled(drawn.frame())
    gone = [2, 7]
    after = measured(drawn.without(np.array(gone)).frame(seed=9), territories).places
    lost = np.unique(labels[tuple(np.rint(drawn.place_yx[np.isin(drawn.clump, gone)]).astype(int).T)])
    lost = lost[lost > 0] - 1
    kept = np.setdiff1d(np.arange(before.size), lost)
    assert (after["area_px"][lost] == 0).all()
    assert np.isnan(after["glass_y_px"][lost]).all()
    assert (np.abs(after["light_counts"][lost]) < 0.05 * before["light_counts"][lost]).all()
    np.testing.assert_allclose(after["area_px"][kept], before["area_px"][kept], atol=1.5)


def test_dimmed_to_a_third_is_no_longer_the_aggregate_though_it_is_above_the_threshold():
    drawn = scene(4)
    frame = drawn.frame(noise_counts=0.0)
    territories = territories_of(frame)
    dim = np.rint(BACKGROUND + 0.45 * (frame.astype(float) - BACKGROUND)).astype(np.uint16)
    everything = measured(dim, territories, kept_ratio=0.0)
    assert everything.places["area_px"].sum() > 100
    found = measured(dim, territories)
    assert found.places["area_px"].sum() == 0
    assert np.isclose(found.overlaps["area_px"].sum(), everything.overlaps["area_px"].sum())
    assert (found.overlaps["reference"] == 0).all()


def test_what_comes_to_lie_beside_an_aggregate_is_not_its_own():
    drawn = scene(4, n=1)
    beside = drawn.place_yx.mean(axis=0) + np.array([0, 9.0])
    joined = AggregateScene(
        drawn.shape_yx,
        np.vstack([drawn.place_yx, beside]),
        np.append(drawn.sigma, 1.6),
        np.append(drawn.amplitude, 2500.0),
        np.append(drawn.clump, 1),
    )
    territories = territories_of(drawn.frame())
    before = measured(drawn.frame(), territories).places["area_px"]
    found = measured(joined.frame(seed=3), territories)
    assert found.places["area_px"][0] == pytest.approx(before[0], rel=0.06)
    outside = found.overlaps[found.overlaps["reference"] == 0]["area_px"].sum()
    assert outside > 10


def test_out_of_the_frame_is_told_by_the_valid_fraction():
    drawn = scene(1)
    territories = territories_of(drawn.frame())
    shift = (-60.0, 0.0)  # 30 analysis px up: the upper row of aggregates leaves the frame
    frame = drawn.frame(seed=1, shift_yx_px=(-30.0, 0.0))
    found = measured(frame, territories, shift)
    y = territories.y_px - 30
    oracle = np.bincount(territories.index, (y >= 0) & (y < 160)) / territories.size_px
    np.testing.assert_allclose(found.places["valid_fraction"], oracle)
    assert (oracle == 0).any()
    assert (oracle == 1).any()
    assert (found.places["area_px"][oracle == 0] == 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-100, 100), st.floats(-100, 100))
def test_all_area_is_in_the_table_once(seed, y, x):
    drawn = scene(seed)
    territories = territories_of(drawn.frame())
    frame = drawn.frame(seed=seed, shift_yx_px=(y / 2, x / 2))
    found = measured(frame, territories, (y, x))
    keys = list(zip(found.overlaps["reference"], found.overlaps["label"], strict=True))
    assert keys == sorted(set(keys))
    assert found.overlaps["n_px"].sum() == np.count_nonzero(labelled(frame))
    home = found.overlaps["reference"] > 0
    assert np.isclose(found.overlaps["area_px"][home].sum(), found.places["area_px"].sum())
    assert ((found.places["valid_fraction"] >= 0) & (found.places["valid_fraction"] <= 1)).all()


def test_nothing_there():
    empty = np.full((64, 64), 400, np.uint16)
    territories = territories_of(empty)
    found = measured(empty, territories)
    assert found.places.size == found.overlaps.size == 0
    drawn = scene(2)
    found = measured(np.full((160, 160), 400, np.uint16), territories_of(drawn.frame()))
    assert found.overlaps.size == 0
    assert (found.places["area_px"] == 0).all()


def test_bad_input_is_refused():
    frame = scene().frame()
    territories = territories_of(frame)
    with pytest.raises(ValueError, match="one shape"):
        measured(frame[:-2], territories)
    with pytest.raises(ValueError, match="finite"):
        measured(frame, territories, (np.nan, 0.0))
