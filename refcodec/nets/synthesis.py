"""g_s: quantised latent y_hat -> picture (SPEC 6.10)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..arith.engine import Engine
from ..arith.protocols import M, PictureOps
from ..arith.strips import Rows, in_strips
from ..model.config import Config
from .blocks import residual_block, residual_block_upsample

SYNTHESIS_WIDEST = 64
"""Elements of the widest map of g_s for a position of y_hat and a channel of the first stage."""

SYNTHESIS_LAG = 7
"""Rows of y_hat by which the last operation of g_s lags behind the first."""


REACH = 7
"""Positions of y_hat around its own that a sample depends on (SPEC 4.5-3), in every configuration."""


def synthesis(engine: PictureOps[M], y_hat: M) -> M:
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


def synthesis_strips(
    engine: Engine, config: Config, y_hat: np.ndarray | Rows, low: bool = False, further: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """(SPEC 6.10) `synthesis` strip by strip, from the top down.

    Parameters
    ----------
    engine : Engine
    config : Config
    y_hat : map [h + 4, w + 4, M] or Rows of that size, int16, Q6
    low : bool
        Keep strips low, to take less memory.
    further : int
        Number of rows of y_hat that follow. Planes that depend on them are not computed: the last 7.375 rows' worth is
        left out.

    Yields
    ------
    int
        First row.
    np.ndarray [n, 16 w, 3], int16
        Rows of planes, before they are clipped to 0..255.
    """
    widest = SYNTHESIS_WIDEST * config.N[0]
    return in_strips(engine, synthesis, y_hat, widest, lag=SYNTHESIS_LAG, low=low, further=further)
