"""Put a benchmark's tables into docs/registration.md and draw its pictures.

``phagostat bench registration --json all.json`` first, then ``python docs/make_registration.py all.json``; parts of a
benchmark that were run apart (``--tables``) may be given together. The picture
of the voting tiles needs the real frame: ``--reference aggregates.png``; without it a simulated field is shown.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from phagostat.bench.camera import rounding_camera
from phagostat.bench.command import real_data
from phagostat.bench.picture import PictureGlass
from phagostat.bench.shifts import EXACT, OPENCV4
from phagostat.bench.spots import SpotGlass
from phagostat.bench.text import registration_text
from phagostat.kernels.translation import estimate_translation, prepare_reference

PAGE = Path(__file__).with_name("registration.md")
PICTURES = Path(__file__).with_name("pictures")
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
GREEN, RED, BLUE, ORANGE = "#1b9e77", "#d62728", "#3b6fb6", "#e6861a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="of one run, or of several that made a part each")
    parser.add_argument("--reference", type=Path)
    given = parser.parse_args()
    document, *others = (json.loads(path.read_text("utf-8")) for path in given.results)
    for other in others:
        for name in ("n", "n_slow", "seed", "side_px", "reference"):
            if other["settings"][name] != document["settings"][name]:
                raise SystemExit(f"these are not parts of one benchmark: {name} differs")
        document["tables"] |= other["tables"]
    put_tables(document)
    reference = given.reference
    if reference is None and (data := real_data()) is not None:
        reference = data / "microglia" / "aggregates.png"
    draw_votes(reference)
    if "noise" in document["tables"]:
        draw_noise(document["tables"]["noise"])
    if "shifts" in document["tables"]:
        draw_rounding(document["tables"]["shifts"])


def put_tables(document: dict[str, Any]) -> None:
    """Replace what stands between the page's marks."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = registration_text(document).replace("\n## ", "\n### ")
    first, second, *others = text.split("\n")
    text = "\n".join([first + "  ", second, *others])
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def draw_votes(reference: Path | None) -> None:
    """Which tiles find themselves where the estimate says, on a field of which six of ten aggregates were moved."""
    side = 1024
    glass = SpotGlass.draw(side_px=side, seed=0) if reference is None else PictureGlass.read(reference, side)
    random = np.random.default_rng(11)
    which = random.permutation(glass.n_aggregates)[: round(0.6 * glass.n_aggregates)]
    true = (41.3, -67.8)
    camera = rounding_camera(glass)
    frame = camera.record(glass.frame())
    moving = camera.record(glass.moved(which, random.normal(0, 25, (len(which), 2))).frame(true))
    prepared = prepare_reference(frame)
    estimate = estimate_translation(prepared, moving)
    size, reach = prepared.tile_px, 20
    whole = np.rint(estimate.shift_yx_px).astype(int)
    found, origins, known = [], [], []
    for top, left in prepared.tile_origin_yx_px.tolist():
        y, x = top + whole[0] - reach, left + whole[1] - reach
        patch = moving[max(y, 0) : y + size + 2 * reach, max(x, 0) : x + size + 2 * reach]
        if min(y, x) < 0 or patch.shape != (size + 2 * reach,) * 2:
            continue
        score = cv2.matchTemplate(patch, frame[top : top + size, left : left + size], cv2.TM_CCOEFF_NORMED)
        row, column = divmod(int(score.argmax()), score.shape[1])
        found.append((row - reach, column - reach))
        origins.append((top, left))
        known.append(float(score.max()))
    agrees = np.hypot(*np.array(found).T) < 1.5
    figure, (left_axis, right_axis) = plt.subplots(1, 2, figsize=(11, 5.6), layout="constrained")
    for axis, image, offset, title in (
        (left_axis, frame, np.zeros(2), "reference, with the tiles that can be looked for"),
        (right_axis, moving, np.array(estimate.shift_yx_px), "the frame: 60 % of its aggregates were moved"),
    ):
        axis.imshow(np.sqrt(image.astype(float) - image.min()), cmap="gray")
        for (top, left), agreeing in zip(origins, agrees, strict=True):
            corner = (left + offset[1], top + offset[0])
            axis.add_patch(Rectangle(corner, size, size, fill=False, ec=GREEN if agreeing else RED, lw=1.6))
        axis.set_title(title, fontsize=11)
        axis.set(xlim=(0, side), ylim=(side, 0))
        axis.set_axis_off()
    middles = np.array(origins)[:, ::-1] + size / 2 + offset[::-1]
    ends = middles + np.array(found)[:, ::-1]
    wrong = ~agrees
    right_axis.add_collection(
        LineCollection([(a, b) for a, b in zip(middles[wrong], ends[wrong], strict=True)], colors=RED, lw=2)
    )
    error = np.subtract(estimate.shift_yx_px, true)
    figure.suptitle(
        f"green: {np.count_nonzero(agrees)} tiles that find themselves where the shift puts them;"
        f" red: {np.count_nonzero(wrong)} that do not, and where they would go\n"
        f"error of the shift: {np.hypot(*error):.4f} px",
        fontsize=11,
    )
    figure.savefig(PICTURES / "registration_votes.png", dpi=80)


def draw_noise(noise: dict[str, Any]) -> None:
    """Errors in units of the Cramer-Rao bound."""
    figure, axes = plt.subplots(1, len(noise["levels"]), figsize=(11, 3.4), layout="constrained", sharey=True)
    edges = np.linspace(-5, 5, 31)
    line = np.linspace(-5, 5, 300)
    for axis, level in zip(np.atleast_1d(axes), noise["levels"], strict=True):
        name = f"light {level['light']:g}"
        rows = [t for t in noise["trials"] if t["case"] == name and t["method"] == "tiles" and t["reason"] is None]
        error = np.subtract([t["found_yx_px"] for t in rows], [t["true_yx_px"] for t in rows])
        bound = np.array([t["bound_yx_px"] for t in rows])
        ratio = (error / bound).ravel()
        axis.hist(np.clip(ratio, -5, 5), edges, density=True, color=BLUE, alpha=0.75, label="errors, x and y")
        normal = np.exp(-(line**2) / 2) / np.sqrt(2 * np.pi)
        axis.plot(line, normal, color=ORANGE, lw=2, label="the Cramér-Rao bound")
        rms = np.sqrt(np.mean(ratio**2))
        bound_px = np.sqrt(np.mean(bound**2))
        axis.set_title(f"{name}: {len(rows)} pairs, bound {bound_px:.2g} px,\nRMS error {rms:.2f} of it", fontsize=10)
        axis.set_xlabel("error / bound")
    axes = np.atleast_1d(axes)
    axes[0].set_ylabel("density")
    axes[0].legend(fontsize=8, loc="upper left")
    figure.savefig(PICTURES / "registration_noise.png", dpi=80)


def draw_rounding(shifts: dict[str, Any]) -> None:
    """Errors against the place within 1/32 px: a saw tooth where OpenCV 4 rounded the shift, nothing where exact."""
    figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for cases, colour, label in (
        ((OPENCV4,), RED, "frames warped as OpenCV 4 does"),
        (EXACT[:1], GREEN, "exact frames"),
    ):
        rows = [t for t in shifts["trials"] if t["case"] in cases and t["method"] == "tiles" and t["reason"] is None]
        true = np.array([t["true_yx_px"] for t in rows]).ravel()
        error = np.array([t["found_yx_px"] for t in rows]).ravel() - true
        axis.plot((true * 32 + 0.5) % 2 - 0.5, error, ".", ms=4 if len(true) < 500 else 2.5, color=colour, label=label)
    teeth = np.linspace(-0.5, 1.5, 401)
    saw = (np.floor(teeth + 0.5) - teeth) / 32
    saw[np.abs(np.diff(saw, append=saw[-1])) > 0.01] = np.nan
    axis.plot(teeth, saw, color="black", lw=0.8, label="rounding to 1/32 px")
    axis.axhline(0, color="gray", lw=0.6)
    axis.set(xlabel="true shift, in units of 1/32 px, modulo 2", ylabel="error of the estimate, px", xlim=(-0.5, 1.5))
    axis.legend(fontsize=8, loc="upper right")
    axis.set_title("the same method on both: the published error of 0.008 px is that of the frames", fontsize=10)
    figure.savefig(PICTURES / "registration_rounding.png", dpi=80)


if __name__ == "__main__":
    main()
