"""Which page of which TIFF file holds which plane, whatever the dialect that says so."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from phagostat.model.acquisition import Channel, TimesOrigin
from phagostat.model.errors import SourceError
from phagostat.sources.metadata_xml import parse_number
from phagostat.sources.tiff_file import OpenTiff, PlaneFormat

AXES_REMEDY: Final = (
    "say the order of its pages, slowest first: --axes TYX for frames over time, --axes ZYX for planes of a Z stack, "
    "or with lengths such as --axes TC2YX for two channels in turn"
)
"""In the words of the command's options; :func:`phagostat.sources.open_source` takes the same as ``axes``."""
MAX_PAGE_AXES: Final = 3
MAX_PLANES: Final = 1 << 24
_AXIS: Final = re.compile(r"([TCZ])(\d*)")
_SECONDS_PER_UNIT: Final = {
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
}

PlaneKey = tuple[int, int, int, int]
"""Scene, frame, channel, Z plane."""


@dataclass(frozen=True)
class PagePlace:
    """Where a plane stands: a page of a file or, in one piece with the page before it, an offset in bytes."""

    path: str
    page: int
    offset: int | None = None


@dataclass(frozen=True)
class TiffScene:
    """One scene of a TIFF: its name, lengths, format of its planes, and the times that the file says.

    ``times`` holds, by their origin, times in s of every frame since the first (NaN where unknown).
    """

    name: str
    n_frames: int
    n_z: int
    form: PlaneFormat
    times: Mapping[TimesOrigin, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class TiffLayout:
    """What a TIFF, or a set of TIFFs, holds."""

    dialect: str
    scenes: tuple[TiffScene, ...]
    channels: tuple[Channel, ...]
    pixel_size_um: float | None
    places: Mapping[PlaneKey, PagePlace]
    notes: tuple[str, ...] = ()


def stack_layout(opened: OpenTiff, *, axes: str | None) -> TiffLayout:
    """Lay out a TIFF that is no OME-TIFF: an ImageJ hyperstack, a stack of tifffile's, or plain pages over time.

    Parameters
    ----------
    opened
        The file.
    axes
        Order of the pages, slowest first, in place of what the file says: letters of T, C and Z, at most one of them
        without its length behind it, then YX.

    Raises
    ------
    SourceError
        If the file's axes cannot be told or are others.
    """
    notes: list[str] = []
    promised = _promised_planes(opened)
    offsets = opened.contiguous_planes(promised) if promised > opened.n_pages == 1 else None
    n_stored = len(offsets) if offsets is not None else opened.n_pages
    if axes is not None:
        dims = given_dimensions(axes, max(n_stored, 1), path=opened.path)
    else:
        said = _imagej_dimensions(opened) if opened.imagej else _shaped_dimensions(opened)
        # pages one behind the other, with nothing said: what a movie looks like
        dims = said if said is not None else (("T", n_stored),)
        if n_stored > 1 and not opened.imagej and '"axes"' not in opened.description:
            notes.append(f"the file does not say what its {n_stored} pages are; they are taken as frames over time")
    lengths = dict(dims)
    n_promised = math.prod(lengths.values())
    if n_promised > MAX_PLANES:
        raise SourceError("the description promises more planes than a file can have", where=opened.path, found=lengths)
    if n_promised < n_stored:
        notes.append(f"the file has {n_stored} pages, of which its description names the first {n_promised}")
    elif n_promised > n_stored:
        notes.append(f"{n_promised - n_stored} of {n_promised} planes are not in the file")
    places: dict[PlaneKey, PagePlace] = {}
    for number in range(min(n_promised, n_stored)):
        position, rest = {"T": 0, "C": 0, "Z": 0}, number
        for letter, length in reversed(dims):
            rest, position[letter] = divmod(rest, length)
        key = (0, position["T"], position["C"], position["Z"])
        places[key] = PagePlace(opened.path, number, offsets[number] if offsets is not None else None)
    n_frames = lengths.get("T", 1)
    interval_s = _imagej_interval_s(opened)
    times = (
        {} if interval_s is None else {TimesOrigin.INTERVAL: tuple(round(k * interval_s, 6) for k in range(n_frames))}
    )
    scene = TiffScene("image", n_frames, lengths.get("Z", 1), typical_format(opened), times)
    channels = tuple(Channel(k, f"channel {k}") for k in range(lengths.get("C", 1)))
    return TiffLayout(
        "ImageJ TIFF" if opened.imagej else "TIFF", (scene,), channels, opened.pixel_size_um, places, tuple(notes)
    )


def given_dimensions(axes: str, n_pages: int, *, path: object) -> tuple[tuple[str, int], ...]:
    """Give letters and lengths of the axes that pages run along, by what the user says.

    Parameters
    ----------
    axes
        Such as ``"TYX"`` or ``"TC2YX"``.
    n_pages
        Pages of the file, which give the length that is left open.
    path
        Named in the error.

    Examples
    --------
    >>> given_dimensions("TC2YX", 14, path="movie.tif")
    (('T', 7), ('C', 2))
    """
    text = axes.upper()
    parts = _AXIS.findall(text.removesuffix("YX"))
    letters = [letter for letter, _ in parts]
    free = [letter for letter, length in parts if not length]
    known = math.prod(int(length) for _, length in parts if length)
    sound = (
        text.endswith("YX")
        and "".join(letter + length for letter, length in parts) + "YX" == text
        and len(set(letters)) == len(letters)
        and len(free) <= 1
        and known > 0
    )
    if not sound:
        raise SourceError(
            "axes are letters of T, C and Z, at most one of them without its length, then YX",
            where=path,
            found=repr(axes),
            remedy=AXES_REMEDY,
        )
    if n_pages % known or (not free and known != n_pages):
        raise SourceError(
            "the file's pages do not fit these axes",
            where=path,
            found=f"{n_pages} pages, axes {axes}",
            remedy=AXES_REMEDY,
        )
    return tuple((letter, int(length) if length else n_pages // known) for letter, length in parts)


def typical_format(opened: OpenTiff) -> PlaneFormat:
    """Give the format of most of the first, middle and last page; a page of another one is refused when it is read.

    Raises
    ------
    SourceError
        If the three differ from each other, or none is a plane.
    """
    found: list[PlaneFormat] = []
    refusal: SourceError | None = None
    for page in sorted({0, opened.n_pages // 2, opened.n_pages - 1}):
        try:
            found.append(opened.page_format(page))
        except SourceError as error:
            refusal = refusal or error
    if not found and refusal is not None:
        raise refusal
    if len(set(found)) == len(found) > 1:
        raise SourceError(
            "pages have different sizes or pixel types",
            where=opened.path,
            found=", ".join(map(str, found)),
            remedy="save the frames of the movie alone, without previews or reduced copies",
        )
    return max(found, key=found.count)


def seconds_per(unit: str) -> float | None:
    """Seconds in a unit of time as microscopy files write it; None for an unknown one."""
    return _SECONDS_PER_UNIT.get(unit.strip().lower())


def _promised_planes(opened: OpenTiff) -> int:
    """How many planes a description promises, which can be more than the file has pages; 1 where it says nothing."""
    if opened.imagej:
        images = parse_number(opened.imagej.get("images", "1"))
        return int(images) if images is not None and 1 <= images < 1 << 31 else 1
    return math.prod(_shaped(opened)[0][:-2])


def _imagej_dimensions(opened: OpenTiff) -> tuple[tuple[str, int], ...] | None:
    """Axes that ImageJ says, slowest first; None where it says none."""
    lengths = {}
    for letter, key in (("T", "frames"), ("Z", "slices"), ("C", "channels")):
        number = parse_number(opened.imagej.get(key, "1"))
        lengths[letter] = int(number) if number is not None and 1 <= number < 1 << 31 else 1
    count = _promised_planes(opened)
    dims = tuple((letter, n) for letter, n in lengths.items() if n > 1)
    if not dims and count > 1:
        return None
    if math.prod(lengths.values()) != count:
        said = ", ".join(f"{letter} {n}" for letter, n in lengths.items())
        raise SourceError(
            "ImageJ's axes do not give its number of images",
            where=opened.path,
            found=f"{said}; {count} images",
            remedy=AXES_REMEDY,
        )
    if lengths["Z"] > 1 and lengths["T"] == lengths["C"] == 1 and opened.imagej.get("hyperstack") != "true":
        # ImageJ calls every plain stack one of slices, movies too
        raise SourceError(
            "whether the stack's slices are frames over time or Z planes cannot be told",
            where=opened.path,
            found=f"ImageJ stack of {count} slices",
            remedy="say which with --axes TYX (frames over time) or --axes ZYX (Z planes), or set its frames in ImageJ "
            "(Image > Properties) and save it again",
        )
    return dims


def _imagej_interval_s(opened: OpenTiff) -> float | None:
    interval = parse_number(str(opened.imagej.get("finterval", "")))
    factor = seconds_per(str(opened.imagej.get("tunit", "s")))
    return interval * factor if interval is not None and factor is not None and interval > 0 else None


def _shaped(opened: OpenTiff) -> tuple[tuple[int, ...], str]:
    """Shape and axes in tifffile's own JSON description; empty where it has none."""
    try:
        document = json.loads(opened.description) if opened.description.startswith("{") else {}
        shape = tuple(int(n) for n in document["shape"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return (), ""
    axes = str(document.get("axes", ""))
    if any(n < 1 for n in shape) or len(shape) < 2 or math.prod(shape) >= 1 << 62:
        return (), ""
    return shape, axes if len(axes) == len(shape) and axes[-2:] == "YX" else ""


def _shaped_dimensions(opened: OpenTiff) -> tuple[tuple[str, int], ...] | None:
    """Axes that tifffile said, slowest first; None where the pages run along one unnamed axis."""
    shape, axes = _shaped(opened)
    outer = [(letter, n) for letter, n in zip(axes or "?" * len(shape), shape, strict=True)][:-2]
    if axes:
        outer = [(letter, n) for letter, n in outer if n > 1 or letter in "TCZ"]
    else:
        outer = [(letter, n) for letter, n in outer if n > 1]
    if math.prod(n for _, n in outer) != opened.n_pages and opened.n_pages != 1:
        return None  # pages were appended one by one: the description is of the first alone
    if len(outer) <= 1 and not axes:
        return (("T", outer[0][1]),) if outer else None
    letters = [letter for letter, _ in outer]
    if not set(letters) <= set("TCZ") or len(set(letters)) < len(letters) or len(outer) > MAX_PAGE_AXES:
        raise SourceError(
            "which of its axes is time cannot be told" if not axes else "has axes other than T, C, Z, Y, X",
            where=opened.path,
            found=f"shape {shape}, axes {axes or 'not said'}",
            remedy=AXES_REMEDY,
        )
    return tuple(outer)
