"""The best that any method can do: the Cramer-Rao bound for the shift between two noisy frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from phagostat.bench.camera import Camera
from phagostat.bench.glass import Floats, Glass, Image

_STEP_PX = 0.05  # for derivatives: their error is of the order of its square over that of a spot's sigma


def shift_bound(slope_y: Image, slope_x: Image, variance: Floats) -> Floats:
    """Give the smallest covariance that an unbiased estimate of the shift can have.

    Parameters
    ----------
    slope_y, slope_x
        Derivatives of the noise-free frame, counts per px, over the pixels that both frames show.
    variance
        Sum of the noise variances of both frames at these pixels, counts squared.

    Returns
    -------
    Floats
        (2, 2) covariance of (y, x), px squared; infinite where there is no structure.

    Notes
    -----
    Both frames show the same unknown field ``f``: ``r(p) = f(p) + n_r(p)`` and ``m(p) = f(p - d) + n_m(p)``. What is
    not known of ``f`` has to be estimated with ``d``; eliminating it from the Fisher information (a Schur complement)
    leaves ``J = sum grad f grad f^T / (var n_r + var n_m)``: the bound for a known reference [1]_ with the noise of
    both frames in place of one, twice the variance where they are equal [2]_. That the variance of shot noise itself
    tells something of ``f`` is left out, and so are nuisances such as gain and background: no method can reach below.

    References
    ----------
    .. [1] D. Robinson, P. Milanfar, "Fundamental performance limits in image registration", IEEE Trans. Image Process.
       13 (2004) 1185-1199, :DOI:`10.1109/TIP.2004.832923`
    .. [2] C. Aguerrebere, M. Delbracio, A. Bartesaghi, G. Sapiro, "Fundamental limits in multi-image alignment", IEEE
       Trans. Signal Process. 64 (2016) 5707-5722, :DOI:`10.1109/TSP.2016.2600517`
    """
    weight = 1 / variance
    yy, yx, xx = (
        float(np.sum(a * b * weight, dtype=np.float64))
        for a, b in ((slope_y, slope_y), (slope_y, slope_x), (slope_x, slope_x))
    )
    return inverted(np.array([[yy, yx], [yx, xx]]))


def inverted(information: Floats) -> Floats:
    """Give the covariance that belongs to a (2, 2) information; infinite where there is none."""
    if np.linalg.det(information) <= 0:
        return np.full((2, 2), np.inf)
    return np.asarray(np.linalg.inv(information))


@dataclass(frozen=True)
class ShiftInformation:
    """Information on the shift per pixel of a glass, for both frames recorded by the same camera.

    Parameters
    ----------
    per_pixel
        (3, side, side) float32: yy, yx and xx of the information at each pixel of the unshifted frame, 1 / px squared.
    """

    per_pixel: NDArray[np.float32]

    @classmethod
    def of(cls, glass: Glass, camera: Camera) -> Self:
        """Render the slopes of a glass, and weigh them by the camera's noise; saturated pixels tell nothing."""
        slopes = []
        for axis in range(2):
            step = np.eye(2)[axis] * _STEP_PX
            before, after = glass.frame((step[0], step[1])), glass.frame((-step[0], -step[1]))
            slopes.append((after - before) / np.float32(2 * _STEP_PX))
        clean = glass.frame()
        weight = 0.5 / camera.variance(clean)
        weight[clean + camera.offset_counts >= camera.white_counts] = 0
        pairs = ((slopes[0], slopes[0]), (slopes[0], slopes[1]), (slopes[1], slopes[1]))
        return cls(np.stack([(a * b * weight).astype(np.float32) for a, b in pairs]))

    def bound(self, shift_yx_px: tuple[float, float]) -> Floats:
        """Give the bound at a shift, from the pixels of the reference that the moved frame still shows."""
        side = self.per_pixel.shape[1]
        box = []
        for shift in shift_yx_px:
            low, high = max(0, int(np.ceil(-shift))), min(side, int(np.floor(side - shift)))
            box.append(slice(low, max(low, high)))
        yy, yx, xx = self.per_pixel[:, box[0], box[1]].sum(axis=(1, 2), dtype=np.float64)
        return inverted(np.array([[yy, yx], [yx, xx]]))
