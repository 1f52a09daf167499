from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phagostat.model.errors import StoreError
from phagostat.store.rows import read_row_file, write_row_file
from phagostat.store.tables import (
    read_table,
    sort_table,
    table_digest,
    table_digests,
    table_from_columns,
    table_from_records,
    write_table,
)

KINDS = {"scene": pa.int32(), "verdict": pa.string(), "shift": pa.float64(), "is_reference": pa.bool_()}
RECORDS = [
    {"scene": 0, "verdict": "ok", "shift": 1.5, "is_reference": True},
    {"scene": 1, "verdict": None, "shift": None, "is_reference": None},
    {"scene": None, "shift": float("nan"), "other": "left out"},
]


def table() -> pa.Table:
    return table_from_records(RECORDS, KINDS)


def test_a_missing_figure_is_nan_and_a_missing_word_or_number_null(tmp_path):
    write_table(tmp_path, "frames", table())
    rows = read_table(tmp_path, "frames").to_pylist()
    assert rows[0] == RECORDS[0]
    assert math.isnan(rows[1].pop("shift"))
    assert rows[1] == {"scene": 1, "verdict": None, "is_reference": None}
    assert math.isnan(rows[2].pop("shift"))
    assert rows[2] == {"scene": None, "verdict": None, "is_reference": None}


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none"},
        {"compression": "snappy", "use_dictionary": False},
        {"row_group_size": 1},
        {"version": "1.0"},
        {"write_statistics": False, "data_page_size": 64},
    ],
)
def test_the_digest_is_the_same_however_the_file_was_written(tmp_path, options):
    wanted = write_table(tmp_path, "frames", table())
    pq.write_table(table(), tmp_path / "other.parquet", **options)
    assert table_digest(pq.read_table(tmp_path / "other.parquet")) == wanted
    assert table_digest(pa.concat_tables([table().slice(0, 1), table().slice(1)])) == wanted


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("scene", [0, 1, 0]),  # null is not 0
        ("verdict", ["ok", "", ""]),  # nor an empty word
        ("is_reference", [True, False, False]),
        ("shift", [1.5, 0.0, 0.0]),
        ("shift", [1.5, None, None]),  # nor is null a NaN
        ("scene", [0, None, 1]),
    ],
)
def test_the_digest_tells_values_apart(column, values):
    position = table().column_names.index(column)
    other = table().set_column(position, column, pa.array(values, type=KINDS[column]))
    assert table_digest(other) != table_digest(table())


def test_the_digest_tells_names_types_and_order_apart():
    renamed = table().rename_columns(["scenes", *table().column_names[1:]])
    cast = table().set_column(0, "scene", table().column("scene").cast(pa.int64()))
    turned = table().take(pa.array([1, 0, 2]))
    words = [
        pa.table({"w": pa.array(words, pa.string())})
        for words in (["a", "b\0c"], ["a\0b", "c"], ["ab", ""], ["", "ab"])
    ]
    all_digests = [table_digest(t) for t in (table(), renamed, cast, turned, table().slice(0, 2), *words)]
    assert len(set(all_digests)) == len(all_digests)


def test_rows_are_sorted_by_key_and_an_empty_table_stays_one():
    shuffled = table_from_columns({"scene": np.array([1, 0, 0]), "frame": np.array([0, 2, 1])})
    assert sort_table(shuffled, ["scene", "frame"]).to_pylist() == [
        {"scene": 0, "frame": 1},
        {"scene": 0, "frame": 2},
        {"scene": 1, "frame": 0},
    ]
    empty = table_from_records([], KINDS)
    assert sort_table(empty, ["scene"]).schema == table().schema


def test_tables_that_are_gone_or_cut_off_have_no_digest(tmp_path):
    written = {name: write_table(tmp_path, name, table()) for name in ("a", "b", "c")}
    assert table_digests(tmp_path, written) == written
    (tmp_path / "a.parquet").unlink()
    data = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[:-9])
    assert table_digests(tmp_path, written) == {"c": written["c"]}


COLUMNS = {
    "index": np.array([3, 3, 5], np.int32),
    "label": np.array([1, 2, 1], np.uint16),
    "area_um2": np.array([0.5, np.nan, 2.0]),
    "touches_border": np.array([True, False, True]),
}


def test_rows_come_back_as_they_were(tmp_path):
    path, digest = write_row_file(tmp_path, "aggregates/scene-000/3-6", COLUMNS)
    found = read_row_file(tmp_path, path, digest)
    assert list(found) == list(COLUMNS)
    for name, column in COLUMNS.items():
        np.testing.assert_array_equal(found[name], column)
        assert found[name].dtype == column.dtype
    assert digest[:16] in path


def test_no_rows_are_rows_too(tmp_path):
    path, digest = write_row_file(tmp_path, "a", {"label": np.empty(0, np.uint16)})
    assert read_row_file(tmp_path, path, digest)["label"].shape == (0,)


def test_other_rows_never_replace_a_file_that_a_commit_names(tmp_path):
    first = write_row_file(tmp_path, "a", COLUMNS)
    second = write_row_file(tmp_path, "a", {**COLUMNS, "label": COLUMNS["label"] + 1})
    assert first[0] != second[0]
    read_row_file(tmp_path, *first)
    assert write_row_file(tmp_path, "a", COLUMNS) == first


def test_a_row_file_that_is_not_what_was_promised_is_refused(tmp_path):
    path, digest = write_row_file(tmp_path, "a", COLUMNS)
    with pytest.raises(StoreError, match="damaged") as caught:
        read_row_file(tmp_path, path, "0" * 32)
    assert path in str(caught.value)
    (tmp_path / path).unlink()
    with pytest.raises(StoreError, match="gone"):
        read_row_file(tmp_path, path, digest)
