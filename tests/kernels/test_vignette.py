from __future__ import annotations

import numpy as np
import pytest

from phagostat.kernels.vignette import uneven_glow, vignette_loss, without_glow, without_vignette
from tests.kernels.test_aggregate_overlap import scene


def lit(loss: float, *, seed: int = 0, offset: float = 0.0) -> np.ndarray:
    """Aggregates and glow under a lamp that loses ``loss`` at the middle of the sides."""
    drawn = scene(seed)
    y = np.linspace(-1, 1, 160)
    profile = 1 - loss * (y[:, None] ** 2 + y[None] ** 2)
    clean = (drawn.light() + 700) * profile + offset
    return np.random.default_rng(seed).normal(clean, 8).round().astype(np.uint16)


@pytest.mark.parametrize("loss", [0.0, 0.08, 0.2])
def test_loss_is_found_whatever_lies_in_the_field(loss):
    assert vignette_loss(lit(loss), block_px=20) == pytest.approx(loss, abs=0.015)


def test_an_offset_makes_it_smaller_by_its_share():
    assert vignette_loss(lit(0.2, offset=100.0), block_px=20) == pytest.approx(0.2 * 700 / 800, abs=0.015)


def test_glow_on_one_side_is_not_the_lamp():
    frame = lit(0.15)
    frame[:, :40] += 150
    assert vignette_loss(frame, block_px=20) == pytest.approx(0.15, abs=0.06)


def test_brighter_corners_and_small_frames_are_left_alone():
    assert vignette_loss(lit(-0.2), block_px=20) == 0
    assert vignette_loss(np.full((20, 20), 7, np.uint16)) == 0
    assert vignette_loss(np.zeros((160, 160), np.uint16)) == 0


def test_without_it_the_background_is_even():
    frame = lit(0.2)
    even = without_vignette(frame, loss=vignette_loss(frame, block_px=20))
    assert even.dtype == np.uint16
    assert np.median(even[:12, :12]) == pytest.approx(np.median(even[70:90, 70:90]), rel=0.05)
    assert np.median(frame[:12, :12]) < 0.8 * np.median(frame[70:90, 70:90])
    assert even[79, 79] == frame[79, 79]
    assert (without_vignette(frame, loss=0.0) == frame).all()
    assert without_vignette(np.full((64, 64), 65535, np.uint16), loss=0.3).max() == 65535


def test_uneven_glow_is_found_under_aggregates():
    y = np.linspace(-1, 1, 160)
    glow = 120 * y[:, None] * np.ones(160) - 80 * y[None] ** 2
    frame = (lit(0.0) + glow).round().astype(np.uint16)
    found = uneven_glow(frame, block_px=20)
    assert np.median(found) == pytest.approx(0, abs=12)
    inner = slice(15, -15)  # what lies further out than the middles of the outermost squares is as there
    assert np.abs((found - glow + np.median(glow))[inner, inner]).max() < 30
    assert without_glow(frame, found).std() < 1.02 * lit(0.0).std()


def test_too_small_a_frame_has_even_glow():
    assert not uneven_glow(np.full((60, 400), 500, np.uint16)).any()
