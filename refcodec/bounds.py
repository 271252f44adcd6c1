"""Proof of no overflow (SPEC 9.2): worst cases of every accumulator from the integers and the declared clamps.

The converter chooses shifts with these functions and the loader runs them on every model, so a model that cannot be
proved is refused, wherever it comes from. All arithmetic here is exact in int64 or Python integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .architecture import Op
from .arith.layers import NORM_FRAC, Conv, Gdn, Layer, LocalAttention
from .errors import InvalidModel

INT32_MAX = (1 << 31) - 1
INT16_MAX = (1 << 15) - 1
GDN_MAX = 1 << 52

Range = tuple[int, int]

INPUTS: dict[str, Range] = {"x": (0, 255), "y": (-INT16_MAX, INT16_MAX), "y_hat": (-INT16_MAX, INT16_MAX),
                            "z_hat": (-INT16_MAX, INT16_MAX)}
"""Ranges of tensors that no layer's clamp bounds (SPEC 5.1)."""


def tensor_range(name: str, layers: Mapping[str, Layer]) -> Range:
    """Smallest and largest integer a tensor can hold, by its clamp and activation."""
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
        part = weight[:, :, :, at:at + channels] if len(groups) > 1 else weight
        total = part.sum(axis=(1, 2, 3), dtype=np.int64)
        magnitude = np.abs(part).sum(axis=(1, 2, 3), dtype=np.int64)
        positive, negative = (magnitude + total) >> 1, (magnitude - total) >> 1
        high += positive * max(hi, 0) - negative * min(lo, 0)
        low += positive * min(lo, 0) - negative * max(hi, 0)
        at += channels
    return low, high


def input_groups(op: Op, layers: Mapping[str, Layer], channels: Mapping[str, int]) -> list[tuple[int, Range]]:
    """Channel counts and ranges of a convolution's inputs; one group for a depthwise convolution."""
    if op.depthwise:
        return [(1, tensor_range(op.inputs[0], layers))]
    return [(channels[name], tensor_range(name, layers)) for name in op.inputs]


def conv_margin(op: Op, layer: Conv, layers: Mapping[str, Layer], channels: Mapping[str, int]) -> int:
    """2^31 - 1 minus the worst accumulator magnitude of a convolution; negative if it can overflow."""
    low, high = accumulator_range(layer.weight, input_groups(op, layers, channels))
    low += layer.bias
    high += layer.bias
    if op.add and layer.add_shift is not None:
        lo, hi = tensor_range(op.add, layers)
        low += min(lo, 0) * (np.int64(1) << layer.add_shift.astype(np.int64))
        high += max(hi, 0) * (np.int64(1) << layer.add_shift.astype(np.int64))
    return INT32_MAX - int(max(high.max(), -low.min()))


def gdn_bound(op: Op, layer: Gdn, layers: Mapping[str, Layer]) -> int:
    """Largest n = beta + sum gamma x^2 of a GDN, in Python integers."""
    lo, hi = tensor_range(op.inputs[0], layers)
    square = max(-lo, hi) ** 2
    return max(int(b) + square * sum(int(g) for g in row) for b, row in zip(layer.beta, layer.gamma, strict=True))


def _refuse(name: str, rule: str, **values: Any) -> None:
    raise InvalidModel("the model cannot be proved free of overflow", where=f"layer {name} (SPEC 9.2)",
                       rule=rule, **values)


def prove(ops: Sequence[Op], layers: Mapping[str, Layer]) -> dict[str, int]:
    """Check every bound of SPEC 9.2.

    Returns
    -------
    dict of str to int
        Margin below 2^31 of every convolution by name.

    Raises
    ------
    InvalidModel
        Naming the layer, the rule and the values.
    """
    channels = {op.name: op.channels // 4 if op.shuffle else op.channels for op in ops}
    ch = next(op.channels for op in ops if op.name == "ctx/0")
    M = channels["y"]
    channels.update({"x": 3, "hyper_means": M, "y_hat": M, "z_hat": channels["z"]})
    channels.update({f"y_hat/{i}": ch for i in range(M // ch)})
    margins = {}
    for op in ops:
        layer = layers[op.name]
        if isinstance(layer, Conv):
            margins[op.name] = conv_margin(op, layer, layers, channels)
            if margins[op.name] < 0:
                _refuse(op.name, "|accumulator| < 2^31", margin=margins[op.name])
        elif isinstance(layer, Gdn):
            bound = gdn_bound(op, layer, layers)
            if bound >= GDN_MAX:
                _refuse(op.name, "beta + sum gamma x^2 < 2^52", bound=bound)
        elif isinstance(layer, LocalAttention):
            lo, hi = tensor_range(op.inputs[0], layers)
            d = op.channels // 25 // layer.heads
            logit = (max(-lo, hi) ** 2 * d >> layer.shift) + 1 + int(np.abs(layer.bias.astype(np.int64)).max())
            if logit >= 1 << 38:
                _refuse(op.name, "|logit| < 2^38", bound=logit)
        elif op.kind == "norm":
            lo, hi = tensor_range(op.inputs[0], layers)
            if op.channels > 128 or (2 * op.channels * max(-lo, hi)) ** 2 * op.channels >= 1 << 52:
                _refuse(op.name, "sum D^2 < 2^52", channels=op.channels, largest=max(-lo, hi))
            if layer.limit != INT16_MAX or layer.frac != NORM_FRAC:
                _refuse(op.name, "normalised vectors are Q10", frac=layer.frac, limit=layer.limit)
    return margins
