"""GDN and IGDN as a matrix product in registers, and layer normalisation (SPEC 5.5, 5.6), in Numba.

n = beta + gamma x^2 is a product of integers whose sums the loader has proved to stay below 2^52: float64 is exact in
any order, fused or not. A block of pixels x 32 outputs of sums stays in registers, as in the convolution. What follows
is exact in float64 too: the floor of the root of an integer below 2^52 (numpy_ops), products below 2^15 * 2^26, and
the floor of a quotient. That last: a / r with |a| < 2^53 is rounded to the nearest double; a quotient that is no
integer is at least 1 / r from the next one, and the rounding moves it by at most |a / r| 2^-53 < 1 / r.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import numpy_ops
from .layers import Gdn, Norm
from .maps import BORDER
from .numba_conv import SMALL
from .numba_products import LANES, product_kernel
from .numba_team import address, memory, scratch, share, task

_I16, _I64, _F64 = types.int16, types.int64, types.float64

OUTPUTS = 32

GDN_PIXELS = 6
"""6 x 4 vectors of 8 sums fill 32 registers of AVX-512, 6 x 1 of them the 16 of AVX2."""

MAX_CHANNELS = 512
"""More than the stack holds scratch for: NumPy takes them. No configuration in use has more than 320."""

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
            root = cgutils.get_or_insert_function(b.module, one, "llvm.sqrt.v8f64")
            floor = cgutils.get_or_insert_function(b.module, one, "llvm.floor.v8f64")

            def pointer(array, index, kind):
                data = context.make_array(sig.args[array])(context, b, args[array]).data
                return b.bitcast(b.gep(data, [args[index]]), kind.as_pointer())

            def splat(value):
                value = b.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(i32, 0))
                return b.shuffle_vector(value, ir.Constant(vector, ir.Undefined),
                                        ir.Constant(ir.VectorType(i32, LANES), [0] * LANES))

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

(_X, _OUT, _GAMMA, _BETA, _CHANNELS, _SHIFT, _LIMIT, _INVERSE, _WIDTH, _X_ROW, _X_COLUMN, _OUT_ROW, _OUT_COLUMN,
 _WORDS) = range(14)
"""Words of the arguments; strides in elements."""


@task
def _norm_rows(arguments, y0, y1):
    """Rows y0..y1 of GDN or IGDN."""
    a = memory(arguments, _I64)
    x, out, gamma, beta = memory(a[_X], _I16), memory(a[_OUT], _I16), memory(a[_GAMMA], _F64), memory(a[_BETA], _F64)
    channels, shift, limit, inverse, width = a[_CHANNELS], a[_SHIFT], a[_LIMIT], a[_INVERSE], a[_WIDTH]
    x_row, x_column, out_row, out_column = a[_X_ROW], a[_X_COLUMN], a[_OUT_ROW], a[_OUT_COLUMN]
    squares, n = scratch(_F64, _SCRATCH), scratch(_F64, _SCRATCH)
    half, up, down, top = np.float64((1 << shift) >> 1), np.float64(1 << shift), 1 / np.float64(1 << shift), np.float64(
        limit)
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


class PackedGdn:
    """A layer's matrix in blocks of 32 outputs, [block][input][32] float64, and its arguments."""

    def __init__(self, layer: Gdn, inverse: bool) -> None:
        channels = len(layer.beta)
        padded = channels + -channels % OUTPUTS
        gamma = np.zeros((padded, channels))
        gamma[:channels] = layer.gamma
        self.gamma = np.ascontiguousarray(gamma.reshape(-1, OUTPUTS, channels).transpose(0, 2, 1))
        self.beta = np.ones(padded)
        self.beta[:channels] = layer.beta
        self._words = np.zeros(_WORDS, np.int64)
        self._words[_GAMMA:_WIDTH] = (address(self.gamma), address(self.beta), channels, layer.shift, layer.limit,
                                      inverse)

    def run(self, x: np.ndarray, out: np.ndarray, threads: int) -> None:
        """Compute the whole of out."""
        a = self._words.copy()
        x_row, x_column, out_row, out_column = (s // 2 for s in (*x.strides[:2], *out.strides[:2]))
        a[_X], a[_OUT] = (address(m) + BORDER * (m.strides[0] + m.strides[1]) for m in (x, out))
        rows, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER
        a[_WIDTH:] = width, x_row, x_column, out_row, out_column
        share(_norm_rows, a, rows, threads if 4 * rows * width * self.gamma.size > SMALL else 1)


_packed: WeakKeyDictionary[Gdn, PackedGdn] = WeakKeyDictionary()


def _run(x: np.ndarray, layer: Gdn, out: np.ndarray, inverse: bool, threads: int) -> None:
    packed = _packed.get(layer)
    if packed is None:
        packed = _packed[layer] = PackedGdn(layer, inverse)
    packed.run(x, out, threads)


def gdn(x: np.ndarray, layer: Gdn, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.5) As ``numpy_ops.gdn``."""
    if x.shape[2] > MAX_CHANNELS:
        numpy_ops.gdn(x, layer, out)
    else:
        _run(x, layer, out, False, threads)


def igdn(x: np.ndarray, layer: Gdn, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.5) As ``numpy_ops.igdn``."""
    if x.shape[2] > MAX_CHANNELS:
        numpy_ops.igdn(x, layer, out)
    else:
        _run(x, layer, out, True, threads)


(_N_X, _N_OUT, _N_EPSILON, _N_GAIN, _N_LIMIT, _N_CHANNELS, _N_WIDTH, _N_X_ROW, _N_X_COLUMN, _N_OUT_ROW, _N_OUT_COLUMN,
 _N_WORDS) = range(12)


@task
def _layer_norm_rows(arguments, y0, y1):
    """Rows y0..y1 of layer normalisation.

    d^2 << 2 h is below 2^52 and gain below 2^24 (numpy_ops), so d << h is below 2^26 and every numerator below 2^51:
    float64 gives the floor of the quotient, as above.
    """
    a = memory(arguments, _I64)
    x, out = memory(a[_N_X], _I16), memory(a[_N_OUT], _I16)
    epsilon, limit, channels, width = a[_N_EPSILON], np.float64(a[_N_LIMIT]), a[_N_CHANNELS], a[_N_WIDTH]
    gain = np.float64(a[_N_GAIN])
    x_row, x_column, out_row, out_column = a[_N_X_ROW], a[_N_X_COLUMN], a[_N_OUT_ROW], a[_N_OUT_COLUMN]
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


def layer_norm(x: np.ndarray, layer: Norm, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.6) As ``numpy_ops.layer_norm``."""
    channels = x.shape[2]
    if channels > MAX_CHANNELS:
        numpy_ops.layer_norm(x, layer, out)
        return
    rows, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER
    a = np.zeros(_N_WORDS, np.int64)
    a[:] = (*(address(m) + BORDER * (m.strides[0] + m.strides[1]) for m in (x, out)), layer.epsilon,
            numpy_ops.norm_gain(channels), layer.limit, channels, width,
            *(s // 2 for s in (*x.strides[:2], *out.strides[:2])))
    share(_layer_norm_rows, a, rows, threads if rows * width * channels > SMALL else 1)
