"""The warp that made the published test's frames: OpenCV 4 rounds shifts to 1/32 px."""

from __future__ import annotations

import cv2
import numpy as np

from phagostat.bench.camera import Counts

STEPS_PER_PX = 32
"""``INTER_TAB_SIZE`` of OpenCV up to 4: ``warpAffine`` looks interpolation weights up in a table of so many steps."""


def rounded_shift(shift_yx_px: tuple[float, float]) -> tuple[float, float]:
    """Give the shift that OpenCV 4 makes of the one asked for."""
    y, x = (float(np.floor(shift * STEPS_PER_PX + 0.5)) / STEPS_PER_PX for shift in shift_yx_px)
    return y, x


def warp_as_opencv4(frame: Counts, shift_yx_px: tuple[float, float]) -> Counts:
    """Shift a frame as ``cv2.warpAffine`` of OpenCV 4 does: rounded to 1/32 px, bilinear, black where nothing comes in.

    Notes
    -----
    OpenCV 5 interpolates at the shift asked for, so what is asked of it here is the rounded one. Rounding alone is an
    error with a mean of 1/128 = 0.0078 px and an sd of 0.0045 px per axis, which is there before any method runs.
    """
    y, x = rounded_shift(shift_yx_px)
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float64)
    size = (frame.shape[1], frame.shape[0])
    return np.asarray(cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))
