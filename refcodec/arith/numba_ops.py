"""Normalisations and attentions in Numba (SPEC 5.5 to 5.9); the twin of numpy_ops.py, integer by integer.

Kernels work on rows of maps, neither allocate nor raise, and widen every load to int64. float64 holds integers only:
sums of GDN below 2^52 and their square roots, whose floors are exact (numpy_ops._norm_root).
"""

from __future__ import annotations

import numpy as np
from numba import types

from .backend import kernel, reads, writes
from .numba_conv import flat

_I16, _I32, _I64, _F64 = types.int16, types.int32, types.int64, types.float64
_ROWS_IN, _ROWS_OUT = reads(_I16, 3), writes(_I16, 3)


@kernel(_ROWS_IN, reads(_F64, 2, "C"), reads(_F64, 1, "C"), _I64, _I64, _I64, _ROWS_OUT, _I64, _I64, _I64, _I64, _I64,
        _I64, _I64, writes(_F64, 1, "C"), writes(_F64, 1, "C"))
def gdn_rows(x3, gamma, beta, shift, limit, inverse, out3, y0, y1, width, x_row, x_column, out_row, out_column,
             squares, n):
    """Rows of GDN (inverse 0) or IGDN (inverse 1); maps from their first inner element, strides in elements.

    gamma [C, C] float64 transposed, C even; squares, n [C] scratch. Four products join n at a time: a quarter of its
    loads and stores, and any order of exact sums is the same sum.
    """
    x, out = flat(x3), flat(out3)
    channels = beta.shape[0]
    half = (1 << shift) >> 1
    for y in range(y0, y1):
        for at in range(width):
            source, target = y * x_row + at * x_column, y * out_row + at * out_column
            for c in range(channels):
                v = np.float64(x[source + c])
                squares[c] = v * v
                n[c] = beta[c]
            for j in range(0, channels - 3, 4):
                s0, s1, s2, s3 = squares[j], squares[j + 1], squares[j + 2], squares[j + 3]
                for c in range(channels):
                    n[c] += gamma[j, c] * s0 + gamma[j + 1, c] * s1 + gamma[j + 2, c] * s2 + gamma[j + 3, c] * s3
            for j in range(channels - channels % 4, channels):
                s0 = squares[j]
                for c in range(channels):
                    n[c] += gamma[j, c] * s0
            if inverse:
                for c in range(channels):
                    v = (np.int64(x[source + c]) * np.int64(np.sqrt(n[c])) + half) >> shift
                    out[target + c] = min(max(v, -limit), limit)
            else:
                for c in range(channels):
                    r = np.int64(np.sqrt(n[c]))
                    v = ((np.int64(x[source + c]) << shift) + (r >> 1)) // r
                    out[target + c] = min(max(v, -limit), limit)


@kernel(_ROWS_IN, _I64, _I64, _I64, _ROWS_OUT, _I64, _I64, writes(_I64, 1, "C"))
def norm_rows(x, epsilon, gain, limit, out, y0, y1, d):
    """Rows of layer normalisation on interiors; d [C] int64 is scratch."""
    channels = x.shape[2]
    for y in range(y0, y1):
        for at in range(x.shape[1]):
            total = 0
            for c in range(channels):
                total += x[y, at, c]
            v = epsilon
            for c in range(channels):
                d[c] = channels * np.int64(x[y, at, c]) - total
                v += d[c] * d[c]
            h = 0
            while (v << (2 * h)) < (1 << 50):
                h += 1
            r = np.int64(np.sqrt(np.float64(v << (2 * h))))
            for c in range(channels):
                q = (((d[c] << h) * gain) + (r << 7)) // (r << 8)
                out[y, at, c] = min(max(q, -limit), limit)


@kernel(_I64, reads(_I32, 1, "C"))
def _exp2(t, table):
    n = min(t >> 16, 40)
    i, j = (t >> 8) & 255, t & 255
    a = np.int64(table[i]) * (256 - j) + np.int64(table[i + 1]) * j
    return (a + (1 << (n + 7))) >> (n + 8)


@kernel(_ROWS_IN, _I64, reads(_I64, 4, "C"), _I64, reads(_I32, 1, "C"), _ROWS_OUT, _I64, _I64, writes(_F64, 2, "C"),
        writes(_F64, 2, "C"), writes(_F64, 2, "C"), writes(_F64, 1, "C"), writes(_F64, 1, "C"), writes(_F64, 1, "C"),
        writes(_I64, 1, "C"), writes(_I64, 1, "C"), writes(_I64, 1, "C"), writes(_I64, 1, "C"))
def local_attention_rows(qkv, shift, bias, limit, table, out, y0, y1, q, k, v, dots, weights, seen, outside, logits,
                         low, high):
    """Rows of windowed attention at non-anchors; qkv a map, out an interior [h, w / 2, 25 C].

    bias [2, heads, 25, 32]: relative position bias by (query, key) for rows that see every key and for rows of
    anchors; 2^40 lower, where a weight is exactly zero, for keys the row may not see and for the lanes 25..31 that
    have no key. Scratch: q, v [25, d], k [d, 32] with zero lanes 25..31, seen [d], the others [32]. float64 holds
    integers: |q . k| <= 2^30 d and |sum p v| <= 2^31 * 25. Most non-anchors have equal queries, as their inputs are
    zero: the products of an equal query are kept from row to row.
    """
    heads, channels = bias.shape[1], qkv.shape[2] // 3
    d = channels // heads
    h, w = qkv.shape[0] - 4, qkv.shape[1] - 4
    half = (1 << shift) >> 1
    for y in range(y0, y1):
        for n in range(out.shape[1]):
            x = 2 * n + (y & 1)
            for a in range(25):
                ay, ax = y + a // 5 - 2, x + a % 5 - 2
                outside[a] = 0 if 0 <= ay < h and 0 <= ax < w else -(1 << 40)
            for head in range(heads):
                for a in range(25):
                    at = qkv[y + a // 5, x + a % 5]
                    for e in range(d):
                        q[a, e] = at[head * d + e]
                        k[e, a] = at[channels + head * d + e]
                        v[a, e] = at[2 * channels + head * d + e]
                kept = -1
                for turn in range(25):
                    a = 2 * turn if turn < 13 else 2 * turn - 25  # non-anchors, then anchors
                    same = kept >= 0
                    if same:
                        for e in range(d):
                            same &= q[a, e] == q[kept, e]
                    if not same:
                        for b in range(32):
                            dots[b] = 0.0
                        for e in range(0, d - 3, 4):  # four at a time: a quarter of the loads and stores of dots
                            f0, f1, f2, f3 = q[a, e], q[a, e + 1], q[a, e + 2], q[a, e + 3]
                            for b in range(32):
                                dots[b] += f0 * k[e, b] + f1 * k[e + 1, b] + f2 * k[e + 2, b] + f3 * k[e + 3, b]
                        for e in range(d - d % 4, d):
                            f0 = q[a, e]
                            for b in range(32):
                                dots[b] += f0 * k[e, b]
                        kept = a
                    restricted = 1 if a % 2 == 1 and outside[a] == 0 else 0
                    for b in range(32):
                        logits[b] = ((np.int64(dots[b]) + half) >> shift) + bias[restricted, head, a, b]
                    if restricted:
                        for b in range(25):
                            logits[b] += outside[b]
                    top = logits[0]
                    for b in range(32):
                        top = max(top, logits[b])
                    for b in range(32):
                        i = ((top - logits[b]) >> 8) & 255
                        low[b] = table[i]
                        high[b] = table[i + 1]
                    total = 0
                    for b in range(32):
                        t = top - logits[b]
                        s = min(t >> 16, 40) + 8
                        j = t & 255
                        low[b] = (low[b] * (256 - j) + high[b] * j + (1 << (s - 1))) >> s
                        total += low[b]
                    reciprocal = (1 << 47) // total
                    for b in range(32):
                        weights[b] = (low[b] * reciprocal + (1 << 30)) >> 31
                    for e in range(d):
                        seen[e] = 32768.0
                    for b in range(0, 25, 5):
                        p0, p1, p2, p3, p4 = weights[b], weights[b + 1], weights[b + 2], weights[b + 3], weights[b + 4]
                        for e in range(d):
                            seen[e] += (p0 * v[b, e] + p1 * v[b + 1, e] + p2 * v[b + 2, e] + p3 * v[b + 3, e]
                                        + p4 * v[b + 4, e])
                    to = a * channels + head * d
                    for e in range(d):
                        out[y, n, to + e] = min(max(np.int64(seen[e]) >> 16, -limit), limit)


@kernel(reads(_I16, 2, "C"), _I64, reads(_I32, 1, "C"), writes(_I64, 1, "C"), writes(_F64, 2, "C"))
def key_weights(keys, shift, table, top, out):
    """Give out [P, C] float64 = 2^(24 - (top - key)) in integers; top [C] int64 receives the maxima over positions."""
    for c in range(keys.shape[1]):
        top[c] = keys[0, c]
    for p in range(1, keys.shape[0]):
        for c in range(keys.shape[1]):
            top[c] = max(top[c], np.int64(keys[p, c]))
    for p in range(keys.shape[0]):
        for c in range(keys.shape[1]):
            out[p, c] = _exp2((top[c] - keys[p, c]) << shift, table)


@kernel(reads(_F64, 2, "C"), reads(_I16, 2, "C"), writes(_F64, 3, "C"))
def key_products(e, values, sums):
    """Give sums [heads, d, d] = e^T v of every head over one block of positions: float64 integers below 2^52."""
    d = sums.shape[1]
    for head in range(sums.shape[0]):
        for i in range(d):
            for j in range(d):
                sums[head, i, j] = 0.0
    for n in range(e.shape[0]):
        for head in range(sums.shape[0]):
            first = head * d
            for i in range(d):
                factor = e[n, first + i]
                for j in range(d):
                    sums[head, i, j] += factor * values[n, first + j]


@kernel(reads(_I16, 2, "C"), _I64, reads(_I32, 1, "C"), reads(_F64, 3, "C"), _I64, writes(_I64, 2, "C"),
        writes(_I64, 1, "C"), writes(_F64, 1, "C"))
def attend(queries, shift, table, context, limit, out, e, seen):
    """Give out [P, C] = softmax of queries over the channels of each head, times context [heads, d, d].

    Scratch: e, seen [d]. |sum p c| < 2^15 * (2^16 + d): exact in float64.
    """
    d = context.shape[1]
    for n in range(queries.shape[0]):
        for head in range(context.shape[0]):
            first = head * d
            top = np.int64(queries[n, first])
            for c in range(1, d):
                top = max(top, np.int64(queries[n, first + c]))
            total = 0
            for c in range(d):
                e[c] = _exp2((top - queries[n, first + c]) << shift, table)
                total += e[c]
            reciprocal = (1 << 47) // total
            for c in range(d):
                seen[c] = 32768.0
            for i in range(d):
                p = np.float64((e[i] * reciprocal + (1 << 30)) >> 31)
                for c in range(d):
                    seen[c] += p * context[head, i, c]
            for c in range(d):
                out[n, first + c] = min(max(np.int64(seen[c]) >> 16, -limit), limit)
