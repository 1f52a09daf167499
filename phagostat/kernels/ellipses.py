"""Ellipses of the same second moments as regions of a label image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill_ellipses(
    table: NDArray[np.void],
    *,
    yy: NDArray[np.float64],
    xx: NDArray[np.float64],
    xy: NDArray[np.float64],
    pixel_size_um: float,
) -> None:
    """Write axes, eccentricity and orientation into a table of regions.

    Parameters
    ----------
    table : (n,) structured array
        Gets ``major_axis_um``, ``minor_axis_um``, ``eccentricity`` and ``orientation_rad`` (angle between the y axis
        and the major axis, counter-clockwise).
    yy, xx, xy : (n,) float64
        Central second moments of each region in px2, pixels being points, as in scikit-image.
    pixel_size_um : float
        Side of a pixel.
    """
    half_sum, half_difference = (yy + xx) / 2, (yy - xx) / 2
    root = np.hypot(half_difference, xy)
    larger, smaller = half_sum + root, np.maximum(half_sum - root, 0)
    table["major_axis_um"] = 4 * np.sqrt(larger) * pixel_size_um
    table["minor_axis_um"] = 4 * np.sqrt(smaller) * pixel_size_um
    # A single pixel has no extent and no direction.
    extended = larger > 0
    table["eccentricity"][extended] = np.sqrt(np.maximum(0, 1 - smaller[extended] / larger[extended]))
    diagonal = np.where(xy < 0, -np.pi / 4, np.pi / 4)
    # scikit-image takes a rounding error in the difference of moments for a direction; a circle has none.
    table["orientation_rad"] = np.where(np.abs(half_difference) < 1e-12, diagonal, 0.5 * np.arctan2(2 * xy, yy - xx))
