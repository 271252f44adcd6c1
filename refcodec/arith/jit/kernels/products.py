"""Exact matrix products of integers in float64, in registers: for GDN and both attentions.

The callers prove that every partial sum is an integer below 2^53; then no order of summation and no fusing of
multiplication and addition can change it.
"""

from __future__ import annotations

from llvmlite import ir

from ..native.blocks import F64, block
from ..target import WIDE
from .constants import DOUBLES

REAL = ir.VectorType(F64, DOUBLES)

ROWS, VECTORS = (8, 4) if WIDE else (6, 1)
"""Sums kept in registers at once: a vector is one register of AVX-512's 32, two of AVX2's 16."""


def product_block(rows, vectors):
    """A block of ``rows`` x 8 ``vectors`` sums."""

    def write(w, out, out_at, out_stride, a, a_at, a_stride, a_step, b, b_at, b_stride, count):
        left = [a.behind(w.b.add(a_at, w.b.mul(a_stride, w.number(r)))) for r in range(rows)]
        right = b.behind(b_at)

        def part(first_row, end_row, first_vector, end_vector):
            """One loop over k for sums that fit the registers."""
            columns = [w.number(DOUBLES * v) for v in range(first_vector, end_vector)]
            starts = [w.b.add(out_at, w.b.mul(out_stride, w.number(r))) for r in range(first_row, end_row)]
            cells = [w.b.add(start, column) for start in starts for column in columns]

            def add_products(k, sums):
                row = right.behind(w.b.mul(k, b_stride))
                factors = [row.load(column, REAL) for column in columns]
                new = []
                for r in range(first_row, end_row):
                    factor = w.splat(REAL, left[r].load(w.b.mul(k, a_step), F64))
                    new += [
                        w.call("llvm.fmuladd.v8f64", REAL, factor, f, sums[len(new) + n]) for n, f in enumerate(factors)
                    ]
                return new

            sums = w.loop(count, [out.load(cell, REAL) for cell in cells], add_products)
            for value, cell in zip(sums, cells, strict=True):
                out.store(value, cell)

        step = -(-rows // -(-rows // ROWS))  # rows in parts of equal height
        for r in range(0, rows, step):
            for v in range(0, vectors, VECTORS):
                part(r, min(r + step, rows), v, min(v + VECTORS, vectors))

    @block(write)
    def product(out, out_at, out_stride, a, a_at, a_stride, a_step, b, b_at, b_stride, count):
        """Add to each out[out_at + r out_stride + j] the sum over k < count, at least one, of
        a[a_at + r a_stride + k a_step] b[b_at + k b_stride + j].
        """
        width = DOUBLES * vectors
        for r in range(rows):
            to, of = out_at + r * out_stride, a_at + r * a_stride
            for k in range(count):
                row = b_at + k * b_stride
                out[to : to + width] += a[of + k * a_step] * b[row : row + width]

    return product
