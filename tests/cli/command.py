"""The command called in this process, as a user would call it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from phagostat import cli

SENTENCE = re.compile(r"^phagostat: (?P<where>[^:]+): (?P<what>[^()]+) \(found: (?P<found>.+)\); (?P<remedy>\S.+[^.])$")


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it said."""

    code: int
    out: str
    err: str

    def sentence(self, code: int, where: object, *words: str) -> re.Match[str]:
        """The one sentence of a refusal: where, what, the value found and the remedy."""
        assert self.code == code, self.err
        assert self.out == ""
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        match = SENTENCE.match(lines[0])
        assert match is not None, lines[0]
        assert str(where) in match["where"], lines[0]
        for word in words:
            assert word in lines[0], lines[0]
        return match


Call = Callable[..., Outcome]


def caller(capfd: pytest.CaptureFixture[str]) -> Call:
    """Give a function that calls the command with some arguments."""

    def call(*arguments: object) -> Outcome:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of every file in a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
