"""h_a: y -> z, and h_s: z_hat -> hyper parameters (SPEC 6.4)."""

from __future__ import annotations

import numpy as np

from ..arith.protocols import NetworkOps


def hyper_analysis(engine: NetworkOps, y: np.ndarray) -> np.ndarray:
    """(SPEC 6.4) y, a map [h + 4, w + 4, M] in Q6, -> z with its gain, a map [h / 4 + 4, w / 4 + 4, hyper] in Q6."""
    x = engine.rescale("h_a/input", y)
    for n in range(5):
        x = engine.conv(f"h_a/{n}", x)
    return engine.gain("z", x)


def hyper_synthesis(engine: NetworkOps, z_hat: np.ndarray) -> np.ndarray:
    """(SPEC 6.4) z_hat, a map in Q6, -> M hyper scales and M hyper means, a map [h + 4, w + 4, 2 M]."""
    x = engine.gain("h_s/input", z_hat)
    for n in range(5):
        x = engine.conv(f"h_s/{n}", x)
    return x
