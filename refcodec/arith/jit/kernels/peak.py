"""The kernel of the bare dot product (refcodec/arith/jit/peak.py); its products are written as the convolution's."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from ..native.blocks import I16, I32, block, words_at
from ..native.build import memory, task
from .constants import LANES, PAIRS, PEAK_BLOCKS, PEAK_VECTORS
from .words import PEAK

_I16, _I32 = types.int16, types.int32

_SUMS, _PAIRS, _WIDE = ir.VectorType(I32, LANES), ir.VectorType(I16, PAIRS), ir.VectorType(I32, PAIRS)


def _products_block(count):
    """A block that accumulates ``count`` products per step."""

    def write(w, out, at, held, read, steps):
        halves = [range(first, PAIRS, 2) for first in (0, 1)]

        def pairs(array, at):
            return w.b.sext(array.load(at, _PAIRS), _WIDE)

        first = [pairs(held, w.number(PAIRS * n)) for n in range(count)]

        def add_products(k, totals):
            second = pairs(read, w.b.mul(w.b.and_(k, w.number(PEAK_VECTORS - 1)), w.number(PAIRS)))
            products = [w.b.mul(v, second) for v in first]
            return [
                w.b.add(total, w.b.add(*(w.lanes(product, half) for half in halves)))
                for total, product in zip(totals, products, strict=True)
            ]

        for n, total in enumerate(w.loop(steps, [w.every(_SUMS, 0)] * count, add_products)):
            out.store(total, w.b.add(at, w.number(LANES * n)))

    @block(write)
    def accumulate(out, at, held, read, steps):
        """Set out[at + 16 n + j] to the sum over k < steps, at least one, and t < 2 of
        held[32 n + 2 j + t] read[32 (k mod 64) + 2 j + t], modulo 2^32.
        """
        turns = np.bincount(np.arange(steps) % PEAK_VECTORS, minlength=PEAK_VECTORS)
        second = read[0 : PEAK_VECTORS * PAIRS].reshape(PEAK_VECTORS, PAIRS) * turns[:, None]
        products = held[0 : count * PAIRS].reshape(count, PAIRS) * second.sum(axis=0)
        totals = products.reshape(count * LANES, 2).sum(axis=1)
        out[at : at + count * LANES] = (totals + 2**31) % 2**32 - 2**31

    return accumulate


_small, _medium, _large = (_products_block(count) for count in PEAK_BLOCKS)


@task
def rows(arguments, y0, y1):
    """Rows y0..y1 of accumulated products."""
    t = words_at(arguments, PEAK)
    out, held, read = memory(t.out, _I32), memory(t.held, _I16), memory(t.read, _I16)
    for y in range(y0, y1):
        at = y * t.block * LANES
        if t.block == PEAK_BLOCKS[0]:
            _small(out, at, held, read, t.steps)
        elif t.block == PEAK_BLOCKS[1]:
            _medium(out, at, held, read, t.steps)
        else:
            _large(out, at, held, read, t.steps)
