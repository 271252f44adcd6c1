"""A constructed model whose attentions read symbols and whose results are means of y: for exact sums and ties.

Anchors of slice 0 feed the local attention, whose results are the means of its non-anchors. Slice 0 feeds the inter
attention, whose results are the means of slice 1's anchors, and the intra attention, those of its non-anchors. All else
is a wire, and the picture shows y_hat. A second model has other logits: products a little below and above a tie, and
position biases at the ends of 32 bits.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

import numpy as np

from refcodec.arith.numpy_ops import RELATIVE
from refcodec.model.layer_table import layer_table
from refcodec.model.procedural import draws
from refcodec.model.proof import INT16_MAX, INT32_MAX

from .procedural import Content, model_source
from .wires import CONFIG as WIRES
from .wires import blank, connect, show_y_hat, z_arrays

CONFIG = replace(
    WIRES, slices=2, hyper=2, hs=(2, 2), ent=(32, 32, 32), local_heads=4, intra_heads=4, inter_head_width=4
)

OFFSET = 16384
"""Added to results of attentions, whose clamp is 16000, so that they pass GELU unchanged."""

CLAMP = 16000

D = CONFIG.ch // 4
"""Channels of every head."""

TIE_QUERY = 12
"""The window's centre, whose 25 logits are those of 25 places: the biases of head 0 make a softmax weight of 1/2."""

ANCHOR_QUERY = 7
"""The anchor above the centre."""

TIE_KEYS = (17, 19)
"""Two anchors whose exponential is 2^8."""

NORM_EPSILON = (1 << 38) - 240 * 64**2
"""With one symbol 1 among 15 zeros the variance is 2^38: a root of a power of two, quotients of 15/2 and -1/2."""


def tie_octaves() -> list[int]:
    """Octaves below the greatest by key, 60 for exponentials of 0: 2^24 + 2^23 + ... + 2^9 + 2 * 2^8 is 2^25.

    The reciprocal is 2^22 then, and the weights of 2^8 are 2^30 / 2^31.
    """
    others = [key for key in range(25) if key not in TIE_KEYS]
    octaves = dict.fromkeys(TIE_KEYS, 16) | {key: n if n < 16 else 60 for n, key in enumerate(others)}
    return [octaves[key] for key in range(25)]


def _local(content: dict[str, np.ndarray]) -> None:
    """(SPEC 6.5) Heads: weights by bias alone; q = k; q = -k; one place that takes everything, wherever it lies."""
    for c in range(CONFIG.ch):
        head = c // D
        if head in (1, 2):
            connect(content, "local/0/qkv", c, [(c, 1)])
            connect(content, "local/0/qkv", CONFIG.ch + c, [(c, 1 if head == 1 else -1)])
        connect(content, "local/0/qkv", 2 * CONFIG.ch + c, [(c, 1)])
        for half, query in enumerate((TIE_QUERY, ANCHOR_QUERY)):
            output = half * CONFIG.ch + c
            connect(content, "local/0/fusion", output, [(query * CONFIG.ch + c, 1)])
            connect(content, "local/0/proj", output, [(output, 1)])
    bias = content["layers/local/0/attention/bias"]
    bias[RELATIVE[TIE_QUERY], 0] = [-(octaves << 16) for octaves in tie_octaves()]
    bias[:, 3] = -INT32_MAX
    bias[RELATIVE[TIE_QUERY, 1], 3] = INT32_MAX
    content["layers/local/0/attention/constants"][0] = 4
    content["layers/local/0/norm1/constants"][0] = NORM_EPSILON


LOGIT_SHIFT = 30
"""The greatest shift, which leaves 2^-30 of a logit to the rounding."""

LOGIT_ENDS = (INT32_MAX, -INT32_MAX, 1 << 30, -1 << 29)
"""Position biases by head, less 0 to 4095 towards 0."""

SEED = 8


def near_tie(shift: int, below: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(SPEC 5.8-4) A query and a key of two channels whose product is 2^(shift-1) - below, shift in 1..30."""
    root = isqrt(1 << shift - 1)
    return (root, 1), (root, (1 << shift - 1) - root * root - below)


def _logits(content: dict[str, np.ndarray]) -> None:
    """(SPEC 5.8-4) Products within some 100 of 2^29, of -2^29 in every other head; biases at the ends of 32 bits."""
    query, key = near_tie(LOGIT_SHIFT, 64)
    bias = content["layers/local/0/attention/bias"]
    for head, end in enumerate(LOGIT_ENDS):
        sign, first, keys = 1 - 2 * (head % 2), head * D, CONFIG.ch + head * D
        for c in range(D):
            for part in range(2):
                content["layers/local/0/qkv/weight"][part * CONFIG.ch + first + c] = 0
            connect(content, "local/0/qkv", 2 * CONFIG.ch + first + c, [(first + c, 4)])
        connect(content, "local/0/qkv", first, [], query[0])
        connect(content, "local/0/qkv", first + 1, [], query[1])
        connect(content, "local/0/qkv", keys, [], sign * key[0])
        connect(content, "local/0/qkv", keys + 1, [(first + 1, 1)], sign * key[1] << 5, 5)
        bias[:, head] = end - (1 if end > 0 else -1) * draws(SEED, f"logits/{head}", 81, 0, 1 << 12)
    content["layers/local/0/attention/constants"][0] = LOGIT_SHIFT
    content["layers/local/0/norm1/constants"][0] = 1


def _linear(content: dict[str, np.ndarray], name: str, shifts: tuple[int, int, int]) -> None:
    """(SPEC 6.7) Queries of a head are the symbols of its channels, keys those of the next head, values those after."""
    for c in range(CONFIG.ch):
        for n, part in enumerate(("queries", "keys", "values")):
            connect(content, f"{name}/{part}0", c, [((c + n * D) % CONFIG.ch, 1)])
            content[f"layers/{name}/{part}1/weight"][c, 1, 1, 0] = 1
        connect(content, f"{name}/reprojection", c, [(c, 1)])
    content[f"layers/{name}/attention/constants"][...] = shifts


def _means(content: dict[str, np.ndarray], name: str, first: int, sources: int, weights: tuple[int, ...]) -> None:
    """(SPEC 6.8) Means of channels c from the inputs first + c, first + ch + c, ... times the weights."""
    for n in range(sources):
        connect(content, f"{name}/0", n, [(first + n, 1)], OFFSET)
        for layer in (1, 2):
            connect(content, f"{name}/{layer}", n, [(n, 1)])
    for c in range(CONFIG.ch):
        inputs = [(n * CONFIG.ch + c, weight) for n, weight in enumerate(weights)]
        connect(content, f"{name}/3", CONFIG.ch + c, inputs, -OFFSET * sum(weights))


def _content(local_weights: tuple[int, int]) -> dict[str, np.ndarray]:
    """Means of slice 0's non-anchors are the results of the two queries times the weights."""
    content = blank(CONFIG)
    content.update(z_arrays([(-1, [0, 20000, 45000, 65000, 65536])] * CONFIG.hyper))
    _local(content)
    _linear(content, "inter/1", (16, 16, 0))
    for c in range(CONFIG.ch):
        connect(content, "inter/1/mlp2", c, [(c, 1)])
    _linear(content, "intra/1", (16, 0, 12))
    _means(content, "ep_nonanchor/0", 0, 2 * CONFIG.ch, local_weights)
    _means(content, "ep_anchor/1", 0, CONFIG.ch, (1,))
    _means(content, "ep_nonanchor/1", 2 * CONFIG.ch, CONFIG.ch, (1,))
    for n, op in enumerate(layer_table(CONFIG)):
        if op.kind.endswith("attention"):
            content["formats"][n, 1] = CLAMP
        elif op.name.startswith("ctx/"):
            content[f"layers/{op.name}/constants"][0] = 6  # a symbol as it is
    show_y_hat(content)
    return content


@model_source("attentions")
def attentions() -> Content:
    """Wires around attentions: symbols are queries, keys and values, results are means of y, the picture shows them."""
    return _content((1, 3))


@model_source("logits")
def logits() -> Content:
    """The model of attentions with products of queries and keys near ties of the shift by 30, and biases near 2^31."""
    content = _content((64, 0))  # a result that is 1 too great is a step of y_hat, which the picture shows
    _logits(content)
    for n, op in enumerate(layer_table(CONFIG)):
        if op.name == "local/0/qkv":
            content["formats"][n, 1] = INT16_MAX
    return content
