"""The range coder by kernels (SPEC 7.3 to 7.5, arith/jit/kernels/rans.py): the same two functions as `rans_python`."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ...model.symbol_tables import SymbolTables
from .kernels.constants import DIRECT
from .kernels.words import CoderWords, DecodeWords, EncodeWords, filled
from .native.loader import Kernel
from .team import address

_encode, _decode = Kernel("rans.encode"), Kernel("rans.decode")


def as_words(words: np.ndarray) -> np.ndarray:
    """(SPEC 7.3) The words in the form `decode` reads: int64."""
    return words.astype(np.int64)


def encode(cum: np.ndarray, freq: np.ndarray, x: int, words: np.ndarray) -> tuple[int, int]:
    """(SPEC 7.5) Encode intervals from the last to the first; as `rans_python.encode`."""
    cum, freq = np.ascontiguousarray(cum, np.uint16), np.ascontiguousarray(freq, np.uint16)
    coder = filled(CoderWords(state=x, position=0, done=0, status=0))
    a = filled(
        EncodeWords(cum=address(cum), freq=address(freq), symbols=cum.size, words=address(words), coder=address(coder))
    )
    _encode.call(address(a), 0, 1)
    result = CoderWords(*coder.tolist())
    return result.state, result.position


def decode(
    words: np.ndarray, x: int, position: int, index: np.ndarray, tables: SymbolTables, out: np.ndarray, limit: int
) -> tuple[int, int, int, int]:
    """(SPEC 7.4) Decode one symbol for each table number; as `rans_python.decode`."""
    coder, entries = filled(CoderWords(state=x, position=position, done=0, status=0)), _entries(tables)
    a = filled(
        DecodeWords(
            words=address(words),
            word_count=words.size,
            tables=address(index),
            symbols=index.size,
            cdf=address(tables.cdf),
            start=address(tables.start),
            first=address(tables.first),
            lookup=address(tables.lookup),
            entries=address(entries),
            out=address(out),
            limit=limit,
            coder=address(coder),
        )
    )
    _decode.call(address(a), 0, 1)
    x, position, done, status = coder.tolist()
    return x, position, done, status


_direct: WeakKeyDictionary[SymbolTables, np.ndarray] = WeakKeyDictionary()


def _entries(tables: SymbolTables) -> np.ndarray:
    """Of every table and bucket of 256 slots, in one number: cum, freq << 16, symbol's place << 32, DIRECT.

    Nine symbols of ten lie in such buckets: one load replaces the chain of four that the others need.
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
