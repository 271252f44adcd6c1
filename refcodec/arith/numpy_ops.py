"""The arithmetic in NumPy alone (SPEC 5): float64 matrix products where exactness is proved, int64 elsewhere.

A float64 product of integers is exact, in any order of summation and with or without fused multiply-add, while every
partial sum stays below 2^53. The proofs stand where the products are. Feature maps are int16 [H + 4, W + 4, C] with
a border of two zeros on every side (see maps.py).
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from .checkerboard import put, take
from .layers import NORM_FRAC, WEIGHT_FRAC, Conv, Gdn, LinearAttention, LocalAttention, Norm
from .maps import BORDER, interior

_OFFSETS = [(y, x) for y in range(5) for x in range(5)]

RELATIVE = np.array([[(qy - ky + 4) * 9 + qx - kx + 4 for ky, kx in _OFFSETS] for qy, qx in _OFFSETS])
"""Row of the relative position table for query a and key b of a 5x5 window, [25, 25] (SPEC 5.8)."""

SUM_BLOCK = 1 << 13
"""Positions whose products, below 2^24 * 2^15, sum below 2^52: exact in float64."""

CONTEXT_MAX = (1 << 15) - 1

_BAND = 1 << 21  # float64 elements an intermediate may hold: 16 MiB stay in the caches' reach


def round_shift(a: np.ndarray, s: np.ndarray | int) -> np.ndarray:
    """(SPEC 5.2) floor((a + 2^(s-1)) / 2^s) on int64, a itself for s = 0."""
    s = np.asarray(s, np.int64)
    return (a + ((np.int64(1) << s) >> 1)) >> s


def gelu(v: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(SPEC 5.3) max(v, 0) - table[min(|v|, last)] on int64."""
    return np.maximum(v, 0) - table[np.minimum(np.abs(v), table.size - 1)].astype(np.int64)


def _columns(x: np.ndarray, layer: Conv, y0: int, y1: int, width: int, parity: int) -> np.ndarray:
    """Windows of output rows y0..y1 as float64 [rows * width, k * k * C]."""
    k, c = layer.kernel, layer.weight.shape[3]
    step = 2 if parity >= 0 else layer.stride
    top = BORDER - k // 2
    out = np.empty((y1 - y0, width, k, k, c))
    for y in range(y0, y1):
        first = top + ((y + parity) & 1 if parity >= 0 else 0)
        row = top + y * layer.stride
        for ky in range(k):
            for kx in range(k):
                out[y - y0, :, ky, kx] = x[row + ky, first + kx:first + kx + step * (width - 1) + 1:step, :c]
    return out.reshape(-1, k * k * c)


def conv(x: np.ndarray, layer: Conv, out: np.ndarray, add: np.ndarray | None, parity: int, threads: int = 1) -> None:
    """(SPEC 5.3) Convolve map x into out.

    The loader has proved that the accumulator fits int32 for every input within the clamps; the terms of the sum are
    then below 2^32 in total magnitude, so the float64 product is exact.

    Parameters
    ----------
    x : np.ndarray [H + 4, W + 4, C], int16
    out : np.ndarray [Ho + 4, Wo + 4, Co], int16 (int32 for a wide layer)
        Only the interior is written.
    add : np.ndarray or None
        Branch of the shape of out.
    parity : int
        -1 for every position, else only positions with (row + column) % 2 == parity, packed along columns.
    threads : int
        Unused here, as in every function below: BLAS has threads of its own.
    """
    target = interior(out)
    branch = None if add is None else interior(add)
    k, c = layer.kernel, layer.weight.shape[3]
    co = layer.weight.shape[0]
    if layer.depthwise:
        _depthwise(x, layer, target)
        return
    matrix = np.ascontiguousarray(layer.weight.reshape(co, -1).T.astype(np.float64))
    factor = 2 if layer.shuffle else 1
    height, width = target.shape[0] // factor, target.shape[1] // factor
    band = max(1, _BAND // (width * (k * k * c + co)))
    for y0 in range(0, height, band):
        y1 = min(y0 + band, height)
        sums = (_columns(x, layer, y0, y1, width, parity) @ matrix).astype(np.int64).reshape(y1 - y0, width, co)
        rows = slice(factor * y0, factor * y1)
        if layer.shuffle:
            sums = sums.reshape(y1 - y0, width, co // 4, 2, 2).transpose(0, 3, 1, 4, 2)
            sums = sums.reshape(2 * (y1 - y0), 2 * width, co // 4)
            per = [np.tile(a.reshape(co // 4, 2, 2).transpose(1, 2, 0), (y1 - y0, width, 1))
                   for a in _constants(layer)]
        else:
            per = list(_constants(layer))
        bias, shift, add_shift = per
        sums += bias
        if branch is not None:
            sums += branch[rows].astype(np.int64) << add_shift
        target[rows] = _finish(sums >> shift, layer)


def _constants(layer: Conv) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    add_shift = np.zeros_like(layer.shift) if layer.add_shift is None else layer.add_shift
    return layer.bias.astype(np.int64), layer.shift.astype(np.int64), add_shift.astype(np.int64)


def _finish(v: np.ndarray, layer: Conv) -> np.ndarray:
    if not layer.limit:
        return v
    return np.clip(v if layer.gelu is None else gelu(v, layer.gelu), -layer.limit, layer.limit)


def _depthwise(x: np.ndarray, layer: Conv, target: np.ndarray) -> None:
    k, (height, width) = layer.kernel, target.shape[:2]
    top = BORDER - k // 2
    bias, shift, _ = _constants(layer)
    sums = np.broadcast_to(bias, target.shape).copy()
    for ky in range(k):
        for kx in range(k):
            taps = x[top + ky:top + ky + height, top + kx:top + kx + width].astype(np.int64)
            sums += taps * layer.weight[:, ky, kx, 0].astype(np.int64)
    target[...] = _finish(sums >> shift, layer)


def _norm_root(x: np.ndarray, layer: Gdn) -> np.ndarray:
    """floor(sqrt(beta + gamma x^2)) as int64; the loader has proved the sum below 2^52.

    Below 2^52 the sum is exact in float64, and so is the floor of its square root: sqrt is correctly rounded by
    IEEE 754, and for n < 2^52 the distance from sqrt(n) up to the next integer is at least 2^-27, above half an ulp.
    """
    squares = x.astype(np.float64)
    squares *= squares
    n = squares @ layer.gamma.T.astype(np.float64)
    n += layer.beta
    return np.sqrt(n).astype(np.int64)


def igdn(x: np.ndarray, layer: Gdn, out: np.ndarray, threads: int = 1) -> None:
    """(SPEC 5.5) clamp(x * r >> shift, rounded), maps in and out."""
    source, target = interior(x), interior(out)
    band = max(1, _BAND // (source.shape[1] * source.shape[2]))
    for y in range(0, source.shape[0], band):
        rows = source[y:y + band]
        product = rows.astype(np.int64) * _norm_root(rows, layer)
        target[y:y + band] = np.clip(round_shift(product, layer.shift), -layer.limit, layer.limit)


def gdn(x: np.ndarray, layer: Gdn, out: np.ndarray, threads: int = 1) -> None:
    """(SPEC 5.5) clamp(floor((x * 2^shift + floor(r / 2)) / r)), maps in and out."""
    source, target = interior(x), interior(out)
    band = max(1, _BAND // (source.shape[1] * source.shape[2]))
    for y in range(0, source.shape[0], band):
        rows = source[y:y + band]
        r = _norm_root(rows, layer)
        quotient = ((rows.astype(np.int64) << layer.shift) + (r >> 1)) // r
        target[y:y + band] = np.clip(quotient, -layer.limit, layer.limit)


def norm_gain(channels: int) -> int:
    """(SPEC 5.6) round(sqrt(C) * 2^(NORM_FRAC + 8)), by exact integers."""
    return (isqrt(channels << (2 * (NORM_FRAC + 8) + 2)) + 1) >> 1


def layer_norm(x: np.ndarray, layer: Norm, out: np.ndarray, threads: int = 1) -> None:
    """(SPEC 5.6) D * sqrt(C / (sum D^2 + epsilon)) in Q10, maps in and out, without rounding errors before the last.

    The loader has proved sum D^2 below 2^50, so v < 2^51; the lift brings v to [2^50, 2^52), where the float64 square
    root's floor is exact, and |D| 2^h <= sqrt(v 4^h) < 2^26, so the numerator stays below 2^49.
    """
    source = interior(x).astype(np.int64)
    channels = source.shape[2]
    d = channels * source - source.sum(axis=2, keepdims=True)
    v = (d * d).sum(axis=2, keepdims=True) + layer.epsilon
    h = (52 - np.frexp(v.astype(np.float64))[1]) >> 1  # frexp's exponent is the bit length: v < 2^53 is exact
    r = np.sqrt((v << (2 * h)).astype(np.float64)).astype(np.int64)
    numerator = (d << h) * norm_gain(channels)
    interior(out)[...] = np.clip((numerator + (r << 7)) // (r << 8), -layer.limit, layer.limit)


def exp2_negative(t: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(SPEC 5.7) 2^(24 - t / 2^16) for int64 t >= 0, by the table of 257 entries and one rounded shift."""
    n = np.minimum(t >> 16, 40)
    i, j = (t >> 8) & 255, t & 255
    a = table[i].astype(np.int64) * (256 - j) + table[i + 1].astype(np.int64) * j
    return (a + (np.int64(1) << (n + 7))) >> (n + 8)


def softmax_weights(logits: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(SPEC 5.7) Weights in Q16 along the last axis of int64 Q16 logits; masked entries are below by 2^30 or more.

    The largest e is 2^24, so s >= 2^24 and R <= 2^23; e * R <= 2^47.
    """
    t = logits.max(axis=-1, keepdims=True) - logits
    e = exp2_negative(t, table)
    reciprocal = (1 << 47) // e.sum(axis=-1, keepdims=True)
    return (e * reciprocal + (1 << 30)) >> 31


def local_attention(qkv: np.ndarray, layer: LocalAttention, table: np.ndarray, out: np.ndarray,
                    threads: int = 1) -> None:
    """(SPEC 5.8) Attention inside the window of every non-anchor, over maps.

    Parameters
    ----------
    qkv : np.ndarray [h + 4, w + 4, 3 C], int16
        Heads contiguous; zero outside the picture.
    out : np.ndarray [h + 4, w / 2 + 4, 25 C], int16
        One entry a non-anchor, packed along columns; result (window row, window column, channel).
    """
    h, w, c3 = (s - 2 * BORDER if a < 2 else s for a, s in enumerate(qkv.shape))
    c, heads = c3 // 3, layer.heads
    d = c // heads
    bias = layer.bias[RELATIVE].astype(np.int64).transpose(2, 0, 1)  # [heads, 25, 25]
    target = interior(out)
    for y in range(h):
        columns = np.arange(y & 1, w, 2)
        window = np.stack([qkv[y + dy, columns + dx] for dy, dx in _OFFSETS], axis=1).astype(np.float64)
        q, k, v = (window[:, :, n * c:(n + 1) * c].reshape(-1, 25, heads, d).transpose(0, 2, 1, 3) for n in range(3))
        inside = np.array([[0 <= y + dy - 2 < h and 0 <= x + dx - 2 < w for dy, dx in _OFFSETS] for x in columns])
        anchor = inside & np.array([(dy + dx) % 2 == 1 for dy, dx in _OFFSETS])
        products = (q @ k.transpose(0, 1, 3, 2)).astype(np.int64)  # below 2^15 * 2^15 * d: exact
        logits = round_shift(products, layer.shift) + bias
        allowed = ~anchor[:, :, None] | anchor[:, None, :]
        logits = np.where(allowed[:, None], logits, np.int64(-1) << 40)
        weights = softmax_weights(logits, table).astype(np.float64)
        seen = round_shift((weights @ v).astype(np.int64), WEIGHT_FRAC)  # below 2^17 * 2^15 * 25: exact
        seen = np.clip(seen, -layer.limit, layer.limit).transpose(0, 2, 1, 3)
        target[y] = seen.reshape(columns.size, -1)


def key_weights(keys: np.ndarray, shift: int, table: np.ndarray) -> np.ndarray:
    """(SPEC 5.9) 2^(24 + (k - max) ...) of keys [P, C] int16 along positions, as float64 integers <= 2^24."""
    t = (keys.max(axis=0, keepdims=True).astype(np.int64) - keys) << shift
    return exp2_negative(t, table).astype(np.float64)


def query_weights(queries: np.ndarray, heads: int, shift: int, table: np.ndarray) -> np.ndarray:
    """(SPEC 5.9) Softmax weights in Q16 of queries [P, C] int16 over the channels of each head, as float64 integers."""
    logits = queries.reshape(queries.shape[0], heads, -1).astype(np.int64) << shift
    return softmax_weights(logits, table).reshape(queries.shape).astype(np.float64)


def contexts(sums: np.ndarray, total: np.ndarray, shift: int) -> np.ndarray:
    """(SPEC 5.9) Rounded quotient (sums * 2^shift) / total, clamped to int16, without leaving int64.

    |sums| <= total * 2^15 and total <= 2^24 * 2^23; the rest of the first division is below total, so its shift by
    at most 12 stays below 2^60.
    """
    quotient, rest = sums // total, sums % total
    context = (quotient << shift) + ((rest << shift) + (total >> 1)) // total
    return np.clip(context, -CONTEXT_MAX, CONTEXT_MAX)


def linear_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, layer: LinearAttention,
                     table: np.ndarray, out: np.ndarray, keys_at: int, queries_at: int, threads: int = 1) -> None:
    """(SPEC 5.9) Maps of queries against maps of keys and values, into the map out.

    ``keys_at`` limits keys and values to one half of the checkerboard, ``queries_at`` the results; -1 takes all.
    """
    k, v = rows_of(keys, keys_at), rows_of(values, keys_at)
    e = key_weights(k, layer.key_shift, table)
    p = query_weights(rows_of(queries, queries_at), layer.heads, layer.query_shift, table)
    d = k.shape[1] // layer.heads
    seen = np.empty(p.shape)
    for head in range(layer.heads):
        part = slice(head * d, head * d + d)
        sums = np.zeros((d, d), np.int64)
        for at in range(0, e.shape[0], SUM_BLOCK):
            block = slice(at, at + SUM_BLOCK)
            sums += (e[block, part].T @ v[block, part].astype(np.float64)).astype(np.int64)
        total = e[:, part].sum(axis=0).astype(np.int64)[:, None]  # at most 2^24 * 2^23 positions: exact
        seen[:, part] = p[:, part] @ contexts(sums, total, layer.context_shift).astype(np.float64)
    # |sum p c| < 2^15 * (2^16 + d): exact in float64
    put_rows(out, queries_at, np.clip(round_shift(seen.astype(np.int64), WEIGHT_FRAC), -layer.limit, layer.limit))


def rows_of(x: np.ndarray, parity: int) -> np.ndarray:
    """Positions of a map as rows [P, C], of one half of the checkerboard or, for -1, all."""
    inner = interior(x) if parity < 0 else take(interior(x), parity)
    return np.ascontiguousarray(inner).reshape(-1, x.shape[2])


def put_rows(out: np.ndarray, parity: int, values: np.ndarray) -> None:
    """Give a map the rows of ``rows_of``; the other half of the checkerboard becomes zero."""
    target = interior(out)
    if parity < 0:
        target[...] = values.reshape(target.shape)
    else:
        target[...] = 0
        put(target, parity, values.reshape(target.shape[0], -1, target.shape[2]))
