"""The small steps of the slice walk in one pass each (SPEC 6.3, 6.8, 6.9); called from refcodec/arith/jit/walk.py."""

from __future__ import annotations

import numpy as np
from numba import types

from ..native.build import memory, task
from . import words as W

_U8, _I16, _I32, _I64 = types.uint8, types.int16, types.int32, types.int64


@task
def split(arguments, y0, y1):
    """Rows y0..y1 of parameters [h, w, 2 C] -> levels and means [h, w, C]."""
    a = memory(arguments, _I64)
    parameters, level_of = memory(a[W.S_PARAMETERS], _I32), memory(a[W.S_LEVEL_OF], _U8)
    levels, means = memory(a[W.S_LEVELS], _I32), memory(a[W.S_MEANS], _I32)
    top, limit, width, channels = a[W.S_TOP], a[W.S_LIMIT], a[W.S_WIDTH], a[W.S_CHANNELS]
    for y in range(y0, y1):
        for x in range(width):
            source, to = y * a[W.S_ROW] + x * a[W.S_COLUMN], (y * width + x) * channels
            for c in range(channels):
                levels[to + c] = level_of[min(max(np.int64(parameters[source + c]), 0), top)]
                means[to + c] = min(max(np.int64(parameters[source + channels + c]), -limit), limit)


@task
def place(arguments, y0, y1):
    """Rows y0..y1 of clamp(symbol << up + mean) into one half of y_hat, rescaled into current."""
    a = memory(arguments, _I64)
    symbols, means = memory(a[W.P_SYMBOLS], _I32), memory(a[W.P_MEANS], _I32)
    y_hat, current = memory(a[W.P_Y_HAT], _I16), memory(a[W.P_CURRENT], _I16)
    up, limit, shift, top = a[W.P_UP], a[W.P_LIMIT], a[W.P_SHIFT], a[W.P_TOP]
    width, channels = a[W.P_WIDTH], a[W.P_CHANNELS]
    half = (1 << shift) >> 1
    for y in range(y0, y1):
        for n in range(width):
            x = 2 * n + ((y + a[W.P_PARITY]) & 1)
            source, to = (y * width + n) * channels, y * a[W.P_ROW] + x * a[W.P_COLUMN]
            copy = y * a[W.P_CURRENT_ROW] + x * a[W.P_CURRENT_COLUMN]
            for c in range(channels):
                v = min(max((np.int64(symbols[source + c]) << up) + means[source + c], -limit), limit)
                y_hat[to + c] = v
                current[copy + c] = min(max((v + half) >> shift, -top), top)


@task
def refine(arguments, y0, y1):
    """Rows y0..y1 of one half of y_hat: add the table's value of a residual, and renew current."""
    a = memory(arguments, _I64)
    residual, table = memory(a[W.R_RESIDUAL], _I16), memory(a[W.R_TABLE], _I16)
    y_hat, current = memory(a[W.R_Y_HAT], _I16), memory(a[W.R_CURRENT], _I16)
    last, limit, shift, top = a[W.R_LAST], a[W.R_LIMIT], a[W.R_SHIFT], a[W.R_TOP]
    half = (1 << shift) >> 1
    for y in range(y0, y1):
        for n in range(a[W.R_WIDTH]):
            x = 2 * n + ((y + a[W.R_PARITY]) & 1)
            source = y * a[W.R_RESIDUAL_ROW] + n * a[W.R_RESIDUAL_COLUMN]
            to = y * a[W.R_ROW] + x * a[W.R_COLUMN]
            copy = y * a[W.R_CURRENT_ROW] + x * a[W.R_CURRENT_COLUMN]
            for c in range(a[W.R_CHANNELS]):
                r = np.int64(residual[source + c])
                bend = np.int64(table[min(abs(r), last)])
                v = min(max(np.int64(y_hat[to + c]) + (bend if r > 0 else -bend), -limit), limit)
                y_hat[to + c] = v
                current[copy + c] = min(max((v + half) >> shift, -top), top)


@task
def half(arguments, y0, y1):
    """Rows y0..y1 of one half of the checkerboard."""
    a = memory(arguments, _I64)
    source, out = memory(a[W.H_SOURCE], _I16), memory(a[W.H_OUT], _I16)
    for y in range(y0, y1):
        for n in range(a[W.H_WIDTH]):
            x = 2 * n + ((y + a[W.H_PARITY]) & 1)
            at, to = y * a[W.H_ROW] + x * a[W.H_COLUMN], y * a[W.H_OUT_ROW] + n * a[W.H_OUT_COLUMN]
            for c in range(a[W.H_CHANNELS]):
                out[to + c] = source[at + c]


@task
def clear_border(arguments, height, width_channels):
    """Zero two rows and columns at every side of the map [height, width, C] at the address ``arguments``.

    Not rows of words but the map itself, since this is called for every map: the third number is width << 32 | C.
    """
    out = memory(arguments, _I16)
    width, channels = width_channels >> 32, width_channels & 0xFFFFFFFF
    for y in range(height):
        step = 1 if y < 2 or y >= height - 2 or width <= 4 else width - 3  # from column 1 to the last but one
        x = 0
        while x < width:
            at = (y * width + x) * channels
            for c in range(channels):
                out[at + c] = 0
            x += step if x == 1 else 1
