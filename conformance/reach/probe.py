"""Internal values that decoding a stream reaches: the greatest magnitude of every bounded quantity, clamps, ties of
roundings.

An engine that evaluates every operation once more in plain int64 and looks at what lies between its input and its
result. It is for measuring suites, not for speed: models are small.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcodec.arith.checkerboard import take
from refcodec.arith.engine import Y_MAX, Engine
from refcodec.arith.maps import BORDER, interior
from refcodec.arith.numpy_ops import RELATIVE, norm_gain, rows_of
from refcodec.bitstream.container import parse
from refcodec.entropy.ports import Port, Reader
from refcodec.model.integer_model import Model
from refcodec.model.proof import INT32_MAX
from refcodec.nets.synthesis import synthesis
from refcodec.slices import walk


@dataclass
class Reach:
    """Values that one or more streams reach.

    Attributes
    ----------
    least, greatest : dict of (operation, quantity) to int
        Of the quantities that SPEC 9.2 bounds, by the names of ``refcodec.model.proof``.
    clamped : Counter of (operation, sign)
        Values brought to the clamp, 1 above and -1 below.
    ties : Counter of (rounding, sign)
        Halves that were rounded up, by kind of rounding and sign of the number.
    thresholds : Counter of (number, difference)
        Scales that lie -1, 0 or 1 from a threshold (SPEC A.5).
    """

    least: dict[tuple[str, str], int] = field(default_factory=dict)
    greatest: dict[tuple[str, str], int] = field(default_factory=dict)
    clamped: Counter[tuple[str, int]] = field(default_factory=Counter)
    ties: Counter[tuple[str, int]] = field(default_factory=Counter)
    thresholds: Counter[tuple[int, int]] = field(default_factory=Counter)

    def magnitude(self, name: str, quantity: str) -> int:
        """The greatest magnitude of a quantity; 0 if it never occurred."""
        key = name, quantity
        return max(self.greatest.get(key, 0), -self.least.get(key, 0))

    def see(self, name: str, quantity: str, values: np.ndarray) -> None:
        """Record values of a bounded quantity.

        Parameters
        ----------
        name, quantity : str
            Operation and quantity.
        values : np.ndarray, int64
        """
        if values.size:
            key = name, quantity
            self.least[key] = min(self.least.get(key, 0), int(values.min()))
            self.greatest[key] = max(self.greatest.get(key, 0), int(values.max()))

    def see_clamp(self, name: str, values: np.ndarray, limit: int) -> None:
        """Record values before a clamp to -limit..limit.

        Parameters
        ----------
        name : str
            The clamp.
        values : np.ndarray, int64
        limit : int
        """
        self.clamped[name, 1] += int((values > limit).sum())
        self.clamped[name, -1] += int((values < -limit).sum())

    def see_tie(self, rounding: str, values: np.ndarray, tie: np.ndarray) -> None:
        """Record which values are halves before they are rounded.

        Parameters
        ----------
        rounding : str
        values : np.ndarray, int64
            For their signs.
        tie : np.ndarray, bool
            Where a value is a half.
        """
        self.ties[rounding, 1] += int((tie & (values > 0)).sum())
        self.ties[rounding, -1] += int((tie & (values < 0)).sum())

    def shifted(self, rounding: str, a: NDArray[np.int64], shift: np.ndarray | int) -> NDArray[np.int64]:
        """(SPEC 5.2) round_shift, whose ties are recorded.

        Parameters
        ----------
        rounding : str
        a : np.ndarray, int64
        shift : int or np.ndarray
            Of a shape that broadcasts with ``a``.

        Returns
        -------
        np.ndarray, int64
        """
        one = np.int64(1) << np.asarray(shift, np.int64)
        self.see_tie(rounding, a, (one > 1) & ((a & (one - 1)) == one >> 1))
        values: NDArray[np.int64] = (a + (one >> 1)) >> np.asarray(shift, np.int64)
        return values

    def quotient(self, rounding: str, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        """(SPEC 5.2) round_quotient, whose ties are recorded.

        Parameters
        ----------
        rounding : str
        a, b : np.ndarray, int64
            Dividend and divisor, b > 0.

        Returns
        -------
        np.ndarray, int64
        """
        self.see_tie(rounding, a, (b % 2 == 0) & (a % b == b // 2))
        return (a + b // 2) // b


def _exact(x: np.ndarray, layer: Any, height: int, width: int) -> np.ndarray:
    """(SPEC 5.3) Accumulators of a convolution without its branch, int64 [h, w, Co]; sums below 2^53 are exact."""
    k, stride = layer.kernel, layer.stride
    x = x[BORDER - k // 2 :, BORDER - k // 2 :].astype(np.float64)
    total = np.zeros((height, width, layer.weight.shape[0]))
    for dy in range(k):
        for dx in range(k):
            part = x[dy : dy + stride * (height - 1) + 1 : stride, dx : dx + stride * (width - 1) + 1 : stride]
            weight = layer.weight[:, dy, dx].astype(np.float64)
            total += part * weight[:, 0] if layer.depthwise else part[:, :, : weight.shape[1]] @ weight.T
    sums: NDArray[np.int64] = total.astype(np.int64) + layer.bias
    return sums


def _before_shuffle(x: np.ndarray) -> np.ndarray:
    """(SPEC 5.3-10) A map of finer shape in the order of a convolution's outputs."""
    h, w, c = x.shape
    outputs: np.ndarray = x.reshape(h // 2, 2, w // 2, 2, c).transpose(0, 2, 4, 1, 3).reshape(h // 2, w // 2, 4 * c)
    return outputs


class Probe(Engine):
    """An engine that fills a `Reach`.

    Parameters
    ----------
    model : Model
    quality : int
        Step, 1..100.
    reach : Reach
    """

    def __init__(self, model: Model, quality: int, reach: Reach) -> None:
        super().__init__(model.layers, model.tables, quality - 1, 1, trace=lambda name, values: None)
        self.reach = reach

    def _clamped(self, name: str, values: np.ndarray, limit: int, result: np.ndarray) -> None:
        """Take in values before their clamp; they must be what the engine has computed."""
        self.reach.see_clamp(name, values, limit)
        if not np.array_equal(np.clip(values, -limit, limit), result):
            raise RuntimeError(f"the probe and the engine differ in {name}")

    def conv(
        self,
        name: str,
        x: np.ndarray,
        *,
        add: np.ndarray | None = None,
        parity: int = -1,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """(SPEC 5.3) Accumulators, floors without a remainder, clamps; arguments and result are those of
        `Engine.conv`.
        """
        layer: Any = self.layers[name]
        h, w = ((n - 2 * BORDER + layer.stride - 1) // layer.stride for n in x.shape[:2])
        a = _exact(x, layer, h, w)
        if parity >= 0:
            a = take(a, parity)
        if add is not None:
            branch = interior(add).astype(np.int64)
            a += (_before_shuffle(branch) if layer.shuffle else branch) << layer.add_shift
        self.reach.see(name, "accumulator", a)
        self.reach.see_tie("convolution", a, (layer.shift > 0) & (a & ((1 << layer.shift.astype(np.int64)) - 1) == 0))
        v = a >> layer.shift
        if layer.gelu is not None:
            v = np.maximum(v, 0) - layer.gelu[np.minimum(np.abs(v), layer.gelu.size - 1)]
        out = super().conv(name, x, add=add, parity=parity, out=out)
        done = _before_shuffle(interior(out)) if layer.shuffle else interior(out)
        self._clamped(name, v, layer.limit or INT32_MAX, done)
        return out

    def igdn(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.5) Norms and products; arguments and result are those of `Engine.igdn`."""
        layer: Any = self.layers[name]
        v = interior(x).astype(np.int64)
        n = (v * v) @ layer.gamma.T + layer.beta
        product = v * np.floor(np.sqrt(n.astype(np.float64))).astype(np.int64)
        self.reach.see(name, "beta + sum gamma x^2", n)
        self.reach.see(name, "x r", product)
        out = super().igdn(name, x, out)
        self._clamped(name, self.reach.shifted("igdn", product, layer.shift), layer.limit, interior(out))
        return out

    def sum(self, name: str, a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.4) Sums of two maps; arguments and result are those of `Engine.sum`."""
        layer: Any = self.layers[name]
        total = (interior(a).astype(np.int64) << layer.shift_a) + (interior(b).astype(np.int64) << layer.shift_b)
        self.reach.see(name, "sum", total + (1 << layer.shift >> 1))
        out = super().sum(name, a, b, out)
        self._clamped(name, self.reach.shifted("sum", total, layer.shift), layer.limit, interior(out))
        return out

    def gain(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.4) Products with gains; arguments and result are those of `Engine.gain`."""
        layer: Any = self.layers[name]
        product, shift = interior(x).astype(np.int64) * layer.multiplier[self.step], layer.shift[self.step]
        self.reach.see(name, "product", product + (np.int64(1) << shift.astype(np.int64) >> 1))
        out = super().gain(name, x, out)
        self._clamped(name, self.reach.shifted("gain", product, shift), layer.limit, interior(out))
        return out

    def rescale(self, name: str, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(SPEC 5.4) Narrower copies; arguments and result are those of `Engine.rescale`."""
        layer: Any = self.layers[name]
        narrow = self.reach.shifted("rescale", interior(x).astype(np.int64), layer.shift)
        out = super().rescale(name, x, out)
        self._clamped(name, narrow, layer.limit, interior(out))
        return out

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.6) Sums of squares, quotients."""
        layer: Any = self.layers[name]
        v = interior(x).astype(np.int64)
        channels = v.shape[2]
        d = channels * v - v.sum(axis=2, keepdims=True)
        squares = (d * d).sum(axis=2, keepdims=True)
        self.reach.see(name, "sum D^2", squares)
        lift = (52 - np.frexp((squares + layer.epsilon).astype(np.float64))[1]) >> 1
        root = np.floor(np.sqrt(np.ldexp((squares + layer.epsilon).astype(np.float64), 2 * lift))).astype(np.int64)
        normal = self.reach.quotient("norm", (d << lift) * norm_gain(channels), root << 8)
        out = super().norm(name, x)
        self._clamped(name, normal, layer.limit, interior(out))
        return out

    def _exponentials(self, t: np.ndarray) -> np.ndarray:
        """(SPEC 5.7) exp2_negative."""
        table = self.tables.exp2.astype(np.int64)
        n, i, j = np.minimum(t >> 16, 40), (t >> 8) % 256, t % 256
        return self.reach.shifted("exponential", table[i] * (256 - j) + table[i + 1] * j, n + 8)

    def _weights(self, e: np.ndarray) -> np.ndarray:
        """(SPEC 5.7-4) Softmax weights along the last axis."""
        return self.reach.shifted("softmax", e * ((1 << 47) // e.sum(axis=-1, keepdims=True)), 31)

    def local_attention(self, name: str, qkv: np.ndarray) -> np.ndarray:
        """(SPEC 5.8) Logits, weights, sums of values."""
        layer: Any = self.layers[name]
        h, w, c = qkv.shape[0] - 2 * BORDER, qkv.shape[1] - 2 * BORDER, qkv.shape[2] // 3
        inside = np.zeros(qkv.shape[:2], np.int64)
        interior(inside)[...] = 1
        taps = [(y, x) for y in range(5) for x in range(5)]
        window = np.stack([take(qkv[dy : dy + h, dx : dx + w].astype(np.int64), 0) for dy, dx in taps], axis=2)
        anchor = np.stack(
            [take(inside[dy : dy + h, dx : dx + w, None] * ((dy + dx) % 2), 0)[:, :, 0] > 0 for dy, dx in taps], axis=2
        )
        q, k, v = (
            part.reshape(h, w // 2, 25, layer.heads, -1).transpose(0, 1, 3, 2, 4)
            for part in (window[..., :c], window[..., c : 2 * c], window[..., 2 * c :])
        )
        logits = self.reach.shifted("logit", q @ k.swapaxes(3, 4), layer.shift)
        logits += layer.bias[RELATIVE].transpose(2, 0, 1)
        hidden = (anchor[:, :, :, None] & ~anchor[:, :, None, :])[:, :, None]
        self.reach.see(name, "logit", np.where(hidden, 0, logits))
        top = np.where(hidden, np.iinfo(np.int64).min, logits).max(axis=-1, keepdims=True)
        e = np.where(hidden, 0, self._exponentials(np.where(hidden, 0, top - logits)))
        total = self._weights(e) @ v
        self.reach.see(name, "sum of weights and values", total)
        seen = self.reach.shifted("local attention", total, 16).transpose(0, 1, 3, 2, 4).reshape(h, w // 2, 25 * c)
        out = super().local_attention(name, qkv)
        self._clamped(name, seen, layer.limit, interior(out))
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
        """(SPEC 5.9) Sums over positions, contexts, sums of a query.

        Arguments and result are those of `Engine.linear_attention`.
        """
        layer: Any = self.layers[name]
        q, k, v = (
            rows_of(x, parity).astype(np.int64).reshape(-1, layer.heads, queries.shape[2] // layer.heads)
            for x, parity in ((queries, queries_at), (keys, keys_at), (values, keys_at))
        )
        e = self._exponentials((k.max(axis=0) - k) << layer.key_shift)
        sums, total = np.einsum("phc,phn->hcn", e, v), e.sum(axis=0)[:, :, None]
        self.reach.see(name, "sum e v", sums)
        self.reach.see(name, "rest 2^context_shift", sums % total << layer.context_shift)
        context = self.reach.quotient("context", sums << layer.context_shift, total)  # few positions: below 2^62
        self.reach.see_clamp(f"{name}/context", context, Y_MAX)
        context = np.clip(context, -Y_MAX, Y_MAX)
        logits = q << layer.query_shift
        weights = self._weights(self._exponentials(logits.max(axis=2, keepdims=True) - logits))
        seen = np.einsum("phc,hcn->phn", weights, context)
        self.reach.see(name, "sum p c", seen)
        out = super().linear_attention(name, queries, keys, values, keys_at, queries_at)
        seen = self.reach.shifted("linear attention", seen, 16).reshape(q.shape[0], -1)
        self._clamped(name, seen, layer.limit, rows_of(out, queries_at))
        return out

    def levels_and_means(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(SPEC 6.8) Scales next to thresholds, clamps of means."""
        inner = interior(parameters).astype(np.int64)
        scales, means = inner[:, :, : inner.shape[2] // 2], inner[:, :, inner.shape[2] // 2 :]
        for difference in (-1, 0, 1):
            at = np.searchsorted(self.tables.thresholds, scales - difference)
            hit = at[self.tables.thresholds[np.minimum(at, len(self.tables.thresholds) - 1)] == scales - difference]
            self.reach.thresholds.update((int(k), difference) for k in hit)
        self.reach.see_clamp("means", means, Y_MAX)
        return super().levels_and_means(parameters)

    def half_tanh(self, name: str, x: np.ndarray) -> np.ndarray:
        """(SPEC 5.3) Arguments beyond the table."""
        table = self.tables.half_tanh[self.layers[name].frac]
        self.reach.see_clamp("half tanh", interior(x).astype(np.int64), table.size)
        return super().half_tanh(name, x)

    def reconstruct(self, symbols: np.ndarray, mean: np.ndarray) -> np.ndarray:  # type: ignore[override]
        """(SPEC 6.9) Clamps of y_hat and z_hat."""
        self.reach.see_clamp("y_hat", (symbols.astype(np.int64) << 6) + mean, Y_MAX)
        return Engine.reconstruct(symbols, mean)

    def refine(self, y: np.ndarray, residual: np.ndarray) -> np.ndarray:  # type: ignore[override]
        """(SPEC 6.9) Clamps of y_hat with its residual."""
        self.reach.see_clamp("refined y_hat", y.astype(np.int64) + residual, Y_MAX)
        return Engine.refine(y, residual)


def measure(model: Model, port: Port, width: int, height: int, channels: int, quality: int, reach: Reach) -> None:
    """(SPEC 6.10) Run the decoder on the symbols of a port and record what it reaches.

    Parameters
    ----------
    model : Model
    port : Port
        Source of the symbols.
    width, height, channels : int
        Of the picture, in samples.
    quality : int
        1..100.
    reach : Reach
        Receives the values.
    """
    engine = Probe(model, quality, reach)
    y_hat = walk(engine, model.config, model.medians, port, -(-height // 64) * 4, -(-width // 64) * 4)
    planes = interior(synthesis(engine, y_hat)).astype(np.int64)[:height, :width]
    reach.clamped["samples", 1] += int((planes > 255).sum())
    reach.clamped["samples", -1] += int((planes < 0).sum())
    if channels == 1:
        r, g, b = np.moveaxis(np.clip(planes, 0, 255), 2, 0)
        reach.shifted("grey", r + 2 * g + b, 2)


def probe(data: bytes, model: Model, reach: Reach) -> None:
    """(SPEC 6.10) Decode a valid stream and record what it reaches.

    Parameters
    ----------
    data : bytes
        The stream.
    model : Model
    reach : Reach
        Receives the values.
    """
    stream = parse(data)
    head = stream.header
    port = Reader("numpy", *stream.segments(), model.tables.gaussian, model.factorized)
    measure(model, port, head.width, head.height, head.channels, head.quality, reach)
