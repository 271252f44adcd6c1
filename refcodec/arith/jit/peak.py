"""Peak throughput of the vector unit: pair products of int16 accumulated in int32, with nothing around them.

The products are written as the convolution's are (refcodec/arith/jit/conv.py), so they become the same instructions;
one factor stays in registers and the other comes from the nearest cache, once for several products. No convolution of
int16 can be faster on the same cores, whose share of this speed ``refcodec bench`` reports.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from .kernels.constants import LANES, PAIRS, PEAK_BLOCKS, PEAK_VECTORS
from .kernels.words import PeakWords, filled
from .native.loader import Kernel
from .team import address, share

_rows = Kernel("peak.rows")


def accumulate(held: np.ndarray, read: np.ndarray, steps: int, rows: int, threads: int) -> np.ndarray:
    """Accumulate pair products, the same in every row.

    Parameters
    ----------
    held : np.ndarray [block, 32], int16
        ``block`` is one of ``PEAK_BLOCKS``.
    read : np.ndarray [64, 32], int16
    steps : int
        At least 1.
    rows : int
        Rows of the result.
    threads : int

    Returns
    -------
    np.ndarray [rows, block, 16], int32
        Sum over k < steps of the pairs of held[n] times those of read[k mod 64], modulo 2^32.
    """
    out = np.zeros((rows, len(held), LANES), np.int32)
    words = PeakWords(out=address(out), held=address(held), read=address(read), steps=steps, block=len(held))
    share(_rows, filled(words), rows, threads)
    return out


class Peak(NamedTuple):
    """Multiply-accumulates per second of the fastest run, and the share of the cores' time that all runs were given."""

    speed: float
    given: float


def measured_peak(threads: int, steps: int = 1 << 17, repeats: int = 3) -> Peak:
    """Measure the peak throughput: run every block on the threads. Other work on the cores shows in ``given``.

    Parameters
    ----------
    threads : int
    steps : int
        Vector products per accumulator.
    repeats : int
        Runs per block; the fastest of all counts.

    Returns
    -------
    Peak
    """
    rng = np.random.default_rng(0)
    read, rows, best = rng.integers(-1 << 12, 1 << 12, (PEAK_VECTORS, PAIRS), np.int16), 16 * threads, 0.0
    wall, used = time.perf_counter(), time.process_time()
    for block in PEAK_BLOCKS:
        held = rng.integers(-1 << 12, 1 << 12, (block, PAIRS), np.int16)
        for _ in range(repeats):
            start = time.perf_counter()
            accumulate(held, read, steps, rows, threads)
            best = max(best, rows * steps * block * PAIRS / (time.perf_counter() - start))
    wall, used = time.perf_counter() - wall, time.process_time() - used
    return Peak(best, min(1.0, used / (wall * threads)))
