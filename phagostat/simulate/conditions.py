"""What stage, focus, lamp and dye do over time: one value per frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.ranges import SceneParameters
from phagostat.simulate.scenarios import SceneOverrides

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Conditions:
    """State of the microscope in every frame (F frames).

    Parameters
    ----------
    time_s
        (F,) time since the first frame.
    shift_yx_px
        (F, 2) shift in native px: what stands at p on the glass stands at p + shift in the frame.
    defocus_px
        (F,) sigma of the defocus in px of the analysis grid.
    bleaching
        (F,) fraction of the fluorescence of frame 0 that is left.
    illumination
        (F, 2) relative brightness of the lamp for each channel.
    gradient_yx
        (F, 2) relative tilt of the lamp's field from the centre to the border.
    """

    time_s: Floats
    shift_yx_px: Floats
    defocus_px: Floats
    bleaching: Floats
    illumination: Floats
    gradient_yx: Floats


def draw_conditions(
    *,
    n_frames: int,
    interval_s: float,
    shape_yx: tuple[int, int],
    parameters: SceneParameters,
    overrides: SceneOverrides,
    random: np.random.Generator,
) -> Conditions:
    """Draw what stage, focus, lamp and dye do, and set what ``overrides`` says."""
    shift_random, focus_random, light_random = random.spawn(3)
    shifts = np.zeros((n_frames, 2))
    if not overrides.no_random_shifts:
        shifts = _draw_shifts(n_frames, min(shape_yx), parameters, shift_random)
    for frame, jump in overrides.jumps_yx_px.items():
        shifts[frame:] += jump
    for frame, shift in overrides.shifts_yx_px.items():
        if frame < n_frames:
            shifts[frame] = shift

    defocus = parameters.focus_jitter_apx * focus_random.uniform(0.0, 1.0, n_frames)
    if not overrides.no_random_blur:
        defocus = np.maximum(defocus, _draw_blur(n_frames, parameters, focus_random))
    _set(defocus, overrides.defocus_px)

    progress = np.linspace(0.0, 1.0, n_frames) if n_frames > 1 else np.zeros(1)
    bleaching = (1.0 - parameters.bleaching_loss) ** progress
    _set(bleaching, overrides.bleaching)
    illumination = np.ones((n_frames, 2))
    for channel in range(2):
        phase, cycles = light_random.uniform(0.0, 2 * np.pi), light_random.uniform(0.3, 1.5)
        wave = np.sin(2 * np.pi * cycles * progress + phase) - np.sin(phase)
        flicker = parameters.illumination_flicker * light_random.standard_normal(n_frames)
        illumination[:, channel] += parameters.illumination_drift * wave / 2 + flicker
        _set(illumination[:, channel], overrides.illumination)
    angle, cycles = light_random.uniform(0.0, 2 * np.pi), light_random.uniform(0.3, 1.5)
    tilt = parameters.lamp_gradient_drift * np.sin(2 * np.pi * cycles * progress)
    gradient = tilt[:, None] * np.array([np.sin(angle), np.cos(angle)])
    times = np.arange(n_frames, dtype=np.float64) * interval_s
    return Conditions(times, shifts, np.asarray(defocus, dtype=np.float64), bleaching, illumination, gradient)


def _set(series: Floats, given: Mapping[int, float]) -> None:
    for frame, value in given.items():
        if frame < len(series):
            series[frame] = value


def _draw_shifts(n_frames: int, shorter_side: int, parameters: SceneParameters, random: np.random.Generator) -> Floats:
    limit = min(parameters.max_excursion_px, parameters.max_excursion_fraction * shorter_side)
    scale = min(1.0, limit / 100.0)  # the same events in a small field, in proportion
    angle = random.uniform(0.0, 2 * np.pi) + np.cumsum(random.normal(0.0, 0.15, n_frames))
    steps = np.stack([np.sin(angle), np.cos(angle)], axis=1) * parameters.drift_px * scale / max(n_frames - 1, 1)
    steps += parameters.drift_wander_px * scale * random.standard_normal((n_frames, 2))
    n_jumps = min(int(parameters.n_jumps), max(n_frames - 1, 0))
    if n_jumps:
        frames = random.choice(np.arange(1, n_frames), size=n_jumps, replace=False)
        for frame in frames:
            direction = random.uniform(0.0, 2 * np.pi)
            length = min(parameters.jump_px * random.uniform(0.5, 1.0), limit)
            steps[frame] += length * np.array([np.sin(direction), np.cos(direction)])
    path = np.cumsum(steps, axis=0)
    # the path is folded into an interval as wide as the limit, so that any two frames overlap enough to be compared
    low = -random.uniform(0.2, 0.8, 2) * limit
    folded = np.abs((path - low) % (2 * limit) - limit) if limit > 0 else path
    path = low + (limit - folded) if limit > 0 else path
    return np.asarray(path + parameters.jitter_px * random.standard_normal((n_frames, 2)))


def _draw_blur(n_frames: int, parameters: SceneParameters, random: np.random.Generator) -> Floats:
    """Blur episodes: one in three at the start, one in three at the end, at most a share of the movie long."""
    defocus = np.zeros(n_frames)
    longest = max(1.0, min(parameters.blur_longest_frames, parameters.blur_length_max_fraction * n_frames))
    for _ in range(int(parameters.n_blur_episodes)):
        length = round(float(np.exp(random.uniform(0.0, np.log(longest)))))
        peak = parameters.blur_peak_apx * random.uniform(0.8, 1.2)
        place = random.integers(3)
        start = (0, int(random.integers(0, max(n_frames - length, 0) + 1)), n_frames - length)[place]
        profile = np.ones(length)
        if random.uniform() < parameters.blur_ramp_probability and length > 2:
            ramp = np.linspace(0.0, 1.0, length // 2 + 2)[1:-1]
            profile[: len(ramp)] = ramp
            profile[length - len(ramp) :] = ramp[::-1]
        stop = min(start + length, n_frames)
        defocus[start:stop] = np.maximum(defocus[start:stop], peak * profile[: stop - start])
    return defocus
