"""Rows of bytes as one zlib stream (SPEC 8.10): a filter byte and the filtered bytes of every row, as in PNG.

Both directions work strip by strip, so their memory is that of a strip.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from .filters import FILTERS, Filters, filter_rows, unfilter
from .inflate import Inflater, refuse


class RowsReader:
    """Reads rows from top to bottom.

    Parameters
    ----------
    data : memoryview
        The zlib stream and nothing behind it.
    at : int
        Offset of ``data`` in the stream, for messages.
    height, width, size : int
        Rows, pixels per row, and bytes per pixel.

    Raises
    ------
    ChunkError
        ``data`` is longer or shorter than any zlib stream of so many rows.
    """

    def __init__(self, data: memoryview, at: int, height: int, width: int, size: int) -> None:
        inflated = height * (1 + width * size)
        self._inflater = Inflater(data, at, inflated, inflated)
        self._left, self._row, self._width, self._size = height, 0, width, size
        self._above: NDArray[np.uint8] | None = None

    @property
    def at(self) -> int:
        """Offset in the stream of the first byte that zlib has not read."""
        return self._inflater.at

    def read(self, count: int) -> NDArray[np.uint8]:
        """Read the next rows; with the last, check that the zlib stream ends.

        Parameters
        ----------
        count : int
            Number of rows, at least 1 and not more than are left.

        Returns
        -------
        [count, width, size] uint8

        Raises
        ------
        ChunkError
            The zlib stream is damaged, ends too early or too late, or a filter is unknown.
        """
        flat = np.empty((count, 1 + self._width * self._size), np.uint8)
        self._inflater.into(flat.data.cast("B"))
        filters = np.ascontiguousarray(flat[:, 0])
        if (unknown := np.flatnonzero(filters >= FILTERS)).size:
            row = int(unknown[0])
            refuse("a row has an unknown filter", self._inflater.at, row=self._row + row, filter=int(filters[row]))
        rows = np.ascontiguousarray(flat[:, 1:]).reshape(count, self._width, self._size)
        if self._above is None:
            self._above = np.zeros((self._width, self._size), np.uint8)
        unfilter(rows, filters, self._above)
        self._above[...] = rows[-1]
        self._row += count
        self._left -= count
        if not self._left:
            self._inflater.finish()
        return rows


class RowsWriter:
    """Writes rows from top to bottom.

    Parameters
    ----------
    choice : Filters
        How the filter of a row is chosen.
    level, strategy : int
        zlib's.
    """

    def __init__(self, choice: Filters, level: int, strategy: int) -> None:
        self._choice = choice
        self._zlib = deflater(level, strategy)
        self._above: NDArray[np.uint8] | None = None
        self._parts: list[bytes] = []

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Code the next rows, [n, width, size] uint8."""
        above = np.zeros_like(rows[0]) if self._above is None else self._above
        self._parts.append(self._zlib.compress(filter_rows(rows, above, self._choice).data))
        self._above = rows[-1].copy()

    def finish(self) -> bytes:
        """The zlib stream."""
        return b"".join((*self._parts, self._zlib.flush()))


def deflater(level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> zlib._Compress:
    """A compressor with the largest window and the longest blocks."""
    return zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL + 1, strategy)
