"""The published code and phagostat on the same movie, in turn.

    git clone https://github.com/ounissimehdi/PhagoStat ../PhagoStat    # anywhere outside this repository
    pip install natsort shapely imantics btrack torch                   # what it imports beside phagostat's own
    python benchmarks/published.py --code ../PhagoStat --folder /tmp/movies [--frames 12] [--size 2048] [--repeats 3]

Times ``czi_to_frames``, ``aggregates_field_registration`` and ``aggregates_detection_tracking`` of the published
code, unchanged, on one thread, against ``phagostat run --workers 1`` on the same uncompressed CZI: reading,
normalising, shifts, sharpness, aggregates, all written to disk. The published reference image for the cells'
histogram cannot be had; the movie's first cell frame takes its place. Medians with ranges over interleaved rounds,
per frame pair; phagostat's start-up is left out by the difference of a long and a short movie, the published code's
by timing inside the process.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from PIL import Image
from pipeline import run, spread, write_movie
from skimage.util import img_as_ubyte

from phagostat.sources import open_source


def published_times(code: ModuleType, movie: Path, frames: int) -> dict[str, float]:
    """CPU ms a frame pair of each part of the published code, as it is called by its own interface."""
    first = open_source(movie).read(0, 0, 1)
    with tempfile.TemporaryDirectory(dir=movie.parent) as folder:
        reference = Path(folder) / "cell_reference.tif"
        Image.fromarray(img_as_ubyte(first)).save(reference)
        out, scene = f"{folder}/out", f"{folder}/out/scene_0"
        raw, registered = f"{scene}/normalized_aggregate", f"{scene}/registered_aggregate"
        registration = {"offset": 0, "gauss_size": 3, "eps_err": 1e-4, "max_itr": 1000, "img_ext": ".png"}
        detection = {"blur_eps": 0.01, "search_frames": 14, "aggregates_th": 0.5, "frame_time": 2}
        parts = {
            "load and normalise": lambda: code.czi_to_frames(
                str(movie), out, 0, str(reference), 0, resize=(1024, 1024), img_ext=".png"
            ),
            "shift": lambda: code.aggregates_field_registration(raw, scene, 0.103**2, 2.0, **registration),
            "aggregates and blur": lambda: code.aggregates_detection_tracking(
                raw, registered, scene, (0.103 * 2) ** 2, 2400, save_detection_frames=True, img_ext=".png", **detection
            ),
        }
        times = {}
        for name, part in parts.items():
            started = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                part()
            times[name] = 1000 * (time.process_time() - started) / frames
        return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", type=Path, required=True, help="a checkout of the published code")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, required=True, help="where movies are kept")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    options.folder = options.folder.resolve()
    sys.path.insert(0, str(options.code.resolve()))
    os.chdir(options.code)  # it opens its font by a path from there
    import utils.help_functions as code  # noqa: PLC0415 - theirs

    options.folder.mkdir(parents=True, exist_ok=True)
    lengths = (options.frames, 5 * options.frames)
    movies = {n: options.folder / f"movie-{options.size}-{n}.czi" for n in lengths}
    for n, movie in movies.items():
        if not movie.exists():
            write_movie(movie, options.size, n)
    theirs: list[dict[str, float]] = []
    ours: list[float] = []
    for _ in range(options.repeats):
        theirs.append(published_times(code, movies[lengths[0]], options.frames))
        cpu = [run(movies[n], 1)["cpu_s"] for n in lengths]
        ours.append(1000 * (cpu[1] - cpu[0]) / (lengths[1] - lengths[0]))
    print(f"ms of CPU per frame pair of {options.size} x {options.size}, median (range) of {options.repeats} rounds")
    for name in theirs[0]:
        print(f"  published, {name:<22} {spread([times[name] for times in theirs])}")
    totals = [sum(times.values()) for times in theirs]
    print(f"  published, all {'':<18} {spread(totals)}")
    print(f"  phagostat, all {'':<18} {spread(ours)}")
    ratios = np.array(totals) / np.array(ours)
    print(f"  ratio {statistics.median(ratios):.0f} ({ratios.min():.0f} to {ratios.max():.0f})")


if __name__ == "__main__":
    main()
