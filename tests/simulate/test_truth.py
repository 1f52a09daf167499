"""The truth's format: what is written is read again, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from phagostat.simulate.truth import (
    AGGREGATE_COLUMNS,
    AREA_COLUMNS,
    FRAME_COLUMNS,
    TRACK_COLUMNS,
    LabelWriter,
    Table,
    TruthError,
    read_truth,
    write_truth,
)

DOCUMENT = {
    "generator": "test", "pixel_size_um": 0.1, "reduction": 2, "interval_s": 60.0,
    "scenes": [{"n_frames": 2, "shape_yx": [4, 6]}],
}  # fmt: skip


def table(columns: dict[str, type], n: int) -> Table:
    kinds = {int: np.arange(n), float: np.arange(n) * 0.1 + 1 / 3, bool: np.arange(n) % 2 == 0}
    made: Table = {
        name: np.array(kinds[kind]) if kind in kinds else np.array([f"{name} {i}" for i in range(n)], dtype=object)
        for name, kind in columns.items()
    }
    made["scene"] = np.zeros(n, dtype=np.int64)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "movie.truth"
    writer = LabelWriter(folder, 1)
    for frame in range(2):
        writer.write(0, np.full((4, 6), frame + 1, dtype=np.uint16))
    writer.close()
    write_truth(
        folder, document=DOCUMENT, frames=table(FRAME_COLUMNS, 2), aggregates=table(AGGREGATE_COLUMNS, 3),
        areas=table(AREA_COLUMNS, 6), tracks=table(TRACK_COLUMNS, 4),
    )  # fmt: skip
    return folder


def test_what_is_written_is_read_again(folder: Path) -> None:
    truth = read_truth(folder.with_suffix(".czi"))
    for read, columns, n in (
        (truth.frames, FRAME_COLUMNS, 2),
        (truth.aggregates, AGGREGATE_COLUMNS, 3),
        (truth.areas, AREA_COLUMNS, 6),
        (truth.tracks, TRACK_COLUMNS, 4),
    ):
        written = table(columns, n)
        for name in columns:
            assert read[name].tolist() == written[name].tolist(), name
    assert truth.n_scenes == 1
    assert truth.labels(0, 1).tolist() == np.full((4, 6), 2).tolist()


def test_areas_may_be_csv(folder: Path) -> None:
    truth = read_truth(folder)
    (folder / "aggregate_areas.parquet").unlink()
    lines = [",".join(AREA_COLUMNS)] + [
        ",".join(str(truth.areas[name][row]) for name in AREA_COLUMNS) for row in range(6)
    ]
    (folder / "aggregate_areas.csv").write_text("\n".join(lines))
    again = read_truth(folder)
    assert all(again.areas[name].tolist() == truth.areas[name].tolist() for name in AREA_COLUMNS)


def damage_version(folder: Path) -> None:
    document = json.loads((folder / "truth.json").read_text())
    (folder / "truth.json").write_text(json.dumps({**document, "version": 99}))


def damage_format(folder: Path) -> None:
    (folder / "truth.json").write_text('{"format": "something"}')


def damage_json(folder: Path) -> None:
    (folder / "truth.json").write_text("{")


def lose_json(folder: Path) -> None:
    (folder / "truth.json").unlink()


def lose_table(folder: Path) -> None:
    (folder / "tracks.csv").unlink()


def lose_column(folder: Path) -> None:
    path = folder / "frames.csv"
    path.write_text(path.read_text().replace("shift_y_px", "dy"))


def damage_value(folder: Path) -> None:
    path = folder / "frames.csv"
    path.write_text(path.read_text().replace("0.3333333333333333", "one third"))


def lose_frame(folder: Path) -> None:
    path = folder / "frames.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_version, "version 1"),
        (damage_format, "no phagostat truth"),
        (damage_json, "not valid JSON"),
        (lose_json, "no truth here"),
        (lose_table, "table is missing"),
        (lose_column, "column is missing (found: shift_y_px)"),
        (damage_value, "cannot be read"),
        (lose_frame, "should have 2 frames (found: 1)"),
    ],
)
def test_damage_is_named_in_one_sentence(folder: Path, damage: object, said: str) -> None:
    damage(folder)  # type: ignore[operator]
    with pytest.raises(TruthError) as caught:
        read_truth(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_labels_are_named(folder: Path) -> None:
    truth = read_truth(folder)
    for scene, frame in ((0, 7), (3, 0)):
        with pytest.raises(TruthError, match="no label image"):
            truth.labels(scene, frame)


def test_incomplete_tables_are_not_written(tmp_path: Path) -> None:
    frames = table(FRAME_COLUMNS, 2)
    del frames["time_s"]
    with pytest.raises(TruthError, match="time_s"):
        write_truth(
            tmp_path / "t", document=DOCUMENT, frames=frames, aggregates=table(AGGREGATE_COLUMNS, 1),
            areas=table(AREA_COLUMNS, 1), tracks=table(TRACK_COLUMNS, 1),
        )  # fmt: skip
    assert not (tmp_path / "t" / "truth.json").exists()
