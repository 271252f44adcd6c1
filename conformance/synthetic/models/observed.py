"""Models in which a quantity passes a machine type and the picture shows it: small changes of models of wires.

The model of limits drives accumulators to their bounds, but the operations behind saturate all the same. Here any
value that wraps, saturates or is rounded reaches y_hat, and the picture shows y_hat.
"""

from __future__ import annotations

from collections.abc import Callable

import h5py
import numpy as np

from refcodec.arith.numpy_ops import RELATIVE
from refcodec.model.layer_table import layer_table
from refcodec.model.proof import INT16_MAX

from ...kit.clauses import cited
from ..z_tables import Z_EXOTIC
from .attentions import CONFIG, TIE_QUERY, D
from .attentions import attentions as attentions_content
from .broken_models import BASE, configured
from .edits import Edited
from .procedural import edited_model
from .wires import OFFSET as WIRE_OFFSET
from .wires import connect
from .wires import wires as wires_content

Arrays = dict[str, np.ndarray]
CH = CONFIG.ch


def _observed(model: str, clauses: str, says: str, base: str, edit: Callable[[Arrays], None]) -> Edited:
    """A sound model with other numbers in the arrays of a base."""
    content = {"attentions": attentions_content, "wires": wires_content}[base]

    def change(f: h5py.File) -> None:
        before = content()
        after = {name: array.copy() for name, array in before.items()}
        edit(after)
        for name, array in after.items():
            if not np.array_equal(array, before[name]):
                f[name][...] = array

    made = Edited(model, cited(clauses), says, change, sound=True)
    edited_model(made, base)
    return made


def _wide_logits(content: Arrays) -> None:
    """(SPEC 5.8-4, 5.9) Queries and keys reach 32767: sums of products 2^32, differences shifted by 16 2^32."""
    for c in range(D, 3 * D):
        for part in range(2):
            content["layers/local/0/qkv/weight"][part * CH + c, 0, 0, c] *= 32
    for c in range(CH):
        connect(content, "local/0/qkv", 2 * CH + c, [(c, 3)])
    content["layers/local/0/attention/constants"][0] = 0
    for layer in ("queries0", "keys0"):
        content[f"layers/inter/1/{layer}/weight"] *= 64


def _weight_sums(content: Arrays) -> None:
    """(SPEC 5.8-6) 24 keys of equal weight, which sum to 65544, and values of 32767 or its negative everywhere."""
    bias = content["layers/local/0/attention/bias"]
    bias[:, 0] = 0
    bias[RELATIVE[TIE_QUERY, 0], 0] = -60 << 16
    for c in range(D):
        content["layers/local/0/qkv/weight"][2 * CH + c] = 0
        content["layers/local/0/qkv/constants"][2 * CH + c, 0] = INT16_MAX * (-1) ** c


def _contexts(content: Arrays) -> None:
    """(SPEC 5.9-3, 5.9-5) One head of 16 channels, whose weights sum to more than 65538; contexts at their clamp."""
    content["config/inter_head_width"][...] = CH
    content["layers/inter/1/values0/weight"][...] = 0
    content["layers/inter/1/values0/constants"][:, 0] = INT16_MAX
    content["layers/inter/1/attention/constants"][...] = 16, 0, 12


def _partial_sums(content: Arrays) -> None:
    """(SPEC 9.2-2) Products that sum to 2^31.8 behind GELU and a bias near -2^31; a branch of 2^32 with such a bias."""
    for n in range(CH):
        content["layers/ep_anchor/1/0/weight"][n, 0, 0] = 0
        connect(content, "ep_anchor/1/0", n, [(n // 4, 1)], 30000)
    for n in range(4):
        connect(content, "ep_anchor/1/1", n, [(4 * n + part, 30000) for part in range(4)], 0x3F0000 - (1 << 31), 16)
    for c in range(CH):
        content["layers/ep_anchor/1/3/weight"][CH + c] = 0
        connect(content, "ep_anchor/1/3", CH + c, [(c % 4, 1)], -16384)
    content["formats"][[op.name for op in layer_table(CONFIG)].index("g_s/4/conv2"), 1] = 32000
    for c in range(CONFIG.N[0]):
        connect(content, "g_s/4/conv1", c, [(c, 1)], 16384)
        connect(content, "g_s/4/conv2", c, [(c, 1)])
        content["layers/g_s/4/skip/weight"][c] = 0
        content["layers/g_s/4/skip/constants"][c] = (1 << 22) - (1 << 31), 17, 17
        content["layers/g_s/5/upsample/constants"][4 * c : 4 * c + 4, 0] = -32


def _z_low(content: Arrays) -> None:
    """(SPEC 6.4-4) z_hat at its lower clamp, half of it, and 16384: the mean of a channel is 64 or 0."""
    c = Z_EXOTIC[0]
    content["layers/h_s/input/shift"][:, c] = 15
    connect(content, "h_s/0", c, [(c, 1)], 16384 + WIRE_OFFSET)


PACKS = {"y_hat": 0, "refined": 1, "gain": 2, "sum": 3, "IGDN": 5}
"""Values that become -32768 if packed instead of clamped, by the channel of y that shows it."""


def _packs(content: Arrays) -> None:
    """(SPEC 5.2-1) Tensors at their lower clamp, and in the next layer what is -1 if they were -32768, else 0."""
    shift, constants = content["layers/g_s/input/shift"], content["layers/g_s/1/upsample/constants"]
    halved = [PACKS["y_hat"], PACKS["refined"]]
    shift[:, halved] = 15
    constants[halved, 0] = 16383
    shift[:, PACKS["gain"]] = 13
    connect(content, "g_s/0/conv1", PACKS["gain"], [(PACKS["gain"], 1)], INT16_MAX + 64)  # beyond GELU's table
    connect(content, "g_s/0/conv2", PACKS["gain"], [(PACKS["gain"], 1)])
    constants[PACKS["gain"], 0] = INT16_MAX - 64
    constants[PACKS["sum"], 0] = INT16_MAX
    content["layers/lrp_anchor/0/2/constants"][PACKS["refined"], 0] = -INT16_MAX
    content["layers/g_s/0/conv2/constants"][PACKS["sum"], 0] = -12  # where GELU in Q4 is least, -3
    shown = PACKS["IGDN"] // 4  # the branch's channel: outputs 4 to 7
    content["layers/g_s/1/conv/constants"][shown, 0] = -INT16_MAX
    content["layers/g_s/1/igdn/beta"][shown] = 4
    constants[4 * shown : 4 * shown + 4, 0] = INT16_MAX
    values = content["layers/inter/1/values1/constants"]
    content["layers/inter/1/values0/constants"][:D, 0] = -40000
    content["layers/inter/1/values1/weight"][:D] *= 64
    values[:D, 0] = 64 * INT16_MAX
    content["layers/inter/1/values0/weight"][:D] = 0
    content["layers/intra/1/attention/constants"][...] = 16, 16, 12


WIDE_LOGITS = _observed(
    "wide-logits",
    "5.8-4 5.9-2 5.9-4 9.2-5",
    "queries and keys of 32767",
    "attentions",
    _wide_logits,
)
WEIGHT_SUMS = _observed(
    "weight-sums", "5.7-4 5.8-6 9.2-5", "values of 32767 and biases of equal keys", "attentions", _weight_sums
)
CONTEXTS = _observed(
    "contexts", "5.7-4 5.9-3 5.9-5 9.2-6", "values of 32767 and a head of 16 channels", "attentions", _contexts
)
PARTIAL_SUMS = _observed(
    "partial-sums", "5.3-3 5.3-5 9.2-2", "biases near -2^31 behind GELU", "attentions", _partial_sums
)
Z_LOW = _observed("z-low", "5.2-1 6.4-4 6.9-1", "half of z_hat, shown", "wires", _z_low)
PACKED = _observed("packs", "5.2-1 5.3-3 5.4-1..2 5.5-3 6.9-1..2", "lower clamps, shown", "attentions", _packs)
MODELS = (WIDE_LOGITS, WEIGHT_SUMS, CONTEXTS, PARTIAL_SUMS, Z_LOW, PACKED)
"""All of them."""

MANY_Z = Edited("many-z", cited("6.4-5 9.1-6"), "126 channels of z", configured(hyper=126), sound=True)
edited_model(MANY_Z, BASE)
