"""Training steps on a GPU: captured once as graphs of kernels, then replayed.

A step is thousands of small operators, and a GPU ends each sooner than Python can ask for the next. So everything a
step does lies in memory that never moves, and is captured as three graphs: gradients (one for each stage and shape of
batches), the change of the weights (one a stage), and the turn of the bases that SOAP (soap.py) keeps. Those are
eigenvectors of small matrices: cores of the host find them meanwhile, from copies. They begin as the identity.

On a CPU the same work is done without graphs, for the tests. In the stage `quantised`, gradients are not captured,
since the host takes part in them.

Measured on an H100 with the small default network, SOAP, 32 crops of 256 or 14 of 384: 18.3 steps a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..network.model import Noise
from . import soap
from .loss import Trainee, loss_of
from .pictures import Batch
from .plan import STAGES, Plan
from .workers import BETAS, QUANTILES, UNUSED, Outcome, fault_of, rate_and_decay

EVERY = 40
"""Steps between two copies of the means that bases come from; the bases are taken over half as many steps later."""

STREAMS = 4
"""Parts of the weights that change side by side: their kernels are too small to fill a GPU alone."""

WARM = 3
"""Runs before a capture, in which libraries choose their kernels."""


@dataclass
class _Cohort:
    """Parameters with one rate and one history, in parts for the streams.

    Attributes
    ----------
    parts : list of list of str
    stages : tuple of str
        Those that train them.
    factor, decay : float
    rate : Tensor
        Scalar, with Adam's bias corrections.
    count : int
        Steps so far.
    """

    parts: list[list[str]]
    stages: tuple[str, ...]
    factor: float
    decay: float
    rate: Tensor
    count: int = 0


class _Inputs:
    """What a step reads of a batch, and the sums that it leaves, on the device; pinned copies are sent unwaited."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        count = len(batch.samples)
        self._host = [torch.empty(batch.samples.shape, dtype=torch.uint8), torch.empty(count), torch.empty(count)]
        if device.type == "cuda":
            self._host = [value.pin_memory() for value in self._host]
        self.samples, self.quality, self.lambdas = (value.to(device, copy=True) for value in self._host)
        self.sums = torch.zeros(5, device=device)

    def fill(self, batch: Batch, lambdas: np.ndarray) -> None:
        """Take a batch; whoever read ``sums`` since the last has waited for the copies."""
        values = batch.samples, batch.quality, lambdas
        for host, value, there in zip(self._host, values, (self.samples, self.quality, self.lambdas), strict=True):
            host.copy_(torch.from_numpy(value))
            there.copy_(host, non_blocking=True)


class _Replay:
    """A function of memory that never moves."""

    def __init__(self, work: Callable[[], None], captured: bool, kept: Sequence[Tensor] = ()) -> None:
        """Capture it, or not; ``kept`` is what it changes and must not have changed by that."""
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
        self._run()


class _Bases:
    """Bases of all rotated modes and the means they come from, each in one piece of memory."""

    def __init__(self, parameters: dict[str, nn.Parameter], device: torch.device) -> None:
        sizes = [
            (name, mode, parameter.size(0 if mode == 0 else 1))
            for name, parameter in parameters.items()
            for mode in soap.modes(parameter)
        ]
        self._ends = np.cumsum([0] + [size * size for _, _, size in sizes]).tolist()
        self._sizes = [size for _, _, size in sizes]
        self.grams, self.bases, self.turned = (torch.zeros(self._ends[-1], device=device) for _ in range(3))
        self._places = {(name, mode): n for n, (name, mode, _) in enumerate(sizes)}
        for n in range(len(sizes)):
            self._at(self.bases, n).fill_diagonal_(1)

    def _at(self, flat: Tensor, n: int) -> Tensor:
        return flat[self._ends[n] : self._ends[n + 1]].view(self._sizes[n], self._sizes[n])

    def of(self, flat: Tensor, name: str) -> dict[int, Tensor]:
        """Matrices of a parameter, by mode."""
        return {mode: self._at(flat, n) for mode in (0, 2) if (n := self._places.get((name, mode))) is not None}

    def eigenvectors(self, pool: ThreadPoolExecutor) -> list[Future[Tensor]]:
        """Begin to find the bases that the means have now."""
        grams = self.grams.cpu()
        return [pool.submit(_eigenvectors, self._at(grams, n)) for n in range(len(self._sizes))]

    def bring(self, found: list[Future[Tensor]]) -> None:
        """Put what was found where the turn reads it."""
        if found:
            self.turned.copy_(torch.cat([future.result().flatten() for future in found]))


def _eigenvectors(gram: Tensor) -> Tensor:
    return torch.linalg.eigh(gram.double())[1].float()


class Replayed:
    """Trains a network step by step, as ``Workers`` does.

    Parameters
    ----------
    trainee, average : Trainee
        On the device; average receives the moving average.
    plan : Plan
    device : torch.device
    threads : int
        For eigenvectors.
    """

    def __init__(self, trainee: Trainee, average: Trainee, plan: Plan, device: torch.device, threads: int = 1) -> None:
        self.trainee, self.average, self.plan, self.device = trainee, average, plan, device
        self._lambdas = np.log(plan.lambda_levels(trainee.net.config["qualities"]))
        self._parameters = dict(trainee.named_parameters())
        self._values = {name: parameter.detach() for name, parameter in self._parameters.items()}
        self._averages = {name: parameter.detach() for name, parameter in average.named_parameters()}
        self._flat = torch.zeros(sum(value.numel() for value in self._values.values()), device=device)
        parts = self._flat.split([value.numel() for value in self._values.values()])
        self._gradients = {
            name: part.view(value.shape) for (name, value), part in zip(self._values.items(), parts, strict=True)
        }
        self._adam = plan.optimiser != "soap"
        self._betas = BETAS if self._adam else soap.BETAS
        self._mean, self._square = (
            {name: torch.zeros_like(self._inner(name, value)) for name, value in self._values.items()} for _ in range(2)
        )
        self._bases = _Bases({} if self._adam else self._parameters, device)
        self._scale, self._share = torch.ones((), device=device), torch.ones((), device=device)
        self._cohorts = self._gathered()
        self._inputs: dict[tuple[str, torch.Size], _Inputs] = {}
        self._differentiate: dict[tuple[str, torch.Size], _Replay] = {}
        self._change: dict[str, _Replay] = {}
        self._turn: _Replay | None = None
        self._found: list[Future[Tensor]] = []
        self._pool = ThreadPoolExecutor(threads)
        self._streams: list[torch.cuda.Stream] = []
        self._captured = device.type == "cuda"
        if self._captured:
            self._streams = [torch.cuda.Stream() for _ in range(STREAMS)]
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cuda.matmul.allow_tf32 = False  # rotations of the optimiser stay float32
            for transform in (trainee.net.g_a, trainee.net.g_s):
                _last(transform)
        torch.manual_seed(plan.seed)

    def _gathered(self) -> list[_Cohort]:
        kinds: dict[tuple[float, float, tuple[str, ...], bool], list[str]] = {}
        for name, parameter in self._parameters.items():
            stages = tuple(stage for stage in STAGES if not name.startswith(UNUSED[stage]))
            kind = (*rate_and_decay(name, parameter, self.plan), stages, self._rotated(name))
            kinds.setdefault(kind, []).append(name)
        cohorts = []
        for (factor, decay, stages, _), names in kinds.items():
            parts: list[list[str]] = [[] for _ in range(STREAMS)]
            for n, name in enumerate(sorted(names, key=lambda name: -self._values[name].numel())):
                parts[n % STREAMS].append(name)
            cohorts.append(_Cohort(parts, stages, factor, decay, torch.zeros((), device=self.device)))
        return cohorts

    # Layout: a rotated parameter as [out, kh kw, in].

    def _inner(self, name: str, value: Tensor) -> Tensor:
        return soap.inner(value) if self._rotated(name) else value

    def _rotated(self, name: str) -> bool:
        return not self._adam and bool(soap.modes(self._parameters[name]))

    def step(
        self, batch: Batch, number: int, stage: str, rate: float, momentum: float, largest: float = math.inf
    ) -> Outcome:
        """Train on a batch; the arguments are those of ``Workers.step``."""
        key = stage, torch.Size(batch.samples.shape)
        if key not in self._differentiate:
            self._inputs[key] = _Inputs(batch, self.device)
        inputs = self._inputs[key]
        inputs.fill(batch, self._interpolated(batch.quality))
        if key not in self._differentiate:
            captured = self._captured and stage != "quantised"  # integers are computed on the host
            self._differentiate[key] = _Replay(lambda: self._gradients_of(inputs, stage), captured)
        self.trainee.prepare(stage)
        self._differentiate[key]()
        *means, norm = inputs.sums.tolist()
        loss, bpp_y, bpp_z, mse = (value / len(batch.samples) for value in means)
        fault = fault_of(loss, norm, largest)
        if not fault:
            self._update(stage, rate, norm, momentum)
        return Outcome(loss, bpp_y, bpp_z, mse, norm, fault)

    def _interpolated(self, quality: np.ndarray) -> np.ndarray:
        return np.exp(np.interp(quality, range(len(self._lambdas)), self._lambdas)).astype(np.float32)

    def _gradients_of(self, inputs: _Inputs, stage: str) -> None:
        x = inputs.samples.float().div_(255)
        net, (count, _, height, width) = self.trainee.net, x.shape
        noise = Noise(
            *(
                torch.rand(count, channels, height // stride, width // stride, device=self.device).sub_(0.5)
                for channels, stride in ((net.config["M"], 16), (net.config["hyper"], 64))
            )
        )
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.plan.precision == "bfloat16", cache_enabled=False
        ):
            coded = self.trainee(x, inputs.quality, noise, stage)
        loss = loss_of(coded, x, inputs.lambdas, self.plan.balance)
        objective = loss.total / self.plan.batch + net.entropy_bottleneck.quantile_loss()
        names = [name for name in self._values if not name.startswith(UNUSED[stage])]
        found = torch.autograd.grad(
            objective, [self._parameters[name] for name in names], allow_unused=True, materialize_grads=True
        )
        self._flat.zero_()
        torch._foreach_copy_([self._gradients[name] for name in names], [gradient.contiguous() for gradient in found])
        square = self._flat.square().sum() - self._gradients[QUANTILES].square().sum()
        inputs.sums.copy_(torch.stack([*loss, square.sqrt()]).detach())

    def _update(self, stage: str, rate: float, norm: float, momentum: float) -> None:
        cohorts = [cohort for cohort in self._cohorts if stage in cohort.stages]
        for cohort in cohorts:
            cohort.count += 1
            first, second = (1 - beta**cohort.count for beta in self._betas)
            cohort.rate.fill_(rate * cohort.factor * math.sqrt(second) / first)
        self._scale.fill_(min(1.0, self.plan.clip / (norm + 1e-6)))
        self._share.fill_(1 - momentum)
        if stage not in self._change:
            self._change[stage] = _Replay(lambda: self._side_by_side(cohorts), self._captured, self._kept())
        self._change[stage]()
        if not self._adam:
            self._follow(cohorts[0].count)

    def _kept(self) -> list[Tensor]:
        return [
            *self._values.values(),
            *self._averages.values(),
            *self._mean.values(),
            *self._square.values(),
            self._bases.grams,
            self._bases.bases,
        ]

    def _side_by_side(self, cohorts: list[_Cohort]) -> None:
        """Step and average what a stage trains."""
        own = self._gradients[QUANTILES].clone()  # has another loss
        self._flat.mul_(self._scale)
        self._gradients[QUANTILES].copy_(own)
        if not self._streams:
            for part in range(STREAMS):
                self._change_part(cohorts, part)
            return
        here = torch.cuda.current_stream()
        for part, stream in enumerate(self._streams):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                self._change_part(cohorts, part)
        for stream in self._streams:
            here.wait_stream(stream)

    def _change_part(self, cohorts: list[_Cohort], part: int) -> None:
        """Step and average one part of the parameters."""
        for cohort in cohorts:
            if names := cohort.parts[part]:
                self._change_of(names, cohort)

    def _change_of(self, names: list[str], cohort: _Cohort) -> None:
        gradients = [self._inner(name, self._gradients[name]) for name in names]
        bases = [self._bases.of(self._bases.bases, name) for name in names]
        seen = [soap.rotated(g, basis) for g, basis in zip(gradients, bases, strict=True)]
        mean, square = [self._mean[name] for name in names], [self._square[name] for name in names]
        torch._foreach_lerp_(mean, seen, 1 - self._betas[0])
        torch._foreach_mul_(square, self._betas[1])
        torch._foreach_addcmul_(square, seen, seen, 1 - self._betas[1])
        scale = torch._foreach_sqrt(square)
        torch._foreach_add_(scale, soap.EPSILON)
        change = [
            soap.rotated(c, basis, back=True) for c, basis in zip(torch._foreach_div(mean, scale), bases, strict=True)
        ]
        # with this name, since the others take a scalar tensor for a number and wait for it
        torch.ops.aten._foreach_mul_.Tensor(change, cohort.rate)
        values = [self._values[name] for name in names]
        if cohort.decay:
            shrink = 1 - cohort.rate * cohort.decay
            torch.ops.aten._foreach_mul_.Tensor(values, shrink)
        moved = [
            soap.outer(c, value.shape) if self._rotated(name) else c
            for name, c, value in zip(names, change, values, strict=True)
        ]
        torch._foreach_sub_(values, moved)
        averages = [self._averages[name] for name in names]
        gaps = torch._foreach_sub(values, averages)
        torch.ops.aten._foreach_mul_.Tensor(gaps, self._share)
        torch._foreach_add_(averages, gaps)
        grams = [
            (gram, soap.gram(gradient, mode))
            for name, gradient in zip(names, gradients, strict=True)
            for mode, gram in self._bases.of(self._bases.grams, name).items()
        ]
        if grams:
            torch._foreach_lerp_([gram for gram, _ in grams], [new for _, new in grams], 1 - self._betas[1])

    def _follow(self, count: int) -> None:
        """Let the bases follow the gradients; both halves of the work at steps that are fixed."""
        if count % EVERY == 1:
            self._found = self._bases.eigenvectors(self._pool)
        elif count % EVERY == 1 + EVERY // 2 and self._found:
            self._bases.bring(self._found)
            self._found = []
            self._turn = self._turn or _Replay(self._turn_all, self._captured, self._kept())
            self._turn()

    def _turn_all(self) -> None:
        """Take the moments into the new bases: means exactly, squares as if coordinates were independent."""
        for name in self._values:
            old, new = (self._bases.of(flat, name) for flat in (self._bases.bases, self._bases.turned))
            between = {mode: basis.T @ new[mode] for mode, basis in old.items()}
            if between:
                self._mean[name].copy_(soap.rotated(self._mean[name], between))
                squared = {mode: turn.square() for mode, turn in between.items()}
                self._square[name].copy_(soap.rotated(self._square[name], squared))
        self._bases.bases.copy_(self._bases.turned)

    def moments(self) -> dict[str, Tensor]:
        """Everything the optimiser remembers, in the names of ``Workers.moments``."""
        found: dict[str, Tensor] = {}
        for cohort in self._cohorts:
            for name in (name for part in cohort.parts for name in part if cohort.count):
                found |= {
                    f"{name}/exp_avg": self._mean[name],
                    f"{name}/exp_avg_sq": self._square[name],
                    f"{name}/step": torch.tensor(float(cohort.count)),
                }
                for mode, gram in self._bases.of(self._bases.grams, name).items():
                    found[f"{name}/gram_{mode}"] = gram
                    found[f"{name}/basis_{mode}"] = self._bases.of(self._bases.bases, name)[mode]
        return found

    def load_moments(self, moments: dict[str, Tensor]) -> None:
        """Take over what ``moments`` gave."""
        for cohort in self._cohorts:
            for name in (name for part in cohort.parts for name in part if f"{name}/step" in moments):
                cohort.count = int(moments[f"{name}/step"])
                self._mean[name].copy_(moments[f"{name}/exp_avg"])
                self._square[name].copy_(moments[f"{name}/exp_avg_sq"])
                for mode, gram in self._bases.of(self._bases.grams, name).items():
                    gram.copy_(moments[f"{name}/gram_{mode}"])
                    self._bases.of(self._bases.bases, name)[mode].copy_(moments[f"{name}/basis_{mode}"])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)


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


def _last(module: nn.Module) -> None:
    """Have a transform keep channels last, as tensor cores want them."""
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(memory_format=torch.channels_last),))
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.PixelShuffle):
                setattr(parent, name, _PixelShuffle(child.upscale_factor))
