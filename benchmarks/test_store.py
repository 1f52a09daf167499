"""Writing one chunk of a megabyte: zarr's way, ours (same bytes), and what no writer can avoid."""

from __future__ import annotations

from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

from phagostat.store.arrays import ImageSpec, PlaneReader, PlaneWriter, ensure_image

PLANE = np.random.default_rng(0).normal(110, 25, (1024, 1024)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    ensure_image(tmp_path, ImageSpec("0", (4, 2, 1024, 1024), "uint8", 0.206, 120.0, ("aggregates", "cells")))
    PlaneWriter(tmp_path, "0/0").write((0, 0), PLANE)
    return tmp_path


@pytest.mark.benchmark(group="write a chunk, 1024 x 1024 uint8, bit-shuffled lz4, crc32c")
def test_write_zarr(benchmark, root: Path):
    array = zarr.open_array(root / "0/0", mode="r+")
    benchmark(lambda: array.__setitem__((1, 0), PLANE))
    assert (root / "0/0/c/1/0/0/0").read_bytes() == (root / "0/0/c/0/0/0/0").read_bytes()


@pytest.mark.benchmark(group="write a chunk, 1024 x 1024 uint8, bit-shuffled lz4, crc32c")
def test_write_ours(benchmark, root: Path):
    writer = PlaneWriter(root, "0/0")
    benchmark(lambda: writer.write((2, 0), PLANE))


@pytest.mark.benchmark(group="write a chunk, 1024 x 1024 uint8, bit-shuffled lz4, crc32c")
def test_write_limit(benchmark, root: Path):
    """Compression and a plain file: the limit."""
    codec = numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    benchmark(lambda: (root / "file").write_bytes(codec.encode(PLANE)))


@pytest.mark.benchmark(group="read a chunk, 1024 x 1024 uint8, bit-shuffled lz4, crc32c")
def test_read_zarr(benchmark, root: Path):
    array = zarr.open_array(root / "0/0", mode="r")
    np.testing.assert_array_equal(benchmark(lambda: array[0, 0]), PLANE)


@pytest.mark.benchmark(group="read a chunk, 1024 x 1024 uint8, bit-shuffled lz4, crc32c")
def test_read_ours(benchmark, root: Path):
    reader = PlaneReader(root, "0/0")
    np.testing.assert_array_equal(benchmark(lambda: reader.read((0, 0))), PLANE)
