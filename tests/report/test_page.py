"""The report as its reader gets it: what it says, what it is warned of, and that it is one whole page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from phagostat.cluster.local import local_executor
from phagostat.engine.outputs import analysis_job, find_outputs, run_job
from phagostat.model.errors import StoreError
from phagostat.report.findings import findings
from phagostat.report.finished import FinishedOutput
from phagostat.report.page import write_report
from phagostat.report.summary import summarise
from phagostat.settings import profile_settings
from phagostat.sources import open_source
from phagostat.store.integrity import differences, read_contents
from phagostat.store.layout import Layout
from phagostat.store.manifest import new_manifest, write_manifest
from phagostat.terminal import acquisition_of

from .pictures import analyse, snapshot
from .written import WrittenScene, write_output

VOID = {"meta", "img", "br", "hr", "input", "link", "source"}


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed, in order; keeps text, ids and what is linked."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._look(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._look(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        self.text.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def _look(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "srcset"):
                self.links.append(value or "")

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text("utf-8"))
    reader.close()
    assert not reader.open
    return reader


def report_of(root: Path, scenes: list[WrittenScene], **options: object) -> Reader:
    return read(write_report(write_output(root, scenes, **options)))  # type: ignore[arg-type]


def test_a_real_run_gives_one_whole_page(output_folder: Path, tmp_path: Path) -> None:
    page = read(write_report(output_folder, destination=tmp_path / "page.html"))
    assert len(page.ids) == len(set(page.ids))
    inside = [link for link in page.links if link.startswith("#")]
    assert {link[1:] for link in inside} <= set(page.ids)
    assert {link.split(",", 1)[0] for link in page.links if link not in inside} == {"data:image/webp;base64"}
    assert "script" not in page.tags
    for said in ("Know this first", "Curves", "Frames and quality", "What was left out", "Settings", "Versions"):
        assert said in page.words
    assert "movie.czi" in page.words
    assert "of 7 frames used" in page.words


def test_the_output_stays_as_it_was_sealed(own_folder: Path) -> None:
    before, files = read_contents(Layout.analysis(own_folder)).hash, snapshot(own_folder)
    page = write_report(own_folder)
    assert page == own_folder / "report.html"
    assert read_contents(Layout.analysis(own_folder)).hash == before
    after = snapshot(own_folder)
    assert after.keys() - files.keys() == {"report.html"}
    assert all(after[name] == content for name, content in files.items())
    assert find_outputs(own_folder.parent) == [own_folder]


def test_a_later_run_and_a_comparison_do_not_mind_the_page(own_folder: Path, output_folder: Path) -> None:
    write_report(own_folder)
    source = output_folder.parents[1] / "movie.czi"
    seal = (own_folder / "seal.json").read_bytes()
    assert analyse(source, own_folder.parent) == own_folder
    assert (own_folder / "seal.json").read_bytes() == seal
    assert not differences(Layout.analysis(own_folder), Layout.analysis(output_folder))


def test_the_same_results_give_the_same_bytes(output_folder: Path, tmp_path: Path) -> None:
    pages = [write_report(output_folder, destination=tmp_path / f"{i}.html").read_bytes() for i in (0, 1)]
    assert pages[0] == pages[1]
    assert re.search(rb"20\d\d-\d\d-\d\d", pages[0]) is None  # no date


def test_every_measure_has_a_unit_and_an_explanation(tmp_path: Path) -> None:
    page = report_of(tmp_path / "movie", [WrittenScene(name=f"s{i}") for i in range(3)])
    for label in ("Eaten area, µm²", "Area of aggregates, µm²", "aggregates in a frame", "cells in a frame",
                  "Mean area of a cell, µm²", "share of the reference frame's"):  # fmt: skip
        assert label in page.words
    assert page.words.count("time since the first frame, min") == 4 * 6  # all together, and each scene
    assert "washed away is not counted" in page.words
    assert "the mean of the 3 accepted scenes" in page.words


def test_results_stand_in_the_table(tmp_path: Path) -> None:
    page = report_of(tmp_path / "movie", [WrittenScene(21, name="only", states={20: "blurred"})])
    row = re.search(r"Speed of a cell, typical µm/min only accepted ([^A-Z]*)", page.words)
    assert row is not None, page.words[:3000]
    # eaten 0.5 um2 a frame, up to frame 19, of 400 um2, each frame off by 0.25; kept tracks have 0.25, 0.5 and 0.75
    # um a minute
    figures = row.group(1).split()
    assert figures[:8] == ["20", "of", "21", "38", "9.25", "±", "0.25", "2.3"]
    assert figures[10:13] == ["40", "38", "12"]
    assert figures[14] == "0.5"
    assert "9.25 µm² eaten in the first 38 min, in the one accepted scene" in page.words
    assert "never-decreasing line" in page.words


def test_scenes_that_count_are_summed_as_in_the_table_of_the_acquisition(output_folder: Path, tmp_path: Path) -> None:
    words = read(write_report(output_folder, destination=tmp_path / "page.html", movies=False)).words
    (totals,) = FinishedOutput(output_folder).table("acquisition").to_pylist()
    assert totals["scenes_counted"] == 1
    row = re.search(r" 1 accepted scene together (\S+) (\S+)", words)
    assert row is not None
    assert float(row.group(1)) == pytest.approx(totals["eaten_area_um2"], abs=0.006, rel=0.01)
    assert float(row.group(2)) == pytest.approx(100 * totals["eaten_fraction"], abs=0.06, rel=0.01)


def test_a_figure_says_how_many_scenes_it_is_of(tmp_path: Path) -> None:
    scenes = [WrittenScene(20, "whole"), WrittenScene(20, "lost", eaten=False)]
    totals = {"scenes_counted": 2, "eaten_area_um2": 9.25, "eaten_fraction": 0.023}
    words = report_of(tmp_path / "two", scenes, totals=totals).words
    assert "9.25 µm² eaten in the first 38 min, in 1 of 2 accepted scenes" in words
    assert "12 cells in a frame, mean of 2 accepted scenes" in words
    assert "2 accepted scenes together, eaten area known of 1 9.25 2.3 " in words
    words = report_of(tmp_path / "three", [*scenes, WrittenScene(20, "other")]).words
    assert "9.25 µm² eaten in the first 38 min, mean of 2 of 3 accepted scenes" in words
    rejected = [replace(scene, scene={"accepted": False, "quality_reason": "shaken"}) for scene in scenes]
    words = report_of(tmp_path / "none", rejected).words
    assert "9.25 µm² eaten in the first 38 min, in 1 of 2 scenes, all rejected" in words


def test_scenes_of_unequal_brightness_are_not_compared_with_a_rest_that_is_not_there(tmp_path: Path) -> None:
    odd = {"threshold_deviates": True}
    scenes = [WrittenScene(name=f"s{i}", scene={**odd, "scene_threshold_counts": 400.0 + 800 * i}) for i in range(2)]
    words = report_of(tmp_path / "movie", scenes).words
    assert "The scenes differ in brightness" in words
    assert "s0: 400 counts; s1: 1200 counts" in words
    assert "than the rest" not in words


def test_it_is_said_what_eaten_area_is_and_what_became_of_the_aggregates(output_folder: Path, tmp_path: Path) -> None:
    output = FinishedOutput(output_folder)
    words = read(write_report(output_folder, destination=tmp_path / "page.html", movies=False)).words
    told = words[words.index("What “eaten area” is") : words.index("Curves One line a scene")]
    fates = output.table("fates").column("fate").to_pylist()
    assert fates
    for fate in set(fates):
        assert f" {fate} {fates.count(fate)} " in told, fate
    for said in ("only pushed", "washed away", "border of the picture", "below zero", "± scatter", "threshold"):
        assert said in told, said


def test_scenes_that_end_early_are_named_and_means_are_of_a_time_that_all_reach(tmp_path: Path) -> None:
    scenes = [WrittenScene(30, "whole"), WrittenScene(30, "half", states=dict.fromkeys(range(15, 30), "unregistered")),
              WrittenScene(30, "other")]  # fmt: skip
    words = report_of(tmp_path / "movie", scenes).words
    first = words[words.index("Know this first") : words.index("The words of this page")]
    assert "1 of 3 scenes ends early" in first
    assert "half: 28 min" in first
    assert "7.25 µm² eaten in the first 28 min, mean of 3 accepted scenes" in words  # frame 14
    assert "Mean of 3 scenes; after 28 min of 2 of them (dashed)." in words
    assert "half accepted 15 of 30 28 " in words


def test_gaps_do_not_pull_the_common_time_to_the_beginning(tmp_path: Path) -> None:
    """Of many scenes with a few gaps each, hardly any frame is measured in all."""
    odd, even = (dict.fromkeys(range(first, 30, 2), "blurred") for first in (1, 2))
    words = report_of(tmp_path / "movie", [WrittenScene(30, "a", states=odd), WrittenScene(30, "b", states=even)]).words
    figure = re.search(r"([\d.]+) µm² eaten in the first 56 min, mean of 2 accepted scenes", words)  # frame 28
    assert figure is not None
    assert float(figure.group(1)) == pytest.approx(14.25, abs=0.5)


def test_frames_without_a_time_are_said_to_be_in_no_curve(tmp_path: Path) -> None:
    times = [None if frame in (3, 5) else 120.0 * frame for frame in range(8)]
    words = report_of(tmp_path / "movie", [WrittenScene(8, "s", states={5: "blurred"}, frames={"time_s": times})]).words
    assert "The time of 1 used frame is not known" in words
    assert "is not known" not in report_of(tmp_path / "whole", [WrittenScene(8, "s", states={5: "blurred"})]).words


def test_long_lists_of_scenes_are_cut(tmp_path: Path) -> None:
    scenes = [WrittenScene(4, f"s{i}", states={1: "missing"} if i == 0 else {}) for i in range(30)]
    words = report_of(tmp_path / "movie", scenes).words
    assert words.count("% not in view)") == 6
    assert "s5 (25 % not in view) and 24 more." in words
    assert "1 of 120 frames is missing" in words


def test_warnings_come_first_and_name_the_scenes(tmp_path: Path) -> None:
    n = 24
    scenes = [
        WrittenScene(n, "blind", states=dict.fromkeys(range(n), "no_reference"),
                     scene={"verdict": "unusable", "reason": "no frame has any aggregate", "reference_frame": None,
                            "accepted": False, "quality_reason": "none of 24 frames is registered and sharp"}),
        WrittenScene(n, "shaken", scene={"accepted": False, "quality_reason": "shift of up to 61.0 px"}),
        WrittenScene(n, "gappy", states=dict.fromkeys(range(3, 9), "unregistered")),
        WrittenScene(n, "odd", scene={"threshold_deviates": True, "scene_threshold_counts": 777.0}),
        WrittenScene(n, "faded", frames={"aggregates_verdict": ["ok"] * 20 + ["bleaching_undetermined"] * 4}),
        WrittenScene(n, "cut", states={22: "missing", 23: "missing"}),
        WrittenScene(n, "empty", frames={"cell_count": [0] * n, "cell_area_um2": [0.0] * n}),
    ]  # fmt: skip
    words = report_of(tmp_path / "movie", scenes).words
    first = words[words.index("Know this first") : words.index("The words of this page")]
    for said in (
        "1 of 7 scenes has no reference frame",
        "no frame has any aggregate",
        "shaken: shift of up to 61.0 px",
        "gappy: 25 %",
        "odd: 777 counts",
        "Fading is not known in 4 of 168 frames",
        "2 of 168 frames are missing",
        "Not one cell was found in: empty",
    ):
        assert said in first, said
    assert first.index("no reference frame") < first.index("rejected by quality") < first.index("Many frames")
    left = words[words.index("What was left out, and why") :]
    for said in ("Scene: blind", "Frames: unregistered", "6 of 168", "Frames: missing", "Tracks of cells"):
        assert said in left, said


def test_a_scene_that_nothing_is_wrong_with_is_not_warned_of(tmp_path: Path) -> None:
    words = report_of(tmp_path / "movie", [WrittenScene(30, "fine")]).words
    first = words[words.index("Know this first") : words.index("The words of this page")]
    assert "Serious" not in first
    assert "Caution" not in first


def test_a_recording_too_short_for_speeds_says_so(tmp_path: Path) -> None:
    scene = {"tracks": 4, "tracks_kept": 0}
    assert "No speeds of cells" in report_of(tmp_path / "short", [WrittenScene(24, scene=scene)]).words
    assert "No speeds of cells" not in report_of(tmp_path / "long", [WrittenScene(24)]).words
    output = FinishedOutput(tmp_path / "long")
    run = summarise(output)
    unknown = [replace(scene, speeds_um_per_min=np.full(3, np.nan)) for scene in run.scenes]
    found = [f.text for f in findings(output, replace(run, scenes=tuple(unknown))) if f.title == "No speeds of cells"]
    assert len(found) == 1
    assert "tracking.lag_min" in found[0]


def test_runs_of_unused_frames_are_listed_with_their_reason(tmp_path: Path) -> None:
    states = {4: "blurred", 5: "blurred", 6: "blurred", 7: "black", 11: "blurred"}
    words = report_of(tmp_path / "movie", [WrittenScene(24, "scene", states=states)]).words
    assert "4–6 3 blurred sharpness says blurred" in words
    assert "7 1 black it is black; sharpness says black" in words
    assert "11 1 blurred" in words


def test_changed_settings_are_marked_against_their_profile(tmp_path: Path) -> None:
    plain = report_of(tmp_path / "plain", [WrittenScene()], settings=profile_settings("paper")).words
    assert "All have the default of their profile" in plain
    settings = profile_settings("paper", {"registration": {"search_radius_px": 123.0}})
    words = report_of(tmp_path / "changed", [WrittenScene()], settings=settings).words
    assert "1 of" in words
    assert "registration.search_radius_px 123 changed 400 px (native)" in words


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    bad = '<script>alert("1")</script> & <b>'
    root = write_output(tmp_path / "a&b <i>", [WrittenScene(name=bad), WrittenScene(name="ok")], source=f"/x/{bad}.czi")
    page = write_report(root)
    reader = read(page)
    assert {"script", "b>", "i"}.isdisjoint(reader.tags)
    assert bad in reader.words
    assert "<script" not in page.read_text("utf-8")


@pytest.mark.parametrize(
    "scenes",
    [
        [WrittenScene(1, "one frame")],
        [WrittenScene(2, "two", states={0: "black", 1: "missing"}, scene={"accepted": False, "verdict": "unusable"})],
        [WrittenScene(5, "no times", times_s=False), WrittenScene(9, "longer", times_s=False)],
        [WrittenScene(12, "no cells", frames={"cell_count": [None] * 12, "cell_area_um2": [None] * 12})],
        [WrittenScene(6, "new verdict", states={3: "never_heard_of"})],
        [WrittenScene(0, "nothing", scene={"verdict": "unusable", "accepted": False, "reference_frame": None})],
    ],
    ids=lambda scenes: scenes[0].name.replace(" ", "_"),
)
def test_poor_runs_have_a_report_too(tmp_path: Path, scenes: list[WrittenScene]) -> None:
    page = report_of(tmp_path / "movie", scenes)
    assert scenes[0].name in page.words
    assert "nan" not in page.words.lower().split()
    assert "None" not in page.words


def test_without_an_aggregate_channel_no_scene_is_judged(tmp_path: Path) -> None:
    n = 8
    nothing = dict.fromkeys(("aggregate_count", "aggregate_area_um2", "bleaching_factor", "sharpness"), [None] * n)
    scene = WrittenScene(
        n,
        "cells",
        frames={**nothing, "aggregates_verdict": ["no_channel"] * n},
        scene={"accepted": None, "quality_reason": "there is no aggregate channel", "ledger_verdict": "no_channel"},
        eaten=False,
    )
    channels = [{"index": 0, "name": "PhC", "fluorescent": False, "description": ""}]
    words = report_of(tmp_path / "movie", [scene], channels=channels, roles={"cells": 0}).words
    assert "No channel of aggregates" in words
    assert "not judged" in words
    assert "rejected" not in words[: words.index("Curves")]
    body = words[: words.index("Every parameter of the run")].lower()
    for said in ("reference", "largest shift", "aggregates filled"):
        assert said not in body, said


def test_a_run_in_which_nothing_was_measured_says_so_and_no_more(tmp_path: Path) -> None:
    blind = {"verdict": "unusable", "reason": "nothing stands out", "reference_frame": None, "accepted": False}
    scenes = [
        WrittenScene(6, f"s{i}", states=dict.fromkeys(range(6), "no_reference"), scene=blind, eaten=False)
        for i in range(2)
    ]
    page = report_of(tmp_path / "movie", scenes)
    assert "None of the 2 scenes has a reference frame" in page.words
    curves = page.words[page.words.index(" Curves Nothing was measured") :]
    assert "thick dark line" not in curves
    assert "Scenes end at different times" not in page.words


def test_twenty_long_scenes_stay_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scenes = [
        WrittenScene(210, f"scene {i}", states={int(f): "blurred" for f in rng.integers(0, 210, 15)}) for i in range(20)
    ]
    page = write_report(write_output(tmp_path / "movie", scenes), movies=False)
    read(page)
    assert page.stat().st_size < 20e6


@pytest.mark.real
def test_a_real_movie_has_a_report_that_says_what_is_wrong_with_it(shared_data: Path, tmp_path: Path) -> None:
    opened = open_source(shared_data / "two-channel" / "ecoli_puncta_phase_t30.czi")
    settings = profile_settings("corrected", {"acquisition": {"pixel_size_um": 0.1, "interval_s": 60.0}})
    job = analysis_job(opened, acquisition_of(opened, settings), settings, tmp_path / "movie")
    with local_executor(0) as executor:
        run_job(job, executor)
    page = read(write_report(tmp_path / "movie"))
    assert "size of a pixel 0.1 µm; time between frames 60 s" in page.words
    assert "acquisition.pixel_size_um 0.1 changed not set um" in page.words
    assert sum(link.startswith("data:image/webp") for link in page.links) == 3  # two stills and a movie


@pytest.mark.slow
def test_hundreds_of_scenes(tmp_path: Path) -> None:
    page = write_report(write_output(tmp_path / "movie", [WrittenScene(60, f"s{i}") for i in range(300)]), movies=False)
    assert f"each of {300} scenes" in read(page).words
    assert page.stat().st_size < 20e6


def test_half_a_run_gets_no_report(tmp_path: Path) -> None:
    root = write_output(tmp_path / "movie", [WrittenScene()], sealed=False)
    with pytest.raises(StoreError, match="not complete"):
        write_report(root)
    assert not (root / "report.html").exists()


def test_changed_tables_get_no_report(tmp_path: Path) -> None:
    root = write_output(tmp_path / "movie", [WrittenScene()])
    other = write_output(tmp_path / "other", [WrittenScene(25)])
    (root / "tables" / "frames.parquet").write_bytes((other / "tables" / "frames.parquet").read_bytes())
    with pytest.raises(StoreError, match="not those that were sealed"):
        write_report(root)


def test_a_conversion_and_an_empty_folder_get_a_sentence(tmp_path: Path) -> None:
    layout = Layout.conversion(tmp_path / "converted")
    write_manifest(layout, new_manifest("conversion", source={}, settings={}, acquisition={}))
    with pytest.raises(StoreError, match="only an analysis"):
        write_report(tmp_path / "converted")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no output"):
        write_report(tmp_path / "empty")


def test_several_acquisitions_have_an_index_that_leads_to_each(tmp_path: Path) -> None:
    for name in ("a & b", "c#1"):
        write_output(tmp_path / "out" / name, [WrittenScene(name=name)])
    write_output(tmp_path / "out" / "half", [WrittenScene()], sealed=False)
    index = write_report(tmp_path / "out")
    assert index == tmp_path / "out" / "report.html"
    reader = read(index)
    assert reader.links == ["a%20%26%20b/report.html", "c%231/report.html"]
    assert (tmp_path / "out" / "c#1" / "report.html").is_file()
    assert "the analysis is not complete" in reader.words
    assert not (tmp_path / "out" / "half" / "report.html").exists()
    elsewhere = write_report(tmp_path / "out", destination=tmp_path / "pages")
    assert elsewhere == tmp_path / "pages" / "index.html"
    assert sorted(p.name for p in (tmp_path / "pages").iterdir()) == ["a & b.html", "c#1.html", "index.html"]


def test_an_acquisition_called_as_the_index_keeps_its_page(tmp_path: Path) -> None:
    for name in ("index", "movie"):
        write_output(tmp_path / "results" / name, [WrittenScene(4)])
    index = write_report(tmp_path / "results", destination=tmp_path / "pages")
    links = [link for link in read(index).links if not link.startswith("#")]
    assert len(set(links)) == 2
    for link in links:
        assert "Know this first" in read(index.parent / link).words


def test_settings_of_another_version_are_shown_as_they_are(tmp_path: Path) -> None:
    root = write_output(tmp_path / "movie", [WrittenScene()])
    manifest = (root / "output.json").read_text("utf-8")
    (root / "output.json").write_text(manifest.replace('"search_radius_px"', '"reach_px"'), "utf-8")
    words = read(write_report(root)).words
    assert "registration.reach_px" in words
    assert "not known to this version" in words
