"""The best quality whose stream fits into a number of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

NEIGHBOURS = 3
"""Qualities looked at beyond the first one that is too large: rate rises with quality, though not at every step."""


class _Coded(Protocol):
    """Result of encoding."""

    @property
    def data(self) -> bytes:
        """The stream."""


T = TypeVar("T", bound=_Coded)


def best_fit(encode: Callable[[int], T], steps: int, budget: int) -> tuple[int, T | None]:
    """Find the highest quality whose stream fits, by bisection and a look at the neighbours above.

    Parameters
    ----------
    encode : callable
        From a quality in 1..steps to the coded picture.
    steps : int
        Number of qualities.
    budget : int
        Bytes the stream may take, at most.

    Returns
    -------
    quality : int
        The quality found, or the one whose stream was the smallest if none fits.
    coded : result of ``encode`` or None
        None if none fits.
    """
    sizes: dict[int, int] = {}
    found: dict[int, T] = {}

    def fits(quality: int) -> bool:
        if quality not in sizes:
            coded = encode(quality)
            sizes[quality] = len(coded.data)
            if sizes[quality] <= budget and quality > max(found, default=0):
                found.clear()  # only the best is kept in memory
                found[quality] = coded
        return sizes[quality] <= budget

    low, high = 0, steps + 1  # low fits or is 0, high does not fit or is out of range
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    quality = low + 1
    while quality <= min(low + 1 + NEIGHBOURS, steps):
        if fits(quality):
            low = quality
        quality += 1
    return (low, found[low]) if low else (min(sizes, key=lambda q: (sizes[q], q)), None)
