"""What a report's figures rest on: the acquisition, the settings, the versions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phagostat.engine.preparation import analysis_shape
from phagostat.model.errors import SettingsError
from phagostat.report.curves import number
from phagostat.report.finished import FinishedOutput
from phagostat.report.summary import RunSummary
from phagostat.settings import PROFILES, profile_settings
from phagostat.settings_text import settings_table
from phagostat.store.manifest import package_version


@dataclass(frozen=True)
class Fact:
    """A name and what stands beside it."""

    name: str
    value: str


@dataclass(frozen=True)
class SettingRow:
    """A parameter as a report shows it; ``changed`` against the default of its profile."""

    group: str
    name: str
    value: str
    default: str
    unit: str
    description: str
    source: str
    changed: bool


def acquisition_facts(output: FinishedOutput, run: RunSummary) -> list[Fact]:
    """What was recorded, and how it was taken."""
    about, source = output.manifest.acquisition, output.manifest.source
    scenes: Sequence[Mapping[str, Any]] = about.get("scenes", ())
    facts = [
        Fact("Source", str(source.get("path", "?"))),
        Fact("Kind of source", str(source.get("kind", "?"))),
        Fact("Identity", f"{source.get('identity', '?')} (digest by which a run knows its source again)"),
        Fact("Scenes", f"{len(scenes)}"),
        Fact("Frames a scene", _span([scene["n_frames"] for scene in scenes])),
        Fact("Size of a frame", _sizes(scenes, output)),
        Fact("Size of a camera pixel", f"{about['pixel_size_um']:g} µm{_from(output, 'pixel_size_um')}"),
        Fact("Grid of analysis", _grid(output)),
        Fact(
            "Duration", f"{number(round(run.duration_min, 1))} min" if math.isfinite(run.duration_min) else "not known"
        ),
        Fact("Time between frames", _interval(scenes)),
        Fact("Times from", str(about.get("times_origin", "?"))),
    ]
    roles = {index: role for role, index in about.get("roles", {}).items()}
    for channel in about.get("channels", ()):
        role = roles.get(channel["index"], "not used")
        described = f" ({channel['description']})" if channel.get("description") else ""
        facts.append(Fact(f"Channel {channel['index']}", f"{channel['name']}: {role}{described}"))
    return facts


def version_facts(output: FinishedOutput, run: RunSummary) -> list[Fact]:
    """What computed the results, and how they are known again."""
    environment = output.manifest.environment
    facts = [Fact("phagostat", f"{output.manifest.version} (results)")]
    if package_version() != output.manifest.version:
        facts.append(Fact("phagostat, this page", package_version()))
    facts.append(Fact("Python", str(environment.get("python", "?"))))
    facts += [Fact(name, str(v)) for name, v in sorted(environment.get("libraries", {}).items())]
    facts += [
        Fact("Processor", f"{environment.get('cpu', '?')}, {environment.get('machine', '?')}"),
        Fact("Results", f"{run.results_digest} (digest in seal.json: this page belongs to these results alone)"),
    ]
    return facts


def setting_rows(output: FinishedOutput) -> list[SettingRow]:
    """Every parameter with its value in this run; those that this version does not know stand last.

    Values are taken as the manifest has them, so that results of another version can be shown.
    """
    stored = output.manifest.settings
    profile = stored.get("profile") if stored.get("profile") in PROFILES else PROFILES[0]
    rows, known = [], set()
    for row in settings_table(_defaults(str(profile))):
        group, name, default = row["group"], row["name"], row["value"]
        known.add((group, name))
        value = stored.get(group, {}).get(name, default)
        rows.append(
            SettingRow(
                group, name, _text(value), _text(default), row["unit"], row["description"], row["source"],
                changed=value != default,
            )
        )  # fmt: skip
    return rows + [
        SettingRow(group, name, _text(value), "?", "", "not known to this version of phagostat", "", changed=True)
        for group, values in stored.items()
        if isinstance(values, Mapping)
        for name, value in values.items()
        if (group, name) not in known
    ]


def _defaults(profile: str) -> Any:
    try:
        return profile_settings(profile)
    except SettingsError:
        return profile_settings()


def _text(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _span(values: Sequence[int]) -> str:
    if not values:
        return "none"
    return f"{values[0]}" if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _from(output: FinishedOutput, name: str) -> str:
    given = output.manifest.settings.get("acquisition", {}).get(name)
    return " (given by hand)" if given is not None else " (from the metadata)"


def _sizes(scenes: Sequence[Mapping[str, Any]], output: FinishedOutput) -> str:
    pixel = float(output.manifest.acquisition["pixel_size_um"])
    return "; ".join(_each_size(scenes, pixel))


def _each_size(scenes: Sequence[Mapping[str, Any]], pixel_um: float) -> Iterator[str]:
    for height, width, dtype in sorted({(*scene["shape_yx"], scene["dtype"]) for scene in scenes}):
        yield f"{width} × {height} px, {width * pixel_um:.4g} × {height * pixel_um:.4g} µm, {dtype}"


def _grid(output: FinishedOutput) -> str:
    scenes = output.manifest.acquisition.get("scenes", ())
    sizes = sorted({analysis_shape(tuple(scene["shape_yx"]), output.reduction) for scene in scenes})
    said = "; ".join(f"{width} × {height} px" for height, width in sizes)
    n = output.reduction
    how = f"{n} × {n} camera pixels averaged" if n > 1 else "the camera's own pixels"
    return f"{said} of {output.pixel_size_um:g} µm ({how})"


def _interval(scenes: Sequence[Mapping[str, Any]]) -> str:
    steps: list[float] = []
    for scene in scenes:
        times = scene.get("times_s") or ()
        steps += [b - a for a, b in itertools.pairwise(times) if a is not None and b is not None]
    if not steps:
        return "not known"
    steps.sort()
    low, middle, high = steps[0], steps[len(steps) // 2], steps[-1]
    return f"{middle:g} s" if high - low < 1e-3 else f"{middle:.4g} s (median; {low:.4g} to {high:.4g})"
