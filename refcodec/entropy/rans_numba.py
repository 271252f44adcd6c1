"""The range coder as Numba kernels (SPEC 7.3 to 7.5): the same two functions as `rans_python`.

The kernels are memory safe for any words: table numbers are checked and tables valid before they run, and words are
read behind a bound check. All arithmetic is int64; the bounds stand on the lines that keep them.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numba import types

from ..arith.backend import kernel, reads, writes
from .rans_python import DONE, EXHAUSTED, LOW, OVERSIZE, SLOT_MASK, WORD_BITS, WORD_MASK
from .symbol_tables import LENGTH_BITS, PROBABILITY_BITS, SymbolTables

_I64 = types.int64
_WORDS = reads(types.int64, 1, "C")
_U16 = reads(types.uint16, 1, "C")
_I32 = reads(types.int32, 1, "C")


def as_words(words: np.ndarray) -> np.ndarray:
    """(SPEC 7.3) The words in the form `decode` reads: int64."""
    return words.astype(np.int64)


def encode(cum: np.ndarray, freq: np.ndarray, x: int, words: np.ndarray) -> tuple[int, int]:
    """(SPEC 7.5) Encode intervals from the last to the first; as `rans_python.encode`."""
    return _encode(cum, freq, x, words)


def decode(words: np.ndarray, x: int, position: int, index: np.ndarray, tables: SymbolTables, out: np.ndarray,
           limit: int) -> tuple[int, int, int, int]:
    """(SPEC 7.4) Decode one symbol for each table number; as `rans_python.decode`."""
    return _decode(words, x, position, index, tables.cdf, tables.start, tables.first, tables.lookup, _entries(tables),
                   out, limit)


_direct: WeakKeyDictionary[SymbolTables, np.ndarray] = WeakKeyDictionary()

DIRECT = 48
"""Bit of an entry that says a symbol has all 256 slots of the bucket and is no escape."""


def _entries(tables: SymbolTables) -> np.ndarray:
    """Of every table and bucket of 256 slots, in one number: cum, freq << 16, symbol's place << 32, DIRECT.

    Nine symbols of ten lie in such buckets: one load stands for the chain of four that the others need.
    """
    found = _direct.get(tables)
    if found is None:
        cdf, start = tables.cdf.astype(np.int64), tables.start.astype(np.int64)
        first = np.arange(256) << 8
        at = start[:-1, None] + tables.lookup
        while (behind := cdf[at + 1] <= first).any():  # ends inside the table: its last boundary is 65536
            at += behind
        cum, end = cdf[at], cdf[at + 1]
        direct = (cum <= first) & (end >= first + 256) & (at != start[1:, None] - 2)
        place = at - start[:-1, None]
        found = np.where(direct, cum | (end - cum) << 16 | place << 32 | 1 << DIRECT, 0)
        found = _direct[tables] = np.ascontiguousarray(found)
    return found


@kernel(_U16, _U16, _I64, writes(types.uint32, 1, "C"))
def _encode(cum, freq, x, words):
    count = 0
    for i in range(cum.size - 1, -1, -1):
        f = np.int64(freq[i])
        # f <= 65535, so f << 47 < 2^63. Before: 2^31 <= x < 2^63.
        if x >= f << 47:
            words[count] = x & WORD_MASK
            count += 1
            x >>= WORD_BITS  # f * 2^15 <= x < 2^31 <= f * 2^47: one word suffices
        # x >= f * 2^15 (without a word: x >= 2^31 > f * 2^15), hence x // f >= 2^15 and the new state is >= 2^31;
        # x < f * 2^47, hence x // f <= 2^47 - 1 and, with x % f + cum < f + cum <= 65536, the new state is < 2^63.
        x = ((x // f) << PROBABILITY_BITS) + x % f + np.int64(cum[i])
    return x, count


@kernel(_WORDS, _I64, _I64)
def _refill(words, x, position):
    """Bring the state back to [2^31, 2^63); past the last word, only count, which the caller takes as exhaustion."""
    if x < LOW:
        # x >= 2^15 (freq >= 1 and x >> 16 >= 2^15 before), so one word brings it to 2^47 or more, and below 2^63.
        if position < words.size:
            x = (x << WORD_BITS) | words[position]
        position += 1
    return x, position


@kernel(_WORDS, _I64, _I64, _I64)
def _raw_bits(words, x, position, bits):
    """``bits`` equiprobable bits, 0 to 15; with 0 the state stays as it is."""
    shift = PROBABILITY_BITS - bits
    slot = x & SLOT_MASK
    value = slot >> shift
    # The new state is at most the old one: (x >> 16) * 2^shift + a rest below 2^shift, shift <= 16.
    x = ((x >> PROBABILITY_BITS) << shift) + slot - (value << shift)
    x, position = _refill(words, x, position)
    return x, position, value


@kernel(_WORDS, _I64, _I64, _I32, _I32, _I32, _I32, reads(types.uint16, 2, "C"), reads(_I64, 2, "C"),
        writes(types.int32, 1, "C"), _I64)
def _decode(words, x, position, index, cdf, start, first, lookup, entries, out, limit):
    for i in range(index.size):
        table = np.int64(index[i])
        slot = x & SLOT_MASK
        entry = entries[table, slot >> 8]
        if entry >> DIRECT:
            x = ((entry >> 16) & 0xffff) * (x >> PROBABILITY_BITS) + slot - (entry & 0xffff)
            x, position = _refill(words, x, position)
            if position > words.size:
                return x, position, i, EXHAUSTED
            symbol = np.int64(first[table]) + ((entry >> 32) & 0xffff)
            if symbol > limit or symbol < -limit:
                return x, position, i, OVERSIZE
            out[i] = symbol
            continue
        begin = np.int64(start[table])
        at = begin + np.int64(lookup[table, slot >> 8])
        while np.int64(cdf[at + 1]) <= slot:  # ends inside the table: its last boundary is 65536 > slot
            at += 1
        c = np.int64(cdf[at])
        f = np.int64(cdf[at + 1]) - c
        # x >> 16 < 2^47 and 0 <= slot - c < f <= 65535: the new state is < f * 2^47 < 2^63.
        x = f * (x >> PROBABILITY_BITS) + slot - c
        x, position = _refill(words, x, position)
        symbol = np.int64(first[table]) + at - begin
        if at == np.int64(start[table + 1]) - 2:
            x, position, negative = _raw_bits(words, x, position, 1)
            x, position, length = _raw_bits(words, x, position, LENGTH_BITS)
            x, position, rest = _raw_bits(words, x, position, length)
            value = (np.int64(1) << length) - 1 + rest  # at most 2^16 - 2
            symbol = np.int64(first[table]) - 1 - value if negative else symbol + value
        if position > words.size:
            return x, position, i, EXHAUSTED
        if symbol > limit or symbol < -limit:
            return x, position, i, OVERSIZE
        out[i] = symbol
    return x, position, index.size, DONE
