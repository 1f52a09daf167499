"""Labels spread over levels by 256 first-in-first-out queues.

All arrays have a margin of one pixel, so that no neighbour has to be asked whether it is there. A pixel's level is 255
where nothing may spread: outside, and where there is a label already.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

CLOSED = 255
"""Level of pixels that take no label."""

_Label = TypeVar("_Label", bound=np.integer)

_LEVELS = 256


def spread(
    probability: NDArray[np.uint8], markers: NDArray[_Label], *, cut: int, connectivity: int
) -> tuple[NDArray[_Label], NDArray[np.uint8]]:
    """Spread markers over what exceeds a level, from high to low; of equal marker pixels the first in raster order.

    Parameters
    ----------
    probability : (y, x) uint8
        0..255.
    markers : (y, x) integer
        0, or the label of the marker that the pixel belongs to; what lies outside the foreground does not count.
    cut : int
        The foreground's pixels exceed it.
    connectivity : 4 or 8
        Whether diagonal neighbours belong together.

    Returns
    -------
    labels : (y + 2, x + 2), type of the markers
        With a margin of zeros.
    level : (y + 2, x + 2) uint8
        :data:`CLOSED` but where foreground was not reached.
    """
    height, width = probability.shape
    labels = np.empty((height + 2, width + 2), markers.dtype)
    level = np.empty((height + 2, width + 2), np.uint8)
    _open(probability, markers, cut, labels, level)
    spread_on(probability, labels, level, connectivity=connectivity)
    return labels, level


def plant(markers: NDArray[np.uint16], labels: NDArray[np.integer], level: NDArray[np.uint8], *, offset: int) -> None:
    """Give labels to pixels that none has reached, in place.

    Parameters
    ----------
    markers : (y, x) uint16
        Labels; 0 wherever there is one already, or nothing may spread.
    labels, level : (y + 2, x + 2)
        As :func:`spread` gave them.
    offset : int
        Is added to the labels.
    """
    _plant(markers, offset, labels, level)


def spread_on(
    probability: NDArray[np.uint8], labels: NDArray[np.integer], level: NDArray[np.uint8], *, connectivity: int
) -> None:
    """Spread what was planted, in place; see :func:`spread`."""
    # memory that is not written to costs nothing
    queued, following = np.empty((2, labels.size + _LEVELS), np.uint32)
    last = np.arange(_LEVELS, dtype=np.uint32)
    n = _queue_rims(probability, labels, level, connectivity, queued, following, last)
    _flood(labels.ravel(), level.ravel(), labels.shape[1], n, connectivity, queued, following, last)


@compiled
def _plant(markers: NDArray[np.uint16], offset: int, labels: NDArray[np.integer], level: NDArray[np.uint8]) -> None:
    height, width = markers.shape
    for y in range(height):
        row, to_labels, to_level = markers[y], labels[y + 1, 1 : width + 1], level[y + 1, 1 : width + 1]
        for x in range(row.size):
            if row[x] > 0:
                to_labels[x] = row[x] + offset
                to_level[x] = 255


@compiled
def _open(
    probability: NDArray[np.uint8],
    markers: NDArray[np.integer],
    cut: int,
    labels: NDArray[np.integer],
    level: NDArray[np.uint8],
) -> None:
    """Labels and levels before anything spreads; written so that compilers see vectors."""
    height, width = probability.shape
    labels[0, :] = labels[height + 1, :] = 0
    level[0, :] = level[height + 1, :] = 255
    lowest = np.uint8(cut)
    for y in range(height):
        labels[y + 1, 0] = labels[y + 1, width + 1] = 0
        level[y + 1, 0] = level[y + 1, width + 1] = 255
        values, row = probability[y], markers[y]
        to_labels, to_level = labels[y + 1, 1 : width + 1], level[y + 1, 1 : width + 1]
        for x in range(values.size):
            inside = values[x] > lowest
            to_labels[x] = row[x] if inside and row[x] > 0 else 0
            to_level[x] = ~values[x] if inside and row[x] == 0 else np.uint8(255)


@compiled
def _queue_rims(  # noqa: PLR0917 - arrays that a loop fills
    probability: NDArray[np.uint8],
    labels: NDArray[np.integer],
    level: NDArray[np.uint8],
    connectivity: int,
    queued: NDArray[np.uint32],
    following: NDArray[np.uint32],
    last: NDArray[np.uint32],
) -> int:
    """Queue labelled pixels that have an open neighbour.

    Entry ``k`` of a queue is the pixel ``queued[k]``, the next one ``following[k]``. Entry ``q`` of the first 256 is no
    pixel but the head of queue ``q``, whose end is ``last[q]``.
    """
    height, width = probability.shape
    # rows of bytes that are looked at eight at a time
    rim = np.zeros((width + 7) // 8 * 8, np.uint8)
    words = rim.view(np.uint64)
    column = np.empty(width + 2, np.uint8)
    n = last.size
    for y in range(1, height + 1):
        above, here, below = level[y - 1], level[y], level[y + 1]
        for x in range(column.size):
            column[x] = min(above[x], below[x])
        if connectivity == 8:
            for x in range(column.size):
                column[x] = min(column[x], here[x])
            left, right = column[:-2], column[2:]
        else:
            left, right = here[:-2], here[2:]
        middle, row = column[1:-1], labels[y, 1:-1]
        for x in range(row.size):
            rim[x] = (min(min(left[x], right[x]), middle[x]) != 255) & (row[x] > 0)  # noqa: PLW3301 - compiled
        for w in range(words.size):
            if words[w] == 0:
                continue
            for x in range(8 * w, 8 * w + 8):
                if rim[x] != 0:
                    queue = 255 - probability[y - 1, x]
                    queued[n] = y * (width + 2) + x + 1
                    following[last[queue]] = n
                    last[queue] = n
                    n += 1
    return n


@compiled
def _flood(  # noqa: PLR0917 - arrays that a loop fills
    labels: NDArray[np.integer],
    level: NDArray[np.uint8],
    stride: int,
    n: int,
    connectivity: int,
    queued: NDArray[np.uint32],
    following: NDArray[np.uint32],
    last: NDArray[np.uint32],
) -> None:
    """Spread labels queue by queue; levels never fall along a path, so that no queue fills behind the current one."""
    # unsigned, since an index that might be negative costs a comparison
    step, one, free = np.uint64(stride), np.uint64(1), np.uint32(n)
    for current in range(256):
        entry = np.uint32(current)
        while entry != last[current]:
            entry = following[entry]
            i = np.uint64(queued[entry])
            label = labels[i]
            above, below = i - step, i + step
            for j in (above, i - one, i + one, below):
                value = level[j]
                if value != 255:
                    labels[j] = label
                    level[j] = 255
                    queue = max(value, np.uint8(current))
                    queued[free] = j
                    following[last[queue]] = free
                    last[queue] = free
                    free += np.uint32(1)
            if connectivity == 8:
                for j in (above - one, above + one, below - one, below + one):
                    value = level[j]
                    if value != 255:
                        labels[j] = label
                        level[j] = 255
                        queue = max(value, np.uint8(current))
                        queued[free] = j
                        following[last[queue]] = free
                        last[queue] = free
                        free += np.uint32(1)
