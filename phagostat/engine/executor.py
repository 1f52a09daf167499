"""Who computes the graphs: the contract, and the plainest way to keep it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Protocol

import dask
import dask.array as da


class WorkerLostError(Exception):
    """The worker that had a graph is gone, or its answer is: nothing is known against the graph itself."""


@dataclass(frozen=True)
class Outcome:
    """What became of a submitted graph: its receipts, or the error that ended it."""

    ticket: int
    value: Any = None
    error: BaseException | None = None


class Executor(Protocol):
    """Computes small dask graphs, several at a time."""

    @property
    def capacity(self) -> int:
        """Number of graphs that can be computed at the same time."""
        ...

    def submit(self, graph: da.Array) -> int:
        """Hand out a graph; give a ticket for its outcome."""
        ...

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        """Outcomes that have come in, at least one unless the time is up or nothing is out."""
        ...

    def cancel(self) -> None:
        """Give up what is still out."""
        ...


class SynchronousExecutor:
    """Computes in this process, one graph after the other, in any order.

    Parameters
    ----------
    capacity
        How many graphs may be out at a time.
    shuffle
        Computes what is out in a random order drawn from it; None: first come, first served.
    """

    def __init__(self, *, capacity: int = 1, shuffle: random.Random | None = None) -> None:
        self.capacity = capacity
        self._shuffle = shuffle
        self._out: dict[int, da.Array] = {}
        self._next = 0

    def submit(self, graph: da.Array) -> int:
        """Keep a graph for :meth:`wait`."""
        self._next += 1
        self._out[self._next] = graph
        return self._next

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:  # noqa: ARG002
        """Compute one of the graphs that are out."""
        if not self._out:
            return []
        tickets = list(self._out)
        ticket = self._shuffle.choice(tickets) if self._shuffle else tickets[0]
        graph = self._out.pop(ticket)
        try:
            (value,) = dask.compute(graph, scheduler="synchronous")
        except Exception as error:
            return [Outcome(ticket, error=error)]
        return [Outcome(ticket, value=value)]

    def cancel(self) -> None:
        """Forget what was not computed."""
        self._out.clear()
