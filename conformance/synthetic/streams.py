"""Streams taken apart, so that every part may be changed (SPEC 8)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from refcodec.bitstream.container import parse
from refcodec.bitstream.crc32c import crc32c
from refcodec.bitstream.fields import FIELDS


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
