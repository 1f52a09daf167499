"""Shifts are exact: a shifted frame is rendered anew, never resampled."""

from __future__ import annotations

import numpy as np
import pytest

from phagostat.simulate import SimulationSpec
from phagostat.simulate.painting import Texture, blur, paint_spots
from phagostat.simulate.scenarios import blurred_burst, calm
from phagostat.simulate.scene import SceneSimulation

RENDERINGS = ["clean_aggregates", "clean_cells"]


@pytest.fixture(scope="module")
def scene() -> SceneSimulation:
    # the stage path makes room on the glass for all shifts that the tests render at
    scenario = calm() | blurred_burst(2, 1, sigma_px=3.0)
    scenario = scenario | type(scenario)(shifts_yx_px={0: (0.0, 0.0), 3: (40.0, 40.0), 4: (-40.0, -40.0)})
    return SceneSimulation(SimulationSpec(shape_yx=(256, 320), frames=5, seed=5, scenario=scenario), 0)


def small_shift(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Least-squares estimate of a shift well below the finest structure, from central gradients of the mean."""
    mean = 0.5 * (first.astype(float) + second)
    gradients = np.stack([g[8:-8, 8:-8].ravel() for g in np.gradient(mean)], axis=1)
    change = (first.astype(float) - second)[8:-8, 8:-8].ravel()
    return np.linalg.lstsq(gradients, change, rcond=None)[0]


@pytest.mark.parametrize("frame", [0, 2], ids=["sharp", "blurred"])
@pytest.mark.parametrize("rendering", RENDERINGS)
def test_integer_shift_moves_every_pixel_unchanged(scene: SceneSimulation, rendering: str, frame: int) -> None:
    render = getattr(scene, rendering)
    still, moved = render(frame, shift_yx_px=(0.0, 0.0)), render(frame, shift_yx_px=(17.0, -23.0))
    overlap_still, overlap_moved = still[:-17, 23:], moved[17:, :-23]
    assert still.std() > 50
    assert np.abs(overlap_still - overlap_moved).max() < 0.5  # counts, of thousands; the noise is larger by far


@pytest.mark.parametrize("shift", [(0.25, -0.4), (0.5, 0.5), (-0.1, 0.3)])
@pytest.mark.parametrize("rendering", RENDERINGS)
def test_subpixel_shift_is_what_the_truth_says(
    scene: SceneSimulation, rendering: str, shift: tuple[float, float]
) -> None:
    render = getattr(scene, rendering)
    # central differences underestimate the slope of fine structure: judge on the smoothed rendering
    still = blur(render(0, shift_yx_px=(0.0, 0.0)), 4.0)
    moved = blur(render(0, shift_yx_px=shift), 4.0)
    assert small_shift(still[24:-24, 24:-24], moved[24:-24, 24:-24]) == pytest.approx(shift, abs=0.01)


def test_every_frame_is_rendered_at_its_own_shift(scene: SceneSimulation) -> None:
    for frame in (0, 3):
        shift = tuple(scene.conditions.shift_yx_px[frame])
        assert np.array_equal(scene.clean_aggregates(frame), scene.clean_aggregates(frame, shift_yx_px=shift))


def test_new_content_enters_at_the_border(scene: SceneSimulation) -> None:
    """The strip that a shift uncovers holds objects, not a blank or a mirrored border."""
    strip = scene.clean_cells(0, shift_yx_px=(40.0, 0.0))[:40]
    mirrored = scene.clean_cells(0, shift_yx_px=(0.0, 0.0))[:40]
    assert strip.std() > 20
    assert np.abs(strip - mirrored[::-1]).max() > 100


def test_spot_keeps_its_light_and_place_at_any_fraction() -> None:
    for fraction in np.linspace(0.0, 1.0, 7):
        canvas = np.zeros((64, 80), dtype=np.float32)
        paint_spots(
            canvas, position=np.array([[30.0 + fraction, 41.0 - fraction]]), sigma=np.array([2.5]),
            amplitude=np.array([100.0]),
        )  # fmt: skip
        y, x = np.indices(canvas.shape)
        assert canvas.sum() == pytest.approx(100 * 2 * np.pi * 2.5**2, rel=1e-4)
        assert (canvas * y).sum() / canvas.sum() == pytest.approx(30.0 + fraction, abs=1e-3)
        assert (canvas * x).sum() / canvas.sum() == pytest.approx(41.0 - fraction, abs=1e-3)


def test_spot_is_cut_by_the_border_not_moved() -> None:
    whole = np.zeros((60, 60), dtype=np.float32)
    paint_spots(whole, position=np.array([[20.3, 22.7]]), sigma=np.array([3.0]), amplitude=np.array([1.0]))
    corner = np.zeros((30, 30), dtype=np.float32)
    paint_spots(corner, position=np.array([[0.3, 2.7]]), sigma=np.array([3.0]), amplitude=np.array([1.0]))
    np.testing.assert_allclose(corner, whole[20:50, 20:50], atol=1e-6)


def test_texture_agrees_with_its_plain_sum() -> None:
    texture = Texture.draw(period_px=50.0, shortest_px=10.0, corner_px=20.0, slope=3.0, random=np.random.default_rng(0))
    y, x = np.array([0.3, 7.9, -4.0]), np.array([1.1, 30.0])
    order = texture.coefficients.shape[1] - 1
    expected = np.zeros((3, 2))
    for row, ky in enumerate(range(-order, order + 1)):
        for kx in range(order + 1):
            angle = 2 * np.pi * (ky * y[:, None] + kx * x[None]) / 50.0
            expected += np.real(texture.coefficients[row, kx] * np.exp(1j * angle))
    np.testing.assert_allclose(texture.at(y, x), expected, atol=1e-5)


def test_blur_is_the_gaussian_it_says() -> None:
    image = np.zeros((65, 65), dtype=np.float32)
    image[32, 32] = 1.0
    y, x = np.indices(image.shape) - 32
    expected = np.exp(-(y**2 + x**2) / (2 * 3.0**2)) / (2 * np.pi * 3.0**2)
    np.testing.assert_allclose(blur(image, 3.0), expected, atol=1e-6)
