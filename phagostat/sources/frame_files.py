"""Folders of frames opened in this process: what is in them, and the format of their pictures."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from phagostat.model.errors import SourceError
from phagostat.sources.frame_layouts import FolderLayout, folder_layout, folder_stamps, folders_of
from phagostat.sources.open_files import MAX_OPEN_FILES
from phagostat.sources.pictures import describe_picture
from phagostat.sources.tiff_file import PlaneFormat

SAMPLED_FILES: Final = 25
"""How many pictures of each scene and channel are looked at to tell the size of its frames."""
SETTLE_NS: Final = 2_000_000_000
"""How long a folder must not have changed for its listing to be kept; network file systems count in seconds."""


class OpenFolder:
    """One folder of frames as it was when it was listed.

    Parameters
    ----------
    path
        The folder.

    Raises
    ------
    SourceError
        If it cannot be told which picture is which frame.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.layout: FolderLayout = folder_layout(Path(path))

        self._folders = folders_of(Path(path), self.layout)
        self._stamps = folder_stamps(self._folders)
        # a file that came within a clock tick of the listing leaves no later time behind
        self._settled = time.time_ns() - max(self._stamps) > SETTLE_NS

    @property
    def is_current(self) -> bool:
        """Whether its folders hold what they held when they were listed."""
        return self._settled and folder_stamps(self._folders) == self._stamps

    @cached_property
    def depth(self) -> int:
        """Number of Z planes."""
        return 1 + max(z for scene in self.layout.scenes for _, _, z in scene.files)

    @cached_property
    def first_number(self) -> int:
        """Number in the names of what is frame 0."""
        if self.layout.released:
            return 0
        return min(number for scene in self.layout.scenes for number, _, _ in scene.files)

    @cached_property
    def channel_forms(self) -> dict[tuple[int, int], PlaneFormat]:
        """Format that most pictures of each scene and channel have; without those of which none can be read.

        Raises
        ------
        SourceError
            If no picture of any scene can be read, or the pictures of one have no format in common.
        """
        forms: dict[tuple[int, int], PlaneFormat] = {}
        refusal: SourceError | None = None
        for k, scene in enumerate(self.layout.scenes):
            for channel in self.layout.channels:
                files = [scene.files[key] for key in sorted(scene.files) if key[1] == channel.index]
                found, first_refusal = _formats(files)
                refusal = refusal or first_refusal
                if found:
                    forms[k, channel.index] = _most_common(found, where=files[0].parent)
        if not forms:
            raise refusal or SourceError("no picture can be read", where=self.path)
        return forms

    @cached_property
    def forms(self) -> tuple[PlaneFormat, ...]:
        """Format of each scene's planes: the shape of all its channels, and the widest of their pixel types.

        A scene of which no picture can be read gets that of the first one: its frames stay in the count.
        """
        forms: list[PlaneFormat | None] = []
        for k, scene in enumerate(self.layout.scenes):
            mine = {channel: form for (s, channel), form in self.channel_forms.items() if s == k}
            if len({form.shape_yx for form in mine.values()}) > 1:
                raise SourceError(
                    "its channels have different sizes",
                    where=f"{self.path} scene {scene.name}",
                    found=", ".join(f"{self.layout.channels[channel].name}: {form}" for channel, form in mine.items()),
                    remedy="export all channels at one size",
                )
            widest = max(mine.values(), key=lambda form: np.dtype(form.dtype).itemsize) if mine else None
            forms.append(widest)
        known = next(form for form in forms if form is not None)
        return tuple(form or known for form in forms)


def _formats(files: Sequence[Path]) -> tuple[Counter[PlaneFormat], SourceError | None]:
    """Formats of some of the pictures, all over the movie, and why the first that is refused is so."""
    found: Counter[PlaneFormat] = Counter()
    refusal: SourceError | None = None
    for k in np.unique(np.linspace(0, len(files) - 1, SAMPLED_FILES).astype(int)) if files else ():
        try:
            found[describe_picture(files[k])] += 1
        except SourceError as error:
            refusal = refusal or error
    return found, refusal


def _most_common(found: Counter[PlaneFormat], *, where: object) -> PlaneFormat:
    ((form, count), *others) = found.most_common()
    if others and 2 * count <= found.total():
        raise SourceError(
            "the frames have different sizes or pixel types, and none has most of them",
            where=where,
            found=", ".join(f"{other}: {n} of {found.total()} looked at" for other, n in found.most_common(3)),
            remedy="export all frames at one size",
        )
    return form


_open_folders: OrderedDict[str, OpenFolder] = OrderedDict()
_open_folders_lock = threading.Lock()


def open_folder(path: str) -> OpenFolder:
    """Give the folder as this process has listed it, listed again if it has changed since.

    Raises
    ------
    SourceError
        If it cannot be told which picture is which frame.
    """
    with _open_folders_lock:
        known = _open_folders.get(path)
    if known is None or not known.is_current:
        known = OpenFolder(path)
    with _open_folders_lock:
        _open_folders[path] = known
        _open_folders.move_to_end(path)
        while len(_open_folders) > MAX_OPEN_FILES:
            _open_folders.popitem(last=False)
    return known
