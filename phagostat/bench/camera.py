"""How a camera records a noise-free frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.bench.glass import Floats, Glass, Image

Counts = NDArray[np.uint8] | NDArray[np.uint16]

ROUNDING_VARIANCE = 1 / 12
"""Variance of the error that rounding to whole counts makes."""


@dataclass(frozen=True)
class Camera:
    """A camera with shot noise, read noise and whole counts.

    Parameters
    ----------
    white_counts
        Saturation; frames are uint8 if it fits there, else uint16.
    counts_per_electron
        Gain; 0 for a camera without shot noise.
    read_noise_counts
        Sd of the read noise.
    offset_counts
        Added to every pixel, so that noise is not cut off at 0.
    """

    white_counts: float
    counts_per_electron: float = 0.0
    read_noise_counts: float = 0.0
    offset_counts: float = 0.0

    def record(self, clean: Image, random: np.random.Generator | None = None) -> Counts:
        """Record a frame.

        Parameters
        ----------
        clean
            (y, x) noise-free counts.
        random
            Where noise is drawn from; not needed without noise. Shot noise is a normal variate of the same variance.
        """
        frame = clean + np.float32(self.offset_counts)
        if random is not None and (self.counts_per_electron > 0 or self.read_noise_counts > 0):
            sd = np.sqrt(self.variance(clean) - ROUNDING_VARIANCE).astype(np.float32)
            frame += sd * random.standard_normal(clean.shape, dtype=np.float32)
        dtype = np.uint8 if self.white_counts <= np.iinfo(np.uint8).max else np.uint16
        return np.asarray(np.clip(np.rint(frame), 0, self.white_counts).astype(dtype))

    def variance(self, clean: Image) -> Floats:
        """Give the variance of each pixel's noise, counts squared, with that of rounding to whole counts."""
        shot = np.maximum(clean, 0).astype(np.float64) * self.counts_per_electron
        return np.asarray(shot + self.read_noise_counts**2 + ROUNDING_VARIANCE)


def rounding_camera(glass: Glass) -> Camera:
    """Give the camera of the paper's test, whose only noise is that pixels hold whole counts."""
    return Camera(glass.white_counts)
