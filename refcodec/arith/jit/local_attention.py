"""Local attention by its kernel (SPEC 5.8, kernels/local_attention.py); as arith/numpy_ops, integer by integer."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ...model.layers import LocalAttention
from ..maps import BORDER, interior
from ..numpy_ops import RELATIVE
from ..numpy_ops.attention import local_attention as wide_attention
from .addresses import place_of
from .kernels.constants import DOUBLES, HIDDEN, LANES, VISIBLE, WINDOW_PAIRS
from .kernels.words import LocalWords, filled
from .native.loader import Kernel
from .team import address, share

_ORDER = np.array([*range(1, 25, 2), *range(0, 25, 2)])
"""Places of a 5x5 window around a non-anchor: the anchors first."""

_MOST = (1 << 29) - 1
"""Largest logit."""

_ACCUMULATOR_MAX = (1 << 31) - 1

_OVERRUN = DOUBLES
"""Numbers behind the last of the planes, which the last windows of a map may read."""

_rows = Kernel("local_attention.rows")

_biases: WeakKeyDictionary[LocalAttention, np.ndarray] = WeakKeyDictionary()

_RUNS = 2 * DOUBLES * np.arange(WINDOW_PAIRS)

_ZEROS = np.zeros(LANES, np.int32)


def _ordered_bias(layer: LocalAttention) -> np.ndarray:
    """The position biases of every query and key in the kernel's order, int32 [heads, 25, 25]."""
    found = _biases.get(layer)
    if found is None:
        ordered = layer.bias[RELATIVE[_ORDER][:, _ORDER]].transpose(2, 0, 1)
        found = _biases[layer] = np.ascontiguousarray(ordered, np.int32)
    return found


def is_narrow(qkv: np.ndarray, layer: LocalAttention) -> bool:
    """Whether every sum of a logit fits int32 and every logit is small, whatever queries and keys meet."""
    inner, channels = interior(qkv), qkv.shape[2] // 3
    both = inner[:, :, : 2 * channels]
    most = np.maximum(both.max(axis=(0, 1)).astype(np.int64), -both.min(axis=(0, 1)).astype(np.int64))
    dot = int((most[:channels] * most[channels:]).reshape(layer.heads, -1).sum(axis=1).max())
    half, bias = (1 << layer.shift) >> 1, int(np.abs(layer.bias.astype(np.int64)).max())
    return dot + half <= _ACCUMULATOR_MAX and ((dot + half) >> layer.shift) + bias <= _MOST


def _planes(qkv: np.ndarray, heads: int) -> np.ndarray:
    """Pairs of elements of queries and keys, one-dimensional int32: [2, heads, pairs, even and odd columns, h + 4,
    w / 2 + 2].
    """
    height, width, channels = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    both = qkv[:, :, : 2 * channels]
    if channels // heads % 2:
        both = np.zeros((height, width, 2 * heads, channels // heads + 1), np.int16)
        both[..., :-1] = qkv[:, :, : 2 * channels].reshape(height, width, 2 * heads, -1)
        both = both.reshape(height, width, -1)
    pairs = both.view(np.int32).reshape(height, width // 2, 2, -1).transpose(3, 2, 0, 1)
    out = np.zeros(pairs.size + _OVERRUN, np.int32)
    out[: pairs.size].reshape(pairs.shape)[...] = pairs
    return out


def _mask(height: int, width: int) -> np.ndarray:
    """The cap of a logit by the place of its key in a plane, one-dimensional int32."""
    size = 2 * height * width // 2
    out = np.full(size + _OVERRUN, HIDDEN, np.int32)
    out[:size].reshape(2, height, width // 2)[:, BORDER:-BORDER, BORDER // 2 : -BORDER // 2] = VISIBLE
    return out


def local_attention(qkv: np.ndarray, layer: LocalAttention, table: np.ndarray, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.8) As ``numpy_ops.local_attention``, which serves queries and keys whose products are too large."""
    channels = qkv.shape[2] // 3
    if not is_narrow(qkv, layer):
        wide_attention(qkv, layer, table, out)
        return
    bias, planes, mask = _ordered_bias(layer), _planes(qkv, layer.heads), _mask(*qkv.shape[:2])
    start, row, column = place_of(qkv)
    target, out_row, out_column = place_of(interior(out))
    a = filled(
        LocalWords(
            qkv=start,
            out=target,
            planes=address(planes),
            mask=address(mask),
            bias=address(bias),
            place=address(_ORDER),
            runs=address(_RUNS),
            zeros=address(_ZEROS),
            table=address(table),
            shift=layer.shift,
            limit=layer.limit,
            heads=layer.heads,
            channels=channels,
            half=(channels // layer.heads + 1) // 2,
            stride=qkv.shape[0] * qkv.shape[1],
            rows=qkv.shape[0],
            plane_row=qkv.shape[1] // 2,
            width=qkv.shape[1] - 2 * BORDER,
            row=row,
            column=column,
            out_row=out_row,
            out_column=out_column,
        )
    )
    share(_rows, a, qkv.shape[0] - 2 * BORDER, threads)
