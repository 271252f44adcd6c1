"""Latents of one picture, improved by gradients through the twin of its model: ``refcodec encode --refine``.

The encoder's y and z begin as g_a and h_a make them. Every step rounds them by stochastic annealing (Yang, Bamler and
Mandt, "Improving Inference for Neural Image Compression", 2020): up or down at random, the nearer value with a
probability that grows as the temperature falls. Contexts and the picture come from these values. Bits are those of
latents with uniform noise, as in training, which brought more than those of the rounded values. Gradients of bits plus
weighted squared errors pass straight through the rounding to the latents. Every second step takes the random numbers of
the step before, mirrored, so that the errors of two neighbouring gradients largely cancel. In the end the latents are
put onto the values that were chosen, so the integer encoder, whose means differ from the twin's in the last digits,
chooses the same symbols.

Large pictures are refined window by window, so memory does not grow with the picture. A window sees a margin around
itself, and what it finds there is not used. Not importable without PyTorch (the ``train`` extra).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from refcodec.limits import padded
from refcodec.model.config import Y_FRAC, Config
from refcodec.model.integer_model import Model
from refcodec.planes import SampleRows
from refcodec.refinement import Latents, Task
from refcodec.tiles import STRIDE, UNIT

from .contexts import merge, split
from .layers import gaussian_likelihood
from .model import LoCLIC, from_model
from .walk import Walk, walk

RATE, LAST_RATE = 0.015, 0.05
"""Adam's learning rate in steps of the quantiser, and what the cosine leaves of it in the end."""

TEMPERATURES = (1.2, 0.07)
"""Of the rounding at the first step and at the last one; in between it falls geometrically."""

SEED = 0
"""Of the random numbers: the same picture and machine give the same stream, with any number of threads."""

WINDOW, MARGIN = 512, 64
"""Side of a window and width of what is seen around it, in samples, multiples of 64."""

BYTES_PER_PIXEL, BASE = 4000, 850 << 20
"""Memory of a step for a pixel of its window, and of PyTorch with the network."""

Rounding = Callable[[Tensor], Tensor]


class _Span(NamedTuple):
    """A part of one side in samples: what is kept, and what is seen."""

    start: int
    end: int
    first: int
    last: int


def spans(size: int) -> list[_Span]:
    """Windows along a padded side of ``size`` samples; a side that is seen whole has one."""
    if size <= WINDOW + MARGIN:
        return [_Span(0, size, 0, size)]
    return [
        _Span(start, min(size, start + WINDOW), max(0, start - MARGIN), min(size, start + WINDOW + MARGIN))
        for start in range(0, size, WINDOW)
    ]


def refining_memory(config: Config, width: int, height: int, at_once: int = 1) -> int:
    """Bytes that `refine` takes at most for a picture, measured for the default model and scaled by its widths.

    Parameters
    ----------
    config : Config
    width, height : int
        Of the picture.
    at_once : int
        Windows that are worked on at the same time.

    Returns
    -------
    int
    """
    rows, columns = (max(span.last - span.first for span in spans(padded(side))) for side in (height, width))
    wide = (config.N[0] + config.M / 16) / 44
    latents = 2 * (config.M + config.hyper / 16) * padded(width) * padded(height) / STRIDE**2
    return BASE + int(wide * BYTES_PER_PIXEL * rows * columns * at_once + latents)


def refine(task: Task) -> Latents:
    """Improve the latents of a picture.

    Every window is worked on by one thread, so the number of threads changes no value. As many windows are worked on at
    once as there are threads, and memory for them.

    Parameters
    ----------
    task : Task

    Returns
    -------
    Latents

    Raises
    ------
    InvalidModel
        The model's file carries no floats.
    MemoryError
        The system gives no more memory.
    """
    config, picture = task.model.config, task.picture
    net = _network(task.model)
    rows, columns = padded(picture.height), padded(picture.width)
    y, z = (
        np.empty((rows // stride, columns // stride, channels), np.int16)
        for stride, channels in ((STRIDE, config.M), (UNIT, config.hyper))
    )
    down, across = spans(rows), spans(columns)
    one, two = (refining_memory(config, picture.width, picture.height, n) for n in (1, 2))
    room = task.threads if task.memory is None else 1 + (task.memory - one) // (two - one)
    at_once = max(1, min(task.threads, len(down) * len(across), room))
    report = _Report(task, len(down) * len(across))

    def work(band: np.ndarray, v: _Span, h: _Span) -> None:
        problem = _Problem(net, band[:, h.first : h.last], v.last - v.first, h.last - h.first, task)
        found = problem.solved(task.steps, report.step)
        for out, part, stride in ((y, found.y, STRIDE), (z, found.z, UNIT)):
            top, left = (v.start - v.first) // stride, (h.start - h.first) // stride
            place = out[v.start // stride : v.end // stride, h.start // stride : h.end // stride]
            place[...] = part[top : top + place.shape[0], left : left + place.shape[1]]

    with _pool(at_once, report) as pool:
        running: deque[Future[None]] = deque()
        for v, band in zip(down, _bands(picture, down), strict=True):
            for h in across:
                running.append(pool.submit(work, band, v, h))
                while len(running) > at_once:
                    running.popleft().result()
        while running:
            running.popleft().result()
    return Latents(y, z)


class _Report:
    """Counts the steps of all windows, and ends the work of all threads once one has failed."""

    def __init__(self, task: Task, windows: int) -> None:
        self._progress, self._all = task.progress, task.steps * windows
        self._done, self._lock, self.stopped = 0, Lock(), False

    def step(self) -> None:
        """One step of one window is done."""
        with self._lock:
            self._done += 1
            if self.stopped:
                raise RuntimeError("another window has failed")
            if self._progress:
                self._progress(self._done / self._all)


@contextmanager
def _pool(threads: int, report: _Report) -> Iterator[ThreadPoolExecutor]:
    """Threads that run one window each, without further threads of PyTorch."""
    before, pool = torch.get_num_threads(), ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1))
    try:
        yield pool
    except RuntimeError as error:
        if "allocate memory" in str(error):
            raise MemoryError(str(error).split("\n")[0][:200]) from error
        raise
    finally:
        report.stopped = True
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _network(model: Model) -> LoCLIC:
    return from_model(model).requires_grad_(False)


def _bands(picture: SampleRows, down: list[_Span]) -> Iterator[np.ndarray]:
    """Rows that each row of windows sees; every row of the picture is read once, from the top down."""
    held, first = picture.rows(0, 0), 0
    for span in down:
        end = first + held.shape[0]
        more = picture.rows(end, min(span.last, picture.height) - end)
        held, first = np.concatenate((held[span.first - first :], more)), span.first
        yield held


class _Problem:
    """The latents of one window, and what they cost.

    Parameters
    ----------
    net : LoCLIC
    samples : np.ndarray [h, w, C], uint8
        Colours, and a last channel that is 0 where errors do not count; without the padding.
    height, width : int
        Of the window, with the padding.
    task : Task
    """

    def __init__(self, net: LoCLIC, samples: np.ndarray, height: int, width: int, task: Task) -> None:
        there = (0, height - samples.shape[0]), (0, width - samples.shape[1])
        colours = np.pad(samples[:, :, :-1], (*there, (0, 0)), "edge")
        x = torch.from_numpy(colours).permute(2, 0, 1)[None].float()
        self._net, self._grey, self._x = net, x.size(1) == 1, x
        self._weights = torch.from_numpy(task.error_weight * np.pad(samples[:, :, -1] > 0, there)).float()
        config = net.config
        self._q = torch.tensor([(task.step - 1) * (config.qualities - 1) / (config.steps - 1)])
        with torch.no_grad():
            self._y, self._z = net.latents(x.expand(-1, 3, -1, -1).contiguous() / 255, self._q)

    def solved(self, steps: int, step_done: Callable[[], None]) -> Latents:
        """The latents after so many steps, as the encoder takes them."""
        latents = [self._y.requires_grad_(), self._z.requires_grad_()]
        optimiser = torch.optim.Adam(latents, RATE)
        noise = _Noise()
        first, last = TEMPERATURES
        for n in range(steps):
            temperature = first * (last / first) ** (n / steps)
            cosine = 0.5 * (1 + math.cos(math.pi * n / steps))
            optimiser.param_groups[0]["lr"] = RATE * (LAST_RATE + (1 - LAST_RATE) * cosine)
            optimiser.zero_grad()
            noise.next_step()
            self._cost(temperature, noise).backward()
            optimiser.step()
            step_done()
        return self._chosen()

    def _walk(self, rounding: Rounding) -> tuple[Tensor, Walk]:
        """z_hat, and what the slices leave."""
        net, median = self._net, self._net.entropy_bottleneck.medians()
        z_hat = rounding(self._z - median) + median
        parts = [half.chunk(net.config.slices, 1) for half in split(self._y)]
        return z_hat, walk(net, net.hyper(z_hat, self._q), lambda i, kind, mean: rounding(parts[kind][i] - mean) + mean)

    def _cost(self, temperature: float, noise: _Noise) -> Tensor:
        """Bits and weighted squared errors."""
        _, done = self._walk(lambda v: annealed(v, temperature, noise.like(v)))
        noisy_y, noisy_z = (v + noise.like(v) - 0.5 for v in (self._y, self._z))
        likelihoods = (
            self._net.entropy_bottleneck.likelihood(noisy_z),
            gaussian_likelihood(noisy_y, merge(*done.means), merge(*done.scales)),
        )
        shown = 255 * self._net.picture(done.y_hat, self._q)
        if self._grey:  # SPEC 4.3
            shown = (shown[:, :1] + 2 * shown[:, 1:2] + shown[:, 2:]) / 4
        errors = ((shown - self._x).square() * self._weights).sum()
        return errors - sum(torch.log2(p).sum() for p in likelihoods)

    def _chosen(self) -> Latents:
        with torch.no_grad():
            z_hat, done = self._walk(torch.round)
            mean = merge(*done.means)
            y_hat = torch.round(self._y - mean) + mean  # before residuals are added
        return Latents(_in_integers(y_hat), _in_integers(z_hat))


class _Noise:
    """Uniform random numbers in [0, 1) for the steps of one window; every second step mirrors those of the step before.

    A step asks for the same shapes in the same order as every other.
    """

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(SEED)
        self._drawn: list[Tensor] = []
        self._mirrored, self._asked = True, 0

    def next_step(self) -> None:
        """Go on to the next step."""
        self._mirrored, self._asked = not self._mirrored, 0
        if not self._mirrored:
            self._drawn.clear()

    def like(self, v: Tensor) -> Tensor:
        """The step's next numbers, of the shape of ``v``."""
        self._asked += 1
        if self._mirrored:
            return 1 - self._drawn[self._asked - 1]
        self._drawn.append(torch.rand(v.shape, generator=self._generator))
        return self._drawn[-1]


def annealed(v: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """Round at random to one of the whole numbers around every element, softly (stochastic Gumbel annealing).

    Parameters
    ----------
    v : Tensor
    temperature : float
        At a low one, results are close to whole numbers.
    uniform : Tensor
        Random numbers of the same shape in [0, 1]; high ones round up.

    Returns
    -------
    Tensor
        Of the same shape, with a gradient of one.
    """
    with torch.no_grad():
        low = v.floor()
        up = (v - low).clamp(1e-3, 1 - 1e-3)
        noise = torch.logit(uniform.clamp(1e-6, 1 - 1e-6))  # the difference of two of Gumbel's
        odds = (torch.atanh(up) - torch.atanh(1 - up)) / temperature
        moved = low + torch.sigmoid((odds + noise) / temperature) - v
    return v + moved


def _in_integers(values: Tensor) -> np.ndarray:
    """[1, C, H, W] -> [H, W, C], int16 in Q6."""
    limit = np.iinfo(np.int16).max
    scaled = (values[0].permute(1, 2, 0) * 2**Y_FRAC).round().clamp(-limit, limit)
    found: np.ndarray = scaled.to(torch.int16).numpy()
    return found
