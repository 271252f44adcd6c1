"""What the vector unit gives at most: pair products of int16 accumulated in int32, with nothing around them.

The products are written as the convolution's are (refcodec/arith/numba_conv.py), so they become the same instructions;
one factor stays in registers and the other comes from the nearest cache, once for several products. No convolution of
int16 can be faster on the same cores, whose share of this speed ``refcodec bench`` reports.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .numba_team import address, memory, share, task

BLOCKS = (2, 5, 12)
"""Products a step, each of 16 lanes: what fits the registers of SSE2, of AVX2, and of AVX-512; the best one counts."""

LANES = 16
PAIRS = 2 * LANES
VECTORS = 64
"""Vectors of 32 int16 that the second factor runs through: 4 KiB."""

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
            out_p, held_p, read_p = (context.make_array(sig.args[i])(context, b, args[i]).data for i in (0, 2, 3))

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
            for phi, start, later in zip([k, *totals], [const(0), *[zero] * block], [b.add(k, const(1)), *new],
                                         strict=True):
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
def _rows(arguments, y0, y1):
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


def accumulate(held: np.ndarray, read: np.ndarray, steps: int, rows: int, threads: int) -> np.ndarray:
    """Accumulate pair products, the same in every row.

    Parameters
    ----------
    held : np.ndarray [block, 32], int16
        ``block`` is one of ``BLOCKS``.
    read : np.ndarray [64, 32], int16
    steps : int

    Returns
    -------
    np.ndarray [rows, block, 16], int32
        Sum over k < steps of the pairs of held[n] times those of read[k mod 64], modulo 2^32.
    """
    out = np.zeros((rows, len(held), LANES), np.int32)
    share(_rows, np.array([address(out), address(held), address(read), steps, len(held)], np.int64), rows, threads)
    return out


class Roof(NamedTuple):
    """Multiply-accumulates a second of the fastest run, and the share of the cores' time that all runs were given."""

    speed: float
    given: float


def roof(threads: int, steps: int = 1 << 17, repeats: int = 3) -> Roof:
    """Run every block on this many threads; other work on the cores shows in ``given``."""
    rng = np.random.default_rng(0)
    read, rows, best = rng.integers(-1 << 12, 1 << 12, (VECTORS, PAIRS), np.int16), 16 * threads, 0.0
    wall, used = time.perf_counter(), time.process_time()
    for block in BLOCKS:
        held = rng.integers(-1 << 12, 1 << 12, (block, PAIRS), np.int16)
        for _ in range(repeats):
            start = time.perf_counter()
            accumulate(held, read, steps, rows, threads)
            best = max(best, rows * steps * block * PAIRS / (time.perf_counter() - start))
    wall, used = time.perf_counter() - wall, time.process_time() - used
    return Roof(best, min(1.0, used / (wall * threads)))
