"""One driver per output: a lease that the next driver may take over when its holder is dead."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from phagostat.model.errors import LeaseError
from phagostat.store.files import storage_error

STALE_AFTER_S = 120.0
"""A holder on another machine that has not renewed its lease for so long counts as dead."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease."""

    token: str
    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Holder:
        """The process that asks."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, platform.node(), _boot(), pid, _process_start(pid) or "")

    def alive(self, lease: Path) -> bool:
        """Whether the holder may still be at work."""
        if self.host == platform.node():
            return self.boot == _boot() and _process_start(self.pid) == self.started
        return _age_s(lease) < STALE_AFTER_S


class Lease:
    """A held lease; :meth:`renew` it now and then, :meth:`release` it at the end."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path = path
        self.holder = holder

    def renew(self) -> None:
        """Show that the holder is alive.

        Raises
        ------
        LeaseError
            If another driver has taken the lease over meanwhile.
        """
        current = read_holder(self.path)
        if current is None or current.token != self.holder.token:
            raise LeaseError(
                "another driver took this output over",
                where=self.path.parent,
                found=f"process {current.pid} on {current.host}" if current else "no lease",
                remedy="let the other one finish, then run again",
            )
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        current = read_holder(self.path)
        if current is not None and current.token == self.holder.token:
            with contextlib.suppress(OSError):
                self.path.unlink()


@contextlib.contextmanager
def hold_lease(path: Path) -> Iterator[Lease]:
    """Hold the lease at ``path`` for the time of a ``with`` block.

    Raises
    ------
    LeaseError
        If a living driver holds it.
    StoreError
        If the file cannot be written.
    """
    holder = Holder.this_process()
    _take(path, holder)
    lease = Lease(path, holder)
    try:
        yield lease
    finally:
        lease.release()


def read_holder(path: Path) -> Holder | None:
    """Who holds the lease, or None."""
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _take(path: Path, holder: Holder) -> None:
    offer = path.with_name(f"{path.name}.{holder.token}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        offer.write_text(json.dumps(asdict(holder)), "utf-8")
        for _ in range(100):
            # a hard link either appears or fails: two drivers can't both succeed, on a network file system either
            with contextlib.suppress(FileExistsError):
                os.link(offer, path)
                return
            current = read_holder(path)
            if current is not None and current.alive(path):
                raise LeaseError(
                    "another run is at work on this output",
                    where=path.parent,
                    found=f"process {current.pid} on {current.host}",
                    remedy="wait until it has ended, or choose another output",
                )
            _set_aside(path, current)
        raise LeaseError("the lease could not be taken", where=path, remedy="run again")
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            offer.unlink(missing_ok=True)


def _set_aside(path: Path, dead: Holder | None) -> None:
    """Move a dead holder's lease away; if a living driver's was caught instead, put it back."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.dead")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    caught = read_holder(aside)
    if caught is not None and (dead is None or caught.token != dead.token):
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """Start time of a living process in clock ticks since boot; None if it is dead or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:  # no /proc: all that can be told is whether the process exists
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return ""
        return ""
    return None if fields[0] in "ZX" else fields[19]


def _age_s(lease: Path) -> float:
    """Age of a lease by the clock of the file system that holds it."""
    probe = lease.with_name(f"{lease.name}.{uuid.uuid4().hex}.clock")
    try:
        probe.touch()
        return probe.stat().st_mtime - lease.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)
