"""The parameters that a scene is drawn with, and the ranges they are drawn from."""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

import numpy as np

from phagostat.model.errors import SettingsError

PRESETS = ("easy", "default", "hard")

_ACQUISITION = "acquisition"
_ACQUISITION_STREAM = 1_000_003  # a scene number that no scene has


class SceneParameters(Mapping[str, float]):
    """Drawn parameters by name, read as attributes or items.

    Parameters
    ----------
    values
        Value of every parameter, in the unit that its name states.
    """

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __getattr__(self, name: str) -> float:
        try:
            return self.__dict__["_values"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@cache
def load_ranges(preset: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Give the ranges of a preset, group by group.

    Parameters
    ----------
    preset
        ``easy``, ``default`` or ``hard``; what it does not list is taken from ``default``.

    Returns
    -------
    dict
        For each group (stage, focus, light, ...) the (low, high) of each parameter.

    Raises
    ------
    SettingsError
        If there is no such preset.
    """
    if preset not in PRESETS:
        raise SettingsError(
            "there is no such preset", where="simulate", found=preset, remedy=f"choose one of {', '.join(PRESETS)}"
        )
    tables = tomllib.loads(files("phagostat.simulate").joinpath("ranges.toml").read_text(encoding="utf-8"))
    ranges = {group: dict(table) for group, table in tables["default"].items()}
    for group, table in tables.get(preset, {}).items():
        ranges[group].update(table)
    return {group: {name: (low, high) for name, (low, high) in table.items()} for group, table in ranges.items()}


def draw_parameters(*, preset: str, seed: int, scene: int, given: Mapping[str, float] | None = None) -> SceneParameters:
    """Draw every parameter of a scene; those of the acquisition are the same for all of its scenes.

    Parameters
    ----------
    preset
        Name of the ranges.
    seed
        Seed of the acquisition.
    scene
        Index of the scene.
    given
        Values that are set instead of drawn, by name.

    Returns
    -------
    SceneParameters
        One value per name.

    Raises
    ------
    SettingsError
        If ``given`` names a parameter that does not exist.
    """
    values: dict[str, float] = {}
    for group, table in load_ranges(preset).items():
        stream = _ACQUISITION_STREAM if group == _ACQUISITION else scene
        for name, (low, high) in table.items():
            random = np.random.default_rng([seed, stream, zlib.crc32(name.encode())])
            if name.startswith("n_"):
                values[name] = int(random.integers(int(low), int(high), endpoint=True))
            else:
                values[name] = float(random.uniform(low, high))
    for name, value in (given or {}).items():
        if name not in values:
            raise SettingsError(
                "there is no such simulation parameter",
                where="parameters",
                found=name,
                remedy="see simulate/ranges.toml",
            )
        values[name] = value
    return SceneParameters(values)
