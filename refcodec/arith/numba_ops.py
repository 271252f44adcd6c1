"""Normalisations and attentions in Numba (SPEC 5.5 to 5.9); the twin of numpy_ops.py, integer by integer.

Kernels work on rows of maps, neither allocate nor raise, and widen every load to int64. float64 holds integers only:
sums of GDN below 2^52 and their square roots, whose floors are exact (numpy_ops._norm_root).
"""

from __future__ import annotations

import numpy as np
from numba import types

from .backend import kernel, reads, writes

_I16, _I32, _I64, _F64 = types.int16, types.int32, types.int64, types.float64
_ROWS_IN, _ROWS_OUT = reads(_I16, 3), writes(_I16, 3)


@kernel(_ROWS_IN, reads(_F64, 2, "C"), reads(_I64, 1, "C"), _I64, _I64, _I64, _ROWS_OUT, _I64, _I64, writes(_F64, 1, "C"),
        writes(_F64, 1, "C"))
def gdn_rows(x, gamma, beta, shift, limit, inverse, out, y0, y1, squares, n):
    """Rows of GDN (inverse 0) or IGDN (inverse 1) on interiors; gamma [C, C] float64 transposed, squares, n [C]."""
    channels = x.shape[2]
    half = (1 << shift) >> 1
    for y in range(y0, y1):
        for at in range(x.shape[1]):
            for c in range(channels):
                v = np.float64(x[y, at, c])
                squares[c] = v * v
                n[c] = beta[c]
            for j in range(channels):
                square = squares[j]
                for c in range(channels):
                    n[c] += gamma[j, c] * square
            for c in range(channels):
                n[c] = np.sqrt(n[c])
            if inverse:
                for c in range(channels):
                    v = (np.int64(x[y, at, c]) * np.int64(n[c]) + half) >> shift
                    out[y, at, c] = min(max(v, -limit), limit)
            else:
                for c in range(channels):
                    r = np.int64(n[c])
                    v = ((np.int64(x[y, at, c]) << shift) + (r >> 1)) // r
                    out[y, at, c] = min(max(v, -limit), limit)


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


@kernel(_ROWS_IN, _I64, reads(_I64, 3, "C"), _I64, reads(_I32, 1, "C"), _ROWS_OUT, _I64, _I64, writes(_I32, 2, "C"),
        writes(_I32, 2, "C"), writes(_I32, 2, "C"), writes(_I64, 1, "C"), writes(_I64, 1, "C"), writes(_I64, 1, "C"))
def local_attention_rows(qkv, shift, bias, limit, table, out, y0, y1, q, k, v, logits, weights, seen):
    """Rows of windowed attention at non-anchors; qkv a map, out an interior [h, w / 2, 25 C].

    bias [heads, 25, 32]: relative position bias by (query, key), keys 25..31 unused. Scratch: q [25, d] int32,
    k [d, 32] int32 (keys along lanes), v [25, d] int32, logits, weights [32] int64, seen [d] int64. Lanes 25..31 and
    keys a row may not see lie 2^40 below, where the weight is exactly zero.
    """
    heads, channels = bias.shape[0], qkv.shape[2] // 3
    d = channels // heads
    h, w = qkv.shape[0] - 4, qkv.shape[1] - 4
    half = (1 << shift) >> 1
    for y in range(y0, y1):
        for n in range(out.shape[1]):
            x = 2 * n + (y & 1)
            for head in range(heads):
                for a in range(25):
                    at = qkv[y + a // 5, x + a % 5]
                    for e in range(d):
                        q[a, e] = at[head * d + e]
                        k[e, a] = at[channels + head * d + e]
                        v[a, e] = at[2 * channels + head * d + e]
                for a in range(25):
                    ay, ax = y + a // 5 - 2, x + a % 5 - 2
                    restricted = a % 2 == 1 and 0 <= ay < h and 0 <= ax < w  # an anchor: window index odd
                    for b in range(32):
                        logits[b] = 0
                    for e in range(d):
                        factor = np.int64(q[a, e])
                        for b in range(32):
                            logits[b] += factor * k[e, b]
                    for b in range(25):
                        logits[b] = ((logits[b] + half) >> shift) + bias[head, a, b]
                    for b in range(25, 32):
                        logits[b] = -(1 << 40)
                    if restricted:
                        for b in range(25):
                            by, bx = y + b // 5 - 2, x + b % 5 - 2
                            if b % 2 == 0 or by < 0 or by >= h or bx < 0 or bx >= w:
                                logits[b] = -(1 << 40)
                    top = logits[0]
                    for b in range(1, 32):
                        top = max(top, logits[b])
                    total = 0
                    for b in range(32):
                        weights[b] = _exp2(top - logits[b], table)
                        total += weights[b]
                    reciprocal = (1 << 47) // total
                    for e in range(d):
                        seen[e] = 1 << 15
                    for b in range(25):
                        p = (weights[b] * reciprocal + (1 << 30)) >> 31
                        for e in range(d):
                            seen[e] += p * v[b, e]
                    to = a * channels + head * d
                    for e in range(d):
                        out[y, n, to + e] = min(max(seen[e] >> 16, -limit), limit)


@kernel(reads(_I16, 2, "C"), _I64, reads(_I32, 1, "C"), writes(_I64, 1, "C"), writes(_F64, 2, "C"))
def key_weights(keys, shift, table, top, out):
    """out [P, C] float64 = 2^(24 - (top - key)) in integers; top [C] int64 receives the maxima over positions."""
    for c in range(keys.shape[1]):
        top[c] = keys[0, c]
    for p in range(1, keys.shape[0]):
        for c in range(keys.shape[1]):
            top[c] = max(top[c], np.int64(keys[p, c]))
    for p in range(keys.shape[0]):
        for c in range(keys.shape[1]):
            out[p, c] = _exp2((top[c] - keys[p, c]) << shift, table)


@kernel(reads(_I16, 2, "C"), _I64, _I64, reads(_I32, 1, "C"), writes(_F64, 2, "C"), writes(_I64, 1, "C"))
def query_weights(queries, heads, shift, table, out, e):
    """out [P, C] float64: softmax weights in Q16 over the channels of each head; e [C / heads] int64 is scratch."""
    d = queries.shape[1] // heads
    for p in range(queries.shape[0]):
        for head in range(heads):
            top = np.int64(queries[p, head * d])
            for c in range(head * d + 1, head * d + d):
                top = max(top, np.int64(queries[p, c]))
            total = 0
            for c in range(d):
                e[c] = _exp2((top - queries[p, head * d + c]) << shift, table)
                total += e[c]
            reciprocal = (1 << 47) // total
            for c in range(d):
                out[p, head * d + c] = (e[c] * reciprocal + (1 << 30)) >> 31
