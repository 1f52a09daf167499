"""Temporal coherence: where a cell is nearly certain over a window of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

# Sums of 8-bit levels in 16 bit are exact up to this many frames.
_MAX_WINDOW = 65535 // 255


@dataclass(frozen=True)
class Window:
    """Which frames of a window count, and how they lie in the grid of its first frame.

    Parameters
    ----------
    is_short
        Whether the movie's end cut the window.
    moved_yx_px : (w, 2) int64
        By how much the content of each frame lies further down and right than in the first, in analysis pixels; 0
        for frames without weight.
    used : (w,) bool
        Which frames have any weight.
    """

    is_short: bool
    moved_yx_px: NDArray[np.int64]
    used: NDArray[np.bool_]

    @property
    def n_used(self) -> int:
        """Frames with any weight."""
        return int(self.used.sum())


@dataclass(frozen=True)
class Coherence(Window):
    """Certain pixels of one window, in the grid of its first frame.

    Parameters
    ----------
    certain : (y, x) bool
        Where the mean probability of the frames that show the pixel exceeds the threshold.
    """

    certain: NDArray[np.bool_]


def window_moves(shifts_yx_px: NDArray[np.floating], *, factor: int) -> NDArray[np.int64]:
    """Whole analysis pixels by which the frames of a window are moved against its first frame.

    Parameters
    ----------
    shifts_yx_px : (w, 2) float
        (y, x) shifts against the scene's reference in native pixels, none of them NaN.
    factor : int
        Native pixels per analysis pixel.

    Returns
    -------
    (w, 2) int64
        What stands at p in the first frame stands at p + move in the other (halves round to even).
    """
    moves: NDArray[np.int64] = np.rint((shifts_yx_px - shifts_yx_px[0]) / factor).astype(np.int64)
    return moves


def align_window(
    shape_yx: tuple[int, int],
    *,
    shifts_yx_px: NDArray[np.floating],
    usable: NDArray[np.bool_],
    factor: int,
    window: int = 5,
) -> Window:
    """Lay the frames of a window upon its first.

    Parameters
    ----------
    shape_yx : (int, int)
        Height and width of a frame on the analysis grid.
    shifts_yx_px, usable, factor, window
        As for :func:`coherent_pixels`.

    Returns
    -------
    Window
        No frame counts if the first has no shift: there is no grid to move the others into.

    Raises
    ------
    ValueError
        If shapes do not fit, or the window is longer than 257 frames.
    """
    n = usable.size
    if not 1 <= n <= window <= _MAX_WINDOW:
        raise ValueError(f"a window holds 1 to {window} frames, at most {_MAX_WINDOW} (found: {n})")
    if shifts_yx_px.shape != (n, 2) or usable.shape != (n,):
        raise ValueError(f"{n} frames need as many shifts and verdicts: {shifts_yx_px.shape}, {usable.shape}")
    used = usable & np.isfinite(shifts_yx_px).all(axis=1)
    moves = np.zeros((n, 2), np.int64)
    if np.isfinite(shifts_yx_px[0]).all():
        registered = np.where(np.isfinite(shifts_yx_px), shifts_yx_px, shifts_yx_px[0])
        moves = window_moves(registered, factor=factor)
        used &= (np.abs(moves) < shape_yx).all(axis=1)
        moves[~used] = 0
    else:
        used[:] = False
    return Window(n < window, moves, used)


def coherent_pixels(
    probabilities: NDArray[np.uint8],
    *,
    shifts_yx_px: NDArray[np.floating],
    usable: NDArray[np.bool_],
    factor: int,
    window: int = 5,
    seed_probability: float = 0.9,
) -> Coherence:
    """Pixels that are nearly certain to be cell over a window of frames.

    Parameters
    ----------
    probabilities : (w, y, x) uint8
        Cell probability, 0..255 for 0..1, of acquisition frames t, t+1, ... on the analysis grid; anything where a
        frame is missing. At most ``window`` frames, fewer at the movie's end.
    shifts_yx_px : (w, 2) float
        (y, x) shift of each frame against the scene's reference in native pixels; NaN where there is none.
    usable : (w,) bool
        Whether the frame is there and was accepted. Frames that are not, and frames without a shift, have weight 0.
    factor : int
        Native pixels per analysis pixel.
    window : int
        Frames of a whole window (published: 5).
    seed_probability : float
        Certain pixels have a mean above it.

    Returns
    -------
    Coherence
        Nothing is certain if the first frame has no shift: there is no grid to move the others into.

    Raises
    ------
    ValueError
        If shapes do not fit, or the window is longer than 257 frames.

    Notes
    -----
    A pixel's mean is taken over the used frames in whose field it lies, so the border is judged by fewer frames.
    Levels are summed and compared as whole numbers: no rounding, the same bits on any machine.

    References
    ----------
    .. [1] M. Ounissi, M. Latouche, D. Racoceanu, "PhagoStat a scalable and interpretable end to end framework for
       efficient quantification of cell phagocytosis in neurodegenerative disease studies", Scientific Reports 14,
       2024, :doi:`10.1038/s41598-024-56081-7` (temporal coherence of the cell maps).
    """
    n, height, width = probabilities.shape
    if usable.shape != (n,):
        raise ValueError(f"{n} frames need as many shifts and verdicts: {shifts_yx_px.shape}, {usable.shape}")
    found = align_window((height, width), shifts_yx_px=shifts_yx_px, usable=usable, factor=factor, window=window)
    certain = certain_pixels(probabilities, found, seed_probability=seed_probability)
    return Coherence(found.is_short, found.moved_yx_px, found.used, certain)


def certain_pixels(
    probabilities: NDArray[np.uint8], window: Window, *, seed_probability: float = 0.9
) -> NDArray[np.bool_]:
    """Pixels that are nearly certain over a window that is aligned already: see :func:`coherent_pixels`.

    Parameters
    ----------
    probabilities : (w, y, x) uint8
        0..255 for 0..1.
    window : Window
        Which frames count, and by how much they are moved.
    seed_probability : float
        Certain pixels have a mean above it.

    Returns
    -------
    (y, x) bool
    """
    n, height, width = probabilities.shape
    certain = np.zeros((height, width), np.bool_)
    chosen = np.flatnonzero(window.used)
    if chosen.size:
        # Largest sum of each number of frames that is not above the threshold; see watershed.grey_cut on rounding.
        cuts = np.floor(np.round(seed_probability * 255 * np.arange(n + 1), 6)).astype(np.uint16)
        _compare(np.ascontiguousarray(probabilities), chosen, window.moved_yx_px, cuts, certain)
    return certain


@compiled
def _compare(
    probabilities: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    moves: NDArray[np.int64],
    cuts: NDArray[np.uint16],
    certain: NDArray[np.bool_],
) -> None:
    """Sum row by row, so that sums stay in the nearest cache."""
    _, height, width = probabilities.shape
    # Columns in which every chosen frame has pixels: one count a row holds for all of them.
    begin, end = 0, width
    for k in chosen:
        begin = max(begin, -moves[k, 1])
        end = min(end, width - moves[k, 1])
    end = max(begin, end)
    total = np.empty(width, np.uint16)
    for y in range(height):
        total[:] = 0
        n_rows = 0
        for k in chosen:
            row = y + moves[k, 0]
            if 0 <= row < height:
                n_rows += 1
                shift = moves[k, 1]
                first, last = max(0, -shift), min(width, width - shift)
                source = probabilities[k, row, first + shift : last + shift]
                part = total[first:last]
                for x in range(source.size):
                    part[x] += np.uint16(source[x])
        # Slices, since an index that might be negative keeps the compiler from using vectors.
        cut, inner, verdict = cuts[n_rows], total[begin:end], certain[y, begin:end]
        for x in range(inner.size):
            verdict[x] = inner[x] > cut
        for side in range(2):
            outer_begin, outer_end = (0, min(begin, width)) if side == 0 else (end, width)
            for x in range(outer_begin, outer_end):
                n = 0
                for k in chosen:
                    if 0 <= y + moves[k, 0] < height and 0 <= x + moves[k, 1] < width:
                        n += 1
                certain[y, x] = total[x] > cuts[n]
