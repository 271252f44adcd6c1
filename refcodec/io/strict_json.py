"""JSON objects from files that are not trusted: UTF-8, no NaN, no infinities, no runaway nesting or digits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import InvalidModel


def json_object(
    data: bytes,
    where: str,
    what: str,
    number: Callable[[str], Any] | None = None,
    integer: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Read one JSON object.

    Parameters
    ----------
    data : bytes
    where, what : str
        Place and name of the text, for errors.
    number : callable or None
        Gives the value of a number with a fraction or an exponent; None refuses what is too large for a float.
    integer : callable or None
        Gives the value of another number; None refuses thousands of digits.

    Returns
    -------
    dict
        The object; a name that occurs twice is refused.

    Raises
    ------
    InvalidModel
        The text is no JSON, or no object.
    """
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refused,
            parse_float=number or _finite,
            parse_int=integer,
        )
    except (ValueError, RecursionError) as error:  # integers of thousands of digits and deep nesting as well
        raise InvalidModel(f"{what} is no JSON", where=where, detail=str(error)[:200]) from error
    if not isinstance(found, dict):
        raise InvalidModel(f"{what} is no JSON object", where=where)
    return found


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(items)) != len(items):
        raise ValueError("a key appears twice")
    return found


def _refused(word: str) -> NoReturn:
    raise ValueError(f"{word[:40]} is no number of JSON")


def _finite(digits: str) -> float:
    return value if math.isfinite(value := float(digits)) else _refused(digits)
