"""The convolution, alone and with its residual sum (SPEC 5.3, 5.4), in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ...model.layers import Conv, Sum
from ..maps import BORDER, Map, WideMap, interior
from . import bands


def gelu(v: NDArray[np.int64], table: NDArray[np.int16]) -> NDArray[np.int64]:
    """(SPEC 5.3) max(v, 0) - table[min(|v|, last)] on int64."""
    return np.maximum(v, 0) - table[np.minimum(np.abs(v), table.size - 1)].astype(np.int64)


class _Packed:
    """The constants of a convolution in the order that this module reads, made on first use.

    Attributes
    ----------
    blocks : list of np.ndarray [column blocks, 1, 1, rows, columns], int16
        The weights as a matrix [k * k * C, Co], window elements by column, row and channel, cut into blocks of up to
        576 x 32. They stay in cache, and some ten rows times a block fit bands.ONE_THREAD. Zeros fill columns up to a
        multiple of 8: BLAS is slow at the end of a vector.
    scale, bias : np.ndarray [columns of all blocks], float64
        1 / 2^shift and bias / 2^shift.
    factor : np.ndarray [Co], float64
        2^add_shift / 2^shift, for a branch.
    gelu : np.ndarray or None
        GELU, clamped, of all integers from ``-zero`` on: below it is constant, beyond it is the limit.
    zero : int
        Index of 0 in ``gelu``; 0 without. The bias includes it.
    """

    def __init__(self, layer: Conv) -> None:
        co = layer.shape[0]
        order = np.arange(co)
        if layer.shuffle:
            order = order.reshape(-1, 4).T.reshape(-1)  # channels c, dy, dx -> dy, dx, c
        self.gelu, self.zero = None, 0
        if layer.gelu is not None:
            self.zero = layer.gelu.size - 1
            v = np.arange(-self.zero, max(self.zero, layer.limit + int(layer.gelu[-1])) + 1)
            self.gelu = np.clip(gelu(v, layer.gelu), -layer.limit, layer.limit).astype(np.int16)
        n, across = layer.weight[0].size, -(-co // 32)
        down, columns = -(-n // 576), -(-co // (8 * across)) * 8
        # scale, factor: powers of two. bias: multiples of 2^-shift below 2^(31-shift) + 2^15, shift <= 30: 46 bits
        self.scale, self.bias = np.zeros((2, across * columns))
        self.scale[:co] = np.ldexp(1.0, -layer.shift[order])
        self.bias[:co] = layer.bias[order] * self.scale[:co] + self.zero
        self.factor = self.scale[:co] if layer.add_shift is None else np.ldexp(self.scale[:co], layer.add_shift[order])
        weight = np.zeros((across * columns, n), np.int16)
        weight[:co] = layer.weight[order].transpose(0, 2, 1, 3).reshape(co, n)
        weight = weight.reshape(across, 1, 1, columns, n).swapaxes(3, 4)
        self.blocks = [np.ascontiguousarray(weight[:, :, :, i * n // down : (i + 1) * n // down]) for i in range(down)]


_packed: WeakKeyDictionary[Conv, _Packed] = WeakKeyDictionary()


def _pack(layer: Conv) -> _Packed:
    packed = _packed.get(layer)
    if packed is None:
        packed = _packed[layer] = _Packed(layer)
    return packed


def _window_sums(
    x: np.ndarray, blocks: list[np.ndarray], kernel: int, stride: int, width: int, y0: int, y1: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Sums of products of windows: of some of the rows y0..y1 at a time, and float64 [rows, width, columns of blocks].

    No two of every k-th row's windows share an input row. So x is laid out for every k-th row at a time, column by
    column the k rows that its windows read. There a window is one contiguous run, and each k-th window begins where the
    last has ended: they are the rows of a matrix from each of the first k columns on, without a copy.

    Parameters
    ----------
    x : np.ndarray [.., .., C], int16
        From the first element of the first window on.
    blocks : list of np.ndarray
        As in ``_Packed``, but float64.
    """
    k, c = kernel, sum(b.shape[3] for b in blocks) // kernel**2
    co = blocks[0].shape[0] * blocks[0].shape[4]
    step = stride * k
    windows = -(-width // k)  # rows of each matrix for a row of x, in ``parts`` products of ``run`` rows
    parts = -(-windows // max(1, bands.ONE_THREAD // max(b[0].size for b in blocks)))
    run = -(-windows // parts)
    windows = parts * run
    pitch = windows * step + stride * (k - 1)
    n = max(1, min(bands.BAND // (pitch * k * c + windows * (k + 1) * co), -(-(y1 - y0) // k)))
    lines = np.zeros((n, pitch, k, c))
    sums = np.empty((n, parts, run, k, co))
    part = np.empty((n, parts, run, co))
    columns = min(pitch, x.shape[1])
    for first in range(y0, y1, n * k):
        for y in range(first, min(first + k, y1)):
            rows = slice(y, min(first + n * k, y1), k)
            r = len(range(y1)[rows])
            for ky in range(k):
                lines[:r, :columns, ky] = x[stride * y + ky : stride * rows.stop + ky : step, :columns, :c]
            for p in range(k):
                lined = lines[:r, p * stride : p * stride + windows * step].reshape(r, parts, run, -1)
                total, at = sums[:r, :, :, p], 0
                for block in blocks:
                    product = part[:r] if at else total  # partial sums of |w x|: below 2^33 (_convolve), 33 bits
                    np.matmul(
                        lined[..., at : at + block.shape[3]],
                        block,
                        out=product.reshape(r, parts, run, *block.shape[::4]).transpose(3, 0, 1, 2, 4),
                    )
                    if at:
                        total += product
                    at += block.shape[3]
            yield rows, sums[:r].reshape(r, windows * k, co)[:, :width]


def _convolve(
    x: np.ndarray,
    layer: Conv,
    stride: int,
    height: int,
    width: int,
    threads: int,
    store: Callable[[slice, np.ndarray], None],
) -> None:
    """Hand accumulators / 2^shift, still without a branch, to ``store``: rows, float64 [rows, width, Co or more].

    The loader has proved that the accumulator lies in low..high, which fit int32, for every input within the clamps.
    The magnitudes of its terms, the branch's included, sum to at most high - low < 2^32 (SPEC 9.2-2: below 2^33), so
    every partial sum has at most 33 bits. `_finish` begins with the floor; nothing is added to it before.
    """
    packed, k = _pack(layer), layer.kernel
    x = x[BORDER - k // 2 :, BORDER - k // 2 :]
    blocks = [b.astype(np.float64) for b in packed.blocks]
    scale, bias = (np.tile(a, (width, 1)) for a in (packed.scale, packed.bias))  # one loop a row, not a pixel

    def work(y0: int, y1: int) -> None:
        for rows, sums in _window_sums(x, blocks, k, stride, width, y0, y1):
            sums *= scale  # multiples of 2^-shift below 2^(33-shift): 33 bits
            sums += bias  # zero <= 2^15: multiples of 2^-shift below 2^(34-shift) + 2^15, shift <= 30: 46 bits
            store(rows, sums)

    bands.share(work, height, threads, height * bias.size)


def _finish(v: NDArray[np.float64], layer: Conv) -> NDArray[np.int16] | NDArray[np.float64]:
    """Floor, GELU and clamp of accumulators / 2^shift, which are overwritten."""
    packed = _pack(layer)
    if packed.gelu is not None:
        np.clip(v, 0, packed.gelu.size - 1, out=v)
        return np.take(packed.gelu, v.astype(np.intp), mode="clip")  # v >= 0, where truncation is the floor
    if layer.limit:
        np.clip(v, -layer.limit, layer.limit, out=v)  # the clamp is an integer, so it may precede the floor
    return np.floor(v, out=v)


def conv(x: Map, layer: Conv, out: Map | WideMap, add: Map | WideMap | None, parity: int, threads: int = 1) -> None:
    """(SPEC 5.3) Convolve map x into out.

    Parameters
    ----------
    x : np.ndarray [H + 4, W + 4, C], int16
    layer : Conv
    out : np.ndarray [Ho + 4, Wo + 4, Co], int16 (int32 for a wide layer)
        Only the interior is written.
    add : np.ndarray or None
        Branch of the shape of out.
    parity : int
        -1 for every position, else only positions with (row + column) % 2 == parity, packed along columns.
    threads : int
    """
    target, branch = interior(out), None if add is None else interior(add)
    if layer.depthwise:
        _depthwise(x, layer, target, threads)
        return
    if layer.shuffle:
        target, branch = _before_shuffle(target), None if branch is None else _before_shuffle(branch)
    factor, co = _pack(layer).factor, layer.shape[0]

    def convolve(x: np.ndarray, stride: int, target: np.ndarray, branch: np.ndarray | None) -> None:
        def store(rows: slice, sums: np.ndarray) -> None:
            if branch is not None:  # multiples of 2^-shift below 2^(34-shift) + 2^15, as in _convolve: 46 bits
                sums[:, :, :co] += branch[rows].reshape(*sums.shape[:2], co) * factor
            target[rows] = _finish(sums, layer)[:, :, :co].reshape(target[rows].shape)

        _convolve(x, layer, stride, target.shape[0], target.shape[1], threads, store)

    if parity < 0:
        convolve(x, layer.stride, target, branch)
    else:
        for row in (0, 1):  # the positions of a parity in every second row are those of a stride of 2
            convolve(x[row:, (row + parity) & 1 :], 2, target[row::2], None if branch is None else branch[row::2])


def conv_sum(x: Map, layer: Conv, out: Map, skip: Map, total: Sum, threads: int = 1) -> None:
    """(SPEC 5.3, 5.4) The residual sum of map skip and the convolution of map x, in int32.

    Its terms are at most 32767 * 2^15, and with the rounding term the proved bound is 2^31 - 1 (SPEC 9.2-7).

    Parameters
    ----------
    x : map [H + 4, W + 4, Ci], int16
    layer : Conv
    out : map [H + 4, W + 4, C], int16
        Only the interior is written.
    skip : map [H + 4, W + 4, C], int16
    total : Sum
        Shifts and clamp of the sum.
    threads : int
    """
    target, skip = interior(out), interior(skip)

    def store(rows: slice, sums: np.ndarray) -> None:
        v = _finish(sums, layer)[:, :, : skip.shape[2]].astype(np.int32)
        v <<= total.shift_b
        v += np.left_shift(skip[rows], total.shift_a, dtype=np.int32)
        v += 1 << total.shift >> 1
        v >>= total.shift
        target[rows] = np.clip(v, -total.limit, total.limit)

    _convolve(x, layer, layer.stride, target.shape[0], target.shape[1], threads, store)


def _before_shuffle(x: np.ndarray) -> np.ndarray:
    """A view [2 h, 2 w, C] -> [h, w, 2, 2, C]."""
    h, w, c = x.shape
    blocks: np.ndarray = x.reshape(h // 2, 2, w // 2, 2, c).transpose(0, 2, 1, 3, 4)
    return blocks


def _depthwise(x: np.ndarray, layer: Conv, target: np.ndarray, threads: int) -> None:
    """Sums in int32, which wrap modulo 2^32: the loader has proved that the last one fits."""
    (height, width, channels), k, packed = target.shape, layer.kernel, _pack(layer)
    x = x[BORDER - k // 2 :, BORDER - k // 2 :]
    weight = np.repeat(layer.weight.transpose(1, 2, 3, 0).astype(np.int32), width, axis=2)
    scale = np.tile(packed.scale[:channels], (width, 1))

    def work(y0: int, y1: int) -> None:
        for band in bands.cut(y0, y1, 2 * width * channels):
            near = x[band.start : band.stop + k - 1, : width + k - 1].astype(np.int32)
            sums = np.empty((band.stop - band.start, width, channels), np.int32)
            part = np.empty_like(sums)
            sums[...] = layer.bias
            for ky in range(k):
                for kx in range(k):
                    np.multiply(near[ky : ky + sums.shape[0], kx : kx + width], weight[ky, kx], out=part)
                    sums += part
            shifted = sums * scale  # multiples of 2^-shift, at most 2^(31-shift): 32 bits
            shifted += packed.zero  # shift <= 30, zero <= 2^15: 46 bits
            target[band] = _finish(shifted, layer)

    bands.share(work, height, threads, height * width * channels)
