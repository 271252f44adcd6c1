"""The kernels of GDN, IGDN and layer normalisation (SPEC 5.5, 5.6); called from refcodec/arith/jit/norms.py."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..native.build import memory, scratch, task
from ..native.private import declare, elements
from ..norms import GDN_PIXELS, MAX_CHANNELS, OUTPUTS
from . import words as W
from .products import LANES, product_kernel

_I16, _I64, _F64 = types.int16, types.int64, types.float64

_SCRATCH = GDN_PIXELS * MAX_CHANNELS


_block, _single = product_kernel(GDN_PIXELS, OUTPUTS // LANES), product_kernel(1, OUTPUTS // LANES)


def _finish_kernel(inverse):
    """An intrinsic that makes 8 results of 8 sums."""

    @intrinsic
    def finish(typing, n, at, x, x_at, half, scale, limit, out, to):
        """IGDN: floor((x r + half) scale), scale a negative power of two; GDN: floor((x scale + floor(r / 2)) / r),
        scale a positive one; clamped, with r = floor(sqrt(n)).
        """
        i = types.int64

        def codegen(context, b, sig, args):
            f64, i16, i32 = ir.DoubleType(), ir.IntType(16), ir.IntType(32)
            vector, narrow = ir.VectorType(f64, LANES), ir.VectorType(i16, LANES)
            one = ir.FunctionType(vector, [vector])
            root = declare(b.module, one, "llvm.sqrt.v8f64")
            floor = declare(b.module, one, "llvm.floor.v8f64")

            def pointer(array, index, kind):
                data = elements(context, b, sig.args[array], args[array])
                return b.bitcast(b.gep(data, [args[index]]), kind.as_pointer())

            def splat(value):
                value = b.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(i32, 0))
                return b.shuffle_vector(
                    value, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)
                )

            sums = b.load(pointer(0, 1, vector))
            sums.align = 8
            values = b.load(pointer(2, 3, narrow))
            values.align = 2
            values = b.sitofp(values, vector)
            r = b.call(floor, [b.call(root, [sums])])
            scale = splat(args[5])
            if inverse:
                v = b.call(floor, [b.fmul(b.fadd(b.fmul(values, r), splat(args[4])), scale)])
            else:
                rounding = b.call(floor, [b.fmul(r, ir.Constant(vector, [0.5] * LANES))])
                v = b.call(floor, [b.fdiv(b.fadd(b.fmul(values, scale), rounding), r)])
            limit = splat(args[6])
            v = b.select(b.fcmp_ordered("<", v, limit), v, limit)
            low = b.fsub(ir.Constant(vector, [0.0] * LANES), limit)
            v = b.select(b.fcmp_ordered(">", v, low), v, low)
            b.store(b.trunc(b.fptosi(v, ir.VectorType(i32, LANES)), narrow), pointer(7, 8, narrow)).align = 2
            return context.get_dummy_value()

        return types.void(n, i, x, i, _F64, _F64, _F64, out, i), codegen

    return finish


_finish_gdn, _finish_igdn = _finish_kernel(False), _finish_kernel(True)


@task
def gdn_rows(arguments, y0, y1):
    """Rows y0..y1 of GDN or IGDN."""
    a = memory(arguments, _I64)
    x, out = memory(a[W.G_X], _I16), memory(a[W.G_OUT], _I16)
    gamma, beta = memory(a[W.G_GAMMA], _F64), memory(a[W.G_BETA], _F64)
    channels, shift, limit, inverse, width = a[W.G_CHANNELS], a[W.G_SHIFT], a[W.G_LIMIT], a[W.G_INVERSE], a[W.G_WIDTH]
    x_row, x_column, out_row, out_column = a[W.G_X_ROW], a[W.G_X_COLUMN], a[W.G_OUT_ROW], a[W.G_OUT_COLUMN]
    squares, n = scratch(_F64, _SCRATCH), scratch(_F64, _SCRATCH)
    half, up, down, top = (
        np.float64((1 << shift) >> 1),
        np.float64(1 << shift),
        1 / np.float64(1 << shift),
        np.float64(limit),
    )
    for y in range(y0, y1):
        at = 0
        while at < width:
            pixels = GDN_PIXELS if width >= GDN_PIXELS else 1
            at = min(at, width - pixels)
            for i in range(pixels):
                source = y * x_row + (at + i) * x_column
                for c in range(channels):
                    v = np.float64(x[source + c])
                    squares[i * MAX_CHANNELS + c] = v * v
            for c in range(0, channels, OUTPUTS):
                for i in range(pixels):
                    for k in range(OUTPUTS):
                        n[i * MAX_CHANNELS + c + k] = beta[c + k]
                if pixels == 1:
                    _single(n, c, MAX_CHANNELS, squares, 0, MAX_CHANNELS, gamma, c * channels, OUTPUTS, channels)
                else:
                    _block(n, c, MAX_CHANNELS, squares, 0, MAX_CHANNELS, gamma, c * channels, OUTPUTS, channels)
            for i in range(pixels):
                source, target = y * x_row + (at + i) * x_column, y * out_row + (at + i) * out_column
                for c in range(0, channels - 7, 8):
                    if inverse:
                        _finish_igdn(n, i * MAX_CHANNELS + c, x, source + c, half, down, top, out, target + c)
                    else:
                        _finish_gdn(n, i * MAX_CHANNELS + c, x, source + c, half, up, top, out, target + c)
                for c in range(channels - channels % 8, channels):
                    r = np.int64(np.sqrt(n[i * MAX_CHANNELS + c]))
                    v = np.int64(x[source + c])
                    if inverse:
                        v = (v * r + ((1 << shift) >> 1)) >> shift
                    else:
                        v = ((v << shift) + (r >> 1)) // r
                    out[target + c] = min(max(v, -limit), limit)
            at += pixels


@task
def layer_norm_rows(arguments, y0, y1):
    """Rows y0..y1 of layer normalisation.

    d^2 << 2 h is below 2^52 and gain below 2^24 (numpy_ops), so d << h is below 2^26 and every numerator below 2^51:
    float64 gives the floor of the quotient, as above.
    """
    a = memory(arguments, _I64)
    x, out = memory(a[W.N_X], _I16), memory(a[W.N_OUT], _I16)
    epsilon, limit, channels, width = a[W.N_EPSILON], np.float64(a[W.N_LIMIT]), a[W.N_CHANNELS], a[W.N_WIDTH]
    gain = np.float64(a[W.N_GAIN])
    x_row, x_column, out_row, out_column = a[W.N_X_ROW], a[W.N_X_COLUMN], a[W.N_OUT_ROW], a[W.N_OUT_COLUMN]
    d = scratch(_F64, MAX_CHANNELS)
    for y in range(y0, y1):
        for at in range(width):
            source, target = y * x_row + at * x_column, y * out_row + at * out_column
            total = 0
            for c in range(channels):
                total += x[source + c]
            v = epsilon
            for c in range(channels):
                e = channels * np.int64(x[source + c]) - total
                v += e * e
                d[c] = np.float64(e)
            h = 0
            while (v << (2 * h)) < (1 << 50):
                h += 1
            r = np.floor(np.sqrt(np.float64(v << (2 * h))))
            factor, rounding, divisor = np.float64(1 << h) * gain, r * 128.0, r * 256.0
            for c in range(channels):
                q = np.floor((d[c] * factor + rounding) / divisor)
                out[target + c] = np.int32(min(max(q, -limit), limit))
