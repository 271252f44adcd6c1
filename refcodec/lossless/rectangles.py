"""Rectangles whose samples are stored without loss (SPEC 8.11): the payload of LOSS in a stream that is not lossless.

Each rectangle has its own payload (SPEC 8.10), so a region decodes only the rectangles that it meets. Everything that
the list says is checked before memory is taken for samples.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import ChunkError, UsageError
from .samples import STRIP_BYTES, SamplesReader, Source, encode_samples, longest_samples

MAX_RECTANGLES = 1 << 16
"""Most rectangles of a stream, and not more than the padded picture has blocks (SPEC 8.11-2)."""

MAX_ABREAST = 256
"""Most rectangles that share a row of the picture (SPEC 8.11-6): a decoder that goes from top to bottom has so many
inflaters at once, each of about 50 KB."""

BLOCK = 64
"""Side of the blocks whose number bounds the rectangles of a picture, and of which an encoder makes them."""

_COUNT, _ENTRY = struct.Struct("<I"), struct.Struct("<5I")


class Rectangle(NamedTuple):
    """A rectangle of a picture, in pixels."""

    y: int
    x: int
    width: int
    height: int


def fault(rectangles: Sequence[Rectangle], width: int, height: int) -> tuple[int, str] | None:
    """(SPEC 8.11-3 to 8.11-6) The first rectangle that breaks a rule, and the rule; None if there is none.

    A sweep from top to bottom keeps the rectangles that are open in the order of x. They do not overlap, so a new one
    can only meet its two neighbours: n rectangles take O(n log n) steps.

    Parameters
    ----------
    rectangles : sequence of Rectangle
        (y, x, width, height) in samples.
    width, height : int
        Samples of the picture.

    Returns
    -------
    (int, str) or None
        Index of the first rectangle that breaks a rule, and the rule; None if there is none.
    """
    open_x: list[tuple[int, int]] = []  # first and last column + 1, sorted
    ends: list[tuple[int, int, int]] = []  # a heap: row behind the rectangle, then its columns
    before = (-1, -1)
    for i, (y, x, w, h) in enumerate(rectangles):
        if not (w and h and x + w <= width and y + h <= height):
            return i, "a rectangle is empty or not inside the picture"
        if (y, x) <= before:
            return i, "rectangles are not in raster order"
        before = (y, x)
        while ends and ends[0][0] <= y:
            _, *columns = heappop(ends)
            del open_x[bisect_left(open_x, (columns[0], columns[1]))]
        place = bisect_left(open_x, (x, 0))
        if (place and open_x[place - 1][1] > x) or (place < len(open_x) and open_x[place][0] < x + w):
            return i, "rectangles overlap"
        if len(open_x) == MAX_ABREAST:
            return i, f"more than {MAX_ABREAST} rectangles share a row"
        insort(open_x, (x, x + w))
        heappush(ends, (y + h, x, x + w))
    return None


def most_rectangles(height: int, width: int) -> int:
    """(SPEC 8.11-2) Most rectangles that such a picture may have."""
    return min(MAX_RECTANGLES, -(-height // BLOCK) * -(-width // BLOCK))


def longest_rectangles(height: int, width: int, channels: int) -> int:
    """(SPEC 8.11-11) Longest payload of rectangles; a sum of `longest_samples`.

    Parameters
    ----------
    height, width, channels : int
        Of the picture.

    Returns
    -------
    int
        Bytes.
    """
    count = most_rectangles(height, width)
    pixels = longest_samples(height, width, channels) - longest_samples(0, 0, channels)
    rows = 2 * height * min(width, MAX_ABREAST)  # a filter byte for every row of every rectangle
    return _COUNT.size + count * (_ENTRY.size + longest_samples(0, 0, channels)) + pixels + rows


def pack_rectangles(rectangles: Iterable[Rectangle], source: Source, width: int, height: int, channels: int) -> bytes:
    """(SPEC 8.11) Code the samples of rectangles.

    Parameters
    ----------
    rectangles : iterable of Rectangle
        In raster order, without overlap, 1 to `most_rectangles`.
    source : callable
        Gives strips of the picture.
    width, height, channels : int
        Size of the picture.

    Returns
    -------
    bytes
        The payload that `Rectangles` reads.

    Raises
    ------
    UsageError
        The rectangles are ones that a decoder would refuse.
    """
    rectangles = list(rectangles)
    most = most_rectangles(height, width)
    if not 1 <= len(rectangles) <= most:
        raise UsageError("there are too few or too many rectangles", count=len(rectangles), allowed=f"1..{most}")
    if found := fault(rectangles, width, height):
        raise UsageError(found[1], rectangle=rectangles[found[0]])
    head, bodies = [_COUNT.pack(len(rectangles))], []
    for y, x, w, h in rectangles:

        def inside(first: int, count: int, y: int = y, x: int = x, w: int = w) -> NDArray[np.uint8]:
            return source(y + first, count)[:, x : x + w]

        bodies.append(encode_samples(inside, h, w, channels))
        head.append(_ENTRY.pack(x, y, w, h, len(bodies[-1])))
    return b"".join(head + bodies)


class Rectangles:
    """The rectangles of a stream, written over samples from top to bottom.

    Parameters
    ----------
    payload : bytes-like
        The payload of LOSS.
    width, height, channels : int
        Size of the picture.
    at : int
        Offset of the payload in the stream, for messages.

    Attributes
    ----------
    places : tuple of Rectangle
    sizes : tuple of int
        Bytes of the samples of each.

    Raises
    ------
    ChunkError
        The list breaks a rule of SPEC 8.11.
    """

    def __init__(self, payload: bytes | memoryview, width: int, height: int, channels: int, at: int = 0) -> None:
        self._data, self._at, self._channels = memoryview(payload), at, channels
        size = len(self._data)
        if size < _COUNT.size:
            self._refuse("the list of rectangles is cut short", 0, bytes=size, needed=_COUNT.size)
        count = _COUNT.unpack_from(self._data)[0]
        most = most_rectangles(height, width)
        if not 1 <= count <= most:
            self._refuse("there are too few or too many rectangles", 0, count=count, allowed=f"1..{most}")
        start = _COUNT.size + count * _ENTRY.size
        if start > size:
            self._refuse("the list of rectangles is cut short", 0, bytes=size, needed=start)
        entries = list(_ENTRY.iter_unpack(self._data[_COUNT.size : start]))
        self.places = tuple(Rectangle(y, x, w, h) for x, y, w, h, _ in entries)
        if found := fault(self.places, width, height):
            i, what = found
            self._refuse(what, _COUNT.size + i * _ENTRY.size, rectangle=i, **self.places[i]._asdict())
        self.sizes = tuple(entry[4] for entry in entries)
        lengths = np.array(self.sizes, np.int64)
        if start + (total := int(lengths.sum())) != size:
            self._refuse("samples of rectangles end too early or too late", start, bytes=size - start, expected=total)
        self._starts = (start + np.concatenate(([0], np.cumsum(lengths)))).tolist()
        self._next = 0
        self._open: dict[int, SamplesReader] = {}

    def _refuse(self, what: str, offset: int, **values: object) -> NoReturn:
        cause = "the stream is damaged or its writer is faulty"
        raise ChunkError(what, where=f"byte {self._at + offset} (SPEC 8.11)", cause=cause, **values)

    def _reader(self, i: int) -> SamplesReader:
        place, (start, end) = self.places[i], self._starts[i : i + 2]
        return SamplesReader(self._data[start:end], place.height, place.width, self._channels, self._at + start)

    def pixels(self, x: int, y: int, width: int, height: int) -> int:
        """Count the pixels that are read for a region: of the rectangles that it meets, the rows down to its end.

        Parameters
        ----------
        x, y, width, height : int
            The region, in samples.

        Returns
        -------
        int
        """
        return sum(
            place.width * (min(place.y + place.height, y + height) - place.y)
            for place in self.places
            if place.x < x + width and place.x + place.width > x and place.y < y + height
            if place.y + place.height > y
        )

    def apply(self, samples: NDArray[np.uint8], first_row: int, first_column: int = 0) -> None:
        """Write what is stored over a strip of samples.

        Parameters
        ----------
        samples : [n, w, channels] or [n, w] uint8
            Decoded samples of the picture, or of a region of it.
        first_row, first_column : int
            Their place in the picture. Strips come from top to bottom, and all with the same columns.

        Raises
        ------
        ChunkError
            A payload is damaged.
        """
        samples = samples if samples.ndim == 3 else samples[:, :, np.newaxis]
        last_row, last_column = first_row + samples.shape[0], first_column + samples.shape[1]
        while self._next < len(self.places) and self.places[self._next].y < last_row:
            place, i = self.places[self._next], self._next
            self._next += 1
            met = place.x < last_column and place.x + place.width > first_column
            if met and place.y + place.height > first_row:
                self._open[i] = self._reader(i)
        for i, reader in list(self._open.items()):
            place = self.places[i]
            self._skip(reader, place, first_row)
            low, high = max(first_column, place.x), min(last_column, place.x + place.width)
            row = place.y + place.height - reader.left
            while reader.left and row < last_row:
                rows = reader.read(min(reader.left, last_row - row, self._most(place)))
                samples[row - first_row : row - first_row + len(rows), low - first_column : high - first_column] = rows[
                    :, low - place.x : high - place.x
                ]
                row += len(rows)
            if not reader.left:
                del self._open[i]

    def _skip(self, reader: SamplesReader, place: Rectangle, row: int) -> None:
        """Read the rows of a rectangle that are above ``row``."""
        while (above := row - (place.y + place.height - reader.left)) > 0 and reader.left:
            reader.read(min(above, reader.left, self._most(place)))

    def _most(self, place: Rectangle) -> int:
        """Rows of the rectangle that are read at once."""
        return max(1, STRIP_BYTES // (place.width * self._channels))
