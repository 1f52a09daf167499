"""Table 1 of the paper: what the published methods reached, and on what."""

from __future__ import annotations

from typing import Any

SOURCE = (
    "Ounissi, Latouche, Racoceanu, Sci. Rep. 14 (2024) 6482, doi:10.1038/s41598-024-56081-7, Table 1: 1000 shifts in "
    "+-400 px on 2048 x 2048 px; 4 cores of a Xeon Gold 6126; frames warped by OpenCV 4.5"
)

TABLE_1: dict[str, dict[str, Any]] = {
    "ecc": {"x_px": (196.02, 119.34), "y_px": (206.93, 116.50), "seconds": (0.92, 0.72)},
    "sift": {"x_px": (0.0153, 0.0609), "y_px": (0.0228, 0.1221), "seconds": (3.09, 0.12)},
    "cecc": {"x_px": (0.0079, 0.0046), "y_px": (0.0081, 0.0047), "seconds": (8.77, 0.20)},
}
"""Mean and sd of the absolute error per axis and of the time of a pair; peak memory is not given."""
