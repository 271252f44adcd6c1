"""Transforms of Winograd's convolution F(4x4, 3x3) (Lavin and Gray 2015) and their adjoints, compiled by Numba.

A map is cut into tiles of 4x4 outputs, each of which sees 6x6 inputs. With V = B' d B of the inputs, U = G g G' of the
filters and Y = A' M A, 36 products of matrices replace the convolution: M[k] = V[k] U[k]. The transforms are linear, so
the backward pass consists of their adjoints.

Maps are [B, C, H, W], C a multiple of LANES. Kernels work on a band of rows of tiles, which are counted through the
batch, so that spread tiles stay in the cache. These are [36, S], of which the first T C numbers of a row hold T tiles
by C channels; S is larger, since rows a power of two apart would share cache lines. LANES channels at a time go
through buffers whose last axis is a vector.
"""

from __future__ import annotations

import numba as nb
import numpy as np

LANES = 16
TILE = 4

_two, _four, _five, _eight = (np.float32(n) for n in (2, 4, 5, 8))  # a plain number would make every product a double

_MAP, _SPREAD, _BAND = "float32[:,:,:,::1]", "float32[:,::1]", "int64, int64"

_inline = nb.njit(inline="always", fastmath=True)


def _kernel(*arguments):
    return nb.njit(f"void({', '.join(arguments)})", nogil=True, cache=True, fastmath=True, error_model="numpy")


@_inline
def _bt(d0, d1, d2, d3, d4, d5):  # B' d
    a, b = d4 - _four * d2, d3 - _four * d1
    c, e = d4 - d2, _two * (d3 - d1)
    return _four * d0 - _five * d2 + d4, a + b, a - b, c + e, c - e, _four * d1 - _five * d3 + d5


@_inline
def _b(m0, m1, m2, m3, m4, m5):  # B m
    s, d, u, v = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        _four * m0,
        _four * (m5 - d) - _two * v,
        -_five * m0 - _four * s - u,
        d + _two * v - _five * m5,
        m0 + s + u,
        m5,
    )


@_inline
def _at(m0, m1, m2, m3, m4, m5):  # A' m
    s, d, u, v = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return m0 + s + u, d + _two * v, s + _four * u, d + _eight * v + m5


@_inline
def _a(y0, y1, y2, y3):  # A y
    e, o, u, v = y0 + y2, y1 + y3, y0 + _four * y2, _two * y1 + _eight * y3
    return y0, e + o, e - o, u + v, u - v, y3


@_kernel(_MAP, _SPREAD, _BAND)
def spread_inputs(x, v, first, last):
    """B' d B of every tile: map x -> tiles v of rows first..last - 1; zeros surround the map."""
    _, channels, height, width = x.shape
    rows, columns = height // TILE, width // TILE
    d = np.zeros((6, width + 2, LANES), np.float32)
    t = np.zeros((6, width + 2, LANES), np.float32)
    for row in range(first, last):
        b, top = row // rows, row % rows * TILE - 1
        for c in range(0, channels, LANES):
            for i in range(6):
                if 0 <= top + i < height:
                    for n in range(LANES):
                        for j in range(width):
                            d[i, j + 1, n] = x[b, c + n, top + i, j]
                else:
                    d[i] = 0
            for j in range(width + 2):
                for n in range(LANES):
                    t[0, j, n], t[1, j, n], t[2, j, n], t[3, j, n], t[4, j, n], t[5, j, n] = _bt(
                        d[0, j, n], d[1, j, n], d[2, j, n], d[3, j, n], d[4, j, n], d[5, j, n]
                    )
            for tile in range(columns):
                at, j = ((row - first) * columns + tile) * channels + c, TILE * tile
                for i in range(6):
                    for n in range(LANES):
                        (
                            v[6 * i, at + n],
                            v[6 * i + 1, at + n],
                            v[6 * i + 2, at + n],
                            v[6 * i + 3, at + n],
                            v[6 * i + 4, at + n],
                            v[6 * i + 5, at + n],
                        ) = _bt(
                            t[i, j, n], t[i, j + 1, n], t[i, j + 2, n], t[i, j + 3, n], t[i, j + 4, n], t[i, j + 5, n]
                        )


@_kernel(_MAP, _SPREAD, _BAND)
def gather_inputs(x, v, first, last):
    """The adjoint of ``spread_inputs``: add B v B' of every tile to map x."""
    _, channels, height, width = x.shape
    rows, columns = height // TILE, width // TILE
    d = np.zeros((6, width + 2, LANES), np.float32)
    t = np.zeros((6, 6, LANES), np.float32)
    for row in range(first, last):
        b, top = row // rows, row % rows * TILE - 1
        for c in range(0, channels, LANES):
            d[...] = 0
            for tile in range(columns):
                at, k = ((row - first) * columns + tile) * channels + c, TILE * tile
                for j in range(6):
                    for n in range(LANES):
                        t[0, j, n], t[1, j, n], t[2, j, n], t[3, j, n], t[4, j, n], t[5, j, n] = _b(
                            v[j, at + n],
                            v[6 + j, at + n],
                            v[12 + j, at + n],
                            v[18 + j, at + n],
                            v[24 + j, at + n],
                            v[30 + j, at + n],
                        )
                for i in range(6):
                    for n in range(LANES):
                        r0, r1, r2, r3, r4, r5 = _b(
                            t[i, 0, n], t[i, 1, n], t[i, 2, n], t[i, 3, n], t[i, 4, n], t[i, 5, n]
                        )
                        d[i, k, n] += r0
                        d[i, k + 1, n] += r1
                        d[i, k + 2, n] += r2
                        d[i, k + 3, n] += r3
                        d[i, k + 4, n] += r4
                        d[i, k + 5, n] += r5
            for i in range(6):
                if 0 <= top + i < height:
                    for n in range(LANES):
                        for j in range(width):
                            x[b, c + n, top + i, j] += d[i, j + 1, n]


@_kernel(_MAP, "float32[::1]", _SPREAD, _BAND)
def gather_outputs(y, bias, m, first, last):
    """A' m A + bias of every tile: tiles m -> map y."""
    _, channels, height, width = y.shape
    rows, columns = height // TILE, width // TILE
    t = np.zeros((4, 6, LANES), np.float32)
    out = np.zeros((4, width, LANES), np.float32)
    for row in range(first, last):
        b, top = row // rows, row % rows * TILE
        for c in range(0, channels, LANES):
            for tile in range(columns):
                at, k = ((row - first) * columns + tile) * channels + c, TILE * tile
                for j in range(6):
                    for n in range(LANES):
                        t[0, j, n], t[1, j, n], t[2, j, n], t[3, j, n] = _at(
                            m[j, at + n],
                            m[6 + j, at + n],
                            m[12 + j, at + n],
                            m[18 + j, at + n],
                            m[24 + j, at + n],
                            m[30 + j, at + n],
                        )
                for i in range(4):
                    for n in range(LANES):
                        out[i, k, n], out[i, k + 1, n], out[i, k + 2, n], out[i, k + 3, n] = _at(
                            t[i, 0, n], t[i, 1, n], t[i, 2, n], t[i, 3, n], t[i, 4, n], t[i, 5, n]
                        )
            for n in range(LANES):
                for i in range(4):
                    for j in range(width):
                        y[b, c + n, top + i, j] = out[i, j, n] + bias[c + n]


@_kernel(_MAP, _SPREAD, _BAND)
def spread_outputs(y, m, first, last):
    """The adjoint of ``gather_outputs``: A y A' of every tile, map y -> tiles m."""
    _, channels, height, width = y.shape
    rows, columns = height // TILE, width // TILE
    d = np.zeros((4, width, LANES), np.float32)
    t = np.zeros((6, width, LANES), np.float32)
    for row in range(first, last):
        b, top = row // rows, row % rows * TILE
        for c in range(0, channels, LANES):
            for n in range(LANES):
                for i in range(4):
                    for j in range(width):
                        d[i, j, n] = y[b, c + n, top + i, j]
            for j in range(width):
                for n in range(LANES):
                    t[0, j, n], t[1, j, n], t[2, j, n], t[3, j, n], t[4, j, n], t[5, j, n] = _a(
                        d[0, j, n], d[1, j, n], d[2, j, n], d[3, j, n]
                    )
            for tile in range(columns):
                at, j = ((row - first) * columns + tile) * channels + c, TILE * tile
                for i in range(6):
                    for n in range(LANES):
                        (
                            m[6 * i, at + n],
                            m[6 * i + 1, at + n],
                            m[6 * i + 2, at + n],
                            m[6 * i + 3, at + n],
                            m[6 * i + 4, at + n],
                            m[6 * i + 5, at + n],
                        ) = _a(t[i, j, n], t[i, j + 1, n], t[i, j + 2, n], t[i, j + 3, n])
