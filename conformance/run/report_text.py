"""A report as text."""

from __future__ import annotations

from collections.abc import Iterator

from ..kit.text import printable
from .baseline import AS_HOPED, EXPECTED, NEW, NOT_RUN
from .outcomes import OUTCOMES
from .report import Report, brief

SUSPECTS = 24
"""Most clauses that are told as suspects."""


def table(rows: list[list[str]]) -> list[str]:
    """Rows in columns: the first left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def summary(report: Report) -> list[str]:
    """Counts by suite and outcome; columns that are empty are left out."""
    total = report["summary"]["all"]
    shown = [o for o in OUTCOMES if total[o] or o == "pass"]
    suites = report["summary"]["suites"]
    rows = [["suite", "vectors", *shown]]
    for name, counted in [*suites.items(), *([("all", total)] if len(suites) != 1 else [])]:
        rows.append([name, str(sum(counted.values())), *(str(counted[o]) for o in shown)])
    return table(rows)


def _vector(entry: dict[str, object], suggests: bool) -> Iterator[str]:
    judgement = "" if entry["judgement"] in (AS_HOPED, NEW, NOT_RUN) else f" ({entry['judgement']})"
    yield f"{entry['id']}: {entry['outcome']}{judgement}{f': {d}' if (d := entry['detail']) else ''}"
    if suggests and entry["suggests"]:
        yield f"    suggests: {entry['suggests']}"
    divergence = entry["divergence"]
    assert isinstance(divergence, list)
    yield from (f"    {line}" for line in divergence)


def hints(report: Report) -> list[str]:
    """Where to look first, over all vectors."""
    lines = [f"traces: {text}, in {count} vectors" for text, count in report["divergences"].items()]
    if clauses := report["suspects"]:
        more = f" and {len(clauses) - SUSPECTS} more" if len(clauses) > SUSPECTS else ""
        lines.append(f"clauses of failures and of no pass: {brief(clauses[:SUSPECTS])}{more}")
    return lines


def render(report: Report, longest: int = 60) -> str:
    """What ``run`` prints: vectors that are not as hoped, counts, and the conclusion.

    Parameters
    ----------
    report : Report
    longest : int
        Most vectors that are told one by one.
    """
    told = [e for e in report["vectors"] if e["judgement"] not in (AS_HOPED, EXPECTED)]
    lines = [line for e in told[:longest] for line in _vector(e, e["judgement"] != NOT_RUN)]
    if len(told) > longest:
        lines.append(f"... and {len(told) - longest} more; --json or --html has them all")
    lines += ["", *hints(report)] if hints(report) else []
    lines += [*([""] if lines else []), *summary(report), "", f"{report['conclusion']} ({report['seconds']:.1f} s)"]
    return "\n".join(map(printable, lines)) + "\n"
