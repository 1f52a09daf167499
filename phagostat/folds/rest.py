"""Whether something that moves comes to rest on the glass."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class _Limits(Protocol):
    @property
    def rest_um(self) -> float: ...
    @property
    def rest_frames(self) -> int: ...


def rest_ends(times: NDArray[np.intp], position_um: NDArray[np.float64], *, n_times: int, limits: _Limits) -> int:
    """Last time at which something rests, -1 if it never does.

    Parameters
    ----------
    times : (k,) intp
        Ascending numbers of the used frames that it was seen in.
    position_um : (k, 2) float64
        Where.
    n_times : int
        Number of used frames.
    limits
        ``rest_um``: largest distance from the mean place of the frames so far; ``rest_frames``: least number of
        frames, half of it where they last to the end.
    """
    end = -1
    start = 0
    while start < len(times):
        stop = start + 1
        while stop < len(times):
            middle = position_um[start:stop].mean(axis=0)
            if np.hypot(*(position_um[stop] - middle)) > limits.rest_um:
                break
            stop += 1
        to_the_end = times[stop - 1] == n_times - 1
        if stop - start >= (limits.rest_frames // 2 if to_the_end else limits.rest_frames):
            end = int(times[stop - 1])
            start = stop
        else:
            start += 1
    return end
