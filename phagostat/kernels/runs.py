"""Connected components from runs: the stretches of a row that lie within a mask.

A frame of a million pixels has some thousand runs, so that all but finding and painting them costs next to nothing, and
these two go eight pixels at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

_WORD_BYTES = 8


def mask_words(mask: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A mask of 0 and 1, eight pixels a word; rows are filled up with zeros to whole words.

    Parameters
    ----------
    mask : (y, x) uint8
        0 or 1.

    Returns
    -------
    (y, ceil(x / 8)) uint64
    """
    height, width = mask.shape
    missing = -width % _WORD_BYTES
    if missing:
        filled = np.zeros((height, width + missing), np.uint8)
        filled[:, :width] = mask
        mask = filled
    words: NDArray[np.uint64] = np.ascontiguousarray(mask).view(np.uint64)
    return words


def label_runs(
    mask: NDArray[np.uint8],
    labels: NDArray[np.uint16],
    *,
    above_px: float,
    below_px: float,
    connectivity: int,
) -> tuple[int, int, int]:
    """Number the components of a mask whose areas lie within limits.

    Parameters
    ----------
    mask : (y, x) uint8
        0 or 1.
    labels : (y, x) uint16
        Zeros; gets 1, 2, ... in raster order of each component's first pixel, unless there are too many for it.
    above_px, below_px : float
        Components must have more pixels than the one and fewer than the other.
    connectivity : 4 or 8
        Whether diagonal neighbours belong together.

    Returns
    -------
    (int, int, int)
        How many components are within the limits, too small, and too large but not too small.
    """
    words = mask_words(mask)
    counts = np.zeros(3, np.int64)
    _label(words, labels, np.array([above_px, below_px], np.float64), int(connectivity == 8), counts)
    kept, too_small, too_large = (int(count) for count in counts)
    return kept, too_small, too_large


@compiled
def _label(  # noqa: PLR0912, PLR0915 - compiled functions call no others
    words: NDArray[np.uint64],
    labels: NDArray[np.uint16],
    limits: NDArray[np.float64],
    reach: int,
    counts: NDArray[np.int64],
) -> None:
    """Find runs row by row and join them to those of the row before; then gate, number and paint."""
    height, n_words = words.shape
    pixels = words.view(np.uint8)
    full = np.uint64(0x0101010101010101)
    # at most every other pixel begins a run; memory that is not written to costs nothing
    most = height * (n_words * 4) + 1
    begin, end, root = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    first_of_row = np.empty(height + 1, np.int64)
    n = 0
    for y in range(height):
        first_of_row[y] = n
        inside = False
        row = pixels[y]
        for w in range(n_words):
            word = words[y, w]
            if word == (full if inside else np.uint64(0)):
                continue
            for x in range(8 * w, 8 * w + 8):
                if (row[x] != 0) != inside:
                    if inside:
                        end[n] = x
                        n += 1
                    else:
                        begin[n] = x
                    inside = not inside
        if inside:
            end[n] = row.size
            n += 1
        above = first_of_row[y - 1] if y > 0 else n
        last_above = first_of_row[y]
        for i in range(first_of_row[y], n):
            root[i] = i
            # the last run above that touches this one may touch the next one too
            while above < last_above and end[above] + reach <= begin[i]:
                above += 1
            k = above
            while k < last_above and begin[k] < end[i] + reach:
                one, other = i, k
                while root[one] != one:
                    root[one] = root[root[one]]
                    one = root[one]
                while root[other] != other:
                    root[other] = root[root[other]]
                    other = root[other]
                # the root is a component's first run
                if one < other:
                    root[other] = one
                else:
                    root[one] = other
                k += 1
    first_of_row[height] = n
    area = np.zeros(n, np.int64)
    for i in range(n):
        root[i] = root[root[i]]  # roots come first, so this one points at its root already
        area[root[i]] += end[i] - begin[i]
    number = np.zeros(n, np.int32)
    for i in range(n):
        if root[i] != i:
            continue
        if area[i] <= limits[0]:
            counts[1] += 1
        elif area[i] >= limits[1]:
            counts[2] += 1
        else:
            counts[0] += 1
            number[i] = counts[0]
    if counts[0] > np.iinfo(labels.dtype).max:
        return
    for y in range(height):
        for i in range(first_of_row[y], first_of_row[y + 1]):
            if number[root[i]] > 0:
                labels[y, begin[i] : end[i]] = number[root[i]]
