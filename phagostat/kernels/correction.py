"""A frame put where its scene's reference lies: whole pixels moved, fractions interpolated, what is valid said."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_LOBES = 4  # of the sinc on either side: 8 weights along each axis


@dataclass(frozen=True)
class ValidArea:
    """The part of a corrected frame that the camera saw: rows ``top`` to ``bottom``, columns ``left`` to ``right``.

    Half open, in pixels of the frame; empty where the shift leaves nothing.
    """

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return max(self.bottom - self.top, 0) * max(self.right - self.left, 0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, for indexing."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def valid_area(shape_yx: tuple[int, int], *, shift_yx_px: tuple[float, float]) -> ValidArea:
    """Find the pixels of the reference's grid whose place in a shifted frame lies between four of its pixels' centres.

    Parameters
    ----------
    shape_yx
        Height and width of a frame, px.
    shift_yx_px
        What stands at ``p`` in the reference stands at ``p + shift_yx_px`` in the frame; finite.
    """
    sides = []
    for side, shift in zip(shape_yx, shift_yx_px, strict=True):
        first = min(max(int(np.ceil(-shift)), 0), side)
        sides += [first, max(min(int(np.floor(side - 1 - shift)) + 1, side), first)]
    return ValidArea(*sides)


def corrected_frame(
    frame: NDArray[np.uint8] | NDArray[np.uint16], *, shift_yx_px: tuple[float, float]
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], ValidArea]:
    """Move a frame's content back to where it lies in the reference frame.

    Parameters
    ----------
    frame
        (y, x) uint8 or uint16.
    shift_yx_px
        What stands at ``p`` in the reference stands at ``p + shift_yx_px`` in the frame; pixels of this frame (a shift
        in native pixels is to be divided by the reduction on a reduced grid).

    Returns
    -------
    corrected
        Of the frame's shape and type; 0 outside the valid area.
    valid
        The valid area.

    Raises
    ------
    ValueError
        If the shift is not finite, or the frame is no (y, x) image of uint8 or uint16.

    Notes
    -----
    By whole pixels without interpolation, so that a shift of whole pixels changes no value; the fraction by a sinc
    under a wider sinc (Lanczos [1]_) of 8 weights along each axis, taken at the exact fraction and with the sum 1.
    At the field's border the last pixels are repeated for it. Values are rounded, and clipped to the type.
    Centroids need none of this: they are corrected by subtracting the shift.

    References
    ----------
    .. [1] C. E. Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteorol. 18 (1979) 1016-1022,
       :DOI:`10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2`
    """
    if frame.ndim != 2 or frame.dtype not in (np.uint8, np.uint16):
        msg = f"frame must be a (y, x) image of uint8 or uint16 (found shape {frame.shape}, {frame.dtype})"
        raise ValueError(msg)
    if not np.isfinite(shift_yx_px).all():
        msg = f"shift_yx_px must be finite (found {shift_yx_px}): a frame without a shift cannot be corrected"
        raise ValueError(msg)
    height, width = frame.shape
    valid = valid_area((height, width), shift_yx_px=shift_yx_px)
    corrected = np.zeros_like(frame)
    if valid.area_px == 0:
        return corrected, valid
    whole = np.floor(shift_yx_px).astype(int)
    fraction_y, fraction_x = (float(s) for s in np.array(shift_yx_px) - whole)
    top, left = valid.top + whole[0], valid.left + whole[1]
    rows = np.arange(top - _LOBES, top + valid.bottom - valid.top + _LOBES).clip(0, height - 1)
    columns = np.arange(left - _LOBES, left + valid.right - valid.left + _LOBES).clip(0, width - 1)
    seen = frame[rows][:, columns].astype(np.float32)
    moved = cv2.sepFilter2D(seen, cv2.CV_32F, _weights(fraction_x), _weights(fraction_y))[
        _LOBES:-_LOBES, _LOBES:-_LOBES
    ]
    corrected[valid.slices] = np.clip(np.rint(moved), 0, np.iinfo(frame.dtype).max).astype(frame.dtype)
    return corrected, valid


def _weights(fraction_px: float) -> NDArray[np.float64]:
    """Weights of the pixels -_LOBES to _LOBES from one, for what lies a fraction of a pixel further."""
    apart = np.arange(-_LOBES, _LOBES + 1) - fraction_px
    weights = np.where(np.abs(apart) < _LOBES, np.sinc(apart) * np.sinc(apart / _LOBES), 0.0)
    return np.asarray(weights / weights.sum())
