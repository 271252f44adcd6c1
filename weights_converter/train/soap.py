"""SOAP (Vyas et al. 2024): Adam in the eigenbasis of each matrix's gradients, which turns slowly.

A gradient of weights [out, in, kh, kw] is a tensor of which the modes out and in are rotated: into the eigenvectors of
the running means of G G^T over each of them. Adam's second moments are taken there, where they are nearly independent,
so a step follows the curvature that Adam alone, which looks at each weight by itself, cannot see. Vectors, and modes
larger than `LARGEST`, are left as they are, and without any rotated mode this is Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

LARGEST = 512
"""Modes beyond cost more time than they save steps: a rotation takes 2 n multiplications a weight."""

EVERY = 10
"""Steps between two turns of the bases; each is one step of the power iteration."""

BETAS = (0.95, 0.99)
"""Momenta of the first moments, and of second moments and of the means that the bases come from."""

EPSILON = 1e-12


class Soap(torch.optim.Optimizer):
    """The optimiser; groups may have ``lr`` and ``weight_decay`` of their own.

    Parameters
    ----------
    params : iterable
        As for every optimiser of PyTorch.
    lr : float
    weight_decay : float
        Decoupled, as AdamW's.
    """

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Change every parameter that has a gradient; a closure is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _step(parameter, self.state[parameter], group["lr"], group["weight_decay"])
        return None


def modes(parameter: Tensor) -> list[int]:
    """Which modes of a parameter, as [out, kh kw, in], are rotated."""
    if parameter.ndim < 2:
        return []
    return [mode for mode, size in ((0, parameter.size(0)), (2, parameter.size(1))) if 1 < size <= LARGEST]


def inner(values: Tensor) -> Tensor:
    """[out, in, ...] as [out, ..., in], in three modes: both rotations are products of matrices then."""
    return values.flatten(2).transpose(1, 2).contiguous() if values.ndim > 2 else values.unsqueeze(1)


def outer(values: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `inner`."""
    return values.transpose(1, 2).reshape(shape)


def rotated(values: Tensor, bases: dict[int, Tensor], back: bool = False) -> Tensor:
    """Into the bases, or back; columns of a basis are its vectors."""
    if 0 in bases:
        basis = bases[0] if back else bases[0].T
        values = (basis @ values.flatten(1)).view(values.shape)
    if 2 in bases:
        values = values @ (bases[2].T if back else bases[2])
    return values


def gram(values: Tensor, mode: int) -> Tensor:
    """G G^T of a gradient [out, ..., in] over a mode."""
    rows = values.flatten(1) if mode == 0 else values.flatten(0, 1).T
    return rows @ rows.T


def _step(parameter: Tensor, state: dict[str, Tensor], rate: float, decay: float) -> None:
    which = modes(parameter)
    gradient = inner(parameter.grad) if which else parameter.grad  # type: ignore[arg-type]
    assert gradient is not None
    if not state:  # the first gradient says only where to look: in bases of its own it would be degenerate
        state["step"] = torch.zeros(())
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        for mode in which:
            state[f"gram_{mode}"] = gram(gradient, mode)
            state[f"basis_{mode}"] = torch.linalg.eigh(state[f"gram_{mode}"])[1].flip(1).contiguous()
        if which:
            return
    state["step"] = state["step"].cpu() + 1  # on a GPU, reading it would wait for everything before
    count = int(state["step"])
    bases = {mode: state[f"basis_{mode}"] for mode in which}
    seen = rotated(gradient, bases)
    mean, square = state["exp_avg"].lerp_(seen, 1 - BETAS[0]), state["exp_avg_sq"]
    square.mul_(BETAS[1]).addcmul_(seen, seen, value=1 - BETAS[1])
    scale = (square / (1 - BETAS[1] ** count)).sqrt_().add_(EPSILON)
    change = rotated(mean / scale, bases, back=True).div_(1 - BETAS[0] ** count)
    if decay:
        parameter.mul_(1 - rate * decay)
    parameter.sub_(outer(change, parameter.shape) if which else change, alpha=rate)
    for mode in which:
        state[f"gram_{mode}"].lerp_(gram(gradient, mode), 1 - BETAS[1])
    if which and count % EVERY == 0:
        _turn(state, bases)


def _turn(state: dict[str, Tensor], bases: dict[int, Tensor]) -> None:
    """Turn the bases towards the eigenvectors of the means, largest first, and the moments with them."""
    mean, square = rotated(state["exp_avg"], bases, back=True), state["exp_avg_sq"]
    turned = {}
    for mode, basis in bases.items():
        product = state[f"gram_{mode}"] @ basis
        order = (basis * product).sum(0).argsort(descending=True, stable=True)
        square = square.index_select(mode, order)
        turned[mode] = state[f"basis_{mode}"] = torch.linalg.qr(product[:, order])[0]
    state["exp_avg"], state["exp_avg_sq"] = rotated(mean, turned), square
