"""Models for tests, small enough for SPEC's own decoder: made from seeds, calibrated, quantised and proved."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
from spec import spec_module

from conformance.synthetic.models.limits import CONFIG
from refcodec.model.config import Config
from refcodec.model.integer_model import Model, build_model
from refcodec.model.layer_table import Op, layer_table
from weights_converter.convert.calibrate import calibrate, choose_formats
from weights_converter.convert.code_length import Bottleneck
from weights_converter.convert.folding import FloatLayer
from weights_converter.convert.quantise import quantise

TINY = CONFIG
"""Every part of the network, with two and four heads of the inter attention."""

TINY_OLD = Config(
    N=(4, 4, 6),
    M=12,
    slices=2,
    hyper=2,
    hs=(4, 6),
    chan=(4, 4),
    ent=(6, 4, 4),
    lrp=(),
    local_heads=3,
    intra_heads=1,
    inter_head_width=32,
    old_synthesis=True,
)
"""The older g_s and LRP, one quality, and other numbers of heads."""


def random_picture(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Smooth waves and noise: [height, width, 3] or [height, width] uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / (5 + 3 * c) + c) * np.cos(y / (7 + 2 * c)) for c in range(3)], axis=2)
    samples = np.clip(128 + 90 * waves + rng.normal(0, 25, waves.shape), 0, 255).astype(np.uint8)
    return samples if channels == 3 else np.ascontiguousarray(samples[:, :, 0])


def _random_layer(op: Op, config: Config, rng: np.random.Generator) -> FloatLayer:
    if op.kind == "conv":
        inputs = 1 if op.depthwise else op.in_channels
        weight = rng.normal(0, 1.4 / np.sqrt(op.kernel**2 * inputs), (op.channels, op.kernel, op.kernel, inputs))
        bias = rng.normal(0, 0.2, op.channels)
        if op.name in ("g_a/0/conv1", "g_a/0/skip"):
            weight /= 64
        if any(name.startswith(("ctx/", "hyper_means")) or name == "h_a/input" for name in op.inputs):
            weight /= 8  # latents span tens of steps
        if op.name.startswith("g_s/") and op.name.endswith("/conv"):
            weight /= 4  # IGDN squares
        if op.name == "g_s/7":
            weight, bias = weight * 20, bias + 128
        if op.wide:
            bias[: op.channels // 2] = rng.uniform(-0.2, 3, op.channels // 2)
        return FloatLayer(op, weight, bias)
    if op.kind in ("gdn", "igdn"):
        strength = 0.1 if op.kind == "gdn" else 0.02
        gamma = np.abs(rng.normal(0, strength, (op.channels, op.channels)))
        gamma *= rng.random((op.channels, op.channels)) < 0.7
        return FloatLayer(op, gamma=gamma, beta=rng.uniform(0.2, 1.5, op.channels))
    if op.kind == "gain":
        start, end = {"y": (0.5, 2), "z": (2, 3), "h_s/input": (-2, -3), "g_s/input": (-2.5, -4)}[op.name]
        levels = np.linspace(start, end, config.qualities)[:, None]
        return FloatLayer(op, log_gain=levels + rng.normal(0, 0.2, (config.qualities, op.channels)))
    if op.kind == "local_attention":
        return FloatLayer(op, bias=rng.normal(0, 1, (81, op.heads)))
    return FloatLayer(op)


def _bottleneck(config: Config, rng: np.random.Generator) -> Bottleneck:
    widths, state = (1, 3, 3, 3, 3, 1), {}
    for n, (inputs, outputs) in enumerate(pairwise(widths)):
        state[f"_matrix{n}"] = rng.normal(0.2, 0.3, (config.hyper, outputs, inputs))
        state[f"_bias{n}"] = rng.uniform(-0.5, 0.5, (config.hyper, outputs, 1))
        if n < 4:
            state[f"_factor{n}"] = rng.normal(0, 0.3, (config.hyper, outputs, 1))
    state["quantiles"] = rng.normal(0, 0.6, (config.hyper, 1, 3))
    return Bottleneck({f"entropy_bottleneck.{name}": array for name, array in state.items()})


@cache
def tiny_content(config: Config = TINY, seed: int = 1) -> dict[str, np.ndarray]:
    """The arrays of a random model."""
    rng = np.random.default_rng(seed)
    floats = {op.name: _random_layer(op, config, rng) for op in layer_table(config)}
    bottleneck = _bottleneck(config, rng)
    steps = sorted({1, config.steps})
    formats = choose_formats(config, calibrate(config, floats, bottleneck, [random_picture(64, 64)], steps))
    return quantise(config, floats, formats, bottleneck)


@cache
def tiny_model(config: Config = TINY, seed: int = 1) -> Model:
    """A random model, proved by the loader."""
    return build_model(tiny_content(config, seed), "tiny")


@cache
def spec_model(config: Config = TINY, seed: int = 1):
    """The same model as SPEC's blocks build it from the same arrays."""
    return spec_module().build_model(spec_content(tiny_content(config, seed)))


def spec_content(content):
    """Arrays as SPEC 10.2 writes them: pairs of type and nested lists."""
    return {name: (str(array.dtype), array.tolist()) for name, array in content.items()}
