"""Draw overview.png from the demonstration's results: ``python docs/pictures/overview.py demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import zarr

mpl.use("agg")
import matplotlib.pyplot as plt


def main(demo: Path) -> None:
    results = demo / "results/acquisition"
    frames = pd.read_parquet(results / "tables/frames.parquet")
    scene = int((frames.verdict != "ok").groupby(frames.scene).sum().idxmax())
    frames = frames[frames.scene == scene]
    images = zarr.open_group(results / "images.zarr", mode="r")
    shown = int(frames.loc[frames.is_reference, "frame"].iloc[0])
    cells, aggregates = images[f"{scene}/0"][shown, 1], images[f"{scene}/0"][shown, 0]
    labels = images[f"{scene}/labels/aggregates/0"][shown, 0]
    figure = plt.figure(figsize=(12, 4.2), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 1.25))
    for column, (image, colours, title) in enumerate(
        ((cells, "gray", "cells, phase contrast"), (aggregates, "magma", "aggregates, outlined as labelled"))
    ):
        axis = figure.add_subplot(grid[:, column])
        axis.imshow(image, cmap=colours)
        if column == 1:
            axis.contour(labels > 0, levels=[0.5], colors="cyan", linewidths=0.6)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    minutes = frames.time_s / 60
    top, bottom = figure.add_subplot(grid[0, 2]), figure.add_subplot(grid[1, 2])
    top.plot(minutes, frames.shift_y_px, ".-", label="y")
    top.plot(minutes, frames.shift_x_px, ".-", label="x")
    for minute in minutes[frames.verdict != "ok"]:
        top.axvline(minute, color="tab:red", alpha=0.35, lw=3)
    top.set_ylabel("stage shift, px")
    top.set_title("red: frames that cannot be used, said so and not guessed", fontsize=10)
    top.legend(fontsize=8)
    bottom.plot(minutes, frames.aggregate_area_um2, ".-", color="black")
    bottom.set(xlabel="time, min", ylabel="aggregate area, um$^2$")
    figure.savefig(Path(__file__).with_name("overview.png"), dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
