"""Write docs/scores.md from what the scores say of themselves: ``python docs/make_scores.py``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from phagostat.study.score import LARGER_IS_BETTER, SceneScore
from phagostat.study.score_blur import BlurScore
from phagostat.study.score_cells import CellScore
from phagostat.study.score_eaten import EatenScore
from phagostat.study.score_fates import FateScore
from phagostat.study.score_tracks import TrackScore

HEAD = """# Scores

What `phagostat score OUT TRUTH` prints of a run and the truth of its movie ([its format](truth-format.md)), and
`benchmarks/scores.py` of many.

```sh
phagostat simulate movie.czi --scenes 1 --frames 6 --size 256
phagostat run movie.czi -o results
phagostat score results movie.truth
```

Each figure is of a scene. Printed are the mean of the scenes that have it and the worst scene: the largest absolute
value, or the smallest where ↑ says that more is better. `--json` has every scene, and of each true fate what its
aggregates were called. *Relative*: found minus true, over true, so -0.3 is 30 % too few. *Used* frames are those that
the run uses. Where there is nothing to compare `-` is printed, never 0; a part that a run has nothing for is named and
left out.
"""

PARTS: dict[str, Any] = {
    "Shifts, fading, aggregates": SceneScore,
    "Focus": BlurScore,
    "Eaten area": EatenScore,
    "Fates of aggregates": FateScore,
    "Cells": CellScore,
    "Tracks of cells": TrackScore,
}

UNITS = (
    (r"_um_per_min$", "um/min"),
    (r"_px$", "px (native)"),
    (r"_(share|auc|dice|f1|miou)$|_within_", "0 to 1"),
    (r"_share_over_|^share_", "0 to 1"),
    (r"_error|_without_uptake", "relative"),
    (r"^track_fragments$", "tracks a cell"),
    (r"_accepted$|_rejected$|_frames$|^n_|_compared$|_tracks$|_switches$|_without_truth$", "number"),
)
"""Units by what a name ends in; the first that fits."""

CAUSES = """
## Where the largest errors of cells come from

Simulated movies of 1024 x 1024 px and 26 frames, cells at 0.3 and 0.8 um/min, texture route, windows of five frames;
eight movies each of `default`, of `hard` and of the semi-synthetic mode (`default`); seeds of commit a80b1ff,
measured at 5f1cc26.

| | default | hard | semi |
|---|---|---|---|
| cell count, mean cell area (relative errors) | -0.27, +0.49 | -0.31, +0.55 | -0.27, +0.43 |
| true cells found; off the border | 0.61; 0.80 | 0.51; 0.78 | 0.34; 0.28 |
| not found: joined to another | 0.33 | 0.38 | 0.38 |
| not found: outline too different; missed; cut apart | 0.03; 0.02; 0.01 | 0.08; 0.03; 0.01 | 0.14; 0.10; 0.04 |
| tracks of a true cell; identity switches a step | 3.2; 0.25 | 3.2; 0.28 | 2.9; 0.23 |
| length, number of tracks (relative errors) | -0.62, +1.32 | -0.63, +1.20 | -0.64, +1.30 |
| mean speed, total movement (relative errors) | +1.7, +1.2 | +1.0, +0.9 | +0.4, +0.3 |
| speed over 10 min: all; where outlined | +0.87; +0.30 | +0.36; +0.22 | +0.01; +0.63 |
| share of sights that are outlined at both ends | 0.85 | 0.77 | 0.18 |

- **Count and area: neighbours of even texture are taken for one cell.** The mean area errs by what is missing in
  number, since the foreground itself is right (Dice 0.96 and 0.95). Many of the joined ones are slivers at the border
  of a field of 105 um: off the border four of five are found. Semi-synthetic cells have a tenth of the real
  resolution: their outlines are wrong as well.
- **Length of tracks, fragments, switches: the same neighbours part and join again from frame to frame**, and a track
  ends or changes over each time.
- **Speed: the centroid jumps when cells join or part**, and outlines jitter. The sights that do not outline one cell
  at both ends, a seventh to a quarter of all, bring most of the error over 10 min in `default` and two fifths of it
  in `hard`; what is left (*where outlined*) is the jitter of outlines. Both add to the way whatever the speed: the
  relative error falls from slow cells to fast ones. From frame to frame it is larger than over 10 min, so read speeds
  over 10 min.
- **Total movement** is the sum of the same steps.
"""


def unit(name: str) -> str:
    """Unit of a figure."""
    for pattern, said in UNITS:
        if re.search(pattern, name):
            return said
    raise ValueError(f"{name}: say its unit in UNITS")


def meanings(kind: Any) -> dict[str, str]:
    """What the docstring of a dataclass says of its fields; several names may share a description."""
    text = inspect.getdoc(kind) or ""
    block = re.split(r"\n(?=\w[^\n]*\n-{3,}\n)", text.split("Parameters\n----------\n", 1)[1])[0]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in block.splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(",")]
        elif names and line.strip():
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def figures(kind: Any) -> Iterator[tuple[str, str, str]]:
    """Names, unit and meaning of the figures of a part, in the order in which they are printed."""
    said = meanings(kind)
    names = [
        f.name
        for f in fields(kind)
        if f.name not in {"scene", "confusion", "blur", "eaten", "fates", "cells", "tracks"}
    ]
    for (meaning, measure), group in groupby(names, lambda name: (said[name], unit(name))):
        shown = ", ".join(f"`{name}`{' ↑' if name in LARGER_IS_BETTER else ''}" for name in group)
        yield shown, measure, meaning.replace("``", "`").rstrip(".")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, kind in PARTS.items():
        assert is_dataclass(kind)
        about = (inspect.getdoc(kind) or "").split("\n\nParameters", 1)[0].replace("\n\n", "\n").replace("``", "`")
        parts.append(f"\n## {title}\n\n{about}\n\n| figure | unit | meaning |\n|---|---|---|\n")
        parts += [f"| {names} | {measure} | {meaning} |\n" for names, measure, meaning in figures(kind)]
    return "".join([*parts, CAUSES])


if __name__ == "__main__":
    Path(__file__).with_name("scores.md").write_text(page(), "utf-8")
