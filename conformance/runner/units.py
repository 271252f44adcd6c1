"""Unit cases: a program is given a file of operations with their inputs, and writes what it computes.

The program is a template with ``{unit}`` and ``{output}``. ``{unit}`` is a unit file without what is expected;
``{output}`` must be JSON, an object with the result of every case by its id, in the forms of the unit file. Numbers are
equal as integers or not at all: 1, 1.0 and true are three different results. Exit codes are those of decoders.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import SuiteDamaged
from ..strict_json import Fields, read_json, show
from ..suites import Vector
from . import outcomes, process
from .decoders import filled
from .outcomes import Seen, Verdict
from .process import Limits

MAX_OUTPUT = 64 << 20
"""Bytes of a program's answer that are read."""

Case = Mapping[str, Any]


def read_cases(data: bytes, where: str) -> tuple[dict[str, Any], list[Case]]:
    """A unit file without its cases, and these; raises SuiteDamaged."""
    try:
        value = read_json(data)
    except ValueError as error:
        raise SuiteDamaged(f"{where}: not JSON as it should be: {error}") from error
    document = Fields(value, where)
    cases = document.take("cases", list)
    for number, case in enumerate(cases):
        fields = Fields(case, f"{where}, case {number}")
        fields.text("id")
        fields.take("input", dict)
        if "expect" not in case:
            raise fields.wrong("'expect' is missing")
    if not cases or len({case["id"] for case in cases}) < len(cases):
        raise document.wrong("there are no cases, or two have one id")
    return {name: part for name, part in value.items() if name != "cases"}, cases


def question(head: Mapping[str, Any], cases: Sequence[Case]) -> bytes:
    """The file that the program is given."""
    asked = [{name: part for name, part in case.items() if name != "expect"} for case in cases]
    return json.dumps({**head, "cases": asked}).encode()


def first_difference(expected: Any, got: Any, place: str = "") -> str:
    """Where two values of JSON differ first and how, "" if they are equal."""
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return f"{place or 'result'} has {len(got)} parts, expected {len(expected)}"
        pairs = [(f"{place}[{n}]", a, b) for n, (a, b) in enumerate(zip(expected, got, strict=True))]
    elif isinstance(expected, dict) and isinstance(got, dict) and expected.keys() == got.keys():
        pairs = [(f"{place}.{name}", a, got[name]) for name, a in expected.items()]
    else:
        equal = type(expected) is type(got) and expected == got
        return "" if equal else f"{place or 'result'} is {show(got)}, expected {show(expected)}"
    return next(filter(None, (first_difference(a, b, inner) for inner, a, b in pairs)), "")


def compare(cases: Sequence[Case], results: Any) -> str:
    """What is wrong with a program's answer, "" if nothing."""
    if not isinstance(results, dict):
        return "the answer is no object of results by id"
    names = [case["id"] for case in cases]
    if absent := [name for name in names if name not in results]:
        return f"{len(absent)} of {len(names)} cases are missing, such as {absent[0]!r}"
    if unknown := results.keys() - set(names):
        return f"there is no case {min(unknown)!r}"
    found = [(name, first_difference(case["expect"], results[name])) for name, case in zip(names, cases, strict=True)]
    wrong = [f"case {name!r}: {difference}" for name, difference in found if difference]
    return f"{len(wrong)} of {len(names)} cases differ; {wrong[0]}" if wrong else ""


def read_answer(path: Path) -> tuple[Any, str]:
    """What a program wrote, and what is wrong with it as JSON."""
    if path.is_symlink() or not path.is_file():
        return None, "no answer was written"
    if path.stat().st_size > MAX_OUTPUT:
        return None, f"the answer is larger than {MAX_OUTPUT} bytes"
    try:
        return read_json(path.read_bytes()), ""
    except ValueError as error:
        return None, f"the answer is not JSON: {error}"


def try_unit(vector: Vector, words: tuple[str, ...], limits: Limits, folder: Path,
             stop: threading.Event) -> tuple[process.Ended, Seen, Verdict]:
    """Run a program on one unit file in a folder of its own."""
    head, cases = read_cases(vector.file.read_bytes(), str(vector.file))
    unit, output = folder / "unit.json", folder / "output.json"
    unit.write_bytes(question(head, cases))
    ended = process.run(filled(words, {"unit": unit, "output": output}), limits, folder, stop)
    seen = outcomes.observe(ended)
    if seen.kind == "refused":
        return ended, seen, Verdict(outcomes.FAIL, f"refused: {seen.detail or seen.error or 'no reason given'}")
    if seen.kind != "accepted":
        return ended, seen, Verdict(seen.kind, seen.detail)
    results, trouble = read_answer(output)
    trouble = trouble or compare(cases, results)
    return ended, seen, Verdict(outcomes.FAIL, trouble) if trouble else Verdict(outcomes.PASS, f"{len(cases)} cases")
