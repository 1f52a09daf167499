"""Structure of a frame against numpy on the same sample of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phagostat.kernels.structure import block_structure


def plain(frame: np.ndarray, block_px: int) -> tuple[float, float, float]:
    """The same figures from whole arrays in double precision."""
    rows_per_block = max(1, block_px // 4)
    n_y, n_x = ((frame.shape[0] - 2) // 4) // rows_per_block, frame.shape[1] // block_px
    n_rows = n_y * rows_per_block
    rows = [frame[i : i + 4 * n_rows : 4, : n_x * block_px] for i in range(3)]
    sample = np.median(rows, axis=0)
    means = sample.reshape(n_y, rows_per_block, n_x, block_px).mean(axis=(1, 3))
    columns = (n_x * block_px - 2) // block_px
    squares = (sample[:, 2:] - sample[:, :-2])[:, : columns * block_px] ** 2
    noise = np.median(squares.reshape(n_y, rows_per_block, columns, block_px).mean(axis=(1, 3))) / 2
    expected = noise / (rows_per_block * block_px)
    flat = sample.ravel() - sample.mean()
    correlation = np.dot(flat[:-1], flat[1:]) / np.dot(flat, flat) if sample.std() > 0 else 0.0
    ratio = means.var() / expected if expected > 0 else (np.inf if means.var() > 0 else np.nan)
    return ratio, np.sqrt(max(0.0, means.var() - expected)), correlation


@settings(deadline=None, max_examples=200)  # the first call compiles
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(34, 70), st.integers(16, 40)),
        elements=st.integers(0, 255),
    ),
    st.sampled_from([3, 8]),
    st.sampled_from([1, 257]),
)
def test_equal_to_whole_arrays(frame: np.ndarray, block_px: int, gain: int) -> None:
    if frame.dtype == np.uint16:
        frame *= gain
    found = block_structure(frame, block_px=block_px)
    ratio, counts, correlation = plain(frame, block_px)
    assert found.ratio == pytest.approx(ratio, rel=1e-9, abs=1e-9, nan_ok=True)
    assert found.counts == pytest.approx(counts, rel=1e-6, abs=1e-4)
    assert found.neighbour_correlation == pytest.approx(correlation, abs=1e-9)


def test_the_largest_counts_do_not_overflow() -> None:
    frame = np.zeros((300, 400), np.uint16)
    frame[:, ::3] = 65535
    found = block_structure(frame, block_px=32)
    assert (found.ratio, found.counts, found.neighbour_correlation) == pytest.approx(plain(frame, 32), rel=1e-9)


@pytest.mark.parametrize("shape", [(65, 640), (640, 63), (2, 2)])
def test_without_blocks_nothing_is_said(shape: tuple[int, int]) -> None:
    found = block_structure(np.ones(shape, np.uint16), block_px=32)
    assert np.isnan([found.ratio, found.counts, found.neighbour_correlation]).all()
