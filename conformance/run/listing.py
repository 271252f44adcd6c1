"""List the vectors: as a table with counts by suite, level and expected outcome, or as JSON.

Give --vectors for every vector on a line, --suite, --id, --clause and so on to choose some.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..kit.errors import NothingToDo
from ..kit.levels import level_of
from ..kit.suites import check_files, kit_hash, load_all, select
from ..kit.text import printable, put
from ..kit.vectors import Reject, Suite, Vector
from .report import expected_text
from .report_text import table
from .run import NOTHING_LEFT, add_selection, selection_of

OUTCOMES = ("accept", "reject", "unit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``list``."""
    add_selection(parser)
    parser.add_argument("--vectors", action="store_true", help="every vector on a line")
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def counts(vectors: Sequence[Vector]) -> dict[str, int]:
    """Vectors by expected outcome."""
    found = Counter(v.outcome for v in vectors)
    return {outcome: found[outcome] for outcome in OUTCOMES}


def as_json(suites: Sequence[Suite], vectors: Sequence[Vector]) -> dict[str, Any]:
    """The catalogue as a dictionary."""
    return {
        "kit": kit_hash(suites),
        "suites": [
            {
                "suite": s.name,
                "version": s.version,
                "description": s.description,
                "licence": s.licence,
                "sha256": s.sha256,
                "counts": counts([v for v in vectors if v.suite == s.name]),
            }
            for s in suites
        ],
        "levels": dict(sorted(Counter(map(level_of, vectors)).items())),
        "classes": dict(sorted(Counter(v.expect.error for v in vectors if isinstance(v.expect, Reject)).items())),
        "vectors": [
            {
                "id": v.id,
                "expected": expected_text(v),
                "level": level_of(v),
                "model": v.model.name if v.model else None,
                "bytes": len(v.read()),
                "clauses": list(v.clauses),
                "suggests": v.suggests,
                "origin": v.origin,
                "licence": v.licence,
            }
            for v in vectors
        ],
    }


def as_text(suites: Sequence[Suite], vectors: Sequence[Vector], one_by_one: bool) -> list[str]:
    """The catalogue in lines.

    Parameters
    ----------
    suites : sequence of Suite
    vectors : sequence of Vector
        The selected ones.
    one_by_one : bool
        List every vector, too.

    Returns
    -------
    list of str
    """
    lines = []
    if one_by_one:
        rows = [
            [v.id, expected_text(v), level_of(v), v.model.name if v.model else "-", ", ".join(v.clauses)]
            for v in vectors
        ]
        lines = [*table([["vector", "expected", "level", "model", "clauses"], *rows]), ""]
    rows = []
    for suite in suites:
        own = [v for v in vectors if v.suite == suite.name]
        rows.append([suite.name, str(suite.version), str(len(own)), *map(str, counts(own).values())])
    rows.append(["all", "", str(len(vectors)), *map(str, counts(vectors).values())])
    levels = Counter(level_of(v) for v in vectors if v.outcome == "accept")
    return [
        *lines,
        *table([["suite", "version", "vectors", *OUTCOMES], *rows]),
        "",
        *table([["level of valid streams", "vectors"], *([n, str(c)] for n, c in sorted(levels.items()))]),
        "",
        *(f"{s.name}: {s.description}" for s in suites),
        "",
        f"kit {kit_hash(suites)}",
    ]


def main(args: argparse.Namespace) -> int:
    """``list``."""
    suites = load_all(args.kit, args.suite)
    check_files(suites)
    vectors = select(suites, selection_of(args, ()))
    if not vectors:
        raise NothingToDo(NOTHING_LEFT)
    if args.json:
        put(json.dumps(as_json(suites, vectors), indent=1) + "\n", sys.stdout)
    else:
        put("\n".join(map(printable, as_text(suites, vectors, args.vectors))) + "\n", sys.stdout)
    return 0
