"""Fixtures of all tests."""

from __future__ import annotations

import pytest
from tiny_models import tiny_model

from refcodec.model.integer_model import Model


@pytest.fixture(scope="session")
def model() -> Model:
    """The tiny model with all features."""
    return tiny_model()
