"""The two attentions in Numba (SPEC 5.7 to 5.9); the twin of numpy_ops.py, integer by integer.

float64 holds integers below 2^53 throughout; int64 elsewhere. Scratch is on the stack, so that threads share nothing.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import numpy_ops
from .backend import kernel, reads, writes
from .layers import LinearAttention, LocalAttention
from .maps import BORDER, interior
from .numba_products import LANES, product_kernel
from .numba_team import address, memory, scratch, share, task
from .numpy_ops import RELATIVE, SUM_BLOCK, contexts

_I16, _I32, _I64, _F64 = types.int16, types.int32, types.int64, types.float64

_UNSEEN = -float(1 << 40)

MAX_WIDTH = 32
"""Channels a head that the kernels take, NumPy takes more. No configuration in use has."""

_FARTHEST = 26 << 16
"""From here on the exponential is zero (SPEC 5.7): 2^24 / 2^26 rounds to 0."""

ORDER = np.array([*range(1, 25, 2), *range(0, 25, 2)])
"""Places of a 5x5 window by lane: 12 anchors in lanes 0..11, 13 non-anchors in lanes 16..28. Anchors see anchors only,
so that for their rows 16 lanes do; the lanes between have no place."""

LANE = np.array([*range(12), *range(16, 29)])

_STEP = 32
"""Scratch is in rows of 32: lanes of a window, or channels of a head padded with zeros."""

_ROW, _QUERIES, _LANES = _STEP, 28 * _STEP, 32 * _STEP

_scores_all, _scores_anchors, _one_score = product_kernel(4, 4), product_kernel(4, 2), product_kernel(1, 4)
_four_sums, _one_sum = product_kernel(4, 2), product_kernel(1, 2)

(_L_QKV, _L_OUT, _L_BIAS, _L_PLACE, _L_TABLE, _L_SHIFT, _L_LIMIT, _L_HEADS, _L_CHANNELS, _L_HEIGHT, _L_WIDTH, _L_ROW,
 _L_COLUMN, _L_OUT_ROW, _L_OUT_COLUMN, _L_WORDS) = range(16)
"""Words of local attention's arguments; strides in elements."""


def _exponential(b, t, table):
    """(SPEC 5.7) IR for 2^(24 - t / 2^16) of 8 lanes of int32, 0 <= t <= _FARTHEST; table points to exp2.

    With m = low (256 - j) + high j, the definition is floor((m + 2^(n + 7)) / 2^(n + 8)). Both summands' lowest seven
    bits may go first, as 2^(n + 7) has none: floor((floor(m / 2^7) + 2^n) / 2^(n + 1)), where floor(m / 2^7) =
    2 low + floor((high - low) j / 2^7) <= 2^25. So 32 bits do, in half the registers of 64.

    The gather takes low and high at once, the lower in the lower half on every little-endian machine, all that Numba
    knows.
    """
    i32, i64 = ir.IntType(32), ir.IntType(64)
    short, long = ir.VectorType(i32, LANES), ir.VectorType(i64, LANES)
    pointers, flags = ir.VectorType(i64.as_pointer(), LANES), ir.VectorType(ir.IntType(1), LANES)

    def every(value, kind=short):
        return ir.Constant(kind, [value] * LANES)

    index = b.zext(b.and_(b.lshr(t, every(8)), every(255)), long)
    base = b.insert_element(ir.Constant(long, ir.Undefined), b.ptrtoint(table, i64), ir.Constant(i32, 0))
    base = b.shuffle_vector(base, ir.Constant(long, ir.Undefined), every(0))
    addresses = b.inttoptr(b.add(base, b.shl(index, every(2, long))), pointers)
    kind = ir.FunctionType(long, [pointers, i32, flags, long])
    gather = cgutils.get_or_insert_function(b.module, kind, "llvm.masked.gather.v8i64.v8p0")
    pairs = b.call(gather, [addresses, ir.Constant(i32, 4), every(True, flags), every(0, long)])
    pairs = b.bitcast(pairs, ir.VectorType(i32, 2 * LANES))
    low, high = (b.shuffle_vector(pairs, ir.Constant(pairs.type, ir.Undefined),
                                  ir.Constant(short, list(range(first, 2 * LANES, 2)))) for first in (0, 1))
    n = b.lshr(t, every(16))
    slope = b.ashr(b.mul(b.sub(high, low), b.and_(t, every(255))), every(7))
    total = b.add(b.add(b.shl(low, every(1)), slope), b.shl(every(1), n))
    return b.lshr(total, b.add(n, every(1)))


def _softmax_kernel(vectors):
    """An intrinsic for 8 ``vectors`` logits.

    Written as vectors: what the compiler made of loops took three times as long.
    """
    @intrinsic
    def softmax(typing, logits, table, weights, at):
        """(SPEC 5.7) weights[at..], Q16, of logits in Q16; both are integers in float64."""
        def codegen(context, b, sig, args):
            i32, i64, f64 = ir.IntType(32), ir.IntType(64), ir.DoubleType()
            short, real = ir.VectorType(i32, LANES), ir.VectorType(f64, LANES)

            def data(n):
                return context.make_array(sig.args[n])(context, b, args[n]).data

            def every(value, kind):
                return ir.Constant(kind, [value] * LANES)

            def splat(value, kind):
                value = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(i32, 0))
                return b.shuffle_vector(value, ir.Constant(kind, ir.Undefined),
                                        ir.Constant(ir.VectorType(i32, LANES), [0] * LANES))

            def call(name, kind, *values):
                function = ir.FunctionType(kind, [v.type for v in values])
                return b.call(cgutils.get_or_insert_function(b.module, function, name), values)

            def place(array, offset, kind):
                return b.bitcast(b.gep(data(array), [offset]), kind.as_pointer())

            def larger(v, w):
                return b.select(b.fcmp_ordered(">", v, w), v, w)

            def largest(v):
                """Of 8 lanes, halving by halving."""
                for n in (4, 2, 1):
                    mask = ir.Constant(ir.VectorType(i32, n), list(range(n))), ir.Constant(
                        ir.VectorType(i32, n), list(range(n, 2 * n)))
                    v = larger(*(b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), m) for m in mask))
                return b.extract_element(v, ir.Constant(i32, 0))

            loaded = [b.load(place(0, ir.Constant(i64, LANES * n), real)) for n in range(vectors)]
            for v in loaded:
                v.align = 8
            top = loaded[0]
            for v in loaded[1:]:
                top = larger(top, v)
            top = splat(largest(top), real)
            far = every(float(_FARTHEST), real)
            values = []
            for v in loaded:
                away = b.fsub(top, v)
                t = b.fptosi(b.select(b.fcmp_ordered("<", away, far), away, far), short)
                values.append(_exponential(b, t, data(1)))
            total = values[0]
            for v in values[1:]:
                total = b.add(total, v)
            total = call("llvm.vector.reduce.add.v8i32", i32, total)  # at most 2^29
            reciprocal = b.sdiv(ir.Constant(i64, 1 << 47), b.zext(total, i64))
            reciprocal = splat(b.sitofp(reciprocal, f64), real)
            # v reciprocal <= 2^47 as v <= total: it and the rounding are exact
            for n, v in enumerate(values):
                product = b.fadd(b.fmul(b.sitofp(v, real), reciprocal), every(float(1 << 30), real))
                weight = call("llvm.floor.v8f64", real, b.fmul(product, every(2.0 ** -31, real)))
                to = b.add(args[3], ir.Constant(i64, LANES * n))
                b.store(weight, place(2, to, real)).align = 8
            return context.get_dummy_value()

        return types.void(logits, table, weights, types.int64), codegen

    return softmax


_softmax_all, _softmax_anchors = _softmax_kernel(4), _softmax_kernel(2)


@task
def _local_rows(arguments, y0, y1):
    """Rows y0..y1 of windowed attention at non-anchors.

    bias [2, heads, 25, 32]: relative position bias by (query, lane) for rows that see every key and for rows of
    anchors; 2^40 lower, where a weight is exactly zero, in lanes without a key. |q . k| <= 2^30 d and
    |sum p v| <= 2^31 * 25 + 2^15 are exact in float64, and so are logits: below 2^38, or 2^40 lower (SPEC 9.2). They
    stay in float64, since AVX2 has no vector conversion to int64. Most non-anchors have equal queries, as their inputs
    are zero: products of an equal query are kept from row to row.
    """
    a = memory(arguments, _I64)
    qkv, out, table = memory(a[_L_QKV], _I16), memory(a[_L_OUT], _I16), memory(a[_L_TABLE], _I32)
    bias, place = memory(a[_L_BIAS], _F64), memory(a[_L_PLACE], _I64)
    shift, limit, heads, channels = a[_L_SHIFT], a[_L_LIMIT], a[_L_HEADS], a[_L_CHANNELS]
    h, w, row, column, out_row, out_column = (a[_L_HEIGHT], a[_L_WIDTH], a[_L_ROW], a[_L_COLUMN], a[_L_OUT_ROW],
                                              a[_L_OUT_COLUMN])
    d = channels // heads
    top = np.float64(limit)
    low = -top
    half, down = np.float64((1 << shift) >> 1), 1 / np.float64(1 << shift)
    q, k, v = scratch(_F64, _QUERIES), scratch(_F64, _LANES), scratch(_F64, _LANES)  # [25, e], [e, lane], [lane, e]
    dots, weights, seen = scratch(_F64, _QUERIES), scratch(_F64, _QUERIES), scratch(_F64, _QUERIES)
    logits, outside = scratch(_F64, _ROW), scratch(_F64, _ROW)
    for b in range(32):
        outside[b] = 0.0
    for n in range(_QUERIES):
        q[n] = 0.0
        weights[n] = 0.0
    for n in range(_LANES):
        k[n] = 0.0
        v[n] = 0.0
    for y in range(y0, y1):
        for n in range(w // 2):
            x = 2 * n + (y & 1)
            inner = y >= 2 and y < h - 2 and x >= 2 and x < w - 2
            for t in range(25):
                p, b = place[t], place[25 + t]
                ay, ax = y + p // 5 - 2, x + p % 5 - 2
                outside[b] = 0.0 if 0 <= ay < h and 0 <= ax < w else _UNSEEN
            for head in range(heads):
                for t in range(25):
                    p, b = place[t], place[25 + t]
                    at = (y + p // 5) * row + (x + p % 5) * column + head * d
                    for e in range(d):
                        q[t * _STEP + e] = qkv[at + e]
                    for e in range(d):
                        k[e * _STEP + b] = qkv[at + channels + e]
                    for e in range(d):
                        v[b * _STEP + e] = qkv[at + 2 * channels + e]
                for i in range(25 * _STEP):
                    dots[i] = 0.0
                    seen[i] = 32768.0
                for t in range(0, 12, 4):
                    if inner:
                        _scores_anchors(dots, t * _STEP, _STEP, q, t * _STEP, _STEP, k, 0, _STEP, d)
                    else:
                        _scores_all(dots, t * _STEP, _STEP, q, t * _STEP, _STEP, k, 0, _STEP, d)
                kept = 12
                for t in range(12, 25):
                    same = t > 12
                    for e in range(d):
                        same &= q[t * _STEP + e] == q[kept * _STEP + e]
                    if same:
                        for b in range(32):
                            dots[t * _STEP + b] = dots[kept * _STEP + b]
                    else:
                        _one_score(dots, t * _STEP, _STEP, q, t * _STEP, _STEP, k, 0, _STEP, d)
                        kept = t
                for t in range(25):
                    restricted = 1 if t < 12 and outside[t] == 0.0 else 0
                    from_bias = ((restricted * heads + head) * 25 + place[t]) * 32
                    for b in range(32):
                        logits[b] = np.floor((dots[t * _STEP + b] + half) * down) + bias[from_bias + b]
                    if restricted and not inner:
                        for b in range(16):
                            logits[b] += outside[b]
                    if restricted:
                        _softmax_anchors(logits, table, weights, t * _STEP)
                        for b in range(16, 32):
                            weights[t * _STEP + b] = 0.0
                    else:
                        _softmax_all(logits, table, weights, t * _STEP)
                for c in range(0, d, 16):
                    for t in range(0, 24, 4):
                        keys = 12 if inner and t < 12 else 29
                        _four_sums(seen, t * _STEP + c, _STEP, weights, t * _STEP, _STEP, v, c, _STEP, keys)
                    _one_sum(seen, 24 * _STEP + c, _STEP, weights, 24 * _STEP, _STEP, v, c, _STEP, 29)
                for t in range(25):
                    to = y * out_row + n * out_column + place[t] * channels + head * d
                    for e in range(d):
                        out[to + e] = np.int32(min(max(np.floor(seen[t * _STEP + e] * 2.0 ** -16), low), top))


_biases: WeakKeyDictionary[LocalAttention, np.ndarray] = WeakKeyDictionary()

_PLACES = np.concatenate([ORDER, LANE]).astype(np.int64)


def _lane_bias(layer: LocalAttention) -> np.ndarray:
    found = _biases.get(layer)
    if found is None:
        found = np.full((2, layer.heads, 25, 32), _UNSEEN)
        found[:, :, :, LANE] = layer.bias[RELATIVE][:, ORDER].transpose(2, 0, 1)
        found[1, :, :, 16:] = _UNSEEN
        _biases[layer] = found
    return found


def local_attention(qkv: np.ndarray, layer: LocalAttention, table: np.ndarray, out: np.ndarray, threads: int) -> None:
    """(SPEC 5.8) As ``numpy_ops.local_attention``."""
    channels = qkv.shape[2] // 3
    if channels // layer.heads > MAX_WIDTH:
        numpy_ops.local_attention(qkv, layer, table, out)
        return
    bias = _lane_bias(layer)
    a = np.zeros(_L_WORDS, np.int64)
    a[:] = (address(qkv), address(out) + BORDER * (out.strides[0] + out.strides[1]), address(bias), address(_PLACES),
            address(table), layer.shift, layer.limit, layer.heads, channels, qkv.shape[0] - 2 * BORDER,
            qkv.shape[1] - 2 * BORDER, *(s // 2 for s in (*qkv.strides[:2], *out.strides[:2])))
    share(_local_rows, a, out.shape[0] - 2 * BORDER, threads)


# ------------------------------------------------------------------------------------------- linear attention (5.9)

GROUP = 8
"""Channels of keys that one unit of work sums: 8 x 16 sums stay in registers."""

_POSITIONS = 64
"""Positions whose weights are computed at once."""

_SUMS, _WEIGHTS, _VALUES, _BLOCK = GROUP * _STEP, GROUP * _POSITIONS, _POSITIONS * _STEP, 4 * _STEP

_key_product = product_kernel(GROUP, 2)


@intrinsic
def _exponentials_of_8(typing, near, at, table, out, to):
    """out[to..] = 2^(24 - near[at..]) of 8 differences in Q16, at most _FARTHEST."""
    def codegen(context, b, sig, args):
        short, real = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.DoubleType(), LANES)

        def place(array, offset, kind):
            data = context.make_array(sig.args[array])(context, b, args[array]).data
            return b.bitcast(b.gep(data, [args[offset]]), kind.as_pointer()) if offset else data

        t = b.load(place(0, 1, short))
        t.align = 4
        b.store(b.sitofp(_exponential(b, t, place(2, 0, short)), real), place(3, 4, real)).align = 8
        return context.get_dummy_value()

    return types.void(near, types.int64, table, out, types.int64), codegen


@kernel(reads(_I32, 1, "C"), reads(_I32, 1, "C"), writes(_F64, 1, "C"), _I64)
def _exponentials(near, table, out, at):
    """out[at..] = 2^(24 - near) for 64 differences in Q16, at most _FARTHEST; returns their sum, below 2^31."""
    for b in range(0, _POSITIONS, LANES):
        _exponentials_of_8(near, b, table, out, at + b)
    total = 0.0
    for b in range(_POSITIONS):
        total += out[at + b]
    return np.int64(total)


def exponentials(t: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(SPEC 5.7) As ``numpy_ops.exp2_negative``, by the kernel that weighs keys: [n] int64 in Q16 -> Q24."""
    near = np.resize(np.minimum(t, _FARTHEST), -(-t.size // _POSITIONS) * _POSITIONS).astype(np.int32)
    out = np.empty(near.size)
    for at in range(0, near.size, _POSITIONS):
        _exponentials(near[at:at + _POSITIONS], table, out, at)
    return out[:t.size].astype(np.int64)


(_K_KEYS, _K_VALUES, _K_TOP, _K_TABLE, _K_SUMS, _K_TOTALS, _K_SHIFT, _K_WIDTH, _K_PARITY, _K_HEIGHT, _K_COLUMNS, _K_ROW,
 _K_COLUMN, _K_V_ROW, _K_V_COLUMN, _K_BLOCK, _K_WORDS) = range(17)


@task
def _key_sums(arguments, first, end):
    """Units first..end of 4 channels of keys: their weights' totals and products with the values of their head.

    A weight is at most 2^24 and a value below 2^15: 2^13 positions sum below 2^52 in float64, then go to int64.
    """
    a = memory(arguments, _I64)
    keys, values, table = memory(a[_K_KEYS], _I16), memory(a[_K_VALUES], _I16), memory(a[_K_TABLE], _I32)
    top, sums, totals = memory(a[_K_TOP], _I64), memory(a[_K_SUMS], _I64), memory(a[_K_TOTALS], _I64)
    shift, d, parity, height, columns = a[_K_SHIFT], a[_K_WIDTH], a[_K_PARITY], a[_K_HEIGHT], a[_K_COLUMNS]
    row, column, v_row, v_column = a[_K_ROW], a[_K_COLUMN], a[_K_V_ROW], a[_K_V_COLUMN]
    part, e, v = scratch(_F64, _SUMS), scratch(_F64, _WEIGHTS), scratch(_F64, _VALUES)
    near = scratch(_I32, _POSITIONS)
    groups = -(-d // GROUP)
    step = 2 if parity >= 0 else 1
    columns //= step
    for n in range(_VALUES):
        v[n] = 0.0
    for n in range(_WEIGHTS):
        e[n] = 0.0
    for unit in range(first, end):
        head, start = unit // groups, unit % groups * GROUP
        count = min(d - start, GROUP)
        c0, v0 = head * d + start, head * d
        for i in range(_SUMS):
            part[i] = 0.0
        pending = 0
        for y in range(height):
            x0 = (y + parity) & 1 if parity >= 0 else 0
            for n0 in range(0, columns, _POSITIONS):
                positions = min(columns - n0, _POSITIONS)
                at = y * row + (x0 + n0 * step) * column + c0
                for i in range(count):
                    for n in range(positions):
                        away = (top[c0 + i] - keys[at + n * step * column + i]) << shift
                        near[n] = min(away, _FARTHEST)
                    for n in range(positions, _POSITIONS):
                        near[n] = _FARTHEST
                    totals[c0 + i] += _exponentials(near, table, e, i * _POSITIONS)
                at = y * v_row + (x0 + n0 * step) * v_column + v0
                for n in range(positions):
                    for j in range(d):
                        v[n * _STEP + j] = values[at + n * step * v_column + j]
                for j in range(0, d, 16):
                    _key_product(part, j, _STEP, e, 0, _POSITIONS, v, j, _STEP, positions)
                pending += _POSITIONS
                if pending >= a[_K_BLOCK]:
                    for i in range(count):
                        for j in range(d):
                            sums[(c0 + i) * d + j] += np.int64(part[i * _STEP + j])
                    for i in range(_SUMS):
                        part[i] = 0.0
                    pending = 0
        for i in range(count):
            for j in range(d):
                sums[(c0 + i) * d + j] += np.int64(part[i * _STEP + j])


(_Q_QUERIES, _Q_OUT, _Q_CONTEXT, _Q_TABLE, _Q_SHIFT, _Q_LIMIT, _Q_HEADS, _Q_WIDTH, _Q_PARITY, _Q_COLUMNS, _Q_ROW,
 _Q_COLUMN, _Q_OUT_ROW, _Q_OUT_COLUMN, _Q_WORDS) = range(15)


@task
def _attend_rows(arguments, y0, y1):
    """Rows y0..y1: softmax of queries over the channels of each head, times context [heads, d, 32].

    |sum p c| < 2^15 * (2^16 + d): exact in float64.
    """
    a = memory(arguments, _I64)
    queries, out, context, table = (memory(a[_Q_QUERIES], _I16), memory(a[_Q_OUT], _I16), memory(a[_Q_CONTEXT], _F64),
                                    memory(a[_Q_TABLE], _I32))
    shift, limit, heads, d, parity, columns = (a[_Q_SHIFT], a[_Q_LIMIT], a[_Q_HEADS], a[_Q_WIDTH], a[_Q_PARITY],
                                               a[_Q_COLUMNS])
    row, column, out_row, out_column = a[_Q_ROW], a[_Q_COLUMN], a[_Q_OUT_ROW], a[_Q_OUT_COLUMN]
    weights, seen = scratch(_F64, _BLOCK), scratch(_F64, _BLOCK)
    logits = scratch(_F64, _ROW)
    up, top = np.float64(1 << shift), np.float64(limit)
    low = -top
    step = 2 if parity >= 0 else 1
    positions = columns // step
    for y in range(y0, y1):
        x0 = (y + parity) & 1 if parity >= 0 else 0
        if parity >= 0:
            for n in range(positions):
                to = y * out_row + (2 * n + 1 - x0) * out_column
                for c in range(heads * d):
                    out[to + c] = 0
        for n0 in range(0, positions, 4):
            count = min(positions - n0, 4)
            for head in range(heads):
                for n in range(count):
                    at = y * row + (x0 + (n0 + n) * step) * column + head * d
                    for c in range(d):
                        logits[c] = queries[at + c] * up
                    for c in range(d, 32):
                        logits[c] = _UNSEEN
                    _softmax_all(logits, table, weights, n * _STEP)
                for i in range(_BLOCK):
                    seen[i] = 32768.0
                for c in range(0, d, 16):
                    _four_sums(seen, c, _STEP, weights, 0, _STEP, context, head * d * _STEP + c, _STEP, d)
                for n in range(count):
                    to = y * out_row + (x0 + (n0 + n) * step) * out_column + head * d
                    for c in range(d):
                        out[to + c] = np.int32(min(max(np.floor(seen[n * _STEP + c] * 2.0 ** -16), low), top))


def _maxima(keys: np.ndarray, parity: int) -> np.ndarray:
    inner = interior(keys)
    if parity < 0:
        return inner.max(axis=(0, 1)).astype(np.int64)
    halves = [half.max(axis=(0, 1)) for half in (inner[0::2, parity::2], inner[1::2, 1 - parity::2]) if half.size]
    return np.max(halves, axis=0).astype(np.int64)


def linear_attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, layer: LinearAttention,
                     table: np.ndarray, out: np.ndarray, keys_at: int, queries_at: int, threads: int) -> None:
    """(SPEC 5.9) As ``numpy_ops.linear_attention``."""
    channels, heads = keys.shape[2], layer.heads
    d = channels // heads
    if d > MAX_WIDTH:
        numpy_ops.linear_attention(queries, keys, values, layer, table, out, keys_at, queries_at)
        return
    height, width = out.shape[0] - 2 * BORDER, out.shape[1] - 2 * BORDER

    def start(x: np.ndarray) -> int:
        return address(x) + BORDER * (x.strides[0] + x.strides[1])

    def strides(*maps: np.ndarray) -> list[int]:
        return [s // 2 for x in maps for s in x.strides[:2]]

    top, totals = _maxima(keys, keys_at), np.zeros(channels, np.int64)
    sums = np.zeros((heads, d, d), np.int64)
    a = np.array([start(keys), start(values), address(top), address(table), address(sums), address(totals),
                  layer.key_shift, d, keys_at, height, width, *strides(keys, values), SUM_BLOCK], np.int64)
    share(_key_sums, a, heads * -(-d // GROUP), threads)
    context = np.zeros((heads, d, _STEP))
    context[:, :, :d] = contexts(sums, totals.reshape(heads, d, 1), layer.context_shift)
    a = np.array([start(queries), start(out), address(context), address(table), layer.query_shift, layer.limit, heads,
                  d, queries_at, width, *strides(queries, out)], np.int64)
    share(_attend_rows, a, height, threads)
