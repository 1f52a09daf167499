"""Scores against the truth, on seeds that follow from a commit.

    python benchmarks/scores.py [--commit HEAD] [--seeds 20] [--preset default hard] [--mode synthetic semi]
                                [--scenario drawn|bleaching|no-uptake]

For every seed an acquisition is simulated, analysed with default settings and compared with its truth. Each line of the
table is over all scenes of all seeds that have the figure: mean, and the worst scene. The mean of ``eaten_within_5pct``
is the share of scenes whose eaten area is within 5 % of its final value at every tenth of the movie.
Scenarios: what the seed draws, 20 % bleaching whatever it draws, or nothing eaten.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

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


def score_one(folder: Path, *, preset: str, mode: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
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
    parser.add_argument("--output", type=Path, help="write all records as JSON")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", options.commit], capture_output=True, text=True, check=True
    ).stdout.strip()
    print(f"commit {commit}, {options.seeds} seeds, {options.scenes} x {options.frames} frames, {options.size} px")
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for mode in options.mode:
            for preset in options.preset:
                mine = []
                for seed in seeds_from_commit(commit, options.seeds):
                    mine += score_one(Path(folder), preset=preset, mode=mode, seed=seed, options=options)
                records += mine
                print(f"\n{mode}, {preset}: {len(mine)} scenes, {sum(r['n_sharp_frames'] for r in mine)} sharp frames")
                print(f"| {'figure':<24} | {'mean':>10} | {'worst':>10} | seed |\n|---|---|---|---|")
                for name in FIGURES:
                    values = np.array([r.get(name) for r in mine], float)
                    if np.isfinite(values).any():
                        worst = int(np.nanargmin(values) if name in LARGER_IS_BETTER else np.nanargmax(np.abs(values)))
                        mean, seed = np.nanmean(values), mine[worst]["seed"]
                        print(f"| {name:<24} | {mean:10.4f} | {values[worst]:10.4f} | {seed} |")
    if options.output:
        options.output.write_text(json.dumps({"commit": commit, "records": records}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
