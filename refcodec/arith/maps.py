"""Feature maps: int16 [H + 4, W + 4, C], channels last, with a border of two zeros on every side.

The border is the zero padding of every convolution up to 5x5, so a window is read without a branch and a row of a
window is one contiguous run. A view on a range of channels is a map as well. Memory is pooled: when the last view of
a map dies its block returns to the pool, so the same pages serve layer after layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BORDER = 2


def interior(x: np.ndarray) -> np.ndarray:
    """The picture inside a map: a view [H, W, C]."""
    return x[BORDER:-BORDER, BORDER:-BORDER]


class _Lease:
    """Owns one block; NumPy keeps it alive as the base of every view, its end gives the block back."""

    __slots__ = ("__array_interface__", "block", "free")

    def __init__(self, block: np.ndarray, free: list[np.ndarray]) -> None:
        self.block, self.free = block, free
        self.__array_interface__: dict[str, Any] = block.__array_interface__

    def __del__(self) -> None:
        self.free.append(self.block)


class Pool:
    """Blocks of int16 by size. One pool belongs to one call of the codec, so no lock is needed."""

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray]] = {}

    def map(self, height: int, width: int, channels: int) -> np.ndarray:
        """A map [height + 4, width + 4, channels] int16; the border is zero, the interior is not set."""
        shape = (height + 2 * BORDER, width + 2 * BORDER, channels)
        size = shape[0] * shape[1] * shape[2]
        free = self._free.setdefault(size, [])
        block = free.pop() if free else np.empty(size, np.int16)
        out = np.asarray(_Lease(block, free)).reshape(shape)
        out[:BORDER] = out[-BORDER:] = 0
        out[BORDER:-BORDER, :BORDER] = out[BORDER:-BORDER, -BORDER:] = 0
        return out
