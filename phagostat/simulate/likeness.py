"""How alike a simulated frame and a real one are: the same measures, taken of both in the same way.

All measures are of frames on the analysis grid after the same linear stretch between two percentiles to 0..255, so
that they don't depend on a camera's gain and offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

AGGREGATE_PERCENTILES = (0.5, 99.5)
CELL_PERCENTILES = (0.5, 98.9)  # the real frame is saturated above its 98.9 percentile
WAVELENGTH_EDGES_PX = (256.0, 128.0, 64.0, 32.0, 16.0, 8.0, 4.0, 2.5)
AREA_EDGES_PX = (10, 30, 100, 300, 3000)  # smaller components are noise; the published code drops those up to 10 px
_THRESHOLD = 127.5


@dataclass(frozen=True)
class ChannelLook:
    """Measures of one frame of one channel.

    Parameters
    ----------
    median, sd
        Of the stretched grey values.
    power
        (bands,) radially averaged power spectrum between ``WAVELENGTH_EDGES_PX``.
    """

    median: float
    sd: float
    power: Floats


@dataclass(frozen=True)
class PairLook:
    """Measures of a frame pair.

    Parameters
    ----------
    aggregates, cells
        Grey values and spectra of the two channels.
    n_aggregates_per_megapixel
        (bins,) components above half of the range by area, between ``AREA_EDGES_PX``.
    """

    aggregates: ChannelLook
    cells: ChannelLook
    n_aggregates_per_megapixel: Floats


def stretch(image: NDArray[np.generic], percentiles: tuple[float, float]) -> Image:
    """Map two percentiles to 0 and 255 and clip beyond them."""
    values = np.asarray(image, dtype=np.float32)
    low, high = np.percentile(values, percentiles)
    stretched: Image = np.clip((values - np.float32(low)) * np.float32(255 / max(high - low, 1e-9)), 0, 255)
    return stretched


def measure_channel(image: Image) -> ChannelLook:
    """Measure a stretched (y, x) image."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None]
    level = float(np.sum(image * window) / np.sum(window))
    power = np.abs(np.fft.rfft2((image - level) * window)) ** 2 / np.sum(window**2)
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])[None])
    band = np.digitize(frequency.ravel(), 1.0 / np.array(WAVELENGTH_EDGES_PX))
    n = len(WAVELENGTH_EDGES_PX) + 1
    mean = np.bincount(band, power.ravel(), n) / np.maximum(np.bincount(band, minlength=n), 1)
    return ChannelLook(float(np.median(image)), float(image.std()), mean[1:-1])


def measure_pair(aggregates: NDArray[np.generic], cells: NDArray[np.generic]) -> PairLook:
    """Measure a frame pair on the analysis grid.

    Parameters
    ----------
    aggregates, cells
        (y, x) images of any unsigned type.

    Returns
    -------
    PairLook
        Medians, sds, spectra, and the histogram of aggregate areas.
    """
    fluorescent = stretch(aggregates, AGGREGATE_PERCENTILES)
    labels, _ = ndimage.label(fluorescent > _THRESHOLD)
    areas = np.bincount(labels.ravel())[1:]
    counts, _ = np.histogram(areas, AREA_EDGES_PX)
    return PairLook(
        measure_channel(fluorescent),
        measure_channel(stretch(cells, CELL_PERCENTILES)),
        counts * (1024.0**2 / fluorescent.size),
    )


def compare(simulated: list[PairLook], real: PairLook) -> dict[str, float]:
    """Give the ratio of the mean simulated measure to the real one, by name.

    Parameters
    ----------
    simulated
        Measures of several simulated frames; single ones scatter by chance, as real ones do.
    real
        Measures of the real frame; where it has no aggregate of a size, the ratio is NaN.
    """
    ratios: dict[str, float] = {}
    for channel in ("aggregates", "cells"):
        looks, truth = [getattr(look, channel) for look in simulated], getattr(real, channel)
        ratios[f"{channel} median"] = float(np.mean([look.median for look in looks])) / truth.median
        ratios[f"{channel} sd"] = float(np.mean([look.sd for look in looks])) / truth.sd
        power = np.mean([look.power for look in looks], axis=0) / truth.power
        for index, value in enumerate(power.tolist()):
            upper, lower = WAVELENGTH_EDGES_PX[index], WAVELENGTH_EDGES_PX[index + 1]
            ratios[f"{channel} power {upper:g}-{lower:g} px"] = value
    counts = np.mean([look.n_aggregates_per_megapixel for look in simulated], axis=0)
    known = real.n_aggregates_per_megapixel
    shares = np.divide(counts, known, out=np.full(len(known), np.nan), where=known > 0)
    for index, value in enumerate(shares.tolist()):
        ratios[f"aggregates of {AREA_EDGES_PX[index]}-{AREA_EDGES_PX[index + 1]} px2"] = value
    return ratios
