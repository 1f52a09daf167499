"""One-channel sources, the axes of a TIFF, and what outputs are called."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from phagostat.simulate import Simulation, SimulationSpec
from phagostat.simulate import scenarios as say
from phagostat.store.integrity import read_contents
from phagostat.store.layout import Layout
from phagostat.store.tables import read_table
from phagostat.terminal import LEFT_OUT, output_name

from .command import snapshot

RUN = ("--workers", "0")
KNOWN = ("--pixel-size-um", 0.103, "--interval-s", 120)
N_FRAMES, SIDE_PX = 3, 256
REMEDY = re.compile(r"--axes ([A-Z0-9]+)")


@pytest.fixture(scope="module")
def both() -> np.ndarray:
    """Both channels of a simulated movie, (t, c, y, x)."""
    simulation = Simulation(
        SimulationSpec(
            preset="easy", seed=4, scenes=1, frames=N_FRAMES, shape_yx=(SIDE_PX, SIDE_PX), scenario={0: say.calm()}
        )
    )
    return np.stack([np.stack(simulation.frame(0, frame).planes) for frame in range(N_FRAMES)])


@pytest.fixture
def phase(both, tmp_path) -> Path:
    path = tmp_path / "m.ome.tif"
    tifffile.imwrite(path, both[:, 1], metadata={"axes": "TYX"})
    return path


def test_one_channel_that_nothing_is_said_of_is_asked_about(call, phase, tmp_path):
    call("run", phase, "-o", tmp_path / "out", *RUN, *KNOWN).sentence(2, phase, "its one channel", "add --cells 0")
    assert not (tmp_path / "out").exists()
    found = json.loads(call("info", phase, "--json", *KNOWN).out)
    assert not found["run"]["possible"]
    assert "--cells 0" in found["run"]["why"]


def test_what_is_left_out_is_said_by_info_and_run(call, phase, tmp_path):
    text = call("info", phase, "--cells", 0, *KNOWN)
    assert (text.code, text.err) == (0, "")
    assert LEFT_OUT in text.out
    assert json.loads(call("info", phase, "--cells", 0, *KNOWN, "--json").out)["run"]["left_out"] == LEFT_OUT

    said = call("run", phase, "-o", tmp_path / "out", *RUN, "--cells", 0, *KNOWN)
    assert said.code == 0, said.err
    assert said.err.splitlines()[0] == f"phagostat: {phase}: {LEFT_OUT}"
    output = tmp_path / "out/m"
    assert (output / "seal.json").is_file()
    assert f"{N_FRAMES} frames ({N_FRAMES} used)" in said.out
    assert read_table(Layout.analysis(output).tables, "cells").num_rows > 0

    quiet = call("run", phase, "-o", tmp_path / "out", *RUN, "--cells", 0, *KNOWN, "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    (summary,) = json.loads(call("run", phase, "-o", tmp_path / "out", *RUN, "--cells", 0, *KNOWN, "-q", "--json").out)
    assert (summary["left_out"], summary["computed"]) == (LEFT_OUT, {})
    assert "run would   do nothing" in call("status", tmp_path / "out").out
    as_told = call("status", tmp_path / "out", "--cells", 0, *KNOWN)
    assert (as_told.code, as_told.err) == (0, "")
    assert "run would   do nothing" in as_told.out
    other = call("status", tmp_path / "out", "--cells", 0, "--pixel-size-um", 0.2, "--interval-s", 120).out
    assert "changed: acquisition.pixel_size_um from 0.103 to 0.2" in other


def test_nothing_is_said_where_nothing_is_left_out(call, movie, tmp_path):
    found = call("run", movie, "-o", tmp_path / "out", *RUN)
    assert LEFT_OUT not in found.out + found.err
    assert json.loads(call("info", movie, "--json").out)["run"]["left_out"] is None


def test_axes_are_given_to_a_tiff(call, both, tmp_path):
    path = tmp_path / "pages.tif"
    tifffile.imwrite(path, both.reshape(-1, SIDE_PX, SIDE_PX), photometric="minisblack")
    options = ("--aggregates", 0, "--cells", 1, *KNOWN)
    call("run", path, "-o", tmp_path / "out", *RUN, *options).sentence(2, path)

    (scene,) = json.loads(call("info", path, "--axes", "TC2YX", "--json").out)["scenes"]
    assert scene["frames"] == N_FRAMES
    done = call("run", path, "-o", tmp_path / "out", *RUN, *options, "--axes", "TC2YX", "-q")
    assert (done.code, done.err) == (0, "")
    assert "run would   do nothing" in call("status", tmp_path / "out").out
    assert call("convert", path, "-o", tmp_path / "c.zarr", *RUN, "--axes", "TC2YX", "-q").code == 0
    (scene,) = json.loads(call("info", tmp_path / "c.zarr", "--json").out)["scenes"]
    assert scene["frames"] == N_FRAMES


def test_other_axes_are_another_movie_of_the_same_file(call, both, tmp_path):
    path = tmp_path / "pages.tif"
    tifffile.imwrite(path, both.reshape(-1, SIDE_PX, SIDE_PX), photometric="minisblack")

    def run(name: str, axes: str, *options: object) -> Layout:
        found = call("run", path, "-o", tmp_path / name, *RUN, "-q", "--axes", axes, *options, *KNOWN)
        assert found.code == 0, found.err
        return Layout.analysis(tmp_path / name / "pages")

    # all pages for one channel, twice as many frames, then two channels: nothing of the first is left
    layout = run("out", "TYX", "--cells", 0)
    assert read_table(layout.tables, "frames").num_rows == 2 * N_FRAMES
    layout = run("out", "TC2YX", "--aggregates", 0, "--cells", 1)
    assert read_table(layout.tables, "frames").num_rows == N_FRAMES
    fresh = run("fresh", "TC2YX", "--aggregates", 0, "--cells", 1)
    assert read_contents(layout).hash == read_contents(fresh).hash


@pytest.mark.parametrize("axes", ["XY", "TC5YX", ""])
def test_axes_that_do_not_fit_are_one_sentence(call, phase, tmp_path, axes):
    call("run", phase, "-o", tmp_path / "out", *RUN, "--cells", 0, *KNOWN, "--axes", axes).sentence(2, phase, "axes")


def test_axes_of_a_source_that_is_no_tiff(call, movie, tmp_path):
    found = call("run", movie, "-o", tmp_path / "out", *RUN, "--axes", "TYX")
    found.sentence(2, movie, "has no option axes", "leave out --axes")
    assert not (tmp_path / "out").exists()


def test_outputs_are_called_as_their_sources(tmp_path, monkeypatch):
    for name, expected in {
        "m.czi": "m", "m.v2.czi": "m.v2", "m.tif": "m", "m.ome.tif": "m", "m.OME.TIFF": "m", "m.ome.btf": "m",
        "m.ome.czi": "m.ome", "noending": "noending",
    }.items():  # fmt: skip
        (tmp_path / name).touch()
        assert output_name(tmp_path / name) == expected
    for name, expected in {
        "exp.v2": "exp.v2", "plain": "plain", "c.zarr": "c", "c.ome.zarr": "c", "run 1.5": "run 1.5",
    }.items():  # fmt: skip
        (tmp_path / name).mkdir()
        assert output_name(tmp_path / name) == expected
    monkeypatch.chdir(tmp_path / "exp.v2")
    assert output_name(Path()) == output_name(Path("../exp.v2/")) == "exp.v2"
    assert output_name(Path("..")) == tmp_path.name


@pytest.mark.real
def test_real_cells_without_aggregates(call, shared_data, tmp_path):
    found = call(
        "run", shared_data / "t98g", "-o", tmp_path, *RUN, "-q", "--cells", 0, "--pixel-size-um", 0.87,
        "--interval-s", 600,
    )  # fmt: skip
    assert (found.code, found.err) == (0, "")
    frames = read_table(Layout.analysis(tmp_path / "t98g").tables, "frames").to_pylist()
    assert [row["segmentation_verdict"] for row in frames] == ["ok"] * 8
    field_um2 = 1022 * 1024 * 0.87**2
    assert all(0.2 < row["cell_area_um2"] / field_um2 < 0.7 for row in frames)


@pytest.mark.parametrize("kind", ["ImageJ's slices", "four axes without names", "an axis of another kind"])
def test_what_a_refused_tiff_is_told_to_add_makes_it_readable(call, both, tmp_path, kind):
    """The sentence holds the option as it is typed, nothing is written before, and with it the run goes through."""
    path = tmp_path / "m.tif"
    if kind == "ImageJ's slices":
        description = f"ImageJ=1.53t\nimages={N_FRAMES}\nslices={N_FRAMES}\n"
        tifffile.imwrite(path, both[:, 1], description=description, metadata=None, photometric="minisblack")
    elif kind == "four axes without names":
        tifffile.imwrite(path, both, metadata={}, photometric="minisblack")
    else:
        tifffile.imwrite(path, both, metadata={"axes": "TSYX"}, photometric="minisblack")
    content = path.read_bytes()
    command = ("run", path, "-o", tmp_path / "out", *RUN, *KNOWN, "-q")
    roles = ("--cells", 0) if kind == "ImageJ's slices" else ("--aggregates", 0, "--cells", 1)
    refused = call(*command, *roles)
    refused.sentence(2, path)
    told = REMEDY.findall(refused.err)
    assert told, refused.err
    assert not (tmp_path / "out").exists()
    axes = "TYX" if kind == "ImageJ's slices" else "TC2YX"
    assert axes in told
    done = call(*command, *roles, "--axes", axes)
    assert (done.code, done.err) == (0, "")
    assert read_table(Layout.analysis(tmp_path / "out/m").tables, "frames").num_rows == N_FRAMES
    assert path.read_bytes() == content


def test_wrong_axes_leave_an_output_as_it_was(call, both, tmp_path):
    path = tmp_path / "pages.tif"
    tifffile.imwrite(path, both.reshape(-1, SIDE_PX, SIDE_PX), photometric="minisblack")
    command = ("run", path, "-o", tmp_path / "out", *RUN, *KNOWN, "-q", "--aggregates", 0, "--cells", 1)
    assert call(*command, "--axes", "TC2YX").code == 0
    before = snapshot(tmp_path / "out")
    refused = call(*command, "--axes", "TC4YX")
    refused.sentence(2, path, f"{2 * N_FRAMES} pages, axes TC4YX", "--axes TC2YX")
    assert snapshot(tmp_path / "out") == before


def painted_frames(folder, both, *, gaps: tuple[int, ...] = (), other_size: tuple[int, ...] = ()) -> None:
    """A folder of frames of both channels, some absent, some of another size."""
    for channel, name in ((0, "gfp"), (1, "phase")):
        (folder / name).mkdir(parents=True)
        for frame in range(8):
            plane = both[frame % N_FRAMES, channel]
            plane = plane[:-20, :-8] if frame in other_size else plane
            if frame not in gaps:
                tifffile.imwrite(folder / name / f"t{frame:03}.tif", plane, photometric="minisblack")


def test_a_folder_with_gaps_and_mixed_sizes_is_analysed_and_says_so(call, both, tmp_path):
    painted_frames(tmp_path / "frames", both, gaps=(2, 5), other_size=(3,))
    options = ("--aggregates", 0, "--cells", 1, *KNOWN)
    found = call("run", tmp_path / "frames", "-o", tmp_path / "out", *RUN, *options)
    assert found.code == 0, found.err
    assert "2 missing" in found.out
    assert "1 unreadable" in found.out
    rows = read_table(Layout.analysis(tmp_path / "out/frames").tables, "frames").to_pylist()
    assert [row["verdict"] for row in rows] == ["ok", "ok", "missing", "unreadable", "ok", "missing", "ok", "ok"]
    assert all(np.isnan(row["shift_y_px"]) and not row["usable"] for row in rows if row["verdict"] != "ok")
    assert re.search(rf"{SIDE_PX - 20}\D+{SIDE_PX - 8}", rows[3]["reason"]), rows[3]["reason"]
    page = call("report", tmp_path / "out", "-q")
    assert page.code == 0, page.err
    text = (tmp_path / "out/frames/report.html").read_text("utf-8")
    assert "2 of 8 frames are missing" in text


def test_a_folder_whose_sizes_have_no_majority_is_refused(call, both, tmp_path):
    painted_frames(tmp_path / "frames", both, other_size=(0, 2, 4, 6))
    options = ("--aggregates", 0, "--cells", 1, *KNOWN)
    call("run", tmp_path / "frames", "-o", tmp_path / "out", *RUN, *options).sentence(2, "frames", "size")
    assert not (tmp_path / "out").exists()
