"""Notes and times of files, for both directions."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import OutputError, UsageError
from ..io.files import detail_of

Told = Callable[[str], None]
"""Is given a line for a person."""


class Notes(list[str]):
    """Notes on a file, which are told as they arise.

    Parameters
    ----------
    tell : callable or None
    """

    def __init__(self, tell: Told | None) -> None:
        super().__init__()
        self._tell = tell

    def say(self, text: str) -> None:
        """Note a line."""
        self.append(text)
        if self._tell:
            self._tell(text)


def check_files(source: object, out: object) -> None:
    """Refuse what are no names of files; UsageError."""
    for name, path in (("source", source), ("out", out)):
        if not isinstance(path, (str, os.PathLike)):
            raise UsageError("a file is given by its name, as str or path", where=name, type=type(path).__name__)


def times_of(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Times of access and change of a file in nanoseconds; None if it is not there, for which reading has the error."""
    if "-" in (os.fspath(source), os.fspath(out)):
        raise UsageError("a pipe has no times to keep", where="--keep-times")
    try:
        found = os.stat(source)
    except (OSError, ValueError):
        return None
    return found.st_atime_ns, found.st_mtime_ns


def set_times(out: str | os.PathLike[str], times: tuple[int, int]) -> None:
    """Give a file these times of access and change; raises OutputError."""
    try:
        os.utime(out, ns=times)
    except OSError as error:
        raise OutputError("the times cannot be kept", where=str(out), detail=detail_of(error)) from error


__all__ = ["Notes", "Told", "check_files", "set_times", "times_of"]
