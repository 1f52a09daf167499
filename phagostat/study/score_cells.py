"""How well cells are found and outlined, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from phagostat.simulate.truth import Truth
from phagostat.study.figures import Floats, ratio
from phagostat.study.run import Run

MATCH_IOU = 0.5
LINK_IOU = 0.2


@dataclass(frozen=True)
class CellScore:
    """Cells of one scene, in the used frames. Each share is of all of them together, not a mean over frames.

    Parameters
    ----------
    cell_frames
        Used frames that have label images.
    cell_count_error
        Mean of the signed relative differences of the counts.
    cell_count_error_abs
        Mean of the absolute ones.
    cell_area_error
        Signed relative difference of the mean areas.
    cell_dice
        Dice coefficient of cells against background.
    cell_f1
        F1 score of cells that are found: an intersection over union (IoU) of at least 0.5.
    cell_miou
        Sum of the IoU of true cells with the found ones that match them best, one to one, over the number of true
        cells.
    cell_split_share
        Share of the true cells in which most of each of two or more found ones lies.
    cell_merge_share
        Share of the found cells in which most of each of two or more true ones lies.
    cell_found_share
        Share of the true cells that are found (IoU of at least 0.5). This one and the next four, which say why the
        others are not, add up to 1; the first that holds counts.
    cell_lost_missed_share
        Less than half of it is covered by found cells: too dim or too smooth, or taken for the glass.
    cell_lost_merged_share
        Most of it lies in a found cell together with most of another true one.
    cell_lost_split_share
        Most of each of two or more found cells lies in it.
    cell_lost_outline_share
        None of these: one cell that is found with too different an outline, such as one that gave part of itself to a
        neighbour.
    cell_inside_found_share
        Share of the true cells off the frame's border that are found: slivers at the border, a third of all cells in
        a small field, cannot be told from their neighbours.
    cell_spurious_share
        Share of the found cells of which less than half lies in true ones: debris, halos, glass.
    """

    cell_frames: int
    cell_count_error: float
    cell_count_error_abs: float
    cell_area_error: float
    cell_dice: float
    cell_f1: float
    cell_miou: float
    cell_split_share: float
    cell_merge_share: float
    cell_found_share: float
    cell_lost_missed_share: float
    cell_lost_merged_share: float
    cell_lost_split_share: float
    cell_lost_outline_share: float
    cell_inside_found_share: float
    cell_spurious_share: float


@dataclass(frozen=True)
class FrameMatch:
    """True and found cells of one frame.

    Parameters
    ----------
    frame
        Which one.
    true, found : (n,), (m,) int64
        Labels.
    overlap : (n, m) int64
        Common pixels.
    true_px, found_px : (n,), (m,) int64
        Areas.
    pairs : (k, 2) int64
        Rows and columns of ``overlap`` that belong together: the assignment with the largest sum of IoU.
    iou : (k,) float64
        Of each pair; above 0.
    at_border : (n,) bool
        Which true cells touch the border of the frame.
    """

    frame: int
    true: NDArray[np.int64]
    found: NDArray[np.int64]
    overlap: NDArray[np.int64]
    true_px: NDArray[np.int64]
    found_px: NDArray[np.int64]
    pairs: NDArray[np.int64]
    iou: Floats
    at_border: NDArray[np.bool_]


def match_frame(frame: int, true: NDArray[Any], found: NDArray[Any]) -> FrameMatch:
    """Assign the found cells of a frame to the true ones.

    Parameters
    ----------
    frame
        Which frame.
    true, found : (y, x) integer
        Label images on the same grid, 0 is background.
    """
    names, index = np.unique(true, return_inverse=True)
    labels, column = np.unique(found, return_inverse=True)
    table = np.bincount(
        index.ravel().astype(np.int64) * len(labels) + column.ravel(), minlength=len(names) * len(labels)
    ).reshape(len(names), len(labels))
    rows, columns = names != 0, labels != 0
    true_px, found_px = table.sum(axis=1)[rows], table.sum(axis=0)[columns]
    overlap = table[np.ix_(rows, columns)]
    iou = overlap / (true_px[:, None] + found_px[None] - overlap)
    pairs = np.stack(linear_sum_assignment(iou, maximize=True), axis=-1).astype(np.int64)
    value = iou[pairs[:, 0], pairs[:, 1]]
    kept = value > 0
    border = np.concatenate([true[:1].ravel(), true[-1:].ravel(), true[:, :1].ravel(), true[:, -1:].ravel()])
    return FrameMatch(
        frame, names[rows].astype(np.int64), labels[columns].astype(np.int64), overlap, true_px, found_px,
        pairs[kept], value[kept], np.isin(names[rows], border),
    )  # fmt: skip


def match_scene(
    run: Run, truth: Truth, scene: int, frames: Iterable[int], *, failed: Collection[int] = ()
) -> list[FrameMatch]:
    """Assign cells in several frames of a scene.

    Parameters
    ----------
    run
        Its label images lie, as the truth's, in the frame as it is seen: neither is shifted.
    truth
        The movie's truth. On another grid than the run's, its labels are read at the centres of the run's pixels.
    scene
        Which scene.
    frames
        Which frames.
    failed
        Those of them without cells, since the run could not look for any: all are missed.
    """
    if run.cell_labels is None:
        return []
    shape = truth.document["scenes"][scene]["shape_yx"]
    matches = []
    for frame in frames:
        true = truth.labels(scene, frame)
        found = np.zeros_like(true) if frame in failed else run.cell_labels(scene, frame)
        true = on_grid(true, found.shape, native_yx=tuple(shape), reduction=truth.reduction)
        matches.append(match_frame(frame, true, found))
    return matches


def on_grid(
    labels: NDArray[Any], shape_yx: tuple[int, ...], *, native_yx: tuple[int, ...], reduction: int
) -> NDArray[Any]:
    """Read a label image at the pixel centres of another reduction of the same frame.

    Parameters
    ----------
    labels : (y, x)
        On the grid of ``reduction``.
    shape_yx
        Shape of the other grid.
    native_yx
        Shape of the frame, native px.
    reduction
        Native px per pixel of ``labels``.
    """
    if labels.shape == tuple(shape_yx):
        return labels
    picked = labels
    for axis, (length, native) in enumerate(zip(shape_yx, native_yx, strict=True)):
        step = max(native // length, 1)
        centre = (np.arange(length) + 0.5) * step / reduction
        picked = picked.take(np.minimum(centre.astype(np.int64), labels.shape[axis] - 1), axis=axis)
    return picked


def score_cells(matches: list[FrameMatch]) -> CellScore:
    """Compare the cells of a scene's used frames with the truth."""
    n_true = np.array([len(match.true) for match in matches], np.float64)
    n_found = np.array([len(match.found) for match in matches], np.float64)
    some = n_true > 0
    count = (n_found[some] - n_true[some]) / n_true[some]
    true_px, found_px = _total(matches, lambda m: m.true_px.sum()), _total(matches, lambda m: m.found_px.sum())
    true_area, found_area = ratio(true_px, n_true.sum()), ratio(found_px, n_found.sum())
    hits = _total(matches, lambda m: (m.iou >= MATCH_IOU).sum())
    causes = [_causes(match) for match in matches]
    of_true = {name: ratio(float(sum(each[name].sum() for each in causes)), n_true.sum()) for name in _CAUSES}
    inside = [~match.at_border for match in matches]
    return CellScore(
        cell_frames=len(matches),
        cell_count_error=float(count.mean()) if count.size else np.nan,
        cell_count_error_abs=float(np.abs(count).mean()) if count.size else np.nan,
        cell_area_error=ratio(found_area - true_area, true_area),
        cell_dice=ratio(2 * _total(matches, lambda m: m.overlap.sum()), true_px + found_px),
        cell_f1=ratio(2 * hits, n_true.sum() + n_found.sum()),
        cell_miou=ratio(_total(matches, lambda m: m.iou.sum()), n_true.sum()),
        cell_split_share=ratio(_total(matches, lambda m: (_n_pieces(m) > 1).sum()), n_true.sum()),
        cell_merge_share=ratio(
            _total(matches, lambda m: ((2 * m.overlap > m.true_px[:, None]).sum(axis=0) > 1).sum()), n_found.sum()
        ),
        cell_found_share=of_true["found"],
        cell_lost_missed_share=of_true["missed"],
        cell_lost_merged_share=of_true["merged"],
        cell_lost_split_share=of_true["split"],
        cell_lost_outline_share=of_true["outline"],
        cell_inside_found_share=ratio(
            float(sum((each["found"] & off).sum() for each, off in zip(causes, inside, strict=True))),
            float(sum(off.sum() for off in inside)),
        ),
        cell_spurious_share=ratio(
            _total(matches, lambda m: (2 * m.overlap.sum(axis=0) < m.found_px).sum()), n_found.sum()
        ),
    )


_CAUSES = ("found", "missed", "merged", "split", "outline")


def _causes(match: FrameMatch) -> dict[str, NDArray[np.bool_]]:
    """Which true cells are found, and why others are not: for each cell one of ``_CAUSES``, the first that holds."""
    found = np.zeros(len(match.true), np.bool_)
    found[match.pairs[match.iou >= MATCH_IOU, 0]] = True
    mostly_in = 2 * match.overlap > match.true_px[:, None]
    holds = {
        "found": found,
        "missed": 2 * match.overlap.sum(axis=1) < match.true_px,
        "merged": (mostly_in & (mostly_in.sum(axis=0) > 1)).any(axis=1),
        "split": _n_pieces(match) > 1,
        "outline": np.ones(len(match.true), np.bool_),
    }
    left = np.ones(len(match.true), np.bool_)
    for name in _CAUSES:
        holds[name] = holds[name] & left
        left &= ~holds[name]
    return holds


def _n_pieces(match: FrameMatch) -> NDArray[np.int64]:
    """Number of found cells most of which lies in each true one."""
    return np.asarray((2 * match.overlap > match.found_px).sum(axis=1), np.int64)


def _total(matches: list[FrameMatch], value: Callable[[FrameMatch], Any]) -> float:
    return float(sum(value(match) for match in matches))
