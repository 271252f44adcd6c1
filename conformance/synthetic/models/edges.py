"""Random models at the edges of the proof: bounds of SPEC 9.2 and ranges of SPEC 10.2 are pressed, many at once.

A model is a function of seed and number. Some of its outputs have accumulators that can reach 2^31 - 1, biases near
2^31, norms up to 2^52 - 1, shifts at either end, products that lie a hair below a tie; the others keep numbers in
motion, so that what comes before is still seen behind them. All models pass verification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TypeVar

import numpy as np

from refcodec.model.config import Config, config_from
from refcodec.model.layer_table import Op, layer_table
from refcodec.model.procedural import draws
from refcodec.model.proof import GDN_MAX, INT16_MAX, INT32_MAX, Range, accumulator_range
from refcodec.model.tables import load_tables

from .attentions import near_tie
from .wires import blank, z_arrays

_T = TypeVar("_T")

LIVELY, FULL, BIASED, TIED = range(4)
"""Kinds of outputs of a convolution: results of about the clamp's size; accumulators that reach 2^31 - 1; a bias of
about 2^31 and weights of 0 and 1; accumulators around multiples of 2^shift."""

LOGIT_SHIFTS = (30, 30, 30, 29, 28, 27, 26, 24, 22, 16, 8)
"""Shifts of local attentions whose products lie near ties."""


class Numbers:
    """Choices of one model by name (SPEC B.3)."""

    def __init__(self, seed: int, number: int) -> None:
        self._seed, self._prefix = seed, f"edges/{number}/"  # a seed and the first byte are added (SPEC B.3)

    def many(self, name: str, count: int, low: int | np.ndarray, choices: int | np.ndarray) -> np.ndarray:
        """Numbers from low..low + choices - 1.

        Parameters
        ----------
        name : str
            Of the stream of numbers.
        count : int
        low, choices : int or np.ndarray int64
            Scalars or [count]. Of more than 2^16 choices, only 2^16 different ones are taken.

        Returns
        -------
        np.ndarray [count], int64
        """
        return draws(self._seed, self._prefix + name, count, low, choices)

    def one(self, name: str, low: int, choices: int) -> int:
        """A number from low..low + choices - 1.

        Parameters
        ----------
        name : str
            Of the stream of numbers.
        low, choices : int

        Returns
        -------
        int
        """
        return int(self.many(name, 1, low, choices)[0])

    def of(self, name: str, options: Sequence[_T]) -> _T:
        """One of some options."""
        return options[self.one(name, 0, len(options))]

    def percent(self, name: str, share: int) -> bool:
        """True in ``share`` of 100 models."""
        return self.one(name, 0, 100) < share


def edge_config(numbers: Numbers) -> Config:
    """A small configuration: up to three slices of up to eight channels, or one of 64, whose second normalisation is
    over 128 channels; heads of one and more channels.
    """
    ch, slices = numbers.of("ch", (2, 4, 4, 6, 8)), numbers.of("slices", (1, 2, 2, 2, 3))
    if numbers.percent("wide", 4):
        ch, slices = 64, 1

    def widths(name: str, count: int) -> list[int]:
        return [2 * int(n) for n in numbers.many(name, count, 1, 3)]

    heads = [n for n in range(1, min(ch // 2, 8) + 1) if ch % n == 0]
    inter = [n for n in range(1, 3 * ch) if all(ch * i % max(1, ch * i // n) == 0 for i in range(1, slices))]
    return config_from(
        {
            "N": numbers.of("N", ([2, 2, 2], [2, 4, 2], [4, 2, 2])),
            "M": ch * slices,
            "slices": slices,
            "hyper": numbers.of("hyper", (2, 4)),
            "hs": widths("hs", 2),
            "chan": widths("chan", 2),
            "ent": widths("ent", 3),
            "lrp": [] if numbers.percent("lrp/old", 15) else widths("lrp", 2),
            "local_heads": numbers.of("local heads", heads),
            "intra_heads": numbers.of("intra heads", heads),
            "inter_head_width": numbers.of("inter", inter),
            "qualities": numbers.of("qualities", (1, 1, 3)),
            "window": 5,
            "old_synthesis": numbers.percent("old synthesis", 25),
        }
    )


@dataclass(frozen=True)
class _Tensors:
    """Known facts about the tensors so far: channels and range by name."""

    widths: dict[str, int]
    ranges: dict[str, Range]

    def groups(self, op: Op) -> list[tuple[int, Range]]:
        """Inputs of a convolution, as ``accumulator_range`` takes them."""
        if op.depthwise:
            return [(1, self.ranges[op.inputs[0]])]
        return [(self.widths[name], self.ranges[name]) for name in op.inputs]

    def most(self, op: Op) -> int:
        """The greatest magnitude of its inputs."""
        return max(abs(v) for name in op.inputs for v in self.ranges[name])


def _format(numbers: Numbers, op: Op, near_tie: bool) -> tuple[int, int]:
    """(SPEC 10.2-20, 10.2-21) Fraction bits and clamp of a tensor: the widest clamp, or one of any number of bits.

    A normalisation over 128 channels reads less than 32767 (SPEC 9.2-4).
    """
    tabled = op.gelu or op.tanh
    frac, bits, wide, rest = numbers.many(f"{op.name}/format", 4, 0, 1 << 16).tolist()
    frac = 4 + frac % 9 if tabled else frac % 16
    if op.kind == "norm":
        return 10, INT16_MAX
    if op.wide:
        return frac, 0
    most = min(INT16_MAX, isqrt((GDN_MAX - 1) // (4 * op.channels**3))) if op.name.endswith("/proj") else INT16_MAX
    if wide % 100 < 50 or near_tie:
        return frac, most
    return frac, min(most, (1 << 2 + bits % 14) + rest % (1 << 2 + bits % 14))


def _conv(numbers: Numbers, op: Op, limit: int, frac: int, known: _Tensors) -> dict[str, np.ndarray]:
    """(SPEC 9.2-2) Outputs of the four kinds; biases fill what the bound leaves, or a part of it."""
    groups = known.groups(op)
    taps, shape = op.kernel**2, (op.channels, op.kernel, op.kernel, 1 if op.depthwise else op.in_channels)
    each = taps * sum(n * max(abs(v) for v in ends) for n, ends in groups)
    usual = taps * sum(n * min(max(abs(v) for v in ends), 2048) ** 2 for n, ends in groups)
    kinds = np.searchsorted([65, 80, 92], numbers.many(f"{op.name}/kind", op.channels, 0, 100), side="right").tolist()
    choices = numbers.many(f"{op.name}/choices", 6 * op.channels, 0, 1 << 16).reshape(-1, 6).tolist()
    weight = numbers.many(f"{op.name}/weight", int(np.prod(shape)), -INT16_MAX, 2 * INT16_MAX + 1).reshape(shape)
    constants, deviations = np.zeros((op.channels, 3), np.int64), []
    branch = known.ranges[op.add] if op.add else (0, 0)
    for n, (kind, (size, shift, add, _, near, _)) in enumerate(zip(kinds, choices, strict=True)):
        room = INT32_MAX
        if op.add:
            most = (room // (2 * max(map(abs, branch)))).bit_length() - 1  # half of the room at most
            constants[n, 2] = min(30, most if add % 4 == 0 else add % (most + 1))
            room -= max(map(abs, branch)) << int(constants[n, 2])
        largest = max(1, min(INT16_MAX, room // each))
        if kind == FULL:
            weight[n] = np.where(weight[n] < 0, -largest, largest)
        else:
            largest = max(1, largest >> (2 + size % 4)) if kind == LIVELY else 1
            weight[n] = weight[n] * largest // INT16_MAX if kind == LIVELY else weight[n] > 0
        deviation = max(1, isqrt(largest**2 * usual // 3))
        aim = (40000 if n < op.channels // 2 else 20000) if op.wide else 2 << frac if op.gelu else limit
        fit = min(30, max(0, (deviation // max(1, aim)).bit_length() - 1))
        constants[n, 1] = fit if kind != BIASED and shift % 8 < 6 else (0, 30, 16 + shift % 15, shift % 31)[near % 4]
        deviations.append(deviation)
    low, high = (
        v + (end << constants[:, 2])
        for v, end in zip(accumulator_range(weight.astype(np.int16), groups), branch, strict=True)
    )
    leasts = (-INT32_MAX - np.minimum(low, 0)).tolist()  # what the bound leaves for the bias
    greatests = (INT32_MAX - np.maximum(high, 0)).tolist()
    for n, (kind, (*_, bias, near, end)) in enumerate(zip(kinds, choices, strict=True)):
        if kind in (FULL, BIASED):
            wanted = greatests[n] - near % 3 if end % 2 else leasts[n] + near % 3
        elif kind == TIED:
            wanted = (bias % 7 - 3 << int(constants[n, 1])) + near % 3 - 1
        else:
            wanted = (2 * deviations[n] * bias >> 16) - deviations[n]
        constants[n, 0] = min(max(wanted, leasts[n]), greatests[n])
    return {"weight": weight.astype(np.int16), "constants": constants.astype(np.int32)}


def _near_ties(numbers: Numbers, op: Op, shift: int, heads: int, arrays: Mapping[str, np.ndarray]) -> None:
    """(SPEC 5.8-4) Let products of queries and keys lie on both sides of 2^(shift-1) or its negative, at most some
    hundreds away.

    An input of the layer joins the key's second channel, which meets a query of 1.
    """
    ch, (query, key) = op.channels // 3, near_tie(shift, 0)
    d = ch // heads
    weight, constants = arrays["weight"], arrays["constants"]
    weight[: 2 * ch] = 0
    constants[: 2 * ch] = 0
    for head in range(heads):
        q, k = head * d, ch + head * d
        sign, scale, offset, source = numbers.many(f"{op.name}/tie/{head}", 4, 0, 1 << 16).tolist()
        sign, scale = 1 - 2 * (sign % 2), 1 + scale % 7
        constants[q : q + 2, 0] = query
        constants[k, 0] = sign * key[0]
        constants[k + 1, :2] = (sign * key[1] - offset % (1 << 12 - scale)) << scale, scale
        weight[k + 1, 0, 0, source % op.in_channels] = 1


def _gdn(numbers: Numbers, op: Op, x: int) -> dict[str, np.ndarray]:
    """(SPEC 9.2-3) Norms up to 2^52 - 1, around squares, and ordinary ones; the shift suits them or is at an end."""
    c, most = op.channels, GDN_MAX - 1
    gamma, beta = np.zeros((c, c), np.int64), np.ones(c, np.int64)
    drawn = numbers.many(f"{op.name}/gamma", c * c, 1, 1 << 16).reshape(c, c)
    choices = numbers.many(f"{op.name}/norm", 3 * c, 0, 1 << 16).reshape(c, 3).tolist()
    typical = 1
    for n, (kind, bits, rest) in enumerate(choices):
        if kind % 4 < 2:  # the bound itself, all of it or the part that gamma takes
            share = (most - 1) // (x * x)
            gamma[n] = drawn[n] * (share // c) >> 16
            beta[n] = most - x * x * int(gamma[n].sum()) if kind % 4 else 1
        elif kind % 4 == 2:
            root = min((1 << bits % 26) + rest % (1 << bits % 26) + 1, (1 << 26) - 1)
            beta[n] = max(1, root * root + rest % 3 - 1)
        else:
            share = ((1 << 20 + bits % 30) - 1) // (x * x * c)
            gamma[n] = drawn[n] * share >> 16
            beta[n] = 1 + rest
        typical = max(typical, isqrt(int(beta[n]) + (x // 2) ** 2 * int(gamma[n].sum())))
    fit, end = numbers.many(f"{op.name}/shift", 2, 0, 1 << 16).tolist()
    shift = min(36, typical.bit_length() - fit % 3) if end % 4 else (0, 36)[fit % 2]
    return {"gamma": gamma, "beta": beta, "constants": np.array([max(0, shift)], np.int32)}


def _bias(numbers: Numbers, op: Op) -> np.ndarray:
    """(SPEC 10.2-13) Position biases: ends of 32 bits less 0 to 16 octaves, both ends at once, or a few octaves."""
    kind, spread = numbers.many(f"{op.name}/bias/kind", 2, 0, 1 << 16).tolist()
    drawn = numbers.many(f"{op.name}/bias", 81 * op.heads, 0, 1 << (0, 2, 16, 17, 20)[spread % 5])
    signs = 1 - 2 * numbers.many(f"{op.name}/bias/signs", drawn.size, 0, 2)
    bias = (INT32_MAX - drawn, INT32_MAX - drawn, drawn - (1 << 31), signs * (INT32_MAX - drawn), signs * drawn)[
        kind % 5
    ]
    return bias.astype(np.int32).reshape(81, op.heads)


def _other(numbers: Numbers, op: Op, steps: int, logit_shift: int) -> dict[str, np.ndarray]:
    """(SPEC 10.2-8 to 10.2-15) Shifts that suit, at their ends, or anywhere between; gains at both ends."""
    a, b, c, end = numbers.many(f"{op.name}/shifts", 4, 0, 1 << 16).tolist()
    if op.kind == "sum":
        left = (15, 15) if a % 4 == 0 else (a // 4 % 16, b % 16)
        return {"constants": np.array([*left, min(15, max(left) + c % 2) if end % 4 else c % 16], np.int32)}
    if op.kind == "rescale":
        return {"constants": np.array([a % 7 if end % 4 else a % 16], np.int32)}
    if op.kind == "norm":
        epsilon = (1, (1 << 50) - 1, (1 << a % 50) + b % 3, 1 + (b << a % 34))[end % 4]
        return {"constants": np.array([min(epsilon, (1 << 50) - 1)], np.int64)}
    if op.kind == "gain":
        multiplier = (1 << 14) + numbers.many(f"{op.name}/multiplier", steps * op.channels, 0, 1 << 14)
        multiplier[::5], multiplier[1::5] = (1 << 15) - 1, 1 << 14
        drawn = numbers.many(f"{op.name}/shift", steps * op.channels, 0, 1 << 16)
        shift = np.where(drawn % 4, 14 + drawn // 4 % 2, 1 + drawn // 4 % 30)
        return {
            name: array.astype(np.int32).reshape(steps, op.channels)
            for name, array in (("multiplier", multiplier), ("shift", shift))
        }
    if op.kind == "local_attention":
        return {"bias": _bias(numbers, op), "constants": np.array([logit_shift], np.int32)}
    shifts = [(0, 16)[v % 2] if end % 4 == 0 else 4 + v % 11 for v in (a, b)]
    return {"constants": np.array([*shifts, (0, 12)[c % 2] if c % 3 else c % 13], np.int32)}


def edge_content(seed: int, number: int) -> dict[str, np.ndarray]:
    """(SPEC 10.2) The arrays of a model.

    Parameters
    ----------
    seed : int
        0..2^64 - 1.
    number : int
        Of the model among those of the seed.
    """
    numbers = Numbers(seed, number)
    config = edge_config(numbers)
    ops, tables, content = layer_table(config), load_tables(), blank(config)
    z = numbers.many("z", 4 * config.hyper, 0, 1 << 16).reshape(-1, 4).tolist()
    content.update(
        z_arrays([(-(first % 9), [0, 1 + a // 4, 20000 + b // 4, 40000 + c // 4, 65536]) for first, a, b, c in z])
    )
    content["z/medians"][::2] = numbers.of("medians", (0, 17, INT16_MAX, -INT16_MAX))
    known = _Tensors(
        {"x": 3, "hyper_means": config.M, "z_hat": config.hyper, "y_hat": config.M},
        {"x": (0, 255), "hyper_means": (0, 0)},
    )
    for name in ("z_hat", "y_hat", *(f"y_hat/{i}" for i in range(config.slices))):
        known.widths.setdefault(name, config.ch)
        known.ranges[name] = -INT16_MAX, INT16_MAX
    logit_shift, near_tie = 0, False
    for n, op in enumerate(ops):
        if op.name.endswith("/norm1"):  # the shift decides what qkv gives, which comes first
            near_tie = numbers.percent(f"{op.name}/tie", 60) and config.ch > config.local_heads
            logit_shift = numbers.of(op.name, LOGIT_SHIFTS if near_tie else (0, 30, *range(2, 30)))
        local = op.name.endswith("/qkv") or op.kind == "local_attention"
        frac, limit = _format(numbers, op, near_tie and local)
        content["formats"][n] = frac, limit
        if op.kind == "conv":
            arrays = _conv(numbers, op, limit, frac, known)
            if near_tie and op.name.endswith("/qkv"):
                _near_ties(numbers, op, logit_shift, config.local_heads, arrays)
        elif op.kind in ("gdn", "igdn"):
            arrays = _gdn(numbers, op, known.most(op))
        else:
            arrays = _other(numbers, op, config.steps, logit_shift)
        content.update({f"layers/{op.name}/{name}": array for name, array in arrays.items()})
        known.widths[op.name] = op.channels // 4 if op.shuffle else op.channels
        least = min(limit, int(tables.gelu[frac].max())) if op.gelu else limit
        known.ranges[op.name] = (-INT16_MAX, INT16_MAX) if op.name == "y" else (-least, limit)
        if op.name == "h_s/4":
            known.ranges["hyper_means"] = -limit, limit
    return content
