"""What a CZI's metadata XML says: pixel size, channels, scene names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element

from phagostat.model.acquisition import Channel
from phagostat.model.errors import MetadataError
from phagostat.sources.channel_light import is_fluorescent
from phagostat.sources.metadata_xml import parse_number

UM_PER_M: Final = 1e6
SQUARE_TOLERANCE: Final = 1e-3
"""Relative difference of pixel width and height up to which pixels are taken as square."""


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
