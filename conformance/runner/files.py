"""Reports are written whole or not at all, and replace older ones."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from ..errors import OutputFailed


def write(path: Path, text: str) -> None:
    """Write a text as UTF-8; ``-`` is standard output.

    Raises
    ------
    OutputFailed
        The folder is missing, or the system refuses; nothing is left behind.
    """
    if str(path) == "-":
        sys.stdout.write(text)
        return
    part = ""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False) as file:
            part = file.name
            file.write(text)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except OSError as error:
        if part:
            Path(part).unlink(missing_ok=True)
        raise OutputFailed(f"{path}: cannot be written: {error.strerror}") from error


def check_target(path: Path | None) -> None:
    """Refuse a report that cannot be written before the work for it is done; raises OutputFailed."""
    if path is not None and str(path) != "-" and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise OutputFailed(f"{path}: not a file in a folder that can be written to")
