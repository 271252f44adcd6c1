"""SOAP (Vyas et al. 2024): Adam in the eigenbasis of each matrix's gradients, which turns slowly.

A gradient of weights [out, in, kh, kw] is a tensor of which the modes out and in are rotated: into the eigenvectors of
the running means of G G^T over each of them. Adam's second moments are taken there, where they are nearly independent,
so a step follows the curvature that Adam alone, which looks at each weight by itself, cannot see. Vectors, and modes
larger than `LARGEST`, are left as they are, and without any rotated mode this is Adam.

Bases begin with the eigenvectors of the first gradient. From then on cores of the host find eigenvectors while training
goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

LARGEST = 512
"""Modes beyond cost more time than they save steps: a rotation takes 2 n multiplications per weight."""

EVERY = 40
"""Steps between two copies of the means that bases come from; the bases are taken over half as many steps later."""

BETAS = (0.95, 0.99)
"""Momenta of the first moments, and of second moments and of the means that the bases come from."""


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


def rotated(values: Tensor, bases: Mapping[int, Tensor], back: bool = False) -> Tensor:
    """Rotate values into the bases, or back.

    Parameters
    ----------
    values : Tensor
    bases : mapping of int to Tensor
        By axis: 0 and 2. Columns of a basis are its vectors.
    back : bool

    Returns
    -------
    Tensor
        Of the same shape.
    """
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


class Bases:
    """Bases of all rotated modes and the means they come from, each kind in one piece of memory.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        Those whose modes are rotated.
    like : Tensor
        Of the device and type of the matrices.

    Attributes
    ----------
    grams, bases, following : Tensor
        [n] the running means of G G^T, the bases, and the bases that follow them.
    pending : bool
        Whether ``following`` was begun and is not in use yet.
    """

    def __init__(self, parameters: Mapping[str, Tensor], like: Tensor) -> None:
        places = [(name, mode) for name, parameter in parameters.items() for mode in modes(parameter)]
        self._places = {place: n for n, place in enumerate(places)}
        self._sizes = [parameters[name].size(0 if mode == 0 else 1) for name, mode in places]
        self._ends = np.cumsum([0] + [size * size for size in self._sizes]).tolist()
        self.grams, self.bases = (like.new_zeros(self._ends[-1]) for _ in range(2))
        for n in range(len(self._sizes)):
            self._at(self.bases, n).fill_diagonal_(1)
        self.following = self.bases.clone()
        self.pending = False
        self._found: list[Future[Tensor]] = []

    def _at(self, flat: Tensor, n: int) -> Tensor:
        return flat[self._ends[n] : self._ends[n + 1]].view(self._sizes[n], self._sizes[n])

    def of(self, flat: Tensor, name: str) -> dict[int, Tensor]:
        """Matrices of a parameter, by mode."""
        return {mode: self._at(flat, n) for mode in (0, 2) if (n := self._places.get((name, mode))) is not None}

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Begin to find the eigenvectors that the means have now."""
        grams = self.grams.to("cpu", copy=True)
        self._found = [pool.submit(_eigenvectors, self._at(grams, n)) for n in range(len(self._sizes))]
        self.pending = bool(self._found)

    def bring(self) -> None:
        """Wait for what `begin` began, and put it into ``following``."""
        if self._found:
            self.following.copy_(torch.cat([future.result().flatten() for future in self._found]))
            self._found = []


def _eigenvectors(gram: Tensor) -> Tensor:
    return torch.from_numpy(np.linalg.eigh(gram.double().numpy())[1]).to(gram.dtype)
