from __future__ import annotations

import numpy as np
import pytest
import zarr

from phagostat.model.errors import StoreError
from phagostat.store.arrays import ImageSpec, PlaneReader, PlaneWriter, ensure_image
from phagostat.store.chunks import ChunkCodec


def make(root, dtype, kind="intensity", shape=(3, 2, 65, 131)):
    ensure_image(root, ImageSpec("0", shape, dtype, 0.2, 120.0, ("a", "c")[: shape[1]], kind=kind))
    return zarr.open_array(root / "0/0", mode="r+")


@pytest.mark.parametrize("kind", ["intensity", "probability", "labels"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("content", ["noise", "zeros", "ramp"])
def test_a_chunk_has_the_bytes_that_zarr_writes(tmp_path, dtype, kind, content):
    array = make(tmp_path, dtype, kind)
    plane = {
        "noise": np.random.default_rng(0).integers(0, 255, (65, 131)),
        "zeros": np.zeros((65, 131)),
        "ramp": np.arange(65 * 131).reshape(65, 131) // 40,
    }[content].astype(dtype)
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(tmp_path / "0/0", mode="r+")[1, 0] = plane
    by_zarr = (tmp_path / "0/0/c/1/0/0/0").read_bytes()
    PlaneWriter(tmp_path, "0/0").write((1, 1), plane)
    assert (tmp_path / "0/0/c/1/1/0/0").read_bytes() == by_zarr
    np.testing.assert_array_equal(array[1, 1], plane)
    np.testing.assert_array_equal(PlaneReader(tmp_path, "0/0").read((1, 0)), plane)


def test_a_plane_that_is_not_contiguous_is_written_as_it_looks(tmp_path):
    array = make(tmp_path, "uint16", shape=(1, 1, 131, 65))
    plane = np.arange(65 * 131, dtype=np.uint16).reshape(65, 131).T
    PlaneWriter(tmp_path, "0/0").write((0, 0), plane)
    np.testing.assert_array_equal(array[0, 0], plane)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_any_flipped_byte_is_seen(tmp_path, dtype):
    make(tmp_path, dtype, shape=(1, 1, 20, 20))
    plane = np.random.default_rng(1).integers(0, 255, (20, 20)).astype(dtype)
    PlaneWriter(tmp_path, "0/0").write((0, 0), plane)
    path = tmp_path / "0/0/c/0/0/0/0"
    whole = path.read_bytes()
    reader = PlaneReader(tmp_path, "0/0")
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        with pytest.raises(StoreError, match="damaged"):
            reader.read((0, 0))
    path.write_bytes(whole[:-3])
    with pytest.raises(StoreError, match="damaged"):
        reader.read((0, 0))


def test_an_array_of_another_writer_is_refused(tmp_path):
    array = zarr.create_array(tmp_path / "a", shape=(2, 4, 4), chunks=(2, 4, 4), dtype="u1")
    with pytest.raises(StoreError, match="not written by phagostat"):
        ChunkCodec(array)
