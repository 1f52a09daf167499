"""The mean of a series over scenes that are not all measured in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeanCurve:
    """A mean over scenes, frame by frame.

    Parameters
    ----------
    x, y : (n,) float64
        Mean place on the axis and mean value; NaN where too few scenes were measured.
    n_scenes : (n,) int64
        How many scenes were measured.
    of
        How many scenes there are.
    running : (n,) bool
        Whether every scene is measured in this or an earlier frame, and in this or a later one: none has yet to begin
        or has ended.
    """

    x: Floats
    y: Floats
    n_scenes: NDArray[np.int64]
    of: int
    running: NDArray[np.bool_]

    @property
    def whole(self) -> tuple[Floats, Floats]:
        """The part in which every scene is running; the rest is NaN."""
        return self._where(self.running)

    @property
    def rest(self) -> tuple[Floats, Floats]:
        """The part before the last scene begins and after the first one has ended, joined to the other part."""
        outside = ~self.running
        joined = outside.copy()
        joined[:-1] |= outside[1:]
        joined[1:] |= outside[:-1]
        return self._where(joined) if outside.any() else self._where(outside)

    @property
    def last_running(self) -> int | None:
        """The last frame with a mean in which every scene is running; None where there is none."""
        there = np.flatnonzero(self.running & np.isfinite(self.y))
        return int(there[-1]) if there.size else None

    def _where(self, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        return np.where(chosen, self.x, np.nan), np.where(chosen, self.y, np.nan)


def mean_curve(series: Sequence[Floats], axes: Sequence[Floats], *, min_share: float = 0.5) -> MeanCurve:
    r"""Mean of series over scenes.

    Parameters
    ----------
    series : of (n,) float64
        A value a frame, NaN where it was not measured; scenes may be of unequal length.
    axes : of (n,) float64
        What each series is drawn against.
    min_share
        Frames that fewer of the scenes measured have no mean.

    Notes
    -----
    Scenes differ, so a plain mean over those that happen to be measured jumps whenever one is missing for a frame or
    ends early. Here it is the plain mean in the first frame in which most scenes are measured; from there on, and
    backwards, every frame :math:`t` is compared with that frame :math:`u` among those done that has most scenes in
    common with it (the nearest of them): :math:`m(t) = m(u) + \overline{y_s(t) - y_s(u)}` over the common scenes. Where
    all scenes are measured this is the plain mean; where one is missing it goes on by the mean change of the others.
    """
    length = max((one.size for one in series), default=0)
    values, places = np.full((2, len(series), length), np.nan)
    for i, (one, axis) in enumerate(zip(series, axes, strict=True)):
        values[i, : one.size] = one
        places[i, : one.size] = np.where(np.isfinite(one), axis, np.nan)
    known = np.isfinite(values) & np.isfinite(places)
    count = known.sum(axis=0)
    enough = (count > 0) & (count >= min_share * len(series))
    x = np.where(enough, np.where(known, places, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    begun = np.logical_or.accumulate(known, axis=1)
    to_come = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    running = np.all(begun & to_come, axis=0, keepdims=True)[0]
    y = _linked(values, known, np.flatnonzero(enough))
    return MeanCurve(x, y, count.astype(np.int64), len(series), running)


def _linked(values: Floats, known: NDArray[np.bool_], shown: NDArray[np.intp]) -> Floats:
    """The mean in the shown frames, each linked to the one that shares most scenes with it; NaN elsewhere."""
    y = np.full(values.shape[1], np.nan)
    if not shown.size:
        return y
    there = known[:, shown]
    common = there.T.astype(np.float32) @ there.astype(np.float32)
    first = int(np.argmax(there.sum(axis=0)))
    y[shown[first]] = values[there[:, first], shown[first]].mean()
    forward = [(t, np.arange(t - 1, first - 1, -1)) for t in range(first + 1, shown.size)]
    backward = [(t, np.arange(t + 1, first + 1)) for t in range(first - 1, -1, -1)]
    for t, done in (*forward, *backward):  # the nearest first, which argmax takes
        u = int(done[np.argmax(common[t, done])])
        both = there[:, t] & there[:, u]
        if both.any():
            y[shown[t]] = y[shown[u]] + (values[both, shown[t]] - values[both, shown[u]]).mean()
        else:
            y[shown[t]] = values[there[:, t], shown[t]].mean()
    return y
