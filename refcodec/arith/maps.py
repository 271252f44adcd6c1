"""Feature maps: int16 [H + 4, W + 4, C], channels last, with a border of two zeros on every side.

The border is the zero padding of every convolution up to 5x5, so a window is read without a branch and a row of a
window is one contiguous run. A view on a range of channels is a map as well. Memory is pooled: when the last view of
a map dies its block returns to the pool, so the same pages serve layer after layer.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray

BORDER = 2

Map = NDArray[np.int16]
"""A feature map [H + 4, W + 4, C], or a view on some of its rows, columns or channels."""

WideMap = NDArray[np.int32]
"""A map of a wide layer's results: scales and means (SPEC 6.8)."""


def interior(x: np.ndarray) -> np.ndarray:
    """The picture inside a map: a view [H, W, C]."""
    return x[BORDER:-BORDER, BORDER:-BORDER]


def clear_border(out: np.ndarray) -> None:
    """Make the border of a map zero."""
    out[:BORDER] = out[-BORDER:] = 0
    out[BORDER:-BORDER, :BORDER] = out[BORDER:-BORDER, -BORDER:] = 0


class _Lease:
    """Owns one block; NumPy keeps it alive as the base of every view."""

    __slots__ = ("__array_interface__", "__weakref__", "block")

    def __init__(self, block: np.ndarray) -> None:
        self.block = block
        self.__array_interface__: dict[str, Any] = block.__array_interface__


IDLE = 1 << 27
"""Numbers (256 MiB) that may lie idle in a pool while a call asks for new ones: no bound for a picture of 3840x2160,
a sixth of what one of 100 megapixels takes."""

IDLE_WITH_TILES = 1 << 24
"""The same (32 MiB) for a picture in tiles, where tiles and strips take blocks of other sizes in turn. For a picture of
20,000 columns it is a third of the memory."""


class Pool:
    """Blocks of int16. One pool serves one call of the codec at a time.

    A map takes the smallest free block that holds it unless more than half of that would lie idle. What the end of a
    map runs is one function of C: a signal handler cannot interrupt it, and its exception is not lost there.
    """

    idle = IDLE

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._leased: dict[ReferenceType[_Lease], np.ndarray] = {}
        self._ended: list[ReferenceType[_Lease]] = []

    def _collect(self) -> None:
        """Move the blocks of maps that died to the free ones. Interrupted, it loses a block, which is then freed."""
        while self._ended:
            block = self._leased.pop(self._ended[0], None)
            if block is not None:
                insort(self._free, block, key=len)
            del self._ended[0]  # last: one that is dealt with twice does no harm, one that is forgotten keeps a block

    def _take(self, size: int) -> np.ndarray:
        self._collect()
        at = bisect_left(self._free, size, key=len)
        if at < len(self._free) and len(self._free[at]) <= 2 * size:
            return self._free.pop(at)
        self.trim(self.idle)
        return self._new(size + size // 8)  # an eighth more: the next strip's map may have a few rows more

    def _new(self, length: int) -> np.ndarray:
        return np.empty(length, np.int16)

    def map(self, height: int, width: int, channels: int, clear: Callable[[np.ndarray], None] = clear_border) -> Map:
        """A map whose border is zero and whose interior is not set.

        Parameters
        ----------
        height, width, channels : int
            Of its interior.
        clear : callable(map)
            Makes the border zero.

        Returns
        -------
        map [height + 4, width + 4, channels], int16
        """
        shape = (height + 2 * BORDER, width + 2 * BORDER, channels)
        size = shape[0] * shape[1] * shape[2]
        lease = _Lease(self._take(size))
        self._leased[ref(lease, self._ended.append)] = lease.block
        out = np.asarray(lease)[:size].reshape(shape)
        clear(out)
        return out

    def trim(self, size: int) -> None:
        """Free the largest blocks until the others hold at most ``size`` numbers."""
        self._collect()
        while self._free and sum(map(len, self._free)) > size:
            self._free.pop()


RETAINED = 1 << 25
"""Numbers (64 MiB) that a pool keeps from one call to the next: the system clears every page it gives, which cost a
decode of 768x512 a fifteenth of its time."""

_idle: list[Pool] = []


@contextmanager
def borrowed_pool(tiled: bool = False) -> Iterator[Pool]:
    """A pool for one call, with the blocks of an earlier one if there was any; for a picture in tiles or in one."""
    try:
        pool = _idle.pop()
    except IndexError:
        pool = Pool()
    pool.idle = IDLE_WITH_TILES if tiled else IDLE
    try:
        yield pool
    finally:
        pool.trim(RETAINED)
        if not _idle:
            _idle.append(pool)
