"""One source in many threads and processes: right planes after fork, after pickling, and side by side."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from phagostat.sources.czi import CziSource

N_FRAMES = 12


def value(frame: int, channel: int) -> int:
    return 100 * frame + channel


def read_values(source: CziSource) -> list[int]:
    """The one value that each plane is made of; -1 where a plane is not uniform."""
    values = []
    for frame in range(N_FRAMES):
        for channel in range(2):
            plane = source.read(0, frame, channel)
            values.append(int(plane[0, 0]) if (plane == plane[0, 0]).all() else -1)
    return values


EXPECTED = [value(frame, channel) for frame in range(N_FRAMES) for channel in range(2)]


@pytest.fixture(params=["uncompressed:", "zstd1:ExplicitLevel=1"])
def movie(tmp_path: Path, request) -> Path:
    from pylibCZIrw import czi

    path = tmp_path / "m.czi"
    with czi.create_czi(str(path), compression_options=request.param) as writer:
        for frame in range(N_FRAMES):
            for channel in range(2):
                pixels = np.full((64, 48, 1), value(frame, channel), np.uint16)
                writer.write(pixels, plane={"T": frame, "C": channel, "Z": 0}, scene=0)
        writer.write_metadata()
    return path


@pytest.mark.parametrize("reader", ["auto", "library"])
def test_forked_children_read_right_planes_from_what_their_parent_had_open(movie, reader):
    source = CziSource(movie, reader=reader)
    assert read_values(source) == EXPECTED
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(3)]
    children = [context.Process(target=lambda w=w: w.send(read_values(source))) for _, w in pipes]
    for child in children:
        child.start()
    # the parent reads on meanwhile, moving what a shared file position would share
    for _ in range(5):
        assert read_values(source) == EXPECTED
    answers = [answer.recv() if answer.poll(60) else "no answer" for answer, _ in pipes]
    for child in children:
        child.kill()
        child.join()
    assert answers == [EXPECTED] * 3


def test_spawned_process_opens_its_own(movie):
    source = CziSource(movie)
    assert read_values(source) == EXPECTED
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(read_values, source).result(timeout=120) == EXPECTED


def test_a_pickle_is_path_and_options(movie):
    source = CziSource(movie, z=0)
    empty = len(pickle.dumps(source))
    _ = source.metadata, source.poll(), source.read(0, 0, 0)
    again = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) == empty < 1000
    assert again.metadata == source.metadata
    assert again.options == {"z": 0}


@pytest.mark.parametrize("reader", ["auto", "library"])
def test_threads_share_one_source(movie, reader):
    source = CziSource(movie, reader=reader)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: read_values(source), range(16))) == [EXPECTED] * 16
