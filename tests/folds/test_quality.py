from __future__ import annotations

import math

from phagostat.folds.blur import Focus
from phagostat.folds.quality import QualityOptions, QualityRecord, fold, judge, step


def sharp(frame, shift=(0.0, 0.0)):
    return QualityRecord(frame, "ok", Focus.SHARP, shift)


def test_accepted_with_its_figures():
    quality = fold([*(sharp(i, (0.5 * i, -i)) for i in range(40)), QualityRecord(40, "unregistered", Focus.BLURRED)])
    accepted, why = judge(quality)
    assert accepted
    assert "39.0 px (frame 39" in why
    assert "2.4 %" in why
    assert quality.max_shift_frame == 39


def test_rejected_for_what_is_broken_alone():
    drift = fold([sharp(i, (0.0, -2.0 * i)) for i in range(40)])
    accepted, why = judge(drift)
    assert not accepted
    assert "78.0 px" in why
    assert "blurred" not in why
    blurred = fold([QualityRecord(i, "ok", Focus.BLURRED if i < 3 else Focus.SHARP, (1.0, 1.0)) for i in range(40)])
    accepted, why = judge(blurred)
    assert not accepted
    assert "7.5 %" in why
    assert judge(blurred, QualityOptions(max_blurred_fraction=0.1))[0]


def test_a_blurred_frame_s_shift_does_not_count():
    quality = fold([sharp(0), QualityRecord(1, "ok", Focus.BLURRED, (400.0, 0.0)), *(sharp(i) for i in range(2, 60))])
    assert judge(quality)[0]
    assert quality.max_shift_px == 0


def test_missing_frames_are_no_blurred_ones():
    missing = [QualityRecord(i, "missing", Focus.UNKNOWN) for i in range(30)]
    quality = fold([*missing, *(sharp(i) for i in range(30, 40)), QualityRecord(40, "black", Focus.UNKNOWN)])
    assert quality.n_missing == 30
    assert quality.n_unusable == 1
    assert quality.blurred_fraction == 0
    assert judge(quality, QualityOptions(max_unusable_fraction=1.0))[0]


def test_a_scene_of_which_hardly_a_frame_can_be_used_is_not_accepted():
    lost = [QualityRecord(i, "unregistered", Focus.SHARP) for i in range(23)]
    quality = fold([*lost, *(sharp(i) for i in range(23, 30))])
    assert quality.blurred_fraction == 0
    accepted, why = judge(quality)
    assert not accepted
    assert why == "76.7 % of all frames unusable (limit 25 %)"
    few = fold([*lost[:3], *(sharp(i) for i in range(3, 30))])
    assert judge(few)[0]
    assert "10.0 % of all frames unusable" in judge(few)[1]


def test_a_frame_whose_focus_cannot_be_told_is_lost_where_later_steps_do_not_use_it():
    untold = [QualityRecord(i, "ok", Focus.UNKNOWN, (0.0, 90.0), usable=False) for i in range(20)]
    quality = fold([*untold, *(sharp(i) for i in range(20, 40))])
    assert quality.n_unusable == 20
    assert quality.max_shift_px == 0
    accepted, why = judge(quality)
    assert not accepted
    assert why == "50.0 % of all frames unusable (limit 25 %)"


def test_nothing_usable():
    quality = fold([QualityRecord(i, "ok", Focus.BLURRED, (0.0, 0.0)) for i in range(5)])
    accepted, why = judge(quality)
    assert not accepted
    assert why == "none of 5 frames is registered and sharp"
    assert math.isnan(quality.max_shift_px)
    assert not judge(fold([]))[0]


def test_step_by_step_is_all_at_once():
    records = [sharp(i, (float(i % 7), 0.0)) for i in range(20)]
    state = fold(records[:11])
    for record in records[11:]:
        state = step(state, record)
    assert state == fold(records)
