"""Runs that follow another: the vectors that failed, from its JSON report."""

from __future__ import annotations

from pathlib import Path

from ..kit.errors import UsageError
from ..kit.reading import read_plain
from ..kit.strict_json import read_json
from .outcomes import FAILURES
from .report import MAX_REPORT


def failed(path: Path) -> frozenset[str]:
    """Ids of the vectors that failed in a run, whatever its baseline said.

    Parameters
    ----------
    path : Path
        What ``run --json`` wrote.

    Raises
    ------
    UsageError
        It cannot be read, or is no report.
    """
    try:
        report = read_json(read_plain(path, MAX_REPORT), MAX_REPORT)
        return frozenset(str(entry["id"]) for entry in report["vectors"] if entry["outcome"] in FAILURES)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a report of run --json") from error
