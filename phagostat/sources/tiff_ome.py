"""OME-TIFF: what its OME-XML says of images, pages and times.

A set of files is read from any of them, since each carries, or names, the description of all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final
from xml.etree.ElementTree import Element

from phagostat.model.acquisition import Channel, TimesOrigin
from phagostat.model.errors import MetadataError, SourceError
from phagostat.sources.channel_light import is_fluorescent
from phagostat.sources.metadata_xml import parse_number, parse_xml
from phagostat.sources.tiff_file import DTYPES, SQUARE_TOLERANCE, OpenTiff, PlaneFormat, open_tiff
from phagostat.sources.tiff_layout import MAX_PLANES, PagePlace, PlaneKey, TiffLayout, TiffScene, seconds_per
from phagostat.sources.times import since_first

_UM_PER: Final = {
    "µm": 1.0,
    "\u03bcm": 1.0,
    "um": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "Å": 1e-4,
    "\u212b": 1e-4,
}
_SECONDS_PER: Final = {"µs": 1e-6, "\u03bcs": 1e-6, "ns": 1e-9, "d": 86400.0}
_FACTS: Final = ("Fluor", "ContrastMethod", "AcquisitionMode", "IlluminationType", "EmissionWavelength")


def read_ome_xml(opened: OpenTiff) -> Element | None:
    """Give the root of a file's OME-XML, or of the file that its own names; None where it is no OME-TIFF.

    Raises
    ------
    SourceError
        If there is such a description and it cannot be read.
    """
    text = opened.description.strip("\0 \r\n\t")
    if not (text.endswith("OME>") and text.startswith("<")):
        return None
    root = _parse(text, path=opened.path)
    binary_only = root.find("{*}BinaryOnly")
    if binary_only is None:
        return root
    named = _beside(opened.path, binary_only.get("MetadataFile", ""))
    if named is None or not named.is_file():
        raise SourceError(
            "the file that describes this OME-TIFF is absent",
            where=opened.path,
            found=binary_only.get("MetadataFile"),
            remedy="put it beside",
        )
    if named.suffix.lower() in (".tif", ".tiff"):
        return _parse(open_tiff(str(named)).description, path=named)
    try:
        return _parse(named.read_text(encoding="utf-8"), path=named)
    except (OSError, ValueError) as error:
        raise SourceError("the file that describes this OME-TIFF cannot be read", where=named, found=error) from error


def ome_layout(opened: OpenTiff, root: Element) -> TiffLayout:
    """Lay out an OME-TIFF, of one file or of several.

    Raises
    ------
    SourceError
        If the description does not parse or describes what phagostat does not take.
    """
    images = [pixels for image in root.iterfind("{*}Image") if (pixels := image.find("{*}Pixels")) is not None]
    names = [image.get("Name") or "" for image in root.iterfind("{*}Image") if image.find("{*}Pixels") is not None]
    if not images:
        raise SourceError("the OME-XML describes no image", where=opened.path)
    notes: list[str] = []
    files = _Files(opened, root)
    places: dict[PlaneKey, PagePlace] = {}
    scenes: list[TiffScene] = []
    channels = _channels(images[0], path=opened.path)
    sizes_um = {read_pixel_size_um(pixels, path=opened.path) for pixels in images}
    if len(sizes_um) > 1:
        raise MetadataError("images have different pixel sizes", where=opened.path, found=sorted(map(str, sizes_um)))
    for number, pixels in enumerate(images):
        size = _sizes(pixels, path=opened.path)
        if size["C"] != len(channels):
            raise SourceError(
                f"image {number} has another number of channels than the first",
                where=opened.path,
                found=f"{size['C']} and {len(channels)}",
                remedy="save the movies alone, without label images or previews",
            )
        here = dict(_places(pixels, size, number, files))
        if not here:
            raise SourceError(
                "the OME-XML names no page that is there",
                where=opened.path,
                found=", ".join(sorted(files.absent)) or "no TiffData",
                remedy="put the files of the set beside each other",
            )
        places.update(here)
        form = _format(pixels, here, path=opened.path)
        there = {frame for _, frame, _, _ in here}
        scenes.append(TiffScene(names[number], size["T"], size["Z"], form, _times(pixels, size["T"], there=there)))
        lacking = size["T"] * size["C"] * size["Z"] - len(here)
        if lacking:
            notes.append(f"{lacking} planes of image {number} are in no file that is there")
    if files.absent:
        notes.append("files of the set are absent: " + ", ".join(sorted(files.absent)))
    named = tuple(
        TiffScene(name, s.n_frames, s.n_z, s.form, s.times)
        for name, s in zip(_unique([s.name for s in scenes]), scenes, strict=True)
    )
    return TiffLayout("OME-TIFF", named, channels, sizes_um.pop(), places, tuple(notes))


class _Files:
    """The files of a set, by what TiffData elements call them."""

    def __init__(self, opened: OpenTiff, root: Element) -> None:
        self.path = opened.path
        self.own = root.get("UUID")
        self.absent: set[str] = set()
        self._pages: dict[str, int] = {opened.path: opened.n_pages}
        self._found: dict[tuple[str | None, str], str | None] = {}
        named = {uuid.get("FileName") for uuid in root.iterfind(".//{*}TiffData/{*}UUID")} - {None}
        self.alone = len(named) <= 1

    def find(self, data: Element) -> str | None:
        """Path of the file that a TiffData element means; None where it is not there."""
        uuid = data.find("{*}UUID")
        if uuid is None:
            return self.path
        name = uuid.get("FileName") or ""
        key = uuid.text, name
        if key not in self._found:
            self._found[key] = self._look_for(uuid.text, name)
        return self._found[key]

    def n_pages(self, path: str) -> int:
        """Pages of a file of the set, 0 where it cannot be read."""
        if path not in self._pages:
            try:
                self._pages[path] = OpenTiff(path).n_pages
            except SourceError:
                self._pages[path] = 0
        return self._pages[path]

    def _look_for(self, identifier: str | None, name: str) -> str | None:
        place = _beside(self.path, name) if name else None
        if place is not None and place.is_file():
            # the file that was given, under the path that was given
            return self.path if place.name == Path(self.path).name else str(place)
        if self.alone or (identifier is not None and identifier == self.own):
            return self.path  # a set of one that was renamed
        self.absent.add(name or str(identifier))
        return None


def _parse(text: str, *, path: object) -> Element:
    root = parse_xml(text.encode("utf-8", errors="surrogateescape"))
    if root is None or not root.tag.endswith("OME"):
        raise SourceError(
            "its OME-XML does not parse", where=path, remedy="export the file again, or give a TIFF without OME-XML"
        )
    return root


def _beside(path: str, name: str) -> Path | None:
    """Path of a file named in the folder of another one; None for a name that leads elsewhere."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if (
        not name
        or "\0" in name
        or posix.is_absolute()
        or windows.is_absolute()
        or ".." in (*posix.parts, *windows.parts)
    ):
        return None
    return Path(path).parent / name


def _sizes(pixels: Element, *, path: object) -> dict[str, int]:
    size = {}
    for letter in "XYZCT":
        number = parse_number(pixels.get(f"Size{letter}"))
        if number is None or not number.is_integer() or number < 1:
            raise SourceError(f"the OME-XML does not say Size{letter}", where=path, found=pixels.get(f"Size{letter}"))
        size[letter] = int(number)
    if size["Z"] * size["C"] * size["T"] > MAX_PLANES:
        raise SourceError("the OME-XML promises more planes than a file can have", where=path, found=size)
    samples = {channel.get("SamplesPerPixel", "1") for channel in pixels.iterfind("{*}Channel")}
    if samples - {"1"}:
        raise SourceError(
            "a picture in colours, where camera counts in grey are needed",
            where=path,
            found=f"{', '.join(sorted(samples))} samples a pixel",
            remedy="save each channel as grey pages of 8 or 16 bits",
        )
    kind = pixels.get("Type", "")
    if kind not in DTYPES:
        raise SourceError(
            "pixels are neither uint8 nor uint16", where=path, found=kind, remedy="save the file as 16 bit"
        )
    return size


def _places(
    pixels: Element, size: Mapping[str, int], scene: int, files: _Files
) -> Iterator[tuple[PlaneKey, PagePlace]]:
    """Give the page of each plane, as TiffData elements say: they count in the order of the dimensions."""
    order = [letter for letter in pixels.get("DimensionOrder", "XYZCT")[2:] if letter in "ZCT"]
    order += [letter for letter in "ZCT" if letter not in order]
    total = math.prod(size[letter] for letter in order)
    for data in pixels.iterfind("{*}TiffData"):
        path = files.find(data)
        if path is None:
            continue
        first = {letter: _whole(data.get(f"First{letter}")) for letter in order}
        page = _whole(data.get("IFD"))
        n_pages = files.n_pages(path)
        count = data.get("PlaneCount")
        n_planes = _whole(count) if count is not None else 1 if data.get("IFD") is not None else n_pages
        number, stride = 0, 1
        for letter in order:
            number += first[letter] * stride
            stride *= size[letter]
        for k in range(min(n_planes, n_pages - page, total - number)):
            rest, position = number + k, {}
            for letter in order:
                rest, position[letter] = divmod(rest, size[letter])
            yield (scene, position["T"], position["C"], position["Z"]), PagePlace(path, page + k)


def _whole(text: str | None) -> int:
    number = parse_number(text)
    return int(number) if number is not None and 0 <= number < MAX_PLANES else 0


def _format(pixels: Element, places: Mapping[PlaneKey, PagePlace], *, path: object) -> PlaneFormat:
    """Format of the first page that can be looked at; the description must agree with it."""
    said = PlaneFormat((_whole(pixels.get("SizeY")), _whole(pixels.get("SizeX"))), pixels.get("Type", ""))
    for place in list(dict.fromkeys(places.values()))[:8]:
        try:
            found = open_tiff(place.path).page_format(place.page)
        except SourceError:
            continue
        if found == said:
            return said
        raise SourceError("its pages are not what the OME-XML says", where=path, found=f"{found}; OME-XML: {said}")
    return said


def _channels(pixels: Element, *, path: object) -> tuple[Channel, ...]:
    described = pixels.findall("{*}Channel")
    channels = []
    for index in range(_sizes(pixels, path=path)["C"]):
        element = described[index] if index < len(described) else None
        facts = {key: (element.get(key) or "") if element is not None else "" for key in _FACTS}
        name = (element.get("Name") if element is not None else None) or facts["Fluor"] or f"channel {index}"
        description = ", ".join(f"{key} {value}" for key, value in facts.items() if value)
        channels.append(Channel(index, name, is_fluorescent(name=name, facts=facts), description))
    return tuple(channels)


def read_pixel_size_um(pixels: Element, *, path: object) -> float | None:
    """Give the pixel size in um of a Pixels element; None where it does not say.

    Raises
    ------
    MetadataError
        If pixels are not square.
    """
    sizes = []
    for axis in "XY":
        value = parse_number(pixels.get(f"PhysicalSize{axis}"))
        factor = _UM_PER.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if value is None or factor is None or value <= 0:
            return None
        sizes.append(value * factor)
    x, y = sizes
    if abs(x - y) > SQUARE_TOLERANCE * max(x, y):
        raise MetadataError(
            "pixels are not square",
            where=path,
            found=f"{x:g} um wide, {y:g} um high",
            remedy="resample the movie to square pixels",
        )
    return float(f"{x:.12g}")


def _times(pixels: Element, n_frames: int, *, there: Collection[int]) -> dict[TimesOrigin, tuple[float, ...]]:
    """Times of the frames by their planes' own, of the first channel and Z plane that has one, and by the interval.

    Planes' own times that leave out a frame which is ``there`` are given without it, so that they are set aside.
    """
    found: dict[TimesOrigin, tuple[float, ...]] = {}
    stamps: dict[int, tuple[tuple[int, int], float]] = {}
    for plane in pixels.iterfind("{*}Plane"):
        value, factor = parse_number(plane.get("DeltaT")), _unit_s(plane.get("DeltaTUnit", "s"))
        frame, place = _whole(plane.get("TheT")), (_whole(plane.get("TheC")), _whole(plane.get("TheZ")))
        if value is not None and factor is not None and (frame not in stamps or place < stamps[frame][0]):
            stamps[frame] = place, value * factor
    if stamps:
        covered = [frame for frame in range(n_frames) if frame in stamps or frame not in there]
        found[TimesOrigin.OFFSETS] = since_first([stamps[frame][1] if frame in stamps else None for frame in covered])
    step, factor = parse_number(pixels.get("TimeIncrement")), _unit_s(pixels.get("TimeIncrementUnit", "s"))
    if step is not None and factor is not None and step > 0:
        found[TimesOrigin.INTERVAL] = tuple(round(frame * step * factor, 6) for frame in range(n_frames))
    return found


def _unit_s(unit: str) -> float | None:
    return _SECONDS_PER.get(unit) or seconds_per(unit)


def _unique(names: Sequence[str]) -> list[str]:
    plain = [name or (f"image {k}" if len(names) > 1 else "image") for k, name in enumerate(names)]
    return plain if len(set(plain)) == len(plain) else [f"{name} ({k})" for k, name in enumerate(plain)]
