"""Names, shapes and buffers of the published network (SPEC annex B), and the constants of its classes.

The names are those of the PyTorch code of LoC-LIC and MLIC++. They all follow from the layer table of a configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from refcodec.arith.numpy_ops import RELATIVE
from refcodec.errors import InvalidModel
from refcodec.model.config import Config
from refcodec.model.layer_table import layer_table

State = Mapping[str, np.ndarray]

PEDESTAL = 2.0**-36
BETA_BOUND = math.sqrt(1e-6 + PEDESTAL)
GAMMA_BOUND = math.sqrt(PEDESTAL)

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

GAINS = {"y": "gain", "z": "hyper_gain", "h_s/input": "hyper_inv_gain", "g_s/input": "inv_gain"}
"""Quality gains by the operation that multiplies by them. Published checkpoints lack them, which means gains of one."""

_BLOCK_PARTS = {"subpel": "subpel_conv.0", "upsample": "upsample.0"}
_H_S = ("0", "2.0", "4", "6.0", "8")
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
            shapes[GAINS[op.name]] = (config.qualities, op.channels)
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

    Parameters
    ----------
    config : Config
    state : mapping of str to array
        Published tensors by name.
    where : str
        Names the state dict in errors.

    Raises
    ------
    InvalidModel
        Tensors are missing, unknown or of another shape; up to ``MOST_NAMED`` of each are named at once.
    """
    expected = published_shapes(config, config.qualities > 1 or any(name in state for name in GAINS.values()))
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
