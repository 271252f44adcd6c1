"""Latents that are improved for one picture before they are coded (``encode --refine``).

Gradients through the floating-point network of the model find latents that cost fewer bits, or show fewer errors, than
those of g_a and h_a. They replace y and z of the encoder, which codes them exactly as it codes its own. So neither the
format nor a decoder knows of it, and nothing here decides a byte but the encoder's choice of symbols.

The gradients need PyTorch and the converter's network. refcodec imports neither: the module that has them is named
below, and it is imported when refinement is asked for. An entry point would need an installation; a name works in a
checkout, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .errors import Unsupported, UsageError, missing_package
from .lossless.rectangles import Rectangle
from .model.integer_model import Model
from .planes import SampleRows
from .progress import Progress

REFINER = "weights_converter.network.refine"
"""The module that has ``refine`` and ``refining_memory``."""

MOST_STEPS = 100_000
"""Most steps that may be asked for: a misprint must not take weeks."""

SLOPE_SPAN = 6
"""Qualities on both sides between which the picture's own exchange of bits and errors is measured."""

STEP_PASSES = 8
"""Time of one step in passes of the encoder, about, for progress bars."""

LAMBDAS = (0.0018, 0.18)
"""Lambda of the lowest and of the highest quality of the default model: bits per unit of squared error, times the
pixel's three channels. Other models may have others. It weighs what is stored without loss, and refinement."""


class Latents(NamedTuple):
    """Latents of a whole picture in steps of the quantiser, Q6.

    Attributes
    ----------
    y : np.ndarray [H / 16, W / 16, M], int16
    z : np.ndarray [H / 64, W / 64, hyper], int16
    """

    y: np.ndarray
    z: np.ndarray


@dataclass(frozen=True)
class Task:
    """A picture to refine.

    Attributes
    ----------
    model : Model
    picture : SampleRows
        Colours, and a last channel that is 0 where errors do not count.
    step : int
        Quality, 1..100.
    error_weight : float
        Bits that a squared error of one in one sample is worth.
    steps : int
        Steps of the optimisation.
    threads : int
    memory : int or None
        Bytes that may be taken, None for no bound.
    progress : callable(share) or None
        Is called from one thread at a time.
    """

    model: Model
    picture: SampleRows
    step: int
    error_weight: float
    steps: int
    threads: int
    memory: int | None = None
    progress: Progress | None = None


def error_weight(step: int) -> float:
    """Bits that a squared error of one in one sample is worth at a quality of 1..100."""
    low, high = LAMBDAS
    return float(low * (high / low) ** ((step - 1) / 99) / 3)


def slope(lower: tuple[int, int], higher: tuple[int, int], step: int) -> float:
    """Bits that a squared error is worth for one picture, from what it takes at two qualities.

    Training fixes the exchange for the mean of its pictures. A smooth picture gives up more bits for an error, a busy
    one fewer, and with the exchange of others latents would only move along the picture's own curve.

    Parameters
    ----------
    lower, higher : (bits, squared errors)
        As coded at a quality below and at one above.
    step : int
        The quality between, 1..100. Its weight in training bounds the result to a quarter and to four times.

    Returns
    -------
    float
    """
    trained = error_weight(step)
    bits, errors = higher[0] - lower[0], lower[1] - higher[1]
    return min(4 * trained, max(trained / 4, bits / errors)) if bits > 0 and errors > 0 else trained


def check_steps(steps: object, model: Model | None) -> int:
    """The number of steps, 0 for none.

    Raises
    ------
    UsageError
        It is no number of steps, or the picture is stored without loss.
    Unsupported
        The model has one quality.
    """
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or not 0 <= steps <= MOST_STEPS:
        raise UsageError("refinement takes a number of steps", where="refine", value=repr(steps), most=MOST_STEPS)
    if steps and model is None:
        raise UsageError("a picture without loss has no latents to refine", where="refine, lossless")
    if steps and model is not None and model.config.steps == 1:
        raise Unsupported(
            "refinement needs a model of several qualities",
            where=model.name,
            cause="what an error is worth follows from the quality; a model of one quality does not say it",
        )
    return int(steps)


def refiner() -> Any:
    """The module that refines.

    Raises
    ------
    Unsupported
        PyTorch or the converter is not installed.
    """
    try:
        return import_module(REFINER)
    except ModuleNotFoundError as error:
        known = missing_package(error)
        if known is None and (error.name or "").split(".")[0] != REFINER.split(".")[0]:
            raise
        raise Unsupported(
            "refinement needs PyTorch and the converter's network",
            where=str(error.name),
            cause='pip install "refcodec[train]", or leave --refine out',
        ) from error


class Seen:
    """A picture's colours with one more channel: 255 where errors count, 0 where a decoder shows something else.

    Parameters
    ----------
    colours : SampleRows
        What is coded.
    original : SampleRows
        The picture; if it has alpha, errors of transparent pixels do not count.
    rectangles : sequence of Rectangle
        Parts that are stored without loss.
    """

    def __init__(self, colours: SampleRows, original: SampleRows, rectangles: Sequence[Rectangle]) -> None:
        self.height, self.width, self.channels = colours.height, colours.width, colours.channels + 1
        self._colours, self._original, self._rectangles = colours, original, rectangles

    def rows(self, first: int, count: int) -> np.ndarray:
        """As `SampleRows.rows`."""
        colours = self._colours.rows(first, count)
        out = np.full((*colours.shape[:2], self.channels), 255, np.uint8)
        out[:, :, :-1] = colours
        if self._original.channels in (2, 4):
            out[self._original.rows(first, count)[:, :, -1] == 0, -1] = 0
        for y, x, width, height in self._rectangles:
            out[max(0, y - first) : max(0, y + height - first), x : x + width, -1] = 0
        return out


class SeenErrors:
    """Adds up the squared errors of what is seen, strip by strip.

    Parameters
    ----------
    seen : Seen

    Attributes
    ----------
    total : int
    """

    def __init__(self, seen: Seen) -> None:
        self._seen, self.total = seen, 0

    def add(self, first: int, rows: np.ndarray) -> None:
        """Count a strip of the reconstruction's colours, [n, W, C] or [n, W] uint8."""
        wanted = self._seen.rows(first, rows.shape[0])
        errors = np.square(wanted[:, :, :-1].astype(np.int32) - rows.reshape(wanted[:, :, :-1].shape))
        self.total += int(errors[wanted[:, :, -1] > 0].sum(dtype=np.int64))


__all__ = [
    "LAMBDAS",
    "SLOPE_SPAN",
    "STEP_PASSES",
    "Latents",
    "Seen",
    "SeenErrors",
    "Task",
    "check_steps",
    "error_weight",
    "refiner",
    "slope",
]
