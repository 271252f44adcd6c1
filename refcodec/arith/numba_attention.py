"""The two attentions in Numba (SPEC 5.7 to 5.9); the twin of numpy_ops.py, integer by integer.

float64 holds integers below 2^53 throughout; int64 elsewhere. Scratch is on the stack, so that threads share nothing.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numba import njit, types

from . import numpy_ops
from .layers import LinearAttention, LocalAttention
from .maps import BORDER, interior
from .numba_ops import _exp2
from .numba_team import address, memory, scratch, share, task
from .numpy_ops import RELATIVE, SUM_BLOCK, contexts

_I16, _I32, _I64, _F64 = types.int16, types.int32, types.int64, types.float64

_UNSEEN = -(1 << 40)

MAX_WIDTH = 64
"""Channels a head that the stack has scratch for; NumPy takes more. No configuration in use has more than 32."""

_FARTHEST = 41 << 16
"""Beyond it the exponential is zero (SPEC 5.7)."""

ORDER = np.array([*range(1, 25, 2), *range(0, 25, 2)])
"""Places of a 5x5 window by lane: 12 anchors in lanes 0..11, 13 non-anchors in lanes 16..28. Anchors see anchors only,
so that for their rows 16 lanes do; the lanes between have no place."""

LANE = np.array([*range(12), *range(16, 29)])

_WIDE, _WINDOW, _ROW = 32 * MAX_WIDTH, 25 * MAX_WIDTH, 32

(_L_QKV, _L_OUT, _L_BIAS, _L_PLACE, _L_TABLE, _L_SHIFT, _L_LIMIT, _L_HEADS, _L_CHANNELS, _L_HEIGHT, _L_WIDTH, _L_ROW,
 _L_COLUMN, _L_OUT_ROW, _L_OUT_COLUMN, _L_WORDS) = range(16)
"""Words of local attention's arguments; strides in elements."""


def _softmax_kernel(lanes):
    """Weights of the first ``lanes`` logits."""
    @njit(nogil=True)
    def softmax(logits, table, weights, near, low, high):
        top = logits[0]
        for b in range(lanes):
            top = max(top, logits[b])
        for b in range(lanes):  # from here on 32 bits: twice the lanes
            near[b] = min(top - logits[b], _FARTHEST)
        for b in range(lanes):
            i = (near[b] >> 8) & 255
            low[b] = table[i]
            high[b] = table[i + 1]
        total = 0
        for b in range(lanes):
            t = np.int64(near[b])
            s = min(t >> 16, 40) + 8
            j = t & 255
            v = (np.int64(low[b]) * (256 - j) + np.int64(high[b]) * j + (1 << (s - 1))) >> s
            weights[b] = np.float64(v)
            total += v
        reciprocal = np.float64((1 << 47) // total)
        # v reciprocal <= 2^24 * 2^47 / total; v <= total, so it and the rounding stay below 2^48: exact
        for b in range(lanes):
            weights[b] = np.floor((weights[b] * reciprocal + 1073741824.0) * (1 / 2147483648.0))

    return softmax


_softmax_all, _softmax_anchors = _softmax_kernel(32), _softmax_kernel(16)


@task
def _local_rows(arguments, y0, y1):
    """Rows y0..y1 of windowed attention at non-anchors.

    bias [2, heads, 25, 32]: relative position bias by (query, lane) for rows that see every key and for rows of
    anchors; 2^40 lower, where a weight is exactly zero, in lanes without a key. |q . k| <= 2^30 d and
    |sum p v| <= 2^31 * 25 + 2^15 are exact in float64. Most non-anchors have equal queries, as their inputs are zero:
    products of an equal query are kept from row to row.
    """
    a = memory(arguments, _I64)
    qkv, out, table = memory(a[_L_QKV], _I16), memory(a[_L_OUT], _I16), memory(a[_L_TABLE], _I32)
    bias, place = memory(a[_L_BIAS], _I64), memory(a[_L_PLACE], _I64)
    shift, limit, heads, channels = a[_L_SHIFT], a[_L_LIMIT], a[_L_HEADS], a[_L_CHANNELS]
    h, w, row, column, out_row, out_column = (a[_L_HEIGHT], a[_L_WIDTH], a[_L_ROW], a[_L_COLUMN], a[_L_OUT_ROW],
                                              a[_L_OUT_COLUMN])
    d = channels // heads
    half = (1 << shift) >> 1
    q, k, v = scratch(_F64, _WINDOW), scratch(_F64, _WIDE), scratch(_F64, _WIDE)
    dots, weights, seen = scratch(_F64, _ROW), scratch(_F64, _ROW), scratch(_F64, MAX_WIDTH)
    logits, outside = scratch(_I64, _ROW), scratch(_I64, _ROW)
    near, low, high = scratch(_I32, _ROW), scratch(_I32, _ROW), scratch(_I32, _ROW)
    for b in range(32):
        outside[b] = 0
    for e in range(d):
        for b in range(32):
            k[e * 32 + b] = 0.0
    for y in range(y0, y1):
        for n in range(w // 2):
            x = 2 * n + (y & 1)
            inner = y >= 2 and y < h - 2 and x >= 2 and x < w - 2
            for t in range(25):
                p, b = place[t], place[25 + t]
                ay, ax = y + p // 5 - 2, x + p % 5 - 2
                outside[b] = 0 if 0 <= ay < h and 0 <= ax < w else -(1 << 40)
            for head in range(heads):
                for t in range(25):
                    p, b = place[t], place[25 + t]
                    at = (y + p // 5) * row + (x + p % 5) * column + head * d
                    for e in range(d):
                        q[t * d + e] = qkv[at + e]
                        k[e * 32 + b] = qkv[at + channels + e]
                        v[b * d + e] = qkv[at + 2 * channels + e]
                kept = -1
                for turn in range(25):
                    t = (turn + 12) % 25  # non-anchors, then anchors
                    p = place[t]
                    restricted = 1 if t < 12 and outside[t] == 0 else 0
                    lanes = 16 if restricted else 32
                    same = kept >= 0 and not restricted
                    if same:
                        for e in range(d):
                            same &= q[t * d + e] == q[kept * d + e]
                    if not same and restricted:
                        for b in range(16):
                            dots[b] = 0.0
                        for e in range(d):
                            f = q[t * d + e]
                            for b in range(16):
                                dots[b] += f * k[e * 32 + b]
                        kept = -1
                    elif not same:
                        for b in range(32):
                            dots[b] = 0.0
                        for e in range(d):
                            f = q[t * d + e]
                            for b in range(32):
                                dots[b] += f * k[e * 32 + b]
                        kept = t
                    from_bias = ((restricted * heads + head) * 25 + p) * 32
                    for b in range(lanes):
                        logits[b] = ((np.int64(dots[b]) + half) >> shift) + bias[from_bias + b]
                    if restricted and not inner:
                        for b in range(16):
                            logits[b] += outside[b]
                    for e in range(d):
                        seen[e] = 32768.0
                    if restricted:
                        _softmax_anchors(logits, table, weights, near, low, high)
                    else:
                        _softmax_all(logits, table, weights, near, low, high)
                    for b in range(0, 12, 4):
                        p0, p1, p2, p3 = weights[b], weights[b + 1], weights[b + 2], weights[b + 3]
                        for e in range(d):
                            seen[e] += (p0 * v[b * d + e] + p1 * v[b * d + d + e] + p2 * v[b * d + 2 * d + e]
                                        + p3 * v[b * d + 3 * d + e])
                    if not restricted:
                        for e in range(d):
                            seen[e] += weights[28] * v[28 * d + e]
                        for b in range(16, 28, 4):
                            p0, p1, p2, p3 = weights[b], weights[b + 1], weights[b + 2], weights[b + 3]
                            for e in range(d):
                                seen[e] += (p0 * v[b * d + e] + p1 * v[b * d + d + e] + p2 * v[b * d + 2 * d + e]
                                            + p3 * v[b * d + 3 * d + e])
                    to = y * out_row + n * out_column + p * channels + head * d
                    for e in range(d):
                        out[to + e] = min(max(np.int64(seen[e]) >> 16, -limit), limit)


_biases: WeakKeyDictionary[LocalAttention, np.ndarray] = WeakKeyDictionary()

_PLACES = np.concatenate([ORDER, LANE]).astype(np.int64)


def _lane_bias(layer: LocalAttention) -> np.ndarray:
    found = _biases.get(layer)
    if found is None:
        found = np.full((2, layer.heads, 25, 32), _UNSEEN, np.int64)
        found[:, :, :, LANE] = layer.bias[RELATIVE][:, ORDER].transpose(2, 0, 1)
        found[1, :, :, 16:] = _UNSEEN
        _biases[layer] = found
    return found


def local_attention(qkv: np.ndarray, layer: LocalAttention, table: np.ndarray, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.8) As ``numpy_ops.local_attention``."""
    channels = qkv.shape[2] // 3
    if channels // layer.heads > MAX_WIDTH:
        numpy_ops.local_attention(qkv, layer, table, out)
        return
    bias = _lane_bias(layer)
    a = np.zeros(_L_WORDS, np.int64)
    a[:] = (address(qkv), address(out) + BORDER * (out.strides[0] + out.strides[1]), address(bias), address(_PLACES),
            address(table), layer.shift, layer.limit, layer.heads, channels, qkv.shape[0] - 2 * BORDER,
            qkv.shape[1] - 2 * BORDER, *(s // 2 for s in (*qkv.strides[:2], *out.strides[:2])))
    share(_local_rows, a, out.shape[0] - 2 * BORDER, threads)


# ------------------------------------------------------------------------------------------- linear attention (5.9)

GROUP = 4
"""Channels of keys that one unit of work sums: 4 rows of d sums stay in registers."""

_SUMS = GROUP * MAX_WIDTH

(_K_KEYS, _K_VALUES, _K_TOP, _K_TABLE, _K_SUMS, _K_TOTALS, _K_SHIFT, _K_WIDTH, _K_PARITY, _K_HEIGHT, _K_COLUMNS, _K_ROW,
 _K_COLUMN, _K_V_ROW, _K_V_COLUMN, _K_BLOCK, _K_WORDS) = range(17)


@task
def _key_sums(arguments, first, end):
    """Units first..end of 4 channels of keys: their weights' totals and products with the values of their head.

    A weight is at most 2^24 and a value below 2^15: 2^13 positions sum below 2^52 in float64, then go to int64.
    """
    a = memory(arguments, _I64)
    keys, values, table = memory(a[_K_KEYS], _I16), memory(a[_K_VALUES], _I16), memory(a[_K_TABLE], _I32)
    top, sums, totals = memory(a[_K_TOP], _I64), memory(a[_K_SUMS], _I64), memory(a[_K_TOTALS], _I64)
    shift, d, parity, height, columns = a[_K_SHIFT], a[_K_WIDTH], a[_K_PARITY], a[_K_HEIGHT], a[_K_COLUMNS]
    row, column, v_row, v_column = a[_K_ROW], a[_K_COLUMN], a[_K_V_ROW], a[_K_V_COLUMN]
    part, e = scratch(_F64, _SUMS), scratch(_F64, GROUP)
    a_head = -(-d // GROUP)
    step = 2 if parity >= 0 else 1
    for unit in range(first, end):
        head, start = unit // a_head, unit % a_head * GROUP
        count = min(d - start, GROUP)
        c0, v0 = head * d + start, head * d
        for i in range(GROUP * d):
            part[i] = 0.0
        pending = 0
        for i in range(GROUP):
            e[i] = 0.0
        for y in range(height):
            for x in range((y + parity) & 1 if parity >= 0 else 0, columns, step):
                at = y * row + x * column + c0
                for i in range(count):
                    weight = _exp2((top[c0 + i] - keys[at + i]) << shift, table)
                    totals[c0 + i] += weight
                    e[i] = np.float64(weight)
                e0, e1, e2, e3 = e[0], e[1], e[2], e[3]
                v_at = y * v_row + x * v_column + v0
                for j in range(d):
                    v = np.float64(values[v_at + j])
                    part[j] += e0 * v
                    part[d + j] += e1 * v
                    part[2 * d + j] += e2 * v
                    part[3 * d + j] += e3 * v
                pending += 1
                if pending == a[_K_BLOCK]:
                    for i in range(count * d):
                        sums[c0 * d + i] += np.int64(part[i])
                        part[i] = 0.0
                    pending = 0
        for i in range(count * d):
            sums[c0 * d + i] += np.int64(part[i])


(_Q_QUERIES, _Q_OUT, _Q_CONTEXT, _Q_TABLE, _Q_SHIFT, _Q_LIMIT, _Q_HEADS, _Q_WIDTH, _Q_PARITY, _Q_COLUMNS, _Q_ROW,
 _Q_COLUMN, _Q_OUT_ROW, _Q_OUT_COLUMN, _Q_WORDS) = range(15)


@task
def _attend_rows(arguments, y0, y1):
    """Rows y0..y1: softmax of queries over the channels of each head, times context [heads, d, d].

    |sum p c| < 2^15 * (2^16 + d): exact in float64.
    """
    a = memory(arguments, _I64)
    queries, out, context, table = (memory(a[_Q_QUERIES], _I16), memory(a[_Q_OUT], _I16), memory(a[_Q_CONTEXT], _F64),
                                    memory(a[_Q_TABLE], _I32))
    shift, limit, heads, d, parity, columns = (a[_Q_SHIFT], a[_Q_LIMIT], a[_Q_HEADS], a[_Q_WIDTH], a[_Q_PARITY],
                                               a[_Q_COLUMNS])
    row, column, out_row, out_column = a[_Q_ROW], a[_Q_COLUMN], a[_Q_OUT_ROW], a[_Q_OUT_COLUMN]
    e, seen = scratch(_I64, MAX_WIDTH), scratch(_F64, MAX_WIDTH)
    for y in range(y0, y1):
        for x in range(columns):
            to = y * out_row + x * out_column
            if parity >= 0 and (y + x) & 1 != parity:
                for c in range(heads * d):
                    out[to + c] = 0
                continue
            for head in range(heads):
                at = y * row + x * column + head * d
                top = np.int64(queries[at])
                for c in range(1, d):
                    top = max(top, np.int64(queries[at + c]))
                total = 0
                for c in range(d):
                    e[c] = _exp2((top - queries[at + c]) << shift, table)
                    total += e[c]
                reciprocal = (1 << 47) // total
                for c in range(d):
                    seen[c] = 32768.0
                for i in range(d):
                    p = np.float64((e[i] * reciprocal + (1 << 30)) >> 31)
                    from_context = (head * d + i) * d
                    for c in range(d):
                        seen[c] += p * context[from_context + c]
                for c in range(d):
                    out[to + head * d + c] = min(max(np.int64(seen[c]) >> 16, -limit), limit)


def _maxima(keys: np.ndarray, parity: int) -> np.ndarray:
    inner = interior(keys)
    if parity < 0:
        return inner.max(axis=(0, 1)).astype(np.int64)
    halves = [half.max(axis=(0, 1)) for half in (inner[0::2, parity::2], inner[1::2, 1 - parity::2]) if half.size]
    return np.max(halves, axis=0).astype(np.int64)


def linear_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, layer: LinearAttention,
                     table: np.ndarray, out: np.ndarray, keys_at: int, queries_at: int, threads: int) -> None:
    """(SPEC 5.9) As ``numpy_ops.linear_attention``."""
    channels, heads = keys.shape[2], layer.heads
    d = channels // heads
    if d > MAX_WIDTH:
        numpy_ops.linear_attention(queries, keys, values, layer, table, out, keys_at, queries_at)
        return
    height, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER

    def start(x: np.ndarray) -> int:
        return address(x) + BORDER * (x.strides[0] + x.strides[1])

    def strides(*maps: np.ndarray) -> list[int]:
        return [s // 2 for x in maps for s in x.strides[:2]]

    top, totals = _maxima(keys, keys_at), np.zeros(channels, np.int64)
    sums = np.zeros((heads, d, d), np.int64)
    a = np.array([start(keys), start(values), address(top), address(table), address(sums), address(totals),
                  layer.key_shift, d, keys_at, height, width, *strides(keys, values), SUM_BLOCK], np.int64)
    share(_key_sums, a, heads * -(-d // GROUP), threads)
    context = contexts(sums, totals.reshape(heads, d, 1), layer.context_shift).astype(np.float64)
    a = np.array([start(queries), start(out), address(context), address(table), layer.query_shift, layer.limit, heads,
                  d, queries_at, width, *strides(queries, out)], np.int64)
    share(_attend_rows, a, height, threads)
