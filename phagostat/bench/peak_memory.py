"""How much memory a method needs: a fresh process each, which does one pair and reads its own high-water mark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from phagostat.bench.camera import Counts

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def peak_memory(method: str, reference: Counts, *, moving: Counts) -> dict[str, Any]:
    """Measure a method's peak memory on one pair, on one thread.

    Returns
    -------
    dict
        ``peak_mib``: high-water mark of the resident set of a process that has done nothing else; ``before_mib``: the
        same before the method ran, with libraries and both frames loaded. None, with a ``reason``, where the system
        does not tell (``/proc/self/status``).
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.npy"
        np.save(path, np.stack([reference, moving]))
        try:
            done = subprocess.run(
                [sys.executable, "-m", __name__, method, str(path)],
                capture_output=True, text=True, check=True, env=os.environ | _ONE_THREAD,
            )  # fmt: skip
            found: dict[str, Any] = json.loads(done.stdout)
        except (subprocess.CalledProcessError, ValueError) as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            return {"peak_mib": None, "before_mib": None, "reason": said[-1] if said else type(error).__name__}
    return found


def high_water_mib() -> float | None:
    """Give the largest resident set that this process has had, MiB; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def _measure(method: str, path: str) -> dict[str, Any]:
    """Do one pair; runs in the child."""
    import cv2  # noqa: PLC0415 - the child alone

    from phagostat.kernels.translation import METHODS, estimate_translation, prepare_reference  # noqa: PLC0415

    cv2.setNumThreads(1)
    reference, moving = np.load(path, mmap_mode="r")
    reference, moving = np.array(reference), np.array(moving)
    if method not in METHODS:
        msg = f"unknown method {method}"
        raise ValueError(msg)
    before = high_water_mib()
    estimate_translation(prepare_reference(reference), moving, method=method)
    return {"peak_mib": high_water_mib(), "before_mib": before}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(*sys.argv[1:3])))
