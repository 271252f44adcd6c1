"""Header and metadata of a file, without reading the rest of it: for lists of many pictures."""

from __future__ import annotations

import os
from typing import IO

from ..errors import TrailingBytes, TruncatedStream
from ..limits import MAX_METADATA_BYTES
from .container import MAX_CHUNKS, METADATA, Header, parse_header, parse_index
from .fields import HEADER_SIZE

_HEAD, _CHECKSUM = 8, 4
"""Bytes of a chunk's tag and length, and of the checksum that ends a stream."""


def outline(file: IO[bytes]) -> tuple[Header, dict[str, bytes | None]]:
    """(SPEC 8.1, 8.4) Read header and metadata; segments and samples are passed over, and no checksum is looked at.

    Parameters
    ----------
    file : binary file
        Seekable; the stream is all of it.

    Returns
    -------
    header : Header
    chunks : dict
        By tag: the payload of metadata, None for other chunks.

    Raises
    ------
    BadMagic, UnknownVersion, TruncatedStream, HeaderError, TrailingBytes
        As `refcodec.bitstream.container.parse`, which finds more.
    OSError
        Reading fails.
    """
    size = file.seek(0, os.SEEK_END)
    end = size - _CHECKSUM

    def read(at: int, count: int) -> bytes:
        file.seek(at)
        return file.read(count)

    header = parse_header(read(0, HEADER_SIZE))
    first = header.size + header.index_size
    index = parse_index(read(0, first), header)
    at = index[-1].end if index else first
    if at > end:
        raise TruncatedStream("the stream ends inside its segments", where=f"byte {size} (SPEC 8.5)", available=size)
    chunks: dict[str, bytes | None] = {}
    while at < end and len(chunks) <= MAX_CHUNKS:
        head = read(at, _HEAD)
        tag, length = head[:4].decode("latin-1"), int.from_bytes(head[4:], "little")
        if at + _HEAD + length > end:
            cause = "the file was cut short or a length is damaged"
            raise TrailingBytes("a chunk ends beyond the stream", where=f"byte {at} (SPEC 8.4)", cause=cause)
        wanted = tag in METADATA and length <= MAX_METADATA_BYTES
        chunks[tag] = read(at + _HEAD, length) if wanted else None
        at += _HEAD + length
    return header, chunks


__all__ = ["outline"]
