"""How far a run is, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    phase
        ``"compute"``, ``"check"`` or ``"seal"``.
    done, total
        Results (or, while checking, chunks) that are there, and that there will be.
    computed
        Results computed by this run so far.
    message
        Something worth saying, such as a chunk that did not match.
    """

    phase: str
    done: int
    total: int
    computed: int
    message: str = ""


@dataclass
class Report:
    """What a run did.

    Parameters
    ----------
    sealed
        Whether the output is complete, checked and sealed.
    computed
        Number of results computed, by step.
    retracted
        Number of committed results that no longer held, by step.
    damaged
        Chunks that did not match their commits and were recomputed.
    swept
        Files that no commit promised and that were removed.
    """

    sealed: bool = False
    computed: dict[str, int] = field(default_factory=dict)
    retracted: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    swept: int = 0
