"""What the benchmarks of kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from phagostat.kernels.normalisation import reduce_area


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """CPU time is what counts: many scenes share a machine."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="module")
def reduced(request: pytest.FixtureRequest) -> NDArray[np.uint16]:
    """400 Gaussian spots on the analysis grid; a module says how wide they are (``SPOT_SIGMA_PX``, native px)."""
    random = np.random.default_rng(0)
    spots = np.zeros((2048, 2048), np.float32)
    spots.ravel()[random.choice(spots.size, 400, replace=False)] = random.uniform(2e5, 2e6, 400)
    image = 500 + gaussian_filter(spots, request.module.SPOT_SIGMA_PX) + random.normal(0, 30, spots.shape)
    return reduce_area(np.rint(image).clip(0, 65535).astype(np.uint16), factor=2).astype(np.uint16)
