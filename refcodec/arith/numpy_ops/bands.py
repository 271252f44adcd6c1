"""Bands of rows whose intermediate results stay in cache, the threads that share them, and products of one thread.

Products are so small that BLAS computes them on the calling thread: its own threads would compete with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ...threads import share_rows

ONE_THREAD = 1 << 18
"""Multiply-accumulates of a product up to which OpenBLAS computes it on the calling thread."""

BAND = 1 << 18  # float64 elements of a band: 2 MiB, about a core's second cache


def share(work: Callable[[int, int], None], rows: int, threads: int, size: int) -> None:
    """Distribute rows over threads, unless the results are too few for it.

    Parameters
    ----------
    work : callable(y0, y1)
    rows, threads : int
    size : int
        Elements of all results together.
    """
    share_rows(work, rows, threads if size > 1 << 14 else 1)


def cut(y0: int, y1: int, row: int) -> Iterator[slice]:
    """Cut rows y0..y1 - 1 into bands.

    Parameters
    ----------
    y0, y1 : int
    row : int
        float64 elements per row.

    Returns
    -------
    iterator of slice
    """
    rows = max(1, BAND // row)
    return (slice(y, min(y + rows, y1)) for y in range(y0, y1, rows))


def blocks(y0: int, y1: int, columns: int, cell: int) -> Iterator[tuple[slice, slice]]:
    """Cut rows into bands, and a row that is too long for one band into parts.

    Parameters
    ----------
    y0, y1 : int
        First row, and the one after the last.
    columns : int
        Cells of a row.
    cell : int
        float64 elements of a cell.

    Yields
    ------
    tuple of slice
        Rows and columns.
    """
    for band in cut(y0, y1, columns * cell):
        for part in cut(0, columns, (band.stop - band.start) * cell):
            yield band, part


def product(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Compute a matrix product as a stack of small products.

    Parameters
    ----------
    a : np.ndarray [m, n], float64
    b : np.ndarray [n, c], float64
    out : np.ndarray [m, c], float64
        Receives a @ b.
    """
    rows = max(1, ONE_THREAD // b.size)
    whole = a.shape[0] // rows * rows
    np.matmul(a[:whole].reshape(-1, rows, a.shape[1]), b, out=out[:whole].reshape(-1, rows, b.shape[1]))
    np.matmul(a[whole:], b, out=out[whole:])
