"""Parts of long lists of parameters: a few by default, the others with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(step: int, values: Iterable[Any]) -> list[Any]:
    """Parameters, of which each ``step``-th is tried by default and the others where slow tests are run."""
    return [pytest.param(value, marks=[pytest.mark.slow] * (n % step > 0)) for n, value in enumerate(values)]
