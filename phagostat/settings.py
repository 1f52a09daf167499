"""Every parameter: profiles, and a digest of what each step reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic.v1 import Field, ValidationError

from phagostat.model.errors import SettingsError
from phagostat.setting_groups import (
    AcquisitionSettings,
    AggregateSettings,
    BlurSettings,
    CellSettings,
    CoherenceSettings,
    ExecutionSettings,
    Group,
    LedgerSettings,
    NormalisationSettings,
    QualitySettings,
    ReferenceSettings,
    RegistrationSettings,
    SharpnessSettings,
    TrackingSettings,
)

PROFILES = ("corrected", "paper")


class Settings(Group):
    """All parameters of a run."""

    profile: Literal["corrected", "paper"] = Field(
        default="corrected", description="the set of defaults this started from"
    )
    acquisition: AcquisitionSettings = AcquisitionSettings()
    reference: ReferenceSettings = ReferenceSettings()
    normalisation: NormalisationSettings = NormalisationSettings()
    sharpness: SharpnessSettings = SharpnessSettings()
    registration: RegistrationSettings = RegistrationSettings()
    aggregates: AggregateSettings = AggregateSettings()
    blur: BlurSettings = BlurSettings()
    quality: QualitySettings = QualitySettings()
    cells: CellSettings = CellSettings()
    coherence: CoherenceSettings = CoherenceSettings()
    tracking: TrackingSettings = TrackingSettings()
    ledger: LedgerSettings = LedgerSettings()
    execution: ExecutionSettings = ExecutionSettings()


_PROFILE_VALUES: dict[str, dict[str, dict[str, object]]] = {
    "corrected": {},
    "paper": {
        "reference": {"rule": "first"},
        "normalisation": {
            "cells_low_percentile": 0.0,
            "cells_high_percentile": 100.0,
            "cells_rule": "frame",
            "flat_field_sigma_um": 0.0,
        },
        "sharpness": {"method": "laplacian"},
        "registration": {"method": "cecc"},
        "aggregates": {"threshold_rule": "normalised", "min_area_um2": 0.0},
        "blur": {"rule": "paper"},
        "cells": {"markers": "coherent"},
        "coherence": {"window_frames": 5},
    },
}


def profile_settings(profile: str = "corrected", values: Mapping[str, object] | None = None) -> Settings:
    """The settings of a profile, with ``values`` (nested by group) over them.

    Raises
    ------
    SettingsError
        If the profile or a name is unknown, or a value is out of its range; every problem is listed.
    """
    if profile not in PROFILES:
        raise SettingsError("unknown profile", found=profile, remedy=f"choose one of {', '.join(PROFILES)}")
    merged: dict[str, Any] = {group: dict(fields) for group, fields in _PROFILE_VALUES[profile].items()}
    for name, value in (values or {}).items():
        if isinstance(value, Mapping):
            merged.setdefault(name, {}).update(value)
        else:
            merged[name] = value
    merged["profile"] = profile
    try:
        return Settings.parse_obj(merged)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(
            f"settings are not valid: {problems}", remedy="see 'phagostat settings' for names and ranges"
        ) from None


def settings_digest(settings: Settings, names: Iterable[str]) -> str:
    """SHA-256 (hex, 32 digits) of the values of the named parameters (``group`` or ``group.name``).

    Two settings that agree on these names have the same digest, whatever else differs.
    """
    read: dict[str, Any] = {}
    for name in sorted(names):
        group, _, field = name.partition(".")
        model = getattr(settings, group)
        read[name] = getattr(model, field) if field else model.dict()
    text = json.dumps(read, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
