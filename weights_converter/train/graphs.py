"""Work on a GPU that is captured once as a graph of kernels and then replayed, and a network arranged for that.

A training step is thousands of small operators, and a GPU ends each sooner than Python can ask for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WARM = 3
"""Runs before a capture, in which libraries choose their kernels."""


class Replay:
    """A function of memory that never moves.

    Parameters
    ----------
    work : callable
    captured : bool
        Capture a graph and replay it. Without, every call runs ``work``.
    kept : sequence of Tensor
        What the work changes; the runs before a capture leave it as it was.
    """

    def __init__(self, work: Callable[[], None], captured: bool, kept: Sequence[Tensor] = ()) -> None:
        self._run = work
        if not captured:
            return
        copies = [value.clone() for value in kept]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                work()
            for value, copy in zip(kept, copies, strict=True):
                value.copy_(copy)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        self._run = graph.replay

    def __call__(self) -> None:
        """Do the work."""
        self._run()


def channels_last(module: nn.Module) -> None:
    """Have a transform keep channels last in memory, as tensor cores want them."""
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(memory_format=torch.channels_last),))
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.PixelShuffle):
                setattr(parent, name, _PixelShuffle(child.upscale_factor))


class _PixelShuffle(nn.Module):
    """As PyTorch's, of maps with channels last in memory, which stay so."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """[B, C r r, H, W] -> [B, C, H r, W r]."""
        r, (batch, channels, height, width) = self.factor, x.shape
        parts = x.permute(0, 2, 3, 1).reshape(batch, height, width, channels // r**2, r, r)
        rows = parts.permute(0, 1, 4, 2, 5, 3).reshape(batch, height * r, width * r, channels // r**2)
        return rows.permute(0, 3, 1, 2)
