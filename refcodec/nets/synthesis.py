"""g_s: quantised latent y_hat -> picture (SPEC 6.10)."""

from __future__ import annotations

import numpy as np

from ..arith.engine import Engine
from .blocks import residual_block, residual_block_upsample


def synthesis(engine: Engine, y_hat: np.ndarray) -> np.ndarray:
    """(SPEC 6.10) The inverse quality gain and g_s.

    Parameters
    ----------
    y_hat : map [H / 16 + 4, W / 16 + 4, M], int16, Q6

    Returns
    -------
    map [H + 4, W + 4, 3], int16
        Samples on the scale 0..255, not yet clamped to it.
    """
    x = engine.gain("g_s/input", y_hat)
    for n in (0, 2, 4):
        x = residual_block_upsample(engine, f"g_s/{n + 1}", residual_block(engine, f"g_s/{n}", x))
    return engine.conv("g_s/7", residual_block(engine, "g_s/6", x))
