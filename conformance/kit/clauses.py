"""The clauses of SPEC.md (SPEC 3-6): what vectors exercise, docstrings cite and coverage counts.

A clause is a paragraph, a list item or a row of a table that begins with its identifier in brackets, ``[5.3-2]``.
``python -m conformance clauses`` writes them to clauses.json, which is what the kit reads where SPEC.md is not at hand;
``--check`` fails if that file is not the current one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

SPEC_PATH = Path(__file__).parents[2] / "SPEC.md"
LIST_PATH = Path(__file__).parent / "clauses.json"

SECTION = r"(?:\d+|[A-Z])(?:\.\d+)?"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(rf"#{{2,3}} (?:Annex )?({SECTION}) (.+)")
START = re.compile(rf"(?:\s*(?:-|\d+\.|\|)\s+)?\[({SECTION})-(\d+)\] (.+)")
IDENTIFIER = re.compile(rf"\[({SECTION}-\d+)\]")
WORDS = 12


@dataclass(frozen=True)
class Clause:
    """One requirement.

    Attributes
    ----------
    id : str
        "5.3-2": section, hyphen, running number.
    section, title : str
        Number and title of the section.
    words : str
        How the clause begins; cells of a table are parted by commas.
    line : int
        Line of SPEC.md, counted from 1.
    """

    id: str
    section: str
    title: str
    words: str
    line: int


def prose(text: str) -> list[str]:
    """Lines of a document, those of fenced blocks empty, so that line numbers stay."""
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), text).split("\n")


def headings(text: str) -> list[tuple[int, str, str]]:
    """Line (from 1), number and title of every section, annexes and their sections included."""
    matches = [(n, HEADING.fullmatch(line)) for n, line in enumerate(prose(text), 1)]
    return [(n, match[1], match[2]) for n, match in matches if match]


def extract(text: str) -> list[Clause]:
    """(SPEC 3-6) The clauses of a document in order.

    Raises
    ------
    ValueError
        An identifier is not that of its section, does not count on from the one before, or is
        elsewhere than at the start of a clause; or a section has a ``python`` block and no clause.
    """
    found: list[Clause] = []
    section = title = ""
    titles = {line: (number, words) for line, number, words in headings(text)}
    for n, line in enumerate(prose(text), 1):
        section, title = titles.get(n, (section, title))
        start = START.match(line)
        if len(IDENTIFIER.findall(line)) != (1 if start else 0):
            raise ValueError(f"line {n}: an identifier is not at the start of a clause")
        if start is None:
            continue
        due = 1 + sum(clause.section == section for clause in found)
        if (start[1], start[2]) != (section, str(due)):
            raise ValueError(f"line {n}: clause [{start[1]}-{start[2]}] stands where [{section}-{due}] is due")
        words = re.sub(r"\s*\|\s*", ", ", start[3].rstrip(" |")).split()[:WORDS]
        found.append(Clause(f"{section}-{due}", section, title, " ".join(words).lstrip(", "), n))
    _check_blocks(text, {clause.section for clause in found})
    return found


def _check_blocks(text: str, sections: set[str]) -> None:
    for match in FENCE.finditer(text):
        if match[1] == "python":
            line = text[: match.start()].count("\n") + 1
            number = [number for n, number, _ in headings(text) if n < line][-1]
            if number not in sections:
                raise ValueError(f"line {line}: section {number} has a python block but no clause")


def cited(text: str) -> tuple[str, ...]:
    """Identifiers of clauses from a text such as "5.3-1..4 6.1-3", in which two dots denote a range."""
    found = []
    for word in text.split():
        first, _, last = word.partition("..")
        section, _, number = first.rpartition("-")
        found += [f"{section}-{n}" for n in range(int(number), int(last or number) + 1)]
    return tuple(found)


def listing(clauses: list[Clause]) -> str:
    """clauses.json: a list of objects, one per line."""
    rows = (json.dumps(asdict(clause), ensure_ascii=False) for clause in clauses)
    return "[\n" + ",\n".join(rows) + "\n]\n"


def load(path: Path = LIST_PATH) -> dict[str, Clause]:
    """The clauses of clauses.json by identifier, in the order of SPEC.md."""
    return {row["id"]: Clause(**row) for row in json.loads(path.read_text(encoding="utf-8"))}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m conformance clauses``."""
    parser.add_argument("--check", action="store_true", help="write nothing, fail if clauses.json is not current")


def main(args: argparse.Namespace) -> int:
    """Write clauses.json, or check it; 0 if all is well, 1 if it is stale, 65 if SPEC.md's clauses are malformed."""
    try:
        clauses = extract(SPEC_PATH.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{SPEC_PATH.name}: {error}", file=sys.stderr)
        return 65
    if args.check:
        current = LIST_PATH.is_file() and LIST_PATH.read_text(encoding="utf-8") == listing(clauses)
        print(f"{len(clauses)} clauses, {LIST_PATH.name} is {'current' if current else 'not current'}")
        return 0 if current else 1
    LIST_PATH.write_text(listing(clauses), encoding="utf-8")
    print(f"{len(clauses)} clauses written to {LIST_PATH.name}")
    return 0
