"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from phagostat.store.files import storage_error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a file; what was written there takes its place at the end, unless it failed.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside the one that is wanted; it takes its place, and that of an older one, at the end.

    Raises
    ------
    StoreError
        If it cannot be written. An older folder is then still there.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    retired = temporary.with_suffix(".old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rename(retired)
        temporary.rename(path)
    except OSError as error:
        if retired.exists() and not path.exists():
            retired.rename(path)
        raise storage_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)
