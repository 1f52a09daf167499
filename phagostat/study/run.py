"""A finished run as the scores read it: its tables, and its cell label images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from phagostat.engine.preparation import labels_path
from phagostat.model.errors import StoreError
from phagostat.simulate.truth import Table
from phagostat.store.arrays import PlaneReader
from phagostat.store.layout import Layout

LabelReader = Callable[[int, int], NDArray[Any]]
"""Gives the cell label image, (y, x) on the analysis grid, of a scene and frame."""

FRAME_COLUMNS = ("scene", "frame", "verdict", "is_reference", "shift_y_px", "shift_x_px")
"""What the frames table must have; what else it lacks is not scored."""

_TABLES = ("aggregates", "cells", "eaten", "fates", "scenes")


@dataclass(frozen=True)
class Run:
    """Tables and label images of a run.

    Parameters
    ----------
    frames
        The per-frame table.
    tables
        Those of the tables aggregates, cells, eaten, fates and scenes that there are, by name.
    cell_labels
        Reads the cell label image of a scene and frame; None if there are none.
    """

    frames: Table
    tables: Mapping[str, Table] = field(default_factory=dict)
    cell_labels: LabelReader | None = None

    def lacks(self, name: str, columns: tuple[str, ...]) -> str:
        """Say what of a table is missing, in words; empty if nothing is."""
        table = self.frames if name == "frames" else self.tables.get(name)
        if table is None:
            return f"there is no table {name}"
        missing = [column for column in columns if column not in table]
        return f"the table {name} has no {', '.join(missing)}" if missing else ""

    def lacks_channel(self, name: str) -> str:
        """Say that the acquisition has no channel of aggregates or cells; empty if it has."""
        verdicts = self.frames.get(f"{name}_verdict", np.empty(0))
        return f"the acquisition has no channel of {name}" if {*verdicts.tolist()} == {"no_channel"} else ""

    def scene(self, name: str, scene: int) -> Table:
        """Give a scene's rows of a table."""
        table = self.frames if name == "frames" else self.tables[name]
        mine = table["scene"] == scene
        return {column: values[mine] for column, values in table.items()}


def read_frames_table(output: str | Path) -> Table:
    """Read a run's per-frame table, ``tables/frames.parquet``.

    Parameters
    ----------
    output
        The run's output folder.

    Raises
    ------
    StoreError
        If it is absent or lacks a column.
    """
    path = Path(output) / "tables" / "frames.parquet"
    table = _read(path)
    if table is None:
        raise StoreError("the run's frames table cannot be read", where=path, remedy="is the run finished?")
    lacking = [name for name in FRAME_COLUMNS if name not in table]
    if lacking:
        raise StoreError("the run's frames table lacks columns", where=path, found=", ".join(lacking))
    return table


def read_run(output: str | Path) -> Run:
    """Open a run for scoring.

    Parameters
    ----------
    output
        The run's output folder. Of tables and images but the frames table any may be missing: an earlier version's
        output, or an acquisition without one of the channels.

    Returns
    -------
    Run
        Tables read, label images read when they are asked for.

    Raises
    ------
    StoreError
        If the frames table is absent or lacks a column.
    """
    layout = Layout.analysis(Path(output))
    frames = read_frames_table(output)
    found = {name: _read(layout.tables / f"{name}.parquet") for name in _TABLES}
    tables = {name: table for name, table in found.items() if table is not None}
    readers: dict[int, PlaneReader] = {}

    def cell_labels(scene: int, frame: int) -> NDArray[Any]:
        if scene not in readers:
            readers[scene] = PlaneReader(layout.images, f"{labels_path(scene, 'cells')}/0")
        return np.asarray(readers[scene].read((frame, 0)))

    there = (layout.images / labels_path(int(min(frames["scene"], default=0)), "cells")).is_dir()
    return Run(frames, tables, cell_labels if there else None)


def _read(path: Path) -> Table | None:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return None
    return {name: table.column(name).to_numpy() for name in table.column_names}
