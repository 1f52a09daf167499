"""The tables on small frames: what they count, what they refuse, and that a seed says all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from phagostat.bench import shifts as shifts_module
from phagostat.bench.command import as_json, plan_of, run_registration
from phagostat.bench.impossible import KINDS
from phagostat.bench.impossible_phase import FIELDS, run_impossible_phase
from phagostat.bench.movie import LARGEST_SHIFT_PX, read_movie, run_movie, window
from phagostat.bench.plan import GLASS_METHOD, Plan
from phagostat.bench.robustness import CONDITIONS
from phagostat.bench.spots import SpotGlass
from phagostat.bench.text import registration_text
from phagostat.kernels.translation import METHODS
from phagostat.model.errors import PhagostatError, SettingsError, SourceError

SMALL = {"side_px": 256, "methods": ("tiles",)}


def silent(done, total, label):
    assert 0 <= done <= total
    assert label


@pytest.fixture
def no_children(monkeypatch):
    """Leave peak memory out: starting Python takes longer than small tables."""
    monkeypatch.setattr(shifts_module, "peak_memory", lambda *_, **__: {"peak_mib": None, "before_mib": None})


def without_times(value):
    if isinstance(value, dict):
        dropped = ("wall_s", "cpu_s", "faster", "median_s", "mean_s", "p90_s", "cpu_median_s", "peak_memory")
        return {key: without_times(item) for key, item in value.items() if key not in dropped}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def found(plan, table):
    return run_registration(plan, silent)["tables"][table]


def test_the_papers_test_on_small_frames():
    plan = Plan(n=10, n_slow=2, side_px=256, methods=("tiles", "phase"), tables=("shifts",), seed=3)
    document = run_registration(plan, silent)
    shifts = document["tables"]["shifts"]
    tiles, phase = shifts["methods"]["tiles"], shifts["methods"]["phase"]
    assert tiles["exact"]["n"] == 10
    assert (tiles["sub-pixel"]["n"], tiles["whole pixels"]["n"]) == (8, 2)
    assert (tiles["new content"]["n"], tiles["OpenCV 4 warp"]["n"]) == (1, 1)
    assert phase["exact"]["n"] == 2
    assert tiles["exact"]["n_refused"] == tiles["exact"]["n_wrong"] == 0
    assert tiles["exact"]["x"]["mean_abs_px"] < 0.01
    bounds = np.array([t["bound_yx_px"] for t in shifts["trials"] if t["case"] == "sub-pixel"], float)
    assert (bounds > 0).all()
    assert [t["bound_yx_px"] for t in shifts["trials"] if t["case"] == "whole pixels"] == [[None, None]] * 2
    assert shifts["rounding_of_opencv4"]["n"] == 1
    warped = [t for t in shifts["trials"] if t["case"] == "OpenCV 4 warp" and t["method"] == "tiles"]
    rounded = [np.subtract(np.round(np.multiply(t["true_yx_px"], 32)) / 32, t["true_yx_px"]) for t in warped]
    error = [np.subtract(t["found_yx_px"], t["true_yx_px"]) for t in warped]
    assert np.abs(np.subtract(error, rounded)).max() < 0.02  # its error is the rounding's
    for method in ("tiles", "phase"):
        assert shifts["peak_memory"][method]["peak_mib"] > shifts["peak_memory"][method]["before_mib"] > 20
    text = registration_text(document)
    assert "paper: cecc" in text
    assert "8.77 s" in text


def test_shifts_are_independent_and_reach_as_far_as_they_say():
    plan = Plan(n=1)
    drawn = np.array([plan.random("shifts", 0, i).uniform(-1, 1, 2) for i in range(500)])
    assert np.abs(drawn).max() > 0.98
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1
    assert len(np.unique(drawn)) == 1000


def test_noise_is_near_the_bound_and_the_standard_error_true():
    plan = Plan(n=20, tables=("noise",), light_levels=(1.0, 0.1), side_px=512, methods=("tiles",), seed=1)
    levels = found(plan, "noise")["levels"]
    bright, dark = (level["methods"]["tiles"] for level in levels)
    for one in (bright, dark):
        assert one["n_refused"] == 0
        # how near a method comes is the benchmark's to say: here, that error, bound and standard error belong together
        assert 0.7 < np.mean(one["error_to_bound_yx"]) < 4
        assert 0.3 < one["reported_to_true"] < 3
    assert min(dark["bound_rms_yx_px"]) > 2 * max(bright["bound_rms_yx_px"])


def test_robustness_meets_every_condition():
    rows = found(Plan(n=1, tables=("robustness",), side_px=512, methods=("tiles",)), "robustness")["rows"]
    assert {row["condition"] for row in rows} == set(CONDITIONS)
    large = {row["condition"]: row for row in rows if "512" in row["field"]}
    for condition in ("as it is", "30 % of aggregates removed", "faded to a half", "36 % new at the border"):
        assert large[condition]["n_refused"] == 0, condition
        assert large[condition]["max_px"] < 0.1, condition


def test_impossible_pairs_are_made_of_every_kind():
    impossible = found(
        Plan(n=60, tables=("impossible",), n_slow=14, side_px=256, methods=("tiles", "phase")), "impossible"
    )
    tiles, phase = impossible["methods"]["tiles"], impossible["methods"]["phase"]
    assert tiles["n"] >= 60
    assert tiles["n_accepted"] == 0, tiles["kinds"]
    assert set(phase["kinds"]) == set(KINDS)
    assert phase["n_accepted"] > 0  # it accepts what it cannot know
    assert sum(tiles["reasons"].values()) == tiles["n"]


@pytest.mark.parametrize("tables", [("shifts",), ("noise",), ("robustness",), ("impossible",)])
def test_a_seed_says_everything_but_times(tables, no_children):
    options = {
        "n": 1 if tables == ("robustness",) else 6,
        "n_slow": 1,
        "side_px": 256,
        "tables": tables,
        "light_levels": (1.0,),
    }
    first, second, other = (
        without_times(json.loads(as_json(run_registration(Plan(**options, methods=("tiles",), seed=seed), silent))))
        for seed in (5, 5, 6)
    )
    assert first == second
    assert first["tables"] != other["tables"]


def test_a_table_does_not_depend_on_which_methods_run_beside(no_children):
    options = {"n": 6, "n_slow": 3, "side_px": 256, "tables": ("shifts",)}
    both = [found(Plan(**options, methods=methods), "shifts")["trials"] for methods in (("tiles",), ("phase", "tiles"))]
    alone, beside = ([t["found_yx_px"] for t in trials if t["method"] == "tiles"] for trials in both)
    assert alone == beside


@pytest.fixture
def movie(tmp_path):
    """Three frames of a field whose stage moved by whole pixels."""
    folder = tmp_path / "film"
    folder.mkdir()
    glass = SpotGlass.draw(side_px=592, seed=8)
    for number, shift in enumerate(((0.0, 0.0), (1.0, 0.0), (-1.0, 2.0))):
        tifffile.imwrite(folder / f"t{number}.tif", np.rint(glass.frame(shift)).astype(np.uint16))
    return folder


def test_a_movie_comes_back_to_where_its_stage_was(movie):
    result = run_movie(Plan(n=1, movie=movie, **SMALL), silent)
    by_frame = {(row["frame"], row["method"]): row for row in result["frames"]}
    for frame, (drift_y, drift_x) in enumerate(((0, 0), (1, 0), (-1, 2))):
        row = by_frame[frame, "tiles"]
        assert row["y"]["mean_px"] == pytest.approx(drift_y, abs=0.1)
        assert row["x"]["mean_px"] == pytest.approx(drift_x, abs=0.1)


def test_impossible_phase_contrast_is_made_of_the_movie(movie):
    if GLASS_METHOD not in METHODS:
        pytest.skip("there is no method for phase contrast")
    (movie.parent / FIELDS).mkdir()
    tifffile.imwrite(movie.parent / FIELDS / "field01.tif", np.full((600, 600), 3, np.uint16))
    tifffile.imwrite(movie.parent / FIELDS / "field01_labels.tif", np.zeros((600, 600), np.uint8))
    result = run_impossible_phase(Plan(n=1, movie=movie, **SMALL), silent)
    assert result["n_foreign_fields"] == 1
    assert {"black", "turned by 90 degrees", "mirrored", "foreign field"} <= set(result["kinds"])
    assert "absent" in run_impossible_phase(Plan(n=1, **SMALL), silent)


def test_a_window_is_cropped_and_does_not_wrap():
    frame = np.arange(200 * 220, dtype=np.uint16).reshape(200, 220)
    shift = (7, -11)
    still, moved = window(frame, (0, 0)), window(frame, shift)
    np.testing.assert_array_equal(moved[7:, :-11], still[:-7, 11:])
    assert moved.shape == (200 - 2 * LARGEST_SHIFT_PX, 220 - 2 * LARGEST_SHIFT_PX)


def test_bad_movies_are_said(tmp_path):
    with pytest.raises(SourceError, match="at least two"):
        read_movie(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((200, 200), np.uint16))
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((201, 200), np.uint16))
    with pytest.raises(SourceError, match="one shape"):
        read_movie(tmp_path)
    (tmp_path / "b.tif").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="cannot be read"):
        read_movie(tmp_path)


OPTIONS = {
    "n": 4, "n_slow": None, "methods": None, "tables": None, "noise": None, "reference": "simulated",
    "movie": "simulated", "size": 256, "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"methods": "tiles,nonsense"}, SettingsError, "nonsense"),
        ({"tables": "shifts,nonsense"}, SettingsError, "nonsense"),
        ({"methods": " , "}, SettingsError, "nothing is named"),
        ({"n": 0}, SettingsError, "at least one pair"),
        ({"n_slow": -1}, SettingsError, "not negative"),
        ({"size": 100}, SettingsError, "at least 128"),
        ({"size": 1026}, SettingsError, "multiples of 4"),
        ({"noise": "1,-2"}, SettingsError, "positive"),
        ({"noise": "bright"}, SettingsError, "positive"),
        ({"reference": "/not/there.png"}, SourceError, "no such picture"),
        ({"movie": "/not/there"}, SourceError, "no such folder"),
    ],
)
def test_bad_options_are_one_sentence(given, kind, said):
    with pytest.raises(kind, match=said) as caught:
        plan_of(**OPTIONS | given)
    assert isinstance(caught.value, PhagostatError)
    assert "\n" not in str(caught.value)


def test_options_that_are_left_out():
    plan = plan_of(**OPTIONS)
    assert plan.methods == ("tiles", "phase", "sift", "ecc", "cecc")
    assert plan.reference is None
    assert plan.movie is None
    assert plan.n_slow == 4
    assert plan_of(**OPTIONS | {"n": 1000}).n_slow == 50
    assert plan_of(**OPTIONS | {"noise": "0.5, 0.1"}).light_levels == (0.5, 0.1)


def test_a_picture_that_is_too_small(tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(path)
    plan = plan_of(**OPTIONS | {"reference": str(path), "tables": "shifts", "methods": "tiles"})
    with pytest.raises(SourceError, match="at least 64"):
        run_registration(plan, silent)


@pytest.mark.real
def test_the_real_picture_is_upsampled_and_says_so(shared_data: Path, no_children):
    reference = str(shared_data / "microglia" / "aggregates.png")
    plan = plan_of(**OPTIONS | {"reference": reference, "size": 1280, "n": 2, "methods": "tiles", "tables": "shifts"})
    document = run_registration(plan, silent)
    assert "upsampled 1.25 times" in document["tables"]["shifts"]["field"]
    exact = document["tables"]["shifts"]["methods"]["tiles"]["exact"]
    assert exact["n_refused"] == 0
    assert exact["x"]["mean_abs_px"] < 0.002
