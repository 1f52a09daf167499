"""The segment parser on damaged files: a sentence or a result, never a traceback, never without end."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from phagostat.model.errors import PhagostatError, SourceError
from phagostat.sources.czi import CziSource
from phagostat.sources.czi_directory import parse_directory, read_directory
from phagostat.sources.czi_segments import iterate_segments, parse_entry, read_file_header, read_segment, read_subblock
from tests.sources.czi_bytes import Block, CziBytes, metadata_xml, taken_at, time_stamps


def film(*, directory_first: bool = False) -> bytes:
    rng = np.random.default_rng(0)
    blocks = [
        Block(
            rng.integers(0, 65535, (9, 11)).astype(np.uint16),
            {"S": s, "T": t, "C": c, "Z": 0, "M": 0},
            taken_at(f"2024-05-06T07:0{t}:0{s}.5Z"),
        )
        for t in range(3)
        for s in range(2)
        for c in range(2)
    ]
    return CziBytes(blocks, metadata_xml(), {"TimeStamps": time_stamps([0, 60, 120])}, directory_first).build()


def test_segments_are_walked_in_any_order(tmp_path):
    for first in (False, True):
        path = tmp_path / "m.czi"
        path.write_bytes(film(directory_first=first))
        with path.open("rb") as file:
            segments = list(iterate_segments(file.fileno(), path=path))
        names = [segment.id for segment in segments]
        assert names.count(b"ZISRAWSUBBLOCK") == 12
        assert names[0] == b"ZISRAWFILE"
        assert (names[1] == b"ZISRAWDIRECTORY") is first
        assert segments[-1].end == path.stat().st_size


def test_directory_columns_are_the_entries(tmp_path):
    path = tmp_path / "m.czi"
    path.write_bytes(film())
    with path.open("rb") as file:
        directory = read_directory(file.fileno(), read_file_header(file.fileno(), path=path), path=path)
        at = 0
        for row in range(len(directory)):
            entry = parse_entry(directory.raw, at, path=path)
            at += entry.n_bytes
            assert {k: int(v[row]) for k, v in directory.start.items()} == entry.starts
            assert (directory.stored_y[row], directory.stored_x[row]) == entry.stored_yx == (9, 11)
            block = read_subblock(file.fileno(), entry.position, path=path)
            assert block.entry.starts == entry.starts
            assert block.data_bytes == 9 * 11 * 2
    assert at == len(directory.raw)


def test_entries_of_unequal_length_parse_alike():
    short = Block(np.zeros((3, 4), np.uint8), {"T": 7})
    long = Block(np.zeros((5, 6), np.uint16), {"C": 1, "T": 8, "Z": 2, "S": 1})
    from tests.sources.czi_bytes import _entry

    directory = parse_directory(_entry(short, 100) + _entry(long, 200) + _entry(short, 300), 3, path="m.czi")
    assert directory.start["T"].tolist() == [7, 8, 7]
    assert directory.has["Z"].tolist() == [False, True, False]
    assert directory.position.tolist() == [100, 200, 300]
    assert directory.stored_y.tolist() == [3, 5, 3]


def test_a_sub_block_with_many_dimensions_is_read(tmp_path):
    start = {chr(ord("a") + k): k for k in range(20)}
    path = tmp_path / "m.czi"
    block = Block(np.arange(12, dtype=np.uint16).reshape(3, 4), start, b"<M/>")
    path.write_bytes(CziBytes([block]).build())
    np.testing.assert_array_equal(CziSource(path).read(0, 0, 0), block.pixels)


def mutated(original: bytes, rng: np.random.Generator) -> bytearray:
    """Change a few bytes anywhere, write telling pieces, aim at the header's offsets, or cut the file."""
    pieces = [b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 3 + b"\x7f", b"ZISRAW", b"DV"]
    content = bytearray(original)
    kind = rng.integers(4)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(content)))
        if kind == 0:
            content[at] = int(rng.integers(256))
        elif kind == 1:
            piece = pieces[rng.integers(len(pieces))]
            content[at : at + len(piece)] = piece
        elif kind == 2:
            content[32 + at % 80] = int(rng.integers(256))
        else:
            content = content[: max(112, at)]
    return content


@pytest.mark.parametrize("directory_first", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_mutations_end_in_a_result_or_a_sentence(tmp_path, seed, directory_first):
    original = film(directory_first=directory_first)
    rng = np.random.default_rng(seed)
    path = tmp_path / "m.czi"
    outcomes = {"read": 0, "refused": 0}
    for _ in range(40):
        content = mutated(original, rng)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        began = time.monotonic()
        try:
            source = CziSource(path)
            _ = source.metadata
            for (scene, channel), frames in source.poll().complete.items():
                for frame in frames[:3]:
                    try:
                        source.read(scene, frame, channel)
                    except PhagostatError:
                        outcomes["refused"] += 1
            outcomes["read"] += 1
        except PhagostatError:
            outcomes["refused"] += 1
        with path.open("rb") as file:
            try:
                for segment in iterate_segments(file.fileno(), path=path):
                    if segment.id == b"ZISRAWSUBBLOCK":
                        read_subblock(file.fileno(), segment.position, path=path)
            except PhagostatError:
                pass
        assert time.monotonic() - began < 10
    assert min(outcomes.values()) > 0


def test_a_walk_over_endless_segments_ends(tmp_path):
    path = tmp_path / "m.czi"
    path.write_bytes(b"ZISRAWFILE".ljust(32, b"\0") * 50)
    with path.open("rb") as file:
        assert len(list(iterate_segments(file.fileno(), path=path))) == 50
        with pytest.raises(SourceError, match="no sound segment"):
            read_segment(file.fileno(), 5, path=path)


def test_many_sub_blocks_at_one_position_do_not_take_for_ever(tmp_path):
    blocks = [Block(np.zeros((1, 1), np.uint8), {"T": 0})] * 5000
    path = tmp_path / "m.czi"
    path.write_bytes(CziBytes(blocks).build())
    began = time.monotonic()
    assert CziSource(path).poll().complete == {(0, 0): (0,)}
    assert time.monotonic() - began < 10


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_descriptors_do_not_pile_up(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for k in range(40):
        path = tmp_path / f"{k}.czi"
        path.write_bytes(film())
        CziSource(path).read(0, 0, 0)
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 10
