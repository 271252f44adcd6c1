"""Measure the speed of a device for a minute before training begins: ``train --measure``.

Batches and precisions are tried on the network and the pictures of the training. The best trains most pixels
per second. Larger batches have less noise in their gradients, so the learning rate grows with the root of the samples
per step. The clip does not, since it is compared with the norm of a mean. A precision whose losses are not finite is
out.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from refcodec.errors import CheckFailed

from ..network.model import LoCLIC
from .loss import Trainee
from .pictures import Crops, Picture, split
from .plan import Plan
from .trainer import Trainer

REFERENCE_SAMPLES = 32 * 256**2
"""Positions per step for which the plan's learning rate was found."""

MOST_FACTOR = 2.0
"""The rate grows by no more: beyond, nothing was tried."""

MARGIN = 1.05
"""A larger batch or bfloat16 must train so many times the pixels of what is more exact, or steps more often."""

WARM_STEPS = 3


@dataclass(frozen=True)
class Measured:
    """Speed of one batch and precision.

    Attributes
    ----------
    batch, crop : int
    precision : str
    steps, pixels : float
        Per second.
    norm : float
        Mean norm of the gradients; infinite if a step failed.
    """

    batch: int
    crop: int
    precision: str
    steps: float
    pixels: float
    norm: float


def measured(
    net: LoCLIC,
    plan: Plan,
    pictures: Sequence[Picture],
    batches: Sequence[int],
    seconds: float,
    device: torch.device,
    threads: int,
) -> Iterator[Measured]:
    """Train copies of a network for a share of the seconds each.

    Parameters
    ----------
    net : LoCLIC
    plan : Plan
        Its first crop, its last stage and its optimiser are used.
    pictures : sequence of Picture
    batches : sequence of int
    seconds : float
        For all together, the capture of graphs included.
    device : torch.device
    threads : int

    Yields
    ------
    Measured
    """
    crops = Crops(split(pictures)[0], net.config.qualities, plan.seed)
    stage, (_, crop) = plan.stage(1.0), plan.shape(0.0, 0)
    each = seconds / (2 * len(batches))
    for batch in batches:
        for precision in ("float32", "bfloat16"):
            began = time.monotonic()
            chosen = replace(plan, batch=batch, precision=precision)
            trainee = Trainee(copy.deepcopy(net)).to(device)
            trainer = Trainer(trainee, copy.deepcopy(trainee), chosen, device, threads)
            data = crops.batch(0, batch, crop)  # one for all steps: pictures are not what is measured
            norms, first, steps = [], began, 0
            while steps <= WARM_STEPS or time.monotonic() - began < each:
                if steps == WARM_STEPS:
                    first = time.monotonic()
                outcome = trainer.step(data, steps, stage, 1e-5, 0.999)
                norms.append(math.inf if outcome.fault else outcome.norm)
                steps += 1
            speed = (steps - WARM_STEPS) / (time.monotonic() - first)
            trainer.close()
            yield Measured(batch, crop, precision, speed, speed * batch * crop * crop, sum(norms) / len(norms))


def best(rows: Sequence[Measured], plan: Plan) -> str:
    """The options of what is best.

    Raises
    ------
    CheckFailed
        No step succeeded.
    """
    found: Measured | None = None
    for row in sorted(rows, key=lambda row: (row.precision == "bfloat16", row.batch)):
        if math.isfinite(row.norm) and (found is None or row.pixels > MARGIN * found.pixels):
            found = row
    if found is None:
        raise CheckFailed("no precision has finite gradients", where="--measure")
    factor = min(MOST_FACTOR, math.sqrt(found.batch * found.crop**2 / REFERENCE_SAMPLES))
    return (
        f"--batch {found.batch} --precision {found.precision} --rate {plan.rate * factor:.3g} --clip {plan.clip:g}"
        f"  # {found.pixels / 1e6:.1f} megapixels per second"
    )


__all__ = ["Measured", "best", "measured"]
