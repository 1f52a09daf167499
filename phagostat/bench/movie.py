"""A real movie whose stage hardly moves: each frame given a known shift has to come back to where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from phagostat.bench.camera import Counts
from phagostat.bench.plan import DEFAULT_METHOD, GLASS_METHOD, Plan, Report
from phagostat.bench.trials import Figures, Trial, accuracy, as_row, attempt, of
from phagostat.kernels.translation import METHODS, prepare_reference
from phagostat.model.errors import SourceError

LARGEST_SHIFT_PX = 40
_LEAST_SIDE_PX = 64 + 2 * LARGEST_SHIFT_PX
_SHARE = 100
_REMEDY = "name another folder with --movie, or the word simulated for none"
_SLOW_SHARE = 20


def read_movie(folder: Path) -> list[Counts]:
    """Read the TIFF frames of a folder in the order of their names.

    Raises
    ------
    SourceError
        If there are fewer than two, or one cannot be read or is of another shape or kind.
    """
    paths = sorted(folder.glob("*.tif")) + sorted(folder.glob("*.tiff"))
    if len(paths) < 2:
        raise SourceError(
            "a movie has at least two TIFF frames", where=folder, found=f"{len(paths)} files",
            remedy=_REMEDY,
        )  # fmt: skip
    frames: list[Counts] = []
    for path in paths:
        try:
            frame = np.asarray(tifffile.imread(path))
        except (OSError, ValueError) as error:
            raise SourceError("a frame cannot be read", where=path, found=str(error), remedy=_REMEDY) from error
        if frame.ndim != 2 or frame.dtype not in (np.uint8, np.uint16) or min(frame.shape) < _LEAST_SIDE_PX:
            raise SourceError(
                f"a frame is (y, x), uint8 or uint16, at least {_LEAST_SIDE_PX} px high and wide", where=path,
                found=f"{frame.shape} {frame.dtype}", remedy=_REMEDY,
            )  # fmt: skip
        if frames and frame.shape != frames[0].shape:
            raise SourceError("frames of a movie have one shape", where=path, found=frame.shape, remedy=_REMEDY)
        frames.append(frame)
    return frames


def window(frame: Counts, shift_yx_px: tuple[int, int]) -> Counts:
    """Give the part of a frame that shows its content shifted: cropped, not wrapped."""
    top, left = (LARGEST_SHIFT_PX - shift for shift in shift_yx_px)
    height, width = (length - 2 * LARGEST_SHIFT_PX for length in frame.shape)
    return frame[top : top + height, left : left + width].copy()


def run_movie(plan: Plan, report: Report) -> Figures:
    """Register windows of a movie's frames at known whole-pixel shifts against its first frame.

    Returns
    -------
    dict
        For each method the figures of :func:`accuracy`, where the error is what is left after subtracting the shift:
        the stage's own drift and the method's error; rows per frame; all trials.

    Raises
    ------
    SourceError
        If the movie cannot be read.
    """
    if plan.movie is None:
        return {"absent": "no movie was named"}
    frames = read_movie(plan.movie)
    reference = prepare_reference(window(frames[0], (0, 0)), search_radius_px=2.0 * LARGEST_SHIFT_PX)
    repeats = min(10, 1 + plan.n // _SHARE)
    methods = plan.methods
    if DEFAULT_METHOD in methods and GLASS_METHOD in METHODS and GLASS_METHOD not in methods:
        methods = (GLASS_METHOD, *methods)
    # from the last one on: a few pairs of a slow method are then those in which cells have moved most
    places = [(repeat, number) for repeat in range(repeats) for number in reversed(range(len(frames)))]
    trials: list[Trial] = []
    for done, (repeat, number) in enumerate(places):
        report(done, len(places), "frames of the movie")
        random = plan.random("movie", repeat, number)
        shift_y, shift_x = (int(v) for v in random.integers(-LARGEST_SHIFT_PX, LARGEST_SHIFT_PX + 1, 2))
        moving = window(frames[number], (shift_y, shift_x))
        trials += [
            attempt(
                reference, moving, method=method, case=str(number), index=done,
                search_radius_px=2.0 * LARGEST_SHIFT_PX, true_yx_px=(shift_y, shift_x),
            )
            for method in methods
            if done < plan.count(method, len(places), min(-(-plan.n_slow // _SLOW_SHARE), len(frames)))
        ]  # fmt: skip
    report(len(places), len(places), "frames of the movie")
    return {
        "folder": plan.movie.name,
        "n_frames": len(frames),
        "largest_shift_px": LARGEST_SHIFT_PX,
        "methods": {method: accuracy(of(trials, method=method)) for method in methods},
        "frames": [
            {"frame": number, "method": method} | accuracy(found)
            for method in methods
            for number in range(len(frames))
            if (found := of(trials, method=method, case=str(number)))
        ],
        "trials": [as_row(trial) for trial in trials],
    }
