"""What names of pictures say: frame, channel, Z plane and scene."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phagostat.model.errors import SourceError
from phagostat.sources.frame_names import is_channel_name, is_scene_name, parse_names, require_dense
from phagostat.sources.natural_order import natural_key


def told(*names: str) -> set[tuple[str | None, str, int, int]]:
    return {(f.scene, f.channel, f.frame, f.z) for f in parse_names(names, where="folder").frames}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0.png", "1.png", "10.png", "2.png"], {(None, "", n, 0) for n in (0, 1, 2, 10)}),
        (["a_t001_c1.tif", "a_t001_c2.tif"], {(None, "c1", 1, 0), (None, "c2", 1, 0)}),
        (["x_ch00_t12.tif", "x_ch01_t12.tif"], {(None, "ch00", 12, 0), (None, "ch01", 12, 0)}),
        (
            ["e_w1Phase_s1_t1.TIF", "e_w2GFP_s1_t1.TIF", "e_w2GFP_s2_t7.TIF"],
            {("s1", "w1 Phase", 1, 0), ("s1", "w2 GFP", 1, 0), ("s2", "w2 GFP", 7, 0)},
        ),
        (["phase_001.tif", "gfp_001.tif"], {(None, "phase", 1, 0), (None, "gfp", 1, 0)}),
        (["s1t2z3c4.tif", "s1t2z5c4.tif"], {("s1", "c4", 2, 3), ("s1", "c4", 2, 5)}),
        (
            ["img_channel000_position001_time000000004_z000.tif", "img_channel001_position001_time000000004_z000.tif"],
            {("position001", "channel000", 4, 0), ("position001", "channel001", 4, 0)},
        ),
        (
            ["img_000000000_Default_000.tif", "img_000000001_Default_000.tif"],
            {(None, "", 0, 0), (None, "", 1, 0)},
        ),
        (["20230115_exp3_0001.tif", "20230115_exp3_0002.tif"], {(None, "", 1, 0), (None, "", 2, 0)}),
        (["movie0001.ome.tif", "movie0002.ome.tif"], {(None, "", 1, 0), (None, "", 2, 0)}),
        (["field02.tif", "field03.tif"], {("field02", "", 0, 0), ("field03", "", 0, 0)}),
        (["t05.tif"], {(None, "", 5, 0)}),
    ],
)
def test_names_as_programs_write_them(names, expected):
    assert told(*names) == expected


def test_masks_and_pictures_without_numbers_are_left_out_with_a_note():
    parsed = parse_names(["t1.tif", "t1_labels.tif", "t2.tif", "t2_mask.tif", "overview.tif"], where="folder")
    assert [frame.file for frame in parsed.frames] == ["t1.tif", "t2.tif"]
    assert any("1 pictures without a number are left out: overview.tif" in note for note in parsed.notes)
    assert any("2 pictures are masks or the like" in note for note in parsed.notes)


def test_a_named_picture_among_numbered_ones_is_left_out():
    parsed = parse_names(["0.png", "1.png", "preview1.png", "best_3.png"], where="folder")
    assert {frame.file for frame in parsed.frames} == {"0.png", "1.png"}


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["a.tif", "b.tif"], r"no picture has a number.*found: a\.tif, b\.tif"),
        (["1_1.tif", "1_2.tif", "2_1.tif"], r"which number in the names is the frame cannot be told.*t001_c1\.tif"),
        (["1.png", "01.png"], r"same place in the movie.*01\.png and 1\.png"),
        (["1.png", "1.tif"], r"same place in the movie"),
    ],
)
def test_names_that_do_not_tell_are_refused(names, match):
    with pytest.raises(SourceError, match=match):
        parse_names(names, where="folder")


def test_dates_are_no_frame_numbers():
    require_dense([0, 10, 20, 30], where="folder")
    with pytest.raises(SourceError, match="too far apart"):
        require_dense([20230115120000, 20230115120200], where="folder")


def test_names_of_folders():
    assert all(map(is_scene_name, ["scene_0", "Pos12", "xy01", "B03", "s1", "Position 4", "A1", "C03", "P24"]))
    assert not any(map(is_scene_name, ["phase", "gfp", "results", "WT-1", "t98g", "c1", "D25"]))
    assert all(map(is_channel_name, ["c1", "C2", "ch00", "w2GFP", "phase", "gfp", "normalized_cell", "aggregates"]))
    assert not any(map(is_channel_name, ["scene_0", "exp1", "t98g", "WT-1", "C03", "B1"]))


@given(
    st.sets(st.integers(0, 400), min_size=2, max_size=12),
    st.integers(1, 3),
    st.integers(1, 6),
    st.text(string.ascii_uppercase, max_size=0) | st.sampled_from(["Exp_", "run-7_", "2024-01-15 "]),
)
def test_written_names_are_told_again(frames, n_channels, digits, prefix):
    names = {f"{prefix}t{t:0{digits}d}_c{c}.tif": (t, c) for t in frames for c in range(n_channels)}
    parsed = parse_names(names, where="folder")
    assert {frame.file: (frame.frame, int(frame.channel[1:])) for frame in parsed.frames} == names


@given(
    st.lists(st.text("abct019_-. ", min_size=1, max_size=9).map(lambda stem: stem + ".tif"), max_size=8, unique=True)
)
def test_any_names_are_told_or_refused(names):
    try:
        parsed = parse_names(names, where="folder")
    except SourceError:
        return
    assert {frame.file for frame in parsed.frames} <= set(names)
    places = [(f.scene, f.channel, f.frame, f.z) for f in parsed.frames]
    assert len(set(places)) == len(places)


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order(numbers):
    assert sorted((f"{n}.png" for n in numbers), key=natural_key) == [f"{n}.png" for n in sorted(numbers)]
