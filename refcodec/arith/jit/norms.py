"""GDN and IGDN as a matrix product in registers, and layer normalisation (SPEC 5.5, 5.6), in Numba.

n = beta + gamma x^2 is a product of integers whose sums the loader has proved to stay below 2^52: float64 is exact in
any order, fused or not. A block of pixels x 32 outputs of sums stays in registers, as in the convolution. What follows
is exact in float64 too: the floor of the root of an integer below 2^52 (numpy_ops), products below 2^15 * 2^26, and
the floor of a quotient. That last: a / r with |a| < 2^53 is rounded to the nearest double; a quotient that is no
integer is at least 1 / r from the next one, and the rounding moves it by at most |a / r| 2^-53 < 1 / r.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ...model.layers import Gdn, Norm
from .. import numpy_ops
from ..maps import BORDER
from .conv import SMALL
from .kernels import words as W
from .native.loader import Kernel
from .team import address, share

OUTPUTS = 32

GDN_PIXELS = 6
"""6 x 4 vectors of 8 sums fill 32 registers of AVX-512, 6 x 1 of them the 16 of AVX2."""

MAX_CHANNELS = 512
"""More than the stack holds scratch for: NumPy takes them. No configuration in use has more than 320."""

_gdn_rows, _layer_norm_rows = Kernel("norms.gdn_rows"), Kernel("norms.layer_norm_rows")


class PackedGdn:
    """A layer's matrix in blocks of 32 outputs, [block][input][32] float64, and its arguments."""

    def __init__(self, layer: Gdn, inverse: bool) -> None:
        channels = len(layer.beta)
        padded = channels + -channels % OUTPUTS
        gamma = np.zeros((padded, channels))
        gamma[:channels] = layer.gamma
        self.gamma = np.ascontiguousarray(gamma.reshape(-1, OUTPUTS, channels).transpose(0, 2, 1))
        self.beta = np.ones(padded)
        self.beta[:channels] = layer.beta
        self._words = np.zeros(W.G_WORDS, np.int64)
        self._words[W.G_GAMMA : W.G_WIDTH] = (
            address(self.gamma),
            address(self.beta),
            channels,
            layer.shift,
            layer.limit,
            inverse,
        )

    def run(self, x: np.ndarray, out: np.ndarray, threads: int) -> None:
        """Compute the whole of out."""
        a = self._words.copy()
        x_row, x_column, out_row, out_column = (s // 2 for s in (*x.strides[:2], *out.strides[:2]))
        a[W.G_X], a[W.G_OUT] = (address(m) + BORDER * (m.strides[0] + m.strides[1]) for m in (x, out))
        rows, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER
        a[W.G_WIDTH :] = width, x_row, x_column, out_row, out_column
        share(_gdn_rows, a, rows, threads if 4 * rows * width * self.gamma.size > SMALL else 1)


_packed: WeakKeyDictionary[Gdn, PackedGdn] = WeakKeyDictionary()


def _run(x: np.ndarray, layer: Gdn, out: np.ndarray, inverse: bool, threads: int) -> None:
    packed = _packed.get(layer)
    if packed is None:
        packed = _packed[layer] = PackedGdn(layer, inverse)
    packed.run(x, out, threads)


def gdn(x: np.ndarray, layer: Gdn, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.5) As ``numpy_ops.gdn``."""
    if x.shape[2] > MAX_CHANNELS:
        numpy_ops.gdn(x, layer, out)
    else:
        _run(x, layer, out, False, threads)


def igdn(x: np.ndarray, layer: Gdn, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.5) As ``numpy_ops.igdn``."""
    if x.shape[2] > MAX_CHANNELS:
        numpy_ops.igdn(x, layer, out)
    else:
        _run(x, layer, out, True, threads)


def layer_norm(x: np.ndarray, layer: Norm, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.6) As ``numpy_ops.layer_norm``."""
    channels = x.shape[2]
    if channels > MAX_CHANNELS:
        numpy_ops.layer_norm(x, layer, out)
        return
    rows, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER
    a = np.zeros(W.N_WORDS, np.int64)
    a[:] = (
        *(address(m) + BORDER * (m.strides[0] + m.strides[1]) for m in (x, out)),
        layer.epsilon,
        numpy_ops.norm_gain(channels),
        layer.limit,
        channels,
        width,
        *(s // 2 for s in (*x.strides[:2], *out.strides[:2])),
    )
    share(_layer_norm_rows, a, rows, threads if rows * width * channels > SMALL else 1)
