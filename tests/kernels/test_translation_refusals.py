"""Pairs that no shift can bring together must be refused; frames that can be registered must not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from phagostat.kernels.translation import estimate_translation, prepare_reference

from .translation_scenes import blob_scene, expected, frame_of, recorded

SHAPE = (320, 320)


def turned(scene, degrees):
    """The scene turned around the centre of its field."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(scene.shape) - 1) / 2
    return replace(scene, centre=(scene.centre - centre) @ turn.T + centre)


def phase_contrast(shape, seed):
    """Something like the other channel: bright background, cells as dark textured ovals with a halo."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    frame = np.full(shape, 1000.0)
    for cy, cx in rng.uniform(0, shape, (12, 2)):
        radius = np.hypot((y - cy) / rng.uniform(15, 40), (x - cx) / rng.uniform(15, 40))
        frame += 150 * np.exp(-((radius - 1.1) ** 2) * 40) - 200 * (radius < 1)
    return frame + 40 * np.sin(0.3 * rng.uniform(0.5, 1.5) * y) * np.sin(0.25 * x)


def impossible(kind, seed, shape=SHAPE, n_aggregates=15):
    """Reference and a frame that shows no shift of it."""
    scene = blob_scene(shape, n_aggregates=n_aggregates, seed=seed)
    reference = frame_of(scene, seed=seed)
    noise_seed = seed + 10_000
    shift = tuple(np.random.default_rng(seed).uniform(-20, 20, 2))
    moving = {
        "black": lambda: np.zeros(shape, np.uint16),
        "constant": lambda: np.full(shape, 431, np.uint16),
        "white": lambda: np.full(shape, 65535, np.uint16),
        "noise": lambda: recorded(np.full(shape, 300.0), seed=noise_seed),
        "turned by 10": lambda: frame_of(turned(scene, 10), shift, seed=noise_seed),
        "turned by 90": lambda: np.ascontiguousarray(np.rot90(frame_of(scene, shift, seed=noise_seed))),
        "turned by 180": lambda: np.ascontiguousarray(frame_of(scene, shift, seed=noise_seed)[::-1, ::-1]),
        "mirrored": lambda: np.ascontiguousarray(frame_of(scene, shift, seed=noise_seed)[:, ::-1]),
        "foreign": lambda: frame_of(blob_scene(shape, n_aggregates=n_aggregates, seed=noise_seed), seed=noise_seed),
        "other channel": lambda: recorded(phase_contrast(shape, seed), seed=noise_seed),
        "heavily blurred": lambda: frame_of(scene, shift, seed=noise_seed, blur_px=12.0),
        "empty field": lambda: frame_of(replace(scene, height=scene.height * 0), seed=noise_seed),
    }[kind]()
    return reference, moving


KINDS = (
    "black", "constant", "white", "noise", "turned by 10", "turned by 90", "turned by 180", "mirrored", "foreign",
    "other channel", "heavily blurred", "empty field",
)  # fmt: skip


def assert_refused(estimate, about):
    assert not estimate.ok, (about, estimate)
    assert estimate.reason
    assert np.isnan(estimate.shift_yx_px).all()
    assert estimate.confidence == 0


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_pairs_are_refused(kind):
    for seed in range(4):
        assert_refused(estimate_translation(*impossible(kind, seed)), (kind, seed))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[3:])
@pytest.mark.parametrize(
    ("shape", "n_aggregates"), [((128, 128), 8), ((256, 256), 25), ((320, 320), 6), ((512, 512), 120)]
)
def test_no_impossible_pair_of_many_is_accepted(kind, shape, n_aggregates):
    """36 x 25 = 900 pairs."""
    for seed in range(25):
        pair = impossible(kind, 1000 + seed, shape, n_aggregates)
        assert_refused(estimate_translation(*pair), (kind, shape, seed))


def test_a_reference_without_structure_is_no_reference():
    good = frame_of(blob_scene(SHAPE, seed=1))
    for bad in (np.zeros(SHAPE, np.uint16), np.full(SHAPE, 900, np.uint16), recorded(np.full(SHAPE, 300.0), seed=3)):
        reference = prepare_reference(bad)
        assert_refused(estimate_translation(reference, good), "structureless reference")
        assert_refused(estimate_translation(reference, bad), "structureless pair")


def test_noise_has_no_tiles():
    assert prepare_reference(recorded(np.full(SHAPE, 300.0), seed=3)).n_tiles == 0


def test_a_shift_outside_the_search_radius():
    scene = blob_scene((512, 512), n_aggregates=40, seed=2)
    reference = prepare_reference(frame_of(scene, seed=1))
    moving = frame_of(scene, (70.0, -15.0), seed=2)
    assert_refused(estimate_translation(reference, moving, search_radius_px=50.0), "beyond")
    assert_refused(estimate_translation(reference, moving, search_radius_px=69.5), "just beyond")
    assert estimate_translation(reference, moving, search_radius_px=71.0).ok


def test_a_refusal_says_how_many_tiles_agreed():
    reference, moving = impossible("foreign", 7)
    estimate = estimate_translation(reference, moving)
    assert "agree" in estimate.reason


def test_blur_ends_in_refusal_never_in_nonsense():
    """From sharp to hopeless: an accepted estimate is right to within 0.15 px, the sharp end is always accepted."""
    scene = blob_scene((512, 512), n_aggregates=40, seed=6)
    reference = prepare_reference(frame_of(scene, seed=1))
    shift = (12.4, -33.7)
    accepted = []
    for blur in (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0):
        estimate = estimate_translation(reference, frame_of(scene, shift, seed=2, blur_px=blur))
        accepted.append(estimate.ok)
        if estimate.ok:
            assert np.abs(np.subtract(estimate.shift_yx_px, shift)).max() < 0.15
    assert accepted[:4] == [True] * 4
    assert accepted[-3:] == [False] * 3


def test_a_repetitive_field_is_refused_or_right():
    """A lattice fits itself at many shifts: no confident nonsense where new aggregates break the tie too weakly."""
    scene = blob_scene(SHAPE, n_aggregates=6, seed=3, haze=0)
    grid = np.stack(np.meshgrid(np.arange(-80, 400, 40.0), np.arange(-80, 400, 40.0)), axis=-1).reshape(-1, 2)
    lattice = replace(
        scene, centre=grid, sigma=np.full(len(grid), 2.5), height=np.full(len(grid), 900.0), owner=np.arange(len(grid))
    )
    estimate = estimate_translation(frame_of(lattice, seed=1), frame_of(lattice, (40.0, 80.0), seed=2))
    assert not estimate.ok or np.abs(np.asarray(estimate.shift_yx_px) % 40).max() < 40.01


@pytest.mark.slow
def test_no_sharp_frame_of_many_is_refused():
    """120 frames with up to 60 % of their aggregates gone or moved, noise, fading and defocus of up to 1 px."""
    for seed in range(120):
        rng = np.random.default_rng(seed)
        scene = blob_scene((512, 512), n_aggregates=int(rng.integers(30, 120)), seed=seed)
        reference = prepare_reference(frame_of(scene, seed=1))
        later = scene.without(rng.uniform(0, 0.3), rng=rng).with_moved(rng.uniform(0, 0.3), rng=rng)
        shift = rng.uniform(-100, 100, 2)
        moving = frame_of(
            later, shift, seed=2, read_noise=rng.uniform(2, 30), gain=rng.uniform(0.4, 1), blur_px=rng.uniform(0, 1)
        )
        estimate = estimate_translation(reference, moving)
        assert estimate.ok, (seed, estimate)
        assert np.abs(np.subtract(estimate.shift_yx_px, shift)).max() < 0.05, seed


def test_the_empty_scene_is_rendered_empty():
    """The generator itself: without aggregates and haze nothing is left but the background."""
    bare = blob_scene((64, 64), n_aggregates=5, seed=1, haze=0)
    assert np.ptp(expected(replace(bare, height=bare.height * 0))) == 0
