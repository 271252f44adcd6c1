"""The slice loop of LoC-LIC in floating point PyTorch, arranged so that slices share what they can.

The hyper parameters' part of every first layer is one convolution for all slices, the finished slices' part one for all
heads of a slice, and entropy parameters are computed at the positions of one half only. The results are those of the
published arrangement, which concatenates all inputs for every head; sums are only taken in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contexts import anchors_alone, merge, split

Quantised = Callable[[int, int, Tensor], Tensor]
"""``quantised(i, kind, mean)`` gives one half of slice i as symbol + mean; kind 0 is anchors, 1 non-anchors."""


class Walk(NamedTuple):
    """Result of the slice loop.

    Attributes
    ----------
    y_hat : Tensor
        [B, M, H / 16, W / 16], every slice finished.
    scales, means : list of Tensor
        [B, M, H / 16, W / 32] of the anchors and of the non-anchors, half maps.
    """

    y_hat: Tensor
    scales: list[Tensor]
    means: list[Tensor]


class _Shared(NamedTuple):
    """The hyper parameters' part of every head's first layer, biases included, by slice."""

    ep_anchor: Sequence[Tensor]
    ep_nonanchor: Sequence[Tensor]
    lrp_anchor: Sequence[Tensor]
    lrp_nonanchor: Sequence[Tensor]


def joined(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """Compute several convolutions of one input as one.

    Parameters
    ----------
    x : Tensor [B, C, H, W]
    weights : sequence of Tensor
    biases : sequence of Tensor or None
        None for all, or for none.

    Returns
    -------
    sequence of Tensor
        One per convolution.
    """
    weight = torch.cat(list(weights))
    bias = torch.cat([b for b in biases if b is not None]) if biases[0] is not None else None
    out = F.conv2d(x, weight, bias, padding=weight.size(-1) // 2)
    return out.split([w.size(0) for w in weights], 1)


def walk(model: Any, hyper: Tensor, quantised: Quantised) -> Walk:
    """Run the slice loop; encoder, decoder and training differ only in `quantised`.

    Parameters
    ----------
    model : LoCLIC
    hyper : Tensor
        [B, 2 M, H / 16, W / 16] hyper parameters.
    quantised : callable
        Called for the anchors, then for the non-anchors of every slice.

    Returns
    -------
    Walk
    """
    config = model.config
    latent, count, ch = config.M, config.slices, config.ch
    # First layers, split by what they read.
    eps = [
        [_parts(m.fusion[0], [2 * latent], behind=True) for m in heads]
        for heads in (model.entropy_parameters_anchor, model.entropy_parameters_nonanchor)
    ]
    lrps = [
        [_parts(m.lrp_transform[0], [latent, i * ch, ch]) for i, m in enumerate(heads)]
        for heads in (model.lrp_anchor, model.lrp_nonanchor)
    ]
    shared = _shared(model, hyper, eps, lrps)
    slices: list[Tensor] = []
    halves: list[tuple[Tensor, Tensor]] = []
    scales: list[list[Tensor]] = [[], []]
    means: list[list[Tensor]] = [[], []]
    for i in range(count):
        known: tuple[list[Tensor], list[Tensor]] = ([], [])
        lrp = [shared.lrp_anchor[i], shared.lrp_nonanchor[i]]
        if i:
            previous = torch.cat(slices, 1)
            first = model.channel_context[i].fushion[0]
            a, n, c = joined(previous, [lrps[0][i][1], lrps[1][i][1], first.weight], [None])
            lrp = [lrp[0] + a, lrp[1] + n]
            channel = model.channel_context[i].fushion[1:](c + first.bias[:, None, None])
            both = split(torch.cat((model.global_inter_context[i](previous), channel), 1))
            known = ([both[0]], [both[1]])

        scale, mean = _entropy(model.entropy_parameters_anchor[i], shared.ep_anchor[i], eps[0][i][0], known[0])
        anchors = quantised(i, 0, mean)
        scales[0].append(scale)
        means[0].append(mean)
        anchors = anchors + split(_residual(model.lrp_anchor[i], lrp[0], lrps[0][i][2], anchors_alone(anchors)))[0]

        spatial = [model.local_context[i](anchors)]
        if i:
            spatial.append(model.global_intra_context[i](halves[-1], anchors))
        scale, mean = _entropy(
            model.entropy_parameters_nonanchor[i], shared.ep_nonanchor[i], eps[1][i][0], spatial + known[1]
        )
        nonanchors = quantised(i, 1, mean)
        scales[1].append(scale)
        means[1].append(mean)
        whole = merge(anchors, nonanchors)
        nonanchors = nonanchors + split(_residual(model.lrp_nonanchor[i], lrp[1], lrps[1][i][2], whole))[1]
        halves.append((anchors, nonanchors))
        slices.append(merge(anchors, nonanchors))
    return Walk(torch.cat(slices, 1), [torch.cat(s, 1) for s in scales], [torch.cat(m, 1) for m in means])


def _parts(layer: nn.Conv2d, widths: list[int], behind: bool = False) -> Sequence[Tensor]:
    """A layer's weights by groups of inputs; ``behind`` puts one group for the rest before them."""
    rest = layer.in_channels - sum(widths)
    return layer.weight.split([rest, *widths] if behind else widths, 1)


def _shared(model: Any, hyper: Tensor, eps: list[list[Any]], lrps: list[list[Any]]) -> _Shared:
    hyper_means = hyper.chunk(2, 1)[1]
    anchors, nonanchors = (
        joined(half, [parts[1] for parts in kind], [m.fusion[0].bias for m in heads])
        for half, kind, heads in zip(
            split(hyper), eps, (model.entropy_parameters_anchor, model.entropy_parameters_nonanchor), strict=True
        )
    )
    count = len(lrps[0])
    heads = [*model.lrp_anchor, *model.lrp_nonanchor]
    lrp = joined(hyper_means, [parts[0] for kind in lrps for parts in kind], [m.lrp_transform[0].bias for m in heads])
    return _Shared(anchors, nonanchors, lrp[:count], lrp[count:])


def _entropy(head: nn.Module, first: Tensor, weight: Tensor, contexts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Entropy parameters of one half: scales and means."""
    if contexts:
        first = first + F.conv2d(torch.cat(contexts, 1), weight)
    scale, mean = head.fusion[1:](first).chunk(2, 1)  # type: ignore[index,operator]
    return scale, mean


def _residual(head: nn.Module, first: Tensor, weight: Tensor, current: Tensor) -> Tensor:
    """LRP of a slice, of which the current one is [B, C, H, W]."""
    x = head.lrp_transform[1:](first + F.conv2d(current, weight, padding=1))  # type: ignore[index,operator]
    return 0.5 * torch.tanh(x)
