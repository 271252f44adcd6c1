"""The int16 convolution at the speed of the vector unit (SPEC 5.3), in Numba.

- A window row of a map is a contiguous run of kernel * C numbers (or kernel runs of C where the map is a view on a
  range of channels), so no im2col is needed.
- Weights are packed once as [block of 32 outputs][pair of inputs][32 outputs][2]: one 512-bit register holds 16
  outputs x 2 inputs.
- The intrinsic writes vector IR for a block of pixels x 32 outputs: splat a pair of inputs, widen to int32, multiply,
  add even and odd lanes. LLVM turns that into vpdpwssd, vpmaddwd, pmaddwd or smlal, whatever the machine has. Sums
  wrap modulo 2^32 in any order; the loader has proved the final one to fit, so every machine gets the same number.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from .backend import kernel, reads, writes
from .layers import Conv
from .maps import BORDER

OUTPUTS = 32


def _pixels_a_block() -> int:
    """Pixels that fit the registers: 12 x 2 accumulators of 32 vector registers (AVX-512), 3 x 4 of 16 (AVX2)."""
    import numba
    from llvmlite import binding

    if numba.config.CPU_NAME or numba.config.CPU_FEATURES:
        return 3
    return 12 if binding.get_host_cpu_features().get("avx512bw") else 3


PIXELS = _pixels_a_block()


@intrinsic
def flat(typing, array):
    """The memory of an array view from its first element on, as a contiguous 1-D array without an end."""
    result = types.Array(array.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        source = context.make_array(signature.args[0])(context, builder, args[0])
        target = context.make_array(result)(context, builder)
        size = context.get_constant(types.intp, array.dtype.bitwidth // 8)
        end = context.get_constant(types.intp, 1 << 60)
        populate_array(target, data=source.data, shape=[end], strides=[size], itemsize=size, meminfo=None)
        return target._getvalue()

    return result(array), codegen


def _block_kernel(pixels):
    """An intrinsic that adds a block of ``pixels`` x 32 outputs over all window runs."""
    i16, i32, i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
    pairs, wide, sums = ir.VectorType(i16, 32), ir.VectorType(i32, 32), ir.VectorType(i32, 16)
    vectors = OUTPUTS // 16
    even = ir.Constant(sums, [2 * t for t in range(16)])
    odd = ir.Constant(sums, [2 * t + 1 for t in range(16)])
    undefined, splat_mask = ir.Constant(sums, ir.Undefined), ir.Constant(sums, [0] * 16)

    def const(v):
        return ir.Constant(i64, v)

    @intrinsic
    def block(typing, acc, x, x_at, stride, w, w_at, runs, n_runs, half_run):
        """acc[pixels * 32] += sum over r < n_runs, k < half_run of pair x[x_at + p * stride + runs[r] + 2 k] * w."""
        signature = types.void(acc, x, types.int64, types.int64, w, types.int64, runs, types.int64, types.int64)

        def codegen(context, b, sig, args):
            acc, x, x_at, stride, w, w_at, runs, n_runs, half_run = args

            def data(i, v):
                return context.make_array(sig.args[i])(context, b, v).data

            def load(p, t, align):
                value = b.load(b.bitcast(p, t.as_pointer()))
                value.align = align
                return value

            acc_p, x_p, w_p, run_p = data(0, acc), b.gep(data(1, x), [x_at]), b.gep(data(4, w), [w_at]), data(6, runs)
            n = pixels * vectors
            start = [load(b.gep(acc_p, [const(16 * t)]), sums, 4) for t in range(n)]
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
                b.store(v, b.bitcast(b.gep(acc_p, [const(16 * t)]), sums.as_pointer())).align = 4
            return context.get_dummy_value()

        return signature, codegen

    return block


_many_pixels = _block_kernel(PIXELS)
_one_pixel = _block_kernel(1)


_I16, _I32, _I64 = types.int16, types.int32, types.int64
_MAX_PIXELS = 12  # scratch is made for the largest block, whatever block a cached kernel was compiled for


@kernel(reads(_I16, 3), reads(_I16, 2, "C"), reads(_I32, 1, "C"), reads(_I32, 1, "C"), _I64, reads(_I16, 1, "C"),
        reads(_I16, 3), reads(_I32, 1, "C"), writes(_I16, 3), writes(_I32, 3), reads(_I64, 2, "C"),
        reads(_I64, 1, "C"), _I64, reads(_I64, 1, "C"), writes(_I32, 1, "C"))
def _conv_rows(x3, w, bias, shift, limit, table, add3, add_shift, out3, wide3, segments, runs, half_run, sizes, acc):
    """Rows of one convolution; sizes = (y0, y1, width, x row stride, x step, parity, x column stride, out row stride,
    out step, add row stride, add step, has_add, has_wide, blocks). Everything is in elements of flat memory.

    segments[n] = (block, first output in the block, length, out offset, add offset): where a block's outputs go.
    """
    y0, y1, width = sizes[0], sizes[1], sizes[2]
    x_row, x_step, parity, x_column = sizes[3], sizes[4], sizes[5], sizes[6]
    out_row, out_step, add_row, add_step = sizes[7], sizes[8], sizes[9], sizes[10]
    has_add, has_wide, blocks = sizes[11], sizes[12], sizes[13]
    x, add, out, out32 = flat(x3), flat(add3), flat(out3), flat(wide3)
    per_block = w.shape[1]
    last = table.shape[0] - 1
    segment = 0
    for n in range(blocks):
        segment_end = segment
        while segment_end < segments.shape[0] and segments[segment_end, 0] == n:
            segment_end += 1
        c0 = n * 32
        for y in range(y0, y1):
            row = y * x_row
            if parity >= 0:
                row += ((y + parity) & 1) * x_column
            at = 0
            while at < width:
                pixels = PIXELS if width >= PIXELS else 1
                if pixels == PIXELS:
                    at = min(at, width - PIXELS)
                for i in range(pixels):
                    for j in range(32):
                        acc[i * 32 + j] = bias[c0 + j]
                if pixels == 1:
                    _one_pixel(acc, x, row + at * x_step, x_step, w, n * per_block, runs, runs.shape[0], half_run)
                else:
                    _many_pixels(acc, x, row + at * x_step, x_step, w, n * per_block, runs, runs.shape[0], half_run)
                for i in range(pixels):
                    out_at = y * out_row + (at + i) * out_step
                    add_at = y * add_row + (at + i) * add_step
                    a = i * 32
                    if has_add:
                        for s in range(segment, segment_end):
                            j0, length, from_add = segments[s, 1], segments[s, 2], add_at + segments[s, 4]
                            for j in range(length):
                                acc[a + j0 + j] += add[from_add + j] << add_shift[c0 + j0 + j]
                    if has_wide:
                        for s in range(segment, segment_end):
                            j0, length, to = segments[s, 1], segments[s, 2], out_at + segments[s, 3]
                            for j in range(length):
                                out32[to + j] = acc[a + j0 + j] >> shift[c0 + j0 + j]
                        continue
                    for j in range(32):
                        acc[a + j] = acc[a + j] >> shift[c0 + j]
                    if last >= 0:
                        for j in range(32):
                            v = acc[a + j]
                            acc[a + j] = max(v, 0) - table[min(abs(v), last)]
                    for j in range(32):
                        acc[a + j] = min(max(acc[a + j], -limit), limit)
                    for s in range(segment, segment_end):
                        j0, length, to = segments[s, 1], segments[s, 2], out_at + segments[s, 3]
                        for j in range(length):
                            out[to + j] = acc[a + j0 + j]
                at += pixels
        segment = segment_end


@kernel(reads(_I16, 3), reads(_I16, 2, "C"), reads(_I32, 1, "C"), reads(_I32, 1, "C"), _I64, reads(_I16, 1, "C"),
        writes(_I16, 3), _I64, _I64, _I64, _I64, _I64, _I64, _I64, writes(_I32, 1, "C"))
def _depthwise_rows(x3, w, bias, shift, limit, table, out3, y0, y1, width, x_row, x_column, out_row, out_column, acc):
    """Rows of a depthwise 3x3 convolution; acc holds one pixel's channels."""
    x, out = flat(x3), flat(out3)
    channels = bias.shape[0]
    last = table.shape[0] - 1
    for y in range(y0, y1):
        for at in range(width):
            for c in range(channels):
                acc[c] = bias[c]
            for tap in range(9):
                start = (y + tap // 3) * x_row + (at + tap % 3) * x_column
                for c in range(channels):
                    acc[c] += x[start + c] * w[tap, c]
            to = y * out_row + at * out_column
            for c in range(channels):
                acc[c] = acc[c] >> shift[c]
            if last >= 0:
                for c in range(channels):
                    v = acc[c]
                    acc[c] = max(v, 0) - table[min(abs(v), last)]
            for c in range(channels):
                out[to + c] = min(max(acc[c], -limit), limit)


NO_TABLE = np.zeros(0, np.int16)
_NO_MAP = np.zeros((1, 1, 1), np.int16)
_NO_WIDE = np.zeros((1, 1, 1), np.int32)


class Packed:
    """A convolution's arrays in the order its kernel reads them; made once when a model is loaded."""

    def __init__(self, layer: Conv) -> None:
        self.layer = layer
        k, ci, co = layer.kernel, layer.weight.shape[3], layer.weight.shape[0]
        self.table = NO_TABLE if layer.gelu is None else layer.gelu
        if layer.depthwise:
            self.weight = np.ascontiguousarray(layer.weight.reshape(co, k * k).T)
            self.bias, self.shift = layer.bias, layer.shift
            return
        self.inputs = ci + ci % 2
        order = np.arange(co)
        if layer.shuffle:  # outputs in the order (dy, dx, channel): contiguous after the shuffle
            order = order.reshape(co // 4, 4).T.reshape(-1)
        self.blocks = -(-co // OUTPUTS)
        padded = np.zeros((self.blocks * OUTPUTS, k, k, self.inputs), np.int16)
        padded[:co, :, :, :ci] = layer.weight[order]
        pairs = padded.reshape(self.blocks, OUTPUTS, k * k * self.inputs // 2, 2)
        self.weight = np.ascontiguousarray(pairs.transpose(0, 2, 1, 3)).reshape(self.blocks, -1)
        self.bias, self.shift, self.add_shift = (
            np.pad(np.zeros(co, np.int32) if a is None else a[order], (0, self.blocks * OUTPUTS - co))
            for a in (layer.bias, layer.shift, layer.add_shift))
        group = co // 4 if layer.shuffle else co
        self.segments = [(n, start - n * OUTPUTS, stop - start, start // group, start % group)
                         for n in range(self.blocks)
                         for start, stop in _pieces(n * OUTPUTS, min((n + 1) * OUTPUTS, co), group)]

    def run(self, x: np.ndarray, out: np.ndarray, add: np.ndarray | None, parity: int, y0: int, y1: int) -> None:
        """Compute rows y0..y1 of the (unshuffled) result; arguments as in ``numpy_ops.conv``."""
        layer, k = self.layer, self.layer.kernel
        top = BORDER - k // 2
        source = x[top:, top:]
        target = out[BORDER:, BORDER:]
        x_row, x_column = x.strides[0] // 2, x.strides[1] // 2
        out_row, out_column = out.strides[0] // out.itemsize, out.strides[1] // out.itemsize
        width = out.shape[1] - 2 * BORDER
        if layer.depthwise:
            acc = np.empty(out.shape[2], np.int32)
            _depthwise_rows(source, self.weight, self.bias, self.shift, layer.limit, self.table, target, y0, y1, width,
                            x_row, x_column, out_row, out_column, acc)
            return
        factor = 2 if layer.shuffle else 1
        branch = _NO_MAP if add is None else add[BORDER:, BORDER:]
        add_row, add_column = (0, 0) if add is None else (add.strides[0] // 2, add.strides[1] // 2)
        segments = np.array([(n, j0, length, (g >> 1) * out_row + (g & 1) * out_column + c,
                              (g >> 1) * add_row + (g & 1) * add_column + c)
                             for n, j0, length, g, c in self.segments], np.int64)
        if x_column == self.inputs and k > 1:
            runs, run = np.arange(k) * x_row, k * self.inputs
        else:
            runs = (np.arange(k)[:, None] * x_row + np.arange(k) * x_column).reshape(-1)
            run = self.inputs
        x_step = x_column * (2 if parity >= 0 else layer.stride)
        sizes = np.array([y0, y1, width // factor, x_row * layer.stride, x_step, parity, x_column, factor * out_row,
                          factor * out_column, factor * add_row, factor * add_column, add is not None,
                          not layer.limit, self.blocks], np.int64)
        acc = np.empty(_MAX_PIXELS * OUTPUTS, np.int32)
        wide, narrow = (_NO_WIDE, target) if layer.limit else (target, _NO_MAP)
        _conv_rows(source, self.weight, self.bias, self.shift, layer.limit, self.table, branch, self.add_shift, narrow,
                   wide, segments, runs, run // 2, sizes, acc)


def _pieces(start: int, stop: int, group: int) -> list[tuple[int, int]]:
    """Cut [start, stop) at the multiples of group."""
    cuts = [start, *range(start - start % group + group, stop, group), stop]
    return list(pairwise(cuts))
