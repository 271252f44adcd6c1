"""A run: steps by the plan, validation, log, files; it may pause anywhere and goes on as if it had not."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from refcodec.errors import CheckFailed
from refcodec.io.files import write_bytes
from refcodec.model.config import Config

from ..convert.calibrate import record_text
from ..convert.pipeline import CALIBRATION_PICTURES, own_pictures, record_pictures
from ..network.model import LoCLIC
from ..network.simulate import published
from .loss import Trainee
from .pictures import CACHE_BYTES, Ahead, Crops, Picture, digest_of, split
from .plan import Plan
from .state import CALIBRATION, CHECKPOINT, Log, Progress, State, write_checkpoint, write_state
from .trainer import Outcome, Trainer
from .validation import CROP, Point, centre_crops, mean_loss, measure

SPIKE = 10.0
"""A loss so many times the usual one is out of range: the step is left out."""

WATCHED, MOST_FAULTS = 200, 20
"""A run ends where so many of the latest steps were left out."""


@dataclass(frozen=True)
class Pace:
    """How a piece of a run is carried out; none of it changes the result but the number of threads.

    Attributes
    ----------
    device : torch.device
    threads : int
    compiled : bool
    pause_steps, pause_minutes : float
        End the piece after so many; infinity for the whole plan.
    save_minutes, validate_minutes : float
        How often; the end of a piece saves, the end of the plan validates too.
    log_steps : int
    loaders : int
        Threads that make batches.
    cache_bytes : int
        Of decoded pictures that are kept.
    """

    device: torch.device
    threads: int = 1
    compiled: bool = False
    pause_steps: float = math.inf
    pause_minutes: float = math.inf
    save_minutes: float = 10.0
    validate_minutes: float = 15.0
    log_steps: int = 50
    loaders: int = 1
    cache_bytes: int = CACHE_BYTES


class Run:
    """One training in one folder.

    Parameters
    ----------
    folder : Path
    state : State
        Fresh, or as the last piece left it.
    pictures : sequence of Picture
        All of them; the held-out ones are found here.
    pace : Pace
    note : callable
        Takes lines for people.
    """

    def __init__(
        self, folder: Path, state: State, pictures: Sequence[Picture], pace: Pace, note: Callable[[str], None]
    ) -> None:
        self.folder, self.config, self.plan, self.pace, self.note = folder, state.config, state.plan, pace, note
        self.origin, self.progress = state.origin, replace(state.progress, recent=list(state.progress.recent))
        self.log = Log(folder)
        trained, held = split(pictures)
        self._trained = trained
        self._crops = Crops(trained, self.config.qualities, self.plan.seed, pace.cache_bytes, self.plan.augment)
        self._held = centre_crops(held)
        self.trainee, self.average = (
            _filled(self.config, weights, pace.device) for weights in (state.weights, state.average)
        )
        self.trainee.record = self.average.record = state.record
        self.trainer = Trainer(self.trainee, self.average, self.plan, pace.device, pace.threads, pace.compiled)
        self.trainer.optimiser.load_moments(state.moments)
        self._rows: list[Outcome] = []
        self._since = self.progress.step, self.progress.seconds
        self.log.write(
            "start",
            {
                "step": self.progress.step,
                "plan": self.plan.as_dict(),
                "config": self.config.as_dict(),
                "origin": self.origin,
                "device": str(pace.device),
                "threads": pace.threads,
                "torch": torch.__version__,
                "pictures": len(trained),
                "digest": digest_of(trained),
                "held_out": [p.name for p in held],
            },
        )
        note(
            f"{len(trained)} pictures to train on, {len(held)} held out; step {self.progress.step} of "
            f"{self.plan.steps or f'{self.plan.minutes:g} minutes'} on {pace.device}, {pace.threads} threads"
        )

    @property
    def position(self) -> float:
        """Share of the plan that is done."""
        return self.plan.position(self.progress.step, self.progress.seconds)

    def go(self) -> bool:
        """Train until the plan or the piece ends.

        Returns
        -------
        bool
            Whether the plan is done.

        Raises
        ------
        CheckFailed
            Too many steps were left out.
        """
        began, first = time.monotonic(), self.progress.step
        saved = validated = began
        with Ahead(self._crops, self.pace.loaders) as ahead:
            while self.position < 1:
                now = time.monotonic()
                if self.progress.step - first >= self.pace.pause_steps or now - began >= 60 * self.pace.pause_minutes:
                    break
                if now - validated >= 60 * self.pace.validate_minutes:
                    self.validate()
                    validated = now
                if now - saved >= 60 * self.pace.save_minutes:
                    self.save()
                    saved = now
                self._step(ahead)
        done = self.position >= 1
        self._flush()
        self.save()
        if done:
            self.validate()
        self.trainer.close()
        return done

    def _step(self, ahead: Ahead) -> None:
        p, plan = self.progress, self.plan
        position = self.position
        stage = plan.stage(position)
        if stage != p.stage:
            p.stage, p.stage_start, p.typical = stage, p.step, 0.0
        if stage == "quantised" and self.trainee.record is None:
            self._calibrate()
        start = time.monotonic()
        self.trainee.train()
        batch = ahead.batch(p.step, lambda step: plan.shape(position, step))
        rate = plan.rate_at(position, p.step - p.stage_start)
        momentum = min(plan.average, (p.step + 1) / (p.step + 10))
        largest = SPIKE * p.typical if p.step - p.stage_start >= 100 else math.inf
        outcome = self.trainer.step(batch, p.step, stage, rate, momentum, largest)
        p.step += 1
        p.seconds += time.monotonic() - start
        if outcome.fault:
            self._fault(outcome)
        else:
            p.typical = outcome.loss if not p.typical else 0.98 * p.typical + 0.02 * outcome.loss
            self._rows.append(outcome)
        if p.step % self.pace.log_steps == 0:
            self._flush(rate)

    def _calibrate(self) -> None:
        """Fix the formats of the integer model, for the rest of the run."""
        count = min(CALIBRATION_PICTURES, len(self._trained))
        crops = own_pictures() + centre_crops([self._trained[n * len(self._trained) // count] for n in range(count)])
        self.note(f"step {self.progress.step}  calibrating on {len(crops)} pictures")
        record = record_pictures(self.config, published(self.average.net), crops)
        write_bytes(self.folder / CALIBRATION, record_text(record, len(crops), CROP).encode(), force=True)
        self.trainee.record = self.average.record = record

    def _fault(self, outcome: Outcome) -> None:
        p = self.progress
        p.faults += 1
        p.recent = [n for n in p.recent if n > p.step - WATCHED] + [p.step]
        loss = outcome.loss if math.isfinite(outcome.loss) else None
        self.log.write("fault", {"step": p.step, "fault": outcome.fault, "loss": loss, "faults": p.faults})
        self.note(f"step {p.step} left out: {outcome.fault}; {p.faults} so far")
        if len(p.recent) >= MOST_FAULTS:
            raise CheckFailed(
                "too many steps with impossible losses or gradients",
                where=f"step {p.step}",
                faults=len(p.recent),
                of=WATCHED,
                last=outcome.fault,
                cause="lower --rate, or start from a checkpoint that is not damaged",
            )

    def _flush(self, rate: float | None = None) -> None:
        """Log the mean of the steps since the last line."""
        if not self._rows:
            return
        rows, p = self._rows, self.progress
        mean = {
            key: float(np.mean([getattr(row, key) for row in rows]))
            for key in ("loss", "bpp_y", "bpp_z", "mse", "norm")
        }
        psnr = -10 * math.log10(max(mean.pop("mse"), 1e-12))
        speed = (p.step - self._since[0]) / max(p.seconds - self._since[1], 1e-9)
        self._since = p.step, p.seconds
        values: dict[str, Any] = {
            "step": p.step,
            "seconds": round(p.seconds, 1),
            "position": round(self.position, 5),
            "stage": p.stage,
            "rate": rate,
            **{key: round(value, 5) for key, value in mean.items()},
            "psnr": round(psnr, 3),
            "steps_per_second": round(speed, 3),
            "faults": p.faults,
        }
        self.log.write("train", values)
        bpp = mean["bpp_y"] + mean["bpp_z"]
        self.note(
            f"step {p.step}  {100 * self.position:5.1f} %  {p.seconds:.0f} s  {speed:.2f} steps/s  {p.stage}  "
            f"loss {mean['loss']:.4f}  bpp {bpp:.4f}  psnr {psnr:.2f}" + (f"  rate {rate:.1e}" if rate else "")
        )
        self._rows = []

    def validate(self) -> list[Point]:
        """Measure the moving average on held-out crops at every quality level."""
        stage = self.progress.stage or self.plan.stage(0.0)
        qualities = range(self.config.qualities)
        points = measure(self.average, self._held, qualities, stage, self.pace.device, self.pace.threads)
        loss = mean_loss(points, self.plan.lambda_levels(self.config.qualities))
        rounded = [{key: round(value, 5) for key, value in asdict(point).items()} for point in points]
        self.log.write(
            "validation",
            {
                "step": self.progress.step,
                "seconds": round(self.progress.seconds, 1),
                "stage": stage,
                "loss": round(loss, 5),
                "points": rounded,
            },
        )
        self.note(
            f"step {self.progress.step}  validation {loss:.4f}: "
            + ", ".join(f"{p.bpp:.3f} bpp {p.psnr:.2f} dB" for p in points)
        )
        return points

    def state(self) -> State:
        """The run at rest."""
        weights, average, moments = (
            {name: value.detach().cpu() for name, value in tensors.items()}
            for tensors in (self.trainee.state_dict(), self.average.state_dict(), self.trainer.optimiser.moments())
        )
        return State(self.config, self.plan, self.progress, weights, average, moments, self.origin, self.trainee.record)

    def save(self) -> None:
        """Write state and checkpoint."""
        write_state(self.folder, self.state())
        write_checkpoint(self.folder / CHECKPOINT, self.average.net)


def _filled(config: Config, weights: dict[str, torch.Tensor], device: torch.device) -> Trainee:
    trainee = Trainee(LoCLIC(config))
    trainee.load_state_dict(weights)
    return trainee.to(device)


def begin(net: LoCLIC, config: Config, plan: Plan, origin: dict[str, Any]) -> State:
    """Begin a run from a network.

    Parameters
    ----------
    net : LoCLIC
    config : Config
    plan : Plan
    origin : dict
        Where the network came from, for provenance.

    Returns
    -------
    State
    """
    weights = {name: value.detach() for name, value in Trainee(net).state_dict().items()}
    return State(config, plan, Progress(), weights, copy.deepcopy(weights), {}, origin)


def tail(state: State, steps: int, minutes: float) -> State:
    """A fresh run that goes on from a state with a falling rate, while the run of the state may go on as it was.

    The moments of the optimiser are taken over. The moving average begins with the weights, so it is that of the tail.

    Parameters
    ----------
    state : State
    steps : int
        Steps of the new run.
    minutes : float
        Time of the new run.

    Returns
    -------
    State
    """
    place = state.progress
    plan = state.plan.tail(steps, minutes, state.plan.seed + 1 + place.step)  # other batches than those before
    origin = {**state.origin, "tail_of": {"step": place.step, "seconds": place.seconds, "plan": state.plan.as_dict()}}
    progress = Progress(stage=plan.stage(0.0))
    return State(state.config, plan, progress, state.weights, state.weights, state.moments, origin, state.record)
