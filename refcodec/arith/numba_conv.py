"""The int16 convolution at the speed of the vector unit (SPEC 5.3), in Numba.

- A window row of a map is a contiguous run of kernel * C numbers (or kernel runs of C where the map is a view on a
  range of channels), so no im2col is needed.
- Weights are packed once as [pair of inputs][outputs][2] for every block of 32 outputs (of 16 where 16 or fewer
  are left, and everywhere without AVX-512): one 512-bit register holds 16 outputs x 2 inputs.
- ``_block_kernel`` writes vector IR for a block of pixels x outputs: splat a pair of inputs, widen to int32, multiply,
  add even and odd lanes. LLVM turns that into vpdpwssd, vpmaddwd, pmaddwd or smlal, whatever the machine has. Sums
  wrap modulo 2^32 in any order; the loader has proved the final one to fit, so every machine gets the same number.
- What follows the sum (branch, shift, GELU, clamp, residual sum, narrowing) runs on the block while it is in the
  nearest cache, 16 lanes at a time. Left to the compiler, the table look-ups of GELU ran one by one at 0.7 ns each and
  cost g_s more than its products; as a gather they take 0.2 ns.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .layers import Conv, Sum
from .maps import BORDER
from .numba_target import WIDE
from .numba_team import address, memory, scratch, share, task

LANES = 16


PIXELS, VECTORS = (12, 2) if WIDE else (6, 1)
"""Pixels and vectors of 16 outputs of the block whose sums fit the registers.

AVX-512 has 32 registers of 16 sums: 12 x 2. AVX2 has 16 of 8 sums: 6 x 1 vectors take 12 and leave room for two of
weights, the pair of inputs and a product. With 3 x 2 the weights came from memory again for every pixel, which kept the
multipliers waiting for half of the time (37 GMAC/s a thread instead of 56).
"""

OUTPUTS = VECTORS * LANES
FEW = 4 if VECTORS == 2 else 2
"""Pixels of the block that covers what is left of a row: 8 accumulators still hide most of the latency."""


def _block_kernel(pixels, vectors):
    """An intrinsic that computes a block of ``pixels`` x ``vectors`` * 16 outputs over all window runs."""
    i16, i32, i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
    pairs, wide, sums = ir.VectorType(i16, 32), ir.VectorType(i32, 32), ir.VectorType(i32, 16)
    even = ir.Constant(sums, [2 * t for t in range(16)])
    odd = ir.Constant(sums, [2 * t + 1 for t in range(16)])
    undefined, splat_mask = ir.Constant(sums, ir.Undefined), ir.Constant(sums, [0] * 16)

    def const(v):
        return ir.Constant(i64, v)

    @intrinsic
    def block(typing, acc, bias, first, x, x_at, stride, w, w_at, runs, n_runs, half_run):
        """Set acc[pixel * OUTPUTS + j] = bias[first + j] + sum over runs r, k < half_run of the pairs of inputs at
        x[x_at + pixel * stride + runs[r] + 2 k] times the pairs of weights from w[w_at] on.
        """
        i = types.int64
        signature = types.void(acc, bias, i, x, i, i, w, i, runs, i, i)

        def codegen(context, b, sig, args):
            acc, bias, first, x, x_at, stride, w, w_at, runs, n_runs, half_run = args

            def data(i, v):
                return context.make_array(sig.args[i])(context, b, v).data

            def load(p, t, align):
                value = b.load(b.bitcast(p, t.as_pointer()))
                value.align = align
                return value

            acc_p, bias_p, x_p = data(0, acc), b.gep(data(1, bias), [first]), b.gep(data(3, x), [x_at])
            w_p, run_p = b.gep(data(6, w), [w_at]), data(8, runs)
            n = pixels * vectors
            start = [load(b.gep(bias_p, [const(16 * j)]), sums, 4) for j in range(vectors)] * pixels
            entry, f = b.block, b.function
            run_head, run_body, pair_loop, run_end, done = (
                f.append_basic_block(s) for s in ("run_head", "run_body", "pair_loop", "run_end", "done"))
            b.branch(run_head)
            b.position_at_end(run_head)
            r, w_run = b.phi(i64), b.phi(i64)
            run_sums = [b.phi(sums) for _ in range(n)]
            for phi, v in zip([r, w_run, *run_sums], [const(0), const(0), *start], strict=True):
                phi.add_incoming(v, entry)
            b.cbranch(b.icmp_signed("<", r, n_runs), run_body, done)
            b.position_at_end(run_body)
            x_run = b.gep(x_p, [b.load(b.gep(run_p, [r]))])
            b.branch(pair_loop)
            b.position_at_end(pair_loop)
            k, w_k = b.phi(i64), b.phi(i64)
            pair_sums = [b.phi(sums) for _ in range(n)]
            for phi, v in zip([k, w_k, *pair_sums], [const(0), w_run, *run_sums], strict=True):
                phi.add_incoming(v, run_body)
            weights = [b.sext(load(b.gep(w_p, [b.add(w_k, const(32 * j))]), pairs, 2), wide) for j in range(vectors)]
            new = []
            for p in range(pixels):
                at = b.add(b.mul(stride, const(p)), b.mul(k, const(2)))
                pair = load(b.gep(x_run, [at]), i32, 2)
                splat = b.shuffle_vector(b.insert_element(undefined, pair, ir.Constant(i32, 0)), undefined, splat_mask)
                inputs = b.sext(b.bitcast(splat, pairs), wide)
                for j in range(vectors):
                    products = b.mul(inputs, weights[j])
                    halves = [b.shuffle_vector(products, ir.Constant(wide, ir.Undefined), m) for m in (even, odd)]
                    new.append(b.add(pair_sums[p * vectors + j], b.add(*halves)))
            k_next, w_next = b.add(k, const(1)), b.add(w_k, const(32 * vectors))
            for phi, v in zip([k, w_k, *pair_sums], [k_next, w_next, *new], strict=True):
                phi.add_incoming(v, pair_loop)
            b.cbranch(b.icmp_signed("<", k_next, half_run), pair_loop, run_end)
            b.position_at_end(run_end)
            for phi, v in zip([r, w_run, *run_sums], [b.add(r, const(1)), w_next, *new], strict=True):
                phi.add_incoming(v, run_end)
            b.branch(run_head)
            b.position_at_end(done)
            for t, v in enumerate(run_sums):
                at = const(t // vectors * OUTPUTS + t % vectors * 16)
                b.store(v, b.bitcast(b.gep(acc_p, [at]), sums.as_pointer())).align = 4
            return context.get_dummy_value()

        return signature, codegen

    return block


_many_wide, _few_wide, _one_wide = (_block_kernel(p, VECTORS) for p in (PIXELS, FEW, 1))
_many_narrow, _few_narrow, _one_narrow = (_block_kernel(p, 1) for p in (PIXELS, FEW, 1))


class _Lanes:
    """Writes IR on 16 lanes of int32 in memory."""

    def __init__(self, context, builder, signature, args):
        self.context, self.b, self.signature, self.args = context, builder, signature, args
        self.i16, self.i32, self.i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
        self.narrow, self.vector = ir.VectorType(self.i16, LANES), ir.VectorType(self.i32, LANES)
        self.zero = ir.Constant(self.vector, [0] * LANES)

    def pointer(self, array, index):
        """Where 16 elements of argument ``array`` start."""
        data = self.context.make_array(self.signature.args[array])(self.context, self.b, self.args[array]).data
        return self.b.gep(data, [index])

    def load(self, array, at):
        """16 elements, widened to int32, from the index in argument ``at`` on."""
        return self.load_from(array, self.args[at])

    def load_from(self, array, index):
        """16 elements, widened to int32."""
        dtype = self.narrow if self.signature.args[array].dtype.bitwidth == 16 else self.vector
        value = self.b.load(self.b.bitcast(self.pointer(array, index), dtype.as_pointer()))
        value.align = 2 if dtype is self.narrow else 4
        return self.b.sext(value, self.vector) if dtype is self.narrow else value

    def store(self, value, array, at):
        """16 elements, narrowed to the array's type, from the index in argument ``at`` on."""
        self.store_to(value, array, self.args[at])

    def store_to(self, value, array, index):
        """16 elements, narrowed to the array's type."""
        narrow = self.signature.args[array].dtype.bitwidth == 16
        value = self.b.trunc(value, self.narrow) if narrow else value
        target = self.b.bitcast(self.pointer(array, index), value.type.as_pointer())
        self.b.store(value, target).align = 2 if narrow else 4

    def splat(self, scalar):
        """A 64-bit argument in every lane."""
        value = self.b.insert_element(ir.Constant(self.vector, ir.Undefined), self.b.trunc(scalar, self.i32),
                                      ir.Constant(self.i32, 0))
        return self.b.shuffle_vector(value, ir.Constant(self.vector, ir.Undefined), self.zero)

    def smaller(self, v, w):
        return self.b.select(self.b.icmp_signed("<", v, w), v, w)

    def larger(self, v, w):
        return self.b.select(self.b.icmp_signed(">", v, w), v, w)

    def clamp(self, v, limit):
        """Into [-limit, limit]."""
        return self.larger(self.smaller(v, limit), self.b.sub(self.zero, limit))

    def look_up(self, index, array):
        """Elements of a table of non-negative int16; reads the element behind each as well, so the last must have one.

        The gather takes 32 bits, of which the lower are the element on every little-endian machine, all that Numba
        knows.
        """
        b, long = self.b, ir.VectorType(self.i64, LANES)
        base = b.ptrtoint(self.context.make_array(self.signature.args[array])(self.context, b, self.args[array]).data,
                          self.i64)
        base = b.shuffle_vector(b.insert_element(ir.Constant(long, ir.Undefined), base, ir.Constant(self.i32, 0)),
                                ir.Constant(long, ir.Undefined), self.zero)
        pointers = ir.VectorType(self.i32.as_pointer(), LANES)
        addresses = b.inttoptr(b.add(base, b.shl(b.zext(index, long), ir.Constant(long, [1] * LANES))), pointers)
        flags = ir.VectorType(ir.IntType(1), LANES)
        kind = ir.FunctionType(self.vector, [pointers, self.i32, flags, self.vector])
        gather = cgutils.get_or_insert_function(b.module, kind, "llvm.masked.gather.v16i32.v16p0")
        found = b.call(gather, [addresses, ir.Constant(self.i32, 2), ir.Constant(flags, [True] * LANES), self.zero])
        return b.and_(found, ir.Constant(self.vector, [0xffff] * LANES))


@intrinsic
def _join(typing, acc, at, branch, branch_at, shift, c):
    """acc[at..] += branch[branch_at..] << shift[c..], 16 lanes."""
    def codegen(context, builder, signature, args):
        v = _Lanes(context, builder, signature, args)
        v.store(builder.add(v.load(0, 1), builder.shl(v.load(2, 3), v.load(4, 5))), 0, 1)
        return context.get_dummy_value()

    return types.void(acc, types.int64, branch, types.int64, shift, types.int64), codegen


@intrinsic
def _shift(typing, acc, at, shift, c, out, to):
    """out[to..] = acc[at..] >> shift[c..], 16 lanes."""
    def codegen(context, builder, signature, args):
        v = _Lanes(context, builder, signature, args)
        v.store(builder.ashr(v.load(0, 1), v.load(2, 3)), 4, 5)
        return context.get_dummy_value()

    return types.void(acc, types.int64, shift, types.int64, out, types.int64), codegen


@intrinsic
def _gelu(typing, acc, at, table, last):
    """acc[at..] = max(v, 0) - table[min(|v|, last)] of itself, 16 lanes."""
    def codegen(context, builder, signature, args):
        v = _Lanes(context, builder, signature, args)
        x = v.load(0, 1)
        positive = v.larger(x, v.zero)
        index = v.smaller(v.larger(x, builder.sub(v.zero, x)), v.splat(args[3]))
        v.store(builder.sub(positive, v.look_up(index, 2)), 0, 1)
        return context.get_dummy_value()

    return types.void(acc, types.int64, table, types.int64), codegen


@intrinsic
def _narrow(typing, acc, at, limit, out, to):
    """out[to..] = clamp(acc[at..]), 16 lanes."""
    def codegen(context, builder, signature, args):
        v = _Lanes(context, builder, signature, args)
        v.store(v.clamp(v.load(0, 1), v.splat(args[2])), 3, 4)
        return context.get_dummy_value()

    return types.void(acc, types.int64, types.int64, out, types.int64), codegen


@intrinsic
def _residual(typing, acc, at, limit, skip, skip_at, a, b, half, shift):
    """acc[at..] = ((skip[skip_at..] << a) + (clamp(acc[at..]) << b) + half) >> shift, 16 lanes."""
    def codegen(context, builder, signature, args):
        v = _Lanes(context, builder, signature, args)
        branch = builder.shl(v.clamp(v.load(0, 1), v.splat(args[2])), v.splat(args[6]))
        total = builder.add(builder.add(builder.shl(v.load(3, 4), v.splat(args[5])), branch), v.splat(args[7]))
        v.store(builder.ashr(total, v.splat(args[8])), 0, 1)
        return context.get_dummy_value()

    i = types.int64
    return types.void(acc, i, i, skip, i, i, i, i, i), codegen


_I16, _I32, _I64 = types.int16, types.int32, types.int64

_BLOCK = PIXELS * OUTPUTS

JOIN, RESIDUAL = 1, 2
"""What a second map does: joins the accumulator, or is the skip of a residual sum behind the clamp."""

(_X, _ADD, _OUT, _W, _BIAS, _SHIFT, _ADD_SHIFT, _TABLE, _LAST, _LIMIT, _WIDE, _OUTPUTS, _HALF_RUN, _RUNS, _N_RUNS,
 _SEGMENTS, _N_SEGMENTS, _WIDTH, _X_ROW, _X_STEP, _PARITY, _X_COLUMN, _OUT_ROW, _OUT_STEP, _ADD_ROW, _ADD_STEP,
 _ADD_KIND, _SKIP_UP, _BRANCH_UP, _HALF, _DOWN, _TOP, _WORDS) = range(33)
"""Words of a convolution's arguments: addresses of memory, sizes and strides in elements."""


@task
def _conv_rows(arguments, y0, y1):
    """Rows y0..y1 of one convolution.

    _RUNS holds the offsets of a window's runs, _HALF_RUN pairs of inputs each; _SEGMENTS five numbers for every 16
    outputs and place they go to: (first output / 16, first lane, lanes, out offset, add offset).
    """
    a = memory(arguments, _I64)
    x, add, out, out32 = memory(a[_X], _I16), memory(a[_ADD], _I16), memory(a[_OUT], _I16), memory(a[_OUT], _I32)
    w, bias, shift, add_shift = memory(a[_W], _I16), memory(a[_BIAS], _I32), memory(a[_SHIFT], _I32), memory(
        a[_ADD_SHIFT], _I32)
    table, runs, segments = memory(a[_TABLE], _I16), memory(a[_RUNS], _I64), memory(a[_SEGMENTS], _I64)
    last, limit, has_wide, outputs, half_run, n_runs = (a[_LAST], a[_LIMIT], a[_WIDE], a[_OUTPUTS], a[_HALF_RUN],
                                                        a[_N_RUNS])
    width, x_row, x_step, parity, x_column = a[_WIDTH], a[_X_ROW], a[_X_STEP], a[_PARITY], a[_X_COLUMN]
    out_row, out_step, add_row, add_step = a[_OUT_ROW], a[_OUT_STEP], a[_ADD_ROW], a[_ADD_STEP]
    add_kind, skip_up, branch_up, half, down, top = (a[_ADD_KIND], a[_SKIP_UP], a[_BRANCH_UP], a[_HALF], a[_DOWN],
                                                     a[_TOP])
    acc = scratch(_I32, _BLOCK)
    per_output = n_runs * half_run * 2
    segment = 0
    for c0 in range(0, outputs, OUTPUTS):
        lanes = min(outputs - c0, OUTPUTS)
        w_at = c0 * per_output
        segment_end = segment
        while segment_end < a[_N_SEGMENTS] and segments[5 * segment_end] * 16 < c0 + OUTPUTS:
            segment_end += 1
        for y in range(y0, y1):
            row = y * x_row
            if parity >= 0:
                row += ((y + parity) & 1) * x_column
            at = 0
            while at < width:
                # Blocks may overlap: a pixel computed twice gets the same value twice.
                left = width - at
                pixels = 1
                if width >= PIXELS and left > 2 * FEW:
                    pixels = PIXELS
                elif width >= FEW:
                    pixels = FEW
                at = min(at, width - pixels)
                from_x = row + at * x_step
                if lanes == OUTPUTS:
                    if pixels == PIXELS:
                        _many_wide(acc, bias, c0, x, from_x, x_step, w, w_at, runs, n_runs, half_run)
                    elif pixels == FEW:
                        _few_wide(acc, bias, c0, x, from_x, x_step, w, w_at, runs, n_runs, half_run)
                    else:
                        _one_wide(acc, bias, c0, x, from_x, x_step, w, w_at, runs, n_runs, half_run)
                elif pixels == PIXELS:
                    _many_narrow(acc, bias, c0, x, from_x, x_step, w, w_at, runs, n_runs, half_run)
                elif pixels == FEW:
                    _few_narrow(acc, bias, c0, x, from_x, x_step, w, w_at, runs, n_runs, half_run)
                else:
                    _one_narrow(acc, bias, c0, x, from_x, x_step, w, w_at, runs, n_runs, half_run)
                for i in range(pixels):
                    out_at = y * out_row + (at + i) * out_step
                    add_at = y * add_row + (at + i) * add_step
                    for s in range(segment, segment_end):
                        g = 5 * s
                        c = segments[g] * 16 + segments[g + 1]
                        t = i * OUTPUTS + c - c0
                        count, to, other = segments[g + 2], out_at + segments[g + 3], add_at + segments[g + 4]
                        if count == 16:
                            if add_kind == JOIN:
                                _join(acc, t, add, other, add_shift, c)
                            if has_wide:
                                _shift(acc, t, shift, c, out32, to)
                                continue
                            _shift(acc, t, shift, c, acc, t)
                            if last >= 0:
                                _gelu(acc, t, table, last)
                            if add_kind == RESIDUAL:
                                _residual(acc, t, limit, add, other, skip_up, branch_up, half, down)
                                _narrow(acc, t, top, out, to)
                            else:
                                _narrow(acc, t, limit, out, to)
                            continue
                        if add_kind == 0 and not has_wide:
                            if segments[g + 1] == 0:  # once for all segments of these 16 lanes
                                _shift(acc, t, shift, c, acc, t)
                                if last >= 0:
                                    _gelu(acc, t, table, last)
                                _narrow(acc, t, limit, acc, t)
                            for j in range(count):
                                out[to + j] = acc[t + j]
                            continue
                        for j in range(count):
                            v = acc[t + j]
                            if add_kind == JOIN:
                                v += np.int32(add[other + j]) << add_shift[c + j]
                            v >>= shift[c + j]
                            if has_wide:
                                out32[to + j] = v
                                continue
                            if last >= 0:
                                v = max(v, 0) - table[min(abs(v), last)]
                            v = min(max(v, -limit), limit)
                            if add_kind == RESIDUAL:
                                v = ((np.int64(add[other + j]) << skip_up) + (v << branch_up) + half) >> down
                                v = min(max(v, -top), top)
                            out[to + j] = v
                at += pixels
        segment = segment_end


def _taps_kernel(pixels):
    """An intrinsic that computes a depthwise 3x3 convolution of ``pixels`` x 16 channels."""
    @intrinsic
    def block(typing, acc, bias, shift, c, x, at, row, column, w, stride):
        """acc[pixel * 16 + j] = (bias[c + j] + the sum over 9 taps) >> shift[c + j]; w holds taps in rows of stride."""
        i = types.int64

        def codegen(context, b, sig, args):
            v = _Lanes(context, b, sig, args)
            taps = [v.load_from(8, b.add(args[3], b.mul(args[9], ir.Constant(v.i64, t)))) for t in range(9)]
            bias, shift = v.load(1, 3), v.load(2, 3)
            for p in range(pixels):
                total = bias
                for t in range(9):
                    at = b.add(b.add(args[5], args[3]), b.add(b.mul(args[6], ir.Constant(v.i64, t // 3)),
                                                              b.mul(args[7], ir.Constant(v.i64, p + t % 3))))
                    total = b.add(total, b.mul(v.load_from(4, at), taps[t]))
                v.store_to(b.ashr(total, shift), 0, ir.Constant(v.i64, p * LANES))
            return context.get_dummy_value()

        return types.void(acc, bias, shift, i, x, i, i, i, w, i), codegen

    return block


_TAPS_PIXELS = 4
_four_taps, _one_taps = _taps_kernel(_TAPS_PIXELS), _taps_kernel(1)

(_D_X, _D_OUT, _D_W, _D_BIAS, _D_SHIFT, _D_TABLE, _D_LAST, _D_LIMIT, _D_CHANNELS, _D_STRIDE, _D_WIDTH, _D_X_ROW,
 _D_X_COLUMN, _D_OUT_ROW, _D_OUT_COLUMN, _D_WORDS) = range(16)
"""Words of a depthwise convolution's arguments; strides in elements."""


@task
def _depthwise_rows(arguments, y0, y1):
    """Rows y0..y1 of a depthwise 3x3 convolution."""
    a = memory(arguments, _I64)
    x, out, table = memory(a[_D_X], _I16), memory(a[_D_OUT], _I16), memory(a[_D_TABLE], _I16)
    w, bias, shift = memory(a[_D_W], _I16), memory(a[_D_BIAS], _I32), memory(a[_D_SHIFT], _I32)
    last, limit, channels, stride, width = a[_D_LAST], a[_D_LIMIT], a[_D_CHANNELS], a[_D_STRIDE], a[_D_WIDTH]
    x_row, x_column, out_row, out_column = a[_D_X_ROW], a[_D_X_COLUMN], a[_D_OUT_ROW], a[_D_OUT_COLUMN]
    acc = scratch(_I32, 64)
    for y in range(y0, y1):
        at = 0
        while at < width:
            pixels = _TAPS_PIXELS if width >= _TAPS_PIXELS else 1
            at = min(at, width - pixels)
            source, target = y * x_row + at * x_column, y * out_row + at * out_column
            for c in range(0, channels - 15, 16):
                if pixels == 1:
                    _one_taps(acc, bias, shift, c, x, source, x_row, x_column, w, stride)
                else:
                    _four_taps(acc, bias, shift, c, x, source, x_row, x_column, w, stride)
                for i in range(pixels):
                    if last >= 0:
                        _gelu(acc, i * 16, table, last)
                    _narrow(acc, i * 16, limit, out, target + i * out_column + c)
            for i in range(pixels):
                for c in range(channels - channels % 16, channels):
                    v = bias[c]
                    for t in range(9):
                        v += x[source + t // 3 * x_row + (i + t % 3) * x_column + c] * np.int32(w[t * stride + c])
                    v >>= shift[c]
                    if last >= 0:
                        v = max(v, 0) - table[min(abs(v), last)]
                    out[target + i * out_column + c] = min(max(v, -limit), limit)
            at += pixels


NO_TABLE = np.zeros(1, np.int16)
_PLANS = 64

SMALL = 1 << 16
"""Multiply-accumulates that one thread does sooner than it calls another."""


class Packed:
    """A convolution's arrays in the order its kernel reads them; made once when a model is loaded."""

    def __init__(self, layer: Conv) -> None:
        self.layer = layer
        k, ci, co = layer.kernel, layer.weight.shape[3], layer.weight.shape[0]
        self.table = NO_TABLE if layer.gelu is None else np.append(layer.gelu, np.int16(0))
        if layer.depthwise:
            self.weight = np.ascontiguousarray(layer.weight.reshape(co, k * k).T)
            a = self._depthwise = np.zeros(_D_WORDS, np.int64)
            a[_D_W:_D_STRIDE + 1] = (address(self.weight), address(layer.bias), address(layer.shift),
                                     address(self.table), self.table.size - 2, layer.limit, co, co)
            return
        self.inputs = ci + ci % 2
        order = np.arange(co)
        if layer.shuffle:  # outputs in the order (dy, dx, channel): contiguous after the shuffle
            order = order.reshape(co // 4, 4).T.reshape(-1)
        self.outputs = co + -co % LANES
        padded = np.zeros((self.outputs, k, k, self.inputs), np.int16)
        padded[:co, :, :, :ci] = layer.weight[order]
        pairs = padded.reshape(self.outputs, k * k * self.inputs // 2, 2)
        self.weight = np.concatenate([pairs[at:at + OUTPUTS].transpose(1, 0, 2).reshape(-1)
                                      for at in range(0, self.outputs, OUTPUTS)])
        self.bias, self.shift, self.add_shift = (
            np.pad(np.zeros(co, np.int32) if a is None else a[order], (0, self.outputs - co))
            for a in (layer.bias, layer.shift, layer.add_shift))
        group = co // 4 if layer.shuffle else co
        self.segments = [(n, start - n * LANES, stop - start, start // group, start % group)
                         for n in range(self.outputs // LANES)
                         for start, stop in _pieces(n * LANES, min((n + 1) * LANES, co), group)]
        self._plans: dict[tuple[int, ...], tuple[np.ndarray, ...]] = {}

    def _plan(self, x_row: int, x_column: int, out_row: int, out_column: int, add_row: int, add_column: int, width: int,
              parity: int, kind: int) -> tuple[np.ndarray, ...]:
        """Arguments for maps of these strides (in elements) without the maps' addresses, and what they point to."""
        layer, k = self.layer, self.layer.kernel
        factor = 2 if layer.shuffle else 1
        segments = np.array([(n, j0, length, (g >> 1) * out_row + (g & 1) * out_column + c,
                              (g >> 1) * add_row + (g & 1) * add_column + c)
                             for n, j0, length, g, c in self.segments], np.int64)
        if x_column == self.inputs and k > 1:
            runs, run = np.arange(k) * x_row, k * self.inputs
        else:
            runs = (np.arange(k)[:, None] * x_row + np.arange(k) * x_column).reshape(-1)
            run = self.inputs
        runs = runs.astype(np.int64)
        a = np.zeros(_WORDS, np.int64)
        for word, array in ((_W, self.weight), (_BIAS, self.bias), (_SHIFT, self.shift), (_ADD_SHIFT, self.add_shift),
                            (_TABLE, self.table), (_RUNS, runs), (_SEGMENTS, segments)):
            a[word] = address(array)
        a[_LAST:_N_RUNS + 1] = (self.table.size - 2, layer.limit, not layer.limit, self.outputs, run // 2, a[_RUNS],
                                runs.size)
        a[_N_SEGMENTS:_ADD_KIND + 1] = (
            len(segments), width // factor, x_row * layer.stride, x_column * (2 if parity >= 0 else layer.stride),
            parity, x_column, factor * out_row, factor * out_column, factor * add_row, factor * add_column, kind)
        return a, runs, segments

    def run(self, x: np.ndarray, out: np.ndarray, add: np.ndarray | None, parity: int, total: Sum | None,
            threads: int) -> None:
        """Compute the result; arguments as in ``numpy_ops.conv`` and ``numba_backend.conv_sum``."""
        layer = self.layer
        add_row, add_column, kind = 0, 0, 0
        if add is not None:
            add_row, add_column, kind = add.strides[0] // 2, add.strides[1] // 2, RESIDUAL if total else JOIN
        x_row, x_column, size = x.strides[0] // 2, x.strides[1] // 2, out.itemsize
        key = (x_row, x_column, out.strides[0] // size, out.strides[1] // size, add_row, add_column,
               out.shape[1] - 2 * BORDER, parity, kind)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS:  # a server meets sizes without end
                self._plans.clear()
            plan = self._plans[key] = self._plan(*key)
        a = plan[0].copy()
        top = BORDER - layer.kernel // 2
        a[_X] = address(x) + 2 * top * (x_row + x_column)
        a[_OUT] = address(out) + BORDER * (out.strides[0] + out.strides[1])
        if add is not None:
            a[_ADD] = address(add) + 2 * BORDER * (add_row + add_column)
        if total:
            a[_SKIP_UP:_TOP + 1] = total.shift_a, total.shift_b, (1 << total.shift) >> 1, total.shift, total.limit
        rows = (out.shape[0] - 2 * BORDER) // (2 if layer.shuffle else 1)
        work = rows * (out.shape[1] - 2 * BORDER) * layer.weight.size
        share(_conv_rows, a, rows, threads if work > SMALL else 1)

    def run_depthwise(self, x: np.ndarray, out: np.ndarray, threads: int) -> None:
        """Compute a depthwise convolution; arguments as in ``numpy_ops.conv``."""
        a = self._depthwise.copy()
        x_row, x_column, out_row, out_column = (s // 2 for s in (*x.strides[:2], *out.strides[:2]))
        top = BORDER - self.layer.kernel // 2
        a[_D_X] = address(x) + 2 * top * (x_row + x_column)
        a[_D_OUT] = address(out) + 2 * BORDER * (out_row + out_column)
        a[_D_WIDTH:] = out.shape[1] - 2 * BORDER, x_row, x_column, out_row, out_column
        rows = out.shape[0] - 2 * BORDER
        work = rows * out.shape[1] * self.weight.size
        share(_depthwise_rows, a, rows, threads if work > SMALL else 1)


def _pieces(start: int, stop: int, group: int) -> list[tuple[int, int]]:
    """Cut [start, stop) at the multiples of group."""
    cuts = [start, *range(start - start % group + group, stop, group), stop]
    return list(pairwise(cuts))
