"""What a run of the registration benchmark is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phagostat.bench.glass import Glass
from phagostat.bench.picture import PictureGlass
from phagostat.bench.spots import SpotGlass

DEFAULT_METHOD = "tiles"
GLASS_METHOD = "glass"
"""For phase contrast: the movie table asks it beside the default."""
OWN_METHODS = (DEFAULT_METHOD, GLASS_METHOD)
BASELINE = "cecc"
TABLES = ("shifts", "noise", "robustness", "impossible", "movie")
MARGIN_FRACTION = 0.2
"""Largest shift per axis, in sides: the +-400 px of the paper's 2048 px."""

Report = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that determines the figures, but the machine.

    Parameters
    ----------
    n
        Pairs of the paper's test for the default method; the other tables take their numbers from it.
    n_slow
        Pairs of the paper's test for the methods to compare with.
    methods
        Names in :data:`phagostat.kernels.translation.METHODS`.
    tables
        Names in `TABLES`.
    light_levels
        Of the noise table: light as a fraction of the simulator's.
    reference
        Picture of aggregates; None for simulated ones.
    other_channel
        Picture of another channel; None for a simulated one.
    movie
        Folder of TIFF frames for the movie table; None leaves it out.
    side_px
        Side of a frame.
    seed
        The same seed gives the same pairs.
    """

    n: int = 1000
    n_slow: int = 50
    methods: tuple[str, ...] = (DEFAULT_METHOD, BASELINE)
    tables: tuple[str, ...] = TABLES
    light_levels: tuple[float, ...] = (1.0, 0.25, 0.0625)
    reference: Path | None = None
    other_channel: Path | None = None
    movie: Path | None = None
    side_px: int = 2048
    seed: int = 0

    @property
    def reach_px(self) -> float:
        """Largest shift per axis of the paper's test."""
        return MARGIN_FRACTION * self.side_px

    def count(self, method: str, n: int, n_slow: int) -> int:
        """Give how many of `n` pairs a method meets: all of them, or `n_slow` if it is not our own."""
        return n if method in OWN_METHODS else min(n, n_slow)

    def random(self, table: str, *key: int) -> np.random.Generator:
        """Give the random stream of one pair of one table, independent of which tables and methods are run."""
        return np.random.default_rng([self.seed, TABLES.index(table), *key])

    def glass(self, *, side_px: int | None = None) -> Glass:
        """Give the field of the paper's test: the reference picture, or a simulated one."""
        side = self.side_px if side_px is None else side_px
        if self.reference is not None:
            return PictureGlass.read(self.reference, side)
        return SpotGlass.draw(side_px=side, seed=self.seed)


def search_radius_px(side_px: int) -> float:
    """Give the search radius of all methods: the largest shift of the tests, and half a pixel for the error."""
    return MARGIN_FRACTION * side_px + 0.5
