"""Connected components of a mask, gated by area and numbered in raster order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.model.errors import PhagostatError

MAX_LABELS = 65535
"""Largest label that a label image (uint16) can hold."""

Connectivity = Literal[4, 8]


@dataclass(frozen=True)
class Components:
    """Components of a mask that area limits let pass.

    Parameters
    ----------
    labels : (y, x) uint16
        0 for background, else 1, 2, ... in raster order of each component's first pixel.
    n_too_small, n_too_large
        How many the limits left out.
    """

    labels: NDArray[np.uint16]
    n_too_small: int
    n_too_large: int

    @property
    def n(self) -> int:
        """Number of labels."""
        return int(self.labels.max(initial=0))


def label_components(
    mask: NDArray[np.uint8],
    *,
    above_px: float = 0.0,
    below_px: float = np.inf,
    connectivity: Connectivity = 8,
    what: str,
    remedy: str,
) -> Components:
    """Label the connected components of a mask.

    Parameters
    ----------
    mask : (y, x) uint8
        0 or 1.
    above_px, below_px : float
        Components must have more pixels than the one and fewer than the other.
    connectivity : 4 or 8
        Whether diagonal neighbours belong together.
    what, remedy : str
        Words of the error: what is labelled, and what to do about too many of them.

    Returns
    -------
    Components
        Label image and counts.

    Raises
    ------
    PhagostatError
        If more are left than a label image can number.
    """
    components, areas = _components(mask, connectivity)
    too_small = areas <= above_px
    too_large = areas >= below_px
    too_small[0] = too_large[0] = False
    kept = ~(too_small | too_large)
    kept[0] = False
    n_kept = int(np.count_nonzero(kept))
    if n_kept > MAX_LABELS:
        raise PhagostatError(
            f"more {what} than a label image can number", found=f"{n_kept}, at most {MAX_LABELS}", remedy=remedy
        )
    labels = _renumber(components, mask, kept)
    return Components(labels, int(too_small.sum()), int((too_large & ~too_small).sum()))


def _components(
    mask: NDArray[np.uint8], connectivity: int
) -> tuple[NDArray[np.uint16] | NDArray[np.int32], NDArray[np.int64]]:
    """Connected components and their areas, background included, in the smallest type that holds them."""
    try:
        _, components, statistics, _ = cv2.connectedComponentsWithStats(
            mask, connectivity=connectivity, ltype=cv2.CV_16U
        )
    except cv2.error:
        # More components than uint16 numbers, before the area limits: four times slower, and rare.
        _, components, statistics, _ = cv2.connectedComponentsWithStats(
            mask, connectivity=connectivity, ltype=cv2.CV_32S
        )
    return components, statistics[:, cv2.CC_STAT_AREA].astype(np.int64)


def _renumber(
    components: NDArray[np.uint16] | NDArray[np.int32], mask: NDArray[np.uint8], kept: NDArray[np.bool_]
) -> NDArray[np.uint16]:
    """Label image of the kept components, numbered by their first pixel in raster order."""
    labels = np.zeros(mask.shape, np.uint16)
    flat = np.flatnonzero(mask.ravel().view(np.bool_))
    component_of = components.ravel()[flat]
    first = np.full(kept.size, mask.size, np.intp)
    # Of repeated indices the last assignment stays: backwards, that is the first pixel.
    first[component_of[::-1]] = flat[::-1]
    by_first = np.flatnonzero(kept)
    by_first = by_first[np.argsort(first[by_first], kind="stable")]
    number = np.zeros(kept.size, np.uint16)
    number[by_first] = np.arange(1, by_first.size + 1)
    labels.ravel()[flat] = number[component_of]
    return labels
