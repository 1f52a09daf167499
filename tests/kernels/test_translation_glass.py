"""Shifts from what is fixed on the glass of a phase-contrast frame, while the cells on it move."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from phagostat.kernels.translation import (
    estimate_translation,
    prepare_glass_reference,
    prepare_reference,
    translation_by_glass,
)

from .translation_scenes import blob_scene, frame_of

SIDE = 448
few = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
component = st.floats(-40, 40)
shifts = st.tuples(component, component)


def dots(places, sigma, height, *, side=SIDE):
    """Gaussians, sampled."""
    axis = np.arange(side, dtype=float)
    down = np.exp(-((axis[None] - places[:, :1]) ** 2) / (2 * sigma[:, None] ** 2))
    across = np.exp(-((axis[None] - places[:, 1:]) ** 2) / (2 * sigma[:, None] ** 2))
    return np.einsum("n,ny,nx->yx", height, down, across)


def field(shift=(0.0, 0.0), crawl=(0.0, 0.0), *, seed=0, scene=0, n_specks=260, n_cells=7, dirt=0, side=SIDE):
    """A phase-contrast frame: specks on the glass, cells of many granules that crawl over it, dirt in the camera.

    Everything that lies on the glass moves by `shift`, and cells besides one way, `crawl` more or less; dirt stays.
    """
    rng, crawl = np.random.default_rng(scene), np.asarray(crawl)
    specks = rng.uniform(-60, side + 60, (n_specks, 2)) + shift
    frame = 5000.0 - dots(specks, rng.uniform(1.2, 2.5, n_specks), rng.uniform(150, 500, n_specks), side=side)
    for middle in rng.uniform(0, side, (n_cells, 2)):
        granules = middle + rng.normal(0, 16, (60, 2)) + shift + crawl * rng.normal(1, 0.5)
        frame += dots(granules, rng.uniform(1.5, 3, 60), rng.normal(0, 900, 60), side=side)
    spots = rng.uniform(0, side, (dirt, 2))
    frame -= dots(spots, np.full(dirt, 1.8), np.full(dirt, 400.0), side=side)
    noisy = np.random.default_rng(10_000 + seed).normal(frame, 30)
    return np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def reference():
    return prepare_glass_reference(field())


def error_px(estimate, shift):
    assert estimate.ok, (estimate.reason, estimate.evidence)
    return float(np.abs(np.subtract(estimate.shift_yx_px, shift)).max())


@few
@given(shift=shifts, crawl=st.tuples(st.floats(-8, 8), st.floats(-8, 8)), seed=st.integers(1, 10**6))
def test_cells_that_all_crawl_one_way_do_not_drag_the_shift(reference, shift, crawl, seed):
    estimate = translation_by_glass(reference, field(shift, crawl, seed=seed))
    assert error_px(estimate, shift) < 0.1
    assert estimate.method == "glass"


@few
@given(first=shifts, second=shifts)
def test_shifts_add_up(first, second):
    """From a to b and from b to c is from a to c."""
    first, second = np.multiply(first, 0.6), np.multiply(second, 0.6)
    frames = [
        field(first * (k > 0) + second * (k > 1), np.array((2.5, -1.5)) * k, seed=k) for k in range(3)
    ]  # the cells move on meanwhile
    of_a, of_b = (prepare_glass_reference(frame) for frame in frames[:2])
    there, whole = (translation_by_glass(of_a, frame).shift_yx_px for frame in frames[1:])
    on = translation_by_glass(of_b, frames[2]).shift_yx_px
    assert_allclose(np.add(there, on), whole, atol=0.15)


def test_standard_error_is_that_of_the_errors(reference):
    """It knows what scatters from part to part, not what cells pull everywhere alike: right within a factor of 2.5."""
    rng = np.random.default_rng(4)
    errors, stated = [], []
    for seed in range(16):
        shift = rng.uniform(-30, 30, 2)
        estimate = translation_by_glass(reference, field(shift, rng.uniform(-6, 6, 2), seed=1 + seed))
        errors.append(np.subtract(estimate.shift_yx_px, shift))
        stated.append(estimate.standard_error_yx_px)
    ratio = np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(stated)))
    assert 1 / 2.5 < ratio < 2.5


@pytest.mark.parametrize(
    "moving",
    [
        pytest.param(lambda: np.zeros((SIDE, SIDE), np.uint16), id="black"),
        pytest.param(lambda: np.full((SIDE, SIDE), 431, np.uint16), id="constant"),
        pytest.param(lambda: field(n_specks=0, n_cells=0, seed=1), id="noise"),
        pytest.param(lambda: field(scene=5, seed=1), id="foreign"),
        pytest.param(field(seed=1)[:, ::-1].copy, id="mirrored"),
        pytest.param(field(seed=1)[::-1, ::-1].copy, id="turned"),
        pytest.param(lambda: np.rot90(field(seed=1)).copy(), id="turned by 90"),
        pytest.param(lambda: cv2.GaussianBlur(field(seed=1), (0, 0), 8.0), id="blurred"),
        pytest.param(lambda: frame_of(blob_scene((SIDE, SIDE), n_aggregates=40, seed=3)), id="other channel"),
    ],
)
def test_impossible_pairs_are_refused(reference, moving):
    estimate = translation_by_glass(reference, moving())
    assert not estimate.ok
    assert estimate.reason
    assert np.isnan(estimate.shift_yx_px).all()
    assert estimate.confidence == 0


def test_one_cell_on_a_clean_glass_is_no_witness():
    """Its many granules agree, but they lie in one place."""
    rng = np.random.default_rng(2)
    granules = SIDE / 2 + rng.normal(0, 22, (90, 2))
    look = rng.uniform(1.5, 3, 90), rng.normal(0, 900, 90)
    frames = [
        np.rint(np.random.default_rng(k).normal(5000 + dots(granules + k * np.array((3, 4)), *look), 30))
        for k in (0, 1)
    ]
    first, second = (frame.astype(np.uint16) for frame in frames)
    estimate = translation_by_glass(prepare_glass_reference(first), second, cell_px=100)
    assert not estimate.ok


def test_dirt_in_the_camera_is_not_taken_for_the_glass():
    """As much of it as specks: it stands still while the glass moves; the true shift, or none."""
    shift = (17.0, -12.5)
    for scene in range(3):
        reference = prepare_glass_reference(field(scene=scene, dirt=150))
        estimate = translation_by_glass(reference, field(shift, (3, 3), scene=scene, dirt=150, seed=1))
        assert not estimate.ok or error_px(estimate, shift) < 0.1


def test_a_glass_without_specks_is_no_reference(reference):
    blank = prepare_glass_reference(np.full((SIDE, SIDE), 900, np.uint16))
    estimate = translation_by_glass(blank, field(seed=1))
    assert estimate.reason.startswith("the reference shows too little")


def test_a_reduced_frame_at_hand_gives_the_same():
    """The frame averaged over pairs of pixels, as the analysis grid is: what it would have been reduced to anyway."""
    frames = [
        np.repeat(np.repeat(field(shift, side=832, n_specks=700), 2, 0), 2, 1) for shift in ((0, 0), (9.0, -14.0))
    ]
    reference = prepare_glass_reference(frames[0])
    assert reference.reduction == 2
    reduced = frames[1][::2, ::2].copy()
    plain, given_one = (translation_by_glass(reference, frames[1], reduced=r) for r in (None, reduced))
    assert plain == given_one
    assert error_px(plain, (18.0, -28.0)) < 0.1


def test_same_bytes_at_any_number_of_threads(reference):
    moving = field((7.3, -8.9), (2, 2), seed=6)
    before = cv2.getNumThreads()
    try:
        estimates = []
        for threads in (1, 2, 0):
            cv2.setNumThreads(threads)
            estimates.append(translation_by_glass(prepare_glass_reference(field()), moving))
            estimates.append(translation_by_glass(pickle.loads(pickle.dumps(reference)), moving))
    finally:
        cv2.setNumThreads(before)
    assert len({(e.shift_yx_px, e.standard_error_yx_px) for e in estimates}) == 1


# ------------------------------------------------------------------------------ where the aggregates tell too little


def pair_of_channels(share):
    """Aggregates of which this share is eaten in the second frame, and the phase channel of the same two frames."""
    shift = (11.4, -6.75)
    scene = blob_scene((SIDE, SIDE), n_aggregates=16, seed=6)
    later = scene.without(share, rng=np.random.default_rng(1))
    aggregates = frame_of(scene, seed=1), frame_of(later, shift, seed=2)
    cells = field(), field(shift, (4.0, 4.0), seed=3)
    return shift, aggregates, cells


@pytest.mark.parametrize(("share", "method"), [(0.3, "tiles"), (1.0, "glass")])
def test_the_glass_is_asked_where_too_few_aggregates_are_left(share, method):
    shift, aggregates, cells = pair_of_channels(share)
    asked = []

    def fallback():
        asked.append(True)
        return translation_by_glass(prepare_glass_reference(cells[0]), cells[1])

    estimate = estimate_translation(*aggregates, fallback=fallback)
    assert error_px(estimate, shift) < 0.1
    assert estimate.method == method
    assert bool(asked) == (method == "glass")


def test_both_channels_give_the_same_stage():
    _, aggregates, cells = pair_of_channels(0.5)
    of_aggregates = estimate_translation(*aggregates)
    of_glass = estimate_translation(*cells, method="glass")
    assert of_aggregates.ok
    assert of_glass.ok
    assert_allclose(of_aggregates.shift_yx_px, of_glass.shift_yx_px, atol=0.1)


def test_where_neither_channel_tells_both_reasons_are_stated():
    _, aggregates, cells = pair_of_channels(1.0)
    foreign = field(scene=9, seed=3)

    def fallback():
        return translation_by_glass(prepare_glass_reference(cells[0]), foreign)

    estimate = estimate_translation(*aggregates, fallback=fallback)
    assert not estimate.ok
    assert "agree" in estimate.reason
    assert "glass" in estimate.reason
    assert estimate.method == "tiles"


def test_a_frame_that_failed_otherwise_is_not_saved_by_the_other_channel():
    """A dead frame, a blurred one, a shift out of reach: there is nothing to measure in it, or it is not believed."""
    scene = blob_scene((SIDE, SIDE), n_aggregates=40, seed=6)
    reference = prepare_reference(frame_of(scene, seed=1))

    def never():
        raise AssertionError("was asked")

    constant = estimate_translation(reference, np.full((SIDE, SIDE), 9, np.uint16), fallback=never)
    assert "constant" in constant.reason
    blurred = estimate_translation(reference, frame_of(scene, seed=2, blur_px=3.0), max_misfit=0.02, fallback=never)
    assert "blurred" in blurred.reason
    far = frame_of(scene, (50.0, 3.0), seed=2)
    beyond = estimate_translation(reference, far, search_radius_px=49.5, fallback=never)
    assert "search radius" in beyond.reason


# ------------------------------------------------------------------------------------------------------- a real movie


def real_frames(folder):
    paths = sorted((folder / "t98g").glob("*.tif"))
    if not paths:
        pytest.skip("no real movie at hand")
    return [tifffile.imread(path) for path in paths]


def window(frame, shift, *, margin=42):
    """What a camera sees of a frame whose stage stands `shift` off: cut out, not wrapped."""
    (height, width), (dy, dx) = frame.shape, shift
    return np.ascontiguousarray(frame[margin - dy : height - margin - dy, margin - dx : width - margin - dx])


@pytest.mark.real
def test_real_movie_of_crawling_cells(shared_data):
    """Its stage drifts by about 1 px, its cells by tens."""
    frames = real_frames(shared_data)
    reference = prepare_reference(window(frames[0], (0, 0)))
    rng = np.random.default_rng(20)
    for number, frame in enumerate(frames):
        shift = rng.integers(-40, 41, 2)
        estimate = estimate_translation(reference, window(frame, shift), method="glass")
        assert estimate.ok, (number, estimate)
        assert np.abs(np.subtract(estimate.shift_yx_px, shift)).max() < 1.5


@pytest.mark.real
def test_real_shifts_add_up(shared_data):
    """By way of any frame in between, to a few hundredths of a pixel."""
    frames = [window(frame, (0, 0)) for frame in real_frames(shared_data)]
    first, middle = (prepare_glass_reference(frames[k]) for k in (0, 3))
    there = translation_by_glass(first, frames[3]).shift_yx_px
    for last in (5, 7):
        on, whole = (translation_by_glass(r, frames[last]).shift_yx_px for r in (middle, first))
        assert_allclose(np.add(there, on), whole, atol=0.05)
