"""The geometry suite: sizes, aspect ratios, grey and colour, qualities, with one tiny model.

Half of the pictures are coded by refcodec's encoder, which repeats the last column and row; the others are random
symbols, whose padding is no continuation of what is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from refcodec.model.procedural import draws

from ...kit.clauses import cited
from ...synthetic.models.procedural import model
from ...synthetic.writer import no_z, random_stream, stream_of
from ..pictures import coded as coded_picture
from ..pictures import cut
from ..registry import Case, generator

MODEL = "tiny-7"

MULTIPLES = (16, 32, 48, 64, 80, 96, 112, 128, 192, 256)
LENGTHS = tuple(sorted({1, 2, 3, 5, *(m + d for m in MULTIPLES for d in (-1, 0, 1))}))
"""One, few, and the neighbours of multiples of 16, of which some are multiples of 64."""

CORNERS = tuple(m + d for m in (16, 64, 128) for d in (-1, 0, 1))
"""Lengths that are met with each other in both axes."""

LONG = (1000, 4095, 4097, 16385)
"""Long sides of extreme aspect ratios."""

SIZE = cited("4.1-1 4.2-1 4.3-2 5.3-1 6.3-1..2 8.1-6..7 9.1-1 12.2-1 12.2-3")
SUGGESTS = (
    "Rows and columns are mixed up, the picture is padded to another size, cropped at the wrong side, or a "
    "block of positions is cut wrongly at the edge of a map."
)


def _colour(channels: int) -> tuple[str, ...]:
    return ("4.3-1",) if channels == 3 else ("4.2-2", "4.3-3")


def _sized(width: int, height: int, channels: int, coded: bool) -> Case:
    """The case of a size; its id tells all but the seed."""
    made = model(MODEL)
    if coded:
        data = coded_picture(cut("scene", width, height, channels, left=width, top=height), 60, made)
    else:
        data = random_stream(made, 1024 * width + height, width, height, channels, quality=60, style="plain")
    name = f"{width}x{height}-{'colour' if channels == 3 else 'grey'}"
    return Case(
        f"geometry/{name}",
        data,
        MODEL,
        (*SIZE, *_colour(channels)),
        SUGGESTS,
        f"{width}x{height}, {'part of scene.png' if coded else 'random symbols'}, quality 60",
        definition=max(width, height) <= 64 and min(width, height) == 1,
    )


@generator("geometry", "lines")
def lines() -> Iterator[Case]:
    """Single rows and columns, grey and colour in turn, of lengths around every multiple of 16 up to 128, and around
    192 and 256.
    """
    for n, length in enumerate(LENGTHS):
        yield _sized(length, 1, 3 if n % 2 else 1, coded=n % 4 < 2)
        if length > 1:
            yield _sized(1, length, 1 if n % 2 else 3, coded=n % 4 >= 2)
    yield _sized(1, 1, 3, coded=True)


@generator("geometry", "corners")
def corners() -> Iterator[Case]:
    """Every pair of lengths next to 16, 64 and 128, grey and colour in turn."""
    for n, (width, height) in enumerate(product(CORNERS, CORNERS)):
        yield _sized(width, height, 1 if n % 3 == 1 else 3, coded=n % 2 == 0)


@generator("geometry", "steps-of-16")
def steps_of_16() -> Iterator[Case]:
    """Three rows and three columns' worth of every length around multiples of 16 between 160 and 256 that lines leaves
    out, so that every count of latents up to 16 occurs in both axes.
    """
    for n, multiple in enumerate((144, 160, 176, 208, 224, 240)):
        for length in (multiple - 1, multiple, multiple + 1):
            yield _sized(length, 3 + n, 3, coded=False)
            yield _sized(3 + n, length, 1, coded=False)


def _few(i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Symbols of which one in 32 is not zero: small streams of large pictures."""
    symbols, chosen = (
        draws(seed, f"few/{i}/{parity}", levels.size, low, choices) for seed, low, choices in ((5, -2, 5), (6, 0, 32))
    )
    return np.where(chosen == 0, symbols, 0).reshape(levels.shape).astype(np.int32)


@generator("geometry", "aspects")
def aspects() -> Iterator[Case]:
    """Extreme aspect ratios: sides of 1000 to 16385 next to sides of 1 to 17, both ways, grey and colour in turn."""
    for n, long in enumerate(LONG):
        for across in (False, True):
            short = (1, 2, 17, 1)[n]
            width, height = (short, long) if across else (long, short)
            channels = 1 if (n + across) % 2 else 3
            yield Case(
                f"geometry/aspect-{width}x{height}",
                stream_of(model(MODEL), width, height, channels, 60, no_z, _few),
                MODEL,
                (*SIZE, *_colour(channels)),
                "A size is held in 8, 12 or 14 bits, or memory is laid out for squares; strips and shares of "
                "threads are cut wrongly.",
                f"{width}x{height}, one symbol in 32 is not zero, quality 60",
            )


@generator("geometry", "qualities")
def qualities() -> Iterator[Case]:
    """Every quality 1..100 of a model with gains, colour with some grey."""
    made = model(MODEL)
    for step in range(1, 101):
        channels = 1 if step % 10 == 5 else 3
        samples = cut("chart", 20, 16, channels, left=2 * step, top=step)
        yield Case(
            f"geometry/quality-{step:03}",
            coded_picture(samples, step, made),
            MODEL,
            ("6.1-3", "6.9-4", "5.4-2", "8.1-5", *_colour(channels)),
            "The gains of a quality are taken from another row than step - 1, or their shift belongs to "
            "another channel.",
            f"20x16 samples at ({2 * step}, {step}) of chart.png, quality {step}",
            definition=step in (1, 37, 100),
        )


@generator("geometry", "tall")
def tall() -> Iterator[Case]:
    """Thousands of rows: decoders that work strip by strip or block by block have more than one of them, and sums over
    all positions exceed 32 bits.
    """
    for name, height, seed in (("wide-7", 8200, 1), ("slices-7", 11300, 3)):
        data = random_stream(model(name), seed, 64, height, style="plain")
        yield Case(
            f"geometry/tall-{name.removesuffix('-7')}-{height}",
            data,
            name,
            ("1.3-4", "4.1-1", "5.9-2", "5.9-3", "9.1-1"),
            "Strips or blocks are not joined rightly, or sums over positions wrap in 32 bits.",
            f"64x{height}, random symbols, seed {seed}",
        )
