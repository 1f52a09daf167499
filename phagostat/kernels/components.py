"""Connected components of a mask, gated by area and numbered in raster order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.runs import label_runs
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
    labels = np.zeros(mask.shape, np.uint16)
    kept, too_small, too_large = label_runs(
        mask, labels, above_px=above_px, below_px=below_px, connectivity=connectivity
    )
    if kept > MAX_LABELS:
        raise PhagostatError(
            f"more {what} than a label image can number", found=f"{kept}, at most {MAX_LABELS}", remedy=remedy
        )
    return Components(labels, too_small, too_large)
