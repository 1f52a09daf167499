from __future__ import annotations

from pathlib import Path

import pytest

from phagostat.simulate import SceneOverrides, simulate
from phagostat.simulate import scenarios as say

from .command import Call, caller

MANY = SceneOverrides(parameters={"clump_density_per_mm2": 20_000.0})
SMALL = {"preset": "easy", "seed": 3, "scenes": 2, "frames": 4, "shape_yx": (384, 384)}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return caller(capfd)


@pytest.fixture(scope="session")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small acquisition whose two scenes are of unequal length."""
    path = tmp_path_factory.mktemp("movie") / "movie.czi"
    base = say.calm() | say.no_uptake() | MANY
    simulate(path, scenario={0: base, 1: base | SceneOverrides(n_frames=3)}, **SMALL)
    return path


@pytest.fixture
def made(tmp_path: Path):
    """Gives a function that simulates an acquisition in which something is out of the ordinary."""

    def make(overrides: SceneOverrides | None = None, **options: object) -> Path:
        path = tmp_path / "made.czi"
        base = say.calm() | say.no_uptake() | MANY
        simulate(path, scenario=base | (overrides or SceneOverrides()), **{**SMALL, "scenes": 1, **options})
        return path

    return make
