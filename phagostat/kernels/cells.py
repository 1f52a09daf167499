"""What each cell of one frame measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled
from phagostat.kernels.ellipses import fill_ellipses
from phagostat.kernels.watershed import grey_cut

CELL_FEATURES = np.dtype(
    [
        ("label", np.uint16),
        ("area_px", np.int64),
        ("area_um2", np.float64),
        ("y_px", np.float64),
        ("x_px", np.float64),
        ("registered_y_um", np.float64),
        ("registered_x_um", np.float64),
        ("top_px", np.int32),
        ("left_px", np.int32),
        ("bottom_px", np.int32),
        ("right_px", np.int32),
        ("perimeter_um", np.float64),
        ("major_axis_um", np.float64),
        ("minor_axis_um", np.float64),
        ("eccentricity", np.float64),
        ("orientation_rad", np.float64),
        ("mean_probability", np.float64),
        ("certain_area_um2", np.float64),
        ("touches_border", np.bool_),
        ("n_touching", np.int32),
        ("incoherent", np.bool_),
    ]
)
"""Columns of :func:`cell_features`; see there."""

# Rows of the table of sums that the compiled passes fill, one column a label.
_AREA, _Y, _X, _YY, _XX, _XY, _LEVELS, _CERTAIN, _STRAIGHT, _DIAGONAL, _MIXED = range(11)
_TOP, _LEFT, _BOTTOM, _RIGHT, _FIRST_X = range(5)


def cell_features(
    labels: NDArray[np.uint16],
    probability: NDArray[np.uint8],
    *,
    pixel_size_um: float,
    factor: int,
    shift_yx_px: tuple[float, float] | None = None,
    incoherent: NDArray[np.bool_] | None = None,
    certain_probability: float = 0.98,
) -> NDArray[np.void]:
    """Measure every labelled cell.

    Parameters
    ----------
    labels : (y, x) uint16
        Label image 1..n without gaps, analysis grid.
    probability : (y, x) uint8
        0..255 for a cell probability of 0..1, same grid.
    pixel_size_um : float
        Of the analysis grid.
    factor : int
        Native pixels per analysis pixel.
    shift_yx_px : (float, float), optional
        (y, x) shift of this frame against the scene's reference in native pixels; NaN or None where there is none.
    incoherent : (n,) bool, optional
        Which cells grew from a seed of this frame alone; none by default.
    certain_probability : float
        Pixels above it are counted by themselves (published as the cell area: 0.98).

    Returns
    -------
    (n,) structured array of type :data:`CELL_FEATURES`
        ``label``; ``area_px`` in analysis pixels and ``area_um2``; ``y_px, x_px`` the centroid in **native** pixels
        of this frame (the centre of analysis pixel ``i`` is native ``(i + 0.5) * factor - 0.5``);
        ``registered_y_um, registered_x_um`` the centroid in the reference's frame, NaN without a shift; ``top_px,
        left_px, bottom_px, right_px`` the bounding box in analysis pixels, bottom and right excluded;
        ``perimeter_um``; ``major_axis_um, minor_axis_um, eccentricity, orientation_rad`` of the ellipse of equal
        second moments; ``mean_probability`` 0..1; ``certain_area_um2``; ``touches_border`` of the frame;
        ``n_touching``, how many other cells have a pixel beside one of this cell's, diagonals included;
        ``incoherent``.

    Raises
    ------
    ValueError
        If labels have gaps, or shapes do not fit.

    Notes
    -----
    Sums are whole numbers, so values do not depend on the order of pixels. Centroid, ellipse and perimeter
    (neighbourhood 4) equal those of ``skimage.measure.regionprops``.
    """
    if labels.shape != probability.shape:
        raise ValueError(f"labels and probability must have one shape (found: {labels.shape}, {probability.shape})")
    n = int(labels.max(initial=0))
    table = np.zeros(n, CELL_FEATURES)
    if incoherent is not None and incoherent.shape != (n,):
        raise ValueError(f"{n} cells need as many flags (found: {incoherent.shape})")
    if n == 0:
        return table
    sums = np.zeros((n + 1, 11), np.int64)
    boxes = np.zeros((n + 1, 5), np.int32)
    # A margin of background spares every look at a neighbour the question whether there is one.
    padded = np.pad(labels, 1)
    _sum_runs(padded, np.ascontiguousarray(probability), grey_cut(certain_probability), sums, boxes)
    rims = np.zeros_like(padded)
    rim_pixels = _find_rims(padded, rims)
    _sum_rims(rims.ravel(), rim_pixels, rims.shape[1], sums)
    sums, boxes = sums[1:], boxes[1:]
    area = sums[:, _AREA]
    if not area.all():
        raise ValueError(f"labels must be numbered without gaps (found: {np.count_nonzero(area)} labels up to {n})")
    table["label"] = np.arange(1, n + 1)
    table["area_px"] = area
    table["area_um2"] = area * pixel_size_um**2
    mean_y, mean_x = sums[:, _Y] / area, sums[:, _X] / area
    table["y_px"] = (boxes[:, _TOP] + mean_y + 0.5) * factor - 0.5
    table["x_px"] = (boxes[:, _FIRST_X] + mean_x + 0.5) * factor - 0.5
    shift_y_px, shift_x_px = (np.nan, np.nan) if shift_yx_px is None else shift_yx_px
    native_um = pixel_size_um / factor
    table["registered_y_um"] = (table["y_px"] - shift_y_px) * native_um
    table["registered_x_um"] = (table["x_px"] - shift_x_px) * native_um
    for name, column in (("top_px", _TOP), ("left_px", _LEFT), ("bottom_px", _BOTTOM), ("right_px", _RIGHT)):
        table[name] = boxes[:, column]
    table["touches_border"] = (
        (boxes[:, _TOP] == 0)
        | (boxes[:, _LEFT] == 0)
        | (boxes[:, _BOTTOM] == labels.shape[0])
        | (boxes[:, _RIGHT] == labels.shape[1])
    )
    root = np.sqrt(2.0)
    steps = sums[:, _STRAIGHT] + root * sums[:, _DIAGONAL] + (1 + root) / 2 * sums[:, _MIXED]
    table["perimeter_um"] = steps * pixel_size_um
    table["mean_probability"] = sums[:, _LEVELS] / (255.0 * area)
    table["certain_area_um2"] = sums[:, _CERTAIN] * pixel_size_um**2
    # Sums are taken from each cell's first pixel, so little is lost in these differences.
    fill_ellipses(
        table,
        yy=sums[:, _YY] / area - mean_y**2,
        xx=sums[:, _XX] / area - mean_x**2,
        xy=sums[:, _XY] / area - mean_y * mean_x,
        pixel_size_um=pixel_size_um,
    )
    contacts = _find_contacts(padded.ravel(), rim_pixels, padded.shape[1])
    first, second = np.divmod(np.unique(contacts), 2**16)
    table["n_touching"] = np.bincount(first, minlength=n + 1)[1:] + np.bincount(second, minlength=n + 1)[1:]
    if incoherent is not None:
        table["incoherent"] = incoherent
    return table


@compiled
def _sum_runs(
    labels: NDArray[np.uint16],
    probability: NDArray[np.uint8],
    certain_cut: int,
    sums: NDArray[np.int64],
    boxes: NDArray[np.int32],
) -> None:
    """Fill sums and boxes run by run from labels with a margin."""
    height, width = probability.shape
    # whether a label ends after a pixel; bytes, so that eight pixels can be skipped at a time
    ends = np.zeros((width + 8) // 8 * 8, np.uint8)
    words = ends.view(np.uint64)
    cut = np.uint8(certain_cut)
    for y in range(height):
        row, following = labels[y + 1, : width + 1], labels[y + 1, 1:]
        for x in range(row.size):
            ends[x] = row[x] != following[x]
        begin = 0  # with the margin
        for w in range(words.size):
            if words[w] == 0:
                continue
            for end in range(8 * w + 1, 8 * w + 9):
                if ends[end - 1] == 0:
                    continue
                label = row[begin]
                left, right, begin = begin - 1, end - 1, end
                if label == 0:
                    continue
                box, total = boxes[label], sums[label]
                if total[_AREA] == 0:
                    # Raster order: the first pixel of a label is in its top row.
                    box[_TOP], box[_LEFT], box[_RIGHT], box[_FIRST_X] = y, left, right, left
                box[_BOTTOM] = y + 1
                box[_LEFT] = min(box[_LEFT], left)
                box[_RIGHT] = max(box[_RIGHT], right)
                n, dy, dx = right - left, y - box[_TOP], left - box[_FIRST_X]
                steps = n * (n - 1) // 2
                sum_x = n * dx + steps
                total[_AREA] += n
                total[_Y] += n * dy
                total[_X] += sum_x
                total[_YY] += n * dy * dy
                total[_XX] += n * dx * dx + 2 * dx * steps + steps * (2 * n - 1) // 3
                total[_XY] += dy * sum_x
                values = probability[y, left:right]
                levels = n_certain = np.uint32(0)
                for x in range(values.size):
                    levels += values[x]
                    n_certain += values[x] > cut
                total[_LEVELS] += levels
                total[_CERTAIN] += n_certain


@compiled
def _find_rims(labels: NDArray[np.uint16], rims: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Labels of pixels beside which, above or below, another label or none lies; gives where they are."""
    height, width = labels.shape
    found = np.empty(labels.size, np.int64)
    n = 0
    flags = np.zeros((width + 7) // 8 * 8, np.uint8)
    words = flags.view(np.uint64)
    for y in range(1, height - 1):
        row, above, below = labels[y, 1:-1], labels[y - 1, 1:-1], labels[y + 1, 1:-1]
        left, right, rim, flag = labels[y, :-2], labels[y, 2:], rims[y, 1:-1], flags[1:]
        for x in range(row.size):
            label = row[x]
            inside = (above[x] == label) & (below[x] == label) & (left[x] == label) & (right[x] == label)
            rim[x] = 0 if inside else label
            flag[x] = rim[x] != 0
        for w in range(words.size):
            if words[w] == 0:
                continue
            for x in range(8 * w, 8 * w + 8):
                if flags[x] != 0:
                    found[n] = y * width + x
                    n += 1
    return found[:n].copy()


@compiled
def _sum_rims(rims: NDArray[np.uint16], places: NDArray[np.int64], stride: int, sums: NDArray[np.int64]) -> None:
    """Count rim pixels by how the line through them runs on: straight, diagonal, or one of each."""
    for i in places:
        label = rims[i]
        beside = corner = 0
        for j in (i - stride, i - 1, i + 1, i + stride):
            beside += rims[j] == label
        for j in (i - stride - 1, i - stride + 1, i + stride - 1, i + stride + 1):
            corner += rims[j] == label
        if 2 <= beside <= 3 and corner <= 2:
            sums[label, _STRAIGHT] += 1
        elif (beside == 0 and corner == 2) or (beside == 1 and corner == 3):
            sums[label, _DIAGONAL] += 1
        elif beside == 1 and 1 <= corner <= 2:
            sums[label, _MIXED] += 1


@compiled
def _find_contacts(labels: NDArray[np.uint16], places: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """Pairs of labels that have pixels beside each other, as ``smaller * 2**16 + larger``, some of them repeated.

    Rim pixels are enough: where labels meet at a corner, another two of the four pixels there are rims of theirs.
    """
    pairs = np.empty(4 * places.size, np.int64)
    n = 0
    before = np.int64(-1)
    for i in places:
        label = np.int64(labels[i])
        for j in (i + 1, i + stride - 1, i + stride, i + stride + 1):
            other = np.int64(labels[j])
            if other != 0 and other != label:  # noqa: PLR1714 - compiled
                pair = min(label, other) * 65536 + max(label, other)
                if pair != before:
                    pairs[n] = pair
                    n += 1
                    before = pair
    return pairs[:n].copy()
