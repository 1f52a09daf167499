from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phagostat.folds.matching import match_within_gate

GATE = 1.44
points = arrays(np.float64, st.tuples(st.integers(0, 5), st.just(2)), elements=st.floats(0, 4, width=32))


def cost(known, found, matched) -> float:
    pairs = [(i, j) for i, j in enumerate(matched) if j >= 0]
    used = {j for _, j in pairs}
    distance = sum(float(np.hypot(*(known[i] - found[j]))) for i, j in pairs)
    return distance + GATE / 2 * (len(known) - len(pairs) + len(found) - len(used))


def least_cost(known, found) -> float:
    """All ways to match, one by one."""
    columns = [*range(len(found)), *([-1] * len(known))]
    ways = set(permutations(columns, len(known)))
    return min(
        cost(known, found, way)
        for way in ways
        if all(j < 0 or np.hypot(*(known[i] - found[j])) <= GATE for i, j in enumerate(way))
    )


@settings(max_examples=60, deadline=None)
@given(points.filter(lambda p: len(p) <= 4), points.filter(lambda p: len(p) <= 4))
def test_least_cost_of_all_assignments(known, found):
    matched = match_within_gate(known, found, gate_um=GATE)
    assert len({j for j in matched if j >= 0}) == (matched >= 0).sum()
    assert np.isclose(cost(known, found, matched), least_cost(known, found))


def test_optimal_where_greedy_is_not():
    known = np.array([[0.0, 0.0], [0.0, 1.0]])
    found = np.array([[0.0, 0.6], [0.0, 1.7]])
    # the nearest pair first would leave the other two apart
    assert match_within_gate(known, found, gate_um=GATE).tolist() == [0, 1]


def test_nothing_beyond_the_gate_and_nothing_expected_nowhere():
    known = np.array([[0.0, 0.0], [np.nan, np.nan], [10.0, 10.0]])
    found = np.array([[0.0, 1.45], [10.0, 11.4]])
    assert match_within_gate(known, found, gate_um=GATE).tolist() == [-1, -1, 1]


def test_ties_go_by_order():
    known = np.array([[0.0, 0.0], [0.0, 2.0]])
    found = np.array([[0.0, 1.0]])
    results = {tuple(match_within_gate(known, found, gate_um=GATE).tolist()) for _ in range(5)}
    assert len(results) == 1


def test_thousands_in_a_moment():
    random = np.random.default_rng(0)
    known = random.uniform(0, 210, (3000, 2))
    found = known[random.permutation(3000)] + random.normal(0, 0.05, (3000, 2))
    matched = match_within_gate(known, found, gate_um=GATE)
    assert np.hypot(*(known - found[matched]).T).max() < GATE
    assert (np.hypot(*(known - found[matched]).T) < 0.4).mean() > 0.99
