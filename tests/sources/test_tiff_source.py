"""The TIFF source on stacks of ImageJ, tifffile and others; every plane against Pillow's or tifffile's own reading."""

from __future__ import annotations

import multiprocessing
import pickle
import struct
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from phagostat import sources
from phagostat.model.acquisition import TimesOrigin
from phagostat.model.errors import MetadataError, PlaneError, SourceError
from phagostat.sources.tiff import TiffSource
from phagostat.sources.tiff_layout import given_dimensions


def pixels(shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def write(file: Path, array: np.ndarray, **options) -> None:
    """Grey pages, where tifffile would take an axis of length 3 or 4 for colours."""
    tifffile.imwrite(file, array, **({"photometric": "minisblack"} | options))


def planes(source) -> dict[tuple[int, int, int], np.ndarray]:
    return {
        (scene, frame, channel): source.read(scene, frame, channel)
        for (scene, channel), frames in source.poll().complete.items()
        for frame in frames
    }


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_imagej_hyperstack(tmp_path, dtype, byteorder):
    movie = pixels((5, 2, 12, 10), dtype)
    resolution = (1 / 0.103, 1 / 0.103)
    write(
        tmp_path / "movie.tif",
        movie,
        imagej=True,
        byteorder=byteorder,
        resolution=resolution,
        metadata={"axes": "TCYX", "finterval": 2.5, "tunit": "min", "unit": "um"},
    )
    source = sources.open_source(tmp_path / "movie.tif")
    assert isinstance(source, TiffSource)
    metadata = source.metadata
    assert [(s.n_frames, s.shape_yx, s.dtype) for s in metadata.scenes] == [(5, (12, 10), dtype)]
    assert metadata.pixel_size_um == pytest.approx(0.103, rel=1e-5)
    assert metadata.times_origin is TimesOrigin.INTERVAL
    assert metadata.scenes[0].times_s == (0.0, 150.0, 300.0, 450.0, 600.0)
    assert len(metadata.channels) == 2
    got = planes(source)
    assert len(got) == 10
    with Image.open(tmp_path / "movie.tif") as picture:
        for (_, frame, channel), plane in got.items():
            assert plane.dtype == np.dtype(dtype)
            assert plane.dtype.isnative
            picture.seek(2 * frame + channel)
            np.testing.assert_array_equal(plane, np.asarray(picture))
            np.testing.assert_array_equal(plane, movie[frame, channel])


def test_imagej_z_is_projected_or_chosen(tmp_path):
    movie = pixels((3, 4, 2, 8, 6), "uint8")
    write(tmp_path / "m.tif", movie, imagej=True, metadata={"axes": "TZCYX"})
    np.testing.assert_array_equal(TiffSource(tmp_path / "m.tif").read(0, 1, 1), movie[1, :, 1].max(axis=0))
    np.testing.assert_array_equal(TiffSource(tmp_path / "m.tif", z=2).read(0, 1, 1), movie[1, 2, 1])
    with pytest.raises(SourceError, match=r"no such Z plane \(found: z 4 of 4\)"):
        _ = TiffSource(tmp_path / "m.tif", z=4).metadata
    with pytest.raises(SourceError, match="'max' or a number"):
        TiffSource(tmp_path / "m.tif", z=-1)


def test_imagej_beyond_4_gb_has_one_page_for_all_planes(tmp_path):
    """ImageJ writes such files with a single page and the other planes behind its pixels."""
    movie = pixels((6, 8, 10), "uint16")
    file = tmp_path / "m.tif"
    write(
        file, movie[0], description="ImageJ=1.54f\nimages=6\nframes=6\nhyperstack=true\n", metadata=None, byteorder=">"
    )
    with tifffile.TiffFile(file) as tiff:
        offset = tiff.pages[0].dataoffsets[0]
    file.write_bytes(file.read_bytes()[:offset] + movie.astype(">u2").tobytes())
    source = TiffSource(file)
    assert source.metadata.scenes[0].n_frames == 6
    for frame in range(6):
        np.testing.assert_array_equal(source.read(0, frame, 0), movie[frame])
    file.write_bytes(file.read_bytes()[: offset + 4 * movie[0].nbytes + 3])
    cut = TiffSource(file)
    assert cut.poll().complete == {(0, 0): (0, 1, 2, 3)}
    assert any("2 of 6 planes are not in the file" in note for note in cut.metadata.notes)
    with pytest.raises(PlaneError, match="does not hold this plane"):
        cut.read(0, 4, 0)


def test_imagej_stack_of_slices_is_not_guessed(tmp_path):
    movie = pixels((5, 8, 6))
    description = "ImageJ=1.53t\nimages=5\nslices=5\nmin=0.0\nmax=255.0\n"
    write(tmp_path / "m.tif", movie, description=description, metadata=None)
    with pytest.raises(SourceError, match=r"frames over time or Z planes cannot be told.*--axes TYX .* --axes ZYX"):
        _ = TiffSource(tmp_path / "m.tif").metadata
    as_time, as_z = TiffSource(tmp_path / "m.tif", axes="TYX"), TiffSource(tmp_path / "m.tif", axes="zyx")
    assert as_time.metadata.scenes[0].n_frames == 5
    np.testing.assert_array_equal(as_time.read(0, 3, 0), movie[3])
    np.testing.assert_array_equal(as_z.read(0, 0, 0), movie.max(axis=0))


@pytest.mark.parametrize(
    ("compression", "predictor"),
    [(None, False), ("packbits", False), *[(codec, on) for codec in ("zlib", "lzw", "zstd") for on in (False, True)]],
)
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_plain_stack_is_a_movie_whatever_its_compression(tmp_path, compression, tile, predictor):
    movie = pixels((4, 40, 33))
    options = {"compression": compression, "tile": tile, "predictor": predictor, "bigtiff": tile is not None}
    with tifffile.TiffWriter(tmp_path / "m.tif", bigtiff=options.pop("bigtiff")) as writer:
        for plane in movie:
            writer.write(plane, metadata=None, rowsperstrip=None if tile else 7, contiguous=False, **options)
    source = sources.open_source(tmp_path / "m.tif")
    assert source.metadata.scenes[0].n_frames == 4
    assert source.metadata.pixel_size_um is None  # 1 pixel per nothing is no pixel size
    assert source.metadata.times_origin is TimesOrigin.NONE
    assert any("4 pages are; they are taken as frames over time" in note for note in source.metadata.notes)
    for frame in range(4):
        np.testing.assert_array_equal(source.read(0, frame, 0), movie[frame])
        np.testing.assert_array_equal(source.read(0, frame, 0), tifffile.imread(tmp_path / "m.tif", key=frame))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("writer", ["pillow", "pillow lzw", "opencv"])
def test_stacks_of_other_writers(tmp_path, writer, dtype):
    movie = pixels((4, 30, 21), dtype)
    file = tmp_path / "m.tif"
    if writer == "opencv":
        assert cv2.imwritemulti(str(file), list(movie))
    else:
        first, *others = [Image.fromarray(plane) for plane in movie]
        how = {"compression": "tiff_lzw"} if "lzw" in writer else {}
        first.save(file, save_all=True, append_images=others, **how)
    source = sources.open_source(file)
    assert source.metadata.scenes[0].n_frames == 4
    assert source.metadata.pixel_size_um is None
    for frame in range(4):
        np.testing.assert_array_equal(source.read(0, frame, 0), movie[frame])


def test_axes_that_tifffile_wrote(tmp_path):
    movie = pixels((3, 2, 4, 8, 6))
    write(tmp_path / "m.tif", movie, metadata={"axes": "ZCTYX"})
    source = TiffSource(tmp_path / "m.tif")
    assert source.metadata.scenes[0].n_frames == 4
    np.testing.assert_array_equal(source.read(0, 2, 1), movie[:, 1, 2].max(axis=0))


@pytest.mark.parametrize(
    ("shape", "axes", "match"),
    [
        ((6, 2, 8, 6), None, "which of its axes is time cannot be told"),
        ((2, 2, 2, 2, 8, 6), None, "which of its axes is time cannot be told"),
        ((3, 2, 8, 6), "TSYX", "has axes other than T, C, Z"),
        ((2, 3, 2, 2, 8, 6), "TRZCYX", "has axes other than T, C, Z"),
    ],
)
def test_other_axes_are_refused_with_what_was_found(tmp_path, shape, axes, match):
    write(tmp_path / "m.tif", pixels(shape), metadata={"axes": axes} if axes else {})
    with pytest.raises(SourceError, match=match) as caught:
        _ = TiffSource(tmp_path / "m.tif").metadata
    assert str(shape) in str(caught.value)
    assert "--axes TC2YX" in str(caught.value)


def test_axes_that_the_user_gives(tmp_path):
    movie = pixels((6, 2, 8, 6))
    write(tmp_path / "m.tif", movie)
    source = sources.open_source(tmp_path / "m.tif", axes="TC2YX")
    assert (source.metadata.scenes[0].n_frames, len(source.metadata.channels)) == (6, 2)
    np.testing.assert_array_equal(source.read(0, 4, 1), movie[4, 1])
    other = TiffSource(tmp_path / "m.tif", axes="C2TYX")
    np.testing.assert_array_equal(other.read(0, 4, 1), movie.reshape(2, 6, 8, 6)[1, 4])
    assert source.options != other.options
    for wrong in ("TC5YX", "TCYX", "TTYX", "XY", "T2YX", "TC0YX", ""):
        with pytest.raises(SourceError, match="axes"):
            _ = TiffSource(tmp_path / "m.tif", axes=wrong).metadata


def test_given_dimensions():
    assert given_dimensions("TC2Z3YX", 42, path="") == (("T", 7), ("C", 2), ("Z", 3))
    assert given_dimensions("YX", 1, path="") == ()


@pytest.mark.parametrize(
    ("array", "options", "match"),
    [
        (np.zeros((3, 8, 6, 3), "uint8"), {"photometric": "rgb"}, r"in colours.*RGB, 3 samples"),
        (np.zeros((3, 8, 6), "float32"), {}, r"neither uint8 nor uint16 \(found: float32\)"),
        (np.zeros((3, 8, 6), "int16"), {}, "int16"),
        (np.zeros((3, 8, 6), "uint32"), {}, "uint32"),
        (np.zeros((3, 8, 6), "bool"), {}, "bool"),
    ],
)
def test_pixels_that_are_no_camera_counts(tmp_path, array, options, match):
    write(tmp_path / "m.tif", array, **options)
    with pytest.raises(SourceError, match=match) as caught:
        _ = sources.open_source(tmp_path / "m.tif").metadata
    assert caught.value.remedy


def test_imagej_pixels_that_are_not_square_are_refused(tmp_path):
    options = {"imagej": True, "resolution": (5.0, 10.0), "metadata": {"axes": "TYX", "unit": "um"}}
    write(tmp_path / "m.tif", pixels((3, 8, 6)), **options)
    with pytest.raises(MetadataError, match=r"0\.2 um wide, 0\.1 um high"):
        _ = TiffSource(tmp_path / "m.tif").metadata


def test_a_page_of_another_size_fails_alone(tmp_path):
    movie = pixels((5, 8, 6))
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for frame, plane in enumerate(movie):
            writer.write(plane[:4] if frame == 3 else plane, metadata=None, contiguous=False)
    source = TiffSource(tmp_path / "m.tif")
    with pytest.raises(PlaneError, match=r"frame 3 channel 0: the page is not like the others.*4 x 6"):
        source.read(0, 3, 0)
    np.testing.assert_array_equal(source.read(0, 4, 0), movie[4])


def test_pages_without_a_common_size_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        for size in (8, 6, 4):
            writer.write(np.zeros((size, size), "uint8"), metadata=None, contiguous=False)
    with pytest.raises(SourceError, match=r"different sizes.*8 x 8.*6 x 6.*4 x 4"):
        _ = TiffSource(tmp_path / "m.tif").metadata


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_that_is_cut_off_keeps_its_first_frames(tmp_path, compression):
    """With the pages' descriptions in front and the pixels behind, the last planes are lost."""
    movie = pixels((4, 64, 64))
    write(tmp_path / "m.tif", movie, metadata=None, compression=compression)
    with tifffile.TiffFile(tmp_path / "m.tif") as tiff:
        ends = [page.dataoffsets[-1] + page.databytecounts[-1] for page in tiff.pages]
        offsets = [page.offset for page in tiff.pages]
    raw = (tmp_path / "m.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(raw[: ends[2] - 5])
    lost = [k for k in range(4) if ends[k] > ends[2] - 5 or offsets[k] > ends[2] - 5]
    source = TiffSource(tmp_path / "cut.tif")
    whole = {k for k in range(source.metadata.scenes[0].n_frames) if k not in lost}
    assert whole
    for frame in range(source.metadata.scenes[0].n_frames):
        if frame in whole:
            np.testing.assert_array_equal(source.read(0, frame, 0), movie[frame])
        else:
            with pytest.raises(PlaneError, match="frame"):
                source.read(0, frame, 0)


def test_strips_that_are_absent_are_not_filled_with_zeros(tmp_path):
    movie = pixels((2, 64, 64))
    write(tmp_path / "m.tif", movie, metadata=None, compression="zlib", rowsperstrip=16)
    with tifffile.TiffFile(tmp_path / "m.tif", mode="r+b") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        counts[1] = 0
        tiff.pages[0].tags["StripByteCounts"].overwrite(counts)
    assert tifffile.imread(tmp_path / "m.tif", key=0)[16:32].max() == 0  # what others do
    source = TiffSource(tmp_path / "m.tif")
    with pytest.raises(PlaneError, match="cut off"):
        source.read(0, 0, 0)
    np.testing.assert_array_equal(source.read(0, 1, 0), movie[1])


@pytest.mark.parametrize("raw", [b"II*\0", b"MM\0*\0\0\0\x08", b"II*\0\x08\0\0\0\xff\xff", b"II+\0" + bytes(40)])
def test_a_head_alone_is_refused_in_a_sentence(tmp_path, raw):
    (tmp_path / "m.tif").write_bytes(raw)
    with pytest.raises(SourceError, match=r"m\.tif"):
        _ = sources.open_source(tmp_path / "m.tif").metadata


def test_pages_in_a_circle_end(tmp_path):
    """Each page names the next one; a page that names the first again must not be followed for ever."""
    write(tmp_path / "m.tif", pixels((3, 8, 6)), metadata=None)
    raw = bytearray((tmp_path / "m.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "m.tif") as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[2].offset
    (n_tags,) = struct.unpack_from("<H", raw, last)
    struct.pack_into("<I", raw, last + 2 + 12 * n_tags, first)
    (tmp_path / "m.tif").write_bytes(raw)
    source = TiffSource(tmp_path / "m.tif")
    assert 1 <= source.metadata.scenes[0].n_frames <= 3
    assert source.read(0, 0, 0).shape == (8, 6)


def test_identity_is_of_the_content(tmp_path):
    movie = pixels((4, 8, 6))
    for name, data in (("a.tif", movie), ("b.tif", movie), ("c.tif", movie + 1)):
        write(tmp_path / name, data)
    one, same, other = (TiffSource(tmp_path / name).metadata.identity for name in ("a.tif", "b.tif", "c.tif"))
    assert one == same != other


def test_a_file_that_is_replaced_is_not_read_on(tmp_path):
    write(tmp_path / "m.tif", pixels((4, 8, 6)))
    source = TiffSource(tmp_path / "m.tif")
    assert source.metadata.scenes[0].n_frames == 4
    source.read(0, 1, 0)
    (tmp_path / "m.tif").unlink()
    write(tmp_path / "m.tif", pixels((5, 8, 6), seed=1))
    with pytest.raises(PlaneError, match="replaced"):
        source.read(0, 1, 0)


def read_one(task) -> np.ndarray:
    source, frame = task
    return source.read(0, frame, 0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_and_threads_read_the_same(tmp_path, method):
    movie = pixels((6, 32, 32))
    write(tmp_path / "m.tif", movie, compression="zlib")
    source = TiffSource(tmp_path / "m.tif")
    source.read(0, 0, 0)  # opened before the fork
    tasks = [(source, frame) for frame in range(6)] * 3
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as processes:
        for (_, frame), plane in zip(tasks, processes.map(read_one, tasks), strict=True):
            np.testing.assert_array_equal(plane, movie[frame])
    with ThreadPoolExecutor(4) as threads:
        for (_, frame), plane in zip(tasks, threads.map(read_one, tasks), strict=True):
            np.testing.assert_array_equal(plane, movie[frame])


def test_pickles_by_path_and_options(tmp_path):
    write(tmp_path / "m.tif", pixels((6, 8, 6)))
    source = TiffSource(tmp_path / "m.tif", z=0, axes="TYX")
    source.read(0, 0, 0)
    raw = pickle.dumps(source)
    assert len(raw) < 400
    copy = pickle.loads(raw)
    assert (repr(copy), copy.options, copy.metadata) == (repr(source), source.options, source.metadata)


@pytest.mark.real
def test_one_real_frame(shared_data):
    file = shared_data / "t98g" / "t03.tif"
    source = sources.open_source(file)
    np.testing.assert_array_equal(source.read(0, 0, 0), tifffile.imread(file))
    assert source.metadata.scenes[0].shape_yx == (1022, 1024)
    assert Path(source.path) == file
