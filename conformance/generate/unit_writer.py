"""Unit cases: inputs of a function of SPEC.md's blocks, and what it returns, as plain JSON.

A document names the function, its section and its cases; a case's ``input`` holds the function's parameters by name.
Numbers are integers, some of 64 bits; maps are nested lists [row][column][channel]. What is no number is an object:
{"hex": digits} for bytes, {"runs": [[digits, count], ..]} for bytes that repeat, {"table": name} for a table of
annex A, {"length": n, "sha256": digits} for a long result, {"error": class} for a refusal. A parameter ``tables`` that
is left out is all tables of annex A by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from refcodec.model.tables import load_arrays

from ..kit.specification import definition
from ..kit.vectors import ERROR_CLASSES
from ..run.units import live, plain
from .registry import Unit, generator

Input = dict[str, Any]
Inputs = Callable[[], Iterable[tuple[str, Input]]]

CHANGED = {"coder_symbol": "coder", "coder_step": "words", "coder_step_raw": "words", "put_half": "x"}
"""Functions that change a parameter: their results are an object with it and what they return."""


@cache
def annex_a() -> dict[str, list[int]]:
    """(SPEC A.8) The universal tables by name."""
    return {name: array.tolist() for name, array in load_arrays().items()}


def refusal(error: ValueError) -> dict[str, str]:
    """The class by which a block refuses (SPEC 7.6, 8.5)."""
    text = str(error)
    return {"error": text if text in ERROR_CLASSES else "SymbolError" if text.startswith("symbol ") else "CoderError"}


def evaluate(function: str, given: Input, blocks: ModuleType | None = None) -> Any:
    """(SPEC 1.3-3) Run a block of SPEC.md on the input of a case.

    Parameters
    ----------
    function : str
        Name of the block's function.
    given : mapping
        Arguments by name, as JSON has them.
    blocks : module or None
        Blocks that replace those of SPEC.md.

    Returns
    -------
    object
        The result as JSON has it, with the changed argument if the function changes one; a refusal by its class.
    """
    block = getattr(blocks or definition(), function)
    arguments = live(given, annex_a())
    if "tables" in inspect.signature(block).parameters and "tables" not in arguments:
        arguments["tables"] = annex_a()
    try:
        result = plain(block(**arguments))
    except ValueError as error:
        return refusal(error)
    changed = CHANGED.get(function)
    return {"returns": result, changed: plain(arguments[changed])} if changed else result


def case(name: str, **given: Any) -> tuple[str, Input]:
    """A case's id and input."""
    return name, given


def unit(name: str, function: str, clauses: tuple[str, ...], suggests: str) -> Callable[[Inputs], Inputs]:
    """Register a group of cases from a function that yields their ids and inputs; its docstring describes it.

    Parameters
    ----------
    name : str
        Of the unit file.
    function : str
        Function of SPEC.md's blocks that defines the results.
    clauses : tuple of str
        The first one names the section.
    suggests : str
        What a failure suggests.

    Returns
    -------
    callable
        A decorator.
    """

    def register(inputs: Inputs) -> Inputs:
        def made() -> Iterator[Unit]:
            given = [(case, plain(values)) for case, values in inputs()]
            if len({case for case, _ in given}) < len(given):
                raise ValueError(f"units/{name}: two cases have one id")
            cases = [{"id": case, "input": values, "expect": evaluate(function, values)} for case, values in given]
            document = {
                "operation": name,
                "section": clauses[0].partition("-")[0],
                "function": function,
                "about": " ".join((inputs.__doc__ or "").split()),
                "cases": cases,
            }
            yield Unit(f"units/{name}", document, clauses, suggests, f"{len(cases)} cases of SPEC.md's {function}")

        made.__doc__ = inputs.__doc__
        generator("units", name)(made)
        return inputs

    return register
