"""A simulated field: Gaussians on the glass, rendered where they are and never resampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from phagostat.bench.glass import Floats, Image
from phagostat.simulate.fluorescence import paint_background
from phagostat.simulate.painting import Texture, paint_spots
from phagostat.simulate.population import draw_blobs, draw_spots, place_clumps
from phagostat.simulate.ranges import draw_parameters

_PIXEL_SIZE_UM = 0.103  # of the published acquisitions, which the simulator's ranges were drawn up for
_EDGE_PX = 30.0  # what lies this far outside still shines into the field
_REACH_FRACTION = 0.2  # largest shift of the paper's test, in sides
_WHITE = 65535.0


@dataclass(frozen=True)
class SpotGlass:
    """Aggregates, dust and haze as round Gaussians over a glow that is uneven on the glass.

    A shift moves the centres before they are sampled, so a frame is exact at any shift, and what comes in at the
    border is new. There is no vignette: it stays with the camera, and the bench judges shifts alone.

    Parameters
    ----------
    side_px
        Side of a frame.
    position, sigma, amplitude
        (n, 2), (n,), (n,): centres in px of the unshifted frame, sigmas in px, peaks in counts.
    owner
        (n,) which aggregate (or dust, or haze) a Gaussian is part of, from 0.
    texture, glow_counts, unevenness
        The background.
    blur_px
        Sigma of the defocus.
    name
        What it is.
    white_counts
        Saturation of its camera.
    """

    side_px: int
    position: Floats
    sigma: Floats
    amplitude: Floats
    owner: NDArray[np.int64]
    texture: Texture
    glow_counts: float
    unevenness: float
    blur_px: float = 0.0
    name: str = "simulated"
    white_counts: float = _WHITE

    @classmethod
    def draw(cls, *, side_px: int, seed: int, name: str = "simulated") -> Self:
        """Draw a field like the simulator's default, and so much around it as the largest shift brings in."""
        parameters = draw_parameters(preset="default", seed=seed, scene=0)
        random = np.random.default_rng([seed, side_px])
        reach = _REACH_FRACTION * side_px + _EDGE_PX
        domain = (-reach, -reach, side_px + reach, side_px + reach)
        anchor = place_clumps(
            domain=domain, shape_yx=(side_px, side_px), pixel_size_um=_PIXEL_SIZE_UM,
            clustered_fraction=parameters.clustered_fraction, parameters=parameters, random=random,
        )  # fmt: skip
        blobs = draw_blobs(n_aggregates=len(anchor), pixel_size_um=_PIXEL_SIZE_UM, parameters=parameters, random=random)
        bright = parameters.brightness_counts
        small = [
            draw_spots(
                density_per_mm2=density, domain=domain, sigma_um=sigma, amplitude=(low * bright, high * bright),
                pixel_size_um=_PIXEL_SIZE_UM, random=random,
            )
            for density, sigma, low, high in (
                (parameters.dust_density_per_mm2, (0.18, 0.3), 0.02, parameters.dust_brightness),
                (
                    parameters.haze_density_per_mm2,
                    (0.6 * parameters.haze_sigma_um, 1.4 * parameters.haze_sigma_um),
                    0.2 * parameters.haze_brightness,
                    1.8 * parameters.haze_brightness,
                ),
            )
        ]  # fmt: skip
        n_small = sum(len(spots.sigma) for spots in small)
        um = 1 / _PIXEL_SIZE_UM
        return cls(
            side_px=side_px,
            position=np.concatenate([anchor[blobs.aggregate] + blobs.offset, *(s.position for s in small)]),
            sigma=np.concatenate([blobs.sigma, *(s.sigma for s in small)]),
            amplitude=np.concatenate([blobs.amplitude, *(s.amplitude for s in small)]),
            owner=np.concatenate([blobs.aggregate, len(anchor) + np.arange(n_small)]),
            texture=Texture.draw(period_px=400 * um, shortest_px=40 * um, corner_px=120 * um, slope=4.0, random=random),
            glow_counts=parameters.glow_counts,
            unevenness=parameters.glow_unevenness,
            name=name,
        )

    @property
    def n_aggregates(self) -> int:
        """Number of aggregates, grains of dust and patches of haze."""
        return int(self.owner.max()) + 1

    def frame(self, shift_yx_px: tuple[float, float] = (0.0, 0.0), *, margin_px: int = 0) -> Image:
        """Give the noise-free frame in counts; see :class:`phagostat.bench.glass.Glass`."""
        origin = -np.asarray(shift_yx_px, np.float64) - margin_px
        canvas = np.zeros((self.side_px + 2 * margin_px,) * 2, np.float32)
        sigma = np.hypot(self.sigma, self.blur_px)
        amplitude = self.amplitude * (self.sigma / sigma) ** 2
        paint_spots(canvas, position=self.position - origin, sigma=sigma, amplitude=amplitude)
        paint_background(
            canvas, texture=self.texture, level_counts=self.glow_counts, unevenness=self.unevenness, origin_yx=origin
        )
        return canvas

    def without(self, gone: NDArray[np.int64]) -> Self:
        """Take these aggregates away."""
        return replace(self, amplitude=np.where(np.isin(self.owner, gone), 0.0, self.amplitude))

    def moved(self, which: NDArray[np.int64], steps_yx_px: Floats) -> Self:
        """Carry these aggregates off."""
        step = np.zeros((self.n_aggregates, 2))
        step[which] = steps_yx_px
        return replace(self, position=self.position + step[self.owner])

    def turned(self, degrees: float) -> Self:
        """Turn the glass around the middle of the field (not its faint background)."""
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = (self.side_px - 1) / 2
        return replace(self, position=(self.position - middle) @ turn.T + middle)

    def blurred(self, sigma_px: float) -> Self:
        """See the glass out of focus."""
        return replace(self, blur_px=float(np.hypot(self.blur_px, sigma_px)))

    def dimmed(self, factor: float) -> Self:
        """Light the glass with so much less."""
        return replace(self, amplitude=self.amplitude * factor, glow_counts=self.glow_counts * factor)
