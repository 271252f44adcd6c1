"""Linear attention by kernels (SPEC 5.7, 5.9, kernels/attention.py); as arith/numpy_ops, integer by integer."""

from __future__ import annotations

import numpy as np

from ...model.layers import LinearAttention
from .. import numpy_ops
from ..maps import BORDER, interior
from ..numpy_ops import SUM_BLOCK, contexts
from .addresses import place_of
from .kernels.constants import (
    FARTHEST,
    GROUP,
    MAX_WIDTH,
    POSITIONS,
    STEP,
)
from .kernels.words import AttendWords, ExponentialsWords, KeySumsWords, filled
from .native.loader import Kernel
from .team import address, share

_key_sums, _attend_rows, _exponentials = (
    Kernel(f"attention.{name}") for name in ("key_sums", "attend_rows", "exponentials")
)


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
