"""The arithmetic in NumPy alone (SPEC 5): exact integers in float64, which BLAS and vector units multiply fastest.

A float64 holds every multiple of 2^-s of magnitude up to 2^(53-s). So sums of integers are exact, in any order of
summation and with or without fused multiply-add, while every partial sum stays below 2^53. A shift is a scale by a
power of two, which is exact as well, and a floor.

Every block of float64 operations has its proof as a comment. "n bits" means: each result is a multiple of some 2^-s,
at most 2^(n-s) in magnitude, so it is exact for n <= 53. A proof covers every operation up to the floor, constants that
are added included, for every model that SPEC 9.2 and 10.2 admit: |weight|, |x| < 2^15; accumulators, biases of
convolutions and position biases at most 2^31 in magnitude; shifts at most 30 (GDN: 36); widths at most 2^12.

Feature maps are int16 [H + 4, W + 4, C] with a border of two zeros on every side (see maps.py).

Functions work on bands of rows whose intermediate results stay in cache, and threads share the rows. Products are made
so small that BLAS leaves them to the calling thread: its own threads would compete with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import isqrt
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..model.layers import NORM_FRAC, WEIGHT_FRAC, Conv, Gdn, LinearAttention, LocalAttention, Norm, Sum
from ..threads import share_rows
from .checkerboard import put, take, take_into
from .maps import BORDER, Map, WideMap, interior

_OFFSETS = [(y, x) for y in range(5) for x in range(5)]

RELATIVE = np.array([[(qy - ky + 4) * 9 + qx - kx + 4 for ky, kx in _OFFSETS] for qy, qx in _OFFSETS])
"""Row of the relative position table for query a and key b of a 5x5 window, [25, 25] (SPEC 5.8)."""

SUM_BLOCK = 1 << 13
"""Positions whose products, below 2^24 * 2^15, sum below 2^52: exact in float64."""

CONTEXT_MAX = (1 << 15) - 1

ONE_THREAD = 1 << 18
"""Multiply-accumulates of a product up to which OpenBLAS computes it on the calling thread."""

_BAND = 1 << 18  # float64 elements of a band: 2 MiB, about a core's second cache

_NEVER = 40 << 16  # after 40 octaves an exponential rounds to zero


def round_shift(a: NDArray[np.int64], s: np.ndarray | int) -> NDArray[np.int64]:
    """(SPEC 5.2) floor((a + 2^(s-1)) / 2^s) on int64, a itself for s = 0."""
    shift = np.asarray(s, np.int64)
    shifted: NDArray[np.int64] = (a + ((np.int64(1) << shift) >> 1)) >> shift
    return shifted


def _shifted(a: NDArray[np.float64], s: int) -> NDArray[np.float64]:
    """(SPEC 5.2) ``round_shift`` in place of integers in float64 of magnitude below 2^52, 0 <= s <= 52."""
    a *= 2.0**-s  # multiples of 2^-s below 2^(52-s): 52 bits
    a += 0.5  # s >= 1: multiples of 2^-s below 2^(52-s) + 1/2; s = 0: multiples of 1/2 below 2^52: 53 bits
    return np.floor(a, out=a)


def _quotient(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give floor(a / b) of integers in float64, b >= 1 and |a| + b < 2^53, into a.

    The quotient is rounded, but its floor is right. Rounding is monotone, so the quotient cannot fall below its floor.
    It lies 1 / b or more below the next integer m, and only what lies within |m| 2^-53 of m is rounded to it: less than
    1 / b, as |m| b <= |a| + b.
    """
    a /= b
    return np.floor(a, out=a)


def gelu(v: NDArray[np.int64], table: NDArray[np.int16]) -> NDArray[np.int64]:
    """(SPEC 5.3) max(v, 0) - table[min(|v|, last)] on int64."""
    return np.maximum(v, 0) - table[np.minimum(np.abs(v), table.size - 1)].astype(np.int64)


def _share(work: Callable[[int, int], None], rows: int, threads: int, size: int) -> None:
    """Share rows out, unless all their results together, ``size``, are too few to be worth it."""
    share_rows(work, rows, threads if size > 1 << 14 else 1)


def _bands(y0: int, y1: int, row: int) -> Iterator[slice]:
    """Cut rows y0..y1 into bands of ``row`` float64 elements a row."""
    rows = max(1, _BAND // row)
    return (slice(y, min(y + rows, y1)) for y in range(y0, y1, rows))


def _product(a: NDArray[np.float64], b: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Give out [m, c] = a [m, n] @ b [n, c], float64, as a stack of small products."""
    rows = max(1, ONE_THREAD // b.size)
    whole = a.shape[0] // rows * rows
    np.matmul(a[:whole].reshape(-1, rows, a.shape[1]), b, out=out[:whole].reshape(-1, rows, b.shape[1]))
    np.matmul(a[whole:], b, out=out[whole:])


class _Packed:
    """The constants of a convolution in the order that this module reads, made on first use.

    Attributes
    ----------
    blocks : list of np.ndarray [column blocks, 1, 1, rows, columns], int16
        The weights as a matrix [k * k * C, Co], window elements by column, row and channel, cut into blocks of up to
        576 x 32. They stay in cache, and some ten rows times a block fit ONE_THREAD. Zeros fill columns up to a
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
        co = layer.weight.shape[0]
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
    parts = -(-windows // max(1, ONE_THREAD // max(b[0].size for b in blocks)))
    run = -(-windows // parts)
    windows = parts * run
    pitch = windows * step + stride * (k - 1)
    n = max(1, min(_BAND // (pitch * k * c + windows * (k + 1) * co), -(-(y1 - y0) // k)))
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

    _share(work, height, threads, height * bias.size)


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
    factor, co = _pack(layer).factor, layer.weight.shape[0]

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
        for band in _bands(y0, y1, 2 * width * channels):
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

    _share(work, height, threads, height * width * channels)


def _norm_root(x: NDArray[np.float64], layer: Gdn) -> NDArray[np.float64]:
    """floor(sqrt(beta + gamma x^2)) as float64, below 2^26; the loader has proved the sum below 2^52.

    The root is correctly rounded by IEEE 754, and its floor is right. With m the next integer, m <= 2^26 and
    n <= m^2 - 1, so m - sqrt(n) > 1 / (2 m) >= 2^-27. Doubles just below m lie 2^-27 or less apart, so what lies within
    2^-28 of m alone is rounded to it.
    """
    n = np.empty(x.shape)
    _product((x * x).reshape(-1, x.shape[2]), layer.gamma.T.astype(np.float64), n.reshape(-1, x.shape[2]))
    n += layer.beta  # beta, gamma and x^2 >= 0, so every partial sum is at most the whole, below 2^52: 52 bits
    np.sqrt(n, out=n)
    return np.floor(n, out=n)


def igdn(x: Map, layer: Gdn, out: Map, threads: int = 1) -> None:
    """(SPEC 5.5) clamp(x * r >> shift, rounded), maps in and out."""
    source, target = interior(x), interior(out)

    def rows(y0: int, y1: int) -> None:
        for band in _bands(y0, y1, 4 * source[0].size):
            v = source[band].astype(np.float64)
            product = _norm_root(v, layer)
            product *= v  # |x r| < 2^15 * 2^26: 41 bits, as _shifted wants with shift <= 36
            target[band] = np.clip(_shifted(product, layer.shift), -layer.limit, layer.limit)

    _share(rows, source.shape[0], threads, source.size)


def gdn(x: Map, layer: Gdn, out: Map, threads: int = 1) -> None:
    """(SPEC 5.5) clamp(floor((x * 2^shift + floor(r / 2)) / r)), maps in and out."""
    source, target = interior(x), interior(out)

    def rows(y0: int, y1: int) -> None:
        for band in _bands(y0, y1, 4 * source[0].size):
            v = source[band].astype(np.float64)
            r = _norm_root(v, layer)
            v *= 2.0**layer.shift  # shift <= 36: integers below 2^51, 51 bits
            # r / 2 < 2^25, a multiple of 1/2 before its floor; |v| + r < 2^52: 52 bits
            v += np.floor(0.5 * r)
            target[band] = np.clip(_quotient(v, r), -layer.limit, layer.limit)

    _share(rows, source.shape[0], threads, source.size)


def norm_gain(channels: int) -> int:
    """(SPEC 5.6) round(sqrt(C) * 2^(NORM_FRAC + 8)), by exact integers."""
    return (isqrt(channels << (2 * (NORM_FRAC + 8) + 2)) + 1) >> 1


def layer_norm(x: Map, layer: Norm, out: Map, threads: int = 1) -> None:
    """(SPEC 5.6) D * sqrt(C / (sum D^2 + epsilon)) in Q10, maps in and out, without rounding errors before the last.

    The loader has proved C^3 x^2 and with it sum D^2 below 2^50 and C <= 128, and epsilon < 2^50.
    """
    source, target = interior(x), interior(out)
    channels = source.shape[2]

    def rows(y0: int, y1: int) -> None:
        for band in _bands(y0, y1, 4 * source[0].size):
            d = channels * source[band].astype(np.float64)  # C |x| < 2^22: 22 bits
            d -= source[band].sum(axis=2, keepdims=True)  # |D| < 2 C |x|: 23 bits
            v = (d * d).sum(axis=2, keepdims=True) + layer.epsilon  # partial sums grow to below 2^51: 51 bits
            h = (52 - np.frexp(v)[1]) >> 1  # frexp's exponent is the bit length
            r = np.floor(np.sqrt(np.ldexp(v, 2 * h)))  # v 4^h in [2^50, 2^52), so the floor is right (_norm_root)
            d *= np.ldexp(float(norm_gain(channels)), h)  # |D| 2^h <= sqrt(v 4^h) < 2^26, gain < 2^22: 48 bits
            # r < 2^26; |d| + 256 r < 2^48 + 2^33 + 2^34, as _quotient wants: 49 bits
            d += 128 * r
            target[band] = np.clip(_quotient(d, 256 * r), -layer.limit, layer.limit)

    _share(rows, source.shape[0], threads, source.size)


@lru_cache(maxsize=4)
def _fractions(table: bytes) -> NDArray[np.float64]:
    """(SPEC 5.7) 2^(32 - u / 2^16) of every u below 2^16 by the bytes of the table; in int64, then float64: 33 bits."""
    t, u = np.frombuffer(table, np.int32).astype(np.int64), np.arange(1 << 16)
    i, j = u >> 8, u & 255
    fractions: NDArray[np.float64] = (t[i] * (256 - j) + t[i + 1] * j).astype(np.float64)
    return fractions


def _exp2(t: np.ndarray, table: NDArray[np.int32]) -> NDArray[np.float64]:
    """(SPEC 5.7) ``exp2_negative`` in float64 of integers t >= 0 of any type, float64 below 2^53, overwritten."""
    t = np.minimum(t, _NEVER, out=t).astype(np.int32)
    e = np.take(_fractions(table.tobytes()), t & 0xFFFF, mode="clip")
    t >>= 16
    np.ldexp(e, -8 - t, out=e)  # t <= 40 now: multiples of 2^-(8+t), at most 2^(24-t): 33 bits
    # at most 2^(24-t) + 1/2 in units of 2^-(8+t), where 1/2 is 2^(7+t), t <= 40: 48 bits
    e += 0.5
    return np.floor(e, out=e)


def exp2_negative(t: NDArray[np.int64], table: NDArray[np.int32]) -> NDArray[np.int64]:
    """(SPEC 5.7) 2^(24 - t / 2^16) for int64 t >= 0, by the table of 257 entries and one rounded shift."""
    return _exp2(t.copy(), table).astype(np.int64)


def softmax_weights(logits: NDArray[np.float64], table: NDArray[np.int32]) -> NDArray[np.float64]:
    """(SPEC 5.7) Weights in Q16 along the last axis of Q16 logits, as float64 integers.

    Logits are integers below 2^38 in magnitude, at most 2^12 in a row; masked ones are less by 2^40, so at least 2^39
    below the others, and their exponential is 0. The largest e is 2^24, so s >= 2^24 and R <= 2^23.
    """
    e = _exp2(logits.max(axis=-1, keepdims=True) - logits, table)  # differences of integers, below 2^41: 41 bits
    # s <= 2^12 * 2^24: 37 bits; 2^47 + s < 2^53, so R is right (_quotient); it is scaled by a power of two. e <= s, so
    # e R <= 2^47: 48 bits
    e *= np.floor(2.0**47 / e.sum(axis=-1, keepdims=True)) * 2.0**-31
    e += 0.5  # multiples of 2^-31, at most 2^16 + 1/2: 48 bits
    return np.floor(e, out=e)


def local_attention(qkv: Map, layer: LocalAttention, table: NDArray[np.int32], out: Map, threads: int = 1) -> None:
    """(SPEC 5.8) Attention inside the window of every non-anchor, over maps.

    Parameters
    ----------
    qkv : np.ndarray [h + 4, w + 4, 3 C], int16
        Heads contiguous; zero outside the picture.
    out : np.ndarray [h + 4, w / 2 + 4, 25 C], int16
        One entry a non-anchor, packed along columns; result (window row, window column, channel).
    """
    target = interior(out)
    h, half, c = target.shape[0], target.shape[1], qkv.shape[2] // 3
    d = c // layer.heads
    bias = layer.bias[RELATIVE].transpose(2, 0, 1).astype(np.float64)  # [heads, 25, 25], at most 2^31: 32 bits
    inside = np.zeros((*qkv.shape[:2], 1), bool)
    interior(inside)[...] = True
    odd = np.array([(y + x) % 2 == 1 for y, x in _OFFSETS])

    def rows(y0: int, y1: int) -> None:
        for band in _bands(y0, y1, 2 * half * layer.heads * 625):
            window = _windows(qkv, band, half).astype(np.float64).reshape(-1, 25, 3, layer.heads, d)
            q, k, v = window.transpose(2, 0, 3, 1, 4)
            q *= 2.0**-layer.shift  # multiples of 2^-shift below 2^(15-shift): 15 bits
            anchor = _windows(inside, band, half).reshape(-1, 25) & odd
            hidden = anchor[:, :, None] > anchor[:, None, :]
            logits = np.matmul(q, k.swapaxes(2, 3))  # multiples of 2^-shift below 2^30 d 2^-shift, d <= 2^12: 42 bits
            logits += 0.5  # 1/2 is 2^(shift-1) units of 2^-shift, shift <= 30 (units of 1/2 for shift 0): 43 bits
            np.floor(logits, out=logits)
            logits += bias  # only now: before the floor, 31 bits of bias above 2^-30 would need 61 bits. 2^38: 38 bits
            logits -= 2.0**40 * hidden[:, None]  # below 2^41: 41 bits
            weights = softmax_weights(logits, table)
            seen = _shifted(np.matmul(weights, v), WEIGHT_FRAC)  # sum of |p v| < 25 * 2^17 * 2^15: 37 bits
            np.clip(seen, -layer.limit, layer.limit, out=seen)
            target[band] = seen.transpose(0, 2, 1, 3).reshape(-1, half, 25 * c)

    _share(rows, h, threads, target.size)


def _windows(x: np.ndarray, rows: slice, half: int) -> np.ndarray:
    """The 5x5 windows of the non-anchors of rows of a map, [rows, half, 25, C]."""
    out = np.empty((rows.stop - rows.start, half, 25, x.shape[2]), x.dtype)
    for n, (dy, dx) in enumerate(_OFFSETS):
        take_into(x[rows.start + dy : rows.stop + dy, dx : dx + 2 * half], rows.start & 1, out[:, :, n])
    return out


def key_weights(
    keys: NDArray[np.int16], top: NDArray[np.int16], shift: int, table: NDArray[np.int32]
) -> NDArray[np.float64]:
    """(SPEC 5.9) 2^(24 - (top - k) 2^(shift - 16)) of keys [P, C] int16, top their maxima; float64 integers <= 2^24.

    Differences below 2^16 are shifted by at most 16 in int64.
    """
    return _exp2((top.astype(np.int64) - keys) << shift, table)


def query_weights(queries: NDArray[np.int16], heads: int, shift: int, table: NDArray[np.int32]) -> NDArray[np.float64]:
    """(SPEC 5.9) Softmax weights in Q16 of queries [P, C] int16 over the channels of each head, as float64 integers."""
    # shift <= 16: 31 bits
    logits = queries.reshape(queries.shape[0], heads, -1).astype(np.float64) * 2.0**shift
    return softmax_weights(logits, table).reshape(queries.shape)


def contexts(sums: NDArray[np.int64], total: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    """(SPEC 5.9) Rounded quotient (sums * 2^shift) / total, clamped to int16, without leaving int64.

    |sums| <= total * 2^15 and total <= 2^24 * 2^23; the rest of the first division is below total, so its shift by
    at most 12 stays below 2^60.
    """
    quotient, rest = sums // total, sums % total
    context = (quotient << shift) + ((rest << shift) + (total >> 1)) // total
    return np.clip(context, -CONTEXT_MAX, CONTEXT_MAX)


def linear_attention(
    queries: Map,
    keys: Map,
    values: Map,
    layer: LinearAttention,
    table: NDArray[np.int32],
    out: Map,
    keys_at: int,
    queries_at: int,
    threads: int = 1,
) -> None:
    """(SPEC 5.9) Maps of queries against maps of keys and values, into the map out.

    ``keys_at`` limits keys and values to one half of the checkerboard, ``queries_at`` the results; -1 takes all.
    """
    rows, row, heads = interior(keys).shape[0], 2 * keys[0].size, layer.heads
    d = keys.shape[2] // heads
    block = min(SUM_BLOCK, max(1, ONE_THREAD // d**2))
    top = np.max([_rows_of(keys, keys_at, band).max(axis=0) for band in _bands(0, rows, row)], axis=0)
    parts: list[tuple[np.ndarray, np.ndarray]] = []

    def summarise(y0: int, y1: int) -> None:
        sums, total = np.zeros((heads, d, d), np.int64), np.zeros((heads, d, 1), np.int64)
        for band in _bands(y0, y1, row):
            k, v = _rows_of(keys, keys_at, band), _rows_of(values, keys_at, band)
            for at in range(0, k.shape[0], block):
                e = key_weights(k[at : at + block], top, layer.key_shift, table).reshape(-1, heads, d)
                f = v[at : at + block].astype(np.float64).reshape(e.shape)
                # at most 2^13 products below 2^24 * 2^15, 52 bits, and weights, 38 bits; sums of blocks are int64
                sums += np.matmul(e.transpose(1, 2, 0), f.swapaxes(0, 1)).astype(np.int64)
                total += e.sum(axis=0).astype(np.int64)[:, :, None]
        parts.append((sums, total))

    _share(summarise, rows, threads, keys.size)
    sums, total = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    context = contexts(sums, total, layer.context_shift).astype(np.float64)  # clamped: 15 bits

    def attend(y0: int, y1: int) -> None:
        for band in _bands(y0, y1, 2 * queries[0].size):
            q = _rows_of(queries, queries_at, band)
            p, seen = query_weights(q, heads, layer.query_shift, table), np.empty(q.shape)
            for head in range(heads):
                part = slice(head * d, head * d + d)
                _product(p[:, part], context[head], seen[:, part])  # sum of |p c| < (2^16 + d) 2^15, d <= 2^12: 33 bits
            _shifted(seen, WEIGHT_FRAC)
            put_rows(_part(out, band), _turned(queries_at, band), np.clip(seen, -layer.limit, layer.limit, out=seen))

    _share(attend, interior(queries).shape[0], threads, queries.size)


def _part(x: np.ndarray, rows: slice) -> np.ndarray:
    """Rows of a map, as a map."""
    return x[rows.start : rows.stop + 2 * BORDER]


def _turned(parity: int, rows: slice) -> int:
    """The parity, or -1, of the same positions in a map that begins with these rows."""
    return parity if parity < 0 else (parity + rows.start) & 1


def _rows_of(x: np.ndarray, parity: int, rows: slice) -> np.ndarray:
    return rows_of(_part(x, rows), _turned(parity, rows))


def rows_of(x: np.ndarray, parity: int) -> np.ndarray:
    """Positions of a map as rows [P, C], of one half of the checkerboard or, for -1, all."""
    inner = interior(x) if parity < 0 else take(interior(x), parity)
    return np.ascontiguousarray(inner).reshape(-1, x.shape[2])


def put_rows(out: np.ndarray, parity: int, values: np.ndarray) -> None:
    """Give a map the rows of ``rows_of``; the other half of the checkerboard becomes zero."""
    target = interior(out)
    if parity < 0:
        target[...] = values.reshape(target.shape)
    else:
        target[...] = 0
        put(target, parity, values.reshape(target.shape[0], -1, target.shape[2]))
