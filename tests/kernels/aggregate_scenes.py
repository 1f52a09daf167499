"""Frames of aggregates for tests: drawn at sub-pixel places, with camera noise, at any defocus and brightness."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

OFFSET_COUNTS = 100.0
GLOW_COUNTS = 300.0


@dataclass(frozen=True)
class AggregateScene:
    """Clumps of Gaussian spots on the analysis grid (sigma and places in analysis pixels)."""

    shape_yx: tuple[int, int]
    place_yx: NDArray[np.float64]
    sigma: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    clump: NDArray[np.int64]

    def without(self, clumps: NDArray[np.integer]) -> AggregateScene:
        """Clumps taken away."""
        left = ~np.isin(self.clump, clumps)
        return replace(
            self,
            place_yx=self.place_yx[left],
            sigma=self.sigma[left],
            amplitude=self.amplitude[left],
            clump=self.clump[left],
        )

    def light(self, *, defocus_px: float = 0.0, shift_yx_px: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
        """Fluorescence of the aggregates alone, defocus keeping the light."""
        image = np.zeros(self.shape_yx)
        width = np.hypot(self.sigma, defocus_px)
        for (y, x), sigma, amplitude, sharp in zip(
            self.place_yx + shift_yx_px, width, self.amplitude, self.sigma, strict=True
        ):
            reach = int(np.ceil(5 * sigma))
            rows = np.arange(max(0, int(y) - reach), min(self.shape_yx[0], int(y) + reach + 1))
            columns = np.arange(max(0, int(x) - reach), min(self.shape_yx[1], int(x) + reach + 1))
            spot = np.outer(np.exp(-0.5 * ((rows - y) / sigma) ** 2), np.exp(-0.5 * ((columns - x) / sigma) ** 2))
            image[np.ix_(rows, columns)] += amplitude * (sharp / sigma) ** 2 * spot
        return image

    def frame(
        self,
        *,
        seed: int = 0,
        fading: float = 1.0,
        defocus_px: float = 0.0,
        shift_yx_px: tuple[float, float] = (0.0, 0.0),
        noise_counts: float = 10.0,
        glow_counts: float | NDArray[np.float64] = GLOW_COUNTS,
    ) -> NDArray[np.uint16]:
        """Camera counts: glow stays, aggregates fade; shot and read noise."""
        random = np.random.default_rng(seed)
        light = glow_counts + fading * self.light(defocus_px=defocus_px, shift_yx_px=shift_yx_px)
        noise = random.standard_normal(self.shape_yx) * np.sqrt(noise_counts**2 + 0.25 * light)
        return np.clip(np.rint(OFFSET_COUNTS + light + noise), 0, 65535).astype(np.uint16)


def aggregate_scene(
    n_clumps: int = 60, *, shape_yx: tuple[int, int] = (512, 512), seed: int = 0, margin_px: float = 20.0
) -> AggregateScene:
    """Draw clumps of one to eight spots, not closer than 16 px to each other."""
    random = np.random.default_rng(seed)
    centres: list[NDArray[np.float64]] = []
    low, high = np.full(2, margin_px), np.array(shape_yx) - margin_px
    while len(centres) < n_clumps:
        centre = random.uniform(low, high)
        if all(np.hypot(*(centre - other)) > 16 for other in centres):
            centres.append(centre)
    places, sigmas, amplitudes, clumps = [], [], [], []
    for clump, centre in enumerate(centres):
        n = int(random.integers(1, 9))
        brightness = np.exp(random.normal(np.log(3000), 0.5))
        for _ in range(n):
            places.append(centre + random.normal(0, 2.0 if n > 1 else 0.0, 2).clip(-4, 4))
            sigmas.append(random.uniform(0.9, 1.5))
            amplitudes.append(brightness * random.uniform(0.6, 1.4))
            clumps.append(clump)
    return AggregateScene(shape_yx, np.array(places), np.array(sigmas), np.array(amplitudes), np.array(clumps))
