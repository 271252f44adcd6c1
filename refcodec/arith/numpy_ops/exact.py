"""Exact integers in float64, which BLAS and vector units multiply fastest.

A float64 holds every multiple of 2^-s of magnitude up to 2^(53-s). So sums of integers are exact, in any order of
summation and with or without fused multiply-add, while every partial sum stays below 2^53. A shift is a scale by a
power of two, which is exact as well, and a floor.

Every block of float64 operations in this folder has its proof as a comment. "n bits" means: each result is a multiple
of some 2^-s, at most 2^(n-s) in magnitude, so it is exact for n <= 53. A proof covers every operation up to the floor,
constants that are added included, for every model that SPEC 9.2 and 10.2 admit: |weight|, |x| < 2^15; accumulators,
biases of convolutions and position biases at most 2^31 in magnitude; shifts at most 30 (GDN: 36); widths at most 2^12.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def round_shift(a: NDArray[np.int64], s: np.ndarray | int) -> NDArray[np.int64]:
    """(SPEC 5.2) floor((a + 2^(s-1)) / 2^s) on int64, a itself for s = 0."""
    shift = np.asarray(s, np.int64)
    rounded: NDArray[np.int64] = (a + ((np.int64(1) << shift) >> 1)) >> shift
    return rounded


def shifted(a: NDArray[np.float64], s: int) -> NDArray[np.float64]:
    """(SPEC 5.2) ``round_shift`` in place of integers in float64 of magnitude below 2^52, 0 <= s <= 52."""
    a *= 2.0**-s  # multiples of 2^-s below 2^(52-s): 52 bits
    a += 0.5  # s >= 1: multiples of 2^-s below 2^(52-s) + 1/2; s = 0: multiples of 1/2 below 2^52: 53 bits
    return np.floor(a, out=a)


def quotient(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give floor(a / b) of integers in float64, b >= 1 and |a| + b < 2^53, into a.

    The quotient is rounded, but its floor is right. Rounding is monotone, so the quotient cannot fall below its floor.
    It lies 1 / b or more below the next integer m, and only what lies within |m| 2^-53 of m is rounded to it: less than
    1 / b, as |m| b <= |a| + b.
    """
    a /= b
    return np.floor(a, out=a)
