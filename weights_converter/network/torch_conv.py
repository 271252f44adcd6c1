"""3x3 convolution for training on CPUs: Winograd's, with a quarter of the multiplications, where it pays.

The backward pass takes the same products of matrices: one spread of the output's gradient serves the gradients of
inputs and of weights. Results differ from the direct sum by about 1e-5 of the largest. Elsewhere, and always without
gradients, PyTorch's own convolution runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_TILES = 64
"""Tiles of 4x4 outputs in a batch from which the products of matrices outweigh the transforms of weights."""

BAND_TILES = 128
"""Tiles that are spread at a time: few enough for the cache, enough for products of matrices."""

_PAD = 80
"""Numbers by which rows of spread tiles are longer than their tiles."""

_G = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_GG = torch.kron(_G, _G)
"""[36, 9]: G g G' of a filter as one matrix."""

_AVAILABLE = find_spec("numba") is not None

_allowed = False


def allow_winograd(allowed: bool) -> None:
    """Choose Winograd's convolution where it pays, or never; at first never."""
    global _allowed
    _allowed = allowed and _AVAILABLE


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with one zero on every side and stride 1.

    Parameters
    ----------
    x : Tensor
        [B, I, H, W].
    weight : Tensor
        [O, I, 3, 3].
    bias : Tensor or None
        [O].

    Returns
    -------
    Tensor
        [B, O, H, W].
    """
    if _allowed and torch.is_grad_enabled() and _pays(x, weight):
        return _Winograd.apply(x, weight, weight.new_zeros(weight.size(0)) if bias is None else bias)
    return F.conv2d(x, weight, bias, padding=1)


def _pays(x: Tensor, weight: Tensor) -> bool:
    batch, inputs, height, width = x.shape
    if (
        x.device.type != "cpu"
        or not x.dtype == weight.dtype == torch.float32
        or height % 4
        or width % 4
        or batch * height * width < 16 * LEAST_TILES
        or torch.is_autocast_enabled("cpu")
    ):
        return False
    from .winograd_kernels import LANES  # compiles the kernels the first time on a machine

    return inputs % LANES == 0 and weight.size(0) % LANES == 0


class _Bands:
    """Bands of rows of tiles, and memory for one: as rows for the kernels, as [36, T, C] for products."""

    def __init__(self, shape: torch.Size, *channels: int) -> None:
        batch, _, height, width = shape
        self._rows, self._columns = batch * height // 4, width // 4
        self._step = max(1, BAND_TILES // self._columns)
        self._memory = [torch.empty(36, self._step * self._columns * c + _PAD) for c in channels]
        self._channels = channels

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """First and last row; then for every number of channels the rows, a NumPy array, and the matrices."""
        for first in range(0, self._rows, self._step):
            last = min(self._rows, first + self._step)
            tiles = (last - first) * self._columns
            views = (
                (memory.numpy(), memory[:, : tiles * c].view(36, tiles, c))
                for memory, c in zip(self._memory, self._channels, strict=True)
            )
            yield first, last, *(part for view in views for part in view)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        from .winograd_kernels import gather_outputs, spread_inputs

        x = x.contiguous()
        outputs, inputs = weight.shape[:2]
        u = (_GG @ weight.reshape(-1, 9).t()).view(36, outputs, inputs)
        y = x.new_empty(x.size(0), outputs, *x.shape[2:])
        for first, last, v, v_matrices, m, m_matrices in _Bands(x.shape, inputs, outputs):
            spread_inputs(x.numpy(), v, first, last)
            torch.bmm(v_matrices, u.transpose(1, 2), out=m_matrices)
            gather_outputs(y.numpy(), bias.numpy(), m, first, last)
        ctx.save_for_backward(x, u)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from .winograd_kernels import gather_inputs, spread_inputs, spread_outputs

        x, u = ctx.saved_tensors
        dy = gradients[0].contiguous()
        outputs, inputs = u.shape[1:]
        dx, du = torch.zeros_like(x), torch.zeros_like(u)
        for first, last, v, v_matrices, m, m_matrices in _Bands(x.shape, inputs, outputs):
            spread_inputs(x.numpy(), v, first, last)  # again: cheaper than to keep it in memory
            spread_outputs(dy.numpy(), m, first, last)
            du.baddbmm_(m_matrices.transpose(1, 2), v_matrices)
            torch.bmm(m_matrices, u, out=v_matrices)
            gather_inputs(dx.numpy(), v, first, last)
        dw = (_GG.t() @ du.view(36, -1)).t().reshape(outputs, inputs, 3, 3)
        return dx, dw, dy.sum((0, 2, 3))
