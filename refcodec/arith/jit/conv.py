"""The int16 convolution at the speed of the vector unit (SPEC 5.3): what its kernels read (kernels/conv.py), and calls.

- Most layers of 3x3 windows and stride 1 are computed by tiles (winograd.py), with less than half of the products. What
  follows stays: the direct way serves all others, and halves of the checkerboard.
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
from .kernels.constants import JOIN, LANES, OUTPUTS, RESIDUAL
from .kernels.words import CONV, DEPTHWISE, ConvWords, DepthwiseWords, SegmentWords, filled
from .native.loader import Kernel
from .team import address, share
from .winograd import Tiles, blocks, unblocked

_rows, _depthwise_rows = Kernel("conv.rows"), Kernel("conv.depthwise_rows")

NO_TABLE = np.zeros(1, np.int16)
_PLANS = 64

SMALL = 1 << 16
"""Multiply-accumulates that one thread does sooner than it calls another."""


class Packed:
    """A convolution's arrays in the order its kernel reads them; made once, without keeping the layer alive."""

    def __init__(self, layer: Conv) -> None:
        self.kernel, self.stride, self.shuffle, self.limit = layer.kernel, layer.stride, layer.shuffle, layer.limit
        weight = layer.weight
        self.products = weight.size
        co, k, _, ci = self._shape = weight.shape
        self.table = NO_TABLE if layer.gelu is None else np.append(layer.gelu, np.int16(0))
        if layer.depthwise:
            self.weight = np.ascontiguousarray(weight.reshape(co, k * k).T)
            self.bias, self.shift = layer.bias, layer.shift
            self._depthwise = filled(
                DepthwiseWords(
                    weight=address(self.weight),
                    bias=address(self.bias),
                    shift=address(self.shift),
                    table=address(self.table),
                    last=self.table.size - 2,
                    limit=layer.limit,
                    channels=co,
                    stride=co,
                )
            )
            return
        self.inputs = ci + ci % 2
        order = np.arange(co)
        if layer.shuffle:  # outputs in the order (dy, dx, channel): contiguous after the shuffle
            order = order.reshape(co // 4, 4).T.reshape(-1)
        self.outputs = co + -co % LANES
        self._order = order
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
        padded = self._padded(weight)
        self._tiles = Tiles.of(layer, padded, self.bias)
        self.weight = np.zeros(0, np.int16) if self._tiles else blocks(padded, OUTPUTS)

    def _padded(self, weight: np.ndarray) -> np.ndarray:
        """Numbers [Co, k, k, Ci] in the kernels' order, with zeros up to multiples of 16 outputs and 2 inputs."""
        co, k, _, ci = weight.shape
        if self.shuffle:
            weight = weight[self._order]
        if co < self.outputs or ci % 2:
            weight, source = np.zeros((self.outputs, k, k, ci + ci % 2), np.int16), weight
            weight[:co, :, :, :ci] = source
        return weight

    def _direct(self) -> np.ndarray:
        """Weights for the kernel ``conv.rows``; of a layer in tiles, packed on first use."""
        if self._tiles and not self.weight.size:
            self.weight = blocks(self._tiles.weight(), OUTPUTS)
        return self.weight

    def stored(self) -> np.ndarray:
        """The layer's weights, int16 [Co, k, k, Ci]; not of a depthwise convolution."""
        co, k, _, ci = self._shape
        if self._tiles:
            padded = self._tiles.weight()
        else:
            padded = unblocked(self.weight, OUTPUTS, (self.outputs, k, k, self.inputs))
        weight = np.empty(self._shape, np.int16)
        weight[self._order] = padded[:co, :, :, :ci]
        return weight

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
        factor = 2 if self.shuffle else 1
        segments = self._segments_at(out_row, out_column, add_row, add_column)
        runs, run = self._runs_at(x_row, x_column)
        a = filled(
            ConvWords(
                bias=address(self.bias),
                shift=address(self.shift),
                add_shift=address(self.add_shift),
                table=address(self.table),
                last=self.table.size - 2,
                limit=self.limit,
                wide=not self.limit,
                outputs=self.outputs,
                runs=address(runs),
                n_runs=runs.size,
                half_run=run // 2,
                segments=address(segments),
                n_segments=len(segments),
                width=width // factor,
                x_row=x_row * self.stride,
                x_step=x_column * (2 if parity >= 0 else self.stride),
                x_column=x_column,
                parity=parity,
                out_row=factor * out_row,
                out_step=factor * out_column,
                add_row=factor * add_row,
                add_step=factor * add_column,
                add_kind=kind,
            )
        )
        return a, runs, segments

    def _segments_at(self, out_row: int, out_column: int, add_row: int, add_column: int) -> np.ndarray:
        """The segments' words for maps of these strides."""
        return np.array(
            [
                SegmentWords(
                    vector=n,
                    lane=lane,
                    lanes=length,
                    out=(g >> 1) * out_row + (g & 1) * out_column + c,
                    add=(g >> 1) * add_row + (g & 1) * add_column + c,
                )
                for n, lane, length, g, c in self.segments
            ],
            np.int64,
        )

    def _runs_at(self, x_row: int, x_column: int) -> tuple[np.ndarray, int]:
        """Offsets of a window's runs of inputs in a map of these strides, and the length of one."""
        k = self.kernel
        if x_column == self.inputs and k > 1:
            return np.arange(k, dtype=np.int64) * x_row, k * self.inputs
        rows, columns = np.arange(k, dtype=np.int64) * x_row, np.arange(k, dtype=np.int64) * x_column
        return (rows[:, None] + columns).reshape(-1), self.inputs

    def run(
        self, x: np.ndarray, out: np.ndarray, add: np.ndarray | None, parity: int, total: Sum | None, threads: int
    ) -> None:
        """Compute the result; arguments as in ``numpy_ops.conv`` and ``backend.conv_sum``."""
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
        a[CONV.x] = address(x) + 2 * top * (x_row + x_column)
        a[CONV.out] = address(out) + BORDER * (out.strides[0] + out.strides[1])
        if add is not None:
            a[CONV.add] = address(add) + 2 * BORDER * (add_row + add_column)
        if total:
            a[CONV.skip_up], a[CONV.branch_up], a[CONV.down] = total.shift_a, total.shift_b, total.shift
            a[CONV.half], a[CONV.top] = (1 << total.shift) >> 1, total.limit
        rows = (out.shape[0] - 2 * BORDER) // (2 if self.shuffle else 1)
        work = rows * (out.shape[1] - 2 * BORDER) * self.products
        threads = threads if work > SMALL else 1
        if self._tiles and parity < 0:
            self._tiles.run(a, rows, threads)
        else:
            weight = self._direct()  # held: another thread that packs it too replaces the first one's
            a[CONV.weight] = address(weight)
            share(_rows, a, rows, threads)

    def run_depthwise(self, x: np.ndarray, out: np.ndarray, threads: int) -> None:
        """Compute a depthwise convolution; arguments as in ``numpy_ops.conv``."""
        a = self._depthwise.copy()
        x_row, x_column, out_row, out_column = (s // 2 for s in (*x.strides[:2], *out.strides[:2]))
        top = BORDER - self.kernel // 2
        rows, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER
        a[DEPTHWISE.x] = address(x) + 2 * top * (x_row + x_column)
        a[DEPTHWISE.out] = address(out) + 2 * BORDER * (out_row + out_column)
        a[DEPTHWISE.width], a[DEPTHWISE.x_row], a[DEPTHWISE.x_column] = width, x_row, x_column
        a[DEPTHWISE.out_row], a[DEPTHWISE.out_column] = out_row, out_column
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
