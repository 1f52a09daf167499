"""The command as a process of its own, to be killed; what it leaves on disk, to be compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def start(arguments: Sequence[object], **options: object) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [sys.executable, "-m", "phagostat.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 120.0) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command that ends by itself."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, out, err


def children(pid: int) -> list[int]:
    """Child processes of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def workers(pid: int) -> list[int]:
    """Worker processes of a driver."""
    return [child for child in children(pid) if "spawn_main" in command_line(child)]


def command_line(pid: int) -> str:
    """Command line of a process, or nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def group(pgid: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pgid and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool], timeout_s: float, pause_s: float = 0.002) -> bool:
    """Wait until something is so; False if the time is up first."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause_s)
    return condition()


def commits(output: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of each whole commit file."""
    found = {}
    for path in output.glob("commits/*/*/*.json"):
        try:
            json.loads(path.read_text())
            stat = path.stat()
        except (OSError, ValueError):
            continue
        found[str(path.relative_to(output))] = (stat.st_ino, stat.st_mtime_ns)
    return found


def partial_files(output: Path) -> list[str]:
    """What writers that were cut off left behind."""
    return [str(path) for path in output.rglob("*.partial")]
