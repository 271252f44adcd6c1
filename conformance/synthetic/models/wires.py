"""A constructed model whose layers are wires: the stream says every scale, mean and residual, the picture shows y_hat.

Everything is zero but single weights that hand a number on. Digits of a scale, the argument of the residual and one
mean a channel of y come from z; the picture holds every number of y_hat in plain sight. So a stream reaches any row of
any frequency table at will, and a symbol that is decoded wrongly shows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from refcodec.model.config import Config
from refcodec.model.integer_model import config_content, expected_arrays
from refcodec.model.layer_table import layer_table
from refcodec.model.proof import INT16_MAX
from refcodec.model.tables import load_arrays

from ..z_tables import TABLES, Z_DIGITS, Z_EXOTIC, Z_RESIDUAL
from .procedural import Content, model_source

OFFSET = 1024
"""Wires carry a number plus this: what passes GELU unchanged is positive and beyond its table."""

GELU_FRAC = 4
"""The shortest table of GELU: it is 0 from 36 on."""

CONFIG = Config(
    N=(2, 8, 8),
    M=32,
    slices=1,
    hyper=len(TABLES),
    hs=(len(TABLES), len(TABLES)),
    chan=(2, 2),
    ent=(36, 36, 36),
    lrp=(2, 2),
)
"""32 channels of y fill the picture's 768 samples per position with 24 views each."""

SCALE_WEIGHTS = (4096, 64, 1)
"""A scale is the sum of three digits, each a symbol of z, times these."""

WINDOWS = (-510, -255, 0, 255, 510)
"""A sample shows y_hat in steps, 256 of them around each of these; the sixth view shows y_hat itself around 0."""


def blank(config: Config, frac: int = 10) -> dict[str, np.ndarray]:
    """(SPEC 10.2) A valid content whose every layer gives zeros.

    Parameters
    ----------
    config : Config
    frac : int
        Fraction bits of tensors that choose no table; those with GELU have ``GELU_FRAC``, and so has every LRP.

    Returns
    -------
    dict of str to np.ndarray
        Without the arrays of z, with clamps of 32767.
    """
    content = {**config_content(config), **{f"tables/{name}": array for name, array in load_arrays().items()}}
    for name, (dtype, shape) in expected_arrays(config).items():
        content[name] = np.zeros(shape, dtype)
    for n, op in enumerate(layer_table(config)):
        tabled = op.gelu or op.name.startswith("lrp_")
        content["formats"][n] = GELU_FRAC if tabled else frac, 0 if op.wide else INT16_MAX
        if op.kind in ("gdn", "igdn"):
            content[f"layers/{op.name}/beta"] += 1
        elif op.kind == "norm":
            content[f"layers/{op.name}/constants"] += 1
        elif op.kind == "gain":
            content[f"layers/{op.name}/multiplier"] += 1 << 14
            content[f"layers/{op.name}/shift"] += 14
    return content


def connect(
    content: dict[str, np.ndarray],
    layer: str,
    output: int,
    inputs: Iterable[tuple[int, int]],
    bias: int = 0,
    shift: int = 0,
) -> None:
    """(SPEC 5.3) Let one output of a convolution be (bias + sum of weight * input) >> shift at the same position.

    Parameters
    ----------
    content : dict of str to np.ndarray
        Arrays of the model, changed in place.
    layer : str
        The convolution.
    output : int
        The output channel.
    inputs : iterable of (int, int)
        Input channel and weight.
    bias, shift : int
    """
    weight = content[f"layers/{layer}/weight"]
    centre = weight.shape[1] // 2
    for channel, value in inputs:
        weight[output, centre, centre, channel] = value
    content[f"layers/{layer}/constants"][output, :2] = bias, shift


def z_arrays(tables: Iterable[tuple[int, list[int]]]) -> dict[str, np.ndarray]:
    """(SPEC 7.1) The arrays of z for one (first, boundaries) a channel, medians 0."""
    rows = list(tables)
    start = np.cumsum([0, *(len(boundaries) for _, boundaries in rows)])
    arrays = {
        "z/medians": np.zeros(len(rows)),
        "z/first": np.array([first for first, _ in rows]),
        "z/start": start,
        "z/cdf": np.concatenate([boundaries for _, boundaries in rows]),
    }
    return {name: array.astype(np.int32) for name, array in arrays.items()}


def _hyper(content: dict[str, np.ndarray]) -> None:
    """(SPEC 6.4) h_s hands every symbol of z on to the 4x4 positions of its block."""
    content["layers/h_s/input/shift"][...] = 20  # 64 units per symbol
    for c in range(CONFIG.hyper):
        connect(content, "h_s/0", c, [(c, 1)], OFFSET)
        connect(content, "h_s/2", c, [(c, 1)])
        for part in range(4):
            connect(content, "h_s/1", 4 * c + part, [(c, 1)])
            connect(content, "h_s/3", 4 * c + part, [(c, 1)])
    for n, c in enumerate(Z_DIGITS):
        connect(content, "h_s/4", n, [(c, 1)])
    for n, c in enumerate(Z_EXOTIC):
        connect(content, "h_s/4", CONFIG.M + n, [(c, 1)])
    connect(content, "h_s/4", 2 * CONFIG.M - 1, [(Z_RESIDUAL, 1)])


def _parameters(content: dict[str, np.ndarray], kind: str, first: int) -> None:
    """(SPEC 6.8) Scales from three digits, means of the first channels from exotic symbols; inputs begin at first.

    Channel c adds c % 3 - 1 to the scale, so that one block has a threshold and both its neighbours.
    """
    digits = range(len(SCALE_WEIGHTS))
    wires = [*(first + n for n in digits), *(first + CONFIG.M + n for n in range(len(Z_EXOTIC)))]
    for layer in range(3):
        for n, source in enumerate(wires):
            connect(content, f"ep_{kind}/0/{layer}", n, [(n if layer else source, 1)])
    for c in range(CONFIG.M):
        connect(
            content,
            f"ep_{kind}/0/3",
            c,
            list(zip(digits, SCALE_WEIGHTS, strict=True)),
            c % 3 - 1 - OFFSET * sum(SCALE_WEIGHTS),
        )
    for n in range(len(Z_EXOTIC)):
        connect(content, f"ep_{kind}/0/3", CONFIG.M + n, [(len(digits) + n, 64)], -64 * OFFSET)


def _residual(content: dict[str, np.ndarray], kind: str, weight: int) -> None:
    """(SPEC 6.8) The argument of half tanh is a symbol of z times a weight, in every channel."""
    connect(content, f"lrp_{kind}/0/0", 0, [(CONFIG.M - 1, 1)])
    connect(content, f"lrp_{kind}/0/1", 0, [(0, 1)])
    for c in range(CONFIG.M):
        connect(content, f"lrp_{kind}/0/2", c, [(0, weight)], -weight * OFFSET)


def show_y_hat(content: dict[str, np.ndarray]) -> None:
    """(SPEC 6.10) Each of 32 channels of y_hat fills 24 samples of its position: six views of the number, four times.

    Residual blocks and upsampling blocks have their skips alone, or are sums with zero. For M and N as in ``CONFIG``.
    """
    for c in range(CONFIG.M):
        connect(content, "g_s/1/upsample", c, [(c, 1)])
    for c in range(CONFIG.N[2]):
        connect(content, "g_s/3/upsample", c, [(c, 1)])
    for c in range(CONFIG.N[0]):
        connect(content, "g_s/4/skip", c, [(c, 1)])
    for c in range(4 * CONFIG.N[0]):
        connect(content, "g_s/5/upsample", c, [(c // 4, 1)])
    for c in range(12):
        value, view = divmod(c, 6)
        if view < len(WINDOWS):
            connect(content, "g_s/7", c, [(value, 1)], 64 * (128 - WINDOWS[view]), 6)
        else:
            connect(content, "g_s/7", c, [(value, 1)], 128)


@model_source("wires")
def wires() -> Content:
    """Wires instead of networks: z chooses scales, means and residuals, the picture shows y_hat."""
    content = blank(CONFIG)
    content.update(z_arrays(TABLES))
    _hyper(content)
    _parameters(content, "anchor", 0)
    _parameters(content, "nonanchor", 2 * CONFIG.ch)
    _residual(content, "anchor", 1)
    _residual(content, "nonanchor", 20)
    show_y_hat(content)
    names = [op.name for op in layer_table(CONFIG)]
    content["formats"][names.index("lrp_nonanchor/0/2"), 0] = 12
    return content


def digits_of(scale: int) -> tuple[int, int, int]:
    """Symbols of z for a scale in Q10, of -262144..262143: all digits in 0..63 but the first, which has the sign."""
    high, low = divmod(scale, SCALE_WEIGHTS[0])
    return high, low // SCALE_WEIGHTS[1], low % SCALE_WEIGHTS[1]
