"""How faithful an integer model is: rate and distortion against the float network it was converted from.

For every picture and quality three codecs are compared: float throughout (estimated bits); integer throughout
(real segments); and the mixture that separates the two halves of the loss, integer latents through the float
synthesis. Differences of rate are Bjontegaard's, over the mean curve of all pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refcodec.arith.maps import interior
from refcodec.codec import encode_picture
from refcodec.errors import InvalidModel
from refcodec.measure.bd_rate import bd_rate
from refcodec.measure.metrics import psnr
from refcodec.model.config import Config
from refcodec.model.integer_model import Model
from refcodec.model.layers import Conv
from refcodec.nets.synthesis import synthesis

from ..convert.calibrate import run_float
from ..convert.code_length import Bottleneck
from ..convert.export import kept_floats
from ..convert.float_engine import FloatEngine
from ..convert.folding import FloatLayer
from ..formats.checkpoint import Checkpoint


@dataclass
class Clips:
    """Counts results that lie on their clamp, by tensor; GELU's lower side does not clamp."""

    limits: Mapping[str, int]
    clipped: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: str, values: np.ndarray) -> None:
        """Trace callback."""
        if limit := self.limits.get(name, 0):
            self.clipped[name] = self.clipped.get(name, 0) + int((np.abs(values.astype(np.int32)) >= limit).sum())
            self.total[name] = self.total.get(name, 0) + values.size

    def rates(self) -> dict[str, float]:
        """Share of results on the clamp, tensors without any left out, largest first."""
        rates = {n: self.clipped[n] / self.total[n] for n in self.total if self.clipped[n]}
        return dict(sorted(rates.items(), key=lambda item: -item[1]))


def clip_counter(model: Model) -> Clips:
    """A counter for a model's clamps."""
    return Clips(
        {name: layer.limit for name, layer in model.layers.items() if not (isinstance(layer, Conv) and name == "g_s/7")}
    )


def check_same(
    checkpoint: Checkpoint, config: Config, model: Model, floats: Mapping[str, np.ndarray], where: str
) -> None:
    """Refuse a model that was not made from a checkpoint.

    The same file, or the same floats in another file, such as an export: a model file carries those of its tensors that
    are not weights of convolutions.

    Parameters
    ----------
    checkpoint : Checkpoint
    config : Config
        Of the checkpoint.
    model : Model
    floats : mapping of str to np.ndarray
        Result of ``read_floats`` for the model file ``where``.
    where : str
        The model file, as errors name it.

    Raises
    ------
    InvalidModel
        The model is of another configuration or of other weights.
    """
    cause = "give the model that convert made from this checkpoint with --model"
    if model.config != config:
        ours, theirs = config.as_dict(), model.config.as_dict()
        different = sorted(name for name in ours if ours[name] != theirs[name])
        raise InvalidModel(
            "the model is of another network than the checkpoint",
            where=where,
            cause=cause,
            checkpoint={name: ours[name] for name in different},
            model={name: theirs[name] for name in different},
        )
    if model.provenance.get("source_sha256") == checkpoint.source_sha256:
        return
    expected = kept_floats(config, checkpoint.tensors)
    if floats.keys() != expected.keys() or any(not np.array_equal(floats[name], expected[name]) for name in expected):
        raise InvalidModel(
            "the model was made from another checkpoint",
            where=where,
            cause=cause,
            checkpoint_sha256=checkpoint.source_sha256,
            model_source_sha256=str(model.provenance.get("source_sha256"))[:64],
        )


def _samples(x: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(x + 0.5), 0, 255).astype(np.uint8)


def compare_picture(
    config: Config,
    floats: Mapping[str, FloatLayer],
    bottleneck: Bottleneck,
    model: Model,
    samples: np.ndarray,
    step: int,
    clips: Clips | None = None,
) -> dict[str, float]:
    """Bits and PSNR of one picture at one step, float, integer and mixed.

    Parameters
    ----------
    config : Config
    floats : mapping of str to FloatLayer
        The float network by layer.
    bottleneck : Bottleneck
        Its density of z.
    model : Model
    samples : np.ndarray [H, W, 3], uint8
    step : int
        Quality, from 1.
    clips : Clips or None
        Counts values at clamps, if given.

    Returns
    -------
    dict of str to float
    """
    exact = run_float(config, floats, bottleneck, samples, step)
    latents: list[np.ndarray] = []

    def trace(name: str, values: np.ndarray) -> None:
        if name.startswith("y_hat/"):
            latents.append(values.astype(np.float32) / 64)
        if clips is not None:
            clips(name, values)

    coded = encode_picture(samples, step, model=model, trace=trace, rectangles=False)
    engine = FloatEngine(config, floats, step - 1)
    y_hat = engine.map(latents[0].shape[0], latents[0].shape[1], config.M)
    interior(y_hat)[...] = np.concatenate(latents, axis=2)
    mixed = interior(synthesis(engine, y_hat))[: samples.shape[0], : samples.shape[1]]
    return {
        "pixels": samples.shape[0] * samples.shape[1],
        "float_bits": exact.bits_y + exact.bits_z,
        "table_bits": exact.bits_y_tables + exact.bits_z,
        "integer_bits": 8.0 * (coded.z_bytes + coded.y_bytes),
        "float_psnr": psnr(samples, _samples(exact.samples)),
        "integer_psnr": psnr(samples, coded.reconstruction),
        "mixed_psnr": psnr(samples, _samples(mixed)),
    }


def _ratio(rows: Sequence[Mapping[str, Any]], against: str) -> float:
    return float(sum(r["integer_bits"] for r in rows) / sum(r[against] for r in rows))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def bd_text(rates: Mapping[str, float | None]) -> str:
    """BD-rates as one line."""
    return ", ".join(f"{name} {rate:+.3f} %" for name, rate in rates.items() if rate is not None) or (
        "needs more than one quality"
    )


def evaluate(
    config: Config,
    floats: Mapping[str, FloatLayer],
    bottleneck: Bottleneck,
    model: Model,
    pictures: Sequence[tuple[str, np.ndarray]],
    steps: Sequence[int],
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compare on pictures at steps: rows, rates, BD-rates of the whole and of its halves, clip rates at the last step.

    Parameters
    ----------
    config : Config
    floats : mapping of str to FloatLayer
        The float network by layer.
    bottleneck : Bottleneck
        Its density of z.
    model : Model
    pictures : sequence of (str, np.ndarray [H, W, 3] uint8)
        By name.
    steps : sequence of int
        Qualities.
    progress : callable or None
        Receives a line per picture and step.

    Returns
    -------
    dict
        ``bits_ratio`` is integer over float bits, summed, ``tables_ratio`` over the bits the coder's tables give the
        float network's own symbols (EstimatingPort); ``bd_rate`` holds per cent against float for ``total``,
        ``entropy`` (integer latents and rate, float synthesis) and ``synthesis`` (the rest, against the mixture), and
        for ``tables`` against float with the bits of the coder's tables: what the integers alone cost. Each is None
        where there is no BD-rate, as with a single quality.
    """
    clips = clip_counter(model)
    rows: list[dict[str, Any]] = []
    for step in steps:
        for name, samples in pictures:
            counter = clips if step == max(steps) else None
            row = compare_picture(config, floats, bottleneck, model, samples, step, counter)
            rows.append({"picture": name, "step": step, **row})
            if progress:
                progress(
                    f"{name} step {step}: float {row['float_bits'] / row['pixels']:.4f} bpp "
                    f"{row['float_psnr']:.3f} dB, integer {row['integer_bits'] / row['pixels']:.4f} bpp "
                    f"{row['integer_psnr']:.3f} dB"
                )

    def mean(key: str) -> list[float]:
        per_pixel = key.endswith("bits")
        return [
            float(np.mean([r[key] / r["pixels"] if per_pixel else r[key] for r in rows if r["step"] == s]))
            for s in steps
        ]

    float_rate, table_rate, integer_rate = mean("float_bits"), mean("table_bits"), mean("integer_bits")
    float_psnr, integer_psnr, mixed_psnr = mean("float_psnr"), mean("integer_psnr"), mean("mixed_psnr")
    return {
        "steps": list(steps),
        "pictures": len(pictures),
        "float_bpp": float_rate,
        "integer_bpp": integer_rate,
        "tables_bpp": table_rate,
        "float_psnr": float_psnr,
        "integer_psnr": integer_psnr,
        "mixed_psnr": mixed_psnr,
        "bits_ratio": _ratio(rows, "float_bits"),
        "tables_ratio": _ratio(rows, "table_bits"),
        "bits_ratio_by_step": [_ratio([r for r in rows if r["step"] == s], "float_bits") for s in steps],
        "tables_ratio_by_step": [_ratio([r for r in rows if r["step"] == s], "table_bits") for s in steps],
        "bd_rate": {
            "total": _finite(bd_rate(float_rate, float_psnr, integer_rate, integer_psnr)),
            "entropy": _finite(bd_rate(float_rate, float_psnr, integer_rate, mixed_psnr)),
            "synthesis": _finite(bd_rate(integer_rate, mixed_psnr, integer_rate, integer_psnr)),
            "tables": _finite(bd_rate(table_rate, float_psnr, integer_rate, integer_psnr)),
        },
        "clip_rates": clips.rates(),
        "rows": rows,
    }
