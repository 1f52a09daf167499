from __future__ import annotations

import shutil
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from numcodecs import Zstd

from phagostat.model.errors import StoreError
from phagostat.store.arrays import ImageSpec, PlaneReader, PlaneWriter, create_root, ensure_image
from phagostat.store.commits import Commit, CommitLog, Entry
from phagostat.store.files import remove_partial_files
from phagostat.store.integrity import damaged_chunks, differences, missing_chunks, read_contents
from phagostat.store.layout import Layout
from phagostat.store.manifest import check_manifest, new_manifest, read_manifest, write_manifest
from phagostat.store.rows import write_row_file
from phagostat.store.seal import Seal, read_seal, remove_seal, sweep_orphans, write_seal
from phagostat.store.tables import table_from_columns, write_table


def make(root: Path) -> Layout:
    """A small output: two frames of two channels, a table, a commit."""
    layout = Layout.analysis(root)
    create_root(layout.images, attributes={"scenes": ["a"]})
    ensure_image(layout.images, ImageSpec("0", (2, 2, 6, 5), "uint8", 0.2, 60.0, ("a", "b")))
    entries = []
    for t in (0, 1):
        chunks = {}
        for c in (0, 1):
            plane = np.full((6, 5), 10 * t + c, np.uint8)
            chunk, digest, _ = PlaneWriter(layout.images, "0/0").write((t, c), plane)
            chunks[chunk] = digest
        entries.append(Entry(t, "k", "ok", {}, chunks))
    path, digest = write_row_file(layout.rows, "images/scene-000/x", {"x": np.arange(3)})
    CommitLog(layout.commits).commit(Commit("images", 1, 0, 0, 2, tuple(entries), {path: digest}))
    write_table(layout.tables, "frames", table_from_columns({"frame": np.arange(2), "area": np.array([1.0, np.nan])}))
    return layout


@pytest.fixture
def pair(tmp_path) -> tuple[Layout, Layout]:
    return make(tmp_path / "a"), make(tmp_path / "b")


def test_equal_outputs_have_no_differences_and_one_hash(pair):
    assert differences(*pair) == []
    assert read_contents(pair[0]).hash == read_contents(pair[1]).hash


def test_books_are_outside_the_hash(pair):
    b = pair[1]
    before = read_contents(b).hash
    b.journal.write_text("another machine, another time")
    (b.books / "output.json").write_text("{}")
    (b.commits / "images/scene-000/0000000-0000002.json").unlink()
    assert read_contents(b).hash == before


def test_how_a_chunk_is_compressed_is_outside_the_hash(pair):
    a, b = pair
    array = zarr.open_array(b.images / "0/0", mode="r")
    chunk = b.images / "0/0/c/1/1/0/0"
    before = chunk.read_bytes()
    plane = np.asarray(array[1, 1])
    import google_crc32c
    import numcodecs

    data = bytes(numcodecs.Blosc("zstd", clevel=9, shuffle=numcodecs.Blosc.NOSHUFFLE).encode(plane))
    chunk.write_bytes(data + int(google_crc32c.value(data)).to_bytes(4, "little"))
    assert chunk.read_bytes() != before
    assert differences(a, b) == []


def test_a_chunk_that_differs_is_named_with_its_pixels(pair):
    a, b = pair
    plane = np.full((6, 5), 11, np.uint8)
    plane[2, 1:4] = [12, 9, 1]
    PlaneWriter(b.images, "0/0").write((1, 1), plane)
    assert differences(a, b) == ["chunk 0/0/c/1/1/0/0: 3 of 30 pixels differ, by at most 10"]
    assert read_contents(a).hash != read_contents(b).hash


def test_what_only_one_of_them_has_is_named(pair):
    a, b = pair
    (b.images / "0/0/c/1/0/0/0").unlink()
    (a.tables / "frames.parquet").unlink()
    assert differences(a, b) == [f"chunk 0/0/c/1/0/0/0: only in {a.root}", f"table frames: only in {b.root}"]


def test_metadata_and_tables_that_differ_are_named(pair):
    a, b = pair
    zarr.open_group(b.images / "0", mode="r+").update_attributes({"note": "other"})
    write_table(b.tables, "frames", table_from_columns({"frame": np.arange(2), "area": np.array([1.0, 2.0])}))
    assert differences(a, b) == ["array 0: metadata differ", "table frames: values differ in area"]
    write_table(b.tables, "frames", table_from_columns({"frame": np.arange(3)}))
    assert "columns differ: ['area']" in differences(a, b)[-1]
    write_table(b.tables, "frames", table_from_columns({"frame": np.arange(3), "area": np.zeros(3)}))
    assert differences(a, b)[-1] == "table frames: 2 and 3 rows"


def test_a_chunk_that_cannot_be_decoded_is_an_error_not_a_difference(pair):
    a, b = pair
    (b.images / "0/0/c/0/0/0/0").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="damaged") as caught:
        differences(a, b)
    assert "0/0/c/0/0/0/0" in str(caught.value)


def test_missing_and_damaged_chunks(pair):
    layout = pair[0]
    (commit,) = CommitLog(layout.commits)
    promised = {c: d for entry in commit.entries for c, d in entry.chunks.items()}
    assert damaged_chunks(layout.images, promised) == missing_chunks(layout.images, promised) == []
    (layout.images / "0/0/c/0/1/0/0").unlink()
    PlaneWriter(layout.images, "0/0").write((1, 0), np.zeros((6, 5), np.uint8))  # whole, but not what was promised
    assert missing_chunks(layout.images, promised) == ["0/0/c/0/1/0/0"]
    assert damaged_chunks(layout.images, promised) == ["0/0/c/0/1/0/0", "0/0/c/1/0/0/0"]
    shutil.rmtree(layout.images / "0/0")
    assert damaged_chunks(layout.images, promised) == list(promised)


def test_bytes_as_written_are_enough_and_others_are_decoded(tmp_path, monkeypatch):
    ensure_image(tmp_path, ImageSpec("0", (3, 1, 64, 64), "uint8", 0.2, 60.0, ("a",), kind="probability"))
    plane = np.random.default_rng(0).poisson(9.0, (64, 64)).astype(np.uint8)
    written = [PlaneWriter(tmp_path, "0/0").write((t, 0), plane + t) for t in range(3)]
    promised, stored = {w.path: w.content for w in written}, {w.path: w.stored for w in written}
    decoded = []
    read = PlaneReader.read
    monkeypatch.setattr(PlaneReader, "read", lambda self, index: decoded.append(index) or read(self, index))
    assert damaged_chunks(tmp_path, promised, stored=stored) == []
    assert decoded == []
    # compressed anew by another library version: other bytes, the same plane
    data = Zstd(level=19).encode(plane)
    again = data + int(google_crc32c.value(data)).to_bytes(4, "little")
    assert again != (tmp_path / written[0].path).read_bytes()
    (tmp_path / written[0].path).write_bytes(again)
    assert damaged_chunks(tmp_path, promised, stored=stored) == []
    assert decoded == [(0, 0)]
    # a bit turned over; another whole plane in its place
    flipped = bytearray((tmp_path / written[1].path).read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / written[1].path).write_bytes(bytes(flipped))
    PlaneWriter(tmp_path, "0/0").write((2, 0), plane)
    assert damaged_chunks(tmp_path, promised, stored=stored) == [written[1].path, written[2].path]


# ---- what nobody promised --------------------------------------------------------------------------------------------


def test_orphans_go_and_what_is_promised_stays(pair):
    layout = pair[0]
    wanted = read_contents(layout)
    log = CommitLog(layout.commits)
    assert sweep_orphans(layout, log) == 0
    ensure_image(layout.images, ImageSpec("0", (4, 2, 6, 5), "uint8", 0.2, 60.0, ("a", "b")))
    PlaneWriter(layout.images, "0/0").write((3, 0), np.zeros((6, 5), np.uint8))
    write_row_file(layout.rows, "images/scene-000/y", {"x": np.arange(4)})
    (layout.images / "0/0/c/0/0/0/0.abc.partial").write_bytes(b"half")
    (layout.commits / ".x.partial").write_bytes(b"half")
    assert remove_partial_files(layout.root) == 2
    assert sweep_orphans(layout, log) == 2
    assert read_contents(layout).chunks == wanted.chunks
    assert log.damaged_row_files(layout.rows) == {}
    log.retract("images", 0, [1])
    assert sweep_orphans(layout, log) == 2
    assert sorted(read_contents(layout).chunks) == ["0/0/c/0/0/0/0", "0/0/c/0/1/0/0"]


def test_orphans_of_a_conversion_go_without_its_books(tmp_path):
    layout = Layout.conversion(tmp_path / "m.zarr")
    ensure_image(layout.images, ImageSpec("0", (2, 1, 6, 5), "uint8", None, None, ("a",)))
    PlaneWriter(layout.images, "0/0").write((0, 0), np.zeros((6, 5), np.uint8))
    log = CommitLog(layout.commits)
    log.commit(Commit("planes", 1, 0, 0, 1, (Entry(0, "k", "missing"),)))
    assert layout.root == tmp_path / "m.zarr"
    assert sweep_orphans(layout, log) == 1
    assert len(CommitLog(layout.commits)) == 1


def test_a_seal_goes_before_anything_under_it_changes(pair):
    layout = pair[0]
    assert read_seal(layout) is None
    seal = Seal("log", {"frames": "digest"})
    write_seal(layout, seal)
    assert read_seal(layout) == seal
    remove_seal(layout)
    assert read_seal(layout) is None
    assert list(layout.tables.iterdir()) == []
    remove_seal(layout)
    for text in ("", "[]", '{"log": 1}'):
        layout.seal.write_text(text)
        assert read_seal(layout) is None


# ---- whose output it is ----------------------------------------------------------------------------------------------


def manifest(**changes):
    given = {
        "source": {"path": "m.czi", "kind": "czi", "identity": "id"},
        "settings": {"profile": "corrected"},
        "acquisition": {},
    }
    return new_manifest(changes.pop("kind", "analysis"), **(given | changes))


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    layout = Layout.analysis(tmp_path / "out")
    assert read_manifest(layout) is None
    write_manifest(layout, manifest())
    assert read_manifest(layout) == manifest()
    assert check_manifest(layout, manifest(), manifest()) == manifest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "conversion"}, "an analysis"),
        ({"source": {"path": "n.czi", "kind": "czi", "identity": "other"}}, "another source"),
        ({"settings": {"profile": "paper"}}, "another profile"),
    ],
)
def test_what_is_not_ours_is_refused(tmp_path, changes, words):
    layout = Layout.analysis(tmp_path)
    for upgrade in (False, True):
        with pytest.raises(StoreError, match=words) as caught:
            check_manifest(layout, manifest(), manifest(**changes), upgrade=upgrade)
        assert caught.value.remedy
        assert caught.value.found


def test_a_moved_source_and_changed_settings_are_no_obstacle(tmp_path):
    moved = manifest(
        source={"path": "elsewhere/m.czi", "kind": "czi", "identity": "id"},
        settings={"profile": "corrected", "aggregates": {"min_area_um2": 1.0}},
    )
    assert check_manifest(Layout.analysis(tmp_path), manifest(), moved) == moved


def test_another_version_needs_a_word(tmp_path):
    from dataclasses import replace

    layout, old = Layout.analysis(tmp_path), replace(manifest(), version="0.0.1", environment={"cpu": "old"})
    with pytest.raises(StoreError, match="another version") as caught:
        check_manifest(layout, old, manifest())
    assert "--upgrade" in (caught.value.remedy or "")
    assert check_manifest(layout, old, manifest(), upgrade=True) == manifest()
    same = replace(manifest(), environment={"cpu": "old"})
    assert check_manifest(layout, same, manifest()).environment == {"cpu": "old"}


def test_a_folder_of_others_is_refused_and_what_a_killed_start_left_is_not(tmp_path):
    for name in ("driver.lease", "driver.lease.abc.dead", ".output.json.x.partial"):
        (tmp_path / name).write_text("")
    assert read_manifest(Layout.analysis(tmp_path)) is None
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(StoreError, match="other files") as caught:
        read_manifest(Layout.analysis(tmp_path))
    assert caught.value.found == "photo.jpg"
