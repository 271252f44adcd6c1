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
from .layers import Gdn
from .maps import BORDER
from .numba_conv import PIXELS, SMALL
from .numba_team import address, memory, scratch, share, task

_I16, _I64, _F64 = types.int16, types.int64, types.float64

LANES, OUTPUTS = 8, 32

GDN_PIXELS = 6 if PIXELS == 12 else 1
"""6 x 4 vectors of 8 sums fill 32 registers of AVX-512; 1 x 4 of them are 8 of the 16 registers of AVX2."""

MAX_CHANNELS = 512
"""More than the stack holds scratch for: NumPy takes them. No configuration in use has more than 320."""

_SCRATCH = GDN_PIXELS * MAX_CHANNELS


def _products_kernel(pixels):
    """An intrinsic that computes n of a block of ``pixels`` x 32 outputs."""
    @intrinsic
    def block(typing, n, at, beta, first, gamma, gamma_at, squares, channels):
        """n[at + 512 p + k] = beta[first + k] + sum over j of gamma[gamma_at + 32 j + k] squares[512 p + j]."""
        i = types.int64

        def codegen(context, b, sig, args):
            f64, i64, i32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
            vector = ir.VectorType(f64, LANES)
            zero = ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)
            undefined = ir.Constant(vector, ir.Undefined)
            fma = cgutils.get_or_insert_function(b.module, ir.FunctionType(vector, [vector] * 3), "llvm.fmuladd.v8f64")

            def data(n):
                return context.make_array(sig.args[n])(context, b, args[n]).data

            def load(p):
                value = b.load(b.bitcast(p, vector.as_pointer()))
                value.align = 8
                return value

            def const(v):
                return ir.Constant(i64, v)

            n_p, beta_p = b.gep(data(0), [args[1]]), b.gep(data(2), [args[3]])
            gamma_p, squares_p = b.gep(data(4), [args[5]]), data(6)
            vectors = OUTPUTS // LANES
            start = [load(b.gep(beta_p, [const(LANES * k)])) for k in range(vectors)] * pixels
            entry, loop, done = b.block, b.function.append_basic_block("channel"), b.function.append_basic_block("done")
            b.branch(loop)
            b.position_at_end(loop)
            j, sums = b.phi(i64), [b.phi(vector) for _ in start]
            row = b.gep(gamma_p, [b.mul(j, const(OUTPUTS))])
            weights = [load(b.gep(row, [const(LANES * k)])) for k in range(vectors)]
            new = []
            for p in range(pixels):
                square = b.load(b.gep(squares_p, [b.add(j, const(p * MAX_CHANNELS))]))
                splat = b.shuffle_vector(b.insert_element(undefined, square, ir.Constant(i32, 0)), undefined, zero)
                new += [b.call(fma, [weights[k], splat, sums[p * vectors + k]]) for k in range(vectors)]
            following = b.add(j, const(1))
            for phi, first, later in zip([j, *sums], [const(0), *start], [following, *new], strict=True):
                phi.add_incoming(first, entry)
                phi.add_incoming(later, loop)
            b.cbranch(b.icmp_signed("<", following, args[7]), loop, done)
            b.position_at_end(done)
            for t, value in enumerate(new):
                to = b.gep(n_p, [const(t // vectors * MAX_CHANNELS + t % vectors * LANES)])
                b.store(value, b.bitcast(to, vector.as_pointer())).align = 8
            return context.get_dummy_value()

        return types.void(n, i, beta, i, gamma, i, squares, i), codegen

    return block


_block, _single = _products_kernel(GDN_PIXELS), _products_kernel(1)


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
                if pixels == 1:
                    _single(n, c, beta, c, gamma, c * channels, squares, channels)
                else:
                    _block(n, c, beta, c, gamma, c * channels, squares, channels)
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
