"""The functions of arith/numpy_ops on Numba kernels, rows shared out to threads; same arguments, same integers."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ...model.layers import Conv, Sum
from .attention import linear_attention
from .conv import Packed
from .local_attention import local_attention
from .norms import gdn, igdn, layer_norm
from .walk import clear_border, half, levels_and_means, place, refine

_packed: WeakKeyDictionary[Conv, Packed] = WeakKeyDictionary()


def pack(layer: Conv) -> Packed:
    """The layer in the order its kernel reads, made on first use, when its weights as stored are released."""
    packed = _packed.get(layer)
    if packed is None:
        packed = _packed[layer] = Packed(layer)
        if not layer.depthwise:
            layer.release(packed.stored)
    return packed


def conv(x: np.ndarray, layer: Conv, out: np.ndarray, add: np.ndarray | None, parity: int, threads: int) -> None:
    """(SPEC 5.3) As ``numpy_ops.conv``."""
    packed = pack(layer)
    if layer.depthwise:
        packed.run_depthwise(x, out, threads)
    else:
        packed.run(x, out, add, parity, None, threads)


def conv_sum(x: np.ndarray, layer: Conv, out: np.ndarray, skip: np.ndarray, total: Sum, threads: int) -> None:
    """(SPEC 5.3, 5.4) As ``numpy_ops.conv_sum``, in one pass."""
    pack(layer).run(x, out, skip, -1, total, threads)


__all__ = [
    "clear_border",
    "conv",
    "conv_sum",
    "gdn",
    "half",
    "igdn",
    "layer_norm",
    "levels_and_means",
    "linear_attention",
    "local_attention",
    "pack",
    "place",
    "refine",
]
