"""Phase contrast: cells as functions of the distance from their outline, with texture, granules, nucleus and halo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.life import N_ANGLES, ROUND, THICK, Cells
from phagostat.simulate.painting import Image, Texture, paint_spots
from phagostat.simulate.ranges import SceneParameters

Floats = NDArray[np.float64]

_FOLD_WIDTH = 0.22  # of the wave's sd
_MEAN_FOLD = 0.14  # of (1 + (w / width)^2)^-2 over a normal w: sqrt(pi / 8) * width
_FOLD_STRENGTH = 1.8  # relative to the rim


@dataclass(frozen=True)
class Look:
    """What makes a cell look like itself from frame to frame: textures, granules, nucleus (lengths in native px).

    Parameters
    ----------
    texture, later
        Granular cytoplasm; the two are mixed over time.
    folds
        Its lines of zero are thin dark folds of the lamella.
    mixing
        Angle of the mixture per frame.
    granule_offset, granule_sigma, granule_amplitude, granule_phase
        Vesicles relative to the centre, in units of the radius for the offset.
    nucleus_offset, nucleus_axes, nucleus_angle
        Ellipse of the nucleus, in units of the radius.
    halo_angle, halo, rim
        Direction and strength of the bright halo, and of the dark rim.
    ruffle
        (N_ANGLES,) strength of the rim along the outline.
    """

    texture: Texture
    later: Texture
    folds: Texture
    mixing: float
    granule_offset: Floats
    granule_sigma: Floats
    granule_amplitude: Floats
    granule_phase: Floats
    nucleus_offset: Floats
    nucleus_axes: Floats
    nucleus_angle: float
    halo_angle: float
    halo: float
    rim: float
    dome: float
    ruffle: Floats


def draw_look(*, kind: int, seed: int, pixel_size_um: float, interval_min: float, parameters: SceneParameters) -> Look:
    """Draw the look of one cell from its own seed."""
    random = np.random.default_rng([seed, 7])
    um = 1.0 / pixel_size_um
    textures = [
        Texture.draw(
            period_px=26.0 * um,
            shortest_px=0.8 * um,
            corner_px=3.2 * um,
            slope=3.5,
            hollow_px=9.0 * um,
            random=random,
        )
        for _ in range(2)
    ]
    folds = Texture.draw(period_px=26.0 * um, shortest_px=2.6 * um, corner_px=7.0 * um, slope=3.0, random=random)
    n = int(parameters.granules_per_cell * random.uniform(0.5, 1.3) * (0.6, 0.6, 0.3)[(kind == ROUND) * 2])
    n = n if kind != ROUND else n // 3
    angle = random.uniform(0.0, 2 * np.pi, n)
    reach = np.abs(random.normal(0.36, 0.11, n))  # a ring of vesicles around the nucleus
    stray = random.uniform(0.0, 1.0, n) < 0.12
    reach[stray] = np.sqrt(random.uniform(0.0, 0.75, int(stray.sum())))
    offset = reach[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    bright_cell = random.uniform(0.25, 0.75)
    bright = random.uniform(0.0, 1.0, n) < bright_cell
    strength = np.exp(random.normal(0.0, 0.55, n))
    amplitude = np.where(bright, 0.36, -0.30) * strength
    sigma = random.uniform(0.12, 0.36, n) * um * np.where(bright, 1.1, 1.0) * strength**0.3
    ripple = np.zeros(N_ANGLES // 2 + 1, dtype=np.complex128)
    modes = np.arange(1, 60)
    ripple[modes] = (random.standard_normal(59) + 1j * random.standard_normal(59)) / (1 + (modes / 25) ** 2)
    ruffle = np.fft.irfft(ripple, N_ANGLES)
    ruffle /= ruffle.std()
    return Look(
        texture=textures[0], later=textures[1], folds=folds,
        mixing=float(random.normal(0.0, 1.0)) * interval_min / 30.0,
        granule_offset=offset, granule_sigma=sigma, granule_amplitude=amplitude,
        granule_phase=random.uniform(0.0, 2 * np.pi, (n, 2)),
        nucleus_offset=random.normal(0.0, 0.05, 2), nucleus_axes=random.uniform([0.17, 0.14], [0.22, 0.18]),
        nucleus_angle=float(random.uniform(0.0, np.pi)), halo_angle=float(random.uniform(-np.pi, np.pi)),
        halo=float((0.03, 0.32, 0.05)[kind] * random.uniform(0.5, 1.3)),
        rim=float((0.13, 0.2, 0.05)[kind] * random.uniform(0.6, 1.3)),
        dome=float((0.06, 0.22, 1.9)[kind] * random.uniform(0.5, 1.3)),
        ruffle=np.maximum(ruffle, -0.3),
    )  # fmt: skip


def paint_cell(
    canvas: Image, *, cells: Cells, cell: int, frame: int, look: Look, origin_yx: Floats, pixel_size_um: float,
    contrast: float,
) -> None:  # fmt: skip
    """Add one cell to a canvas whose background is 0 and whose unit is the background's brightness.

    Parameters
    ----------
    canvas
        (y, x) image that is added to.
    cells, cell, frame, look
        The cell, and when.
    origin_yx
        Glass coordinates of the canvas's pixel (0, 0).
    pixel_size_um
        Native pixel size.
    contrast
        Factor on all structures.
    """
    um = 1.0 / pixel_size_um
    outline = cells.outline(cell, frame)
    centre = cells.position[frame, cell] - origin_yx
    reach = float(outline.max()) + 2.5 * um
    y0, x0 = (max(0, int(np.floor(c - reach))) for c in centre)
    y1, x1 = (min(size, int(np.ceil(c + reach)) + 1) for c, size in zip(centre, canvas.shape, strict=True))
    if y0 >= y1 or x0 >= x1:
        return
    dead = not cells.is_alive(cell, frame)
    radius = cells.radius[cell] * cells.size(cell, frame)
    dy, dx = np.arange(y0, y1) - centre[0], np.arange(x0, x1) - centre[1]
    dy32, dx32 = dy.astype(np.float32)[:, None], dx.astype(np.float32)[None]
    rho = np.sqrt(dy32 * dy32 + dx32 * dx32)
    turn = ((np.arctan2(dy32, dx32) + np.float32(np.pi)) * np.float32(N_ANGLES / (2 * np.pi))).astype(np.int32)
    turn &= N_ANGLES - 1
    steepness = 1.0 / np.sqrt(1.0 + (np.gradient(outline) * N_ANGLES / (2 * np.pi) / outline) ** 2)
    direction = np.linspace(-np.pi, np.pi, N_ANGLES, endpoint=False)
    depth = (outline.astype(np.float32)[turn] - rho) * steepness.astype(np.float32)[turn]
    inside = np.clip(depth / np.float32(0.35 * um) + np.float32(0.5), 0, 1)
    inside *= inside * (3 - 2 * inside)

    swollen = cells.kind[cell] == ROUND
    dome_px = 0.55 * radius
    dome = np.exp(-((rho * np.float32(1 / dome_px)) ** (2 if swollen else 4)))
    texture = look.texture.mixed(look.later, look.mixing * frame).at(dy + 500.0, dx + 500.0)
    ellipse = _ellipse(dy32, dx32, look, radius)
    nucleus = 1 / (1 + np.exp(np.clip((ellipse - 1) * 14, -30, 30)))
    strength = (np.float32(0.028) + np.float32(0.148) * dome) * (1 - np.float32(0.65) * nucleus)
    value = texture * strength
    lift = look.dome * (3.0 if dead else 1.0) + (0.8 if dead else 0.0)
    value += np.float32(lift) * dome - np.float32(0.012)
    value -= np.float32(0.11) * np.exp(-(((ellipse - 1) * np.float32(7.0)) ** 2)) * (1 - dome * np.float32(0.2))
    rim = np.maximum(look.rim * (0.45 + 0.75 * look.ruffle), 0.0).astype(np.float32)[turn]
    value -= rim * np.exp(-(((depth - np.float32(0.5 * um)) * np.float32(1 / (0.42 * um))) ** 2))
    wave = look.folds.at(dy + 500.0, dx + 500.0)
    # thin lines along which the wave is zero, lighter between them: phase contrast leaves no mean over long distances
    fold = 1 / (1 + (wave * np.float32(1 / _FOLD_WIDTH)) ** 2) ** 2 - np.float32(_MEAN_FOLD)
    fold *= np.exp(-(((depth - np.float32(1.8 * um)) * np.float32(1 / (2.0 * um))) ** 2))
    value -= np.float32(_FOLD_STRENGTH * look.rim) * fold
    value *= inside
    lobe = (0.25 + 0.75 * np.clip(np.cos(direction - look.halo_angle), 0, 1)).astype(np.float32)[turn]
    value += (
        lobe
        * np.float32(look.halo * (1.5 if dead else 1.0))
        * np.exp(-(((depth + np.float32(0.35 * um)) * np.float32(1 / (0.55 * um))) ** 2))
    )
    canvas[y0:y1, x0:x1] += value * np.float32(contrast)
    _paint_granules(
        canvas, centre=centre, radius=radius, frame=frame, look=look,
        contrast=contrast * (0.5 if cells.kind[cell] == THICK else 1.0),
    )  # fmt: skip


def _ellipse(dy: Image, dx: Image, look: Look, radius: float) -> Image:
    sine, cosine = np.sin(look.nucleus_angle), np.cos(look.nucleus_angle)
    cy, cx = look.nucleus_offset * radius
    along = ((dy - np.float32(cy)) * np.float32(sine) + (dx - np.float32(cx)) * np.float32(cosine)) * np.float32(
        1 / (look.nucleus_axes[0] * radius)
    )
    across = ((dy - np.float32(cy)) * np.float32(cosine) - (dx - np.float32(cx)) * np.float32(sine)) * np.float32(
        1 / (look.nucleus_axes[1] * radius)
    )
    return np.asarray(np.sqrt(along * along + across * across))


def _paint_granules(canvas: Image, *, centre: Floats, radius: float, frame: int, look: Look, contrast: float) -> None:
    """Vesicles: a core and a ring of the opposite sign, each wandering a little about its place."""
    wander = 0.03 * np.sin(look.granule_phase + frame * 0.35)
    position = centre + (look.granule_offset + wander) * radius
    amplitude = look.granule_amplitude * contrast
    paint_spots(canvas, position=position, sigma=look.granule_sigma, amplitude=amplitude * 1.45)
    paint_spots(canvas, position=position, sigma=look.granule_sigma * 1.7, amplitude=-amplitude * 0.5)


def label_cells(
    *, cells: Cells, frame: int, shape_yx: tuple[int, int], origin_yx: Floats, reduction: int
) -> NDArray[np.uint16]:
    """Give the label image of a frame on the analysis grid: cell number + 1; where cells overlap, the deeper one.

    Parameters
    ----------
    cells, frame
        The cells, and when.
    shape_yx
        Shape on the native grid.
    origin_yx
        Glass coordinates of the native pixel (0, 0).
    reduction
        Native px per analysis px; analysis pixel i is centred at ``reduction * i + (reduction - 1) / 2``.
    """
    shape = (shape_yx[0] // reduction, shape_yx[1] // reduction)
    labels = np.zeros(shape, dtype=np.uint16)
    deepest = np.zeros(shape, dtype=np.float32)
    middle = (reduction - 1) / 2
    for cell in range(len(cells.radius)):
        outline = cells.outline(cell, frame)
        centre = (cells.position[frame, cell] - origin_yx - middle) / reduction
        reach = float(outline.max()) / reduction + 1
        y0, x0 = (max(0, int(np.floor(c - reach))) for c in centre)
        y1, x1 = (min(size, int(np.ceil(c + reach)) + 1) for c, size in zip(centre, shape, strict=True))
        if y0 >= y1 or x0 >= x1:
            continue
        dy = (np.arange(y0, y1) - centre[0]).astype(np.float32)[:, None]
        dx = (np.arange(x0, x1) - centre[1]).astype(np.float32)[None]
        turn = ((np.arctan2(dy, dx) + np.float32(np.pi)) * np.float32(N_ANGLES / (2 * np.pi))).astype(np.int32)
        turn &= N_ANGLES - 1
        depth = 1 - np.sqrt(dy * dy + dx * dx) * reduction / outline.astype(np.float32)[turn]
        better = depth > deepest[y0:y1, x0:x1]
        deepest[y0:y1, x0:x1][better] = depth[better]
        labels[y0:y1, x0:x1][better] = cell + 1
    return labels
