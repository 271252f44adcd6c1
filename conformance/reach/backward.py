"""Which signs of symbols raise an accumulator, by the slopes of everything before it taken as linear.

Slopes run back from one output of a convolution through the layers that it reads, as if GELU, clamps and normalisations
were the identity and a linear attention gave the mean of its values. They end at the symbols, or at a local attention.
A guess, no bound: the search starts from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refcodec.model.integer_model import Model
from refcodec.model.layer_table import Op
from refcodec.model.layers import Conv

Slopes = dict[str, np.ndarray]
"""By tensor, float64 [h, w, C]; half maps are stored at whole positions."""


def _padded(x: np.ndarray, reach: int) -> np.ndarray:
    return np.pad(x, ((reach, reach), (reach, reach), (0, 0)))


def _conv(op: Op, layer: Conv, slopes: np.ndarray, widths: Mapping[str, int]) -> Slopes:
    """Slopes at a convolution's inputs, and at its branch."""
    if op.shuffle:
        h, w, c = slopes.shape
        slopes = slopes.reshape(h // 2, 2, w // 2, 2, c).transpose(0, 2, 4, 1, 3).reshape(h // 2, w // 2, 4 * c)
    scaled = slopes * np.ldexp(1.0, -layer.shift)
    reach = op.kernel // 2
    channels = scaled.shape[2] if op.depthwise else layer.weight.shape[3]
    total = np.zeros((*(n + 2 * reach for n in scaled.shape[:2]), channels))
    for dy in range(op.kernel):
        for dx in range(op.kernel):
            weight = layer.weight[:, dy, dx].astype(np.float64)
            part = scaled * weight[:, 0] if op.depthwise else scaled @ weight
            total[dy : dy + scaled.shape[0], dx : dx + scaled.shape[1]] += part
    total = total[reach : total.shape[0] - reach, reach : total.shape[1] - reach]
    ends = np.cumsum([widths[name] for name in op.inputs])
    found = dict(zip(op.inputs, np.split(total, ends[:-1], axis=2), strict=True))
    if op.add and layer.add_shift is not None:
        branch = scaled * np.ldexp(1.0, layer.add_shift)
        if op.shuffle:
            h, w, c = branch.shape
            branch = branch.reshape(h, w, c // 4, 2, 2).transpose(0, 3, 1, 4, 2).reshape(2 * h, 2 * w, c // 4)
        found[op.add] = branch + found.get(op.add, 0)
    return found


def _behind(op: Op, model: Model, slopes: np.ndarray, widths: Mapping[str, int]) -> Slopes:
    """Slopes at the inputs of one operation."""
    layer = model.layers[op.name]
    if isinstance(layer, Conv):
        return _conv(op, layer, slopes, widths)
    if op.kind == "local_attention":
        return {}
    if op.kind == "linear_attention":
        return {op.inputs[2]: np.broadcast_to(slopes.mean(axis=(0, 1)), slopes.shape).copy()}
    return {name: slopes.copy() for name in op.inputs}


def side_of(op: Op) -> int:
    """Positions of a convolution's result, before a shuffle, along a side of a block of 64x64 samples."""
    return round(float(64 * op.positions**0.5))


def symbol_slopes(
    model: Model, name: str, output: int, at: tuple[int, int], blocks: int
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of one output of a convolution, at one position, by the symbols of z and y.

    Parameters
    ----------
    model : Model
    name : str
        Of the convolution.
    output : int
        Its output channel.
    at : (row, column)
        In its result, before a shuffle.
    blocks : int
        Side of the picture in blocks.

    Returns
    -------
    z : np.ndarray [blocks, blocks, hyper], float64
    y : np.ndarray [4 blocks, 4 blocks, M], float64
    """
    config, ops = model.config, {op.name: op for op in model.ops}
    widths = {op.name: op.channels // 4 if op.shuffle else op.channels for op in model.ops} | {"hyper_means": config.M}
    widths |= {"z_hat": config.hyper, "y_hat": config.M, **{f"y_hat/{i}": config.ch for i in range(config.slices)}}
    side = side_of(ops[name]) * blocks
    start = np.zeros((side, side, ops[name].channels))
    start[at[0], at[1], output] = 1
    if ops[name].shuffle:
        start = np.zeros((2 * side, 2 * side, ops[name].channels // 4))
        start[2 * at[0] + output % 4 // 2, 2 * at[1] + output % 2, output // 4] = 1
    slopes: Slopes = {name: start}
    for op in reversed(model.ops[: model.ops.index(ops[name]) + 1]):
        if op.name in slopes:
            for source, part in _behind(op, model, slopes.pop(op.name), widths).items():
                if source == "hyper_means":
                    source, part = "h_s/4", np.concatenate([np.zeros_like(part), part], axis=2)
                slopes[source] = slopes.get(source, 0) + part
    y = slopes.get("y_hat", np.zeros((4 * blocks, 4 * blocks, config.M)))
    for i in range(config.slices):
        y[:, :, i * config.ch : (i + 1) * config.ch] += slopes.get(f"y_hat/{i}", 0)
    return slopes.get("z_hat", np.zeros((blocks, blocks, config.hyper))), y
