"""The suite of large streams, which the kit does not hold: ``python -m conformance generate large`` makes it.

Streams are small and pictures large: a count, an index or an offset of 16 or 24 bits is too narrow. A level above 4 is
claimed with it (SPEC 14.1). Level 8 begins at 2^31 pixels, which no vector has.
"""

from __future__ import annotations

from collections.abc import Iterator

from refcodec.model.registry import load_model

from ...kit.clauses import cited
from ...synthetic.models import observed
from ...synthetic.models.broken_models import BASE
from ...synthetic.models.procedural import edited_file, model
from ...synthetic.writer import random_stream, stream_of
from ..registry import Case, generator

SIZES = {
    "level-5": (1, 32769),
    "level-6": (1, 65537),
    "level-6-wide": (65537, 1),
    "level-7": (1, 131073),
    "positions-of-level-4": (2113, 2048),
    "positions-2-16": (4097, 4096),
}
"""Width and height, one above a power of two: rows, columns, positions and pixels pass 2^15, 2^16, 2^17 and 2^24."""


@generator("large", "sizes")
def sizes() -> Iterator[Case]:
    """Sides and areas of levels 4 to 7, one above powers of two."""
    for n, (name, (width, height)) in enumerate(SIZES.items()):
        yield Case(
            f"large/{name}",
            random_stream(model(BASE), 60 + n, width, height, style="plain"),
            BASE,
            cited("4.1-1 4.2-1 6.3-2 9.1-1..2 12.2-1 12.2-3"),
            "A row, a column, a latent position, a pixel or an offset in a map is counted in 16 or 24 bits.",
            f"{width}x{height}, random symbols, seed {60 + n}",
        )


@generator("large", "symbols")
def symbols() -> Iterator[Case]:
    """More than 65536 symbols of z, and a segment of more than 2^20 bytes."""
    yield Case(
        "large/z-symbols",
        random_stream(load_model(edited_file(observed.MANY_Z.model)), 70, 64, 521 * 64, style="plain"),
        observed.MANY_Z.model,
        cited("6.4-3..5 7.3-3 9.1-6"),
        "Symbols of z are counted in 16 bits, or channels of z are a power of two.",
        "64x33344, 65646 symbols of z, seed 70",
    )
    yield Case(
        "large/segment-2-20",
        random_stream(model(BASE), 71, 1024, 3136, style="extremes"),
        BASE,
        cited("7.2-2..3 7.3-3 8.3-1 9.1-4"),
        "Bytes or words of a segment are counted in 16 bits, or a buffer for them is too small.",
        "1024x3136, symbols of 32767 and -32767, seed 71",
    )


@generator("large", "sums")
def sums() -> Iterator[Case]:
    """An attention over more than 2^14 positions, whose sums pass 2^53 and, shifted by context_shift, 2^65."""
    yield Case(
        "large/sums-2-53",
        stream_of(load_model(edited_file(observed.CONTEXTS.model)), 2048, 2112),
        observed.CONTEXTS.model,
        cited("5.9-3 9.2-6"),
        "Sums of exponentials times values are shifted in 64 bits.",
        "16896 positions, no symbols",
    )


@generator("large", "slices")
def slices() -> Iterator[Case]:
    """A model of 32 slices, as many as there may be."""
    yield Case(
        "large/slices-32",
        random_stream(model("all-slices-7"), 72, 64, 64),
        "all-slices-7",
        cited("6.1-2 6.3-3 6.3-10 6.9-6 9.1-6"),
        "Slices are counted in a list that is too short, or their order is that of names as text.",
        "random symbols, seed 72",
    )
