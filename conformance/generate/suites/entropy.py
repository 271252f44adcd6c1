"""The entropy suite: every row of every frequency table with every symbol, every path of the range coder (SPEC 7).

Most streams are of the model of wires, in which z chooses the scale of every 64x64 block and so the table of its
symbols. What they cover is counted by census.py, and tests hold the suite to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import ceil

import numpy as np

from refcodec.bitstream.container import parse, serialise
from refcodec.limits import MAX_SYMBOL
from refcodec.model.integer_model import Model
from refcodec.model.symbol_tables import SymbolTables

from ...kit.clauses import cited
from ...reach.census import escape_symbols
from ...synthetic.models import wires
from ...synthetic.models.procedural import model
from ...synthetic.writer import (
    STYLES,
    ChooseZ,
    fill_y,
    fill_z,
    header_of,
    no_y,
    random_stream,
    regular_range,
    stream_of,
)
from ...synthetic.z_tables import EXACT_SYMBOLS, SHAPES, TABLES, Z_DIGITS
from ..registry import Case, generator, reject

BLOCK = 64
BLOCK_SYMBOLS = 16 * wires.CONFIG.M
"""Symbols of y in a block of the model of wires."""

GROUP = 16
"""Levels a stream."""

FEW = 64
"""Tables of z with more regular symbols than this are sampled: first, last and those around multiples of 256 slots."""


def scale_of(level: int, thresholds: np.ndarray) -> int:
    """(SPEC 6.8) A scale in Q10 in the middle of a level."""
    ends: list[int] = [0, *thresholds.tolist(), int(thresholds[-1]) + 2000]
    return (ends[level] + ends[level + 1]) // 2


def all_symbols(tables: SymbolTables, number: int) -> list[int]:
    """(SPEC 7.2) Every regular symbol of a table, and escapes of every sign and length at both ends."""
    low, high = (int(v) for v in regular_range(tables, np.array(number)))
    return [*range(low, high + 1), *escape_symbols(low, high + 1 - low)]


def block_scales(scales: list[int], columns: int) -> tuple[int, int, ChooseZ]:
    """Width, height and z of a picture of wires whose blocks have these scales, row by row; the last fills the rest."""
    rows = ceil(len(scales) / columns)

    def choose_z(medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        symbols = np.zeros((rows * columns, shape[2]), np.int32)
        symbols[:, Z_DIGITS.start : Z_DIGITS.stop] = wires.digits_of(scales[-1])
        symbols[: len(scales), Z_DIGITS.start : Z_DIGITS.stop] = [wires.digits_of(s) for s in scales]
        return symbols

    return BLOCK * columns, BLOCK * rows, choose_z


class InTurn:
    """Chooses, wherever a level occurs, the next symbol of the level's list; zeros when it is used up."""

    def __init__(self, wanted: dict[int, list[int]]) -> None:
        self._wanted = {level: iter(symbols) for level, symbols in wanted.items()}

    def __call__(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Symbols of one half of a slice."""
        nothing: Iterator[int] = iter(())
        symbols = [next(self._wanted.get(level, nothing), 0) for level in levels.reshape(-1).tolist()]
        return np.array(symbols, np.int32).reshape(levels.shape)


@generator("entropy", "gaussian")
def gaussian() -> Iterator[Case]:
    """Every symbol of every Gaussian table: all regular ones, and escapes of both signs and of every length n that a
    symbol can have, with the least and the greatest remainder r. A stream holds 16 levels, block by block.
    """
    made = model("wires")
    for first in range(0, len(made.tables.gaussian), GROUP):
        wanted = {level: all_symbols(made.tables.gaussian, level) for level in range(first, first + GROUP)}
        scales = [
            scale_of(level, made.tables.thresholds)
            for level, symbols in wanted.items()
            for _ in range(ceil(len(symbols) / BLOCK_SYMBOLS))
        ]
        width, height, choose_z = block_scales(scales, columns=4)
        yield Case(
            f"entropy/gaussian-{first:03}-{first + GROUP - 1:03}",
            stream_of(made, width, height, choose_z=choose_z, choose_y=InTurn(wanted)),
            "wires",
            cited("7.1-1..2 7.2-1..5 7.4-1..2 6.8-6 A.5-2 A.7-1 A.8-1 10.2-19"),
            f"A row of the Gaussian tables of levels {first}..{first + GROUP - 1} differs, or where it begins, "
            "or an escape's sign, length or remainder is read wrongly.",
            f"levels {first}..{first + GROUP - 1}, every symbol in turn",
        )


def _sampled(tables: SymbolTables, channel: int) -> list[int]:
    """(SPEC 7.2) Symbols of a table of z: all of them, or for large tables first, last and around high bytes."""
    first, boundaries = TABLES[channel]
    regular = len(boundaries) - 2
    if regular <= FEW:
        return all_symbols(tables, channel)
    slots = [256 * n + d for n in (1, 128, 255) for d in (-1, 0, 1)]
    places = {0, 1, regular - 2, regular - 1, *(int(np.searchsorted(boundaries, s, "right")) - 1 for s in slots)}
    return [*(first + p for p in sorted(places) if p < regular), *escape_symbols(first, regular)]


@generator("entropy", "z-tables")
def z_tables() -> Iterator[Case]:
    """Tables of z at the limits of SPEC 7.1: one regular symbol with frequency 65535 or 1, the least and the greatest
    symbol alone, all 65535 symbols with frequency 1, intervals around every high byte; each symbol in turn, or for
    large tables a sample, and every escape. And every symbol of a procedural model's tables.
    """
    for name, columns in (("wires", 8), ("tiny-7", 8)):
        made = model(name)
        channels = range(made.config.hyper)
        listed = _sampled if name == "wires" else all_symbols
        wanted = [listed(made.factorized, c) for c in channels]
        rows = ceil(max(map(len, wanted)) / columns)
        turns = np.array([[symbols[n % len(symbols)] for symbols in wanted] for n in range(rows * columns)], np.int32)
        yield Case(
            f"entropy/z-tables-{name}",
            stream_of(made, BLOCK * columns, BLOCK * rows, choose_z=fill_z(turns)),
            name,
            cited("7.1-1..4 7.2-1..3 7.2-5 6.4-3..5 10.2-17..18"),
            "A table of z is searched wrongly at its ends or at a multiple of 256, or the tables are taken in another "
            "order than channel by channel.",
            "every symbol of every channel's table in turn",
        )


@generator("entropy", "z-escapes")
def z_escapes() -> Iterator[Case]:
    """Escapes from every table of z in turn, among them tables whose escape has most of the range: a word follows such
    an interval once in thousands, and raw bits once in a few.
    """
    made = model("wires")
    escapes = [escape_symbols(first, len(boundaries) - 2) or [first] for first, boundaries in TABLES]
    turns = np.array([[symbols[(n + c) % len(symbols)] for c, symbols in enumerate(escapes)] for n in range(256)])
    turns[:, Z_DIGITS.start :] = 0
    yield Case(
        "entropy/z-escapes",
        stream_of(made, BLOCK * 16, BLOCK * 16, choose_z=fill_z(turns)),
        "wires",
        ("7.1-2", "7.2-2", "7.2-3", "7.2-4", "7.2-5", "7.4-2", "6.4-3"),
        "Raw bits behind an escape are read in another order than sign, length, remainder, or a word that falls "
        "due between them is not read.",
        "escapes of every table in turn",
    )


@generator("entropy", "states")
def states() -> Iterator[Case]:
    """Segments that bring the coder's state exactly to the values at which comparisons turn: 2^31 in the middle and as
    the first state, 2^31 - 1 before a word is read, 2^47 after a word of 0, and 2^63 - 2^31 - 3 as the first state.
    """
    made = model("wires")
    exact = np.array([*EXACT_SYMBOLS, *(first for first, _ in SHAPES), 0, 0, 0, 0], np.int32)
    clauses = ("7.3-1", "7.4-1", "7.4-2", "7.5-1", "7.5-2", "7.6-2", "7.6-4")
    yield Case(
        "entropy/state-exact",
        stream_of(made, 1, 1, choose_z=fill_z(exact)),
        "wires",
        clauses,
        "A word is read at 2^31 or not read at 2^31 - 1, a first state near 2^63 is refused or overflows, or a "
        "product by the frequency 65535 overflows.",
        "intervals of z_tables.py in the order of decoding",
        definition=True,
    )
    yield Case(
        "entropy/state-lowest",
        stream_of(made, 1, 1, choose_y=fill_y(-1)),
        "wires",
        clauses,
        "The first state 2^31 is refused, or a frequency of 1 is treated as 0: the state alternates between "
        "2^31 and 2^47, and every word is 0.",
        "scale 0, every symbol of y is -1",
        definition=True,
    )


@generator("entropy", "lengths")
def lengths() -> Iterator[Case]:
    """The shortest and the longest segments: eight bytes without a word, and 35 bits a symbol."""
    suggests = "The end of a segment is taken wrongly, or a buffer is sized by what an encoder of pictures writes."
    shortest = stream_of(model("wires"), 1, 1)
    yield Case(
        "entropy/shortest-y",
        shortest,
        "wires",
        ("7.3-3", "7.6-4"),
        suggests,
        "scale 0, every symbol of y is 0",
        definition=True,
    )
    yield Case(
        "entropy/shortest-z",
        stream_of(model("tiny-7"), 1, 1, choose_y=no_y),
        "tiny-7",
        ("7.3-3", "7.6-4"),
        suggests,
        "every symbol is 0",
        definition=True,
    )
    yield Case(
        "entropy/longest-y",
        stream_of(model("wires"), 192, 192, choose_y=fill_y(MAX_SYMBOL)),
        "wires",
        ("7.2-3", "7.2-6", "7.3-3", "6.9-1"),
        suggests,
        "scale 0, every symbol of y is 32767",
    )
    low, high = (int(v) for v in (-MAX_SYMBOL, MAX_SYMBOL))
    turns = np.array([[high if first <= 0 else low for first, _ in TABLES]], np.int32)
    yield Case(
        "entropy/longest-z",
        stream_of(model("wires"), 192, 192, choose_z=fill_z(turns)),
        "wires",
        ("7.2-3", "7.2-6", "7.3-3", "6.4-4"),
        suggests,
        "every symbol of z is that of magnitude 32767 which lies further from its table",
    )


def _with_segments(made: Model, z: bytes | None, y: bytes | None) -> bytes:
    """A sealed stream of 1x1 with other segments; None keeps that of zeros."""
    zeros = parse(stream_of(made, 1, 1)).segments()
    segments = (zeros[0] if z is None else z, zeros[1] if y is None else y)
    return serialise(header_of(made, 1, 1), [segments])


@generator("entropy", "empty")
def empty() -> Iterator[Case]:
    """Segments of no bytes. The smallest picture has 16 positions of y and one of z, and widths are at least 2, so
    there are symbols in both segments of every picture: the container allows the length 0, the coder never does.
    """
    made = model("tiny-7")
    suggests = "An empty segment is taken for one of symbols 0, or read beyond its end."
    for name, segments in (("z", (b"", None)), ("y", (None, b"")), ("both", (b"", b""))):
        yield Case(
            f"entropy/empty-{name}",
            _with_segments(made, *segments),
            "tiny-7",
            ("7.3-2", "7.6-1", "8.3-4", "1.4-2"),
            suggests,
            f"1x1, no bytes in {name}",
            reject("CoderError"),
            definition=True,
        )


@generator("entropy", "random")
def random() -> Iterator[Case]:
    """Random symbols of every style for procedural models: near zero, at the tables' edges, escapes, extremes."""
    stream = partial(random_stream, seed=6)
    for name, width, height in (("tiny-7", 64, 64), ("mid-7", 200, 130)):
        for style in STYLES:
            yield Case(
                f"entropy/random-{name}-{style}",
                stream(model(name), width=width, height=height, style=style),
                name,
                ("7.2-1", "7.2-2", "7.4-1", "6.8-6", "6.9-1", "6.9-6"),
                "Symbols are read in another order than slice, half, row, column, channel, or with the table of "
                "another scale; or contexts take in symbols that no encoder would choose.",
                f"style {style}, seed 6",
                definition=name == "tiny-7" and style in ("mixed", "edges"),
            )
