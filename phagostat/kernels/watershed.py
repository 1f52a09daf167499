"""Cells of one frame: seeds, and the watershed that grows them over the frame's cell probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled
from phagostat.kernels.components import MAX_LABELS, Components, Connectivity, label_components
from phagostat.kernels.flooding import CLOSED, plant, spread, spread_on
from phagostat.model.errors import PhagostatError

Ties = Literal["raster", "heap"]

_REMEDY = "raise the cells' thresholds or the seeds' smallest area: this is noise"
# Order of scikit-image: nearest first, then along the raster. It decides who reaches a pixel first.
_NEIGHBOURS_YX = np.array(((-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)), np.int64)
# Heap keys pack an 8-bit level, 28 bits of age and 28 of position.
_MAX_HEAP_PX = 2**28


@dataclass(frozen=True)
class CellInstances:
    """Cells of one frame.

    Parameters
    ----------
    labels : (y, x) uint16
        0 for background, else 1, 2, ... in raster order of each cell's first pixel (analysis grid).
    incoherent : (n_cells,) bool
        Whether cell ``label - 1`` grew from a seed of this frame alone, since no seed of the window lay in its
        foreground.
    n_lost_seeds
        Seeds without a foreground pixel in this frame: no cell came of them.
    """

    labels: NDArray[np.uint16]
    incoherent: NDArray[np.bool_]
    n_lost_seeds: int

    @property
    def n_cells(self) -> int:
        """Number of labels."""
        return int(self.incoherent.size)


def grey_cut(probability: float) -> int:
    """Largest 8-bit level (0..255 for probability 0..1) that does not exceed a probability.

    Parameters
    ----------
    probability : float
        0 to 1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability lies between 0 and 1 (found: {probability})")
    # Rounded, since 0.2 * 255 is 51 on paper and a hair more in binary.
    return int(np.floor(round(probability * 255, 6)))


def label_seeds(
    certain: NDArray[np.bool_],
    *,
    pixel_size_um: float,
    min_area_um2: float,
    connectivity: Connectivity = 8,
) -> Components:
    """Seeds of cells: connected certain pixels.

    Parameters
    ----------
    certain : (y, x) bool
        Where the mean probability of a window exceeds the seeds' threshold.
    pixel_size_um : float
        Of the analysis grid.
    min_area_um2 : float
        Smallest area of a seed (published: 1000 px2 of 0.206 um, 42.4 um2).
    connectivity : 4 or 8
        Whether diagonal neighbours belong together.

    Returns
    -------
    Components
        Seeds numbered in raster order, and how many were too small.
    """
    smallest = int(np.ceil(round(min_area_um2 / pixel_size_um**2, 6)))
    return label_components(
        np.ascontiguousarray(certain).view(np.uint8),
        above_px=smallest - 0.5,
        connectivity=connectivity,
        what="seeds",
        remedy=_REMEDY,
    )


def watershed(
    probability: NDArray[np.uint8],
    markers: NDArray[np.integer],
    *,
    min_probability: float = 0.5,
    connectivity: Connectivity = 8,
    ties: Ties = "raster",
) -> NDArray[np.int32]:
    """Grow markers over the foreground, from high probability to low.

    Parameters
    ----------
    probability : (y, x) uint8
        0..255 for a cell probability of 0..1.
    markers : (y, x) integer
        0, or the label of the marker that the pixel belongs to; what lies outside the foreground does not count.
    min_probability : float
        The foreground's pixels exceed it.
    connectivity : 4 or 8
        Whether diagonal neighbours belong together.
    ties : {'raster', 'heap'}
        Which of the marker pixels of one level is the first to spread. 'raster': the one that comes first in raster
        order, so what becomes of a cell depends on its own foreground component alone. 'heap': as they happen to come
        out of scikit-image's heap, which depends on all of the frame.

    Returns
    -------
    (y, x) int32
        Label of every foreground pixel that a marker reaches, else 0.

    Notes
    -----
    With ``ties="heap"`` the labels are those of ``skimage.segmentation.watershed(-probability, markers, connectivity,
    mask=probability > min_probability)`` (0.26: values as signed numbers, connectivity 1 or 2) for every input, in
    half of its time. With ``ties="raster"`` they differ from these only where fronts that set out from equal marker
    pixels meet (some ten pixels of a frame), at a tenth of the time: 256 first-in-first-out queues, one a level,
    replace the heap, which gives the same order but for those ties, since levels never fall along a path. Only marker
    pixels with a free neighbour are queued.

    References
    ----------
    .. [1] F. Meyer, "Topographic distance and watershed lines", Signal Processing 38, 113-125, 1994,
       :doi:`10.1016/0165-1684(94)90060-4`
    """
    if probability.shape != markers.shape or probability.ndim != 2:
        raise ValueError(f"probability and markers are two images of one shape: {probability.shape}, {markers.shape}")
    if probability.dtype != np.uint8:
        raise TypeError(f"a probability map has 8 bit (found: {probability.dtype})")
    cut = grey_cut(min_probability)
    probability, markers = np.ascontiguousarray(probability), np.ascontiguousarray(markers)
    if ties == "raster":
        grown, _ = spread(probability, markers, cut=cut, connectivity=connectivity)
        return grown[1:-1, 1:-1].astype(np.int32)
    height, width = probability.shape
    if (height + 2) * (width + 2) > _MAX_HEAP_PX:
        raise ValueError(f"ties='heap' takes frames of up to {_MAX_HEAP_PX} px (found: {probability.shape})")
    padded = np.empty((height + 2, width + 2), np.int32)
    level = np.empty((height + 2, width + 2), np.uint8)
    _prepare(probability, markers.astype(np.int32), cut, padded, level)
    offsets = (_NEIGHBOURS_YX[:connectivity] * (width + 2, 1)).sum(axis=1)
    _flood_heap(level.ravel(), padded.ravel(), offsets)
    labels = np.empty(probability.shape, np.int32)
    np.maximum(padded[1:-1, 1:-1], 0, out=labels)
    return labels


def cell_instances(
    probability: NDArray[np.uint8],
    seeds: NDArray[np.integer],
    *,
    pixel_size_um: float,
    min_probability: float = 0.5,
    seed_probability: float = 0.9,
    min_seed_area_um2: float,
    connectivity: Connectivity = 8,
) -> CellInstances:
    """Cells of one frame from its probability and the seeds of its window.

    Parameters
    ----------
    probability : (y, x) uint8
        0..255 for a cell probability of 0..1, analysis grid.
    seeds : (y, x) integer
        Labels of the seeds in this frame's grid, 0 elsewhere.
    pixel_size_um : float
        Of the analysis grid.
    min_probability : float
        The foreground's pixels exceed it.
    seed_probability, min_seed_area_um2 : float
        What a component without a seed is seeded from: regions of this frame that exceed this probability and have
        at least this area. Where there is none, the component is one cell.
    connectivity : 4 or 8
        Whether diagonal neighbours belong together. With 4, foreground that touches a cell at a corner only is a
        component of its own.

    Returns
    -------
    CellInstances
        Every foreground pixel has a label.

    Raises
    ------
    PhagostatError
        If there are more cells than a label image can number.
    """
    cut = grey_cut(min_probability)
    n_seeds = int(seeds.max(initial=0))
    if n_seeds <= MAX_LABELS:  # the less memory the flood jumps about in, the better
        seeds = seeds.astype(np.uint16, copy=False)
    probability, seeds = np.ascontiguousarray(probability), np.ascontiguousarray(seeds)
    grown, level = spread(probability, seeds, cut=cut, connectivity=connectivity)
    largest = n_seeds
    left = level != CLOSED
    rows = np.flatnonzero(left.any(axis=1))
    if rows.size:
        if n_seeds + int(np.count_nonzero(left)) > np.iinfo(grown.dtype).max:
            grown = grown.astype(np.int32)
        first, last = int(rows[0]) - 1, int(rows[-1]) + 1  # with a margin
        largest += _grow_unseeded(
            probability[first : last - 1],
            grown[first : last + 1],
            level[first : last + 1],
            offset=n_seeds,
            seed_cut=grey_cut(seed_probability),
            pixel_size_um=pixel_size_um,
            min_seed_area_um2=min_seed_area_um2,
            connectivity=connectivity,
        )
    labels = np.zeros(probability.shape, np.uint16)
    number = np.zeros(largest + 1, np.int32)
    first_labels = np.zeros(MAX_LABELS + 1, np.int32)
    n_cells = _renumber(grown, labels, number, first_labels)
    if n_cells < 0:
        raise PhagostatError(
            "more cells than a label image can number", found=f"more than {MAX_LABELS}", remedy=_REMEDY
        )
    incoherent = first_labels[1 : n_cells + 1] > n_seeds
    outside = np.zeros(n_seeds + 1, np.bool_)
    _mark_outside(probability, cut, seeds, outside)
    outside &= number[: outside.size] == 0
    return CellInstances(labels, incoherent, int(np.count_nonzero(outside)))


def _grow_unseeded(
    probability: NDArray[np.uint8],
    grown: NDArray[np.integer],
    level: NDArray[np.uint8],
    *,
    offset: int,
    seed_cut: int,
    pixel_size_um: float,
    min_seed_area_um2: float,
    connectivity: Connectivity,
) -> int:
    """Give labels beyond ``offset``, in place, to components that no seed has reached; tells how many."""
    left = (level[1:-1, 1:-1] != CLOSED).view(np.uint8)
    own = label_seeds(
        (probability > seed_cut) & left.view(np.bool_),
        pixel_size_um=pixel_size_um,
        min_area_um2=min_seed_area_um2,
        connectivity=connectivity,
    )
    if own.n:
        plant(own.labels, grown, level, offset=offset)
        spread_on(probability, grown, level, connectivity=connectivity)
        left = (level[1:-1, 1:-1] != CLOSED).view(np.uint8)
    parts = label_components(left, connectivity=connectivity, what="cells", remedy=_REMEDY)
    plant(parts.labels, grown, level, offset=offset + own.n)
    return own.n + parts.n


@compiled
def _prepare(
    probability: NDArray[np.uint8],
    markers: NDArray[np.int32],
    cut: int,
    labels: NDArray[np.int32],
    level: NDArray[np.uint8],
) -> None:
    """Labels with a margin, -1 where nothing may spread, and levels that fall with probability."""
    height, width = probability.shape
    labels[0, :] = labels[height + 1, :] = -1
    for y in range(height):
        labels[y + 1, 0] = labels[y + 1, width + 1] = -1
        for x in range(width):
            value = probability[y, x]
            if value > cut:
                labels[y + 1, x + 1] = markers[y, x]
                level[y + 1, x + 1] = 255 - value
            else:
                labels[y + 1, x + 1] = -1


@compiled
def _flood_heap(  # noqa: PLR0912, PLR0915 - compiled functions call no others, so a key is inserted in two places
    level: NDArray[np.uint8], labels: NDArray[np.int32], offsets: NDArray[np.int64]
) -> None:
    """Spread labels in the order of a binary heap in which all marker pixels have the same age.

    Which of equal keys comes first is a matter of every move in the heap, so each is made as scikit-image makes it:
    a key rises while it is smaller than its parent; the last key takes the place of the first and sinks below the
    smaller child, the left one if both are equal.
    """
    by_age, by_level = np.uint64(28), np.uint64(56)
    position = np.uint64((1 << 28) - 1)
    n_foreground = 0
    for i in range(labels.size):
        if labels[i] >= 0:
            n_foreground += 1
    heap = np.empty(n_foreground + 1, np.uint64)
    n = 0
    for i in range(labels.size):
        if labels[i] > 0:
            key = (np.uint64(level[i]) << by_level) | np.uint64(i)
            child = n
            n += 1
            while child > 0:
                parent = (child - 1) // 2
                if (key >> by_age) >= (heap[parent] >> by_age):
                    break
                heap[child] = heap[parent]
                child = parent
            heap[child] = key
    age = np.uint64(0)
    while n > 0:
        popped = heap[0]
        n -= 1
        if n > 0:
            sinking = heap[n]
            parent = 0
            while True:
                child = 2 * parent + 1
                if child >= n:
                    break
                least, smallest = parent, sinking >> by_age
                if (heap[child] >> by_age) < smallest:
                    least, smallest = child, heap[child] >> by_age
                if child + 1 < n and (heap[child + 1] >> by_age) < smallest:
                    least = child + 1
                if least == parent:
                    break
                heap[parent] = heap[least]
                parent = least
            heap[parent] = sinking
        origin = np.int64(popped & position)
        for offset in offsets:
            j = origin + offset
            if labels[j] == 0:
                labels[j] = labels[origin]
                age += np.uint64(1)
                key_level = max(np.uint64(level[j]), popped >> by_level)
                key = (key_level << by_level) | (age << by_age) | np.uint64(j)
                child = n
                n += 1
                while child > 0:
                    parent = (child - 1) // 2
                    if (key >> by_age) >= (heap[parent] >> by_age):
                        break
                    heap[child] = heap[parent]
                    child = parent
                heap[child] = key


@compiled
def _mark_outside(
    probability: NDArray[np.uint8], cut: int, markers: NDArray[np.integer], outside: NDArray[np.bool_]
) -> None:
    """Mark labels that have a pixel outside the foreground; most rows have none, which vectors find out fast."""
    lowest = np.uint8(cut)
    for y in range(markers.shape[0]):
        values, row = probability[y], markers[y]
        n = 0
        for x in range(row.size):
            n += (values[x] <= lowest) & (row[x] > 0)
        if n > 0:
            for x in range(row.size):
                if row[x] > 0 and values[x] <= lowest:
                    outside[row[x]] = True


@compiled
def _renumber(
    grown: NDArray[np.integer], labels: NDArray[np.uint16], number: NDArray[np.int32], origin: NDArray[np.int32]
) -> int:
    """Number labels, which have a margin, in raster order of their first pixels; -1 if there are too many."""
    n = 0
    height, width = labels.shape
    # whether a label ends after a pixel; bytes, so that eight pixels can be skipped at a time
    ends = np.zeros((width + 8) // 8 * 8, np.uint8)
    words = ends.view(np.uint64)
    for y in range(height):
        before, after, to = grown[y + 1, : width + 1], grown[y + 1, 1:], labels[y]
        for x in range(after.size):
            ends[x] = before[x] != after[x]
        begin = 0  # with the margin
        for w in range(words.size):
            if words[w] == 0:
                continue
            for end in range(8 * w + 1, 8 * w + 9):
                if ends[end - 1] == 0:
                    continue
                value = before[begin]
                if value > 0:
                    if number[value] == 0:
                        n += 1
                        if n >= origin.size:
                            return -1
                        number[value] = n
                        origin[n] = value
                    to[begin - 1 : end - 1] = number[value]
                begin = end
    return n
