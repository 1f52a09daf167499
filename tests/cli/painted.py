"""Acquisitions painted by hand: where a simulation would not go, since no microscope records them on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

PIXEL_UM, INTERVAL_S = 0.206, 120.0
Plane = NDArray[np.float64]


def glass(side_px: int, n_aggregates: int, *, seed: int = 1, radius_px: float = 2.5) -> Plane:
    """Light of so many round aggregates of unequal brightness on the glass, in counts; at random places of a grid."""
    random = np.random.default_rng(seed)
    light = np.zeros((side_px, side_px))
    columns = max(1, int(np.ceil(np.sqrt(n_aggregates))))
    cell = side_px / columns
    reach = np.arange(-int(radius_px + 2), int(radius_px + 3))
    disc = np.clip(radius_px + 0.5 - np.hypot(*np.meshgrid(reach, reach)), 0, 1)
    margin = min(cell / 2, radius_px + 3)
    for place in random.permutation(columns**2)[:n_aggregates]:
        y, x = (
            int(np.clip(index * cell + random.uniform(margin, max(margin, cell - margin)), 0, side_px - 1))
            for index in divmod(int(place), columns)
        )
        rows, columns_of = (slice(max(0, v + reach[0]), v + reach[-1] + 1) for v in (y, x))
        part = light[rows, columns_of]
        cut = disc[-part.shape[0] :, :] if y + reach[0] < 0 else disc[: part.shape[0], :]
        cut = cut[:, -part.shape[1] :] if x + reach[0] < 0 else cut[:, : part.shape[1]]
        np.maximum(part, random.uniform(6_000, 9_000) * cut, out=part)
    return np.asarray(ndimage.gaussian_filter(light, 0.6))


def texture(side_px: int, *, seed: int = 2) -> Plane:
    """What the inside of a cell looks like in phase contrast, around 0."""
    mottled = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(side_px, side_px)), 1.5)
    return np.asarray(2_500 * mottled / mottled.std())


def discs(side_px: int, n_cells: int, *, radius_px: float = 24.0) -> NDArray[np.bool_]:
    """Where so many round cells are, in rows."""
    columns = max(1, int(np.ceil(np.sqrt(n_cells))))
    places = (np.arange(columns) + 0.5) * side_px / columns
    y, x = np.mgrid[:side_px, :side_px]
    inside = np.zeros((side_px, side_px), np.bool_)
    for i in range(n_cells):
        inside |= (y - places[i // columns]) ** 2 + (x - places[i % columns]) ** 2 < radius_px**2
    return inside


def movie(
    path: Path,
    *,
    light: Plane,
    cells: NDArray[np.bool_],
    frames: int = 4,
    blur_px: float = 0.0,
    level: float = 1.0,
    drift_px: float = 2.0,
    cell_light: float = 12_000.0,
    seed: int = 0,
) -> Path:
    """Write a two-channel OME-TIFF: the light and the cells, drifting, with noise.

    Parameters
    ----------
    light : (y, x)
        Fluorescence without background.
    cells : (y, x) bool
        Where the phase contrast has texture.
    blur_px
        Defocus of every frame.
    level
        What all counts are multiplied with; 0 for a closed shutter.
    drift_px
        Way of the stage from frame to frame.
    cell_light
        Background counts of the cell channel.
    """
    random = np.random.default_rng(seed)
    side = light.shape[0]
    inside = np.where(cells, texture(side), 0.0)
    planes = np.zeros((frames, 2, side, side), np.uint16)
    for frame in range(frames):
        for channel, (scene, background) in enumerate(((light, 300.0), (inside, cell_light))):
            seen = ndimage.shift(scene, (drift_px * frame, -drift_px * frame / 2), order=1)
            seen = ndimage.gaussian_filter(seen, blur_px) if blur_px else seen
            noisy = random.normal(background + seen, np.sqrt(np.maximum(background + seen, 1.0)))
            planes[frame, channel] = np.clip(level * noisy, 0, 60_000).round()
    tifffile.imwrite(
        path,
        planes,
        photometric="minisblack",
        metadata={
            "axes": "TCYX",
            "PhysicalSizeX": PIXEL_UM,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": PIXEL_UM,
            "PhysicalSizeYUnit": "µm",
            "TimeIncrement": INTERVAL_S,
            "TimeIncrementUnit": "s",
            "Channel": {
                "Name": ["mCherry", "PhC"],
                "Fluor": ["mCherry", ""],
                "ContrastMethod": ["Fluorescence", "Phase"],
            },
        },
    )
    return path
