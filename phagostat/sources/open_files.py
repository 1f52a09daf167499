"""Files kept open for reading, per process: what is opened here never crosses a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from phagostat.model.errors import SourceError

MAX_OPEN_FILES: Final = 8

Opened = TypeVar("Opened")
_Key = tuple[int, str, int, int, int]
_registers: weakref.WeakSet[OpenFiles[Any]] = weakref.WeakSet()


class OpenFiles(Generic[Opened]):
    """The files of one kind that this process has open, the least recently used of them closed first.

    Parameters
    ----------
    open_file
        Opens the file at a path. What it gives closes its descriptors when it is collected.
    max_open
        How many are kept.

    Notes
    -----
    A file is known by its path, inode, size and modification time: another file at the same path opens anew.
    """

    def __init__(self, open_file: Callable[[str], Opened], *, max_open: int = MAX_OPEN_FILES) -> None:
        self._open_file = open_file
        self._max_open = max_open
        self._opened: OrderedDict[_Key, Opened] = OrderedDict()
        self._lock = threading.Lock()
        _registers.add(self)

    def get(self, path: str) -> Opened:
        """Give the file opened in this process.

        Raises
        ------
        SourceError
            If it cannot be opened.
        """
        try:
            status = Path(path).stat()
        except FileNotFoundError as error:
            raise SourceError("there is no such file", where=path, remedy="check the path") from error
        except (OSError, ValueError) as error:
            raise SourceError("cannot be opened", where=path, found=error) from error
        key = os.getpid(), path, status.st_ino, status.st_size, status.st_mtime_ns
        with self._lock:
            opened = self._opened.get(key)
            if opened is not None:
                self._opened.move_to_end(key)
                return opened
        opened = self._open_file(path)
        with self._lock:
            opened = self._opened.setdefault(key, opened)
            while len(self._opened) > self._max_open:
                self._opened.popitem(last=False)
        return opened

    def forget(self) -> None:
        """Drop what is open, with a new lock: in a forked child nobody would release the parent's."""
        self._lock = threading.Lock()
        self._opened.clear()


def open_descriptor(path: str, *, kind: str) -> int:
    """Open a file for reading by offset; the caller closes it.

    Parameters
    ----------
    path
        The file.
    kind
        What it should be, for the error message.

    Raises
    ------
    SourceError
        If it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except IsADirectoryError as error:
        raise SourceError(f"a folder, not a {kind}", where=path) from error
    except FileNotFoundError as error:
        raise SourceError("there is no such file", where=path, remedy="check the path") from error
    except PermissionError as error:
        raise SourceError("no permission to read it", where=path, remedy="change its permissions") from error
    except (OSError, ValueError) as error:
        raise SourceError("cannot be opened", where=path, found=error) from error


def _forget_in_child() -> None:
    for register in list(_registers):
        register.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
