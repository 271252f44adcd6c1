"""How much of a decoder's trace is right (SPEC 13, 14.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..kit.errors import KitError
from ..locate.divergence import describe, first_divergence
from ..locate.traces import Stage, Trace, read_trace

WHOLE, PART, ENTROPY, DIFFERS, MISSING = "whole", "part", "entropy", "differs", "missing"
"""Grades: all that 14.1-3 asks for is there, of every tile, and all that is there is equal; what is there is equal;
every z_hat and y_hat/i is equal, something else is not; one of these differs; no trace is there or can be read."""

_ENTROPY = re.compile(r"(tiles/\d+/)?(z_hat|y_hat/\d+)")
_NEEDED = re.compile(_ENTROPY.pattern + r"|(tiles/\d+/)?ep_(anchor|nonanchor)/\d+/3|g_s/7")


@dataclass(frozen=True)
class Found:
    """Result of a comparison.

    Attributes
    ----------
    grade : str
    lines : tuple of str
        The first difference; empty where there is none.
    """

    grade: str
    lines: tuple[str, ...] = ()

    @property
    def acceptable(self) -> bool:
        """Whether nothing in the trace is wrong."""
        return self.grade in (WHOLE, PART)

    @property
    def says(self) -> str:
        """The error, in a few words."""
        return "there is no trace" if self.grade == MISSING else "the trace differs"


def _digests(stages: tuple[Stage, ...], names: re.Pattern[str]) -> dict[str, tuple[str, str]]:
    return {s.name: (s.dtype, s.sha256) for s in stages if names.fullmatch(s.name)}


def grade(reference: Trace, tested: Trace) -> Found:
    """Compare two traces; raises TraceError for a tested one that names unknown stages."""
    found = first_divergence(reference, tested)
    if found is None:
        whole = _digests(reference.stages, _NEEDED).keys() <= _digests(tested.stages, _NEEDED).keys()
        return Found(WHOLE if whole else PART if tested.stages else MISSING)
    entropy = _digests(reference.stages, _ENTROPY) == _digests(tested.stages, _ENTROPY)
    return Found(ENTROPY if entropy else DIFFERS, tuple(describe(found)))


def check(reference: Path, tested: Path) -> Found:
    """Compare two trace files; one that is absent or malformed is missing."""
    try:
        if tested.is_symlink() or not tested.is_file():
            return Found(MISSING)
        return grade(read_trace(reference), read_trace(tested))
    except (KitError, OSError) as error:
        return Found(MISSING, (f"the trace is of no use: {error}",))
