"""Change the decoder, or the runner, in one place at a time, and see whether the kit notices.

Mutants of the decoder are decoded against the vectors of the suites, with the NumPy backend and the kit's own model
files; those of the runner against its tests. ``--generated`` takes mutants that nobody chose (`generated`). Exit code
0 if every mutant is noticed but those declared equivalent, and none of these; else 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..kit.clauses import load as load_clauses
from ..kit.errors import FAILED, PASSED, NothingToDo, OutputFailed, UsageError
from ..kit.suites import KIT, Selection, kit_hash, load_all, select
from . import coverage, generated, runner_hunt
from .hunt import LEAST, PATIENCE, Hunt, baseline, preload, run
from .judge import Task, task_of
from .mutant import DECODER, RUNNER, Mutant, declared

FOLDER = Path(__file__).parent
RESULTS = {name: FOLDER / f"{name}.json" for name in ("decoder", "runner", "generated")}
EQUIVALENT = FOLDER / "generated_equivalent.json"
"""Why no input can tell a generated mutant from the original, by mutant."""

ENOUGH = 10.0
"""Equivalent mutants are tried on the quickest vectors, as many as take the original so many seconds."""

ENOUGH_GENERATED = 3.0
"""Generated mutants are tried on vectors that reach their line, as many as take so many seconds, and on the quickest
one with a trace. So their score is a lower bound. Of the vectors that reach the same lines of the module, the quickest
comes first, then a vector of another way through it: what takes the same way seldom notices more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``python -m conformance mutants``."""
    parser.add_argument("patterns", nargs="*", metavar="MUTANT", help="names or patterns such as 'gelu/*'; all without")
    parser.add_argument("--runner", action="store_true", help="mutants of the runner instead of the decoder")
    parser.add_argument(
        "--generated",
        type=int,
        metavar="N",
        help="about N mutants made from the syntax tree, one at least of every line that vectors reach",
    )
    parser.add_argument("--sample", type=int, metavar="N", help="a random part of N mutants that are not equivalent")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sample, 0 by default")
    parser.add_argument("--kit", type=Path, default=KIT, metavar="DIR", help="folder with suites, this kit by default")
    parser.add_argument("--suite", action="append", default=[], metavar="NAME", help="vectors of this suite only")
    parser.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="mutants at a time, 2 by default")
    parser.add_argument(
        "--open",
        action="store_true",
        help="only mutants that nothing noticed the last time; the others keep their result",
    )
    parser.add_argument("--write", action="store_true", help="store the results next to the mutants")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--clauses", action="store_true", help="print which mutants misread each clause and stop")


def chosen(mutants: Sequence[Mutant], patterns: Iterable[str], sample: int | None, seed: int) -> list[Mutant]:
    """Select mutants by name, and of these a sample.

    Parameters
    ----------
    mutants : sequence of Mutant
    patterns : iterable of str
        Ids, or patterns as in `fnmatch`; all mutants if empty.
    sample : int or None
        Number of mutants to draw among those that are not equivalent.
    seed : int
        Of the sample.

    Returns
    -------
    list of Mutant

    Raises
    ------
    NothingToDo
        No mutant is left.
    """
    patterns = list(patterns)
    found = [m for m in mutants if not patterns or any(m.id == p or fnmatchcase(m.id, p) for p in patterns)]
    if sample is not None:
        true = [m for m in found if not m.equivalent]
        found = random.Random(seed).sample(true, min(sample, len(true)))
    if not found:
        raise NothingToDo("no mutant has such a name")
    return found


def earlier(path: Path) -> dict[str, str]:
    """The tests that killed each mutant the last time, by mutant; empty if the file does not exist."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["killers"])
    except (OSError, ValueError, KeyError):
        return {}


def write_json(path: Path, value: Any) -> None:
    """Write JSON with a line for each entry of the first two levels; raises OutputFailed."""

    def rows(inner: Mapping[str, Any]) -> str:
        return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in inner.items()) + "\n}"

    text = ",\n".join(
        f"{json.dumps(name)}: {rows(part) if isinstance(part, dict) and part else json.dumps(part)}"
        for name, part in value.items()
    )
    try:
        path.write_text("{\n" + text + "\n}\n", encoding="utf-8")
    except OSError as error:
        raise OutputFailed(f"{path}: {error.strerror}") from error


def scores(mutants: Sequence[Mutant], killers: Mapping[str, str]) -> dict[str, Any]:
    """The mutation score, whole and by class of operations."""
    true = [m for m in mutants if not m.equivalent]
    by: dict[str, list[int]] = {}
    for m in true:
        count = by.setdefault(m.operation, [0, 0])
        count[0] += m.id in killers
        count[1] += 1
    noticed = sum(m.id in killers for m in true)
    return {
        "mutants": len(mutants),
        "equivalent": len(mutants) - len(true),
        "noticed": noticed,
        "score": round(noticed / max(1, len(true)), 4),
        "by_operation": {name: f"{part} of {count}" for name, (part, count) in sorted(by.items())},
    }


def _progress(done: int, count: int, mutant: Mutant, how: str) -> None:
    print(f"{done:4}/{count} {mutant.id:<45} {how}", file=sys.stderr, flush=True)


def first(tasks: Sequence[Task], seconds: Mapping[str, float], enough: float) -> list[Task]:
    """The first tasks, as many as fit a time, but at least one.

    Parameters
    ----------
    tasks : sequence of Task
    seconds : mapping of str to float
        Time of the original by task.
    enough : float
        Seconds for all of them together.

    Returns
    -------
    list of Task
    """
    total = accumulate(seconds[task.id] for task in tasks)
    return [task for task, so_far in zip(tasks, total, strict=True) if so_far < enough] or list(tasks[:1])


def quickest(tasks: Iterable[Task], seconds: Mapping[str, float], enough: float) -> list[Task]:
    """The quickest tasks, as many as fit a time, but at least one.

    Parameters
    ----------
    tasks : iterable of Task
    seconds : mapping of str to float
        Time of the original by task.
    enough : float
        Seconds for all of them together.

    Returns
    -------
    list of Task
    """
    return first(sorted(tasks, key=lambda task: seconds[task.id]), seconds, enough)


def spread(tasks: Iterable[Task], seconds: Mapping[str, float], ways: Mapping[str, int]) -> list[Task]:
    """Order tasks in rounds: of every path through a module the quickest task, then of every path the second, and so
    on.

    Parameters
    ----------
    tasks : iterable of Task
    seconds : mapping of str to float
        Time of the original by task.
    ways : mapping of str to int
        Number of the path of each task.

    Returns
    -------
    list of Task
    """
    rounds = Counter[int]()
    ranked = []
    for task in sorted(tasks, key=lambda task: seconds[task.id]):
        ranked.append((rounds[ways[task.id]], seconds[task.id], task))
        rounds[ways[task.id]] += 1
    return [task for *_, task in sorted(ranked, key=lambda row: row[:2])]


def hunt_decoder(
    mutants: Sequence[Mutant],
    tasks: Sequence[Task],
    seconds: Mapping[str, float],
    jobs: int,
    known: Mapping[str, str],
    reaching: Mapping[str, Mapping[str, int]] | None = None,
) -> list[Hunt]:
    """Run mutants of the decoder against vectors: what noticed it the last time, then what is quick or notices much.

    Parameters
    ----------
    mutants : sequence of Mutant
    tasks : sequence of Task
    seconds : mapping of str to float
        What each takes the original.
    jobs : int
        Mutants at a time.
    known : mapping of str to str
        What noticed a mutant the last time.
    reaching : mapping of str to mapping of str to int, optional
        For each mutant the vectors that reach its line, and a number of the way that each takes through its module.
        Only a part of them is tried.

    Returns
    -------
    list of Hunt
        Finished, in the order of the mutants.
    """
    often = Counter(known.values())
    order = sorted(tasks, key=lambda task: seconds[task.id] / (1 + often[task.id]))
    few = quickest(tasks, seconds, ENOUGH)

    def tried(mutant: Mutant) -> list[Task]:
        if mutant.equivalent:
            return few
        wanted = order
        if reaching is not None:
            ways = reaching[mutant.id]  # none for what runs while modules load
            reached = [task for task in order if not ways or task.id in ways]
            wanted = first(spread(reached, seconds, ways) if ways else order, seconds, ENOUGH_GENERATED)
            if not any(task.trace for task in wanted):
                wanted += quickest((task for task in reached if task.trace), seconds, 0.0)
            wanted += [task for task in order if task.id == known.get(mutant.id) and task not in wanted]
        return sorted(wanted, key=lambda task: task.id != known.get(mutant.id))

    sources = {path: path.read_text(encoding="utf-8") for path in {mutant.path for mutant in mutants}}
    hunts = [Hunt(mutant, tried(mutant), mutant.apply(sources[mutant.path])) for mutant in mutants]
    finished = []
    for hunt in run(hunts, jobs, lambda task: LEAST + PATIENCE * seconds[task.id]):
        finished.append(hunt)
        assert hunt.mutant is not None
        how = f"{hunt.killers[0]}: {hunt.verdicts[hunt.killers[0]][:60]}" if hunt.killers else "NOT NOTICED"
        _progress(len(finished), len(hunts), hunt.mutant, how)
    return sorted(finished, key=hunts.index)


def _lines(tasks: Sequence[Task], names: Sequence[str], path: Path) -> None:
    path.write_text(json.dumps(coverage.vectors_of_lines(tasks, names)), encoding="utf-8")


def reached_lines(tasks: Sequence[Task]) -> dict[str, dict[int, list[str]]]:
    """Which vectors reach each line of the modules that take part in decoding, counted in a separate process.

    Raises
    ------
    ValueError
        That process failed.
    """
    exempt = coverage.read_exempt()
    names = [*{**exempt.modules, **exempt.functions}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.json"
        child = multiprocessing.get_context("fork").Process(target=_lines, args=(tasks, names, path))
        child.start()
        child.join()
        if child.exitcode:
            raise ValueError("the lines that vectors reach could not be counted")
        found = json.loads(path.read_text(encoding="utf-8"))
    return {module: {int(line): vectors for line, vectors in lines.items()} for module, lines in found.items()}


def made(tasks: Sequence[Task], count: int, seed: int) -> tuple[list[Mutant], dict[str, dict[str, int]]]:
    """Generate mutants, and find for each the vectors that reach its line; none where it runs while modules load.

    Parameters
    ----------
    tasks : sequence of Task
    count : int
        How many mutants to take; more if there are more lines.
    seed : int
        Of the choice.

    Returns
    -------
    list of Mutant
    dict of str to dict of str to int
        By mutant and vector: the number of the path that the vector takes through the module.
    """
    reached = reached_lines(tasks)
    mutants = generated.chosen(reached, reached, count, seed)
    ways = {module: ways_through(lines) for module, lines in reached.items()}
    return _with_reasons(mutants), {
        m.id: {name: ways[m.module][name] for name in reached[m.module][m.start[0]]} if m.function else {}
        for m in mutants
    }


def ways_through(lines: Mapping[int, Iterable[str]]) -> dict[str, int]:
    """From the vectors that reach each line: vectors with equal numbers reach the same lines."""
    of_vector: dict[str, list[int]] = {}
    for line, vectors in lines.items():
        for name in vectors:
            of_vector.setdefault(name, []).append(line)
    numbers = {way: n for n, way in enumerate(dict.fromkeys(map(tuple, of_vector.values())))}
    return {name: numbers[tuple(way)] for name, way in of_vector.items()}


def _with_reasons(mutants: Iterable[Mutant]) -> list[Mutant]:
    """Generated mutants with the reason of those that are equivalent."""
    reasons = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return [replace(mutant, equivalent=reasons.get(mutant.id, "")) for mutant in mutants]


def _report(mutants: Sequence[Mutant], killers: Mapping[str, str], what: str) -> int:
    """Print the score; the exit code."""
    score = scores(mutants, killers)
    survivors = [m for m in mutants if not m.equivalent and m.id not in killers]
    false = [m for m in mutants if m.equivalent and m.id in killers]
    for m in survivors:
        print(f"not noticed: {m.id}: {m.models}")
    for m in false:
        print(f"declared equivalent, but {killers[m.id]} notices it: {m.id}")
    print(
        f"{what}: {score['noticed']} of {score['mutants'] - score['equivalent']} mutants noticed "
        f"({100 * score['score']:.1f} %), {score['equivalent']} equivalent ones in addition"
    )
    return FAILED if survivors or false else PASSED


def misread(mutants: Iterable[Mutant]) -> dict[str, list[Mutant]]:
    """Which mutants misread each clause of SPEC.md; raises ValueError if one names a clause that does not exist."""
    found: dict[str, list[Mutant]] = {name: [] for name in load_clauses()}
    for m in mutants:
        for clause in m.clauses:
            if clause not in found:
                raise ValueError(f"mutant {m.id}: there is no clause {clause}")
            found[clause].append(m)
    return found


def _clauses(mutants: Iterable[Mutant]) -> int:
    """Print the mutants of each clause; FAILED if a clause has none, equivalent ones not counted, and no reason."""
    exempt, gaps = coverage.read_exempt(), 0
    reasons = {**exempt.clauses, **exempt.misreadings}
    for clause, found in misread(mutants).items():
        missing = all(m.equivalent for m in found) and clause not in reasons
        text = ", ".join(m.id + " (equivalent)" * bool(m.equivalent) for m in found)
        print(f"{clause:<8} {text or ('NONE' if missing else 'none: ' + reasons[clause])}")
        gaps += missing
    return FAILED if gaps else PASSED


def _list(mutants: Iterable[Mutant]) -> int:
    for m in mutants:
        print(f"{m.id:<45} {m.models}" + (f" (equivalent: {m.equivalent})" if m.equivalent else ""))
    return PASSED


def main(args: argparse.Namespace) -> int:
    """Run mutants; the exit code says whether all were noticed."""
    if args.jobs < 1 or (args.sample is not None and args.sample < 1):
        raise UsageError("--jobs and --sample are at least 1")
    part = args.patterns or args.sample or args.suite
    if args.write and part:
        raise UsageError("--write stores what all vectors say of all mutants")
    if args.clauses and (part or args.open or args.runner or args.generated is not None):
        raise UsageError("--clauses is about all mutants of the decoder")
    if args.generated is not None and (args.generated < 1 or args.runner):
        raise UsageError("--generated is at least 1, and of the decoder")
    what = "runner" if args.runner else "generated" if args.generated else "decoder"
    known, kit, reaching = earlier(RESULTS[what]), {}, None
    suites = [] if args.runner else load_all(args.kit, args.suite)
    tasks = [task for v in select(suites, Selection()) if (task := task_of(v))]
    if not args.runner:
        preload()
    if what != "generated":
        everything: Sequence[Mutant] = declared(*(RUNNER if args.runner else DECODER))
    else:
        everything, reaching = made(tasks, args.generated, args.seed)
    known = {name: vector for name, vector in known.items() if name in {m.id for m in everything}}
    mutants = chosen(everything, args.patterns, args.sample, args.seed)
    if args.open:
        mutants = [m for m in mutants if m.id not in known and not m.equivalent]
    if args.list or args.clauses:
        return _list(mutants) if args.list else _clauses(mutants)
    if args.runner:
        killers = runner_hunt.hunt(mutants, args.jobs, known, _progress)
    else:
        if args.sample and not args.generated:  # what noticed anything suffices, and spares the time for the others
            noticing = set(known.values())
            tasks = [task for task in tasks if task.id in noticing] or tasks
        kit = {"kit": kit_hash(suites), "vectors": len(tasks)}
        try:
            seconds = baseline(tasks, args.jobs)
            print(
                f"{len(tasks)} vectors, {sum(seconds.values()):.1f} s for the decoder without a change", file=sys.stderr
            )
            hunts = hunt_decoder(mutants, tasks, seconds, args.jobs, known, reaching)
        except ValueError as error:
            raise UsageError(str(error)) from error
        killers = {hunt.mutant.id: hunt.killers[0] for hunt in hunts if hunt.mutant and hunt.killers}
    if args.open:
        mutants, killers = (
            list(everything),
            {m.id: (known | killers)[m.id] for m in everything if m.id in known | killers},
        )
    if args.write:
        left = [m.id for m in mutants if not m.equivalent and m.id not in killers]
        more = {"asked": args.generated, "seed": args.seed, "open": left} if args.generated else {}
        write_json(RESULTS[what], kit | scores(mutants, killers) | more | {"killers": killers})
    return _report(mutants, killers, what)
