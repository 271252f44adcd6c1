"""A fresh network that begins as a linear codec: each level of g_a the Karhunen-Loeve transform of 2x2 blocks of the
level before, g_s its inverse by least squares.

A deep network of random weights starts near a saddle: to send one more direction of a picture, every layer from g_a to
g_s has to carry it at once, and a latent channel that rounds to zero meanwhile teaches the decoder nothing. Fine
detail, whose energy is small, is hardly ever found, and the rate drives what nobody reads to zero: of a network trained
from random weights, half of the latents were dead after 25,000 steps. Here all directions are there from the first
step.

The linear path takes what the blocks have: in g_a the two 3x3 convolutions, with a bias that keeps GELU where it is the
identity; in g_s the subpixel convolutions next to the blocks. What a residual block adds is zero at first. Channels
beyond the path keep their random weights.

Latents are in rising order of energy. The coefficients of most energy come last, since the last slice is predicted
best: from all others, and those tell where edges and textures are. So after 450 steps of `entropy` the same latents
took 3.3 % fewer bits than in falling order, and 2.5 % fewer than dealt to the slices in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..convert.names import GAMMA_BOUND
from ..network.layers import EntropyBottleneck, ResidualBlock, ResidualBlockUpsample, ResidualBlockWithStride
from ..network.model import LoCLIC
from .pictures import Crops, Picture

SPREAD = 0.3
"""Standard deviation of hidden features."""

BIAS = 3.0
"""Of hidden features, ten deviations: GELU is the identity but for 0.004 above, nearly so down to 1."""

LEAST = 0.005
"""Deviation of coefficients, in units of the samples' range, below which they are not magnified further."""

STEP = 0.175
"""Quantiser step of coefficients at gain 1, that is at lambda 0.013, in units of the samples' range.

lambda 255^2 D / 768 + R / 256, of a block of 16x16 RGB samples with squared error D and R bits, is least at high rate
where every coefficient has the error step^2 / 12 = 768 / (256 * 255^2 * 2 ln 2 * lambda), so step^2 = 4.0e-4 / lambda.
"""

HYPER = 0.5
"""Root mean square of z at every quality: above what rounds to zero, at about one bit per symbol."""

BIASES = 0.25
"""Of the random biases of the density of z: its units stay different, but it lies about zero."""

RIDGE = 1e-6
"""Of least squares, in units of the mean diagonal."""

PART = 16
"""Pictures at a time."""

SIDES, COUNT = (192, 128, 64), 128
"""Sides of crops, the first that pictures allow, and how many: 18 thousand blocks of 16x16 of the largest."""


class _Level(NamedTuple):
    """Orthonormal coefficients of a level: mean [4 C] and basis [4 C, n] of its blocks, scale [n] of its features."""

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def coefficients(self, x: Tensor) -> Tensor:
        """Coefficients [B, C, H, W] of the level before -> [B, n, H / 2, W / 2]."""
        values = (_blocks(x) - self.mean) @ self.basis
        return values.transpose(1, 2).unflatten(2, (x.size(2) // 2, x.size(3) // 2))


def _blocks(x: Tensor) -> Tensor:
    """[B, C, H, W] -> 2x2 blocks [B, H / 2 W / 2, 4 C], channel before row before column."""
    return F.unfold(x, 2, stride=2).transpose(1, 2)


def _level(x: Tensor, width: int) -> _Level:
    """The transform of coefficients [B, C, H, W] to the ``width`` directions of most energy, or to all."""
    rows = _blocks(x).flatten(0, 1).double()
    mean = rows.mean(0)
    energy, basis = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    energy, basis = energy.flip(0)[:width], basis.flip(1)[:, :width]
    return _Level(mean.float(), basis.float(), SPREAD / energy.clamp(min=LEAST**2).sqrt().float())


def sample(pictures: Sequence[Picture], seed: int) -> Tensor:
    """Crops [B, 3, side, side] in [0, 1] to make a linear codec for.

    Raises
    ------
    MissingInput
        All pictures are smaller than 64x64.
    """
    side = max((s for s in SIDES if any(min(p.height, p.width) >= s for p in pictures)), default=SIDES[-1])
    batches = (Crops(pictures, 1, seed).batch(step, PART, side) for step in range(COUNT // PART))
    return torch.from_numpy(np.concatenate([batch.samples for batch in batches])).float() / 255


@torch.no_grad()
def linear_start(net: LoCLIC, pictures: Tensor) -> None:
    """Make a fresh network a linear codec for pictures like these.

    Parameters
    ----------
    net : LoCLIC
        Changed in place; not yet moved to a GPU.
    pictures : Tensor
        [B, 3, H, W] in [0, 1], sides multiples of 16, some ten thousand blocks of 16x16 in all.
    """
    levels: list[_Level] = []
    x, scale = pictures, torch.ones(3)
    for block in net.g_a.analysis_transform:
        if isinstance(block, ResidualBlock):
            _rest(block)
            continue
        if isinstance(block, ResidualBlockWithStride):
            level = _level(x, block.conv1.out_channels)
            _analyse(block, level, scale)
        else:
            assert isinstance(block, nn.Conv2d)
            level = _level(x, block.out_channels)
            level = level._replace(scale=torch.full_like(level.scale, 1 / STEP))
            _fill(block, level._replace(basis=level.basis.flip(1)), scale)
        x, scale = level.coefficients(x), level.scale
        levels.append(level)
    _synthesise(net, pictures, levels)
    _spread(net, pictures)


def _rest(block: ResidualBlock) -> None:
    """Let a residual block add nothing."""
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)  # type: ignore[arg-type]


def _fill(conv: nn.Conv2d, level: _Level, scale: Tensor) -> None:
    """Have a 3x3 convolution of stride 2 compute a level's features from features of ``scale`` [C].

    Its taps are at -1 to 1, of which 0 and 1 are the block.
    """
    count, width = level.scale.numel(), scale.numel()
    weight = (level.basis.T * level.scale[:, None]).unflatten(1, (width, 2, 2))
    conv.weight[:count] = 0
    conv.weight[:count, :width, 1:, 1:] = weight / scale[:, None, None]
    conv.bias[:count] = -(weight.flatten(1) @ level.mean)  # type: ignore[index]


def _analyse(block: ResidualBlockWithStride, level: _Level, scale: Tensor) -> None:
    """Have the first channels of a block of g_a compute a level's features."""
    count = level.scale.numel()
    _fill(block.conv1, level, scale)
    block.conv1.bias[:count] += BIAS  # type: ignore[index]
    block.conv2.weight[:count] = 0
    block.conv2.weight[range(count), range(count), 1, 1] = 1
    block.conv2.bias[:count] = -F.gelu(torch.tensor(BIAS))  # type: ignore[index]
    block.gdn.gamma[:count] = GAMMA_BOUND
    block.gdn.gamma[range(count), range(count)] = 0.1  # squared: little division at first
    block.skip.weight[:count] = 0
    block.skip.bias[:count] = 0  # type: ignore[index]


def _synthesise(net: LoCLIC, pictures: Tensor, levels: list[_Level]) -> None:
    """Fit what is linear in g_s, module by module, to the features of the level that it leads to."""
    targets, x = [pictures], pictures
    for level in levels:
        x = level.coefficients(x)
        targets.append(x * level.scale[:, None, None])
    q = torch.full((len(pictures),), 0.6 * (net.config.qualities - 1))
    gain, inverse = net.gain_at(net.gain, q), net.gain_at(net.inv_gain, q)
    x = _apply(net.g_a, pictures)
    x = torch.round(x * gain) * inverse
    depth = len(levels)
    for block in net.g_s.synthesis_transform:
        if isinstance(block, ResidualBlock):
            _rest(block)
            if block.skip is not None:
                _solve(block.skip, x, targets[depth][:, : block.skip.out_channels])
        else:
            depth -= 1
            assert isinstance(block, ResidualBlockUpsample | nn.Sequential)
            conv = (block.upsample if isinstance(block, ResidualBlockUpsample) else block)[0]
            assert isinstance(conv, nn.Conv2d)
            target = targets[depth][:, : conv.out_channels // 4]
            _solve(conv, x, F.pixel_unshuffle(target, 2))
            if isinstance(block, ResidualBlockUpsample):
                nn.init.zeros_(block.conv.weight)
                nn.init.zeros_(block.conv.bias)  # type: ignore[arg-type]
        x = _apply(block, x)


def _solve(conv: nn.Conv2d, x: Tensor, target: Tensor) -> None:
    """Least squares: the convolution that makes the first channels of its output most like ``target``."""
    count, side = target.size(1), conv.kernel_size[0]
    width = conv.weight[0].numel() + 1
    gram, moment = (torch.zeros(width, n, dtype=torch.float64) for n in (width, count))
    for part, wanted in zip(x.split(PART), target.split(PART), strict=True):
        rows = F.unfold(part, side, padding=side // 2).transpose(1, 2).flatten(0, 1).double()
        rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], 1)
        gram += rows.T @ rows
        moment += rows.T @ wanted.flatten(2).transpose(1, 2).flatten(0, 1).double()
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    found = torch.linalg.solve(gram, moment).T.float()
    conv.weight[:count] = found[:, :-1].view(count, *conv.weight.shape[1:])
    conv.bias[:count] = found[:, -1]  # type: ignore[index]


def _apply(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([module(part) for part in x.split(PART)])


def _spread(net: LoCLIC, pictures: Tensor) -> None:
    """Begin z where it survives rounding, and predictions of latents at their deviations at the middle quality."""
    q = torch.full((len(pictures),), 0.5 * (net.config.qualities - 1))
    y = _apply(net.g_a, pictures)
    _spread_hyper(net, y)
    y = y * net.gain_at(net.gain, q)
    deviation, mean = y.std((0, 2, 3)), y.mean((0, 2, 3))
    _begin_at(net.h_s.increase, deviation, mean)
    width = net.config.M // net.config.slices
    for i in range(net.config.slices):
        part = slice(i * width, (i + 1) * width)
        for half in (net.entropy_parameters_anchor, net.entropy_parameters_nonanchor):
            _begin_at(half[i].fusion, deviation[part], mean[part])  # type: ignore[union-attr, arg-type]


def _spread_hyper(net: LoCLIC, y: Tensor) -> None:
    """Scale h_a at the middle quality, hyper gains at the others; a logistic density of z and noise together."""
    levels = net.config.qualities
    last = net.h_a.reduction[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None

    def z(level: int) -> Tensor:
        return _apply(net.h_a, y * net.gain_at(net.gain, torch.tensor([float(level)])))

    middle = z(levels // 2)
    factor = HYPER / middle.std((0, 2, 3))
    last.bias.sub_(middle.mean((0, 2, 3))).mul_(factor)
    last.weight.mul_(factor[:, None, None, None])
    for level in range(levels):
        net.hyper_gain[level] = (HYPER / z(level).square().mean((0, 2, 3)).sqrt()).log()
        net.hyper_inv_gain[level] = -net.hyper_gain[level]
    width = 3**0.5 / math.pi * (HYPER**2 + 1 / 12) ** 0.5
    density = EntropyBottleneck(net.config.hyper, width)
    for name, parameter in density.named_parameters():
        if name.startswith("_bias"):
            parameter.mul_(BIASES)
    net.entropy_bottleneck.load_state_dict(density.state_dict())


def _begin_at(layers: nn.Sequential, deviation: Tensor, mean: Tensor) -> None:
    last = layers[-1]
    assert isinstance(last, nn.Conv2d)
    last.bias.copy_(torch.cat([deviation, mean]))  # type: ignore[union-attr]
