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

## Where the largest errors of the eaten area come from

Simulated movies of 1024 x 1024 px and 24 frames; eight scenes of each preset and mode, of seeds that little was
chosen by. Each figure of the lower rows (at 3dc8b8c) is the sum of the absolute errors of single aggregates, at the
tenth with the largest error of the scene, as a share of its final true eaten area (at least 5 um2). Single errors
partly cancel: the scenes' errors are smaller.

| | default | default, semi | hard | hard, semi |
|---|---|---|---|---|
| largest error of a scene, mean; worst | 0.087; 0.25 | 0.097; 0.42 | 0.126; 0.25 | 0.123; 0.22 |
| scenes within 5, 10, 20 % | 0.25, 0.88, 0.88 | 0.62, 0.75, 0.88 | 0.12, 0.38, 0.88 | 0.12, 0.38, 0.75 |
| the same scenes at cfb0c89: mean; within 10 % | 0.213; 0.25 | 0.157; 0.25 | 0.208; 0.38 | 0.154; 0.50 |
| eaten alone in its label: how large it was, when it went | 0.053 | 0.061 | 0.093 | 0.044 |
| clumps: several true aggregates in one label | 0.043 | 0.011 | 0.093 | 0.038 |
| pushed, or crept up to a neighbour, and taken for eaten | 0.020 | 0.058 | 0.024 | 0.012 |
| carried off in one piece | 0.009 | 0.003 | 0.034 | 0.072 |
| labels that no true aggregate lies in | 0.025 | 0.008 | 0.014 | 0.014 |
| kept for other reasons: focus, light of earlier meals | 0.013 | 0.005 | 0.051 | 0.029 |

- **How large it was.** The outlines are those of a frame that is a little out of focus, over haze and uneven glow:
  areas are 2 to 3 % too large in `default`, up to 8 % in `hard`. With the true areas, and the same pixels, this part
  falls by half. A tilt of the glass explains little of it: with the true tilt taken out of the reference frame 0.75
  instead of 0.69 of 16 synthetic scenes (`default`) were within 10 %, with the tilt that can be estimated 0.62, and
  real textures are taken for tilt. So none is taken out. In `hard` uneven glow is taken for the lamp's loss as well,
  which makes the threshold up to 18 % too low.
- **When it went.** A bite glows on in its place with a half-life of one to four minutes. That it was taken is seen in
  the frame in which it dims, once the next frame shows it gone; in the last frame only what has just dimmed counts.
- **Carried off in the last frames, or pushed.** What has moved a few um in the last one or two frames may be in a cell
  or on its way along the glass. In a cell its light falls by 1 to 2 % a frame, about as much as the light of one sight
  scatters (2 to 3 %): nothing tells. One that is taken in the very last frame has not moved yet, and dims by 1 %.
- **Clumps.** A member that is washed away at once, or carried off in its own shape, is told from the others. Of members
  that creep over one another, or go while another one is eaten, the sum is known and not whose it is.
- **Little is eaten in a short movie**, 2 to 100 um2 in these: one aggregate of 5 um2 may be half of it. Over 60 frames
  (three seeds each) the largest errors are 0.042, 0.052, 0.069 and 0.072 in the mean.
- **Nothing eaten** (three seeds each): 0.005, 0.002, 0.043 and 0.004 of the reference area in the mean, worst 0.008,
  0.004, 0.107 and 0.006.

On 20 seeds of each that were drawn after all of this (64b63e2, [performance](performance.md)) the largest errors are
0.126, 0.109, 0.165 and 0.133 in the mean, with 0.55, 0.70, 0.40 and 0.35 of the scenes within 10 %: eight are few.

`eaten_area_se_um2` of the table `eaten` is fitted to such errors on 87 scenes. On these and the scenes without uptake
69 % of the errors are within one standard error and 85 % within two.
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
