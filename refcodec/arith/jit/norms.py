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
from ..maps import BORDER, interior
from .addresses import place_of
from .conv import SMALL
from .kernels.constants import GDN_OUTPUTS, MAX_CHANNELS
from .kernels.words import GDN, GdnWords, LayerNormWords, filled
from .native.loader import Kernel
from .team import address, share

_gdn_rows, _layer_norm_rows = Kernel("norms.gdn_rows"), Kernel("norms.layer_norm_rows")


class PackedGdn:
    """A layer's matrix in blocks of 32 outputs, [block][input][32] float64, and its arguments."""

    def __init__(self, layer: Gdn) -> None:
        channels = len(layer.beta)
        padded = channels + -channels % GDN_OUTPUTS
        gamma = np.zeros((padded, channels))
        gamma[:channels] = layer.gamma
        self.gamma = np.ascontiguousarray(gamma.reshape(-1, GDN_OUTPUTS, channels).transpose(0, 2, 1))
        self.beta = np.ones(padded)
        self.beta[:channels] = layer.beta
        self._words = filled(
            GdnWords(
                gamma=address(self.gamma),
                beta=address(self.beta),
                channels=channels,
                shift=layer.shift,
                limit=layer.limit,
            )
        )

    def run(self, x: np.ndarray, out: np.ndarray, inverse: bool, threads: int) -> None:
        """Compute the whole of out.

        Parameters
        ----------
        x, out : map [H + 4, W + 4, C], int16
        inverse : bool
            IGDN instead of GDN.
        threads : int
        """
        a = self._words.copy()
        rows, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER
        a[GDN.x], a[GDN.x_row], a[GDN.x_column] = place_of(interior(x))
        a[GDN.out], a[GDN.out_row], a[GDN.out_column] = place_of(interior(out))
        a[GDN.width], a[GDN.inverse] = width, inverse
        share(_gdn_rows, a, rows, threads if 4 * rows * width * self.gamma.size > SMALL else 1)


_packed: WeakKeyDictionary[Gdn, PackedGdn] = WeakKeyDictionary()


def _run(x: np.ndarray, layer: Gdn, out: np.ndarray, inverse: bool, threads: int) -> None:
    packed = _packed.get(layer)
    if packed is None:
        packed = _packed[layer] = PackedGdn(layer)
    packed.run(x, out, inverse, threads)


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
    start, x_row, x_column = place_of(interior(x))
    target, out_row, out_column = place_of(interior(out))
    a = filled(
        LayerNormWords(
            x=start,
            out=target,
            epsilon=layer.epsilon,
            gain=numpy_ops.norm_gain(channels),
            limit=layer.limit,
            channels=channels,
            width=width,
            x_row=x_row,
            x_column=x_column,
            out_row=out_row,
            out_column=out_column,
        )
    )
    share(_layer_norm_rows, a, rows, threads if rows * width * channels > SMALL else 1)
