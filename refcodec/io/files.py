"""Files of bytes: read whole, written whole or not at all. A dash is standard input or output."""

from __future__ import annotations

import io
import mmap
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from ..bitstream.container import longest_stream, parse_header, parse_index
from ..bitstream.fields import HEADER_SIZE
from ..errors import LimitExceeded, MissingInput, OutputError, TransferError
from ..limits import Limits


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file; ``-`` is standard input.

    Raises
    ------
    MissingInput
        There is no such file, it is a directory, or standard input is closed.
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
        if sys.stdin is None:
            raise MissingInput("standard input is closed", where="-")
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
    """Describe a transfer that the system refused, and why.

    Parameters
    ----------
    action : str
        "reading" or "writing", for instance.
    where : object
        The file, as errors name it.
    error : OSError
        Its message is the cause.

    Returns
    -------
    TransferError
    """
    return TransferError(f"{action} failed", where=str(where), cause=error.strerror or detail_of(error))


def detail_of(error: Exception) -> str:
    """Type and message of a foreign exception on one line."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]


def read_stream(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """Read a stream from a file or from standard input (``-``); raises as `read_bytes` and `stream_from`."""
    with opened(path) as file:
        return stream_from(file, limits, str(path))


def mapped_stream(path: str | os.PathLike[str], limits: Limits) -> bytes | memoryview:
    """A stream of which only the parts that are looked at are read; a pipe is read as `read_stream` does.

    Raises
    ------
    MissingInput, TransferError
        As `read_bytes`.
    """
    with opened(path) as file:
        if os.fspath(path) != "-":
            with suppress(OSError, ValueError):  # a pipe, a device, or an empty file
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return stream_from(file, limits, str(path))


_PIECE = 1 << 20

STREAM_COPIES = 4
"""Times that a stream is in memory at most: as it is read, whole, and in its parts of which one is copied again."""


def stream_from(file: IO[bytes], limits: Limits, where: str) -> bytes:
    """Read a stream from an open file, and no more than its header announces.

    The header is read and checked first, so what is no stream is refused after 52 bytes, then the index. The rest is
    read up to the longest stream that both allow, if that and its copies fit into the memory that ``limits`` allow.

    Parameters
    ----------
    file : binary file
        Open for reading, at the beginning of the stream.
    limits : Limits
        ``max_memory`` limits the length of the stream.
    where : str
        The place that errors name.

    Returns
    -------
    bytes
        The stream, with one more byte if the file is longer than the header allows.

    Raises
    ------
    TransferError
        Reading fails.
    BadMagic, UnknownVersion, TruncatedStream, HeaderError
        As `refcodec.bitstream.container.parse_header`.
    LimitExceeded
        The input is too long for the memory allowed.
    """
    try:
        data = bytearray(file.read(HEADER_SIZE))
        header = parse_header(data)
        data += file.read(max(0, header.size + header.index_size - len(data)))
        longest = longest_stream(header, parse_index(data, header))
        allowed = longest if limits.max_memory is None else min(longest, limits.max_memory // STREAM_COPIES)
        while len(data) <= allowed and (more := file.read(min(_PIECE, allowed + 1 - len(data)))):
            data += more  # one byte more than allowed shows that there is more
    except OSError as error:
        raise transfer_error("reading", where, error) from error
    if len(data) > allowed < longest:
        raise LimitExceeded(
            "the stream is too long for the memory allowed",
            where=where,
            longest=allowed,
            max_memory=limits.max_memory,
            cause="raise max_memory (--max-memory)",
        )
    return bytes(data)


def check_target(path: str | os.PathLike[str], force: bool, *inputs: str | os.PathLike[str]) -> None:
    """Refuse a target that cannot be written, before the work for it is done.

    Parameters
    ----------
    path : str or path
        The target; ``-`` is standard output.
    force : bool
        The target may exist.
    *inputs : str or path
        Files that the work reads: none of them may be the target, by any name or link.

    Raises
    ------
    OutputError
        The target is one of the inputs, it exists and ``force`` is false, it is a directory, its folder does not exist
        or cannot be written, or it is a link that is not followed (`_followed`).
    """
    target = os.fspath(path)
    if target == "-":
        return
    if os.path.isdir(target) or not os.path.basename(target):
        raise OutputError("the output is a directory", where=target)
    for source in inputs:
        if (
            os.fspath(source) != "-"
            and os.path.exists(target)
            and os.path.exists(source)
            and os.path.samefile(source, target)
        ):
            raise OutputError("the output is the input", where=target, cause="it would be lost: name another file")
    if (os.path.isfile(target) or (os.path.islink(target) and not os.path.exists(target))) and not force:
        raise OutputError("the output exists", where=target, cause="--force overwrites it")
    place = _followed(target)
    folder = os.path.dirname(place) or "."
    device = _is_device(target)
    if not device and not os.path.isdir(folder):
        raise OutputError("the output's folder does not exist", where=folder)
    if not os.access(target if device else folder, os.W_OK):
        raise OutputError(
            "the output cannot be created", where=target if device else folder, cause="no permission to write there"
        )


def _is_device(target: str) -> bool:
    """Whether the target is written to directly. Links to pipes, as /dev/stdout may be, lead to no name of a file."""
    return os.path.exists(target) and not os.path.isfile(target)


def _followed(target: str) -> str:
    """The file that a name leads to: a symbolic link is followed.

    As in Linux (``fs.protected_symlinks``), a link in a folder where everybody may write and only owners may delete is
    followed only if it belongs to this user or to the folder's owner: anybody else could choose where the output goes.

    Raises
    ------
    OutputError
    """
    with _creating(target):  # the name may be too long
        try:
            link, folder = os.lstat(target), os.stat(os.path.dirname(target) or ".")
        except (FileNotFoundError, NotADirectoryError):  # there is no link
            return os.path.realpath(target)
    shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
    if stat.S_ISLNK(link.st_mode) and shared and link.st_uid not in (os.geteuid(), folder.st_uid):
        raise OutputError(
            "the output is another user's link in a shared folder", where=target, cause="name another file"
        )
    return os.path.realpath(target)


class Output:
    """A file that `writing` has opened; a write that the system refuses is a TransferError."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self._file, self._where = file, where

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        with _transferring(self._where):
            self._file.write(data)


def write_bytes(path: str | os.PathLike[str], data: bytes, force: bool = False) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : path
    data : bytes
    force : bool
        Replace an existing file.

    Raises
    ------
    OutputError, TransferError
        As `writing`.
    """
    with writing(path, force) as out:
        out.write(data)


@contextmanager
def writing(path: str | os.PathLike[str], force: bool = False) -> Iterator[Output]:
    """Write a file whole or not at all: next to the target under a temporary name, renamed at the end of the block.

    If the block raises, nothing is left behind. ``-`` is standard output. A device or pipe is written to directly, a
    symbolic link is followed. A file that is replaced keeps its permissions; other hard links to it keep the old
    content.

    Raises
    ------
    OutputError
        As `check_target`, or the file cannot be created.
    TransferError
        Writing failed.
    """
    check_target(path, force)
    if os.fspath(path) == "-":
        if sys.stdout is None:
            raise TransferError("writing failed", where="standard output", cause="it is closed")
        yield Output(sys.stdout.buffer, "standard output")
        with _transferring("standard output"):
            sys.stdout.buffer.flush()
        return
    target = os.fspath(path)
    if _is_device(target):
        with _creating(target):
            device = open(target, "wb")
        with _closed(device, target):
            yield Output(device, target)
        return
    target = _followed(target)
    mode = stat.S_IMODE(os.stat(target).st_mode) if os.path.exists(target) else None
    with ExitStack() as stack:
        with _creating(target):
            file = stack.enter_context(replacing(target, mode))
        with _closed(file, target):
            yield Output(file, target)
        check_target(path, force)  # another process may have been faster
        with _creating(target):
            stack.close()


@contextmanager
def _closed(file: IO[bytes], where: str) -> Iterator[None]:
    """Close a file at the end of the block, which may fail like any write; an error of the block comes first."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    with _transferring(where):
        file.close()


@contextmanager
def replacing(target: str | os.PathLike[str], mode: int | None = None) -> Iterator[IO[bytes]]:
    """Give a new file that takes the target's place when the block ends, and is removed if the block raises.

    Parameters
    ----------
    target : str or path
    mode : int or None
        Permissions of the file. Until it is whole, nobody else can read it.

    Raises
    ------
    OSError
    """
    part = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.part")
    file = open(part, "xb", opener=None if mode is None else partial(os.open, mode=0o600))
    try:
        with file:
            yield file
        if mode is not None:
            os.chmod(part, mode)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise


def user_home() -> Path | None:
    """Home of the user; None for an unknown user without HOME."""
    with suppress(RuntimeError, OSError):
        return Path.home().resolve()
    return None


def user_cache() -> Path | None:
    """Where this system keeps a user's caches; None for a user without a home."""
    home = user_home()
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or (home and home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home and home / "Library" / "Caches"
    else:
        folder = os.environ.get("XDG_CACHE_HOME") or (home and home / ".cache")
    return Path(folder) / "refcodec" if folder and os.path.isabs(folder) else None


@contextmanager
def _creating(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # a name with a zero byte raises ValueError
        raise OutputError(
            "the output cannot be created", where=where, cause=getattr(error, "strerror", None) or detail_of(error)
        ) from error


@contextmanager
def _transferring(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # a closed stream raises ValueError
        raise TransferError(
            "writing failed", where=where, cause=getattr(error, "strerror", None) or detail_of(error)
        ) from error


PICTURE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".webp", ".avif", ".gif", ".bmp"),
    *(".tif", ".tiff", ".jp2", ".j2k", ".tga", ".qoi", ".pcx"),
}
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
