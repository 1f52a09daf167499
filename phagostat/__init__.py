"""phagostat: numbers that can be trusted from time-lapses of cells eating fluorescent aggregates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phagostat.sources.lazy import LazyAcquisition, open_source

__all__ = ["LazyAcquisition", "open_source"]


def __getattr__(name: str) -> Any:
    # the command line and every worker import phagostat; readers and numpy only where they are used
    if name in __all__:
        from phagostat.sources import lazy  # noqa: PLC0415

        return getattr(lazy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
