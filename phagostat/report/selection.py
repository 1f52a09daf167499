"""What is meant: kinds of export and of movies, scenes, frames."""

from __future__ import annotations

from typing import Final, Literal, get_args

from phagostat.model.errors import SettingsError

Kind = Literal["csv", "released", "tiff", "png", "movie", "ctc"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""What an export can write."""

MovieKind = Literal["mp4", "webp", "gif"]
MOVIE_KINDS: Final[tuple[MovieKind, ...]] = get_args(MovieKind)
"""What a movie can be written as; its file has this suffix."""


MOST_NUMBERS: Final = 1_000_000
"""In a range: more is a slip of the finger, and would fill the memory."""


def parse_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Whole numbers from a list with ranges, such as ``0,2,5-7``; None where nothing was said.

    Raises
    ------
    SettingsError
        If it is not such a list.
    """
    if text is None:
        return None
    found: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise SettingsError("not a list of numbers", where=option, found=text, remedy="write such as 0,2,5-7")
        numbers = range(int(first), int(last if dash else first) + 1)
        if len(numbers) > MOST_NUMBERS:
            raise SettingsError(
                "too many numbers", where=option, found=part.strip(), remedy=f"choose at most {MOST_NUMBERS}"
            )
        found |= dict.fromkeys(numbers)
    return tuple(found)
