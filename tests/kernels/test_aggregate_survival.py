from __future__ import annotations

import numpy as np
import pytest

from phagostat.kernels.aggregate_overlap import prepare_territories
from phagostat.kernels.aggregate_survival import SurvivalReference, measure_survival, prepare_survival
from phagostat.kernels.aggregates import label_aggregates
from phagostat.kernels.vignette import uneven_glow, without_glow, without_vignette
from tests.kernels.aggregate_scenes import AggregateScene, aggregate_scene

BACKGROUND, THRESHOLD, PIXEL_UM, LOSS = 400.0, 700.0, 0.206, 0.2


@pytest.fixture(scope="module")
def scene() -> AggregateScene:
    """About fifty clumps, all spots wide enough to be sampled."""
    drawn = aggregate_scene(50, shape_yx=(400, 400), seed=4, margin_px=40)
    return AggregateScene(drawn.shape_yx, drawn.place_yx, np.maximum(drawn.sigma, 1.2), drawn.amplitude, drawn.clump)


def dome(shape: tuple[int, int], loss: float) -> np.ndarray:
    v, u = (np.linspace(-1, 1, size) for size in shape)
    return 1 - loss * (v[:, None] ** 2 + u[None] ** 2)


def seen(scene: AggregateScene, *, seed: int = 1, loss: float = 0.0, **state) -> np.ndarray:
    """A frame under a lamp with this loss."""
    light = 400.0 + state.pop("fading", 1.0) * scene.light(**state)
    lit = light * dome(scene.shape_yx, loss)
    noise = np.random.default_rng(seed).standard_normal(scene.shape_yx) * np.sqrt(50 + 0.2 * lit)
    return np.rint(lit + noise).astype(np.uint16)


def prepared(scene: AggregateScene, *, loss: float = 0.0) -> SurvivalReference:
    even = without_vignette(seen(scene, seed=0, loss=loss), loss=loss)
    labels = label_aggregates(even, background=BACKGROUND, threshold_counts=THRESHOLD, pixel_size_um=PIXEL_UM).labels
    territories = prepare_territories(labels, even, background=BACKGROUND)
    return prepare_survival(even, labels, territories, background=BACKGROUND, threshold_counts=THRESHOLD, loss=loss)


def survival(frame: np.ndarray, reference: SurvivalReference, shift=(0.0, 0.0), fading: float = 1.0) -> np.ndarray:
    native = 2 * shift[0], 2 * shift[1]
    return measure_survival(
        frame, reference, shift_yx_px=native, factor=2, background=BACKGROUND, bleaching_factor=fading
    )


def owner(scene: AggregateScene, reference: SurvivalReference, clump: int) -> int:
    y, x = np.rint(scene.place_yx[scene.clump == clump].mean(axis=0)).astype(int)
    return int(reference.territory[y, x]) - 1


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, 0.5), (-3.3, 7.8)])
@pytest.mark.parametrize("defocus", [0.0, 0.5, 0.8])
def test_untouched_aggregates_keep_all_of_their_area(scene, shift, defocus):
    reference = prepared(scene)
    table = survival(seen(scene, defocus_px=defocus, shift_yx_px=shift), reference, shift)
    whole = reference.area_px
    assert (table["seen_fraction"] == 1).all()
    assert table["left_px"].sum() == pytest.approx(whole.sum(), rel=0.005)
    large = whole > 10
    assert (table["left_px"][large] > 0.95 * whole[large]).all()
    assert table["moved_px"].sum() == 0
    assert table["above_px"].sum() == pytest.approx(whole.sum(), rel=0.005)
    assert table["dimmed_px"].sum() < 0.03 * whole.sum()


def test_without_asking_for_the_focus_a_blurred_frame_would_look_eaten(scene):
    reference = prepared(scene)
    flat = SurvivalReference(**{**vars(reference), "bend": np.zeros_like(reference.bend)})
    frame = seen(scene, defocus_px=0.8)
    assert survival(frame, flat)["left_px"].sum() < 0.95 * reference.area_px.sum()


def test_fading_is_not_eating(scene):
    reference = prepared(scene)
    table = survival(seen(scene, fading=0.7), reference, fading=0.7)
    assert table["left_px"].sum() == pytest.approx(reference.area_px.sum(), rel=0.005)


def test_a_lamp_that_stays_with_the_camera_takes_nothing_from_what_the_stage_moves(scene):
    reference = prepared(scene, loss=LOSS)
    shift = (24.0, -20.0)
    frame = seen(scene, loss=LOSS, shift_yx_px=shift)
    table = survival(frame, reference, shift)
    assert table["left_px"].sum() == pytest.approx(reference.area_px.sum(), rel=0.005)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (4.4, -2.7)])
def test_what_is_gone_is_gone_and_only_that(scene, shift):
    reference = prepared(scene)
    eaten = np.array([3, 11, 25])
    table = survival(seen(scene.without(eaten), shift_yx_px=shift), reference, shift)
    gone = [owner(scene, reference, clump) for clump in eaten]
    assert (table["left_px"][gone] < 0.02 * reference.area_px[gone]).all()
    rest = np.setdiff1d(np.arange(len(table)), gone)
    assert table["left_px"][rest].sum() == pytest.approx(reference.area_px[rest].sum(), rel=0.005)


def test_what_dims_is_gone_before_it_falls_below_the_threshold(scene):
    reference = prepared(scene)
    bright = int(np.argmax([scene.amplitude[scene.clump == c].sum() for c in range(50)]))
    chosen = scene.clump == bright
    dimmed = AggregateScene(
        scene.shape_yx, scene.place_yx, scene.sigma, np.where(chosen, 0.6, 1.0) * scene.amplitude, scene.clump
    )
    number = owner(scene, reference, bright)
    assert dimmed.light()[reference.territory == number + 1].max() > 2 * THRESHOLD
    row = survival(seen(dimmed), reference)[number]
    assert row["left_px"] < 0.1 * reference.area_px[number]
    # whether what is left of its light lies on the glass the next frame tells
    assert row["above_px"] > 0.4 * reference.area_px[number]
    assert row["dimmed_px"] == pytest.approx(row["above_px"], rel=0.05)


def test_glow_that_is_uneven_is_no_part_of_an_aggregate(scene):
    shape = scene.shape_yx
    y, x = (np.linspace(-1, 1, size) for size in shape)
    glow = 250 * np.sin(2 * y[:, None] + 1) * np.cos(2 * x[None])
    flat, uneven = (seen(scene, seed=0).astype(float) + part for part in (0.0, glow))
    even = np.rint(uneven).astype(np.uint16)
    found = uneven_glow(even)
    options = {"background": BACKGROUND, "threshold_counts": THRESHOLD}
    labels = label_aggregates(without_glow(even, found), **options, pixel_size_um=PIXEL_UM).labels
    territories = prepare_territories(labels, even, background=BACKGROUND)
    reference = prepare_survival(even, labels, territories, **options, loss=0.0, unevenness=found)
    ignored = prepare_survival(even, labels, territories, **options, loss=0.0)
    known = prepare_survival(flat.astype(np.uint16), labels, territories, **options, loss=0.0)

    def error(one: SurvivalReference) -> float:
        return float(np.abs(one.area_px - known.area_px).sum() / known.area_px.sum())

    assert error(reference) < 0.4 * error(ignored)
    # it lies on the glass
    shift = (6.0, -4.0)
    moved = seen(scene, shift_yx_px=shift) + np.roll(glow, (6, -4), axis=(0, 1))
    table = survival(np.rint(moved).astype(np.uint16), reference, shift)
    assert table["left_px"].sum() == pytest.approx(reference.area_px.sum(), rel=0.01)


@pytest.mark.parametrize("way", [(6.0, 0.0), (-9.0, 14.0), (20.0, 25.0)])
@pytest.mark.parametrize("light", [1.0, 0.85])
def test_what_was_pushed_is_found_with_its_light(scene, way, light):
    reference = prepared(scene)
    clump = 7
    chosen = scene.clump == clump
    pushed = AggregateScene(
        scene.shape_yx,
        scene.place_yx + chosen[:, None] * np.array(way),
        scene.sigma,
        scene.amplitude * np.where(chosen, light, 1.0),
        scene.clump,
    )
    shift = (2.3, -1.6)
    number = owner(scene, reference, clump)
    row = survival(seen(pushed, shift_yx_px=shift), reference, shift)[number]
    assert row["left_px"] + row["moved_px"] > 0.65 * reference.area_px[number]  # whole pixels only, steep sides
    assert row["moved_y_px"] / 2 == pytest.approx(way[0], abs=1.01)
    assert row["moved_x_px"] / 2 == pytest.approx(way[1], abs=1.01)
    # pixels that fit count more: the estimate leans towards 1
    assert light - 0.02 < row["moved_light"] < light + 0.5 * (1 - light) + 0.04
    assert (row["moved_all"] > 0) == (way == (6.0, 0.0) and row["left_px"] > 0.02 * reference.area_px[number])


def test_out_of_view_is_said_and_not_eaten(scene):
    reference = prepared(scene)
    shift = (120.0, 0.0)
    table = survival(seen(scene, shift_yx_px=shift), reference, shift)
    inside = table["seen_fraction"] == 1
    assert 0.5 < inside.mean() < 0.95
    assert table["left_px"][inside].sum() == pytest.approx(reference.area_px[inside].sum(), rel=0.005)
    assert (table["left_px"][table["seen_fraction"] == 0] == 0).all()


def test_no_aggregates():
    empty = np.full((60, 60), 400, np.uint16)
    labels = np.zeros((60, 60), np.uint16)
    territories = prepare_territories(labels, empty, background=BACKGROUND)
    reference = prepare_survival(
        empty, labels, territories, background=BACKGROUND, threshold_counts=THRESHOLD, loss=0.0
    )
    assert reference.area_px.size == 0
    assert len(survival(empty, reference)) == 0
