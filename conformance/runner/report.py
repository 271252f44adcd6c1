"""A run as one dictionary: what ``--json`` writes, and what the other reports are made from.

``report.schema.json`` beside this file describes it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..suites import Reject, Suite, Vector, kit_hash
from .baseline import Baseline, conclude, judge
from .engine import Options, Result, counts

FORMAT = 1
MAX_MAPS = 100
"""Heat maps in one report."""

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """All that is known after a run.

    Attributes
    ----------
    kind : str
        "decoder" or "encoder".
    command : str
        Template or callable.
    suites : sequence of Suite
        That the vectors were selected from.
    results : sequence of Result
    options : Options
    baseline : mapping of str to str
    started : str
        Date and time, ISO 8601.
    seconds : float
    system : dict
    """

    kind: str
    command: str
    suites: Sequence[Suite]
    results: Sequence[Result]
    options: Options
    baseline: Baseline
    started: str
    seconds: float
    system: Mapping[str, object]


def expected_text(vector: Vector) -> str:
    """What a vector expects, for people: "accept" or "reject ChecksumError"."""
    if isinstance(vector.expect, Reject):
        return f"reject {' or '.join(vector.expect.classes)}"
    return vector.outcome


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def entry(result: Result, baseline: Baseline, show_map: bool) -> dict[str, Any]:
    """A result as a dictionary."""
    vector = result.vector
    return {
        "id": vector.id, "suite": vector.suite, "expected": expected_text(vector), "outcome": result.outcome,
        "judgement": judge(vector.id, result.outcome, baseline), "detail": result.detail, "error": result.error,
        "seen": result.seen, "exact": result.exact, "wrote": result.wrote, "trace": result.trace,
        "model": vector.model.name if vector.model else None, "seconds": round(result.seconds, 4),
        "peak_mib": round(result.peak / 2**20, 1),
        "difference": asdict(result.difference) if result.difference else None,
        "heat_map": _data_uri(result.heat_map) if result.heat_map and show_map else None,
        "divergence": list(result.divergence), "clauses": list(vector.clauses), "suggests": vector.suggests,
    }


def build(run: Run) -> dict[str, Any]:
    """The report of a run."""
    outcomes = {r.vector.id: r.outcome for r in run.results}
    conclusion = conclude(outcomes, run.baseline)
    mapped = [r.vector.id for r in run.results if r.heat_map][:MAX_MAPS]
    names = dict.fromkeys(r.vector.suite for r in run.results)
    by_suite = {name: counts(r for r in run.results if r.vector.suite == name) for name in names}
    return {
        "format": FORMAT, "kind": run.kind, "command": run.command, "started": run.started,
        "seconds": round(run.seconds, 3), "exit_code": conclusion.exit_code, "conclusion": conclusion.text,
        "kit": {"sha256": kit_hash(run.suites),
                "suites": {s.name: {"version": s.version, "sha256": s.sha256, "vectors": len(s.vectors)}
                           for s in run.suites}},
        "limits": {"seconds": run.options.limits.seconds, "memory_mib": run.options.limits.memory >> 20,
                   "jobs": run.options.jobs},
        "system": dict(run.system),
        "summary": {"all": counts(run.results), "suites": by_suite},
        "baseline": dict(run.baseline),
        "vectors": [entry(r, run.baseline, r.vector.id in mapped) for r in run.results],
    }
