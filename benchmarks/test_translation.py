"""Registration of one frame against its scene's reference: the default beside what it replaces, on the same pair.

Run with ``pytest benchmarks/test_translation.py`` on one thread (OMP_NUM_THREADS=1). Compare medians within a group.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from phagostat.kernels.translation import estimate_translation, prepare_reference

SHIFT = (33.25, -71.5)
ROUNDS = {"tiles": 30, "glass": 5, "phase": 3, "sift": 1, "ecc": 1, "cecc": 1}


def pair(side, *, seed=0):
    """Two frames of Gaussian aggregates with fresh noise, the second rendered at shifted coordinates."""
    rng = np.random.default_rng(seed)
    n = side * side // 16_000
    centre = rng.uniform(-110, side + 110, (n, 2))
    sigma, height = rng.uniform(2, 6, n), np.exp(rng.normal(7, 0.7, n))
    axis = np.arange(side, dtype=float)
    frames = []
    for shift in ((0.0, 0.0), SHIFT):
        frame = np.full((side, side), 300.0)
        for (y, x), width, level in zip(centre + shift, sigma, height, strict=True):
            top, bottom = (int(np.clip(y + d * 6 * width, 0, side)) for d in (-1, 1))
            left, right = (int(np.clip(x + d * 6 * width, 0, side)) for d in (-1, 1))
            down = np.exp(-((axis[top:bottom] - y) ** 2) / (2 * width**2))
            across = np.exp(-((axis[left:right] - x) ** 2) / (2 * width**2))
            frame[top:bottom, left:right] += level * down[:, None] * across[None]
        noisy = rng.poisson(frame) + rng.normal(0, 5, frame.shape)
        frames.append(np.clip(np.rint(noisy), 0, 65535).astype(np.uint16))
    return frames


@pytest.fixture(scope="module", params=[1024, 2048])
def frames(request):
    return pair(request.param)


@pytest.fixture(autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("method", list(ROUNDS))
def test_estimate(benchmark, frames, method):
    reference, moving = prepare_reference(frames[0]), frames[1]
    benchmark.group = f"estimate_translation {moving.shape[0]} x {moving.shape[1]} uint16"
    estimate = benchmark.pedantic(
        estimate_translation, (reference, moving), {"method": method}, rounds=ROUNDS[method], warmup_rounds=1
    )
    benchmark.extra_info["error_px"] = np.abs(np.subtract(estimate.shift_yx_px, SHIFT)).tolist()
    benchmark.extra_info["refused_because"] = estimate.reason


def test_estimate_where_a_hint_says(benchmark, frames):
    reference, moving = prepare_reference(frames[0]), frames[1]
    benchmark.group = f"estimate_translation {moving.shape[0]} x {moving.shape[1]} uint16"
    hint = {"start_yx_px": (SHIFT[0] + 1.2, SHIFT[1] - 0.8)}
    benchmark.pedantic(estimate_translation, (reference, moving), hint, rounds=ROUNDS["tiles"], warmup_rounds=1)


def test_prepare(benchmark, frames):
    benchmark.group = f"prepare_reference {frames[0].shape[0]} x {frames[0].shape[1]} uint16"
    benchmark.pedantic(prepare_reference, (frames[0],), rounds=5)
