"""Entropy parameters and latent residual prediction, at one half of the checkerboard (SPEC 6.8)."""

from __future__ import annotations

import numpy as np

from ..arith.protocols import NetworkOps

KIND = ("nonanchor", "anchor")
"""Name of a parity (SPEC 6.3)."""


def entropy_parameters(engine: NetworkOps, i: int, parity: int, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(SPEC 6.8) Packed contexts, a map [h + 4, w / 2 + 4, K] -> scale indices and means.

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
    """(SPEC 6.8) Hyper means, finished slices and the current one -> name and packed result of the last layer.

    Its 0.5 tanh is what ``Engine.add_residual`` adds to y_hat.
    """
    x = known
    name = f"lrp_{KIND[parity]}/{i}"
    last = 0
    while f"{name}/{last + 1}" in engine.layers:
        x = engine.conv(f"{name}/{last}", x)
        last += 1
    return f"{name}/{last}", engine.conv(f"{name}/{last}", x, parity=parity)
