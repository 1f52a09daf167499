"""The bound is the bound: the maximum-likelihood estimator for two noisy frames reaches it, and none goes below."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from phagostat.bench.camera import Camera
from phagostat.bench.shift_bound import ShiftInformation, shift_bound
from phagostat.bench.spots import SpotGlass

SIDE = 48


def periodic_field():
    """A band-limited periodic field, its Fourier transform, and its exact slopes."""
    rng = np.random.default_rng(5)
    spectrum = fft.fft2(rng.normal(size=(SIDE, SIDE)))
    frequency = fft.fftfreq(SIDE)
    radius = np.hypot(frequency[:, None], 2 * frequency[None])  # structure is finer along y than along x
    spectrum *= np.exp(-((radius / 0.12) ** 2)) * 200  # strong: the bound is reached as noise gets small
    slopes = [fft.ifft2(2j * np.pi * f * spectrum).real for f in (frequency[:, None], frequency[None])]
    return spectrum, slopes


def most_likely_shift(reference, moving, start):
    """Maximise the likelihood of two frames of one unknown field with white noise: the peak of their correlation.

    By Newton's method on the cross spectrum, of which every frequency counts alike since the noise is white.
    """
    cross = np.conj(fft.fft2(reference)) * fft.fft2(moving)
    omega = 2 * np.pi * fft.fftfreq(SIDE)
    waves = np.stack(np.broadcast_arrays(omega[:, None], omega[None])).reshape(2, -1)
    shift = np.array(start, float)
    for _ in range(8):
        turned = cross.ravel() * np.exp(1j * (shift @ waves))
        slope = -(waves * turned.imag).sum(axis=1)
        curvature = -(waves[:, None] * waves[None] * turned.real).sum(axis=2)
        step = np.linalg.solve(curvature, slope)
        shift -= step
    return shift


@pytest.mark.parametrize(("sd_reference", "sd_moving"), [(0.5, 0.5), (0.2, 0.8), (1.0, 0.1)])
def test_the_most_likely_shift_scatters_as_the_bound_says(sd_reference, sd_moving):
    spectrum, slopes = periodic_field()
    rng = np.random.default_rng(1)
    true = np.array([1.37, -2.81])
    omega = 2 * np.pi * fft.fftfreq(SIDE)
    clean = fft.ifft2(spectrum).real
    moved = fft.ifft2(spectrum * np.exp(-1j * (omega[:, None] * true[0] + omega[None] * true[1]))).real
    found = np.array(
        [
            most_likely_shift(
                clean + sd_reference * rng.normal(size=clean.shape),
                moved + sd_moving * rng.normal(size=clean.shape),
                true,
            )
            for _ in range(600)
        ]
    )
    bound = shift_bound(*slopes, np.full(clean.shape, sd_reference**2 + sd_moving**2))
    ratio = np.cov(found.T).diagonal() / bound.diagonal()
    # 600 draws: a variance is known to 6 %
    assert (ratio > 0.82).all(), ratio
    assert (ratio < 1.2).all(), ratio
    assert np.abs(found.mean(axis=0) - true).max() < 4 * np.sqrt(bound.diagonal().max() / 600)
    assert bound[1, 1] > 1.5 * bound[0, 0]  # less structure along x


def test_without_structure_there_is_no_bound():
    flat = np.zeros((8, 8), np.float32)
    assert np.isinf(shift_bound(flat, flat, np.ones((8, 8)))).all()


def test_information_of_a_field_follows_its_overlap_and_its_noise():
    glass = SpotGlass.draw(side_px=128, seed=0)
    quiet = ShiftInformation.of(glass, Camera(65535.0, 2.6, 5.0))
    loud = ShiftInformation.of(glass, Camera(65535.0, 4 * 2.6, 2 * 5.0))
    whole = quiet.bound((0.0, 0.0))
    assert np.allclose(loud.bound((0.0, 0.0)) / whole, 4, rtol=0.01)
    slopes = np.gradient(glass.frame().astype(float))  # central differences: a little too small
    rough = shift_bound(slopes[0], slopes[1], 2 * Camera(65535.0, 2.6, 5.0).variance(glass.frame()))
    assert np.allclose(rough.diagonal() / whole.diagonal(), 1, atol=0.3)
    part = quiet.bound((40.0, -30.0))
    assert (part.diagonal() > whole.diagonal()).all()


def test_what_is_saturated_tells_nothing():
    glass = SpotGlass.draw(side_px=128, seed=0)
    free = ShiftInformation.of(glass, Camera(65535.0)).bound((0.0, 0.0))
    level = float(np.quantile(glass.frame(), 0.9))
    cut = ShiftInformation.of(glass, Camera(level)).bound((0.0, 0.0))
    assert (cut.diagonal() > 2 * free.diagonal()).all()
