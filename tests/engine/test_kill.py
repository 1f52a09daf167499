"""A run that is killed at any moment goes on where it was: same results, nothing committed is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from phagostat.simulate import simulate
from phagostat.store.integrity import differences, read_contents
from phagostat.store.layout import Layout

from .processes import children, commits, finish, group, partial_files, start, wait_for, workers

KILLS = int(os.environ.get("PHAGOSTAT_KILLS", "4"))
KILLS_PER_OUTPUT = 3
SEED = int(os.environ.get("PHAGOSTAT_KILL_SEED", str(random.SystemRandom().randrange(2**32))))
SMALL_BLOCKS = ("--set", "execution.block_frames=2")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are followed through /proc"),
]


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kill") / "movie.czi"
    simulate(path, preset="easy", seed=5, scenes=3, frames=12, shape_yx=(256, 256))
    return path


@pytest.fixture(scope="module")
def undisturbed(movie: Path) -> tuple[Layout, float]:
    """An output of a run that nobody disturbed, and how long it took."""
    began = time.monotonic()
    code, _, err = finish(start(["run", movie, "-o", movie.parent / "undisturbed", "-q", *SMALL_BLOCKS]))
    assert code == 0, err
    return Layout.analysis(movie.parent / "undisturbed/movie"), time.monotonic() - began


def _kill_in_a_write(generator: random.Random, process, output: Path) -> bool:
    """Kill the driver and its workers while one of them writes a file. False if they ended before.

    Everything is stopped now and then to look for a half-written file, and goes on if there is none, or for as many
    as are let pass.
    """
    passing = generator.randrange(8)
    while process.poll() is None:
        time.sleep(generator.uniform(0, 0.005))
        os.killpg(process.pid, signal.SIGSTOP)
        if output.exists() and partial_files(output):
            if not passing:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return True
            passing -= 1
        os.killpg(process.pid, signal.SIGCONT)
    process.communicate()
    return False


def _kill_at_some_moment(
    generator: random.Random, process, output: Path, duration_s: float, fresh: int, modes: list[str]
) -> bool:
    """Kill the driver: at a random time of a whole run, soon after one more commit, or in the middle of a write.

    False if it ended before.
    """
    mode = generator.choice(modes)
    if mode == "write":
        return _kill_in_a_write(generator, process, output)
    if mode == "time":
        time.sleep(generator.uniform(0, duration_s))
    else:
        aim = fresh + generator.randrange(1, 20)
        wait_for(lambda: len(commits(output)) >= aim or process.poll() is not None, max(60.0, duration_s * 4))
        time.sleep(generator.uniform(0, 0.02))
    if process.poll() is not None:
        process.communicate()
        return False
    process.kill()
    process.communicate()
    return True


def test_a_killed_run_goes_on_to_the_same_result(movie, undisturbed, tmp_path, record_property):
    wanted, duration_s = undisturbed
    generator = random.Random(SEED)
    print(f"PHAGOSTAT_KILL_SEED={SEED}")
    killed = with_commits = left_partial = attempts = 0
    while killed < KILLS:
        attempts += 1
        assert attempts < 4 * KILLS + 4, "the run ends before it can be killed"
        root = tmp_path / f"out-{attempts}"
        output = root / "movie"
        kept: dict[str, tuple[int, int]] = {}
        for _ in range(min(KILLS_PER_OUTPUT, KILLS - killed)):
            process = start(["run", movie, "-o", root, "-q", "--workers", "2", *SMALL_BLOCKS])
            # the last of few kills could otherwise all fall before the first commit, and show nothing of it
            modes = ["time", "commit", "write", "write"] if with_commits or killed < KILLS - 1 else ["commit"]
            if not _kill_at_some_moment(generator, process, output, duration_s, len(commits(output)), modes):
                break
            killed += 1
            now = commits(output)
            assert kept.items() <= now.items(), "a run touched what was committed before"
            kept = now
            with_commits += bool(now)
            left_partial += len(partial_files(output)) if output.exists() else 0
        code, _, err = finish(start(["run", movie, "-o", root, "-q", "--workers", "2", *SMALL_BLOCKS]))
        assert (code, err) == (0, ""), err
        after = commits(output)
        changed = {name for name, identity in kept.items() if after.get(name) != identity}
        assert not changed, f"committed before a kill, and done again: {changed}"
        assert partial_files(output) == []
        assert differences(wanted, Layout.analysis(output)) == []
        assert read_contents(wanted).hash == read_contents(Layout.analysis(output)).hash
    print(
        f"{killed} kills survived ({with_commits} with commits on disk, {left_partial} partial files left and removed)"
    )
    record_property("kills", killed)
    assert with_commits


def test_killed_workers_are_replaced(movie, undisturbed, tmp_path):
    wanted, _ = undisturbed
    generator = random.Random(SEED + 1)
    output = tmp_path / "out/movie"
    process = start(["run", movie, "-o", tmp_path / "out", "-q", "--workers", "2", "--set", "execution.block_frames=1"])
    for aim in (3, 20):
        assert wait_for(lambda n=aim: len(commits(output)) >= n, 60), "no commits came"
        alive = workers(process.pid)
        if process.poll() is None and alive:
            os.kill(generator.choice(alive), signal.SIGKILL)
    code, _, err = finish(process)
    assert (code, err) == (0, "")
    assert differences(wanted, Layout.analysis(output)) == []
    assert partial_files(output) == []


@pytest.mark.parametrize(
    ("number", "to_group", "code", "word"),
    [
        (signal.SIGINT, True, 130, "interrupted"),  # Ctrl-C in a terminal: every process of the job gets it
        (signal.SIGINT, False, 130, "interrupted"),
        (signal.SIGTERM, True, 143, "terminated"),
        (signal.SIGTERM, False, 143, "terminated"),
    ],
    ids=["ctrl-c", "int", "term-all", "term"],
)
def test_an_interrupted_run_says_one_sentence_and_the_next_goes_on(
    movie, undisturbed, tmp_path, number, to_group, code, word
):
    wanted, _ = undisturbed
    output = tmp_path / "out/movie"
    # quiet: on a slow machine a line of progress would stand beside the sentence
    arguments = ["run", movie, "-o", tmp_path / "out", "-q", "--workers", "2", "--set", "execution.block_frames=1"]
    process = start(arguments)
    assert wait_for(lambda: len(commits(output)) >= 5, 60)
    (os.killpg if to_group else os.kill)(process.pid, number)
    found, out, err = finish(process, 60)
    assert found == code, err
    assert out == ""
    assert err.splitlines() == [f"phagostat: {word}: what is committed is kept, the same command goes on from there"]
    assert wait_for(lambda: not group(process.pid), 15), "processes of the run are still there"
    assert not (output / "driver.lease").exists()
    before = commits(output)
    assert before
    code, _, err = finish(start(arguments))
    assert (code, err) == (0, "")
    assert before.items() <= commits(output).items()
    assert differences(wanted, Layout.analysis(output)) == []


@pytest.mark.parametrize("when", ["starting", "computing"])
def test_no_process_outlives_a_killed_driver(movie, tmp_path, when):
    process = start(["run", movie, "-o", tmp_path / "out", "-q", "--workers", "2", "--set", "execution.block_frames=1"])
    if when == "computing":
        assert wait_for(lambda: len(commits(tmp_path / "out/movie")) >= 3, 60)
    else:
        assert wait_for(lambda: len(children(process.pid)) >= 2, 60)
    assert len(group(process.pid)) > 1
    process.kill()
    process.communicate()
    assert wait_for(lambda: not group(process.pid), 20), [Path(f"/proc/{p}/cmdline") for p in group(process.pid)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_interrupted_while_it_starts_ends_in_one_sentence(movie, tmp_path, number):
    process = start(["run", movie, "-o", tmp_path / "out", "-q", "--workers", "2"])
    assert wait_for(lambda: len(workers(process.pid)) >= 1, 60)
    os.killpg(process.pid, number)
    code, out, err = finish(process, 60)
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("phagostat: ")
    assert wait_for(lambda: not group(process.pid), 15)
