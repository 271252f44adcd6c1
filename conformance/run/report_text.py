"""A report as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..kit.text import printable
from .baseline import AS_HOPED, EXPECTED, NEW, NOT_RUN
from .outcomes import OUTCOMES
from .report import Report, alike, brief

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


def _names(group: list[dict[str, Any]]) -> str:
    others = len(group) - 1
    return f"{group[0]['id']}{f' and {others} more' if others else ''}"


def _result(group: list[dict[str, Any]]) -> str:
    """Equal results in a line."""
    entry = group[0]
    judgement = "" if entry["judgement"] in (AS_HOPED, NEW, NOT_RUN) else f" ({entry['judgement']})"
    return f"{_names(group)}: {entry['outcome']}{judgement}{f': {d}' if (d := entry['detail']) else ''}"


def _explained(entry: dict[str, Any]) -> list[str]:
    """Lines below results: what they suggest, and where traces differ."""
    if entry["judgement"] == NOT_RUN:
        return []
    lines = [f"suggests: {entry['suggests']}"] if entry["suggests"] else []
    return [f"    {line}" for line in [*lines, *entry["divergence"]]]


def _with_trace(block: list[list[dict[str, Any]]]) -> list[str]:
    """The first vector with a trace that the results are referred to."""
    names = [name for group in block if (name := group[0]["try_trace_of"])]
    return [f"    with a trace: python -m conformance bisect --vector {names[0]}"] if names else []


def told(entries: Iterable[dict[str, Any]], longest: int) -> list[str]:
    """Results in lines; equal ones share a line, and those with equal explanations share these.

    Parameters
    ----------
    entries : iterable of dict
    longest : int
        Most lines of results.
    """
    blocks: dict[tuple[str, ...], list[list[dict[str, Any]]]] = {}
    groups = alike(entries)
    for group in groups[:longest]:
        blocks.setdefault(tuple(_explained(group[0])), []).append(group)
    lines = [line for below, block in blocks.items() for line in (*map(_result, block), *below, *_with_trace(block))]
    if rest := sum(map(len, groups[longest:])):
        lines.append(f"... and {rest} more; --json or --html has them all")
    return lines


def hints(report: Report) -> list[str]:
    """Where to look first, over all vectors."""
    lines = [f"traces: {text}, in {count} vector{'s' * (count != 1)}" for text, count in report["divergences"].items()]
    if clauses := report["suspects"]:
        more = f" and {len(clauses) - SUSPECTS} more" if len(clauses) > SUSPECTS else ""
        lines.append(f"clauses of failures and of no pass: {brief(clauses[:SUSPECTS])}{more}")
    return [*lines, *report["advice"]]


def render(report: Report, longest: int = 60) -> str:
    """Output of ``run``: vectors with another result than expected, counts, and the conclusion.

    Parameters
    ----------
    report : Report
    longest : int
        Most lines of vectors.
    """
    lines = told([e for e in report["vectors"] if e["judgement"] not in (AS_HOPED, EXPECTED)], longest)
    lines += ["", *hints(report)] if hints(report) else []
    lines += [*([""] if lines else []), *summary(report), "", f"{report['conclusion']} ({report['seconds']:.1f} s)"]
    return "\n".join(map(printable, lines)) + "\n"
