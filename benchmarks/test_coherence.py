"""Certain pixels of a window of five 1024 x 1024 maps, in place and drifting, against means by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from phagostat.kernels.coherence import coherent_pixels

Stack = NDArray[np.uint8]
DRIFT_YX_PX = np.array([(0.0, 0.0), (1.3, -2.0), (3.1, -3.7), (4.0, -6.2), (6.6, -8.1)])


@pytest.fixture(scope="module")
def stack() -> Stack:
    return np.random.default_rng(0).integers(0, 256, (5, 1024, 1024), dtype=np.uint8)


def copied(stack: Stack) -> Stack:
    return stack.max(axis=0)


@pytest.mark.benchmark(group="temporal coherence, 5 frames")
class TestCoherence:
    def test_means_of_unmoved_frames(self, benchmark: Any, stack: Stack) -> None:
        benchmark(lambda: stack.mean(axis=0) > 0.9 * 255)

    def test_memory_traffic(self, benchmark: Any, stack: Stack) -> None:
        """The frames read once, a frame written: what no method goes below."""
        benchmark(copied, stack)

    @pytest.mark.parametrize("drifting", [False, True])
    def test_coherent_pixels(self, benchmark: Any, stack: Stack, drifting: bool) -> None:
        found = benchmark(
            coherent_pixels,
            stack,
            shifts_yx_px=DRIFT_YX_PX * drifting,
            usable=np.ones(5, np.bool_),
            factor=2,
            seed_probability=0.6,
        )
        if not drifting:
            np.testing.assert_array_equal(found.certain, stack.astype(np.int64).sum(axis=0) > 5 * 153)
