"""Fill the samples under rectangles before a picture is coded, with a smooth surface that continues the rest.

A decoder writes the stored samples over it, so it need only be cheap. The surface is a grid of cells of 8x8 pixels,
completed from the cells around by a pyramid and a few steps of diffusion, and interpolated between their centres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .rectangles import BLOCK, Rectangle
from .samples import Source

CELL = 8

_SMOOTHINGS = 8
"""Steps of diffusion on every level of the pyramid."""

Grid: TypeAlias = NDArray[np.floating]

Hidden: TypeAlias = Callable[[int, int], NDArray[np.bool_]]


def _halved(x: Grid) -> Grid:
    """Sums of 2x2 cells, missing ones zero."""
    padded = np.pad(x, [(0, x.shape[0] % 2), (0, x.shape[1] % 2)] + [(0, 0)] * (x.ndim - 2))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]


def completed(values: Grid, known: Grid) -> Grid:
    """Give unknown cells values that continue the known ones.

    Parameters
    ----------
    values : [h, w, c] float32
        Where nothing is known, anything finite.
    known : [h, w] float32
        1 for known cells, 0 for others.

    Returns
    -------
    [h, w, c] float32
        Known values as they are; 128 everywhere if nothing is known.
    """
    if known.all():
        return values
    if known.shape == (1, 1):
        return np.full_like(values, 128)
    weight = _halved(known)
    coarse = completed(
        _halved(values * known[..., np.newaxis]) / np.maximum(weight, 1)[..., np.newaxis], np.minimum(weight, 1)
    )
    result = coarse.repeat(2, axis=0).repeat(2, axis=1)[: known.shape[0], : known.shape[1]]
    fixed = known[..., np.newaxis] > 0
    result = np.where(fixed, values, result)
    for _ in range(_SMOOTHINGS):
        p = np.pad(result, ((1, 1), (1, 1), (0, 0)), mode="edge")
        mean = (p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:]) * np.float32(0.25)
        result = np.where(fixed, values, mean)
    return result


def _places(first: int, count: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Grid]:
    """The two cells whose centres are around every pixel, and the weight of the second."""
    at = np.clip(
        (np.arange(first, first + count, dtype=np.float32) + np.float32(0.5)) / CELL - np.float32(0.5), 0, cells - 1
    )
    low = at.astype(np.intp)
    return low, np.minimum(low + 1, cells - 1), at - low.astype(np.float32)


def filled(source: Source, rectangles: Sequence[Rectangle], height: int, width: int) -> Source:
    """A source of the same picture with a smooth surface in place of its rectangles.

    Parameters
    ----------
    source : callable
        Gives strips of the picture.
    rectangles : sequence of Rectangle
        Where they are is filled.
    height, width : int
        Size of the picture.

    Returns
    -------
    callable
        Strips as ``source`` gives them, filled.
    """
    if not rectangles:
        return source

    def hidden(first: int, count: int) -> NDArray[np.bool_]:
        mask = np.zeros((count, width), np.bool_)
        for y, x, w, h in rectangles:
            mask[max(0, y - first) : max(0, y + h - first), x : x + w] = True
        return mask

    return filled_where(source, hidden, height, width)


def filled_where(source: Source, hidden: Hidden, height: int, width: int) -> Source:
    """A source of the same picture with a smooth surface in place of hidden pixels.

    Parameters
    ----------
    source : callable
        Gives strips of the picture.
    hidden : callable
        Gives rows ``first`` to ``first + count`` of a mask, [count, width] bool.
    height, width : int
        Size of the picture.

    Returns
    -------
    callable
        Strips as ``source`` gives them, filled.
    """
    shape = -(-height // CELL), -(-width // CELL)
    known = np.zeros(shape, np.float32)
    values: Grid | None = None
    for first in range(0, height, BLOCK):
        count = min(BLOCK, height - first)
        strip, seen = source(first, count).astype(np.float32), (~hidden(first, count)).astype(np.float32)
        if values is None:
            values = np.zeros((*shape, strip.shape[2]), np.float32)
        pad = ((0, -count % CELL), (0, -width % CELL))
        rows = -(-count // CELL)
        weight = np.pad(seen, pad).reshape(rows, CELL, shape[1], CELL).sum(axis=(1, 3))
        sums = np.pad(strip * seen[..., np.newaxis], (*pad, (0, 0))).reshape(rows, CELL, shape[1], CELL, -1)
        at = first // CELL
        values[at : at + rows] = sums.sum(axis=(1, 3)) / np.maximum(weight, 1)[..., np.newaxis]
        known[at : at + rows] = weight > 0
    surface = completed(np.asarray(values), known)

    def strips(first: int, count: int) -> NDArray[np.uint8]:
        strip: NDArray[np.uint8] = source(first, count)
        mask = hidden(first, count)
        if not mask.any():
            return strip
        above, below, part = _places(first, len(strip), shape[0])
        left, right, share = _places(0, width, shape[1])
        upper, lower = (
            surface[rows][:, left] * (1 - share)[:, np.newaxis] + surface[rows][:, right] * share[:, np.newaxis]
            for rows in (above, below)
        )
        part = part[:, np.newaxis, np.newaxis]
        smooth = np.rint(upper * (1 - part) + lower * part).astype(np.uint8)
        return np.where(mask[..., np.newaxis], smooth, strip)

    return strips
