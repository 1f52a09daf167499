"""Columns of the final tables: names, types, units and meanings, as docs/tables.md says them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column of a final table: name, type, unit and meaning."""

    name: str
    kind: pa.DataType
    unit: str
    meaning: str


_INT, _FLOAT, _TEXT, _BOOL = pa.int32(), pa.float64(), pa.string(), pa.bool_()

FRAME_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("scene_name", _TEXT, "", "name of the scene in the source"),
    Column("frame", _INT, "", "index of the frame, from 0"),
    Column("time_s", _FLOAT, "s", "acquisition time since the scene's first frame"),
    Column("verdict", _TEXT, "", "ok, or why the frame has no shift: missing, unreadable, black, constant, saturated, "
           "unregistered, no_reference, failed"),
    Column("cells_verdict", _TEXT, "", "ok, empty (even light: there are no cells), or what is wrong with the cell "
           "channel"),
    Column("aggregates_verdict", _TEXT, "", "ok, or why aggregates were not measured; no_channel: there is none that "
           "shows them; bleaching_undetermined: measured "
           "at the unfaded threshold, since too few reference aggregates are left to tell the fading"),
    Column("reason", _TEXT, "", "what the verdict rests on, in words"),
    Column("is_reference", _BOOL, "", "whether this is the scene's reference frame"),
    Column("shift_y_px", _FLOAT, "px (native)", "what stands at p in the reference stands at p + shift here"),
    Column("shift_x_px", _FLOAT, "px (native)", "same, along x"),
    Column("valid_top_px", _INT, "px (native)", "the part of the reference's grid that this frame shows: first row"),
    Column("valid_bottom_px", _INT, "px (native)", "same: row after the last"),
    Column("valid_left_px", _INT, "px (native)", "same: first column"),
    Column("valid_right_px", _INT, "px (native)", "same: column after the last"),
    Column("shift_error_y_px", _FLOAT, "px (native)", "standard error of the shift"),
    Column("shift_error_x_px", _FLOAT, "px (native)", "same, along x"),
    Column("shift_confidence", _FLOAT, "", "0 to 1, as the method defines it"),
    Column("shift_method", _TEXT, "", "how the shift was estimated (tiles: aggregates; glass: what is fixed in the "
           "cell channel, where too few aggregates are left; reference: it is the reference); none: it was not, and "
           "is taken as 0, since there is no aggregate channel"),
    Column("sharpness", _FLOAT, "", "sharpness of the aggregate channel; compare within a scene"),
    Column("focus", _TEXT, "", "sharp, blurred, or unknown where sharpness cannot be told"),
    Column("usable", _BOOL, "", "whether later steps use the frame: registered and sharp (without an "
           "aggregate channel: its cells can be seen)"),
    Column("focus_reason", _TEXT, "", "why the frame is not usable, in words"),
    Column("sharpness_ratio", _FLOAT, "", "sharpness relative to the last accepted frames"),
    Column("ramp_ratio", _FLOAT, "", "sharpness relative to the best accepted frame of the last half hour"),
    Column(
        "matched_ratio", _FLOAT, "", "share of the reference aggregates that show, relative to the last accepted frames"
    ),
    Column("median_counts", _FLOAT, "counts", "median of the aggregate channel"),
    Column("high_counts", _FLOAT, "counts", "99.9 percentile of the aggregate channel"),
    Column("saturated_fraction", _FLOAT, "", "share of saturated pixels of the aggregate channel"),
    Column("background_counts", _FLOAT, "counts", "background level of the aggregate channel under an even lamp"),
    Column("bleaching_factor", _FLOAT, "", "brightness of untouched aggregates against the reference frame"),
    Column("bleaching_aggregates", _INT, "", "number of aggregates that agree on it"),
    Column("threshold_counts", _FLOAT, "counts", "threshold above background that was used in this frame"),
    Column("aggregate_count", _INT, "", "number of aggregates"),
    Column("aggregate_area_um2", _FLOAT, "um2", "their total area"),
    Column("segmentation_verdict", _TEXT, "", "ok, or why there are no cells: unusable, or what is wrong with the cell "
           "channel"),
    Column("cell_count", _INT, "", "number of cells"),
    Column("cell_area_um2", _FLOAT, "um2", "their total area"),
    Column("incoherent_count", _INT, "", "cells that no seed of the window lies in: seeded from this frame alone"),
    Column("lost_seed_count", _INT, "", "seeds of the window without foreground in this frame"),
    Column("window_frames", _INT, "", "frames of the window that had any weight"),
    Column("window_short", _BOOL, "", "whether the movie's end cut the window"),
)  # fmt: skip
"""Columns of ``frames``."""

_CELL_MEANS = (
    Column("mean_cell_count", _FLOAT, "", "mean number of cells in a frame"),
    Column("mean_cell_area_um2", _FLOAT, "um2", "mean area of a cell in a frame"),
    Column("mean_speed_um_per_min", _FLOAT, "um/min", "mean of the kept tracks' mean speeds: their jitter included"),
    Column("mean_lag_speed_um_per_min", _FLOAT, "um/min", "mean of the kept tracks' lag speeds (tracking.lag_min)"),
    Column("mean_movement_um", _FLOAT, "um", "mean of the kept tracks' movements"),
)

SCENE_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("scene_name", _TEXT, "", "name of the scene in the source"),
    Column("frames", _INT, "", "number of frames"),
    Column("frames_ok", _INT, "", "number of registered frames"),
    Column("frames_usable", _INT, "", "number of frames that are registered and sharp"),
    Column("verdict", _TEXT, "", "ok, or unusable where no frame can be the reference"),
    Column("reason", _TEXT, "", "why this reference frame, or why none"),
    Column("reference_frame", _INT, "", "index of the reference frame"),
    Column("threshold_counts", _FLOAT, "counts", "aggregate threshold of the acquisition, above background"),
    Column("scene_threshold_counts", _FLOAT, "counts", "what this scene's reference alone would give"),
    Column("threshold_deviates", _BOOL, "", "whether that is more than 25 % off the median of all scenes"),
    Column("max_shift_px", _FLOAT, "px (native)", "largest shift along an axis of the usable frames"),
    Column("frames_missing", _INT, "", "number of frames that the source does not have"),
    Column("frames_blurred", _INT, "", "number of acquired frames that are out of focus"),
    Column("frames_unusable", _INT, "", "number of acquired frames that cannot be used and are not blurred"),
    Column("blurred_fraction", _FLOAT, "", "share of blurred frames among the acquired ones"),
    Column("unusable_fraction", _FLOAT, "", "share of all frames that cannot be used: missing, blurred, unregistered"),
    Column(
        "ledger_verdict",
        _TEXT,
        "",
        "ok, no_ledger where nothing can be followed, or no_channel where none shows aggregates",
    ),
    Column("reference_aggregates", _INT, "", "aggregates of the reference frame, the smallest included"),
    Column("reference_area_um2", _FLOAT, "um2", "their area, without those cut by the border"),
    Column("eaten_area_um2", _FLOAT, "um2", "what was eaten of it by the last used frame"),
    Column("tracks", _INT, "", "number of tracks of cells"),
    Column("tracks_kept", _INT, "", "number of those that last long enough"),
    Column(
        "kept_share",
        _FLOAT,
        "",
        "share of all sights of cells that belong to kept tracks: long tracks select slow, isolated cells",
    ),
    *_CELL_MEANS,
    Column("tracking_verdict", _TEXT, "", "ok, or not_optimal where the solver did not find the best joins"),
    Column(
        "accepted", _BOOL, "", "whether the scene keeps to the criteria of quality; null without an aggregate channel"
    ),
    Column("quality_reason", _TEXT, "", "the figures that this rests on"),
)
"""Columns of ``scenes``."""

ACQUISITION_COLUMNS = (
    Column("scenes", _INT, "", "number of scenes"),
    Column("scenes_accepted", _INT, "", "those that keep to the criteria of quality; null without an aggregate "
           "channel"),
    Column("scenes_counted", _INT, "", "those that sums and means are of: the accepted ones; all without an aggregate "
           "channel"),
    Column("frames", _INT, "", "number of frames of all scenes"),
    Column("frames_missing", _INT, "", "frames that the source does not have"),
    Column("frames_usable", _INT, "", "frames that are registered and sharp"),
    Column("pixel_size_um", _FLOAT, "um", "native pixel size"),
    Column("threshold_counts", _FLOAT, "counts", "aggregate threshold, above background"),
    Column("reference_aggregates", _INT, "", "aggregates of the reference frames, sum of the counted scenes"),
    Column("reference_area_um2", _FLOAT, "um2", "their area, without those cut by the border"),
    Column("eaten_area_um2", _FLOAT, "um2", "what was eaten of it by the last used frame"),
    Column("eaten_fraction", _FLOAT, "", "that over the reference area"),
    Column("tracks", _INT, "", "number of tracks of cells"),
    Column("tracks_kept", _INT, "", "number of those that last long enough"),
    *(replace(column, meaning=f"{column.meaning}; mean of the counted scenes' means") for column in _CELL_MEANS),
)  # fmt: skip
"""Columns of ``acquisition``."""


AGGREGATE_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("frame", _INT, "", "index of the frame, from 0"),
    Column("aggregate", pa.uint16(), "", "label in this frame's label image; numbered anew in every frame"),
    Column("area_px", pa.int64(), "px (analysis)", "number of pixels"),
    Column("area_um2", _FLOAT, "um2", "area"),
    Column("y_px", _FLOAT, "px (native)", "centroid in this frame"),
    Column("x_px", _FLOAT, "px (native)", "same, along x"),
    Column("weighted_y_px", _FLOAT, "px (native)", "centroid weighted by intensity"),
    Column("weighted_x_px", _FLOAT, "px (native)", "same, along x"),
    Column("mean_counts", _FLOAT, "counts", "mean above background, not corrected for bleaching"),
    Column("max_counts", _FLOAT, "counts", "maximum above background"),
    Column("integrated_counts", _FLOAT, "counts x px (analysis)", "sum above background"),
    Column("top_px", _INT, "px (analysis)", "bounding box, first row"),
    Column("left_px", _INT, "px (analysis)", "bounding box, first column"),
    Column("bottom_px", _INT, "px (analysis)", "bounding box, row after the last"),
    Column("right_px", _INT, "px (analysis)", "bounding box, column after the last"),
    Column("major_axis_um", _FLOAT, "um", "long axis of the ellipse of equal second moments"),
    Column("minor_axis_um", _FLOAT, "um", "its short axis"),
    Column("eccentricity", _FLOAT, "", "0 for a circle, towards 1 for a line"),
    Column("orientation_rad", _FLOAT, "rad", "angle between the y axis and the long axis, counter-clockwise"),
    Column("n_saturated_px", pa.int64(), "px (analysis)", "pixels at the camera's white level"),
    Column("touches_border", _BOOL, "", "whether it reaches the edge of the frame"),
    Column("glass_y_px", _FLOAT, "px (native)", "centroid where it lies in the reference frame: y_px minus the shift"),
    Column("glass_x_px", _FLOAT, "px (native)", "same, along x"),
)  # fmt: skip
"""Columns of ``aggregates``."""

CELL_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("frame", _INT, "", "index of the frame, from 0"),
    Column("cell", pa.uint16(), "", "label in this frame's label image; numbered anew in every frame"),
    Column("area_px", pa.int64(), "px (analysis)", "number of pixels"),
    Column("area_um2", _FLOAT, "um2", "area"),
    Column("y_px", _FLOAT, "px (native)", "centroid in this frame"),
    Column("x_px", _FLOAT, "px (native)", "same, along x"),
    Column("registered_y_um", _FLOAT, "um", "centroid where it lies in the reference frame"),
    Column("registered_x_um", _FLOAT, "um", "same, along x"),
    Column("top_px", _INT, "px (analysis)", "bounding box, first row"),
    Column("left_px", _INT, "px (analysis)", "bounding box, first column"),
    Column("bottom_px", _INT, "px (analysis)", "bounding box, row after the last"),
    Column("right_px", _INT, "px (analysis)", "bounding box, column after the last"),
    Column("perimeter_um", _FLOAT, "um", "length of the outline"),
    Column("major_axis_um", _FLOAT, "um", "long axis of the ellipse of equal second moments"),
    Column("minor_axis_um", _FLOAT, "um", "its short axis"),
    Column("eccentricity", _FLOAT, "", "0 for a circle, towards 1 for a line"),
    Column("orientation_rad", _FLOAT, "rad", "angle between the y axis and the long axis, counter-clockwise"),
    Column("mean_probability", _FLOAT, "", "mean cell probability of its pixels"),
    Column("certain_area_um2", _FLOAT, "um2", "area of its pixels above 0.98, which the published code counts"),
    Column("touches_border", _BOOL, "", "whether it reaches the edge of the frame"),
    Column("n_touching", _INT, "", "number of other cells that it touches"),
    Column("incoherent", _BOOL, "", "whether it grew from a seed of this frame alone: none of the window lay in it"),
)  # fmt: skip
"""Columns of ``cells``."""

TRACKED_COLUMNS = (
    Column("track", _INT, "", "number of the track within the scene, from 1"),
    Column("step_um", _FLOAT, "um", "way since the track's cell was seen before; 0: it did not move"),
    Column("speed_um_per_min", _FLOAT, "um/min", "that way over the time since then"),
)
"""Columns of ``cells`` that the tracks give."""

TRACK_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("track", _INT, "", "number of the track within the scene, from 1"),
    Column("first_frame", _INT, "", "frame in which its cell is seen first"),
    Column("last_frame", _INT, "", "frame in which it is seen last"),
    Column("n_frames", _INT, "", "number of frames in which it is seen"),
    Column("duration_min", _FLOAT, "min", "from the first to the last"),
    Column("mean_area_um2", _FLOAT, "um2", "mean area"),
    Column("displacement_um", _FLOAT, "um", "distance from the first to the last place"),
    Column("movement_um", _FLOAT, "um", "sum of all steps"),
    Column("mean_speed_um_per_min", _FLOAT, "um/min", "movement over duration; steps of one frame measure jitter too"),
    Column("lag_speed_um_per_min", _FLOAT, "um/min", "mean distance between sights 10 min apart (tracking.lag_min, "
           "rounded to whole intervals), over that time"),
    Column("msd_um2", _FLOAT, "um2", "mean of that distance squared"),
    Column("jitter_um2", _FLOAT, "um2", "the part of it that does not grow with time"),
    Column("corrected_msd_um2", _FLOAT, "um2", "without that part"),
    Column("kept", _BOOL, "", "whether it lasts as long as tracking.min_duration_min"),
)  # fmt: skip
"""Columns of ``tracks``."""

EATEN_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("frame", _INT, "", "index of the frame, from 0; frames that the ledger does not use have no row"),
    Column("reference_aggregates_left", _INT, "", "aggregates of the reference frame of which something is left"),
    Column("area_left_um2", _FLOAT, "um2", "what is left of them"),
    Column("eaten_area_um2", _FLOAT, "um2", "reference area minus what is left, without what was washed away; not "
           "clipped, so that noise around zero stays around zero"),
    Column("eaten_area_se_um2", _FLOAT, "um2", "its standard error: of areas, of when losses began, of what became of "
           "aggregates; errors of neighbouring frames are alike"),
    Column("eaten_area_isotonic_um2", _FLOAT, "um2", "the never decreasing series nearest to it"),
    Column("washed_away_area_um2", _FLOAT, "um2", "what was washed away and not eaten"),
    Column("eaten_fraction", _FLOAT, "", "share of the reference area in view that was eaten"),
    Column("in_view_fraction", _FLOAT, "", "share of the reference area that this frame shows"),
    Column("appeared_count", _INT, "", "labels that belong to no reference aggregate and come from no earlier frame"),
)  # fmt: skip
"""Columns of ``eaten``."""

FATE_COLUMNS = (
    Column("scene", _INT, "", "index of the scene, from 0"),
    Column("reference_aggregate", _INT, "", "number in the reference frame, from 1; those too small to be counted in "
           "other tables included"),
    Column("glass_y_um", _FLOAT, "um", "where it lies in the reference frame"),
    Column("glass_x_um", _FLOAT, "um", "same, along x"),
    Column("reference_area_um2", _FLOAT, "um2", "its area in the reference frame, pixels on the outline counted in "
           "part"),
    Column("area_left_um2", _FLOAT, "um2", "what is left of it in the last used frame"),
    Column("fate", _TEXT, "", "kept, moved, eaten, partly eaten, detached, passing (light in a cell on its way), or "
           "censored: cut by the border, or no longer in view"),
    Column("changed_from_frame", _INT, "", "first frame from which on less than ledger.whole_fraction is left; -1"),
    Column("gone_from_frame", _INT, "", "first frame from which on less than ledger.gone_fraction is left; -1"),
    Column("washed_away_from_frame", _INT, "", "first frame without it, if it was washed away; -1"),
)  # fmt: skip
"""Columns of ``fates``."""

TABLES: dict[str, tuple[Column, ...]] = {
    "acquisition": ACQUISITION_COLUMNS,
    "frames": FRAME_COLUMNS,
    "cells": (*CELL_COLUMNS, *TRACKED_COLUMNS),
    "tracks": TRACK_COLUMNS,
    "eaten": EATEN_COLUMNS,
    "fates": FATE_COLUMNS,
    "aggregates": AGGREGATE_COLUMNS,
    "scenes": SCENE_COLUMNS,
}
"""Every final table."""
