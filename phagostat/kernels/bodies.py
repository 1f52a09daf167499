"""Bodies that a foreground consists of: parted at the necks of a height."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

# Heights are compared as ratios: a logarithmic scale of 16 bit down to a millionth, in steps of 0.02 %.
_LEVELS = 65535
_PER_LEVEL = float(np.log(1e6)) / _LEVELS


@dataclass(frozen=True)
class Bodies:
    """Bodies that a foreground consists of.

    Parameters
    ----------
    labels : (y, x) int32
        Body of each pixel of the foreground, 1..n; 0 elsewhere.
    tops : (y, x) int32
        The same for those pixels only that are higher than any neck by which a body could be left.
    neck : (n,) float64
        Height of the highest neck between body ``label - 1`` and one that touches it, as a fraction of the lesser
        peak of the two: the evidence that they are two is 1 - neck. 0 where no other body touches it.
    """

    labels: NDArray[np.int32]
    tops: NDArray[np.int32]
    neck: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Number of bodies."""
        return int(self.neck.size)


def split_bodies(
    height: NDArray[np.float32], mask: NDArray[np.uint8], *, max_neck: float, smallest_px: float
) -> Bodies:
    """Divide a foreground at the necks of a height.

    Parameters
    ----------
    height : (y, x) float32
        Natural logarithm of what is compared; differences beyond a factor of a million count as that.
    mask : (y, x) uint8
        0 or 1: the foreground.
    max_neck : float
        Two bodies that meet are joined if the neck is at least this fraction of the lesser peak.
    smallest_px : float
        Or if one of them has fewer pixels above the neck.

    Returns
    -------
    Bodies
        Numbered in raster order of their first top pixels. Of equal heights the first in raster order is flooded
        first, so the same arrays give the same labels.
    """
    if not mask.any():
        return Bodies(np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32), np.zeros(0))
    # As exact as the levels are: a neck of 1 joins what has no dip.
    neck_levels = round(-np.log(max_neck) / _PER_LEVEL)
    levels = np.empty(mask.shape, np.uint16)
    order = _sorted_places(height, mask, np.float32(_PER_LEVEL), levels)
    labels = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.int32)
    body, peak, rise = _flood(order, labels.ravel(), labels.shape[1], neck_levels, float(smallest_px))
    found, tops = np.zeros((2, *mask.shape), np.int32)
    roots = _number(labels, levels, neck_levels, body, peak, found, tops)
    neck = np.where(rise[roots] <= _LEVELS, np.exp(-_PER_LEVEL * rise[roots]), 0.0)
    return Bodies(found, tops, neck)


@compiled
def _sorted_places(
    height: NDArray[np.float32], mask: NDArray[np.uint8], per_level: np.float32, levels: NDArray[np.uint16]
) -> NDArray[np.uint64]:
    """Pixels of the mask from the top down, of one level in raster order.

    Each is ``level << 32 | place``, the place in an image with a margin of one pixel; ``levels``, 0 at the top, are
    filled in for all pixels of the mask.
    """
    n_rows, n_columns = mask.shape
    top = np.float32(-np.inf)
    for y in range(n_rows):
        inside, row = mask[y], height[y]
        for x in range(row.size):
            if inside[x] != 0:
                top = max(top, row[x])
    # entry k + 1 counts level k, and becomes where that level begins
    begin = np.zeros(65538, np.int64)
    for y in range(n_rows):
        inside, row, to = mask[y], height[y], levels[y]
        for x in range(row.size):
            if inside[x] != 0:
                to[x] = np.uint16(np.rint(min((top - row[x]) / per_level, np.float32(65535))))
                begin[np.int64(to[x]) + 2] += 1
    for k in range(2, begin.size):
        begin[k] += begin[k - 1]
    places = np.empty(begin[65537], np.uint64)
    for y in range(n_rows):
        inside, to = mask[y], levels[y]
        for x in range(inside.size):
            if inside[x] != 0:
                slot = np.int64(to[x]) + 1
                places[begin[slot]] = np.uint64(to[x]) << np.uint64(32) | np.uint64((y + 1) * (n_columns + 2) + x + 1)
                begin[slot] += 1
    return places


@compiled
def _flood(  # noqa: PLR0912, PLR0915 - compiled functions call no others
    order: NDArray[np.uint64], labels: NDArray[np.int32], stride: int, max_rise: int, smallest_px: float
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Flood from the peaks down; where two bodies meet, join them or keep them apart for good.

    They are joined if the neck lies less than ``max_rise`` below the lower peak, or one of them is still smaller than
    ``smallest_px``. ``order`` holds levels and places in ``labels``, which has a margin. Gives for each label the one
    that its body has in the end and, for those, the level of the peak and how far below the lower peak the highest neck
    lies (65536: it has none).
    """
    parent = np.zeros(order.size + 1, np.int32)
    peak = np.zeros(order.size + 1, np.int64)
    size = np.zeros(order.size + 1, np.int64)
    nearest = np.full(order.size + 1, 65536, np.int64)
    # unsigned, since an index that might be negative costs a comparison
    step, one = np.uint64(stride), np.uint64(1)
    n_bodies = 0
    for k in range(order.size):
        level = np.int64(order[k] >> np.uint64(32))
        here = order[k] & np.uint64(0xFFFFFFFF)
        above, below = here - step, here + step
        around = (labels[above - one], labels[above], labels[above + one], labels[here - one])
        others = (labels[here + one], labels[below - one], labels[below], labels[below + one])
        # Most pixels have neighbours of one body, or open ones: found out without a branch for each of them.
        most = least = np.uint32(0)
        for other in around:
            most = max(most, np.uint32(other))
            least = max(least, np.uint32(-other))
        for other in others:
            most = max(most, np.uint32(other))
            least = max(least, np.uint32(-other))
        mine = np.int32(0)
        if most == 0:
            n_bodies += 1
            mine = np.int32(n_bodies)
            parent[mine] = mine
            peak[mine] = level
        elif np.uint32(most + least) == 0:
            mine = np.int32(most)
            while parent[mine] != mine:
                parent[mine] = parent[parent[mine]]
                mine = parent[mine]
        else:
            seen = np.int32(0)
            for other in (*around, *others):
                if other == 0 or other == seen:  # noqa: PLR1714 - compiled
                    continue
                seen = other
                root = other
                while parent[root] != root:
                    parent[root] = parent[parent[root]]
                    root = parent[root]
                if mine == 0:
                    mine = root
                elif mine != root:
                    rise = level - max(peak[mine], peak[root])
                    if rise <= max_rise or min(size[mine], size[root]) < smallest_px:
                        lower = root if peak[mine] <= peak[root] else mine
                        mine = mine + root - lower
                        parent[lower] = mine
                        size[mine] += size[lower]
                        nearest[mine] = min(nearest[mine], nearest[lower])
                    else:
                        nearest[mine] = min(nearest[mine], rise)
                        nearest[root] = min(nearest[root], rise)
        labels[here] = mine
        size[mine] += 1
    for body in range(1, n_bodies + 1):
        root = np.int32(body)
        while parent[root] != root:
            root = parent[root]
        parent[body] = root
    return parent[: n_bodies + 1].copy(), peak[: n_bodies + 1].copy(), nearest[: n_bodies + 1].copy()


@compiled
def _number(  # noqa: PLR0917 - arrays that a loop fills
    labels: NDArray[np.int32],
    levels: NDArray[np.uint16],
    max_rise: int,
    body: NDArray[np.int32],
    peak: NDArray[np.int64],
    found: NDArray[np.int32],
    tops: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Number bodies in raster order of their first top pixels and paint them; gives the label that each has had."""
    number = np.zeros(body.size, np.int32)
    had = np.empty(body.size, np.int64)
    n = 0
    for y in range(levels.shape[0]):
        row, level, top = labels[y + 1, 1:-1], levels[y], tops[y]
        for x in range(level.size):
            if row[x] != 0:
                own = body[row[x]]
                if np.int64(level[x]) <= peak[own] + max_rise:
                    if number[own] == 0:
                        had[n] = own
                        n += 1
                        number[own] = n
                    top[x] = number[own]
    for label in range(1, body.size):
        body[label] = number[body[label]]
    for y in range(levels.shape[0]):
        row, to = labels[y + 1, 1:-1], found[y]
        for x in range(to.size):
            to[x] = body[row[x]]
    return had[:n].copy()
