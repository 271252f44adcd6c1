"""Unit cases: a program is given a file of operations with their inputs, and writes what it computes.

The program is a template with ``{unit}`` and ``{output}``. ``{unit}`` is a unit file without what is expected;
``{output}`` must be JSON, an object with the result of every case by its id, in the forms of the unit file. Numbers are
equal as integers or not at all: 1, 1.0 and true are three different results. Exit codes are those of decoders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..kit.errors import SuiteDamaged
from ..kit.reading import NotPlain, TooLarge, read_plain
from ..kit.strict_json import Fields, read_json, show
from . import outcomes, process
from .decoders import filled
from .outcomes import Seen, Verdict

SPREAD, SPARE = 16, 1 << 20
"""How much longer than what is expected an answer may be, for indentation, and bytes that it may have at least."""

LONG = 4096
"""Bytes beyond which a result is described by its length and SHA-256."""

Case = Mapping[str, Any]


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, (bytes, bytearray)):
        if len(value) <= LONG:
            return {"hex": value.hex()}
        return {"length": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def live(value: Any, tables: Mapping[str, list[int]]) -> Any:
    """A value as SPEC.md's blocks take it, from its form in JSON and the tables of annex A; always a copy."""
    if isinstance(value, list):
        return [live(v, tables) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"hex"}:
        return bytes.fromhex(value["hex"])
    if set(value) == {"runs"}:
        return b"".join(bytes.fromhex(digits) * count for digits, count in value["runs"])
    if set(value) == {"table"}:
        return tables[value["table"]]
    return {name: live(v, tables) for name, v in value.items()}


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


def longest_answer(cases: Sequence[Case]) -> int:
    """Bytes of a program's answer that are read."""
    return SPARE + SPREAD * len(json.dumps([case["expect"] for case in cases]))


def first_difference(expected: Any, got: Any, place: str = "") -> str:
    """Find the first difference of two values of JSON.

    Parameters
    ----------
    expected, got : object
    place : str
        Path of the values, for the message.

    Returns
    -------
    str
        Place and description, "" if they are equal.
    """
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
    """Description of the error in a program's answer, "" if none."""
    if not isinstance(results, dict):
        return "the answer is no object of results by id"
    names = [case["id"] for case in cases]
    if absent := [name for name in names if name not in results]:
        return f"{len(absent)} of {len(names)} cases are missing, such as {absent[0]!r}"
    if unknown := results.keys() - set(names):
        return f"there is no case {min(unknown)[:60]!r}"
    found = [(name, first_difference(case["expect"], results[name])) for name, case in zip(names, cases, strict=True)]
    wrong = [f"case {name!r}: {difference}" for name, difference in found if difference]
    return f"{len(wrong)} of {len(names)} cases differ; {wrong[0]}" if wrong else ""


def read_answer(path: Path, most: int) -> tuple[Any, str]:
    """A program's output, at most so many bytes, and what is wrong with it as JSON."""
    try:
        return read_json(read_plain(path, most, links=False), most), ""
    except TooLarge:
        return None, f"the answer is larger than {most} bytes"
    except (FileNotFoundError, NotPlain):
        return None, "no answer was written"
    except OSError as error:
        return None, f"the answer cannot be read: {error.strerror}"
    except ValueError as error:
        return None, f"the answer is not JSON: {error}"


def asked(head: Mapping[str, Any], cases: Sequence[Case], words: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Write the file for a program under test.

    Parameters
    ----------
    head : mapping
        Fields of the unit file apart from its cases.
    cases : sequence of Case
    words : tuple of str
        The command template.
    folder : Path
        Receives ``unit.json``.

    Returns
    -------
    tuple of str
        The program's command.
    """
    unit, output = folder / "unit.json", folder / "output.json"
    unit.write_bytes(question(head, cases))
    return filled(words, {"unit": unit, "output": output})


def judged(cases: Sequence[Case], ended: process.Ended, folder: Path) -> tuple[Seen, Verdict]:
    """Score the answer of a program.

    Parameters
    ----------
    cases : sequence of Case
    ended : Ended
        How the program ended.
    folder : Path
        Contains ``output.json``, if the program wrote it.

    Returns
    -------
    Seen
        Reaction of the program.
    Verdict
        Result of the vector.
    """
    seen = outcomes.observe(ended)
    if seen.kind == "refused":
        return seen, Verdict(outcomes.FAIL, f"refused: {seen.detail or seen.error or 'no reason given'}")
    if seen.kind != "accepted":
        return seen, Verdict(seen.kind, seen.detail)
    results, trouble = read_answer(folder / "output.json", longest_answer(cases))
    trouble = trouble or compare(cases, results)
    return seen, Verdict(outcomes.FAIL, trouble) if trouble else Verdict(outcomes.PASS, f"{len(cases)} cases")
