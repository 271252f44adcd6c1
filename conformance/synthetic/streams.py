"""Streams taken apart, so that every part may be changed (SPEC 8)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from refcodec.bitstream.container import parse
from refcodec.bitstream.crc32c import crc32c
from refcodec.bitstream.fields import FIELDS

Segments = tuple[bytes, bytes]


def sealed(body: bytes) -> bytes:
    """(SPEC 8.2) Bytes of a stream without tiles, followed by their right checksum."""
    return body + crc32c(body).to_bytes(4, "little")


def chunk(tag: bytes, payload: bytes, length: int | None = None) -> bytes:
    """(SPEC 8.4) A chunk.

    Parameters
    ----------
    tag, payload : bytes
    length : int or None
        The length that it announces, None for that of its payload.

    Returns
    -------
    bytes
    """
    return tag + struct.pack("<I", len(payload) if length is None else length) + payload


@dataclass
class Parts:
    """A stream taken apart without its rules: every part may hold anything.

    Attributes
    ----------
    header : bytearray
    segments : list of (bytes, bytes)
        z and y of every tile.
    chunks : list of bytes
        Tag, length and payload, unchecked.
    index : list of list of int, or None
        Numbers of every entry; None for the right ones.
    """

    header: bytearray
    segments: list[Segments]
    chunks: list[bytes] = field(default_factory=list)
    index: list[list[int]] | None = None

    def get(self, name: str) -> int:
        """A number of the header."""
        spot = next(f for f in FIELDS if f.name == name)
        return int.from_bytes(self.header[spot.offset : spot.end], "little")

    def put(self, name: str, value: int) -> None:
        """Set a number of the header, cut to the field's width."""
        spot = next(f for f in FIELDS if f.name == name)
        size = spot.end - spot.offset
        self.header[spot.offset : spot.end] = (value % (1 << 8 * size)).to_bytes(size, "little")

    @property
    def tiled(self) -> bool:
        """Whether the header gives a tile width, so that segments have their own checksums."""
        return self.get("tile_width") > 0

    def entries(self) -> list[list[int]]:
        """(SPEC 8.3) The right index of the segments."""
        return [[len(z), len(y), *([crc32c(z + y)] if self.tiled else [])] for z, y in self.segments]

    def pieces(self) -> list[bytes]:
        """Header, index, segments and chunks."""
        numbers = self.entries() if self.index is None else self.index
        index = b"".join((n % (1 << 32)).to_bytes(4, "little") for entry in numbers for n in entry)
        segments = b"".join(part for pair in self.segments for part in pair)
        return [bytes(self.header), index, segments, b"".join(self.chunks)]

    def sealed(self) -> bytes:
        """(SPEC 8.2) The stream with the right checksum."""
        return self.joined(self.pieces())

    def joined(self, pieces: list[bytes]) -> bytes:
        """(SPEC 8.2) Header, index, segments and chunks with the right checksum of what they are now."""
        covered = pieces[:2] + pieces[3:] if self.tiled else pieces
        return b"".join(pieces) + crc32c(b"".join(covered)).to_bytes(4, "little")

    def copy(self) -> Parts:
        """A copy whose change leaves this one as it is."""
        return Parts(bytearray(self.header), list(self.segments), list(self.chunks))


def take_apart(data: bytes) -> Parts:
    """A valid stream's parts."""
    stream = parse(data)
    return Parts(
        bytearray(data[: stream.header.size]),
        [stream.segments(k) for k in range(stream.header.tiles)],
        [chunk(tag.encode(), payload) for tag, payload in stream.chunks],
    )
