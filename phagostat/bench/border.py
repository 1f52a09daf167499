"""What a shifted frame shows where its reference showed nothing."""

from __future__ import annotations

import numpy as np

from phagostat.bench.camera import Counts
from phagostat.bench.glass import Image


def blackened(frame: Counts, shift_yx_px: tuple[float, float]) -> Counts:
    """Give a shifted frame with black where the reference shows nothing, as frames that were warped have it.

    Pixels that would be interpolated between the reference and nothing are black too.
    """
    black = frame.copy()
    for axis, shift in enumerate(shift_yx_px):
        place = np.arange(frame.shape[axis])
        outside = (place < shift) | (place > frame.shape[axis] - 1 + shift)
        black[(outside, slice(None)) if axis == 0 else (slice(None), outside)] = 0
    return black


def cropped(larger: Image, shift_yx_px: tuple[int, int], margin_px: int) -> Image:
    """Give the frame at a whole-pixel shift as a part of a larger one: nothing wraps, nothing is computed.

    Parameters
    ----------
    larger
        Unshifted frame with a margin of `margin_px` on every side.
    shift_yx_px
        No larger than the margin.
    margin_px
        Width of the margin.
    """
    height, width = (length - 2 * margin_px for length in larger.shape)
    top, left = (margin_px - shift for shift in shift_yx_px)
    return larger[top : top + height, left : left + width]
