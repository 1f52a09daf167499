"""Grey levels of a frame: against numpy on the pixels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from phagostat.kernels.intensity import (
    N_LEVELS,
    background_level,
    background_noise,
    frame_verdict,
    intensity_histogram,
    intensity_statistics,
    percentiles,
    white_level,
)

FRAMES = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
)


def textured(shape: tuple[int, int] = (257, 321), *, seed: int = 0, amplitude: float = 800.0) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 5000 + amplitude * np.sin(x / 17) * np.cos(y / 11)
    return np.rint(image + np.random.default_rng(seed).normal(0, 30, shape)).astype(np.uint16)


def noise(shape: tuple[int, int] = (257, 321), *, offset: float = 100.0, sd: float = 3.0, seed: int = 0) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(offset, sd, shape)).clip(0).astype(np.uint16)


@given(FRAMES)
def test_histogram_counts_every_pixel(frame: np.ndarray) -> None:
    expected = np.bincount(frame.ravel(), minlength=N_LEVELS)
    np.testing.assert_array_equal(intensity_histogram(frame), expected)


def test_histogram_is_exact_beyond_what_float32_counts() -> None:
    frame = np.full((4099, 4099), 7, np.uint8)
    frame[-1, -1] = 8
    histogram = intensity_histogram(frame)
    assert histogram[7] == frame.size - 1
    assert histogram[8] == 1


def test_histogram_of_a_view_counts_the_view_only() -> None:
    frame = textured()
    part = frame[3:200:2, 5:100]
    np.testing.assert_array_equal(intensity_histogram(part), np.bincount(part.ravel(), minlength=N_LEVELS))


@pytest.mark.parametrize("frame", [np.zeros((3, 3), np.int32), np.zeros((2, 3, 3), np.uint8), np.zeros((3, 3))])
def test_histogram_refuses_other_types(frame: np.ndarray) -> None:
    with pytest.raises(TypeError, match="uint8 or uint16"):
        intensity_histogram(frame)


@given(FRAMES, st.lists(st.floats(0, 100), min_size=1, max_size=4))
@settings(max_examples=300)
def test_percentiles_equal_numpys_to_the_last_bit(frame: np.ndarray, q: list[float]) -> None:
    np.testing.assert_array_equal(percentiles(intensity_histogram(frame), q), np.percentile(frame, q))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_percentiles_equal_numpys_on_a_whole_frame(dtype: type) -> None:
    frame = (textured((1023, 511)) >> (8 if dtype is np.uint8 else 0)).astype(dtype)
    q = [0, 0.1, 0.5, 1 / 3, 50, 99.5, 99.9, 100]
    np.testing.assert_array_equal(percentiles(intensity_histogram(frame), q), np.percentile(frame, q))


def test_percentiles_of_nothing_are_nan_and_out_of_range_is_refused() -> None:
    assert np.isnan(percentiles(np.zeros(N_LEVELS, np.int64), 50))
    with pytest.raises(ValueError, match=r"0\.\.100"):
        percentiles(np.ones(4, np.int64), 101)


@pytest.mark.parametrize("sd", [0.4, 3.0, 25.0, 200.0])
@pytest.mark.parametrize("signal_share", [0.0, 0.02, 0.3])
def test_background_is_found_under_any_tail_of_signal(sd: float, signal_share: float) -> None:
    random = np.random.default_rng(3)
    frame = random.normal(1234.3, sd, (512, 512))
    bright = random.random(frame.shape) < signal_share
    frame[bright] += random.exponential(4000, int(bright.sum()))
    histogram = intensity_histogram(np.rint(frame).astype(np.uint16))
    background = background_level(histogram)
    assert background == pytest.approx(1234.3, abs=0.15 * sd + 0.15)
    if sd >= 1:
        assert background_noise(histogram, background) == pytest.approx(np.hypot(sd, 0.29), rel=0.1)


def test_background_at_the_ends_of_the_range_and_of_nothing() -> None:
    assert background_level(intensity_histogram(np.zeros((9, 9), np.uint16))) == 0
    assert background_level(intensity_histogram(np.full((9, 9), 65535, np.uint16))) == 65535
    assert np.isnan(background_level(np.zeros(N_LEVELS, np.int64)))
    assert np.isnan(background_noise(np.zeros(N_LEVELS, np.int64), 5.0))


def test_white_level_of_a_twelve_bit_camera() -> None:
    frame = textured(amplitude=3000.0)
    assert white_level(intensity_histogram(frame), frame.dtype) == 65535
    clipped = np.minimum(frame, 4095)
    assert white_level(intensity_histogram(clipped), clipped.dtype) == 4095
    statistics = intensity_statistics(clipped)
    assert statistics.white_level == 4095
    assert statistics.saturated_fraction == pytest.approx(np.mean(clipped == 4095))


def test_white_level_is_not_mistaken_for_the_top_of_noise_or_a_constant() -> None:
    for frame in (noise(), np.full((50, 50), 7, np.uint16), noise(sd=0.3)):
        assert white_level(intensity_histogram(frame), frame.dtype) == 65535


def test_statistics_equal_numpys() -> None:
    frame = textured()
    s = intensity_statistics(frame)
    assert (s.minimum, s.maximum, s.median) == (frame.min(), frame.max(), np.median(frame))
    assert s.mean == pytest.approx(frame.mean())
    assert (s.low, s.high) == tuple(np.percentile(frame, [0.1, 99.9]))
    assert s == intensity_statistics(frame, histogram=intensity_histogram(frame))


def test_statistics_of_an_empty_frame() -> None:
    s = intensity_statistics(np.zeros((0, 5), np.uint16))
    assert np.isnan(s.mean)
    assert frame_verdict(s).verdict == "constant"


@pytest.mark.parametrize("sd", [0.3, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("seed", range(5))
def test_camera_noise_alone_is_black_whatever_offset_and_noise(sd: float, seed: int) -> None:
    frame = noise((512, 512), offset=100 + 17 * seed, sd=sd, seed=seed)
    verdict = frame_verdict(intensity_statistics(frame))
    assert verdict.verdict == "black"
    assert "structure" in verdict.evidence


@pytest.mark.parametrize(
    ("counts", "dtype", "verdict"),
    [
        (8000, np.uint16, "empty"),
        (4000, np.uint16, "empty"),
        (1500, np.uint16, "black"),  # a camera's offset may be as high
        (120, np.uint8, "black"),  # noise that was stretched to 8 bit: with this mean its sd would be 1 or 2
    ],
)
def test_even_light_is_no_darkness_where_it_is_asked_for(counts: int, dtype: type, verdict: str) -> None:
    generator = np.random.default_rng(4)
    sd = 34.0 if dtype is np.uint8 else np.sqrt(counts)
    frame = np.clip(generator.normal(counts, sd, (256, 300)), 0, np.iinfo(dtype).max).astype(dtype)
    found = frame_verdict(intensity_statistics(frame), min_even_light=0.05)
    assert found.verdict == verdict
    assert found.ok == (verdict == "empty")
    assert frame_verdict(intensity_statistics(frame)).verdict == "black"


def test_hot_pixels_do_not_make_a_black_frame_an_image() -> None:
    frame = noise((512, 512))
    frame.ravel()[np.random.default_rng(1).choice(frame.size, 30, replace=False)] = 60000
    assert frame_verdict(intensity_statistics(frame)).verdict == "black"


def test_a_few_dim_aggregates_are_an_image() -> None:
    frame = noise((512, 512)).astype(float)
    y, x = np.mgrid[:512, :512]
    for row, column in ((100, 100), (300, 50), (220, 400), (410, 410)):
        frame += 60 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 50)
    assert frame_verdict(intensity_statistics(np.rint(frame).astype(np.uint16))).ok


def test_an_image_is_ok_and_a_leak_of_light_is_black_beside_its_reference() -> None:
    good = intensity_statistics(textured((512, 512)))
    assert frame_verdict(good).ok
    leak = intensity_statistics(textured((512, 512), amplitude=12.0))
    assert frame_verdict(leak).ok
    assert frame_verdict(leak, reference=good).verdict == "black"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_constant_frames(dtype: type) -> None:
    frame = np.full((300, 300), 17, dtype)
    assert frame_verdict(intensity_statistics(frame)).verdict == "constant"
    frame[5, 5:60] = 19  # 55 of 90,000 pixels
    assert frame_verdict(intensity_statistics(frame)).verdict == "constant"


def test_saturated_frames() -> None:
    frame = np.full((300, 300), 65535, np.uint16)
    assert frame_verdict(intensity_statistics(frame)).verdict == "saturated"
    half = textured((300, 300))
    half[:150] = 65535
    verdict = frame_verdict(intensity_statistics(half))
    assert verdict.verdict == "saturated"
    assert "50.0%" in verdict.evidence


@pytest.mark.real
def test_the_real_frames_are_images(shared_data) -> None:
    import cv2

    for name in ("aggregates", "cell"):
        frame = cv2.imread(str(shared_data / "microglia" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert frame_verdict(intensity_statistics(frame)).ok


@pytest.mark.parametrize("side", [96, 128, 256])
def test_fine_texture_that_is_even_over_the_field_is_not_black(side):
    random = np.random.default_rng(side)
    texture = ndimage.gaussian_filter(random.standard_normal((side, side)), 1.0)
    frame = np.rint(7000 + 800 * texture / texture.std() + random.normal(0, 60, texture.shape)).astype(np.uint16)
    statistics = intensity_statistics(frame)
    assert statistics.neighbour_correlation > 0.5
    assert frame_verdict(statistics).verdict == "ok"


@pytest.mark.parametrize("side", [96, 256, 1024])
def test_neighbours_in_camera_noise_have_nothing_in_common(side):
    frame = np.random.default_rng(side).normal(500, 20, (side, side)).astype(np.uint16)
    assert abs(intensity_statistics(frame).neighbour_correlation) < 0.1
    assert frame_verdict(intensity_statistics(frame)).verdict == "black"
