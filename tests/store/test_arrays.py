from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from phagostat.model.errors import StoreError
from phagostat.store import arrays
from phagostat.store.arrays import (
    ImageSpec,
    PlaneWriter,
    chunk_path,
    ensure_image,
    ensure_planes,
    halved,
    read_plane,
    split_chunk_path,
)
from phagostat.store.digests import array_digest
from phagostat.store.integrity import damaged_chunks


def spec(frames: int = 3, *, shape_yx=(8, 10), dtype: str = "uint16", kind: str = "intensity") -> ImageSpec:
    return ImageSpec("0", (frames, 2, *shape_yx), dtype, 0.2, 60.0, ("a", "b"), kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["intensity", "labels"])
@pytest.mark.parametrize("value", [0, 7])
def test_a_plane_of_one_value_leaves_a_chunk_even_if_it_is_all_zero(tmp_path, value, kind):
    ensure_image(tmp_path, spec(kind=kind))
    plane = np.full((8, 10), value, np.uint16)
    chunk, digest, _ = PlaneWriter(tmp_path, "0/0").write((1, 0), plane)
    assert (tmp_path / chunk).is_file()
    assert damaged_chunks(tmp_path, {chunk: digest}) == []
    np.testing.assert_array_equal(read_plane(tmp_path, "0/0", (1, 0)), plane)


def test_a_plane_is_one_chunk_and_nothing_else(tmp_path):
    ensure_image(tmp_path, spec())
    plane = np.random.default_rng(0).integers(0, 4096, (8, 10)).astype(np.uint16)
    chunk, digest, _ = PlaneWriter(tmp_path, "0/0", fsync=True).write((2, 1), plane)
    assert chunk == chunk_path("0/0", (2, 1)) == "0/0/c/2/1/0/0"
    assert split_chunk_path(chunk) == ("0/0", (2, 1))
    assert digest == array_digest(plane)
    written = [p for p in (tmp_path / "0/0/c").rglob("*") if p.is_file()]
    assert written == [tmp_path / chunk]


@pytest.mark.parametrize(
    ("index", "plane", "sentence"),
    [
        ((3, 0), np.zeros((8, 10), np.uint16), "outside"),
        ((-1, 0), np.zeros((8, 10), np.uint16), "outside"),
        ((0, 2), np.zeros((8, 10), np.uint16), "outside"),
        ((0, 0), np.zeros((10, 8), np.uint16), "fit"),
        ((0, 0), np.zeros((1, 1), np.uint16), "fit"),
        ((0, 0), np.zeros((8, 10), np.int16), "fit"),
        ((0, 0), np.zeros((8, 10), np.float64), "fit"),
    ],
)
def test_a_plane_that_does_not_belong_there_is_refused(tmp_path, index, plane, sentence):
    ensure_image(tmp_path, spec())
    with pytest.raises(StoreError, match=sentence) as caught:
        PlaneWriter(tmp_path, "0/0").write(index, plane)
    assert caught.value.found
    assert not (tmp_path / "0/0/c").exists()


def test_an_array_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match="gone") as caught:
        PlaneWriter(tmp_path, "5/0")
    assert "5/0" in str(caught.value)


def test_a_handle_from_before_a_resize_does_not_clip_silently(tmp_path):
    """What plain zarr does there is the reason for the check: its write vanishes without a word."""
    ensure_image(tmp_path, spec(2))
    old, raw = PlaneWriter(tmp_path, "0/0"), zarr.open_array(tmp_path / "0/0", mode="r+")
    plane = np.full((8, 10), 5, np.uint16)
    ensure_image(tmp_path, spec(4))
    raw[2:4] = 5
    assert not (tmp_path / chunk_path("0/0", (3, 0))).exists()
    with pytest.raises(StoreError, match="outside"):
        old.write((3, 0), plane)
    chunk, *_ = PlaneWriter(tmp_path, "0/0").write((3, 0), plane)
    assert (tmp_path / chunk).is_file()


def test_an_image_gets_longer_and_keeps_what_is_there(tmp_path):
    ensure_image(tmp_path, spec(2))
    plane = np.arange(80, dtype=np.uint16).reshape(8, 10)
    PlaneWriter(tmp_path, "0/0").write((1, 1), plane)
    ensure_image(tmp_path, spec(5))
    assert zarr.open_array(tmp_path / "0/0", mode="r").shape == (5, 2, 8, 10)
    np.testing.assert_array_equal(read_plane(tmp_path, "0/0", (1, 1)), plane)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    ensure_image(tmp_path, spec(5))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_image_gets_shorter_and_keeps_what_is_left(tmp_path):
    ensure_image(tmp_path, spec(5))
    plane = np.arange(80, dtype=np.uint16).reshape(8, 10)
    kept, *_ = PlaneWriter(tmp_path, "0/0").write((1, 1), plane)
    gone, *_ = PlaneWriter(tmp_path, "0/0").write((4, 0), plane)
    ensure_image(tmp_path, spec(2))
    assert zarr.open_array(tmp_path / "0/0", mode="r").shape == (2, 2, 8, 10)
    np.testing.assert_array_equal(read_plane(tmp_path, "0/0", (1, 1)), plane)
    assert (tmp_path / kept).is_file()
    assert not (tmp_path / gone).is_file()


@pytest.mark.parametrize("other", [{"shape_yx": (4, 10)}, {"dtype": "uint8"}])
def test_an_image_of_another_shape_or_type_starts_empty(tmp_path, other):
    ensure_image(tmp_path, spec())
    PlaneWriter(tmp_path, "0/0").write((0, 0), np.ones((8, 10), np.uint16))
    ensure_image(tmp_path, spec(**other))
    array = zarr.open_array(tmp_path / "0/0", mode="r")
    assert array.shape == spec(**other).shape_tcyx
    assert array.dtype == spec(**other).dtype
    assert not array[:].any()


def test_an_image_that_is_no_longer_wide_loses_its_second_level(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "WIDE_PX", 8)
    ensure_image(tmp_path, spec())
    PlaneWriter(tmp_path, "0/1").write((0, 0), np.ones((4, 5), np.uint16))
    small = spec(shape_yx=(8, 8))
    ensure_image(tmp_path, small)
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["0", "zarr.json"]
    ensure_image(tmp_path / "other", small)
    assert (tmp_path / "0/zarr.json").read_text() == (tmp_path / "other/0/zarr.json").read_text()


def test_reference_planes_are_made_once(tmp_path):
    for _ in range(2):
        ensure_planes(tmp_path, "0/reference", (2, 8, 10), dtype="uint16")
        if not (tmp_path / "0/reference/c").exists():
            PlaneWriter(tmp_path, "0/reference").write((1,), np.full((8, 10), 3, np.uint16))
    np.testing.assert_array_equal(read_plane(tmp_path, "0/reference", (1,)), np.full((8, 10), 3))


@pytest.mark.parametrize("shape", [(8, 10), (7, 9), (2, 3)])
def test_a_halved_plane_is_the_rounded_mean_of_four(shape):
    plane = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
    plane[:2, :2] = 65535
    expected = [
        [
            int(np.floor(plane[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float).mean() + 0.5))
            for x in range(shape[1] // 2)
        ]
        for y in range(shape[0] // 2)
    ]
    found = halved(plane)
    assert found.dtype == plane.dtype
    np.testing.assert_array_equal(found, np.array(expected).reshape(found.shape))


def test_a_flipped_bit_is_caught_by_the_checksum(tmp_path):
    ensure_image(tmp_path, spec())
    chunk, digest, _ = PlaneWriter(tmp_path, "0/0").write((0, 0), np.full((8, 10), 9, np.uint16))
    file: Path = tmp_path / chunk
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="damaged") as caught:
        read_plane(tmp_path, "0/0", (0, 0))
    assert chunk in str(caught.value)
    assert damaged_chunks(tmp_path, {chunk: digest}) == [chunk]
    file.unlink()
    assert damaged_chunks(tmp_path, {chunk: digest}) == [chunk]
