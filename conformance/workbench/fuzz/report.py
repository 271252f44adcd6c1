"""Findings of the fuzzer."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """Result of a run.

    Attributes
    ----------
    outcomes : Counter
        Cases by class of outcome: "decoded", or the name of refcodec's error.
    findings : list of (index, what)
    memory : int
        Most bytes that a worker's resident memory grew by after its first cases.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    memory: int = 0

    def add(self, other: Report) -> None:
        """Count another report's cases, and tell its findings."""
        self.outcomes += other.outcomes
        self.findings += other.findings
        self.memory = max(self.memory, other.memory)
        for index, wrong in other.findings:
            print(f"case {index}: {wrong}", file=sys.stderr, flush=True)


__all__ = ["Report"]
