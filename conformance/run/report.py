"""A run as one dictionary: what ``--json`` writes, and what the other reports are made from.

``report.schema.json`` beside this file describes it.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..kit.suites import kit_hash
from ..kit.text import cleaned
from ..kit.vectors import Reject, Suite, Vector
from .baseline import Baseline, conclude, judge
from .engine import Options, Result, counts
from .outcomes import FAILURES, PASS

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
    interrupted : bool
        The user stopped it before all vectors ran.
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
    interrupted: bool = False


def _parts(clause: str) -> tuple[str, int]:
    section, _, number = clause.partition("-")
    return section, int(number or 0)


def brief(clauses: Iterable[str]) -> str:
    """Clauses in a line, runs of them shortened: "5.2-1..3, 6.1"."""
    runs: list[tuple[str, int, int]] = []
    for section, number in map(_parts, clauses):
        if runs and runs[-1][0] == section and 1 < number == runs[-1][2] + 1:
            runs[-1] = (section, runs[-1][1], number)
        else:
            runs.append((section, number, number))
    return ", ".join(section + (f"-{a}" if a else "") + (f"..{b}" if b > a else "") for section, a, b in runs)


def suspects(results: Iterable[Result]) -> list[str]:
    """Clauses that failing vectors exercise and no passing one, those of most failures first."""
    failing, passing = Counter[str](), set[str]()
    for result in results:
        if result.outcome in FAILURES:
            failing.update(result.vector.clauses)
        elif result.outcome == PASS:
            passing.update(result.vector.clauses)
    return [clause for clause, _ in failing.most_common() if clause not in passing]


def divergences(results: Iterable[Result]) -> dict[str, int]:
    """Where traces first differ, and in how many vectors; the most frequent first."""
    return dict(Counter(r.divergence[0] for r in results if r.divergence).most_common())


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
        "id": vector.id,
        "suite": vector.suite,
        "expected": expected_text(vector),
        "outcome": result.outcome,
        "judgement": judge(vector.id, result.outcome, baseline),
        "detail": result.detail,
        "error": result.error,
        "seen": result.seen,
        "exact": result.exact,
        "wrote": result.wrote,
        "trace": result.trace,
        "model": vector.model.name if vector.model else None,
        "seconds": round(result.seconds, 4),
        "peak_mib": round(result.peak / 2**20, 1),
        "difference": asdict(result.difference) if result.difference else None,
        "heat_map": _data_uri(result.heat_map) if result.heat_map and show_map else None,
        "divergence": list(result.divergence),
        "clauses": list(vector.clauses),
        "suggests": vector.suggests,
    }


def build(run: Run) -> dict[str, Any]:
    """The report of a run; every text in it is printable, wherever it comes from."""
    outcomes = {r.vector.id: r.outcome for r in run.results}
    conclusion = conclude(outcomes, run.baseline, run.interrupted)
    mapped = [r.vector.id for r in run.results if r.heat_map][:MAX_MAPS]
    names = dict.fromkeys(r.vector.suite for r in run.results)
    by_suite = {name: counts(r for r in run.results if r.vector.suite == name) for name in names}
    report = {
        "format": FORMAT,
        "kind": run.kind,
        "command": run.command,
        "started": run.started,
        "seconds": round(run.seconds, 3),
        "exit_code": conclusion.exit_code,
        "conclusion": conclusion.text,
        "kit": {
            "sha256": kit_hash(run.suites),
            "suites": {
                s.name: {"version": s.version, "sha256": s.sha256, "vectors": len(s.vectors)} for s in run.suites
            },
        },
        "limits": {
            "seconds": run.options.limits.seconds,
            "memory_mib": run.options.limits.memory >> 20,
            "jobs": run.options.jobs,
        },
        "system": dict(run.system),
        "summary": {"all": counts(run.results), "suites": by_suite},
        "divergences": divergences(run.results),
        "suspects": suspects(run.results),
        "baseline": dict(run.baseline),
        "vectors": [entry(r, run.baseline, r.vector.id in mapped) for r in run.results],
    }
    return dict(cleaned(report))
