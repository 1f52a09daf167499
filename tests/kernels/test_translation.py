"""Shifts of exactly rendered scenes, from the default method and the ones it is compared with."""

from __future__ import annotations

import pickle
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from phagostat.kernels.translation import METHODS, TranslationReference, estimate_translation, prepare_reference

from .translation_scenes import blob_scene, expected, frame_of, recorded

quick = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
few = settings(quick, max_examples=12)
component = st.floats(-60, 60)
shifts = st.tuples(component, component)


@pytest.fixture(scope="module")
def scene():
    return blob_scene((384, 400), n_aggregates=24, seed=3)


@pytest.fixture(scope="module")
def reference(scene):
    return prepare_reference(frame_of(scene, seed=1))


def error_px(estimate, shift):
    assert estimate.ok, (estimate.reason, estimate.evidence)
    return float(np.abs(np.subtract(estimate.shift_yx_px, shift)).max())


# ------------------------------------------------------------------------------------------------------ what it gives


@quick
@given(shift=shifts, seed=st.integers(0, 10**6))
def test_any_shift_is_recovered(scene, reference, shift, seed):
    estimate = estimate_translation(reference, frame_of(scene, shift, seed=seed))
    assert error_px(estimate, shift) < 0.03
    assert max(estimate.standard_error_yx_px) < 0.03
    assert 0.5 < estimate.confidence <= 1


@pytest.mark.parametrize("method", sorted(METHODS))
def test_sign_and_axis_order(scene, reference, method):
    shift = (1.5, -0.75) if method == "ecc" else (13.0, -7.0)  # one level of correlation reaches no further
    moving = frame_of(scene, shift, seed=2)
    assert error_px(estimate_translation(reference, moving, method=method), shift) < 0.2


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (37, -21), (-80, 66), (100, 100)])
def test_integer_crops_of_one_large_image(dy, dx):
    """No renderer in between: both frames are windows of one expected image, with their own noise."""
    large = expected(blob_scene((640, 660), n_aggregates=60, seed=5))
    window = large[110:510, 110:530]
    moved = large[110 - dy : 510 - dy, 110 - dx : 530 - dx]
    estimate = estimate_translation(recorded(window, seed=1), recorded(moved, seed=2))
    assert error_px(estimate, (dy, dx)) < 0.02


@pytest.mark.parametrize("shift", [(0.37, -0.81), (12.25, 5.5)])
def test_fourier_shift_of_a_periodic_scene(scene, shift):
    """A second exact generator: the Fourier shift of a scene that fades out before its border."""
    frame = expected(scene, background=0.0)
    window = np.hanning(frame.shape[0])[:, None] * np.hanning(frame.shape[1])[None]
    frame = frame * window**0.5 + 300
    fy, fx = np.fft.fftfreq(frame.shape[0])[:, None], np.fft.rfftfreq(frame.shape[1])[None]
    phase = np.exp(-2j * np.pi * (fy * shift[0] + fx * shift[1]))
    moved = np.fft.irfft2(np.fft.rfft2(frame) * phase, frame.shape)
    estimate = estimate_translation(recorded(frame, seed=1), recorded(moved, seed=2))
    assert error_px(estimate, shift) < 0.02


@few
@given(first=shifts, second=shifts)
def test_shifts_add_up(scene, first, second):
    """From a to b and from b to c is from a to c."""
    first, second = np.multiply(first, 0.6), np.multiply(second, 0.6)
    frames = [frame_of(scene, s, seed=i) for i, s in enumerate([(0, 0), first, first + second])]
    there, on, whole = (estimate_translation(a, b).shift_yx_px for a, b in [*pairwise(frames), (frames[0], frames[2])])
    assert_allclose(np.add(there, on), whole, atol=0.05)


@few
@given(shift=shifts)
def test_exchanging_the_frames_changes_the_sign(scene, shift):
    a, b = frame_of(scene, seed=1), frame_of(scene, shift, seed=2)
    there, back = estimate_translation(a, b), estimate_translation(b, a)
    assert_allclose(there.shift_yx_px, np.negative(back.shift_yx_px), atol=0.03)


@few
@given(gain=st.floats(0.3, 3.0), offset=st.integers(0, 2000), shift=shifts)
def test_gain_and_offset_do_not_matter(scene, reference, gain, offset, shift):
    moving = frame_of(scene, shift, seed=4)
    rescaled = np.rint(moving * gain + offset).astype(np.uint16)
    plain, other = estimate_translation(reference, moving), estimate_translation(reference, rescaled)
    assert_allclose(other.shift_yx_px, plain.shift_yx_px, atol=0.01)
    assert_allclose(other.evidence["gain"] / plain.evidence["gain"], gain, rtol=0.02)


def test_standard_error_is_that_of_the_errors(scene, reference):
    """The stated error is right within a factor of 1.5 over 40 independent frames."""
    rng = np.random.default_rng(8)
    errors, stated = [], []
    for seed in range(40):
        shift = rng.uniform(-30, 30, 2)
        estimate = estimate_translation(reference, frame_of(scene, shift, seed=100 + seed))
        errors.append(np.subtract(estimate.shift_yx_px, shift))
        stated.append(estimate.standard_error_yx_px)
    ratio = np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(stated)))
    assert 1 / 1.5 < ratio < 1.5


# ----------------------------------------------------------------------------------------- what happens to real frames


@pytest.mark.parametrize(
    ("optics", "limit_px"),
    [
        pytest.param({"read_noise": 30.0}, 0.05, id="noise"),
        pytest.param({"gain": 0.2}, 0.05, id="faded to a fifth"),
        pytest.param({"tilt": 300.0, "background": 900.0}, 0.03, id="uneven light"),
        pytest.param({"blur_px": 1.0}, 0.03, id="sharp by the project's definition"),
        pytest.param({"blur_px": 3.0}, 0.1, id="mild blur"),
        pytest.param({"saturation": 700}, 0.05, id="saturated"),
    ],
)
def test_imperfect_frames(scene, reference, optics, limit_px):
    rng = np.random.default_rng(4)
    for seed in range(4):
        shift = rng.uniform(-50, 50, 2)
        estimate = estimate_translation(reference, frame_of(scene, shift, seed=50 + seed, **optics))
        assert error_px(estimate, shift) < limit_px


@pytest.mark.parametrize("change", ["eaten", "carried off"])
@pytest.mark.parametrize(("share", "limit_px"), [(0.3, 0.03), (0.6, 0.1)])
def test_most_aggregates_gone_or_moved(change, share, limit_px):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        scene = blob_scene((512, 512), n_aggregates=40, seed=seed)
        shift = rng.uniform(-60, 60, 2)
        later = scene.without(share, rng=rng) if change == "eaten" else scene.with_moved(share, rng=rng)
        estimate = estimate_translation(frame_of(scene, seed=1), frame_of(later, shift, seed=2))
        error = error_px(estimate, shift)
        # of 40 aggregates on this small field as few as 4 may be left whole: then it says that it is less certain
        assert error < max(0.02, 4 * max(estimate.standard_error_yx_px))
        assert error < limit_px
        assert estimate.evidence["n_inliers"] < estimate.evidence["n_tiles"]


@pytest.mark.parametrize(
    ("shape", "n_aggregates", "reach_px"),
    [((128, 128), 12, 15), ((200, 330), 12, 30), ((256, 256), 8, 30), ((512, 512), 5, 40), ((777, 1023), 40, 100)],
)
def test_fields_of_any_size(shape, n_aggregates, reach_px):
    for seed in range(3):
        scene = blob_scene(shape, n_aggregates=n_aggregates, seed=seed)
        shift = np.random.default_rng(seed).uniform(-reach_px, reach_px, 2)
        estimate = estimate_translation(frame_of(scene, seed=1), frame_of(scene, shift, seed=2))
        assert error_px(estimate, shift) < 0.05


def test_eight_bits(scene):
    shift = (-14.3, 22.6)
    a, b = frame_of(scene, seed=1, dtype=np.uint8), frame_of(scene, shift, seed=2, dtype=np.uint8)
    assert a.dtype == np.uint8
    assert error_px(estimate_translation(a, b), shift) < 0.03


def test_hot_pixels_do_not_hold_the_field_back(scene):
    """A camera's hot pixels stand still while the field moves a little."""
    spots = np.random.default_rng(0).integers(0, scene.shape, (300, 2)).T
    shift = (2.4, -1.7)
    frames = [frame_of(scene, s, seed=i) for i, s in enumerate([(0, 0), shift])]
    for frame in frames:
        frame[tuple(spots)] = 4000
    assert error_px(estimate_translation(*frames), shift) < 0.05


def test_new_content_at_the_border(scene, reference):
    """Half of the border's frame is something that the reference never saw."""
    shift = (31.5, -44.25)
    moving = expected(scene, shift)
    other = expected(blob_scene(scene.shape, n_aggregates=60, seed=77))
    moving[:60], moving[:, :60] = other[:60], other[:, :60]
    assert error_px(estimate_translation(reference, recorded(moving, seed=9)), shift) < 0.03


# --------------------------------------------------------------------------------------------------- how it is computed


def test_same_bytes_at_any_number_of_threads(scene, reference):
    moving = frame_of(scene, (17.3, -8.9), seed=6)
    before = cv2.getNumThreads()
    try:
        estimates = []
        for threads in (1, 2, 1, 0):
            cv2.setNumThreads(threads)
            again = prepare_reference(reference.frame)
            # a copy at another address: the alignment of its memory must not matter either
            padded = np.empty(moving.size + 5, np.uint16)[5:].reshape(moving.shape)
            padded[...] = moving
            estimates += [estimate_translation(again, moving), estimate_translation(reference, padded)]
    finally:
        cv2.setNumThreads(before)
    assert len({(e.shift_yx_px, e.standard_error_yx_px) for e in estimates}) == 1


def test_a_prepared_reference_travels(scene, reference):
    moving = frame_of(scene, (3.2, 4.1), seed=6)
    copy = pickle.loads(pickle.dumps(reference))
    assert isinstance(copy, TranslationReference)
    assert estimate_translation(copy, moving) == estimate_translation(reference, moving)
    assert estimate_translation(reference.frame, moving) == estimate_translation(reference, moving)


def test_inputs_stay_as_they_are(scene, reference):
    moving = frame_of(scene, (3.2, 4.1), seed=6)
    before, fixed = moving.copy(), reference.frame.copy()
    estimate_translation(reference, moving)
    assert np.array_equal(before, moving)
    assert np.array_equal(fixed, reference.frame)


def test_a_wider_search_than_prepared(scene):
    narrow = prepare_reference(frame_of(scene, seed=1), search_radius_px=20)
    shift = (-71.25, 60.5)
    assert error_px(estimate_translation(narrow, frame_of(scene, shift, seed=2)), shift) < 0.03


def test_arguments_are_checked(scene, reference):
    moving = frame_of(scene, seed=2)
    with pytest.raises(ValueError, match="same shape"):
        estimate_translation(reference, moving[:-1])
    with pytest.raises(ValueError, match="uint8 or uint16"):
        estimate_translation(reference, moving.astype(float))
    with pytest.raises(ValueError, match="uint8 or uint16"):
        prepare_reference(moving[None])
    with pytest.raises(ValueError, match="unknown method"):
        estimate_translation(reference, moving, method="guess")
    with pytest.raises(ValueError, match="tile_px"):
        prepare_reference(moving, tile_px=7)
    with pytest.raises(ValueError, match="at least 64"):
        prepare_reference(moving[:50, :50])


@pytest.mark.parametrize("start", [(31.0, -18.0), (33.4, -15.1), (28.0, -20.0), (-40.0, 90.0), (400.0, -400.0)])
def test_a_hint_changes_the_way_and_not_the_answer(scene, reference, start):
    """Near or far off, even out of the field: the same shift to a small part of its standard error."""
    moving = frame_of(scene, (31.2, -17.7), seed=8)
    plain, hinted = (estimate_translation(reference, moving, **o) for o in ({}, {"start_yx_px": start}))
    difference = np.subtract(plain.shift_yx_px, hinted.shift_yx_px)
    assert (np.abs(difference) < 0.2 * np.array(plain.standard_error_yx_px)).all()


def test_a_hint_saves_no_impossible_pair(scene, reference):
    other = frame_of(blob_scene(scene.shape, n_aggregates=24, seed=99), seed=8)
    assert not estimate_translation(reference, other, start_yx_px=(3.0, 2.0)).ok


# ------------------------------------------------------------------------------------------------- methods to compare


def test_published_cascade_finds_a_shift_and_says_how_well(scene, reference):
    shift = (6.3, -4.7)
    estimate = estimate_translation(reference, frame_of(scene, shift, seed=2), method="cecc", largest_kernel_px=129)
    assert error_px(estimate, shift) < 0.1
    assert estimate.evidence["correlation"] > 0.8


def test_published_cascade_states_its_failure(scene, reference):
    noise = recorded(np.full(scene.shape, 300.0), seed=1)
    estimate = estimate_translation(reference, noise, method="cecc", n_kernels=2, max_iterations=100)
    if estimate.ok:  # the published method accepts nonsense, but its correlation tells
        assert estimate.evidence["correlation"] < 0.2
    else:
        assert estimate.reason.startswith(("the correlation", "the search", "the shift"))
    constant = np.full(scene.shape, 7, np.uint16)
    assert estimate_translation(reference, constant, method="cecc").reason == "the frame is constant"
    assert estimate_translation(prepare_reference(constant), noise, method="cecc").reason.startswith("the reference")


@pytest.mark.parametrize("kernels", [0, 1, 7])
def test_number_of_kernels_is_settable(scene, reference, kernels):
    moving = frame_of(scene, (0.8, -0.4), seed=2)
    estimate = estimate_translation(reference, moving, method="cecc", n_kernels=kernels, largest_kernel_px=65)
    assert error_px(estimate, (0.8, -0.4)) < 0.1


def test_phase_correlation(scene, reference):
    estimate = estimate_translation(reference, frame_of(scene, (11.0, 9.0), seed=2), method="phase")
    assert error_px(estimate, (11.0, 9.0)) < 0.2
    constant = np.full(scene.shape, 7, np.uint16)
    assert not estimate_translation(reference, constant, method="phase").ok


def test_one_level_of_correlation_reaches_a_few_pixels_only(scene, reference):
    estimate = estimate_translation(reference, frame_of(scene, (0.8, -0.4), seed=2), method="ecc")
    assert error_px(estimate, (0.8, -0.4)) < 0.1
    far = estimate_translation(reference, frame_of(scene, (70.0, -80.0), seed=2), method="ecc", max_iterations=50)
    assert not far.ok or np.abs(np.subtract(far.shift_yx_px, (70.0, -80.0))).max() > 10
    constant = np.full(scene.shape, 7, np.uint16)
    assert estimate_translation(reference, constant, method="ecc").reason == "the frame is constant"
    with pytest.raises(ValueError, match="kernel_px"):
        estimate_translation(reference, constant, method="ecc", kernel_px=4)


def test_what_opencv_throws_becomes_a_reason(scene, reference):
    negative = np.uint16(60_000) - frame_of(scene, seed=2)
    for method, options in (("cecc", {"n_kernels": 0}), ("ecc", {})):
        reason = estimate_translation(reference, negative, method=method, **options).reason
        assert reason.startswith("the correlation could not be maximised")
        assert "\n" not in reason


def test_key_points(scene, reference):
    shift = (23.0, -41.5)
    estimate = estimate_translation(reference, frame_of(scene, shift, seed=2), method="sift")
    assert error_px(estimate, shift) < 0.2
    assert 4 <= estimate.evidence["n_inliers"] <= estimate.evidence["n_matches"] <= estimate.evidence["n_features"]
    near = estimate_translation(reference, frame_of(scene, shift, seed=2), method="sift", search_radius_px=20)
    assert near.reason.startswith("the shift lies outside")


@pytest.mark.parametrize(
    ("moving", "reason"),
    [
        pytest.param(lambda shape: np.full(shape, 7, np.uint16), "the frame is constant", id="constant"),
        pytest.param(lambda shape: np.eye(*shape, dtype=np.uint16), "no key points", id="nothing to see"),
        pytest.param(lambda shape: frame_of(blob_scene(shape, seed=9), seed=1), "too few", id="foreign"),
    ],
)
def test_key_points_that_do_not_match_are_a_stated_failure(scene, reference, moving, reason):
    estimate = estimate_translation(reference, moving(scene.shape), method="sift", min_matches=12)
    assert not estimate.ok
    assert estimate.reason.startswith(reason)
    blank = prepare_reference(np.full(scene.shape, 7, np.uint16))
    assert estimate_translation(blank, frame_of(scene), method="sift").reason.startswith("the reference")
