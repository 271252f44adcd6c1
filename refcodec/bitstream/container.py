"""Reading and writing the .loclic container (SPEC 8).

A stream is a header, the z segment, the y segment, metadata chunks and a checksum. Reading refuses at the first rule
broken, in the order of SPEC 8.5; writing refuses everything that reading would refuse.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

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
from ..limits import MAX_LATENT_POSITIONS, MAX_METADATA_BYTES, Limits, check_memory, check_pixels
from .crc32c import crc32c
from .fields import (
    DIGEST_BYTES,
    DIGEST_FLAG,
    FIELDS,
    FIXED_SIZE,
    HEADER_SIZE,
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

KNOWN_CHUNKS = ("exif", "iccp", "xmp ")
"""Tags this decoder knows; all are optional (SPEC 8.4)."""

MAX_CHUNKS = 64
"""Most metadata chunks of one stream (SPEC 8.4): few are needed, and the search for duplicates stays short."""

_CHECKSUM_BYTES = 4
_CHUNK_HEAD = 8  # tag and length


@dataclass(frozen=True)
class Header:
    """The header's fields (SPEC 8.1).

    Attributes
    ----------
    width, height : int
        Picture size in pixels.
    channels : int
        Samples a pixel, 1 or 3.
    quality : int
        Quality step, 1..100.
    fingerprint : bytes
        Fingerprint of the model that decodes the stream, 16 bytes.
    z_length, y_length : int
        Lengths of the two segments in bytes.
    digest : bytes or None
        `reconstruction_digest` of the decoded samples, 16 bytes, if the stream carries it.
    version : int
        Format version.
    tile_width, tile_height : int
        Reserved, 0.
    """

    width: int
    height: int
    channels: int
    quality: int
    fingerprint: bytes
    z_length: int
    y_length: int
    digest: bytes | None = None
    version: int = VERSION
    tile_width: int = 0
    tile_height: int = 0

    @property
    def size(self) -> int:
        """Bytes of the header itself, the offset of the z segment."""
        return FIXED_SIZE if self.digest is None else HEADER_SIZE


@dataclass(frozen=True)
class Stream:
    """(SPEC 8.3) A whole stream taken apart.

    Attributes
    ----------
    header : Header
        The header.
    z, y : bytes
        The entropy-coded segments.
    chunks : tuple of (str, bytes)
        Tag and payload of every metadata chunk, unknown optional ones included, in stream order.
    """

    header: Header
    z: bytes
    y: bytes
    chunks: tuple[tuple[str, bytes], ...] = ()


def reconstruction_digest(samples: NDArray[np.uint8]) -> bytes:
    """(SPEC 8.1) The digest a stream may carry of what it decodes to.

    Parameters
    ----------
    samples : [H, W] or [H, W, 3] uint8
        The decoded picture.

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


def _check_positions(width: int, height: int, error: type[RefcodecError]) -> None:
    positions = 16 * -(-width // 64) * -(-height // 64)  # a block of 64x64 samples holds 4x4 positions
    if positions > MAX_LATENT_POSITIONS:
        raise error(
            "the picture has too many latent positions",
            where="SPEC 8.1",
            field="width, height",
            width=width,
            height=height,
            value=positions,
            allowed=f"1..{MAX_LATENT_POSITIONS}",
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
    _check_positions(values["width"], values["height"], HeaderError)
    return values


def parse_header(data: Buffer) -> Header:
    """(SPEC 8.1) Read and check the header; the first 60 bytes of a stream are enough, what follows is not looked at.

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
    return Header(**{name: value for name, value in values.items() if name not in ("magic", "flags")})


def _chunk_fault(tag: str, size: int, earlier: list[str]) -> tuple[type[RefcodecError], str] | None:
    """Find the rule of SPEC 8.4 that a well-formed chunk breaks: the reader's error and a sentence, or None."""
    if len(earlier) == MAX_CHUNKS:
        return ChunkError, f"there are more than {MAX_CHUNKS} metadata chunks"
    if size > MAX_METADATA_BYTES:
        return ChunkError, f"a metadata chunk is longer than {MAX_METADATA_BYTES} bytes"
    if tag in earlier:
        return ChunkError, "a metadata chunk occurs twice"
    if tag[0].isupper() and tag not in KNOWN_CHUNKS:
        return UnknownRequiredChunk, "the stream requires a metadata chunk that this version does not know"
    return None


def _is_tag(text: str) -> bool:
    return len(text) == 4 and text.isascii() and text[0].isalpha() and text.replace(" ", "0").isalnum()


def _walk_chunks(body: memoryview, start: int) -> Iterator[tuple[str, bytes]]:
    """Yield tag and payload of each chunk in ``body[start:]``, the bytes between the y segment and the checksum."""
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
        fault = _chunk_fault(tag, size, tags)
        if fault:
            error, what = fault
            cause = "a newer version may read it" if error is UnknownRequiredChunk else "the writer is faulty"
            raise error(what, where=f"byte {start} (SPEC 8.4)", cause=cause, tag=tag, bytes=size)
        tags.append(tag)
        start = first + size
        yield tag, bytes(body[first:start])


def parse(data: Buffer) -> Stream:
    """(SPEC 8.5) Take a stream apart and check everything that needs no model.

    Parameters
    ----------
    data : bytes-like
        The whole stream.

    Returns
    -------
    Stream
        Header, segments and metadata.

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
    z_end = header.size + header.z_length
    y_end = z_end + header.y_length
    _require(view, z_end, "z segment")
    _require(view, y_end, "y segment")
    _require(view, y_end + _CHECKSUM_BYTES, "checksum")
    body = view[:-_CHECKSUM_BYTES]
    stored, computed = int.from_bytes(view[len(body) :], "little"), crc32c(body)
    if stored != computed:
        raise ChecksumError(
            "the checksum does not match",
            where=f"byte {len(body)} (SPEC 8.2)",
            cause="the stream was damaged, cut inside its metadata, or extended",
            stored=f"{stored:08x}",
            computed=f"{computed:08x}",
        )
    chunks = tuple(_walk_chunks(body, y_end))
    return Stream(header, bytes(view[header.size : z_end]), bytes(view[z_end:y_end]), chunks)


def pack_chunks(chunks: Iterable[tuple[str, Buffer]]) -> Iterator[bytes]:
    """(SPEC 8.4) Write metadata chunks; UsageError for a tag or payload that a decoder would refuse."""
    tags: list[str] = []
    for tag, payload in chunks:
        view = as_view(payload, "the payload of a chunk")
        if not isinstance(tag, str) or not _is_tag(tag):
            raise UsageError("a chunk's tag is four ASCII letters, digits or spaces, the first a letter", tag=repr(tag))
        fault = _chunk_fault(tag, len(view), tags)
        if fault:
            raise UsageError(fault[1], tag=tag, bytes=len(view))
        tags.append(tag)
        yield tag.encode("ascii") + len(view).to_bytes(4, "little") + view


def serialise(
    *,
    width: int,
    height: int,
    channels: int,
    quality: int,
    fingerprint: bytes,
    z: Buffer,
    y: Buffer,
    digest: bytes | None = None,
    chunks: Iterable[tuple[str, Buffer]] = (),
) -> bytes:
    """(SPEC 8.6) Write a stream that `parse` accepts.

    Parameters
    ----------
    width, height, channels, quality, fingerprint, digest
        As in `Header`.
    z, y : bytes-like
        The entropy-coded segments.
    chunks : iterable of (str, bytes-like)
        Metadata chunks in the order they are to stand.

    Returns
    -------
    bytes
        The stream; besides segments and chunks it takes 48 bytes, 64 with the digest.

    Raises
    ------
    UsageError
        A value, a tag or a payload is one that a decoder would refuse.
    """
    z_view, y_view = as_view(z), as_view(y)
    values = {
        "magic": MAGIC,
        "version": VERSION,
        "flags": 0 if digest is None else DIGEST_FLAG,
        "channels": channels,
        "quality": quality,
        "width": width,
        "height": height,
        "fingerprint": fingerprint,
        "tile_width": 0,
        "tile_height": 0,
        "z_length": len(z_view),
        "y_length": len(y_view),
        "digest": digest,
    }
    parts: list[Buffer] = [
        pack(field, values[field.name]) for field in FIELDS if not (field.flag and values[field.name] is None)
    ]
    _check_positions(operator.index(width), operator.index(height), UsageError)
    parts += [z_view, y_view, *pack_chunks(chunks)]
    body = b"".join(parts)
    return body + crc32c(body).to_bytes(_CHECKSUM_BYTES, "little")


def check_limits(header: Header, limits: Limits, memory: int | None = None) -> None:
    """(SPEC 8.5) Refuse a picture that costs more than the caller allows, from its header alone.

    Parameters
    ----------
    header : Header
        From `parse_header`.
    limits : Limits
        What the caller allows.
    memory : int, optional
        The estimated working memory in bytes, where it is known.

    Raises
    ------
    LimitExceeded
        The pixels or the memory exceed the limits.
    """
    where = "byte 8 (SPEC 8.1)"
    check_pixels(header.width, header.height, limits, where)
    if memory is not None:
        check_memory(memory, limits, "decoding", where, width=header.width, height=header.height)


def longest_stream(header: Header) -> int:
    """(SPEC 8.3, 8.4) Bytes of the longest valid stream with this header: all chunks there may be, in full length."""
    chunks = MAX_CHUNKS * (_CHUNK_HEAD + MAX_METADATA_BYTES)
    return header.size + header.z_length + header.y_length + chunks + _CHECKSUM_BYTES
