"""Which clauses of SPEC.md and which lines and branches of the decoder the vectors reach.

Lines and branches are those of the modules that take part in decoding, with the NumPy backend and the kit's own model
files; what only encoders, converters and other programs use is named in exempt.json, as is every gap, with its reason.
Exit code 0 if nothing is missing without a reason, and no reason is out of date; else 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..clauses import load as load_clauses
from ..errors import FAILED, PASSED, UsageError
from ..suites import KIT, Selection, Suite, load_all, select
from .hunt import preload
from .judge import Task, judge, task_of
from .mutant import module_path, spans

EXEMPT = Path(__file__).with_name("exempt.json")


@dataclass(frozen=True)
class Exempt:
    """What need not be reached, each with its reason.

    Attributes
    ----------
    clauses : dict of str to str
        By identifier.
    modules : dict of str to dict of str to str
        Modules whose lines count, and in each the functions that do not.
    functions : dict of str to list of str
        Modules of which only these functions count.
    lines : tuple of (str, str, str, str)
        Module, function, a fragment of the line, reason; a branch belongs to the line it starts from.
    """

    clauses: Mapping[str, str]
    modules: Mapping[str, Mapping[str, str]]
    functions: Mapping[str, Sequence[str]]
    lines: tuple[tuple[str, str, str, str], ...]


@dataclass
class Reached:
    """Counts of what the vectors reach, and what is missing without a reason.

    Attributes
    ----------
    counts : dict of str to (int, int)
        Reached and all, by "clauses", "lines", "branches"; what is exempt is not in either.
    exempt : dict of str to int
    missing : list of str
        One line each.
    """

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    exempt: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def read_exempt(path: Path = EXEMPT) -> Exempt:
    """The exemptions beside this module."""
    value = json.loads(path.read_text(encoding="utf-8"))
    return Exempt(value["clauses"], value["modules"], value["functions"], tuple((*row,) for row in value["lines"]))


def count_clauses(suites: Iterable[Suite], exempt: Exempt, found: Reached) -> None:
    """Which clauses a vector names."""
    clauses = load_clauses()
    used = {clause for suite in suites for vector in suite.vectors for clause in vector.clauses}
    open_ = [name for name in clauses if name not in used and name not in exempt.clauses]
    found.counts["clauses"] = len(set(clauses) & used), len(set(clauses) - set(exempt.clauses) | set(clauses) & used)
    found.exempt["clauses"] = len(exempt.clauses)
    found.missing += [f"clause {name}: {clauses[name].words}" for name in open_]
    found.missing += [f"exempt.json: clause {name} {'does not exist' if name not in clauses else 'is reached by now'}"
                      for name in exempt.clauses if name not in clauses or name in used]
    found.missing += [f"clause {name} is named by a vector and does not exist" for name in sorted(used)
                      if "-" in name and name not in clauses]


def measure(tasks: Sequence[Task], modules: Iterable[str]) -> dict[str, Any]:
    """Decode all vectors in this process under coverage; its JSON report of these modules by module.

    Raises
    ------
    UsageError
        The library coverage is missing, refcodec has been imported before, or a vector fails.
    """
    try:
        import coverage
    except ImportError as error:
        raise UsageError("lines are counted by the library coverage; pip install coverage") from error
    if any(name.partition(".")[0] == "refcodec" for name in sys.modules):
        raise UsageError("refcodec is imported already, so that its first lines would not be counted")
    preload()
    files = {str(module_path(name)): name for name in modules}
    session = coverage.Coverage(data_file=None, branch=True, include=list(files), config_file=False)
    session.start()
    try:
        for task in tasks:
            if wrong := judge(task):
                raise UsageError(f"{task.id}: the decoder gives {wrong}")
    finally:
        session.stop()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        session.json_report(outfile=str(report))
        made = json.loads(report.read_text(encoding="utf-8"))["files"]
    return {files[str(Path(name).resolve())]: part for name, part in made.items()}


def _counting(module: str, exempt: Exempt) -> set[int]:
    """Lines of a module that count."""
    known = spans(module_path(module).read_text(encoding="utf-8"))

    def lines(names: Iterable[str]) -> set[int]:
        return {n for name in names for n in range(known[name][0], known[name][1] + 1)}

    return lines(exempt.functions.get(module, [""])) - lines(exempt.modules.get(module, ()))


def count_lines(report: Mapping[str, Any], exempt: Exempt, found: Reached) -> None:
    """Which lines and branches were reached."""
    lines, branches = [0, 0], [0, 0]
    used: set[tuple[str, ...]] = set()
    for module, part in report.items():
        source = module_path(module).read_text(encoding="utf-8")
        text, places, counting = source.splitlines(), spans(source), _counting(module, exempt)
        gaps = {n: "is not reached" for n in part["missing_lines"]}
        for start, end in part["missing_branches"]:
            gaps.setdefault(start, f"never goes on to {'the end' if end < 0 else f'line {end}'}")
        for done, missing, reached in (
                (lines, part["missing_lines"], part["executed_lines"]),
                (branches, [a for a, _ in part["missing_branches"]], [a for a, _ in part["executed_branches"]])):
            done[0] += sum(n in counting for n in reached)
            done[1] += sum(n in counting for n in (*reached, *missing))
        for n in sorted(counting & set(gaps)):
            reason = next((row for row in exempt.lines if row[0] == module and row[2] in text[n - 1]
                           and row[1] in places and places[row[1]][0] <= n <= places[row[1]][1]), None)
            if reason:
                used.add(reason)
            else:
                found.missing.append(f"{module}:{n} {gaps[n]}: {text[n - 1].strip()}")
    found.counts |= {"lines": (lines[0], lines[1]), "branches": (branches[0], branches[1])}
    found.exempt["lines"] = len(exempt.lines)
    found.missing += [f"exempt.json: {row[0]}, {row[1]}: {row[2]!r} is reached by now, or gone"
                      for row in exempt.lines if row not in used]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m conformance coverage``."""
    parser.add_argument("--clauses", action="store_true", help="clauses only; decode nothing")
    parser.add_argument("--kit", type=Path, default=KIT, metavar="DIR", help="folder with suites, this kit by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts and gaps")


def main(args: argparse.Namespace) -> int:
    """Count and report; the exit code says whether anything is missing without a reason."""
    suites, exempt, found = load_all(args.kit), read_exempt(), Reached()
    count_clauses(suites, exempt, found)
    if not args.clauses:
        tasks = [task for v in select(suites, Selection()) if (task := task_of(v))]
        count_lines(measure(tasks, {**exempt.modules, **exempt.functions}), exempt, found)
    for line in found.missing:
        print(line)
    for what, (reached, count) in found.counts.items():
        print(f"{what}: {reached} of {count} reached ({100 * reached / max(1, count):.1f} %), "
              f"{found.exempt.get(what, 0)} exempt with a reason")
    if args.json:
        value = {"counts": found.counts, "exempt": found.exempt, "missing": found.missing}
        args.json.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return FAILED if found.missing else PASSED
