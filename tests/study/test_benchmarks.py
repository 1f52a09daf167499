"""What the benchmarks of scores do with what they find: kept records, differences with intervals, tables."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("records")


@pytest.fixture
def coherence(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("coherence")


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("scores")


def test_stopped_run_goes_on(records: ModuleType, tmp_path: Path) -> None:
    asked: list[str] = []

    def make(key: str) -> list[dict[str, Any]]:
        asked.append(key)
        if key == "b" and len(asked) == 2:
            raise KeyboardInterrupt
        return [{"key": key}]

    kept = records.Records(tmp_path, {"size": 1})
    kept.of("a", lambda: make("a"))
    with pytest.raises(KeyboardInterrupt):
        kept.of("b", lambda: make("b"))
    kept = records.Records(tmp_path, {"size": 1})
    found = [kept.of(key, lambda key=key: make(key)) for key in "abc"]
    assert found == [[{"key": "a"}], [{"key": "b"}], [{"key": "c"}]]
    assert asked == ["a", "b", "b", "c"]
    about, everything = records.read_records(tmp_path)
    assert about["size"] == 1
    assert [record["key"] for record in everything] == ["a", "b", "c"]


def test_folder_of_other_records_is_refused(records: ModuleType, tmp_path: Path) -> None:
    records.Records(tmp_path, {"size": 1, "frames": 2})
    with pytest.raises(SystemExit, match="size: 1, now 3"):
        records.Records(tmp_path, {"size": 3, "frames": 2})
    about = json.loads((tmp_path / "about.json").read_text("utf-8"))
    (tmp_path / "about.json").write_text(json.dumps(about | {"package": "another"}), "utf-8")
    with pytest.raises(SystemExit, match="package"):
        records.Records(tmp_path, {"size": 1, "frames": 2})


def test_differences_are_taken_seed_by_seed(coherence: ModuleType) -> None:
    figure = coherence.Figure("F1", lambda record: record["cell_f1"], 1)
    found = [
        {"seed": seed, "window": window, "probability": 0.9, "cell_f1": value}
        for seed, pair in enumerate([(0.2, 0.3), (0.9, 1.1), (0.5, 0.8), (0.4, None)])
        for window, value in zip((1, 5), pair, strict=True)
    ]
    values = coherence.differences(found, figure, (5, 0.9))
    np.testing.assert_allclose(values, [0.1, 0.2, 0.3])
    mean, half = coherence.interval(values)
    assert mean == pytest.approx(0.2)
    assert half == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-6)
    assert coherence.said(mean, half, 1) == "+0.200 ±0.248"
    assert coherence.said(0.3, half, 1) == "+0.300 ±0.248 better"
    assert coherence.said(0.3, half, -1) == "+0.300 ±0.248 worse"
    assert coherence.said(-0.3, half, -1) == "-0.300 ±0.248 better"


def test_one_seed_decides_nothing(coherence: ModuleType) -> None:
    assert coherence.said(*coherence.interval(np.array([0.5])), 1) == "+0.500"


def test_probabilities_flicker_from_frame_to_frame_and_not_from_run_to_run(coherence: ModuleType) -> None:
    def route(frame: np.ndarray, *, pixel_size_um: float) -> np.ndarray:
        assert pixel_size_um == 0.5
        return np.full(frame.shape, 128, np.uint8)

    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    disturbed = coherence.flickering(route)
    first, again, second = (disturbed(frames[i], pixel_size_um=0.5).astype(float) / 255 for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.std() == pytest.approx(coherence.FLICKER_SD, rel=0.05)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.5


def test_table_of_scores_sums_counts_and_names_the_worst(scores: ModuleType) -> None:
    about = {"commit": "0123456789", "size": 512, "frames": 40, "scenario": "bleaching"}
    scenes = [
        {"preset": "hard", "mode": "semi", "n_sharp_frames": 10, "unregistered_share": 0.2, "cell_dice": 0.9},
        {"preset": "hard", "mode": "semi", "n_sharp_frames": 5, "unregistered_share": 0.0, "cell_dice": 0.7},
        {"preset": "default", "mode": "semi", "n_sharp_frames": 5, "unregistered_share": None, "cell_dice": None},
    ]
    lines = scores.table(about, scenes)
    assert lines[0] == "| commit 0123456, 512 px, 40 frames, bleaching | default, semi | hard, semi |"
    assert "| scenes | 1 | 2 |" in lines
    assert "| sharp frames without a shift | - | 2 of 15 |" in lines
    assert "| cells: foreground Dice | - | 0.800, worst 0.700 |" in lines
    assert not any("F1" in line for line in lines)
