"""Acquisitions as lazy arrays, and the choice of reader by content."""

from __future__ import annotations

import subprocess
import sys

import dask
import numpy as np
import pytest

import phagostat
from phagostat import sources
from phagostat.model.errors import PlaneError, SourceError
from phagostat.sources.czi import CziSource
from tests.sources.czi_bytes import Block, CziBytes, metadata_xml

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def film(tmp_path):
    """Scenes P1 (3 frames) and P2 (2 frames, one plane missing), under a name that says nothing."""
    blocks = [
        Block(np.full((6 + s, 8), 100 * s + 10 * t + c, np.uint16), {"S": s, "T": t, "C": c})
        for s, n in enumerate((3, 2))
        for t in range(n)
        for c in range(2)
        if (s, t, c) != (1, 1, 0)
    ]
    xml = metadata_xml(scenes='<Scene Index="0" Name="P1"/><Scene Index="1" Name="P2"/>')
    return CziBytes(blocks, xml).write(tmp_path / "acquisition.bin")


def test_scenes_are_lazy_arrays_of_one_chunk_a_plane(film):
    movie = phagostat.open_source(film)
    assert [scene.name for scene in movie.scenes] == ["P1", "P2"]
    assert len(movie) == 2
    array = movie["P1"]
    assert array.shape == (3, 2, 6, 8)
    assert array.dtype == np.uint16
    assert array.chunks == ((1, 1, 1), (1, 1), (6,), (8,))
    with dask.config.set(scheduler="threads"):
        computed = array.compute()
    for t in range(3):
        for c in range(2):
            np.testing.assert_array_equal(computed[t, c], movie.read(0, t, c))
    np.testing.assert_array_equal(movie[-1][0].compute(), movie.array("P2")[0].compute())


def test_kernels_map_over_blocks(film):
    array = phagostat.open_source(film)[0]
    peaks = array.map_blocks(
        lambda block: block.max(axis=(2, 3), keepdims=True), chunks=(1, 1, 1, 1), dtype=array.dtype
    )
    assert peaks.compute().ravel().tolist() == [0, 1, 10, 11, 20, 21]


def test_only_the_planes_that_are_needed_are_read(film, monkeypatch):
    seen = []
    original = CziSource.read
    monkeypatch.setattr(CziSource, "read", lambda self, *key: seen.append(key) or original(self, *key))
    movie = phagostat.open_source(film)
    array = movie[0]
    assert seen == []
    array[2, 1].compute(scheduler="synchronous")
    assert seen == [(0, 2, 1)]


def test_a_missing_plane_fails_its_chunk_only(film):
    array = phagostat.open_source(film)["P2"]
    assert array[1, 1].compute().max() == 111
    with pytest.raises(PlaneError, match="scene 1 frame 1 channel 0"):
        array.compute(scheduler="synchronous")


def test_names_are_of_content_and_options(film, tmp_path):
    copy = tmp_path / "copy.czi"
    copy.write_bytes(film.read_bytes())
    names = [
        phagostat.open_source(path, **options)[0].name for path, options in [(film, {}), (copy, {}), (film, {"z": 0})]
    ]
    assert names[0] == names[1] != names[2]


def test_unknown_scene_shows_the_choices(film):
    movie = phagostat.open_source(film)
    for wrong in ("P3", 2, -3):
        with pytest.raises(SourceError, match=r"0 = P1, 1 = P2"):
            movie[wrong]


def test_the_reader_is_chosen_by_content(film):
    assert isinstance(sources.open_source(film), CziSource)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (PNG, "a single picture"),
        (b"just text", "just text"),
        (None, "a folder without zarr.json"),
    ],
)
def test_unknown_content_says_what_was_found_and_what_is_supported(tmp_path, content, message):
    path = tmp_path / "movie.czi"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        sources.open_source(path)
    remedy = "the folder of the frames" if content == PNG else "CZI file, OME-Zarr folder, TIFF file, folder of frames"
    assert remedy in str(caught.value)


def test_absent_path_and_unknown_option(film, tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        sources.open_source(tmp_path / "none.czi")
    with pytest.raises(SourceError, match=r"no option zoom \(found: .*options are z, reader\); leave out --zoom"):
        sources.open_source(film, zoom=2)


def test_importing_phagostat_imports_no_library():
    code = "import sys, phagostat; print(sorted({'numpy', 'dask', 'zarr', 'aicspylibczi'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
