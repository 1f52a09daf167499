"""Scores against the truth, on seeds that follow from a commit.

    python benchmarks/scores.py [--commit HEAD] [--seeds 20] [--preset default hard] [--mode synthetic semi]
                                [--scenario drawn|bleaching|no-uptake] [--records FOLDER]
    python benchmarks/scores.py --table FOLDER

For every seed an acquisition is simulated, analysed with default settings and compared with its truth. Each line of the
table is over all scenes of all seeds that have the figure: mean, and the worst scene; docs/scores.md says what each
is. Scenarios: what the seed draws, 20 % bleaching whatever it draws, or nothing eaten.

With --records every seed's scores are kept in a file of their own, and a run that was stopped goes on. --table prints
what such a folder holds, finished or not, as the table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from records import Record, Records, read_records

from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, run_job
from phagostat.settings import profile_settings
from phagostat.simulate.movie import simulate
from phagostat.simulate.scenarios import SceneOverrides, no_uptake
from phagostat.simulate.truth import read_truth
from phagostat.sources import open_source
from phagostat.study.score import LARGER_IS_BETTER, read_run, score, seeds_from_commit
from phagostat.terminal import acquisition_of

FIGURES = (
    "shift_error_max_px",
    "shift_error_mean_px",
    "unregistered_share",
    "share_over_tolerance",
    "unusable_accepted",
    "bleaching_error_mean",
    "bleaching_error_max",
    "aggregate_count_error",
    "aggregate_area_error",
    "sharpness_auc",
    "blurred_accepted",
    "blurred_accepted_share",
    "sharp_rejected",
    "sharp_rejected_share",
    "between_accepted_share",
    "reference_area_error",
    "eaten_frames_share",
    "eaten_compared_share",
    "eaten_error_max",
    "eaten_error_final",
    "eaten_error_held_max",
    "eaten_within_5pct",
    "eaten_within_10pct",
    "eaten_within_20pct",
    "eaten_without_uptake",
    "fates_right_share",
    "kept_found_share",
    "moved_found_share",
    "eaten_found_share",
    "detached_found_share",
    "fates_missed_share",
    "cell_count_error",
    "cell_count_error_abs",
    "cell_area_error",
    "cell_dice",
    "cell_f1",
    "cell_miou",
    "cell_split_share",
    "cell_merge_share",
    "cell_found_share",
    "cell_lost_missed_share",
    "cell_lost_merged_share",
    "cell_lost_split_share",
    "cell_lost_outline_share",
    "cell_inside_found_share",
    "cell_spurious_share",
    "track_longest_share",
    "track_fragments",
    "track_mixed_share",
    "track_count_error",
    "track_length_error",
    "track_switches",
    "track_switch_share",
    "true_kept_share",
    "track_kept_share",
    "mean_speed_error",
    "lag_speed_error",
    "lag_speed_outlined_share",
    "lag_speed_outlined_error",
    "movement_error",
)
SCENARIOS = {
    "drawn": None,
    "bleaching": SceneOverrides(parameters={"bleaching_loss": 0.2}),
    "no-uptake": no_uptake(),
}


def score_one(folder: Path, *, preset: str, mode: str, seed: int, options: argparse.Namespace) -> list[Record]:
    """Simulate, analyse, compare; one record a scene."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        movie = Path(temporary) / "movie.czi"
        report = simulate(
            movie,
            preset=preset,
            mode=mode,
            seed=seed,
            scenes=options.scenes,
            frames=options.frames,
            shape_yx=(options.size, options.size),
            data=options.data if mode == "semi" else None,
            scenario=SCENARIOS[options.scenario],
        )
        settings = profile_settings()
        source = open_source(movie)
        root = Path(temporary) / "output"
        run_job(analysis_job(source, acquisition_of(source, settings), settings, root), SynchronousExecutor())
        found = score(read_run(root), read_truth(report.truth))
        return [{"preset": preset, "mode": mode, "seed": seed} | scene.as_dict() for scene in found.scenes]


def table(about: Record, records: list[Record]) -> list[str]:
    """The table of docs/performance.md: a column for each preset and mode."""
    columns = list(dict.fromkeys((r["preset"], r["mode"]) for r in records))
    columns.sort(key=lambda column: (column[0], column[1] != "synthetic"))
    scenario = "" if about["scenario"] == "drawn" else f", {about['scenario']}"
    head = f"commit {about['commit'][:7]}, {about['size']} px, {about['frames']} frames{scenario}"
    lines = ["| " + " | ".join([head, *(", ".join(column) for column in columns)]) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    groups = [[r for r in records if (r["preset"], r["mode"]) == column] for column in columns]
    lines.append("| scenes | " + " | ".join(str(len(group)) for group in groups) + " |")
    for label, show in ROWS.items():
        cells = [show(group) for group in groups]
        if any(cells):
            lines.append(f"| {label} | " + " | ".join(cell or "-" for cell in cells) + " |")
    return lines


def known(records: list[Record], name: str) -> NDArray[np.float64]:
    """What the scenes have of a figure."""
    return np.array([r[name] for r in records if r.get(name) is not None], np.float64)


def mean_and_worst(name: str, digits: int) -> Callable[[list[Record]], str]:
    def show(records: list[Record]) -> str:
        values = known(records, name)
        if not values.size:
            return ""
        worst = values.min() if name in LARGER_IS_BETTER else values[np.argmax(np.abs(values))]
        return f"{values.mean():.{digits}f}, worst {worst:.{digits}f}"

    return show


def mean_of(name: str, digits: int = 2) -> Callable[[list[Record]], str]:
    def show(records: list[Record]) -> str:
        values = known(records, name)
        return f"{values.mean():.{digits}f}" if values.size else ""

    return show


def total_of(name: str) -> Callable[[list[Record]], str]:
    def show(records: list[Record]) -> str:
        values = known(records, name)
        return f"{values.sum():.0f}" if values.size else ""

    return show


def without_a_shift(records: list[Record]) -> str:
    have = [r for r in records if r.get("unregistered_share") is not None]
    n_sharp = sum(r["n_sharp_frames"] for r in have)
    return f"{sum(r['unregistered_share'] * r['n_sharp_frames'] for r in have):.0f} of {n_sharp}" if have else ""


ROWS: dict[str, Callable[[list[Record]], str]] = {
    "largest shift error of a scene, px": mean_and_worst("shift_error_max_px", 4),
    "mean shift error of a scene, px": mean_and_worst("shift_error_mean_px", 4),
    "sharp frames without a shift": without_a_shift,
    "bleaching factor, mean error": mean_and_worst("bleaching_error_mean", 4),
    "frames with >= 2 px of defocus that are used": total_of("blurred_accepted"),
    "frames with <= 0.5 px called blurred": total_of("sharp_rejected"),
    "eaten area: scenes within 5 % at every tenth": mean_of("eaten_within_5pct"),
    "eaten area: scenes within 10 % at every tenth": mean_of("eaten_within_10pct"),
    "eaten area: scenes within 20 % at every tenth": mean_of("eaten_within_20pct"),
    "eaten area: largest error, of the final area": mean_and_worst("eaten_error_max", 3),
    "without uptake: eaten area, of the reference area": mean_and_worst("eaten_without_uptake", 4),
    "aggregates whose fate is right": mean_of("fates_right_share"),
    "cells: foreground Dice": mean_and_worst("cell_dice", 3),
    "cells: F1 at IoU 0.5": mean_and_worst("cell_f1", 2),
    "cell count, relative error": mean_of("cell_count_error"),
    "mean cell area, relative error": mean_of("cell_area_error"),
    "true cells cut apart": mean_of("cell_split_share"),
    "found cells that are several": mean_of("cell_merge_share"),
    "true cells off the border that are found": mean_of("cell_inside_found_share"),
    "true cells lost: missed": mean_of("cell_lost_missed_share"),
    "true cells lost: merged with another": mean_of("cell_lost_merged_share"),
    "true cells lost: cut apart": mean_of("cell_lost_split_share"),
    "true cells lost: outlined too differently": mean_of("cell_lost_outline_share"),
    "found cells that are none": mean_of("cell_spurious_share"),
    "true cells' time in their longest track": mean_of("track_longest_share"),
    "tracks of a true cell": mean_of("track_fragments", 1),
    "identity switches a step": mean_of("track_switch_share"),
    "length of tracks, relative error": mean_of("track_length_error"),
    "mean speed, relative error": mean_of("mean_speed_error"),
    "speed over 10 min, relative error": mean_of("lag_speed_error"),
    "the same where both sights are outlined": mean_of("lag_speed_outlined_error"),
    "total movement, relative error": mean_of("movement_error"),
}
"""Lines of the table for docs/performance.md."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--preset", nargs="+", default=["default", "hard"])
    parser.add_argument("--mode", nargs="+", default=["synthetic", "semi"])
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="drawn")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--records", type=Path, metavar="FOLDER", help="keep every seed's scores there, and go on")
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="only print what this folder of records holds")
    parser.add_argument("--output", type=Path, help="write all records as JSON")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(*read_records(options.table))))
        return
    commit = subprocess.run(
        ["git", "rev-parse", options.commit], capture_output=True, text=True, check=True
    ).stdout.strip()
    about = {"commit": commit} | {name: getattr(options, name) for name in ("scenario", "scenes", "frames", "size")}
    kept = Records(options.records, about)
    print(f"commit {commit}, {options.seeds} seeds, {options.scenes} x {options.frames} frames, {options.size} px")
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        for mode in options.mode:
            for preset in options.preset:
                mine: list[Record] = []
                for seed in seeds_from_commit(commit, options.seeds):
                    one = functools.partial(
                        score_one, Path(folder), preset=preset, mode=mode, seed=seed, options=options
                    )
                    mine += kept.of(f"{mode}-{preset}-{seed}", one)
                    print(f"{len(mine)} scenes of {mode}, {preset}", end="\r", file=sys.stderr, flush=True)
                records += mine
                print_figures(mode, preset, mine)
    if options.output:
        options.output.write_text(json.dumps({"commit": commit, "records": records}, indent=1), "utf-8")


def print_figures(mode: str, preset: str, records: list[Record]) -> None:
    """Every figure of one mode and preset: mean, and the worst scene with its seed."""
    print(f"\n{mode}, {preset}: {len(records)} scenes, {sum(r['n_sharp_frames'] for r in records)} sharp frames")
    print(f"| {'figure':<26} | {'mean':>10} | {'worst':>10} | seed |\n|---|---|---|---|")
    for name in FIGURES:
        values = np.array([r.get(name) for r in records], float)
        if np.isfinite(values).any():
            worst = int(np.nanargmin(values) if name in LARGER_IS_BETTER else np.nanargmax(np.abs(values)))
            mean, seed = np.nanmean(values), records[worst]["seed"]
            print(f"| {name:<26} | {mean:10.4f} | {values[worst]:10.4f} | {seed} |")


if __name__ == "__main__":
    main()
