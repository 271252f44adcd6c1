"""The blocks of LoC-LIC in floating point PyTorch, for training and cross-checks; refcodec itself never needs them.

Module and parameter names are those of published checkpoints. Tensors are [batch, channels, height, width] unless a
docstring says otherwise; the heads of the entropy model run in walk.py. Not importable without PyTorch (the
``train`` extra).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refcodec.model.layer_table import Op

from ..convert.names import (
    BETA_BOUND,
    BOTTLENECK_WIDTHS,
    GAMMA_BOUND,
    LIKELIHOOD_MIN,
    PEDESTAL,
    SCALE_MIN,
    TAIL_MASS,
)


class Conv3x3(nn.Conv2d):
    """3x3 convolution with bias and one zero on every side: [B, i, H, W] -> [B, o, H / stride, W / stride]."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__(i, o, 3, stride, 1)


def conv1x1(i: int, o: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution with bias.

    Parameters
    ----------
    i, o, stride : int
        Channels of input and output, and stride.

    Returns
    -------
    nn.Conv2d
    """
    return nn.Conv2d(i, o, 1, stride)


def subpel3x3(i: int, o: int, r: int) -> nn.Sequential:
    """3x3 convolution to r * r * o channels, then pixel shuffle: r times the height and width.

    Parameters
    ----------
    i, o, r : int
        Channels of input and output, and factor of the size.

    Returns
    -------
    nn.Sequential
    """
    return nn.Sequential(Conv3x3(i, o * r * r), nn.PixelShuffle(r))


class _LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still flows where it would raise x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ((x >= ctx.bound) | (grads[0] < 0)).to(grads[0].dtype), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) elementwise; where x is below, only gradients that would raise it pass."""
    return _LowerBound.apply(x, bound)


def round_ste(x: Tensor) -> Tensor:
    """Round to the nearest integer, halves to even; the gradient is that of the identity."""
    return x + (x.round() - x).detach()


class GDN(nn.Module):
    """Generalized divisive normalization, or its inverse, in CompressAI's reparametrisation."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.sqrt(torch.ones(channels) + PEDESTAL))
        self.gamma = nn.Parameter(torch.sqrt(0.1 * torch.eye(channels) + PEDESTAL))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape: x / sqrt(beta + gamma . x^2), or times the root for the inverse."""
        c = x.size(1)
        beta = lower_bound(self.beta, BETA_BOUND) ** 2 - PEDESTAL
        gamma = lower_bound(self.gamma, GAMMA_BOUND) ** 2 - PEDESTAL
        norm = F.conv2d(x * x, gamma.view(c, c, 1, 1), beta)
        return x * torch.sqrt(norm) if self.inverse else x * torch.rsqrt(norm)


class ResidualBlockWithStride(nn.Module):
    """Two 3x3 convolutions and GDN, and a 1x1 convolution added; half the height and width."""

    def __init__(self, i: int, o: int, stride: int = 2) -> None:
        super().__init__()
        self.conv1, self.act, self.conv2 = Conv3x3(i, o, stride), nn.GELU(), Conv3x3(o, o)
        self.gdn, self.skip = GDN(o), conv1x1(i, o, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, i, H, W] -> [B, o, H / 2, W / 2]."""
        return self.gdn(self.conv2(self.act(self.conv1(x)))) + self.skip(x)


class ResidualBlockUpsample(nn.Module):
    """Subpixel and 3x3 convolution and inverse GDN, and a subpixel convolution added; twice the height and width."""

    def __init__(self, i: int, o: int, r: int = 2) -> None:
        super().__init__()
        self.subpel_conv, self.act, self.conv = subpel3x3(i, o, r), nn.GELU(), Conv3x3(o, o)
        self.igdn, self.upsample = GDN(o, inverse=True), subpel3x3(i, o, r)

    def forward(self, x: Tensor) -> Tensor:
        """[B, i, H, W] -> [B, o, 2 H, 2 W]."""
        return self.igdn(self.conv(self.act(self.subpel_conv(x)))) + self.upsample(x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with GELU, added to the identity, or to a 1x1 convolution where the width changes."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv1, self.act, self.conv2 = Conv3x3(i, o), nn.GELU(), Conv3x3(o, o)
        self.skip = conv1x1(i, o) if i != o else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, i, H, W] -> [B, o, H, W]."""
        y = self.act(self.conv2(self.act(self.conv1(x))))
        return y + (x if self.skip is None else self.skip(x))


class AnalysisTransform(nn.Module):
    """g_a: picture to latent; channels grow as resolution halves."""

    def __init__(self, widths: Sequence[int], latent: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for width in widths:
            layers += [ResidualBlockWithStride(previous, width), ResidualBlock(width, width)]
            previous = width
        self.analysis_transform = nn.Sequential(*layers, Conv3x3(previous, latent, 2))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] -> y [B, M, H / 16, W / 16]."""
        return self.analysis_transform(x)


class SynthesisTransform(nn.Module):
    """g_s: latent to picture; `old` is the form of the weights of 2023, narrow from the first block on."""

    def __init__(self, widths: Sequence[int], latent: int, old: bool = False) -> None:
        super().__init__()
        down = list(widths)[::-1]
        first = down[0] if old else latent
        layers: list[nn.Module] = [ResidualBlock(latent, first), ResidualBlockUpsample(first, down[0])]
        for wide, narrow in pairwise(down):
            layers += [ResidualBlock(wide, narrow), ResidualBlockUpsample(narrow, narrow)]
        layers += [ResidualBlock(down[-1], down[-1]), subpel3x3(down[-1], 3, 2)]
        self.synthesis_transform = nn.Sequential(*layers)

    def forward(self, y: Tensor) -> Tensor:
        """y_hat [B, M, H / 16, W / 16] -> x_hat [B, 3, H, W]."""
        return self.synthesis_transform(y)


class Row(nn.Module):
    """Convolutions with a GELU between every two, in the member that published checkpoints have for them."""

    def __init__(self, attribute: str, ops: Sequence[Op]) -> None:
        super().__init__()
        self._attribute = attribute
        layers: list[nn.Module] = []
        for op in ops:
            conv = nn.Conv2d(op.in_channels, op.channels, op.kernel, op.stride, op.kernel // 2)
            layers += [nn.Sequential(conv, nn.PixelShuffle(2)) if op.shuffle else conv, nn.GELU()]
        setattr(self, attribute, nn.Sequential(*layers[:-1]))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        return getattr(self, self._attribute)(x)


class EntropyBottleneck(nn.Module):
    """Factorized prior of z: a monotone network per channel gives the logit of its cumulative distribution."""

    target: Tensor

    def __init__(self, channels: int, init: float = 10.0) -> None:
        super().__init__()
        scale = init ** (1 / (len(BOTTLENECK_WIDTHS) - 1))
        for i, (a, b) in enumerate(pairwise(BOTTLENECK_WIDTHS)):
            flat = math.log(math.expm1(1 / scale / b))
            setattr(self, f"_matrix{i}", nn.Parameter(torch.full((channels, b, a), flat)))
            setattr(self, f"_bias{i}", nn.Parameter(torch.empty(channels, b, 1).uniform_(-0.5, 0.5)))
            if i < len(BOTTLENECK_WIDTHS) - 2:
                setattr(self, f"_factor{i}", nn.Parameter(torch.zeros(channels, b, 1)))
        self.quantiles = nn.Parameter(torch.tensor([-init, 0, init]).repeat(channels, 1, 1))
        tail = math.log(2 / TAIL_MASS - 1)
        self.register_buffer("target", torch.tensor([-tail, 0, tail]))

    def logits(self, x: Tensor, frozen: bool = False) -> Tensor:
        """[channels, 1, n] -> logits of the cumulative distribution, same shape; `frozen` detaches the network."""

        def parameter(kind: str, i: int) -> Tensor:
            value = getattr(self, f"_{kind}{i}")
            return value.detach() if frozen else value

        last = len(BOTTLENECK_WIDTHS) - 2
        for i in range(last + 1):
            x = F.softplus(parameter("matrix", i)) @ x + parameter("bias", i)
            if i < last:
                x = x + torch.tanh(parameter("factor", i)) * torch.tanh(x)
        return x

    def medians(self) -> Tensor:
        """[1, channels, 1, 1], the centres of the symbols."""
        return self.quantiles[:, 0, 1].detach().view(1, -1, 1, 1)

    def quantile_loss(self) -> Tensor:
        """Auxiliary loss that moves `quantiles` to the tails and the median."""
        return (self.logits(self.quantiles, frozen=True) - self.target).abs().sum()

    def likelihood(self, z: Tensor) -> Tensor:
        """[B, channels, H, W] -> probability of the unit bin around every value."""
        batch, channels, height, width = z.shape
        v = z.permute(1, 0, 2, 3).reshape(channels, 1, -1).float()
        low, high = self.logits(torch.cat((v - 0.5, v + 0.5), 2)).chunk(2, 2)
        sign = -(low + high).sign().detach()  # the side on which the sigmoid keeps its digits
        p = (torch.sigmoid(sign * high) - torch.sigmoid(sign * low)).abs()
        return lower_bound(p, LIKELIHOOD_MIN).reshape(channels, batch, height, width).permute(1, 0, 2, 3)


def gaussian_likelihood(y: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Probability of the unit bin around y under a Gaussian whose scale is at least `SCALE_MIN`.

    Parameters
    ----------
    y, mean, scale : Tensor
        Of one shape.

    Returns
    -------
    Tensor
        At least `LIKELIHOOD_MIN`.
    """
    scale = lower_bound(scale.float(), SCALE_MIN)
    v = (y - mean).float().abs()

    def below(t: Tensor) -> Tensor:
        return 0.5 * torch.erfc(-t / scale * 2**-0.5)

    return lower_bound(below(0.5 - v) - below(-0.5 - v), LIKELIHOOD_MIN)
