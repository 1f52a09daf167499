"""Folders of frames: the released data set's layout, and folders named by frame."""

from __future__ import annotations

import csv
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import phagostat
from phagostat import sources
from phagostat.model.acquisition import ChannelRole, TimesOrigin
from phagostat.model.errors import MetadataError, PlaneError, SourceError
from phagostat.sources.channel_roles import resolve
from phagostat.sources.frame_files import open_folder
from phagostat.sources.frame_folder import FrameFolderSource

AGGREGATES, CELLS = "normalized_aggregate", "normalized_cell"
YX = (20, 24)


def picture(seed: int, dtype="uint8", yx=YX) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, yx).astype(dtype)


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def seed_of(scene: int, channel: str, frame: int) -> int:
    return 1000 * scene + 100 * (channel == CELLS) + frame


@pytest.fixture
def released(tmp_path) -> Path:
    """One acquisition: scene_2 with frames 0 to 11, scene_10 with 0 to 9 but 4 and cells' 7; as much beside them."""
    root = tmp_path / "WT" / "WT-1"
    for scene, n_frames, gaps in ((2, 12, set()), (10, 10, {(AGGREGATES, 4), (CELLS, 4), (CELLS, 7)})):
        folder = root / f"scene_{scene}"
        for channel in (AGGREGATES, CELLS):
            for frame in range(n_frames):
                if (channel, frame) not in gaps:
                    save(folder / channel / f"{frame}.png", picture(seed_of(scene, channel, frame)))
        for name in ("registered_aggregate", "labeled_cell", "labeled_aggregate"):
            save(folder / name / "0.png", picture(1))
        (folder / "CSVs").mkdir()
        (folder / "GIFs").mkdir()
        (folder / AGGREGATES / "Thumbs.db").write_bytes(b"no picture")
        (folder / AGGREGATES / "._3.png").write_bytes(b"what macOS leaves")
    return root


def test_the_released_layout(released):
    source = sources.open_source(released)
    assert isinstance(source, FrameFolderSource)
    metadata = source.metadata
    assert [(s.name, s.n_frames, s.shape_yx, s.dtype) for s in metadata.scenes] == [
        ("scene_2", 12, YX, "uint8"),
        ("scene_10", 10, YX, "uint8"),
    ]
    assert [(c.name, c.fluorescent) for c in metadata.channels] == [(AGGREGATES, True), (CELLS, False)]
    assert source.poll().complete == {
        (0, 0): tuple(range(12)),
        (0, 1): tuple(range(12)),
        (1, 0): (0, 1, 2, 3, 5, 6, 7, 8, 9),
        (1, 1): (0, 1, 2, 3, 5, 6, 8, 9),
    }
    assert source.poll().closed
    for (scene, channel), frames in source.poll().complete.items():
        for frame in frames:
            name, number = (AGGREGATES, CELLS)[channel], (2, 10)[scene]
            plane = source.read(scene, frame, channel)
            np.testing.assert_array_equal(plane, picture(seed_of(number, name, frame)))
            np.testing.assert_array_equal(
                plane, np.asarray(Image.open(released / f"scene_{number}" / name / f"{frame}.png"))
            )
    with pytest.raises(PlaneError, match="scene 1 frame 4 channel 0: no picture has this frame's number"):
        source.read(1, 4, 0)


def test_pixel_size_and_times_are_asked_for_and_roles_are_clear(released):
    metadata = FrameFolderSource(released).metadata
    assert metadata.pixel_size_um is None
    assert metadata.times_origin is TimesOrigin.NONE
    with pytest.raises(
        MetadataError, match=r"the pixel size nor the times .*--pixel-size-um SIZE --interval-s SECONDS"
    ):
        resolve(metadata)
    known = resolve(metadata, pixel_size_um=0.206, interval_s=120)
    assert known.roles == {ChannelRole.AGGREGATES: 0, ChannelRole.CELLS: 1}
    assert any("--pixel-size-um 0.206 --interval-s 120" in note for note in metadata.notes)


def write_tables(folder: Path, *, size_um: float = 0.206, minutes=(0, 2, 4, 10, 12)) -> None:
    with (folder / "CSVs" / "frames_registration_params.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["frame_name", "x", "y", "x(microns)", "y(microns)"])
        rows.writerow([0, 0, 0, 0, 0])
        rows.writerows([k, 1.5 * k, -k / 3, 1.5 * k * size_um, -k / 3 * size_um] for k in range(1, 5))
    with (folder / "CSVs" / "phagocytosis_evolution.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time (min)", "Aggregates count (n)", "Aggregates total area (micro-meters-square)"])
        rows.writerows([m, 5, 1.0] for m in minutes)


def test_tables_beside_the_frames_say_pixel_size_and_interval(released):
    for scene in ("scene_2", "scene_10"):
        write_tables(released / scene)
    metadata = FrameFolderSource(released).metadata
    assert metadata.pixel_size_um == pytest.approx(0.206)
    assert metadata.times_origin is TimesOrigin.INTERVAL
    assert metadata.scenes[0].times_s == tuple(120.0 * k for k in range(12))
    assert FrameFolderSource(released / "scene_10").metadata.pixel_size_um == pytest.approx(0.206)
    write_tables(released / "scene_10", minutes=(0, 16))  # nearly all of its frames were rejected
    assert FrameFolderSource(released).metadata.scenes[0].times_s == tuple(120.0 * k for k in range(12))
    write_tables(released / "scene_10", minutes=(0, 3))
    other = FrameFolderSource(released).metadata
    assert other.times_origin is TimesOrigin.NONE
    assert any("interval differs" in note for note in other.notes)
    write_tables(released / "scene_10", size_um=0.103, minutes=(0, 3, 5))
    torn = FrameFolderSource(released).metadata
    assert torn.pixel_size_um is None  # tables that differ are not chosen from
    assert torn.scenes[0].times_s == tuple(120.0 * k for k in range(12))
    assert any("pixel size differs" in note for note in torn.notes)


def test_one_scene_and_one_channel_are_acquisitions_too(released):
    scene = sources.open_source(released / "scene_10")
    assert [(s.name, s.n_frames) for s in scene.metadata.scenes] == [("scene_10", 10)]
    np.testing.assert_array_equal(scene.read(0, 3, 1), picture(seed_of(10, CELLS, 3)))
    channel = sources.open_source(released / "scene_10" / CELLS)
    assert [c.name for c in channel.metadata.channels] == [CELLS]
    np.testing.assert_array_equal(channel.read(0, 3, 0), picture(seed_of(10, CELLS, 3)))


def test_folders_of_acquisitions_are_refused_with_one_to_give(released):
    for folder in (released.parent, released.parents[1]):
        with pytest.raises(SourceError, match=r"a folder of such.*give one of them, such as .*WT"):
            _ = sources.open_source(folder).metadata


def test_a_scene_without_one_channel_lacks_its_planes(released):
    for file in (released / "scene_10" / CELLS).iterdir():
        file.unlink()
    (released / "scene_10" / CELLS).rmdir()
    source = FrameFolderSource(released)
    assert source.poll().complete[1, 1] == ()
    assert any(f"scene_10 has no {CELLS}" in note for note in source.metadata.notes)


def test_frames_start_at_the_number_that_they_carry(tmp_path):
    for frame in (5, 6, 8):
        save(tmp_path / "scene_0" / AGGREGATES / f"{frame}.png", picture(frame))
    source = FrameFolderSource(tmp_path)
    assert source.metadata.scenes[0].n_frames == 9
    assert source.poll().complete == {(0, 0): (5, 6, 8)}
    np.testing.assert_array_equal(source.read(0, 6, 0), picture(6))


def test_an_odd_frame_cannot_be_read_and_says_why(released):
    save(released / "scene_2" / CELLS / "3.png", picture(0, yx=(10, 24)))
    save(released / "scene_2" / CELLS / "5.png", picture(0, dtype="uint16"))
    save(released / "scene_2" / CELLS / "6.png", picture(0, yx=(*YX, 3)))
    source = FrameFolderSource(released)
    assert source.metadata.scenes[0].shape_yx == YX
    for frame, reason in ((3, r"3\.png is not like the others .*10 x 24"), (5, "uint16"), (6, "in colours")):
        with pytest.raises(PlaneError, match=f"scene 0 frame {frame} channel 1: .*{reason}"):
            source.read(0, frame, 1)
    np.testing.assert_array_equal(source.read(0, 4, 1), picture(seed_of(2, CELLS, 4)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_saved_in_colours_is_grey(tmp_path, mode):
    """Many programs save grey pictures as RGB; nothing is lost where all three are equal."""
    for frame in range(3):
        Image.fromarray(picture(frame)).convert(mode).save(tmp_path / f"{frame}.png")
    source = FrameFolderSource(tmp_path)
    assert (source.metadata.scenes[0].shape_yx, source.metadata.scenes[0].dtype) == (YX, "uint8")
    for frame in range(3):
        np.testing.assert_array_equal(source.read(0, frame, 0), picture(frame))


def test_colours_are_refused_before_anything_is_read(tmp_path):
    for frame in range(3):
        save(tmp_path / f"{frame}.png", picture(frame, yx=(*YX, 3)))
    with pytest.raises(SourceError, match=r"in colours.*found: RGB.*save each channel as grey"):
        _ = FrameFolderSource(tmp_path).metadata


def test_frames_without_a_common_size_are_refused(tmp_path):
    for frame in range(6):
        save(tmp_path / f"t{frame}.png", picture(frame, yx=(8 + frame % 2, 8)))
    with pytest.raises(SourceError, match=r"none has most of them.*8 x 8 uint8: 3 of 6"):
        _ = FrameFolderSource(tmp_path).metadata


def test_channels_of_different_sizes_are_refused(tmp_path):
    for frame in range(3):
        save(tmp_path / "scene_0" / AGGREGATES / f"{frame}.png", picture(frame, yx=(8, 8)))
        save(tmp_path / "scene_0" / CELLS / f"{frame}.png", picture(frame, yx=(16, 16)))
    with pytest.raises(SourceError, match=r"different sizes.*normalized_aggregate: 8 x 8.*normalized_cell: 16 x 16"):
        _ = FrameFolderSource(tmp_path).metadata


def test_channels_of_8_and_16_bits_are_told_in_16(tmp_path):
    for frame in range(3):
        save(tmp_path / f"phase_{frame}.png", picture(frame, "uint8"))
        save(tmp_path / f"gfp_{frame}.png", picture(frame, "uint16"))
    source = FrameFolderSource(tmp_path)
    assert source.metadata.scenes[0].dtype == "uint16"
    assert [(c.name, c.fluorescent) for c in source.metadata.channels] == [("gfp", True), ("phase", False)]
    for channel, dtype in ((0, "uint16"), (1, "uint8")):
        plane = source.read(0, 2, channel)
        assert plane.dtype == np.uint16
        np.testing.assert_array_equal(plane, picture(2, dtype))


@pytest.mark.parametrize("change", ["cut", "empty", "flip", "text"])
def test_a_damaged_picture_fails_its_plane_only(released, change):
    file = released / "scene_2" / AGGREGATES / "7.png"
    raw = bytearray(file.read_bytes())
    if change == "flip":
        raw[len(raw) // 2] ^= 1
    file.write_bytes({"cut": raw[: len(raw) - 20], "empty": b"", "flip": raw, "text": b"no picture at all"}[change])
    source = FrameFolderSource(released)
    with pytest.raises(PlaneError, match="scene 0 frame 7 channel 0"):
        source.read(0, 7, 0)
    np.testing.assert_array_equal(source.read(0, 8, 0), picture(seed_of(2, AGGREGATES, 8)))


def test_a_scene_of_damaged_pictures_keeps_its_frames(released):
    for file in (released / "scene_10").rglob("*.png"):
        file.write_bytes(b"")
    source = FrameFolderSource(released)
    assert [s.n_frames for s in source.metadata.scenes] == [12, 10]
    with pytest.raises(PlaneError, match="scene 1 frame 0"):
        source.read(1, 0, 0)


def test_nothing_that_can_be_read_is_refused(tmp_path):
    for frame in range(3):
        (tmp_path / f"{frame}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SourceError, match="cut off"):
        _ = FrameFolderSource(tmp_path).metadata


def test_names_without_numbers(released, tmp_path):
    (released / "scene_2" / CELLS / "overview.png").write_bytes((released / "scene_2" / CELLS / "0.png").read_bytes())
    metadata = FrameFolderSource(released).metadata
    assert metadata.scenes[0].n_frames == 12
    assert any("overview.png" in note for note in metadata.notes)
    save(tmp_path / "scene_0" / CELLS / "first.png", picture(0))
    with pytest.raises(SourceError, match=r"no picture has a frame number as its name.*first\.png.*0\.png, 1\.png"):
        _ = FrameFolderSource(tmp_path).metadata


def test_the_same_number_twice(released):
    save(released / "scene_2" / CELLS / "03.png", picture(0))
    with pytest.raises(SourceError, match="two pictures have the same frame number"):
        _ = FrameFolderSource(released).metadata


def test_sequence_of_tiffs_by_name(tmp_path):
    for t in (1, 2, 4):
        for c in (1, 2):
            pixels = picture(10 * t + c, "uint16")
            tifffile.imwrite(tmp_path / f"exp_t{t:03d}_c{c}.tif", pixels, compression="lzw" if c == 1 else None)
    source = sources.open_source(tmp_path)
    assert [(s.n_frames, s.shape_yx, s.dtype) for s in source.metadata.scenes] == [(4, YX, "uint16")]
    assert [c.name for c in source.metadata.channels] == ["c1", "c2"]
    assert any("names count from 1, which is frame 0" in note for note in source.metadata.notes)
    assert source.poll().complete == {(0, 0): (0, 1, 3), (0, 1): (0, 1, 3)}
    for frame, t in ((0, 1), (1, 2), (3, 4)):
        for channel, c in ((0, 1), (1, 2)):
            plane = source.read(0, frame, channel)
            np.testing.assert_array_equal(plane, tifffile.imread(tmp_path / f"exp_t{t:03d}_c{c}.tif"))


def test_folders_of_channels_and_of_scenes(tmp_path):
    for frame in range(3):
        for channel in ("gfp", "phase"):
            save(tmp_path / "one" / channel / f"{frame}.png", picture(frame + 10 * (channel == "gfp")))
            for scene in ("Pos2", "Pos10"):
                save(tmp_path / "two" / scene / channel / f"{frame}.png", picture(frame + 20 * (scene == "Pos2")))
    one, two = sources.open_source(tmp_path / "one"), sources.open_source(tmp_path / "two")
    assert [c.name for c in one.metadata.channels] == ["gfp", "phase"]
    np.testing.assert_array_equal(one.read(0, 2, 0), picture(12))
    assert [s.name for s in two.metadata.scenes] == ["Pos2", "Pos10"]
    np.testing.assert_array_equal(two.read(0, 1, 1), picture(21))


@pytest.mark.parametrize(
    ("names", "are_channels"),
    [(("c0", "c1"), True), (("C1", "C2"), True), (("C01", "C02"), False), (("A1", "B1"), False)],
)
def test_wells_and_numbered_channels(tmp_path, names, are_channels):
    for name in names:
        for frame in range(2):
            save(tmp_path / name / f"{frame}.png", picture(frame))
    metadata = FrameFolderSource(tmp_path).metadata
    assert tuple(c.name for c in metadata.channels if are_channels) == (names if are_channels else ())
    assert len(metadata.scenes) == (1 if are_channels else 2)


def test_movies_side_by_side_are_not_taken_for_channels(tmp_path):
    for name in ("exp1", "exp2"):
        for frame in range(3):
            save(tmp_path / name / f"{frame}.png", picture(frame))
    with pytest.raises(SourceError, match=r"cannot be told from their names.*exp1, exp2.*give one of them"):
        _ = sources.open_source(tmp_path).metadata


def test_z_planes_by_name(tmp_path):
    for t in range(2):
        for z in (3, 4, 5):
            save(tmp_path / f"t{t}_z{z}.png", picture(10 * t + z))
    expected = np.max([picture(10 + z) for z in (3, 4, 5)], axis=0)
    np.testing.assert_array_equal(FrameFolderSource(tmp_path).read(0, 1, 0), expected)
    np.testing.assert_array_equal(FrameFolderSource(tmp_path, z=2).read(0, 1, 0), picture(15))
    with pytest.raises(SourceError, match="z 3 of 3"):
        _ = FrameFolderSource(tmp_path, z=3).metadata


def test_stacks_and_sets_in_a_folder_are_refused_with_the_remedy(tmp_path):
    for k in range(2):
        tifffile.imwrite(tmp_path / f"m{k}.tif", np.zeros((4, *YX), "uint16"), photometric="minisblack")
    with pytest.raises(SourceError, match=r"a stack of several pages.*4 pages.*give the file itself"):
        _ = sources.open_source(tmp_path).metadata


def test_pixel_size_of_imagej_pictures(tmp_path):
    for t in range(2):
        tifffile.imwrite(
            tmp_path / f"t{t}.tif",
            picture(t),
            imagej=True,
            resolution=(1 / 0.206, 1 / 0.206),
            metadata={"unit": "micron"},
        )
    assert FrameFolderSource(tmp_path).metadata.pixel_size_um == pytest.approx(0.206, rel=1e-5)


def test_pixel_size_of_ome_tiff_pictures(tmp_path):
    for t in range(2):
        tifffile.imwrite(
            tmp_path / f"t{t}.ome.tif", picture(t), metadata={"axes": "YX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2}
        )
    assert FrameFolderSource(tmp_path).metadata.pixel_size_um == 0.2


def test_frames_that_appear_are_polled_and_read(released):
    """The door to folders that grow: nothing but poll() need change its mind."""
    source = FrameFolderSource(released)
    identity = source.metadata.identity
    assert source.poll().complete[1, 1] == (0, 1, 2, 3, 5, 6, 8, 9)
    save(released / "scene_10" / CELLS / "7.png", picture(77))
    assert source.poll().complete[1, 1] == (0, 1, 2, 3, 5, 6, 7, 8, 9)
    assert source.metadata.identity == identity
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(1, 7, 1), picture(77))


def test_folders_are_listed_again_only_once_they_have_changed(released):
    for folder in (released, *(path for path in released.rglob("*") if path.is_dir())):
        os.utime(folder, (1e9, 1e9))
    source = FrameFolderSource(released)
    assert open_folder(str(released)) is open_folder(str(released))
    assert source.poll() is source.poll()
    save(released / "scene_10" / CELLS / "7.png", picture(77))
    assert 7 in source.poll().complete[1, 1]


def test_identity_is_of_the_content_not_of_the_path(released, tmp_path):
    identity = FrameFolderSource(released).metadata.identity
    moved = released.rename(tmp_path / "moved")
    assert FrameFolderSource(moved).metadata.identity == identity
    save(moved / "scene_2" / AGGREGATES / "0.png", picture(999))
    assert FrameFolderSource(moved).metadata.identity != identity


def read_one(task) -> np.ndarray:
    source, frame = task
    return source.read(0, frame, 1)


def test_other_processes_read_the_same_and_the_source_is_small(released):
    source = FrameFolderSource(released)
    source.read(0, 0, 0)
    assert len(pickle.dumps(source)) < 400
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as processes:
        for frame, plane in enumerate(processes.map(read_one, [(source, frame) for frame in range(12)])):
            np.testing.assert_array_equal(plane, picture(seed_of(2, CELLS, frame)))


def test_lazy_arrays(released):
    movie = phagostat.open_source(released)
    assert movie["scene_2"].shape == (12, 2, *YX)
    np.testing.assert_array_equal(movie["scene_2"][11, 1].compute(), picture(seed_of(2, CELLS, 11)))


@pytest.mark.real
def test_real_phase_contrast_movie(shared_data):
    source = sources.open_source(shared_data / "t98g")
    assert [(s.n_frames, s.shape_yx, s.dtype) for s in source.metadata.scenes] == [(8, (1022, 1024), "uint16")]
    for frame in range(8):
        file = shared_data / "t98g" / f"t{frame + 1:02d}.tif"
        np.testing.assert_array_equal(source.read(0, frame, 0), tifffile.imread(file))


@pytest.mark.real
def test_real_fields_are_no_movie(shared_data):
    """Fields of view with their masks beside them: each one a scene of one frame, which the run refuses."""
    metadata = sources.open_source(shared_data / "phase-contrast").metadata
    assert len(metadata.scenes) == 35
    assert {scene.n_frames for scene in metadata.scenes} == {1}
    assert any("35 pictures are masks" in note for note in metadata.notes)
    with pytest.raises(MetadataError, match="not a time-lapse"):
        resolve(metadata)


@pytest.mark.real
def test_real_frame_pair_in_the_released_layout(shared_data, tmp_path):
    for name, channel in (("aggregates", AGGREGATES), ("cell", CELLS)):
        folder = tmp_path / "scene_0" / channel
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes((shared_data / "microglia" / f"{name}.png").read_bytes())
    source = sources.open_source(tmp_path)
    assert source.metadata.scenes[0].shape_yx == (1024, 1024)
    np.testing.assert_array_equal(source.read(0, 0, 1), np.asarray(Image.open(shared_data / "microglia" / "cell.png")))
