"""Unit cases of roundings, convolutions, GELU, sums, gains, GDN and layer normalisation (SPEC 5.2 to 5.6)."""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

import numpy as np

from refcodec.agreement.operations import numbers

from ..unit_writer import Input, annex_a, case, unit

MAX, INT32_MAX = 32767, 2**31 - 1
Cases = Iterator[tuple[str, Input]]

OPERATION = {"kernel": 1, "stride": 1, "shuffle": False, "depthwise": False, "gelu": False, "wide": False}


@unit(
    "rounding-shift",
    "round_shift",
    ("5.2-2", "3-2", "3-4"),
    "Halves are rounded away from zero or to even, negative numbers are shifted towards zero, or 2^0 adds something.",
)
def rounding_shift() -> Cases:
    """Ties and their neighbours of both signs at every shift 0..48, and numbers of 60 bits."""
    for s in range(49):
        values = [k * (1 << s) + ((1 << s) >> 1) + d for k in (-2, -1, 0, 1) for d in (-1, 0, 1)]
        for a in sorted({*values, 2**60, 1 - 2**60} if s % 16 == 0 else {*values}):
            yield f"{a} by {s}", {"a": a, "s": s}


@unit(
    "rounding-quotient",
    "round_quotient",
    ("5.2-3", "3-3"),
    "A division truncates towards zero instead of flooring, or half of an odd divisor is rounded up.",
)
def rounding_quotient() -> Cases:
    """Every dividend around zero for small divisors, odd and even, and quotients of 55 bits."""
    for b in (1, 2, 3, 4, 5, 255, 256):
        for a in sorted({*range(-3 * min(b, 5) - 1, 3 * min(b, 5) + 2), -b // 2, b // 2, -b, b, -(b // 2) - 1}):
            yield f"{a} by {b}", {"a": a, "b": b}
    for a, b in ((2**55, 2**26 - 1), (-(2**55), 2**26 - 1), (-(2**55) + 1, 2**26), (2**62, 2**47), (-(2**62), 2**47)):
        yield f"{a} by {b}", {"a": a, "b": b}


@unit("rounding-clamp", "clamp", ("5.2-1",), "The lower end is -limit - 1, as of a two's complement type.")
def rounding_clamp() -> Cases:
    """Numbers at, inside and outside both ends of clamps from 1 to 32767."""
    for limit in (1, 2, 100, MAX):
        near = {limit - 1, limit, limit + 1, limit + 2, 2**31 - 1}
        for v in sorted({0, *near, *(-v for v in near)}):
            yield f"{v} to {limit}", {"v": v, "limit": limit}


def _layer(
    name: str, outputs: int, kernel: int, inputs: int, *, limit_in: int = 4095, add: bool = False, **more: Any
) -> Input:
    """A layer of random numbers whose accumulators are proved (SPEC 9.2-2): products below 2^30, bias below 2^28."""
    reach = min(MAX, 2**30 // (kernel * kernel * inputs * limit_in))
    weight = numbers(f"{name}/weight", -reach, reach, outputs, kernel, kernel, inputs)
    columns = [
        numbers(f"{name}/bias", -(2**28), 2**28, outputs),
        numbers(f"{name}/shift", 14, 18, outputs),
        numbers(f"{name}/add_shift", 0, 14, outputs) if add else np.zeros(outputs, np.int64),
    ]
    return {"weight": weight, "constants": np.stack(columns, axis=1), "frac": 8, "limit": 4095, **more}


def _bounds(outputs: int, kernel: int, inputs: int, largest: int, **more: Any) -> tuple[Input, np.ndarray]:
    """A layer and an input that bring the accumulators of the first two outputs to 2^31 - 1 and to 1 - 2^31."""
    taps = kernel * kernel * inputs
    reach = min(MAX, (2**31 - 1) // (taps * largest))
    pattern = np.where(numbers(f"bounds/{kernel}/{inputs}", 0, 1, kernel, kernel, inputs) > 0, 1, -1)
    weight = np.stack([pattern * reach * (1 if n % 2 == 0 else -1) for n in range(outputs)])
    rest = 2**31 - 1 - reach * taps * largest
    constants = [[rest if n % 2 == 0 else -rest, 0 if n < 2 else 31 - n, 0] for n in range(outputs)]
    return {"weight": weight, "constants": constants, "frac": 8, "limit": MAX, **more}, pattern * largest


def _convolutions(kernel: int, inputs: int, **op: Any) -> Cases:
    """Random maps of several sizes, and accumulators at both ends of 32 bits."""
    operation = {**OPERATION, "kernel": kernel, **op}
    name = f"conv{kernel}{'s' if op else ''}"
    for height, width in ((1, 1), (1, 4), (4, 1), (3, 5), (4, 6)):
        yield case(
            f"{height}x{width}",
            x=numbers(f"{name}/x{height}{width}", -4095, 4095, height, width, inputs),
            op=operation,
            layer=_layer(name, 5, kernel, inputs),
        )
    layer, x = _bounds(4, kernel, inputs, 4095)
    yield "accumulators of 2^31 - 1", {"x": x, "op": operation, "layer": layer}
    yield "accumulators of 1 - 2^31", {"x": -x, "op": operation, "layer": layer}


CONV = ("5.3-1", "5.3-3", "5.3-4", "9.2-2")
CONV_SUGGESTS = (
    "Windows are flipped or begin at a wrong corner, padding is not zero, the shift is not a floor, or "
    "sums leave 32 bits in a type that saturates."
)


@unit("conv-1x1", "convolution", (*CONV, "10.2-3", "10.2-4"), CONV_SUGGESTS)
def conv_1x1() -> Cases:
    """Linear layers: random maps, accumulators of 2^31 - 1 and 1 - 2^31, weights and inputs of greatest magnitude, and
    floors of negative numbers at every shift 0..30 under narrow and wide clamps.
    """
    yield from _convolutions(1, 4)
    ends = {"weight": [[[[MAX, MAX]]], [[[-MAX, -MAX]]]], "constants": [[0, 0, 0], [0, 30, 0]], "frac": 8, "limit": MAX}
    for v in (-MAX, MAX):
        yield f"weights and inputs of {v}", {"x": [[[v, v]]], "op": OPERATION, "layer": ends}
    shifts = [
        (bias, s)
        for s in range(31)
        for bias in sorted(
            {-1 << s, (-1 << s) - 1, (-1 << s) + 1, -1, 0, (1 << s) - 1, 1 << s, -(1 << s >> 1), 1 << s >> 1}
        )
        if abs(bias) <= INT32_MAX
    ]
    for limit in (1, 2, MAX):
        layer = {
            "weight": np.zeros((len(shifts), 1, 1, 2), np.int64),
            "constants": [[b, s, 0] for b, s in shifts],
            "frac": 0,
            "limit": limit,
        }
        yield f"every shift, clamp {limit}", {"x": [[[0, 0]]], "op": OPERATION, "layer": layer}


@unit("conv-3x3", "convolution", CONV, CONV_SUGGESTS)
def conv_3x3() -> Cases:
    """Windows of 3x3: maps smaller and larger than the window, accumulators at both ends of 32 bits, samples."""
    yield from _convolutions(3, 4)
    yield case(
        "samples",
        x=numbers("samples", 0, 255, 4, 4, 3),
        op={**OPERATION, "kernel": 3},
        layer=_layer("samples", 3, 3, 3, limit_in=255),
    )


@unit("conv-5x5", "convolution", CONV, CONV_SUGGESTS)
def conv_5x5() -> Cases:
    """Windows of 5x5: maps smaller and larger than the window, accumulators at both ends of 32 bits."""
    yield from _convolutions(5, 2)


@unit(
    "conv-stride-2",
    "convolution",
    ("5.3-2", *CONV),
    "Odd rows and columns are kept instead of even ones, or a map of odd size loses its last row or column.",
)
def conv_stride_2() -> Cases:
    """A stride of 2 with windows of 3x3 and 1x1: maps of even and odd size."""
    yield from _convolutions(3, 4, stride=2)
    yield case(
        "1x1 window",
        x=numbers("stride/x", -4095, 4095, 4, 5, 2),
        op={**OPERATION, "stride": 2},
        layer=_layer("stride", 3, 1, 2),
    )


@unit(
    "shuffle",
    "convolution",
    ("5.3-9", "5.3-3"),
    "The four outputs of a position go to the wrong places, or all first ones stand before all second ones.",
)
def shuffle() -> Cases:
    """Convolutions whose outputs are shuffled: a distinct number in every output, and random maps."""
    operation = {**OPERATION, "shuffle": True}
    distinct = {
        "weight": np.zeros((12, 1, 1, 2), np.int64),
        "constants": [[100 + n, 0, 0] for n in range(12)],
        "frac": 8,
        "limit": MAX,
    }
    yield "numbers of outputs", {"x": np.zeros((2, 2, 2), np.int64), "op": operation, "layer": distinct}
    yield case(
        "random",
        x=numbers("shuffle/x", -4095, 4095, 2, 3, 4),
        op={**operation, "kernel": 3},
        layer=_layer("shuffle", 8, 3, 4),
    )


@unit("shuffle-alone", "pixel_shuffle", ("5.3-9", "3-1"), "Rows and columns of the finer map are exchanged.")
def shuffle_alone() -> Cases:
    """The rearrangement alone: numbers that tell where they come from."""
    for height, width, channels in ((1, 1, 1), (1, 2, 2), (2, 1, 3), (3, 2, 2)):
        yield case(
            f"{height}x{width}x{4 * channels}",
            x=np.arange(height * width * 4 * channels).reshape(height, width, 4 * channels),
        )


@unit(
    "branch",
    "convolution",
    ("5.3-5", "5.3-10", "5.3-3"),
    "The branch is added after the shift, its own shift is left out or taken from another output, or with a shuffle "
    "it is not brought into the order of the outputs.",
)
def branch() -> Cases:
    """A second summand in the accumulator: shifts 0..30 by output, strides, shuffles, sums at both ends of 32 bits."""
    operation = {**OPERATION, "kernel": 3}
    x = numbers("branch/x", -4095, 4095, 3, 4, 2)
    for name, op, shape in (
        ("plain", operation, (3, 4, 4)),
        ("stride", {**operation, "stride": 2}, (2, 2, 4)),
        ("shuffle", {**operation, "shuffle": True}, (6, 8, 1)),
    ):
        yield case(
            name,
            x=x,
            op=op,
            layer=_layer("branch", 4, 3, 2, add=True),
            branch=numbers(f"branch/{name}", -4095, 4095, *shape),
        )
    for add_shift in range(31):
        v = min(MAX, INT32_MAX >> add_shift)
        rest = INT32_MAX - (v << add_shift)
        layer = {
            "weight": np.zeros((2, 1, 1, 2), np.int64),
            "frac": 8,
            "limit": MAX,
            "constants": [[rest, 16, add_shift], [-rest, 16, add_shift]],
        }
        yield f"shift {add_shift}", {"x": [[[0, 0]]], "op": OPERATION, "layer": layer, "branch": [[[v, -v]]]}
    wide = {"weight": [[[[1, 0]]]], "constants": [[0, 0, 0]], "frac": 8, "limit": 32000}
    for v in (-MAX, MAX):
        yield f"saturation at {v}", {"x": [[[v, 0]]], "op": OPERATION, "layer": wide, "branch": [[[v]]]}


@unit("depthwise", "convolution", ("5.3-7", *CONV), "A filter reads another channel, or all of them.")
def depthwise() -> Cases:
    """One 3x3 filter a channel, with and without GELU, and accumulators at both ends of 32 bits."""
    operation = {**OPERATION, "kernel": 3, "depthwise": True}
    for height, width in ((1, 1), (1, 3), (4, 2), (3, 4)):
        for gelu in (False, True):
            yield case(
                f"{height}x{width}{' with GELU' if gelu else ''}",
                x=numbers(f"depthwise/{height}{width}", -4095, 4095, height, width, 5),
                op={**operation, "gelu": gelu},
                layer=_layer("depthwise", 5, 3, 1, limit_in=4095),
            )
    layer, x = _bounds(3, 3, 1, MAX)
    yield "accumulators at both ends", {"x": np.repeat(x, 3, axis=2), "op": operation, "layer": layer}


@unit("wide", "convolution", ("5.3-8", "5.1-1"), "Scales and means of wide layers are clamped or cut to 16 bits.")
def wide() -> Cases:
    """Layers without a clamp: results up to 2^31 - 1 and down to 1 - 2^31."""
    operation = {**OPERATION, "wide": True}
    layer = _layer("wide", 6, 1, 4)
    yield case(
        "random",
        x=numbers("wide/x", -4095, 4095, 2, 3, 4),
        op=operation,
        layer={**layer, "constants": [[b, n % 3, 0] for n, (b, _, _) in enumerate(layer["constants"])], "limit": 0},
    )
    bound, x = _bounds(2, 1, 2, MAX, limit=0)
    for name, sign in (("greatest", 1), ("least", -1)):
        yield name, {"x": sign * x, "op": operation, "layer": bound}


def _edges(table: list[int]) -> list[int]:
    """Arguments at which a table turns: its ends, its extreme, and beyond, of both signs."""
    last, top = len(table) - 1, table.index(max(table))
    near = {
        *range(4),
        top - 1,
        top,
        top + 1,
        last // 2,
        *range(last - 2, last + 4),
        MAX - 1,
        MAX,
        MAX + 1,
        2**20,
        2**31 - 1,
    }
    return sorted({s * n for n in near for s in (-1, 1)})


@unit(
    "gelu-table", "gelu", ("5.3-12", "A.2-2"), "The table is read beyond its end, or for negative arguments mirrored."
)
def gelu_table() -> Cases:
    """The table of every format at its ends, at its greatest entry and far beyond, of both signs."""
    for frac in range(4, 13):
        for v in _edges(annex_a()[f"gelu_q{frac}"]):
            yield f"q{frac} of {v}", {"v": v, "table": {"table": f"gelu_q{frac}"}}


@unit(
    "gelu",
    "convolution",
    ("5.3-6", "5.3-11", "5.1-3"),
    "GELU is applied behind the clamp, in another format than the layer's frac, or as a formula.",
)
def gelu() -> Cases:
    """GELU behind a convolution in every format: arguments around the table's end, and clamps inside GELU's range."""
    operation = {**OPERATION, "gelu": True}
    for frac in range(4, 13):
        table = annex_a()[f"gelu_q{frac}"]
        near = [v for v in _edges(table) if abs(v) <= MAX]
        for limit in (5, len(table), MAX):
            layer = {"weight": [[[[1, 0]]]], "constants": [[0, 0, 0]], "frac": frac, "limit": limit}
            yield f"q{frac}, clamp {limit}", {"x": [[[v, 0] for v in near]], "op": operation, "layer": layer}
    yield case(
        "3x3",
        x=numbers("gelu/x", -4095, 4095, 3, 3, 2),
        op={**operation, "kernel": 3},
        layer=_layer("gelu", 4, 3, 2, frac=7),
    )


@unit(
    "half-tanh",
    "half_tanh",
    ("5.3-13", "5.3-11", "A.3-2"),
    "The sign is applied before the table, or larger arguments do not take the last entry, 32.",
)
def half_tanh() -> Cases:
    """The table of every format at its ends and far beyond, of both signs."""
    for frac in range(4, 13):
        for v in _edges(annex_a()[f"half_tanh_q{frac}"]):
            yield f"q{frac} of {v}", {"v": v, "table": {"table": f"half_tanh_q{frac}"}}


@unit(
    "sum",
    "residual_sum",
    ("5.4-1", "5.2-2", "9.2-7", "10.2-8"),
    "Shifts belong to the other summand, each summand is rounded by itself, or the sum leaves 32 bits.",
)
def residual_sum() -> Cases:
    """Shifts 0..15 of either summand and of the sum, ties of both signs, saturation."""
    a, b = (numbers(f"sum/{part}", -4095, 4095, 2, 3, 3) for part in "ab")
    for shifts in ((0, 0, 0), (3, 0, 2), (0, 2, 5), (15, 15, 15), (15, 0, 15), (0, 15, 12), (1, 1, 1)):
        yield f"shifts {shifts}", {"a": a, "b": b, "layer": {"constants": shifts, "limit": 4095}}
    for shift in range(16):
        half = (1 << shift) >> 1
        values = [[(k << shift) + half + d for d in (-1, 0, 1)] for k in (-2, -1, 0, 1) if (2 << shift) <= MAX]
        if values:
            yield case(
                f"ties of shift {shift}",
                a=[values],
                b=np.zeros((1, len(values), 3), np.int64),
                layer={"constants": [0, 0, shift], "limit": MAX},
            )
    for v in (-MAX, MAX):
        yield f"ends {v}", {"a": [[[v]]], "b": [[[v]]], "layer": {"constants": [15, 14, 1], "limit": MAX}}


@unit(
    "gain",
    "gain",
    ("5.4-2", "6.9-4", "10.2-9", "10.2-10"),
    "Multiplier or shift of another step or channel is taken, or products leave 31 bits.",
)
def gain() -> Cases:
    """Multipliers at both ends, shifts 1..30, several steps and channels, ties of both signs."""
    layer = {
        "multiplier": numbers("gain/multiplier", 2**14, 2**15 - 1, 3, 4),
        "limit": 30000,
        "shift": numbers("gain/shift", 13, 17, 3, 4),
    }
    for step in range(3):
        yield f"step {step}", {"x": numbers("gain/x", -MAX, MAX, 2, 2, 4), "layer": layer, "step": step}
    for shift in range(1, 31):
        ends = {"multiplier": [[2**14, 2**15 - 1]], "shift": [[shift, shift]], "limit": MAX}
        values = sorted(
            {
                s * v
                for v in (0, 1, 2, 3, 1 << max(0, shift - 15), 3 << max(0, shift - 15), MAX - 1, MAX)
                for s in (-1, 1)
                if v <= MAX
            }
        )
        yield f"shift {shift}", {"x": [[[v, v] for v in values]], "layer": ends, "step": 0}


@unit(
    "rescale", "rescale", ("5.4-3", "10.2-11"), "Halves of negative numbers are rounded down, or the clamp is missing."
)
def rescale() -> Cases:
    """Shifts 0..15: ties of both signs and their neighbours, saturation."""
    for shift in range(16):
        half = (1 << shift) >> 1
        values = sorted(
            {v for k in (-3, -2, -1, 0, 1, 2) for d in (-1, 0, 1) for v in [(k << shift) + half + d] if abs(v) <= MAX}
            | {-MAX, MAX}
        )
        for limit in (2, MAX):
            yield case(
                f"shift {shift}, clamp {limit}", x=[[[v] for v in values]], layer={"constants": [shift], "limit": limit}
            )


def _norms(inverse: bool) -> Cases:
    """Of GDN and IGDN: random, roots at perfect squares, ties, the greatest norms."""
    for channels in (1, 2, 5):
        layer = {
            "gamma": numbers(f"gdn/gamma{channels}", 0, 2**23 // channels, channels, channels),
            "beta": numbers(f"gdn/beta{channels}", 1, 2**44, channels),
            "constants": [22],
            "limit": 8191,
        }
        yield case(
            f"random, {channels} channels",
            x=numbers(f"gdn/x{channels}", -8191, 8191, 2, 3, channels),
            layer=layer,
            inverse=inverse,
        )
    squares = [n for r in (1, 2, 3, 1000, 2**20 + 1, 2**26 - 1) for n in (r * r - 1, r * r, r * r + 1) if n >= 1]
    beta = [*squares, 2**52 - 1]
    alone = {"gamma": np.zeros((len(beta), len(beta)), np.int64), "beta": beta, "limit": MAX}
    for shift in (0, 20, 36):
        yield case(
            f"roots, shift {shift}",
            x=[[[v] * len(beta) for v in (-MAX, -1, 0, 1, MAX)]],
            layer={**alone, "constants": [shift]},
            inverse=inverse,
        )
    for root in (2, 3, 4, 7):
        x = [[[v] for v in range(-9, 10)]]
        for shift in (0, 1, 2):
            yield case(
                f"ties, root {root}, shift {shift}",
                x=x,
                layer={"gamma": [[0]], "beta": [root * root], "constants": [shift], "limit": 15},
                inverse=inverse,
            )
    gamma = (2**52 - 2) // (2 * MAX * MAX)
    largest = {"gamma": [[gamma, gamma], [gamma, gamma]], "beta": [2**52 - 1 - 2 * gamma * MAX * MAX, 1], "limit": MAX}
    for shift in (0, 25, 36):
        yield case(
            f"greatest norm, shift {shift}",
            x=[[[MAX, -MAX], [-MAX, 0], [1, MAX]]],
            layer={**largest, "constants": [shift]},
            inverse=inverse,
        )


@unit(
    "gdn",
    "gdn",
    ("5.5-2", "5.5-1", "9.2-3", "10.2-5", "10.2-6", "10.2-7"),
    "The floor of the root or of the quotient is another: roots in floating point, truncation of negative quotients, "
    "gamma's rows and columns exchanged.",
)
def gdn() -> Cases:
    """Division by the norm: random maps, norms one below, at and above perfect squares, ties, norms up to 2^52 - 1."""
    yield from _norms(inverse=False)


@unit(
    "gdn-tall",
    "gdn",
    ("5.5-2", "5.5-1"),
    "Rows are counted by columns: of a map that is higher than wide some are left out.",
)
def gdn_tall() -> Cases:
    """Division by the norm in maps of more rows than columns."""
    for height, width in ((6, 2), (33, 1)):
        layer = {"gamma": [[5, 1], [0, 9]], "beta": [7, 2**30], "constants": [20], "limit": MAX}
        x = numbers(f"gdn/tall{height}", -999, 999, height, width, 2)
        yield case(f"{width}x{height}", x=x, layer=layer, inverse=False)


@unit(
    "igdn",
    "gdn",
    ("5.5-3", "5.5-1", "9.2-3", "10.2-5", "10.2-6", "10.2-7"),
    "The floor of the root is another, the product leaves 41 bits, or a shift of 36 is rounded wrongly.",
)
def igdn() -> Cases:
    """Multiplication by the norm: the cases of GDN, inverted."""
    yield from _norms(inverse=True)


@unit(
    "norm",
    "layer_norm",
    ("5.6-1", "5.6-2", "5.6-3", "9.2-4", "10.2-12"),
    "Negative quotients are truncated instead of floored, the variance is lifted once too often or too seldom, or "
    "its root is not the floor.",
)
def norm() -> Cases:
    """Random positions with negative quotients that are no whole numbers, constant ones, one channel alone, the
    greatest variances of up to 128 channels, and variances around every power of two.
    """
    for channels in (1, 2, 3, 18):
        for epsilon in sorted({1, 12345, channels**3}):
            yield case(
                f"random, {channels} channels, epsilon {epsilon}",
                x=numbers(f"norm/x{channels}", -4095, 4095, 2, 3, channels),
                layer={"constants": [epsilon], "limit": MAX},
            )
    yield case(
        "small numbers",
        x=[[[-1, 0, 0], [1, 0, 0], [-2, 1, 0], [5, -3, -4], [7, 7, 6]]],
        layer={"constants": [1], "limit": MAX},
    )
    for channels in (2, 12, 128):
        x = 23170 if channels == 128 else MAX
        rows = [[v] * channels for v in (0, 1, -1, x, -x)]
        rows += [
            [x, *[-x] * (channels - 1)],
            [x] * (channels // 2) + [-x] * (channels // 2),
            [1, *[0] * (channels - 1)],
            [-1, *[0] * (channels - 1)],
        ]
        for epsilon in (1, 2**50 - 1):
            yield case(
                f"ends of {channels} channels, epsilon {epsilon}",
                x=[rows],
                layer={"constants": [epsilon], "limit": MAX},
            )
    for bits in range(50):
        epsilons = sorted({max(1, 2**bits - 1), 2**bits, min(2**bits + 1, 2**50 - 1)})
        for epsilon in epsilons:
            yield case(
                f"variance near 2^{bits}, epsilon {epsilon}",
                x=[[[min(isqrt(2**bits), MAX), 0]]],
                layer={"constants": [epsilon], "limit": MAX},
            )
