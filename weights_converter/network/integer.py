"""An engine of PyTorch tensors: the codec's own networks, differentiable, a batch at a time.

It runs the functions of refcodec/nets and the slice walk as the integer engine and the float engine do. On its own it
computes in floating point. Given the results of the integer engine it takes each operation's value from there and only
the gradient from its own operation: straight through roundings, weight grids and tables. Not importable without
PyTorch (the ``train`` extra).

Maps are [H + 4, W + 4, C, B] in real units: functions that index rows, columns and channels work as they are, and in
memory the batch comes first, as PyTorch's convolutions want it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refcodec.arith.checkerboard import put
from refcodec.arith.engine import Y_MAX
from refcodec.arith.maps import BORDER, interior
from refcodec.arith.numpy_ops import RELATIVE
from refcodec.model.config import Y_FRAC

from ..convert.folding import NORM_EPSILON, FloatLayer
from .model import LoCLIC

Y_LIMIT = Y_MAX / 2**Y_FRAC
"""Clamp of y, y_hat and means in steps of the quantiser."""

Exact = Callable[[str, Tensor], Tensor]
"""``exact(name, value)`` gives the value [B, C, H, W] that replaces an operation's own."""

_RELATIVE = torch.from_numpy(RELATIVE)


class _Instead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, exact: Tensor, limit: float) -> Tensor:
        ctx.limit = limit
        if limit:
            ctx.save_for_backward(exact)
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        if ctx.limit:
            (exact,) = ctx.saved_tensors
            gradient = gradient.masked_fill((exact.abs() >= ctx.limit) & (gradient * exact < 0), 0)
        return gradient.contiguous(), None, None  # PyTorch's convolutions corrupt memory where it is channels last


def instead(value: Tensor, exact: Tensor, limit: float = 0.0) -> Tensor:
    """Give ``exact`` in place of ``value``, to which its gradient goes.

    On the clamp ``limit``, if there is one, only gradients pass that would bring the value back: those that push it
    further out would train what has no effect, and without any a channel that has once saturated stays so.

    Parameters
    ----------
    value : Tensor
        The result in floating point.
    exact : Tensor
        The integer model's value, of the same shape.
    limit : float
        The clamp, 0 for none.

    Returns
    -------
    Tensor
    """
    out: Tensor = _Instead.apply(value, exact, limit)
    return out


def clamped(x: Tensor) -> Tensor:
    """Clamp to the range of y_hat."""
    return instead(x, x.detach().clamp(-Y_LIMIT, Y_LIMIT), Y_LIMIT)


def nearest(x: Tensor) -> Tensor:
    """(SPEC 6.9) Symbols: the nearest whole number, halves up, clamped."""
    return instead(x, (x.detach() + 0.5).floor().clamp(-Y_MAX, Y_MAX))


def as_map(x: Tensor) -> Tensor:
    """[B, C, H, W] -> a map."""
    return F.pad(x, (BORDER,) * 4).permute(2, 3, 1, 0)


def as_batch(x: Tensor) -> Tensor:
    """A map -> a copy [B, C, H, W] of what is inside; maps are written to later, what gradients need is not."""
    return interior_of(x).permute(3, 2, 0, 1).clone(memory_format=torch.contiguous_format)


def interior_of(x: Any) -> Tensor:
    """The interior of a map, a view [H, W, C, B]."""
    inside: Any = interior(x)
    return inside


def take(x: Tensor, parity: int, rows: int = 0) -> Tensor:
    """Positions of one parity.

    Parameters
    ----------
    x : Tensor [H, W, ...]
        Or with these axes from ``rows`` on.
    parity : int
        ANCHOR or NONANCHOR.
    rows : int
        The axis of rows.

    Returns
    -------
    Tensor [H, W / 2, ...]
    """
    before = (slice(None),) * rows
    places = [(*before, slice(row, None, 2), slice(row ^ parity, None, 2)) for row in (0, 1)]
    return torch.stack([x[place] for place in places], rows + 1).flatten(rows, rows + 1)


class TorchEngine:
    """Operations by name, as ``refcodec.arith.engine.Engine`` has them.

    Parameters
    ----------
    layers : mapping of str to FloatLayer
        Of tensors.
    q : Tensor
        [B] quality of every picture.
    exact : callable or None
        Values that replace those of the operations; None for floating point.
    half_tanh : callable or None
        ``half_tanh(name, x)`` gives 0.5 tanh of a layer's result as the integer codec does.
    """

    def __init__(
        self, layers: Mapping[str, FloatLayer], q: Tensor, exact: Exact | None = None, half_tanh: Exact | None = None
    ) -> None:
        self.layers: Mapping[str, Any] = layers
        self._q, self._exact, self._half_tanh = q, exact, half_tanh

    def map(self, height: int, width: int, channels: int) -> Tensor:
        """A map, all zero.

        Parameters
        ----------
        height, width, channels : int
            Of its interior.

        Returns
        -------
        Tensor [height + 4, width + 4, channels, B]
        """
        return as_map(torch.zeros(self._q.numel(), channels, height, width, device=self._q.device))

    def channels(self, name: str) -> int:
        """Channels of a convolution's result."""
        return int(self.layers[name].op.channels)

    def show(self, name: str, values: Tensor) -> None:
        """Nothing: there is no trace."""

    def _done(self, name: str, value: Tensor, out: Tensor | None = None) -> Tensor:
        """Result [B, C, H, W] of an operation -> a map, or into a map."""
        value = self._exact(name, value) if self._exact else instead(value, value.detach())
        if out is None:
            return as_map(value)
        interior_of(out)[...] = value.permute(2, 3, 1, 0)
        return out

    def conv(
        self, name: str, x: Tensor, *, add: Tensor | None = None, parity: int = -1, out: Tensor | None = None
    ) -> Tensor:
        """(SPEC 5.3) Convolution; arguments and result are those of `Engine.conv`, as tensors."""
        layer = self.layers[name]
        op, weight, v = layer.op, layer.weight.permute(0, 3, 1, 2), as_batch(x)
        v = F.conv2d(v, weight, layer.bias, op.stride, op.kernel // 2, groups=op.channels if op.depthwise else 1)
        if op.shuffle:
            v = F.pixel_shuffle(v, 2)
        if parity >= 0:
            v = take(v, parity, 2)
        if add is not None:
            v = v + as_batch(add)
        return self._done(name, F.gelu(v) if op.gelu else v, out)

    def conv_sum(self, name: str, x: Tensor, total: str, skip: Tensor, out: Tensor | None = None) -> Tensor:
        """(SPEC 5.3, 5.4) Convolution, then a residual sum; arguments and result are those of `Engine.conv_sum`, as
        tensors.
        """
        return self.sum(total, skip, self.conv(name, x), out)

    def conv_halves(self, name: str, x: Tensor, outs: Mapping[int, Tensor], add: Tensor | None = None) -> None:
        """(SPEC 5.3, 6.3) Convolution into packed maps by parity; arguments are those of `Engine.conv_halves`, as
        tensors.
        """
        whole = self.conv(name, x, add=add)
        for parity, out in outs.items():
            self.half(whole, parity, out)

    def _root(self, name: str, v: Tensor) -> Tensor:
        layer = self.layers[name]
        return torch.sqrt(F.conv2d(v * v, layer.gamma[:, :, None, None], layer.beta))

    def gdn(self, name: str, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(SPEC 5.5) x / sqrt(beta + gamma x^2); arguments and result are those of `Engine.gdn`, as tensors."""
        v = as_batch(x)
        return self._done(name, v / self._root(name, v), out)

    def igdn(self, name: str, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(SPEC 5.5) x * sqrt(beta + gamma x^2); arguments and result are those of `Engine.igdn`, as tensors."""
        v = as_batch(x)
        return self._done(name, v * self._root(name, v), out)

    def sum(self, name: str, a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        """(SPEC 5.4) Residual sum; arguments and result are those of `Engine.sum`, as tensors."""
        return self._done(name, as_batch(a) + as_batch(b), out)

    def gain(self, name: str, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(SPEC 5.4) Multiplication by the gains of every picture's quality.

        Arguments and result are those of `Engine.gain`, as tensors.
        """
        return self._done(name, as_batch(x) * LoCLIC.gain_at(self.layers[name].log_gain, self._q), out)

    def rescale(self, name: str, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(SPEC 5.4) A copy, narrower in integers; arguments and result are those of `Engine.rescale`, as tensors."""
        return self._done(name, as_batch(x), out)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """(SPEC 5.6) Layer normalisation over channels, without its affine part."""
        v = as_batch(x)
        v = v - v.mean(1, keepdim=True)
        return self._done(name, v * torch.rsqrt(v.square().mean(1, keepdim=True) + NORM_EPSILON))

    def local_attention(self, name: str, qkv: Tensor) -> Tensor:
        """(SPEC 5.8) Windows of every non-anchor: [h, w / 2, 25 C] inside a map."""
        layer = self.layers[name]
        windows = take(qkv.unfold(0, 5, 1).unfold(1, 5, 1), 0)  # [h, w / 2, 3 C, B, 5, 5]
        h, half, c3, batch = windows.shape[:4]
        c, heads = c3 // 3, layer.op.heads
        q, k, v = windows.reshape(h * half, 3, heads, c // heads, batch, 25).permute(1, 0, 4, 2, 5, 3)
        odd = torch.arange(25, device=qkv.device) % 2 == 1  # row + column of a window of an odd width
        inside = as_map(torch.ones(1, 1, h, 2 * half, device=qkv.device))
        anchor = take(inside.unfold(0, 5, 1).unfold(1, 5, 1), 0).reshape(h * half, 25).bool() & odd
        hidden = anchor[:, :, None] & ~anchor[:, None, :]
        bias = layer.bias[_RELATIVE.to(qkv.device)].permute(2, 0, 1)
        logits = q @ k.transpose(-1, -2) + bias  # [positions, B, heads, 25, 25]
        logits = logits.masked_fill(hidden[:, None, None], -1e9)
        seen = (logits * math.log(2)).softmax(-1) @ v
        seen = seen.permute(1, 3, 2, 4, 0).reshape(batch, 25 * c, h, half)
        return self._done(name, seen)

    def linear_attention(
        self, name: str, queries: Tensor, keys: Tensor, values: Tensor, keys_at: int = -1, queries_at: int = -1
    ) -> Tensor:
        """(SPEC 5.9) Softmax of keys over positions, of queries over a head's channels.

        Arguments and result are those of `Engine.linear_attention`, as tensors.
        """
        heads = self.layers[name].op.heads

        def rows(x: Tensor, parity: int) -> Tensor:
            """A map -> [B, heads, channels of a head, positions]."""
            inside = interior_of(x) if parity < 0 else take(interior_of(x), parity)
            return inside.permute(3, 2, 0, 1).reshape(x.size(3), heads, x.size(2) // heads, -1)

        k = (rows(keys, keys_at) * math.log(2)).softmax(3)
        q = (rows(queries, queries_at) * math.log(2)).softmax(2)
        context = rows(values, keys_at) @ k.transpose(2, 3)
        seen = context @ q
        height, width = (n - 2 * BORDER for n in queries.shape[:2])
        if queries_at < 0:
            return self._done(name, seen.reshape(-1, queries.size(2), height, width))
        whole = seen.new_zeros(seen.size(0), queries.size(2), height, width)
        half = seen.reshape(-1, queries.size(2), height, width // 2)
        put(whole.permute(2, 3, 1, 0), queries_at, half.permute(2, 3, 1, 0))  # type: ignore[arg-type]
        return self._done(name, whole)

    def half(self, x: Tensor, parity: int, out: Tensor | None = None) -> Tensor:
        """(SPEC 6.3) One half of the checkerboard of a map: a packed map.

        Parameters
        ----------
        x : Tensor [h + 4, w + 4, C, B]
        parity : int
            ANCHOR or NONANCHOR.
        out : Tensor [h + 4, w / 2 + 4, C, B] or None
            Receives the result, if given.

        Returns
        -------
        Tensor [h + 4, w / 2 + 4, C, B]
        """
        packed = take(interior_of(x), parity)
        if out is None:
            return as_map(packed.permute(3, 2, 0, 1))
        interior_of(out)[...] = packed
        return out

    def masked(self, x: Tensor, parity: int) -> Tensor:
        """(SPEC 6.3) A copy that is zero outside one half of the checkerboard."""
        out: Any = self.map(x.size(0) - 2 * BORDER, x.size(1) - 2 * BORDER, x.size(2))
        values: Any = take(interior_of(x), parity)
        put(interior(out), parity, values)
        return out

    def half_tanh(self, name: str, x: Tensor) -> Tensor:
        """(SPEC 5.3) 0.5 tanh of a layer's packed result, [h, w / 2, C, B]."""
        v = interior_of(x)
        value = 0.5 * torch.tanh(v)
        return instead(value, self._half_tanh(name, v)) if self._half_tanh else value

    def levels_and_means(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(SPEC 6.8) Scales, in place of their levels, and means, both [h, w / 2, C, B]."""
        inside = interior_of(parameters).clone()
        half = inside.size(2) // 2
        return inside[:, :, :half], clamped(inside[:, :, half:])

    @staticmethod
    def reconstruct(symbols: Tensor, means: Tensor) -> Tensor:
        """(SPEC 6.9) Symbol + mean."""
        return clamped(symbols + means)

    def place(self, name: str, symbols: Tensor, means: Tensor, parity: int, y_hat: Tensor, current: Tensor) -> None:
        """(SPEC 6.9) Write symbols and means into one half of y_hat, and its context copy into current.

        Arguments are those of `Engine.place`, as tensors.
        """
        self._write(name, self.reconstruct(symbols, means), parity, y_hat, current)

    def add_residual(self, name: str, residual: str, x: Tensor, parity: int, y_hat: Tensor, current: Tensor) -> None:
        """(SPEC 6.9) Add 0.5 tanh of x, packed result of layer ``residual``, to one half of y_hat; update current.

        Arguments are those of `Engine.add_residual`, as tensors.
        """
        values = take(interior_of(y_hat), parity) + self.half_tanh(residual, x)
        self._write(name, clamped(values), parity, y_hat, current)

    def _write(self, name: str, values: Tensor, parity: int, y_hat: Any, current: Tensor) -> None:
        half: Any = values
        put(interior(y_hat), parity, half)
        self.rescale(name, y_hat, out=current)
