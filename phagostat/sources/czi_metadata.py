"""What a CZI's metadata XML says: pixel size, channels, scene names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

from phagostat.model.acquisition import Channel
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
        value = parse_number(distance.findtext("Value"))
        if value is not None and value > 0:
            sizes[distance.get("Id", "")] = value * UM_PER_M
    x, y = sizes.get("X"), sizes.get("Y")
    if x is None or y is None:
        return None
    if abs(x - y) > SQUARE_TOLERANCE * max(x, y):
        raise MetadataError(
            "pixels are not square",
            where=path,
            found=f"{x:g} um wide, {y:g} um high",
            remedy="resample the file in ZEN",
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
    emission = parse_number(facts.get("EmissionWavelength"))
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
        index = parse_number(scene.get("Index"))
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


def parse_number(text: str | None) -> float | None:
    """Parse a finite number; None for anything else."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
