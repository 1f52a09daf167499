"""Cells in the loop: windows over stored probabilities, and what a flipped verdict costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from skimage.measure import label, regionprops
from skimage.segmentation import watershed

from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, loop_of
from phagostat.settings import profile_settings
from phagostat.simulate import scenarios as say
from phagostat.simulate import simulate
from phagostat.sources import open_source
from phagostat.sources.channel_roles import resolve
from phagostat.store.integrity import differences
from phagostat.store.layout import Layout
from phagostat.store.tables import read_table

SIDE_PX, N_FRAMES, BLURRED, WITHOUT_CELLS = 768, 9, 4, 7
WINDOW = profile_settings().coherence.window_frames
PATH = [(0.0, 0.0), (5.2, -3.4), (-6.1, 8.7), (0.0, 1.0), (3.0, 3.0), (-9.0, 2.5), (1.0, 0.0), (2.0, 2.0), (4.0, 0.5)]


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "movie.czi"
    trouble = say.blurred_burst(BLURRED, 1, sigma_px=2.0) | say.missing_plane(WITHOUT_CELLS, 1)
    scenario = say.calm() | say.stage_path(PATH) | trouble
    simulate(path, preset="easy", seed=2, scenes=1, frames=N_FRAMES, shape_yx=(SIDE_PX, SIDE_PX), scenario=scenario)
    return path


def analyse(movie: Path, root: Path, **values: object):
    source = open_source(movie)
    job = analysis_job(source, resolve(source.metadata), profile_settings(values=values), root)
    report = loop_of(job).run(SynchronousExecutor(), poll_s=0.0)
    assert report.sealed
    return report.computed, job.layout


@pytest.fixture(scope="module")
def batch(movie: Path, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return analyse(movie, tmp_path_factory.mktemp("batch"))[1]


def frames(layout: Layout) -> list[dict]:
    return read_table(layout.tables, "frames").to_pylist()


def written(layout: Layout) -> dict[str, int]:
    """When the label chunk of each frame was written."""
    folder = layout.images / "0/labels/cells/0/c"
    return {path.relative_to(folder).parts[0]: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def array(layout: Layout, path: str) -> np.ndarray:
    return zarr.open_array(layout.images / path, mode="r")[:, 0]


def test_windows_leave_out_what_cannot_be_used_and_say_how_many_frames_they_had(batch):
    rows = frames(batch)
    assert [row["segmentation_verdict"] for row in rows] == [
        {BLURRED: "unusable", WITHOUT_CELLS: "missing"}.get(t, "ok") for t in range(N_FRAMES)
    ]
    good = [t not in {BLURRED, WITHOUT_CELLS} for t in range(N_FRAMES)]
    for t, row in enumerate(rows):
        if row["segmentation_verdict"] == "ok":
            assert row["window_frames"] == sum(good[t : t + WINDOW])
            assert row["window_short"] == (t + WINDOW > N_FRAMES)
            assert row["cell_count"] > 0
        else:
            assert row["cell_count"] is None
            assert not array(batch, "0/labels/cells/0")[t].any()


def test_labels_are_those_of_another_library_from_the_stored_probabilities(batch):
    """Seeds by a plain mean of moved frames, and scikit-image's watershed: all but ties between equal fronts agree."""
    rows, probability = frames(batch), array(batch, "0/probability/0")
    labels = array(batch, "0/labels/cells/0")
    shifts = np.array([[row["shift_y_px"], row["shift_x_px"]] for row in rows], float) / 2
    for t in (0, 2, 5):
        total, count = np.zeros(probability.shape[1:]), np.zeros(probability.shape[1:])
        for other in range(t, min(t + WINDOW, N_FRAMES)):
            if not rows[other]["usable"] or other == WITHOUT_CELLS:
                continue
            dy, dx = np.rint(shifts[other] - shifts[t]).astype(int)
            y, x = np.indices(total.shape)
            inside = (y + dy >= 0) & (y + dy < total.shape[0]) & (x + dx >= 0) & (x + dx < total.shape[1])
            total[inside] += probability[other][y[inside] + dy, x[inside] + dx]
            count += inside
        certain = total > 0.9 * 255 * count
        seeds = label(certain, connectivity=2)
        for region in regionprops(seeds):
            if region.area < 42.4 / 0.206**2:
                seeds[seeds == region.label] = 0
        expected = watershed(-probability[t].astype(int), seeds, connectivity=2, mask=probability[t] > 127)
        seeded = expected > 0
        pairs = np.unique(np.stack([expected[seeded], labels[t][seeded]]), axis=1, return_counts=True)
        agreeing = sum(max(pairs[1][pairs[0][0] == name]) for name in np.unique(expected[seeded]))
        assert agreeing > 0.995 * np.count_nonzero(seeded)
        assert ((labels[t] > 0) >= seeded).all()


@pytest.mark.parametrize("block", [1, 2, 7])
def test_block_size_changes_nothing(movie, batch, tmp_path, block):
    _, layout = analyse(movie, tmp_path, execution={"block_frames": block})
    assert differences(batch, layout) == []


def test_a_flipped_verdict_redoes_the_windows_with_its_frame_alone(movie, batch, tmp_path):
    _, layout = analyse(movie, tmp_path)
    before = written(layout)
    computed, _ = analyse(movie, tmp_path, blur={"certain_ratio": 0.01, "suspect_ratio": 0.01})
    rows = frames(layout)
    if not rows[BLURRED]["usable"]:
        pytest.fail("the frame was to become usable")
    first = max(0, BLURRED - WINDOW + 1)
    movies = dict.fromkeys(("tracks", "track_features", "eaten", "fates"), 1)
    assert computed == {"cells": BLURRED - first + 1} | movies
    # its chunk is there now; those of frames whose windows do not hold it were left alone
    after = written(layout)
    untouched = {t for t in range(N_FRAMES) if not first <= t <= BLURRED and t != WITHOUT_CELLS}
    assert {int(name) for name, when in after.items() if before.get(name) == when} == untouched


def test_every_cell_of_the_table_is_in_the_label_image(batch):
    table = read_table(batch.tables, "cells").to_pandas()
    labels = array(batch, "0/labels/cells/0")
    for t in range(N_FRAMES):
        mine = table[table["frame"] == t]
        assert list(mine["cell"]) == list(range(1, labels[t].max() + 1))
        for region, row in zip(regionprops(labels[t]), mine.itertuples(), strict=True):
            assert row.area_px == region.area
            assert np.allclose([(row.y_px + 0.5) / 2 - 0.5, (row.x_px + 0.5) / 2 - 0.5], region.centroid)
