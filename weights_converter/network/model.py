"""LoC-LIC in floating point PyTorch: the twin that integer models are checked against, trained with and timed against.

The state dict is that of published checkpoints. Pictures are [batch, 3, height, width] in [0, 1], sides multiples of
64. `LoCLIC.forward` with ``noise=False`` is what an encoder followed by a decoder computes; `analyse` and `synthesise`
are the two halves without the entropy coder. Not importable without PyTorch (the ``train`` extra).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from refcodec.errors import InvalidModel
from refcodec.model.config import Config
from refcodec.model.file import read_floats
from refcodec.model.integer_model import Model
from refcodec.model.layer_table import layer_table

from ..convert.export import published_state
from ..convert.names import GAINS, check_state
from ..convert.recognise import recognise
from ..formats.checkpoint import Checkpoint
from ..formats.spelling import IGNORED, normalised_name
from .contexts import LinearGlobalInterContext, LinearGlobalIntraContext, LocalContext, merge, split
from .layers import AnalysisTransform, EntropyBottleneck, Row, SynthesisTransform, gaussian_likelihood, round_ste
from .walk import walk

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.18)
"""Weight of the distortion at quality 0 to 7, for the first gains; more qualities have a geometric row."""


class Noise(NamedTuple):
    """Uniform noise in [-0.5, 0.5) that replaces rounding: [B, M, H / 16, W / 16] and [B, h, H / 64, W / 64]."""

    y: Tensor
    z: Tensor


class LoCLIC(nn.Module):
    """The whole network for one configuration.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        table = layer_table(config)

        def row(attribute: str, name: str) -> Row:
            """The convolutions ``name/0``, ``name/1``, ... of the layer table."""
            return Row(attribute, [op for op in table if op.kind == "conv" and op.name.rpartition("/")[0] == name])

        def each(make: Callable[[int], nn.Module], first: int = 0) -> nn.ModuleList:
            return nn.ModuleList(make(i) if i >= first else None for i in range(c.slices))  # type: ignore[misc]

        self.g_a = AnalysisTransform(c.N, c.M)
        self.g_s = SynthesisTransform(c.N, c.M, c.old_synthesis)
        self.h_a, self.h_s = row("reduction", "h_a"), row("increase", "h_s")
        self.local_context = each(lambda i: LocalContext(c.ch, c.window, c.local_heads))
        self.channel_context = each(lambda i: row("fushion", f"chan/{i}"), 1)  # the published spelling
        self.global_inter_context = each(lambda i: LinearGlobalInterContext(c.ch * i, c.ch * 2, c.inter_heads(i)), 1)
        self.global_intra_context = each(lambda i: LinearGlobalIntraContext(c.ch, c.intra_heads), 1)
        self.entropy_parameters_anchor = each(lambda i: row("fusion", f"ep_anchor/{i}"))
        self.entropy_parameters_nonanchor = each(lambda i: row("fusion", f"ep_nonanchor/{i}"))
        self.lrp_anchor = each(lambda i: row("lrp_transform", f"lrp_anchor/{i}"))
        self.lrp_nonanchor = each(lambda i: row("lrp_transform", f"lrp_nonanchor/{i}"))
        self.entropy_bottleneck = EntropyBottleneck(c.hyper)

        levels = c.qualities  # gains are natural logarithms; the inverse gains start as the inverses
        start = torch.zeros(1, 1)
        if levels > 1:
            geometric = [LAMBDAS[0] * (LAMBDAS[-1] / LAMBDAS[0]) ** (n / (levels - 1)) for n in range(levels)]
            lambdas = LAMBDAS[:levels] if levels <= len(LAMBDAS) else geometric
            start = 0.5 * torch.log(torch.tensor(lambdas) / LAMBDAS[3])[:, None]
        self.gain, self.inv_gain = nn.Parameter(start.repeat(1, c.M)), nn.Parameter(-start.repeat(1, c.M))
        self.hyper_gain = nn.Parameter(torch.zeros(levels, c.hyper))
        self.hyper_inv_gain = nn.Parameter(torch.zeros(levels, c.hyper))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict of this class, or one of the published classes in either spelling of the bottleneck.

        Buffers that follow from the configuration may be missing, and those that only the published classes have are
        left out. A network of one quality may lack gains, which then are one. Everything else is strict.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
        strict, assign : bool
            As in `torch.nn.Module.load_state_dict`.

        Returns
        -------
        NamedTuple
            Missing and unexpected keys.
        """
        own = self.state_dict()
        state = {name: value for name, value in own.items() if IGNORED.fullmatch(name)}
        if self.config.qualities == 1 and not any(name in state_dict for name in GAINS.values()):
            state |= {name: torch.zeros_like(own[name]) for name in GAINS.values()}
        for stored, value in state_dict.items():
            name = normalised_name(stored)
            if name in own or not IGNORED.fullmatch(name):
                state[name] = value
        return super().load_state_dict(state, strict, assign)

    @staticmethod
    def gain_at(log_gain: Tensor, q: Tensor) -> Tensor:
        """Gains at fractional qualities: [Q, C] logarithms and q [B] -> [B, C, 1, 1]."""
        last = log_gain.size(0) - 1
        i = q.floor().long().clamp(0, max(last - 1, 0))
        t = (q - i).unsqueeze(1)
        return torch.exp(log_gain[i] * (1 - t) + log_gain[(i + 1).clamp(max=last)] * t)[..., None, None]

    def latents(self, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Picture [B, 3, H, W] -> y [B, M, H / 16, W / 16] and z [B, h, H / 64, W / 64], both scaled for quality q."""
        y = self.g_a(x) * self.gain_at(self.gain, q)
        return y, self.h_a(y) * self.gain_at(self.hyper_gain, q)

    def hyper(self, z_hat: Tensor, q: Tensor) -> Tensor:
        """z_hat [B, h, H / 64, W / 64] -> hyper parameters [B, 2 M, H / 16, W / 16]."""
        return self.h_s(z_hat * self.gain_at(self.hyper_inv_gain, q))

    def picture(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """y_hat [B, M, H / 16, W / 16] -> x_hat [B, 3, H, W], not clamped."""
        return self.g_s(y_hat * self.gain_at(self.inv_gain, q))

    def noise(self, batch: int, height: int, width: int, generator: torch.Generator) -> Noise:
        """Noise for a batch of pictures.

        Parameters
        ----------
        batch, height, width : int
            Pictures, and their size in samples.
        generator : torch.Generator
            Its device is that of the noise.

        Returns
        -------
        Noise
            Uniform in [-0.5, 0.5), of the shapes of y and z.
        """

        def uniform(channels: int, stride: int) -> Tensor:
            shape = (batch, channels, height // stride, width // stride)
            return torch.rand(shape, generator=generator, device=generator.device).sub_(0.5)

        return Noise(uniform(self.config.M, 16), uniform(self.config.hyper, 64))

    def coded_z(self, z: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """Code z: z_hat and likelihoods, those of noisy z if there is noise; all [B, h, H / 64, W / 64]."""
        median = self.entropy_bottleneck.medians()
        z_hat = round_ste(z - median) + median
        return z_hat, self.entropy_bottleneck.likelihood(z_hat if noise is None else z + noise.z)

    def forward(self, x: Tensor, q: Tensor, noise: Noise | None = None) -> tuple[Tensor, list[Tensor], Tensor]:
        """Code a picture in expectation.

        Parameters
        ----------
        x : Tensor
            [B, 3, H, W] in [0, 1].
        q : Tensor
            [B] quality, possibly fractional.
        noise : Noise or None
            With noise, likelihoods are those of noisy latents, as training wants them, instead of rounded ones.

        Returns
        -------
        tuple
            x_hat [B, 3, H, W], likelihoods of y at anchors and non-anchors [B, M, H / 16, W / 32], likelihoods of z.
        """
        y, z = self.latents(x, q)
        z_hat, z_likelihoods = self.coded_z(z, noise)
        halves = split(y)
        parts = [half.chunk(self.config.slices, 1) for half in halves]
        done = walk(self, self.hyper(z_hat, q), lambda i, kind, mean: round_ste(parts[kind][i] - mean) + mean)
        noisy = halves if noise is None else split(y + noise.y)
        y_likelihoods = [
            gaussian_likelihood(round_ste(half - mean) + mean if noise is None else half, mean, scale)
            for half, scale, mean in zip(noisy, done.scales, done.means, strict=True)
        ]
        return self.picture(done.y_hat, q), y_likelihoods, z_likelihoods


def from_model(model: Model) -> LoCLIC:
    """Build the network of an integer model's weights, in evaluation mode.

    Raises
    ------
    InvalidModel
        The model is of no file, or its file does not carry the floats that this takes.
    """
    if model.path is None:
        raise InvalidModel("the model was not read from a file, which would carry its floats", where=model.name)
    tensors = published_state(model, read_floats(model.path), model.path.name)
    return from_checkpoint(Checkpoint(tensors, model.config.as_dict(), model.fingerprint.hex(), form="model"))


def analyse(model: LoCLIC, x: Tensor, q: Tensor, reconstruct: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    """Do the tensor work of an encoder: everything but the entropy coder.

    Parameters
    ----------
    model : LoCLIC
    x : Tensor
        [B, 3, H, W] in [0, 1].
    q : Tensor
        [B] quality.
    reconstruct : bool
        Also run g_s, as an encoder that signs its reconstruction does.

    Returns
    -------
    tuple
        Symbols of z [B, h, H / 64, W / 64] and of y [B, M, H / 16, W / 16], whole numbers as floats, and x_hat
        [B, 3, H, W] or None.
    """
    y, z = model.latents(x, q)
    median = model.entropy_bottleneck.medians()
    z_symbols = (z - median).round()
    parts = [half.chunk(model.config.slices, 1) for half in split(y)]
    done = walk(model, model.hyper(z_symbols + median, q), lambda i, kind, mean: (parts[kind][i] - mean).round() + mean)
    y_symbols = (y - merge(*done.means)).round()
    return z_symbols, y_symbols, model.picture(done.y_hat, q) if reconstruct else None


def synthesise(model: LoCLIC, z_symbols: Tensor, y_symbols: Tensor, q: Tensor) -> Tensor:
    """Do the tensor work of a decoder from decoded symbols: h_s, the slice loop with all scales and means, g_s.

    Parameters
    ----------
    model : LoCLIC
    z_symbols : Tensor
        [B, h, H / 64, W / 64] whole numbers.
    y_symbols : Tensor
        [B, M, H / 16, W / 16] whole numbers.
    q : Tensor
        [B] quality.

    Returns
    -------
    Tensor
        x_hat [B, 3, H, W], not clamped.
    """
    parts = [half.chunk(model.config.slices, 1) for half in split(y_symbols)]
    hyper = model.hyper(z_symbols + model.entropy_bottleneck.medians(), q)
    return model.picture(walk(model, hyper, lambda i, kind, mean: parts[kind][i] + mean).y_hat, q)


def from_checkpoint(checkpoint: Checkpoint, config: Config | None = None) -> LoCLIC:
    """Build the network of a checkpoint, in evaluation mode.

    Parameters
    ----------
    checkpoint : Checkpoint
    config : Config or None
        Its configuration; None recognises it by the names and shapes of the tensors.

    Raises
    ------
    InvalidModel
        The tensors are not those of the configuration, or of any.
    """
    config = config or recognise(checkpoint.tensors, checkpoint.config, checkpoint.where)
    check_state(config, checkpoint.tensors, checkpoint.where)
    model = LoCLIC(config)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.tensors.items()})
    return model.eval()
