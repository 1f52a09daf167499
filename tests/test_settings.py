"""Settings: values that do not go together are refused before anything is computed."""

from __future__ import annotations

import pytest

from phagostat.model.errors import SettingsError
from phagostat.settings import PROFILES, profile_settings


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("group", "values", "words"),
    [
        ("normalisation", {"aggregates_low_percentile": 99.9}, "aggregates_low_percentile"),
        ("normalisation", {"cells_low_percentile": 60.0, "cells_high_percentile": 40.0}, "cells_low_percentile"),
        ("aggregates", {"min_area_um2": 5.0, "max_area_um2": 5.0}, "min_area_um2"),
        ("blur", {"certain_ratio": 0.9, "suspect_ratio": 0.5}, "certain_ratio"),
        ("ledger", {"gone_fraction": 0.9}, "gone_fraction"),
    ],
)
def test_limits_in_the_wrong_order_are_refused(profile, group, values, words):
    with pytest.raises(SettingsError, match=rf"{group}.*{words} .*must") as caught:
        profile_settings(profile, {group: values})
    assert caught.value.remedy


@pytest.mark.parametrize("profile", PROFILES)
def test_limits_in_order_are_taken(profile):
    values = {"normalisation": {"cells_low_percentile": 40.0}, "aggregates": {"min_area_um2": 5.0, "max_area_um2": 6.0}}
    assert profile_settings(profile, values).aggregates.max_area_um2 == 6.0
