"""Samples stored without loss (SPEC 8.10): the payload of ALPH, of a lossless LOSS, and of every rectangle.

A payload begins with its kind: pixels are coded as rows or as codes, after a transform of their colours. The encoder
tries what there is on some of the rows and takes what is shortest. Readers and the encoder work strip by strip.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .codes import LEFT, UP, UP_LEFT, UP_RIGHT, CodesReader, Form, packed
from .filters import Filters
from .inflate import longest, refuse
from .rows import RowsReader, RowsWriter, deflater

Pixels: TypeAlias = NDArray[np.uint8]

Source: TypeAlias = Callable[[int, int], Pixels]
"""Gives rows ``first`` to ``first + count`` of a picture as [count, width, channels] uint8."""

STRIP_BYTES = 1 << 22
"""Bytes of the strips in which samples are coded and decoded, where one row is not longer. Diagonals (filters.py) are
slow in strips of few rows."""


class Colour(IntEnum):
    """How the coded pixels become samples (SPEC 8.10-3); another one than SAME is for three channels."""

    SAME = 0
    GREEN = 1
    """Green was subtracted from red and from blue."""
    GREY = 2
    """One channel represents three equal ones."""
    PALETTE = 3
    """One channel is the number of a colour in a table before the rows or codes."""


def strip_rows(width: int, channels: int) -> int:
    """Rows of a strip, at least 1."""
    return max(1, STRIP_BYTES // (width * channels))


def longest_samples(height: int, width: int, channels: int) -> int:
    """(SPEC 8.11-11) Longest payload of samples: kind, table, head, codes and colours.

    Parameters
    ----------
    height, width, channels : int
        Of the samples.

    Returns
    -------
    int
        Bytes.
    """
    return 8 + 256 * channels + longest(height * (1 + width)) + longest((255 + height * width) * channels)


class SamplesReader:
    """Reads samples from top to bottom.

    Parameters
    ----------
    payload : bytes-like
        The payload and nothing behind it.
    height, width, channels : int
        Size of the picture or rectangle; 1 or 3 channels.
    at : int
        Offset of the payload in the stream, for messages.

    Raises
    ------
    ChunkError
        The kind is unknown, or the payload is longer or shorter than any for so many samples.
    """

    def __init__(self, payload: bytes | memoryview, height: int, width: int, channels: int, at: int = 0) -> None:
        data = memoryview(payload)
        if not len(data):
            refuse("samples are cut short", at, bytes=0, needed=1)
        if data[0] > 7 or (data[0] > 1 and channels != 3):
            refuse("samples have an unknown kind", at, kind=data[0], channels=channels)
        self._colour = Colour(data[0] >> 1)
        self._channels, self._left = channels, height
        self._table = np.empty((0, channels), np.uint8)
        start = 1
        if self._colour is Colour.PALETTE:
            start = 2 + channels * (1 + data[1]) if len(data) > 1 else 2
            if start > len(data):
                refuse("a palette is cut short", at + 1, bytes=len(data) - 1, needed=start - 1)
            self._table = np.frombuffer(data[2:start], np.uint8).reshape(-1, channels)
        size = 1 if self._colour in (Colour.GREY, Colour.PALETTE) else channels
        reader = CodesReader if data[0] & 1 else RowsReader
        self._reader = reader(data[start:], at + start, height, width, size)

    @property
    def left(self) -> int:
        """Rows that are left."""
        return self._left

    def read(self, count: int) -> Pixels:
        """Read the next rows; the last ones end the payload.

        Parameters
        ----------
        count : int
            Number of rows, at least 1 and not more than are left.

        Returns
        -------
        [count, width, channels] uint8

        Raises
        ------
        ChunkError
            The payload is damaged.
        """
        pixels = self._reader.read(count)
        self._left -= count
        if self._colour is Colour.GREEN:
            pixels[:, :, 0] += pixels[:, :, 1]
            pixels[:, :, 2] += pixels[:, :, 1]
        elif self._colour is Colour.GREY:
            pixels = np.repeat(pixels, self._channels, axis=2)
        elif self._colour is Colour.PALETTE:
            if (largest := int(pixels.max())) >= len(self._table):
                refuse("a sample is not in the palette", self._reader.at, sample=largest, colours=len(self._table))
            pixels = self._table[pixels[:, :, 0]]
        return pixels


@dataclass(frozen=True, eq=False)
class Plan:
    """One way to code samples.

    Attributes
    ----------
    colour : Colour
    filters : Filters
        Of the rows, or of the rows of codes.
    strategy : int
        zlib's, for the rows.
    form : Form or None
        Of the codes; None codes pixels as rows.
    colours : [form.colours, channels or 1] uint8
        The list of colours.
    table : [n, channels] uint8
        The palette.
    """

    colour: Colour
    filters: Filters
    strategy: int = zlib.Z_DEFAULT_STRATEGY
    form: Form | None = None
    colours: Pixels | None = None
    table: Pixels | None = None


def keys_of(pixels: Pixels) -> NDArray[np.uint32]:
    """One number for each pixel [n, w, c] or [n, c]; equal for equal pixels."""
    keys = pixels[..., 0].astype(np.uint32)
    for channel in range(1, pixels.shape[-1]):
        keys = keys << np.uint32(8) | pixels[..., channel]
    return keys


class _Ranks:
    """The place of every pixel's colour in a list."""

    def __init__(self, colours: Pixels) -> None:
        keys = keys_of(colours)
        self._order = np.argsort(keys).astype(np.uint8)
        self._sorted = keys[self._order]

    def __call__(self, keys: NDArray[np.uint32]) -> tuple[NDArray[np.bool_], Pixels]:
        """Which pixels have a colour of the list, and their places, which mean nothing for the others."""
        place = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return self._sorted[place] == keys, self._order[place]


def _transformed(pixels: Pixels, colour: Colour, table: _Ranks | None) -> Pixels:
    """The pixels that are coded, [n, w, 1 or channels] uint8."""
    if colour is Colour.GREY:
        return pixels[:, :, :1]
    if colour is Colour.GREEN:
        pixels = pixels.copy()
        pixels[:, :, 0] -= pixels[:, :, 1]
        pixels[:, :, 2] -= pixels[:, :, 1]
    if table is not None:
        return table(keys_of(pixels))[1][:, :, np.newaxis]
    return pixels


class _CodesWriter:
    """Writes pixels as codes."""

    def __init__(self, plan: Plan, form: Form, colours: Pixels, level: int) -> None:
        self._form, self._rows, self._zlib = form, RowsWriter(plan.filters, level, plan.strategy), deflater(level)
        self._listed = _Ranks(colours) if form.colours else None
        self._parts = [self._zlib.compress(colours.tobytes())]
        self._above: NDArray[np.uint32] | None = None

    def write(self, pixels: Pixels) -> None:
        """Code the next rows, [n, w, c] uint8."""
        keys, form = keys_of(pixels), self._form
        n, width = keys.shape
        known = np.zeros((n + 1, width + 2), np.uint32)
        known[1:, 1:-1] = keys
        if self._above is not None:
            known[0] = self._above
        self._above = known[-1]
        codes = np.full((n, width), form.next, np.uint8)
        for bit, neighbour in (
            (LEFT, known[1:, :-2]),
            (UP_LEFT, known[:-1, :-2]),
            (UP_RIGHT, known[:-1, 2:]),
            (UP, known[:-1, 1:-1]),
        ):
            if bit in form.codes:
                codes[neighbour == keys] = form.codes[bit]
        if self._listed:
            listed, places = self._listed(keys)
            codes[listed] = places[listed]
        if form.next >= 1 << form.bits and (codes == form.next).any():
            raise UsageError("the picture changed while it was read", cause="it has a colour that was not there before")
        self._rows.write(packed(codes, form.bits)[:, :, np.newaxis])
        self._parts.append(self._zlib.compress(pixels[codes == form.next].tobytes()))

    def finish(self) -> bytes:
        """Head, codes and colours."""
        codes = self._rows.finish()
        return b"".join((self._form.pack_head(len(codes)), codes, *self._parts, self._zlib.flush()))


def _strips(source: Source, height: int, rows: int) -> Iterator[Pixels]:
    for first in range(0, height, rows):
        yield source(first, min(rows, height - first))


def _write(plan: Plan, source: Source, height: int, width: int, channels: int, level: int = 9) -> bytes:
    """The payload of a picture by a plan."""
    if plan.form is None or plan.colours is None:
        writer: RowsWriter | _CodesWriter = RowsWriter(plan.filters, level, plan.strategy)
    else:
        writer = _CodesWriter(plan, plan.form, plan.colours, level)
    ranks = None if plan.table is None else _Ranks(plan.table)
    for strip in _strips(source, height, strip_rows(width, channels)):
        writer.write(_transformed(strip, plan.colour, ranks))
    head = bytes((2 * plan.colour + (plan.form is not None),))
    if plan.table is not None:
        head += bytes((len(plan.table) - 1,)) + plan.table.tobytes()
    return head + writer.finish()


_FORMS = (
    *((8, 0), (4, 0), (4, UP), (2, 0), (2, UP), (2, LEFT | UP), (2, LEFT | UP | UP_RIGHT)),
    *((1, 0), (1, LEFT), (1, UP)),
)
"""Bits and neighbours of the forms that the encoder tries, each with as many colours as there are codes for."""

_FEW = 1 << 18
"""Samples on which all plans are tried."""

_MANY = 1 << 22
"""Samples on which the best of them are tried again."""

_FINALISTS = 4

_HEAD_BYTES, _LEAST_BYTES = 24, 4
"""Bytes of a small payload that neighbours share when they are coded as one, and the least that pixels take."""


def _ranked(pixels: Pixels) -> Pixels:
    """The colours of pixels [n, w, c], the most frequent first; [colours, c] uint8."""
    pixels = pixels.reshape(-1, pixels.shape[2])
    _, first, counts = np.unique(keys_of(pixels), return_index=True, return_counts=True)
    return pixels[first[np.argsort(-counts, kind="stable")]]


def _code_plans(pixels: Pixels, colour: Colour, table: Pixels | None, most: int) -> Iterator[Plan]:
    """Plans with codes for transformed pixels; the picture that they are some of has at most ``most`` colours.

    Codes end with that of the next colour, unless there are enough for all colours of the picture.
    """
    ranked = _ranked(pixels)
    for bits, neighbours in _FORMS:
        codes = (1 << bits) - neighbours.bit_count()
        count = min(255, codes if most <= codes else codes - 1, len(ranked))
        form = Form(bits, neighbours, count)
        yield Plan(colour, Filters.NONE, form=form, colours=ranked[:count], table=table)


def _plans(pixels: Pixels, colours: _Colours) -> Iterator[Plan]:
    """Plans worth a trial, for pixels [n, w, c] that are some of the picture's."""
    straight = Colour.GREY if colours.grey else Colour.SAME
    for filters, strategy in product(Filters, (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED)):
        yield Plan(straight, filters, strategy)
        if pixels.shape[2] == 3 and not colours.grey:
            yield Plan(Colour.GREEN, filters, strategy)
    most = 1 << 24 if colours.table is None else len(colours.table)
    yield from _code_plans(_transformed(pixels, straight, None), straight, None, most)
    if pixels.shape[2] != 3 or colours.table is None:
        return
    ranked, bright = colours.table, colours.table[np.argsort(colours.table.sum(axis=1, dtype=np.int64), kind="stable")]
    for filters in Filters:
        yield Plan(Colour.PALETTE, filters, table=ranked if filters is Filters.NONE else bright)
    yield from _code_plans(_transformed(pixels, Colour.PALETTE, _Ranks(ranked)), Colour.PALETTE, ranked, most)


@dataclass(frozen=True, eq=False)
class _Colours:
    """The colours of a whole picture.

    Attributes
    ----------
    grey : bool
        There are three channels, and they are equal.
    table : [n, channels] uint8 or None
        All colours, the most frequent first, if they are at most 256.
    """

    grey: bool
    table: Pixels | None

    @classmethod
    def of(cls, strips: Iterator[Pixels]) -> _Colours:
        """Look at the picture, and no further than its answers are open."""
        grey, known, counts = True, np.empty(0, np.uint32), np.empty(0, np.int64)
        channels = 0
        for strip in strips:
            channels = strip.shape[2]
            grey = grey and channels == 3 and bool((strip[:, :, :1] == strip[:, :, 1:]).all())
            if len(known) <= 256:
                keys, numbers = np.unique(keys_of(strip), return_counts=True)
                known, places = np.unique(np.concatenate((known, keys)), return_inverse=True)
                counts = np.bincount(places, np.concatenate((counts, numbers))).astype(np.int64)
            elif not grey:
                break
        if len(known) > 256:
            return cls(grey, None)
        known = known[np.argsort(-counts, kind="stable")]
        shifts = np.arange(8 * channels - 8, -1, -8, dtype=np.uint32)
        return cls(grey, (known[:, np.newaxis] >> shifts).astype(np.uint8))


def _quick_plans(pixels: Pixels) -> Iterator[Plan]:
    """The plans that are best most often."""
    straight = Colour.SAME if pixels.shape[2] != 3 else Colour.GREEN
    ranked = _ranked(pixels)
    if len(ranked) <= 256:
        for bits in (1, 4, 8):
            count = min(255, (1 << bits) - 1, len(ranked))
            yield Plan(Colour.SAME, Filters.NONE, form=Form(bits, 0, count), colours=ranked[:count])
        yield Plan(Colour.SAME, Filters.NONE, form=Form(1, LEFT, 0), colours=ranked[:0])
    if len(ranked) > 64:
        yield Plan(straight, Filters.PAETH, zlib.Z_FILTERED)


def _some_rows(source: Source, height: int, width: int, channels: int, samples: int) -> Pixels:
    """About so many samples of the picture: all rows, or eight strips from top to bottom, of very wide ones a part."""
    if height * width * channels <= samples:
        return source(0, height)
    each, columns = max(1, samples // (8 * width * channels)), min(width, samples // (8 * channels))
    firsts = np.linspace(0, height - each, 8).astype(int).tolist()
    return np.concatenate([source(first, each)[:, :columns] for first in firsts])


def _trial(plan: Plan, pixels: Pixels, level: int) -> bytes:
    """The payload of a picture in memory, [n, w, c]."""
    height, width, channels = pixels.shape
    return _write(plan, lambda first, count: pixels[first : first + count], height, width, channels, level)


def encode_samples(source: Source, height: int, width: int, channels: int) -> bytes:
    """(SPEC 8.10) Code samples without loss.

    Parameters
    ----------
    source : callable
        Gives strips of the picture; it is asked for every row several times.
    height, width, channels : int
        Size of the picture; 1 or 3 channels.

    Returns
    -------
    bytes
        The payload that `SamplesReader` reads. Its bytes depend on the version of zlib.
    """
    colours = _Colours.of(_strips(source, height, strip_rows(width, channels)))
    few = _some_rows(source, height, width, channels, _FEW)
    plans = sorted(_plans(few, colours), key=lambda plan: len(_trial(plan, few, level=6)))[:_FINALISTS]
    many = _some_rows(source, height, width, channels, _MANY)
    trials = [_trial(plan, many, level=9) for plan in plans]
    best = min(range(len(trials)), key=lambda i: len(trials[i]))
    return trials[best] if many.shape[:2] == (height, width) else _write(plans[best], source, height, width, channels)


def estimated_bits(pixels: Pixels) -> int:
    """About the bits that samples [h, w, channels] add to a payload of their kind; at least a few."""
    return 8 * max(_LEAST_BYTES, min(len(_trial(plan, pixels, level=4)) for plan in _quick_plans(pixels)) - _HEAD_BYTES)
