"""Markers: drawn cells that touch, cells that only look as if they were two, and means over windows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import h_maxima

from phagostat.kernels.bodies import split_bodies
from phagostat.kernels.cell_markers import CellMarkers, _reduced, cell_markers, enlarged_labels, mean_probability
from phagostat.kernels.coherence import coherent_pixels

PIXEL_UM = 0.2
EDGE_UM = 3.0


def grid(height_um: float, width_um: float, pixel_um: float = PIXEL_UM) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (y, x) of pixel centres in um."""
    y, x = np.indices((round(height_um / pixel_um), round(width_um / pixel_um))) + 0.5
    return y * pixel_um, x * pixel_um


def disc(yx: tuple[np.ndarray, np.ndarray], cy: float, cx: float, radius: float) -> np.ndarray:
    return np.hypot(yx[0] - cy, yx[1] - cx) < radius


def certainty(mask: np.ndarray, pixel_um: float = PIXEL_UM, line: np.ndarray | None = None) -> np.ndarray:
    """Probability that rises from 0.55 at edges, and at lines within, to 1 at 3 um from them."""
    inside = mask if line is None else mask & ~line
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * pixel_um
    values = np.where(mask, 0.55 + 0.45 * np.minimum(distance / EDGE_UM, 1), 0)
    return np.rint(255 * values).astype(np.uint8)


def found(mask: np.ndarray, pixel_um: float = PIXEL_UM, **options: float) -> CellMarkers:
    return cell_markers(certainty(mask, pixel_um), mask, pixel_size_um=pixel_um, **options)


def two_discs(half_waist_um: float, radius_um: float = 10.0) -> np.ndarray:
    """Two discs that touch along a line of twice this length."""
    yx = grid(30, 60)
    apart = np.sqrt(radius_um**2 - half_waist_um**2)
    return disc(yx, 15, 30 - apart, radius_um) | disc(yx, 15, 30 + apart, radius_um)


@pytest.mark.parametrize("half_waist_um", [1.0, 1.8, 2.6])
def test_two_discs_that_touch_are_two(half_waist_um: float) -> None:
    markers = found(two_discs(half_waist_um))
    assert markers.n == 2
    assert markers.labels[75, 75] == 1
    assert markers.labels[75, 225] == 2
    assert (markers.neck < 0.8).all()
    assert (markers.neck > 0.1).all()


def test_the_wider_the_waist_the_less_evidence() -> None:
    necks = [found(two_discs(half), max_neck=0.999).neck.max() for half in (1.0, 2.0, 3.0, 4.0)]
    assert necks == sorted(necks)
    assert necks[0] < 0.5
    assert necks[-1] > 0.75
    assert found(two_discs(6.0)).n == 1


def test_discs_apart_touch_nothing() -> None:
    yx = grid(30, 60)
    markers = found(disc(yx, 15, 15, 10) | disc(yx, 15, 45, 10))
    assert markers.n == 2
    assert not markers.neck.any()


def test_a_dumbbell_is_one_cell() -> None:
    """60 um long, its ends less than twice as wide as its middle: one cell, though its width has two maxima."""
    yx = grid(24, 80)
    bar = (np.abs(yx[0] - 12) < 4.5) & (np.abs(yx[1] - 40) < 23)
    assert found(bar | disc(yx, 12, 17, 7.5) | disc(yx, 12, 63, 7.5)).n == 1


def test_processes_are_no_cells() -> None:
    """A soma with thin arms that widen at their ends, as microglia have."""
    yx = grid(90, 90)
    soma = disc(yx, 45, 45, 9)
    arms = ((np.abs(yx[0] - 45) < 1.2) | (np.abs(yx[1] - 45) < 1.2)) & disc(yx, 45, 45, 38)
    ends = disc(yx, 45, 84, 3) | disc(yx, 6, 45, 3)
    markers = found(soma | arms | ends)
    assert markers.n == 1
    assert markers.labels[225, 225] == 1


def test_a_crescent_is_one_cell_and_its_marker_lies_in_it() -> None:
    yx = grid(50, 50)
    crescent = disc(yx, 25, 25, 18) & ~disc(yx, 25, 33, 14)
    markers = found(crescent)
    assert markers.n == 1
    assert crescent[markers.labels > 0].all()


def random_discs(pixel_um: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    yx = grid(160, 160, pixel_um)
    mask = np.zeros(yx[0].shape, np.bool_)
    for cy, cx, radius in zip(*random.uniform(10, 150, (2, 14)), random.uniform(7, 13, 14), strict=True):
        mask |= disc(yx, cy, cx, radius)
    return mask


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5])
def test_lengths_are_in_um(seed: int) -> None:
    """The same picture, finer and coarser; a neck right at the limit (seed 3 has one) may fall either way."""
    counts = [found(random_discs(pixel_um, seed), pixel_um, min_cell_px=0).n for pixel_um in (0.1, 0.2, 0.4)]
    assert counts == [counts[0]] * 3
    assert counts[0] > 5


def test_a_line_that_most_frames_have_parts_a_cell_and_one_that_few_have_does_not() -> None:
    yx = grid(30, 60)
    mask = (np.abs(yx[0] - 15) < 10) & (np.abs(yx[1] - 30) < 24)
    line = np.abs(yx[1] - 30) < 0.3
    whole, parted = certainty(mask), certainty(mask, line=line)
    for n_parted, expected in ((0, 1), (1, 1), (4, 2), (5, 2)):
        mean = ((5 - n_parted) * whole.astype(np.int64) + n_parted * parted.astype(np.int64)) // 5
        assert cell_markers(mean.astype(np.uint8), mask, pixel_size_um=PIXEL_UM).n == expected


def test_small_parts_stay_with_their_cell() -> None:
    yx = grid(40, 60)
    mask = disc(yx, 20, 20, 12) | disc(yx, 20, 35.9, 4.5)
    assert found(mask).n == 1
    assert found(mask, min_cell_um2=20, min_cell_px=0).n == 2
    assert found(mask, min_cell_um2=20, min_cell_px=5000).n == 1


def test_what_is_never_certain_gets_no_marker() -> None:
    yx = grid(30, 60)
    left, right = disc(yx, 15, 15, 10), disc(yx, 15, 45, 10)
    probability = np.where(left, certainty(left), np.where(right, 180, 0)).astype(np.uint8)
    markers = cell_markers(probability, left | right, pixel_size_um=PIXEL_UM)
    assert (markers.n, markers.n_uncertain) == (1, 1)
    assert not markers.labels[right].any()


def test_nothing_and_everything() -> None:
    empty = np.zeros((7, 9), np.bool_)
    assert cell_markers(np.zeros((7, 9), np.uint8), empty, pixel_size_um=PIXEL_UM).n == 0
    for shape in ((1, 1), (1, 9), (301, 203)):
        full = np.full(shape, 255, np.uint8)
        assert cell_markers(full, np.ones(shape, np.bool_), pixel_size_um=PIXEL_UM).n == 1


@pytest.mark.parametrize("seed", range(5))
def test_bodies_are_the_maxima_that_stand_out(seed: int) -> None:
    """With no smallest area: as many as skimage finds maxima of that height, one within each of them."""
    random = np.random.default_rng(seed)
    steps = np.rint(40 * ndimage.gaussian_filter(random.normal(size=(60, 70)), 3) / 0.08).astype(np.int64)
    steps -= steps.min()
    per_step = np.log(1e6) / 65535 * 64
    mask = (ndimage.gaussian_filter(random.normal(size=steps.shape), 4) > -0.02).astype(np.uint8)
    bodies = split_bodies(
        (steps * per_step).astype(np.float32), mask, max_neck=float(np.exp(-12.5 * per_step)), smallest_px=0
    )
    # skimage keeps both of two peaks of one height; here no two are.
    unlike = 8192 * (steps + 100) + random.permutation(steps.size).reshape(steps.shape)
    peaks, n = ndimage.label(h_maxima(np.where(mask > 0, unlike, 0), 12.5 * 8192), np.ones((3, 3)))
    assert bodies.n == n
    assert sorted(set(bodies.labels[peaks > 0])) == list(range(1, n + 1))
    assert ((bodies.labels > 0) == (mask > 0)).all()
    assert (bodies.labels[bodies.tops > 0] == bodies.tops[bodies.tops > 0]).all()
    first = [np.flatnonzero(bodies.tops.ravel() == label)[0] for label in range(1, n + 1)]
    assert first == sorted(first)


@pytest.mark.parametrize("seed", range(3))
def test_mean_over_the_frames_that_show_a_pixel(seed: int) -> None:
    random = np.random.default_rng(seed)
    planes = random.integers(0, 256, (5, 23, 31), dtype=np.uint8)
    shifts = random.integers(-9, 10, (5, 2)).astype(np.float64) * 2
    usable = np.array([True, True, False, True, True])
    coherence = coherent_pixels(planes, shifts_yx_px=shifts, usable=usable, factor=2)
    total, count = np.zeros(planes.shape[1:], np.int64), np.zeros(planes.shape[1:], np.int64)
    for k in np.flatnonzero(usable):
        dy, dx = coherence.moved_yx_px[k]
        for y in range(23):
            for x in range(31):
                if 0 <= y + dy < 23 and 0 <= x + dx < 31:
                    total[y, x] += planes[k, y + dy, x + dx]
                    count[y, x] += 1
    np.testing.assert_array_equal(mean_probability(planes, coherence), total // count)


def test_means_of_all_sums_are_whole_quotients() -> None:
    for n in (1, 3, 5, 7, 100, 257):
        levels = np.tile(np.arange(256, dtype=np.uint8), (n, 4, 1))
        levels[: n // 2, 1] = 255
        levels[n // 3 :, 2, ::2] = 7
        coherence = coherent_pixels(
            levels, shifts_yx_px=np.zeros((n, 2)), usable=np.ones(n, np.bool_), factor=1, window=n
        )
        expected = levels.astype(np.int64).sum(axis=0) // n
        np.testing.assert_array_equal(mean_probability(levels, coherence), expected)


def test_a_window_without_a_usable_frame_has_no_mean() -> None:
    planes = np.full((2, 4, 4), 200, np.uint8)
    coherence = coherent_pixels(planes, shifts_yx_px=np.zeros((2, 2)), usable=np.zeros(2, np.bool_), factor=1)
    assert not mean_probability(planes, coherence).any()


def test_wrong_input_is_said() -> None:
    probability, mask = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.bool_)
    with pytest.raises(ValueError, match="one shape"):
        cell_markers(probability, mask[:3], pixel_size_um=0.2)
    with pytest.raises(TypeError, match="8 bit"):
        cell_markers(probability.astype(np.uint16), mask, pixel_size_um=0.2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        cell_markers(probability, mask, pixel_size_um=0)
    with pytest.raises(ValueError, match="fraction"):
        cell_markers(probability, mask, pixel_size_um=0.2, max_neck=0)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 7, 16, 40])
@pytest.mark.parametrize("rest", [0, 1])
def test_means_over_blocks_are_those_of_opencv(factor: int, rest: int) -> None:
    image = np.random.default_rng(factor).integers(0, 256, (11 * factor + rest, 9 * factor)).astype(np.uint8)
    expected = cv2.resize(image, (9, (11 * factor + rest) // factor), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(_reduced(image, factor), expected)
    np.testing.assert_array_equal(_reduced(np.pad(image, 3)[3:-3, 3:-3], factor), expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("shape", [(12, 20), (36, 60), (24, 60), (37, 61), (7, 11)])
def test_enlarged_labels_are_the_nearest(dtype: type[np.generic], shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(3).integers(0, 9, (12, 20)).astype(dtype)
    expected = cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST)
    found = enlarged_labels(labels, shape)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
