"""Output of the command line: results on standard output, messages and progress on standard error.

Every text that reaches a terminal passes `printable`: names of files and metadata may hold control sequences.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from .files import transfer_error

LEVELS = ("error", "note", "debug")
"""Levels of messages on standard error: why a command failed; notes for users; where in the code an error arose."""

_level = "note"


def set_level(level: str) -> None:
    """Choose one of ``LEVELS`` for this process."""
    global _level
    _level = level


def debugging() -> bool:
    """Whether errors show where they arose: the level is "debug", or ``REFCODEC_DEBUG`` is set."""
    return _level == "debug" or bool(os.environ.get("REFCODEC_DEBUG"))


def printable(text: str) -> str:
    """One line that any terminal shows as it is: control characters and bytes that are no text are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def result(line: str) -> None:
    """Print one line of results; what the encoding of standard output lacks is escaped.

    Raises
    ------
    TransferError
        Standard output takes no more, for instance because its disk is full.
    BrokenPipeError
        Nobody reads standard output any more.
    """
    if sys.stdout is not None:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        with _printing():
            print(printable(line).encode(encoding, "backslashreplace").decode(encoding))


def flush_results() -> None:
    """Write out what `result` has printed; raises as it does."""
    if sys.stdout is not None:
        with _printing():
            sys.stdout.flush()


@contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise transfer_error("writing", "standard output", error) from error


def result_json(values: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    result(json.dumps(values, allow_nan=False, default=str))


def note(text: str) -> None:
    """Print one message line; a standard error that is closed or broken changes no result."""
    if _level != "error":
        _write(f"refcodec: {printable(text)}\n")


def error_line(text: str) -> None:
    """Print one line that says why the command failed."""
    _write(f"refcodec: error: {printable(text)}\n")


def _write(text: str) -> None:
    if sys.stderr is not None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            pass


@contextmanager
def progress(action: str) -> Iterator[Callable[[float], None] | None]:
    """Give a function that shows which share of the work, 0 to 1, is done; None where standard error is no terminal."""
    with activity() as show:
        if show is not None:
            show(action, 0)
        yield None if show is None else partial(show, action)


@contextmanager
def activity() -> Iterator[Callable[[str, float], None] | None]:
    """As `progress`, for work whose parts have names: the function takes the name, and the share of all parts."""
    if not _on_terminal():
        yield None
        return
    shown = ""
    with progress_line() as line:

        def show(action: str, share: float) -> None:
            nonlocal shown
            if (text := f"{action} {int(100 * min(share, 1)):3d} %") != shown:
                shown = text
                line(text)

        yield show


def _on_terminal() -> bool:
    return _level != "error" and sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """Give a function that shows a line in place of the one before; it shows nothing where there is no terminal."""
    shown = _on_terminal()
    try:
        yield lambda text: _write(f"\r{printable(text)}\033[K") if shown else None
    finally:
        if shown:
            _write("\r\033[K")
