"""The semi-synthetic mode: real aggregates and cells, scaled, placed and moved over real background."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.life import N_ANGLES, NEVER, Cells, Elements
from phagostat.simulate.painting import Image, evaluate_series
from phagostat.simulate.ranges import SceneParameters
from phagostat.simulate.real import AGGREGATES_PIXEL_UM, Material, RealCell

Floats = NDArray[np.float64]

_PIECE_PX = 16.0  # area of a piece that is bitten off at once, in px of the real frame
_MOST_PIECES = 14
_FIELD_PX = 1024.0  # width of the real frames that the cosine series stand for
_OUTLINE_ANGLES = 256
_SQUARE_FILL = 0.8  # area of a spread cell over that of the circle of its radius


def draw_pieces(
    *, material: Material, n_aggregates: int, pixel_size_um: float, parameters: SceneParameters,
    random: np.random.Generator,
) -> Elements:  # fmt: skip
    """Draw aggregates as real cut-outs, each divided into soft pieces that add up to it and can be bitten off.

    Parameters
    ----------
    material
        The cut-outs.
    n_aggregates, pixel_size_um, parameters, random
        As for :func:`phagostat.simulate.population.draw_blobs`.
    """
    step = AGGREGATES_PIXEL_UM / pixel_size_um
    owners, offsets, patches, sizes = [], [], [], []
    factor = np.float32(counts_per_grey(parameters))
    for aggregate in range(n_aggregates):
        cut = material.aggregates[int(random.integers(len(material.aggregates)))]
        cut = np.rot90(cut, int(random.integers(4)))
        cut = cut[::-1] if random.integers(2) else cut
        for piece, offset in divide(cut, random):
            owners.append(aggregate)
            offsets.append(np.array(offset) * step)
            patches.append(piece * factor)
            sizes.append(max(piece.shape) * step / 10.0)
    return Elements(
        np.array(owners, dtype=np.int64), np.array(offsets).reshape(-1, 2), np.array(sizes), np.ones(len(owners)),
        np.full(len(owners), NEVER), tuple(patches), step,
    )  # fmt: skip


def counts_per_grey(parameters: SceneParameters) -> float:
    """Camera counts for one grey value of the real frame, whose white (255) is as bright as a drawn aggregate."""
    return parameters.brightness_counts / 255.0


def divide(cut: Image, random: np.random.Generator) -> list[tuple[Image, tuple[float, float]]]:
    """Divide a cut-out into soft pieces that sum to it.

    Returns
    -------
    list
        Pieces with the offset of their centre from the cut-out's centre (y, x), in the cut-out's px.
    """
    bright = np.argwhere(cut > 0.3 * cut.max())
    n = int(np.clip(round(len(bright) / _PIECE_PX), 1, _MOST_PIECES))
    seeds = bright[random.choice(len(bright), n, replace=False)]
    y, x = np.mgrid[: cut.shape[0], : cut.shape[1]]
    nearness = np.exp(-((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2) / (2 * 2.0**2))
    nearness += 1e-12
    nearness /= nearness.sum(axis=-1, keepdims=True)
    pieces = []
    for index in range(n):
        piece = (cut * nearness[..., index]).astype(np.float32)
        rows, columns = (np.flatnonzero((piece > 1e-3 * cut.max()).any(axis=axis)) for axis in (1, 0))
        if not len(rows) or n == 1:
            rows, columns = np.arange(cut.shape[0]), np.arange(cut.shape[1])
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        middle = ((rows[0] + rows[-1] - cut.shape[0] + 1) / 2, (columns[0] + columns[-1] - cut.shape[1] + 1) / 2)
        pieces.append((piece[box], middle))
    return pieces


def paint_patch(
    canvas: Image, patch: Image, *, position: Floats, step_px: float, weight: float, extra_sigma_px: float
) -> None:
    """Add a patch as the Fourier series through its pixels, blurred by a Gaussian.

    Parameters
    ----------
    canvas
        (y, x) image that is added to.
    patch
        (h, w) values; it fades to zero at its border.
    position
        (y, x) of its centre in the canvas's px.
    step_px
        Canvas px per patch px.
    weight
        Factor on its brightness.
    extra_sigma_px
        Sigma of the blur in canvas px.
    """
    sigma = extra_sigma_px / step_px
    margin = 2 + int(np.ceil(4 * sigma))
    padded = np.pad(patch, margin)
    height, width = padded.shape
    ky, kx = (np.fft.fftfreq(height) * height, np.fft.fftfreq(width) * width)
    spectrum = np.fft.fft2(padded) * (weight / padded.size)
    if sigma > 0:
        spectrum *= np.exp(-2 * (np.pi * sigma * ky / height) ** 2)[:, None]
        spectrum *= np.exp(-2 * (np.pi * sigma * kx / width) ** 2)[None]
    half = (np.array(padded.shape) - 1) / 2 * step_px
    y0, x0 = (max(0, int(np.ceil(p - h))) for p, h in zip(position, half, strict=True))
    y1, x1 = (min(size, int(np.floor(p + h)) + 1) for p, h, size in zip(position, half, canvas.shape, strict=True))
    if y0 >= y1 or x0 >= x1:
        return
    y = (np.arange(y0, y1) - position[0]) / step_px + (height - 1) / 2
    x = (np.arange(x0, x1) - position[1]) / step_px + (width - 1) / 2
    wave_y = np.exp(2j * np.pi / height * np.outer(y, ky)).astype(np.complex64)
    wave_x = np.exp(2j * np.pi / width * np.outer(kx, x)).astype(np.complex64)
    canvas[y0:y1, x0:x1] += evaluate_series(wave_y, spectrum.astype(np.complex64), wave_x)


def cosine_field(coefficients: Image, *, y: Floats, x: Floats, field_px: float) -> Image:
    """Evaluate a real background, mirrored at its borders, at coordinates ``y`` and ``x`` in native px.

    Parameters
    ----------
    coefficients
        (K, K) cosine coefficients.
    y, x
        (H,) and (W,) coordinates on the glass.
    field_px
        Width of the real field in native px.
    """
    order = np.arange(len(coefficients))
    wave_y = np.cos(np.pi * np.outer(y / field_px, order)).astype(np.float32)
    wave_x = np.cos(np.pi * np.outer(order, x / field_px)).astype(np.float32)
    return np.asarray(wave_y @ coefficients @ wave_x)


def glow_field_px(pixel_size_um: float) -> float:
    """Width in native px of the real aggregate-free field."""
    return _FIELD_PX * AGGREGATES_PIXEL_UM / pixel_size_um


@dataclass(frozen=True)
class RealLook:
    """A real cell as it is placed: its pixels, and native px per px of its own at full size."""

    cell: RealCell
    step_px: float


def draw_real_looks(*, material: Material, cells: Cells, random: np.random.Generator) -> tuple[Cells, list[RealLook]]:
    """Give every cell the looks and the outline of a real one, scaled to the area that was drawn for it."""
    looks, outlines = [], np.zeros((len(cells.radius), N_ANGLES))
    for index, radius in enumerate(cells.radius):
        real = material.cells[int(random.integers(len(material.cells)))]
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        contrast, mask = (np.rot90(part, turns) for part in (real.contrast, real.mask))
        if flip:
            contrast, mask = contrast[::-1], mask[::-1]
        real = RealCell(np.ascontiguousarray(contrast), np.ascontiguousarray(mask), real.area_px)
        step = float(np.sqrt(_SQUARE_FILL * np.pi * radius**2 / real.area_px))
        looks.append(RealLook(real, step))
        outlines[index] = _outline(real.mask) * step
    return replace(cells, outlines=outlines), looks


def _outline(mask: Image) -> Floats:
    """Give the distance from the centre at which the mask is left for good, in every direction."""
    middle = (np.array(mask.shape) - 1) / 2
    angle = np.linspace(-np.pi, np.pi, _OUTLINE_ANGLES, endpoint=False)
    radii = np.arange(0.0, np.hypot(*mask.shape) / 2, 0.25)
    y = np.rint(middle[0] + np.outer(np.sin(angle), radii)).astype(int)
    x = np.rint(middle[1] + np.outer(np.cos(angle), radii)).astype(int)
    seen = (y >= 0) & (x >= 0) & (y < mask.shape[0]) & (x < mask.shape[1])
    inside = seen & (mask[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)] > 0.5)
    last = inside.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1)
    reach = np.maximum(np.where(inside.any(axis=1), radii[last], 0.0), 1.0)
    return np.asarray(np.repeat(reach, N_ANGLES // _OUTLINE_ANGLES))


def paint_real_cell(
    canvas: Image, *, cells: Cells, cell: int, frame: int, look: RealLook, origin_yx: Floats, contrast: float
) -> None:
    """Add a real cell's contrast; a dying one shrinks."""
    paint_patch(
        canvas, look.cell.contrast, position=cells.position[frame, cell] - origin_yx,
        step_px=look.step_px * cells.size(cell, frame), weight=contrast, extra_sigma_px=0.0,
    )  # fmt: skip


def label_real_cells(
    *, cells: Cells, looks: list[RealLook], frame: int, shape_yx: tuple[int, int], origin_yx: Floats, reduction: int
) -> NDArray[np.uint16]:
    """Give the label image on the analysis grid; where masks overlap, the cell whose mask is higher, else the first."""
    shape = (shape_yx[0] // reduction, shape_yx[1] // reduction)
    labels = np.zeros(shape, dtype=np.uint16)
    highest = np.full(shape, 0.5, dtype=np.float32)
    for cell, look in enumerate(looks):
        mask = np.zeros(shape, dtype=np.float32)
        position = (cells.position[frame, cell] - origin_yx - (reduction - 1) / 2) / reduction
        step = look.step_px * cells.size(cell, frame) / reduction
        paint_patch(mask, look.cell.mask, position=position, step_px=step, weight=1.0, extra_sigma_px=0.0)
        better = mask > highest + 1e-3
        highest[better] = mask[better]
        labels[better] = cell + 1
    return labels
