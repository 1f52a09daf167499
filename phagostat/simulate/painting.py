"""Painting on a canvas at continuous coordinates: Gaussian spots and band-limited textures, exact for any shift.

A canvas is a float32 image with the coordinate of its first pixel; an object at p (canvas coordinates) is evaluated at
every pixel centre as a function of its distance from p. Nothing here resamples an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

_REACH_SIGMA = 5.0  # a Gaussian has fallen to 4e-6 there


def paint_spots(canvas: Image, *, position: Floats, sigma: Floats, amplitude: Floats) -> None:
    """Add round Gaussians.

    Parameters
    ----------
    canvas
        (y, x) image that is added to.
    position
        (N, 2) centres in the canvas's px; pixel (i, j) has its centre at (i, j).
    sigma, amplitude
        (N,) in px, and peak values.
    """
    height, width = canvas.shape
    reach = np.ceil(_REACH_SIGMA * sigma).astype(np.int64)
    middle = np.rint(position).astype(np.int64)
    seen = np.all((middle + reach[:, None] >= 0) & (middle - reach[:, None] < [height, width]), axis=1)
    for size in np.unique(reach[seen]):
        chosen = np.flatnonzero(seen & (reach == size))
        window = np.arange(-size, size + 1)
        scale = (np.sqrt(0.5) / sigma[chosen])[:, None]
        offset = (middle[chosen] - position[chosen])[:, :, None] + window
        profile_y = (np.exp(-((offset[:, 0] * scale) ** 2)) * amplitude[chosen][:, None]).astype(np.float32)
        profile_x = np.exp(-((offset[:, 1] * scale) ** 2)).astype(np.float32)
        for (cy, cx), column, row in zip(middle[chosen].tolist(), profile_y, profile_x, strict=True):
            y0, y1 = max(cy - size, 0), min(cy + size + 1, height)
            x0, x1 = max(cx - size, 0), min(cx + size + 1, width)
            column_part = column[y0 - cy + size : y1 - cy + size, None]
            canvas[y0:y1, x0:x1] += column_part * row[None, x0 - cx + size : x1 - cx + size]


@dataclass(frozen=True)
class Texture:
    """A random, periodic, band-limited function of the plane: a Fourier series that is evaluated where it is wanted.

    Parameters
    ----------
    coefficients
        (2K + 1, K + 1) complex: rows are the frequencies -K..K along y, columns 0..K along x.
    period_px
        Its period along both axes.
    """

    coefficients: NDArray[np.complex64]
    period_px: float

    @classmethod
    def draw(
        cls, *, period_px: float, shortest_px: float, corner_px: float, slope: float, random: np.random.Generator,
        hollow_px: float | None = None,
    ) -> Texture:  # fmt: skip
        """Draw a texture of unit variance.

        Parameters
        ----------
        period_px, shortest_px
            Longest and shortest wavelength.
        corner_px
            Wavelength down to which the spectrum is flat.
        slope
            Power falls as frequency to this power beyond the corner.
        random
            Where it is drawn from.
        hollow_px
            Wavelength from which up the spectrum falls off; None keeps the long waves.
        """
        order = max(1, int(period_px / shortest_px))
        ky, kx = np.mgrid[-order : order + 1, 0 : order + 1]
        frequency = np.hypot(ky, kx) / period_px
        power = 1.0 / (1.0 + (frequency * corner_px) ** slope)
        if hollow_px is not None:
            power *= (frequency * hollow_px) ** 4 / (1.0 + (frequency * hollow_px) ** 4)
        power[(frequency == 0) | (frequency > 1.0 / shortest_px)] = 0.0
        power[(kx == 0) & (ky < 0)] = 0.0
        values = np.sqrt(power) * (random.standard_normal(ky.shape) + 1j * random.standard_normal(ky.shape))
        values *= np.sqrt(2.0 / max(float(np.sum(np.abs(values) ** 2)), 1e-12))
        return cls(values.astype(np.complex64), period_px)

    def at(self, y: Floats, x: Floats) -> Image:
        """Evaluate on the grid of coordinates ``y`` (H,) and ``x`` (W,) in px."""
        order = self.coefficients.shape[1] - 1
        unit = 2j * np.pi / self.period_px
        wave_y = np.exp(unit * np.outer(y, np.arange(-order, order + 1))).astype(np.complex64)
        wave_x = np.exp(unit * np.outer(np.arange(order + 1), x)).astype(np.complex64)
        return evaluate_series(wave_y, self.coefficients, wave_x)

    def mixed(self, other: Texture, angle: float) -> Texture:
        """Give a texture between this one (angle 0) and another one (angle pi/2), for slow change."""
        values = np.cos(angle) * self.coefficients + np.sin(angle) * other.coefficients
        return Texture(values.astype(np.complex64), self.period_px)


def evaluate_series(
    wave_y: NDArray[np.complex64], coefficients: NDArray[np.complex64], wave_x: NDArray[np.complex64]
) -> Image:
    """Real part of a separable Fourier sum, in real arithmetic (half the work of the complex product)."""
    inner = wave_y @ coefficients
    # contiguous parts, because a product of strided views does not go through BLAS
    left = np.concatenate([inner.real, -inner.imag], axis=1).astype(np.float32)
    right = np.concatenate([wave_x.real, wave_x.imag], axis=0).astype(np.float32)
    return np.asarray(left @ right, dtype=np.float32)


def blur(canvas: Image, sigma_px: float) -> Image:
    """Blur by a Gaussian through the Fourier transform; the border wraps around, so give the canvas a margin."""
    if sigma_px <= 0:
        return canvas
    size = [fft.next_fast_len(length, real=True) for length in canvas.shape]
    pad = [(0, n - length) for n, length in zip(size, canvas.shape, strict=True)]
    padded = np.pad(canvas, pad, mode="edge")
    fy, fx = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None]
    transfer_y = np.exp(-2 * (np.pi * sigma_px * fy) ** 2).astype(np.float32)
    transfer_x = np.exp(-2 * (np.pi * sigma_px * fx) ** 2).astype(np.float32)
    spectrum = fft.rfft2(padded)
    spectrum *= transfer_y
    spectrum *= transfer_x
    blurred: Image = fft.irfft2(spectrum, s=size)[: canvas.shape[0], : canvas.shape[1]]
    return blurred
