"""Pixel size and interval by the tables that the published pipeline leaves beside its frames.

Its pictures carry neither, but ``CSVs/frames_registration_params.csv`` has each shift in pixels of these pictures and
in micrometres; ``CSVs/phagocytosis_evolution.csv`` and ``CSVs/cell_tracking_report.csv`` have times in minutes, in
steps of the interval.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import Final

from phagostat.sources.metadata_xml import parse_number

SHIFTS: Final = Path("CSVs", "frames_registration_params.csv")
TIMES: Final = (Path("CSVs", "phagocytosis_evolution.csv"), Path("CSVs", "cell_tracking_report.csv"))
MIN_SHIFT_PX: Final = 0.05
"""Smaller shifts are too short to measure a pixel by."""
TOLERANCE: Final = 0.01
MAX_ROWS: Final = 100_000


def pixel_size_um(scene: Path) -> float | None:
    """Give the pixel size in um by a scene's table of shifts; None where it does not say, or not of one size."""
    ratios = []
    for row in _rows(scene / SHIFTS):
        for axis in "xy":
            shift, length = parse_number(row.get(axis)), parse_number(row.get(f"{axis}(microns)"))
            if shift is not None and length is not None and abs(shift) >= MIN_SHIFT_PX:
                ratios.append(length / shift)
    if not ratios:
        return None
    middle = statistics.median(ratios)
    if middle <= 0 or any(abs(ratio - middle) > TOLERANCE * middle for ratio in ratios):
        return None
    return float(f"{middle:.6g}")


def interval_s(scene: Path) -> float | None:
    """Give the time between frames in s by a scene's tables of times; None where they do not say.

    Rows of rejected frames are absent, so the interval is the smallest step, of which all others are multiples. Of a
    scene with hardly a usable frame it may itself be a multiple: :func:`common_interval_s`.
    """
    steps: list[float] = []
    for table in TIMES:
        times = [parse_number(row.get("time (min)")) for row in _rows(scene / table)]
        if None in times:
            return None
        steps += [b - a for a, b in pairwise(times) if a is not None and b is not None]
    step = _unit(steps)
    return None if step is None else float(f"{step * 60:.6g}")


def common_interval_s(intervals_s: Collection[float]) -> float | None:
    """Give the interval of scenes that were recorded in turn: the smallest, if all others are multiples of it."""
    return _unit(intervals_s)


def _unit(steps: Collection[float]) -> float | None:
    smallest = min(steps, default=0.0)
    if smallest <= 0 or any(abs(step / smallest - round(step / smallest)) > TOLERANCE for step in steps):
        return None
    return smallest


def _rows(table: Path) -> list[dict[str, str]]:
    rows = []
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.append({str(key): str(value) for key, value in row.items()})
                if len(rows) >= MAX_ROWS:
                    break
    except (OSError, ValueError, csv.Error):
        return []
    return rows
