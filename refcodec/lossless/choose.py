"""Which parts of a picture are stored without loss: the encoder's decision, by rate and distortion.

A codec that was trained on photographs spends many bits on text and graphics and still damages them. Every block of
64x64 pixels is coded the way that costs less: the bits of its symbols and its squared error, or the bits that its
samples take without loss. Nothing here is normative, and nothing decides what a decoder does, so floats are used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rectangles import BLOCK, MAX_ABREAST, MAX_RECTANGLES, Rectangle
from .samples import Source, estimated_bits, keys_of

PROBE_ROWS = 8
"""Rows of a block that the quick look reads."""

MOST_PAIRS = 0.4
"""Share of different pairs of neighbours above which a block is taken for a photograph. Camera noise and grain make
nearly all pairs of a photograph different; text, drawings, flat and dithered areas repeat theirs."""

RECTANGLE_BITS = 500.0
"""About what a rectangle costs in addition to its pixels: its entry, two zlib streams, and colours told again."""

SAVED = 0.9
"""Share of a block's bits that are saved when its samples are replaced by a smooth fill."""

DEAR = 3.0
"""Bits per pixel, of symbols and error together, above which a block next to graphics is examined closely although it
looks like a photograph: text at the border of one is in such blocks."""

LEAST_GAIN = 0.05
"""Share of a picture's cost that all rectangles together must save. Less is not worth coding the rest a second time,
and a photograph with a white sky or a black border stays as it is."""


def graphics(source: Source, height: int, width: int) -> NDArray[np.bool_]:
    """Which blocks may be worth storing without loss, by a quick look at a few of their rows.

    Parameters
    ----------
    source : callable
        Gives strips of the picture.
    height, width : int
        Size of the picture.

    Returns
    -------
    [ceil(height / 64), ceil(width / 64)] bool
        False for photographs.
    """
    blocks = np.zeros((-(-height // BLOCK), -(-width // BLOCK)), np.bool_)
    for i, row in enumerate(blocks):
        count = min(BLOCK, height - i * BLOCK)
        strip = source(i * BLOCK, count)[:: BLOCK // PROBE_ROWS]
        keys = np.pad(keys_of(strip), ((0, 0), (0, -width % BLOCK)), mode="edge")
        # A pair's number: equal pairs have equal numbers, and different ones hardly ever.
        pairs = keys * np.uint32(2654435761) ^ np.roll(keys, 1, axis=1) * np.uint32(40503)
        pairs = np.sort(pairs.reshape(len(strip), -1, BLOCK).swapaxes(0, 1).reshape(len(row), -1), axis=1)
        different = 1 + np.count_nonzero(pairs[:, 1:] != pairs[:, :-1], axis=1)
        columns = np.minimum(BLOCK, width - BLOCK * np.arange(len(row)))
        row[...] = different <= np.maximum(1, MOST_PAIRS * len(strip) * columns)
    return blocks


def stored_bits(source: Source, height: int, width: int, coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """About what every block takes, in bits, if it is stored without loss and shares nothing with other blocks.

    Parameters
    ----------
    source : callable
        Gives strips of the picture.
    height, width : int
        Size of the picture.
    coded : [ceil(height / 64), ceil(width / 64)] float64
        What each block costs, in bits, if it is not stored.

    Returns
    -------
    [ceil(height / 64), ceil(width / 64)] float64
        Infinite for blocks that look like photographs and are coded well.
    """
    result = np.full(coded.shape, np.inf)
    sure = graphics(source, height, width)
    around = np.pad(sure, 1)
    beside = np.lib.stride_tricks.sliding_window_view(around, (3, 3)).any(axis=(2, 3))
    close = (sure & (coded > 0)) | (beside & (coded > DEAR * BLOCK * BLOCK))
    for i, j in np.argwhere(close).tolist():
        y, x = i * BLOCK, j * BLOCK
        result[i, j] = estimated_bits(source(y, min(BLOCK, height - y))[:, x : x + BLOCK])
    return result


def _runs(costs: NDArray[np.float64], each: float) -> list[tuple[int, int]]:
    """The runs of blocks of a row that cost least together, if a run costs ``each`` in addition."""
    outside, inside = 0.0, np.inf
    entered, starts, kept = 0, [], []  # where the best open run began; the choice at every block
    for j, cost in enumerate(costs.tolist()):
        if outside + each <= inside:
            inside, entered = outside + each, j
        inside += cost
        starts.append(entered)
        kept.append(inside < outside)
        outside = min(outside, inside)
    runs: list[tuple[int, int]] = []
    j = len(starts) - 1
    while j >= 0:
        if kept[j]:
            runs.append((starts[j], j + 1))
            j = starts[j]
        j -= 1
    return runs[::-1]


def merged(costs: NDArray[np.float64]) -> list[tuple[int, int, int, int]]:
    """Rectangles of blocks that cost little together.

    Parameters
    ----------
    costs : [rows, columns] float64
        What each costs more if it is stored.

    Returns
    -------
    list of (row, column, rows, columns)
        In raster order, without overlap. Each costs less than nothing, `RECTANGLE_BITS` included.
    """
    sums = np.zeros((costs.shape[0] + 1, costs.shape[1] + 1))
    finite = np.minimum(costs, 1e12)  # sums of infinities would have no differences
    sums[1:, 1:] = finite.cumsum(axis=0).cumsum(axis=1)

    def total(top: int, bottom: int, left: int, right: int) -> float:
        return float(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])

    open_runs: list[list[int]] = []  # top, left, right of rectangles that reach the row above
    done: list[tuple[int, int, int, int]] = []
    for i in range(costs.shape[0] + 1):
        runs = _runs(finite[i], RECTANGLE_BITS / 4) if i < costs.shape[0] else []
        grown: list[list[int]] = []
        for top, left, right in open_runs:
            # The same columns once more, if that costs less than the runs of this row and a new rectangle for each.
            within = [run for run in runs if run[0] < right and run[1] > left]
            apart = sum(total(i, i + 1, *run) + RECTANGLE_BITS for run in within)
            inside = all(left <= run[0] and run[1] <= right for run in within)
            if within and inside and total(i, i + 1, left, right) <= apart:
                grown.append([top, left, right])
                runs = [run for run in runs if run not in within]
            else:
                done.append((top, left, i - top, right - left))
        open_runs = sorted(grown + [[i, left, right] for left, right in runs], key=lambda run: run[1])
    return sorted(
        (top, left, rows, columns)
        for top, left, rows, columns in done
        if total(top, top + rows, left, left + columns) + RECTANGLE_BITS < 0
    )


def choose_rectangles(
    stored: NDArray[np.float64], coded: NDArray[np.float64], height: int, width: int
) -> list[Rectangle]:
    """Choose the rectangles that are stored without loss.

    Parameters
    ----------
    stored, coded : [ceil(height / 64), ceil(width / 64)] float64
        What each block costs, in bits, if it is stored and if it is coded: bits and weighted squared error.
    height, width : int
        Size of the picture.

    Returns
    -------
    list of Rectangle
        In raster order, without overlap, within the limits of SPEC 8.11; empty for photographs. One that covers the
        picture asks for a lossless stream.
    """
    costs = stored - coded
    found = merged(costs)
    gain = -sum(float(costs[y : y + h, x : x + w].sum()) + RECTANGLE_BITS for y, x, h, w in found)
    if gain < LEAST_GAIN * float(coded.sum()):
        return []
    abreast = np.zeros(coded.shape[0] + 1, np.int64)
    for top, _, rows, _ in found:
        abreast[top] += 1
        abreast[top + rows] -= 1
    if len(found) > MAX_RECTANGLES or abreast.cumsum().max(initial=0) > MAX_ABREAST:
        return []  # a speckled picture of thousands of blocks per row; no rectangle is dear enough to search for a cure
    return [
        Rectangle(
            BLOCK * top,
            BLOCK * left,
            min(BLOCK * columns, width - BLOCK * left),
            min(BLOCK * rows, height - BLOCK * top),
        )
        for top, left, rows, columns in found
    ]
