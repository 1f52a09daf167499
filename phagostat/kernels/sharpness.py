"""How sharp a frame of aggregates is, from its own pixels, whatever they have faded to and however many are left."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.bands import Band, laplacian_band, laplacian_noise_gain

# Windows are squares of whole blocks of this many analysis pixels, one at every block: they overlap.
_BLOCK_PX = 8


@dataclass(frozen=True)
class Sharpness:
    """How much fine structure there is for each unit of coarse structure.

    Parameters
    ----------
    value
        Dimensionless; comparable between frames of one scene, not between scenes. NaN where nothing stands out of
        the noise.
    n_windows
        Windows with structure that it rests on.
    intensity_scale_counts
        Root mean square of the coarse structure in those windows, background excluded, in camera counts: what the
        fine structure was divided by.
    noise_counts
        Standard deviation of the camera noise per pixel, as seen in the fine band.
    reason
        None, or why there is no value.
    """

    value: float
    n_windows: int
    intensity_scale_counts: float
    noise_counts: float
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.reason is None


def laplacian_variance(frame: NDArray[np.integer]) -> float:
    """Variance of the Laplacian, the published measure.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        The normalised 8-bit aggregate frame, in the published way.

    Returns
    -------
    float
        Squared grey levels. A fade of 1 %, camera noise and the loss of one aggregate change it as blur does.
    """
    return float(cv2.Laplacian(frame, cv2.CV_64F).var())


def sharpness(
    frame: NDArray[np.integer],
    *,
    fine_sigma_px: float = 1.5,
    coarse_sigma_px: float = 3.0,
    window_blocks: int = 3,
    quantile: float = 0.75,
    min_windows: int = 4,
) -> Sharpness:
    """Sharpness of raw aggregate counts, insensitive to bleaching, background and the number of aggregates.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the analysis grid (area-averaged, not normalised).
    fine_sigma_px, coarse_sigma_px
        Widths of the Gaussians before the two Laplacians, analysis pixels.
    window_blocks
        Side of the windows within which the bands are compared, in blocks of 8 analysis pixels.
    quantile
        Which window speaks for the frame, windows ordered by their ratio. Above the median, so that aggregates in
        focus decide and haze does not.
    min_windows
        Fewer windows with structure give no value.

    Returns
    -------
    Sharpness
        The quantile, over windows with aggregates, of fine over coarse mean squared structure.

    Notes
    -----
    Both bands are linear, so the ratio of their squares does not know how bright an aggregate is: this is division
    by the squared intensity scale, aggregate by aggregate. Constant and slowly varying background is in neither band;
    the share of camera noise, from the median absolute value of each band, is subtracted. Windows weigh by
    their coarse structure up to a limit that the brighter half reaches, so that no single large aggregate decides.

    A point of width ``w`` gives ``((w**2 + coarse**2) / (w**2 + fine**2))**3``, an outline the square root of that, and
    Gaussian defocus adds to ``w**2``. The default widths put a defocus of 0.5 px at 0.88 to 0.96 of the sharp value, 1
    px at 0.6 to 0.8 and 2 px at 0.2 to 0.5, whatever the aggregates' sizes. A coarse band further away would fall more
    steeply, but then the value also depends on which aggregates are left.
    """
    if min(frame.shape) < window_blocks * _BLOCK_PX:
        return _none("the frame is smaller than a window", float("nan"))
    fine = laplacian_band(frame, sigma_px=fine_sigma_px, block_px=_BLOCK_PX, halve=True)
    # Smooth already, the frame can be halved before it is smoothed further; a pixel there is two wide, and averaging
    # two adds the variance of a box, a quarter.
    further = float(np.sqrt(coarse_sigma_px**2 - fine_sigma_px**2 - 0.25)) / 2
    coarse = laplacian_band(fine.half, sigma_px=further, block_px=_BLOCK_PX // 2, scale=0.25)
    return _band_ratio(
        fine,
        coarse,
        noise_gain=laplacian_noise_gain(fine_sigma_px),
        window_blocks=window_blocks,
        quantile=quantile,
        min_windows=min_windows,
        min_fine_signal_to_noise=1.0,
    )


def focus(
    frame: NDArray[np.integer],
    *,
    fine_sigma_px: float = 0.7,
    coarse_sigma_px: float = 1.5,
    window_blocks: int = 3,
    quantile: float = 0.8,
    min_windows: int = 8,
) -> Sharpness:
    """Focus of a frame in absolute terms, without another frame to compare it with.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts on the analysis grid.
    fine_sigma_px, coarse_sigma_px
        Widths of the Gaussians before the two Laplacians, analysis pixels. Both are as fine as the image of an edge,
        so that sharpness of outlines counts and size of aggregates does not.
    window_blocks, quantile, min_windows
        As for :func:`sharpness`; a higher quantile, since the sharpest aggregates tell where the focus is, but not
        the highest, which a bright aggregate's shot noise can reach.

    Returns
    -------
    Sharpness
        Ratio of the squared fine to the squared coarse Laplacian.

    Notes
    -----
    For an outline of width ``w`` the ratio is ``((w**2 + coarse**2) / (w**2 + fine**2))**1.5``, for a point the
    square of that: an outline in focus gives more than a point that is 2 px out of focus.
    """
    if min(frame.shape) < window_blocks * _BLOCK_PX:
        return _none("the frame is smaller than a window", float("nan"))
    fine = laplacian_band(frame, sigma_px=fine_sigma_px, block_px=_BLOCK_PX)
    coarse = laplacian_band(frame, sigma_px=coarse_sigma_px, block_px=_BLOCK_PX)
    return _band_ratio(
        fine,
        coarse,
        noise_gain=laplacian_noise_gain(fine_sigma_px),
        window_blocks=window_blocks,
        quantile=quantile,
        min_windows=min_windows,
        # Shot noise where there is light is stronger than the background's, and in so fine a band it looks like focus.
        min_fine_signal_to_noise=10.0,
    )


def _none(reason: str, noise_counts: float) -> Sharpness:
    nan = float("nan")
    return Sharpness(nan, 0, nan, noise_counts, reason)


def _band_ratio(
    fine: Band,
    coarse: Band,
    *,
    noise_gain: float,
    window_blocks: int,
    quantile: float,
    min_windows: int,
    min_fine_signal_to_noise: float,
) -> Sharpness:
    """Quantile of the ratio of two bands' energies over windows with structure in the coarse one."""
    fine_noise_variance, coarse_noise_variance = fine.noise_variance, coarse.noise_variance
    side = (window_blocks, window_blocks)
    fine_energy = cv2.blur(fine.energy, side).astype(np.float64) - fine_noise_variance
    coarse_energy = cv2.blur(coarse.energy, side).astype(np.float64) - coarse_noise_variance
    noise_counts = float(np.sqrt(fine_noise_variance)) / noise_gain
    # Three standard deviations of noise: below that a window holds none but haze. Without any noise, the least that a
    # grey level can say.
    floor = max(9 * coarse_noise_variance, min_fine_signal_to_noise * fine_noise_variance, 1e-6)
    structured = coarse_energy > floor
    if np.count_nonzero(structured) < min_windows:
        return _none("nothing stands out of the noise", noise_counts)
    fine_energy, coarse_energy = fine_energy[structured], coarse_energy[structured]
    strong = max(floor, 0.05 * float(np.quantile(coarse_energy, 0.9)))
    used = coarse_energy > 0.2 * strong
    coarse_energy = coarse_energy[used]
    ratios = fine_energy[used] / coarse_energy
    weights = np.minimum(coarse_energy / strong, 1.0)
    order = np.argsort(ratios)  # which of equal ones comes first does not matter
    cumulative = np.cumsum(weights[order])
    value = float(ratios[order[np.searchsorted(cumulative, quantile * cumulative[-1])]])
    scale = float(np.sqrt(np.average(coarse_energy, weights=weights)))
    return Sharpness(value, coarse_energy.size, scale, noise_counts)
