"""How far a run's numbers are from a movie's truth.

Shifts are compared relative to the run's own reference frame. A frame counts as sharp if its true defocus is at most
0.5 px of the analysis grid and as blurred from 2 px; what lies between is reported and no error.
What a run has no tables or images for is absent from its score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.truth import Table, Truth, TruthError
from phagostat.study.figures import NAN, Floats, floats, of, plain, ratio
from phagostat.study.run import Run, read_frames_table, read_run
from phagostat.study.score_blur import BLUR_COLUMNS, BLURRED_DEFOCUS_PX, SHARP_DEFOCUS_PX, BlurScore, score_blur
from phagostat.study.score_cells import CellScore, match_scene, score_cells
from phagostat.study.score_eaten import EATEN_COLUMNS, EatenScore, score_eaten, unscored_eaten
from phagostat.study.score_fates import FATE_COLUMNS, FateScore, score_fates
from phagostat.study.score_tracks import TRACK_COLUMNS, TrackScore, score_tracks
from phagostat.study.true_aggregates import true_aggregates

__all__ = [
    "LARGER_IS_BETTER",
    "Run",
    "SceneScore",
    "Score",
    "read_frames_table",
    "read_run",
    "score",
    "seeds_from_commit",
]

SHIFT_TOLERANCE_PX = 0.05
SMALLEST_AGGREGATE_PX = 10  # analysis px, as the published code drops smaller ones

_MEASURES = ("sharpness", "bleaching_factor", "aggregate_count", "aggregate_area_um2")
_LABEL_COLUMNS = ("scene", "frame", "y_px", "x_px", "touches_border", "top_px", "left_px", "bottom_px", "right_px")
_AGGREGATES_CHANNEL, _CELLS_CHANNEL = "0", "1"

LARGER_IS_BETTER = frozenset({
    "sharpness_auc", "n_frames", "n_sharp_frames", "n_compared_frames", "eaten_frames_share", "eaten_compared_share",
    "eaten_within_5pct", "eaten_within_10pct", "eaten_within_20pct", "fates_compared", "fates_right_share",
    "kept_found_share", "moved_found_share", "eaten_found_share", "detached_found_share", "cell_frames", "cell_dice",
    "cell_f1", "cell_miou", "cell_found_share", "cell_inside_found_share", "true_tracks", "track_longest_share",
    "true_kept_share", "track_kept_share", "lag_speed_outlined_share", "true_mean_speed_um_per_min",
    "true_lag_speed_um_per_min",
})  # fmt: skip
"""For which figures a larger value is the better one: their worst scene is the smallest."""


@dataclass(frozen=True)
class SceneScore:
    """Figures of one scene; NaN where there is nothing to compare.

    Parameters
    ----------
    scene
        Its index.
    n_frames, n_sharp_frames, n_compared_frames
        Frames in all; sharp ones whose pixels exist; those of them that have a shift.
    shift_error_max_px, shift_error_mean_px
        Length of the difference of the shift vectors, native px, over the compared frames.
    shift_error_max_axis_px
        The largest error along one axis.
    share_over_tolerance
        Share of the sharp frames whose error is over 0.05 px; unregistered ones count as over.
    unregistered_share
        Share of the sharp frames without a shift.
    unusable_accepted
        Black, constant, saturated or missing frames that were called ok.
    bleaching_error_mean, bleaching_error_max
        Absolute difference of the bleaching factors, relative to the reference frame (lamp included).
    aggregate_count_error, aggregate_area_error
        Mean relative difference (signed) of count and total area in the field, over the compared frames.
    aggregate_area_error_max
        Largest absolute relative difference of the total area.
    sharpness_auc
        Probability that a blurred frame has a lower sharpness than a sharp one.
    blur, eaten, fates, cells, tracks
        The parts of the analysis; None where the run has nothing for them.
    """

    scene: int
    n_frames: int
    n_sharp_frames: int
    n_compared_frames: int
    shift_error_max_px: float
    shift_error_mean_px: float
    shift_error_max_axis_px: float
    share_over_tolerance: float
    unregistered_share: float
    unusable_accepted: int
    bleaching_error_mean: float
    bleaching_error_max: float
    aggregate_count_error: float
    aggregate_area_error: float
    aggregate_area_error_max: float
    sharpness_auc: float
    blur: BlurScore | None = None
    eaten: EatenScore | None = None
    fates: FateScore | None = None
    cells: CellScore | None = None
    tracks: TrackScore | None = None

    def figures(self) -> dict[str, float]:
        """Give all figures that there are, those of the parts among them, by name."""
        return dict(self._figures(self))

    def as_dict(self) -> dict[str, Any]:
        """Give everything, flat, as what JSON can hold; only the confusion of fates is a table."""
        confusion = {} if self.fates is None else {"confusion": self.fates.confusion}
        return {"scene": self.scene} | plain(self.figures()) | confusion

    def _figures(self, part: Any) -> Iterator[tuple[str, float]]:
        for item in fields(part):
            value = getattr(part, item.name)
            if item.name in ("blur", "eaten", "fates", "cells", "tracks") and part is self:
                if value is not None:
                    yield from self._figures(value)
            elif item.name not in ("scene", "confusion"):
                yield item.name, value


@dataclass(frozen=True)
class Score:
    """Figures of a run: scene by scene, their mean, and the worst scene of each.

    Parameters
    ----------
    scenes
        Scene by scene.
    mean, worst
        Over the scenes that have the figure.
    absent
        Why a part is not scored, by its name.
    """

    scenes: tuple[SceneScore, ...]
    mean: dict[str, float]
    worst: dict[str, float]
    absent: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as what JSON can hold: what is not a number is None."""
        return {
            "scenes": [scene.as_dict() for scene in self.scenes],
            "mean": plain(self.mean),
            "worst": plain(self.worst),
            "absent": dict(self.absent),
        }


def seeds_from_commit(commit_sha: str, n: int = 20) -> tuple[int, ...]:
    """Derive the seeds that scores of a commit are quoted on, so that nobody chooses them.

    Parameters
    ----------
    commit_sha
        Full commit id in hexadecimal; case and surrounding blanks don't matter.
    n
        How many; the first ones of a longer list are the shorter list.

    Returns
    -------
    tuple of int
        Seed i is the first four bytes, big-endian, of the SHA-256 of ``"<commit id>:<i>"``.

    Raises
    ------
    ValueError
        If it is no full commit id.
    """
    commit = commit_sha.strip().lower()
    if len(commit) not in (40, 64) or set(commit) - set("0123456789abcdef"):
        raise ValueError(f"a full commit id has 40 or 64 hexadecimal digits, not {commit_sha!r}")
    return tuple(int.from_bytes(hashlib.sha256(f"{commit}:{i}".encode()).digest()[:4], "big") for i in range(n))


def score(run: Run | Table, truth: Truth) -> Score:
    """Compare a run with a truth.

    Parameters
    ----------
    run
        The run (see :func:`read_run`), or its per-frame table alone.
    truth
        The movie's truth.

    Returns
    -------
    Score
        Per scene, mean and worst.

    Raises
    ------
    TruthError
        If run and truth are not of the same movie.
    """
    whole = run if isinstance(run, Run) else Run(run)
    found = sorted(set(whole.frames["scene"].tolist()))
    if found != list(range(truth.n_scenes)):
        raise TruthError(
            f"the truth has {truth.n_scenes} scenes, the run others", where=truth.path, found=found,
            remedy="compare a run with the truth of its own movie",
        )  # fmt: skip
    absent = _absent_parts(whole)
    scenes = tuple(_score_scene(whole, truth, scene, absent) for scene in found)
    figures = [scene.figures() for scene in scenes]
    names = dict.fromkeys(name for scene in figures for name in scene)
    values = {name: np.array([float(scene.get(name, NAN)) for scene in figures]) for name in names}
    return Score(
        scenes,
        {name: of(np.mean, known) for name, known in values.items()},
        {name: of(_worst(name), known) for name, known in values.items()},
        absent,
    )


def _absent_parts(run: Run) -> dict[str, str]:
    """Why parts cannot be scored."""
    no_labels = run.lacks_channel("cells") or ("" if run.cell_labels is not None else "there are no cell label images")
    no_focus = run.lacks("frames", BLUR_COLUMNS)
    alone = run.lacks_channel("aggregates")
    reasons = {
        "shifts": alone,
        "blur": alone or no_focus,
        "eaten": alone or run.lacks("eaten", EATEN_COLUMNS),
        "fates": alone or run.lacks("fates", FATE_COLUMNS) or run.lacks("eaten", EATEN_COLUMNS),
        "cells": no_focus or no_labels,
        "tracks": no_focus or no_labels or run.lacks("cells", TRACK_COLUMNS),
    }
    return {part: reason for part, reason in reasons.items() if reason}


def _score_scene(run: Run, truth: Truth, scene: int, absent: Mapping[str, str]) -> SceneScore:
    true = truth.scene(truth.frames, scene)
    order = np.argsort(true["frame"])
    true = {name: column[order] for name, column in true.items()}
    n = len(order)
    frames = run.scene("frames", scene)
    number = frames["frame"].astype(np.int64)
    if len(number) != n or set(number.tolist()) != set(true["frame"].tolist()):
        raise TruthError(f"scene {scene} has {n} frames, the run others", where=truth.path, found=len(number))
    frames = {name: column[np.argsort(number)] for name, column in frames.items()}
    measured = {name: floats(frames[name]) if name in frames else np.full(n, np.nan) for name in _MEASURES}
    exists = np.array([_AGGREGATES_CHANNEL not in channels.split() for channels in true["missing_channels"]])
    normal = exists & (true["state"] == "normal")
    sharp = normal & (true["defocus_sigma_px"] <= SHARP_DEFOCUS_PX)
    blurred = normal & (true["defocus_sigma_px"] >= BLURRED_DEFOCUS_PX)
    n_sharp = int(sharp.sum())

    shift = np.stack([floats(frames[f"shift_{axis}_px"]) for axis in "yx"], axis=1)
    true_shift = np.stack([true[f"shift_{axis}_px"] for axis in "yx"], axis=1)
    reference = np.flatnonzero(frames["is_reference"].astype(bool))
    error = np.full((n, 2), np.nan)
    fading = np.full(n, np.nan)
    if len(reference) == 1 and "shifts" not in absent:
        error = shift - (true_shift - true_shift[reference[0]])
        light = true["bleaching_factor"] * true["illumination_aggregates"]
        fading = np.abs(measured["bleaching_factor"] - light / light[reference[0]])
    length = np.hypot(error[:, 0], error[:, 1])
    compared = sharp & np.isfinite(length)
    over = sharp & ~(length <= SHIFT_TOLERANCE_PX)
    n_to_register = 0 if "shifts" in absent else n_sharp
    counts, areas = _true_aggregates(truth, scene, n)
    count_error = _relative(measured["aggregate_count"], counts)[compared]
    area_error = _relative(measured["aggregate_area_um2"], areas)[compared]
    accepted = (frames["verdict"] == "ok") & ~normal
    blur = None
    if "blur" not in absent:
        blur = score_blur(frames, defocus_px=true["defocus_sigma_px"], normal=normal)
    eaten, fates = _score_aggregates(run, truth, scene, absent, reference=reference, shift_yx_px=true_shift)
    cells, tracks = _score_cells(run, truth, scene, absent, frames)
    return SceneScore(
        scene=scene, n_frames=n, n_sharp_frames=n_sharp, n_compared_frames=int(compared.sum()),
        shift_error_max_px=of(np.max, length[compared]), shift_error_mean_px=of(np.mean, length[compared]),
        shift_error_max_axis_px=of(np.max, np.abs(error[compared])),
        share_over_tolerance=ratio(int(over.sum()), n_to_register),
        unregistered_share=ratio(int((sharp & ~compared).sum()), n_to_register),
        unusable_accepted=int(accepted.sum()), bleaching_error_mean=of(np.mean, fading[sharp]),
        bleaching_error_max=of(np.max, fading[sharp]), aggregate_count_error=of(np.mean, count_error),
        aggregate_area_error=of(np.mean, area_error), aggregate_area_error_max=of(np.max, np.abs(area_error)),
        sharpness_auc=_auc(measured["sharpness"][blurred], measured["sharpness"][sharp]),
        blur=blur, eaten=eaten, fates=fates, cells=cells, tracks=tracks,
    )  # fmt: skip


def _score_aggregates(
    run: Run, truth: Truth, scene: int, absent: Mapping[str, str], *, reference: NDArray[np.int64], shift_yx_px: Floats
) -> tuple[EatenScore | None, FateScore | None]:
    """Eaten area and fates of a scene."""
    if "eaten" in absent:
        return None, None
    if len(reference) != 1:
        return unscored_eaten(uptake=bool(np.any(truth.scene(truth.areas, scene)["eaten_area_um2"] > 0))), None
    first = int(reference[0])
    boxes = None
    if not run.lacks("aggregates", _LABEL_COLUMNS):
        labels = run.scene("aggregates", scene)
        boxes = {name: labels[name][labels["frame"] == first] for name in _LABEL_COLUMNS}
    true = true_aggregates(truth, scene, reference=first, shift_yx_px=shift_yx_px, found=boxes)
    rows = run.scene("eaten", scene)
    area = NAN
    if not run.lacks("scenes", ("scene", "reference_area_um2")):
        area = float(of(np.mean, floats(run.scene("scenes", scene)["reference_area_um2"])))
    eaten = score_eaten(rows, true, reference=first, reference_area_um2=area)
    if "fates" in absent or not len(rows["frame"]):
        return eaten, None
    smallest = SMALLEST_AGGREGATE_PX * (truth.pixel_size_um * truth.reduction) ** 2
    last = int(rows["frame"].max())
    return eaten, score_fates(
        run.scene("fates", scene), true, truth, scene, reference=first, last=last, smallest_um2=smallest
    )


def _score_cells(
    run: Run, truth: Truth, scene: int, absent: Mapping[str, str], frames: Table
) -> tuple[CellScore | None, TrackScore | None]:
    """Cells and tracks of a scene's used frames."""
    if "cells" in absent:
        return None, None
    true = truth.scene(truth.frames, scene)
    missing = dict(zip(true["frame"].tolist(), true["missing_channels"].tolist(), strict=True))
    shown = [
        frame
        for frame in np.flatnonzero(frames["usable"].astype(bool)).tolist()
        if _CELLS_CHANNEL not in missing[frame].split()
    ]
    verdicts = frames.get("segmentation_verdict")
    failed = () if verdicts is None else [frame for frame in shown if verdicts[frame] != "ok"]
    matches = match_scene(run, truth, scene, shown, failed=failed)
    tracks = None if "tracks" in absent else score_tracks(run.scene("cells", scene), matches, truth, scene)
    return score_cells(matches), tracks


def _true_aggregates(truth: Truth, scene: int, n_frames: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count and total area of the aggregates in the field that are large enough to be measured, per frame."""
    rows = truth.scene(truth.areas, scene)
    smallest = SMALLEST_AGGREGATE_PX * (truth.pixel_size_um * truth.reduction) ** 2
    chosen = rows["in_view"] & (rows["area_um2"] > smallest)
    index = rows["frame"][chosen].astype(np.int64)
    counts = np.bincount(index, minlength=n_frames).astype(np.float64)
    areas = np.bincount(index, weights=rows["area_um2"][chosen], minlength=n_frames)
    return counts, np.asarray(areas, dtype=np.float64)


def _relative(values: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(values - true, true, out=np.full(len(true), np.nan), where=true > 0))


def _auc(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    low, high = low[np.isfinite(low)], high[np.isfinite(high)]
    if not len(low) or not len(high):
        return NAN
    less = low[:, None] < high[None]
    equal = low[:, None] == high[None]
    return float(less.mean() + 0.5 * equal.mean())


def _worst(name: str) -> Callable[[NDArray[np.float64]], float]:
    if name in LARGER_IS_BETTER:
        return lambda values: float(values.min())
    return lambda values: float(values[np.argmax(np.abs(values))])
