"""Training steps: gradients of a batch, and the change of the weights (optimiser.py).

All that a step does happens in memory that never moves. On a GPU it is captured as three graphs of kernels (graphs.py):
gradients, one for each stage and shape of batches; the change of the weights, one per stage; the turn of SOAP's bases.
In the stage `quantised` gradients are not captured, because the host takes part in them.

On a CPU every core runs its part of the batch forward and backward alone. Threads inside operators would wait for each
other after each of thousands of small operators. Sums over the parts have a fixed order, so the same number of threads
gives the same bits. Noise follows from the seed and the number of the step alone.

Measured on an H100 with the small default network, SOAP, 32 crops of 256 or 14 of 384: 18.3 steps per second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..network.model import Noise
from .graphs import Replay, channels_last
from .loss import Loss, Trainee, interpolated, loss_of
from .optimiser import Kind, Optimiser
from .pictures import Batch
from .plan import STAGES, Plan

DENSITY_RATE = 10.0
"""Learning rate of the density of z and its quantiles, in units of the plan's. These parameters start far from their
optimum and their loss is nearly convex, so large steps are safe. At the plan's rate z still cost 0.1 bits per pixel
after 1,100 steps."""

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


class _Rows(NamedTuple):
    """Inputs of a step from some pictures, on the device: samples, qualities, lambdas, and noise of y and z."""

    samples: Tensor
    quality: Tensor
    lambdas: Tensor
    noise_y: Tensor
    noise_z: Tensor


class _Inputs:
    """Inputs of a step from a batch, and the sums that it leaves, on the device; pinned copies are sent unwaited."""

    def __init__(self, shape: torch.Size, noise: Noise, device: torch.device) -> None:
        self._host = [torch.empty(shape, dtype=torch.uint8), torch.empty(shape[0]), torch.empty(shape[0])]
        if device.type == "cuda":
            self._host = [value.pin_memory() for value in self._host]
        samples, quality, lambdas = (value.to(device, copy=True) for value in self._host)
        self.rows = _Rows(samples, quality, lambdas, noise.y, noise.z)
        self.sums = torch.zeros(5, device=device)

    def fill(self, batch: Batch, lambdas: Tensor, noise: Noise) -> None:
        """Take a batch; the reader of ``sums`` has waited for the copies of the last one."""
        values = torch.from_numpy(batch.samples), torch.from_numpy(batch.quality), lambdas
        for host, value, there in zip(self._host, values, self.rows[:3], strict=True):
            host.copy_(value)
            there.copy_(host, non_blocking=True)
        self.rows.noise_y.copy_(noise.y)
        self.rows.noise_z.copy_(noise.z)


class Trainer:
    """Trains a network step by step.

    Parameters
    ----------
    trainee : Trainee
    average : Trainee
        Receives the moving average.
    plan : Plan
    device : torch.device
    threads : int
        On a CPU parts of a batch, on a GPU threads for eigenvectors.
    compiled : bool
        Pass the network through torch.compile; no graphs of kernels then.
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
        self.trainee, self.plan, self.device = trainee, plan, device
        self._forward: Callable[..., Any] = torch.compile(trainee) if compiled else trainee
        self._captured = device.type == "cuda" and not compiled
        self._cores = 1 if device.type == "cuda" else threads
        self._pool = ThreadPoolExecutor(threads, initializer=_one_thread if device.type == "cpu" else None)
        self._lambdas = plan.lambda_levels(trainee.net.config.qualities)
        self._generator = torch.Generator(device)
        self._parameters = dict(trainee.named_parameters())
        self._inputs: dict[torch.Size, _Inputs] = {}
        self._gradients: dict[tuple[str, torch.Size], Replay] = {}
        values, averages = (
            {name: parameter.detach() for name, parameter in module.named_parameters()} for module in (trainee, average)
        )
        kinds = {name: kind_of(name, value, plan) for name, value in values.items()}
        self.optimiser = Optimiser(values, averages, kinds, plan.optimiser == "soap", self._pool, self._captured)
        if self._captured:
            torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cuda.matmul.allow_tf32 = False  # rotations of the optimiser stay float32
            for transform in (trainee.net.g_a, trainee.net.g_s):
                channels_last(transform)

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

        Returns
        -------
        Outcome
        """
        self.trainee.prepare(stage)
        shape = torch.Size(batch.samples.shape)
        inputs = self._filled(batch, number)
        if (stage, shape) not in self._gradients:
            captured = self._captured and stage != "quantised"
            self._gradients[stage, shape] = Replay(lambda: self._differentiate(inputs, stage), captured)
        self._gradients[stage, shape]()
        *means, norm = inputs.sums.tolist()
        loss, bpp_y, bpp_z, mse = (value / len(batch.samples) for value in means)
        fault = fault_of(loss, norm, largest)
        if not fault:
            self.optimiser.step(stage, number, rate, momentum, min(1.0, self.plan.clip / (norm + 1e-6)))
        return Outcome(loss, bpp_y, bpp_z, mse, norm, fault)

    def _filled(self, batch: Batch, number: int) -> _Inputs:
        shape = torch.Size(batch.samples.shape)
        self._generator.manual_seed(int(np.random.SeedSequence([self.plan.seed, number]).generate_state(1)[0]))
        noise = self.trainee.net.noise(shape[0], shape[2], shape[3], self._generator)
        if shape not in self._inputs:
            self._inputs[shape] = _Inputs(shape, noise, self.device)
        inputs = self._inputs[shape]
        inputs.fill(batch, interpolated(self._lambdas, torch.from_numpy(batch.quality)), noise)
        return inputs

    def _differentiate(self, inputs: _Inputs, stage: str) -> None:
        """Gradients of a batch, added up over its parts, and sums of its loss."""
        names = [name for name in self._parameters if not name.startswith(UNUSED[stage])]
        count = len(inputs.rows.samples)
        bounds = [count * n // self._cores for n in range(self._cores + 1)]
        rows = [_Rows(*(x[a:b] for x in inputs.rows)) for a, b in pairwise(bounds) if a < b]
        work = [partial(self._part, part, stage, names, n == 0, count) for n, part in enumerate(rows)]
        parts = [work[0]()] if self.device.type == "cuda" else list(self._pool.map(lambda one: one(), work))
        self.optimiser.clear()
        sums = [self.optimiser.gradients[name] for name in names]
        for gradients, _ in parts:
            torch._foreach_add_(sums, gradients)
        total = [sum(values[1:], values[0]) for values in zip(*(loss for _, loss in parts), strict=True)]
        inputs.sums.copy_(torch.stack([*total, self.optimiser.norm()]))

    def _part(self, rows: _Rows, stage: str, names: list[str], first: bool, count: int) -> tuple[list[Tensor], Loss]:
        """Gradients of some of ``count`` pictures, zero where the loss does not reach, and their loss."""
        x = rows.samples.float().div_(255)
        net = self.trainee.net
        forward = self.trainee if stage == "quantised" else self._forward  # integers are not compiled
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.plan.precision == "bfloat16", cache_enabled=False
        ):
            coded = forward(x, rows.quality, Noise(rows.noise_y, rows.noise_z), stage)
        loss = loss_of(coded, x, rows.lambdas, self.plan.balance)
        objective = loss.total / count
        if first:
            objective = objective + net.entropy_bottleneck.quantile_loss()  # reaches the quantiles alone
        wanted = [self._parameters[name] for name in names]
        gradients = torch.autograd.grad(objective, wanted, allow_unused=True, materialize_grads=True)
        return [gradient.contiguous() for gradient in gradients], Loss(*(value.detach() for value in loss))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)


def kind_of(name: str, parameter: Tensor, plan: Plan) -> Kind:
    """Choose how a parameter is trained.

    Parameters
    ----------
    name : str
    parameter : Tensor
    plan : Plan

    Returns
    -------
    Kind
        Stages, factor of the learning rate, and weight decay.
    """
    stages = tuple(stage for stage in STAGES if not name.startswith(UNUSED[stage]))
    if name.startswith(DENSITY):
        return Kind(stages, DENSITY_RATE, clipped=name != QUANTILES)  # quantiles have a separate loss
    factor = plan.transform_rate if name.startswith(TRANSFORMS) else 1.0
    return Kind(stages, factor, plan.decay if parameter.ndim > 1 else 0.0)


def fault_of(loss: float, norm: float, largest: float) -> str:
    """Decide whether a step must change nothing.

    Parameters
    ----------
    loss, norm : float
        Of the step: loss, and norm of the gradient.
    largest : float
        A loss above is a fault.

    Returns
    -------
    str
        The reason, "" if the step may change the weights.
    """
    if not math.isfinite(loss):
        return "loss not finite"
    if not math.isfinite(norm):
        return "gradient not finite"
    return f"loss {loss:.4g} above {largest:.4g}" if loss > largest else ""


def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a mode of each thread
