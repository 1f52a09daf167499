"""Loss of light towards the corners of the fluorescence channel and uneven glow of the medium."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

_ROUNDS = 10


def vignette_loss(
    frame: NDArray[np.integer], *, block_px: int = 32, percentile: float = 30.0, max_loss: float = 0.35
) -> float:
    """How much darker than in the middle of the field the background is at the middle of its sides.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts of the reference frame on the analysis grid.
    block_px : int
        The background is looked at in squares of this many analysis pixels.
    percentile : float
        Of a square's pixels, taken for its background: below the median, so that a few aggregates do not matter.
    max_loss : float
        Losses are limited to 0 .. this.

    Returns
    -------
    float
        Loss ``k`` in the model ``1 - k * (v**2 + u**2)`` with v and u from -1 to 1 over the field's height and width:
        ``2 * k`` in the corners. 0 where the frame is too small to tell.

    Notes
    -----
    A lamp lights the middle of the field better than its corners, and aggregates there are dimmer by as much as the
    glow of the medium is. With one threshold for the field the areas of like aggregates then differ between middle
    and corners, and change when the stage moves. Only the round part is fitted, by least squares with Cauchy weights:
    what is fixed to the glass (uneven glow, haze) is not the lamp's. The camera's offset cannot be told from glow, so
    that the loss is estimated too small by the offset's share in the background.
    """
    height, width = frame.shape
    rows, columns = height // block_px, width // block_px
    if rows * columns < 9 or min(rows, columns) < 2:
        return 0.0
    blocks = frame[: rows * block_px, : columns * block_px].reshape(rows, block_px, columns, block_px)
    values = np.percentile(blocks.swapaxes(1, 2).reshape(rows, columns, -1), percentile, axis=2).ravel()
    centre_y, centre_x = ((np.arange(n) + 0.5) * block_px - 0.5 for n in (rows, columns))
    v, u = _from_middle(height, centre_y), _from_middle(width, centre_x)
    square = (v[:, None] ** 2 + u[None] ** 2).ravel()
    design = np.stack([np.ones_like(square), square], axis=1)
    weight = np.ones_like(values)
    level, slope = float(np.median(values)), 0.0
    for _ in range(_ROUNDS):
        root = np.sqrt(weight)
        level, slope = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0].tolist()
        residual = values - level - slope * square
        spread = max(1.4826 * float(np.median(np.abs(residual))), 1e-9)
        weight = 1 / (1 + (residual / (2 * spread)) ** 2)
    return float(np.clip(-slope / level, 0.0, max_loss)) if level > 0 else 0.0


def without_vignette(frame: NDArray[np.integer], *, loss: float) -> NDArray[np.uint16]:
    """Frame as an even lamp would have lit it.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the analysis grid.
    loss : float
        As :func:`vignette_loss` gives it for the reference frame: the lamp is the camera's, whatever the stage does.

    Returns
    -------
    (y, x) uint16
        Counts divided by the lamp's profile, rounded, at most 65535; the middle of the field stays as it is.
    """
    if loss == 0:
        return frame.astype(np.uint16)
    height, width = frame.shape
    v, u = (_from_middle(size, np.arange(size)) for size in (height, width))
    return _divided(frame, 1 - loss * v**2, loss * u**2)


def uneven_glow(frame: NDArray[np.integer], *, block_px: int = 32, percentile: float = 25.0) -> NDArray[np.float32]:
    """How much brighter than usual the glow of the medium is at every pixel, in counts; its median is 0.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the analysis grid under an even lamp.
    block_px : int
        The background is looked at in squares of this many analysis pixels, wider than any aggregate.
    percentile : float
        Of a square's pixels, taken for its background: below the median, so that aggregates do not matter.
    """
    height, width = frame.shape
    rows, columns = height // block_px, width // block_px
    if min(rows, columns) < 3:
        return np.zeros(frame.shape, np.float32)
    blocks = frame[: rows * block_px, : columns * block_px].reshape(rows, block_px, columns, block_px)
    level = np.percentile(blocks.swapaxes(1, 2).reshape(rows, columns, -1), percentile, axis=2).astype(np.float32)
    level -= np.median(level)
    smooth = cv2.GaussianBlur(cv2.medianBlur(level, 3), (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)
    # rows and columns that fill no square are as the last one
    y = ((np.arange(height, dtype=np.float32) + 0.5) / block_px - 0.5)[:, None].repeat(width, 1)
    x = ((np.arange(width, dtype=np.float32) + 0.5) / block_px - 0.5)[None].repeat(height, 0)
    return np.asarray(cv2.remap(smooth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def without_glow(frame: NDArray[np.integer], unevenness: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Frame without what :func:`uneven_glow` gives, rounded."""
    return np.asarray(np.clip(np.rint(frame - unevenness), 0, 65535), np.uint16)


@compiled
def _divided(frame: NDArray[np.integer], column: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Frame divided by ``column - row``, rounded, at most 65535."""
    height, width = frame.shape
    even = np.empty((height, width), np.uint16)
    for y in range(height):
        for x in range(width):
            even[y, x] = np.uint16(min(frame[y, x] / (column[y] - row[x]) + 0.5, 65535.0))
    return even


def _from_middle(size: int, place: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
    """Place along an axis as -1 .. 1 between its first and last pixel."""
    return np.asarray(2 * place / max(size - 1, 1) - 1, np.float64)
