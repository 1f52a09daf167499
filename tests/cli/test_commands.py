"""The commands as a user calls them."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from phagostat.cli import cli
from phagostat.simulate import scenarios
from phagostat.store.layout import Layout
from phagostat.store.tables import read_table, table_digest

from .command import snapshot

RUN = ("--workers", "0")


@pytest.fixture(scope="module")
def shared_output(movie, tmp_path_factory) -> Path:
    """An output that tests only look at."""
    from phagostat.cli import main

    root = tmp_path_factory.mktemp("shared")
    with pytest.raises(SystemExit) as end:
        main(["run", str(movie), "-o", str(root), *RUN, "-q"])
    assert end.value.code == 0
    return root


@pytest.fixture
def output(shared_output, tmp_path) -> Path:
    """A copy to change."""
    shutil.copytree(shared_output, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("name", [None, *cli.commands])
def test_every_command_explains_itself(call, name):
    found = call(*([name] if name else []), "--help")
    assert found.code == 0
    assert found.err == ""
    assert "Usage: phagostat" in found.out
    if name:
        assert all(f"{option.opts[0]}" in found.out for option in cli.commands[name].params if option.opts[0][0] == "-")
    else:
        assert all(command in found.out for command in cli.commands)


def test_no_command_is_a_question_for_help(call):
    found = call()
    assert found.code == 2
    assert found.err.startswith("Usage: phagostat")
    assert call("dance").code == 2


def test_a_run_says_where_its_results_are(call, movie, tmp_path):
    found = call("run", movie, "-o", tmp_path / "out", *RUN)
    assert (found.code, found.err) == (0, "")
    assert f"{movie}: 2 scenes, 7 frames (7 used)" in found.out
    for line in found.out.splitlines():
        word, _, path = line.strip().partition("  ")
        if word in {"tables", "images"}:
            assert Path(path.strip()).is_dir()
    again = call("run", movie, "-o", tmp_path / "out", *RUN)
    assert "nothing to do" in again.out


def test_frames_that_are_not_used_are_said(call, made, tmp_path):
    path = made(scenarios.blurred_burst(2, 1, sigma_px=6.0) | scenarios.missing_frame(3), frames=5)
    found = call("run", path, "-o", tmp_path / "out", *RUN)
    assert f"{path}: 1 scene, 5 frames (3 used, 1 blurred, 1 missing)" in found.out
    summary = json.loads(call("run", path, "-o", tmp_path / "out", *RUN, "--json", "-q").out)[0]
    assert (summary["frames_used"], summary["frames_not_used"]) == (3, {"blurred": 1, "missing": 1})
    assert summary["verdicts"]["missing"] == 1


def test_quiet_is_silent_and_json_can_be_parsed(call, movie, output, tmp_path):
    for arguments in (
        ("run", movie, "-o", output, *RUN, "-q"),
        ("convert", movie, "-o", tmp_path / "m.zarr", *RUN, "-q"),
        ("simulate", tmp_path / "s.czi", "--frames", 2, "--size", 128, "-q"),
    ):
        found = call(*arguments)
        assert (found.code, found.out, found.err) == (0, "", ""), arguments[0]
    for arguments in (
        ("run", movie, "-o", output, *RUN, "--json"),
        ("convert", movie, "-o", tmp_path / "m.zarr", *RUN, "--json"),
        ("info", movie, "--json"),
        ("status", output, "--json", "--check"),
        ("compare", output, output, "--json"),
        ("settings", "--json"),
        ("simulate", tmp_path / "s.czi", "--frames", 2, "--size", 128, "--json", "--force"),
    ):
        found = call(*arguments)
        assert (found.code, found.err) == (0, ""), (arguments[0], found.err)
        assert json.loads(found.out), arguments[0]


def test_info_says_what_run_would_take_it_for(call, movie):
    text = call("info", movie).out
    document = json.loads(call("info", movie, "--json").out)
    assert [scene["frames"] for scene in document["scenes"]] == [4, 3]
    assert [scene["missing_planes"] for scene in document["scenes"]] == [0, 0]
    assert document["run"] == {
        "possible": True,
        "roles": {"aggregates": 0, "cells": 1},
        "pixel_size_um": pytest.approx(0.103),
        "analysis_pixel_size_um": pytest.approx(0.206),
        "reduction": 2,
        "left_out": None,
    }
    assert "aggregates = channel 0" in text
    refused = json.loads(call("info", movie, "--json", "--cells", 0, "--aggregates", 0).out)["run"]
    assert refused["possible"] is False
    assert refused["why"]


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["corrected", "paper"])
def test_settings_go_out_and_come_back(call, tmp_path, profile):
    changed = ("--set", "aggregates.min_area_um2=1.25", "--set", "acquisition.pixel_size_um=0.2")
    text = call("settings", "--profile", profile, *changed).out
    file = tmp_path / "my.toml"
    found = call("settings", "--profile", profile, *changed, "-o", file)
    assert (found.code, found.out, found.err) == (0, "", "")
    assert file.read_text() == text
    assert call("settings", "--settings", file).out == text
    rows = {(row["group"], row["name"]): row for row in json.loads(call("settings", "--settings", file, "--json").out)}
    assert rows["aggregates", "min_area_um2"]["value"] == 1.25
    assert all(row["description"] for row in rows.values())
    other = "paper" if profile == "corrected" else "corrected"
    assert call("settings", "--settings", file, "--profile", other).code == 2


def test_every_setting_is_explained_in_the_text(call):
    text = call("settings").out
    for row in json.loads(call("settings", "--json").out):
        assert row["name"] in text
        assert row["description"] in text


# ---- status ----------------------------------------------------------------------------------------------------------


def test_status_says_beforehand_what_run_does(call, movie, output):
    assert "run would   do nothing" in call("status", output).out
    change = ("--set", "aggregates.min_area_um2=2.0")
    (document,) = json.loads(call("status", output, "--json", *change).out)
    assert document["sealed"] is True
    assert document["run"]["changed"] == {"aggregates.min_area_um2": [0.42, 2.0]}
    assert {step: n for step, n in document["run"]["stale"].items() if n} == {"aggregates": 7}
    assert not any(document["run"]["missing"].values())
    before = snapshot(output)
    text = call("status", output, *change).out
    assert "changed: aggregates.min_area_um2 from 0.42 to 2.0" in text
    assert "run would   aggregates: 7 to compute again" in text
    assert snapshot(output) == before
    (summary,) = json.loads(call("run", movie, "-o", output, *RUN, "--json", *change).out)
    # and what reads them
    assert summary["computed"] == {"aggregates": 7, "territories": 7, "overlaps": 7, "eaten": 2, "fates": 2}
    assert "run would   do nothing" in call("status", output).out


def test_status_of_a_half_done_output(call, movie, output):
    for commit in (output / "movie/commits/measures").rglob("*.json"):
        commit.unlink()
    (output / "movie/seal.json").unlink()
    (document,) = json.loads(call("status", output, "--json").out)
    assert document["sealed"] is False
    assert document["run"]["missing"]["measures"] == 7
    assert document["run"]["uncertain"]["aggregates"] == 7
    assert "not complete: run goes on with it" in call("status", output).out
    (summary,) = json.loads(call("run", movie, "-o", output, *RUN, "--json").out)
    assert summary["computed"] == {"measures": 7}  # to the same content: the aggregates hold


def test_status_checks_every_chunk_on_request(call, movie, output):
    assert "0 do not match" in call("status", output, "--check").out
    victim = output / "movie/images.zarr/1/0/c/2/1/0/0"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    found = call("status", output, "--check")
    assert found.code == 3
    assert "1/0/c/2/1/0/0" in found.err
    assert len(found.err.splitlines()) == 1
    (output / "movie/seal.json").unlink()
    assert "does not match its commit" in call("run", movie, "-o", output, *RUN).err
    assert call("status", output, "--check").code == 0


def test_status_when_the_source_is_gone(call, made, tmp_path):
    path = made()
    assert call("run", path, "-o", tmp_path / "out", *RUN, "-q").code == 0
    path.unlink()
    found = call("status", tmp_path / "out")
    assert found.code == 0
    assert "what a run would do cannot be said" in found.out


# ---- compare and convert ---------------------------------------------------------------------------------------------


def test_half_a_run_is_not_scored(call, movie, output):
    truth = movie.with_suffix(".truth")
    assert call("score", output, truth).code == 0
    (output / "movie/seal.json").unlink()  # as a run with changed settings does at once: its tables are old ones
    call("score", output, truth).sentence(3, output / "movie", "not complete", "phagostat run")


def test_compare_names_what_differs(call, movie, shared_output, output):
    same = call("compare", shared_output, output)
    assert same.code == 0
    assert same.out.startswith("equal")
    assert call("run", movie, "-o", output, *RUN, "-q", "--set", "aggregates.min_area_um2=2.0").code == 0
    found = call("compare", shared_output / "movie", output / "movie")
    assert found.code == 1
    assert found.err == ""
    assert "table frames: values differ in" in found.out
    assert "labels/aggregates/0/c/" in found.out
    assert "pixels differ" in found.out
    document = json.loads(call("compare", shared_output, output, "--json").out)
    assert document["equal"] is False
    assert document["hashes"][0]["a"] != document["hashes"][0]["b"]


def test_a_conversion_gives_the_same_measurements(call, movie, shared_output, tmp_path):
    assert call("convert", movie, "-o", tmp_path / "movie.zarr", *RUN, "-q").code == 0
    assert json.loads(call("info", tmp_path / "movie.zarr", "--json").out)["kind"] == "ome-zarr"
    found = call("run", tmp_path / "movie.zarr", "-o", tmp_path / "out", *RUN, "-q")
    assert (found.code, found.err) == (0, "")
    wanted, given = (Layout.analysis(root / "movie").tables for root in (shared_output, tmp_path / "out"))
    for name in ("frames", "scenes", "aggregates"):
        assert table_digest(read_table(given, name)) == table_digest(read_table(wanted, name)), name
    assert call("compare", shared_output, tmp_path / "out").out.startswith("equal")


def test_a_simulation_is_not_overwritten(call, tmp_path):
    arguments = ("simulate", tmp_path / "s.czi", "--frames", 2, "--scenes", 1, "--size", 128)
    assert call(*arguments).code == 0
    before = snapshot(tmp_path)
    found = call(*arguments)
    assert found.code == 2
    assert "--force" in found.err
    assert snapshot(tmp_path) == before
    assert call(*arguments, "--force", "-q").code == 0
    assert snapshot(tmp_path).keys() == before.keys()


def test_a_simulation_that_fails_leaves_the_one_that_was_there(call, tmp_path):
    arguments = ("simulate", tmp_path / "s.czi", "--frames", 2, "--scenes", 1, "--size", 128, "-q")
    assert call(*arguments).code == 0
    before = snapshot(tmp_path)
    assert call(*arguments, "--force", "--mode", "semi", "--data", tmp_path / "none").code == 2
    unsaid = call(*arguments, "--force", "--mode", "semi")
    assert (unsaid.code, "--data" in unsaid.err) == (2, True)
    assert snapshot(tmp_path) == before


# ---- real files ------------------------------------------------------------------------------------------------------

REAL = {
    "CD_s_1_t_3_c_2_z_5.czi": (2, "which channel"),
    "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi": (2, "one channel only"),
    "S3_1Pos_2Mosaic_T1_Z1_CH1.czi": (2, "time points"),
    "WellD6-7_S2.czi": (2, "time points"),
    "test.czi": (2, "time points"),
    "testwell96_A9_1024x1024_Nuc.czi": (2, "time points"),
    "tiles_time_z.czi": (4, "none of 2 frames can be used"),
}


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_analysed_or_refused_with_what_is_missing(call, shared_data, tmp_path, name):
    path = shared_data / "czi" / name
    code, words = REAL[name]
    found = call("run", path, "-o", tmp_path / "out", *RUN, "-q")
    if code == 2:
        found.sentence(2, path, words)
        assert not (tmp_path / "out").exists()
    else:
        assert found.code == code
        assert len(found.err.splitlines()) == 1
        assert words in found.err


@pytest.mark.real
def test_every_real_file_is_in_the_table(shared_data):
    assert {path.name for path in (shared_data / "czi").glob("*.czi")} == set(REAL)


@pytest.mark.real
def test_a_real_file_whose_channels_are_told_is_analysed(call, shared_data, tmp_path):
    path = shared_data / "czi/CD_s_1_t_3_c_2_z_5.czi"
    found = call("run", path, "-o", tmp_path / "out", *RUN, "--json", "--aggregates", 0, "--cells", 1)
    assert found.code in (0, 4), found.err
    (summary,) = json.loads(found.out)
    assert summary["frames"] == 3


@pytest.mark.real
@pytest.mark.slow
def test_the_real_two_channel_time_lapse_to_the_end(call, shared_data, tmp_path):
    (path,) = (shared_data / "two-channel").glob("*.czi")
    call("run", path, "-o", tmp_path / "out", *RUN).sentence(2, path, "--pixel-size-um", "--interval-s")
    given = ("--pixel-size-um", 0.0645, "--interval-s", 60, "--aggregates", 0, "--cells", 1)
    found = call("run", path, "-o", tmp_path / "out", *RUN, "--json", *given)
    assert (found.code, found.err) == (0, "")
    (summary,) = json.loads(found.out)
    assert summary["frames"] == 30
    assert sum(summary["verdicts"].values()) == 30
    assert summary["verdicts"]["ok"] >= 1
    frames = read_table(Path(summary["tables"]), "frames").to_pylist()
    assert [row["time_s"] for row in frames] == [60.0 * t for t in range(30)]
    assert all(row["reason"] for row in frames if row["verdict"] != "ok")


def test_an_interruption_that_comes_where_exceptions_go_nowhere_is_not_lost(monkeypatch):
    from phagostat import terminal
    from phagostat.cli import ending

    monkeypatch.setattr(ending, "_asked", [])
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    class Passing:
        def __del__(self):
            ending._stop(signal.SIGINT, sys._getframe())

    passing = Passing()
    del passing
    assert [stopped.exit_code for stopped in ending._asked] == [130]
    line = terminal.ProgressLine("x", quiet=True, check=ending.check_stop)
    with pytest.raises(ending.Stopped):
        line.simple(1, 2, "x")
    with pytest.raises(ending.Stopped):
        ending._stop(signal.SIGTERM, sys._getframe())


@pytest.mark.parametrize(("name", "kept"), [("run", True), ("convert", True), ("simulate", False), ("export", False)])
def test_an_interruption_says_what_is_left(name, kept, capfd, monkeypatch):
    from phagostat.cli import ending

    def interrupted(**_):
        raise ending.Stopped(signal.SIGINT)

    monkeypatch.setattr(cli.commands[name], "invoke", lambda _context: interrupted())
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as end:
            ending.run_command(
                cli, [name, *{"run": ["x", "-o", "y"], "simulate": ["x.czi"]}.get(name, ["x", "-o", "y"])]
            )
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert end.value.code == 130
    said = capfd.readouterr().err
    assert ("what is committed is kept" in said) == kept
    assert ("nothing half done is left" in said) != kept
