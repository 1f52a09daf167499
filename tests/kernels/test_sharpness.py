"""Sharpness falls with defocus and with nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace

from phagostat.kernels.normalisation import reduce_area
from phagostat.kernels.reference import MIN_FOCUS
from phagostat.kernels.sharpness import Sharpness, focus, laplacian_variance, sharpness
from phagostat.simulate.movie import iter_frames
from phagostat.simulate.scenarios import SceneOverrides
from phagostat.simulate.spec import SimulationSpec

from .aggregate_scenes import AggregateScene, aggregate_scene

SUSPECT_BELOW = 0.7


@pytest.fixture(scope="module", params=[0, 1, 2])
def scene(request: pytest.FixtureRequest) -> AggregateScene:
    return aggregate_scene(60, seed=request.param)


@pytest.fixture(scope="module")
def sharp(scene: AggregateScene) -> float:
    return sharpness(scene.frame()).value


@pytest.mark.parametrize("defocus_px", [0.0, 0.25, 0.5])
def test_defocus_up_to_half_a_pixel_is_not_suspect(scene: AggregateScene, sharp: float, defocus_px: float) -> None:
    assert sharpness(scene.frame(seed=1, defocus_px=defocus_px)).value > 0.85 * sharp


@pytest.mark.parametrize("defocus_px", [2.0, 2.5, 3.0, 4.0, 6.0, 8.0])
def test_defocus_of_two_pixels_and_more_is_suspect(scene: AggregateScene, sharp: float, defocus_px: float) -> None:
    blurred = sharpness(scene.frame(seed=1, defocus_px=defocus_px))
    assert blurred.value < 0.8 * SUSPECT_BELOW * sharp or not blurred.ok


def test_sharpness_falls_steadily(scene: AggregateScene) -> None:
    values = [sharpness(scene.frame(defocus_px=d)).value for d in (0, 0.5, 1, 1.5, 2, 3, 4)]
    assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("fading", [0.95, 0.8, 0.5])
def test_bleaching_is_not_blur(scene: AggregateScene, sharp: float, fading: float) -> None:
    assert sharpness(scene.frame(seed=1, fading=fading)).value == pytest.approx(sharp, rel=0.02)


def test_another_draw_of_camera_noise_is_not_blur(scene: AggregateScene, sharp: float) -> None:
    for seed in range(1, 5):
        assert sharpness(scene.frame(seed=seed)).value == pytest.approx(sharp, rel=0.02)


def test_three_times_the_noise_is_not_blur(scene: AggregateScene, sharp: float) -> None:
    assert sharpness(scene.frame(noise_counts=30)).value == pytest.approx(sharp, rel=0.07)


def test_background_and_glow_are_not_blur(scene: AggregateScene, sharp: float) -> None:
    slope = np.linspace(200, 3000, scene.shape_yx[1])[None, :]
    assert sharpness(scene.frame(glow_counts=3000)).value == pytest.approx(sharp, rel=0.04)
    assert sharpness(scene.frame(glow_counts=slope)).value == pytest.approx(sharp, rel=0.04)


def test_stage_shifts_are_not_blur(scene: AggregateScene, sharp: float) -> None:
    for shift in ((0.5, 0.25), (3.3, -6.7), (-11.0, 4.5)):
        assert sharpness(scene.frame(shift_yx_px=shift)).value == pytest.approx(sharp, rel=0.06)


def test_losing_any_one_aggregate_of_sixty_is_not_blur(scene: AggregateScene, sharp: float) -> None:
    losses = [sharpness(scene.without(np.array([k])).frame()).value / sharp - 1 for k in range(0, 60, 4)]
    assert np.max(np.abs(losses)) < 0.08
    assert np.median(np.abs(losses)) < 0.02


def test_losing_half_of_the_aggregates_is_not_blur(scene: AggregateScene, sharp: float) -> None:
    for seed in range(4):
        eaten = np.random.default_rng(seed).permutation(60)[:30]
        value = sharpness(scene.without(eaten).frame(seed=seed)).value
        assert 0.85 * sharp < value < 1.2 * sharp


def test_what_the_published_measure_takes_for_blur() -> None:
    scene = aggregate_scene(60)
    before, after = (laplacian_variance(scene.frame(fading=f, noise_counts=0.5)) for f in (1.0, 0.8))
    assert 1 - after / before > 0.3


def test_scale_is_structure_in_counts_and_noise_is_the_cameras(scene: AggregateScene) -> None:
    bright, dim = sharpness(scene.frame()), sharpness(scene.frame(fading=0.5))
    assert dim.intensity_scale_counts == pytest.approx(0.5 * bright.intensity_scale_counts, rel=0.1)
    expected = np.sqrt(10**2 + 0.25 * 300)
    assert bright.noise_counts == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("measure", [sharpness, focus])
@pytest.mark.parametrize("shape", [(512, 512), (333, 417)])
def test_frames_without_aggregates_have_no_value(measure, shape: tuple[int, int]) -> None:
    noise = np.rint(np.random.default_rng(0).normal(400, 10, shape)).astype(np.uint16)
    for frame in (noise, np.full(shape, 7, np.uint8), np.zeros(shape, np.uint16), np.full(shape, 65535, np.uint16)):
        result = measure(frame)
        assert np.isnan(result.value)
        assert not result.ok
        assert "noise" in str(result.reason)


@pytest.mark.parametrize("measure", [sharpness, focus])
def test_frames_smaller_than_a_window_have_no_value(measure) -> None:
    for shape in ((5, 5), (23, 400), (1, 1)):
        result: Sharpness = measure(np.zeros(shape, np.uint16))
        assert not result.ok
        assert "smaller" in str(result.reason)


def test_odd_sizes_and_eight_bit() -> None:
    frame = aggregate_scene(60).frame()
    value = sharpness(frame).value
    assert sharpness(frame[:-3, :-5]).value == pytest.approx(value, rel=0.05)
    grey = np.rint(frame / 40).clip(0, 255).astype(np.uint8)
    assert sharpness(grey).value == pytest.approx(value, rel=0.1)


def test_value_against_a_plain_computation() -> None:
    """Without noise and with one clump: the ratio of the mean squared Laplacians in the windows that hold it."""
    scene = aggregate_scene(1, shape_yx=(256, 256), seed=5, margin_px=100)
    frame = scene.frame(noise_counts=0, glow_counts=0)
    x = frame.astype(float)
    fine = laplace(gaussian_filter(x, 1.5)) ** 2
    coarse = laplace(gaussian_filter(x, 3.0)) ** 2
    y0, x0 = (int(v) for v in scene.place_yx.mean(axis=0))
    window = np.s_[y0 - 12 : y0 + 12, x0 - 12 : x0 + 12]
    assert sharpness(frame, quantile=0.5).value == pytest.approx(fine[window].sum() / coarse[window].sum(), rel=0.1)


def test_laplacian_variance_is_the_published_call() -> None:
    frame = (aggregate_scene(20).frame() >> 6).clip(0, 255).astype(np.uint8)
    assert laplacian_variance(frame) == cv2.Laplacian(frame, cv2.CV_64F).var()
    assert laplacian_variance(frame) == pytest.approx(laplace(frame.astype(float), mode="mirror").var())


def test_focus_tells_small_blurred_aggregates_from_large_sharp_ones(scene: AggregateScene) -> None:
    for defocus_px in (0.0, 0.5):
        assert focus(scene.frame(defocus_px=defocus_px)).value > 1.08 * MIN_FOCUS
    for defocus_px in (2.0, 3.0, 5.0, 8.0):
        blurred = focus(scene.frame(defocus_px=defocus_px))
        assert blurred.value < 0.92 * MIN_FOCUS or not blurred.ok


@pytest.mark.parametrize(("preset", "seed"), [("default", 1), ("hard", 2)])
def test_defocus_in_a_simulated_movie_in_which_cells_eat(preset: str, seed: int) -> None:
    defocus = {0: 0.0, 1: 0.2, 2: 0.5, 3: 0.3, 4: 0.5, 5: 2.0, 6: 3.0, 7: 5.0}
    scenario = SceneOverrides(defocus_px=defocus, no_random_blur=True)
    spec = SimulationSpec(preset=preset, seed=seed, scenes=1, frames=8, shape_yx=(640, 640), scenario=scenario)
    frames = [reduce_area(frame.planes[0], factor=2) for frame in iter_frames(spec)]
    values = np.array([sharpness(frame).value for frame in frames])
    accepted = np.median(values[:5])
    assert values[:5].min() > 1.1 * SUSPECT_BELOW * accepted
    assert values[5:].max() < 0.85 * SUSPECT_BELOW * accepted
    assert min(focus(frame).value for frame in frames[:5]) > MIN_FOCUS
    assert not any(focus(frame).value > MIN_FOCUS for frame in frames[5:])


@pytest.mark.real
class TestRealFrame:
    @pytest.fixture
    def image(self, shared_data) -> np.ndarray:
        path = shared_data / "microglia" / "aggregates.png"
        return 100 + 60 * cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(float)

    @staticmethod
    def camera(image: np.ndarray, seed: int = 0) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal(image.shape) * np.sqrt(100 + 0.5 * image)
        return np.rint(image + noise).clip(0, 65535).astype(np.uint16)

    def test_defocus(self, image: np.ndarray) -> None:
        sharp = sharpness(self.camera(image)).value
        ratios = {
            s: sharpness(self.camera(gaussian_filter(image, s), 1)).value / sharp for s in (0.25, 0.5, 2, 3, 4, 6, 8)
        }
        assert min(ratios[0.25], ratios[0.5]) > 0.9
        assert max(ratios[s] for s in (2, 3, 4, 6, 8)) < 0.5

    def test_a_fade_by_a_fifth_changes_less_than_two_percent(self, image: np.ndarray) -> None:
        faded = 100 + 0.8 * (image - 100)
        assert sharpness(self.camera(faded, 1)).value == pytest.approx(sharpness(self.camera(image)).value, rel=0.02)

    def test_absolute_focus(self, image: np.ndarray) -> None:
        for s in (0.25, 0.5):
            assert focus(self.camera(gaussian_filter(image, s))).value > 1.2 * MIN_FOCUS
        for s in (2, 3, 4, 6, 8):
            result = focus(self.camera(gaussian_filter(image, s)))
            assert result.value < 0.9 * MIN_FOCUS or not result.ok
