"""The plan of a training: what happens at every position from 0 to 1, whether it is run at once or in pieces.

The position is the share of the planned steps, or of the planned minutes, that is done. Everything else follows from
it and from the number of the step, so a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from refcodec.errors import UsageError

STAGES = ("transforms", "entropy", "all", "quantised")
"""transforms: g_a, g_s, h_a, h_s and gains, rate from a Gaussian whose parameters come from h_s through an auxiliary
layer; entropy: everything that predicts the latents, which stay as they are; all: everything; quantised: everything,
with the values that the integer model will compute."""

OPTIMISERS = ("adamw", "soap")

AUGMENTATIONS = ("saturation", "hue", "grey", "graphics")
"""Kinds of augmentation: colours stronger or weaker, colours turned, colours taken away, and rendered pictures in place
of photographs (augment.py)."""

Schedule = tuple[tuple[Any, float], ...]
"""Values, each with the position from which it holds; the first from 0."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a training but its pictures and its starting weights.

    Defaults are what made the default model (training.md), but for the length, the batch and the crops.

    Attributes
    ----------
    steps : int
        Length in steps; 0 if minutes count.
    minutes : float
        Length in minutes of training, in all pieces together; 0 if steps count.
    stages, crops : schedule
        Names of STAGES and sides of crops, by position; sides may be several, which take turns.
    batch : int
        Crops per step; of several sides in turn those of the first, others have as many samples.
    rate : float
        Peak of the learning rate.
    transform_rate : float
        That of g_a and g_s, in units of the others': transforms that code well are damaged by rates that entropy models
        want.
    hold : float
        Share of the plan at the peak; a half cosine to ``floor`` times the peak follows. 1 holds the peak to the end:
        the tail is then a separate run, on a copy (`tail`).
    warmup : int
        Steps over which the rate rises at the start and after a change of stage.
    decay : float
        Decoupled weight decay.
    clip : float
        Largest norm of a gradient.
    average : float
        Momentum of the weights' moving average.
    lambdas : tuple of float
        Weights of the distortion at the lowest and at the highest quality.
    balance : float
        Exponent by which the loss of a picture is divided by its lambda, so that high rates do not drown low ones.
    seed : int
    precision : str
        float32 or bfloat16.
    optimiser : str
        adamw, or soap: Adam in the eigenbases of the gradients (soap.py).
    augment : tuple of (str, float)
        Kinds of augmentation (augment.py), each with the share of crops that it changes.
    """

    steps: int = 0
    minutes: float = 0.0
    stages: Schedule = (("entropy", 0.0), ("all", 0.05))
    crops: Schedule = ((256, 0.0),)
    batch: int = 8
    rate: float = 8e-4
    transform_rate: float = 0.2
    hold: float = 0.4
    floor: float = 0.01
    warmup: int = 100
    decay: float = 0.0
    clip: float = 100.0
    average: float = 0.999
    lambdas: tuple[float, float] = (0.0018, 0.18)
    balance: float = 0.65
    seed: int = 0
    precision: str = "float32"
    optimiser: str = "soap"
    augment: Schedule = ()

    def __post_init__(self) -> None:
        checks = {
            "either steps or minutes": (self.steps > 0) != (self.minutes > 0) and math.isfinite(self.minutes),
            "known stages in rising order of position": _rising(self.stages)
            and all(stage in STAGES for stage, _ in self.stages),
            "crops are multiples of 64 up to 4096": _rising(self.crops)
            and all(
                isinstance(side, int) and 64 <= side <= 4096 and side % 64 == 0
                for value, _ in self.crops
                for side in _sides(value)
            ),
            "1 <= batch <= 4096": 1 <= self.batch <= 4096,
            "0 < rate <= 1": 0 < self.rate <= 1,
            "0 < transform_rate <= 100": 0 < self.transform_rate <= 100,
            "0 <= hold <= 1": 0 <= self.hold <= 1,
            "0 <= floor <= 1": 0 <= self.floor <= 1,
            "warmup >= 0": self.warmup >= 0,
            "0 <= decay <= 1": 0 <= self.decay <= 1,
            "clip > 0": self.clip > 0,
            "0 <= average < 1": 0 <= self.average < 1,
            "0 < lowest lambda <= highest lambda": 0 < self.lambdas[0] <= self.lambdas[1] < math.inf,
            "0 <= balance <= 1": 0 <= self.balance <= 1,
            "seed >= 0": self.seed >= 0,
            "precision is float32 or bfloat16": self.precision in ("float32", "bfloat16"),
            "the optimiser is adamw or soap": self.optimiser in OPTIMISERS,
            f"augmentations are of {', '.join(AUGMENTATIONS)}, each once, with shares of 0 to 1": all(
                name in AUGMENTATIONS and 0 <= share <= 1 for name, share in self.augment
            )
            and len(dict(self.augment)) == len(self.augment),
        }
        for rule, holds in checks.items():
            if not holds:
                raise UsageError("the plan breaks a rule", where="plan", rule=rule)

    def position(self, step: int, seconds: float) -> float:
        """Share of the plan that is done, 0 to 1."""
        return min(1.0, step / self.steps if self.steps else seconds / (60 * self.minutes))

    def stage(self, position: float) -> str:
        """Name of the stage at a position."""
        return str(_at(self.stages, position))

    def shape(self, position: float, step: int) -> tuple[int, int]:
        """Number and side of the crops of a step: of several sides in turn, with about as many samples each time."""
        sides = _sides(_at(self.crops, position))
        side = sides[step % len(sides)]
        return max(1, round(self.batch * (sides[0] / side) ** 2)), side

    def rate_at(self, position: float, since: int) -> float:
        """Learning rate at a position, ``since`` steps after the stage began."""
        falling = max(0.0, (position - self.hold) / (1 - self.hold)) if self.hold < 1 else 0.0
        cosine = 0.5 * (1 + math.cos(math.pi * falling))
        rise = min(1.0, (since + 1) / (self.warmup + 1))
        return self.rate * rise * (self.floor + (1 - self.floor) * cosine)

    def lambda_levels(self, qualities: int) -> list[float]:
        """Lambda of every quality level, a geometric row."""
        low, high = self.lambdas
        return [low * (high / low) ** (n / max(1, qualities - 1)) for n in range(qualities)]

    def tail(self, steps: int, minutes: float, seed: int) -> Plan:
        """A plan in which the rate only falls. It trains what this plan trains at its end.

        Parameters
        ----------
        steps : int
        minutes : float
        seed : int

        Returns
        -------
        Plan
        """
        stages, crops = (((values[-1][0], 0.0),) for values in (self.stages, self.crops))
        return replace(self, steps=steps, minutes=minutes, hold=0.0, warmup=0, seed=seed, stages=stages, crops=crops)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _sides(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) and value else (value,)


def sides_from(text: str) -> Any:
    """A side of crops, or several that take turns: ``384+512``."""
    sides = tuple(int(word) for word in text.split("+"))
    return sides if len(sides) > 1 else sides[0]


def _rising(schedule: Schedule) -> bool:
    places = [place for _, place in schedule]
    return bool(places) and places[0] == 0 and places[-1] < 1 and places == sorted(set(places))


def _at(schedule: Schedule, position: float) -> Any:
    return [value for value, place in schedule if place <= position][-1]


def plan_from(values: dict[str, Any], where: str) -> Plan:
    """The inverse of ``Plan.as_dict``, from a file.

    Raises
    ------
    UsageError
        The values are not a plan.
    """
    defaults: dict[str, Any] = {f.name: f.default for f in fields(Plan)}
    values = {"augment": (), **values}  # plans of before it have none
    if set(values) != set(defaults):
        raise UsageError("not a plan", where=where, differs=sorted(set(values) ^ set(defaults)))
    try:
        return Plan(
            **{
                name: _frozen(value) if isinstance(value, list) else type(defaults[name])(value)
                for name, value in values.items()
            }
        )
    except (TypeError, ValueError) as error:
        raise UsageError("not a plan", where=where, reason=str(error)[:200]) from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def schedule_from(text: str, kind: Callable[[str], Any], option: str) -> Schedule:
    """Read ``VALUE[,VALUE@POSITION...]``, for example ``128,256@0.7``.

    Parameters
    ----------
    text : str
    kind : type
        Of the values: int, float or str.
    option : str
        Names the text in errors.

    Returns
    -------
    Schedule

    Raises
    ------
    UsageError
        The text has another form.
    """
    try:
        parts = [part.partition("@") for part in text.split(",")]
        return tuple((kind(value), float(place) if place else 0.0) for value, _, place in parts)
    except ValueError:
        raise UsageError("not VALUE,VALUE@POSITION,...", where=option, value=text[:80]) from None
