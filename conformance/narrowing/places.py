"""Where a port may narrow an intermediate result: every operation of SPEC 5, 6 and 7, with the bound of each quantity.

A place is an expression in one of SPEC.md's blocks. A narrowing gives it another type: integers that wrap or saturate,
or floating point, which rounds. One that holds every number within the bound changes nothing. Of the others each is
noticed by a vector, or has a proof that no valid model and stream can show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

Narrow = Callable[[int], int]

MAX = 32767


def _wrapped(v: int, bits: int, low: int) -> int:
    return (v - low) % (1 << bits) + low


def _saturated(v: int, bits: int) -> int:
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, v))


def _rounded(v: int, kind: type[np.floating[Any]]) -> int:
    return int(kind(v))


@dataclass(frozen=True)
class Narrowing:
    """A type that a port may choose.

    Attributes
    ----------
    name : str
    least, most : int
        It holds every integer between these.
    apply : callable(int) -> int
        What becomes of another one.
    saturates : bool
    """

    name: str
    least: int
    most: int
    apply: Narrow
    saturates: bool = False


def _integer(name: str, bits: int, signed: bool) -> Narrowing:
    low = -(1 << bits - 1) if signed else 0
    return Narrowing(f"{name}{bits}", low, low + (1 << bits) - 1, partial(_wrapped, bits=bits, low=low))


def _saturating(bits: int) -> Narrowing:
    low = -(1 << bits - 1)
    return Narrowing(f"saturated int{bits}", low, -low - 1, partial(_saturated, bits=bits), True)


NARROWINGS = (
    *(_integer("int", bits, True) for bits in (8, 16, 32, 64)),
    *(_integer("uint", bits, False) for bits in (16, 32, 64)),
    Narrowing("float32", -(1 << 24), 1 << 24, partial(_rounded, kind=np.float32)),
    Narrowing("float64", -(1 << 53), 1 << 53, partial(_rounded, kind=np.float64)),
    *(_saturating(bits) for bits in (16, 32)),
)

PACKED = Narrowing("packed", -MAX, MAX, partial(_saturated, bits=16))
"""In the place of a clamp of 32767: saturation as SSE's, AVX's and NEON's narrowing have it, to -32768..32767."""


@dataclass(frozen=True)
class Place:
    """An intermediate result.

    Attributes
    ----------
    operation, quantity : str
    function, find : str
        The function of SPEC.md, and the expression in it.
    replace : str
        The expression, narrowed.
    least, most : int
        Bounds that hold for every valid model and stream (SPEC 9.2).
    proofs : mapping of str to str
        Why a narrowing that does not hold all of them changes no result, by its name; several names with commas.
    clamp : bool
        It is a clamp, for which ``PACKED`` alone is tried.
    """

    operation: str
    quantity: str
    function: str
    find: str
    replace: str
    least: int
    most: int
    proofs: dict[str, str] = field(default_factory=dict)
    clamp: bool = False

    @property
    def name(self) -> str:
        """Operation and quantity."""
        return f"{self.operation}: {self.quantity}"

    def proof(self, narrowing: Narrowing) -> str:
        """Why a narrowing changes no result, "" if it may."""
        if narrowing.least <= self.least and self.most <= narrowing.most:
            return "the bound"
        return next((reason for names, reason in self.proofs.items() if narrowing.name in names.split(", ")), "")

    def narrowings(self) -> tuple[Narrowing, ...]:
        """Types that are worth a trial: unsigned and saturating ones where the sign fits."""
        if self.clamp:
            return (PACKED,)
        return tuple(
            n for n in NARROWINGS if not ((n.name[0] == "u" and self.least < 0) or (n.saturates and self.least >= 0))
        )


def _value(
    operation: str,
    quantity: str,
    function: str,
    find: str,
    most: int,
    least: int | None = None,
    **proofs: str,
) -> Place:
    """An expression; without ``least`` its bound is symmetric."""
    return Place(
        operation, quantity, function, find, f"NARROW({find})", -most if least is None else least, most, _named(proofs)
    )


def _half(operation: str, function: str, find: str, most: int, least: int | None = None, **proofs: str) -> Place:
    """The shifted or divided expression, with the half that rounds it: ``find`` is a call of round_shift or
    round_quotient.
    """
    replace = find.replace("round_shift(", "SHIFT(", 1).replace("round_quotient(", "QUOTIENT(", 1)
    low = -most if least is None else least
    return Place(operation, "with the half", function, find, replace, low, most, _named(proofs))


def _clamp(operation: str, function: str, find: str, **proofs: str) -> Place:
    return Place(
        operation, "clamp", function, find, find.replace("clamp(", "PACK(", 1), -MAX - 1, MAX, _named(proofs), True
    )


def _named(proofs: dict[str, str]) -> dict[str, str]:
    """Names of narrowings from those of parameters: ``int32__float32`` is of two, ``saturated_int16`` of one."""
    return {", ".join(part.replace("_", " ") for part in names.split("__")): why for names, why in proofs.items()}


_CLAMPED = "the clamp behind it is narrower, and rounding does not bring a number across it"
_BEYOND = "2^31 and more, shifted by 16, is beyond every clamp"

PLACES = (
    # 5.3: a term is below 2^30. Without the bias, sums may pass 2^31 (SPEC 9.2-2): with it they lie within 2^31 - 1.
    _value("convolution", "product", "convolution", "w * v", MAX**2),
    _value(
        "convolution",
        "sum of products",
        "convolution",
        "sum(w * v for w, v in zip(filters[n], values))",
        (1 << 32) - 1,
        int32="the accumulator is the same modulo 2^32, and within 2^31 - 1",
    ),
    _value(
        "convolution",
        "branch, shifted",
        "convolution",
        'branch[row // op["stride"]][column // op["stride"]][n] << add_shift',
        (1 << 32) - 1,
        int32="the accumulator is the same modulo 2^32, and within 2^31 - 1",
        float32="15 bits and a power of two",
    ),
    Place(
        "convolution",
        "accumulator",
        "convolution",
        "a >>= shift",
        "a = NARROW(a) >> shift",
        1 - (1 << 31),
        (1 << 31) - 1,
    ),
    Place(
        "convolution",
        "before GELU and clamp",
        "convolution",
        "a >>= shift",
        "a = NARROW(a >> shift)",
        1 - (1 << 31),
        (1 << 31) - 1,
    ),
    _clamp("convolution", "convolution", 'clamp(a, layer["limit"])'),
    # 5.3: the argument of half tanh is a clamped result.
    _value("half tanh", "argument", "half_tanh", "abs(v)", MAX, 0),
    # 5.4, 9.2-7
    _value("sum", "first summand", "residual_sum", "(u << shift_a)", MAX << 15, float32="15 bits and a power of two"),
    _value("sum", "second summand", "residual_sum", "(v << shift_b)", MAX << 15, float32="15 bits and a power of two"),
    _value("sum", "sum", "residual_sum", "(u << shift_a) + (v << shift_b)", MAX << 16),
    _half("sum", "residual_sum", "round_shift((u << shift_a) + (v << shift_b), shift)", (MAX << 16) + (1 << 14)),
    _value(
        "sum",
        "before the clamp",
        "residual_sum",
        "round_shift((u << shift_a) + (v << shift_b), shift)",
        MAX << 16,
        float32=_CLAMPED,
        saturated_int16=_CLAMPED,
    ),
    _clamp("sum", "residual_sum", 'clamp(round_shift((u << shift_a) + (v << shift_b), shift), layer["limit"])'),
    _value("gain", "product", "gain", "v * m", MAX**2),
    _half("gain", "gain", "round_shift(v * m, s)", MAX**2 + (1 << 29)),
    _value(
        "gain",
        "before the clamp",
        "gain",
        "round_shift(v * m, s)",
        MAX**2 >> 1,
        float32=_CLAMPED,
        saturated_int16=_CLAMPED,
    ),
    _clamp("gain", "gain", 'clamp(round_shift(v * m, s), layer["limit"])'),
    _half("rescale", "rescale", 'round_shift(v, layer["constants"][0])', MAX + (1 << 14)),
    _clamp(
        "rescale",
        "rescale",
        'clamp(round_shift(v, layer["constants"][0]), layer["limit"])',
        packed="no input is below -32767",
    ),
    # 5.5, 9.2-3: every norm is below 2^52, its root below 2^26.
    _value("GDN", "square", "gdn", "v * v", MAX**2, 0),
    _value("GDN", "product", "gdn", "g * s", (1 << 52) - 1, 0),
    _value("GDN", "sum of products", "gdn", "sum(g * s for g, s in zip(gamma, squares))", (1 << 52) - 1, 0),
    _value("GDN", "norm", "gdn", "b + sum(g * s for g, s in zip(gamma, squares))", (1 << 52) - 1, 0),
    _value("GDN", "root", "gdn", "math.isqrt(b + sum(g * s for g, s in zip(gamma, squares)))", (1 << 26) - 1, 0),
    _value("GDN", "dividend", "gdn", "v << shift", MAX << 36, float32="15 bits and a power of two"),
    _half("GDN", "gdn", "round_quotient(v << shift, r)", (MAX << 36) + (1 << 25)),
    _value(
        "GDN",
        "before the clamp",
        "gdn",
        "round_quotient(v << shift, r)",
        MAX << 36,
        float32__saturated_int16__saturated_int32=_CLAMPED,
    ),
    _value("IGDN", "product", "gdn", "v * r", MAX * ((1 << 26) - 1)),
    _half("IGDN", "gdn", "round_shift(v * r, shift)", MAX * ((1 << 26) - 1) + (1 << 35)),
    _value(
        "IGDN",
        "before the clamp",
        "gdn",
        "round_shift(v * r, shift)",
        MAX * ((1 << 26) - 1),
        float32__saturated_int16__saturated_int32=_CLAMPED,
    ),
    _clamp("GDN", "gdn", "clamp(round_shift(v * r, shift) if inverse else round_quotient(v << shift, r), limit)"),
    # 5.6, 9.2-4: C |x| < 2^22, |D| < 2^23, sum D^2 < 2^50.
    _value("normalisation", "sum", "layer_norm", "sum(position)", (1 << 22) - 1),
    _value("normalisation", "C x", "layer_norm", "channels * v", (1 << 22) - 1),
    _value("normalisation", "D", "layer_norm", "channels * v - total", (1 << 23) - 1),
    _value("normalisation", "square of D", "layer_norm", "a * a", (1 << 46) - 1, 0),
    _value("normalisation", "sum of squares", "layer_norm", "sum(a * a for a in d)", (1 << 50) - 1, 0),
    _value(
        "normalisation", "variance", "layer_norm", 'sum(a * a for a in d) + layer["constants"][0]', (1 << 51) - 1, 1
    ),
    Place(
        "normalisation",
        "lifted variance",
        "layer_norm",
        "math.isqrt(variance << (2 * h))",
        "math.isqrt(NARROW(variance << (2 * h)))",
        1 << 50,
        (1 << 52) - 1,
    ),
    _value("normalisation", "root", "layer_norm", "math.isqrt(variance << (2 * h))", (1 << 26) - 1, 1 << 25),
    _value("normalisation", "lifted D", "layer_norm", "(a << h)", (1 << 26) - 1, float32="23 bits and a power of two"),
    _value("normalisation", "dividend", "layer_norm", "(a << h) * norm_gain(channels)", (1 << 48) - 1),
    _value("normalisation", "divisor", "layer_norm", "root << 8", (1 << 34) - 1, 1 << 33),
    _half("normalisation", "layer_norm", "round_quotient(a, root << 8)", (1 << 48) + (1 << 33)),
    _value("normalisation", "quotient", "layer_norm", "round_quotient(a, root << 8)", 11586),
    # 5.7, 9.2-5, 9.2-7: logits are below 2^38, so differences are below 2^39.
    _value(
        "exponential",
        "argument",
        "exp2_negative",
        "(t >> 8)",
        (1 << 31) - 1,
        0,
        int8__int16__uint16="its lower 8 bits count",
        float32="beyond 2^24 lie more than 40 octaves",
    ),
    _value("exponential", "octaves", "exp2_negative", "t >> 16", (1 << 23) - 1, 0),
    _value("exponential", "product", "exp2_negative", "table[i] * (256 - j)", 1 << 32, 0),
    _value("exponential", "sum", "exp2_negative", "table[i] * (256 - j) + table[i + 1] * j", 1 << 32, 0),
    _half(
        "exponential",
        "exp2_negative",
        "round_shift(table[i] * (256 - j) + table[i + 1] * j, n + 8)",
        (1 << 47) + (1 << 32),
        0,
    ),
    _value(
        "exponential",
        "result",
        "exp2_negative",
        "round_shift(table[i] * (256 - j) + table[i + 1] * j, n + 8)",
        1 << 24,
        0,
    ),
    _value(
        "softmax",
        "difference",
        "softmax_weights",
        "top - v",
        (1 << 39) - 1,
        0,
        float32="beyond 2^24 lie more than 40 octaves",
    ),
    _value("softmax", "sum", "softmax_weights", "sum(e)", 1984 << 24, 1 << 24),
    _value("softmax", "reciprocal", "softmax_weights", "2**47 // sum(e)", 1 << 23, 1),
    _value("softmax", "product", "softmax_weights", "v * reciprocal", 1 << 47, 0),
    _half("softmax", "softmax_weights", "round_shift(v * reciprocal, 31)", (1 << 47) + (1 << 30), 0),
    _value("softmax", "weight", "softmax_weights", "round_shift(v * reciprocal, 31)", 1 << 16, 0),
    # 5.8, 9.2-5: 64 channels per head at most; weights of 25 keys sum to at most 2^16 + 13.
    _value("local attention", "product", "local_attention", "s * t", MAX**2),
    _value(
        "local attention", "sum of products", "local_attention", "sum(s * t for s, t in zip(q[a], k[b]))", 64 * MAX**2
    ),
    _half("local attention", "local_attention", 'round_shift(dot, layer["constants"][0])', 64 * MAX**2 + (1 << 29)),
    _value(
        "local attention",
        "logit without bias",
        "local_attention",
        'round_shift(dot, layer["constants"][0])',
        64 * MAX**2,
    ),
    _value(
        "local attention",
        "logit",
        "local_attention",
        'round_shift(dot, layer["constants"][0]) + layer["bias"][place][head]',
        (1 << 38) - 1,
    ),
    _value("local attention", "weighted value", "local_attention", "p * value[e]", MAX << 16),
    _value(
        "local attention",
        "sum of weighted values",
        "local_attention",
        "sum(p * value[e] for p, value in zip(weights, v))",
        MAX * ((1 << 16) + 13),
        saturated_int32=_BEYOND,
    ),
    Place(
        "local attention",
        "sum of weighted values, with the half",
        "local_attention",
        "round_shift(sum(p * value[e] for p, value in zip(weights, v)), 16)",
        "SHIFT(sum(p * value[e] for p, value in zip(weights, v)), 16)",
        -MAX * ((1 << 16) + 13),
        MAX * ((1 << 16) + 13) + (1 << 15),
        {"saturated int32": _BEYOND},
    ),
    _value(
        "local attention",
        "before the clamp",
        "local_attention",
        "round_shift(sum(p * value[e] for p, value in zip(weights, v)), 16)",
        MAX + 7,
        saturated_int16=_CLAMPED,
    ),
    _clamp(
        "local attention",
        "local_attention",
        'clamp(round_shift(sum(p * value[e] for p, value in zip(weights, v)), 16), layer["limit"])',
    ),
    # 5.9, 9.2-6: at most 2^23 positions; a query's weights sum to less than 2^16 + d, d at most 1984.
    _value("linear attention", "difference of keys", "linear_attention", "top - k[c]", 2 * MAX, 0),
    _value(
        "linear attention",
        "difference, shifted",
        "linear_attention",
        "(top - k[c]) << key_shift",
        2 * MAX << 16,
        0,
        float32="16 bits and a power of two",
    ),
    _value("linear attention", "weighted value", "linear_attention", "a * v[n]", MAX << 24),
    _value(
        "linear attention",
        "sum of weighted values",
        "linear_attention",
        "sum(a * v[n] for a, v in zip(e, values))",
        MAX << 47,
    ),
    _value("linear attention", "sum of exponentials", "linear_attention", "sum(e)", 1 << 47, 1 << 24),
    _value("linear attention", "dividend", "linear_attention", "s << context_shift", MAX << 59),
    _half(
        "linear attention", "linear_attention", "round_quotient(s << context_shift, sum(e))", (MAX << 59) + (1 << 46)
    ),
    _value(
        "linear attention",
        "context before the clamp",
        "linear_attention",
        "round_quotient(s << context_shift, sum(e))",
        MAX << 12,
        float32__saturated_int16=_CLAMPED,
    ),
    _clamp("linear attention, context", "linear_attention", "clamp(round_quotient(s << context_shift, sum(e)), 32767)"),
    _value(
        "linear attention",
        "query, shifted",
        "linear_attention",
        "v << query_shift",
        MAX << 16,
        float32="15 bits and a power of two",
    ),
    _value("linear attention", "weighted context", "linear_attention", "p * line[n]", MAX << 16),
    _value(
        "linear attention",
        "sum of weighted contexts",
        "linear_attention",
        "sum(p * line[n] for p, line in zip(weights, context))",
        MAX * ((1 << 16) + 1984),
        saturated_int32=_BEYOND,
    ),
    Place(
        "linear attention",
        "sum of weighted contexts, with the half",
        "linear_attention",
        "round_shift(sum(p * line[n] for p, line in zip(weights, context)), 16)",
        "SHIFT(sum(p * line[n] for p, line in zip(weights, context)), 16)",
        -MAX * ((1 << 16) + 1984),
        MAX * ((1 << 16) + 1984) + (1 << 15),
        {"saturated int32": _BEYOND},
    ),
    _value(
        "linear attention",
        "before the clamp",
        "linear_attention",
        "round_shift(sum(p * line[n] for p, line in zip(weights, context)), 16)",
        MAX + 992,
        saturated_int16=_CLAMPED,
    ),
    _clamp(
        "linear attention",
        "linear_attention",
        'clamp(round_shift(sum(p * line[n] for p, line in zip(weights, context)), 16), layer["limit"])',
    ),
    # 4.3, 6.8, 6.9
    Place(
        "entropy parameters",
        "scale",
        "split_parameters",
        "t <= s",
        "t <= NARROW(s)",
        1 - (1 << 31),
        (1 << 31) - 1,
        {"float32": "thresholds are below 2^24, and rounding does not bring a number across one"},
    ),
    _clamp("entropy parameters, mean", "split_parameters", "clamp(m, 32767)"),
    _value("quantiser", "symbol times 64", "reconstruct", "64 * s", MAX << 6),
    _value(
        "quantiser", "y_hat before the clamp", "reconstruct", "64 * s + m", (MAX << 6) + MAX, saturated_int16=_CLAMPED
    ),
    _clamp("quantiser", "reconstruct", "clamp(64 * s + m, 32767)"),
    _value("refinement", "sum", "refine", "u + v", MAX + 32, saturated_int16=_CLAMPED),
    _clamp("refinement", "refine", "clamp(u + v, 32767)"),
    _value("output", "sample before the clamp", "output_samples", "min(255, v)", MAX),
    _value("output", "grey", "output_samples", "(r + 2 * g + b + 2)", 1022, 0),
    # 6.9-3: refcodec's encoder
    _value("encoder's quantiser", "difference", "nearest_symbols", "u - m", 2 * MAX),
    _half("encoder's quantiser", "nearest_symbols", "round_shift(u - m, 6)", 2 * MAX + 32),
    # 7.4, 7.2
    _value("range coder", "slot", "coder_step", "x % 2**16", (1 << 16) - 1, 0),
    _value("range coder", "state / 2^16", "coder_step", "(x // 2**16)", (1 << 47) - 1, 0),
    _value("range coder", "frequency", "coder_step", "(boundaries[i + 1] - boundaries[i])", (1 << 16) - 1, 1),
    _value(
        "range coder", "product", "coder_step", "(boundaries[i + 1] - boundaries[i]) * (x // 2**16)", (1 << 63) - 1, 0
    ),
    _value("range coder", "state", "coder_step", "x * 2**32 + words.pop(0)", (1 << 63) - 1, 0),
    _value("range coder", "length of an escape", "coder_symbol", "2**n - 1 + r", (1 << 16) - 2, 0),
    _value("range coder", "symbol above", "coder_symbol", "first + count + v", 98302),
    _value(
        "range coder",
        "symbol below",
        "coder_symbol",
        "first - 1 - v",
        98302,
        saturated_int16="-32768 is refused as well",
    ),
    _value("range encoder", "state", "range_encode", "x // freq * 2**16 + x % freq + cum", (1 << 63) - 1, 0),
    _value(
        "range encoder",
        "limit of the state",
        "range_encode",
        "freq * 2**47",
        (1 << 63) - 1,
        0,
        float32__float64="16 bits and a power of two",
    ),
    # 8.1
    _value(
        "header",
        "latent positions",
        "container_positions",
        "(width + 63) // 64 * 4 * ((height + 63) // 64 * 4)",
        1 << 32,
        0,
        float32="it is compared with powers of two, which rounding does not bring it across",
    ),
)
"""Every place."""
