"""What an acquisition is: scenes, channels, frames, their sizes and times."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ChannelRole(StrEnum):
    """What a channel shows."""

    AGGREGATES = "aggregates"
    CELLS = "cells"


class TimesOrigin(StrEnum):
    """Where a source took its acquisition times from."""

    SUBBLOCK = "per-subblock time stamps"
    ATTACHMENT = "attachment of time stamps"
    OFFSETS = "list of offsets"
    INTERVAL = "constant interval"
    GIVEN = "given by the user"
    NONE = "none"


@dataclass(frozen=True)
class Channel:
    """One channel as the source names it.

    ``fluorescent`` is True, False, or None where the metadata does not tell (acquisition mode, contrast method, dye,
    emission wavelength).
    """

    index: int
    name: str
    fluorescent: bool | None = None
    description: str = ""


@dataclass(frozen=True)
class Scene:
    """One field of view over time.

    Parameters
    ----------
    index
        Position in acquisition order, from 0.
    name
        As the source names it; unique within the acquisition.
    n_frames
        Number of time points that the source holds or promises.
    shape_yx
        Height and width of a plane in native pixels.
    dtype
        numpy name of the stored pixel type, ``uint8`` or ``uint16``.
    times_s
        Acquisition time of each frame in seconds since the scene's first frame; None where the source has none.
    """

    index: int
    name: str
    n_frames: int
    shape_yx: tuple[int, int]
    dtype: str
    times_s: tuple[float, ...] | None = None


@dataclass(frozen=True)
class AcquisitionMetadata:
    """What a source says of itself; None where it says nothing.

    ``pixel_size_um`` is the native pixel size (square pixels; a source with other pixels is refused).
    ``identity`` is a digest of what makes this source this source (for a file: header, directory and metadata, not
    its path or modification time), by which an output recognises its input.
    """

    path: str
    kind: str
    identity: str
    channels: tuple[Channel, ...]
    scenes: tuple[Scene, ...]
    pixel_size_um: float | None
    times_origin: TimesOrigin
    notes: tuple[str, ...] = ()
    growing_identity: str | None = None


@dataclass(frozen=True)
class Acquisition:
    """An acquisition with everything known that processing needs: metadata with the user's overrides applied.

    ``roles`` gives the channel index for each role that is present. ``reduction`` is the integer factor from the
    native to the analysis grid.
    """

    metadata: AcquisitionMetadata
    roles: dict[ChannelRole, int]
    pixel_size_um: float
    scenes: tuple[Scene, ...]
    times_origin: TimesOrigin
    reduction: int

    @property
    def has_aggregates(self) -> bool:
        """Whether a channel shows aggregates; without one there is neither shift nor sharpness."""
        return ChannelRole.AGGREGATES in self.roles

    @property
    def analysis_pixel_size_um(self) -> float:
        """Pixel size of the analysis grid in um."""
        return self.pixel_size_um * self.reduction
