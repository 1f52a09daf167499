"""Which picture of a folder is which plane: the released data set's layout, and folders named by frame.

The released data set, and what the published pipeline writes, has ``scene_<k>/normalized_aggregate/<frame>.png`` and
``scene_<k>/normalized_cell/<frame>.png``. Elsewhere pictures stand in one folder, in a folder a channel, or in a
folder a scene (with a folder a channel in it).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phagostat.model.acquisition import Channel
from phagostat.model.errors import SourceError
from phagostat.sources.channel_light import is_fluorescent
from phagostat.sources.frame_names import is_aside_name, is_channel_name, is_scene_name, parse_names, require_dense
from phagostat.sources.natural_order import natural_key

PICTURE_SUFFIXES: Final = (".png", ".tif", ".tiff")
RELEASED_CHANNELS: Final = (("normalized_aggregate", True), ("normalized_cell", False))
"""Folders of the released layout that are read, in channel order, and whether they show fluorescence."""
SEARCHED_DEPTH: Final = 4
"""From the root of the released data set: condition, acquisition, scene, channel."""
MAX_SEARCHED_FOLDERS: Final = 2000

_RELEASED_SCENE: Final = re.compile(r"scene_(\d+)")

SceneFiles = Mapping[tuple[int, int, int], Path]
"""Files by frame number as in the names, channel, and Z plane from 0."""


@dataclass(frozen=True)
class FolderScene:
    """One scene of a folder: its name and its files."""

    name: str
    files: SceneFiles


@dataclass(frozen=True)
class FolderLayout:
    """What a folder of pictures holds.

    Parameters
    ----------
    dialect
        As told to the user.
    released
        Whether it has the released data set's layout, whose frames are counted from 0.
    channels, scenes
        In order.
    notes
        Remarks for the user.
    """

    dialect: str
    released: bool
    channels: tuple[Channel, ...]
    scenes: tuple[FolderScene, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Listing:
    """What stands in a folder, hidden files aside."""

    pictures: tuple[str, ...]
    folders: tuple[str, ...]


def holds_pictures(folder: Path, *, depth: int = SEARCHED_DEPTH) -> bool:
    """Whether a folder, or one of its folders down to ``depth``, holds a PNG or TIFF.

    Only the first folders of a large tree are looked into, so that a whole disk is soon refused.
    """
    level = [folder]
    looked_into = 0
    for _ in range(depth + 1):
        below: list[Path] = []
        for place in level:
            looked_into += 1
            if looked_into > MAX_SEARCHED_FOLDERS:
                return False
            try:
                listing = _list(place)
            except SourceError:
                continue
            if listing.pictures:
                return True
            below.extend(place / name for name in listing.folders)
        level = below
    return False


def folder_layout(root: Path) -> FolderLayout:
    """Tell what each picture of an acquisition's folder is.

    Raises
    ------
    SourceError
        If there are no pictures, several acquisitions, or it cannot be told what is what.
    """
    listing = _list(root)
    if _is_released_scene(listing):
        return _released(root, {root.name or "scene": root})
    scenes = {
        name: root / name
        for name in listing.folders
        if _RELEASED_SCENE.fullmatch(name) and _is_released_scene(_list(root / name))
    }
    if scenes:
        return _released(root, scenes)
    if listing.pictures:
        return _named(root, {"": {"": root}}, ())
    return _nested(root, listing)


def folders_of(root: Path, layout: FolderLayout) -> tuple[Path, ...]:
    """Give the folders of a layout: those of its files, and what lies between them and the root."""
    folders = {root}
    for parent in {file.parent for scene in layout.scenes for file in scene.files.values()}:
        folders.add(parent)
        folders.update(above for above in parent.parents if root in above.parents)
    return tuple(sorted(folders))


def folder_stamps(folders: Iterable[Path]) -> tuple[int, ...]:
    """Give the modification times (ns) of folders, by which a change of what they hold is told."""
    stamps = []
    for folder in folders:
        try:
            stamps.append(folder.stat().st_mtime_ns)
        except OSError:
            stamps.append(-1)
    return tuple(stamps)


def _nested(root: Path, listing: _Listing) -> FolderLayout:
    """Lay out a folder whose pictures stand in folders: of channels, of scenes, or of both."""
    notes = [f"{name} is left out by its name" for name in listing.folders if is_aside_name(name)]
    inner = {name: _list(root / name) for name in listing.folders if not is_aside_name(name)}
    filled = [name for name in inner if inner[name].pictures]
    if filled and all(is_channel_name(name) for name in filled):
        return _named(root, {"": {name: root / name for name in filled}}, notes)
    if filled and all(is_scene_name(name) for name in filled):
        return _named(root, {name: {"": root / name} for name in filled}, notes)
    if filled:
        raise SourceError(
            "whether its folders are scenes, channels or movies of their own cannot be told from their names",
            where=root,
            found=", ".join(filled[:4]),
            remedy=f"give one of them, such as {root / filled[0]}, or name scenes scene_0, scene_1, ... and channels "
            "c0, c1 or by what they show, such as phase and gfp",
        )
    tree = {}
    for name, within_it in inner.items():
        channels = {sub: root / name / sub for sub in within_it.folders if _list(root / name / sub).pictures}
        if channels and is_scene_name(name) and all(is_channel_name(sub) for sub in channels):
            tree[name] = channels
    if tree:
        return _named(root, tree, notes)
    within = [name for name in listing.folders if holds_pictures(root / name)]
    if within:
        raise SourceError(
            "not an acquisition, but a folder of such by what stands in it",
            where=root,
            found=", ".join(within[:4]),
            remedy=f"give one of them, such as {root / within[0]}",
        )
    raise SourceError(
        "a folder without frames: neither PNG nor TIFF pictures are in it",
        where=root,
        remedy="give a folder of frames, or of scenes with frames",
    )


def _is_released_scene(listing: _Listing) -> bool:
    return any(name in listing.folders for name, _ in RELEASED_CHANNELS)


def _released(root: Path, scenes: Mapping[str, Path]) -> FolderLayout:
    """Lay out scenes of the released data set's layout, whose frames have their number as their whole name."""
    notes: list[str] = []
    listings = {name: _list(folder) for name, folder in scenes.items()}
    present = [
        (name, light)
        for name, light in RELEASED_CHANNELS
        if any(name in listing.folders for listing in listings.values())
    ]
    channels = tuple(Channel(k, name, light) for k, (name, light) in enumerate(present))
    laid: list[FolderScene] = []
    for name, folder in scenes.items():
        files: dict[tuple[int, int, int], Path] = {}
        for channel in channels:
            if channel.name in listings[name].folders:
                for number, file in _numbered(folder / channel.name, notes).items():
                    files[number, channel.index, 0] = file
            else:
                notes.append(f"{name} has no {channel.name}")
        if files:
            require_dense([number for number, _, _ in files], where=folder)
            laid.append(FolderScene(name, files))
        else:
            notes.append(f"{name} has no frames and is left out")
    if not laid:
        raise SourceError("none of its scenes has frames", where=root, found=", ".join(list(scenes)[:4]))
    return FolderLayout("frames in the layout of the released data set", True, channels, tuple(laid), tuple(notes))


def _numbered(folder: Path, notes: list[str]) -> dict[int, Path]:
    """Pictures whose name is a number; others are left out, with a note."""
    found: dict[int, Path] = {}
    others: list[str] = []
    for picture in _list(folder).pictures:
        stem = picture.rpartition(".")[0]
        if not (stem.isascii() and stem.isdigit()):
            others.append(picture)
            continue
        number = int(stem)
        if number in found:
            raise SourceError(
                "two pictures have the same frame number",
                where=folder,
                found=f"{found[number].name} and {picture}",
                remedy="keep one of them",
            )
        found[number] = folder / picture
    if others and not found:
        raise SourceError(
            "no picture has a frame number as its name",
            where=folder,
            found=", ".join(others[:3]),
            remedy="name the frames 0.png, 1.png, ...",
        )
    if others:
        notes.append(
            f"{len(others)} pictures in {folder.parent.name}/{folder.name} have no number as name: {others[0]}"
        )
    return found


def _named(root: Path, tree: Mapping[str, Mapping[str, Path]], notes: Sequence[str]) -> FolderLayout:
    """Lay out folders of pictures that are told by their names; ``tree`` has folders by scene and channel."""
    remarks = list(notes)
    found: dict[str, dict[tuple[int, str, int], Path]] = {}
    for scene_folder, channels in tree.items():
        for channel_folder, folder in channels.items():
            pictures = _list(folder).pictures
            parsed = parse_names(pictures, where=folder)
            remarks.extend(parsed.notes)
            for frame in parsed.frames:
                scene = " ".join(part for part in (scene_folder, frame.scene) if part) or "image"
                channel = " ".join(part for part in (channel_folder, frame.channel) if part)
                found.setdefault(scene, {})[frame.frame, channel, frame.z] = folder / frame.file
    names = sorted({channel for files in found.values() for _, channel, _ in files}, key=natural_key)
    # of one channel only the name of its folder may tell what it shows
    shown = [name or (root.name if len(names) == 1 else f"channel {k}") for k, name in enumerate(names)]
    channels_ = tuple(Channel(k, name, is_fluorescent(name=name, facts={})) for k, name in enumerate(shown))
    index = {name: k for k, name in enumerate(names)}
    planes = sorted({z for files in found.values() for _, _, z in files})
    depth = {z: k for k, z in enumerate(planes)}
    scenes = []
    for name in sorted(found, key=natural_key):
        files = {(number, index[channel], depth[z]): file for (number, channel, z), file in found[name].items()}
        require_dense([number for number, _, _ in files], where=root)
        scenes.append(FolderScene(name, files))
    return FolderLayout("frames by their names", False, channels_, tuple(scenes), tuple(dict.fromkeys(remarks)))


def _list(folder: Path) -> _Listing:
    """List pictures and folders, in natural order, without hidden ones."""
    pictures: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name.lower().endswith(PICTURE_SUFFIXES):
                    if entry.is_file():
                        pictures.append(entry.name)
                elif entry.is_dir():
                    folders.append(entry.name)
    except FileNotFoundError as error:
        raise SourceError("there is no such folder", where=folder, remedy="check the path") from error
    except NotADirectoryError as error:
        raise SourceError("not a folder", where=folder, remedy="give the folder of the frames") from error
    except PermissionError as error:
        raise SourceError("no permission to read it", where=folder, remedy="change its permissions") from error
    except (OSError, ValueError) as error:
        raise SourceError("cannot be read", where=folder, found=error) from error
    return _Listing(_ordered(pictures), _ordered(folders))


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=natural_key))
