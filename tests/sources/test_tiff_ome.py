"""OME-TIFF: single files and sets, as tifffile, Bio-Formats and Micro-Manager write them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from phagostat import sources
from phagostat.model.acquisition import TimesOrigin
from phagostat.model.errors import MetadataError, PlaneError, SourceError
from phagostat.sources.tiff import TiffSource

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def pixels(shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def xml_of(images: str, *, uuid: str | None = None, namespace: str = NAMESPACE) -> str:
    said = f' UUID="{uuid}"' if uuid else ""
    return f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{namespace}"{said}>{images}</OME>'


def image_of(t: int, c: int, z: int, yx: tuple[int, int], data: str, *, order="XYCZT", more="", channels=None) -> str:
    listed = channels if channels is not None else "".join(f'<Channel ID="Channel:0:{k}"/>' for k in range(c))
    return (
        f'<Image ID="Image:0" Name="A1"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" SizeX="{yx[1]}" '
        f'SizeY="{yx[0]}" SizeZ="{z}" SizeC="{c}" SizeT="{t}" {more}>{listed}{data}</Pixels></Image>'
    )


def write(file: Path, pages: np.ndarray, xml: str) -> None:
    """Pages one by one, the first with a description."""
    with tifffile.TiffWriter(file) as writer:
        for k, page in enumerate(pages):
            writer.write(page, description=xml.encode() if k == 0 else None, metadata=None, contiguous=False)


@pytest.mark.parametrize("axes", ["TCYX", "CTYX", "TZCYX", "ZTCYX", "CZTYX"])
def test_every_order_of_axes(tmp_path, axes):
    sizes = {"T": 3, "C": 2, "Z": 2, "Y": 10, "X": 12}
    movie = pixels([sizes[axis] for axis in axes])
    tifffile.imwrite(
        tmp_path / "m.ome.tif",
        movie,
        metadata={
            "axes": axes,
            "PhysicalSizeX": 103,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.103,
            "PhysicalSizeYUnit": "µm",
            "TimeIncrement": 2,
            "TimeIncrementUnit": "min",
            "Channel": {"Name": ["pHrodo", "Phase"]},
        },
    )
    source = sources.open_source(tmp_path / "m.ome.tif")
    assert isinstance(source, TiffSource)
    metadata = source.metadata
    assert metadata.pixel_size_um == 0.103
    assert metadata.times_origin is TimesOrigin.INTERVAL
    assert metadata.scenes[0].times_s == (0.0, 120.0, 240.0)
    assert [(c.name, c.fluorescent) for c in metadata.channels] == [("pHrodo", True), ("Phase", False)]
    order = [axes.index(axis) for axis in "TCZYX" if axis in axes]
    straight = np.transpose(movie, order).reshape(3, 2, -1, 10, 12).max(axis=2)
    for frame in range(3):
        for channel in range(2):
            np.testing.assert_array_equal(source.read(0, frame, channel), straight[frame, channel])


def test_several_images_are_scenes_of_their_own_length(tmp_path):
    films = [pixels((3, 2, 8, 6)), pixels((2, 2, 5, 7), seed=1)]
    with tifffile.TiffWriter(tmp_path / "m.ome.tif", ome=True) as writer:
        for k, film in enumerate(films):
            writer.write(film, metadata={"axes": "TCYX", "Name": f"B{k}"})
    source = TiffSource(tmp_path / "m.ome.tif")
    assert [(s.name, s.n_frames, s.shape_yx) for s in source.metadata.scenes] == [("B0", 3, (8, 6)), ("B1", 2, (5, 7))]
    for (scene, channel), frames in source.poll().complete.items():
        assert frames == tuple(range(len(films[scene])))
        for frame in frames:
            np.testing.assert_array_equal(source.read(scene, frame, channel), films[scene][frame, channel])


@pytest.fixture
def movie_set(tmp_path):
    """Four files, one a frame, of two channels each; every file carries the description of all."""
    movie = pixels((4, 2, 8, 6))
    data = "".join(
        f'<TiffData FirstT="{t}" FirstC="{c}" IFD="{c}" PlaneCount="1">'
        f'<UUID FileName="f{t}.ome.tif">urn:uuid:{t}</UUID></TiffData>'
        for t in range(4)
        for c in range(2)
    )
    planes = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{130 * t + 7}"/>' for t in range(4))
    folder = tmp_path / "set"
    folder.mkdir()
    for t in range(4):
        write(
            folder / f"f{t}.ome.tif", movie[t], xml_of(image_of(4, 2, 1, (8, 6), data + planes), uuid=f"urn:uuid:{t}")
        )
    return folder, movie


@pytest.mark.parametrize("given", [0, 3])
def test_a_set_is_read_from_any_of_its_files(movie_set, given):
    folder, movie = movie_set
    source = TiffSource(folder / f"f{given}.ome.tif")
    assert source.metadata.times_origin is TimesOrigin.OFFSETS
    assert source.metadata.scenes[0].times_s == (0.0, 130.0, 260.0, 390.0)
    for frame in range(4):
        for channel in range(2):
            np.testing.assert_array_equal(source.read(0, frame, channel), movie[frame, channel])


def test_files_of_a_set_that_are_absent_are_frames_that_are_missing(movie_set):
    folder, movie = movie_set
    (folder / "f2.ome.tif").unlink()
    source = TiffSource(folder / "f0.ome.tif")
    assert source.poll().complete == {(0, 0): (0, 1, 3), (0, 1): (0, 1, 3)}
    assert any("absent: f2.ome.tif" in note for note in source.metadata.notes)
    with pytest.raises(PlaneError, match="frame 2 channel 1"):
        source.read(0, 2, 1)
    np.testing.assert_array_equal(source.read(0, 3, 1), movie[3, 1])


def test_more_files_than_are_kept_open(tmp_path):
    """Files are opened again as they are needed, however many there are."""
    n = 50
    movie = pixels((n, 4, 4))
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="0"><UUID FileName="f{t}.ome.tif">urn:uuid:{t}</UUID></TiffData>' for t in range(n)
    )
    for t in range(n):
        write(tmp_path / f"f{t}.ome.tif", movie[t : t + 1], xml_of(image_of(n, 1, 1, (4, 4), data)))
    source = TiffSource(tmp_path / "f7.ome.tif")
    for frame in (*range(n), 0, n - 1):
        np.testing.assert_array_equal(source.read(0, frame, 0), movie[frame])


def test_a_file_under_another_name_is_itself(tmp_path):
    data = '<TiffData IFD="0" PlaneCount="3"><UUID FileName="before.ome.tif">urn:uuid:1</UUID></TiffData>'
    movie = pixels((3, 8, 6))
    write(tmp_path / "after.ome.tif", movie, xml_of(image_of(3, 1, 1, (8, 6), data), uuid="urn:uuid:1"))
    source = TiffSource(tmp_path / "after.ome.tif")
    np.testing.assert_array_equal(source.read(0, 2, 0), movie[2])


@pytest.mark.parametrize("name", ["../secret.ome.tif", "/etc/passwd", "..\\\\x.tif", "C:/x.tif"])
def test_names_of_files_that_lead_elsewhere_are_not_followed(tmp_path, name):
    folder = tmp_path / "inner"
    folder.mkdir()
    write(tmp_path / "secret.ome.tif", pixels((1, 8, 6)), "x")
    data = (
        f'<TiffData FirstT="0" IFD="0"><UUID FileName="m.ome.tif">urn:uuid:1</UUID></TiffData>'
        f'<TiffData FirstT="1" IFD="0"><UUID FileName="{name}">urn:uuid:2</UUID></TiffData>'
    )
    write(folder / "m.ome.tif", pixels((1, 8, 6)), xml_of(image_of(2, 1, 1, (8, 6), data)))
    assert TiffSource(folder / "m.ome.tif").poll().complete == {(0, 0): (0,)}


def test_companion_file(tmp_path):
    movie = pixels((3, 8, 6))
    uuid = '<UUID FileName="m.ome.tif">urn:uuid:1</UUID>'
    companion = xml_of(image_of(3, 1, 1, (8, 6), f'<TiffData IFD="0" PlaneCount="3">{uuid}</TiffData>'))
    (tmp_path / "m.companion.ome").write_text(companion, encoding="utf-8")
    write(tmp_path / "m.ome.tif", movie, xml_of('<BinaryOnly MetadataFile="m.companion.ome" UUID="urn:uuid:9"/>'))
    np.testing.assert_array_equal(TiffSource(tmp_path / "m.ome.tif").read(0, 1, 0), movie[1])
    (tmp_path / "m.companion.ome").unlink()
    with pytest.raises(SourceError, match=r"describes this OME-TIFF is absent \(found: m\.companion\.ome\)"):
        _ = TiffSource(shutil.copy(tmp_path / "m.ome.tif", tmp_path / "n.ome.tif")).metadata


def test_older_schema_and_planes_without_a_count(tmp_path):
    """TiffData without attributes means all pages, from the first."""
    movie = pixels((2, 3, 8, 6))
    xml = xml_of(
        image_of(2, 3, 1, (8, 6), "<TiffData/>", order="XYCTZ"),
        namespace="http://www.openmicroscopy.org/Schemas/OME/2011-06",
    )
    write(tmp_path / "m.ome.tif", movie.reshape(6, 8, 6), xml)
    source = TiffSource(tmp_path / "m.ome.tif")
    for frame in range(2):
        for channel in range(3):
            np.testing.assert_array_equal(source.read(0, frame, channel), movie[frame, channel])


def test_times_of_planes_win_over_the_interval_and_say_so(tmp_path):
    planes = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{t * 2.5}" DeltaTUnit="min"/>' for t in range(3))
    image = image_of(3, 1, 1, (8, 6), f'<TiffData IFD="0" PlaneCount="3"/>{planes}', more='TimeIncrement="120"')
    write(tmp_path / "m.ome.tif", pixels((3, 8, 6)), xml_of(image))
    metadata = TiffSource(tmp_path / "m.ome.tif").metadata
    assert metadata.times_origin is TimesOrigin.OFFSETS
    assert metadata.scenes[0].times_s == (0.0, 150.0, 300.0)
    assert any("differs from it by up to 60 s" in note for note in metadata.notes)


@pytest.mark.parametrize(("interval", "origin"), [('TimeIncrement="120"', "INTERVAL"), ("", "NONE")])
def test_times_of_planes_that_leave_out_a_frame_are_set_aside(tmp_path, interval, origin):
    planes = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{t * 150}"/>' for t in (0, 2))
    image = image_of(3, 1, 1, (8, 6), f'<TiffData IFD="0" PlaneCount="3"/>{planes}', more=interval)
    write(tmp_path / "m.ome.tif", pixels((3, 8, 6)), xml_of(image))
    metadata = TiffSource(tmp_path / "m.ome.tif").metadata
    assert metadata.times_origin is TimesOrigin[origin]
    assert any("do not cover every frame" in note for note in metadata.notes)


def test_a_frame_that_is_in_no_file_needs_no_time(tmp_path):
    planes = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{t * 150}"/>' for t in (0, 2))
    data = '<TiffData IFD="0" FirstT="0" PlaneCount="1"/><TiffData IFD="1" FirstT="2" PlaneCount="1"/>'
    write(tmp_path / "m.ome.tif", pixels((2, 8, 6)), xml_of(image_of(3, 1, 1, (8, 6), data + planes)))
    source = TiffSource(tmp_path / "m.ome.tif")
    assert source.poll().complete == {(0, 0): (0, 2)}
    assert source.metadata.times_origin is TimesOrigin.OFFSETS
    first, second, third = source.metadata.scenes[0].times_s
    assert (first, third) == (0.0, 300.0)
    assert np.isnan(second)


def test_channels_say_what_they_show(tmp_path):
    channels = (
        '<Channel ID="Channel:0:0" Name="one" ContrastMethod="Fluorescence" EmissionWavelength="603"/>'
        '<Channel ID="Channel:0:1" Name="two" ContrastMethod="Phase"/>'
    )
    image = image_of(1, 2, 1, (8, 6), '<TiffData IFD="0" PlaneCount="2"/>', channels=channels)
    write(tmp_path / "m.ome.tif", pixels((2, 8, 6)), xml_of(image))
    assert [c.fluorescent for c in TiffSource(tmp_path / "m.ome.tif").metadata.channels] == [True, False]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    f'<OME xmlns="{NAMESPACE}">&b;</OME>'
)


@pytest.mark.parametrize(
    ("xml", "match"),
    [
        (BOMB, "does not parse"),
        (xml_of("<Image>")[:-6] + "</OME>", "does not parse"),
        (xml_of(""), "describes no image"),
        (xml_of(image_of(3, 1, 1, (8, 6), "")), "names no page"),
        (xml_of(image_of(3, 1, 1, (9, 6), '<TiffData IFD="0"/>')), "not what the OME-XML says"),
        (xml_of(image_of(3, 1, 1, (8, 6), '<TiffData IFD="0"/>').replace('SizeT="3"', 'SizeT="x"')), "SizeT"),
        (xml_of(image_of(3, 1, 1, (8, 6), '<TiffData IFD="0"/>').replace('SizeT="3"', 'SizeT="1e9"')), "more planes"),
        (xml_of(image_of(3, 1, 1, (8, 6), '<TiffData IFD="0"/>').replace("uint16", "float")), "neither uint8"),
        (xml_of(image_of(3, 1, 1, (8, 6), "", channels='<Channel SamplesPerPixel="3"/>')), "in colours"),
        (
            xml_of(image_of(3, 1, 1, (8, 6), '<TiffData IFD="0"/>', more='PhysicalSizeX="0.1" PhysicalSizeY="0.2"')),
            "not square",
        ),
    ],
)
def test_descriptions_that_do_not_hold_are_refused_in_a_sentence(tmp_path, xml, match):
    write(tmp_path / "m.ome.tif", pixels((3, 8, 6)), xml)
    with pytest.raises((SourceError, MetadataError), match=match):
        _ = TiffSource(tmp_path / "m.ome.tif").metadata


def test_without_its_description_the_pages_can_still_be_read(tmp_path):
    movie = pixels((3, 8, 6))
    write(tmp_path / "m.ome.tif", movie, BOMB)
    np.testing.assert_array_equal(TiffSource(tmp_path / "m.ome.tif", axes="TYX").read(0, 1, 0), movie[1])
