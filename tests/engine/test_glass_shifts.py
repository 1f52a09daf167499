"""A movie in which most aggregates go: its last frames take their shift from the glass of the phase channel."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest

from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, loop_of
from phagostat.settings import profile_settings
from phagostat.sources.channel_roles import resolve
from phagostat.store.integrity import differences
from phagostat.store.tables import read_table

from ..kernels.test_translation_glass import SIDE, field
from ..kernels.translation_scenes import blob_scene, frame_of
from .film import Film

SHIFTS = ((0.0, 0.0), (3.4, -2.25), (-7.5, 5.0), (11.25, -6.5), (-4.75, 9.25))
GONE = (0.0, 0.2, 0.4, 1.0, 1.0)
"""Share of the aggregates that have been carried out of their places; as many others have come."""

FOREIGN = 4
"""This frame's phase channel shows another field: nothing is left to tell its shift."""


@functools.cache
def plane(frame: int, channel: int) -> np.ndarray:
    if channel == 1:
        return field(SHIFTS[frame], (2.0 * frame, 1.5 * frame), scene=7 if frame == FOREIGN else 0, seed=frame + 1)
    scene = blob_scene((SIDE, SIDE), n_aggregates=30, seed=2)
    gone = scene.with_moved(GONE[frame], rng=np.random.default_rng(frame), distance_px=150.0)
    return frame_of(gone, SHIFTS[frame], seed=frame)


@dataclass
class LosingFilm(Film):
    """Five frames of one scene, at a pixel size at which a cell of the phase channel is as large as a real one."""

    frames: tuple[int, ...] = (len(SHIFTS),)
    shape_yx: tuple[int, int] = (SIDE, SIDE)

    @property
    def metadata(self):
        return replace(super().metadata, pixel_size_um=0.4)

    def read(self, scene: int, frame: int, channel: int) -> np.ndarray:
        return plane(frame, channel).copy()


def analysed(root, **execution):
    settings = profile_settings(values={"reference": {"rule": "first"}, "execution": execution})
    made = analysis_job(LosingFilm(), resolve(LosingFilm().metadata), settings, root)
    assert loop_of(made).run(SynchronousExecutor(), poll_s=0.0).sealed
    return made.layout


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    return analysed(tmp_path_factory.mktemp("losing"))


def test_each_frame_says_what_its_shift_comes_from(batch):
    rows = read_table(batch.tables, "frames").to_pylist()
    assert [row["shift_method"] for row in rows[:FOREIGN]] == ["reference", "tiles", "tiles", "glass"]
    for row, shift in zip(rows[:FOREIGN], SHIFTS, strict=False):
        assert (row["shift_y_px"], row["shift_x_px"]) == pytest.approx(shift, abs=0.12)
        assert row["verdict"] == "ok"


def test_a_frame_that_neither_channel_can_place_has_no_shift(batch):
    row = read_table(batch.tables, "frames").to_pylist()[FOREIGN]
    assert row["verdict"] == "unregistered"
    assert np.isnan(row["shift_y_px"] if row["shift_y_px"] is not None else np.nan)
    assert "agree" in row["reason"]
    assert "glass" in row["reason"]


def test_block_size_changes_nothing(batch, tmp_path):
    other = analysed(tmp_path, block_frames=2)
    assert differences(batch, other) == []
