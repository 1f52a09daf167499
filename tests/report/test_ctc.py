"""The Cell Tracking Challenge's format, by a check of its rules that shares nothing with what writes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from phagostat.model.errors import SettingsError, StoreError
from phagostat.report import ctc
from phagostat.report.ctc import cut_at_gaps, write_ctc


def check_rules(table: list[tuple[int, int, int, int]], labels_by_frame: list[set[int]]) -> None:
    """Rules of the naming and file content conventions, one by one."""
    rows = {label: (begin, end, parent) for label, begin, end, parent in table}
    assert len(rows) == len(table), "labels are unique"
    for label, (begin, end, parent) in rows.items():
        assert 0 < label < 2**16
        assert 0 <= begin <= end < len(labels_by_frame)
        assert parent == 0 or (parent in rows and parent != label)
        if parent:
            assert rows[parent][1] < begin, "a parent ends before its child begins"
        for frame, there in enumerate(labels_by_frame):
            assert (label in there) == (begin <= frame <= end), "a track is in every frame of its span, and in no other"
    for there in labels_by_frame:
        assert there <= set(rows), "every label of a mask is in the table"


def read(folder: Path, table: str, masks: str):
    rows = [tuple(int(word) for word in line.split()) for line in (folder / table).read_text().splitlines()]
    files = sorted(folder.glob(masks))
    planes = [tifffile.imread(file) for file in files]
    assert all(plane.dtype == np.uint16 for plane in planes)
    return rows, planes, files


def tracks(output, scene=0) -> dict[str, np.ndarray]:
    """Made up: cell 1 is one track through the scene, others change theirs in every third frame."""
    cells = output.columns("cells", scene, "frame", "cell")
    track = np.where(cells["cell"] == 1, 5, 100 + 10 * cells["cell"].astype(int) + cells["frame"] // 3)
    return {**cells, "track": track}


def test_gaps_become_pieces_with_parents():
    found = cut_at_gaps([0, 1, 2, 5, 6, 9, 3], [1, 1, 2, 1, 1, 4, 2], [7, 7, 7, 7, 7, 7, 2])
    assert found.table.tolist() == [[1, 0, 2, 0], [2, 3, 3, 0], [3, 5, 6, 1], [4, 9, 9, 3]]
    assert found.piece.tolist() == [1, 1, 1, 3, 3, 4, 2]
    assert cut_at_gaps([], [], []).table.shape == (0, 4)


def test_cells_without_a_track_stay_alone():
    found = cut_at_gaps([0, 1, 1], [1, 1, 2], [np.nan, 0, 3])
    assert found.table.tolist() == [[1, 0, 0, 0], [2, 1, 1, 0], [3, 1, 1, 0]]


def test_a_track_in_two_places_is_refused():
    with pytest.raises(StoreError, match=r"frame 4: .*\(found: track 2 has cells 1 and 3\)"):
        cut_at_gaps([4, 4], [1, 3], [2, 2])


@given(st.sets(st.tuples(st.integers(0, 12), st.integers(1, 4)), max_size=40), st.randoms(use_true_random=False))
def test_any_tracks_keep_the_rules(sights, random):
    rows = list(sights)
    random.shuffle(rows)
    frame, track = [f for f, _ in rows], [t for _, t in rows]
    cell = [10 * t + 1 for t in track]
    found = cut_at_gaps(frame, cell, track)
    there = [{int(p) for f, p in zip(frame, found.piece, strict=True) if f == k} for k in range(13)]
    check_rules([tuple(row) for row in found.table.tolist()], there)
    parent = {row[0]: row[3] for row in found.table.tolist()}

    def root(piece: int) -> int:
        return root(parent[piece]) if parent[piece] else piece

    roots = {t: {root(int(p)) for u, p in zip(track, found.piece, strict=True) if u == t} for t in set(track)}
    assert all(len(of_one) == 1 for of_one in roots.values())  # pieces of a track hang together
    assert len(set().union(*roots.values())) == len(roots)  # and those of two tracks do not


@pytest.mark.parametrize(
    ("layout", "folder", "table", "stem"),
    [
        ("results", "01_RES", "res_track.txt", "mask"),
        ("truth", "01_GT/TRA", "man_track.txt", "man_track"),
    ],
)
def test_a_sequence_keeps_the_rules(output, tmp_path, layout, folder, table, stem):
    count = write_ctc(output, 0, tmp_path, tracks=tracks(output), layout=layout)
    rows, planes, files = read(tmp_path / folder, table, "*.tif")
    assert [file.name for file in files] == [f"{stem}{k:03}.tif" for k in range(7)]
    check_rules(rows, [set(np.unique(plane).tolist()) - {0} for plane in planes])
    assert len(rows) == count
    assert any(parent for *_, parent in rows)  # frame 2 is blurred: whatever is seen on both sides of it is cut
    for frame, plane in enumerate(planes):
        stored = output.labels(0, frame, "cells")
        if stored is None:
            assert not plane.any()
        else:
            np.testing.assert_array_equal(plane > 0, stored > 0)
            pairs = np.unique(np.stack([plane.ravel(), stored.ravel()]), axis=1)
            assert pairs.shape[1] == len(np.unique(stored)) == len(np.unique(plane))
    pictures = sorted((tmp_path / "01").iterdir())
    assert [picture.name for picture in pictures] == [f"t{k:03}.tif" for k in range(7)]
    if layout == "truth":
        for k, plane in enumerate(planes):
            np.testing.assert_array_equal(tifffile.imread(tmp_path / "01_GT" / "SEG" / f"man_seg{k:03}.tif"), plane)


def test_a_gap_is_seen_in_the_files(output, tmp_path):
    write_ctc(output, 0, tmp_path, tracks=tracks(output))
    rows, planes, _ = read(tmp_path / "01_RES", "res_track.txt", "mask*.tif")
    first = int(planes[0][output.labels(0, 0, "cells") == 1][0])
    after = int(planes[3][output.labels(0, 3, "cells") == 1][0])
    assert (first, 0, 1, 0) in rows
    assert next(row for row in rows if row[0] == after)[1:] == (3, 3, first)


def test_long_movies_are_numbered_by_four_digits(output, tmp_path, monkeypatch):
    monkeypatch.setattr(ctc, "FOUR_DIGITS_FROM", 2)
    write_ctc(output, 1, tmp_path, tracks=tracks(output, 1))
    assert (tmp_path / "02_RES" / "mask0000.tif").is_file()
    assert (tmp_path / "02" / "t0002.tif").is_file()


def test_what_cannot_be_written_is_one_sentence(output, own_folder, tmp_path, monkeypatch):
    from phagostat.report.finished import FinishedOutput

    (own_folder / "tables" / "tracks.parquet").unlink(missing_ok=True)
    with pytest.raises(StoreError, match=r"needs tracks, and there are none \(found: .*frames.*\); run"):
        write_ctc(FinishedOutput(own_folder), 0, tmp_path)
    foreign = {name: np.append(column, 1 if name == "frame" else 999) for name, column in tracks(output).items()}
    with pytest.raises(StoreError, match=r"do not belong together.*\(found: cell 999\)"):
        write_ctc(output, 0, tmp_path / "a", tracks=foreign)
    with pytest.raises(SettingsError, match="no such layout"):
        write_ctc(output, 0, tmp_path, tracks=tracks(output), layout="gold")
    monkeypatch.setattr(ctc, "MAX_LABEL", 3)
    with pytest.raises(StoreError, match=r"16 bits, .*\(found: \d+ tracks"):
        write_ctc(output, 0, tmp_path, tracks=tracks(output))
    shutil.rmtree(tmp_path / "a")
