"""The range coder on Python integers: what the NumPy backend runs (SPEC 7.3 to 7.5).

The same two functions as refcodec/arith/jit/rans.py. Lists, local names and one bisection per symbol keep it near half
a microsecond per symbol.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from ..model.symbol_tables import (
    DONE,
    EXHAUSTED,
    LENGTH_BITS,
    LOW,
    OVERSIZE,
    PROBABILITY_BITS,
    SLOT_MASK,
    WORD_BITS,
    WORD_MASK,
    SymbolTables,
)


def as_words(words: NDArray[np.uint32]) -> list[int]:
    """(SPEC 7.3) The words in the form `decode` reads."""
    numbers: list[int] = words.tolist()
    return numbers


def encode(cum: np.ndarray, freq: np.ndarray, x: int, words: np.ndarray) -> tuple[int, int]:
    """(SPEC 7.5) Encode intervals from the last to the first.

    Parameters
    ----------
    cum, freq : np.ndarray
        [n] uint16, as from `intervals`.
    x : int
        The state before.
    words : np.ndarray
        [n] uint32, receives the words in the order of encoding.

    Returns
    -------
    x, count : int
        The state after, and how many words were written.
    """
    out: list[int] = []
    for c, f in zip(cum[::-1].tolist(), freq[::-1].tolist(), strict=True):
        if x >= f << 47:
            out.append(x & WORD_MASK)
            x >>= WORD_BITS
        x = (x // f << PROBABILITY_BITS) + x % f + c
    words[: len(out)] = out
    return x, len(out)


def decode(
    words: list[int], x: int, position: int, index: np.ndarray, tables: SymbolTables, out: np.ndarray, limit: int
) -> tuple[int, int, int, int]:
    """(SPEC 7.4) Decode one symbol for each table number.

    Parameters
    ----------
    words : list of int
        All words of the segment.
    x, position : int
        The state, and how many words were read before.
    index : np.ndarray
        [n] int32, valid table numbers.
    tables : SymbolTables
        The tables.
    out : np.ndarray
        [n] int32, receives the symbols.
    limit : int
        The largest magnitude a symbol may have.

    Returns
    -------
    x, position, done, status : int
        The state and words read after, how many symbols were decoded, and one of DONE, EXHAUSTED, OVERSIZE.
    """
    cdf, start, end, offset = tables.lists
    symbols: list[int] = []
    append, search, status = symbols.append, bisect_right, DONE
    try:
        for table in index.tolist():
            slot = x & SLOT_MASK
            at = search(cdf, slot, start[table], end[table]) - 1
            c = cdf[at]
            x = (cdf[at + 1] - c) * (x >> PROBABILITY_BITS) + slot - c
            if x < LOW:
                x = x << WORD_BITS | words[position]
                position += 1
            if at + 2 == end[table]:
                x, position, symbol = _escape(words, x, position, start[table] + offset[table], at + offset[table])
                if not -limit <= symbol <= limit:
                    status = OVERSIZE
                    break
                append(symbol)
            else:
                append(at + offset[table])
    except IndexError:  # words[position] alone can be out of range: the tables are valid and so are their numbers
        status = EXHAUSTED
    out[: len(symbols)] = symbols
    return x, position, len(symbols), status


def _escape(words: list[int], x: int, position: int, first: int, above: int) -> tuple[int, int, int]:
    """Decode what follows an escape: a symbol below ``first``, or from ``above`` on."""
    x, position, negative = _raw_bits(words, x, position, 1)
    x, position, length = _raw_bits(words, x, position, LENGTH_BITS)
    x, position, rest = _raw_bits(words, x, position, length)
    value = (1 << length) - 1 + rest
    return x, position, first - 1 - value if negative else above + value


def _raw_bits(words: list[int], x: int, position: int, bits: int) -> tuple[int, int, int]:
    """``bits`` equiprobable bits; with 0 bits the state stays as it is, since x = 65536 * (x >> 16) + (x & 65535)."""
    shift = PROBABILITY_BITS - bits
    slot = x & SLOT_MASK
    value = slot >> shift
    x = ((x >> PROBABILITY_BITS) << shift) + slot - (value << shift)
    if x < LOW:
        x = x << WORD_BITS | words[position]
        position += 1
    return x, position, value
