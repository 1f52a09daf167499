"""TIFF files opened in this process, and single pages read from them."""

from __future__ import annotations

import logging
import os
import struct
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import tifffile
import xxhash
from numpy.typing import NDArray

from phagostat.model.errors import MetadataError, SourceError
from phagostat.sources.open_files import OpenFiles, open_descriptor
from phagostat.sources.protocol import Plane

MAX_PLANE_PX: Final = 1 << 28
"""Larger planes are damage: a header of a few bytes could ask for any amount of memory."""
DAMAGED: Final = "copy or export the file again"
DTYPES: Final = ("uint8", "uint16")
SAMPLED_PAGES: Final = 8
SAMPLED_BYTES: Final = 4096
_COLOURS: Final = {2: "RGB", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_UM_PER_IMAGEJ_UNIT: Final = {
    "um": 1.0,
    "µm": 1.0,
    "\u03bcm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
SQUARE_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class PlaneFormat:
    """Height and width in pixels, and numpy name of the pixel type."""

    shape_yx: tuple[int, int]
    dtype: str

    def __str__(self) -> str:
        height, width = self.shape_yx
        return f"{height} x {width} {self.dtype}"


class OpenTiff:
    """One TIFF opened in this process: its pages are found by their offsets and read one at a time.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    kept
        What its users worked out and want to find again as long as the file stays open, by their own keys.

    Raises
    ------
    SourceError
        If it cannot be opened or is no TIFF.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = open_descriptor(path, kind="TIFF file")
        weakref.finalize(self, os.close, self.fd)
        self.size = os.fstat(self.fd).st_size
        self.kept: dict[str | None, object] = {}
        self._lock = threading.RLock()
        _leave_logging_to_the_application()
        try:
            self._tiff: Any = tifffile.TiffFile(path)
            weakref.finalize(self, self._tiff.close)
            self.n_pages = len(self._tiff.pages)
        except Exception as error:  # a damaged file raises what its bytes happen to lead to
            raise SourceError("not a TIFF that can be read", where=path, found=_said(error), remedy=DAMAGED) from error
        if self.n_pages == 0:
            raise SourceError("the TIFF has no pages", where=path, remedy=DAMAGED)
        for form, kind in (("is_stk", "MetaMorph"), ("is_lsm", "Zeiss LSM"), ("is_fluoview", "FluoView")):
            if self._flag(form):
                raise SourceError(
                    f"a {kind} file, whose order of planes phagostat does not read",
                    where=path,
                    remedy="export it as OME-TIFF",
                )

    def _flag(self, name: str) -> bool:
        try:
            return bool(getattr(self._tiff, name))
        except Exception:
            return False

    @cached_property
    def description(self) -> str:
        """Text of the first page's description."""
        try:
            return str(self._tiff.pages[0].description)
        except Exception as error:
            raise SourceError("its first page does not parse", where=self.path, found=_said(error)) from error

    @cached_property
    def imagej(self) -> dict[str, Any]:
        """What ImageJ wrote; empty where it did not."""
        if not self.description.startswith("ImageJ="):
            return {}
        facts: dict[str, Any] = {}
        for line in self.description.splitlines():
            key, _, value = line.partition("=")
            facts[key.strip()] = value.strip()
        return facts

    @cached_property
    def pixel_size_um(self) -> float | None:
        """Pixel size by ImageJ's unit and resolution; None where it says none.

        Without ImageJ's unit the resolution of a TIFF is mostly that of a printed page, and is not taken.

        Raises
        ------
        MetadataError
            If pixels are not square.
        """
        factor = _UM_PER_IMAGEJ_UNIT.get(str(self.imagej.get("unit", "")).replace("\\u00B5", "µ").lower())
        if factor is None:
            return None
        sizes = []
        for name in ("YResolution", "XResolution"):
            try:
                numerator, denominator = self._tiff.pages[0].tags[name].value
                sizes.append(factor * denominator / numerator)
            except Exception:
                return None
        y, x = sizes
        if not (0 < x < float("inf") and 0 < y < float("inf")):
            return None
        if abs(x - y) > SQUARE_TOLERANCE * max(x, y):
            raise MetadataError(
                "pixels are not square",
                where=self.path,
                found=f"{x:g} um wide, {y:g} um high",
                remedy="resample the movie to square pixels",
            )
        # the file has pixels per unit as a fraction of whole numbers; six digits are what that gives
        return float(f"{x:.6g}")

    def page_format(self, page: int) -> PlaneFormat:
        """Give the shape and pixel type of one page.

        Raises
        ------
        SourceError
            If there is no such page, or it is no grey plane of uint8 or uint16.
        """
        with self._lock:
            return self._format(self._page(page))

    def read_page(self, page: int) -> Plane:
        """Decode one page as a (y, x) array.

        Raises
        ------
        SourceError
            If the page is not there, not whole, or cannot be decoded.
        """
        with self._lock:
            found = self._page(page)
            form = self._format(found)
            offsets, counts = self._segments(found)
            plain = self._is_plain(found, offsets, counts)
        if plain:
            return self.read_at(offsets[0], form)
        try:
            # only its reads are behind the lock: threads decode side by side
            pixels = np.asarray(found.asarray(lock=self._lock, maxworkers=1))
        except Exception as error:  # codecs raise what they like
            raise SourceError("the page cannot be decoded", where=self.path, found=_said(error)) from error
        if pixels.shape != form.shape_yx:
            raise SourceError("the page cannot be decoded", where=self.path, found=f"shape {pixels.shape}")
        return _native(pixels)

    def read_at(self, offset: int, form: PlaneFormat) -> Plane:
        """Read uncompressed pixels that stand in one piece, as a (y, x) array.

        Raises
        ------
        SourceError
            If they are not whole inside the file.
        """
        pixels = np.empty(form.shape_yx, dtype=np.dtype(form.dtype).newbyteorder(self.byte_order))
        view, done = pixels.data.cast("B"), 0
        try:
            while done < len(view):
                got = os.preadv(self.fd, [view[done:]], offset + done)
                if got <= 0:
                    break
                done += got
        except (OSError, OverflowError) as error:
            raise SourceError("the file cannot be read", where=self.path, found=error) from error
        if done < len(view):
            raise SourceError("the page is cut off", where=self.path, found=f"{done} of {len(view)} bytes")
        return _native(pixels)

    @property
    def byte_order(self) -> Any:
        """``<`` or ``>``."""
        return self._tiff.byteorder

    def contiguous_planes(self, count: int) -> tuple[int, ...] | None:
        """Offsets of planes that stand behind the first one without pages of their own, as ImageJ writes beyond 4 GB.

        Parameters
        ----------
        count
            How many planes the description promises.

        Returns
        -------
        tuple of int or None
            As many offsets as lie whole inside the file; None where the first page is not of that kind.
        """
        with self._lock:
            first = self._page(0)
            form = self._format(first)
            offsets, _ = self._segments(first)
            if self.n_pages != 1 or first.compression != 1 or not offsets or not first.is_contiguous:
                return None
        n_bytes = form.shape_yx[0] * form.shape_yx[1] * np.dtype(form.dtype).itemsize
        inside = max(0, (self.size - offsets[0]) // n_bytes)
        return tuple(offsets[0] + k * n_bytes for k in range(min(count, inside)))

    def sample(self, digest: xxhash.xxh3_128) -> None:
        """Feed some pixels from all over the file, and its size, into a digest."""
        digest.update(struct.pack("<q", self.size))
        for k in np.unique(np.linspace(0, max(self.size - SAMPLED_BYTES, 0), SAMPLED_PAGES).astype(np.int64)):
            digest.update(os.pread(self.fd, SAMPLED_BYTES, int(k)))

    def _page(self, page: int) -> Any:
        try:
            return self._tiff.pages[page]
        except Exception as error:
            raise SourceError(
                "a page does not parse", where=self.path, found=f"page {page}: {_said(error)}", remedy=DAMAGED
            ) from error

    def _format(self, page: Any) -> PlaneFormat:
        try:
            shape, dtype = tuple(int(n) for n in page.shape), page.dtype
            colour, samples = int(page.photometric), int(page.samplesperpixel)
        except Exception as error:
            raise SourceError("a page does not parse", where=self.path, found=_said(error), remedy=DAMAGED) from error
        if colour in _COLOURS or samples != 1:
            raise SourceError(
                "a picture in colours, where camera counts in grey are needed",
                where=self.path,
                found=f"{_COLOURS.get(colour, 'colour')}, {samples} samples a pixel",
                remedy="save each channel as a grey page of 8 or 16 bits",
            )
        name = dtype.newbyteorder("=").name if dtype is not None else "unknown"
        if name not in DTYPES:
            raise SourceError(
                "pixels are neither uint8 nor uint16", where=self.path, found=name, remedy="save the file as 16 bit"
            )
        if len(shape) != 2 or not 0 < shape[0] * shape[1] <= MAX_PLANE_PX:
            raise SourceError("a page is no plane", where=self.path, found=f"shape {shape}", remedy=DAMAGED)
        return PlaneFormat((shape[0], shape[1]), name)

    def _segments(self, page: Any) -> tuple[Sequence[int], Sequence[int]]:
        """Offsets and lengths of a page's strips or tiles, all inside the file."""
        try:
            offsets, counts = tuple(map(int, page.dataoffsets)), tuple(map(int, page.databytecounts))
            expected = int(np.prod(page.chunked))
        except Exception as error:
            raise SourceError("a page does not parse", where=self.path, found=_said(error), remedy=DAMAGED) from error
        # a decoder would fill what is absent with zeros
        if len(offsets) != expected or len(counts) != expected:
            raise SourceError(
                "the page lacks strips or tiles", where=self.path, found=f"{len(offsets)} of {expected}", remedy=DAMAGED
            )
        if any(at <= 0 or n <= 0 or at + n > self.size for at, n in zip(offsets, counts, strict=True)):
            raise SourceError("the page is cut off", where=self.path, found=f"{self.size} bytes", remedy=DAMAGED)
        return offsets, counts

    def _is_plain(self, page: Any, offsets: Sequence[int], counts: Sequence[int]) -> bool:
        """Whether the pixels stand uncompressed, whole and in one piece in the file."""
        try:
            return bool(
                page.compression == 1
                and page.predictor == 1
                and page.fillorder == 1
                and not page.is_tiled
                and page.bitspersample in (8, 16)
                and all(a + n == b for a, n, b in zip(offsets, counts, offsets[1:], strict=False))
                and sum(counts) == page.nbytes
            )
        except Exception:
            return False


def _leave_logging_to_the_application() -> None:
    """Keep tifffile's remarks on odd tags, one a page, off the terminal of a user who set up no logging.

    What matters of them comes back as an error; an application that handles logging gets them all.
    """
    logger = tifffile.logger()
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _native(pixels: NDArray[Any]) -> Plane:
    plane: Plane = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return plane


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip(": ")


_open_files = OpenFiles(OpenTiff, max_open=32)


def open_tiff(path: str) -> OpenTiff:
    """Give the file opened in this process; another process, or another file at this path, opens anew.

    Raises
    ------
    SourceError
        If it cannot be opened or is no TIFF.
    """
    return _open_files.get(path)
