"""Features of cells: against scikit-image, and against what is known of simple shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops
from skimage.segmentation import relabel_sequential

from phagostat.kernels.cells import CELL_FEATURES, cell_features

PIXEL_UM = 0.206


@st.composite
def label_images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=18))
    blocks = draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 0, 1, 1, 2, 3, 4])))
    if draw(st.booleans()):
        blocks = np.repeat(np.repeat(blocks, 3, 0), 3, 1)
    labels = relabel_sequential(blocks)[0].astype(np.uint16)
    probability = draw(hnp.arrays(np.uint8, labels.shape))
    return labels, probability


def touching(labels: np.ndarray, label: int) -> int:
    """Distinct labels in the eight neighbours of this label's pixels."""
    padded = np.pad(labels, 1)
    around = set()
    for y, x in np.argwhere(padded == label):
        around |= set(padded[y - 1 : y + 2, x - 1 : x + 2].ravel().tolist())
    return len(around - {0, label})


@settings(deadline=None)  # the first call compiles
@given(label_images(), st.sampled_from([1, 2, 3]))
def test_equal_to_regionprops(drawn, factor: int) -> None:
    labels, probability = drawn
    table = cell_features(labels, probability, pixel_size_um=PIXEL_UM, factor=factor, shift_yx_px=(3.0, -1.5))
    regions = regionprops(labels, intensity_image=probability)
    assert table.dtype == CELL_FEATURES
    assert len(table) == len(regions)
    for row, region in zip(table, regions, strict=True):
        assert row["label"] == region.label
        assert row["area_px"] == region.area
        assert row["area_um2"] == pytest.approx(region.area * PIXEL_UM**2)
        native = (np.array(region.centroid) + 0.5) * factor - 0.5
        np.testing.assert_allclose([row["y_px"], row["x_px"]], native, rtol=0, atol=1e-9)
        registered = (native - (3.0, -1.5)) * PIXEL_UM / factor
        np.testing.assert_allclose([row["registered_y_um"], row["registered_x_um"]], registered, rtol=0, atol=1e-9)
        assert tuple(row[["top_px", "left_px", "bottom_px", "right_px"]]) == region.bbox
        assert row["perimeter_um"] == pytest.approx(region.perimeter * PIXEL_UM)
        assert row["major_axis_um"] == pytest.approx(region.axis_major_length * PIXEL_UM, abs=1e-5)
        # scikit-image's rounding leaves its smallest moments slightly off zero.
        assert row["minor_axis_um"] == pytest.approx(region.axis_minor_length * PIXEL_UM, abs=1e-5)
        assert row["eccentricity"] == pytest.approx(region.eccentricity, abs=1e-6)
        assert row["mean_probability"] == pytest.approx(region.intensity_mean / 255)
        certain = np.count_nonzero(probability[labels == region.label] > 0.98 * 255)
        assert row["certain_area_um2"] == pytest.approx(certain * PIXEL_UM**2)
        top, left, bottom, right = region.bbox
        assert row["touches_border"] == (0 in (top, left) or bottom == labels.shape[0] or right == labels.shape[1])
        assert row["n_touching"] == touching(labels, region.label)
        assert not row["incoherent"]


def test_a_disk_is_round_and_an_ellipse_points() -> None:
    y, x = np.mgrid[:120, :200].astype(float)
    labels = np.zeros((120, 200), np.uint16)
    labels[np.hypot(y - 40, x - 40) < 25] = 1
    angle = 0.4
    along = (y - 70) * np.cos(angle) + (x - 140) * np.sin(angle)
    across = -(y - 70) * np.sin(angle) + (x - 140) * np.cos(angle)
    labels[(along / 40) ** 2 + (across / 15) ** 2 < 1] = 2
    disk, ellipse = cell_features(labels, np.full(labels.shape, 255, np.uint8), pixel_size_um=0.5, factor=1)
    assert disk["eccentricity"] < 0.05
    assert disk["area_um2"] == pytest.approx(np.pi * 12.5**2, rel=0.02)
    assert disk["perimeter_um"] == pytest.approx(2 * np.pi * 12.5, rel=0.06)
    assert ellipse["major_axis_um"] == pytest.approx(40, rel=0.02)
    assert ellipse["minor_axis_um"] == pytest.approx(15, rel=0.02)
    assert ellipse["orientation_rad"] == pytest.approx(angle, abs=0.02)


def test_without_a_shift_nothing_is_registered() -> None:
    labels = np.ones((4, 5), np.uint16)
    probability = np.full(labels.shape, 255, np.uint8)
    for shift in (None, (np.nan, np.nan)):
        (row,) = cell_features(labels, probability, pixel_size_um=1.0, factor=2, shift_yx_px=shift)
        assert np.isnan(row["registered_y_um"])
        assert np.isnan(row["registered_x_um"])
        assert (row["y_px"], row["x_px"]) == (3.5, 4.5)
        assert row["touches_border"]
        assert row["mean_probability"] == 1.0


def test_incoherent_cells_keep_their_flag() -> None:
    labels = np.array([[1, 0, 2]], np.uint16)
    table = cell_features(
        labels, np.zeros_like(labels, np.uint8), pixel_size_um=1.0, factor=1, incoherent=np.array([False, True])
    )
    np.testing.assert_array_equal(table["incoherent"], [False, True])


def test_no_cells_and_wrong_input() -> None:
    empty = np.zeros((3, 4), np.uint16)
    probability = np.zeros((3, 4), np.uint8)
    assert cell_features(empty, probability, pixel_size_um=1.0, factor=1).size == 0
    with pytest.raises(ValueError, match="without gaps"):
        cell_features(np.array([[0, 2]], np.uint16), probability[:1, :2], pixel_size_um=1.0, factor=1)
    with pytest.raises(ValueError, match="one shape"):
        cell_features(empty, probability[:2], pixel_size_um=1.0, factor=1)
    with pytest.raises(ValueError, match="as many flags"):
        cell_features(empty, probability, pixel_size_um=1.0, factor=1, incoherent=np.array([True]))
