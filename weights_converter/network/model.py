"""LoC-LIC in floating point PyTorch: the twin that integer models are checked against, trained with and timed beside.

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

from ..formats.checkpoint import IGNORED, Checkpoint, normalised_name
from .contexts import LinearGlobalInterContext, LinearGlobalIntraContext, LocalContext, merge, split
from .layers import (
    AnalysisTransform,
    ChannelContext,
    EntropyBottleneck,
    EntropyParameters,
    HyperAnalysis,
    HyperSynthesis,
    LatentResidualPrediction,
    SynthesisTransform,
    gaussian_likelihood,
    round_ste,
)
from .walk import walk

Config = dict[str, Any]

PAPER: Config = {
    "N": [32, 64, 128],
    "M": 320,
    "slices": 10,
    "hyper": 128,
    "hs": [320, 480],
    "chan": [192, 128],
    "ent": [320, 256, 128],
    "lrp": [224, 128],
    "window": 5,
    "qualities": 1,
}
PAPER_OLD: Config = {**PAPER, "old_synthesis": True}
MLICPP: Config = {**PAPER, "N": [192, 192, 192], "hyper": 192}
MLICPP_OLD: Config = {**MLICPP, "old_lrp": True, "old_synthesis": True}
SMALL: Config = {
    "N": [32, 64, 96],
    "M": 192,
    "slices": 6,
    "hyper": 96,
    "hs": [96, 144],
    "chan": [96, 64],
    "ent": [160, 128, 96],
    "lrp": [96, 64],
    "window": 5,
    "qualities": 8,
}

KNOWN = (PAPER, PAPER_OLD, MLICPP, MLICPP_OLD, SMALL)
"""Configurations that a checkpoint without one is compared with."""

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.18)
"""Weight of the distortion at quality 0 to 7."""

GAINS = ("gain", "inv_gain", "hyper_gain", "hyper_inv_gain")
"""Parameters of this project's extension; published checkpoints lack them, which means gains of one."""


class Noise(NamedTuple):
    """Uniform noise in [-0.5, 0.5) that stands in for rounding: [B, M, H / 16, W / 16] and [B, h, H / 64, W / 64]."""

    y: Tensor
    z: Tensor


class LoCLIC(nn.Module):
    """The whole network for one configuration.

    Parameters
    ----------
    config : dict
        ``N`` widths at 1/2, 1/4, 1/8; ``M`` latent channels; ``slices``; ``hyper`` channels of z; hidden widths
        ``hs``, ``chan``, ``ent``, ``lrp`` (empty or with ``old_lrp`` the older form); ``window``; ``qualities``.
        Optionally ``old_synthesis``, ``local_heads`` and ``intra_heads`` (2), ``inter_head_width`` (32).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        latent, count, h = c["M"], c["slices"], c["hyper"]
        ch = latent // count
        lrp = None if c.get("old_lrp") else c["lrp"]
        head = c.get("inter_head_width", 32)
        local_heads, intra_heads = c.get("local_heads", 2), c.get("intra_heads", 2)

        def each(make: Callable[[int], nn.Module], first: int = 0) -> nn.ModuleList:
            return nn.ModuleList(make(i) if i >= first else None for i in range(count))  # type: ignore[misc]

        self.g_a = AnalysisTransform(c["N"], latent)
        self.g_s = SynthesisTransform(c["N"], latent, c.get("old_synthesis", False))
        self.h_a, self.h_s = HyperAnalysis(latent, h), HyperSynthesis(latent, h, c["hs"])
        self.local_context = each(lambda i: LocalContext(ch, c["window"], local_heads))
        self.channel_context = each(lambda i: ChannelContext(ch * i, ch, c["chan"]), 1)
        self.global_inter_context = each(lambda i: LinearGlobalInterContext(ch * i, ch * 2, max(1, ch * i // head)), 1)
        self.global_intra_context = each(lambda i: LinearGlobalIntraContext(ch, intra_heads), 1)
        self.entropy_parameters_anchor = each(
            lambda i: EntropyParameters(2 * latent + (6 * ch if i else 0), 2 * ch, c["ent"])
        )
        self.entropy_parameters_nonanchor = each(
            lambda i: EntropyParameters(2 * latent + (10 * ch if i else 2 * ch), 2 * ch, c["ent"])
        )
        self.lrp_anchor = each(lambda i: LatentResidualPrediction(latent + (i + 1) * ch, ch, lrp))
        self.lrp_nonanchor = each(lambda i: LatentResidualPrediction(latent + (i + 1) * ch, ch, lrp))
        self.entropy_bottleneck = EntropyBottleneck(h)

        levels = c["qualities"]  # gains are natural logarithms; the inverse gains start as the inverses
        start = torch.zeros(1, 1)
        if levels > 1:
            start = 0.5 * torch.log(torch.tensor(LAMBDAS[:levels]) / LAMBDAS[3])[:, None]
        self.gain, self.inv_gain = nn.Parameter(start.repeat(1, latent)), nn.Parameter(-start.repeat(1, latent))
        self.hyper_gain = nn.Parameter(torch.zeros(levels, h))
        self.hyper_inv_gain = nn.Parameter(torch.zeros(levels, h))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict of this class, or one of the published classes in either spelling of the bottleneck.

        Buffers that follow from the configuration may be missing, and those that only the published classes have are
        left out. A network of one quality may lack gains, which then are one. Everything else is strict.
        """
        own = self.state_dict()
        state = {name: value for name, value in own.items() if IGNORED.fullmatch(name)}
        if self.config["qualities"] == 1 and not any(name in state_dict for name in GAINS):
            state |= {name: torch.zeros_like(own[name]) for name in GAINS}
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
        """Noise for pictures [batch, 3, height, width]."""

        def uniform(channels: int, stride: int) -> Tensor:
            shape = (batch, channels, height // stride, width // stride)
            return torch.rand(shape, generator=generator, device=generator.device).sub_(0.5)

        return Noise(uniform(self.config["M"], 16), uniform(self.config["hyper"], 64))

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
        parts = [half.chunk(self.config["slices"], 1) for half in halves]
        done = walk(self, self.hyper(z_hat, q), lambda i, kind, mean: round_ste(parts[kind][i] - mean) + mean)
        noisy = halves if noise is None else split(y + noise.y)
        y_likelihoods = [
            gaussian_likelihood(round_ste(half - mean) + mean if noise is None else half, mean, scale)
            for half, scale, mean in zip(noisy, done.scales, done.means, strict=True)
        ]
        return self.picture(done.y_hat, q), y_likelihoods, z_likelihoods


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
    parts = [half.chunk(model.config["slices"], 1) for half in split(y)]
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
    parts = [half.chunk(model.config["slices"], 1) for half in split(y_symbols)]
    hyper = model.hyper(z_symbols + model.entropy_bottleneck.medians(), q)
    return model.picture(walk(model, hyper, lambda i, kind, mean: parts[kind][i] + mean).y_hat, q)


def from_checkpoint(checkpoint: Checkpoint, config: Config | None = None) -> LoCLIC:
    """Build the network of a checkpoint, in evaluation mode.

    Parameters
    ----------
    checkpoint : Checkpoint
    config : dict or None
        Its configuration; None takes the one stored in it, else that of `KNOWN` whose shapes are the checkpoint's.

    Raises
    ------
    InvalidModel
        The tensors are not those of the configuration, or of any known one.
    """
    wanted = config or checkpoint.config
    if wanted is None:
        wanted = next((known for known in KNOWN if not _differences(checkpoint, _on_meta(known))), None)
        if wanted is None:
            raise InvalidModel(
                "checkpoint of no known configuration", where="state dict", tensors=len(checkpoint.tensors)
            )
    elif differences := _differences(checkpoint, _on_meta(wanted)):
        raise InvalidModel(
            "checkpoint does not fit its configuration",
            where="state dict",
            differs=differences[:8],
            count=len(differences),
        )
    model = LoCLIC(wanted)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.tensors.items()})
    return model.eval()


def _on_meta(config: Config) -> LoCLIC:
    """Build the network without memory for its weights.

    Raises
    ------
    InvalidModel
        The configuration lacks entries, or they make no network.
    """
    try:
        with torch.device("meta"):
            return LoCLIC(config)
    except (KeyError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise InvalidModel("configuration makes no network", where="config", reason=repr(error)[:200]) from error


def _differences(checkpoint: Checkpoint, model: LoCLIC) -> list[str]:
    """Names of tensors that are missing, unknown, or of another shape; a network of one quality may lack gains."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not IGNORED.fullmatch(name)}
    if model.config["qualities"] == 1 and not any(name in checkpoint.tensors for name in GAINS):
        for name in GAINS:
            del wanted[name]
    found = {name: array.shape for name, array in checkpoint.tensors.items()}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
