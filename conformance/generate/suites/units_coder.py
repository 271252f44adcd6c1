"""Unit cases of the range coder and the container (SPEC 7, 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from refcodec.bitstream.crc32c import crc32c
from refcodec.model.procedural import draws

from ...kit.clauses import cited
from ...kit.specification import definition
from ..unit_writer import Input, unit
from .invalid import FAULTY, bare, whole
from .invalid_tiles import tiled
from .stored import lossless

Cases = Iterator[tuple[str, Input]]
Table = tuple[int, list[int]]

LOW = 2**31
THREE: Table = (-1, [0, 8192, 57344, 65535, 65536])
"""Symbols -1, 0, 1, and an escape of frequency 1."""

TABLES: list[Table] = [
    THREE,
    (0, [0, 30000, 65000, 65536]),
    (0, [0, 1, 65536]),
    (-3, [0, 65535, 65536]),
    (5, [0, 16384, 32768, 49152, 65535, 65536]),
    (-32767, [0, 1, 65536]),
    (32767, [0, 1, 65536]),
]
"""Frequencies from 1 to 65535, escapes from 1 to 65535, first symbols at both ends."""

REACH = [2**n - 1 for n in range(16)]
"""v at which an escape's n grows by one; one before each of them is the greatest of the n before."""


def _escapes(table: Table) -> list[int]:
    """Escaped symbols of every length and sign that stay in range, with the least and the greatest remainder."""
    first, last = table[0], table[0] + len(table[1]) - 3
    values = sorted({v + d for v in REACH for d in (-1, 0) if v + d >= 0} | {65533})
    return [s for v in values for s in (first - 1 - v, last + 1 + v) if abs(s) <= 32767]


@unit(
    "coder-intervals",
    "coder_intervals",
    ("7.2-1", "7.2-2", "7.2-3", "7.2-4", "7.2-5", "7.2-6"),
    "An escape's sign, length or remainder is written otherwise; a length of 0 has an interval.",
)
def coder_intervals() -> Cases:
    """Regular symbols of several tables, escapes of every length and sign, symbols out of range."""
    for n, table in enumerate(TABLES):
        regular = range(table[0], table[0] + len(table[1]) - 2)
        for symbol in (*regular, *_escapes(table), 32768, -32768):
            yield f"table {n}, {symbol}", {"symbol": symbol, "table": table}


def _sequences() -> Iterator[tuple[str, list[int], list[int]]]:
    """Names, symbols and table numbers of segments."""
    yield "nothing", [], []
    yield "one symbol", [0], [0]
    yield "two symbols", [1, 2], [1, 1]
    yield (
        "example",
        [0, 1, -1, 0, 0, 2, -2, 0, 1, 7, -40, 0, 0, 1, 1, 32767, -32767, 0, 1, 0],
        [0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1],
    )
    for n, table in enumerate(TABLES):
        symbols = [*range(table[0], table[0] + len(table[1]) - 2), *_escapes(table)]
        yield f"every escape of table {n}", symbols, [n] * len(symbols)
    yield "cheap symbols", [-3] * 300, [3] * 300
    yield "dear symbols", [0] * 40, [2] * 40
    index = draws(0, "coder/index", 200, 0, len(TABLES)).tolist()
    spread = draws(0, "coder/symbols", 200, -9, 19).tolist()
    yield "random", [max(-32767, min(32767, TABLES[t][0] + s)) for t, s in zip(index, spread, strict=True)], index


@unit(
    "coder-encode",
    "range_encode",
    ("7.5-1", "7.5-2", "7.5-3", "7.3-2", "7.3-3"),
    "Words are written in the order of encoding, or a word is written at another state.",
)
def coder_encode() -> Cases:
    """Segments of none, one, two and many symbols, of frequencies 1 to 65535, with escapes of every length and sign."""
    for name, symbols, index in _sequences():
        yield name, {"symbols": symbols, "tables_index": index, "tables": TABLES}


@unit(
    "coder-decode",
    "range_decode",
    ("7.4-1", "7.4-2", "7.6-1", "7.6-2", "7.6-3", "7.6-4", "7.7-1"),
    "Words are read at another state, raw bits in another order, or a segment is not checked at its end.",
)
def coder_decode() -> Cases:
    """The segments of coder-encode, and damaged ones: impossible lengths and states, words missing and left over, a
    wrong final state, a symbol out of range.
    """
    encode = definition().range_encode
    for name, symbols, index in _sequences():
        yield name, {"data": encode(symbols, index, TABLES), "tables_index": index, "tables": TABLES}
    good = encode([0, 2, -40, 1], [0, 0, 1, 1], TABLES)
    given: dict[str, Any] = {"tables_index": [0, 0, 1, 1], "tables": TABLES}
    state = int.from_bytes(good[:8], "little")
    for name, data in (
        ("empty", b""),
        ("seven bytes", good[:7]),
        ("a byte more", good + b"\0"),
        ("a word less", good[:-4]),
        ("a word more", good + bytes(4)),
        ("no words", good[:8]),
        ("state of 0", bytes(8) + good[8:]),
        ("state below", (LOW - 1).to_bytes(8, "little") + good[8:]),
        ("state of 2^63", (LOW << 32).to_bytes(8, "little") + good[8:]),
        ("another state", (state + 1).to_bytes(8, "little") + good[8:]),
        ("another word", good[:8] + b"\xff" + good[9:]),
    ):
        yield name, {"data": data, **given}
    yield "bytes without symbols", {"data": good, "tables_index": [], "tables": TABLES}
    yield "symbol of 32768", {"data": _escaped(32768), "tables_index": [0], "tables": TABLES}
    yield "symbol of -32768", {"data": _escaped(-32768), "tables_index": [0], "tables": TABLES}


def _escaped(symbol: int) -> bytes:
    """(SPEC 7.5) A segment of one escaped symbol of the first table, whatever its magnitude."""
    below = symbol < 0
    v = THREE[0] - 1 - symbol if below else symbol - THREE[0] - len(THREE[1]) + 2
    n = (v + 1).bit_length() - 1
    raw = [(int(below), 1), (n, 4), (v + 1 - (1 << n), n)]
    intervals = [(65535, 1), *((value << 16 - bits, 1 << 16 - bits) for value, bits in raw)]
    x, words = LOW, list[int]()
    for cum, freq in reversed(intervals):
        if x >= freq << 47:
            words.insert(0, x % 2**32)
            x >>= 32
        x = x // freq * 2**16 + x % freq + cum
    return x.to_bytes(8, "little") + b"".join(word.to_bytes(4, "little") for word in words)


@unit(
    "coder-symbol",
    "coder_symbol",
    ("7.4-1", "7.4-2", "7.1-1", "7.1-2", "7.2-6", "7.6-3"),
    "A slot at a boundary belongs to the interval before, or a word is read when the state is exactly 2^31.",
)
def coder_symbol() -> Cases:
    """One symbol from a given state: slots at every boundary and its neighbours, states at and next to both ends, with
    and without a word that falls due.
    """
    for n, table in enumerate(TABLES):
        slots = sorted({b + d for b in table[1] for d in (-1, 0, 1) if 0 <= b + d < 65536})
        for slot in slots:
            for high in (LOW >> 16, (LOW << 16) - 1):
                x = (high << 16) + slot
                yield f"table {n}, state {x}", {"coder": [x, [0x01234567, 0x89ABCDEF, 0xFFFFFFFF]], "table": table}
    yield "no word is left", {"coder": [LOW, []], "table": THREE}
    yield "no word is needed", {"coder": [(LOW << 32) - 65536 + 20000, []], "table": THREE}


@unit("coder-raw-bits", "coder_step_raw", ("7.2-4", "7.2-5", "7.4-2"), "Raw bits are the low bits of the state.")
def coder_raw_bits() -> Cases:
    """None to fifteen bits from states at both ends, with words due and not."""
    for bits in range(16):
        for x in sorted({LOW, LOW + 65535, LOW + (1 << 16 - bits) % 65536, (LOW << 32) - 1, 0x123456789ABCDEF}):
            yield f"{bits} bits of {x}", {"x": x, "words": [0xDEADBEEF], "bits": bits}


@unit("coder-start", "coder_start", ("7.3-3", "7.3-1", "7.6-1", "7.6-2"), "The state or words are read big-endian.")
def coder_start() -> Cases:
    """First states at and beyond both ends, with none, one and two words, and impossible lengths."""
    for state in (0, LOW - 1, LOW, LOW + 1, 2**40 + 513, (LOW << 32) - 1, LOW << 32, 2**64 - 1):
        for words in (b"", b"\1\2\3\4", b"\1\2\3\4\xff\xfe\xfd\xfc"):
            yield f"{state} and {len(words)} bytes", {"data": state.to_bytes(8, "little") + words}
    for length in (1, 4, 7, 9, 10, 11, 13):
        yield f"{length} bytes", {"data": (LOW.to_bytes(8, "little") + bytes(8))[:length]}


@unit("crc32c", "crc32c", ("8.2-1",), "Another polynomial, bit order, begin or end of the register.")
def checksum() -> Cases:
    """Nothing, single bytes, published check values, lengths around multiples of 8."""
    for name, data in (
        ("nothing", b""),
        ("123456789", b"123456789"),
        ("zeros", bytes(32)),
        ("ones", b"\xff" * 32),
        ("rising", bytes(range(32))),
        ("falling", bytes(range(31, -1, -1))),
    ):
        yield name, {"data": data}
    for n in (0, 1, 128, 255):
        yield f"byte {n}", {"data": bytes([n])}
    for length in (7, 8, 9, 63, 64, 65, 1000):
        yield f"{length} bytes", {"data": bytes(draws(0, "crc", length, 0, 256).tolist())}


@unit("digest", "container_digest", ("8.1-20",), "The digest is of another layout of samples, or its second half.")
def digest() -> Cases:
    """Digests of few samples."""
    for name, samples in (("nothing", b""), ("one", b"\7"), ("colour", bytes(range(6))), ("grey", b"\x80" * 40)):
        yield name, {"samples": samples}


@unit("container-positions", "container_positions", ("8.1-19", "9.1-2"), "Positions are counted without padding.")
def container_positions() -> Cases:
    """Positions of small and of the largest pictures."""
    for width, height in ((1, 1), (64, 64), (65, 64), (2**20, 2048), (2**20, 2049), (46336, 46336), (2**20, 2**20)):
        yield f"{width}x{height}", {"width": width, "height": height}


def _sealed(body: bytes) -> bytes:
    return body + crc32c(body).to_bytes(4, "little")


@unit(
    "container",
    "parse_stream",
    ("8-1", "8.1-1", "8.3-3", "8.5-10", "8.5-8", "8.5-9", "8.6-1"),
    "A field is read with another width, offset or byte order, or checks are made in another order.",
)
def container() -> Cases:
    """Whole streams taken apart: with everything and with nothing that may be absent, numbers whose bytes all differ,
    segments empty, and one of each kind of refusal.
    """
    yield "whole", {"data": whole()}
    yield "bare", {"data": bare()}
    yield "tiled", {"data": tiled()}
    yield "without loss", {"data": lossless()}
    damaged = bytearray(tiled())
    damaged[-20] ^= 1  # in the last tile
    yield "damaged tile", {"data": bytes(damaged)}
    yield "damaged tile that is not needed", {"data": bytes(damaged), "tiles": [0, 1, 2]}
    empty = bare()[:36] + bytes(8)
    yield "empty segments", {"data": _sealed(empty)}
    distinct = b"\x89LIC\1\0\3\x64\1\2\3\0\4\5\6\0" + bytes(range(160, 176)) + b"\0\0\x08" + bytes(9)
    yield "bytes that differ", {"data": _sealed(distinct)}
    yield "sides of one", {"data": _sealed(empty[:8] + b"\1\0\0\0\1\0\0\0" + empty[16:])}
    yield "largest", {"data": _sealed(empty[:8] + b"\0\0\x10\0\0\x08\0\0" + empty[16:])}
    for name, data in (
        ("nothing", b""),
        ("magic alone", b"\x89LIC"),
        ("version 0", b"\x89LIC\0"),
        ("cut", bare()[:-1]),
        ("header alone", bare()[:36]),
        ("index cut", bare()[:43]),
        ("damaged", bare()[:-1] + b"?"),
        ("appended", bare() + b"?"),
        ("positions", _sealed(empty[:8] + b"\0\0\x10\0" * 2 + empty[16:])),
        ("reserved", _sealed(empty[:35] + b"\1" + empty[36:])),
        ("one tile size", _sealed(empty[:32] + b"\1" + empty[33:])),
    ):
        yield name, {"data": data}


@unit(
    "container-chunks",
    "container_chunks",
    cited("8.4-1..4 8.4-8..14 9.1-5"),
    "A rule about tags, lengths or the number of chunks is missing, too strict or too loose by one.",
)
def container_chunks() -> Cases:
    """What stands between segments and checksum: every rule broken, and payloads of 2^24 bytes and one more, told as
    runs of equal bytes.
    """
    fields = {"width": 1, "height": 1, "channels": 3, "lossless": 0}
    for name, (chunks, _) in FAULTY.items():
        yield name, {"body": b"".join(chunks), "start": 0, "fields": fields}
    yield "none", {"body": b"???", "start": 3, "fields": fields}
    yield "behind others", {"body": b"???exif\2\0\0\0ab", "start": 3, "fields": fields}
    for length in (2**24, 2**24 + 1):
        head = b"iccp" + length.to_bytes(4, "little")
        body = {"runs": [[head.hex(), 1], ["00", length]]}
        yield f"{length} bytes", {"body": body, "start": 0, "fields": fields}
    yield "no LOSS", {"body": b"", "start": 0, "fields": fields | {"lossless": 1}}
