"""Hostile streams: what a stranger might send, made from valid streams with their structure in mind (SPEC 8, 11).

A case is a function of the seed and its index alone. Most cases break a rule that is checked early; about a fifth
reach the range coder, and some decode completely, among them pictures whose symbols no encoder would choose. What is
stored without loss, alpha and rectangles, is made in stored.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcodec.arith.engine import Engine
from refcodec.bitstream.fields import DIGEST_FLAG, FIELDS, FIXED_SIZE, LOSSLESS_FLAG
from refcodec.codec import encode_picture
from refcodec.entropy.rans import RangeEncoder
from refcodec.limits import MAX_SYMBOL
from refcodec.model.integer_model import Model
from refcodec.slices import walk_tiles
from refcodec.tiles import UNIT, TileGrid

from ...synthetic.streams import Parts, Segments, chunk, take_apart
from .stored import rectangle_list, samples_payload

TAGS = (
    b"exif",
    b"iccp",
    b"xmp ",
    b"abcd",
    b"z9  ",
    b"ALPH",
    b"LOSS",
    b"alph",
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


class Forger:
    """A port that writes freely chosen symbols: streams that are valid and that no encoder would write."""

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
        """Write random symbols of one half of a slice; arguments and result are those of `SlicePort.y`."""
        symbols = self._symbols(levels.shape)
        self._y.put(symbols, levels, self._model.tables.gaussian)
        return symbols

    def finish(self) -> Segments:
        """The z and y segments."""
        return self._z.finish(), self._y.finish()


def forge(parts: Parts, model: Model, random: Random, width: int = 16, height: int = 16, tile: int = 0) -> Parts:
    """A valid stream of a picture with random symbols.

    Parameters
    ----------
    parts : Parts
        Of a stream; they are copied.
    model : Model
    random : Random
    width, height : int
        Of the picture, in samples.
    tile : int
        Side of its tiles in samples, 0 for none.

    Returns
    -------
    Parts
    """
    parts = parts.copy()
    step = random.randint(1, model.config.steps)
    engine = Engine(model.layers, model.tables, step - 1, 1)
    grid = TileGrid.of(width, height, tile, tile)
    ports = [Forger(engine, model, random) for _ in range(grid.count)]
    deque(walk_tiles(engine, model.config, model.medians, grid, ports), maxlen=0)
    parts.segments = [port.finish() for port in ports]
    sizes = {"tile_width": tile // UNIT, "tile_height": tile // UNIT}
    for name, value in {"width": width, "height": height, "quality": step, **sizes}.items():
        parts.put(name, value)
    return parts


@dataclass(frozen=True)
class Corpus:
    """Valid streams of one model that cases start from.

    Attributes
    ----------
    model : Model
    streams : list of Parts
        One tile, tiles, and pictures that are stored without loss, in this order.
    """

    model: Model
    streams: list[Parts]

    @property
    def coded(self) -> list[Parts]:
        """Streams that have segments."""
        return [parts for parts in self.streams if parts.segments]


PICTURES = (
    (1, 1, 3, 0),
    (1, 1, 1, 0),
    (16, 16, 3, 0),
    (40, 30, 4, 0),
    (64, 64, 3, 0),
    (7, 100, 2, 0),
    (65, 17, 3, 0),
    (70, 130, 3, 64),
    (65, 65, 2, 64),
    (130, 10, 4, 128),
)
"""Height, width, channels with alpha, and side of the tiles."""


@cache
def corpus(model: Model) -> Corpus:
    """Streams of small pictures, and of forged symbols, for a model."""
    draw, random = np.random.default_rng(1), Random(1)
    whole: list[Parts] = []
    tiled: list[Parts] = []
    for n, (height, width, channels, tile) in enumerate(PICTURES):
        noise = draw.integers(0, 256, (height, width, channels), dtype=np.uint8)
        samples = noise if n % 2 else (noise // 8 + 100).astype(np.uint8)
        samples = samples[:, :, 0] if channels == 1 else samples
        chunks = (("exif", b"II*\0"), ("zz 9", b""), ("xmp ", b"<x/>"))[: n % 4]
        quality = min((1, 30, 60, 100)[n % 4], model.config.steps)
        options: dict[str, Any] = {"chunks": chunks, "digest": n % 2 == 0, "tile": tile, "rectangles": False}
        coded = encode_picture(samples, quality, model=model, threads=1, **options)
        (tiled if tile else whole).append(take_apart(coded.data))
    whole += [forge(whole[2], model, random) for _ in range(8)]
    tiled += [forge(tiled[0], model, random, 100, 100, 64) for _ in range(2)]
    stored = [encode_picture(noise[:20, :9, :c], lossless=True, digest=c == 3).data for c in (2, 3, 4)]
    return Corpus(model, whole + tiled + list(map(take_apart, stored)))


def number(random: Random, bits: int) -> int:
    """A number of some bits: at a limit, near a power of two, small, or any."""
    kind = random.randrange(4)
    if kind == 0:
        return random.choice((0, 1, (1 << bits) - 1, 1 << bits - 1, (1 << bits - 1) - 1, 63, 64, 65))
    if kind == 1:
        return (1 << random.randrange(bits)) + random.randint(-1, 1)
    return random.randrange(300) if kind == 2 else random.getrandbits(bits)


def damaged(random: Random, data: bytes, unit: int = 1) -> bytes:
    """Bytes with flips, insertions, deletions, a cut or random runs.

    Parameters
    ----------
    random : Random
    data : bytes
    unit : int
        Insertions and deletions are multiples of so many bytes.

    Returns
    -------
    bytes
    """
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
    return parts.sealed()


def _noise(random: Random, parts: Parts, source: Corpus) -> bytes:
    prefix = random.choice((b"", b"\x89LIC", b"\x89LIC\1", bytes(parts.header), b"".join(parts.pieces()[:2])))
    return prefix + random.randbytes(random.randrange(200))


def _bytes(random: Random, parts: Parts, source: Corpus) -> bytes:
    return damaged(random, parts.sealed())


def _sealed_bytes(random: Random, parts: Parts, source: Corpus) -> bytes:
    pieces = parts.pieces()
    place = random.randrange(4)
    pieces[place] = damaged(random, pieces[place])
    return parts.joined(pieces)


def _chunks(random: Random, parts: Parts, source: Corpus) -> bytes:
    for _ in range(random.choice((1, 2, 3, 70))):
        payload = random.randbytes(random.randrange(20))
        length = None if random.random() < 0.7 else number(random, 32)
        parts.chunks.insert(random.randrange(len(parts.chunks) + 1), chunk(random.choice(TAGS), payload, length))
    if random.random() < 0.3:
        parts.chunks.append(random.randbytes(random.randrange(12)))
    random.shuffle(parts.chunks)
    return parts.sealed()


def _index(random: Random, parts: Parts, source: Corpus) -> bytes:
    """Lengths and checksums of the index, and entries too many, too few, or in another order."""
    parts.index = parts.entries()
    kind = random.randrange(6)
    entry = random.choice(parts.index) if parts.index else []
    if kind == 0 and entry:
        shift = random.choice((-8, -4, -1, 1, 4, 8))  # the border between the segments moves
        entry[0] += shift
        entry[1] -= shift
    elif kind == 1 and entry:
        total = sum(len(part) for pair in parts.segments for part in pair)
        entry[random.randrange(2)] = random.choice((number(random, 32), total, (1 << 31) - entry[0]))
    elif kind == 2 and entry:
        entry[-1] = (entry[-1] ^ 1 << random.randrange(32)) if random.random() < 0.5 else number(random, 32)
    elif kind == 3:
        random.shuffle(parts.index)
    elif kind == 4 and parts.index:
        del parts.index[random.randrange(len(parts.index)) :]
    else:
        parts.index.insert(random.randrange(len(parts.index) + 1), [number(random, 32) for _ in range(2 + parts.tiled)])
    return parts.sealed()


def _words(random: Random, parts: Parts, source: Corpus) -> bytes:
    """Words of one segment, under right checksums."""
    if not parts.segments:
        return parts.sealed()
    tile = random.randrange(len(parts.segments))
    pair, place = list(parts.segments[tile]), random.choice((0, 1, 1))
    segment = pair[place]
    kind = random.randrange(6)
    if kind == 0:
        segment = random.choice(STATES).to_bytes(8, "little") + segment[8:]
    elif kind == 1:
        segment = random.choice(STATES).to_bytes(8, "little") + random.randbytes(4 * random.randrange(60))
    elif kind == 2:
        segment = segment[:8] + random.choice((b"\0", b"\xff")) * (len(segment) - 8)
    else:
        segment = damaged(random, segment, 4)
    pair[place] = segment
    parts.segments[tile] = (pair[0], pair[1])
    return parts.sealed()


def _segments(random: Random, parts: Parts, source: Corpus) -> bytes:
    """Segments of another place, or none, under right checksums."""
    if not parts.segments:
        return parts.sealed()
    tile, other = random.randrange(len(parts.segments)), random.choice(random.choice(source.coded).segments)
    z, y = parts.segments[tile]
    changed = ((y, z), (z, other[1]), (other[0], y), (z, y + y), (b"", random.choice((b"", y))))
    parts.segments[tile] = random.choice(changed)
    if random.random() < 0.2:
        random.shuffle(parts.segments)
    return parts.sealed()


def _shape(random: Random, parts: Parts, source: Corpus) -> bytes:
    """Another picture for the same segments: other sizes, extreme aspects, other steps."""
    long, short = random.choice((1 << random.randint(6, 20), 65, 128)), random.choice((1, 1, 7, 64))
    width, height = random.choice(((long, short), (short, long), (random.randint(1, 130), random.randint(1, 130))))
    parts.put("width", width)
    parts.put("height", height)
    parts.put("quality", random.randint(1, 100))
    return parts.sealed()


def _tiles(random: Random, parts: Parts, source: Corpus) -> bytes:
    """Other tile sizes, with as many segments as these make, or a few more or less."""
    side = random.choice((1, 1, 2, 3, 255))
    parts.put("tile_width", side)
    parts.put("tile_height", random.choice((side, 1, 2, 255)))
    if random.random() < 0.5:
        parts.put("width", random.choice((64, 65, 130, 200, 1 << random.randint(6, 20))))
    if not parts.segments:
        return parts.sealed()
    grid = TileGrid.of(
        *(max(1, parts.get(name)) for name in ("width", "height")),
        *(UNIT * parts.get(name) for name in ("tile_width", "tile_height")),
    )
    count = min(grid.count, 3000) + random.choice((0, 0, 0, 1, -1))
    parts.segments = [random.choice(parts.segments) for _ in range(count)]
    return parts.sealed()


def _put_chunk(parts: Parts, tag: bytes, payload: bytes) -> None:
    parts.chunks = [*(c for c in parts.chunks if not c.startswith(tag)), chunk(tag, payload)]


def _size(parts: Parts) -> tuple[int, int, int]:
    return parts.get("height"), parts.get("width"), parts.get("channels")


def _alpha(random: Random, parts: Parts, source: Corpus) -> bytes:
    """An alpha plane in any of its codings, perhaps damaged, under a right checksum; mostly where no networks run."""
    if random.random() < 0.8:
        parts = random.choice([stored for stored in source.streams if not stored.segments]).copy()
    height, width, _ = _size(parts)
    _put_chunk(parts, b"ALPH", samples_payload(random, height, width, 1))
    return parts.sealed()


def _stored(random: Random, parts: Parts, source: Corpus) -> bytes:
    """Rectangles, or a whole picture without loss, in any of their codings, perhaps damaged."""
    if parts.segments and random.random() < 0.5:
        _put_chunk(parts, b"LOSS", rectangle_list(random, *_size(parts)))
        return parts.sealed()
    if parts.segments:  # it becomes a picture without loss
        parts.segments = []
        parts.put("flags", parts.get("flags") | LOSSLESS_FLAG)
        for name in ("quality", "tile_width", "tile_height"):
            parts.put(name, 0)
        parts.header[16:32] = bytes(16)
    if random.random() < 0.3:
        parts.put("width", random.choice((1, 2, 9, 300, 1 << random.randint(0, 20))))
        parts.put("height", random.choice((1, 2, 20, 300)))
    height, width, channels = _size(parts)
    _put_chunk(parts, b"LOSS", samples_payload(random, min(height, 300), min(width, 300), channels))
    if random.random() < 0.3:
        _put_chunk(parts, b"ALPH", samples_payload(random, min(height, 300), min(width, 300), 1))
    return parts.sealed()


def _disguised(random: Random, parts: Parts, source: Corpus) -> bytes:
    """A stream that decodes: the same picture with other metadata, digest, crop, channels or step."""
    kind = random.randrange(4)
    if kind == 0:
        optional = chunk(random.choice((b"aaaa", b"b   ")), random.randbytes(random.randrange(99)))
        parts.chunks = [*(c for c in parts.chunks if c[:1].isupper()), optional]
    elif kind == 1:
        digest = b"" if len(parts.header) > FIXED_SIZE else random.randbytes(16)
        parts.header[FIXED_SIZE:] = digest
        parts.put("flags", parts.get("flags") & ~DIGEST_FLAG | (DIGEST_FLAG if digest else 0))
    elif kind == 2:
        parts.put("channels", random.choice((1, 3)))
    else:
        parts.put("width", random.randint(1, 64))
        parts.put("height", random.randint(1, 64))
    return parts.sealed()


def _forged(random: Random, parts: Parts, source: Corpus) -> bytes:
    if not parts.segments:
        return parts.sealed()
    width, height, tile = random.choice(((16, 16, 0), (16, 16, 0), (1, 1, 0), (65, 3, 0), (65, 3, 64)))
    parts.chunks = [c for c in parts.chunks if not c[:1].isupper()]  # which are of another picture's size
    return forge(parts, source.model, random, width, height, tile).sealed()


Recipe = Callable[[Random, Parts, Corpus], bytes]

RECIPES: tuple[tuple[Recipe, int], ...] = (
    (_fields, 60),
    (_noise, 20),
    (_bytes, 40),
    (_sealed_bytes, 20),
    (_chunks, 50),
    (_index, 50),
    (_tiles, 20),
    (_alpha, 30),
    (_stored, 60),
    (_words, 10),
    (_segments, 3),
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
