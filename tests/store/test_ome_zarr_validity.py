"""What phagostat writes is OME-Zarr 0.5, as others see it: ome-zarr-py reads it, ome-zarr-models validates it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from phagostat.engine.executor import SynchronousExecutor
from phagostat.engine.outputs import analysis_job, conversion_job, run_job
from phagostat.settings import profile_settings
from phagostat.sources.channel_roles import resolve
from phagostat.store.layout import Layout

from ..engine.film import Film
from ..engine.scenes import LENGTHS, SIDE_PX, Movie

SCRIPT = Path(__file__).with_name("validate_ome_zarr.py")
REPOSITORY = Path(__file__).resolve().parents[2]
WIDE = (32, 2100)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory) -> Path:
    movie = Movie()
    root = tmp_path_factory.mktemp("analysis")
    job = analysis_job(movie, resolve(movie.metadata), profile_settings(), root)
    run_job(job, SynchronousExecutor())
    return Layout.analysis(root).images


@pytest.fixture(scope="module")
def wide() -> Film:
    return Film(frames=(3, 2), shape_yx=WIDE)


@pytest.fixture(scope="module")
def conversion(tmp_path_factory, wide) -> Path:
    root = tmp_path_factory.mktemp("conversion") / "movie.zarr"
    run_job(conversion_job(wide, profile_settings(), root), SynchronousExecutor())
    return root


def nodes(path: Path) -> list:
    """The images that ome-zarr-py finds at a path."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the reader's own making
        location = parse_url(path, mode="r")
        assert location is not None, f"ome-zarr-py sees nothing at {path}"
        return list(Reader(location)())


def test_an_analysed_scene_is_read_by_ome_zarr_py(analysis):
    for scene, n_frames in enumerate(LENGTHS):
        image, *others = nodes(analysis / str(scene))
        assert [level.shape for level in image.data] == [(n_frames, 2, SIDE_PX // 2, SIDE_PX // 2)]
        assert image.data[0].dtype == np.uint8
        assert image.data[0].chunksize == (1, 1, SIDE_PX // 2, SIDE_PX // 2)
        assert [axis["name"] for axis in image.metadata["axes"]] == ["t", "c", "y", "x"]
        assert [axis.get("unit") for axis in image.metadata["axes"]] == ["second", None, "micrometer", "micrometer"]
        (transformations,) = image.metadata["coordinateTransformations"]
        assert transformations[0]["scale"] == pytest.approx([120.0, 1.0, 0.206, 0.206])
        assert image.metadata["channel_names"] == ["aggregates", "cells"]
        assert image.data[0][0].compute().any()
        labels = [node for node in others if "labels/aggregates " in f"{node.zarr} "]
        assert len(labels) == 1, [str(node.zarr) for node in others]
        assert labels[0].data[0].shape == (n_frames, 1, SIDE_PX // 2, SIDE_PX // 2)
        assert labels[0].data[0].dtype == np.uint16
        assert labels[0].data[0][0].compute().max() > 1


def test_a_wide_conversion_has_a_pyramid_whose_levels_lie_over_each_other(conversion, wide):
    for scene, n_frames in enumerate(wide.frames):
        image = nodes(conversion / str(scene))[0]
        assert [level.shape for level in image.data] == [
            (n_frames, 2, *WIDE),
            (n_frames, 2, WIDE[0] // 2, WIDE[1] // 2),
        ]
        full, half = image.metadata["coordinateTransformations"]
        assert [t["type"] for t in full] == ["scale"]
        assert full[0]["scale"] == pytest.approx([120.0, 1.0, 0.103, 0.103])
        assert half[0]["scale"] == pytest.approx([120.0, 1.0, 0.206, 0.206])
        assert half[1]["translation"] == pytest.approx([0.0, 0.0, 0.0515, 0.0515])
        assert image.metadata["channel_names"] == ["mCherry", "PhC"]
        for t in range(n_frames):
            for c in (0, 1):
                plane = wide.read(scene, t, c)
                np.testing.assert_array_equal(image.data[0][t, c].compute(), plane)
                means = plane.reshape(WIDE[0] // 2, 2, WIDE[1] // 2, 2).mean(axis=(1, 3))
                np.testing.assert_array_equal(image.data[1][t, c].compute(), np.floor(means + 0.5))


# ---- the validator ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def validator() -> Path:
    """Python of an environment with ome-zarr-models, which wants pydantic 2 and so cannot live beside btrack."""
    folder = Path(os.environ.get("PHAGOSTAT_VALIDATOR", REPOSITORY / ".venv-validator"))
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no environment for the validator could be made: {made.stderr.strip()[-200:]}")
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "ome-zarr-models>=1.4,<2"]
        pip = subprocess.run(install, capture_output=True, text=True, timeout=600)
        if pip.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"ome-zarr-models cannot be installed here: {pip.stderr.strip()[-200:]}")
        (folder / "ready").touch()
    return python


def validate(python: Path, *groups: tuple[str, Path]) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [f"{kind}={path}" for kind, path in groups]
    found = subprocess.run(
        [python, SCRIPT, *arguments], capture_output=True, text=True, timeout=120, env=environment, check=True
    )
    return found.stdout.splitlines()


@pytest.mark.slow
def test_everything_is_valid(analysis, conversion, validator):
    groups = [("BioFormats2Raw", analysis), ("BioFormats2Raw", conversion)]
    groups += [("Image", conversion / scene) for scene in "01"]
    for scene in range(len(LENGTHS)):
        image = analysis / str(scene)
        groups += [("Image", image), ("Labels", image / "labels"), ("ImageLabel", image / "labels/aggregates")]
    assert dict(zip(groups, validate(validator, *groups), strict=True)) == dict.fromkeys(groups, "valid")


BREAKS = {
    "an axis without a name": lambda ome: ome["multiscales"][0]["axes"][0].pop("name"),
    "an unknown kind of axis order": lambda ome: ome["multiscales"][0]["axes"].reverse(),
    "a scale of other length": lambda ome: ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0].update(
        scale=[1.0]
    ),
    "a level that is not there": lambda ome: ome["multiscales"][0]["datasets"][0].update(path="nine"),
    "no multiscales": lambda ome: ome.pop("multiscales"),
    "another version": lambda ome: ome.update(version="0.9"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_the_validator_finds_what_is_broken(conversion, validator, tmp_path, name):
    copy = tmp_path / "broken"
    shutil.copytree(conversion / "0", copy)
    document = json.loads((copy / "zarr.json").read_text())
    BREAKS[name](document["attributes"]["ome"])
    (copy / "zarr.json").write_text(json.dumps(document))
    (line,) = validate(validator, ("Image", copy))
    assert line.startswith("invalid"), line
