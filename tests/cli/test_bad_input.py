"""Bad input gets one sentence, a non-zero exit, no traceback, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from phagostat.simulate import SceneOverrides
from phagostat.store.integrity import differences, read_contents
from phagostat.store.layout import Layout
from tests.sources.test_tiff_ome import image_of, xml_of
from tests.sources.test_tiff_ome import write as write_tiff

from .command import snapshot

RUN = ("--workers", "0")


# ---- the source ------------------------------------------------------------------------------------------------------


def test_a_source_that_is_not_there(call, tmp_path):
    found = call("run", tmp_path / "none.czi", "-o", tmp_path / "out", *RUN)
    assert found.code == 2
    assert len(found.err.splitlines()) == 1
    assert "none.czi" in found.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not a CZI at all" * 100, b"ZISRAWFILE", b"\0" * 4096])
@pytest.mark.parametrize("command", ["run", "info", "convert"])
def test_a_file_that_is_no_czi(call, tmp_path, content, command):
    path = tmp_path / "fake.czi"
    path.write_bytes(content)
    arguments = () if command == "info" else ("-o", tmp_path / "out", *RUN)
    call(command, path, *arguments).sentence(2, path)
    assert not (tmp_path / "out").exists()
    assert path.read_bytes() == content


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_czi(call, movie, tmp_path, share):
    data = movie.read_bytes()
    path = tmp_path / "cut.czi"
    path.write_bytes(data[: int(len(data) * share)])
    call("run", path, "-o", tmp_path / "out", *RUN).sentence(2, path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_last_frame_that_is_absent_has_no_time(call, tmp_path, form):
    planes = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{t * 150}"/>' for t in range(2))
    data = '<TiffData IFD="0" FirstT="0" PlaneCount="1"/><TiffData IFD="1" FirstT="1" PlaneCount="1"/>'
    path = tmp_path / "m.ome.tif"
    write_tiff(path, np.zeros((2, 8, 6), np.uint16), xml_of(image_of(3, 1, 1, (8, 6), data + planes)))
    found = call("info", path, *form)
    assert found.code == 0, found.err
    if form:
        document = json.loads(found.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert document["scenes"][0]["duration_s"] == 150.0


def test_one_channel_only(call, tmp_path):
    from phagostat.simulate.czi import CziMovie, TimesForm

    path = tmp_path / "one.czi"
    plane = np.random.default_rng(0).integers(0, 999, (64, 64)).astype(np.uint16)
    with CziMovie(
        path, shapes_yx=[(64, 64)], pixel_size_um=0.1, times_s=[0.0, 60.0], times_form=TimesForm("offsets"),
        compression=None,
    ) as writer:  # fmt: skip
        for frame in (0, 1):
            writer.write(scene=0, frame=frame, channel=0, plane=plane)
    found = call("run", path, "-o", tmp_path / "out", *RUN)
    found.sentence(2, path, "channel")
    assert not (tmp_path / "out").exists()


def test_no_pixel_size_and_no_times(call, made, tmp_path):
    path = made(write_pixel_size=False, times_form="none")
    found = call("run", path, "-o", tmp_path / "out", *RUN)
    found.sentence(2, path, "pixel size", "times", "--pixel-size-um", "--interval-s")
    call("run", path, "-o", tmp_path / "out", *RUN, "--interval-s", 60).sentence(2, path, "--pixel-size-um")
    call("run", path, "-o", tmp_path / "out", *RUN, "--pixel-size-um", 0.1).sentence(2, path, "--interval-s")
    assert not (tmp_path / "out").exists()
    given = call("run", path, "-o", tmp_path / "out", *RUN, "-q", "--pixel-size-um", 0.103, "--interval-s", 60)
    assert (given.code, given.out, given.err) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--aggregates", 1, "--cells", 1), "channel"),
        (("--aggregates", 7, "--cells", 1), "7"),
        (("--pixel-size-um", 0), "pixel_size_um"),
        (("--pixel-size-um", -1), "pixel_size_um"),
        (("--interval-s", "nan"), "interval_s"),
        (("-z", "first"), "z"),
        (("--set", "sharpness.method=guess"), "sharpness.method"),
        (("--set", "nothing.at=all"), "nothing"),
        (("--set", "nonsense"), "nonsense"),
        (("--settings", "absent.toml"), "absent.toml"),
        (("--workers", "-1"), "workers"),
        (("--profile", "mine"), "profile"),
    ],
)
def test_bad_options(call, movie, tmp_path, options, word):
    found = call("run", movie, "-o", tmp_path / "out", *RUN, *options)
    assert found.code == 2
    assert len(found.err.splitlines()) == 1, found.err
    assert found.err.startswith("phagostat: ")
    assert word in found.err
    assert not (tmp_path / "out").exists()


def test_unequal_scenes_are_all_measured(call, movie, tmp_path):
    found = call("run", movie, "-o", tmp_path / "out", *RUN, "--json")
    assert found.code == 0
    (summary,) = json.loads(found.out)
    assert summary["frames"] == 7
    assert summary["verdicts"] == {"ok": 7}


def test_one_time_point_is_refused_unless_asked_for(call, made, tmp_path):
    path = made(frames=1)
    call("run", path, "-o", tmp_path / "out", *RUN).sentence(2, path, "time")
    assert not (tmp_path / "out").exists()
    options = ("--set", "acquisition.min_frames=1", "-q")
    found = call("run", path, "-o", tmp_path / "out", *RUN, *options)
    if found.code != 0:  # one frame has no interval
        found = call("run", path, "-o", tmp_path / "out", *RUN, *options, "--interval-s", 1)
    assert (found.code, found.err) == (0, "")


@pytest.mark.parametrize("state", ["black_frames", "constant_frames", "saturated_frames"])
def test_a_movie_without_a_usable_frame_is_finished_and_said(call, made, tmp_path, state):
    path = made(SceneOverrides(**{state: frozenset(range(4))}))
    found = call("run", path, "-o", tmp_path / "out", *RUN, "-q")
    assert found.code == 4, found.err
    assert len(found.err.splitlines()) == 1, found.err
    assert str(path) in found.err
    assert "none of 4 frames can be used" in found.err
    again = call("run", path, "-o", tmp_path / "out", *RUN, "-q")
    assert (again.code, again.err) == (4, found.err)


def test_one_bad_source_does_not_keep_the_others_from_being_analysed(call, movie, tmp_path):
    bad = tmp_path / "bad.czi"
    bad.write_bytes(b"nothing")
    found = call("run", bad, movie, "-o", tmp_path / "out", *RUN, "-q")
    found.sentence(2, bad)
    assert (tmp_path / "out/movie/seal.json").exists()
    assert not (tmp_path / "out/bad").exists()


def test_an_output_that_cannot_be_used_does_not_keep_the_others_from_being_analysed(call, movie, tmp_path):
    twin = tmp_path / "twin.czi"
    twin.write_bytes(movie.read_bytes())
    (tmp_path / "out/movie").mkdir(parents=True)
    (tmp_path / "out/movie/thesis.txt").write_text("mine")
    found = call("run", movie, twin, "-o", tmp_path / "out", *RUN, "-q")
    found.sentence(3, tmp_path / "out/movie")
    assert (tmp_path / "out/twin/seal.json").exists()
    told = call("run", movie, twin, "-o", tmp_path / "out", *RUN, "-q", "--json")
    assert told.code == 3
    assert [Path(one["output"]).name for one in json.loads(told.out)] == ["twin"]


def test_the_code_of_several_sources_is_the_highest(call, made, tmp_path):
    bad = tmp_path / "bad.czi"
    bad.write_bytes(b"nothing")
    black = made(SceneOverrides(black_frames=frozenset(range(4))))
    found = call("run", bad, black, "-o", tmp_path / "out", *RUN, "-q")
    assert len(found.err.splitlines()) == 2, found.err
    assert found.code == 4


def test_two_sources_of_one_name(call, movie, tmp_path):
    twin = tmp_path / "movie.czi"
    twin.write_bytes(movie.read_bytes())
    call("run", movie, twin, "-o", tmp_path / "out", *RUN, "-q").sentence(3, twin, "same name")


# ---- the output ------------------------------------------------------------------------------------------------------


@pytest.fixture
def output(call, movie, tmp_path) -> Path:
    assert call("run", movie, "-o", tmp_path / "out", *RUN, "-q").code == 0
    return tmp_path / "out/movie"


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_output_of_another_version(call, movie, output):
    _edit(output / "output.json", version="0.0.1")
    before = snapshot(output)
    call("run", movie, "-o", output.parent, *RUN).sentence(3, output, "version", "0.0.1", "--upgrade")
    assert snapshot(output) == before
    assert call("run", movie, "-o", output.parent, *RUN, "-q", "--upgrade").code == 0
    assert json.loads((output / "output.json").read_text())["version"] != "0.0.1"


def test_an_output_of_another_profile(call, movie, output):
    before = snapshot(output)
    call("run", movie, "-o", output.parent, *RUN, "--profile", "paper").sentence(3, output, "corrected", "--profile")
    assert snapshot(output) == before


def test_an_output_of_another_source(call, made, output):
    other = made().rename(output.parent.parent / "movie.czi")
    before = snapshot(output)
    call("run", other, "-o", output.parent, *RUN).sentence(3, output, "another source")
    assert snapshot(output) == before


def test_an_output_of_another_format(call, movie, output):
    _edit(output / "output.json", format=99)
    before = snapshot(output)
    call("run", movie, "-o", output.parent, *RUN).sentence(3, output, "format 99")
    call("status", output).sentence(3, output, "format 99")
    assert snapshot(output) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}'])
def test_an_output_whose_manifest_is_damaged(call, movie, output, text):
    (output / "output.json").write_text(text)
    before = snapshot(output)
    call("run", movie, "-o", output.parent, *RUN).sentence(3, output, "manifest")
    assert snapshot(output) == before


def test_a_folder_with_other_things_in_it(call, movie, tmp_path):
    folder = tmp_path / "out/movie"
    folder.mkdir(parents=True)
    (folder / "thesis.docx").write_text("years of work")
    before = snapshot(tmp_path / "out")
    call("run", movie, "-o", tmp_path / "out", *RUN).sentence(3, folder, "thesis.docx")
    call("convert", movie, "-o", folder, *RUN).sentence(3, folder, "thesis.docx")
    assert snapshot(tmp_path / "out") == before


def test_an_output_that_is_a_file(call, movie, tmp_path):
    (tmp_path / "out").write_text("a file")
    found = call("run", movie, "-o", tmp_path / "out", *RUN)
    assert found.code == 3
    assert len(found.err.splitlines()) == 1
    assert (tmp_path / "out").read_text() == "a file"
    found = call("convert", movie, "-o", tmp_path / "out", *RUN)
    assert found.code == 3, found.err
    assert len(found.err.splitlines()) == 1


def test_a_conversion_is_no_analysis(call, movie, output):
    before = snapshot(output)
    call("convert", movie, "-o", output, *RUN).sentence(3, output)
    assert snapshot(output) == before


def test_two_runs_on_one_output_at_once(call, movie, output):
    """Another process of this machine that lives holds the lease."""
    from dataclasses import asdict, replace

    from phagostat.store import lease

    holder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        started = lease._process_start(holder.pid)
        assert started is not None
        other = replace(lease.Holder.this_process(), pid=holder.pid, started=started)
        (output / "driver.lease").write_text(json.dumps(asdict(other)))
        (output / "seal.json").unlink()
        before = snapshot(output)
        found = call("run", movie, "-o", output.parent, *RUN)
        found.sentence(3, output, "another run is at work", f"process {holder.pid}")
        assert snapshot(output) == before
        assert f"at work: process {holder.pid}" in call("status", output).out
    finally:
        holder.kill()
        holder.wait()
    assert call("run", movie, "-o", output.parent, *RUN, "-q").code == 0
    assert not (output / "driver.lease").exists()


@pytest.mark.parametrize("command", ["status", "compare"])
def test_no_output_is_there(call, tmp_path, command):
    second = [tmp_path] if command == "compare" else []
    call(command, tmp_path / "nothing", *second).sentence(3, tmp_path / "nothing", "no output")


# ---- the machine -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_loses_nothing(call, movie, output, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk could be mounted: {mounted.stderr.decode().strip()}")
    try:
        arguments = ("run", movie, "-o", disk / "out", *RUN, "--set", "execution.block_frames=1")
        for _ in range(2):  # once more changes nothing
            found = call(*arguments)
            found.sentence(3, disk / "out/movie", "No space left on device", "free some space")
        kept = set((disk / "out/movie").glob("commits/*/*/*.json"))
        assert kept, "the disk is too small for this test"
        written = {path: path.stat().st_mtime_ns for path in kept}
        assert not (disk / "out/movie/seal.json").exists()
        subprocess.run(["mount", "-o", "remount,size=30m", disk], check=True)
        assert call(*arguments, "-q").code == 0
        assert {path: path.stat().st_mtime_ns for path in kept} == written
        layout = Layout.analysis(disk / "out/movie")
        assert differences(Layout.analysis(output), layout) == []
        assert read_contents(layout).hash == read_contents(Layout.analysis(output)).hash
        assert list(disk.rglob("*.partial")) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def _unprivileged(*arguments: object) -> tuple[int, str]:
    """Run a command without the right to go past file permissions, which root has otherwise."""
    prefix = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    command = [*prefix, sys.executable, "-m", "phagostat.cli", *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return finished.returncode, finished.stderr


@pytest.fixture
def unprivileged(tmp_path):
    """Gives a function that runs a command as a user whom file permissions stop."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not there: root cannot be stopped by permissions")
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o555)
        tried = subprocess.run(["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "touch", closed / "x"])
        if tried.returncode == 0 or (closed / "x").exists():
            pytest.skip("privileges cannot be dropped here")
        closed.rmdir()
    yield _unprivileged
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755)


def test_no_permission_to_write(movie, tmp_path, unprivileged):
    (tmp_path / "out").mkdir(mode=0o555)
    code, err = unprivileged("run", movie, "-o", tmp_path / "out", *RUN)
    assert code == 3, err
    (line,) = err.splitlines()
    assert line.startswith(f"phagostat: {tmp_path}/out")
    assert "Permission denied" in line
    assert line.endswith("; choose an output that you may write to")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("sealed", [True, False])
def test_no_permission_to_change_an_output(movie, output, unprivileged, sealed):
    if not sealed:
        (output / "seal.json").unlink()
        (output / "tables/frames.parquet").unlink()
    for path in [output, *output.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(output)
    for change in ((), ("--set", "aggregates.min_area_um2=2.0")):
        code, err = unprivileged("run", movie, "-o", output.parent, *RUN, *change)
        assert code == 3, err
        (line,) = err.splitlines()
        assert "Permission denied" in line
    assert snapshot(output) == before
    code, err = unprivileged("status", output)
    assert (code, err) == (0, "")


@pytest.mark.parametrize("part", ["images.zarr", "commits", "rows", "tables"])
def test_no_permission_to_change_a_part_of_an_output(movie, output, unprivileged, part):
    folders = [path for path in [output / part, *(output / part).rglob("*")] if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    change = ("--set", "aggregates.min_area_um2=2.0")
    code, err = unprivileged("run", movie, "-o", output.parent, *RUN, "-q", *change)
    assert code == 3, err
    (line,) = err.splitlines()
    assert "Permission denied" in line
    assert "; choose an output that you may write to" in line
    for path in folders:
        path.chmod(0o755)
    assert unprivileged("run", movie, "-o", output.parent, *RUN, "-q", *change) == (0, "")
    assert (output / "seal.json").exists()


def test_no_permission_to_read(movie, tmp_path, unprivileged):
    source = tmp_path / "movie.czi"
    source.write_bytes(movie.read_bytes())
    source.chmod(0o200)
    for command in (("run", source, "-o", tmp_path / "out", *RUN), ("info", source)):
        code, err = unprivileged(*command)
        assert code == 2, err
        (line,) = err.splitlines()
        assert line.startswith(f"phagostat: {source}: ")
        assert "permission" in line.lower()
