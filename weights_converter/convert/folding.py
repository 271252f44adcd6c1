"""Published tensors <-> the layer table of a configuration in float (SPEC annex B).

What the integer model folds away is folded here, in float: 1/255 into the first layers and 255 into the last,
LayerNorm's affine part into the linear layer behind it, log2(e) and the scale of attention into queries and biases, and
the two parallel convolutions at the end of the inter-slice context into one over both inputs. ``float_layers`` folds
arrays for the converter; ``folded`` also folds tensors of other libraries, so that training sends gradients back
through it; ``published_weights`` is the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from refcodec.model.config import Config
from refcodec.model.layer_table import Op, layer_table

from .names import BETA_BOUND, GAINS, GAMMA_BOUND, PEDESTAL, State, check_state, published_key

Read = Callable[[str], Any]
"""Gives a published tensor by name: an array, or a tensor of another library."""

LOG2_E = 1 / math.log(2)

NORM_EPSILON = 1e-5
"""Added to the variance in a layer normalisation."""


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """One operation in float64, or in tensors; fields that its kind does not use stay at their defaults.

    Attributes
    ----------
    weight : np.ndarray [Co, k, k, Ci] or None
    bias : np.ndarray [Co], or [81, heads] of a local attention in log2 units
    gamma, beta : np.ndarray
        Of a GDN.
    log_gain : np.ndarray [Q, C]
        Natural logarithms by quality level.
    """

    op: Op
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    gamma: np.ndarray | None = None
    beta: np.ndarray | None = None
    log_gain: np.ndarray | None = None

    @cached_property
    def matrix(self) -> tuple[np.ndarray, np.ndarray]:
        """Of a convolution, in float32: weights [k * k * Ci, Co], of a depthwise one [k * k, C], and biases [Co]."""
        assert self.weight is not None and self.bias is not None
        weight = self.weight.astype(np.float32).reshape(self.op.channels, -1).T
        return np.ascontiguousarray(weight), self.bias.astype(np.float32)


@dataclass(frozen=True)
class Maths:
    """Functions that folding needs in addition to methods: ``maximum(tensor, number)`` and ``concatenate(tensors,
    axis=n)``.
    """

    maximum: Callable[..., Any]
    concatenate: Callable[..., Any]


_NUMPY = Maths(np.maximum, np.concatenate)


def _filters(read: Read, key: str) -> tuple[Any, Any]:
    """Convolution [Co, Ci, k, k] or linear [Co, Ci] -> [Co, k, k, Ci], and the bias."""
    w = read(f"{key}.weight")
    w = w.reshape(*w.shape, 1, 1) if w.ndim == 2 else w
    return w.swapaxes(1, 2).swapaxes(2, 3), read(f"{key}.bias")


def _after_norm(read: Read, norm: str, linear: str) -> tuple[Any, Any]:
    """W (gamma n + beta) + b as one layer on the normalised n."""
    w, b = _filters(read, linear)
    return w * read(f"{norm}.weight"), b + w[:, 0, 0] @ read(f"{norm}.bias")


def _qkv(read: Read, key: str, heads: int, maths: Maths) -> tuple[Any, Any]:
    """Queries, keys and values with contiguous heads; published channel c is element c // heads of head c % heads."""
    w, b = _after_norm(read, f"{key}.norm1", f"{key}.qkv_proj")
    dim = w.shape[0] // 3
    order = np.arange(dim).reshape(dim // heads, heads).T.reshape(-1)
    w, b = (a.reshape(3, dim, *a.shape[1:])[:, order] for a in (w, b))
    w, b = (maths.concatenate([a[:1] * (LOG2_E / math.sqrt(dim // heads)), a[1:]], axis=0) for a in (w, b))
    return w.reshape(3 * dim, 1, 1, -1), b.reshape(-1)


def _gdn(read: Read, key: str, maths: Maths) -> tuple[Any, Any]:
    gamma = maths.maximum(read(f"{key}.gamma"), GAMMA_BOUND) ** 2 - PEDESTAL
    beta = maths.maximum(read(f"{key}.beta"), BETA_BOUND) ** 2 - PEDESTAL
    return gamma, beta


def _conv(op: Op, read: Read, maths: Maths) -> tuple[Any, Any]:
    key = published_key(op.name)
    part, _, rest = op.name.partition("/")
    leaf = rest.split("/")[-1]
    if part == "local" and leaf == "qkv":
        module = key.rsplit(".", 1)[0]
        return _qkv(read, module, int(read(f"{module}.relative_position_table").shape[1]), maths)
    if part == "local" and leaf == "fc1":
        return _after_norm(read, key.replace("mlp.fc1", "norm2"), key)
    w, b = _filters(read, key)
    if part == "local" and leaf == "fusion":
        return w.reshape(w.shape[0], 1, 1, -1), b
    if part == "inter" and leaf == "mlp2":
        skip, skip_bias = _filters(read, key.replace("mlp.4", "skip"))
        return maths.concatenate([skip, w], axis=3), b + skip_bias
    if leaf in ("keys1", "queries1"):
        return w * LOG2_E, b * LOG2_E
    if op.name in ("g_a/0/conv1", "g_a/0/skip"):
        return w / 255, b
    if op.name == "g_s/7":
        return w * 255, b * 255
    return w, b


def published_weights(op: Op, weight: np.ndarray, state: State) -> dict[str, np.ndarray]:
    """Undo what ``float_layers`` folds into the weights of a convolution.

    Parameters
    ----------
    op : Op
        The convolution.
    weight : np.ndarray [Co, k, k, Ci], float64
        As in ``FloatLayer``.
    state : mapping
        The affine parts of the normalisations. An input that its norm multiplies by zero gets zeros.

    Returns
    -------
    dict
        One published tensor, two for the last layer of an inter-slice context; shapes [Co, Ci, k, k].
    """
    key, w = f"{published_key(op.name)}.weight", weight
    part, leaf = op.name.split("/")[0], op.name.split("/")[-1]
    if part == "inter" and leaf == "mlp2":
        split = op.channels * 3 // 2  # 3 ch of the skip connection, for op.channels = 2 ch
        skip = key.replace("mlp.4", "skip")
        return {skip: w[..., :split].transpose(0, 3, 1, 2), key: w[..., split:].transpose(0, 3, 1, 2)}
    if part == "local" and leaf == "qkv":
        module = key.removesuffix(".qkv_proj.weight")
        heads = state[f"{module}.relative_position_table"].shape[1]
        dim = op.channels // 3
        w = w.reshape(3, heads, dim // heads, -1).swapaxes(1, 2).reshape(3, dim, -1).copy()
        w[0] /= LOG2_E / math.sqrt(dim // heads)
        w = _without(w.reshape(3 * dim, 1, 1, -1), state[f"{module}.norm1.weight"])
    elif part == "local" and leaf == "fc1":
        w = _without(w, state[key.replace("mlp.fc1", "norm2")])
    elif part == "local" and leaf == "fusion":
        w = w.reshape(op.channels, 5, 5, -1)
    elif leaf in ("keys1", "queries1"):
        w = w / LOG2_E
    elif op.name in ("g_a/0/conv1", "g_a/0/skip"):
        w = w * 255
    elif op.name == "g_s/7":
        w = w / 255
    return {key: w.transpose(0, 3, 1, 2)}


def _without(w: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    without: np.ndarray = np.divide(w, gamma, out=np.zeros_like(w), where=gamma != 0)
    return without


def folded(op: Op, read: Read, maths: Maths) -> FloatLayer:
    """Fold the published tensors of one operation, of any library.

    Parameters
    ----------
    op : Op
    read : callable
        From a published name to a tensor.
    maths : Maths
        Functions of the library.

    Returns
    -------
    FloatLayer
    """
    if op.kind == "conv":
        weight, bias = _conv(op, read, maths)
        return FloatLayer(op, weight, bias)
    if op.kind in ("gdn", "igdn"):
        gamma, beta = _gdn(read, published_key(op.name), maths)
        return FloatLayer(op, gamma=gamma, beta=beta)
    if op.kind == "gain":
        return FloatLayer(op, log_gain=read(GAINS[op.name]))
    if op.kind == "local_attention":
        return FloatLayer(op, bias=read(f"local_context.{op.name.split('/')[1]}.relative_position_table") * LOG2_E)
    return FloatLayer(op)


def float_layers(config: Config, state: State, where: str = "state dict") -> dict[str, FloatLayer]:
    """Every operation of a configuration in float64.

    Parameters
    ----------
    config : Config
    state : mapping of str to np.ndarray
        Published tensors by name.
    where : str
        Names the state dict in errors.

    Returns
    -------
    dict of str to FloatLayer

    Raises
    ------
    InvalidModel
        As ``check_state``.
    """
    check_state(config, state, where)
    ones = {GAINS[op.name]: np.zeros((1, op.channels)) for op in layer_table(config) if op.kind == "gain"}

    def read(name: str) -> np.ndarray:
        return (state[name] if name in state else ones[name]).astype(np.float64)

    layers = {op.name: folded(op, read, _NUMPY) for op in layer_table(config)}
    return {
        name: layer if layer.weight is None else replace(layer, weight=np.ascontiguousarray(layer.weight))
        for name, layer in layers.items()
    }


def step_quality(config: Config, step: int) -> float:
    """(SPEC 6.9) Fractional level of quality 1..100: (Q - 1)(step - 1) / 99."""
    return (config.qualities - 1) * (step - 1) / 99


def gains(log_gain: np.ndarray, config: Config) -> np.ndarray:
    """Gains by step [steps, C]: logarithms interpolated linearly between the levels."""
    q = np.array([step_quality(config, n + 1) for n in range(config.steps)])
    i = np.minimum(np.floor(q).astype(int), max(config.qualities - 2, 0))
    t = (q - i)[:, None]
    above = np.minimum(i + 1, config.qualities - 1)
    factors: np.ndarray = np.exp(log_gain[i] * (1 - t) + log_gain[above] * t)
    return factors
