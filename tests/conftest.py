"""Fixtures of all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings
from tiny_models import tiny_model

from refcodec.model.integer_model import Model

settings.register_profile("project", deadline=None)  # a loaded machine is no failure
settings.load_profile("project")


@pytest.fixture(scope="session")
def model() -> Model:
    """The tiny model with all features."""
    return tiny_model()
