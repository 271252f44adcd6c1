"""Which clauses of SPEC.md and which lines and branches of the decoder the vectors reach.

Lines and branches are those of the modules that take part in decoding, with the NumPy backend and the kit's own model
files. exempt.json names every gap that is none of the kit's, with its reason: what encoders, converters and other
programs use, what a call decides and no stream can, what no input can reach. Exit code 0 if no other gap is open and
no exemption is out of date; else 1.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..kit.clauses import load as load_clauses
from ..kit.errors import FAILED, PASSED, UsageError
from ..kit.suites import KIT, Selection, load_all, select
from ..kit.vectors import Suite
from .hunt import preload
from .judge import Task, judge, task_of
from .mutant import module_path, spans

if TYPE_CHECKING:
    from coverage import Coverage

EXEMPT = Path(__file__).with_name("exempt.json")

CHANCE = "by chance: "
"""How a reason begins if the place is reached in some runs and not in others."""


@dataclass(frozen=True)
class Exempt:
    """Items that need not be reached, each with its reason.

    Attributes
    ----------
    clauses : dict of str to str
        By identifier.
    modules : dict of str to dict of str to str
        Modules whose lines count, and in each the places that need not be reached: "function", or "function: fragment"
        for the one statement of the function whose first line has the fragment, with all that is inside it.
    functions : dict of str to list of str
        Modules of which only these functions count.
    misreadings : dict of str to str
        Clauses in addition to `clauses` that no mutant misreads, by identifier.
    """

    clauses: Mapping[str, str]
    modules: Mapping[str, Mapping[str, str]]
    functions: Mapping[str, Sequence[str]]
    misreadings: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Reached:
    """Items that the vectors reach, and items that they do not.

    Attributes
    ----------
    counts : dict of str to (int, int)
        Reached, and reached or open, by "clauses", "lines", "branches".
    exempt : dict of str to list of str
        What is not reached and need not be, a line with the reason each.
    open : list of str
        What is not reached and has no reason, a line each.
    stale : list of str
        Exemptions of what is reached or gone, and clauses that vectors name and SPEC.md lacks.
    """

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    exempt: dict[str, list[str]] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)


def read_exempt(path: Path = EXEMPT) -> Exempt:
    """The exemptions next to this module."""
    return Exempt(**json.loads(path.read_text(encoding="utf-8")))


def count_clauses(suites: Iterable[Suite], exempt: Exempt, found: Reached) -> None:
    """Count the clauses that a vector names.

    Parameters
    ----------
    suites : iterable of Suite
    exempt : Exempt
        Clauses that need no vector.
    found : Reached
        Receives the counts and the gaps.
    """
    clauses = load_clauses()
    used = {clause for suite in suites for vector in suite.vectors for clause in vector.clauses}
    gaps = [name for name in clauses if name not in used and name not in exempt.clauses]
    reached = len(set(clauses) & used)
    found.counts["clauses"] = reached, reached + len(gaps)
    found.exempt["clauses"] = [f"clause {name}: {reason}" for name, reason in exempt.clauses.items()]
    found.open += [f"clause {name}: {clauses[name].words}" for name in gaps]
    found.stale += [
        f"exempt.json: clause {name} {'does not exist' if name not in clauses else 'is reached by now'}"
        for name in exempt.clauses
        if name not in clauses or name in used
    ]
    found.stale += [
        f"clause {name} is named by a vector and does not exist"
        for name in sorted(used)
        if "-" in name and name not in clauses
    ]


def measured(tasks: Sequence[Task], modules: Iterable[str]) -> tuple[Coverage, dict[str, str]]:
    """Decode all vectors in this process under coverage, each in its own context; and the module of each file.

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
    os.environ["REFCODEC_BACKEND"] = "numpy"  # for good: this process only measures
    preload()
    files = {str(module_path(name)): name for name in modules}
    session = coverage.Coverage(data_file=None, branch=True, include=list(files), config_file=False)
    session.start()
    try:
        for task in tasks:
            session.switch_context(task.id)
            if wrong := judge(task):
                raise UsageError(f"{task.id}: the decoder gives {wrong}")
    finally:
        session.stop()
    return session, files


def measure(tasks: Sequence[Task], modules: Iterable[str]) -> dict[str, Any]:
    """Decode all vectors in this process under coverage; its JSON report of these modules by module.

    Raises
    ------
    UsageError
        As `measured`.
    """
    session, files = measured(tasks, modules)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        session.json_report(outfile=str(report))
        made = json.loads(report.read_text(encoding="utf-8"))["files"]
    return {files[str(Path(name).resolve())]: part for name, part in made.items()}


def vectors_of_lines(tasks: Sequence[Task], modules: Iterable[str]) -> dict[str, dict[int, list[str]]]:
    """Which vectors reach each line of each module. What runs once in a process is reached by the first vector alone.

    Raises
    ------
    UsageError
        As `measured`.
    """
    session, files = measured(tasks, modules)
    data = session.get_data()
    return {
        files[str(Path(name).resolve())]: {
            line: sorted(filter(None, contexts)) for line, contexts in data.contexts_by_lineno(name).items()
        }
        for name in data.measured_files()
    }


def place(source: str, name: str) -> range:
    """Lines of a function, or of the one statement "function: fragment" (a handler of exceptions is one too).

    Raises
    ------
    ValueError
        It is not there, or there are several.
    """
    function, _, fragment = name.partition(": ")
    if function not in (known := spans(source)):
        raise ValueError(f"there is no {function}")
    first, last = known[function]
    if not fragment:
        return range(first, last + 1)
    text = source.splitlines()
    found = {
        node.lineno: node.end_lineno or node.lineno
        for node in reversed([*ast.walk(ast.parse(source))])
        if isinstance(node, (ast.stmt, ast.ExceptHandler))
        and first <= node.lineno <= last
        and fragment in text[node.lineno - 1]
    }
    if len(found) != 1:
        raise ValueError(f"{len(found)} statements of {function} begin with {fragment!r}")
    return next(range(n, end + 1) for n, end in found.items())


def _gaps(part: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Lines and branches that were not reached: which of both, line, what is wrong with it."""
    branches = (
        (start, f"never goes on to {'the end' if end < 0 else f'line {end}'}")
        for start, end in part["missing_branches"]
    )
    return [
        *(("lines", n, "is not reached") for n in part["missing_lines"]),
        *(("branches", n, what) for n, what in branches),
    ]


def count_lines(module: str, source: str, part: Mapping[str, Any], exempt: Exempt, found: Reached) -> None:
    """Count the lines and branches of a module that were reached.

    Parameters
    ----------
    module, source : str
        Name and text of the module.
    part : mapping
        What the library coverage reports of it.
    exempt : Exempt
        Lines that need not be reached.
    found : Reached
        Receives the counts and the gaps.
    """
    reasons: dict[int, tuple[str, str]] = {}
    for name, reason in exempt.modules.get(module, {}).items():
        try:
            reasons |= dict.fromkeys(place(source, name), (name, reason))
        except ValueError as error:
            found.stale.append(f"exempt.json: {module}: {error}")
    counting = {n for name in exempt.functions.get(module, [""]) for n in place(source, name)}
    text, used, said = source.splitlines(), set[str](), set[int]()
    reached = {"lines": part["executed_lines"], "branches": [start for start, _ in part["executed_branches"]]}
    left = dict.fromkeys(reached, 0)
    for kind, n, what in _gaps(part):
        if n not in counting:
            continue
        line = f"{module}:{n} {what}: {text[n - 1].strip()}"
        if n in reasons:
            used.add(reasons[n][0])
            found.exempt.setdefault(kind, []).append(f"{line}  [{reasons[n][1]}]")
        else:
            left[kind] += 1
            if n not in said:
                found.open.append(line)
        said.add(n)
    for kind, lines in reached.items():
        done, count = found.counts.get(kind, (0, 0))
        here = sum(n in counting for n in lines)
        found.counts[kind] = done + here, count + here + left[kind]
    found.stale += [
        f"exempt.json: {module}: {name!r} is reached by now"
        for name, reason in exempt.modules.get(module, {}).items()
        if name not in used and (name, reason) in reasons.values() and not reason.startswith(CHANCE)
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m conformance coverage``."""
    parser.add_argument("--clauses", action="store_true", help="clauses only; decode nothing")
    parser.add_argument("--reasons", action="store_true", help="list what is exempt as well, with the reasons")
    parser.add_argument("--kit", type=Path, default=KIT, metavar="DIR", help="folder with suites, this kit by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts and gaps")


def report(found: Reached, reasons: bool) -> None:
    """Print what is open, what is out of date, what is exempt if that is wanted, and the counts."""
    exempt = [line for lines in found.exempt.values() for line in lines]
    for title, lines in (("exempt", exempt if reasons else []), ("open", found.open), ("out of date", found.stale)):
        if lines:
            print(f"{title}:", *lines, sep="\n  ")
    for what, (reached, count) in found.counts.items():
        print(
            f"{what}: {reached} of {count} reached ({100 * reached / max(1, count):.1f} %), {count - reached} open, "
            f"{len(found.exempt.get(what, []))} more exempt with a reason"
        )


def main(args: argparse.Namespace) -> int:
    """Count and report; the exit code says whether a gap is open or an exemption out of date."""
    suites, exempt, found = load_all(args.kit), read_exempt(), Reached()
    count_clauses(suites, exempt, found)
    if not args.clauses:
        tasks = [task for v in select(suites, Selection()) if (task := task_of(v))]
        for module, part in measure(tasks, {**exempt.modules, **exempt.functions}).items():
            count_lines(module, module_path(module).read_text(encoding="utf-8"), part, exempt, found)
    report(found, args.reasons)
    if args.json:
        args.json.write_text(json.dumps(found.__dict__, indent=1) + "\n", encoding="utf-8")
    return FAILED if found.open or found.stale else PASSED
