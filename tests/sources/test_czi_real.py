"""Every real CZI at hand: its planes equal what independent readers give, its metadata what is printed in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phagostat.model.acquisition import ChannelRole, TimesOrigin
from phagostat.model.errors import MetadataError, SourceError
from phagostat.sources.channel_roles import resolve
from phagostat.sources.czi import CziSource
from tests.sources.czi_bytes import aicspylibczi_file

pytestmark = pytest.mark.real

FILES = {
    "czi/CD_s_1_t_3_c_2_z_5.czi": (0.0905766741522, TimesOrigin.SUBBLOCK, [(3, (170, 240))]),
    "czi/CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi": (0.0905766741522, TimesOrigin.SUBBLOCK, [(3, (200, 300))]),
    "czi/S3_1Pos_2Mosaic_T1_Z1_CH1.czi": (
        1.6,
        TimesOrigin.SUBBLOCK,
        [(1, (122, 295)), (1, (64, 64)), (1, (237, 352))],
    ),
    "czi/WellD6-7_S2.czi": (0.1, TimesOrigin.SUBBLOCK, [(1, (440, 544)), (1, (440, 544))]),
    "czi/test.czi": (0.62392578125, TimesOrigin.SUBBLOCK, [(1, (512, 512))]),
    "czi/testwell96_A9_1024x1024_Nuc.czi": (0.457150682504, TimesOrigin.SUBBLOCK, [(1, (1024, 1024))]),
    "czi/tiles_time_z.czi": (1.66053164193, TimesOrigin.ATTACHMENT, [(2, (512, 512))]),
    "two-channel/ecoli_puncta_phase_t30.czi": (None, TimesOrigin.NONE, [(30, (331, 362))]),
}
REFUSALS = {
    "czi/CD_s_1_t_3_c_2_z_5.czi": "--aggregates 0 --cells 1",
    "czi/CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi": "one channel only",
    "czi/S3_1Pos_2Mosaic_T1_Z1_CH1.czi": "not a time-lapse",
    "czi/WellD6-7_S2.czi": "not a time-lapse",
    "czi/test.czi": "not a time-lapse",
    "czi/testwell96_A9_1024x1024_Nuc.czi": "not a time-lapse",
    "two-channel/ecoli_puncta_phase_t30.czi": "--pixel-size-um SIZE --interval-s SECONDS",
}


def planes_of_pylibczirw(path: Path, *, scene: int, frame: int, channel: int) -> list[np.ndarray]:
    """All Z planes by an independent reader."""
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as document:
        depth = document.total_bounding_box.get("Z", (0, 1))[1]
        where = scene if document.scenes_bounding_rectangle else None
        return [
            document.read(plane={"T": frame, "C": channel, "Z": z}, scene=where)[..., 0].copy() for z in range(depth)
        ]


def test_no_real_file_is_forgotten(shared_data):
    found = {f"{path.parent.name}/{path.name}" for path in shared_data.glob("*/*.czi")}
    assert found == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_plane_equals_an_independent_readers(shared_data, name):
    path = shared_data / name
    source = CziSource(path)
    complete = source.poll().complete
    assert [len(frames) for frames in complete.values()] == [
        scene.n_frames for scene in source.metadata.scenes for _ in source.metadata.channels
    ]
    for (scene, channel), frames in complete.items():
        for frame in frames:
            stack = planes_of_pylibczirw(path, scene=scene, frame=frame, channel=channel)
            np.testing.assert_array_equal(source.read(scene, frame, channel), np.max(stack, axis=0))
            last = CziSource(path, z=len(stack) - 1).read(scene, frame, channel)
            np.testing.assert_array_equal(last, stack[-1])


@pytest.mark.parametrize("name", FILES)
def test_reading_by_library_gives_the_same(shared_data, name):
    path = shared_data / name
    ours, theirs = CziSource(path), CziSource(path, reader="library")
    for (scene, channel), frames in ours.poll().complete.items():
        for frame in frames[:3]:
            np.testing.assert_array_equal(ours.read(scene, frame, channel), theirs.read(scene, frame, channel))


@pytest.mark.parametrize("name", FILES)
def test_frames_and_shapes_are_aicspylibczis(shared_data, name):
    size_um, origin, scenes = FILES[name]
    metadata = CziSource(shared_data / name).metadata
    assert metadata.pixel_size_um == (None if size_um is None else pytest.approx(size_um, rel=1e-11))
    assert metadata.times_origin is origin
    assert [(scene.n_frames, scene.shape_yx) for scene in metadata.scenes] == scenes
    with aicspylibczi_file(shared_data / name) as theirs:
        # one entry stands for all scenes where they are alike
        shapes = [dims for dims in theirs.get_dims_shape() for _ in range(*dims.get("S", (0, 1)))]
    for scene, dims in zip(metadata.scenes, shapes, strict=True):
        first, last = dims.get("T", (0, 1))
        assert scene.n_frames == last - first
        if dims.get("M", (0, 1))[1] == 1:
            assert scene.shape_yx == (dims["Y"][1], dims["X"][1])


@pytest.mark.parametrize("name", FILES)
def test_processes_or_is_refused_with_what_is_missing(shared_data, name):
    metadata = CziSource(shared_data / name).metadata
    if name in REFUSALS:
        with pytest.raises(MetadataError, match=REFUSALS[name]):
            resolve(metadata)
    else:
        assert resolve(metadata).roles == {ChannelRole.AGGREGATES: 0, ChannelRole.CELLS: 1}


def test_two_channel_film_with_what_its_user_adds(shared_data):
    metadata = CziSource(shared_data / "two-channel/ecoli_puncta_phase_t30.czi").metadata
    acquisition = resolve(metadata, pixel_size_um=0.1, interval_s=60)
    assert acquisition.roles == {ChannelRole.AGGREGATES: 0, ChannelRole.CELLS: 1}
    assert acquisition.reduction == 2
    assert acquisition.scenes[0].times_s[-1] == 29 * 60


def test_times_are_those_in_the_file(shared_data):
    times = CziSource(shared_data / "czi/CD_s_1_t_3_c_2_z_5.czi").metadata.scenes[0].times_s
    np.testing.assert_allclose(times, [0, 60.075, 120.15], atol=0.1)
    times = CziSource(shared_data / "czi/tiles_time_z.czi").metadata.scenes[0].times_s
    np.testing.assert_allclose(times, [0, 128.65086452 - 122.60496782], atol=1e-6)


def test_scene_names_are_the_microscopes(shared_data):
    names = [s.name for s in CziSource(shared_data / "czi/S3_1Pos_2Mosaic_T1_Z1_CH1.czi").metadata.scenes]
    assert names == ["TR1", "P1", "TR2"]


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_copy_loses_only_what_is_cut_off(shared_data, tmp_path, fraction):
    whole = shared_data / "czi/CD_s_1_t_3_c_2_z_5.czi"  # its directory stands before its images
    content = whole.read_bytes()
    cut = tmp_path / "cut.czi"
    cut.write_bytes(content[: int(len(content) * fraction)])
    original = CziSource(whole, z=0)
    source = CziSource(cut, z=0)
    if fraction == 0.2:
        with pytest.raises(SourceError, match="truncated"):
            source.poll()
        return
    complete = source.poll().complete
    n_complete = 0
    for key, frames in complete.items():
        for frame in frames:
            np.testing.assert_array_equal(source.read(key[0], frame, key[1]), original.read(key[0], frame, key[1]))
            n_complete += 1
    assert n_complete == 6 if fraction > 0.99 else n_complete < 6
    assert source.metadata.identity != original.metadata.identity
