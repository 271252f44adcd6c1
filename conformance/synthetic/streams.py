"""Hostile streams: what a stranger might send, made from valid streams with their structure in mind (SPEC 8, 11).

A case is a function of the seed and its index alone. Most cases break a rule that is checked early; about a fifth
reach the range coder, and some decode completely, among them pictures whose symbols no encoder would choose.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from refcodec.arith.engine import Engine
from refcodec.bitstream.container import parse
from refcodec.bitstream.crc32c import crc32c
from refcodec.bitstream.fields import DIGEST_FLAG, FIELDS, FIXED_SIZE
from refcodec.codec import encode_picture
from refcodec.entropy.rans import RangeEncoder
from refcodec.limits import MAX_SYMBOL
from refcodec.model.integer_model import Model
from refcodec.slices import walk

TAGS = (b"exif", b"iccp", b"xmp ", b"abcd", b"z9  ", b"Need", b"EXIF", b"1abc", b"\xe9xif", b"a\0cd", b"    ", b"exi")
"""Known, unknown optional, required and malformed tags."""

STATES = (
    0,
    1,
    (1 << 31) - 1,
    1 << 31,
    (1 << 31) + 1,
    1 << 32,
    (1 << 47) - 1,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
"""Initial states inside and outside [2^31, 2^63), at its ends."""


def sealed(body: bytes) -> bytes:
    """(SPEC 8.2) Bytes followed by their right checksum."""
    return body + crc32c(body).to_bytes(4, "little")


@dataclass
class Parts:
    """A stream taken apart without its rules: every part may hold anything.

    Attributes
    ----------
    header : bytearray
    z, y : bytes
    chunks : list of bytes
        Tag, length and payload, unchecked.
    """

    header: bytearray
    z: bytes
    y: bytes
    chunks: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """Everything but the checksum."""
        return b"".join((self.header, self.z, self.y, *self.chunks))

    def put(self, name: str, value: int) -> None:
        """Set a number of the header, cut to the field's width."""
        spot = next(f for f in FIELDS if f.name == name)
        size = spot.end - spot.offset
        self.header[spot.offset : spot.end] = (value % (1 << 8 * size)).to_bytes(size, "little")

    def put_lengths(self) -> None:
        """Make the header announce the segments that are there."""
        self.put("z_length", len(self.z))
        self.put("y_length", len(self.y))

    def copy(self) -> Parts:
        """A copy whose change leaves this one as it is."""
        return Parts(bytearray(self.header), self.z, self.y, list(self.chunks))


def _chunk(tag: bytes, payload: bytes, length: int | None = None) -> bytes:
    return tag + struct.pack("<I", len(payload) if length is None else length) + payload


def take_apart(data: bytes) -> Parts:
    """A valid stream's parts."""
    stream = parse(data)
    return Parts(
        bytearray(data[: stream.header.size]),
        stream.z,
        stream.y,
        [_chunk(tag.encode(), payload) for tag, payload in stream.chunks],
    )


class Forger:
    """A port that writes symbols of its own choice: streams that are valid and that no encoder would write."""

    def __init__(self, engine: Engine, model: Model, random: Random) -> None:
        self._model, self._random = model, np.random.default_rng(random.getrandbits(64))
        self._style = int(self._random.integers(4))
        self._z, self._y = RangeEncoder(engine.backend), RangeEncoder(engine.backend)

    def _symbols(self, shape: tuple[int, ...]) -> NDArray[np.int32]:
        draw = self._random
        if self._style == 0:  # extremes everywhere
            return draw.choice(np.array([-MAX_SYMBOL, MAX_SYMBOL], np.int32), shape)
        if self._style == 1:  # escapes of every length
            magnitude = 2.0 ** draw.uniform(0, 15, shape)
            symbols: NDArray[np.int32] = (np.minimum(magnitude, MAX_SYMBOL) * draw.choice([-1, 1], shape)).astype(
                np.int32
            )
            return symbols
        if self._style == 2:  # mostly nothing, a few extremes
            return np.where(draw.random(shape) < 0.02, MAX_SYMBOL, 0).astype(np.int32)
        return np.full(shape, int(draw.choice([0, 1, -1, 255, -MAX_SYMBOL, MAX_SYMBOL])), np.int32)

    def z(self, medians: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Symbols of z, any."""
        symbols = self._symbols(shape)
        self._z.put(symbols, np.broadcast_to(np.arange(shape[2], dtype=np.int32), shape), self._model.factorized)
        return symbols

    def y(self, i: int, parity: int, levels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Symbols of one half of a slice, any."""
        symbols = self._symbols(levels.shape)
        self._y.put(symbols, levels, self._model.tables.gaussian)
        return symbols

    def finish(self) -> tuple[bytes, bytes]:
        """The z and y segments."""
        return self._z.finish(), self._y.finish()


def forge(parts: Parts, model: Model, random: Random, width: int = 16, height: int = 16) -> Parts:
    """A valid stream of a picture whose symbols are chosen at will."""
    parts = parts.copy()
    step = random.randint(1, model.config.steps)
    engine = Engine(model.layers, model.tables, step - 1, 1)
    port = Forger(engine, model, random)
    walk(engine, model.config, model.medians, port, -(-height // 64) * 4, -(-width // 64) * 4)
    parts.z, parts.y = port.finish()
    for name, value in (("width", width), ("height", height), ("quality", step)):
        parts.put(name, value)
    parts.put_lengths()
    return parts


@dataclass(frozen=True)
class Corpus:
    """Valid streams of one model that cases start from.

    Attributes
    ----------
    model : Model
    streams : list of Parts
    """

    model: Model
    streams: list[Parts]


@cache
def corpus(model: Model) -> Corpus:
    """Streams of small pictures, and of forged symbols, for a model."""
    draw = np.random.default_rng(1)
    streams = []
    for n, (height, width, channels) in enumerate(
        [(1, 1, 3), (1, 1, 1), (16, 16, 3), (40, 30, 3), (64, 64, 3), (7, 100, 1), (65, 17, 3)]
    ):
        noise = draw.integers(0, 256, (height, width, channels), dtype=np.uint8)
        samples = noise if n % 2 else (noise // 8 + 100).astype(np.uint8)
        samples = samples[:, :, 0] if channels == 1 else samples
        chunks = (("exif", b"II*\0"), ("zz 9", b""), ("xmp ", b"<x/>"))[: n % 4]
        quality = min((1, 30, 60, 100)[n % 4], model.config.steps)
        coded = encode_picture(samples, quality, model=model, threads=1, chunks=chunks, digest=n % 2 == 0)
        streams.append(take_apart(coded.data))
    random = Random(1)
    streams += [forge(streams[2], model, random) for _ in range(8)]
    return Corpus(model, streams)


def number(random: Random, bits: int) -> int:
    """A number of some bits: at a limit, near a power of two, small, or any."""
    kind = random.randrange(4)
    if kind == 0:
        return random.choice((0, 1, (1 << bits) - 1, 1 << bits - 1, (1 << bits - 1) - 1, 63, 64, 65))
    if kind == 1:
        return (1 << random.randrange(bits)) + random.randint(-1, 1)
    return random.randrange(300) if kind == 2 else random.getrandbits(bits)


def damaged(random: Random, data: bytes, unit: int = 1) -> bytes:
    """Bytes with flips, insertions, deletions, a cut or random runs; ``unit`` is the grain of insertions."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at = random.randrange(len(out) + 1)
        kind = random.randrange(7)
        if kind < 2 and at < len(out):
            out[at] ^= 1 << random.randrange(8)
        elif kind == 2:
            del out[at - at % unit :]
        elif kind == 3:
            out[at - at % unit : at - at % unit] = random.randbytes(unit * random.randint(1, 4))
        elif kind == 4:
            del out[at - at % unit : at - at % unit + unit * random.randint(1, 4)]
        elif kind == 5:
            run = random.randint(1, 8)
            out[at : at + run] = random.choice((b"\0", b"\xff", b"\x80", b"\x7f")) * run
        else:
            out[at : at + unit] = random.randbytes(unit)
    return bytes(out)


def _fields(random: Random, parts: Parts, source: Corpus) -> bytes:
    for _ in range(random.choice((1, 1, 2, 3))):
        spot = random.choice(FIELDS[1:])
        bits = 8 * (spot.end - spot.offset)
        if spot.end <= len(parts.header):
            parts.put(spot.name, number(random, bits))
    return sealed(parts.body)


def _noise(random: Random, parts: Parts, source: Corpus) -> bytes:
    prefix = random.choice((b"", b"\x89LIC", b"\x89LIC\0", bytes(parts.header[:44])))
    return prefix + random.randbytes(random.randrange(200))


def _bytes(random: Random, parts: Parts, source: Corpus) -> bytes:
    return damaged(random, sealed(parts.body))


def _sealed_bytes(random: Random, parts: Parts, source: Corpus) -> bytes:
    return sealed(damaged(random, parts.body))


def _chunks(random: Random, parts: Parts, source: Corpus) -> bytes:
    for _ in range(random.choice((1, 2, 3, 70))):
        payload = random.randbytes(random.randrange(20))
        length = None if random.random() < 0.7 else number(random, 32)
        parts.chunks.insert(random.randrange(len(parts.chunks) + 1), _chunk(random.choice(TAGS), payload, length))
    if random.random() < 0.3:
        parts.chunks.append(random.randbytes(random.randrange(12)))
    random.shuffle(parts.chunks)
    return sealed(parts.body)


def _lengths(random: Random, parts: Parts, source: Corpus) -> bytes:
    name = random.choice(("z_length", "y_length"))
    if random.random() < 0.5:
        shift = random.choice((-8, -4, -1, 1, 4, 8))  # the border between the segments moves
        parts.put("z_length", len(parts.z) + shift)
        parts.put("y_length", len(parts.y) - shift)
    else:
        parts.put(name, random.choice((number(random, 32), len(parts.body), (1 << 31) - len(parts.z))))
    return sealed(parts.body)


def _words(random: Random, parts: Parts, source: Corpus) -> bytes:
    name = random.choice("zyy")
    segment = getattr(parts, name)
    kind = random.randrange(6)
    if kind == 0:
        segment = random.choice(STATES).to_bytes(8, "little") + segment[8:]
    elif kind == 1:
        segment = random.choice(STATES).to_bytes(8, "little") + random.randbytes(4 * random.randrange(60))
    elif kind == 2:
        segment = segment[:8] + random.choice((b"\0", b"\xff")) * (len(segment) - 8)
    else:
        segment = damaged(random, segment, 4)
    setattr(parts, name, segment)
    parts.put_lengths()
    return sealed(parts.body)


def _segments(random: Random, parts: Parts, source: Corpus) -> bytes:
    other = random.choice(source.streams)
    kind = random.randrange(5)
    if kind == 0:
        parts.z, parts.y = parts.y, parts.z
    elif kind == 1:
        parts.y = other.y
    elif kind == 2:
        parts.z = other.z
    elif kind == 3:
        parts.y += parts.y
    else:
        parts.z, parts.y = b"", random.choice((b"", parts.y))
    parts.put_lengths()
    return sealed(parts.body)


def _shape(random: Random, parts: Parts, source: Corpus) -> bytes:
    """Another picture for the same segments: other sizes, extreme aspects, other steps."""
    long, short = random.choice((1 << random.randint(6, 20), 65, 128)), random.choice((1, 1, 7, 64))
    width, height = random.choice(((long, short), (short, long), (random.randint(1, 130), random.randint(1, 130))))
    parts.put("width", width)
    parts.put("height", height)
    parts.put("quality", random.randint(1, 100))
    return sealed(parts.body)


def _disguised(random: Random, parts: Parts, source: Corpus) -> bytes:
    """A stream that decodes: the same picture with other metadata, digest, crop, channels or step."""
    kind = random.randrange(4)
    if kind == 0:
        parts.chunks = [_chunk(random.choice((b"aaaa", b"b   ")), random.randbytes(random.randrange(99)))]
    elif kind == 1:
        digest = b"" if len(parts.header) > FIXED_SIZE else random.randbytes(16)
        parts.header[FIXED_SIZE:] = digest
        parts.put("flags", DIGEST_FLAG if digest else 0)
    elif kind == 2:
        parts.put("channels", random.choice((1, 3)))
    else:
        parts.put("width", random.randint(1, 64))
        parts.put("height", random.randint(1, 64))
    return sealed(parts.body)


def _forged(random: Random, parts: Parts, source: Corpus) -> bytes:
    width, height = random.choice(((16, 16), (16, 16), (1, 1), (65, 3)))
    return sealed(forge(parts, source.model, random, width, height).body)


Recipe = Callable[[Random, Parts, Corpus], bytes]

RECIPES: tuple[tuple[Recipe, int], ...] = (
    (_fields, 60),
    (_noise, 30),
    (_bytes, 40),
    (_sealed_bytes, 10),
    (_chunks, 50),
    (_lengths, 30),
    (_words, 10),
    (_segments, 2),
    (_shape, 4),
    (_disguised, 2),
    (_forged, 1),
)
"""Ways to make a case and how often each is taken: those that reach the coder cost a thousand times the others."""


def hostile_stream(source: Corpus, seed: int, index: int) -> bytes:
    """The stream of a case.

    Parameters
    ----------
    source : Corpus
    seed, index : int
        The case is a function of these and of the model alone.

    Returns
    -------
    bytes
    """
    random = Random(f"{seed}/{index}")
    recipe = random.choices([r for r, _ in RECIPES], [w for _, w in RECIPES])[0]
    return recipe(random, random.choice(source.streams).copy(), source)
