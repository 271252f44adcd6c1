"""Exact matrix products of integers in float64, in registers: what GDN and both attentions are made of, in Numba.

The callers prove that every partial sum is an integer below 2^53; then no order of summation and no fusing of
multiplication and addition can change it.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..native.private import declare, elements
from ..target import WIDE

LANES = 8

ROWS, VECTORS = (8, 4) if WIDE else (6, 1)
"""Sums kept in registers at once: a vector is one register of AVX-512's 32, two of AVX2's 16."""


def product_kernel(rows, vectors):
    """An intrinsic for blocks of ``rows`` x 8 ``vectors``."""

    @intrinsic
    def product(typing, out, out_at, out_stride, a, a_at, a_stride, b, b_at, b_stride, count):
        """out[out_at + r out_stride + j] += sum over k < count of a[a_at + r a_stride + k] b[b_at + k b_stride + j]."""
        i = types.int64

        def codegen(context, builder, sig, args):
            f64, i64, i32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
            vector = ir.VectorType(f64, LANES)
            zero = ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)
            undefined = ir.Constant(vector, ir.Undefined)
            kind = ir.FunctionType(vector, [vector] * 3)
            fma = declare(builder.module, kind, "llvm.fmuladd.v8f64")

            def data(n):
                return elements(context, builder, sig.args[n], args[n])

            def const(v):
                return ir.Constant(i64, v)

            def cell(r, v):
                at = builder.add(args[1], builder.add(builder.mul(args[2], const(r)), const(LANES * v)))
                return builder.bitcast(builder.gep(data(0), [at]), vector.as_pointer())

            def load(pointer):
                value = builder.load(pointer)
                value.align = 8
                return value

            def part(first_row, end_row, first_vector, end_vector):
                """One loop over k for sums that fit the registers."""
                cells = [(r, v) for r in range(first_row, end_row) for v in range(first_vector, end_vector)]
                start = [load(cell(r, v)) for r, v in cells]
                entry, head, loop, done = (
                    builder.block,
                    *(builder.function.append_basic_block(n) for n in ("head", "loop", "done")),
                )
                builder.branch(head)
                builder.position_at_end(head)
                k, sums = builder.phi(i64), [builder.phi(vector) for _ in start]
                builder.cbranch(builder.icmp_signed("<", k, count), loop, done)
                builder.position_at_end(loop)
                row = builder.gep(b_p, [builder.mul(k, b_stride)])
                right = {
                    v: load(builder.bitcast(builder.gep(row, [const(LANES * v)]), vector.as_pointer()))
                    for v in range(first_vector, end_vector)
                }
                new = []
                for r in range(first_row, end_row):
                    left = builder.insert_element(
                        undefined, builder.load(builder.gep(a_p[r], [k])), ir.Constant(i32, 0)
                    )
                    left = builder.shuffle_vector(left, undefined, zero)
                    new += [builder.call(fma, [left, right[v], sums[len(new) + n]]) for n, v in enumerate(right)]
                for phi, first, later in zip(
                    [k, *sums], [const(0), *start], [builder.add(k, const(1)), *new], strict=True
                ):
                    phi.add_incoming(first, entry)
                    phi.add_incoming(later, loop)
                builder.branch(head)
                builder.position_at_end(done)
                for at, value in zip(cells, sums, strict=True):
                    builder.store(value, cell(*at)).align = 8

            a_p = [builder.gep(data(3), [builder.add(args[4], builder.mul(args[5], const(r)))]) for r in range(rows)]
            b_p, b_stride, count = builder.gep(data(6), [args[7]]), args[8], args[9]
            step = -(-rows // -(-rows // ROWS))  # rows in parts of equal height
            for r in range(0, rows, step):
                for v in range(0, vectors, VECTORS):
                    part(r, min(r + step, rows), v, min(v + VECTORS, vectors))
            return context.get_dummy_value()

        return types.void(out, i, i, a, i, i, b, i, i, i), codegen

    return product
