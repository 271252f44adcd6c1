"""The kernels of the two attentions (SPEC 5.7 to 5.9); called from refcodec/arith/jit/attention.py.

float64 holds integers below 2^53 throughout; int64 elsewhere. Scratch is on the stack, so that threads share nothing.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from ...numpy_ops.attention import exp2_negative, softmax_weights
from ..native.blocks import F64, I32, I64, block, inlined, words_at
from ..native.build import helper, memory, scratch, task
from .constants import DOUBLES, FARTHEST, GROUP, POSITIONS, STEP, UNSEEN
from .products import REAL, product_block
from .words import ATTEND, EXPONENTIALS, KEY_SUMS, LOCAL

_I16, _I32, _I64, _F64 = types.int16, types.int32, types.int64, types.float64

_SHORT, _LONG = ir.VectorType(I32, DOUBLES), ir.VectorType(I64, DOUBLES)


def _exp2(table):
    """The table of exponentials as NumPy's functions take it."""
    return table[0:257].astype(np.int32)


def _exponential(w, t, table):
    """(SPEC 5.7) IR for 2^(24 - t / 2^16) of 8 lanes of int32, 0 <= t <= FARTHEST; table is exp2.

    With m = low (256 - j) + high j, the definition is floor((m + 2^(n + 7)) / 2^(n + 8)). Both summands' lowest seven
    bits may go first, as 2^(n + 7) has none: floor((floor(m / 2^7) + 2^n) / 2^(n + 1)), where floor(m / 2^7) =
    2 low + floor((high - low) j / 2^7) <= 2^25. So 32 bits suffice, in half the registers of 64.
    """
    b, one = w.b, w.every(_SHORT, 1)
    index = b.and_(b.lshr(t, w.every(_SHORT, 8)), w.every(_SHORT, 255))
    pairs = b.bitcast(w.gather(table, index, I64), ir.VectorType(I32, 2 * DOUBLES))
    low, high = (w.lanes(pairs, range(first, 2 * DOUBLES, 2)) for first in (0, 1))
    n = b.lshr(t, w.every(_SHORT, 16))
    slope = b.ashr(b.mul(b.sub(high, low), b.and_(t, w.every(_SHORT, 255))), w.every(_SHORT, 7))
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
        values = [_exponential(w, b.fptosi(w.smaller(b.fsub(top, v), far), _SHORT), table) for v in loaded]
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
        weights[at : at + count] = softmax_weights(logits[0:count], _exp2(table))

    return softmax


_softmax_all, _softmax_anchors = _softmax_block(4), _softmax_block(2)

# -------------------------------------------------------------------------------------------- local attention (5.8)

_QUERIES, _KEYS = 28 * STEP, 32 * STEP
"""Scratch for 25 queries, in blocks of four, and for 32 lanes of keys."""

_scores_all, _scores_anchors, _one_score = product_block(4, 4), product_block(4, 2), product_block(1, 4)
_four_sums, _one_sum = product_block(4, 2), product_block(1, 2)


@inlined
def _window(t, y, x, head, d, q, k, v):
    """Gather a window's queries q [25, e], keys k [e, lane] and values v [lane, e] of a head."""
    qkv, place = memory(t.qkv, _I16), memory(t.place, _I64)
    for n in range(25):
        p, lane = place[n], place[25 + n]
        at = (y + p // 5) * t.row + (x + p % 5) * t.column + head * d
        for e in range(d):
            q[n * STEP + e] = qkv[at + e]
        for e in range(d):
            k[e * STEP + lane] = qkv[at + t.channels + e]
        for e in range(d):
            v[lane * STEP + e] = qkv[at + 2 * t.channels + e]


@inlined
def _window_dots(inner, d, q, k, dots):
    """Products of queries and keys.

    Most non-anchors have equal queries, as their inputs are zero: products of an equal query are kept from row to row.
    """
    for i in range(25 * STEP):
        dots[i] = 0.0
    for n in range(0, 12, 4):
        if inner:
            _scores_anchors(dots, n * STEP, STEP, q, n * STEP, STEP, k, 0, STEP, d)
        else:
            _scores_all(dots, n * STEP, STEP, q, n * STEP, STEP, k, 0, STEP, d)
    kept = 12
    for n in range(12, 25):
        same = n > 12
        for e in range(d):
            same &= q[n * STEP + e] == q[kept * STEP + e]
        if same:
            for lane in range(32):
                dots[n * STEP + lane] = dots[kept * STEP + lane]
        else:
            _one_score(dots, n * STEP, STEP, q, n * STEP, STEP, k, 0, STEP, d)
            kept = n


@inlined
def _window_weights(t, head, inner, outside, dots, logits, weights):
    """Softmax of every query's logits; outside is UNSEEN in lanes whose key is outside the picture."""
    place, bias, table = memory(t.place, _I64), memory(t.bias, _F64), memory(t.table, _I32)
    half, down = np.float64((1 << t.shift) >> 1), 1 / np.float64(1 << t.shift)
    for n in range(25):
        restricted = 1 if n < 12 and outside[n] == 0.0 else 0
        from_bias = ((restricted * t.heads + head) * 25 + place[n]) * 32
        for lane in range(32):
            logits[lane] = np.floor((dots[n * STEP + lane] + half) * down) + bias[from_bias + lane]
        if restricted and not inner:
            for lane in range(16):
                logits[lane] += outside[lane]
        if restricted:
            _softmax_anchors(logits, table, weights, n * STEP)
            for lane in range(16, 32):
                weights[n * STEP + lane] = 0.0
        else:
            _softmax_all(logits, table, weights, n * STEP)


@inlined
def _window_results(t, head, inner, d, weights, v, seen, to):
    """Sums of values by weight, rounded and clamped, from out[to] on."""
    out, place = memory(t.out, _I16), memory(t.place, _I64)
    top = np.float64(t.limit)
    low = -top
    for i in range(25 * STEP):
        seen[i] = 32768.0
    for c in range(0, d, 16):
        for n in range(0, 24, 4):
            keys = 12 if inner and n < 12 else 29
            _four_sums(seen, n * STEP + c, STEP, weights, n * STEP, STEP, v, c, STEP, keys)
        _one_sum(seen, 24 * STEP + c, STEP, weights, 24 * STEP, STEP, v, c, STEP, 29)
    for n in range(25):
        at = to + place[n] * t.channels + head * d
        for e in range(d):
            out[at + e] = np.int32(min(max(np.floor(seen[n * STEP + e] * 2.0**-16), low), top))


@task
def local_rows(arguments, y0, y1):
    """Rows y0..y1 of windowed attention at non-anchors.

    bias [2, heads, 25, 32]: relative position bias by (query, lane) for rows that see every key and for rows of
    anchors; 2^40 lower, where a weight is exactly zero, in lanes without a key. |q . k| <= 2^30 d and
    |sum p v| <= 2^31 * 25 + 2^15 are exact in float64, and so are logits: below 2^38, or 2^40 lower (SPEC 9.2). They
    stay in float64, since AVX2 has no vector conversion to int64.
    """
    t = words_at(arguments, LOCAL)
    place, d = memory(t.place, _I64), t.channels // t.heads
    q, k, v = scratch(_F64, _QUERIES), scratch(_F64, _KEYS), scratch(_F64, _KEYS)
    dots, weights, seen = scratch(_F64, _QUERIES), scratch(_F64, _QUERIES), scratch(_F64, _QUERIES)
    logits, outside = scratch(_F64, STEP), scratch(_F64, STEP)
    for n in range(STEP):
        outside[n] = 0.0
    for n in range(_QUERIES):
        q[n] = 0.0
        weights[n] = 0.0
    for n in range(_KEYS):
        k[n] = 0.0
        v[n] = 0.0
    for y in range(y0, y1):
        for column in range(t.width // 2):
            x = 2 * column + (y & 1)
            inner = y >= 2 and y < t.height - 2 and x >= 2 and x < t.width - 2
            for n in range(25):
                p, lane = place[n], place[25 + n]
                ay, ax = y + p // 5 - 2, x + p % 5 - 2
                outside[lane] = 0.0 if 0 <= ay < t.height and 0 <= ax < t.width else UNSEEN
            for head in range(t.heads):
                _window(t, y, x, head, d, q, k, v)
                _window_dots(inner, d, q, k, dots)
                _window_weights(t, head, inner, outside, dots, logits, weights)
                _window_results(t, head, inner, d, weights, v, seen, y * t.out_row + column * t.out_column)


# ------------------------------------------------------------------------------------------- linear attention (5.9)

_SUMS, _WEIGHTS, _VALUES, _FOUR = GROUP * STEP, GROUP * POSITIONS, POSITIONS * STEP, 4 * STEP

_key_product = product_block(GROUP, 2)


def _write_exponentials(w, near, at, table, out, to):
    out.store(w.b.sitofp(_exponential(w, near.load(at, _SHORT), table), REAL), to)


@block(_write_exponentials)
def _exponentials_of_8(near, at, table, out, to):
    """(SPEC 5.7) Set out[to..] to 2^(24 - near[at..]) of 8 differences in Q16, at most FARTHEST."""
    out[to : to + DOUBLES] = exp2_negative(near[at : at + DOUBLES], _exp2(table))


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


@inlined
def _add_weights(t, c, at, step, positions, near, weights, first):
    """Set weights[first..] of a channel's keys from keys[at] on, zero after the last position; add to its total."""
    keys, top, totals = memory(t.keys, _I16), memory(t.top, _I64), memory(t.totals, _I64)
    for n in range(positions):
        away = (top[c] - keys[at + n * step * t.column]) << t.shift
        near[n] = min(away, FARTHEST)
    for n in range(positions, POSITIONS):
        near[n] = FARTHEST
    totals[c] += _exponentials(near, memory(t.table, _I32), weights, first)


@inlined
def _flush(t, c0, count, part):
    """Move the sums of ``count`` channels from float64 to int64."""
    sums = memory(t.sums, _I64)
    for i in range(count):
        for j in range(t.width):
            sums[(c0 + i) * t.width + j] += np.int64(part[i * STEP + j])
    for i in range(_SUMS):
        part[i] = 0.0


@task
def key_sums(arguments, first, end):
    """Units first..end of GROUP channels of keys: their weights' totals and products with the values of their head.

    A weight is at most 2^24 and a value below 2^15: 2^13 positions sum below 2^52 in float64, then go to int64.
    """
    t = words_at(arguments, KEY_SUMS)
    values, d = memory(t.values, _I16), t.width
    part, weights, v = scratch(_F64, _SUMS), scratch(_F64, _WEIGHTS), scratch(_F64, _VALUES)
    near = scratch(_I32, POSITIONS)
    groups = -(-d // GROUP)
    step = 2 if t.parity >= 0 else 1
    columns = t.columns // step
    for n in range(_VALUES):
        v[n] = 0.0
    for n in range(_WEIGHTS):
        weights[n] = 0.0
    for n in range(_SUMS):
        part[n] = 0.0
    for unit in range(first, end):
        v0 = unit // groups * d
        c0 = v0 + unit % groups * GROUP
        count = min(v0 + d - c0, GROUP)
        pending = 0
        for y in range(t.height):
            x0 = (y + t.parity) & 1 if t.parity >= 0 else 0
            for n0 in range(0, columns, POSITIONS):
                positions, x = min(columns - n0, POSITIONS), x0 + n0 * step
                for i in range(count):
                    at = y * t.row + x * t.column + c0 + i
                    _add_weights(t, c0 + i, at, step, positions, near, weights, i * POSITIONS)
                at = y * t.value_row + x * t.value_column + v0
                for n in range(positions):
                    for j in range(d):
                        v[n * STEP + j] = values[at + n * step * t.value_column + j]
                for j in range(0, d, 16):
                    _key_product(part, j, STEP, weights, 0, POSITIONS, v, j, STEP, positions)
                pending += POSITIONS
                if pending >= t.block:
                    _flush(t, c0, count, part)
                    pending = 0
        _flush(t, c0, count, part)


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
        _softmax_all(logits, table, weights, n * STEP)
    for i in range(_FOUR):
        seen[i] = 32768.0
    for c in range(0, d, 16):
        _four_sums(seen, c, STEP, weights, 0, STEP, context, head * d * STEP + c, STEP, d)
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
