"""Proof of no overflow (SPEC 9.2): worst cases of every accumulator from the integers and the declared clamps.

The converter chooses shifts with these functions and the loader runs them on every model, so a model that cannot be
proved is refused, wherever it comes from. All arithmetic here is exact in int64 or Python integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np

from ..errors import InvalidModel
from ..limits import MAX_LATENT_POSITIONS
from .layer_table import Op
from .layers import NORM_FRAC, Conv, Gain, Gdn, Layer, LinearAttention, LocalAttention, Norm, Sum

INT32_MAX = (1 << 31) - 1
INT16_MAX = (1 << 15) - 1
INT64_MAX = (1 << 63) - 1
GDN_MAX = 1 << 52

Range = tuple[int, int]

INPUTS: dict[str, Range] = {
    "x": (0, 255),
    "y": (-INT16_MAX, INT16_MAX),
    "y_hat": (-INT16_MAX, INT16_MAX),
    "z_hat": (-INT16_MAX, INT16_MAX),
}
"""Ranges of tensors that no layer's clamp bounds (SPEC 9.2-8)."""


def tensor_range(name: str, layers: Mapping[str, Layer]) -> Range:
    """(SPEC 9.2-8) Smallest and largest integer a tensor can hold, by its clamp and activation."""
    if name == "hyper_means":
        name = "h_s/4"
    if (base := name.split("/")[0]) == "y_hat" or name in INPUTS:
        return INPUTS[base]
    layer = layers[name]
    low = -layer.limit
    if isinstance(layer, Conv) and layer.gelu is not None:
        low = max(low, -int(layer.gelu.max()))
    return low, layer.limit


def accumulator_range(weight: np.ndarray, groups: Sequence[tuple[int, Range]]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest sum of products by output channel.

    Parameters
    ----------
    weight : np.ndarray [Co, k, k, Ci], int16
    groups : sequence of (channels, range)
        Input channels in order; zero, the padding, lies in every range.

    Returns
    -------
    low, high : np.ndarray [Co], int64
        With P and N the sums of positive and of negated negative weights of a group: high = sum P hi - N lo and
        low = sum P lo - N hi. |w| < 2^15, |x| < 2^15 and fewer than 2^18 terms keep both below 2^48.
    """
    low = np.zeros(weight.shape[0], np.int64)
    high = np.zeros(weight.shape[0], np.int64)
    at = 0
    for channels, (lo, hi) in groups:
        part = weight[:, :, :, at : at + channels] if len(groups) > 1 else weight
        wide = np.int32 if part[0].size < 1 << 16 else np.int64  # |w| < 2^15: 2^16 of them stay below 2^31
        total = part.sum(axis=(1, 2, 3), dtype=wide).astype(np.int64)
        magnitude = np.abs(part).sum(axis=(1, 2, 3), dtype=wide).astype(np.int64)
        positive, negative = (magnitude + total) >> 1, (magnitude - total) >> 1
        high += positive * max(hi, 0) - negative * min(lo, 0)
        low += positive * min(lo, 0) - negative * max(hi, 0)
        at += channels
    return low, high


def input_groups(op: Op, layers: Mapping[str, Layer], channels: Mapping[str, int]) -> list[tuple[int, Range]]:
    """Channel counts and ranges of a convolution's inputs.

    Parameters
    ----------
    op : Op
        The convolution.
    layers : mapping of str to Layer
        All layers, for the ranges of tensors.
    channels : mapping of str to int
        Channels by tensor.

    Returns
    -------
    list of (int, Range)
        One per input; one group of one channel for a depthwise convolution.
    """
    if op.depthwise:
        return [(1, tensor_range(op.inputs[0], layers))]
    return [(channels[name], tensor_range(name, layers)) for name in op.inputs]


@dataclass(frozen=True)
class Bound:
    """One line of the proof: a quantity of an operation, its worst case and what is allowed.

    Attributes
    ----------
    name, quantity : str
    worst : int
        Greatest magnitude for any input within the clamps, exact.
    allowed : int
        Greatest magnitude that SPEC 9.2 allows.
    """

    name: str
    quantity: str
    worst: int
    allowed: int

    @property
    def margin(self) -> int:
        """Margin that is left; negative if the bound does not hold."""
        return self.allowed - self.worst

    @property
    def bits(self) -> int:
        """Bits of a two's complement register that holds the worst case."""
        return self.worst.bit_length() + 1


def conv_extremes(
    op: Op, layer: Conv, layers: Mapping[str, Layer], channels: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the accumulator of a convolution: sums, bias and branch.

    Parameters
    ----------
    op : Op
    layer : Conv
        Its weights, biases and shifts.
    layers : mapping of str to Layer
    channels : mapping of str to int
        Channels by tensor.

    Returns
    -------
    low, high : np.ndarray [outputs], int64
        Smallest and largest accumulator by output channel.
    """
    low, high = accumulator_range(layer.weight, input_groups(op, layers, channels))
    low += layer.bias
    high += layer.bias
    if op.add and layer.add_shift is not None:
        lo, hi = tensor_range(op.add, layers)
        low += min(lo, 0) * (np.int64(1) << layer.add_shift.astype(np.int64))
        high += max(hi, 0) * (np.int64(1) << layer.add_shift.astype(np.int64))
    return low, high


def tensor_channels(ops: Sequence[Op]) -> dict[str, int]:
    """Channels of every tensor by name, those that ports and the walk fill included."""
    channels = {op.name: op.channels // 4 if op.shuffle else op.channels for op in ops}
    ch = channels["ctx/0"]
    M = channels["y"]
    return {
        **channels,
        "x": 3,
        "hyper_means": M,
        "y_hat": M,
        "z_hat": channels["z"],
        **{f"y_hat/{i}": ch for i in range(M // ch)},
    }


def _op_bounds(op: Op, layer: Layer, layers: Mapping[str, Layer], channels: Mapping[str, int]) -> Iterator[Bound]:
    """The proof of one operation, in Python integers (SPEC 9.2-2 to 9.2-7)."""
    x = max(abs(v) for name in op.inputs for v in tensor_range(name, layers))

    def bound(quantity: str, worst: int, allowed: int) -> Bound:
        return Bound(op.name, quantity, worst, allowed)

    if isinstance(layer, Conv):
        low, high = conv_extremes(op, layer, layers, channels)
        yield bound("accumulator", int(max(high.max(), -low.min())), INT32_MAX)
    elif isinstance(layer, Gdn):
        rows = zip(
            (layer.gamma >> 26).sum(axis=1).tolist(),
            (layer.gamma & (1 << 26) - 1).sum(axis=1).tolist(),
            layer.beta.tolist(),
            strict=True,
        )  # gamma < 2^52 in two halves: their sums fit int64
        n = max(b + x * x * ((high << 26) + low) for high, low, b in rows)
        yield bound("beta + sum gamma x^2", n, GDN_MAX - 1)
        yield bound(
            "x r" if op.kind == "igdn" else "x 2^shift + r / 2",
            x * isqrt(n) if op.kind == "igdn" else (x << layer.shift) + (isqrt(n) >> 1),
            INT64_MAX,
        )
    elif isinstance(layer, Norm):
        worst = (2 * op.channels * x) ** 2 * op.channels
        yield bound("sum D^2", worst, GDN_MAX - 1)
        yield bound("channels", op.channels, 128)
    elif isinstance(layer, LocalAttention):
        d = op.channels // 25 // layer.heads
        bias = int(np.abs(layer.bias.astype(np.int64)).max())
        yield bound("logit", (x * x * d >> layer.shift) + 1 + bias, (1 << 38) - 1)
        yield bound("sum of weights and values", 25 * x * ((1 << 16) + 25), (1 << 53) - 1)
    elif isinstance(layer, LinearAttention):
        v = max(abs(n) for n in tensor_range(op.inputs[2], layers))
        d = op.channels // layer.heads
        yield bound("sum e v", (v << 24) * MAX_LATENT_POSITIONS, (1 << 62) - 1)
        yield bound("rest 2^context_shift", MAX_LATENT_POSITIONS << (24 + layer.context_shift), (1 << 62) - 1)
        yield bound("sum p c", INT16_MAX * ((1 << 16) + d), (1 << 53) - 1)
    elif isinstance(layer, Sum):
        a, b = (max(abs(v) for v in tensor_range(name, layers)) for name in op.inputs)
        yield bound("sum", (a << layer.shift_a) + (b << layer.shift_b) + (1 << layer.shift >> 1), INT32_MAX)
    elif isinstance(layer, Gain):
        yield bound("product", x * int(layer.multiplier.max()) + (1 << int(layer.shift.max()) >> 1), INT64_MAX)


def bound_table(ops: Sequence[Op], layers: Mapping[str, Layer]) -> list[Bound]:
    """Every bound of SPEC 9.2 for a model, in the order of its layer table."""
    channels = tensor_channels(ops)
    return [b for op in ops for b in _op_bounds(op, layers[op.name], layers, channels)]


def prove(ops: Sequence[Op], layers: Mapping[str, Layer]) -> dict[str, int]:
    """Check every bound of SPEC 9.2.

    Returns
    -------
    dict of str to int
        Margin below 2^31 of every convolution by name.

    Raises
    ------
    InvalidModel
        Naming the layer, the quantity and the values.
    """
    for op in ops:
        layer = layers[op.name]
        if isinstance(layer, Norm) and (layer.limit != INT16_MAX or layer.frac != NORM_FRAC):
            raise InvalidModel(
                "normalised vectors are Q10 with a clamp of 32767",
                where=f"layer {op.name} (SPEC 5.6)",
                frac=layer.frac,
                limit=layer.limit,
            )
    table = bound_table(ops, layers)
    for b in table:
        if b.margin < 0:
            raise InvalidModel(
                "the model cannot be proved free of overflow",
                where=f"layer {b.name} (SPEC 9.2)",
                quantity=b.quantity,
                worst=b.worst,
                allowed=b.allowed,
            )
    return {b.name: b.margin for b in table if b.quantity == "accumulator"}
