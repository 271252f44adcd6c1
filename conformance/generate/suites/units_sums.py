"""Unit cases of quantities that pass a machine type: one for each bound of SPEC 9.2 that other cases stay below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcodec.agreement.operations import numbers

from ...kit.clauses import cited
from ...kit.specification import definition
from ..unit_writer import Input, annex_a, case, unit
from .units_arithmetic import OPERATION

MAX, INT32_MAX = 32767, 2**31 - 1
Cases = Iterator[tuple[str, Input]]
EXP2 = {"table": "exp2"}


def _float32(v: int) -> int:
    return int(np.float32(v))


def _logits(count: int) -> Iterator[list[int]]:
    """Logits for which the reciprocal of a sum that is rounded to float32 gives another weight."""
    spec = definition()
    for n in range(4000):
        logits = numbers(f"softmax-sums/{count}/{n}", -(1 << 17), 0, count).tolist()
        e = [spec.exp2_negative(max(logits) - v, annex_a()["exp2"]) for v in logits]
        weights = [[spec.round_shift(v * (2**47 // s), 31) for v in e] for s in (sum(e), _float32(sum(e)))]
        if weights[0] != weights[1]:
            yield logits


@unit(
    "exp2-sums",
    "exp2_negative",
    cited("5.7-1 A.4-1"),
    "The products of the interpolation are float32, or wrap at 2^32.",
)
def exp2_sums() -> Cases:
    """Arguments of the first octave that use every entry and all places between."""
    for t in sorted({256 * n + (37 * n) % 256 for n in range(256)}):
        yield str(t), {"t": t, "table": EXP2}


@unit(
    "softmax-sums",
    "softmax_weights",
    cited("5.7-2..4 9.2-5 9.2-7"),
    "The sum of exponentials has 32 bits, or differences of logits have: they pass 2^32 and far more octaves than 16 "
    "bits count.",
)
def softmax_sums() -> Cases:
    """Equal logits of 127 to 1984, the most that a head has, so that exponentials sum to 2^35; differences around 2^31,
    2^32 and 2^38; sums whose reciprocal or weights a float32 rounds.
    """
    for count in (127, 128, 129, 255, 256, 257, 1984):
        yield f"{count} equal", {"logits": [0] * count, "table": EXP2}
    for bits in (31, 32, 33, 38):
        logits = [0, *(-(1 << bits) + d for d in (-1, 0, 1, 65536)), -5]
        yield f"differences of 2^{bits}", {"logits": logits, "table": EXP2}
    for count in (5, 25):
        near = numbers(f"softmax-sums/{count}", -(1 << 17), 1 << 17, 20, count).tolist()
        for n, logits in enumerate((*near, *islice(_logits(count), 3))):
            yield f"{count} near, {n}", {"logits": logits, "table": EXP2}


def _local(qkv: Any, shift: int, bias: Any, heads: int = 1, limit: int = MAX) -> Input:
    return {"qkv": qkv, "op": {"heads": heads}, "layer": {"constants": [shift], "bias": bias, "limit": limit}}


def _far(key: int) -> list[list[int]]:
    """Position biases of equal keys, but for one of the window's centre, which takes no part."""
    bias = [[0] for _ in range(81)]
    bias[(2 - key // 5 + 4) * 9 + 2 - key % 5 + 4] = [-60 << 16]
    return bias


@unit(
    "local-attention-sums",
    "local_attention",
    cited("5.8-4..6 5.2-1 9.2-5 10.2-13..14"),
    "Products of queries and keys, logits, or weights times values are summed in 32 bits; or a sum is cut to 16 bits, "
    "or saturated to -32768, where a clamp to -32767 belongs.",
)
def local_attention_sums() -> Cases:
    """Products of 2 to 64 channels that sum to 2^31, 2^32 and 2^36; logits whose float32 is another; weights of 24
    equal keys, which sum to 65544, on values at both ends, under a wide and a narrow clamp.
    """
    none = [[0] for _ in range(81)]
    for d in (2, 3, 4, 64):
        for sign in (1, -1):
            qkv = np.zeros((1, 2, 3 * d), np.int64)
            qkv[..., : 2 * d] = MAX
            qkv[0, 1, d : 2 * d] *= sign
            qkv[..., 2 * d :] = [[30000], [-20000]]
            for shift in (0, 13):
                yield f"{d} channels, sign {sign}, shift {shift}", _local(qkv, shift, none)
    qkv = np.array([[[MAX] * 8 + [30000] * 4, [MAX] * 4 + [MAX - 1] * 4 + [-20000] * 4]])
    yield "keys that differ beyond 2^31", _local(qkv, 0, none)
    for shift in (0, 2):
        qkv = numbers(f"local-sums/{shift}", 20000, 20008, 2, 4, 6)
        qkv[..., 4:] = numbers(f"local-sums/values/{shift}", -MAX, MAX, 2, 4, 2)
        yield f"close logits, shift {shift}", _local(qkv, shift, none)
    for value, limit in product((MAX, -MAX), (MAX, 16000)):
        qkv = np.zeros((5, 6, 3), np.int64)
        qkv[..., 2] = value
        yield f"weights of 65544, values {value}, clamp {limit}", _local(qkv, 0, _far(0), limit=limit)
    bias = [[INT32_MAX - n % 5] for n in range(81)]
    yield "logits beyond 2^31", _local(numbers("local-sums/bias", -300, 300, 2, 4, 6), 0, bias)


def _linear(keys: Any, values: Any, constants: list[int], queries: Any = None, limit: int = MAX) -> Input:
    """One head; a query of zeros if none is given."""
    width = len(keys[0])
    return {
        "queries": [[0] * width] if queries is None else queries,
        "keys": keys,
        "values": values,
        "op": {"heads": 1},
        "layer": {"constants": constants, "limit": limit},
    }


def near_tie(pairs: int, k: int, above: bool) -> tuple[list[list[int]], list[list[int]]]:
    """(SPEC 5.9-3) Keys and values of one channel whose quotient is a tie, or 1 / (2^24 pairs) below it.

    Keys 24 octaves apart, if shifted by 16: exponentials of 2^24 in pairs and one of 1. Values of the pairs are k and
    k + 1, the last one k + 1 or k. With n pairs the divisor is E = 2^25 n + 1, and twice the dividend is
    (2 k + 1) E + 1 or two less.

    Parameters
    ----------
    pairs : int
        Pairs of keys of 0.
    k : int
        The quotient below the tie.
    above : bool
        A tie; otherwise just below it.

    Returns
    -------
    keys, values : list of list of int
        [position][channel].
    """
    return [[0], [0]] * pairs + [[-24]], [[k], [k + 1]] * pairs + [[k + above]]


def _products() -> Iterator[tuple[list[list[int]], list[list[int]]]]:
    """Three keys and values whose quotient is another if a product with an exponential is rounded to float32."""
    spec = definition()
    for n in range(20000):
        drawn = numbers(f"linear-sums/{n}", 0, MAX, 6).tolist()
        keys, values = [v % 512 for v in drawn[:3]], drawn[3:]
        e = [spec.exp2_negative((max(keys) - k) << 9, annex_a()["exp2"]) for k in keys]
        products = [a * v for a, v in zip(e, values, strict=True)]
        exact, rounded = (spec.round_quotient(sum(p), sum(e)) for p in (products, map(_float32, products)))
        if exact != rounded:
            yield [[k] for k in keys], [[v] for v in values]


@unit(
    "linear-attention-sums",
    "linear_attention",
    cited("5.9-2..5 5.2-1 9.2-6 10.2-15"),
    "Sums of exponentials, their products with values, or these shifted by context_shift have 32, 53 or 64 bits, or 24 "
    "of a float32; weights times contexts are summed in 32; a sum is cut to 16 bits or saturated to -32768.",
)
def linear_attention_sums() -> Cases:
    """Ties of quotients that any rounding of a sum moves, with 3, 5 and 16389 positions, the last beyond 2^53; equal
    keys at 128, 256, 4353 and 8449 positions, so that sums pass 2^31, 2^32, 2^63 and 2^64; keys and queries at both
    ends; weights of 8 and 16 channels that sum to more than 65538.
    """
    for pairs, k in product((1, 2), (480, 12344, -12345, MAX - 1)):
        for above in (False, True):
            keys, values = near_tie(pairs, k, above)
            yield f"tie of {k}, {pairs} pairs, {'above' if above else 'below'}", _linear(keys, values, [16, 0, 0])
    for n, (keys, values) in enumerate(islice(_products(), 4)):
        yield f"close quotients {n}", _linear(keys, values, [9, 0, 0])
    keys, values = near_tie(8194, 32764, True)
    yield "sums beyond 2^53", _linear(keys, values, [16, 0, 0])
    for count, value, shift in ((128, 3, 0), (256, 3, 0), (4353, MAX, 12), (8449, 31773, 12)):
        yield f"{count} equal keys, value {value}", _linear([[5]] * count, [[value]] * count, [0, 0, shift])
    for shift in (15, 16):
        ends = [[MAX, -MAX], [-MAX, MAX], [0, 0]]
        yield f"keys at both ends, shift {shift}", _linear(ends, [[100, 2], [-70, 40], [5, 6]], [shift, shift, 3], ends)
    for d, value in product((8, 16, 64), (MAX, -MAX)):
        queries = numbers(f"linear-sums/queries/{d}", 0, 60, 60, d)
        for limit in (MAX, 16000):
            given = _linear([[0] * d], [[value] * d], [0, 0, 0], queries, limit)
            yield f"{d} channels, contexts {value}, clamp {limit}", given
    for value in (8, 9, -8, -9):
        given = _linear([[0, 0]], [[value, -1]], [0, 0, 12], [[65, 0], [0, 65]])
        yield f"context at its clamp, value {value}", given


def _filter(weights: list[int], bias: int, shift: int, limit: int = MAX) -> Input:
    return {"weight": [[[weights]]], "constants": [[bias, shift, 0]], "frac": 4, "limit": limit}


@unit(
    "conv-sums",
    "convolution",
    cited("5.3-3 5.3-5 5.2-1 9.2-2"),
    "Accumulators saturate, or an overflow of a partial sum is an error; sums are float32; or a clamp is a saturation "
    "to -32768.",
)
def conv_sums() -> Cases:
    """Products that sum to 2^32 with a bias near -2^31, a branch of 2^32 with such a bias, accumulators of 31 odd bits,
    results just beyond the clamp at both ends.
    """
    x, near = [[[MAX] * 4, [MAX - 1] * 4, [20000] * 4, [1] * 4]], 2**31 - 2**22
    for sign in (1, -1):
        layer = _filter([32700 * sign] * 4, -near * sign, 16)
        yield f"four products of sign {sign}", {"x": x, "op": OPERATION, "layer": layer}
        layer = _filter([21800 * sign] * 3 + [0], -near // 2 * sign, 15)
        yield f"three products of sign {sign}", {"x": x, "op": OPERATION, "layer": layer}
    for add_shift in (16, 17):
        layer = {**_filter([0, 0], 0, 15), "constants": [[-near, 15, add_shift]]}
        branch = [[[v] for v in (32000, 31999, 16400)]]
        yield case(f"branch by {add_shift}", x=[[[0, 0]] * 3], op=OPERATION, layer=layer, branch=branch)
    odd = numbers("conv-sums/odd", -MAX, MAX, 4, 5, 2)
    for shift in (0, 1, 5):
        layer = {**_filter([MAX, -32003], 12345, shift, 0), "frac": 8}
        yield f"wide, shift {shift}", {"x": odd, "op": {**OPERATION, "wide": True}, "layer": layer}
    for n in range(24):
        weights, inputs = numbers(f"conv-sums/{n}", -16000, 16000, 2), numbers(f"conv-sums/x/{n}", -MAX, MAX, 2)
        layer = _filter(weights.tolist(), 128 * (n % 3) - 1 - int(weights @ inputs), 7)
        yield f"close to a multiple {n}", {"x": [[inputs]], "op": OPERATION, "layer": layer}
    for v in (MAX, -MAX):
        x, twice = [[[v, v]]], _filter([1, 1], 0, 0)
        yield f"clamp of {2 * v}", {"x": x, "op": OPERATION, "layer": twice}
        yield (
            f"clamp of {v + (1 if v > 0 else -1)}",
            {"x": x, "op": OPERATION, "layer": _filter([1, 0], 1 if v > 0 else -1, 0)},
        )


@unit("sum-sums", "residual_sum", cited("5.4-1 5.2-1 9.2-7"), "Summands or their sum are float32, or have 16 bits.")
def sum_sums() -> Cases:
    """Sums of more than 24 bits on both sides of a tie, and results beyond the clamp at both ends."""
    for shift_a, shift_b in ((15, 0), (0, 15), (14, 1)):
        pairs = [(a, b) for a in (MAX, 16385, -16385, -MAX) for b in (-1, 0, 1, 16383, 16384, -16384, -16385)]
        for shift in (1, 14, 15):
            yield case(
                f"shifts {shift_a}, {shift_b}, {shift}",
                a=[[[a] for a, _ in pairs]],
                b=[[[b] for _, b in pairs]],
                layer={"constants": [shift_a, shift_b, shift], "limit": MAX},
            )
    for v in (-MAX, MAX):
        yield f"clamp of {v}", {"a": [[[v]]], "b": [[[v // 2]]], "layer": {"constants": [0, 0, 0], "limit": MAX}}


def _norms(inverse: bool) -> Cases:
    """Squares, norms, roots and products that need more bits than a float32 has, around squares of odd roots."""
    for n in range(12):
        root = (1 << 25) + 2 * n + 1
        x = [[[MAX - 2 * n, 3], [-(MAX - 2 * n), 1], [20001, -20001]]]
        norm = root * root - (MAX - 2 * n) ** 2
        for more in (-1, 0):
            layer = {"gamma": [[1, 0], [0, 1]], "beta": [norm + more, root + more], "limit": MAX}
            for shift in (0, 26):
                yield case(
                    f"root {root}{more or ''}, shift {shift}",
                    x=x,
                    layer={**layer, "constants": [shift]},
                    inverse=inverse,
                )
    for n in range(8):
        (root,) = numbers(f"gdn-sums/root/{n}", 1 << 24, (1 << 26) - 1, 1).tolist()
        values = numbers(f"gdn-sums/x/{n}", -MAX, MAX, 1, 400, 1)
        layer = {"gamma": [[0]], "beta": [root * root], "constants": [25 if inverse else 26], "limit": MAX}
        yield case(f"products {n}", x=values, layer=layer, inverse=inverse)
    for v in (-MAX, MAX):
        layer = {"gamma": [[0]], "beta": [4], "constants": [0 if inverse else 2], "limit": MAX}
        yield case(f"clamp of {v}", x=[[[v]]], layer=layer, inverse=inverse)


@unit("gdn-sums", "gdn", cited("5.5-1..2 5.2-1 9.2-3"), "A square, norm, root or dividend has 24 or 32 bits.")
def gdn_sums() -> Cases:
    """Division by norms around squares of odd roots of 26 bits."""
    yield from _norms(inverse=False)


@unit(
    "igdn-sums", "gdn", cited("5.5-1 5.5-3 5.2-1 9.2-3"), "A square, norm, root or product is float32 or has 32 bits."
)
def igdn_sums() -> Cases:
    """Multiplication by norms around squares of odd roots of 26 bits."""
    yield from _norms(inverse=True)


STEPS = ("square", "sum", "variance", "lifted", "root", "dividend", "divisor", "half")
"""Quantities of a normalisation with more than 24 bits."""


def _normalised(x: NDArray[np.int64], rounded: str = "") -> NDArray[np.int64]:
    """(SPEC 5.6) Positions [n, channels] normalised, epsilon 1, with one quantity rounded to float32."""

    def step(name: str, v: NDArray[np.int64]) -> NDArray[np.int64]:
        return v.astype(np.float32).astype(np.int64) if name == rounded else v

    d = x.shape[1] * x - x.sum(axis=1, keepdims=True)
    variance = step("variance", step("sum", step("square", d * d).sum(axis=1, keepdims=True)) + 1)
    h = 52 - np.frexp(variance.astype(float))[1] >> 1
    root = step("root", np.sqrt(step("lifted", variance << 2 * h)).astype(np.int64))  # below 2^52: the floor is right
    divisor, gain = step("divisor", root << 8), definition().norm_gain(x.shape[1])
    quotients: NDArray[np.int64] = step("half", step("dividend", (d << h) * gain) + divisor // 2) // divisor
    return quotients


@unit(
    "norm-sums",
    "layer_norm",
    cited("5.6-1..3 9.2-4"),
    "A square, the variance, its root or the dividend is a float32.",
)
def norm_sums() -> Cases:
    """Positions so near to a tie that a quantity which is rounded to float32 moves the result; and random ones."""
    for channels, size in ((4, MAX), (12, 20000)):
        positions = numbers(f"norm-sums/{channels}", -size, size, 200000 // channels, channels)
        exact = _normalised(positions)
        for name in STEPS:
            moved = np.flatnonzero((exact != _normalised(positions, name)).any(axis=1))[:2]
            for n in moved.tolist():
                given = {"x": [positions[n : n + 1]], "layer": {"constants": [1], "limit": MAX}}
                yield f"{name}, {channels} channels, {n}", given
    for channels in (3, 64, 128):
        x = numbers(f"norm-sums/{channels}", -20000, 20000, 1, 8, channels)
        yield f"{channels} channels", {"x": x, "layer": {"constants": [1], "limit": MAX}}


@unit(
    "scale-sums",
    "split_parameters",
    cited("6.8-5..6 5.2-1 5.3-8"),
    "Scales are cut or saturated to 16 bits, or a mean saturates to -32768.",
)
def scale_sums() -> Cases:
    """Scales far beyond 2^15 and 2^16, of both signs, and means beyond the clamp at both ends."""
    scales = [v + d for v in (2**15, 2**16, 2**17, 2**18, 2**24, 2**31 - 2) for d in (-1, 0, 1)]
    scales += [-v for v in scales]
    for scale in scales:
        yield f"scale {scale}", {"parameters": [[[scale, -scale]]]}
    for mean in (32766, 32767, 32768, 65535, 65536, 2**31 - 1):
        yield f"means {mean}", {"parameters": [[[0, 0, mean, -mean]]]}


@unit("z-low", "reconstruct", cited("5.2-1 6.4-4 6.9-1"), "Saturation to 16 bits gives -32768, the clamp -32767.")
def low_ends() -> Cases:
    """Symbols and means around both ends of the clamp."""
    for symbol, mean in product((-513, -512, -511, 511, 512, MAX, -MAX), (-64, -63, -1, 0, 1, 63, 64)):
        yield f"{symbol} and {mean}", {"symbols": [[[symbol]]], "means": [[[mean]]]}
