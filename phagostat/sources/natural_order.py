"""Names in the order in which people count: 2 before 10."""

from __future__ import annotations

import re
from typing import Final

_DIGITS: Final = re.compile(r"(\d+)", re.ASCII)


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Give a key that sorts numbers within names by their value.

    Examples
    --------
    >>> sorted(["10.png", "2.png", "1.png"], key=natural_key)
    ['1.png', '2.png', '10.png']
    """
    pieces = _DIGITS.split(name)
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece.lower()) for piece in pieces if piece], name
