"""Counts of the range coder's events in a stream: every symbol by table, every interval by kind, the states between.

A separate decoder, in plain integers (SPEC 7), counts while it decodes; it proves what the suites claim to cover.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from refcodec.arith.engine import Engine
from refcodec.bitstream.container import parse
from refcodec.limits import MAX_SYMBOL
from refcodec.model.integer_model import Model
from refcodec.model.symbol_tables import SymbolTables
from refcodec.slices import walk_tiles

LOW = 1 << 31


@dataclass
class Census:
    """Counts over one or more streams.

    Attributes
    ----------
    symbols : Counter of (segment, table, symbol)
        Segment is "z" or "y"; the table is the channel of z or the level of y.
    escapes : Counter of (segment, table, below, n, r)
        Sign bit, length and remainder of every escape.
    steps : Counter of (kind, bits, read)
        Intervals decoded: kind is "regular", "escape" or "raw"; bits the binary logarithm of the frequency, floored,
        and of raw bits their number; read whether a word followed.
    states : Counter of int
        The coder's state before every interval.
    turns : Counter of int
        2^31 and 2^31 - 1 where an interval led there before a word was read or not.
    """

    symbols: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    escapes: Counter[tuple[str, int, int, int, int]] = field(default_factory=Counter)
    steps: Counter[tuple[str, int, bool]] = field(default_factory=Counter)
    states: Counter[int] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)


class _Segment:
    """Decodes one segment and counts."""

    def __init__(self, name: str, data: bytes, tables: SymbolTables, census: Census) -> None:
        self.name, self.census = name, census
        self.rows = [
            (int(first), tables.cdf[a:b].tolist())
            for first, a, b in zip(tables.first, tables.start[:-1], tables.start[1:], strict=True)
        ]
        self.state = int.from_bytes(data[:8], "little")
        self.words = iter(np.frombuffer(data[8:], "<u4").tolist())

    def _step(self, cum: int, freq: int, kind: str, bits: int) -> None:
        """(SPEC 7.4) Leave an interval."""
        self.census.states[self.state] += 1
        self.state = freq * (self.state >> 16) + (self.state & 0xFFFF) - cum
        read = self.state < LOW
        if LOW - 1 <= self.state <= LOW:
            self.census.turns[self.state] += 1
        if read:
            self.state = self.state << 32 | next(self.words)
        self.census.steps[kind, bits, read] += 1

    def _raw(self, bits: int) -> int:
        if not bits:
            return 0
        value = (self.state & 0xFFFF) >> (16 - bits)
        self._step(value << (16 - bits), 1 << (16 - bits), "raw", bits)
        return value

    def symbol(self, table: int) -> int:
        """(SPEC 7.2) Decode one symbol."""
        first, boundaries = self.rows[table]
        at = int(np.searchsorted(boundaries, self.state & 0xFFFF, side="right")) - 1
        freq, regular = boundaries[at + 1] - boundaries[at], at < len(boundaries) - 2
        self._step(boundaries[at], freq, "regular" if regular else "escape", freq.bit_length() - 1)
        symbol = first + at
        if not regular:
            below, n = self._raw(1), self._raw(4)
            r = self._raw(n)
            self.census.escapes[self.name, table, below, n, r] += 1
            v = (1 << n) - 1 + r
            symbol = first - 1 - v if below else symbol + v
        self.census.symbols[self.name, table, symbol] += 1
        return symbol


class _Port:
    """A port of the walk (SPEC 6.3) that reads and counts."""

    def __init__(self, z: bytes, y: bytes, model: Model, census: Census) -> None:
        self._z = _Segment("z", z, model.factorized, census)
        self._y = _Segment("y", y, model.tables.gaussian, census)

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols of z."""
        symbols = [self._z.symbol(channel) for _ in range(shape[0] * shape[1]) for channel in range(shape[2])]
        return np.array(symbols, np.int32).reshape(shape)

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Symbols of one half of a slice."""
        return np.array([self._y.symbol(k) for k in levels.reshape(-1).tolist()], np.int32).reshape(levels.shape)


def count(data: bytes, model: Model, census: Census) -> None:
    """(SPEC 7.4) Decode the symbols of a valid stream and count what they reach.

    Parameters
    ----------
    data : bytes
        The stream.
    model : Model
    census : Census
        Receives the counts.
    """
    stream = parse(data)
    engine = Engine(model.layers, model.tables, stream.header.quality - 1, 1)
    ports = [_Port(*stream.segments(n), model, census) for n in range(stream.header.tiles)]
    deque(walk_tiles(engine, model.config, model.medians, stream.header.grid, ports), maxlen=0)


def escape_symbols(first: int, regular: int) -> list[int]:
    """(SPEC 7.2) The escapes of a table of these regular symbols: of every sign and n, the least and the greatest r.

    A greatest r that would leave -32767..32767 is replaced by the greatest that does not.
    """
    found: dict[int, None] = {}
    for start, sign in ((first + regular, 1), (first - 1, -1)):
        for n in range(16):
            values = [start + sign * v for v in ((1 << n) - 1, (2 << n) - 2)]
            if abs(values[0]) <= MAX_SYMBOL:
                found |= dict.fromkeys([values[0], max(-MAX_SYMBOL, min(MAX_SYMBOL, values[1]))])
    return list(found)
