"""Files that the runner itself writes: reports, whole or not at all, and temporary folders that decoders may damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..kit.errors import OutputFailed
from ..kit.text import put

_REMOVE = 'chmod -R u+rwx "$1"; rm -rf "$1"'
_PATIENCE = 60.0
"""Seconds for removing a folder."""


def write(path: Path, text: str) -> None:
    """Write a text as UTF-8, what UTF-8 cannot hold escaped; ``-`` is standard output.

    Raises
    ------
    OutputFailed
        The folder is missing, or the system refuses; nothing is left behind.
    """
    if str(path) == "-":
        put(text, sys.stdout)
        return
    part = ""
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".part", delete=False) as file:
            part = file.name
            file.write(text.encode("utf-8", "backslashreplace"))
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException as error:
        if part:
            Path(part).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputFailed(f"{path}: cannot be written: {error.strerror}") from error
        raise


def check_target(path: Path | None) -> None:
    """Refuse a report that cannot be written before the work for it is done; raises OutputFailed."""
    if path is not None and str(path) != "-" and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise OutputFailed(f"{path}: not a file in a folder that can be written to")


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder that is removed in the end, in any state that a program left it in.

    Parameters
    ----------
    parent : Path or None
        Folder for it, made again if a program removed it; None for the system's.
    """
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="conformance-", dir=parent))
    try:
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a folder, or what a program put in its place; never raises OSError.

    Python's own way fails on folders without permissions and on thousands of them inside each other; the system's
    tools do not.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)
    except (OSError, RecursionError):
        try:
            subprocess.run(
                ["/bin/sh", "-c", _REMOVE, "sh", str(path)],
                stdin=subprocess.DEVNULL,
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.TimeoutExpired):
            return
