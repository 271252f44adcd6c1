"""The attention contexts of LoC-LIC's entropy model in floating point PyTorch: local, global intra, global inter.

Anchors are the latent positions where row + column is odd. Module and parameter names are those of published
checkpoints. Not importable without PyTorch (the ``train`` extra).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def anchor_mask(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """[height, width] bool: True where row + column is odd."""
    return (torch.arange(height, device=device)[:, None] + torch.arange(width, device=device)) % 2 == 1


def at_anchors(y: Tensor) -> Tensor:
    """[B, C, H, W] -> the same with non-anchors set to 0."""
    return y * anchor_mask(y.size(-2), y.size(-1), y.device)


def at_nonanchors(y: Tensor) -> Tensor:
    """[B, C, H, W] -> the same with anchors set to 0."""
    return y * ~anchor_mask(y.size(-2), y.size(-1), y.device)


def relative_position_index(w: int) -> Tensor:
    """[w^2, w^2] int64: row of the bias table for query minus key."""
    at = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")).flatten(1)
    relative = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0) + w - 1
    return relative[..., 0] * (2 * w - 1) + relative[..., 1]


class MLP(nn.Module):
    """Linear, GELU, linear over the last axis."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        return self.fc2(self.act(self.fc1(x)))


class LocalContext(nn.Module):
    """Checkerboard attention inside every position's w x w window; channel c belongs to head c % heads."""

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

    def windows(self, t: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, H * W, C, w * w], zero outside the image."""
        unfolded = F.unfold(t, self.w, padding=self.w // 2)
        return unfolded.reshape(t.size(0), t.size(1), self.w ** 2, -1).permute(0, 3, 1, 2)

    def mask(self, height: int, width: int, device: torch.device) -> Tensor:
        """[H * W, w^2, w^2]: 0 where query and key are anchors inside the image, else -100."""
        anchors = self.windows(anchor_mask(height, width, device)[None, None].float())[0, :, 0]
        return torch.where(anchors[:, :, None] * anchors[:, None, :] == 1, 0.0, -100.0)

    def forward(self, x: Tensor) -> Tensor:
        """Anchors [B, C, H, W] -> context [B, 2 C, H, W]."""
        batch, c, height, width = x.shape
        w2 = self.w ** 2
        tokens = self.norm1(x.flatten(2).transpose(1, 2))
        qkv = self.qkv_proj(tokens).transpose(1, 2).reshape(batch, 3 * c, height, width)
        qkv = self.windows(qkv).reshape(batch, height * width, 3, self.head_dim, self.heads, w2)
        q, k, v = qkv.permute(2, 0, 1, 4, 5, 3)  # each [B, L, heads, w2, head_dim]
        bias = self.relative_position_table[self.relative_position_index.flatten()].view(w2, w2, -1).permute(2, 0, 1)
        scores = (q * self.head_dim ** -0.5) @ k.transpose(-2, -1) + bias + self.mask(height, width, x.device)[:, None]
        seen = (scores.softmax(-1) @ v).permute(0, 1, 3, 2, 4)  # [B, L, w2, heads, head_dim]
        seen = seen.reshape(batch * height * width, self.w, self.w, c).permute(0, 3, 1, 2)
        out = self.proj(self.fusion(seen).reshape(batch, height * width, 2 * c))
        out = out + self.mlp(self.norm2(out))
        return out.transpose(1, 2).reshape(batch, 2 * c, height, width)


def pointwise_depthwise(c: int) -> nn.Sequential:
    """1x1 convolution, then depthwise 3x3, c channels."""
    return nn.Sequential(nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 3, 1, 1, groups=c))


def gelu_bottleneck(i: int, hidden: int, o: int) -> nn.Sequential:
    """1x1 convolution, GELU, depthwise 3x3, GELU, 1x1 convolution."""
    return nn.Sequential(nn.Conv2d(i, hidden, 1), nn.GELU(), nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden),
                         nn.GELU(), nn.Conv2d(hidden, o, 1))


def linear_attention(queries: Tensor, keys: Tensor, values: Tensor, heads: int,
                     key_mask: Tensor | None = None) -> Tensor:
    """Linear attention: softmax of keys over positions (those of `key_mask`), of queries over a head's channels.

    All tensors are [B, C, H, W]; heads are contiguous groups of channels.
    """
    batch, c, height, width = queries.shape
    q, k, v = (t.reshape(batch, heads, c // heads, height * width) for t in (queries, keys, values))
    if key_mask is not None:
        k = k.masked_fill(~key_mask.reshape(1, 1, 1, -1), -1e30)
    context = k.softmax(3) @ v.transpose(2, 3)
    return (context.transpose(2, 3) @ q.softmax(2)).reshape(batch, c, height, width)


class LinearGlobalIntraContext(nn.Module):
    """The previous slice's picture-wide correlations, applied to the current anchors."""

    def __init__(self, dim: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.keys, self.queries, self.values = (pointwise_depthwise(dim) for _ in range(3))
        self.reprojection = nn.Conv2d(dim, dim * 2, 5, 1, 2)
        self.mlp = gelu_bottleneck(dim * 2, dim * 4, dim * 2)

    def forward(self, previous: Tensor, anchors: Tensor) -> Tensor:
        """Previous slice and current anchors, both [B, C, H, W] -> context [B, 2 C, H, W]."""
        mask = anchor_mask(previous.size(-2), previous.size(-1), previous.device)
        a = linear_attention(self.queries(at_nonanchors(previous)), self.keys(at_anchors(previous)),
                             self.values(anchors), self.heads, mask)
        a = self.reprojection(at_nonanchors(a))
        return a + self.mlp(a)


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
        a = self.reprojection(linear_attention(self.queries(x), self.keys(x), self.values(x), self.heads))
        return self.skip(a) + self.mlp(a)
