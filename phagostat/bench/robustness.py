"""What happens to a field in an experiment: aggregates eaten or moved, noise, fading, blur, borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from phagostat.bench.border import blackened
from phagostat.bench.camera import Camera, Counts, rounding_camera
from phagostat.bench.glass import Glass, Image
from phagostat.bench.noise import COUNTS_PER_ELECTRON, OFFSET_COUNTS, READ_NOISE_COUNTS
from phagostat.bench.plan import DEFAULT_METHOD, Plan, Report, search_radius_px
from phagostat.bench.spots import SpotGlass
from phagostat.bench.trials import Figures, Trial, accuracy, as_row, attempt, of
from phagostat.kernels.translation import prepare_reference

_SHARE, _FEWEST = 40, 5
_SLOW_SHARE = 25
_MOVED_PX = 30.0  # sd of the step of an aggregate that was pushed, px
_BRIGHT_QUANTILE = 0.995

Shift = tuple[float, float]


@dataclass(frozen=True)
class Field:
    """A glass, its camera, and what noise and offsets are measured by: the counts of its brightest aggregates."""

    glass: Glass
    camera: Camera
    bright_counts: float

    @classmethod
    def of(cls, glass: Glass) -> Field:
        """Give a simulated glass a camera with noise, and a picture (which has its own noise) one that rounds."""
        bright = float(np.quantile(glass.frame()[::2, ::2], _BRIGHT_QUANTILE))
        if isinstance(glass, SpotGlass):
            camera = Camera(glass.white_counts, COUNTS_PER_ELECTRON, READ_NOISE_COUNTS, OFFSET_COUNTS)
            return cls(glass, camera, bright)
        return cls(glass, rounding_camera(glass), bright)

    def record(self, clean: Image, random: np.random.Generator) -> Counts:
        """Record a frame with noise of its own."""
        return self.camera.record(clean, random)


Condition = Callable[[Field, Shift, np.random.Generator], Counts]


def _chosen(glass: Glass, share: float, random: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return random.permutation(glass.n_aggregates)[: round(share * glass.n_aggregates)]


def removed(share: float) -> Condition:
    """Take this share of the aggregates away."""

    def make(field: Field, shift: Shift, random: np.random.Generator) -> Counts:
        return field.record(field.glass.without(_chosen(field.glass, share, random)).frame(shift), random)

    return make


def pushed(share: float) -> Condition:
    """Move this share of the aggregates, each by a random step."""

    def make(field: Field, shift: Shift, random: np.random.Generator) -> Counts:
        which = _chosen(field.glass, share, random)
        steps = random.normal(0.0, _MOVED_PX, (len(which), 2))
        return field.record(field.glass.moved(which, steps).frame(shift), random)

    return make


def noisy(fraction: float) -> Condition:
    """Add white noise with an sd of this fraction of a bright aggregate's counts."""

    def make(field: Field, shift: Shift, random: np.random.Generator) -> Counts:
        clean = field.glass.frame(shift)
        clean += np.float32(fraction * field.bright_counts) * random.standard_normal(clean.shape, dtype=np.float32)
        return field.record(clean, random)

    return make


def faded(factor: float) -> Condition:
    """Leave so much of the light."""

    def make(field: Field, shift: Shift, random: np.random.Generator) -> Counts:
        return field.record(field.glass.frame(shift) * np.float32(factor), random)

    return make


def blurred(sigma_px: float) -> Condition:
    """Go out of focus."""

    def make(field: Field, shift: Shift, random: np.random.Generator) -> Counts:
        return field.record(field.glass.blurred(sigma_px).frame(shift), random)

    return make


def as_it_is(field: Field, shift: Shift, random: np.random.Generator) -> Counts:
    """Shift it, and nothing else."""
    return field.record(field.glass.frame(shift), random)


def furthest(field: Field, shift: Shift, random: np.random.Generator) -> Counts:
    """Shift it as far as the test goes along both axes: 36 % of the frame is new."""
    del shift
    return field.record(field.glass.frame(furthest_shift(field, random)), random)


def furthest_shift(field: Field, random: np.random.Generator) -> Shift:
    """Give the shift into a corner that `furthest` makes of a random stream."""
    y, x = np.copysign(0.2 * field.glass.side_px, random.uniform(-1, 1, 2)) + random.uniform(-0.5, 0.5, 2)
    limit = 0.2 * field.glass.side_px
    return float(np.clip(y, -limit, limit)), float(np.clip(x, -limit, limit))


def blank_border(fraction: float) -> Condition:
    """Leave black what the reference did not show, and lay an offset over what it did, as warped frames have it."""

    def make(field: Field, shift: Shift, random: np.random.Generator) -> Counts:
        clean = field.glass.frame(shift) + np.float32(fraction * field.bright_counts)
        return blackened(field.record(clean, random), shift)

    return make


CONDITIONS: dict[str, Condition] = {
    "as it is": as_it_is,
    "30 % of aggregates removed": removed(0.3),
    "60 % of aggregates removed": removed(0.6),
    "90 % of aggregates removed": removed(0.9),
    "30 % of aggregates moved": pushed(0.3),
    "60 % of aggregates moved": pushed(0.6),
    "noise, sd 4 % of bright": noisy(0.04),
    "noise, sd 12 % of bright": noisy(0.12),
    "faded to a half": faded(0.5),
    "faded to a fifth": faded(0.2),
    "blur, sigma 1 px": blurred(1.0),
    "blur, sigma 2 px": blurred(2.0),
    "blur, sigma 3 px": blurred(3.0),
    "36 % new at the border": furthest,
    "blank border, offset 20 %": blank_border(0.2),
}


HARDEST = ("90 % of aggregates removed",)
"""Conditions in which a refusal is right: what is left may be too little."""


def run_robustness(plan: Plan, report: Report, *, conditions: Sequence[str] = tuple(CONDITIONS)) -> Figures:
    """Register fields that have changed, at random shifts.

    Returns
    -------
    dict
        Rows of field, condition and method with the figures of :func:`accuracy`; all trials.

    Notes
    -----
    The default method meets the reference picture and a simulated field at full size; all methods meet the picture at
    half of it (the real frame's own grid, if the size is that of the paper), where the slow ones are not as slow.
    """
    half = plan.side_px // 2
    fields = [(Field.of(plan.glass()), (DEFAULT_METHOD,)), (Field.of(plan.glass(side_px=half)), plan.methods)]
    if plan.reference is not None:
        fields.insert(1, (Field.of(SpotGlass.draw(side_px=plan.side_px, seed=plan.seed)), (DEFAULT_METHOD,)))
    n = min(plan.n, max(_FEWEST, plan.n // _SHARE))
    n_slow = max(1, plan.n_slow // _SLOW_SHARE)
    total = n * len(conditions) * len(fields)
    done, trials, rows = 0, list[Trial](), list[Figures]()
    for number, (field, wanted) in enumerate(fields):
        side = field.glass.side_px
        radius = search_radius_px(side)
        name = f"{field.glass.name}, {side} px"
        reference = prepare_reference(
            field.record(field.glass.frame(), plan.random("robustness", number)), search_radius_px=radius
        )
        for condition in conditions:
            case = f"{name}: {condition}"
            for index in range(n):
                report(done, total, "changed fields")
                done += 1
                methods = [m for m in wanted if m in plan.methods and index < plan.count(m, n, n_slow)]
                if not methods:
                    continue
                key = (number, list(CONDITIONS).index(condition), index)
                limit = 0.2 * side
                shift_y, shift_x = (float(v) for v in plan.random("robustness", *key, 0).uniform(-limit, limit, 2))
                moving = CONDITIONS[condition](field, (shift_y, shift_x), plan.random("robustness", *key, 1))
                if condition == "36 % new at the border":
                    shift_y, shift_x = furthest_shift(field, plan.random("robustness", *key, 1))
                trials += [
                    attempt(
                        reference, moving, method=method, case=case, index=index, search_radius_px=radius,
                        true_yx_px=(shift_y, shift_x),
                    )
                    for method in methods
                ]  # fmt: skip
            rows += [
                {"field": name, "condition": condition, "method": method} | accuracy(found)
                for method in wanted
                if (found := of(trials, case=case, method=method))
            ]
    report(total, total, "changed fields")
    return {"rows": rows, "trials": [as_row(trial) for trial in trials]}
