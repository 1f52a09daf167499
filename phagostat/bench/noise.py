"""How close to the limit: independent noise in both frames against the Cramer-Rao bound, at several levels of light."""

from __future__ import annotations

import numpy as np

from phagostat.bench.camera import Camera
from phagostat.bench.plan import DEFAULT_METHOD, Plan, Report, search_radius_px
from phagostat.bench.shift_bound import ShiftInformation
from phagostat.bench.spots import SpotGlass
from phagostat.bench.trials import Figures, Trial, accuracy, as_row, attempt, of
from phagostat.kernels.translation import prepare_reference

COUNTS_PER_ELECTRON = 2.6
READ_NOISE_COUNTS = 5.0
OFFSET_COUNTS = 100.0
_WHITE = 65535.0
_SHARE, _FEWEST = 20, 20  # so many times fewer pairs than the paper's test, and no fewer than


def run_noise(plan: Plan, report: Report) -> Figures:
    """Register frames that both have shot and read noise of their own, drawn anew for every pair.

    Returns
    -------
    dict
        For each level of light and method: RMS error per axis, RMS of the bound per axis, their ratio, and the
        reported standard error against the true one; all trials.

    Notes
    -----
    The field is simulated on the grid of the frame and not upsampled: an upsampled picture holds no information at
    high frequencies, which would make its bound look easier to reach. The reference is prepared anew for every pair,
    since its noise is half of the problem. Methods to compare with take part if they are asked for without the
    default method.
    """
    n = min(plan.n, max(_FEWEST, plan.n // _SHARE))
    glass = SpotGlass.draw(side_px=plan.side_px, seed=plan.seed)
    radius = search_radius_px(plan.side_px)
    tested = (DEFAULT_METHOD,) if DEFAULT_METHOD in plan.methods else plan.methods
    total = n * len(plan.light_levels)
    trials: list[Trial] = []
    for level, light in enumerate(plan.light_levels):
        dimmed = glass.dimmed(light)
        camera = Camera(_WHITE, COUNTS_PER_ELECTRON, READ_NOISE_COUNTS, OFFSET_COUNTS)
        information = ShiftInformation.of(dimmed, camera)
        clean = dimmed.frame()
        for index in range(n):
            report(level * n + index, total, "pairs with noise")
            random = plan.random("noise", level, index)
            shift_y, shift_x = (float(v) for v in random.uniform(-plan.reach_px, plan.reach_px, 2))
            methods = [m for m in tested if index < plan.count(m, n, plan.n_slow)]
            if not methods:
                break
            bound_y, bound_x = np.sqrt(np.diag(information.bound((shift_y, shift_x)))).tolist()
            reference = prepare_reference(camera.record(clean, random), search_radius_px=radius)
            moving = camera.record(dimmed.frame((shift_y, shift_x)), random)
            trials += [
                attempt(
                    reference, moving, method=method, case=f"light {light:g}", index=index, search_radius_px=radius,
                    true_yx_px=(shift_y, shift_x), bound_yx_px=(bound_y, bound_x),
                )
                for method in methods
            ]  # fmt: skip
    report(total, total, "pairs with noise")
    return {
        "field": f"{glass.name}, {glass.n_aggregates} spots, rendered at {plan.side_px} px",
        "counts_per_electron": COUNTS_PER_ELECTRON,
        "read_noise_counts": READ_NOISE_COUNTS,
        "levels": [
            {
                "light": light,
                "methods": {method: limits(of(trials, method=method, case=f"light {light:g}")) for method in tested},
            }
            for light in plan.light_levels
        ],
        "trials": [as_row(trial) for trial in trials],
    }


def limits(trials: list[Trial]) -> Figures:
    """Compare errors with the bound and with the standard errors that were reported.

    Returns
    -------
    dict
        The figures of :func:`accuracy`; ``bound_rms_yx_px``; ``error_to_bound_yx``: RMS of error over bound, pair by
        pair; ``reported_to_true``: RMS of the reported standard error over the RMS error, both axes together.
    """
    figures = accuracy(trials)
    accepted = [trial for trial in trials if trial.accepted]
    if not accepted:
        return figures
    error = np.array([trial.error_yx_px for trial in accepted])
    bound = np.array([trial.bound_yx_px for trial in accepted])
    reported = np.array([trial.standard_error_yx_px for trial in accepted])
    figures["bound_rms_yx_px"] = np.sqrt(np.mean(bound**2, axis=0)).tolist()
    figures["error_to_bound_yx"] = np.sqrt(np.mean((error / bound) ** 2, axis=0)).tolist()
    if np.isfinite(reported).all():
        figures["reported_to_true"] = float(np.sqrt(np.mean(reported**2) / np.mean(error**2)))
        figures["reported_median_px"] = float(np.median(reported))
    return figures
