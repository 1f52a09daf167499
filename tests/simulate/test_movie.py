"""Pixels are a function of the specification alone, and a movie is what a microscope would have written."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from aicspylibczi import CziFile as AicsCzi
from pylibCZIrw import czi as pyczi

from phagostat.model.errors import SettingsError, SourceError
from phagostat.simulate import SimulationSpec, iter_frames, read_truth, simulate
from phagostat.simulate.scenarios import (
    SceneOverrides,
    black_frame,
    blurred_burst,
    calm,
    constant_frame,
    missing_frame,
    missing_plane,
    saturated_frame,
    stage_jump,
)

SMALL = SimulationSpec(shape_yx=(128, 192), frames=6, scenes=2, seed=11)


@contextmanager
def aics_czi(path: Path) -> Iterator[AicsCzi]:
    """aicspylibczi leaves the file to the garbage collector; hand it one that is closed."""
    with path.open("rb") as stream:
        yield AicsCzi(stream)


def planes_of(spec: SimulationSpec, scene: int = 0, **options: object) -> dict[int, tuple[np.ndarray, ...]]:
    return {frame.frame: frame.planes for frame in iter_frames(spec, scene, **options)}


def test_same_seed_same_bytes_other_seed_other_bytes() -> None:
    first, again = planes_of(SMALL), planes_of(SMALL)
    other = planes_of(SimulationSpec(shape_yx=(128, 192), frames=6, scenes=2, seed=12))
    for frame in range(6):
        for channel in range(2):
            assert first[frame][channel].tobytes() == again[frame][channel].tobytes()
            assert first[frame][channel].tobytes() != other[frame][channel].tobytes()


def test_any_subset_in_any_order_gives_the_same_frames() -> None:
    everything, some = planes_of(SMALL, 1), planes_of(SMALL, 1, frames=[4, 1])
    assert list(some) == [4, 1]
    for frame, planes in some.items():
        assert all(np.array_equal(a, b) for a, b in zip(planes, everything[frame], strict=True))


def test_number_of_scenes_does_not_change_a_scene() -> None:
    alone = planes_of(SimulationSpec(shape_yx=(128, 192), frames=6, scenes=1, seed=11))
    assert np.array_equal(alone[3][0], planes_of(SMALL)[3][0])


def test_noise_is_drawn_afresh_for_every_frame() -> None:
    spec = SimulationSpec(
        shape_yx=(128, 128), frames=3, seed=0, scenario=SceneOverrides(black_frames=frozenset({0, 1}))
    )
    planes = planes_of(spec)
    assert not np.array_equal(planes[0][0], planes[1][0])
    assert not np.array_equal(planes[0][0], planes[0][1])
    correlation = np.corrcoef(planes[0][0].ravel(), planes[1][0].ravel())[0, 1]
    assert abs(correlation) < 0.05


@pytest.mark.parametrize("preset", ["easy", "default", "hard"])
def test_every_preset_runs(preset: str) -> None:
    for frame in iter_frames(SimulationSpec(preset=preset, shape_yx=(192, 192), frames=3, scenes=1, seed=7)):
        aggregates, cells = frame.planes
        assert aggregates.dtype == cells.dtype == np.uint16
        assert aggregates.max() > np.median(aggregates) * 2
        assert cells.std() > 100
        assert (frame.labels > 0).any()


def test_shapes_lengths_and_pixel_sizes_are_free() -> None:
    scenario = {1: SceneOverrides(shape_yx=(66, 150), n_frames=2)}
    spec = SimulationSpec(
        shape_yx=(99, 129), frames=3, scenes=2, seed=1, pixel_size_um=0.2, reduction=3, scenario=scenario
    )
    assert [frame.planes[0].shape for frame in iter_frames(spec, 0)] == [(99, 129)] * 3
    second = list(iter_frames(spec, 1))
    assert [frame.planes[0].shape for frame in second] == [(66, 150)] * 2
    assert second[0].labels.shape == (22, 50)


def test_named_situations_appear_in_pixels_and_truth(tmp_path: Path) -> None:
    scenario = (
        calm() | blurred_burst(1, 2, sigma_px=4.0) | stage_jump(3, (9.0, -6.5)) | black_frame(4) | constant_frame(5)
        | saturated_frame(6) | missing_frame(7) | missing_plane(8, 1)
    )  # fmt: skip
    spec = SimulationSpec(shape_yx=(192, 192), frames=9, scenes=1, seed=2, scenario=scenario)
    frames = list(iter_frames(spec))
    rows = [frame.frame_row for frame in frames]
    assert [row[9] for row in rows] == ["normal"] * 4 + ["black", "constant", "saturated", "missing", "normal"]
    assert [row[5] for row in rows[:4]] == [0.0, 4.0, 4.0, 0.0]
    assert [row[3:5] for row in rows[2:5]] == [(0.0, 0.0), (9.0, -6.5), (9.0, -6.5)]
    detail = [np.var(np.diff(frame.planes[1].astype(float), axis=0)) for frame in frames[:4]]
    assert max(detail[1:3]) < 0.7 * min(detail[0], detail[3])
    assert frames[4].planes[1].mean() < 150
    assert np.ptp(frames[5].planes[0]) == 0
    assert frames[6].planes[0].min() == 65535
    assert frames[7].planes == (None, None)
    assert frames[8].planes[1] is None
    assert frames[8].planes[0] is not None


def test_drawn_shifts_stay_recoverable() -> None:
    for seed in range(20):
        spec = SimulationSpec(preset="hard", shape_yx=(512, 512), frames=210, scenes=1, seed=seed)
        simulated = spec.parameters(0)
        from phagostat.simulate.conditions import draw_conditions

        conditions = draw_conditions(
            n_frames=210, interval_s=120.0, shape_yx=(512, 512), parameters=simulated, overrides=SceneOverrides(),
            random=spec.random(0, 1),
        )  # fmt: skip
        assert np.ptp(conditions.shift_yx_px, axis=0).max() < 0.2 * 512 + 10 * simulated.jitter_px


def test_movie_is_a_genuine_czi_for_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "movie.czi"
    scenario = {0: missing_plane(2, 1)}
    seen: list[tuple[int, int]] = []
    report = simulate(
        path, seed=3, scenes=2, frames=4, shape_yx=(128, 192), interval_s=90.0, scenario=scenario,
        progress=lambda done, total, label: seen.append((done, total)),
    )  # fmt: skip
    assert report.n_planes == 15
    assert seen[-1] == (8, 8)
    spec = SimulationSpec(seed=3, scenes=2, frames=4, shape_yx=(128, 192), interval_s=90.0, scenario=scenario)
    expected = planes_of(spec, 1)
    with aics_czi(path) as aics:
        assert aics.get_dims_shape()[0]["S"] == (0, 2)
        assert aics.get_dims_shape()[0]["T"] == (0, 4)
        assert aics.get_dims_shape()[0]["C"] == (0, 2)
        for frame in range(4):
            for channel in range(2):
                plane, _ = aics.read_image(S=1, T=frame, C=channel)
                assert np.array_equal(np.squeeze(plane), expected[frame][channel])
        assert float(aics.meta.find(".//Scaling/Items/Distance[@Id='X']/Value").text) == pytest.approx(0.103e-6)
        assert aics.meta.find(".//Dimensions/T/Positions/List/Offsets").text == "0 90 180 270"
        names = [channel.get("Name") for channel in aics.meta.findall(".//Dimensions/Channels/Channel")]
        methods = [node.text for node in aics.meta.findall(".//Dimensions/Channels/Channel/ContrastMethod")]
    assert (names, methods) == (["mCherry", "PhC"], ["Fluorescence", "PhaseContrast"])
    with pyczi.open_czi(str(path)) as document:
        assert document.total_bounding_box["T"] == (0, 4)
        assert len(document.scenes_bounding_rectangle) == 2


def test_planes_come_in_the_order_of_a_recording(tmp_path: Path) -> None:
    simulate(tmp_path / "m.czi", scenes=2, frames=2, shape_yx=(64, 64))
    czifile = pytest.importorskip("czifile")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # czifile misses an attachment directory, which is optional
        with czifile.CziFile(tmp_path / "m.czi") as file:
            order = sorted(file.filtered_subblock_directory, key=lambda entry: entry.file_position)
            starts = [dict(zip(entry.axes, entry.start, strict=True)) for entry in order]
    assert [(s["T"], s["S"], s["C"]) for s in starts] == [
        (t, s, c) for t in range(2) for s in range(2) for c in range(2)
    ]


@pytest.mark.parametrize("form", ["offsets", "interval", "attachment", "none"])
def test_times_are_stated_in_the_form_that_is_asked_for(tmp_path: Path, form: str) -> None:
    czifile = pytest.importorskip("czifile")
    path = tmp_path / "m.czi"
    simulate(path, scenes=1, frames=3, shape_yx=(64, 64), interval_s=30.0, times_form=form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with czifile.CziFile(path) as file:
            text = file.metadata()
            stamps = [item.data() for item in file.attachments() if item.attachment_entry.name == "TimeStamps"]
            pixels = file.asarray()
    assert pixels.shape[:4] == (1, 3, 2, 1)
    assert ("<Offsets>0 30 60</Offsets>" in text) == (form == "offsets")
    assert ("<Increment>30</Increment>" in text) == (form == "interval")
    if form == "attachment":
        np.testing.assert_allclose(stamps[0], [0.0, 30.0, 60.0])
    else:
        assert not stamps
    assert ("StartTime" in text) == (form != "none")


def test_pixel_size_can_be_left_out(tmp_path: Path) -> None:
    simulate(tmp_path / "m.czi", scenes=1, frames=1, shape_yx=(64, 64), write_pixel_size=False)
    with aics_czi(tmp_path / "m.czi") as aics:
        assert aics.meta.find(".//Scaling/Items/Distance") is None


def test_compressed_movie_has_the_same_pixels(tmp_path: Path) -> None:
    for name, compression in (("raw", None), ("packed", "zstd")):
        simulate(tmp_path / f"{name}.czi", scenes=1, frames=2, shape_yx=(128, 128), compression=compression)
    with aics_czi(tmp_path / "raw.czi") as raw, aics_czi(tmp_path / "packed.czi") as packed:
        assert np.array_equal(raw.read_image(S=0)[0], packed.read_image(S=0)[0])
    assert (tmp_path / "packed.czi").stat().st_size < (tmp_path / "raw.czi").stat().st_size


def test_pace_is_kept(tmp_path: Path) -> None:
    begun = time.perf_counter()
    simulate(tmp_path / "m.czi", scenes=1, frames=5, shape_yx=(64, 64), pace_s=0.1)
    assert time.perf_counter() - begun >= 0.4


def test_interrupted_movie_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    def stop(done: int, total: int, label: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "m.czi", scenes=1, frames=4, shape_yx=(64, 64), progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "mild"}, "preset"),
        ({"mode": "real"}, "mode"),
        ({"shape_yx": (32, 32)}, "64 px"),
        ({"shape_yx": (65, 64)}, "multiples of 2"),
        ({"frames": 0}, "frames"),
        ({"interval_s": -1.0}, "interval_s"),
        ({"scenario": SceneOverrides(parameters={"cell_colour": 1.0})}, "parameter"),
        ({"times_form": "sundial"}, "times"),
        ({"compression": "zip"}, "compression"),
    ],
)
def test_senseless_options_are_refused_in_one_sentence(tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises((SettingsError, SourceError)) as caught:
        simulate(tmp_path / "m.czi", **{"scenes": 1, "frames": 1, "shape_yx": (64, 64), **options})
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m.czi").write_text("precious")
    with pytest.raises(SourceError, match="exists already"):
        simulate(tmp_path / "m.czi")
    assert (tmp_path / "m.czi").read_text() == "precious"


def test_truth_lies_beside_the_movie(tmp_path: Path) -> None:
    simulate(tmp_path / "m.czi", scenes=2, frames=3, shape_yx=(128, 128), seed=6)
    truth = read_truth(tmp_path / "m.czi")
    spec = SimulationSpec(scenes=2, frames=3, shape_yx=(128, 128), seed=6)
    frames = list(iter_frames(spec, 1))
    rows = truth.scene(truth.frames, 1)
    assert rows["shift_y_px"].tolist() == [frame.frame_row[3] for frame in frames]
    assert np.array_equal(truth.labels(1, 2), frames[2].labels)
    assert truth.document["seed"] == 6
    assert truth.pixel_size_um == 0.103
