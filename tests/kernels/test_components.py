"""Components from runs against scipy's labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.ndimage import gaussian_filter

from phagostat.kernels.components import label_components
from phagostat.model.errors import PhagostatError

Mask = np.ndarray

masks = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40), elements=st.integers(0, 1)
)


def gated(mask: Mask, above: float, below: float, connectivity: int) -> tuple[Mask, int, int]:
    """scipy's labels, gated and renumbered; its order is that of first pixels."""
    labels, n = ndimage.label(mask, np.ones((3, 3)) if connectivity == 8 else None)
    areas = np.bincount(labels.ravel(), minlength=n + 1)
    kept = (areas > above) & (areas < below)
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0)
    small = areas[1:] <= above
    return numbers[labels], int(small.sum()), int((~small & (areas[1:] >= below)).sum())


def check(mask: Mask, above: float, below: float, connectivity: int) -> None:
    found = label_components(
        mask, above_px=above, below_px=below, connectivity=connectivity, what="specks", remedy="less"
    )
    labels, too_small, too_large = gated(mask, above, below, connectivity)
    np.testing.assert_array_equal(found.labels, labels)
    assert (found.n, found.n_too_small, found.n_too_large) == (labels.max(initial=0), too_small, too_large)


@settings(deadline=None)  # the first call compiles
@given(masks, st.sampled_from([4, 8]), st.sampled_from([(0.0, np.inf), (2.0, 9.0), (2.5, np.inf), (4.0, 3.0)]))
def test_any_mask(mask: Mask, connectivity: int, limits: tuple[float, float]) -> None:
    check(mask, *limits, connectivity)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("width", [64, 67, 128])
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_long_runs_and_branches(width: int, level: float, connectivity: int) -> None:
    field = gaussian_filter(np.random.default_rng(width).normal(size=(90, width)), 1.5)
    check((field > level * field.std()).astype(np.uint8), 3, 400, connectivity)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_spirals_combs_and_whole_frames(connectivity: int) -> None:
    comb = np.zeros((40, 63), np.uint8)
    comb[:, ::2] = comb[-1] = 1  # joined in the last row alone
    rings = (np.maximum(*np.abs(np.indices((41, 41)) - 20)) % 2).astype(np.uint8)
    for mask in (comb, comb[::-1], comb.T, rings, np.ones((5, 16), np.uint8), np.zeros((5, 16), np.uint8)):
        check(mask, 0, np.inf, connectivity)


def test_memory_layouts() -> None:
    mask = (np.random.default_rng(0).random((50, 44)) < 0.5).astype(np.uint8)
    for other in (np.asfortranarray(mask), np.repeat(mask, 2, 1)[:, ::2]):
        check(other, 1, 30, 8)


def test_too_many_are_said() -> None:
    mask = np.zeros((600, 600), np.uint8)
    mask[::2, ::2] = 1
    with pytest.raises(PhagostatError, match="more specks than a label image can number"):
        label_components(mask, what="specks", remedy="less")
