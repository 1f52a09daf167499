"""Files that are cut off, overwritten or made up: every source says so in a sentence, and nothing else happens."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from phagostat import sources
from phagostat.model.errors import MetadataError, PlaneError, SourceError

YX = (24, 20)
EXAMPLES = 40


def movie(n_channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 60000, (4, n_channels, *YX)).astype("uint16")


def imagej(folder: Path) -> Path:
    tifffile.imwrite(folder / "m.tif", movie(), imagej=True, metadata={"axes": "TCYX", "finterval": 2, "unit": "um"})
    return folder / "m.tif"


def ome(folder: Path) -> Path:
    tifffile.imwrite(folder / "m.ome.tif", movie(), metadata={"axes": "TCYX", "PhysicalSizeX": 0.2}, compression="zlib")
    return folder / "m.ome.tif"


def plain(folder: Path) -> Path:
    tifffile.imwrite(folder / "m.tif", movie(1)[:, 0], compression="lzw", tile=(16, 16), photometric="minisblack")
    return folder / "m.tif"


def big(folder: Path) -> Path:
    tifffile.imwrite(folder / "m.tif", movie(), bigtiff=True, metadata={"axes": "TCYX"}, byteorder=">")
    return folder / "m.tif"


TIFFS = {"imagej": imagej, "ome": ome, "plain": plain, "big": big}


def read_everything(path: Path) -> None:
    """Open and read as far as it goes; only errors that a user can understand may come out of it."""
    with contextlib.suppress(SourceError, MetadataError):
        source = sources.open_source(path)
        metadata = source.metadata
        complete = source.poll().complete
        assert len(complete) == len(metadata.scenes) * len(metadata.channels)
        for (scene, channel), frames in complete.items():
            known = metadata.scenes[scene]
            assert set(frames) <= set(range(known.n_frames))
            for frame in (*frames[:3], known.n_frames):
                with contextlib.suppress(PlaneError):
                    plane = source.read(scene, frame, channel)
                    assert (plane.shape, plane.dtype.name) == (known.shape_yx, known.dtype)


@st.composite
def damages(draw):
    """A change to a file's bytes: cut off, one piece overwritten, or bytes put in."""
    kind = draw(st.sampled_from(["cut", "overwrite", "insert", "delete"]))
    return kind, draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=24))


def damaged(raw: bytes, damage) -> bytes:
    kind, place, piece = damage
    at = int(place * len(raw))
    if kind == "cut":
        return raw[:at]
    if kind == "overwrite":
        return raw[:at] + piece + raw[at + len(piece) :]
    return raw[:at] + piece + raw[at:] if kind == "insert" else raw[:at] + raw[at + len(piece) :]


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    return {name: make(tmp_path_factory.mktemp(name)).read_bytes() for name, make in TIFFS.items()}


@pytest.mark.parametrize("name", list(TIFFS))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(damages(), min_size=1, max_size=3))
def test_damaged_tiff(originals, name, damage):
    raw = originals[name]
    for one in damage:
        raw = damaged(raw, one)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "m.tif").write_bytes(raw)
        read_everything(Path(folder) / "m.tif")


@pytest.mark.parametrize("name", list(TIFFS))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), value=st.integers(0, 255))
def test_tiff_with_one_byte_of_its_description_changed(originals, name, place, value):
    """The first page's tags stand in the first bytes, where one byte can mean billions of pixels or pages."""
    raw = bytearray(originals[name])
    raw[4 + int(place * min(600, len(raw) - 5))] = value
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "m.tif").write_bytes(raw)
        read_everything(Path(folder) / "m.tif")


@settings(max_examples=EXAMPLES, deadline=None)
@given(head=st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b""]), rest=st.binary(max_size=200))
def test_made_up_files(head, rest):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "m.tif").write_bytes(head + rest)
        read_everything(Path(folder) / "m.tif")


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=st.text(max_size=120), how=st.sampled_from(["ImageJ={}", '{{"shape": {}}}', "<OME>{}</OME>", "{}"]))
def test_made_up_descriptions(text, how):
    with tempfile.TemporaryDirectory() as folder:
        description = how.format(text).encode("utf-8", errors="ignore")
        tifffile.imwrite(
            Path(folder) / "m.tif", movie(1)[:, 0], description=description, metadata=None, photometric="minisblack"
        )
        read_everything(Path(folder) / "m.tif")


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    images=st.integers(0, 2**33),
    lengths=st.tuples(*[st.integers(0, 2**33)] * 3),
    interval=st.sampled_from(["2", "nan", "inf", "-1", "1e400", "x"]),
)
def test_made_up_imagej_axes(images, lengths, interval):
    """Numbers of planes that no file has must not become as many Python objects."""
    frames, slices, channels = lengths
    text = (
        f"ImageJ=1.53\nimages={images}\nframes={frames}\nslices={slices}\nchannels={channels}\nhyperstack=true\n"
        f"finterval={interval}\nunit=um\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        tifffile.imwrite(
            Path(folder) / "m.tif", movie(1)[:, 0], description=text, metadata=None, photometric="minisblack"
        )
        read_everything(Path(folder) / "m.tif")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for channel in ("normalized_aggregate", "normalized_cell"):
        (root / "scene_0" / channel).mkdir(parents=True)
        for frame in range(4):
            plane = (movie()[frame, 0] >> 8).astype("uint8")
            Image.fromarray(plane).save(root / "scene_0" / channel / f"{frame}.png")
    return root


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.sets(st.integers(0, 3)), damage=damages())
def test_damaged_pictures_fail_alone(pictures, frames, damage):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(pictures, Path(folder) / "acquisition"))
        cells = root / "scene_0" / "normalized_cell"
        for frame in frames:
            (cells / f"{frame}.png").write_bytes(damaged((cells / f"{frame}.png").read_bytes(), damage))
        read_everything(root)
        with contextlib.suppress(SourceError):
            source = sources.open_source(root)
            for frame, channel in np.ndindex(4, 2):
                if channel == 0 or frame not in frames:
                    # what is whole is as it was, unless damage made most of the cells' frames something else
                    with contextlib.suppress(PlaneError):
                        np.testing.assert_array_equal(source.read(0, frame, channel), movie()[frame, 0] >> 8)


@pytest.fixture(scope="module", params=[2, 3])
def zarr_folder(request, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("zarr") / "m.zarr"
    multiscale = {
        "axes": [{"name": "t", "unit": "second"}, {"name": "c"}, {"name": "y"}, {"name": "x"}],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [60, 1, 0.1, 0.1]}]}],
    }
    ome = {"multiscales": [multiscale]}
    group = zarr.create_group(
        store=str(root), zarr_format=request.param, attributes=ome if request.param == 2 else {"ome": ome}
    )
    array = group.create_array("0", shape=movie().shape, dtype="uint16", chunks=(1, 1, *YX))
    array[:] = movie()
    return root


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 20), damage=damages())
def test_damaged_zarr(zarr_folder, which, damage):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(zarr_folder, Path(folder) / "m.zarr"))
        files = sorted(file for file in root.rglob("*") if file.is_file())
        described = [file for file in files if file.name.startswith(".z") or file.name == "zarr.json"]
        # descriptions half of the time: there are few of them
        chosen = described[which % len(described)] if which % 2 else files[which % len(files)]
        chosen.write_bytes(damaged(chosen.read_bytes(), damage))
        read_everything(root)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=4) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def keys_of(node: object, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path for key, value in pairs for path in ((*above, key), *keys_of(value, (*above, key)))]


@settings(max_examples=2 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_zarr_descriptions_with_one_value_changed(zarr_folder, data):
    described = sorted(f for f in zarr_folder.rglob("*") if f.name in (".zattrs", ".zarray", "zarr.json"))
    file = data.draw(st.sampled_from([f.relative_to(zarr_folder) for f in described]))
    node = json.loads((zarr_folder / file).read_text())
    keys = keys_of(node)
    if not keys:
        return
    *above, last = data.draw(st.sampled_from(keys))
    inner = node
    for key in above:
        inner = inner[key]
    inner[last] = data.draw(JSON)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(zarr_folder, Path(folder) / "m.zarr"))
        (root / file).write_text(json.dumps(node))
        read_everything(root)
