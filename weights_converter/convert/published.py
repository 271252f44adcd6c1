"""Which published tensors become which layer: the layer table of a configuration in float (SPEC annex B).

Published names are those of the PyTorch code of LoC-LIC and MLIC++. What the integer model folds away is folded here,
in float: 1/255 into the first layers and 255 into the last, LayerNorm's affine part into the linear layer behind it,
log2(e) and the scale of attention into queries and biases, and the two parallel convolutions at the end of the
inter-slice context into one over both inputs. ``float_layers`` folds arrays for the converter; ``folded`` also folds
tensors of other libraries, so that training sends gradients back through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from refcodec.arith.numpy_ops import RELATIVE
from refcodec.errors import InvalidModel
from refcodec.model.config import Config
from refcodec.model.layer_table import Op, layer_table

State = Mapping[str, np.ndarray]

Read = Callable[[str], Any]
"""Gives a published tensor by name: an array, or a tensor of another library."""

PEDESTAL = 2.0**-36
BETA_BOUND = math.sqrt(1e-6 + PEDESTAL)
GAMMA_BOUND = math.sqrt(PEDESTAL)
LOG2_E = 1 / math.log(2)
NORM_EPSILON = 1e-5

SCALE_MIN = 0.11
"""Lower bound of a Gaussian's standard deviation (``scale_bound``)."""

LIKELIHOOD_MIN = 1e-9
"""Lower bound of a likelihood (``likelihood_lower_bound``), so that its logarithm stays finite in training."""

MOST_NAMED = 12
"""Most tensors of a kind that one message names."""

TAIL_MASS = 1e-9
"""Probability outside the quantiles of z that the published auxiliary loss aims at (``tail_mass``)."""

BOTTLENECK_WIDTHS = (1, 3, 3, 3, 3, 1)
"""Widths of the monotone network that is the factorized density of z."""


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
    limit: int = 1  # truthy: the result is a map, as of an integer layer with a clamp

    @cached_property
    def matrix(self) -> tuple[np.ndarray, np.ndarray]:
        """Of a convolution, in float32: weights [k * k * Ci, Co], of a depthwise one [k * k, C], and biases [Co]."""
        assert self.weight is not None and self.bias is not None
        weight = self.weight.astype(np.float32).reshape(self.op.channels, -1).T
        return np.ascontiguousarray(weight), self.bias.astype(np.float32)

    @property
    def kernel(self) -> int:
        """Side of the filter."""
        return self.op.kernel

    @property
    def stride(self) -> int:
        """Stride of the convolution."""
        return self.op.stride

    @property
    def shuffle(self) -> bool:
        """Whether a pixel shuffle follows."""
        return self.op.shuffle

    @property
    def depthwise(self) -> bool:
        """Whether every channel has a filter of its own."""
        return self.op.depthwise

    @property
    def heads(self) -> int:
        """Heads of an attention."""
        return self.op.heads


@dataclass(frozen=True)
class Maths:
    """What folding needs beside methods: ``maximum(tensor, number)`` and ``concatenate(tensors, axis=n)``."""

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


_BLOCK_PARTS = {"subpel": "subpel_conv.0", "upsample": "upsample.0"}
_H_S = ("0", "2.0", "4", "6.0", "8")
_GAINS = {"y": "gain", "z": "hyper_gain", "h_s/input": "hyper_inv_gain", "g_s/input": "inv_gain"}
_HEADS = {
    "ep_anchor": "entropy_parameters_anchor",
    "ep_nonanchor": "entropy_parameters_nonanchor",
    "lrp_anchor": "lrp_anchor",
    "lrp_nonanchor": "lrp_nonanchor",
}


def published_key(name: str) -> str:
    """The published module of a convolution, GDN or linear layer by its name in the layer table."""
    part, *rest = name.split("/")
    if part in ("g_a", "g_s"):
        module = {"g_a": "g_a.analysis_transform", "g_s": "g_s.synthesis_transform"}[part]
        if name == "g_s/7":
            return f"{module}.7.0"
        return ".".join([module, rest[0], *(_BLOCK_PARTS.get(r, r) for r in rest[1:])])
    if part == "h_a":
        return f"h_a.reduction.{2 * int(rest[0])}"
    if part == "h_s":
        return f"h_s.increase.{_H_S[int(rest[0])]}"
    i, leaf = rest
    if part == "chan":
        return f"channel_context.{i}.fushion.{2 * int(leaf)}"
    if part in ("inter", "intra"):
        module = f"global_{part}_context.{i}"
        if leaf.startswith("mlp"):
            return f"{module}.mlp.{2 * int(leaf[3:])}"
        return f"{module}.{leaf}" if leaf == "reprojection" else f"{module}.{leaf[:-1]}.{leaf[-1]}"
    if part == "local":
        return f"local_context.{i}." + {"fc1": "mlp.fc1", "fc2": "mlp.fc2", "qkv": "qkv_proj"}.get(leaf, leaf)
    return f"{_HEADS[part]}.{i}.{'fusion' if part.startswith('ep') else 'lrp_transform'}.{2 * int(leaf)}"


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
    weight : np.ndarray [Co, k, k, Ci] float64
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


def published_shapes(config: Config, gained: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of every published tensor of a configuration; ``gained`` adds the four quality gains."""
    shapes: dict[str, tuple[int, ...]] = {}
    ch = config.ch

    def module(key: str, weight: tuple[int, ...]) -> None:
        shapes.update({f"{key}.weight": weight, f"{key}.bias": weight[:1]})

    for op in layer_table(config):
        key = published_key(op.name) if op.kind in ("conv", "gdn", "igdn") else ""
        part, leaf = op.name.split("/")[0], op.name.split("/")[-1]
        if op.kind in ("gdn", "igdn"):
            shapes.update({f"{key}.beta": (op.channels,), f"{key}.gamma": (op.channels, op.channels)})
        elif part == "inter" and leaf == "mlp2":
            module(key.replace("mlp.4", "skip"), (op.channels, 3 * ch, 1, 1))
            module(key, (op.channels, 4 * ch, 1, 1))
        elif part == "local" and op.kind == "conv":
            fusion = (op.channels, ch, config.window, config.window)
            module(key, fusion if leaf == "fusion" else (op.channels, op.in_channels))
        elif op.kind == "conv":
            module(key, (op.channels, 1 if op.depthwise else op.in_channels, op.kernel, op.kernel))
        elif op.kind == "norm":
            shapes.update(
                {f"local_context.{op.name.split('/')[1]}.{leaf}.{part}": (op.channels,) for part in ("weight", "bias")}
            )
        elif op.kind == "local_attention":
            key = f"local_context.{op.name.split('/')[1]}.relative_position_table"
            shapes[key] = ((2 * config.window - 1) ** 2, op.heads)
        elif op.kind == "gain" and gained:
            shapes[_GAINS[op.name]] = (config.qualities, op.channels)
    for n, (a, b) in enumerate(pairwise(BOTTLENECK_WIDTHS)):
        shapes[f"entropy_bottleneck._matrix{n}"] = (config.hyper, b, a)
        shapes[f"entropy_bottleneck._bias{n}"] = (config.hyper, b, 1)
        if n + 2 < len(BOTTLENECK_WIDTHS):
            shapes[f"entropy_bottleneck._factor{n}"] = (config.hyper, b, 1)
    shapes["entropy_bottleneck.quantiles"] = (config.hyper, 1, 3)
    return shapes


def published_buffers(config: Config) -> dict[str, np.ndarray]:
    """The buffers that the published class keeps next to its parameters, as its constructor makes them.

    Tables of the entropy coder are empty, as before the class's ``update()``, which computes them from the parameters.

    Returns
    -------
    dict
        float32, and for indices int32 or int64, as CompressAI 1.2.8 has them.
    """
    buffers: dict[str, np.ndarray] = {}

    def number(name: str, value: float) -> None:
        buffers[name] = np.full(1, value, np.float32)

    for op in layer_table(config):
        if op.kind in ("gdn", "igdn"):
            for name, bound in (("beta", BETA_BOUND), ("gamma", GAMMA_BOUND)):
                number(f"{published_key(op.name)}.{name}_reparam.pedestal", PEDESTAL)
                number(f"{published_key(op.name)}.{name}_reparam.lower_bound.bound", bound)
        elif op.kind == "local_attention":
            buffers[f"local_context.{op.name.split('/')[1]}.relative_position_index"] = RELATIVE.astype(np.int64)
    for part in ("entropy_bottleneck", "gaussian_conditional"):
        buffers |= {f"{part}.{name}": np.zeros(0, np.int32) for name in ("_offset", "_quantized_cdf", "_cdf_length")}
        number(f"{part}.likelihood_lower_bound.bound", LIKELIHOOD_MIN)
    tail = math.log(2 / TAIL_MASS - 1)
    buffers["entropy_bottleneck.target"] = np.array([-tail, 0, tail], np.float32)
    buffers["gaussian_conditional.scale_table"] = np.zeros(0, np.float32)
    number("gaussian_conditional.scale_bound", SCALE_MIN)
    number("gaussian_conditional.lower_bound_scale.bound", SCALE_MIN)
    return buffers


def check_state(config: Config, state: State, where: str = "state dict") -> None:
    """Check names and shapes of published tensors; a network of one quality may lack gains.

    Raises
    ------
    InvalidModel
        Tensors are missing, unknown or of another shape; up to ``MOST_NAMED`` of each are named at once.
    """
    expected = published_shapes(config, config.qualities > 1 or any(name in state for name in _GAINS.values()))
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    misshapen = [
        f"{name}: {list(state[name].shape)} instead of {list(shape)}"
        for name, shape in sorted(expected.items())
        if name in state and state[name].shape != shape
    ]
    if missing or unknown or misshapen:
        wrong: dict[str, Any] = {}
        for kind, names in (("missing", missing), ("unknown", unknown), ("misshapen", misshapen)):
            if names:
                more = len(names) - MOST_NAMED
                wrong[kind] = names[:MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])
        raise InvalidModel("the tensors do not fit the configuration", where=where, **wrong)


def folded(op: Op, read: Read, maths: Maths) -> FloatLayer:
    """One operation from published tensors of any library."""
    if op.kind == "conv":
        weight, bias = _conv(op, read, maths)
        return FloatLayer(op, weight, bias)
    if op.kind in ("gdn", "igdn"):
        gamma, beta = _gdn(read, published_key(op.name), maths)
        return FloatLayer(op, gamma=gamma, beta=beta)
    if op.kind == "gain":
        return FloatLayer(op, log_gain=read(_GAINS[op.name]))
    if op.kind == "local_attention":
        return FloatLayer(op, bias=read(f"local_context.{op.name.split('/')[1]}.relative_position_table") * LOG2_E)
    return FloatLayer(op)


def float_layers(config: Config, state: State, where: str = "state dict") -> dict[str, FloatLayer]:
    """Every operation of a configuration in float64; ``where`` names the state dict in errors.

    Raises
    ------
    InvalidModel
        As ``check_state``.
    """
    check_state(config, state, where)
    ones = {_GAINS[op.name]: np.zeros((1, op.channels)) for op in layer_table(config) if op.kind == "gain"}

    def read(name: str) -> np.ndarray:
        return (state[name] if name in state else ones[name]).astype(np.float64)

    layers = {op.name: folded(op, read, _NUMPY) for op in layer_table(config)}
    return {
        name: layer if layer.weight is None else replace(layer, weight=np.ascontiguousarray(layer.weight))
        for name, layer in layers.items()
    }


def step_quality(config: Config, step: int) -> float:
    """(SPEC 6.9) Fractional level of quality step 1..100: (Q - 1)(step - 1) / 99."""
    return (config.qualities - 1) * (step - 1) / 99


def gains(log_gain: np.ndarray, config: Config) -> np.ndarray:
    """Gains by step [steps, C]: logarithms interpolated linearly between the levels."""
    q = np.array([step_quality(config, n + 1) for n in range(config.steps)])
    i = np.minimum(np.floor(q).astype(int), max(config.qualities - 2, 0))
    t = (q - i)[:, None]
    above = np.minimum(i + 1, config.qualities - 1)
    factors: np.ndarray = np.exp(log_gain[i] * (1 - t) + log_gain[above] * t)
    return factors
