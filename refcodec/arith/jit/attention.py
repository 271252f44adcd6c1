"""The two attentions by kernels (SPEC 5.7 to 5.9, kernels/attention.py); as arith/numpy_ops, integer by integer."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ...model.layers import LinearAttention, LocalAttention
from .. import numpy_ops
from ..maps import BORDER, interior
from ..numpy_ops import RELATIVE, SUM_BLOCK, contexts
from .addresses import place_of
from .kernels.constants import FARTHEST, GROUP, MAX_WIDTH, POSITIONS, STEP, UNSEEN
from .kernels.words import AttendWords, ExponentialsWords, KeySumsWords, LocalWords, filled
from .native.loader import Kernel
from .team import address, share

ORDER = np.array([*range(1, 25, 2), *range(0, 25, 2)])
"""Places of a 5x5 window by lane: 12 anchors in lanes 0..11, 13 non-anchors in lanes 16..28. Anchors see anchors only,
so that for their rows 16 lanes do; the lanes between have no place."""

LANE = np.array([*range(12), *range(16, 29)])

_local_rows, _key_sums, _attend_rows, _exponentials = (
    Kernel(f"attention.{name}") for name in ("local_rows", "key_sums", "attend_rows", "exponentials")
)

_biases: WeakKeyDictionary[LocalAttention, np.ndarray] = WeakKeyDictionary()

_PLACES = np.concatenate([ORDER, LANE]).astype(np.int64)


def _lane_bias(layer: LocalAttention) -> np.ndarray:
    found = _biases.get(layer)
    if found is None:
        found = np.full((2, layer.heads, 25, 32), UNSEEN)
        found[:, :, :, LANE] = layer.bias[RELATIVE][:, ORDER].transpose(2, 0, 1)
        found[1, :, :, 16:] = UNSEEN
        _biases[layer] = found
    return found


def local_attention(qkv: np.ndarray, layer: LocalAttention, table: np.ndarray, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.8) As ``numpy_ops.local_attention``."""
    channels = qkv.shape[2] // 3
    if channels // layer.heads > MAX_WIDTH:
        numpy_ops.local_attention(qkv, layer, table, out)
        return
    bias = _lane_bias(layer)
    start, row, column = place_of(qkv)
    target, out_row, out_column = place_of(interior(out))
    height, width = qkv.shape[0] - 2 * BORDER, qkv.shape[1] - 2 * BORDER
    a = filled(
        LocalWords(
            qkv=start,
            out=target,
            bias=address(bias),
            place=address(_PLACES),
            table=address(table),
            shift=layer.shift,
            limit=layer.limit,
            heads=layer.heads,
            channels=channels,
            height=height,
            width=width,
            row=row,
            column=column,
            out_row=out_row,
            out_column=out_column,
        )
    )
    share(_local_rows, a, height, threads)


# ------------------------------------------------------------------------------------------- linear attention (5.9)


def exponentials(t: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(SPEC 5.7) As ``numpy_ops.exp2_negative``, by the kernel that weighs keys: [n] int64 in Q16 -> Q24."""
    groups = -(-t.size // POSITIONS)
    near = np.resize(np.minimum(t, FARTHEST), groups * POSITIONS).astype(np.int32)
    out = np.empty(near.size)
    a = filled(ExponentialsWords(near=address(near), table=address(table), out=address(out)))
    _exponentials.call(address(a), 0, groups)
    return out[: t.size].astype(np.int64)


def _maxima(keys: np.ndarray, parity: int) -> np.ndarray:
    inner = interior(keys)
    parts = [inner] if parity < 0 else [inner[0::2, parity::2], inner[1::2, 1 - parity :: 2]]
    found: np.ndarray = np.max([part.max(axis=(0, 1)) for part in parts if part.size], axis=0)
    return found.astype(np.int64)


def linear_attention(
    queries: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    layer: LinearAttention,
    table: np.ndarray,
    out: np.ndarray,
    keys_at: int,
    queries_at: int,
    threads: int,
) -> None:
    """(SPEC 5.9) As ``numpy_ops.linear_attention``."""
    heads = layer.heads
    d = keys.shape[2] // heads
    if d > MAX_WIDTH:
        numpy_ops.linear_attention(queries, keys, values, layer, table, out, keys_at, queries_at)
        return
    sums, totals = _sums_over_keys(keys, values, layer, table, keys_at, threads)
    context = np.zeros((heads, d, STEP))
    context[:, :, :d] = contexts(sums, totals.reshape(heads, d, 1), layer.context_shift)
    height, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER
    start, row, column = place_of(interior(queries))
    target, out_row, out_column = place_of(interior(out))
    a = filled(
        AttendWords(
            queries=start,
            out=target,
            context=address(context),
            table=address(table),
            shift=layer.query_shift,
            limit=layer.limit,
            heads=heads,
            width=d,
            parity=queries_at,
            columns=width,
            row=row,
            column=column,
            out_row=out_row,
            out_column=out_column,
        )
    )
    share(_attend_rows, a, height, threads)


def _sums_over_keys(
    keys: np.ndarray, values: np.ndarray, layer: LinearAttention, table: np.ndarray, keys_at: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of weights times values [heads, d, d] and of weights [channels], int64."""
    channels, heads = keys.shape[2], layer.heads
    d = channels // heads
    height, width = keys.shape[0] - 2 * BORDER, keys.shape[1] - 2 * BORDER
    start, row, column = place_of(interior(keys))
    value_start, value_row, value_column = place_of(interior(values))
    top, totals = _maxima(keys, keys_at), np.zeros(channels, np.int64)
    sums = np.zeros((heads, d, d), np.int64)
    a = filled(
        KeySumsWords(
            keys=start,
            values=value_start,
            top=address(top),
            table=address(table),
            sums=address(sums),
            totals=address(totals),
            shift=layer.key_shift,
            width=d,
            parity=keys_at,
            height=height,
            columns=width,
            row=row,
            column=column,
            value_row=value_row,
            value_column=value_column,
            block=SUM_BLOCK,
        )
    )
    share(_key_sums, a, heads * -(-d // GROUP), threads)
    return sums, totals
