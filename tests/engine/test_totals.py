from __future__ import annotations

import math

import pyarrow as pa
import pytest

from phagostat.engine.totals import acquisition_totals, scene_totals


def frame(cells, area, verdict="ok"):
    return {"segmentation_verdict": verdict, "cell_count": cells, "cell_area_um2": area}


def tracks(*rows):
    names = ("kept", "mean_speed_um_per_min", "lag_speed_um_per_min", "movement_um")
    kinds = (pa.bool_(), pa.float64(), pa.float64(), pa.float64())
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return pa.table({name: pa.array(c, k) for name, c, k in zip(names, columns, kinds, strict=True)})


def scene(accepted, **values):
    counts = {"frames": 10, "frames_missing": 1, "frames_usable": 8, "threshold_counts": 50.0}
    sums = {"reference_aggregates": 5, "reference_area_um2": 40.0, "eaten_area_um2": 10.0, "tracks": 3}
    means = dict.fromkeys(("mean_cell_count", "mean_cell_area_um2", "mean_speed_um_per_min"), 2.0)
    more = {"mean_lag_speed_um_per_min": math.nan, "mean_movement_um": 1.0, "tracks_kept": 2}
    return {"accepted": accepted, **counts, **sums, **means, **more, **values}


def test_cells_are_averaged_over_segmented_frames_and_kept_tracks():
    frames = [frame(2, 300.0), frame(4, 300.0), frame(None, None, "unusable")]
    found = scene_totals(frames, tracks((True, 0.5, 0.2, 30.0), (True, 0.0, math.nan, 0.0), (False, 9.0, 9.0, 9.0)))
    assert found["mean_cell_count"] == 3
    assert found["mean_cell_area_um2"] == 100
    assert found["mean_speed_um_per_min"] == 0.25  # standing still is a value
    assert found["mean_lag_speed_um_per_min"] == 0.2  # missing is none
    assert found["mean_movement_um"] == 15


def test_nothing_to_average_is_missing():
    found = scene_totals([frame(0, 0.0)], tracks())
    assert found["mean_cell_count"] == 0
    assert math.isnan(found["mean_cell_area_um2"])
    assert math.isnan(found["mean_speed_um_per_min"])


def test_rejected_scenes_are_counted_but_not_summed():
    scenes = [scene(True), scene(True, eaten_area_um2=None, mean_cell_count=4.0), scene(False, mean_cell_count=99.0)]
    found = acquisition_totals(scenes, pixel_size_um=0.1, has_aggregates=True)
    assert (found["scenes"], found["scenes_accepted"], found["scenes_counted"]) == (3, 2, 2)
    assert found["frames"] == 30
    assert found["reference_area_um2"] == 80
    assert found["eaten_area_um2"] == 10
    assert found["eaten_fraction"] == 0.25  # of the scene whose eaten area is known
    assert found["mean_cell_count"] == 3
    assert math.isnan(found["mean_lag_speed_um_per_min"])


def test_nothing_accepted_leaves_no_sum():
    found = acquisition_totals([scene(False)], pixel_size_um=0.1, has_aggregates=True)
    assert found["scenes_accepted"] == 0
    assert found["eaten_area_um2"] is None
    assert found["eaten_fraction"] is None


def test_without_aggregates_every_scene_counts():
    found = acquisition_totals(
        [scene(None, eaten_area_um2=None, reference_area_um2=None)], pixel_size_um=0.1, has_aggregates=False
    )
    assert found["scenes_accepted"] is None
    assert found["scenes_counted"] == 1
    assert found["tracks"] == 3
    assert found["mean_cell_count"] == pytest.approx(2)
