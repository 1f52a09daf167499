"""Sums over the pixels of each label of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

_AREA, _Y, _X, _SATURATED, _TOP, _LEFT, _BOTTOM, _RIGHT = range(8)
_TOTAL, _WEIGHT, _WEIGHT_Y, _WEIGHT_X, _MAXIMUM = range(5)


@dataclass(frozen=True)
class LabelSums:
    """What the pixels of labels 1..n add up to, in raster order.

    Parameters
    ----------
    area, sum_y, sum_x, n_saturated : (n,) int64
        Pixels, their rows and columns, and how many are saturated.
    top, left, bottom, right : (n,) int64
        Bounding box, bottom and right excluded.
    total, maximum : (n,) float64
        Of the counts above background.
    weight, weight_y, weight_x : (n,) float64
        Counts above background, those below it taken for 0, and their moments.
    """

    area: NDArray[np.int64]
    sum_y: NDArray[np.int64]
    sum_x: NDArray[np.int64]
    n_saturated: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    bottom: NDArray[np.int64]
    right: NDArray[np.int64]
    total: NDArray[np.float64]
    maximum: NDArray[np.float64]
    weight: NDArray[np.float64]
    weight_y: NDArray[np.float64]
    weight_x: NDArray[np.float64]


def sum_labels(
    labels: NDArray[np.uint16], frame: NDArray[np.integer], *, background: float, white_level_counts: int
) -> LabelSums:
    """Sums of each label's pixels.

    Parameters
    ----------
    labels : (y, x) uint16
        Label image.
    frame : (y, x) uint8 or uint16
        Camera counts.
    background : float
        Is subtracted from them.
    white_level_counts : int
        Where the camera saturates.

    Returns
    -------
    LabelSums
        An entry for each label up to the largest; without meaning but for an area of 0 where there is no such label.
    """
    n = int(labels.max(initial=0))
    whole, real = np.zeros((n + 1, 8), np.int64), np.zeros((n + 1, 5), np.float64)
    whole[:, (_TOP, _LEFT)] = np.iinfo(np.int64).max
    real[:, _MAXIMUM] = -np.inf
    _sum(labels, frame, float(background), white_level_counts, whole, real)
    whole, real = whole[1:], real[1:]
    return LabelSums(
        area=whole[:, _AREA],
        sum_y=whole[:, _Y],
        sum_x=whole[:, _X],
        n_saturated=whole[:, _SATURATED],
        top=whole[:, _TOP],
        left=whole[:, _LEFT],
        bottom=whole[:, _BOTTOM],
        right=whole[:, _RIGHT],
        total=real[:, _TOTAL],
        maximum=real[:, _MAXIMUM],
        weight=real[:, _WEIGHT],
        weight_y=real[:, _WEIGHT_Y],
        weight_x=real[:, _WEIGHT_X],
    )


def sum_squares(
    labels: NDArray[np.uint16], mean_y: NDArray[np.float64], mean_x: NDArray[np.float64], sums: LabelSums
) -> NDArray[np.float64]:
    """Second moments of each label's pixels about its centre.

    Parameters
    ----------
    labels : (y, x) uint16
        Label image.
    mean_y, mean_x : (n,) float64
        Centres.
    sums : LabelSums
        Of the same labels.

    Returns
    -------
    (3, n) float64
        Sums of squares along y, along x, and of products.
    """
    squares = np.zeros((3, mean_y.size))
    _sum_squares(labels, mean_y, mean_x, sums.top, sums.left, sums.bottom, sums.right, squares)
    return squares


@compiled
def _sum(  # noqa: PLR0917 - arrays that a loop fills
    labels: NDArray[np.uint16],
    frame: NDArray[np.integer],
    background: float,
    white: int,
    whole: NDArray[np.int64],
    real: NDArray[np.float64],
) -> None:
    height, width = labels.shape
    # bytes that are looked at eight at a time
    flags = np.zeros((width + 7) // 8 * 8, np.uint8)
    words = flags.view(np.uint64)
    for y in range(height):
        row, raw = labels[y], frame[y]
        for x in range(row.size):
            flags[x] = row[x] != 0
        for w in range(words.size):
            if words[w] == 0:
                continue
            for x in range(8 * w, min(8 * w + 8, width)):
                if row[x] == 0:
                    continue
                count, counted = whole[row[x]], real[row[x]]
                count[_AREA] += 1
                count[_Y] += y
                count[_X] += x
                count[_SATURATED] += raw[x] >= white
                count[_TOP] = min(count[_TOP], y)
                count[_LEFT] = min(count[_LEFT], x)
                count[_BOTTOM] = y + 1
                count[_RIGHT] = max(count[_RIGHT], x + 1)
                value = np.float64(raw[x]) - background
                weight = max(value, 0.0)
                counted[_TOTAL] += value
                counted[_WEIGHT] += weight
                counted[_WEIGHT_Y] += weight * y
                counted[_WEIGHT_X] += weight * x
                counted[_MAXIMUM] = max(counted[_MAXIMUM], value)


@compiled
def _sum_squares(  # noqa: PLR0917 - arrays that a loop fills
    labels: NDArray[np.uint16],
    mean_y: NDArray[np.float64],
    mean_x: NDArray[np.float64],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    bottom: NDArray[np.int64],
    right: NDArray[np.int64],
    squares: NDArray[np.float64],
) -> None:
    for i in range(mean_y.size):
        yy = xx = yx = 0.0
        for y in range(top[i], bottom[i]):
            row = labels[y]
            for x in range(left[i], right[i]):
                if row[x] == i + 1:
                    dy, dx = y - mean_y[i], x - mean_x[i]
                    yy += dy * dy
                    xx += dx * dx
                    yx += dx * dy
        squares[0, i], squares[1, i], squares[2, i] = yy, xx, yx
