"""CPU and memory of the running pipeline, per frame pair: reading, every step, committing, checking, dask.

    python benchmarks/pipeline.py [--size 2048] [--frames 24 96] [--repeats 3] [--workers 1] [--json]

A movie of a few simulated frames, repeated, is written as an uncompressed CZI and run twice, short and long; the
difference of their CPU times over the difference of their frames is the cost of a frame pair without start-up. Runs
are interleaved; figures are medians with ranges. The CPU time is that of the driver, the scheduler and all workers
together, as the operating system counts it. The journal's times of reading and of each step are what is not dask,
commits and checks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from pylibCZIrw import czi as pyczi

from phagostat.simulate.movie import iter_frames
from phagostat.simulate.spec import SimulationSpec

DISTINCT = 6


def write_movie(path: Path, size: int, frames: int) -> None:
    """A CZI of ``frames`` frame pairs, made of a few distinct simulated ones."""
    pairs = _pairs(path.parent / f"pairs-{size}.npy", size)
    with pyczi.create_czi(str(path), exist_ok=True) as document:
        for t in range(frames):
            for channel in (0, 1):
                plane = pairs[t % DISTINCT, channel][..., None]
                document.write(
                    data=plane, plane={"C": channel, "T": t, "Z": 0}, scene=0, compression_options="uncompressed:"
                )
        document.write_metadata(
            "benchmark",
            channel_names={0: "mCherry", 1: "PhC"},
            scale_x=0.103e-6,
            scale_y=0.103e-6,
        )


def _pairs(cache: Path, size: int) -> Any:
    if not cache.exists():
        spec = SimulationSpec(preset="easy", seed=7, scenes=1, frames=DISTINCT, shape_yx=(size, size))
        np.save(cache, np.stack([np.stack(frame.planes) for frame in iter_frames(spec)]))
    return np.load(cache, mmap_mode="r")


def run(movie: Path, workers: int) -> dict[str, Any]:
    """Run the pipeline on a movie in processes of its own: CPU, wall time, resident size, times of the steps."""
    with tempfile.TemporaryDirectory(dir=movie.parent) as output:
        command = [sys.executable, "-m", "phagostat.cli", "run", str(movie), "-o", output, "--workers", str(workers)]
        command += ["--interval-s", "120", "--aggregates", "0", "--cells", "1", "--quiet"]
        started = time.perf_counter()
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
        high: dict[int, int] = {}
        watcher = threading.Thread(target=_watch_memory, args=(process, high))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        watcher.join()
        wall = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"the run failed: {command}")
        steps: dict[str, float] = {}
        journal = Path(output) / movie.stem / "journal.jsonl"
        for line in journal.read_text("utf-8").splitlines():
            for step, seconds in json.loads(line).get("seconds", {}).items():
                steps[step] = steps.get(step, 0.0) + seconds
        driver = high.pop(process.pid, 0)
        return {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "wall_s": wall,
            "driver_mb": driver / 1024,
            "worker_mb": max(high.values(), default=driver) / 1024,
            "steps_s": steps,
        }


def _watch_memory(process: subprocess.Popen[bytes], high: dict[int, int]) -> None:
    """VmHWM in kB of the process and its descendants, as long as it lives."""
    while process.returncode is None:
        parents: dict[int, int] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                status = dict(
                    line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line
                )
                parents[int(folder.name)] = int(status["PPid"])
                size = int(status.get("VmHWM", "0").split()[0])
            except (OSError, KeyError, ValueError):
                continue
            if int(folder.name) == process.pid or _descends(int(folder.name), process.pid, parents):
                high[int(folder.name)] = max(size, high.get(int(folder.name), 0))
        time.sleep(0.1)


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    seen = 0
    while pid in parents and seen < 20:
        pid, seen = parents[pid], seen + 1
        if pid == ancestor:
            return True
        if pid not in parents:
            try:
                parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                return False
    return False


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):7.1f}  ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--frames", type=int, nargs=2, default=(24, 120), metavar=("SHORT", "LONG"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where movies are kept (default: a temporary folder)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        movies = {}
        for frames in options.frames:
            movies[frames] = folder / f"movie-{options.size}-{frames}.czi"
            if not movies[frames].exists():
                write_movie(movies[frames], options.size, frames)
            movies[frames].read_bytes()  # warm cache
        short, long = options.frames
        rounds = [
            {frames: run(movie, options.workers) for frames, movie in movies.items()} for _ in range(options.repeats)
        ]
    per_frame = [1000 * (r[long]["cpu_s"] - r[short]["cpu_s"]) / (long - short) for r in rounds]
    wall = [1000 * (r[long]["wall_s"] - r[short]["wall_s"]) / (long - short) for r in rounds]
    names = [name for name in rounds[0][long]["steps_s"] if name not in ("reference", "threshold")]
    steps = {
        name: [1000 * (r[long]["steps_s"][name] - r[short]["steps_s"][name]) / (long - short) for r in rounds]
        for name in names
    }
    rest = [total - sum(steps[name][i] for name in names) for i, total in enumerate(per_frame)]
    result = {
        "frame": [options.size, options.size],
        "workers": options.workers,
        "cpu_ms": per_frame,
        "wall_ms": wall,
        "steps_cpu_ms": steps,
        "dask_commit_check_cpu_ms": rest,
        "worker_vmhwm_mb": [r[long]["worker_mb"] for r in rounds],
        "driver_vmhwm_mb": [r[long]["driver_mb"] for r in rounds],
        "start_up_cpu_s": [r[short]["cpu_s"] - short * p / 1000 for r, p in zip(rounds, per_frame, strict=True)],
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"per frame pair of {options.size} x {options.size}, {options.workers} worker(s), median (range), ms of CPU")
    print(f"  all                      {spread(per_frame)}")
    for name in names:
        print(f"    {name:<22} {spread(steps[name])}")
    print(f"    dask, commits, checks  {spread(rest)}")
    print(f"  wall time                {spread(wall)}")
    print(f"VmHWM of a worker, MB      {spread(result['worker_vmhwm_mb'])}")
    print(f"VmHWM of the driver, MB    {spread(result['driver_vmhwm_mb'])}")


if __name__ == "__main__":
    main()
