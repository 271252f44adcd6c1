"""Bits of symbols by the coder's tables, for the encoder's decisions: nothing here decides a byte of a segment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..model.symbol_tables import LENGTH_BITS, PROBABILITY_BITS, SymbolTables
from .ports import Port, channel_index


def symbol_bits(symbols: np.ndarray, index: np.ndarray, tables: SymbolTables) -> NDArray[np.float64]:
    """(SPEC 7.2) Bits of every symbol: of its interval, and after an escape of its sign, length and remainder.

    Parameters
    ----------
    symbols : np.ndarray
        Integers, any shape.
    index : np.ndarray
        The table of each symbol, same shape.
    tables : SymbolTables

    Returns
    -------
    np.ndarray of the same shape, float64
    """
    begin, escape = tables.start[:-1][index], (tables.start[1:] - 2)[index]
    position = symbols - tables.first[index] + begin
    outside = (position < begin) | (position >= escape)
    chosen = np.where(outside, escape, position)
    bits = PROBABILITY_BITS - np.log2(tables.cdf[1:][chosen] - tables.cdf[chosen])
    beyond = np.where(position < begin, begin - 1 - position, position - escape)
    suffix = 1 + LENGTH_BITS + np.floor(np.log2(np.maximum(beyond, 0) + 1.0))
    return np.asarray(bits + np.where(outside, suffix, 0), np.float64)


class BlockBits:
    """Adds up the bits of the symbols of every block of 64x64 samples: 4x4 positions of y and one of z.

    Parameters
    ----------
    gaussian, factorized : SymbolTables
        Of y by level and of z by channel.
    height, width : int
        Rows and columns of y, multiples of 4.

    Attributes
    ----------
    bits : np.ndarray [height / 4, width / 4], float64
    """

    def __init__(self, gaussian: SymbolTables, factorized: SymbolTables, height: int, width: int) -> None:
        self._gaussian, self._factorized = gaussian, factorized
        self.bits = np.zeros((height // 4, width // 4))

    def watched(self, port: Port, top: int, left: int) -> Port:
        """Count the symbols that pass a port.

        Parameters
        ----------
        port : Port
            The port of one tile.
        top, left : int
            First row and column of the tile in y, multiples of 4.

        Returns
        -------
        Port
            The same port, whose symbols are added to ``bits``.
        """
        return _Counted(port, self, top // 4, left // 4)

    def add_z(self, symbols: np.ndarray, top: int, left: int) -> None:
        """Count symbols of z.

        Parameters
        ----------
        symbols : np.ndarray [h, w, hyper], int32
        top, left : int
            Row and column of the first one in ``bits``.
        """
        self._add(symbol_bits(symbols, channel_index(symbols.shape), self._factorized).sum(axis=2), top, left)

    def add_y(self, symbols: np.ndarray, levels: np.ndarray, top: int, left: int) -> None:
        """Count symbols of half a slice: two of its columns lie in four of y.

        Parameters
        ----------
        symbols : np.ndarray [h, w / 2, C], int32
        levels : np.ndarray [h, w / 2, C]
            Row of the Gaussian table of each symbol.
        top, left : int
            Row and column of the first block in ``bits``.
        """
        bits = symbol_bits(symbols, levels, self._gaussian).sum(axis=2)
        height, width = bits.shape
        self._add(bits.reshape(height // 4, 4, width // 2, 2).sum(axis=(1, 3)), top, left)

    def _add(self, bits: np.ndarray, top: int, left: int) -> None:
        self.bits[top : top + bits.shape[0], left : left + bits.shape[1]] += bits


class _Counted:
    """A port whose symbols are counted."""

    def __init__(self, port: Port, blocks: BlockBits, top: int, left: int) -> None:
        self._port, self._blocks, self._top, self._left = port, blocks, top, left

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """As the port's."""
        symbols = self._port.z(medians, shape)
        self._blocks.add_z(symbols, self._top, self._left)
        return symbols

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """As the port's."""
        symbols = self._port.y(i, parity, levels, means)
        self._blocks.add_y(symbols, levels, self._top, self._left)
        return symbols


__all__ = ["BlockBits", "symbol_bits"]
