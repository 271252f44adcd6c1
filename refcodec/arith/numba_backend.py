"""The functions of numpy_ops.py on Numba kernels, rows shared out to threads; same arguments, same integers."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from . import numba_ops
from .layers import Conv, Gdn, LinearAttention, LocalAttention, Norm, Sum
from .maps import interior
from .numba_conv import Packed
from .numba_walk import half, levels_and_means, place, refine
from .numpy_ops import RELATIVE, SUM_BLOCK, contexts, norm_gain, put_rows, rows_of
from .threads import share_rows

_packed: WeakKeyDictionary[Conv, Packed] = WeakKeyDictionary()

_UNSEEN = -(1 << 40)

SMALL = 1 << 19
"""Multiply-accumulates below which the hand-over to a second thread costs more than it saves."""


def pack(layer: Conv) -> Packed:
    """The layer in the order its kernel reads, made on first use."""
    packed = _packed.get(layer)
    if packed is None:
        packed = _packed[layer] = Packed(layer)
    return packed


def conv(x: np.ndarray, layer: Conv, out: np.ndarray, add: np.ndarray | None, parity: int, threads: int) -> None:
    """(SPEC 5.3) As ``numpy_ops.conv``."""
    packed = pack(layer)
    if layer.depthwise:
        packed.run_depthwise(x, out, threads)
    else:
        packed.run(x, out, add, parity, None, threads)


def conv_sum(x: np.ndarray, layer: Conv, out: np.ndarray, skip: np.ndarray, total: Sum, threads: int) -> None:
    """(SPEC 5.3, 5.4) The residual sum of skip and the convolution of x, in one pass."""
    pack(layer).run(x, out, skip, -1, total, threads)


def _norm_pool(x: np.ndarray, layer: Gdn, out: np.ndarray, inverse: int, threads: int) -> None:
    source, target, channels = interior(x), interior(out), x.shape[2]
    gamma, beta = np.ascontiguousarray(layer.gamma.T.astype(np.float64)), layer.beta.astype(np.float64)
    strides = [s // 2 for s in (*source.strides[:2], *target.strides[:2])]

    def rows(y0: int, y1: int) -> None:
        numba_ops.gdn_rows(source, gamma, beta, layer.shift, layer.limit, inverse, target, y0, y1, source.shape[1],
                           *strides, np.empty(channels), np.empty(channels))

    share_rows(rows, source.shape[0], threads if source.size * channels > SMALL else 1)


def gdn(x: np.ndarray, layer: Gdn, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.5) As ``numpy_ops.gdn``."""
    _norm_pool(x, layer, out, 0, threads)


def igdn(x: np.ndarray, layer: Gdn, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.5) As ``numpy_ops.igdn``."""
    _norm_pool(x, layer, out, 1, threads)


def layer_norm(x: np.ndarray, layer: Norm, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.6) As ``numpy_ops.layer_norm``."""
    source, target, channels = interior(x), interior(out), x.shape[2]
    share_rows(lambda y0, y1: numba_ops.norm_rows(source, layer.epsilon, norm_gain(channels), layer.limit, target, y0,
                                                  y1, np.empty(channels, np.int64)),
               source.shape[0], threads if source.size > SMALL >> 6 else 1)


def local_attention(qkv: np.ndarray, layer: LocalAttention, table: np.ndarray, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.8) As ``numpy_ops.local_attention``."""
    bias = np.full((2, layer.heads, 25, 32), _UNSEEN, np.int64)
    bias[:, :, :, :25] = layer.bias[RELATIVE].transpose(2, 0, 1)
    bias[1, :, :, 0:25:2] = _UNSEEN  # rows of anchors see anchors: odd places of the window
    target, d = interior(out), qkv.shape[2] // 3 // layer.heads

    def rows(y0: int, y1: int) -> None:
        numba_ops.local_attention_rows(qkv, layer.shift, bias, layer.limit, table, target, y0, y1, np.empty((25, d)),
                                       np.zeros((d, 32)), np.empty((25, d)), np.empty(32), np.empty(32), np.empty(d),
                                       *np.zeros((4, 32), np.int64))

    share_rows(rows, target.shape[0], threads)


def linear_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, layer: LinearAttention,
                     table: np.ndarray, out: np.ndarray, keys_at: int, queries_at: int, threads: int) -> None:
    """(SPEC 5.9) As ``numpy_ops.linear_attention``."""
    q, k, v = rows_of(queries, queries_at), rows_of(keys, keys_at), rows_of(values, keys_at)
    channels = k.shape[1]
    d = channels // layer.heads
    e = np.empty(k.shape)
    numba_ops.key_weights(k, layer.key_shift, table, np.empty(channels, np.int64), e)
    total = e.sum(axis=0).astype(np.int64).reshape(layer.heads, d, 1)
    sums = np.zeros((layer.heads, d, d), np.int64)
    block = np.empty((layer.heads, d, d))
    for at in range(0, k.shape[0], SUM_BLOCK):
        numba_ops.key_products(e[at:at + SUM_BLOCK], v[at:at + SUM_BLOCK], block)
        sums += block.astype(np.int64)
    context = contexts(sums, total, layer.context_shift).astype(np.float64)
    seen = np.empty(q.shape, np.int64)
    numba_ops.attend(q, layer.query_shift, table, context, layer.limit, seen, np.empty(d, np.int64), np.empty(d))
    put_rows(out, queries_at, seen)


__all__ = ["conv", "conv_sum", "gdn", "half", "igdn", "layer_norm", "levels_and_means", "linear_attention",
           "local_attention", "pack", "place", "refine"]
