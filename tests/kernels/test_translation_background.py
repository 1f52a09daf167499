"""What stays with the glass but does not fade, and a lamp that stays with the camera, must not pull at the shift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.translation import estimate_translation, prepare_reference

_SHIFT = (6.4, -11.3)


def _field(
    shift: tuple[float, float], *, fading: float, slope: float, lamp: float, seed: int, side: int = 320
) -> NDArray[np.uint16]:
    """Round aggregates of sigma 3 px over a background with a slope in counts per px; noise of its own."""
    places = np.random.default_rng(7).uniform(30, side - 30, (40, 2))
    y, x = np.mgrid[:side, :side].astype(float)
    glow = 700 + slope * (y - shift[0] - side / 2)
    spots = np.zeros((side, side))
    for a, b in places + np.array(shift):
        spots += 900 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18)
    image = (glow + fading * spots) * (1 + lamp * (2 * y / side - 1))
    noise = np.random.default_rng(seed).normal(0, np.sqrt(2.5 * image))
    return np.asarray(np.clip(image + noise + 100, 0, 65535), np.uint16)


def _mean_error(*, fading: float, slope: float, lamp: float) -> float:
    """Length of the mean error over six draws of the noise, px."""
    errors = []
    for seed in range(6):
        reference = prepare_reference(_field((0.0, 0.0), fading=1, slope=slope, lamp=0, seed=seed))
        moving = _field(_SHIFT, fading=fading, slope=slope, lamp=lamp, seed=100 + seed)
        estimate = estimate_translation(reference, moving)
        assert estimate.ok, estimate.reason
        errors.append(np.subtract(estimate.shift_yx_px, _SHIFT))
    return float(np.hypot(*np.mean(errors, axis=0)))


def test_background_that_does_not_fade_pulls_nothing() -> None:
    """Without a slope of its own in each square this is 0.037 px, and 0.013 px with it."""
    assert _mean_error(fading=0.4, slope=2.0, lamp=0.0) < 0.02


def test_tilt_of_the_lamp_pulls_nothing() -> None:
    """Light that falls off across one frame only: 0.019 px if each square has its own gain only, else 0.009 px."""
    assert _mean_error(fading=0.8, slope=0.0, lamp=0.15) < 0.014
