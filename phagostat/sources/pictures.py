"""Single pictures, PNG or TIFF, as planes.

A picture is taken only where it is whole: a PNG whose chunks all have their checksums and that has its end, a TIFF
page whose strips all lie inside the file. What a decoder would fill with zeros is refused instead.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from phagostat.model.errors import SourceError
from phagostat.sources.protocol import Plane
from phagostat.sources.tiff_file import MAX_PLANE_PX, OpenTiff, PlaneFormat
from phagostat.sources.tiff_ome import read_ome_xml, read_pixel_size_um

PNG_SUFFIXES: Final = (".png",)
TIFF_SUFFIXES: Final = (".tif", ".tiff")
PICTURE_SUFFIXES: Final = (*PNG_SUFFIXES, *TIFF_SUFFIXES)
GREY: Final = 0
PALETTE: Final = 3
DAMAGED: Final = "copy or export the picture again"

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER: Final = struct.Struct(">8sI4sIIBBBBB")
_PNG_COLOURS: Final = {
    2: "RGB colours",
    3: "a palette of colours",
    4: "grey with transparency",
    6: "RGB with transparency",
}


def describe_picture(path: Path) -> PlaneFormat:
    """Give a picture's shape and pixel type from its header alone.

    Raises
    ------
    SourceError
        If it cannot be opened, or is no grey picture of 8 or 16 bits.
    """
    if path.suffix.lower() in PNG_SUFFIXES:
        form, colour = _png_format(_read_bytes(path, _PNG_HEADER.size), path=path)
        if colour != GREY:
            _decode_png(_read_bytes(path), path=path)  # whether its colours are grey is seen in its pixels alone
        return form
    return _single_page(OpenTiff(str(path)))


def picture_pixel_size_um(path: Path) -> float | None:
    """Give the pixel size in um that a TIFF picture's OME-XML or ImageJ's description says; None where none does.

    The resolution of a PNG is that of a printed page, and is not taken.
    """
    if path.suffix.lower() in PNG_SUFFIXES:
        return None
    try:
        opened = OpenTiff(str(path))
        root = read_ome_xml(opened)
        pixels = root.find("{*}Image/{*}Pixels") if root is not None else None
        return read_pixel_size_um(pixels, path=path) if pixels is not None else opened.pixel_size_um
    except SourceError:
        return None


def read_picture(path: Path) -> Plane:
    """Decode a picture as a (y, x) array of uint8 or uint16.

    Raises
    ------
    SourceError
        If it is not there, not whole, or no grey picture of 8 or 16 bits.
    """
    if path.suffix.lower() in PNG_SUFFIXES:
        return _decode_png(_read_bytes(path), path=path)
    opened = OpenTiff(str(path))
    _single_page(opened)
    return opened.read_page(0)


def _single_page(opened: OpenTiff) -> PlaneFormat:
    if opened.n_pages != 1:
        raise SourceError(
            "a stack of several pages, where each file should be one frame",
            where=opened.path,
            found=f"{opened.n_pages} pages",
            remedy="give the file itself in place of its folder",
        )
    return opened.page_format(0)


def _read_bytes(path: Path, n_bytes: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(n_bytes)
    except FileNotFoundError as error:
        raise SourceError("there is no such file", where=path) from error
    except PermissionError as error:
        raise SourceError("no permission to read it", where=path, remedy="change its permissions") from error
    except (OSError, ValueError) as error:
        raise SourceError("cannot be read", where=path, found=error) from error


def _png_format(raw: bytes, *, path: Path) -> tuple[PlaneFormat, int]:
    """Format and colour type by a PNG's header."""
    if not raw.startswith(_PNG_SIGNATURE):
        raise SourceError("no PNG picture", where=path, found=f"first bytes {raw[:8]!r}", remedy=DAMAGED)
    if len(raw) < _PNG_HEADER.size:
        raise SourceError("the PNG is cut off", where=path, found=f"{len(raw)} bytes", remedy=DAMAGED)
    _, length, kind, width, height, bits, colour, *_ = _PNG_HEADER.unpack_from(raw)
    if kind != b"IHDR" or length != 13 or not 0 < width * height <= MAX_PLANE_PX:
        raise SourceError("the PNG's header is damaged", where=path, found=f"{width} x {height} px", remedy=DAMAGED)
    if colour == PALETTE:
        bits = 8  # of the colours, whatever the bits of their numbers
    if bits not in (8, 16):
        raise SourceError(
            "pixels are neither uint8 nor uint16",
            where=path,
            found=f"{bits} bits",
            remedy="save the picture as grey of 8 or 16 bits",
        )
    return PlaneFormat((height, width), f"uint{bits}"), colour


def _decode_png(raw: bytes, *, path: Path) -> Plane:
    expected, colour = _png_format(raw, path=path)
    at, ended = len(_PNG_SIGNATURE), False
    while not ended and at + 12 <= len(raw):
        (length,) = struct.unpack_from(">I", raw, at)
        end = at + 12 + length
        if end > len(raw):
            break
        # the decoder would print its complaint and, for some chunks, go on
        if zlib.crc32(raw[at + 4 : end - 4]) != int.from_bytes(raw[end - 4 : end], "big"):
            raise SourceError("the PNG is damaged: a checksum is wrong", where=path, found=f"byte {at}", remedy=DAMAGED)
        ended = raw[at + 4 : at + 8] == b"IEND"
        at = end
    if not ended:
        raise SourceError("the PNG is cut off", where=path, found=f"{len(raw)} bytes", remedy=DAMAGED)
    try:
        pixels = cv2.imdecode(np.frombuffer(raw, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:
        raise SourceError("the PNG cannot be decoded", where=path, found=error, remedy=DAMAGED) from error
    if pixels is not None and pixels.ndim == 3:
        pixels = _grey_of(pixels, _PNG_COLOURS.get(colour, f"colour type {colour}"), path=path)
    if pixels is None or pixels.shape != expected.shape_yx or pixels.dtype.name != expected.dtype:
        raise SourceError("the PNG cannot be decoded", where=path, remedy=DAMAGED)
    plane: Plane = pixels
    return plane


def _grey_of(pixels: NDArray[Any], kind: str, *, path: Path) -> NDArray[Any]:
    """Give the one channel of a picture that was saved in colours and has none."""
    grey = pixels[..., 0]
    opaque = pixels.shape[2] < 4 or bool((pixels[..., 3] == np.iinfo(pixels.dtype).max).all())
    if not (opaque and (pixels[..., 1] == grey).all() and (pixels[..., 2] == grey).all()):
        raise SourceError(
            "a picture in colours, where camera counts in grey are needed",
            where=path,
            found=kind,
            remedy="save each channel as grey of 8 or 16 bits",
        )
    return np.ascontiguousarray(grey)
