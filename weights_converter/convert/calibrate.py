"""Ranges of every tensor on pictures, and the format each gets (SPEC annex B).

The record holds sums, not pictures: for every tensor the count, the largest magnitude, and for each clamp 2^e the mean
squared error that clamping would cost. A format is the one whose error by clamping and rounding together is least.

Every magnitude has 14 bits at its clamp, and the pictures calibrated on are photographs and the project's own, whose
charts reach further. What was compared, on 23 photographs of 256x256 that neither training nor calibration had seen, at
qualities 1, 25, 50, 75 and 100, before training with the integers' own values: mean BD-rate of the integer codec
against the bits of the coder's tables for the float network's symbols, with its standard error over the pictures (the
final states of the coder, 16 bytes per picture, are inside and cost 0.3); the part of the synthesis in the BD-rate of
the means; and the PSNR that the project's chart loses at quality 100. Headroom is bits kept free above what was seen.

=====================================================  =================  ==========  ========
choice                                                  BD-rate, per cent  synthesis   chart
=====================================================  =================  ==========  ========
photographs, 12 to 14 bits by products, headroom 1      +1.39 +- 0.18      +0.56       0.00 dB
photographs, 12 bits, headroom 1                        +4.08 +- 0.56      +1.09       0.00 dB
photographs, 13 bits, headroom 1                        +1.27 +- 0.16      +0.38       0.00 dB
photographs, 14 bits, headroom 1                        +0.60 +- 0.07      +0.05       0.00 dB
photographs, 15 bits, headroom 1                        +0.50 +- 0.05      +0.05      -0.01 dB
photographs, 14 bits                                    +0.47 +- 0.05      +0.01       0.19 dB
with the project's, 12 to 14 bits by products           +0.65 +- 0.07      +0.16       0.00 dB
with the project's, 13 bits                             +0.61 +- 0.06      +0.12       0.00 dB
with the project's, 14 bits                             +0.40 +- 0.05      +0.02       0.00 dB
with the project's, 15 bits                             +0.50 +- 0.06      +0.05       0.00 dB
=====================================================  =================  ==========  ========

The latents need it: with 12 bits and headroom their step was a quarter of the quantiser's own at quality 100, since the
channel that reaches furthest reaches 19 times as far as the median one.

Biases corrected by the mean error of rounded weights, and weights of one to three bits less, were tried on an earlier
network and differed from the choice by less than twice the error, or were worse: there is no correction of biases and
no feedback of rounding errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refcodec.arith.engine import Y_MAX
from refcodec.arith.maps import interior
from refcodec.arith.protocols import NetworkOps
from refcodec.errors import InvalidModel
from refcodec.model.config import Y_FRAC, Config
from refcodec.model.layer_table import Op, layer_table
from refcodec.model.layers import LOGIT_FRAC, NORM_FRAC
from refcodec.model.tables import FRACTION_BITS
from refcodec.nets.analysis import analysis
from refcodec.nets.hyperprior import hyper_analysis
from refcodec.nets.synthesis import synthesis
from refcodec.planes import pad_samples
from refcodec.slices import walk
from refcodec.threads import thread_count

from .code_length import Bottleneck, EstimatingPort
from .float_engine import FloatEngine
from .folding import FloatLayer

LEAST, MOST = -6, 14
"""Exponents of the clamps whose cost is recorded."""

MAGNITUDE_BITS = 14
"""Bits of a magnitude at its clamp. With more, proofs leave too few to the weights (see above)."""


@dataclass
class Seen:
    """Statistics of one tensor."""

    count: int = 0
    largest: float = 0.0
    clamp_error: np.ndarray = field(default_factory=lambda: np.zeros(MOST - LEAST + 1))

    def add(self, values: np.ndarray) -> None:
        """Count values of any shape, by the powers of two that magnitudes lie between.

        With S0, S1, S2 the sums over the magnitudes m >= t of 1, m and m^2, the error of clamping to t is
        S2 - 2 t S1 + t^2 S0.
        """
        magnitude = np.abs(values, dtype=np.float32).reshape(-1)
        self.count += magnitude.size
        self.largest = float(np.maximum(self.largest, magnitude.max()))  # NaN stays NaN
        powers = (magnitude.view(np.int32) >> 23) - (127 + LEAST - 1)  # float32's exponent; 1 from 2^LEAST on
        np.clip(powers, 0, MOST - LEAST + 1, out=powers)
        weights = (None, magnitude, np.square(magnitude, dtype=np.float64))
        s0, s1, s2 = (np.bincount(powers, w, MOST - LEAST + 2)[:0:-1].cumsum()[::-1] for w in weights)
        t = 2.0 ** np.arange(LEAST, MOST + 1)
        self.clamp_error += np.maximum(s2 - 2 * t * s1 + t * t * s0, 0)

    def merge(self, other: Seen) -> None:
        """Add what was seen elsewhere."""
        self.count += other.count
        self.largest = max(self.largest, other.largest)
        self.clamp_error += other.clamp_error


Record = dict[str, Seen]


def record_content(record: Record) -> dict[str, Any]:
    """A record as plain values for a file."""
    return {
        name: {"count": s.count, "largest": s.largest, "clamp_error": s.clamp_error.tolist()}
        for name, s in sorted(record.items())
    }


def record_from(values: dict[str, Any], where: str) -> Record:
    """The inverse of ``record_content``.

    Raises
    ------
    InvalidModel
        The values are not a calibration record.
    """
    try:
        record = {
            name: Seen(int(s["count"]), float(s["largest"]), np.array(s["clamp_error"], np.float64))
            for name, s in values.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise InvalidModel("not a calibration record", where=where, detail=str(e)) from None
    for name, seen in record.items():
        if seen.count < 1 or seen.clamp_error.shape != (MOST - LEAST + 1,) or not np.isfinite(seen.clamp_error).all():
            raise InvalidModel("not a calibration record", where=where, tensor=name)
    return record


def record_text(record: Record, count: int, crop: int) -> str:
    """The file of a record, as ``convert --calibration`` reads it.

    Parameters
    ----------
    record : Record
    count : int
        Number of pictures.
    crop : int
        Largest side of the pictures, in samples.

    Returns
    -------
    str
        JSON.
    """
    return json.dumps({"pictures": {"count": count, "crop": crop}, "tensors": record_content(record)}, sort_keys=True)


@dataclass(frozen=True)
class FloatResult:
    """One picture through the float codec: bits (see EstimatingPort), y_hat, and the samples [H, W, 3] unclamped."""

    bits_y: float
    bits_z: float
    bits_y_tables: float
    y_hat: np.ndarray
    samples: np.ndarray


def latents(engine: NetworkOps, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The encoder's maps of y and z of samples [H, W, 3] uint8, by any engine."""
    planes = pad_samples(samples)
    x = engine.map(planes.shape[0], planes.shape[1], planes.shape[2])
    interior(x)[...] = planes
    y = analysis(engine, x)
    return y, hyper_analysis(engine, y)


def run_float(
    config: Config,
    layers: Mapping[str, FloatLayer],
    bottleneck: Bottleneck,
    samples: np.ndarray,
    step: int,
    trace: Any = None,
) -> FloatResult:
    """Code one picture in floating point.

    Parameters
    ----------
    config : Config
    layers : mapping of str to FloatLayer
    bottleneck : Bottleneck
        Density of z.
    samples : np.ndarray [H, W, 3], uint8
    step : int
        Quality from 1.
    trace : callable(name, values) or None
        Sees every result.

    Returns
    -------
    FloatResult
    """
    engine = FloatEngine(config, layers, step - 1, trace)
    y, z = latents(engine, samples)
    port = EstimatingPort(engine, bottleneck, y, z)
    y_hat = walk(engine, config, bottleneck.medians.astype(np.float32), port, *interior(y).shape[:2])
    out = interior(synthesis(engine, y_hat))
    return FloatResult(port.bits_y, port.bits_z, port.bits_y_tables, y_hat, out[: samples.shape[0], : samples.shape[1]])


def calibrate(
    config: Config,
    layers: Mapping[str, FloatLayer],
    bottleneck: Bottleneck,
    pictures: Sequence[np.ndarray],
    steps: Sequence[int],
    progress: Callable[[float], None] | None = None,
) -> Record:
    """Run pictures at qualities and record every tensor; pictures are distributed over the cores.

    Parameters
    ----------
    config : Config
    layers : mapping of str to FloatLayer
    bottleneck : Bottleneck
        Density of z.
    pictures : sequence of np.ndarray [H, W, 3], uint8
    steps : sequence of int
        Qualities from 1.
    progress : callable(share) or None

    Returns
    -------
    Record

    Raises
    ------
    InvalidModel
        A tensor is not finite.
    """

    def one(picture: np.ndarray) -> Record:
        record: Record = {}

        def trace(name: str, values: np.ndarray) -> None:
            seen = record.setdefault(name, Seen())
            seen.add(values)
            if not np.isfinite(seen.largest):
                raise InvalidModel("the float network leaves the range of its numbers", where=name)

        with np.errstate(over="ignore", invalid="ignore"):
            for step in steps:
                run_float(config, layers, bottleneck, picture, step, trace)
        return record

    total: Record = {}
    with ThreadPoolExecutor(thread_count(None)) as pool:
        for n, record in enumerate(pool.map(one, pictures)):  # in order, so that sums do not depend on the threads
            for name, seen in record.items():
                total.setdefault(name, Seen()).merge(seen)
            if progress:
                progress((n + 1) / len(pictures))
    return total


@dataclass(frozen=True)
class Format:
    """Fraction bits and clamp of a tensor."""

    frac: int
    limit: int


def _frac_range(op: Op, formats: Mapping[str, Format]) -> tuple[int, int]:
    """Fewest and most fraction bits that an operation's result may have, given those of its inputs (SPEC 10.2)."""
    if op.name in ("y", "z") or op.wide:
        return Y_FRAC, Y_FRAC
    if op.kind == "norm":
        return NORM_FRAC, NORM_FRAC
    if op.name == "g_s/7":
        return 0, 0
    if op.kind == "local_attention":
        return formats[op.inputs[0]].frac, formats[op.inputs[0]].frac
    if op.kind == "linear_attention":
        return formats[op.inputs[2]].frac, min(15, formats[op.inputs[2]].frac + 12)
    part, *_, leaf = op.name.split("/")
    low, high = 0, 15
    if op.gelu or part.startswith("lrp_"):  # the last layer of an LRP has a tanh
        low, high = min(FRACTION_BITS), max(FRACTION_BITS)
    if op.kind == "rescale":
        high = Y_FRAC
    if leaf == "qkv":
        low = LOGIT_FRAC // 2
    if leaf in ("keys1", "queries1"):
        high = 12
    return low, high


def choose_formats(config: Config, record: Mapping[str, Seen]) -> dict[str, Format]:
    """The format of every operation's result.

    Raises
    ------
    InvalidModel
        The record is not of this configuration.
    """
    ops = layer_table(config)
    if missing := [op.name for op in ops if op.name not in record]:
        raise InvalidModel("the calibration record is of another network", where=missing[0], missing=len(missing))
    limits = {"y": Y_MAX, "z": Y_MAX, "g_s/7": 4095}
    formats: dict[str, Format] = {}
    for op in ops:
        low, high = _frac_range(op, formats)
        if op.kind == "local_attention":
            formats[op.name] = formats[op.inputs[0]]
        elif op.name in limits or op.wide or op.kind == "norm":
            formats[op.name] = Format(low, 0 if op.wide else limits.get(op.name, Y_MAX))
        else:
            formats[op.name] = _best(record[op.name], low, high)
    return formats


def lower(config: Config, formats: dict[str, Format], name: str, by: int) -> bool:
    """Take fraction bits from a tensor, and what follows from it from attentions behind it.

    Parameters
    ----------
    config : Config
    formats : dict of str to Format
        Changed in place.
    name : str
        Of the tensor.
    by : int
        Fraction bits to take.

    Returns
    -------
    bool
        False if the tensor cannot have so few; the formats are then as before.
    """
    ops = layer_table(config)
    frac = formats[name].frac - by
    if frac < _frac_range(next(op for op in ops if op.name == name), formats)[0]:
        return False
    formats[name] = replace(formats[name], frac=frac)
    for op in ops:
        if op.kind.endswith("_attention"):
            low, high = _frac_range(op, formats)
            formats[op.name] = replace(formats[op.name], frac=min(max(formats[op.name].frac, low), high))
    return True


def _best(seen: Seen, low: int, high: int) -> Format:
    def error(frac: int) -> float:
        e = MAGNITUDE_BITS - frac
        clamp = float(seen.clamp_error[min(max(e, LEAST), MOST) - LEAST]) / seen.count
        return clamp + 4.0**-frac / 12

    frac = min(range(low, high + 1), key=lambda f: (error(f), f))
    return Format(frac, (1 << MAGNITUDE_BITS) - 1)
