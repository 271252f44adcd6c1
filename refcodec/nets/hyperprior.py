"""h_a: y -> z, and h_s: z_hat -> hyper parameters (SPEC 6.4)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..arith.engine import Engine
from ..arith.protocols import M, PictureOps
from ..arith.strips import Rows, in_strips
from ..model.config import Config
from ..tiles import Z_STRIDE

REACH = 4
"""Positions of z from the own one that hyper parameters depend on (SPEC 4.5): two layers at the size of z, two at twice
and one at four times that size reach 3.25."""


def hyper_analysis(engine: PictureOps[M], y: M) -> M:
    """(SPEC 6.4) y, a map [h + 4, w + 4, M] in Q6, -> z with its gain, a map [h / 4 + 4, w / 4 + 4, hyper] in Q6."""
    x = engine.rescale("h_a/input", y)
    for n in range(5):
        x = engine.conv(f"h_a/{n}", x)
    return engine.gain("z", x)


def hyper_synthesis(engine: PictureOps[M], z_hat: M) -> M:
    """(SPEC 6.4) z_hat, a map in Q6, -> M hyper scales and M hyper means, a map [h + 4, w + 4, 2 M]."""
    x = engine.gain("h_s/input", z_hat)
    for n in range(5):
        x = engine.conv(f"h_s/{n}", x)
    return x


def hyper_analysis_strips(engine: Engine, config: Config, y: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """(SPEC 6.4) `hyper_analysis` strip by strip, from the top down.

    Parameters
    ----------
    engine : Engine
    config : Config
    y : Rows
        [h, w, M], int16, Q6.

    Yields
    ------
    int
        First row.
    np.ndarray [n, w / 4, hyper], int16, Q6
        Rows of z.
    """
    return in_strips(engine, hyper_analysis, y, max(config.M, config.hyper), low=True)


def hyper_synthesis_strips(engine: Engine, config: Config, z_hat: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """(SPEC 6.4) `hyper_synthesis` strip by strip, from the top down.

    Parameters
    ----------
    engine : Engine
    config : Config
    z_hat : Rows
        [h / 4, w / 4, hyper], int16, Q6.

    Yields
    ------
    int
        First row.
    np.ndarray [n, w, 2 M], int16
        Rows of hyper parameters.
    """
    return in_strips(engine, hyper_synthesis, z_hat, Z_STRIDE**2 * 2 * config.M, low=True)
