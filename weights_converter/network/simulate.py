"""Differentiable simulation of a network's integer model: the forward pass of quantisation-aware training.

The network's weights go through the converter's own quantiser with the formats of one calibration record, and the
integer codec itself runs every picture; `TorchEngine` takes the values from there and gives the gradients. So symbols
and pictures are those of the model that ``convert`` makes of the same weights and record, bit for bit. Not importable
without PyTorch (the ``train`` extra).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from refcodec.arith.checkerboard import take as take_half
from refcodec.arith.engine import Engine
from refcodec.arith.maps import borrowed_pool, interior
from refcodec.model.config import SCALE_FRAC, Y_FRAC, Config
from refcodec.model.layer_table import layer_table
from refcodec.model.layers import Layer
from refcodec.model.tables import Tables
from refcodec.nets.analysis import analysis
from refcodec.nets.hyperprior import hyper_analysis
from refcodec.nets.synthesis import synthesis
from refcodec.slices import walk

from ..convert.calibrate import Record, choose_formats, latents
from ..convert.code_length import Bottleneck
from ..convert.folding import FloatLayer, Maths, float_layers, folded
from ..convert.quantise import Quantiser, medians_of
from ..formats.spelling import IGNORED
from .integer import TorchEngine, as_batch, as_map, instead, interior_of, nearest, take
from .layers import gaussian_likelihood, lower_bound
from .model import LoCLIC, Noise

_MATHS = Maths(lower_bound, torch.concatenate)

Results = dict[str, deque[np.ndarray]]
"""Results [H, W, C] of the operations of one picture by name, in the order in which they were computed."""


class Simulated(NamedTuple):
    """Result of the codec for a batch.

    Attributes
    ----------
    x_hat : Tensor
        [B, 3, H, W], samples / 255, not clamped.
    y_likelihoods : list of Tensor
        Of every half of every slice, [h, w / 2, C, B].
    z_likelihoods : Tensor
        [B, hyper, h / 4, w / 4].
    y_hat : Tensor
        [B, M, h, w].
    z_symbols : Tensor
        [B, hyper, h / 4, w / 4].
    """

    x_hat: Tensor
    y_likelihoods: list[Tensor]
    z_likelihoods: Tensor
    y_hat: Tensor
    z_symbols: Tensor

    def bits_y(self) -> Tensor:
        """Estimated bits of y by picture [B]."""
        return -torch.stack([torch.log2(p).flatten(0, 2).sum(0) for p in self.y_likelihoods]).sum(0)


@dataclass(frozen=True)
class IntegerLayers:
    """The integer model of a network, as far as pictures need it: layers, and medians of z (int32, Q6)."""

    config: Config
    layers: Mapping[str, Layer]
    medians: np.ndarray
    tables: Tables


def published(net: LoCLIC) -> dict[str, np.ndarray]:
    """State dict of a network as checkpoints hold it: float32 arrays, without buffers."""
    return {
        name: value.detach().float().cpu().numpy()
        for name, value in net.state_dict().items()
        if not IGNORED.fullmatch(name)
    }


def integer_layers(net: LoCLIC, record: Record) -> IntegerLayers:
    """Quantise a network as ``convert`` does.

    Raises
    ------
    InvalidModel
        No format proves a layer.
    """
    state, config = published(net), net.config
    quantiser = Quantiser(config, float_layers(config, state), choose_formats(config, record))
    quantiser.run()
    return IntegerLayers(config, quantiser.layers, medians_of(Bottleneck(state)), quantiser.tables)


def nearest_step(config: Config, q: Tensor) -> Tensor:
    """Index of the quality nearest to every quality [B]."""
    return (q * (config.steps - 1) / max(1, config.qualities - 1)).round().long()


class _Encoder:
    """A port that chooses symbols like an encoder's and writes none."""

    def __init__(self, engine: Engine, y: np.ndarray, z: np.ndarray) -> None:
        self._engine, self._y, self._z = engine, y, z

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols of z."""
        return self._engine.symbols(interior(self._z), medians)

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Symbols of one half of a slice."""
        ch = levels.shape[2]
        return self._engine.symbols(take_half(interior(self._y)[:, :, i * ch : (i + 1) * ch], parity), means)


def run_exact(model: IntegerLayers, samples: np.ndarray, step: int) -> Results:
    """Run the integer codec and keep every result.

    Parameters
    ----------
    model : IntegerLayers
    samples : np.ndarray [H, W, 3], uint8
    step : int
        Quality from 0.

    Returns
    -------
    Results
        By name of the tensor, in order.
    """
    results: Results = defaultdict(deque)
    with borrowed_pool() as pool:
        engine = Engine(
            model.layers, model.tables, step, 1, None, lambda name, values: results[name].append(values.copy()), pool
        )
        y, z = latents(engine, samples)
        port = _Encoder(engine, y, z)
        y_hat = walk(engine, model.config, model.medians, port, *interior(y).shape[:2])
        synthesis(engine, y_hat)
    return results


class _Port:
    """A port of differentiable symbols that keeps their likelihoods."""

    def __init__(self, net: LoCLIC, y: Tensor, z: Tensor, noise: Noise | None) -> None:
        self._net, self._y, self._z, self._noise = net, interior_of(y), as_batch(z), noise
        self.y_likelihoods: list[Tensor] = []
        self.z_likelihoods, self.z_symbols = z, z

    def z(self, medians: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Symbols of z [h / 4, w / 4, hyper, B]."""
        centre = medians.view(1, -1, 1, 1)
        self.z_symbols = nearest(self._z - centre)
        coded = self.z_symbols + centre if self._noise is None else self._z + self._noise.z
        self.z_likelihoods = self._net.entropy_bottleneck.likelihood(coded)
        return self.z_symbols.permute(2, 3, 1, 0)

    def y(self, i: int, parity: int, scales: Tensor, means: Tensor) -> Tensor:
        """Symbols of one half of a slice [h, w / 2, C, B]."""
        part = slice(i * scales.size(2), (i + 1) * scales.size(2))
        values = take(self._y[:, :, part], parity)
        symbols = nearest(values - means)
        coded = symbols + means
        if self._noise is not None:
            coded = values + take(self._noise.y.permute(2, 3, 1, 0)[:, :, part], parity)
        self.y_likelihoods.append(gaussian_likelihood(coded, means, scales))
        return symbols


def simulate(net: LoCLIC, model: IntegerLayers, x: Tensor, q: Tensor, noise: Noise | None = None) -> Simulated:
    """Code a batch as the integer model does, with gradients to the parameters of the network.

    Parameters
    ----------
    net : LoCLIC
    model : IntegerLayers
        Of the network's present weights.
    x : Tensor
        [B, 3, H, W] samples / 255, sides multiples of 64.
    q : Tensor
        [B] quality; the nearest step is taken.
    noise : Noise or None
        With noise, likelihoods are those of noisy latents instead of rounded ones.

    Returns
    -------
    Simulated
    """
    samples = (x.detach() * 255).round()
    pictures = samples.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    steps = nearest_step(model.config, q)
    runs = [run_exact(model, picture, step) for picture, step in zip(pictures, steps.tolist(), strict=True)]
    layers = torch_layers(net)

    def exact(name: str, value: Tensor) -> Tensor:
        layer = model.layers[name]
        return instead(
            value, _real(np.stack([run[name].popleft() for run in runs]), layer, value), layer.limit * 2.0**-layer.frac
        )

    def half_tanh(name: str, v: Tensor) -> Tensor:
        table = torch.tensor(model.tables.half_tanh[model.layers[name].frac], device=v.device)
        v = v.detach()
        index = (v.abs() * 2.0 ** model.layers[name].frac).long().clamp(max=table.numel() - 1)
        return v.sign() * table[index] * 2.0**-Y_FRAC

    engine: Any = TorchEngine(
        layers, steps * (model.config.qualities - 1) / max(1, model.config.steps - 1), exact, half_tanh
    )
    return code(net, engine, samples, torch.from_numpy(model.medians) * 2.0**-Y_FRAC, noise)


def code(net: LoCLIC, engine: Any, samples: Tensor, medians: Tensor, noise: Noise | None) -> Simulated:
    """Run the codec's networks with an engine of tensors.

    Parameters
    ----------
    net : LoCLIC
    engine : TorchEngine
    samples : Tensor [B, 3, H, W]
        0..255.
    medians : Tensor [hyper]
    noise : Noise or None

    Returns
    -------
    Simulated
    """
    y: Any = analysis(engine, as_map(samples))  # type: ignore[arg-type]
    z: Any = hyper_analysis(engine, y)
    port: Any = _Port(net, y, z, noise)
    height, width = (n // 16 for n in samples.shape[2:])
    centre: Any = medians.to(samples.device)[:, None]
    y_hat: Any = walk(engine, net.config, centre, port, height, width)
    out: Any = synthesis(engine, y_hat)
    return Simulated(as_batch(out) / 255, port.y_likelihoods, port.z_likelihoods, as_batch(y_hat), port.z_symbols)


def torch_layers(net: LoCLIC) -> dict[str, FloatLayer]:
    """The layer table of a network in tensors, folded from its parameters with gradients."""
    parameters = dict(net.named_parameters())
    return {op.name: folded(op, parameters.__getitem__, _MATHS) for op in layer_table(net.config)}


def _real(results: np.ndarray, layer: Any, like: Tensor) -> Tensor:
    """Integers [B, H, W, C] of an operation -> their values [B, C, H, W]."""
    values = torch.from_numpy(results).permute(0, 3, 1, 2).to(like.device, torch.float32).contiguous()
    if layer.limit:
        return values.mul_(2.0**-layer.frac)
    half = values.size(1) // 2  # entropy parameters: scales, then means
    values[:, :half] *= 2.0**-SCALE_FRAC
    values[:, half:] *= 2.0**-Y_FRAC
    return values
