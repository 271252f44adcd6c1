"""JSON from strangers, taken apart strictly: what is missing, unknown or of another kind is one clear line."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .errors import KitError, SuiteDamaged

_HEX = re.compile(r"[0-9a-f]+")
_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text", int: "an integer", bool: "true or false"}


MAX_DEPTH = 32
"""Lists and objects inside each other: the kit's own files have at most 10."""

MAX_DIGITS = 40
"""Characters of a number: Python's time for longer ones grows with their square, and 2^64 has 20 digits."""


def show(value: Any) -> str:
    """A value for a message, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{name[:60]!r} occurs twice in an object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} characters")
    return int(text)


def _real(text: str) -> float:
    value = float(text) if len(text) <= MAX_DIGITS else math.inf
    if math.isinf(value):
        raise ValueError(f"the number {text[:MAX_DIGITS]} is too large or too long")
    return value


def read_json(data: bytes, most: int = 1 << 24) -> Any:
    """Parse JSON from others, strictly.

    Time and memory are bounded by a small factor of the data's size: a list in three bytes is the worst, and takes
    about forty times as much.

    Parameters
    ----------
    data : bytes
    most : int
        Most bytes that are parsed.

    Raises
    ------
    ValueError
        It is not JSON in UTF-8, or is longer than ``most``; an object has a name twice; a number is NaN, infinite or
        longer than `MAX_DIGITS`; the nesting is deeper than `MAX_DEPTH`; a text has half of a surrogate pair, which
        no UTF-8 can hold.
    """
    if len(data) > most:
        raise ValueError(f"{len(data)} bytes, at most {most} are read")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_real,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    level, depth = [value], 0
    while level := [part for part in level if isinstance(part, (list, dict))]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    if b"\\u" in data:  # the only way to half a pair: the decoder of UTF-8 refuses it
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text has half of a surrogate pair") from error
    return value


class Fields:
    """A JSON object that is taken apart field by field; what is left over at the `end` is an error.

    Parameters
    ----------
    value : object
        As parsed.
    where : str
        What it is, for messages.
    error : type
        The `KitError` that is raised.
    """

    def __init__(self, value: Any, where: str, error: type[KitError] = SuiteDamaged) -> None:
        self.where, self._error = where, error
        if not isinstance(value, dict):
            raise self.wrong(f"an object is expected, got {show(value)}")
        self._left = dict(value)

    def wrong(self, what: str) -> KitError:
        """The error that says what is wrong here."""
        return self._error(f"{self.where}: {what}")

    def take(self, name: str, kind: type, default: Any = ...) -> Any:
        """Take a field of a type.

        Parameters
        ----------
        name : str
        kind : type
            Of its value; bool is no int.
        default : object
            Value of a missing field; without it a missing field is an error.

        Returns
        -------
        object

        Raises
        ------
        KitError
            The field is missing or of another type.
        """
        if name not in self._left:
            if default is ...:
                raise self.wrong(f"{name!r} is missing")
            return default
        value = self._left.pop(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(f"{name!r} is {show(value)}, expected {_KINDS[kind]}")
        return value

    def number(self, name: str, low: int, high: int) -> int:
        """Take an integer.

        Parameters
        ----------
        name : str
        low, high : int
            Allowed range, both ends included.

        Returns
        -------
        int
        """
        value: int = self.take(name, int)
        if not low <= value <= high:
            raise self.wrong(f"{name!r} is {show(value)}, allowed are {low}..{high}")
        return value

    def text(self, name: str) -> str:
        """A text that is not empty."""
        value: str = self.take(name, str)
        if not value.strip():
            raise self.wrong(f"{name!r} is empty")
        return value

    def optional(self, name: str) -> str | None:
        """A text that is not empty; None where the field is missing or null."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return None
        return self.text(name)

    def texts(self, name: str, default: Any = ...) -> tuple[str, ...]:
        """A list of different texts."""
        values = self.take(name, list, default)
        if not all(isinstance(v, str) for v in values) or len(set(values)) != len(values):
            raise self.wrong(f"{name!r} is {show(values)}, expected different texts")
        return tuple(values)

    def hexadecimal(self, name: str, digits: int) -> str:
        """A text of lower-case hexadecimal digits."""
        value: str = self.take(name, str)
        if len(value) != digits or not _HEX.fullmatch(value):
            raise self.wrong(f"{name!r} is {show(value)}, expected {digits} lower-case hexadecimal digits")
        return value

    def one_of(self, name: str, allowed: Sequence[str], default: Any = ...) -> str:
        """Take one of several texts.

        Parameters
        ----------
        name : str
        allowed : sequence of str
        default : object
            As in `take`.

        Returns
        -------
        str
        """
        value: str = self.take(name, str, default)
        if value not in allowed:
            raise self.wrong(f"{name!r} is {show(value)}, allowed are {', '.join(allowed)}")
        return value

    def end(self) -> None:
        """Nothing may be left."""
        if self._left:
            raise self.wrong(f"unknown field {min(self._left)[:60]!r}")
