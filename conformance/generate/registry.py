"""Contents of a suite: generators by suite, the cases they yield, and the rules of identifiers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from ..kit.manifest import CLAUSE
from ..kit.vectors import Accept, Reject

LICENCE = "Apache-2.0"

SUITES = {
    "core": "Every operation and configuration: pictures and random symbols, small, medium and full-shape models.",
    "default": "The project's pictures with every released model; vectors are only ever added.",
    "geometry": "Sizes around multiples of 16 and 64, extreme aspect ratios, grey and colour, every quality.",
    "entropy": "Every row of every frequency table with every symbol, every path of the range coder.",
    "extremes": "The largest accumulators, saturation of clamps, ties of roundings, neighbours of thresholds.",
    "invalid": "Streams that must be refused, each with the class of its refusal.",
    "units": "Operations alone, as plain JSON integers.",
    "large": "Sizes that the other suites leave out: rows, positions, symbols, pixels and bytes beyond 2^16 to 2^24.",
}
"""Description of every suite."""

ON_REQUEST = ("large",)
"""Suites that the kit does not hold: ``generate large`` makes them."""

MODULES = {suite: (suite,) for suite in SUITES} | {
    "core": ("core", "tiles", "stored", "stored_edges"),
    "extremes": ("extremes", "observed"),
    "invalid": ("invalid", "invalid_segments", "invalid_tiles", "invalid_stored", "stored_edges"),
    "units": ("units_arithmetic", "units_attention", "units_codec", "units_coder", "units_stored", "units_sums"),
}
"""Modules of the folder ``suites`` whose import registers the generators of a suite, in the order of its vectors."""

_ID = re.compile(r"[a-z0-9]+/[a-z0-9][a-z0-9.-]*")


PHASES = {
    "CoderError": "entropy",
    "SymbolError": "entropy",
    "ModelError": "model",
    "InvalidModel": "model",
    "LimitExceeded": "limits",
}
"""Phase of a refusal by its class (SPEC 7.6, 9.1, 10); every other class is the container's (SPEC 8.5)."""


def reject(error: str, *also: str) -> Reject:
    """A refusal by a class, in the phase of that class; the others are equally right."""
    return Reject(error, PHASES.get(error, "container"), also)


@dataclass(frozen=True)
class Case:
    """A vector before it is written.

    Attributes
    ----------
    id : str
        ``suite/name``, for good: a changed vector gets a new id.
    data : bytes
        The stream.
    model : str or None
        Name in ``models.py``; None where the model is never asked for.
    clauses : tuple of str
        Clauses of SPEC.md that it exercises.
    suggests : str
        What a failure suggests, one or two sentences.
    origin : str
        What is needed to make it again: parameters and seeds. The generator's name is put before it.
    expect : Accept, Reject or None
        None to have it computed; else the reference must agree.
    definition : bool
        Decode it with SPEC.md's blocks as well. They are slow: for streams of at most 64x64 and tiny models.
    trace : bool
        Store the digests of every stage.
    base : str
        Name of the `sound` stream as whose edits it is stored; "" for a file.
    licence : str
    """

    id: str
    data: bytes
    model: str | None
    clauses: tuple[str, ...]
    suggests: str
    origin: str
    expect: Accept | Reject | None = None
    definition: bool = False
    trace: bool = False
    base: str = ""
    licence: str = LICENCE


@dataclass(frozen=True)
class Unit:
    """A group of unit cases: one operation alone, as plain JSON.

    Attributes
    ----------
    id : str
        ``units/name``; the file is ``units/name.json``.
    document : mapping
        {"operation": ..., "cases": [{"id", "input", "expect"}]}, integers and nested lists.
    clauses, suggests, origin, licence
        As of a `Case`.
    """

    id: str
    document: Mapping[str, Any]
    clauses: tuple[str, ...]
    suggests: str
    origin: str
    licence: str = LICENCE


Made = Case | Unit


@dataclass(frozen=True)
class Generator:
    """A registered function that yields cases.

    Attributes
    ----------
    suite, name : str
    function : callable() -> iterable of Case or Unit
    description : str
        The function's docstring: what the catalogue shows.
    """

    suite: str
    name: str
    function: Callable[[], Iterable[Made]]
    description: str

    def cases(self) -> list[Made]:
        """Its cases, checked.

        Raises
        ------
        ValueError
            An identifier or a field breaks a rule.
        """
        made = list(self.function())
        for case in made:
            check(case, self)
        return made


_REGISTERED: dict[tuple[str, str], Generator] = {}


def generator(suite: str, name: str) -> Callable[[Callable[[], Iterable[Made]]], Callable[[], Iterable[Made]]]:
    """Register a function that yields the cases of a suite; its docstring makes the catalogue.

    Raises
    ------
    ValueError
        The suite is unknown, the name is taken, or the docstring is missing.
    """

    def register(function: Callable[[], Iterable[Made]]) -> Callable[[], Iterable[Made]]:
        description = inspect.getdoc(function)
        if suite not in SUITES or (suite, name) in _REGISTERED or not description:
            raise ValueError(f"generator {suite}/{name}: unknown suite, name taken or no docstring")
        _REGISTERED[suite, name] = Generator(suite, name, function, description)
        return function

    return register


SOUND: dict[str, Callable[[], bytes]] = {}
"""Valid streams by name, of which others are edits."""


def sound(name: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Register a function that makes a valid stream; it runs once.

    Raises
    ------
    ValueError
        The name is taken.
    """

    def register(function: Callable[[], bytes]) -> Callable[[], bytes]:
        if name in SOUND:
            raise ValueError(f"two sound streams are named {name!r}")
        SOUND[name] = cache(function)
        return SOUND[name]

    return register


def generators(suite: str) -> list[Generator]:
    """The generators of a suite in the order of its modules and of their lines, whatever was imported before."""
    modules = [f"{__package__}.suites.{name}" for name in MODULES.get(suite, ())]
    for module in modules:
        import_module(module)

    def place(g: Generator) -> tuple[int, int]:
        module = g.function.__module__
        return modules.index(module) if module in modules else -1, g.function.__code__.co_firstlineno

    return sorted((g for g in _REGISTERED.values() if g.suite == suite), key=place)


def check(case: Made, source: Generator) -> None:
    """Check what a generator yields.

    Raises
    ------
    ValueError
        Naming the generator and the field.
    """
    where = f"generator {source.suite}/{source.name}, case {case.id!r}"
    if not _ID.fullmatch(case.id) or case.id.split("/")[0] != source.suite:
        raise ValueError(f"{where}: an id is {source.suite}/ and small letters, digits, dots and dashes")
    if not case.clauses or not all(map(CLAUSE.fullmatch, case.clauses)) or len(set(case.clauses)) < len(case.clauses):
        raise ValueError(f"{where}: clauses {case.clauses} are not different identifiers")
    if not case.suggests.strip() or not case.origin.strip():
        raise ValueError(f"{where}: suggests or origin is empty")
