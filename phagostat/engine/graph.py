"""Small dask graphs: one per scene and range, built with ``map_blocks``; pixels stay inside, receipts come out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from phagostat.engine.compute import FRAME_FUNCTIONS, WHOLE_FUNCTIONS, WINDOW_FUNCTIONS
from phagostat.engine.planner import Work
from phagostat.engine.work import (
    FramePlanes,
    Job,
    Needs,
    Present,
    Receipt,
    Result,
    StoredFrame,
    TaskContext,
    read_frame,
)
from phagostat.store.digests import rows_digest
from phagostat.store.integrity import damaged_chunks
from phagostat.store.rows import write_row_file

Objects = NDArray[np.object_]

_EMPTY = np.empty((0,), dtype=object)


def block_graph(work: Work, job: Job, *, needs: Needs, present: Present, name: str) -> da.Array:
    """The graph of a range of frames of one scene: read, then every step, then a receipt.

    One block: dask fuses it into one task, so planes are read once and never leave it.

    Parameters
    ----------
    work
        Steps, scene and range.
    job
        Source, output and settings.
    needs
        Records of committed results that the steps read.
    present
        For each scene and channel the frames that can be read.
    name
        Unique within the run.

    Returns
    -------
    da.Array
        One :class:`~phagostat.engine.work.Receipt`.
    """
    if work.scene is None:
        raise ValueError("a block belongs to a scene")
    frames = da.from_array(np.arange(work.start, work.stop), chunks=work.stop - work.start, name=f"frames-{name}")
    read = functools.partial(_read_block, job=job, scene=work.scene, present=present[work.scene])
    planes = _map(read, frames, name=f"read-{name}")
    results: list[da.Array] = []
    for step in work.steps:
        earlier = work.steps[: len(results)]
        compute = functools.partial(_step_block, job=job, scene=work.scene, step=step, earlier=earlier, needs=needs)
        results.append(_map(compute, planes, *results, name=f"{step}-{name}"))
    return _map(
        functools.partial(_receipt_block, job=job, work=work), planes, *results, one=True, name=f"receipt-{name}"
    )


def window_graph(work: Work, job: Job, *, ahead: int, needs: Needs, name: str) -> da.Array:
    """The graph of a step that reads stored planes of its own frame and of some that follow.

    Two blocks of stored frames, the range and what follows it, joined by ``map_overlap``; of its results only the first
    block is asked for.

    Parameters
    ----------
    work
        One step, scene and range.
    job
        Settings and output.
    ahead
        How many frames after its own a result reads.
    needs
        Records of committed results and folds that the step reads.
    name
        Unique within the run.

    Returns
    -------
    da.Array
        One :class:`~phagostat.engine.work.Receipt`.
    """
    (step,) = work.steps
    # map_overlap wants no block shorter than its depth; frames that nothing reads are not loaded
    length = max(work.stop - work.start, ahead)
    chunks = ((length, ahead) if ahead else (length,),)
    numbers = da.from_array(np.arange(work.start, work.start + length + ahead), chunks=chunks, name=f"frames-{name}")
    load = functools.partial(_stored_block, job=job, work=work, needs=needs, stop=work.stop + ahead)
    compute = functools.partial(_window_block, job=job, work=work, needs=needs)
    receipts = da.map_overlap(
        compute,
        _map(load, numbers, name=f"stored-{name}"),
        depth={0: (0, ahead)},
        boundary="none",
        trim=False,
        allow_rechunk=False,
        dtype=object,
        meta=_EMPTY,
        chunks=((1,) * len(chunks[0]),),
        name=f"{step}-{name}",
    )
    return receipts.blocks[:1]


def whole_graph(work: Work, job: Job, *, needs: Needs, present: Present, frames_final: int, name: str) -> da.Array:
    """The graph of steps that take a whole scene or acquisition: one task, one receipt."""
    place = da.from_array(np.array([work.start]), chunks=1, name=f"place-{name}")
    compute = functools.partial(
        _whole_block, job=job, work=work, needs=needs, present=present, frames_final=frames_final
    )
    return _map(compute, place, name=f"{'-'.join(work.steps)}-{name}")


def check_graph(job: Job, chunks: Mapping[str, str], *, stored: Mapping[str, str], name: str) -> da.Array:
    """The graph that compares chunks with the digests in their commits; gives the list of those that do not match."""
    place = da.from_array(np.array([0]), chunks=1, name=f"place-{name}")
    check = functools.partial(_check_block, job=job, promised=dict(chunks), stored=dict(stored))
    return _map(check, place, name=f"check-{name}")


def _map(function: Callable[..., Objects], *arrays: da.Array, name: str, one: bool = False) -> da.Array:
    """``map_blocks`` over blocks of objects.

    What the function needs beside the blocks is bound into it: dask would look for arrays in every keyword argument,
    through thousands of frame times, which costs more than the frames of a small movie.
    """
    chunks = ((1,),) if one else None
    return da.map_blocks(function, *arrays, dtype=object, meta=_EMPTY, chunks=chunks, name=name)


def _objects(items: list[Any]) -> Objects:
    block = np.empty((len(items),), dtype=object)
    for i, item in enumerate(items):  # item by item: numpy would take arrays inside apart
        block[i] = item
    return block


def _read_block(frames: NDArray[np.int64], *, job: Job, scene: int, present: Mapping[int, frozenset[int]]) -> Objects:
    return _objects([read_frame(job, scene, int(frame), present) for frame in frames])


def _step_block(
    planes: Objects, *results: Objects, job: Job, scene: int, step: str, earlier: tuple[str, ...], needs: Needs
) -> Objects:
    started = time.process_time()
    frames: list[FramePlanes] = list(planes)
    done = {name: [result for result, _ in block] for name, block in zip(earlier, results, strict=True)}
    context = TaskContext(job, scene, needs)
    found = FRAME_FUNCTIONS[step](context, frames, done)
    _note_stored(context, found)
    share = (time.process_time() - started) / max(len(found), 1)
    return _objects([(result, share) for result in found])


def _note_stored(context: TaskContext, results: list[Result]) -> None:
    for result in results:
        result.stored.update({chunk: context.stored[chunk] for chunk in result.chunks})


def _receipt_block(planes: Objects, *results: Objects, job: Job, work: Work) -> Objects:
    digests = {frame.frame: frame.digests() for frame in planes}
    by_step = {step: [result for result, _ in block] for step, block in zip(work.steps, results, strict=True)}
    for block in by_step.values():
        for frame, result in zip(planes, block, strict=True):
            result.inputs.update(digests[frame.frame])
    seconds = {step: float(sum(s for _, s in block)) for step, block in zip(work.steps, results, strict=True)}
    seconds["read"] = float(sum(frame.seconds for frame in planes))
    return _objects([_receipt(job, work, by_step, seconds)])


def _stored_block(numbers: NDArray[np.int64], *, job: Job, work: Work, needs: Needs, stop: int) -> Objects:
    if work.scene is None:
        raise ValueError("a window belongs to a scene")
    context = TaskContext(job, work.scene, needs)
    load = WINDOW_FUNCTIONS[work.steps[0]].load
    n_frames = min(stop, job.scenes[work.scene].n_frames)
    return _objects([StoredFrame(int(n), load(context, int(n)) if n < n_frames else None) for n in numbers])


def _window_block(frames: Objects, *, job: Job, work: Work, needs: Needs) -> Objects:
    started = time.process_time()
    (step,) = work.steps
    context = TaskContext(job, work.scene, needs)
    stored: list[StoredFrame] = list(frames)
    results = WINDOW_FUNCTIONS[step].compute(context, stored, work.stop - work.start)
    _note_stored(context, results)
    return _objects([_receipt(job, work, {step: results}, {step: time.process_time() - started})])


def _whole_block(
    place: NDArray[np.int64], *, job: Job, work: Work, needs: Needs, present: Present, frames_final: int
) -> Objects:
    context = TaskContext(job, work.scene, needs)
    results: dict[str, list[Result]] = {}
    seconds: dict[str, float] = {}
    for step in work.steps:
        started = time.process_time()
        results[step] = [WHOLE_FUNCTIONS[step](context, present, frames_final)]
        seconds[step] = time.process_time() - started
        _note_stored(context, results[step])
    return _objects([_receipt(job, work, results, seconds) for _ in place])


def _check_block(
    place: NDArray[np.int64], *, job: Job, promised: Mapping[str, str], stored: Mapping[str, str]
) -> Objects:
    return _objects([damaged_chunks(job.layout.images, promised, stored=stored) for _ in place])


def _receipt(job: Job, work: Work, by_step: Mapping[str, list[Result]], seconds: dict[str, float]) -> Receipt:
    """Write the rows of a range, one file a step, and leave them out of what is returned."""
    rows: dict[str, dict[int, str]] = {}
    files: dict[str, tuple[str, str]] = {}
    results: dict[str, tuple[Result, ...]] = {}
    for step, block in by_step.items():
        indexed = [(work.start + i, r.columns) for i, r in enumerate(block) if r.columns is not None]
        if indexed:
            rows[step] = {index: rows_digest(columns) for index, columns in indexed}
            merged = {name: np.concatenate([columns[name] for _, columns in indexed]) for name in indexed[0][1]}
            counts = [len(next(iter(columns.values()))) for _, columns in indexed]
            merged = {"index": np.repeat([index for index, _ in indexed], counts).astype(np.int32), **merged}
            scene = "acquisition" if work.scene is None else f"scene-{work.scene:03d}"
            files[step] = write_row_file(
                job.layout.rows,
                f"{step}/{scene}/{work.start:07d}-{work.stop:07d}",
                merged,
                fsync=job.settings.execution.fsync,
            )
        results[step] = tuple(
            Result(verdict=r.verdict, record=r.record, chunks=r.chunks, inputs=r.inputs, stored=r.stored) for r in block
        )
    return Receipt(results, rows, files, seconds)
