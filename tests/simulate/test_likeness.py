"""Simulated frames look like the real one, as far as they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phagostat.simulate import SceneOverrides, SimulationSpec
from phagostat.simulate.likeness import PairLook, compare, measure_pair
from phagostat.simulate.real import read_png
from phagostat.simulate.scene import SceneSimulation, reduce_by_mean

N_FRAMES = 20
N_SEMI_FRAMES = 8
BOUND = 1.3  # 20 %, and what the mean of so many frames scatters by

# What hangs on one or two things in a frame scatters more; each has its own bound.
WIDER = {
    # on whether a bright round cell (about one a frame) lies in the middle of the field or at its border, where the
    # window hides it: single frames scatter by more than their mean
    "cells power 256-128 px": 1.8,
    # on how much of the field a tilted glass leaves in focus: single frames scatter by half of their mean
    "aggregates power 8-4 px": 1.45,
}
# Eight frames only, of which each has about ten clumps of this size: they decide the long waves as well.
WIDER_SEMI = {
    "aggregates power 256-128 px": 1.5,
    "aggregates power 128-64 px": 1.5,
    "aggregates of 300-3000 px2": 1.5,
}


def real_look(shared_data: Path) -> PairLook:
    folder = shared_data / "microglia"
    return measure_pair(read_png(folder / "aggregates.png"), read_png(folder / "cell.png"))


def look(seed: int, **options: object) -> PairLook:
    """Measures of the first, sharp, frame of a scene of its own."""
    spec = SimulationSpec(
        shape_yx=(2048, 2048), frames=2, scenes=1, seed=seed, scenario=SceneOverrides(defocus_px={0: 0.2}), **options
    )
    planes = SceneSimulation(spec, 0).render(0)
    return measure_pair(*(reduce_by_mean(plane.astype(np.float32), 2) for plane in planes))


def outside(ratios: dict[str, float], wider: dict[str, float]) -> dict[str, float]:
    return {
        name: round(ratio, 2)
        for name, ratio in ratios.items()
        if not 1 / wider.get(name, BOUND) <= ratio <= wider.get(name, BOUND)
    }


@pytest.mark.real
def test_default_frames_measure_like_the_real_pair(shared_data: Path) -> None:
    ratios = compare([look(seed) for seed in range(100, 100 + N_FRAMES)], real_look(shared_data))
    assert not outside(ratios, WIDER)


@pytest.mark.real
def test_semi_synthetic_aggregates_measure_like_the_real_ones(shared_data: Path) -> None:
    """Their cells are another microscope's."""
    looks = [look(seed, mode="semi", data=shared_data) for seed in range(100, 100 + N_SEMI_FRAMES)]
    ratios = compare(looks, real_look(shared_data))
    assert not outside({name: ratio for name, ratio in ratios.items() if name.startswith("aggregates")}, WIDER_SEMI)


def test_a_pair_is_like_itself_and_unlike_a_blurred_one() -> None:
    spec = SimulationSpec(
        shape_yx=(512, 512), frames=2, scenes=1, seed=1, scenario=SceneOverrides(defocus_px={0: 0.2, 1: 3.0})
    )
    scene = SceneSimulation(spec, 0)
    sharp, blurred = (
        measure_pair(*(reduce_by_mean(plane.astype(np.float32), 2) for plane in scene.render(frame)))
        for frame in (0, 1)
    )
    assert all(ratio == 1.0 for ratio in compare([sharp], sharp).values() if np.isfinite(ratio))
    assert compare([blurred], sharp)["cells power 8-4 px"] < 0.5
