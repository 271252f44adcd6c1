"""``python -m conformance.generate.frozen NUMBER``: make the suite that a version of the format is frozen with, once.

It holds streams of every configuration that the kit has a model file for, chosen so that together they exercise every
clause that valid streams of the kit can show (SPEC 1.5). Nothing changes it afterwards: this command refuses to, the
generators of other suites do not know it, and a test pins the SHA-256 of its manifest, which pins every file. It has no
traces: stages may be added under a version (SPEC 1.5-4).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..kit.errors import FAILED, PASSED, UsageError
from ..kit.strict_json import read_json
from ..kit.suites import KIT, check_files, load, load_all
from ..kit.vectors import Accept, Vector
from .generate import listing

SUITES = ("core", "geometry", "entropy", "extremes")
"""Suites that vectors are taken from. Those of released models stay in the suite `default`, which a test pins."""

LARGEST = 1 << 16
"""Bytes; larger streams stay in their suites."""

EACH = 3
"""Streams of every model, at least, if it has so many."""


def candidates() -> list[Vector]:
    """Valid streams without edits, whose models are files of the kit as they are, the smallest first."""
    found = [
        vector
        for suite in load_all(names=SUITES)
        for vector in suite.vectors
        if isinstance(vector.expect, Accept)
        and not vector.edits
        and vector.file.stat().st_size <= LARGEST
        and (vector.model is None or (vector.model.file and not vector.model.edits))
    ]
    return sorted(found, key=lambda vector: (vector.file.stat().st_size, vector.id))


def chosen(vectors: Sequence[Vector]) -> list[Vector]:
    """A few streams of every model, then whichever stream shows most clauses that no chosen one shows."""
    taken: list[Vector] = []
    for name in dict.fromkeys(v.model.name if v.model else None for v in vectors):
        of_model = [v for v in vectors if (v.model.name if v.model else None) == name]
        taken += of_model[:EACH]
    left = {c for v in vectors for c in v.clauses} - {c for v in taken for c in v.clauses}
    while left:
        best = max(vectors, key=lambda v: len(left & set(v.clauses)))  # of equal ones the smallest
        taken.append(best)
        left -= set(best.clauses)
    return sorted(taken, key=lambda v: v.id)


def manifest(number: int, vectors: Iterable[Vector]) -> tuple[dict[str, Any], dict[str, Path]]:
    """The manifest, whose entries are those of the suites but for their names, and the files to copy by new path."""
    name, files = f"frozen-{number}", dict[str, Path]()
    sources = {suite.name: read_json(suite.path.read_bytes()) for suite in load_all(names=SUITES)}
    rows, models, table = [], dict[str, Any](), dict[str, str]()
    for vector in vectors:
        source = sources[vector.suite]
        row = dict(next(r for r in source["vectors"] if r["id"] == vector.id))
        row["id"] = f"{name}/{vector.id.replace('/', '-')}"
        row.pop("trace", None)
        for field in ("stream", "picture"):
            if field in row:
                old = row[field]
                row[field] = f"{old.partition('/')[0]}/{vector.suite}-{old.partition('/')[2]}"
                files[row[field]] = vector.file.parents[1] / old
                if field != "stream":
                    table[row[field]] = source["files"][old]
        if vector.model:
            models[vector.model.name] = source["models"][vector.model.name]
        rows.append(row)
    head = {
        "format": sources[SUITES[0]]["format"],
        "suite": name,
        "version": 1,
        "description": f"Version {number} of the format: streams that decode to these samples for ever.",
        "licence": sources[SUITES[0]]["licence"],
        "models": dict(sorted(models.items())),
        "files": dict(sorted(table.items())),
        "vectors": rows,
    }
    return head, files


def make(number: int, kit: Path = KIT) -> Path:
    """Write the suite; its folder.

    Raises
    ------
    UsageError
        It is there already.
    SuiteDamaged
        A file of another suite is not what its manifest says.
    """
    folder = kit / "suites" / f"frozen-{number}"
    if folder.exists():
        raise UsageError(f"{folder} is there: a frozen suite is made once")
    check_files(load_all(names=SUITES))
    head, files = manifest(number, chosen(candidates()))
    for path, source in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / path)
    (folder / "manifest.json").write_bytes(listing(head))
    check_files([load(folder / "manifest.json")])
    return folder


def main(words: Sequence[str]) -> int:
    """Make a suite and say what it holds; the exit code."""
    if len(words) != 1 or not words[0].isdecimal():
        print(__doc__, file=sys.stderr)
        return UsageError.exit_code
    try:
        suite = load(make(int(words[0])) / "manifest.json")
    except UsageError as error:
        print(error, file=sys.stderr)
        return FAILED
    clauses = {c for v in suite.vectors for c in v.clauses}
    print(f"{suite.name}: {len(suite.vectors)} vectors, {len(suite.models)} models, {len(clauses)} clauses")
    print(f"SHA-256 of its manifest: {suite.sha256}")
    print(json.dumps(sorted(suite.models)))
    return PASSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
