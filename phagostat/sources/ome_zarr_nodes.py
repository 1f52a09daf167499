"""Groups and arrays of an OME-Zarr folder, those of Zarr version 2 (OME-Zarr 0.4) told in the words of version 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from phagostat.model.errors import SourceError

NODE_FILES: Final = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def is_node(folder: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return bool(node_files(folder))


def node_files(folder: Path) -> list[Path]:
    """Give the files that describe a group or array."""
    return [folder / name for name in NODE_FILES if (folder / name).is_file()]


def read_node(folder: Path) -> dict[str, Any]:
    """Give the description of a group or array as version 3 has it.

    Attributes of OME-Zarr 0.4 stand under ``ome`` as in 0.5; an array has ``shape``, ``data_type``, ``chunk_grid`` and
    ``chunk_key_encoding``.

    Raises
    ------
    SourceError
        If there is none, or it does not parse.
    """
    if (folder / "zarr.json").is_file():
        node = _load(folder / "zarr.json")
        if not isinstance(node.get("attributes", {}), dict):
            raise SourceError("its zarr.json is not one", where=folder)
        return node | {"zarr_format": 3}
    if not is_node(folder):
        raise SourceError("has no zarr.json", where=folder, remedy="give an OME-Zarr folder")
    attributes = _load(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    own = attributes.pop("phagostat", {})
    node = {"zarr_format": 2, "attributes": {"ome": attributes, "phagostat": own if isinstance(own, dict) else {}}}
    if (folder / ".zarray").is_file():
        array = _load(folder / ".zarray")
        node |= {"node_type": "array", "shape": array.get("shape"), "data_type": _data_type(array.get("dtype"))}
        node["chunk_grid"] = {"configuration": {"chunk_shape": array.get("chunks")}}
        separator = array.get("dimension_separator", ".")
        node["chunk_key_encoding"] = {"name": "v2", "configuration": {"separator": separator}}
    return node


def _data_type(text: object) -> str:
    try:
        return np.dtype(str(text)).newbyteorder("=").name
    except (TypeError, ValueError):
        return str(text)


def _load(file: Path) -> dict[str, Any]:
    try:
        node = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"its {file.name} cannot be read", where=file.parent, found=error) from error
    if not isinstance(node, dict):
        raise SourceError(f"its {file.name} is not one", where=file.parent)
    return node
