"""One self-contained HTML page for an analysis, and an index for a folder of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from phagostat.engine.outputs import find_outputs
from phagostat.model.errors import StoreError
from phagostat.report.background import acquisition_facts, setting_rows, version_facts
from phagostat.report.curves import MANY, MEAN, Line, curve_chart, number, scene_colour
from phagostat.report.findings import NAMED, Finding, fate_rows, findings, omissions
from phagostat.report.finished import FinishedOutput
from phagostat.report.means import MeanCurve, mean_curve
from phagostat.report.pictures import FRAME_MS, scene_pictures
from phagostat.report.strips import KINDS, kind_of, overview, strip
from phagostat.report.summary import Measure, RunSummary, SceneSummary, summarise
from phagostat.store.files import write_whole

FILE_NAME: Final = "report.html"
"""Name of a page inside its output."""
LISTED: Final = 40
"""Runs of unused frames that are listed for a scene; of more, the rest is counted."""
FIT: Final = "never decreasing fit"
OPEN_SCENES: Final = 3
"""Movies that run when the page is opened; the others start by hand."""


@dataclass(frozen=True)
class Figure:
    """A measure with its drawing, and what is to be said of its mean."""

    measure: Measure
    drawing: Markup
    mean: str = ""


@dataclass(frozen=True)
class _Entry:
    """A line of an index: a finished analysis with its page, or why there is none."""

    name: str
    link: str | None
    run: RunSummary | None
    found: Sequence[Finding]
    problem: str | None


def write_report(
    output: Path,
    *,
    destination: Path | None = None,
    movies: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Path:
    """Write the report of an analysis, or of every analysis in a folder with an index over them.

    Parameters
    ----------
    output
        Folder of one acquisition (``results/<acquisition>``), or the folder that was given to ``run -o``.
    destination
        For one acquisition the page (or an existing folder to put ``report.html`` into); for several a folder, which
        then holds ``index.html`` and a page each. Where None, ``report.html`` inside each output, and for several
        the index beside them, ``report.html`` in ``output``.
    movies
        Whether scenes have movies beside their stills.
    progress
        Told after each scene how many are done, and of how many.

    Returns
    -------
    Path
        The page, or the index over several.

    Raises
    ------
    StoreError
        If there is no complete analysis (a report of half a run would be taken for the whole), its tables are not
        those that were sealed, or the page cannot be written.

    Notes
    -----
    The same results give the same bytes: no clock times, no host names. The page needs no network and no scripts.
    """
    roots = find_outputs(output) or [output]
    if len(roots) == 1:
        finished = FinishedOutput(roots[0])
        page = destination if destination is not None else roots[0] / FILE_NAME
        page = page / FILE_NAME if page.is_dir() else page
        _write_page(finished, summarise(finished), page, movies=movies, progress=progress)
        return page
    index = output / FILE_NAME if destination is None else destination / "index.html"
    return _write_index(roots, output, index, destination=destination, movies=movies, progress=progress)


def render_report(
    output: FinishedOutput,
    run: RunSummary,
    *,
    movies: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> str:
    """The page of one analysis as HTML."""
    limits: Mapping[str, Any] = output.manifest.settings.get("quality", {})
    scenes = []
    for done, scene in enumerate(run.scenes, start=1):
        pictures = scene_pictures(output, scene.index, n_scenes=len(run.scenes), movies=movies)
        scenes.append(
            {
                "about": scene,
                "strip": strip(scene, max_shift_px=limits.get("max_shift_px"), lanes="aggregates" in run.roles),
                "left_out": scene.left_out[:LISTED],
                "more_left_out": max(0, len(scene.left_out) - LISTED),
                "pictures": pictures,
                "figures": _scene_figures(run, scene),
            }
        )
        progress(done, len(run.scenes))
    used_kinds = {kind_of(frame.state if not frame.usable else "ok").name for s in run.scenes for frame in s.frames}
    return _render(
        "page.html.j2",
        run=run,
        output=output,
        found=findings(output, run),
        left_out=omissions(output, run),
        figures=_figures(run),
        legend=_legend(run),
        kinds=[kind for kind in KINDS if kind.name in used_kinds],
        overview=overview(run.scenes),
        scenes=scenes,
        open_scenes=OPEN_SCENES,
        limits=limits,
        acquisition=acquisition_facts(output, run),
        versions=version_facts(output, run),
        settings=setting_rows(output),
        key_figures=_key_figures(run),
        frame_ms=FRAME_MS,
        names={measure.name for measure in run.measures},
        fates=fate_rows(run),
        named=NAMED,
        has_speeds=any(scene.speeds_um_per_min is not None for scene in run.scenes),
    )


def _write_page(
    output: FinishedOutput, run: RunSummary, page: Path, *, movies: bool, progress: Callable[[int, int], None]
) -> None:
    write_whole(page, render_report(output, run, movies=movies, progress=progress).encode())


def _write_index(
    roots: Sequence[Path],
    output: Path,
    index: Path,
    *,
    destination: Path | None,
    movies: bool,
    progress: Callable[[int, int], None],
) -> Path:
    entries, first_problem = [], None
    for root in roots:
        beside = "index_.html" if root.name == "index" else f"{root.name}.html"  # index.html is the list of them
        page = root / FILE_NAME if destination is None else destination / beside
        try:
            finished = FinishedOutput(root)
            run = summarise(finished)
        except StoreError as error:
            first_problem = first_problem or error
            entries.append(_Entry(root.name, None, None, (), str(error)))
            continue
        _write_page(finished, run, page, movies=movies, progress=progress)
        link = f"{root.name}/{FILE_NAME}" if destination is None else page.name
        entries.append(_Entry(root.name, quote(link), run, findings(finished, run), None))
    if first_problem is not None and all(entry.run is None for entry in entries):
        raise first_problem
    write_whole(index, _render("index.html.j2", name=output.resolve().name, entries=entries).encode())
    return index


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("phagostat.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _rounded
    environment.filters["percent"] = lambda value: "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %"
    style, _, _ = environment.loader.get_source(environment, "style.css") if environment.loader else ("", "", None)
    return environment.get_template(template).render(style=Markup(style), **values)


def _rounded(value: float | None, digits: int = 3, decimals: int | None = None) -> str:
    """A measured number to as many digits as are worth reading, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    rounded = float(f"{value:.{digits}g}") if abs(value) < 10**digits else float(round(value))
    return number(rounded if decimals is None else round(rounded, decimals) + 0.0)


def _axis_label(run: RunSummary) -> str:
    return "time since the first frame, min" if run.has_times else "number of the frame (times are not known)"


def _legend(run: RunSummary) -> list[dict[str, Any]]:
    n = len(run.scenes)
    if n > 1 and scene_colour(0, n) == scene_colour(1, n):
        rejected = sum(scene.rejected for scene in run.scenes)
        groups = [("accepted" if rejected else "", n - rejected, False), ("rejected", rejected, True)]
        return [
            {"name": f"each of {count} {name} scenes".replace("  ", " "), "colour": MANY, "dashed": dashed}
            for name, count, dashed in groups
            if count
        ]
    return [
        {
            "name": f"{scene.name} (rejected)" if scene.rejected else scene.name,
            "colour": scene_colour(i, n),
            "dashed": scene.rejected,
        }
        for i, scene in enumerate(run.scenes)
    ]


def _figures(run: RunSummary) -> list[Figure]:
    figures = []
    for measure in run.measures:
        lines = [_scene_line(run, scene, measure) for scene in run.scenes if measure.name in scene.series]
        if len(run.scenes) == 1:
            lines += _fit(run, run.scenes[0], measure)
        mean = _mean_of(run, measure.name)
        if mean is not None:
            lines.append(Line(f"mean of {mean.of} scenes", *mean.whole, MEAN, strong=True))
            label = f"mean, continued by the change of the scenes that go on (at least {_fewest(mean)} of {mean.of})"
            lines.append(Line(label, *mean.rest, MEAN, strong=True, dashed=True))
        figures.append(Figure(measure, _chart(run, measure, lines), _said_of(run, mean)))
    return figures


def _mean_of(run: RunSummary, name: str) -> MeanCurve | None:
    """The mean of a measure over the scenes that have it, of those that means are taken of; None of fewer than two."""
    having = [scene for scene in run.averaged if np.isfinite(scene.series.get(name, np.empty(0))).any()]
    if len(having) < 2:
        return None
    return mean_curve([scene.series[name] for scene in having], [run.axis_of(scene) for scene in having])


def _fewest(mean: MeanCurve) -> int:
    """The fewest scenes that a part of the mean rests on in which not all are running."""
    return int(mean.n_scenes[np.isfinite(mean.y) & ~mean.running].min(initial=mean.of))


def _said_of(run: RunSummary, mean: MeanCurve | None) -> str:
    """What a mean rests on, in words: how many scenes, and where some of them have ended."""
    if mean is None:
        return ""
    said = f"Mean of {mean.of} scenes"
    outside = np.flatnonzero(np.isfinite(mean.rest[1]) & ~mean.running)
    if not outside.size:
        return f"{said}."
    inside = np.flatnonzero(mean.running & np.isfinite(mean.y))
    if not inside.size:
        return f"{said}; dashed, since there is no time at which all of them run."
    parts = []
    for name, there in (("before", outside[outside < inside[0]]), ("after", outside[outside > inside[-1]])):
        if there.size:
            place = mean.x[inside[0] if name == "before" else inside[-1]]
            at = f"{number(round(float(place), 1))} min" if run.has_times else f"frame {place:.0f}"
            parts.append(f"{name} {at} of {_span(mean.n_scenes[there])} of them")
    return f"{said}; {', '.join(parts)} (dashed)." if parts else f"{said}."


def _span(counts: NDArray[np.int64]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _scene_figures(run: RunSummary, scene: SceneSummary) -> list[Figure]:
    if len(run.scenes) == 1:  # drawn above already
        return []
    return [
        Figure(m, _chart(run, m, [_scene_line(run, scene, m), *_fit(run, scene, m)]))
        for m in run.measures
        if any(math.isfinite(v) for v in scene.series.get(m.name, ()))
    ]


def _fit(run: RunSummary, scene: SceneSummary, measure: Measure) -> list[Line]:
    """The never decreasing fit beside the eaten area."""
    if measure.name != "eaten_area_um2":
        return []
    return [Line(FIT, run.axis_of(scene), scene.series["eaten_area_isotonic_um2"], MEAN)]


def _scene_line(run: RunSummary, scene: SceneSummary, measure: Measure) -> Line:
    colour = scene_colour(scene.index, len(run.scenes))
    return Line(scene.name, run.axis_of(scene), scene.series[measure.name], colour, dashed=scene.rejected)


def _chart(run: RunSummary, measure: Measure, lines: Sequence[Line]) -> Markup:
    label = f"{measure.title}, {measure.unit}" if "area" in measure.name else measure.unit
    return curve_chart(
        lines, title=f"{measure.title} against time", x_label=_axis_label(run), y_label=label, x_span=run.axis_span
    )


def _key_figures(run: RunSummary) -> list[tuple[str, str]]:
    """What stands in large letters at the top: a figure, and what it counts."""
    figures = [(f"{run.n_used} of {run.n_frames}", "frame is used" if run.n_frames == 1 else "frames are used")]
    if run.judged:
        kept = f"{len(run.accepted)} of {len(run.scenes)}"
        figures.insert(0, (kept, f"scene{'s' if len(run.scenes) > 1 else ''} accepted by the criteria of quality"))
    if math.isfinite(run.duration_min):
        figures.append((f"{number(round(run.duration_min, 1))} min", "were recorded"))
    eaten = _eaten_by_then(run)
    if eaten is not None:
        figures.append(eaten)
    cells = [value for s in run.averaged if math.isfinite(value := s.median("cell_count"))]
    if cells:
        figures.append((_rounded(sum(cells) / len(cells)), f"cells in a frame, {_group(run, len(cells))}"))
    return figures


def _group(run: RunSummary, known: int) -> str:
    """What a figure at the top is a mean of: so many of the scenes that means are taken of have it."""
    n = len(run.averaged)
    why = "rejected" if run.judged else "not judged"
    if n == 1:
        return "in the one accepted scene" if run.accepted else f"in a scene that is {why}"
    of = f"{known} of {n}" if known < n else f"{n}"
    which = "accepted scenes" if run.accepted else f"scenes, all {why}"
    return f"in {of} {which}" if known == 1 else f"mean of {of} {which}"


def _eaten_by_then(run: RunSummary) -> tuple[str, str] | None:
    """What was eaten by the last time at which all scenes run, which makes it one and the same time."""
    having = run.with_eaten
    if not having:
        return None
    mean, group = _mean_of(run, "eaten_area_um2"), _group(run, len(having))
    if mean is None:
        last = having[0].last_measured("eaten_area_um2")
        value, at = having[0].series["eaten_area_um2"][last], run.axis_of(having[0])[last]
    elif mean.last_running is not None:
        value, at = mean.y[mean.last_running], mean.x[mean.last_running]
    else:
        value = sum(s.ends("eaten_area_um2")[1] for s in having) / len(having)
        return f"{_rounded(value, decimals=2)} µm²", f"eaten by each scene's last used frame, {group}"
    when = f"in the first {number(round(float(at)))} min" if run.has_times else f"by frame {at:.0f}"
    return f"{_rounded(float(value), decimals=2)} µm²", f"eaten {when}, {group}"
