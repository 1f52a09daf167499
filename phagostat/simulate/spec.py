"""What is to be simulated."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from phagostat.model.errors import SettingsError
from phagostat.simulate.ranges import PRESETS, SceneParameters, draw_parameters
from phagostat.simulate.scenarios import Scenario, SceneOverrides, overrides_of

AGGREGATES_CHANNEL = 0
CELLS_CHANNEL = 1
CHANNEL_NAMES = ("mCherry", "PhC")


class Mode(StrEnum):
    """Where cells and aggregates come from."""

    SYNTHETIC = "synthetic"
    SEMI = "semi"


@dataclass(frozen=True, kw_only=True)
class SimulationSpec:
    """Everything that determines an acquisition's pixels and its truth.

    Parameters
    ----------
    preset
        Ranges that the scenes draw their parameters from: ``easy``, ``default`` or ``hard``.
    mode
        ``synthetic``, or ``semi`` for real aggregates and cells moved over real background.
    seed
        The same seed gives the same pixels.
    scenes, frames
        How many scenes, and frames in each.
    shape_yx
        Height and width of a plane in native px, at least 64 and a multiple of ``reduction``.
    pixel_size_um
        Native pixel size.
    reduction
        Integer factor between the native and the analysis grid.
    interval_s
        Time between frames.
    scenario
        What is set instead of drawn, for all scenes or scene by scene.
    data
        Folder of real microscopy (``microglia/``, ``phase-contrast/``), for ``semi``.

    Raises
    ------
    SettingsError
        If a value makes no sense.
    """

    preset: str = "default"
    mode: Mode = Mode.SYNTHETIC
    seed: int = 0
    scenes: int = 2
    frames: int = 20
    shape_yx: tuple[int, int] = (512, 512)
    pixel_size_um: float = 0.103
    reduction: int = 2
    interval_s: float = 120.0
    scenario: Scenario | None = None
    data: Path | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise SettingsError(
                "there is no such preset", found=self.preset, remedy=f"choose one of {', '.join(PRESETS)}"
            )
        if self.mode not in tuple(Mode):
            raise SettingsError("there is no such mode", found=self.mode, remedy=f"choose one of {', '.join(Mode)}")
        object.__setattr__(self, "mode", Mode(self.mode))
        for name, least in (("scenes", 1), ("frames", 1), ("reduction", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}", found=getattr(self, name))
        for name in ("pixel_size_um", "interval_s"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise SettingsError(f"{name} must be positive", found=getattr(self, name))
        for scene in range(self.scenes):
            shape = self.scene_shape_yx(scene)
            if min(shape) < 64 or any(size % self.reduction for size in shape):
                raise SettingsError(
                    f"a plane must be at least 64 px high and wide, in multiples of {self.reduction}", found=shape
                )

    def overrides(self, scene: int) -> SceneOverrides:
        """Give what is set instead of drawn for ``scene``."""
        return overrides_of(self.scenario, scene)

    def parameters(self, scene: int) -> SceneParameters:
        """Draw the parameters of ``scene``."""
        return draw_parameters(preset=self.preset, seed=self.seed, scene=scene, given=self.overrides(scene).parameters)

    def n_frames(self, scene: int) -> int:
        """Number of frames of ``scene``."""
        return self.overrides(scene).n_frames or self.frames

    def scene_shape_yx(self, scene: int) -> tuple[int, int]:
        """Height and width of the planes of ``scene`` in native px."""
        return self.overrides(scene).shape_yx or self.shape_yx

    def random(self, scene: int, *key: int) -> np.random.Generator:
        """Give the random stream of one purpose (and frame) of one scene, independent of all others."""
        return np.random.default_rng([self.seed, scene, *key])
