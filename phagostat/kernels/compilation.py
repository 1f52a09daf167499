"""Loops over pixels that numpy cannot express, compiled when they are first called."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def compiled(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A function of arrays and numbers as machine code, without the interpreter's lock.

    Parameters
    ----------
    function
        Loops in the part of Python that numba compiles. It may not call other compiled functions.

    Returns
    -------
    callable
        The same function. Its first call imports numba and compiles, or reads what an earlier process compiled.

    Notes
    -----
    Importing numba takes 0.3 s and 70 MB, so nothing imports it that computes no pixels. Machine code is kept in
    ``__pycache__`` or, where that cannot be written, in the user's cache folder or ``NUMBA_CACHE_DIR``; where none
    can be written, each process compiles for itself.
    """
    lock = Lock()
    machine_code: list[Callable[_Arguments, _Result]] = []

    @wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        if not machine_code:
            with lock:
                if not machine_code:
                    machine_code.append(_compile(function))
        return machine_code[0](*args, **kwargs)

    return call


def _compile(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    from numba import njit  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

    try:
        kept: Callable[_Arguments, _Result] = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder to keep machine code in
        kept = njit(nogil=True)(function)
    return kept
