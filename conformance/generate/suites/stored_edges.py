"""Edges of what is stored without loss that mutants nobody chose have shown: core and invalid (SPEC 8.10, 8.11).

The streams of `stored` and `invalid_stored` reach every rule; these meet the rules where a slip of one shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refcodec.lossless.samples import longest_samples

from ...synthetic import stored
from ...synthetic.models.procedural import model
from ...synthetic.streams import Parts, chunk, take_apart
from ...synthetic.writer import random_stream, stream_of
from ..registry import Case, generator
from .invalid import refused
from .stored import (
    ALPHA,
    CODES,
    ROWS,
    SAMPLES,
    alpha_stream,
    lossless,
    lossless_codes,
    named,
    noise,
    random_codes,
    whole_stream,
)

WHOLE = named(SAMPLES, ROWS, ("8.11-1",))

ZEROS = bytes.fromhex("78daedc13101000000c2a0f54fed6909a0") + bytes(254) + bytes.fromhex("e006023c0001")
"""A zlib stream of 512 rows of 513 zeros, two bits for 258 of them: as short as a zlib stream can be."""

RUNS = {
    "average": (3,),
    "paeth-then-left": (4, *(1,) * 31),
    "paeth-then-above": (4, *(2,) * 31),
    "left-twice-then-above": (1, 1, 2),
    "left-twice-then-average": (1, 1, 3),
    "left-twice-then-paeth": (1, 1, 4),
    "above-twice-then-average": (2, 2, 3, 3, 1),
    "none-twice-then-paeth": (0, 0, 4, 4, 0),
    "average-then-left": (3, 3, 3, *(1,) * 29),
}
"""Filters of rows in turn, by name."""


def _case(name: str, data: bytes, clauses: tuple[str, ...], origin: str, **more: Any) -> Case:
    return Case(
        f"core/{name}",
        data,
        more.pop("model", None),
        clauses,
        "Rows of one filter are undone together, codes are copied in runs, or bytes are inflated in pieces, and the "
        "first or last of them is treated like the others.",
        origin,
        **more,
    )


@generator("core", "stored-edges")
def edges() -> Iterator[Case]:
    """Runs of rows of one filter before rows of another, codes in a picture of one column or row, the longest list of
    colours of one pixel, the shortest zlib stream, and empty blocks of more than 2^15 bytes before the data.
    """
    for name, filters in RUNS.items():
        payload = stored.rows(noise(121, 32, 32, 3), filters=filters, pack=stored.fixed)
        yield _case(
            f"lossless-run-{name}",
            whole_stream(payload, 32, 32, 3),
            WHOLE,
            f"32x32, filters {filters[:3]}... in turn, seed 121",
        )
    for width, height in ((1, 40), (40, 1)):
        for neighbours in (1, 2, 4, 8, 15):
            payload = random_codes(122, height, width, 3, 4, neighbours, 1, filters=(0, 1, 2))
            if neighbours < 15:  # the first pixel is that of a neighbour outside the picture
                first = np.zeros((height, width), np.int64)
                first[:, :] = 1
                payload = stored.codes(first, 4, neighbours, 1, bytes((7, 8, 9)))
            yield _case(
                f"lossless-codes-{width}x{height}-{neighbours:02}",
                whole_stream(payload, width, height, 3),
                named(SAMPLES, CODES, ("8.11-1",)),
                f"{width}x{height}, codes of neighbours {neighbours:04b}",
            )
    listed = stored.codes(np.full((1, 1), 254), 8, 0, 255, bytes(range(255)))
    yield _case(
        "alpha-1x1-255-listed",
        random_stream(model("tiny-7"), 123, 1, 1, style="sparse", chunks=(("ALPH", listed),)),
        named(ALPHA, SAMPLES, CODES),
        "1x1, alpha as codes with 255 listed colours, the last of which is taken",
        model="tiny-7",
    )
    yield _case(
        "alpha-transparent-512x512",
        stream_of(model("nano-7"), 512, 512, chunks=(("ALPH", b"\0" + ZEROS),)),
        named(ALPHA, SAMPLES, ROWS),
        "512x512, wholly transparent, in a zlib stream of 277 bytes",
        model="nano-7",
    )
    pixels = stored.filtered(noise(124, 1, 1, 3).repeat(60, axis=0).repeat(200, axis=1), (1,))
    empty = b"\0" + stored.zlib_stream(b"\0\0\0\xff\xff" * 6600 + stored.fixed(pixels)[2:-4], pixels)
    assert 5 * 6600 > 1 << 15 and len(empty) <= 1 + 2 * len(pixels) + 64
    yield _case(
        "lossless-zlib-6600-empty",
        whole_stream(empty, 200, 60, 3),
        named(WHOLE, ("8.10-6", "8.10-7")),
        "200x60, 33,000 bytes of empty stored blocks before the first that holds something",
    )


@generator("invalid", "stored-edges")
def broken_edges() -> Iterator[Case]:
    """A length that is right in its low 24 bits, a byte more behind many that are stored, and a LOSS that is too long
    before a chunk that nobody knows.
    """
    suggests = "A length is compared in part, or a limit is tested after other rules."

    def with_payload(base: bytes, payload: bytes) -> Parts:
        parts = take_apart(base)
        parts.chunks = [chunk(b"LOSS", payload)]
        return parts

    codes = take_apart(lossless_codes()).chunks[0][8:]
    longer = codes[:6] + b"\1" + codes[7:]
    yield refused(
        "stored-codes-length-plus-2-24",
        with_payload(lossless_codes(), longer).sealed(),
        ("8.10-13", "8.10-16"),
        suggests,
        "2^24 more than the length",
        "lossless-codes",
    )
    pixels = stored.filtered(noise(125, 60, 200, 3), (0,))
    parts = with_payload(lossless(), b"\0" + stored.stored(pixels + b"\0"))
    parts.put("width", 200)
    parts.put("height", 60)
    assert len(pixels) > 1 << 15
    yield refused(
        "stored-rows-many-and-a-byte", parts.sealed(), ("8.10-6", "8.10-9"), suggests, "200x60 and a byte", "lossless"
    )
    parts = take_apart(alpha_stream())
    alpha = random_codes(126, 3, 5, 1, 2, 1, 1)
    for more in (1, 12):
        parts.put("fingerprint", 1)
        parts.chunks = [chunk(b"ALPH", alpha[:3] + (len(alpha) - 7 + more).to_bytes(4, "little") + alpha[7:])]
        yield refused(
            f"stored-alpha-codes-longer-by-{more}",
            parts.sealed(),
            ("8.5-11", "8.5-12", "8.10-16"),
            "Alpha is looked at only after the model was looked for, or a length is compared with another end.",
            f"codes that are said to be {more} longer than the payload, and a model that nobody has",
            "alpha",
        )
    parts = with_payload(lossless(), bytes(longest_samples(3, 5, 3) + 1))
    parts.chunks.append(chunk(b"Need", b""))
    yield refused(
        "stored-chunk-too-long-before-required",
        parts.sealed(),
        ("8.4-9", "8.5-10", "8.11-11"),
        suggests,
        "a byte too long, then an unknown required chunk",
        "lossless",
    )
