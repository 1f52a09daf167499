"""The paper's test: independent shifts of one frame, all methods on the same pairs, exact and as published."""

from __future__ import annotations

import numpy as np

from phagostat.bench.camera import Counts, rounding_camera
from phagostat.bench.glass import Glass, Image
from phagostat.bench.opencv_warp import rounded_shift, warp_as_opencv4
from phagostat.bench.peak_memory import peak_memory
from phagostat.bench.plan import BASELINE, DEFAULT_METHOD, Plan, Report, search_radius_px
from phagostat.bench.shift_bound import ShiftInformation
from phagostat.bench.trials import Figures, Trial, accuracy, as_row, attempt, of, timing
from phagostat.kernels.translation import prepare_reference

SUBPIXEL, WHOLE, OPENCV4 = "sub-pixel", "whole pixels", "OpenCV 4 warp"
EXACT = (SUBPIXEL, WHOLE)
_WHOLE_EVERY = 5  # each fifth pair of the exact ones is shifted by whole pixels
_OPENCV_SHARE = 5  # so many times fewer pairs are warped as OpenCV 4 does


def run_shifts(plan: Plan, report: Report) -> Figures:
    """Run the paper's test.

    Returns
    -------
    dict
        For each method and way to make the moved frame the figures of :func:`accuracy` and :func:`timing`; the error
        that OpenCV 4 makes before any method runs; peak memory; all trials.
    """
    glass = plan.glass()
    camera = rounding_camera(glass)
    frame = camera.record(glass.frame())
    reference = prepare_reference(frame, search_radius_px=search_radius_px(plan.side_px))
    information = ShiftInformation.of(glass, camera)
    reach = int(plan.reach_px)
    larger = glass.frame(margin_px=reach)
    if DEFAULT_METHOD in plan.methods:  # plans of Fourier transforms are made once
        attempt(
            reference, frame, method=DEFAULT_METHOD, case="warm-up", index=0,
            search_radius_px=search_radius_px(plan.side_px),
        )  # fmt: skip
    cases = [("exact", i) for i in range(plan.n)] + [(OPENCV4, i) for i in range(-(-plan.n // _OPENCV_SHARE))]
    trials: list[Trial] = []
    asked = []
    for done, (kind, index) in enumerate(cases):
        report(done, len(cases), "pairs of the paper's test")
        random = plan.random("shifts", int(kind == OPENCV4), index)
        shift_y, shift_x = (float(v) for v in random.uniform(-plan.reach_px, plan.reach_px, 2))
        slow = plan.n_slow if kind != OPENCV4 else -(-plan.n_slow // _OPENCV_SHARE)
        methods = [method for method in plan.methods if index < plan.count(method, plan.n, slow)]
        if not methods:
            continue
        bound = (float("nan"),) * 2
        if kind == OPENCV4:
            case, moving = OPENCV4, warp_as_opencv4(frame, (shift_y, shift_x))
            asked.append((shift_y, shift_x))
        elif index % _WHOLE_EVERY == _WHOLE_EVERY - 1:
            shift_y, shift_x = float(np.rint(shift_y)), float(np.rint(shift_x))
            case, moving = WHOLE, camera.record(cropped(larger, (int(shift_y), int(shift_x)), reach))
        else:
            case, moving = SUBPIXEL, camera.record(glass.frame((shift_y, shift_x)))
        if case != OPENCV4:
            bound = tuple(np.sqrt(np.diag(information.bound((shift_y, shift_x)))).tolist())
        turn = index % len(methods)  # no method always runs in the wake of the same other one
        for method in methods[turn:] + methods[:turn]:
            trials.append(
                attempt(
                    reference, moving, method=method, case=case, index=index, true_yx_px=(shift_y, shift_x),
                    bound_yx_px=(bound[0], bound[1]), search_radius_px=search_radius_px(plan.side_px),
                )
            )  # fmt: skip
    report(len(cases), len(cases), "pairs of the paper's test")
    return {
        "field": describe(glass),
        "side_px": plan.side_px,
        "reach_px": plan.reach_px,
        "methods": {m: _figures(of(trials, method=m), of(trials, method=BASELINE)) for m in plan.methods},
        "rounding_of_opencv4": _rounding(asked),
        "peak_memory": {
            method: peak_memory(method, frame, moving=_typical(glass, plan)) for method in plan.methods
        },
        "trials": [as_row(trial) for trial in trials],
    }  # fmt: skip


def cropped(larger: Image, shift_yx_px: tuple[int, int], margin_px: int) -> Image:
    """Give the frame at a whole-pixel shift as a part of a larger one: nothing wraps, nothing is computed."""
    side = larger.shape[0] - 2 * margin_px
    top, left = (margin_px - shift for shift in shift_yx_px)
    return larger[top : top + side, left : left + side]


def describe(glass: Glass) -> str:
    """Say what a field is and how its frames come about."""
    upsampling = getattr(glass, "upsampling", 1.0)
    if upsampling != 1.0:
        return f"{glass.name}, upsampled {upsampling:g} times by its cosine series (the paper's frames are as large)"
    return f"{glass.name}, on its own grid"


def _typical(glass: Glass, plan: Plan) -> Counts:
    return rounding_camera(glass).record(glass.frame((0.31 * plan.reach_px, -0.17 * plan.reach_px)))


def _figures(trials: list[Trial], baseline: list[Trial]) -> Figures:
    figures: Figures = {}
    for name, cases in (("exact", EXACT), *((case, (case,)) for case in (*EXACT, OPENCV4))):
        chosen = [trial for trial in trials if trial.case in cases]
        if not chosen:
            continue
        same = [trial for trial in baseline if trial.case in cases]
        figures[name] = accuracy(chosen) | timing(chosen, same)
        bounds = np.array([trial.bound_yx_px for trial in chosen])
        if np.isfinite(bounds).all():
            figures[name]["bound_rms_yx_px"] = np.sqrt(np.mean(bounds**2, axis=0)).tolist()
    return figures


def _rounding(asked: list[tuple[float, float]]) -> Figures | None:
    """How far OpenCV 4's rounded shifts are from those asked for, whatever method comes after."""
    if not asked:
        return None
    error = np.abs(np.array([np.subtract(rounded_shift(shift), shift) for shift in asked]))
    spread = error.std(axis=0, ddof=1).tolist() if len(asked) > 1 else [None, None]
    return {"n": len(asked), "mean_abs_yx_px": error.mean(axis=0).tolist(), "sd_abs_yx_px": spread}
