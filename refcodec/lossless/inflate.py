"""A zlib stream (RFC 1950) whose inflated bytes are counted: exactly so many, and nothing behind it (SPEC 8.10)."""

from __future__ import annotations

import zlib
from typing import NoReturn

from ..errors import ChunkError

_PIECE = 1 << 15
"""Compressed bytes that zlib is given at once: it copies what it leaves unread."""

_INFLATION = 1032
"""Most bytes that one byte of a zlib stream inflates to."""

_CAUSE = "the stream is damaged or its writer is faulty"


def longest(inflated: int) -> int:
    """(SPEC 8.10-7) Bytes of the longest zlib stream that may hold so many bytes."""
    return 2 * inflated + 64


def refuse(what: str, at: int, **values: object) -> NoReturn:
    """Raise the ChunkError of lossless samples.

    Parameters
    ----------
    what : str
        The message.
    at : int
        Offset in the stream.
    **values
        Further values of the message.

    Raises
    ------
    ChunkError
    """
    raise ChunkError(what, where=f"byte {at} (SPEC 8.10)", cause=_CAUSE, **values)


class Inflater:
    """Inflates as many bytes as are asked for, and no more.

    Parameters
    ----------
    data : memoryview
        The zlib stream and nothing behind it.
    at : int
        Offset of ``data`` in the stream, for messages.
    least, most : int
        Bounds of the bytes that will be asked for. They are compared with the length of ``data`` before anything is
        inflated.

    Raises
    ------
    ChunkError
        By every method: ``data`` is too short or too long, damaged, or inflates to fewer or more bytes than its reader
        needs.
    """

    def __init__(self, data: memoryview, at: int, least: int, most: int) -> None:
        if len(data) > longest(most):
            refuse("a zlib stream is too long for its samples", at, bytes=len(data), longest=longest(most))
        if least > _INFLATION * len(data):
            refuse("a zlib stream is cut short", at, bytes=len(data), inflated=least)
        self._data, self._at, self._position = data, at, 0
        self._zlib = zlib.decompressobj()

    @property
    def at(self) -> int:
        """Offset in the stream of the first byte that zlib has not read."""
        unread = len(self._zlib.unconsumed_tail) + len(self._zlib.unused_data)
        return self._at + self._position - unread

    def _step(self, most: int) -> bytes:
        """The next inflated bytes, 1 to ``most``; none at the end of the zlib stream."""
        while not self._zlib.eof:
            piece: bytes | memoryview = self._zlib.unconsumed_tail
            if not piece:
                piece = self._data[self._position : self._position + _PIECE]
                self._position += len(piece)
            try:
                out = self._zlib.decompress(piece, most)
            except zlib.error as error:
                refuse("a zlib stream is damaged", self.at, detail=str(error))
            if out:
                return out
            if not len(piece) and not self._zlib.eof:
                refuse("a zlib stream is cut short", self.at)
        return b""

    def into(self, out: memoryview) -> None:
        """Fill flat bytes with the next inflated ones."""
        done = 0
        while done < len(out):
            piece = self._step(len(out) - done)
            if not piece:
                refuse("a zlib stream ends before its samples do", self.at, missing=len(out) - done)
            out[done : done + len(piece)] = piece
            done += len(piece)

    def finish(self) -> None:
        """Check that the zlib stream ends here, and nothing follows it."""
        if self._step(1):
            refuse("a zlib stream inflates to more than its samples", self.at)
        if follow := self._at + len(self._data) - self.at:
            refuse("bytes follow a zlib stream", self.at, bytes=follow)
