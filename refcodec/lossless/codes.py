"""Pixels as small codes and a stream of colours (SPEC 8.10): for pictures that use few colours or repeat them.

A code says where the pixel's colour comes from: from a short list of colours, from a neighbour that is already known,
or from the stream of colours, of which it takes the next. Codes are packed into bytes and coded as rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .inflate import Inflater, refuse
from .rows import RowsReader

LEFT, UP, UP_LEFT, UP_RIGHT = 1, 2, 4, 8
"""Bits of the neighbours that codes may name."""

_OFFSETS = {UP: 1, UP_LEFT: 0, UP_RIGHT: 2}
"""Place of a neighbour above pixel 0, in a row with one zero pixel at either side."""

HEAD_BYTES = 6
"""Form, number of colours and length of the codes."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Form:
    """Meaning of the codes (SPEC 8.10-14).

    Attributes
    ----------
    bits : int
        Bits per code: 1, 2, 4 or 8.
    neighbours : int
        Sum of the neighbours that have a code.
    colours : int
        Number of colours in the list, 0..255.
    """

    bits: int
    neighbours: int
    colours: int

    @property
    def codes(self) -> dict[int, int]:
        """The code of every neighbour."""
        named = [bit for bit in (LEFT, UP, UP_LEFT, UP_RIGHT) if self.neighbours & bit]
        return {bit: self.colours + place for place, bit in enumerate(named)}

    @property
    def next(self) -> int:
        """The code of the next colour of the stream, and the largest one."""
        return self.colours + self.neighbours.bit_count()

    def pack_head(self, length: int) -> bytes:
        """The bytes before the codes, which are ``length`` bytes."""
        form = self.neighbours | (self.bits.bit_length() - 1) << 4
        return bytes((form, self.colours)) + length.to_bytes(4, "little")


def packed(codes: Pixels, bits: int) -> Pixels:
    """Codes [n, w] in bytes [n, ceil(w * bits / 8)], the first one in the highest bits; rows end with zero bits."""
    n, width = codes.shape
    each = 8 // bits
    padded = np.zeros((n, -(-width // each), each), np.uint8)
    padded.reshape(n, -1)[:, :width] = codes
    shifts = np.arange(each - 1, -1, -1, dtype=np.uint8) * np.uint8(bits)
    return np.asarray(np.bitwise_or.reduce(padded << shifts, axis=2), np.uint8)


def unpacked(rows: Pixels, bits: int, width: int) -> Pixels:
    """The inverse of `packed`.

    Parameters
    ----------
    rows : np.ndarray [h, ceil(width bits / 8)], uint8
    bits : int
        Bits per code: 1, 2, 4 or 8.
    width : int
        Codes per row.

    Returns
    -------
    np.ndarray [h, width], uint8
    """
    shifts = np.arange(8 // bits - 1, -1, -1, dtype=np.uint8) * np.uint8(bits)
    codes = (rows[:, :, np.newaxis] >> shifts) & np.uint8((1 << bits) - 1)
    return np.ascontiguousarray(codes.reshape(len(rows), -1)[:, :width])


class CodesReader:
    """Reads pixels from top to bottom.

    Parameters
    ----------
    data : memoryview
        Form, list, codes and colours, and nothing behind them.
    at : int
        Offset of ``data`` in the stream, for messages.
    height, width, size : int
        Rows, pixels per row, and bytes per pixel.

    Raises
    ------
    ChunkError
        The head is no form of codes, or a part is longer or shorter than any for so many pixels.
    """

    def __init__(self, data: memoryview, at: int, height: int, width: int, size: int) -> None:
        if len(data) < HEAD_BYTES:
            refuse("samples are cut short", at, bytes=len(data), needed=HEAD_BYTES)
        form, colours, length = data[0], data[1], int.from_bytes(data[2:HEAD_BYTES], "little")
        self._form = Form(1 << (form >> 4 & 3), form & 15, colours)
        if form >> 6 or self._form.next > 1 << self._form.bits:
            refuse("codes have a form that is not allowed", at, form=form, colours=colours)
        if length > len(data) - HEAD_BYTES:
            refuse("codes are longer than their samples", at + 2, bytes=length, available=len(data) - HEAD_BYTES)
        end = HEAD_BYTES + length
        self._rows = RowsReader(data[HEAD_BYTES:end], at + HEAD_BYTES, height, -(-width * self._form.bits // 8), 1)
        self._colours = Inflater(data[end:], at + end, colours * size, (colours + height * width) * size)
        self._left, self._row, self._width, self._size = height, 0, width, size
        self._list: Pixels | None = None
        self._above = np.empty((0, size), np.uint8)

    @property
    def at(self) -> int:
        """Offset in the stream of the first byte of the codes that zlib has not read."""
        return self._rows.at

    def _next_colours(self, count: int) -> Pixels:
        colours = np.empty((count, self._size), np.uint8)
        if count:
            self._colours.into(colours.data.cast("B"))
        return colours

    def read(self, count: int) -> Pixels:
        """Read the next rows, at least 1 and not more than are left; with the last, check that both streams end.

        Returns
        -------
        [count, width, size] uint8

        Raises
        ------
        ChunkError
            A zlib stream is damaged, ends too early or too late, or a code has no meaning.
        """
        form = self._form
        if self._list is None:
            self._list = np.zeros((1 << form.bits, self._size), np.uint8)
            self._list[: form.colours] = self._next_colours(form.colours)
            self._above = np.zeros((self._width + 2, self._size), np.uint8)
        codes = unpacked(self._rows.read(count)[:, :, 0], form.bits, self._width)
        if form.next + 1 < 1 << form.bits and (largest := int(codes.max())) > form.next:
            row = int(np.flatnonzero((codes > form.next).any(axis=1))[0])
            refuse("a code has no meaning", self._rows.at, row=self._row + row, code=largest, largest=form.next)
        pixels = self._list[codes]
        if form.next < 1 << form.bits:
            new = codes == form.next
            pixels[new] = self._next_colours(int(np.count_nonzero(new)))
        if form.neighbours:
            self._copy(codes, pixels)
        self._row += count
        self._left -= count
        if not self._left:
            self._colours.finish()
        return pixels

    def _copy(self, codes: Pixels, pixels: Pixels) -> None:
        """Give the pixels whose code names a neighbour its colour, row by row."""
        width, above, of = self._width, self._above, self._form.codes
        places = np.arange(width)
        for row, row_codes in zip(pixels, codes, strict=True):
            for neighbour, offset in _OFFSETS.items():
                if neighbour in of:
                    same = row_codes == of[neighbour]
                    row[same] = above[offset : offset + width][same]
            if LEFT in of:
                # The last pixel up to here that has another code; -1 is the zero pixel left of the row.
                sources = np.maximum.accumulate(np.where(row_codes == of[LEFT], -1, places))
                row[...] = np.where(sources[:, np.newaxis] < 0, 0, row[sources])
            above[1:-1] = row
