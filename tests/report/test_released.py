"""The released data set's layout: names as published, numbers as measured, pictures that our own source reads back."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import PlaneError
from phagostat.report.finished import FinishedOutput, FrameFacts
from phagostat.report.images import write_pngs, write_tiffs
from phagostat.report.released import times_min, write_released_images, write_released_tables
from phagostat.sources import open_source

from .pictures import analyse

# as they stand in the published code and data set
PUBLISHED = {
    "frames_registration_params": "frame_name,x,y,x(microns),y(microns)",
    "phagocytosis_evolution": "time (min),Aggregates count (n),Aggregates total area (micro-meters-square)",
    "blurry_frames_rejection_details": "Name of rejected blurry frames",
    "cells_centroid_features": "frame_name,x (px),y (px),area (px^2)",
    "cell_count_and_total_area": "frame_name,cell count,mean area (microns^2),total area (microns^2)",
    "cell_tracking_report": "time (min),mean speed tracking (microns/min),mean area tracking (microns^2),"
    "mean area (microns^2),total area (microns^2),cell count (n),total movement tracking (microns)",
}


@pytest.fixture(scope="module")
def released(output, tmp_path_factory):
    """Both scenes, with tables and pictures."""
    root = tmp_path_factory.mktemp("released") / "movie"
    for scene in (0, 1):
        write_released_tables(output, scene, root / f"scene_{scene}")
        write_released_images(output, scene, root / f"scene_{scene}")
    return root


def table(released, name, scene=0) -> pd.DataFrame:
    return pd.read_csv(released / f"scene_{scene}" / "CSVs" / f"{name}.csv")


def frames_of(output, scene=0) -> pd.DataFrame:
    found = output.table("frames").to_pandas()
    return found[found.scene == scene].set_index("frame")


def test_names_are_the_published_ones(released):
    for scene in (0, 1):
        there = {path.stem: path.read_text() for path in (released / f"scene_{scene}" / "CSVs").iterdir()}
        assert set(PUBLISHED) - {"cell_tracking_report"} <= set(there) <= set(PUBLISHED)
        for name, text in there.items():
            assert text.splitlines()[0] == PUBLISHED[name]
    assert {path.name for path in (released / "scene_0").iterdir()} == {
        "CSVs", "normalized_cell", "normalized_aggregate", "registered_aggregate", "labeled_cell", "labeled_aggregate",
        "cell_semantic_maps",
    }  # fmt: skip


def test_our_own_source_reads_it_back(output, released):
    source = open_source(released)
    metadata = source.metadata
    assert metadata.pixel_size_um == pytest.approx(output.pixel_size_um)
    assert [scene.n_frames for scene in metadata.scenes] == [7, 3]
    assert [scene.shape_yx for scene in metadata.scenes] == [scene.shape_yx for scene in output.scenes]
    assert metadata.scenes[0].times_s == tuple(120.0 * k for k in range(7))
    compared = 0
    for about in output.scenes:
        for facts in about.frames:
            for channel, role in enumerate((ChannelRole.AGGREGATES, ChannelRole.CELLS)):
                stored = output.image(about.index, facts.frame, role)
                if stored is None:
                    with pytest.raises(PlaneError):
                        source.read(about.index, facts.frame, channel)
                else:
                    np.testing.assert_array_equal(source.read(about.index, facts.frame, channel), stored)
                    compared += 1
    assert compared == 2 * 10 - 3


def test_its_analysis_is_that_of_the_source(output, released, tmp_path):
    """From 16 bits at full size, and from what was exported of it in 8 bits at half the size."""
    again = frames_of(FinishedOutput(analyse(released, tmp_path)))
    before = frames_of(output)
    assert again.verdict.tolist() == before.verdict.tolist()
    assert again.usable.tolist() == before.usable.tolist()
    assert again.time_s.tolist() == pytest.approx(before.time_s.tolist())
    both = (before.verdict == "ok") & (again.verdict == "ok")
    assert both.sum() >= 4
    # the second may have chosen another reference: relative to one frame of both
    for axis in ("shift_y_px", "shift_x_px"):
        here, there = (table[axis][both].to_numpy() * scale for table, scale in ((before, 0.5), (again, 1.0)))
        np.testing.assert_allclose(here - here[0], there - there[0], atol=0.05)


def test_shifts_have_the_published_sign_and_unit(output, released):
    """The published code finds mov(x + dx, y + dy) = ref(x, y), so warping by them undoes the movement."""
    shifts = table(released, "frames_registration_params").set_index("frame_name")
    measured = frames_of(output)
    assert set(shifts.index) == set(measured[measured.verdict == "ok"].index)
    reference = int(measured[measured.is_reference].index[0])
    assert tuple(shifts.loc[reference, ["x", "y"]]) == (0, 0)
    np.testing.assert_allclose(shifts["x(microns)"], measured.shift_x_px[shifts.index] * output.pixel_size_um / 2)
    np.testing.assert_allclose(shifts["y(microns)"], shifts.y * output.pixel_size_um)
    moved_most = (shifts.x.abs() + shifts.y.abs()).idxmax()
    assert shifts.x.abs()[moved_most] > 4
    read = [
        cv2.imread(str(released / "scene_0" / "normalized_aggregate" / f"{k}.png"), cv2.IMREAD_UNCHANGED).astype(float)
        for k in (reference, moved_most)
    ]
    inner = (slice(24, -24), slice(24, -24))
    errors = {}
    for sign in (1, 0, -1):
        warp = np.array([[1, 0, sign * shifts.x[moved_most]], [0, 1, sign * shifts.y[moved_most]]])
        back = cv2.warpAffine(read[1], warp, read[1].shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        errors[sign] = np.abs(back - read[0])[inner].mean()
    assert errors[1] < 0.5 * min(errors[0], errors[-1])
    warped = cv2.imread(str(released / "scene_0" / "registered_aggregate" / f"{moved_most}.png"), cv2.IMREAD_UNCHANGED)
    assert np.abs(warped[inner] - read[0][inner]).mean() == pytest.approx(errors[1], abs=0.6)


def test_rejected_frames_are_named_and_counted_nowhere_else(output, released):
    assert table(released, "blurry_frames_rejection_details").iloc[:, 0].tolist() == [2]  # 5 was never acquired
    measured = frames_of(output)
    segmented = measured[measured.segmentation_verdict == "ok"]
    totals = table(released, "cell_count_and_total_area").set_index("frame_name")
    assert totals.index.tolist() == segmented.index.tolist()
    np.testing.assert_array_equal(totals["cell count"], segmented.cell_count)
    np.testing.assert_allclose(totals["total area (microns^2)"], segmented.cell_area_um2)
    np.testing.assert_allclose(totals["mean area (microns^2)"] * totals["cell count"], segmented.cell_area_um2)
    assert 4 not in table(released, "cells_centroid_features").frame_name.tolist()
    times = table(released, "phagocytosis_evolution")["time (min)"].tolist()
    assert times == [2.0 * k for k in measured[measured.usable].index if 2.0 * k in times]
    assert 4.0 not in times
    assert 10.0 not in times


def test_cells_lie_where_the_labels_are(output, released):
    cells = table(released, "cells_centroid_features")
    labels = cv2.imread(str(released / "scene_0" / "labeled_cell" / "0.png"), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, output.labels(0, 0, "cells"))
    here = cells[cells.frame_name == 0]
    assert len(here) == labels.max() > 0
    for label, row in enumerate(here.itertuples(index=False), start=1):
        y, x = np.nonzero(labels == label)
        assert (row[1], row[2]) == pytest.approx((x.mean(), y.mean()), abs=0.01)
        assert row[3] == y.size


def test_maps_and_labels_are_those_stored(output, released):
    probability = tifffile.imread(released / "scene_0" / "cell_semantic_maps" / "1.tif")
    np.testing.assert_array_equal(probability, output.probability(0, 1))
    aggregates = cv2.imread(str(released / "scene_0" / "labeled_aggregate" / "1.png"), cv2.IMREAD_UNCHANGED)
    bright = cv2.imread(str(released / "scene_0" / "registered_aggregate" / "1.png"), cv2.IMREAD_UNCHANGED)
    assert bright[aggregates > 0].mean() > 2 * bright[aggregates == 0].mean()
    assert not (released / "scene_0" / "normalized_cell" / "4.png").exists()
    assert not (released / "scene_0" / "labeled_aggregate" / "2.png").exists()


def test_tracks_and_eaten_area_come_from_their_tables(own_folder, tmp_path):
    """Made-up tables, so that every number can be told beforehand."""
    tables = own_folder / "tables"
    cells = pq.read_table(tables / "cells.parquet").to_pandas()
    cells = cells[cells.scene == 0].copy()
    cells["track"] = np.where(cells.cell == 1, 1, 2).astype(np.int32)
    cells["step_um"] = np.where(cells.frame == 0, np.nan, np.where(cells.cell == 1, 3.0, 50.0))
    cells["speed_um_per_min"] = cells.step_um / 2
    pq.write_table(pa.Table.from_pandas(cells, preserve_index=False), tables / "cells.parquet")
    tracks = pa.table({"scene": [0, 0], "track": [1, 2], "kept": [True, False]})
    pq.write_table(tracks, tables / "tracks.parquet")
    eaten = {
        "scene": [0, 0, 1],
        "frame": [0, 3, 0],
        "reference_aggregates_left": [9, 8, 1],
        "eaten_area_um2": [-0.25, 1.5, 7.0],
    }
    pq.write_table(pa.table(eaten), tables / "eaten.parquet")
    write_released_tables(FinishedOutput(own_folder), 0, tmp_path / "scene_0")
    evolution = (tmp_path / "scene_0" / "CSVs" / "phagocytosis_evolution.csv").read_text()
    assert evolution.splitlines()[1:] == ["0.0,9,-0.25", "6.0,8,1.5"]
    report = pd.read_csv(tmp_path / "scene_0" / "CSVs" / "cell_tracking_report.csv")
    assert ",".join(report.columns) == PUBLISHED["cell_tracking_report"]
    first, later = report.iloc[0], report.iloc[1]
    assert np.isnan(first["mean speed tracking (microns/min)"])
    assert np.isnan(first["total movement tracking (microns)"])
    assert later["mean speed tracking (microns/min)"] == 1.5  # the kept track alone
    assert later["total movement tracking (microns)"] == 3.0
    at = cells[(cells.frame == 0) & (cells.cell == 1)]
    assert first["mean area tracking (microns^2)"] == pytest.approx(at.area_um2.iloc[0])


@pytest.mark.parametrize(
    ("times_s", "expected"),
    [
        ([0, 120, 240], [0, 2, 4]),
        ([0, 119.2, 241, 360], [0, 2, 4, 6]),
        ([0, 120, 240, 3600], [0, 2, 4, 60]),
        ([0, float("nan"), 240], [0, 2, 4]),
        ([0, 120, 1240, 1360], [0, 2, 20.666667, 22.666667]),
        ([5], [0.083333]),
    ],
)
def test_times_are_numbers_times_the_interval_unless_there_was_a_pause(times_s, expected):
    frames = [FrameFacts(i, t, True, "ok", "", None, False) for i, t in enumerate(times_s)]
    assert times_min(frames) == pytest.approx(expected, abs=1e-6)


# ---- TIFF and PNG ----------------------------------------------------------------------------------------------------


def test_stacks_say_pixel_size_times_and_gaps(output, tmp_path):
    paths = write_tiffs(output, 0, tmp_path)
    assert [path.name for path in paths] == [
        f"scene_0_{name}.ome.tif" for name in ("image", "labels_cells", "labels_aggregates", "probability")
    ]
    image = tifffile.imread(paths[0])
    assert image.shape == (7, 2, *output.scenes[0].shape_yx)
    for frame in range(7):
        for channel, role in enumerate((ChannelRole.AGGREGATES, ChannelRole.CELLS)):
            plane = output.image(0, frame, role)
            np.testing.assert_array_equal(image[frame, channel], 0 if plane is None else plane)
    labels = tifffile.imread(paths[1])
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels[1], output.labels(0, 1, "cells"))
    np.testing.assert_array_equal(tifffile.imread(paths[3])[3], output.probability(0, 3))
    with tifffile.TiffFile(paths[0]) as opened:
        assert opened.is_ome
        xml = opened.ome_metadata
    assert '<M K="frames without cells">4 5</M>' in xml
    assert '<M K="frames without aggregates">5</M>' in xml
    with Image.open(paths[0]) as opened:  # programs that do not read OME-XML: pixels a centimetre
        assert opened.tag_v2[296] == 3
        assert 1e4 / float(opened.tag_v2[282]) == pytest.approx(output.pixel_size_um)
        assert opened.tag_v2[282] == opened.tag_v2[283]
    metadata = open_source(paths[0]).metadata
    assert metadata.pixel_size_um == pytest.approx(output.pixel_size_um)
    assert metadata.scenes[0].times_s == pytest.approx([f.time_s for f in output.scenes[0].frames])
    assert [channel.name for channel in metadata.channels] == ["aggregates", "cells"]


def test_stacks_of_chosen_frames_are_the_same_every_time(output, tmp_path):
    one, other = (write_tiffs(output, 1, tmp_path / name, frames=[0, 2]) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    assert tifffile.imread(one[0]).shape[0] == 2
    assert open_source(one[0]).metadata.scenes[0].times_s == pytest.approx((0, 240), abs=2)


def test_pngs_are_the_stored_planes(output, tmp_path):
    told = []
    count = write_pngs(output, 0, tmp_path, progress=lambda *at: told.append(at))
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == count
    assert told[-1] == (7, 7)
    assert {path.parent.name for path in files} == {
        "aggregates",
        "cells",
        "labels_cells",
        "labels_aggregates",
        "probability",
    }
    read = cv2.imread(str(tmp_path / "labels_aggregates" / "0003.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, output.labels(0, 3, "aggregates"))
    assert [path.stem for path in sorted((tmp_path / "cells").iterdir())] == ["0000", "0001", "0002", "0003", "0006"]
