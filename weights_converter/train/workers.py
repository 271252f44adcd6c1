"""One training step, shared out to cores: every core takes a part of the batch, then a part of the parameters.

Threads inside operators wait for each other after each of thousands of small operators, and where other programs use a
core they wait long. So each core runs its part of the batch forward and backward alone, and they meet twice a step:
before gradients are added and before weights change. The sums have a fixed order: the same number of threads gives the
same bits. On a GPU there is one part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .loss import Loss, Trainee, interpolated, loss_of
from .pictures import Batch
from .plan import Plan
from .soap import EPSILON, Soap

BETAS = (0.9, 0.999)
DENSITY_RATE = 10.0
"""Learning rate of the density of z and its quantiles, in units of the plan's: their values have far to go, and what
they cost is convex enough to go there fast. At the plan's rate z still cost 0.1 bits a pixel after 1,100 steps."""

UNUSED = {
    "transforms": (
        "net.local_context.",
        "net.channel_context.",
        "net.global_inter_context.",
        "net.global_intra_context.",
        "net.entropy_parameters_",
        "net.lrp_",
    ),
    "entropy": ("net.g_a.", "net.g_s.", "net.gain", "net.inv_gain", "shortcut."),
    "all": ("shortcut.",),
    "quantised": ("shortcut.",),
}
"""Beginnings of the names of parameters that a stage does not train."""

TRANSFORMS = ("net.g_a.", "net.g_s.")
DENSITY = "net.entropy_bottleneck."
QUANTILES = "net.entropy_bottleneck.quantiles"

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """Means over the batch, and what became of the step.

    Attributes
    ----------
    loss, bpp_y, bpp_z, mse : float
    norm : float
        Of the gradient, before clipping.
    fault : str
        Why the step changed nothing; empty if it did.
    """

    loss: float
    bpp_y: float
    bpp_z: float
    mse: float
    norm: float
    fault: str = ""


@dataclass(frozen=True)
class _Part:
    """What one core made of its part of a batch."""

    gradients: dict[str, Tensor]
    loss: Loss


class Workers:
    """Trains a network step by step.

    Parameters
    ----------
    trainee : Trainee
    average : Trainee
        Receives the moving average.
    plan : Plan
    device : torch.device
    threads : int
        Parts on a CPU.
    compiled : bool
        Pass the network through torch.compile.
    """

    def __init__(
        self,
        trainee: Trainee,
        average: Trainee,
        plan: Plan,
        device: torch.device,
        threads: int = 1,
        compiled: bool = False,
    ) -> None:
        self.trainee, self.average, self.plan, self.device = trainee, average, plan, device
        self.count = threads if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self.count, initializer=_one_thread if device.type == "cpu" else None)
        self._forward: Callable[..., Any] = torch.compile(trainee) if compiled else trainee
        self._lambdas = plan.lambda_levels(trainee.net.config["qualities"])
        self.names = [name for name, _ in trainee.named_parameters()]
        self._parameters = dict(trainee.named_parameters())
        self._averages = dict(average.named_parameters())
        self._dealt = _dealt(self._parameters, self.count)
        self._optimisers = [self._optimiser(names) for names in self._dealt]

    def _optimiser(self, names: Sequence[str]) -> torch.optim.Optimizer:
        """For some parameters: those with a rate of their own apart, vectors without weight decay."""
        kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name in names:
            parameter = self._parameters[name]
            kinds.setdefault(rate_and_decay(name, parameter, self.plan), []).append(parameter)
        groups = [
            {"params": parameters, "weight_decay": decay, "factor": factor}
            for (factor, decay), parameters in kinds.items()
        ]
        if self.plan.optimiser == "soap":
            return Soap(groups, self.plan.rate)
        return torch.optim.AdamW(groups, lr=self.plan.rate, betas=BETAS, eps=EPSILON, fused=True)

    def _each(self, work: Callable[[int], T]) -> list[T]:
        """Results of every core, in order."""
        return list(self._pool.map(work, range(self.count)))

    def step(
        self, batch: Batch, number: int, stage: str, rate: float, momentum: float, largest: float = math.inf
    ) -> Outcome:
        """Train on a batch.

        Parameters
        ----------
        batch : Batch
        number : int
            Of the step: it seeds the noise.
        stage : str
        rate : float
            Learning rate.
        momentum : float
            Of the moving average.
        largest : float
            A loss above is a fault.
        """
        self.trainee.prepare(stage)
        trained = [name for name in self.names if not name.startswith(UNUSED[stage])]
        bounds = [len(batch.samples) * n // self.count for n in range(self.count + 1)]

        def differentiate(n: int) -> _Part | None:
            if bounds[n] == bounds[n + 1]:
                return None
            part = Batch(batch.samples[bounds[n] : bounds[n + 1]], batch.quality[bounds[n] : bounds[n + 1]])
            return self._differentiate(part, [self.plan.seed, number, n], stage, trained, n == 0)

        parts = [part for part in self._each(differentiate) if part is not None]
        total = [sum(values[1:], values[0]) for values in zip(*(part.loss for part in parts), strict=True)]
        loss, bpp_y, bpp_z, mse = (value.item() / len(batch.samples) for value in total)
        shares = [[name for name in names if name in set(trained)] for names in self._dealt]

        def gather(n: int) -> float:
            """Sum up the gradients of this core's parameters; the square of their norm."""
            sums = [parts[0].gradients[name] for name in shares[n]]
            for part in parts[1:]:
                torch._foreach_add_(sums, [part.gradients[name] for name in shares[n]])
            for name, gradient in zip(shares[n], sums, strict=True):
                self._parameters[name].grad = gradient
            counted = [g for name, g in zip(shares[n], sums, strict=True) if name != QUANTILES]
            return float(torch.stack(torch._foreach_norm(counted)).double().square().sum()) if counted else 0.0

        norm = math.sqrt(sum(self._each(gather)))
        fault = fault_of(loss, norm, largest)
        if not fault:
            scale = min(1.0, self.plan.clip / (norm + 1e-6))
            self._each(lambda n: self._update(n, shares[n], rate, scale, momentum))
        for parameter in self._parameters.values():
            parameter.grad = None
        return Outcome(loss, bpp_y, bpp_z, mse, norm, fault)

    def _differentiate(self, batch: Batch, seed: list[int], stage: str, trained: list[str], first: bool) -> _Part:
        """Gradients of a part of a batch; zeros where the loss does not reach."""
        x = torch.from_numpy(batch.samples).to(self.device, non_blocking=True).float().div_(255)
        q = torch.from_numpy(batch.quality).to(self.device)
        generator = torch.Generator(self.device)
        generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        net = self.trainee.net
        forward = self.trainee if stage == "quantised" else self._forward  # integers are not compiled
        noise = net.noise(x.size(0), x.size(2), x.size(3), generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bfloat16"):
            coded = forward(x, q, noise, stage)
        loss = loss_of(coded, x, interpolated(self._lambdas, q), self.plan.balance)
        objective = loss.total / self.plan.batch
        if first:
            objective = objective + net.entropy_bottleneck.quantile_loss()  # reaches the quantiles alone
        wanted = [self._parameters[name] for name in trained]
        gradients = torch.autograd.grad(objective, wanted, allow_unused=True, materialize_grads=True)
        return _Part(dict(zip(trained, _apart(gradients), strict=True)), Loss(*(value.detach() for value in loss)))

    def _update(self, n: int, names: list[str], rate: float, scale: float, momentum: float) -> None:
        """Clip, step and average this core's parameters."""
        optimiser = self._optimisers[n]
        if scale < 1:
            gradients = (self._parameters[name].grad for name in names if name != QUANTILES)
            torch._foreach_mul_([g for g in gradients if g is not None], scale)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        optimiser.step()
        values = [self._parameters[name].detach() for name in names]
        torch._foreach_lerp_([self._averages[name].detach() for name in names], values, 1 - momentum)

    # The optimiser's state by parameter, whatever the number of cores.

    def moments(self) -> dict[str, Tensor]:
        """Everything the optimisers remember: ``NAME/exp_avg``, ``NAME/exp_avg_sq``, ``NAME/step``, of Soap more."""
        return {
            f"{name}/{key}": value
            for optimiser, names in zip(self._optimisers, self._dealt, strict=True)
            for name in names
            for key, value in optimiser.state.get(self._parameters[name], {}).items()
        }

    def load_moments(self, moments: dict[str, Tensor]) -> None:
        """Take over what ``moments`` gave."""
        kept: dict[str, dict[str, Tensor]] = {}
        for path, value in moments.items():
            name, _, key = path.partition("/")
            kept.setdefault(name, {})[key] = value.to(self.device, copy=True)
        for optimiser, names in zip(self._optimisers, self._dealt, strict=True):
            for name in names:
                if name in kept:
                    optimiser.state[self._parameters[name]] = kept[name]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _apart(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of which none shares memory: those of two biases that are only ever added may be one tensor."""
    seen: set[int] = set()
    apart = []
    for gradient in gradients:
        apart.append(gradient.clone() if gradient.data_ptr() in seen else gradient)
        seen.add(gradient.data_ptr())
    return apart


def rate_and_decay(name: str, parameter: Tensor, plan: Plan) -> tuple[float, float]:
    """Learning rate of a parameter, in units of the plan's, and its weight decay."""
    if name.startswith(DENSITY):
        return DENSITY_RATE, 0.0
    return (plan.transform_rate if name.startswith(TRANSFORMS) else 1.0), (plan.decay if parameter.ndim > 1 else 0.0)


def fault_of(loss: float, norm: float, largest: float) -> str:
    """Why a step must change nothing; empty if it may."""
    if not math.isfinite(loss):
        return "loss not finite"
    if not math.isfinite(norm):
        return "gradient not finite"
    return f"loss {loss:.4g} above {largest:.4g}" if loss > largest else ""


def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a mode of each thread


def _dealt(parameters: dict[str, nn.Parameter], count: int) -> list[list[str]]:
    """Names in ``count`` rows of about equal numbers of elements, each in the order of the network."""
    shares: list[set[str]] = [set() for _ in range(count)]
    loads = [0] * count
    for name in sorted(parameters, key=lambda n: -parameters[n].numel()):
        least = loads.index(min(loads))
        shares[least].add(name)
        loads[least] += parameters[name].numel()
    return [[name for name in parameters if name in share] for share in shares]
