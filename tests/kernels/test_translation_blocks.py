"""The last hundredths of a pixel: blocks that changed must not pull, wherever the search began."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from phagostat.kernels.normalisation import reduce_area
from phagostat.kernels.reference import choose_reference, reference_candidate
from phagostat.kernels.translation import estimate_translation, prepare_reference
from phagostat.kernels.translation_blocks import BLOCK_PX, SQUARE_PX, block_sums, settle_by_blocks
from phagostat.simulate.movie import Simulation
from phagostat.simulate.spec import Mode, SimulationSpec

from .translation_scenes import blob_scene, expected, frame_of, recorded

SHIFT = np.array([12.37, -21.64])


def bitten(scene, share, *, rng):
    """The scene with one side of this share of its aggregates eaten: their centroids move."""
    chosen = rng.permutation(scene.n_aggregates)[: round(share * scene.n_aggregates)]
    middle = np.array([scene.centre[scene.owner == a].mean(axis=0) for a in range(scene.n_aggregates)])
    # always the upper side, so that the mistakes of single aggregates add up
    upper = scene.centre[:, 0] < middle[scene.owner, 0]
    return replace(scene, height=np.where(np.isin(scene.owner, chosen) & upper, 0.0, scene.height))


def error_px(estimate, shift=SHIFT):
    assert estimate.ok, (estimate.reason, estimate.evidence)
    return float(np.abs(np.subtract(estimate.shift_yx_px, shift)).max())


def test_sums_over_blocks_are_sums_over_blocks():
    pixels = np.random.default_rng(0).normal(size=(3, 2, SQUARE_PX**2)).astype(np.float32)
    per_side = SQUARE_PX // BLOCK_PX
    plain = pixels.reshape(3, 2, per_side, BLOCK_PX, per_side, BLOCK_PX).sum(axis=(3, 5)).reshape(3, 2, -1)
    assert_allclose(block_sums(pixels), plain, atol=1e-4)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_bites_at_one_side_do_not_pull(share):
    for seed in range(4):
        scene = blob_scene((512, 512), n_aggregates=40, seed=seed)
        later = bitten(scene, share, rng=np.random.default_rng(seed))
        estimate = estimate_translation(frame_of(scene, seed=1), frame_of(later, SHIFT, seed=2))
        assert error_px(estimate) < 0.03
        assert 0.1 < estimate.evidence["unchanged"] < 0.95


def test_a_tilted_lamp_does_not_pull():
    """The lamp's field multiplies what it lights, and stays with the camera while the field moves."""
    scene = blob_scene((512, 512), n_aggregates=40, seed=3)
    tilt = 1 + 0.12 * np.linspace(-1, 1, 512)[:, None] - 0.06 * np.linspace(-1, 1, 512)[None]
    reference, moving = recorded(expected(scene), seed=1), recorded(expected(scene, SHIFT) * tilt, seed=2)
    assert error_px(estimate_translation(reference, moving)) < 0.02


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_answer_does_not_depend_on_where_it_began(share):
    """Aggregates that are gone must not hold the frame where the search put it."""
    scene = blob_scene((512, 512), n_aggregates=40, seed=5)
    later = scene.without(share, rng=np.random.default_rng(1))
    reference = prepare_reference(frame_of(scene, seed=1))
    moving = frame_of(later, SHIFT, seed=2)
    ends = []
    for start in ((0.0, 0.0), (0.08, 0.0), (0.0, -0.08), (-0.06, 0.06)):
        solution = settle_by_blocks(reference.blocks, moving, shift_yx_px=SHIFT + start, gain=1.0)
        assert solution is not None
        ends.append(solution.shift_yx_px)
    assert np.ptp(ends, axis=0).max() < 0.01
    assert np.abs(ends - SHIFT).max() < 0.02


@pytest.mark.parametrize("gain", [0.9, 1.1])
def test_a_gain_known_roughly_is_enough(gain):
    scene = blob_scene((512, 512), n_aggregates=40, seed=5)
    reference = prepare_reference(frame_of(scene, seed=1))
    solution = settle_by_blocks(reference.blocks, frame_of(scene, SHIFT, seed=2), shift_yx_px=SHIFT, gain=gain)
    assert solution is not None
    assert np.abs(solution.shift_yx_px - SHIFT).max() < 0.02


def test_blocks_refuse_what_lies_elsewhere():
    """A start that is wrong by pixels, a frame that shows something else, a reference without structure."""
    scene = blob_scene((256, 256), n_aggregates=15, seed=5)
    blocks = prepare_reference(frame_of(scene, seed=1)).blocks
    foreign = frame_of(blob_scene((256, 256), n_aggregates=15, seed=6), seed=3)
    assert settle_by_blocks(blocks, frame_of(scene, SHIFT, seed=2), shift_yx_px=SHIFT + 8, gain=1.0) is None
    assert settle_by_blocks(blocks, foreign, shift_yx_px=SHIFT, gain=1.0) is None
    flat = prepare_reference(np.full((256, 256), 300, np.uint16)).blocks
    assert settle_by_blocks(flat, foreign, shift_yx_px=SHIFT, gain=1.0) is None


# ------------------------------------------------------------------------------------------------------ whole movies


def sharp_frames_of_a_movie(spec):
    """Estimates and true shifts of all sharp frames, against the reference that a run would choose."""
    simulation = Simulation(spec)
    conditions = simulation.scene(0).conditions
    step = spec.reduction

    def aggregates(frame):
        return simulation.scene(0).render(frame)[0]

    first = [reference_candidate(f, aggregates=reduce_area(aggregates(f), factor=step), cells=None) for f in range(5)]
    chosen = choose_reference(first, cells_needed=False).frame
    assert chosen is not None
    reference = prepare_reference(aggregates(chosen))
    for frame in range(0, spec.frames, 3):
        if conditions.defocus_px[frame] <= 0.5 and frame != chosen:
            truth = conditions.shift_yx_px[frame] - conditions.shift_yx_px[chosen]
            yield frame, estimate_translation(reference, aggregates(frame)), truth


@pytest.mark.parametrize("preset", ["default", "hard"])
@pytest.mark.parametrize("seed", [15, 34])
def test_every_sharp_frame_of_a_simulated_movie(preset, seed):
    spec = SimulationSpec(preset=preset, seed=seed, scenes=1, frames=30, shape_yx=(512, 512))
    ratios = []
    for frame, estimate, truth in sharp_frames_of_a_movie(spec):
        assert error_px(estimate, truth) < 0.05, frame
        ratios += list(np.subtract(estimate.shift_yx_px, truth) / estimate.standard_error_yx_px)
    assert len(ratios) >= 10
    # errors of one movie share the reference's noise, so that one movie alone scatters more than many do
    assert 0.4 < np.sqrt(np.mean(np.square(ratios))) < 2.0


@pytest.mark.real
@pytest.mark.parametrize(("preset", "seed"), [("default", 33), ("hard", 16)])
def test_every_sharp_frame_of_a_semi_synthetic_movie(shared_data, preset, seed):
    """Two movies of which the search by tiles alone refused sharp frames."""
    spec = SimulationSpec(
        preset=preset, mode=Mode.SEMI, seed=seed, scenes=1, frames=30, shape_yx=(512, 512), data=shared_data
    )
    for frame, estimate, truth in sharp_frames_of_a_movie(spec):
        assert error_px(estimate, truth) < 0.05, frame
