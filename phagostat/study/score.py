"""How far a run's numbers are from a movie's truth.

Shifts are compared relative to the run's own reference frame. A frame counts as sharp if its true defocus is at most
0.5 px of the analysis grid and as blurred from 2 px; what lies between is reported by nobody and scored by nobody.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from phagostat.model.errors import StoreError
from phagostat.simulate.truth import Table, Truth, TruthError

SHARP_DEFOCUS_PX = 0.5
BLURRED_DEFOCUS_PX = 2.0
SHIFT_TOLERANCE_PX = 0.05
SMALLEST_AGGREGATE_PX = 10  # analysis px, as the published code drops smaller ones

_NAN = float("nan")
_COLUMNS = (
    "scene", "frame", "verdict", "is_reference", "shift_y_px", "shift_x_px", "sharpness", "bleaching_factor",
    "aggregate_count", "aggregate_area_um2",
)  # fmt: skip
_AGGREGATES_CHANNEL = "0"
# For which figures a larger value is the better one: their worst scene is the smallest.
_LARGER_IS_BETTER = frozenset({"sharpness_auc", "n_frames", "n_sharp_frames", "n_compared_frames"})


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


@dataclass(frozen=True)
class Score:
    """Figures of a run: scene by scene, their mean, and the worst scene of each."""

    scenes: tuple[SceneScore, ...]
    mean: dict[str, float]
    worst: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Give everything as what JSON can hold: what is not a number is None."""
        return {
            "scenes": [_plain(asdict(scene)) for scene in self.scenes],
            "mean": _plain(self.mean),
            "worst": _plain(self.worst),
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


def read_frames_table(output: str | Path) -> Table:
    """Read a run's per-frame table, ``tables/frames.parquet``.

    Parameters
    ----------
    output
        The run's output folder.

    Raises
    ------
    StoreError
        If it is absent or lacks a column.
    """
    path = Path(output) / "tables" / "frames.parquet"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError("the run's frames table cannot be read", where=path, remedy="is the run finished?") from error
    lacking = [name for name in _COLUMNS if name not in table.column_names]
    if lacking:
        raise StoreError("the run's frames table lacks columns", where=path, found=", ".join(lacking))
    return {name: table.column(name).to_numpy() for name in table.column_names}


def score(frames: Table, truth: Truth) -> Score:
    """Compare a run with a truth.

    Parameters
    ----------
    frames
        The run's per-frame table (see :func:`read_frames_table`).
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
    found = sorted(set(frames["scene"].tolist()))
    if found != list(range(truth.n_scenes)):
        raise TruthError(
            f"the truth has {truth.n_scenes} scenes, the run others", where=truth.path, found=found,
            remedy="compare a run with the truth of its own movie",
        )  # fmt: skip
    scenes = tuple(_score_scene(frames, truth, scene) for scene in found)
    names = [item.name for item in fields(SceneScore) if item.name != "scene"]
    return Score(
        scenes,
        {name: _over(scenes, name, lambda values: float(np.mean(values))) for name in names},
        {name: _over(scenes, name, _worst(name)) for name in names},
    )


def _score_scene(frames: Table, truth: Truth, scene: int) -> SceneScore:
    true = truth.scene(truth.frames, scene)
    order = np.argsort(true["frame"])
    true = {name: column[order] for name, column in true.items()}
    n = len(order)
    mine = frames["scene"] == scene
    number = frames["frame"][mine].astype(np.int64)
    if len(number) != n or set(number.tolist()) != set(true["frame"].tolist()):
        raise TruthError(f"scene {scene} has {n} frames, the run others", where=truth.path, found=len(number))
    run = {name: frames[name][mine][np.argsort(number)] for name in _COLUMNS}
    exists = np.array([_AGGREGATES_CHANNEL not in channels.split() for channels in true["missing_channels"]])
    normal = exists & (true["state"] == "normal")
    sharp = normal & (true["defocus_sigma_px"] <= SHARP_DEFOCUS_PX)
    blurred = normal & (true["defocus_sigma_px"] >= BLURRED_DEFOCUS_PX)
    n_sharp = int(sharp.sum())

    shift = np.stack([_floats(run[f"shift_{axis}_px"]) for axis in "yx"], axis=1)
    true_shift = np.stack([true[f"shift_{axis}_px"] for axis in "yx"], axis=1)
    reference = np.flatnonzero(run["is_reference"].astype(bool))
    error = np.full((n, 2), np.nan)
    fading = np.full(n, np.nan)
    if len(reference) == 1:
        error = shift - (true_shift - true_shift[reference[0]])
        light = true["bleaching_factor"] * true["illumination_aggregates"]
        fading = np.abs(_floats(run["bleaching_factor"]) - light / light[reference[0]])
    length = np.hypot(error[:, 0], error[:, 1])
    compared = sharp & np.isfinite(length)
    over = sharp & ~(length <= SHIFT_TOLERANCE_PX)
    counts, areas = _true_aggregates(truth, scene, n)
    count_error = _relative(_floats(run["aggregate_count"]), counts)[compared]
    area_error = _relative(_floats(run["aggregate_area_um2"]), areas)[compared]
    accepted = (run["verdict"] == "ok") & ~normal
    return SceneScore(
        scene=scene, n_frames=n, n_sharp_frames=n_sharp, n_compared_frames=int(compared.sum()),
        shift_error_max_px=_of(np.max, length[compared]), shift_error_mean_px=_of(np.mean, length[compared]),
        shift_error_max_axis_px=_of(np.max, np.abs(error[compared])),
        share_over_tolerance=float(over.sum()) / n_sharp if n_sharp else _NAN,
        unregistered_share=float((sharp & ~compared).sum()) / n_sharp if n_sharp else _NAN,
        unusable_accepted=int(accepted.sum()), bleaching_error_mean=_of(np.mean, fading[sharp]),
        bleaching_error_max=_of(np.max, fading[sharp]), aggregate_count_error=_of(np.mean, count_error),
        aggregate_area_error=_of(np.mean, area_error), aggregate_area_error_max=_of(np.max, np.abs(area_error)),
        sharpness_auc=_auc(_floats(run["sharpness"])[blurred], _floats(run["sharpness"])[sharp]),
    )  # fmt: skip


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


def _floats(column: NDArray[Any]) -> NDArray[np.float64]:
    return np.array([_NAN if value is None else float(value) for value in column.tolist()])


def _of(function: Callable[[Any], Any], values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(function(known)) if known.size else _NAN


def _auc(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    low, high = low[np.isfinite(low)], high[np.isfinite(high)]
    if not len(low) or not len(high):
        return _NAN
    less = low[:, None] < high[None]
    equal = low[:, None] == high[None]
    return float(less.mean() + 0.5 * equal.mean())


def _over(scenes: tuple[SceneScore, ...], name: str, function: Callable[[NDArray[np.float64]], float]) -> float:
    values = np.array([float(getattr(scene, name)) for scene in scenes])
    known = values[np.isfinite(values)]
    return function(known) if known.size else _NAN


def _worst(name: str) -> Callable[[NDArray[np.float64]], float]:
    if name in _LARGER_IS_BETTER:
        return lambda values: float(values.min())
    return lambda values: float(values[np.argmax(np.abs(values))])


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
