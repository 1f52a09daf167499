"""Real microscopy as material for the semi-synthetic mode: cut-outs of aggregates, cells with masks, backgrounds.

Everything that is cut out becomes a band-limited function of the plane (a Fourier or cosine series of its pixels), so
that it can be evaluated at any shifted coordinate: exact shifts, no resampling of a frame.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import fft, ndimage

from phagostat.model.errors import SourceError

Image = NDArray[np.float32]

AGGREGATES_PIXEL_UM = 0.206  # of microglia/aggregates.png
_CUT_LEVEL = 45.0  # grey values above background from which something is an aggregate
_CUT_MARGIN_PX = 5
_LARGEST_CUT_PX = 90
_ANTIALIAS_PX = 0.4  # the saturated plateaus of the real frame have edges that a series would ring at
_BACKGROUND_MODES = 40
_CELL_MARGIN_PX = 4
_CELL_AREA_PX = (120, 2500)
_N_FIELDS = 3


@dataclass(frozen=True)
class RealCell:
    """A cell cut from a real field: contrast against its background, its mask as a smooth function (border 0.5)."""

    contrast: Image
    mask: Image
    area_px: float


@dataclass(frozen=True)
class Material:
    """What real microscopy gives.

    Parameters
    ----------
    aggregates
        Cut-outs in grey values above background, on a grid of ``AGGREGATES_PIXEL_UM``.
    cells
        Cells with their masks, at the pixel size of their own microscope: they are scaled to the size that is drawn.
    glow, background
        Cosine coefficients of the aggregate-free and of the cell-free field, each of mean 1.
    glow_grey
        Mean grey value of the aggregate-free field.
    """

    aggregates: tuple[Image, ...]
    cells: tuple[RealCell, ...]
    glow: Image
    background: Image
    glow_grey: float


@cache
def load_material(folder: Path) -> Material:
    """Read real microscopy.

    Parameters
    ----------
    folder
        Holds ``microglia/aggregates.png``, ``phase-contrast/fieldNN.tif`` and ``fieldNN_labels.tif``.

    Raises
    ------
    SourceError
        If something is absent or cannot be read.
    """
    frame = read_png(folder / "microglia" / "aggregates.png").astype(np.float32)
    fields = sorted((folder / "phase-contrast").glob("field??.tif"))
    if not fields:
        raise SourceError(
            "real phase contrast is absent", where=folder / "phase-contrast", found="no fieldNN.tif",
            remedy="give the folder of real microscopy as data=, or use mode synthetic",
        )  # fmt: skip
    level = float(np.median(frame))
    cells: list[RealCell] = []
    background = np.ones((1, 1), dtype=np.float32)
    for index, path in enumerate(fields[:: max(1, len(fields) // _N_FIELDS)][:_N_FIELDS]):
        image, labels = _read_field(path)
        found, smooth = _cut_cells(image, labels)
        cells.extend(found)
        if index == 0:
            background = smooth
    bright = ndimage.binary_dilation(frame > level + _CUT_LEVEL / 2, iterations=_CUT_MARGIN_PX)
    glow = _fill(frame, bright, sigma_px=12.0)
    mean = float(glow.mean())
    return Material(tuple(_cut_aggregates(frame - level)), tuple(cells), _cosines(glow / mean), background, mean)


def read_png(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit grey PNG that is not interlaced.

    Raises
    ------
    SourceError
        If it is absent or of another kind.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(
            "real microscopy is absent", where=path, remedy="give its folder as data=, or use mode synthetic"
        ) from error
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if not data.startswith(b"\x89PNG") or (depth, colour, interlace) != (8, 0, 0):
        raise SourceError("this is no 8-bit grey PNG", where=path, found=f"depth {depth}, colour type {colour}")
    position, packed = 8, b""
    while position < len(data):
        (length,), kind = struct.unpack(">I", data[position : position + 4]), data[position + 4 : position + 8]
        packed += data[position + 8 : position + 8 + length] if kind == b"IDAT" else b""
        position += 12 + length
    rows = np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(height, width + 1)
    image = np.zeros((height, width), dtype=np.uint8)
    above = np.zeros(width, dtype=np.int64)
    for index, row in enumerate(rows):
        above = _unfilter(int(row[0]), row[1:].astype(np.int64), above)
        image[index] = above
    return image


def _unfilter(kind: int, row: NDArray[np.int64], above: NDArray[np.int64]) -> NDArray[np.int64]:
    if kind == 0:
        return row
    if kind == 1:
        return np.cumsum(row) % 256
    if kind == 2:
        return (row + above) % 256
    values, up = row.tolist(), above.tolist()
    left = corner = 0
    for index, value in enumerate(values):
        if kind == 3:
            guess = (left + up[index]) // 2
        else:
            slope = left + up[index] - corner
            away = (abs(slope - left), abs(slope - up[index]), abs(slope - corner))
            guess = (left, up[index], corner)[away.index(min(away))]
            corner = up[index]
        left = values[index] = (value + guess) % 256
    return np.array(values, dtype=np.int64)


def _cut_aggregates(above_background: Image) -> list[Image]:
    """Cut every aggregate out, fading to zero within the margin."""
    labels, _ = ndimage.label(above_background > _CUT_LEVEL, structure=np.ones((3, 3)))
    cuts = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        low = [side.start - _CUT_MARGIN_PX for side in box]
        high = [side.stop + _CUT_MARGIN_PX for side in box]
        inside = min(low) >= 0 and all(h <= size for h, size in zip(high, labels.shape, strict=True))
        if not inside or max(h - lo for lo, h in zip(low, high, strict=True)) > _LARGEST_CUT_PX:
            continue
        part = (slice(low[0], high[0]), slice(low[1], high[1]))
        others = ndimage.binary_dilation((labels[part] > 0) & (labels[part] != number), iterations=2)
        distance = ndimage.distance_transform_edt(labels[part] != number)
        window = np.clip(1.0 - (distance - 1.0) / (_CUT_MARGIN_PX - 1.5), 0.0, 1.0)
        cut = np.maximum(above_background[part], 0.0) * window**2 * ~others
        cuts.append(ndimage.gaussian_filter(cut, _ANTIALIAS_PX, mode="constant").astype(np.float32))
    return cuts


def _read_field(path: Path) -> tuple[Image, NDArray[np.int64]]:
    labels = path.with_name(path.stem + "_labels.tif")
    try:
        return tifffile.imread(path).astype(np.float32), tifffile.imread(labels).astype(np.int64)
    except (OSError, ValueError) as error:
        raise SourceError("a real field cannot be read", where=path, found=str(error)) from error


def _cut_cells(image: Image, labels: NDArray[np.int64]) -> tuple[list[RealCell], Image]:
    """Cut cells out as contrast against the filled background, whose cosine coefficients are given as well."""
    near_cells = ndimage.binary_dilation(labels > 0, iterations=4)
    background = _fill(image, near_cells, sigma_px=25.0)
    contrast = image / background - 1
    cells = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        low = [side.start - _CELL_MARGIN_PX for side in box]
        high = [side.stop + _CELL_MARGIN_PX for side in box]
        if min(low) < 0 or any(h > size for h, size in zip(high, labels.shape, strict=True)):
            continue
        part = (slice(low[0], high[0]), slice(low[1], high[1]))
        own = labels[part] == number
        parts, n_parts = ndimage.label(own)
        area = int(own.sum())
        if n_parts != 1 or not _CELL_AREA_PX[0] <= area <= _CELL_AREA_PX[1]:
            continue
        del parts
        mask = ndimage.gaussian_filter(own.astype(np.float32), 0.8, mode="constant")
        soft = np.clip(ndimage.gaussian_filter(own.astype(np.float32), 1.2, mode="constant") * 1.6, 0.0, 1.0)
        cells.append(RealCell((contrast[part] * soft).astype(np.float32), mask, float(area)))
    return cells, _cosines(background / background.mean())


def _fill(image: Image, hole: NDArray[np.bool_], *, sigma_px: float) -> Image:
    """Smooth what is not ``hole`` and carry it into the holes (normalised convolution)."""
    weight = ndimage.gaussian_filter((~hole).astype(np.float32), sigma_px) + 1e-4
    filled = ndimage.gaussian_filter(np.where(hole, 0.0, image).astype(np.float32), sigma_px) + 1e-4 * np.median(image)
    return np.asarray(filled / weight, dtype=np.float32)


def _cosines(image: Image) -> Image:
    spectrum = fft.dctn(image.astype(np.float32), norm="forward")[:_BACKGROUND_MODES, :_BACKGROUND_MODES]
    spectrum[1:] *= 2
    spectrum[:, 1:] *= 2
    return np.asarray(spectrum, dtype=np.float32)
