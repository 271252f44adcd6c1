"""Float layers and formats -> the integer content of a model (SPEC 5, 9.2 and annex B).

Every output channel of a convolution gets the largest shift, hence the finest weights, whose accumulator is proved to
fit 31 bits by the functions that the loader uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refcodec.errors import InvalidModel
from refcodec.model.config import SCALE_FRAC, Y_FRAC, Config
from refcodec.model.integer_model import config_content
from refcodec.model.layer_table import Op, layer_table
from refcodec.model.layers import (
    LOGIT_FRAC,
    Conv,
    Gain,
    Layer,
    LinearAttention,
    LocalAttention,
    Norm,
    Rescale,
    Sum,
)
from refcodec.model.layers import Gdn as GdnLayer
from refcodec.model.proof import (
    GDN_MAX,
    INT16_MAX,
    INT32_MAX,
    accumulator_range,
    input_groups,
    tensor_channels,
    tensor_range,
)
from refcodec.model.tables import load_tables

from .calibrate import Format, lower
from .code_length import Bottleneck
from .folding import NORM_EPSILON, FloatLayer, gains
from .tables import cdf_from_pmf

Z_TAIL = 2.0**-17
"""Probability of z beyond its table on either side: half a unit of the smallest frequency."""


def _round(x: np.ndarray) -> np.ndarray:
    return np.floor(np.asarray(x, np.float64) + 0.5)


class _TooFine(Exception):
    """A tensor's format has too many fraction bits for a layer to be proved."""

    def __init__(self, tensor: str, by: int = 1) -> None:
        super().__init__(tensor)
        self.tensor, self.by = tensor, by


def tensor_frac(name: str, formats: Mapping[str, Any]) -> int:
    """Fraction bits of a tensor, from the formats or layers of operations by name."""
    if name == "x":
        return 0
    if name == "hyper_means":
        return int(formats["h_s/4"].frac)
    return Y_FRAC if name.split("/")[0] in ("y_hat", "z_hat") else int(formats[name].frac)


def conv_fracs(op: Op, formats: Mapping[str, Any], channels: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Fraction bits by input channel [Ci] and by output channel [Co] of a convolution's tensors.

    A weight w becomes the integer round(w 2^(out - in + shift)).

    Parameters
    ----------
    op : Op
        The convolution.
    formats : mapping of str to Format
    channels : mapping of str to int
        Channels by tensor.

    Returns
    -------
    inputs : np.ndarray [Ci]
    outputs : np.ndarray [Co]
    """
    if op.depthwise:
        inputs = np.array([tensor_frac(op.inputs[0], formats)])
    else:
        inputs = np.concatenate([np.full(channels[n], tensor_frac(n, formats)) for n in op.inputs])
    outputs = np.full(op.channels, tensor_frac(op.name, formats))
    if op.wide:
        outputs[: op.channels // 2] = SCALE_FRAC
    return inputs, outputs


def _first_shift(
    weight: np.ndarray, offset: np.ndarray, branch: np.ndarray, groups: list[tuple[int, tuple[int, int]]]
) -> np.ndarray:
    """By output channel a shift, 30 or less, that is no smaller than the largest one that fits.

    Extremes of an accumulator grow as 2^shift but for what rounding does to the weights: at most half a unit each.
    ``offset`` is the bias and the rounding term, ``branch`` the largest magnitude of a branch, both for a shift of 0.
    """
    above, below = (
        np.concatenate([np.full(channels, max(sign * bounds[sign > 0], 0)) for channels, bounds in groups])
        for sign in (1, -1)
    )
    total = weight.sum(axis=(1, 2))
    positive = (np.abs(weight).sum(axis=(1, 2)) + total) / 2
    negative = positive - total
    worst = np.maximum(positive @ above + negative @ below + offset, positive @ below + negative @ above - offset)
    rounding = weight[0, :, :, 0].size * np.maximum(above, below).sum() / 2
    largest = np.abs(weight).max(axis=(1, 2, 3))
    bounds = np.minimum(
        (INT32_MAX + rounding + 1) / np.maximum(worst + branch, 1e-30), 32768 / np.maximum(largest, 1e-30)
    )
    shifts: np.ndarray = np.minimum(30, np.floor(np.log2(bounds) + 1e-9).astype(int))
    return shifts


class Quantiser:
    """Makes integer layers one by one in the order of the table; later layers need the clamps of earlier ones."""

    def __init__(self, config: Config, floats: Mapping[str, FloatLayer], formats: Mapping[str, Format]) -> None:
        self.config, self.floats, self.formats = config, floats, dict(formats)
        self.layers: dict[str, Layer] = {}
        self.content: dict[str, np.ndarray] = config_content(config)
        self.ops = layer_table(config)
        self.channels = tensor_channels(self.ops)
        self.tables = load_tables()

    def frac(self, name: str) -> int:
        """Fraction bits of a tensor."""
        return tensor_frac(name, self.formats)

    def run(self, progress: Callable[[float], None] | None = None) -> dict[str, np.ndarray]:
        """The content of every layer and the table of formats.

        Where a layer cannot be proved, the tensor that has too many fraction bits loses some and work goes on from
        there; it ends, since no tensor ever gets any back.

        Raises
        ------
        InvalidModel
            No format proves a layer.
        """
        makers = {
            "conv": self._conv,
            "gdn": self._gdn,
            "igdn": self._gdn,
            "sum": self._sum,
            "gain": self._gain,
            "rescale": self._rescale,
            "norm": self._norm,
            "local_attention": self._local,
            "linear_attention": self._linear,
        }
        places = {op.name: n for n, op in enumerate(self.ops)}
        n = 0
        while n < len(self.ops):
            op = self.ops[n]
            try:
                layer, arrays = makers[op.kind](op, self.floats[op.name], self.formats[op.name])
            except _TooFine as e:
                if not lower(self.config, self.formats, e.tensor, e.by):
                    raise InvalidModel(
                        "no format proves the layer",
                        where=op.name,
                        tensor=e.tensor,
                        cause="the weights are too large for the clamps",
                    ) from None
                n = places[e.tensor]
                continue
            self.layers[op.name] = layer
            self.content |= {f"layers/{op.name}/{k}": v for k, v in arrays.items()}
            n += 1
            if progress:
                progress(n / len(self.ops))
        self.content["formats"] = np.array(
            [(self.formats[op.name].frac, self.formats[op.name].limit) for op in self.ops], np.int32
        )
        return self.content

    def _conv(self, op: Op, f: FloatLayer, fmt: Format) -> tuple[Layer, dict[str, np.ndarray]]:
        assert f.weight is not None and f.bias is not None
        in_frac, out_frac = conv_fracs(op, self.formats, self.channels)
        groups = input_groups(op, self.layers, self.channels)
        scaled = f.weight * 2.0**-in_frac * (2.0**out_frac)[:, None, None, None]
        bias = f.bias * 2.0**out_frac
        lo, hi = tensor_range(op.add, self.layers) if op.add else (0, 0)
        k_add = out_frac - (self.frac(op.add) if op.add else 0)
        branch = max(-lo, hi) * 2.0**k_add if op.add else np.zeros_like(bias)
        shift = _first_shift(scaled, bias + 0.5, branch, groups)
        while True:
            if shift.min() < 0:
                raise _TooFine(op.name)
            weight = _round(scaled * (2.0**shift)[:, None, None, None])
            fits = np.abs(weight).max(axis=(1, 2, 3)) <= 32767
            offset = _round(bias * 2.0**shift) + np.floor(2.0 ** (shift - 1))
            low, high = accumulator_range(np.clip(weight, -32767, 32767).astype(np.int64), groups)
            add_shift = np.maximum(shift + k_add, 0) if op.add else np.zeros_like(shift)
            worst = np.maximum(
                high + offset + (float(hi) * 2.0**add_shift if op.add else 0),
                -(low + offset + (float(lo) * 2.0**add_shift if op.add else 0)),
            )
            fits &= (worst <= INT32_MAX) & (np.abs(offset) <= INT32_MAX)
            if fits.all():
                break
            shift = np.where(fits, shift, shift - 1)
        if op.add and (short := -int((shift + k_add).min())) > 0:  # the accumulator has fewer bits than its branch
            raise _TooFine(op.add, short)
        constants = np.stack([offset, shift, add_shift]).astype(np.int32)  # separate rows: kernels read them
        gelu = self.tables.gelu[fmt.frac] if op.gelu else None
        layer = Conv(
            op.name,
            weight.astype(np.int16),
            constants[0],
            constants[1],
            fmt.frac,
            fmt.limit,
            constants[2] if op.add else None,
            gelu,
            op.stride,
            op.shuffle,
            op.depthwise,
        )
        return layer, {"weight": layer.weight, "constants": np.ascontiguousarray(constants.T)}

    def _gdn(self, op: Op, f: FloatLayer, fmt: Format) -> tuple[Layer, dict[str, np.ndarray]]:
        assert f.gamma is not None and f.beta is not None
        frac = self.frac(op.inputs[0])
        lo, hi = tensor_range(op.inputs[0], self.layers)
        square = max(-lo, hi) ** 2
        for t in range(25, 0, -1):
            gamma = _round(f.gamma * 4.0 ** (t - frac))
            beta = np.maximum(_round(f.beta * 4.0**t), 1)
            shift = frac + t - fmt.frac if op.kind == "igdn" else t - frac + fmt.frac
            if float((beta + square * gamma.sum(axis=1)).max()) < GDN_MAX * 0.999 and 0 <= shift <= 36:
                break
        else:
            raise _TooFine(op.name if op.kind == "igdn" else op.inputs[0])
        arrays = {
            "gamma": gamma.astype(np.int64),
            "beta": beta.astype(np.int64),
            "constants": np.array([shift], np.int32),
        }
        return GdnLayer(op.name, arrays["gamma"], arrays["beta"], shift, fmt.frac, fmt.limit), arrays

    def _sum(self, op: Op, f: FloatLayer, fmt: Format) -> tuple[Layer, dict[str, np.ndarray]]:
        a, b = (self.frac(n) for n in op.inputs)
        top = max(a, b, fmt.frac)
        layer = Sum(op.name, top - a, top - b, top - fmt.frac, fmt.frac, fmt.limit)
        return layer, {"constants": np.array([layer.shift_a, layer.shift_b, layer.shift], np.int32)}

    def _gain(self, op: Op, f: FloatLayer, fmt: Format) -> tuple[Layer, dict[str, np.ndarray]]:
        assert f.log_gain is not None
        factor = gains(f.log_gain, self.config) * 2.0 ** (fmt.frac - self.frac(op.inputs[0]))
        # A factor below 2^-16 makes every int16 a zero, one above 2^14 a clamp: within these bounds a gain has a form.
        factor = np.clip(factor, 2.0**-16, INT16_MAX / 2)
        exponent = np.floor(np.log2(factor)).astype(int)
        multiplier = _round(factor * 2.0 ** (14 - exponent))
        carry = multiplier >= 1 << 15
        multiplier, exponent = np.where(carry, 1 << 14, multiplier), exponent + carry
        shift = 14 - exponent
        arrays = {"multiplier": multiplier.astype(np.int32), "shift": shift.astype(np.int32)}
        return Gain(op.name, arrays["multiplier"], arrays["shift"], fmt.frac, fmt.limit), arrays

    def _rescale(self, op: Op, f: FloatLayer, fmt: Format) -> tuple[Layer, dict[str, np.ndarray]]:
        shift = Y_FRAC - fmt.frac
        return Rescale(op.name, shift, fmt.frac, fmt.limit), {"constants": np.array([shift], np.int32)}

    def _norm(self, op: Op, f: FloatLayer, fmt: Format) -> tuple[Layer, dict[str, np.ndarray]]:
        epsilon = max(1, int(_round(np.array(op.channels**3 * NORM_EPSILON * 4.0 ** self.frac(op.inputs[0])))))
        return Norm(op.name, epsilon, fmt.frac, fmt.limit), {"constants": np.array([epsilon], np.int64)}

    def _local(self, op: Op, f: FloatLayer, fmt: Format) -> tuple[Layer, dict[str, np.ndarray]]:
        assert f.bias is not None
        shift = 2 * self.frac(op.inputs[0]) - LOGIT_FRAC
        bias = _round(f.bias * 2.0**LOGIT_FRAC).astype(np.int32)
        return (
            LocalAttention(op.name, shift, bias, op.heads, fmt.frac, fmt.limit),
            {"bias": bias, "constants": np.array([shift], np.int32)},
        )

    def _linear(self, op: Op, f: FloatLayer, fmt: Format) -> tuple[Layer, dict[str, np.ndarray]]:
        q, k, v = (self.frac(n) for n in op.inputs)
        layer = LinearAttention(op.name, LOGIT_FRAC - k, LOGIT_FRAC - q, fmt.frac - v, op.heads, fmt.frac, fmt.limit)
        return layer, {"constants": np.array([layer.key_shift, layer.query_shift, layer.context_shift], np.int32)}


def z_content(bottleneck: Bottleneck) -> dict[str, np.ndarray]:
    """Medians and frequency tables of z: per channel the symbols whose tails on either side hold less than Z_TAIL."""
    reach = 1024
    symbols = np.arange(-reach, reach + 1, dtype=np.float64)
    channels = bottleneck.medians.size
    p = bottleneck.probabilities(np.broadcast_to(symbols, (channels, symbols.size)))
    parts, first = [], []
    for row in p:
        row = row / row.sum()
        below, above = np.cumsum(row), np.cumsum(row[::-1])[::-1]
        keep = np.flatnonzero((below > Z_TAIL) & (above > Z_TAIL))
        a, b = int(keep[0]), int(keep[-1])
        parts.append(cdf_from_pmf(row[a : b + 1], float(1 - row[a : b + 1].sum())))
        first.append(a - reach)
    start = np.concatenate([[0], np.cumsum([len(c) for c in parts])])
    return {
        "z/cdf": np.concatenate(parts).astype(np.int32),
        "z/start": start.astype(np.int32),
        "z/first": np.array(first, np.int32),
        "z/medians": medians_of(bottleneck),
    }


def medians_of(bottleneck: Bottleneck) -> np.ndarray:
    """Medians of z by channel, int32 in Q6."""
    return _round(bottleneck.medians * 2.0**Y_FRAC).astype(np.int32)


def quantise(
    config: Config,
    floats: Mapping[str, FloatLayer],
    formats: Mapping[str, Format],
    bottleneck: Bottleneck,
    progress: Callable[[float], None] | None = None,
) -> dict[str, np.ndarray]:
    """The normative content of the integer model (SPEC 10.2).

    Parameters
    ----------
    config : Config
    floats : mapping of str to FloatLayer
    formats : mapping of str to Format
    bottleneck : Bottleneck
        Density of z.
    progress : callable(share) or None

    Returns
    -------
    dict of str to np.ndarray

    Raises
    ------
    InvalidModel
        No format proves a layer.
    """
    content = Quantiser(config, floats, formats).run(progress)
    tables = {f"tables/{name}": array for name, array in load_tables().arrays().items()}
    return {**content, **z_content(bottleneck), **tables}
