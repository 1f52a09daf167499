"""Cells and their tracks in the folders and files of the Cell Tracking Challenge.

References
----------
.. [1] Cell Tracking Challenge, "Naming and file content conventions", http://celltrackingchallenge.net/datasets/
.. [2] Maska et al., "The Cell Tracking Challenge: 10 years of objective benchmarking", Nature Methods 20 (2023),
       doi:10.1038/s41592-023-01879-y
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import SettingsError, StoreError
from phagostat.report.finished import FinishedOutput
from phagostat.report.released import has_tracks

MAX_LABEL: Final = np.iinfo(np.uint16).max
FOUR_DIGITS_FROM: Final = 1000
"""Frames are numbered by three digits; movies longer than this by four."""

CtcLayout = Literal["results", "truth"]
LAYOUTS: Final[tuple[CtcLayout, ...]] = ("results", "truth")


@dataclass(frozen=True)
class TrackPieces:
    """Tracks cut at their gaps, as the format wants them: a piece is seen in every frame from its first to its last.

    Parameters
    ----------
    table : (m, 4) int64
        Label, first frame, last frame and parent of each piece; labels are 1, 2, ... in the order of the pieces' first
        frames. The parent of a piece after a gap is the piece before it; 0 for none.
    piece : (n,) int64
        Label of each row that was given.
    """

    table: NDArray[np.int64]
    piece: NDArray[np.int64]


def cut_at_gaps(frame: ArrayLike, cell: ArrayLike, track: ArrayLike) -> TrackPieces:
    """Cut tracks where they have gaps.

    Parameters
    ----------
    frame, cell, track : (n,)
        Frame, label in that frame's label image, and track of every cell. A cell whose track is NaN or below 1 is a
        track of one frame.

    Raises
    ------
    StoreError
        If a track is in two places in one frame.
    """
    frames, cells = np.asarray(frame, np.int64), np.asarray(cell, np.int64)
    numbers = np.asarray(track, np.float64)
    lonely = ~(numbers >= 1)
    # cells without a track get numbers that no track has
    tracks = np.where(lonely, 0, numbers).astype(np.int64)
    tracks[lonely] = tracks.max(initial=0) + 1 + np.arange(np.count_nonzero(lonely))
    order = np.lexsort((frames, tracks))
    ordered_track, ordered_frame = tracks[order], frames[order]
    same_track = np.diff(ordered_track) == 0
    step = np.diff(ordered_frame)
    if np.any(same_track & (step == 0)):
        at = int(np.flatnonzero(same_track & (step == 0))[0])
        raise StoreError(
            "a track is in two places at once",
            where=f"frame {ordered_frame[at]}",
            found=f"track {ordered_track[at]} has cells {cells[order[at]]} and {cells[order[at + 1]]}",
            remedy="give each cell of a frame another track",
        )
    begins = np.flatnonzero(np.concatenate([[True], ~same_track | (step > 1)])) if len(order) else np.empty(0, np.int64)
    ends = np.concatenate([begins[1:], [len(order)]])[: len(begins)] - 1
    continues = np.zeros(len(begins), np.bool_)
    continues[1:] = same_track[begins[1:] - 1]
    # numbered by first frame, then by the label that the cell has there
    rank = np.lexsort((cells[order][begins], ordered_frame[begins]))
    label = np.empty(len(begins), np.int64)
    label[rank] = np.arange(1, len(begins) + 1)
    parent = np.zeros(len(begins), np.int64)
    parent[1:] = np.where(continues[1:], label[:-1], 0)
    table = np.stack([label, ordered_frame[begins], ordered_frame[ends], parent], axis=1)
    piece = np.empty(len(order), np.int64)
    piece[order] = np.repeat(label, ends - begins + 1)
    return TrackPieces(table[np.argsort(label)], piece)


def tracks_of(output: FinishedOutput, scene: int) -> dict[str, NDArray[Any]]:
    """Frame, cell and track of every cell of a scene.

    Raises
    ------
    StoreError
        If cells were not tracked.
    """
    if not has_tracks(output):
        raise StoreError(
            "the Cell Tracking Challenge's format needs tracks, and there are none",
            where=output.path,
            found=", ".join(output.table_names),
            remedy="run this version's phagostat run on it again, or export the labels as tiff or png",
        )
    return dict(output.columns("cells", scene, "frame", "cell", "track"))


def write_ctc(
    output: FinishedOutput,
    scene: int,
    folder: Path,
    *,
    tracks: Mapping[str, ArrayLike] | None = None,
    layout: CtcLayout = "results",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Write a scene as a sequence of the Cell Tracking Challenge; give its number of tracks.

    Parameters
    ----------
    output
        The analysis.
    scene
        Index of the scene; the sequence is called by its number from 1: ``01``, ``02``, ...
    folder
        Where the sequence's folders come.
    tracks
        Columns ``frame``, ``cell`` and ``track`` of the cells to write; the output's own where None.
    layout
        ``"results"``: ``01_RES/mask000.tif`` and ``res_track.txt``, as a method's result is handed in. ``"truth"``:
        ``01_GT/TRA/man_track000.tif`` and ``man_track.txt``, ``01_GT/SEG/man_seg000.tif``, as annotations are laid out.
        Both have the normalised phase contrast beside it, ``01/t000.tif``.
    progress
        Told after each frame how many are done, and of how many.

    Raises
    ------
    StoreError
        If there are no tracks, too many of them for 16 bits, or they belong to other labels.

    Notes
    -----
    Every frame of the scene has its mask, since numbers are frames: that of one that is not usable is empty, and
    tracks have a gap there. The format knows no gaps [1]_: a track is cut there, and the piece after it has the one
    before it as its parent.
    """
    if layout not in LAYOUTS:
        raise SettingsError(
            "there is no such layout", where="ctc layout", found=layout, remedy="choose results or truth"
        )
    rows = tracks_of(output, scene) if tracks is None else tracks
    about = output.scene(scene)
    frame, cell = (np.asarray(rows[name], np.int64) for name in ("frame", "cell"))
    pieces = cut_at_gaps(frame, cell, rows["track"])
    if len(pieces.table) > MAX_LABEL:
        raise StoreError(
            "the format's masks have 16 bits, which is too few for so many tracks",
            where=f"{output.path} scene {scene}",
            found=f"{len(pieces.table)} tracks, cut at their gaps",
            remedy=f"give the longer tracks alone: at most {MAX_LABEL}",
        )
    digits = 4 if len(about.frames) > FOUR_DIGITS_FROM else 3
    sequence = f"{scene + 1:02}"
    places = _places(layout)
    for name in (sequence, *(f"{sequence}_{place}" for place in places)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(len(about.frames)):
        here = frame == number
        mask = _mask(output, scene, number, cell[here], pieces.piece[here])
        for place, stem in places.items():
            _write_plane(folder / f"{sequence}_{place}" / f"{stem}{number:0{digits}}.tif", mask)
        grey = output.image(scene, number, ChannelRole.CELLS)
        picture = np.zeros(about.shape_yx, np.uint8) if grey is None else grey
        _write_plane(folder / sequence / f"t{number:0{digits}}.tif", picture)
        progress(number + 1, len(about.frames))
    text = "".join(f"{label} {first} {last} {parent}\n" for label, first, last, parent in pieces.table)
    table = f"{sequence}_RES/res_track.txt" if layout == "results" else f"{sequence}_GT/TRA/man_track.txt"
    (folder / table).write_text(text, "ascii")
    return len(pieces.table)


def _places(layout: CtcLayout) -> dict[str, str]:
    """Folders of masks after the sequence's number, and how the masks in each are called."""
    return {"RES": "mask"} if layout == "results" else {"GT/TRA": "man_track", "GT/SEG": "man_seg"}


def _mask(
    output: FinishedOutput, scene: int, frame: int, cells: NDArray[np.int64], pieces: NDArray[np.int64]
) -> NDArray[np.uint16]:
    labels = output.labels(scene, frame, "cells")
    if labels is None:
        labels = np.zeros(output.scene(scene).shape_yx, np.uint16)
    strangers = sorted(set(cells.tolist()) - set(np.unique(labels).tolist()))
    if strangers:
        raise StoreError(
            "tracks and labels do not belong together: a tracked cell is not in its label image",
            where=f"{output.path} scene {scene} frame {frame}",
            found=f"cell {strangers[0]}",
            remedy="give tracks of this output",
        )
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
    table[cells] = pieces
    mask: NDArray[np.uint16] = table[labels]
    return mask


def _write_plane(path: Path, plane: NDArray[Any]) -> None:
    tifffile.imwrite(path, plane, compression="zlib", metadata=None, maxworkers=1, photometric="minisblack")
