"""The engine runs the named operations of a model's layer table (SPEC 5) on feature maps.

Networks (refcodec/nets) are plain functions that name operations; the engine looks the layer up, takes a map from
the pool, calls the backend, and shows the result to the trace. Another engine with the same methods runs the same
networks in floating point for calibration (weights_converter), so their structure exists once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..model.config import Y_FRAC
from ..model.layers import Conv, Layer
from ..model.tables import Tables
from ..threads import thread_count
from . import numpy_ops
from .backend import BACKENDS, default_backend
from .checkerboard import put, take
from .maps import BORDER, Map, Pool, WideMap, interior
from .numpy_ops import round_shift
from .protocols import FusedOps, Ops

Y_MAX = (1 << 15) - 1
"""Clamp of y, y_hat and means in Q6 (SPEC 5.1)."""


def _backend(name: str) -> tuple[Ops, FusedOps | None]:
    """A backend, and once more if it has the fused operations."""
    if name not in BACKENDS:
        raise UsageError("unknown backend", value=name, known=list(BACKENDS))
    if name == "numpy":
        return numpy_ops, None
    from .jit import backend as numba_backend

    return numba_backend, numba_backend


class Engine:
    """Runs operations by name in exact integers.

    Parameters
    ----------
    layers : mapping of str to Layer
    tables : Tables
        The universal tables (SPEC annex A).
    step : int
        Index of the quality, 0 for the first.
    threads : int or None
    backend : "numba", "numpy" or None
    trace : callable(name, array) or None
        Sees every result: interiors [H, W, C] of maps.
    pool : Pool or None for a separate one
        Memory for maps.

    Raises
    ------
    UsageError
        The backend or the number of threads.
    """

    def __init__(
        self,
        layers: Mapping[str, Any],
        tables: Tables,
        step: int,
        threads: int | None = None,
        backend: str | None = None,
        trace: Callable[[str, np.ndarray], None] | None = None,
        pool: Pool | None = None,
    ) -> None:
        self.layers: Mapping[str, Layer] = layers
        self.tables, self.step, self.trace = tables, step, trace
        self.backend = backend or default_backend()
        self.threads = thread_count(threads)
        self._ops, self._fused = _backend(self.backend)
        self._pool = pool or Pool()

    def alone(self) -> Engine:
        """The same engine on one thread, with its own memory and without a trace."""
        return Engine(self.layers, self.tables, self.step, 1, self.backend)

    def map(self, height: int, width: int, channels: int) -> Map:
        """A map whose border is zero and whose interior is not set.

        Parameters
        ----------
        height, width, channels : int
            Of its interior.

        Returns
        -------
        map [height + 4, width + 4, channels], int16
        """
        return self._pool.map(height, width, channels, self._ops.clear_border)

    def wide_map(self, height: int, width: int, channels: int) -> WideMap:
        """A map of int32, which a wide layer needs, all zero.

        Parameters
        ----------
        height, width, channels : int
            Of its interior.

        Returns
        -------
        np.ndarray [height + 4, width + 4, channels], int32
        """
        return np.zeros((height + 2 * BORDER, width + 2 * BORDER, channels), np.int32)

    def channels(self, name: str) -> int:
        """Channels of a convolution's result."""
        layer: Any = self.layers[name]
        return int(layer.shape[0])

    def show(self, name: str, values: np.ndarray) -> None:
        """Hand a named result [H, W, C] to the trace."""
        if self.trace:
            self.trace(name, values)

    def _done(self, name: str, out: np.ndarray) -> np.ndarray:
        self.show(name, interior(out))
        return out

    def _like(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return self.map(x.shape[0] - 2 * BORDER, x.shape[1] - 2 * BORDER, x.shape[2]) if out is None else out

    def conv(
        self,
        name: str,
        x: np.ndarray,
        *,
        add: np.ndarray | None = None,
        parity: int = -1,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """(SPEC 5.3) Convolution.

        Parameters
        ----------
        name : str
            The layer.
        x : map [H + 4, W + 4, Ci], int16
        add : map of the result's shape or None
            Branch that joins the accumulator.
        parity : int
            ANCHOR or NONANCHOR computes this half of the checkerboard only, packed along columns; -1 computes all
            positions.
        out : map or None
            Receives the result, if given.

        Returns
        -------
        map [Ho + 4, Wo + 4, Co], int16
            int32 for a wide layer. Ho and Wo follow from the layer's stride or shuffle; Wo is halved by ``parity``.
        """
        layer: Any = self.layers[name]
        h, w, co = x.shape[0] - 2 * BORDER, x.shape[1] - 2 * BORDER, layer.shape[0]
        if layer.shuffle:
            h, w, co = 2 * h, 2 * w, co // 4
        elif layer.stride == 2:
            h, w = (h + 1) // 2, (w + 1) // 2
        if parity >= 0:
            w //= 2
        if out is None:
            out = self.map(h, w, co) if layer.limit else self.wide_map(h, w, co)
        self._ops.conv(x, layer, out, add, parity, self.threads)
        return self._done(name, out)

    def conv_sum(
        self, name: str, x: np.ndarray, total: str, skip: np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        """(SPEC 5.3, 5.4) Convolution, then a residual sum: one pass over memory where nobody traces the result
        between.

        Parameters
        ----------
        name, total : str
            The layers of the convolution and of the sum.
        x : map [H + 4, W + 4, Ci], int16
        skip : map [H + 4, W + 4, C], int16
            The other term of the sum.
        out : map or None
            Receives the result, if given.

        Returns
        -------
        map [H + 4, W + 4, C], int16
        """
        if self.trace:
            return self.sum(total, skip, self.conv(name, x), out)
        out = self._like(skip, out)
        layer: Any = self.layers[name]
        added: Any = self.layers[total]
        self._ops.conv_sum(x, layer, out, skip, added, self.threads)
        return out

    def gdn(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.5) x / sqrt(beta + gamma x^2).

        Parameters
        ----------
        name : str
            The layer.
        x : map [H + 4, W + 4, C], int16
        out : map or None
            Receives the result, if given.

        Returns
        -------
        map [H + 4, W + 4, C], int16
        """
        out = self._like(x, out)
        layer: Any = self.layers[name]
        self._ops.gdn(x, layer, out, self.threads)
        return self._done(name, out)

    def igdn(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.5) x * sqrt(beta + gamma x^2).

        Parameters
        ----------
        name : str
            The layer.
        x : map [H + 4, W + 4, C], int16
        out : map or None
            Receives the result, if given.

        Returns
        -------
        map [H + 4, W + 4, C], int16
        """
        out = self._like(x, out)
        layer: Any = self.layers[name]
        self._ops.igdn(x, layer, out, self.threads)
        return self._done(name, out)

    def sum(self, name: str, a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.4) Residual sum of two maps of different formats.

        Parameters
        ----------
        name : str
            The layer.
        a, b : map [H + 4, W + 4, C], int16
        out : map or None
            Receives the result, if given.

        Returns
        -------
        map [H + 4, W + 4, C], int16
        """
        layer: Any = self.layers[name]
        out = self._like(a, out)
        total = np.left_shift(interior(a), layer.shift_a, dtype=np.int32)
        total += np.left_shift(interior(b), layer.shift_b, dtype=np.int32)
        if layer.shift:
            total += 1 << (layer.shift - 1)
            total >>= layer.shift
        np.clip(total, -layer.limit, layer.limit, out=total)
        interior(out)[...] = total
        return self._done(name, out)

    def gain(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.4) Multiplication by the gains of the quality.

        Parameters
        ----------
        name : str
            The layer.
        x : map [H + 4, W + 4, C], int16
        out : map or None
            Receives the result, if given.

        Returns
        -------
        map [H + 4, W + 4, C], int16
        """
        layer: Any = self.layers[name]
        out = self._like(x, out)
        shift = layer.shift[self.step]
        product = np.multiply(interior(x), layer.multiplier[self.step], dtype=np.int32)  # below 2^15 * 2^15
        product += 1 << (shift - 1)
        product >>= shift
        np.clip(product, -layer.limit, layer.limit, out=product)
        interior(out)[...] = product
        return self._done(name, out)

    def rescale(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.4) A narrower copy of a map.

        Parameters
        ----------
        name : str
            The layer.
        x : map [H + 4, W + 4, C], int16
        out : map or None
            Receives the result, if given.

        Returns
        -------
        map [H + 4, W + 4, C], int16
        """
        layer: Any = self.layers[name]
        out = self._like(x, out)
        values = interior(x).astype(np.int32)
        values += (1 << layer.shift) >> 1
        values >>= layer.shift
        interior(out)[...] = np.clip(values, -layer.limit, layer.limit)
        return self._done(name, out)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.6) Layer normalisation over channels, without its affine part."""
        out = self._like(x)
        layer: Any = self.layers[name]
        self._ops.layer_norm(x, layer, out, self.threads)
        return self._done(name, out)

    def local_attention(self, name: str, qkv: np.ndarray) -> np.ndarray:
        """(SPEC 5.8) Windows of every non-anchor: [h, w / 2, 25 C] inside a map."""
        h, w, c3 = qkv.shape[0] - 2 * BORDER, qkv.shape[1] - 2 * BORDER, qkv.shape[2]
        out = self.map(h, w // 2, 25 * c3 // 3)
        layer: Any = self.layers[name]
        self._ops.local_attention(qkv, layer, self.tables.exp2, out, self.threads)
        return self._done(name, out)

    def linear_attention(
        self,
        name: str,
        queries: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        keys_at: int = -1,
        queries_at: int = -1,
    ) -> np.ndarray:
        """(SPEC 5.9) Softmax of keys over positions, of queries over a head's channels.

        Parameters
        ----------
        name : str
            The layer.
        queries, keys, values : map [H + 4, W + 4, C], int16
        keys_at : int
            ANCHOR or NONANCHOR limits keys and values to this half of the checkerboard; -1 takes all.
        queries_at : int
            The same for the results, which are zero elsewhere.

        Returns
        -------
        map [H + 4, W + 4, C], int16
        """
        out = self._like(queries)
        layer: Any = self.layers[name]
        self._ops.linear_attention(
            queries, keys, values, layer, self.tables.exp2, out, keys_at, queries_at, self.threads
        )
        return self._done(name, out)

    def half(self, x: np.ndarray, parity: int, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 6.3) One half of the checkerboard of a map: a packed map of half the width.

        Parameters
        ----------
        x : map [H + 4, W + 4, C], int16
        parity : int
            ANCHOR or NONANCHOR.
        out : map or None
            Receives the result, if given.

        Returns
        -------
        map [H + 4, W / 2 + 4, C], int16
        """
        if out is None:
            out = self.map(x.shape[0] - 2 * BORDER, x.shape[1] // 2 - BORDER, x.shape[2])
        self._ops.half(x, parity, out)
        return out

    def conv_halves(
        self, name: str, x: np.ndarray, outs: Mapping[int, np.ndarray], add: np.ndarray | None = None
    ) -> None:
        """(SPEC 5.3, 6.3) Convolution of which only halves of the checkerboard are read.

        A trace sees the whole result, and a 3x3 layer of which both are read is computed as a whole: by tiles.

        Parameters
        ----------
        name : str
            The layer.
        x : map [H + 4, W + 4, Ci], int16
        outs : mapping of int to map [H + 4, W / 2 + 4, Co], int16
            Receive the packed halves, by parity.
        add : map [H + 4, W + 4, Co] or None
            Branch that joins the accumulator.
        """
        layer = self.layers[name]
        whole_is_quicker = len(outs) == 2 and isinstance(layer, Conv) and layer.kernel == 3
        if self.trace or whole_is_quicker:
            whole = self.conv(name, x, add=add)
            for parity, out in outs.items():
                self.half(whole, parity, out)
            return
        for parity, out in outs.items():
            self.conv(name, x, add=None if add is None else self.half(add, parity), parity=parity, out=out)

    def masked(self, x: np.ndarray, parity: int) -> np.ndarray:
        """(SPEC 6.3) A copy of a map that is zero outside one half of the checkerboard."""
        out = self._like(x)
        interior(out)[...] = 0
        put(interior(out), parity, take(interior(x), parity))
        return out

    def half_tanh(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.3) 0.5 tanh of the layer's packed result, Q6 [h, w / 2, C], a plain array."""
        table = self.tables.half_tanh[self.layers[name].frac]
        v = interior(x).astype(np.int64)
        residual: np.ndarray = np.sign(v) * table[np.minimum(np.abs(v), table.size - 1)]
        return residual

    def scale_index(self, scales: np.ndarray) -> np.ndarray:
        """(SPEC 6.8) Level of each scale (int32, Q10): the number of thresholds not above it."""
        return np.searchsorted(self.tables.thresholds, scales, side="right").astype(np.int32)

    @staticmethod
    def split(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(SPEC 6.8) Entropy parameters -> scales Q10 and means Q6, both [h, w / 2, C]."""
        inner = interior(parameters)
        half = inner.shape[2] // 2
        return inner[:, :, :half], np.clip(inner[:, :, half:], -Y_MAX, Y_MAX)

    def levels_and_means(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(SPEC 6.8) Entropy parameters -> levels of the scales and means in Q6, int32 [h, w / 2, C]."""
        if self._fused:
            return self._fused.levels_and_means(parameters, self.tables, Y_MAX)
        scales, means = self.split(parameters)
        return self.scale_index(scales), means

    def place(
        self, name: str, symbols: np.ndarray, means: np.ndarray, parity: int, y_hat: np.ndarray, current: np.ndarray
    ) -> None:
        """(SPEC 6.9) Write symbols and means into one half of y_hat, and its context copy into current.

        Parameters
        ----------
        name : str
            The layer of the context copy.
        symbols, means : np.ndarray [h, w / 2, C], int32
            Means in Q6.
        parity : int
            ANCHOR or NONANCHOR.
        y_hat : map [h + 4, w + 4, C], int16, Q6
            Changed in place.
        current : map [h + 4, w + 4, C], int16
            Receives the narrower copy of all of y_hat.
        """
        if self._fused and not self.trace:
            layer: Any = self.layers[name]
            self._fused.place(symbols, means, parity, Y_FRAC, Y_MAX, y_hat, layer, current)
            return
        put(interior(y_hat), parity, self.reconstruct(symbols, means))
        self.rescale(name, y_hat, out=current)

    def add_residual(
        self, name: str, residual: str, x: np.ndarray, parity: int, y_hat: np.ndarray, current: np.ndarray
    ) -> None:
        """(SPEC 6.9) Add 0.5 tanh of a packed result to one half of y_hat, and write its context copy into current
        again.

        Parameters
        ----------
        name : str
            The layer of the context copy.
        residual : str
            The layer whose result ``x`` is.
        x : map [h + 4, w / 2 + 4, C], int16
        parity : int
            ANCHOR or NONANCHOR.
        y_hat : map [h + 4, w + 4, C], int16, Q6
            Changed in place.
        current : map [h + 4, w + 4, C], int16
            Receives the narrower copy of all of y_hat.
        """
        if self._fused and not self.trace:
            last: Any = self.layers[residual]
            copied: Any = self.layers[name]
            self._fused.refine(x, self.tables.half_tanh[last.frac], parity, Y_MAX, y_hat, copied, current)
            return
        put(interior(y_hat), parity, self.refine(take(interior(y_hat), parity), self.half_tanh(residual, x)))
        self.rescale(name, y_hat, out=current)

    @staticmethod
    def symbols(y: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) The encoder's choice: the nearest symbol, int32, clamped to the format's bound."""
        difference = y.astype(np.int64) - mean
        return np.clip(round_shift(difference, Y_FRAC), -Y_MAX, Y_MAX).astype(np.int32)

    @staticmethod
    def reconstruct(symbols: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) clamp(symbol * 64 + mean), int64 in Q6."""
        values: NDArray[np.int64] = np.clip((symbols.astype(np.int64) << Y_FRAC) + mean, -Y_MAX, Y_MAX)
        return values

    @staticmethod
    def refine(y: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) clamp(y + residual), int64 in Q6."""
        values: NDArray[np.int64] = np.clip(y.astype(np.int64) + residual, -Y_MAX, Y_MAX)
        return values
