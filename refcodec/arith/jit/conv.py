"""The int16 convolution at the speed of the vector unit (SPEC 5.3): what its kernels read (kernels/conv.py), and calls.

- A window row of a map is a contiguous run of kernel * C numbers (or kernel runs of C where the map is a view on a
  range of channels), so no im2col is needed.
- Weights are packed once as [pair of inputs][outputs][2] for every block of 32 outputs (of 16 where 16 or fewer
  are left, and everywhere without AVX-512): one 512-bit register holds 16 outputs x 2 inputs.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...model.layers import Conv, Sum
from ..maps import BORDER
from .kernels import words as W
from .native.loader import Kernel
from .target import WIDE
from .team import address, share

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

JOIN, RESIDUAL = 1, 2
"""What a second map does: joins the accumulator, or is the skip of a residual sum behind the clamp."""

_rows, _depthwise_rows = Kernel("conv.rows"), Kernel("conv.depthwise_rows")

NO_TABLE = np.zeros(1, np.int16)
_PLANS = 64

SMALL = 1 << 16
"""Multiply-accumulates that one thread does sooner than it calls another."""


class Packed:
    """A convolution's arrays in the order its kernel reads them; made once, without keeping the layer alive."""

    def __init__(self, layer: Conv) -> None:
        self.kernel, self.stride, self.shuffle, self.limit = layer.kernel, layer.stride, layer.shuffle, layer.limit
        self.products = layer.weight.size
        k, ci, co = layer.kernel, layer.weight.shape[3], layer.weight.shape[0]
        self.table = NO_TABLE if layer.gelu is None else np.append(layer.gelu, np.int16(0))
        if layer.depthwise:
            self.weight = np.ascontiguousarray(layer.weight.reshape(co, k * k).T)
            self.bias, self.shift = layer.bias, layer.shift
            a = self._depthwise = np.zeros(W.D_WORDS, np.int64)
            a[W.D_W : W.D_STRIDE + 1] = (
                address(self.weight),
                address(self.bias),
                address(self.shift),
                address(self.table),
                self.table.size - 2,
                layer.limit,
                co,
                co,
            )
            return
        self.inputs = ci + ci % 2
        order = np.arange(co)
        if layer.shuffle:  # outputs in the order (dy, dx, channel): contiguous after the shuffle
            order = order.reshape(co // 4, 4).T.reshape(-1)
        self.outputs = co + -co % LANES
        padded = layer.weight[order] if layer.shuffle else layer.weight
        if padded.shape != (self.outputs, k, k, self.inputs):
            padded = np.zeros((self.outputs, k, k, self.inputs), np.int16)
            padded[:co, :, :, :ci] = layer.weight[order]
        pairs = np.ascontiguousarray(padded).reshape(self.outputs, -1).view(np.int32)  # two inputs as one number
        cut = self.outputs - self.outputs % OUTPUTS
        blocks = [
            pairs[:cut].reshape(-1, OUTPUTS, pairs.shape[1]).transpose(0, 2, 1).reshape(-1),
            pairs[cut:].T.reshape(-1),
        ]
        self.weight = (np.concatenate(blocks) if cut < self.outputs else blocks[0]).view(np.int16)
        self.bias, self.shift, self.add_shift = (
            _padded(a, order, self.outputs) for a in (layer.bias, layer.shift, layer.add_shift)
        )
        group = co // 4 if layer.shuffle else co
        self.segments = [
            (n, start - n * LANES, stop - start, start // group, start % group)
            for n in range(self.outputs // LANES)
            for start, stop in _pieces(n * LANES, min((n + 1) * LANES, co), group)
        ]
        self._plans: dict[tuple[int, ...], tuple[np.ndarray, ...]] = {}

    def _plan(
        self,
        x_row: int,
        x_column: int,
        out_row: int,
        out_column: int,
        add_row: int,
        add_column: int,
        width: int,
        parity: int,
        kind: int,
    ) -> tuple[np.ndarray, ...]:
        """Arguments for maps of these strides (in elements) without the maps' addresses, and what they point to."""
        k, factor = self.kernel, 2 if self.shuffle else 1
        segments = np.array(
            [
                (
                    n,
                    j0,
                    length,
                    (g >> 1) * out_row + (g & 1) * out_column + c,
                    (g >> 1) * add_row + (g & 1) * add_column + c,
                )
                for n, j0, length, g, c in self.segments
            ],
            np.int64,
        )
        if x_column == self.inputs and k > 1:
            runs, run = np.arange(k) * x_row, k * self.inputs
        else:
            runs = (np.arange(k)[:, None] * x_row + np.arange(k) * x_column).reshape(-1)
            run = self.inputs
        runs = runs.astype(np.int64)
        a = np.zeros(W.C_WORDS, np.int64)
        for word, array in (
            (W.C_W, self.weight),
            (W.C_BIAS, self.bias),
            (W.C_SHIFT, self.shift),
            (W.C_ADD_SHIFT, self.add_shift),
            (W.C_TABLE, self.table),
            (W.C_RUNS, runs),
            (W.C_SEGMENTS, segments),
        ):
            a[word] = address(array)
        a[W.C_LAST : W.C_N_RUNS + 1] = (
            self.table.size - 2,
            self.limit,
            not self.limit,
            self.outputs,
            run // 2,
            a[W.C_RUNS],
            runs.size,
        )
        a[W.C_N_SEGMENTS : W.C_ADD_KIND + 1] = (
            len(segments),
            width // factor,
            x_row * self.stride,
            x_column * (2 if parity >= 0 else self.stride),
            parity,
            x_column,
            factor * out_row,
            factor * out_column,
            factor * add_row,
            factor * add_column,
            kind,
        )
        return a, runs, segments

    def run(
        self, x: np.ndarray, out: np.ndarray, add: np.ndarray | None, parity: int, total: Sum | None, threads: int
    ) -> None:
        """Compute the result; arguments as in ``numpy_ops.conv`` and ``numba_backend.conv_sum``."""
        add_row, add_column, kind = 0, 0, 0
        if add is not None:
            add_row, add_column, kind = add.strides[0] // 2, add.strides[1] // 2, RESIDUAL if total else JOIN
        x_row, x_column, size = x.strides[0] // 2, x.strides[1] // 2, out.itemsize
        key = (
            x_row,
            x_column,
            out.strides[0] // size,
            out.strides[1] // size,
            add_row,
            add_column,
            out.shape[1] - 2 * BORDER,
            parity,
            kind,
        )
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS:  # a server meets sizes without end
                self._plans.clear()
            plan = self._plans[key] = self._plan(*key)
        a = plan[0].copy()
        top = BORDER - self.kernel // 2
        a[W.C_X] = address(x) + 2 * top * (x_row + x_column)
        a[W.C_OUT] = address(out) + BORDER * (out.strides[0] + out.strides[1])
        if add is not None:
            a[W.C_ADD] = address(add) + 2 * BORDER * (add_row + add_column)
        if total:
            a[W.C_SKIP_UP : W.C_TOP + 1] = (
                total.shift_a,
                total.shift_b,
                (1 << total.shift) >> 1,
                total.shift,
                total.limit,
            )
        rows = (out.shape[0] - 2 * BORDER) // (2 if self.shuffle else 1)
        work = rows * (out.shape[1] - 2 * BORDER) * self.products
        share(_rows, a, rows, threads if work > SMALL else 1)

    def run_depthwise(self, x: np.ndarray, out: np.ndarray, threads: int) -> None:
        """Compute a depthwise convolution; arguments as in ``numpy_ops.conv``."""
        a = self._depthwise.copy()
        x_row, x_column, out_row, out_column = (s // 2 for s in (*x.strides[:2], *out.strides[:2]))
        top = BORDER - self.kernel // 2
        a[W.D_X] = address(x) + 2 * top * (x_row + x_column)
        a[W.D_OUT] = address(out) + 2 * BORDER * (out_row + out_column)
        a[W.D_WIDTH :] = out.shape[1] - 2 * BORDER, x_row, x_column, out_row, out_column
        rows = out.shape[0] - 2 * BORDER
        work = rows * out.shape[1] * self.weight.size
        share(_depthwise_rows, a, rows, threads if work > SMALL else 1)


def _padded(values: np.ndarray | None, order: np.ndarray, count: int) -> np.ndarray:
    """int32 values in an order, and zeros up to a count; zeros alone for None."""
    out = np.zeros(count, np.int32)
    if values is not None:
        out[: order.size] = values[order]
    return out


def _pieces(start: int, stop: int, group: int) -> list[tuple[int, int]]:
    """Cut [start, stop) at the multiples of group."""
    cuts = [start, *range(start - start % group + group, stop, group), stop]
    return list(pairwise(cuts))
