"""The functions of numpy_ops.py on Numba kernels, rows shared out to threads; same arguments, same integers."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from . import numba_ops
from .layers import Conv, Norm, Sum
from .maps import interior
from .numba_attention import linear_attention, local_attention
from .numba_conv import Packed
from .numba_norms import gdn, igdn
from .numba_walk import half, levels_and_means, place, refine
from .numpy_ops import norm_gain
from .threads import share_rows

_packed: WeakKeyDictionary[Conv, Packed] = WeakKeyDictionary()

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


def layer_norm(x: np.ndarray, layer: Norm, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.6) As ``numpy_ops.layer_norm``."""
    source, target, channels = interior(x), interior(out), x.shape[2]
    share_rows(lambda y0, y1: numba_ops.norm_rows(source, layer.epsilon, norm_gain(channels), layer.limit, target, y0,
                                                  y1, np.empty(channels, np.int64)),
               source.shape[0], threads if source.size > SMALL >> 6 else 1)



__all__ = ["conv", "conv_sum", "gdn", "half", "igdn", "layer_norm", "levels_and_means", "linear_attention",
           "local_attention", "pack", "place", "refine"]
