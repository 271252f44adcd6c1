"""The attention contexts of LoC-LIC's entropy model in floating point PyTorch: local, global intra, global inter.

Anchors are the latent positions where row + column is odd. A half map holds the positions of one kind,
[B, C, H, W / 2]: first those of even rows, then those of odd rows, so that two halves and a map are a pixel shuffle
apart. Module and parameter names are those of published checkpoints. Not importable without PyTorch.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Map [B, C, H, W] -> anchors and non-anchors, half maps [B, C, H, W / 2]."""
    batch, c, height, width = x.shape
    phases = F.pixel_unshuffle(x, 2).view(batch, c, 4, height // 2, width // 2).unbind(2)
    anchors, nonanchors = (torch.stack((phases[a], phases[b]), 2) for a, b in ((1, 2), (0, 3)))
    return anchors.view(batch, c, height, width // 2), nonanchors.view(batch, c, height, width // 2)


def merge(anchors: Tensor, nonanchors: Tensor) -> Tensor:
    """Join half maps: the inverse of `split`."""
    batch, c, height, half = anchors.shape
    a, n = (x.view(batch, c, 2, height // 2, half).unbind(2) for x in (anchors, nonanchors))
    return F.pixel_shuffle(torch.stack((n[0], a[0], a[1], n[1]), 2).view(batch, 4 * c, height // 2, half), 2)


def anchors_alone(anchors: Tensor) -> Tensor:
    """Half map of the anchors -> map with zeros at non-anchors."""
    return merge(anchors, torch.zeros_like(anchors))


def nonanchors_alone(nonanchors: Tensor) -> Tensor:
    """Half map of the non-anchors -> map with zeros at anchors."""
    return merge(torch.zeros_like(nonanchors), nonanchors)


def tokens(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H * W, C]."""
    return x.flatten(2).transpose(1, 2)


def relative_position_index(w: int) -> Tensor:
    """[w^2, w^2] int64: row of the bias table for query minus key."""
    at = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")).flatten(1)
    relative = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0) + w - 1
    return relative[..., 0] * (2 * w - 1) + relative[..., 1]


OUTSIDE, NONANCHOR = 0, 1
"""Rows of the table of tokens before those of the anchors."""


@lru_cache(maxsize=32)
def window_index(height: int, width: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Contents of the window of every non-anchor.

    Parameters
    ----------
    height, width : int
        Of y, width even.
    w : int
        Side of the window, odd.
    device : torch.device

    Returns
    -------
    tuple
        [H * W / 2, w^2] int64: number of the anchor in its half map + 2, `NONANCHOR` or `OUTSIDE`; and the mask
        [H * W / 2, w^2, w^2], -100 where a query at an anchor inside the picture meets a key that is none, else 0.
    """
    half = height * width // 2
    number = torch.arange(half).view(1, 1, height, width // 2) + 2.0
    board = merge(number, torch.full_like(number, NONANCHOR))
    windows = F.unfold(board, w, padding=w // 2).view(1, w * w, height, width)  # zero, that is OUTSIDE, beyond
    index = tokens(split(windows)[1])[0].round().long()
    anchors = index > NONANCHOR
    mask = torch.where(anchors[:, :, None] & ~anchors[:, None, :], -100.0, 0.0)
    return index.to(device), mask.to(device)


class MLP(nn.Module):
    """Linear, GELU, linear over the last axis."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        return self.fc2(self.act(self.fc1(x)))


class LocalContext(nn.Module):
    """Checkerboard attention inside every non-anchor's w x w window; channel c belongs to head c % heads.

    Only anchors hold anything yet, so all non-anchors share one token, and positions outside another, zero.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int = 32, w: int = 5, heads: int = 2) -> None:
        super().__init__()
        self.dim, self.w, self.heads, self.head_dim = dim, w, heads, dim // heads
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.relative_position_table = nn.Parameter(torch.zeros((2 * w - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_table, std=0.02)
        self.proj, self.mlp = nn.Linear(2 * dim, 2 * dim), MLP(2 * dim, 4 * dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(2 * dim)
        self.fusion = nn.Conv2d(dim, 2 * dim, w)
        self.register_buffer("relative_position_index", relative_position_index(w))

    def forward(self, anchors: Tensor) -> Tensor:
        """Anchors [B, C, H, W / 2] -> context of the non-anchors [B, 2 C, H, W / 2]."""
        batch, c, height, half = anchors.shape
        w2 = self.w**2
        index, mask = window_index(height, 2 * half, self.w, anchors.device)
        seen = self._attend(self._windows(anchors, index), mask, batch)
        weight = self.fusion.weight.permute(0, 2, 3, 1).reshape(2 * c, w2 * c)
        out = self.proj(F.linear(seen, weight, self.fusion.bias))
        out = out + self.mlp(self.norm2(out))
        return out.view(batch, height * half, 2 * c).transpose(1, 2).reshape(batch, 2 * c, height, half)

    def _windows(self, anchors: Tensor, index: Tensor) -> Tensor:
        """Queries, keys and values of every window, heads contiguous: [B * L, w^2, 3 C]."""
        batch, c = anchors.shape[:2]
        values = self.norm1(torch.cat((tokens(anchors).reshape(-1, c), anchors.new_zeros(1, c))))
        scale = torch.ones(3, 1, 1, device=anchors.device)
        scale[0] = self.head_dim**-0.5
        weight, bias = (  # published rows are [q k v][element][head]
            (p.view(3, self.head_dim, self.heads, -1).transpose(1, 2).reshape(3, c, -1) * scale).reshape(3 * c, -1)
            for p in (self.qkv_proj.weight, self.qkv_proj.bias)
        )
        qkv = F.linear(values, weight, bias.flatten())
        table = torch.cat((torch.zeros_like(qkv[:1]), qkv[-1:], qkv[:-1]))
        first = torch.arange(batch, device=index.device).view(-1, 1, 1) * index.size(0)
        rows = torch.where(index > NONANCHOR, index + first, index)
        if table.is_cuda:  # the gradient of an embedding sorts; this one a graph of kernels may hold
            return table.index_select(0, rows.flatten()).view(-1, self.w**2, 3 * c)
        return F.embedding(rows, table).flatten(0, 1)

    def _attend(self, windows: Tensor, mask: Tensor, batch: int) -> Tensor:
        """[B * L, w^2, 3 C] -> [B * L, w^2 * C]."""
        w2, c, d = self.w**2, self.dim, self.head_dim
        bias = self.relative_position_table[self.relative_position_index.flatten()].view(w2, w2, self.heads)
        seen = []
        for head in range(self.heads):
            q, k, v = (windows[:, :, n * c + head * d : n * c + (head + 1) * d] for n in range(3))
            scores = torch.bmm(q, k.transpose(1, 2)).view(batch, -1, w2, w2)
            weights = (scores + (mask + bias[:, :, head])).softmax(-1)
            seen.append(torch.bmm(weights.flatten(0, 1).to(v.dtype), v))
        return torch.cat(seen, 2).flatten(1)


def pointwise_depthwise(c: int) -> nn.Sequential:
    """1x1 convolution, then depthwise 3x3, c channels."""
    return nn.Sequential(nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 3, 1, 1, groups=c))


def side_by_side(branches: list[nn.Sequential], x: Tensor, groups: int) -> list[Tensor]:
    """Run several `pointwise_depthwise` at once.

    Parameters
    ----------
    branches : list of nn.Sequential
    x : Tensor
        [B, c, H, W] that all read, with one group; or their inputs one after the other, with a group each.
    groups : int
        Of the first convolution.

    Returns
    -------
    list of Tensor
        One per branch.
    """
    pointwise, depthwise = zip(*((branch[0], branch[1]) for branch in branches), strict=True)
    x = F.conv2d(x, torch.cat([m.weight for m in pointwise]), torch.cat([m.bias for m in pointwise]), groups=groups)
    x = F.conv2d(
        x, torch.cat([m.weight for m in depthwise]), torch.cat([m.bias for m in depthwise]), padding=1, groups=x.size(1)
    )
    return list(x.chunk(len(branches), 1))


def gelu_bottleneck(i: int, hidden: int, o: int) -> nn.Sequential:
    """1x1 convolution, GELU, depthwise 3x3, GELU, 1x1 convolution.

    Parameters
    ----------
    i, hidden, o : int
        Channels of input, between, and of output.

    Returns
    -------
    nn.Sequential
    """
    return nn.Sequential(
        nn.Conv2d(i, hidden, 1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden),
        nn.GELU(),
        nn.Conv2d(hidden, o, 1),
    )


def linear_attention(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Linear attention: softmax of keys over positions, of queries over a head's channels.

    All tensors are [B, C, H, W], queries perhaps at other positions; heads are contiguous groups of channels.

    Parameters
    ----------
    queries, keys, values : Tensor [B, C, H, W]
    heads : int

    Returns
    -------
    Tensor [B, C, H, W]
        At the positions of the queries.
    """
    batch, c, height, width = queries.shape
    q, k, v = (t.reshape(batch * heads, c // heads, -1) for t in (queries, keys, values))
    context = torch.bmm(v, k.softmax(2).to(v.dtype).transpose(1, 2))
    return torch.bmm(context, q.softmax(1).to(v.dtype)).view(batch, c, height, width)


class LinearGlobalIntraContext(nn.Module):
    """The previous slice's picture-wide correlations, applied to the current anchors."""

    def __init__(self, dim: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.keys, self.queries, self.values = (pointwise_depthwise(dim) for _ in range(3))
        self.reprojection = nn.Conv2d(dim, dim * 2, 5, 1, 2)
        self.mlp = gelu_bottleneck(dim * 2, dim * 4, dim * 2)

    def forward(self, previous: tuple[Tensor, Tensor], anchors: Tensor) -> Tensor:
        """Halves of the previous slice and current anchors, all [B, C, H, W / 2] -> context [B, 2 C, H, W / 2]."""
        masked = (nonanchors_alone(previous[1]), anchors_alone(previous[0]), anchors_alone(anchors))
        q, k, v = side_by_side([self.queries, self.keys, self.values], torch.cat(masked, 1), 3)
        a = linear_attention(split(q)[1], split(k)[0], split(v)[0], self.heads)
        a = self.reprojection(nonanchors_alone(a))
        return split(a + self.mlp(a))[1]


class LinearGlobalInterContext(nn.Module):
    """Picture-wide correlations of all finished slices."""

    def __init__(self, dim: int, out: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.keys, self.queries, self.values = (pointwise_depthwise(dim) for _ in range(3))
        self.reprojection = nn.Conv2d(dim, out * 3 // 2, 5, 1, 2)
        self.mlp = gelu_bottleneck(out * 3 // 2, out * 2, out)
        self.skip = nn.Conv2d(out * 3 // 2, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, H, W] -> context [B, out, H, W]."""
        q, k, v = side_by_side([self.queries, self.keys, self.values], x, 1)
        a = self.reprojection(linear_attention(q, k, v, self.heads))
        return self.skip(a) + self.mlp(a)
