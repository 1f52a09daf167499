"""An analysis as files for other programs: tables, pictures, movies, in folders that appear whole."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from phagostat.engine.columns import TABLES
from phagostat.engine.outputs import find_outputs
from phagostat.model.acquisition import ChannelRole
from phagostat.model.errors import SettingsError, StoreError
from phagostat.report import gif
from phagostat.report.ctc import LAYOUTS, CtcLayout, tracks_of, write_ctc
from phagostat.report.destinations import MARK, check_free, check_outside_outputs, whole_folder, write_mark
from phagostat.report.finished import FinishedOutput
from phagostat.report.images import write_pngs, write_tiffs
from phagostat.report.movies import SUFFIXES, check_movie_options, write_movie
from phagostat.report.released import has_tracks, write_released_images, write_released_tables
from phagostat.report.selection import KINDS, Kind
from phagostat.store.manifest import package_version
from phagostat.store.seal import read_seal

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ExportOptions:
    """How pictures and movies are written.

    Parameters
    ----------
    released_images
        Whether the released layout has its pictures, or its tables alone.
    movie_suffixes
        Kinds of movies: ``.mp4``, ``.webp``, ``.gif``, or several.
    fps, every, width_px, registered
        Of movies: :func:`phagostat.report.movies.write_movie`.
    ctc_layout
        ``"results"`` or ``"truth"``: :func:`phagostat.report.ctc.write_ctc`.
    """

    released_images: bool = True
    movie_suffixes: tuple[str, ...] = (".mp4",)
    fps: float = 10.0
    every: int = 1
    width_px: int | None = None
    registered: bool = True
    ctc_layout: CtcLayout = "results"


@dataclass(frozen=True)
class Exported:
    """Something that was written.

    Parameters
    ----------
    acquisition
        Name of the acquisition.
    kind
        What it is.
    path
        The folder, or the movie.
    n_files, n_bytes
        How many files are in it, and how large they are.
    notes
        What was left out and why, in sentences.
    """

    acquisition: str
    kind: Kind
    path: Path
    n_files: int
    n_bytes: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Give it as JSON can hold it."""
        return asdict(self) | {"path": str(self.path), "notes": list(self.notes)}


Told = Callable[[int, int], None]


@dataclass(frozen=True)
class _Unit:
    """What is written as a whole: a folder, or a movie, and what fills it."""

    kind: Kind
    label: str
    path: Path
    fill: Callable[[Path, Told], None]
    notes: tuple[str, ...] = ()


def export_output(
    output: Path,
    destination: Path,
    *,
    kinds: Sequence[str] = ("csv",),
    scenes: Sequence[int] | None = None,
    frames: Sequence[int] | None = None,
    options: ExportOptions | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _done, _total, _label: None,
) -> list[Exported]:
    """Export an output, or all acquisitions of a folder of outputs, as files for other programs.

    Parameters
    ----------
    output
        What was given to ``phagostat run -o``, or one acquisition in it. It is never written into.
    destination
        Folder; every acquisition gets a folder of its name in it.
    kinds
        Of :data:`KINDS`: ``csv``, every final table; ``released``, the released data set's folders, files and column
        names; ``tiff``, OME-TIFF stacks; ``png``, a file a picture; ``movie``, overlays; ``ctc``, masks and tracks of
        the Cell Tracking Challenge.
    scenes
        Indices of the scenes; all where None.
    frames
        Indices of the frames that pictures and movies are made of; all where None. Tables and ``ctc`` are whole.
    options
        How pictures and movies are written.
    overwrite
        Replace what an earlier export wrote.
    progress
        Told how much of what is being written is done: done, of how many, and what it is.

    Returns
    -------
    list of Exported
        In the order of acquisitions and kinds.

    Raises
    ------
    SettingsError
        If an option is out of range.
    StoreError
        If there is no complete analysis, or the destination cannot be written, is an output's own folder, or holds
        something already. Everything that can be checked is checked before anything is written; what was complete
        before a failure stays, and nothing half done does.
    """
    how = options or ExportOptions()
    wanted = _checked_kinds(kinds, how)
    units: list[tuple[FinishedOutput, _Unit]] = []
    for root in find_outputs(output) or [output]:
        opened = FinishedOutput(root)
        folder = destination / opened.name
        check_outside_outputs(folder)
        units.extend((opened, unit) for unit in _units(opened, folder, wanted, how, chosen=(scenes, frames)))
    for _, unit in units:
        check_free(unit.path, overwrite=overwrite)
    return [_write(opened, unit, progress) for opened, unit in units]


def _checked_kinds(kinds: Sequence[str], options: ExportOptions) -> tuple[Kind, ...]:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise SettingsError(
            "there is no such export",
            where="kinds",
            found=", ".join(unknown) or "none",
            remedy=f"choose among {', '.join(KINDS)}",
        )
    if options.ctc_layout not in LAYOUTS:
        raise SettingsError(
            "there is no such layout",
            where="ctc layout",
            found=options.ctc_layout,
            remedy=f"choose {' or '.join(LAYOUTS)}",
        )
    if "movie" in kinds:
        if not options.movie_suffixes:
            raise SettingsError(
                "no kind of movie is chosen", where="movie kinds", remedy=f"choose {' or '.join(SUFFIXES)}"
            )
        for suffix in options.movie_suffixes:
            check_movie_options(Path(f"movie{suffix}"), fps=options.fps, every=options.every, width_px=options.width_px)
    return tuple(kind for kind in KINDS if kind in kinds)


def _units(
    output: FinishedOutput,
    folder: Path,
    kinds: Sequence[Kind],
    options: ExportOptions,
    *,
    chosen: tuple[Sequence[int] | None, Sequence[int] | None],
) -> Iterator[_Unit]:
    """What is to be written of an acquisition, in order."""
    scenes = _chosen(chosen[0], len(output.scenes), what="scene", where=output.path)
    longest = max(len(output.scenes[scene].frames) for scene in scenes)
    wanted = _chosen(chosen[1], longest, what="frame", where=output.path)
    frames = {scene: [frame for frame in wanted if frame < len(output.scenes[scene].frames)] for scene in scenes}
    with_frames = [scene for scene in scenes if frames[scene]]
    if "csv" in kinds:
        yield _Unit("csv", "tables", folder / "csv", partial(_fill_csv, output, scenes))
    if "released" in kinds:
        notes = _released_notes(output)
        for scene in scenes:
            fill = partial(_fill_released, output, scene, frames[scene] if options.released_images else [])
            yield _Unit("released", f"scene {scene}", folder / f"scene_{scene}", fill, notes)
    if "tiff" in kinds:
        for scene in with_frames:
            fill = partial(_fill_tiff, output, scene, frames[scene])
            yield _Unit("tiff", f"stacks of scene {scene}", folder / "tiff" / f"scene_{scene}", fill)
    if "png" in kinds:
        for scene in with_frames:
            fill = partial(_fill_png, output, scene, frames[scene])
            yield _Unit("png", f"pictures of scene {scene}", folder / "png" / f"scene_{scene}", fill)
    if "movie" in kinds:
        for scene, suffix in itertools.product(with_frames, options.movie_suffixes):
            fill = partial(_fill_movie, output, scene, frames=frames[scene], options=options)
            yield _Unit("movie", f"movie of scene {scene}", folder / "movies" / f"scene_{scene}{suffix}", fill)
    if "ctc" in kinds:
        tracks_of(output, scenes[0])  # none: said before anything is written
        yield _Unit("ctc", "masks and tracks", folder / "ctc", partial(_fill_ctc, output, scenes, options.ctc_layout))


def _chosen(given: Sequence[int] | None, n: int, *, what: str, where: Path) -> list[int]:
    """The chosen indices, ascending, each once."""
    if given is None:
        return list(range(n))
    found = sorted(set(given))
    if not found or found[0] < 0 or found[-1] >= n:
        raise SettingsError(
            f"there is no such {what}",
            where=where,
            found=next((i for i in found if not 0 <= i < n), "none"),
            remedy=f"{what}s are 0 to {n - 1}",
        )
    return found


def _write(output: FinishedOutput, unit: _Unit, progress: Progress) -> Exported:
    def told(done: int, total: int) -> None:
        progress(done, total, unit.label)

    if unit.kind == "movie":
        unit.fill(unit.path, told)
        files = [unit.path]
    else:
        with whole_folder(unit.path) as temporary:
            unit.fill(temporary, told)
            write_mark(temporary, _mark(output, unit))
            _check_unchanged(output)
        files = sorted(path for path in unit.path.rglob("*") if path.is_file() and path.name != MARK)
    size = sum(path.stat().st_size for path in files)
    notes = unit.notes if files else (*unit.notes, f"there are no {unit.label}: no frame has any")
    if unit.path.suffix == ".gif" and size > gif.LARGE_BYTES:
        remedy = "--every 2, --frames or a smaller --width-px make it smaller, MP4 and WebP far smaller"
        notes += (f"the {unit.label} has {size / 1e6:.0f} MB, which is much for a GIF: {remedy}",)
    return Exported(output.name, unit.kind, unit.path, len(files), size, notes)


def _mark(output: FinishedOutput, unit: _Unit) -> dict[str, object]:
    return {
        "phagostat": package_version(),
        "kind": unit.kind,
        "acquisition": output.name,
        "source": output.manifest.source.get("identity"),
        "results": output.seal.log if output.seal is not None else None,
    }


def _check_unchanged(output: FinishedOutput) -> None:
    """A run that began meanwhile would leave half of the old and half of the new."""
    if read_seal(output.layout) != output.seal:
        raise StoreError(
            "the output has changed while it was exported",
            where=output.path,
            found="another seal, or none",
            remedy="export again when the run is at its end",
        )


def _released_notes(output: FinishedOutput) -> tuple[str, ...]:
    notes = []
    if ChannelRole.AGGREGATES not in output.roles:
        left_out = "frames_registration_params.csv and phagocytosis_evolution.csv"
        notes.append(f"there is no aggregate channel, so there are no {left_out}")
    elif not output.has_table("eaten"):
        notes.append("what was eaten was not measured, so its column in phagocytosis_evolution.csv is empty")
    if not has_tracks(output):
        notes.append("cells were not tracked, so there is no cell_tracking_report.csv")
    return tuple(notes)


# ---- what fills each folder ------------------------------------------------------------------------------------------


def _fill_csv(output: FinishedOutput, scenes: Sequence[int], folder: Path, told: Told) -> None:
    names = output.table_names
    for done, name in enumerate(names, start=1):
        table = output.table(name)
        if "scene" in table.column_names:
            table = table.filter(pc.is_in(table.column("scene"), pa.array(scenes, table.column("scene").type)))
        with (folder / f"{name}.csv").open("wb") as file:
            file.write((",".join(table.column_names) + "\n").encode())
            options = pa_csv.WriteOptions(include_header=False, quoting_style="needed")
            pa_csv.write_csv(_without_nan(table), file, options)
        told(done, len(names))
    with (folder / "columns.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["table", "column", "unit", "meaning"])
        for name in names:
            writer.writerows([name, column.name, column.unit, column.meaning] for column in TABLES.get(name, ()))


def _without_nan(table: pa.Table) -> pa.Table:
    """A table whose missing numbers are null, which CSV shows as empty."""
    for position, kind in enumerate(table.schema):
        if pa.types.is_floating(kind.type):
            column = table.column(position)
            known = pc.if_else(pc.is_nan(column), pa.scalar(None, kind.type), column)
            table = table.set_column(position, kind.name, known)
    return table


def _fill_released(output: FinishedOutput, scene: int, frames: Sequence[int], folder: Path, told: Told) -> None:
    write_released_tables(output, scene, folder)
    write_released_images(output, scene, folder, frames=frames, progress=told)


def _fill_tiff(output: FinishedOutput, scene: int, frames: Sequence[int], folder: Path, told: Told) -> None:
    write_tiffs(output, scene, folder, frames=frames, progress=told)


def _fill_png(output: FinishedOutput, scene: int, frames: Sequence[int], folder: Path, told: Told) -> None:
    write_pngs(output, scene, folder, frames=frames, progress=told)


def _fill_movie(
    output: FinishedOutput, scene: int, path: Path, told: Told, *, frames: Sequence[int], options: ExportOptions
) -> None:
    write_movie(
        output,
        scene,
        path,
        fps=options.fps,
        every=options.every,
        width_px=options.width_px,
        frames=frames,
        registered=options.registered,
        progress=told,
    )


def _fill_ctc(output: FinishedOutput, scenes: Sequence[int], layout: CtcLayout, folder: Path, told: Told) -> None:
    total = sum(len(output.scenes[scene].frames) for scene in scenes)
    before = 0
    for scene in scenes:

        def counted(done: int, _: int, before: int = before) -> None:
            told(before + done, total)

        write_ctc(output, scene, folder, layout=layout, progress=counted)
        before += len(output.scenes[scene].frames)
