"""Streams of the invalid suite whose alpha, rectangles or samples without loss break a rule (SPEC 8.10, 8.11).

Faults inside zlib streams and of filters and codes are met while samples are decoded; all others are found before.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from refcodec.lossless.samples import longest_samples

from ...synthetic import stored
from ...synthetic.streams import chunk, take_apart
from ..registry import Case, generator, reject
from .invalid import bare, refused
from .stored import (
    THREE,
    alpha_stream,
    listed,
    lossless,
    lossless_codes,
    lossless_grey,
    lossless_palette,
    noise,
    random_codes,
    rectangles_stream,
)

MODEL = "nano-7"
PIXELS = stored.filtered(noise(51, 3, 5, 3), (0, 1, 2))
"""Rows of the stream lossless before they are compressed."""

ZLIB_SUGGESTS = (
    "A zlib stream is inflated without its length, its check value, its end or what follows it being looked at."
)


def _with_payload(base: bytes, payload: bytes, tag: bytes = b"LOSS") -> bytes:
    """A sound stream with another payload of a chunk."""
    parts = take_apart(base)
    at = next(n for n, whole in enumerate(parts.chunks) if whole[:4] == tag)
    parts.chunks[at] = chunk(tag, payload)
    return parts.sealed()


def _payload(base: bytes, tag: bytes = b"LOSS") -> bytes:
    return next(whole[8:] for whole in take_apart(base).chunks if whole[:4] == tag)


def _preset(data: bytes) -> bytes:
    """A zlib stream that asks for a preset dictionary."""
    packed = stored.stored(data)
    return b"\x78\x20" + bytes(4) + packed[2:]


def _packed_wrongly(data: bytes) -> dict[str, tuple[bytes, str]]:
    """Bytes that are no zlib stream of these, and the clause, by name."""
    packed = stored.stored(data)
    return {
        "nothing": (b"", "8.10-6"),
        "one-byte": (packed[:1], "8.10-6"),
        "head-alone": (packed[:2], "8.10-6"),
        "raw-deflate": (packed[2:-4], "8.10-6"),
        "gzip": (
            b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed[2:-4] + struct.pack("<II", zlib.crc32(data), len(data)),
            "8.10-6",
        ),
        "wrong-head": (b"\x78\x02" + packed[2:], "8.10-6"),
        "preset-dictionary": (_preset(data), "8.10-6"),
        "wrong-complement": (packed[:5] + bytes([packed[5] ^ 1]) + packed[6:], "8.10-6"),
        "block-of-kind-3": (packed[:2] + bytes([packed[2] | 6]) + packed[3:], "8.10-6"),
        "check-value-first": (packed[:-4] + bytes([packed[-4] ^ 1]) + packed[-3:], "8.10-6"),
        "check-value-last": (packed[:-1] + bytes([packed[-1] ^ 1]), "8.10-6"),
        "check-value-missing": (packed[:-4], "8.10-6"),
        "check-value-cut": (packed[:-1], "8.10-6"),
        "cut": (packed[: len(packed) // 2], "8.10-6"),
        "no-last-block": (packed[:2] + b"\0" + packed[3:], "8.10-6"),
        "byte-behind": (packed + b"\0", "8.10-6"),
        "stream-behind": (packed + stored.stored(b""), "8.10-6"),
        "byte-more": (stored.stored(data + b"\0"), "8.10-6"),
        "byte-less": (stored.stored(data[:-1]), "8.10-6"),
        "inflates-to-nothing": (stored.stored(b""), "8.10-6"),
        "twice": (stored.fixed(data + data), "8.10-6"),
        "bomb": (stored.fixed(data + bytes(10000)), "8.10-7"),
    }


@generator("invalid", "stored-zlib")
def stored_zlib() -> Iterator[Case]:
    """Pictures without loss whose zlib streams are cut, damaged, followed by something, too short, too long or bombs:
    of rows, of codes and of colours.
    """
    for name, (packed, clause) in _packed_wrongly(PIXELS).items():
        data = _with_payload(lossless(), b"\0" + packed)
        yield refused(f"stored-rows-{name}", data, (clause, "8.10-9"), ZLIB_SUGGESTS, f"rows, {name}", "lossless")
    payload = _payload(lossless_codes())
    head, length = payload[:3], int.from_bytes(payload[3:7], "little")
    first, second = payload[7 : 7 + length], payload[7 + length :]
    inner = zlib.decompress(first), zlib.decompress(second)
    for name in ("nothing", "check-value-last", "cut", "byte-behind", "byte-more", "byte-less", "bomb"):
        for part, streams in (
            ("codes", (_packed_wrongly(inner[0])[name][0], second)),
            ("colours", (first, _packed_wrongly(inner[1])[name][0])),
        ):
            made = head + len(streams[0]).to_bytes(4, "little") + b"".join(streams)
            yield refused(
                f"stored-{part}-{name}",
                _with_payload(lossless_codes(), made),
                ("8.10-6", "8.10-17" if part == "codes" else "8.10-18"),
                ZLIB_SUGGESTS,
                f"{part}, {name}",
                "lossless-codes",
            )
    colour = _with_payload(
        lossless_codes(), head + length.to_bytes(4, "little") + first + stored.stored(inner[1] + b"\1\2\3")
    )
    yield refused(
        "stored-colours-colour-more", colour, ("8.10-6", "8.10-18"), ZLIB_SUGGESTS, "a colour more", "lossless-codes"
    )
    fewer = head + length.to_bytes(4, "little") + first + stored.stored(inner[1][:-3])
    yield refused(
        "stored-colours-colour-less",
        _with_payload(lossless_codes(), fewer),
        ("8.10-6", "8.10-18"),
        ZLIB_SUGGESTS,
        "a colour less",
        "lossless-codes",
    )
    # n = 6 bytes in a stream of 2 n + 65, sound but for its length.
    parts = take_apart(lossless_grey())
    parts.put("width", 5)
    packed = stored.stored(b"\0\1\2\3\4\5", empty=12)
    assert len(packed) == 2 * 6 + 65
    parts.chunks = [chunk(b"LOSS", b"\0" + packed)]
    yield refused("stored-rows-2n-and-65", parts.sealed(), ("8.10-7",), ZLIB_SUGGESTS, "5x1, 77 bytes", "lossless-grey")


@generator("invalid", "stored-samples")
def stored_samples() -> Iterator[Case]:
    """Pictures without loss of an unknown kind, filter, form or code, with a table that is cut or too short, or of no
    byte.
    """
    rows, palette, grey = _payload(lossless()), _payload(lossless_palette()), _payload(lossless_grey())
    codes = _payload(lossless_codes())
    suggests = "A kind, filter, table, form or code that has no meaning is given one, or read beyond its end."

    def filters(*numbers: int) -> bytes:
        data = bytearray(PIXELS)
        for row, number in enumerate(numbers):
            data[16 * row] = number
        return b"\0" + stored.stored(bytes(data))

    def coded(numbers: np.ndarray, bits: int, neighbours: int, listed_colours: int, colours: int) -> bytes:
        return stored.codes(numbers, bits, neighbours, listed_colours, bytes(range(1, 3 * colours + 1)))

    length = int.from_bytes(codes[3:7], "little")
    inner = zlib.decompress(codes[7 : 7 + length])
    five = stored.stored(inner[:6] + b"\5" + inner[7:])
    zeros = np.zeros((3, 5), np.int64)
    last = zeros.copy()
    last[2, 4] = 3
    first = zeros.copy()
    first[0, 0] = 3
    table = noise(58, 2, 1, 3)[:, 0]
    beyond = stored.head(stored.PALETTE, False, table) + stored.stored(
        stored.filtered(last[:, :, np.newaxis] * 2 // 3, (0,))
    )
    by_code = random_codes(59, 3, 5, 1, 2, 0, 3)[1:]
    for name, base, payload, clauses in (
        ("nothing", "lossless", b"", ("8.10-1",)),
        ("kind-8", "lossless", b"\x08" + rows[1:], ("8.10-2", "8.10-4")),
        ("kind-9", "lossless-codes", b"\x09" + codes[1:], ("8.10-2", "8.10-4")),
        ("kind-128", "lossless", b"\x80" + rows[1:], ("8.10-2", "8.10-4")),
        ("kind-255", "lossless", b"\xff" + rows[1:], ("8.10-2", "8.10-4")),
        ("grey-kind-2", "lossless-grey", b"\x02" + grey[1:], ("8.10-4",)),
        ("grey-kind-3", "lossless-grey", b"\x03" + random_codes(60, 1, 1, 1, 1, 0, 1)[1:], ("8.10-4",)),
        ("grey-kind-4", "lossless-grey", b"\x04" + grey[1:], ("8.10-4",)),
        ("grey-kind-6", "lossless-grey", b"\x06\x00" + bytes(3) + grey[1:], ("8.10-4",)),
        ("grey-kind-8", "lossless-grey", b"\x08" + grey[1:], ("8.10-4",)),
        ("kind-alone", "lossless", b"\0", ("8.10-6",)),
        ("palette-kind-alone", "lossless-palette", palette[:1], ("8.10-5",)),
        ("palette-count-alone", "lossless-palette", palette[:2], ("8.10-5",)),
        ("palette-cut", "lossless-palette", palette[:13], ("8.10-5",)),
        ("palette-longer", "lossless-palette", palette[:1] + b"\xff" + palette[2:], ("8.10-5",)),
        ("palette-colour-beyond", "lossless-palette", beyond, ("8.10-5",)),
        ("palette-code-beyond", "lossless-palette", b"\x07" + b"\0" + bytes(3) + by_code, ("8.10-5",)),
        ("filter-5", "lossless", filters(5), ("8.10-10",)),
        ("filter-5-last", "lossless", filters(0, 1, 5), ("8.10-10",)),
        ("filter-255", "lossless", filters(0, 255), ("8.10-10",)),
        ("codes-kind-alone", "lossless-codes", codes[:1], ("8.10-13",)),
        ("codes-head-cut", "lossless-codes", codes[:6], ("8.10-13",)),
        ("codes-head-alone", "lossless-codes", codes[:3] + bytes(4), ("8.10-6", "8.10-13")),
        ("codes-form-bit-6", "lossless-codes", codes[:1] + bytes([codes[1] | 64]) + codes[2:], ("8.10-14", "8.10-16")),
        ("codes-form-bit-7", "lossless-codes", codes[:1] + bytes([codes[1] | 128]) + codes[2:], ("8.10-14", "8.10-16")),
        ("codes-too-many-listed", "lossless-codes", coded(zeros, 2, 0, 5, 5), ("8.10-15", "8.10-16")),
        ("codes-too-many-neighbours", "lossless-codes", coded(zeros, 1, 7, 0, 0), ("8.10-15", "8.10-16")),
        ("codes-too-many-meanings", "lossless-codes", coded(zeros, 2, 1, 4, 4), ("8.10-15", "8.10-16")),
        ("codes-longer-by-one", "lossless-codes", _length(codes, len(codes) - 6), ("8.10-13", "8.10-16")),
        ("codes-length-all", "lossless-codes", _length(codes, len(codes) - 7), ("8.10-6", "8.10-13")),
        ("codes-length-2-31", "lossless-codes", _length(codes, 2**31), ("8.10-13", "8.10-16")),
        ("codes-length-2-32-less-1", "lossless-codes", _length(codes, 2**32 - 1), ("8.10-13", "8.10-16")),
        ("codes-length-0", "lossless-codes", _length(codes, 0), ("8.10-6", "8.10-13")),
        ("code-without-meaning-first", "lossless-codes", coded(first, 2, 1, 1, 1), ("8.10-15", "8.10-16")),
        ("code-without-meaning-last", "lossless-codes", coded(last, 2, 1, 1, 1), ("8.10-15", "8.10-16")),
        (
            "codes-filter-5",
            "lossless-codes",
            _length(codes[:7] + five + codes[7 + length :], len(five)),
            ("8.10-10", "8.10-17"),
        ),
        ("listed-missing", "lossless-codes", coded(zeros, 2, 0, 3, 2), ("8.10-18",)),
        ("listed-unused-missing", "lossless-codes", coded(zeros, 8, 0, 200, 1), ("8.10-18",)),
    ):
        streams = {
            "lossless": lossless,
            "lossless-codes": lossless_codes,
            "lossless-palette": lossless_palette,
            "lossless-grey": lossless_grey,
        }
        yield refused(
            f"stored-{name}", _with_payload(streams[base](), payload), clauses, suggests, name.replace("-", " "), base
        )


def _length(codes: bytes, length: int) -> bytes:
    """A payload of codes that claims another length of the first zlib stream."""
    return codes[:3] + length.to_bytes(4, "little") + codes[7:]


@generator("invalid", "stored-chunks")
def stored_chunks() -> Iterator[Case]:
    """Chunks of samples that are missing, twice there, too long, or not known in capitals; and their place in the order
    of checks.
    """
    suggests = "The rules of chunks are not applied to ALPH and LOSS, or in another order."
    loss = take_apart(lossless()).chunks[0]
    most_alpha, most_loss = (longest_samples(3, 5, channels) for channels in (1, 3))

    def of(base: bytes, *chunks: bytes) -> bytes:
        parts = take_apart(base)
        parts.chunks = list(chunks)
        return parts.sealed()

    for name, base, data, clauses in (
        ("missing", "lossless", of(lossless()), ("8.4-11", "8.5-10")),
        ("missing-with-alpha", "lossless", of(lossless(), chunk(b"ALPH", bytes(9))), ("8.4-11",)),
        ("optional", "lossless", of(lossless(), chunk(b"lOSS", loss[8:])), ("8.4-11", "8.4-3")),
        ("twice", "lossless", of(lossless(), loss, loss), ("8.4-8",)),
        (
            "too-long",
            "lossless",
            of(lossless(), chunk(b"LOSS", bytes(most_loss + 1))),
            ("8.4-9", "8.11-11"),
        ),
        (
            "alpha-too-long",
            "lossless",
            of(lossless(), loss, chunk(b"ALPH", bytes(most_alpha + 1))),
            ("8.4-9", "8.11-11"),
        ),
        ("required-unknown", "lossless", of(lossless(), loss, chunk(b"Need", b"")), ("8.4-4",)),
        (
            "required-before-missing",
            "lossless",
            of(lossless(), chunk(b"LOSs", b"")),
            ("8.4-4", "8.5-10"),
        ),
        (
            "alph-in-other-case",
            "lossless",
            of(lossless(), loss, chunk(b"ALPh", b"")),
            ("8.4-4",),
        ),
        ("trailing-before-missing", "lossless", of(lossless(), b"??"), ("8.4-12", "8.5-10")),
        (
            "required-before-payload",
            "lossless",
            of(lossless(), chunk(b"LOSS", b""), chunk(b"Need", b"")),
            ("8.5-10", "8.5-11"),
        ),
        ("list-after-trailing", "bare", of(bare(), chunk(b"LOSS", b""), b"??"), ("8.5-10", "8.5-11")),
        ("index-of-zeros", "lossless", _with_index(lossless()), ("8.3-1", "8.4-13")),
    ):
        yield refused(f"stored-chunk-{name}", data, clauses, suggests, name.replace("-", " "), base)


def _with_index(base: bytes) -> bytes:
    """A picture without loss with an index of one entry that it should not have."""
    parts = take_apart(base)
    parts.index = [[0, 0]]
    return parts.sealed()


def _entries(base: bytes) -> tuple[list[list[int]], bytes]:
    """The list of rectangles of a stream, and their payloads."""
    payload = _payload(base)
    count = int.from_bytes(payload[:4], "little")
    return [list(struct.unpack_from("<5I", payload, 4 + 20 * n)) for n in range(count)], payload[4 + 20 * count :]


def _listed(entries: list[list[int]], payloads: bytes, count: int | None = None) -> bytes:
    head = (len(entries) if count is None else count).to_bytes(4, "little")
    return head + b"".join(struct.pack("<5I", *entry) for entry in entries) + payloads


@generator("invalid", "rectangle-lists")
def rectangle_lists() -> Iterator[Case]:
    """Lists of rectangles that are cut, too long or too short; rectangles that are empty, outside, out of order,
    overlap, or share a row with 256 others; lengths that do not add up. Nothing of it needs a model.
    """
    base = rectangles_stream()
    entries, payloads = _entries(base)
    suggests = "A list of rectangles is not checked as a whole before samples are decoded, or a sum wraps."

    def changed(rectangle: int, number: int, value: int) -> bytes:
        made = [list(entry) for entry in entries]
        made[rectangle][number] = value
        return _listed(made, payloads)

    def placed(*places: tuple[int, int, int, int]) -> bytes:
        return _listed([[*place, 0] for place in places], b"")

    x, y, width, height, length = range(5)
    for name, payload, clauses in (
        ("nothing", b"", ("8.11-2",)),
        ("three-bytes", b"\1\0\0", ("8.11-2",)),
        ("count-alone", b"\1\0\0\0", ("8.11-2",)),
        ("count-0", bytes(4), ("8.11-2",)),
        ("count-0-with-payloads", _listed(entries, payloads, 0), ("8.11-2",)),
        ("count-5-of-4-blocks", placed(*((2 * n, 0, 1, 1) for n in range(5))), ("8.11-2",)),
        ("count-2-32-less-1", _listed(entries, payloads, 2**32 - 1), ("8.11-2",)),
        ("count-65537", _listed(entries, payloads, 65537), ("8.11-2",)),
        ("cut", _listed(entries, b"")[:-1], ("8.11-2",)),
        ("count-one-more", _listed(entries, payloads, 4), ("8.11-2",)),
        ("width-0", changed(1, width, 0), ("8.11-3",)),
        ("height-0", changed(2, height, 0), ("8.11-3",)),
        ("beyond-right", changed(2, width, 101), ("8.11-3",)),
        ("beyond-right-by-one", changed(0, x, 98), ("8.11-3",)),
        ("beyond-bottom", changed(2, y, 70), ("8.11-3",)),
        ("beyond-bottom-by-one", changed(0, height, 67), ("8.11-3",)),
        ("beyond-bottom-alone", changed(2, height, 71 - entries[2][y]), ("8.11-3",)),
        ("x-2-32-less-1", changed(0, x, 2**32 - 1), ("8.11-3",)),
        ("y-2-31", changed(2, y, 2**31), ("8.11-3",)),
        ("width-2-32-less-10", changed(0, width, 2**32 - 10), ("8.11-3",)),
        ("in-the-padding", placed((100, 0, 4, 4)), ("8.11-3",)),
        ("order-of-rows", placed((0, 9, 2, 2), (0, 3, 2, 2)), ("8.11-4",)),
        ("order-in-a-row", placed((9, 3, 2, 2), (0, 3, 2, 2)), ("8.11-4",)),
        ("same-twice", placed((9, 3, 2, 2), (9, 3, 2, 2)), ("8.11-4", "8.11-5")),
        ("order-by-columns", placed((0, 9, 2, 2), (9, 3, 2, 2)), ("8.11-4",)),
        ("overlap-in-a-row", placed((9, 3, 3, 2), (11, 3, 2, 2)), ("8.11-5",)),
        ("overlap-by-a-row", placed((9, 3, 3, 3), (9, 5, 2, 2)), ("8.11-5",)),
        ("overlap-from-the-right", placed((9, 3, 3, 3), (8, 5, 2, 2)), ("8.11-5",)),
        ("overlap-at-a-corner", placed((9, 3, 3, 3), (11, 5, 2, 2)), ("8.11-5",)),
        ("inside-another", placed((0, 0, 100, 70), (50, 50, 1, 1)), ("8.11-5",)),
        ("around-another", placed((50, 3, 1, 9), (0, 4, 100, 1)), ("8.11-5",)),
        ("overlap-with-the-first", placed((0, 0, 2, 60), (5, 1, 2, 2), (5, 9, 2, 2), (1, 50, 2, 2)), ("8.11-5",)),
        ("length-one-more", changed(2, length, entries[2][length] + 1), ("8.11-2",)),
        ("length-one-less", changed(2, length, entries[2][length] - 1), ("8.11-2",)),
        ("length-2-32-less-1", changed(0, length, 2**32 - 1), ("8.11-2",)),
        ("lengths-that-wrap", _wrapping(entries, payloads), ("8.11-2",)),
        ("byte-behind", _listed(entries, payloads + b"\0"), ("8.11-2",)),
        ("whole-payload", _payload(lossless()), ("8.11-1", "8.11-2")),
    ):
        yield refused(
            f"rectangles-{name}",
            _with_payload(base, payload),
            (*clauses, "8.11-7", "8.5-11"),
            suggests,
            name.replace("-", " "),
            "rectangles",
        )
    parts = take_apart(bare())
    parts.put("width", 64 * 256 + 1)
    parts.chunks = [chunk(b"LOSS", placed(*((n, 0, 1, 1) for n in range(257))))]
    yield refused(
        "rectangles-257-abreast", parts.sealed(), ("8.11-6", "8.11-7", "8.5-11"), suggests, "257 pixels in a row"
    )


def _wrapping(entries: list[list[int]], payloads: bytes) -> bytes:
    """Lengths whose sum is right in 32 bits."""
    made = [list(entry) for entry in entries]
    made[0][4] += 2**31
    made[1][4] += 2**31
    return _listed(made, payloads)


@generator("invalid", "stored-payloads")
def stored_payloads() -> Iterator[Case]:
    """Alpha and rectangles whose samples are damaged: they are met while the picture is decoded, also where only the
    last of several payloads is.
    """
    suggests = "What is stored in addition to the coded picture is not checked to its end."
    own = _payload(alpha_stream(), b"ALPH")
    rows = stored.filtered(noise(55, 3, 5, 1), (4, 3, 2))
    entries, payloads = _entries(rectangles_stream())
    pieces, at = [], 0
    for entry in entries:
        pieces.append(payloads[at : at + entry[4]])
        at += entry[4]

    def rectangles(number: int, payload: bytes) -> bytes:
        made = [payload if n == number else piece for n, piece in enumerate(pieces)]
        return _with_payload(rectangles_stream(), stored.rectangles(THREE, made))

    def alpha(payload: bytes) -> bytes:
        return _with_payload(alpha_stream(), payload, b"ALPH")

    shifted = _listed(
        [[*entries[0][:4], entries[0][4] + 1], [*entries[1][:4], entries[1][4] - 1], entries[2]], payloads
    )
    for name, base, data, clauses in (
        ("alpha-nothing", "alpha", alpha(b""), ("8.10-1", "8.11-10")),
        ("alpha-kind-2", "alpha", alpha(b"\x02" + own[1:]), ("8.10-4", "8.11-10")),
        ("alpha-kind-6", "alpha", alpha(b"\x06" + own[1:]), ("8.10-4", "8.11-10")),
        ("alpha-of-three-channels", "alpha", alpha(stored.rows(noise(55, 3, 5, 3))), ("8.10-6", "8.11-10")),
        ("alpha-row-less", "alpha", alpha(b"\0" + stored.stored(rows[:-6])), ("8.10-6", "8.11-10")),
        ("alpha-row-more", "alpha", alpha(b"\0" + stored.stored(rows + rows[:6])), ("8.10-6", "8.11-10")),
        ("alpha-filter-5-last", "alpha", alpha(b"\0" + stored.stored(rows[:12] + b"\5" + rows[13:])), ("8.10-10",)),
        ("alpha-check-value", "alpha", alpha(own[:-1] + bytes([own[-1] ^ 1])), ("8.10-6",)),
        ("alpha-byte-behind", "alpha", alpha(own + b"\0"), ("8.10-6",)),
        ("alpha-cut", "alpha", alpha(own[:-1]), ("8.10-6",)),
        ("first-kind", "rectangles", rectangles(0, b"\x08" + pieces[0][1:]), ("8.10-4", "8.11-8")),
        ("last-kind", "rectangles", rectangles(2, b"\x08" + pieces[2][1:]), ("8.10-4", "8.11-8")),
        ("middle-check-value", "rectangles", rectangles(1, pieces[1][:-1] + b"?"), ("8.10-6", "8.11-8")),
        ("last-check-value", "rectangles", rectangles(2, pieces[2][:-1] + b"?"), ("8.10-6", "8.11-8")),
        ("last-nothing", "rectangles", rectangles(2, b""), ("8.10-1", "8.11-8")),
        ("exchanged", "rectangles", rectangles(0, pieces[1]), ("8.10-6", "8.11-8")),
        ("border-by-a-byte", "rectangles", _with_payload(rectangles_stream(), shifted), ("8.10-6", "8.11-2", "8.11-8")),
    ):
        yield Case(
            f"invalid/payload-{name}",
            data,
            MODEL,
            ("1.4-2", "8.5-12" if "kind" not in name else "8.5-11", *clauses),
            suggests,
            name.replace("-", " "),
            reject("ChunkError"),
            base=base,
        )
    grey = listed([(0, 0, 2, 2)], 1)
    yield Case(
        "invalid/payload-of-one-channel",
        _with_payload(rectangles_stream(), grey),
        MODEL,
        ("1.4-2", "8.10-6", "8.11-8"),
        suggests,
        "a rectangle of grey samples in a colour picture",
        reject("ChunkError"),
        base="rectangles",
    )
