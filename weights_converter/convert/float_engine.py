"""The codec's own networks in floating point: an engine for calibration and for the reference rate and distortion.

It runs the same functions of refcodec/nets and the same slice walk as the integer codec, so there is one description
of the network; only the operations differ. float32 like the PyTorch twin, against which tests hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from refcodec.arith.checkerboard import put, take, take_into
from refcodec.arith.engine import Y_MAX
from refcodec.arith.maps import BORDER, interior
from refcodec.arith.numpy_ops import RELATIVE
from refcodec.model.config import Config

from .folding import NORM_EPSILON, FloatLayer, gains
from .names import SCALE_MIN

Floats = NDArray[np.float32]

_BAND = 1 << 22
"""Values of the largest temporary array: 16 MiB, which memory allocators keep for the next layer."""


class FloatEngine:
    """Runs operations by name (``refcodec.arith.protocols.NetworkOps``) in float32 and real units.

    Maps are float32 [H + 4, W + 4, C]. Nothing is rounded or clamped but symbols.

    Parameters
    ----------
    config : Config
    layers : mapping of str to FloatLayer
    step : int
        Index of the quality, 0 for the first.
    trace : callable(name, array) or None
        Sees every result: interiors [H, W, C] of maps.
    """

    def __init__(
        self,
        config: Config,
        layers: Mapping[str, FloatLayer],
        step: int,
        trace: Callable[[str, np.ndarray], None] | None = None,
    ) -> None:
        self.layers, self.trace = layers, trace
        self._config, self._step = config, step

    def map(self, height: int, width: int, channels: int) -> Floats:
        """A map, all zero.

        Parameters
        ----------
        height, width, channels : int
            Of its interior.

        Returns
        -------
        np.ndarray [height + 4, width + 4, channels], float32
        """
        return np.zeros((height + 2 * BORDER, width + 2 * BORDER, channels), np.float32)

    def channels(self, name: str) -> int:
        """Channels of a convolution's result."""
        return self.layers[name].op.channels

    def show(self, name: str, values: np.ndarray) -> None:
        """Hand a named result [H, W, C] to the trace."""
        if self.trace:
            self.trace(name, values)

    def _done(self, name: str, out: np.ndarray) -> np.ndarray:
        self.show(name, interior(out))
        return out

    def _as_map(self, values: np.ndarray) -> np.ndarray:
        """[H, W, C] -> a map."""
        out = self.map(*values.shape)
        interior(out)[...] = values
        return out

    def conv(
        self,
        name: str,
        x: np.ndarray,
        *,
        add: np.ndarray | None = None,
        parity: int = -1,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """(SPEC 5.3) Convolution; arguments and result are those of `Engine.conv`, in float32."""
        layer = self.layers[name]
        if out is None:
            h, w = ((side - 2 * BORDER + layer.op.stride - 1) // layer.op.stride for side in x.shape[:2])
            if parity >= 0:
                w //= 2
            out = (
                self.map(2 * h, 2 * w, layer.op.channels // 4)
                if layer.op.shuffle
                else self.map(h, w, layer.op.channels)
            )
        if layer.op.depthwise:
            _depthwise(x, layer, interior(out))
        else:
            _conv(x, layer, interior(out), None if add is None else interior(add), parity)
        return self._done(name, out)

    def conv_sum(self, name: str, x: np.ndarray, total: str, skip: np.ndarray) -> np.ndarray:
        """(SPEC 5.3, 5.4) Convolution, then the residual sum; arguments and result are those of `Engine.conv_sum`, in
        float32.
        """
        return self._done(total, skip + self.conv(name, x))

    def conv_halves(
        self, name: str, x: np.ndarray, outs: Mapping[int, np.ndarray], add: np.ndarray | None = None
    ) -> None:
        """(SPEC 5.3, 6.3) Convolution into packed halves of the checkerboard by parity.

        Arguments are those of `Engine.conv_halves`, in float32.
        """
        whole = self.conv(name, x, add=add)
        for parity, out in outs.items():
            self.half(whole, parity, out)

    def gdn(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.5) x / sqrt(beta + gamma x^2)."""
        return self._done(name, self._as_map(interior(x) / _root(interior(x), self.layers[name])))

    def igdn(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.5) x * sqrt(beta + gamma x^2)."""
        return self._done(name, self._as_map(interior(x) * _root(interior(x), self.layers[name])))

    def gain(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.4) Multiplication by the gains of the quality."""
        log_gain = self.layers[name].log_gain
        assert log_gain is not None
        return self._done(name, x * gains(log_gain, self._config)[self._step].astype(np.float32))

    def rescale(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.4) A copy."""
        return self._done(name, x.copy())

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.6) Layer normalisation over channels, without its affine part."""
        centred = interior(x) - interior(x).mean(axis=2, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=2, keepdims=True) + NORM_EPSILON)
        return self._done(name, self._as_map(centred / deviation))

    def local_attention(self, name: str, qkv: np.ndarray) -> np.ndarray:
        """(SPEC 5.8) Windows of every non-anchor: [h, w / 2, 25 C] inside a map."""
        h, w = qkv.shape[0] - 2 * BORDER, qkv.shape[1] - 2 * BORDER
        out = self.map(h, w // 2, 25 * qkv.shape[2] // 3)
        _local_attention(qkv, self.layers[name], interior(out))
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

        Arguments and result are those of `Engine.linear_attention`, in float32.
        """
        heads = self.layers[name].op.heads

        def rows(x: np.ndarray, parity: int) -> np.ndarray:
            x = interior(x) if parity < 0 else take(interior(x), parity)
            return x.reshape(x.shape[0] * x.shape[1], heads, -1)

        k = _softmax(rows(keys, keys_at), 0)
        q = _softmax(rows(queries, queries_at), 2)
        context = np.einsum("nhd,nhc->hdc", k, rows(values, keys_at), optimize=True)
        seen = np.einsum("nhd,hdc->nhc", q, context, optimize=True)
        out = np.zeros_like(queries)
        if queries_at < 0:
            interior(out)[...] = seen.reshape(interior(out).shape)
        else:
            put(interior(out), queries_at, seen.reshape(out.shape[0] - 2 * BORDER, -1, out.shape[2]))
        return self._done(name, out)

    def half(self, x: np.ndarray, parity: int, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 6.3) One half of the checkerboard: a packed map of half the width.

        Parameters
        ----------
        x : np.ndarray [h + 4, w + 4, C], float32
        parity : int
            ANCHOR or NONANCHOR.
        out : np.ndarray [h + 4, w / 2 + 4, C], float32, or None
            Receives the result, if given.

        Returns
        -------
        np.ndarray [h + 4, w / 2 + 4, C], float32
        """
        if out is None:
            out = self.map(x.shape[0] - 2 * BORDER, x.shape[1] // 2 - BORDER, x.shape[2])
        take_into(interior(x), parity, interior(out))
        return out

    def masked(self, x: np.ndarray, parity: int) -> np.ndarray:
        """(SPEC 6.3) A copy that is zero outside one half of the checkerboard."""
        out = np.zeros_like(x)
        put(interior(out), parity, take(interior(x), parity))
        return out

    def levels_and_means(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(SPEC 6.8) Scales, bounded below, in place of their levels, and means, both [h, w / 2, C]."""
        scales, means = np.split(interior(parameters), 2, axis=2)
        return np.maximum(scales, np.float32(SCALE_MIN)), means

    def symbols(self, y: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) Nearest symbols, halves up, clamped to the format's bound."""
        nearest: Floats = np.clip(np.floor(y - mean + 0.5), -Y_MAX, Y_MAX)
        return nearest

    def reconstruct(self, symbols: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) Symbol + mean."""
        values: Floats = symbols + mean
        return values

    def place(
        self, name: str, symbols: np.ndarray, means: np.ndarray, parity: int, y_hat: np.ndarray, current: np.ndarray
    ) -> None:
        """(SPEC 6.9) Write symbols and means into one half of y_hat, and its context copy into current.

        Arguments are those of `Engine.place`, in float32.
        """
        self._write(name, self.reconstruct(symbols, means), parity, y_hat, current)

    def add_residual(
        self, name: str, residual: str, x: np.ndarray, parity: int, y_hat: np.ndarray, current: np.ndarray
    ) -> None:
        """(SPEC 6.9) Add 0.5 tanh of x, a packed result, to one half of y_hat; update current.

        Arguments are those of `Engine.add_residual`, in float32.
        """
        self._write(name, take(interior(y_hat), parity) + 0.5 * np.tanh(interior(x)), parity, y_hat, current)

    def _write(self, name: str, values: np.ndarray, parity: int, y_hat: np.ndarray, current: np.ndarray) -> None:
        put(interior(y_hat), parity, values)
        current[...] = y_hat
        self._done(name, current)


def _depthwise(x: np.ndarray, layer: FloatLayer, target: np.ndarray) -> None:
    """One filter per channel over a map x, into [H, W, C]."""
    matrix, bias = layer.matrix
    k, top = layer.op.kernel, BORDER - layer.op.kernel // 2
    sums = np.broadcast_to(bias, target.shape).copy()
    for tap, weights in enumerate(matrix):
        first, left = top + tap // k, top + tap % k
        sums += x[first : first + target.shape[0], left : left + target.shape[1]] * weights
    target[...] = _gelu(sums) if layer.op.gelu else sums


def _conv(x: np.ndarray, layer: FloatLayer, target: np.ndarray, add: np.ndarray | None, parity: int) -> None:
    """A convolution of a map x into [H, W, C], with ``add`` [H, W, C] joined before GELU, in bands of rows."""
    matrix, bias = layer.matrix
    k, top, stride = layer.op.kernel, BORDER - layer.op.kernel // 2, layer.op.stride
    factor = 2 if layer.op.shuffle else 1
    height, width = target.shape[0] // factor, target.shape[1] // factor
    c, co = matrix.shape[0] // (k * k), bias.size  # a picture's map has a fourth channel, which is not read
    band = max(2, _BAND // (width * (k * k * c + co)) & ~1)
    for y0 in range(0, height, band):
        rows = slice(y0, min(y0 + band, height))
        columns = _columns(x[top + y0 * stride :, top:, :c], rows.stop - y0, width, k, stride, parity)
        sums = (columns @ matrix).reshape(rows.stop - y0, width, co)
        sums += bias
        if layer.op.shuffle:
            sums = sums.reshape(-1, width, co // 4, 2, 2).transpose(0, 3, 1, 4, 2).reshape(-1, 2 * width, co // 4)
            rows = slice(2 * rows.start, 2 * rows.stop)
        if add is not None:
            sums += add[rows]
        target[rows] = _gelu(sums) if layer.op.gelu else sums


def _columns(x: np.ndarray, height: int, width: int, k: int, stride: int, parity: int) -> np.ndarray:
    """Windows [height * width, k * k * c] whose first begins at x[0, 0]; ``parity`` takes every other column."""
    columns = np.empty((height, width, k, k, x.shape[2]), np.float32)
    step = 2 if parity >= 0 else stride
    for ky in range(k):
        for kx in range(k):
            taps = x[ky : ky + stride * (height - 1) + 1 : stride]
            if parity < 0:
                columns[:, :, ky, kx] = taps[:, kx : kx + step * (width - 1) + 1 : step]
            else:
                for row in (0, 1):
                    first = kx + (row + parity & 1)
                    columns[row::2, :, ky, kx] = taps[row::2, first : first + step * (width - 1) + 1 : step]
    return columns.reshape(height * width, -1)


def _gelu(x: Floats) -> Floats:
    from scipy.special import ndtr  # other commands work without SciPy

    x *= ndtr(x)
    return x


def _root(x: Floats, layer: FloatLayer) -> Floats:
    assert layer.gamma is not None and layer.beta is not None
    root: Floats = np.sqrt((x * x) @ layer.gamma.T.astype(np.float32) + layer.beta.astype(np.float32))
    return root


def _softmax(x: Floats, axis: int) -> Floats:
    e: Floats = x - x.max(axis=axis, keepdims=True)
    np.exp2(e, out=e)
    e /= e.sum(axis=axis, keepdims=True)
    return e


def _local_attention(qkv: np.ndarray, layer: FloatLayer, target: np.ndarray) -> None:
    """As ``numpy_ops.local_attention``, in float: logits are in log2 units here as well."""
    h, w = qkv.shape[0] - 2 * BORDER, qkv.shape[1] - 2 * BORDER
    c, heads = qkv.shape[2] // 3, layer.op.heads
    assert layer.bias is not None
    bias = layer.bias[RELATIVE].astype(np.float32).transpose(2, 0, 1)
    positions = [(dy, dx) for dy in range(5) for dx in range(5)]
    odd = np.array([(dy + dx) % 2 == 1 for dy, dx in positions])
    inside = np.zeros((h + 2 * BORDER, w + 2 * BORDER), bool)
    interior(inside)[...] = True
    band = max(2, _BAND // (w // 2 * heads * 625) & ~1)
    for y0 in range(0, h, band):
        y1 = min(y0 + band, h)

        def windows(a: np.ndarray, y0: int = y0, y1: int = y1) -> np.ndarray:
            """[h + 4, w + 4, n] -> windows of the band's non-anchors [rows * w / 2, 25, n]."""
            taps = [take(a[y0 + dy : y1 + dy, dx : dx + w], 0) for dy, dx in positions]
            return np.stack(taps, axis=2).reshape(-1, 25, a.shape[2])

        q, k, v = (
            windows(qkv[:, :, n * c : (n + 1) * c]).reshape(-1, 25, heads, c // heads).transpose(0, 2, 1, 3)
            for n in range(3)
        )
        anchor = windows(inside[:, :, None])[:, :, 0] & odd
        logits = q @ k.transpose(0, 1, 3, 2) + bias
        logits += np.where(~anchor[:, :, None] | anchor[:, None, :], np.float32(0), np.float32(-1e9))[:, None]
        target[y0:y1] = (_softmax(logits, -1) @ v).transpose(0, 2, 1, 3).reshape(y1 - y0, w // 2, -1)
