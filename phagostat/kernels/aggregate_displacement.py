"""Where light shows up that a frame's reference had not, and what of the reference's aggregates it may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phagostat.kernels.compilation import compiled

_MOST_PEAKS = 4096
_WHOLE_PX = 20  # how far an aggregate is looked for over its own place
_LARGE_PX = 100  # smaller ones are soon clear of their place
_LEAST_MATCH = 0.4  # of what is gone, the share that must show at one place


@compiled
def light_that_came(  # noqa: PLR0917 - compiled loops take arrays and numbers
    frame: NDArray[np.integer],
    plane: NDArray[np.float32],
    territory: NDArray[np.uint16],
    place: NDArray[np.int32],
    kept: NDArray[np.float64],
    share: NDArray[np.float64],
    shift_y: float,
    shift_x: float,
    background: float,
    gain: float,
    loss: float,
    threshold: float,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Light that was not there in the reference frame, on its grid, 0 where it is faint; and (k, 2) its peaks.

    What the reference explains: of a footprint the pixels that are left, of the light around it as much.
    """
    height, width = frame.shape
    move_y, move_x = int(np.rint(shift_y)), int(np.rint(shift_x))
    come = np.zeros((height, width), np.float32)
    low = int((background + 0.3 * threshold / gain) * (1 - 2 * loss))  # what is below has not come, wherever it lies
    peaks = np.empty((_MOST_PEAKS, 2), np.int64)
    n_peaks = 0
    for y in range(max(0, -move_y), min(height, height - move_y)):
        v = 2 * (y + move_y) / max(height - 1, 1) - 1
        for x in range(max(0, -move_x), min(width, width - move_x)):
            raw = frame[y + move_y, x + move_x]
            if raw <= low:
                continue
            u = 2 * (x + move_x) / max(width - 1, 1) - 1
            now = (raw / (1 - loss * (v * v + u * u)) - background) * gain
            if now <= 0.3 * threshold:
                continue
            i = place[y, x]
            if i >= 0:
                come[y, x] = now - kept[i]
            else:
                owner = territory[y, x]
                come[y, x] = now - plane[y, x] * (share[owner - 1] if owner > 0 else 1.0)
            if come[y, x] < 0.5 * threshold or y == 0 or x == 0 or y == height - 1 or x == width - 1:
                continue
            # above all neighbours so far; those to come are compared below
            value = come[y, x]
            behind = max(come[y - 1, x - 1], come[y - 1, x], come[y - 1, x + 1], come[y, x - 1])
            if value > behind and n_peaks < _MOST_PEAKS:
                peaks[n_peaks, 0], peaks[n_peaks, 1] = y, x
                n_peaks += 1
    n_left = 0
    for k in range(n_peaks):
        y, x = peaks[k]
        ahead = max(come[y, x + 1], come[y + 1, x - 1], come[y + 1, x], come[y + 1, x + 1])
        if come[y, x] >= ahead:
            peaks[n_left, 0], peaks[n_left, 1] = y, x
            n_left += 1
    return come, peaks[:n_left]


@compiled
def found_elsewhere(  # noqa: PLR0912, PLR0915, PLR0917 - compiled loops take arrays and numbers
    come: NDArray[np.float32],
    peaks: NDArray[np.int64],
    flat: NDArray[np.int64],
    start: NDArray[np.int64],
    weight: NDArray[np.float64],
    expected: NDArray[np.float64],
    there: NDArray[np.float64],
    lossy: NDArray[np.intp],
    plane: NDArray[np.float32],
    territory: NDArray[np.uint16],
    place: NDArray[np.int32],
    left_share: NDArray[np.float64],
    shift_y: float,
    shift_x: float,
    search_px: int,
    least_step_px: int,
) -> NDArray[np.float64]:
    """For each lossy aggregate the area found elsewhere, how far away in analysis px, and its light.

    A place is tried where there is a peak that the reference had not, moved onto the brightest pixel that the
    aggregate lacks, and every place near by.
    """
    height, width = come.shape
    move_y, move_x = int(np.rint(shift_y)), int(np.rint(shift_x))
    found = np.zeros((lossy.size, 5))
    for k in range(lossy.size):
        owner = lossy[k]
        first, last = start[owner], start[owner + 1]
        anchor, most, lost_area = -1, 0.0, 0.0
        for i in range(first, last):
            lost = weight[i] * (1 - there[i])
            lost_area += lost
            if lost * expected[i] > most:
                anchor, most = i, lost * expected[i]
        if anchor < 0:
            continue
        anchor_y, anchor_x = flat[anchor] // width, flat[anchor] % width
        stride, coarse = max(1, (last - first) // 160), max(1, (last - first) // 12)
        # All of it by less than its width, over its own place: what it left, and nothing else, is missing.
        whole, whole_y, whole_x, whole_light = 0.0, 0, 0, 0.0
        for dy in (
            range(-_WHOLE_PX, _WHOLE_PX + 1) if left_share[owner] > 0.02 and last - first > _LARGE_PX else range(0)
        ):
            for dx in range(-_WHOLE_PX, _WHOLE_PX + 1):
                if dy * dy + dx * dx < least_step_px * least_step_px:
                    continue
                for step in (coarse, stride):
                    fitting, looked_at, light, wanted = 0.0, 0.0, 0.0, 0.0
                    for i in range(first, last, step):
                        y, x = flat[i] // width + dy, flat[i] % width + dx
                        if y < 0 or x < 0 or y >= height or x >= width:
                            continue
                        now = come[y, x]
                        at = place[y, x]
                        if at >= first and at < last:
                            now += expected[at] * there[at]
                        elif at < 0 and territory[y, x] == owner + 1:
                            now += plane[y, x] * left_share[owner]
                        looked_at += weight[i]
                        if looked_at > 3 and fitting == 0:  # the first few do not fit, nor will the rest
                            break
                        if abs(now / expected[i] - 1) < 0.35:
                            fitting += weight[i]
                            light += now
                            wanted += expected[i]
                    if fitting < 0.6 * looked_at:
                        break
                if fitting >= 0.6 * looked_at and fitting / max(looked_at, 1e-9) > whole:
                    whole, whole_y, whole_x, whole_light = fitting / looked_at, dy, dx, light / max(wanted, 1e-9)
        if whole > 0.85:
            found[k, 0], found[k, 1], found[k, 2], found[k, 3] = lost_area, whole_y, whole_x, whole_light
            found[k, 4] = whole
            continue
        best, best_y, best_x, best_light = 0.0, 0, 0, 0.0
        for peak in range(-1, len(peaks)):
            if peak < 0:
                middle_y, middle_x, reach = 0, 0, 5
            else:
                middle_y, middle_x, reach = peaks[peak, 0] - anchor_y, peaks[peak, 1] - anchor_x, 2
                if middle_y * middle_y + middle_x * middle_x > search_px * search_px:
                    continue
            for dy in range(middle_y - reach, middle_y + reach + 1):
                for dx in range(middle_x - reach, middle_x + reach + 1):
                    if dy * dy + dx * dx < least_step_px * least_step_px:
                        continue
                    # a few pixels tell that it is not here
                    fitting, looked_at = 0.0, 0.0
                    for i in range(first + coarse // 2, last, coarse):
                        if looked_at > 3 and fitting == 0:
                            break
                        y, x = flat[i] // width + dy, flat[i] % width + dx
                        if y < 0 or x < 0 or y >= height or x >= width:
                            continue
                        lost = weight[i] * (1 - there[i])
                        looked_at += lost
                        if abs(come[y, x] / expected[i] - 1) < 0.6:
                            fitting += lost
                    if fitting < 0.3 * looked_at:
                        continue
                    matched, tried, light, wanted = 0.0, 0.0, 0.0, 0.0
                    for i in range(first, last, stride):
                        lost = weight[i] * (1 - there[i])
                        if lost == 0:
                            continue
                        y, x = flat[i] // width + dy, flat[i] % width + dx
                        if y < 0 or x < 0 or y >= height or x >= width:
                            continue
                        if y + move_y < 0 or x + move_x < 0 or y + move_y >= height or x + move_x >= width:
                            continue
                        off = abs(come[y, x] / expected[i] - 1)
                        good = lost * min(max((0.6 - off) / 0.3, 0.0), 1.0)
                        matched += good
                        tried += lost
                        light += good * come[y, x]
                        wanted += good * expected[i]
                    # where most of it would lie outside the frame, nothing can be told
                    if tried * stride > 0.5 * lost_area and matched / tried > best:
                        best, best_y, best_x, best_light = matched / tried, dy, dx, light / max(wanted, 1e-9)
        if best > _LEAST_MATCH:
            found[k, 0], found[k, 1], found[k, 2], found[k, 3] = best * lost_area, best_y, best_x, best_light
    return found
