"""The kernels of linear attention (SPEC 5.7, 5.9); called from refcodec/arith/jit/attention.py.

float64 holds integers below 2^53 throughout; int64 elsewhere. Scratch is on the stack, so that threads share nothing.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from ...numpy_ops.attention import exp2_negative, softmax_weights
from ..native.blocks import F64, I16, I32, I64, block, inlined, words_at
from ..native.build import helper, memory, scratch, task
from .constants import DOUBLES, FARTHEST, GROUP, POSITIONS, STEP, UNSEEN
from .products import REAL, product_block
from .words import ATTEND, EXPONENTIALS, KEY_SUMS

_I16, _I32, _I64, _F64 = types.int16, types.int32, types.int64, types.float64

SHORT, _LONG = ir.VectorType(I32, DOUBLES), ir.VectorType(I64, DOUBLES)


def exp2_of(table):
    """The table of exponentials as NumPy's functions take it."""
    return table[0:257].astype(np.int32)


def exponential(w, t, table):
    """(SPEC 5.7) IR for 2^(24 - t / 2^16) of 8 lanes of int32, 0 <= t <= FARTHEST; table is exp2.

    With m = low (256 - j) + high j, the definition is floor((m + 2^(n + 7)) / 2^(n + 8)). Both summands' lowest seven
    bits may go first, as 2^(n + 7) has none: floor((floor(m / 2^7) + 2^n) / 2^(n + 1)), where floor(m / 2^7) =
    2 low + floor((high - low) j / 2^7) <= 2^25. So 32 bits suffice, in half the registers of 64.

    Parameters
    ----------
    w : Writer
    t : vector of int32
        Distances from the largest logit, in Q16.
    table : Array
        exp2, of int32.
    """
    b, one = w.b, w.every(SHORT, 1)
    index = b.and_(b.lshr(t, w.every(SHORT, 8)), w.every(SHORT, 255))
    pairs = b.bitcast(w.gather(table, index, I64), ir.VectorType(I32, 2 * DOUBLES))
    low, high = (w.lanes(pairs, range(first, 2 * DOUBLES, 2)) for first in (0, 1))
    n = b.lshr(t, w.every(SHORT, 16))
    slope = b.ashr(b.mul(b.sub(high, low), b.and_(t, w.every(SHORT, 255))), w.every(SHORT, 7))
    total = b.add(b.add(b.shl(low, one), slope), b.shl(one, n))
    return b.lshr(total, b.add(n, one))


def _largest(w, v):
    """IR for the largest of 8 lanes, halving by halving."""
    for n in (4, 2, 1):
        v = w.larger(w.lanes(v, range(n)), w.lanes(v, range(n, 2 * n)))
    return w.b.extract_element(v, ir.Constant(I32, 0))


def _softmax_block(vectors):
    """A block for 8 ``vectors`` logits; the compiler's code for loops took three times as long."""
    count = DOUBLES * vectors

    def write(w, logits, table, weights, at):
        b = w.b
        loaded = [logits.load(w.number(DOUBLES * n), REAL) for n in range(vectors)]
        top = loaded[0]
        for v in loaded[1:]:
            top = w.larger(top, v)
        top, far = w.splat(REAL, _largest(w, top)), w.every(REAL, float(FARTHEST))
        values = [exponential(w, b.fptosi(w.smaller(b.fsub(top, v), far), SHORT), table) for v in loaded]
        total = values[0]
        for v in values[1:]:
            total = b.add(total, v)
        total = w.call("llvm.vector.reduce.add.v8i32", I32, total)  # at most 2^29
        reciprocal = w.splat(REAL, b.sitofp(b.sdiv(w.number(1 << 47), b.zext(total, I64)), F64))
        # v reciprocal <= 2^47 as v <= total: it and the rounding are exact
        for n, v in enumerate(values):
            product = b.fadd(b.fmul(b.sitofp(v, REAL), reciprocal), w.every(REAL, float(1 << 30)))
            weight = w.call("llvm.floor.v8f64", REAL, b.fmul(product, w.every(REAL, 2.0**-31)))
            weights.store(weight, b.add(at, w.number(DOUBLES * n)))

    @block(write)
    def softmax(logits, table, weights, at):
        """(SPEC 5.7) Set weights[at..], Q16, to those of logits in Q16; both are integers in float64."""
        weights[at : at + count] = softmax_weights(logits[0:count], exp2_of(table))

    return softmax


_softmax = _softmax_block(4)

_SUMS, _WEIGHTS, _VALUES, _FOUR = GROUP * STEP, GROUP * POSITIONS, POSITIONS * STEP, 4 * STEP

_key_product, _four_sums = product_block(GROUP, 2), product_block(4, 2)


def _write_exponentials(w, near, at, table, out, to):
    out.store(w.b.sitofp(exponential(w, near.load(at, SHORT), table), REAL), to)


@block(_write_exponentials)
def _exponentials_of_8(near, at, table, out, to):
    """(SPEC 5.7) Set out[to..] to 2^(24 - near[at..]) of 8 differences in Q16, at most FARTHEST."""
    out[to : to + DOUBLES] = exp2_negative(near[at : at + DOUBLES], exp2_of(table))


@helper
def _exponentials(near, table, out, at):
    """out[at..] = 2^(24 - near) for 64 differences in Q16, at most FARTHEST; returns their sum, below 2^31."""
    for n in range(0, POSITIONS, DOUBLES):
        _exponentials_of_8(near, n, table, out, at + n)
    total = 0.0
    for n in range(POSITIONS):
        total += out[at + n]
    return np.int64(total)


@task
def exponentials(arguments, first, end):
    """Groups first..end of 64 differences, by the function that weighs keys."""
    t = words_at(arguments, EXPONENTIALS)
    for group in range(first, end):
        at = group * POSITIONS
        _exponentials(memory(t.near + 4 * at, _I32), memory(t.table, _I32), memory(t.out, _F64), at)


def _write_key_weights(w, weights, to, keys, at, top, shift, table, totals):
    b = w.b
    most = b.add(b.lshr(w.number(FARTHEST), shift), w.number(1))  # a larger difference is beyond FARTHEST too
    most, shift = (w.splat(SHORT, b.trunc(v, I32)) for v in (most, shift))
    away = b.sub(top.load(w.number(0), SHORT), b.sext(keys.load(at, ir.VectorType(I16, GROUP)), SHORT))
    away = b.shl(w.smaller(w.larger(away, w.every(SHORT, 0)), most), shift)
    weight = b.sitofp(exponential(w, w.smaller(away, w.every(SHORT, FARTHEST)), table), REAL)
    weights.store(weight, to)
    totals.store(b.fadd(totals.load(w.number(0), REAL), weight), w.number(0))


@block(_write_key_weights)
def _key_weights(weights, to, keys, at, top, shift, table, totals):
    """(SPEC 5.9) Set weights[to..] to those of 8 channels of one position, and add them to totals.

    A channel that is none of the group's may have a key above its top.
    """
    away = (top[0:GROUP] - keys[at : at + GROUP]).clip(0, None) << shift
    weights[to : to + GROUP] = exp2_negative(away.clip(None, FARTHEST), exp2_of(table))
    totals[0:GROUP] += weights[to : to + GROUP]


@inlined
def _flush(t, c0, count, part, part_totals):
    """Move the sums and totals of ``count`` channels from float64 to int64."""
    sums, totals = memory(t.sums, _I64), memory(t.totals, _I64)
    for i in range(count):
        totals[c0 + i] += np.int64(part_totals[i])
        for j in range(t.width):
            sums[(c0 + i) * t.width + j] += np.int64(part[i * STEP + j])
    for i in range(_SUMS):
        part[i] = 0.0
    for i in range(GROUP):
        part_totals[i] = 0.0


@task
def key_sums(arguments, first, end):
    """Units first..end of GROUP channels of keys: their weights' totals and products with the values of their head.

    A weight is at most 2^24 and a value below 2^15: 2^13 positions sum below 2^52 in float64, then go to int64.
    """
    t = words_at(arguments, KEY_SUMS)
    keys, values, table, d = memory(t.keys, _I16), memory(t.values, _I16), memory(t.table, _I32), t.width
    tops = memory(t.top, _I64)
    part, weights, v = scratch(_F64, _SUMS), scratch(_F64, _WEIGHTS), scratch(_F64, _VALUES)
    top, totals = scratch(_I32, GROUP), scratch(_F64, GROUP)
    groups = -(-d // GROUP)
    step = 2 if t.parity >= 0 else 1
    columns = t.columns // step
    for n in range(_VALUES):
        v[n] = 0.0
    for n in range(_SUMS):
        part[n] = 0.0
    for unit in range(first, end):
        v0 = unit // groups * d
        c0 = v0 + unit % groups * GROUP
        count = min(v0 + d - c0, GROUP)
        for i in range(GROUP):
            top[i], totals[i] = tops[min(c0 + i, v0 + d - 1)], 0.0
        pending = 0
        for y in range(t.height):
            x0 = (y + t.parity) & 1 if t.parity >= 0 else 0
            for n0 in range(0, columns, POSITIONS):
                positions, x = min(columns - n0, POSITIONS), x0 + n0 * step
                at = y * t.row + x * t.column + c0
                for n in range(positions):
                    _key_weights(weights, n * GROUP, keys, at + n * step * t.column, top, t.shift, table, totals)
                at = y * t.value_row + x * t.value_column + v0
                for n in range(positions):
                    for j in range(d):
                        v[n * STEP + j] = values[at + n * step * t.value_column + j]
                for j in range(0, d, 16):
                    _key_product(part, j, STEP, weights, 0, 1, GROUP, v, j, STEP, positions)
                pending += POSITIONS
                if pending >= t.block:
                    _flush(t, c0, count, part, totals)
                    pending = 0
        _flush(t, c0, count, part, totals)


@inlined
def _attend(t, count, at, to, head, step, logits, weights, seen):
    """Results of ``count`` positions of a head from queries[at] and out[to] on, ``step`` columns apart."""
    queries, out = memory(t.queries, _I16), memory(t.out, _I16)
    context, table = memory(t.context, _F64), memory(t.table, _I32)
    d, up, top = t.width, np.float64(1 << t.shift), np.float64(t.limit)
    low = -top
    for n in range(count):
        for c in range(d):
            logits[c] = queries[at + n * step * t.column + c] * up
        for c in range(d, STEP):
            logits[c] = UNSEEN
        _softmax(logits, table, weights, n * STEP)
    for i in range(_FOUR):
        seen[i] = 32768.0
    for c in range(0, d, 16):
        _four_sums(seen, c, STEP, weights, 0, STEP, 1, context, head * d * STEP + c, STEP, d)
    for n in range(count):
        for c in range(d):
            v = np.floor(seen[n * STEP + c] * 2.0**-16)
            out[to + n * step * t.out_column + c] = np.int32(min(max(v, low), top))


@task
def attend_rows(arguments, y0, y1):
    """Rows y0..y1: softmax of queries over the channels of each head, times context [heads, d, 32].

    |sum p c| < 2^15 * (2^16 + d): exact in float64.
    """
    t = words_at(arguments, ATTEND)
    out = memory(t.out, _I16)
    weights, seen, logits = scratch(_F64, _FOUR), scratch(_F64, _FOUR), scratch(_F64, STEP)
    for n in range(_FOUR):
        weights[n] = 0.0
    step = 2 if t.parity >= 0 else 1
    positions = t.columns // step
    for y in range(y0, y1):
        x0 = (y + t.parity) & 1 if t.parity >= 0 else 0
        if t.parity >= 0:
            for n in range(positions):
                to = y * t.out_row + (2 * n + 1 - x0) * t.out_column
                for c in range(t.heads * t.width):
                    out[to + c] = 0
        for n0 in range(0, positions, 4):
            count, x = min(positions - n0, 4), x0 + n0 * step
            for head in range(t.heads):
                at, to = y * t.row + x * t.column, y * t.out_row + x * t.out_column
                start = head * t.width
                _attend(t, count, at + start, to + start, head, step, logits, weights, seen)
