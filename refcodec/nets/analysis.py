"""g_a: picture -> latent y (SPEC 6.2)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..arith.engine import Engine
from ..arith.protocols import M, PictureOps
from ..arith.strips import Rows, in_strips
from ..model.config import Config
from .blocks import residual_block, residual_block_with_stride

ANALYSIS_WIDEST = 1 / 4
"""Elements of the widest map of g_a for a position of the picture and a channel of the first stage."""


def analysis(engine: PictureOps[M], x: M) -> M:
    """(SPEC 6.2) g_a and the quality gain.

    Parameters
    ----------
    x : map [H + 4, W + 4, 4], int16
        Samples 0..255 and a zero channel; H and W multiples of 64.

    Returns
    -------
    map [H / 16 + 4, W / 16 + 4, M], int16, Q6
        y in units of the quantiser's step.
    """
    for n in (0, 2, 4):
        x = residual_block(engine, f"g_a/{n + 1}", residual_block_with_stride(engine, f"g_a/{n}", x))
    return engine.gain("y", engine.conv("g_a/6", x))


def analysis_strips(engine: Engine, config: Config, x: Rows, low: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """(SPEC 6.2) `analysis` strip by strip, from the top down.

    Parameters
    ----------
    engine : Engine
    config : Config
    x : Rows
        Padded planes [Hp, Wp, 4], int16.
    low : bool
        Keep strips low, to take less memory.

    Yields
    ------
    int
        First row.
    np.ndarray [n, Wp / 16, M], int16, Q6
        Rows of y.
    """
    return in_strips(engine, analysis, x, ANALYSIS_WIDEST * config.N[0], low=low)
