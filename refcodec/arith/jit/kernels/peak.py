"""The kernel of the bare dot product (refcodec/arith/jit/peak.py); its products are written as the convolution's."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..native.build import memory, task
from ..native.private import elements
from ..peak import BLOCKS, LANES, PAIRS, VECTORS

_I16, _I32, _I64 = types.int16, types.int32, types.int64


def _block_kernel(block):
    """An intrinsic that accumulates ``block`` products a step."""
    i16, i32, i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
    pairs, wide, sums = ir.VectorType(i16, PAIRS), ir.VectorType(i32, PAIRS), ir.VectorType(i32, LANES)
    halves = [ir.Constant(sums, list(range(start, PAIRS, 2))) for start in (0, 1)]

    def const(v):
        return ir.Constant(i64, v)

    @intrinsic
    def accumulate(typing, out, at, held, read, steps):
        """out[at + 16 n + j] = sum over k < steps, t < 2 of held[32 n + 2 j + t] * read[32 (k mod 64) + 2 j + t]."""
        signature = types.void(out, types.int64, held, read, types.int64)

        def codegen(context, b, sig, args):
            out_p, held_p, read_p = (elements(context, b, sig.args[i], args[i]) for i in (0, 2, 3))

            def load(p, at):
                value = b.load(b.bitcast(b.gep(p, [at]), pairs.as_pointer()))
                value.align = 2
                return b.sext(value, wide)

            first = [load(held_p, const(PAIRS * n)) for n in range(block)]
            entry, head, loop, done = (b.block, *(b.function.append_basic_block(s) for s in ("head", "loop", "done")))
            b.branch(head)
            b.position_at_end(head)
            k, totals = b.phi(i64), [b.phi(sums) for _ in range(block)]
            b.cbranch(b.icmp_signed("<", k, args[4]), loop, done)
            b.position_at_end(loop)
            second = load(read_p, b.mul(b.and_(k, const(VECTORS - 1)), const(PAIRS)))
            new = []
            for n in range(block):
                products = b.mul(first[n], second)
                even, odd = (b.shuffle_vector(products, ir.Constant(wide, ir.Undefined), half) for half in halves)
                new.append(b.add(totals[n], b.add(even, odd)))
            zero = ir.Constant(sums, [0] * LANES)
            for phi, start, later in zip(
                [k, *totals], [const(0), *[zero] * block], [b.add(k, const(1)), *new], strict=True
            ):
                phi.add_incoming(start, entry)
                phi.add_incoming(later, loop)
            b.branch(head)
            b.position_at_end(done)
            for n, total in enumerate(totals):
                cell = b.gep(out_p, [b.add(args[1], const(LANES * n))])
                b.store(total, b.bitcast(cell, sums.as_pointer())).align = 4
            return context.get_dummy_value()

        return signature, codegen

    return accumulate


_small, _medium, _large = (_block_kernel(block) for block in BLOCKS)


@task
def rows(arguments, y0, y1):
    """Rows y0..y1; the arguments are the addresses of out, held and read, the steps a row, and the block."""
    a = memory(arguments, _I64)
    out, held, read, steps, block = memory(a[0], _I32), memory(a[1], _I16), memory(a[2], _I16), a[3], a[4]
    for y in range(y0, y1):
        at = y * block * LANES
        if block == 2:
            _small(out, at, held, read, steps)
        elif block == 5:
            _medium(out, at, held, read, steps)
        else:
            _large(out, at, held, read, steps)
