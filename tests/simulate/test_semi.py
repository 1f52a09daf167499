"""The semi-synthetic mode: real material, the same exact shifts, the same truth."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from phagostat.model.errors import PhagostatError
from phagostat.simulate import SimulationSpec, iter_frames, simulate
from phagostat.simulate.real import load_material, read_png
from phagostat.simulate.scenarios import SceneOverrides, calm
from phagostat.simulate.scene import SceneSimulation
from phagostat.simulate.semi import divide, paint_patch


def blob(size: int, sigma: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.exp(-(y**2 + x**2) / (2 * sigma**2)).astype(np.float32)


@pytest.mark.parametrize(("fraction", "extra"), [(0.0, 0.0), (0.3, 0.0), (0.73, 4.0)])
def test_patch_is_evaluated_where_it_stands(fraction: float, extra: float) -> None:
    """A patch that samples a Gaussian gives the Gaussian, magnified, shifted by a fraction and blurred."""
    canvas = np.zeros((120, 140), dtype=np.float32)
    centre = np.array([60.0 + fraction, 70.0 - fraction])
    paint_patch(canvas, blob(25, 2.0), position=centre, step_px=2.0, weight=3.0, extra_sigma_px=extra)
    y, x = np.indices(canvas.shape)
    sigma = np.hypot(4.0, extra)
    distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    expected = 3.0 * (4.0 / sigma) ** 2 * np.exp(-distance / (2 * sigma**2))
    np.testing.assert_allclose(canvas, expected, atol=2e-3)


def test_pieces_add_up_to_the_cut() -> None:
    cut = blob(31, 5.0)
    pieces = divide(cut, np.random.default_rng(0))
    assert len(pieces) > 3
    total = np.zeros_like(cut)
    for piece, (dy, dx) in pieces:
        top = round(15 + dy - (piece.shape[0] - 1) / 2)
        left = round(15 + dx - (piece.shape[1] - 1) / 2)
        total[top : top + piece.shape[0], left : left + piece.shape[1]] += piece
    np.testing.assert_allclose(total, cut, atol=0.02)


def write_png(path: Path, rows: list[bytes], width: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, len(rows), 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def test_png_of_all_filters_is_read(tmp_path: Path) -> None:
    """By hand from the PNG specification: none, sub, up, average, Paeth."""
    image = np.array([[10, 20, 30], [11, 22, 33], [9, 8, 7], [200, 100, 50], [60, 70, 90]])
    rows = [
        bytes([0, 10, 20, 30]),
        bytes([1, 11, 11, 11]),
        bytes([2, (9 - 11) % 256, (8 - 22) % 256, (7 - 33) % 256]),
        bytes([3, 200 - 9 // 2, (100 - (200 + 8) // 2) % 256, (50 - (100 + 7) // 2) % 256]),
        bytes([4, (60 - 200) % 256, (70 - 60) % 256, (90 - 50) % 256]),
    ]
    write_png(tmp_path / "p.png", rows, 3)
    np.testing.assert_array_equal(read_png(tmp_path / "p.png"), image)


def test_absent_material_is_said(tmp_path: Path) -> None:
    for data in (None, tmp_path):
        with pytest.raises(PhagostatError) as caught:
            simulate(tmp_path / "m.czi", mode="semi", data=data, shape_yx=(64, 64), frames=1)
        assert "real microscopy" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_png_agrees_with_another_reader(shared_data: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("aggregates", "cell"):
        path = shared_data / "microglia" / f"{name}.png"
        with image.open(path) as opened:
            np.testing.assert_array_equal(read_png(path), np.array(opened))


@pytest.mark.real
def test_material_has_cells_and_aggregates(shared_data: Path) -> None:
    material = load_material(shared_data)
    assert len(material.aggregates) > 100
    assert len(material.cells) > 50
    assert max(float(cut[[0, -1]].max()) for cut in material.aggregates) < 10  # they fade out at the border


@pytest.mark.real
def test_real_material_shifts_exactly(shared_data: Path) -> None:
    room = SceneOverrides(shifts_yx_px={0: (0.0, 0.0), 1: (30.0, 30.0), 2: (-30.0, -30.0)})
    spec = SimulationSpec(
        mode="semi", data=shared_data, shape_yx=(256, 256), frames=3, scenes=1, seed=1, scenario=calm() | room
    )
    scene = SceneSimulation(spec, 0)
    for render in (scene.clean_aggregates, scene.clean_cells):
        still, moved = render(0, shift_yx_px=(0.0, 0.0)), render(0, shift_yx_px=(11.0, -6.0))
        assert np.abs(still[:-11, 6:] - moved[11:, :-6]).max() < 0.5


@pytest.mark.real
def test_semi_synthetic_movie_has_a_truth(shared_data: Path) -> None:
    spec = SimulationSpec(mode="semi", data=shared_data, shape_yx=(384, 384), frames=12, scenes=1, seed=2)
    frames = list(iter_frames(spec))
    again = next(iter_frames(spec, 0, frames=[7]))
    assert np.array_equal(frames[7].planes[0], again.planes[0])
    assert sum(row[3] for row in frames[0].area_rows) > 1.0
    assert (frames[0].labels > 0).mean() > 0.05
    assert frames[-1].area_rows[0][:3] == (0, 11, 0)
