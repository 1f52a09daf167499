"""The Cell Tracking Challenge's folders as py-ctcmetrics sees them, which validates and scores submissions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from phagostat.report.ctc import write_ctc

from .test_ctc import tracks

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = """
import contextlib, io, json, sys, warnings
warnings.simplefilter("ignore")
with contextlib.redirect_stdout(io.StringIO()):
    from ctc_metrics.scripts.evaluate import evaluate_sequence
    from ctc_metrics.scripts.validate import validate_sequence
    try:
        found = dict(validate_sequence(sys.argv[1], threads=1))
    except AssertionError:  # a parent that is not there
        found = {"Valid": 0}
    if len(sys.argv) > 2:
        found |= evaluate_sequence(sys.argv[1], sys.argv[2], ["DET", "SEG", "TRA"], threads=1)
print(json.dumps({name: float(value) for name, value in found.items()}))
"""


@pytest.fixture(scope="session")
def oracle() -> Path:
    """Python of an environment with py-ctcmetrics, whose requirements are not ours."""
    folder = Path(os.environ.get("PHAGOSTAT_CTC_VALIDATOR", REPOSITORY / ".venv-ctc"))
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no environment for py-ctcmetrics could be made: {made.stderr.strip()[-200:]}")
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "py-ctcmetrics>=1.3,<2"]
        pip = subprocess.run(install, capture_output=True, text=True, timeout=600)
        if pip.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"py-ctcmetrics cannot be installed here: {pip.stderr.strip()[-200:]}")
        (folder / "ready").touch()
    return python


def asked(python: Path, *folders: Path) -> dict[str, float]:
    """Whether a result is valid, and its scores against a truth where one is given."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", SCRIPT, *folders], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_results_are_valid_and_agree_with_the_truth_layout(output, tmp_path, oracle):
    for layout in ("results", "truth"):
        write_ctc(output, 0, tmp_path, tracks=tracks(output), layout=layout)
    found = asked(oracle, tmp_path / "01_RES", tmp_path / "01_GT")
    assert found["Valid"] == 1
    assert [found[name] for name in ("DET", "SEG", "TRA")] == pytest.approx([1, 1, 1])


def test_the_oracle_does_see_what_is_wrong(output, tmp_path, oracle):
    write_ctc(output, 0, tmp_path, tracks=tracks(output))
    place = tmp_path / "01_RES"
    text = (place / "res_track.txt").read_text()
    rows = [[int(word) for word in line.split()] for line in text.splitlines()]
    longest = max(rows, key=lambda row: row[2] - row[1])
    for wrong in ([longest[0], longest[1], longest[2] - 1, 0], [longest[0], longest[1], longest[2], 60_000]):
        (place / "res_track.txt").write_text(text.replace(" ".join(map(str, longest)), " ".join(map(str, wrong))))
        assert asked(oracle, place)["Valid"] == 0
    (place / "res_track.txt").write_text(text)
    assert asked(oracle, place)["Valid"] == 1
    mask = tifffile.imread(place / "mask000.tif")
    tifffile.imwrite(place / "mask000.tif", np.where(mask == longest[0], np.uint16(60_000), mask))
    assert asked(oracle, place)["Valid"] == 0
