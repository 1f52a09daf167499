from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from phagostat.model.acquisition import ChannelRole
from phagostat.report.finished import FinishedOutput
from phagostat.simulate import SceneOverrides, simulate
from phagostat.simulate import scenarios as say

from .pictures import LENGTHS, SIDE_PX, analyse


@pytest.fixture(scope="session")
def output_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysis that tests only look at: frame 2 blurred, 4 without phase contrast, 5 missing; a second scene."""
    root = tmp_path_factory.mktemp("report")
    many = SceneOverrides(parameters={"clump_density_per_mm2": 20_000.0})
    base = say.calm() | say.no_uptake() | say.stage_path([(0, 0), (13.0, -22.0), (4, 8), (-6, 30), (2, 2)]) | many
    scenario = {
        0: base | say.blurred_burst(2, 1, sigma_px=6.0) | say.missing_plane(4, 1) | say.missing_frame(5),
        1: say.calm() | say.no_uptake() | many | SceneOverrides(n_frames=LENGTHS[1]),
    }
    movie = root / "movie.czi"
    shape = (SIDE_PX, SIDE_PX + 64)
    simulate(movie, preset="easy", seed=3, scenes=2, frames=LENGTHS[0], shape_yx=shape, scenario=scenario)
    return analyse(movie, root / "results")


@pytest.fixture(scope="session")
def output(output_folder: Path) -> FinishedOutput:
    """The same, opened."""
    return FinishedOutput(output_folder)


@pytest.fixture
def own_folder(output_folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(output_folder, tmp_path / "results" / "movie"))


@pytest.fixture(scope="session")
def cells_only(output: FinishedOutput, tmp_path_factory: pytest.TempPathFactory) -> FinishedOutput:
    """An analysis of an acquisition without an aggregate channel."""
    root = tmp_path_factory.mktemp("cells")
    folder = root / "lonely" / "scene_0" / "normalized_cell"
    folder.mkdir(parents=True)
    for frame in range(3):
        cv2.imwrite(str(folder / f"{frame}.png"), output.image(1, frame, ChannelRole.CELLS))
    given = ("acquisition.pixel_size_um=0.206", "acquisition.interval_s=120", "acquisition.cells=0")
    return FinishedOutput(analyse(root / "lonely", root / "results", *given))
