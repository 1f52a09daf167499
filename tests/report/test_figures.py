"""Figures in numbers: points where they belong, gaps where nothing was measured."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from phagostat.report.curves import HEIGHT, MANY, MEAN, PALETTE, WIDTH, Line, curve_chart, nice_ticks, number, path_data
from phagostat.report.finished import FinishedOutput
from phagostat.report.means import mean_curve
from phagostat.report.strips import KINDS, frame_width_px, kind_of, overview, strip
from phagostat.report.summary import summarise

from .written import WrittenScene, write_output

NAN = float("nan")


def chart(*lines: Line, **options: object) -> ET.Element:
    return ET.fromstring(str(curve_chart(lines, title="t", x_label="x", y_label="y", **options)))  # type: ignore[arg-type]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]


def test_lines_break_where_nothing_was_measured_and_a_lone_point_is_a_dot() -> None:
    x = np.arange(7.0)
    y = np.array([1, 2, NAN, 3, NAN, 4, 5])
    assert path_data(x, y) == "M0,1 1,2M3,3h0M5,4 6,5"
    assert path_data(x, np.full(7, NAN)) == ""


def test_a_lone_point_can_be_seen() -> None:
    y = np.array([1, 2, NAN, 3, NAN, 4, 5])
    drawing = chart(Line("a", np.arange(7.0), y, "#000"), Line("b", np.arange(7.0), 2 * np.arange(7.0), "#111"))
    style = resources.files("phagostat.report").joinpath("templates/style.css").read_text("utf-8")
    width = re.search(r"svg \.lone {[^}]*stroke-width: ([\d.]+)", style)
    assert width is not None
    assert float(width.group(1)) >= 4
    (lone,) = drawing.findall("path[@class='lone']")
    assert lone.get("stroke") == "#000"
    assert len(points(lone.get("d"))) == 1  # type: ignore[arg-type]


def test_points_lie_where_the_axes_say() -> None:
    drawing = chart(Line("a", np.array([0.0, 50.0, 100.0]), np.array([0.0, 5.0, 10.0]), "#000"))
    (first, middle, last) = points(drawing.find("path").get("d"))  # type: ignore[union-attr,arg-type]
    texts = {t.text: t for t in drawing.findall("text")}
    grid = [float(line.get("y1", "nan")) for line in drawing.findall("line[@class='grid']")]
    assert (first[1], last[1]) == (max(grid), min(grid))
    assert middle == pytest.approx(((first[0] + last[0]) / 2, (first[1] + last[1]) / 2), abs=0.1)
    assert float(texts["100"].get("x", "nan")) == pytest.approx(last[0], abs=0.1)
    assert {"x", "y"} <= texts.keys()


def test_a_little_noise_below_zero_does_not_take_the_figure() -> None:
    drawing = chart(Line("a", np.arange(4.0), np.array([0.0, -0.5, 20.0, 38.0]), "#000"))
    places = [y for _, y in points(drawing.find("path").get("d"))]  # type: ignore[union-attr,arg-type]
    assert "−10" not in {t.text for t in drawing.findall("text")}
    base = float(drawing.find("line[@class='base']").get("y1", "nan"))  # type: ignore[union-attr]
    assert places[0] == pytest.approx(base, abs=0.1)
    assert base < places[1] <= HEIGHT - 46 + 0.1
    far = chart(Line("a", np.arange(3.0), np.array([0.0, -8.0, 38.0]), "#000"))
    assert "−10" in {t.text for t in far.findall("text")}


def test_the_axis_shows_the_time_in_which_nothing_was_measured() -> None:
    line = Line("a", np.arange(5.0), np.arange(5.0), "#000")
    (whole,) = [points(chart(line).find("path").get("d"))[-1][0]]  # type: ignore[union-attr,arg-type]
    (part,) = [points(chart(line, x_span=(0.0, 100.0)).find("path").get("d"))[-1][0]]  # type: ignore[union-attr,arg-type]
    assert part < WIDTH / 4 < whole


@pytest.mark.parametrize(
    "values", [[0.0], [3.0], [-1.0, 2.0], [1e-9, 2e-9], [1e12, 3e12], [5.0, 5.0], [-7.0, -7.0], [0.0, 0.0, 0.0]]
)
def test_any_values_fit_into_the_figure(values: list[float]) -> None:
    drawing = chart(Line("<&>", np.arange(len(values), dtype=float), np.array(values), "#000"))
    for x, y in points(drawing.find("path").get("d")):  # type: ignore[union-attr,arg-type]
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    assert drawing.find("path/title").text == "<&>"  # type: ignore[union-attr]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (-3, 17), (0, 1e-6), (99, 101), (-2e9, 1e9), (0.1, 0.3)])
def test_ticks_are_round_and_cover_the_range(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    steps = np.diff(ticks)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert steps == pytest.approx(steps[0])
    assert f"{steps[0]:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.5, "−0.5"), (1234567.0, "1\u202f234\u202f567"), (NAN, "–"), (1e-9, "1e−09"), (0.25, "0.25")],
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    assert number(value) == text


def test_the_mean_is_of_the_scenes_that_were_measured_and_only_where_half_of_them_were() -> None:
    series = [np.array(s) for s in ([1.0, 1, 1, 1], [3.0, NAN, NAN, 3], [5.0, 5, NAN, 5])]
    mean = mean_curve(series, [np.arange(4) * 2.0] * 3)
    assert mean.y == pytest.approx([3.0, 3.0, NAN, 3.0], nan_ok=True)
    assert mean.x == pytest.approx([0.0, 2.0, NAN, 6.0], nan_ok=True)
    assert mean.n_scenes.tolist() == [3, 2, 1, 3]
    assert mean.running.all()
    assert mean.last_running == 3
    assert np.isnan(mean.rest[1]).all()


@pytest.mark.parametrize("ends", [10, 15, 29])
def test_a_scene_that_ends_or_is_blurred_does_not_make_the_mean_jump(ends: int) -> None:
    slopes = (0.5, 1.0, 6.0)
    series = [slope * np.arange(30.0) for slope in slopes]
    series[2][ends:] = NAN
    series[1][4:7] = NAN
    series[0] = series[0][:28]
    mean = mean_curve(series, [np.arange(s.size) * 1.0 for s in series])
    last = min(ends, 28) - 1
    assert mean.last_running == last
    assert mean.y[[0, 1, 2, 3, last]] == pytest.approx(np.mean(slopes) * np.array([0, 1, 2, 3, last]))
    steps = np.diff(mean.y[: min(28, mean.y.size)])
    # a plain mean would fall by up to 50 where the third ends; what is shown moves as those do that are measured
    assert steps.min() >= 0
    assert steps.max() <= np.mean(slopes[1:]) + 1e-9
    whole, rest = mean.whole[1], mean.rest[1]
    assert np.isnan(whole[last + 1 :]).all()
    assert np.isfinite(whole[: last + 1]).all()
    after = np.isfinite(rest[last : last + 5])
    assert after[0] == after[1]  # joined where it begins


def test_scenes_that_end_one_after_another_leave_no_steps_and_no_drift() -> None:
    """Whatever is missing and whenever: of scenes that differ by an offset alone the mean is theirs exactly."""
    rng = np.random.default_rng(7)
    course, offsets = np.cumsum(rng.normal(size=60)), rng.normal(0, 100, 8)
    series = [course + offset for offset in offsets]
    for i, one in enumerate(series):
        one[rng.choice(np.arange(1, 60), 12, replace=False)] = NAN
        one[30 + 4 * i :] = NAN
    mean = mean_curve(series, [np.arange(60.0)] * 8)
    shown = np.isfinite(mean.y)
    assert shown.sum() > 25
    assert mean.y[shown] == pytest.approx((course + offsets.mean())[shown])
    counts = sum(np.isfinite(s).astype(int) for s in series)
    assert shown.tolist() == (counts >= 4).tolist()
    assert mean.n_scenes.tolist() == counts.tolist()


def test_a_mean_without_a_frame_that_all_have_is_that_of_those_measured() -> None:
    mean = mean_curve([np.array([1.0, 2, NAN, NAN]), np.array([NAN, NAN, 5.0, NAN])], [np.arange(4.0)] * 2)
    assert mean.y == pytest.approx([1.0, 2, 5, NAN], nan_ok=True)
    assert mean.last_running is None
    assert not mean.running.any()
    assert np.isfinite(mean.rest[1]).sum() == 3
    assert mean_curve([], []).y.size == 0


def test_nothing_is_drawn_from_frames_that_are_not_used(tmp_path: Path) -> None:
    scene = WrittenScene(6, states={2: "blurred", 3: "unregistered"})
    (found,) = summarise(FinishedOutput(write_output(tmp_path / "movie", [scene]))).scenes
    for name, values in found.series.items():
        assert list(np.isnan(values)) == [False, False, True, True, False, False], name


@pytest.mark.parametrize("n", [1, 24, 210, 2000])
def test_every_frame_of_a_strip_has_its_bar(tmp_path: Path, n: int) -> None:
    states = {f: s for f, s in ((1, "blurred"), (7, "unregistered"), (8, "missing"), (n - 2, "black")) if 0 < f < n}
    run = summarise(FinishedOutput(write_output(tmp_path / "movie", [WrittenScene(n, "<one>", states=states)])))
    step = frame_width_px(n)
    assert step >= 3
    for drawn in (strip(run.scenes[0], max_shift_px=50.0), overview(run.scenes)):
        body = ET.fromstring(f"<div>{drawn}</div>").findall(".//div[@role='group']/svg/rect")
        bars = [bar for bar in body if bar.get("class") != "lane"]
        covered = np.zeros(n, int)
        for bar in bars:
            first = round(float(bar.get("x", "nan")) / step)
            last = first + round(float(bar.get("width", "nan")) / step)
            covered[first:last] += 1
            kinds = {kind_of(states.get(frame, "ok")).name for frame in range(first, last)}
            assert kinds == {bar.get("class")}
        assert (covered == 1).all()
        high = {bar.get("height") for bar in bars if bar.get("class") != "used"}
        low = {bar.get("height") for bar in bars if bar.get("class") == "used"}
        assert high.isdisjoint(low)  # told apart without colours


def luminance(colour: str) -> float:
    """Relative luminance of ``#rgb`` or ``#rrggbb`` (WCAG 2.2)."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_colours_stand_out_from_the_page() -> None:
    style = resources.files("phagostat.report").joinpath("templates/style.css").read_text("utf-8")
    fills = {k.name: re.search(rf"\.{k.name} {{ fill: (#\w+)", style) for k in KINDS if k.name != "missing"}
    for name, found in fills.items():
        assert found is not None, name
        assert contrast(found.group(1), "#fff") >= 3, name
    for colour in (*PALETTE, MEAN, MANY, *re.findall(r"stroke: (#\w+)", style.split("svg .shift.y")[1][:120])):
        assert contrast(colour, "#fff") >= 3, colour
    text = dict(re.findall(r"--(\w+): (#\w+);", style))
    for name in ("ink", "soft", "accent", "bad", "care", "good"):
        assert contrast(text[name], text["ground"]) >= 4.5, name
    for colour in re.findall(r"svg (?:text|\.soft) {[^}]*fill: (#\w+)", style):
        assert contrast(colour, "#f5f7f9") >= 4.5, colour
    for ground, ink in re.findall(r"background: (#\w{6}); color: (#\w{6});", style):
        assert contrast(ground, ink) >= 4.5, (ground, ink)


# Machado, Oliveira, Fernandes (2009), doi:10.1109/TVCG.2009.113, severity 1: what is left of linear red, green, blue
COLOUR_VISION = {
    "usual": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("name", ["Position {} of the plate", "A rather long name, position {}", "P{}"])
def test_names_beside_a_strip_are_told_apart(tmp_path: Path, name: str) -> None:
    scenes = [WrittenScene(3, name.format(i)) for i in range(12)]
    drawing = overview(summarise(FinishedOutput(write_output(tmp_path / "movie", scenes))).scenes)
    names = re.findall(r"<text[^>]*><title>[^<]*</title>([^<]*)</text>", str(drawing))
    assert len(set(names)) == 12
    assert max(map(len, names)) <= 11  # wider ones would be cut off at the left


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_colours_are_told_apart_with_every_kind_of_colour_vision(vision: str) -> None:
    style = resources.files("phagostat.report").joinpath("templates/style.css").read_text("utf-8")
    bars = dict(re.findall(r"\.(\w+) {\s*fill: (#\w{6})", style))
    for colours in ((*PALETTE, MEAN), [bars[kind.name] for kind in KINDS if kind.name != "missing"]):
        rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
        light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen = np.clip(light @ np.transpose(COLOUR_VISION[vision]), 0, 1)
        shown = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = rgb2lab(shown[None])[0]
        apart = deltaE_ciede2000(lab[:, None], lab[None]) + 99 * np.eye(len(lab))
        i, j = np.unravel_index(np.argmin(apart), apart.shape)
        assert apart[i, j] >= 7.5, (colours[i], colours[j])  # 1 is just told apart side by side
