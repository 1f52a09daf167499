"""Optimal assignment of things to places within a gate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]


def match_within_gate(known_um: Floats, found_um: Floats, *, gate_um: float) -> NDArray[np.intp]:
    """Which place each thing is found at, so that the sum of all costs is least.

    Parameters
    ----------
    known_um : (n, 2) float64
        Where things are expected, in um; rows with NaN are expected nowhere.
    found_um : (m, 2) float64
        Where something was found, in um.
    gate_um : float
        A pair costs its distance; staying unmatched costs half of this for either side, so that no pair further apart
        than this is made.

    Returns
    -------
    (n,) intp
        Index into ``found_um``, or -1.

    Notes
    -----
    Things that could share no place are solved apart from each other, each group by the Jonker-Volgenant algorithm
    [1]_. Of solutions with equal cost the one is taken that this algorithm finds for rows and columns in the given
    order: callers give them in the order of their labels.

    References
    ----------
    .. [1] D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on Aerospace and
       Electronic Systems 52, 2016, :doi:`10.1109/TAES.2016.140952`.
    """
    matched = np.full(len(known_um), -1, np.intp)
    expected = np.flatnonzero(np.isfinite(known_um).all(axis=1))
    if not len(expected) or not len(found_um):
        return matched
    near = cKDTree(known_um[expected]).sparse_distance_matrix(cKDTree(found_um), gate_um, output_type="ndarray")
    near = near[np.lexsort((near["j"], near["i"]))]
    rows, columns, distance = expected[near["i"]], near["j"].astype(np.intp), near["v"]
    n = len(known_um)
    # Nearly all have one place within the gate, and that place no other: nothing is to be solved for them.
    alone = (np.bincount(rows, minlength=n)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    sure = alone & (distance < gate_um)
    matched[rows[sure]] = columns[sure]
    rows, columns, distance = rows[~alone], columns[~alone], distance[~alone]
    if not len(rows):
        return matched
    size = n + len(found_um)
    graph = csr_array((np.ones(len(rows), np.int8), (rows, columns + n)), shape=(size, size))
    group = connected_components(graph, directed=False)[1]
    order = np.argsort(group[rows], kind="stable")
    borders = np.flatnonzero(np.diff(group[rows][order])) + 1
    for pairs in np.split(order, borders):
        if len(pairs) == 0:
            continue
        own_rows, row = np.unique(rows[pairs], return_inverse=True)
        own_columns, column = np.unique(columns[pairs], return_inverse=True)
        # Left of 0 a pair is worth making: both sides save what staying unmatched would have cost.
        cost = np.zeros((len(own_rows), len(own_columns)))
        cost[row, column] = distance[pairs] - gate_um
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < 0:
                matched[own_rows[i]] = own_columns[j]
    return matched
