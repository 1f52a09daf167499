"""The fluorescence of a scene: aggregates on the glass, meals in cells, haze and glow, as functions of the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.life import NEVER, Aggregates, Cells
from phagostat.simulate.painting import Image, Texture, paint_spots
from phagostat.simulate.population import Spots
from phagostat.simulate.ranges import SceneParameters
from phagostat.simulate.semi import paint_patch

Floats = NDArray[np.float64]

_TRANSPORT_MIN = 12.0  # time in which a meal is carried from the cell's border to its middle
_FAINTEST = 0.01  # a glow below this fraction of its beginning is left out


@dataclass(frozen=True)
class Tilt:
    """The glass is not quite level: what lies on it is out of focus in proportion to its distance from a line.

    Parameters
    ----------
    slope_yx
        (2,) defocus per px of the glass (sigma in native px), across the line that is in focus.
    level_px
        Defocus at the glass's origin.
    """

    slope_yx: Floats
    level_px: float

    @classmethod
    def of(
        cls, parameters: SceneParameters, *, centre_yx: Floats, side_px: float, reduction: int, pixel_size_um: float
    ) -> Tilt:
        """Give the tilt that was drawn for a field of shorter side ``side_px`` around ``centre_yx`` on the glass."""
        angle = np.deg2rad(parameters.glass_tilt_direction_deg)
        across = np.array([np.sin(angle), np.cos(angle)])
        slope = parameters.glass_tilt_apx_per_mm * reduction * pixel_size_um * 1e-3
        line = float(across @ centre_yx) + parameters.glass_focus_line_fraction * side_px
        return cls(slope * across, -slope * line)

    @classmethod
    def none(cls) -> Tilt:
        """Give a level glass in focus."""
        return cls(np.zeros(2), 0.0)

    def sigma_px(self, position: Floats) -> Floats:
        """Give the (N,) defocus in native px at (N, 2) positions on the glass."""
        return np.abs(position @ self.slope_yx + self.level_px)


@dataclass(frozen=True)
class CellGlow:
    """Spots of earlier meals that cells carry about: which cell, offset in units of its radius, sigma, amplitude."""

    cell: NDArray[np.int64]
    offset: Floats
    sigma: Floats
    amplitude: Floats


def draw_cell_glow(
    cells: Cells, *, pixel_size_um: float, parameters: SceneParameters, random: np.random.Generator
) -> CellGlow:
    """Draw which cells have eaten before the movie began."""
    owners = [
        np.full(int(random.poisson(parameters.cell_glow_spots)), cell)
        for cell in range(len(cells.radius))
        if random.uniform() < parameters.cell_glow_fraction
    ]
    cell = np.concatenate([*owners, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    n = len(cell)
    sigma = random.uniform(0.16, 0.3, n) / pixel_size_um
    amplitude = parameters.brightness_counts * np.exp(random.normal(-1.4, 0.7, n))
    return CellGlow(cell, random.normal(0.0, 0.16, (n, 2)), sigma, amplitude)


def paint_elements(
    canvas: Image, *, aggregates: Aggregates, pieces: NDArray[np.int64], position: Floats, weight: Floats,
    extra_sigma: Floats,
) -> None:  # fmt: skip
    """Add pieces of aggregates, each blurred by its own ``extra_sigma`` (native px) without loss of light."""
    elements = aggregates.elements
    if elements.patches is not None:
        for piece, place, factor, sigma_px in zip(pieces, position, weight, extra_sigma, strict=True):
            paint_patch(
                canvas, elements.patches[piece], position=place, step_px=elements.patch_step_px, weight=float(factor),
                extra_sigma_px=float(sigma_px),
            )  # fmt: skip
        return
    sigma = np.hypot(elements.sigma[pieces], extra_sigma)
    amplitude = elements.amplitude[pieces] * weight * (elements.sigma[pieces] / sigma) ** 2
    paint_spots(canvas, position=position, sigma=sigma, amplitude=amplitude)


def outside_pieces(aggregates: Aggregates, frame: int) -> NDArray[np.int64]:
    """Give the pieces that lie on the glass in ``frame``: in no cell and not washed away."""
    elements = aggregates.elements
    return np.flatnonzero((elements.captured > frame) & (aggregates.gone[elements.aggregate] > frame))


def paint_outside(
    canvas: Image, *, aggregates: Aggregates, frame: int, origin_yx: Floats, defocus_px: float, tilt: Tilt | None
) -> None:
    """Add what lies on the glass; without ``tilt`` all aggregates are in focus, as the truth's areas want."""
    pieces = outside_pieces(aggregates, frame)
    owners = aggregates.elements.aggregate[pieces]
    anchor = aggregates.anchor[frame, owners]
    position = anchor + aggregates.elements.offset[pieces] - origin_yx
    extra = np.full(len(pieces), defocus_px)
    if tilt is not None:
        extra = np.hypot(extra, np.hypot(aggregates.defocus_px[frame, owners], tilt.sigma_px(anchor)))
    paint_elements(
        canvas, aggregates=aggregates, pieces=pieces, position=position, weight=np.ones(len(pieces)), extra_sigma=extra
    )


def paint_inside(
    canvas: Image, *, aggregates: Aggregates, cells: Cells, frame: int, origin_yx: Floats, defocus_px: float,
    tilt: Tilt, interval_min: float, parameters: SceneParameters, seat: Floats,
) -> None:  # fmt: skip
    """Add what cells have taken up and still glows; it travels from where it was taken to its seat in the cell.

    ``seat`` is the (B, 2) place near the cell's centre, in units of its radius.
    """
    elements = aggregates.elements
    pieces = np.flatnonzero((elements.captured <= frame) & (elements.captured != NEVER))
    if not len(pieces):
        return
    owners = elements.aggregate[pieces]
    age = (frame - elements.captured[pieces] + 0.5) * interval_min
    half_life = np.where(aggregates.carried[owners], parameters.carried_glow_min, parameters.quench_min)
    weight = 0.5 ** (age / half_life)
    lit = weight > _FAINTEST
    pieces, owners, age, weight = pieces[lit], owners[lit], age[lit], weight[lit]
    eater, taken = aggregates.eater[owners], elements.captured[pieces]
    anchor = aggregates.anchor[taken, owners]
    start = anchor + elements.offset[pieces] - cells.position[taken, eater]
    settled = 1 - np.exp(-np.maximum(age - 0.5 * interval_min, 0.0) / _TRANSPORT_MIN)
    carried = aggregates.carried[owners]
    end = seat[pieces] * cells.radius[eater][:, None]
    first = np.zeros(len(aggregates.gone), dtype=np.int64)
    first[elements.aggregate[::-1]] = np.arange(len(elements.aggregate))[::-1]
    end[carried] = (  # a carried aggregate keeps its shape: all its pieces have the seat of the first
        seat[first[owners[carried]]] * cells.radius[eater[carried]][:, None] + elements.offset[pieces[carried]]
    )
    place = start * (1 - settled)[:, None] + end * settled[:, None]
    position = cells.position[frame, eater] + place - origin_yx
    paint_elements(
        canvas, aggregates=aggregates, pieces=pieces, position=position, weight=weight,
        extra_sigma=np.hypot(defocus_px, tilt.sigma_px(anchor)),  # as it was when taken: a bite is no change of focus
    )  # fmt: skip


def paint_fixed(canvas: Image, *, spots: Spots, origin_yx: Floats, defocus_px: float, tilt: Tilt) -> None:
    """Add spots that lie on the glass."""
    sigma = np.hypot(spots.sigma, np.hypot(defocus_px, tilt.sigma_px(spots.position)))
    paint_spots(
        canvas, position=spots.position - origin_yx, sigma=sigma, amplitude=spots.amplitude * (spots.sigma / sigma) ** 2
    )


def paint_cell_glow(
    canvas: Image, *, glow: CellGlow, cells: Cells, frame: int, origin_yx: Floats, defocus_px: float,
    autofluorescence_counts: float,
) -> None:  # fmt: skip
    """Add earlier meals, and each cell's own faint light as one broad Gaussian."""
    sigma = np.hypot(glow.sigma, defocus_px)
    position = cells.position[frame, glow.cell] + glow.offset * cells.radius[glow.cell][:, None] - origin_yx
    paint_spots(canvas, position=position, sigma=sigma, amplitude=glow.amplitude * (glow.sigma / sigma) ** 2)
    width = np.hypot(0.45 * cells.radius, defocus_px)
    middle = cells.position[frame] - origin_yx
    y, x = (np.arange(size)[:, None] for size in canvas.shape)
    column = np.exp(-0.5 * ((y - middle[:, 0]) / width) ** 2) * autofluorescence_counts
    row = np.exp(-0.5 * ((x - middle[:, 1]) / width) ** 2)
    canvas += column.astype(np.float32) @ row.T.astype(np.float32)


def paint_background(
    canvas: Image, *, texture: Texture, level_counts: float, unevenness: float, origin_yx: Floats
) -> None:
    """Add the glow of the medium, uneven over the glass."""
    y, x = (np.arange(size) + start for size, start in zip(canvas.shape, origin_yx, strict=True))
    canvas += np.float32(level_counts) * (1 + np.float32(unevenness) * texture.at(y, x))
