"""Reading one 2048 x 2048 uint16 plane of a CZI, warm: aicspylibczi (the published way), by offset, and the limit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from aicspylibczi import CziFile
from pylibCZIrw import czi as pyczi

from phagostat.sources.czi import CziSource

pytestmark = pytest.mark.filterwarnings("ignore")  # the library leaves its file to the garbage collector
FRAMES = 20


@pytest.fixture(scope="module")
def movie(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("czi") / "movie.czi"
    random = np.random.default_rng(0)
    with pyczi.create_czi(str(path)) as document:
        for t in range(FRAMES):
            for c in (0, 1):
                plane = random.integers(0, 4096, (2048, 2048, 1)).astype(np.uint16)
                document.write(data=plane, plane={"C": c, "T": t, "Z": 0}, scene=0, compression_options="uncompressed:")
    path.read_bytes()
    return path


@pytest.mark.benchmark(group="read a plane, 2048 x 2048 uint16")
def test_aicspylibczi(benchmark, movie):
    czi = CziFile(str(movie))
    benchmark(lambda: czi.read_image(T=3, C=1, S=0))


@pytest.mark.benchmark(group="read a plane, 2048 x 2048 uint16")
def test_by_offset(benchmark, movie):
    source = CziSource(movie)
    plane = benchmark(lambda: source.read(0, 3, 1))
    np.testing.assert_array_equal(plane, np.squeeze(CziFile(str(movie)).read_image(T=3, C=1, S=0)[0]))


@pytest.mark.benchmark(group="read a plane, 2048 x 2048 uint16")
def test_limit(benchmark, movie):
    """As many bytes from the page cache into a new buffer: the limit."""
    descriptor = os.open(movie, os.O_RDONLY)

    def read() -> None:
        buffer = np.empty(2048 * 2048, np.uint16)
        os.preadv(descriptor, [memoryview(buffer).cast("B")], 4096)

    benchmark(read)
    os.close(descriptor)
