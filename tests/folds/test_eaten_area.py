from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phagostat.folds.eaten_area import never_decreasing, running_maximum

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
