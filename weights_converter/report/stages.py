"""Cost of a conversion, layer by layer: every integer stage against its float stage, and the codec as a whole.

Both codecs run the same slice walk with the same symbols, those of the integer codec, so a stage differs from its
counterpart by arithmetic alone and not by a symbol that fell the other way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcodec.arith.engine import Engine
from refcodec.arith.maps import interior
from refcodec.entropy.ports import Port, Writer
from refcodec.model.config import SCALE_FRAC, Config
from refcodec.model.integer_model import Model
from refcodec.model.layer_table import Op
from refcodec.model.layers import Conv
from refcodec.model.proof import tensor_channels
from refcodec.nets.synthesis import synthesis
from refcodec.slices import walk

from ..convert.calibrate import latents
from ..convert.code_length import Bottleneck
from ..convert.float_engine import FloatEngine
from ..convert.folding import FloatLayer
from ..convert.quantise import tensor_frac
from .evaluate import evaluate

Named = tuple[str, np.ndarray]


def _copy_to(named: list[Named], name: str, values: np.ndarray) -> None:
    named.append((name, values.copy()))


@dataclass
class Stage:
    """Sums over one tensor: squares of the float values and of the differences, and results on the clamp."""

    signal: float = 0.0
    noise: float = 0.0
    clipped: int = 0
    total: int = 0

    def __add__(self, other: Stage) -> Stage:
        return Stage(
            self.signal + other.signal, self.noise + other.noise, self.clipped + other.clipped, self.total + other.total
        )

    @property
    def ratio(self) -> float:
        """Noise over signal, 0 for an exact stage."""
        return self.noise / self.signal if self.signal else 0.0


class _Recorder:
    """Passes a port's symbols on and keeps them."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self.symbols: list[np.ndarray] = []

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """As the port."""
        self.symbols.append(self._port.z(medians, shape))
        return self.symbols[-1]

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """As the port."""
        self.symbols.append(self._port.y(i, parity, levels, means))
        return self.symbols[-1]


class _Replayed:
    """Answers with recorded symbols in their order."""

    def __init__(self, symbols: Sequence[np.ndarray]) -> None:
        self._symbols = iter(symbols)

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """The next symbols."""
        return next(self._symbols)

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """The next symbols."""
        return next(self._symbols)


def _real(model: Model, name: str, values: np.ndarray) -> np.ndarray:
    """Integers of a tensor as float64; a wide layer's first half are scales."""
    exponent = np.full(values.shape[-1], tensor_frac(name, model.layers))
    layer = model.layers.get(name)
    if isinstance(layer, Conv) and not layer.limit:
        exponent[: exponent.size // 2] = SCALE_FRAC
    real: NDArray[np.float64] = np.ldexp(values.astype(np.float64), -exponent)
    return real


def compare_stages(
    config: Config,
    floats: Mapping[str, FloatLayer],
    bottleneck: Bottleneck,
    model: Model,
    pictures: Sequence[np.ndarray],
    steps: Sequence[int],
) -> dict[str, Stage]:
    """Compare every tensor that the codec shows by name, integer against float, summed over pictures and steps.

    Parameters
    ----------
    config : Config
    floats : mapping of str to FloatLayer
        The float network by layer.
    bottleneck : Bottleneck
        Its density of z.
    model : Model
    pictures : sequence of np.ndarray [H, W, 3], uint8
    steps : sequence of int
        Qualities.

    Returns
    -------
    dict of str to Stage
        By name of the tensor.
    """
    stages: dict[str, Stage] = {}
    for samples in pictures:
        for step in steps:
            whole: list[Named] = []
            engine = Engine(model.layers, model.tables, step - 1, trace=partial(_copy_to, whole))
            y, z = latents(engine, samples)
            recorder = _Recorder(Writer(engine, y, z, model.tables.gaussian, model.factorized))
            size = interior(y).shape[:2]
            synthesis(engine, walk(engine, config, model.medians, recorder, *size))
            expected = iter(whole)

            def compare(name: str, exact: np.ndarray, expected: Any = expected) -> None:
                same, values = next(expected)
                assert same == name, "both engines show the same stages in the same order"
                layer = model.layers.get(name)
                limit = getattr(layer, "limit", 0) if name != "g_s/7" else 0
                clipped = int((np.abs(values.astype(np.int32)) >= limit).sum()) if limit else 0
                noise = np.square(_real(model, name, values) - exact).sum()
                stages[name] = stages.get(name, Stage()) + Stage(
                    float(np.square(exact, dtype=np.float64).sum()), float(noise), clipped, values.size
                )

            twin = FloatEngine(config, floats, step - 1, compare)
            latents(twin, samples)
            medians = bottleneck.medians.astype(np.float32)
            synthesis(twin, walk(twin, config, medians, _Replayed(recorder.symbols), *size))
    return stages


def _decibel(ratio: float) -> float | None:
    return round(-10 * math.log10(ratio), 2) if ratio > 0 else None


def _row(op: Op, model: Model, stages: Mapping[str, Stage]) -> dict[str, Any]:
    layer, stage = model.layers[op.name], stages[op.name]
    inputs = [stages[name].ratio for name in (*op.inputs, op.add) if name in stages]
    before, after = _decibel(max(inputs, default=0.0)), _decibel(stage.ratio)
    row: dict[str, Any] = {
        "name": op.name,
        "kind": op.kind,
        "format": f"Q{layer.frac}",
        "limit": layer.limit,
        "snr_db": after,
        "loss_db": None if before is None or after is None else round(before - after, 2),
        "clip_rate": stage.clipped / stage.total,
        "weight_bits": None,
        "shift": None,
        "margin_bits": None,
    }
    if isinstance(layer, Conv):
        worst = (1 << 31) - 1 - model.margins[op.name]
        row |= {
            "weight_bits": int(np.abs(layer.weight.astype(np.int32)).max()).bit_length() + 1,
            "shift": [int(layer.shift.min()), int(layer.shift.max())],
            "margin_bits": round(math.log2((1 << 31) / worst), 2),
        }
    return row


LOST = 0.5
"""Share of the weights that read one tensor whose loss is worth a note."""


def weight_notes(floats: Mapping[str, FloatLayer], model: Model) -> list[str]:
    """Convolutions whose weights for one of their inputs are mostly 0 in integers, or all 0 in the checkpoint.

    All weights of an output channel share one shift, so those for an input of small values may be below half a step.
    """
    channels = tensor_channels(model.ops)
    notes = []
    for op in model.ops:
        layer, weight = model.layers[op.name], floats[op.name].weight
        if not isinstance(layer, Conv) or weight is None:
            continue
        first = 0
        for name in op.inputs:
            part = slice(first, weight.shape[3] if op.depthwise else first + channels[name])
            first = part.stop
            used = weight[..., part] != 0
            lost = used & (layer.weight[..., part] == 0)
            if not used.any():
                notes.append(f"{op.name}: all weights for {name} are 0 in the checkpoint")
            elif lost.sum() >= LOST * used.sum():
                notes.append(f"{op.name}: {lost.sum() / used.sum():.0%} of the weights for {name} are 0 in integers")
    return notes


def make_report(
    floats: Mapping[str, FloatLayer], bottleneck: Bottleneck, model: Model, pictures: Sequence[tuple[str, np.ndarray]]
) -> dict[str, Any]:
    """Compare a model with the float network that it was made from.

    Parameters
    ----------
    floats : mapping of str to FloatLayer
        The float network by layer.
    bottleneck : Bottleneck
        Its density of z.
    model : Model
    pictures : sequence of (str, np.ndarray [H, W, 3] uint8)
        By name.

    Returns
    -------
    dict
        Plain values. ``layers`` has a row per operation: signal-to-noise ratio in dB against float, what it lost
        against its worst input, share of results on the clamp, bits of the largest weight, range of shifts, bits by
        which the worst accumulator stays below 2^31. ``notes`` are those of ``weight_notes``.
        ``codec`` is the result of ``evaluate``. None marks what
        does not exist, such as the ratio of an exact stage.
    """
    config = model.config
    steps = (1, 50, 100) if config.steps > 1 else (1,)
    stages = compare_stages(config, floats, bottleneck, model, [samples for _, samples in pictures], steps[-2:])
    slices = [stages[f"y_hat/{i}"] for i in range(config.slices)]
    stages["y_hat"] = sum(slices, Stage())
    stages["hyper_means"] = stages["h_s/4"]
    rows = [_row(op, model, stages) for op in model.ops]
    codec = evaluate(config, floats, bottleneck, model, pictures, steps)

    def worst(key: str, sign: int) -> list[str]:
        return [r["name"] for r in sorted((r for r in rows if r[key] is not None), key=lambda r: sign * r[key])[:10]]

    return {
        "fingerprint": model.fingerprint.hex(),
        "configuration": config.as_dict(),
        "provenance": {k: v for k, v in model.provenance.items() if k != "card"},
        "pictures": [{"name": name, "size": [s.shape[1], s.shape[0]]} for name, s in pictures],
        "notes": weight_notes(floats, model),
        "stage_steps": list(steps[-2:]),
        "lowest_snr": worst("snr_db", 1),
        "largest_loss": worst("loss_db", -1),
        "codec": codec,
        "layers": rows,
    }


def report_paths(path: str) -> tuple[Path, Path, Path]:
    """The three files of a report: JSON as named, a table and a page next to it."""
    base = Path(path)
    return base, base.with_suffix(".txt"), base.with_suffix(".html")
