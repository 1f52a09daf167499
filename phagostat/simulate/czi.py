"""Writing a genuine CZI: planes through pylibCZIrw, then the metadata that it cannot write.

pylibCZIrw writes sub-blocks, sizes, channel names and the pixel size, but no acquisition times and no contrast
methods. When the file is closed, its metadata document is read back, completed in the forms that ZEN uses, and put as a
new metadata segment at the end of the file; the old segment is marked deleted, as the format provides.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from pylibCZIrw import czi as pyczi

from phagostat.model.errors import SourceError
from phagostat.simulate.spec import AGGREGATES_CHANNEL, CELLS_CHANNEL, CHANNEL_NAMES

_SEGMENT = struct.Struct("<16sqq")  # id, allocated bytes, used bytes
_METADATA_FIXED = 256  # xml size i32, attachment size i32, reserved
_HEADER_METADATA_POSITION = 92  # in the file header: 32 of the segment, then 60 (version, two GUIDs, part, directory)
_ATTACHMENT_ENTRY = struct.Struct("<2s10xqi16s8s80s")
_HEADER_ATTACHMENT_POSITION = 104
_START = "2026-01-01T00:00:00Z"  # the same for every movie, so that the same seed gives the same metadata
_SCENE_GAP_PX = 256

_CHANNELS = {
    AGGREGATES_CHANNEL: {
        "ExcitationWavelength": "587", "EmissionWavelength": "610", "Fluor": "mCherry",
        "IlluminationType": "Epifluorescence", "ContrastMethod": "Fluorescence", "AcquisitionMode": "WideField",
    },
    CELLS_CHANNEL: {
        "IlluminationType": "Transmitted", "ContrastMethod": "PhaseContrast", "AcquisitionMode": "WideField",
    },
}  # fmt: skip


class TimesForm(StrEnum):
    """How a file states its acquisition times."""

    OFFSETS = "offsets"
    INTERVAL = "interval"
    ATTACHMENT = "attachment"
    NONE = "none"


class CziMovie:
    """A two-channel, multi-scene CZI that is written plane by plane; use as a context manager.

    Parameters
    ----------
    path
        File to create; it must not exist.
    shapes_yx
        Shape of each scene's planes.
    pixel_size_um
        Native pixel size; None writes none.
    times_s
        Time of each frame since the first.
    times_form
        How the times are stated.
    compression
        None or ``"zstd"``.

    Raises
    ------
    SourceError
        If the file exists or cannot be created.
    """

    def __init__(
        self, path: Path, *, shapes_yx: Sequence[tuple[int, int]], pixel_size_um: float | None,
        times_s: Sequence[float], times_form: TimesForm = TimesForm.OFFSETS, compression: str | None = None,
    ) -> None:  # fmt: skip
        if path.exists():
            raise SourceError("the file exists already", where=path, remedy="choose another name")
        if compression not in (None, "zstd"):
            raise SourceError(
                "there is no such compression", where=path, found=compression, remedy='use "zstd" or none'
            )
        widths = [shape[1] + _SCENE_GAP_PX for shape in shapes_yx]
        self._left = [0, *np.cumsum(widths).tolist()]
        self._path, self._pixel_size_um = path, pixel_size_um
        self._times_s, self._times_form = list(times_s), times_form
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pyczi.CziWriter(str(path), None if compression is None else "zstd1:ExplicitLevel=1")
        except (OSError, RuntimeError) as error:
            raise SourceError("the file cannot be created", where=path, found=str(error)) from error

    def write(self, *, scene: int, frame: int, channel: int, plane: NDArray[np.uint16]) -> None:
        """Append one plane."""
        self._writer.write(
            plane[..., None], location=(self._left[scene], 0), plane={"T": frame, "C": channel, "Z": 0}, scene=scene
        )

    def __enter__(self) -> CziMovie:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        scale = 0.0 if self._pixel_size_um is None else self._pixel_size_um * 1e-6
        self._writer.write_metadata(
            document_name=self._path.stem, channel_names=dict(enumerate(CHANNEL_NAMES)), scale_x=scale, scale_y=scale
        )
        self._writer.close()
        if kind is None:
            complete_metadata(
                self._path,
                times_s=self._times_s,
                times_form=self._times_form,
                with_scale=self._pixel_size_um is not None,
            )


def complete_metadata(path: Path, *, times_s: Sequence[float], times_form: TimesForm, with_scale: bool) -> None:
    """Add times and contrast methods to a closed CZI's metadata document.

    Parameters
    ----------
    path
        The file.
    times_s
        Time of each frame since the first.
    times_form
        A list of offsets, a constant interval, an attachment with time stamps, or nothing.
    with_scale
        False takes the pixel size away.
    """
    with path.open("r+b") as stream:
        stream.seek(_HEADER_METADATA_POSITION)
        (position,) = struct.unpack("<q", stream.read(8))
        stream.seek(position + _SEGMENT.size)
        (size,) = struct.unpack("<i", stream.read(4))
        stream.seek(position + _SEGMENT.size + _METADATA_FIXED)
        root = ET.fromstring(stream.read(size))
        _complete(root, times_s=times_s, times_form=times_form, with_scale=with_scale)
        document = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        stream.seek(0, 2)
        body = struct.pack("<ii", len(document), 0).ljust(_METADATA_FIXED, b"\0") + document
        new = _append_segment(stream, b"ZISRAWMETADATA", body)
        if times_form is TimesForm.ATTACHMENT:
            _append_time_stamps(stream, times_s)
        stream.seek(_HEADER_METADATA_POSITION)
        stream.write(struct.pack("<q", new))
        stream.seek(position)
        stream.write(b"DELETED".ljust(16, b"\0"))


def _complete(root: ET.Element, *, times_s: Sequence[float], times_form: TimesForm, with_scale: bool) -> None:
    image = root.find("Metadata/Information/Image")
    dimensions = root.find("Metadata/Information/Image/Dimensions")
    if image is None or dimensions is None:
        raise SourceError("the metadata that were written cannot be found again")
    for index, channel in enumerate(dimensions.findall("Channels/Channel")):
        for name, value in _CHANNELS.get(index, {}).items():
            ET.SubElement(channel, name).text = value
    if not with_scale:
        scaling = root.find("Metadata/Scaling/Items")
        if scaling is not None:
            scaling.clear()
    if times_form is TimesForm.NONE:
        return
    ET.SubElement(image, "AcquisitionDateAndTime").text = _START
    times = ET.SubElement(dimensions, "T")
    ET.SubElement(times, "StartTime").text = _START
    positions = ET.SubElement(times, "Positions")
    if times_form is TimesForm.OFFSETS:
        offsets = ET.SubElement(ET.SubElement(positions, "List"), "Offsets")
        offsets.text = " ".join(f"{time:.10g}" for time in times_s)
    elif times_form is TimesForm.INTERVAL:
        interval = ET.SubElement(positions, "Interval")
        ET.SubElement(interval, "Start").text = "0"
        step = times_s[1] - times_s[0] if len(times_s) > 1 else 0.0
        ET.SubElement(interval, "Increment").text = f"{step:.10g}"
    else:
        ET.SubElement(ET.SubElement(positions, "BinaryList"), "AttachmentName").text = "TimeStamps"


def _append_segment(stream, kind: bytes, body: bytes) -> int:  # type: ignore[no-untyped-def]
    stream.seek(0, 2)
    position = int(stream.tell())
    padded = -len(body) % 32
    stream.write(_SEGMENT.pack(kind.ljust(16, b"\0"), len(body) + padded, len(body)) + body + b"\0" * padded)
    return position


def _append_time_stamps(stream, times_s: Sequence[float]) -> None:  # type: ignore[no-untyped-def]
    """Write the times as ZEN's TimeStamps attachment (size, count, float64 seconds), and the attachment directory."""
    data = struct.pack("<ii", 8 + 8 * len(times_s), len(times_s)) + struct.pack(f"<{len(times_s)}d", *times_s)
    stream.seek(0, 2)
    guid = bytes(range(16))
    entry = _ATTACHMENT_ENTRY.pack(b"A1", stream.tell(), 0, guid, b"CZTIMS", b"TimeStamps")
    body = struct.pack("<ii8x", len(data), 0) + entry
    _append_segment(stream, b"ZISRAWATTACH", body.ljust(256, b"\0") + data)
    directory = _append_segment(stream, b"ZISRAWATTDIR", struct.pack("<i", 1).ljust(256, b"\0") + entry)
    stream.seek(_HEADER_ATTACHMENT_POSITION)
    stream.write(struct.pack("<q", directory))
