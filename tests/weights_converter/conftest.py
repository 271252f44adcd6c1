"""Fixtures of the converter's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def torch_modes() -> Iterator[None]:
    """Leave PyTorch's modes of this thread as they were: other tests want denormals."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
