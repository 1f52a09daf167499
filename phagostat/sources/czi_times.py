"""When the frames of a CZI were taken.

A CZI carries acquisition times in up to four forms: in the metadata of each sub-block, as a binary attachment, as a
list of offsets, and as the constant interval that was planned. The most specific one that covers every frame is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from phagostat.model.acquisition import TimesOrigin
from phagostat.model.errors import SourceError
from phagostat.sources.czi_file import OpenCzi
from phagostat.sources.czi_segments import read_attachment, read_bytes, read_subblock
from phagostat.sources.metadata_xml import parse_number, parse_xml
from phagostat.sources.times import TimesTable, choose_times, since_first


def read_times(opened: OpenCzi) -> tuple[TimesOrigin, TimesTable, tuple[str, ...]]:
    """Give the most specific acquisition times of a CZI; see :func:`choose_times`."""
    found, notes = _candidates(opened)
    n_frames = [scene.n_frames for scene in opened.index.scenes]
    origin, times, more = choose_times(found, n_frames=n_frames)
    return origin, times, (*notes, *more)


def _candidates(opened: OpenCzi) -> tuple[dict[TimesOrigin, dict[int, tuple[float, ...]]], list[str]]:
    """Collect every form of acquisition times that the file has, per scene."""
    n_frames = [scene.n_frames for scene in opened.index.scenes]
    n_rounds = max(n_frames)
    interval_s, offsets_s, attachment_name = read_time_positions(opened.xml)
    found: dict[TimesOrigin, dict[int, tuple[float, ...]]] = {}
    notes: list[str] = []
    by_subblock = _subblock_times(opened)
    if by_subblock is not None:
        found[TimesOrigin.SUBBLOCK] = by_subblock
    stamps = _stamps(opened, attachment_name or "TimeStamps", notes)
    for origin, series in ((TimesOrigin.ATTACHMENT, stamps), (TimesOrigin.OFFSETS, offsets_s)):
        if series is None:
            continue
        if len(series) < n_rounds:
            notes.append(f"times ({origin.value}) are {len(series)} for {n_rounds} frames and are set aside")
            continue
        if len(series) > n_rounds:
            notes.append(
                f"times ({origin.value}) are {len(series)} for {n_rounds} frames; the first {n_rounds} are used"
            )
        found[origin] = {k: since_first(series[:n]) for k, n in enumerate(n_frames)}
    if interval_s is not None:
        found[TimesOrigin.INTERVAL] = {k: tuple(i * interval_s for i in range(n)) for k, n in enumerate(n_frames)}
    return found, notes


def _stamps(opened: OpenCzi, name: str, notes: list[str]) -> tuple[float, ...] | None:
    try:
        for attachment in opened.attachments:
            if attachment.name == name:
                return parse_time_stamps(read_attachment(opened.fd, attachment, path=opened.path))
    except SourceError as error:
        notes.append(f"the attachment with time stamps cannot be read ({error.what})")
    return None


def _subblock_times(opened: OpenCzi) -> dict[int, tuple[float, ...]] | None:
    """Times in the sub-blocks' own metadata: of the first channel, Z plane and tile that each frame has."""
    index, inside = opened.index, opened.inside()

    def first_rows(scene: int, frame: int) -> Iterator[int]:
        for channel in range(len(index.channels)):
            yield from (row for row in index.rows.get((scene, frame, channel), ())[:1] if inside[row])

    times: dict[int, tuple[float, ...]] = {}
    for scene, layout in enumerate(index.scenes):
        of_scene: list[float | None] = []
        for frame in range(layout.n_frames):
            row = next(first_rows(scene, frame), None)
            if row is None:
                of_scene.append(None)
                continue
            try:
                block = read_subblock(opened.fd, int(opened.directory.position[row]), path=opened.path)
                raw = read_bytes(opened.fd, block.metadata_bytes, block.metadata_offset, path=opened.path)
            except SourceError:
                of_scene.append(None)
                continue
            value = parse_subblock_time(raw)
            if value is None:
                return None
            of_scene.append(value)
        times[scene] = since_first(of_scene)
    return times if any(not math.isnan(value) for of_scene in times.values() for value in of_scene) else None


def read_time_positions(root: Element | None) -> tuple[float | None, tuple[float, ...] | None, str | None]:
    """Give what the T dimension says: constant interval in s, list of offsets in s, name of the attachment."""
    positions = root.find(".//Information/Image/Dimensions/T/Positions") if root is not None else None
    if positions is None:
        return None, None, None
    interval = parse_number(positions.findtext("Interval/Increment"))
    text = positions.findtext("List/Offsets")
    offsets = tuple(parse_number(word) for word in text.split()) if text else None
    sound = tuple(value for value in offsets if value is not None) if offsets else ()
    attachment = positions.findtext("BinaryList/AttachmentName")
    return (
        interval if interval is not None and interval > 0 else None,
        sound if offsets and len(sound) == len(offsets) else None,
        attachment.strip() if attachment else None,
    )


def parse_time_stamps(raw: bytes) -> tuple[float, ...] | None:
    """Parse the content of a time stamp attachment: size i32, count i32, then float64 seconds; None where unsound."""
    if len(raw) < 8:
        return None
    _, count = struct.unpack_from("<ii", raw)
    if not 0 < count <= (len(raw) - 8) // 8:
        return None
    stamps = struct.unpack_from(f"<{count}d", raw, 8)
    return stamps if all(math.isfinite(stamp) for stamp in stamps) else None


def parse_subblock_time(raw: bytes) -> float | None:
    """Give the acquisition time in a sub-block's metadata XML as seconds since 1970; None where it has none.

    A time that names no zone is taken as UTC: what this computer's zone is must not show in the times.
    """
    if b"Time" not in raw:
        return None
    root = parse_xml(raw)
    for tag in ("AcquisitionTime", "StartTime"):
        text = root.findtext(f".//Tags/{tag}") if root is not None else None
        if text:
            try:
                moment = datetime.fromisoformat(text.strip())
                return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
            except (ValueError, OverflowError, OSError):
                continue
    return None
