"""The ledger of a whole scene: how much was eaten over time, and what became of every reference aggregate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phagostat.engine.work import Present, Result, TaskContext, json_number
from phagostat.folds.eaten_area import eaten_area, followed
from phagostat.folds.fate_options import FateOptions
from phagostat.folds.fates import Fates, aggregate_fates
from phagostat.folds.ledger import LedgerOptions, LedgerState, fold, reference_aggregates
from phagostat.folds.ledger_record import LedgerRecord, ledger_record, unusable_record
from phagostat.store.commits import WHOLE

Ledger = tuple[LedgerState, Fates]


def sum_up(context: TaskContext, present: Present, frames_final: int) -> Result:
    """How much was eaten, for every used frame of a scene."""
    del present, frames_final
    ledger = context.once("ledger", lambda: _ledger(context))
    if isinstance(ledger, str):
        return Result("no_ledger", {"reason": ledger})
    state, fates = ledger
    found = eaten_area(state, fates)
    columns: dict[str, NDArray[Any]] = {
        "frame": found.frames.astype(np.int32),
        "reference_aggregates_left": found.count.astype(np.int32),
        "area_left_um2": found.total_area_um2,
        "eaten_area_um2": found.eaten_area_um2,
        "eaten_area_se_um2": found.eaten_area_se_um2,
        "eaten_area_isotonic_um2": found.eaten_area_isotonic_um2,
        "washed_away_area_um2": found.detached_area_um2,
        "eaten_fraction": found.eaten_fraction,
        "in_view_fraction": found.in_view_fraction,
        "appeared_count": found.appeared_count.astype(np.int32),
    }
    whole = float(fates.reference_area_um2[followed(state, fates)].sum())
    last = found.eaten_area_um2[-1] if len(found.frames) else None
    record = {
        "reference_aggregates": len(fates.fate),
        "reference_area_um2": json_number(whole),
        "frames_used": len(found.frames),
        "eaten_area_um2": json_number(None if last is None else float(last)),
    }
    return Result("ok", record, columns=columns)


def tell_fates(context: TaskContext, present: Present, frames_final: int) -> Result:
    """What became of every aggregate of a scene's reference frame."""
    del present, frames_final
    ledger = context.once("ledger", lambda: _ledger(context))
    if isinstance(ledger, str):
        return Result("no_ledger", {"reason": ledger})
    state, fates = ledger
    n = len(fates.fate)
    left = fates.area_um2[-1] if len(fates.area_um2) else np.full(n, np.nan)
    columns: dict[str, NDArray[Any]] = {
        "label": np.arange(1, n + 1, dtype=np.int32),
        "glass_y_um": state.reference.position_um[:, 0].copy(),
        "glass_x_um": state.reference.position_um[:, 1].copy(),
        "reference_area_um2": fates.reference_area_um2,
        "area_left_um2": np.asarray(left, np.float64),
        "fate": np.array([str(fate) for fate in fates.fate], dtype=np.str_),
        "changed_from_frame": fates.changed_from.astype(np.int32),
        "gone_from_frame": fates.gone_from.astype(np.int32),
        "washed_away_from_frame": fates.detached_from.astype(np.int32),
    }
    return Result("ok", columns=columns)


def _ledger(context: TaskContext) -> Ledger | str:
    """The ledger, or why there is none."""
    reference = context.needs["reference"][WHOLE]
    if reference.verdict != "ok":
        return "the scene has no reference frame"
    first = int(reference.record["frame"])
    if context.needs["territories"][first].verdict != "ok":
        return f"the aggregates of the reference frame {first} were not measured"
    records = [_record(context, frame) for frame in sorted(context.needs["usable"])]
    places = context.rows("territories", first)
    known, settings = context.job.known, context.job.settings.ledger
    own = next(record for record in records if record.frame == first)
    if not own.usable:
        return f"the reference frame {first} is not usable"
    state = fold(
        records,
        reference_aggregates(
            own,
            position_um=np.stack([places["glass_y_px"], places["glass_x_px"]], axis=1) * known.pixel_size_um,
            touches_border=places["touches_border"],
        ),
        LedgerOptions(
            gate_um=settings.gate_um,
            max_scale_error=settings.max_scale_error,
            patience_frames=settings.patience_frames,
        ),
    )
    return state, aggregate_fates(
        state,
        FateOptions(
            gone_fraction=settings.gone_fraction,
            whole_fraction=settings.whole_fraction,
            return_frames=settings.return_frames,
        ),
    )


def _record(context: TaskContext, frame: int) -> LedgerRecord:
    known = context.job.known
    times = context.job.scenes[context.scene_index].times_s
    time_s = float(frame) if times is None else times[frame]
    measured = context.needs["territories"][frame].verdict == "ok"
    if not (measured and context.needs["usable"][frame].verdict == "usable"):
        return unusable_record(frame, time_s)
    return ledger_record(
        frame,
        time_s,
        usable=True,
        places=context.rows("territories", frame),
        overlaps=context.rows("overlaps", frame),
        aggregates=context.rows("aggregates", frame),
        pixel_size_um=known.pixel_size_um,
        analysis_pixel_size_um=known.analysis_pixel_size_um,
    )
