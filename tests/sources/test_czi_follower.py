"""A CZI followed while it is being written: every plane once, none torn, whatever the writer does."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phagostat.model.errors import PhagostatError, SourceError
from phagostat.sources.czi import CziSource
from phagostat.sources.czi_follower import CziFollower
from phagostat.sources.czi_growing import GrowingCziSource, Promise, closed_czi
from tests.sources.growing import Grower, czi_of, planes

PIXELS = planes()
PROMISE = Promise(n_frames=4, n_scenes=2)
HOWS = ("appended", "reserved", "prefix")


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def whole(how: str, compression: int = 0) -> bytes:
    return czi_of(PIXELS, compression=compression, directory_first=how == "reserved").build()


def assert_equal_planes(source: GrowingCziSource, complete: dict[tuple[int, int], tuple[int, ...]]) -> int:
    n = 0
    for (scene, channel), frames in complete.items():
        for frame in frames:
            np.testing.assert_array_equal(source.read(scene, frame, channel), PIXELS[scene, frame, channel])
            n += 1
    return n


@pytest.mark.parametrize("preallocated", [False, True])
@pytest.mark.parametrize("how", HOWS)
@given(data=st.data())
@settings(max_examples=12)
def test_planes_come_once_and_whole_wherever_the_writer_stalls(tmp_path_factory, how, preallocated, data):
    path = tmp_path_factory.mktemp("grow") / "m.czi"
    grower = Grower(path, whole(how), how, preallocated)
    size = len(grower.body)
    cuts = data.draw(st.lists(st.integers(1, size), max_size=12))
    near = data.draw(st.integers(0, size - 40))
    clock = Clock()
    follower: CziFollower | None = None
    seen: list[tuple[int, int, int]] = []
    for there in grower.pieces([*cuts, *range(near, near + 40)]):
        if follower is None:
            follower = CziFollower(str(path), settle_s=2.0, clock=clock)
        for followed in follower.advance():
            block = followed.block
            if not preallocated:
                assert block.data_end <= there
            key = tuple(block.entry.starts[k] for k in "STC")
            stored = path.read_bytes()[block.data_offset : block.data_end]
            assert stored == PIXELS[key].tobytes(), "torn"
            seen.append(key)
        clock.now += 0.5
    grower.close()
    clock.now += 5
    assert follower is not None
    follower.advance()
    clock.now += 5
    seen = [tuple(f.block.entry.starts[k] for k in "STC") for f in follower.followed]
    assert seen == list(PIXELS), "each once, in the order of the file"
    assert not follower.changed


@pytest.mark.parametrize("compression", [0, 5, 6])
@pytest.mark.parametrize("how", HOWS)
def test_a_growing_file_gives_what_the_closed_one_gives(tmp_path, how, compression):
    path = tmp_path / "m.czi"
    grower = Grower(path, whole(how, compression), how)
    clock = Clock()
    source: GrowingCziSource | None = None
    found = 0
    for _ in grower.pieces(list(range(0, len(grower.body), 97))):
        clock.now += 0.1
        source = source or GrowingCziSource(path, promise=PROMISE, settle_s=1.0, clock=clock)
        if not source.begun():
            continue
        availability = source.poll()
        assert source.ended in {"", "complete"}
        now = sum(map(len, availability.complete.values()))
        assert now >= found
        found = now
        assert_equal_planes(source, dict(availability.complete))
    assert source is not None
    for _ in range(4):
        clock.now += 2.0
        source.poll()
    assert source.ended == ("closed" if how == "prefix" else "complete")
    grower.close()
    for _ in range(3):
        clock.now += 2.0
        availability = source.poll()
    assert source.ended == "closed"
    assert not availability.closed, "another source goes on"
    assert assert_equal_planes(source, dict(availability.complete)) == len(PIXELS)
    closed = CziSource(path)
    assert closed.poll().complete == availability.complete
    assert closed.metadata.growing_identity == source.metadata.identity
    assert [s.shape_yx for s in closed.metadata.scenes] == [s.shape_yx for s in source.metadata.scenes]
    assert source.changed() == ()


def test_the_last_plane_is_taken_once_its_bytes_have_settled(tmp_path):
    bytes_ = whole("appended")
    path, clock = tmp_path / "m.czi", Clock()
    grower = Grower(path, bytes_, "appended")
    follower = None
    last = bytes_.rindex(b"ZISRAWSUBBLOCK")
    end = bytes_.index(b"ZISRAWMETADATA", last)
    grower.write(0, end)
    follower = CziFollower(str(path), settle_s=2.0, clock=clock)
    assert len(follower.advance()) == len(PIXELS) - 1
    clock.now = 1.9
    assert follower.advance() == ()
    clock.now = 2.1
    (taken,) = follower.advance()
    assert taken.early_digest
    assert follower.advance() == ()
    assert len(follower.followed) == len(PIXELS)


def test_a_plane_taken_too_early_is_named(tmp_path):
    bytes_ = whole("appended")
    path, clock = tmp_path / "m.czi", Clock()
    grower = Grower(path, bytes_, "appended")
    last = bytes_.rindex(b"ZISRAWSUBBLOCK")
    end = bytes_.index(b"ZISRAWMETADATA", last)
    grower.write(0, end)
    with path.open("r+b") as file:  # the middle of the last plane still as it was reserved
        file.seek(last + 32 + 256 + 150)
        file.write(bytes(16))
    source = GrowingCziSource(path, promise=PROMISE, settle_s=1.0, clock=clock)
    source.poll()
    clock.now = 1.5
    source.poll()
    assert source.ended == "", "it may be about to be closed"
    clock.now = 5.0
    source.poll()
    assert source.ended == "complete"
    grower.write(0, len(bytes_))
    assert source.changed() == ((1, 3, 1),)


def test_space_that_is_reserved_is_no_plane(tmp_path):
    bytes_ = whole("appended")
    path, clock = tmp_path / "m.czi", Clock()
    grower = Grower(path, bytes_, "appended", preallocated=True)
    last = bytes_.rindex(b"ZISRAWSUBBLOCK")
    grower.write(0, last + 32 + 256 + 120)
    follower = CziFollower(str(path), settle_s=1.0, clock=clock)
    for now in (0.0, 5.0, 10.0):
        clock.now = now
        follower.advance()
    assert len(follower.followed) == len(PIXELS) - 1


def test_a_recording_that_stays_away_is_idle(tmp_path):
    path, clock = tmp_path / "m.czi", Clock()
    grower = Grower(path, whole("appended"), "appended")
    grower.write(0, len(grower.body) // 2 + 400)
    source = GrowingCziSource(path, promise=PROMISE, settle_s=1.0, idle_s=60.0, clock=clock)
    assert source.begun()
    assert not source.poll().closed
    clock.now = 59.0
    assert not source.poll().closed
    clock.now = 125.0
    assert source.poll().closed
    assert source.ended == "idle"


@pytest.mark.parametrize("fault", ["shorter", "replaced", "gone", "no czi"])
def test_what_happens_to_the_file_is_said(tmp_path, fault):
    path = tmp_path / "m.czi"
    Grower(path, whole("appended"), "appended").write(0, 4000)
    follower = CziFollower(str(path))
    follower.advance()
    if fault == "shorter":
        path.write_bytes(path.read_bytes()[:1000])
    elif fault == "replaced":
        other = tmp_path / "other"
        other.write_bytes(path.read_bytes())
        other.rename(path)
    elif fault == "gone":
        path.unlink()
    else:
        path.write_bytes(b"x" * 5000)
        follower = CziFollower(str(path))
    with pytest.raises(SourceError, match=r"m\.czi"):
        follower.advance()


def test_mosaics_and_stacks_wait_for_the_end(tmp_path):
    film = czi_of(PIXELS)
    for block in film.blocks:
        block.start["Z"] = 0
    film.blocks[1].start.update(film.blocks[0].start, Z=1)
    path = tmp_path / "m.czi"
    path.write_bytes(film.build())
    with pytest.raises(SourceError, match="Z planes or tiles"):
        GrowingCziSource(path, promise=PROMISE).begun()


def test_damaged_segments_end_in_a_sentence_or_a_right_plane(tmp_path):
    """At least 500 files with some bytes of their segments' headers changed, open and closed."""
    chance = random.Random(5)
    sound = whole("appended")
    starts = [i for i in range(0, len(sound), 32) if sound[i : i + 6] == b"ZISRAW"]
    path = tmp_path / "m.czi"
    began = time.process_time()
    for _ in range(500):
        damaged = bytearray(sound)
        for _ in range(chance.randint(1, 4)):
            at = chance.choice(starts) + chance.randrange(0, 32 + 16 + 120)
            damaged[at] = chance.randrange(256)
        if chance.random() < 0.5:
            del damaged[chance.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        clock = Clock()
        try:
            source = GrowingCziSource(path, promise=PROMISE, settle_s=1.0, clock=clock)
            if not source.begun():
                continue
            for clock.now in (0.0, 1.5, 3.0):
                availability = source.poll()
            for (scene, channel), frames in availability.complete.items():
                for frame in frames:
                    try:
                        plane = source.read(scene, frame, channel)
                    except PhagostatError:
                        continue
                    assert plane.ndim == 2
        except PhagostatError:
            continue
    assert time.process_time() - began < 60


def test_a_file_is_not_closed_before_all_that_it_names_is_there(tmp_path):
    path = tmp_path / "m.czi"
    sound = whole("reserved")
    path.write_bytes(sound[:-500])
    assert closed_czi(str(path)) is None
    path.write_bytes(sound)
    assert closed_czi(str(path)) is not None


def test_a_file_is_not_closed_whose_directory_leaves_out_what_was_followed(tmp_path):
    path, clock = tmp_path / "m.czi", Clock()
    first = {key: plane for key, plane in PIXELS.items() if key[1] == 0}
    path.write_bytes(czi_of(first).build() + whole("appended")[544:])  # more has come behind the directory
    source = GrowingCziSource(path, promise=PROMISE, settle_s=1.0, clock=clock)
    for clock.now in (0.0, 2.0, 4.0):
        source.poll()
    assert source.ended == ""
    clock.now = 9.0
    assert source.poll().closed
    assert source.ended == "complete"
