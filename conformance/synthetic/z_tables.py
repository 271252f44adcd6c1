"""Frequency tables of z for the model of wires: shapes at the rules' limits, and the intervals that reach exact states.

The coder's state is a function of the intervals alone. The groups below are made so that encoding one from the state
2^31 ends at 2^31 again, and so do the first symbols of all other tables together; between, the state takes the values
at which an implementation's comparisons turn.
"""

from __future__ import annotations

Table = tuple[int, list[int]]
"""First symbol and boundaries (SPEC 7.1)."""

TOTAL = 1 << 16


def interval(cum: int, freq: int, first: int = 0) -> Table:
    """A table with the regular interval [cum, cum + freq); before it, if it does not start at 0, is one of the rest.

    Parameters
    ----------
    cum, freq : int
        In units of 2^-16.
    first : int
        Symbol of the first interval.

    Returns
    -------
    Table
        The first symbol, and the boundaries.
    """
    return first, sorted({0, cum, cum + freq, TOTAL})


def symbol_of(table: Table, cum: int) -> int:
    """The regular symbol whose interval starts at cum."""
    return table[0] + table[1].index(cum)


FALL = [(65533, 2), (65534, 1), (32766, 32769)]
"""Intervals in the order of decoding from the state 2^63 - 2^31 - 3 down to 2^31 + 65535; an escape follows."""

ESCAPE_ALONE: Table = (0, [0, 65535, TOTAL])
"""One regular symbol of frequency 65535; decoding its escape in the state 2^31 + 65535 reads a word that is 0."""

LAND = (0, 32)
"""From 2^42, where the escape's bits 0 and 0000 leave the state, to 2^31."""

RISE = [(0, 1), (0, 1), (0, 65535)]
"""From 2^31 to 2^31 + 32767, where the last interval makes 2^31 - 1: one below where no word is read."""

EVEN = [(0, 1), (0, 1)]
"""From 2^31 by the word 0 to exactly 2^47, and to exactly 2^31 without a word."""

_FALL_TABLES = [*(interval(*i) for i in FALL), ESCAPE_ALONE, interval(*LAND)]

EXACT_TABLES: list[Table] = [*_FALL_TABLES, *(interval(*i) for i in EVEN), *(interval(*i) for i in RISE), *_FALL_TABLES]
"""Tables of the channels that reach exact states; the first group makes 2^63 - 2^31 - 3 the segment's first state."""

EXACT_SYMBOLS = [
    *(symbol_of(interval(*i), i[0]) for i in FALL),
    1,
    0,
    0,
    0,
    0,
    0,
    0,
    *(symbol_of(interval(*i), i[0]) for i in FALL),
    1,
    0,
]
"""Their symbols: the interval each is there for, and 1, the first symbol above, for the escapes."""


def _crowded() -> list[int]:
    """255 frequencies of 1, then 65025, then 255 of 1, then the escape: lookups by the high byte scan far."""
    return [*range(256), *range(65281, TOTAL), TOTAL]


def _buckets() -> list[int]:
    """Boundaries one before, at and one after multiples of 256."""
    near = {256 * n + d for n in (1, 2, 127, 128, 129, 254, 255) for d in (-1, 0, 1)}
    return sorted({0, 1, TOTAL - 1, TOTAL} | near)


SHAPES: list[Table] = [
    (-1, [0, 1, 2, TOTAL]),  # two regular symbols of frequency 1; the escape has 65534
    (-32767, [0, 1, TOTAL]),  # the least symbol alone: escapes above only, up to v = 65533
    (32767, [0, 1, TOTAL]),  # the greatest symbol alone: escapes below only
    (-32767, list(range(TOTAL + 1))),  # every symbol is regular, the escape represents none
    (-255, _crowded()),
    (-10, _buckets()),
    (0, [0, 1, 65535, TOTAL]),  # frequencies 1, 65534 and 1
    (-4, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, TOTAL]),
    (100, [0, 32, 40000, TOTAL]),  # positive symbols only
    (-300, [0, 32, 64, 96, 65504, TOTAL]),  # negative symbols only
    (-1, [0, 64, 65472, TOTAL - 1, TOTAL]),
]
"""Tables at the limits of SPEC 7.1. The first intervals of the first eight are [0, 1), those of the others together
lead from 2^31 back to it."""

DIGITS: Table = (0, [0, *range(256, 256 + 1000 * 63, 1000), 256 + 1000 * 63, TOTAL])
"""Symbols 0..63; 0 has the interval [0, 256): four of these in a row lead from 2^31 back to it."""

TABLES: list[Table] = [*EXACT_TABLES, *SHAPES, DIGITS, DIGITS, DIGITS, DIGITS]
"""One table a channel of z."""

_EXOTIC = len(EXACT_TABLES) + len(SHAPES)
Z_EXOTIC = range(_EXOTIC)
"""Channels whose symbols become means of y."""

Z_DIGITS = range(_EXOTIC, _EXOTIC + 3)
"""Channels with the digits of the scale."""

Z_RESIDUAL = _EXOTIC + 3
"""Channel with the argument of the latent residual."""
