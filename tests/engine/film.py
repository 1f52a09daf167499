"""A source that lives in memory: small, exact, and able to grow or to break, for tests of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from phagostat.model.acquisition import AcquisitionMetadata, Channel, Scene, TimesOrigin
from phagostat.model.errors import PlaneError
from phagostat.sources.protocol import Availability


@dataclass
class Film:
    """Pixels made from a seed, a scene, a frame and a channel.

    ``arrivals`` is the order in which (scene, frame) pairs appear; ``shown`` how many of them are there.
    """

    frames: tuple[int, ...] = (5, 3)
    shape_yx: tuple[int, int] = (24, 32)
    seed: int = 0
    missing: frozenset[tuple[int, int, int]] = frozenset()
    broken: frozenset[tuple[int, int, int]] = frozenset()
    arrivals: tuple[tuple[int, int], ...] | None = None
    shown: int = 0
    steps: tuple[int, ...] = ()
    polls: int = field(default=0, compare=False)

    @property
    def metadata(self) -> AcquisitionMetadata:
        scenes = tuple(
            Scene(i, f"S{i}", n, self.shape_yx, "uint16", tuple(120.0 * t for t in range(n)))
            for i, n in enumerate(self.frames)
        )
        channels = (Channel(0, "mCherry", fluorescent=True), Channel(1, "PhC", fluorescent=False))
        return AcquisitionMetadata("film", "film", f"film-{self.seed}", channels, scenes, 0.103, TimesOrigin.INTERVAL)

    def poll(self) -> Availability:
        everything = [(s, t) for s, n in enumerate(self.frames) for t in range(n)]
        if self.arrivals is None:
            shown, closed = everything, True
        else:
            step = self.steps[self.polls % len(self.steps)] if self.steps else 1
            self.polls += 1
            self.shown = min(self.shown + step, len(self.arrivals))
            shown, closed = list(self.arrivals[: self.shown]), self.shown == len(self.arrivals)
        complete: Mapping[tuple[int, int], tuple[int, ...]] = {
            (s, c): tuple(sorted(t for scene, t in shown if scene == s and (s, t, c) not in self.missing))
            for s in range(len(self.frames))
            for c in (0, 1)
        }
        return Availability(complete, closed)

    def read(self, scene: int, frame: int, channel: int) -> np.ndarray:
        if (scene, frame, channel) in self.broken or (scene, frame, channel) in self.missing:
            raise PlaneError("this plane is broken", where=f"film scene {scene} frame {frame} channel {channel}")
        generator = np.random.default_rng([self.seed, scene, frame, channel])
        return generator.integers(0, 4096, self.shape_yx).astype(np.uint16)

    def with_(self, **changes: object) -> Film:
        return replace(self, **changes)
