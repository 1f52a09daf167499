"""Roles, pixel size and times: taken where clear, asked for where not."""

from __future__ import annotations

import re

import pytest

from phagostat.model.acquisition import AcquisitionMetadata, Channel, ChannelRole, Scene, TimesOrigin
from phagostat.model.errors import MetadataError
from phagostat.sources.channel_roles import resolve

A, C = ChannelRole.AGGREGATES, ChannelRole.CELLS


def metadata(
    *channels: tuple[str, bool | None],
    size_um: float | None = 0.103,
    n_frames: tuple[int, ...] = (4, 3),
    times: bool = True,
) -> AcquisitionMetadata:
    scenes = tuple(
        Scene(k, f"P{k}", n, (64, 48), "uint16", tuple(120.0 * t for t in range(n)) if times else None)
        for k, n in enumerate(n_frames)
    )
    listed = tuple(Channel(k, name, light) for k, (name, light) in enumerate(channels))
    origin = TimesOrigin.OFFSETS if times else TimesOrigin.NONE
    return AcquisitionMetadata("m.czi", "czi", "0", listed, scenes, size_um, origin)


CLEAR = (("AF568", True), ("PhC", False))


@pytest.mark.parametrize(
    ("channels", "roles"),
    [
        (CLEAR, {A: 0, C: 1}),
        (CLEAR[::-1], {A: 1, C: 0}),
        ((("aggregates", None), ("cells", None)), {A: 0, C: 1}),
        ((("EGFP", True), ("aggregates", True), ("PhC", False)), {A: 1, C: 2}),
        ((("camera", None), ("AF568", True), ("PhC", False)), {A: 1, C: 2}),
    ],
)
def test_clear_roles_need_no_question(channels, roles):
    assert resolve(metadata(*channels)).roles == roles


@pytest.mark.parametrize(
    "channels",
    [
        (("AF568", True), ("EGFP", True)),
        (("Ch1", None), ("Ch2", None)),
        (("AF568", True), ("Ch2", None)),
        (("AF568", True), ("EGFP", True), ("PhC", False)),
        (("AF568", True), ("BF", False), ("PhC", False)),
    ],
)
def test_unclear_roles_show_the_choices(channels):
    with pytest.raises(MetadataError) as caught:
        resolve(metadata(*channels))
    sentence = str(caught.value)
    shown = re.search(r"--aggregates (\d) --cells (\d)", sentence)
    assert shown
    assert shown[1] != shown[2]
    assert all(f"{k} = {name}" in sentence for k, (name, _) in enumerate(channels))
    chosen = resolve(metadata(*channels), aggregates=int(shown[1]), cells=int(shown[2]))
    assert chosen.roles == {A: int(shown[1]), C: int(shown[2])}


def test_one_of_two_channels_given_leaves_the_other():
    assert resolve(metadata(("a", None), ("b", None)), cells=0).roles == {A: 1, C: 0}
    assert resolve(metadata(*CLEAR), aggregates=1).roles == {A: 1, C: 0}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"aggregates": 2}, "--aggregates names a channel that is not there"),
        ({"cells": -1}, "--cells names a channel"),
        ({"aggregates": 1, "cells": 1}, "must be two channels"),
        ({"pixel_size_um": 0}, "--pixel-size-um must be a positive"),
        ({"pixel_size_um": float("nan")}, "--pixel-size-um must be a positive"),
        ({"interval_s": -60}, "--interval-s must be a positive"),
        ({"analysis_pixel_size_um": float("inf")}, "analysis_pixel_size_um must be a positive"),
        ({"min_frames": 5}, "not a time-lapse"),
    ],
)
def test_overrides_are_checked(override, message):
    with pytest.raises(MetadataError, match=message):
        resolve(metadata(*CLEAR), **override)


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(MetadataError) as caught:
        resolve(metadata(("a", None), ("b", None), size_um=None, times=False))
    assert all(option in str(caught.value) for option in ("--aggregates", "--pixel-size-um", "--interval-s"))


def test_what_is_not_required_may_be_missing():
    bare = metadata(("a", None), times=False)
    acquisition = resolve(bare, require_roles=False, require_times=False)
    assert acquisition.roles == {}
    assert acquisition.scenes[0].times_s is None
    with pytest.raises(MetadataError, match="whether its one channel shows cells"):
        resolve(bare, require_times=False)


@pytest.mark.parametrize(
    ("channels", "cells", "roles"),
    [
        ((("PhC", False),), None, {C: 0}),
        ((("my cells", None),), None, {C: 0}),
        ((("t98g", None),), 0, {C: 0}),
        ((("AF568", True),), 0, {C: 0}),  # who says so knows
        ((("BF", False), ("PhC", False), ("DIC", False)), 1, {C: 1}),
        ((("a", None), ("b", None)), 0, {A: 1, C: 0}),
    ],
)
def test_cells_may_be_all_there_is(channels, cells, roles):
    acquisition = resolve(metadata(*channels), cells=cells)
    assert acquisition.roles == roles
    assert acquisition.has_aggregates == (A in roles)


@pytest.mark.parametrize(
    ("channels", "given", "message"),
    [
        ((("AF568", True),), {}, "one channel only.*--cells 0 if it shows the cells"),
        ((("PhC", False),), {"aggregates": 0}, "one channel only"),
        ((("t98g", None),), {}, "whether its one channel shows cells.*add --cells 0$"),
        # one of the others may show aggregates: a forgotten --aggregates must not cost a long run
        ((("a", None), ("b", None), ("c", None)), {"cells": 0}, "which channel shows the aggregates"),
        ((("AF568", True), ("EGFP", True), ("PhC", False)), {"cells": 2}, "which channel shows the aggregates"),
        ((("BF", False), ("PhC", False)), {}, "which channel shows the aggregates"),
    ],
)
def test_cells_alone_are_not_guessed(channels, given, message):
    with pytest.raises(MetadataError, match=message):
        resolve(metadata(*channels), **given)


def test_one_channel_is_asked_about_with_all_else_that_is_missing():
    with pytest.raises(MetadataError) as caught:
        resolve(metadata(("a", None), size_um=None, times=False))
    assert all(option in str(caught.value) for option in ("--cells 0", "--pixel-size-um", "--interval-s"))
    assert "--aggregates" not in str(caught.value)


def test_given_interval_replaces_times_in_every_scene():
    acquisition = resolve(metadata(*CLEAR), interval_s=90)
    assert acquisition.times_origin is TimesOrigin.GIVEN
    assert [scene.times_s for scene in acquisition.scenes] == [(0, 90, 180, 270), (0, 90, 180)]


@pytest.mark.parametrize(
    ("size_um", "reduction"),
    [(0.103, 2), (0.206, 1), (0.0906, 2), (0.5, 1), (0.05, 4), (0.069, 3), (0.13, 2), (0.14, 1)],
)
def test_reduction_is_the_nearest_integer(size_um, reduction):
    acquisition = resolve(metadata(*CLEAR, size_um=None), pixel_size_um=size_um)
    assert acquisition.reduction == reduction
    assert acquisition.analysis_pixel_size_um == pytest.approx(size_um * reduction)


def test_a_short_scene_beside_longer_ones_stays():
    assert len(resolve(metadata(*CLEAR, n_frames=(1, 3))).scenes) == 2
    with pytest.raises(MetadataError, match="P0: 1, P1: 1"):
        resolve(metadata(*CLEAR, n_frames=(1, 1)))
