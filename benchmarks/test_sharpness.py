"""Sharpness of a 2048 x 2048 frame: the published variance of the Laplacian against the corrected measure.

The published measure reads the normalised 1024 x 1024 8-bit frame, which is made beforehand in both cases; decoding the
PNG that the published pipeline keeps it in is not counted.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from phagostat.kernels.normalisation import apply_table
from phagostat.kernels.reference import aggregate_reference
from phagostat.kernels.sharpness import focus, laplacian_variance, sharpness

Frame = NDArray[np.uint16]
SPOT_SIGMA_PX = 3.0


@pytest.fixture(scope="module")
def grey(reduced: Frame) -> NDArray[np.uint8]:
    return apply_table(reduced, aggregate_reference(reduced, factor=1).table)


@pytest.mark.benchmark(group="sharpness")
class TestSharpness:
    def test_published(self, benchmark: Any, grey: NDArray[np.uint8]) -> None:
        benchmark(lambda: cv2.Laplacian(np.array(grey), cv2.CV_64F).var())

    def test_laplacian_variance(self, benchmark: Any, grey: NDArray[np.uint8]) -> None:
        assert benchmark(laplacian_variance, grey) == cv2.Laplacian(grey, cv2.CV_64F).var()

    def test_sharpness(self, benchmark: Any, reduced: Frame) -> None:
        assert benchmark(sharpness, reduced).ok


@pytest.mark.benchmark(group="absolute focus, reference candidates only (no published counterpart)")
def test_focus(benchmark: Any, reduced: Frame) -> None:
    assert benchmark(focus, reduced).ok
