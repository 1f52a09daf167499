"""Exports as a whole: what is written where, what is refused, and what a failure leaves."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

from phagostat.engine.columns import TABLES
from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import SettingsError, StoreError
from phagostat.report import destinations, export, gif
from phagostat.report.destinations import whole_file, whole_folder
from phagostat.report.export import KINDS, ExportOptions, export_output
from phagostat.report.finished import FinishedOutput
from phagostat.report.released import has_tracks
from phagostat.simulate import SceneOverrides, simulate
from phagostat.sources import open_source

from .pictures import analyse, snapshot

SMALL = ExportOptions(movie_suffixes=(".webp",), width_px=120)


@pytest.fixture(scope="module")
def tracked(output_folder, tmp_path_factory):
    """The analysis with tracks, made up where it has none of its own."""
    root = shutil.copytree(output_folder, tmp_path_factory.mktemp("tracked") / "results" / "movie")
    tables = root / "tables"
    cells = pq.read_table(tables / "cells.parquet")
    if "track" not in cells.column_names:
        links = {"track": pa.array(cells["cell"].to_numpy().astype(np.int32))}
        links |= {name: pa.array(np.zeros(len(cells))) for name in ("step_um", "speed_um_per_min")}
        for name, column in links.items():
            cells = cells.append_column(name, column)
        pq.write_table(cells, tables / "cells.parquet")
        pq.write_table(pa.table({"scene": [0], "track": [1], "kept": [True]}), tables / "tracks.parquet")
    return root


@pytest.fixture(scope="module")
def everything(tracked, tmp_path_factory):
    """All kinds of one acquisition, what was told of them, and the progress."""
    destination = tmp_path_factory.mktemp("everything") / "export"
    before = snapshot(tracked)
    steps = []
    told = export_output(
        tracked.parent, destination, kinds=KINDS, options=SMALL, progress=lambda *step: steps.append(step)
    )
    assert snapshot(tracked) == before  # an output is never written into
    return destination, told, steps


def test_a_large_gif_is_said_to_be_large(tracked, tmp_path, monkeypatch):
    small_gif = ExportOptions(movie_suffixes=(".gif",), width_px=64)
    (small,) = export_output(tracked, tmp_path / "a", kinds=("movie",), options=small_gif, scenes=(0,))
    assert small.notes == ()
    monkeypatch.setattr(gif, "LARGE_BYTES", 100)
    (large,) = export_output(tracked, tmp_path / "b", kinds=("movie",), options=small_gif, scenes=(0,))
    assert large.path.is_file()
    assert "--every 2" in large.notes[0]


def test_every_kind_has_its_place(everything):
    destination, told, steps = everything
    assert {path.name for path in (destination / "movie").iterdir()} == {
        "csv", "scene_0", "scene_1", "tiff", "png", "movies", "ctc",
    }  # fmt: skip
    assert [item.kind for item in told] == [
        "csv", "released", "released", "tiff", "tiff", "png", "png", "movie", "movie", "ctc",
    ]  # fmt: skip
    for item in told:
        files = [item.path] if item.path.is_file() else [p for p in item.path.rglob("*") if p.is_file()]
        files = [path for path in files if path.name != destinations.MARK]
        assert item.n_files == len(files) > 0
        assert item.n_bytes == sum(path.stat().st_size for path in files)
        assert item.acquisition == "movie"
    assert {step[2] for step in steps} >= {"tables", "scene 0", "movie of scene 1", "masks and tracks"}
    assert all(0 < done <= total for done, total, _ in steps)
    assert not [path for path in destination.rglob("*") if "partial" in path.name]


def test_tables_are_the_final_tables(everything, tracked):
    folder = everything[0] / "movie" / "csv"
    names = {path.stem for path in (tracked / "tables").glob("*.parquet")}
    assert {path.stem for path in folder.glob("*.csv")} == names | {"columns"}
    for name in names:
        stored, read = pd.read_parquet(tracked / "tables" / f"{name}.parquet"), pd.read_csv(folder / f"{name}.csv")
        assert list(read.columns) == list(stored.columns)
        assert len(read) == len(stored)
        for column in stored.columns:
            if stored[column].dtype.kind == "f":
                np.testing.assert_array_equal(read[column].astype(float), stored[column], err_msg=f"{name}.{column}")
            elif stored[column].dtype.kind in "iub":
                np.testing.assert_array_equal(read[column], stored[column], err_msg=f"{name}.{column}")
    assert "nan" not in (folder / "frames.csv").read_text().lower().replace("unregistered", "")
    about = pd.read_csv(folder / "columns.csv", keep_default_na=False)
    known = [(name, column.name, column.unit) for name in TABLES if name in names for column in TABLES[name]]
    assert sorted(zip(about.table, about.column, about.unit, strict=True)) == sorted(known)


def test_the_released_layout_reads_back_from_beside_the_other_kinds(everything, output):
    source = open_source(everything[0] / "movie")
    assert [scene.name for scene in source.metadata.scenes] == ["scene_0", "scene_1"]
    assert source.metadata.pixel_size_um == pytest.approx(output.pixel_size_um)
    np.testing.assert_array_equal(source.read(1, 2, 1), output.image(1, 2, ChannelRole.CELLS))


def test_the_same_bytes_every_time(everything, tracked, tmp_path):
    export_output(tracked, tmp_path, kinds=KINDS, options=SMALL)
    assert snapshot(tmp_path) == snapshot(everything[0])


def test_scenes_and_frames_can_be_chosen(tracked, tmp_path):
    told = export_output(tracked, tmp_path, kinds=("csv", "png", "released"), scenes=[1], frames=range(1, 3))
    assert [item.path.name for item in told] == ["csv", "scene_1", "scene_1"]
    assert set(pd.read_csv(tmp_path / "movie" / "csv" / "frames.csv").scene) == {1}
    assert {p.stem for p in (tmp_path / "movie" / "png").rglob("*.png")} == {"0001", "0002"}
    assert {p.stem for p in (tmp_path / "movie" / "scene_1" / "normalized_cell").iterdir()} == {"1", "2"}
    beyond = export_output(tracked, tmp_path / "b", kinds=["movie"], frames=[5, 6], options=SMALL)
    assert [item.path.name for item in beyond] == ["scene_0.webp"]  # scene 1 has no such frames


def test_tables_of_the_released_layout_alone(tracked, tmp_path):
    export_output(tracked, tmp_path, kinds=("released",), options=ExportOptions(released_images=False))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".csv", ".json"}


def test_nothing_is_replaced_unasked(tracked, tmp_path):
    export_output(tracked, tmp_path, kinds=("csv", "released"), options=ExportOptions(released_images=False))
    (tmp_path / "movie" / "csv" / "mine.csv").write_text("x")
    before = snapshot(tmp_path)
    with pytest.raises(StoreError, match=r"something stands there already .*--force"):
        export_output(tracked, tmp_path, kinds=("png", "csv"))
    assert snapshot(tmp_path) == before  # the pictures could have been written, but not all could
    export_output(tracked, tmp_path, kinds=("csv",), overwrite=True)
    assert not (tmp_path / "movie" / "csv" / "mine.csv").exists()


def test_foreign_folders_are_never_replaced(tracked, tmp_path):
    (tmp_path / "movie" / "csv").mkdir(parents=True)
    (tmp_path / "movie" / "csv" / "thesis.csv").write_text("years of work")
    with pytest.raises(StoreError, match="no export has written"):
        export_output(tracked, tmp_path, overwrite=True)
    assert (tmp_path / "movie" / "csv" / "thesis.csv").read_text() == "years of work"
    shutil.rmtree(tmp_path / "movie" / "csv")
    (tmp_path / "movie" / "csv").mkdir()
    export_output(tracked, tmp_path)  # an empty one is in nobody's way
    assert (tmp_path / "movie" / "csv" / "frames.csv").is_file()


@pytest.mark.parametrize("inside", [".", "movie", "movie/tables", "movie/images.zarr/0", "new/../movie/x"])
def test_outputs_are_never_written_into(own_folder, inside):
    before = snapshot(own_folder.parent)
    with pytest.raises(StoreError, match=r"output's own folder .*beside the results"):
        export_output(own_folder, own_folder.parent / inside)
    assert snapshot(own_folder.parent) == before


def test_not_even_through_a_link(own_folder, tmp_path):
    (tmp_path / "link").symlink_to(own_folder / "tables")
    with pytest.raises(StoreError, match="output's own folder"):
        export_output(own_folder, tmp_path / "link")


def test_a_failure_leaves_nothing_half_done(tracked, tmp_path, monkeypatch):
    export_output(tracked, tmp_path, kinds=("png",), scenes=[0])
    before = snapshot(tmp_path)

    def fail(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_pngs", fail)
    with pytest.raises(StoreError, match=r"cannot be written \(found: No space left on device\); free some space"):
        export_output(tracked, tmp_path, kinds=("png",), scenes=[0], overwrite=True)
    assert snapshot(tmp_path) == before


def test_what_is_interrupted_leaves_the_old(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old").write_text("old")

    def begin(place, name):
        with place as begun:
            (begun / name if begun.is_dir() else begun).write_text("new")
            raise KeyboardInterrupt

    for place in (whole_folder(tmp_path / "f"), whole_file(tmp_path / "g")):
        with pytest.raises(KeyboardInterrupt):
            begin(place, "new")
    assert snapshot(tmp_path) == {"f/old": b"old"}


def test_a_run_that_begins_meanwhile_is_noticed(own_folder, tmp_path, monkeypatch):
    def break_seal(*_: object, **__: object) -> int:
        (own_folder / "seal.json").unlink()
        return 0

    monkeypatch.setattr(export, "write_pngs", break_seal)
    with pytest.raises(StoreError, match="changed while it was exported"):
        export_output(own_folder, tmp_path / "export", kinds=("png",), scenes=[0])
    assert snapshot(tmp_path / "export") == {}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kinds": ("xlsx",)}, r"no such export \(found: xlsx\); choose among csv, released"),
        ({"kinds": ()}, r"no such export \(found: none\)"),
        ({"scenes": [2]}, r"no such scene \(found: 2\); scenes are 0 to 1"),
        ({"scenes": []}, r"no such scene \(found: none\)"),
        ({"frames": [-1]}, r"no such frame \(found: -1\); frames are 0 to 6"),
        ({"kinds": ("movie",), "options": ExportOptions(fps=-1)}, r"fps: .*\(found: -1\)"),
        ({"kinds": ("movie",), "options": ExportOptions(width_px=5)}, r"width_px: .*\(found: 5\)"),
        ({"kinds": ("movie",), "options": ExportOptions(movie_suffixes=(".avi",))}, r"\(found: \.avi\)"),
        ({"kinds": ("movie",), "options": ExportOptions(movie_suffixes=())}, "no kind of movie"),
        ({"kinds": ("ctc",), "options": ExportOptions(ctc_layout="gold")}, r"no such layout \(found: gold\)"),
    ],
)
def test_bad_options_are_one_sentence_before_anything_is_written(tracked, tmp_path, options, sentence):
    with pytest.raises(SettingsError, match=sentence):
        export_output(tracked, tmp_path, **options)
    assert snapshot(tmp_path) == {}


def test_without_tracks_their_formats_say_so(own_folder, tmp_path):
    (own_folder / "tables" / "tracks.parquet").unlink(missing_ok=True)
    (own_folder / "tables" / "eaten.parquet").unlink(missing_ok=True)
    with pytest.raises(StoreError, match="needs tracks, and there are none"):
        export_output(own_folder, tmp_path / "export", kinds=("csv", "ctc"))
    assert snapshot(tmp_path / "export") == {}
    told = export_output(
        own_folder, tmp_path / "export", kinds=("released",), options=ExportOptions(released_images=False)
    )
    notes = sorted(note.split(",")[0] for note in told[0].notes)
    assert notes == ["cells were not tracked", "what was eaten was not measured"]


def test_a_damaged_chunk_is_named_and_nothing_is_left(own_folder, tmp_path):
    chunk = own_folder / "images.zarr/0/0/c/1/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(StoreError, match="a chunk is damaged"):
        export_output(own_folder, tmp_path / "export", kinds=("png",))
    assert snapshot(tmp_path / "export") == {}


def test_a_table_that_cannot_be_read_is_named(own_folder, tmp_path):
    (own_folder / "tables" / "cells.parquet").write_bytes(b"no parquet")
    with pytest.raises(StoreError, match=r"cells\.parquet: a table cannot be read"):
        export_output(own_folder, tmp_path / "export")
    assert snapshot(tmp_path / "export") == {}


def test_names_of_scenes_are_only_words(own_folder, tmp_path):
    """Names come from files of others: they are no part of a path, and stand in tables as they are."""
    frames = pq.read_table(own_folder / "tables" / "frames.parquet")
    name = '../"a, b"\nµ'
    named = frames.set_column(frames.column_names.index("scene_name"), "scene_name", pa.array([name] * len(frames)))
    pq.write_table(named, own_folder / "tables" / "frames.parquet")
    export_output(own_folder, tmp_path / "export")
    assert set(pd.read_csv(tmp_path / "export" / "movie" / "csv" / "frames.csv").scene_name) == {name}


def test_a_conversion_and_nothing_are_refused(tmp_path):
    with pytest.raises(StoreError, match="no output of phagostat is there"):
        export_output(tmp_path / "nothing", tmp_path / "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no output of phagostat is there"):
        export_output(tmp_path / "empty", tmp_path / "x")


def test_all_acquisitions_of_a_folder(tracked, tmp_path):
    shutil.copytree(tracked, tmp_path / "results" / "b")
    shutil.copytree(tracked, tmp_path / "results" / "a")
    told = export_output(tmp_path / "results", tmp_path / "export")
    assert [item.acquisition for item in told] == ["a", "b"]
    assert FinishedOutput(tmp_path / "results" / "a").name == "a"


def test_without_an_aggregate_channel_its_files_are_left_out_and_said(cells_only, tmp_path):
    kinds = [kind for kind in KINDS if kind != "ctc" or has_tracks(cells_only)]
    told = export_output(cells_only.path, tmp_path, kinds=kinds, options=SMALL)
    folder = tmp_path / "lonely"
    assert {path.name for path in (folder / "tiff" / "scene_0").glob("*.tif")} == {
        f"scene_0_{name}.ome.tif" for name in ("image", "labels_cells", "probability")
    }
    assert tifffile.imread(folder / "tiff" / "scene_0" / "scene_0_image.ome.tif").shape[0] == 3
    assert not (folder / "scene_0" / "CSVs" / "frames_registration_params.csv").exists()
    assert not (folder / "scene_0" / "normalized_aggregate").exists()
    assert (folder / "scene_0" / "CSVs" / "cell_count_and_total_area.csv").is_file()
    notes = next(item.notes for item in told if item.kind == "released")
    assert "no aggregate channel" in notes[0]
    source = open_source(folder)
    np.testing.assert_array_equal(source.read(0, 1, 0), cells_only.image(0, 1, ChannelRole.CELLS))


def test_a_file_where_a_folder_is_needed_is_said(tracked, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"cannot be written .*a file stands where a folder is needed"):
        export_output(tracked, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


def test_a_scene_in_which_nothing_could_be_measured(tmp_path):
    black = {0: SceneOverrides(black_frames=frozenset(range(3)))}
    movie = tmp_path / "black.czi"
    simulate(movie, preset="easy", seed=3, scenes=1, frames=3, shape_yx=(256, 256), scenario=black)
    told = export_output(analyse(movie, tmp_path / "results"), tmp_path / "export", kinds=KINDS, options=SMALL)
    assert [item.kind for item in told] == list(KINDS)
    assert next(item for item in told if item.kind == "png").notes == (
        "there are no pictures of scene 0: no frame has any",
    )
    assert tifffile.imread(next((tmp_path / "export").rglob("mask000.tif"))).max() == 0
    evolution = next((tmp_path / "export").rglob("phagocytosis_evolution.csv"))
    assert len(evolution.read_text().splitlines()) == 1


@pytest.mark.real
def test_the_real_movie_in_every_kind(shared_data, tmp_path):
    movie = shared_data / "two-channel" / "ecoli_puncta_phase_t30.czi"
    root = analyse(movie, tmp_path / "results", "acquisition.pixel_size_um=0.1", "acquisition.interval_s=60")
    told = export_output(root, tmp_path / "exported", kinds=KINDS, options=SMALL)
    assert [item.kind for item in told] == list(KINDS)
    source = open_source(tmp_path / "exported" / root.name)
    assert source.metadata.pixel_size_um == pytest.approx(FinishedOutput(root).pixel_size_um)
    np.testing.assert_array_equal(source.read(0, 29, 0), FinishedOutput(root).image(0, 29, ChannelRole.AGGREGATES))
