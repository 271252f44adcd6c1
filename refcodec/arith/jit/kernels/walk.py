"""The small steps of the slice walk in one pass each (SPEC 6.3, 6.8, 6.9); called from refcodec/arith/jit/walk.py."""

from __future__ import annotations

import numpy as np
from numba import types

from ..native.blocks import words_at
from ..native.build import memory, task
from .words import HALF, PLACE, REFINE, SPLIT

_U8, _I16, _I32, _I64 = types.uint8, types.int16, types.int32, types.int64


@task
def split(arguments, y0, y1):
    """Rows y0..y1 of parameters [h, w, 2 C] -> levels and means [h, w, C]."""
    t = words_at(arguments, SPLIT)
    parameters, level_of = memory(t.parameters, _I32), memory(t.level_of, _U8)
    levels, means = memory(t.levels, _I32), memory(t.means, _I32)
    for y in range(y0, y1):
        for x in range(t.width):
            source, to = y * t.row + x * t.column, (y * t.width + x) * t.channels
            for c in range(t.channels):
                levels[to + c] = level_of[min(max(np.int64(parameters[source + c]), 0), t.top)]
                means[to + c] = min(max(np.int64(parameters[source + t.channels + c]), -t.limit), t.limit)


@task
def place(arguments, y0, y1):
    """Rows y0..y1 of clamp(symbol << up + mean) into one half of y_hat, rescaled into current."""
    t = words_at(arguments, PLACE)
    symbols, means = memory(t.symbols, _I32), memory(t.means, _I32)
    y_hat, current = memory(t.y_hat, _I16), memory(t.current, _I16)
    half = (1 << t.shift) >> 1
    for y in range(y0, y1):
        for n in range(t.width):
            x = 2 * n + ((y + t.parity) & 1)
            source, to = (y * t.width + n) * t.channels, y * t.row + x * t.column
            copy = y * t.current_row + x * t.current_column
            for c in range(t.channels):
                v = min(max((np.int64(symbols[source + c]) << t.up) + means[source + c], -t.limit), t.limit)
                y_hat[to + c] = v
                current[copy + c] = min(max((v + half) >> t.shift, -t.top), t.top)


@task
def refine(arguments, y0, y1):
    """Rows y0..y1 of one half of y_hat: add the table's value of a residual, and renew current."""
    t = words_at(arguments, REFINE)
    residual, table = memory(t.residual, _I16), memory(t.table, _I16)
    y_hat, current = memory(t.y_hat, _I16), memory(t.current, _I16)
    half = (1 << t.shift) >> 1
    for y in range(y0, y1):
        for n in range(t.width):
            x = 2 * n + ((y + t.parity) & 1)
            source = y * t.residual_row + n * t.residual_column
            to = y * t.row + x * t.column
            copy = y * t.current_row + x * t.current_column
            for c in range(t.channels):
                r = np.int64(residual[source + c])
                bend = np.int64(table[min(abs(r), t.last)])
                v = min(max(np.int64(y_hat[to + c]) + (bend if r > 0 else -bend), -t.limit), t.limit)
                y_hat[to + c] = v
                current[copy + c] = min(max((v + half) >> t.shift, -t.top), t.top)


@task
def half(arguments, y0, y1):
    """Rows y0..y1 of one half of the checkerboard."""
    t = words_at(arguments, HALF)
    source, out = memory(t.source, _I16), memory(t.out, _I16)
    for y in range(y0, y1):
        for n in range(t.width):
            x = 2 * n + ((y + t.parity) & 1)
            at, to = y * t.row + x * t.column, y * t.out_row + n * t.out_column
            for c in range(t.channels):
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
