"""One method on one pair: what it said, what is true, and what it took."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from phagostat.bench.camera import Counts
from phagostat.kernels.translation import TranslationReference, estimate_translation

WRONG_PX = 1.0
"""An accepted shift that is further from the truth than this is called wrong."""

_NAN = float("nan")

Figures = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """What a method made of a pair.

    Parameters
    ----------
    method, case, index
        Which method met which pair; the same case and index is the same pair for all methods.
    true_yx_px
        True shift; NaN where the pair has none.
    found_yx_px, standard_error_yx_px
        What the method said; NaN where it refused.
    bound_yx_px
        The Cramer-Rao bound's standard error; NaN where it was not computed.
    reason
        Why the method refused, or None.
    crashed
        Whether it raised instead.
    wall_s, cpu_s
        Time of the call.
    evidence
        What the method said of how it came to its answer.
    """

    method: str
    case: str
    index: int
    side_px: int
    true_yx_px: tuple[float, float]
    found_yx_px: tuple[float, float]
    standard_error_yx_px: tuple[float, float]
    bound_yx_px: tuple[float, float]
    reason: str | None
    crashed: bool
    wall_s: float
    cpu_s: float
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the method gave a shift."""
        return self.reason is None

    @property
    def error_yx_px(self) -> tuple[float, float]:
        """Found minus true."""
        return self.found_yx_px[0] - self.true_yx_px[0], self.found_yx_px[1] - self.true_yx_px[1]


def attempt(
    reference: TranslationReference, moving: Counts, *, method: str, case: str, index: int, search_radius_px: float,
    true_yx_px: tuple[float, float] = (_NAN, _NAN), bound_yx_px: tuple[float, float] = (_NAN, _NAN),
) -> Trial:  # fmt: skip
    """Let a method estimate a shift; whatever it raises is recorded as a failure of that pair."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = error = (_NAN, _NAN)
    crashed, evidence = False, dict[str, float]()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a library mutters is neither a result nor a failure
            estimate = estimate_translation(reference, moving, method=method, search_radius_px=search_radius_px)
    except Exception as problem:  # a benchmark of 1,000 pairs does not end with one of them
        reason: str | None = f"{type(problem).__name__}: {problem}"
        crashed = True
    else:
        found, error, reason = estimate.shift_yx_px, estimate.standard_error_yx_px, estimate.reason
        evidence = estimate.evidence
        if reason is None and not np.isfinite(found).all():
            reason = "an estimate without a reason is not finite"
            crashed = True
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Trial(
        method, case, index, int(moving.shape[0]), true_yx_px, found, error, bound_yx_px, reason, crashed, wall, cpu,
        evidence,
    )  # fmt: skip


def of(trials: Iterable[Trial], **wanted: object) -> list[Trial]:
    """Give the trials with these attributes."""
    return [trial for trial in trials if all(getattr(trial, name) == value for name, value in wanted.items())]


def accuracy(trials: Sequence[Trial]) -> Figures:
    """How far accepted shifts are from the truth, per axis.

    Returns
    -------
    dict
        Numbers of pairs, refusals (``n_refused``; those that raised in ``n_crashed``) and wrong shifts
        (``n_wrong``: off by more than `WRONG_PX`); of accepted pairs per axis ``x`` and ``y`` the mean, sd, median and
        maximum of the absolute error, the mean signed error with its 95 % interval (Student's t) and the RMS, px; the
        same without wrong ones as ``right_x`` and ``right_y``.
    """
    accepted = [trial for trial in trials if trial.accepted]
    errors = np.array([trial.error_yx_px for trial in accepted]).reshape(-1, 2)
    longest = np.abs(errors).max(axis=1, initial=0.0) if len(errors) else np.zeros(0)
    figures: Figures = {
        "n": len(trials),
        "n_refused": sum(not trial.accepted for trial in trials),
        "n_crashed": sum(trial.crashed for trial in trials),
        "n_wrong": int(np.count_nonzero(longest > WRONG_PX)),
        "median_px": float(np.median(np.hypot(*errors.T))) if len(errors) else None,
        "max_px": float(np.hypot(*errors.T).max()) if len(errors) else None,
    }
    right = errors[longest <= WRONG_PX]
    for axis, name in enumerate("yx"):
        figures[name] = _axis(errors[:, axis]) if len(errors) else None
        figures[f"right_{name}"] = _axis(right[:, axis]) if len(right) else None
    return figures


def _axis(error: np.ndarray[Any, np.dtype[np.float64]]) -> Figures:
    absolute, n = np.abs(error), len(error)
    mean = float(error.mean())
    half = float(stats.t.ppf(0.975, n - 1) * error.std(ddof=1) / np.sqrt(n)) if n > 1 else _NAN
    return {
        "mean_abs_px": float(absolute.mean()),
        "sd_abs_px": float(absolute.std(ddof=1)) if n > 1 else None,
        "median_abs_px": float(np.median(absolute)),
        "max_abs_px": float(absolute.max()),
        "mean_px": mean,
        "mean_low_px": mean - half if n > 1 else None,
        "mean_high_px": mean + half if n > 1 else None,
        "rms_px": float(np.sqrt(np.mean(error**2))),
    }


def timing(trials: Sequence[Trial], baseline: Sequence[Trial] = ()) -> Figures:
    """Seconds per pair, and how many times faster than the baseline on the pairs that both have met.

    Returns
    -------
    dict
        Median, mean and 90 % quantile of the wall time, median of the processor time; ``faster``: the ratio of the
        medians over the pairs that both met, ``faster_pairs`` how many these are.
    """
    if not trials:
        return {}
    wall = np.array([trial.wall_s for trial in trials])
    figures: Figures = {
        "median_s": float(np.median(wall)),
        "mean_s": float(wall.mean()),
        "p90_s": float(np.quantile(wall, 0.9)),
        "cpu_median_s": float(np.median([trial.cpu_s for trial in trials])),
    }
    other = {(trial.case, trial.index): trial.wall_s for trial in baseline}
    both = [(trial.wall_s, other[key]) for trial in trials if (key := (trial.case, trial.index)) in other]
    if both:
        own, theirs = np.median(np.array(both), axis=0)
        figures |= {"faster": float(theirs / own), "faster_pairs": len(both)}
    return figures


def refusals(trials: Sequence[Trial], kinds: Sequence[str]) -> Figures:
    """How many pairs were accepted, kind by kind, and why the others were not.

    Returns
    -------
    dict
        ``n``, ``n_accepted``, ``n_crashed``; ``kinds``: ``n`` and ``n_accepted`` of each; ``reasons``: how often each
        was given, the most frequent first, digits as ``#``.
    """
    reasons: dict[str, int] = {}
    for trial in trials:
        if trial.reason is not None:
            words = "".join("#" if c.isdigit() else c for c in trial.reason)
            reasons[words] = reasons.get(words, 0) + 1
    by_kind = {
        kind: {"n": len(found), "n_accepted": sum(t.accepted for t in found)}
        for kind in kinds
        if (found := of(trials, case=kind))
    }
    return {
        "n": len(trials),
        "n_accepted": sum(trial.accepted for trial in trials),
        "n_crashed": sum(trial.crashed for trial in trials),
        "kinds": by_kind,
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])),
    }


def as_row(trial: Trial) -> Mapping[str, Any]:
    """Give a trial as JSON has it: no NaN."""

    def pair(values: tuple[float, float]) -> list[float | None]:
        return [float(v) if np.isfinite(v) else None for v in values]

    return {
        "method": trial.method,
        "case": trial.case,
        "index": trial.index,
        "side_px": trial.side_px,
        "true_yx_px": pair(trial.true_yx_px),
        "found_yx_px": pair(trial.found_yx_px),
        "standard_error_yx_px": pair(trial.standard_error_yx_px),
        "bound_yx_px": pair(trial.bound_yx_px),
        "reason": trial.reason,
        "crashed": trial.crashed,
        "wall_s": trial.wall_s,
        "cpu_s": trial.cpu_s,
        "evidence": dict(trial.evidence),
    }
