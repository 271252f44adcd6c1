"""The range coder's kernels (SPEC 7.3 to 7.5); called from refcodec/arith/jit/rans.py.

They are memory safe for any words: table numbers are checked and tables valid before they run, and words are read
behind a bound check. All arithmetic is int64; each line that keeps a bound states it.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ....model.symbol_tables import (
    DONE,
    EXHAUSTED,
    LENGTH_BITS,
    LOW,
    OVERSIZE,
    PROBABILITY_BITS,
    SLOT_MASK,
    WORD_BITS,
    WORD_MASK,
)
from ..native.blocks import words_at
from ..native.build import helper, memory, task
from .constants import DIRECT
from .words import CODER, DECODE, ENCODE

_U16, _U32, _I32, _I64 = types.uint16, types.uint32, types.int32, types.int64


@helper
def encoded(cum, freq, symbols, x, out):
    """Encode intervals from the last to the first; the state and how many words were written.

    Parameters
    ----------
    cum, freq : arrays of uint16
        Of every interval.
    symbols : int
        Number of intervals.
    x : int
        State.
    out : array of uint32
        Receives the words.

    Returns
    -------
    tuple of int
        State, and number of words.
    """
    count = 0
    for i in range(symbols - 1, -1, -1):
        f = np.int64(freq[i])
        # f <= 65535, so f << 47 < 2^63. Before: 2^31 <= x < 2^63.
        if x >= f << 47:
            out[count] = x & WORD_MASK
            count += 1
            x >>= WORD_BITS  # f * 2^15 <= x < 2^31 <= f * 2^47: one word suffices
        # x >= f * 2^15 (without a word: x >= 2^31 > f * 2^15), hence x // f >= 2^15 and the new state is >= 2^31;
        # x < f * 2^47, hence x // f <= 2^47 - 1 and, with x % f + cum < f + cum <= 65536, the new state is < 2^63.
        x = ((x // f) << PROBABILITY_BITS) + x % f + np.int64(cum[i])
    return x, count


@helper
def refill(stream, size, x, position):
    """Bring the state back to [2^31, 2^63); past the last word, only count, which the caller takes as exhaustion.

    Parameters
    ----------
    stream : array of int64
        Words of 32 bits.
    size : int
        Words of the stream.
    x : int
        State.
    position : int
        Next word.

    Returns
    -------
    tuple of int
        State and position.
    """
    if x < LOW:
        # x >= 2^15 (freq >= 1 and x >> 16 >= 2^15 before), so one word brings it to 2^47 or more, and below 2^63.
        if position < size:
            x = (x << WORD_BITS) | stream[position]
        position += 1
    return x, position


@helper
def raw_bits(stream, size, x, position, bits):
    """``bits`` equiprobable bits, 0 to 15; with 0 the state stays as it is.

    Parameters
    ----------
    stream : array of int64
        Words of 32 bits.
    size, x, position
        As for `refill`.
    bits : int

    Returns
    -------
    tuple of int
        State, position and the bits.
    """
    shift = PROBABILITY_BITS - bits
    slot = x & SLOT_MASK
    value = slot >> shift
    # The new state is at most the old one: (x >> 16) * 2^shift + a rest below 2^shift, shift <= 16.
    x = ((x >> PROBABILITY_BITS) << shift) + slot - (value << shift)
    x, position = refill(stream, size, x, position)
    return x, position, value


@helper
def decoded(stream, size, x, position, index, count, cdf, start, first, lookup, entries, out, limit):
    """Decode one symbol for each table number; state, position, symbols done, outcome.

    Parameters
    ----------
    stream, size, x, position
        As for `refill`.
    index : array of int32
        Numbers of tables.
    count : int
        Symbols to decode.
    cdf, start, first, lookup, entries : arrays
        The tables, as in entropy/rans.py.
    out : array of int32
        Receives the symbols.
    limit : int
        Largest magnitude of a symbol.

    Returns
    -------
    tuple of int
        State, position, number of symbols, and outcome.
    """
    for i in range(count):
        table = np.int64(index[i])
        slot = x & SLOT_MASK
        entry = entries[256 * table + (slot >> 8)]
        if entry >> DIRECT:
            x = ((entry >> 16) & 0xFFFF) * (x >> PROBABILITY_BITS) + slot - (entry & 0xFFFF)
            x, position = refill(stream, size, x, position)
            if position > size:
                return x, position, i, EXHAUSTED
            symbol = np.int64(first[table]) + ((entry >> 32) & 0xFFFF)
            if symbol > limit or symbol < -limit:
                return x, position, i, OVERSIZE
            out[i] = symbol
            continue
        begin = np.int64(start[table])
        at = begin + np.int64(lookup[256 * table + (slot >> 8)])
        while np.int64(cdf[at + 1]) <= slot:  # ends inside the table: its last boundary is 65536 > slot
            at += 1
        c = np.int64(cdf[at])
        f = np.int64(cdf[at + 1]) - c
        # x >> 16 < 2^47 and 0 <= slot - c < f <= 65535: the new state is < f * 2^47 < 2^63.
        x = f * (x >> PROBABILITY_BITS) + slot - c
        x, position = refill(stream, size, x, position)
        symbol = np.int64(first[table]) + at - begin
        if at == np.int64(start[table + 1]) - 2:
            x, position, negative = raw_bits(stream, size, x, position, 1)
            x, position, length = raw_bits(stream, size, x, position, LENGTH_BITS)
            x, position, rest = raw_bits(stream, size, x, position, length)
            value = (np.int64(1) << length) - 1 + rest  # at most 2^16 - 2
            symbol = np.int64(first[table]) - 1 - value if negative else symbol + value
        if position > size:
            return x, position, i, EXHAUSTED
        if symbol > limit or symbol < -limit:
            return x, position, i, OVERSIZE
        out[i] = symbol
    return x, position, count, DONE


@task
def encode(arguments, first, end):
    """All symbols; rows mean nothing here."""
    t = words_at(arguments, ENCODE)
    coder = memory(t.coder, _I64)
    x, count = encoded(
        memory(t.cum, _U16),
        memory(t.freq, _U16),
        t.symbols,
        coder[CODER.state],
        memory(t.words, _U32),
    )
    coder[CODER.state], coder[CODER.position] = x, count


@task
def decode(arguments, first, end):
    """All symbols, or up to the first that cannot be; rows mean nothing here."""
    t = words_at(arguments, DECODE)
    coder = memory(t.coder, _I64)
    x, position, done, status = decoded(
        memory(t.words, _I64),
        t.word_count,
        coder[CODER.state],
        coder[CODER.position],
        memory(t.tables, _I32),
        t.symbols,
        memory(t.cdf, _I32),
        memory(t.start, _I32),
        memory(t.first, _I32),
        memory(t.lookup, _U16),
        memory(t.entries, _I64),
        memory(t.out, _I32),
        t.limit,
    )
    coder[CODER.state], coder[CODER.position] = x, position
    coder[CODER.done], coder[CODER.status] = done, status
