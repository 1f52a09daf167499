"""OME-Zarr 0.5 and 0.4 as other programs write them."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from phagostat import sources
from phagostat.model.acquisition import TimesOrigin
from phagostat.model.errors import PlaneError, SourceError
from phagostat.sources.ome_zarr import OmeZarrSource

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of its own deprecations as it is imported
    import ome_zarr.writer
    from ome_zarr.format import FormatV04, FormatV05

AXES = [
    {"name": "t", "type": "time", "unit": "second"},
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def pixels(shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(1, np.iinfo(dtype).max, shape).astype(dtype)


def write_with_ome_zarr_py(root: Path, movie: np.ndarray, version, *, chunks=None) -> None:
    """An image as ome-zarr-py writes it, with scales and channel names."""
    group = zarr.open_group(str(root), mode="w", zarr_format=version.zarr_format)
    axes = [axis for axis in AXES if movie.ndim == 5 or axis["name"] != "z"]
    scale = [{"t": 120.0, "c": 1.0, "z": 0.5, "y": 0.206, "x": 0.206}[axis["name"]] for axis in axes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its arguments change from version to version
        ome_zarr.writer.write_multiscale(
            [movie],
            group,
            fmt=version,
            axes=axes,
            coordinate_transformations=[[{"type": "scale", "scale": scale}]],
            storage_options={"chunks": chunks or (1, 1, *movie.shape[2:])},
            metadata={"omero": {"channels": [{"label": "pHrodo", "active": True}, {"label": "Phase", "active": True}]}},
        )


@pytest.mark.parametrize("version", [FormatV04(), FormatV05()], ids=["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("depth", [None, 3])
def test_what_ome_zarr_py_writes(tmp_path, version, dtype, depth):
    movie = pixels((4, 2, 12, 10) if depth is None else (4, 2, depth, 12, 10), dtype)
    root = tmp_path / "movie.zarr"
    write_with_ome_zarr_py(root, movie, version)
    assert (root / "zarr.json").is_file() is (version.zarr_format == 3)
    source = sources.open_source(root)
    assert isinstance(source, OmeZarrSource)
    metadata = source.metadata
    assert [(s.n_frames, s.shape_yx, s.dtype) for s in metadata.scenes] == [(4, (12, 10), dtype)]
    assert metadata.pixel_size_um == 0.206
    assert metadata.times_origin is TimesOrigin.INTERVAL
    assert metadata.scenes[0].times_s == (0.0, 120.0, 240.0, 360.0)
    assert source.poll().complete == {(0, 0): (0, 1, 2, 3), (0, 1): (0, 1, 2, 3)}
    expected = movie if depth is None else movie.max(axis=2)
    for frame in range(4):
        for channel in range(2):
            np.testing.assert_array_equal(source.read(0, frame, channel), expected[frame, channel])
    assert pickle.loads(pickle.dumps(source)).metadata == metadata


@pytest.mark.parametrize("version", [FormatV04(), FormatV05()], ids=["0.4", "0.5"])
def test_chunks_of_zeros_that_were_left_out_are_zeros_and_frames_without_any_are_missing(tmp_path, version):
    movie = pixels((3, 2, 16, 16), "uint8")
    movie[1, 0, :8] = 0  # dark above: those chunks are not written
    movie[2, 1] = 0  # nothing written at all
    root = tmp_path / "movie.zarr"
    write_with_ome_zarr_py(root, movie, version, chunks=(1, 1, 8, 8))
    source = OmeZarrSource(root)
    assert source.poll().complete == {(0, 0): (0, 1, 2), (0, 1): (0, 1)}
    np.testing.assert_array_equal(source.read(0, 1, 0), movie[1, 0])
    np.testing.assert_array_equal(source.read(0, 2, 0), movie[2, 0])
    with pytest.raises(PlaneError, match="not written"):
        source.read(0, 2, 1)


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_version_04_written_by_hand(tmp_path, separator, byteorder):
    """Uncompressed chunks written by offset, as the specification says, without a Zarr library."""
    movie = pixels((2, 2, 6, 8))
    root = tmp_path / "m.zarr"
    (root / "0").mkdir(parents=True)
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    multiscale = {
        "version": "0.4",
        "axes": [axis for axis in AXES if axis["name"] != "z"],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [60, 1, 0.1, 0.1]}]}],
    }
    (root / ".zattrs").write_text(json.dumps({"multiscales": [multiscale]}))
    array = {
        "zarr_format": 2,
        "shape": list(movie.shape),
        "chunks": [1, 1, 6, 8],
        "dtype": f"{byteorder}u2",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": separator,
    }
    (root / "0" / ".zarray").write_text(json.dumps(array))
    for frame, channel in np.ndindex(2, 2):
        if (frame, channel) != (1, 0):
            chunk = root / "0" / separator.join(map(str, (frame, channel, 0, 0)))
            chunk.parent.mkdir(parents=True, exist_ok=True)
            chunk.write_bytes(movie[frame, channel].astype(f"{byteorder}u2").tobytes())
    source = sources.open_source(root)
    assert source.metadata.scenes[0].times_s == (0.0, 60.0)
    assert source.poll().complete == {(0, 0): (0,), (0, 1): (0, 1)}
    for frame, channel in ((0, 0), (0, 1), (1, 1)):
        plane = source.read(0, frame, channel)
        assert plane.dtype == np.uint16
        assert plane.dtype.isnative
        np.testing.assert_array_equal(plane, movie[frame, channel])


def test_group_of_version_04_images(tmp_path):
    films = [pixels((2, 2, 6, 8)), pixels((3, 2, 4, 4), seed=1)]
    root = tmp_path / "m.zarr"
    zarr.open_group(str(root), mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    for k, film in enumerate(films):
        write_with_ome_zarr_py(root / str(k), film, FormatV04())
    source = sources.open_source(root)
    assert [(s.n_frames, s.shape_yx) for s in source.metadata.scenes] == [(2, (6, 8)), (3, (4, 4))]
    np.testing.assert_array_equal(source.read(1, 2, 1), films[1][2, 1])


def test_plates_are_refused_with_the_remedy(tmp_path):
    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="w", zarr_format=2)
    group.attrs["plate"] = {"rows": [], "columns": [], "wells": [], "version": "0.4"}
    with pytest.raises(SourceError, match=r"a plate or well.*give one well's field"):
        _ = sources.open_source(tmp_path / "p.zarr").metadata


@pytest.mark.parametrize("text", ["", "[]", '{"multiscales": 3}', '{"multiscales": [{"axes": []}]}'])
def test_attributes_that_do_not_parse(tmp_path, text):
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / ".zattrs").write_text(text)
    with pytest.raises(SourceError):
        _ = sources.open_source(tmp_path).metadata
