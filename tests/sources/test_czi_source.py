"""The CZI source on files made here: unequal scenes, missing planes, Z, mosaics, compression, bad input."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from phagostat.model.errors import PlaneError, SourceError
from phagostat.sources.czi import CziSource
from phagostat.sources.protocol import Source
from tests.sources.czi_bytes import Block, CziBytes, aicspylibczi_file, metadata_xml

COMPRESSIONS = [
    "uncompressed:",
    "zstd0:ExplicitLevel=1",
    "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack",
    "zstd1:ExplicitLevel=1",
]


def noise(seed: int, shape: tuple[int, int], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def write_by_library(path: Path, planes: dict[tuple[int, int, int, int], np.ndarray], compression: str) -> Path:
    """Write {(scene, t, c, z): pixels} by pylibCZIrw, scenes far apart."""
    from pylibCZIrw import czi

    with czi.create_czi(str(path), exist_ok=True, compression_options=compression) as writer:
        for (s, t, c, z), pixels in planes.items():
            writer.write(pixels[..., None], plane={"T": t, "C": c, "Z": z}, scene=s, location=(s * 1000, 0))
        writer.write_metadata(channel_names={0: "EGFP", 1: "PhC"}, scale_x=1.03e-7, scale_y=1.03e-7)
    return path


@pytest.fixture(scope="module")
def unequal() -> dict[tuple[int, int, int, int], np.ndarray]:
    """Two scenes of unequal shape and length; scene 0 lacks channel 1 of frame 1 and all of frame 2."""
    planes = {}
    for s, (n_frames, shape) in enumerate([(4, (40, 50)), (2, (61, 64))]):
        for t in range(n_frames):
            for c in range(2):
                if (s, t, c) not in ((0, 1, 1), (0, 2, 0), (0, 2, 1)):
                    planes[s, t, c, 0] = noise(100 * s + 10 * t + c, shape)
    return planes


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_scenes_of_unequal_shape_and_length(tmp_path, unequal, compression, dtype):
    if dtype == "uint8" and "HiLo" in compression:
        pytest.skip("8-bit pixels have one byte")
    planes = {key: pixels.astype(dtype) for key, pixels in unequal.items()}
    source = CziSource(write_by_library(tmp_path / "m.czi", planes, compression))
    assert isinstance(source, Source)
    assert [(s.n_frames, s.shape_yx, s.dtype) for s in source.metadata.scenes] == [
        (4, (40, 50), dtype),
        (2, (61, 64), dtype),
    ]
    assert source.poll().closed
    assert source.poll().complete == {(0, 0): (0, 1, 3), (0, 1): (0, 3), (1, 0): (0, 1), (1, 1): (0, 1)}
    for (s, t, c, _), pixels in planes.items():
        plane = source.read(s, t, c)
        assert plane.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(plane, pixels)


def test_pylibczirw_stands_in_where_aicspylibczi_would_overrun(tmp_path, unequal):
    path = write_by_library(tmp_path / "m.czi", unequal, COMPRESSIONS[2])
    source = CziSource(path, reader="library")
    for (s, t, c, _), pixels in unequal.items():
        np.testing.assert_array_equal(source.read(s, t, c), pixels)


@pytest.mark.parametrize(("s", "t", "c"), [(0, 1, 1), (0, 2, 0), (0, 9, 0), (5, 0, 0), (0, 0, 7), (0, -1, 0)])
def test_a_missing_plane_says_which(tmp_path, unequal, s, t, c):
    source = CziSource(write_by_library(tmp_path / "m.czi", unequal, COMPRESSIONS[0]))
    with pytest.raises(PlaneError, match=rf"m\.czi scene {s} frame {t} channel {c}"):
        source.read(s, t, c)


@pytest.mark.parametrize("compression", COMPRESSIONS[:3])
def test_z_stack_projected_or_chosen(tmp_path, compression):
    planes = {(0, t, c, z): noise(10 * t + 3 * z + c, (20, 30)) for t in range(2) for c in range(2) for z in range(3)}
    path = write_by_library(tmp_path / "z.czi", planes, compression)
    stack = np.stack([planes[0, 1, 0, z] for z in range(3)])
    np.testing.assert_array_equal(CziSource(path).read(0, 1, 0), stack.max(axis=0))
    for z in range(3):
        np.testing.assert_array_equal(CziSource(path, z=z).read(0, 1, 0), stack[z])
    with pytest.raises(SourceError, match="no such Z plane"):
        CziSource(path, z=3).poll()
    for bad in ("min", -1, True, 1.5):
        with pytest.raises(SourceError, match="Z plane"):
            CziSource(path, z=bad)


def test_a_stack_with_a_plane_missing_is_not_complete(tmp_path):
    planes = {(0, t, 0, z): noise(10 * t + z, (20, 30)) for t in range(2) for z in range(3) if (t, z) != (1, 2)}
    path = write_by_library(tmp_path / "z.czi", planes, COMPRESSIONS[0])
    assert CziSource(path).poll().complete[0, 0] == (0,)
    assert CziSource(path, z=0).poll().complete[0, 0] == (0, 1)
    assert CziSource(path, z=2).poll().complete[0, 0] == (0,)


def test_channels_with_and_without_stack(tmp_path):
    blocks = [Block(noise(z, (8, 9)), {"C": 0, "T": 0, "Z": z}) for z in range(3)]
    blocks.append(Block(noise(9, (8, 9)), {"C": 1, "T": 0, "Z": 1}))
    path = CziBytes(blocks).write(tmp_path / "m.czi")
    for z in ("max", 0, 2):
        np.testing.assert_array_equal(CziSource(path, z=z).read(0, 0, 1), blocks[3].pixels)


def mosaic(tmp_path: Path, *, drop: int | None = None) -> tuple[Path, np.ndarray]:
    """Two frames of four overlapping tiles with a gap; the tile ``drop`` is missing from frame 1."""
    corners = [(-5, -7), (-5, 3), (12, -7), (30, 40)]
    blocks, expected = [], np.zeros((51, 63), dtype=np.uint16)
    for t in range(2):
        for m, (y, x) in enumerate(corners):
            pixels = noise(10 * t + m, (16, 16))
            if t == 0:
                expected[y + 5 : y + 21, x + 7 : x + 23] = pixels
            if t == 0 or m != drop:
                blocks.append(Block(pixels, {"X": x, "Y": y, "C": 0, "T": t, "M": m, "S": 0}))
    return CziBytes(blocks[::-1], metadata_xml()).write(tmp_path / "tiles.czi"), expected[:51, :63]


def test_mosaic_tiles_become_one_plane_as_pylibczirw_does(tmp_path):
    from pylibCZIrw import czi

    path, expected = mosaic(tmp_path)
    source = CziSource(path)
    plane = source.read(0, 0, 0)
    assert plane.shape == source.metadata.scenes[0].shape_yx == (51, 63)
    np.testing.assert_array_equal(plane, expected)
    with czi.open_czi(str(path)) as document:
        np.testing.assert_array_equal(plane, document.read(plane={"T": 0, "C": 0, "Z": 0}, scene=0)[..., 0])


def test_an_image_that_was_written_anew_is_no_mosaic(tmp_path):
    blocks = [Block(noise(t, (8, 9)), {"T": t, "C": 0}) for t in range(4)]
    anew = Block(noise(77, (8, 9)), {"T": 1, "C": 0})
    source = CziSource(CziBytes([*blocks[:2], anew, *blocks[2:]]).write(tmp_path / "m.czi"))
    assert source.metadata.scenes[0].shape_yx == (8, 9)
    assert source.poll().complete == {(0, 0): (0, 1, 2, 3)}
    np.testing.assert_array_equal(source.read(0, 1, 0), anew.pixels)
    assert any("1 images were written anew" in note for note in source.metadata.notes)


def test_a_tile_that_was_written_anew_is_the_same_tile(tmp_path):
    tiles = [Block(noise(m, (8, 9)), {"T": t, "C": 0, "X": 9 * m, "M": m}) for t in range(2) for m in range(2)]
    anew = Block(noise(77, (8, 9)), {"T": 1, "C": 0, "X": 9, "M": 1})
    source = CziSource(CziBytes([*tiles, anew]).write(tmp_path / "m.czi"))
    assert source.poll().complete == {(0, 0): (0, 1)}
    np.testing.assert_array_equal(source.read(0, 1, 0), np.hstack([tiles[2].pixels, anew.pixels]))


def test_a_mosaic_with_a_tile_missing_is_not_complete(tmp_path):
    source = CziSource(mosaic(tmp_path, drop=3)[0])
    assert source.poll().complete == {(0, 0): (0,)}
    with pytest.raises(PlaneError):
        source.read(0, 1, 0)


def test_pyramids_are_ignored_and_frames_count_from_the_files_first(tmp_path):
    blocks = []
    for t in (5, 6, 8):
        blocks.append(Block(noise(t, (32, 32)), {"T": t, "C": 3}))
        blocks.append(Block(noise(t + 50, (16, 16)), {"T": t, "C": 3}, covers_yx=(32, 32)))
    source = CziSource(CziBytes(blocks, directory_first=True).write(tmp_path / "p.czi"))
    assert source.metadata.scenes[0].n_frames == 4
    assert source.poll().complete == {(0, 0): (0, 1, 3)}
    np.testing.assert_array_equal(source.read(0, 3, 0), blocks[4].pixels)


def test_8_and_16_bit_channels_keep_their_values(tmp_path):
    small, large = noise(1, (8, 9), "uint8"), noise(2, (8, 9))
    source = CziSource(CziBytes([Block(small, {"C": 0}), Block(large, {"C": 1})]).write(tmp_path / "m.czi"))
    assert source.metadata.scenes[0].dtype == "uint16"
    assert source.read(0, 0, 0).dtype == np.uint16
    np.testing.assert_array_equal(source.read(0, 0, 0), small)
    assert any("8 and 16 bit" in note for note in source.metadata.notes)


def test_an_image_of_another_size_counts_as_missing(tmp_path):
    blocks = [Block(noise(t, (8, 9) if t != 2 else (8, 10)), {"T": t, "C": 0}) for t in range(4)]
    source = CziSource(CziBytes(blocks).write(tmp_path / "m.czi"))
    assert source.poll().complete == {(0, 0): (0, 1, 3)}
    assert any("are not 8 x 9" in note for note in source.metadata.notes)


REFUSED = {
    "colours": ({"pixel_type": 3}, "neither 8 nor 16 bit grey"),
    "floats": ({"pixel_type": 2}, "Gray32Float"),
    "jpeg": ({"compression": 1}, "JPEG"),
    "several files": ({"file_part": 1}, "several files"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_taken_is_refused_in_a_sentence(tmp_path, kind):
    fields, message = REFUSED[kind]
    with pytest.raises(SourceError, match=message):
        CziSource(CziBytes([Block(noise(0, (8, 9)), {"T": 0}, **fields)]).write(tmp_path / "m.czi")).poll()


def test_dimensions_of_no_use_are_refused(tmp_path):
    blocks = [Block(noise(h, (8, 9)), {"H": h, "C": 0}) for h in range(3)]
    with pytest.raises(SourceError, match="dimension H"):
        CziSource(CziBytes(blocks).write(tmp_path / "m.czi")).poll()


def test_channels_of_unequal_size_are_refused(tmp_path):
    blocks = [Block(noise(t, (8, 9)), {"T": t, "C": 0}) for t in range(3)] + [Block(noise(9, (4, 5)), {"T": 0, "C": 1})]
    with pytest.raises(SourceError, match=r"channel 1 of scene 0.*4 x 5"):
        CziSource(CziBytes(blocks).write(tmp_path / "m.czi")).poll()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short"),
        (b"ZISRAWFILE", "too short"),
        (b"II*\0" * 200, "not a CZI"),
        (b"ZISRAWFILE" + bytes(600), "no directory"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    path = tmp_path / "m.czi"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        CziSource(path).poll()


def test_a_file_cut_before_its_directory_is_refused(tmp_path, unequal):
    path = write_by_library(tmp_path / "m.czi", unequal, COMPRESSIONS[0])
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(SourceError, match="truncated"):
        CziSource(path).poll()


@pytest.mark.parametrize("missing", [1, 100, 150, 500])
def test_a_file_cut_after_its_directory_keeps_what_is_whole(tmp_path, missing):
    blocks = [Block(noise(t, (8, 9)), {"T": t}) for t in range(4)]
    content = CziBytes(blocks, directory_first=True).build()
    ends = [content.index(block.pixels.tobytes()) + block.pixels.nbytes for block in blocks]
    path = tmp_path / "cut.czi"
    path.write_bytes(content[: ends[-1] - missing])
    # the metadata are beyond the cut, so only the planes can be asked for
    whole = tuple(t for t, end in enumerate(ends) if end <= ends[-1] - missing)
    source = CziSource(path)
    assert source.poll().complete == {(0, 0): whole}
    assert len(whole) < 4
    for t in whole:
        np.testing.assert_array_equal(source.read(0, t, 0), blocks[t].pixels)
    with pytest.raises(PlaneError, match="frame 3"):
        source.read(0, 3, 0)


def test_absent_file_and_folder(tmp_path):
    for path in (tmp_path / "none.czi", tmp_path):
        with pytest.raises(SourceError):
            CziSource(path).poll()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path, unequal):
    path = write_by_library(tmp_path / "m.czi", unequal, COMPRESSIONS[0])
    path.chmod(0)
    with pytest.raises(SourceError, match="permission"):
        CziSource(path).poll()


def test_damaged_pixels_fail_their_plane_only(tmp_path, unequal):
    path = write_by_library(tmp_path / "m.czi", unequal, COMPRESSIONS[1])
    content = bytearray(path.read_bytes())
    frame = content.index(b"\x28\xb5\x2f\xfd")
    content[frame : frame + 40] = bytes(40)
    path.write_bytes(content)
    source = CziSource(path)
    with pytest.raises(PlaneError, match="zstd"):
        source.read(0, 0, 0)
    np.testing.assert_array_equal(source.read(0, 0, 1), unequal[0, 0, 1, 0])


def test_zstd_data_of_another_size_are_no_plane(tmp_path):
    from numcodecs.zstd import compress

    short = compress(noise(0, (4, 9)).tobytes(), 1)
    path = CziBytes([Block(noise(0, (8, 9)), {"T": 0}, compression=5, data=short)]).write(tmp_path / "m.czi")
    with pytest.raises(PlaneError, match="another size"):
        CziSource(path).read(0, 0, 0)


def test_identity_is_of_the_content_not_of_the_path(tmp_path, unequal):
    first = CziBytes([Block(noise(t, (8, 9)), {"T": t}) for t in range(3)]).write(tmp_path / "a.czi")
    copy = Path(shutil.copyfile(first, tmp_path / "b.czi"))
    other = CziBytes([Block(noise(t + 7, (8, 9)), {"T": t}) for t in range(3)]).write(tmp_path / "c.czi")
    identities = [CziSource(path).metadata.identity for path in (first, copy, other)]
    assert identities[0] == identities[1] != identities[2]


def test_a_file_replaced_while_in_use_is_noticed(tmp_path):
    path = CziBytes([Block(noise(t, (8, 9)), {"T": t}) for t in range(3)]).write(tmp_path / "a.czi")
    source = CziSource(path)
    assert source.metadata.scenes[0].n_frames == 3
    path.unlink()
    CziBytes([Block(noise(t + 5, (8, 9)), {"T": t}) for t in range(4)]).write(path)
    with pytest.raises(PlaneError, match="replaced"):
        source.read(0, 0, 0)


def test_written_bytes_are_a_czi_to_others(tmp_path):
    blocks = [Block(noise(t, (8, 9)), {"T": t, "C": 0, "S": 0}) for t in range(3)]
    for first in (False, True):
        path = CziBytes(blocks, metadata_xml(), {"TimeStamps": b"x" * 20}, first).write(tmp_path / "m.czi")
        with aicspylibczi_file(path) as theirs:
            for t in range(3):
                pixels, _ = theirs.read_image(S=0, T=t, C=0)
                np.testing.assert_array_equal(pixels.squeeze(), CziSource(path).read(0, t, 0))
