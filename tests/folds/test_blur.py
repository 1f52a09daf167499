from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phagostat.folds import blur
from phagostat.folds.blur import BlurOptions, BlurRecord, BlurState, Focus
from phagostat.kernels.sharpness import sharpness
from phagostat.simulate import SimulationSpec, iter_frames
from phagostat.simulate.scenarios import blurred_burst, steady_bleaching


def records(values, *, verdicts=None, matched=None, interval_s=120.0):
    return [
        BlurRecord(
            frame,
            frame * interval_s,
            (verdicts or {}).get(frame, "ok"),
            value,
            None if matched is None else matched[frame],
            None if matched is None else 100,
        )
        for frame, value in enumerate(values)
    ]


def rejected(values, *, reference=None, options=None, **more):
    _, verdicts = blur.fold(records(values, **more), reference_sharpness=reference, options=options)
    return [v.frame for v in verdicts if not v.usable]


def wobble(n, *, level=10.0, sd=0.04, seed=0):
    return level * (1 + sd * np.random.default_rng(seed).standard_normal(n))


def test_a_burst_of_any_length_is_rejected_frame_by_frame():
    for length in (1, 5, 60):
        values = wobble(100)
        values[20 : 20 + length] *= 0.3
        assert rejected(values, reference=10.0) == list(range(20, 20 + length))


def test_sharp_frames_within_an_episode_are_kept():
    values = wobble(40)
    values[[10, 11, 13, 15]] *= 0.3
    assert rejected(values, reference=10.0) == [10, 11, 13, 15]


def test_a_scene_that_starts_blurred_is_compared_with_its_reference():
    values = wobble(30)
    values[:8] *= 0.4
    assert rejected(values, reference=10.0) == list(range(8))


def test_slow_true_change_moves_the_baseline():
    assert rejected(wobble(200) * np.linspace(1, 0.2, 200), reference=10.0) == []
    assert rejected(wobble(200) * np.linspace(1, 3, 200), reference=10.0) == []


def test_focus_that_goes_over_minutes_is_caught_by_the_best_of_the_last_half_hour():
    fade = np.concatenate([np.ones(20), np.linspace(1, 0.3, 14), np.full(10, 0.3)])
    found = rejected(wobble(44) * fade, reference=10.0)
    assert set(range(32, 44)) <= set(found)
    assert min(found) >= 26
    # the last five accepted frames alone would follow it
    followed = rejected(wobble(44) * fade, reference=10.0, options=BlurOptions(ramp_window_s=0.0))
    assert len(followed) < len(found)


def test_a_doubtful_frame_is_blurred_if_it_lost_aggregates():
    values = wobble(20, sd=0.0)
    values[10] *= 0.65
    assert rejected(values, reference=10.0, matched=[100] * 20) == []
    lost = [100] * 20
    lost[10] = 70
    assert rejected(values, reference=10.0, matched=lost) == [10]
    assert rejected(wobble(20, sd=0.0), reference=10.0, matched=lost) == []  # sharp all the same


def test_frames_without_sharpness_or_shift_are_no_baseline():
    values = [10.0] * 12
    values[3] = None
    values[4] = float("nan")
    values[5] = 2.0
    _, verdicts = blur.fold(
        records(values, verdicts={3: "missing", 4: "black", 5: "unregistered"}), reference_sharpness=10.0
    )
    assert [v.frame for v in verdicts if not v.usable] == [3, 4, 5]
    assert [verdicts[k].focus for k in (3, 4, 5)] == [Focus.UNKNOWN, Focus.UNKNOWN, Focus.BLURRED]
    assert verdicts[3].reason == "missing"
    assert verdicts[5].reason.startswith("unregistered; sharpness is 0.20")
    assert verdicts[6].evidence["sharpness_ratio"] == 1.0


def test_all_blurred_and_nothing_to_compare_with():
    assert rejected([2.0] * 20, reference=10.0) == list(range(20))
    _, verdicts = blur.fold(records([2.0] * 5))
    assert {v.focus for v in verdicts} == {Focus.UNKNOWN}
    assert not any(v.usable for v in verdicts)
    assert "no sharp frame" in verdicts[0].reason


def test_paper_compares_consecutive_sharp_frames():
    values = [100.0, 99.5, 98.0, 60.0, 99.0, 99.0, 97.5, 99.0]
    assert rejected(values, options=BlurOptions(rule="paper")) == [2, 3, 6]


def test_paper_ends_an_episode_after_its_search():
    values = [100.0] * 5 + [50.0] * 40
    found = rejected(values, options=BlurOptions(rule="paper"))
    assert found[0] == 5
    assert len(found) == 15  # the frame and 14 more; then the new level is the baseline
    assert len(rejected(values, options=BlurOptions(rule="paper", search_frames=30))) == 31


series = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(0, 20, allow_nan=False)),
        st.sampled_from(["ok", "ok", "ok", "missing", "unregistered"]),
        st.one_of(st.none(), st.integers(0, 100)),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(series, st.integers(0, 40), st.sampled_from(["corrected", "paper"]), st.one_of(st.none(), st.just(10.0)))
def test_replayed_from_stored_values_in_two_parts_is_the_same(values, cut, rule, reference):
    items = [
        BlurRecord(i, 90.0 * i, verdict, value, matched, None if matched is None else 100)
        for i, (value, verdict, matched) in enumerate(values)
    ]
    options = BlurOptions(rule=rule)
    state, whole = blur.fold(items, reference_sharpness=reference, options=options)
    first, verdicts = blur.fold(items[:cut], reference_sharpness=reference, options=options)
    first = BlurState.from_dict(json.loads(json.dumps(first.as_dict())))
    for item in items[cut:]:
        first, new = blur.step(first, item, options)
        verdicts += new
    assert verdicts == whole
    assert first == state
    # verdicts of the first frames do not depend on later ones
    _, prefix = blur.fold(items[:cut], reference_sharpness=reference, options=options)
    assert prefix == whole[:cut]
    assert len(state.accepted) <= 40


def test_state_stays_small():
    state, _ = blur.fold(records(wobble(2000)), reference_sharpness=10.0)
    assert len(state.accepted) <= 16


def test_bad_input_is_refused():
    state, _ = blur.fold(records([1.0, 1.0]), reference_sharpness=1.0)
    with pytest.raises(ValueError, match="frame 1 after 1"):
        blur.step(state, BlurRecord(1, 0.0, "ok", 1.0))
    with pytest.raises(ValueError, match="suspect_ratio"):
        BlurOptions(suspect_ratio=0.3)
    with pytest.raises(ValueError, match="search_frames"):
        BlurOptions(search_frames=0)


@pytest.mark.parametrize("seed", [3, 4])
def test_simulated_bursts_ramps_and_bleaching(seed):
    scenario = blurred_burst(10, 5, sigma_px=2.2) | steady_bleaching(0.4, 30)
    ramp = blurred_burst(20, 9, sigma_px=4.0, ramp=True)
    scenario = scenario | type(scenario)(defocus_px={**scenario.defocus_px, **ramp.defocus_px})
    spec = SimulationSpec(seed=seed, scenes=1, frames=30, shape_yx=(512, 512), scenario=scenario)
    values, defocus = [], []
    for simulated in iter_frames(spec):
        plane = simulated.planes[0].astype(np.float32)
        reduced = plane.reshape(256, 2, 256, 2).mean(axis=(1, 3)).round().astype(np.uint16)
        values.append(sharpness(reduced).value)
        defocus.append(simulated.frame_row[5])
    defocus = np.array(defocus)
    found = rejected(values, reference=max(values[:5]))
    assert set(np.flatnonzero(defocus >= 2)) <= set(found)
    assert not set(np.flatnonzero(defocus <= 0.5)) & set(found)
    assert (defocus >= 2).sum() >= 10
