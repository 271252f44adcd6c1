"""GDN, IGDN and layer normalisation (SPEC 5.5, 5.6), in NumPy."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from ...model.layers import NORM_FRAC, Gdn, Norm
from ..maps import Map, interior
from . import bands
from .exact import quotient, shifted


def _norm_root(x: NDArray[np.float64], layer: Gdn) -> NDArray[np.float64]:
    """floor(sqrt(beta + gamma x^2)) as float64, below 2^26; the loader has proved the sum below 2^52.

    The root is correctly rounded by IEEE 754, and its floor is right. With m the next integer, m <= 2^26 and
    n <= m^2 - 1, so m - sqrt(n) > 1 / (2 m) >= 2^-27. Doubles just below m lie 2^-27 or less apart, so what lies within
    2^-28 of m alone is rounded to it.
    """
    n = np.empty(x.shape)
    bands.product((x * x).reshape(-1, x.shape[2]), layer.gamma.T.astype(np.float64), n.reshape(-1, x.shape[2]))
    n += layer.beta  # beta, gamma and x^2 >= 0, so every partial sum is at most the whole, below 2^52: 52 bits
    np.sqrt(n, out=n)
    return np.floor(n, out=n)


def igdn(x: Map, layer: Gdn, out: Map, threads: int = 1) -> None:
    """(SPEC 5.5) clamp(x * r >> shift, rounded).

    Parameters
    ----------
    x : map [H + 4, W + 4, C], int16
    layer : Gdn
    out : map [H + 4, W + 4, C], int16
        Only the interior is written.
    threads : int
    """
    source, target = interior(x), interior(out)

    def rows(y0: int, y1: int) -> None:
        for band in bands.cut(y0, y1, 4 * source[0].size):
            v = source[band].astype(np.float64)
            product = _norm_root(v, layer)
            product *= v  # |x r| < 2^15 * 2^26: 41 bits, as shifted wants with shift <= 36
            target[band] = np.clip(shifted(product, layer.shift), -layer.limit, layer.limit)

    bands.share(rows, source.shape[0], threads, source.size)


def gdn(x: Map, layer: Gdn, out: Map, threads: int = 1) -> None:
    """(SPEC 5.5) clamp(floor((x * 2^shift + floor(r / 2)) / r)).

    Parameters
    ----------
    x : map [H + 4, W + 4, C], int16
    layer : Gdn
    out : map [H + 4, W + 4, C], int16
        Only the interior is written.
    threads : int
    """
    source, target = interior(x), interior(out)

    def rows(y0: int, y1: int) -> None:
        for band in bands.cut(y0, y1, 4 * source[0].size):
            v = source[band].astype(np.float64)
            r = _norm_root(v, layer)
            v *= 2.0**layer.shift  # shift <= 36: integers below 2^51, 51 bits
            # r / 2 < 2^25, a multiple of 1/2 before its floor; |v| + r < 2^52: 52 bits
            v += np.floor(0.5 * r)
            target[band] = np.clip(quotient(v, r), -layer.limit, layer.limit)

    bands.share(rows, source.shape[0], threads, source.size)


def norm_gain(channels: int) -> int:
    """(SPEC 5.6) round(sqrt(C) * 2^(NORM_FRAC + 8)), by exact integers."""
    return (isqrt(channels << (2 * (NORM_FRAC + 8) + 2)) + 1) >> 1


def layer_norm(x: Map, layer: Norm, out: Map, threads: int = 1) -> None:
    """(SPEC 5.6) D * sqrt(C / (sum D^2 + epsilon)) in Q10, without rounding errors before the last.

    The loader has proved C^3 x^2 and with it sum D^2 below 2^50 and C <= 128, and epsilon < 2^50.

    Parameters
    ----------
    x : map [H + 4, W + 4, C], int16
    layer : Norm
    out : map [H + 4, W + 4, C], int16, Q10
        Only the interior is written.
    threads : int
    """
    source, target = interior(x), interior(out)
    channels = source.shape[2]

    def rows(y0: int, y1: int) -> None:
        for band in bands.cut(y0, y1, 4 * source[0].size):
            d = channels * source[band].astype(np.float64)  # C |x| < 2^22: 22 bits
            d -= source[band].sum(axis=2, keepdims=True)  # |D| < 2 C |x|: 23 bits
            v = (d * d).sum(axis=2, keepdims=True) + layer.epsilon  # partial sums grow to below 2^51: 51 bits
            h = (52 - np.frexp(v)[1]) >> 1  # frexp's exponent is the bit length
            r = np.floor(np.sqrt(np.ldexp(v, 2 * h)))  # v 4^h in [2^50, 2^52), so the floor is right (_norm_root)
            d *= np.ldexp(float(norm_gain(channels)), h)  # |D| 2^h <= sqrt(v 4^h) < 2^26, gain < 2^22: 48 bits
            # r < 2^26; |d| + 256 r < 2^48 + 2^33 + 2^34, as quotient wants: 49 bits
            d += 128 * r
            target[band] = np.clip(quotient(d, 256 * r), -layer.limit, layer.limit)

    bands.share(rows, source.shape[0], threads, source.size)
