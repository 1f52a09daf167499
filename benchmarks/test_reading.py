"""Reading one plane, warm: of a CZI, a long TIFF stack and a folder of frames, each beside what is usual."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from aicspylibczi import CziFile
from pylibCZIrw import czi as pyczi

from phagostat.sources.czi import CziSource
from phagostat.sources.frame_folder import FrameFolderSource
from phagostat.sources.tiff import TiffSource

pytestmark = pytest.mark.filterwarnings("ignore")  # the library leaves its file to the garbage collector
FRAMES = 20
LONG = 2000


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


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Path:
    """A long stack whose pages stand one behind the other: 2,000 of 256 x 256 uint16."""
    path = tmp_path_factory.mktemp("tiff") / "movie.tif"
    plane = np.random.default_rng(0).integers(0, 4096, (256, 256)).astype(np.uint16)
    with tifffile.TiffWriter(path) as writer:
        for _ in range(LONG):
            writer.write(plane, metadata=None, contiguous=False)
    return path


@pytest.mark.benchmark(group="read a late page of a stack of 2,000")
def test_tifffile_imread(benchmark, stack):
    benchmark(lambda: tifffile.imread(stack, key=LONG - 5))


@pytest.mark.benchmark(group="read a late page of a stack of 2,000")
def test_tiff_source(benchmark, stack):
    source = TiffSource(stack)
    plane = benchmark(lambda: source.read(0, LONG - 5, 0))
    np.testing.assert_array_equal(plane, tifffile.imread(stack, key=LONG - 5))


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """One scene of the released layout, 1024 x 1024 uint8."""
    root = tmp_path_factory.mktemp("frames")
    plane = np.random.default_rng(0).integers(0, 255, (1024, 1024)).astype(np.uint8)
    for channel in ("normalized_aggregate", "normalized_cell"):
        (root / "scene_0" / channel).mkdir(parents=True)
        for frame in range(FRAMES):
            cv2.imwrite(str(root / "scene_0" / channel / f"{frame}.png"), plane)
    return root


@pytest.mark.benchmark(group="read a PNG frame, 1024 x 1024 uint8")
def test_opencv_imread(benchmark, frames):
    file = str(frames / "scene_0" / "normalized_cell" / "7.png")
    benchmark(lambda: cv2.imread(file, cv2.IMREAD_UNCHANGED))


@pytest.mark.benchmark(group="read a PNG frame, 1024 x 1024 uint8")
def test_frame_folder_source(benchmark, frames):
    source = FrameFolderSource(frames)
    benchmark(lambda: source.read(0, 7, 1))
