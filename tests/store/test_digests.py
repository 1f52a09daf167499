from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phagostat.store.digests import array_digest, bytes_digest, rows_digest, value_digest


@given(hnp.arrays(st.sampled_from(["u1", "u2", "i4", "f8"]), hnp.array_shapes(max_dims=3, max_side=6)))
def test_an_array_has_one_digest_however_it_lies_in_memory(array):
    wanted = array_digest(array)
    assert array_digest(np.asfortranarray(array)) == wanted
    padded = np.repeat(array, 2, axis=0)[::2]
    assert array_digest(padded) == wanted


@given(hnp.arrays("u2", hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6)), st.data())
def test_one_other_pixel_is_another_digest(array, data):
    index = tuple(data.draw(st.integers(0, n - 1)) for n in array.shape)
    other = array.copy()
    other[index] ^= data.draw(st.integers(1, 2**16 - 1))
    assert array_digest(other) != array_digest(array)


def test_shape_and_type_count():
    flat = np.zeros(6, np.uint8)
    digests = {array_digest(a) for a in (flat, flat.reshape(2, 3), flat.reshape(3, 2), flat.view(np.int8), flat[:5])}
    assert len(digests) == 5
    assert array_digest(np.zeros(3, np.uint16)) != array_digest(np.zeros(6, np.uint8))


def test_nan_is_a_value_of_its_own():
    a = np.array([1.0, np.nan])
    assert array_digest(a) == array_digest(a.copy())
    assert array_digest(a) != array_digest(np.array([1.0, 0.0]))
    assert value_digest([1.0, float("nan")]) == value_digest([1.0, float("nan")])
    assert value_digest(float("nan")) != value_digest(None)


def test_mappings_have_no_order_and_lists_do():
    assert value_digest({"a": 1, "b": [1, 2]}) == value_digest({"b": [1, 2], "a": 1})
    assert value_digest([1, 2]) != value_digest([2, 1])
    assert value_digest((1, 2)) == value_digest([1, 2])  # as JSON reads it back


@pytest.mark.parametrize("pair", [(1, "1"), (None, "null"), ([], {}), (0, False), ("", None), (1, 1.0)])
def test_kinds_of_values_are_told_apart(pair):
    assert value_digest(pair[0]) != value_digest(pair[1])


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError):
        value_digest(np.arange(3))


ROWS = np.array([(1, 2.5), (2, np.nan)], dtype=[("label", "i4"), ("area_um2", "f8")])


def test_rows_as_a_structured_array_or_as_columns_have_one_digest():
    columns = {"label": ROWS["label"].copy(), "area_um2": ROWS["area_um2"].copy()}
    assert rows_digest(ROWS) == rows_digest(columns)
    assert rows_digest(ROWS) != rows_digest(ROWS[::-1])
    assert rows_digest(ROWS) != rows_digest(ROWS[["area_um2", "label"]])
    assert rows_digest(columns) != rows_digest({**columns, "area_um2": columns["area_um2"].astype("f4")})
    assert rows_digest(columns) != rows_digest({"label": columns["label"], "area": columns["area_um2"]})


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["é"], ["e"]),
        (["a", ""], ["", "a"]),
    ],
)
def test_words_are_told_apart(a, b):
    assert rows_digest({"w": np.array(a)}) != rows_digest({"w": np.array(b)})
    assert rows_digest({"w": np.array(a)}) == rows_digest({"w": np.array(a, dtype=object)})


def test_bytes():
    assert bytes_digest(b"") != bytes_digest(b"\0")
    assert len(bytes_digest(b"")) == 32
