"""``phagostat bench registration`` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def bench(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from phagostat.cli import main; main()", "bench", "registration", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


SMALL = ("--n", "5", "--n-slow", "1", "--size", "256", "--methods", "tiles,phase", "--reference", "simulated")


def test_tables_to_read_and_everything_as_json(tmp_path):
    done = bench(*SMALL, "--tables", "shifts,noise", "--noise", "1", "--json", "all.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| tiles " in done.stdout
    assert "paper: cecc" in done.stdout
    assert "Cramer-Rao" in done.stdout
    document = json.loads((tmp_path / "all.json").read_text("utf-8"))
    assert document["settings"]["reference"] == "simulated"
    assert document["settings"]["seed"] == 0
    assert {"processor", "opencv_threads", "versions"} <= set(document["machine"])
    assert document["machine"]["opencv_threads"] == 1
    assert set(document["tables"]) == {"shifts", "noise"}
    assert len(document["tables"]["shifts"]["trials"]) == 5 + 1 + 2 * 2  # tiles, phase, other frames for each
    assert document["tables"]["shifts"]["peak_memory"]["tiles"]["peak_mib"] > 20


def test_json_alone_on_standard_output(tmp_path):
    done = bench(*SMALL, "--tables", "impossible", "--methods", "tiles", "--json", "-", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tables"]["impossible"]["methods"]["tiles"]["n"] == 5
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--methods", "tiles,nonsense"), "nonsense"),
        (("--n", "0"), "at least one pair"),
        (("--n", "many"), "many"),
        (("--reference", "absent.png"), "absent.png"),
        (("--movie", "absent"), "absent"),
        (("--tables", "everything"), "everything"),
        (("--size", "2047"), "2047"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, said):
    done = bench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_result_that_cannot_be_written_is_said_at_once(tmp_path):
    for place in (".", "absent/all.json"):
        done = bench("--reference", "simulated", "--json", place, cwd=tmp_path)
        assert done.returncode == 3
        assert done.stdout == ""
        assert "cannot be written" in done.stderr
