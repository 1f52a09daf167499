"""Frames moved back by their shift, and what of them is valid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from phagostat.kernels.correction import corrected_frame, valid_area
from phagostat.kernels.translation import estimate_translation

from .translation_scenes import blob_scene, expected, frame_of, recorded

quick = settings(max_examples=25, deadline=None, derandomize=True)
component = st.floats(-90, 90)


@pytest.fixture(scope="module")
def scene():
    return blob_scene((140, 160), n_aggregates=12, seed=4, sigma_px=(1.5, 3.0), haze=0)


def noise_free(scene, shift):
    return np.rint(expected(scene, shift)).astype(np.uint16)


@quick
@given(shift=st.tuples(component, component))
def test_what_is_valid_is_where_the_reference_has_it(scene, shift):
    """Within the rounding of counts and 0.2 % of the brightest; 0 elsewhere."""
    corrected, valid = corrected_frame(noise_free(scene, shift), shift_yx_px=shift)
    truth = noise_free(scene, (0.0, 0.0))
    inner = corrected[valid.slices][4:-4, 4:-4].astype(float) - truth[valid.slices][4:-4, 4:-4]
    assert np.abs(inner).max(initial=0) < 2 + 0.002 * truth.max()
    outside = corrected.copy()
    outside[valid.slices] = 0
    assert not outside.any()


@quick
@given(dy=st.integers(-139, 139), dx=st.integers(-159, 159))
def test_whole_pixels_change_no_value(scene, dy, dx):
    frame = noise_free(scene, (0.0, 0.0))
    corrected, valid = corrected_frame(frame, shift_yx_px=(float(dy), float(dx)))
    assert (valid.bottom - valid.top, valid.right - valid.left) == (140 - abs(dy), 160 - abs(dx))
    rows, columns = valid.slices
    moved = frame[rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx]
    assert_array_equal(corrected[valid.slices], moved)


@quick
@given(shift=st.tuples(st.floats(-300, 300), st.floats(-300, 300)))
def test_valid_area_is_that_of_every_pixel_asked_alone(shift):
    shape = 30, 20
    area = valid_area(shape, shift_yx_px=shift)
    place = np.stack(np.meshgrid(np.arange(30), np.arange(20), indexing="ij"), axis=-1) + np.array(shift)
    seen = ((place >= 0) & (place <= np.array(shape) - 1)).all(axis=-1)
    found = np.zeros(shape, bool)
    found[area.slices] = True
    assert_array_equal(found, seen)
    assert area.area_px == seen.sum()


def test_a_corrected_frame_has_no_shift_left(scene):
    scene = blob_scene((320, 320), n_aggregates=24, seed=4)
    shift = (7.3, -4.6)
    corrected, _ = corrected_frame(frame_of(scene, shift, seed=2), shift_yx_px=shift)
    left = estimate_translation(frame_of(scene, seed=1), corrected)
    assert np.abs(left.shift_yx_px).max() < 0.03


def test_bright_pixels_are_clipped_to_the_type(scene):
    frame = recorded(expected(scene, (0.5, 0.5)), seed=1, dtype=np.uint8)
    frame[60:64, 60:64] = 255
    corrected, _ = corrected_frame(frame, shift_yx_px=(0.5, 0.5))
    assert corrected.dtype == np.uint8
    assert corrected.max() == 255
    assert corrected[58:66, 58:66].min() < 200


def test_arguments_are_checked(scene):
    frame = noise_free(scene, (0.0, 0.0))
    with pytest.raises(ValueError, match="finite"):
        corrected_frame(frame, shift_yx_px=(np.nan, np.nan))
    with pytest.raises(ValueError, match="uint8 or uint16"):
        corrected_frame(frame.astype(float), shift_yx_px=(1.0, 1.0))  # type: ignore[arg-type]
