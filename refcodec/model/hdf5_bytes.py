"""Bytes of a file that nobody vouches for: every offset and size is checked, and what is read is counted."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from ..errors import InvalidModel, ModelError

_WINDOW, _PIECE = 1 << 12, 1 << 20
"""Bytes that are read at once, of metadata and of stored arrays."""


class FileBytes:
    """The bytes of an open file by offset.

    Parameters
    ----------
    file : binary file, unbuffered, that can seek
    where : str
        Name of the file, for messages.

    Attributes
    ----------
    size : int
        Bytes of the file.
    walking : lock
        Of the thread that takes metadata; blocks are for any number of threads.

    Raises
    ------
    InvalidModel
        By every method: bytes outside the file, or more bytes than the file has.
    ModelError
        By every method that reads: the system cannot.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self.where = where
        self._file, self._lock = file, threading.Lock()
        self.size = file.seek(0, 2)
        self._left, self._spans = self.size, array("Q")
        self._window, self._window_at = b"", 0
        self.walking = threading.Lock()

    def inside(self, at: int, size: int) -> None:
        """Check that a block lies inside the file."""
        if at + size > self.size:
            raise InvalidModel(
                "a structure lies outside the file",
                where=self.where,
                offset=at,
                bytes=size,
                file_bytes=self.size,
                cause="the file is damaged or cut short",
            )

    def count(self, at: int, size: int) -> None:
        """(SPEC B.1-26) Count bytes of a structure. If no two structures overlap, they are no more than the file's.

        An empty structure counts as one byte, so that their number is bounded too.
        """
        with self._lock:
            self._left -= max(size, 1)
            self._spans.extend((at, at + size) if size else ())
        self._apart(self._left >= 0)

    def check_apart(self) -> None:
        """(SPEC B.1-26) Refuse the file if two of the structures that were counted share a byte."""
        spans = np.frombuffer(self._spans, np.uint64).reshape(-1, 2)
        spans = spans[np.argsort(spans[:, 0], kind="stable")]
        self._apart(bool((spans[1:, 0] >= spans[:-1, 1]).all()))

    def _apart(self, holds: bool) -> None:
        if not holds:
            raise InvalidModel("structures overlap", where=self.where, cause="the file is damaged")

    def pieces(self, at: int, size: int) -> Iterator[bytes]:
        """A block that lies inside the file, piece by piece; any number of threads may read."""
        for begin in range(at, at + size, _PIECE):
            yield self._read(begin, min(_PIECE, at + size - begin))

    def take(self, at: int, size: int) -> bytes:
        """Bytes of metadata, which are read ahead: by one thread at a time."""
        begin = at - self._window_at
        if begin < 0 or begin + size > len(self._window):
            self.inside(at, size)
            self._window = self._read(at, min(max(size, _WINDOW), self.size - at))
            self._window_at, begin = at, 0
        return self._window[begin : begin + size]

    def block(self, at: int, size: int) -> bytes:
        """Bytes of metadata, which are counted."""
        data = self.take(at, size)
        self.count(at, size)
        return data

    def known(self, holds: bool, structure: str) -> None:
        """Refuse a structure that SPEC B.1 does not name."""
        if not holds:
            raise InvalidModel(
                "a structure that model files do not have",
                where=self.where,
                structure=structure,
                cause="the file is damaged, or not written in the formats of HDF5 1.8 (libver v108)",
            )

    def _read(self, at: int, size: int) -> bytes:
        try:
            with self._lock:
                self._file.seek(at)
                data = self._file.read(size)
        except OSError as e:
            raise ModelError("the model file cannot be read", where=self.where, detail=str(e.strerror or e)) from e
        if len(data) != size:
            raise InvalidModel("the file became shorter while it was read", where=self.where)
        return data


__all__ = ["FileBytes"]
