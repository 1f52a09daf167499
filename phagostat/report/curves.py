"""Curves against time as SVG: drawn by hand, so that the same numbers give the same bytes and letters stay letters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# told apart with every kind of colour vision (tests/report/test_figures.py), each at least 3:1 against white
PALETTE: Final = ("#0072b2", "#c45200", "#00795a", "#e16e8c", "#6e0000", "#0000e1", "#285050", "#6e006e")
MEAN: Final = "#14202b"
MANY: Final = "#5f7a90"
"""Of every scene where there are more than colours."""

WIDTH: Final = 410
HEIGHT: Final = 262
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 46


@dataclass(frozen=True)
class Line:
    """A curve.

    Parameters
    ----------
    label
        Shown when the pointer rests on it.
    x, y : (n,) float64
        Its points; the line has a gap where one is NaN.
    colour
        CSS colour.
    dashed
        For scenes that do not keep to the criteria of quality, and where a mean does not rest on all its scenes.
    strong
        For the mean.
    """

    label: str
    x: Floats
    y: Floats
    colour: str
    dashed: bool = False
    strong: bool = False


def scene_colour(position: int, n_scenes: int) -> str:
    """Colour of a scene; one for all where there are more scenes than colours."""
    return PALETTE[position] if n_scenes <= len(PALETTE) else MANY


def nice_ticks(low: float, high: float, *, n: int = 5) -> list[float]:
    """Give about ``n`` round numbers from the last below ``low`` to the first above ``high``."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    if high <= low:
        low, high = (low - 0.5, low + 0.5) if abs(low) < 1e6 else (low * 0.9, low * 1.1)
        low, high = min(low, high), max(low, high)
    rough = (high - low) / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9)), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def number(value: float) -> str:
    """A number as it stands at an axis: no exponent for what is usual, thousands apart by a narrow space."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}".replace("-", "−")
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−").replace(",", "\u202f")


def path_data(x: Floats, y: Floats) -> str:
    """SVG path through the finite points: a gap where a point is missing, a dot where one stands alone."""
    known = np.isfinite(x) & np.isfinite(y)
    parts = []
    for there, group in groupby(range(x.size), key=lambda i: bool(known[i])):
        if not there:
            continue
        run = list(group)
        points = " ".join(f"{_short(x[i])},{_short(y[i])}" for i in run)
        parts.append(f"M{points}" + ("h0" if len(run) == 1 else ""))
    return "".join(parts)


def lone_data(x: Floats, y: Floats) -> str:
    """SVG path of dots at the finite points without a finite neighbour, which a thin line would hardly show."""
    known = np.isfinite(x) & np.isfinite(y)
    beside = np.concatenate([[False], known, [False]])
    lone = np.flatnonzero(known & ~beside[:-2] & ~beside[2:])
    return "".join(f"M{_short(x[i])},{_short(y[i])}h0" for i in lone)


def curve_chart(
    lines: Sequence[Line], *, title: str, x_label: str, y_label: str, x_span: tuple[float, float] | None = None
) -> Markup:
    """Draw curves with axes.

    Parameters
    ----------
    lines
        Later ones lie on top.
    title
        What a screen reader says of the figure.
    x_label, y_label
        With the units.
    x_span
        What the axis covers at least, so that what is not measured at the end shows as a gap.

    Returns
    -------
    Markup
        An ``svg`` element that is as wide as its place.
    """
    xs = np.concatenate([line.x[np.isfinite(line.x) & np.isfinite(line.y)] for line in lines] or [np.empty(0)])
    ys = np.concatenate([line.y[np.isfinite(line.x) & np.isfinite(line.y)] for line in lines] or [np.empty(0)])
    if not xs.size:
        return Markup('<p class="empty">Nothing was measured.</p>')
    y_ticks, (y_low, y_high) = _y_axis(min(0.0, float(ys.min())), max(float(ys.max()), 0.0))
    first, last = x_span if x_span is not None else (math.inf, -math.inf)
    x_ticks, (x_low, x_high) = _x_axis(min(first, float(xs.min())), max(last, float(xs.max())))

    def across(x: Floats) -> Floats:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: Floats) -> Floats:
        return TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_grid(x_ticks, across(np.array(x_ticks)), y_ticks, down(np.array(y_ticks)), zero=float(down(np.array(0.0)))),
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text class="axis" transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2:g}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
    ]
    for line in lines:
        if not (np.isfinite(line.x) & np.isfinite(line.y)).any():
            continue
        kind = ("mean" if line.strong else "line") + (" dashed" if line.dashed else "")
        parts.append(
            f'<path class="{kind}" stroke="{line.colour}" d="{path_data(across(line.x), down(line.y))}">'
            f"<title>{escape(line.label)}</title></path>"
        )
        dots = lone_data(across(line.x), down(line.y))
        if dots:
            parts.append(
                f'<path class="lone" stroke="{line.colour}" d="{dots}"><title>{escape(line.label)}</title></path>'
            )
    return Markup("\n".join([*parts, "</svg>"]))


def _y_axis(low: float, high: float) -> tuple[list[float], tuple[float, float]]:
    """Ticks, and what the axis spans: a little noise below zero does not take a whole step of it."""
    ticks = nice_ticks(low, high)
    if len(ticks) > 2 and ticks[0] < low < 0 and low > ticks[0] + 0.6 * (ticks[1] - ticks[0]):
        return ticks[1:], (low, ticks[-1])
    return ticks, (ticks[0], ticks[-1])


def _x_axis(low: float, high: float) -> tuple[list[float], tuple[float, float]]:
    if high <= low:  # one point in time
        low, high = low - 0.5, high + 0.5
    return [tick for tick in nice_ticks(low, high) if low - 1e-9 <= tick <= high + 1e-9], (low, high)


def _grid(x_ticks: Sequence[float], x: Floats, y_ticks: Sequence[float], y: Floats, *, zero: float) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    for tick, place in zip(y_ticks, y, strict=True):
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_short(place)}" y2="{_short(place)}"/>'
        yield f'<text x="{LEFT - 6}" y="{_short(place + 4)}" text-anchor="end">{number(tick)}</text>'
    for tick, place in zip(x_ticks, x, strict=True):
        yield f'<line class="tick" x1="{_short(place)}" x2="{_short(place)}" y1="{bottom}" y2="{bottom + 5}"/>'
        yield f'<text x="{_short(place)}" y="{bottom + 18}" text-anchor="middle">{number(tick)}</text>'
    yield f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_short(zero)}" y2="{_short(zero)}"/>'


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
