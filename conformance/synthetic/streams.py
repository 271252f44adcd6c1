"""Hostile streams: what a stranger might send, made from valid streams with their structure in mind (SPEC 8, 11).

A case is a function of the seed and its index alone. Most cases break a rule that is checked early; about a fifth
reach the range coder, and some decode completely, among them pictures whose symbols no encoder would choose.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
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
from refcodec.lossless.rectangles import Rectangle, pack_rectangles
from refcodec.model.integer_model import Model
from refcodec.planes import ArrayRows
from refcodec.slices import walk

TAGS = (
    b"exif",
    b"iccp",
    b"xmp ",
    b"ALPH",
    b"LOSS",
    b"abcd",
    b"z9  ",
    b"Need",
    b"EXIF",
    b"1abc",
    b"\xe9xif",
    b"a\0cd",
    b"    ",
    b"exi",
)
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

FLAGS, TILE_WIDTH = (next(f.offset for f in FIELDS if f.name == name) for name in ("flags", "tile_width"))


def sealed(body: bytes) -> bytes:
    """(SPEC 8.2) Bytes followed by their right checksum."""
    return body + crc32c(body).to_bytes(4, "little")


@dataclass
class Parts:
    """A stream taken apart without its rules: every part may hold anything.

    Attributes
    ----------
    header : bytearray
    index : bytearray
        (SPEC 8.3) Lengths, and in a tiled stream checksums.
    segments : list of bytes
        z and y of every tile.
    chunks : list of bytes
        Tag, length and payload, unchecked.
    """

    header: bytearray
    index: bytearray
    segments: list[bytes]
    chunks: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """Everything but the checksum."""
        return b"".join((self.header, self.index, *self.segments, *self.chunks))

    @property
    def tiled(self) -> bool:
        """Whether the header gives a tile size."""
        return self.header[TILE_WIDTH] > 0

    @property
    def data(self) -> bytes:
        """(SPEC 8.2) The stream with its right checksum; those of tiles are as the index has them."""
        covered = b"".join((self.header, self.index, *self.chunks)) if self.tiled else self.body
        return self.body + crc32c(covered).to_bytes(4, "little")

    @property
    def z(self) -> bytes:
        """The first z segment."""
        return self.segments[0]

    @z.setter
    def z(self, segment: bytes) -> None:
        self.segments[0] = segment

    @property
    def y(self) -> bytes:
        """The first y segment."""
        return self.segments[1]

    @y.setter
    def y(self, segment: bytes) -> None:
        self.segments[1] = segment

    def put(self, name: str, value: int) -> None:
        """Set a number of the header, cut to the field's width."""
        spot = next(f for f in FIELDS if f.name == name)
        size = spot.end - spot.offset
        self.header[spot.offset : spot.end] = (value % (1 << 8 * size)).to_bytes(size, "little")

    def put_number(self, number: int, value: int) -> None:
        """Set a number of the index, cut to 32 bits."""
        self.index[4 * number : 4 * number + 4] = (value % (1 << 32)).to_bytes(4, "little")

    def put_lengths(self) -> None:
        """Make the index announce the segments that are there."""
        for tile in range(len(self.segments) // 2):
            z, y = self.segments[2 * tile : 2 * tile + 2]
            numbers = [len(z), len(y)] + ([crc32c(z + y)] if self.tiled else [])
            for n, value in enumerate(numbers, tile * len(numbers)):
                self.put_number(n, value)

    def copy(self) -> Parts:
        """A copy whose change leaves this one as it is."""
        return Parts(bytearray(self.header), bytearray(self.index), list(self.segments), list(self.chunks))


def chunk(tag: bytes, payload: bytes, length: int | None = None) -> bytes:
    """(SPEC 8.4) A chunk; it claims the length of its payload, or another."""
    return tag + struct.pack("<I", len(payload) if length is None else length) + payload


def take_apart(data: bytes) -> Parts:
    """A valid stream's parts."""
    stream = parse(data)
    first = stream.header.size
    return Parts(
        bytearray(data[:first]),
        bytearray(data[first : first + stream.header.index_size]),
        [segment for tile in range(stream.header.tiles) for segment in stream.segments(tile)],
        [chunk(tag.encode(), payload) for tag, payload in stream.chunks],
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
        Of one tile and with nothing that is stored without loss.
    others : list of Parts
        With tiles, alpha, rectangles, or stored without loss as a whole.
    """

    model: Model
    streams: list[Parts]
    others: list[Parts]

    @property
    def all(self) -> list[Parts]:
        """Both."""
        return self.streams + self.others


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
    return Corpus(model, streams, [*_others(model, draw)])


def _others(model: Model, draw: np.random.Generator) -> Iterator[Parts]:
    """Streams with every new part of version 1: tiles, alpha, rectangles, pictures without loss."""
    for height, width, channels, tile, lossless in (
        (70, 130, 3, 64, False),
        (65, 20, 1, 64, False),
        (9, 7, 4, 0, False),
        (5, 70, 2, 64, False),
        (6, 11, 3, 0, True),
        (4, 3, 4, 0, True),
        (7, 9, 1, 0, True),
    ):
        samples = (draw.integers(0, 4, (height, width, channels)) * 85).astype(np.uint8)
        coded = encode_picture(
            samples[:, :, 0] if channels == 1 else samples,
            1,
            model=model,
            threads=1,
            tile=tile,
            lossless=lossless,
            rectangles=False,
        )
        yield take_apart(coded.data)
    for places in (
        [Rectangle(0, 0, 3, 2)],
        [Rectangle(2, 0, 5, 60), Rectangle(8, 1, 60, 3), Rectangle(0, 61, 68, 9)],
    ):
        samples = (draw.integers(0, 4, (70, 68, 3)) * 85).astype(np.uint8)
        parts = take_apart(encode_picture(samples, 1, model=model, threads=1, rectangles=False).data)
        parts.chunks.append(chunk(b"LOSS", pack_rectangles(places, ArrayRows(samples).rows, 68, 70, 3)))
        yield parts


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
    return parts.data


def _noise(random: Random, parts: Parts, source: Corpus) -> bytes:
    prefix = random.choice((b"", b"\x89LIC", b"\x89LIC\1", bytes(parts.header)))
    return prefix + random.randbytes(random.randrange(200))


def _bytes(random: Random, parts: Parts, source: Corpus) -> bytes:
    return damaged(random, parts.data)


def _sealed_bytes(random: Random, parts: Parts, source: Corpus) -> bytes:
    return sealed(damaged(random, parts.body))


def _chunks(random: Random, parts: Parts, source: Corpus) -> bytes:
    for _ in range(random.choice((1, 2, 3, 70))):
        payload = random.randbytes(random.randrange(20))
        length = None if random.random() < 0.7 else number(random, 32)
        parts.chunks.insert(random.randrange(len(parts.chunks) + 1), chunk(random.choice(TAGS), payload, length))
    if random.random() < 0.3:
        parts.chunks.append(random.randbytes(random.randrange(12)))
    random.shuffle(parts.chunks)
    return parts.data


def _lengths(random: Random, parts: Parts, source: Corpus) -> bytes:
    if not parts.segments:  # stored without loss
        parts.index += random.randbytes(random.choice((4, 8, 12)))
    elif random.random() < 0.5:
        shift = random.choice((-8, -4, -1, 1, 4, 8))  # the border between the segments moves
        parts.put_number(0, len(parts.z) + shift)
        parts.put_number(1, len(parts.y) - shift)
    else:
        value = random.choice((number(random, 32), len(parts.body), (1 << 31) - len(parts.z)))
        parts.put_number(random.randrange(len(parts.index) // 4), value)
    return parts.data


def _words(random: Random, parts: Parts, source: Corpus) -> bytes:
    if not parts.segments:
        return _stored(random, parts, source)
    at = random.randrange(len(parts.segments) // 2) * 2 + random.choice((0, 1, 1))
    segment = parts.segments[at]
    kind = random.randrange(6)
    if kind == 0:
        segment = random.choice(STATES).to_bytes(8, "little") + segment[8:]
    elif kind == 1:
        segment = random.choice(STATES).to_bytes(8, "little") + random.randbytes(4 * random.randrange(60))
    elif kind == 2:
        segment = segment[:8] + random.choice((b"\0", b"\xff")) * (len(segment) - 8)
    else:
        segment = damaged(random, segment, 4)
    parts.segments[at] = segment
    parts.put_lengths()
    return parts.data


def _stored(random: Random, parts: Parts, source: Corpus) -> bytes:
    """A payload of ALPH or LOSS changed: as it is, in what its zlib streams inflate to, or as a whole."""
    parts = random.choice([other for other in source.others if stored_chunks(other)]).copy()
    at = random.choice(stored_chunks(parts))
    tag, payload = parts.chunks[at][:4], parts.chunks[at][8:]
    kind = random.randrange(4)
    if kind == 0:
        payload = damaged(random, payload)
    elif kind == 1:
        payload = damaged(random, payload[:32]) + payload[32:]
    elif kind == 2:
        payload = bytes([random.randrange(10)]) + payload[1:]
    else:
        inner = damaged(random, random.choice((bytes(40), random.randbytes(30), b"\x01" * 300)))
        payload = payload[:1] + zlib.compress(inner)
    parts.chunks[at] = chunk(tag, payload)
    return parts.data


def stored_chunks(parts: Parts) -> list[int]:
    """Indices of the chunks that store samples."""
    return [n for n, whole in enumerate(parts.chunks) if whole[:4] in (b"ALPH", b"LOSS")]


def _segments(random: Random, parts: Parts, source: Corpus) -> bytes:
    if not parts.segments:
        return _stored(random, parts, source)
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
    return parts.data


def _shape(random: Random, parts: Parts, source: Corpus) -> bytes:
    """Another picture for the same segments: other sizes, extreme aspects, other steps."""
    long, short = random.choice((1 << random.randint(6, 20), 65, 128)), random.choice((1, 1, 7, 64))
    width, height = random.choice(((long, short), (short, long), (random.randint(1, 130), random.randint(1, 130))))
    parts.put("width", width)
    parts.put("height", height)
    parts.put("quality", random.randint(1, 100))
    return parts.data


def _disguised(random: Random, parts: Parts, source: Corpus) -> bytes:
    """A stream that decodes: the same picture with other metadata, digest, crop, channels or step."""
    kind = random.randrange(4)
    if kind == 0:
        parts.chunks.append(chunk(random.choice((b"aaaa", b"b   ")), random.randbytes(random.randrange(99))))
    elif kind == 1:
        digest = b"" if len(parts.header) > FIXED_SIZE else random.randbytes(16)
        parts.header[FIXED_SIZE:] = digest
        parts.put("flags", parts.header[FLAGS] & ~DIGEST_FLAG | (DIGEST_FLAG if digest else 0))
    elif kind == 2:
        parts.put("channels", random.choice((1, 3)))
    else:
        parts.put("width", random.randint(1, 64))
        parts.put("height", random.randint(1, 64))
    return parts.data


def _forged(random: Random, parts: Parts, source: Corpus) -> bytes:
    width, height = random.choice(((16, 16), (16, 16), (1, 1), (65, 3)))
    return forge(random.choice(source.streams), source.model, random, width, height).data


Recipe = Callable[[Random, Parts, Corpus], bytes]

RECIPES: tuple[tuple[Recipe, int], ...] = (
    (_fields, 60),
    (_noise, 30),
    (_bytes, 40),
    (_sealed_bytes, 10),
    (_chunks, 50),
    (_lengths, 30),
    (_words, 10),
    (_stored, 30),
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
    return recipe(random, random.choice(source.all).copy(), source)
