"""Impossible pairs in phase contrast, for the method that goes by what is fixed on the glass there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import tifffile

from phagostat.bench.camera import Camera, Counts
from phagostat.bench.movie import LARGEST_SHIFT_PX, read_movie
from phagostat.bench.picture import PictureGlass
from phagostat.bench.plan import GLASS_METHOD, Plan, Report
from phagostat.bench.trials import Figures, Trial, as_row, attempt, refusals
from phagostat.kernels.translation import METHODS, prepare_reference

FIELDS = "phase-contrast"
"""Folder beside the movie with other fields of the same kind."""

_SHARE, _FEWEST = 100, 1
_BLUR_SIGMA_PX = 8.0

Random = np.random.Generator


def run_impossible_phase(plan: Plan, report: Report) -> Figures:
    """Claim of phase-contrast frames that they are shifts of a movie's first frame, which they are not.

    Returns
    -------
    dict
        The figures of :func:`phagostat.bench.trials.refusals`, and all trials; why not, if there is no movie or the
        method is not there.
    """
    if GLASS_METHOD not in METHODS or not {"tiles", GLASS_METHOD} & set(plan.methods):
        return {"absent": f"{GLASS_METHOD} was not asked for"}
    if plan.movie is None:
        return {"absent": "no movie was named"}
    frames = [_square(frame) for frame in read_movie(plan.movie)]
    side = frames[0].shape[0] - 2 * LARGEST_SHIFT_PX
    still = frames[0][LARGEST_SHIFT_PX:-LARGEST_SHIFT_PX, LARGEST_SHIFT_PX:-LARGEST_SHIFT_PX].copy()
    others = _other_fields(plan.movie, side)
    kinds = _kinds(plan, still, others)
    radius = 2.0 * LARGEST_SHIFT_PX
    reference = prepare_reference(still, search_radius_px=radius)
    repeats = max(_FEWEST, plan.n // _SHARE)
    trials: list[Trial] = []
    for number, (kind, make) in enumerate(kinds.items()):
        for repeat in range(repeats):
            report(len(trials), repeats * len(kinds), "impossible pairs in phase contrast")
            random = plan.random("impossible", 0, number, repeat)
            top, left = random.integers(0, 2 * LARGEST_SHIFT_PX + 1, 2)
            frame = frames[int(random.integers(len(frames)))][top : top + side, left : left + side]
            moving = make(frame, random)
            trials.append(
                attempt(
                    reference, moving, method=GLASS_METHOD, case=kind, index=repeat, search_radius_px=radius
                )
            )  # fmt: skip
    report(len(trials), len(trials), "impossible pairs in phase contrast")
    return {
        "method": GLASS_METHOD,
        "movie": plan.movie.name,
        "n_foreign_fields": len(others),
        **refusals(trials, list(kinds)),
        "trials": [as_row(trial) for trial in trials],
    }


def _square(frame: Counts) -> Counts:
    side = min(frame.shape)
    return frame[:side, :side].copy()


def _other_fields(movie: Path, side_px: int) -> list[Counts]:
    """Give fields of another culture that are as large, if some lie beside the movie."""
    folder = movie.parent / FIELDS
    paths = [path for path in sorted(folder.glob("*.tif")) if not path.stem.endswith("_labels")]
    fields = [np.asarray(tifffile.imread(path)) for path in paths]
    return [_square(field) for field in fields if field.ndim == 2 and min(field.shape) >= side_px]


def _kinds(plan: Plan, first: Counts, others: list[Counts]) -> dict[str, Callable[[Counts, Random], Counts]]:
    side = first.shape[0]
    white = float(np.iinfo(first.dtype).max)
    camera = Camera(white)
    level = float(np.median(first))
    spread = float(np.std(first.astype(np.float64)))

    def turned(frame: Counts, degrees: float) -> Counts:
        matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
        return np.asarray(cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_CUBIC, borderValue=level))

    def noise(_: Counts, random: Random) -> Counts:
        return camera.record(np.float32(level) + np.float32(spread) * random.standard_normal((side, side), np.float32))

    def foreign(_: Counts, random: Random) -> Counts:
        field = others[int(random.integers(len(others)))][:side, :side]
        return field[::-1].copy() if random.integers(2) else field.copy()

    kinds: dict[str, Callable[[Counts, Random], Counts]] = {
        "black": lambda _, __: np.zeros_like(first),
        "constant": lambda _, __: camera.record(np.full((side, side), level, np.float32)),
        "pure noise": noise,
        "turned by 10 degrees": lambda frame, _: turned(frame, 10.0),
        "turned by 90 degrees": lambda frame, _: frame.T[::-1].copy(),
        "turned by 180 degrees": lambda frame, _: frame[::-1, ::-1].copy(),
        "mirrored": lambda frame, random: frame[:, ::-1].copy() if random.integers(2) else frame[::-1].copy(),
        "blur, sigma 8 px": lambda frame, _: np.asarray(cv2.GaussianBlur(frame, (0, 0), _BLUR_SIGMA_PX)),
    }
    if others:
        kinds["foreign field"] = foreign
    if plan.reference is not None:
        aggregates = PictureGlass.read(plan.reference, -(-side // 4) * 4).frame()[:side, :side]
        kinds["other channel"] = lambda _, __: camera.record(aggregates * np.float32(white / 255))
    return kinds
