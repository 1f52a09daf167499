"""Report and export as a user calls them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from phagostat.store.tables import read_table

RUN = ("--workers", "0", "-q")


@pytest.fixture(scope="module")
def output(movie, tmp_path_factory) -> Path:
    from phagostat.cli import main

    root = tmp_path_factory.mktemp("exports")
    with pytest.raises(SystemExit) as end:
        main(["run", str(movie), "-o", str(root), *RUN])
    assert end.value.code == 0
    return root


def test_a_report_is_written_and_a_changed_run_removes_it(call, movie, output, tmp_path):
    found = call("report", output / "movie", "-o", tmp_path / "page.html", "--no-movies", "--json")
    assert found.code == 0, found.err
    page = Path(json.loads(found.out)["report"])
    assert page == tmp_path / "page.html"
    assert "<html" in page.read_text("utf-8")

    assert call("report", output, "-q").code == 0
    inside = output / "movie/report.html"
    assert inside.is_file()
    assert call("run", movie, "-o", output, *RUN).code == 0
    assert inside.is_file(), "nothing had changed"
    assert call("run", movie, "-o", output, *RUN, "--set", "quality.max_shift_px=20").code == 0
    assert not inside.exists()
    assert call("run", movie, "-o", output, *RUN).code == 0


def test_an_export_has_the_rows_of_the_tables(call, output, tmp_path):
    found = call("export", output, "-o", tmp_path / "out", "--kind", "csv", "--kind", "released", "--json", "-q")
    assert found.code == 0, found.err
    written = json.loads(found.out)
    assert {one["kind"] for one in written} == {"csv", "released"}
    folder = Path(next(one["path"] for one in written if one["kind"] == "csv"))
    with (folder / "frames.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = read_table(output / "movie/tables", "frames").to_pylist()
    assert [row["verdict"] for row in rows] == [row["verdict"] for row in table]
    again = call("export", output, "-o", tmp_path / "out")
    assert again.code != 0
    assert "--force" in again.err
    assert call("export", output, "-o", tmp_path / "out", "--force", "-q").code == 0


def test_scenes_and_frames_are_chosen_by_ranges(call, output, tmp_path):
    found = call(
        "export", output, "-o", tmp_path, "--kind", "png", "--scenes", "1", "--frames", "0,2-2", "--json", "-q"
    )
    assert found.code == 0, found.err
    assert {path.stem for path in tmp_path.rglob("cells/*.png")} == {"0000", "0002"}
    for wrong in ("a", "3-1", "1,,2", "-1", "0-999999999999"):
        bad = call("export", output, "-o", tmp_path / "x", "--scenes", wrong)
        assert bad.code == 2
        assert len(bad.err.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_an_empty_folder_has_no_report(call, output, tmp_path):
    found = call("report", tmp_path)
    assert found.code != 0
    assert len(found.err.splitlines()) == 1
