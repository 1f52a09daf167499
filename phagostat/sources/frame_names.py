"""What the names of picture files say: which number is the frame, the channel, the Z plane, the scene.

A name is taken apart into words and numbers. A number's axis is told by the word before it (``t001``, ``ch00``,
``z12``, ``s1``); a number without such a word is the frame where it alone varies. Files whose words differ, such as
``phase_001`` and ``gfp_001``, show different channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from phagostat.model.errors import SourceError
from phagostat.sources.channel_light import is_fluorescent

NAMING_REMEDY: Final = "name the files by frame and channel, such as t001_c1.tif"
MAX_SPAN_PER_FRAME: Final = 100
"""Numbers that are further apart, on average, are dates or the like, not frames."""

_NUMBER: Final = re.compile(r"\d+")
_LAST_WORD: Final = re.compile(r"([A-Za-z]*)[^A-Za-z]*$")
_WORDS: Final = re.compile(r"[A-Za-z]+")
_AXIS_WORDS: Final = {
    "T": {"t", "tp", "time", "timepoint", "frame", "fr", "img", "image", "timelapse"},
    "C": {"c", "ch", "chan", "channel", "w", "wavelength"},
    "Z": {"z", "slice", "zplane", "zstack", "zslice"},
    "S": {"s", "scene", "series", "p", "pos", "position", "xy", "field", "fov", "site", "stage", "well"},
}
_NOT_FRAMES: Final = frozenset(
    {"label", "labels", "labeled", "labelled", "mask", "masks", "seg", "segmentation", "thumb", "thumbnail", "preview"}
    | {"overlay", "outline", "outlines", "annotation", "annotations"}
)
_AXIS_OF: Final = {word: axis for axis, words in _AXIS_WORDS.items() for word in words}
_SCENE_NAMES: Final = re.compile(
    r"(?i:scene|series|pos|position|xy|field|fov|site|stage|well|s|p)[\s_-]*\d+|[A-P](0?[1-9]|1\d|2[0-4])"
)
# C1 is what ImageJ calls a channel, C01 a well
_CHANNEL_NAMES: Final = re.compile(r"((?i:ch|chan|channel|w|wavelength)[\s_-]*|c[\s_-]*)\d+(?!\d)|C[\s_-]*\d(?!\d)")
_ROLE_NAMES: Final = re.compile(r"(?i)(?<![a-z])(aggregate|cell)s?(?![a-z])")


@dataclass(frozen=True)
class NamedFrame:
    """One file, by what its name says; ``scene`` is None where names say none."""

    file: str
    scene: str | None
    channel: str
    frame: int
    z: int


@dataclass(frozen=True)
class NamedFrames:
    """The files of a folder by what their names say, and remarks for the user."""

    frames: tuple[NamedFrame, ...]
    notes: tuple[str, ...]


def is_scene_name(name: str) -> bool:
    """Whether a folder's name is that of a scene: ``scene_3``, ``Pos12``, ``xy01``, a well such as ``B03``."""
    return _SCENE_NAMES.fullmatch(name) is not None


def is_channel_name(name: str) -> bool:
    """Whether a folder's name is that of a channel: ``c1``, ``gfp``, ``phase``, ``normalized_cell``."""
    return (
        _CHANNEL_NAMES.match(name) is not None
        or _ROLE_NAMES.search(name) is not None
        or is_fluorescent(name=name, facts={}) is not None
    )


def is_aside_name(name: str) -> bool:
    """Whether a folder's name is that of masks, previews and the like."""
    return bool({word.lower() for word in _WORDS.findall(name)} & _NOT_FRAMES)


def parse_names(files: Iterable[str], *, where: object) -> NamedFrames:
    """Tell frame, channel, Z plane and scene of each picture of a folder from its name.

    Parameters
    ----------
    files
        Names with their suffixes.
    where
        The folder, named in errors.

    Raises
    ------
    SourceError
        If no name has a number, several numbers could be the frame, or two files would be the same plane.
    """
    groups: dict[tuple[str, ...], list[tuple[str, tuple[int, ...]]]] = {}
    unnumbered: list[str] = []
    for file in sorted(files):
        stem = file.rpartition(".")[0].removesuffix(".ome")
        numbers = tuple(int(number) for number in _NUMBER.findall(stem))
        if numbers:
            groups.setdefault(tuple(_NUMBER.split(stem)), []).append((file, numbers))
        else:
            unnumbered.append(file)
    if not groups:
        raise SourceError(
            "no picture has a number in its name, by which frames would be told",
            where=where,
            found=", ".join(unnumbered[:3]) or "no pictures",
            remedy=NAMING_REMEDY,
        )
    notes = [f"{len(unnumbered)} pictures without a number are left out: {_some(unnumbered)}"] if unnumbered else []
    aside = {texts for texts in groups if _own_words(texts, groups) & _NOT_FRAMES}
    if aside and len(aside) < len(groups):
        names = [file for texts in aside for file, _ in groups.pop(texts)]
        notes.append(f"{len(names)} pictures are masks or the like by their names, not frames: {_some(names)}")
    bare = {texts for texts in groups if not _words(texts)}
    if bare and len(bare) < len(groups):
        names = [file for texts in set(groups) - bare for file, _ in groups.pop(texts)]
        notes.append(f"{len(names)} pictures with words in their names stand among numbered ones: {_some(names)}")
    frames: list[NamedFrame] = []
    for texts, members in groups.items():
        frames.extend(_frames_of(texts, members, _channel_text(texts, groups), where=where))
    _require_distinct(frames, where=where)
    return NamedFrames(tuple(frames), tuple(notes))


def require_dense(numbers: Sequence[int], *, where: object) -> None:
    """Refuse numbers that are too far apart to be those of frames.

    Raises
    ------
    SourceError
        With the first and the last.
    """
    first, last, count = min(numbers), max(numbers), len(set(numbers))
    if last - first >= MAX_SPAN_PER_FRAME * count:
        raise SourceError(
            "the numbers in the names are too far apart to be those of frames",
            where=where,
            found=f"{count} between {first} and {last}",
            remedy="number the frames one by one",
        )


def _frames_of(
    texts: tuple[str, ...], members: Sequence[tuple[str, tuple[int, ...]]], text: str, *, where: object
) -> list[NamedFrame]:
    """Frames of the files whose names differ in their numbers alone."""
    n_numbers = len(texts) - 1
    words = [_LAST_WORD.search(piece) for piece in texts[:-1]]
    axes = [_AXIS_OF.get(word.group(1).lower(), "") if word is not None else "" for word in words]
    varying = [k for k in range(n_numbers) if len({numbers[k] for _, numbers in members}) > 1]
    at = {axis: [k for k in range(n_numbers) if axes[k] == axis] for axis in _AXIS_WORDS}
    # of two numbers with the same word, such as a date's and the frame's, the one that varies, or else the last
    chosen = {
        axis: next((k for k in reversed(places) if k in varying), places[-1]) for axis, places in at.items() if places
    }
    if "T" not in chosen:
        unnamed = [k for k in range(n_numbers) if not axes[k]]
        candidates = [k for k in unnamed if k in varying] or ([] if chosen else unnamed[-1:])
        if len(candidates) > 1:
            raise SourceError(
                "which number in the names is the frame cannot be told",
                where=where,
                found=f"{members[0][0]}, {members[-1][0]}",
                remedy=NAMING_REMEDY,
            )
        if candidates:
            chosen["T"] = candidates[0]
    frames = []
    for file, numbers in members:
        number = {axis: numbers[k] for axis, k in chosen.items()}
        said = _as_written(file, number, chosen, "C")
        frames.append(
            NamedFrame(
                file,
                _as_written(file, number, chosen, "S") or None,
                " ".join(part for part in (said, text) if part),
                number.get("T", 0),
                number.get("Z", 0),
            )
        )
    return frames


def _as_written(file: str, number: Mapping[str, int], chosen: Mapping[str, int], axis: str) -> str:
    """Word and number of an axis as the name has them, such as ``ch00``; empty where it has none."""
    if axis not in number:
        return ""
    matches = list(_NUMBER.finditer(file))
    match = matches[chosen[axis]]
    word = _LAST_WORD.search(file[: match.start()])
    return f"{word.group(1) if word is not None else ''}{match.group()}"


def _own_words(texts: tuple[str, ...], groups: Iterable[tuple[str, ...]]) -> set[str]:
    """Words of a name that not all names have."""
    everywhere = set.intersection(*(set(_words(other)) for other in groups))
    return set(_words(texts)) - everywhere


def _channel_text(texts: tuple[str, ...], groups: Iterable[tuple[str, ...]]) -> str:
    """The words that tell a name from others, as the channel's name."""
    own = _own_words(texts, groups)
    kept = [word for piece in texts for word in _WORDS.findall(piece) if word.lower() in own]
    return " ".join(word for word in dict.fromkeys(kept) if word.lower() not in _AXIS_OF)


def _words(texts: tuple[str, ...]) -> list[str]:
    return [word.lower() for piece in texts for word in _WORDS.findall(piece)]


def _require_distinct(frames: Iterable[NamedFrame], *, where: object) -> None:
    seen: dict[tuple[str | None, str, int, int], str] = {}
    for frame in frames:
        key = frame.scene, frame.channel, frame.frame, frame.z
        if key in seen:
            raise SourceError(
                "two pictures have the same place in the movie by their names",
                where=where,
                found=f"{seen[key]} and {frame.file}",
                remedy="keep one of them, or " + NAMING_REMEDY,
            )
        seen[key] = frame.file


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
