"""A constructed model in which one stream drives every accumulator of a convolution to the proof's bound, 2^31 - 1.

Every channel of every tensor has a sign, with which it meets its clamp when all symbols of the stream have the
magnitude 32767 and the signs of their channels. Weights have the sign of the input's channel times the output's, so all
products of a sum have one sign; biases fill up what is missing to 2^31 - 1, shifts leave more than the clamp.

What the structure forbids stays below: normalised vectors never come near their clamp of 32767, anchors are coded while
non-anchors hold 0, and sums over positions would need a picture of 2^31 samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refcodec.model.config import Config
from refcodec.model.layer_table import Op, layer_table
from refcodec.model.procedural import draws
from refcodec.model.proof import GDN_MAX, INT16_MAX, INT32_MAX

from .procedural import Content, model_source
from .wires import blank, z_arrays

SEED = 31

CONFIG = Config(
    N=(4, 6, 8),
    M=24,
    slices=3,
    hyper=4,
    hs=(6, 8),
    chan=(6, 4),
    ent=(8, 6, 4),
    lrp=(6, 4),
    inter_head_width=4,
    qualities=3,
)

ATTENTION_LIMIT, CONTEXT_COPY_LIMIT = 1000, 16000
"""Clamps that results of attentions and context copies always meet."""

Z_TABLE = (-8, [*range(0, 17 * 3000, 3000), 65000, 65536])


def signs(ops: tuple[Op, ...]) -> dict[str, np.ndarray]:
    """The sign of every channel by tensor; 0 for a channel that is 0 and that no layer reads.

    Channels behind GELU are positive, but for the last of those that only convolutions read: its accumulator goes to
    the lower bound. Other signs alternate, in one order or the other; a branch and what it joins have equal signs.
    """
    branches = {op.add for op in ops} | {name for op in ops if op.kind == "sum" for name in op.inputs}
    depthwise = {name for op in ops if op.depthwise for name in op.inputs}
    found: dict[str, np.ndarray] = {"x": np.ones(3, int)}
    for name, channels in (("z_hat", CONFIG.hyper), ("y_hat", CONFIG.M)):
        found[name] = _alternating(channels, name)
    for i in range(CONFIG.slices):
        found[f"y_hat/{i}"] = found["y_hat"][i * CONFIG.ch : (i + 1) * CONFIG.ch]
    for op in ops:
        channels = op.channels // 4 if op.shuffle else op.channels
        if op.kind in ("gain", "rescale", "norm", "gdn", "igdn", "sum"):
            found[op.name] = found[op.inputs[0]]
        elif op.kind == "local_attention":
            found[op.name] = np.tile(found[op.inputs[0]][2 * CONFIG.ch :], 25)
        elif op.kind == "linear_attention":
            found[op.name] = found[op.inputs[2]]
        elif op.gelu or op.name == "g_s/7":
            found[op.name] = np.ones(channels, int)
            if op.name not in branches | depthwise and not op.shuffle:
                found[op.name][-1] = 0
        elif op.add:
            found[op.name] = found[op.add]
        elif op.name.startswith("lrp_"):
            found[op.name] = found[f"y_hat/{op.name.split('/')[1]}"]
        else:
            found[op.name] = _alternating(channels, op.name)
    found["hyper_means"] = found["h_s/4"][CONFIG.M :]
    return found


def _alternating(channels: int, name: str) -> np.ndarray:
    """Signs in turn; queries and keys of a local attention alike, so that their products add up."""
    first = 1 if name.endswith("/qkv") else int(draws(SEED, f"signs/{name}", 1, 0, 2)[0])
    return 1 - 2 * ((np.arange(channels) + first) % 2)


def _clamps(ops: tuple[Op, ...]) -> dict[str, int]:
    """The clamp of every tensor: 32767, or less where it is to be met in any case."""
    found = {op.name: INT16_MAX for op in ops}
    for op in ops:
        if op.kind.endswith("attention"):
            found[op.name] = ATTENTION_LIMIT
        elif op.name.startswith("ctx/"):
            found[op.name] = CONTEXT_COPY_LIMIT
    return found


def _conv(op: Op, found: Mapping[str, np.ndarray], clamps: Mapping[str, int]) -> dict[str, np.ndarray]:
    """(SPEC 9.2-2) Weights of one magnitude an output, so that the greatest accumulator is 2^31 - 1 or its negative."""
    taps = op.kernel**2
    inputs = np.concatenate([found[name] for name in op.inputs])
    greatest = np.concatenate([np.full(found[name].size, clamps.get(name, INT16_MAX)) for name in op.inputs])
    if op.inputs[0] == "x":
        greatest[:] = 255
    target = found[op.name].repeat(4) if op.shuffle else found[op.name]
    target = np.where(target == 0, -1, target)
    branch = INT16_MAX if op.add else 0
    weight = np.zeros((op.channels, op.kernel, op.kernel, 1 if op.depthwise else inputs.size), np.int16)
    constants = np.zeros((op.channels, 3), np.int32)
    normal = any("/norm" in name for name in op.inputs)
    shift = draws(SEED, f"shifts/{op.name}", op.channels, 3 if normal else 9, 6)
    for n, sign in enumerate(target.tolist()):
        live = inputs[n : n + 1] if op.depthwise else inputs
        each = taps * int((np.abs(live) * (greatest[n : n + 1] if op.depthwise else greatest)).sum())
        room = INT32_MAX - (branch << 8)
        size = min(room // each, INT16_MAX)
        weight[n] = sign * live * size
        constants[n] = sign * (room - size * each), shift[n], 8 if op.add else 0
    if op.wide:
        constants[::3, 1] = 0
    return {"weight": weight, "constants": constants}


def _gain(op: Op, steps: int) -> dict[str, np.ndarray]:
    """(SPEC 10.2-9) Multipliers at both ends of their range; the greatest product is 32767^2."""
    multiplier = np.full((steps, op.channels), (1 << 15) - 1, np.int32)
    multiplier[1::2] = 1 << 14
    return {
        "multiplier": multiplier,
        "shift": np.tile(1 + np.arange(steps, dtype=np.int32)[:, None] % 14, (1, op.channels)),
    }


def _gdn(op: Op) -> dict[str, np.ndarray]:
    """(SPEC 9.2-3) beta + sum gamma x^2 is 2^52 - 1 where all |x| are 32767."""
    each = (GDN_MAX - 2) // (op.channels * INT16_MAX**2)
    gamma = np.full((op.channels, op.channels), each, np.int64)
    beta = np.full(op.channels, GDN_MAX - 1 - op.channels * each * INT16_MAX**2, np.int64)
    return {"gamma": gamma, "beta": beta, "constants": np.array([24 if op.kind == "igdn" else 36], np.int32)}


def _other(op: Op) -> dict[str, np.ndarray]:
    """(SPEC 9.2-5, 9.2-7) Sums near 2^31, logits near 2^33, shifts of linear attentions at their ends."""
    if op.kind == "sum":
        return {"constants": np.array([15, 14, 9], np.int32)}
    if op.kind == "rescale":
        return {"constants": np.array([1], np.int32)}
    if op.kind == "norm":
        return {"constants": np.array([(1 << 50) - 1 if op.name == "local/2/norm2" else 1], np.int64)}
    if op.kind == "local_attention":
        bias = draws(SEED, f"bias/{op.name}", 81 * op.heads, 0, 3) - 1
        return {"bias": (bias * INT32_MAX).astype(np.int32).reshape(81, op.heads), "constants": np.zeros(1, np.int32)}
    return {"constants": np.array([16, 16, 12] if op.name.startswith("inter/") else [0, 0, 0], np.int32)}


@model_source("limits")
def limits() -> Content:
    """Signs of weights by which one stream drives the accumulators to their bound of 2^31 - 1, layer after layer."""
    ops = layer_table(CONFIG)
    found, clamps = signs(ops), _clamps(ops)
    content = blank(CONFIG)
    content.update(z_arrays([Z_TABLE] * CONFIG.hyper))
    for n, op in enumerate(ops):
        if not op.wide:
            content["formats"][n, 1] = clamps[op.name]
        arrays = (
            _conv(op, found, clamps)
            if op.kind == "conv"
            else _gain(op, CONFIG.steps)
            if op.kind == "gain"
            else _gdn(op)
            if op.kind in ("gdn", "igdn")
            else _other(op)
        )
        content.update({f"layers/{op.name}/{name}": array for name, array in arrays.items()})
    return content
