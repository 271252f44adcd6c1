"""PNG's five filters on rows of bytes (SPEC 8.10).

A filter predicts a byte from three that are already known: the one at the pixel to the left (a), the one above (b) and
the one above and a pixel to the left (c). Neighbours outside the rows are zero. All sums are modulo 256.

Rows depend on each other, and so do the pixels of a row with the filters Average and Paeth. Pixel (r, i) needs only
(r, i - 1), (r - 1, i) and (r - 1, i - 1), so all pixels with the same r + i are independent: NumPy computes one such
diagonal after another. Where diagonals are short, because there are few rows or few pixels in a row, Python goes byte
by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

SUB, UP, AVERAGE, PAETH = 1, 2, 3, 4
FILTERS = 5


class Filters(IntEnum):
    """How an encoder chooses the filter of a row: always the same, or the best by a measure of the filtered bytes."""

    NONE, SUB, UP, AVERAGE, PAETH = range(5)
    SUM = 5
    """The smallest sum of magnitudes, bytes taken as signed."""
    ENTROPY = 6
    """The smallest entropy."""


_DIAGONAL_ROWS = 256
"""Rows that are computed by diagonals at once, if they are not wider: with n rows of w pixels, these take (n + w) n."""

_LEAST_ABREAST = 96
"""Bytes of a diagonal from which on NumPy is faster than Python's loop: it takes some 20 us per diagonal."""

Bytes = NDArray[np.uint8]


def neighbours(rows: Bytes, above: Bytes) -> tuple[Bytes, Bytes, Bytes]:
    """Bytes to the left, above, and above to the left of every byte.

    Parameters
    ----------
    rows : [n, w, bpp] uint8
    above : [w, bpp] uint8
        The row before the first.

    Returns
    -------
    a, b, c : [n, w, bpp] uint8
    """
    b = np.concatenate((above[np.newaxis], rows[:-1]))
    a, c = np.zeros_like(rows), np.zeros_like(rows)
    a[:, 1:], c[:, 1:] = rows[:, :-1], b[:, :-1]
    return a, b, c


def paeth(a: NDArray[np.int16], b: NDArray[np.int16], c: NDArray[np.int16]) -> NDArray[np.int16]:
    """The one of a, b, c that is nearest to a + b - c; the first of equals.

    Parameters
    ----------
    a, b, c : np.ndarray, int16
        Bytes 0..255 at the left, above, and above at the left, all of one shape.

    Returns
    -------
    np.ndarray, int16
        Of the same shape.
    """
    to_a, to_b = np.abs(b - c), np.abs(a - c)
    to_c = np.abs(a + b - 2 * c)
    return np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))


def filtered(rows: Bytes, above: Bytes) -> Iterator[Bytes]:
    """Rows after each of the five filters, in the order of their numbers; arguments as `neighbours`."""
    a, b, c = (x.astype(np.int16) for x in neighbours(rows, above))
    for prediction in (np.int16(0), a, b, (a + b) >> 1, paeth(a, b, c)):
        yield (rows - prediction).astype(np.uint8)


def filter_rows(rows: Bytes, above: Bytes, choice: Filters) -> Bytes:
    """Filter rows.

    Parameters
    ----------
    rows : [n, w, bpp] uint8
    above : [w, bpp] uint8
        The row before the first.
    choice : Filters

    Returns
    -------
    [n, 1 + w * bpp] uint8
        A filter byte and the filtered bytes of every row.
    """
    n = len(rows)
    out = np.empty((n, 1 + rows[0].size), np.uint8)
    if choice is Filters.NONE:
        out[:, 0], out[:, 1:] = choice, rows.reshape(n, -1)
        return out
    least = np.full(n, np.inf)
    for number, candidate in enumerate(filtered(rows, above)):
        if choice < FILTERS and choice != number:
            continue
        flat = candidate.reshape(n, -1)
        cost = np.zeros(n) if choice < FILTERS else _cost(flat, choice)
        better = cost < least
        out[better, 0], out[better, 1:], least[better] = number, flat[better], cost[better]
    return out


def _cost(rows: Bytes, choice: Filters) -> NDArray[np.float64]:
    """The measure of every row that `Filters` names; [n] float64."""
    if choice is Filters.SUM:
        magnitudes: NDArray[np.int16] = np.abs(rows.view(np.int8).astype(np.int16))
        return np.asarray(magnitudes.sum(axis=1), np.float64)
    cost = np.empty(len(rows))
    for r, row in enumerate(rows):
        counts = np.bincount(row)
        counts = counts[counts > 0]
        cost[r] = -(counts * np.log2(counts)).sum()
    return cost


def unfilter(rows: Bytes, filters: Bytes, above: Bytes) -> None:
    """Undo the filters in place.

    Parameters
    ----------
    rows : [n, w, bpp] uint8
        Filtered rows; samples afterwards.
    filters : [n] uint8, 0..4
        The filter of each row.
    above : [w, bpp] uint8
        The row before the first, zero before row 0.
    """
    n, width, bpp = rows.shape
    if min(n, width) * bpp < _LEAST_ABREAST:
        slow = filters >= AVERAGE
        for first, end in pairwise([*np.flatnonzero(np.diff(slow, prepend=~slow[:1])).tolist(), n]):
            if not slow[first]:
                above = _by_rows(rows[first:end], filters[first:end], above)
                continue
            for r in range(first, end):
                _by_bytes(rows[r], above, int(filters[r]))
                above = rows[r]
        return
    serial = np.flatnonzero(filters >= AVERAGE)
    first, end = (int(serial[0]), int(serial[-1]) + 1) if serial.size else (n, n)
    above = _by_rows(rows[:first], filters[:first], above)
    step = max(width, _DIAGONAL_ROWS)
    for row in range(first, end, step):
        part = slice(row, min(row + step, end))
        _by_diagonals(rows[part], filters[part], above)
        above = rows[part.stop - 1]
    _by_rows(rows[end:], filters[end:], above)


def _by_bytes(row: Bytes, above: Bytes, number: int) -> None:
    """Undo Average or Paeth in one row in place, byte after byte."""
    for s in range(row.shape[1]):
        a = c = 0
        out = bytearray()
        for x, b in zip(row[:, s].tobytes(), above[:, s].tobytes(), strict=True):
            if number == AVERAGE:
                a = x + (a + b >> 1) & 255
            else:
                to_a, to_b = abs(b - c), abs(a - c)
                to_c = abs(a + b - 2 * c)
                a = x + (a if to_a <= to_b and to_a <= to_c else b if to_b <= to_c else c) & 255
                c = b
            out.append(a)
        row[:, s] = out


def _by_rows(rows: Bytes, filters: Bytes, above: Bytes) -> Bytes:
    """Undo None, Sub and Up in place, a run of rows with the same filter at a time; the last row."""
    starts = np.flatnonzero(np.diff(filters, prepend=255))
    for first, end in pairwise([*starts.tolist(), len(rows)]):
        run = rows[first:end]
        if filters[first] == SUB:
            np.cumsum(run, axis=1, dtype=np.uint8, out=run)
        elif filters[first] == UP:
            run[0] += above
            np.cumsum(run, axis=0, dtype=np.uint8, out=run)
        above = run[-1]
    return above


def _by_diagonals(rows: Bytes, filters: Bytes, above: Bytes) -> None:
    """Undo any filters in place, one diagonal after another.

    Paeth's rule gives the other predictions but Average too: it is a where b and c are zero, b where a and c are zero.
    """
    n, width, bpp = rows.shape
    # Pixel i of row r is skewed[i + r + 2, r + 1], and row -1 is column 0. What lies left of the rows stays zero; what
    # lies right of them is never read for a pixel.
    skewed = np.zeros((n + width + 1, n + 1, bpp), np.int16)
    step, row, byte = skewed.strides
    pixels = as_strided(skewed[2:, 1:], (n, width, bpp), (step + row, step, byte))
    pixels[...] = rows
    skewed[1 : width + 1, 0] = above
    use_a, use_b, use_c, average = (
        np.where(np.isin(filters, used), -1, 0).astype(np.int16)[:, np.newaxis]
        for used in ((SUB, AVERAGE, PAETH), (UP, AVERAGE, PAETH), (PAETH,), (AVERAGE,))
    )
    averages = bool(average.any())
    for t in range(2, n + width + 1):
        low, high = max(0, t - width - 1), min(n, t - 1)
        left, upper = skewed[t - 1, low + 1 : high + 1], skewed[t - 1, low:high]
        a, b, c = left & use_a[low:high], upper & use_b[low:high], skewed[t - 2, low:high] & use_c[low:high]
        prediction = paeth(a, b, c)
        if averages:
            prediction = np.where(average[low:high], (a + b) >> 1, prediction)
        here = skewed[t, low + 1 : high + 1]
        here += prediction
        here &= 255
    rows[...] = pixels
