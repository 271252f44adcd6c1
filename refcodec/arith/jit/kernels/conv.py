"""The convolution's kernels (SPEC 5.3); what they read is prepared in refcodec/arith/jit/conv.py.

- ``_block_kernel`` writes vector IR for a block of pixels x outputs: splat a pair of inputs, widen to int32, multiply,
  add even and odd lanes. LLVM turns that into vpdpwssd, vpmaddwd, pmaddwd or smlal, whatever the machine has. Sums
  wrap modulo 2^32 in any order; the loader has proved the final one to fit, so every machine gets the same number.
- What follows the sum (branch, shift, GELU, clamp, residual sum, narrowing) runs on the block while it is in the
  nearest cache, 16 lanes at a time. Left to the compiler, the table look-ups of GELU ran one by one at 0.7 ns each and
  cost g_s more than its products; as a gather they take 0.2 ns.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..conv import FEW, JOIN, LANES, OUTPUTS, PIXELS, RESIDUAL, VECTORS
from ..native.build import memory, scratch, task
from ..native.private import declare, elements
from . import words as W


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
                return elements(context, b, sig.args[i], v)

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
                f.append_basic_block(s) for s in ("run_head", "run_body", "pair_loop", "run_end", "done")
            )
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
        data = elements(self.context, self.b, self.signature.args[array], self.args[array])
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
        value = self.b.insert_element(
            ir.Constant(self.vector, ir.Undefined), self.b.trunc(scalar, self.i32), ir.Constant(self.i32, 0)
        )
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
        base = b.ptrtoint(elements(self.context, b, self.signature.args[array], self.args[array]), self.i64)
        base = b.shuffle_vector(
            b.insert_element(ir.Constant(long, ir.Undefined), base, ir.Constant(self.i32, 0)),
            ir.Constant(long, ir.Undefined),
            self.zero,
        )
        pointers = ir.VectorType(self.i32.as_pointer(), LANES)
        addresses = b.inttoptr(b.add(base, b.shl(b.zext(index, long), ir.Constant(long, [1] * LANES))), pointers)
        flags = ir.VectorType(ir.IntType(1), LANES)
        kind = ir.FunctionType(self.vector, [pointers, self.i32, flags, self.vector])
        gather = declare(b.module, kind, "llvm.masked.gather.v16i32.v16p0")
        found = b.call(gather, [addresses, ir.Constant(self.i32, 2), ir.Constant(flags, [True] * LANES), self.zero])
        return b.and_(found, ir.Constant(self.vector, [0xFFFF] * LANES))


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


@task
def rows(arguments, y0, y1):
    """Rows y0..y1 of one convolution.

    C_RUNS holds the offsets of a window's runs, C_HALF_RUN pairs of inputs each; C_SEGMENTS five numbers for every 16
    outputs and place they go to: (first output / 16, first lane, lanes, out offset, add offset).
    """
    a = memory(arguments, _I64)
    x, add = memory(a[W.C_X], _I16), memory(a[W.C_ADD], _I16)
    out, out32 = memory(a[W.C_OUT], _I16), memory(a[W.C_OUT], _I32)
    w, bias = memory(a[W.C_W], _I16), memory(a[W.C_BIAS], _I32)
    shift, add_shift = memory(a[W.C_SHIFT], _I32), memory(a[W.C_ADD_SHIFT], _I32)
    table, runs, segments = memory(a[W.C_TABLE], _I16), memory(a[W.C_RUNS], _I64), memory(a[W.C_SEGMENTS], _I64)
    last, limit, has_wide = a[W.C_LAST], a[W.C_LIMIT], a[W.C_WIDE]
    outputs, half_run, n_runs = a[W.C_OUTPUTS], a[W.C_HALF_RUN], a[W.C_N_RUNS]
    width, x_row, x_step, parity, x_column = a[W.C_WIDTH], a[W.C_X_ROW], a[W.C_X_STEP], a[W.C_PARITY], a[W.C_X_COLUMN]
    out_row, out_step, add_row, add_step = a[W.C_OUT_ROW], a[W.C_OUT_STEP], a[W.C_ADD_ROW], a[W.C_ADD_STEP]
    add_kind, skip_up, branch_up = a[W.C_ADD_KIND], a[W.C_SKIP_UP], a[W.C_BRANCH_UP]
    half, down, top = a[W.C_HALF], a[W.C_DOWN], a[W.C_TOP]
    acc = scratch(_I32, _BLOCK)
    per_output = n_runs * half_run * 2
    segment = 0
    for c0 in range(0, outputs, OUTPUTS):
        lanes = min(outputs - c0, OUTPUTS)
        w_at = c0 * per_output
        segment_end = segment
        while segment_end < a[W.C_N_SEGMENTS] and segments[5 * segment_end] * 16 < c0 + OUTPUTS:
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
                    at = b.add(
                        b.add(args[5], args[3]),
                        b.add(
                            b.mul(args[6], ir.Constant(v.i64, t // 3)), b.mul(args[7], ir.Constant(v.i64, p + t % 3))
                        ),
                    )
                    total = b.add(total, b.mul(v.load_from(4, at), taps[t]))
                v.store_to(b.ashr(total, shift), 0, ir.Constant(v.i64, p * LANES))
            return context.get_dummy_value()

        return types.void(acc, bias, shift, i, x, i, i, i, w, i), codegen

    return block


_TAPS_PIXELS = 4
_four_taps, _one_taps = _taps_kernel(_TAPS_PIXELS), _taps_kernel(1)


@task
def depthwise_rows(arguments, y0, y1):
    """Rows y0..y1 of a depthwise 3x3 convolution."""
    a = memory(arguments, _I64)
    x, out, table = memory(a[W.D_X], _I16), memory(a[W.D_OUT], _I16), memory(a[W.D_TABLE], _I16)
    w, bias, shift = memory(a[W.D_W], _I16), memory(a[W.D_BIAS], _I32), memory(a[W.D_SHIFT], _I32)
    last, limit, channels, stride, width = a[W.D_LAST], a[W.D_LIMIT], a[W.D_CHANNELS], a[W.D_STRIDE], a[W.D_WIDTH]
    x_row, x_column, out_row, out_column = a[W.D_X_ROW], a[W.D_X_COLUMN], a[W.D_OUT_ROW], a[W.D_OUT_COLUMN]
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
