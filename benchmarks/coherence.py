"""Temporal coherence (TTCM) against single-frame watershed, at given speeds of the cells.

    python benchmarks/coherence.py [--speeds 0.3 0.8 2] [--windows 2 3 5] [--conditions default noise flicker hard]

Every movie is simulated, with one speed for all of its cells, and analysed by the pipeline itself: first with windows
of a single frame, then with each other window. Between these runs only the windows and what rests on them are computed
again, so all of them segment the same stored probabilities with the same shifts and verdicts. Each run is compared
with the truth; the table has the mean over the seeds for single frames, and for the other windows the mean of the
differences, seed by seed, with its 95 % interval (Student's t over the seeds). Where an interval excludes 0, it says
which is better: of twenty comparisons without any difference, one does by chance.

What cells grow from is the setting ``cells.markers``: bodies parted at necks of the window's mean probability
(``shape``), or the published seeds, its regions above 0.9 (``coherent``); both have a single frame to be compared with.

Conditions: what the preset ``default`` draws; ``noise``, the same at a fourth of the light (twice the noise);
``flicker``, the movies of ``default`` with probabilities that are disturbed in every frame by itself, as those of a
network may be; ``hard``, the preset. In all of them every cell has the same speed; it is drawn towards food, pushed by
neighbours and slow while it eats, so the speed that comes of it is stated beside the one that was asked for. With
--records a run that was stopped goes on; with --movies the movies are kept and used again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from records import Record, Records, read_records
from scipy.ndimage import gaussian_filter
from scipy.stats import t as student

from phagostat.engine.compute.cells import ROUTES
from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, run_job
from phagostat.settings import profile_settings
from phagostat.simulate.movie import simulate
from phagostat.simulate.scenarios import SceneOverrides
from phagostat.simulate.truth import Truth, read_truth
from phagostat.sources import open_source
from phagostat.study.run import Run, read_run
from phagostat.study.score import score, seeds_from_commit
from phagostat.study.score_cells import MATCH_IOU, match_scene
from phagostat.terminal import acquisition_of

SINGLE = (1, 0.9)
FLICKER_SD, FLICKER_UM = 0.15, 2.0


@dataclass(frozen=True)
class Condition:
    """What a movie is made with, and whether its probabilities are disturbed."""

    preset: str = "default"
    parameters: dict[str, float] = field(default_factory=dict)
    flicker_sd: float = 0.0

    @property
    def movie(self) -> str:
        """Conditions of one name share their movies."""
        return "-".join([self.preset, *(f"{name}={value:g}" for name, value in self.parameters.items())])


CONDITIONS = {
    "default": Condition(),
    "noise": Condition(parameters={"camera_gain_counts_per_electron": 10.4}),
    "flicker": Condition(flicker_sd=FLICKER_SD),
    "hard": Condition(preset="hard"),
}


@dataclass(frozen=True)
class Figure:
    """A line of the table: what it is called, of what it is made, and whether more of it is better."""

    label: str
    of: Callable[[Record], float | None]
    better: int


def _plain(name: str) -> Callable[[Record], float | None]:
    return lambda record: record.get(name)


def _size(name: str) -> Callable[[Record], float | None]:
    def of(record: Record) -> float | None:
        value = record.get(name)
        return None if value is None else abs(value)

    return of


FIGURES = (
    Figure("F1 at IoU 0.5", _plain("cell_f1"), 1),
    Figure("true cells missed", _plain("missed_share"), -1),
    Figure("found cells spurious", _plain("spurious_share"), -1),
    Figure("mean IoU of matched", _plain("matched_iou"), 1),
    Figure("foreground Dice", _plain("cell_dice"), 1),
    Figure("count error, absolute", _plain("cell_count_error_abs"), -1),
    Figure("true cells split", _plain("cell_split_share"), -1),
    Figure("found cells merged", _plain("cell_merge_share"), -1),
    Figure("time in longest track", _plain("track_longest_share"), 1),
    Figure("tracks per true cell", _plain("track_fragments"), -1),
    Figure("identity switches a step", _plain("track_switch_share"), -1),
    Figure("tracks of several cells", _plain("track_mixed_share"), -1),
    Figure("time in kept tracks", _plain("track_kept_share"), 1),
    Figure("mean speed error, absolute", _size("mean_speed_error"), -1),
    Figure("speed at 10 min, absolute error", _size("lag_speed_error"), -1),
    Figure("speed at 10 min where outlined, absolute error", _size("lag_speed_outlined_error"), -1),
    Figure("movement error, absolute", _size("movement_error"), -1),
)

BRIEF = {"F1 at IoU 0.5", "identity switches a step"}
"""Figures by which a window is chosen: cells that are right in a frame, and right over time."""


def flickering(route: Callable[..., NDArray[np.uint8]]) -> Callable[..., NDArray[np.uint8]]:
    """A route whose probabilities are disturbed by smooth noise of their own in every frame."""

    def probability(frame: NDArray[np.uint8], *, pixel_size_um: float, **options: Any) -> NDArray[np.uint8]:
        clean = route(frame, pixel_size_um=pixel_size_um, **options)
        random = np.random.default_rng(zlib.crc32(frame.tobytes()))
        noise = random.standard_normal(clean.shape, dtype=np.float32)
        noise = gaussian_filter(noise, FLICKER_UM / pixel_size_um)
        noise *= 255 * FLICKER_SD / noise.std()
        return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)

    return probability


@contextlib.contextmanager
def routes(condition: Condition) -> Iterator[None]:
    """Disturb every route while the pipeline runs in this process, if the condition says so."""
    before = dict(ROUTES)
    if condition.flicker_sd > 0:
        ROUTES.update({name: flickering(route) for name, route in before.items()})
    try:
        yield
    finally:
        ROUTES.update(before)


def movie_of(folder: Path, condition: Condition, *, mode: str, speed: float, seed: int, options: Any) -> Path:
    """Simulate a movie, unless it is there."""
    path = folder / f"{mode}-{condition.movie}-{speed:g}-{seed}-{options.size}x{options.frames}.czi"
    if not (path.with_suffix(".truth") / "truth.json").is_file():
        fixed = {"cell_speed_um_per_min": speed, "cell_speed_spread": 0.0}
        simulate(
            path,
            preset=condition.preset,
            mode=mode,
            seed=seed,
            scenes=1,
            frames=options.frames,
            shape_yx=(options.size, options.size),
            data=options.data if mode == "semi" else None,
            scenario=SceneOverrides(parameters=fixed | condition.parameters),
            compression="zstd",
        )
    return path


def analyse(movie: Path, root: Path, *, window: int, probability: float, markers: str) -> Run:
    """Bring an output to these windows: what does not depend on them is kept from the run before."""
    values = {
        "cells": {"markers": markers},
        "coherence": {"window_frames": window, "seed_probability": probability},
    }
    settings = profile_settings("corrected", values)
    source = open_source(movie)
    run_job(analysis_job(source, acquisition_of(source, settings), settings, root), SynchronousExecutor())
    return read_run(root)


def figures(run: Run, truth: Truth) -> Record:
    """Everything that the score says of the movie's scene, and which cells are found at all."""
    (scene,) = score(run, truth).scenes
    record = scene.as_dict()
    used = np.flatnonzero(run.frames["usable"][np.argsort(run.frames["frame"])].astype(bool)).tolist()
    matches = match_scene(run, truth, 0, used)
    hits = [match.iou[match.iou >= MATCH_IOU] for match in matches]
    n_hits = sum(len(hit) for hit in hits)
    n_true, n_found = (sum(len(getattr(match, name)) for match in matches) for name in ("true", "found"))
    record["missed_share"] = 1 - n_hits / n_true if n_true else None
    record["spurious_share"] = 1 - n_hits / n_found if n_found else None
    record["matched_iou"] = float(np.concatenate(hits).mean()) if n_hits else None
    return record


def compare(movie: Path, condition: Condition, variants: list[tuple[int, float]], markers: str) -> list[Record]:
    """One record for each window and threshold."""
    truth = read_truth(movie)
    records = []
    with routes(condition), tempfile.TemporaryDirectory(dir=movie.parent) as folder:
        for window, probability in variants:
            run = analyse(movie, Path(folder) / "output", window=window, probability=probability, markers=markers)
            records.append({"window": window, "probability": probability} | figures(run, truth))
    return records


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and half of its 95 % interval (Student's t)."""
    n = len(values)
    half = student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
    return float(values.mean()), float(half)


def differences(
    records: list[Record], figure: Figure, variant: tuple[int, float], base: tuple[int, float] = SINGLE
) -> NDArray[np.float64]:
    """Of a variant against another, seed by seed: the mean over its movies in which both have the figure."""
    values: dict[tuple[Any, ...], dict[tuple[int, float], float]] = {}
    for record in records:
        value = figure.of(record)
        if value is not None:
            movie = tuple(record.get(name) for name in ("seed", "condition", "mode", "speed"))
            values.setdefault(movie, {})[record["window"], record["probability"]] = value
    by_seed: dict[Any, list[float]] = {}
    for (seed, *_), mine in values.items():
        if variant in mine and base in mine:
            by_seed.setdefault(seed, []).append(mine[variant] - mine[base])
    return np.array([np.mean(both) for both in by_seed.values()], np.float64)


def said(mean: float, half: float, better: int) -> str:
    """A difference with its interval, and which is better where 0 lies outside."""
    if not np.isfinite(half):
        return f"{mean:+.3f}"
    verdict = "" if abs(mean) <= half else " better" if mean * better > 0 else " worse"
    return f"{mean:+.3f} ±{half:.3f}{verdict}"


def table(
    records: list[Record],
    variants: list[tuple[int, float]],
    *,
    figures: Sequence[Figure] = FIGURES,
    base: tuple[int, float] = SINGLE,
) -> list[str]:
    """Lines of a table: figure by figure, speed by speed, and all speeds together."""
    others = [variant for variant in variants if variant != base]
    heads = [f"{w} frame{'s' * (w > 1)}" + (f", {p:g}" if p != SINGLE[1] else "") for w, p in others]
    lines = [
        f"| figure | speed | {'single frame' if base == SINGLE else f'{base[0]} frames'} | " + " | ".join(heads) + " |",
        "|---" * (3 + len(heads)) + "|",
    ]
    speeds = sorted({r["speed"] for r in records})
    groups = {f"{speed:g}": [r for r in records if r["speed"] == speed] for speed in speeds}
    if len(speeds) > 1:
        groups["all"] = records
    for figure in figures:
        for speed, mine in groups.items():
            single = [figure.of(r) for r in mine if (r["window"], r["probability"]) == base]
            known = [value for value in single if value is not None]
            if not known or not any(figure.of(r) for r in mine):  # as of kept tracks in movies that are too short
                continue
            cells = [f"{np.mean(known):.3f}"]
            for variant in others:
                values = differences(mine, figure, variant, base)
                cells.append(said(*interval(values), figure.better) if len(values) else "-")
            lines.append(f"| {figure.label} | {speed} | " + " | ".join(cells) + " |")
    return lines


def summary(records: list[Record], variants: list[tuple[int, float]], base: tuple[int, float]) -> list[str]:
    """For each speed in how many figures a variant is better or worse than another."""
    others = [variant for variant in variants if variant != base]
    lines = []
    for speed in sorted({r["speed"] for r in records}):
        mine = [r for r in records if r["speed"] == speed]
        singles = [r for r in mine if (r["window"], r["probability"]) == base]
        step, lag = (
            np.mean(
                [r[f"true_{name}_speed_um_per_min"] for r in singles if r[f"true_{name}_speed_um_per_min"]] or np.nan
            )
            for name in ("mean", "lag")
        )
        verdicts = []
        for window, probability in others:
            n = {1: 0, -1: 0}
            for figure in FIGURES:
                values = differences(mine, figure, (window, probability), base)
                if len(values) > 1:
                    mean, half = interval(values)
                    if abs(mean) > half:
                        n[1 if mean * figure.better > 0 else -1] += 1
            verdicts.append(f"{window} frames, {probability:g}: {n[1]} better, {n[-1]} worse")
        lines.append(
            f"{speed:g} um/min asked for, {step:.2f} between frames and {lag:.2f} over 10 min come of it; "
            f"{len(singles)} seeds; " + "; ".join(verdicts)
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="HEAD", help="the seeds follow from it")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--speeds", type=float, nargs="+", default=[0.3, 0.8, 2.0], help="um/min")
    parser.add_argument(
        "--markers",
        choices=["shape", "coherent"],
        default=profile_settings().cells.markers,
        help="setting cells.markers",
    )
    parser.add_argument("--windows", type=int, nargs="+", default=[2, 3, 5], help="beside the single frame")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.9], help="of the mean probability of a seed")
    parser.add_argument("--conditions", nargs="+", choices=sorted(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--modes", nargs="+", choices=["synthetic", "semi"], default=["synthetic", "semi"])
    parser.add_argument("--frames", type=int, default=26, help="26 frames last 50 min")
    parser.add_argument("--size", type=int, default=1024, help="native px")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--records", type=Path, help="folder in which every movie's records are kept")
    parser.add_argument("--movies", type=Path, help="folder in which the movies are kept")
    parser.add_argument("--json", type=Path, help="write all records into this file")
    parser.add_argument("--against", type=int, default=1, metavar="FRAMES", help="window that the others differ from")
    parser.add_argument("--brief", action="store_true", help="of each condition and mode only what decides")
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="only print what this folder of records holds")
    options = parser.parse_args()
    if options.table:
        about, records = read_records(options.table)
        print(about)
        print_tables(records, brief=options.brief, against=options.against)
        return
    commit = subprocess.run(
        ["git", "rev-parse", options.commit], capture_output=True, text=True, check=True
    ).stdout.strip()
    variants = [SINGLE, *((w, p) for p in options.thresholds for w in [1, *options.windows] if (w, p) != SINGLE)]
    kept = Records(
        options.records,
        {"commit": commit, "variants": variants}
        | {name: getattr(options, name) for name in ("markers", "size", "frames")},
    )
    print(f"seeds of {commit}, {options.seeds} of them; package {kept.about['package']}; {options.size} px, ", end="")
    print(f"{options.frames} frames", flush=True)
    records = collect(kept, commit, variants, options)
    print_tables(records, brief=options.brief, against=options.against)
    if options.json:
        options.json.write_text(json.dumps({"about": kept.about, "records": records}, indent=1), "utf-8")


def print_tables(records: list[Record], *, brief: bool, against: int) -> None:
    """A table for each condition and mode, and one over all of them."""
    variants = list(dict.fromkeys((r["window"], r["probability"]) for r in records))
    base = (against, SINGLE[1])
    groups = dict.fromkeys((r["condition"], r["mode"]) for r in records)
    order = list(CONDITIONS)
    for condition, mode in sorted(groups, key=lambda group: (order.index(group[0]), group[1] != "synthetic")):
        mine = [r for r in records if (r["condition"], r["mode"]) == (condition, mode)]
        lines = [] if brief else [*summary(mine, variants, base), ""]
        figures = [f for f in FIGURES if f.label in BRIEF or not brief]
        print("\n".join(["", f"{condition}, {mode}", *lines, *table(mine, variants, figures=figures, base=base)]))
    print("\nall conditions and modes: of each seed the mean of its movies\n")
    print("\n".join(table(records, variants, base=base)))


def collect(kept: Records, commit: str, variants: list[tuple[int, float]], options: Any) -> list[Record]:
    """All records: seed by seed, so that a run that is stopped has something of everything."""
    records: list[Record] = []
    with contextlib.ExitStack() as stack:
        folder = options.movies or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for seed in seeds_from_commit(commit, options.seeds):
            for mode in options.modes:
                for speed in options.speeds:
                    for name in options.conditions:
                        about = {"condition": name, "mode": mode, "speed": speed, "seed": seed}
                        condition = CONDITIONS[name]

                        def make(condition: Condition = condition, about: Record = about) -> list[Record]:
                            known = {key: about[key] for key in ("mode", "speed", "seed")}
                            movie = movie_of(folder, condition, **known, options=options)
                            return [about | record for record in compare(movie, condition, variants, options.markers)]

                        records += kept.of("-".join(f"{value}" for value in about.values()), make)
            if not options.movies:
                for path in folder.glob("*.czi"):
                    path.unlink()
                    shutil.rmtree(path.with_suffix(".truth"))
    return records


if __name__ == "__main__":
    main()
