"""Settings as text: TOML in and out, and a table of every parameter."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w
from pydantic.v1 import BaseModel

from phagostat.model.errors import SettingsError
from phagostat.setting_groups import DEFAULT_SOURCE
from phagostat.settings import Settings, profile_settings


def read_settings(path: Path | None, assignments: Iterable[str] = (), *, profile: str | None = None) -> Settings:
    """Settings from a TOML file (or none) and ``group.name=value`` assignments.

    Raises
    ------
    SettingsError
        If the file cannot be read, or an assignment or value is not valid.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise SettingsError("settings file cannot be read", where=path, found=error.strerror) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError("settings file is not TOML", where=path, found=error) from None
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        group, dot, field = name.strip().partition(".")
        if not (separator and dot and field):
            raise SettingsError(
                "not an assignment", found=assignment, remedy="write group.name=value, such as sharpness.method=scaled"
            )
        try:
            value = tomllib.loads(f"value = {text.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        if not isinstance(values.setdefault(group, {}), dict):
            raise SettingsError("not a group of settings", found=group)
        values[group][field] = value
    named = values.pop("profile", None)
    if profile is not None and named is not None and profile != named:
        raise SettingsError("two profiles asked for", where=path, found=f"{profile} and {named}")
    return profile_settings(profile or named or "corrected", values)


def settings_toml(settings: Settings) -> str:
    """TOML text with every parameter, its unit, description and source; :func:`read_settings` reads it back."""
    lines = [
        "# phagostat settings: every parameter with its unit, meaning and source",
        f'profile = "{settings.profile}"',
    ]
    for group in _groups(settings):
        model = getattr(settings, group)
        lines += ["", f"[{group}]  # {(type(model).__doc__ or '').strip()}"]
        for row in _rows(group, model):
            unit = f" [{row['unit']}]" if row["unit"] else ""
            source = f" ({row['source']})" if row["source"] else ""
            lines.append(f"# {row['description']}{unit}{source}")
            value = row["value"]
            lines.append(
                f"# {row['name']} = (not set)" if value is None else tomli_w.dumps({row["name"]: value}).strip()
            )
    return "\n".join(lines) + "\n"


def settings_table(settings: Settings) -> list[dict[str, Any]]:
    """One row a parameter: group, name, value, default, unit, description, source."""
    return [row for group in _groups(settings) for row in _rows(group, getattr(settings, group))]


def _groups(settings: Settings) -> list[str]:
    return [name for name in settings.__fields__ if isinstance(getattr(settings, name), BaseModel)]


def _rows(group: str, model: BaseModel) -> list[dict[str, Any]]:
    return [
        {
            "group": group,
            "name": name,
            "value": getattr(model, name),
            "default": field.default,
            "unit": field.field_info.extra.get("unit", ""),
            "description": field.field_info.description or "",
            "source": field.field_info.extra.get("source", DEFAULT_SOURCE),
        }
        for name, field in model.__fields__.items()
    ]
