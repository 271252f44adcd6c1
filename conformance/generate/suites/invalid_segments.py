"""Streams of the invalid suite whose container is in order: damaged segments, other models, much claimed by few bytes.

Every stream is sealed with a right checksum, so that it reaches the range coder.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

import numpy as np

from refcodec.arith.engine import Engine
from refcodec.bitstream.container import serialise
from refcodec.entropy.rans_python import encode
from refcodec.model.integer_model import Model
from refcodec.model.symbol_tables import LENGTH_BITS, LOW, SymbolTables, intervals
from refcodec.slices import walk

from ...kit.vectors import Reject
from ...synthetic.models.procedural import model
from ...synthetic.streams import Parts, take_apart
from ...synthetic.writer import header_of, random_stream, regular_range, stream_of
from ..expectation import decoded
from ..registry import Case, generator, reject, sound

MODEL = "tiny-7"


@sound("early")
def early() -> bytes:
    """A valid stream whose segments both have words: with escapes, six symbols of z do. In its z segment a word can be
    written before it is due.
    """
    return random_stream(model(MODEL), 23, 5, 3, style="escapes", digest=False)


@sound("late")
def late() -> bytes:
    """A valid stream in whose z segment a word can be written too late."""
    return random_stream(model(MODEL), 29, 5, 3, style="escapes", digest=False)


@sound("attentions")
def attentions() -> bytes:
    """A valid stream of zeros whose y segment is a state that four bytes hold."""
    return stream_of(model("attentions"), 16, 16, digest=False)


@sound("heads")
def heads() -> bytes:
    """A valid stream of a model with one quality."""
    return random_stream(model("heads-7"), 24, 3, 3, style="plain")


@sound("zeros")
def zeros() -> bytes:
    """A valid stream of zeros."""
    return stream_of(model(MODEL), 4, 4, digest=False)


def _base() -> Parts:
    return take_apart(early())


def _rebuilt(z: bytes | None = None, y: bytes | None = None) -> bytes:
    """A sealed stream with other segments, announced by their lengths."""
    parts = _base()
    [(old_z, old_y)] = parts.segments
    parts.segments = [(old_z if z is None else z, old_y if y is None else y)]
    return parts.sealed()


def _state(segment: bytes, value: int) -> bytes:
    return value.to_bytes(8, "little") + segment[8:]


def _value(segment: bytes) -> int:
    return int.from_bytes(segment[:8], "little")


def _either(data: bytes) -> Reject:
    """What must happen to a damaged segment: its symbols are any, so one may be out of range before words run out."""
    found = decoded(data, model(MODEL), "numpy")
    assert isinstance(found, Reject)
    return reject(found.error, *({"CoderError", "SymbolError"} - {found.error}))


STATES = {
    "0": 0,
    "1": 1,
    "2-31-less-1": LOW - 1,
    "2-63": LOW << 32,
    "2-63-and-2-31": (LOW << 32) + LOW,
    "2-64-less-1": (1 << 64) - 1,
}
"""First states that no encoder writes."""

DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "word-missing": (lambda s: s[:-4], "7.6-3"),
    "words-missing": (lambda s: s[:8], "7.6-3"),
    "first-word-missing": (lambda s: s[:8] + s[12:], "7.6-3"),
    "word-left": (lambda s: s + b"\1\2\3\4", "7.6-4"),
    "zero-word-left": (lambda s: s + bytes(4), "7.6-4"),
    "twice": (lambda s: s + s, "7.6-4"),
    "byte-missing": (lambda s: s[:-1], "7.6-1"),
    "byte-left": (lambda s: s + b"\0", "7.6-1"),
    "two-bytes-left": (lambda s: s + b"\0\0", "7.6-1"),
    "half-a-state": (lambda s: s[:4], "7.6-1"),
    "seven-bytes": (lambda s: s[:7], "7.6-1"),
    "state-alone-of-one-word-more": (lambda s: s[4:], "7.6-4"),
    "last-bit": (lambda s: s[:-4] + bytes([s[-4] ^ 1]) + s[-3:], "7.6-4"),
    "big-endian-state": (lambda s: s[:8][::-1] + s[8:], "7.6-2"),
    "words-reversed": (lambda s: s[:8] + np.frombuffer(s[8:], "<u4")[::-1].tobytes(), "7.3-3"),
}
"""Ways to damage a segment, and the clause that refuses them."""


@generator("invalid", "segments")
def segments() -> Iterator[Case]:
    """Segments that no encoder writes: first states out of range, lengths that cannot be, words missing and left over,
    a wrong state at the end; each of the z and of the y segment, under a right checksum.
    """
    base = _base()
    for part, segment in zip("zy", base.segments[0], strict=True):

        def case(name: str, data: bytes, clauses: tuple[str, ...], part: str = part) -> Case:
            stream = _rebuilt(**{part: data})
            return Case(
                f"invalid/{part}-{name}",
                stream,
                MODEL,
                ("1.4-2", *clauses),
                "The range coder does not check its segment as SPEC 7.6 says; a hostile one could make it read "
                "beyond the end or overflow.",
                f"the {part} segment of seed 23: {name.replace('-', ' ')}",
                _either(stream),
                definition=True,
                base="early",
            )

        for name, value in STATES.items():
            yield case(f"state-{name}", _state(segment, value), ("7.3-1", "7.6-2"))
        for name, (change, clause) in DAMAGES.items():
            yield case(name, change(segment), (clause, "7.6-5"))
        for name, value in (("next", 1), ("far", 1 << 20)):
            yield case(f"state-{name}", _state(segment, _value(segment) + value), ("7.6-4",))


def _first_step(segment: bytes, tables: SymbolTables) -> tuple[int, int, int, list[int]]:
    """(SPEC 7.4) Start and length of the first symbol's interval of table 0, the state behind it and the words left."""
    x, words = _value(segment), np.frombuffer(segment[8:], "<u4").tolist()
    cdf = tables.cdf[: int(tables.start[1])].tolist()
    at = bisect_right(cdf, x & 0xFFFF)
    c, f = cdf[at - 1], cdf[at] - cdf[at - 1]
    x = f * (x >> 16) + (x & 0xFFFF) - c
    return c, f, x << 32 | words.pop(0) if x < LOW else x, words


def _forged(c: int, f: int, x: int, words: list[int]) -> bytes:
    """A segment whose first symbol leads to this state without a word being read."""
    return ((x // f << 16) + x % f + c).to_bytes(8, "little") + np.array(words, "<u4").tobytes()


@generator("invalid", "forged-states")
def forged_states() -> Iterator[Case]:
    """Segments that decode to symbols and end as they should, but for a first state that is out of range: below 2^31
    since a word was written too early, 2^63 or more since one was written too late; and a state of four bytes alone.
    """
    made = model(MODEL)
    suggests = "The first state of a segment, or its length, is not checked by itself but by what follows it."

    def case(name: str, of: str, base: str, data: bytes, clauses: tuple[str, ...], origin: str) -> Case:
        return Case(
            f"invalid/forged-{name}",
            data,
            of,
            ("1.4-2", "7.6-5", *clauses),
            suggests,
            origin,
            reject("CoderError"),
            definition=True,
            base=base,
        )

    for name, base, seed in (("early", early, 23), ("late", late, 29)):
        parts = take_apart(base())
        [(z, y)] = parts.segments
        c, f, x, words = _first_step(z, made.factorized)
        z = _forged(c, f, x >> 32, [x & 0xFFFFFFFF, *words]) if name == "early" else _forged(c, f, x, words)
        assert (_value(z) < LOW) if name == "early" else (_value(z) >= LOW << 32)
        parts.segments = [(z, y)]
        yield case(
            f"word-{name}",
            MODEL,
            name,
            parts.sealed(),
            ("7.3-1", "7.6-2"),
            f"the z segment of seed {seed}, its first word written {name}",
        )
    parts = take_apart(attentions())
    [(z, y)] = parts.segments
    assert len(y) == 8 and LOW <= _value(y) < 1 << 32
    parts.segments = [(z, y[:4])]
    yield case(
        "state-of-four-bytes",
        "attentions",
        "attentions",
        parts.sealed(),
        ("7.6-1",),
        "zeros of y, whose state has four bytes of 0, without these",
    )


@generator("invalid", "borders")
def borders() -> Iterator[Case]:
    """Lengths of segments that move the border between them or claim more than there is."""
    base = _base()
    z, y = map(len, base.segments[0])
    for name, z_length, y_length, error, clauses in (
        ("to-the-left", z - 4, y + 4, "CoderError", ("7.6-3",)),
        ("to-the-right", z + 4, y - 4, "CoderError", ("7.6-4",)),
        ("off-by-a-byte", z + 1, y - 1, "CoderError", ("7.6-1",)),
        ("all-z", z + y, 0, "CoderError", ("7.6-4", "8.3-4")),
        ("all-y", 0, z + y, "CoderError", ("7.6-1", "8.3-4")),
        ("y-shorter", z, y - 4, "TrailingBytes", ("8.4-12",)),
        ("y-into-checksum", z, y + 4, "TruncatedStream", ("8.5-8",)),
        ("y-by-a-byte", z, y + 1, "TruncatedStream", ("8.5-8",)),
        ("z-by-a-byte", z + 1, y, "TruncatedStream", ("8.5-8",)),
        ("z-2-31-less-1", 2**31 - 1, y, "TruncatedStream", ("8.5-8",)),
        ("y-2-31-less-1", z, 2**31 - 1, "TruncatedStream", ("8.5-8",)),
        ("both-2-31-less-1", 2**31 - 1, 2**31 - 1, "TruncatedStream", ("8.5-8",)),
        ("sum-of-0-in-31-bits", 2**31 - 1 - y, 1 + 2 * y, "TruncatedStream", ("8.5-8",)),
    ):
        parts = base.copy()
        parts.index = [[z_length, y_length]]
        data = parts.sealed()
        yield Case(
            f"invalid/border-{name}",
            data,
            MODEL,
            ("1.4-2", "8.3-1", "8.3-3", *clauses),
            "A length is trusted before it is compared with the stream's size, or the sum of lengths wraps.",
            f"z_length {z_length} instead of {z}, y_length {y_length} instead of {y}",
            _either(data) if error == "CoderError" else reject(error),
            definition=error == "CoderError",
            base="early",
        )


class OneSymbol:
    """(SPEC 7.2) A port that writes zeros and in one place of a segment any symbol, also one that is out of range.

    Parameters
    ----------
    made : Model
    part : str
        "z" or "y".
    place, symbol : int
        Where the other symbol stands, which is escaped.
    kept : int
        Of the intervals of the escape, how many are written: itself, sign, length, and the bits if there are any.
    """

    def __init__(self, made: Model, part: str, place: int, symbol: int, kept: int = 4) -> None:
        self._model, self._odd, self._kept = made, {part: (place, symbol)}, kept
        self._parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"z": [], "y": []}
        self._count = {"z": 0, "y": 0}

    def _put(self, part: str, numbers: np.ndarray, tables: SymbolTables) -> np.ndarray:
        numbers = np.ascontiguousarray(numbers)
        zeros = np.zeros(numbers.shape, np.int32)
        cum, freq = intervals(zeros, numbers, tables)
        assert cum.size == zeros.size  # 0 is regular in every table
        place, symbol = self._odd.get(part, (-1, 0))
        at = place - self._count[part]
        if 0 <= at < zeros.size:
            said = escape(symbol, int(numbers.reshape(-1)[at]), tables)[: self._kept]
            starts, lengths = zip(*said, strict=True)
            cum, freq = (
                np.concatenate([a[:at], np.array(new, np.uint16), a[at + 1 :]])
                for a, new in ((cum, starts), (freq, lengths))
            )
        self._parts[part].append((cum, freq))
        self._count[part] += zeros.size
        return zeros

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """(SPEC 6.4) Zeros of z."""
        return self._put("z", np.broadcast_to(np.arange(shape[2], dtype=np.int32), shape), self._model.factorized)

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """(SPEC 6.9) Zeros of y; arguments and result are those of `SlicePort.y`."""
        return self._put("y", levels, self._model.tables.gaussian)

    def segment(self, part: str) -> bytes:
        """(SPEC 7.5) The segment."""
        cum, freq = (np.concatenate(a) for a in zip(*self._parts[part], strict=True))
        words = np.empty(cum.size, np.uint32)
        x, count = encode(cum, freq, LOW, words)
        return x.to_bytes(8, "little") + words[:count][::-1].astype("<u4").tobytes()


def escape(symbol: int, number: int, tables: SymbolTables) -> list[tuple[int, int]]:
    """(SPEC 7.2) The intervals of an escaped symbol of any magnitude.

    Parameters
    ----------
    symbol : int
        A symbol outside the regular range of its table.
    number : int
        The table.
    tables : SymbolTables

    Returns
    -------
    list of (int, int)
        Start and length of each interval, in units of 2^-16.
    """
    low, high = (int(v) for v in regular_range(tables, np.array(number)))
    last = int(tables.start[number + 1]) - 2
    v = low - 1 - symbol if symbol < low else symbol - high - 1
    n = (v + 1).bit_length() - 1
    raw = [(int(symbol < low), 1), (n, LENGTH_BITS), (v + 1 - (1 << n), n)]
    cum = int(tables.cdf[last])
    return [(cum, (1 << 16) - cum), *((value << 16 - bits, 1 << 16 - bits) for value, bits in raw if bits)]


def _written(made: Model, port: OneSymbol) -> bytes:
    """A stream of 4x4 samples with a port's symbols."""
    walk(Engine(made.layers, made.tables, 0, 1), made.config, made.medians, port, 4, 4)
    return serialise(header_of(made, 4, 4), [(port.segment("z"), port.segment("y"))])


def _counts(made: Model) -> dict[str, int]:
    """Symbols of each segment of such a stream."""
    return {"z": made.config.hyper, "y": 16 * made.config.M}


@generator("invalid", "symbols")
def symbols() -> Iterator[Case]:
    """Symbols of magnitude 32768 and more, which escapes can say: first, last and between in each segment."""
    made = model(MODEL)
    for part, count in _counts(made).items():
        for where, place in (("first", 0), ("middle", count // 2), ("last", count - 1)):
            for symbol in (32768, -32768, 65000):
                data = _written(made, OneSymbol(made, part, place, symbol))
                yield Case(
                    f"invalid/symbol-{part}-{where}-{'minus-' if symbol < 0 else ''}{abs(symbol)}",
                    data,
                    MODEL,
                    ("1.4-2", "7.2-6", "9.1-3", "8.9-1"),
                    "A decoded symbol is not compared with 32767, so that symbol * 64 + mean leaves its bounds.",
                    f"symbol {symbol} at place {place} of {part}, zeros elsewhere",
                    reject("SymbolError"),
                    definition=where != "middle",
                    base="zeros",
                )


@generator("invalid", "escapes-cut")
def escapes_cut() -> Iterator[Case]:
    """Segments whose last symbol is an escape that ends early: after itself, its sign or its length the state is 2^31
    and no word is left, as at the end of a valid segment.
    """
    made = model(MODEL)
    for part, count in _counts(made).items():
        for kept, what in ((1, "itself"), (2, "its sign"), (3, "its length")):
            data = _written(made, OneSymbol(made, part, count - 1, 4000, kept))
            yield Case(
                f"invalid/escape-cut-{part}-{kept}",
                data,
                MODEL,
                ("1.4-2", "7.2-2", "7.2-3", "7.6-3", "7.6-5"),
                "Words that are missing are read as zeros, or a symbol that is not whole as one that is.",
                f"zeros, and for the last symbol of {part} an escape that ends after {what}",
                reject("CoderError"),
                definition=True,
                base="zeros",
            )


def _named(fingerprint: bytes) -> bytes:
    parts = _base()
    parts.header[16:32] = fingerprint
    return parts.sealed()


@generator("invalid", "other-models")
def other_models() -> Iterator[Case]:
    """Streams of another model than the one given: a bit of each byte of the fingerprint, another model's, zeros; and a
    quality that the model lacks.
    """
    own = model(MODEL).fingerprint
    wrong = {f"byte-{n}": own[:n] + bytes([own[n] ^ 1]) + own[n + 1 :] for n in range(16)}
    wrong |= {"zeros": bytes(16), "of-mid-7": model("mid-7").fingerprint, "reversed": own[::-1]}
    suggests = "The fingerprint is not compared in full, and the stream is decoded to garbage."
    for name, fingerprint in wrong.items():
        yield Case(
            f"invalid/fingerprint-{name}",
            _named(fingerprint),
            MODEL,
            ("1.4-2", "6.10-2", "8.1-8", "8.5-12", "8.9-1"),
            suggests,
            f"fingerprint {name}",
            reject("ModelError"),
            base="early",
        )
    for quality in (2, 50, 100):
        parts = take_apart(heads())
        parts.put("quality", quality)
        yield Case(
            f"invalid/quality-{quality:03}-of-one",
            parts.sealed(),
            "heads-7",
            ("1.4-2", "6.1-3", "6.9-5", "8.5-12", "8.9-1"),
            "A quality that the model lacks reads past the end of its gains, or is ignored.",
            f"quality {quality}, the model has one step",
            reject("ModelError"),
            base="heads",
        )


@generator("invalid", "bombs")
def bombs() -> Iterator[Case]:
    """Large pictures claimed by a few bytes: segments empty, a state alone, or a state that gives many symbols of no
    cost. Whoever has limits refuses by them; nobody takes time or memory before.
    """
    made = model(MODEL)
    state = LOW.to_bytes(8, "little")
    for name, width, height, segment in (
        ("level-6", 16384, 8192, b""),
        ("widest", 2**20, 64, b""),
        ("tallest", 1, 2**20, b""),
        ("largest", 2**20, 2048, b""),
        ("largest-square", 46336, 46336, b""),
        ("state-alone", 2**20, 64, state),
        ("two-words", 8192, 8192, state + b"\xff" * 8),
    ):
        classes = ["CoderError", "LimitExceeded"]
        if width * height > 1 << 27:
            classes.reverse()
        elif len(segment) > 8:
            classes.insert(0, "SymbolError")
        data = serialise(header_of(made, width, height), [(segment, segment)])
        yield Case(
            f"invalid/bomb-{name}",
            data,
            MODEL,
            ("1.4-2", "1.4-3", "7.6-1" if not segment else "7.6-3", "8.5-7", "9.1-1", "9.1-9", "12.2-4"),
            "Memory or time is spent on a size before the segment is looked at; or a size that is allowed is "
            "taken as a wrong field.",
            f"{width}x{height} in {len(data)} bytes",
            reject(*classes),
            base="zeros",
        )
