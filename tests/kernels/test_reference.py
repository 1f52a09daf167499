"""Which frame becomes the reference, and what is frozen from it."""

from __future__ import annotations

import numpy as np
import pytest

from phagostat.kernels.intensity import FrameVerdict, background_level, intensity_histogram
from phagostat.kernels.normalisation import normalise_aggregates, normalise_cells, reduce_area
from phagostat.kernels.reference import (
    ReferenceCandidate,
    aggregate_reference,
    cell_reference,
    choose_reference,
    reference_candidate,
)
from phagostat.kernels.sharpness import Sharpness

from .aggregate_scenes import AggregateScene, aggregate_scene


def cells(shape: tuple[int, int] = (512, 512), *, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 9000 + 900 * np.sin(y / 23) * np.sin(x / 31)
    return np.rint(image + np.random.default_rng(seed).normal(0, 60, shape)).astype(np.uint16)


@pytest.fixture(scope="module")
def scene() -> AggregateScene:
    return aggregate_scene(50, seed=2)


def candidate(scene: AggregateScene, frame: int, *, defocus_px: float = 0.0):
    return reference_candidate(
        frame, aggregates=scene.frame(seed=frame, defocus_px=defocus_px), cells=cells(seed=frame)
    )


def test_the_first_frame_about_as_sharp_as_the_sharpest_is_chosen(scene: AggregateScene) -> None:
    defocus = (1.0, 0.9, 0.3, 0.0, 0.5)
    choice = choose_reference([candidate(scene, k, defocus_px=d) for k, d in enumerate(defocus)])
    assert choice.frame == 2
    assert choice.rejected == ()
    assert "5 usable" in choice.reason


def test_blurred_black_constant_and_missing_first_frames_do_not_spoil_the_scene(scene: AggregateScene) -> None:
    black = np.rint(np.random.default_rng(0).normal(100, 3, scene.shape_yx)).astype(np.uint16)
    good = scene.frame()
    candidates = [
        candidate(scene, 0, defocus_px=3.0),
        reference_candidate(1, aggregates=black, cells=cells()),
        reference_candidate(2, aggregates=good, cells=np.full(scene.shape_yx, 900, np.uint16)),
        reference_candidate(3, aggregates=None, cells=cells()),
        reference_candidate(4, aggregates=good, cells=None),
        reference_candidate(5, aggregates=np.full(scene.shape_yx, 65535, np.uint16), cells=cells()),
        candidate(scene, 6, defocus_px=0.5),
    ]
    choice = choose_reference(candidates)
    assert choice.frame == 6
    problems = dict(choice.rejected)
    assert "out of focus" in problems[0]
    assert "aggregate channel black" in problems[1]
    assert "cell channel constant" in problems[2]
    assert problems[3] == "no aggregate channel"
    assert problems[4] == "no cell channel"
    assert "aggregate channel saturated" in problems[5]


@pytest.mark.parametrize("defocus_px", [2.0, 3.0, 5.0, 8.0])
def test_a_scene_that_starts_blurred_has_no_reference_yet(scene: AggregateScene, defocus_px: float) -> None:
    choice = choose_reference([candidate(scene, k, defocus_px=defocus_px) for k in range(5)])
    assert choice.frame is None
    assert "no usable frame" in choice.reason
    assert len(choice.rejected) == 5


def test_no_candidates_and_cells_not_needed(scene: AggregateScene) -> None:
    assert choose_reference([]).frame is None
    lonely = reference_candidate(3, aggregates=scene.frame(), cells=None)
    assert choose_reference([lonely]).frame is None
    assert choose_reference([lonely], cells_needed=False).frame == 3


def test_equals_go_to_the_earliest(scene: AggregateScene) -> None:
    one = candidate(scene, 4)
    twin = reference_candidate(2, aggregates=scene.frame(seed=4), cells=cells(seed=4))
    assert choose_reference([one, twin]).frame == 2


def test_no_aggregates_is_no_reference() -> None:
    slope = np.rint(400 + np.linspace(0, 300, 512)[None, :] + np.random.default_rng(0).normal(0, 8, (512, 512)))
    empty = reference_candidate(0, aggregates=slope.astype(np.uint16), cells=cells())
    choice = choose_reference([empty])
    assert choice.frame is None
    assert "no aggregates" in choice.reason


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_what_is_frozen_from_the_aggregates(scene: AggregateScene, factor: int) -> None:
    frame = scene.frame()[:-1, :-3]
    reduced = reduce_area(frame, factor=factor)
    frozen = aggregate_reference(frame, factor=factor)
    low, high = np.percentile(reduced, [0.5, 99.5])
    assert (frozen.low_counts, frozen.high_counts) == (low, high)
    np.testing.assert_array_equal(frozen.histogram, np.bincount(reduced.ravel(), minlength=65536))
    assert frozen.background_counts == background_level(intensity_histogram(reduced)) == pytest.approx(400, abs=3)
    assert frozen.noise_counts == pytest.approx(np.sqrt(100 + 0.25 * 300) / factor, rel=0.25)
    grey = normalise_aggregates(frame, table=frozen.table, factor=factor)
    assert (grey[reduced <= low] == 0).all()
    assert (grey[reduced >= high] == 255).all()
    assert (grey == 255).mean() == pytest.approx(0.005, abs=0.002)


def test_what_is_frozen_from_the_cells() -> None:
    frame = cells((515, 601))
    shade = np.linspace(0.7, 1.0, 601)[None, :]
    shaded = np.rint(frame * shade).astype(np.uint16)
    flat = cell_reference(shaded, factor=2, flat_field_sigma_px=60, mean=120, sd=30)
    raw = cell_reference(shaded, factor=2, flat_field_sigma_px=None, mean=120, sd=30)
    assert flat.gain is not None
    assert flat.gain.shape == (257, 300)
    assert raw.gain is None
    evened = normalise_cells(shaded, table=flat.table, gain=flat.gain, factor=2).astype(float)
    left = normalise_cells(shaded, table=raw.table, gain=raw.gain, factor=2).astype(float)
    for grey in (evened, left):
        assert grey.mean() == pytest.approx(120, abs=1)
        assert grey.std() == pytest.approx(30, abs=1)
    after, before = (grey[:, -100:].mean() - grey[:, :100].mean() for grey in (evened, left))
    assert abs(after) < 0.6 * before


def test_a_reference_in_doubtful_focus_is_said_to_be():
    verdict = FrameVerdict("ok", "")

    def candidate(frame, focus):
        return ReferenceCandidate(frame, verdict, verdict, Sharpness(focus, 9, 1.0, 1.0), Sharpness(focus, 9, 1.0, 1.0))

    soft = choose_reference([candidate(0, 2.5), candidate(1, 2.9)])
    assert (soft.frame, soft.clear) == (1, False)
    sharp = choose_reference([candidate(0, 2.5), candidate(1, 2.6), candidate(5, 3.5)])
    assert (sharp.frame, sharp.clear) == (5, True)
