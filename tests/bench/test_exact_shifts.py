"""The generators are exact: they agree with each other and with fields that are known analytically."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from phagostat.bench.border import blackened, cropped
from phagostat.bench.camera import Camera
from phagostat.bench.opencv_warp import rounded_shift, warp_as_opencv4
from phagostat.bench.picture import PictureGlass
from phagostat.bench.spots import SpotGlass

SIDE = 128
BLOBS = np.array(
    [(30.3, 41.7, 3.0, 900.0), (80.6, 60.1, 4.2, 700.0), (64.0, 97.45, 2.5, 1500.0), (101.2, 20.9, 3.3, 400.0)]
)
SHIFTS = [(0.0, 0.0), (3.0, -7.0), (0.37, 0.81), (-6.43, 4.09)]


def blobs(side, shift=(0.0, 0.0), *, step=1.0, background=50.0):
    """Gaussians at known places, evaluated in double precision; `step` is the grid's, in px of the blobs."""
    place = (np.arange(side) + 0.5) * step - 0.5
    frame = np.full((side, side), background)
    for y, x, sigma, height in BLOBS:
        down = np.exp(-((place - y - shift[0]) ** 2) / (2 * sigma**2))
        across = np.exp(-((place - x - shift[1]) ** 2) / (2 * sigma**2))
        frame += height * down[:, None] * across[None]
    return frame


def picture_of_blobs(side=SIDE, **options):
    return PictureGlass(blobs(SIDE).astype(np.float32), side, white_counts=1e6, antialias_px=0.0, **options)


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_picture_is_evaluated_where_it_is_wanted(shift):
    assert np.abs(picture_of_blobs().frame(shift) - blobs(SIDE, shift)).max() < 0.01  # of 1500: 7e-6


@pytest.mark.parametrize("shift", SHIFTS)
def test_an_upsampled_picture_is_the_same_function_on_a_finer_grid(shift):
    expected = blobs(2 * SIDE, (shift[0] / 2, shift[1] / 2), step=0.5)
    assert np.abs(picture_of_blobs(2 * SIDE).frame(shift) - expected).max() < 0.01


def test_the_series_is_a_fourier_shift_of_the_mirrored_picture():
    picture = np.random.default_rng(0).normal(100, 5, (64, 64)).astype(np.float32)
    picture = PictureGlass(picture, 64, antialias_px=1.0).frame()  # band-limited; a series of its own
    shift = (2.3, -1.6)
    mirrored = np.pad(picture.astype(float), ((0, 64), (0, 64)), mode="symmetric")
    spectrum = fft.fft2(mirrored)
    for axis, by in enumerate(shift):
        wave = np.exp(-2j * np.pi * fft.fftfreq(128) * by)
        spectrum *= wave[:, None] if axis == 0 else wave[None]
    expected = fft.ifft2(spectrum).real[:64, :64]
    assert np.abs(PictureGlass(picture, 64, antialias_px=0.0).frame(shift) - expected).max() < 0.01


@pytest.mark.parametrize("shift", [(0.25, -0.6), (-9.87, 13.31)])
def test_a_rendered_field_and_the_series_through_its_samples_agree(shift):
    """Two generators that share nothing: one moves centres, the other evaluates a series."""
    rendered = SpotGlass.draw(side_px=SIDE, seed=4)
    series = PictureGlass(rendered.frame(margin_px=64), 2 * SIDE, white_counts=1e6, antialias_px=0.0)
    inner = slice(64 + 24, 64 + SIDE - 24)  # away from borders, where one has new content and the other a mirror
    theirs = series.frame(shift)[inner, inner]
    ours = rendered.frame(shift, margin_px=64)[inner, inner]
    contrast = float(np.ptp(ours))
    # the rendering cuts a Gaussian off at 5 sigma, where it has fallen to 4e-6, and narrow dust aliases a little
    assert np.abs(theirs - ours).max() < 2e-3 * contrast
    assert np.abs(theirs - rendered.frame(margin_px=64)[inner, inner]).max() > 0.02 * contrast  # it did move


@pytest.mark.parametrize("make", [lambda: SpotGlass.draw(side_px=SIDE, seed=1), picture_of_blobs])
def test_whole_shifts_are_parts_of_a_larger_frame(make):
    glass = make()
    larger = glass.frame(margin_px=20)
    for shift in ((0, 0), (20, -20), (-3, 11)):
        by_crop = cropped(larger, shift, 20)
        assert by_crop.shape == (SIDE, SIDE)
        assert np.abs(by_crop - glass.frame((float(shift[0]), float(shift[1])))).max() < 0.02
    down, across = cropped(larger, (5, 0), 20), cropped(larger, (0, 0), 20)
    np.testing.assert_array_equal(down[5:], across[:-5])


def test_new_content_comes_in_at_the_border():
    glass = SpotGlass.draw(side_px=SIDE, seed=2)
    moved = glass.frame((20.0, 0.0))
    wrapped = np.roll(glass.frame(), 20, axis=0)
    np.testing.assert_allclose(moved[20:], wrapped[20:], atol=0.05)
    assert np.abs(moved[:20] - wrapped[:20]).max() > 10


def test_black_where_the_reference_shows_nothing():
    frame = np.full((10, 12), 7, np.uint8)
    seen = blackened(frame, (2.0, -3.5)) > 0
    assert seen[2:, :8].all()
    assert not seen[:2].any()
    assert not seen[:, 8:].any()


def test_a_blurred_glass_keeps_its_light():
    glass = SpotGlass.draw(side_px=SIDE, seed=3)
    sharp, soft = glass.frame(margin_px=30), glass.blurred(3.0).frame(margin_px=30)
    assert soft.max() < 0.8 * sharp.max()
    assert abs(float((soft - sharp).mean())) < 0.01 * float(sharp.mean())
    picture = picture_of_blobs()
    wide = BLOBS.copy()
    wide[:, 2] = np.hypot(BLOBS[:, 2], 2.0)
    wide[:, 3] *= (BLOBS[:, 2] / wide[:, 2]) ** 2
    expected = np.full((SIDE, SIDE), 50.0)
    place = np.arange(SIDE)
    for y, x, sigma, height in wide:
        across = np.exp(-((place - x) ** 2) / (2 * sigma**2))[None]
        expected += height * np.exp(-((place - y) ** 2) / (2 * sigma**2))[:, None] * across
    assert np.abs(picture.blurred(2.0).frame() - expected).max() < 0.05


@pytest.mark.parametrize("make", [lambda: SpotGlass.draw(side_px=SIDE, seed=1), picture_of_blobs])
def test_aggregates_are_removed_and_moved_as_a_whole(make):
    glass = make()
    everything = np.arange(glass.n_aggregates)
    assert glass.n_aggregates >= 4
    empty = glass.without(everything).frame()
    full = glass.frame()
    assert np.ptp(empty) < 0.15 * np.ptp(full)
    moved = glass.moved(everything, np.tile([8.0, -6.0], (len(everything), 1)))
    shifted = glass.frame((8.0, -6.0))
    middle = slice(30, -30)
    assert np.abs(moved.frame() - shifted)[middle, middle].max() < 0.1 * np.ptp(full)
    assert np.abs(full - shifted)[middle, middle].max() > 0.3 * np.ptp(full)


def test_opencv4_rounds_to_a_thirty_second():
    assert rounded_shift((0.0, 1.0)) == (0.0, 1.0)
    assert rounded_shift((10.02, -3.01)) == (10.03125, -3.0)
    asked = np.random.default_rng(0).uniform(-400, 400, (4000, 2))
    error = np.abs([np.subtract(rounded_shift(tuple(s)), s) for s in asked])
    assert error.max() <= 1 / 64
    assert abs(error.mean() - 1 / 128) < 2e-4  # the paper: 0.0079 +- 0.0046
    assert abs(error.std() - 1 / 64 / np.sqrt(12)) < 2e-4


def test_the_warp_of_opencv4_is_bilinear_at_the_rounded_shift():
    frame = Camera(255.0).record((blobs(SIDE) / 8).astype(np.float32))
    y, x = rounded_shift((3.26, -5.49))
    whole_y, whole_x = int(np.floor(y)), int(np.floor(x))
    moved = sum(
        weight * np.roll(frame.astype(float), (whole_y + dy, whole_x + dx), (0, 1))
        for dy, dx, weight in (
            (0, 0, (1 - y % 1) * (1 - x % 1)), (0, 1, (1 - y % 1) * (x % 1)), (1, 0, y % 1 * (1 - x % 1)),
            (1, 1, y % 1 * (x % 1)),
        )
    )  # fmt: skip
    middle = slice(10, -10)
    warped = warp_as_opencv4(frame, (3.26, -5.49))
    assert np.abs(warped.astype(float) - moved)[middle, middle].max() <= 0.51
    assert not warped[:3].any()
