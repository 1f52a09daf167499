"""Certain pixels of a window: against exact fractions, one pixel at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phagostat.kernels.coherence import coherent_pixels, window_moves


@st.composite
def windows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    levels = draw(st.sampled_from([[0, 255], [228, 229, 230, 231], [0, 204, 255, 254]]))
    frames = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from(levels)))
    numbers = st.one_of(st.floats(-12, 12, allow_nan=False), st.just(np.nan), st.sampled_from([0.0, 1.0, -1.0, 300.0]))
    shifts = draw(hnp.arrays(np.float64, (shape[0], 2), elements=numbers))
    usable = draw(hnp.arrays(np.bool_, shape[0]))
    return frames, shifts, usable


def plain(frames: np.ndarray, shifts: np.ndarray, usable: np.ndarray, factor: int, cut: Fraction) -> np.ndarray:
    n, height, width = frames.shape
    certain = np.zeros((height, width), bool)
    if not np.isfinite(shifts[0]).all():
        return certain
    for y, x in np.ndindex(height, width):
        values = []
        for k in range(n):
            if not usable[k] or not np.isfinite(shifts[k]).all():
                continue
            at = [p + round(float((shifts[k, axis] - shifts[0, axis]) / factor)) for axis, p in enumerate((y, x))]
            if 0 <= at[0] < height and 0 <= at[1] < width:
                values.append(int(frames[k, at[0], at[1]]))
        certain[y, x] = bool(values) and Fraction(sum(values), 255 * len(values)) > cut
    return certain


@settings(deadline=None, max_examples=400)  # the first call compiles
@given(windows(), st.sampled_from([1, 2, 3]), st.sampled_from([Fraction(9, 10), Fraction(1, 2), Fraction(4, 5)]))
def test_equal_to_fractions(drawn, factor: int, cut: Fraction) -> None:
    frames, shifts, usable = drawn
    found = coherent_pixels(frames, shifts_yx_px=shifts, usable=usable, factor=factor, seed_probability=float(cut))
    np.testing.assert_array_equal(found.certain, plain(frames, shifts, usable, factor, cut))
    assert found.n_used == found.used.sum() <= usable.sum()
    assert not (found.used & ~usable).any()
    assert found.is_short == (len(frames) < 5)


def test_frames_are_moved_into_the_grid_of_the_first() -> None:
    """A cell that stands still on the glass while the stage drifts stays certain; unmoved it would not."""
    frames = np.zeros((5, 40, 50), np.uint8)
    shifts = np.array([(3.1, -2.2), (5.0, -2.0), (9.4, 1.9), (-7.2, -8.0), (3.0, 11.7)])
    place = np.rint((shifts - shifts[0]) / 2).astype(int)
    for frame, (y, x) in zip(frames, place, strict=True):
        frame[15 + y : 25 + y, 20 + x : 32 + x] = 255
    usable = np.ones(5, bool)
    found = coherent_pixels(frames, shifts_yx_px=shifts, usable=usable, factor=2)
    expected = np.zeros((40, 50), bool)
    expected[15:25, 20:32] = True
    np.testing.assert_array_equal(found.certain, expected)
    np.testing.assert_array_equal(found.moved_yx_px, place)
    assert found.n_used == 5
    assert not found.is_short
    unmoved = coherent_pixels(frames, shifts_yx_px=np.zeros((5, 2)), usable=usable, factor=2)
    assert unmoved.certain.sum() < 0.7 * expected.sum()


def test_at_the_border_the_frames_decide_that_show_it() -> None:
    frames = np.full((2, 6, 8), 255, np.uint8)
    frames[1] = 100
    shifts = np.array([(0.0, 0.0), (0.0, 3.0)])
    found = coherent_pixels(frames, shifts_yx_px=shifts, usable=np.ones(2, bool), factor=1, window=2)
    # What stands at column 5 and beyond lies outside of the second frame.
    np.testing.assert_array_equal(found.certain, np.broadcast_to(np.arange(8) >= 5, (6, 8)))


def test_a_rejected_first_frame_is_judged_by_the_others() -> None:
    frames = np.full((3, 4, 5), 255, np.uint8)
    frames[0] = 0
    found = coherent_pixels(
        frames, shifts_yx_px=np.zeros((3, 2)), usable=np.array([False, True, True]), factor=1, window=3
    )
    assert found.certain.all()
    assert found.n_used == 2


@pytest.mark.parametrize("case", ["no frame usable", "first frame unregistered"])
def test_nothing_is_certain_without_evidence(case: str) -> None:
    frames = np.full((3, 4, 5), 255, np.uint8)
    shifts, usable = np.zeros((3, 2)), np.ones(3, bool)
    if case == "no frame usable":
        usable[:] = False
    else:
        shifts[0, 1] = np.nan
    found = coherent_pixels(frames, shifts_yx_px=shifts, usable=usable, factor=1)
    assert not found.certain.any()
    assert found.n_used == 0


def test_the_mean_must_exceed_the_threshold() -> None:
    frames = np.full((5, 1, 2), 204, np.uint8)
    frames[0, 0, 1] = 205
    found = coherent_pixels(
        frames, shifts_yx_px=np.zeros((5, 2)), usable=np.ones(5, bool), factor=1, seed_probability=0.8
    )
    np.testing.assert_array_equal(found.certain, [[False, True]])


def test_longest_window_does_not_overflow() -> None:
    frames = np.full((257, 2, 3), 255, np.uint8)
    options = {"shifts_yx_px": np.zeros((257, 2)), "usable": np.ones(257, bool), "factor": 1, "window": 257}
    assert coherent_pixels(frames, **options).certain.all()
    assert not coherent_pixels(frames, **options, seed_probability=1.0).certain.any()


def test_wrong_input_is_said() -> None:
    frames = np.zeros((3, 4, 5), np.uint8)
    with pytest.raises(ValueError, match="1 to 2 frames"):
        coherent_pixels(frames, shifts_yx_px=np.zeros((3, 2)), usable=np.ones(3, bool), factor=1, window=2)
    with pytest.raises(ValueError, match="as many shifts"):
        coherent_pixels(frames, shifts_yx_px=np.zeros((2, 2)), usable=np.ones(3, bool), factor=1)
    np.testing.assert_array_equal(window_moves(np.array([(1.0, 1.0), (4.0, -2.2)]), factor=2), [(0, 0), (2, -2)])
