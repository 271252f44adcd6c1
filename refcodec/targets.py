"""Targets of encoding: a quality, a rate, a size, a PSNR, or no loss. Rates and PSNR are searched for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .codec import Coded, encode_strips
from .errors import UsageError, check_flags
from .model.integer_model import Model
from .planes import SampleRows
from .progress import Progress
from .refinement import check_steps
from .stored import may_gain, storable

DEFAULT_QUALITY = 60

NEIGHBOURS = 3
"""Qualities looked at beyond the first one that does not fit: rate and PSNR rise with quality, not at every step."""

BAND = 1 << 20
"""Samples that are compared at once."""

Shown = Callable[[str, float], None]
"""Is given what is done, and the share of all of it that is done, 0 to 1."""


@dataclass(frozen=True)
class Target:
    """Target of a stream; at most one of these.

    Attributes
    ----------
    quality : int or None
        Quality, 1..100; 60 if nothing is asked for.
    bpp : float or None
        The best quality of at most so many bits per pixel.
    size : int or None
        The best quality of at most so many bytes.
    psnr : float or None
        The smallest stream of the lowest quality whose colours have at least this PSNR in dB, measured on what decoders
        show, and of the picture without loss.
    lossless : bool
        Every sample is exact.

    Raises
    ------
    UsageError
        Several are asked for, or one is out of range.
    """

    quality: int | None = None
    bpp: float | None = None
    size: int | None = None
    psnr: float | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        check_flags(lossless=self.lossless)
        asked = {name: value for name, value in vars(self).items() if value is not None and value is not False}
        if len(asked) > 1:
            raise UsageError("only one of quality, bpp, size, psnr and lossless can be asked for", **asked)
        for name, value in asked.items():
            kinds = (int, np.integer) if name in ("quality", "size") else (int, float, np.integer, np.floating)
            if name != "lossless" and not (
                type(value) is not bool and isinstance(value, kinds) and 0 < value < 1 << 62
            ):
                raise UsageError(f"{name} is a positive number", value=repr(value))

    @property
    def searched(self) -> bool:
        """Whether several qualities have to be tried."""
        return not (self.bpp is None and self.size is None and self.psnr is None)


class Fidelity:
    """SHA-256 and PSNR of a reconstruction that arrives in strips, from the top down.

    The PSNR is that of the colours of all pixels that are not wholly transparent.

    Parameters
    ----------
    source : SampleRows
        The original picture.
    """

    def __init__(self, source: SampleRows) -> None:
        self._source, self._sha256 = source, hashlib.sha256()
        self._error = self._samples = 0

    def __call__(self, first: int, rows: np.ndarray) -> None:
        """Take a strip, [n, W] or [n, W, C] uint8."""
        self._sha256.update(np.ascontiguousarray(rows).data)
        pixels = rows.reshape(*rows.shape[:2], -1)
        count = max(1, BAND // pixels[0].size)
        for top in range(0, rows.shape[0], count):
            band = pixels[top : top + count]
            original = self._source.rows(first + top, band.shape[0])
            colours = original.shape[2] - (original.shape[2] in (2, 4))
            difference = original[:, :, :colours].astype(np.int32) - band[:, :, :colours]
            if colours < original.shape[2]:
                difference = difference[original[:, :, colours] > 0]
            self._error += int(np.sum(difference * difference, dtype=np.int64))
            self._samples += difference.size

    @property
    def sha256(self) -> str:
        """SHA-256 of the samples, row by row, channels interleaved."""
        return self._sha256.hexdigest()

    @property
    def psnr(self) -> float:
        """PSNR in dB, infinite if nothing differs."""
        return 10 * math.log10(255 * 255 * self._samples / self._error) if self._error else math.inf


class Trial(NamedTuple):
    """A stream and how faithful it is."""

    coded: Coded
    fidelity: Fidelity


class Reached(NamedTuple):
    """A picture that is coded as it was asked for.

    Attributes
    ----------
    quality : int
        The quality, 0 for none.
    trial : Trial
    note : str
        What a search has found, "" if there was none.
    """

    quality: int
    trial: Trial
    note: str = ""


def best_fit(
    encode: Callable[[int], Trial], steps: int, excess: Callable[[Trial], float]
) -> tuple[int, Trial | None, float]:
    """Find the highest quality whose result fits, by bisection and a look at the neighbours above.

    Parameters
    ----------
    encode : callable
        From a quality in 1..steps to the coded picture.
    steps : int
        Number of qualities.
    excess : callable
        By how much a coded picture exceeds what is allowed; it fits if that is not positive.

    Returns
    -------
    quality : int
        The quality found, or the one that came nearest if none fits.
    trial : Trial or None
        The coded picture, None if none fits.
    least : float
        The excess at this quality.
    """
    seen: dict[int, float] = {}
    found: dict[int, Trial] = {}

    def fits(quality: int) -> bool:
        if quality not in seen:
            coded = encode(quality)
            seen[quality] = excess(coded)
            if seen[quality] <= 0 and quality > max(found, default=0):
                found.clear()  # only the best is kept in memory
                found[quality] = coded
        return seen[quality] <= 0

    low, high = 0, steps + 1  # low fits or is 0, high does not fit or is out of range
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    quality = low + 1
    while quality <= min(low + 1 + NEIGHBOURS, steps):
        if fits(quality):
            low = quality
        quality += 1
    quality = low or min(seen, key=lambda q: (seen[q], q))
    return quality, found.get(quality), seen[quality]


class _Trials:
    """Codes a picture several times, and shows the share of all trials there may be.

    Parameters
    ----------
    source : SampleRows
    most : int
        Trials there may be.
    show : callable or None
    **options
        As `encode_strips`.
    """

    def __init__(self, source: SampleRows, most: int, show: Shown | None, **options: Any) -> None:
        self._source, self._most, self._show, self.options = source, most, show, options
        self._count = 0

    def __call__(self, *quality: int, **more: Any) -> Trial:
        self._count += 1
        self._most = max(self._most, self._count)
        what = f"encoding at quality {quality[0]}" if quality else "encoding without loss"
        what += f", trial {self._count} of at most {self._most}" if self._most > 1 else ""
        show, before, most = self._show, self._count - 1, self._most
        progress: Progress | None = None if show is None else lambda share: show(what, (before + share) / most)
        if progress:
            progress(0.0)
        fidelity = Fidelity(self._source)
        options = {**self.options, **more, "progress": progress, "strips": fidelity}
        return Trial(encode_strips(self._source, *quality, **options), fidelity)


def code(
    source: SampleRows,
    target: Target,
    model: Model | None,
    show: Shown | None = None,
    refine: int = 0,
    **options: Any,
) -> Reached:
    """Code a picture as it is asked for.

    Parameters
    ----------
    source : SampleRows
        The picture; it is read several times.
    target : Target
    model : Model or None
        None if the picture is stored without loss.
    show : callable or None
        Is given the share of the work that is done.
    refine : int
        As `refcodec.codec.encode_strips`. A search is made without refinement; from the quality that it finds,
        refinement goes on to better ones as long as they fit.
    **options
        As `refcodec.codec.encode_strips`, without quality, model, lossless, strips and progress.

    Returns
    -------
    Reached
        The quality, 0 without a model, and the coded picture.

    Raises
    ------
    UsageError
        No quality reaches what is asked for, or an option is out of range.
    LimitExceeded, ModelError
        As `encode_strips`.
    """
    if model is None or target.lossless:
        return Reached(0, _Trials(source, 1, show, **options, lossless=True, refine=refine)())
    steps = model.config.steps
    if not target.searched:
        quality = min(DEFAULT_QUALITY, steps) if target.quality is None else target.quality
        return Reached(quality, _Trials(source, 1, show, **options, model=model, refine=refine)(quality))
    each = steps.bit_length() + NEIGHBOURS
    more = 1 + NEIGHBOURS if check_steps(refine, model) else 0
    storing = bool(options.get("rectangles", True)) and may_gain(storable(source))
    if target.psnr is not None:
        wanted, trials = target.psnr, _Trials(source, each + storing + more, show, **options, model=model)
        reached = _to_psnr(trials, steps, wanted, storing)
        below = range(reached.quality, max(0, reached.quality - more), -1)
        return _refined(trials, reached, below, lambda trial: trial.fidelity.psnr >= wanted, refine)
    budget = int(target.bpp * source.height * source.width / 8) if target.bpp is not None else target.size or 0
    trials = _Trials(source, more + (1 + 2 * each if storing else each), show, **options, model=model)
    reached = _to_size(trials, steps, budget, storing)
    above = range(reached.quality, min(steps + 1, reached.quality + more)) if reached.quality else range(0)
    return _refined(trials, reached, above, lambda trial: len(trial.coded.data) <= budget, refine)


def _refined(
    trials: _Trials, reached: Reached, qualities: range, fits: Callable[[Trial], bool], refine: int
) -> Reached:
    """The last of some qualities whose refined picture fits, or what was reached without refinement."""
    for quality in qualities:
        if not fits(trial := trials(quality, refine=refine)):
            break
        size, psnr = len(trial.coded.data), trial.fidelity.psnr
        reached = Reached(quality, trial, f"{reached.note}; refined: quality {quality}, {size} bytes, {psnr:.2f} dB")
    return reached


def _to_size(trials: _Trials, steps: int, budget: int, storing: bool) -> Reached:
    """The best quality of at most ``budget`` bytes; ``storing`` if parts may be stored without loss."""
    if storing and (size := len((exact := trials(lossless=True)).coded.data)) <= budget:
        return Reached(0, exact, f"the whole picture fits without loss: {size} of {budget} bytes")

    def excess(trial: Trial) -> float:
        return len(trial.coded.data) - budget

    quality, trial, least = best_fit(trials, steps, excess)
    if trial is None and storing:  # text blurs, where it costs more bytes than there are
        quality, trial, least = best_fit(partial(trials, rectangles=False), steps, excess)
    if trial is None:
        raise UsageError(
            "no quality fits",
            budget=budget,
            smallest=budget + int(least),
            quality=quality,
            cause="allow more bytes or a higher rate, or scale the picture down",
        )
    size = len(trial.coded.data)
    return Reached(quality, trial, f"quality {quality} is the highest that fits: {size} of {budget} bytes")


def _to_psnr(trials: _Trials, steps: int, wanted: float, storing: bool) -> Reached:
    """The smallest stream that has the PSNR: of the lowest quality, or without loss if ``storing`` may cost less.

    The lowest quality is the highest step downwards that is not too far from the original.
    """
    exact = trials(lossless=True) if storing else None
    found, trial, least = best_fit(
        lambda step: trials(steps + 1 - step), steps, lambda trial: wanted - trial.fidelity.psnr
    )
    quality = steps + 1 - found
    if exact and (trial is None or len(exact.coded.data) <= len(trial.coded.data)):
        size = len(exact.coded.data)
        return Reached(0, exact, f"without loss is the smallest stream of at least {wanted:g} dB: {size} bytes")
    if trial is None:
        best = round(wanted - least, 2)
        raise UsageError(
            "no quality has this PSNR",
            wanted=wanted,
            best=best,
            quality=quality,
            cause=f"this picture reaches up to {best:g} dB; for more code it without loss (--lossless)",
        )
    return Reached(quality, trial, f"quality {quality} is the lowest of {wanted} dB: {trial.fidelity.psnr:.2f} dB")


__all__ = ["DEFAULT_QUALITY", "Fidelity", "Reached", "Shown", "Target", "Trial", "best_fit", "code"]
