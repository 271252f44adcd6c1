"""Smaller pictures: a box filter over the decoded samples, strip by strip, so that a large picture is never whole.

The networks give no smaller picture by themselves: every sample depends on all layers of g_s (SPEC 6.10). So a reduced
picture costs the time of a whole decoding, and the memory of a few rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

STEPS = (1, 2, 4, 8, 16, 32, 64)
"""Sides of the squares that become one sample."""


def check_step(step: object) -> int:
    """The side of the squares; raises UsageError if it is none of ``STEPS``."""
    if type(step) is not int or step not in STEPS:
        raise UsageError("pictures are reduced by a power of two", reduce=step, known=list(STEPS))
    return step


class Reduced:
    """Takes strips from the top down and gives the mean of every square, rounded half up.

    Squares at the right and at the bottom hold what there is of them. Colours count as much as they are opaque; where
    a square is wholly transparent they count alike.

    Parameters
    ----------
    height, width : int
        Of the whole picture in samples.
    step : int
        Side of the squares.
    """

    def __init__(self, height: int, width: int, step: int) -> None:
        self._height, self._width, self._step = height, width, step
        self._waiting: list[NDArray[np.uint8]] = []
        self._rows: list[NDArray[np.uint8]] = []

    def __call__(self, first: int, rows: NDArray[np.uint8]) -> None:
        """Take a strip, [n, W] or [n, W, C] uint8."""
        self._waiting.append(rows.copy())
        held = sum(part.shape[0] for part in self._waiting)
        ends = first + rows.shape[0] == self._height
        ready = held if ends else held - held % self._step
        if ready:
            together = np.concatenate(self._waiting)
            self._waiting = [together[ready:]] if ready < held else []
            self._rows.append(self._means(together[:ready]))

    def _means(self, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Means of whole squares, the last of which may lack rows."""
        samples = rows.reshape(*rows.shape[:2], -1).astype(np.int64)
        channels = samples.shape[2]
        if channels not in (2, 4):
            means = self._divided(self._sums(samples), self._counts(rows.shape[0]))
            return means.reshape(*means.shape[:2], *rows.shape[2:]).astype(np.uint8)
        alpha = samples[:, :, -1:]
        opacity, plain = self._sums(alpha), self._counts(rows.shape[0])
        colours = self._divided(self._sums(samples[:, :, :-1] * alpha), np.maximum(opacity, 1))
        grounds = self._divided(self._sums(samples[:, :, :-1]), plain)
        shown = np.where(opacity > 0, colours, grounds)
        return np.concatenate((shown, self._divided(opacity, plain)), axis=2).astype(np.uint8)

    def _sums(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums over squares: at most 64 * 64 * 255 * 255, below 2^29."""
        down = np.add.reduceat(samples, np.arange(0, samples.shape[0], self._step), axis=0)
        sums: NDArray[np.int64] = np.add.reduceat(down, np.arange(0, samples.shape[1], self._step), axis=1)
        return sums

    def _counts(self, height: int) -> NDArray[np.int64]:
        """Samples of every square [rows, columns, 1]."""
        down, across = (np.minimum(self._step, size - np.arange(0, size, self._step)) for size in (height, self._width))
        return np.outer(down, across)[..., np.newaxis]

    @staticmethod
    def _divided(sums: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        quotients: NDArray[np.int64] = (2 * sums + counts) // (2 * counts)
        return quotients

    @property
    def samples(self) -> NDArray[np.uint8]:
        """The reduced picture, when all strips are there."""
        return np.concatenate(self._rows)


__all__ = ["STEPS", "Reduced", "check_step"]
