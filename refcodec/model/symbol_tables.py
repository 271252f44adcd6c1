"""Frequency tables, and how a symbol becomes intervals of the 16-bit probability range (SPEC 7.1, 7.2).

A table gives each of its regular symbols ``first, first + 1, ...`` and, after them, one escape symbol an interval of
[0, 65536). Symbols outside the regular ones are written as the escape followed by an Exp-Golomb code in equiprobable
bits. Everything the range coder codes is such an interval: a start ``cum`` and a length ``freq``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ..errors import InvalidModel, SymbolError, UsageError
from ..limits import MAX_SYMBOL

PROBABILITY_BITS = 16
"""Frequencies sum to 2^16 in every table: 2^12 would cost 0.001 bit per symbol at scale 0.11 and 0.07 at scale 32."""

TOTAL = 1 << PROBABILITY_BITS

LENGTH_BITS = 4
"""Raw bits that hold the length of an escape's suffix, 0 to 15."""

LOW = 1 << 31
"""The range coder's state lies in [LOW, LOW << 32) = [2^31, 2^63) between symbols: it fits a signed 64-bit integer."""

WORD_BITS = 32
WORD_MASK = (1 << WORD_BITS) - 1
SLOT_MASK = (1 << PROBABILITY_BITS) - 1

DONE, EXHAUSTED, OVERSIZE = 0, 1, 2
"""How the range decoder ended: all symbols decoded, words ran out, a symbol exceeded the bound."""

BUCKETS = 256
"""Entries of the decoder's lookup a table: the high byte of the slot. A scan from there takes at most 255 steps,
because 255 frequencies of 1 exhaust the low byte."""


@dataclass(frozen=True, eq=False)
class SymbolTables:
    """(SPEC 7.1) A set of frequency tables, valid by construction and read-only.

    Parameters
    ----------
    cdf : np.ndarray
        [total] int32. The boundaries of all tables one after the other; each runs from 0 to 65536, strictly increasing.
    start : np.ndarray
        [T + 1] int32. Table ``t`` owns ``cdf[start[t]:start[t + 1]]``: count + 2 boundaries, the last interval being
        the escape's.
    first : np.ndarray
        [T] int32. The smallest regular symbol of each table.

    Attributes
    ----------
    lookup : np.ndarray
        [T, 256] uint16. Position in the table of the interval that holds ``slot & 0xFF00``; the decoder scans from it.

    Raises
    ------
    InvalidModel
        A rule of SPEC 7.1 does not hold.
    """

    cdf: np.ndarray
    start: np.ndarray
    first: np.ndarray
    lookup: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        validate(self.cdf, self.start, self.first)
        for name in ("cdf", "start", "first"):
            self._freeze(name, np.array(getattr(self, name), dtype=np.int32))
        self._freeze("lookup", _lookup(self.cdf, self.start))

    def _freeze(self, name: str, array: np.ndarray) -> None:
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def from_lists(cls, tables: Sequence[tuple[int, Sequence[int]]]) -> SymbolTables:
        """(SPEC 7.1, 7.7) Build from one (first, boundaries) pair a table, the form of SPEC's definitions.

        Raises
        ------
        InvalidModel
            A rule of SPEC 7.1 does not hold.
        """
        lengths = [len(boundaries) for _, boundaries in tables]
        start = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64)
        cdf = np.array([bound for _, boundaries in tables for bound in boundaries], dtype=np.int64)
        return cls(cdf, start, np.array([first for first, _ in tables], dtype=np.int64))

    @property
    def lists(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """The tables as Python lists (boundaries, start, end, symbol of position 0): quick to index one by one.

        Made once; without the lock of a cached_property, which outlives a fork.
        """
        found: tuple[list[int], list[int], list[int], list[int]] | None = self.__dict__.get("_lists")
        if found is None:
            offset = self.first - self.start[:-1]
            found = self.cdf.tolist(), self.start[:-1].tolist(), self.start[1:].tolist(), offset.tolist()
            self.__dict__["_lists"] = found
        return found


def validate(cdf: np.ndarray, start: np.ndarray, first: np.ndarray) -> None:
    """(SPEC 7.1) Check the rules of tables; the coder's memory safety and state bounds rest on them.

    Parameters
    ----------
    cdf, start, first : np.ndarray
        As in `SymbolTables`, of any integer dtype.

    Raises
    ------
    InvalidModel
        A rule does not hold; ``where`` names the table.
    """
    for name, array in (("cdf", cdf), ("start", start), ("first", first)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InvalidModel(
                f"frequency tables: {name} is not a vector of integers",
                where="SPEC 7.1",
                shape=array.shape,
                dtype=str(array.dtype),
            )
    if not len(first) or len(start) != len(first) + 1 or start[0] != 0 or start[-1] != len(cdf):
        raise InvalidModel(
            "frequency tables: start does not partition the boundaries",
            where="SPEC 7.1",
            tables=len(first),
            starts=len(start),
            boundaries=len(cdf),
        )
    length = np.diff(start.astype(np.int64))
    _require(length >= 3, "a table lacks a regular symbol or the escape")
    cdf = cdf.astype(np.int64)
    begin, end = start[:-1].astype(np.int64), start[1:].astype(np.int64)
    _require(cdf[begin] == 0, "boundaries do not start at 0")
    _require(cdf[end - 1] == TOTAL, "boundaries do not end at 65536")
    # Strictly increasing over three or more boundaries: every frequency lies in 1..65535, which the coder's bounds use.
    step = np.diff(cdf)
    step[end[:-1] - 1] = 1  # from the end of one table to the start of the next
    bad = np.flatnonzero(step <= 0)
    table_of_bad = np.searchsorted(start, bad, side="right") - 1
    _require(~np.isin(np.arange(len(first)), table_of_bad), "boundaries do not increase strictly")
    lowest = first.astype(np.int64)
    fits = (lowest >= -MAX_SYMBOL) & (lowest <= MAX_SYMBOL) & (lowest + length - 3 <= MAX_SYMBOL)
    _require(fits, f"a regular symbol exceeds {MAX_SYMBOL} in magnitude")


def _require(holds: np.ndarray, otherwise: str) -> None:
    if not holds.all():
        raise InvalidModel(f"frequency tables: {otherwise}", where=f"table {int(np.argmin(holds))} (SPEC 7.1)")


def _lookup(cdf: np.ndarray, start: np.ndarray) -> np.ndarray:
    """[T, 256] uint16: a table holds at most 65536 intervals, so a position fits."""
    slots = np.arange(BUCKETS) * (TOTAL // BUCKETS)
    lookup = np.empty((len(start) - 1, BUCKETS), np.uint16)
    for table, (begin, end) in enumerate(pairwise(start.tolist())):
        lookup[table] = np.searchsorted(cdf[begin:end], slots, side="right") - 1
    return lookup


def table_vector(index: np.ndarray, count: int) -> np.ndarray:
    """(SPEC 7.2) Check table numbers and put them in coding order.

    Parameters
    ----------
    index : np.ndarray
        Table numbers, any shape and integer dtype.
    count : int
        How many tables there are.

    Returns
    -------
    np.ndarray
        [index.size] int32, a fresh contiguous array in C order.

    Raises
    ------
    UsageError
        Not integers, or a number outside 0..count-1.
    """
    if index.dtype.kind not in "iu":
        raise UsageError("table numbers are not integers", where="range coder", dtype=str(index.dtype))
    if index.size and not (int(index.min()) >= 0 and int(index.max()) < count):
        raise UsageError(
            "a table number is out of range",
            where="range coder",
            smallest=int(index.min()),
            largest=int(index.max()),
            tables=count,
        )
    return np.array(index, dtype=np.int32).reshape(-1)


def intervals(symbols: np.ndarray, index: np.ndarray, tables: SymbolTables) -> tuple[np.ndarray, np.ndarray]:
    """(SPEC 7.2) The intervals coded for these symbols.

    Parameters
    ----------
    symbols : np.ndarray
        Integers of magnitude at most 32767, any shape, coded in C order.
    index : np.ndarray
        The table of each symbol, same shape.
    tables : SymbolTables
        The tables.

    Returns
    -------
    cum, freq : np.ndarray
        [n] uint16 each, in coding order: one interval a symbol and two or three more after each escape. ``freq`` is
        at least 1, ``cum + freq`` at most 65536.

    Raises
    ------
    SymbolError
        A symbol exceeds 32767 in magnitude.
    UsageError
        Shapes differ, not integers, or a table number is out of range.
    """
    if symbols.shape != index.shape or symbols.dtype.kind not in "iu":
        raise UsageError(
            "symbols and table numbers do not match",
            where="range coder",
            symbols=symbols.shape,
            tables=index.shape,
            dtype=str(symbols.dtype),
        )
    if symbols.size and max(int(symbols.max()), -int(symbols.min())) > MAX_SYMBOL:
        raise SymbolError(
            "a symbol to encode is out of range",
            where="range coder (SPEC 7.2)",
            largest=MAX_SYMBOL,
            found=[int(symbols.min()), int(symbols.max())],
        )
    vector = table_vector(index, len(tables)).astype(np.intp)  # NumPy gathers by intp twice as quickly as by int32
    begin, escape = tables.start[:-1][vector], (tables.start[1:] - 2)[vector]
    position = symbols.reshape(-1).astype(np.int32) - (tables.first - tables.start[:-1])[vector]
    outside = (position < begin) | (position >= escape)
    chosen = np.where(outside, escape, position).astype(np.intp)
    cum = tables.cdf[chosen]
    freq = tables.cdf[1:][chosen] - cum
    if outside.any():
        above, below = (position - escape)[outside], (begin - 1 - position)[outside]
        cum, freq = _with_suffixes(cum, freq, outside, np.where(below >= 0, below, above), below >= 0)
    return cum.astype(np.uint16), freq.astype(np.uint16)  # cum <= 65535; 1 <= freq <= 65535


def _with_suffixes(
    cum: np.ndarray, freq: np.ndarray, outside: np.ndarray, value: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Insert, after each escape, its sign, length and remainder as intervals of equal frequencies."""
    value = value.astype(np.int64) + 1  # 1..65534, so the length below is at most 15
    length = np.searchsorted(1 << np.arange(1, 17), value, side="right")  # floor(log2(value)), exactly
    places = 1 + 2 * outside
    places[outside] += length > 0
    at = np.cumsum(places) - places
    all_cum, all_freq = np.empty((2, int(places.sum())), np.int32)
    all_cum[at], all_freq[at] = cum, freq
    at = at[outside]
    _put_raw(all_cum, all_freq, at + 1, negative.astype(np.int64), np.ones_like(length))
    _put_raw(all_cum, all_freq, at + 2, length, np.full_like(length, LENGTH_BITS))
    more = length > 0  # no bits are no interval: a frequency of 65536 never occurs
    _put_raw(all_cum, all_freq, (at + 3)[more], (value - (1 << length))[more], length[more])
    return all_cum, all_freq


def _put_raw(cum: np.ndarray, freq: np.ndarray, at: np.ndarray, value: np.ndarray, bits: np.ndarray) -> None:
    """(SPEC 7.2) Equiprobable bits: ``value`` among ``2^bits`` intervals of length ``2^(16 - bits)``."""
    freq[at] = 1 << (PROBABILITY_BITS - bits)
    cum[at] = value << (PROBABILITY_BITS - bits)
