"""The kernels of the two attentions (SPEC 5.7 to 5.9); called from refcodec/arith/jit/attention.py.

float64 holds integers below 2^53 throughout; int64 elsewhere. Scratch is on the stack, so that threads share nothing.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..attention import FARTHEST, GROUP, POSITIONS, STEP, UNSEEN
from ..native.build import helper, memory, scratch, task
from ..native.private import declare, elements
from . import words as W
from .products import LANES, product_kernel

_I16, _I32, _I64, _F64 = types.int16, types.int32, types.int64, types.float64

_ROW, _QUERIES, _LANES = STEP, 28 * STEP, 32 * STEP

_scores_all, _scores_anchors, _one_score = product_kernel(4, 4), product_kernel(4, 2), product_kernel(1, 4)
_four_sums, _one_sum = product_kernel(4, 2), product_kernel(1, 2)


def _exponential(b, t, table):
    """(SPEC 5.7) IR for 2^(24 - t / 2^16) of 8 lanes of int32, 0 <= t <= FARTHEST; table points to exp2.

    With m = low (256 - j) + high j, the definition is floor((m + 2^(n + 7)) / 2^(n + 8)). Both summands' lowest seven
    bits may go first, as 2^(n + 7) has none: floor((floor(m / 2^7) + 2^n) / 2^(n + 1)), where floor(m / 2^7) =
    2 low + floor((high - low) j / 2^7) <= 2^25. So 32 bits do, in half the registers of 64.

    The gather takes low and high at once, the lower in the lower half on every little-endian machine, all that Numba
    knows.
    """
    i32, i64 = ir.IntType(32), ir.IntType(64)
    short, long = ir.VectorType(i32, LANES), ir.VectorType(i64, LANES)
    pointers, flags = ir.VectorType(i64.as_pointer(), LANES), ir.VectorType(ir.IntType(1), LANES)

    def every(value, kind=short):
        return ir.Constant(kind, [value] * LANES)

    index = b.zext(b.and_(b.lshr(t, every(8)), every(255)), long)
    base = b.insert_element(ir.Constant(long, ir.Undefined), b.ptrtoint(table, i64), ir.Constant(i32, 0))
    base = b.shuffle_vector(base, ir.Constant(long, ir.Undefined), every(0))
    addresses = b.inttoptr(b.add(base, b.shl(index, every(2, long))), pointers)
    kind = ir.FunctionType(long, [pointers, i32, flags, long])
    gather = declare(b.module, kind, "llvm.masked.gather.v8i64.v8p0")
    pairs = b.call(gather, [addresses, ir.Constant(i32, 4), every(True, flags), every(0, long)])
    pairs = b.bitcast(pairs, ir.VectorType(i32, 2 * LANES))
    low, high = (
        b.shuffle_vector(
            pairs, ir.Constant(pairs.type, ir.Undefined), ir.Constant(short, list(range(first, 2 * LANES, 2)))
        )
        for first in (0, 1)
    )
    n = b.lshr(t, every(16))
    slope = b.ashr(b.mul(b.sub(high, low), b.and_(t, every(255))), every(7))
    total = b.add(b.add(b.shl(low, every(1)), slope), b.shl(every(1), n))
    return b.lshr(total, b.add(n, every(1)))


def _softmax_kernel(vectors):
    """An intrinsic for 8 ``vectors`` logits.

    Written as vectors: what the compiler made of loops took three times as long.
    """

    @intrinsic
    def softmax(typing, logits, table, weights, at):
        """(SPEC 5.7) weights[at..], Q16, of logits in Q16; both are integers in float64."""

        def codegen(context, b, sig, args):
            i32, i64, f64 = ir.IntType(32), ir.IntType(64), ir.DoubleType()
            short, real = ir.VectorType(i32, LANES), ir.VectorType(f64, LANES)

            def data(n):
                return elements(context, b, sig.args[n], args[n])

            def every(value, kind):
                return ir.Constant(kind, [value] * LANES)

            def splat(value, kind):
                value = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(i32, 0))
                return b.shuffle_vector(
                    value, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)
                )

            def call(name, kind, *values):
                function = ir.FunctionType(kind, [v.type for v in values])
                return b.call(declare(b.module, function, name), values)

            def place(array, offset, kind):
                return b.bitcast(b.gep(data(array), [offset]), kind.as_pointer())

            def larger(v, w):
                return b.select(b.fcmp_ordered(">", v, w), v, w)

            def largest(v):
                """Of 8 lanes, halving by halving."""
                for n in (4, 2, 1):
                    mask = (
                        ir.Constant(ir.VectorType(i32, n), list(range(n))),
                        ir.Constant(ir.VectorType(i32, n), list(range(n, 2 * n))),
                    )
                    v = larger(*(b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), m) for m in mask))
                return b.extract_element(v, ir.Constant(i32, 0))

            loaded = [b.load(place(0, ir.Constant(i64, LANES * n), real)) for n in range(vectors)]
            for v in loaded:
                v.align = 8
            top = loaded[0]
            for v in loaded[1:]:
                top = larger(top, v)
            top = splat(largest(top), real)
            far = every(float(FARTHEST), real)
            values = []
            for v in loaded:
                away = b.fsub(top, v)
                t = b.fptosi(b.select(b.fcmp_ordered("<", away, far), away, far), short)
                values.append(_exponential(b, t, data(1)))
            total = values[0]
            for v in values[1:]:
                total = b.add(total, v)
            total = call("llvm.vector.reduce.add.v8i32", i32, total)  # at most 2^29
            reciprocal = b.sdiv(ir.Constant(i64, 1 << 47), b.zext(total, i64))
            reciprocal = splat(b.sitofp(reciprocal, f64), real)
            # v reciprocal <= 2^47 as v <= total: it and the rounding are exact
            for n, v in enumerate(values):
                product = b.fadd(b.fmul(b.sitofp(v, real), reciprocal), every(float(1 << 30), real))
                weight = call("llvm.floor.v8f64", real, b.fmul(product, every(2.0**-31, real)))
                to = b.add(args[3], ir.Constant(i64, LANES * n))
                b.store(weight, place(2, to, real)).align = 8
            return context.get_dummy_value()

        return types.void(logits, table, weights, types.int64), codegen

    return softmax


_softmax_all, _softmax_anchors = _softmax_kernel(4), _softmax_kernel(2)


@task
def local_rows(arguments, y0, y1):
    """Rows y0..y1 of windowed attention at non-anchors.

    bias [2, heads, 25, 32]: relative position bias by (query, lane) for rows that see every key and for rows of
    anchors; 2^40 lower, where a weight is exactly zero, in lanes without a key. |q . k| <= 2^30 d and
    |sum p v| <= 2^31 * 25 + 2^15 are exact in float64, and so are logits: below 2^38, or 2^40 lower (SPEC 9.2). They
    stay in float64, since AVX2 has no vector conversion to int64. Most non-anchors have equal queries, as their inputs
    are zero: products of an equal query are kept from row to row.
    """
    a = memory(arguments, _I64)
    qkv, out, table = memory(a[W.L_QKV], _I16), memory(a[W.L_OUT], _I16), memory(a[W.L_TABLE], _I32)
    bias, place = memory(a[W.L_BIAS], _F64), memory(a[W.L_PLACE], _I64)
    shift, limit, heads, channels = a[W.L_SHIFT], a[W.L_LIMIT], a[W.L_HEADS], a[W.L_CHANNELS]
    h, w, row, column, out_row, out_column = (
        a[W.L_HEIGHT],
        a[W.L_WIDTH],
        a[W.L_ROW],
        a[W.L_COLUMN],
        a[W.L_OUT_ROW],
        a[W.L_OUT_COLUMN],
    )
    d = channels // heads
    top = np.float64(limit)
    low = -top
    half, down = np.float64((1 << shift) >> 1), 1 / np.float64(1 << shift)
    q, k, v = scratch(_F64, _QUERIES), scratch(_F64, _LANES), scratch(_F64, _LANES)  # [25, e], [e, lane], [lane, e]
    dots, weights, seen = scratch(_F64, _QUERIES), scratch(_F64, _QUERIES), scratch(_F64, _QUERIES)
    logits, outside = scratch(_F64, _ROW), scratch(_F64, _ROW)
    for b in range(32):
        outside[b] = 0.0
    for n in range(_QUERIES):
        q[n] = 0.0
        weights[n] = 0.0
    for n in range(_LANES):
        k[n] = 0.0
        v[n] = 0.0
    for y in range(y0, y1):
        for n in range(w // 2):
            x = 2 * n + (y & 1)
            inner = y >= 2 and y < h - 2 and x >= 2 and x < w - 2
            for t in range(25):
                p, b = place[t], place[25 + t]
                ay, ax = y + p // 5 - 2, x + p % 5 - 2
                outside[b] = 0.0 if 0 <= ay < h and 0 <= ax < w else UNSEEN
            for head in range(heads):
                for t in range(25):
                    p, b = place[t], place[25 + t]
                    at = (y + p // 5) * row + (x + p % 5) * column + head * d
                    for e in range(d):
                        q[t * STEP + e] = qkv[at + e]
                    for e in range(d):
                        k[e * STEP + b] = qkv[at + channels + e]
                    for e in range(d):
                        v[b * STEP + e] = qkv[at + 2 * channels + e]
                for i in range(25 * STEP):
                    dots[i] = 0.0
                    seen[i] = 32768.0
                for t in range(0, 12, 4):
                    if inner:
                        _scores_anchors(dots, t * STEP, STEP, q, t * STEP, STEP, k, 0, STEP, d)
                    else:
                        _scores_all(dots, t * STEP, STEP, q, t * STEP, STEP, k, 0, STEP, d)
                kept = 12
                for t in range(12, 25):
                    same = t > 12
                    for e in range(d):
                        same &= q[t * STEP + e] == q[kept * STEP + e]
                    if same:
                        for b in range(32):
                            dots[t * STEP + b] = dots[kept * STEP + b]
                    else:
                        _one_score(dots, t * STEP, STEP, q, t * STEP, STEP, k, 0, STEP, d)
                        kept = t
                for t in range(25):
                    restricted = 1 if t < 12 and outside[t] == 0.0 else 0
                    from_bias = ((restricted * heads + head) * 25 + place[t]) * 32
                    for b in range(32):
                        logits[b] = np.floor((dots[t * STEP + b] + half) * down) + bias[from_bias + b]
                    if restricted and not inner:
                        for b in range(16):
                            logits[b] += outside[b]
                    if restricted:
                        _softmax_anchors(logits, table, weights, t * STEP)
                        for b in range(16, 32):
                            weights[t * STEP + b] = 0.0
                    else:
                        _softmax_all(logits, table, weights, t * STEP)
                for c in range(0, d, 16):
                    for t in range(0, 24, 4):
                        keys = 12 if inner and t < 12 else 29
                        _four_sums(seen, t * STEP + c, STEP, weights, t * STEP, STEP, v, c, STEP, keys)
                    _one_sum(seen, 24 * STEP + c, STEP, weights, 24 * STEP, STEP, v, c, STEP, 29)
                for t in range(25):
                    to = y * out_row + n * out_column + place[t] * channels + head * d
                    for e in range(d):
                        out[to + e] = np.int32(min(max(np.floor(seen[t * STEP + e] * 2.0**-16), low), top))


_SUMS, _WEIGHTS, _VALUES, _BLOCK = GROUP * STEP, GROUP * POSITIONS, POSITIONS * STEP, 4 * STEP

_key_product = product_kernel(GROUP, 2)


@intrinsic
def _exponentials_of_8(typing, near, at, table, out, to):
    """out[to..] = 2^(24 - near[at..]) of 8 differences in Q16, at most FARTHEST."""

    def codegen(context, b, sig, args):
        short, real = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.DoubleType(), LANES)

        def place(array, offset, kind):
            data = elements(context, b, sig.args[array], args[array])
            return b.bitcast(b.gep(data, [args[offset]]), kind.as_pointer()) if offset else data

        t = b.load(place(0, 1, short))
        t.align = 4
        b.store(b.sitofp(_exponential(b, t, place(2, 0, short)), real), place(3, 4, real)).align = 8
        return context.get_dummy_value()

    return types.void(near, types.int64, table, out, types.int64), codegen


@helper
def _exponentials(near, table, out, at):
    """out[at..] = 2^(24 - near) for 64 differences in Q16, at most FARTHEST; returns their sum, below 2^31."""
    for b in range(0, POSITIONS, LANES):
        _exponentials_of_8(near, b, table, out, at + b)
    total = 0.0
    for b in range(POSITIONS):
        total += out[at + b]
    return np.int64(total)


@task
def exponentials(arguments, first, end):
    """Groups first..end of 64 differences, by the function that weighs keys."""
    a = memory(arguments, _I64)
    for group in range(first, end):
        at = group * POSITIONS
        _exponentials(memory(a[W.E_NEAR] + 4 * at, _I32), memory(a[W.E_TABLE], _I32), memory(a[W.E_OUT], _F64), at)


@task
def key_sums(arguments, first, end):
    """Units first..end of 4 channels of keys: their weights' totals and products with the values of their head.

    A weight is at most 2^24 and a value below 2^15: 2^13 positions sum below 2^52 in float64, then go to int64.
    """
    a = memory(arguments, _I64)
    keys, values, table = memory(a[W.K_KEYS], _I16), memory(a[W.K_VALUES], _I16), memory(a[W.K_TABLE], _I32)
    top, sums, totals = memory(a[W.K_TOP], _I64), memory(a[W.K_SUMS], _I64), memory(a[W.K_TOTALS], _I64)
    shift, d, parity, height, columns = a[W.K_SHIFT], a[W.K_WIDTH], a[W.K_PARITY], a[W.K_HEIGHT], a[W.K_COLUMNS]
    row, column, v_row, v_column = a[W.K_ROW], a[W.K_COLUMN], a[W.K_V_ROW], a[W.K_V_COLUMN]
    part, e, v = scratch(_F64, _SUMS), scratch(_F64, _WEIGHTS), scratch(_F64, _VALUES)
    near = scratch(_I32, POSITIONS)
    groups = -(-d // GROUP)
    step = 2 if parity >= 0 else 1
    columns //= step
    for n in range(_VALUES):
        v[n] = 0.0
    for n in range(_WEIGHTS):
        e[n] = 0.0
    for unit in range(first, end):
        head, start = unit // groups, unit % groups * GROUP
        count = min(d - start, GROUP)
        c0, v0 = head * d + start, head * d
        for i in range(_SUMS):
            part[i] = 0.0
        pending = 0
        for y in range(height):
            x0 = (y + parity) & 1 if parity >= 0 else 0
            for n0 in range(0, columns, POSITIONS):
                positions = min(columns - n0, POSITIONS)
                at = y * row + (x0 + n0 * step) * column + c0
                for i in range(count):
                    for n in range(positions):
                        away = (top[c0 + i] - keys[at + n * step * column + i]) << shift
                        near[n] = min(away, FARTHEST)
                    for n in range(positions, POSITIONS):
                        near[n] = FARTHEST
                    totals[c0 + i] += _exponentials(near, table, e, i * POSITIONS)
                at = y * v_row + (x0 + n0 * step) * v_column + v0
                for n in range(positions):
                    for j in range(d):
                        v[n * STEP + j] = values[at + n * step * v_column + j]
                for j in range(0, d, 16):
                    _key_product(part, j, STEP, e, 0, POSITIONS, v, j, STEP, positions)
                pending += POSITIONS
                if pending >= a[W.K_BLOCK]:
                    for i in range(count):
                        for j in range(d):
                            sums[(c0 + i) * d + j] += np.int64(part[i * STEP + j])
                    for i in range(_SUMS):
                        part[i] = 0.0
                    pending = 0
        for i in range(count):
            for j in range(d):
                sums[(c0 + i) * d + j] += np.int64(part[i * STEP + j])


@task
def attend_rows(arguments, y0, y1):
    """Rows y0..y1: softmax of queries over the channels of each head, times context [heads, d, 32].

    |sum p c| < 2^15 * (2^16 + d): exact in float64.
    """
    a = memory(arguments, _I64)
    queries, out = memory(a[W.Q_QUERIES], _I16), memory(a[W.Q_OUT], _I16)
    context, table = memory(a[W.Q_CONTEXT], _F64), memory(a[W.Q_TABLE], _I32)
    shift, limit, heads, d, parity, columns = (
        a[W.Q_SHIFT],
        a[W.Q_LIMIT],
        a[W.Q_HEADS],
        a[W.Q_WIDTH],
        a[W.Q_PARITY],
        a[W.Q_COLUMNS],
    )
    row, column, out_row, out_column = a[W.Q_ROW], a[W.Q_COLUMN], a[W.Q_OUT_ROW], a[W.Q_OUT_COLUMN]
    weights, seen = scratch(_F64, _BLOCK), scratch(_F64, _BLOCK)
    logits = scratch(_F64, _ROW)
    up, top = np.float64(1 << shift), np.float64(limit)
    low = -top
    step = 2 if parity >= 0 else 1
    positions = columns // step
    for y in range(y0, y1):
        x0 = (y + parity) & 1 if parity >= 0 else 0
        if parity >= 0:
            for n in range(positions):
                to = y * out_row + (2 * n + 1 - x0) * out_column
                for c in range(heads * d):
                    out[to + c] = 0
        for n0 in range(0, positions, 4):
            count = min(positions - n0, 4)
            for head in range(heads):
                for n in range(count):
                    at = y * row + (x0 + (n0 + n) * step) * column + head * d
                    for c in range(d):
                        logits[c] = queries[at + c] * up
                    for c in range(d, 32):
                        logits[c] = UNSEEN
                    _softmax_all(logits, table, weights, n * STEP)
                for i in range(_BLOCK):
                    seen[i] = 32768.0
                for c in range(0, d, 16):
                    _four_sums(seen, c, STEP, weights, 0, STEP, context, head * d * STEP + c, STEP, d)
                for n in range(count):
                    to = y * out_row + (x0 + (n0 + n) * step) * out_column + head * d
                    for c in range(d):
                        out[to + c] = np.int32(min(max(np.floor(seen[n * STEP + c] * 2.0**-16), low), top))
