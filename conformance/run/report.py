"""A run as one dictionary: what ``--json`` writes, and what the other reports are made from.

``report.schema.json`` next to this file describes it.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..kit.suites import kit_hash
from ..kit.text import cleaned
from ..kit.vectors import Accept, Reject, Suite, Vector
from .baseline import AS_HOPED, Baseline, conclude, judge
from .engine import Options, Result, counts
from .outcomes import CRASH, FAILURES, PASS

FORMAT = 1
MAX_MAPS = 100
"""Heat maps in one report."""

MAX_REPORT = 64 << 20
"""Bytes of a report, or of a claim, that is read."""

MANY = 3
"""Equal ends of vectors without a model after which a report says what may be the reason."""

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
    command_line : str
        All words of the command, quoted for a shell, so that the run can be repeated.
    traced : sequence of Vector
        Vectors that come with a trace, which failing ones without a trace are referred to.
    some_models : bool
        The decoder is given a model only where a vector has one.
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
    command_line: str = ""
    traced: Sequence[Vector] = ()
    some_models: bool = False


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


def nearest_traced(vector: Vector, traced: Iterable[Vector]) -> str:
    """The vector with a trace that is nearest to one: itself, else of its model, its profiles, most of its clauses.

    Returns
    -------
    str
        Its id; "" if the vector is no valid stream of a model, or none has a trace.
    """
    if not isinstance(vector.expect, Accept) or vector.model is None:
        return ""
    if vector.trace:
        return vector.id
    model, clauses = vector.model, set(vector.clauses)

    def distance(other: Vector) -> tuple[bool, bool, int, int, str]:
        own, expect = other.model, other.expect
        assert isinstance(expect, Accept)
        profiles = own is not None and own.profiles == model.profiles
        return own != model, not profiles, -len(clauses & set(other.clauses)), expect.count, other.id

    return min((other for other in traced if isinstance(other.expect, Accept)), key=distance).id if traced else ""


def advice(run: Run) -> list[str]:
    """Conclusion from the results of all vectors about the command."""
    bare = [r for r in run.results if run.some_models and r.vector.model is None and r.seen]
    if len(bare) < MANY or len({(r.outcome, r.detail) for r in bare}) > 1 or bare[0].outcome != CRASH:
        return []
    return [
        f"all {len(bare)} vectors without a model ended with {bare[0].detail}; a decoder that always needs a "
        "model gets one for every stream by --always-model"
    ]


def expected_text(vector: Vector) -> str:
    """The expected outcome of a vector, for people: "accept" or "reject ChecksumError"."""
    if isinstance(vector.expect, Reject):
        return f"reject {' or '.join(vector.expect.classes)}"
    return vector.outcome


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def entry(result: Result, run: Run, show_map: bool) -> dict[str, Any]:
    """A result as a dictionary.

    Parameters
    ----------
    result : Result
    run : Run
        The run it belongs to, for the baseline and the traced vectors.
    show_map : bool
        Include the heat map as a data URI.

    Returns
    -------
    dict
        Plain values, as ``report.schema.json`` describes them.
    """
    vector = result.vector
    failed = result.outcome in FAILURES
    return {
        "id": vector.id,
        "suite": vector.suite,
        "expected": expected_text(vector),
        "outcome": result.outcome,
        "judgement": judge(vector.id, result.outcome, run.baseline),
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
        "blocks": asdict(result.blocks) if result.blocks else None,
        "heat_map": _data_uri(result.heat_map) if result.heat_map and show_map else None,
        "divergence": list(result.divergence),
        "try_trace_of": nearest_traced(vector, run.traced) if failed and not result.divergence else "",
        "clauses": list(vector.clauses),
        "suggests": vector.suggests,
    }


def alike(entries: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Entries in groups of equal results, in the order of their first; passes and heat maps stay alone."""
    groups: dict[object, list[dict[str, Any]]] = {}
    for number, one in enumerate(entries):
        alone = one["judgement"] == AS_HOPED or one["heat_map"]
        key = (one["suite"], one["outcome"], one["judgement"], one["detail"], *one["divergence"])
        groups.setdefault(number if alone else key, []).append(one)
    return list(groups.values())


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
        "command_line": run.command_line,
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
        "advice": advice(run),
        "baseline": dict(run.baseline),
        "vectors": [entry(r, run, r.vector.id in mapped) for r in run.results],
    }
    return dict(cleaned(report))
