"""Exponentials, softmax and the two attentions (SPEC 5.7 to 5.9), in NumPy."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...model.layers import WEIGHT_FRAC, LinearAttention, LocalAttention
from ..checkerboard import put, take, take_into
from ..maps import BORDER, Map, interior
from . import bands
from .exact import shifted

_OFFSETS = [(y, x) for y in range(5) for x in range(5)]

RELATIVE = np.array([[(qy - ky + 4) * 9 + qx - kx + 4 for ky, kx in _OFFSETS] for qy, qx in _OFFSETS])
"""Row of the relative position table for query a and key b of a 5x5 window, [25, 25] (SPEC 5.8)."""

SUM_BLOCK = 1 << 13
"""Positions whose products, below 2^24 * 2^15, sum below 2^52: exact in float64."""

CONTEXT_MAX = (1 << 15) - 1

_NEVER = 40 << 16  # after 40 octaves an exponential rounds to zero


@lru_cache(maxsize=4)
def _fractions(table: bytes) -> NDArray[np.float64]:
    """(SPEC 5.7) 2^(32 - u / 2^16) of every u below 2^16 by the bytes of the table; in int64, then float64: 33 bits."""
    t, u = np.frombuffer(table, np.int32).astype(np.int64), np.arange(1 << 16)
    i, j = u >> 8, u & 255
    fractions: NDArray[np.float64] = (t[i] * (256 - j) + t[i + 1] * j).astype(np.float64)
    return fractions


def _exp2(t: np.ndarray, table: NDArray[np.int32]) -> NDArray[np.float64]:
    """(SPEC 5.7) ``exp2_negative`` in float64 of integers t >= 0 of any type, float64 below 2^53, overwritten."""
    t = np.minimum(t, _NEVER, out=t).astype(np.int32)
    e = np.take(_fractions(table.tobytes()), t & 0xFFFF, mode="clip")
    t >>= 16
    np.ldexp(e, -8 - t, out=e)  # t <= 40 now: multiples of 2^-(8+t), at most 2^(24-t): 33 bits
    # at most 2^(24-t) + 1/2 in units of 2^-(8+t), where 1/2 is 2^(7+t), t <= 40: 48 bits
    e += 0.5
    return np.floor(e, out=e)


def exp2_negative(t: NDArray[np.int64], table: NDArray[np.int32]) -> NDArray[np.int64]:
    """(SPEC 5.7) 2^(24 - t / 2^16) for int64 t >= 0, by the table of 257 entries and one rounded shift."""
    return _exp2(t.copy(), table).astype(np.int64)


def softmax_weights(logits: NDArray[np.float64], table: NDArray[np.int32]) -> NDArray[np.float64]:
    """(SPEC 5.7) Weights in Q16 along the last axis of Q16 logits, as float64 integers.

    Logits are integers below 2^38 in magnitude, at most 2^12 in a row; masked ones are less by 2^40, so at least 2^39
    below the others, and their exponential is 0. The largest e is 2^24, so s >= 2^24 and R <= 2^23.
    """
    e = _exp2(logits.max(axis=-1, keepdims=True) - logits, table)  # differences of integers, below 2^41: 41 bits
    # s <= 2^12 * 2^24: 37 bits; 2^47 + s < 2^53, so R is right (quotient); it is scaled by a power of two. e <= s, so
    # e R <= 2^47: 48 bits
    e *= np.floor(2.0**47 / e.sum(axis=-1, keepdims=True)) * 2.0**-31
    e += 0.5  # multiples of 2^-31, at most 2^16 + 1/2: 48 bits
    return np.floor(e, out=e)


def local_attention(qkv: Map, layer: LocalAttention, table: NDArray[np.int32], out: Map, threads: int = 1) -> None:
    """(SPEC 5.8) Attention inside the window of every non-anchor, over maps.

    Parameters
    ----------
    qkv : np.ndarray [h + 4, w + 4, 3 C], int16
        Heads contiguous; zero outside the picture.
    layer : LocalAttention
    table : np.ndarray, int32
        Of the exponential (SPEC annex A).
    out : np.ndarray [h + 4, w / 2 + 4, 25 C], int16
        One entry per non-anchor, packed along columns; result (window row, window column, channel).
    threads : int
    """
    target = interior(out)
    h, half, c = target.shape[0], target.shape[1], qkv.shape[2] // 3
    d = c // layer.heads
    bias = layer.bias[RELATIVE].transpose(2, 0, 1).astype(np.float64)  # [heads, 25, 25], at most 2^31: 32 bits
    inside = np.zeros((*qkv.shape[:2], 1), bool)
    interior(inside)[...] = True
    odd = np.array([(y + x) % 2 == 1 for y, x in _OFFSETS])

    def rows(y0: int, y1: int) -> None:
        for band, columns in bands.blocks(y0, y1, half, 2 * layer.heads * 625):
            part = slice(2 * columns.start, 2 * columns.stop + 2 * BORDER)
            count = columns.stop - columns.start
            window = _windows(qkv[:, part], band, count).astype(np.float64).reshape(-1, 25, 3, layer.heads, d)
            q, k, v = window.transpose(2, 0, 3, 1, 4)
            q *= 2.0**-layer.shift  # multiples of 2^-shift below 2^(15-shift): 15 bits
            anchor = _windows(inside[:, part], band, count).reshape(-1, 25) & odd
            hidden = anchor[:, :, None] > anchor[:, None, :]
            logits = np.matmul(q, k.swapaxes(2, 3))  # multiples of 2^-shift below 2^30 d 2^-shift, d <= 2^12: 42 bits
            logits += 0.5  # 1/2 is 2^(shift-1) units of 2^-shift, shift <= 30 (units of 1/2 for shift 0): 43 bits
            np.floor(logits, out=logits)
            logits += bias  # only now: before the floor, 31 bits of bias above 2^-30 would need 61 bits. 2^38: 38 bits
            logits -= 2.0**40 * hidden[:, None]  # below 2^41: 41 bits
            weights = softmax_weights(logits, table)
            seen = shifted(np.matmul(weights, v), WEIGHT_FRAC)  # sum of |p v| < 25 * 2^17 * 2^15: 37 bits
            np.clip(seen, -layer.limit, layer.limit, out=seen)
            target[band, columns] = seen.transpose(0, 2, 1, 3).reshape(-1, count, 25 * c)

    bands.share(rows, h, threads, target.size)


def _windows(x: np.ndarray, rows: slice, half: int) -> np.ndarray:
    """The 5x5 windows of the non-anchors of rows of a map, [rows, half, 25, C]."""
    out = np.empty((rows.stop - rows.start, half, 25, x.shape[2]), x.dtype)
    for n, (dy, dx) in enumerate(_OFFSETS):
        take_into(x[rows.start + dy : rows.stop + dy, dx : dx + 2 * half], rows.start & 1, out[:, :, n])
    return out


def key_weights(
    keys: NDArray[np.int16], top: NDArray[np.int16], shift: int, table: NDArray[np.int32]
) -> NDArray[np.float64]:
    """(SPEC 5.9) 2^(24 - (top - k) 2^(shift - 16)) of keys.

    Differences below 2^16 are shifted by at most 16 in int64.

    Parameters
    ----------
    keys : np.ndarray [P, C], int16
    top : np.ndarray [C], int16
        Their maxima over positions.
    shift : int
        0..16.
    table : np.ndarray, int32
        Of the exponential.

    Returns
    -------
    np.ndarray [P, C], float64
        Integers of at most 2^24.
    """
    return _exp2((top.astype(np.int64) - keys) << shift, table)


def query_weights(queries: NDArray[np.int16], heads: int, shift: int, table: NDArray[np.int32]) -> NDArray[np.float64]:
    """(SPEC 5.9) Softmax weights of queries over the channels of each head.

    Parameters
    ----------
    queries : np.ndarray [P, C], int16
    heads : int
    shift : int
        0..16.
    table : np.ndarray, int32
        Of the exponential.

    Returns
    -------
    np.ndarray [P, C], float64
        Integers in Q16.
    """
    # shift <= 16: 31 bits
    logits = queries.reshape(queries.shape[0], heads, -1).astype(np.float64) * 2.0**shift
    return softmax_weights(logits, table).reshape(queries.shape)


def contexts(sums: NDArray[np.int64], total: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """(SPEC 5.9) Rounded quotient (sums * 2^shift) / total, clamped to int16, without leaving int64.

    |sums| <= total * 2^15 and total <= 2^24 * 2^23; the rest of the first division is below total, so its shift by
    at most 12 stays below 2^60.

    Parameters
    ----------
    sums : np.ndarray, int64
    total : np.ndarray, int64
        Positive, of a shape that broadcasts with ``sums``.
    shift : int
        0..12.

    Returns
    -------
    np.ndarray, int64
        Of the shape of ``sums``.
    """
    quotient, rest = sums // total, sums % total
    context = (quotient << shift) + ((rest << shift) + (total >> 1)) // total
    return np.clip(context, -CONTEXT_MAX, CONTEXT_MAX)


def linear_attention(
    queries: Map,
    keys: Map,
    values: Map,
    layer: LinearAttention,
    table: NDArray[np.int32],
    out: Map,
    keys_at: int,
    queries_at: int,
    threads: int = 1,
) -> None:
    """(SPEC 5.9) Attention of queries to keys and values over all positions.

    Parameters
    ----------
    queries, keys, values : map [H + 4, W + 4, C], int16
    layer : LinearAttention
    table : np.ndarray, int32
        Of the exponential.
    out : map [H + 4, W + 4, C], int16
        Its interior is written.
    keys_at : int
        ANCHOR or NONANCHOR limits keys and values to this half of the checkerboard; -1 takes all.
    queries_at : int
        The same for the results, which are zero elsewhere.
    threads : int
    """
    rows, row, heads = interior(keys).shape[0], 2 * keys[0].size, layer.heads
    d = keys.shape[2] // heads
    block = min(SUM_BLOCK, max(1, bands.ONE_THREAD // d**2))
    top = np.max([_rows_of(keys, keys_at, band).max(axis=0) for band in bands.cut(0, rows, row)], axis=0)
    parts: list[tuple[np.ndarray, np.ndarray]] = []

    def summarise(y0: int, y1: int) -> None:
        sums, total = np.zeros((heads, d, d), np.int64), np.zeros((heads, d, 1), np.int64)
        for band in bands.cut(y0, y1, row):
            k, v = _rows_of(keys, keys_at, band), _rows_of(values, keys_at, band)
            for at in range(0, k.shape[0], block):
                e = key_weights(k[at : at + block], top, layer.key_shift, table).reshape(-1, heads, d)
                f = v[at : at + block].astype(np.float64).reshape(e.shape)
                # at most 2^13 products below 2^24 * 2^15, 52 bits, and weights, 38 bits; sums of blocks are int64
                sums += np.matmul(e.transpose(1, 2, 0), f.swapaxes(0, 1)).astype(np.int64)
                total += e.sum(axis=0).astype(np.int64)[:, :, None]
        parts.append((sums, total))

    bands.share(summarise, rows, threads, keys.size)
    sums, total = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    context = contexts(sums, total, layer.context_shift).astype(np.float64)  # clamped: 15 bits

    def attend(y0: int, y1: int) -> None:
        for band in bands.cut(y0, y1, 2 * queries[0].size):
            q = _rows_of(queries, queries_at, band)
            p, seen = query_weights(q, heads, layer.query_shift, table), np.empty(q.shape)
            for head in range(heads):
                part = slice(head * d, head * d + d)
                # sum of |p c| < (2^16 + d) 2^15, d <= 2^12: 33 bits
                bands.product(p[:, part], context[head], seen[:, part])
            shifted(seen, WEIGHT_FRAC)
            put_rows(_part(out, band), _turned(queries_at, band), np.clip(seen, -layer.limit, layer.limit, out=seen))

    bands.share(attend, interior(queries).shape[0], threads, queries.size)


def _part(x: np.ndarray, rows: slice) -> np.ndarray:
    """Rows of a map, as a map."""
    return x[rows.start : rows.stop + 2 * BORDER]


def _turned(parity: int, rows: slice) -> int:
    """The parity, or -1, of the same positions in a map that begins with these rows."""
    return parity if parity < 0 else (parity + rows.start) & 1


def _rows_of(x: np.ndarray, parity: int, rows: slice) -> np.ndarray:
    return rows_of(_part(x, rows), _turned(parity, rows))


def rows_of(x: np.ndarray, parity: int) -> np.ndarray:
    """Positions of a map as rows [P, C], of one half of the checkerboard or, for -1, all."""
    inner = interior(x) if parity < 0 else take(interior(x), parity)
    return np.ascontiguousarray(inner).reshape(-1, x.shape[2])


def put_rows(out: np.ndarray, parity: int, values: np.ndarray) -> None:
    """Write the rows of ``rows_of`` into a map; the other half of the checkerboard becomes zero.

    Parameters
    ----------
    out : map [H + 4, W + 4, C]
    parity : int
        -1 for all positions, else ANCHOR or NONANCHOR.
    values : np.ndarray [P, C]
        P positions in raster order.
    """
    target = interior(out)
    if parity < 0:
        target[...] = values.reshape(target.shape)
    else:
        target[...] = 0
        put(target, parity, values.reshape(target.shape[0], -1, target.shape[2]))
