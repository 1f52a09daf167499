"""Frames as pictures: what is drawn where, and what is said where there is nothing to draw."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import SettingsError, StoreError
from phagostat.report import overlays
from phagostat.report.finished import FinishedOutput, FrameFacts, SceneFacts, covered, moved
from phagostat.report.overlays import (
    GROUND,
    HATCH,
    REJECTED,
    WHITE,
    overlay_frame,
    round_length_um,
    time_text,
)

from .pictures import share_of
from .written import WrittenScene, write_output

BARE = {"scale_bar": False, "time_stamp": False, "verdict": False, "registered": False}


def test_the_movie_has_what_the_tests_need(output):
    states = [frame.state for frame in output.scenes[0].frames]
    assert states[0] == states[1] == states[3] == "ok"
    assert states[2] == "blurred"
    assert states[5] == "missing"
    assert output.image(0, 4, ChannelRole.CELLS) is None
    assert output.image(0, 4, ChannelRole.AGGREGATES) is not None
    assert output.labels(0, 0, "cells").max() > 0
    assert output.labels(0, 0, "aggregates").max() > 5


def test_far_from_objects_a_picture_is_the_normalised_frame(output):
    picture = overlay_frame(output, 0, 0, **BARE)
    grey = output.image(0, 0, ChannelRole.CELLS)
    objects = (output.labels(0, 0, "cells") > 0) | (output.labels(0, 0, "aggregates") > 0)
    far = cv2.dilate(objects.astype(np.uint8), np.ones((9, 9))) == 0
    assert far.mean() > 0.05
    for colour in range(3):
        np.testing.assert_array_equal(picture[..., colour][far], grey[far])


def test_outlines_run_along_the_objects(output):
    picture = overlay_frame(output, 0, 0, **BARE).astype(int)
    cells, aggregates = output.labels(0, 0, "cells"), output.labels(0, 0, "aggregates")
    blue = (picture[..., 2] - picture[..., 0]) > 60
    edge = cv2.dilate(cells, np.ones((7, 7))) != cv2.erode(cells, np.ones((7, 7)))
    border = np.ones_like(edge)
    border[4:-4, 4:-4] = False
    assert blue.sum() > 100
    assert (blue & (edge | border)).sum() == blue.sum()
    orange = (picture[..., 0] - picture[..., 2]) > 40
    inside = cv2.erode(((aggregates > 0) & (cells == 0)).astype(np.uint8), np.ones((3, 3))) > 0
    assert orange[inside].all()
    assert not orange[cv2.dilate((aggregates > 0).astype(np.uint8), np.ones((5, 5))) == 0].any()


def test_registered_frames_show_the_glass_in_one_place(output):
    reference = next(f.frame for f in output.scenes[0].frames if f.is_reference)
    shifts = {f.frame: output.shift_px(0, f.frame) for f in output.scenes[0].frames if f.shift_yx_px}
    frame = max(shifts, key=lambda f: abs(shifts[f][0]) + abs(shifts[f][1]))
    shift = shifts[frame]
    assert abs(shift[0]) + abs(shift[1]) > 5
    picture = overlay_frame(output, 0, frame, **{**BARE, "registered": True})
    (top, bottom), (left, right) = (covered(n, s) for n, s in zip(output.scenes[0].shape_yx, shift, strict=True))
    outside = np.ones(picture.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert outside.sum() > 1000
    assert {tuple(int(c) for c in colour) for colour in np.unique(picture[outside], axis=0)} == {GROUND, HATCH}

    orange = [
        (p.astype(int)[..., 0] - p.astype(int)[..., 2]) > 40 for p in (picture, overlay_frame(output, 0, reference))
    ]
    unmoved = overlay_frame(output, 0, frame, **BARE).astype(int)
    common = (orange[0] & orange[1]).sum() / orange[0].sum()
    assert common > 0.8
    assert (((unmoved[..., 0] - unmoved[..., 2]) > 40) & orange[1]).sum() / orange[0].sum() < 0.5


@pytest.mark.parametrize("shift", [(0, 0), (3, -4), (-2, 5), (9, 0), (0, -40), (100, 100)])
def test_moved_is_what_indexing_says(shift):
    plane = np.random.default_rng(0).integers(1, 255, (9, 13)).astype(np.uint8)
    expected = np.zeros_like(plane)
    for y in range(9):
        for x in range(13):
            if 0 <= y + shift[0] < 9 and 0 <= x + shift[1] < 13:
                expected[y, x] = plane[y + shift[0], x + shift[1]]
    np.testing.assert_array_equal(moved(plane, shift), expected)


def test_rejected_frames_are_marked_and_missing_ones_said(output):
    ok = overlay_frame(output, 0, 0)
    assert share_of(ok, REJECTED) == 0
    for frame in (2, 5):
        picture = overlay_frame(output, 0, frame)
        assert (picture[0] == REJECTED).all()
        assert (picture[:, -1] == REJECTED).all()
        assert share_of(overlay_frame(output, 0, frame, verdict=False), REJECTED) == 0
    missing = overlay_frame(output, 0, 5, **BARE)
    assert share_of(missing, GROUND) > 0.9
    assert share_of(missing, WHITE) > 0.0005  # the sentence
    no_cells = overlay_frame(output, 0, 4, **BARE)
    assert np.ptp(no_cells.astype(int)[..., 0] - no_cells[..., 2]) > 60  # aggregates in orange
    assert (no_cells.astype(int)[..., 2] - no_cells[..., 0]).max() == 0  # and nothing in blue


def test_pictures_speak_in_words(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(overlays, "_write", lambda _, text, **__: written.append(text))
    scene = WrittenScene(2, states={0: "no_reference"})
    overlay_frame(FinishedOutput(write_output(tmp_path / "movie", [scene])), 0, 0)
    assert {"no picture: no reference", "not used: no reference"} <= {*written}


def test_the_scale_bar_has_the_length_that_it_says(output):
    for width in (None, 300, 700):
        picture = overlay_frame(output, 0, 5, width_px=width, time_stamp=False, verdict=False)
        height, shown = picture.shape[:2]
        white = (picture == 255).all(axis=-1)
        rows = white[height // 2 + height // 6 :]
        # a bar is the only unbroken line of white
        longest = max(
            max((len(run) for run in "".join("x" if w else " " for w in row).split()), default=0) for row in rows
        )
        um_per_px = output.pixel_size_um * output.scenes[0].shape_yx[1] / shown
        assert longest == pytest.approx(round_length_um(0.22 * shown * um_per_px) / um_per_px, abs=0.51)


@pytest.mark.parametrize(
    ("longest", "length"),
    [(1, 1), (1.99, 1), (2, 2), (4.9, 2), (5, 5), (99, 50), (100, 100), (0.03, 0.02), (1000, 1000)],
)
def test_round_lengths(longest, length):
    assert round_length_um(longest) == pytest.approx(length)


@pytest.mark.parametrize(
    ("times", "frame", "text"),
    [
        ((0, 120, 240), 2, "4 min"),
        ((0, 120, 12000), 2, "3:20 h"),
        ((0, 120, 3600), 1, "0:02 h"),
        ((0, 45, 90), 1, "45 s"),
        ((0, 90, 300), 1, "1:30 min"),
        ((0, float("nan"), 240), 1, "frame 1"),
        ((0, 7199.9, 7300), 1, "2:00 h"),
    ],
)
def test_time_stamps(times, frame, text):
    frames = tuple(FrameFacts(i, t, True, "ok", "", None, False) for i, t in enumerate(times))
    assert time_text(frames[frame], SceneFacts(0, "s", (8, 8), frames)) == text


@pytest.mark.parametrize("width", [16, 33, 64, 100, 1500])
def test_any_size_can_be_had(output, width):
    picture = overlay_frame(output, 0, 2, width_px=width, legend=True)
    height, native = output.scenes[0].shape_yx
    assert picture.shape == (round(height * width / native), width, 3)
    assert picture.dtype == np.uint8


def test_scenes_without_cells_are_shown(own_folder):
    shutil.rmtree(own_folder / "images.zarr/0/labels/cells/0/c")
    shutil.rmtree(own_folder / "images.zarr/0/labels/aggregates/0/c")
    bare = FinishedOutput(own_folder)
    picture = overlay_frame(bare, 0, 0, **BARE)
    np.testing.assert_array_equal(picture[..., 0], bare.image(0, 0, ChannelRole.CELLS))


def test_bad_requests_are_one_sentence(output, own_folder, tmp_path):
    with pytest.raises(SettingsError, match=r"width_px: .*\(found: 3\); choose 16 to"):
        overlay_frame(output, 0, 0, width_px=3)
    with pytest.raises(StoreError, match=r"no such scene \(found: 2\); scenes are 0 to 1"):
        overlay_frame(output, 2, 0)
    with pytest.raises(StoreError, match=r"no such frame \(found: 7\); frames are 0 to 6"):
        overlay_frame(output, 0, 7)
    (own_folder / "seal.json").unlink()
    with pytest.raises(StoreError, match=r"not complete .*phagostat run"):
        FinishedOutput(own_folder)
    with pytest.raises(StoreError, match="no output of phagostat"):
        FinishedOutput(tmp_path / "nothing")


def test_without_an_aggregate_channel_there_are_cells(cells_only):
    assert cells_only.roles == (ChannelRole.CELLS,)
    picture = overlay_frame(cells_only, 0, 0, registered=False, legend=True).astype(int)
    assert (picture[..., 2] - picture[..., 0]).max() > 60
    assert (picture[..., 0] - picture[..., 2]).max() <= 0  # no orange, in the legend neither
    assert cells_only.image(0, 0, ChannelRole.AGGREGATES) is None
    assert cells_only.labels(0, 0, "aggregates") is None
