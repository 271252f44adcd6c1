"""The invalid suite: streams that must be refused before anything is decoded, each for one reason (SPEC 8.5).

What a stream breaks is chosen here; the class of the refusal is computed by refcodec and by SPEC.md's blocks, which
must agree. Damage inside segments and streams of other models are in invalid_segments.py, broken models in
broken_models.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

from refcodec.bitstream.crc32c import crc32c
from refcodec.bitstream.fields import FIELDS, FIXED_SIZE, HEADER_SIZE

from ...kit.clauses import cited
from ...synthetic.models import broken_files, broken_models, broken_places, raw_files, reader_rules
from ...synthetic.models.procedural import manifest_entry, model
from ...synthetic.streams import chunk, sealed, take_apart
from ...synthetic.writer import random_stream
from ..registry import Case, generator, reject, sound

CHUNKS = (("exif", b"II*\0\x08\0\0\0"), ("zz 9", b"abc"), ("xmp ", b""))


@sound("whole")
def whole() -> bytes:
    """A valid stream with everything that a stream may have."""
    return random_stream(model("tiny-7"), 21, 5, 3, style="plain", chunks=CHUNKS)


@sound("bare")
def bare() -> bytes:
    """A valid stream with nothing that may be absent."""
    return random_stream(model("single-7"), 22, 2, 1, 1, style="plain", digest=False)


@sound("nano")
def nano() -> bytes:
    """A valid stream of the model that broken ones are made of."""
    return random_stream(model(broken_models.BASE), 1, 24, 16)


def refused(name: str, data: bytes, clauses: tuple[str, ...], suggests: str, origin: str, base: str = "bare") -> Case:
    """A case that needs no model.

    Parameters
    ----------
    name : str
        Id without the suite.
    data : bytes
        The stream.
    clauses : tuple of str
        Clauses of the order of checks that it exercises, in addition to 1.4-2 and 3-5.
    suggests, origin : str
        What a failure suggests; how the stream was made.
    base : str
        The valid stream of which it is an edit.

    Returns
    -------
    Case
    """
    return Case(f"invalid/{name}", data, None, ("1.4-2", "3-5", *clauses), suggests, origin, base=base)


def _with(name: str, value: int) -> bytes:
    parts = take_apart(bare())
    parts.put(name, value)
    return parts.sealed()


U8, U32 = 1 << 8, 1 << 32

WRONG: dict[str, tuple[tuple[int, ...], str]] = {
    "version": ((0, 2, 127, 128, U8 - 1), "8.1-2"),
    "flags": ((4, 5, 8, 16, 32, 64, 128, U8 - 1), "8.1-3"),
    "channels": ((0, 2, 4, 128, U8 - 1), "8.1-4"),
    "quality": ((101, 128, U8 - 1), "8.1-5"),
    "width": ((0, 2**20 + 1, 2**24, 2**31, U32 - 1), "8.1-6"),
    "height": ((0, 2**20 + 1, 2**24, 2**31, U32 - 1), "8.1-7"),
    "depth": ((0, 1, 7, 9, 10, 16, 128, U8 - 1), "8.1-11"),
    "reserved": ((1, 2, 128, U8 - 1), "8.1-12"),
}
"""Values that are not allowed, and the clause, by field; tile sizes are in invalid_tiles.py."""


@generator("invalid", "fields")
def fields() -> Iterator[Case]:
    """Every header field with every kind of wrong value, reserved bits one by one, under a right checksum."""
    for name, (values, clause) in WRONG.items():
        step = "8.5-2" if name == "version" else "8.5-4"
        for value in values:
            limits = ("9.1-1",) if name in ("width", "height") else ()
            yield refused(
                f"{name.replace('_', '-')}-{value}",
                _with(name, value),
                (clause, step, "8.9-1", *limits),
                f"The field {name} is not compared with what it may hold, or later than SPEC 8.5 says, or "
                "read with another width, sign or byte order.",
                f"{name} is {value}",
            )


@generator("invalid", "lengths")
def lengths() -> Iterator[Case]:
    """Lengths of segments in the index beyond what is allowed, under a right checksum."""
    for number, part in enumerate("zy"):
        for value in (2**31, U32 - 1):
            parts = take_apart(bare())
            parts.index = parts.entries()
            parts.index[0][number] = value
            yield refused(
                f"{part}-length-{value}",
                parts.sealed(),
                ("8.3-1", "8.3-2", "8.5-8", "8.9-1", "9.1-4"),
                "A length is not compared with what it may be, or read with another sign or byte order.",
                f"the {part}_length is {value}",
            )


@generator("invalid", "magic")
def magic() -> Iterator[Case]:
    """First bytes that are no magic: another byte at each place, other kinds of files, fewer than four bytes."""
    data, suggests = bare(), "The magic is not compared byte by byte, or only after what follows it."
    wrong = {f"byte-{n}": data[:n] + bytes([data[n] ^ 1]) + data[n + 1 :] for n in range(4)}
    wrong |= {
        "seven-bits": b"\x09" + data[1:],
        "capitals": b"\x89lic" + data[4:],
        "reversed": b"CIL\x89" + data[4:],
        "late": b"\0" + data,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(60),
        "empty": b"",
        "one": data[:1],
        "three": data[:3],
        "three-and-wrong": b"\x89LJ",
    }
    for name, damaged in wrong.items():
        yield refused(f"magic-{name}", damaged, ("8.1-1", "8.5-1"), suggests, f"{name}, {len(damaged)} bytes")


def boundaries(data: bytes) -> dict[str, int]:
    """(SPEC 8.1) Where a part of a valid stream begins, by name."""
    parts = take_apart(data)
    places = {field.name: field.offset for field in FIELDS if field.offset < len(parts.header)}
    at = len(parts.header)
    for n, entry in enumerate(parts.entries()):
        places |= {f"index-{n}-{k}": at + 4 * k for k in range(len(entry))}
        at += 4 * len(entry)
    for n, pair in enumerate(parts.segments):
        places |= {f"z-{n}": at, f"y-{n}": at + len(pair[0])}
        at += sum(map(len, pair))
    for n, part in enumerate(parts.chunks):
        places |= {f"chunk-{n}": at, f"chunk-{n}-length": at + 4, f"chunk-{n}-payload": at + 8}
        at += len(part)
    return places | {"checksum": at, "end": at + 4}


@generator("invalid", "truncated")
def truncated() -> Iterator[Case]:
    """A stream cut at the beginning of every field, segment, chunk and of the checksum, and one byte later."""
    for base, data in (("whole", whole()), ("bare", bare())):
        places = sorted({p + d for p in boundaries(data).values() for d in (0, 1)} | {len(data) - 1})
        for at in places:
            if 4 <= at < len(data) and (base == "whole" or at >= 32):
                step = "8.5-2" if at == 4 else "8.5-3" if at < FIXED_SIZE else "8.5-8"
                digest = ("8.5-5",) if base == "whole" and FIXED_SIZE <= at < HEADER_SIZE else ()
                yield refused(
                    f"cut-{base}-{at:04}",
                    data[:at],
                    (step, *digest, "7.6-5"),
                    "A stream that ends early is read past its end, or taken as complete.",
                    f"the first {at} of {len(data)} bytes",
                    base,
                )


@generator("invalid", "order")
def order() -> Iterator[Case]:
    """Streams with two faults, which tell whether checks are made in the order of SPEC 8.5."""
    short = bare()
    both = "Checks are made in another order than that of SPEC 8.5."

    def header(length: int, **values: int) -> bytes:
        parts = take_apart(short)
        for name, value in values.items():
            parts.put(name, value)
        return (bytes(parts.header) + bytes(16))[:length]

    beyond = {"width": 2**20, "height": 2**20}
    for name, data, clauses in (
        ("magic-before-version", b"\x89LIX\2", ("8.5-1",)),
        ("version-before-truncation", header(5, version=2), ("8.5-2",)),
        ("version-before-fields", header(36, version=9, channels=0), ("8.5-2",)),
        ("truncation-before-fields", header(35, channels=0), ("8.5-3",)),
        ("field-before-truncation", header(36, channels=0), ("8.5-4",)),
        ("field-before-digest", header(50, flags=1, reserved=1), ("8.5-4",)),
        ("digest-before-positions", header(51, flags=1, **beyond), ("8.5-5",)),
        ("positions-before-truncation", header(52, flags=1, **beyond), ("8.5-6",)),
        ("index-before-lengths", short[:36] + b"\xff\xff\xff\xff", ("8.5-8",)),
        ("lengths-before-segments", short[:36] + b"\0\0\0\0\0\0\0\x80", ("8.5-8", "8.3-2")),
        ("truncation-before-checksum", short[:-5] + bytes(4), ("8.5-8",)),
        ("checksum-before-chunks", short[:-4] + b"?" + short[-4:], ("8.5-9",)),
        ("chunk-before-required", _chunked(b"Need\4\0\0\0abc"), ("8.5-10", "8.4-14")),
        ("65-before-length", _chunked(*_many(64), chunk(b"n00 ", b"")), ("8.5-10", "8.4-10")),
        ("65-before-required", _chunked(*_many(64), chunk(b"Need", b"")), ("8.5-10", "8.4-10")),
        ("tag-before-65", _chunked(*_many(64), b"9abc\0\0\0\0"), ("8.5-10", "8.4-13")),
    ):
        yield refused(f"order-{name}", data, clauses, both, name.replace("-", " "))


def _positions(width: int, height: int, block: int) -> int:
    """Positions of 16x16 samples of a picture padded to multiples of block."""
    columns, rows = (-(-n // block) * block // 16 for n in (width, height))
    return columns * rows


@generator("invalid", "positions")
def positions() -> Iterator[Case]:
    """Sizes whose sides are allowed and whose latent positions are too many: just beyond, only by the padding, and so
    many that their number is 0 in 32 bits.
    """
    padded = 2**19 + 1, 63 * 64 + 1
    assert _positions(*padded, 16) <= 2**23 < _positions(*padded, 64)
    for name, (width, height) in {
        "just": (2**20, 2049),
        "tall": (2049, 2**20),
        "square": (46400, 46400),
        "wrapped": (2**20, 2**20),
        "only-padded": padded,
    }.items():
        parts = take_apart(bare())
        parts.put("width", width)
        parts.put("height", height)
        yield refused(
            f"positions-{name}",
            parts.sealed(),
            ("8.1-19", "8.5-6", "9.1-2"),
            "The number of latent positions is not compared with 2^23, is counted without padding, or wraps.",
            f"{width}x{height}, {_positions(width, height, 64)} positions",
        )


@generator("invalid", "damaged")
def damaged() -> Iterator[Case]:
    """One bit changed in the first and in the last byte of every field, segment and chunk, checksum as it was."""
    data = whole()
    places = sorted(set(boundaries(data).values()))
    for first, end in pairwise(places):
        for at in sorted({first, end - 1}):
            if at >= 4:
                changed = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
                yield refused(
                    f"bit-{at:04}",
                    changed,
                    ("8.2-1", "8.2-2", "8.5-9"),
                    "The checksum does not cover every byte before it, or is not compared.",
                    f"bit 4 of byte {at} of {len(data)}",
                    "whole",
                )


CHECKSUMS: dict[str, Callable[[bytes], int]] = {
    "zero": lambda body: 0,
    "inverted": lambda body: crc32c(body) ^ 0xFFFFFFFF,
    "big-endian": lambda body: int.from_bytes(crc32c(body).to_bytes(4, "little"), "big"),
    "crc-32": zlib.crc32,
    "low-half-right": lambda body: crc32c(body) ^ 0x10000,
    "high-half-right": lambda body: crc32c(body) ^ 1,
    "without-magic": lambda body: crc32c(body[4:]),
    "without-header": lambda body: crc32c(body[FIXED_SIZE:]),
    "of-the-header": lambda body: crc32c(body[:FIXED_SIZE]),
    "without-segments": lambda body: crc32c(body[: FIXED_SIZE + 8]),
}
"""Wrong checksums by name: functions of the bytes before."""


@generator("invalid", "checksums")
def checksums() -> Iterator[Case]:
    """Checksums that a mistaken writer would write: another polynomial, byte order, extent, or half of it wrong."""
    body = bare()[:-4]
    for name, computed in CHECKSUMS.items():
        yield refused(
            f"checksum-{name}",
            body + computed(body).to_bytes(4, "little"),
            ("8.2-1", "8.2-2", "8.5-9"),
            "Another checksum than CRC-32C of all bytes before it is computed, or part of it is compared.",
            f"checksum {name}",
        )


@generator("invalid", "appended")
def appended() -> Iterator[Case]:
    """Bytes behind a valid stream: as they are, with a new checksum, and a whole second stream."""
    data = bare()
    suggests = "The checksum is looked for at the end of the segments, and what follows is not read."
    for name, longer, clauses in (
        ("line-feed", data + b"\n", ("8.5-9",)),
        ("zero", data + b"\0", ("8.5-9",)),
        ("zeros", data + bytes(4), ("8.5-9",)),
        ("stream", data + data, ("8.5-9",)),
        ("chunk", data + b"exif\0\0\0\0", ("8.5-9",)),
        ("sealed-nothing", sealed(data), ("8.4-12", "8.5-10")),
        ("sealed-zeros", sealed(data + bytes(4)), ("8.4-13", "8.5-10")),
        ("sealed-stream", sealed(data + data), ("8.4-13", "8.5-10")),
    ):
        yield refused(f"appended-{name}", longer, (*clauses, "8.4-1"), suggests, name.replace("-", " "))


def _chunked(*chunks: bytes) -> bytes:
    parts = take_apart(bare())
    parts.chunks = list(chunks)
    return parts.sealed()


def _many(count: int) -> list[bytes]:
    return [chunk(f"n{n:02} ".encode(), b"") for n in range(count)]


EXIF, NOTE = chunk(b"exif", b"II*\0"), chunk(b"note", b"x")

FAULTY: dict[str, tuple[tuple[bytes, ...], tuple[str, ...]]] = {
    **{
        f"tag-{name}": ((chunk(tag, b"abcd"),), ("8.4-2", "8.4-13"))
        for name, tag in (
            ("digit-first", b"1abc"),
            ("space-first", b" abc"),
            ("punctuation", b"a-bc"),
            ("zero", b"ab\0c"),
            ("latin", b"abc\xe9"),
            ("latin-first", b"\xe9abc"),
            ("underscore", b"ab_c"),
            ("bracket", b"abc["),
            ("backquote", b"abc`"),
            ("brace", b"abc{"),
            ("at", b"abc@"),
            ("slash", b"abc/"),
            ("colon", b"abc:"),
        )
    },
    "length-one-more": ((EXIF, chunk(b"note", b"abc", 4)), ("8.4-14",)),
    "length-without-head": ((chunk(b"note", b"abcdefgh", 16),), ("8.4-14",)),
    "length-big-endian": ((b"note\0\0\0\4abcd",), ("8.4-14",)),
    "length-2-24": ((chunk(b"note", b"", 2**24),), ("8.4-14",)),
    "length-2-24-and-1": ((chunk(b"note", b"", 2**24 + 1),), ("8.4-9", "8.4-14")),
    "length-2-31": ((chunk(b"note", b"abcd", 2**31),), ("8.4-14",)),
    "length-2-32-less-8": ((chunk(b"note", b"abcd", 2**32 - 8),), ("8.4-14",)),
    "length-2-32-less-1": ((chunk(b"note", b"", 2**32 - 1),), ("8.4-14",)),
    **{f"rest-{n}": ((EXIF, b"note\0\0\0"[:n]), ("8.4-12",)) for n in (1, 4, 7)},
    "required": ((chunk(b"Need", b""),), ("8.4-4",)),
    "required-like-known": ((chunk(b"EXIF", b"II*\0"),), ("8.4-4", "8.4-6")),
    "required-last": ((EXIF, NOTE, chunk(b"Zabc", b"payload")), ("8.4-4",)),
    "twice-known": ((EXIF, EXIF), ("8.4-8",)),
    "twice-unknown": ((NOTE, NOTE), ("8.4-8",)),
    "twice-apart": ((NOTE, EXIF, chunk(b"xmp ", b""), chunk(b"note", b"other")), ("8.4-8",)),
    "65": (tuple(_many(65)), ("8.4-10", "9.1-5")),
    "65-twice": ((*_many(64), chunk(b"n63 ", b"")), ("8.4-10", "9.1-5")),
}
"""Chunks that break a rule, and its clauses, by name."""


@generator("invalid", "chunks")
def chunks() -> Iterator[Case]:
    """Metadata that breaks a rule: tags, lengths, bytes left over, required chunks, a tag twice, a 65th chunk."""
    for name, (parts, clauses) in FAULTY.items():
        yield refused(
            f"chunk-{name}",
            _chunked(*parts),
            ("8.4-1", "8.5-10", *clauses),
            "Chunks are skipped without being looked at, or a rule about tags, lengths or their number is "
            "missing or made too strict elsewhere.",
            f"chunks {name}",
        )


@generator("invalid", "long-payload")
def long_payload() -> Iterator[Case]:
    """A payload of 2^24 bytes and one more, all of them there, in a stream that is sound but for it."""
    payload = bytes(2**24 + 1)
    yield Case(
        "invalid/chunk-payload-2-24-and-1",
        _chunked(chunk(b"note", payload)),
        "single-7",
        cited("1.4-2 8.4-9 8.5-10 9.1-5"),
        "The length of a payload is compared with what is left of the stream, not with 2^24.",
        "a chunk of 2^24 + 1 zeros",
        reject("ChunkError"),
        base="bare",
    )


@generator("invalid", "models")
def models() -> Iterator[Case]:
    """Models with one fault each: every number out of its range, every rule of configurations, frequency tables and
    proofs broken by the least amount, every structure of model files that readers refuse. The stream is valid except
    for the model it names, whose file is that of nano-7 after some edits.
    """
    data = nano()
    for fault in (*broken_models.FAULTS, *broken_files.FAULTS, *reader_rules.FAULTS, *raw_files.FAULTS):
        named = bytes.fromhex(manifest_entry(fault.model)["fingerprint"])  # (SPEC 8.1)
        yield Case(
            f"invalid/model-{fault.name}",
            sealed(data[:16] + named + data[32:-4]),
            fault.model,
            fault.clauses,
            f"A model is loaded that has {fault.says}; a decoder that checks models refuses it as a whole.",
            f"nano-7 with {fault.says}",
            reject("InvalidModel"),
            base="nano",
        )


@sound("slices")
def slices() -> bytes:
    """A valid stream of eight slices."""
    return random_stream(model(broken_places.SLICES), 4, 24, 16, style="plain")


@generator("invalid", "model-places")
def model_places() -> Iterator[Case]:
    """Models with a fault at a later place: last and middle indices, the last slice, rows of gains of a model with two
    qualities, totals over several arrays, and rules that one array alone breaks.
    """
    bases = {
        broken_models.BASE: ("nano", nano),
        broken_places.GAINS: ("bare", bare),
        broken_places.SLICES: ("slices", slices),
    }
    for base, fault in broken_places.FAULTS:
        name, stream = bases[base]
        data, named = stream(), bytes.fromhex(manifest_entry(fault.model)["fingerprint"])
        yield Case(
            f"invalid/model-{fault.name}",
            sealed(data[:16] + named + data[32:-4]),
            fault.model,
            fault.clauses,
            f"A model is loaded that has {fault.says}: a check ends before the last number, row, slice or array.",
            f"{base} with {fault.says}",
            reject("InvalidModel"),
            base=name,
        )
