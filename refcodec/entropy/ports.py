"""The two ports of the slice walk: the only place that knows the direction (SPEC 6.9, 7).

A port answers with the symbols of z, then of every slice's anchors and non-anchors, in the order of the stream.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..arith.checkerboard import take
from ..arith.engine import Engine
from ..arith.maps import interior
from ..model.symbol_tables import SymbolTables
from .rans import RangeDecoder, RangeEncoder


class SlicePort(Protocol):
    """Source or sink of symbols for the walk over the slices."""

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Code the symbols of one half of a slice.

        Parameters
        ----------
        i : int
            The slice, from 0.
        parity : int
            The half: that of anchors or that of non-anchors (SPEC 6.3).
        levels : np.ndarray [h, w / 2, C], int
            Row of the Gaussian table of each symbol.
        means : np.ndarray [h, w / 2, C], int32, Q6
            Mean of each symbol.

        Returns
        -------
        np.ndarray [h, w / 2, C], int32
            The symbols.
        """


class Port(SlicePort, Protocol):
    """Source or sink of symbols for the whole walk."""

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols of z [h / 4, w / 4, hyper], int32."""


def channel_index(shape: tuple[int, ...]) -> np.ndarray:
    """The table of every symbol of z [h, w, hyper]: its channel."""
    return np.broadcast_to(np.arange(shape[2], dtype=np.int32), shape)


class Writer:
    """Chooses the symbols nearest to the latents and writes them.

    Parameters
    ----------
    y : map [h + 4, w + 4, M], int16, Q6
    z : map [h / 4 + 4, w / 4 + 4, hyper], int16, Q6
    gaussian, factorized : SymbolTables
        Of y by level and of z by channel.
    """

    def __init__(
        self, engine: Engine, y: np.ndarray, z: np.ndarray, gaussian: SymbolTables, factorized: SymbolTables
    ) -> None:
        self._engine, self._y, self._z = engine, y, z
        self._gaussian, self._factorized = gaussian, factorized
        self._z_coder, self._y_coder = RangeEncoder(engine.backend), RangeEncoder(engine.backend)

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """(SPEC 6.9) round(z - median), coded by channel."""
        symbols = self._engine.symbols(interior(self._z), medians)
        self._z_coder.put(symbols, channel_index(shape), self._factorized)
        return symbols

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) Write round(y - mean), coded by scale index; arguments and result are those of `SlicePort.y`."""
        ch = levels.shape[2]
        symbols = self._engine.symbols(take(interior(self._y)[:, :, i * ch : (i + 1) * ch], parity), means)
        self._y_coder.put(symbols, levels, self._gaussian)
        return symbols

    def finish(self) -> tuple[bytes, bytes]:
        """The z and y segments."""
        return self._z_coder.finish(), self._y_coder.finish()


class Reader:
    """Reads the symbols of two segments.

    Raises
    ------
    CoderError, SymbolError
        From every method: the segment is not what an encoder wrote.
    """

    def __init__(self, backend: str, z: bytes, y: bytes, gaussian: SymbolTables, factorized: SymbolTables) -> None:
        self._gaussian, self._factorized = gaussian, factorized
        self._backend, self._z_segment, self._y_segment = backend, z, y
        self._y_coder: RangeDecoder | None = None  # begins with the first symbol: of some tiles only z is read

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """(SPEC 7) Symbols of z; its segment ends here."""
        coder = RangeDecoder(self._z_segment, self._backend)
        symbols = coder.get(channel_index(shape), self._factorized)
        coder.finish()
        return symbols

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """(SPEC 7) Read the symbols of one half of a slice; arguments and result are those of `SlicePort.y`."""
        if self._y_coder is None:
            self._y_coder = RangeDecoder(self._y_segment, self._backend)
        return self._y_coder.get(levels, self._gaussian)

    def finish(self) -> None:
        """Check that the y segment ends with the last symbol; after `y`."""
        assert self._y_coder is not None
        self._y_coder.finish()
