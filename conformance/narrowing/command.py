"""``python -m conformance narrowing``: which vector notices an intermediate result of another type.

For every place of `places.PLACES` and every type that does not hold all its numbers, a decoder is built of SPEC.md's
blocks with that one expression narrowed. A unit vector and a stream must show it, or a proof says why none can.
Operations that a place takes no part in are computed by refcodec, which agrees with the blocks on the unit vectors.

Exit code 0 if every narrowing has a vector that notices it, or a proof; else 1.
"""

from __future__ import annotations

import argparse
import ast
import json
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache, partial
from math import log2
from multiprocessing import get_context
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from ..generate.expectation import defined
from ..generate.unit_writer import evaluate
from ..kit.errors import FAILED, PASSED, NothingToDo
from ..kit.specification import source
from ..kit.suites import load_all
from ..kit.vectors import Reject, Vector
from ..mutants.command import write_json
from ..mutants.mutant import Mutant
from ..mutants.unit_cases import WAYS
from ..run.units import plain
from .places import PLACES, Narrowing, Place

FOUND = Path(__file__).with_name("found.json")

FAST = (
    *("convolution", "residual_sum", "gain", "rescale", "gdn", "layer_norm", "local_attention", "global_attention"),
)
"""Functions of SPEC.md that refcodec computes in their place, if nothing in them is narrowed."""

STREAMS = (
    *("extremes/observed-*", "extremes/logits-small", "extremes/attention-ties", "extremes/attention-border"),
    *("extremes/mean-ends", "extremes/norm-one-high", "extremes/norm-ties", "extremes/y-low-q100"),
    *("extremes/model-gdn", "extremes/model-values", "extremes/thresholds", "invalid/symbol-*-65000"),
    *("extremes/clamps-mixed-q001",),
)
"""Streams that a search tries, in this order."""

ALONE = {"extremes/observed-dividend": "linear_attention", "extremes/thresholds": "split_parameters"}
"""Slow streams, which are tried for the places of one function."""

SECONDS = 60.0
"""Processor time of a case or a stream after which a narrowed decoder is taken to hang."""


class _Hangs(Exception):
    """A narrowed decoder does not end."""


@contextmanager
def _limited() -> Iterator[None]:
    """Raise `_Hangs` after ``SECONDS`` of processor time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@cache
def _calls() -> dict[str, frozenset[str]]:
    """Functions of SPEC.md that each function calls, itself and what these call included."""
    functions = {node.name: node for node in ast.parse(source()).body if isinstance(node, ast.FunctionDef)}
    direct = {
        name: {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in functions}
        for name, node in functions.items()
    }
    found: dict[str, frozenset[str]] = {}
    for name in functions:
        reached, todo = {name}, [name]
        while todo:
            new = direct[todo.pop()] - reached
            reached |= new
            todo += new
        found[name] = frozenset(reached)
    return found


def narrowed(place: Place, narrowing: Narrowing) -> ModuleType:
    """SPEC.md's blocks with one narrowed expression.

    Raises
    ------
    ValueError
        The expression does not occur in its function exactly once.
    """
    mutant = Mutant(place.name, "SPEC", place.function, place.find, place.replace, place.quantity)
    module = ModuleType("narrowed_blocks", place.name)
    narrow = narrowing.apply

    def pack(v: int, limit: int) -> int:
        return narrow(v) if limit == narrowing.most else max(-limit, min(limit, v))

    module.__dict__.update(
        NARROW=narrow,
        SHIFT=lambda a, s: narrow(a + ((1 << s) >> 1)) >> s,
        QUOTIENT=lambda a, b: narrow(a + b // 2) // b,
        PACK=pack,
    )
    exec(compile(mutant.apply(source()), "SPEC.md", "exec"), module.__dict__)
    return module


def _parameters(name: str) -> tuple[str, ...]:
    node = next(n for n in ast.parse(source()).body if isinstance(n, ast.FunctionDef) and n.name == name)
    return tuple(argument.arg for argument in node.args.args)


def _fast(module: ModuleType, function: str) -> ModuleType:
    """Blocks whose operations refcodec computes, but for those that call this function."""

    def replacement(name: str) -> Callable[..., Any]:
        parameters, way = _parameters(name), WAYS[name]
        return lambda *values: plain(way(dict(zip(parameters, values, strict=False)), "numpy"))

    module.__dict__.update({name: replacement(name) for name in FAST if function not in _calls()[name]})
    return module


def _unit_notices(vector: Vector, module: ModuleType) -> bool:
    """Whether blocks give another result for some case of a unit vector; an error or an endless loop is one."""
    document = json.loads(vector.read())
    for case in document["cases"]:
        try:
            with _limited():
                if evaluate(document["function"], case["input"], module) != case["expect"]:
                    return True
        except Exception:
            return True
    return False


def _stream_notices(vector: Vector, module: ModuleType) -> bool:
    """Whether a decoder of these blocks fails a stream."""
    expected = vector.expect
    try:
        with _limited():
            got = defined(vector.read(), vector.model.name if vector.model else None, module)
    except Exception:
        return True
    if isinstance(expected, Reject) and isinstance(got, Reject):
        return got.error not in expected.classes
    return got != expected


@cache
def _vectors() -> dict[str, Vector]:
    return {v.id: v for suite in load_all() for v in suite.vectors}


@cache
def _streams(function: str) -> tuple[str, ...]:
    """Streams that a search tries for the places of a function, in order."""
    found = dict.fromkeys(name for pattern in STREAMS for name in _vectors() if fnmatchcase(name, pattern))
    return tuple(name for name in found if ALONE.get(name, function) == function)


@cache
def _functions() -> dict[str, str]:
    """The function of SPEC.md by unit vector."""
    return {name: json.loads(v.read())["function"] for name, v in _vectors().items() if v.expect is None}


def _units(place: Place) -> list[str]:
    """Unit vectors that a place takes part in, those of its function first."""
    reached = [name for name, function in _functions().items() if place.function in _calls()[function]]
    return sorted(reached, key=lambda name: _functions()[name] != place.function)


@dataclass(frozen=True)
class Trial:
    """A narrowing of a place, and what notices it.

    Attributes
    ----------
    place : Place
    narrowing : Narrowing
    unit, stream : str
        Identifiers of vectors, "" if there is none.
    """

    place: Place
    narrowing: Narrowing
    unit: str = ""
    stream: str = ""


def tried(trial: Trial, search: bool) -> Trial:
    """Try the vectors of a trial, and with ``search`` all others until one notices."""
    place, narrowing = trial.place, trial.narrowing
    units, streams = [trial.unit] * bool(trial.unit), [trial.stream] * bool(trial.stream)
    if search:
        units, streams = [*units, *_units(place)], [*streams, *_streams(place.function)]
    module = narrowed(place, narrowing)
    unit = next((name for name in units if _unit_notices(_vectors()[name], module)), "")
    decoder = _fast(module, place.function)
    return replace(trial, unit=unit, stream=next((n for n in streams if _stream_notices(_vectors()[n], decoder)), ""))


def trials(known: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Trial]:
    """Every narrowing of every place that has no proof, with what noticed it the last time."""
    return [
        Trial(place, n, *known.get(place.name, {}).get(n.name, ()))
        for place in PLACES
        for n in place.narrowings()
        if not place.proof(n)
    ]


def _bound(place: Place) -> str:
    """The greatest magnitude, as a power of two if it is near one."""
    most = max(place.most, -place.least)
    return str(most) if most < 1 << 17 else f"2^{log2(most):.3g}"


def table(found: Iterable[Trial]) -> str:
    """(Markdown) A row for every place: what notices which narrowings, and the proofs of the others."""
    rows = [
        "| operation | intermediate | bound | noticed | unit vectors | streams | not by a stream | proved |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by_place: dict[str, list[Trial]] = {}
    for trial in found:
        by_place.setdefault(trial.place.name, []).append(trial)
    for place in PLACES:
        here = by_place.get(place.name, [])
        proofs = [f"{n}: {why}" for n, why in place.proofs.items()]
        columns = (
            place.operation,
            place.quantity,
            _bound(place),
            ", ".join(t.narrowing.name for t in here if t.unit or t.stream),
            ", ".join(dict.fromkeys(t.unit.partition("/")[2] for t in here if t.unit)),
            ", ".join(dict.fromkeys(t.stream for t in here if t.stream)),
            ", ".join(t.narrowing.name for t in here if not t.stream),
            "; ".join(proofs),
        )
        rows.append(f"| {' | '.join(columns)} |")
    return "\n".join(rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``narrowing``."""
    parser.add_argument("patterns", nargs="*", metavar="PLACE", help="such as 'convolution: *'; all without")
    parser.add_argument("--search", action="store_true", help="look for other vectors where none is known; takes long")
    parser.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="narrowings at a time, 2 by default")
    parser.add_argument("--table", action="store_true", help="print the table of what is known, and stop")


def main(args: argparse.Namespace) -> int:
    """Try narrowings; 0 if a vector notices each, 1 if not."""
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    everything = trials(known)
    if args.table:
        print(table(everything))
        return PASSED
    chosen = [t for t in everything if not args.patterns or any(fnmatchcase(t.place.name, p) for p in args.patterns)]
    if not chosen:
        raise NothingToDo("no place has such a name")
    missing = 0
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        for before, trial in zip(chosen, pool.map(partial(tried, search=args.search), chosen), strict=True):
            known.setdefault(trial.place.name, {})[trial.narrowing.name] = [trial.unit, trial.stream]
            lost = (before.unit, before.stream) != (trial.unit, trial.stream) and not args.search
            missing += lost or not (trial.unit or trial.stream)
            found = f"{trial.unit or 'no unit vector'}, {trial.stream or 'no stream'}"
            print(f"{trial.place.name}, {trial.narrowing.name}: {found}", flush=True)
            if args.search:
                write_json(FOUND, {place.name: known[place.name] for place in PLACES if place.name in known})
    print(f"{len(chosen) - missing} of {len(chosen)} narrowings are noticed")
    return FAILED if missing else PASSED
