"""What is stored without loss in the core suite: whole pictures, alpha, rectangles (SPEC 8.10, 8.11)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from refcodec.bitstream.container import Header, reconstruction_digest, serialise
from refcodec.codec import decode_stream
from refcodec.model.procedural import draws

from ...kit.clauses import cited
from ...synthetic import stored
from ...synthetic.models.procedural import model
from ...synthetic.stored import GREEN, GREY, PALETTE, SAME
from ...synthetic.writer import random_stream, stream_of
from ..registry import Case, generator, sound

SAMPLES = cited("8.10-1..7 8.10-20 8.11-11")
ROWS = cited("8.10-9..12")
CODES = cited("8.10-13..19")
WHOLE = cited("6.10-5 8.1-3 8.1-14 8.1-16 8.4-6 8.4-11 8.11-1")
ALPHA = cited("4.1-4 8.1-20 8.4-4 8.4-6 8.11-10")
RECTANGLES = cited("8.4-6 8.11-2..6 8.11-8")


def named(*groups: tuple[str, ...]) -> tuple[str, ...]:
    """Clauses of several groups, each once."""
    return tuple(dict.fromkeys(clause for group in groups for clause in group))


def noise(seed: int, height: int, width: int, channels: int, values: int = 256) -> np.ndarray:
    """Random samples.

    Parameters
    ----------
    seed : int
    height, width, channels : int
    values : int
        Number of different values, from 2 to 256; they are spread over 0..255.

    Returns
    -------
    np.ndarray [height, width, channels], uint8
    """
    drawn = draws(seed, "samples", height * width * channels, 0, values) * (255 // (values - 1))
    return drawn.astype(np.uint8).reshape(height, width, channels)


def random_codes(
    seed: int,
    height: int,
    width: int,
    size: int,
    bits: int,
    neighbours: int,
    listed: int,
    colour: int = SAME,
    table: np.ndarray | None = None,
    **more: Any,
) -> bytes:
    """(SPEC 8.10-13) A payload of random codes, each with a meaning, and of random colours.

    Parameters
    ----------
    seed : int
    height, width : int
        Of the samples.
    size : int
        Bytes per colour.
    bits : int
        Bits per code.
    neighbours : int
        Bits that say which neighbours have a code.
    listed : int
        Number of listed colours.
    colour : int
        How colours are stored.
    table : np.ndarray or None
        Values of samples, None for 0..255.
    **more
        Further arguments of `conformance.synthetic.stored.codes`.

    Returns
    -------
    bytes
    """
    new = listed + neighbours.bit_count()
    numbers = draws(seed, "codes", height * width, 0, min(new + 1, 1 << bits)).reshape(height, width)
    count = (listed + int((numbers == new).sum())) * size
    values = 256 if table is None else len(table)
    colours = draws(seed, "colours", count, 0, values).astype(np.uint8).tobytes()
    return stored.codes(numbers, bits, neighbours, listed, colours, colour, table, **more)


def whole_stream(payload: bytes, width: int, height: int, channels: int, *chunks: tuple[str, bytes]) -> bytes:
    """(SPEC 8.11-1) The stream of a losslessly stored picture, with its digest.

    Parameters
    ----------
    payload : bytes
        Of the chunk LOSS.
    width, height, channels : int
        Of the picture.
    *chunks : (str, bytes)
        Further chunks.

    Returns
    -------
    bytes
    """
    header = Header(width, height, channels, 0, bytes(16), lossless=True)
    chunks = (("LOSS", payload), *chunks)
    samples, _ = decode_stream(serialise(header, (), chunks))
    header = Header(width, height, channels, 0, bytes(16), lossless=True, digest=reconstruction_digest(samples))
    return serialise(header, (), chunks)


@sound("lossless")
def lossless() -> bytes:
    """A valid stream of a picture without loss, 5x3, as rows."""
    return whole_stream(stored.rows(noise(51, 3, 5, 3), filters=(0, 1, 2)), 5, 3, 3)


@sound("lossless-codes")
def lossless_codes() -> bytes:
    """A valid stream of a picture without loss, 5x3, as codes of two bits with one neighbour and one listed colour."""
    return whole_stream(random_codes(52, 3, 5, 3, bits=2, neighbours=1, listed=1), 5, 3, 3)


@sound("lossless-palette")
def lossless_palette() -> bytes:
    """A valid stream of a picture without loss, 5x3, as rows with a table of four colours."""
    return whole_stream(_palette(53, 3, 5, 4), 5, 3, 3)


@sound("lossless-grey")
def lossless_grey() -> bytes:
    """A valid stream of a grey picture without loss, 1x1."""
    return whole_stream(stored.rows(noise(54, 1, 1, 1)), 1, 1, 1)


@sound("alpha")
def alpha_stream() -> bytes:
    """A valid stream with alpha, 5x3, as rows."""
    payload = stored.rows(noise(55, 3, 5, 1), filters=(4, 3, 2))
    return random_stream(model("nano-7"), 55, 5, 3, style="plain", chunks=(("ALPH", payload),))


@sound("rectangles")
def rectangles_stream() -> bytes:
    """A valid stream with three rectangles in a picture of 2x2 blocks."""
    return random_stream(model("nano-7"), 56, 100, 70, style="plain", chunks=(("LOSS", listed(THREE)),))


THREE = [(10, 4, 3, 8), (13, 5, 4, 2), (0, 12, 14, 1)]
"""Rectangles x, y, width, height that touch each other."""


def listed(places: list[tuple[int, int, int, int]], channels: int = 3) -> bytes:
    """(SPEC 8.11) A payload of LOSS with random samples in every rectangle."""
    payloads = [stored.rows(noise(57 + n, h, w, channels), filters=(n % 5,)) for n, (_, _, w, h) in enumerate(places)]
    return stored.rectangles(places, payloads)


def _palette(seed: int, height: int, width: int, count: int, used: int = 0, **more: Any) -> bytes:
    """A payload of rows with a table of so many colours, of which the first ``used`` or all occur."""
    table = np.unique(noise(seed, 4 * count, 1, 3)[:, 0], axis=0)[::-1][:count]
    numbers = draws(seed, "numbers", height * width, 0, used or count)
    samples = table[numbers].reshape(height, width, 3)
    return stored.rows(samples, PALETTE, table=table, **more)


def _case(name: str, data: bytes, clauses: tuple[str, ...], origin: str) -> Case:
    return Case(
        f"core/lossless-{name}",
        data,
        None,
        named(WHOLE, SAMPLES, clauses),
        "A picture that is stored without loss is read as another kind, filter, table or code than 8.10 says, or a "
        "model is asked for.",
        origin,
    )


@generator("core", "lossless-rows")
def lossless_rows() -> Iterator[Case]:
    """Pictures without loss as rows: every kind, every filter alone and in turn, sizes from 1x1, palettes of 1 to 256
    colours. They need no model.
    """
    for channels in (3, 1):
        colour = "colour" if channels == 3 else "grey"
        for width, height in ((1, 1), (9, 1), (1, 9), (2, 3), (13, 17)):
            payload = stored.rows(noise(61, height, width, channels), filters=(4, 3, 2, 1, 0))
            data = whole_stream(payload, width, height, channels)
            yield _case(f"rows-{width}x{height}-{colour}", data, ROWS, f"{width}x{height}, filters in turn, seed 61")
        for number in range(5):
            samples = noise(62 + number, 11, 12, channels, values=2 if number == 4 else 256)
            payload = stored.rows(samples, filters=(number,))
            data = whole_stream(payload, 12, 11, channels)
            yield _case(f"filter-{number}-{colour}", data, ROWS, f"12x11, filter {number}, seed {62 + number}")
    payload = stored.rows(noise(76, 300, 96, 1), filters=(4,), pack=stored.fixed)
    data = whole_stream(payload, 96, 300, 1)
    yield _case("tall-paeth", data, ROWS, "96x300, filter 4 in more rows than a decoder may undo at once, seed 76")
    samples = noise(67, 8, 10, 3)
    grey = np.repeat(samples[:, :, :1], 3, axis=2)
    for name, payload, what in (
        ("green", stored.rows(samples, GREEN, (0, 1, 2, 3, 4)), "green subtracted"),
        ("three-equal", stored.rows(grey, GREY, (0, 1, 2, 3, 4)), "three equal channels"),
        ("palette", _palette(68, 8, 10, 7, filters=(0, 1, 2, 3, 4)), "a table of 7 colours"),
        ("palette-1", _palette(69, 8, 10, 1), "a table of one colour"),
        ("palette-256", _palette(70, 8, 10, 256), "a table of 256 colours"),
        ("palette-unused", _palette(71, 8, 10, 200, used=3), "a table of 200 colours, three of them used"),
    ):
        data = whole_stream(payload, 10, 8, 3)
        yield _case(name, data, (*ROWS, "8.10-3", "8.10-5"), f"10x8, {what}")


@generator("core", "lossless-codes")
def lossless_coded() -> Iterator[Case]:
    """Pictures without loss as codes: every number of bits, every set of neighbours, no listed colour and as many as
    codes allow, with and without a code for the next colour, every kind; bits left over that are not 0.
    """
    for bits, neighbours in product((1, 2, 4, 8), range(16)):
        room = (1 << bits) - neighbours.bit_count()
        counts = sorted({n for n in (0, min(room - 1, 5), min(room, 255)) if 0 <= n <= room})
        for count in counts if neighbours in (0, 1) or bits < 2 else counts[neighbours % 3 :][:1]:
            payload = random_codes(72, 7, 13, 3, bits, neighbours, count, rest=(1 << bits) - 1, filters=(0, 2))
            yield _case(
                f"codes-{bits}-{neighbours:02}-{count:03}",
                whole_stream(payload, 13, 7, 3),
                CODES,
                f"13x7, codes of {bits} bits, neighbours {neighbours:04b}, {count} listed colours, seed 72",
            )
    table = noise(73, 6, 1, 3)[:, 0]
    for name, channels, size, colour, palette in (
        ("grey", 1, 1, SAME, None),
        ("green", 3, 3, GREEN, None),
        ("three-equal", 3, 1, GREY, None),
        ("palette", 3, 1, PALETTE, table),
    ):
        payload = random_codes(74, 9, 11, size, 4, 0b1111, 6, colour, palette, filters=(0, 1, 2, 3, 4))
        data = whole_stream(payload, 11, 9, channels)
        yield _case(f"codes-{name}", data, (*CODES, "8.10-3"), f"11x9, codes of 4 bits, {name}, seed 74")
    one = random_codes(75, 1, 1, 3, 1, 0, 1)
    yield _case("codes-1x1", whole_stream(one, 1, 1, 3), CODES, "1x1, one listed colour, seed 75")


DYNAMIC = bytes.fromhex(
    "78daddd8a16ec3301006607b8d5410c9430596ac91b148258702268d958c16159b8c0df62186fd247b08e33ed196c520567cfd6f6052"
    "6ceb030117c9a7e87e27514aba48c6cb049928507903fa2f0d6cb1ac5395af9db8d26eb3ec413da9ba894b49c6cb049988d5de80fe7d"
    "0a4da7d07edb053b7554eaf19e2e5d5854c0967585bb2c2ac8caf8829f14aa7ebd00fb843826e3d70e0561c9b1e2ec99577d037adaa5"
    "6880483661241b4192cd28c121eec431bad977a1a33068ad2c89ad2caaad2ccb2d0cfb0652e8029884382ee3d78682b034b2e2ecc4ab"
    "be01adaee00919944206a590412964500a99a6bfc8a4e780959d0356760e58d93960e139d0400a5d019310c765fcda50109646569c9d"
    "78f8df8c4988e3327e6d28084b232bce4e3c3dedb2ed14829f4b06151cfeb360a7dec0cd3d4aa11ea5508f52a84729d4379d425fc021"
    "21ce90f16baf0561e9cc8ab3775ef50de86997a20122d984916c044936a30487b88177a14bed2954fddfe91be012e28c19bf762e084b"
    "1fac38fbe455df809e7679773994420ea5904329e4500ab98653e81bde6140cb"
)
"""A zlib stream of dynamic blocks."""


@generator("core", "lossless-zlib")
def lossless_zlib() -> Iterator[Case]:
    """Deflated bytes in every kind of block, of many blocks and of empty ones, as long as they may be."""
    samples = noise(76, 24, 20, 3, values=2) // 8 * 8
    samples[5:9] = 40
    pixels = stored.filtered(samples, (0,))
    for name, stream, what in (
        ("fixed", stored.fixed(pixels), "fixed codes, with repetitions"),
        ("stored-of-7", stored.stored(pixels, 7), "stored blocks of 7 bytes"),
        ("empty-first", stored.stored(pixels, empty=9), "nine empty blocks before the first"),
    ):
        yield _case(
            f"zlib-{name}", whole_stream(b"\0" + stream, 20, 24, 3), ("8.10-6", "8.10-7", *ROWS), f"20x24, {what}"
        )
    most = b"\0" + stored.stored(b"\0\x93", empty=11)  # n = 2, and 2 n + 64 bytes
    assert len(most) == 1 + 2 * 2 + 64
    yield _case("zlib-longest", whole_stream(most, 1, 1, 1), ("8.10-6", "8.10-7"), "1x1 grey, a stream of 68 bytes")
    assert zlib.decompress(DYNAMIC) == _steps()
    data = whole_stream(b"\0" + DYNAMIC, 64, 40, 3)
    yield _case("zlib-dynamic", data, ("8.10-6", *ROWS), "64x40, dynamic codes")


def _steps() -> bytes:
    """Rows whose zlib stream has dynamic codes and distant repetitions."""
    row, column = np.mgrid[:40, :64]
    samples = np.stack([row // 9 * (column // 11) * 7, row // 5 * 30, 50 * (column // 13)], axis=2).astype(np.uint8)
    return stored.filtered(samples, (0, 0, 1, 4, 3, 2))


@generator("core", "lossless-pictures")
def lossless_pictures() -> Iterator[Case]:
    """Pictures without loss with alpha, with chunks around them, and without a digest."""
    payload, alpha = stored.rows(noise(77, 6, 7, 3), GREEN, (1, 4)), stored.rows(noise(78, 6, 7, 1), filters=(2,))
    yield _case("alpha", whole_stream(payload, 7, 6, 3, ("ALPH", alpha)), ALPHA, "7x6, with alpha")
    grey = stored.rows(noise(79, 6, 7, 1))
    yield _case("alpha-grey", whole_stream(grey, 7, 6, 1, ("ALPH", alpha)), ALPHA, "7x6, grey with alpha")
    header = Header(7, 6, 3, 0, bytes(16), lossless=True)
    chunks = (("exif", b"II*\0"), ("ALPH", alpha), ("qq  ", b"q"), ("LOSS", payload), ("xmp ", b""))
    yield _case("chunks", serialise(header, (), chunks), (*ALPHA, "8.4-1"), "7x6, no digest, LOSS behind ALPH")
    tall = stored.rows(noise(80, 600, 2, 3, values=4), filters=(4, 3, 2, 1, 4, 0), pack=stored.fixed)
    yield _case("tall", whole_stream(tall, 2, 600, 3), ROWS, "2x600, filters in turn, four values")


@generator("core", "alpha")
def alpha() -> Iterator[Case]:
    """Alpha as rows and as codes, over colour and grey, of sizes from 1x1 to more rows than a strip, and in tiled
    streams. The digest covers it.
    """
    suggests = (
        "Alpha is left out, decoded with the picture's channels, put before the colours, or left out of the digest."
    )
    for name, made, width, height, channels, tile in (
        ("1x1", "tiny-7", 1, 1, 3, (0, 0)),
        ("1x1-grey", "tiny-7", 1, 1, 1, (0, 0)),
        ("3x5", "tiny-7", 3, 5, 3, (0, 0)),
        ("65x17", "tiny-7", 65, 17, 1, (0, 0)),
        ("64x64", "nano-7", 64, 64, 3, (0, 0)),
        ("tall", "nano-7", 5, 700, 3, (0, 0)),
        ("tiles", "nano-7", 70, 130, 3, (1, 1)),
        ("tiles-grey", "nano-7", 130, 70, 1, (2, 1)),
    ):
        for kind in ("rows", "codes"):
            payload = (
                stored.rows(noise(81, height, width, 1), filters=(4, 1, 3, 0, 2), pack=stored.fixed)
                if kind == "rows"
                else random_codes(82, height, width, 1, 4, 0b1011, 7)
            )
            yield Case(
                f"core/alpha-{name}-{kind}",
                random_stream(
                    model(made), 83, width, height, channels, style="sparse", chunks=(("ALPH", payload),), tile=tile
                ),
                made,
                named(ALPHA, SAMPLES, ROWS if kind == "rows" else CODES),
                suggests,
                f"{width}x{height}, alpha as {kind}, seed 81 or 82",
                definition=made == "tiny-7" and max(width, height) < 64,
            )
    above = (2, 3, 4)  # filters that see the row above, wherever a strip begins
    rows = stored.rows(noise(85, 8200, 1, 1), filters=above)
    inside = stored.rows(np.repeat(noise(86, 7800, 1, 1), 3, axis=2), GREY, above)
    codes = random_codes(87, 8200, 1, 1, 2, 0b0010, 2, filters=above)
    for name, chunks in (
        ("rows", (("ALPH", rows), ("LOSS", stored.rectangles([(0, 300, 1, 7800)], [inside])))),
        ("codes", (("ALPH", codes),)),
    ):
        yield Case(
            f"core/alpha-strips-{name}",
            stream_of(model("wide-7"), 1, 8200, chunks=chunks),
            "wide-7",
            named(ALPHA, SAMPLES, ROWS, CODES if name == "codes" else RECTANGLES),
            "What is stored is read strip by strip, and a strip is begun as if nothing were above it.",
            f"1x8200, zeros, alpha as {name}",
        )
    opaque = stored.rows(np.full((3, 5, 1), 255, np.uint8))
    yield Case(
        "core/alpha-opaque",
        random_stream(model("tiny-7"), 84, 5, 3, style="plain", chunks=(("ALPH", opaque),)),
        "tiny-7",
        ALPHA,
        "Alpha that is 255 everywhere is taken for none.",
        "5x3, opaque",
        definition=True,
    )


@generator("core", "rectangles")
def rectangles() -> Iterator[Case]:
    """Rectangles over decoded samples: one and several, touching each other, at every edge, as many as blocks and as
    many abreast as may be, of every kind of samples, in grey, in tiled streams and with alpha.
    """
    wide = [(64 * n, 0, 64, 1) for n in range(256)]
    corners = [(0, 0, 2, 3), (98, 0, 2, 1), (0, 69, 1, 1), (99, 40, 1, 30)]
    for name, made, width, height, channels, places, tile in (
        ("one", "tiny-7", 40, 30, 3, [(7, 5, 11, 9)], (0, 0)),
        ("pixel", "tiny-7", 1, 1, 3, [(0, 0, 1, 1)], (0, 0)),
        ("all", "tiny-7", 33, 21, 3, [(0, 0, 33, 21)], (0, 0)),
        ("last-pixel", "tiny-7", 40, 30, 1, [(39, 29, 1, 1)], (0, 0)),
        ("last-row", "tiny-7", 40, 30, 3, [(0, 29, 40, 1)], (0, 0)),
        ("last-column", "tiny-7", 40, 30, 3, [(39, 0, 1, 30)], (0, 0)),
        ("corners", "nano-7", 100, 70, 3, [corners[0], corners[1], corners[3], corners[2]], (0, 0)),
        ("grey", "nano-7", 100, 70, 1, [(90, 2, 10, 60), (3, 3, 50, 50), (0, 53, 90, 17)], (0, 0)),
        ("steps", "nano-7", 100, 70, 3, [(0, 0, 10, 60), (10, 1, 10, 2), (10, 3, 80, 4), (10, 7, 1, 63)], (0, 0)),
        ("tiles", "nano-7", 100, 70, 3, [(60, 60, 9, 9), (0, 69, 64, 1)], (1, 1)),
        ("256-abreast", "nano-7", 16384, 1, 3, wide, (0, 0)),
    ):
        payload = listed(places, channels)
        shape: dict[str, Any] = {"width": width, "height": height, "channels": channels, "tile": tile}
        chunks = (("LOSS", payload),)
        data = (
            stream_of(model(made), **shape, chunks=chunks)
            if width > 10000
            else random_stream(model(made), 91, **shape, style="plain", chunks=chunks)
        )
        yield Case(
            f"core/rectangles-{name}",
            data,
            made,
            named(RECTANGLES, SAMPLES, ROWS),
            "A rectangle is put at another place, its payload is taken for another one's, or rows are written before "
            "they are decoded.",
            f"{width}x{height}, {len(places)} rectangles: {name}",
            definition=made == "tiny-7",
        )
    kinds = [
        stored.rows(noise(92, 5, 6, 3), GREEN, (4,)),
        random_codes(93, 5, 6, 3, 2, 0b0011, 1),
        _palette(94, 5, 6, 3),
        stored.rows(np.repeat(noise(95, 5, 6, 1), 3, axis=2), GREY),
    ]
    places = [(7 * n, n, 6, 5) for n in range(4)]
    alpha = stored.rows(noise(96, 70, 100, 1), filters=(1,), pack=stored.fixed)
    for name, stored_chunks in (
        ("kinds", (("LOSS", stored.rectangles(places, kinds)),)),
        ("alpha", (("ALPH", alpha), ("LOSS", stored.rectangles(places, kinds)))),
    ):
        yield Case(
            f"core/rectangles-{name}",
            random_stream(model("nano-7"), 97, 100, 70, style="plain", chunks=stored_chunks),
            "nano-7",
            named(RECTANGLES, SAMPLES, CODES, ALPHA if name == "alpha" else ()),
            "Rectangles of different kinds are read as one kind, or alpha is overwritten.",
            f"100x70, four rectangles of different kinds{', with alpha' if name == 'alpha' else ''}",
        )
