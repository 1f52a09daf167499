"""One driver per output: a lease that the next driver may take over when its holder is dead.

A lease is a file that is put into its place by a hard link, which either appears or fails: of two drivers one succeeds,
on a network file system too. What a dead holder left is replaced in one rename, by the one driver that has the right of
succession: itself a lease, named after what is to be replaced and taken in the same way. So the lease is never out of
its place, and a driver that looked at it long ago replaces nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from phagostat.model.errors import LeaseError
from phagostat.store.digests import bytes_digest
from phagostat.store.files import storage_error

STALE_AFTER_S = 120.0
"""A holder whose process cannot be looked at (on another machine, in another container, from before a restart) and that
has not renewed its lease for so long counts as dead."""
HEARTBEAT_S = 20.0
"""How often a lease is renewed."""
ATTEMPTS = 100


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
        if (self.host, self.boot) == (platform.node(), _boot()):
            return _process_start(self.pid) == self.started
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
        ours = _content(self.path)
        if ours is None or _holder(ours) != self.holder:
            return
        with (
            contextlib.suppress(OSError, LeaseError),  # someone takes us for dead, and is taking it over
            _offered(self.path, Holder.this_process()) as offer,
            _sole_right(self.path, ours, offer, lease=self.path) as right,
        ):
            if right:
                self.path.unlink()


@contextlib.contextmanager
def hold_lease(path: Path) -> Iterator[Lease]:
    """Hold the lease at ``path`` for the time of a ``with`` block, and renew it.

    Raises
    ------
    LeaseError
        If a living driver holds it.
    StoreError
        If the file cannot be written.
    """
    holder = Holder.this_process()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _offered(path, holder) as offer:
            _take(path, offer, lease=path)
    except OSError as error:
        raise storage_error(error, path) from error
    lease = Lease(path, holder)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_S):
            with contextlib.suppress(LeaseError):  # the driver will see for itself
                lease.renew()

    # tasks and tables may take longer than the driver's own looks at its lease are apart
    heart = threading.Thread(target=beat, name="phagostat-lease", daemon=True)
    heart.start()
    try:
        yield lease
    finally:
        over.set()
        heart.join()
        lease.release()


def read_holder(path: Path) -> Holder | None:
    """Who holds the lease, or None."""
    content = _content(path)
    return None if content is None else _holder(content)


def succession_path(lease: Path, content: bytes) -> Path:
    """Where the right lies to replace a file that says ``content``, in the succession of a lease."""
    return lease.with_name(f"{lease.name}.{bytes_digest(content)}.next")


def _take(path: Path, offer: Path, *, lease: Path) -> None:
    """Put a link to ``offer`` at ``path``: the lease, or a right of succession to it."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileExistsError):
            os.link(offer, path)
            return
        found = _content(path)
        if found is None:
            continue  # given back a moment ago
        holder = _holder(found)
        if holder is not None and holder.alive(path):
            raise LeaseError(
                "another run is at work on this output",
                where=lease.parent,
                found=f"process {holder.pid} on {holder.host}",
                remedy="wait until it has ended, or choose another output",
            )
        with _sole_right(path, found, offer, lease=lease) as right:
            if right:
                link = path.with_name(f"{lease.name}.{uuid.uuid4().hex}")
                os.link(offer, link)
                link.replace(path)
                return
    raise LeaseError("the lease could not be taken", where=lease, remedy="run again")


@contextlib.contextmanager
def _sole_right(path: Path, content: bytes, offer: Path, *, lease: Path) -> Iterator[bool]:
    """Be the only one who may replace or remove a file that says ``content``; False where it says so no more.

    What stands at ``path`` is told apart by its content, which holds a token of its own: it never comes back.
    """
    right = succession_path(lease, content)
    _take(right, offer, lease=lease)
    try:
        yield _content(path) == content
    finally:
        right.unlink(missing_ok=True)


@contextlib.contextmanager
def _offered(lease: Path, holder: Holder) -> Iterator[Path]:
    """A file that names a holder, to be linked to."""
    offer = lease.with_name(f"{lease.name}.{holder.token}")
    try:
        offer.write_text(json.dumps(asdict(holder)), "utf-8")
        yield offer
    finally:
        with contextlib.suppress(OSError):
            offer.unlink(missing_ok=True)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _holder(content: bytes) -> Holder | None:
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None


def _boot() -> str:
    """Where a process number means the same: since this start of the machine, in this container's name space."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{start} {Path('/proc/self/ns/pid').readlink()}"
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
