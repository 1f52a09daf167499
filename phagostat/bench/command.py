"""From what is asked on the command line to the document that answers it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

import phagostat
from phagostat.bench.impossible import run_impossible
from phagostat.bench.machine import machine
from phagostat.bench.movie import run_movie
from phagostat.bench.noise import run_noise
from phagostat.bench.picture import read_picture
from phagostat.bench.plan import DEFAULT_METHOD, TABLES, Plan, Report
from phagostat.bench.published import SOURCE, TABLE_1
from phagostat.bench.robustness import run_robustness
from phagostat.bench.shifts import run_shifts
from phagostat.bench.trials import Figures
from phagostat.kernels.translation import METHODS
from phagostat.model.errors import SettingsError, SourceError, StoreError

SIMULATED = "simulated"
"""Said instead of a picture: take none."""

_LEAST_SIDE_PX = 128
_USUAL_METHODS = ("tiles", "phase", "sift", "ecc", "cecc")
_AGGREGATES, _CELLS, _MOVIE = "microglia/aggregates.png", "microglia/cell.png", "t98g"

_TABLES: dict[str, Callable[[Plan, Report], Figures]] = {
    "shifts": run_shifts,
    "noise": run_noise,
    "robustness": run_robustness,
    "impossible": run_impossible,
    "movie": run_movie,
}


def plan_of(
    *, n: int, n_slow: int | None, methods: str | None, tables: str | None, noise: str | None, reference: str | None,
    movie: str | None, size: int, seed: int,
) -> Plan:  # fmt: skip
    """Make a plan of options as they were typed.

    Parameters
    ----------
    n, n_slow
        Pairs of the paper's test; the slow methods take `n_slow` (None: 50, and never more than `n`).
    methods, tables, noise
        Names or numbers with commas between them; None for all, or for the levels of a default plan.
    reference, movie
        Paths; None for the real data beside the project, if they are there; ``simulated`` for none.
    size, seed
        Side of a frame in px; seed of everything that is drawn.

    Raises
    ------
    SettingsError
        If a name is unknown or a number makes no sense.
    SourceError
        If a file that was named is not there, or is no such file.
    """
    if n < 1:
        raise SettingsError("there must be at least one pair", where="--n", found=n, remedy="give 1 or more")
    if n_slow is not None and n_slow < 0:
        raise SettingsError(
            "a number of pairs is not negative", where="--n-slow", found=n_slow, remedy="give 0 or more"
        )
    if size < _LEAST_SIDE_PX or size % 4:
        raise SettingsError(
            f"a frame must be at least {_LEAST_SIDE_PX} px high and wide, in multiples of 4",
            where="--size",
            found=size,
            remedy="give another side, such as 2048",
        )
    if seed < 0:
        raise SettingsError("a seed is not negative", where="--seed", found=seed, remedy="give 0 or more")
    data = real_data()
    picture = _path(reference, None if data is None else data / _AGGREGATES)
    if picture is not None:
        read_picture(picture)
    other = None if picture is None else picture.with_name(Path(_CELLS).name)
    folder = _path(movie, None if data is None else data / _MOVIE)
    if movie not in (None, SIMULATED) and (folder is None or not folder.is_dir()):
        raise SourceError(
            "there is no such folder of frames", where=movie, found="no folder",
            remedy="name another one with --movie, or the word simulated for none",
        )  # fmt: skip
    known = list(METHODS)
    usual = tuple(name for name in _USUAL_METHODS if name in known)
    return Plan(
        n=n,
        n_slow=min(n, 50 if n_slow is None else n_slow),
        methods=_names(methods, known, "--methods") or usual,
        tables=_names(tables, list(TABLES), "--tables") or TABLES,
        light_levels=_levels(noise) or Plan.light_levels,
        reference=picture,
        other_channel=other if other is not None and other.is_file() else None,
        movie=folder,
        side_px=size,
        seed=seed,
    )


def real_data() -> Path | None:
    """Give the folder of real microscopy that may lie beside the project, or None."""
    for place in (Path.cwd(), Path(phagostat.__file__).resolve().parents[1]):
        folder = place / ".." / "shared" / "data"
        if folder.is_dir():
            return folder.resolve()
    return None


def _path(given: str | None, default: Path | None) -> Path | None:
    if given == SIMULATED:
        return None
    if given is not None:
        return Path(given)
    return default if default is not None and default.exists() else None


def _names(text: str | None, known: list[str], option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise SettingsError(
                "there is no such name", where=option, found=name, remedy=f"choose of {', '.join(known)}"
            )
    if text is not None and not names:
        raise SettingsError("nothing is named", where=option, found=repr(text), remedy=f"choose of {', '.join(known)}")
    return names


def _levels(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        levels = tuple(float(part) for part in text.split(","))
    except ValueError:
        levels = ()
    if not levels or not all(math.isfinite(level) and level > 0 for level in levels):
        raise SettingsError(
            "levels of light are positive numbers with commas between them", where="--noise", found=text,
            remedy="give some, such as 1,0.25",
        )  # fmt: skip
    return levels


def run_registration(plan: Plan, report: Report) -> dict[str, Any]:
    """Run the tables of a plan on one thread, and give everything that was found.

    Returns
    -------
    dict
        ``settings``, ``machine``, ``published`` and, by name, the tables; all numbers but times follow from the
        settings.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return {
            "benchmark": "registration",
            "settings": {
                "n": plan.n,
                "n_slow": plan.n_slow,
                "methods": list(plan.methods),
                "default_method": DEFAULT_METHOD,
                "tables": list(plan.tables),
                "light_levels": list(plan.light_levels),
                "reference": SIMULATED if plan.reference is None else plan.reference.name,
                "other_channel": SIMULATED if plan.other_channel is None else plan.other_channel.name,
                "movie": None if plan.movie is None else plan.movie.name,
                "side_px": plan.side_px,
                "seed": plan.seed,
            },
            "machine": machine(),
            "published": {"source": SOURCE, "table_1": TABLE_1},
            "tables": {name: _TABLES[name](plan, report) for name in TABLES if name in plan.tables},
        }
    finally:
        cv2.setNumThreads(threads)


def check_destination(path: Path) -> None:
    """Raise before an hour of work what would be raised after it.

    Raises
    ------
    StoreError
        If `path` cannot become a file.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise StoreError(
            "the result cannot be written", where=path, found="no file can be there", remedy="name another"
        )


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write a document for another program.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    try:
        path.write_text(as_json(document) + "\n", "utf-8")
    except OSError as error:
        raise StoreError(
            "the result cannot be written", where=path, found=error.strerror, remedy="name another file"
        ) from None


def as_json(document: dict[str, Any]) -> str:
    """Give a document as JSON; what is not finite is null."""
    return json.dumps(_finite(document), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
