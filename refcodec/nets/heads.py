"""Entropy parameters and latent residual prediction, at one half of the checkerboard (SPEC 6.8)."""

from __future__ import annotations

import numpy as np

from ..arith.protocols import NetworkOps

KIND = ("nonanchor", "anchor")
"""Name of a parity (SPEC 6.3)."""


def entropy_parameters(engine: NetworkOps, i: int, parity: int, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(SPEC 6.8) Compute scale indices and means from packed contexts.

    Parameters
    ----------
    engine : NetworkOps
    i : int
        The slice.
    parity : int
        ANCHOR or NONANCHOR.
    known : map [h + 4, w / 2 + 4, K], int16
        Packed contexts and hyper parameters of this half.

    Returns
    -------
    levels : np.ndarray [h, w / 2, C], int32
        Row of the Gaussian tables for every symbol.
    means : np.ndarray [h, w / 2, C], int32, Q6
    """
    x = known
    name = f"ep_{KIND[parity]}/{i}"
    for n in range(4):
        x = engine.conv(f"{name}/{n}", x)
    return engine.levels_and_means(x)


def latent_residual(engine: NetworkOps, i: int, parity: int, known: np.ndarray) -> tuple[str, np.ndarray]:
    """(SPEC 6.8) Compute the last layer of latent residual prediction; its 0.5 tanh is what ``Engine.add_residual``
    adds.

    Parameters
    ----------
    engine : NetworkOps
    i : int
        The slice.
    parity : int
        ANCHOR or NONANCHOR.
    known : map [h + 4, w + 4, K], int16
        Hyper means, finished slices and the current one.

    Returns
    -------
    str
        Name of the last layer.
    map [h + 4, w / 2 + 4, C], int16
        Its packed result.
    """
    x = known
    name = f"lrp_{KIND[parity]}/{i}"
    last = 0
    while f"{name}/{last + 1}" in engine.layers:
        x = engine.conv(f"{name}/{last}", x)
        last += 1
    return f"{name}/{last}", engine.conv(f"{name}/{last}", x, parity=parity)
