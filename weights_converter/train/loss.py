"""Rate and distortion of a batch (Balle et al. 2018): lambda 255^2 MSE + bits per pixel, by picture and quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..convert.calibrate import Record
from ..network.layers import gaussian_likelihood, round_ste
from ..network.model import LoCLIC, Noise
from ..network.simulate import IntegerLayers, integer_layers, simulate

BALANCE_CENTRE = 0.013
"""Lambda whose loss keeps its weight for every balance."""


class Coded(NamedTuple):
    """Result of a network for a batch.

    Attributes
    ----------
    x_hat : Tensor
        [B, 3, H, W], not clamped.
    bits_y, bits_z : Tensor
        [B] estimated bits.
    """

    x_hat: Tensor
    bits_y: Tensor
    bits_z: Tensor


class Trainee(nn.Module):
    """A network, and the auxiliary layer of a stage.

    In the stage ``transforms`` an auxiliary layer replaces the entropy model: a 1x1 convolution that starts as the
    identity and turns hyper parameters into scales and means of all channels at once. So h_s can keep a representation
    that only the slices interpret, and training the transforms alone barely disturbs a trained entropy model. In the
    stage ``quantised`` the values are those of the integer model that the weights make with the formats of the
    calibration ``record``.
    """

    def __init__(self, net: LoCLIC) -> None:
        super().__init__()
        self.net = net
        width = 2 * net.config.M
        self.shortcut = nn.Conv2d(width, width, 1)
        nn.init.dirac_(self.shortcut.weight)
        assert self.shortcut.bias is not None
        nn.init.zeros_(self.shortcut.bias)
        self.record: Record | None = None
        self._integers: IntegerLayers | None = None

    def prepare(self, stage: str) -> None:
        """Do what ``forward`` needs once the weights are others.

        Raises
        ------
        InvalidModel
            No integer model of the weights can be proved.
        """
        if stage == "quantised":
            assert self.record is not None
            self._integers = integer_layers(self.net, self.record)

    def forward(self, x: Tensor, q: Tensor, noise: Noise | None, stage: str = "all") -> Coded:
        """Code a batch.

        Parameters
        ----------
        x : Tensor [B, 3, H, W]
            Samples in [0, 1].
        q : Tensor [B]
            Quality.
        noise : Noise or None
            None rounds, as a codec does.
        stage : str
            One of `STAGES`.

        Returns
        -------
        Coded
        """
        if stage == "transforms":
            return self._without_slices(x, q, noise)
        if stage == "quantised":
            assert self._integers is not None
            coded = simulate(self.net, self._integers, x, q, noise)
            return Coded(coded.x_hat, coded.bits_y(), bits(coded.z_likelihoods))
        x_hat, y_likelihoods, z_likelihoods = self.net(x, q, noise)
        return Coded(x_hat, bits(*y_likelihoods), bits(z_likelihoods))

    def _without_slices(self, x: Tensor, q: Tensor, noise: Noise | None) -> Coded:
        y, z = self.net.latents(x, q)
        z_hat, z_likelihoods = self.net.coded_z(z, noise)
        scale, mean = self.shortcut(self.net.hyper(z_hat, q)).chunk(2, 1)
        y_hat = round_ste(y - mean) + mean
        likelihoods = gaussian_likelihood(y_hat if noise is None else y + noise.y, mean, scale)
        return Coded(self.net.picture(y_hat, q), bits(likelihoods), bits(z_likelihoods))


def bits(*likelihoods: Tensor) -> Tensor:
    """Code length in bits of every picture [B]."""
    return -torch.stack([torch.log2(p).flatten(1).sum(1) for p in likelihoods]).sum(0)


def interpolated(levels: Sequence[float], q: Tensor) -> Tensor:
    """Lambdas [B] at fractional qualities [B]: geometric between the levels."""
    table = torch.tensor(levels, device=q.device).log()
    i = q.floor().long().clamp(max=max(0, len(levels) - 2))
    above = (i + 1).clamp(max=len(levels) - 1)
    return torch.lerp(table[i], table[above], q - i).exp()


class Loss(NamedTuple):
    """Sums over the pictures of a batch, for each a scalar tensor; ``total`` is what is minimised."""

    total: Tensor
    bpp_y: Tensor
    bpp_z: Tensor
    mse: Tensor


def loss_of(coded: Coded, x: Tensor, lambdas: Tensor, balance: float) -> Loss:
    """Loss of a batch, summed over its pictures.

    Parameters
    ----------
    coded : Coded
    x : Tensor
        [B, 3, H, W] in [0, 1].
    lambdas : Tensor
        [B].
    balance : float
        Each picture's loss is divided by (lambda / BALANCE_CENTRE) ** balance.

    Returns
    -------
    Loss
        Sums over the pictures.
    """
    pixels = x.size(-1) * x.size(-2)
    mse = (coded.x_hat.float() - x).square().flatten(1).mean(1)
    bpp_y, bpp_z = coded.bits_y / pixels, coded.bits_z / pixels
    weighted = (lambdas * 255**2 * mse + bpp_y + bpp_z) * (lambdas / BALANCE_CENTRE) ** -balance
    return Loss(weighted.sum(), bpp_y.sum(), bpp_z.sum(), mse.sum())
