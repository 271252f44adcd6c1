"""Unit cases of tiles, regions and samples without loss (SPEC 4.4, 4.5, 8.10, 8.11)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...kit.clauses import cited
from ...kit.specification import definition
from ...synthetic import stored
from ...synthetic.stored import GREEN, GREY, PALETTE, SAME
from ..unit_writer import Input, unit
from .stored import THREE, listed, noise, random_codes

Cases = Iterator[tuple[str, Input]]

CUTS = (
    (4, 4, 0, 0),
    (4, 4, 4, 4),
    (12, 20, 8, 8),
    (12, 20, 4, 1020),
    (12, 20, 1020, 4),
    (8, 8, 16, 16),
    (20, 12, 12, 8),
)
"""Rows and columns of y, and those of a tile."""

REGIONS = (
    (0, 0, 1, 1),
    (15, 16, 1, 1),
    (111, 112, 1, 1),
    (112, 113, 2, 15),
    (127, 128, 16, 17),
    (128, 127, 17, 16),
    (0, 0, 640, 640),
    (639, 639, 1, 1),
    (0, 200, 640, 1),
    (200, 0, 1, 640),
    (143, 144, 97, 96),
)
"""Parts of a picture of 640x640 samples: x, y, width, height."""


@unit(
    "tile-places",
    "tile_places",
    ("4.4-1", "4.4-2"),
    "Tiles are cut from another corner, counted by columns, or padded.",
)
def tile_places() -> Cases:
    """Tiles of small maps, with smaller ones at the right and at the bottom."""
    for rows, columns, tile_rows, tile_columns in CUTS:
        sizes = {"rows": rows, "columns": columns, "tile_rows": tile_rows, "tile_columns": tile_columns}
        yield f"{rows}x{columns} by {tile_rows}x{tile_columns}", sizes


@unit(
    "region-needs", "region_needs", ("4.5-1", "4.5-3"), "The reach of the synthesis is too small or too large by one."
)
def region_needs() -> Cases:
    """What regions of a picture of 640x640 samples need of y_hat: around borders of 16, at all sides, the whole."""
    for region in REGIONS:
        yield str(region), {"region": list(region), "rows": 40, "columns": 40}


@unit(
    "region-tiles",
    "region_tiles",
    ("4.5-2", "4.5-4"),
    "A tile that holds a position in reach is left out, or one too many is read.",
)
def region_tiles() -> Cases:
    """The tiles whose y regions need: those whose latents their samples see, and no others."""
    yield from _regions_in_tiles((8, 8), (16, 12), (40, 4))


@unit(
    "region-z-tiles",
    "region_z_tiles",
    ("4.5-4", "4.5-5"),
    "A tile whose z is within reach of the hyper parameters is left out, or one too many is read.",
)
def region_z_tiles() -> Cases:
    """The tiles whose z regions need: those around the tiles whose y they need, up to the reach of h_s."""
    yield from _regions_in_tiles((8, 8), (16, 12), (40, 4), (4, 40))


def _regions_in_tiles(*sizes: tuple[int, int]) -> Cases:
    """All regions with tiles of several sizes."""
    for high, wide in sizes:
        places = definition().tile_places(40, 40, high, wide)
        for region in REGIONS:
            name = f"{region} of {high}x{wide}"
            yield name, {"region": list(region), "rows": 40, "columns": 40, "places": places}


@unit(
    "samples-limit",
    "samples_limit",
    ("8.10-7", "8.11-11"),
    "A payload is refused that may be so long, or one that may not is read.",
)
def samples_limit() -> Cases:
    """The longest payloads of samples of some sizes."""
    for height, width, channels in ((1, 1, 1), (1, 1, 3), (3, 5, 3), (64, 1, 1), (2**20, 2**20, 3)):
        yield f"{width}x{height}x{channels}", {"height": height, "width": width, "channels": channels}


@unit(
    "rectangles-limit",
    "rectangles_limit",
    ("8.4-9", "8.11-2", "8.11-11"),
    "A chunk is refused that may be so long, or one that may not is read.",
)
def rectangles_limit() -> Cases:
    """The longest LOSS of pictures of one block and of many, with and without loss."""
    for height, width in ((1, 1), (64, 65), (70, 300), (2**20, 2**20)):
        for channels in (1, 3):
            for lossless in (0, 1):
                fields = {"height": height, "width": width, "channels": channels, "lossless": lossless}
                yield f"{width}x{height}x{channels}, {lossless}", {"fields": fields}


@unit(
    "samples-without-loss",
    "lossless_samples",
    cited("8.10-1..6 8.10-9..19"),
    "A kind, filter, table or code is read as another one, or a fault passes.",
)
def samples_without_loss() -> Cases:
    """Payloads of every kind, and of every fault that is met while they are read."""
    samples = noise(101, 4, 5, 3)
    table = noise(102, 6, 1, 3)[:, 0]
    inside = table[noise(103, 4, 5, 1, values=6)[:, :, 0] % 6]
    equal = np.repeat(samples[:, :, :1], 3, axis=2)
    rows = stored.rows(samples, filters=(0, 1, 2, 3))
    codes = random_codes(104, 4, 5, 3, 4, 0b1111, 3)
    for name, channels, payload in (
        *((f"filter {n}", 3, stored.rows(samples, filters=(n,))) for n in range(5)),
        *((f"filter {n}, grey", 1, stored.rows(samples[:, :, :1], filters=(n,))) for n in range(5)),
        ("green", 3, stored.rows(samples, GREEN, (1, 4))),
        ("equal", 3, stored.rows(equal, GREY, (2,))),
        ("palette", 3, stored.rows(inside, PALETTE, (3, 4), table)),
        *((f"codes {n}", 3, random_codes(105, 4, 5, 3, 1 << n % 4, n % 2 << n % 4, n % 2, SAME)) for n in range(8)),
        ("codes, grey", 1, random_codes(106, 4, 5, 1, 2, 0b0101, 1)),
        ("codes, green", 3, random_codes(107, 4, 5, 3, 8, 0b1000, 100, GREEN)),
        ("codes, equal", 3, random_codes(108, 4, 5, 1, 4, 0b0010, 9, GREY)),
        ("codes, palette", 3, random_codes(109, 4, 5, 1, 2, 0b0001, 2, PALETTE, table)),
        ("nothing", 3, b""),
        ("kind 8", 3, b"\x08" + rows[1:]),
        ("kind 4, grey", 1, b"\x04" + stored.rows(samples[:, :, :1])[1:]),
        ("cut", 3, rows[:-1]),
        ("longer", 3, rows + b"\0"),
        ("filter 5", 3, b"\0" + stored.stored(bytes([5]) + bytes(63))),
        ("form 64", 3, codes[:1] + bytes([codes[1] | 64]) + codes[2:]),
        ("codes cut", 3, codes[:-1]),
        ("codes longer", 3, codes + b"\0"),
    ):
        yield name, {"payload": payload, "height": 4, "width": 5, "channels": channels}


@unit(
    "rectangle-lists",
    "lossless_rectangles",
    cited("8.11-2..7"),
    "A list of rectangles is read with another order of numbers, or a fault passes.",
)
def rectangle_lists() -> Cases:
    """Lists that are right, and one of every fault."""
    right = listed(THREE)
    yield "three", {"payload": right, "height": 70, "width": 100}
    yield "three in the smallest picture", {"payload": right, "height": 13, "width": 129}
    for name, payload in (
        ("nothing", b""),
        ("count alone", right[:4]),
        ("count 0", bytes(4)),
        ("cut", right[:-1]),
        ("longer", right + b"\0"),
        ("exchanged", right[:4] + right[24:44] + right[4:24] + right[44:]),
        ("twice", right[:4] + right[4:24] * 2 + right[44:]),
    ):
        yield name, {"payload": payload, "height": 70, "width": 100}
