"""What a CZI's metadata XML, attachments and sub-blocks say: pixel size, channels, scene names, times."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

from phagostat.model.acquisition import Channel, TimesOrigin
from phagostat.model.errors import MetadataError

UM_PER_M: Final = 1e6
SQUARE_TOLERANCE: Final = 1e-3
"""Relative difference of pixel width and height up to which pixels are taken as square."""

_TRANSMITTED: Final = re.compile(
    r"(?i)phase|\bph\d?\b|\bphc|phaco|bright\s*-?field|\bbf\b|\bdic\b|differential|transmi|\btl\b|\bt[\s_-]?pmt|\besid\b"
    r"|oblique|varel|plas\b|\bpgc\b"
)
_FLUORESCENT: Final = re.compile(
    r"(?i)fluor|dapi|hoechst|[eyrcbm]?gfp|\b[eymtsrcb]{0,2}[ycrb]fp|cherry|tomato|ds-?red|venus|citrine|cerulean"
    r"|\baf[\s_-]?\d{3}|alexa|\bcy[\s_-]?\d|fitc|tritc|texas|atto|syto|rhod|\bdi[io]\b|cell\s*mask|mito|draq|phrodo"
    r"|aggregat|puncta|propidium|calcein"
)
_TRANSMITTED_CONTRAST: Final = frozenset({"phase", "phasecontrast", "brightfield", "dic", "differentialinterference"})

TimesTable = Mapping[int, tuple[float, ...]]
"""Times in seconds since its first frame, for each scene."""


def parse_xml(raw: bytes) -> Element | None:
    """Parse metadata XML safely (no entities, no external references); None where it does not parse."""
    try:
        root: Element = SafeTree.fromstring(raw.strip(b"\0 \r\n\t"))
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return None
    return root


def read_pixel_size_um(root: Element | None, *, path: object) -> float | None:
    """Give the pixel size in um; None where the metadata do not say.

    Raises
    ------
    MetadataError
        If pixels are not square.
    """
    sizes = {}
    for distance in root.iterfind(".//Scaling/Items/Distance") if root is not None else ():
        value = _number(distance.findtext("Value"))
        if value is not None and value > 0:
            sizes[distance.get("Id", "")] = value * UM_PER_M
    x, y = sizes.get("X"), sizes.get("Y")
    if x is None or y is None:
        return None
    if abs(x - y) > SQUARE_TOLERANCE * max(x, y):
        raise MetadataError(
            "pixels are not square", where=path, found=f"{x:g} um wide, {y:g} um high", remedy="resample the file in ZEN"
        )
    # the file has metres as decimal text; twelve digits undo what the unit change added
    return float(f"{x:.12g}")


def read_channels(root: Element | None, c_indices: Sequence[int]) -> tuple[Channel, ...]:
    """Describe the channels whose C indices are given, in their order."""
    described = root.findall(".//Information/Image/Dimensions/Channels/Channel") if root is not None else []
    by_id = {channel.get("Id", ""): channel for channel in described}
    display = root.findall(".//DisplaySetting/Channels/Channel") if root is not None else []
    displayed = {channel.get("Id", ""): channel for channel in display}
    channels = []
    for index, c in enumerate(c_indices):
        element = by_id.get(f"Channel:{c}")
        if element is None and 0 <= c < len(described):
            element = described[c]
        if element is None:
            channels.append(Channel(index, f"channel {index}"))
            continue
        shown = displayed.get(element.get("Id", ""))
        name = element.get("Name") or (shown.get("Name") if shown is not None else None) or f"channel {index}"
        facts = {
            key: (element.findtext(key) or "").strip()
            for key in ("Fluor", "ContrastMethod", "AcquisitionMode", "IlluminationType", "EmissionWavelength")
        }
        if shown is not None:
            facts["DyeName"] = (shown.findtext("DyeName") or "").strip()
        fluorescent = is_fluorescent(name=name, facts=facts)
        description = ", ".join(f"{key} {value}" for key, value in facts.items() if value)
        channels.append(Channel(index, name, fluorescent, description))
    return tuple(channels)


def is_fluorescent(*, name: str, facts: Mapping[str, str]) -> bool | None:
    """Tell whether a channel shows fluorescence; None where its metadata do not say or contradict each other.

    Parameters
    ----------
    name
        The channel's name.
    facts
        Values of the metadata fields ``ContrastMethod``, ``Fluor``, ``DyeName``, ``EmissionWavelength``,
        ``IlluminationType``, where present.

    Notes
    -----
    A dye called "TL Phase" or a channel called "T-PMT" is transmitted light, whatever the other fields say: the
    acquisition software fills those with its defaults. Next in weight is the contrast method, then dye and emission,
    then the name, last the illumination.
    """
    # underscores are letters to a regular expression, and "Ch2_PhC" is a common kind of name
    label = name.replace("_", " ")
    dye = " ".join(facts.get(key, "") for key in ("Fluor", "DyeName")).replace("_", " ")
    contrast = facts.get("ContrastMethod", "").lower().replace(" ", "")
    if _TRANSMITTED.search(label) or _TRANSMITTED.search(dye):
        named_fluorescent = _FLUORESCENT.search(label) is not None
        return None if named_fluorescent and contrast == "fluorescence" else False
    if contrast == "fluorescence":
        return True
    if any(contrast.startswith(method) for method in _TRANSMITTED_CONTRAST):
        return False
    emission = _number(facts.get("EmissionWavelength"))
    if (emission is not None and emission > 0) or _FLUORESCENT.search(dye) or _FLUORESCENT.search(label):
        return True
    illumination = facts.get("IlluminationType", "").lower()
    if illumination in ("transmitted", "oblique"):
        return False
    return None


def read_scene_names(root: Element | None, s_indices: Sequence[int]) -> tuple[str, ...]:
    """Name the scenes whose S indices are given: unique, with the well's name in front where that is needed."""
    named = {}
    for scene in root.iterfind(".//Information/Image/Dimensions/S/Scenes/Scene") if root is not None else ():
        index = _number(scene.get("Index"))
        if index is not None:
            shape = scene.find("Shape")
            well = scene.findtext("ArrayName") or (shape.get("Name") if shape is not None else None)
            named[int(index)] = (scene.get("Name") or "", well or "")
    plain = [named.get(s, ("", ""))[0] or f"scene {k}" for k, s in enumerate(s_indices)]
    if len(set(plain)) == len(plain):
        return tuple(plain)
    with_well = [
        f"{well}-{name}" if well else name
        for name, well in zip(plain, (named.get(s, ("", ""))[1] for s in s_indices), strict=True)
    ]
    if len(set(with_well)) == len(with_well):
        return tuple(with_well)
    return tuple(f"{name} ({k})" for k, name in enumerate(with_well))


def read_time_positions(root: Element | None) -> tuple[float | None, tuple[float, ...] | None, str | None]:
    """Give what the T dimension says: constant interval in s, list of offsets in s, name of the attachment."""
    positions = root.find(".//Information/Image/Dimensions/T/Positions") if root is not None else None
    if positions is None:
        return None, None, None
    interval = _number(positions.findtext("Interval/Increment"))
    text = positions.findtext("List/Offsets")
    offsets = tuple(_number(word) for word in text.split()) if text else None
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
    """Give the acquisition time in a sub-block's metadata XML as seconds since 1970; None where it has none."""
    if b"Time" not in raw:
        return None
    root = parse_xml(raw)
    for tag in ("AcquisitionTime", "StartTime"):
        text = root.findtext(f".//Tags/{tag}") if root is not None else None
        if text:
            try:
                return datetime.fromisoformat(text.strip()).timestamp()
            except (ValueError, OverflowError, OSError):
                continue
    return None


def choose_times(
    candidates: Mapping[TimesOrigin, TimesTable], *, n_frames: Sequence[int]
) -> tuple[TimesOrigin, TimesTable, tuple[str, ...]]:
    """Choose the most specific times that cover every scene, and say where the others disagree.

    Parameters
    ----------
    candidates
        For each form of times that the file has, times per scene in seconds since the scene's first frame (NaN for
        a frame that the file lacks).
    n_frames
        Number of frames of each scene.

    Returns
    -------
    origin
        Which form was chosen, ``TimesOrigin.NONE`` where none is sound.
    times
        Its times; empty with ``NONE``.
    notes
        Forms that were set aside, disagreements, and the warning that a constant interval is an assumption.
    """
    notes: list[str] = []
    sound: dict[TimesOrigin, TimesTable] = {}
    for origin in (TimesOrigin.SUBBLOCK, TimesOrigin.ATTACHMENT, TimesOrigin.OFFSETS, TimesOrigin.INTERVAL):
        table = candidates.get(origin)
        if table is None:
            continue
        if any(len(table.get(scene, ())) != n for scene, n in enumerate(n_frames)):
            notes.append(f"times ({origin.value}) do not cover every frame and are set aside")
        elif not all(_rises(table[scene]) for scene in range(len(n_frames))):
            notes.append(f"times ({origin.value}) do not rise from frame to frame and are set aside")
        else:
            sound[origin] = table
    if not sound:
        return TimesOrigin.NONE, {}, tuple(notes)
    chosen = next(iter(sound))
    for other in list(sound)[1:]:
        largest, step = 0.0, math.inf
        for scene in range(len(n_frames)):
            ours, theirs = sound[chosen][scene], sound[other][scene]
            largest = max([largest, *(abs(a - b) for a, b in zip(ours, theirs, strict=True) if a == a and b == b)])
            known = [value for value in ours if value == value]
            if len(known) > 1:
                step = min(step, (known[-1] - known[0]) / (len(known) - 1))
        if largest > 0.05 * step:
            notes.append(f"times: {chosen.value} used; {other.value} differs from it by up to {largest:.3g} s")
    if chosen is TimesOrigin.INTERVAL and max(n_frames) > 1:
        notes.append("times are a constant interval as planned, not as measured")
    return chosen, sound[chosen], tuple(notes)


def since_first(times: Sequence[float | None]) -> tuple[float, ...]:
    """Times relative to the first one that is known; NaN where unknown."""
    first = next((value for value in times if value is not None), 0.0)
    # whole microseconds: the stamps have no more, and subtraction leaves crumbs
    return tuple(math.nan if value is None else round(value - first, 6) for value in times)


def _rises(times: Sequence[float]) -> bool:
    known = [value for value in times if value == value]
    return bool(known) and all(a < b for a, b in zip(known, known[1:], strict=False))


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
