"""A random state dict with published names for any configuration, in NumPy: what a small training would have saved."""

from itertools import pairwise

import numpy as np

from refcodec.model.config import PROFILES, Config
from refcodec.model.layer_table import layer_table
from weights_converter.convert.names import published_key

TINY = PROFILES["tiny"]


def published_state(config: Config, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights scaled so that activations stay near one."""
    rng = np.random.default_rng(seed)
    state: dict[str, np.ndarray] = {}

    def conv(key: str, shape: tuple[int, ...]) -> None:
        fan = int(np.prod(shape[1:]))
        state[f"{key}.weight"] = rng.normal(0, 1 / np.sqrt(fan), shape).astype(np.float32)
        state[f"{key}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)

    for op in layer_table(config):
        if op.kind in ("gdn", "igdn"):
            key = published_key(op.name)
            state[f"{key}.beta"] = np.sqrt(rng.uniform(0.8, 1.2, op.channels)).astype(np.float32)
            gamma = 0.1 * np.eye(op.channels) + rng.uniform(0, 0.01, (op.channels,) * 2)
            state[f"{key}.gamma"] = np.sqrt(gamma).astype(np.float32)
        if op.kind != "conv":
            continue
        key, ch = published_key(op.name), config.ch
        shape = (op.channels, 1 if op.depthwise else op.in_channels, op.kernel, op.kernel)
        if op.name.endswith("/fusion"):
            shape = (op.channels, ch, 5, 5)
        elif op.name.startswith("inter/") and op.name.endswith("/mlp2"):
            conv(key.replace("mlp.4", "skip"), (op.channels, 3 * ch, 1, 1))
            shape = (op.channels, 4 * ch, 1, 1)
        elif op.name.startswith("local/"):
            shape = shape[:2]
        conv(key, shape)
        if op.wide:  # scales that cover the latents: code lengths in the tails differ from the ideal by design
            state[f"{key}.bias"][:ch] += 3
    for i in range(config.slices):
        for norm, width in (("norm1", config.ch), ("norm2", 2 * config.ch)):
            state[f"local_context.{i}.{norm}.weight"] = rng.uniform(0.8, 1.2, width).astype(np.float32)
            state[f"local_context.{i}.{norm}.bias"] = rng.normal(0, 0.1, width).astype(np.float32)
        table = rng.normal(0, 0.3, (81, config.local_heads))
        state[f"local_context.{i}.relative_position_table"] = table.astype(np.float32)
    filters = (1, 3, 3, 3, 3, 1)
    for n, (a, b) in enumerate(pairwise(filters)):
        matrix = np.log(np.expm1(1 / 10.0**0.2 / b))
        state[f"entropy_bottleneck._matrix{n}"] = np.full((config.hyper, b, a), matrix, np.float32)
        state[f"entropy_bottleneck._bias{n}"] = rng.uniform(-0.5, 0.5, (config.hyper, b, 1)).astype(np.float32)
        if n < 4:
            state[f"entropy_bottleneck._factor{n}"] = rng.normal(0, 0.3, (config.hyper, b, 1)).astype(np.float32)
    state["entropy_bottleneck.quantiles"] = np.tile(np.float32([-10, 0.2, 10]), (config.hyper, 1, 1))
    if config.qualities > 1:
        levels = np.linspace(-0.7, 1.2, config.qualities, dtype=np.float32)[:, None]
        for name, width, sign in (
            ("gain", config.M, 1),
            ("inv_gain", config.M, -1),
            ("hyper_gain", config.hyper, 0.2),
            ("hyper_inv_gain", config.hyper, -0.2),
        ):
            state[name] = np.float32(sign) * levels * np.ones((1, width), np.float32)
    return state


PUBLISHED_LAYOUTS = {
    "paper": (1027, "d70b2cae7bc397d325b0fea9377d905ea9b00e14e1c0c6679bfdf5bc1d59852e"),
    "mlicpp": (1023, "63b982a6e167ad5850cbfe6200c17edcb3c92c26197b17f0f1892f01d3b0aed6"),
    "mlicpp-old": (1065, "bc5165970478c1823009bb4e7e0a2576f2313827004ecab077466eb1903e2562"),
}
"""Keys of the published classes' state dicts, recorded from classes built of CompressAI 1.2.8's own GDN,
EntropyBottleneck and GaussianConditional: their count, and the SHA-256 of the sorted lines "name type [shape]"."""


def published_buffer_keys(config: Config) -> set[str]:
    """Names of the buffers of the published class, written out."""
    gdns = [f"g_a.analysis_transform.{n}.gdn" for n in (0, 2, 4)]
    gdns += [f"g_s.synthesis_transform.{n}.igdn" for n in (1, 3, 5)]
    names = {
        f"{gdn}.{kind}_reparam.{leaf}"
        for gdn in gdns
        for kind in ("beta", "gamma")
        for leaf in ("pedestal", "lower_bound.bound")
    }
    names |= {
        f"{part}.{leaf}"
        for part in ("entropy_bottleneck", "gaussian_conditional")
        for leaf in ("_offset", "_quantized_cdf", "_cdf_length", "likelihood_lower_bound.bound")
    }
    names |= {f"gaussian_conditional.{leaf}" for leaf in ("scale_table", "scale_bound", "lower_bound_scale.bound")}
    names |= {f"local_context.{i}.relative_position_index" for i in range(config.slices)}
    return names | {"entropy_bottleneck.target"}


def picture(seed: int = 3, height: int = 64, width: int = 64) -> np.ndarray:
    """Smooth waves with a little noise: [height, width, 3] uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([128 + 80 * np.sin(x / (9 + n) + n) * np.cos(y / (7 - n)) for n in range(3)], axis=2)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
