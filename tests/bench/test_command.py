"""``phagostat bench registration`` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ..cli.command import caller


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


@pytest.fixture
def call(capfd):
    return caller(capfd)


@pytest.mark.parametrize(
    ("arguments", "where", "said"),
    [
        (("--methods", "tiles,nonsense"), "--methods", "nonsense"),
        (("--n", "0"), "--n", "at least one pair"),
        (("--n-slow", "-3"), "--n-slow", "-3"),
        (("--reference", "absent.png"), "absent.png", "no such picture"),
        (("--reference", __file__), "test_command.py", "no 8-bit grey PNG"),
        (("--movie", "absent"), "absent", "no such folder"),
        (("--tables", "everything"), "--tables", "everything"),
        (("--tables", ","), "--tables", "nothing is named"),
        (("--size", "2047"), "--size", "2047"),
        (("--noise", "dark"), "--noise", "dark"),
    ],
)
def test_bad_input_is_one_sentence(call, arguments, where, said):
    call("bench", "registration", *arguments).sentence(2, where, said)


def test_what_is_no_number_is_said(call):
    outcome = call("bench", "registration", "--n", "many")
    assert outcome.code == 2
    assert "many" in outcome.err


def test_an_empty_picture_is_said(call, tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    call("bench", "registration", "--reference", path).sentence(2, "empty.png", "no 8-bit grey PNG")


def test_a_result_that_cannot_be_written_is_said_at_once(call, tmp_path):
    for place in (tmp_path, tmp_path / "absent" / "all.json"):
        call("bench", "registration", "--reference", "simulated", "--json", place).sentence(
            3, place, "cannot be written"
        )
