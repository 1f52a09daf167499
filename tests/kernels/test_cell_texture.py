"""Cell probability from texture: drawn cells whose place is known, frames without any, and real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from phagostat.kernels.cell_texture import DEFAULTS, roughness, texture_probability
from phagostat.kernels.intensity import intensity_histogram
from phagostat.kernels.normalisation import gaussian_matching_table, normalise_cells
from phagostat.kernels.watershed import cell_instances, label_seeds

PIXEL_UM = 0.206


def drawn(
    shape: tuple[int, int],
    discs_um: list[tuple[float, float, float]],
    *,
    pixel_um: float = PIXEL_UM,
    noise: float = 3.0,
    grain: float = 30.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Discs (y, x, radius in um) of grains of 0.4 um that thin out towards the rim, on noisy glass; and their mask."""
    random = np.random.default_rng(seed)
    y, x = (np.indices(shape) + 0.5) * pixel_um
    density = np.zeros(shape)
    for cy, cx, radius in discs_um:
        distance = np.hypot(y - cy, x - cx) / radius
        density = np.maximum(density, np.where(distance < 1, 1 - 0.6 * distance**2, 0))
    grains = gaussian_filter(random.normal(size=shape), 0.4 / pixel_um)
    image = 115 + grain * density * grains / grains.std() + random.normal(0, noise, shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), density > 0


def overlap(found: np.ndarray, mask: np.ndarray) -> float:
    return np.count_nonzero(found & mask) / np.count_nonzero(found | mask)


def cells_of(frame: np.ndarray, **options) -> tuple[int, np.ndarray]:
    probability = texture_probability(frame, pixel_size_um=PIXEL_UM, options=replace(DEFAULTS, **options))
    seeds = label_seeds(probability > 229, pixel_size_um=PIXEL_UM, min_area_um2=20)
    cells = cell_instances(probability, seeds.labels, pixel_size_um=PIXEL_UM, min_seed_area_um2=20)
    return cells.n_cells, cells.labels


@pytest.mark.parametrize("noise", [0.0, 3.0, 8.0])
def test_a_cell_is_found_where_it_is(noise: float) -> None:
    frame, mask = drawn((300, 320), [(30.0, 34.0, 16.0)], noise=noise)
    probability = texture_probability(frame, pixel_size_um=PIXEL_UM)
    assert probability.dtype == np.uint8
    assert overlap(probability > 127, mask) > 0.7
    y, x = (np.indices(mask.shape) + 0.5) * PIXEL_UM
    middle = np.hypot(y - 30, x - 34) < 10
    assert (probability[middle] > 229).all()
    assert (probability[np.hypot(y - 30, x - 34) > 20] < 64).all()


@pytest.mark.parametrize("pixel_um", [0.103, 0.13, 0.206, 0.3, 0.42])
def test_lengths_are_in_um(pixel_um: float) -> None:
    side = round(66 / pixel_um)
    frame, mask = drawn((side, side), [(30.0, 34.0, 16.0)], pixel_um=pixel_um)
    assert overlap(texture_probability(frame, pixel_size_um=pixel_um) > 127, mask) > 0.7


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (7, 5), (301, 203)])
@pytest.mark.parametrize("grey", [0, 115, 255])
def test_frames_without_anything_are_empty(shape: tuple[int, int], grey: int) -> None:
    probability = texture_probability(np.full(shape, grey, np.uint8), pixel_size_um=PIXEL_UM)
    assert probability.shape == shape
    assert not (probability > 127).any()


@pytest.mark.parametrize("noise", [1.0, 5.0, 34.0])
def test_noise_is_no_cell(noise: float) -> None:
    """34 greys is what the normalisation makes of the noise of a scene without cells."""
    frame, _ = drawn((400, 400), [], noise=noise)
    assert not (texture_probability(frame, pixel_size_um=PIXEL_UM) > 127).any()


def test_roughness_of_white_noise_is_small_whatever_its_strength() -> None:
    random = np.random.default_rng(3)
    for sd in (2.0, 20.0):
        rough = roughness(random.normal(100, sd, (300, 300)).astype(np.float32), pixel_size_um=0.412)
        assert np.quantile(rough, 0.99) < 0.2 * sd


def test_a_cell_that_fills_the_frame() -> None:
    frame, _ = drawn((300, 320), [(30.0, 34.0, 120.0)])
    _, labels = cells_of(frame)
    assert np.mean(labels > 0) > 0.97


def test_cells_that_touch_are_two_and_one_cell_is_one() -> None:
    apart, _ = drawn((260, 420), [(26.0, 24.0, 17.0), (26.0, 60.0, 17.0)])
    touching, _ = drawn((260, 420), [(26.0, 28.0, 17.0), (26.0, 57.0, 17.0)])
    one, _ = drawn((260, 420), [(26.0, 42.0, 17.0)])
    for frame, expected in ((apart, 2), (touching, 2), (one, 1)):
        n_cells, labels = cells_of(frame)
        assert n_cells == expected
    n_cells, labels = cells_of(touching)
    left, right = labels[126, round(24 / PIXEL_UM)], labels[126, round(61 / PIXEL_UM)]
    assert left != right
    assert left > 0
    assert right > 0
    assert cells_of(touching, max_neck=0.01)[0] == 1


def test_small_objects_are_no_cells() -> None:
    frame, _ = drawn((300, 320), [(30.0, 34.0, 3.5)])
    assert cells_of(frame)[0] == 0
    assert cells_of(frame, min_cell_um2=5.0, min_cell_px=30.0)[0] == 1


def test_a_smooth_nucleus_belongs_to_its_cell() -> None:
    frame, mask = drawn((300, 320), [(30.0, 34.0, 16.0)], noise=2.0)
    y, x = (np.indices(mask.shape) + 0.5) * PIXEL_UM
    nucleus = np.hypot(y - 31, x - 33) < 3.5
    smooth = np.random.default_rng(1).normal(115, 2, mask.shape)
    frame = np.where(nucleus, smooth.round(), frame).astype(np.uint8)
    assert (texture_probability(frame, pixel_size_um=PIXEL_UM)[nucleus] > 127).all()


def test_the_same_bytes_with_any_number_of_threads() -> None:
    frame, _ = drawn((401, 503), [(30.0, 34.0, 16.0), (50.0, 70.0, 14.0)])
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = texture_probability(frame, pixel_size_um=PIXEL_UM)
        cv2.setNumThreads(2)
        np.testing.assert_array_equal(texture_probability(frame, pixel_size_um=PIXEL_UM), alone)
    finally:
        cv2.setNumThreads(before)


def test_wrong_input_is_said() -> None:
    with pytest.raises(TypeError, match="8 bit"):
        texture_probability(np.zeros((4, 4), np.uint16), pixel_size_um=PIXEL_UM)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        texture_probability(np.zeros((4, 4), np.uint8), pixel_size_um=0)


@pytest.mark.real
def test_real_microglia(shared_data: Path) -> None:
    """By eye the frame holds about 37 cells; with flat lamellae they cover three quarters of it."""
    frame = cv2.imread(str(shared_data / "microglia" / "cell.png"), cv2.IMREAD_GRAYSCALE)
    n_cells, labels = cells_of(frame)
    assert 28 <= n_cells <= 50
    assert 0.6 < np.mean(labels > 0) < 0.85
    assert labels[500, 270] > 0
    assert labels[720, 400] == 0


@pytest.mark.real
def test_real_fields_of_other_cells(shared_data: Path) -> None:
    """Cells four times as large among debris, at 0.87 um a pixel: found with the same options."""
    import tifffile

    scores = []
    for number in (2, 13, 25, 36):
        field = tifffile.imread(shared_data / "phase-contrast" / f"field{number:02}.tif")
        truth = tifffile.imread(shared_data / "phase-contrast" / f"field{number:02}_labels.tif") > 0
        table = gaussian_matching_table(intensity_histogram(field))
        frame = normalise_cells(field, table=table, gain=None, factor=1)
        found = texture_probability(frame, pixel_size_um=0.87) > 127
        scores.append(2 * np.count_nonzero(found & truth) / (found.sum() + truth.sum()))
    assert min(scores) > 0.6
    assert np.mean(scores) > 0.7
