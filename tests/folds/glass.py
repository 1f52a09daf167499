"""Records of glasses with aggregates whose fates are known, made without any pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from phagostat.folds.ledger import ReferenceAggregates
from phagostat.folds.ledger_record import LedgerRecord

Place = tuple[float, float]


@dataclass(frozen=True)
class Thing:
    """Something that lights up: where it is, how large and how bright, as functions of the frame."""

    place: Callable[[int], Place]
    area: Callable[[int], float]
    home: Place | None = None  # its place in the reference frame, if it was there then
    light: Callable[[int], float] = lambda frame: 1.0


@dataclass
class Glass:
    """Aggregates on a grid 20 um apart and what happens to them.

    An aggregate's territory reaches 1.5 um from its place: what lies further away lies in nobody's.
    """

    n_frames: int = 40
    things: list[Thing] = field(default_factory=list)
    scale: Callable[[int], float] = lambda frame: 1.0
    unusable: frozenset[int] = frozenset()
    hidden: dict[int, frozenset[int]] = field(default_factory=dict)  # aggregate -> frames that do not show it
    reference_frame: int = 0
    noise: float = 0.0
    reach_um: float = 1.5
    shapes: bool = True  # whether what moved is recognised by its shape

    def add(
        self,
        area: float | Callable[[int], float] = 4.0,
        *,
        place: Callable[[int], Place] | None = None,
        at: Place | None = None,
        stranger: bool = False,
        light: Callable[[int], float] = lambda frame: 1.0,
    ) -> int:
        """Add something; give the index of the reference aggregate."""
        number = len(self.things)
        home = at or (20.0 * (number // 6), 20.0 * (number % 6))
        self.things.append(
            Thing(
                place or (lambda _: home),
                area if callable(area) else (lambda _, value=float(area): value),
                None if stranger else (place(self.reference_frame) if place else home),
                light,
            )
        )
        return sum(thing.home is not None for thing in self.things) - 1

    def add_kept(self, n: int = 8) -> None:
        for _ in range(n):
            self.add()

    @property
    def homes(self) -> np.ndarray:
        return np.array([thing.home for thing in self.things if thing.home is not None]).reshape(-1, 2)

    def record(self, frame: int) -> LedgerRecord:
        homes = self.homes
        n = len(homes)
        noise = np.random.default_rng([frame, 5])
        area, label_area, outside, place, home_label = np.zeros(n), [], [], [], np.full(n, -1)
        moved, moved_by, moved_light = np.zeros(n), np.zeros((n, 2)), np.zeros(n)
        number = -1
        for thing in self.things:
            number += thing.home is not None
            size = thing.area(frame) * self.scale(frame)
            if size <= 0:
                continue
            size += self.noise * noise.standard_normal()
            y, x = thing.place(frame)
            owner = -1
            if n:
                distance = np.hypot(*(homes - (y, x)).T)
                owner = int(distance.argmin()) if distance.min() <= self.reach_um else -1
            if thing.home is not None:
                by = np.array([y, x]) - thing.home
                if np.hypot(*by) < 0.4:
                    area[number] += size
                elif self.shapes and np.hypot(*by) < 9:  # its shape is recognised, at nearly all of its size
                    moved[number], moved_by[number], moved_light[number] = size, by, thing.light(frame)
            if owner >= 0:
                home_label[owner] = len(place)
            label_area.append(size)
            outside.append(0.0 if owner >= 0 else size)
            place.append((y, x))
        valid = np.array([0.5 if frame in self.hidden.get(i, ()) else 1.0 for i in range(n)])
        return LedgerRecord(
            frame,
            120.0 * frame,
            frame not in self.unusable,
            area,
            area,
            np.zeros(n),
            1000.0 * area,
            valid,
            moved,
            moved_by,
            moved_light,
            moved,
            np.array(place).reshape(-1, 2),
            np.array(label_area),
            np.array(outside),
            np.zeros(len(place), bool),
            home_label,
        )

    def records(self) -> list[LedgerRecord]:
        return [self.record(frame) for frame in range(self.n_frames)]

    def reference(self, censored: Iterable[int] = ()) -> ReferenceAggregates:
        record = replace(self, noise=0.0).record(self.reference_frame)
        touches = np.zeros(len(record.area_um2), bool)
        touches[list(censored)] = True
        return ReferenceAggregates(self.reference_frame, record.area_um2, record.light, self.homes, touches)


def bites(start: int, length: int, area: float = 4.0) -> Callable[[int], float]:
    """Area of something that is eaten evenly."""
    return lambda frame: area * float(np.clip(1 - (frame - start + 1) / length, 0, 1))


def way(start: int, step_um: Place, length: int, origin: Place) -> Callable[[int], Place]:
    """Place of something that moves evenly for some frames."""

    def place(frame: int) -> Place:
        steps = float(np.clip(frame - start + 1, 0, length))
        return origin[0] + steps * step_um[0], origin[1] + steps * step_um[1]

    return place
