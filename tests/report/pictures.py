"""A small finished analysis with everything that can go wrong, and what its pictures are looked at with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phagostat.cluster.local import local_executor
from phagostat.engine.outputs import analysis_job, run_job
from phagostat.settings_text import read_settings
from phagostat.sources import open_source
from phagostat.terminal import acquisition_of

SIDE_PX = 384
LENGTHS = (7, 3)


def analyse(source: Path, root: Path, *assignments: str) -> Path:
    """Analyse a movie in this process, with settings such as ``group.name=value``; give its output."""
    settings = read_settings(None, assignments, profile=None)
    opened = open_source(source)
    job = analysis_job(opened, acquisition_of(opened, settings), settings, root / source.stem)
    with local_executor(0) as executor:
        run_job(job, executor)
    return root / source.stem


def share_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    """Share of a picture's pixels that have a colour exactly."""
    return float(np.mean((picture == np.asarray(colour, np.uint8)).all(axis=-1)))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Contents of every file in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
