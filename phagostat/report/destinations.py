"""Files and folders that appear whole or not at all, and only where they may."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from phagostat.model.errors import StoreError
from phagostat.store.layout import Layout

MARK: Final = "export.json"
"""In every folder that was written here: what it is of. A folder without it is never replaced."""

_REMEDIES: Final = {
    errno.ENOSPC: "free some space and export again",
    errno.EDQUOT: "free some quota and export again",
    errno.EACCES: "choose a destination that you may write to",
    errno.EPERM: "choose a destination that you may write to",
    errno.EROFS: "choose a destination that you may write to",
    errno.ENOTDIR: "choose another destination: a file stands where a folder is needed",
    errno.EEXIST: "choose another destination: a file stands where a folder is needed",
}


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a file; what was written there takes its place at the end, unless it failed.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(error, path) from error
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
    temporary, retired = _beside(path), _beside(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rename(retired)
        temporary.rename(path)
    except OSError as error:
        raise _unwritable(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            if retired.exists() and not path.exists():
                retired.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def write_mark(folder: Path, about: Mapping[str, object]) -> None:
    """Say in a folder what it is of, so that a later export may replace it."""
    (folder / MARK).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", "utf-8")


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that a file or folder may be written: that it is not there, or is ours and may be replaced.

    Raises
    ------
    StoreError
        If it may not.
    """
    if not path.exists() and not path.is_symlink():
        return
    empty = path.is_dir() and not any(path.iterdir())
    if not overwrite and not empty:
        raise StoreError(
            "something stands there already",
            where=path,
            found="a folder" if path.is_dir() else "a file",
            remedy="choose another destination, or add --force to replace it",
        )
    if path.is_dir() and not empty and not (path / MARK).is_file():
        raise StoreError(
            "a folder that no export has written is not replaced",
            where=path,
            found=f"no {MARK} in it",
            remedy="choose another destination",
        )


def check_outside_outputs(path: Path) -> None:
    """Check that a place is not inside an output, analysed or converted: nothing but a run writes there.

    Raises
    ------
    StoreError
        If it is.
    """
    place = path.absolute().resolve()
    for folder in (place, *place.parents):
        inside = folder.suffix == ".zarr" and (folder / "zarr.json").is_file()
        if inside or any(layout(folder).manifest.is_file() for layout in (Layout.analysis, Layout.conversion)):
            raise StoreError(
                "an export cannot be written into an output's own folder",
                where=path,
                found=f"the output {folder}",
                remedy="choose a destination beside the results",
            )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def _unwritable(error: OSError, path: Path) -> StoreError:
    return StoreError(
        "the export cannot be written",
        where=path,
        found=error.strerror or error,
        remedy=_REMEDIES.get(error.errno or 0, "choose another destination, or try again"),
    )
