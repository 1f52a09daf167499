"""What a report says of one analysis: scenes with their series, frames left out, and the figures beside them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phagostat.model.errors import StoreError
from phagostat.report.finished import OK, FinishedOutput, FrameFacts, SceneFacts
from phagostat.store.tables import table_digests

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """Something that is drawn against time.

    Parameters
    ----------
    name
        Its key in :attr:`SceneSummary.series`.
    title, unit
        As they stand above and beside its figure; an empty unit is a number of things.
    meaning
        What it is and how to read it, in plain words.
    """

    name: str
    title: str
    unit: str
    meaning: str


MEASURES: Final = (
    Measure(
        "eaten_area_um2",
        "Eaten area",
        "µm²",
        "Area of the aggregates that lay on the glass in the reference frame, minus what is left of them. What was "
        "only moved still counts as left; what was washed away is not counted. Values below zero are measurement noise "
        "and are left as they are.",
    ),
    Measure(
        "aggregate_area_um2",
        "Area of aggregates",
        "µm²",
        "Total area of all fluorescent aggregates in the frame, those inside cells included. It falls as aggregates "
        "are digested or carried out of view.",
    ),
    Measure(
        "aggregate_count",
        "Number of aggregates",
        "aggregates in a frame",
        "Separate bright spots in the frame. It can rise although something is eaten: a large aggregate that breaks "
        "into pieces counts as many.",
    ),
    Measure(
        "cell_count",
        "Number of cells",
        "cells in a frame",
        "Cells found in the phase-contrast picture. Cells that touch can count as one, and those cut by the border "
        "are counted too.",
    ),
    Measure(
        "cell_mean_area_um2",
        "Mean area of a cell",
        "µm²",
        "Area of all cells divided by their number, frame by frame.",
    ),
    Measure(
        "bleaching_factor",
        "Brightness of untouched aggregates",
        "share of the reference frame's",
        "1 means as bright as in the reference frame; 0.8 means 20 % darker. The dye fades in the light; the "
        "threshold follows this curve, so that fading is not taken for eating.",
    ),
)
"""What is drawn, in this order, as far as the tables have it."""

_FROM_FRAMES: Final = ("aggregate_count", "aggregate_area_um2", "cell_count", "bleaching_factor")
_FROM_EATEN: Final = ("eaten_area_um2", "eaten_area_isotonic_um2", "in_view_fraction")
FEWEST_FOR_SCATTER: Final = 10
"""Frames that a scatter is told from at least."""


@dataclass(frozen=True)
class LeftOut:
    """Neighbouring frames that are not used, for the same reason: ``first`` to ``last``, both included."""

    first: int
    last: int
    state: str
    reason: str

    @property
    def frames(self) -> str:
        """Their indices in words."""
        return f"{self.first}" if self.first == self.last else f"{self.first}–{self.last}"

    @property
    def count(self) -> int:
        """Their number."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class SceneSummary:
    """One scene of n frames.

    Parameters
    ----------
    index, name
        Which scene.
    row
        Its row of the table ``scenes``.
    frames
        What is known of each frame.
    times_min : (n,) float64 or None
        Minutes since the first frame; None where they are not known.
    shift_yx_px : (n, 2) float64
        Shift against the reference, native pixels; NaN where there is none.
    sharpness : (n,) float64
        NaN where it was not measured.
    reasons
        Why each frame is not used, in words; empty for one that is.
    speeds_um_per_min
        Of the kept tracks of cells; None without a table of tracks.
    series : of (n,) float64
        By the names of :data:`MEASURES`; NaN in frames that are not used. Beside ``eaten_area_um2`` there are
        ``eaten_area_isotonic_um2`` and ``in_view_fraction``.
    """

    index: int
    name: str
    row: Mapping[str, Any]
    frames: tuple[FrameFacts, ...]
    times_min: Floats | None
    shift_yx_px: Floats
    sharpness: Floats
    reasons: tuple[str, ...]
    speeds_um_per_min: Floats | None
    series: Mapping[str, Floats]

    @property
    def n_frames(self) -> int:
        """Number of frames, missing ones included."""
        return len(self.frames)

    @property
    def n_used(self) -> int:
        """Number of frames that are used."""
        return sum(frame.usable for frame in self.frames)

    @property
    def n_missing(self) -> int:
        """Number of frames that the source does not have."""
        return sum(frame.state == "missing" for frame in self.frames)

    @property
    def n_without_time(self) -> int:
        """Number of used frames whose time is not known."""
        return sum(frame.usable and not math.isfinite(frame.time_s) for frame in self.frames)

    @property
    def unused_fraction(self) -> float:
        """Share of the acquired frames that are not used; NaN without any."""
        acquired = self.n_frames - self.n_missing
        return (acquired - self.n_used) / acquired if acquired else math.nan

    @property
    def unused_percent(self) -> float:
        """Share of all frames that are not used, missing ones included; 0 without any."""
        return 100 * (self.n_frames - self.n_used) / self.n_frames if self.n_frames else 0.0

    @property
    def unseen_at_end_percent(self) -> float | None:
        """Share of the reference's aggregates, by area, that the last measured frame does not show; None if unknown."""
        last = self.ends("in_view_fraction")[1]
        return 100 * (1 - last) if math.isfinite(last) else None

    @property
    def accepted(self) -> bool:
        """Whether it keeps to the criteria of quality."""
        return bool(self.row.get("accepted"))

    @property
    def rejected(self) -> bool:
        """Whether it breaks them; a scene that cannot be judged, without an aggregate channel, does neither."""
        return self.row.get("accepted") is False

    @property
    def has_reference(self) -> bool:
        """Whether its frames could be compared with anything."""
        return self.row.get("verdict") == OK

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Runs of frames that are not used."""
        runs: list[LeftOut] = []
        for frame in self.frames:
            if frame.usable:
                continue
            if runs and runs[-1].last == frame.frame - 1 and runs[-1].state == frame.state:
                runs[-1] = LeftOut(runs[-1].first, frame.frame, frame.state, runs[-1].reason)
            else:
                runs.append(LeftOut(frame.frame, frame.frame, frame.state, self.reasons[frame.frame]))
        return tuple(runs)

    @property
    def speed_um_per_min(self) -> float:
        """Median speed of the kept tracks; NaN where there is none."""
        speeds = self.speeds_um_per_min
        known = np.empty(0) if speeds is None else speeds[np.isfinite(speeds)]
        return float(np.median(known)) if known.size else math.nan

    @property
    def eaten_scatter_um2(self) -> float:
        """Root mean square of what the eaten area of a frame is off its never decreasing fit; NaN of too few frames."""
        measured, fit = (self.series.get(name, np.empty(0)) for name in _FROM_EATEN[:2])
        off = measured - fit if fit.size == measured.size else np.empty(0)
        off = off[np.isfinite(off)]
        return float(np.sqrt(np.mean(off**2))) if off.size >= FEWEST_FOR_SCATTER else math.nan

    @property
    def eaten_until_min(self) -> float:
        """Time of the last frame whose eaten area is known, min; NaN where there is none or times are not known."""
        last = self.last_measured("eaten_area_um2")
        return float(self.times_min[last]) if last >= 0 and self.times_min is not None else math.nan

    @property
    def eaten_ends_before(self) -> bool:
        """Whether the eaten area is known, and not up to the last used frame."""
        used = [frame.frame for frame in self.frames if frame.usable]
        return 0 <= self.last_measured("eaten_area_um2") < (used[-1] if used else 0)

    @property
    def last_used_min(self) -> float:
        """When its last used frame was taken, min; NaN where there is none or times are not known."""
        used = [frame.frame for frame in self.frames if frame.usable]
        return float(self.times_min[used[-1]]) if used and self.times_min is not None else math.nan

    def ends(self, name: str) -> tuple[float, float]:
        """First and last measured value of a series; NaN where there is none."""
        values = self.series.get(name, np.empty(0))
        values = values[np.isfinite(values)]
        return (float(values[0]), float(values[-1])) if values.size else (math.nan, math.nan)

    def last_measured(self, name: str) -> int:
        """Index of the last frame that a series has a value of; -1 where there is none."""
        measured = np.flatnonzero(np.isfinite(self.series.get(name, np.empty(0))))
        return int(measured[-1]) if measured.size else -1

    def median(self, name: str) -> float:
        """Median over the used frames; NaN where there is none."""
        values = self.series.get(name, np.empty(0))
        values = values[np.isfinite(values)]
        return float(np.median(values)) if values.size else math.nan


@dataclass(frozen=True)
class RunSummary:
    """One analysis.

    Parameters
    ----------
    name
        Of the acquisition.
    roles
        What its channels show: ``cells``, ``aggregates`` or both.
    scenes
        In order.
    verdict_counts
        For ``cells_verdict``, ``aggregates_verdict`` and ``segmentation_verdict`` how often each is given.
    fate_counts
        Number of reference aggregates by fate; empty without that table.
    results_digest
        Of all results, as the seal states it.
    totals
        The row of the table ``acquisition``: sums over the scenes that count.
    """

    name: str
    roles: tuple[str, ...]
    scenes: tuple[SceneSummary, ...]
    verdict_counts: Mapping[str, Mapping[str, int]]
    fate_counts: Mapping[str, int]
    results_digest: str
    totals: Mapping[str, Any]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Those of :data:`MEASURES` that any scene has a value of."""
        return tuple(
            m for m in MEASURES if any(np.isfinite(s.series.get(m.name, np.empty(0))).any() for s in self.scenes)
        )

    @property
    def accepted(self) -> tuple[SceneSummary, ...]:
        """Scenes that keep to the criteria of quality."""
        return tuple(scene for scene in self.scenes if scene.accepted)

    @property
    def judged(self) -> bool:
        """Whether any scene could be judged by the criteria of quality: without an aggregate channel none can."""
        return any(scene.accepted or scene.rejected for scene in self.scenes)

    @property
    def averaged(self) -> tuple[SceneSummary, ...]:
        """Scenes that means are taken of: the accepted ones, or all where none is accepted."""
        return self.accepted or self.scenes

    @property
    def with_eaten(self) -> tuple[SceneSummary, ...]:
        """Those of :attr:`averaged` whose eaten area is known."""
        return tuple(scene for scene in self.averaged if scene.last_measured("eaten_area_um2") >= 0)

    @property
    def has_times(self) -> bool:
        """Whether the times of every scene are known."""
        return all(scene.times_min is not None for scene in self.scenes)

    @property
    def n_frames(self) -> int:
        """Number of frames of all scenes."""
        return sum(scene.n_frames for scene in self.scenes)

    @property
    def n_used(self) -> int:
        """Number of frames that are used."""
        return sum(scene.n_used for scene in self.scenes)

    @property
    def state_counts(self) -> Mapping[str, int]:
        """How many frames are left out for what reason, the most frequent first."""
        counts = Counter(frame.state for scene in self.scenes for frame in scene.frames if not frame.usable)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @property
    def duration_min(self) -> float:
        """Longest time between the first and the last frame of a scene, min; NaN where times are not known."""
        spans = [scene.times_min for scene in self.scenes if scene.times_min is not None]
        ends = [float(np.nanmax(times) - np.nanmin(times)) for times in spans if np.isfinite(times).any()]
        return max(ends, default=math.nan)

    @property
    def axis_span(self) -> tuple[float, float] | None:
        """First and last point of what series are drawn against, used frames or not; None without any."""
        ends = [axis[np.isfinite(axis)] for axis in map(self.axis_of, self.scenes)]
        known = np.concatenate(ends) if ends else np.empty(0)
        return (float(known.min()), float(known.max())) if known.size else None

    def axis_of(self, scene: SceneSummary) -> Floats:
        """What a scene's series are drawn against: minutes, or indices of frames where a time is not known."""
        if self.has_times and scene.times_min is not None:
            return scene.times_min
        return np.arange(scene.n_frames, dtype=np.float64)


def summarise(output: FinishedOutput) -> RunSummary:
    """Gather what a report says of a finished analysis.

    Raises
    ------
    StoreError
        If a table is not there, or is not what was sealed.
    """
    _check_tables(output)
    frames = _by_scene(output.table("frames"))
    rows = {row["scene"]: row for row in output.table("scenes").to_pylist()}
    eaten = _by_scene(output.table("eaten")) if output.has_table("eaten") else {}
    tracks = _by_scene(output.table("tracks")) if output.has_table("tracks") else None
    scenes = tuple(
        _scene(
            about,
            rows.get(about.index, {}),
            frames.get(about.index, {}),
            eaten=eaten.get(about.index),
            speeds=None if tracks is None else _kept_speeds(tracks.get(about.index, {})),
        )
        for about in output.scenes
    )
    kinds = ("cells_verdict", "aggregates_verdict", "segmentation_verdict")
    counts = {kind: Counter(str(v) for scene in frames.values() for v in scene.get(kind, ())) for kind in kinds}
    fates = Counter(output.table("fates").column("fate").to_pylist()) if output.has_table("fates") else Counter()
    return RunSummary(
        name=output.name,
        roles=tuple(sorted(output.manifest.acquisition.get("roles", {}))),
        scenes=scenes,
        verdict_counts={kind: dict(sorted(count.items())) for kind, count in counts.items()},
        fate_counts=dict(sorted((str(fate), n) for fate, n in fates.items())),
        results_digest=output.seal.log if output.seal is not None else "",
        totals=(output.table("acquisition").to_pylist() or [{}])[0] if output.has_table("acquisition") else {},
    )


def _check_tables(output: FinishedOutput) -> None:
    sealed = dict(output.seal.tables) if output.seal is not None else {}
    if table_digests(output.layout.tables, sealed) != sealed:
        raise StoreError(
            "the tables are not those that were sealed",
            where=output.layout.tables,
            found="another content, or a table that cannot be read",
            remedy="run again with the same settings: tables are written anew",
        )


def _by_scene(table: pa.Table) -> dict[int, dict[str, list[Any]]]:
    """Columns of each scene's rows, in their order."""
    columns = table.to_pydict()
    found: dict[int, dict[str, list[Any]]] = {}
    for i, scene in enumerate(columns["scene"]):
        mine = found.setdefault(scene, {name: [] for name in columns})
        for name, values in columns.items():
            mine[name].append(values[i])
    return found


def _floats(values: Sequence[Any], n: int) -> Floats:
    if len(values) != n:
        return np.full(n, np.nan)
    return np.array([math.nan if value is None else float(value) for value in values], np.float64)


def _kept_speeds(tracks: Mapping[str, list[Any]]) -> Floats:
    speeds = _floats(tracks.get("lag_speed_um_per_min", ()), len(tracks.get("kept", ())))
    return speeds[np.array(tracks.get("kept", ()), np.bool_)]


def _why(frame: FrameFacts, reason: str | None) -> str:
    """Why a frame is not used: of a verdict that stands alone, what it rests on."""
    if frame.usable:
        return ""
    parts = [reason, frame.reason if frame.reason != frame.state else None]
    return "; ".join(dict.fromkeys(part for part in parts if part)) or frame.reason


def _scene(
    about: SceneFacts,
    row: Mapping[str, Any],
    mine: Mapping[str, list[Any]],
    *,
    eaten: Mapping[str, list[Any]] | None,
    speeds: Floats | None,
) -> SceneSummary:
    facts, n = about.frames, len(about.frames)
    used = np.array([frame.usable for frame in facts], np.bool_)
    series = {column: np.where(used, _floats(mine.get(column, ()), n), np.nan) for column in _FROM_FRAMES}
    count, area = series["cell_count"], np.where(used, _floats(mine.get("cell_area_um2", ()), n), np.nan)
    series["cell_mean_area_um2"] = np.where(count > 0, area / np.where(count > 0, count, 1), np.nan)
    if eaten is not None:
        places = np.array(eaten["frame"], np.int64)
        for name in _FROM_EATEN:
            series[name] = np.full(n, np.nan)
            series[name][places] = _floats(eaten.get(name, ()), places.size)
    times = _floats(mine.get("time_s", ()), n) / 60
    return SceneSummary(
        index=about.index,
        name=about.name,
        row=row,
        frames=facts,
        times_min=times if np.isfinite(times).any() else None,
        shift_yx_px=np.array([f.shift_yx_px or (math.nan, math.nan) for f in facts], np.float64).reshape(n, 2),
        sharpness=_floats(mine.get("sharpness", ()), n),
        reasons=tuple(_why(f, r) for f, r in zip(facts, mine.get("reason") or [None] * n, strict=True)),
        speeds_um_per_min=speeds,
        series=series,
    )
