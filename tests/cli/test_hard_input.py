"""Acquisitions that hardly show anything, or too much: each ends with a clear statement, whole tables and a report."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from phagostat.engine.columns import TABLES
from phagostat.report.selection import KINDS
from phagostat.store.tables import read_table

from . import painted

RUN = ("--workers", "0")
SIDE_PX = 192
NOTHING, EVERYWHERE = np.zeros((SIDE_PX, SIDE_PX), np.bool_), np.ones((SIDE_PX, SIDE_PX), np.bool_)
DARK = np.zeros((SIDE_PX, SIDE_PX))
LIGHT = painted.glass(SIDE_PX, 30)
CELLS = painted.discs(SIDE_PX, 4)


@pytest.fixture
def analysed(call, tmp_path):
    """Gives a function that paints a movie, runs it, reports and exports it in every kind, and checks what is whole."""

    def analyse(*options: object, code: int = 0, **paint: object) -> tuple[Path, str, str]:
        source = painted.movie(tmp_path / "m.ome.tif", **{"light": LIGHT, "cells": CELLS, **paint})
        found = call("run", source, "-o", tmp_path / "out", *RUN, *options)
        assert found.code == code, found.err
        assert "Traceback" not in found.err
        output = tmp_path / "out/m"
        for name, columns in TABLES.items():
            assert read_table(output / "tables", name).column_names == [column.name for column in columns], name
            assert pq.read_metadata(output / "tables" / f"{name}.parquet").num_rows >= (name in ("frames", "scenes"))
        page = call("report", output, "--json")
        assert page.code == 0, page.err
        kinds = [argument for kind in KINDS for argument in ("--kind", kind)]
        exported = call("export", output, "-o", tmp_path / "ex", *kinds, "--movie", "webp", "--width-px", 96, "--json")
        assert exported.code == 0, exported.err
        assert {one["kind"] for one in json.loads(exported.out)} == set(KINDS)
        for table in (tmp_path / "ex/m/csv").glob("*.csv"):
            with table.open(newline="", encoding="utf-8") as file:
                header = next(csv.reader(file))
            assert table.stem == "columns" or header == [column.name for column in TABLES[table.stem]], table.name
        words = re.sub(r"<style>.*?</style>|<[^>]+>", " ", (output / "report.html").read_text("utf-8"), flags=re.S)
        return output, found.err, re.sub(r"\s+", " ", words)

    return analyse


def frames(output: Path, column: str) -> list[object]:
    return read_table(output / "tables", "frames").column(column).to_pylist()


@pytest.mark.parametrize(
    ("paint", "why"),
    [
        ({"light": DARK}, "aggregate channel black: structure"),
        ({"light": DARK, "cells": NOTHING}, "aggregate channel black: structure"),
        ({"blur_px": 3.0}, "out of focus"),
        ({"level": 0.0}, "constant"),
    ],
    ids=["no_aggregates", "neither", "all_blurred", "all_black"],
)
def test_nothing_that_can_be_measured(analysed, paint, why):
    output, err, page = analysed(code=4, **paint)
    sentence = [line for line in err.splitlines() if line.startswith("phagostat: ")][-1]
    assert "none of 4 frames can be used: frame 0: " in sentence
    assert why in sentence
    assert frames(output, "usable") == [False] * 4
    for name in ("cells", "tracks", "eaten", "fates", "aggregates"):
        assert read_table(output / "tables", name).num_rows == 0, name
    assert "The scene has no reference frame" in page
    assert "No frame is usable" in page
    assert why in page
    assert "0 of 4 frames are used" in page


def test_no_cells(analysed):
    """A field of view without any cell, yet with dirt on it: aggregates are measured, and cells are none."""
    dirt = painted.discs(SIDE_PX, 4, radius_px=3.0)
    output, _, page = analysed(cells=dirt)
    assert frames(output, "aggregate_count") == [30] * 4
    assert frames(output, "cell_count") == [0] * 4
    assert read_table(output / "tables", "cells").num_rows == 0
    assert "Not one cell was found in" in page


def test_no_cells_and_nothing_else(analysed):
    """A cell channel that shows even light and noise: the lamp is on, so there are no cells."""
    output, _, page = analysed(cells=NOTHING)
    assert frames(output, "cells_verdict") == ["empty"] * 4
    assert frames(output, "usable") == [True] * 4
    assert frames(output, "aggregate_count") == [30] * 4
    assert frames(output, "cell_count") == [0] * 4
    assert read_table(output / "tables", "cells").num_rows == 0
    assert read_table(output / "tables", "eaten").num_rows == 4
    assert "Not one cell was found in" in page


def test_a_cell_channel_that_stays_dark(analysed):
    """Its lamp was off: aggregates are measured, and that there are no cells is not said."""
    output, _, _ = analysed(cells=NOTHING, cell_light=300.0)
    assert frames(output, "cells_verdict") == ["black"] * 4
    assert frames(output, "usable") == [True] * 4
    assert frames(output, "aggregate_count") == [30] * 4
    assert frames(output, "segmentation_verdict") == ["black"] * 4
    assert frames(output, "cell_count") == [None] * 4


def test_a_cell_that_fills_the_frame(analysed):
    output, _, page = analysed(cells=EVERYWHERE)
    area = SIDE_PX**2 * painted.PIXEL_UM**2
    cells = read_table(output / "tables", "cells").to_pylist()
    assert cells
    assert sum(cell["area_um2"] for cell in cells if cell["frame"] == 0) > 0.8 * area
    assert all(cell["touches_border"] for cell in cells if cell["area_um2"] > 0.5 * area)
    assert frames(output, "aggregate_count") == [30] * 4
    assert "1 of 1 scene accepted" in page


def test_many_aggregates(analysed):
    """Thousands on the glass of a large frame; here as dense."""
    output, _, page = analysed(light=painted.glass(SIDE_PX, 60))
    assert frames(output, "aggregate_count") == pytest.approx([60] * 4, abs=2)
    (scene,) = read_table(output / "tables", "scenes").to_pylist()
    assert abs(scene["eaten_area_um2"]) < 0.01 * scene["reference_area_um2"]
    assert "60" in page


@pytest.mark.parametrize("n", [1, 2])
def test_one_frame_and_two(analysed, n):
    output, _, page = analysed("--set", f"acquisition.min_frames={n}", frames=n)
    assert frames(output, "usable") == [True] * n
    assert frames(output, "aggregate_count") == [30] * n
    assert (f"{n} of {n} frames are used" if n > 1 else "1 of 1 frame is used") in page
    assert "nan" not in page.lower().split()
    assert "None" not in page.split()


@pytest.mark.slow
def test_thousands_of_aggregates_take_no_longer_than_their_pixels(call, tmp_path):
    """Four times as many, on four times as many pixels."""
    import time

    seconds = []
    for n, side in ((300, 512), (1200, 1024), (4800, 2048)):
        light = painted.glass(side, n)
        source = painted.movie(tmp_path / f"m{n}.ome.tif", light=light, cells=painted.discs(side, 9), frames=3)
        begun = time.process_time()
        assert call("run", source, "-o", tmp_path / "out", *RUN, "-q").code == 0
        seconds.append(time.process_time() - begun)
        counts = frames(tmp_path / f"out/m{n}", "aggregate_count")
        assert counts == pytest.approx([n] * 3, rel=0.03)
    assert seconds[2] < 8 * seconds[1]  # quadratic would be 16
