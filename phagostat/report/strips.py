"""Strips of verdicts: every frame of a scene side by side, with its shift and its sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Final

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from phagostat.report.curves import lone_data, number, path_data
from phagostat.report.summary import SceneSummary

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """What a frame counts as in a strip.

    Parameters
    ----------
    name
        Its CSS class.
    title, meaning
        As the legend puts it.
    states
        States of frames that belong to it.
    """

    name: str
    title: str
    meaning: str
    states: tuple[str, ...]


USED: Final = Kind("used", "used", "sharp and registered: everything is measured in it", ("ok",))
OTHER: Final = Kind("other", "not usable", "for another reason, named below the strip", ())
KINDS: Final = (
    USED,
    Kind("blurred", "blurred", "out of focus; numbers from it would be wrong", ("blurred",)),
    Kind(
        "unregistered", "not registered", "its shift against the reference frame could not be told", ("unregistered",)
    ),
    Kind(
        "damaged",
        "bad picture",
        "black, evenly grey, saturated, or not readable",
        ("black", "constant", "saturated", "unreadable", "failed", "partial"),
    ),
    Kind("missing", "missing", "the source does not have it", ("missing",)),
    Kind("no_reference", "no reference", "the scene has no frame to compare with", ("no_reference",)),
    OTHER,
)
"""Every kind, the usual one first. A frame that is not used stands higher than one that is, whatever its colour."""

_OF_STATE: Final = {state: kind for kind in KINDS for state in kind.states}

GUTTER: Final = 88
"""Width of the lanes' names, px."""
LANE: Final = 46
"""Height of a lane of figures, px."""
BAR: Final = 22
"""Height of the lane of verdicts, px."""
GAP: Final = 18
AXIS: Final = 34
_WIDE: Final = 1010
_TICK_SPACE: Final = 84
NAME_LENGTH: Final = 11
"""Letters of a scene's name that there is room for beside a strip."""


def kind_of(state: str) -> Kind:
    """The kind that a state belongs to."""
    return _OF_STATE.get(state, OTHER)


def frame_width_px(n_frames: int) -> float:
    """Width of a frame in a strip: as much as there is room for, and never too little to be seen."""
    return float(min(28.0, max(3.0, _WIDE / max(n_frames, 1))))


def overview(scenes: Sequence[SceneSummary]) -> Markup:
    """Draw one row a scene: which frames are used, and which are not."""
    n = max((scene.n_frames for scene in scenes), default=0)
    if not n:
        return Markup('<p class="empty">There are no frames.</p>')
    step, row = frame_width_px(n), 16
    height = row * len(scenes) + AXIS
    labels = [
        f'<svg class="gutter" width="{GUTTER}" height="{height}" aria-hidden="true">',
        *(
            f'<text x="{GUTTER - 8}" y="{i * row + 11}" text-anchor="end"><title>{escape(scene.name)}</title>'
            f"{escape(name)}</text>"
            for i, (scene, name) in enumerate(zip(scenes, short_names([s.name for s in scenes]), strict=True))
        ),
        f'<text x="{GUTTER - 8}" y="{row * len(scenes) + 18}" text-anchor="end">frame</text></svg>',
    ]
    said = f"Verdict of every frame, one row a scene; {sum(s.n_used for s in scenes)} of them are used"
    width = _width(n, step)
    body = [f'<svg width="{width}" height="{height}" role="img" aria-label="{escape(said)}">']
    for i, scene in enumerate(scenes):
        body += _bars(scene, step, top=i * row, height=row - 4)
    body += _axis(n, step, top=row * len(scenes), times_min=None)
    return _joined(labels, [*body, "</svg>"])


def strip(scene: SceneSummary, *, max_shift_px: float | None = None, lanes: bool = True) -> Markup:
    """Draw a scene's frames: verdict, shift and sharpness above one another.

    Parameters
    ----------
    scene
        What is drawn.
    max_shift_px
        The limit that is drawn in where the shifts come near it.
    lanes
        Whether there are shift and sharpness, which without an aggregate channel were not measured.
    """
    n = scene.n_frames
    if not n:
        return Markup('<p class="empty">There are no frames.</p>')
    step = frame_width_px(n)
    shift_top, sharpness_top = BAR + GAP, BAR + 2 * GAP + LANE
    axis_top = sharpness_top + LANE + 4 if lanes else BAR + 4
    height = axis_top + AXIS
    labels = [
        f'<svg class="gutter" width="{GUTTER}" height="{height}" aria-hidden="true">',
        *_label("verdict", BAR / 2 + 4),
        *_label("frame", axis_top + 14),
        *(_label("min", axis_top + 28) if scene.times_min is not None else ()),
    ]
    body = [
        f'<svg width="{_width(n, step)}" height="{height}" role="img" aria-label="{escape(_said(scene))}">',
        *_bars(scene, step, top=0, height=BAR),
        *(_reference_mark(scene, step) if lanes else ()),
    ]
    if lanes:
        for drawn in (_shift_lane(scene, step, shift_top, max_shift_px), _sharpness_lane(scene, step, sharpness_top)):
            labels += drawn.labels
            body += drawn.body
    body += _axis(n, step, top=axis_top, times_min=scene.times_min)
    return _joined([*labels, "</svg>"], [*body, "</svg>"])


@dataclass(frozen=True)
class _Lane:
    """A lane of figures: what stands in the gutter, and what is drawn beside it."""

    labels: list[str]
    body: list[str]


def _shift_lane(scene: SceneSummary, step: float, top: float, max_shift_px: float | None) -> _Lane:
    reach = _reach(scene.shift_yx_px)
    labels = _label("shift, px", top + LANE / 2 + 4, top=(f"{number(reach)}", top + 4),
                    bottom=(f"{number(-reach)}", top + LANE + 4))  # fmt: skip
    body = list(_lane(top, scene.n_frames * step, middle=True))
    if max_shift_px is not None and max_shift_px <= reach:
        for sign in (-1, 1):
            place = top + LANE / 2 * (1 - sign * max_shift_px / reach)
            width = scene.n_frames * step
            body.append(f'<line class="limit" x1="0" x2="{width:g}" y1="{place:.1f}" y2="{place:.1f}"/>')
    for axis, name in ((0, "y"), (1, "x")):
        places = top + LANE / 2 * (1 - scene.shift_yx_px[:, axis] / reach)
        body.append(
            f'<path class="shift {name}" d="{path_data(_middles(scene, step), places)}">'
            f"<title>shift along {name}</title></path>"
            f'<path class="shift {name} lone" d="{lone_data(_middles(scene, step), places)}"/>'
        )
    return _Lane(list(labels), body)


def _sharpness_lane(scene: SceneSummary, step: float, top: float) -> _Lane:
    finite = scene.sharpness[np.isfinite(scene.sharpness)]
    peak = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    labels = _label("sharpness", top + LANE / 2 + 4, top=(f"{peak:.3g}", top + 4), bottom=("0", top + LANE + 4))
    heights = top + LANE * (1 - np.clip(scene.sharpness / peak, 0, 1))
    x = _middles(scene, step)
    dots = [
        f'<circle class="{kind_of(f.state).name}" cx="{x[i]:.1f}" cy="{heights[i]:.1f}" r="3.5">'
        f"<title>frame {f.frame}: {escape(f.state)}</title></circle>"
        for i, f in enumerate(scene.frames)
        if not f.usable and math.isfinite(heights[i])
    ]
    path = (
        f'<path class="sharpness" d="{path_data(x, heights)}"><title>sharpness</title></path>'
        f'<path class="sharpness lone" d="{lone_data(x, heights)}"/>'
    )
    return _Lane(list(labels), [*_lane(top, scene.n_frames * step), path, *dots])


def _middles(scene: SceneSummary, step: float) -> Floats:
    """Where the middles of the frames are."""
    middles: Floats = (np.arange(scene.n_frames, dtype=np.float64) + 0.5) * step
    return middles


def _said(scene: SceneSummary) -> str:
    left = "; ".join(f"frames {run.frames} {run.state}" for run in scene.left_out[:8])
    return f"{scene.name}: {scene.n_used} of {scene.n_frames} frames used" + (f"; {left}" if left else "")


def _reach(shifts: Floats) -> float:
    known = np.abs(shifts[np.isfinite(shifts)])
    return float(max(1.0, math.ceil(1.05 * known.max()))) if known.size else 1.0


def _width(n: int, step: float) -> int:
    return math.ceil(n * step) + 40


def _bars(scene: SceneSummary, step: float, *, top: float, height: float) -> Iterator[str]:
    for state, group in groupby(scene.frames, key=lambda frame: frame.state if not frame.usable else "ok"):
        run, kind = list(group), kind_of(state)
        first, last = run[0].frame, run[-1].frame
        low = kind is USED
        said = f"frame {first}" if first == last else f"frames {first}–{last}"
        why = "" if low or not run[0].reason else f": {run[0].reason}"
        yield (
            f'<rect class="{kind.name}" x="{first * step:.2f}" width="{(last - first + 1) * step:.2f}" '
            f'y="{top + (height * 0.45 if low else 0):g}" height="{height * 0.55 if low else height:g}">'
            f"<title>{escape(said)} {escape('used' if low else state)}{escape(why)}</title></rect>"
        )


def _reference_mark(scene: SceneSummary, step: float) -> Iterator[str]:
    for frame in scene.frames:
        if frame.is_reference:
            x = (frame.frame + 0.5) * step
            yield (
                f'<path class="reference" d="M{x - 5:.1f},0h10l-5,9z"><title>frame {frame.frame}: the reference frame'
                "</title></path>"
            )


def _lane(top: float, width: float, *, middle: bool = False) -> Iterator[str]:
    yield f'<rect class="lane" x="0" y="{top:g}" width="{width:g}" height="{LANE}"/>'
    if middle:
        yield f'<line class="grid" x1="0" x2="{width:g}" y1="{top + LANE / 2:g}" y2="{top + LANE / 2:g}"/>'


def _axis(n: int, step: float, *, top: float, times_min: Floats | None) -> Iterator[str]:
    apart = next(
        (m * 10**p for p in range(8) for m in (1, 2, 5) if m * 10**p * step >= _TICK_SPACE), 10**8
    )  # frames between ticks
    for frame in range(0, n, apart):
        x = (frame + 0.5) * step
        anchor = "start" if frame == 0 else "middle"
        at = 0.0 if frame == 0 else x
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + 4}"/>'
        yield f'<text x="{at:.1f}" y="{top + 16}" text-anchor="{anchor}">{frame}</text>'
        if times_min is not None and math.isfinite(times_min[frame]):
            time = number(round(float(times_min[frame]), 1))
            yield f'<text class="soft" x="{at:.1f}" y="{top + 30}" text-anchor="{anchor}">{time}</text>'


def _label(
    text: str, y: float, *, top: tuple[str, float] | None = None, bottom: tuple[str, float] | None = None
) -> Iterator[str]:
    right = GUTTER - 6
    if top is not None or bottom is not None:
        for limit in (top, bottom):
            if limit is not None:
                yield f'<text class="soft" x="{right}" y="{limit[1]:g}" text-anchor="end">{escape(limit[0])}</text>'
    yield f'<text x="{right}" y="{y:g}" text-anchor="end">{escape(text)}</text>'


def _joined(labels: Sequence[str], body: Sequence[str]) -> Markup:
    return Markup(
        '<div class="strip">'
        + "\n".join(labels)
        + '<div class="scroll" tabindex="0" role="group" aria-label="frames, scrolls sideways">'
        + "\n".join(body)
        + "</div></div>"
    )


def short_names(names: Sequence[str], *, length: int = NAME_LENGTH) -> list[str]:
    """Names cut to a length: their beginnings where these differ, else their ends, else what is not common to all."""
    same = [_in_common(each) for each in (names, [name[::-1] for name in names])]

    def middle(name: str) -> str:
        own = name[same[0] : max(len(name) - same[1], same[0] + 1)]
        return f"…{own[: length - 2]}…"

    cuts: tuple[Callable[[str], str], ...] = (
        lambda name: f"{name[: length - 1]}…",
        lambda name: f"…{name[1 - length :]}",
        middle,
    )
    found = [[name if len(name) <= length else cut(name) for name in names] for cut in cuts]
    return max(found, key=lambda shown: len(set(shown)))


def _in_common(names: Sequence[str]) -> int:
    """How many letters all begin with."""
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)))
