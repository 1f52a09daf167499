"""The embedded default: a dask cluster on this machine, one process a core, reachable from this machine alone."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

import dask
import dask.array as da
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.comm import CommClosedError
from distributed.diagnostics.plugin import WorkerPlugin

from phagostat.engine.executor import Executor, Outcome, SynchronousExecutor, WorkerLostError

_CONFIGURATION = {
    "distributed.worker.use-file-locking": False,
    "distributed.worker.memory.target": False,  # receipts are small: nothing to spill
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.9,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.comm.timeouts.connect": "60s",
    # what dask watches itself with, many times a second in every process, is CPU taken from the frames
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "60s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.work-stealing": False,  # tasks wait for no data: the queue alone balances them
    "distributed.admin.large-graph-warning-threshold": "10MB",
    "distributed.nanny.pre-spawn-environ": {
        # planes are a few MB each: kept on the heap they are not given back to the system, and zeroed again, every time
        "MALLOC_MMAP_THRESHOLD_": 32 * 2**20,
        "MALLOC_TRIM_THRESHOLD_": 256 * 2**20,
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
    },
}


class ThreadCounts(WorkerPlugin):  # type: ignore[misc]
    """One thread a worker for every library that would start its own: workers are the parallelism."""

    name = "phagostat-thread-counts"

    def setup(self, worker: Any) -> None:
        """Set thread counts in a worker process."""
        del worker
        import cv2  # noqa: PLC0415 - the worker's copy
        import zarr  # noqa: PLC0415

        cv2.setNumThreads(0)
        zarr.config.set({"async.concurrency": 2, "threading.max_workers": 1})


class DistributedExecutor:
    """Computes graphs on the workers of a dask client.

    Parameters
    ----------
    connect
        Gives a connected client; called when the first graph is handed out, so that a run that finds nothing to do
        starts no cluster.
    capacity
        Number of graphs that can be computed at the same time: the workers' threads.
    """

    def __init__(self, connect: Callable[[], Client], *, capacity: int) -> None:
        self.capacity = capacity
        self._connect = connect
        self._client: Client | None = None
        self._out: dict[int, Future] = {}
        self._done: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._next = 0

    def submit(self, graph: da.Array) -> int:
        """Send a graph to the scheduler."""
        if self._client is None:
            self._client = self._connect()
        self._next += 1
        ticket = self._next
        future = self._client.compute(graph, retries=0)
        self._out[ticket] = future
        future.add_done_callback(lambda _: self._done.put(ticket))
        return ticket

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        """Outcomes that have come in; futures are released with them."""
        if not self._out:
            return []
        outcomes: list[Outcome] = []
        while self._out and (not outcomes or not self._done.empty()):
            try:
                # a bounded wait, so that an interrupt is seen
                ticket = self._done.get(timeout=0.5 if timeout_s is None else timeout_s)
            except queue.Empty:
                if timeout_s is not None:
                    break
                continue
            future = self._out.pop(ticket, None)
            if future is None:
                continue
            if future.status == "finished":
                outcomes.append(Outcome(ticket, value=future.result()))
            else:
                outcomes.append(Outcome(ticket, error=_error_of(future)))
            future.release()
        return outcomes

    def cancel(self) -> None:
        """Give up what is still out."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.cancel(list(self._out.values()), force=True)
        self._out.clear()


def _error_of(future: Future) -> BaseException:
    """Why a future has no result; a lost worker is told from a graph that failed."""
    if future.status != "error":  # cancelled or lost
        return WorkerLostError(future.status)
    error = future.exception()
    if isinstance(error, KilledWorker | CommClosedError):
        return WorkerLostError(str(error))
    return error if isinstance(error, BaseException) else RuntimeError(repr(error))


@contextlib.contextmanager
def local_executor(workers: int | None = None, *, memory_limit: str = "4GiB") -> Iterator[Executor]:
    """A local cluster for the time of a ``with`` block, started when it is first needed.

    Parameters
    ----------
    workers
        Worker processes; None: one a core this process may use; 0: none, everything is computed in this process.
    memory_limit
        At which a worker is restarted; well above what it needs, since dask pauses workers before it.
    """
    if workers == 0:
        yield SynchronousExecutor()
        return
    count = workers or len(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:

        def connect() -> Client:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="phagostat-"))
            stack.enter_context(dask.config.set(_CONFIGURATION))
            _start_resource_tracker()
            with _held_back_signals():
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=count,
                        threads_per_worker=1,
                        processes=True,
                        host="127.0.0.1",
                        dashboard_address="127.0.0.1:0",
                        local_directory=scratch,
                        memory_limit=memory_limit,
                        silence_logs=logging.CRITICAL,
                        worker_dashboard_address="127.0.0.1:0",
                    )
                )
            client = stack.enter_context(Client(cluster, set_as_default=False))
            client.register_plugin(ThreadCounts())
            return client

        yield DistributedExecutor(connect, capacity=count)


@contextlib.contextmanager
def _held_back_signals() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while a cluster starts, so that it is either there, and closed again, or not.

    Workers are started by the cluster's thread, now and whenever one has died, and inherit what is blocked: a terminal
    or a batch system may send a signal to all processes, but it is the driver that ends its workers. A worker whose
    driver is gone ends by itself.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Start Python's counter of semaphores without its say: a killed worker's are nothing a user could act upon."""
    silence = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(silence)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(silence)
