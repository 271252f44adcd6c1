"""Tiled streams of the core suite (SPEC 4.4): how the walk is cut, and that hyperprior and synthesis are not."""

from __future__ import annotations

from collections.abc import Iterator

from ...kit.clauses import cited
from ...synthetic.models.procedural import model
from ...synthetic.writer import random_stream
from ..pictures import coded, cut
from ..registry import Case, generator
from .core import SPECIAL

TILES = cited("4.4-1..6 8.1-9..10 8.1-17..18 8.2-3 8.3-1 8.3-3 8.5-8..9 9.1-8")

CUTS = {  # name: width, height, channels, tile width and height in units of 64, what it is
    "2x2": (128, 128, 3, 1, 1, "four tiles of one size"),
    "smaller-edges": (170, 140, 3, 2, 2, "four tiles, smaller at the right and at the bottom"),
    "row": (200, 40, 3, 1, 1, "four tiles in a row"),
    "column": (40, 200, 1, 1, 1, "four tiles in a column, grey"),
    "larger": (40, 30, 3, 3, 2, "one tile that is larger than the picture"),
    "exact": (128, 64, 3, 2, 1, "one tile that is the padded picture"),
    "narrow": (130, 129, 3, 1, 255, "tiles of one unit from top to bottom"),
    "flat": (129, 130, 1, 255, 1, "tiles of one unit from left to right, grey"),
    "largest": (65, 1, 3, 255, 255, "the largest tile sizes"),
    "wide-tiles": (260, 66, 3, 3, 1, "tiles that are wider than high, the last column of them narrower"),
    "tall-tiles": (66, 260, 3, 1, 3, "tiles that are higher than wide, the last row of them lower"),
}
"""Ways to cut a picture."""

SUGGESTS = (
    "Tiles are taken in another order or of another size, zeros do not surround a tile's latents, contexts of another "
    "tile are read, or the hyperprior or the synthesis runs tile by tile instead of over the whole picture."
)


@generator("core", "tiles")
def tiles() -> Iterator[Case]:
    """Pictures cut in every way: one tile and several, smaller ones at the edges, rows and columns of tiles, tile sizes
    beyond the picture, colour and grey. Random symbols differ in every tile, so tiles that change places show.
    """
    for name, (width, height, channels, wide, high, what) in CUTS.items():
        trace = name in ("smaller-edges", "larger")
        yield Case(
            f"core/tiles-{name}",
            random_stream(model("tiny-7"), 41, width, height, channels, style="plain", tile=(wide, high)),
            "tiny-7",
            (*TILES, *(("13.1-8",) if trace else ())),
            SUGGESTS,
            f"{width}x{height}, tiles of {wide}x{high} units: {what}; random symbols, seed 41",
            trace=trace,
        )
    yield Case(
        "core/tiles-strips",
        random_stream(model("wide-7"), 43, 65, 4100, style="sparse", tile=(1, 255)),
        "wide-7",
        TILES,
        "A tile that is higher than a strip of the synthesis is decoded again for every strip, or read from its top.",
        "65x4100, two tiles that are as high as the picture, style sparse, seed 43",
    )
    yield Case(
        "core/tiles-1088",
        random_stream(model("nano-7"), 45, 1152, 64, style="sparse", tile=(17, 1)),
        "nano-7",
        TILES,
        "A tile of 1024 samples or more has another width than the header says.",
        "1152x64, tiles of 17x1 units, style sparse, seed 45",
    )
    for style in ("mixed", "extremes"):
        yield Case(
            f"core/tiles-symbols-{style}",
            random_stream(model("nano-7"), 42, 100, 70, style=style, tile=(1, 1)),
            "nano-7",
            TILES,
            SUGGESTS,
            f"100x70, tiles of 1x1 unit, style {style}, seed 42",
            definition=style == "mixed",
        )


@generator("core", "tiles-coded")
def tiles_coded() -> Iterator[Case]:
    """Parts of the project's pictures in tiles of 64x64, coded by refcodec's encoder with models of every
    configuration. A reproducible encoder writes the same bytes.
    """
    for name in ("nano-7", "tiny-7", "mid-7", *SPECIAL):
        made = model(name)
        for channels in (3, 1) if name in ("tiny-7", "mid-7") else (3,):
            samples = cut("scene" if channels == 3 else "stone", 100, 70, channels, left=60, top=30)
            quality = min(60, made.config.steps)
            yield Case(
                f"core/tiles-coded-{name}-{'colour' if channels == 3 else 'grey'}",
                coded(samples, quality, made, tile=64),
                name,
                (*TILES, "1.4-5", "6.10-3", "6.10-4", "8.1-20"),
                SUGGESTS,
                f"100x70 samples at (60, 30) of a picture, quality {quality}, tiles of 64x64",
                definition=name == "nano-7",
                trace=name == "nano-7",
            )
