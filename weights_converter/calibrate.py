"""Ranges of every tensor on pictures, and the format each gets (SPEC annex B).

The record holds sums, not pictures: for every tensor the count, the largest magnitude, and for each clamp 2^e the mean
squared error that clamping would cost. A format is the one whose error by clamping and rounding together is least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refcodec.architecture import Config, Op, layer_table
from refcodec.arith.engine import Y_MAX
from refcodec.data import FRACTION_BITS
from refcodec.errors import InvalidModel
from refcodec.image import pad_samples
from refcodec.nets.analysis import analysis
from refcodec.nets.hyperprior import hyper_analysis
from refcodec.nets.synthesis import synthesis
from refcodec.slices import walk

from .float_engine import Bottleneck, EstimatingPort, FloatEngine
from .published import FloatLayer

LEAST, MOST = -6, 14
"""Exponents of the clamps whose cost is recorded."""


@dataclass
class Seen:
    """What was seen of one tensor."""

    count: int = 0
    largest: float = 0.0
    clamp_error: np.ndarray = field(default_factory=lambda: np.zeros(MOST - LEAST + 1))

    def add(self, values: np.ndarray) -> None:
        """Count values of any shape; GELU's results clamp on the positive side only, where they are large."""
        magnitude = np.abs(values, dtype=np.float32).reshape(-1)
        self.count += magnitude.size
        self.largest = max(self.largest, float(magnitude.max()))
        for n, e in enumerate(range(LEAST, MOST + 1)):
            magnitude = magnitude[magnitude > np.float32(2.0 ** e)]
            if not magnitude.size:
                break
            self.clamp_error[n] += float(np.square(magnitude - np.float32(2.0 ** e), dtype=np.float64).sum())


Record = dict[str, Seen]


def record_content(record: Record) -> dict[str, Any]:
    """A record as plain values for a file."""
    return {name: {"count": s.count, "largest": s.largest, "clamp_error": s.clamp_error.tolist()}
            for name, s in sorted(record.items())}


def record_from(values: dict[str, Any], where: str) -> Record:
    """The inverse of ``record_content``.

    Raises
    ------
    InvalidModel
        The values are not a calibration record.
    """
    try:
        record = {name: Seen(int(s["count"]), float(s["largest"]), np.array(s["clamp_error"], np.float64))
                  for name, s in values.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise InvalidModel("not a calibration record", where=where, detail=str(e)) from None
    for name, seen in record.items():
        if seen.count < 1 or seen.clamp_error.shape != (MOST - LEAST + 1,) or not np.isfinite(seen.clamp_error).all():
            raise InvalidModel("not a calibration record", where=where, tensor=name)
    return record


@dataclass(frozen=True)
class FloatResult:
    """One picture through the float codec: bits (see EstimatingPort), y_hat, and the samples [H, W, 3] unclamped."""

    bits_y: float
    bits_z: float
    bits_y_tables: float
    y_hat: np.ndarray
    samples: np.ndarray


def run_float(config: Config, layers: Mapping[str, FloatLayer], bottleneck: Bottleneck, samples: np.ndarray, step: int,
              trace: Any = None) -> FloatResult:
    """Code one picture in floating point.

    Parameters
    ----------
    samples : np.ndarray [H, W, 3] uint8
    step : int
        Quality step from 1.
    """
    engine = FloatEngine(config, layers, step - 1, trace)
    planes = pad_samples(samples)
    x = engine.map(planes.shape[0], planes.shape[1], planes.shape[2])
    x[2:-2, 2:-2] = planes
    y = analysis(engine, x)
    z = hyper_analysis(engine, y)
    port = EstimatingPort(engine, bottleneck, y, z)
    medians = bottleneck.medians.astype(np.float32)
    y_hat = walk(engine, config, medians, port, planes.shape[0] // 16, planes.shape[1] // 16)
    out = synthesis(engine, y_hat)[2:-2, 2:-2]
    return FloatResult(port.bits_y, port.bits_z, port.bits_y_tables, y_hat, out[:samples.shape[0], :samples.shape[1]])


def calibrate(config: Config, layers: Mapping[str, FloatLayer], bottleneck: Bottleneck, pictures: Iterable[np.ndarray],
              steps: Iterable[int]) -> Record:
    """Run pictures [H, W, 3] at quality steps and record every tensor."""
    record: Record = {}
    steps = list(steps)

    def trace(name: str, values: np.ndarray) -> None:
        record.setdefault(name, Seen()).add(values)

    for picture in pictures:
        for step in steps:
            run_float(config, layers, bottleneck, picture, step, trace)
    return record


@dataclass(frozen=True)
class Format:
    """Fraction bits and clamp of a tensor."""

    frac: int
    limit: int


def _magnitude_bits(op: Op, consumers: Mapping[str, int]) -> int:
    """Bits a magnitude may have: the more products an accumulator sums, the fewer (balance of weights and inputs)."""
    products = consumers.get(op.name, 0)
    return 12 if products > 1500 else 13 if products > 600 else 14


def choose_formats(config: Config, record: Mapping[str, Seen]) -> dict[str, Format]:
    """The format of every operation's result."""
    ops = layer_table(config)
    consumers: dict[str, int] = {}
    for op in ops:
        if op.kind == "conv":
            for name in op.inputs:
                taps = op.kernel ** 2 * (1 if op.depthwise else op.in_channels)
                consumers[name] = max(consumers.get(name, 0), taps)
    heads = {f"lrp_{w}/{i}/{len(config.lrp_widths(i))}" for w in ("anchor", "nonanchor") for i in range(config.slices)}
    formats: dict[str, Format] = {}
    for op in ops:
        if op.name in ("y", "z"):
            formats[op.name] = Format(6, Y_MAX)
        elif op.kind == "norm":
            formats[op.name] = Format(10, Y_MAX)
        elif op.wide:
            formats[op.name] = Format(6, 0)
        elif op.name == "g_s/7":
            formats[op.name] = Format(0, 4095)
        elif op.kind == "local_attention":
            formats[op.name] = formats[op.inputs[0]]
        else:
            low, high = 0, 15
            if op.gelu or op.name in heads:
                low, high = min(FRACTION_BITS), max(FRACTION_BITS)
            if op.kind == "rescale":
                high = 6
            if op.name.endswith("/qkv"):
                low = 8
            if op.name.endswith(("/keys1", "/queries1")):
                high = 12
            if op.kind == "linear_attention":
                low = formats[op.inputs[2]].frac
                high = min(15, low + 12)
            formats[op.name] = _best(record[op.name], _magnitude_bits(op, consumers), low, high)
    return formats


HEADROOM = 1
"""Bits kept free above what the pictures needed: other pictures reach further, and a clamp costs more than a bit."""


def _best(seen: Seen, bits: int, low: int, high: int) -> Format:
    def error(frac: int) -> float:
        e = bits - frac - HEADROOM
        clamp = seen.clamp_error[min(max(e, LEAST), MOST) - LEAST] / seen.count
        return clamp + 4.0 ** -frac / 12

    frac = min(range(low, high + 1), key=lambda f: (error(f), f))
    return Format(frac, (1 << bits) - 1)
