"""A real picture as a function of the plane: the cosine series through its pixels."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from phagostat.bench.glass import Floats, Image
from phagostat.model.errors import SourceError
from phagostat.simulate.real import read_png

ANTIALIAS_PX = 0.5
"""Sigma, in px of the picture, that takes the ringing from the edges of its saturated plateaus."""

_BRIGHT_COUNTS = 45.0  # above the median: an aggregate
_GROWN_PX = 6  # around what is bright, an aggregate's light is its own
_FILL_SIGMA_PX = 12.0
_LEAST_SIDE_PX = 64
_REMEDY = "name another one with --reference, or the word simulated"


@dataclass(frozen=True)
class PictureGlass:
    """A picture that is mirrored at its borders and evaluated between its pixels by its cosine series [1]_.

    The series through N samples is the one band-limited function that passes through all of them, so a frame at any
    shift is exact: there is no interpolation kernel whose error could be taken for that of a method. Beyond its
    borders the picture is its mirror image, which is what comes in when it is shifted: new content, not a copy that
    wraps around.

    Parameters
    ----------
    picture
        (N, N) float32, counts.
    side_px
        Side of a frame: N, or larger, when the series is evaluated on a finer grid (the picture is upsampled).
    name
        What the picture is.
    white_counts
        Saturation; what the series overshoots is cut off as a camera does it.
    blur_px
        Sigma of the defocus, px of the frame.

    References
    ----------
    .. [1] S. A. Martucci, "Symmetric convolution and the discrete sine and cosine transforms", IEEE Trans. Signal
       Process. 42 (1994) 1038-1051, :DOI:`10.1109/78.295213`
    """

    picture: Image
    side_px: int
    name: str = "picture"
    white_counts: float = 255.0
    blur_px: float = 0.0
    antialias_px: float = ANTIALIAS_PX
    _coefficients: list[Image] = field(default_factory=list, repr=False, compare=False)
    _objects: list[_Objects] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        height, width = self.picture.shape
        if height != width or self.side_px < height:
            msg = f"a picture must be square and no larger than a frame (found {self.picture.shape}, {self.side_px} px)"
            raise ValueError(msg)

    @classmethod
    def read(cls, path: Path, side_px: int) -> Self:
        """Read an 8-bit grey PNG; a frame smaller than it shows its middle, a larger one is upsampled.

        Raises
        ------
        SourceError
            If it is absent, no such PNG, or too small to hold structure.
        """
        picture = read_picture(path)
        size = min(*picture.shape, side_px)
        if size < _LEAST_SIDE_PX:
            raise SourceError(
                f"the picture must be at least {_LEAST_SIDE_PX} px high and wide", where=path,
                found=f"{picture.shape[0]} x {picture.shape[1]} px", remedy=_REMEDY,
            )  # fmt: skip
        top, left = ((length - size) // 2 for length in picture.shape)
        middle = picture[top : top + size, left : left + size].astype(np.float32)
        return cls(middle, side_px, name=f"{path.parent.name}/{path.name}")

    @property
    def upsampling(self) -> float:
        """Pixels of a frame per pixel of the picture."""
        return self.side_px / len(self.picture)

    @property
    def n_aggregates(self) -> int:
        """Number of separate bright things."""
        return self._found.count

    @property
    def _found(self) -> _Objects:
        if not self._objects:
            self._objects.append(_Objects.of(self.picture))
        return self._objects[0]

    def frame(self, shift_yx_px: tuple[float, float] = (0.0, 0.0), *, margin_px: int = 0) -> Image:
        """Give the noise-free frame in counts; see :class:`phagostat.bench.glass.Glass`."""
        if not self._coefficients:
            self._coefficients.append(self._series())
        waves = [self._waves(shift, margin_px) for shift in shift_yx_px]
        values = waves[0] @ self._coefficients[0] @ waves[1].T
        return np.asarray(np.clip(values, 0, self.white_counts, out=values), np.float32)

    def _series(self) -> Image:
        n = len(self.picture)
        values = fft.dctn(self.picture.astype(np.float64), norm="forward")
        values[1:] *= 2
        values[:, 1:] *= 2
        sigma = float(np.hypot(self.antialias_px, self.blur_px / self.upsampling))
        loss = np.exp(-((np.pi * sigma * np.arange(n) / n) ** 2) / 2)
        return np.asarray(values * loss[:, None] * loss[None], np.float32)

    def _waves(self, shift_px: float, margin_px: int) -> Image:
        """(side + 2 margin, N) cosines at the pixel centres of a shifted frame."""
        n = len(self.picture)
        place = (np.arange(-margin_px, self.side_px + margin_px) + 0.5 - shift_px) / self.upsampling
        return np.cos(np.outer(place, np.arange(n) * (np.pi / n))).astype(np.float32)

    def without(self, gone: NDArray[np.int64]) -> Self:
        """Take these aggregates away: the background is continued beneath them."""
        found = self._found
        return self._changed(self.picture - found.light * np.isin(found.labels, np.asarray(gone) + 1))

    def moved(self, which: NDArray[np.int64], steps_yx_px: Floats) -> Self:
        """Carry these aggregates off, by whole pixels of the picture; what leaves the picture is gone."""
        found = self._found
        picture = self.without(which).picture.copy()
        for aggregate, step in zip(which, np.rint(np.asarray(steps_yx_px) / self.upsampling).astype(int), strict=True):
            box = found.boxes[aggregate]
            light = np.where(found.labels[box] == aggregate + 1, found.light[box], 0)
            starts = [side.start + by for side, by in zip(box, step, strict=True)]
            low = [max(0, start) for start in starts]
            high = [min(len(picture), start + size) for start, size in zip(starts, light.shape, strict=True)]
            if low[0] < high[0] and low[1] < high[1]:
                part = light[low[0] - starts[0] : high[0] - starts[0], low[1] - starts[1] : high[1] - starts[1]]
                picture[low[0] : high[0], low[1] : high[1]] += part
        return self._changed(picture)

    def blurred(self, sigma_px: float) -> Self:
        """See the picture out of focus."""
        return replace(self, blur_px=float(np.hypot(self.blur_px, sigma_px)), _coefficients=[])

    def _changed(self, picture: Image) -> Self:
        return replace(self, picture=picture.astype(np.float32), _coefficients=[], _objects=[])


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit grey PNG.

    Raises
    ------
    SourceError
        If it is absent or no such PNG.
    """
    if not path.is_file():
        raise SourceError("there is no such picture", where=path, found="no file", remedy=_REMEDY)
    try:
        return read_png(path)
    except (SourceError, ValueError, IndexError, struct.error, zlib.error) as error:
        found = error.found if isinstance(error, SourceError) and error.found else "something else"
        raise SourceError("this is no 8-bit grey PNG", where=path, found=found, remedy=_REMEDY) from error


@dataclass(frozen=True)
class _Objects:
    """The bright things of a picture: (N, N) label of each pixel, from 1, and its light above the background."""

    labels: NDArray[np.int64]
    light: Image
    boxes: list[tuple[slice, slice]]
    count: int

    @classmethod
    def of(cls, picture: Image) -> Self:
        """Find them."""
        bright = picture > float(np.median(picture)) + _BRIGHT_COUNTS
        cores, count = ndimage.label(bright, structure=np.ones((3, 3)))
        distance, nearest = ndimage.distance_transform_edt(cores == 0, return_indices=True)
        labels = np.where(distance <= _GROWN_PX, cores[tuple(nearest)], 0)
        dark = (labels == 0).astype(np.float32)
        weight = ndimage.gaussian_filter(dark, _FILL_SIGMA_PX) + 1e-4
        filled = ndimage.gaussian_filter(picture * dark, _FILL_SIGMA_PX) + 1e-4 * float(np.median(picture))
        light = np.where(labels > 0, picture - filled / weight, 0).astype(np.float32)
        return cls(labels, light, [box for box in ndimage.find_objects(labels) if box is not None], count)
