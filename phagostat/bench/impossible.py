"""Pairs that no shift brings together: whoever accepts one has invented a shift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from phagostat.bench.border import blackened
from phagostat.bench.camera import Camera, Counts
from phagostat.bench.glass import Glass, Image
from phagostat.bench.impossible_phase import run_impossible_phase
from phagostat.bench.noise import COUNTS_PER_ELECTRON, OFFSET_COUNTS, READ_NOISE_COUNTS
from phagostat.bench.picture import PictureGlass
from phagostat.bench.plan import DEFAULT_METHOD, Plan, Report, search_radius_px
from phagostat.bench.spots import SpotGlass
from phagostat.bench.trials import Figures, Trial, as_row, attempt, of, refusals
from phagostat.kernels.translation import prepare_reference
from phagostat.simulate.scene import SceneSimulation
from phagostat.simulate.spec import SimulationSpec

_N_SIMULATED = 4
_N_COMPARED = 2
_PICTURE = -1  # its number among the fields
_SMALLEST_SIDE_PX = 128
_PICTURE_NOISE_COUNTS = 1.5
_FOREIGN_SEED = 10_000  # far from the seeds of references
_NOISE_LEVEL = 0.3

Random = np.random.Generator


@dataclass(frozen=True)
class Reference:
    """A field that a frame is claimed to be a shift of.

    Parameters
    ----------
    glass, camera
        The field, and who records it.
    foreign
        Gives another field by number, in the counts of this one.
    other_channel
        What another channel shows, in the counts of this one.
    background_counts
        Median of the noise-free frame.
    """

    glass: Glass
    camera: Camera
    background_counts: float
    foreign: Callable[[int], Glass]
    other_channel: Callable[[], Image]

    def shifted(self, glass: Glass, random: Random) -> Counts:
        """Record a glass at a random shift."""
        limit = 0.1 * glass.side_px
        y, x = random.uniform(-limit, limit, 2)
        return self.camera.record(glass.frame((float(y), float(x))), random)


def _flat(reference: Reference, counts: float) -> Counts:
    side = reference.glass.side_px
    return Camera(reference.camera.white_counts).record(np.full((side, side), counts, np.float32))


def _noise(reference: Reference, random: Random) -> Counts:
    side = reference.glass.side_px
    frame = reference.background_counts * (
        1 + np.float32(_NOISE_LEVEL) * random.standard_normal((side, side), dtype=np.float32)
    )
    return reference.camera.record(frame, random)


def _empty(reference: Reference, random: Random) -> Counts:
    return reference.shifted(reference.glass.without(np.arange(reference.glass.n_aggregates)), random)


def _turned(degrees: float) -> Callable[[Reference, Random], Counts]:
    def make(reference: Reference, random: Random) -> Counts:
        if isinstance(reference.glass, SpotGlass):
            return reference.shifted(reference.glass.turned(degrees), random)
        import cv2  # noqa: PLC0415 - a picture alone is resampled, and here nothing has to be exact

        side = reference.glass.side_px
        matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
        matrix[:, 2] += random.uniform(-0.1, 0.1, 2) * side
        frame = cv2.warpAffine(
            reference.glass.frame(), matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        return reference.camera.record(np.asarray(frame, np.float32), random)

    return make


def _flipped(flip: Callable[[Counts], Counts]) -> Callable[[Reference, Random], Counts]:
    """Flip a shifted frame.

    What comes in where a picture ends is its mirror image, which would be the truth again once it is flipped: a
    picture is flipped as it is, then shifted with black behind it.
    """

    def make(reference: Reference, random: Random) -> Counts:
        if isinstance(reference.glass, SpotGlass):
            return flip(reference.shifted(reference.glass, random)).copy()
        frame = flip(reference.camera.record(reference.glass.frame(), random))
        limit = reference.glass.side_px // 10
        shift = random.integers(-limit, limit + 1, 2)
        return blackened(np.roll(frame, shift, (0, 1)), (float(shift[0]), float(shift[1])))

    return make


def _scattered(reference: Reference, random: Random) -> Counts:
    """Put every aggregate somewhere else: the same shapes, another field."""
    glass = reference.glass
    which = np.arange(glass.n_aggregates)
    return reference.shifted(glass.moved(which, random.normal(0, glass.side_px / 6, (len(which), 2))), random)


def _foreign(reference: Reference, random: Random) -> Counts:
    return reference.shifted(reference.foreign(int(random.integers(3))), random)


KINDS: dict[str, Callable[[Reference, Random], Counts]] = {
    "black": lambda reference, _: _flat(reference, 0.0),
    "constant": lambda reference, _: _flat(reference, reference.background_counts),
    "saturated": lambda reference, _: _flat(reference, reference.camera.white_counts),
    "pure noise": _noise,
    "empty field": _empty,
    "turned by 10 degrees": _turned(10.0),
    "turned by 90 degrees": _flipped(lambda frame: frame.T[::-1]),
    "turned by 180 degrees": _flipped(lambda frame: frame[::-1, ::-1]),
    "mirrored": _flipped(lambda frame: frame[:, ::-1]),
    "every aggregate elsewhere": _scattered,
    "foreign field": _foreign,
    "other channel": lambda reference, random: reference.camera.record(reference.other_channel(), random),
    "blur, sigma 8 px": lambda r, random: r.shifted(r.glass.blurred(8.0), random),
    "blur, sigma 12 px": lambda r, random: r.shifted(r.glass.blurred(12.0), random),
}


def run_impossible(plan: Plan, report: Report) -> Figures:
    """Claim of at least `plan.n` frames that they are shifts of fields that they are not.

    Returns
    -------
    dict
        For each method and kind the number of pairs, of shifts that were accepted, and reasons for refusals with how
        often they were given; all trials; ``phase_contrast``: the same for the method of that channel.

    Notes
    -----
    Fields are the reference picture and four simulated ones, of the full side, half and a quarter of it. Methods to
    compare with meet a pair of each kind of the first two fields at the smallest side.
    """
    sides = [side for by in (1, 2, 4) if (side := plan.side_px // by) >= _SMALLEST_SIDE_PX]
    fields = [*([] if plan.reference is None else [_PICTURE]), *range(_N_SIMULATED)]
    places, compared = _places(plan, sides, fields)
    trials: list[Trial] = []
    prepared, at = None, (0, 0)
    for done, place in enumerate(places):
        report(done, len(places), "impossible pairs")
        side, field, kind, repeat = place
        if prepared is None or at != (side, field):
            at, shown = (side, field), _reference(plan, side, field)
            frame = shown.camera.record(shown.glass.frame(), plan.random("impossible", side, field + 1))
            prepared = prepare_reference(frame, search_radius_px=search_radius_px(side))
        random = plan.random("impossible", side, field + 1, kind, repeat)
        name = list(KINDS)[kind]
        moving = KINDS[name](shown, random)
        trials += [
            attempt(prepared, moving, method=method, case=name, index=done, search_radius_px=search_radius_px(side))
            for method in plan.methods
            if method == DEFAULT_METHOD or place in compared
        ]
    report(len(places), len(places), "impossible pairs")
    return {
        "sides_px": sides,
        "methods": {method: refusals(of(trials, method=method), list(KINDS)) for method in plan.methods},
        "phase_contrast": run_impossible_phase(plan, report),
        "trials": [as_row(trial) for trial in trials],
    }


Place = tuple[int, int, int, int]


def _places(plan: Plan, sides: list[int], fields: list[int]) -> tuple[list[Place], set[Place]]:
    """Give (side, field, kind, repeat) of all pairs, in an order that prepares every reference once.

    The second is what methods to compare with meet as well.
    """
    kinds = range(len(KINDS))
    repeats = max(1, -(-plan.n // (len(sides) * len(fields) * len(KINDS))))
    places = [(side, field, kind, r) for side in sides for field in fields for kind in kinds for r in range(repeats)]
    if len(places) > plan.n and repeats == 1:
        chosen = plan.random("impossible").permutation(len(places))[: plan.n]
        places = [places[i] for i in sorted(chosen)]
    compared = [(sides[-1], field, kind, 0) for field in fields[:_N_COMPARED] for kind in kinds][: plan.n_slow]
    if plan.methods == (DEFAULT_METHOD,):
        compared = []
    return sorted({*places, *compared}, key=lambda place: (-place[0], *place[1:])), set(compared)


def _reference(plan: Plan, side_px: int, field: int) -> Reference:
    """Give a field by its number."""
    if field != _PICTURE or plan.reference is None:
        glass = SpotGlass.draw(side_px=side_px, seed=plan.seed + field)
        camera = Camera(glass.white_counts, COUNTS_PER_ELECTRON, READ_NOISE_COUNTS, OFFSET_COUNTS)
        return Reference(
            glass,
            camera,
            glass.glow_counts,
            cache(lambda number: SpotGlass.draw(side_px=side_px, seed=plan.seed + _FOREIGN_SEED + number)),
            cache(lambda: _other_channel(plan, side_px)),
        )
    picture = PictureGlass.read(plan.reference, side_px)
    frame = picture.frame()
    low, high = float(np.median(frame)), float(np.quantile(frame, 0.99))

    @cache
    def foreign(number: int) -> Glass:
        glass = SpotGlass.draw(side_px=side_px, seed=plan.seed + _FOREIGN_SEED + number)
        theirs = glass.frame()
        factor = (high - low) / max(float(np.quantile(theirs, 0.99)) - glass.glow_counts, 1.0)
        return glass.dimmed(factor)

    @cache
    def other() -> Image:
        seen = _other_channel(plan, side_px)
        return np.asarray(seen * np.float32(127.0 / max(float(np.median(seen)), 1.0)), np.float32)

    return Reference(picture, Camera(picture.white_counts, 0.0, _PICTURE_NOISE_COUNTS), low, foreign, other)


def _other_channel(plan: Plan, side_px: int) -> Image:
    """Give a noise-free phase-contrast frame: the picture of one, or a simulated one."""
    if plan.other_channel is not None:
        return PictureGlass.read(plan.other_channel, side_px).frame()
    spec = SimulationSpec(seed=plan.seed, scenes=1, frames=1, shape_yx=(side_px, side_px))
    return SceneSimulation(spec, 0).clean_cells(0)
