"""Which Z planes of a stack make up a plane of the movie."""

from __future__ import annotations

from phagostat.model.errors import SourceError

ZChoice = str | int
"""``"max"`` for the maximum projection, or the number of one Z plane, from 0."""


def check_z(z: ZChoice) -> ZChoice:
    """Give ``z`` back if it is ``"max"`` or a plane's number.

    Raises
    ------
    SourceError
        If it is neither.
    """
    if z != "max" and (not isinstance(z, int) or isinstance(z, bool) or z < 0):
        raise SourceError("a Z plane is 'max' or a number from 0", found=repr(z), remedy="give --z max or --z 0")
    return z


def chosen_z(z: ZChoice, depth: int, *, path: object) -> range:
    """Give the numbers of the Z planes that a plane is made of.

    Parameters
    ----------
    z
        As checked by :func:`check_z`.
    depth
        How many Z planes there are.
    path
        Named in the error.

    Raises
    ------
    SourceError
        If there is no such plane.
    """
    if z == "max":
        return range(depth)
    if int(z) >= depth:
        raise SourceError("there is no such Z plane", where=path, found=f"z {z} of {depth}", remedy="lower z")
    return range(int(z), int(z) + 1)
