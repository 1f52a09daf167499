"""Every kind of source under the same commands: described, converted plane by plane, and refused in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from pylibCZIrw import czi as pyczi

import phagostat
from phagostat import sources
from phagostat.sources import KINDS
from tests.cli.command import Call, caller

N_FRAMES, YX = 5, (40, 36)
Maker = Callable[[Path, np.ndarray], Path]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return caller(capfd)


@pytest.fixture(scope="module")
def movie() -> np.ndarray:
    """(t, c, y, x) of 8 bits, so that each kind can hold it."""
    return np.random.default_rng(4).integers(1, 255, (N_FRAMES, 2, *YX)).astype("uint8")


def czi(folder: Path, movie: np.ndarray) -> Path:
    with warnings.catch_warnings(), pyczi.create_czi(str(folder / "m.czi")) as document:
        warnings.simplefilter("ignore")
        for t, c in np.ndindex(movie.shape[:2]):
            document.write(data=movie[t, c, ..., np.newaxis], plane={"T": t, "C": c, "Z": 0}, scene=0)
    return folder / "m.czi"


def imagej(folder: Path, movie: np.ndarray) -> Path:
    tifffile.imwrite(folder / "m.tif", movie, imagej=True, metadata={"axes": "TCYX"})
    return folder / "m.tif"


def ome_tiff(folder: Path, movie: np.ndarray) -> Path:
    tifffile.imwrite(folder / "m.ome.tif", movie, metadata={"axes": "TCYX"}, compression="lzw")
    return folder / "m.ome.tif"


def released(folder: Path, movie: np.ndarray) -> Path:
    for c, channel in enumerate(("normalized_aggregate", "normalized_cell")):
        place = folder / "WT-1" / "scene_0" / channel
        place.mkdir(parents=True)
        for t, plane in enumerate(movie[:, c]):
            Image.fromarray(plane).save(place / f"{t}.png")
    return folder / "WT-1"


def sequence(folder: Path, movie: np.ndarray) -> Path:
    (folder / "m").mkdir()
    for t, c in np.ndindex(movie.shape[:2]):
        tifffile.imwrite(folder / "m" / f"a_t{t + 1:03d}_c{c}.tif", movie[t, c])
    return folder / "m"


def ome_zarr_04(folder: Path, movie: np.ndarray) -> Path:
    multiscale = {
        "axes": [{"name": "t"}, {"name": "c"}, {"name": "y"}, {"name": "x"}],
        "datasets": [{"path": "0", "coordinateTransformations": []}],
    }
    group = zarr.create_group(str(folder / "m.zarr"), zarr_format=2, attributes={"multiscales": [multiscale]})
    group.create_array("0", shape=movie.shape, dtype=movie.dtype, chunks=(1, 1, *YX))[:] = movie
    return folder / "m.zarr"


MAKERS: dict[str, Maker] = {make.__name__: make for make in (czi, imagej, ome_tiff, released, sequence, ome_zarr_04)}


@pytest.fixture(params=list(MAKERS))
def made(request, tmp_path, movie) -> Path:
    (tmp_path / "in").mkdir()
    return MAKERS[request.param](tmp_path / "in", movie)


def test_converted_planes_are_the_source_s(call, made, movie, tmp_path):
    done = call("convert", made, "-o", tmp_path / "out.zarr")
    assert done.code == 0, done.err
    source, copy = sources.open_source(made), sources.open_source(tmp_path / "out.zarr")
    assert copy.poll().complete == source.poll().complete
    assert [(s.n_frames, s.shape_yx, s.dtype) for s in copy.metadata.scenes] == [(N_FRAMES, YX, "uint8")]
    assert [(c.name, c.fluorescent) for c in copy.metadata.channels] == [
        (c.name, c.fluorescent) for c in source.metadata.channels
    ]
    assert copy.metadata.pixel_size_um == source.metadata.pixel_size_um
    for t, c in np.ndindex(movie.shape[:2]):
        np.testing.assert_array_equal(copy.read(0, t, c), source.read(0, t, c))
        np.testing.assert_array_equal(copy.read(0, t, c), movie[t, c])


def test_described_as_text_and_as_json(call, made):
    told = call("info", made)
    assert told.code == 0, told.err
    assert f"{N_FRAMES} frames of 40 x 36 uint8" in told.out
    document = json.loads(call("info", made, "--json").out)
    assert document["scenes"][0]["frames"] == N_FRAMES
    assert document["scenes"][0]["missing_planes"] == 0
    assert len(document["channels"]) == 2


def test_lazy_arrays_give_the_movie(made, movie):
    array = phagostat.open_source(made)[0]
    assert array.chunks == ((1,) * N_FRAMES, (1, 1), (YX[0],), (YX[1],))
    np.testing.assert_array_equal(array.compute(scheduler="threads"), movie)


def test_every_reader_takes_the_z_that_the_command_passes(made):
    assert sources.open_source(made, z="max").metadata.scenes[0].n_frames == N_FRAMES
    assert sources.open_source(made, z=0).read(0, 0, 0).shape == YX


def test_gaps_and_odd_frames_reach_the_converted_store(call, tmp_path, movie):
    root = released(tmp_path, movie)
    (root / "scene_0" / "normalized_cell" / "2.png").unlink()
    Image.fromarray(movie[3, 0, :10]).save(root / "scene_0" / "normalized_aggregate" / "3.png")
    done = call("convert", root, "-o", tmp_path / "out.zarr")
    assert done.code == 0, done.err
    copy = sources.open_source(tmp_path / "out.zarr")
    assert copy.poll().complete == {(0, 0): (0, 1, 2, 4), (0, 1): (0, 1, 3, 4)}
    np.testing.assert_array_equal(copy.read(0, 2, 0), movie[2, 0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: tifffile.imwrite(folder / "m.tif", np.zeros((4, 2, 8, 6), "uint8")), ["time cannot be told"]),
        (
            lambda folder: tifffile.imwrite(folder / "m.tif", np.zeros((4, 8, 6, 3), "uint8"), photometric="rgb"),
            ["in colours", "RGB"],
        ),
        (
            lambda folder: tifffile.imwrite(folder / "m.tif", np.zeros((4, 8, 6), "float32"), photometric="minisblack"),
            ["float32"],
        ),
        (lambda folder: (folder / "m.tif").write_bytes(b"II*\0"), ["m.tif"]),
        (lambda folder: (folder / "m.tif").mkdir(), ["m.tif"]),
    ],
)
@pytest.mark.parametrize("command", ["info", "convert"])
def test_refusals_are_one_sentence(call, tmp_path, make, words, command):
    make(tmp_path)
    output = ["-o", tmp_path / "out.zarr"] if command == "convert" else []
    call(command, tmp_path / "m.tif", *output).sentence(2, "m.tif", *words)
    assert not (tmp_path / "out.zarr").exists()


def test_a_library_s_remarks_stay_off_the_terminal(tmp_path):
    """A tag that does not parse is remarked on; in a process of its own, where nothing handles logging."""
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((3, 8, 6), "uint16"), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "m.tif") as tiff:
        at = tiff.pages[0].tags["Software"].offset
    raw = bytearray((tmp_path / "m.tif").read_bytes())
    raw[at + 2 : at + 4] = b"\xff\x7f"  # a type of value that there is not
    (tmp_path / "m.tif").write_bytes(raw)
    code = "import sys, phagostat; print(phagostat.open_source(sys.argv[1]).read(0, 1, 0).max())"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.tif")], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "0", "")


def test_kinds_have_readers_that_say_their_options():
    assert [kind.name for kind in KINDS] == ["CZI file", "OME-Zarr folder", "TIFF file", "folder of frames"]


@pytest.mark.real
def test_real_phase_contrast_movie_converted(call, shared_data, tmp_path):
    done = call("convert", shared_data / "t98g", "-o", tmp_path / "out.zarr")
    assert done.code == 0, done.err
    copy = sources.open_source(tmp_path / "out.zarr")
    for frame in range(8):
        np.testing.assert_array_equal(
            copy.read(0, frame, 0), tifffile.imread(shared_data / "t98g" / f"t{frame + 1:02d}.tif")
        )
