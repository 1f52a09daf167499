"""The truth beside a movie: written by the simulator, read by whoever scores; see docs/truth-format.md.

Tables are dictionaries of equally long numpy arrays, one per column.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from numpy.typing import NDArray

from phagostat.model.errors import PhagostatError

FORMAT = "phagostat-truth"
VERSION = 1

Table = dict[str, NDArray[Any]]
Columns = Mapping[str, type]

FRAME_COLUMNS: Columns = {
    "scene": int, "frame": int, "time_s": float, "shift_y_px": float, "shift_x_px": float, "defocus_sigma_px": float,
    "bleaching_factor": float, "illumination_aggregates": float, "illumination_cells": float, "state": str,
    "missing_channels": str,
}  # fmt: skip
AGGREGATE_COLUMNS: Columns = {
    "scene": int, "aggregate": int, "fate": str, "cell": int, "eaten_from_frame": int, "eaten_to_frame": int,
    "decoy": str, "partner": int, "area_first_um2": float, "area_last_um2": float,
}  # fmt: skip
AREA_COLUMNS: Columns = {
    "scene": int, "frame": int, "aggregate": int, "area_um2": float, "y_px": float, "x_px": float, "in_view": bool,
    "eaten_area_um2": float,
}  # fmt: skip
TRACK_COLUMNS: Columns = {
    "scene": int, "frame": int, "cell": int, "y_px": float, "x_px": float, "area_um2": float, "alive": bool,
    "touches_border": bool,
}  # fmt: skip
_REQUIRED = ("format", "version", "generator", "pixel_size_um", "reduction", "interval_s", "scenes")


class TruthError(PhagostatError):
    """A truth is absent or not what its format promises."""


@dataclass(frozen=True)
class Truth:
    """A movie's truth.

    Parameters
    ----------
    path
        Its folder.
    document
        ``truth.json``: version, generator, seed, sizes, scenes with their parameters.
    frames, aggregates, areas, tracks
        The tables; columns as in docs/truth-format.md.
    """

    path: Path
    document: dict[str, Any]
    frames: Table
    aggregates: Table
    areas: Table
    tracks: Table

    @property
    def pixel_size_um(self) -> float:
        """Native pixel size."""
        return float(self.document["pixel_size_um"])

    @property
    def reduction(self) -> int:
        """Native px per analysis px."""
        return int(self.document["reduction"])

    @property
    def n_scenes(self) -> int:
        """Number of scenes."""
        return len(self.document["scenes"])

    def scene(self, table: Table, scene: int) -> Table:
        """Give the rows of one scene, such as ``truth.scene(truth.frames, 0)``."""
        return {name: column[table["scene"] == scene] for name, column in table.items()}

    def labels(self, scene: int, frame: int) -> NDArray[np.uint16]:
        """Give the cell label image of a frame: (y, x) uint16 on the analysis grid, label = cell + 1.

        Raises
        ------
        TruthError
            If there is none.
        """
        path = self.path / "labels" / f"scene-{scene:02d}.tif"
        try:
            with tifffile.TiffFile(path) as stack:
                return np.asarray(stack.pages[frame].asarray(), dtype=np.uint16)
        except (OSError, IndexError, tifffile.TiffFileError) as error:
            raise TruthError("there is no label image of this frame", where=path, found=f"frame {frame}") from error


class LabelWriter:
    """Writes one multi-page TIFF of label images per scene, page by page.

    Parameters
    ----------
    folder
        The truth's folder.
    scenes
        Number of scenes.
    """

    def __init__(self, folder: Path, scenes: int) -> None:
        labels = folder / "labels"
        labels.mkdir(parents=True)
        self._writers = [tifffile.TiffWriter(labels / f"scene-{scene:02d}.tif") for scene in range(scenes)]

    def write(self, scene: int, image: NDArray[np.uint16]) -> None:
        """Append the next frame's label image."""
        self._writers[scene].write(image, compression="zlib", contiguous=False, metadata=None)

    def close(self) -> None:
        """Finish all files."""
        for writer in self._writers:
            writer.close()


def write_truth(
    folder: Path, *, document: Mapping[str, Any], frames: Table, aggregates: Table, areas: Table, tracks: Table
) -> None:
    """Write a truth's document and tables into ``folder`` (label images: :class:`LabelWriter`).

    Raises
    ------
    TruthError
        If a table lacks a column or the document an entry.
    """
    folder.mkdir(parents=True, exist_ok=True)
    complete = {"format": FORMAT, "version": VERSION, **document}
    _check_document(complete, folder)
    for name, table, columns in (
        ("frames.csv", frames, FRAME_COLUMNS),
        ("aggregates.csv", aggregates, AGGREGATE_COLUMNS),
        ("tracks.csv", tracks, TRACK_COLUMNS),
    ):
        _check_columns(table, columns, folder / name)
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows(zip(*(table[column].tolist() for column in columns), strict=True))
    _check_columns(areas, AREA_COLUMNS, folder / "aggregate_areas.parquet")
    pq.write_table(pa.table({name: areas[name] for name in AREA_COLUMNS}), folder / "aggregate_areas.parquet")
    # the document comes last: a truth without it is not complete
    (folder / "truth.json").write_text(json.dumps(complete, indent=1, default=_plain) + "\n", encoding="utf-8")


def read_truth(path: str | Path) -> Truth:
    """Read a truth folder, or the one beside a movie (``movie.czi`` -> ``movie.truth/``).

    Parameters
    ----------
    path
        The folder or the movie.

    Returns
    -------
    Truth
        Document and tables.

    Raises
    ------
    TruthError
        If it is absent, incomplete, of another version or inconsistent.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = folder.with_suffix(".truth")
    try:
        document = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise TruthError("there is no truth here", where=folder, remedy="expected a folder with truth.json") from error
    except ValueError as error:
        raise TruthError("truth.json is not valid JSON", where=folder, found=str(error)) from error
    _check_document(document, folder)
    truth = Truth(
        folder,
        document,
        _read_csv(folder / "frames.csv", FRAME_COLUMNS),
        _read_csv(folder / "aggregates.csv", AGGREGATE_COLUMNS),
        _read_areas(folder),
        _read_csv(folder / "tracks.csv", TRACK_COLUMNS),
    )
    for scene, entry in enumerate(document["scenes"]):
        n_rows = int(np.sum(truth.frames["scene"] == scene))
        if n_rows != entry["n_frames"]:
            raise TruthError(
                f"scene {scene} should have {entry['n_frames']} frames", where=folder / "frames.csv", found=n_rows
            )
    return truth


def _check_document(document: Any, folder: Path) -> None:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TruthError(
            "this is no phagostat truth", where=folder / "truth.json", remedy=f'"format" must be "{FORMAT}"'
        )
    if document.get("version") != VERSION:
        raise TruthError(
            f"only version {VERSION} of the truth format is known", where=folder / "truth.json",
            found=document.get("version"),
        )  # fmt: skip
    lacking = [name for name in _REQUIRED if name not in document]
    if lacking:
        raise TruthError("an entry is missing", where=folder / "truth.json", found=", ".join(lacking))
    for entry in document["scenes"]:
        if not {"n_frames", "shape_yx"} <= set(entry):
            raise TruthError("each scene needs n_frames and shape_yx", where=folder / "truth.json", found=sorted(entry))


def _check_columns(table: Table, columns: Columns, path: Path) -> None:
    lacking = [name for name in columns if name not in table]
    if lacking:
        raise TruthError("a column is missing", where=path, found=", ".join(lacking))
    if len({len(table[name]) for name in columns}) > 1:
        raise TruthError("the columns have different lengths", where=path)


def _read_csv(path: Path, columns: Columns) -> Table:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
    except OSError as error:
        raise TruthError("a table is missing", where=path) from error
    lacking = [name for name in columns if name not in header]
    if lacking:
        raise TruthError("a column is missing", where=path, found=", ".join(lacking))
    table: Table = {}
    for name, kind in columns.items():
        index = header.index(name)
        try:
            table[name] = _parse([row[index] for row in rows], kind)
        except (ValueError, IndexError) as error:
            raise TruthError(f"column {name} cannot be read", where=path, found=str(error)) from error
    return table


def _parse(values: Sequence[str], kind: type) -> NDArray[Any]:
    if kind is bool:
        return np.array([value.lower() in ("true", "1") for value in values], dtype=bool)
    if kind is int:
        return np.array([int(value) for value in values], dtype=np.int64)
    if kind is float:
        return np.array([float(value) for value in values], dtype=np.float64)
    return np.array(values, dtype=object)


def _read_areas(folder: Path) -> Table:
    path = folder / "aggregate_areas.parquet"
    if not path.is_file():
        return _read_csv(folder / "aggregate_areas.csv", AREA_COLUMNS)
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise TruthError("the table cannot be read", where=path, found=str(error).splitlines()[0]) from error
    lacking = [name for name in AREA_COLUMNS if name not in table.column_names]
    if lacking:
        raise TruthError("a column is missing", where=path, found=", ".join(lacking))
    return {name: table.column(name).to_numpy() for name in AREA_COLUMNS}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.name
    raise TypeError(f"{type(value).__name__} has no place in truth.json")
