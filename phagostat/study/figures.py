"""What the scores share: numbers that may be missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAN = float("nan")

Floats = NDArray[np.float64]


def floats(column: NDArray[Any]) -> Floats:
    """Give a column as float64, with NaN where nothing is written."""
    return np.array([NAN if value is None else float(value) for value in column.tolist()], np.float64)


def of(function: Callable[[Any], Any], values: Floats) -> float:
    """Apply a function to what is finite; NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(function(known)) if known.size else NAN


def ratio(part: float, whole: float) -> float:
    """Give ``part / whole``; NaN if there is no whole."""
    return float(part / whole) if whole > 0 else NAN


def plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Replace what JSON has no word for by None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
