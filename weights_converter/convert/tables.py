"""The universal integer tables of SPEC annex A, and the rule of every frequency table (SPEC A.6).

``python -m weights_converter tables`` computes them again with 60 decimal digits and writes
refcodec/data/tables.h5. Each rounding is certified: a value closer to a tie than the working precision can tell apart
raises an error, so the tables do not depend on the machine or on the library that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from refcodec.errors import UsageError
from refcodec.model.file import write_hdf5
from refcodec.model.symbol_tables import TOTAL, SymbolTables
from refcodec.model.tables import digest

DIGITS = 60
FRACTION_BITS = range(4, 13)
"""Formats Q4..Q12 for which activation tables exist."""

LEVELS = 128
WEIGHT_BITS = 48
"""Probabilities enter the frequency rule as integers in Q48."""

SCALE_BITS = 96
"""Fraction bits of the multiplier that the frequency rule searches."""

SMALLEST_WEIGHT = 1 << (WEIGHT_BITS - 18)
"""A symbol is regular if its probability is 2^-18 or more: a quarter of the probability of the smallest frequency.
Of the bounds 2^-16 .. 2^-20 this costs least on Gaussian data."""


@cache
def _mp() -> Any:
    """Make a separate context of mpmath, with DIGITS digits."""
    import mpmath

    context = mpmath.mp.clone()
    context.dps = DIGITS
    return context


def round_half_up(value: Any) -> int:
    """(SPEC A.1) floor(value + 1/2) of a number computed with DIGITS digits, certified.

    Raises
    ------
    ArithmeticError
        The value is within 1e-30 of a tie, so that its digits cannot decide the rounding.
    """
    mp = _mp()
    shifted = value + mp.mpf(1) / 2
    if abs(shifted - mp.nint(shifted)) < mp.mpf(10) ** -30:
        raise ArithmeticError(f"rounding of {value} is not certain")
    return int(mp.floor(shifted))


# ---- Activations -----------------------------------------------------------------------------------------------------


def gelu_entry(fraction_bits: int, i: int) -> int:
    """(SPEC A.2) max(x, 0) - GELU(x) at |x| = i / 2^f, in steps of 2^-f."""
    mp = _mp()
    t = mp.mpf(i) / (1 << fraction_bits)
    return round_half_up((1 << fraction_bits) * t * _tail(t))


def half_tanh_entry(fraction_bits: int, i: int) -> int:
    """(SPEC A.3) tanh(i / 2^f) / 2 in Q6."""
    mp = _mp()
    return round_half_up(32 * mp.tanh(mp.mpf(i) / (1 << fraction_bits)))


def exp2_entry(i: int) -> int:
    """(SPEC A.4) 2^(-i / 256) in Q24."""
    mp = _mp()
    return round_half_up((1 << 24) * mp.mpf(2) ** (-mp.mpf(i) / 256))


def _activation(entry: Callable[[int, int], int], fraction_bits: int, last: int) -> np.ndarray:
    """List the entries up to and including the first ``last`` from 1.0 on, where both functions are monotone."""
    values = [entry(fraction_bits, i) for i in range(1 << fraction_bits)]
    while values[-1] != last:
        values.append(entry(fraction_bits, len(values)))
    return np.array(values, np.int16)


# ---- Scales and Gaussians --------------------------------------------------------------------------------------------


def scale(level: Any) -> Any:
    """(SPEC A.5) Standard deviation of a level, 0.11 to 256 in 127 equal ratios; level may be fractional."""
    mp = _mp()
    low, high = mp.mpf(11) / 100, mp.mpf(256)
    return low * (high / low) ** (mp.mpf(level) / (LEVELS - 1))


def scale_threshold(k: int) -> int:
    """(SPEC A.5) The geometric middle of levels k and k + 1, in Q10."""
    return round_half_up((1 << 10) * scale(k + _mp().mpf(1) / 2))


def _tail(z: Any) -> Any:
    """P(X > z) of the standard normal distribution; no cancellation for large z."""
    mp = _mp()
    return mp.erfc(z / mp.sqrt(2)) / 2


def gaussian_table(level: int) -> tuple[int, list[int]]:
    """(SPEC A.7) Frequency table of one level.

    Returns
    -------
    first : int
        The smallest regular symbol, -B.
    boundaries : list of int
        2 B + 3 boundaries: the symbols -B..B, then the escape.
    """
    sigma, half = scale(level), _mp().mpf(1) / 2
    tail = _tail(half / sigma)  # P(X > i + 1/2)
    weights = [_weight(1 - 2 * tail)]
    while True:
        i = len(weights)
        beyond = _tail((i + half) / sigma)
        weight = _weight(tail - beyond)
        if i > 1 and weight < SMALLEST_WEIGHT:
            break
        weights.append(weight)
        tail = beyond
    boundaries = _boundaries([*weights[:0:-1], *weights, _weight(2 * tail)])
    return 1 - len(weights), boundaries


def _weight(probability: Any) -> int:
    return round_half_up((1 << WEIGHT_BITS) * probability)


# ---- Frequencies -----------------------------------------------------------------------------------------------------


def weight_frequencies(weights: Sequence[int]) -> list[int]:
    """(SPEC A.6) Frequencies max(1, round(L w / 2^96)) with the largest L whose sum fits; the rest to the likeliest.

    Parameters
    ----------
    weights : sequence of int
        [n] non-negative, 2 <= n <= 65536, not all 0.

    Returns
    -------
    list of int
        [n] frequencies of at least 1, with sum 65536. Equal weights have equal frequencies, save the likeliest's.

    Raises
    ------
    UsageError
        There are too few or too many weights, a negative one, or only zeros.
    """
    if not 2 <= len(weights) <= TOTAL or min(weights) < 0 or max(weights) == 0:
        raise UsageError("not a distribution over 2 to 65536 symbols", where="SPEC A.6", symbols=len(weights))
    half = 1 << (SCALE_BITS - 1)

    def scaled(multiplier: int) -> list[int]:
        return [max(1, (multiplier * weight + half) >> SCALE_BITS) for weight in weights]

    fits, exceeds = 0, (TOTAL << SCALE_BITS) // max(weights) + 1  # the largest alone then takes all 65536
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if sum(scaled(middle)) <= TOTAL:
            fits = middle
        else:
            exceeds = middle
    result = scaled(fits)
    result[weights.index(max(weights))] += TOTAL - sum(result)
    return result


def frequencies(probabilities: np.ndarray) -> np.ndarray:
    """(SPEC A.6) The frequency rule for probabilities in floating point.

    Parameters
    ----------
    probabilities : np.ndarray
        [n] float64, finite and non-negative, not all below 2^-49; they need not sum to 1.

    Returns
    -------
    np.ndarray
        [n] int32, at least 1 each, with sum 65536.

    Raises
    ------
    UsageError
        Not a distribution over 2 to 65536 symbols.
    """
    values = np.asarray(probabilities, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise UsageError("probabilities are not a vector of finite numbers", where="SPEC A.6", shape=values.shape)
    weights = [int(value) for value in np.floor(values * (1 << WEIGHT_BITS) + 0.5)]
    return np.array(weight_frequencies(weights), np.int32)


def cdf_from_pmf(pmf: np.ndarray, tail: float) -> np.ndarray:
    """(SPEC A.6) Cumulative frequencies from the probabilities of the regular symbols and of all others together.

    Parameters
    ----------
    pmf : np.ndarray
        [count] float64, probabilities of the regular symbols in order.
    tail : float
        Probability of the escape; 0 is allowed and becomes frequency 1.

    Returns
    -------
    np.ndarray
        [count + 2] int32 from 0 to 65536, strictly increasing.

    Raises
    ------
    UsageError
        Not a distribution over 1 to 65535 regular symbols.
    """
    return np.concatenate(([0], np.cumsum(frequencies(np.append(np.asarray(pmf, np.float64), tail))))).astype(np.int32)


def _boundaries(weights: Sequence[int]) -> list[int]:
    boundaries = [0]
    for frequency in weight_frequencies(weights):
        boundaries.append(boundaries[-1] + frequency)
    return boundaries


# ---- The data file ---------------------------------------------------------------------------------------------------


def generate() -> dict[str, np.ndarray]:
    """(SPEC A.8) All tables by name, as refcodec/data/tables.h5 holds them."""
    tables: dict[str, np.ndarray] = {}
    for f in FRACTION_BITS:
        tables[f"gelu_q{f}"] = _activation(gelu_entry, f, 0)
        tables[f"half_tanh_q{f}"] = _activation(half_tanh_entry, f, 32)
    tables["exp2"] = np.array([exp2_entry(i) for i in range(257)], np.int32)
    tables["scale_thresholds"] = np.array([scale_threshold(k) for k in range(LEVELS - 1)], np.int32)
    gaussian = SymbolTables.from_lists([gaussian_table(level) for level in range(LEVELS)])
    tables["gaussian_cdf"], tables["gaussian_start"] = gaussian.cdf, gaussian.start
    tables["gaussian_first"] = gaussian.first
    return tables


def write(tables: dict[str, np.ndarray], path: Path) -> None:
    """Write the tables as little-endian integer datasets."""
    write_hdf5(path, {}, tables, force=True)


def pins(tables: dict[str, np.ndarray]) -> str:
    """The lines that pin the tables in refcodec.model.tables and SPEC annex A."""
    return "\n".join(
        f'    "{name}": ("{table.dtype}", {table.size}, "{digest(table)}"),' for name, table in tables.items()
    )
