from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phagostat.folds import ledger
from phagostat.folds.eaten_area import eaten_area, eaten_by_aggregate, followed
from phagostat.folds.fates import Fate, aggregate_fates
from phagostat.folds.movement import is_quenched
from tests.folds.glass import Glass, bites, way

A = 4.0


def told(glass: Glass, censored: tuple[int, ...] = ()):
    state = ledger.fold(glass.records(), glass.reference(censored))
    fates = aggregate_fates(state)
    return state, fates, eaten_area(state, fates)


def test_nothing_happens():
    glass = Glass(noise=0.04)
    glass.add_kept(12)
    _, fates, curve = told(glass)
    assert set(fates.fate) == {Fate.KEPT}
    assert np.abs(curve.eaten_area_um2).max() < 0.01 * 12 * A
    assert curve.eaten_area_um2.min() < 0  # not clipped
    assert (curve.count == 12).all()


def test_bitten_away():
    glass = Glass()
    glass.add_kept()
    eaten = glass.add(bites(10, 8))
    _, fates, curve = told(glass)
    assert fates.fate[eaten] is Fate.EATEN
    assert fates.gone_from[eaten] == 16  # 12.5 % are left there
    assert fates.changed_from[eaten] == 11  # 75 % are left there
    true = A - np.array([bites(10, 8)(t) for t in range(40)])
    np.testing.assert_allclose(curve.eaten_area_um2, true, atol=1e-9)
    assert curve.count[-1] == 8


def test_bitten_in_part():
    glass = Glass()
    glass.add_kept()
    eaten = glass.add(lambda t: A * float(np.interp(t, [19, 23], [1, 0.5])))
    _, fates, curve = told(glass)
    assert fates.fate[eaten] is Fate.PARTLY_EATEN
    assert curve.eaten_area_um2[-1] == pytest.approx(A / 2)


def test_carried_off_by_a_cell_is_eaten_from_the_last_frame_in_place():
    glass = Glass()
    glass.add_kept()
    walk = np.cumsum(np.random.default_rng(3).normal(0.7, 0.5, (60, 2)), axis=0)
    glow = lambda t: 1 if t < 12 else 0.98 ** (t - 11)  # noqa: E731
    carried = glass.add(
        lambda t: A * glow(t),
        place=lambda t: (10.0, 10.0) if t < 12 else tuple((10.0, 10.0) + walk[t - 12]),
        light=glow,
    )
    _, fates, curve = told(glass)
    assert fates.fate[carried] is Fate.EATEN
    assert curve.eaten_area_um2[10] == pytest.approx(0, abs=1e-9)
    # also while it passes over another one, which does not grow by that
    np.testing.assert_allclose(curve.eaten_area_um2[12:], A, atol=0.15 * A)


@pytest.mark.parametrize("step", [0.5, 1.2])
def test_pushed_and_resting_again_is_not_eaten(step):
    glass = Glass()
    glass.add_kept()
    pushed = glass.add(place=way(10, (step, 0.0), 4, (10.0, 10.0)))
    _, fates, curve = told(glass)
    assert fates.fate[pushed] is Fate.MOVED
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_pushed_and_then_out_of_view():
    glass = Glass(hidden={8: frozenset(range(25, 40))})
    glass.add_kept()
    pushed = glass.add(place=way(10, (1.0, 0.6), 3, (60.0, 60.0)))
    _, fates, curve = told(glass)
    assert fates.fate[pushed] is Fate.CENSORED
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_pushed_too_far_in_one_step_for_the_gate():
    glass = Glass()
    glass.add_kept()
    pushed = glass.add(place=way(10, (3.0, 0.0), 1, (10.0, 10.0)))
    _, fates, curve = told(glass)
    assert fates.fate[pushed] is Fate.MOVED
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_pushed_then_eaten():
    glass = Glass()
    glass.add_kept()
    eaten = glass.add(bites(30, 3), place=way(5, (1.0, 0.0), 4, (10.0, 10.0)))
    _, fates, curve = told(glass)
    assert fates.fate[eaten] is Fate.EATEN
    np.testing.assert_allclose(curve.eaten_area_um2[:29], 0, atol=1e-9)
    np.testing.assert_allclose(curve.eaten_area_um2[32:], A, atol=1e-9)


def test_creeping_into_a_neighbour_moves_area_and_eats_none():
    glass = Glass()
    glass.add_kept()
    glass.add(at=(10.0, 10.0))
    glass.add(place=way(8, (0.5, 0.0), 10, (5.0, 10.0)))
    _, _, curve = told(glass)
    np.testing.assert_allclose(curve.eaten_area_um2[-10:], 0, atol=1e-9)


def test_washed_away_is_reported_apart():
    glass = Glass()
    glass.add_kept()
    gone = glass.add(lambda t: A if t < 15 else 0.0)
    _, fates, curve = told(glass)
    assert fates.fate[gone] is Fate.DETACHED
    assert fates.detached_from[gone] == 15
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)
    np.testing.assert_allclose(curve.detached_area_um2[15:], A)


def test_a_part_that_is_washed_away_at_once_is_reported_apart():
    glass = Glass()
    glass.add_kept()
    # one of two members of a clump; the other one is eaten later
    torn = glass.add(lambda t: (A if t < 15 else 0.6 * A) * float(np.interp(t, [24, 30], [1, 0])))
    state, fates, curve = told(glass)
    eaten, washed = eaten_by_aggregate(state, fates)
    assert fates.fate[torn] is Fate.EATEN
    np.testing.assert_allclose(washed[15:, torn], 0.4 * A)
    np.testing.assert_allclose(eaten[15:24, torn], 0, atol=1e-9)
    assert eaten[-1, torn] == pytest.approx(0.6 * A)
    np.testing.assert_allclose(curve.detached_area_um2[15:], 0.4 * A)


@pytest.mark.parametrize("trace", [0.0, 0.3])
def test_what_dims_before_it_goes_is_eaten_from_the_frame_on_in_which_it_dims(trace):
    glass = Glass()
    glass.add_kept()
    gone = glass.add(lambda t: A if t < 15 else 0.0)
    it = np.arange(9) == gone
    records = glass.records()
    records[14] = replace(records[14], dimmed_um2=np.where(it, A, 0.0), light=records[14].light * np.where(it, 0.8, 1))
    records[15] = replace(records[15], light=records[15].light + 1000 * A * trace * it)
    state = ledger.fold(records, glass.reference())
    curve = eaten_area(state, aggregate_fates(state))
    np.testing.assert_allclose(curve.eaten_area_um2, np.where(np.arange(40) >= 14, A, 0.0), atol=1e-9)


@pytest.mark.parametrize(("dimmed", "eaten"), [(A / 2, A / 2), (0.02 * A, 0.0)])
def test_what_has_just_dimmed_in_the_last_frame_counts(dimmed, eaten):
    glass = Glass()
    glass.add_kept()
    gone = glass.add()
    records = glass.records()
    it = np.arange(9) == gone
    light = records[-1].light * np.where(it, 1 - 0.3 * dimmed / A, 1)
    records[-1] = replace(records[-1], dimmed_um2=np.where(it, dimmed, 0.0), light=light)
    state = ledger.fold(records, glass.reference())
    curve = eaten_area(state, aggregate_fates(state))
    assert curve.eaten_area_um2[-1] == pytest.approx(eaten)
    np.testing.assert_allclose(curve.eaten_area_um2[:-1], 0, atol=1e-9)


def test_what_dims_in_the_last_frame_and_keeps_its_light_is_out_of_focus():
    glass = Glass()
    glass.add_kept()
    blurred = glass.add()
    records = glass.records()
    records[-1] = replace(records[-1], dimmed_um2=np.where(np.arange(9) == blurred, A / 2, 0.0))
    state = ledger.fold(records, glass.reference())
    np.testing.assert_allclose(eaten_area(state, aggregate_fates(state)).eaten_area_um2, 0, atol=1e-9)


def test_gone_behind_unusable_frames_counts_as_eaten():
    glass = Glass(unusable=frozenset({14, 15}))
    glass.add_kept()
    gone = glass.add(lambda t: A if t < 15 else 0.0)
    _, fates, _ = told(glass)
    assert fates.fate[gone] is Fate.EATEN  # nobody saw how


def test_out_of_focus_for_a_while_is_no_meal():
    glass = Glass()
    glass.add_kept()
    glass.add(lambda t: 0.2 * A if 10 <= t < 18 else A)
    _, fates, curve = told(glass)
    assert set(fates.fate) == {Fate.KEPT}
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_one_frame_without_it_is_no_event():
    glass = Glass()
    glass.add_kept()
    glass.add(lambda t: 0.0 if t == 17 else A)
    _, fates, curve = told(glass)
    assert set(fates.fate) == {Fate.KEPT}
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_a_glow_passing_over_what_was_eaten_does_not_bring_it_back():
    glass = Glass()
    glass.add_kept()
    glass.add(bites(5, 6), at=(10.0, 10.0))
    glass.add(lambda t: 1.5 if 20 <= t < 23 else 0.0, at=(10.0, 10.2), stranger=True)
    _, fates, curve = told(glass)
    assert fates.fate[8] is Fate.EATEN
    np.testing.assert_allclose(curve.eaten_area_um2[11:19], A, atol=1e-9)
    np.testing.assert_allclose(curve.eaten_area_um2[24:], A, atol=1e-9)


def test_a_small_loss_that_comes_back_was_not_eaten_and_one_that_stays_was():
    glass = Glass()
    glass.add_kept()
    glass.add(lambda t: 0.87 * A if 15 <= t < 18 else A)  # a neighbour in its clump goes out of focus for a while
    _, _, curve = told(glass)
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)
    stays = Glass()
    stays.add_kept()
    stays.add(lambda t: A * float(np.interp(t, [14, 17], [1, 0.87])))
    _, _, curve = told(stays)
    assert curve.eaten_area_um2[-1] == pytest.approx(0.13 * A)


def test_what_appears_is_not_counted_against_what_was_eaten():
    glass = Glass()
    glass.add_kept()
    glass.add(bites(10, 8))
    glass.add(lambda t: 3.0 if t >= 20 else 0.0, at=(70.0, 70.0), stranger=True)
    _, _, curve = told(glass)
    assert curve.eaten_area_um2[-1] == pytest.approx(A)
    assert curve.appeared_count.sum() == 1


def test_out_of_view_is_censored_not_eaten():
    glass = Glass()
    glass.add_kept()
    out = glass.add(bites(25, 5))
    glass.hidden[out] = frozenset(range(20, 40))
    _, fates, curve = told(glass)
    assert fates.fate[out] is Fate.CENSORED
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)
    assert curve.in_view_fraction[-1] == pytest.approx(8 / 9)


def test_cut_by_the_reference_border_is_not_counted():
    glass = Glass()
    glass.add_kept()
    edge = glass.add(bites(10, 8))
    state, fates, curve = told(glass, (edge,))
    assert fates.fate[edge] is Fate.CENSORED
    assert not followed(state, fates)[edge]
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_light_in_a_cell_on_its_way_never_lay_on_the_glass():
    glass = Glass(reference_frame=6)
    glass.add_kept()
    passing = glass.add(place=lambda t: (30.0 + 1.3 * t, 70.0))
    _, fates, curve = told(glass)
    assert fates.fate[passing] is Fate.PASSING
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_frames_of_a_wrong_scale_are_not_used():
    glass = Glass(scale=lambda t: 0.8 if t in (12, 13) else 1.0)
    glass.add_kept()
    state, fates, curve = told(glass)
    assert [e.frame for e in state.entries if not e.used] == [12, 13]
    assert "0.80" in state.entries[12].reason
    assert 12 not in fates.frames
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_all_frames_unusable():
    glass = Glass(unusable=frozenset(range(40)))
    glass.add_kept()
    _, fates, curve = told(glass)
    assert len(curve.frames) == 0
    assert len(fates.fate) == 8


def test_no_aggregates():
    glass = Glass(n_frames=5)
    glass.add(1.0, at=(3.0, 3.0), stranger=True)
    _, fates, curve = told(glass)
    assert len(fates.fate) == 0
    np.testing.assert_array_equal(curve.eaten_area_um2, 0)


def test_frames_out_of_order_are_refused():
    glass = Glass()
    glass.add_kept()
    state = ledger.fold(glass.records()[:5], glass.reference())
    with pytest.raises(ValueError, match="frame 2 after 4"):
        ledger.step(state, glass.record(2))
    with pytest.raises(ValueError, match="8 reference aggregates"):
        ledger.step(state, replace(glass.record(9), area_um2=np.zeros(3)))


def _eventful(seed: int) -> Glass:
    random = np.random.default_rng(seed)
    glass = Glass(n_frames=30, noise=0.05, unusable=frozenset(random.integers(1, 30, 3).tolist()))
    glass.add_kept(6)
    for _ in range(6):
        start = int(random.integers(2, 25))
        kind = random.integers(4)
        spot = (float(random.uniform(0, 80)), float(random.uniform(0, 100)))
        if kind == 0:
            glass.add(bites(start, int(random.integers(1, 8))), at=spot)
        elif kind == 1:
            glass.add(place=way(start, tuple(random.normal(0, 1, 2)), 3, spot))
        elif kind == 2:
            glass.add(place=way(start, tuple(random.normal(0, 1, 2)), 30, spot))
        else:
            glass.add(lambda t, s=start: 2.0 if t > s else 0.0, at=spot, stranger=True)
    return glass


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 30), max_size=4))
def test_cut_anywhere_and_gone_on_is_the_same(seed, cuts):
    glass = _eventful(seed)
    records = glass.records()
    whole = ledger.fold(records, glass.reference())
    state = ledger.initial_ledger_state(glass.reference())
    for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), 30], strict=True):
        for record in records[low:high]:
            state = ledger.step(state, record)
    assert repr(state) == repr(whole)
    one, other = aggregate_fates(whole), aggregate_fates(state)
    np.testing.assert_array_equal(one.area_um2, other.area_um2)
    assert list(one.fate) == list(other.fate)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_left_and_what_went_add_up(seed):
    glass = _eventful(seed)
    state = ledger.fold(glass.records(), glass.reference())
    fates = aggregate_fates(state)
    curve = eaten_area(state, fates)
    eaten, washed = eaten_by_aggregate(state, fates)
    counted = followed(state, fates)
    reference = fates.reference_area_um2[counted].sum()
    np.testing.assert_allclose(
        curve.eaten_area_um2 + curve.detached_area_um2 + curve.total_area_um2, reference, atol=1e-9
    )
    assert not eaten[:, ~counted].any()
    assert not washed[:, ~counted].any()
    assert (np.diff(curve.eaten_area_isotonic_um2) >= -1e-12).all()
    assert np.isfinite(curve.eaten_area_um2).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_order_of_labels_does_not_matter(seed, shuffle):
    glass = _eventful(seed)
    records = glass.records()
    random = np.random.default_rng(shuffle)

    def shuffled(record):
        order = random.permutation(len(record.position_um))
        place = np.argsort(order)
        home = record.home_label
        return replace(
            record,
            position_um=record.position_um[order],
            label_area_um2=record.label_area_um2[order],
            outside_um2=record.outside_um2[order],
            cut_off=record.cut_off[order],
            home_label=np.where(home >= 0, place[np.maximum(home, 0)], -1),
        )

    one = aggregate_fates(ledger.fold(records, glass.reference()))
    other = aggregate_fates(ledger.fold([shuffled(record) for record in records], glass.reference()))
    np.testing.assert_allclose(one.area_um2, other.area_um2, atol=1e-12)


def test_torn_apart_and_resting_in_two_places_is_not_eaten():
    glass = Glass()
    glass.add_kept()
    torn = glass.add(lambda t: A if t < 10 else 0.4 * A, at=(50.0, 50.0))
    glass.add(lambda t: 0.35 * A if t >= 10 else 0.0, at=(52.5, 50.0), stranger=True)
    glass.add(lambda t: 0.25 * A if t >= 10 else 0.0, at=(50.0, 53.0), stranger=True)
    _, fates, curve = told(glass)
    assert fates.fate[torn] is Fate.MOVED
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_what_fades_where_it_stays_is_in_a_cell_that_stays():
    glass = Glass()
    glass.add_kept()
    glow = lambda t: 1 if t < 10 else 0.95 ** (t - 9)  # noqa: E731
    carried = glass.add(lambda t: A * glow(t), place=way(10, (1.0, 0.0), 4, (50.0, 50.0)), light=glow)
    _, fates, curve = told(glass)
    assert fates.fate[carried] is Fate.EATEN
    np.testing.assert_allclose(curve.eaten_area_um2[12:], A, atol=1e-9)


def test_reference_aggregates_of_no_area_and_no_place_do_no_harm():
    glass = Glass()
    glass.add_kept()
    glass.add(bites(10, 8))
    reference = glass.reference()
    place = np.vstack([reference.position_um, [[np.nan, np.nan]]])
    grown = replace(
        reference,
        area_um2=np.append(reference.area_um2, 0.0),
        light=np.append(reference.light, 0.0),
        position_um=place,
        censored=np.append(reference.censored, False),
    )
    records = [
        replace(
            record,
            area_um2=np.append(record.area_um2, 0.0),
            above_um2=np.append(record.above_um2, 0.0),
            dimmed_um2=np.append(record.dimmed_um2, 0.0),
            light=np.append(record.light, 0.0),
            seen_fraction=np.append(record.seen_fraction, 1.0),
            moved_um2=np.append(record.moved_um2, 0.0),
            moved_by_um=np.vstack([record.moved_by_um, [[0.0, 0.0]]]),
            moved_light=np.append(record.moved_light, 0.0),
            moved_all=np.append(record.moved_all, 0.0),
            home_label=np.append(record.home_label, -1),
        )
        for record in glass.records()
    ]
    state = ledger.fold(records, grown)
    fates = aggregate_fates(state)
    assert eaten_area(state, fates).eaten_area_um2[-1] == pytest.approx(A)


def test_creeping_on_to_the_end_at_full_light_is_not_eaten():
    glass = Glass()
    glass.add_kept()
    creeping = glass.add(place=way(8, (0.24, 0.1), 60, (50.0, 50.0)))
    _, fates, curve = told(glass)
    assert fates.fate[creeping] is Fate.MOVED
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=0.1 * A)


def test_the_same_way_with_quenched_light_is_in_a_cell():
    glass = Glass()
    glass.add_kept()
    glow = lambda t: 1 if t < 8 else 0.5 ** ((t - 7) / 20)  # noqa: E731 - half-life 40 min
    carried = glass.add(place=way(8, (0.24, 0.1), 60, (50.0, 50.0)), light=glow)
    _, fates, curve = told(glass)
    assert fates.fate[carried] is Fate.EATEN
    np.testing.assert_allclose(curve.eaten_area_um2[9:], A, atol=0.1 * A)


@pytest.mark.parametrize("half_life_min", [25.0, 60.0, 100.0])
@pytest.mark.parametrize("common", [-0.03, 0.03])
def test_quenching_is_told_from_an_error_common_to_all_sights(half_life_min, common):
    age = np.arange(2.0, 22.0, 2.0)
    whole = np.ones(10)
    assert is_quenched(age, 0.5 ** (age / half_life_min) * (1 + common), whole, 4.0)
    assert not is_quenched(age, np.full(10, 1 + common), whole, 4.0)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 5, 8])
def test_short_scenes(n_frames):
    glass = Glass(n_frames=n_frames)
    glass.add_kept()
    glass.add(bites(1, 3))
    _, fates, curve = told(glass)
    assert fates.area_um2.shape == (n_frames, 9)
    true = A - np.array([bites(1, 3)(t) for t in range(n_frames)])
    np.testing.assert_allclose(curve.eaten_area_um2, true, atol=1e-9)


def test_what_moves_off_from_the_reference_frame_on_was_in_a_cell_by_then():
    glass = Glass(reference_frame=5)
    glass.add_kept()
    glow = lambda t: min(1.0, 0.96 ** (t - 5))  # noqa: E731
    carried = glass.add(place=way(6, (1.2, 0.4), 30, (50.0, 50.0)), light=glow)
    later = glass.add(place=way(7, (1.2, 0.4), 30, (50.0, 90.0)), light=glow)
    _, fates, curve = told(glass)
    assert fates.fate[carried] is Fate.PASSING
    assert fates.fate[later] is Fate.EATEN
    np.testing.assert_allclose(curve.eaten_area_um2[6:], A, atol=1e-9)


@pytest.mark.parametrize(("frame", "fate"), [(6, Fate.PASSING), (7, Fate.DETACHED)])
def test_what_is_gone_at_once_after_the_reference_frame_is_not_eaten(frame, fate):
    glass = Glass(reference_frame=5)
    glass.add_kept()
    gone = glass.add(lambda t: A if t < frame else 0.0)
    _, fates, curve = told(glass)
    assert fates.fate[gone] is fate
    np.testing.assert_allclose(curve.eaten_area_um2, 0, atol=1e-9)


def test_another_one_that_happens_to_lie_there_does_not_stand_for_what_is_eaten():
    glass = Glass()
    glass.add_kept()
    eaten = glass.add(bites(10, 12))
    it = np.arange(9) == eaten
    records = [
        replace(
            r,
            moved_um2=np.where(it, A - r.area_um2, 0.0),
            moved_by_um=np.where(it[:, None] & (r.area_um2 < A)[:, None], [3.0, 2.0], 0.0),
            moved_light=np.where(it, 1.0, 0.0),
        )
        for r in glass.records()
    ]
    state = ledger.fold(records, glass.reference())
    fates = aggregate_fates(state)
    assert fates.fate[eaten] is Fate.EATEN
    true = A - np.array([bites(10, 12)(t) for t in range(40)])
    np.testing.assert_allclose(eaten_area(state, fates).eaten_area_um2, true, atol=1e-9)


@pytest.mark.parametrize("dims", [False, True])
def test_what_dims_in_its_place_is_not_the_like_of_it_that_shows_elsewhere(dims):
    glass = Glass()
    glass.add_kept()
    it = np.arange(9) == glass.add(lambda t: A if t < 15 else 0.0)
    records = [
        r
        if r.frame < 15
        else replace(
            r,
            moved_um2=np.where(it, A, 0.0),
            moved_by_um=np.where(it[:, None], [3.0, 2.0], 0.0),
            moved_light=np.where(it, 1.0, 0.0),
        )
        for r in glass.records()
    ]
    if dims:
        light = records[14].light * np.where(it, 0.8, 1)
        records[14] = replace(records[14], dimmed_um2=np.where(it, A, 0.0), light=light)
    state = ledger.fold(records, glass.reference())
    curve = eaten_area(state, aggregate_fates(state))
    np.testing.assert_allclose(curve.eaten_area_um2, np.where((np.arange(40) >= 14) & dims, A, 0.0), atol=1e-9)


@pytest.mark.parametrize(("light", "left"), [(0.9, 0.85 * A), (0.3, 0.0)])
def test_light_without_pixels_is_out_of_focus_where_it_is_most_of_it(light, left):
    glass = Glass()
    glass.add_kept()
    dim = glass.add(bites(10, 6))
    it = np.arange(9) == dim
    records = [
        r if r.frame < 10 else replace(r, light=np.where(it, 1000 * A * light, r.light)) for r in glass.records()
    ]
    state = ledger.fold(records, glass.reference())
    assert aggregate_fates(state).area_um2[-1, dim] == pytest.approx(left, abs=0.05 * A)


def test_a_member_of_a_clump_that_is_carried_off_leaves_the_others():
    glass = Glass()
    glass.add_kept()
    clump = glass.add(lambda t: A if t < 15 else 0.4 * A)
    it = np.arange(9) == clump
    glow = 0.5 ** (np.arange(40) * 2 / 40)
    records = [
        r
        if r.frame < 15
        else replace(
            r,
            moved_um2=np.where(it, 0.6 * A, 0.0),
            moved_by_um=np.where(it[:, None], [1.5 + 0.2 * (r.frame - 15), 1.0], 0.0),
            moved_light=np.where(it, glow[r.frame - 15 + 1], 0.0),
            moved_all=np.zeros(9),
        )
        for r in glass.records()
    ]
    state = ledger.fold(records, glass.reference())
    curve = eaten_area(state, aggregate_fates(state))
    np.testing.assert_allclose(curve.eaten_area_um2, np.where(np.arange(40) >= 14, 0.6 * A, 0.0), atol=1e-9)
