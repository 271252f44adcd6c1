"""Ideal code lengths of the published network: densities of z and y, and a port that adds them up.

The densities are evaluated in float64 by the published formulas, so no symbol is treated separately.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from refcodec.arith.checkerboard import take
from refcodec.arith.maps import interior
from refcodec.model.config import SCALE_FRAC
from refcodec.model.symbol_tables import intervals
from refcodec.model.tables import load_tables

from .float_engine import FloatEngine
from .names import LIKELIHOOD_MIN


class Bottleneck:
    """The factorized prior of z in float64: per channel a monotone network gives the logit of its distribution.

    Parameters
    ----------
    state : mapping of str to np.ndarray
        Published tensors ``entropy_bottleneck._matrix0`` and so on, and ``quantiles``.
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        part = {
            k.split(".", 1)[1]: v.astype(np.float64) for k, v in state.items() if k.startswith("entropy_bottleneck.")
        }
        self._layers = [
            (np.logaddexp(part[f"_matrix{n}"], 0), part[f"_bias{n}"], part.get(f"_factor{n}")) for n in range(5)
        ]
        self.medians = part["quantiles"][:, 0, 1]

    def cumulative(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[C, n] -> the distribution function and its complement, both without cancellation."""
        v = x[:, None, :]
        for matrix, bias, factor in self._layers:
            v = matrix @ v + bias
            if factor is not None:
                v = v + np.tanh(factor) * np.tanh(v)
        t = v[:, 0, :]
        return _sigmoid(t), _sigmoid(-t)

    def probabilities(self, symbols: np.ndarray) -> np.ndarray:
        """[C, n] integer symbols -> probability of the unit bin around symbol + median."""
        centre = symbols + self.medians[:, None]
        low, low_rest = self.cumulative(centre - 0.5)
        high, high_rest = self.cumulative(centre + 0.5)
        p: NDArray[np.float64] = np.where(low + high < 1, high - low, low_rest - high_rest)
        return p


def _sigmoid(t: NDArray[np.float64]) -> NDArray[np.float64]:
    p: NDArray[np.float64] = np.where(t < 0, np.exp(np.minimum(t, 0)), 1) / (1 + np.exp(-np.abs(t)))
    return p


def gaussian_likelihood(symbols: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Probability of the unit bin around a symbol, by the formula of the published class (``_likelihood``).

    The complementary error function keeps all digits in the tail, so no symbol is treated apart.

    Parameters
    ----------
    symbols : np.ndarray
        Distances from the mean, any shape.
    scales : np.ndarray
        Standard deviations, bounded below by ``SCALE_MIN``, same shape.

    Returns
    -------
    np.ndarray
        float64, at least ``LIKELIHOOD_MIN``.
    """
    from scipy.special import erfc  # other commands work without SciPy

    a = np.abs(symbols).astype(np.float64)
    width = scales.astype(np.float64) * np.sqrt(2)
    p: NDArray[np.float64] = np.maximum(0.5 * (erfc((a - 0.5) / width) - erfc((a + 0.5) / width)), LIKELIHOOD_MIN)
    return p


def code_length(likelihoods: np.ndarray) -> float:
    """Sum of -log2 over likelihoods of any shape, in bits."""
    return -float(np.log2(likelihoods).sum())


class EstimatingPort:
    """A port that chooses symbols like an encoder and adds up their ideal code lengths in bits.

    ``bits_y`` and ``bits_z`` are the published estimate: float scales, and likelihoods of at least ``LIKELIHOOD_MIN``,
    so that no symbol costs more than 30 bits. ``bits_y_tables`` is the cost in the coder's tables: the Gaussian table
    of the nearest level, and escapes. The difference between the two is due to the coder, not to integer arithmetic.
    """

    def __init__(self, engine: FloatEngine, bottleneck: Bottleneck, y: np.ndarray, z: np.ndarray) -> None:
        self._engine, self._bottleneck, self._y, self._z = engine, bottleneck, y, z
        self.bits_y = self.bits_z = self.bits_y_tables = 0.0
        self._tables = load_tables()

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols of z."""
        symbols = self._engine.symbols(interior(self._z), medians)
        p = self._bottleneck.probabilities(symbols.reshape(-1, shape[2]).T.astype(np.float64))
        self.bits_z += code_length(np.maximum(p, LIKELIHOOD_MIN))
        return symbols

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Symbols of one half of a slice; ``levels`` are scales here, arguments and result otherwise those of
        `SlicePort.y`.
        """
        ch = levels.shape[2]
        symbols = self._engine.symbols(take(interior(self._y)[:, :, i * ch : (i + 1) * ch], parity), means)
        self.bits_y += code_length(gaussian_likelihood(symbols, levels))
        level = np.searchsorted(self._tables.thresholds, levels * 2.0**SCALE_FRAC, side="right")
        _, frequency = intervals(symbols.astype(np.int32), level.astype(np.int32), self._tables.gaussian)
        self.bits_y_tables += float((16 - np.log2(frequency)).sum())
        return symbols
