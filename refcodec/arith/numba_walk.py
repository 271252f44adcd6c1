"""The small steps of the slice walk in one pass each (SPEC 6.8, 6.9); as the methods of the engine they stand for.

In NumPy each is half a dozen passes over arrays that come fresh from the system; all of a slice's together took as
long as its entropy parameters.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numba import types

from ..data import Tables
from .backend import kernel, reads, writes
from .layers import Rescale
from .maps import interior

_I16, _I32, _I64 = types.int16, types.int32, types.int64

_levels: WeakKeyDictionary[Tables, np.ndarray] = WeakKeyDictionary()


def _level_of(tables: Tables) -> np.ndarray:
    """Level of every scale from 0 to the last threshold, uint8."""
    found = _levels.get(tables)
    if found is None:
        scales = np.arange(int(tables.thresholds[-1]) + 1)
        found = _levels[tables] = np.searchsorted(tables.thresholds, scales, side="right").astype(np.uint8)
    return found


@kernel(reads(_I32, 3), reads(types.uint8, 1, "C"), _I64, writes(_I32, 3, "C"), writes(_I32, 3, "C"))
def _split(parameters, level_of, limit, levels, means):
    top = level_of.shape[0] - 1
    channels = levels.shape[2]
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            for c in range(channels):
                levels[y, x, c] = level_of[min(max(parameters[y, x, c], 0), top)]
                means[y, x, c] = min(max(parameters[y, x, channels + c], -limit), limit)


def levels_and_means(parameters: np.ndarray, tables: Tables, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(SPEC 6.8) Wide map of scales and means -> levels and means clamped to ``limit``, both int32 [h, w / 2, C].

    A scale below 0 has level 0, as the thresholds are positive.
    """
    inner = interior(parameters)
    shape = (inner.shape[0], inner.shape[1], inner.shape[2] // 2)
    levels, means = np.empty(shape, np.int32), np.empty(shape, np.int32)
    _split(inner, _level_of(tables), limit, levels, means)
    return levels, means


@kernel(reads(_I32, 3, "C"), reads(_I32, 3, "C"), _I64, _I64, _I64, writes(_I16, 3), _I64, _I64, writes(_I16, 3))
def _place(symbols, means, parity, up, limit, y_hat, shift, top, current):
    half = (1 << shift) >> 1
    for y in range(symbols.shape[0]):
        for n in range(symbols.shape[1]):
            x = 2 * n + ((y + parity) & 1)
            for c in range(symbols.shape[2]):
                v = min(max((np.int64(symbols[y, n, c]) << up) + means[y, n, c], -limit), limit)
                y_hat[y, x, c] = v
                current[y, x, c] = min(max((v + half) >> shift, -top), top)


def place(symbols: np.ndarray, means: np.ndarray, parity: int, frac: int, limit: int, y_hat: np.ndarray,
          layer: Rescale, current: np.ndarray) -> None:
    """(SPEC 6.9) clamp(symbol * 2^frac + mean) into one half of y_hat, and its context copy into current (maps)."""
    _place(symbols, means, parity, frac, limit, interior(y_hat), layer.shift, layer.limit, interior(current))


@kernel(reads(_I16, 3), reads(_I16, 1, "C"), _I64, _I64, writes(_I16, 3), _I64, _I64, writes(_I16, 3))
def _refine(residual, table, parity, limit, y_hat, shift, top, current):
    half, last = (1 << shift) >> 1, table.shape[0] - 1
    for y in range(residual.shape[0]):
        for n in range(residual.shape[1]):
            x = 2 * n + ((y + parity) & 1)
            for c in range(residual.shape[2]):
                r = np.int64(residual[y, n, c])
                bend = np.int64(table[min(abs(r), last)])
                v = min(max(np.int64(y_hat[y, x, c]) + (bend if r > 0 else -bend), -limit), limit)
                y_hat[y, x, c] = v
                current[y, x, c] = min(max((v + half) >> shift, -top), top)


def refine(residual: np.ndarray, table: np.ndarray, parity: int, limit: int, y_hat: np.ndarray, layer: Rescale,
           current: np.ndarray) -> None:
    """(SPEC 6.9) Add 0.5 tanh of a packed map to one half of y_hat and renew its context copy.

    ``table[0]`` is 0, so that the sign of a zero does not matter.
    """
    _refine(interior(residual), table, parity, limit, interior(y_hat), layer.shift, layer.limit, interior(current))


@kernel(writes(_I16, 3, "C"))
def clear_border(out):
    """As ``maps.clear_border``: in NumPy the four ranges cost more than what many a map is made for."""
    height, width, channels = out.shape
    for y in range(height):
        step = 1 if y < 2 or y >= height - 2 or width <= 4 else width - 3  # from column 1 to the last but one
        x = 0
        while x < width:
            for c in range(channels):
                out[y, x, c] = 0
            x += step if x == 1 else 1


@kernel(reads(_I16, 3), _I64, writes(_I16, 3))
def _half(source, parity, out):
    for y in range(out.shape[0]):
        for n in range(out.shape[1]):
            x = 2 * n + ((y + parity) & 1)
            for c in range(out.shape[2]):
                out[y, n, c] = source[y, x, c]


def half(source: np.ndarray, parity: int, out: np.ndarray) -> None:
    """(SPEC 6.3) One half of the checkerboard of a map into a packed map."""
    _half(interior(source), parity, interior(out))
