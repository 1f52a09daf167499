from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phagostat.folds.eaten_area import never_decreasing, running_maximum, standard_error

series = arrays(np.float64, st.integers(1, 30), elements=st.floats(-100, 100))


def pooled(values):
    """Pool adjacent violators, plainly."""
    blocks = [[float(v)] for v in values]
    i = 0
    while i + 1 < len(blocks):
        if np.mean(blocks[i]) > np.mean(blocks[i + 1]):
            blocks[i : i + 2] = [blocks[i] + blocks[i + 1]]
            i = max(i - 1, 0)
        else:
            i += 1
    return np.concatenate([[np.mean(block)] * len(block) for block in blocks])


@settings(max_examples=80, deadline=None)
@given(series)
def test_isotonic_regression_pools_adjacent_violators(values):
    np.testing.assert_allclose(never_decreasing(values), pooled(values), atol=1e-6)


def test_empty():
    assert never_decreasing(np.zeros(0)).size == 0


def test_published_running_maximum_is_biased_upwards_by_noise():
    noise = np.random.default_rng(1).normal(0, 1, (400, 100))
    ends = np.array([running_maximum(0.0, row)[-1] for row in noise])
    assert 2.3 < ends.mean() < 2.7
    assert (np.diff(running_maximum(3.0, noise[0])) >= 0).all()
    assert running_maximum(0.0, np.array([5.0, 1.0])).tolist() == [0.0, 0.0]


def test_where_nothing_happens_there_is_no_error():
    nothing = np.zeros((6, 4))
    assert not standard_error(nothing, nothing, nothing, np.ones(4)).any()


def test_the_error_is_largest_while_something_is_eaten():
    eaten = np.interp(np.arange(20), [5, 15], [0, 4])[:, None] * np.ones(3)
    nothing = np.zeros_like(eaten)
    error = standard_error(eaten, nothing, nothing, np.full(3, 4.0))
    assert not error[:6].any()
    assert error[14] > 2 * error[-1] > 0
    # aggregates err on their own, their areas together
    alone = standard_error(eaten[:, :1], nothing[:, :1], nothing[:, :1], np.full(1, 4.0))
    assert np.sqrt(3) * alone[10] < error[10] < 3 * alone[10]
    assert error[-1] / alone[-1] == 3.0


def test_what_was_moved_or_washed_away_may_have_been_eaten():
    nothing, some = np.zeros((5, 2)), np.array([[0.0, 0.0]] * 2 + [[3.0, 0.0]] * 3)
    for washed, moved in ((some, nothing), (nothing, some)):
        error = standard_error(nothing, washed, moved, np.full(2, 3.0))
        assert not error[:2].any()
        assert (error[2:] > 0.3).all()
