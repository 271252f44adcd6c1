"""Reading and writing the .loclic container (SPEC 8).

A stream is a header, an index of segments, the segments, chunks and a checksum. Reading refuses at the first rule
broken, in the order of SPEC 8.5; writing refuses everything that reading would refuse.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    ChecksumError,
    ChunkError,
    HeaderError,
    RefcodecError,
    TrailingBytes,
    TruncatedStream,
    UnknownRequiredChunk,
    UsageError,
)
from ..limits import (
    MAX_LATENT_POSITIONS,
    MAX_METADATA_BYTES,
    MAX_SEGMENT_BYTES,
    MAX_TILES,
)
from ..lossless.rectangles import Rectangles, longest_rectangles
from ..lossless.samples import SamplesReader, longest_samples
from ..tiles import UNIT, TileGrid
from .crc32c import crc32c
from .fields import (
    DIGEST_BYTES,
    DIGEST_FLAG,
    FIELDS,
    FIXED_SIZE,
    HEADER_SIZE,
    LOSSLESS_FLAG,
    MAGIC,
    MAGIC_FIELD,
    VERSION,
    VERSION_FIELD,
    Buffer,
    as_view,
    check,
    pack,
    unpack,
)

ALPHA, LOSSLESS = "ALPH", "LOSS"
"""Tags of the chunks that change what a stream decodes to (SPEC 8.10, 8.11)."""

METADATA = ("exif", "iccp", "xmp ")
"""Tags of known metadata, which decoding passes on (SPEC 8.4)."""

KNOWN_CHUNKS = (*METADATA, ALPHA, LOSSLESS)
"""Tags that this decoder knows (SPEC 8.4)."""

MAX_CHUNKS = 64
"""Most chunks of one stream (SPEC 8.4): few are needed, and the search for duplicates stays short."""

_CHECKSUM_BYTES = 4
_CHUNK_HEAD = 8  # tag and length
_ENTRY_BYTES = 8  # lengths of the two segments
_TILE_ENTRY_BYTES = 12  # and their checksum


@dataclass(frozen=True)
class Header:
    """The header's fields (SPEC 8.1).

    Attributes
    ----------
    width, height : int
        Picture size in pixels.
    channels : int
        Colour samples per pixel, 1 or 3. An alpha channel is not counted.
    quality : int
        Quality, 1..100; 0 if the picture is stored without loss.
    fingerprint : bytes
        Fingerprint of the model that decodes the stream, 16 bytes; zero if the picture is stored without loss.
    tile_width, tile_height : int
        Size of a tile in samples, multiples of 64; 0 and 0 if the picture is one tile.
    lossless : bool
        The whole picture is stored without loss: there are no segments.
    digest : bytes or None
        `reconstruction_digest` of the decoded samples, 16 bytes, if the stream carries it.
    version : int
        Format version.
    depth : int
        Bits per sample, 8.
    """

    width: int
    height: int
    channels: int
    quality: int
    fingerprint: bytes
    tile_width: int = 0
    tile_height: int = 0
    lossless: bool = False
    digest: bytes | None = None
    version: int = VERSION
    depth: int = 8

    @property
    def size(self) -> int:
        """Bytes of the header itself, the offset of the index."""
        return FIXED_SIZE if self.digest is None else HEADER_SIZE

    @property
    def tiled(self) -> bool:
        """Whether the header gives a tile size, so that the index holds a checksum for every tile."""
        return self.tile_width > 0

    @property
    def grid(self) -> TileGrid:
        """How the latents are cut (SPEC 4.4). A picture without loss has none; what this gives then means nothing."""
        return TileGrid.of(self.width, self.height, self.tile_width, self.tile_height)

    @property
    def tiles(self) -> int:
        """Entries of the index."""
        return 0 if self.lossless else self.grid.count

    @property
    def index_size(self) -> int:
        """Bytes of the index."""
        return self.tiles * (_TILE_ENTRY_BYTES if self.tiled else _ENTRY_BYTES)


class Entry(NamedTuple):
    """Entry of the index for one tile (SPEC 8.3): where its segments are, and their checksum in a tiled stream."""

    start: int
    z_length: int
    y_length: int
    checksum: int | None

    @property
    def end(self) -> int:
        """Offset of the first byte after the tile's segments."""
        return self.start + self.z_length + self.y_length


@dataclass(frozen=True)
class Stream:
    """(SPEC 8.3) A whole stream taken apart.

    Attributes
    ----------
    header : Header
        The header.
    index : tuple of Entry
        Where the segments of every tile are, in raster order.
    data : memoryview
        The stream's bytes.
    chunks : tuple of (str, bytes)
        Tag and payload of every chunk, unknown optional ones included, in stream order.
    """

    header: Header
    index: tuple[Entry, ...]
    data: memoryview
    chunks: tuple[tuple[str, bytes], ...] = ()

    @property
    def metadata(self) -> tuple[tuple[str, bytes], ...]:
        """Chunks that do not change the samples."""
        return tuple((tag, payload) for tag, payload in self.chunks if tag not in (ALPHA, LOSSLESS))

    @property
    def segment_bytes(self) -> int:
        """Bytes of all segments."""
        return self.index[-1].end - self.index[0].start if self.index else 0

    def chunk(self, tag: str) -> bytes | None:
        """The payload of the chunk with this tag."""
        return dict(self.chunks).get(tag)

    def payload_start(self, tag: str) -> int:
        """(SPEC 8.10-8) Offset in the stream of the payload of the chunk with this tag, for messages."""
        at = self.index[-1].end if self.index else self.header.size + self.header.index_size
        for name, payload in self.chunks:
            at += _CHUNK_HEAD
            if name == tag:
                break
            at += len(payload)
        return at

    def segments(self, tile: int = 0) -> tuple[bytes, bytes]:
        """The z and the y segment of a tile.

        Raises
        ------
        ChecksumError
            In a tiled stream: they are not what the encoder wrote.
        """
        entry = self.index[tile]
        middle = entry.start + entry.z_length
        if entry.checksum is not None and (found := crc32c(self.data[entry.start : entry.end])) != entry.checksum:
            raise ChecksumError(
                f"the checksum of tile {tile} does not match",
                where=f"byte {entry.start} (SPEC 8.3)",
                cause="the stream was damaged; regions that do not need this tile can be decoded",
                tile=tile,
                stored=f"{entry.checksum:08x}",
                computed=f"{found:08x}",
            )
        return bytes(self.data[entry.start : middle]), bytes(self.data[middle : entry.end])


def reconstruction_digest(samples: NDArray[np.uint8]) -> bytes:
    """(SPEC 8.1) The digest a stream may carry of what it decodes to.

    Parameters
    ----------
    samples : [H, W] or [H, W, 2..4] uint8
        The decoded picture, alpha as the last channel.

    Returns
    -------
    bytes
        The first 16 bytes of SHA-256 over the samples in row-major order, channels interleaved.

    Raises
    ------
    UsageError
        ``samples`` is not uint8.
    """
    if samples.dtype != np.uint8:
        raise UsageError("the digest is taken over uint8 samples", dtype=str(samples.dtype))
    return hashlib.sha256(np.ascontiguousarray(samples).data).digest()[:DIGEST_BYTES]


def _check_consistent(header: Header, error: type[RefcodecError]) -> None:
    """(SPEC 8.1-14 to 8.1-19) Raise ``error`` at the first rule over several fields that a header breaks."""
    grid = header.grid
    tile = grid.tile(0)
    rules = (
        (
            not header.lossless or (header.quality == 0 and not any(header.fingerprint)),
            "a picture without loss has a quality or a model",
            {"quality": header.quality, "fingerprint": header.fingerprint.hex()},
        ),
        (header.lossless or header.quality > 0, "the quality is 0", {"quality": header.quality}),
        (
            not (header.lossless and (header.tile_width or header.tile_height)),
            "a picture without loss has tiles",
            {"tile_width": header.tile_width, "tile_height": header.tile_height},
        ),
        (
            (header.tile_width > 0) == (header.tile_height > 0),
            "a tile has a width or a height, and not the other",
            {"tile_width": header.tile_width, "tile_height": header.tile_height},
        ),
        (header.tiles <= MAX_TILES, "the picture has too many tiles", {"value": header.tiles, "allowed": MAX_TILES}),
        (
            header.lossless or tile.height * tile.width <= MAX_LATENT_POSITIONS,
            "a tile has too many latent positions",
            {"value": tile.height * tile.width, "allowed": f"1..{MAX_LATENT_POSITIONS}"},
        ),
    )
    for holds, what, values in rules:
        if not holds:
            raise error(
                what,
                where="SPEC 8.1",
                cause="the stream is damaged or its writer is faulty" if error is HeaderError else "",
                width=header.width,
                height=header.height,
                **values,
            )


def _require(view: memoryview, needed: int, part: str) -> None:
    if len(view) < needed:
        raise TruncatedStream(
            f"the stream ends inside its {part}",
            where=f"byte {len(view)} (SPEC 8.5)",
            cause="the file was cut short or a length is damaged",
            needed=needed,
            available=len(view),
        )


def read_fields(data: Buffer) -> dict[str, Any]:
    """(SPEC 8.5) Read and check every header field that is there; raises as `parse_header`.

    Parameters
    ----------
    data : bytes-like
        A stream, or its beginning.

    Returns
    -------
    dict
        Values by name, in the order of the field table.
    """
    view = as_view(data)
    check(MAGIC_FIELD, bytes(view[: MAGIC_FIELD.end]))
    _require(view, VERSION_FIELD.end, "header")
    check(VERSION_FIELD, unpack(VERSION_FIELD, view))
    _require(view, FIXED_SIZE, "header")
    values: dict[str, Any] = {}
    for field in FIELDS:
        if field.flag & ~values.get("flags", 0):
            continue
        _require(view, field.end, "header")
        values[field.name] = unpack(field, view)
        check(field, values[field.name])
    return values


def parse_header(data: Buffer) -> Header:
    """(SPEC 8.1) Read and check the header; the first 52 bytes of a stream are enough.

    Parameters
    ----------
    data : bytes-like
        A stream, or its beginning.

    Returns
    -------
    Header
        Every field checked against SPEC 8.1.

    Raises
    ------
    BadMagic, UnknownVersion, TruncatedStream, HeaderError
        The first rule broken, in the order of SPEC 8.5.
    UsageError
        ``data`` is not bytes-like.
    """
    values = read_fields(data)
    header = Header(
        **{name: value for name, value in values.items() if name not in ("magic", "flags", "reserved")},
        lossless=bool(values["flags"] & LOSSLESS_FLAG),
    )
    header = replace(header, tile_width=UNIT * header.tile_width, tile_height=UNIT * header.tile_height)
    _check_consistent(header, HeaderError)
    return header


def parse_index(data: Buffer, header: Header) -> tuple[Entry, ...]:
    """(SPEC 8.3) Read the index; the header and the ``header.index_size`` bytes behind it are enough.

    Raises
    ------
    TruncatedStream, HeaderError
        It is cut short, or a segment is longer than the format allows.
    """
    view = as_view(data)
    end = header.size + header.index_size
    _require(view, end, "index")
    numbers = np.frombuffer(view[header.size : end], "<u4").reshape(header.tiles, 3 if header.tiled else 2)
    lengths = numbers[:, :2].astype(np.int64)
    if lengths.size and lengths.max() > MAX_SEGMENT_BYTES:
        tile, part = np.argwhere(lengths > MAX_SEGMENT_BYTES)[0].tolist()
        raise HeaderError(
            f"the {'zy'[part]} segment of tile {tile} is longer than allowed",
            where=f"byte {header.size + tile * 4 * numbers.shape[1] + 4 * part} (SPEC 8.3)",
            cause="the stream is damaged or its writer is faulty",
            value=int(lengths[tile, part]),
            allowed=f"0..{MAX_SEGMENT_BYTES}",
        )
    starts = accumulate(lengths.sum(axis=1).tolist(), initial=end)
    checksums = numbers[:, 2].tolist() if header.tiled else [None] * header.tiles
    return tuple(
        Entry(start, z, y, checksum)
        for start, (z, y), checksum in zip(starts, lengths.tolist(), checksums, strict=False)
    )


def chunk_limit(tag: str, header: Header) -> int:
    """(SPEC 8.4-9) Largest payload of a chunk in bytes."""
    if tag == ALPHA:
        return longest_samples(header.height, header.width, 1)
    if tag == LOSSLESS:
        longest = longest_samples if header.lossless else longest_rectangles
        return longest(header.height, header.width, header.channels)
    return MAX_METADATA_BYTES


def _chunk_fault(tag: str, size: int, earlier: list[str], limit: int) -> tuple[type[RefcodecError], str] | None:
    """Find the rule of SPEC 8.4 that a well-formed chunk breaks: the reader's error and a sentence, or None."""
    if len(earlier) == MAX_CHUNKS:
        return ChunkError, f"there are more than {MAX_CHUNKS} chunks"
    if size > limit:
        return ChunkError, f"a chunk is longer than {limit} bytes"
    if tag in earlier:
        return ChunkError, "a chunk occurs twice"
    if tag[0].isupper() and tag not in KNOWN_CHUNKS:
        return UnknownRequiredChunk, "the stream requires a chunk that this version does not know"
    return None


def _is_tag(text: str) -> bool:
    return len(text) == 4 and text.isascii() and text[0].isalpha() and text.replace(" ", "0").isalnum()


def _walk_chunks(body: memoryview, start: int, header: Header) -> Iterator[tuple[str, bytes]]:
    """Yield tag and payload of each chunk in ``body[start:]``, the bytes between the segments and the checksum."""
    tags: list[str] = []
    while start < len(body):
        tag = bytes(body[start : start + 4]).decode("latin-1")
        first = start + _CHUNK_HEAD
        size = int.from_bytes(body[start + 4 : first], "little")
        if first + size > len(body) or not _is_tag(tag):  # also if fewer than eight bytes are left
            raise TrailingBytes(
                "bytes that form no chunk follow the segments",
                where=f"byte {start} (SPEC 8.4)",
                cause="the writer is faulty or bytes were added",
                bytes=len(body) - start,
            )
        fault = _chunk_fault(tag, size, tags, chunk_limit(tag, header))
        if fault:
            error, what = fault
            cause = "a newer version may read it" if error is UnknownRequiredChunk else "the writer is faulty"
            raise error(what, where=f"byte {start} (SPEC 8.4)", cause=cause, tag=tag, bytes=size)
        tags.append(tag)
        start = first + size
        yield tag, bytes(body[first:start])


def parse(data: Buffer, tiles: Collection[int] | None = None) -> Stream:
    """(SPEC 8.5) Take a stream apart and check everything that needs no model.

    Parameters
    ----------
    data : bytes-like
        The whole stream.
    tiles : collection of int or None
        Tiles whose segments are checked; None for all. `Stream.segments` checks those of its tile again.

    Returns
    -------
    Stream
        Header, index and chunks; segments are read where they are.

    Raises
    ------
    BadMagic, UnknownVersion, TruncatedStream, HeaderError, ChecksumError, TrailingBytes, ChunkError
        The first rule broken, in the order of SPEC 8.5.
    UnknownRequiredChunk
        A chunk that must be understood is not known.
    UsageError
        ``data`` is not bytes-like.
    """
    view = as_view(data)
    header = parse_header(view)
    index = parse_index(view, header)
    start = header.size + header.index_size
    end = index[-1].end if index else start
    _require(view, end + _CHECKSUM_BYTES, "segments" if len(view) < end else "checksum")
    body = view[:-_CHECKSUM_BYTES]
    stored, computed = int.from_bytes(view[len(body) :], "little"), _checksum(body, header, start, end)
    if stored != computed:
        raise ChecksumError(
            "the checksum does not match",
            where=f"byte {len(body)} (SPEC 8.2)",
            cause="the stream was damaged, cut inside its chunks, or extended",
            stored=f"{stored:08x}",
            computed=f"{computed:08x}",
        )
    stream = Stream(header, index, view)
    if header.tiled:
        for tile in range(header.tiles) if tiles is None else tiles:
            stream.segments(tile)
    chunks = tuple(_walk_chunks(body, end, header))
    if header.lossless and LOSSLESS not in dict(chunks):
        raise ChunkError(
            "the samples of a picture without loss are missing",
            where=f"byte {end} (SPEC 8.11)",
            cause="the writer is faulty",
            missing=LOSSLESS,
        )
    stream = replace(stream, chunks=chunks)
    _check_stored(stream)
    return stream


def _check_stored(stream: Stream) -> None:
    """(SPEC 8.5-11) What the heads of ALPH and LOSS say; nothing is inflated."""
    header, alpha, stored = stream.header, stream.chunk(ALPHA), stream.chunk(LOSSLESS)
    if alpha is not None:
        SamplesReader(alpha, header.height, header.width, 1, stream.payload_start(ALPHA))
    if stored is not None:
        at = stream.payload_start(LOSSLESS)
        if header.lossless:
            SamplesReader(stored, header.height, header.width, header.channels, at)
        else:
            Rectangles(stored, header.width, header.height, header.channels, at)


def _checksum(body: Buffer, header: Header, start: int, end: int) -> int:
    """(SPEC 8.2) The checksum that ends a stream; segments of a tiled one have their own."""
    view = as_view(body)
    return crc32c(b"".join((view[:start], view[end:])) if header.tiled else view)


def pack_chunks(chunks: Iterable[tuple[str, Buffer]], header: Header) -> Iterator[bytes]:
    """(SPEC 8.4) Write chunks; UsageError for a tag or payload that a decoder would refuse."""
    tags: list[str] = []
    for tag, payload in chunks:
        view = as_view(payload, "the payload of a chunk")
        if not isinstance(tag, str) or not _is_tag(tag):
            raise UsageError("a chunk's tag is four ASCII letters, digits or spaces, the first a letter", tag=repr(tag))
        fault = _chunk_fault(tag, len(view), tags, chunk_limit(tag, header))
        if fault:
            raise UsageError(fault[1], tag=tag, bytes=len(view))
        tags.append(tag)
        yield tag.encode("ascii") + len(view).to_bytes(4, "little") + view


def serialise(
    header: Header, segments: Sequence[tuple[Buffer, Buffer]], chunks: Iterable[tuple[str, Buffer]] = ()
) -> bytes:
    """(SPEC 8.6) Write a stream that `parse` accepts.

    Parameters
    ----------
    header : Header
    segments : sequence of (bytes-like, bytes-like)
        The z and the y segment of every tile, in raster order.
    chunks : iterable of (str, bytes-like)
        Chunks in their order.

    Returns
    -------
    bytes
        The stream. Without tiles and chunks it takes 48 bytes more than its segments, 64 with the digest.

    Raises
    ------
    UsageError
        A value, a tag or a payload is one that a decoder would refuse.
    """
    header, chunks = _with_integers(header), tuple(chunks)
    start = pack_header(header)
    views = [(as_view(z), as_view(y)) for z, y in segments]
    if len(views) != header.tiles:
        raise UsageError("every tile has two segments", tiles=header.tiles, given=len(views))
    index = b"".join(_pack_entry(z, y, header.tiled) for z, y in views)
    tail = b"".join(pack_chunks(chunks, header))
    if header.lossless and LOSSLESS not in [tag for tag, _ in chunks]:
        raise UsageError("the samples of a picture without loss are missing", missing=LOSSLESS)
    body = b"".join([start, index, *(part for pair in views for part in pair), tail])
    first = len(start) + len(index)
    checksum = _checksum(body, header, first, len(body) - len(tail))
    return body + checksum.to_bytes(_CHECKSUM_BYTES, "little")


def pack_header(header: Header) -> bytes:
    """(SPEC 8.1) The header's bytes; UsageError for what a decoder would refuse."""
    for name in ("tile_width", "tile_height"):
        if getattr(header, name) % UNIT:
            raise UsageError(f"{name} is not a multiple of {UNIT}", value=getattr(header, name))
    values: dict[str, Any] = {
        **vars(header),
        "magic": MAGIC,
        "flags": DIGEST_FLAG * (header.digest is not None) + LOSSLESS_FLAG * header.lossless,
        "tile_width": header.tile_width // UNIT,
        "tile_height": header.tile_height // UNIT,
        "reserved": 0,
    }
    packed = b"".join(
        pack(field, values[field.name]) for field in FIELDS if not (field.flag and values[field.name] is None)
    )
    _check_consistent(header, UsageError)
    return packed


def _with_integers(header: Header) -> Header:
    """The header with Python's integers, which do not wrap; what is no integer stays for `pack` to refuse."""
    names = ("width", "height", "channels", "quality", "tile_width", "tile_height", "depth")
    values: dict[str, Any] = {name: getattr(header, name) for name in names}
    values = {name: operator.index(n) for name, n in values.items() if hasattr(n, "__index__")}
    return replace(header, **values)


def _pack_entry(z: memoryview, y: memoryview, tiled: bool) -> bytes:
    if max(len(z), len(y)) > MAX_SEGMENT_BYTES:
        raise UsageError("a segment is too long", bytes=max(len(z), len(y)), allowed=f"0..{MAX_SEGMENT_BYTES}")
    numbers = [len(z), len(y), *([crc32c(b"".join((z, y)))] if tiled else [])]
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def longest_stream(header: Header, index: Sequence[Entry]) -> int:
    """(SPEC 8.3, 8.4) Bytes of the longest valid stream with this header and index: all chunks, in full length."""
    end = index[-1].end if index else header.size + header.index_size
    largest = sorted((chunk_limit(tag, header) for tag in (ALPHA, LOSSLESS, *METADATA)), reverse=True)
    chunks = sum(largest[:2]) + (MAX_CHUNKS - 2) * MAX_METADATA_BYTES
    return end + chunks + MAX_CHUNKS * _CHUNK_HEAD + _CHECKSUM_BYTES
