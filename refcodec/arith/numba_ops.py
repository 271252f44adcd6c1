"""Layer normalisation and the exponential in Numba (SPEC 5.6, 5.7); the twin of numpy_ops.py, integer by integer.

Kernels work on rows of maps, neither allocate nor raise, and widen every load to int64. float64 holds integers only:
sums of GDN below 2^52 and their square roots, whose floors are exact (numpy_ops._norm_root).
"""

from __future__ import annotations

import numpy as np
from numba import types

from .backend import kernel, reads, writes

_I16, _I32, _I64, _F64 = types.int16, types.int32, types.int64, types.float64
_ROWS_IN, _ROWS_OUT = reads(_I16, 3), writes(_I16, 3)


@kernel(_ROWS_IN, _I64, _I64, _I64, _ROWS_OUT, _I64, _I64, writes(_I64, 1, "C"))
def norm_rows(x, epsilon, gain, limit, out, y0, y1, d):
    """Rows of layer normalisation on interiors; d [C] int64 is scratch."""
    channels = x.shape[2]
    for y in range(y0, y1):
        for at in range(x.shape[1]):
            total = 0
            for c in range(channels):
                total += x[y, at, c]
            v = epsilon
            for c in range(channels):
                d[c] = channels * np.int64(x[y, at, c]) - total
                v += d[c] * d[c]
            h = 0
            while (v << (2 * h)) < (1 << 50):
                h += 1
            r = np.int64(np.sqrt(np.float64(v << (2 * h))))
            for c in range(channels):
                q = (((d[c] << h) * gain) + (r << 7)) // (r << 8)
                out[y, at, c] = min(max(q, -limit), limit)


@kernel(_I64, reads(_I32, 1, "C"))
def _exp2(t, table):
    n = min(t >> 16, 40)
    i, j = (t >> 8) & 255, t & 255
    a = np.int64(table[i]) * (256 - j) + np.int64(table[i + 1]) * j
    return (a + (1 << (n + 7))) >> (n + 8)
