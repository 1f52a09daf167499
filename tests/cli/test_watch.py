"""Watching as a user does it."""

from __future__ import annotations

import json
import subprocess
import sys

from phagostat.simulate import simulate

WATCH = ("--workers", "0", "--settle-s", "1", "--poll-s", "0.05", "--idle-min", "2")
KNOWN = ("--scenes", 1, "--frames", 4, "--pixel-size-um", 0.103, "--interval-s", 120, "--aggregates", 0, "--cells", 1)


def test_what_a_growing_file_does_not_say_is_asked_for(call, tmp_path):
    path = tmp_path / "movie.czi"
    found = call("watch", path, "-o", tmp_path / "out", "--frames", 4, "--aggregates", 0)
    match = found.sentence(2, path, "--pixel-size-um", "--interval-s", "--cells", "--scenes", "--like")
    assert "--frames" not in match["remedy"]
    assert not (tmp_path / "out").exists()


def test_a_recording_is_watched_to_its_end_and_equals_a_run(call, tmp_path):
    path = tmp_path / "movie.czi"
    made = ["simulate", path, "--scenes", 1, "--frames", 4, "--size", 256, "--seed", 3, "--pace-s", 0.5, "-q"]
    with subprocess.Popen([sys.executable, "-m", "phagostat.cli", *map(str, made)]) as microscope:
        found = call("watch", path, "-o", tmp_path / "out", *KNOWN, *WATCH, "--json", "-q")
        assert microscope.wait() == 0
    assert found.code in {0, 4}, found.err
    summary = json.loads(found.out)
    assert (summary["ended"], summary["corrections"]) == ("closed", [])
    call("run", path, "-o", tmp_path / "again", "--workers", "0", "-q")
    assert call("compare", tmp_path / "out", tmp_path / "again").code == 0


def test_all_can_be_as_in_a_finished_file(call, tmp_path):
    like = tmp_path / "like.czi"
    simulate(like, preset="easy", seed=1, scenes=1, frames=4, shape_yx=(256, 256))
    path = tmp_path / "movie.czi"
    simulate(path, preset="easy", seed=2, scenes=1, frames=4, shape_yx=(256, 256))
    found = call("watch", path, "-o", tmp_path / "out", "--like", like, *WATCH, "-q")
    assert found.code in {0, 4}, found.err


def test_no_recording_is_one_sentence(call, tmp_path):
    path = tmp_path / "movie.czi"
    found = call("watch", path, "-o", tmp_path / "out", *KNOWN, *WATCH[:-1], "0.005", "-q")
    lines = found.err.splitlines()
    assert found.code == 2
    assert lines[-1].startswith(f"phagostat: {path}: the recording has not begun")
    assert len(lines) == 2  # the other says what is waited for
    path.write_bytes(b"no CZI at all, but long enough for a header" * 10)
    assert call("watch", path, "-o", tmp_path / "out", *KNOWN, *WATCH, "-q").code == 2
