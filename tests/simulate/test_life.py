"""What happens to cells and aggregates, and that the truth tells it."""

from __future__ import annotations

import numpy as np
import pytest

from phagostat.simulate import Simulation, SimulationSpec, iter_frames
from phagostat.simulate.life import NEVER
from phagostat.simulate.scenarios import SceneOverrides, calm, no_uptake

EVENTFUL = {
    "edible_fraction": 0.5, "carried_fraction": 0.4, "pushed_fraction": 0.2, "detached_fraction": 0.1,
    "merging_fraction": 0.2, "unfocused_fraction": 0.5, "death_fraction": 0.3, "meal_min": 10.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def eventful() -> Simulation:
    scenario = calm() | SceneOverrides(parameters=EVENTFUL)
    return Simulation(SimulationSpec(shape_yx=(768, 768), frames=30, scenes=1, seed=1, scenario=scenario))


def fates(simulation: Simulation) -> dict[str, list[int]]:
    by_fate: dict[str, list[int]] = {}
    for row in simulation.aggregate_rows(0):
        by_fate.setdefault(row[2], []).append(row[1])
    return by_fate


def test_every_fate_and_decoy_happens(eventful: Simulation) -> None:
    assert {"kept", "eaten", "carried", "detached"} <= set(fates(eventful))
    decoys = {decoy for row in eventful.aggregate_rows(0) for decoy in row[6].split()}
    assert {"crossed", "pushed", "merging", "unfocused"} <= decoys


def test_area_of_an_eaten_aggregate_falls_bite_by_bite_while_its_cell_covers_it(eventful: Simulation) -> None:
    scene = eventful.scene(0)
    areas = np.array([eventful.areas(0, frame).area_um2 for frame in range(30)])
    aggregates = scene.aggregates
    gradual = 0
    for aggregate in fates(eventful)["eaten"]:
        start, stop = aggregates.eaten_from[aggregate], aggregates.eaten_to[aggregate]
        series = areas[:, aggregate]
        assert np.all(np.diff(series[start:]) <= 0.5)  # a neighbour's pixels may pass to it, little else
        assert series[stop] == 0.0
        gradual += bool(series[0] > 1.0 and np.any((series[start:stop] > 0) & (series[start:stop] < series[0])))
        cell = aggregates.eater[aggregate]
        way = scene.cells.position[start, cell] - aggregates.anchor[start, aggregate]
        assert np.hypot(*way) < scene.cells.radius[cell] * 1.9
    assert gradual > 0


def test_carried_aggregate_leaves_the_glass_at_once_and_glows_on_in_its_cell(eventful: Simulation) -> None:
    scene = eventful.scene(0)
    aggregates = scene.aggregates
    tried = 0
    for aggregate in fates(eventful)["carried"]:
        frame = int(aggregates.eaten_from[aggregate])
        assert eventful.areas(0, frame).area_um2[aggregate] == 0.0
        cell, later = int(aggregates.eater[aggregate]), min(frame + 4, 29)
        y, x = np.rint(scene.cells.position[later, cell] + scene.conditions.shift_yx_px[later]).astype(int)
        reach = int(scene.cells.radius[cell] * 0.8)
        if not (reach < y < 768 - reach and reach < x < 768 - reach):
            continue
        box = (slice(y - reach, y + reach), slice(x - reach, x + reach))
        lit = scene.clean_aggregates(later)[box]
        captured = aggregates.elements.captured.copy()
        aggregates.elements.captured[aggregates.elements.aggregate == aggregate] = NEVER
        gone = aggregates.gone[aggregate]
        aggregates.gone[aggregate] = 0  # take it out of the world altogether
        without = scene.clean_aggregates(later)[box]
        aggregates.elements.captured[:], aggregates.gone[aggregate] = captured, gone
        assert (lit - without).max() > 50
        tried += 1
    assert tried > 0


def test_what_is_crossed_only_keeps_its_area_and_place(eventful: Simulation) -> None:
    rows = [row for row in eventful.aggregate_rows(0) if row[2] == "kept" and row[6] == "crossed" and row[8] > 0.5]
    first, last = eventful.areas(0, 0), eventful.areas(0, 29)
    assert rows
    for row in rows:
        aggregate = row[1]
        assert np.hypot(*(last.centroid_yx_px - first.centroid_yx_px)[aggregate]) < 4.0
        assert last.area_um2[aggregate] == pytest.approx(first.area_um2[aggregate], rel=0.5)


def test_pushed_aggregate_moves_and_is_not_eaten(eventful: Simulation) -> None:
    aggregates = eventful.scene(0).aggregates
    pushed = np.flatnonzero(aggregates.was_pushed)
    way = aggregates.anchor[-1, pushed] - aggregates.anchor[0, pushed]
    assert len(pushed)
    assert np.all(np.hypot(way[:, 0], way[:, 1]) > 0.5)
    assert np.all(aggregates.eater[pushed] == -1)


def test_eaten_area_of_the_scene_adds_up(eventful: Simulation) -> None:
    """What is gone from the glass is what was eaten, what was washed away, and pixels shared between neighbours."""
    first, last = eventful.areas(0, 0).area_um2, eventful.areas(0, 29).area_um2
    frame = eventful.frame(0, 29)
    eaten = sum(row[7] for row in frame.area_rows)
    washed = first[eventful.scene(0).aggregates.gone <= 29].sum()
    assert eaten > 5.0
    assert first.sum() - last.sum() == pytest.approx(eaten + washed, abs=0.1 * first.sum())


def test_cells_move_and_die_and_rows_agree_with_labels(eventful: Simulation) -> None:
    scene = eventful.scene(0)
    dead = np.flatnonzero(scene.cells.death < 25)
    assert len(dead)
    for cell in dead:
        assert np.array_equal(scene.cells.position[-1, cell], scene.cells.position[scene.cells.death[cell], cell])
        assert not scene.cells.is_alive(int(cell), 29)
    travelled = np.hypot(*np.diff(scene.cells.position, axis=0).transpose(2, 0, 1)).sum(axis=0)
    assert np.median(travelled) > 20
    labels = scene.label_image(29)
    for row in eventful.frame(0, 29).track_rows:
        area = np.sum(labels == row[2] + 1) * 0.206**2
        assert row[5] == pytest.approx(area)


def test_speed_of_the_cells_is_what_was_drawn() -> None:
    parameters = {
        "cell_speed_um_per_min": 0.8, "cell_speed_spread": 0.0, "edible_fraction": 0.0, "cell_density_per_mm2": 150.0,
        "round_fraction": 0.0, "death_fraction": 0.0, "cell_radius_um": 8.0,
    }  # fmt: skip
    spec = SimulationSpec(
        shape_yx=(2048, 2048), frames=60, scenes=1, seed=2, scenario=calm() | SceneOverrides(parameters=parameters)
    )
    cells = Simulation(spec).scene(0).cells
    steps = np.hypot(*np.diff(cells.position, axis=0).transpose(2, 0, 1)) * 0.103 / 2.0
    assert steps.mean() == pytest.approx(0.8, rel=0.2)


def test_scene_without_uptake_loses_nothing() -> None:
    simulation = Simulation(SimulationSpec(shape_yx=(256, 256), frames=8, seed=4, scenario=calm() | no_uptake()))
    first, last = simulation.areas(0, 0).area_um2, simulation.areas(0, 7).area_um2
    assert first.sum() > 0
    np.testing.assert_array_equal(first, last)


def test_areas_are_of_the_ideal_rendering_whatever_the_microscope_does() -> None:
    """Blur, shift and bleaching leave the true areas alone."""
    still = Simulation(SimulationSpec(shape_yx=(256, 256), frames=4, scenes=1, seed=4, scenario=calm()))
    moved = SceneOverrides(shifts_yx_px={2: (0.0, 0.0)}, defocus_px={2: 5.0}, bleaching={2: 0.3})
    worse = Simulation(SimulationSpec(shape_yx=(256, 256), frames=4, scenes=1, seed=4, scenario=calm() | moved))
    np.testing.assert_array_equal(still.areas(0, 2).area_um2, worse.areas(0, 2).area_um2)


def test_areas_do_not_depend_on_what_was_asked_before(eventful: Simulation) -> None:
    fresh = Simulation(eventful.spec)
    for frame in (20, 3, 29, 3):
        asked, new = fresh.areas(0, frame), Simulation(eventful.spec).areas(0, frame)
        np.testing.assert_array_equal(asked.area_um2, new.area_um2)
        np.testing.assert_array_equal(asked.centroid_yx_px, new.centroid_yx_px)


def test_area_is_the_thresholded_footprint() -> None:
    """Against a plain rendering of the whole field: total area above the threshold."""
    simulation = Simulation(SimulationSpec(shape_yx=(256, 256), frames=1, scenes=1, seed=8, scenario=calm()))
    ideal = simulation.scene(0).reference_rendering()
    assert simulation.area_threshold_counts == pytest.approx(np.percentile(ideal, 99.5) / 2)
    rows = simulation.areas(0, 0)
    inside = np.all((rows.centroid_yx_px > 20) & (rows.centroid_yx_px < 236), axis=1)
    counted = (ideal > simulation.area_threshold_counts).sum() * 0.206**2
    assert 0 < rows.area_um2[inside].sum() <= counted + 1e-9
    assert rows.area_um2.sum() >= counted - 1e-9  # the truth covers a margin around the field


def test_aggregate_rows_cover_every_aggregate_of_the_areas() -> None:
    spec = SimulationSpec(shape_yx=(128, 128), frames=2, scenes=1, seed=3)
    simulation = Simulation(spec)
    frame = next(iter_frames(spec, 0))
    assert [row[1] for row in simulation.aggregate_rows(0)] == [row[2] for row in frame.area_rows]
