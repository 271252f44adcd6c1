"""Fixtures of all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from tiny_models import tiny_model

from refcodec.arith.backend import default_backend
from refcodec.model.integer_model import Model

settings.register_profile("project", deadline=None)  # a loaded machine is no failure
settings.load_profile("project")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def kernels_stay() -> Iterator[None]:
    """Load the kernels before a test replaces parts of the loader; find tests that leave a worker without them."""
    before = default_backend()
    yield
    assert default_backend() == before


@pytest.fixture(scope="session")
def model() -> Model:
    """The tiny model with all features."""
    return tiny_model()
