"""Pixel size, channels, scene names and times from metadata in every form."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from phagostat.model.acquisition import TimesOrigin
from phagostat.model.errors import MetadataError
from phagostat.sources.channel_light import is_fluorescent
from phagostat.sources.czi import CziSource
from phagostat.sources.metadata_xml import parse_xml
from tests.sources.czi_bytes import Block, CziBytes, metadata_xml, taken_at, time_stamps

INTERVAL = "<Positions><Interval><Start>0</Start><Increment>120</Increment></Interval></Positions>"
OFFSETS = "<Positions><List><Offsets>0 119 241 360</Offsets></List></Positions>"
BINARY = "<Positions><BinaryList><AttachmentName>TimeStamps</AttachmentName></BinaryList></Positions>"
STAMPS = time_stamps([10.0, 130.5, 249.0, 371.25])


def film(tmp_path, *, n=4, t="", attachments=None, stamps=None, **fields):
    blocks = [
        Block(
            np.full((4, 5), 10 * k + c, np.uint16),
            {"T": k, "C": c, "S": 0},
            b"" if stamps is None or stamps[k] is None else taken_at(stamps[k]),
        )
        for k in range(n)
        for c in range(2)
    ]
    return CziSource(
        CziBytes(blocks, metadata_xml(t=t, **fields), attachments or {}).write(tmp_path / "m.czi")
    ).metadata


def minutes(*values):
    return [None if v is None else f"2024-05-06T07:{v:02d}:00.1234567Z" for v in values]


@pytest.mark.parametrize(
    ("given", "origin", "times"),
    [
        ({}, TimesOrigin.NONE, None),
        ({"t": INTERVAL}, TimesOrigin.INTERVAL, (0, 120, 240, 360)),
        ({"t": OFFSETS}, TimesOrigin.OFFSETS, (0, 119, 241, 360)),
        ({"t": BINARY, "attachments": {"TimeStamps": STAMPS}}, TimesOrigin.ATTACHMENT, (0, 120.5, 239, 361.25)),
        ({"t": INTERVAL, "attachments": {"TimeStamps": STAMPS}}, TimesOrigin.ATTACHMENT, (0, 120.5, 239, 361.25)),
        ({"t": OFFSETS, "stamps": minutes(0, 2, 4, 6)}, TimesOrigin.SUBBLOCK, (0, 120, 240, 360)),
        ({"t": OFFSETS, "stamps": minutes(0, 2, None, 6)}, TimesOrigin.OFFSETS, (0, 119, 241, 360)),
        ({"t": OFFSETS, "stamps": minutes(0, 0, 0, 0)}, TimesOrigin.OFFSETS, (0, 119, 241, 360)),
        ({"t": BINARY, "attachments": {"TimeStamps": STAMPS[:20]}}, TimesOrigin.NONE, None),
        ({"t": BINARY, "attachments": {"TimeStamps": b"\xff" * 40}}, TimesOrigin.NONE, None),
        ({"t": OFFSETS, "n": 3}, TimesOrigin.OFFSETS, (0, 119, 241)),
        ({"t": OFFSETS, "n": 5}, TimesOrigin.NONE, None),
        ({"t": OFFSETS.replace("241", "nan")}, TimesOrigin.NONE, None),
        ({"t": INTERVAL.replace("120", "0")}, TimesOrigin.NONE, None),
    ],
)
def test_the_most_specific_times_that_cover_every_frame(tmp_path, given, origin, times):
    metadata = film(tmp_path, **given)
    assert metadata.times_origin is origin
    assert metadata.scenes[0].times_s == times


def test_disagreement_and_assumption_are_noted(tmp_path):
    metadata = film(tmp_path, t=INTERVAL, stamps=minutes(0, 2, 4, 9))
    assert any("constant interval differs from it by up to 180 s" in note for note in metadata.notes)
    assert any("as planned" in note for note in film(tmp_path, t=INTERVAL).notes)
    assert film(tmp_path, t=INTERVAL, stamps=minutes(0, 2, 4, 6)).notes == ()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be set")
def test_the_time_zone_of_this_computer_is_of_no_account(tmp_path, monkeypatch):
    # over the end of summer time in Berlin
    stamps = ["2024-10-27T01:58:00", "2024-10-27T02:00:00", "2024-10-27T03:02:00"]
    found = []
    try:
        for zone in ("Europe/Berlin", "UTC"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            found.append(film(tmp_path, n=3, stamps=stamps).scenes[0].times_s)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == [(0, 120, 3840)] * 2


def test_a_frame_that_is_not_there_has_no_time(tmp_path):
    blocks = [
        Block(np.zeros((4, 5), np.uint16), {"T": k}, taken_at(s)) for k, s in enumerate(minutes(0, 2, 4)) if k != 1
    ]
    times = CziSource(CziBytes(blocks).write(tmp_path / "m.czi")).metadata.scenes[0].times_s
    assert (times[0], times[2]) == (0, 240)
    assert math.isnan(times[1])


@pytest.mark.parametrize(("size", "expected"), [(0.103, 0.103), (None, None), (0.0, None), (-1.0, None)])
def test_pixel_size(tmp_path, size, expected):
    assert film(tmp_path, size_um=size).pixel_size_um == expected


def test_pixels_that_are_not_square_are_refused(tmp_path):
    with pytest.raises(MetadataError, match=r"0\.1 um wide, 0\.2 um high"):
        film(tmp_path, size_um=(0.1, 0.2))


@pytest.mark.parametrize(
    ("name", "facts", "expected"),
    [
        *((name, {}, False) for name in ("PhC", "Phase", "TL Phase", "TL", "BF", "DIC", "T-PMT", "Ch2_PhC", "ESID")),
        *((name, {}, True) for name in ("DAPI", "EGFP", "mCherry", "AF568", "Cy3", "TRITC", "tdTomato", "aggregates")),
        *((name, {}, None) for name in ("Ch1", "cells", "camera 2", "LED", "battle")),
        ("Ch1", {"ContrastMethod": "Fluorescence"}, True),
        ("Ch1", {"ContrastMethod": "Phase"}, False),
        ("Ch1", {"ContrastMethod": "PhaseContrast"}, False),
        ("Ch1", {"EmissionWavelength": "568"}, True),
        ("Ch1", {"EmissionWavelength": "0"}, None),
        ("Ch1", {"IlluminationType": "Transmitted"}, False),
        ("Ch1", {"IlluminationType": "Epifluorescence", "ContrastMethod": "Other"}, None),
        ("T PMT", {"IlluminationType": "Epifluorescence", "ContrastMethod": "Fluorescence"}, False),
        ("Ch1", {"Fluor": "TL Phase", "ContrastMethod": "Fluorescence"}, False),
        ("GFP Phase", {"ContrastMethod": "Fluorescence"}, None),
    ],
)
def test_kind_of_light(name, facts, expected):
    assert is_fluorescent(name=name, facts=facts) is expected


def test_scene_names_become_unique_by_their_wells(tmp_path):
    scenes = "".join(
        f'<Scene Index="{k}" Name="P1"><Shape Name="{well}"/></Scene>' for k, well in enumerate(["A1", "A2"])
    )
    blocks = [Block(np.zeros((4, 5), np.uint16), {"S": s, "T": 0}) for s in range(2)]
    names = [
        s.name
        for s in CziSource(CziBytes(blocks, metadata_xml(scenes=scenes)).write(tmp_path / "m.czi")).metadata.scenes
    ]
    assert names == ["A1-P1", "A2-P1"]


@pytest.mark.parametrize("xml", [b"", b"<a><b></a>", b"\xff\xfe\x00", b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'])
def test_metadata_that_do_not_parse_leave_the_pixels_readable(tmp_path, xml):
    source = CziSource(CziBytes([Block(np.ones((4, 5), np.uint16), {"T": 0})], xml).write(tmp_path / "m.czi"))
    assert parse_xml(xml) is None
    assert source.metadata.pixel_size_um is None
    assert source.metadata.channels[0].name == "channel 0"
    assert source.read(0, 0, 0).sum() == 20
