"""A truth made by hand, so small that every figure of a score can be worked out, and the run that matches it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phagostat.simulate import Truth, read_truth
from phagostat.simulate.truth import LabelWriter, Table, write_truth
from phagostat.study.run import Run

N_FRAMES = 11  # so that the tenths of the movie are its frames 1 to 10
REFERENCE = 2
SIDE_PX = 80
REDUCTION = 2
PIXEL_UM = 0.1
KEPT, EATEN, DETACHED, PUSHED, CUT, LEAVING = range(6)
"""Aggregates. The border cuts CUT in the reference frame; LEAVING is eaten when no frame shows it any more."""

_FATES = ("kept", "eaten", "detached", "kept", "eaten", "eaten")
_PLACES_YX = ((16, 16), (36, 30), (50, 16), (16, 40), (78, 30), (60, 66))
FOUND_FATES = ("kept", "eaten", "detached", "moved", "censored", "censored")


def shift_x_px(frame: int) -> float:
    """The stage drifts by one px of the analysis grid a frame."""
    return float(REDUCTION * frame)


def true_area_um2(aggregate: int, frame: int) -> float:
    """What is there of an aggregate."""
    if aggregate == EATEN:
        return max(6.0 - frame, 0.0)
    if aggregate == CUT:
        return 8.0 if frame < 4 else 0.0
    gone_from = {DETACHED: 6, LEAVING: 9}.get(aggregate, N_FRAMES)
    whole = {KEPT: 2.0, DETACHED: 1.5, PUSHED: 2.5, LEAVING: 0.5}[aggregate]
    return whole if frame < gone_from else 0.0


def true_place_yx_px(aggregate: int, frame: int) -> tuple[float, float]:
    """Where an aggregate lies on the glass."""
    y, x = _PLACES_YX[aggregate]
    return (y + 20.0, float(x)) if aggregate == PUSHED and frame >= 4 else (float(y), float(x))


def label_image(frame: int) -> np.ndarray:
    """Two cells of 10 x 10: the first lies still on the glass, the second moves against the stage's drift."""
    image = np.zeros((SIDE_PX // REDUCTION,) * 2, np.uint16)
    image[5:15, 2 + frame : 12 + frame] = 1
    image[25:35, 20:30] = 2
    return image


def write_hand_made(folder: Path, *, uptake: bool = True, defocus_px: dict[int, float] | None = None) -> Truth:
    """Write the truth and read it."""
    frames = np.arange(N_FRAMES)
    n = 6
    aggregate, frame = (index.ravel() for index in np.meshgrid(np.arange(n), frames, indexing="ij"))
    area = np.array([true_area_um2(a, f) for a, f in zip(aggregate, frame, strict=True)])
    if not uptake:
        area = np.array(
            [true_area_um2(a, 0) if _FATES[a] == "eaten" else v for a, v in zip(aggregate, area, strict=True)]
        )
    first = np.array([true_area_um2(a, 0) for a in aggregate])
    taken = np.array([_FATES[a] == "eaten" for a in aggregate])
    place = np.array([true_place_yx_px(a, f) for a, f in zip(aggregate, frame, strict=True)])
    seen_x = place[:, 1] + np.array([shift_x_px(f) for f in frame])
    cells = np.repeat([0, 1], N_FRAMES)
    at = np.tile(frames, 2)
    glass_x = np.where(cells == 0, 2 * 6.5 + 0.5, 2 * 24.5 + 0.5 - REDUCTION * at)
    blur = defocus_px or {}
    write_truth(
        folder,
        document={
            "generator": "by hand", "pixel_size_um": PIXEL_UM, "reduction": REDUCTION, "interval_s": 120.0,
            "scenes": [{"n_frames": N_FRAMES, "shape_yx": [SIDE_PX, SIDE_PX]}],
        },
        frames={
            "scene": np.zeros(N_FRAMES, int), "frame": frames, "time_s": 120.0 * frames,
            "shift_y_px": np.zeros(N_FRAMES), "shift_x_px": np.array([shift_x_px(f) for f in frames]),
            "defocus_sigma_px": np.array([blur.get(f, 0.0) for f in frames]), "bleaching_factor": np.ones(N_FRAMES),
            "illumination_aggregates": np.ones(N_FRAMES), "illumination_cells": np.ones(N_FRAMES),
            "state": np.full(N_FRAMES, "normal", object), "missing_channels": np.full(N_FRAMES, "", object),
        },
        aggregates={
            "scene": np.zeros(n, int), "aggregate": np.arange(n), "fate": np.array(_FATES, object),
            "cell": np.full(n, -1), "eaten_from_frame": np.full(n, -1), "eaten_to_frame": np.full(n, -1),
            "decoy": np.full(n, "", object), "partner": np.full(n, -1), "area_first_um2": np.zeros(n),
            "area_last_um2": np.zeros(n),
        },
        areas={
            "scene": np.zeros(len(area), int), "frame": frame, "aggregate": aggregate, "area_um2": area,
            "y_px": place[:, 0], "x_px": place[:, 1], "in_view": (seen_x >= 0) & (seen_x <= SIDE_PX - 1),
            "eaten_area_um2": np.where(taken, first - area, 0.0),
        },
        tracks={
            "scene": np.zeros(len(at), int), "frame": at, "cell": cells,
            "y_px": np.where(cells == 0, 19.5, 59.5), "x_px": glass_x, "area_um2": np.full(len(at), 4.0),
            "alive": np.ones(len(at), bool), "touches_border": np.zeros(len(at), bool),
        },
    )  # fmt: skip
    labels = LabelWriter(folder, 1)
    for number in range(N_FRAMES):
        labels.write(0, label_image(number))
    labels.close()
    return read_truth(folder)


def matching_run(truth: Truth) -> Run:
    """Build what a run without any error would have found; its arrays are free to be changed."""
    frames = np.arange(N_FRAMES)
    blurred = truth.frames["defocus_sigma_px"] >= 2.0
    drift = np.array([shift_x_px(f) for f in frames])
    followed = (KEPT, EATEN, DETACHED, PUSHED)
    areas = truth.areas
    eaten = np.array([
        areas["eaten_area_um2"][np.isin(areas["aggregate"], followed) & (areas["frame"] == f)].sum() for f in frames
    ])  # fmt: skip
    whole = np.array(
        [areas["area_um2"][(areas["aggregate"] == a) & (areas["frame"] == REFERENCE)][0] for a in range(6)]
    )
    left = np.array(
        [areas["area_um2"][(areas["aggregate"] == a) & (areas["frame"] == N_FRAMES - 1)][0] for a in range(6)]
    )
    place = np.array(_PLACES_YX, float) + np.array([0.0, shift_x_px(REFERENCE)])
    half = np.sqrt(whole / np.pi) / PIXEL_UM / REDUCTION
    centre = (place + 0.5) / REDUCTION
    cut = np.arange(6) == CUT
    tables: dict[str, Table] = {
        "eaten": {
            "scene": np.zeros(N_FRAMES, int), "frame": frames.copy(), "eaten_area_um2": eaten - eaten[REFERENCE],
        },
        "scenes": {"scene": np.zeros(1, int), "reference_area_um2": np.array([whole[[*followed, LEAVING]].sum()])},
        "fates": {
            "scene": np.zeros(6, int), "glass_y_um": place[:, 0] * PIXEL_UM, "glass_x_um": place[:, 1] * PIXEL_UM,
            "reference_area_um2": whole, "area_left_um2": left, "fate": np.array(FOUND_FATES, object),
        },
        "aggregates": {
            "scene": np.zeros(6, int), "frame": np.full(6, REFERENCE), "y_px": place[:, 0], "x_px": place[:, 1],
            "top_px": np.floor(centre[:, 0] - half), "left_px": np.floor(centre[:, 1] - half),
            "bottom_px": np.ceil(centre[:, 0] + half), "right_px": np.ceil(centre[:, 1] + half), "touches_border": cut,
        },
        "cells": {
            "scene": np.zeros(2 * N_FRAMES, int), "frame": np.tile(frames, 2), "cell": np.repeat([1, 2], N_FRAMES),
            "track": np.repeat([1, 2], N_FRAMES), "registered_y_um": np.repeat([2.0, 6.0], N_FRAMES),
            "registered_x_um": np.concatenate([np.full(N_FRAMES, 1.5), 6.0 - 0.2 * frames]),
            "touches_border": np.zeros(2 * N_FRAMES, bool),
        },
    }  # fmt: skip
    images = [label_image(f) for f in frames]
    return Run(
        {
            "scene": np.zeros(N_FRAMES, int), "frame": frames.copy(), "verdict": np.full(N_FRAMES, "ok", object),
            "is_reference": frames == REFERENCE, "shift_y_px": np.zeros(N_FRAMES),
            "shift_x_px": drift - drift[REFERENCE], "usable": ~blurred,
            "focus": np.where(blurred, "blurred", "sharp").astype(object),
        },
        tables,
        lambda scene, frame: images[frame],
    )  # fmt: skip
