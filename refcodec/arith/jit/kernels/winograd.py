"""The 3x3 convolution of stride 1 with 16 products for 2x2 results instead of 36 (SPEC 5.3), in exact integers.

Winograd's F(2x2, 3x3): with d a tile of 4x4 inputs of one channel, g its filter, and the matrices

    B^T = 1  0 -1  0    2 G = 2  0  0    A^T = 1  1  1  0
          0  1  1  0          1  1  1          0  1 -1 -1
          0 -1  1  0          1 -1  1
          0  1  0 -1          0  0  2

the 2x2 results are a quarter of A^T [(2 G) g (2 G)^T * (B^T d B)] A, where * multiplies place by place. That is an
identity of integers. The sum over channels is taken before A, as 16 products of matrices modulo 2^32. What comes out is
4 S modulo 2^32, with S the sum of products and the bias. So S is known exactly if |S| < 2^29, and if the factors are
int16, which transformed weights are (refcodec/arith/jit/winograd.py) and sums of four inputs are if none exceeds 8191.

Few layers have such bounds for any input, yet nearly all inputs keep them. So they are checked: for each block of
tiles, the extremes of every channel bound every sum (``_fits``). The inputs x of a block that does not pass are taken
apart: x = 16 a + b with 0 <= b < 16. Then |a| <= 2048, and S = 16 S(a) + S(b) + bias. |S(b)| <= 15 sum |w| < 2^28.
With the accumulator and the bias in int32, |S(a)| < 2^28 + sum |w| < 2^29. That costs what 36 products do.

Tiles count from the left and from the top down. A tile beyond the last row or column reads the map's border, or rows of
a strip that are not its own; only results outside the map depend on them, and those are dropped.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from ..native.blocks import I32, block, inlined, words_at
from ..native.build import memory, scratch, task
from .constants import FEW, LANES, OUTPUTS, PIXELS, PLACES, TILES, VECTORS
from .conv import VECTOR, clamp_of, results, segments_below, sums_block
from .team import claim, publish
from .words import CONV, TRANSFORM, WINOGRAD

_I16, _I32, _I64 = types.int16, types.int32, types.int64

_STEP = 2 * LANES if VECTORS == 2 else LANES
"""Inputs that are transformed at once: a register for each of 16 places, or half of them."""

_SIDE = range(4)

_PLACE_SUMS, _FOUR, _EIGHT = TILES * OUTPUTS, 4 * OUTPUTS, 8 * OUTPUTS

_CENTRE = 5
"""The place whose sums are added to all four results: the bias starts there."""

_LARGEST = 8191
"""Of inputs whose sums of four fit int16."""

_LOW_BITS = 4
"""Bits of b."""


def _combined(a, b, c, d, add, sub):
    """Product of B^T and a column."""
    return sub(a, c), add(b, c), sub(c, b), sub(b, d)


def _results_of(a, b, c, d, add, sub):
    """Product of A^T and a column."""
    return add(add(a, b), c), sub(sub(b, c), d)


def _rows_of(columns, along, add, sub):
    """The rows of a matrix, from its columns, times ``along``, one after the other."""
    return [v for row in zip(*columns, strict=True) for v in along(*row, add, sub)]


def _write_inputs(w, v, v_at, v_step, stride, x, x_at, row, column, count, tiles, down, mask, reach):
    kind = ir.VectorType(x.element, _STEP)
    down, mask = (w.splat(kind, w.b.trunc(n, x.element)) for n in (down, mask))
    rows, columns = ([w.b.mul(side, w.number(n)) for n in _SIDE] for side in (row, column))

    def loaded(source, n, high, low):
        """A transformed column, and the extremes with its inputs."""
        at = [source.load(w.b.add(r, columns[n]), kind) for r in rows]
        for value in at:
            high, low = w.larger(high, value), w.smaller(low, value)
        return _combined(*(w.b.and_(w.b.ashr(a, down), mask) for a in at), w.b.add, w.b.sub), high, low

    def channels(k, _):
        c, last = w.b.mul(k, w.number(_STEP)), w.b.sub(count, w.number(_STEP))
        c = w.b.select(w.b.icmp_signed("<", c, last), c, last)  # the last ones may be done twice
        source, target = x.behind(w.b.add(x_at, c)), v.behind(w.b.add(v_at, c))
        lows = w.b.add(count, c)
        first, high, low = loaded(source, 0, reach.load(c, kind), reach.load(lows, kind))
        second, high, low = loaded(source, 1, high, low)

        def tile(n, state):
            here = source.behind(w.b.mul(n, columns[2]))
            third, high, low = loaded(here, 2, state[8], state[9])
            fourth, high, low = loaded(here, 3, high, low)
            place = target.behind(w.b.mul(n, stride))
            for at, value in enumerate(_rows_of([state[:4], state[4:8], third, fourth], _combined, w.b.add, w.b.sub)):
                place.store(value, w.b.mul(v_step, w.number(at)))
            return [*third, *fourth, high, low]

        *_, high, low = w.loop(tiles, [*first, *second, high, low], tile)
        reach.store(high, c)
        reach.store(low, lows)
        return []

    w.loop(w.b.sdiv(w.b.add(count, w.number(_STEP - 1)), w.number(_STEP)), [], channels)


@block(_write_inputs)
def _inputs(v, v_at, v_step, stride, x, x_at, row, column, count, tiles, down, mask, reach):
    """Set v[v_at + n * stride + p * v_step + c] to place p of channel c of tile n, transformed; tiles are in a row.

    Input (i, j) of the first is x[x_at + i * row + j * column + c]; the next is two columns further.
    What is transformed is (input >> down) & mask. reach[c] becomes the largest input of a channel, reach[count + c] the
    smallest.
    """
    for n in range(tiles):
        columns = []
        for j in range(2 * n, 2 * n + 4):
            starts = [x_at + i * row + j * column for i in range(4)]
            inputs = [x[start : start + count] for start in starts]
            for values in inputs:
                reach[0:count] = values.clip(reach[0:count], None)
                reach[count : 2 * count] = values.clip(None, reach[count : 2 * count])
            columns.append(_combined(*((i >> down) & mask for i in inputs), lambda a, b: a + b, lambda a, b: a - b))
        for p, value in enumerate(_rows_of(columns, _combined, lambda a, b: a + b, lambda a, b: a - b)):
            to = v_at + n * stride + p * v_step
            v[to : to + count] = _low_half(value)


def _low_half(value):
    """Values that fit 16 bits: the transform of a block whose inputs do not fit is discarded."""
    return (value + (1 << 15)) % (1 << 16) - (1 << 15)


def _modular(sums):
    """Values that fit 32 bits."""
    return (sums + (1 << 31)) % (1 << 32) - (1 << 31)


def _write_outputs(w, acc, at, sums, sums_at):
    tile = [[sums.load(w.b.add(sums_at, w.number((4 * i + j) * _PLACE_SUMS)), VECTOR) for i in _SIDE] for j in _SIDE]
    columns = [_results_of(*column, w.b.add, w.b.sub) for column in tile]
    for n, value in enumerate(_rows_of(columns, _results_of, w.b.add, w.b.sub)):
        acc.store(w.b.ashr(value, w.every(VECTOR, 2)), w.b.add(at, w.number(n * OUTPUTS)))


@block(_write_outputs)
def _outputs(acc, at, sums, sums_at):
    """Set acc[at + n * OUTPUTS..] to result n of 2x2 from the sums of a tile, 16 lanes."""
    tile = []
    for j in range(4):
        starts = [sums_at + (4 * i + j) * _PLACE_SUMS for i in range(4)]
        tile.append([sums[start : start + LANES] for start in starts])
    columns = [_results_of(*column, lambda a, b: a + b, lambda a, b: a - b) for column in tile]
    for n, value in enumerate(_rows_of(columns, _results_of, lambda a, b: a + b, lambda a, b: a - b)):
        acc[at + n * OUTPUTS : at + n * OUTPUTS + LANES] = _modular(value) >> 2


_many_wide, _few_wide = (sums_block(p, VECTORS, _modular) for p in (PIXELS, FEW))
_many_narrow, _few_narrow = (sums_block(p, 1, _modular) for p in (PIXELS, FEW))


@inlined
def _transform(t, c, space, first, count, down, mask):
    """Transform the inputs of tiles from the first on, and copy those of some channels behind the others."""
    across, done = (c.width + 1) // 2, 0
    v, step, reach = memory(space, _I16), TILES * t.stride, memory(space + t.reach, _I16)
    while done < count:
        ty, tx = (first + done) // across, (first + done) % across
        tiles = min(count - done, across - tx)
        at = 2 * ty * c.x_row + 2 * tx * c.x_step
        x, to = memory(c.x, _I16), done * t.stride
        _inputs(v, to, step, t.stride, x, at, c.x_row, c.x_step, t.inputs, tiles, down, mask, reach)
        done += tiles
    copied = memory(t.copied, _I64)
    for n in range(t.n_copied):
        for to in range(0, PLACES * TILES * t.stride, t.stride):
            v[to + t.inputs + n] = v[to + copied[n]]


@inlined
def _fits(t, c, space, acc):
    """Whether no sum of the tiles whose inputs have been transformed can leave its bounds.

    A bound is the sum over channels of P high + N low or of P low + N high, where P and N are sums of the positive and
    the negated negative weights, high and low the magnitudes of the largest and the smallest input.
    """
    reach, pairs, zero = memory(space + t.reach, _I16), memory(space + t.pairs, _I16), memory(t.zeros, _I64)
    largest = 0
    for n in range(t.inputs):
        high, low = reach[n], -reach[t.inputs + n]
        largest = max(largest, max(high, low))
        pairs[2 * n], pairs[2 * n + 1] = high, low
        pairs[2 * (t.inputs + n)], pairs[2 * (t.inputs + n) + 1] = low, high
    fits = largest <= _LARGEST
    bounds, bias = memory(t.bounds, _I16), memory(t.bias_bound, _I32)
    for c0 in range(0, c.outputs, LANES):
        _few_narrow(acc, bias, c0, pairs, 0, 2 * t.inputs, bounds, 2 * c0 * t.inputs, zero, 1, t.inputs)
        for n in range(LANES):
            fits = fits and max(acc[n], acc[OUTPUTS + n]) <= t.most
    return fits


@inlined
def _sums(t, c, space, start, c0, count):
    """Set the sums of all places of ``count`` tiles, more where a block is not full, for outputs from c0 on.

    Those of the centre begin with start[c0..].
    """
    wide = c.outputs - c0 >= OUTPUTS
    width = OUTPUTS if wide else LANES
    zero, zeros = memory(t.zeros, _I64), memory(t.zeros, _I32)
    weight, x, inputs = memory(t.weight, _I16), memory(space, _I16), t.inputs + t.n_copied
    half = inputs // 2
    for place in range(PLACES):
        first, w_at = start if place == _CENTRE else zeros, (c0 * PLACES + place * width) * inputs
        at = 0
        while at < count:
            out = memory(space + t.sums + 4 * (place * _PLACE_SUMS + at * OUTPUTS), _I32)
            x_at, many = (place * TILES + at) * t.stride, count - at > 2 * FEW
            if wide and many:
                _many_wide(out, first, c0, x, x_at, t.stride, weight, w_at, zero, 1, half)
            elif wide:
                _few_wide(out, first, c0, x, x_at, t.stride, weight, w_at, zero, 1, half)
            elif many:
                _many_narrow(out, first, c0, x, x_at, t.stride, weight, w_at, zero, 1, half)
            else:
                _few_narrow(out, first, c0, x, x_at, t.stride, weight, w_at, zero, 1, half)
            at += PIXELS if many else FEW


@inlined
def _tile_sums(t, c, acc, sums, tile, c0, bias, whole):
    """Set the sums of a tile's 2x2 results; those of inputs in two parts are 16 times the first and the second."""
    for first in range(0, min(OUTPUTS, c.outputs - c0), LANES):
        _outputs(acc, first, memory(sums, _I32), tile * OUTPUTS + first)
        if not whole:
            _outputs(acc, _FOUR, memory(sums + t.room // 2, _I32), tile * OUTPUTS + first)
            for n in range(4):
                for j in range(LANES):
                    k = n * OUTPUTS + first + j
                    acc[k] = (acc[k] << _LOW_BITS) + acc[_FOUR + n * OUTPUTS + j] + bias[c0 + first + j]


@task
def rows(arguments, y0, y1):
    """Rows y0..y1 of tiles of one convolution."""
    t = words_at(arguments, WINOGRAD)
    c = words_at(t.conv, CONV)
    acc, joined = scratch(_I32, _EIGHT), scratch(_I16, LANES)
    for j in range(LANES):
        joined[j] = 0
    slots, slot = memory(t.slots, _I64), 0
    while not claim(slots, slot, 1):
        slot = (slot + 1) % t.n_slots
    space = t.space + slot * t.room
    other, reach = space + t.room // 2, memory(space + t.reach, _I16)
    across, limit, bias = (c.width + 1) // 2, clamp_of(c), memory(c.bias, _I32)
    first, behind = y0 * across, y1 * across
    while first < behind:
        count = min(TILES, behind - first)
        for n in range(2 * t.inputs):
            reach[n] = 0
        part, whole = 0, False
        while part < 3 and not whole:  # the inputs; if they do not fit, their higher bits, and the lower ones
            down, mask = _LOW_BITS if part == 1 else 0, (1 << _LOW_BITS) - 1 if part == 2 else -1
            _transform(t, c, other if part == 2 else space, first, count, down, mask)
            whole = part == 0 and _fits(t, c, space, acc)
            part += 1
        end = 0
        for c0 in range(0, c.outputs, OUTPUTS):
            segment = end
            end = segments_below(c, c0 + OUTPUTS, segment)
            for part in range(1 if whole else 2):
                _sums(t, c, other if part else space, memory(t.bias if whole else t.zeros, _I32), c0, count)
            for tile in range(count):
                _tile_sums(t, c, acc, space + t.sums, tile, c0, bias, whole)
                ty, tx = (first + tile) // across, (first + tile) % across
                for n in range(4):
                    y, at = 2 * ty + (n >> 1), 2 * tx + (n & 1)
                    if y < t.rows and at < c.width:
                        out_at, add_at = y * c.out_row + at * c.out_step, y * c.add_row + at * c.add_step
                        results(c, acc, n * OUTPUTS, c0, limit, segment, end, out_at, add_at, joined)
        first += count
    publish(slots, slot, 1)


# --------------------------------------------------------------------------------------------------------- weights

_TAPS = 9


def _write_sums(w, sums, to, weight, at, step):
    positive = negative = zero = w.every(VECTOR, 0)
    for n in range(_TAPS):
        g = w.b.sext(weight.load(w.b.add(at, w.b.mul(step, w.number(n))), ir.VectorType(weight.element, LANES)), VECTOR)
        positive, negative = w.b.add(positive, w.larger(g, zero)), w.b.sub(negative, w.smaller(g, zero))
    order = ir.Constant(ir.VectorType(sums.element, 2 * LANES), [n for m in range(LANES) for n in (m, LANES + m)])
    sums.store(w.b.shuffle_vector(positive, negative, order), to)


@block(_write_sums)
def _signed(sums, to, weight, at, step):
    """Set sums[to..] to the sums of positive and negated negative taps of 16 filters: weight[at + n step..]."""
    taps = np.stack([weight[at + n * step : at + n * step + LANES] for n in range(_TAPS)])
    sums[to : to + 2 * LANES : 2] = taps.clip(0, None).sum(axis=0)
    sums[to + 1 : to + 2 * LANES : 2] = (-taps).clip(0, None).sum(axis=0)


def _taps_of(a, b, c, add, sub):
    """2 G times a column."""
    outer = add(a, c)
    return add(a, a), add(outer, b), sub(outer, b), add(c, c)


def _write_filters(w, out, to, place, pair, weight, at, step):
    kind = ir.VectorType(weight.element, LANES)
    taps = [weight.load(w.b.add(at, w.b.mul(step, w.number(n))), kind) for n in range(_TAPS)]
    columns = [_taps_of(*taps[n::3], w.b.add, w.b.sub) for n in range(3)]
    for n, value in enumerate(_rows_of(columns, _taps_of, w.b.add, w.b.sub)):
        pairs = w.b.bitcast(value, ir.VectorType(I32, LANES // 2))
        start = w.b.add(to, w.b.mul(place, w.number(n)))
        for lane in range(LANES // 2):
            value = w.b.extract_element(pairs, ir.Constant(I32, lane))
            out.store(value, w.b.add(start, w.b.mul(pair, w.number(lane))))


@block(_write_filters)
def _transformed(out, to, place, pair, weight, at, step):
    """Set out[to + p place + c / 2 pair + c % 2] to place p of (2 G) g (2 G)^T of 16 filters; taps as above."""
    taps = [weight[at + n * step : at + n * step + LANES] for n in range(_TAPS)]
    columns = [_taps_of(*taps[n::3], lambda a, b: a + b, lambda a, b: a - b) for n in range(3)]
    for n, value in enumerate(_rows_of(columns, _taps_of, lambda a, b: a + b, lambda a, b: a - b)):
        for lane, v in enumerate(_low_half(value).tolist()):
            out[to + n * place + lane // 2 * pair + lane % 2] = v


@task
def filter_sums(arguments, first, end):
    """Sums over the taps of the filters of outputs first..end."""
    t = words_at(arguments, TRANSFORM)
    weight, sums = memory(t.weight, _I16), memory(t.sums, _I32)
    for o in range(first, end):
        for k in range(0, t.inputs, LANES):
            c = min(k, t.inputs - LANES)  # the last ones may be done twice
            _signed(sums, 2 * (o * t.inputs + c), weight, o * _TAPS * t.inputs + c, t.inputs)


@task
def filters(arguments, first, end):
    """Transformed filters of blocks first..end of outputs, modulo 2^16; those of copies are not set."""
    t = words_at(arguments, TRANSFORM)
    weight, out = memory(t.weight, _I16), memory(t.out, _I16)
    for c0 in range(first * OUTPUTS, min(end * OUTPUTS, t.outputs), OUTPUTS):
        width = min(OUTPUTS, t.outputs - c0)
        place, pair = width * t.all_inputs, 2 * width
        for k in range(0, t.inputs, LANES):
            c = min(k, t.inputs - LANES)  # even, as inputs are
            for o in range(width):
                to = c0 * PLACES * t.all_inputs + 2 * o + c // 2 * pair
                _transformed(out, to, place, pair, weight, (c0 + o) * _TAPS * t.inputs + c, t.inputs)
