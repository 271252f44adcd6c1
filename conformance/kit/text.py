"""Text and names from files of others: the one function for each place where they could do harm.

`is_name` decides about names that become part of a path; `printable` makes text safe for terminals and reports.
"""

from __future__ import annotations

import re
import sys
from typing import Any, TextIO

from .errors import OutputFailed

MAX_NAME = 100
"""Characters of a name: with the endings that are added, a file name stays below the 255 bytes of common systems."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]*")


def is_name(text: str) -> bool:
    """Whether a text may become part of a path: letters, digits and ._+=,-; a letter or digit first.

    Such a name is never ".", ".." or empty, names no folder above, and is no option of a command.
    """
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def as_name(text: str) -> str:
    """The name nearest to a text: other characters become dashes."""
    kept = re.sub(r"[^A-Za-z0-9._+=,-]", "-", text)[: MAX_NAME - 1]
    return kept if is_name(kept) else f"x{kept}"


def printable(text: str) -> str:
    """Text that a terminal, HTML, XML and UTF-8 take as it is: control characters, lone surrogates are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def cleaned(value: Any) -> Any:
    """A value of JSON in which every text and every name is `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(name): cleaned(part) for name, part in value.items()}
    return [cleaned(part) for part in value] if isinstance(value, list) else value


def say(line: str) -> None:
    """Print a line on standard output, printable on every terminal."""
    put(f"{printable(line)}\n", sys.stdout)


def put(text: str, stream: TextIO | None) -> None:
    """Write text to a stream, if it is open; characters that its encoding lacks are escaped.

    Raises
    ------
    OutputFailed
        The system refuses.
    BrokenPipeError
        Nobody reads any more.
    """
    if stream is None:  # it was closed before Python started
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"{getattr(stream, 'name', 'output')}: cannot be written: {error.strerror}") from error
