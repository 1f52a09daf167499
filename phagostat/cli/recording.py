"""What a file that is being written does not say, from options or a finished file."""

from __future__ import annotations

from pathlib import Path

from phagostat import terminal
from phagostat.engine.preparation import interval_s
from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import MetadataError
from phagostat.settings import Settings
from phagostat.sources.czi_growing import Promise


def recording_of(
    settings: Settings, *, path: Path, like: Path | None, n_frames: int | None, n_scenes: int | None
) -> tuple[Promise, Settings]:
    """What a growing file will hold, and settings with what it does not say, from options or a finished file.

    Raises
    ------
    MetadataError
        If something is neither given nor known from `like`; all that is missing is named at once.
    """
    given = settings.acquisition.dict()
    n_channels = None
    if like is not None:
        model = terminal.open_as_told(like, settings)
        known = terminal.acquisition_of(model, settings)
        interval = interval_s(known.scenes[0])
        told = {"pixel_size_um": known.pixel_size_um, "interval_s": interval}
        told |= {role.value: channel for role, channel in known.roles.items()}
        given |= {name: value for name, value in told.items() if given[name] is None}
        n_frames = max(scene.n_frames for scene in known.scenes) if n_frames is None else n_frames
        n_scenes = len(known.scenes) if n_scenes is None else n_scenes
        n_channels = len(model.metadata.channels)
    roles = [given[role.value] for role in ChannelRole if given[role.value] is not None]
    missing = [
        f"--{name.replace('_', '-')}" for name in ("pixel_size_um", "interval_s", "cells") if given[name] is None
    ]
    missing += [option for option, value in (("--frames", n_frames), ("--scenes", n_scenes)) if value is None]
    if missing or n_frames is None or n_scenes is None:
        raise MetadataError(
            "a file that is being written does not say everything that is needed",
            where=path,
            found="nothing",
            remedy=f"add {' '.join(missing)}, or --like with a finished file of the same kind",
        )
    promise = Promise(n_frames, n_scenes, max(roles) + 1 if n_channels is None else n_channels)
    return promise, settings.copy(update={"acquisition": settings.acquisition.copy(update=given)})
