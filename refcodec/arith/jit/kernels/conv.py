"""The convolution's kernels (SPEC 5.3); what they read is prepared in refcodec/arith/jit/conv.py.

- ``sums_block`` writes vector IR for a block of pixels x outputs: splat a pair of inputs, widen to int32, multiply,
  add even and odd lanes. LLVM turns that into vpdpwssd, vpmaddwd, pmaddwd or smlal, whichever the machine has. Sums
  wrap modulo 2^32 in any order; the loader has proved the final one to fit, so every machine gets the same number.
- What follows the sum (branch, shift, GELU, clamp, residual sum, narrowing) runs on the block while it is in the
  nearest cache, 16 lanes at a time. Left to the compiler, the table look-ups of GELU ran one by one at 0.7 ns each and
  cost g_s more than its products; as a gather they take 0.2 ns.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from ..native.blocks import I32, I64, block, inlined, words_at
from ..native.build import memory, scratch, task
from .constants import FEW, JOIN, LANES, OUTPUTS, PIXELS, RESIDUAL, VECTORS
from .words import CONV, DEPTHWISE, SEGMENT

_I16, _I32, _I64 = types.int16, types.int32, types.int64

VECTOR, _PAIRS = ir.VectorType(I32, LANES), ir.VectorType(I32, 2 * LANES)

_BLOCK = PIXELS * OUTPUTS

_SEGMENT_BYTES = 8 * len(SEGMENT)

_UNBOUNDED = 2**31 - 1
"""Limit of what goes to an int32 map: the loader has proved that no accumulator is farther from zero."""


def _read(w, array, at):
    """IR for 16 elements, widened to int32."""
    value = array.load(at, ir.VectorType(array.element, LANES))
    return value if array.element == I32 else w.b.sext(value, VECTOR)


def _write(w, value, array, at):
    """IR that stores 16 lanes of int32, narrowed to the array's type."""
    array.store(value if array.element == I32 else w.b.trunc(value, ir.VectorType(array.element, LANES)), at)


def _clamp(w, v, limit):
    """IR that brings 16 lanes into [-limit, limit]; limit is a vector."""
    return w.larger(w.smaller(v, limit), w.b.neg(limit))


def sums_block(pixels, vectors, kept=lambda sums: sums):
    """A block of sums: ``pixels`` x ``vectors`` * 16 outputs over all runs of a window.

    ``kept`` is what an interpreted kernel keeps of them: machine code keeps them modulo 2^32.

    Parameters
    ----------
    pixels : int
    vectors : int
        Vectors of 16 outputs.
    kept : callable
        Reduces sums of an interpreted kernel to what machine code keeps of them.
    """
    outputs = vectors * LANES

    def write(w, acc, bias, first, x, x_at, step, weight, w_at, runs, n_runs, half_run):
        halves = [range(lane, 2 * LANES, 2) for lane in (0, 1)]

        def pairs(array, at):
            value = array.load(at, ir.VectorType(array.element, 2 * LANES))
            return w.b.sext(value, _PAIRS)

        def over_pairs(x, k, w_k, sums):
            weights = [pairs(weight, w.b.add(w_k, w.number(2 * LANES * j))) for j in range(vectors)]
            new = []
            for p in range(pixels):
                pair = x.load(w.b.add(w.b.mul(step, w.number(p)), w.b.mul(k, w.number(2))), I32)
                inputs = w.b.bitcast(w.splat(VECTOR, pair), ir.VectorType(x.element, 2 * LANES))
                inputs = w.b.sext(inputs, _PAIRS)
                for j in range(vectors):
                    products = w.b.mul(inputs, weights[j])
                    new.append(w.b.add(sums[p * vectors + j], w.b.add(*(w.lanes(products, half) for half in halves))))
            return [w.b.add(w_k, w.number(2 * outputs)), *new]

        def over_runs(r, state):
            x_run = x.behind(x_at).behind(runs.load(r, I64))
            return w.loop(half_run, state, lambda k, state: over_pairs(x_run, k, state[0], state[1:]))

        start = [bias.load(w.b.add(first, w.number(LANES * j)), VECTOR) for j in range(vectors)] * pixels
        _, *sums = w.loop(n_runs, [w_at, *start], over_runs)
        for n, v in enumerate(sums):
            acc.store(v, w.number(n // vectors * OUTPUTS + n % vectors * LANES))

    @block(write)
    def sums(acc, bias, first, x, x_at, step, weight, w_at, runs, n_runs, half_run):
        """Set acc[pixel * OUTPUTS + j] to bias[first + j] and the sum over all runs r and k < half_run of the pairs of
        inputs x[x_at + pixel * step + runs[r] + 2 k] times the pairs of weights, which follow each other from w_at on.
        """
        shape = n_runs, half_run, outputs, 2
        weights = weight[w_at : w_at + n_runs * half_run * outputs * 2].reshape(shape)
        for p in range(pixels):
            total = bias[first : first + outputs]
            for r in range(n_runs):
                at = x_at + p * step + runs[r]
                inputs = x[at : at + 2 * half_run].reshape(half_run, 1, 2)
                total = total + (inputs * weights[r]).sum(axis=(0, 2))
            acc[p * OUTPUTS : p * OUTPUTS + outputs] = kept(total)

    return sums


_many_wide, _few_wide, _one_wide = (sums_block(p, VECTORS) for p in (PIXELS, FEW, 1))
_many_narrow, _few_narrow, _one_narrow = (sums_block(p, 1) for p in (PIXELS, FEW, 1))


def _write_join(w, acc, at, branch, branch_at, shift, c):
    _write(w, w.b.add(_read(w, acc, at), w.b.shl(_read(w, branch, branch_at), _read(w, shift, c))), acc, at)


@block(_write_join)
def _join(acc, at, branch, branch_at, shift, c):
    """Add branch[branch_at..] << shift[c..] to acc[at..], 16 lanes."""
    acc[at : at + LANES] += branch[branch_at : branch_at + LANES] << shift[c : c + LANES]


def _write_shift(w, acc, at, shift, c):
    _write(w, w.b.ashr(_read(w, acc, at), _read(w, shift, c)), acc, at)


@block(_write_shift)
def _shift(acc, at, shift, c):
    """Shift acc[at..] right by shift[c..], 16 lanes."""
    acc[at : at + LANES] >>= shift[c : c + LANES]


def _write_gelu(w, acc, at, table, last):
    x = _read(w, acc, at)
    magnitude = w.larger(x, w.b.neg(x))
    index = w.smaller(magnitude, w.splat(VECTOR, w.b.trunc(last, I32)))
    # The table's elements are non-negative; the gather reads the element behind each too, so the last must have one.
    bend = w.b.and_(w.gather(table, index, I32), w.every(VECTOR, 0xFFFF))
    _write(w, w.b.sub(w.larger(x, w.every(VECTOR, 0)), bend), acc, at)


@block(_write_gelu)
def _gelu(acc, at, table, last):
    """(SPEC 5.3) Set acc[at..] to max(v, 0) - table[min(|v|, last)] of its values v, 16 lanes."""
    for n in range(at, at + LANES):
        acc[n] = max(acc[n], 0) - table[min(abs(acc[n]), last)]


def _write_residual(w, acc, at, limit, skip, skip_at, skip_up, branch_up, half, down):
    limit, skip_up, branch_up, half, down = (
        w.splat(VECTOR, w.b.trunc(v, I32)) for v in (limit, skip_up, branch_up, half, down)
    )
    branch = w.b.shl(_clamp(w, _read(w, acc, at), limit), branch_up)
    total = w.b.add(w.b.add(w.b.shl(_read(w, skip, skip_at), skip_up), branch), half)
    _write(w, w.b.ashr(total, down), acc, at)


@block(_write_residual)
def _residual(acc, at, limit, skip, skip_at, skip_up, branch_up, half, down):
    """(SPEC 5.4) Clamp acc[at..] and add it to skip[skip_at..], both shifted up, rounded by half and down, 16 lanes."""
    branch = acc[at : at + LANES].clip(-limit, limit) << branch_up
    acc[at : at + LANES] = ((skip[skip_at : skip_at + LANES] << skip_up) + branch + half) >> down


def _write_narrow(w, acc, at, limit, out, to):
    _write(w, _clamp(w, _read(w, acc, at), w.splat(VECTOR, w.b.trunc(limit, I32))), out, to)


@block(_write_narrow)
def narrow(acc, at, limit, out, to):
    """Set out[to..] to acc[at..] clamped to [-limit, limit], 16 lanes.

    Parameters
    ----------
    acc : array of int32
    at : int
        First of the 16 sums.
    limit : int
    out : array of int16 or int32
    to : int
        Where the first result goes.
    """
    out[to : to + LANES] = acc[at : at + LANES].clip(-limit, limit)


@inlined
def _sums(t, acc, pixels, c0, from_x):
    """Set the sums of a block of pixels and outputs."""
    x, weight, bias, runs = memory(t.x, _I16), memory(t.weight, _I16), memory(t.bias, _I32), memory(t.runs, _I64)
    w_at = c0 * t.n_runs * t.half_run * 2
    if t.outputs - c0 >= OUTPUTS:
        if pixels == PIXELS:
            _many_wide(acc, bias, c0, x, from_x, t.x_step, weight, w_at, runs, t.n_runs, t.half_run)
        elif pixels == FEW:
            _few_wide(acc, bias, c0, x, from_x, t.x_step, weight, w_at, runs, t.n_runs, t.half_run)
        else:
            _one_wide(acc, bias, c0, x, from_x, t.x_step, weight, w_at, runs, t.n_runs, t.half_run)
    elif pixels == PIXELS:
        _many_narrow(acc, bias, c0, x, from_x, t.x_step, weight, w_at, runs, t.n_runs, t.half_run)
    elif pixels == FEW:
        _few_narrow(acc, bias, c0, x, from_x, t.x_step, weight, w_at, runs, t.n_runs, t.half_run)
    else:
        _one_narrow(acc, bias, c0, x, from_x, t.x_step, weight, w_at, runs, t.n_runs, t.half_run)


@inlined
def _vector(t, acc, at, c, add, add_at):
    """Turn the sums acc[at..] of 16 outputs from c on into results, which ``narrow`` clamps."""
    if t.add_kind == JOIN:
        _join(acc, at, add, add_at, memory(t.add_shift, _I32), c)
    _shift(acc, at, memory(t.shift, _I32), c)
    if t.last >= 0:
        _gelu(acc, at, memory(t.table, _I16), t.last)
    if t.add_kind == RESIDUAL:
        _residual(acc, at, t.limit, add, add_at, t.skip_up, t.branch_up, t.half, t.down)


@inlined
def _whole(t, acc, at, c, limit, out_at, add_at):
    """Results of 16 outputs that lie side by side in the map."""
    _vector(t, acc, at, c, memory(t.add, _I16), add_at)
    if t.wide:
        narrow(acc, at, limit, memory(t.out, _I32), out_at)
    else:
        narrow(acc, at, limit, memory(t.out, _I16), out_at)


@inlined
def _scattered(t, acc, at, c, limit, out_at, add_at, segment, end, joined):
    """Results of 16 outputs, or fewer, in several places: segments from ``segment`` on. Returns the next vector's."""
    add, out, out32 = memory(t.add, _I16), memory(t.out, _I16), memory(t.out, _I32)
    behind = segment
    while behind < end:
        s = words_at(t.segments + behind * _SEGMENT_BYTES, SEGMENT)
        if s.vector * LANES != c:
            break
        if t.add_kind:
            for j in range(s.lanes):
                joined[s.lane + j] = add[add_at + s.add + j]
        behind += 1
    _vector(t, acc, at, c, joined, 0)
    narrow(acc, at, limit, acc, at)
    for n in range(segment, behind):
        s = words_at(t.segments + n * _SEGMENT_BYTES, SEGMENT)
        for j in range(s.lanes):
            if t.wide:
                out32[out_at + s.out + j] = acc[at + s.lane + j]
            else:
                out[out_at + s.out + j] = acc[at + s.lane + j]
    return behind


@inlined
def results(t, acc, first, c0, limit, segment, end, out_at, add_at, joined):
    """Results of a pixel whose sums for outputs from c0 on are acc[first..]: segments ``segment`` to ``end``.

    Parameters
    ----------
    t : ConvWords
    acc : array of int32
        Sums of a pixel.
    first : int
        Place of the sum for output c0.
    c0 : int
    limit : int
        Of the last clamp.
    segment, end : int
        First segment, and the one after the last.
    out_at, add_at : int
        Places of the pixel in the output and in the map that is added.
    joined : array of int16
        Room for the values that are added to a vector of several segments.
    """
    while segment < end:
        s = words_at(t.segments + segment * _SEGMENT_BYTES, SEGMENT)
        c = s.vector * LANES
        if s.lanes == LANES:
            _whole(t, acc, first + c - c0, c, limit, out_at + s.out, add_at + s.add)
            segment += 1
        else:
            segment = _scattered(t, acc, first + c - c0, c, limit, out_at, add_at, segment, end, joined)


@inlined
def clamp_of(t):
    """The clamp after everything."""
    return _UNBOUNDED if t.wide else t.top if t.add_kind == RESIDUAL else t.limit


@inlined
def segments_below(t, c, first):
    """The number of segments of outputs below c, at least ``first``.

    Parameters
    ----------
    t : ConvWords
    c : int
    first : int

    Returns
    -------
    int
    """
    end = first
    while end < t.n_segments and words_at(t.segments + end * _SEGMENT_BYTES, SEGMENT).vector * LANES < c:
        end += 1
    return end


@task
def rows(arguments, y0, y1):
    """Rows y0..y1 of one convolution."""
    t = words_at(arguments, CONV)
    acc, joined = scratch(_I32, _BLOCK), scratch(_I16, LANES)
    for j in range(LANES):
        joined[j] = 0
    limit, end = clamp_of(t), 0
    for c0 in range(0, t.outputs, OUTPUTS):
        segment = end
        end = segments_below(t, c0 + OUTPUTS, segment)
        for y in range(y0, y1):
            row = y * t.x_row
            if t.parity >= 0:
                row += ((y + t.parity) & 1) * t.x_column
            at = 0
            while at < t.width:
                # Blocks may overlap: a pixel computed twice gets the same value twice.
                pixels = 1
                if t.width >= PIXELS and t.width - at > 2 * FEW:
                    pixels = PIXELS
                elif t.width >= FEW:
                    pixels = FEW
                at = min(at, t.width - pixels)
                _sums(t, acc, pixels, c0, row + at * t.x_step)
                for i in range(pixels):
                    out_at, add_at = y * t.out_row + (at + i) * t.out_step, y * t.add_row + (at + i) * t.add_step
                    results(t, acc, i * OUTPUTS, c0, limit, segment, end, out_at, add_at, joined)
                at += pixels


def _taps_block(pixels):
    """A block of a depthwise 3x3 convolution: ``pixels`` x 16 channels."""

    def write(w, acc, bias, shift, c, x, at, row, column, weight, stride):
        taps = [_read(w, weight, w.b.add(c, w.b.mul(stride, w.number(n)))) for n in range(9)]
        first, down = _read(w, bias, c), _read(w, shift, c)
        for p in range(pixels):
            total = first
            for n in range(9):
                away = w.b.add(w.b.mul(row, w.number(n // 3)), w.b.mul(column, w.number(p + n % 3)))
                total = w.b.add(total, w.b.mul(_read(w, x, w.b.add(w.b.add(at, c), away)), taps[n]))
            _write(w, w.b.ashr(total, down), acc, w.number(p * LANES))

    @block(write)
    def taps(acc, bias, shift, c, x, at, row, column, weight, stride):
        """Set acc[pixel * 16 + j] to (bias[c + j] + the sum over 9 taps) >> shift[c + j]; weight is [9, stride]."""
        for p in range(pixels):
            total = bias[c : c + LANES]
            for n in range(9):
                place = at + c + n // 3 * row + (p + n % 3) * column
                total = total + x[place : place + LANES] * weight[c + n * stride : c + n * stride + LANES]
            acc[p * LANES : (p + 1) * LANES] = total >> shift[c : c + LANES]

    return taps


_TAPS_PIXELS = 4
_TAPS = _TAPS_PIXELS * LANES
_four_taps, _one_taps = _taps_block(_TAPS_PIXELS), _taps_block(1)


@inlined
def _depthwise_rest(t, pixels, source, target):
    """Channels that fill no vector."""
    x, out, table = memory(t.x, _I16), memory(t.out, _I16), memory(t.table, _I16)
    weight, bias, shift = memory(t.weight, _I16), memory(t.bias, _I32), memory(t.shift, _I32)
    for i in range(pixels):
        for c in range(t.channels - t.channels % LANES, t.channels):
            v = bias[c]
            for n in range(9):
                v += x[source + n // 3 * t.x_row + (i + n % 3) * t.x_column + c] * weight[n * t.stride + c]
            v >>= shift[c]
            if t.last >= 0:
                v = max(v, 0) - table[min(abs(v), t.last)]
            out[target + i * t.out_column + c] = min(max(v, -t.limit), t.limit)


@task
def depthwise_rows(arguments, y0, y1):
    """Rows y0..y1 of a depthwise 3x3 convolution."""
    t = words_at(arguments, DEPTHWISE)
    x, out, table = memory(t.x, _I16), memory(t.out, _I16), memory(t.table, _I16)
    weight, bias, shift = memory(t.weight, _I16), memory(t.bias, _I32), memory(t.shift, _I32)
    acc = scratch(_I32, _TAPS)
    for y in range(y0, y1):
        at = 0
        while at < t.width:
            pixels = _TAPS_PIXELS if t.width >= _TAPS_PIXELS else 1
            at = min(at, t.width - pixels)
            source, target = y * t.x_row + at * t.x_column, y * t.out_row + at * t.out_column
            for c in range(0, t.channels - LANES + 1, LANES):
                if pixels == 1:
                    _one_taps(acc, bias, shift, c, x, source, t.x_row, t.x_column, weight, t.stride)
                else:
                    _four_taps(acc, bias, shift, c, x, source, t.x_row, t.x_column, weight, t.stride)
                for i in range(pixels):
                    if t.last >= 0:
                        _gelu(acc, i * LANES, table, t.last)
                    narrow(acc, i * LANES, t.limit, out, target + i * t.out_column + c)
            _depthwise_rest(t, pixels, source, target)
            at += pixels
