"""The kernels of GDN, IGDN and layer normalisation (SPEC 5.5, 5.6); called from refcodec/arith/jit/norms.py."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from ..native.blocks import I16, I32, block, inlined, words_at
from ..native.build import memory, scratch, task
from .constants import DOUBLES, GDN_OUTPUTS, GDN_PIXELS, MAX_CHANNELS
from .products import REAL, product_block
from .words import GDN, LAYER_NORM

_I16, _F64 = types.int16, types.float64

_SCRATCH = GDN_PIXELS * MAX_CHANNELS

_block, _single = product_block(GDN_PIXELS, GDN_OUTPUTS // DOUBLES), product_block(1, GDN_OUTPUTS // DOUBLES)


def _finish_block(inverse):
    """A block that turns 8 sums into 8 results of GDN, or of IGDN."""

    def write(w, sums, at, x, x_at, half, scale, limit, out, to):
        def floor(v):
            return w.call("llvm.floor.v8f64", REAL, v)

        values = w.b.sitofp(x.load(x_at, ir.VectorType(I16, DOUBLES)), REAL)
        r = floor(w.call("llvm.sqrt.v8f64", REAL, sums.load(at, REAL)))
        scale, limit = w.splat(REAL, scale), w.splat(REAL, limit)
        if inverse:
            v = floor(w.b.fmul(w.b.fadd(w.b.fmul(values, r), w.splat(REAL, half)), scale))
        else:
            v = floor(w.b.fdiv(w.b.fadd(w.b.fmul(values, scale), floor(w.b.fmul(r, w.every(REAL, 0.5)))), r))
        v = w.larger(w.smaller(v, limit), w.b.fsub(w.every(REAL, 0.0), limit))
        out.store(w.b.trunc(w.b.fptosi(v, ir.VectorType(I32, DOUBLES)), ir.VectorType(I16, DOUBLES)), to)

    @block(write)
    def finish(sums, at, x, x_at, half, scale, limit, out, to):
        """Set out[to..] to results of x[x_at..] clamped to [-limit, limit], with r = floor(sqrt(sums[at..])).

        IGDN: floor((x r + half) scale), scale a negative power of two; GDN: floor((x scale + floor(r / 2)) / r), scale
        a positive one.
        """
        r, values = np.floor(np.sqrt(sums[at : at + DOUBLES])), x[x_at : x_at + DOUBLES]
        v = (values * r + half) * scale if inverse else (values * scale + np.floor(r / 2)) / r
        out[to : to + DOUBLES] = np.floor(v).clip(-limit, limit)

    return finish


_finish_gdn, _finish_igdn = _finish_block(False), _finish_block(True)


@inlined
def _gdn_sums(t, pixels, source, squares, sums):
    """Set the sums beta + gamma x^2 of a block of pixels, in rows of MAX_CHANNELS."""
    x, gamma, beta = memory(t.x, _I16), memory(t.gamma, _F64), memory(t.beta, _F64)
    for i in range(pixels):
        for c in range(t.channels):
            v = np.float64(x[source + i * t.x_column + c])
            squares[i * MAX_CHANNELS + c] = v * v
    for c in range(0, t.channels, GDN_OUTPUTS):
        for i in range(pixels):
            for k in range(GDN_OUTPUTS):
                sums[i * MAX_CHANNELS + c + k] = beta[c + k]
        if pixels == 1:
            _single(sums, c, MAX_CHANNELS, squares, 0, MAX_CHANNELS, 1, gamma, c * t.channels, GDN_OUTPUTS, t.channels)
        else:
            _block(sums, c, MAX_CHANNELS, squares, 0, MAX_CHANNELS, 1, gamma, c * t.channels, GDN_OUTPUTS, t.channels)


@inlined
def _gdn_results(t, sums, first, source, target):
    """Results of a pixel whose sums are sums[first..]."""
    x, out = memory(t.x, _I16), memory(t.out, _I16)
    half, up, limit = np.float64((1 << t.shift) >> 1), np.float64(1 << t.shift), np.float64(t.limit)
    for c in range(0, t.channels - DOUBLES + 1, DOUBLES):
        if t.inverse:
            _finish_igdn(sums, first + c, x, source + c, half, 1 / up, limit, out, target + c)
        else:
            _finish_gdn(sums, first + c, x, source + c, half, up, limit, out, target + c)
    for c in range(t.channels - t.channels % DOUBLES, t.channels):
        r, v = np.int64(np.sqrt(sums[first + c])), np.int64(x[source + c])
        if t.inverse:
            v = (v * r + ((1 << t.shift) >> 1)) >> t.shift
        else:
            v = ((v << t.shift) + (r >> 1)) // r
        out[target + c] = min(max(v, -t.limit), t.limit)


@task
def gdn_rows(arguments, y0, y1):
    """Rows y0..y1 of GDN or IGDN."""
    t = words_at(arguments, GDN)
    squares, sums = scratch(_F64, _SCRATCH), scratch(_F64, _SCRATCH)
    for y in range(y0, y1):
        at = 0
        while at < t.width:
            # Blocks may overlap: a pixel computed twice gets the same value twice.
            pixels = GDN_PIXELS if t.width >= GDN_PIXELS else 1
            at = min(at, t.width - pixels)
            source, target = y * t.x_row + at * t.x_column, y * t.out_row + at * t.out_column
            _gdn_sums(t, pixels, source, squares, sums)
            for i in range(pixels):
                _gdn_results(t, sums, i * MAX_CHANNELS, source + i * t.x_column, target + i * t.out_column)
            at += pixels


@task
def layer_norm_rows(arguments, y0, y1):
    """Rows y0..y1 of layer normalisation.

    d^2 << 2 h is below 2^52 and gain below 2^24 (numpy_ops), so d << h is below 2^26 and every numerator below 2^51:
    float64 gives the floor of the quotient, as above.
    """
    t = words_at(arguments, LAYER_NORM)
    x, out, d = memory(t.x, _I16), memory(t.out, _I16), scratch(_F64, MAX_CHANNELS)
    limit, gain = np.float64(t.limit), np.float64(t.gain)
    for y in range(y0, y1):
        for at in range(t.width):
            source, target = y * t.x_row + at * t.x_column, y * t.out_row + at * t.out_column
            total = 0
            for c in range(t.channels):
                total += x[source + c]
            v = t.epsilon
            for c in range(t.channels):
                e = t.channels * np.int64(x[source + c]) - total
                v += e * e
                d[c] = np.float64(e)
            h = 0
            while (v << (2 * h)) < (1 << 50):
                h += 1
            r = np.floor(np.sqrt(np.float64(v << (2 * h))))
            factor, rounding, divisor = np.float64(1 << h) * gain, r * 128.0, r * 256.0
            for c in range(t.channels):
                q = np.floor((d[c] * factor + rounding) / divisor)
                out[target + c] = np.int32(min(max(q, -limit), limit))
