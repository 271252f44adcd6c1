"""The codec's own networks in floating point: an engine for calibration and for the reference rate and distortion.

It runs the same functions of refcodec/nets and the same slice walk as the integer codec, so there is one description
of the network; only the operations differ. float32 like the PyTorch twin, against which tests hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, ndtr

from refcodec.arith.checkerboard import put, take
from refcodec.arith.engine import Y_MAX, Engine
from refcodec.arith.maps import BORDER, interior
from refcodec.arith.numpy_ops import RELATIVE, half
from refcodec.model.config import SCALE_FRAC, Config
from refcodec.model.symbol_tables import intervals
from refcodec.model.tables import load_tables

from .published import LIKELIHOOD_MIN, NORM_EPSILON, SCALE_MIN, FloatLayer, gains

Floats = NDArray[np.float32]

_BAND = 1 << 22
"""Values of the largest temporary array: 16 MiB, which memory allocators keep for the next layer."""


def _conv(x: np.ndarray, layer: FloatLayer, out: np.ndarray, add: np.ndarray | None, parity: int, threads: int) -> None:
    target = interior(out)
    k, top = layer.kernel, BORDER - layer.kernel // 2
    matrix, bias = layer.matrix
    factor = 2 if layer.shuffle else 1
    height, width = target.shape[0] // factor, target.shape[1] // factor
    if layer.depthwise:
        sums = np.broadcast_to(bias, target.shape).copy()
        for tap, weights in enumerate(matrix):
            first, left = top + tap // k, top + tap % k
            sums += x[first : first + height, left : left + width] * weights
        target[...] = _gelu(sums) if layer.op.gelu else sums
        return
    c, co = matrix.shape[0] // (k * k), bias.size  # a picture's map has a fourth channel, which is not read
    band = max(2, _BAND // (width * (k * k * c + co)) & ~1)
    for y0 in range(0, height, band):
        rows = slice(y0, min(y0 + band, height))
        columns = _columns(x[top + y0 * layer.stride :, top:, :c], rows.stop - y0, width, k, layer.stride, parity)
        sums = (columns @ matrix).reshape(rows.stop - y0, width, co)
        sums += bias
        if layer.shuffle:
            sums = sums.reshape(-1, width, co // 4, 2, 2).transpose(0, 3, 1, 4, 2).reshape(-1, 2 * width, co // 4)
            rows = slice(2 * rows.start, 2 * rows.stop)
        if add is not None:
            sums += interior(add)[rows]
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


def _local_attention(qkv: np.ndarray, layer: FloatLayer, table: Any, out: np.ndarray, threads: int) -> None:
    """As ``numpy_ops.local_attention``, in float: logits are in log2 units here as well."""
    h, w = qkv.shape[0] - 2 * BORDER, qkv.shape[1] - 2 * BORDER
    c = qkv.shape[2] // 3
    d = c // layer.heads
    assert layer.bias is not None
    bias = layer.bias[RELATIVE].astype(np.float32).transpose(2, 0, 1)
    positions = [(dy, dx) for dy in range(5) for dx in range(5)]
    odd = np.array([(dy + dx) % 2 == 1 for dy, dx in positions])
    inside = np.zeros((h + 2 * BORDER, w + 2 * BORDER), bool)
    interior(inside)[...] = True
    band = max(2, _BAND // (w // 2 * layer.heads * 625) & ~1)
    for y0 in range(0, h, band):
        y1 = min(y0 + band, h)

        def windows(a: np.ndarray, y0: int = y0, y1: int = y1) -> np.ndarray:
            """[h + 4, w + 4, n] -> windows of the band's non-anchors [rows * w / 2, 25, n]."""
            taps = [take(a[y0 + dy : y1 + dy, dx : dx + w], 0) for dy, dx in positions]
            return np.stack(taps, axis=2).reshape(-1, 25, a.shape[2])

        q, k, v = (
            windows(qkv[:, :, n * c : (n + 1) * c]).reshape(-1, 25, layer.heads, d).transpose(0, 2, 1, 3)
            for n in range(3)
        )
        anchor = windows(inside[:, :, None])[:, :, 0] & odd
        logits = q @ k.transpose(0, 1, 3, 2) + bias
        logits += np.where(~anchor[:, :, None] | anchor[:, None, :], np.float32(0), np.float32(-1e9))[:, None]
        interior(out)[y0:y1] = (_softmax(logits, -1) @ v).transpose(0, 2, 1, 3).reshape(y1 - y0, w // 2, -1)


def _norm(x: np.ndarray, layer: FloatLayer, out: np.ndarray, threads: int) -> None:
    source = interior(x)
    centred = source - source.mean(axis=2, keepdims=True)
    interior(out)[...] = centred / np.sqrt((centred * centred).mean(axis=2, keepdims=True) + NORM_EPSILON)


def _gdn(x: np.ndarray, layer: FloatLayer, out: np.ndarray, threads: int) -> None:
    interior(out)[...] = interior(x) / _root(interior(x), layer)


def _igdn(x: np.ndarray, layer: FloatLayer, out: np.ndarray, threads: int) -> None:
    interior(out)[...] = interior(x) * _root(interior(x), layer)


_OPS = SimpleNamespace(half=half, conv=_conv, gdn=_gdn, igdn=_igdn, layer_norm=_norm, local_attention=_local_attention)


class FloatEngine(Engine):
    """An engine whose maps are float32 in real units and whose layers are ``FloatLayer``.

    Parameters
    ----------
    layers : mapping of str to FloatLayer
    step : int
        Index of the quality step.
    """

    def __init__(
        self,
        config: Config,
        layers: Mapping[str, FloatLayer],
        step: int,
        trace: Callable[[str, np.ndarray], None] | None = None,
    ) -> None:
        super().__init__(layers, _NO_TABLES, step, 1, "numpy", trace)
        self._ops, self._fused = _OPS, None
        self._config = config

    def map(self, height: int, width: int, channels: int) -> np.ndarray:
        """A float32 map, all zero."""
        return np.zeros((height + 2 * BORDER, width + 2 * BORDER, channels), np.float32)

    def conv_sum(
        self, name: str, x: np.ndarray, total: str, skip: np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Convolution, then the residual sum."""
        return self.sum(total, skip, self.conv(name, x), out)

    def sum(self, name: str, a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Residual sum."""
        out = np.add(a, b, out=out)
        self.show(name, interior(out))
        return out

    def gain(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Multiplication by the gains of the quality step."""
        layer: Any = self.layers[name]
        out = np.multiply(x, gains(layer.log_gain, self._config)[self.step].astype(np.float32), out=out)
        self.show(name, interior(out))
        return out

    def rescale(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """A copy."""
        out = self._like(x, out)
        out[...] = x
        self.show(name, interior(out))
        return out

    def linear_attention(
        self,
        name: str,
        queries: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        keys_at: int = -1,
        queries_at: int = -1,
    ) -> np.ndarray:
        """As in integers."""
        layer: Any = self.layers[name]

        def rows(x: np.ndarray, parity: int) -> np.ndarray:
            x = interior(x) if parity < 0 else take(interior(x), parity)
            return x.reshape(x.shape[0] * x.shape[1], layer.heads, -1)

        k = _softmax(rows(keys, keys_at), 0)
        q = _softmax(rows(queries, queries_at), 2)
        context = np.einsum("nhd,nhc->hdc", k, rows(values, keys_at), optimize=True)
        seen = np.einsum("nhd,hdc->nhc", q, context, optimize=True)
        out = self._like(queries)
        if queries_at < 0:
            interior(out)[...] = seen.reshape(interior(out).shape)
        else:
            put(interior(out), queries_at, seen.reshape(out.shape[0] - 2 * BORDER, -1, out.shape[2]))
        self.show(name, interior(out))
        return out

    def half_tanh(self, name: str, x: np.ndarray) -> np.ndarray:
        """0.5 tanh."""
        residual: Floats = 0.5 * np.tanh(interior(x))
        return residual

    def scale_index(self, scales: np.ndarray) -> np.ndarray:
        """Scales themselves, bounded below."""
        bounded: Floats = np.maximum(scales, np.float32(SCALE_MIN))
        return bounded

    @staticmethod
    def split(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scales and means."""
        inner = interior(parameters)
        half = inner.shape[2] // 2
        return inner[:, :, :half], inner[:, :, half:]

    @staticmethod
    def symbols(y: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Nearest symbols, halves up, clamped to the format's bound."""
        nearest: Floats = np.clip(np.floor(y - mean + 0.5), -Y_MAX, Y_MAX)
        return nearest

    @staticmethod
    def reconstruct(symbols: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Symbol + mean."""
        values: Floats = symbols + mean
        return values

    @staticmethod
    def refine(y: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Y + residual."""
        values: Floats = y + residual
        return values


_NO_TABLES: Any = SimpleNamespace(exp2=None)


class Bottleneck:
    """The factorized prior of z in float64: per channel a monotone network gives the logit of its distribution.

    Parameters
    ----------
    state : mapping of str to np.ndarray
        Published tensors ``entropy_bottleneck._matrix0`` and so on, and ``quantiles``.
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        part = {
            k.split(".", 1)[1]: v.astype(np.float64) for k, v in state.items() if k.startswith("entropy_bottleneck.")
        }
        self._layers = [
            (np.logaddexp(part[f"_matrix{n}"], 0), part[f"_bias{n}"], part.get(f"_factor{n}")) for n in range(5)
        ]
        self.medians = part["quantiles"][:, 0, 1]

    def cumulative(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[C, n] -> the distribution function and its complement, both without cancellation."""
        v = x[:, None, :]
        for matrix, bias, factor in self._layers:
            v = matrix @ v + bias
            if factor is not None:
                v = v + np.tanh(factor) * np.tanh(v)
        t = v[:, 0, :]
        return _sigmoid(t), _sigmoid(-t)

    def probabilities(self, symbols: np.ndarray) -> np.ndarray:
        """[C, n] integer symbols -> probability of the unit bin around symbol + median."""
        centre = symbols + self.medians[:, None]
        low, low_rest = self.cumulative(centre - 0.5)
        high, high_rest = self.cumulative(centre + 0.5)
        p: NDArray[np.float64] = np.where(low + high < 1, high - low, low_rest - high_rest)
        return p


def _sigmoid(t: NDArray[np.float64]) -> NDArray[np.float64]:
    p: NDArray[np.float64] = np.where(t < 0, np.exp(np.minimum(t, 0)), 1) / (1 + np.exp(-np.abs(t)))
    return p


def gaussian_likelihood(symbols: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Probability of the unit bin around a symbol, by the formula of the published class (``_likelihood``).

    The complementary error function keeps all digits in the tail, so no symbol is treated apart.

    Parameters
    ----------
    symbols : np.ndarray
        Distances from the mean, any shape.
    scales : np.ndarray
        Standard deviations, bounded below by ``SCALE_MIN``, same shape.

    Returns
    -------
    np.ndarray
        float64, at least ``LIKELIHOOD_MIN``.
    """
    a = np.abs(symbols).astype(np.float64)
    width = scales.astype(np.float64) * np.sqrt(2)
    p: NDArray[np.float64] = np.maximum(0.5 * (erfc((a - 0.5) / width) - erfc((a + 0.5) / width)), LIKELIHOOD_MIN)
    return p


def code_length(likelihoods: np.ndarray) -> float:
    """Sum of -log2 over likelihoods of any shape, in bits."""
    return -float(np.log2(likelihoods).sum())


class EstimatingPort:
    """A port that chooses symbols like an encoder and adds up their ideal code lengths in bits.

    ``bits_y`` and ``bits_z`` are the published estimate: float scales, and likelihoods of at least ``LIKELIHOOD_MIN``,
    so that no symbol costs more than 30 bits. ``bits_y_tables`` is the cost in the coder's tables: the Gaussian table
    of the nearest level, and escapes. The difference between the two is due to the coder, not to integer arithmetic.
    """

    def __init__(self, engine: FloatEngine, bottleneck: Bottleneck, y: np.ndarray, z: np.ndarray) -> None:
        self._engine, self._bottleneck, self._y, self._z = engine, bottleneck, y, z
        self.bits_y = self.bits_z = self.bits_y_tables = 0.0
        self._tables = load_tables()

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols of z."""
        symbols = self._engine.symbols(interior(self._z), medians)
        p = self._bottleneck.probabilities(symbols.reshape(-1, shape[2]).T.astype(np.float64))
        self.bits_z += code_length(np.maximum(p, LIKELIHOOD_MIN))
        return symbols

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Symbols of one half of a slice; ``levels`` are scales here."""
        ch = levels.shape[2]
        symbols = self._engine.symbols(take(interior(self._y)[:, :, i * ch : (i + 1) * ch], parity), means)
        self.bits_y += code_length(gaussian_likelihood(symbols, levels))
        level = np.searchsorted(self._tables.thresholds, levels * 2.0**SCALE_FRAC, side="right")
        _, frequency = intervals(symbols.astype(np.int32), level.astype(np.int32), self._tables.gaussian)
        self.bits_y_tables += float((16 - np.log2(frequency)).sum())
        return symbols
