"""The contract that every source keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from phagostat.model.acquisition import AcquisitionMetadata

Plane = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Availability:
    """Which planes are complete in a source at one moment.

    Parameters
    ----------
    complete
        For (scene, channel) the sorted frame indices whose planes can be read now.
    closed
        Whether nothing more will come. Planes that are not complete in a closed source are missing for good.
    """

    complete: Mapping[tuple[int, int], tuple[int, ...]]
    closed: bool


@runtime_checkable
class Source(Protocol):
    """An acquisition that planes can be read from.

    A source pickles by its path and options alone: the file is opened in the process that reads, never carried over
    a fork.
    """

    @property
    def metadata(self) -> AcquisitionMetadata:
        """What the source says of itself."""
        ...

    def poll(self) -> Availability:
        """Look again at what is complete now."""
        ...

    def read(self, scene: int, frame: int, channel: int) -> Plane:
        """Give one plane as a (y, x) array of the scene's dtype and shape (native pixels, camera counts).

        Raises
        ------
        PlaneError
            If this plane is missing or cannot be decoded.
        """
        ...
