"""Compiled loops of registration against plain, slow ways to the same numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from phagostat.kernels import translation_loops as loops
from phagostat.kernels import translation_sums as sums
from phagostat.kernels.translation_filters import cut_around, gaussian_taps, moved_patches

SIDE = loops.SQUARE_PX
N_BLOCKS = SIDE // loops.BLOCK_PX


@pytest.fixture(params=[np.uint8, np.uint16])
def frame(request):
    return np.random.default_rng(1).integers(0, 255, (150, 170)).astype(request.param)


def by_blocks(pixels):
    """(..., SIDE, SIDE) to sums over blocks, (..., blocks)."""
    shape = (*pixels.shape[:-2], N_BLOCKS, loops.BLOCK_PX, N_BLOCKS, loops.BLOCK_PX)
    return pixels.reshape(shape).sum(axis=(-3, -1)).reshape(*pixels.shape[:-2], -1)


def test_sums_over_areas(frame):
    found = np.empty((150 // 8, 170 // 8), np.uint32)
    loops.sum_areas(frame, 8, found)
    whole = frame[:144, :168].astype(int)
    assert np.array_equal(found, whole.reshape(18, 8, 21, 8).sum(axis=(1, 3)))


def test_sums_over_areas_do_not_overflow():
    found = np.empty((2, 2), np.uint32)
    loops.sum_areas(np.full((16, 16), 65535, np.uint16), 8, found)
    assert (found == 65535 * 64).all()


def test_residuals_of_squares(frame):
    """Within the field and across its border, where the last pixels are repeated."""
    random = np.random.default_rng(2)
    corner = np.array([(40, 50), (0, 0), (-9, 130), (117, 140), (60, 100)])
    chosen = np.array([0, 2, 3, 5, 6])
    pattern, weighted = random.normal(0, 9, (7, SIDE, SIDE)), random.normal(0, 1, (7, 5, SIDE, SIDE))
    shift = np.array((0.31, -0.44))
    taps = [gaussian_taps(float(f), sigma_px=1.4, radius_px=loops.MARGIN_PX).astype(np.float32) for f in shift]
    found = np.zeros((5, 21, N_BLOCKS**2), np.float32)
    args = (pattern.astype(np.float32), np.float32(0.7), np.float32(90.0), weighted.astype(np.float32), found)
    loops.sum_residuals(frame, corner, chosen, *taps, *args)
    patches = cut_around(frame, corner, side=SIDE, margin=loops.MARGIN_PX)
    read = moved_patches(patches, shift, sigma_px=1.4, margin=loops.MARGIN_PX).reshape(-1, SIDE, SIDE)
    left = read.astype(float) - 0.7 * pattern[chosen] - 90
    terms = weighted[chosen] * left[:, None]
    assert_allclose(found[:, 15:20], by_blocks(terms), rtol=1e-4, atol=1e-2)
    assert_allclose(found[:, 20], by_blocks(terms[:, 0] * left), rtol=1e-4, atol=2.0)
    assert not found[:, :15].any()


def test_overlap_correlation():
    """Every shift against the coefficient of what overlaps."""
    random = np.random.default_rng(3)
    fixed, moving = (random.normal(2, 1, (14, 17)).astype(np.float32) for _ in range(2))
    padded = (14 + 5, 17 + 6)
    product = np.fft.irfft2(np.conj(np.fft.rfft2(fixed, padded)) * np.fft.rfft2(moving, padded), padded)
    tables = [t for image in (fixed, moving) for t in cv2.integral2(image, sdepth=cv2.CV_64F)]
    found = np.empty((9, 11))
    loops.correlate_overlaps(product.astype(np.float32), *tables, found, 1e-6)
    for dy in range(-4, 5):
        for dx in range(-5, 6):
            a = fixed[max(0, -dy) : 14 - max(0, dy), max(0, -dx) : 17 - max(0, dx)]
            b = moving[max(0, dy) : 14 - max(0, -dy), max(0, dx) : 17 - max(0, -dx)]
            assert_allclose(found[dy + 4, dx + 5], np.corrcoef(a.ravel(), b.ravel())[0, 1], atol=1e-4)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_reduced_patches(frame, step):
    corner = np.array([(20, 30), (-5, 60), (130, 150)])
    found = np.empty((3, 12, 12), np.float32)
    loops.cut_reduced(frame, corner, step, found)
    whole = cut_around(frame, corner, side=12 * step, margin=0)
    assert_allclose(found, whole.reshape(3, 12, step, 12, step).mean(axis=(2, 4)), rtol=1e-5)


@pytest.mark.parametrize("side", [12, 25, 28, 40])
def test_templates_are_found_where_opencv_finds_them(side):
    random = np.random.default_rng(4)
    patches = cv2.GaussianBlur(random.normal(500, 80, (side + 8, 6 * (side + 8))).astype(np.float32), (0, 0), 1.5)
    patches = np.ascontiguousarray(patches.reshape(side + 8, 6, side + 8).transpose(1, 0, 2))
    places = np.array([(4, 4), (2, 5), (6, 1), (0, 3), (7, 7), (5, 2)])
    cut = [patch[y : y + side, x : x + side] for patch, (y, x) in zip(patches, places, strict=True)]
    templates = np.stack([tile - tile.mean() for tile in cut])[::-1].astype(np.float32).copy()
    place, strength = np.empty((6, 2)), np.empty(6)
    loops.find_templates(patches, np.arange(5, -1, -1), templates, place, strength)
    for n, patch in enumerate(patches):
        score = cv2.matchTemplate(patch, templates[5 - n], cv2.TM_CCOEFF_NORMED)
        row, column = np.unravel_index(score.argmax(), score.shape)
        assert (row, column) == tuple(places[n])
        at_edge = not (0 < row < 8 and 0 < column < 8)
        assert_allclose(strength[n], 0 if at_edge else 1, atol=1e-4)
        assert np.abs(place[n] + 4 - places[n]).max() < 0.3


def test_tiles_are_projected(frame):
    random = np.random.default_rng(5)
    side, width = 40, 64
    weight, patterns = np.zeros((4, side, width), np.float32), np.zeros((4, 3, side, width), np.float32)
    weight[..., :side] = random.uniform(0, 1, (4, side, side)).round(1)
    patterns[..., :side] = random.normal(0, 1, (4, 3, side, side))
    corner, chosen, shift = np.array([(30, 40), (70, 90), (5, 5)]), np.array([3, 0, 1]), np.array((-0.2, 0.45))
    taps = [gaussian_taps(float(f)).astype(np.float32) for f in shift]
    centred, found = np.empty((3, side, width), np.float32), np.empty((3, 5))
    loops.project_tiles(frame, corner, chosen, *taps, weight, patterns, centred, found)
    patches = cut_around(frame, corner, side=side, margin=loops.TILE_MARGIN_PX)
    own = weight[chosen][..., :side].astype(float)
    read = moved_patches(patches, shift).reshape(-1, side, side) * own
    mean = (read * own).sum(axis=(1, 2)) / (own**2).sum(axis=(1, 2))
    read -= mean[:, None, None] * own
    assert_allclose(found[:, 0], mean, rtol=1e-5)
    assert_allclose(found[:, 1:4], np.einsum("nkyx,nyx->nk", patterns[chosen][..., :side], read), rtol=1e-3, atol=0.1)
    assert_allclose(found[:, 4], (read**2).sum(axis=(1, 2)), rtol=1e-4)
    assert_allclose(centred[..., :side], read, atol=1e-3)
    assert not centred[..., side:].any()
    gain, energies = np.array((0.5, 2.0, 1.0)), np.empty((3, 3))
    loops.compare_tiles(centred, chosen, patterns, gain, energies)
    fitted = patterns[chosen, 0, :, :side] * gain[:, None, None]
    averages = [part.reshape(3, 10, 4, 10, 4).mean(axis=(2, 4)) for part in (read - fitted, fitted)]
    expected = [((read - fitted) ** 2).sum(axis=(1, 2)), *((part**2).sum(axis=(1, 2)) for part in averages)]
    assert_allclose(energies, np.stack(expected, axis=1), rtol=1e-3)


def test_weights_of_tiles():
    """One scatter, from equal weights: the common displacement by precision, then Tukey's weights."""
    random = np.random.default_rng(6)
    displacement = random.normal(0, 0.05, (12, 2))
    displacement[3] += 2.0
    factor = random.normal(0, 0.03, (12, 2, 2))
    covariance = factor @ factor.transpose(0, 2, 1)
    weight = np.empty(12)
    loops.weigh_tiles(displacement, covariance, np.array([0.1]), 4.685, weight)
    precision = np.linalg.inv(covariance + 0.01 * np.eye(2))
    common = np.linalg.solve(precision.sum(axis=0), np.einsum("nij,nj->i", precision, displacement))
    apart = displacement - common
    length = np.einsum("ni,nij,nj->n", apart, precision, apart) / 2
    assert_allclose(weight, np.maximum(1 - length / 4.685**2, 0) ** 2, rtol=1e-9)
    assert weight[3] == 0


# --------------------------------------------------------------------------------------------------- sums over blocks


@pytest.fixture(scope="module")
def squares():
    """Regressors, weights and residuals of three squares, pixel by pixel where it matters not: one value a block."""
    random = np.random.default_rng(7)
    regressors, left = random.normal(0, 1, (3, 5, N_BLOCKS**2)), random.normal(0, 1, (3, N_BLOCKS**2))
    products = [regressors[:, i] * regressors[:, j] for i in range(5) for j in range(i, 5)]
    terms = [*(regressors[:, i] * left for i in range(5)), left * left]
    return regressors, left, np.stack([*products, *terms], axis=1).astype(np.float32)


def places():
    line = (np.arange(N_BLOCKS) + 0.5) * (2 / N_BLOCKS) - 1
    return np.repeat(line, N_BLOCKS), np.tile(line, N_BLOCKS)


def test_residuals_of_a_model(squares):
    """With one pixel a block: the square of the residual, and the residual times the derivatives."""
    regressors, left, features = squares
    random = np.random.default_rng(8)
    local, step, place, unit = random.normal(0, 0.3, (3, 4)), random.normal(0, 0.3, 5), random.normal(0, 1, (3, 2)), 0.1
    mean_square, pulls = np.empty((3, 64), np.float32), np.empty((3, 2, 64), np.float32)
    sums.find_residuals(features, local, step, place, unit, mean_square, pulls)
    y, x = places()
    gain = local[:, 3:] + (place[:, :1] + unit * y) * step[3] + (place[:, 1:] + unit * x) * step[4]
    model = (local[:, :1] + local[:, 1:2] * y + local[:, 2:3] * x) * regressors[:, 0] + gain * regressors[:, 1]
    model += np.einsum("k,nkb->nb", step[:3], regressors[:, 2:])
    residual = left - model
    assert_allclose(mean_square * 16, residual**2, atol=1e-4)
    assert_allclose(pulls, regressors[:, 2:4] * residual[:, None], atol=1e-4)


def test_weights_of_blocks():
    random = np.random.default_rng(9)
    mean_square, there = random.uniform(0, 4, (3, 64)).astype(np.float32), random.random((3, 64)) > 0.1
    weight = np.empty((3, 64), np.float32)
    sums.weigh_blocks(mean_square, there, 3.0, weight)
    for n in range(3):
        padded = np.pad(np.where(there[n], mean_square[n], 0).reshape(8, 8), 1)
        for b in range(64):
            near = padded[b // 8 : b // 8 + 3, b % 8 : b % 8 + 3]
            worst = max(mean_square[n, b], near.mean(), near.max() / 2)
            assert_allclose(weight[n, b], there[n, b] * max(1 - worst / 3, 0) ** 2, atol=1e-5)


def test_pulls_of_neighbours(squares):
    _, _, features = squares
    random = np.random.default_rng(10)
    pulls, weight = random.normal(0, 1, (3, 2, 64)).astype(np.float32), random.random((3, 64)).astype(np.float32)
    size = np.empty((3, 64), np.float32)
    sums.find_group_pulls(features, pulls, weight, 1.7, size)
    for n in range(3):
        expected = np.zeros((8, 8))
        for axis, product in ((0, 9), (1, 12)):
            layers = [weight[n] * pulls[n, axis], weight[n] ** 2 * features[n, product]]
            around = [np.pad(layer.reshape(8, 8), 1) for layer in layers]
            pull, known = (
                sum(layer[y : y + 8, x : x + 8] for y in range(3) for x in range(3)).astype(float) for layer in around
            )
            expected += pull**2 / (known * 1.7)
        assert_allclose(size[n].reshape(8, 8), expected, rtol=1e-3)


def test_normal_equations(squares):
    """Moments of weighted features, a tilt as the gain at the place of each block, and what noise adds taken off."""
    regressors, left, features = squares
    weight = np.random.default_rng(11).random((3, 64)).astype(np.float32)
    y, x = places()
    unknowns = ((0, 0), (0, 1), (2, 0), (1, 0), (4, 0), (1, 1), (1, 2))
    roles, place, unit = np.array([3, 4, 5, 6]), np.array([(0.2, -0.4), (0.9, 0.1), (-0.5, -0.6)]), 0.15
    product_of = {pair: k for k, pair in enumerate((i, j) for i in range(5) for j in range(i, 5))}
    moment_of = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 1): 3, (1, 2): 4, (2, 2): 5}
    rows = [[product_of[min(r, q), max(r, q)] for q, _ in unknowns] + [15 + r] for r, _ in unknowns]
    columns = [[moment_of[min(c, d), max(c, d)] for _, d in unknowns] + [moment_of[0, c]] for _, c in unknowns]
    ridge, noise, normal = np.arange(7) * 0.1, np.array((0.01, 0.02)), np.empty((3, 7, 8))
    sums.sum_normal(features, weight, np.array(rows), np.array(columns), roles, place, unit, ridge, noise, normal)
    at = (np.ones(64), y, x)
    for n in range(3):
        design = [regressors[n, r] * at[c] for r, c in unknowns]
        design[5], design[6] = (regressors[n, 1] * (place[n, k] + unit * at[1 + k]) for k in range(2))
        design = np.stack([*design, left[n]])
        expected = (design[:-1] * weight[n]) @ design.T
        n_pixels = 16 * weight[n].sum()
        expected[4, 4] -= 0.01 * n_pixels
        expected[4, -1] -= 0.02 * n_pixels
        expected[:, :-1] += np.diag(ridge)
        assert_allclose(normal[n], expected, atol=1e-4)


def test_elimination():
    random = np.random.default_rng(12)
    factor = random.normal(0, 1, (5, 9, 12))
    matrix, right = factor @ factor.transpose(0, 2, 1), random.normal(0, 1, (5, 9, 1))
    normal = np.concatenate([matrix, right], axis=2)
    inner, left = np.empty((5, 4, 6)), np.empty((5, 5, 6))
    sums.eliminate_own(normal, 4, inner, left)
    assert_allclose(inner, np.linalg.solve(normal[:, :4, :4], normal[:, :4, 4:]), atol=1e-9)
    assert_allclose(left, normal[:, 4:, 4:] - normal[:, 4:, :4] @ inner, atol=1e-9)
    common = np.linalg.solve(left[:, :, :5], left[:, :, 5:])
    assert_allclose(common, np.linalg.solve(matrix, right)[:, 4:], atol=1e-9)
