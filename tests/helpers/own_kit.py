"""The project's suites, each read once."""

from functools import cache
from pathlib import Path

from conformance.kit.suites import KIT, load
from conformance.kit.vectors import Suite


@cache
def suite(name: str) -> Suite:
    """One suite."""
    return load(KIT / "suites" / name / "manifest.json")


def all_suites() -> tuple[Suite, ...]:
    """All suites, by name."""
    return tuple(suite(path.parent.name) for path in sorted(KIT.glob("suites/*/manifest.json")))


def tiny_trace() -> Path:
    """The trace of a decoder with three slices."""
    return next(v.trace for s in all_suites() for v in s.vectors if v.trace and v.model and v.model.name == "tiny-7")
