"""A small simulated acquisition in memory, with everything that can go wrong, for tests of the analysis loop."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from phagostat.model.acquisition import AcquisitionMetadata, Channel, Scene, TimesOrigin
from phagostat.model.errors import PlaneError
from phagostat.simulate import SceneOverrides, Simulation, SimulationSpec
from phagostat.simulate import scenarios as say
from phagostat.sources.protocol import Availability

SIDE_PX = 256
LENGTHS = (7, 4)
PATH = [(0.0, 0.0), (1.3, -2.4), (3.1, 0.7), (-4.6, 5.2), (8.0, 2.5), (-2.25, -6.5), (0.4, 9.9)]
Plane = np.ndarray


@functools.cache
def planes(scenario_name: str = "troubled") -> dict[tuple[int, int, int], Plane]:
    """All planes of a named scenario; rendered once a process."""
    simulation = Simulation(
        SimulationSpec(
            preset="easy",
            seed=11,
            scenes=len(LENGTHS),
            frames=max(LENGTHS),
            shape_yx=(SIDE_PX, SIDE_PX),
            scenario=SCENARIOS[scenario_name],
        )
    )
    found = {}
    for scene, n_frames in enumerate(LENGTHS):
        for frame in range(n_frames):
            for channel, plane in enumerate(simulation.frame(scene, frame).planes):
                if plane is not None:
                    found[scene, frame, channel] = plane
    return found


def _base() -> SceneOverrides:
    """Many aggregates that stay: on so small a frame shifts and bleaching could not be told otherwise."""
    many = SceneOverrides(parameters={"clump_density_per_mm2": 30_000.0})
    return say.calm() | say.no_uptake() | say.stage_path(PATH) | many


def _troubled() -> Mapping[int, SceneOverrides]:
    base = _base()
    # The first frame would do as the reference, but the next one is sharper.
    soft = say.blurred_burst(0, 1, sigma_px=0.9)
    return {
        0: base | soft | say.blurred_burst(2, 1, sigma_px=6.0) | say.black_frame(4) | say.missing_plane(5, 1),
        1: base | SceneOverrides(n_frames=LENGTHS[1]) | soft | say.missing_frame(2),
    }


def _in_first_scene(trouble: SceneOverrides) -> Mapping[int, SceneOverrides]:
    base = _base()
    return {0: base | trouble, 1: base | SceneOverrides(n_frames=LENGTHS[1])}


SCENARIOS: dict[str, Mapping[int, SceneOverrides]] = {
    "troubled": _troubled(),
    "slightly blurred": _in_first_scene(say.blurred_burst(2, 1, sigma_px=1.2)),
    "first frame blurred": _in_first_scene(say.blurred_burst(0, 1, sigma_px=6.0)),
    "first frame black": _in_first_scene(say.black_frame(0)),
    "first frame constant": _in_first_scene(say.constant_frame(0)),
    "first frame missing": _in_first_scene(say.missing_frame(0)),
    "first frame without cells": _in_first_scene(say.missing_plane(0, 1)),
    "first window unusable": _in_first_scene(
        functools.reduce(lambda a, b: a | b, [say.black_frame(frame) for frame in range(5)])
    ),
    "still": dict.fromkeys(range(len(LENGTHS)), _base() | say.stage_path([(0.0, 0.0)] * max(LENGTHS))),
    "nothing usable": _in_first_scene(SceneOverrides(black_frames=frozenset(range(max(LENGTHS))))),
}


@dataclass
class Movie:
    """Simulated planes as a source; ``arrivals`` is the order in which (scene, frame) pairs appear, ``steps`` the pace.

    Picklable without its pixels: each process renders its own.
    """

    scenario: str = "troubled"
    arrivals: tuple[tuple[int, int], ...] | None = None
    steps: tuple[int, ...] = (1,)
    closes: bool = True
    shown: int = field(default=0, compare=False)
    polls: int = field(default=0, compare=False)

    @property
    def metadata(self) -> AcquisitionMetadata:
        scenes = tuple(
            Scene(i, f"S{i}", n, (SIDE_PX, SIDE_PX), "uint16", tuple(120.0 * t for t in range(n)))
            for i, n in enumerate(LENGTHS)
        )
        channels = (Channel(0, "mCherry", fluorescent=True), Channel(1, "PhC", fluorescent=False))
        return AcquisitionMetadata(
            "movie", "movie", f"movie {self.scenario}", channels, scenes, 0.103, TimesOrigin.INTERVAL
        )

    def poll(self) -> Availability:
        shown = everything()
        closed = self.closes
        if self.arrivals is not None:
            self.shown = min(self.shown + self.steps[self.polls % len(self.steps)], len(self.arrivals))
            self.polls += 1
            shown, closed = list(self.arrivals[: self.shown]), self.closes and self.shown == len(self.arrivals)
        there = planes(self.scenario)
        complete = {
            (s, c): tuple(sorted(t for scene, t in shown if scene == s and (s, t, c) in there))
            for s in range(len(LENGTHS))
            for c in (0, 1)
        }
        return Availability(complete, closed)

    def read(self, scene: int, frame: int, channel: int) -> Plane:
        try:
            return planes(self.scenario)[scene, frame, channel].copy()
        except KeyError:
            raise PlaneError("no such plane", where=f"movie {scene} {frame} {channel}") from None

    def with_(self, **changes: object) -> Movie:
        return replace(self, **changes)  # type: ignore[arg-type]


def everything() -> list[tuple[int, int]]:
    """All (scene, frame) pairs in the order in which a microscope records them."""
    return [(s, t) for t in range(max(LENGTHS)) for s, n in enumerate(LENGTHS) if t < n]
