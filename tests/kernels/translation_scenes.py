"""Scenes of analytic blobs, rendered at shifted coordinates: an exact generator for shifts.

Nothing is resampled: a shift moves the centres of Gaussians before they are sampled, and noise is drawn afresh for
every frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Scene:
    """Aggregates as clusters of Gaussians on an area larger than the field.

    ``centre``, ``sigma`` and ``height`` are per Gaussian, ``owner`` is the aggregate it belongs to; pixels, counts.
    """

    shape: tuple[int, int]
    centre: np.ndarray
    sigma: np.ndarray
    height: np.ndarray
    owner: np.ndarray
    haze: np.ndarray  # rows of y, x, sigma, height

    @property
    def n_aggregates(self) -> int:
        return int(self.owner.max()) + 1

    def without(self, share, *, rng):
        """The scene with this share of its aggregates eaten."""
        gone = rng.permutation(self.n_aggregates)[: round(share * self.n_aggregates)]
        return replace(self, height=np.where(np.isin(self.owner, gone), 0.0, self.height))

    def with_moved(self, share, *, rng, distance_px=30.0):
        """The scene with this share of its aggregates carried off in random directions."""
        moved = rng.permutation(self.n_aggregates)[: round(share * self.n_aggregates)]
        step = rng.normal(0, distance_px, (self.n_aggregates, 2))
        centre = self.centre + np.where(np.isin(self.owner, moved)[:, None], step[self.owner], 0.0)
        return replace(self, centre=centre)


def blob_scene(shape=(256, 256), *, n_aggregates=None, seed=0, reach_px=120, sigma_px=(1.5, 4.0), haze=6):
    """Draw a scene; aggregates lie on the field and `reach_px` around it, so that shifts bring in new ones.

    ``n_aggregates`` counts those on the field.
    """
    rng = np.random.default_rng(seed)
    height, width = shape
    area = height * width
    n_field = max(5, area // 12000) if n_aggregates is None else n_aggregates
    around = rng.uniform((-reach_px, -reach_px), (height + reach_px, width + reach_px), (20000, 2))
    inside = ((around > 12) & (around < np.array(shape) - 12)).all(axis=1)
    outside = ((around < 0) | (around > np.array(shape))).any(axis=1)
    n_around = round(n_field * ((height + 2 * reach_px) * (width + 2 * reach_px) - area) / area)
    places = np.concatenate([around[inside][:n_field], around[outside][:n_around]])
    owner = np.repeat(np.arange(len(places)), rng.integers(1, 6, len(places)))
    spread = rng.uniform(0, 5, len(places))
    centre = places[owner] + rng.normal(0, 1, (len(owner), 2)) * spread[owner, None]
    strength = np.exp(rng.normal(np.log(900), 0.7, len(places)))
    clouds = np.column_stack(
        [
            rng.uniform(0, height, haze),
            rng.uniform(0, width, haze),
            rng.uniform(0.12, 0.3, haze) * min(shape),
            rng.uniform(10, 60, haze),
        ]
    )
    return Scene(
        tuple(shape), centre, rng.uniform(*sigma_px, len(owner)), strength[owner] * rng.uniform(0.5, 1, len(owner)),
        owner, clouds,
    )  # fmt: skip


def expected(scene, shift=(0.0, 0.0), *, blur_px=0.0, background=200.0, gain=1.0, tilt=0.0):
    """The scene's noise-free frame: what stands at p unshifted stands at p + shift."""
    height, width = scene.shape
    y, x = np.arange(height, dtype=float), np.arange(width, dtype=float)
    frame = np.full(scene.shape, float(background))
    for cy, cx, sigma, level in scene.haze:
        frame += level * np.exp(-((y - cy) ** 2) / (2 * sigma**2))[:, None] * np.exp(-((x - cx) ** 2) / (2 * sigma**2))
    frame += tilt * (x / width - 0.5)[None] + tilt * (y / height - 0.5)[:, None]
    for (cy, cx), sigma, level in zip(scene.centre + np.asarray(shift), scene.sigma, scene.height, strict=True):
        wide = float(np.hypot(sigma, blur_px))
        reach = 6 * wide
        top, bottom = int(np.clip(cy - reach, 0, height)), int(np.clip(cy + reach + 2, 0, height))
        left, right = int(np.clip(cx - reach, 0, width)), int(np.clip(cx + reach + 2, 0, width))
        if top >= bottom or left >= right or level == 0:
            continue
        down = np.exp(-((y[top:bottom] - cy) ** 2) / (2 * wide**2))
        across = np.exp(-((x[left:right] - cx) ** 2) / (2 * wide**2))
        frame[top:bottom, left:right] += gain * level * (sigma / wide) ** 2 * down[:, None] * across[None]
    return frame


def recorded(frame, *, seed, read_noise=5.0, counts_per_electron=0.5, dtype=np.uint16, saturation=65535):
    """The frame as a camera records it: shot noise, read noise, saturation."""
    rng = np.random.default_rng(seed)
    noisy = rng.poisson(np.maximum(frame, 0) / counts_per_electron) * counts_per_electron
    noisy = noisy + rng.normal(0, read_noise, frame.shape)
    if dtype is np.uint8:
        noisy = noisy * (255 / 2500)
        saturation = 255
    return np.clip(np.rint(noisy), 0, saturation).astype(dtype)


def frame_of(scene, shift=(0.0, 0.0), *, seed=0, read_noise=5.0, dtype=np.uint16, saturation=65535, **optics):
    """One recorded frame of a scene."""
    return recorded(
        expected(scene, shift, **optics), seed=seed, read_noise=read_noise, dtype=dtype, saturation=saturation
    )
