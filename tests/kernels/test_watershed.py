"""Seeds and watershed: against scikit-image, and against a plain queue."""

from __future__ import annotations

import heapq
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter, label
from skimage.segmentation import watershed as sk_watershed

from phagostat.kernels.watershed import CellInstances, cell_instances, grey_cut, label_seeds, watershed
from phagostat.model.errors import PhagostatError

Map = np.ndarray
PIXEL_UM = 0.206


@st.composite
def maps_and_markers(draw: st.DrawFn) -> tuple[Map, Map]:
    """Few levels, so that many pixels are equal; markers that touch, cross the mask and repeat."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16))
    levels = draw(st.sampled_from([[0, 255], [127, 128, 129], [100, 140, 180, 220, 255], list(range(256))]))
    probability = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from(levels)))
    markers = draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 700])))
    return probability, markers


def plain(probability: Map, markers: Map, cut: float, connectivity: int) -> Map:
    """One queue, ordered by level and by when a pixel was found; markers in raster order."""
    neighbours = [(-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)][:connectivity]
    inside = probability > cut * 255
    labels = np.where(inside, markers, 0).astype(np.int32)
    found = 0
    queue = []
    for y, x in np.argwhere(labels):
        queue.append((-int(probability[y, x]), found, y, x))
        found += 1
    heapq.heapify(queue)
    while queue:
        level, _, y, x = heapq.heappop(queue)
        for dy, dx in neighbours:
            to = (y + dy, x + dx)
            if 0 <= to[0] < inside.shape[0] and 0 <= to[1] < inside.shape[1] and inside[to] and not labels[to]:
                labels[to] = labels[y, x]
                heapq.heappush(queue, (max(level, -int(probability[to])), found, *to))
                found += 1
    return labels


def reference(probability: Map, markers: Map, cut: float, connectivity: int) -> Map:
    return sk_watershed(
        -probability.astype(np.int16),
        markers.astype(np.int32),
        connectivity=1 if connectivity == 4 else 2,
        mask=probability > cut * 255,
    )


def cells_map(seed: int, shape: tuple[int, int] = (200, 260), noise: float = 0.3) -> tuple[Map, Map]:
    """A map like a network's: saturated inside, soft edges; seeds where it is nearly certain."""
    random = np.random.default_rng(seed)
    field = gaussian_filter(random.normal(size=shape), 9)
    field /= field.std()
    logit = 4 * (field - 0.1) + noise * gaussian_filter(random.normal(size=shape), 1)
    probability = np.rint(255 / (1 + np.exp(-logit))).astype(np.uint8)
    return probability, label(probability > 235, np.ones((3, 3)))[0]


@settings(deadline=None)  # the first call compiles
@given(maps_and_markers(), st.sampled_from([4, 8]), st.sampled_from([0.5, 0.2, 0.0]))
def test_heap_ties_give_the_labels_of_scikit_image(drawn, connectivity, cut) -> None:
    probability, markers = drawn
    found = watershed(probability, markers, min_probability=cut, connectivity=connectivity, ties="heap")
    np.testing.assert_array_equal(found, reference(probability, markers, cut, connectivity))


@settings(deadline=None)  # the first call compiles
@given(maps_and_markers(), st.sampled_from([4, 8]), st.sampled_from([0.5, 0.2, 0.0]))
def test_raster_ties_give_the_labels_of_a_plain_queue(drawn, connectivity, cut) -> None:
    probability, markers = drawn
    found = watershed(probability, markers, min_probability=cut, connectivity=connectivity)
    np.testing.assert_array_equal(found, plain(probability, markers, cut, connectivity))


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_maps_like_real_ones(seed: int, connectivity: int) -> None:
    probability, seeds = cells_map(seed)
    expected = reference(probability, seeds, 0.5, connectivity)
    heap = watershed(probability, seeds, connectivity=connectivity, ties="heap")
    np.testing.assert_array_equal(heap, expected)
    raster = watershed(probability, seeds, connectivity=connectivity)
    np.testing.assert_array_equal(raster > 0, expected > 0)
    assert np.mean(raster != expected) < 2e-3


@settings(deadline=None)  # the first call compiles
@given(maps_and_markers(), st.sampled_from([4, 8]))
def test_without_equal_marker_pixels_both_orders_are_the_same(drawn, connectivity) -> None:
    probability, markers = drawn
    # One marker pixel a level: nothing is left to ties.
    for level in range(256):
        markers.flat[np.flatnonzero((probability == level) & (markers > 0))[1:]] = 0
    raster = watershed(probability, markers, connectivity=connectivity)
    np.testing.assert_array_equal(raster, reference(probability, markers, 0.5, connectivity))


def test_a_component_does_not_depend_on_what_lies_elsewhere() -> None:
    probability, seeds = cells_map(7)
    whole = watershed(probability, seeds)
    parts, n = label(probability > 127, np.ones((3, 3)))
    assert n > 3
    for part in range(1, n + 1):
        alone = watershed(np.where(parts == part, probability, 0).astype(np.uint8), seeds)
        np.testing.assert_array_equal(alone, np.where(parts == part, whole, 0))


@pytest.mark.parametrize("layout", ["fortran", "strided", "read-only"])
def test_any_memory_layout(layout: str) -> None:
    probability, seeds = cells_map(3)
    expected = watershed(probability, seeds)
    if layout == "fortran":
        probability, seeds = np.asfortranarray(probability), np.asfortranarray(seeds)
    elif layout == "strided":
        probability, seeds = np.repeat(probability, 2, 1)[:, ::2], np.repeat(seeds, 2, 0)[::2]
    else:
        probability.flags.writeable = seeds.flags.writeable = False
    np.testing.assert_array_equal(watershed(probability, seeds), expected)


def test_wrong_input_is_said() -> None:
    with pytest.raises(ValueError, match="one shape"):
        watershed(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.int32))
    with pytest.raises(TypeError, match="8 bit"):
        watershed(np.zeros((3, 4), np.float32), np.zeros((3, 4), np.int32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="between 0 and 1"):
        grey_cut(1.5)


@given(st.integers(0, 255), st.floats(0, 1))
def test_grey_cut_keeps_strict_comparison(grey: int, cut: float) -> None:
    if abs(grey - cut * 255) > 1e-5:
        assert (grey > grey_cut(cut)) == (grey > cut * 255)
    assert grey_cut(grey / 255) == grey


def instances(probability: Map, seeds: Map, **options) -> CellInstances:
    return cell_instances(probability, seeds, pixel_size_um=1.0, min_seed_area_um2=4.0, **options)


@settings(deadline=None)  # the first call compiles
@given(maps_and_markers(), st.sampled_from([4, 8]))
def test_every_foreground_pixel_becomes_a_cell(drawn, connectivity) -> None:
    probability, seeds = drawn
    cells = instances(probability, seeds, connectivity=connectivity)
    np.testing.assert_array_equal(cells.labels > 0, probability > 127)
    present = np.unique(cells.labels[cells.labels > 0])
    np.testing.assert_array_equal(present, np.arange(1, cells.n_cells + 1))
    firsts = [int(np.flatnonzero(cells.labels == number)[0]) for number in present]
    assert firsts == sorted(firsts)
    grown = watershed(probability, seeds, connectivity=connectivity)
    for number in present:
        where = cells.labels == number
        assert len(np.unique(grown[where])) == 1
        assert cells.incoherent[number - 1] == (grown[where][0] == 0)
    seeded = set(np.unique(seeds)) - {0}
    kept = set(np.unique(grown)) - {0}
    assert cells.n_lost_seeds == len(seeded) - len(kept)
    assert cells.n_cells - int(cells.incoherent.sum()) == len(kept)


def test_a_component_without_a_seed_is_split_by_its_own_seeds() -> None:
    probability = np.zeros((20, 40), np.uint8)
    probability[2:8, 2:38] = 150
    probability[3:7, 4:10] = 250
    probability[3:7, 30:36] = 250
    probability[14:18, 5:12] = 200
    probability[14:18, 20:30] = 255
    seeds = np.zeros(probability.shape, np.uint16)
    seeds[15, 22] = 9
    seeds[11, 22] = 4
    cells = instances(probability, seeds)
    assert cells.n_cells == 4
    np.testing.assert_array_equal(cells.incoherent, [True, True, True, False])
    assert cells.labels[5, 5] == 1
    assert cells.labels[5, 33] == 2
    assert cells.labels[16, 7] == 3
    assert cells.labels[16, 25] == 4
    assert cells.n_lost_seeds == 1


def test_empty_and_full_frames() -> None:
    nothing = np.zeros((9, 7), np.uint8)
    none = instances(nothing, nothing)
    assert none.n_cells == 0
    assert not none.labels.any()
    full = instances(np.full((9, 7), 255, np.uint8), nothing)
    assert full.n_cells == 1
    assert full.incoherent.all()
    assert (full.labels == 1).all()


def test_more_cells_than_labels_is_an_error() -> None:
    specks = np.zeros((600, 600), np.uint8)
    specks[::2, ::2] = 255
    with pytest.raises(PhagostatError, match="more cells than a label image can number"):
        instances(specks, np.zeros_like(specks))
    with pytest.raises(PhagostatError, match="more cells than a label image can number"):
        instances(specks, np.where(specks, np.arange(specks.size).reshape(specks.shape), 0))


def test_more_cells_of_their_own_than_the_type_of_the_markers_counts() -> None:
    specks = np.zeros((60, 60), np.uint8)
    specks[::3, ::3] = 255
    markers = np.zeros_like(specks)
    markers[3, 6] = 250
    cells = instances(specks, markers)
    assert cells.n_cells == 400
    assert (cells.labels[::3, ::3] == np.arange(1, 401).reshape(20, 20)).all()
    np.testing.assert_array_equal(np.flatnonzero(~cells.incoherent), [22])


def test_seeds_have_at_least_the_published_area() -> None:
    certain = np.zeros((80, 200), bool)
    certain[5:45, 5:30] = True  # 1000 px
    certain[5:45, 40:65] = True
    certain[5, 40] = False  # 999 px
    certain[50:75, 100:150] = True
    seeds = label_seeds(certain, pixel_size_um=PIXEL_UM, min_area_um2=1000 * PIXEL_UM**2)
    assert (seeds.n, seeds.n_too_small) == (2, 1)
    assert seeds.labels[10, 10] == 1
    assert seeds.labels[60, 120] == 2


@pytest.mark.parametrize("writable", [True, False])
def test_machine_code_is_kept_where_it_can_be(tmp_path: Path, writable: bool) -> None:
    """A package that lies in a read-only folder, for a user without a home, computes all the same."""
    source = Path(sys.modules[watershed.__module__].__file__).parents[2] / "phagostat"
    package = tmp_path / "phagostat"
    for name in ("__init__.py", "kernels", "model"):
        (package / name).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(source / name), str(package / name)], check=True)
    for stale in package.rglob("__pycache__"):
        subprocess.run(["rm", "-r", str(stale)], check=True)
    cache = package / "kernels" / "__pycache__"
    if writable:
        cache.mkdir()
    else:
        cache.write_text("no folder can be made here")
        (tmp_path / "home").write_text("nor here")
    program = (
        "import sys, numpy as np\n"
        "from phagostat.kernels.watershed import watershed\n"
        "assert 'numba' not in sys.modules\n"
        "p = np.full((4, 6), 200, np.uint8); m = np.zeros((4, 6), np.int32); m[1, 1] = 3\n"
        "assert (watershed(p, m) == 3).all()\n"
    )
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("NUMBA")},
        "PYTHONPATH": str(tmp_path),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home" / "cache"),
    }
    command = [sys.executable, "-W", "error", "-c", program]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    assert any(cache.glob("*.nbi")) if writable else not any(tmp_path.rglob("*.nbi"))
