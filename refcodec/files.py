"""Files of bytes: read whole, written whole or not at all. A dash is standard input or output."""

from __future__ import annotations

import io
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import MissingInput, OutputError, TransferError


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file; ``-`` is standard input.

    Raises
    ------
    MissingInput
        There is no such file, or it is a directory.
    TransferError
        Opening or reading fails.
    """
    with opened(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise transfer_error("reading", path, error) from error


@contextmanager
def opened(source: str | os.PathLike[str] | bytes) -> Iterator[IO[bytes]]:
    """Give a file, standard input (``-``) or bytes as an open file; raises as `read_bytes`."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    if os.fspath(source) == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(source, "rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        kind = "the input is a directory" if isinstance(error, IsADirectoryError) else "no such input"
        raise MissingInput(kind, where=str(source)) from error
    except OSError as error:
        raise transfer_error("opening", source, error) from error
    with file:
        yield file


def transfer_error(action: str, where: object, error: OSError) -> TransferError:
    """Say which transfer the system refused, and why."""
    return TransferError(f"{action} failed", where=str(where), cause=error.strerror or detail_of(error))


def detail_of(error: Exception) -> str:
    """Type and message of a foreign exception on one line."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]


def check_target(path: str | os.PathLike[str], force: bool) -> None:
    """Refuse a target that cannot be written, before the work for it is done.

    Raises
    ------
    OutputError
        The target exists and ``force`` is false, it is a directory, or its folder does not exist.
    """
    target = os.fspath(path)
    if target == "-":
        return
    if os.path.isdir(target):
        raise OutputError("the output is a directory", where=target)
    if os.path.isfile(target) and not force:
        raise OutputError("the output exists", where=target, cause="--force overwrites it")
    folder = os.path.dirname(target) or "."
    if not os.path.isdir(folder):
        raise OutputError("the output's folder does not exist", where=folder)


def write_bytes(path: str | os.PathLike[str], data: bytes, force: bool = False) -> None:
    """Write a file whole or not at all: beside the target under a temporary name, then renamed.

    ``-`` is standard output. A device or pipe is written to directly, a symbolic link is followed.

    Raises
    ------
    OutputError
        As `check_target`, or the file cannot be created.
    TransferError
        Writing failed; nothing is left behind.
    """
    check_target(path, force)
    if os.fspath(path) == "-":
        with _writing("standard output"):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return
    target = os.path.realpath(path)
    if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
        with _creating(target):
            device = open(target, "wb")
        with _writing(target), device:
            device.write(data)
        return
    part = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.part")
    with _creating(target):
        file = open(part, "xb")
    try:
        with _writing(target), file:  # closing may fail, too
            file.write(data)
        check_target(path, force)  # another process may have been faster
        with _creating(target):
            os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise


@contextmanager
def _creating(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # a name with a zero byte raises ValueError
        raise OutputError("the output cannot be created", where=where, cause=getattr(error, "strerror", None)
                          or detail_of(error)) from error


@contextmanager
def _writing(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # a closed stream raises ValueError
        raise TransferError("writing failed", where=where, cause=getattr(error, "strerror", None)
                            or detail_of(error)) from error


PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".webp", ".bmp", ".tif", ".tiff"}
"""Names by which commands that take a folder know its pictures."""


def list_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """Picture files of a folder, by their names' order.

    Raises
    ------
    MissingInput
        There is no such folder, or no picture in it.
    """
    place = Path(folder)
    if not place.is_dir():
        raise MissingInput("no such folder of pictures", where=str(folder))
    paths = sorted(p for p in place.glob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise MissingInput("no pictures", where=str(folder), kinds=sorted(PICTURE_SUFFIXES))
    return paths
