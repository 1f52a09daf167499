from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from phagostat.model.errors import StoreError
from phagostat.store.arrays import ImageSpec, PlaneWriter, ensure_image
from phagostat.store.commits import WHOLE, Commit, CommitLog, Entry
from phagostat.store.files import remove_partial_files
from phagostat.store.integrity import damaged_chunks
from phagostat.store.layout import Layout
from phagostat.store.seal import sweep_orphans

FRAMES = 8


def entry(index: int, *, key: str = "k", **more) -> Entry:
    return Entry(index, key, "ok", {"value": index}, **more)


def commit(start: int = 0, stop: int = 3, *, step: str = "images", scene: int | None = 0, key: str = "k") -> Commit:
    return Commit(step, 1, scene, start, stop, tuple(entry(i, key=key) for i in range(start, stop)))


# ---- one thing at a time ---------------------------------------------------------------------------------------------


def test_what_was_committed_is_read_back(tmp_path):
    log = CommitLog(tmp_path, fsync=True)
    log.commit(commit())
    log.commit(commit(3, 5))
    log.commit(commit(0, 1, step="threshold", scene=None))
    again = CommitLog(tmp_path)
    assert list(again) == list(log)
    assert list(again.entries("images", 0)) == [0, 1, 2, 3, 4]
    assert again.entry("threshold", None, WHOLE) == entry(0)
    assert again.entry("images", 0, 5) is None
    assert again.entry("images", 1, 0) is None
    assert len(again) == 6
    assert sorted(p.name for p in tmp_path.rglob("*.json")) == [
        "0000000-0000001.json",
        "0000000-0000003.json",
        "0000003-0000005.json",
    ]


def test_committing_an_index_twice_is_refused(tmp_path):
    log = CommitLog(tmp_path)
    log.commit(commit(0, 3))
    with pytest.raises(StoreError, match="committed twice"):
        log.commit(commit(2, 4))
    assert list(CommitLog(tmp_path).entries("images", 0)) == [0, 1, 2]


def test_a_retraction_takes_back_its_indices_alone(tmp_path):
    log = CommitLog(tmp_path)
    log.commit(commit(0, 4))
    log.commit(commit(4, 6))
    log.retract("images", 0, [1, 2, 4, 5, 77])
    for found in (log, CommitLog(tmp_path)):
        assert list(found.entries("images", 0)) == [0, 3]
    assert not (tmp_path / commit(4, 6).path).exists()
    log.commit(commit(1, 3))
    log.commit(commit(4, 6))
    assert list(CommitLog(tmp_path).entries("images", 0)) == [0, 1, 2, 3, 4, 5]


def test_the_digest_of_the_log_knows_no_block_boundaries(tmp_path):
    whole, parts = CommitLog(tmp_path / "a"), CommitLog(tmp_path / "b")
    whole.commit(commit(0, 4))
    for start in (2, 0):
        parts.commit(commit(start, start + 2))
    assert whole.digest(["images"]) == parts.digest(["images"])
    assert whole.digest(["images"]) != CommitLog(tmp_path / "c").digest(["images"])
    parts.retract("images", 0, [3])
    assert whole.digest(["images"]) != parts.digest(["images"])


@pytest.mark.parametrize("change", ["verdict", "record", "chunks", "rows"])
def test_content_is_the_result_and_nothing_else(change):
    first = Entry(3, "key", "ok", {"a": 1}, {"0/0/c/3/0/0/0": "d"}, "rows", "file", {"plane/0": "p"})
    other = {"verdict": "black", "record": {"a": 2}, "chunks": {"0/0/c/3/0/0/0": "e"}, "rows": "other"}[change]
    assert replace(first, **{change: other}).content != first.content
    same = replace(first, key="another", row_file="another", inputs={"plane/0": "another"})
    assert same.content == first.content


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"ok"', '"OK"', 1),
        lambda text: text.replace('"stop":3', '"stop":4'),
        lambda text: json.dumps([1, 2]),
        lambda text: "\0" * len(text),
    ],
)
def test_a_damaged_commit_counts_as_not_committed_and_is_named(tmp_path, damage):
    log = CommitLog(tmp_path)
    log.commit(commit(0, 3))
    log.commit(commit(3, 5))
    file = tmp_path / commit(0, 3).path
    text = file.read_text()
    assert damage(text) != text
    file.write_text(damage(text))
    again = CommitLog(tmp_path)
    assert again.damaged == [commit(0, 3).path]
    assert list(again.entries("images", 0)) == [3, 4]
    again.commit(commit(0, 2))  # its range is committed anew, in other blocks
    again.commit(commit(2, 3))
    again.remove_damaged()
    clean = CommitLog(tmp_path)
    assert clean.damaged == []
    assert list(clean.entries("images", 0)) == [0, 1, 2, 3, 4]


def test_a_rename_that_reports_an_error_though_it_happened_is_a_success(tmp_path, monkeypatch):
    log = CommitLog(tmp_path)
    real = Path.replace

    def lying(self, target):
        real(self, target)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lying)
        log.commit(commit())
    assert list(CommitLog(tmp_path).entries("images", 0)) == [0, 1, 2] == list(log.entries("images", 0))
    assert list(tmp_path.rglob("*.partial")) == []


@pytest.mark.parametrize("number", [5, 28, 13])
def test_a_rename_that_failed_is_an_error_and_nothing_is_committed(tmp_path, monkeypatch, number):
    log = CommitLog(tmp_path)

    def failing(self, target):
        raise OSError(number, "no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        with pytest.raises(StoreError, match="cannot be written") as caught:
            log.commit(commit())
    assert caught.value.remedy
    assert len(log) == len(CommitLog(tmp_path)) == 0
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    log.commit(commit())
    assert len(CommitLog(tmp_path)) == 3


def test_a_retraction_that_cannot_be_written_takes_nothing_back(tmp_path, monkeypatch):
    log = CommitLog(tmp_path)
    log.commit(commit(0, 3))

    def failing(self, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        with pytest.raises(StoreError, match="No space left"):
            log.retract("images", 0, [1])
    assert list(log.entries("images", 0)) == [0, 1, 2] == list(CommitLog(tmp_path).entries("images", 0))


def test_row_files_that_are_gone_or_changed_are_named_with_what_they_held(tmp_path):
    from phagostat.store.rows import write_row_file

    rows, log = tmp_path / "rows", CommitLog(tmp_path / "log")
    path, digest = write_row_file(rows, "aggregates/scene-000/a", {"x": np.arange(3.0)})
    held = tuple(entry(i, rows="r", row_file=path) if i else entry(i) for i in range(3))
    log.commit(Commit("aggregates", 1, 0, 0, 3, held, {path: digest}))
    assert log.row_file_digest("aggregates", 0, 1) == digest
    assert log.row_file_digest("aggregates", 0, 0) is None
    assert log.damaged_row_files(rows) == {}
    (rows / path).write_bytes((rows / path).read_bytes()[:-1])
    assert log.damaged_row_files(rows) == {path: [("aggregates", 0, 1), ("aggregates", 0, 2)]}
    (rows / path).unlink()
    assert list(log.damaged_row_files(rows)) == [path]


# ---- any sequence of things, with a crash anywhere -------------------------------------------------------------------


class Crash(Exception):  # noqa: N818
    """Stands for SIGKILL: no handler of the store catches it."""


@contextmanager
def crash_at(patch: pytest.MonkeyPatch, operation: int | None, *, after: bool) -> Iterator[None]:
    """Crash at the n-th change of a name on disk (rename, unlink), just before or just after it."""
    count = 0

    def counted(real):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            if count == operation and not after:
                raise Crash
            result = real(*arguments, **options)
            if count == operation:
                raise Crash
            return result

        return call

    with patch.context() as inner:
        if operation is not None:
            for name in ("replace", "rename", "unlink"):
                inner.setattr(Path, name, counted(getattr(Path, name)))
        yield


class CommitLogMachine(RuleBasedStateMachine):
    """A driver that commits and retracts frames, and is killed now and then."""

    @initialize()
    def start(self):
        self.root = Path(tempfile.mkdtemp())
        self.layout = Layout.analysis(self.root)
        ensure_image(self.layout.images, ImageSpec("0", (FRAMES, 1, 4, 4), "uint8", None, None, ("a",)))
        self.log = CommitLog(self.layout.commits)
        self.model: dict[int, int] = {}
        self.patch = pytest.MonkeyPatch()

    def teardown(self):
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def _attempt(self, work, possible, operation, after):
        """Do something that may be cut off; afterwards each touched index is in one of its possible states."""
        try:
            with crash_at(self.patch, operation, after=after):
                work()
        except Crash:
            self.log = CommitLog(self.layout.commits)
            assert self.log.damaged == []
            found = {i: e.record["value"] for i, e in self.log.entries("images", 0).items()}
            for index in {*self.model, *possible, *found}:
                allowed = possible.get(index, [self.model.get(index)])
                assert found.get(index) in allowed, f"frame {index}"
            self.model = found
            return
        self.model |= {index: states[-1] for index, states in possible.items() if states[-1] is not None}
        for index, states in possible.items():
            if states[-1] is None:
                self.model.pop(index, None)

    crashes = st.none() | st.integers(1, 8)

    @rule(
        start=st.integers(0, FRAMES - 1),
        length=st.integers(1, 4),
        value=st.integers(0, 5),
        operation=crashes,
        after=st.booleans(),
    )
    def compute(self, start, length, value, operation, after):
        stop = min(start + length, FRAMES)

        def work():
            self.log.retract("images", 0, range(start, stop))
            entries = []
            for index in range(start, stop):
                writer = PlaneWriter(self.layout.images, "0/0")
                chunk, digest, _ = writer.write((index, 0), np.full((4, 4), value, np.uint8))
                entries.append(Entry(index, "key", "ok", {"value": value}, {chunk: digest}))
            self.log.commit(Commit("images", 1, 0, start, stop, tuple(entries)))

        # cut off, a frame is what it was, or not committed, or (its commit was the last thing done) what it becomes
        states = {index: [self.model.get(index), None, value] for index in range(start, stop)}
        self._attempt(work, states, operation, after)

    @rule(indices=st.sets(st.integers(0, FRAMES - 1), min_size=1), operation=crashes, after=st.booleans())
    def take_back(self, indices, operation, after):
        states = {index: [self.model.get(index), None] for index in indices}
        self._attempt(lambda: self.log.retract("images", 0, indices), states, operation, after)

    @rule()
    def start_anew(self):
        self.log = CommitLog(self.layout.commits)

    @rule()
    def clean_up(self):
        remove_partial_files(self.root)
        sweep_orphans(self.layout, self.log)
        files = (path for path in (self.layout.images / "0/0/c").rglob("*") if path.is_file())
        chunks = {str(path.relative_to(self.layout.images)) for path in files}
        assert chunks == {f"0/0/c/{index}/0/0/0" for index in self.model}
        assert list(self.root.rglob("*.partial")) == []

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def overwrite_is_refused(self, data):
        index = data.draw(st.sampled_from(sorted(self.model)))
        with pytest.raises(StoreError, match="twice"):
            self.log.commit(commit(index, index + 1))

    @invariant()
    def what_is_committed_is_there(self):
        if not hasattr(self, "log"):
            return
        found = {i: e.record["value"] for i, e in self.log.entries("images", 0).items()}
        assert found == self.model
        promised = {c: d for one in self.log for e in one.entries for c, d in e.chunks.items()}
        assert len(promised) == len(self.model)
        assert damaged_chunks(self.layout.images, promised) == []

    @invariant()
    def disk_equals_memory(self):
        if hasattr(self, "log"):
            again = CommitLog(self.layout.commits)
            assert list(again) == list(self.log)
            assert again.digest(["images"]) == self.log.digest(["images"])
            assert len(again) == len(self.log) == len(self.model)


TestCommitLog = CommitLogMachine.TestCase
TestCommitLog.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
