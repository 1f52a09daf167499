"""What is made of trials: errors, intervals, ratios of times, and failures that do not end a run."""

from __future__ import annotations

import numpy as np
import pytest

from phagostat.bench import trials as trials_module
from phagostat.bench.spots import SpotGlass
from phagostat.bench.trials import Trial, accuracy, as_row, attempt, of, timing
from phagostat.kernels.translation import prepare_reference
from phagostat.model.records import TranslationEstimate

NAN = float("nan")


def trial(error=(0.0, 0.0), *, method="a", index=0, wall=1.0, reason=None, case="c"):
    found = (NAN, NAN) if reason else (10.0 + error[0], -4.0 + error[1])
    return Trial(method, case, index, 64, (10.0, -4.0), found, (NAN, NAN), (NAN, NAN), reason, False, wall, wall)


@pytest.fixture(scope="module")
def pair():
    glass = SpotGlass.draw(side_px=256, seed=0)
    frames = [np.rint(glass.frame(shift)).astype(np.uint16) for shift in ((0.0, 0.0), (5.25, -8.5))]
    return prepare_reference(frames[0]), frames[1]


def test_an_attempt_is_measured_against_the_truth(pair):
    found = attempt(*pair, method="tiles", case="x", index=3, search_radius_px=50.0, true_yx_px=(5.25, -8.5))
    assert found.accepted
    assert np.abs(found.error_yx_px).max() < 0.05
    assert found.wall_s > 0
    assert found.cpu_s > 0
    assert as_row(found)["bound_yx_px"] == [None, None]


@pytest.mark.parametrize(
    "broken",
    [
        lambda *_, **__: 1 / 0,
        lambda *_, **__: TranslationEstimate((NAN, 0.0)),
    ],
)
def test_what_raises_is_a_failure_of_that_pair(pair, monkeypatch, broken):
    monkeypatch.setattr(trials_module, "estimate_translation", broken)
    found = attempt(*pair, method="tiles", case="x", index=0, search_radius_px=50.0)
    assert not found.accepted
    assert found.crashed
    assert accuracy([found])["n_crashed"] == 1


def test_errors_are_per_axis_with_an_interval_that_holds_the_mean():
    rng = np.random.default_rng(0)
    errors = rng.normal((0.02, -0.1), (0.05, 0.2), (400, 2))
    figures = accuracy([trial(tuple(e), index=i) for i, e in enumerate(errors)])
    for axis, name, mean, sd in ((0, "y", 0.02, 0.05), (1, "x", -0.1, 0.2)):
        one = figures[name]
        assert one["mean_abs_px"] == pytest.approx(np.abs(errors[:, axis]).mean())
        assert one["rms_px"] == pytest.approx(np.hypot(mean, sd), rel=0.15)
        assert one["mean_low_px"] < mean < one["mean_high_px"]
        assert one["mean_high_px"] - one["mean_low_px"] == pytest.approx(2 * 1.96 * sd / 20, rel=0.15)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        one = accuracy([trial((e, 0.0), index=i) for i, e in enumerate(rng.normal(0, 1, 12) * 0.1)])["y"]
        held += one["mean_low_px"] < 0 < one["mean_high_px"]
    assert 0.91 < held / 400 < 0.98


def test_wrong_and_refused_are_told_apart():
    found = [trial((0.1, 0.0)), trial((3.0, 0.0)), trial(reason="no"), trial((0.0, -0.2))]
    figures = accuracy(found)
    assert (figures["n"], figures["n_refused"], figures["n_wrong"]) == (4, 1, 1)
    assert figures["y"]["max_abs_px"] == pytest.approx(3.0)
    assert figures["right_y"]["max_abs_px"] == pytest.approx(0.1)
    only_refused = accuracy([trial(reason="no")])
    assert only_refused["x"] is None
    assert only_refused["median_px"] is None


def test_ratios_are_of_the_pairs_that_both_met():
    fast = [trial(method="a", index=i, wall=0.01 * (1 + i)) for i in range(10)]
    slow = [trial(method="b", index=i, wall=1.0) for i in range(3)]
    figures = timing(fast, slow)
    assert figures["faster"] == pytest.approx(1.0 / 0.02)
    assert figures["faster_pairs"] == 3
    assert figures["median_s"] == pytest.approx(0.055)
    assert "faster" not in timing(fast, [trial(method="b", index=0, case="another")])
    assert of(fast + slow, method="b") == slow
