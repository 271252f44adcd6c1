"""Models built from a seed (SPEC B.3): full shape, proved, the same everywhere, without a file.

They compress nothing well; they let anyone test a decoder of any configuration. All rules are exact integers. Only
the numbers' generator counts modulo 2^64, in uint64 arrays that meet no other type; it makes models, decodes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError, UsageError
from ..io.files import check_target
from .config import PROFILES, Y_FRAC, Config
from .file import write_model
from .integer_model import Model, build_model, config_content
from .layer_table import Op, layer_table
from .layers import NORM_FRAC
from .proof import INT16_MAX
from .tables import load_arrays

RMS = 1024
"""Deviation of most tensors, in their integers: clamps of four to eight deviations stay below 2^13 (SPEC B.3)."""

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_BLOCK = 1 << 15  # words mixed at a time: 256 KiB stay in the caches' reach


def mix(v: int) -> int:
    """(SPEC B.3) A bijection of 0..2^64 - 1 in which every bit depends on every bit."""
    for shift, factor in _MIX:
        v = (v ^ (v >> shift)) * factor & _WORD
    return v ^ (v >> 31)


def stream_key(seed: int, name: str) -> int:
    """(SPEC B.3) Key of the stream of numbers of a name."""
    key = seed
    for byte in name.encode("ascii"):
        key = mix((key + byte + 1) & _WORD)
    return key


def _halfwords(key: int, count: int) -> np.ndarray:
    """The first ``count`` 16-bit numbers of a stream, uint16: four to a mixture, the lowest bits first."""
    words = np.empty(-(-count // 4), np.uint64)
    for at in range(0, words.size, _BLOCK):
        v = np.arange(at + 1, min(at + _BLOCK, words.size) + 1, dtype=np.uint64)
        v *= np.uint64(_GOLDEN)
        v += np.uint64(key)
        for shift, factor in _MIX:
            v ^= v >> np.uint64(shift)
            v *= np.uint64(factor)
        v ^= v >> np.uint64(31)
        words[at : at + _BLOCK] = v
    return words.astype("<u8", copy=False).view("<u2")[:count]


def draws(seed: int, name: str, count: int, low: int | np.ndarray, choices: int | np.ndarray) -> NDArray[np.int64]:
    """(SPEC B.3) The first numbers of a stream: int64, each one of low..low + choices - 1.

    Parameters
    ----------
    seed : int
        0..2^64 - 1.
    name : str
        Name of the stream.
    count : int
        How many numbers.
    low, choices : int or np.ndarray int64
        Scalars or [count]; choices at most 2^32, so that the product stays below 2^48.

    Returns
    -------
    np.ndarray [count], int64
    """
    return ((_halfwords(stream_key(seed, name), count).astype(np.int64) * choices) >> 16) + low


@dataclass(frozen=True)
class Statistics:
    """(SPEC B.3) Format of a tensor, and the mean and deviation that the rules count on, in its integers.

    Attributes
    ----------
    frac, limit : int
    mean, rms : int
    target : int
        Deviation its convolution aims at; before GELU where it has one.
    choice : int
        The 16 bits by which sums and linear attentions choose their shifts.
    channels : int
    """

    frac: int
    limit: int
    mean: int = 0
    rms: int = RMS
    target: int = RMS
    choice: int = 0
    channels: int = 0


def _octave(config: Config, i: int, c: int) -> int:
    """(SPEC B.3) y of channel c of slice i has the deviation 64 * 2^octave, octave 0..5."""
    return _place(config, i, c, 0) // 16


def _place(config: Config, i: int, c: int, parity: int) -> int:
    """(SPEC B.3) Place 0..95 on the axis of scales, an eighth of an octave each."""
    return 48 * (2 * (c * config.slices + i) + parity) // config.M


_SUMS = ((0, 0, 0), (0, 1, 1), (1, 0, 1))
"""Shifts of a residual sum: equal weights, or one summand halved."""


def formats(config: Config, seed: int) -> dict[str, Statistics]:
    """(SPEC B.3) Format and statistics of every operation's result, of x and of hyper_means, by name."""
    ops = layer_table(config)
    choice = draws(seed, "formats", 2 * len(ops), 0, 1 << 16).reshape(-1, 2).tolist()  # all 16 bits of each
    seen = {"x": Statistics(0, 255, 128, 64, channels=3)}
    for op, (first, second) in zip(ops, choice, strict=True):
        channels = op.channels // 4 if op.shuffle else op.channels
        seen[op.name] = replace(_statistics(op, seen, first, second), channels=channels)
    seen["hyper_means"] = replace(seen["h_s/4"], channels=config.M)
    return seen


def _statistics(op: Op, seen: Mapping[str, Statistics], first: int, second: int) -> Statistics:
    frac, mean, rms, target = 10, 0, RMS, RMS
    if op.name == "y":
        return Statistics(Y_FRAC, INT16_MAX, rms=965)  # the root of the mean of (64 * 2^octave)^2
    if op.name == "z":
        return Statistics(Y_FRAC, INT16_MAX, rms=160)
    if op.kind == "norm":
        return Statistics(NORM_FRAC, INT16_MAX)
    if op.wide:
        return Statistics(Y_FRAC, 0)
    if op.gelu:
        frac, target = 4 + (first * 9 >> 16), 1843
        mean = isqrt(1000 * target**4 // (6283 * (4**frac + target**2)))
    elif op.name.startswith("lrp_"):
        frac = 4 + (first * 9 >> 16)
        rms = target = 3 * 2**frac // 4
    elif op.name == "g_s/7":
        frac, mean, rms, target = 0, 128, 64, 32
    elif op.add:
        mean, rms = seen[op.add].mean // 2, isqrt(target**2 + seen[op.add].rms ** 2 // 4)
    elif op.kind == "sum":
        a, b, shift = _SUMS[first * 3 >> 16]
        x, y = (seen[name] for name in op.inputs)
        mean = ((x.mean << a) + (y.mean << b)) >> shift
        rms = isqrt((x.rms << a) ** 2 + (y.rms << b) ** 2) >> shift
    elif op.kind == "rescale":
        frac, rms = Y_FRAC - 1, 482
    elif op.kind == "local_attention":
        rms = 512
    elif op.kind == "linear_attention":
        rms = 512 << (first * 2 >> 16)
    return Statistics(frac, 4 * rms + (second * 4 * rms >> 16), mean, rms, target, first)


@lru_cache(maxsize=1 << 16)
def _scale(target: int, energy: int, worst: int, branch: int, drop: int) -> tuple[int, int]:
    """(SPEC B.3) Shift and greatest weight of an output channel; ``drop`` takes bits from the greatest shift.

    Weights even over -A..A and n inputs of deviations r give a sum of deviation A sqrt(energy / 3), energy being the
    sum of r^2. The loop ends: clamps are below 8 r, 32 r after a norm, so at shift 0 the products stay below
    sqrt(3 n) target times that, and target < 2^17, n < 2^18, or target < 2^11, n <= 128 after a norm.
    Products stay below 2^30 and the branch, whose shift is one less, below 2^29. As energy is at most (worst / 4)^2,
    one deviation of the sum is below 2^27.3: a bias, at most five of them where there is no branch and one where
    there is, plus the means, at most a fifth of 2^30, fits the rest of 2^31.
    """

    def greatest(shift: int) -> int:
        return isqrt(3 * (target << shift) ** 2 // energy)

    shift = 24
    while greatest(shift) > INT16_MAX or greatest(shift) * worst > 1 << 30 or branch << shift > 1 << 30:
        shift -= 1
    shift = max(0, shift - drop)
    return shift, greatest(shift)


def _targets(config: Config, op: Op, aim: int) -> list[tuple[int, int]]:
    """(SPEC B.3) Mean and deviation that each output channel aims at: scales run through every level."""
    if not op.wide:
        return [(128 if op.name == "g_s/7" else 0, aim)] * op.channels
    kind, i, _ = op.name.split("/")
    scales = []
    for c in range(config.ch):
        place = _place(config, int(i), c, int(kind == "ep_nonanchor"))
        scales.append(12 * ((8 + place % 8) << (place // 8)))
    return [(s, s // 4) for s in scales] + [(0, 32 << _octave(config, int(i), c)) for c in range(config.ch)]


def _conv(config: Config, seed: int, op: Op, seen: Mapping[str, Statistics]) -> dict[str, np.ndarray]:
    """(SPEC B.3) Weights and constants; int64 holds products of 16 and 17 bits and biases of 32."""
    taps, name = op.kernel**2, f"layers/{op.name}"
    inputs = [(1 if op.depthwise else seen[t].channels, seen[t]) for t in op.inputs]
    energy = taps * sum(n * t.rms**2 for n, t in inputs)
    worst = taps * sum(n * t.limit for n, t in inputs)
    branch = seen[op.add].limit if op.add else 0
    centre, aim = np.array(_targets(config, op, seen[op.name].target), np.int64).T
    choice = draws(
        seed,
        f"{name}/constants",
        2 * op.channels,
        np.tile([0, 0], op.channels),
        np.stack([np.full(op.channels, 2), 2 * (aim // 2) + 1], axis=1).reshape(-1),
    ).reshape(-1, 2)
    scales = [_scale(int(a), energy, worst, branch, int(drop)) for a, drop in zip(aim, choice[:, 0], strict=True)]
    shift, greatest = np.array(scales, np.int64).T

    each = taps * sum(n for n, _ in inputs)
    raw = _halfwords(stream_key(seed, f"{name}/weight"), op.channels * each).reshape(op.channels, each).astype(np.int64)
    weight = ((raw * (2 * greatest[:, None] + 1)) >> 16) - greatest[:, None]
    means = np.repeat([t.mean for _, t in inputs], [n for n, _ in inputs])
    bias = (centre + choice[:, 1] - aim // 2) << shift
    bias -= weight.reshape(op.channels, taps, -1).sum(axis=1) @ means
    bias += (np.int64(1) << shift) >> 1
    add_shift = np.maximum(shift - 1, 0) if op.add else np.zeros_like(shift)
    return {
        "weight": weight.astype(np.int16).reshape(op.channels, op.kernel, op.kernel, -1),
        "constants": np.stack([bias, shift, add_shift], axis=1).astype(np.int32),
    }


def _gain(config: Config, seed: int, op: Op) -> dict[str, np.ndarray]:
    """(SPEC B.3) Powers of two with exponents in Q14, three octaves from the first step to the last."""
    octave = 1 << 14
    step = np.arange(config.steps)[:, None]
    t = 3 * octave * step // 99 - 2 * octave if config.steps > 1 else 0 * step
    if op.name in ("z", "h_s/input"):
        t = t // 2 - 3 * octave
    else:
        y_octaves = [_octave(config, i, c) for i in range(config.slices) for c in range(config.ch)]
        t = t + (np.array(y_octaves) - 4) * octave
    if op.name.endswith("/input"):
        t = -t
    t = t + draws(seed, f"layers/{op.name}/multiplier", op.channels, -octave // 4, octave // 2 + 1)
    return {"multiplier": (octave + t % octave).astype(np.int32), "shift": (14 - (t >> 14)).astype(np.int32)}


def _constants(numbers: Sequence[int], dtype: type = np.int32) -> dict[str, np.ndarray]:
    return {"constants": np.array(numbers, dtype)}


def _other(seed: int, op: Op, choice: int) -> dict[str, np.ndarray]:
    """(SPEC B.3) Layers that are neither convolutions nor gains."""
    c, name = op.channels, f"layers/{op.name}"
    if op.kind in ("gdn", "igdn"):  # clamp < 2^13, C max(gamma) <= 2^23, beta < 2^44: n < 2^49 + 2^44
        gamma = draws(seed, f"{name}/gamma", c * c, 0, (1 << 23) // c + 1).reshape(c, c)
        beta = (1 << 43) + (draws(seed, f"{name}/beta", c, 0, 1 << 16) << 27)
        return {"gamma": gamma, "beta": beta, **_constants([22])}
    if op.kind == "sum":
        return _constants(_SUMS[choice * 3 >> 16])
    if op.kind == "rescale":
        return _constants([1])
    if op.kind == "norm":
        return _constants([c**3], np.int64)
    if op.kind == "local_attention":
        bias = draws(seed, f"{name}/bias", 81 * op.heads, -(1 << 17), 1 << 18)
        return {
            "bias": bias.astype(np.int32).reshape(81, op.heads),
            **_constants([(c // 25 // op.heads).bit_length() // 2 + 3]),
        }
    keys, queries = draws(seed, f"{name}/constants", 2, 6, 3).tolist()
    return _constants([keys, queries + 1, choice * 2 >> 16])


def _z(config: Config, seed: int) -> dict[str, np.ndarray]:
    """(SPEC B.3) Medians, and tables of the symbols -H..H that fall as the square of the distance to H + 1."""
    low, choices = np.tile([-64, 1], config.hyper), np.tile([129, 12], config.hyper)
    medians, reach = draws(seed, "z/medians", 2 * config.hyper, low, choices).reshape(-1, 2).T
    rows = []
    for h in reach.tolist():
        below = np.cumsum([0, *((h + 1 - abs(s)) ** 2 for s in range(-h, h + 1))])
        room = (1 << 16) - 64 - (2 * h + 1)  # one for every symbol, 64 for the escape
        rows.append(np.append(np.arange(below.size) + room * below // below[-1], 1 << 16))
    start = np.cumsum([0, *(row.size for row in rows)])
    arrays = {"z/medians": medians, "z/first": -reach, "z/start": start, "z/cdf": np.concatenate(rows)}
    return {name: array.astype(np.int32) for name, array in arrays.items()}


def layer_arrays(config: Config, seed: int, op: Op, seen: Mapping[str, Statistics]) -> dict[str, np.ndarray]:
    """(SPEC B.3) The arrays of one layer.

    Parameters
    ----------
    config : Config
    seed : int
        0..2^64 - 1.
    op : Op
        The layer.
    seen : mapping of str to Statistics
        Result of `formats`.

    Returns
    -------
    dict of str to np.ndarray
        By the last part of their names.
    """
    if op.kind == "conv":
        return _conv(config, seed, op, seen)
    if op.kind == "gain":
        return _gain(config, seed, op)
    return _other(seed, op, seen[op.name].choice)


def build(config: Config, seed: int) -> dict[str, np.ndarray]:
    """(SPEC B.3) The content of the procedural model of a configuration and a seed.

    Parameters
    ----------
    config : Config
    seed : int in 0..2^64 - 1

    Returns
    -------
    dict of str to np.ndarray
        Every array of SPEC 10.2; ``build_model`` checks and proves it.

    Raises
    ------
    UsageError
        The seed is out of range.
    """
    if not 0 <= seed <= _WORD:
        raise UsageError("the seed is out of range", value=seed, allowed="0..2^64 - 1")
    ops, seen = layer_table(config), formats(config, seed)
    content = {
        **config_content(config),
        **_z(config, seed),
        "formats": np.array([(seen[op.name].frac, seen[op.name].limit) for op in ops], np.int32),
    }
    for op in ops:
        arrays = layer_arrays(config, seed, op, seen)
        content |= {f"layers/{op.name}/{name}": array for name, array in arrays.items()}
    return content | {f"tables/{name}": array for name, array in load_arrays().items()}


def procedural_model(profile: str, seed: int) -> Model:
    """(SPEC B.3) The procedural model of a profile, proved.

    Raises
    ------
    UsageError
        The profile is unknown or the seed out of range.
    """
    content, name = _profile_content(profile, seed)
    return build_model(content, name, _provenance(profile, seed))


def _profile_content(profile: str, seed: int) -> tuple[dict[str, np.ndarray], str]:
    if profile not in PROFILES:
        raise UsageError("unknown profile", value=profile, allowed=", ".join(PROFILES))
    return build(PROFILES[profile], seed), f"procedural {profile} {seed}"


def _provenance(profile: str, seed: int) -> dict[str, object]:
    return {"source": "procedural (SPEC B.3)", "profile": profile, "seed": seed}


def write_procedural(profile: str, seed: int, path: str | os.PathLike[str], force: bool = False) -> Model:
    """(SPEC B.3) Build, prove and write a procedural model: ``python -m refcodec model procedural``.

    Parameters
    ----------
    profile : str
        A name of ``config.PROFILES``.
    seed : int in 0..2^64 - 1
    path : path of the HDF5 file
    force : bool
        Overwrite an existing file.

    Returns
    -------
    Model
        Its fingerprint names it.

    Raises
    ------
    UsageError
        The profile is unknown or the seed out of range.
    OutputError
        The file cannot be created, or exists and ``force`` is false.
    TransferError
        Writing failed; nothing is left behind.
    """
    if os.fspath(path) == "-":
        raise OutputError("a model cannot be written to standard output", cause="give a path")
    check_target(path, force)
    content, _ = _profile_content(profile, seed)
    target, provenance = Path(path), _provenance(profile, seed)
    model = build_model(content, target.name, provenance)
    write_model(target, content, provenance, force=force)
    return model


__all__ = [
    "RMS",
    "Statistics",
    "build",
    "draws",
    "formats",
    "layer_arrays",
    "mix",
    "procedural_model",
    "stream_key",
    "write_procedural",
]
