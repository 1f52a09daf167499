"""Sums over the pixels of a frame that are above a threshold, by territory and label; and over those of territories."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

# Slots of the table of pairs when it is new.
_SLOTS = 4096


def sum_above(
    frame: NDArray[np.integer],
    labels: NDArray[np.uint16],
    territory: NDArray[np.uint16],
    light: NDArray[np.float32],
    *,
    cut: float,
    moved_yx_px: tuple[float, float],
    background: float,
    bleaching_factor: float,
    kept_ratio: float,
    least_light: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Areas above a cut: by territory, and by pairs of territory and label.

    Parameters
    ----------
    frame, labels, territory, light : (y, x)
        A frame and its labels; territories and light of the reference frame.
    cut : float
        Pixels with more are above; those on the outline in part.
    moved_yx_px : (float, float)
        By how much this frame's content lies further down and right, in pixels of the frames.
    background, bleaching_factor : float
        Of the frame: its light is what is above the one, divided by the other.
    kept_ratio, least_light : float
        What has less than this share of the reference frame's light, or had less than this much of it there, belongs to
        no territory.

    Returns
    -------
    by_territory : (n + 1, 3) float64
        Area, and its moments along y and x; row 0: in no territory.
    pairs : (m,) int64
        ``territory * 2**16 + label``, ascending. A pixel without a label belongs to the largest one beside it.
    areas : (m,) float64
        Area of each pair.
    n_labelled : (m,) int64
        Labelled pixels of each pair.

    Notes
    -----
    Pixels are summed in raster order.
    """
    by_territory = np.zeros((int(territory.max(initial=0)) + 1, 3))
    pairs, areas, n_labelled = _sum_above(
        frame,
        labels,
        territory,
        light,
        (float(cut), float(moved_yx_px[0]), float(moved_yx_px[1])),
        np.int32(min(max(np.floor(cut), -1), np.iinfo(np.uint16).max)),
        (float(background), float(bleaching_factor), float(kept_ratio), float(least_light)),
        by_territory,
    )
    order = np.argsort(pairs)
    return by_territory, pairs[order], areas[order], n_labelled[order]


def sum_territories(
    frame: NDArray[np.integer],
    y_px: NDArray[np.int32],
    x_px: NDArray[np.int32],
    index: NDArray[np.intp],
    *,
    n: int,
    move_yx_px: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts in each moved territory, and how many of its pixels the frame shows.

    Parameters
    ----------
    frame : (y, x) uint8 or uint16
        Camera counts.
    y_px, x_px, index : (n_pixels,)
        Pixels of all territories, and the territory of each, 0..n-1.
    n : int
        Number of territories.
    move_yx_px : (int, int)
        By how much this frame's content lies further down and right.

    Returns
    -------
    counts, inside : (n,) int64
    """
    counts, inside = np.zeros((2, n), np.int64)
    _sum_territories(frame, y_px, x_px, index, move_yx_px, counts, inside)
    return counts, inside


@compiled
def _sum_territories(  # noqa: PLR0917 - arrays that a loop reads
    frame: NDArray[np.integer],
    y_px: NDArray[np.int32],
    x_px: NDArray[np.int32],
    index: NDArray[np.intp],
    move: tuple[int, int],
    counts: NDArray[np.int64],
    inside: NDArray[np.int64],
) -> None:
    height, width = frame.shape
    for k in range(index.size):
        y, x = np.int64(y_px[k]) + move[0], np.int64(x_px[k]) + move[1]
        if y >= 0 and x >= 0 and y < height and x < width:
            counts[index[k]] += np.int64(frame[y, x])
            inside[index[k]] += 1


@compiled
def _sum_above(  # noqa: PLR0912, PLR0915, PLR0917 - compiled functions call no others
    frame: NDArray[np.integer],
    labels: NDArray[np.uint16],
    territory: NDArray[np.uint16],
    light: NDArray[np.float32],
    places: tuple[float, float, float],
    whole_cut: np.int32,
    limits: tuple[float, float, float, float],
    by_territory: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    height, width = frame.shape
    cut, moved_y, moved_x = places
    background, bleaching_factor, kept_ratio, least_light = limits
    # pairs by open addressing, at most half of the slots in use
    pairs = np.full(_SLOTS, -1, np.int64)
    areas = np.zeros(_SLOTS, np.float64)
    n_labelled = np.zeros(_SLOTS, np.int64)
    n_pairs = 0
    # bytes that are looked at eight at a time, with a margin: what is above the cut in this row or a row beside it
    near = np.zeros((width + 2 + 7) // 8 * 8, np.uint8)
    words = near.view(np.uint64)
    column = np.zeros(width + 2, np.uint8)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        above, row, below, inner = frame[up], frame[y], frame[down], column[1 : 1 + width]
        for x in range(inner.size):
            inner[x] = max(np.int32(above[x]), np.int32(row[x]), np.int32(below[x])) > whole_cut
        left, right, to = column[:width], column[2 : 2 + width], near[:width]
        for x in range(to.size):
            to[x] = inner[x] | left[x] | right[x]
        place_y = y - moved_y
        near_y = np.int64(np.rint(place_y))
        low_y = min(max(np.int64(np.floor(place_y)), 0), max(height - 2, 0))
        part_y = min(max(place_y - low_y, 0.0), 1.0)
        next_y = min(low_y + 1, height - 1)
        for w in range(words.size):
            if words[w] == 0:
                continue
            for x in range(8 * w, min(8 * w + 8, width)):
                if near[x] == 0:
                    continue
                value = np.float64(row[x])
                before, behind = np.float64(row[max(x - 1, 0)]), np.float64(row[min(x + 1, width - 1)])
                slope = abs(np.float64(below[x]) - np.float64(above[x])) / 2 + abs(behind - before) / 2
                part = min(max(0.5 + (value - cut) / max(slope, 1.0), 0.0), 1.0)
                if part <= 0:
                    continue
                own = np.int64(labels[y, x])
                label = own
                if own == 0:  # just outside an outline
                    for j in range(up, down + 1):
                        for i in range(max(x - 1, 0), min(x + 2, width)):
                            label = max(label, np.int64(labels[j, i]))
                place_x = x - moved_x
                near_x = np.int64(np.rint(place_x))
                low_x = min(max(np.int64(np.floor(place_x)), 0), max(width - 2, 0))
                part_x = min(max(place_x - low_x, 0.0), 1.0)
                next_x = min(low_x + 1, width - 1)
                there = light[low_y, low_x] * (1 - part_x) + light[low_y, next_x] * part_x
                beyond = light[next_y, low_x] * (1 - part_x) + light[next_y, next_x] * part_x
                had = there * (1 - part_y) + beyond * part_y
                has = (value - background) / bleaching_factor
                reference = np.int64(0)
                outside = near_y < 0 or near_x < 0 or near_y >= height or near_x >= width
                if not (outside or has < kept_ratio * had or had < least_light):
                    reference = np.int64(territory[near_y, near_x])
                by_territory[reference, 0] += part
                by_territory[reference, 1] += part * y
                by_territory[reference, 2] += part * x
                pair = reference * 65536 + label
                mask = pairs.size - 1
                slot = (pair ^ (pair >> 13)) * 40503 & mask
                while pairs[slot] != pair and pairs[slot] >= 0:
                    slot = (slot + 1) & mask
                if pairs[slot] < 0:
                    pairs[slot] = pair
                    n_pairs += 1
                areas[slot] += part
                n_labelled[slot] += own > 0
                if 2 * n_pairs > pairs.size:
                    old_pairs, old_areas, old_labelled = pairs, areas, n_labelled
                    pairs = np.full(2 * old_pairs.size, -1, np.int64)
                    areas = np.zeros(pairs.size, np.float64)
                    n_labelled = np.zeros(pairs.size, np.int64)
                    mask = pairs.size - 1
                    for k in range(old_pairs.size):
                        pair = old_pairs[k]
                        if pair >= 0:
                            slot = (pair ^ (pair >> 13)) * 40503 & mask
                            while pairs[slot] >= 0:
                                slot = (slot + 1) & mask
                            pairs[slot], areas[slot], n_labelled[slot] = pair, old_areas[k], old_labelled[k]
    used = np.flatnonzero(pairs >= 0)
    return pairs[used], areas[used], n_labelled[used]
