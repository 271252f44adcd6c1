"""A constructed model of narrow clamps: random weights, and every tensor meets its clamp on both sides again and again.

Clamps lie inside the range of GELU where there is one, so that its least values are clamped as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import numpy as np

from refcodec.model.layer_table import Op, layer_table
from refcodec.model.procedural import draws
from refcodec.model.proof import GDN_MAX, INT16_MAX, INT32_MAX
from refcodec.model.tables import load_arrays

from .limits import CONFIG
from .procedural import Content, model_source
from .wires import blank, z_arrays

SEED = 13

RESCALES = {"ctx/0": 0, "ctx/1": 9, "ctx/2": 12, "h_a/input": 1}
"""Shifts of the narrower copies."""


def _formats(ops: tuple[Op, ...]) -> dict[str, tuple[int, int]]:
    """Fraction bits and clamp of every tensor."""
    tables, found = load_arrays(), dict[str, tuple[int, int]]()
    for n, op in enumerate(ops):
        frac, limit = 4 + n % 9, int(draws(SEED, f"clamp/{op.name}", 1, 3, 40)[0])
        if op.wide:
            limit = 0
        elif op.kind == "norm":
            frac, limit = 10, INT16_MAX
        elif op.gelu:
            limit = max(1, int(tables[f"gelu_q{frac}"].max()) // 2)
        elif op.name.endswith("/values1"):
            limit = 42  # times 2^12, the context is clamped at 32767
        elif op.kind == "local_attention":
            limit = max(1, found[op.inputs[0]][1] // 8)
        elif op.kind in ("gdn", "igdn"):
            limit = max(1, found[op.inputs[0]][1] // 4)
        elif op.kind == "rescale":
            limit = min(limit, INT16_MAX >> RESCALES.get(op.name, 0) + 1)
        elif op.name.startswith("lrp_"):
            limit = 2 * tables[f"half_tanh_q{frac}"].size
        elif op.name == "g_s/7":
            limit = 400
        found[op.name] = frac, limit
    return found


def _conv(op: Op, frac: int, clamps: Mapping[str, int], widths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Even weights, as large as the bound allows; shifts by which a deviation of the sum is one to two clamps.

    With GELU it is 1 to 2 before it, for its least values lie near -0.75.
    """
    taps, name = op.kernel**2, f"layers/{op.name}"
    each = taps * sum(clamps[n] * (1 if op.depthwise else widths[n]) for n in op.inputs)
    usual = taps * sum(min(clamps[n], 1024) ** 2 * (1 if op.depthwise else widths[n]) for n in op.inputs)
    size = min(INT16_MAX, INT32_MAX // (4 * each))
    deviation = max(1, isqrt(size**2 * usual // 3))
    inputs = 1 if op.depthwise else op.in_channels
    shape = (op.channels, op.kernel, op.kernel, inputs)
    weight = draws(SEED, f"{name}/weight", int(np.prod(shape)), -size, 2 * size + 1).astype(np.int16).reshape(shape)
    constants = np.zeros((op.channels, 3), np.int64)
    aims = [30000, 60000] if op.wide else [1 << frac] if op.gelu else [clamps[op.name]]
    for n in range(op.channels):
        aim = aims[n * len(aims) // op.channels]
        constants[n, 1] = min(30, max(0, (deviation // aim).bit_length() - 1))
    constants[:, 0] = draws(SEED, f"{name}/bias", op.channels, -deviation, 2 * deviation + 1)
    if op.name == "g_s/7":
        constants[:, 0] += 128 << constants[:, 1]
    if op.add:
        constants[:, 2] = min(30, (deviation // clamps[op.add]).bit_length())
    return {"weight": weight, "constants": constants.astype(np.int32)}


def _gdn(op: Op, clamp: int) -> dict[str, np.ndarray]:
    """(SPEC 9.2-3) Gammas as large as the bound allows; every other channel has the root 2^25, which makes ties."""
    c, square = op.channels, clamp**2
    gamma = draws(SEED, f"layers/{op.name}/gamma", c * c, 0, 1 << 16).reshape(c, c) * ((GDN_MAX >> 18) // (c * square))
    gamma[::2] = 0
    gamma[1, 0] = (GDN_MAX - 2) // square - gamma[1, 1:].sum()  # nearly all of the range in one
    beta = np.full(c, 1, np.int64)
    beta[::2] = 1 << 50
    return {"gamma": gamma, "beta": beta, "constants": np.array([26], np.int32)}


def _other(op: Op, steps: int) -> dict[str, np.ndarray]:
    """Shifts over their ranges, by name."""
    name = f"layers/{op.name}"
    if op.kind == "gain":
        multiplier = (1 << 14) + draws(SEED, f"{name}/multiplier", steps * op.channels, 0, 1 << 14)
        shift = np.tile(1 + np.arange(steps)[:, None] * 7 % 30, (1, op.channels))
        return {"multiplier": multiplier.astype(np.int32).reshape(steps, -1), "shift": shift.astype(np.int32)}
    if op.kind == "sum":
        return {"constants": np.array([0, draws(SEED, name, 1, 0, 4)[0], 1], np.int32)}
    if op.kind == "rescale":
        return {"constants": np.array([RESCALES[op.name]], np.int32)}
    if op.kind == "norm":
        return {"constants": np.array([1], np.int64)}
    if op.kind == "local_attention":
        bias = draws(SEED, f"{name}/bias", 81 * op.heads, -(1 << 17), 1 << 18)
        return {"bias": bias.astype(np.int32).reshape(81, op.heads), "constants": np.array([1], np.int32)}
    context = 12 if op.name.startswith("inter/") else 11
    return {"constants": np.append(draws(SEED, name, 2, 10, 5), context).astype(np.int32)}


@model_source("narrow")
def narrow() -> Content:
    """Random weights and narrow clamps, which every tensor meets on both sides, inside GELU's negative range too."""
    ops = layer_table(CONFIG)
    found = _formats(ops)
    clamps = {name: limit for name, (_, limit) in found.items()}
    clamps |= {"x": 255, "hyper_means": clamps["h_s/4"], "y_hat": INT16_MAX, "z_hat": INT16_MAX}
    widths = {op.name: op.channels // 4 if op.shuffle else op.channels for op in ops}
    widths |= {"x": 3, "hyper_means": CONFIG.M}
    content = blank(CONFIG)
    content.update(z_arrays([(-4, [*range(0, 9 * 6000, 6000), 60000, 65536])] * CONFIG.hyper))
    for n, op in enumerate(ops):
        content["formats"][n] = found[op.name]
        arrays = (
            _conv(op, found[op.name][0], clamps, widths)
            if op.kind == "conv"
            else _gdn(op, clamps[op.inputs[0]])
            if op.kind in ("gdn", "igdn")
            else _other(op, CONFIG.steps)
        )
        content.update({f"layers/{op.name}/{name}": array for name, array in arrays.items()})
    return content
