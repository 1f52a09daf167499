"""The paper's test: independent shifts of one frame, all methods on the same pairs, exact and as published."""

from __future__ import annotations

import numpy as np

from phagostat.bench.border import blackened, cropped
from phagostat.bench.camera import Counts, rounding_camera
from phagostat.bench.glass import Glass
from phagostat.bench.opencv_warp import rounded_shift, warp_as_opencv4
from phagostat.bench.peak_memory import peak_memory
from phagostat.bench.plan import BASELINE, DEFAULT_METHOD, Plan, Report, search_radius_px
from phagostat.bench.shift_bound import ShiftInformation
from phagostat.bench.trials import Figures, Trial, accuracy, as_row, attempt, of, timing
from phagostat.kernels.translation import prepare_reference

SUBPIXEL, WHOLE, NEW, OPENCV4 = "sub-pixel", "whole pixels", "new content", "OpenCV 4 warp"
EXACT = (SUBPIXEL, WHOLE)
OTHER = (NEW, OPENCV4)
_WHOLE_EVERY = 5  # each fifth pair of the exact ones is shifted by whole pixels
_OTHER_SHARE, _OTHER_SLOW_SHARE = 10, 10  # so many times fewer pairs with other borders and warps


def run_shifts(plan: Plan, report: Report) -> Figures:
    """Run the paper's test.

    Returns
    -------
    dict
        For each method and way to make the moved frame the figures of :func:`accuracy` and :func:`timing`; the error
        that OpenCV 4 makes before any method runs; peak memory; all trials.

    Notes
    -----
    Frames of the exact test are black where the reference shows nothing, as in the paper, whose frames were warped;
    other pairs have new content there, or are warped as the paper's were, with shifts rounded to 1/32 px.
    """
    glass = plan.glass()
    camera = rounding_camera(glass)
    frame = camera.record(glass.frame())
    radius = search_radius_px(plan.side_px)
    reference = prepare_reference(frame, search_radius_px=radius)
    information = ShiftInformation.of(glass, camera)
    reach = int(plan.reach_px)
    larger = glass.frame(margin_px=reach)
    if DEFAULT_METHOD in plan.methods:  # plans of Fourier transforms are made once
        attempt(reference, frame, method=DEFAULT_METHOD, case="warm-up", index=0, search_radius_px=radius)
    n_other, n_slow_other = -(-plan.n // _OTHER_SHARE), -(-plan.n_slow // _OTHER_SLOW_SHARE)
    cases = [(WHOLE if i % _WHOLE_EVERY == _WHOLE_EVERY - 1 else SUBPIXEL, i) for i in range(plan.n)]
    cases += [(case, i) for case in OTHER for i in range(n_other)]
    trials: list[Trial] = []
    asked: list[tuple[float, float]] = []
    for done, (case, index) in enumerate(cases):
        report(done, len(cases), "pairs of the paper's test")
        stream = 0 if case in EXACT else 1 + OTHER.index(case)
        shift_y, shift_x = plan.random("shifts", stream, index).uniform(-reach, reach, 2).tolist()
        n_slow = plan.n_slow if case in EXACT else n_slow_other
        methods = [method for method in plan.methods if index < plan.count(method, plan.n, n_slow)]
        if case == OPENCV4:
            asked.append((shift_y, shift_x))
        if not methods:
            continue
        bound = (float("nan"),) * 2
        if case == OPENCV4:
            moving = warp_as_opencv4(frame, (shift_y, shift_x))
        elif case == WHOLE:
            shift_y, shift_x = round(shift_y), round(shift_x)
            moving = blackened(camera.record(cropped(larger, (shift_y, shift_x), reach)), (shift_y, shift_x))
        else:
            moving = camera.record(glass.frame((shift_y, shift_x)))
            if case == SUBPIXEL:
                moving = blackened(moving, (shift_y, shift_x))
        if case in (SUBPIXEL, NEW):  # rounding to whole counts is the same in both frames after a whole-pixel shift
            bound = tuple(np.sqrt(np.diag(information.bound((shift_y, shift_x)))).tolist())
        turn = index % len(methods)  # no method always runs in the wake of the same other one
        trials += [
            attempt(
                reference, moving, method=method, case=case, index=index, true_yx_px=(shift_y, shift_x),
                bound_yx_px=(bound[0], bound[1]), search_radius_px=radius,
            )
            for method in methods[turn:] + methods[:turn]
        ]  # fmt: skip
    report(len(cases), len(cases), "pairs of the paper's test")
    return {
        "field": describe(glass),
        "side_px": plan.side_px,
        "reach_px": reach,
        "methods": {m: _figures(of(trials, method=m), of(trials, method=BASELINE)) for m in plan.methods},
        "rounding_of_opencv4": _rounding(asked),
        "peak_memory": {method: peak_memory(method, frame, moving=_typical(glass, plan)) for method in plan.methods},
        "trials": [as_row(trial) for trial in trials],
    }


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
    for name, cases in (("exact", EXACT), *((case, (case,)) for case in (*EXACT, *OTHER))):
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
