"""What lies under the camera: a function of the plane that is evaluated at any shift, never resampled."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Floats = NDArray[np.float64]


class Glass(Protocol):
    """A field with aggregates on it.

    Its shift is exact: what a method finds is compared with it to the last digit.
    """

    @property
    def name(self) -> str:
        """What it is, for tables."""
        ...

    @property
    def side_px(self) -> int:
        """Side of the camera's square frame."""
        ...

    @property
    def white_counts(self) -> float:
        """Counts at which its camera saturates."""
        ...

    @property
    def n_aggregates(self) -> int:
        """How many separate things shine on it."""
        ...

    def frame(self, shift_yx_px: tuple[float, float] = (0.0, 0.0), *, margin_px: int = 0) -> Image:
        """Give the noise-free frame in counts.

        Parameters
        ----------
        shift_yx_px
            What stands at ``p`` without a shift stands at ``p + shift_yx_px``.
        margin_px
            So much more of the field on every side.

        Returns
        -------
        Image
            (side + 2 * margin, side + 2 * margin) float32.
        """
        ...

    def without(self, gone: NDArray[np.int64]) -> Self:
        """Take these aggregates away."""
        ...

    def moved(self, which: NDArray[np.int64], steps_yx_px: Floats) -> Self:
        """Carry these aggregates off, each by its own (y, x) step in px of the frame."""
        ...

    def blurred(self, sigma_px: float) -> Self:
        """See the whole out of focus, by a Gaussian of this sigma in px of the frame."""
        ...
