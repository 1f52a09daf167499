"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# the first call of a loop compiles it, and how fast a machine is, is not what tests say
settings.register_profile("phagostat", deadline=None)
settings.load_profile("phagostat")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real microscopy that may lie beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real microscopy is absent ({folder.name}/ beside the project)")
    return folder
