"""Reads files that others left: plain files only, and never more of them than a limit.

A decoder under test, or an archive with a kit, can leave a pipe, a device, a link or a huge sparse file under the
name of a picture. Opening a pipe waits for its other end, and reading a device never ends.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


class NotPlain(OSError):
    """The name belongs to something else than a plain file."""


class TooLarge(OSError):
    """The file is larger than it may be."""


def open_plain(path: Path, links: bool = True) -> BinaryIO:
    """Open a plain file for reading, without waiting.

    Parameters
    ----------
    path : Path
    links : bool
        Whether the last part of the path may be a symbolic link.

    Raises
    ------
    OSError
        `NotPlain` for links that are not wanted, folders, pipes, sockets and devices; others as `open` raises them.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW))
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, "not the name of a file") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EOPNOTSUPP):  # a link; a socket or pipe
            raise NotPlain(error.errno, "not a plain file") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotPlain(errno.EINVAL, "not a plain file")
    return os.fdopen(handle, "rb")


def read_plain(path: Path, most: int, links: bool = True) -> bytes:
    """The bytes of a plain file.

    Parameters
    ----------
    path : Path
    most : int
        Most bytes that it may have; the size is looked at before memory is taken.
    links : bool
        As for `open_plain`.

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        As `open_plain`.
    TooLarge
        The file has more bytes.
    """
    with open_plain(path, links) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise TooLarge(errno.EFBIG, f"it has {size} bytes, allowed are {most}")
        return file.read(size)
