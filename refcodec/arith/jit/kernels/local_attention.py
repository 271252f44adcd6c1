"""The kernel of local attention (SPEC 5.8); called from refcodec/arith/jit/local_attention.py.

Weights of 8 windows are computed at a time, one window per lane: no sum or maximum crosses lanes, and neighbours share
what they load. Results are computed window by window, by the convolution's block of sums: weights are its inputs, and
values are its weights.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from ...numpy_ops.attention import exp2_negative
from ..native.blocks import I16, I32, I64, block, inlined, words_at
from ..native.build import memory, scratch, task
from .attention import SHORT, exp2_of, exponential
from .constants import (
    ANCHORS,
    DOUBLES,
    FARTHEST,
    FEW,
    HIDDEN,
    LANES,
    OUTPUTS,
    PIXELS,
    VISIBLE,
    WINDOW_PAIRS,
)
from .conv import VECTOR, narrow, sums_block
from .products import REAL
from .words import LOCAL

_I16, _I32, _I64 = types.int16, types.int32, types.int64

_BOTH = ir.VectorType(I32, 2 * DOUBLES)

_PART, _ROW = WINDOW_PAIRS * 2 * DOUBLES, 2 * WINDOW_PAIRS * 2 * DOUBLES
"""Numbers of one of the two parts of a query's weights in 8 windows, and of both."""

_CAPS, _LOGITS, _QUERIES = 25 * DOUBLES, 26 * DOUBLES, (25 + FEW) * _ROW
"""Scratch for 25 keys, with one that is not there, and for the weights of 25 queries, of which blocks read more."""

_ELEMENTS, _ACCUMULATORS = WINDOW_PAIRS * 2 * LANES, PIXELS * OUTPUTS

_SHORTS = ir.VectorType(I16, LANES)

_LOW = 2
"""Bits of the lower part of a weight."""

_many_sums, _few_sums = sums_block(PIXELS, 1), sums_block(FEW, 1)


_AT_ONCE = ANCHORS + 1
"""Keys whose logits are computed at once; the second block of 25 begins with the first one's last."""


def _write_logits(w, logits, n, planes, q_at, k_at, places, half, stride, shift, bias, bias_at, base, caps):
    b = w.b
    down, up = (w.splat(SHORT, b.trunc(v, I32)) for v in (shift, b.lshr(b.shl(w.number(1), shift), w.number(1))))
    keys = [b.add(n, w.number(key)) for key in range(_AT_ONCE)]
    starts = [b.add(k_at, places.load(key, I64)) for key in keys]

    def pair(at):
        return b.sext(b.bitcast(planes.load(at, SHORT), ir.VectorType(I16, 2 * DOUBLES)), _BOTH)

    def add_products(e, sums):
        along = b.mul(e, stride)
        query, new = pair(b.add(q_at, along)), []
        for start, total in zip(starts, sums, strict=True):
            products = b.mul(query, pair(b.add(start, along)))
            halves = [w.lanes(products, range(first, 2 * DOUBLES, 2)) for first in (0, 1)]
            new.append(b.add(total, b.add(*halves)))
        return new

    sums = w.loop(half, [up] * _AT_ONCE, add_products)
    seen = base.load(w.number(0), SHORT)
    for key, total in zip(keys, sums, strict=True):
        at = b.mul(key, w.number(DOUBLES))
        value = b.add(b.ashr(total, down), w.splat(SHORT, bias.load(b.add(bias_at, key), I32)))
        logits.store(w.smaller(value, w.larger(seen, caps.load(at, SHORT))), at)


@block(_write_logits)
def _logits(logits, n, planes, q_at, k_at, places, half, stride, shift, bias, bias_at, base, caps):
    """(SPEC 5.8) Set logits[8 m..] for 13 keys m from n on, at most max(base, caps[8 m..]).

    A query's pairs of elements are planes[q_at + e stride..], e < half, one window per lane. Those of key m are
    planes[k_at + places[m] + e stride..].
    """
    for key in range(n, n + _AT_ONCE):
        dot = (1 << shift) >> 1
        for at in range(0, half * stride, stride):
            start = k_at + places[key] + at
            queries, values = planes[q_at + at : q_at + at + DOUBLES], planes[start : start + DOUBLES]
            for query, value in zip(_halves(queries), _halves(values), strict=True):
                dot = dot + query * value
        lanes = slice(DOUBLES * key, DOUBLES * (key + 1))
        most = base[0:DOUBLES].clip(caps[lanes], None)
        logits[lanes] = ((dot >> shift) + bias[bias_at + key]).clip(None, most)


def _halves(pairs):
    """The two int16 of each int32."""
    return ((pairs & 0xFFFF) ^ 0x8000) - 0x8000, pairs >> 16


def _write_weights(w, logits, keys, table, out, at):
    b = w.b

    def larger(n, largest):
        return [w.larger(largest[0], logits.load(b.mul(n, w.number(DOUBLES)), SHORT))]

    [largest], far = w.loop(keys, [w.every(SHORT, HIDDEN)], larger), w.every(SHORT, FARTHEST)

    def one_key(n, total):
        place = b.mul(n, w.number(DOUBLES))
        value = exponential(w, w.smaller(b.sub(largest, logits.load(place, SHORT)), far), table)
        logits.store(value, place)
        return [b.add(total[0], value)]

    [total] = w.loop(keys, [w.every(SHORT, 0)], one_key)  # at most 25 * 2^24
    quotient = b.fptosi(b.fdiv(w.every(REAL, 2.0**47), b.sitofp(total, REAL)), SHORT)
    factor = b.fmul(b.sitofp(quotient, REAL), w.every(REAL, 2.0**-31))
    low, shift = w.every(SHORT, (1 << _LOW) - 1), w.every(SHORT, _LOW)

    def pair(n, _):
        first = b.mul(n, w.number(2 * DOUBLES))
        values = [logits.load(b.add(first, w.number(DOUBLES * m)), SHORT) for m in (0, 1)]
        # e R <= 2^47 in units of 2^-31: it and the half are exact
        one, two = (b.fptosi(b.fadd(b.fmul(b.sitofp(v, REAL), factor), w.every(REAL, 0.5)), SHORT) for v in values)
        parts = (b.lshr(one, shift), b.lshr(two, shift)), (b.and_(one, low), b.and_(two, low))
        for m, (left, right) in enumerate(parts):
            out.store(b.or_(left, b.shl(right, w.every(SHORT, 16))), b.add(b.add(at, first), w.number(m * _PART)))
        return []

    w.loop(b.lshr(b.add(keys, w.number(1)), w.number(1)), [], pair)


@block(_write_weights)
def _weights(logits, keys, table, out, at):
    """(SPEC 5.7) Weights in Q16 of 8 windows' keys; with an odd number of keys, logits has a zero behind the last.

    They are pairs of keys, lane by lane: from out[at] on without their two lowest bits, then those.
    """
    end = DOUBLES * keys
    rows = logits[0:end].reshape(keys, DOUBLES)
    away = (rows.max(axis=0) - rows).clip(None, FARTHEST)
    logits[0:end] = exp2_negative(away.reshape(-1), exp2_of(table))
    pairs = (keys + 1) // 2
    values = logits[0 : 2 * DOUBLES * pairs].reshape(pairs, 2, DOUBLES)
    values = (values * ((1 << 47) // values.sum(axis=(0, 1))) + (1 << 30)) >> 31
    for n, part in enumerate((values >> _LOW, values & (1 << _LOW) - 1)):
        to = at + n * _PART
        out[to : to + 2 * DOUBLES * pairs] = part.swapaxes(1, 2).reshape(-1)


def _write_interleaved(w, out, to, x, one, two):
    order = [n for m in range(LANES) for n in (m, LANES + m)]
    mask = ir.Constant(ir.VectorType(I32, 2 * LANES), order)
    out.store(w.b.shuffle_vector(x.load(one, _SHORTS), x.load(two, _SHORTS), mask), to)


@block(_write_interleaved)
def _interleaved(out, to, x, one, two):
    """Set out[to..] to x[one], x[two], x[one + 1], x[two + 1] and so on, 16 of each."""
    out[to : to + 2 * LANES : 2] = x[one : one + LANES]
    out[to + 1 : to + 2 * LANES : 2] = x[two : two + LANES]


def _write_rounded(w, acc, at):
    upper, lower = (acc.load(b, VECTOR) for b in (at, w.b.add(at, w.number(OUTPUTS))))
    lower = w.b.ashr(w.b.add(lower, w.every(VECTOR, 1 << 15)), w.every(VECTOR, _LOW))
    acc.store(w.b.ashr(w.b.add(upper, lower), w.every(VECTOR, 16 - _LOW)), at)


@block(_write_rounded)
def _rounded(acc, at):
    """Set acc[at..], 16 sums by the upper parts of weights, to the sums by weights, with acc[at + OUTPUTS..] by the
    lower ones, rounded by 16 bits.
    """
    lower = (acc[at + OUTPUTS : at + OUTPUTS + LANES] + (1 << 15)) >> _LOW
    acc[at : at + LANES] = (acc[at : at + LANES] + lower) >> 16 - _LOW


def _write_caps(w, caps, at, mask, of):
    caps.store(mask.load(of, SHORT), at)


@block(_write_caps)
def _caps(caps, at, mask, of):
    """Set caps[at..] to mask[of..], 8 lanes."""
    caps[at : at + DOUBLES] = mask[of : of + DOUBLES]


def _write_base(w, base, caps, at):
    both = w.every(SHORT, HIDDEN + VISIBLE)
    base.store(w.b.sub(both, caps.load(at, SHORT)), w.number(0))


@block(_write_base)
def _base(base, caps, at):
    """Set base for queries of the mask caps[at..]: HIDDEN in the picture, VISIBLE outside, where they see all."""
    base[0:DOUBLES] = HIDDEN + VISIBLE - caps[at : at + DOUBLES]


def _write_cleared(w, weights, at):
    for part in (0, _PART):
        for n in range(ANCHORS * DOUBLES, _PART, 2 * DOUBLES):
            weights.store(w.every(SHORT, 0), w.b.add(at, w.number(part + n)))


@block(_write_cleared)
def _cleared(weights, at):
    """Set to zero a query's weights of non-anchors."""
    for part in (at, at + _PART):
        weights[part + ANCHORS * DOUBLES : part + _PART] = 0


@inlined
def _places(t, y, column, places, caps):
    """Set where 8 windows from a column on have their keys in a plane, and what an anchor's logits are capped by."""
    place, mask, odd = memory(t.place, _I64), memory(t.mask, _I32), y & 1
    for n in range(25):
        ky, kx = place[n] // 5, odd + place[n] % 5
        places[n] = ((kx & 1) * t.rows + y + ky) * t.plane_row + column + (kx >> 1)
        if n < ANCHORS:
            _caps(caps, n * DOUBLES, mask, places[n])


@inlined
def _inside(t, n, y, first, last):
    """Whether a place of the windows around columns ``first`` to ``last`` of row y is in the picture in all of them."""
    place = memory(t.place, _I64)
    ky, kx = place[n] // 5, place[n] % 5
    return 2 <= y + ky < t.rows - 2 and first + kx >= 2 and last + kx < t.width + 2


@inlined
def _window_weights(t, head, y, first, last, places, caps, logits, base, weights):
    """Weights of all queries of the windows around columns ``first`` to ``last``; whether anchors have all keys."""
    planes, bias, table = memory(t.planes, _I32), memory(t.bias, _I32), memory(t.table, _I32)
    q_at, k_at = head * t.half * t.stride, (t.heads + head) * t.half * t.stride
    outside = False
    for n in range(25):
        keys = 25
        if n < ANCHORS:
            _base(base, caps, n * DOUBLES)
            if _inside(t, n, y, first, last):
                keys = ANCHORS
                _cleared(weights, n * _ROW)
            else:
                outside = True
        elif n == ANCHORS:
            _base(base, caps, ANCHORS * DOUBLES)
        for m in range(0, keys - 11, 12):
            at, bias_at = q_at + places[n], (head * 25 + n) * 25
            _logits(logits, m, planes, at, k_at, places, t.half, t.stride, t.shift, bias, bias_at, base, caps)
        _weights(logits, keys, table, weights, n * _ROW)
    return outside


@inlined
def _values(t, y, x, at, d, values):
    """Pairs of up to 16 elements of values in a window, from channel ``at`` on, by keys."""
    qkv, place = memory(t.qkv, _I16), memory(t.place, _I64)
    for n in range(WINDOW_PAIRS):
        p, r = place[2 * n], place[min(2 * n + 1, 24)]  # the last one's weights are zero
        one = (y + p // 5) * t.row + (x + p % 5) * t.column + at
        two = (y + r // 5) * t.row + (x + r % 5) * t.column + at
        if d >= LANES:
            _interleaved(values, 2 * LANES * n, qkv, one, two)
        else:
            for e in range(d):
                to = 2 * (LANES * n + e)
                values[to], values[to + 1] = qkv[one + e], qkv[two + e]


@inlined
def _window_results(t, window, whole, weights, values, acc, d, to):
    """Results of a window: sums of up to 16 elements of values by weights, rounded and clamped, from out[to] on."""
    out, place = memory(t.out, _I16), memory(t.place, _I64)
    zeros, runs, at = memory(t.zeros, _I32), memory(t.runs, _I64), 2 * window
    n = 0
    while n < 25:
        n_runs = ANCHORS // 2 if n < ANCHORS and not whole else WINDOW_PAIRS
        many = 25 - n >= PIXELS // 2
        if many:
            _many_sums(acc, zeros, 0, weights, at + n * _ROW, _PART, values, 0, runs, n_runs, 1)
        else:
            _few_sums(acc, zeros, 0, weights, at + n * _ROW, _PART, values, 0, runs, n_runs, 1)
        for m in range(n, min(n + (PIXELS if many else FEW) // 2, 25)):
            sums, target = 2 * (m - n) * OUTPUTS, to + place[m] * t.channels
            _rounded(acc, sums)
            if d >= LANES:
                narrow(acc, sums, t.limit, out, target)
            else:
                for e in range(d):
                    out[target + e] = min(max(acc[sums + e], -t.limit), t.limit)
        n += (PIXELS if many else FEW) // 2


@task
def rows(arguments, y0, y1):
    """Rows y0..y1 of windowed attention at non-anchors.

    8 windows at a time have their weights computed, one per lane; planes hold pairs of elements of queries and keys, so
    that neighbours lie side by side. The caller has made sure that no logit's sum leaves int32 and no logit reaches
    2^29, so that a hidden one is far below. Sums of weights and values are taken in two parts, of 14 and 2 bits:
    each is below 2^31, and floor((4 u + l + 2^15) / 2^16) = floor((u + floor((l + 2^15) / 4)) / 2^14).
    """
    t = words_at(arguments, LOCAL)
    d = t.channels // t.heads
    places, caps, logits = scratch(_I64, 25), scratch(_I32, _CAPS), scratch(_I32, _LOGITS)
    base, acc = scratch(_I32, DOUBLES), scratch(_I32, _ACCUMULATORS)
    weights, values = scratch(_I16, _QUERIES), scratch(_I16, _ELEMENTS)
    for n in range(25 * _ROW, _QUERIES):
        weights[n] = 0
    for n in range(_ELEMENTS):
        values[n] = 0
    for n in range(ANCHORS * DOUBLES, _CAPS):
        caps[n] = HIDDEN
    for n in range(_CAPS, _LOGITS):
        logits[n] = 0
    for y in range(y0, y1):
        for column in range(0, t.width // 2, DOUBLES):
            count = min(t.width // 2 - column, DOUBLES)
            _places(t, y, column, places, caps)
            first = 2 * column + (y & 1)
            for head in range(t.heads):
                last = first + 2 * (count - 1)
                whole = _window_weights(t, head, y, first, last, places, caps, logits, base, weights)
                for window in range(count):
                    x, to = first + 2 * window, y * t.out_row + (column + window) * t.out_column
                    for e in range(0, d, LANES):
                        c = head * d + e
                        _values(t, y, x, 2 * t.channels + c, min(d - e, LANES), values)
                        _window_results(t, window, whole, weights, values, acc, min(d - e, LANES), to + c)
