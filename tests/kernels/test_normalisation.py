"""Camera counts to 8 bit: against numpy, scipy and the published way's own library calls."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter
from skimage.exposure import match_histograms, rescale_intensity
from skimage.util import img_as_ubyte

from phagostat.kernels.intensity import intensity_histogram, percentiles
from phagostat.kernels.normalisation import (
    CELL_GREY_MEAN,
    CELL_GREY_SD,
    apply_table,
    even_illumination,
    flat_field,
    frame_matching_table,
    gaussian_matching_table,
    gaussian_template,
    match_to_gaussian,
    normalise_aggregates,
    normalise_cells,
    reduce_area,
    stretch_table,
)


def published_stretch(frame: np.ndarray, low: float, high: float) -> np.ndarray:
    return img_as_ubyte(rescale_intensity(frame, in_range=(low, high), out_range=np.uint16))


def published_match(frame: np.ndarray, template: np.ndarray) -> np.ndarray:
    grey = img_as_ubyte(rescale_intensity(frame, out_range=np.uint16))
    return match_histograms(grey, template).astype(np.uint8)


def template_image() -> np.ndarray:
    return np.repeat(np.arange(256), gaussian_template()).astype(np.uint8).reshape(1024, 1024)


def phase_contrast(shape: tuple[int, int] = (300, 401), *, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    texture = gaussian_filter(random.standard_normal(shape), 2.0)
    return np.rint(9000 + 9000 * texture + random.normal(0, 40, shape)).clip(0, 65535).astype(np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(60, 60), (61, 83), (12, 7)])
def test_reduction_is_the_rounded_mean_of_whole_blocks(dtype: type, factor: int, shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(factor).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    reduced = reduce_area(frame, factor=factor)
    h, w = shape[0] // factor, shape[1] // factor
    mean = frame[: h * factor, : w * factor].reshape(h, factor, w, factor).mean((1, 3))
    assert reduced.dtype == dtype
    assert reduced.shape == (h, w)
    assert np.abs(reduced - mean).max() <= 0.5 + 1e-3
    if factor == 2:
        np.testing.assert_array_equal(reduced, np.floor(mean + 0.5))


def test_reduction_of_views_saturated_frames_and_nonsense() -> None:
    frame = np.full((50, 70), 65535, np.uint16)
    assert (reduce_area(frame[1::2, 3:], factor=2) == 65535).all()
    with pytest.raises(ValueError, match="at least 1"):
        reduce_area(frame, factor=0)
    with pytest.raises(ValueError, match="holds no block"):
        reduce_area(frame, factor=51)


@given(
    hnp.arrays(np.uint16, (7, 9)),
    st.tuples(st.floats(0, 65535), st.floats(0, 65535)).map(sorted).filter(lambda t: t[1] - t[0] > 1e-3),
)
def test_stretch_has_the_published_bytes(frame: np.ndarray, bounds: list[float]) -> None:
    low, high = bounds
    # Where a whole frame stays below 256 of 65,535 the library leaves out the division, which is no rule to follow.
    assume(rescale_intensity(frame, in_range=(low, high), out_range=np.uint16).max() >= 256)
    np.testing.assert_array_equal(apply_table(frame, stretch_table(low, high)), published_stretch(frame, low, high))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_stretch_between_percentiles_has_the_published_bytes_on_a_frame(dtype: type) -> None:
    frame = phase_contrast() if dtype is np.uint16 else (phase_contrast() >> 7).clip(0, 255).astype(np.uint8)
    low, high = percentiles(intensity_histogram(frame), (0.5, 99.5))
    expected = published_stretch(frame, *np.percentile(frame, q=(0.5, 99.5)))
    np.testing.assert_array_equal(apply_table(frame, stretch_table(low, high)), expected)


def test_stretch_of_a_constant_frame_is_what_the_library_gives() -> None:
    frame = np.full((5, 5), 4711, np.uint16)
    np.testing.assert_array_equal(apply_table(frame, stretch_table(4711, 4711)), published_stretch(frame, 4711, 4711))
    with pytest.raises(ValueError, match="low <= high"):
        stretch_table(5, 4)
    with pytest.raises(ValueError, match="finite"):
        stretch_table(float("nan"), 4)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_aggregates_are_averaged_then_looked_up(factor: int) -> None:
    frame = phase_contrast()
    table = stretch_table(8000, 10000)
    np.testing.assert_array_equal(
        normalise_aggregates(frame, table=table, factor=factor), table[reduce_area(frame, factor=factor)]
    )


@pytest.mark.parametrize("seed", range(4))
def test_matching_a_frame_has_the_published_bytes(seed: int) -> None:
    frame = phase_contrast(seed=seed)
    frame[3, 4] = 65535
    table = frame_matching_table(intensity_histogram(frame))
    expected = published_match(frame, template_image())
    np.testing.assert_array_equal(apply_table(frame, table), expected)
    np.testing.assert_array_equal(match_to_gaussian(frame), expected)


def test_matching_an_8_bit_frame_has_the_published_bytes() -> None:
    frame = (phase_contrast() >> 7).clip(3, 250).astype(np.uint8)
    expected = published_match(frame, template_image())
    np.testing.assert_array_equal(match_to_gaussian(frame), expected)


@given(hnp.arrays(np.uint16, (5, 6)).filter(lambda a: a.min() < a.max()))
def test_matching_any_frame_has_the_published_bytes(frame: np.ndarray) -> None:
    np.testing.assert_array_equal(match_to_gaussian(frame), published_match(frame, template_image()))


def test_template_is_the_gaussian_it_claims() -> None:
    template = gaussian_template(mean=120, sd=20)
    levels = np.arange(256)
    assert template.sum() == 2**20
    mean = (template * levels).sum() / template.sum()
    assert mean == pytest.approx(120, abs=0.01)
    assert np.sqrt((template * (levels - mean) ** 2).sum() / template.sum()) == pytest.approx(20, abs=0.05)


def test_frozen_table_gives_the_reference_frame_a_gaussian_histogram() -> None:
    frame = np.random.default_rng(0).gamma(4.0, 1500.0, (512, 512)).astype(np.uint16)
    table = gaussian_matching_table(intensity_histogram(frame), mean=110, sd=25, low_percentile=0, high_percentile=100)
    grey = apply_table(frame, table).astype(float)
    assert grey.mean() == pytest.approx(110, abs=0.3)
    assert grey.std() == pytest.approx(25, abs=0.4)
    np.testing.assert_allclose(
        np.percentile(grey, [5, 25, 75, 95]), 110 + 25 * np.array([-1.645, -0.674, 0.674, 1.645]), atol=0.8
    )


def test_frozen_table_is_monotone_and_one_hot_pixel_changes_nothing() -> None:
    frame = phase_contrast()
    table = gaussian_matching_table(intensity_histogram(frame))
    assert (np.diff(table.astype(int)) >= 0).all()
    low, high = np.percentile(frame, [0.1, 99.9])
    assert table[0] == table[int(np.ceil(low))]
    assert table[65535] == table[int(high)]
    hot = frame.copy()
    hot[0, 0], hot[0, 1] = 65535, 0
    difference = apply_table(frame, gaussian_matching_table(intensity_histogram(hot))).astype(int) - apply_table(
        frame, table
    )
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("value", [0, 900, 65535])
def test_frozen_table_of_a_constant_frame_is_the_mean(value: int) -> None:
    histogram = intensity_histogram(np.full((20, 20), value, np.uint16))
    assert (gaussian_matching_table(histogram) == round(CELL_GREY_MEAN)).all()
    with pytest.raises(ValueError, match="empty"):
        gaussian_matching_table(np.zeros(65536, np.int64))


def test_flat_field_removes_vignetting_and_leaves_cells() -> None:
    y, x = np.mgrid[:512, :600]
    light = 1 - 0.3 * (((y - 200) / 512) ** 2 + ((x - 350) / 600) ** 2)
    cells = np.ones((512, 600))
    for row, column in ((100, 100), (300, 400), (420, 180)):
        cells[(y - row) ** 2 + (x - column) ** 2 < 30**2] = 1.5
    noise = np.random.default_rng(0).normal(0, 60, light.shape)
    frame = np.rint(10000 * light * cells + noise).astype(np.uint16)
    gain = flat_field(frame, sigma_px=64)
    assert gain.shape == frame.shape
    assert gain.dtype == np.float32
    evened = even_illumination(frame, gain)
    assert evened.dtype == np.uint16
    background = cells == 1
    assert frame[background].std() / frame[background].mean() > 0.035
    assert evened[background].std() / evened[background].mean() < 0.02
    ratio = evened[~background].mean() / evened[background].mean()
    assert ratio == pytest.approx(1.5, abs=0.04)


def test_flat_field_agrees_with_the_plain_gaussian_on_a_smooth_frame() -> None:
    y, x = np.mgrid[:300, :260]
    frame = np.rint(20000 + 30 * y - 20 * x).astype(np.uint16)
    wide = gaussian_filter(frame.astype(float), 40.0, mode="reflect")
    np.testing.assert_allclose(flat_field(frame, sigma_px=40), np.median(wide) / wide, rtol=0.01)


@pytest.mark.parametrize("shape", [(3, 5), (1, 400), (33, 31)])
def test_flat_field_of_small_black_and_uint8_frames(shape: tuple[int, int]) -> None:
    for value in (0, 200):
        gain = flat_field(np.full(shape, value, np.uint8), sigma_px=30)
        np.testing.assert_allclose(gain, 1.0)
    with pytest.raises(ValueError, match="positive"):
        flat_field(np.zeros(shape, np.uint8), sigma_px=0)


def test_evening_clips_instead_of_wrapping() -> None:
    frame = np.full((4, 4), 60000, np.uint16)
    assert (even_illumination(frame, np.full((4, 4), 2, np.float32)) == 65535).all()
    assert (even_illumination((frame >> 8).astype(np.uint8), np.full((4, 4), 2, np.float32)) == 255).all()


@pytest.mark.parametrize("factor", [1, 2])
def test_cells_are_averaged_evened_and_looked_up(factor: int) -> None:
    frame = phase_contrast()
    reduced = reduce_area(frame, factor=factor)
    gain = flat_field(reduced, sigma_px=50)
    table = gaussian_matching_table(intensity_histogram(reduced))
    slow = np.rint(reduced * gain.astype(np.float64)).clip(0, 65535).astype(np.uint16)
    result = normalise_cells(frame, table=table, gain=gain, factor=factor)
    assert (result != table[slow]).mean() < 1e-4  # float32 against float64 at a rounding edge
    np.testing.assert_array_equal(normalise_cells(frame, table=table, gain=None, factor=factor), table[reduced])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cells_are_evened_and_looked_up_as_in_two_steps(dtype: type[np.unsignedinteger]) -> None:
    random = np.random.default_rng(12)
    frame = random.integers(0, np.iinfo(dtype).max + 1, (150, 131)).astype(dtype)
    gain = random.uniform(0, 3, frame.shape).astype(np.float32)
    gain[::7] = 1.5  # halves
    table = random.integers(0, 256, 65536).astype(np.uint8)
    expected = apply_table(even_illumination(frame, gain), table)
    np.testing.assert_array_equal(normalise_cells(frame, table=table, gain=gain, factor=1), expected)


@pytest.mark.real
def test_default_grey_levels_are_those_of_the_published_frame(shared_data) -> None:
    import cv2

    cell = cv2.imread(str(shared_data / "microglia" / "cell.png"), cv2.IMREAD_UNCHANGED)
    assert cell.mean() == pytest.approx(CELL_GREY_MEAN, abs=0.5)
    assert cell.std() == pytest.approx(CELL_GREY_SD, abs=0.5)


def test_oracle_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        published_match(phase_contrast(), template_image())
