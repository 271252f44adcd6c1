"""The change of the weights: Adam, or SOAP (soap.py), with clipped gradients, and the moving average of the weights.

Everything is in memory that never moves, so that graphs of kernels can hold the work (graphs.py). Parameters of one
kind have one rate and one history, a cohort. Cohorts are dealt to parts that change at the same time: on streams of a
GPU, because their kernels are too small to fill it alone, or on cores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from . import soap
from .graphs import Replay

BETAS = (0.9, 0.999)
"""Momenta of Adam's first and second moments."""

EPSILON = 1e-12
"""Added to the deviation of a gradient; with 1e-8, small gradients of the entropy model were lost (training.md)."""

PARTS = 4
"""Parts of the weights that change at the same time."""


@dataclass(frozen=True)
class Kind:
    """State that the parameters of a cohort share.

    Attributes
    ----------
    stages : tuple of str
        Stages that train them.
    factor : float
        Their learning rate in units of the plan's.
    decay : float
        Decoupled weight decay.
    clipped : bool
        Whether their gradients count in the norm and are clipped.
    """

    stages: tuple[str, ...]
    factor: float = 1.0
    decay: float = 0.0
    clipped: bool = True


@dataclass(eq=False)
class _Cohort:
    """Parameters of a kind, all rotated or none, in parts; ``rate`` and ``keep`` are scalars that a graph reads.

    They have ``begun`` with their first gradient. Of rotated ones it only gives the bases, in which it is degenerate.
    """

    kind: Kind
    parts: list[list[str]]
    rate: Tensor
    keep: Tensor
    rotated: bool
    begun: bool = False
    count: int = 0

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [name for part in self.parts for name in part]


class Optimiser:
    """Changes tensors by their gradients.

    Parameters
    ----------
    values : mapping of str to Tensor
        What is trained, changed in place; all on one device and of one type.
    averages : mapping of str to Tensor
        Receive the moving average.
    kinds : mapping of str to Kind
    rotated : bool
        SOAP instead of Adam.
    pool : ThreadPoolExecutor
        Finds eigenvectors, and on a CPU changes the parts.
    captured : bool
        Replay the work as graphs, on a GPU.

    Attributes
    ----------
    gradients : dict of str to Tensor
        To be filled before a step; zero for what has none.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        averages: Mapping[str, Tensor],
        kinds: Mapping[str, Kind],
        rotated: bool,
        pool: ThreadPoolExecutor,
        captured: bool = False,
    ) -> None:
        ordered = sorted(values, key=lambda name: not kinds[name].clipped)
        self._values = {name: values[name] for name in ordered}
        self._averages, self._rotated, self._pool, self._captured = averages, rotated, pool, captured
        self._betas = soap.BETAS if rotated else BETAS
        like = next(iter(values.values()))
        sizes = [value.numel() for value in self._values.values()]
        self._flat = like.new_zeros(sum(sizes))
        self._clipped = self._flat[: sum(n for name, n in zip(ordered, sizes, strict=True) if kinds[name].clipped)]
        self.gradients = {
            name: part.view(values[name].shape) for name, part in zip(ordered, self._flat.split(sizes), strict=True)
        }
        self._mean, self._square = (
            {name: torch.zeros_like(self._inner(name, value)) for name, value in self._values.items()} for _ in range(2)
        )
        self._bases = soap.Bases(values if rotated else {}, like)
        self._scale, self._share = like.new_ones(()), like.new_ones(())
        self._cohorts = self._gathered(kinds, like)
        self._streams = [torch.cuda.Stream() for _ in range(PARTS)] if like.is_cuda else []
        self._change: dict[str, Replay] = {}
        self._turn: Replay | None = None

    def _gathered(self, kinds: Mapping[str, Kind], like: Tensor) -> list[_Cohort]:
        names: dict[tuple[Kind, bool], list[str]] = {}
        for name in self._values:
            names.setdefault((kinds[name], self._has_modes(name)), []).append(name)
        cohorts = []
        for (kind, rotated), members in names.items():
            members.sort(key=lambda name: -self._values[name].numel())
            parts = [members[n::PARTS] for n in range(PARTS)]
            cohorts.append(_Cohort(kind, parts, like.new_zeros(()), like.new_ones(()), rotated))
        return cohorts

    # Layout: a rotated parameter as [out, kh kw, in].

    def _has_modes(self, name: str) -> bool:
        return self._rotated and bool(soap.modes(self._values[name]))

    def _inner(self, name: str, value: Tensor) -> Tensor:
        return soap.inner(value) if self._has_modes(name) else value

    def clear(self) -> None:
        """Make all gradients zero."""
        self._flat.zero_()

    def norm(self) -> Tensor:
        """Norm of the gradients that are clipped, a scalar on the device."""
        return self._clipped.square().sum().sqrt()

    def step(self, stage: str, number: int, rate: float, momentum: float, scale: float = 1.0) -> None:
        """Change and average what a stage trains.

        Parameters
        ----------
        stage : str
        number : int
            Of the step: it decides when bases turn.
        rate : float
            The plan's learning rate.
        momentum : float
            Of the moving average.
        scale : float
            Factor by which gradients are clipped.
        """
        cohorts = [cohort for cohort in self._cohorts if stage in cohort.kind.stages]
        fresh = [cohort for cohort in cohorts if cohort.rotated and not cohort.begun]
        if fresh:
            self._take_bases(fresh)
        for cohort in cohorts:
            cohort.begun = True
            if cohort in fresh:
                continue
            cohort.count += 1
            first, second = (1 - beta**cohort.count for beta in self._betas)
            cohort.rate.fill_(rate * cohort.kind.factor * math.sqrt(second) / first)
            cohort.keep.fill_(1 - rate * cohort.kind.factor * cohort.kind.decay)
        self._scale.fill_(scale)
        self._share.fill_(1 - momentum)
        if stage not in self._change:
            self._change[stage] = Replay(partial(self._change_all, cohorts), self._captured, self._memory())
        self._change[stage]()
        if number % soap.EVERY == 0:
            self._bases.begin(self._pool)
        elif number % soap.EVERY == soap.EVERY // 2 and self._bases.pending:
            self._follow()

    def _take_bases(self, cohorts: list[_Cohort]) -> None:
        """Take the bases of some cohorts from their gradients, which then are zero: nothing else changes by them."""
        for cohort in cohorts:
            cohort.rate.zero_()
            for name in cohort.names:
                for mode, gram in self._bases.of(self._bases.grams, name).items():
                    gram.copy_(soap.gram(self._inner(name, self.gradients[name]), mode))
                self.gradients[name].zero_()
        self._bases.begin(self._pool)
        self._follow()

    def _follow(self) -> None:
        """Turn to the bases that were begun."""
        self._bases.bring()
        self._turn = self._turn or Replay(self._turn_all, self._captured, self._memory())
        self._turn()
        self._bases.pending = False

    def _memory(self) -> list[Tensor]:
        """All that the work changes."""
        rows = (self._values, self._averages, self._mean, self._square)
        return [self._flat, self._bases.grams, self._bases.bases, *(value for row in rows for value in row.values())]

    def _change_all(self, cohorts: list[_Cohort]) -> None:
        self._clipped.mul_(self._scale)
        if not self._streams:
            list(self._pool.map(partial(self._change_part, cohorts), range(PARTS)))
            return
        here = torch.cuda.current_stream()
        for part, stream in enumerate(self._streams):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                self._change_part(cohorts, part)
        for stream in self._streams:
            here.wait_stream(stream)

    def _change_part(self, cohorts: list[_Cohort], part: int) -> None:
        for cohort in cohorts:
            if names := cohort.parts[part]:
                self._change_of(names, cohort)

    def _change_of(self, names: list[str], cohort: _Cohort) -> None:
        gradients = [self._inner(name, self.gradients[name]) for name in names]
        bases = [self._bases.of(self._bases.bases, name) for name in names]
        seen = [soap.rotated(g, basis) for g, basis in zip(gradients, bases, strict=True)]
        mean, square = [self._mean[name] for name in names], [self._square[name] for name in names]
        torch._foreach_lerp_(mean, seen, 1 - self._betas[0])
        torch._foreach_mul_(square, self._betas[1])
        torch._foreach_addcmul_(square, seen, seen, 1 - self._betas[1])
        scale = torch._foreach_sqrt(square)
        torch._foreach_add_(scale, EPSILON)
        change = [
            soap.rotated(c, basis, back=True) for c, basis in zip(torch._foreach_div(mean, scale), bases, strict=True)
        ]
        # With this name, since the others take a scalar tensor for a number and wait for it.
        multiply = torch.ops.aten._foreach_mul_.Tensor
        multiply(change, cohort.rate)
        values = [self._values[name] for name in names]
        if cohort.kind.decay:
            multiply(values, cohort.keep)
        moved = [
            soap.outer(c, value.shape) if self._has_modes(name) else c
            for name, c, value in zip(names, change, values, strict=True)
        ]
        torch._foreach_sub_(values, moved)
        averages = [self._averages[name] for name in names]
        gaps = torch._foreach_sub(values, averages)
        multiply(gaps, self._share)
        torch._foreach_add_(averages, gaps)
        grams = [
            (gram, soap.gram(gradient, mode))
            for name, gradient in zip(names, gradients, strict=True)
            for mode, gram in self._bases.of(self._bases.grams, name).items()
        ]
        if grams:
            torch._foreach_lerp_([gram for gram, _ in grams], [new for _, new in grams], 1 - self._betas[1])

    def _turn_all(self) -> None:
        """Take the moments into the bases that follow: means exactly, squares as if coordinates were independent."""
        for name in self._values:
            old, new = (self._bases.of(flat, name) for flat in (self._bases.bases, self._bases.following))
            between = {mode: basis.T @ new[mode] for mode, basis in old.items()}
            if between:
                self._mean[name].copy_(soap.rotated(self._mean[name], between))
                squared = {mode: turn.square() for mode, turn in between.items()}
                self._square[name].copy_(soap.rotated(self._square[name], squared))
        self._bases.bases.copy_(self._bases.following)

    def _matrices(self) -> dict[str, Tensor]:
        """The matrices of the bases by name; those that follow only while they are pending."""
        kinds = {"gram": self._bases.grams, "basis": self._bases.bases}
        if self._bases.pending:
            self._bases.bring()
            kinds["following"] = self._bases.following
        return {
            f"{name}/{kind}_{mode}": matrix
            for name in self._values
            for kind, flat in kinds.items()
            for mode, matrix in self._bases.of(flat, name).items()
        }

    def moments(self) -> dict[str, Tensor]:
        """All that the optimiser remembers: ``NAME/exp_avg``, ``NAME/exp_avg_sq``, ``NAME/step``, of SOAP matrices."""
        found: dict[str, Tensor] = {}
        for cohort in self._cohorts:
            for name in cohort.names if cohort.begun else ():
                found |= {
                    f"{name}/exp_avg": self._mean[name],
                    f"{name}/exp_avg_sq": self._square[name],
                    f"{name}/step": torch.tensor(float(cohort.count)),
                }
        return found | self._matrices() if found else {}

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Take over what ``moments`` gave; what is not in it stays as it is."""
        for cohort in self._cohorts:
            for name in (name for name in cohort.names if f"{name}/step" in moments):
                cohort.begun, cohort.count = True, int(moments[f"{name}/step"])
                self._mean[name].copy_(moments[f"{name}/exp_avg"])
                self._square[name].copy_(moments[f"{name}/exp_avg_sq"])
        self._bases.pending = any("/following_" in name for name in moments)
        for name, matrix in self._matrices().items():
            if name in moments:
                matrix.copy_(moments[name])
