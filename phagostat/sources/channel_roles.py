"""From what a source says of itself, and what its user adds, to what processing needs.

Nothing is guessed: what the metadata do not say clearly is asked for, with the choices shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from phagostat.model.acquisition import Acquisition, AcquisitionMetadata, Channel, ChannelRole, Scene, TimesOrigin
from phagostat.model.errors import MetadataError

_ROLE_NAMES: Final = {
    ChannelRole.AGGREGATES: re.compile(r"(?i)\baggregates?\b"),
    ChannelRole.CELLS: re.compile(r"(?i)\bcells?\b"),
}


def resolve(
    metadata: AcquisitionMetadata,
    *,
    aggregates: int | None = None,
    cells: int | None = None,
    pixel_size_um: float | None = None,
    interval_s: float | None = None,
    analysis_pixel_size_um: float = 0.206,
    require_roles: bool = True,
    require_times: bool = True,
    min_frames: int = 2,
) -> Acquisition:
    """Complete an acquisition's metadata with its user's overrides, or say what is missing.

    Parameters
    ----------
    metadata
        What the source says.
    aggregates, cells
        Channel index of each role; None takes it from names and metadata where these are clear.
    pixel_size_um
        Native pixel size in um, in place of the source's.
    interval_s
        Time between frames in s, in place of the source's times.
    analysis_pixel_size_um
        Pixel size in um that the analysis grid should come near to.
    require_roles, require_times
        Whether a channel for each role, and times, must be known.
    min_frames
        Frames that at least one scene must have.

    Returns
    -------
    Acquisition
        With ``reduction``, the integer nearest to ``analysis_pixel_size_um / pixel_size_um``, at least 1. Where only
        cells were recorded, its roles are those of the cells alone: one channel that is called so, shows transmitted
        light or is given as ``cells``; or ``cells`` is given and all other channels show transmitted light.

    Raises
    ------
    MetadataError
        If something is missing or an override does not fit; all that is missing is named at once.
    """
    where = metadata.path
    for option, value in (
        ("--pixel-size-um", pixel_size_um),
        ("--interval-s", interval_s),
        ("analysis_pixel_size_um", analysis_pixel_size_um),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise MetadataError(f"{option} must be a positive number", where=where, found=value)
    if max((scene.n_frames for scene in metadata.scenes), default=0) < min_frames:
        raise MetadataError(
            "not a time-lapse: no scene has enough frames",
            where=where,
            found=", ".join(f"{scene.name}: {scene.n_frames}" for scene in metadata.scenes) or "no scenes",
            remedy=f"give an acquisition with at least {min_frames} time points, or add --set acquisition.min_frames=1",
        )
    overrides = {ChannelRole.AGGREGATES: aggregates, ChannelRole.CELLS: cells}
    roles = _resolve_roles(metadata, overrides, required=require_roles)
    missing: list[tuple[str, str]] = []
    if require_roles and not (len(roles) == len(ChannelRole) or _cells_alone(metadata.channels, roles, cells)):
        if len(metadata.channels) == 1:
            missing.append(("whether its one channel shows cells", "--cells 0"))
        else:
            missing.append(("which channel shows the aggregates and which the cells", _role_choices(metadata, roles)))
    size_um = pixel_size_um if pixel_size_um is not None else metadata.pixel_size_um
    if size_um is None:
        missing.append(("the pixel size", "--pixel-size-um SIZE"))
    scenes, origin = metadata.scenes, metadata.times_origin
    if interval_s is not None:
        scenes = tuple(_with_interval(scene, interval_s) for scene in scenes)
        origin = TimesOrigin.GIVEN
    elif require_times and any(scene.times_s is None for scene in scenes):
        missing.append(("the times of its frames", "--interval-s SECONDS"))
    if missing or size_um is None:
        raise MetadataError(
            "its metadata do not say clearly " + " nor ".join(what for what, _ in missing),
            where=where,
            found="channels " + _channel_list(metadata.channels),
            remedy="add " + " ".join(option for _, option in missing),
        )
    reduction = max(1, math.floor(analysis_pixel_size_um / size_um + 0.5))
    return Acquisition(metadata, roles, size_um, scenes, origin, reduction)


def _resolve_roles(
    metadata: AcquisitionMetadata, overrides: Mapping[ChannelRole, int | None], *, required: bool
) -> dict[ChannelRole, int]:
    channels = metadata.channels
    given = {role: index for role, index in overrides.items() if index is not None}
    for role, index in given.items():
        if not 0 <= index < len(channels):
            raise MetadataError(
                f"--{role.value} names a channel that is not there",
                where=metadata.path,
                found=index,
                remedy=f"choose from {_channel_list(channels)}",
            )
    if len(set(given.values())) < len(given):
        raise MetadataError(
            "--aggregates and --cells must be two channels",
            where=metadata.path,
            found=next(iter(given.values())),
            remedy=f"choose from {_channel_list(channels)}",
        )
    if required and len(channels) == 1 and ChannelRole.CELLS not in given:
        (only,) = channels
        if ChannelRole.AGGREGATES in given or only.fluorescent:
            raise MetadataError(
                "has one channel only, where aggregates need a channel with the cells beside them",
                where=metadata.path,
                found=_channel_list(channels),
                remedy="record both channels into one file, or add --cells 0 if it shows the cells",
            )
    roles = dict(given)
    if len(given) == 1 and len(channels) == len(ChannelRole):
        # two channels, one of them named: the other is the other
        (role, index), other = next(iter(given.items())), {*ChannelRole} - set(given)
        roles[other.pop()] = 1 - index
    for role in ChannelRole:
        if role not in roles:
            clear = _clear_channel(channels, role)
            if clear is not None and clear not in roles.values():
                roles[role] = clear
    return {role: roles[role] for role in ChannelRole if role in roles}


def _clear_channel(channels: tuple[Channel, ...], role: ChannelRole) -> int | None:
    """Index of the one channel that is called after its role, else the one of its kind of light; None if unclear."""
    called = [channel.index for channel in channels if _ROLE_NAMES[role].search(channel.name.replace("_", " "))]
    if len(called) == 1:
        return called[0]
    wanted = role is ChannelRole.AGGREGATES
    kinds = [channel.index for channel in channels if channel.fluorescent is wanted]
    return kinds[0] if len(kinds) == 1 else None


def _cells_alone(channels: tuple[Channel, ...], roles: Mapping[ChannelRole, int], given: int | None) -> bool:
    """Whether cells are all that was recorded: no other channel could show aggregates."""
    if roles.keys() != {ChannelRole.CELLS}:
        return False
    others = [channel for channel in channels if channel.index != roles[ChannelRole.CELLS]]
    return not others or (given is not None and all(channel.fluorescent is False for channel in others))


def _with_interval(scene: Scene, interval_s: float) -> Scene:
    return replace(scene, times_s=tuple(frame * interval_s for frame in range(scene.n_frames)))


def _channel_list(channels: tuple[Channel, ...]) -> str:
    light = {True: " (fluorescent)", False: " (transmitted light)", None: ""}
    return ", ".join(f"{channel.index} = {channel.name}{light[channel.fluorescent]}" for channel in channels)


def _role_choices(metadata: AcquisitionMetadata, roles: Mapping[ChannelRole, int]) -> str:
    """Show options that could be given, with what is known already filled in."""
    free = [channel.index for channel in metadata.channels if channel.index not in roles.values()]
    shown = []
    for role in ChannelRole:
        index = roles[role] if role in roles else free.pop(0) if free else 0
        shown.append(f"--{role.value} {index}")
    return " ".join(shown) + (" (or the other way round)" if not roles else "")
