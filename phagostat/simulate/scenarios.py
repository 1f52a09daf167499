"""Named situations for tests: what is to happen to a scene, instead of what it would have drawn.

Scenarios are combined with ``|``; what the right one says wins.

Examples
--------
>>> calm() | blurred_burst(5, 3, sigma_px=4.0) | stage_jump(8, (40.0, -25.5))  # doctest: +ELLIPSIS
SceneOverrides(...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType

PerFrame = Mapping[int, float] | Sequence[float]
_NOTHING: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True)
class SceneOverrides:
    """What is set instead of drawn for a scene.

    Parameters
    ----------
    parameters
        Drawn parameters by name (see ``ranges.toml``), such as ``{"edible_fraction": 0.0}``.
    shifts_yx_px
        Absolute (y, x) shift in native px of some frames, whatever drift and jumps say.
    jumps_yx_px
        (y, x) by which the stage jumps before a frame and stays.
    defocus_px
        Sigma of the defocus in px of the analysis grid, for some frames.
    bleaching
        Fraction of the first frame's fluorescence that is left, for some frames.
    illumination
        Relative brightness of the lamp in both channels, for some frames.
    black_frames
        Frames in which the shutter stayed closed: offset and noise of the camera only.
    constant_frames
        Frames in which every pixel has one value (a failed transfer).
    saturated_frames
        Frames in which every pixel has the largest value.
    missing_planes
        (frame, channel) pairs that are never written.
    n_frames
        Number of frames, where it differs from the acquisition's.
    shape_yx
        Shape of the planes in native px, where it differs from the acquisition's.
    no_random_shifts
        No drift, jitter or jumps but those that are set.
    no_random_blur
        No blur episodes but those that are set.
    """

    parameters: Mapping[str, float] = field(default_factory=dict)
    shifts_yx_px: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    jumps_yx_px: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    defocus_px: Mapping[int, float] = field(default_factory=dict)
    bleaching: Mapping[int, float] = field(default_factory=dict)
    illumination: Mapping[int, float] = field(default_factory=dict)
    black_frames: frozenset[int] = frozenset()
    constant_frames: frozenset[int] = frozenset()
    saturated_frames: frozenset[int] = frozenset()
    missing_planes: frozenset[tuple[int, int]] = frozenset()
    n_frames: int | None = None
    shape_yx: tuple[int, int] | None = None
    no_random_shifts: bool = False
    no_random_blur: bool = False

    def __or__(self, other: SceneOverrides) -> SceneOverrides:
        """Both together; where they contradict each other, ``other`` holds."""
        merged: dict[str, object] = {}
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, Mapping):
                merged[item.name] = {**mine, **theirs}
            elif isinstance(mine, frozenset):
                merged[item.name] = mine | theirs
            elif isinstance(mine, bool):
                merged[item.name] = mine or theirs
            else:
                merged[item.name] = mine if theirs is None else theirs
        return SceneOverrides(**merged)  # type: ignore[arg-type]


Scenario = SceneOverrides | Mapping[int, SceneOverrides]


def overrides_of(scenario: Scenario | None, scene: int) -> SceneOverrides:
    """Give what a scenario says of one scene: a single one holds for all scenes, a mapping for those it names."""
    if scenario is None:
        return SceneOverrides()
    if isinstance(scenario, SceneOverrides):
        return scenario
    return scenario.get(scene, SceneOverrides())


def calm() -> SceneOverrides:
    """Nothing happens by chance: no shifts, no blur, no bleaching, no change of light. Cells still move and eat."""
    still = {
        "focus_jitter_apx": 0.0, "bleaching_loss": 0.0, "illumination_drift": 0.0, "illumination_flicker": 0.0,
        "vignette": 0.0, "fluorescence_vignette": 0.0, "lamp_gradient_drift": 0.0, "detached_fraction": 0.0,
        "pushed_fraction": 0.0, "merging_fraction": 0.0, "unfocused_fraction": 0.0,
    }  # fmt: skip
    return SceneOverrides(parameters=still, no_random_shifts=True, no_random_blur=True)


def no_uptake() -> SceneOverrides:
    """No aggregate is eaten or carried off."""
    return SceneOverrides(parameters={"edible_fraction": 0.0})


def blurred_burst(start: int, length: int, *, sigma_px: float = 3.0, ramp: bool = False) -> SceneOverrides:
    """A blur episode.

    Parameters
    ----------
    start
        Its first frame.
    length
        Its number of frames.
    sigma_px
        Defocus in px of the analysis grid, at its peak.
    ramp
        Whether the focus goes and comes gradually, or at once.
    """
    if not ramp:
        return SceneOverrides(defocus_px={start + i: sigma_px for i in range(length)}, no_random_blur=True)
    middle = (length + 1) / 2
    return SceneOverrides(
        defocus_px={start + i: sigma_px * (1 - abs(i + 1 - middle) / middle) for i in range(length)},
        no_random_blur=True,
    )


def stage_jump(frame: int, shift_yx_px: tuple[float, float]) -> SceneOverrides:
    """The stage jumps by ``shift_yx_px`` (native px) before ``frame`` and stays there."""
    return SceneOverrides(jumps_yx_px={frame: shift_yx_px}, no_random_shifts=True)


def stage_path(shifts_yx_px: Sequence[tuple[float, float]]) -> SceneOverrides:
    """Every frame's absolute (y, x) shift in native px."""
    return SceneOverrides(shifts_yx_px=dict(enumerate(shifts_yx_px)), no_random_shifts=True)


def black_frame(frame: int) -> SceneOverrides:
    """The shutter stays closed in one frame."""
    return SceneOverrides(black_frames=frozenset({frame}))


def constant_frame(frame: int) -> SceneOverrides:
    """One frame has the same value everywhere."""
    return SceneOverrides(constant_frames=frozenset({frame}))


def saturated_frame(frame: int) -> SceneOverrides:
    """One frame is overexposed everywhere."""
    return SceneOverrides(saturated_frames=frozenset({frame}))


def missing_frame(frame: int) -> SceneOverrides:
    """Neither channel of one frame is ever written."""
    return SceneOverrides(missing_planes=frozenset({(frame, 0), (frame, 1)}))


def missing_plane(frame: int, channel: int) -> SceneOverrides:
    """One channel of one frame is never written."""
    return SceneOverrides(missing_planes=frozenset({(frame, channel)}))


def steady_bleaching(loss: float, n_frames: int) -> SceneOverrides:
    """The fluorescence falls exponentially to ``1 - loss`` of the first frame's at the last of ``n_frames``."""
    last = max(n_frames - 1, 1)
    return SceneOverrides(bleaching={frame: (1.0 - loss) ** (frame / last) for frame in range(n_frames)})
