"""Readers of acquisitions, all behind the :class:`~phagostat.sources.protocol.Source` protocol."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from phagostat.model.errors import SourceError
from phagostat.sources.frame_layouts import holds_pictures
from phagostat.sources.protocol import Source

HEAD_BYTES: Final = 16
TIFF_HEADS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Kind:
    """One kind of source: how to tell it, and the reader for it.

    Parameters
    ----------
    name
        As users know it.
    recognises
        Whether a path, with its first bytes (empty for a folder), is of this kind.
    module, reader
        Where its :class:`~phagostat.sources.protocol.Source` is; imported once it is needed.
    """

    name: str
    recognises: Callable[[Path, bytes], bool]
    module: str
    reader: str


KINDS: Final = (
    Kind("CZI file", lambda _, head: head.startswith(b"ZISRAWFILE"), "phagostat.sources.czi", "CziSource"),
    Kind(
        "OME-Zarr folder",
        lambda path, _: any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs")),
        "phagostat.sources.ome_zarr",
        "OmeZarrSource",
    ),
    Kind("TIFF file", lambda _, head: head[:4] in TIFF_HEADS, "phagostat.sources.tiff", "TiffSource"),
    Kind(
        "folder of frames", lambda path, _: holds_pictures(path), "phagostat.sources.frame_folder", "FrameFolderSource"
    ),
)


def open_source(path: str | os.PathLike[str], **options: Any) -> Source:
    """Open an acquisition with the reader for its content; its name does not matter.

    Parameters
    ----------
    path
        A file or folder.
    **options
        Options of the reader; see :class:`~phagostat.sources.czi.CziSource`,
        :class:`~phagostat.sources.ome_zarr.OmeZarrSource`, :class:`~phagostat.sources.tiff.TiffSource` and
        :class:`~phagostat.sources.frame_folder.FrameFolderSource`.

    Raises
    ------
    SourceError
        If it cannot be read, is of no known kind, or its reader has no such option.
    """
    place = Path(path)
    head = _first_bytes(place)
    for kind in KINDS:
        if kind.recognises(place, head):
            reader = getattr(import_module(kind.module), kind.reader)
            known = [name for name in inspect.signature(reader).parameters if name != "path"]
            for name, value in options.items():
                if name not in known:
                    raise SourceError(
                        f"a {kind.name} has no option {name}",
                        where=path,
                        found=f"{name}={value!r}; options are {', '.join(known)}",
                        remedy=f"leave out --{name.replace('_', '-')}",
                    )
            return cast(Source, reader(path, **options))
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        raise SourceError("a single picture, no movie", where=path, remedy="give the folder of the frames")
    nothing = "a folder without zarr.json or pictures" if place.is_dir() else "an empty file"
    found = f"first bytes {head!r}" if head else nothing
    raise SourceError(
        "not an acquisition that phagostat can read",
        where=path,
        found=found,
        remedy="give one of: " + ", ".join(kind.name for kind in KINDS),
    )


def _first_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            next(path.iterdir(), None)
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise SourceError("there is no such file", where=path, remedy="check the path") from error
    except PermissionError as error:
        raise SourceError("no permission to read it", where=path, remedy="change its permissions") from error
    except (OSError, ValueError) as error:
        raise SourceError("cannot be read", where=path, found=error) from error
