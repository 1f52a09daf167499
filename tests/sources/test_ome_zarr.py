"""The OME-Zarr source on our own layout and on others'."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from phagostat import sources
from phagostat.model.acquisition import TimesOrigin
from phagostat.model.errors import MetadataError, PlaneError, SourceError
from phagostat.sources.ome_zarr import OmeZarrSource

UNITS = {"t": "second", "y": "micrometer", "x": "micrometer", "z": "micrometer"}


def pixels(shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def write_image(
    group: Path,
    data: np.ndarray,
    *,
    axes: str = "tcyx",
    scale=(120.0, 1.0, 0.103, 0.103),
    units=UNITS,
    labels=("AF568", "PhC"),
    own=None,
    missing=(),
    chunks=None,
    shards=None,
) -> None:
    kinds = {"t": "time", "c": "channel"}
    listed = [{"name": a, "type": kinds.get(a, "space")} | ({"unit": units[a]} if a in units else {}) for a in axes]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
    ome = {"version": "0.5", "multiscales": [{"axes": listed, "datasets": [dataset]}]}
    if labels:
        ome["omero"] = {"channels": [{"label": label} for label in labels]}
    zarr.create_group(store=str(group), zarr_format=3, attributes={"ome": ome} | ({"phagostat": own} if own else {}))
    array = zarr.create_array(
        store=str(group / "0"),
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks or (1,) * (data.ndim - 2) + data.shape[-2:],
        shards=shards,
        config={"write_empty_chunks": True},
    )
    for index in np.ndindex(data.shape[:-2]):
        if index not in missing:
            array[index] = data[index]


@pytest.fixture
def converted(tmp_path):
    """What ``phagostat convert`` writes: two scenes of unequal shape, plane (1, 0) of the second missing."""
    root = tmp_path / "out.zarr"
    ome = {"version": "0.5", "bioformats2raw.layout": 3}
    zarr.create_group(store=str(root), zarr_format=3, attributes={"ome": ome, "phagostat": {}})
    films = [pixels((3, 2, 6, 8)), pixels((2, 2, 5, 4), seed=1)]
    films[0][1] = 0
    for k, film in enumerate(films):
        own = {
            "scene_name": f"A{k + 1}",
            "times_s": [0.0, None, 241.5][: len(film)] if k == 0 else [0.0, 119.0],
            "times_origin": "per-subblock time stamps",
            "channels": [{"name": "AF568", "fluorescent": True}, {"name": "PhC", "fluorescent": False}],
        }
        write_image(root / str(k), film, own=own, missing=[(1, 0)] if k else ())
    return root, films


def test_what_convert_writes(converted):
    root, films = converted
    source = sources.open_source(root)
    assert isinstance(source, OmeZarrSource)
    metadata = source.metadata
    assert [(s.name, s.n_frames, s.shape_yx, s.dtype) for s in metadata.scenes] == [
        ("A1", 3, (6, 8), "uint16"),
        ("A2", 2, (5, 4), "uint16"),
    ]
    assert metadata.pixel_size_um == 0.103
    assert metadata.times_origin is TimesOrigin.SUBBLOCK
    assert metadata.scenes[0].times_s[2] == 241.5
    assert np.isnan(metadata.scenes[0].times_s[1])
    assert [(c.name, c.fluorescent) for c in metadata.channels] == [("AF568", True), ("PhC", False)]
    # scene 0 has a frame of zeros, which is written all the same and so is there
    assert source.poll().complete == {(0, 0): (0, 1, 2), (0, 1): (0, 1, 2), (1, 0): (0,), (1, 1): (0, 1)}
    for (scene, channel), frames in source.poll().complete.items():
        for frame in frames:
            np.testing.assert_array_equal(source.read(scene, frame, channel), films[scene][frame, channel])
    with pytest.raises(PlaneError, match="scene 1 frame 1 channel 0: the plane was not written"):
        source.read(1, 1, 0)


def test_times_that_are_none_are_not_taken(converted):
    root, _ = converted
    for junk in (["x", "y"], [0.0, float("nan")], [0.0, True], [[], {}]):
        document = json.loads((root / "1/zarr.json").read_text())
        document["attributes"]["phagostat"]["times_s"] = junk
        (root / "1/zarr.json").write_text(json.dumps(document))
        metadata = OmeZarrSource(root).metadata
        assert metadata.times_origin is TimesOrigin.INTERVAL
        assert metadata.scenes[1].times_s == (0.0, 120.0)


def test_pickles_by_path_and_has_the_identity_of_its_content(converted, tmp_path):
    root, _ = converted
    source = OmeZarrSource(root)
    assert pickle.loads(pickle.dumps(source)).metadata == source.metadata
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    assert OmeZarrSource(copy).metadata.identity == source.metadata.identity
    write_image(tmp_path / "other", pixels((3, 2, 6, 8), seed=5))
    assert OmeZarrSource(tmp_path / "other").metadata.identity != source.metadata.identity


@pytest.mark.parametrize("separator_chunks", [None, (1, 1, 2, 3, 4), (2, 1, 1, 6, 8)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_foreign_image_with_z_stack_and_other_chunks(tmp_path, separator_chunks, dtype):
    film = pixels((3, 2, 4, 6, 8), dtype)
    scale = (2.0, 1.0, 0.5, 103.0, 103.0)
    units = {"t": "minute", "y": "nanometer", "x": "nanometer"}
    write_image(tmp_path / "i", film, axes="tczyx", scale=scale, units=units, chunks=separator_chunks)
    source = OmeZarrSource(tmp_path / "i")
    assert source.metadata.pixel_size_um == pytest.approx(0.103)
    assert source.metadata.times_origin is TimesOrigin.INTERVAL
    assert source.metadata.scenes[0].times_s == (0, 120, 240)
    assert [c.fluorescent for c in source.metadata.channels] == [True, False]
    assert source.poll().complete == {(0, c): (0, 1, 2) for c in range(2)}
    np.testing.assert_array_equal(source.read(0, 1, 1), film[1, 1].max(axis=0))
    np.testing.assert_array_equal(OmeZarrSource(tmp_path / "i", z=2).read(0, 1, 1), film[1, 1, 2])
    with pytest.raises(PlaneError, match="no such Z plane"):
        OmeZarrSource(tmp_path / "i", z=4).read(0, 1, 1)


def test_shards_hold_whole_planes(tmp_path):
    film = pixels((4, 2, 6, 8))
    write_image(tmp_path / "i", film, shards=(4, 2, 6, 8))
    source = OmeZarrSource(tmp_path / "i")
    assert source.poll().complete == {(0, 0): (0, 1, 2, 3), (0, 1): (0, 1, 2, 3)}
    np.testing.assert_array_equal(source.read(0, 3, 1), film[3, 1])


def test_image_without_units_channels_or_times_says_so(tmp_path):
    write_image(tmp_path / "i", pixels((2, 2, 6, 8)), units={}, labels=())
    metadata = OmeZarrSource(tmp_path / "i").metadata
    assert metadata.pixel_size_um is None
    assert metadata.times_origin is TimesOrigin.NONE
    assert metadata.scenes[0].times_s is None
    assert [(c.name, c.fluorescent) for c in metadata.channels] == [("channel 0", None), ("channel 1", None)]


def test_pixels_that_are_not_square_are_refused(tmp_path):
    write_image(tmp_path / "i", pixels((2, 2, 6, 8)), scale=(1, 1, 0.1, 0.2))
    with pytest.raises(MetadataError, match="not square"):
        _ = OmeZarrSource(tmp_path / "i").metadata


def test_damaged_chunk_fails_its_plane_only(converted):
    root, films = converted
    (root / "0/0/c/1/0/0/0").write_bytes(b"not a chunk")
    source = OmeZarrSource(root)
    with pytest.raises(PlaneError, match="scene 0 frame 1 channel 0"):
        source.read(0, 1, 0)
    np.testing.assert_array_equal(source.read(0, 2, 0), films[0][2, 0])


def damage(file: Path, change) -> None:
    node = json.loads(file.read_text())
    change(node)
    file.write_text(json.dumps(node))


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("zarr.json", lambda node: node["attributes"].clear()),
        ("zarr.json", lambda node: node["attributes"]["ome"]["multiscales"].clear()),
        ("zarr.json", lambda node: node["attributes"]["ome"]["multiscales"][0]["datasets"].clear()),
        ("zarr.json", lambda node: node["attributes"]["ome"]["multiscales"][0]["axes"].pop()),
        ("zarr.json", lambda node: node["attributes"].update(ome=[])),
        ("0/zarr.json", lambda node: node.update(data_type="float32")),
        ("0/zarr.json", lambda node: node.pop("shape")),
        ("0/zarr.json", lambda node: node.pop("chunk_grid")),
        ("0/zarr.json", lambda node: node.update(shape="large")),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(tmp_path, where, change):
    write_image(tmp_path / "i", pixels((2, 2, 6, 8)))
    damage(tmp_path / "i" / where, change)
    with pytest.raises(SourceError):
        _ = OmeZarrSource(tmp_path / "i").metadata


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attributes": 3}'])
def test_zarr_json_that_is_none(tmp_path, text):
    (tmp_path / "zarr.json").write_text(text)
    with pytest.raises(SourceError):
        _ = sources.open_source(tmp_path).metadata
