"""Sums over territories against whole arrays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from phagostat.kernels.aggregate_overlap import parts_above
from phagostat.kernels.territory_sums import sum_above, sum_territories


def plain(frame, labels, territory, light, *, cut, moved, background, bleaching, kept_ratio, least_light):
    """The same sums, an array operation at a time: every pixel, its territory and its label."""
    height, width = frame.shape
    flat, part = parts_above(frame, cut)
    own = labels.ravel()[flat].astype(np.int64)
    label = np.where(own > 0, own, cv2.dilate(labels, np.ones((3, 3), np.uint8)).ravel()[flat])
    y, x = np.divmod(flat, width)
    at_y, at_x = y - moved[0], x - moved[1]
    near_y, near_x = np.rint(at_y).astype(int), np.rint(at_x).astype(int)
    seen = (near_y >= 0) & (near_x >= 0) & (near_y < height) & (near_x < width)
    reference = np.zeros(flat.size, np.int64)
    reference[seen] = territory[near_y[seen], near_x[seen]]
    map_x, map_y = (np.clip(at, 0, size - 1).astype(np.float64) for at, size in ((at_x, width), (at_y, height)))
    low_y, low_x = np.minimum(map_y.astype(int), height - 2), np.minimum(map_x.astype(int), width - 2)
    part_y, part_x = map_y - low_y, map_x - low_x
    had = (1 - part_y) * ((1 - part_x) * light[low_y, low_x] + part_x * light[low_y, low_x + 1])
    had += part_y * ((1 - part_x) * light[low_y + 1, low_x] + part_x * light[low_y + 1, low_x + 1])
    has = (frame.ravel()[flat] - background) / bleaching
    reference[(has < kept_ratio * had) | (had < least_light)] = 0
    n = int(territory.max()) + 1
    sums = np.stack([np.bincount(reference, part * by, n) for by in (1, y, x)], axis=1)
    pairs, place = np.unique(reference * 65536 + label, return_inverse=True)
    return sums, pairs, np.bincount(place, part), np.bincount(place, own > 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("moved", [(0.0, 0.0), (1.3, -2.7), (-4.0, 0.5), (90.0, 3.0)])
@pytest.mark.parametrize("grain", [1.0, 3.0])
def test_equal_to_whole_arrays(dtype, moved, grain) -> None:
    random = np.random.default_rng(4)
    shape = (61, 83)
    frame, before = (
        np.clip(cv2.GaussianBlur(random.normal(0, 1, shape), (0, 0), grain) * 120 * grain + 90, 0, 255).astype(dtype)
        for _ in range(2)
    )
    # more pairs than the table has room for at first
    labels = random.integers(0, 200, shape).astype(np.uint16)
    territory = random.integers(0, 300, shape).astype(np.uint16)
    light = before.astype(np.float32) - np.float32(20)
    limits = {"cut": 100.5, "background": 20.0, "kept_ratio": 0.5, "least_light": 15.0}
    found = sum_above(frame, labels, territory, light, moved_yx_px=moved, bleaching_factor=0.9, **limits)
    expected = plain(frame, labels, territory, light, moved=moved, bleaching=0.9, **limits)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_more_pairs_than_a_new_table_holds() -> None:
    shape = (120, 130)
    frame = np.full(shape, 1000, np.uint16)
    labels = np.arange(1, frame.size + 1).reshape(shape).astype(np.uint16)
    territory = np.zeros(shape, np.uint16)
    _, pairs, areas, n_labelled = sum_above(
        frame, labels, territory, np.zeros(shape, np.float32), cut=10.0, moved_yx_px=(0.0, 0.0), background=0.0,
        bleaching_factor=1.0, kept_ratio=0.5, least_light=0.0,
    )  # fmt: skip
    np.testing.assert_array_equal(pairs, labels.ravel())
    assert (areas == 1).all()
    assert (n_labelled == 1).all()


def test_what_leaves_the_frame_is_not_counted() -> None:
    frame = np.arange(12, dtype=np.uint16).reshape(3, 4)
    y, x = np.array([0, 0, 2], np.int32), np.array([0, 3, 1], np.int32)
    counts, inside = sum_territories(frame, y, x, np.array([0, 0, 1]), n=3, move_yx_px=(0, 1))
    assert (counts.tolist(), inside.tolist()) == ([1, 10, 0], [1, 1, 0])


def test_nothing_above_the_cut() -> None:
    zeros = np.zeros((9, 9), np.uint16)
    sums, pairs, _, _ = sum_above(
        zeros, zeros, zeros, np.zeros((9, 9), np.float32), cut=70000.0, moved_yx_px=(0.0, 0.0), background=0.0,
        bleaching_factor=1.0, kept_ratio=0.5, least_light=0.0,
    )  # fmt: skip
    assert not sums.any()
    assert pairs.size == 0
