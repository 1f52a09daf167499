"""What an output is: its format, the version that made it, its source and settings."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from phagostat.model.errors import StoreError
from phagostat.store.files import write_whole
from phagostat.store.layout import FORMAT, Layout

_LIBRARIES = ("aicspylibczi", "numpy", "opencv-python-headless", "scikit-image", "scipy", "zarr")


@dataclass(frozen=True)
class Manifest:
    """The first thing written into an output, and what the next run checks before it touches anything.

    Parameters
    ----------
    kind
        ``"analysis"`` or ``"conversion"``.
    format
        Version of the layout.
    version
        Version of phagostat.
    source
        Path, kind and identity of the source.
    settings
        All settings, nested by group.
    acquisition
        What was known of the acquisition: roles, pixel size, scenes, times.
    environment
        Libraries and kind of processor: recorded, since identity across them is not promised.
    """

    kind: str
    format: int
    version: str
    source: Mapping[str, Any]
    settings: Mapping[str, Any]
    acquisition: Mapping[str, Any]
    environment: Mapping[str, Any]


def new_manifest(
    kind: str, *, source: Mapping[str, Any], settings: Mapping[str, Any], acquisition: Mapping[str, Any]
) -> Manifest:
    """A manifest for an output that this version makes."""
    return Manifest(kind, FORMAT, package_version(), source, settings, acquisition, environment())


def write_manifest(layout: Layout, manifest: Manifest) -> None:
    """Write the manifest into an output."""
    write_whole(layout.manifest, (json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n").encode())


def read_manifest(layout: Layout) -> Manifest | None:
    """The manifest of an output, or None where there is no output yet.

    Raises
    ------
    StoreError
        If something stands there that is no output of this format.
    """
    try:
        text = layout.manifest.read_text("utf-8")
    except FileNotFoundError:
        if layout.root.is_dir() and any(_foreign(layout.root)):
            raise StoreError(
                "the folder holds other files",
                where=layout.root,
                found=", ".join(sorted(_foreign(layout.root))[:3]),
                remedy="choose a new or empty output",
            ) from None
        return None
    except OSError as error:
        raise StoreError(
            "the output cannot be read",
            where=layout.manifest,
            found=error.strerror,
            remedy="choose an output that you may read and write",
        ) from None
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise StoreError(
                "the output was made in another format",
                where=layout.root,
                found=f"format {document['format']} by phagostat {document.get('version')}",
                remedy=f"this is phagostat {package_version()}, format {FORMAT}: choose another output",
            )
        return Manifest(**document)
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            "the output's manifest is damaged",
            where=layout.manifest,
            found=f"{len(text)} characters that are no manifest",
            remedy="choose another output",
        ) from None


def check_manifest(layout: Layout, found: Manifest, wanted: Manifest, *, upgrade: bool = False) -> Manifest:
    """Check that an existing output can take this run's results; give the manifest to write.

    Raises
    ------
    StoreError
        If it was made from another source, for another purpose, by another profile, or by another version.
    """
    if found.kind != wanted.kind:
        raise StoreError(
            f"the output holds a{'n' if found.kind[0] in 'aeiou' else ''} {found.kind}",
            where=layout.root,
            found=found.kind,
            remedy="choose another output",
        )
    if found.source.get("identity") not in {wanted.source.get("identity"), wanted.source.get("growing_identity")}:
        raise StoreError(
            "the output was made from another source",
            where=layout.root,
            found=found.source.get("path"),
            remedy="choose another output",
        )
    profiles = found.settings.get("profile"), wanted.settings.get("profile")
    if profiles[0] != profiles[1]:
        raise StoreError(
            "the output was made with another profile",
            where=layout.root,
            found=profiles[0],
            remedy=f"choose another output, or run with --profile {profiles[0]}",
        )
    if found.version != wanted.version and not upgrade:
        raise StoreError(
            "the output was made by another version of phagostat",
            where=layout.root,
            found=found.version,
            remedy=f"this is {wanted.version}: choose another output, or add --upgrade to recompute what changed",
        )
    return replace(wanted, environment=found.environment) if not upgrade else wanted


def package_version() -> str:
    """Version of the installed phagostat."""
    try:
        return version("phagostat")
    except PackageNotFoundError:
        return "unknown"


def environment() -> dict[str, Any]:
    """Libraries and kind of processor that could show in the last digit of a number."""
    libraries = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = "absent"
    return {"python": platform.python_version(), "machine": platform.machine(), "cpu": _cpu(), "libraries": libraries}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _foreign(root: Path) -> list[str]:
    """What lies in a folder apart from what a killed start of ours leaves (lease, partial files)."""
    ours = {".phagostat", "driver.lease"}
    names = (path.name for path in root.iterdir())
    return [n for n in names if n not in ours and not n.startswith((".output.json", "driver.lease."))]
