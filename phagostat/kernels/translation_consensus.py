"""What tiles say together: which of them agree, on which shift, how certainly, and whether chance would do the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from phagostat.kernels.translation_filters import Float64, middle
from phagostat.kernels.translation_loops import weigh_tiles

_CHANCE_AREA_PX2 = 28.0
_GAIN_SPREAD = 0.25
_SCATTERS_PX = (0.005, 0.02, 0.05, 0.12, 0.35)
_TUKEY = 4.685


@dataclass(frozen=True)
class TileFit:
    """Every tile fitted on its own around a common shift."""

    displacement_px: Float64
    covariance_px2: Float64
    gain: Float64
    offset: Float64
    correlation: Float64
    misfit: Float64


def tile_weights(fit: TileFit, *, scatter: float, rounds: int) -> Float64:
    """Tukey weights of the tiles around their common displacement, for a scatter beyond their own precision.

    The first round takes the largest scatter, so that weights narrow down from all tiles that met in the vote.
    """
    weight = np.empty(len(fit.gain))
    scatters = np.array([_SCATTERS_PX[-1], *[scatter] * (rounds - 1)])
    weigh_tiles(fit.displacement_px, fit.covariance_px2, scatters, _TUKEY, weight)
    return weight


def settled(fit: TileFit, *, n_tiles: int) -> tuple[TileFit, Float64, float, Float64, float]:
    """Choose the scatter that makes the tiles' displacements most likely; the fit about the shift that follows.

    Also gives the tiles' weights, the scatter, the last step and the evidence. Scatters are tried from the smallest
    on, until a larger one explains less.
    """
    best: tuple[TileFit, Float64, float, Float64, float] | None = None
    for scatter in _SCATTERS_PX:
        weight = tile_weights(fit, scatter=scatter, rounds=3)
        step = common_displacement(inverse_2x2(fit.covariance_px2, scatter), weight, fit.displacement_px)
        moved = replace(fit, displacement_px=fit.displacement_px - step)
        evidence = _evidence(moved, scatter, n_tiles=n_tiles)
        if best is not None and evidence <= best[4]:
            break
        best = moved, weight, scatter, step, evidence
    assert best is not None
    return best


def common_displacement(precision: Float64, weight: Float64, displacement: Float64) -> Float64:
    """Weighted mean of displacements, each counted by its precision matrix."""
    information = weight[:, None, None] * precision
    total = inverse_2x2(information.sum(axis=0)[None])[0]
    pull = (information @ displacement[..., None]).sum(axis=0)[:, 0]
    return np.array([total[0, 0] * pull[0] + total[0, 1] * pull[1], total[1, 0] * pull[0] + total[1, 1] * pull[1]])


def inverse_2x2(matrix: Float64, scatter: float = 0.0) -> Float64:
    """Invert symmetric 2 x 2 matrices after adding `scatter` squared to their diagonals."""
    a, b, c = matrix[:, 0, 0] + scatter**2, matrix[:, 0, 1], matrix[:, 1, 1] + scatter**2
    determinant = np.maximum(a * c - b * b, 1e-300)
    inverse = np.empty_like(matrix)
    inverse[:, 0, 0], inverse[:, 1, 1] = c / determinant, a / determinant
    inverse[:, 0, 1] = inverse[:, 1, 0] = -b / determinant
    return inverse


def _squared_length(vector: Float64, precision: Float64) -> Float64:
    """Squared Mahalanobis lengths, (n,)."""
    y, x = vector[:, 0], vector[:, 1]
    length = precision[:, 0, 0] * y * y + 2 * precision[:, 0, 1] * y * x + precision[:, 1, 1] * x * x
    return np.asarray(length)


def sandwich_covariance(fit: TileFit, weight: Float64, scatter: float) -> Float64 | None:
    """Covariance of the shift from the scatter of the tiles.

    What the residuals within the tiles imply counts like the scatter of four tiles more, since a few tiles may agree
    by luck.
    """
    information = weight[:, None, None] * inverse_2x2(fit.covariance_px2, scatter)
    n = float(weight.sum())
    if n <= 1:
        return None
    bread = inverse_2x2(information.sum(axis=0)[None])[0]
    pull = np.einsum("nij,nj->ni", information, fit.displacement_px)
    found = np.einsum("ij,nj,nk,kl->il", bread, pull, pull, bread) * (n / (n - 1))
    implied = inverse_2x2((weight[:, None, None] * inverse_2x2(fit.covariance_px2)).sum(axis=0)[None])[0]
    return np.asarray((n * found + 4 * implied) / (n + 4))


def _evidence(fit: TileFit, scatter: float, *, n_tiles: int) -> float:
    """Log likelihood ratio of a common shift against chance; see `translation_by_tiles`."""
    precision = inverse_2x2(fit.covariance_px2, scatter)
    root = np.sqrt(precision[:, 0, 0] * precision[:, 1, 1] - precision[:, 0, 1] ** 2)
    ratio = np.zeros(n_tiles)
    near = np.exp(-_squared_length(fit.displacement_px, precision) / 2) * root / (2 * np.pi) * _CHANCE_AREA_PX2
    # one frame has one gain, chance partners have any: normal densities of its logarithm around the median; in half of
    # the true tiles it may be any too, where something was eaten next to what the tile follows
    depth = np.log(np.maximum(fit.gain, 1e-12))
    depth -= middle(depth)
    equal = np.exp(-(depth**2) * (_GAIN_SPREAD**-2 - 1) / 2) / _GAIN_SPREAD
    ratio[: len(root)] = near * (0.5 + 0.5 * equal)
    shares = np.linspace(0.02, 0.98, 49)
    best = float(np.log(shares[:, None] * ratio[None] + 1 - shares[:, None]).sum(axis=1).max())
    # the common shift was chosen to suit the tiles: as much as the best of them alone could say is not counted
    return best - float(np.log(max(float(ratio.max()), 1.0)))
