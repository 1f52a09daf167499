"""What the reader of a report has to know before the figures, and what was left out of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from phagostat.model.acquisition import TimesOrigin
from phagostat.report.finished import OK, FinishedOutput
from phagostat.report.summary import RunSummary, SceneSummary

Weight = Literal["serious", "caution", "note"]

MANY_UNUSED: Final = 0.1
"""Share of unused frames that a scene is named for, although no criterion forbids it."""
MOST_UNUSED: Final = 0.5
"""Share of unused frames from which on a scene hardly says anything."""
FOLLOWED: Final = 0.9
"""Share of the recording by which a scene's last used frame has to come, or it ends early."""
NAMED: Final = 6
"""Scenes that are named one by one; of more, the rest is counted."""
FADED: Final = 0.5
"""Brightness left at the end that is worth a word."""


@dataclass(frozen=True)
class Finding:
    """Something to know first: how much it weighs, what it is, what it means for the figures."""

    weight: Weight
    title: str
    text: str


@dataclass(frozen=True)
class Omission:
    """Something that is not in the figures: what, how much of it, and why."""

    what: str
    amount: str
    why: str


def findings(output: FinishedOutput, run: RunSummary) -> list[Finding]:
    """What to know before the figures, the weightiest first."""
    found = [*_of_scenes(run), *_of_frames(run), *_of_measures(output, run), *_of_metadata(output, run)]
    order = {"serious": 0, "caution": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.weight])


def omissions(output: FinishedOutput, run: RunSummary) -> list[Omission]:
    """What is not in the figures, and why."""
    return [*_left_out_scenes(run), *_left_out_frames(run), *_left_out_objects(run), *_left_out_channels(output)]


def _named(scenes: Sequence[SceneSummary]) -> str:
    names = [scene.name for scene in scenes[:NAMED]]
    more = len(scenes) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _of(n: int, total: int, what: str) -> str:
    if total == 1:
        return f"The {what}"
    return f"All {total} {what}s" if n == total else f"{n} of {total} {what}s"


def _has(n: int) -> str:
    return "has" if n == 1 else "have"


def _of_scenes(run: RunSummary) -> Iterator[Finding]:
    total = len(run.scenes)
    blind = [scene for scene in run.scenes if not scene.has_reference]
    if blind:
        yield Finding(
            "serious",
            f"None of the {total} scenes has a reference frame"
            if len(blind) == total > 1
            else f"{_of(len(blind), total, 'scene')} {_has(len(blind))} no reference frame",
            f"Nothing could be measured in: {_named(blind)}. No frame was good enough for the others to be compared "
            f"with. {_reasons(blind)}",
        )
    rejected = [scene for scene in run.scenes if scene.has_reference and scene.rejected]
    if rejected:
        said = "; ".join(f"{s.name}: {s.row.get('quality_reason') or 'no reason recorded'}" for s in rejected[:NAMED])
        more = f"; and {len(rejected) - NAMED} more" if len(rejected) > NAMED else ""
        them = ("It is drawn dashed and is", "They are drawn dashed and are")[len(rejected) > 1]
        kept = f"{them} left out of the means." if run.accepted else (
            "Read its figures with care." if total == 1 else
            "Since no scene keeps to the criteria, the means below are over all scenes: read them with care."
        )  # fmt: skip
        verb = "is" if total == 1 or len(rejected) == 1 else "are"
        title = f"{_of(len(rejected), total, 'scene')} {verb} rejected by quality"
        yield Finding("serious", title, f"{said}{more}. {kept}")
    odd = [scene for scene in run.scenes if scene.row.get("threshold_deviates")]
    if odd:
        parts = "; ".join(
            f"{s.name}: {_counts(s.row.get('scene_threshold_counts'))} counts" for s in odd[:NAMED]
        ) + (f"; and {len(odd) - NAMED} more" if len(odd) > NAMED else "")  # fmt: skip
        yield Finding(
            "caution",
            "The scenes differ in brightness"
            if len(odd) == total
            else f"{_of(len(odd), total, 'scene')} {_has(len(odd))} another brightness than the rest",
            "All scenes are measured with one threshold, "
            f"{_counts(odd[0].row.get('threshold_counts'))} counts above background. On their own these would have got "
            f"one that is more than 25 % off the median of all scenes ({parts}). Look whether their aggregates are "
            "found as you would find them: exposure, focus or loading may differ.",
        )


def _of_frames(run: RunSummary) -> Iterator[Finding]:
    if run.n_frames and not run.n_used:
        yield Finding("serious", "No frame is usable", "There are no measurements in this run; below is why.")
        return
    many = sorted(
        (s for s in run.scenes if s.has_reference and s.unused_fraction > MANY_UNUSED),
        key=lambda scene: -scene.unused_fraction,
    )
    if many:
        shares = "; ".join(f"{s.name}: {100 * s.unused_fraction:.0f} %" for s in many[:NAMED])
        more = f"; and {len(many) - NAMED} more" if len(many) > NAMED else ""
        yield Finding(
            "serious" if any(scene.unused_fraction > MOST_UNUSED for scene in many) else "caution",
            "Many frames are not used",
            f"Share of the acquired frames that nothing is measured in: {shares}{more}. Curves have gaps there.",
        )
    yield from _early_ends(run)
    missing = sum(scene.n_missing for scene in run.scenes)
    if missing:
        yield Finding(
            "caution",
            f"{missing} of {run.n_frames} frames {'is' if missing == 1 else 'are'} missing",
            "The file promises them and does not hold them, as after an interrupted acquisition.",
        )


def _early_ends(run: RunSummary) -> Iterator[Finding]:
    """Scenes that means are taken of and that are not followed to the end: their last values are of earlier times."""
    ends = [(scene.last_used_min, scene) for scene in run.averaged if math.isfinite(scene.last_used_min)]
    early = sorted(((end, s) for end, s in ends if end < FOLLOWED * run.duration_min), key=lambda pair: pair[0])
    if not run.has_times or not early:
        return
    said = ", ".join(f"{scene.name}: {end:.0f} min" for end, scene in early[:NAMED])
    more = f" and {len(early) - NAMED} more" if len(early) > NAMED else ""
    yield Finding(
        "caution",
        f"{_of(len(early), len(run.averaged), 'scene')} {'ends' if len(early) == 1 else 'end'} early",
        f"The last frame that is used was taken long before the end of the recording, {run.duration_min:.0f} min "
        f"({said}{more}). “Last” values are of that time"
        + ("." if len(run.scenes) == 1 else ": compare scenes at a time that all of them reach."),
    )


def _of_measures(output: FinishedOutput, run: RunSummary) -> Iterator[Finding]:
    undetermined = run.verdict_counts["aggregates_verdict"].get("bleaching_undetermined", 0)
    if undetermined:
        yield Finding(
            "caution",
            f"Fading is not known in {undetermined} of {run.n_frames} frames",
            "Too few untouched aggregates are left to tell how much the dye has faded. Aggregates were measured there "
            "as if it had not, so that their area may be too small; what was eaten is not told from such frames: "
            "its curve has gaps there, or ends.",
        )
    cut = sorted((s for s in run.averaged if s.eaten_until_min < FOLLOWED * s.last_used_min), key=_eaten_until)
    if cut:
        said = ", ".join(f"{s.name}: {s.eaten_until_min:.0f} of {s.last_used_min:.0f} min" for s in cut[:NAMED])
        more = f" and {len(cut) - NAMED} more" if len(cut) > NAMED else ""
        yield Finding(
            "caution",
            f"Eaten area is not known to the end in {_of(len(cut), len(run.averaged), 'scene').lower()}",
            f"It is known up to: {said}{more}. What was eaten later is in no figure.",
        )
    faded = [s for s in run.scenes if s.ends("bleaching_factor")[1] < FADED]
    if faded:
        yield Finding(
            "caution",
            f"Strong fading in {_of(len(faded), len(run.scenes), 'scene').lower()}",
            f"At the end untouched aggregates have less than {100 * FADED:.0f} % of their brightness: {_named(faded)}. "
            "Weak aggregates may have been lost in the noise.",
        )
    if run.n_used:
        for name, what, role in (("aggregate_count", "aggregate", "aggregates"), ("cell_count", "cell", "cells")):
            if role not in run.roles:
                text = f"What needs {what}s is left out of this report."
                if role == "aggregates":
                    text += (
                        " Shifts and focus are measured on aggregates, so neither is known: the stage is taken to have "
                        "stood still, every frame to be sharp, and no scene can be judged. A stage that moved would "
                        "show as cells that all move the same way."
                    )
                yield Finding("caution", f"No channel of {what}s", text)
                continue
            peaks = [scene for scene in run.scenes if scene.n_used and not _any_above_zero(scene, name)]
            if peaks:
                yield Finding("caution", f"No {what}s in {_of(len(peaks), len(run.scenes), 'scene').lower()}",
                              f"Not one {what} was found in: {_named(peaks)}.")  # fmt: skip
    yield from _unfollowed_cells(output, run)
    suboptimal = [s for s in run.scenes if s.row.get("tracking_verdict") not in (None, OK)]
    if suboptimal:
        yield Finding(
            "caution", "Tracks may be joined wrongly", f"The best joins were not found in: {_named(suboptimal)}."
        )
    route = output.manifest.settings.get("cells", {}).get("route")
    if route == "texture" and any(_any_above_zero(scene, "cell_count") for scene in run.scenes):
        yield Finding(
            "note",
            "Cells are found by texture",
            "Without a trained network outlines of cells are approximate, and neighbours can count as one. Compare "
            "them with the pictures before you rely on numbers and areas of cells.",
        )


def _unfollowed_cells(output: FinishedOutput, run: RunSummary) -> Iterator[Finding]:
    """A run whose tracks are all too short to be kept, so that there are no speeds."""
    tracks, kept = (sum(scene.row.get(name) or 0 for scene in run.scenes) for name in ("tracks", "tracks_kept"))
    least = output.manifest.settings.get("tracking", {}).get("min_duration_min")
    if tracks and not kept and least is not None:
        recorded = f" of a recording of {run.duration_min:.0f} min" if math.isfinite(run.duration_min) else ""
        yield Finding(
            "note",
            "No speeds of cells",
            f"Speeds are told from cells that can be followed for at least {least:g} min{recorded}, and there are "
            "none. A shorter time can be set (tracking.min_duration_min); the longer it is, the more it selects "
            "slow, lonely cells.",
        )
    lag = output.manifest.settings.get("tracking", {}).get("lag_min")
    if kept and lag is not None and not any(math.isfinite(scene.speed_um_per_min) for scene in run.scenes):
        yield Finding(
            "note",
            "No speeds of cells",
            f"Speeds are told from sights of a cell that lie {lag:g} min apart, and the frames have no such distance: "
            "set tracking.lag_min to a multiple of the time between frames. What was covered from frame to frame is in "
            "the table tracks (mean_speed_um_per_min); it measures jitter too.",
        )


def _eaten_until(scene: SceneSummary) -> float:
    return scene.eaten_until_min


def _of_metadata(output: FinishedOutput, run: RunSummary) -> Iterator[Finding]:
    given: Mapping[str, Any] = output.manifest.settings.get("acquisition", {})
    by_hand = [
        f"{title} {given[name]:g} {unit}"
        for name, title, unit in (
            ("pixel_size_um", "size of a pixel", "µm"),
            ("interval_s", "time between frames", "s"),
        )
        if given.get(name) is not None
    ]
    if by_hand:
        yield Finding(
            "note",
            "Given by hand, not by the file",
            f"{'; '.join(by_hand)}. All areas, or all times, rest on {'them' if len(by_hand) > 1 else 'it'}.",
        )
    n = sum(scene.n_without_time for scene in run.scenes) if run.has_times else 0
    if n:
        yield Finding(
            "caution",
            f"The time of {n} used frame{'s' if n > 1 else ''} is not known",
            "The file has none for them. They are measured, and are in the tables and the movies, but in no curve.",
        )
    if output.manifest.acquisition.get("times_origin") == TimesOrigin.NONE.value:
        yield Finding(
            "caution", "Times are not known", "The file has none: curves are drawn against the number of the frame."
        )


def _left_out_scenes(run: RunSummary) -> Iterator[Omission]:
    for scene in run.scenes:
        if scene.rejected or not scene.has_reference:
            why = scene.row.get("quality_reason") or ""
            if not scene.has_reference:
                why = f"no reference frame: {scene.row.get('reason') or why}"
            kept = scene.n_used and not run.accepted
            amount = "kept in the means, as no scene is accepted" if kept else "out of all means"
            yield Omission(f"Scene: {scene.name}", amount, why)


def _left_out_frames(run: RunSummary) -> Iterator[Omission]:
    words = {
        "blurred": "out of focus",
        "missing": "the source does not have them",
        "unregistered": "their shift against the reference frame could not be told",
        "black": "nothing but noise: a closed shutter, or nothing in view",
        "constant": "every pixel has the same value",
        "saturated": "too many pixels at the camera's white level",
        "unreadable": "the file is damaged there",
        "no_reference": "their scene has no reference frame",
    }
    for state, count in run.state_counts.items():
        yield Omission(
            f"Frames: {state.replace('_', ' ')}", f"{count} of {run.n_frames}", words.get(state, "see the scene below")
        )
    for kind, what in (("cells_verdict", "Cell channel"), ("segmentation_verdict", "Cells")):
        for verdict, count in run.verdict_counts[kind].items():
            if verdict not in (OK, "empty", "missing", "unusable"):
                yield Omission(f"{what}: {verdict.replace('_', ' ')}", f"{count} of {run.n_frames} frames",
                               "no cells were looked for there")  # fmt: skip


_FATES: Final = {
    "kept": ("left where it lay", True),
    "moved": ("pushed elsewhere and still there", True),
    "eaten": ("gone: it dimmed away inside a cell, or went off with one", True),
    "partly eaten": ("part of it is gone in the same way", True),
    "censored": ("cut by the border of the picture, or no longer in view", False),
    "detached": ("washed away, not eaten", False),
    "passing": ("light inside a cell on its way, not an aggregate on the glass", False),
}
"""What each fate means, and whether such aggregates are in the eaten area."""


@dataclass(frozen=True)
class FateRow:
    """How many aggregates of the reference frames met a fate, what that means, and whether they are counted."""

    fate: str
    count: int
    meaning: str
    counted: bool


def fate_rows(run: RunSummary) -> list[FateRow]:
    """What became of the aggregates of all scenes' reference frames."""
    known = [FateRow(fate, run.fate_counts[fate], *about) for fate, about in _FATES.items() if fate in run.fate_counts]
    return known + [FateRow(f, n, "", counted=True) for f, n in run.fate_counts.items() if f not in _FATES]


def _left_out_objects(run: RunSummary) -> Iterator[Omission]:
    for scene in run.scenes:
        if scene.row.get("ledger_verdict") not in (None, OK) and scene.has_reference:
            why = (
                "there is no channel of aggregates" if "aggregates" not in run.roles else "no aggregate can be followed"
            )
            yield Omission(f"Eaten area: {scene.name}", "all of it", why)
    total = sum(run.fate_counts.values())
    for row in fate_rows(run):
        if not row.counted:
            yield Omission("Aggregates, from the eaten area", f"{row.count} of {total}", row.meaning)
    tracks = sum(scene.row.get("tracks") or 0 for scene in run.scenes)
    kept = sum(scene.row.get("tracks_kept") or 0 for scene in run.scenes)
    if tracks > kept:
        yield Omission(
            "Tracks of cells, from speeds and movement",
            f"{tracks - kept} of {tracks}",
            "they do not last long enough (setting tracking.min_duration_min)",
        )


def _left_out_channels(output: FinishedOutput) -> Iterator[Omission]:
    about = output.manifest.acquisition
    roles = set(about.get("roles", {}).values())
    for channel in about.get("channels", ()):
        if channel["index"] not in roles:
            yield Omission(f"Channel {channel['index']}: {channel['name']}", "all of it",
                           "neither aggregates nor cells were looked for in it")  # fmt: skip


def _any_above_zero(scene: SceneSummary, name: str) -> bool:
    return any(value > 0 for value in scene.series.get(name, ()) if math.isfinite(value))


def _reasons(scenes: Sequence[SceneSummary]) -> str:
    reasons = sorted({str(s.row["reason"]) for s in scenes if s.row.get("reason")})
    return f"({'; '.join(reasons[:3])})" if reasons else ""


def _counts(value: float | None) -> str:
    return "?" if value is None or not math.isfinite(value) else f"{value:.0f}"
