"""Streams of the invalid suite that break rules over several fields, of the index or of tiles (SPEC 4.4, 8.1, 8.3)."""

from __future__ import annotations

from collections.abc import Iterator

from refcodec.bitstream.container import serialise
from refcodec.bitstream.crc32c import crc32c
from refcodec.bitstream.fields import FIXED_SIZE

from ...synthetic.models.procedural import model
from ...synthetic.streams import Parts, chunk, take_apart
from ...synthetic.writer import header_of, random_stream
from ..registry import Case, generator, reject, sound
from .invalid import bare, refused
from .stored import lossless

MODEL = "nano-7"
TILE_SUGGESTS = "A tile's checksum is not that of its z segment followed by its y segment, or is not compared."


@sound("tiled")
def tiled() -> bytes:
    """A valid stream of 2x2 tiles with a chunk, without a digest."""
    chunks = (("exif", b"II*\0"),)
    return random_stream(model(MODEL), 44, 100, 70, style="plain", digest=False, chunks=chunks, tile=(1, 1))


def _changed(base: bytes, **values: int) -> bytes:
    """A sound stream with other fields."""
    parts = take_apart(base)
    parts.index = parts.entries()
    for name, value in values.items():
        parts.put(name, value)
    return parts.sealed()


def _fingerprint(at: int) -> bytes:
    """A picture without loss whose fingerprint has a byte that is not zero."""
    parts = take_apart(lossless())
    parts.header[16 + at] = 1
    return parts.sealed()


@generator("invalid", "rules")
def rules() -> Iterator[Case]:
    """Headers whose fields are all allowed and do not hold together: a quality, a model or tiles of a picture without
    loss, no quality of another, one tile size without the other, too many tiles.
    """
    many = {"tile_width": 1, "tile_height": 1}
    for name, data, base, clauses in (
        ("lossless-with-quality", _changed(lossless(), quality=1), "lossless", ("8.1-14",)),
        ("lossless-with-quality-100", _changed(lossless(), quality=100), "lossless", ("8.1-14",)),
        ("lossless-with-fingerprint-first", _fingerprint(0), "lossless", ("8.1-14",)),
        ("lossless-with-fingerprint-last", _fingerprint(15), "lossless", ("8.1-14",)),
        ("lossless-flag-alone", _changed(bare(), flags=2), "bare", ("8.1-14",)),
        ("quality-0", _changed(bare(), quality=0), "bare", ("8.1-15",)),
        ("lossless-without-flag", _changed(lossless(), flags=1), "lossless", ("8.1-15",)),
        ("lossless-with-tiles", _changed(lossless(), **many), "lossless", ("8.1-16",)),
        ("lossless-with-tile-width", _changed(lossless(), tile_width=1), "lossless", ("8.1-16",)),
        ("lossless-with-tile-height", _changed(lossless(), tile_height=255), "lossless", ("8.1-16",)),
        ("tile-width-alone", _changed(bare(), tile_width=1), "bare", ("8.1-9", "8.1-17")),
        ("tile-height-alone", _changed(bare(), tile_height=1), "bare", ("8.1-10", "8.1-17")),
        ("tile-width-255-alone", _changed(bare(), tile_width=255), "bare", ("8.1-9", "8.1-17")),
        ("tiled-without-height", _changed(tiled(), tile_height=0), "tiled", ("8.1-10", "8.1-17")),
        ("tiles-65540", _changed(tiled(), width=13108 * 64, height=320), "tiled", ("8.1-18", "9.1-8")),
        ("tiles-65540-high", _changed(tiled(), width=320, height=13107 * 64 + 1), "tiled", ("8.1-18", "9.1-8")),
        ("tiles-2-28", _changed(tiled(), width=2**20, height=2**20), "tiled", ("8.1-18", "9.1-8")),
    ):
        yield refused(
            f"rule-{name}",
            data,
            (*clauses, "8.5-6", "8.9-1"),
            "A rule over several fields of the header is not tested, or after something that depends on it.",
            name.replace("-", " "),
            base,
        )


def _entries(change: str) -> bytes:
    """The tiled stream with an index that says something else, under a right checksum."""
    parts = take_apart(tiled())
    parts.index = parts.entries()
    first, last = parts.index[0], parts.index[-1]
    z, y = parts.segments[0]
    if change == "first-bit":
        first[2] ^= 1
    elif change == "last-bit":
        last[2] ^= 1 << 31
    elif change == "of-z":
        first[2] = crc32c(z)
    elif change == "of-y":
        first[2] = crc32c(y)
    elif change == "of-y-and-z":
        first[2] = crc32c(y + z)
    elif change == "exchanged":
        first[2], last[2] = last[2], first[2]
    elif change == "big-endian":
        first[2] = int.from_bytes(first[2].to_bytes(4, "little"), "big")
    elif change == "zero":
        last[2] = 0
    elif change == "borders":
        first[1] -= 4
        parts.index[1][0] += 4
    elif change == "lengths-and-no-checksums":
        parts.index = [entry[:2] for entry in parts.index]
    elif change == "entry-more":
        parts.index.append([0, 0, 0])
    elif change == "entry-less":
        parts.index.pop()
    return parts.sealed()


def _damaged(tile: int, part: int, at: int) -> bytes:
    """The tiled stream with one bit of a segment changed, index and checksum as they were."""
    parts = take_apart(tiled())
    parts.index = parts.entries()
    pair = [bytearray(segment) for segment in parts.segments[tile]]
    pair[part][at] ^= 1
    parts.segments[tile] = (bytes(pair[0]), bytes(pair[1]))
    return parts.sealed()


@generator("invalid", "tiles")
def tiles() -> Iterator[Case]:
    """Tiled streams with damage: a bit of a segment, checksums of tiles and of the stream that are wrong or cover
    something else, an index of another shape.
    """
    for tile, part, at in ((0, 0, 0), (0, 1, -1), (1, 0, -1), (2, 1, 8), (3, 0, 0), (3, 1, -1)):
        yield refused(
            f"tile-{tile}-{'zy'[part]}-{'first' if at == 0 else 'last' if at < 0 else 'word'}",
            _damaged(tile, part, at),
            ("8.2-3", "8.3-5", "8.5-9"),
            TILE_SUGGESTS,
            f"one bit of the {'zy'[part]} segment of tile {tile}",
            "tiled",
        )
    for name in ("first-bit", "last-bit", "of-z", "of-y", "of-y-and-z", "exchanged", "big-endian", "zero", "borders"):
        yield refused(
            f"tile-checksum-{name}",
            _entries(name),
            ("8.3-1", "8.3-5", "8.5-9"),
            TILE_SUGGESTS,
            f"checksums of tiles: {name}",
            "tiled",
        )
    for name in ("lengths-and-no-checksums", "entry-more", "entry-less"):
        yield refused(
            f"tile-index-{name}",
            _entries(name),
            ("8.3-1", "8.5-8"),
            "The index has another number of entries than there are tiles, or entries of another size.",
            f"index: {name}",
            "tiled",
        )
    whole = tiled()[:-4]
    parts = take_apart(tiled())
    pieces = parts.pieces()
    for name, covered in (
        ("with-segments", whole),
        ("without-index", pieces[0] + pieces[3]),
        ("without-chunks", pieces[0] + pieces[1]),
        ("without-header", pieces[1] + pieces[3]),
    ):
        yield refused(
            f"tiled-checksum-{name}",
            whole + crc32c(covered).to_bytes(4, "little"),
            ("8.2-3", "8.5-9"),
            "The checksum of a tiled stream covers something else than header, index and chunks.",
            f"the checksum {name.replace('-', ' ')}",
            "tiled",
        )
    for name, at in (("header", 20), ("index", FIXED_SIZE + 4), ("index-checksum", FIXED_SIZE + 8), ("chunk", -6)):
        damaged = bytearray(tiled())
        damaged[at] ^= 1
        yield refused(
            f"tiled-bit-in-{name}",
            bytes(damaged),
            ("8.2-3", "8.5-8" if name == "index" else "8.5-9"),
            "The checksum of a tiled stream does not cover header, index and chunks.",
            f"one bit of byte {at}",
            "tiled",
        )


@generator("invalid", "tiles-cut")
def tiles_cut() -> Iterator[Case]:
    """Tiled streams that end in the index, in a tile's segments or before the checksum, and lengths beyond what is
    allowed in the last tile.
    """
    parts = take_apart(tiled())
    index = FIXED_SIZE + 48
    ends = [index]
    for z, y in parts.segments:
        ends += [ends[-1] + len(z), ends[-1] + len(z) + len(y)]
    for at in (FIXED_SIZE, FIXED_SIZE + 11, FIXED_SIZE + 12, index - 1, *ends, ends[-1] - 1, ends[-1] + 3):
        yield refused(
            f"cut-tiled-{at:04}",
            tiled()[:at],
            ("8.3-1", "8.5-8"),
            "A tiled stream that ends early is read past its end, or taken as complete.",
            f"the first {at} of {len(tiled())} bytes",
            "tiled",
        )
    yield Case(
        "invalid/cut-tiled-in-an-index-of-65536",
        _changed(tiled(), width=2**20, height=256),
        MODEL,
        ("1.4-2", "1.4-3", "8.1-18", "8.5-7", "8.5-8", "9.1-8"),
        "As many tiles as there may be are refused.",
        "65536 tiles, the index of four",
        reject("LimitExceeded", "TruncatedStream"),
        base="tiled",
    )
    for name, tile, number, value, clauses in (
        ("last-z-2-31", 3, 0, 2**31, ("8.3-2", "9.1-4")),
        ("last-y-2-32-less-1", 3, 1, 2**32 - 1, ("8.3-2", "9.1-4")),
        ("first-y-2-31", 0, 1, 2**31, ("8.3-2", "9.1-4")),
        ("last-y-2-31-less-1", 3, 1, 2**31 - 1, ("8.3-2",)),
        ("last-y-by-a-chunk", 3, 1, len(parts.segments[3][1]) + 12, ("8.3-3",)),
    ):
        parts.index = parts.entries()
        parts.index[tile][number] = value
        yield refused(
            f"tiled-length-{name}",
            parts.sealed(),
            ("8.3-1", "8.5-8", *clauses),
            "A length of another tile than the first is not compared with what it may be and with what there is.",
            f"a length of tile {tile} is {value}",
            "tiled",
        )


@generator("invalid", "tiles-order")
def tiles_order() -> Iterator[Case]:
    """Tiled streams with two faults, which tell whether checks are made in the order of SPEC 8.5."""
    both = "Checks of tiled streams are made in another order than that of SPEC 8.5."

    def stream(*extra: bytes, tile_damaged: bool = False) -> Parts:
        parts = take_apart(tiled())
        parts.index = parts.entries()
        parts.index[2][2] ^= tile_damaged
        parts.chunks += extra
        return parts

    checksum = stream(chunk(b"Need", b"")).sealed()
    header = bytearray(FIXED_SIZE)
    header[:] = tiled()[:FIXED_SIZE]
    header[8:12] = (2**20).to_bytes(4, "little")
    header[12:16] = (2**20).to_bytes(4, "little")
    for name, data, clauses in (
        ("tiles-before-index", bytes(header), ("8.5-6", "8.1-18")),
        ("checksum-before-chunks", checksum[:-1] + bytes([checksum[-1] ^ 1]), ("8.5-9",)),
        ("tile-before-required", stream(chunk(b"Need", b""), tile_damaged=True).sealed(), ("8.5-9", "8.5-10")),
        ("tile-before-trailing", stream(b"??", tile_damaged=True).sealed(), ("8.5-9", "8.5-10")),
        ("tile-before-twice", stream(chunk(b"exif", b""), tile_damaged=True).sealed(), ("8.5-9", "8.5-10")),
        ("required", stream(chunk(b"Need", b"")).sealed(), ("8.5-10", "8.4-4")),
        ("trailing", stream(b"??").sealed(), ("8.5-10", "8.4-12")),
    ):
        yield refused(f"tiled-order-{name}", data, clauses, both, name.replace("-", " "), "tiled")


@generator("invalid", "tiles-segments")
def tiles_segments() -> Iterator[Case]:
    """Tiled streams whose checksums are right and whose segments are not: empty, words missing or left over; and a
    picture of many pixels claimed by nine tiles of nothing.
    """
    suggests = "Only the first tile's segments are checked, or tiles take segments of others."

    def case(name: str, change: list[tuple[bytes, bytes]], clauses: tuple[str, ...]) -> Case:
        parts = take_apart(tiled())
        parts.segments = change
        return Case(
            f"invalid/tiled-segment-{name}",
            parts.sealed(),
            MODEL,
            ("1.4-2", *clauses),
            suggests,
            f"segments of tiles: {name}",
            reject("CoderError", "SymbolError"),
            base="tiled",
        )

    own = take_apart(tiled()).segments
    z, y = own[3]
    for name, last, clauses in (
        ("last-y-cut", (z, y[:-4]), ("4.4-3", "7.6-3")),
        ("last-y-longer", (z, y + bytes(4)), ("4.4-3", "7.6-4")),
        ("last-z-empty", (b"", y), ("4.4-6", "7.6-1", "8.3-4")),
        ("last-y-empty", (z, b""), ("4.4-3", "7.6-1", "8.3-4")),
        ("last-z-longer", (z + bytes(4), y), ("4.4-6", "7.6-4")),
    ):
        yield case(name, [*own[:3], last], clauses)
    made = model(MODEL)
    header = header_of(made, 46400, 46400, tile=(255, 255))
    yield Case(
        "invalid/bomb-tiles",
        serialise(header, [(b"", b"")] * header.tiles),
        MODEL,
        ("1.4-2", "1.4-3", "7.6-1", "8.5-7", "9.1-2", "9.1-9", "12.2-4"),
        "Memory or time is spent on a size before the segments are looked at; or latent positions of the picture are "
        "compared with the limit of a tile.",
        "46400x46400 in nine tiles without a byte",
        reject("LimitExceeded", "CoderError"),
        base="tiled",
    )
